// The figures of learning: what models reach on real data, simulated with the code of production,
// and how fast. Data from the folder CHORUS_DATA and Debian's Fashion-MNIST. A figure is a function
// and a line of the table below.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <utility>

#include "bench.h"
#include "chorus/simulation.h"
#include "cli/dataset.h"
#include "learning_kernels.h"
#include "learning_simulation.h"

namespace chorus::bench {
namespace {

constexpr std::array<uint64_t, 3> kSeeds = {1, 2, 3};
constexpr uint32_t kRoundsMax = 150;

// Of a benchmark that cannot go on without.
template <typename T>
T Need(Result<T> result) {
  if (!result.ok()) {
    std::fprintf(stderr, "learning: %s\n", std::string(result.status().message()).c_str());
    std::exit(2);
  }
  return *std::move(result);
}

std::string DataFolder() {
  const char* const folder = std::getenv("CHORUS_DATA");
  if (folder == nullptr) {
    std::fprintf(stderr, "learning: CHORUS_DATA is not set: it names the folder of real data\n");
    std::exit(2);
  }
  return folder;
}

// --- images: the first 10,000 examples of two sets, two ways over 100 clients --------------------

struct Images {
  const char* name;
  double target;
};
constexpr Images kMnist{"mnist", 0.90};
constexpr Images kFashion{"fashion", 0.80};

cli::DataOptions ImageData(const Images& images, bool shards, uint64_t seed) {
  cli::DataOptions options;
  options.paths = {images.name == kMnist.name ? DataFolder() + "/mnist20k"
                                              : "/usr/share/datasets/fashion-mnist"};
  options.examples_max = 10'000;
  options.partition = shards ? "shards" : "iid";
  options.clients = 100;
  options.seed = seed;
  return options;
}

// 784-200-10, a tenth of 100 clients a round, five epochs in batches of ten [MMRHA17].
TaskSpec ImageTask() {
  TaskSpec task;
  task.name = "images";
  task.model = {.inputs = 784,
                .layers = {{.units = 200, .activation = Activation::kRelu}, {.units = 10}}};
  task.training = {.epochs = 5, .batch_size = 10, .learning_rate = 0.1F, .held_back_percent = 0};
  task.clip.update_l2_norm_max = 10.0F;
  task.encoding.examples_max = 128;  // near what clients have, for the finest encoding
  task.protocol = Protocol::kPlain;
  task.cohort = {.minimum = 10, .target = 10, .maximum = 10};
  task.rounds = kRoundsMax;
  return task;
}

// How a server turns sums into models: named, and as it was tuned on seed 1.
struct Recipe {
  const char* name;
  void (*apply)(TaskSpec& task);
};
constexpr std::array<Recipe, 5> kRecipes = {{
    {"FedAvg", [](TaskSpec&) {}},
    {"FedAvgM",
     [](TaskSpec& task) {
       task.server.optimizer = ServerOptimizer::kFedAvgM;
       task.server.beta1 = 0.7F;
     }},
    {"FedAdam",
     [](TaskSpec& task) {
       task.server.optimizer = ServerOptimizer::kFedAdam;
       task.server.beta1 = 0.7F;
       task.server_learning_rate = 0.01F;
     }},
    {"FedYogi",
     [](TaskSpec& task) {
       task.server.optimizer = ServerOptimizer::kFedYogi;
       task.server.beta1 = 0.7F;
       task.server_learning_rate = 0.01F;
     }},
    {"SCAFFOLD",
     [](TaskSpec& task) {
       task.training.scaffold = true;
       task.training.population = 100;
     }},
}};

struct Reached {
  double round = 0;    // median over the seeds; kRoundsMax + 1 stands for never
  double seconds = 0;  // of wall time, the median
};

Reached Reach(const Images& images, bool shards, const Recipe& recipe) {
  static std::map<std::string, Reached> known;
  const std::string key = std::string(images.name) + (shards ? "/shards/" : "/iid/") + recipe.name;
  if (const auto found = known.find(key); found != known.end()) return found->second;
  std::vector<double> rounds;
  std::vector<double> seconds;
  for (const uint64_t seed : kSeeds) {
    Simulation simulation;
    simulation.task = ImageTask();
    recipe.apply(simulation.task);
    simulation.seed = seed;
    simulation.target_accuracy = images.target;
    simulation.measure_clients = false;
    const cli::DataSet data =
        Need(cli::ReadDataSet(ImageData(images, shards, seed), simulation.task.model));
    const SimulationResult result = Need(RunSimulation(simulation, cli::PopulationOf(data), {}));
    rounds.push_back(static_cast<double>(result.target_round.value_or(kRoundsMax + 1)));
    seconds.push_back(result.cost.wall_seconds);
  }
  return known[key] = {Median(rounds), Median(seconds)};
}

template <const Images& kImages, bool kShards>
std::optional<Measured> FedAvgReaches() {
  constexpr bool kIsMnist = &kImages == &kMnist;
  return Measured{Reach(kImages, kShards, kRecipes[0]).round,
                  kShards ? (kIsMnist ? 80.0 : 90.0) : 15.0};
}

// Every recipe in one table; the figure is the least share of FedAvg's non-IID rounds.
std::optional<Measured> Adaptive() {
  double least = 1;
  std::printf(
      "rounds to reach the target, median of seeds 1, 2, 3 (seconds); target: mnist .90, fashion "
      ".80\n");
  std::printf("%-10s %16s %16s %16s %16s\n", "", "mnist iid", "fashion iid", "mnist shards",
              "fashion shards");
  for (const Recipe& recipe : kRecipes) {
    std::printf("%-10s", recipe.name);
    for (const bool shards : {false, true}) {
      for (const Images* images : {&kMnist, &kFashion}) {
        const Reached reached = Reach(*images, shards, recipe);
        if (reached.round > kRoundsMax) {
          std::printf(" %10s (%4.1f)", "never", reached.seconds);
        } else {
          std::printf(" %10.0f (%4.1f)", reached.round, reached.seconds);
        }
        if (shards)
          least = std::min(least, reached.round / Reach(*images, true, kRecipes[0]).round);
      }
    }
    std::printf("\n");
    std::fflush(stdout);
  }
  return Measured{least, 0.75};
}

// --- text: the next character, by speaking role ------------------------------------------------

constexpr uint32_t kWindow = 80;
constexpr uint32_t kVocabulary = 66;  // 65 characters, and one that stands for any other

cli::DataOptions TextData() {
  cli::DataOptions options;
  options.paths = {DataFolder() + "/shakespeare_roles/by_role.jsonl.gz"};
  options.text = "speeches";
  options.user = "role";
  options.partition = "column";
  options.test_percent = 20;
  options.examples_min = 10;  // about 1,000 characters with those held out
  return options;
}

TaskSpec TextTask() {
  TaskSpec task;
  task.name = "next-character";
  task.model.inputs = kWindow + 1;
  task.model.loss = Loss::kNextToken;
  task.model.layers = {
      {.units = 16, .kind = LayerKind::kEmbedding, .vocabulary = kVocabulary},
      {.units = 256, .kind = LayerKind::kGru},
      {.units = kVocabulary},
  };
  task.training = {.epochs = 1, .batch_size = 4, .learning_rate = 1.0F, .held_back_percent = 0};
  task.training.schedule = Schedule::kCosine;
  task.training.decay_rounds = 120;
  task.training.gradient_l2_norm_max = 5.0F;
  task.clip.update_l2_norm_max = 50.0F;
  task.protocol = Protocol::kPlain;
  task.cohort = {.minimum = 20, .target = 20, .maximum = 20};
  task.server.optimizer = ServerOptimizer::kFedAvgM;
  task.server.beta1 = 0.9F;
  task.server_learning_rate = 0.5F;
  task.rounds = 120;
  return task;
}

// The accuracy after all rounds, or after eight minutes; those are a figure as well.
struct Text {
  double accuracy = 0;
  double minutes = 0;
};

const Text& TheText() {
  static const Text text = [] {
    constexpr double kMinutesMax = 8;
    Simulation simulation;
    simulation.task = TextTask();
    simulation.seed = 1;
    simulation.test_every = 10;
    simulation.measure_clients = false;
    const cli::DataSet data = Need(cli::ReadDataSet(TextData(), simulation.task.model));
    Cancel late;
    Text reached;
    const double began = WallSeconds();
    SimulationOptions options;
    options.cancel = &late;
    options.progress = [&](const SimulationProgress& progress) {
      const double minutes = (WallSeconds() - began) / 60;
      if (progress.last->tested) {
        reached = {progress.last->test_accuracy, minutes};
        std::printf("round %llu: %.4f after %.1f minutes\n",
                    static_cast<unsigned long long>(progress.rounds_done), reached.accuracy,
                    minutes);
        std::fflush(stdout);
      }
      if (minutes >= kMinutesMax) late.Request();
    };
    const Result<SimulationResult> result =
        RunSimulation(simulation, cli::PopulationOf(data), options);
    if (!result.ok() && result.status().code() != Code::kCancelled) {
      std::fprintf(stderr, "learning: %s\n", std::string(result.status().message()).c_str());
      std::exit(2);
    }
    std::printf("%zu roles\n", data.train_of.size());
    return reached;
  }();
  return text;
}

std::optional<Measured> Shakespeare() { return Measured{TheText().accuracy, 0.50}; }
std::optional<Measured> ShakespeareMinutes() { return Measured{TheText().minutes, 8}; }

// --- silos: heart disease in four hospitals, as the example has it -----------------------------

struct Hearts {
  double pooled = 0;
  double federated = 0;
};

const Hearts& TheHearts() {
  static const Hearts hearts = [] {
    const std::string command =
        std::string(CHORUS_HOSPITALS) + " '" + DataFolder() + "/heart_disease_4sites'";
    Hearts read;
    FILE* const lines = popen(command.c_str(), "r");
    std::array<char, 256> line{};
    while (lines != nullptr && std::fgets(line.data(), line.size(), lines) != nullptr) {
      std::sscanf(line.data(), "mean of 5 splits: pooled %lf, federated %lf", &read.pooled,
                  &read.federated);
    }
    if (lines != nullptr) pclose(lines);
    return read;
  }();
  return hearts;
}

std::optional<Measured> HeartPooled() {
  return Measured{std::abs(TheHearts().pooled - 0.78), 0.02};
}

std::optional<Measured> Heart() {
  std::printf("pooled %.4f, federated %.4f\n", TheHearts().pooled, TheHearts().federated);
  return Measured{std::abs(TheHearts().pooled - TheHearts().federated), 0.01};
}

const std::vector<Figure>& Figures() {
  static const std::vector<Figure> figures = {
      {"step", "x bare Eigen's speed", Bar::kAtLeast, &StepOverEigen},
      {"gemm", "x Eigen's speed", Bar::kAtLeast, &LayersOverEigen},
      {"overhead", "% of the time", Bar::kAtMost, &SimulatorOverhead},
      {"virtual_client", "bytes", Bar::kAtMost, &VirtualClient},
      {"trainings", "a CPU second, 784-200-10", Bar::kAtLeast, &TrainingsLarge},
      {"trainings_small", "a CPU second, 32-64-10", Bar::kAtLeast, &TrainingsSmall},
      {"trainings_floor", "x fused loops' 0.3 ms", Bar::kAtMost, &TrainingsOverFloor},
      {"mnist_iid", "rounds", Bar::kAtMost, &FedAvgReaches<kMnist, false>},
      {"fashion_iid", "rounds", Bar::kAtMost, &FedAvgReaches<kFashion, false>},
      {"mnist_shards", "rounds", Bar::kAtMost, &FedAvgReaches<kMnist, true>},
      {"fashion_shards", "rounds", Bar::kAtMost, &FedAvgReaches<kFashion, true>},
      {"adaptive", "x FedAvg's rounds", Bar::kAtMost, &Adaptive},
      {"heart_pooled", "from .78", Bar::kAtMost, &HeartPooled},
      {"heart", "between pooled and federated", Bar::kAtMost, &Heart},
      {"shakespeare", "of next characters", Bar::kAtLeast, &Shakespeare},
      {"shakespeare_minutes", "minutes", Bar::kAtMost, &ShakespeareMinutes},
  };
  return figures;
}

}  // namespace
}  // namespace chorus::bench

int main(int count, char** words) {
  return chorus::bench::PrintAll(chorus::bench::Figures(),
                                 std::span(words, static_cast<size_t>(count)).subspan(1));
}
