// The inner loops of encoding a contribution, as a table of functions by path. All paths give the
// same bytes, and run the same instructions whatever the values are. Included only in this folder,
// by tests and by benchmarks.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace chorus::math {

enum class EncodePath : uint8_t { kPortable, kAvx2, kAvx512 };

inline constexpr size_t kEncodeLanes = 16;  // independent sums, so that additions need not wait

// Rounding in single precision takes bounds up to this.
inline constexpr float kNarrowBoundMax = 0x1p22F;

// Added to a float of at most 2^22, it leaves the nearest integer, ties to even, in the low bits;
// so does the wide one of a double of at most 2^51.
inline constexpr float kRounder = 0x1.8p23F;
inline constexpr int32_t kRounderBits = std::bit_cast<int32_t>(kRounder);
inline constexpr double kWideRounder = 0x1.8p52;
inline constexpr int64_t kWideRounderBits = std::bit_cast<int64_t>(kWideRounder);

// floor(value + u) for a uniform u = random / 2^16: one of the two integers next to `value`, which
// is the expectation to within 2^-17; an integer stays as it is. |value| <= kNarrowBoundMax. The
// nearest integer is taken first: what is left then has all its bits, and is added to u in
// integers, because a comparison of floats would become a branch that depends on the value.
inline int32_t RoundRandomly(float value, uint16_t random) {
  const float shifted = value + kRounder;
  const float rest = value - (shifted - kRounder);  // in [-1/2, 1/2]
  const int32_t fraction = std::bit_cast<int32_t>(rest * 0x1p16F + kRounder) - kRounderBits;
  return std::bit_cast<int32_t>(shifted) - kRounderBits + ((fraction + random) >> 16);
}

// The same in double precision. |value| < 2^31.
inline int64_t RoundRandomly(double value, uint16_t random) {
  const double shifted = value + kWideRounder;
  const double rest = value - (shifted - kWideRounder);
  const int64_t fraction = std::bit_cast<int64_t>(rest * 0x1p16 + kWideRounder) - kWideRounderBits;
  return std::bit_cast<int64_t>(shifted) - kWideRounderBits + ((fraction + random) >> 16);
}

struct EncodeKernel {
  // out[i] = values[i] * scale, cut to [-bound, bound], rounded with random[i]. bound is at most
  // kNarrowBoundMax, and fits the words with a bit to spare. `count` is a multiple of
  // kEncodeLanes, here and below.
  void (*round16)(const float* values, size_t count, float scale, float bound,
                  const uint16_t* random, uint16_t* out);
  void (*round32)(const float* values, size_t count, float scale, float bound,
                  const uint16_t* random, uint32_t* out);
  void (*round64)(const float* values, size_t count, float scale, float bound,
                  const uint16_t* random, uint64_t* out);
  // lanes[i % kEncodeLanes] += values[i]^2, in order.
  void (*square)(const float* values, size_t count, std::array<double, kEncodeLanes>& lanes);
  // values[i] -= base[i], and the same of the results.
  void (*subtract)(float* values, const float* base, size_t count,
                   std::array<double, kEncodeLanes>& lanes);
};

// A path's loops; null where the processor or the build lacks the path.
const EncodeKernel* EncodeKernelFor(EncodePath path);
// The vector paths' loops, in encode_x86.cc; null in a build for other processors.
const EncodeKernel* EncodeKernelOfX86(EncodePath path);

}  // namespace chorus::math
