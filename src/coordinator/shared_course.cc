// The course of a round that several processes share: this one runs cohorts of it, hands their ends
// in, and looks in the store for what the others do.
#include <algorithm>
#include <numeric>
#include <span>
#include <utility>
#include <variant>

#include "coordinator/machine.h"
#include "coordinator/round.h"

namespace chorus::coordinator {

// --- who takes part ---

// Those who are waiting, and are in no cohort of the open round that another process runs.
std::vector<PartyId> CoordinatorCore::Free(Time now) {
  std::vector<PartyId> waiting = parties_.Waiting(now);
  if (!shared_) return waiting;
  std::erase_if(waiting, [this](PartyId id) {
    const Party* const party = parties_.Find(id);
    return party == nullptr || shared_->Claimed(party->identity);
  });
  return waiting;
}

// Whether so many need not wait for more: they fill every cohort, or this process's part of them.
bool CoordinatorCore::Enough(size_t waiting, CohortSpec cohort, Time now) const {
  if (shared_) cohort.parallel = shared_->RoomFor(record(), now).share;
  return waiting >= ClientsWanted(cohort);
}

void CoordinatorCore::BeginShared(std::vector<uint32_t> sizes, Invited invited, Time now) {
  std::vector<std::vector<PublicKey>> members;
  auto next = invited.clients.begin();
  for (const uint32_t size : sizes) {
    std::vector<PublicKey>& cohort = members.emplace_back();
    for (uint32_t i = 0; i < size; ++i) cohort.push_back(parties_.Find(*next++)->identity);
  }
  // Which cannot fail once others have seen cohorts here.
  Result<aggregation::SessionParams> params =
      SessionParamsFor({.task = parts_.task,
                        .task_bytes = record().spec,
                        .weights = parts_.state.server.published,
                        .round = record().rounds_begun + 1});
  if (!params.ok()) {
    events_.Trouble(params.status());
    phase_ = PauseUntil(now + kStoreRetry);
    return;
  }
  Result<std::optional<SharedTask::Opened>> opened = shared_->Open(parts_.state, members, now);
  if (!opened.ok()) {
    events_.Trouble(opened.status());
    phase_ = PauseUntil(parts_.clock->Now() + kStoreRetry);
    return;
  }
  events_.TroubleHasPassed();
  if (!opened->has_value()) return;  // the look that follows tells what has changed
  SharedTask::Opened& begun = **opened;
  record().rounds_begun = begun.report.round;
  params->round = begun.report.round;
  sizes.resize(begun.cohorts);
  invited.clients.resize(std::accumulate(sizes.begin(), sizes.end(), size_t{0}));
  Run({.report = std::move(begun.report),
       .params = *std::move(params),
       .sizes = std::move(sizes),
       .first = begun.first},
      invited, now);
}

// --- the course of a round ---

void CoordinatorCore::ProgressShared(Time now) {
  auto* const running = std::get_if<Running>(&phase_);
  if (running == nullptr) return;
  const bool opens = parts_.task.protocol != Protocol::kPlain && running->cohorts.OpensBy(now);
  if (opens) shared_->ExtendLeases(now);
  Advance(*running, now);
  GiveBack(parts_.clock->Now() - now);
  Deliver(*running, now);
  HandIn(*running, now);
  TellDismissed(running->cohorts.DismissFailed(), running->report, now);
}

// A sum counts once it is in the store, and its clients hear of it when the round is over.
void CoordinatorCore::HandIn(Running& running, Time now) {
  for (EndedCohort& ended : running.cohorts.TakeEnded()) {
    // Bytes are counted by session; what came since the last end goes with this one.
    const Traffic traffic = parties_.TakeTraffic();
    CohortEnd end{
        .cohort = ended.number, .sum = std::move(ended.sum), .report = {}, .evidence = {}};
    end.report.invited = ended.invited;
    end.report.refused = ended.declined;
    end.report.dropouts = std::move(ended.dropouts);
    end.report.bytes_up = traffic.up;
    end.report.bytes_down = traffic.down;
    const auto of_others = std::partition(
        found_.begin(), found_.end(),
        [&ended](const Evidence& evidence) { return evidence.cohort != ended.number; });
    end.evidence.assign(of_others, found_.end());
    found_.erase(of_others, found_.end());
    const Status verdict = shared_->End(std::move(end));
    if (!verdict.ok()) running.cohorts.Refuse(ended.number, verdict);
  }
  if (now < shared_->next_hand_in()) return;
  for (const auto& [cohort, why] : shared_->HandIn(now)) running.cohorts.Refuse(cohort, why);
  if (!shared_->trouble().ok()) events_.Trouble(shared_->trouble());
}

// --- what the others do ---

void CoordinatorCore::Watch(Time now) {
  const bool look = now >= shared_->next_look();
  const Digest model = record().model;
  const uint64_t committed = record().rounds_committed;
  const Status looked = look ? shared_->Look(parts_.state, now) : OkStatus();
  if (!looked.ok()) events_.Trouble(looked);
  if (auto* running = std::get_if<Running>(&phase_);
      running != nullptr && now >= shared_->lost_at()) {
    const Status lost = Unavailable(
        "this client's cohort was given up: its coordinator is out of touch with the store");
    running->cohorts.Abandon(lost);
    // A look that succeeds ends in the store what is not known here any more.
    static_cast<void>(running->cohorts.TakeEnded());
    for (const uint32_t cohort : shared_->GiveUp()) running->cohorts.Refuse(cohort, lost);
    TellDismissed(running->cohorts.DismissFailed(), running->report, now);
  }
  if (!look || !looked.ok()) return;
  const bool rolled_back = record().model != model && record().rounds_committed == committed;
  if (rolled_back) events_.TaskChanged(record().mode);
  SettleEnded(now);
  if (shared_->Due(record(), now)) {
    if (const Status status = shared_->Conclude(parts_.state, now); !status.ok()) {
      events_.Trouble(status);
    }
  }
  if (shared_->trouble().ok()) events_.TroubleHasPassed();
  if (shared_->TakeChanged()) LookSoon(now);
}

void CoordinatorCore::SettleEnded(Time now) {
  const std::vector<RoundReport> ended = shared_->TakeEnded();
  for (const RoundReport& report : ended) SettleShared(report, &report == &ended.back(), now);
  auto* const running = std::get_if<Running>(&phase_);
  if (running == nullptr || !shared_->IsOver(running->report.round)) return;
  // It ended so long ago that its report is not kept any more.
  running->cohorts.Abandon(
      Unavailable("the round was over long before this client's coordinator learnt of it"));
  shared_->GiveUp();
  TellDismissed(running->cohorts.Dismiss(), running->report, now);
  phase_ = PauseUntil(now);
}

// As Settle, of a round that this process may have had no part in.
void CoordinatorCore::SettleShared(const RoundReport& report, bool last, Time now) {
  Recording recorded{.report = report, .dismissed = {}, .results = {}, .evidence = {}};
  std::optional<Time> minimum_since;
  Time not_before{};
  auto* const running = std::get_if<Running>(&phase_);
  const bool took_part = running != nullptr && running->report.round == report.round;
  if (took_part) {
    running->cohorts.Abandon(
        Status(Code::kDeadlineExceeded, "the round was over before this client's cohort"));
    for (const uint32_t cohort : shared_->GiveUp()) {
      running->cohorts.Refuse(
          cohort, Status(Code::kDeadlineExceeded, "the round was over before this client's sum"));
    }
    recorded.dismissed = running->cohorts.Dismiss();
  }
  recorded.of_others = !took_part;
  if (const auto* gathering = std::get_if<Gathering>(&phase_)) {
    minimum_since = gathering->minimum_since;
    not_before = gathering->not_before;
  }
  if (!last || (running != nullptr && !took_part) || std::holds_alternative<Complete>(phase_)) {
    TellDismissed(recorded.dismissed, report, now);
    if (took_part) phase_ = PauseUntil(now + PauseAfter(report));
    return events_.RoundEnded(report);
  }
  Settle(recorded, now);
  auto* const gathering = std::get_if<Gathering>(&phase_);
  if (gathering == nullptr) return;
  // Whoever waits here goes on waiting, and what is paused here stays so, whatever rounds others
  // had meanwhile.
  gathering->minimum_since = minimum_since;
  gathering->not_before = std::max(gathering->not_before, not_before);
  if (took_part && !shared_->alone()) {
    gathering->not_before = std::max(gathering->not_before, now + kYield);
  }
}

}  // namespace chorus::coordinator
