#include "learning_simulation.h"

#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include "chorus/simulation.h"
#include "crypto/crypto.h"
#include "learning/learning.h"

namespace chorus::bench {
namespace {

constexpr int kRuns = 5;

uint64_t ResidentBytes() {
  std::ifstream statm("/proc/self/statm");
  uint64_t pages = 0;
  statm >> pages >> pages;
  return pages * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

// Examples that no network knows apart, which costs as much as others.
Examples MakeExamples(uint32_t inputs, uint32_t classes, size_t count) {
  const std::unique_ptr<Rng> rng = crypto::NewSeededRng(Bytes(crypto::kKeyBytes, 7));
  Examples examples;
  examples.inputs = inputs;
  examples.features.resize(inputs * count);
  for (float& feature : examples.features) feature = static_cast<float>(UniformUnit(*rng));
  for (size_t i = 0; i < count; ++i) {
    examples.labels.push_back(static_cast<uint32_t>(i % classes));
  }
  return examples;
}

struct Shape {
  uint32_t inputs = 0;
  uint32_t hidden = 0;
  uint32_t examples_each = 0;
  uint32_t batch_size = 0;
  uint32_t epochs = 0;
  uint32_t cohort = 0;
  uint32_t rounds = 0;
};

constexpr uint32_t kClasses = 10;
constexpr uint32_t kClients = 200;

struct Setting {
  explicit Setting(const Shape& shape)
      : examples(MakeExamples(shape.inputs, kClasses, size_t{kClients} * shape.examples_each)) {
    population.train = &examples;
    for (uint32_t client = 0; client < kClients; ++client) {
      population.train_of.push_back({client * shape.examples_each, shape.examples_each});
    }
    TaskSpec& task = simulation.task;
    task.name = "bench";
    task.protocol = Protocol::kPlain;
    task.model.inputs = shape.inputs;
    task.model.layers = {{.units = shape.hidden, .activation = Activation::kRelu},
                         {.units = kClasses}};
    task.training.epochs = shape.epochs;
    task.training.batch_size = shape.batch_size;
    task.training.learning_rate = 0.05F;
    task.training.held_back_percent = 0;
    task.clip.update_l2_norm_max = 10;
    task.cohort = {.minimum = shape.cohort, .target = shape.cohort, .maximum = shape.cohort};
    task.rounds = shape.rounds;
    simulation.threads = 1;
    simulation.measure_clients = false;
  }
  Setting(const Setting&) = delete;
  Setting& operator=(const Setting&) = delete;

  // After the first round, in which the simulator makes ready what all share.
  uint64_t trainings() const {
    return uint64_t{simulation.task.cohort.target} * (simulation.task.rounds - 1);
  }

  Examples examples;
  Population population;
  Simulation simulation;
};

// CPU seconds of all rounds but the first, whatever they go into; of a simulation that fails, none.
std::optional<double> SimulationSeconds(const Setting& setting) {
  std::vector<double> ends;
  bool committed = true;
  const auto note = [&](const SimulationProgress& progress) {
    ends.push_back(CpuSeconds());
    committed = committed && progress.last->report.state == RoundState::kCommitted;
  };
  const bool ran = RunSimulation(setting.simulation, setting.population, {.progress = note}).ok();
  if (!ran || !committed) return std::nullopt;
  return ends.back() - ends.front();
}

// CPU seconds of as many trainings alone, each from the same weights.
std::optional<double> TrainingSeconds(const Setting& setting) {
  const TaskSpec& task = setting.simulation.task;
  Result<std::unique_ptr<learning::Learner>> learner =
      learning::Learner::Create(task.model, task.training);
  if (!learner.ok()) return std::nullopt;
  const std::unique_ptr<Rng> rng = crypto::NewSeededRng(Bytes(crypto::kKeyBytes, 1));
  const Weights first = learning::InitialWeights(task.model, *rng);
  Weights weights = first;
  std::vector<size_t> rows(setting.population.train_of.front().count);
  bool trained = true;
  double seconds = 0;
  for (uint64_t i = 0; i < setting.trainings(); ++i) {
    weights = first;
    std::iota(rows.begin(), rows.end(), setting.population.train_of[i % kClients].begin);
    seconds += Seconds(CpuSeconds, [&] {
      trained = trained &&
                (*learner)
                    ->Train({.examples = &setting.examples, .rows = rows}, weights, *rng, Cancel())
                    .ok();
    });
  }
  if (!trained) return std::nullopt;
  return seconds;
}

// Client-trainings for a CPU second, the median over runs; 0 of a simulation that fails.
double TrainingsASecond(const Shape& shape) {
  const Setting setting(shape);
  std::vector<double> rates;
  for (int run = 0; run < kRuns; ++run) {
    const std::optional<double> seconds = SimulationSeconds(setting);
    if (!seconds.has_value()) return 0;
    rates.push_back(static_cast<double>(setting.trainings()) / *seconds);
  }
  return Median(rates);
}

constexpr Shape kLarge = {.inputs = 784,
                          .hidden = 200,
                          .examples_each = 20,
                          .batch_size = 20,
                          .epochs = 1,
                          .cohort = 100,
                          .rounds = 10};
constexpr Shape kSmall = {.inputs = 32,
                          .hidden = 64,
                          .examples_each = 20,
                          .batch_size = 20,
                          .epochs = 1,
                          .cohort = 100,
                          .rounds = 100};

}  // namespace

std::optional<Measured> SimulatorOverhead() {
  const Setting setting({.inputs = 784,
                         .hidden = 126,
                         .examples_each = 100,
                         .batch_size = 10,
                         .epochs = 5,
                         .cohort = 100,
                         .rounds = 5});
  std::vector<double> shares;
  for (int run = 0; run < kRuns; ++run) {
    const std::optional<double> training = TrainingSeconds(setting);
    const std::optional<double> all = SimulationSeconds(setting);
    if (!training.has_value() || !all.has_value()) return Measured{100, 10};
    shares.push_back(100 * (1 - *training / *all));
  }
  return Measured{Median(shares), 10};
}

std::optional<Measured> VirtualClient() {
  constexpr uint32_t kMany = 100'000;
  constexpr double kLimit = 1'024;
  Setting setting(kSmall);
  setting.simulation.task.rounds = 20;
  // The chain of availability is the one thing that the simulator holds for every client.
  setting.simulation.availability.pattern = AvailabilitySpec::Pattern::kOnOff;
  if (!SimulationSeconds(setting).has_value()) return Measured{kLimit + 1, kLimit};
  uint64_t peak = 0;
  // Memory that is free but was used before would hide what is needed now.
  malloc_trim(0);
  const uint64_t before = ResidentBytes();
  setting.population.train_of.resize(kMany);
  for (uint32_t client = 0; client < kMany; ++client) {
    setting.population.train_of[client] = {client % (kClients - 1) * kSmall.examples_each,
                                           kSmall.examples_each};
  }
  const Result<SimulationResult> result = RunSimulation(
      setting.simulation, setting.population,
      {.progress = [&peak](const SimulationProgress&) { peak = std::max(peak, ResidentBytes()); }});
  if (!result.ok()) return Measured{kLimit + 1, kLimit};
  return Measured{static_cast<double>(peak - std::min(peak, before)) / kMany, kLimit};
}

std::optional<Measured> TrainingsLarge() { return Measured{TrainingsASecond(kLarge), 2.5 * 840}; }
std::optional<Measured> TrainingsSmall() { return Measured{TrainingsASecond(kSmall), 10 * 2'571}; }
std::optional<Measured> TrainingsOverFloor() {
  constexpr double kFloorSeconds = 0.3e-3;
  const double rate = TrainingsASecond(kLarge);
  return Measured{rate == 0 ? 1e9 : 1 / rate / kFloorSeconds, 1 / (2.5 * 840) / kFloorSeconds};
}

}  // namespace chorus::bench
