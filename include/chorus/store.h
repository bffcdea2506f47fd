// Where a coordinator keeps what must outlive it: results, never half-states. A crash loses the
// round in flight and nothing else.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "chorus/bytes.h"
#include "chorus/status.h"
#include "chorus/task.h"

namespace chorus {

enum class RoundState : uint8_t {
  kOpen = 0,       // begun; after a restart this means: died with its coordinator
  kCommitted = 1,  // its sum is in the model
  kAborted = 2,    // no sum
};

// One round of a task. Everything is a count or a size; nothing of a single client.
struct RoundReport {
  uint64_t round = 0;  // from 1; never reused, so a client's ledger of used rounds stays true
  RoundState state = RoundState::kOpen;
  Code code = Code::kOk;           // why it aborted
  std::string reason;              // likewise, in words
  Digest model{};                  // content hash of the model that it trained on
  uint32_t invited = 0;            // clients asked to train
  uint32_t contributors = 0;       // contributions in the sum
  uint32_t refused = 0;            // invited clients that declined, by policy or ledger
  std::vector<uint32_t> dropouts;  // for each step, training first: who was asked and not heard
  uint64_t bytes_up = 0;           // all payload bytes received from its clients
  uint64_t bytes_down = 0;         // all payload bytes sent to them
  uint64_t duration_ms = 0;        // from the first invitation to the commit
  uint64_t examples = 0;           // sum of the weights: examples trained on
  double loss = 0.0;      // federated evaluation of `model` on held-back local examples: mean loss,
  double accuracy = 0.0;  // and fraction right (0 for squared error)
  uint64_t evaluated = 0;  // examples behind these two; 0: nobody held any back
  uint32_t cohorts = 1;    // that ran side by side
  // How many cohorts have their sum in the model: of those, and with server.buffered_sums of
  // earlier rounds'.
  uint32_t cohorts_committed = 0;
  Digest answers{};  // of analytics: content hash of the cells of all queries; else zeros
};

// Proof that an identity signed two different answers in one step of one session, which nobody does
// who follows the protocol. Both signatures verify under the identity, over messages that differ.
struct Evidence {
  struct Statement {
    Digest message{};  // as it was signed
    Signature signature{};
  };
  uint64_t round = 0;
  uint32_t cohort = 0;  // of the round, from 1
  PublicKey identity{};
  Statement first;
  Statement second;
};

struct TaskRecord {
  TaskId id{};
  std::string name;
  Bytes spec;      // the task's bytes as signed
  Digest model{};  // content hash of the current model, as it is published
  uint64_t rounds_begun = 0;
  uint64_t rounds_committed = 0;
  Digest server_state{};  // content hash of the server optimiser's state; zeros while it has none
};

// One atomic step on the store; valid only inside RunTransaction's function. Thread-compatible.
class Transaction {
 public:
  virtual ~Transaction() = default;
  virtual Result<std::optional<TaskRecord>> FindTask(const TaskId& id) = 0;
  virtual Status PutTask(const TaskRecord& task) = 0;                         // inserts or replaces
  virtual Status PutRound(const TaskId& task, const RoundReport& round) = 0;  // inserts or replaces
  // Rounds numbered `first` and up, ascending, at most `count`.
  virtual Result<std::vector<RoundReport>> Rounds(const TaskId& task, uint64_t first,
                                                  uint32_t count) = 0;
  // One for each identity, cohort and round; present already: no effect.
  virtual Status PutEvidence(const TaskId& task, const Evidence& evidence) = 0;
  // The latest `count`, by descending round, then ascending cohort and identity.
  virtual Result<std::vector<Evidence>> ListEvidence(const TaskId& task, uint32_t count) = 0;
  // A model, or anything else that is named by its content. Present already: no effect.
  virtual Status PutModel(const Digest& hash, BytesView bytes) = 0;
  // kNotFound; kDataLoss when the content does not hash to it.
  virtual Result<Bytes> GetModel(const Digest& hash) = 0;
  virtual Status DropModel(const Digest& hash) = 0;  // absent: no effect
};

// Thread-safe: transactions run one after the other.
class Store {
 public:
  virtual ~Store() = default;
  // Runs `function`; commits durably when it returns ok, else rolls back and returns its status.
  // `name` labels metrics and errors. kResourceExhausted: the disk is full. The function may run
  // again after a conflict.
  virtual Status RunTransaction(std::string_view name,
                                const std::function<Status(Transaction&)>& function) = 0;
};

// A store in the SQLite file `path`, made when absent. kFailedPrecondition: written by a newer
// version, or in use by another coordinator; kDataLoss: not a database; kUnavailable: cannot be
// opened, with the reason.
Result<std::unique_ptr<Store>> NewSqliteStore(const std::string& path);

// A store that dies with the process, for tests and examples.
std::unique_ptr<Store> NewMemoryStore();

}  // namespace chorus
