// The machine behind Session: its phases, and what moves between them.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "client/round.h"
#include "client/session.h"
#include "wire/wire.h"

namespace chorus::client {

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
  bool announced = false;  // an answer of several chunks is, so that none is sent before its turn
  uint64_t received = 0;   // by the coordinator, as far as it said
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

// The phases and what moves between them:
//   Challenging      Challenge answered                            -> CheckingIn
//   CheckingIn       CheckIn answered                              -> Polling
//                    refused                                       -> Challenging, slowly
//   Polling          Wait                                          -> Polling, later
//                    Wait, complete                                -> Stopped
//                    Wait, hang up                                 -> Challenging, much later
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
  bool resting() const override { return !current_.has_value() || current_->round == nullptr; }
  std::optional<ModelView> model() const override;

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
  Status HearHangUp(std::chrono::milliseconds stay);
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
  void Delay(bool slowly, std::chrono::milliseconds asked);
  void Progress();
  void TellDown(const Status& status);
  void Emit(ClientEvent::Kind kind, uint64_t round, Status status);

  const SessionOptions options_;
  Phase phase_ = Challenging{};
  wire::SessionToken token_{};
  uint64_t done_ = 0;     // the last sequence number dealt with
  uint64_t pending_ = 0;  // the one being dealt with
  std::optional<Current> current_;
  Model model_;           // the last one received whole
  ModelSpec model_spec_;  // what it is a model of; without parameters: nothing to run
  uint64_t model_round_ = 0;
  ModelDownload fetched_;                // the next one, in pieces
  std::map<TaskId, Digest> seen_tasks_;  // with the hash of each as it was first agreed to

  Time not_before_{};         // nothing is done before
  bool hang_up_ = false;      // and the connection is not needed until then
  uint32_t failures_ = 0;     // in a row
  std::optional<Code> told_;  // kOk: the host knows of a connection; else why there is none
  std::vector<ClientEvent> events_;
};

}  // namespace chorus::client
