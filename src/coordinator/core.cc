#include "coordinator/core.h"

#include <algorithm>
#include <string>
#include <utility>
#include <variant>

#include "base/limits.h"
#include "coordinator/machine.h"
#include "coordinator/round.h"
#include "crypto/crypto.h"
#include "learning/learning.h"
#include "wire/wire.h"

namespace chorus::coordinator {
namespace {

constexpr size_t kSeedBytes = 32;

}  // namespace

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
      events_(*parts_.log),
      sums_(parts_.task) {
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
  if (admission.replaced) {
    Running* const running = RunOf(*admission.replaced);
    if (running != nullptr) running->cohorts.Leave(*admission.replaced, Round::Departure::kFailed);
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
  const Running* const running = RunOf(party->id);
  BytesView body;
  if (party->in_round && running != nullptr && asked.sha256 == running->report.model) {
    body = BytesOf(running->published.empty() ? parts_.state.server.published : running->published);
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
  Running* const running = RunOf(party->id);
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
  if (Running* const running = RunOf(party.id)) {
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
  if (!heard.ok()) LeaveRun(party, now);
  return heard;
}

Result<Bytes> CoordinatorCore::QuestionBody(PartyId to) {
  if (Running* const running = RunOf(to)) return running->cohorts.Body(to);
  return NotFound("no round is running");
}

Result<Bytes> CoordinatorCore::TakeAbort(Party& party, const wire::UploadRequest& request,
                                         Time now) {
  if (request.sequence != party.sequence) {
    return FailedPrecondition("the step of this answer has closed; ask Next what to do");
  }
  if (party.in_round) {
    if (Running* const running = RunOf(party.id)) {
      running->cohorts.Leave(party.id, request.abort_code == Code::kPermissionDenied
                                           ? Round::Departure::kDeclined
                                           : Round::Departure::kFailed);
    }
    LeaveRun(party, now);
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

// --- time and events ---

void CoordinatorCore::Tick() {
  const Time now = parts_.clock->Now();
  parties_.Tick(now);
  if (auto* recording = std::get_if<Recording>(&phase_)) {
    if (now >= recording->retry_at) Record(*recording, now);
  }
  Progress(now);
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
  if (options.signing_seed.size() != kSeedBytes) {
    return InvalidArgument("signing_seed must be " + std::to_string(kSeedBytes) + " bytes");
  }
  CHORUS_TRY(ValidateTask(options.task));
  CHORUS_TRY_ASSIGN(TaskState state, OpenTask({.task = options.task,
                                               .initial_weights = options.initial_weights,
                                               .experiment_seed = options.experiment_seed},
                                              store, rng));
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
