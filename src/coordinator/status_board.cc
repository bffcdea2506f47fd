#include "coordinator/status_board.h"

#include <algorithm>
#include <utility>

namespace chorus::coordinator {
namespace {

constexpr double kFreshSeconds = 0.9;
constexpr std::chrono::milliseconds kAnswerWait{500};

}  // namespace

Result<BoardStatus> StatusBoard::Look() {
  const std::lock_guard lock(looking_);
  if (!since_ || since_->Seconds() >= kFreshSeconds) {
    const Status refreshed = Refresh();
    if (!refreshed.ok() && !since_) return refreshed;
    const std::lock_guard knowing_lock(knowing_);
    known_ = Shown();
    known_since_ = since_;
  }
  return Shown();
}

Result<BoardStatus> StatusBoard::Known() {
  const std::lock_guard lock(knowing_);
  if (!known_since_) return Unavailable("nobody has asked for the status yet");
  BoardStatus known = known_;
  known.age_seconds = known_since_->Seconds();
  return known;
}

BoardStatus StatusBoard::Shown() const {
  BoardStatus shown;
  shown.age_seconds = since_->Seconds();
  for (const std::string& task : order_) {
    const auto found = followed_.find(task);
    if (found == followed_.end()) continue;
    wire::StatusReply& status = shown.tasks.emplace_back(found->second.status);
    for (const auto& [number, round] : found->second.rounds) status.rounds.push_back(round);
  }
  return shown;
}

// Any answer tells which tasks there are.
Status StatusBoard::Refresh() {
  CHORUS_TRY_ASSIGN(const wire::StatusReply reply, AskOnce({.round_count = 0}));
  order_.clear();
  for (const wire::TaskStatus& task : reply.tasks) order_.push_back(task.name);
  std::erase_if(followed_, [this](const auto& one) {
    return std::find(order_.begin(), order_.end(), one.first) == order_.end();
  });
  for (const std::string& task : order_) CHORUS_TRY(Follow(task));
  since_.emplace();
  return OkStatus();
}

Status StatusBoard::Follow(const std::string& task) {
  Followed& followed = followed_[task];
  // The first answer only tells how many rounds there are, and from which on to ask; each later one
  // has a page of them.
  uint64_t next = FirstOpenRound(followed);
  for (bool known = !followed.status.task.empty();; known = true) {
    CHORUS_TRY_ASSIGN(
        wire::StatusReply reply,
        AskOnce({.first_round = next, .round_count = known ? kRoundsMax : 0, .task = task}));
    uint64_t last = 0;
    for (RoundReport& round : reply.rounds) {
      last = round.round;
      followed.rounds.insert_or_assign(last, std::move(round));
    }
    reply.rounds.clear();
    const uint64_t begun = reply.rounds_begun;
    const uint64_t first = begun > kRoundsMax ? begun - kRoundsMax + 1 : 1;
    followed.rounds.erase(followed.rounds.begin(), followed.rounds.lower_bound(first));
    followed.status = std::move(reply);
    if (begun == 0 || (known && (last < next || last >= begun))) return OkStatus();
    next = known ? last + 1 : FirstOpenRound(followed);
  }
}

// The first round that is not known to have ended, of those that are shown.
uint64_t StatusBoard::FirstOpenRound(const Followed& followed) {
  const uint64_t begun = followed.status.rounds_begun;
  uint64_t first = begun > kRoundsMax ? begun - kRoundsMax + 1 : 1;
  for (const auto& [number, round] : followed.rounds) {
    if (number != first || round.state == RoundState::kOpen) break;
    ++first;
  }
  return first;
}

Result<wire::StatusReply> StatusBoard::AskOnce(const wire::StatusRequest& request) {
  uint64_t number = 0;
  {
    const std::lock_guard lock(mutex_);
    number = ++question_;
    answer_.reset();
  }
  // An answer that comes too late is to a question that nobody asks any more.
  ask_(wire::Encode(request), [this, number](Result<Bytes> answer) {
    const std::lock_guard lock(mutex_);
    if (number != question_) return;
    answer_ = std::move(answer);
    answered_.notify_all();
  });
  std::unique_lock lock(mutex_);
  if (!answered_.wait_for(lock, kAnswerWait, [this] { return answer_.has_value(); })) {
    ++question_;
    return Unavailable("the coordinator is busy: try again");
  }
  const Result<Bytes> answer = *std::exchange(answer_, std::nullopt);
  if (!answer.ok()) return answer.status();
  return wire::Decode<wire::StatusReply>(*answer);
}

}  // namespace chorus::coordinator
