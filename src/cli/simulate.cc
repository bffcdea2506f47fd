// `chorus simulate`: a task's rounds with virtual clients on real data, by the code that runs in
// production, and a report of them. Under mpirun its processes share the work.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "chorus/analytics.h"
#include "chorus/simulation.h"
#include "cli/answers_text.h"
#include "cli/command.h"
#include "cli/dataset.h"
#include "cli/files.h"
#include "cli/model_file.h"
#include "cli/report.h"
#include "cli/simulate_chaos.h"
#include "cli/simulation_report.h"
#include "cli/stop.h"
#include "learning/learning.h"
#include "wire/wire.h"

namespace chorus::cli {
namespace {

using Shape = Spread::Shape;
using Pattern = AvailabilitySpec::Pattern;

const std::map<std::string, Shape> kShapes = {
    {"same", Shape::kSame}, {"uniform", Shape::kUniform}, {"lognormal", Shape::kLognormal}};
const std::map<std::string, Pattern> kPatterns = {
    {"always", Pattern::kAlways}, {"daily", Pattern::kDaily}, {"on-off", Pattern::kOnOff}};

// How far apart devices are unless --spread says so: half as fast or half as fast again, and about
// as far by a standard deviation.
constexpr double kSpread = 0.5;
constexpr uint32_t kPartitionLines = 20;
constexpr double kAccuracyQuantiles[] = {0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0};

struct SimulateOptions {
  std::string task;
  DataOptions data;
  std::string report;
  std::string name;
  std::string start;
  std::string out;
  uint64_t seed = 1;
  uint32_t rounds = 0;
  uint32_t threads = 0;
  uint32_t test_every = 1;
  std::optional<double> target_accuracy;
  std::string devices = "same";  // one of kShapes
  double spread = kSpread;
  DeviceSpec device;
  AvailabilitySpec availability;
  std::string pattern = "always";  // of availability: one of kPatterns
  FaultSpec faults;
  bool quiet = false;
};

// Lines on a terminal may be written over.
class ProgressLine {
 public:
  explicit ProgressLine(bool quiet) : quiet_(quiet), terminal_(isatty(STDOUT_FILENO) != 0) {}

  void Show(const SimulationProgress& progress) {
    if (quiet_) return;
    const SimulatedRound& round = *progress.last;
    std::string line = "round " + std::to_string(round.report.round) + " (" +
                       std::to_string(progress.rounds_done) + "/" +
                       std::to_string(progress.rounds_wanted) + ")";
    if (round.report.state == RoundState::kCommitted) {
      line += "  " + std::to_string(round.report.contributors) + " of " +
              std::to_string(round.report.invited) + " clients";
    } else {
      line += "  aborted: " + round.report.reason;
    }
    if (round.tested) {
      line += "  accuracy " + Fixed(round.test_accuracy, 4) + "  loss " + Fixed(round.test_loss, 4);
    }
    line += "  " + Seconds(progress.wall_seconds) + ", " + Seconds(progress.wall_seconds_left) +
            " left";
    Write(line);
  }
  void End() const {
    if (!quiet_ && terminal_) std::printf("\n");
  }

 private:
  static std::string Seconds(double seconds) {
    return ReadableSeconds(static_cast<uint64_t>(seconds * 1e3));
  }
  void Write(const std::string& line) {
    if (terminal_) {
      // What the line before had more of is written over with blanks.
      std::printf("\r%-*s", static_cast<int>(std::max(longest_, line.size())), line.c_str());
      longest_ = std::max(longest_, line.size());
    } else {
      std::printf("%s\n", line.c_str());
    }
    std::fflush(stdout);
  }

  bool quiet_;
  bool terminal_;
  size_t longest_ = 0;
};

// The tool's stop signals as a Cancel.
class StopWatch {
 public:
  StopWatch() : watching_([this] { Watch(); }) {}
  ~StopWatch() {
    ended_.Request();
    watching_.join();
  }
  StopWatch(const StopWatch&) = delete;
  StopWatch& operator=(const StopWatch&) = delete;
  const Cancel& cancel() const { return cancel_; }

 private:
  void Watch() {
    while (!ended_.requested()) {
      if (stop_requested()) cancel_.Request();
      usleep(static_cast<useconds_t>(std::chrono::microseconds(kStopLatency).count() / 4));
    }
  }

  Cancel cancel_;
  Cancel ended_;
  std::thread watching_;
};

class Simulate final : public Command {
 public:
  explicit Simulate(CLI::App& tool)
      : app_(*tool.add_subcommand(
            "simulate", "Run a task with virtual clients on real data, and report on it.")) {
    app_.add_option("--task", options_.task, "Task file: protobuf text of chorus.v1.Task.")
        ->required();
    AddDataOptions(app_, options_.data);
    app_.add_option("--report", options_.report,
                    "Report to write, NAME.html; NAME.json and NAME.csv go beside it.");
    app_.add_option("--name", options_.name, "Of this run in reports. Default: the task's.");
    app_.add_option("--start", options_.start,
                    "Model file of `chorus export` to start from. Default: drawn from the seed.");
    app_.add_option("--out", options_.out, "Model file to write in the end.");
    app_.add_option("--seed", options_.seed, "Everything that happens follows from it.")
        ->capture_default_str();
    app_.add_option("--rounds", options_.rounds,
                    "Begin so many rounds. Default: until the task's have committed.");
    app_.add_option("--threads", options_.threads, "Of each process. Default: one a core.");
    app_.add_option("--test-every", options_.test_every, "Measure the model every so many rounds.")
        ->capture_default_str();
    app_.add_option("--target-accuracy", options_.target_accuracy,
                    "Stop at the first model that has it on the test examples.");
    AddDevices();
    AddChaos();
    app_.add_flag("--quiet", options_.quiet, "Print only the outcome.");
  }
  CLI::App& app() override { return app_; }

  Status Run() override {
    CatchStopSignals();
    if (chaos_) return SimulateChaos(chaos_options_, options_.seed);
    CHORUS_TRY_ASSIGN(const std::unique_ptr<Cluster> cluster, JoinMpiCluster());
    const bool speaks = cluster == nullptr || cluster->rank() == 0;
    // Whatever goes wrong before the simulation has to reach the other processes: they would wait.
    Result<Input> read = ReadInput();
    CHORUS_TRY(ShareVerdict(cluster.get(), read.status()));
    const Input input = *std::move(read);
    const Simulation& simulation = input.simulation;
    const std::string partition = PartitionTable(input.data, kPartitionLines);
    if (speaks && !options_.quiet) std::printf("%s", partition.c_str());
    const StopWatch watch;
    ProgressLine line(options_.quiet || !speaks);
    Result<SimulationResult> result = RunSimulation(
        simulation, PopulationOf(input.data),
        {.progress = [&line](const SimulationProgress& progress) { line.Show(progress); },
         .cancel = &watch.cancel(),
         .cluster = cluster.get()});
    line.End();
    if (!result.ok() || !speaks) return result.status();
    return Conclude(input, partition, *std::move(result));
  }

 private:
  // What the options name.
  struct Input {
    std::string task;  // its text
    Simulation simulation;
    DataSet data;
  };

  Result<Input> ReadInput() {
    Input input;
    Simulation& simulation = input.simulation;
    CHORUS_TRY_ASSIGN(input.task, ReadText(options_.task));
    Result<TaskSpec> task = wire::ParseTaskText(input.task);
    if (!task.ok()) {
      return Status(task.status().code(), options_.task + ": " + task.status().message());
    }
    simulation.task = *std::move(task);
    if (!simulation.task.queries.empty()) CHORUS_TRY(PrepareQueries());
    Describe(simulation);
    if (!options_.start.empty()) {
      CHORUS_TRY_ASSIGN(simulation.initial_weights,
                        ReadModelFile(options_.start, simulation.task.model));
    }
    options_.data.seed = options_.seed;
    CHORUS_TRY_ASSIGN(input.data, ReadDataSet(options_.data, simulation.task.model));
    return input;
  }

  // Queries are asked of all that the clients have: nothing is tested, and there is no model.
  Status PrepareQueries() {
    for (const char* const option : {"--out", "--start", "--target-accuracy", "--test",
                                     "--test-percent", "--test-clients", "--test-every"}) {
      if (app_.count(option) == 0) continue;
      return InvalidArgument(std::string(option) +
                             " is for tasks that train a model, and this one asks queries; leave"
                             " it out");
    }
    options_.data.test_percent = 0;
    return OkStatus();
  }

  void AddChaos() {
    app_.add_flag_callback(
        "--chaos",
        [this] {
          chaos_ = true;
          // Those faults strike a system and a task of their own.
          for (const char* const option : {"--task", "--data"}) {
            app_.get_option(option)->required(false);
          }
        },
        "Play --seed (or --seeds) of the simulation of faults instead; it needs neither task nor "
        "data.");
    AddChaosOptions(app_, chaos_options_);
  }

  void AddDevices() {
    app_.add_option("--devices", options_.devices,
                    "How speed, latency and bandwidth differ: same, uniform or lognormal.")
        ->check(CLI::IsMember(kShapes))
        ->capture_default_str();
    app_.add_option("--spread", options_.spread,
                    "How much: half the width of uniform, the deviation of lognormal.")
        ->capture_default_str();
    DeviceSpec& device = options_.device;
    app_.add_option("--examples-per-second", device.examples_per_second.median,
                    "That the median device trains.")
        ->capture_default_str();
    app_.add_option("--latency", device.latency_seconds.median, "Its seconds, each way.")
        ->capture_default_str();
    app_.add_option("--download", device.download_bytes_per_second.median, "Its bytes a second.")
        ->capture_default_str();
    app_.add_option("--upload", device.upload_bytes_per_second.median, "Likewise.")
        ->capture_default_str();
    AvailabilitySpec& availability = options_.availability;
    app_.add_option("--availability", options_.pattern, "always, daily or on-off.")
        ->check(CLI::IsMember(kPatterns))
        ->capture_default_str();
    app_.add_option("--window-hours", availability.window_hours, "A day, with daily.")
        ->capture_default_str();
    app_.add_option("--on-seconds", availability.on_seconds_mean, "At a time, with on-off.")
        ->capture_default_str();
    app_.add_option("--off-seconds", availability.off_seconds_mean, "Likewise.")
        ->capture_default_str();
    app_.add_option("--dropout", options_.faults.dropout,
                    "Chance to leave in each step: training, then the protocol's; the last holds "
                    "for all that follow.")
        ->delimiter(',');
    app_.add_option("--loss", options_.faults.loss, "Chance that a message never comes.");
  }

  void Describe(Simulation& simulation) const {
    simulation.seed = options_.seed;
    simulation.rounds = options_.rounds;
    simulation.threads = options_.threads;
    simulation.test_every = options_.test_every;
    simulation.target_accuracy = options_.target_accuracy;
    simulation.devices = options_.device;
    for (Spread* const spread :
         {&simulation.devices.examples_per_second, &simulation.devices.latency_seconds,
          &simulation.devices.download_bytes_per_second,
          &simulation.devices.upload_bytes_per_second}) {
      spread->shape = kShapes.at(options_.devices);
      spread->width = options_.spread;
    }
    simulation.availability = options_.availability;
    simulation.availability.pattern = kPatterns.at(options_.pattern);
    simulation.faults = options_.faults;
  }

  Status Conclude(const Input& input, const std::string& partition, SimulationResult result) const {
    const Simulation& simulation = input.simulation;
    PrintOutcome(simulation, result);
    CHORUS_TRY_ASSIGN(std::vector<RecordedAnswers> answers,
                      AnswersOf(simulation.task.queries, result));
    if (!answers.empty()) std::printf("%s", AnswersText(answers.back().queries).c_str());
    if (!options_.out.empty()) {
      CHORUS_TRY(WriteFile(options_.out, EncodeModelFile(simulation.task.model, result.weights),
                           WriteOptions{.existing = Existing::kReplace}));
      std::printf("model: %s\n", options_.out.c_str());
    }
    if (options_.report.empty()) return OkStatus();
    const RecordedRun run{.name = options_.name.empty() ? simulation.task.name : options_.name,
                          .seed = options_.seed,
                          .task = input.task,
                          .command = CommandLine(),
                          .partition = partition,
                          .parameters = learning::ParameterCount(simulation.task.model),
                          .result = std::move(result),
                          .answers = std::move(answers)};
    CHORUS_TRY(WriteReport(run, options_.report));
    std::printf("report: %s\n", options_.report.c_str());
    return OkStatus();
  }

  // Of each round that committed.
  static Result<std::vector<RecordedAnswers>> AnswersOf(const std::vector<QuerySpec>& queries,
                                                        const SimulationResult& result) {
    std::vector<RecordedAnswers> all;
    for (const SimulatedRound& round : result.rounds) {
      if (queries.empty() || round.report.state != RoundState::kCommitted) continue;
      CHORUS_TRY_ASSIGN(std::vector<QueryAnswer> answers, ReadAnswers(queries, round.cells));
      RecordedAnswers& recorded = all.emplace_back();
      recorded.round = round.report.round;
      for (size_t i = 0; i < answers.size(); ++i) {
        recorded.queries.push_back({.answer = std::move(answers[i]),
                                    .columns = queries[i].columns,
                                    .unit = queries[i].unit});
      }
    }
    return all;
  }

  // As it was given, option by option.
  std::string CommandLine() const {
    std::string line = "chorus simulate";
    for (const CLI::Option* const option : app_.get_options()) {
      if (option->count() == 0) continue;
      line += " " + option->get_name();
      for (const std::string& value : option->results()) {
        if (option->get_items_expected_max() > 0) line += " " + value;
      }
    }
    return line;
  }

  static void PrintOutcome(const Simulation& simulation, const SimulationResult& result) {
    uint64_t up = 0;
    uint64_t down = 0;
    uint64_t committed = 0;
    const SimulatedRound* tested = nullptr;
    for (const SimulatedRound& round : result.rounds) {
      up += round.report.bytes_up;
      down += round.report.bytes_down;
      committed += round.report.state == RoundState::kCommitted ? 1 : 0;
      if (round.tested) tested = &round;
    }
    std::printf("%llu of %zu rounds committed, %s up, %s down, %s of virtual time\n",
                static_cast<unsigned long long>(committed), result.rounds.size(),
                ReadableBytes(up).c_str(), ReadableBytes(down).c_str(),
                ReadableSeconds(static_cast<uint64_t>(result.virtual_seconds * 1e3)).c_str());
    const SimulationCost& cost = result.cost;
    std::printf("%s on this machine; CPU: clients %s, coordinator %s, testing %s\n",
                Wall(cost.wall_seconds).c_str(), Wall(cost.clients_seconds).c_str(),
                Wall(cost.coordinator_seconds).c_str(), Wall(cost.testing_seconds).c_str());
    PrintClients(result);
    if (result.target_round.has_value()) {
      std::printf("target %s reached in round %llu\n",
                  Fixed(simulation.target_accuracy.value_or(0), 4).c_str(),
                  static_cast<unsigned long long>(*result.target_round));
    }
    if (tested == nullptr) return;
    std::printf("accuracy %s  loss %s\n", Fixed(tested->test_accuracy, 4).c_str(),
                Fixed(tested->test_loss, 4).c_str());
  }

  static std::string Wall(double seconds) {
    return ReadableSeconds(static_cast<uint64_t>(seconds * 1e3));
  }

  // How the accuracy is spread over clients.
  static void PrintClients(const SimulationResult& result) {
    if (result.clients.empty()) return;
    std::vector<double> accuracies;
    for (const ClientAccuracy& client : result.clients) accuracies.push_back(client.accuracy);
    std::ranges::sort(accuracies);
    std::string line = "accuracy over clients:";
    for (const double quantile : kAccuracyQuantiles) {
      const auto last = static_cast<double>(accuracies.size() - 1);
      line += "  " + std::to_string(static_cast<int>(quantile * 100)) + " % " +
              Fixed(accuracies[static_cast<size_t>(quantile * last)], 3);
    }
    std::printf("%s\n", line.c_str());
  }

  CLI::App& app_;
  SimulateOptions options_;
  bool chaos_ = false;
  ChaosCommandOptions chaos_options_;
};

}  // namespace

std::unique_ptr<Command> NewSimulate(CLI::App& tool) { return std::make_unique<Simulate>(tool); }

}  // namespace chorus::cli
