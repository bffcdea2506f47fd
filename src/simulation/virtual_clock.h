// Time as a simulation tells it.
#pragma once

#include <atomic>

#include "chorus/host.h"

namespace chorus::simulation {

// Starts at zero, at a fixed moment of 2023, so that a run's records are the same whenever it is
// made. Thread-safe.
class VirtualClock final : public Clock {
 public:
  void Set(Time now) { now_.store(now.count(), std::memory_order_relaxed); }
  Time Now() const override { return Time(now_.load(std::memory_order_relaxed)); }
  int64_t UnixSeconds() const override { return kStartUnixSeconds + Now().count() / 1'000; }

 private:
  static constexpr int64_t kStartUnixSeconds = 1'700'000'000;
  std::atomic<Time::rep> now_{0};
};

}  // namespace chorus::simulation
