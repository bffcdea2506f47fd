// Everything the coordinator does, as a function of requests and time: no thread, socket or file of
// its own. The gRPC service and the tests' in-memory transport feed it the same bytes.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/parallel.h"
#include "base/random.h"
#include "chorus/bytes.h"
#include "chorus/coordinator.h"
#include "chorus/host.h"
#include "chorus/status.h"
#include "chorus/store.h"
#include "coordinator/admission.h"
#include "coordinator/body.h"

namespace chorus::coordinator {

class Sessions;

struct CoreOptions {
  BytesView signing_seed;        // must outlive the core
  Executor* executor = nullptr;  // for unmasking; null: on the caller's thread; must outlive it
  TaskSpec task;
  std::optional<Weights> initial_weights;
  std::optional<uint64_t> experiment_seed;
  // Of a task that the store does not have yet: its share of the clients, and the first entry of
  // its audit where an operator adds it; else the coordinator signs that itself.
  uint32_t priority = 1;
  std::optional<AuditEntry> created = std::nullopt;
  Sessions* sessions = nullptr;  // shared with other tasks' cores; null: the core's own
  uint32_t place = 0;            // of the task, among those that share the sessions
  // In a store that is shared: a name that no other start of a process has, drawn when empty; and
  // where clients reach this one, for people to read.
  std::string process = {};
  std::string address = {};
  Retention retention = {};
  AdmissionOptions admission = {.identity = {}, .subject = {}, .address = {}};
  PacingOptions pacing = {.connected_max = 0};
};

// Answers one request; called exactly once, at once or (a parked Next) from a later Handle or Tick.
// Never called after the core is gone: its destructor answers what is parked with kUnavailable.
using Reply = std::function<void(Result<Bytes>)>;

// Thread-compatible: one thread owns it.
class Core {
 public:
  // Loads or creates the task in `store` (see Coordinator::Start for errors). References must
  // outlive the core; `rng` is the system's, or a seeded one in tests (it makes session tokens and
  // nonces).
  static Result<std::unique_ptr<Core>> Create(CoreOptions options, Store& store,
                                              const IdentityVerifier& verifier, const Clock& clock,
                                              Rng& rng, LogSink& log);
  virtual ~Core() = default;

  // One request of `method` (wire.h's names) with its protobuf bytes. Any bytes are fine: a bad
  // request gets an error.
  virtual void Handle(std::string_view method, Body request, Reply reply) = 0;
  // The door: thread-safe and shared, because other threads vet check-ins there beforehand, and may
  // be doing so when the core goes.
  virtual std::shared_ptr<Admission> admission() = 0;  // NOLINT(tidy): as it says.
  // Answers a check-in that was vetted there.
  virtual void Admit(Vetted vetted, Reply reply) = 0;
  // Does what is due by now: deadlines, the next round, parked calls that waited long enough.
  virtual void Tick() = 0;
  // When Tick has something to do next, at the latest.
  virtual Time NextTick() const = 0;

  virtual std::vector<CoordinatorEvent> TakeEvents() = 0;
  virtual Weights weights() const = 0;  // [dim]; none of analytics
  // Of analytics: the exact cells of the last round that committed; none before the first.
  virtual std::vector<int64_t> answers() const = 0;
};

}  // namespace chorus::coordinator
