// Where a coordinator keeps what must outlive it: results, never half-states. A crash loses the
// round in flight and nothing else.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "chorus/bytes.h"
#include "chorus/host.h"
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
  uint64_t duration_ms = 0;        // from the first invitation to the last sum
  uint64_t examples = 0;           // sum of the weights: examples trained on
  double loss = 0.0;      // federated evaluation of `model` on held-back local examples: mean loss,
  double accuracy = 0.0;  // and fraction right (0 for squared error)
  uint64_t evaluated = 0;  // examples behind these two; 0: nobody held any back
  uint32_t cohorts = 1;    // that ran side by side
  // How many cohorts have their sum in the model: of those, and with server.buffered_sums of
  // earlier rounds'.
  uint32_t cohorts_committed = 0;
  Digest answers{};  // of analytics: content hash of the cells of all queries; else zeros
  Digest result{};   // content hash of the model that it made; zeros when it made none
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

// What an operator wants of a task.
enum class TaskMode : uint8_t {
  kRunning = 0,
  kPaused = 1,   // no round begins; the one in flight ends as it would
  kStopped = 2,  // for good
};

struct TaskRecord {
  TaskId id{};
  std::string name;
  Bytes spec;      // the task's bytes as signed
  Digest model{};  // content hash of the current model, as it is published
  uint64_t rounds_begun = 0;
  uint64_t rounds_committed = 0;
  Digest server_state{};  // content hash of the server optimiser's state; zeros while it has none
  TaskMode mode = TaskMode::kRunning;
  uint32_t priority = 1;  // its share of the clients that serve any task, beside other tasks'
};

// A process that serves from the store.
struct ProcessRecord {
  std::string name;     // unique for each start of a process
  std::string address;  // where clients reach it; empty: not said
  Time seen{};          // the store's time of its last sign of life
};

enum class CohortState : uint8_t { kOpen = 0, kSummed = 1, kFailed = 2 };

// A cohort of an open round where several processes share a store. Gone once the round is recorded.
struct CohortRecord {
  uint64_t round = 0;
  uint32_t cohort = 0;  // of the round, from 1
  std::string process;  // that owns it
  Time lease_until{};   // the store's time: a cohort still open then has died with its process
  CohortState state = CohortState::kOpen;
  Bytes report;  // once it has ended: what it says into the round's report, and why it failed
  Digest sum{};  // kSummed: content hash of its sum, kept as models are
};

// What an operator did to a task. The first of a task is number 1; none is ever changed or dropped.
struct AuditEntry {
  enum class Action : uint8_t {
    kCreated = 0,
    kPaused = 1,
    kResumed = 2,
    kStopped = 3,
    kRolledBack = 4,
    kPriority = 5,
    kPausedNow = 6,  // and the round in flight was aborted
  };
  uint64_t number = 0;  // of the task's entries, from 1
  int64_t unix_seconds = 0;
  Action action = Action::kCreated;
  PublicKey actor{};      // the operator's, or the coordinator's where its host acted
  uint64_t round = 0;     // kRolledBack: whose model is current again; else 0
  Digest model{};         // kRolledBack: that model; else zeros
  uint32_t priority = 0;  // kCreated and kPriority: the task's from then on; else 0
  std::string reason;     // the actor's words
  Digest previous{};      // AuditHash of the entry before; zeros for the first
  Signature signature{};  // by the actor, over AuditWords (chorus/audit.h)
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
  // Of the models that the task's committed rounds made and the one that it began with, those go
  // that are older than the latest `kept` (at least 1), unless something else names them: a task's
  // record, another task's round, answers, an open cohort's sum.
  virtual Status DropOldModels(const TaskId& task, uint32_t kept) = 0;

  virtual Result<std::vector<TaskRecord>> Tasks() = 0;  // by name, then by id
  // The latest `count` rounds, descending.
  virtual Result<std::vector<RoundReport>> LatestRounds(const TaskId& task, uint32_t count) = 0;
  // Rounds numbered below `first` are forgotten, but for those that made a model which is still
  // there; and the evidence of all of them, and answers that only they name.
  virtual Status DropRounds(const TaskId& task, uint64_t first) = 0;

  // Entries go in by ascending number without a gap, else kFailedPrecondition; and never out.
  virtual Status PutAudit(const TaskId& task, const AuditEntry& entry) = 0;
  // The latest `count`, descending.
  virtual Result<std::vector<AuditEntry>> ListAudit(const TaskId& task, uint32_t count) = 0;
  // Those numbered `first` and up, ascending, at most `count`.
  virtual Result<std::vector<AuditEntry>> AuditFrom(const TaskId& task, uint64_t first,
                                                    uint32_t count) = 0;

  // Time that all who use the store agree on, for leases: milliseconds since an arbitrary start. It
  // may go back by as much as the clock of the store's machine does.
  virtual Result<Time> Now() = 0;
  virtual Status PutProcess(const ProcessRecord& process) = 0;  // inserts or replaces
  virtual Result<std::vector<ProcessRecord>> Processes() = 0;   // by name
  virtual Status DropProcess(const std::string& name) = 0;      // absent: no effect
  virtual Status PutCohort(const TaskId& task, const CohortRecord& cohort) = 0;  // or replaces
  virtual Result<std::vector<CohortRecord>> CohortsOf(const TaskId& task, uint64_t round) = 0;
  // Takes for the cohort those of `identities` that no cohort of the round has taken, itself
  // included: they are returned, in the order given. So nobody is in two cohorts of one round, in
  // whichever process.
  virtual Result<std::vector<PublicKey>> ClaimIdentities(const TaskId& task, uint64_t round,
                                                         uint32_t cohort,
                                                         std::span<const PublicKey> identities) = 0;
  // The round's cohorts and claims go; sums are models, and dropped as such.
  virtual Status DropCohorts(const TaskId& task, uint64_t round) = 0;
};

// Thread-safe: transactions run one after the other.
class Store {
 public:
  virtual ~Store() = default;
  // Runs `function`; commits durably when it returns ok, else rolls back and returns its status.
  // `name` labels metrics and errors. kResourceExhausted: the disk is full. kUnavailable: the store
  // cannot be reached or is too busy, and whether the transaction was done may be unknown: run it
  // again. The function may run again after a conflict, so it sets anew whatever it fills.
  virtual Status RunTransaction(std::string_view name,
                                const std::function<Status(Transaction&)>& function) = 0;
  // Whether other processes may be using it too.
  virtual bool shared() const = 0;
};

// A store in the SQLite file `path`, made when absent; `path`-lock beside it keeps a second
// coordinator out. kFailedPrecondition: written by a newer version, or in use by another
// coordinator; kDataLoss: not a database; kUnavailable: cannot be opened, with the reason.
Result<std::unique_ptr<Store>> NewSqliteStore(const std::string& path);
// Copies the store in the SQLite file `path` to the file `to`, as it is at one moment, also while a
// coordinator has it open; and checks the copy. The same puts a copy back where there is no store.
// kAlreadyExists: `to` is there; kFailedPrecondition: not a store; kDataLoss: damaged.
Status BackUpSqliteStore(const std::string& path, const std::string& to);

struct PostgresOptions {
  std::string connection;         // libpq's: a URI (postgresql://...) or keywords and values
  std::string schema = "chorus";  // made when absent
};
// A store in a PostgreSQL database (15 or later), or any engine that speaks its protocol with
// serialisable transactions. Thread-safe; any number of processes may use it at once. A
// serialisation failure or a deadlock runs the function again; a lost connection is opened again,
// and when it broke within a commit the store finds out whether that was done.
//   kUnavailable: no such server, or it refuses; kFailedPrecondition: written by a newer version.
Result<std::unique_ptr<Store>> NewPostgresStore(const PostgresOptions& options);

// A store that dies with the process, for tests and examples.
std::unique_ptr<Store> NewMemoryStore();

struct MemoryStoreOptions {
  const Clock* clock = nullptr;  // what Now() tells; must outlive the store; null: the system's
  bool shared = false;           // several coordinators of this process use it
};
std::unique_ptr<Store> NewMemoryStore(const MemoryStoreOptions& options);

}  // namespace chorus
