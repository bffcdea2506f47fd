#include "client/session.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/limits.h"
#include "base/log.h"
#include "client/conversation.h"
#include "client/event_log.h"
#include "crypto/crypto.h"
#include "learning/learning.h"
#include "wire/wire.h"

namespace chorus::client {
namespace {

using std::chrono::milliseconds;

// How often one answer may fail to get further before the coordinator counts as broken.
constexpr uint32_t kStallsMax = 8;
// A coordinator that does not park its calls is not asked more often than this.
constexpr milliseconds kWaitMin{20};
// A client whose turn it is after minutes and who then finds nobody waits for some seconds from the
// first, as if it had failed so often: while a coordinator restarts, others have their turns too.
constexpr uint32_t kUnhurried = 5;
// A client that was sent away comes back at most this part of its stay too late.
constexpr int64_t kStaySpread = 32;

// Whether the same call may go better later.
bool Passing(Code code) {
  return code == Code::kUnavailable || code == Code::kDeadlineExceeded || code == Code::kCancelled;
}

// The same, of calls that no round depends on: there a coordinator may also be short of something,
// be restarting, or have ended a call in favour of a newer one.
bool PassingOutsideRound(Code code) {
  return Passing(code) || code == Code::kResourceExhausted || code == Code::kAborted ||
         code == Code::kInternal || code == Code::kUnknown;
}

}  // namespace

// --- what to do now ------------------------------------------------------------------------------

Action Conversation::Next() {
  if (options_.cancel->requested() && !std::holds_alternative<Stopped>(phase_)) {
    Lose(Cancelled("the client was stopped"));
    phase_ = Stopped{Cancelled("the client was stopped")};
    Emit(ClientEvent::Kind::kStopped, 0, Cancelled("the client was stopped"));
  }
  if (const auto* stopped = std::get_if<Stopped>(&phase_)) return StopAction{stopped->status};
  if (current_.has_value() && current_->round != nullptr && options_.clock->Now() > current_->until)
    Restart({Code::kDeadlineExceeded, "the round took longer than its task allows"});
  if (options_.clock->Now() < not_before_) {
    return WaitAction{not_before_, std::exchange(hang_up_, false)};
  }
  if (std::holds_alternative<Training>(phase_)) return WorkAction{};
  return NextCall();
}

CallAction Conversation::NextCall() const {
  if (const auto* checking_in = std::get_if<CheckingIn>(&phase_))
    return CheckIn(checking_in->challenge);
  if (std::holds_alternative<Polling>(phase_))
    return CallFor(wire::kNext, wire::Encode(wire::NextRequest{.session = token_, .done = done_}));
  if (std::holds_alternative<FetchingModel>(phase_)) {
    CallAction call = CallFor(
        wire::kDownload, wire::Encode(wire::DownloadRequest{.session = token_,
                                                            .sha256 = fetched_.sha256(),
                                                            .offset = fetched_.received(),
                                                            .bytes_max = fetched_.piece_bytes()}));
    call.of_model = true;
    return call;
  }
  if (const auto* fetching = std::get_if<FetchingQuestion>(&phase_))
    return CallFor(wire::kDownload,
                   wire::Encode(wire::DownloadRequest{.session = token_,
                                                      .sha256 = fetching->question.sha256,
                                                      .offset = fetching->question.data.size(),
                                                      .bytes_max = 0}));
  if (const auto* answering = std::get_if<Answering>(&phase_)) return Upload(*answering);
  return CallFor(wire::kChallenge, wire::Encode(wire::ChallengeRequest{}));
}

CallAction Conversation::CheckIn(const Digest& challenge) const {
  const ClientOptions& mine = *options_.options;
  const BytesView seed = mine.identity_seed.Reveal();
  wire::CheckInRequest request;
  request.challenge = challenge;
  request.identity = crypto::Ed25519Public(seed);
  request.evidence = mine.certificate;
  request.token = mine.token != nullptr ? mine.token() : Bytes();
  request.tasks = mine.tasks;
  const Digest evidence_hash = crypto::Sha256(request.evidence);
  const Digest words = crypto::LabeledHash(
      "CHORUS1/check-in", {mine.coordinator, request.challenge, request.identity, evidence_hash});
  request.signature = crypto::Ed25519Sign(seed, words);
  return CallFor(wire::kCheckIn, wire::Encode(request));
}

CallAction Conversation::Upload(const Answering& answering) const {
  const BytesView all = answering.answer.Reveal();
  const size_t offset = static_cast<size_t>(answering.received);
  const size_t piece_bytes =
      answering.announced ? std::min(limits::kChunkBytesMax, all.size() - offset) : 0;
  const BytesView piece = all.subspan(offset, piece_bytes);
  return CallFor(wire::kUpload,
                 wire::Encode(wire::UploadRequest{.session = token_,
                                                  .sequence = pending_,
                                                  .offset = answering.received,
                                                  .total_bytes = all.size(),
                                                  .sha256 = answering.sha256,
                                                  .data = Bytes(piece.begin(), piece.end()),
                                                  .abort_code = answering.abort_code}));
}

// --- how it went ---------------------------------------------------------------------------------

void Conversation::Deliver(Result<Bytes> reply) {
  if (std::holds_alternative<Stopped>(phase_) || std::holds_alternative<Training>(phase_)) return;
  if (!reply.ok()) return Failed(reply.status());
  Heard(*reply);
}

void Conversation::Failed(const Status& status) {
  const Code code = status.code();
  if (std::holds_alternative<Challenging>(phase_) || std::holds_alternative<CheckingIn>(phase_)) {
    phase_ = Challenging{};
    Delay(/*slowly=*/!PassingOutsideRound(code), status.retry_after());
    return TellDown(status);
  }
  if (code == Code::kUnauthenticated) return Restart(status);
  const bool polling = std::holds_alternative<Polling>(phase_);
  const bool later = Passing(code) || status.retry_after() > milliseconds{0};
  if (polling ? PassingOutsideRound(code) : later) {
    Delay(/*slowly=*/false, status.retry_after());
    // To be asked for a moment's patience is not to be cut off.
    return status.retry_after() > milliseconds{0} ? void() : TellDown(status);
  }
  if (polling) return Restart(status);
  if (auto* answering = std::get_if<Answering>(&phase_)) return AnswerRefused(*answering, status);
  Abandon(status);
}

void Conversation::Heard(BytesView reply) {
  Status sense;
  if (std::holds_alternative<Challenging>(phase_)) {
    sense = HearChallenge(reply);
  } else if (std::holds_alternative<CheckingIn>(phase_)) {
    sense = HearCheckIn(reply);
  } else if (std::holds_alternative<Polling>(phase_)) {
    sense = HearNext(reply);
  } else if (std::holds_alternative<FetchingModel>(phase_)) {
    sense = HearModel(reply);
  } else if (auto* fetching = std::get_if<FetchingQuestion>(&phase_)) {
    sense = HearQuestionPiece(*fetching, reply);
  } else if (auto* answering = std::get_if<Answering>(&phase_)) {
    sense = HearUpload(*answering, reply);
  }
  if (sense.ok()) return;
  Log(*options_.log, LogLevel::kWarn, "the coordinator's reply makes no sense",
      {{"code", static_cast<int32_t>(sense.code())}});
  Restart(sense);
}

Status Conversation::HearChallenge(BytesView reply) {
  CHORUS_TRY_ASSIGN(const wire::ChallengeReply answer, wire::Decode<wire::ChallengeReply>(reply));
  phase_ = CheckingIn{answer.challenge};
  return OkStatus();
}

Status Conversation::HearCheckIn(BytesView reply) {
  CHORUS_TRY_ASSIGN(const wire::CheckInReply answer, wire::Decode<wire::CheckInReply>(reply));
  token_ = answer.session;
  done_ = 0;
  phase_ = Polling{};
  if (told_ != Code::kOk) Emit(ClientEvent::Kind::kConnected, 0, OkStatus());
  told_ = Code::kOk;
  return OkStatus();
}

Status Conversation::HearNext(BytesView reply) {
  CHORUS_TRY_ASSIGN(wire::NextReply next, wire::Decode<wire::NextReply>(reply));
  if (const auto* wait = std::get_if<wire::Wait>(&next.what)) return HearWait(next.sequence, *wait);
  if (next.sequence <= done_)
    return InvalidArgument("the coordinator's sequence numbers do not rise");
  pending_ = next.sequence;
  if (const auto* invitation = std::get_if<wire::Invitation>(&next.what))
    return HearInvitation(*invitation);
  if (auto* question = std::get_if<wire::Question>(&next.what))
    return HearQuestion(std::move(*question));
  return HearRoundOver(std::get<wire::RoundOver>(next.what));
}

Status Conversation::HearWait(uint64_t sequence, const wire::Wait& wait) {
  if (sequence != done_) return InvalidArgument("the coordinator's sequence numbers do not agree");
  Progress();
  if (wait.complete) {
    Lose(Aborted("the task was completed without this round"));
    phase_ = Stopped{};
    Emit(ClientEvent::Kind::kStopped, 0, OkStatus());
    return OkStatus();
  }
  if (wait.hang_up) return HearHangUp(milliseconds{wait.retry_ms});
  not_before_ = options_.clock->Now() +
                std::clamp(milliseconds{wait.retry_ms}, kWaitMin, limits::kBackoffMax);
  return OkStatus();
}

// The coordinator has forgotten this session, and gives others their turns too: coming early would
// only be one more call, coming a little later, by chance, keeps turns apart that clocks and
// networks have pushed together.
Status Conversation::HearHangUp(milliseconds stay) {
  stay = std::clamp(stay, kWaitMin, limits::kStayAwayMax);
  Lose(Aborted("the round went on without this client"));
  current_.reset();
  token_ = {};
  phase_ = Challenging{};
  hang_up_ = true;
  failures_ = kUnhurried;
  const auto spread = static_cast<uint64_t>((stay / kStaySpread).count());
  not_before_ = options_.clock->Now() + stay +
                milliseconds{static_cast<int64_t>(UniformBelow(*options_.rng, spread + 1))};
  return OkStatus();
}

// --- a round -------------------------------------------------------------------------------------

Status Conversation::HearInvitation(const wire::Invitation& invitation) {
  Lose(Aborted("the coordinator began another round"));
  current_.emplace();
  current_->number = invitation.round;
  Emit(ClientEvent::Kind::kInvited, invitation.round, OkStatus());
  Result<std::unique_ptr<Round>> agreed = Agree(invitation);
  if (!agreed.ok()) {
    Progress();
    Decline(agreed.status());
    return OkStatus();
  }
  const AcceptedTask& task = (*agreed)->task();
  if (invitation.model_bytes != task.published * sizeof(float))
    return InvalidArgument("the invitation's model is not as large as its task says");
  Progress();
  current_->until = options_.clock->Now() + LongestRound(task.spec.deadlines);
  current_->round = *std::move(agreed);
  if (options_.role == Role::kCommitteeMember) {
    Attend();
    return OkStatus();
  }
  model_spec_ = task.spec.queries.empty() ? task.spec.model : ModelSpec();
  model_round_ = invitation.round;
  if (model_.sha256 == invitation.model && model_.weights.size() == task.published) {
    phase_ = Training{};
    return OkStatus();
  }
  model_ = {};
  if (!fetched_.Of(invitation.model, task.published))
    fetched_ = ModelDownload(invitation.model, task.published);
  phase_ = FetchingModel{};
  return OkStatus();
}

// Everything that can be asked before the model is here.
Result<std::unique_ptr<Round>> Conversation::Agree(const wire::Invitation& invitation) {
  CHORUS_TRY_ASSIGN(AcceptedTask task,
                    AcceptTask(options_, invitation.task, invitation.task_signature));
  const std::vector<std::string>& mine = options_.options->tasks;
  if (!mine.empty() && std::find(mine.begin(), mine.end(), task.spec.name) == mine.end())
    return PermissionDenied("this client serves other tasks than the one it is invited to");
  if (seen_tasks_.size() >= limits::kTasksMax && !seen_tasks_.contains(task.id))
    seen_tasks_.erase(seen_tasks_.begin());
  if (seen_tasks_.try_emplace(task.id, task.hash).first->second != task.hash)
    return PermissionDenied(
        "the task has changed under the name that it had; restart to accept it");
  auto round = std::make_unique<Round>(options_, std::move(task), invitation.round);
  // How often the model was answered is asked when it is here. A session that the ledger would not
  // let begin is declined now, before anything is trained in vain.
  CHORUS_TRY(round->PermitAttempt());
  return round;
}

Status Conversation::HearModel(BytesView reply) {
  CHORUS_TRY_ASSIGN(const wire::DownloadReply piece, wire::Decode<wire::DownloadReply>(reply));
  CHORUS_TRY(fetched_.Take(piece.data, piece.total_bytes));
  Progress();
  if (!fetched_.whole()) return OkStatus();
  CHORUS_TRY_ASSIGN(model_, std::exchange(fetched_, {}).Finish());
  phase_ = Training{};
  return OkStatus();
}

std::optional<ModelView> Conversation::model() const {
  const uint64_t dim = learning::ParameterCount(model_spec_);
  if (dim == 0 || model_.weights.size() < dim) return std::nullopt;
  return ModelView{.spec = &model_spec_,
                   .weights = std::span<const float>(model_.weights).first(dim),
                   .round = model_round_};
}

void Conversation::Attend() {
  if (const Status attending = current_->round->Attend(); !attending.ok())
    return Abandon(attending);
  StartAnswer({}, Code::kOk);
}

void Conversation::Work() {
  if (!std::holds_alternative<Training>(phase_)) return;
  if (const Status permitted = current_->round->Permit(model_); !permitted.ok())
    return Decline(permitted);
  if (const Status trained = current_->round->Train(model_, current_->until); !trained.ok())
    return Abandon(trained);
  Emit(ClientEvent::Kind::kTrained, current_->number, OkStatus());
  StartAnswer(SecretBytes(Bytes(current_->round->ready())), Code::kOk);
}

Status Conversation::HearQuestion(wire::Question question) {
  if (question.total_bytes > QuestionBytesMax(options_))
    return InvalidArgument("the coordinator asks more than this device holds");
  if (!current_.has_value()) return InvalidArgument("the coordinator asks outside a round");
  if (current_->round != nullptr && current_->round->done()) {
    // Answers nothing any more, but still tells whether this is evidence.
    (void)current_->round->Answer(question.data);
    TellEvidence();
    return InvalidArgument("the coordinator asks after the last question");
  }
  Progress();
  if (current_->round == nullptr) {
    StartAnswer({}, Code::kAborted);
    return OkStatus();
  }
  if (question.data.size() == question.total_bytes) return AnswerQuestion(question);
  phase_ = FetchingQuestion{std::move(question)};
  return OkStatus();
}

Status Conversation::HearQuestionPiece(FetchingQuestion& fetching, BytesView reply) {
  CHORUS_TRY_ASSIGN(const wire::DownloadReply piece, wire::Decode<wire::DownloadReply>(reply));
  wire::Question& question = fetching.question;
  if (piece.total_bytes != question.total_bytes || piece.data.empty() ||
      piece.data.size() > question.total_bytes - question.data.size())
    return InvalidArgument("a piece of the question does not have the size it must have");
  question.data.insert(question.data.end(), piece.data.begin(), piece.data.end());
  Progress();
  if (question.data.size() < question.total_bytes) return OkStatus();
  const wire::Question whole = std::move(question);
  return AnswerQuestion(whole);
}

Status Conversation::AnswerQuestion(const wire::Question& question) {
  if (crypto::Sha256(question.data) != question.sha256)
    return DataLoss("the question is not the one that the coordinator promised");
  Result<SecretBytes> answer = current_->round->Answer(question.data);
  current_->uploaded = current_->round->uploaded();
  TellEvidence();
  if (answer.ok()) {
    StartAnswer(*std::move(answer), Code::kOk);
  } else if (current_->round->refused_by_ledger()) {
    Decline(answer.status());
  } else {
    Abandon(answer.status());
  }
  return OkStatus();
}

void Conversation::TellEvidence() {
  const std::optional<Status>& kept = current_->round->evidence_kept();
  if (kept.has_value()) Emit(ClientEvent::Kind::kEquivocation, current_->number, *kept);
}

Status Conversation::HearRoundOver(const wire::RoundOver& over) {
  if (current_.has_value() && current_->number != over.round)
    return InvalidArgument("the coordinator ends a round that this client is not in");
  if (over.counted && !(current_.has_value() && current_->uploaded))
    return InvalidArgument("the coordinator counts an update that was never sent");
  Progress();
  if (over.counted) {
    Emit(ClientEvent::Kind::kContributed, over.round, OkStatus());
    current_->told = true;
  }
  Lose(over.code == Code::kOk ? Aborted("the round went on without this client")
                              : Status(over.code, over.reason));
  current_.reset();
  done_ = pending_;
  return OkStatus();
}

// --- answers -------------------------------------------------------------------------------------

void Conversation::StartAnswer(SecretBytes answer, Code abort_code) {
  Answering next;
  next.sha256 = crypto::Sha256(answer.Reveal());
  next.announced = answer.size() <= limits::kChunkBytesMax;
  next.answer = std::move(answer);
  next.abort_code = abort_code;
  phase_ = std::move(next);
}

Status Conversation::HearUpload(Answering& answering, BytesView reply) {
  CHORUS_TRY_ASSIGN(const wire::UploadReply answer, wire::Decode<wire::UploadReply>(reply));
  if (answering.abort_code != Code::kOk || answer.received == answering.answer.size()) {
    Progress();
    TellUploaded();
    FinishAnswer();
    return OkStatus();
  }
  if (answer.received > answering.answer.size())
    return InvalidArgument("the coordinator received more than was sent");
  if (answer.received > answering.received || !answering.announced) {
    answering.announced = true;
    Progress();
  } else {
    if (++answering.stalls > kStallsMax)
      return InvalidArgument("the coordinator does not take the answer");
    Delay(/*slowly=*/false, milliseconds{0});
  }
  answering.received = answer.received;
  return OkStatus();
}

void Conversation::FinishAnswer() {
  phase_ = Polling{};
  done_ = pending_;
}

// The coordinator will not have this answer. Whether an update that it has already counts is known
// only when the round is over.
void Conversation::AnswerRefused(Answering& answering, const Status& status) {
  if (status.code() == Code::kDataLoss && ++answering.stalls <= kStallsMax) {
    answering.received = 0;
    return Delay(/*slowly=*/false, milliseconds{0});
  }
  FinishAnswer();
  if (!current_.has_value()) return;
  current_->round.reset();
  if (!current_->uploaded) Lose(status);
}

// --- leaving a round -----------------------------------------------------------------------------

// Not allowed, by the player's policy or the ledger.
void Conversation::Decline(const Status& status) {
  current_->round.reset();
  current_->told = true;
  Emit(ClientEvent::Kind::kRefused, current_->number, status);
  StartAnswer({}, status.code());
}

// Not possible: the coordinator hears the code and nothing else.
void Conversation::Abandon(const Status& status) {
  current_->round.reset();
  if (!current_->uploaded) Lose(status);
  StartAnswer({}, status.code());
}

// Tells the host, once, that this client's update is not in the round, and drops its secrets.
void Conversation::Lose(const Status& status) {
  if (!current_.has_value()) return;
  current_->round.reset();
  if (!current_->told) Emit(ClientEvent::Kind::kRoundLost, current_->number, status);
  current_->told = true;
}

// Tells the host, once, that the coordinator has all of this client's update: after that, no other
// question needs its answer in OneShot.
void Conversation::TellUploaded() {
  if (options_.role != Role::kClient || !current_.has_value()) return;
  if (!current_->uploaded || current_->round == nullptr || current_->all_sent) return;
  current_->all_sent = true;
  Emit(ClientEvent::Kind::kUploaded, current_->number, OkStatus());
}

// The session is of no use any more: begins another.
void Conversation::Restart(const Status& status) {
  const bool uploaded = current_.has_value() && current_->uploaded;
  Lose(uploaded ? Status(status.code(), status.message() + "; the update may count all the same")
                : status);
  current_.reset();
  token_ = {};
  phase_ = Challenging{};
  // It is there again and only does not know this session: no reason to wait as for one that is
  // gone.
  if (status.code() == Code::kUnauthenticated) failures_ = 0;
  Delay(/*slowly=*/false, milliseconds{0});
  TellDown(status);
}

// Exponential backoff with full jitter. `slowly` is for what will not be otherwise soon. A wait
// that the coordinator asked for is at most doubled, by chance, so that those refused together come
// apart.
void Conversation::Delay(bool slowly, milliseconds asked) {
  milliseconds least = std::min(asked, limits::kBackoffMax);
  milliseconds most = limits::kBackoffMax;
  if (slowly) {
    least = limits::kBackoffMax / 2;
  } else if (asked > milliseconds{0}) {
    most = 2 * least;
  } else {
    // Seven doublings reach the largest wait; the shift stays far from overflow.
    most = std::min(limits::kBackoffFirst * (1U << std::min(failures_, 16U)), most);
  }
  if (asked == milliseconds{0} && failures_ < UINT32_MAX) ++failures_;
  const uint64_t spread = static_cast<uint64_t>((most - least).count());
  not_before_ = options_.clock->Now() + least +
                milliseconds{static_cast<int64_t>(UniformBelow(*options_.rng, spread + 1))};
}

void Conversation::Progress() {
  failures_ = 0;
  if (told_ != Code::kOk) Emit(ClientEvent::Kind::kConnected, 0, OkStatus());
  told_ = Code::kOk;
}

void Conversation::TellDown(const Status& status) {
  if (told_ != status.code()) Emit(ClientEvent::Kind::kDisconnected, 0, status);
  told_ = status.code();
}

void Conversation::Emit(ClientEvent::Kind kind, uint64_t round, Status status) {
  if (events_.size() >= limits::kEventsMax) events_.erase(events_.begin());
  events_.push_back({.kind = kind, .round = round, .status = std::move(status)});
  LogEvent(*options_.log, events_.back());
}

std::unique_ptr<Session> Session::Create(SessionOptions options) {
  return std::make_unique<Conversation>(options);
}

}  // namespace chorus::client
