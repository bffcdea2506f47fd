// A client's, or a committee member's, conversation with its coordinator as a machine without
// socket, thread or sleep: it says what to do next and is told how that went. Client::Start runs it
// over gRPC; tests and simulation run it in memory.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/random.h"
#include "chorus/client.h"
#include "chorus/model.h"
#include "client/ledger.h"

namespace chorus::aggregation {
class KnownOffers;
class SeenKeys;
}  // namespace chorus::aggregation

namespace chorus::client {

class DeviceState;
class Disk;
class FrameBudget;
struct TrainingBuffers;

// Make this call and report with Deliver.
struct CallAction {
  std::string_view method;
  Bytes request;
  std::chrono::milliseconds deadline{};
  // Brings a piece of the model: large, and only to be trained on.
  bool of_model = false;
};
// Nothing to do before `until`.
struct WaitAction {
  Time until{};
  bool hang_up = false;  // close the connection meanwhile
};
// Train: call Work(); may take long, honours the cancel.
struct WorkAction {};
// The session has ended for good.
struct StopAction {
  Status status;
};
using Action = std::variant<CallAction, WaitAction, WorkAction, StopAction>;

// Where the draws of an experiment come from: the order of training, the held-back split and
// rounding. Keys and masks never do. Absent in production: the system's randomness. Reachable only
// from inside the library (the tool's experiments, simulation), not from chorus/client.h.
struct ExperimentSeed {
  std::string
      text;  // for example "42/client-007": the experiment's seed and this client's name in it
};

// A committee member takes part as a client does, but neither downloads a model nor trains: it is
// ready at once, and answers the committee's questions [specification 2.2.4].
enum class Role : uint8_t { kClient, kCommitteeMember };

// Some of a set of examples, one after the other.
struct ExampleRows {
  size_t begin = 0;
  size_t count = 0;
};

struct SessionOptions {
  const ClientOptions* options = nullptr;  // must outlive the session, as all pointers here
  Role role = Role::kClient;
  const Examples* examples = nullptr;  // of a client, as `ledger`, unless it has a trainer
  Trainer* trainer = nullptr;          // the host's own engine, which has the examples
  DeviceState* state = nullptr;        // of a client; tasks that keep something need it
  const IdentityVerifier* verifier = nullptr;
  const Clock* clock = nullptr;
  Rng* rng = nullptr;  // keys, masks, jitter
  LogSink* log = nullptr;
  Ledger* ledger = nullptr;
  const Cancel* cancel = nullptr;
  Disk* disk = nullptr;  // where evidence is kept; null: the operating system's
  std::optional<ExperimentSeed> experiment;
  aggregation::SeenKeys* seen_keys = nullptr;  // of peers, in all sessions of this device; optional
  // Of a process that plays many devices; null for a device by itself.
  aggregation::KnownOffers* known_offers = nullptr;
  // Likewise: which of `examples`, which are everybody's, this device trains on. None: all.
  std::optional<ExampleRows> rows = std::nullopt;
  TrainingBuffers* buffers = nullptr;  // likewise, of the calling thread and this task alone
  FrameBudget* budget = nullptr;       // when training runs, and where; null: whenever, in Work()
  // Of a client to which examples may be added while a round runs: whether one that holds so many
  // bytes fits beside them, which then counts on that memory until the session rests. Null: whether
  // memory_bytes_max is enough.
  std::function<bool(uint64_t bytes)> take_memory = nullptr;
};

// A model as its session holds it, until the session's next Deliver.
struct ModelView {
  const ModelSpec* spec = nullptr;
  std::span<const float> weights;  // [dim]
  uint64_t round = 0;
};

class Session {
 public:
  static std::unique_ptr<Session> Create(SessionOptions options);
  virtual ~Session() = default;

  virtual Action Next() = 0;                      // what to do now; the same until it was done
  virtual void Deliver(Result<Bytes> reply) = 0;  // of the CallAction
  virtual void Work() = 0;                        // of the WorkAction
  virtual std::vector<ClientEvent> TakeEvents() = 0;
  // Whether no round is under way that this party has a part in: its examples may change.
  virtual bool resting() const = 0;
  // The model last received whole; changes in Deliver alone.
  virtual std::optional<ModelView> model() const = 0;
};

}  // namespace chorus::client
