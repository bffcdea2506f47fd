// The coordinator's core as a machine over its phases. core.cc answers calls, course.cc runs
// rounds.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <variant>
#include <vector>

#include "coordinator/cohorts.h"
#include "coordinator/committee.h"
#include "coordinator/core.h"
#include "coordinator/events.h"
#include "coordinator/outcome.h"
#include "coordinator/party.h"
#include "coordinator/standing.h"
#include "coordinator/task_state.h"
#include "wire/wire.h"

namespace chorus::coordinator {

// What a core is made from, once checked and loaded.
struct Parts {
  BytesView signing_seed;
  Executor* executor = nullptr;
  TaskSpec task;
  std::optional<uint64_t> experiment_seed;
  TaskState state;
  Store* store = nullptr;
  const IdentityVerifier* verifier = nullptr;
  const Clock* clock = nullptr;
  Rng* rng = nullptr;
  LogSink* log = nullptr;
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
  Time began{};
  std::vector<Dismissed> dismissed;  // who waits to hear how it ended
  std::optional<Results> results;    // of a round that committed
  std::vector<Evidence> evidence;    // against clients
  Time retry_at{};
};
struct Complete {};

class CoordinatorCore final : public Core {
 public:
  explicit CoordinatorCore(Parts parts);

  void Handle(std::string_view method, BytesView request, Reply reply) override;
  void Tick() override;
  Time NextTick() const override;
  std::vector<CoordinatorEvent> TakeEvents() override { return events_.Take(); }
  Weights weights() const override;
  std::vector<int64_t> answers() const override { return parts_.state.cells; }

 private:
  Result<Bytes> Challenge(BytesView request, Time now);
  Result<Bytes> CheckIn(BytesView request, Time now);
  void Next(BytesView request, Time now, Reply reply);
  Result<Bytes> Download(BytesView request, Time now);
  Result<Bytes> TakeUpload(BytesView request, Time now);
  Result<Bytes> GetStatus(BytesView request, Time now);
  Result<Party*> PartyOf(const wire::SessionToken& session, Time now);
  Result<Bytes> TakeAbort(Party& party, const wire::UploadRequest& request, Time now);
  Status Judge(Party& party, Time now);
  Result<Bytes> QuestionBody(PartyId to);

  void LookSoon(Time now);
  void Look(Gathering& gathering, Time now);
  CohortSpec FreeCohorts() const;
  void Begin(std::vector<uint32_t> sizes, const Invited& invited, Time now);
  Status NoteBegun(const TaskRecord& begun, const RoundReport& report);
  void Invite(const Running& running);
  Running* RunOf(PartyId party);
  void LeaveRun(Party& party, Time now);
  void Progress(Time now);
  void Advance(Running& running, Time now);
  void EndLate(Time now);
  void Deliver(Running& running, Time now);
  void TellDismissed(const std::vector<Dismissed>& dismissed, const RoundReport& report, Time now);
  void Conclude(Running& running, Time now);
  Result<NextModel> OutcomeOf(const Running& running, RoundReport& report);
  void Record(Recording& recording, Time now);
  void Settle(Recording& recording, Time now);

  TaskRecord& record() { return parts_.state.record; }
  bool buffered() const { return parts_.task.server.buffered_sums > 0; }

  Parts parts_;
  Signature task_signature_{};
  Committee committee_;
  Standing standing_{limits::kBlamedIdentitiesMax};
  aggregation::SeenKeys seen_keys_{limits::kSeenKeysMax};
  Parties parties_;
  Time last_look_{};
  uint32_t aborts_in_a_row_ = 0;
  Events events_;
  std::variant<Gathering, Running, Recording, Complete> phase_;
  CohortSums sums_;              // that wait for the end of a round
  std::vector<Running> late_;    // cohorts of rounds that have ended without them, oldest first
  std::vector<Evidence> found_;  // against clients, since a round was recorded last
};

}  // namespace chorus::coordinator
