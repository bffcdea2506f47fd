#include "coordinator/core.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <span>
#include <utility>
#include <variant>

#include "base/limits.h"
#include "base/log.h"
#include "coordinator/party.h"
#include "coordinator/round.h"
#include "crypto/crypto.h"
#include "learning/learning.h"
#include "math/math.h"
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

CoordinatorEvent EventOf(CoordinatorEvent::Kind kind, const RoundReport& report) {
  CoordinatorEvent event;
  event.kind = kind;
  event.round = report;
  return event;
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
  Round round;
  RoundReport report;
  Time began{};
  std::vector<PartyId> invited;
};
// The round is over; its result waits to be durable. Nothing else begins meanwhile.
struct Recording {
  Running ran;
  std::optional<Weights> weights;  // of a round that committed
  Digest model{};                  // their content hash
  Time retry_at{};
};
struct Complete {};

class CoordinatorCore final : public Core {
 public:
  explicit CoordinatorCore(Parts parts);

  void Handle(std::string_view method, BytesView request, Reply reply) override;
  void Tick() override;
  Time NextTick() const override;
  std::vector<CoordinatorEvent> TakeEvents() override;
  const Weights& weights() const override { return parts_.state.weights; }

 private:
  Result<Bytes> Challenge(BytesView request, Time now);
  Result<Bytes> CheckIn(BytesView request, Time now);
  void Next(BytesView request, Time now, Reply reply);
  Result<Bytes> Download(BytesView request, Time now);
  Result<Bytes> TakeUpload(BytesView request, Time now);
  Result<Bytes> GetStatus(BytesView request);
  Result<Party*> PartyOf(const wire::SessionToken& session, Time now);
  Result<Bytes> TakeAbort(Party& party, const wire::UploadRequest& request, Time now);
  Status Judge(Party& party, Time now);

  void LookSoon(Time now);
  void Look(Gathering& gathering, Time now);
  void Begin(const std::vector<PartyId>& invited, Time now);
  void Invite(const Running& running);
  void Progress(Time now);
  void Deliver(Running& running, Time now);
  void Conclude(Running& running, Time now);
  Result<Weights> NextWeights(Sum sum, RoundReport& report) const;
  void Record(Recording& recording, Time now);
  void Settle(Recording& recording, Time now);
  void Trouble(const Status& status);
  void AddEvent(CoordinatorEvent event);

  TaskRecord& record() { return parts_.state.record; }

  Parts parts_;
  Signature task_signature_{};
  Parties parties_;
  Time last_look_{};
  uint32_t aborts_in_a_row_ = 0;
  Status trouble_;  // the last one told, until it has passed
  std::deque<CoordinatorEvent> events_;
  std::variant<Gathering, Running, Recording, Complete> phase_;
};

CoordinatorCore::CoordinatorCore(Parts parts)
    : parts_(std::move(parts)),
      task_signature_(crypto::Ed25519Sign(
          parts_.signing_seed, crypto::LabeledHash("CHORUS1/task", {parts_.state.record.spec}))),
      parties_({.coordinator = crypto::Ed25519Public(parts_.signing_seed),
                .verifier = parts_.verifier,
                .rng = parts_.rng,
                .sessions_max = limits::kSessionsMax,
                .uploads_in_flight_bytes_max = limits::kUploadsInFlightBytesMax}) {
  if (record().rounds_committed < parts_.task.rounds) return;
  phase_ = Complete{};
  parties_.Complete();
  AddEvent(EventOf(CoordinatorEvent::Kind::kTaskComplete, {}));
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
    reply(GetStatus(request));
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
    running->round.Leave(*admission.replaced, Round::Departure::kFailed);
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
  wire::UploadReply reply;
  CHORUS_TRY_ASSIGN(const bool whole, parties_.Receive(*party, asked, &reply.received));
  if (whole) CHORUS_TRY(Judge(*party, now));
  return wire::Encode(reply);
}

// Gives a whole answer to the round. A refusal ends the party's part in it, and its reply says so.
Status CoordinatorCore::Judge(Party& party, Time now) {
  Status heard = FailedPrecondition("the round of this answer is over; ask Next what to do");
  if (auto* running = std::get_if<Running>(&phase_)) {
    heard = running->round.Hear(party.id, party.upload->buffer);
  }
  parties_.FinishUpload(party, heard);
  if (!heard.ok()) parties_.LeaveRound(party, now);
  return heard;
}

Result<Bytes> CoordinatorCore::TakeAbort(Party& party, const wire::UploadRequest& request,
                                         Time now) {
  if (request.sequence != party.sequence) {
    return FailedPrecondition("the step of this answer has closed; ask Next what to do");
  }
  if (party.in_round) {
    if (auto* running = std::get_if<Running>(&phase_)) {
      running->round.Leave(party.id, request.abort_code == Code::kPermissionDenied
                                         ? Round::Departure::kDeclined
                                         : Round::Departure::kFailed);
    }
    parties_.LeaveRound(party, now);
  }
  return wire::Encode(wire::UploadReply{});
}

Result<Bytes> CoordinatorCore::GetStatus(BytesView request) {
  CHORUS_TRY_ASSIGN(const wire::StatusRequest asked, wire::Decode<wire::StatusRequest>(request));
  wire::StatusReply reply;
  reply.task = parts_.task.name;
  reply.rounds_wanted = parts_.task.rounds;
  reply.rounds_begun = record().rounds_begun;
  reply.rounds_committed = record().rounds_committed;
  reply.clients = static_cast<uint32_t>(parties_.size());
  if (const auto* running = std::get_if<Running>(&phase_)) reply.step = running->round.step();
  if (std::holds_alternative<Recording>(phase_)) reply.step = "recording";
  const uint32_t count = std::min(asked.round_count, limits::kStatusRoundsMax);
  if (count > 0) {
    CHORUS_TRY(parts_.store->RunTransaction("status", [&](Transaction& transaction) -> Status {
      CHORUS_TRY_ASSIGN(reply.rounds, transaction.Rounds(record().id, asked.first_round, count));
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

// Begins a round when enough clients are waiting: as many as it wants, or enough for a small one
// that nobody joined for deadlines.check_in.
void CoordinatorCore::Look(Gathering& gathering, Time now) {
  if (now < gathering.not_before || now < gathering.look_at) return;
  last_look_ = now;
  const CohortSpec& cohort = parts_.task.cohort;
  const uint64_t wanted =
      (cohort.target * (uint64_t{100} + cohort.over_selection_percent) + 99) / 100;
  const size_t invite = static_cast<size_t>(std::min<uint64_t>(wanted, cohort.maximum));
  std::vector<PartyId> waiting = parties_.Waiting(now);
  if (waiting.size() < cohort.minimum) {
    gathering.minimum_since.reset();
    gathering.look_at = Time::max();
    return;
  }
  if (!gathering.minimum_since) gathering.minimum_since = now;
  const Time patience = *gathering.minimum_since + parts_.task.deadlines.check_in;
  if (waiting.size() < invite && now < patience) {
    gathering.look_at = patience;
    return;
  }
  std::optional<SelectionSeed> experiment;
  if (parts_.experiment_seed) {
    experiment = {.seed = *parts_.experiment_seed, .round = record().rounds_begun + 1};
  }
  Begin(parties_.Select(std::move(waiting), invite, experiment), now);
}

// --- the course of a round ---

// The round's number is durable before anybody hears of it, so that after a crash it is never used
// again: clients keep a ledger of rounds that they gave to.
void CoordinatorCore::Begin(const std::vector<PartyId>& invited, Time now) {
  TaskRecord begun = record();
  ++begun.rounds_begun;
  RoundReport report;
  report.round = begun.rounds_begun;
  report.model = begun.model;
  report.invited = static_cast<uint32_t>(invited.size());
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
    Trouble(status);
    phase_ = PauseUntil(now + kStoreRetry);
    return;
  }
  trouble_ = OkStatus();
  record() = std::move(begun);
  parts_.rng->Fill(params->nonce);
  params->coordinator_id = crypto::Ed25519Public(parts_.signing_seed);
  RoundOptions options{.task = &parts_.task,
                       .params = *params,
                       .signing_seed = parts_.signing_seed,
                       .verifier = parts_.verifier,
                       .executor = parts_.executor,
                       .invited = invited};
  phase_ = Running{
      .round = Round(std::move(options), now), .report = report, .began = now, .invited = invited};
  parties_.TakeTraffic();
  Log(*parts_.log, LogLevel::kInfo, "round began",
      {{"round", report.round}, {"invited", report.invited}});
  AddEvent(EventOf(CoordinatorEvent::Kind::kRoundBegan, report));
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
    if (Party* party = parties_.Find(id)) parties_.Ask(*party, invitation);
  }
}

void CoordinatorCore::Progress(Time now) {
  auto* running = std::get_if<Running>(&phase_);
  if (running == nullptr) return;
  running->round.Advance(now);
  Deliver(*running, now);
  if (running->round.outcome() != nullptr) Conclude(*running, now);
}

// Passes on what the round has to say.
void CoordinatorCore::Deliver(Running& running, Time now) {
  RoundNews news = running.round.TakeNews();
  running.report.dropouts = running.round.dropouts();
  running.report.refused = running.round.declined();
  for (const ClosedStep& step : news.closed) {
    Log(*parts_.log, LogLevel::kInfo, "step closed",
        {{"round", running.report.round}, {"answered", step.answered}, {"asked", step.asked}});
    CoordinatorEvent event = EventOf(CoordinatorEvent::Kind::kStepClosed, running.report);
    event.step = step.name;
    event.answered = step.answered;
    event.asked = step.asked;
    AddEvent(std::move(event));
  }
  for (const PartyId id : news.lost) {
    Party* party = parties_.Find(id);
    if (party == nullptr) continue;
    if (running.round.Contributed(id)) {
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
  for (Question& question : news.questions) {
    Party* party = parties_.Find(question.to);
    if (party != nullptr) {
      parties_.Ask(*party, std::move(question));
    } else {
      running.round.Leave(question.to, Round::Departure::kFailed);
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
  Result<Sum> sum = std::move(*running.round.outcome());
  Result<Weights> weights =
      sum.ok() ? NextWeights(*std::move(sum), report) : Result<Weights>(sum.status());
  Recording recording{.ran = std::move(running), .weights = {}};
  if (weights.ok()) {
    recording.ran.report.state = RoundState::kCommitted;
    recording.model = crypto::Sha256(BytesOf(*weights));
    recording.weights = *std::move(weights);
  } else {
    recording.ran.report.state = RoundState::kAborted;
    recording.ran.report.code = weights.status().code();
    recording.ran.report.reason = weights.status().message();
  }
  phase_ = std::move(recording);
  Record(std::get<Recording>(phase_), now);
}

// The model after a sum; kAborted when the sum, or the model that it makes, is not to be used.
Result<Weights> CoordinatorCore::NextWeights(Sum sum, RoundReport& report) const {
  const TaskSpec& task = parts_.task;
  CHORUS_TRY_ASSIGN(const math::FixedPoint encoding,
                    math::FixedPointFor(parts_.state.weights.size(), task.clip, task.encoding,
                                        task.cohort.maximum));
  CHORUS_TRY_ASSIGN(const math::Mean mean, math::Decode(encoding, sum));
  Weights weights = parts_.state.weights;
  learning::ApplyMean(weights, mean.update, task.server_learning_rate);
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
        return transaction.PutRound(next.id, report);
      });
  if (!status.ok()) {
    Trouble(status);
    recording.retry_at = now + kStoreRetry;
    return;
  }
  trouble_ = OkStatus();
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
    parties_.LeaveRound(*party, now);
    parties_.Tell(*party, {.round = ran.report.round,
                           .counted = committed && ran.round.Contributed(id),
                           .code = ran.report.code,
                           .reason = ran.report.reason});
  }
  Log(*parts_.log, LogLevel::kInfo, "round ended",
      {{"round", ran.report.round},
       {"code", static_cast<int32_t>(ran.report.code)},
       {"contributors", ran.report.contributors}});
  AddEvent(EventOf(CoordinatorEvent::Kind::kRoundEnded, ran.report));
  if (!complete) return;
  parties_.Complete();
  Log(*parts_.log, LogLevel::kInfo, "task complete", {{"round", ran.report.round}});
  AddEvent(EventOf(CoordinatorEvent::Kind::kTaskComplete, ran.report));
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
    due = running->round.NextTick();
  } else if (const auto* recording = std::get_if<Recording>(&phase_)) {
    due = recording->retry_at;
  }
  return std::min(due, parties_.NextTick());
}

// Told once while it lasts, so that an hour of a full disk does not push out other events.
void CoordinatorCore::Trouble(const Status& status) {
  if (trouble_.code() == status.code() && trouble_.message() == status.message()) return;
  trouble_ = status;
  Log(*parts_.log, LogLevel::kWarn, "the store failed; trying again every second",
      {{"code", static_cast<int32_t>(status.code())}});
  CoordinatorEvent event = EventOf(CoordinatorEvent::Kind::kTrouble, {});
  event.trouble = status;
  AddEvent(std::move(event));
}

void CoordinatorCore::AddEvent(CoordinatorEvent event) {
  if (events_.size() >= limits::kEventsMax) events_.pop_front();
  events_.push_back(std::move(event));
}

std::vector<CoordinatorEvent> CoordinatorCore::TakeEvents() {
  std::vector<CoordinatorEvent> taken(std::make_move_iterator(events_.begin()),
                                      std::make_move_iterator(events_.end()));
  events_.clear();
  return taken;
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
