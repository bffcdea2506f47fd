// The coordinator's core as a machine over its phases. core.cc answers calls, course.cc runs
// rounds.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "coordinator/cohorts.h"
#include "coordinator/committee.h"
#include "coordinator/core.h"
#include "coordinator/events.h"
#include "coordinator/incoming.h"
#include "coordinator/outcome.h"
#include "coordinator/party.h"
#include "coordinator/sessions.h"
#include "coordinator/shared_task.h"
#include "coordinator/standing.h"
#include "coordinator/task_state.h"
#include "coordinator/tempo.h"
#include "wire/wire.h"

namespace chorus::coordinator {

// What a core is made from, once checked and loaded.
struct Parts {
  BytesView signing_seed;
  Executor* executor = nullptr;
  TaskSpec task;
  Sessions* sessions = nullptr;  // null: the core's own
  uint32_t place = 0;
  std::optional<uint64_t> experiment_seed;
  Retention retention;
  TaskState state;
  Store* store = nullptr;
  const IdentityVerifier* verifier = nullptr;
  const Clock* clock = nullptr;
  Rng* rng = nullptr;
  LogSink* log = nullptr;
  std::string process = {};
  std::string address = {};
  AdmissionOptions admission = {.identity = {}, .subject = {}, .address = {}};
  PacingOptions pacing = {.connected_max = 0};
};

// The phases of the coordinator.
struct Gathering {
  Time not_before{};  // a pause after an aborted round, or after trouble with the store
  Time look_at{};     // when to look for waiting clients next; max: when somebody calls
  std::optional<Time> minimum_since;  // since when enough are waiting for a small round
};
inline Gathering PauseUntil(Time time) {
  Gathering gathering;
  gathering.not_before = time;
  return gathering;
}

// Cohorts that train, of the round that is open or of an earlier one.
struct Running {
  Cohorts cohorts;
  RoundReport report;
  Time began{};
  std::vector<PartyId> invited;  // clients, and members of the committee
  uint64_t version = 0;          // of the published vector that they train on
  // Of an earlier round, that vector; of the open one it is the state's.
  Weights published = {};
};
// The round is over; its result waits to be durable. Nothing else begins meanwhile.
struct Recording {
  RoundReport report;
  std::vector<Dismissed> dismissed;  // who waits to hear how it ended
  std::optional<Results> results;    // of a round that committed
  std::vector<Evidence> evidence;    // against clients
  Time retry_at{};
  bool of_others = false;  // other processes ran all of it: it tells nothing of the clients here
};
struct Complete {};

// What a task wants of the clients that are free.
struct Need {
  bool open = false;     // it would begin a round now
  uint64_t minimum = 0;  // of clients
  uint64_t wanted = 0;   // that fill all cohorts of its round
};

class CoordinatorCore final : public Core {
 public:
  // As Core::Create.
  static Result<std::unique_ptr<CoordinatorCore>> Make(CoreOptions options, Store& store,
                                                       const IdentityVerifier& verifier,
                                                       const Clock& clock, Rng& rng, LogSink& log);
  explicit CoordinatorCore(Parts parts);
  ~CoordinatorCore() override;

  void Handle(std::string_view method, Body request, Reply reply) override;
  // A call of Upload that has been read.
  void TakeUpload(UploadCall call, Reply reply);
  std::shared_ptr<Admission> admission() override {  // NOLINT(tidy): core.h.
    return parties_.admission();
  }
  void Admit(Vetted vetted, Reply reply) override;
  void Tick() override;
  Time NextTick() const override;
  std::vector<CoordinatorEvent> TakeEvents() override { return events_.Take(); }
  Weights weights() const override;
  std::vector<int64_t> answers() const override { return parts_.state.cells; }

  // For the router of a coordinator of several tasks.
  Parties& parties() { return parties_; }
  const Parties& parties() const { return parties_; }
  const Committee& committee() const { return committee_; }
  const TaskSpec& task() const { return parts_.task; }
  Result<wire::StatusReply> StatusOf(const wire::StatusRequest& asked, Time now);
  Need NeedNow(Time now) const;
  uint32_t priority() const { return parts_.state.record.priority; }
  const Digest& task_sha256() const { return task_sha256_; }
  // Does what `entry` says and makes it durable, or neither: see Coordinator::Pause and its like.
  // An operator's entry is signed, and has been checked but for its place in the audit; kAborted:
  // another has come before. A host's has action, reason and argument only.
  Status Control(const AuditEntry& entry, Time now);
  wire::TaskStatus Summary() const;
  // Neither paused nor over.
  bool goes_on() const { return !std::holds_alternative<Complete>(phase_) && runs(); }
  bool in_round() const { return std::holds_alternative<Running>(phase_) || !late_.empty(); }
  uint64_t clients_invited() const { return clients_invited_; }  // since the core began
  void LookSoon(Time now);
  // The thread that owns the core heard nobody for so long, with this core or another: what of that
  // the open steps have not been given back yet, they are given now.
  void EndTurn(Time took);

 private:
  Result<Bytes> Challenge(BytesView request, Time now);
  Result<Bytes> CheckIn(const Vetted& vetted, Time now);
  void Next(BytesView request, Time now, Reply reply);
  Result<Bytes> Download(BytesView request, Time now);
  void HearUpload(UploadCall& call, Time now, Reply reply);
  Result<Bytes> TakeChunk(Party& party, UploadCall& call, Time now);
  Result<Party*> PartyOf(const wire::SessionToken& session, Time now);
  Result<Bytes> TakeAbort(Party& party, const wire::UploadChunk& request, Time now);
  Status Judge(Party& party, Time now);
  Result<Bytes> QuestionBody(PartyId to);
  std::string Step() const;

  void Look(Gathering& gathering, Time now);
  CohortSpec FreeCohorts(Time now) const;
  bool AllAreHere(size_t waiting, Time now) const;
  void Begin(std::vector<uint32_t> sizes, const Invited& invited, Time now);
  // A round whose number is durable.
  struct Beginning {
    RoundReport report;
    aggregation::SessionParams params;
    std::vector<uint32_t> sizes;
    uint32_t first = 1;  // the first cohort's number
  };
  void Run(Beginning beginning, const Invited& invited, Time now);
  Status CheckPossible(const AuditEntry& entry) const;
  Status PlaceEntry(Transaction& transaction, const AuditEntry& entry) const;
  Status Change(const AuditEntry& entry);
  Status RollBack(const AuditEntry& entry, Time now);
  void ApplyMode(Time now);
  void AbortRound(const Status& why, Time now);
  Status NoteBegun(const TaskRecord& begun, const RoundReport& report);
  void Invite(const Running& running);
  Running* RunOf(PartyId party);
  void LeaveRun(Party& party, Time now);
  void Progress(Time now);
  void Advance(Running& running, Time now);
  void GiveBack(Time by);
  void EndLate(Time now);
  void Deliver(Running& running, Time now);
  void TellDismissed(const std::vector<Dismissed>& dismissed, const RoundReport& report, Time now);
  void Conclude(Running& running, Time now);
  Result<NextModel> OutcomeOf(const Running& running, RoundReport& report);
  void Record(Recording& recording, Time now);
  Time PauseAfter(const RoundReport& report);
  void Settle(Recording& recording, Time now);

  // In a store that is shared (shared_course.cc).
  std::vector<PartyId> Free(Time now);
  bool Enough(size_t waiting, CohortSpec cohort, Time now) const;
  void BeginShared(std::vector<uint32_t> sizes, Invited invited, Time now);
  void ProgressShared(Time now);
  void HandIn(Running& running, Time now);
  void Watch(Time now);
  void SettleEnded(Time now);
  void SettleShared(const RoundReport& report, bool last, Time now);

  TaskRecord& record() { return parts_.state.record; }
  const TaskRecord& record() const { return parts_.state.record; }
  bool runs() const { return parts_.state.record.mode == TaskMode::kRunning; }
  bool over() const {
    return parts_.state.record.rounds_committed >= parts_.task.rounds ||
           parts_.state.record.mode == TaskMode::kStopped;
  }
  bool buffered() const { return parts_.task.server.buffered_sums > 0; }

  Parts parts_;
  Digest task_sha256_{};
  Signature task_signature_{};
  TaskMode applied_mode_ = TaskMode::kRunning;  // what of the record's has had its effects
  Committee committee_;
  Standing standing_{limits::kBlamedIdentitiesMax};
  aggregation::SeenKeys seen_keys_{limits::kSeenKeysMax};
  Parties parties_;
  Tempo tempo_;
  Time last_look_{};
  Time given_back_{};  // to the open steps, in this turn
  uint32_t aborts_in_a_row_ = 0;
  uint64_t clients_invited_ = 0;
  Events events_;
  std::variant<Gathering, Running, Recording, Complete> phase_;
  CohortSums sums_;              // that wait for the end of a round
  std::vector<Running> late_;    // cohorts of rounds that have ended without them, oldest first
  std::vector<Evidence> found_;  // against clients, since a round was recorded last
  std::optional<SharedTask> shared_;  // where other processes may use the store
};

}  // namespace chorus::coordinator
