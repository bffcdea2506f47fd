// The kernels for AVX2 with FMA; the build gives this file the flags.
#if defined(__x86_64__)
#include <immintrin.h>

#include "learning/kernels_elements.inc"
#include "learning/kernels_paths.h"

namespace chorus::learning {

const Kernels<float> kAvx2Float = kAll<float>;
const Kernels<double> kAvx2Double = kAll<double>;

}  // namespace chorus::learning
#endif
