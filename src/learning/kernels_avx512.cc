// The kernels for AVX-512 F, BW, DQ and VL; the build gives this file the flags.
#if defined(__x86_64__)
#include <immintrin.h>

#include "learning/kernels_elements.inc"
#include "learning/kernels_paths.h"

namespace chorus::learning {

const Kernels<float> kAvx512Float = kAll<float>;
const Kernels<double> kAvx512Double = kAll<double>;

}  // namespace chorus::learning
#endif
