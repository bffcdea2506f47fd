// When a client may train, and on whose thread: on its own, or in slices on the host's.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>

#include "base/fiber.h"
#include "base/pace.h"
#include "chorus/client.h"
#include "chorus/status.h"

namespace chorus::client {

// Why training waits; more than one may hold at once.
enum class Hold : uint32_t { kPaused = 1, kDeferred = 2 };

// Paces the work of one client, whose thread calls Run and whose host calls the rest. Work takes a
// breath every 50 microseconds or so: there it waits while anything holds it, and there a slice on
// the host's thread ends. `now` gives nanoseconds of a clock that never goes back. Thread-safe.
class FrameBudget final : public Pace {
 public:
  FrameBudget(TrainingPlace place, int64_t (*now)());
  FrameBudget(const FrameBudget&) = delete;
  FrameBudget& operator=(const FrameBudget&) = delete;

  // The client's thread: does `work`, here or in slices inside Spend, and returns when it is done.
  // The failures of Fiber::Create.
  Status Run(const std::function<void()>& work);
  // The client's thread: waits while anything in `holds` holds.
  void AwaitRelease(uint32_t holds);

  // The host's: works on the calling thread until `budget` is nearly over, and at least one piece;
  // returns at once when there is nothing to do or a hold. kFailedPrecondition: another thread is
  // in it.
  Status Spend(std::chrono::microseconds budget);
  void Set(Hold hold, bool holds);
  bool held() const { return holds_.load(std::memory_order_relaxed) != 0; }
  // Lets everything run on to its end, which whoever calls has asked for by a Cancel, without
  // waiting: a slice on a host's thread ends at its next breath, and what was left in the middle
  // ends on the client's thread.
  void Close();

 private:
  static void BreatheHere(Pace& self) { static_cast<FrameBudget&>(self).Take(); }
  void Take();
  void FinishSlice(bool done);

  const TrainingPlace place_;
  int64_t (*const now_)();
  std::atomic<uint32_t> holds_{0};
  std::atomic<bool> closed_{false};

  std::mutex mutex_;  // guards what follows to the next blank line; holds_ changes under it
  std::condition_variable changed_;
  std::unique_ptr<Fiber> fiber_;  // work that is not done
  bool spending_ = false;         // some thread is inside it

  // Of the thread that is inside the fiber; nobody else looks at them meanwhile.
  Fiber* inside_ = nullptr;
  bool finishing_ = false;  // it is the client's own
  int64_t last_breath_ = 0;
  int64_t end_ = 0;
};

}  // namespace chorus::client
