// The coordinator's status for those who look at it often: many pages that are open cost the
// coordinator's thread no more than one.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/stopwatch.h"
#include "chorus/bytes.h"
#include "chorus/status.h"
#include "coordinator/core.h"
#include "wire/wire.h"

namespace chorus::coordinator {

// The tasks as last heard of, each with its latest rounds.
struct BoardStatus {
  // One a task, in the coordinator's order; rounds ascend, at most StatusBoard::kRoundsMax.
  std::vector<wire::StatusReply> tasks;
  double age_seconds = 0;  // since it was true
};

// Thread-safe. Asks GetStatus as any caller does, and keeps the answers for a moment. Rounds that
// ended do not change, so only later ones are asked for again.
class StatusBoard {
 public:
  static constexpr uint32_t kRoundsMax = 400;

  // Passes a GetStatus request on; the reply may come from another thread, and no later than the
  // board's destructor.
  using Ask = std::function<void(Bytes request, Reply reply)>;
  explicit StatusBoard(Ask ask) : ask_(std::move(ask)) {}

  // The status, no older than a second if the coordinator answers soon; else the last one known. A
  // coordinator that opens a sum meanwhile is not waited for. The failure of the call while there
  // has never been one.
  Result<BoardStatus> Look();
  // The last status known, without asking, and without waiting for who asks.
  Result<BoardStatus> Known();

 private:
  // A task that is followed.
  struct Followed {
    wire::StatusReply status;  // without its rounds
    std::map<uint64_t, RoundReport> rounds;
  };

  BoardStatus Shown() const;
  Status Refresh();
  Status Follow(const std::string& task);
  Result<wire::StatusReply> AskOnce(const wire::StatusRequest& request);
  static uint64_t FirstOpenRound(const Followed& followed);

  const Ask ask_;
  std::mutex looking_;  // one look at a time; guards what is followed
  std::map<std::string, Followed> followed_;
  std::vector<std::string> order_;
  std::optional<Stopwatch> since_;
  std::mutex knowing_;  // never held while anything is waited for; guards what the last look showed
  BoardStatus known_;
  std::optional<Stopwatch> known_since_;
  std::mutex mutex_;  // guards the question that is under way
  std::condition_variable answered_;
  uint64_t question_ = 0;
  std::optional<Result<Bytes>> answer_;  // to that question
};

}  // namespace chorus::coordinator
