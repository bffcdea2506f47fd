// The system's clocks behind the Clock interface.
#pragma once

#include <memory>

#include "chorus/host.h"

namespace chorus {

std::unique_ptr<Clock> NewSystemClock();

}  // namespace chorus
