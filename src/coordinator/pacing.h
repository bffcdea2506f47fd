// When clients come back for whom there is no place now. A pure function of time and of how many
// were told before: nothing is kept of anybody.
#pragma once

#include <cstdint>

#include "chorus/coordinator.h"
#include "chorus/host.h"

namespace chorus::coordinator {

inline constexpr uint64_t kEverybody = uint64_t{1} << 62U;

// Gives turns, one after the other at an even rate. Thread-compatible.
class Pacing {
 public:
  explicit Pacing(const PacingOptions& options) : options_(options) {}

  // A round of one more task takes at most so many clients; kEverybody: whoever there is.
  void Want(uint64_t clients);

  // Whether there are more sessions than places to wait.
  bool Crowded(uint64_t sessions) const;
  // How long the next client stays away: until the next turn in the queue that all before it have
  // made, and at least long enough to be worth a new connection. When the queue is longer than
  // limits' kStayAwayMax, turns are spread evenly over that time instead, and so come faster.
  Time NextStay(Time now);

 private:
  PacingOptions options_;
  uint64_t wanted_ = 0;        // by rounds of all tasks
  int64_t last_turn_us_ = -1;  // none so far
  uint64_t spread_ = 0;        // turns given while the queue was too long
};

}  // namespace chorus::coordinator
