// The course of a round: who takes part, what becomes of it, what is recorded.
#include <algorithm>
#include <iterator>
#include <numeric>
#include <utility>
#include <variant>

#include "coordinator/machine.h"
#include "coordinator/round.h"
#include "crypto/crypto.h"

namespace chorus::coordinator {
namespace {

constexpr Time kPauseFirst{1'000};  // after an aborted round; doubles with each in a row
constexpr Time kPauseMax{30'000};
// A shorter turn of the coordinator's thread is no hardship to who waits to be heard.
constexpr Time kTurnMax{250};
// Looking through all sessions for who is waiting costs about a microsecond each; so long a pause
// between two looks keeps that to a small part of the coordinator's time.
constexpr size_t kSessionsPerLookMillisecond = 1'000;

}  // namespace

// --- who takes part ---

// Somebody may be waiting now who was not before.
void CoordinatorCore::LookSoon(Time now) {
  auto* gathering = std::get_if<Gathering>(&phase_);
  if (gathering == nullptr) return;
  const Time pause{static_cast<Time::rep>(parties_.size() / kSessionsPerLookMillisecond)};
  gathering->look_at = std::min(gathering->look_at, std::max(now, last_look_ + pause));
}

Need CoordinatorCore::NeedNow(Time now) const {
  const auto* gathering = std::get_if<Gathering>(&phase_);
  const CohortSpec cohort = tempo_.Cohorts(FreeCohorts(now));
  if (gathering == nullptr || now < gathering->not_before || cohort.parallel == 0 || !runs()) {
    return {};
  }
  return {.open = true, .minimum = cohort.minimum, .wanted = ClientsWanted(cohort)};
}

// Nobody else is connected, or on the way from one call to the next.
bool CoordinatorCore::AllAreHere(size_t waiting, Time now) const {
  return tempo_.MayBeginWith(waiting) &&
         waiting >= parties_.Here(now, parts_.task.deadlines.check_in);
}

// Begins a round when enough clients are waiting: as many as all its cohorts want, or all that
// there are, or enough for a small one that others had time to join; likewise all of a
// committee, or enough of it.
void CoordinatorCore::Look(Gathering& gathering, Time now) {
  if (now < gathering.not_before || now < gathering.look_at) return;
  last_look_ = now;
  if (!runs()) {
    gathering.minimum_since.reset();
    gathering.look_at = Time::max();
    return;
  }
  const CohortSpec cohort = tempo_.Cohorts(FreeCohorts(now));
  std::vector<PartyId> waiting = Free(now);
  if (waiting.size() < cohort.minimum || cohort.parallel == 0) {
    gathering.minimum_since.reset();
    gathering.look_at = Time::max();
    return;
  }
  if (!gathering.minimum_since) gathering.minimum_since = now;
  Time patience = *gathering.minimum_since + tempo_.WaitForMore(waiting.size());
  if (shared_)
    patience = std::min(patience, shared_->RoomFor(record(), now).until.value_or(patience));
  std::vector<aggregation::CommitteeMember> committee = parties_.WaitingMembers(now);
  const bool all = (Enough(waiting.size(), cohort, now) || AllAreHere(waiting.size(), now)) &&
                   committee.size() == committee_.size();
  if (!all && now < patience) {
    gathering.look_at = patience;
    return;
  }
  if (committee.size() < committee_.needed()) {
    events_.Trouble(committee_.TooFew(committee.size()));
    gathering.look_at = Time::max();
    return;
  }
  std::vector<uint32_t> sizes = CohortSizes(cohort, waiting.size());
  const size_t invite = std::accumulate(sizes.begin(), sizes.end(), size_t{0});
  const Selection selection{.round = record().rounds_begun + 1,
                            .experiment_seed = parts_.experiment_seed};
  Begin(std::move(sizes),
        {parties_.Select(std::move(waiting), invite, selection), std::move(committee)}, now);
}

// --- the course of a round ---

// The round's number is durable before anybody hears of it, so that after a crash it is never used
// again: clients keep a ledger of rounds that they gave to.
void CoordinatorCore::Begin(std::vector<uint32_t> sizes, const Invited& invited, Time now) {
  if (shared_) return BeginShared(std::move(sizes), invited, now);
  TaskRecord begun = record();
  ++begun.rounds_begun;
  RoundReport report;
  report.round = begun.rounds_begun;
  report.model = begun.model;
  report.invited = static_cast<uint32_t>(invited.clients.size());
  report.cohorts = static_cast<uint32_t>(sizes.size());
  const ServerState& state = parts_.state.server;
  Result<aggregation::SessionParams> params = SessionParamsFor({.task = parts_.task,
                                                                .task_bytes = begun.spec,
                                                                .weights = state.published,
                                                                .round = report.round});
  const Status status = params.ok() ? NoteBegun(begun, report) : params.status();
  if (!status.ok()) {
    events_.Trouble(status);
    phase_ = PauseUntil(parts_.clock->Now() + kStoreRetry);
    return;
  }
  events_.TroubleHasPassed();
  record() = std::move(begun);
  Run({.report = std::move(report), .params = *std::move(params), .sizes = std::move(sizes)},
      invited, now);
}

void CoordinatorCore::Run(Beginning beginning, const Invited& invited, Time now) {
  const ServerState& state = parts_.state.server;
  beginning.params.coordinator_id = crypto::Ed25519Public(parts_.signing_seed);
  RoundOptions options{.task = &parts_.task,
                       .params = std::move(beginning.params),
                       .signing_seed = parts_.signing_seed,
                       .verifier = parts_.verifier,
                       .clock = parts_.clock,
                       .seen_keys = &seen_keys_,
                       .executor = parts_.executor,
                       .invited = invited.clients,
                       .committee = invited.committee,
                       .limits = {}};
  // A buffered round of earlier rounds' sums has no steps.
  const bool steps = !beginning.sizes.empty();
  if (steps) options.limits = tempo_.Begin(invited.clients.size());
  RoundTempo tempo = steps ? tempo_.chosen() : RoundTempo();
  if (const auto* gathering = std::get_if<Gathering>(&phase_)) {
    tempo.gathered_ms =
        static_cast<uint64_t>((now - gathering->minimum_since.value_or(now)).count());
  }
  CohortsOptions cohorts{.all = std::move(options),
                         .sizes = std::move(beginning.sizes),
                         .rng = parts_.rng,
                         .version = state.version,
                         .first = beginning.first};
  phase_ = Running{.cohorts = Cohorts(std::move(cohorts), now),
                   .report = std::move(beginning.report),
                   .began = now,
                   .invited = invited.Everybody(),
                   .version = state.version};
  parties_.TakeTraffic();
  const Running& running = std::get<Running>(phase_);
  clients_invited_ += running.report.invited;
  events_.RoundBegan(running.report, tempo);
  Invite(running);
}

Status CoordinatorCore::NoteBegun(const TaskRecord& begun, const RoundReport& report) {
  return parts_.store->RunTransaction("begin round", [&](Transaction& transaction) -> Status {
    CHORUS_TRY(transaction.PutTask(begun));
    return transaction.PutRound(begun.id, report);
  });
}

void CoordinatorCore::Invite(const Running& running) {
  wire::Invitation invitation;
  invitation.round = running.report.round;
  invitation.task = record().spec;
  invitation.task_signature = task_signature_;
  invitation.model = record().model;
  invitation.model_bytes = parts_.state.server.published.size() * sizeof(float);
  for (const PartyId id : running.invited) {
    if (Party* party = parties_.Find(id)) {
      parties_.Ask(*party, invitation, ReadyBytesMax(parts_.task));
    }
  }
}

Running* CoordinatorCore::RunOf(PartyId party) {
  auto* const running = std::get_if<Running>(&phase_);
  if (running != nullptr && running->cohorts.Has(party)) return running;
  const auto late = std::find_if(late_.begin(), late_.end(),
                                 [party](const Running& run) { return run.cohorts.Has(party); });
  return late == late_.end() ? nullptr : &*late;
}

// Whoever is free may be invited to another round while this one's cohort goes on, and is in one of
// them only.
void CoordinatorCore::LeaveRun(Party& party, Time now) {
  if (Running* const running = RunOf(party.id)) running->cohorts.Forget(party.id);
  parties_.LeaveRound(party, now);
}

void CoordinatorCore::Progress(Time now) {
  if (shared_) return ProgressShared(now);
  auto* running = std::get_if<Running>(&phase_);
  for (Running& late : late_) Advance(late, now);
  if (running != nullptr) Advance(*running, now);
  GiveBack(parts_.clock->Now() - now);
  for (Running& late : late_) Deliver(late, now);
  if (running != nullptr) Deliver(*running, now);
  EndLate(now);
  if (const auto* gathering = std::get_if<Gathering>(&phase_)) {
    // Sums of earlier rounds can be enough before anybody is free to begin another.
    const bool enough = buffered() && sums_.count() >= parts_.task.server.buffered_sums;
    if (!enough || now < gathering->not_before || !runs()) return;
    Begin({}, {}, now);
    running = std::get_if<Running>(&phase_);
  }
  if (running == nullptr) return;
  const bool all_ended = running->cohorts.done() && late_.empty();
  if (IsOver(parts_.task, {.sums = sums_.count(), .all_ended = all_ended})) Conclude(*running, now);
}

// While one cohort's sum was opened nobody was heard, which is not to cost the others their time.
void CoordinatorCore::GiveBack(Time by) {
  if (by <= Time{0}) return;
  for (Running& late : late_) late.cohorts.Postpone(by);
  if (auto* const running = std::get_if<Running>(&phase_)) running->cohorts.Postpone(by);
  given_back_ += by;
}

void CoordinatorCore::EndTurn(Time took) {
  if (took >= kTurnMax) GiveBack(took - given_back_);
  given_back_ = Time{0};
}

void CoordinatorCore::Advance(Running& running, Time now) {
  running.cohorts.Advance(now, shared_ ? nullptr : &sums_);
  std::vector<Evidence> found =
      standing_.Hold(running.cohorts.TakeBlame(), running.report.round, *parts_.log);
  std::move(found.begin(), found.end(), std::back_inserter(found_));
}

// With server.buffered_sums nobody waits for the end of the round: who gave to a sum is free for
// the next, and cohorts of earlier rounds end by themselves, or because too much has happened
// since.
void CoordinatorCore::EndLate(Time now) {
  if (!buffered()) return;
  if (auto* const running = std::get_if<Running>(&phase_)) {
    TellDismissed(running->cohorts.Dismiss(), running->report, now);
  }
  const bool complete = std::holds_alternative<Complete>(phase_);
  for (Running& late : late_) {
    const uint64_t staleness = parts_.state.server.version - late.version;
    if (complete || staleness > parts_.task.server.staleness_max) {
      late.cohorts.Abandon(
          Status(Code::kDeadlineExceeded,
                 complete ? "the task is complete without this client's cohort"
                          : "the model moved on too far while this client's cohort trained"));
    }
    const std::vector<Dismissed> dismissed = late.cohorts.Dismiss();
    TellDismissed(dismissed, late.report, now);
    // There is room for another cohort.
    if (!dismissed.empty()) LookSoon(now);
  }
  std::erase_if(late_, [](const Running& late) { return late.cohorts.done(); });
}

// Passes on what the round has to say.
void CoordinatorCore::Deliver(Running& running, Time now) {
  const RoundNews news = running.cohorts.TakeNews();
  running.report.dropouts = running.cohorts.dropouts();
  running.report.refused = running.cohorts.declined();
  for (const ClosedStep& step : news.closed) {
    events_.StepClosed(step, running.report);
    tempo_.Note(step);
  }
  for (const PartyId id : news.lost) {
    Party* party = parties_.Find(id);
    if (party == nullptr) continue;
    if (running.cohorts.Contributed(id)) {
      // Its update may still be in the sum; it hears of that when it is certain.
      parties_.Withdraw(*party);
      continue;
    }
    LeaveRun(*party, now);
    parties_.Tell(*party, {.round = running.report.round,
                           .counted = false,
                           .code = Code::kDeadlineExceeded,
                           .reason = "the round went on without this client: no answer in time"});
  }
  for (const Question& question : news.questions) {
    Party* party = parties_.Find(question.to);
    if (party != nullptr) {
      parties_.Ask(*party, question);
    } else {
      running.cohorts.Leave(question.to, Round::Departure::kFailed);
    }
  }
}

// Turns the outcome of a round into what is to be recorded, and records it.
void CoordinatorCore::Conclude(Running& running, Time now) {
  RoundReport& report = running.report;
  const Traffic traffic = parties_.TakeTraffic();
  report.bytes_up = traffic.up;
  report.bytes_down = traffic.down;
  // Once: a commit that took effect unheard is made again, and may not change what is recorded.
  report.duration_ms = static_cast<uint64_t>((now - running.began).count());
  Result<NextModel> next = OutcomeOf(running, report);
  Recording recording{.report = report,
                      .dismissed = running.cohorts.Dismiss(),
                      .results = {},
                      .evidence = std::exchange(found_, {})};
  // An answer that is still on its way has come too late.
  for (const Dismissed& dismissed : recording.dismissed) {
    Party* party = parties_.Find(dismissed.party);
    if (party != nullptr && party->in_round) parties_.Withdraw(*party);
  }
  if (!running.cohorts.done()) {
    running.published = parts_.state.server.published;
    late_.push_back(std::move(running));
  }
  if (next.ok()) {
    recording.report.state = RoundState::kCommitted;
    recording.results = MakeResults(parts_.task, record().id, *std::move(next));
    recording.report.result = recording.results->model;
    if (!parts_.task.queries.empty()) recording.report.answers = recording.results->beside_sha256;
  } else {
    recording.report.state = RoundState::kAborted;
    recording.report.code = next.status().code();
    recording.report.reason = next.status().message();
  }
  phase_ = std::move(recording);
  Record(std::get<Recording>(phase_), now);
}

// Sums that are too few for a buffered round wait for the next; others are used up, or spoilt.
Result<NextModel> CoordinatorCore::OutcomeOf(const Running& running, RoundReport& report) {
  if (sums_.count() == 0) return running.cohorts.WhyNone();
  Result<NextModel> next = ComputeNext(parts_.task, parts_.state.server, sums_, report);
  const bool too_few = sums_.count() < parts_.task.server.buffered_sums;
  if (!too_few) sums_.Clear();
  return next;
}

// Makes the result durable. Only then is it the coordinator's state, and told to clients.
void CoordinatorCore::Record(Recording& recording, Time now) {
  const RoundReport& report = recording.report;
  const TaskRecord& before = record();
  const Status status =
      parts_.store->RunTransaction("commit round", [&](Transaction& transaction) -> Status {
        if (recording.results) {
          CHORUS_TRY(PutResults(parts_.task, *recording.results, before, transaction));
        }
        for (const Evidence& evidence : recording.evidence) {
          CHORUS_TRY(transaction.PutEvidence(before.id, evidence));
        }
        CHORUS_TRY(transaction.PutRound(before.id, report));
        return Forget(parts_.retention, before.id, report.round, transaction);
      });
  if (!status.ok()) {
    events_.Trouble(status);
    recording.retry_at = parts_.clock->Now() + kStoreRetry;
    return;
  }
  events_.TroubleHasPassed();
  if (recording.results) {
    record() = RecordOf(*recording.results, record());
    parts_.state.server = std::move(recording.results->next.state);
    parts_.state.cells = std::move(recording.results->next.cells);
  }
  Settle(recording, now);
}

// How long to wait before the next round, having learnt from how this one went.
Time CoordinatorCore::PauseAfter(const RoundReport& report) {
  // A buffered round whose sums wait for the next has come to nothing bad either.
  const bool aborted = report.state != RoundState::kCommitted && sums_.count() == 0;
  tempo_.End(aborted);
  if (!aborted) {
    aborts_in_a_row_ = 0;
    return Time{0};
  }
  const Time pause = std::min(kPauseMax, kPauseFirst * (1U << std::min(aborts_in_a_row_, 16U)));
  ++aborts_in_a_row_;
  return pause;
}

// Tells everybody how a recorded round ended, and goes on to what follows.
void CoordinatorCore::Settle(Recording& recording, Time now) {
  const Recording recorded = std::move(recording);
  const RoundReport& report = recorded.report;
  const Time pause = recorded.of_others ? Time{0} : PauseAfter(report);
  const bool complete = over();
  if (complete) {
    phase_ = Complete{};
  } else {
    phase_ = PauseUntil(now + pause);
  }
  TellDismissed(recorded.dismissed, report, now);
  EndLate(now);
  events_.RoundEnded(report);
  if (!complete) return;
  parties_.Complete();
  events_.TaskComplete(report);
}

// Sends those home whose cohort has ended. A round that is open still counts as one that commits:
// with server.buffered_sums their sum waits for the next model, whichever round that is.
void CoordinatorCore::TellDismissed(const std::vector<Dismissed>& dismissed,
                                    const RoundReport& report, Time now) {
  const bool aborted = report.state == RoundState::kAborted;
  for (const Dismissed& one : dismissed) {
    Party* party = parties_.Find(one.party);
    if (party == nullptr || !party->in_round) continue;
    parties_.LeaveRound(*party, now);
    parties_.Tell(*party, {.round = report.round,
                           .counted = !aborted && one.verdict.ok() && one.contributed,
                           .code = aborted ? report.code : one.verdict.code(),
                           .reason = aborted ? report.reason : one.verdict.message()});
  }
}

// The cohorts that may begin beside those of earlier rounds that go on.
CohortSpec CoordinatorCore::FreeCohorts(Time now) const {
  CohortSpec free = parts_.task.cohort;
  if (shared_) free.parallel = shared_->RoomFor(record(), now).cohorts;
  for (const Running& late : late_) {
    free.parallel -= std::min(free.parallel, late.cohorts.going_on());
  }
  return free;
}

}  // namespace chorus::coordinator
