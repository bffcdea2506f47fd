#include "coordinator/core.h"

#include <algorithm>
#include <array>
#include <span>
#include <string>
#include <utility>
#include <variant>

#include "base/limits.h"
#include "chorus/audit.h"
#include "coordinator/machine.h"
#include "coordinator/processes.h"
#include "coordinator/round.h"
#include "crypto/crypto.h"
#include "learning/learning.h"
#include "wire/wire.h"

namespace chorus::coordinator {
namespace {

constexpr size_t kSeedBytes = 32;

std::vector<wire::StepInfo> StepsOf(const TaskSpec& task) {
  std::vector<wire::StepInfo> steps = {{.name = "training"}};
  const SharingGraph graph = task.secagg.graph;
  const std::span<const aggregation::Step> kinds = aggregation::Steps(task.protocol, graph);
  const std::span<const std::string_view> names = aggregation::StepNames(task.protocol, graph);
  for (size_t i = 0; i < kinds.size(); ++i) {
    const bool input = kinds[i] == aggregation::Step::kInput;
    steps.push_back({.name = std::string(names[i]),
                     .of_clients = input || task.protocol != Protocol::kOneShot,
                     .brings_input = input});
  }
  return steps;
}

// The round as it stands: what its report will say so far.
wire::RoundInFlight InFlight(const Running& running, const Traffic& traffic, Time now) {
  wire::RoundInFlight in_flight;
  in_flight.round = running.report;
  in_flight.round.dropouts = running.cohorts.dropouts();
  in_flight.round.refused = running.cohorts.declined();
  in_flight.round.bytes_up = traffic.up;
  in_flight.round.bytes_down = traffic.down;
  in_flight.running_ms = static_cast<uint64_t>((now - running.began).count());
  const StepProgress progress = running.cohorts.progress();
  in_flight.asked = progress.asked;
  in_flight.answered = progress.answered;
  return in_flight;
}

// Whether a client that gives this code will do so again, at least for some time: its policy, its
// ledger, its memory or its examples do not suit the task.
bool IsRefusal(Code code) {
  return code == Code::kPermissionDenied || code == Code::kInvalidArgument ||
         code == Code::kResourceExhausted || code == Code::kUnimplemented;
}

}  // namespace

CoordinatorCore::CoordinatorCore(Parts parts)
    : parts_(std::move(parts)),
      task_sha256_(crypto::Sha256(parts_.state.record.spec)),
      task_signature_(crypto::Ed25519Sign(
          parts_.signing_seed, crypto::LabeledHash("CHORUS1/task", {parts_.state.record.spec}))),
      committee_(parts_.task),
      parties_({.sessions = parts_.sessions,
                .place = parts_.place,
                .coordinator = crypto::Ed25519Public(parts_.signing_seed),
                .verifier = parts_.verifier,
                .rng = parts_.rng,
                .clock = parts_.clock,
                .admission = parts_.admission,
                .pacing = parts_.pacing,
                .standing = &standing_,
                .committee = &committee_,
                .question = [this](PartyId to) { return QuestionBody(to); },
                .sessions_max = limits::kSessionsMax,
                .uploads_in_flight_bytes_max = limits::kUploadsInFlightBytesMax}),
      tempo_(parts_.task),
      events_(parts_.task.name, *parts_.log),
      sums_(parts_.task) {
  // An experiment's selection must not depend on who waits connected.
  parties_.pacing().Want(parts_.experiment_seed ? kEverybody : ClientsWanted(parts_.task.cohort));
  if (parts_.store->shared()) {
    shared_.emplace(SharedTaskOptions{.store = parts_.store,
                                      .task = &parts_.task,
                                      .clock = parts_.clock,
                                      .process = parts_.process,
                                      .address = parts_.address,
                                      .retention = parts_.retention},
                    parts_.state);
  }
  applied_mode_ = record().mode;
  if (record().mode == TaskMode::kPaused) parties_.Pause(true);
  if (!over()) return;
  phase_ = Complete{};
  parties_.Complete();
  events_.TaskComplete({});
}

CoordinatorCore::~CoordinatorCore() {
  if (shared_) shared_->Leave();
}

// --- calls ---

void CoordinatorCore::Handle(std::string_view method, Body request, Reply reply) {
  const Time now = parts_.clock->Now();
  if (request.size() > limits::kMessageBytesMax) {
    reply(ResourceExhausted("the request is longer than a message may be"));
  } else if (method == wire::kChallenge) {
    reply(Challenge(request.Whole(), now));
  } else if (method == wire::kCheckIn) {
    Result<Vetted> vetted = parties_.admission()->Vet(request.Whole(), now);
    if (!vetted.ok()) return reply(vetted.status());
    Admit(*std::move(vetted), std::move(reply));
  } else if (method == wire::kNext) {
    Next(request.Whole(), now, std::move(reply));
  } else if (method == wire::kDownload) {
    reply(Download(request.Whole(), now));
  } else if (method == wire::kUpload) {
    Result<UploadCall> call = UploadCall::Read(std::move(request));
    if (!call.ok()) return reply(call.status());
    TakeUpload(*std::move(call), std::move(reply));
  } else if (method == wire::kGetStatus) {
    const Result<wire::StatusRequest> asked = wire::Decode<wire::StatusRequest>(request.Whole());
    if (!asked.ok()) return reply(asked.status());
    const Result<wire::StatusReply> status = StatusOf(*asked, now);
    reply(status.ok() ? Result<Bytes>(wire::Encode(*status)) : status.status());
  } else {
    reply(Status(Code::kUnimplemented, "this coordinator knows no such call"));
  }
}

void CoordinatorCore::TakeUpload(UploadCall call, Reply reply) {
  const Time now = parts_.clock->Now();
  // Answered before the round goes on: opening a sum takes longer than a client should wait.
  HearUpload(call, now, std::move(reply));
  Progress(now);
  parties_.GiveTurns(now);
}

Result<Bytes> CoordinatorCore::Challenge(BytesView request, Time now) {
  CHORUS_TRY(wire::Decode<wire::ChallengeRequest>(request));
  return wire::Encode(wire::ChallengeReply{.challenge = parties_.NewChallenge(now)});
}

void CoordinatorCore::Admit(Vetted vetted, Reply reply) {
  const Time now = parts_.clock->Now();
  reply(CheckIn(vetted, now));
  Progress(now);
}

Result<Bytes> CoordinatorCore::CheckIn(const Vetted& vetted, Time now) {
  CHORUS_TRY_ASSIGN(const Admitted admitted, parties_.Admit(vetted, now));
  if (admitted.replaced) {
    Running* const running = RunOf(*admitted.replaced);
    if (running != nullptr) running->cohorts.Leave(*admitted.replaced, Round::Departure::kFailed);
  }
  LookSoon(now);
  return wire::Encode(wire::CheckInReply{.session = admitted.session});
}

Result<Party*> CoordinatorCore::PartyOf(const wire::SessionToken& session, Time now) {
  Party* party = parties_.Authenticate(session, now);
  if (party == nullptr) return Unauthenticated("this session is not open here; check in again");
  CHORUS_TRY(party->allowance.Call(now));
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
  const Running* const running = RunOf(party->id);
  BytesView body;
  if (party->in_round && running != nullptr && asked.sha256 == running->report.model) {
    body = BytesOf(running->published.empty() ? parts_.state.server.published : running->published);
  } else if (!party->question.empty() && asked.sha256 == party->question_sha256) {
    body = party->question;
  } else {
    return NotFound("there is nothing of this digest for this client now");
  }
  CHORUS_TRY_ASSIGN(const wire::DownloadReply chunk, parties_.Chunk(*party, body, asked));
  party->allowance.Give(chunk.data.size(), now);
  return wire::Encode(chunk);
}

void CoordinatorCore::HearUpload(UploadCall& call, Time now, Reply reply) {
  const Result<Party*> party = PartyOf(call.chunk.session, now);
  if (!party.ok()) return reply(party.status());
  if (call.chunk.abort_code != Code::kOk) return reply(TakeAbort(**party, call.chunk, now));
  if (parties_.WaitForTurn(**party, call.chunk, reply)) return;
  reply(TakeChunk(**party, call, now));
}

Result<Bytes> CoordinatorCore::TakeChunk(Party& party, UploadCall& call, Time now) {
  Running* const running = RunOf(party.id);
  if (running != nullptr && parties_.Contradicts(party, call.chunk)) {
    running->cohorts.HearAgain(party.id, call.chunk.data);
  }
  wire::UploadReply reply;
  CHORUS_TRY_ASSIGN(const bool whole, parties_.Receive(party, call, &reply.received));
  if (whole) CHORUS_TRY(Judge(party, now));
  return wire::Encode(reply);
}

// Gives a whole answer to the round. A refusal ends the party's part in it, and its reply says so.
Status CoordinatorCore::Judge(Party& party, Time now) {
  Status heard = FailedPrecondition("the round of this answer is over; ask Next what to do");
  if (Running* const running = RunOf(party.id)) {
    const Incoming& answer = party.upload->answer;
    // The pre-keys of somebody else, replayed, would keep that one out of the session.
    if (party.upload->ready && answer.size() > 0 &&
        !aggregation::NamesIdentity(Join(answer.pieces()), party.identity)) {
      heard = InvalidArgument("the pre-keys are another identity's than the one checked in");
      running->cohorts.Leave(party.id, Round::Departure::kFailed);
    } else {
      heard = running->cohorts.Hear(party.id, answer.pieces());
    }
  }
  parties_.FinishUpload(party, heard);
  if (!heard.ok()) LeaveRun(party, now);
  return heard;
}

Result<Bytes> CoordinatorCore::QuestionBody(PartyId to) {
  if (Running* const running = RunOf(to)) return running->cohorts.Body(to);
  return NotFound("no round is running");
}

Result<Bytes> CoordinatorCore::TakeAbort(Party& party, const wire::UploadChunk& request, Time now) {
  if (request.sequence != party.sequence) {
    return FailedPrecondition("the step of this answer has closed; ask Next what to do");
  }
  if (party.in_round) {
    if (Running* const running = RunOf(party.id)) {
      running->cohorts.Leave(party.id, request.abort_code == Code::kPermissionDenied
                                           ? Round::Departure::kDeclined
                                           : Round::Departure::kFailed);
    }
    if (IsRefusal(request.abort_code)) parties_.NoteRefusal(party, now);
    LeaveRun(party, now);
  }
  return wire::Encode(wire::UploadReply{});
}

Result<wire::StatusReply> CoordinatorCore::StatusOf(const wire::StatusRequest& asked, Time now) {
  wire::StatusReply reply;
  reply.task = parts_.task.name;
  reply.rounds_wanted = parts_.task.rounds;
  reply.rounds_begun = record().rounds_begun;
  reply.rounds_committed = record().rounds_committed;
  reply.clients = static_cast<uint32_t>(parties_.clients());
  reply.committee = parties_.CommitteeStatus(now);
  reply.steps = StepsOf(parts_.task);
  reply.step = Step();
  if (const auto* running = std::get_if<Running>(&phase_)) {
    reply.in_flight = InFlight(*running, parties_.traffic(), now);
  }
  const uint32_t count = std::min(asked.round_count, limits::kStatusPageRounds);
  if (count > 0) {
    CHORUS_TRY(parts_.store->RunTransaction("status", [&](Transaction& transaction) -> Status {
      CHORUS_TRY_ASSIGN(reply.rounds, transaction.Rounds(record().id, asked.first_round, count));
      CHORUS_TRY_ASSIGN(reply.evidence,
                        transaction.ListEvidence(record().id, limits::kStatusEvidenceMax));
      if (!shared_) return OkStatus();
      CHORUS_TRY_ASSIGN(reply.processes, ProcessesOf(transaction, record()));
      return OkStatus();
    }));
  }
  reply.tasks = {Summary()};
  return reply;
}

wire::TaskStatus CoordinatorCore::Summary() const {
  const TaskRecord& record = parts_.state.record;
  return {.name = parts_.task.name,
          .mode = record.mode,
          .priority = priority(),
          .rounds_wanted = parts_.task.rounds,
          .rounds_begun = record.rounds_begun,
          .rounds_committed = record.rounds_committed,
          .clients = static_cast<uint32_t>(parties_.clients()),
          .step = Step()};
}

std::string CoordinatorCore::Step() const {
  if (const auto* running = std::get_if<Running>(&phase_)) {
    return std::string(running->cohorts.step());
  }
  return std::holds_alternative<Recording>(phase_) ? "recording" : "";
}

// --- time and events ---

void CoordinatorCore::Tick() {
  const Time now = parts_.clock->Now();
  const bool changed = record().mode != applied_mode_;
  ApplyMode(now);
  // By another process, as orders given here are told of at once.
  if (changed) events_.TaskChanged(record().mode);
  parties_.Tick(now);
  if (auto* recording = std::get_if<Recording>(&phase_)) {
    if (now >= recording->retry_at) Record(*recording, now);
  }
  Progress(now);
  // Opening a sum takes time in which leases have run on.
  if (shared_) Watch(parts_.clock->Now());
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
  for (const Running& late : late_) due = std::min(due, late.cohorts.NextTick());
  if (shared_) {
    due = std::min({due, shared_->next_look(), shared_->next_hand_in(), shared_->lost_at()});
  }
  return std::min(due, parties_.NextTick());
}

Weights CoordinatorCore::weights() const {
  const Weights& published = parts_.state.server.published;
  const uint64_t dim =
      parts_.task.queries.empty() ? learning::ParameterCount(parts_.task.model) : 0;
  return Weights(published.begin(), published.begin() + static_cast<ptrdiff_t>(dim));
}

Result<std::unique_ptr<Core>> Core::Create(CoreOptions options, Store& store,
                                           const IdentityVerifier& verifier, const Clock& clock,
                                           Rng& rng, LogSink& log) {
  CHORUS_TRY_ASSIGN(std::unique_ptr<CoordinatorCore> core,
                    CoordinatorCore::Make(std::move(options), store, verifier, clock, rng, log));
  return Result<std::unique_ptr<Core>>(std::move(core));
}

Result<std::unique_ptr<CoordinatorCore>> CoordinatorCore::Make(CoreOptions options, Store& store,
                                                               const IdentityVerifier& verifier,
                                                               const Clock& clock, Rng& rng,
                                                               LogSink& log) {
  if (options.signing_seed.size() != kSeedBytes) {
    return InvalidArgument("signing_seed must be " + std::to_string(kSeedBytes) + " bytes");
  }
  CHORUS_TRY(ValidateTask(options.task));
  // Before the store has it, where it would stay.
  if (store.shared() && options.task.server.buffered_sums > 0) {
    return FailedPrecondition(
        "server.buffered_sums needs a store of the coordinator's own: its sums wait in one "
        "process's memory; leave it out, or serve the task from a SQLite store");
  }
  if (!options.created) {
    options.created.emplace();
    options.created->number = 1;
    options.created->unix_seconds = clock.UnixSeconds();
    options.created->priority = options.priority;
    SignAudit(crypto::Sha256(wire::EncodeTask(options.task)), options.signing_seed,
              *options.created);
  }
  CHORUS_TRY_ASSIGN(TaskState state, OpenTask({.task = options.task,
                                               .initial_weights = options.initial_weights,
                                               .experiment_seed = options.experiment_seed,
                                               .created = *options.created},
                                              store, rng));
  if (store.shared() && options.process.empty()) options.process = DrawProcessName(rng);
  return Result<std::unique_ptr<CoordinatorCore>>(
      std::make_unique<CoordinatorCore>(Parts{.signing_seed = options.signing_seed,
                                              .executor = options.executor,
                                              .task = std::move(options.task),
                                              .sessions = options.sessions,
                                              .place = options.place,
                                              .experiment_seed = options.experiment_seed,
                                              .retention = options.retention,
                                              .state = std::move(state),
                                              .store = &store,
                                              .verifier = &verifier,
                                              .clock = &clock,
                                              .rng = &rng,
                                              .log = &log,
                                              .process = std::move(options.process),
                                              .address = std::move(options.address),
                                              .admission = options.admission,
                                              .pacing = options.pacing}));
}

}  // namespace chorus::coordinator
