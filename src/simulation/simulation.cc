// RunSimulation: from a description to a result.
#include "chorus/simulation.h"

#include <algorithm>
#include <optional>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>

#include "base/clock.h"
#include "base/codec.h"
#include "base/parallel.h"
#include "chorus/coordinator.h"
#include "coordinator/task_state.h"
#include "crypto/crypto.h"
#include "learning/learning.h"
#include "simulation/coordination.h"
#include "simulation/devices.h"
#include "simulation/fleet.h"
#include "simulation/rows.h"
#include "simulation/workers.h"
#include "wire/wire.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace chorus::simulation {
namespace {

constexpr uint32_t kThreadsMax = 1'024;
// Test examples that one thread measures at a stretch. The loss is summed in their order, so that
// it does not depend on the threads.
constexpr uint32_t kTestedTogether = 250;

// Each training allocates and frees vectors as long as the model. By default the C library gives
// such memory back to the system at once, and to be given it again page by page costs several times
// what is done with it; so it keeps what the process has needed before.
void KeepFreedMemory() {
#ifdef __GLIBC__
  constexpr int kMappedApartBytes = 32 << 20;  // the most that it can be told
  constexpr int kKeptBytes = 1 << 30;
  mallopt(M_MMAP_THRESHOLD, kMappedApartBytes);
  mallopt(M_TRIM_THRESHOLD, kKeptBytes);
#endif
}

Status CheckRows(const std::vector<Rows>& all, const Examples& examples, std::string_view field,
                 uint32_t count_min) {
  for (const Rows& rows : all) {
    if (rows.count >= count_min && uint64_t{rows.begin} + rows.count <= examples.count()) continue;
    return InvalidArgument("population." + std::string(field) +
                           " has a client of no rows, or of rows that the examples do not have");
  }
  return OkStatus();
}

Status CheckPopulation(const Population& population) {
  if (population.train == nullptr || population.train_of.empty()) {
    return InvalidArgument("population: there must be examples, and at least one client");
  }
  if (population.train_of.size() > UINT32_MAX) {
    return InvalidArgument("population: there may be at most 2^32 - 1 clients");
  }
  CHORUS_TRY(CheckRows(population.train_of, *population.train, "train_of", 1));
  if (population.test_of.empty()) return OkStatus();
  if (population.test == nullptr || population.test_of.size() != population.train_of.size()) {
    return InvalidArgument("population.test_of must have rows of `test` for each client, or none");
  }
  return CheckRows(population.test_of, *population.test, "test_of", 0);
}

Status CheckSimulation(const Simulation& simulation) {
  CHORUS_TRY(ValidateTask(simulation.task));
  if (simulation.task.protocol == Protocol::kOneShot) {
    return Status(Code::kUnimplemented,
                  "tasks of one_shot are not simulated, for want of a committee; simulate plain or "
                  "secagg, whose sums are the same");
  }
  CHORUS_TRY(ValidateSpreads(simulation.devices));
  CHORUS_TRY(ValidateAvailability(simulation.availability));
  CHORUS_TRY(ValidateFaults(simulation.faults));
  if (simulation.test_every == 0) return InvalidArgument("test_every must be at least 1");
  if (simulation.threads > kThreadsMax) {
    return InvalidArgument("threads must be at most " + std::to_string(kThreadsMax));
  }
  return OkStatus();
}

uint32_t ThreadsOf(const Simulation& simulation) {
  if (simulation.threads > 0) return std::min(simulation.threads, kThreadsMax);
  return std::clamp(std::thread::hardware_concurrency(), 1U, kThreadsMax);
}

// The test examples in pieces, and what a model makes of them.
class Test {
 public:
  Test(const ModelSpec& model, const Examples* examples) : model_(model) {
    const auto count = static_cast<uint32_t>(examples == nullptr ? 0 : examples->count());
    for (uint32_t begin = 0; begin < count; begin += kTestedTogether) {
      const Rows rows{.begin = begin, .count = std::min(kTestedTogether, count - begin)};
      CopyRows(*examples, rows, pieces_.emplace_back());
    }
  }
  bool empty() const { return pieces_.empty(); }

  // A model that has diverged is kAborted.
  Result<learning::Evaluation> Measure(std::span<const float> weights, Executor& executor,
                                       const Cancel& cancel, double& cpu_seconds) const {
    std::vector<Result<learning::Evaluation>> measured(pieces_.size(), learning::Evaluation{});
    std::vector<double> seconds(pieces_.size());
    executor.ParallelFor(pieces_.size(), [&](size_t i) {
      const double start = ThreadCpuSeconds();
      measured[i] = learning::Evaluate(model_, pieces_[i], weights, cancel);
      seconds[i] = ThreadCpuSeconds() - start;
    });
    learning::Evaluation all;
    for (size_t i = 0; i < measured.size(); ++i) {
      cpu_seconds += seconds[i];
      CHORUS_TRY(measured[i].status());
      const auto count = static_cast<double>(measured[i]->count);
      all.count += measured[i]->count;
      all.loss += measured[i]->loss * count;
      all.accuracy += measured[i]->accuracy * count;
    }
    all.loss /= static_cast<double>(std::max<uint64_t>(all.count, 1));
    all.accuracy /= static_cast<double>(std::max<uint64_t>(all.count, 1));
    return all;
  }

 private:
  const ModelSpec& model_;
  std::vector<Examples> pieces_;
};

void Add(const SimulationCost& cost, SimulationCost& to) {
  to.clients_seconds += cost.clients_seconds;
  to.coordinator_seconds += cost.coordinator_seconds;
  to.testing_seconds += cost.testing_seconds;
}

// What every process of a simulation has.
struct Stage {
  const Simulation& simulation;
  const Population& population;
  const SimulationOptions& options;
  const Cancel& cancel;
  Executor& executor;
  Workers& workers;
};

// The part of rank 0.
class Play {
 public:
  Play(const Stage& stage, Coordination& coordination)
      : stage_(stage),
        coordination_(coordination),
        clock_(NewSystemClock()),
        start_(clock_->Now()),
        // Queries are answered, not tested.
        test_(stage.simulation.task.model,
              stage.simulation.task.queries.empty() ? stage.population.test : nullptr) {}

  Result<SimulationResult> Run() {
    result_.virtual_clients = stage_.population.train_of.size();
    if (!test_.empty()) {
      CHORUS_TRY_ASSIGN(const learning::Evaluation first, Measure(result_.cost));
      result_.first_accuracy = first.accuracy;
      result_.first_loss = first.loss;
    }
    while (!Over()) CHORUS_TRY(Advance());
    result_.virtual_seconds = coordination_.seconds();
    result_.weights = FirstOf(coordination_.published());
    if (stage_.simulation.measure_clients && stage_.simulation.task.queries.empty()) {
      CHORUS_TRY_ASSIGN(result_.clients, stage_.workers.Measure(result_.weights));
    }
    result_.cost.wall_seconds = WallSeconds();
    return std::move(result_);
  }

 private:
  double WallSeconds() const { return static_cast<double>((clock_->Now() - start_).count()) / 1e3; }
  uint64_t RoundsWanted() const {
    return stage_.simulation.rounds > 0 ? stage_.simulation.rounds : stage_.simulation.task.rounds;
  }
  // With a number of rounds given, aborted ones count; else the task's are those that committed.
  uint64_t RoundsDone() const {
    return stage_.simulation.rounds > 0 ? result_.rounds.size() : committed_;
  }
  bool Over() const {
    return RoundsDone() >= RoundsWanted() || committed_ >= stage_.simulation.task.rounds ||
           (result_.target_round.has_value() && stage_.simulation.target_accuracy.has_value());
  }
  // The model's weights, which come first in what is published.
  Weights FirstOf(std::span<const float> published) const {
    const uint64_t dim = std::min<uint64_t>(learning::ParameterCount(stage_.simulation.task.model),
                                            published.size());
    return {published.begin(), published.begin() + static_cast<ptrdiff_t>(dim)};
  }

  Result<learning::Evaluation> Measure(SimulationCost& cost) const {
    return test_.Measure(FirstOf(coordination_.published()), stage_.executor, stage_.cancel,
                         cost.testing_seconds);
  }

  Status Advance() {
    const double before = WallSeconds();
    CHORUS_TRY_ASSIGN(SimulatedRound round, coordination_.RunRound());
    const bool committed = round.report.state == RoundState::kCommitted;
    if (committed) ++committed_;
    // Aborted rounds in a row leave nothing to hope for.
    aborted_in_a_row_ = committed ? 0 : aborted_in_a_row_ + 1;
    if (aborted_in_a_row_ > kAbortedInARowMax) {
      return Aborted(std::to_string(aborted_in_a_row_) +
                     " rounds in a row made no sum; the last: " + round.report.reason);
    }
    const bool due = committed && committed_ % stage_.simulation.test_every == 0;
    if (!test_.empty() && (due || committed_ >= stage_.simulation.task.rounds)) {
      CHORUS_TRY(MeasureAfter(round));
    }
    round.cost.wall_seconds = WallSeconds() - before;
    Add(round.cost, result_.cost);
    result_.rounds.push_back(std::move(round));
    if (stage_.options.progress != nullptr) stage_.options.progress(Progress());
    return OkStatus();
  }

  Status MeasureAfter(SimulatedRound& round) {
    CHORUS_TRY_ASSIGN(const learning::Evaluation evaluation, Measure(round.cost));
    round.tested = true;
    round.test_accuracy = evaluation.accuracy;
    round.test_loss = evaluation.loss;
    const std::optional<double>& target = stage_.simulation.target_accuracy;
    if (target.has_value() && evaluation.accuracy >= *target && !result_.target_round) {
      result_.target_round = committed_;
    }
    return OkStatus();
  }

  SimulationProgress Progress() const {
    SimulationProgress progress{.last = &result_.rounds.back(),
                                .rounds_done = RoundsDone(),
                                .rounds_wanted = RoundsWanted(),
                                .wall_seconds = WallSeconds()};
    if (progress.rounds_done > 0) {
      progress.wall_seconds_left =
          progress.wall_seconds / static_cast<double>(progress.rounds_done) *
          static_cast<double>(progress.rounds_wanted - progress.rounds_done);
    }
    return progress;
  }

  static constexpr uint32_t kAbortedInARowMax = 100;

  const Stage& stage_;
  Coordination& coordination_;
  std::unique_ptr<Clock> clock_;
  Time start_;
  Test test_;
  SimulationResult result_;
  uint64_t committed_ = 0;
  uint32_t aborted_in_a_row_ = 0;
};

// What the task begins with, as a coordinator of the same experiment would draw it.
Result<coordinator::ServerState> FirstState(const Simulation& simulation, BytesView signing_seed) {
  const std::unique_ptr<Store> store = NewMemoryStore();
  const std::unique_ptr<Rng> rng = crypto::NewSeededRng(signing_seed);
  AuditEntry created;  // of a store that nobody else sees
  created.number = 1;
  created.priority = 1;
  CHORUS_TRY_ASSIGN(coordinator::TaskState state,
                    coordinator::OpenTask({.task = simulation.task,
                                           .initial_weights = simulation.initial_weights,
                                           .experiment_seed = simulation.seed,
                                           .created = created},
                                          *store, *rng));
  return std::move(state.server);
}

SecretBytes SigningSeed(uint64_t seed) {
  const Bytes number = std::move(Writer().U64(seed)).Take();
  const Digest digest = crypto::LabeledHash("CHORUS1/simulation-coordinator", {number});
  return SecretBytes(Bytes(digest.begin(), digest.end()));
}

template <typename T>
BytesView BytesOf(const std::vector<T>& values) {
  static_assert(std::has_unique_object_representations_v<T> || std::is_same_v<T, float>);
  return {reinterpret_cast<const uint8_t*>(values.data()), values.size() * sizeof(T)};
}

Digest DigestOf(const Examples* examples) {
  if (examples == nullptr) return Digest{};
  const Bytes inputs = std::move(Writer().U32(examples->inputs)).Take();
  return crypto::LabeledHash(
      "CHORUS1/simulation-examples",
      {inputs, BytesOf(examples->features), BytesOf(examples->labels), BytesOf(examples->targets)});
}

// What all processes must have alike, as a digest.
Bytes DigestOf(const Simulation& simulation, const Population& population, BytesView task) {
  const Bytes seed = std::move(Writer().U64(simulation.seed)).Take();
  const Digest digest =
      crypto::LabeledHash("CHORUS1/simulation-inputs",
                          {task, seed, DigestOf(population.train), BytesOf(population.train_of),
                           DigestOf(population.test), BytesOf(population.test_of)});
  return {digest.begin(), digest.end()};
}

// What a process has before any work.
struct Prepared {
  Bytes task;
  std::unique_ptr<Devices> devices;
  std::optional<coordinator::ServerState> first;  // of rank 0
};

Result<Prepared> Prepare(const Simulation& simulation, const Population& population,
                         Executor& executor, const Cancel& cancel, BytesView signing_seed,
                         bool coordinates) {
  CHORUS_TRY(CheckSimulation(simulation));
  CHORUS_TRY(CheckPopulation(population));
  Prepared prepared;
  prepared.task = wire::EncodeTask(simulation.task);
  const Digest signed_task = crypto::LabeledHash("CHORUS1/task", {prepared.task});
  CHORUS_TRY_ASSIGN(
      prepared.devices,
      Devices::Create({.simulation = &simulation,
                       .population = &population,
                       .executor = &executor,
                       .cancel = &cancel,
                       .coordinator = crypto::Ed25519Public(signing_seed),
                       .task = prepared.task,
                       .task_signature = crypto::Ed25519Sign(signing_seed, signed_task)}));
  if (!coordinates) return prepared;
  CHORUS_TRY_ASSIGN(prepared.first, FirstState(simulation, signing_seed));
  return prepared;
}

Result<SimulationResult> Run(const Simulation& simulation, const Population& population,
                             const SimulationOptions& options) {
  KeepFreedMemory();
  const Cancel never;
  const Cancel& cancel = options.cancel == nullptr ? never : *options.cancel;
  const SecretBytes signing_seed = SigningSeed(simulation.seed);
  const bool coordinates = options.cluster == nullptr || options.cluster->rank() == 0;
  const uint32_t threads = ThreadsOf(simulation);
  ThreadPool pool(threads);
  InlineExecutor inline_executor;
  Executor& executor = threads == 1 ? static_cast<Executor&>(inline_executor) : pool;
  Result<Prepared> prepared =
      Prepare(simulation, population, executor, cancel, signing_seed.Reveal(), coordinates);
  if (options.cluster != nullptr) {
    CHORUS_TRY(ShareInputs(*options.cluster, prepared.ok()
                                                 ? DigestOf(simulation, population, prepared->task)
                                                 : Result<Bytes>(prepared.status())));
  }
  CHORUS_TRY(prepared.status());
  Workers workers(*prepared->devices, options.cluster, threads);
  if (!coordinates) {
    CHORUS_TRY(workers.Serve());
    return SimulationResult{};
  }
  Coordination coordination({.simulation = &simulation,
                             .population = &population,
                             .workers = &workers,
                             .executor = &executor,
                             .cancel = &cancel,
                             .signing_seed = signing_seed.Reveal(),
                             .task_bytes = prepared->task,
                             .first = *std::move(prepared->first)});
  const Stage stage{simulation, population, options, cancel, executor, workers};
  Result<SimulationResult> result = Play(stage, coordination).Run();
  // The other processes are let go whatever came of it.
  const Status finished = workers.Finish();
  if (result.ok() && !finished.ok()) return finished;
  return result;
}

}  // namespace
}  // namespace chorus::simulation

namespace chorus {

Result<SimulationResult> RunSimulation(const Simulation& simulation, const Population& population,
                                       const SimulationOptions& options) {
  return simulation::Run(simulation, population, options);
}

}  // namespace chorus
