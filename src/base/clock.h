// The system's clocks behind the Clock interface.
#pragma once

#include <cstdint>
#include <memory>

#include "chorus/host.h"

namespace chorus {

std::unique_ptr<Clock> NewSystemClock();

// Of the system's monotonic clock, for budgets finer than a Clock's milliseconds.
int64_t MonotonicNanoseconds();

// The processor's time that the calling thread has used so far, for reports of cost.
double ThreadCpuSeconds();

}  // namespace chorus
