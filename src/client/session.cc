#include "client/session.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/limits.h"
#include "base/log.h"
#include "client/event_log.h"
#include "client/round.h"
#include "crypto/crypto.h"
#include "wire/wire.h"

namespace chorus::client {
namespace {

using std::chrono::milliseconds;

// How often one answer may fail to get further before the coordinator counts as broken.
constexpr uint32_t kStallsMax = 8;
// A coordinator that does not park its calls is not asked more often than this.
constexpr milliseconds kWaitMin{20};

struct Challenging {};
struct CheckingIn {
  Digest challenge{};
};
struct Polling {};
struct FetchingModel {};  // into fetched_, which outlives a lost session
struct Training {};
struct FetchingQuestion {
  wire::Question question;  // its data grows
};
struct Answering {
  SecretBytes answer;  // kept for resending until the coordinator has all of it
  Digest sha256{};
  Code abort_code = Code::kOk;
  uint64_t received = 0;  // by the coordinator, as far as it said
  uint32_t stalls = 0;
};
struct Stopped {
  Status status;
};
using Phase = std::variant<Challenging, CheckingIn, Polling, FetchingModel, Training,
                           FetchingQuestion, Answering, Stopped>;

// The round that the coordinator last invited to, until it says that it is over.
struct Current {
  uint64_t number = 0;
  std::unique_ptr<Round> round;  // absent once this client has no part in it any more
  Time until{};                  // with a part in it, and not over by then: given up
  bool uploaded = false;
  bool all_sent = false;  // the coordinator has all of the update, and the host knows
  bool told = false;      // the host knows that its update is not in it
};

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

// The phases and what moves between them:
//   Challenging      Challenge answered                            -> CheckingIn
//   CheckingIn       CheckIn answered                              -> Polling
//                    refused                                       -> Challenging, slowly
//   Polling          Wait                                          -> Polling, later
//                    Wait, complete                                -> Stopped
//                    Invitation: agreed to                         -> FetchingModel or Training
//                                as a committee member             -> Answering (ready)
//                                refused                           -> Answering (abort)
//                    Question: whole                               -> Answering
//                              in part                             -> FetchingQuestion
//                    RoundOver                                     -> Polling
//   FetchingModel    whole and sound                               -> Training
//   Training         done                                          -> Answering (ready)
//   FetchingQuestion whole and sound                               -> Answering
//   Answering        all received, or refused by the coordinator   -> Polling
//   any              the call broke (kUnavailable and its like)    -> itself, after a backoff
//                    kUnauthenticated, a reply without sense, or
//                    a round that outlives its deadlines           -> Challenging, round lost
//                    cancelled                                     -> Stopped
// A failure of ours inside a round (training, protocol, ledger) -> Answering (abort).
class Conversation final : public Session {
 public:
  explicit Conversation(const SessionOptions& options) : options_(options) {}

  Action Next() override;
  void Deliver(Result<Bytes> reply) override;
  void Work() override;
  std::vector<ClientEvent> TakeEvents() override { return std::exchange(events_, {}); }

 private:
  CallAction CallFor(std::string_view method, Bytes request) const {
    return {.method = method, .request = std::move(request), .deadline = limits::kCallDeadline};
  }
  CallAction CheckIn(const Digest& challenge) const;
  CallAction Upload(const Answering& answering) const;
  CallAction NextCall() const;

  void Failed(const Status& status);
  void Heard(BytesView reply);
  Status HearChallenge(BytesView reply);
  Status HearCheckIn(BytesView reply);
  Status HearNext(BytesView reply);
  Status HearWait(uint64_t sequence, const wire::Wait& wait);
  Status HearInvitation(const wire::Invitation& invitation);
  Status HearQuestion(wire::Question question);
  Status HearRoundOver(const wire::RoundOver& over);
  Status HearModel(BytesView reply);
  Status HearQuestionPiece(FetchingQuestion& fetching, BytesView reply);
  Status HearUpload(Answering& answering, BytesView reply);

  Result<std::unique_ptr<Round>> Agree(const wire::Invitation& invitation);
  void Attend();
  Status AnswerQuestion(const wire::Question& question);
  void TellEvidence();
  void StartAnswer(SecretBytes answer, Code abort_code);
  void FinishAnswer();
  void AnswerRefused(Answering& answering, const Status& status);

  void Decline(const Status& status);
  void Abandon(const Status& status);
  void Lose(const Status& status);
  void TellUploaded();
  void Restart(const Status& status);
  void Delay(bool slowly);
  void Progress();
  void TellDown(const Status& status);
  void Emit(ClientEvent::Kind kind, uint64_t round, Status status);

  const SessionOptions options_;
  Phase phase_ = Challenging{};
  wire::SessionToken token_{};
  uint64_t done_ = 0;     // the last sequence number dealt with
  uint64_t pending_ = 0;  // the one being dealt with
  std::optional<Current> current_;
  Model model_;            // the last one received whole
  ModelDownload fetched_;  // the next one, in pieces
  std::optional<std::pair<TaskId, Digest>> seen_task_;

  Time not_before_{};         // nothing is done before
  uint32_t failures_ = 0;     // in a row
  std::optional<Code> told_;  // kOk: the host knows of a connection; else why there is none
  std::vector<ClientEvent> events_;
};

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
  if (options_.clock->Now() < not_before_) return WaitAction{not_before_};
  if (std::holds_alternative<Training>(phase_)) return WorkAction{};
  return NextCall();
}

CallAction Conversation::NextCall() const {
  if (const auto* checking_in = std::get_if<CheckingIn>(&phase_))
    return CheckIn(checking_in->challenge);
  if (std::holds_alternative<Polling>(phase_))
    return CallFor(wire::kNext, wire::Encode(wire::NextRequest{.session = token_, .done = done_}));
  if (std::holds_alternative<FetchingModel>(phase_))
    return CallFor(
        wire::kDownload,
        wire::Encode(wire::DownloadRequest{
            .session = token_, .sha256 = fetched_.sha256(), .offset = fetched_.received()}));
  if (const auto* fetching = std::get_if<FetchingQuestion>(&phase_))
    return CallFor(wire::kDownload,
                   wire::Encode(wire::DownloadRequest{.session = token_,
                                                      .sha256 = fetching->question.sha256,
                                                      .offset = fetching->question.data.size()}));
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
  const Digest evidence_hash = crypto::Sha256(request.evidence);
  const Digest words = crypto::LabeledHash(
      "CHORUS1/check-in", {mine.coordinator, request.challenge, request.identity, evidence_hash});
  request.signature = crypto::Ed25519Sign(seed, words);
  return CallFor(wire::kCheckIn, wire::Encode(request));
}

CallAction Conversation::Upload(const Answering& answering) const {
  const BytesView all = answering.answer.Reveal();
  const size_t offset = static_cast<size_t>(answering.received);
  const BytesView piece =
      all.subspan(offset, std::min(limits::kChunkBytesMax, all.size() - offset));
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
    Delay(/*slowly=*/!PassingOutsideRound(code));
    return TellDown(status);
  }
  if (code == Code::kUnauthenticated) return Restart(status);
  const bool polling = std::holds_alternative<Polling>(phase_);
  if (polling ? PassingOutsideRound(code) : Passing(code)) {
    Delay(/*slowly=*/false);
    return TellDown(status);
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
  not_before_ = options_.clock->Now() +
                std::clamp(milliseconds{wait.retry_ms}, kWaitMin, limits::kBackoffMax);
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
  if (seen_task_.has_value() && seen_task_->first == task.id && seen_task_->second != task.hash)
    return PermissionDenied(
        "the task has changed under the name that it had; restart to accept it");
  seen_task_ = {task.id, task.hash};
  // Whether the round itself was answered before; how often the model was is asked when it is here.
  if (options_.role == Role::kClient)
    CHORUS_TRY(options_.ledger->PermitUpload(task.id, invitation.round, Digest{},
                                             /*uploads_per_model_max=*/0));
  return std::make_unique<Round>(options_, std::move(task), invitation.round);
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
  if (answer.received > answering.received) {
    Progress();
  } else {
    if (++answering.stalls > kStallsMax)
      return InvalidArgument("the coordinator does not take the answer");
    Delay(/*slowly=*/false);
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
    return Delay(/*slowly=*/false);
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
  Delay(/*slowly=*/false);
  TellDown(status);
}

// Exponential backoff with full jitter. `slowly` is for what will not be otherwise soon.
void Conversation::Delay(bool slowly) {
  milliseconds least{0};
  milliseconds most = limits::kBackoffMax;
  if (slowly) {
    least = limits::kBackoffMax / 2;
  } else {
    // Seven doublings reach the largest wait; the shift stays far from overflow.
    most = std::min(limits::kBackoffFirst * (1U << std::min(failures_, 16U)), most);
  }
  if (failures_ < UINT32_MAX) ++failures_;
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

}  // namespace

std::unique_ptr<Session> Session::Create(SessionOptions options) {
  return std::make_unique<Conversation>(options);
}

}  // namespace chorus::client
