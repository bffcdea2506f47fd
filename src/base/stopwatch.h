// How long something took, for metrics. Unlike a Clock it decides nothing, so a run replays
// whatever it says, and it is finer than a host's milliseconds.
#pragma once

#include <cstdint>

#include "base/clock.h"

namespace chorus {

class Stopwatch {
 public:
  Stopwatch() : began_ns_(MonotonicNanoseconds()) {}  // starts
  double Seconds() const { return 1e-9 * static_cast<double>(MonotonicNanoseconds() - began_ns_); }

 private:
  int64_t began_ns_;
};

}  // namespace chorus
