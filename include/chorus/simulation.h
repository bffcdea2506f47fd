// Rounds of a task with thousands of virtual clients in one process, under a virtual clock: the
// coordinator's rounds and sums and the clients' training, encoding and protocol are the code of
// production. What is not simulated: check-in, the ledger on disk, and the transport (gRPC, chunks,
// hashes of messages), in whose place stand latency, bandwidth, loss and devices that leave.
//
// Everything that happens follows from the seed: a result, but for the times measured, is the same
// on one thread, on many, and on many processes.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "chorus/bytes.h"
#include "chorus/client.h"
#include "chorus/host.h"
#include "chorus/model.h"
#include "chorus/status.h"
#include "chorus/store.h"
#include "chorus/task.h"

namespace chorus {

// Neighbouring rows of a set of examples.
struct Rows {
  uint32_t begin = 0;
  uint32_t count = 0;
};

// Whose examples are whose. A virtual client is a row here and nothing else, until it trains.
struct Population {
  const Examples* train = nullptr;  // of everybody; must outlive the run, as `test`
  std::vector<Rows> train_of;       // [clients] rows of `train`, at least one each
  // What every model is measured on; null: nothing is.
  const Examples* test = nullptr;
  // [clients] rows of `test`, which in the end each client's own accuracy is measured on. Empty, or
  // no rows: on those that the client trains on.
  std::vector<Rows> test_of = {};
};

// How a quantity differs from device to device: each has one draw of it for good.
struct Spread {
  enum class Shape : uint8_t {
    kSame = 0,
    kUniform = 1,    // between median * (1 - width) and median * (1 + width), width <= 1
    kLognormal = 2,  // median * exp(width * normal draw)
  };
  Shape shape = Shape::kSame;
  double median = 1.0;
  double width = 0.0;
};

struct DeviceSpec {
  // Training visits so many examples a second; an epoch visits each of a client's once.
  Spread examples_per_second = {.median = 1'000.0};
  Spread latency_seconds = {.median = 0.05};  // of every message, either way
  Spread download_bytes_per_second = {.median = 2.5e6};
  Spread upload_bytes_per_second = {.median = 1.25e6};
};

// When a device can be invited, and goes on with a round that it has begun.
struct AvailabilitySpec {
  enum class Pattern : uint8_t {
    kAlways = 0,
    kDaily = 1,  // for `window_hours` a day, from an hour of its own on
    kOnOff = 2,  // by turns on and off for exponentially distributed times: a Markov chain
  };
  Pattern pattern = Pattern::kAlways;
  double window_hours = 8.0;
  double on_seconds_mean = 3'600.0;
  double off_seconds_mean = 3'600.0;
};

// What goes wrong, each by a draw of its own for every client, round and step.
struct FaultSpec {
  double loss = 0.0;  // chance that one message never comes; its client is not heard in that step
  // Chance that a client leaves the round before it answers, in each step: training first, then the
  // protocol's. The last holds for all steps after it as well; none: nobody leaves.
  std::vector<double> dropout = {};
};

struct Simulation {
  TaskSpec task;
  uint64_t seed = 0;
  std::optional<Weights> initial_weights;  // [dim]; absent: drawn from the seed
  uint32_t rounds = 0;                     // to begin, committed or not; 0: until the task is done
  uint32_t threads = 0;                    // of this process; 0: one a core
  DeviceSpec devices;
  AvailabilitySpec availability;
  FaultSpec faults;
  uint32_t test_every = 1;                // rounds between two looks at Population::test
  std::optional<double> target_accuracy;  // on the test examples; the first model there ends it
  bool measure_clients = true;            // each client's own accuracy, in the end
};

// The processes that share the work of one simulation, each of which calls RunSimulation with the
// same arguments; it compares task, seed and data first, and what fails in one fails in all. The
// first (rank 0) keeps time and the coordinator's side, all of them train.
class Cluster {
 public:
  virtual ~Cluster() = default;
  virtual uint32_t rank() const = 0;
  virtual uint32_t size() const = 0;
  // Rank 0's `bytes`, in every process; what others pass is not looked at.
  virtual Result<Bytes> Broadcast(BytesView bytes) = 0;
  // Every rank's `bytes`, by rank, in rank 0; nothing elsewhere.
  virtual Result<std::vector<Bytes>> Gather(BytesView bytes) = 0;
};

// Of the processes that mpirun started, this one among them; null when mpirun did not. Once in the
// life of a process. kUnimplemented: mpirun did, but this was built without CHORUS_WITH_MPI.
Result<std::unique_ptr<Cluster>> JoinMpiCluster();

// What the processes of `cluster` do before RunSimulation, each with how its own preparations went
// (reading data, say), so that none of them waits for one that has given up: the first failure by
// rank, in all of them. Without a cluster: `mine`.
Status ShareVerdict(Cluster* cluster, const Status& mine);

// One step of a round, training first, over all its cohorts.
struct SimulatedStep {
  std::string name;
  uint32_t asked = 0;
  uint32_t answered = 0;
  uint32_t left = 0;    // of those not heard: who left, by FaultSpec::dropout or availability
  uint32_t lost = 0;    // likewise: whose message never came
  uint32_t late = 0;    // likewise: who was too slow
  uint32_t failed = 0;  // likewise: who answered with an error, or whose answer was refused
  uint64_t bytes_up = 0;
  uint64_t bytes_down = 0;
  double seconds = 0;  // of virtual time, from the first question to the end; of the slowest cohort
};

// Where the processor's time went; differs from run to run, unlike all else.
struct SimulationCost {
  double clients_seconds = 0;      // CPU of all threads and processes: training, encoding, protocol
  double coordinator_seconds = 0;  // CPU: folding, opening and applying sums; the virtual clock
  double testing_seconds = 0;      // CPU
  double wall_seconds = 0;
};

struct SimulatedRound {
  // As a coordinator keeps it, but that durations are virtual, and `model` is the hash that its
  // sessions bind (a model is hashed once a round).
  RoundReport report;
  std::vector<SimulatedStep> steps;
  std::vector<uint32_t> contributors;  // the clients in the sum, ascending
  std::vector<int64_t> cells;          // of analytics: the exact sums; see ReadAnswers
  double began_seconds = 0;            // of virtual time since the start, as the next
  double ended_seconds = 0;
  // Of the model after this round on Population::test.
  bool tested = false;
  double test_accuracy = 0;
  double test_loss = 0;
  SimulationCost cost;
};

// The last model on one client's own examples.
struct ClientAccuracy {
  uint32_t client = 0;
  uint64_t examples = 0;
  double accuracy = 0;
  double loss = 0;
};

struct SimulationResult {
  std::vector<SimulatedRound> rounds;
  Weights weights;                       // [dim] after the last round
  std::vector<ClientAccuracy> clients;   // by client, unless not wanted
  std::optional<uint64_t> target_round;  // first committed round whose model reached the target
  double first_accuracy = 0;             // of the model before any round, on Population::test
  double first_loss = 0;
  uint64_t virtual_clients = 0;
  double virtual_seconds = 0;
  SimulationCost cost;
};

struct SimulationProgress {
  const SimulatedRound* last = nullptr;
  uint64_t rounds_done = 0;
  uint64_t rounds_wanted = 0;
  double wall_seconds = 0;       // so far
  double wall_seconds_left = 0;  // if it goes on like this
};

struct SimulationOptions {
  // Called by rank 0 after each round.
  std::function<void(const SimulationProgress&)> progress = nullptr;
  const Cancel* cancel = nullptr;  // optional
  Cluster* cluster = nullptr;      // optional; must outlive the call
};

// With the GNU C library, the process keeps memory that it frees, up to a gibibyte, from the first
// call on.
//
// Runs the task until it is done, has no more rounds, or reaches its target. In processes other
// than rank 0 the result is empty. kInvalidArgument: the task cannot work (see ValidateTask), a
// field, or the examples do not fit the model; kUnimplemented: a OneShot task; kFailedPrecondition:
// not enough clients are ever available at once; kCancelled.
Result<SimulationResult> RunSimulation(const Simulation& simulation, const Population& population,
                                       const SimulationOptions& options);

// --- faults on purpose ---------------------------------------------------------------------------
// One small system (coordinators, their store, clients with their files, the network between them
// and everybody's clock) in this process, under virtual time, in which everything goes wrong that
// can: what, when and to whom follows from a seed. The code is production's from the coordinator's
// core and the client's session down to the client's files; gRPC and SQL are left out.

enum class Fault : uint8_t {
  kLoss = 0,              // a message never comes, or its connection breaks
  kDelay = 1,             // by up to a minute, so that messages overtake each other
  kDuplicate = 2,         // a request or a reply comes twice, the second time much later
  kPartition = 3,         // a client and a coordinator do not hear each other, or one the other
  kCoordinatorCrash = 4,  // between any two effects
  kClientCrash = 5,       // likewise, with its files torn and what was not synchronised lost
  kDisk = 6,              // of a client: full, or it fails to synchronise
  kStore = 7,             // full, in conflict, or committing without saying so
  kClock = 8,             // a wall clock jumps, by seconds or days, either way
  kSlow = 9,              // a client trains for longer than its round allows
  kLie = 10,              // a client sends what no honest one would
};
inline constexpr size_t kFaultKinds = 11;
std::string_view FaultName(Fault fault);  // as "loss", "coordinator-crash"

struct ChaosOptions {
  uint64_t seed = 0;
  std::vector<Fault> without = {};  // these do not strike; all else is as it was
  size_t trace_lines_max = 400;     // of the story, the last so many are kept
};

struct ChaosReport {
  // Ok, or kInternal: which invariant was broken, and how.
  Status verdict;
  std::string system;              // who takes part, in one line
  std::vector<std::string> trace;  // the story's last lines
  Digest trace_sha256{};           // of the whole story: the same wherever the seed is played
  uint64_t steps = 0;              // events
  uint64_t rounds_committed = 0;
  uint64_t rounds_aborted = 0;
  double virtual_seconds = 0;
  std::array<uint64_t, kFaultKinds> faults{};  // how often each struck
};

// Plays one seed: phases of faults and of peace by turns. After each step a committed result must
// be exactly the sum of the clients that it names, each once and with this in its ledger on disk;
// the history of rounds only grows; nobody is told what is not durable; every wait ends. In peace
// rounds must commit again within a bound, and in the end the task is done and the coordinator
// holds nothing of anybody.
ChaosReport RunChaos(const ChaosOptions& options);

}  // namespace chorus
