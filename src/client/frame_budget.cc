#include "client/frame_budget.h"

#include <algorithm>
#include <utility>

namespace chorus::client {

FrameBudget::FrameBudget(TrainingPlace place, int64_t (*now)())
    : Pace{&BreatheHere}, place_(place), now_(now) {}

Status FrameBudget::Run(const std::function<void()>& work) {
  if (place_ == TrainingPlace::kOwnThread || closed_) {
    work();
    return OkStatus();
  }
  CHORUS_TRY_ASSIGN(std::unique_ptr<Fiber> fiber, Fiber::Create(work));
  std::unique_lock lock(mutex_);
  // Closed since: nobody will spend a frame on it any more.
  if (closed_) {
    lock.unlock();
    work();
    return OkStatus();
  }
  fiber_ = std::move(fiber);
  changed_.wait(lock, [this] { return fiber_ == nullptr || (closed_ && !spending_); });
  if (fiber_ == nullptr) return OkStatus();
  spending_ = true;
  inside_ = fiber_.get();
  finishing_ = true;
  lock.unlock();
  FinishSlice(inside_->Resume());
  return OkStatus();
}

void FrameBudget::AwaitRelease(uint32_t holds) {
  if ((holds_.load(std::memory_order_relaxed) & holds) == 0) return;
  std::unique_lock lock(mutex_);
  changed_.wait(lock,
                [&] { return closed_ || (holds_.load(std::memory_order_relaxed) & holds) == 0; });
}

void FrameBudget::Take() {
  if (inside_ == nullptr) return AwaitRelease(UINT32_MAX);
  if (finishing_) return;
  const int64_t now = now_();
  // The next piece is expected to take as long as the last: better a little early than late.
  const int64_t piece = now - last_breath_;
  last_breath_ = now;
  const bool goes_on = !held() && !closed_.load(std::memory_order_relaxed);
  if (goes_on && now + piece < end_) return;
  inside_->Leave();
  last_breath_ = now_();
}

Status FrameBudget::Spend(std::chrono::microseconds budget) {
  if (budget <= std::chrono::microseconds(0)) return OkStatus();
  // A budget beyond this is none; it keeps the sum below from overflowing.
  constexpr std::chrono::microseconds kBudgetMax = std::chrono::hours(1);
  const int64_t begin = now_();
  Fiber* fiber = nullptr;
  {
    const std::lock_guard lock(mutex_);
    if (spending_) return FailedPrecondition("another thread is inside this client's poll");
    if (fiber_ == nullptr || held() || closed_) return OkStatus();
    spending_ = true;
    fiber = fiber_.get();
  }
  inside_ = fiber;
  last_breath_ = now_();
  end_ = begin + std::chrono::nanoseconds(std::min(budget, kBudgetMax)).count();
  FinishSlice(fiber->Resume());
  return OkStatus();
}

// Hands the work back to its own thread when it is done.
void FrameBudget::FinishSlice(bool done) {
  std::unique_ptr<Fiber> finished;
  {
    const std::lock_guard lock(mutex_);
    inside_ = nullptr;
    spending_ = false;
    if (done) finished = std::move(fiber_);
  }
  changed_.notify_all();
}

void FrameBudget::Set(Hold hold, bool holds) {
  {
    const std::lock_guard lock(mutex_);
    const auto bit = static_cast<uint32_t>(hold);
    const uint32_t now = holds_.load(std::memory_order_relaxed);
    holds_.store(holds ? now | bit : now & ~bit, std::memory_order_relaxed);
  }
  changed_.notify_all();
}

void FrameBudget::Close() {
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
  }
  changed_.notify_all();
}

}  // namespace chorus::client
