// Encoding with vector instructions: the same operations in the same order as the portable loops,
// each of which IEEE 754 defines to the last bit. Where the compiler may join a product and a sum
// into one instruction, the product is exact. Every function says itself which instructions it
// needs, so that a portable build has it and does not run it where it cannot.
#include "math/encode_kernels.h"

#if defined(__x86_64__)
// g++ 12 takes registers that its own header leaves undefined on purpose for mistakes (its bug
// 105593).
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#pragma GCC diagnostic pop
#endif

namespace chorus::math {

#if defined(__x86_64__)

// --- 256 bits --------------------------------------------------------------------------------

namespace avx2 {
namespace {

#define CHORUS_AVX2 __attribute__((target("avx2")))

struct Rounding {
  __m256 scale;
  __m256 low;
  __m256 high;
};

CHORUS_AVX2 inline Rounding RoundingOf(float scale, float bound) {
  return {_mm256_set1_ps(scale), _mm256_set1_ps(-bound), _mm256_set1_ps(bound)};
}

// Eight integers.
CHORUS_AVX2 inline __m256i RoundEight(const float* values, const Rounding& rounding,
                                      const uint16_t* random) {
  const __m256 rounder = _mm256_set1_ps(kRounder);
  const __m256i rounder_bits = _mm256_set1_epi32(kRounderBits);
  const __m256 scaled = _mm256_mul_ps(_mm256_loadu_ps(values), rounding.scale);
  const __m256 value = _mm256_min_ps(_mm256_max_ps(scaled, rounding.low), rounding.high);
  const __m256 shifted = _mm256_add_ps(value, rounder);
  const __m256 rest = _mm256_sub_ps(value, _mm256_sub_ps(shifted, rounder));
  const __m256 fraction = _mm256_add_ps(_mm256_mul_ps(rest, _mm256_set1_ps(0x1p16F)), rounder);
  const __m256i chance =
      _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(random)));
  const __m256i sum =
      _mm256_add_epi32(_mm256_sub_epi32(_mm256_castps_si256(fraction), rounder_bits), chance);
  const __m256i nearest = _mm256_sub_epi32(_mm256_castps_si256(shifted), rounder_bits);
  return _mm256_add_epi32(nearest, _mm256_srai_epi32(sum, 16));
}

CHORUS_AVX2 inline void Store(void* to, __m256i words) {
  _mm256_storeu_si256(static_cast<__m256i*>(to), words);
}

// The bound of 16-bit words is below 2^15, so that saturation changes nothing.
CHORUS_AVX2 void Round16(const float* values, size_t count, float scale, float bound,
                         const uint16_t* random, uint16_t* out) {
  const Rounding rounding = RoundingOf(scale, bound);
  for (size_t i = 0; i < count; i += 16) {
    const __m256i mixed = _mm256_packs_epi32(RoundEight(values + i, rounding, random + i),
                                             RoundEight(values + i + 8, rounding, random + i + 8));
    Store(out + i, _mm256_permute4x64_epi64(mixed, 0xd8));
  }
}

CHORUS_AVX2 void Round32(const float* values, size_t count, float scale, float bound,
                         const uint16_t* random, uint32_t* out) {
  const Rounding rounding = RoundingOf(scale, bound);
  for (size_t i = 0; i < count; i += 8) {
    Store(out + i, RoundEight(values + i, rounding, random + i));
  }
}

CHORUS_AVX2 void Round64(const float* values, size_t count, float scale, float bound,
                         const uint16_t* random, uint64_t* out) {
  const Rounding rounding = RoundingOf(scale, bound);
  for (size_t i = 0; i < count; i += 8) {
    const __m256i words = RoundEight(values + i, rounding, random + i);
    Store(out + i, _mm256_cvtepi32_epi64(_mm256_castsi256_si128(words)));
    Store(out + i + 4, _mm256_cvtepi32_epi64(_mm256_extracti128_si256(words, 1)));
  }
}

struct Lanes {
  __m256d quarters[4];
};

CHORUS_AVX2 inline void AddSquares(Lanes& lanes, size_t quarter, __m128 values) {
  const __m256d wide = _mm256_cvtps_pd(values);
  lanes.quarters[quarter] = _mm256_add_pd(lanes.quarters[quarter], _mm256_mul_pd(wide, wide));
}

CHORUS_AVX2 inline Lanes LoadLanes(const std::array<double, kEncodeLanes>& lanes) {
  Lanes loaded;
  for (size_t j = 0; j < 4; ++j) loaded.quarters[j] = _mm256_loadu_pd(lanes.data() + 4 * j);
  return loaded;
}

CHORUS_AVX2 inline void StoreLanes(const Lanes& lanes, std::array<double, kEncodeLanes>& to) {
  for (size_t j = 0; j < 4; ++j) _mm256_storeu_pd(to.data() + 4 * j, lanes.quarters[j]);
}

CHORUS_AVX2 void Square(const float* values, size_t count,
                        std::array<double, kEncodeLanes>& lanes) {
  Lanes sums = LoadLanes(lanes);
  for (size_t i = 0; i < count; i += kEncodeLanes) {
    for (size_t j = 0; j < 4; ++j) AddSquares(sums, j, _mm_loadu_ps(values + i + 4 * j));
  }
  StoreLanes(sums, lanes);
}

CHORUS_AVX2 void Subtract(float* values, const float* base, size_t count,
                          std::array<double, kEncodeLanes>& lanes) {
  Lanes sums = LoadLanes(lanes);
  for (size_t i = 0; i < count; i += kEncodeLanes) {
    for (size_t j = 0; j < 4; ++j) {
      float* const at = values + i + 4 * j;
      const __m128 difference = _mm_sub_ps(_mm_loadu_ps(at), _mm_loadu_ps(base + i + 4 * j));
      _mm_storeu_ps(at, difference);
      AddSquares(sums, j, difference);
    }
  }
  StoreLanes(sums, lanes);
}

}  // namespace
}  // namespace avx2

// --- 512 bits --------------------------------------------------------------------------------

namespace avx512 {
namespace {

#define CHORUS_AVX512 __attribute__((target("avx512f,avx512dq,avx512bw,avx512vl")))

struct Rounding {
  __m512 scale;
  __m512 low;
  __m512 high;
};

CHORUS_AVX512 inline Rounding RoundingOf(float scale, float bound) {
  return {_mm512_set1_ps(scale), _mm512_set1_ps(-bound), _mm512_set1_ps(bound)};
}

// Sixteen integers.
CHORUS_AVX512 inline __m512i RoundSixteen(const float* values, const Rounding& rounding,
                                          const uint16_t* random) {
  const __m512 rounder = _mm512_set1_ps(kRounder);
  const __m512i rounder_bits = _mm512_set1_epi32(kRounderBits);
  const __m512 scaled = _mm512_mul_ps(_mm512_loadu_ps(values), rounding.scale);
  const __m512 value = _mm512_min_ps(_mm512_max_ps(scaled, rounding.low), rounding.high);
  const __m512 shifted = _mm512_add_ps(value, rounder);
  const __m512 rest = _mm512_sub_ps(value, _mm512_sub_ps(shifted, rounder));
  const __m512 fraction = _mm512_add_ps(_mm512_mul_ps(rest, _mm512_set1_ps(0x1p16F)), rounder);
  const __m512i chance =
      _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(random)));
  const __m512i sum =
      _mm512_add_epi32(_mm512_sub_epi32(_mm512_castps_si512(fraction), rounder_bits), chance);
  const __m512i nearest = _mm512_sub_epi32(_mm512_castps_si512(shifted), rounder_bits);
  return _mm512_add_epi32(nearest, _mm512_srai_epi32(sum, 16));
}

CHORUS_AVX512 void Round16(const float* values, size_t count, float scale, float bound,
                           const uint16_t* random, uint16_t* out) {
  const Rounding rounding = RoundingOf(scale, bound);
  for (size_t i = 0; i < count; i += 16) {
    const __m512i words = RoundSixteen(values + i, rounding, random + i);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i), _mm512_cvtepi32_epi16(words));
  }
}

CHORUS_AVX512 void Round32(const float* values, size_t count, float scale, float bound,
                           const uint16_t* random, uint32_t* out) {
  const Rounding rounding = RoundingOf(scale, bound);
  for (size_t i = 0; i < count; i += 16) {
    _mm512_storeu_si512(out + i, RoundSixteen(values + i, rounding, random + i));
  }
}

CHORUS_AVX512 void Round64(const float* values, size_t count, float scale, float bound,
                           const uint16_t* random, uint64_t* out) {
  const Rounding rounding = RoundingOf(scale, bound);
  for (size_t i = 0; i < count; i += 16) {
    const __m512i words = RoundSixteen(values + i, rounding, random + i);
    const __m512i low = _mm512_cvtepi32_epi64(_mm512_castsi512_si256(words));
    const __m512i high = _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64(words, 1));
    _mm512_storeu_si512(out + i, low);
    _mm512_storeu_si512(out + i + 8, high);
  }
}

CHORUS_AVX512 inline __m512d AddSquares(__m512d sums, __m256 values) {
  const __m512d wide = _mm512_cvtps_pd(values);
  return _mm512_add_pd(sums, _mm512_mul_pd(wide, wide));
}

CHORUS_AVX512 void Square(const float* values, size_t count,
                          std::array<double, kEncodeLanes>& lanes) {
  __m512d low = _mm512_loadu_pd(lanes.data());
  __m512d high = _mm512_loadu_pd(lanes.data() + 8);
  for (size_t i = 0; i < count; i += kEncodeLanes) {
    low = AddSquares(low, _mm256_loadu_ps(values + i));
    high = AddSquares(high, _mm256_loadu_ps(values + i + 8));
  }
  _mm512_storeu_pd(lanes.data(), low);
  _mm512_storeu_pd(lanes.data() + 8, high);
}

CHORUS_AVX512 void Subtract(float* values, const float* base, size_t count,
                            std::array<double, kEncodeLanes>& lanes) {
  __m512d low = _mm512_loadu_pd(lanes.data());
  __m512d high = _mm512_loadu_pd(lanes.data() + 8);
  for (size_t i = 0; i < count; i += kEncodeLanes) {
    const __m256 first = _mm256_sub_ps(_mm256_loadu_ps(values + i), _mm256_loadu_ps(base + i));
    const __m256 second =
        _mm256_sub_ps(_mm256_loadu_ps(values + i + 8), _mm256_loadu_ps(base + i + 8));
    _mm256_storeu_ps(values + i, first);
    _mm256_storeu_ps(values + i + 8, second);
    low = AddSquares(low, first);
    high = AddSquares(high, second);
  }
  _mm512_storeu_pd(lanes.data(), low);
  _mm512_storeu_pd(lanes.data() + 8, high);
}

}  // namespace
}  // namespace avx512

const EncodeKernel* EncodeKernelOfX86(EncodePath path) {
  static constexpr EncodeKernel kAvx2 = {.round16 = avx2::Round16,
                                         .round32 = avx2::Round32,
                                         .round64 = avx2::Round64,
                                         .square = avx2::Square,
                                         .subtract = avx2::Subtract};
  static constexpr EncodeKernel kAvx512 = {.round16 = avx512::Round16,
                                           .round32 = avx512::Round32,
                                           .round64 = avx512::Round64,
                                           .square = avx512::Square,
                                           .subtract = avx512::Subtract};
  static const bool has_avx2 = __builtin_cpu_supports("avx2") != 0;
  static const bool has_avx512 =
      __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512dq") != 0 &&
      __builtin_cpu_supports("avx512bw") != 0 && __builtin_cpu_supports("avx512vl") != 0;
  if (path == EncodePath::kAvx2) return has_avx2 ? &kAvx2 : nullptr;
  if (path == EncodePath::kAvx512) return has_avx512 ? &kAvx512 : nullptr;
  return nullptr;
}

#else

const EncodeKernel* EncodeKernelOfX86(EncodePath) { return nullptr; }

#endif

}  // namespace chorus::math
