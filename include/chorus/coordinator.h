// The coordinator: publishes a task, runs its rounds with whatever clients call, and keeps the
// results.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "chorus/bytes.h"
#include "chorus/host.h"
#include "chorus/model.h"
#include "chorus/status.h"
#include "chorus/store.h"
#include "chorus/task.h"

namespace chorus {

struct CoordinatorOptions {
  std::string listen =
      "127.0.0.1:7447";  // host:port; port 0 takes a free one, see Coordinator::port()
  // TLS certificate chain and private key, PEM. Both empty only together with plaintext = true.
  std::string tls_certificate_pem;
  std::string tls_key_pem;
  bool plaintext =
      false;  // serve without TLS. Only behind something that already encrypts, or in tests.
  SecretBytes
      signing_seed;  // the coordinator's Ed25519 seed (32 bytes); clients pin its public key
  TaskSpec task;
  std::optional<Weights>
      initial_weights;  // [dim] of task.model; absent: drawn from `experiment_seed` or the system
  // Makes an experiment repeatable: governs the first weights and the selection of clients. Never
  // keys or masks.
  std::optional<uint64_t> experiment_seed;
};

// What happened since the last Poll.
struct CoordinatorEvent {
  enum class Kind : uint8_t { kRoundBegan, kStepClosed, kRoundEnded, kTaskComplete, kTrouble };
  Kind kind = Kind::kRoundBegan;
  RoundReport round;      // as far as it is known; for kRoundEnded, final
  std::string step;       // kStepClosed: which
  uint32_t cohort = 0;    // kStepClosed: in which cohort of the round, from 1
  uint32_t answered = 0;  // kStepClosed: of how many
  uint32_t asked = 0;
  Status trouble;  // kTrouble: what keeps the coordinator from going on, for example a full disk;
                   // it retries
};

// Runs one task over gRPC. Thread-safe. Owns its threads; the host's callbacks are never called: it
// polls.
class Coordinator {
 public:
  // Loads the task's state from `store`, or creates it, then listens. A round that was open when
  // the last coordinator died is marked aborted, and the next begins from the last model.
  //   kInvalidArgument: the task cannot work (impossible cohort, a width that could wrap, wrong
  //   weights); the message names the field. kFailedPrecondition: the stored task of this name has
  //   another specification. kUnavailable: the port is in use.
  // `store`, `verifier`, `clock` and `log` must outlive the coordinator.
  static Result<std::unique_ptr<Coordinator>> Start(CoordinatorOptions options, Store& store,
                                                    const IdentityVerifier& verifier,
                                                    const Clock& clock, LogSink& log);
  // Stops listening, aborts the round in flight, joins. Nothing committed is lost.
  ~Coordinator();
  Coordinator(const Coordinator&) = delete;
  Coordinator& operator=(const Coordinator&) = delete;

  int port() const;
  // Events in order, at once or after at most `wait`. At most limits' kEventsMax are kept; then the
  // oldest go.
  std::vector<CoordinatorEvent> Poll(std::chrono::milliseconds wait);
  // The current model: [dim] of task.model.
  Weights CurrentWeights() const;
  // Of analytics: the exact cells of the last round that committed, for ReadAnswers of
  // chorus/analytics.h; none before the first.
  std::vector<int64_t> CurrentAnswers() const;

 private:
  struct Inside;
  explicit Coordinator(std::unique_ptr<Inside> inside);
  std::unique_ptr<Inside> inside_;
};

// Checks a task as Start does, without starting anything: for tools, and for hosts before they
// publish.
Status ValidateTask(const TaskSpec& task);

}  // namespace chorus
