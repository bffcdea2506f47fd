// Residues in vectors, for ntt_x86.cc and rlwe_x86.cc alone. Each function names the instructions
// that it uses, so that a portable build has them all and takes none that the processor lacks.
//
// AVX-512 multiplies integers of 52 bits [Boemer et al. 2021, Intel HEXL]. AVX2 has no such
// product; there residues are doubles, of any sign, whose products are exact: a fused multiply-add
// gives a product's rounding error, and a quotient that is off by one only leaves a larger residue
// [van der Hoeven, Lecerf and Quintin 2016, section 3]. Bounds are for rounding to nearest, which
// threads start with. No number is subnormal, so that the time does not depend on the numbers.
#pragma once

#include "math/rlwe_kernels.h"

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

#include <bit>

#define CHORUS_AVX2 __attribute__((target("avx2,fma")))
#define CHORUS_AVX512 \
  __attribute__((     \
      target("avx512f,avx512bw,avx512dq,avx512vl,avx512ifma,avx512vbmi,avx512vpopcntdq")))

namespace chorus::math {

namespace avx512 {

using Vector = __m512i;
inline constexpr size_t kLanes = 8;
inline constexpr uint64_t kWordEnd = uint64_t{1}
                                     << 52U;  // what a product takes and gives ends here

CHORUS_AVX512 inline Vector Broadcast(uint64_t value) {
  return _mm512_set1_epi64(static_cast<long long>(value));
}
CHORUS_AVX512 inline Vector Load(const uint64_t* from) { return _mm512_loadu_si512(from); }
CHORUS_AVX512 inline void Store(uint64_t* to, Vector value) { _mm512_storeu_si512(to, value); }

// The prime in every lane, as the loops need it.
struct Prime {
  CHORUS_AVX512 explicit Prime(uint64_t value)
      : one(Broadcast(value)), two(Broadcast(2 * value)), negative(Broadcast(kWordEnd - value)) {}

  Vector one;
  Vector two;
  Vector negative;  // modulo 2^52
};

// A prepared factor, or one a lane: quotient = floor(value * 2^52 / prime).
struct Twiddle {
  Vector value;
  Vector quotient;
};
CHORUS_AVX512 inline Twiddle TwiddleOf(Factor factor) {
  return {Broadcast(factor.value), Broadcast(factor.quotient)};
}

// value < 2 * bound into [0, bound): the smaller, as unsigned numbers, of it and of what is left.
CHORUS_AVX512 inline Vector ReduceOnceAll(Vector value, Vector bound) {
  return _mm512_min_epu64(value, _mm512_sub_epi64(value, bound));
}

// value * twiddle in [0, 2 * prime), for values < 2^52 [Harvey 2014, Algorithm 2].
CHORUS_AVX512 inline Vector Turn(Vector value, Twiddle twiddle, const Prime& prime) {
  const Vector zero = _mm512_setzero_si512();
  const Vector quotient = _mm512_madd52hi_epu64(zero, value, twiddle.quotient);
  const Vector product = _mm512_madd52lo_epu64(zero, value, twiddle.value);
  const Vector rest = _mm512_madd52lo_epu64(product, quotient, prime.negative);
  return _mm512_and_si512(rest, Broadcast(kWordEnd - 1));
}

void Forward(const NttTables& tables, uint64_t* residues);
void Inverse(const NttTables& tables, uint64_t* residues);

}  // namespace avx512

namespace avx2 {

using Vector = __m256d;
inline constexpr size_t kLanes = 4;
inline constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
// Added to an integer in [0, 2^52), its bits are the double's last.
inline constexpr double kIntegerBase = 0x1p52;

CHORUS_AVX2 inline Vector Broadcast(double value) { return _mm256_set1_pd(value); }
CHORUS_AVX2 inline Vector Load(const uint64_t* from) {
  return _mm256_loadu_pd(reinterpret_cast<const double*>(from));
}
CHORUS_AVX2 inline void Store(uint64_t* to, Vector value) {
  _mm256_storeu_pd(reinterpret_cast<double*>(to), value);
}

struct Prime {
  CHORUS_AVX2 explicit Prime(uint64_t value)
      : one(Broadcast(static_cast<double>(value))),
        inverse(Broadcast(1.0 / static_cast<double>(value))) {}

  Vector one;
  Vector inverse;
};

// A prepared factor, or one a lane: value in [-prime / 2, prime / 2], quotient = value / prime.
struct Twiddle {
  Vector value;
  Vector quotient;
};
CHORUS_AVX2 inline Twiddle TwiddleOf(Factor factor) {
  return {Broadcast(std::bit_cast<double>(factor.value)),
          Broadcast(std::bit_cast<double>(factor.quotient))};
}

// Integers in [0, 2^52) to doubles and back.
CHORUS_AVX2 inline Vector FromIntegers(__m256i integers) {
  const Vector base = Broadcast(kIntegerBase);
  return _mm256_sub_pd(_mm256_or_pd(_mm256_castsi256_pd(integers), base), base);
}
CHORUS_AVX2 inline Vector LoadIntegers(const uint64_t* from) {
  return FromIntegers(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
}
CHORUS_AVX2 inline void StoreIntegers(uint64_t* to, Vector value) {
  const Vector base = Broadcast(kIntegerBase);
  Store(to, _mm256_xor_pd(_mm256_add_pd(value, base), base));
}

// |value| < 2^53 to a residue of at most half the prime, give or take one part in 2^48.
CHORUS_AVX2 inline Vector Center(Vector value, const Prime& prime) {
  const Vector quotient = _mm256_round_pd(_mm256_mul_pd(value, prime.inverse), kNearest);
  return _mm256_fnmadd_pd(quotient, prime.one, value);
}
// To [0, prime).
CHORUS_AVX2 inline Vector Canonical(Vector value, const Prime& prime) {
  const Vector centered = Center(value, prime);
  const Vector negative = _mm256_cmp_pd(centered, _mm256_setzero_pd(), _CMP_LT_OQ);
  return _mm256_add_pd(centered, _mm256_and_pd(negative, prime.one));
}

// The residue of a * b that `quotient`, near a * b / prime, leaves. The product's two halves and
// what is left of the higher one are exact, since all three are integers of at most 53 bits times
// a power of two.
CHORUS_AVX2 inline Vector ProductRest(Vector a, Vector b, Vector quotient, const Prime& prime) {
  const Vector high = _mm256_mul_pd(a, b);
  const Vector low = _mm256_fmsub_pd(a, b, high);
  const Vector rounded = _mm256_round_pd(quotient, kNearest);
  return _mm256_add_pd(_mm256_fnmadd_pd(rounded, prime.one, high), low);
}

// value * twiddle, of magnitude at most (1/2 + |value| / prime / 8) * prime, for |value| at most 4
// * prime: two roundings of |value| / 2 at most in a quotient of 53 bits.
CHORUS_AVX2 inline Vector Turn(Vector value, Twiddle twiddle, const Prime& prime) {
  return ProductRest(value, twiddle.value, _mm256_mul_pd(value, twiddle.quotient), prime);
}

void Forward(const NttTables& tables, uint64_t* residues);
void Inverse(const NttTables& tables, uint64_t* residues);

}  // namespace avx2

}  // namespace chorus::math

#endif
