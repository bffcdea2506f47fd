// In front of the cores of a coordinator's tasks: which call is whose, and which client whose.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "coordinator/allotment.h"
#include "coordinator/core.h"
#include "coordinator/incoming.h"
#include "coordinator/machine.h"
#include "coordinator/sessions.h"

namespace chorus::coordinator {

struct RouterOptions {
  BytesView signing_seed;        // must outlive the router
  Executor* executor = nullptr;  // likewise; see CoreOptions
  std::vector<HostedTask> tasks;
  bool stored_tasks = false;  // see CoordinatorOptions, as the next
  std::vector<PublicKey> operators;
  Retention retention;         // of every task
  std::string advertise = {};  // see CoordinatorOptions
  AdmissionOptions admission = {.identity = {}, .subject = {}, .address = {}};
  PacingOptions pacing = {.connected_max = 0};
};

// Thread-compatible: one thread owns it. The tasks' cores are pure machines, and so is this.
class Router {
 public:
  // See Coordinator::Start for errors. References must outlive the router.
  static Result<std::unique_ptr<Router>> Create(RouterOptions options, Store& store,
                                                const IdentityVerifier& verifier,
                                                const Clock& clock, Rng& rng, LogSink& log);
  ~Router();
  Router(const Router&) = delete;
  Router& operator=(const Router&) = delete;

  // As a Core's.
  void Handle(std::string_view method, Body request, Reply reply);
  // A call of Upload that has been read.
  void TakeUpload(UploadCall call, Reply reply);
  // Hashes what these calls, which wait to be taken, bring to their answers: side by side that
  // takes less time than when each is taken. Changes nothing but the calls.
  void HashAhead(std::span<UploadCall* const> calls) const;
  // As a Core's: the door, and who was vetted there.
  std::shared_ptr<Admission> admission() { return sessions_.admission(); }  // NOLINT(tidy): core.h.
  void Admit(Vetted vetted, Reply reply);
  void Tick();
  Time NextTick() const;
  // The thread that owns the router did something since `began`, a call or what else, and heard
  // nobody meanwhile. What took long is not to cost the clients of any task their time; Tick sees
  // to that itself.
  void EndTurn(Time began);
  std::vector<CoordinatorEvent> TakeEvents();

  // See Coordinator::AddTask.
  Status AddTask(HostedTask task);
  // The host's order: see CoordinatorCore::Control. kNotFound: no such task.
  Status Control(std::string_view task, const AuditEntry& entry);
  // Null when there is no task of this name.
  CoordinatorCore* Find(std::string_view task);
  std::vector<CoordinatorCore*> cores() const;
  const Allotment& allotment() const { return allotment_; }

 private:
  struct Parts {
    BytesView signing_seed;
    Executor* executor = nullptr;
    std::vector<PublicKey> operators;
    Retention retention;
    Store* store = nullptr;
    const IdentityVerifier* verifier = nullptr;
    const Clock* clock = nullptr;
    Rng* rng = nullptr;
    LogSink* log = nullptr;
    std::string process;
    std::string address;
    AdmissionOptions admission = {.identity = {}, .subject = {}, .address = {}};
    PacingOptions pacing = {.connected_max = 0};
  };
  explicit Router(Parts parts);

  Status AddStored();
  Status Add(HostedTask task, std::optional<AuditEntry> created);
  Result<Bytes> Control(BytesView request, Time now);
  Status CheckOrder(const AuditEntry& entry) const;
  Status AddSigned(const wire::ControlRequest& asked);
  Result<Bytes> GetAudit(BytesView request);
  Result<Bytes> Challenge(BytesView request, Time now);
  void CheckIn(Vetted vetted, Time now, Reply reply);
  Result<TaskMask> Serves(const wire::CheckInRequest& asked) const;
  Result<Bytes> GetStatus(BytesView request, Time now);
  CoordinatorCore* CoreOf(const wire::SessionToken& session) const;
  void TellResting();
  Time NextAllotment() const;

  const Parts parts_;
  Sessions sessions_;
  std::vector<std::unique_ptr<CoordinatorCore>> cores_;  // by place
  std::vector<CoordinatorCore*> views_;                  // of the same
  Allotment allotment_;
  TaskMask resting_ = 0;  // tasks over or paused, as last told to waiting clients
  bool changed_ = false;  // somebody called since the last allotment
  Time allotted_at_{};
};

}  // namespace chorus::coordinator
