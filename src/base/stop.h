// When work of many steps is to end before it is done, and when to let others have a turn.
#pragma once

#include <string>
#include <string_view>

#include "base/pace.h"
#include "chorus/host.h"
#include "chorus/status.h"

namespace chorus {

// What it was made of must outlive it. Thread-safe.
class Stop {
 public:
  // Stops when `cancel` asks; with a clock, also once it is past `until`, from when on nobody can
  // use what the work makes. Not explicit: most work has a Cancel and no end.
  // With a pace, the work takes its breaths, be it stopped or not.
  Stop(const Cancel& cancel, const Clock* clock = nullptr, Time until = Time::max(),
       Pace* pace = nullptr)
      : cancel_(&cancel), clock_(clock), until_(until), pace_(pace) {}

  // Whether to go on: else kCancelled or kDeadlineExceeded, about `work`, as in "training".
  Status Check(std::string_view work) const {
    if (cancel_->requested()) return Cancelled(std::string(work) + " was cancelled");
    if (clock_ == nullptr || clock_->Now() <= until_) return OkStatus();
    return {Code::kDeadlineExceeded,
            std::string(work) + " took longer than its round allows; it was stopped"};
  }

  Pace* pace() const { return pace_; }

 private:
  const Cancel* cancel_;
  const Clock* clock_;
  Time until_;
  Pace* pace_;
};

}  // namespace chorus
