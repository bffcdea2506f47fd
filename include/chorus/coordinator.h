// The coordinator: publishes tasks, runs their rounds with whatever clients call, and keeps the
// results.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "chorus/bytes.h"
#include "chorus/host.h"
#include "chorus/model.h"
#include "chorus/status.h"
#include "chorus/store.h"
#include "chorus/task.h"

namespace chorus {

// Who may wait connected, and when the others come back. A client for whom there is no place hangs
// up and costs the coordinator nothing until its turn: turns follow each other evenly, so that a
// million clients are no crowd, and neither is a restart.
struct PacingOptions {
  // Clients that wait connected between rounds; or twice as many as a round takes, if that is more.
  // 0: all of them.
  uint32_t connected_max = 2'000;
  // How many of those that hung up come back in a second. A check-in costs about a millisecond of a
  // core with TLS.
  uint32_t returns_per_second = 250;
  // How many clients there are, if known: then a restart sends nobody into the turns that an
  // earlier process has given. 0: unknown.
  uint64_t population = 0;
};

// How often one caller may ask, as a rate and a burst. A call beyond it is refused with
// kResourceExhausted and the time after which it would not be.
struct RateLimit {
  double per_second = 0;  // 0: no limit
  uint32_t burst = 1;
};

struct AdmissionOptions {
  // Asks for a session token of the game's own login with each check-in; null: asks for none. Must
  // outlive the coordinator.
  const TokenVerifier* tokens = nullptr;
  RateLimit identity{.per_second = 0.5, .burst = 10};  // check-ins of one identity key
  RateLimit subject{.per_second = 0.5, .burst = 10};   // of one "sub", with tokens
  // Calls without a session from one address, of which a status, an audit or an order counts as
  // ten: a school or a provider may be behind it. Turn it off behind a proxy, which makes all
  // clients one address.
  RateLimit address{.per_second = 200, .burst = 4'000};
};

// A task as a coordinator is given it.
struct HostedTask {
  TaskSpec task;
  std::optional<Weights> initial_weights =
      std::nullopt;  // [dim] of task.model; absent: drawn from `experiment_seed` or the system
  // Makes an experiment repeatable: governs the first weights and the selection of clients. Never
  // keys or masks. With several tasks, which task a client serves depends on when it calls.
  std::optional<uint64_t> experiment_seed = std::nullopt;
  // Its share of the clients that serve any task, beside the other tasks': 1 to 1,000. Of a task
  // that the store has already, the stored one counts.
  uint32_t priority = 1;
};

// What of a task's past its store keeps. What is still named stays: a task's current model, answers
// of rounds that are kept, sums of open cohorts.
struct Retention {
  uint32_t models_kept = 10;      // made by the latest committed rounds; 0: all
  uint64_t rounds_kept = 10'000;  // the latest, and those whose model is kept; 0: all
};

struct CoordinatorOptions {
  std::string listen =
      "127.0.0.1:7447";  // host:port; port 0 takes a free one, see Coordinator::port()
  // TLS certificate chain and private key, PEM. Both empty only together with plaintext = true.
  std::string tls_certificate_pem;
  std::string tls_key_pem;
  bool plaintext =
      false;  // serve without TLS. Only behind something that already encrypts, or in tests.
  // The certificate authority, PEM, of the certificates that clients must show in the TLS handshake
  // (mutual TLS): a first gate, before the identity. Empty: clients show none.
  std::string client_ca_pem;
  SecretBytes
      signing_seed;  // the coordinator's Ed25519 seed (32 bytes); clients pin its public key
  // Names must differ. None: a coordinator that waits for AddTask, or for an operator to add one.
  std::vector<HostedTask> tasks;
  Retention retention;  // applied with every round that is recorded
  // Where clients reach this coordinator, shown to people beside those that share its store. No
  // other's: a start ends the cohorts that an earlier one left at the same address. May be empty.
  std::string advertise;
  // false: no thread answers requests; the host calls Tick in its own loop.
  bool own_thread = true;
  AdmissionOptions admission = {};
  PacingOptions pacing = {};  // an experiment's clients all wait connected, whatever this says
  // HOST:PORT of a plain HTTP listener with metrics for Prometheus (/metrics), a check of health
  // (/healthz) and a page for people (/). Empty: none. Without a host it is on loopback only; it
  // knows no users, so put a proxy that does before it where others can reach it.
  std::string web_listen;
  bool reflection = false;  // whether the gRPC server tells callers its schema
  // Serves those of the store's tasks too that are not among `tasks`: what was added while an
  // earlier coordinator ran.
  bool stored_tasks = false;
  // Who may pause, resume, stop, roll back and add tasks over the network; none: nobody.
  std::vector<PublicKey> operators;
};

// What the coordinator chose for a round, within the task's bounds (TaskSpec::adapt).
struct RoundTempo {
  bool fitted = false;   // deadlines follow the answers seen so far; else they are the task's
  bool patient = false;  // the task's, and nothing closes earlier: for clients that are always slow
  uint32_t expected = 0;  // contributions, of those invited, at the rate of dropouts seen so far
  // Of each step, training first; an upload may take longer, by its size, unless `fitted`.
  std::vector<uint32_t> deadlines_ms = {};
  uint64_t gathered_ms = 0;  // how long enough clients for a small round have waited for it
};

// What happened since the last Poll.
struct CoordinatorEvent {
  enum class Kind : uint8_t {
    kRoundBegan,
    kStepClosed,
    kRoundEnded,
    kTaskComplete,  // or stopped
    kTrouble,
    kTaskChanged,  // somebody paused, resumed or stopped it, rolled it back or changed its priority
  };
  Kind kind = Kind::kRoundBegan;
  std::string task;       // its name
  RoundReport round;      // as far as it is known; for kRoundEnded, final
  RoundTempo tempo;       // kRoundBegan
  std::string step;       // kStepClosed: which
  uint32_t cohort = 0;    // kStepClosed: in which cohort of the round, from 1
  uint32_t answered = 0;  // kStepClosed: of how many
  uint32_t asked = 0;
  TaskMode mode = TaskMode::kRunning;  // kTaskChanged: afterwards
  Status trouble;  // kTrouble: what keeps the coordinator from going on, for example a full disk;
                   // it retries
};

// What a host does to a task, and says why; the audit names the coordinator's key as the actor.
struct TaskChange {
  std::string task;          // its name
  std::string reason;        // for people who read the audit: at most 500 bytes
  bool abort_round = false;  // of Pause: the round in flight ends at once, without a sum
};

// A task's model and what it came of.
struct ServedModel {
  Weights weights;                // [dim] of task.model
  uint64_t rounds_committed = 0;  // in all, before restarts too
};

// Runs tasks over gRPC, side by side. Thread-safe. Owns its threads; the host's callbacks are never
// called: it polls.
class Coordinator {
 public:
  // Loads the tasks' states from `store`, or creates them, then listens. A round that was open when
  // the last coordinator died is marked aborted, and the next begins from the last model. In a
  // store that is shared others go on with it, or conclude it when its leases end.
  //   kInvalidArgument: a task cannot work (impossible cohort, a width that could wrap, wrong
  //   weights); the message names the field. kFailedPrecondition: the stored task of this name has
  //   another specification, or it has server.buffered_sums and the store is shared. kUnavailable:
  //   the port is in use.
  // `store`, `verifier`, `clock` and `log` must outlive the coordinator.
  // What a host with many clients does before gRPC first runs, as the tool `chorus` does:
  //   - sets GRPC_EXPERIMENTS=-tcp_read_chunks in its environment. Without it gRPC 1.51 keeps up to
  //     a megabyte for every connection that an update has come in by.
  //   - absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore): distributions build
  //     Abseil with its search for deadlocks, which every lock of gRPC pays for.
  //   - on glibc, mallopt(M_ARENA_MAX, 4), which saves some more memory.
  //   - on Linux, if the process does nothing else, sched_setscheduler(0, SCHED_BATCH, ...): its
  //     threads then do not interrupt each other, nor a game beside it, whenever one has something
  //     to do, but take their turns.
  static Result<std::unique_ptr<Coordinator>> Start(CoordinatorOptions options, Store& store,
                                                    const IdentityVerifier& verifier,
                                                    const Clock& clock, LogSink& log);
  // Stops listening, aborts the round in flight, joins. Nothing committed is lost.
  ~Coordinator();
  Coordinator(const Coordinator&) = delete;
  Coordinator& operator=(const Coordinator&) = delete;

  int port() const;
  int web_port() const;  // of web_listen; 0 without
  // What /metrics serves, for hosts that have a listener of their own: Prometheus's text format
  // 0.0.4. Counts, sizes and times; nothing of a single client. Waits for the coordinator's thread
  // for a second at most, and then tells its status of before; without a thread of its own
  // (own_thread) it does not wait, and tells the gauges of tasks that the page asked for last.
  std::string Metrics() const;
  // Without a thread of its own: answers requests on the calling thread and does what is due,
  // until nothing is left or `budget` is over. What was begun is finished, which takes longer only
  // where a step of a large cohort closes. kFailedPrecondition: this coordinator has its own
  // thread, or another thread is in this call.
  Status Tick(std::chrono::microseconds budget);
  // Events in order, at once or after at most `wait`. At most limits' kEventsMax are kept; then the
  // oldest go.
  std::vector<CoordinatorEvent> Poll(std::chrono::milliseconds wait);
  // The task's current model: [dim] of task.model; none of an unknown task.
  Weights CurrentWeights(std::string_view task) const;
  // The same, with how many rounds had committed by then; none and 0 of an unknown task.
  ServedModel CurrentModel(std::string_view task) const;
  // Of analytics: the exact cells of the last round that committed, for ReadAnswers of
  // chorus/analytics.h; none before the first.
  std::vector<int64_t> CurrentAnswers(std::string_view task) const;

  // Serves one more task, as Start does those of its options. kAlreadyExists: it does so already;
  // kResourceExhausted: there are as many as there may be.
  Status AddTask(HostedTask task);

  // What follows is durable, and in the task's audit, when it returns ok. kNotFound: no such task;
  // kFailedPrecondition: it is stopped, or complete; else the store's failure, and nothing has
  // changed.
  //
  // No round begins any more; the one in flight ends as it would. Clients come back later.
  Status Pause(const TaskChange& change);
  Status Resume(const TaskChange& change);
  // For good: the round in flight is aborted, clients hear that the task is complete.
  Status Stop(const TaskChange& change);
  // Makes the model current that `round` made. The round in flight is aborted first; the server
  // optimiser's state begins anew; round numbers and the count of committed rounds go on.
  //   kNotFound: the round made no model, or it is not kept any more (see retention).
  Status RollBack(const TaskChange& change, uint64_t round);
  // kInvalidArgument: not 1 to 1,000.
  Status SetPriority(const TaskChange& change, uint32_t priority);

 private:
  struct Inside;
  explicit Coordinator(std::unique_ptr<Inside> inside);
  std::unique_ptr<Inside> inside_;
};

// Checks a task as Start does, without starting anything: for tools, and for hosts before they
// publish.
Status ValidateTask(const TaskSpec& task);

}  // namespace chorus
