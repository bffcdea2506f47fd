// The system's clocks behind the Clock interface.
#pragma once

#include <memory>

#include "chorus/host.h"

namespace chorus {

std::unique_ptr<Clock> NewSystemClock();

// The processor's time that the calling thread has used so far, for reports of cost.
double ThreadCpuSeconds();

}  // namespace chorus
