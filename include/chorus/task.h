// A task: all that a client agrees to, as one signed value.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "chorus/bytes.h"
#include "chorus/model.h"

namespace chorus {

enum class Protocol : uint8_t {
  kPlain = 0,   // TLS only: the coordinator reads every update. For a trusted silo, and for tests.
  kSecAgg = 1,  // the coordinator reads only the sum over a cohort [specification 3]
  // The same with one message from each client, which may then vanish; a committee beside the
  // clients opens the sum [specification 2.2]. Experimental.
  kOneShot = 2,
};

// Who holds shares of whose secrets in a session of SecAgg [specification 3.6]. The numbers are on
// the wire.
enum class SharingGraph : uint8_t {
  kComplete = 0,      // everybody of everybody: cohorts of at most 128
  kSelfSelected = 1,  // each client draws its own holders: 160 to 1,024, a malicious coordinator
  // A ring that the coordinator arranges, at half the cost: 32 to 1,024. Private only from one that
  // follows the protocol; a client takes part if its policy says allow_honest_but_curious.
  kHarary = 2,
};

enum class ClientOptimizer : uint8_t { kSgd = 0, kMomentum = 1, kAdam = 2 };

// How the learning rate goes down over the rounds of a task, from 0 in its first.
enum class Schedule : uint8_t {
  kConstant = 0,
  kExponential = 1,  // rate * decay^(round / decay_rounds)
  kInverseSqrt = 2,  // rate / sqrt(1 + round / decay_rounds)
  kCosine = 3,       // rate * (1 + cos(pi * round / decay_rounds)) / 2, and 1 % of it at least
};

// How a client trains on its own examples.
struct TrainingSpec {
  uint32_t epochs = 1;
  uint32_t batch_size = 32;
  float learning_rate = 0.1F;
  uint32_t held_back_percent =
      10;              // of the local examples, for federated evaluation; never trained on
  uint32_t steps = 0;  // not 0: so many minibatches in place of the epochs
  ClientOptimizer optimizer = ClientOptimizer::kSgd;  // its state begins anew in every round
  float momentum = 0.9F;                              // of kMomentum
  float beta1 = 0.9F;                                 // of kAdam [KB15], as the next two
  float beta2 = 0.999F;
  float epsilon = 1e-8F;
  Schedule schedule = Schedule::kConstant;
  float decay = 1.0F;
  uint32_t decay_rounds = 1;
  float gradient_l2_norm_max = 0.0F;  // of a minibatch's mean gradient; 0: not clipped
  float proximal = 0.0F;              // mu of FedProx [LSZSTS20]; 0: none
  // SCAFFOLD [KKMRSS20], option II: control variates on both sides, the clients' kept on the
  // device, their change summed securely beside the update. Needs `population`, and kSgd.
  bool scaffold = false;
  uint32_t population = 0;  // N: clients that may ever take part
  float fairness_q = 0.0F;  // q of q-FedAvg [LSBS20]; 0: FedAvg
  // Of q-FedAvg: the loss at which a client counts fully, its weight being (loss / this)^q. The
  // result does not depend on it; room in the encoding does. Best is the largest mean loss that a
  // client has in earnest.
  float fairness_loss = 1.0F;
};

// The bound on one client's influence.
struct ClipSpec {
  float update_l2_norm_max = 1.0F;
};

// One fixed-point encoding for every protocol [specification D1, 3.10].
struct EncodingSpec {
  uint32_t bound = 1U << 20U;         // B: the integers of one contribution lie in [-B, B]
  uint32_t examples_max = 1U << 12U;  // W <= B: an update counts for at most so many examples
};

struct CohortSpec {
  uint32_t minimum = 5;  // n_min: no sum over fewer. The least that SecAgg's defaults serve
  // How many contributions a round wants of each cohort; 0: of all who are there, up to `maximum`.
  uint32_t target = 0;
  uint32_t maximum = 128;  // n_max: the no-wrap rule is checked against it
  // How many more than `target` are invited, against dropouts; with TaskSpec::adapt, at least.
  uint32_t over_selection_percent = 0;
  // How many cohorts a round runs side by side, each of minimum to maximum clients with a session
  // and a sum of its own; the round commits what the sums that succeeded add up to.
  uint32_t parallel = 1;
};

// With kSelfSelected and kHarary, gamma is one of 50000, 100000 and 200000 and delta one of 50000,
// 100000, 200000 and 330000, and a cohort is cut to the next size of the graph's table below it:
// every 32 from 160 to 1024, also 300 and 1000; for kHarary also every 16 from 32 to 128, and 100.
struct SecAggSpec {
  SharingGraph graph = SharingGraph::kComplete;
  uint32_t gamma_ppm = 50'000;   // assumed fraction of corrupt roster members, in millionths
  uint32_t delta_ppm = 100'000;  // fraction of dropouts that must not end the round
  uint32_t honest_min = 2;       // a_min: the coordinator learns no sum over fewer honest clients
};

// Ring and modulus of the lattice encryption in OneShot [specification 2.2.2]. The numbers are on
// the wire.
enum class OneShotSet : uint8_t {
  kOsa4096 = 1,  // N = 4096, log2 q = 100
  kOsa8192 = 2,  // N = 8192, log2 q = 200: fewer bytes from four million parameters on
};

// The committee of OneShot. Size and assumptions pick one row of its table, which fixes everything
// else [specification 2.2.3]: 64 members with (20000, 100000), (50000, 100000) or (100000, 50000);
// 96 with (100000, 100000); 128 with (100000, 100000) or (200000, 100000); 192 with (50000,
// 200000) or (100000, 200000); 256 with (100000, 200000). With (0, 0): 4 helper servers of which
// one may be corrupt and one absent, or 7 of which two may. More corrupt members than the row
// assumes, together with the coordinator, read every update of a session.
struct OneShotSpec {
  OneShotSet set = OneShotSet::kOsa4096;
  std::vector<PublicKey> members = {};  // their Ed25519 identities, in order; none twice
  uint32_t gamma_members_ppm = 0;       // assumed fraction of corrupt members, in millionths
  uint32_t delta_members_ppm = 0;       // fraction of members whose absence must not end the round
  uint32_t gamma_ppm = 50'000;          // assumed fraction of corrupt clients, in millionths
  uint32_t honest_min = 2;              // a_min >= 2: no sum is opened over fewer honest clients
};

// How long a step may take before those who did not answer count as dropped out; with
// TaskSpec::adapt, at most.
struct DeadlineSpec {
  std::chrono::milliseconds check_in{
      5'000};  // how long a round waits for `target` once `minimum` are there
  std::chrono::milliseconds train{120'000};  // download, train, encode
  std::chrono::milliseconds choose{10'000};
  std::chrono::milliseconds share{15'000};
  std::chrono::milliseconds upload{60'000};
  std::chrono::milliseconds consistency{8'000};
  std::chrono::milliseconds unmask{8'000};
  std::chrono::milliseconds hedge{
      2'000};  // a step with 95 % answered closes after this much more; 0: never early
};

enum class ServerOptimizer : uint8_t {
  kFedAvg = 0,      // model += server_learning_rate * mean [MMRHA17]
  kFedAvgM = 1,     // with momentum beta1 [HQB19]
  kFedAdagrad = 2,  // [RCZGRKKM21], as the next two
  kFedAdam = 3,
  kFedYogi = 4,
};

// What becomes of the means of a round's cohorts.
enum class RobustRule : uint8_t {
  kMean = 0,  // their mean, weighted by examples: the sum over all
  kMedian = 1,
  kTrimmedMean = 2,  // without the `byzantine` largest and smallest of each coordinate
  kGeometricMedian = 3,
  kKrum = 4,
  kMultiKrum = 5,
  kBulyan = 6,
};

// How the coordinator turns sums into the next model.
struct ServerSpec {
  ServerOptimizer optimizer = ServerOptimizer::kFedAvg;
  float beta1 = 0.9F;
  float beta2 = 0.99F;
  float tau = 1e-3F;  // degree of adaptivity: the smallest denominator
  // Over the means of `cohort.parallel` cohorts, never over single updates.
  RobustRule robust = RobustRule::kMean;
  uint32_t byzantine = 0;  // f: cohorts that may be spoilt
  // FedBuff [NMZYRM22]: not 0: a round commits once so many cohorts have their sum; the others go
  // on, and theirs count in a later round, weighted by 1 / sqrt(1 + commits between), unless more
  // than staleness_max lie between (docs/decisions/0014).
  uint32_t buffered_sums = 0;
  uint32_t staleness_max = 10;
};

enum class QueryKind : uint8_t {
  kCount = 0,      // of examples, and of clients
  kHistogram = 1,  // of columns[0]: `bins` equal ones over [low, high), one below, one above
  kMean = 2,       // count, sum and sum of squares of columns[0], cut to [low, high]
  // For each whole value 0 to bins - 1 of columns[0] (the arm): count, sum and sum of squares of
  // columns[1], cut to [low, high].
  kTable = 3,
  // X'X and X'y: every product of two of the columns, cut to [low, high], and a constant one; the
  // last column is y.
  kMoments = 4,
};

// A question about the clients' examples, answered by sums of integers that are exact. Columns
// count an example's features, then its label or its targets. A client with more than
// encoding.examples_max examples answers from the first so many.
struct QuerySpec {
  std::string name;  // unique in the task
  QueryKind kind = QueryKind::kCount;
  std::vector<uint32_t> columns = {};  // from 0
  float low = 0.0F;
  float high = 1.0F;
  uint32_t bins = 0;
  // Values of kMean, kTable and kMoments are rounded to multiples of it before anything is
  // computed.
  float unit = 1.0F;
};

struct TaskSpec {
  std::string
      name;  // unique at one coordinator; the task's id is the first 16 bytes of its SHA-256
  ModelSpec model;
  TrainingSpec training;
  ClipSpec clip;
  EncodingSpec encoding;
  Protocol protocol = Protocol::kSecAgg;
  SecAggSpec secagg;
  OneShotSpec one_shot;
  // Needed with kOneShot until people outside have reviewed its lattice encryption; a client takes
  // part only if its policy says allow_experimental.
  bool experimental = false;
  CohortSpec cohort;
  DeadlineSpec deadlines;
  // How many are invited and how long each step waits follows what the coordinator sees of its
  // clients, within `cohort` and `deadlines` (docs/operating.md). False: the bounds themselves.
  bool adapt = true;
  uint32_t rounds = 10;  // committed rounds after which the task is complete
  float server_learning_rate =
      1.0F;  // FedAvg: model += rate * weighted mean of the updates [MMRHA17]
  ServerSpec server;
  // Not empty: federated analytics. No model is described or trained; every round answers all
  // queries anew over its cohort.
  std::vector<QuerySpec> queries = {};
};

using TaskId = std::array<uint8_t, 16>;

}  // namespace chorus
