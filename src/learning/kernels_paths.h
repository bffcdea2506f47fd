// The kernels of each path, which kernels.cc chooses from. Internal to the kernels.
#pragma once

#include "learning/kernels.h"

namespace chorus::learning {

extern const Kernels<float> kBaselineFloat;
extern const Kernels<double> kBaselineDouble;
#if defined(__x86_64__)
extern const Kernels<float> kAvx2Float;
extern const Kernels<double> kAvx2Double;
extern const Kernels<float> kAvx512Float;
extern const Kernels<double> kAvx512Double;
#endif

}  // namespace chorus::learning
