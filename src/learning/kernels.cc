#include "learning/kernels.h"

#include <type_traits>

#include "learning/kernels_paths.h"

namespace chorus::learning {
namespace {

// Whether the processor, and the system for its registers, have what a path was compiled for.
bool Has(KernelPath path) {
#if defined(__x86_64__)
  const bool avx2 = __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0;
  const bool avx512 =
      __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512bw") != 0 &&
      __builtin_cpu_supports("avx512dq") != 0 && __builtin_cpu_supports("avx512vl") != 0;
  return path == KernelPath::kBaseline || (avx2 && (path == KernelPath::kAvx2 || avx512));
#else
  return path == KernelPath::kBaseline;
#endif
}

template <typename Scalar>
const Kernels<Scalar>& Fastest() {
  const Kernels<Scalar>* kernels = KernelsOf<Scalar>(KernelPath::kAvx512);
  if (kernels == nullptr) kernels = KernelsOf<Scalar>(KernelPath::kAvx2);
  return kernels == nullptr ? *KernelsOf<Scalar>(KernelPath::kBaseline) : *kernels;
}

template <typename Scalar>
const Kernels<Scalar>& Choose(const Kernels<float>& single, const Kernels<double>& twice) {
  if constexpr (std::is_same_v<Scalar, float>) {
    return single;
  } else {
    return twice;
  }
}

}  // namespace

template <typename Scalar>
const Kernels<Scalar>* KernelsOf(KernelPath path) {
  if (!Has(path)) return nullptr;
#if defined(__x86_64__)
  if (path == KernelPath::kAvx512) return &Choose<Scalar>(kAvx512Float, kAvx512Double);
  if (path == KernelPath::kAvx2) return &Choose<Scalar>(kAvx2Float, kAvx2Double);
#endif
  return &Choose<Scalar>(kBaselineFloat, kBaselineDouble);
}

template <typename Scalar>
const Kernels<Scalar>& FastestKernels() {
  static const Kernels<Scalar>& fastest = Fastest<Scalar>();
  return fastest;
}

template const Kernels<float>* KernelsOf<float>(KernelPath path);
template const Kernels<double>* KernelsOf<double>(KernelPath path);
template const Kernels<float>& FastestKernels<float>();
template const Kernels<double>& FastestKernels<double>();

}  // namespace chorus::learning
