// The figures `step` and `gemm`: how near training comes to bare Eigen.
#pragma once

#include "bench.h"

namespace chorus::bench {

// Bare Eigen's time over ours for one step of SGD of the 784-200-10 network on 20 examples.
std::optional<Measured> StepOverEigen();
// The same for 32-64-10, whose steps are short; and microseconds of one of ours.
std::optional<Measured> SmallStepOverEigen();
std::optional<Measured> SmallStepMicroseconds();
// The time of Eigen's own products of the same shapes over that of a forward and a backward pass,
// where products are most of the work: the worse of wide dense layers and of convolutions.
std::optional<Measured> LayersOverEigen();

}  // namespace chorus::bench
