#include "coordinator/core.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>
#include <utility>
#include <variant>

#include "base/limits.h"
#include "coordinator/cohorts.h"
#include "coordinator/committee.h"
#include "coordinator/events.h"
#include "coordinator/party.h"
#include "coordinator/round.h"
#include "coordinator/standing.h"
#include "crypto/crypto.h"
#include "learning/learning.h"
#include "wire/wire.h"

namespace chorus::coordinator {
namespace {

constexpr Time kStoreRetry{1'000};
constexpr Time kPauseFirst{1'000};  // after an aborted round; doubles with each in a row
constexpr Time kPauseMax{30'000};
// Looking through all sessions for who is waiting costs about a microsecond each; so long a pause
// between two looks keeps that to a small part of the coordinator's time.
constexpr size_t kSessionsPerLookMillisecond = 1'000;
constexpr size_t kSeedBytes = 32;

bool AllFinite(std::span<const float> weights) {
  return std::all_of(weights.begin(), weights.end(), [](float w) { return std::isfinite(w); });
}

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
Gathering PauseUntil(Time time) {
  Gathering gathering;
  gathering.not_before = time;
  return gathering;
}

struct Running {
  Cohorts cohorts;
  RoundReport report;
  Time began{};
  std::vector<PartyId> invited;  // clients, and members of the committee
};
// The round is over; its result waits to be durable. Nothing else begins meanwhile.
struct Recording {
  Running ran;
  std::optional<Weights> weights;  // of a round that committed
  Digest model{};                  // their content hash
  std::vector<Evidence> evidence;  // against clients of the round
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
  const Weights& weights() const override { return parts_.state.weights; }

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
  void Begin(std::vector<uint32_t> sizes, const Invited& invited, Time now);
  void Invite(const Running& running);
  void Progress(Time now);
  void Deliver(Running& running, Time now);
  void Conclude(Running& running, Time now);
  Result<Weights> NextWeights(const RoundSum& sum, RoundReport& report) const;
  void Record(Recording& recording, Time now);
  void Settle(Recording& recording, Time now);

  TaskRecord& record() { return parts_.state.record; }

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
};

CoordinatorCore::CoordinatorCore(Parts parts)
    : parts_(std::move(parts)),
      task_signature_(crypto::Ed25519Sign(
          parts_.signing_seed, crypto::LabeledHash("CHORUS1/task", {parts_.state.record.spec}))),
      committee_(parts_.task),
      parties_({.coordinator = crypto::Ed25519Public(parts_.signing_seed),
                .verifier = parts_.verifier,
                .rng = parts_.rng,
                .standing = &standing_,
                .committee = &committee_,
                .question = [this](PartyId to) { return QuestionBody(to); },
                .sessions_max = limits::kSessionsMax,
                .uploads_in_flight_bytes_max = limits::kUploadsInFlightBytesMax}),
      events_(*parts_.log) {
  if (record().rounds_committed < parts_.task.rounds) return;
  phase_ = Complete{};
  parties_.Complete();
  events_.TaskComplete({});
}

// --- calls ---

void CoordinatorCore::Handle(std::string_view method, BytesView request, Reply reply) {
  const Time now = parts_.clock->Now();
  if (request.size() > limits::kMessageBytesMax) {
    reply(ResourceExhausted("the request is longer than a message may be"));
  } else if (method == wire::kChallenge) {
    reply(Challenge(request, now));
  } else if (method == wire::kCheckIn) {
    reply(CheckIn(request, now));
    Progress(now);
  } else if (method == wire::kNext) {
    Next(request, now, std::move(reply));
  } else if (method == wire::kDownload) {
    reply(Download(request, now));
  } else if (method == wire::kUpload) {
    // Answered before the round goes on: opening a sum takes longer than a client should wait.
    reply(TakeUpload(request, now));
    Progress(now);
  } else if (method == wire::kGetStatus) {
    reply(GetStatus(request, now));
  } else {
    reply(Status(Code::kUnimplemented, "this coordinator knows no such call"));
  }
}

Result<Bytes> CoordinatorCore::Challenge(BytesView request, Time now) {
  CHORUS_TRY(wire::Decode<wire::ChallengeRequest>(request));
  return wire::Encode(wire::ChallengeReply{.challenge = parties_.NewChallenge(now)});
}

Result<Bytes> CoordinatorCore::CheckIn(BytesView request, Time now) {
  CHORUS_TRY_ASSIGN(const wire::CheckInRequest asked, wire::Decode<wire::CheckInRequest>(request));
  CHORUS_TRY_ASSIGN(const Admission admission, parties_.CheckIn(asked, now));
  if (auto* running = std::get_if<Running>(&phase_); running != nullptr && admission.replaced) {
    running->cohorts.Leave(*admission.replaced, Round::Departure::kFailed);
  }
  LookSoon(now);
  return wire::Encode(wire::CheckInReply{.session = admission.session});
}

Result<Party*> CoordinatorCore::PartyOf(const wire::SessionToken& session, Time now) {
  Party* party = parties_.Authenticate(session, now);
  if (party == nullptr) return Unauthenticated("this session is not open here; check in again");
  return party;
}

void CoordinatorCore::Next(BytesView request, Time now, Reply reply) {
  const Result<wire::NextRequest> asked = wire::Decode<wire::NextRequest>(request);
  if (!asked.ok()) return reply(asked.status());
  const Result<Party*> party = PartyOf(asked->session, now);
  if (!party.ok()) return reply(party.status());
  parties_.Next(**party, asked->done, now, std::move(reply));
  LookSoon(now);
}

Result<Bytes> CoordinatorCore::Download(BytesView request, Time now) {
  CHORUS_TRY_ASSIGN(const wire::DownloadRequest asked,
                    wire::Decode<wire::DownloadRequest>(request));
  CHORUS_TRY_ASSIGN(Party* const party, PartyOf(asked.session, now));
  BytesView body;
  if (party->in_round && asked.sha256 == record().model) {
    body = BytesOf(parts_.state.weights);
  } else if (!party->question.empty() && asked.sha256 == party->question_sha256) {
    body = party->question;
  } else {
    return NotFound("there is nothing of this digest for this client now");
  }
  CHORUS_TRY_ASSIGN(const wire::DownloadReply chunk, parties_.Chunk(*party, body, asked.offset));
  return wire::Encode(chunk);
}

Result<Bytes> CoordinatorCore::TakeUpload(BytesView request, Time now) {
  CHORUS_TRY_ASSIGN(const wire::UploadRequest asked, wire::Decode<wire::UploadRequest>(request));
  CHORUS_TRY_ASSIGN(Party* const party, PartyOf(asked.session, now));
  if (asked.abort_code != Code::kOk) return TakeAbort(*party, asked, now);
  auto* running = std::get_if<Running>(&phase_);
  if (running != nullptr && parties_.Contradicts(*party, asked)) {
    running->cohorts.HearAgain(party->id, asked.data);
  }
  wire::UploadReply reply;
  CHORUS_TRY_ASSIGN(const bool whole, parties_.Receive(*party, asked, &reply.received));
  if (whole) CHORUS_TRY(Judge(*party, now));
  return wire::Encode(reply);
}

// Gives a whole answer to the round. A refusal ends the party's part in it, and its reply says so.
Status CoordinatorCore::Judge(Party& party, Time now) {
  Status heard = FailedPrecondition("the round of this answer is over; ask Next what to do");
  if (auto* running = std::get_if<Running>(&phase_)) {
    const Bytes& answer = party.upload->buffer;
    // The pre-keys of somebody else, replayed, would keep that one out of the session.
    if (party.upload->ready && !answer.empty() &&
        !aggregation::NamesIdentity(answer, party.identity)) {
      heard = InvalidArgument("the pre-keys are another identity's than the one checked in");
      running->cohorts.Leave(party.id, Round::Departure::kFailed);
    } else {
      heard = running->cohorts.Hear(party.id, answer);
    }
  }
  parties_.FinishUpload(party, heard);
  if (!heard.ok()) parties_.LeaveRound(party, now);
  return heard;
}

Result<Bytes> CoordinatorCore::QuestionBody(PartyId to) {
  if (auto* running = std::get_if<Running>(&phase_)) return running->cohorts.Body(to);
  return NotFound("no round is running");
}

Result<Bytes> CoordinatorCore::TakeAbort(Party& party, const wire::UploadRequest& request,
                                         Time now) {
  if (request.sequence != party.sequence) {
    return FailedPrecondition("the step of this answer has closed; ask Next what to do");
  }
  if (party.in_round) {
    if (auto* running = std::get_if<Running>(&phase_)) {
      running->cohorts.Leave(party.id, request.abort_code == Code::kPermissionDenied
                                           ? Round::Departure::kDeclined
                                           : Round::Departure::kFailed);
    }
    parties_.LeaveRound(party, now);
  }
  return wire::Encode(wire::UploadReply{});
}

Result<Bytes> CoordinatorCore::GetStatus(BytesView request, Time now) {
  CHORUS_TRY_ASSIGN(const wire::StatusRequest asked, wire::Decode<wire::StatusRequest>(request));
  wire::StatusReply reply;
  reply.task = parts_.task.name;
  reply.rounds_wanted = parts_.task.rounds;
  reply.rounds_begun = record().rounds_begun;
  reply.rounds_committed = record().rounds_committed;
  reply.clients = static_cast<uint32_t>(parties_.clients());
  reply.committee = parties_.CommitteeStatus(now);
  if (const auto* running = std::get_if<Running>(&phase_)) reply.step = running->cohorts.step();
  if (std::holds_alternative<Recording>(phase_)) reply.step = "recording";
  const uint32_t count = std::min(asked.round_count, limits::kStatusRoundsMax);
  if (count > 0) {
    CHORUS_TRY(parts_.store->RunTransaction("status", [&](Transaction& transaction) -> Status {
      CHORUS_TRY_ASSIGN(reply.rounds, transaction.Rounds(record().id, asked.first_round, count));
      CHORUS_TRY_ASSIGN(reply.evidence,
                        transaction.ListEvidence(record().id, limits::kStatusEvidenceMax));
      return OkStatus();
    }));
  }
  return wire::Encode(reply);
}

// --- who takes part ---

// Somebody may be waiting now who was not before.
void CoordinatorCore::LookSoon(Time now) {
  auto* gathering = std::get_if<Gathering>(&phase_);
  if (gathering == nullptr) return;
  const Time pause{static_cast<Time::rep>(parties_.size() / kSessionsPerLookMillisecond)};
  gathering->look_at = std::min(gathering->look_at, std::max(now, last_look_ + pause));
}

// Begins a round when enough clients are waiting: as many as all its cohorts want, or enough for a
// small one that nobody joined for deadlines.check_in; likewise all of a committee, or enough of
// it.
void CoordinatorCore::Look(Gathering& gathering, Time now) {
  if (now < gathering.not_before || now < gathering.look_at) return;
  last_look_ = now;
  const CohortSpec& cohort = parts_.task.cohort;
  std::vector<PartyId> waiting = parties_.Waiting(now);
  if (waiting.size() < cohort.minimum) {
    gathering.minimum_since.reset();
    gathering.look_at = Time::max();
    return;
  }
  if (!gathering.minimum_since) gathering.minimum_since = now;
  const Time patience = *gathering.minimum_since + parts_.task.deadlines.check_in;
  std::vector<aggregation::CommitteeMember> committee = parties_.WaitingMembers(now);
  const bool all = waiting.size() >= ClientsWanted(cohort) && committee.size() == committee_.size();
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
  TaskRecord begun = record();
  ++begun.rounds_begun;
  RoundReport report;
  report.round = begun.rounds_begun;
  report.model = begun.model;
  report.invited = static_cast<uint32_t>(invited.clients.size());
  report.cohorts = static_cast<uint32_t>(sizes.size());
  Result<aggregation::SessionParams> params = SessionParamsFor({.task = parts_.task,
                                                                .task_bytes = begun.spec,
                                                                .weights = parts_.state.weights,
                                                                .round = report.round});
  Status status = params.status();
  if (status.ok()) {
    status = parts_.store->RunTransaction("begin round", [&](Transaction& transaction) -> Status {
      CHORUS_TRY(transaction.PutTask(begun));
      return transaction.PutRound(begun.id, report);
    });
  }
  if (!status.ok()) {
    events_.Trouble(status);
    phase_ = PauseUntil(now + kStoreRetry);
    return;
  }
  events_.TroubleHasPassed();
  record() = std::move(begun);
  params->coordinator_id = crypto::Ed25519Public(parts_.signing_seed);
  RoundOptions options{.task = &parts_.task,
                       .params = *params,
                       .signing_seed = parts_.signing_seed,
                       .verifier = parts_.verifier,
                       .clock = parts_.clock,
                       .seen_keys = &seen_keys_,
                       .executor = parts_.executor,
                       .invited = invited.clients,
                       .committee = invited.committee};
  CohortsOptions cohorts{.all = options, .sizes = std::move(sizes), .rng = parts_.rng};
  phase_ = Running{.cohorts = Cohorts(std::move(cohorts), now),
                   .report = report,
                   .began = now,
                   .invited = invited.Everybody()};
  parties_.TakeTraffic();
  events_.RoundBegan(report);
  Invite(std::get<Running>(phase_));
}

void CoordinatorCore::Invite(const Running& running) {
  wire::Invitation invitation;
  invitation.round = running.report.round;
  invitation.task = record().spec;
  invitation.task_signature = task_signature_;
  invitation.model = record().model;
  invitation.model_bytes = parts_.state.weights.size() * sizeof(float);
  for (const PartyId id : running.invited) {
    if (Party* party = parties_.Find(id)) {
      parties_.Ask(*party, invitation, ReadyBytesMax(parts_.task));
    }
  }
}

void CoordinatorCore::Progress(Time now) {
  auto* running = std::get_if<Running>(&phase_);
  if (running == nullptr) return;
  running->cohorts.Advance(now);
  // While one cohort's sum was opened nobody was heard, which is not to cost the others their time.
  if (const Time after = parts_.clock->Now(); after > now) running->cohorts.Postpone(after - now);
  Deliver(*running, now);
  if (running->cohorts.outcome() != nullptr) Conclude(*running, now);
}

// Passes on what the round has to say.
void CoordinatorCore::Deliver(Running& running, Time now) {
  const RoundNews news = running.cohorts.TakeNews();
  running.report.dropouts = running.cohorts.dropouts();
  running.report.refused = running.cohorts.declined();
  for (const ClosedStep& step : news.closed) events_.StepClosed(step, running.report);
  for (const PartyId id : news.lost) {
    Party* party = parties_.Find(id);
    if (party == nullptr) continue;
    if (running.cohorts.Contributed(id)) {
      // Its update may still be in the sum; it hears of that when it is certain.
      parties_.Withdraw(*party);
      continue;
    }
    parties_.LeaveRound(*party, now);
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
  // An answer that is still on its way has come too late.
  for (const PartyId id : running.invited) {
    Party* party = parties_.Find(id);
    if (party != nullptr && party->in_round) parties_.Withdraw(*party);
  }
  report.cohorts_committed = running.cohorts.committed();
  const Result<RoundSum> sum = std::move(*running.cohorts.outcome());
  Result<Weights> weights = sum.ok() ? NextWeights(*sum, report) : Result<Weights>(sum.status());
  std::vector<Evidence> evidence =
      standing_.Hold(running.cohorts.TakeBlame(), report.round, *parts_.log);
  Recording recording{.ran = std::move(running), .weights = {}, .evidence = std::move(evidence)};
  if (weights.ok()) {
    recording.ran.report.state = RoundState::kCommitted;
    recording.model = crypto::Sha256(BytesOf(*weights));
    recording.weights = *std::move(weights);
  } else {
    recording.ran.report.state = RoundState::kAborted;
    recording.ran.report.cohorts_committed = 0;
    recording.ran.report.code = weights.status().code();
    recording.ran.report.reason = weights.status().message();
  }
  phase_ = std::move(recording);
  Record(std::get<Recording>(phase_), now);
}

// The model after a sum; kAborted when it is not to be used.
Result<Weights> CoordinatorCore::NextWeights(const RoundSum& sum, RoundReport& report) const {
  const math::Mean& mean = sum.mean;
  Weights weights = parts_.state.weights;
  learning::ApplyMean(weights, mean.update, parts_.task.server_learning_rate);
  if (!AllFinite(weights)) {
    return Aborted("the model would not be finite; lower server_learning_rate");
  }
  report.contributors = sum.contributors;
  report.examples = mean.examples;
  report.evaluated = mean.evaluated;
  report.accuracy = mean.accuracy;
  report.loss = mean.loss;
  return weights;
}

// Makes the result durable. Only then is it the coordinator's state, and told to clients.
void CoordinatorCore::Record(Recording& recording, Time now) {
  RoundReport& report = recording.ran.report;
  report.duration_ms = static_cast<uint64_t>((now - recording.ran.began).count());
  TaskRecord next = record();
  if (recording.weights) {
    next.model = recording.model;
    ++next.rounds_committed;
  }
  const Status status =
      parts_.store->RunTransaction("commit round", [&](Transaction& transaction) -> Status {
        if (recording.weights) {
          CHORUS_TRY(transaction.PutModel(recording.model, BytesOf(*recording.weights)));
          CHORUS_TRY(transaction.PutTask(next));
        }
        for (const Evidence& evidence : recording.evidence) {
          CHORUS_TRY(transaction.PutEvidence(next.id, evidence));
        }
        return transaction.PutRound(next.id, report);
      });
  if (!status.ok()) {
    events_.Trouble(status);
    recording.retry_at = now + kStoreRetry;
    return;
  }
  events_.TroubleHasPassed();
  record() = std::move(next);
  if (recording.weights) parts_.state.weights = *std::move(recording.weights);
  Settle(recording, now);
}

// Tells everybody how a recorded round ended, and goes on to what follows.
void CoordinatorCore::Settle(Recording& recording, Time now) {
  const Running ran = std::move(recording.ran);
  const bool committed = ran.report.state == RoundState::kCommitted;
  Time pause{0};
  if (committed) {
    aborts_in_a_row_ = 0;
  } else {
    pause = std::min(kPauseMax, kPauseFirst * (1U << std::min(aborts_in_a_row_, 16U)));
    ++aborts_in_a_row_;
  }
  const bool complete = record().rounds_committed >= parts_.task.rounds;
  if (complete) {
    phase_ = Complete{};
  } else {
    phase_ = PauseUntil(now + pause);
  }
  for (const PartyId id : ran.invited) {
    Party* party = parties_.Find(id);
    if (party == nullptr || !party->in_round) continue;
    const Status& verdict = ran.cohorts.VerdictOn(id);
    parties_.LeaveRound(*party, now);
    parties_.Tell(*party, {.round = ran.report.round,
                           .counted = committed && verdict.ok() && ran.cohorts.Contributed(id),
                           .code = committed ? verdict.code() : ran.report.code,
                           .reason = committed ? verdict.message() : ran.report.reason});
  }
  events_.RoundEnded(ran.report);
  if (!complete) return;
  parties_.Complete();
  events_.TaskComplete(ran.report);
}

// --- time and events ---

void CoordinatorCore::Tick() {
  const Time now = parts_.clock->Now();
  parties_.Tick(now);
  Progress(now);
  if (auto* recording = std::get_if<Recording>(&phase_)) {
    if (now >= recording->retry_at) Record(*recording, now);
  }
  if (auto* gathering = std::get_if<Gathering>(&phase_)) Look(*gathering, now);
}

Time CoordinatorCore::NextTick() const {
  Time due = Time::max();
  if (const auto* gathering = std::get_if<Gathering>(&phase_)) {
    due = std::max(gathering->look_at, gathering->not_before);
  } else if (const auto* running = std::get_if<Running>(&phase_)) {
    due = running->cohorts.NextTick();
  } else if (const auto* recording = std::get_if<Recording>(&phase_)) {
    due = recording->retry_at;
  }
  return std::min(due, parties_.NextTick());
}

}  // namespace

Result<std::unique_ptr<Core>> Core::Create(CoreOptions options, Store& store,
                                           const IdentityVerifier& verifier, const Clock& clock,
                                           Rng& rng, LogSink& log) {
  if (options.signing_seed.size() != kSeedBytes) {
    return InvalidArgument("signing_seed must be " + std::to_string(kSeedBytes) + " bytes");
  }
  CHORUS_TRY(ValidateTask(options.task));
  CHORUS_TRY_ASSIGN(TaskState state, OpenTask(options, store, rng));
  return Result<std::unique_ptr<Core>>(
      std::make_unique<CoordinatorCore>(Parts{.signing_seed = options.signing_seed,
                                              .executor = options.executor,
                                              .task = std::move(options.task),
                                              .experiment_seed = options.experiment_seed,
                                              .state = std::move(state),
                                              .store = &store,
                                              .verifier = &verifier,
                                              .clock = &clock,
                                              .rng = &rng,
                                              .log = &log}));
}

}  // namespace chorus::coordinator
