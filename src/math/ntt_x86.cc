// The transforms with vector instructions. The stages that work on whole vectors are one text for
// both kinds; those inside vectors are written out.
#include "math/rlwe_x86.h"

namespace chorus::math {

#if defined(__x86_64__)

// --- 512 bits --------------------------------------------------------------------------------

namespace avx512 {
namespace {

CHORUS_AVX512 inline Vector Sum(Vector low, Vector high) { return _mm512_add_epi64(low, high); }
CHORUS_AVX512 inline Vector Difference(Vector low, Vector high, const Prime& prime) {
  return _mm512_add_epi64(_mm512_sub_epi64(low, high), prime.two);
}

// From [0, 4 * prime) to [0, 4 * prime) [Harvey 2014, Algorithm 4].
CHORUS_AVX512 inline void ForwardOuter(Vector& low, Vector& high, Twiddle twiddle,
                                       const Prime& prime) {
  const Vector kept = ReduceOnceAll(low, prime.two);
  const Vector turned = Turn(high, twiddle, prime);
  low = Sum(kept, turned);
  high = Difference(kept, turned, prime);
}
CHORUS_AVX512 inline void ForwardInner(Vector& low, Vector& high, Twiddle twiddle,
                                       const Prime& prime) {
  ForwardOuter(low, high, twiddle, prime);
}

// From [0, 2 * prime) to [0, 2 * prime).
CHORUS_AVX512 inline void InverseOuter(Vector& low, Vector& high, Twiddle twiddle,
                                       const Prime& prime) {
  const Vector difference = Difference(low, high, prime);
  low = ReduceOnceAll(Sum(low, high), prime.two);
  high = Turn(difference, twiddle, prime);
}
CHORUS_AVX512 inline void InverseInner(Vector& low, Vector& high, Twiddle twiddle,
                                       const Prime& prime) {
  InverseOuter(low, high, twiddle, prime);
}

// From [0, 2 * prime).
CHORUS_AVX512 inline void StoreCanonical(uint64_t* to, Vector value, const Prime& prime) {
  Store(to, ReduceOnceAll(value, prime.one));
}

#define CHORUS_TARGET CHORUS_AVX512
#include "math/ntt_stages.inc"
#undef CHORUS_TARGET

// The twiddles of blocks of 4, 2 or 1 lanes of a pair of vectors, of which a butterfly has the
// blocks' lower halves in one vector and their upper halves in another.
CHORUS_AVX512 inline Vector SpreadTwo(const uint64_t* from) {
  const __m128i two = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  return _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 0, 0, 0, 1, 1, 1, 1),
                                  _mm512_castsi128_si512(two));
}
CHORUS_AVX512 inline Vector SpreadFour(const uint64_t* from) {
  const __m256i four = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  return _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 0, 1, 1, 2, 2, 3, 3),
                                  _mm512_castsi256_si512(four));
}
CHORUS_AVX512 inline Twiddle TwiddlesOfTwo(const Factors& factors, size_t index) {
  return {SpreadTwo(&factors.values[index]), SpreadTwo(&factors.quotients[index])};
}
CHORUS_AVX512 inline Twiddle TwiddlesOfFour(const Factors& factors, size_t index) {
  return {SpreadFour(&factors.values[index]), SpreadFour(&factors.quotients[index])};
}
CHORUS_AVX512 inline Twiddle TwiddlesOfEight(const Factors& factors, size_t index) {
  return {Load(&factors.values[index]), Load(&factors.quotients[index])};
}

// The last four stages. Between them lanes change places so that what meets stands in the same lane
// of both vectors.
CHORUS_AVX512 inline void ForwardInside(const NttTables& tables, uint64_t* residues,
                                        const Prime& prime) {
  const Factors& factors = tables.forward;
  const Vector quads_low = _mm512_setr_epi64(0, 1, 8, 9, 4, 5, 12, 13);
  const Vector quads_high = _mm512_setr_epi64(2, 3, 10, 11, 6, 7, 14, 15);
  const Vector back_low = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11);
  const Vector back_high = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
  const size_t pairs = tables.degree / (2 * kLanes);
  for (size_t pair = 0; pair < pairs; ++pair) {
    uint64_t* const place = residues + pair * 2 * kLanes;
    const size_t one = pairs + pair;
    Vector a = Load(place);
    Vector b = Load(place + kLanes);
    ForwardOuter(a, b, TwiddleOf(factors[one]), prime);
    Vector c = _mm512_shuffle_i64x2(a, b, 0x44);
    Vector d = _mm512_shuffle_i64x2(a, b, 0xee);
    ForwardOuter(c, d, TwiddlesOfTwo(factors, 2 * one), prime);
    a = _mm512_permutex2var_epi64(c, quads_low, d);
    b = _mm512_permutex2var_epi64(c, quads_high, d);
    ForwardOuter(a, b, TwiddlesOfFour(factors, 4 * one), prime);
    c = _mm512_unpacklo_epi64(a, b);
    d = _mm512_unpackhi_epi64(a, b);
    ForwardOuter(c, d, TwiddlesOfEight(factors, 8 * one), prime);
    a = _mm512_unpacklo_epi64(c, d);
    b = _mm512_unpackhi_epi64(c, d);
    c = _mm512_permutex2var_epi64(a, back_low, b);
    d = _mm512_permutex2var_epi64(a, back_high, b);
    StoreCanonical(place, ReduceOnceAll(c, prime.two), prime);
    StoreCanonical(place + kLanes, ReduceOnceAll(d, prime.two), prime);
  }
}

// The inverse's first four stages: the same, backwards.
CHORUS_AVX512 inline void InverseInside(const NttTables& tables, uint64_t* residues,
                                        const Prime& prime) {
  const Factors& factors = tables.inverse;
  const Vector evens = _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14);
  const Vector odds = _mm512_setr_epi64(1, 3, 5, 7, 9, 11, 13, 15);
  const Vector quads_low = _mm512_setr_epi64(0, 1, 8, 9, 4, 5, 12, 13);
  const Vector quads_high = _mm512_setr_epi64(2, 3, 10, 11, 6, 7, 14, 15);
  const size_t pairs = tables.degree / (2 * kLanes);
  for (size_t pair = 0; pair < pairs; ++pair) {
    uint64_t* const place = residues + pair * 2 * kLanes;
    const size_t one = pairs + pair;
    Vector a = Load(place);
    Vector b = Load(place + kLanes);
    Vector c = _mm512_permutex2var_epi64(a, evens, b);
    Vector d = _mm512_permutex2var_epi64(a, odds, b);
    InverseOuter(c, d, TwiddlesOfEight(factors, 8 * one), prime);
    a = _mm512_unpacklo_epi64(c, d);
    b = _mm512_unpackhi_epi64(c, d);
    InverseOuter(a, b, TwiddlesOfFour(factors, 4 * one), prime);
    c = _mm512_permutex2var_epi64(a, quads_low, b);
    d = _mm512_permutex2var_epi64(a, quads_high, b);
    InverseOuter(c, d, TwiddlesOfTwo(factors, 2 * one), prime);
    a = _mm512_shuffle_i64x2(c, d, 0x44);
    b = _mm512_shuffle_i64x2(c, d, 0xee);
    InverseOuter(a, b, TwiddleOf(factors[one]), prime);
    Store(place, a);
    Store(place + kLanes, b);
  }
}

}  // namespace

CHORUS_AVX512 void Forward(const NttTables& tables, uint64_t* residues) {
  const Prime prime(tables.prime);
  ForwardWholeVectors(tables, residues, prime);
  ForwardInside(tables, residues, prime);
}

CHORUS_AVX512 void Inverse(const NttTables& tables, uint64_t* residues) {
  const Prime prime(tables.prime);
  InverseInside(tables, residues, prime);
  InverseWholeVectors(tables, residues, prime);
}

}  // namespace avx512

// --- 256 bits --------------------------------------------------------------------------------

namespace avx2 {
namespace {

CHORUS_AVX2 inline Vector Sum(Vector low, Vector high) { return _mm256_add_pd(low, high); }
CHORUS_AVX2 inline Vector Difference(Vector low, Vector high, const Prime&) {
  return _mm256_sub_pd(low, high);
}

// Magnitudes, in primes: from at most 2 to at most 1/2 + 3/4.
CHORUS_AVX2 inline void ForwardOuter(Vector& low, Vector& high, Twiddle twiddle,
                                     const Prime& prime) {
  const Vector kept = Center(low, prime);
  const Vector turned = Turn(high, twiddle, prime);
  low = _mm256_add_pd(kept, turned);
  high = _mm256_sub_pd(kept, turned);
}
// From at most 5/4 to at most 5/4 + 21/32.
CHORUS_AVX2 inline void ForwardInner(Vector& low, Vector& high, Twiddle twiddle,
                                     const Prime& prime) {
  const Vector kept = low;
  const Vector turned = Turn(high, twiddle, prime);
  low = _mm256_add_pd(kept, turned);
  high = _mm256_sub_pd(kept, turned);
}

// From at most 1 to at most 2.
CHORUS_AVX2 inline void InverseInner(Vector& low, Vector& high, Twiddle twiddle,
                                     const Prime& prime) {
  const Vector difference = _mm256_sub_pd(low, high);
  low = _mm256_add_pd(low, high);
  high = Turn(difference, twiddle, prime);
}
// From at most 2 to at most 1.
CHORUS_AVX2 inline void InverseOuter(Vector& low, Vector& high, Twiddle twiddle,
                                     const Prime& prime) {
  const Vector difference = _mm256_sub_pd(low, high);
  low = Center(_mm256_add_pd(low, high), prime);
  high = Turn(difference, twiddle, prime);
}

CHORUS_AVX2 inline void StoreCanonical(uint64_t* to, Vector value, const Prime& prime) {
  StoreIntegers(to, Canonical(value, prime));
}

#define CHORUS_TARGET CHORUS_AVX2
#include "math/ntt_stages.inc"
#undef CHORUS_TARGET

CHORUS_AVX2 inline Vector SpreadTwo(const uint64_t* from) {
  const __m128i two = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  return _mm256_castsi256_pd(_mm256_permute4x64_epi64(_mm256_castsi128_si256(two), 0x50));
}
CHORUS_AVX2 inline Twiddle TwiddlesOfTwo(const Factors& factors, size_t index) {
  return {SpreadTwo(&factors.values[index]), SpreadTwo(&factors.quotients[index])};
}
CHORUS_AVX2 inline Twiddle TwiddlesOfFour(const Factors& factors, size_t index) {
  return {Load(&factors.values[index]), Load(&factors.quotients[index])};
}

// The last three stages.
CHORUS_AVX2 inline void ForwardInside(const NttTables& tables, uint64_t* residues,
                                      const Prime& prime) {
  const size_t pairs = tables.degree / (2 * kLanes);
  for (size_t pair = 0; pair < pairs; ++pair) {
    uint64_t* const place = residues + pair * 2 * kLanes;
    const size_t one = pairs + pair;
    Vector a = Load(place);
    Vector b = Load(place + kLanes);
    ForwardOuter(a, b, TwiddleOf(tables.forward[one]), prime);
    Vector c = _mm256_permute2f128_pd(a, b, 0x20);
    Vector d = _mm256_permute2f128_pd(a, b, 0x31);
    ForwardInner(c, d, TwiddlesOfTwo(tables.forward, 2 * one), prime);
    a = _mm256_unpacklo_pd(c, d);
    b = _mm256_unpackhi_pd(c, d);
    ForwardOuter(a, b, TwiddlesOfFour(tables.forward, 4 * one), prime);
    c = _mm256_unpacklo_pd(a, b);
    d = _mm256_unpackhi_pd(a, b);
    StoreCanonical(place, _mm256_permute2f128_pd(c, d, 0x20), prime);
    StoreCanonical(place + kLanes, _mm256_permute2f128_pd(c, d, 0x31), prime);
  }
}

// The inverse's first three stages.
CHORUS_AVX2 inline void InverseInside(const NttTables& tables, uint64_t* residues,
                                      const Prime& prime) {
  const size_t pairs = tables.degree / (2 * kLanes);
  for (size_t pair = 0; pair < pairs; ++pair) {
    uint64_t* const place = residues + pair * 2 * kLanes;
    const size_t one = pairs + pair;
    Vector a = LoadIntegers(place);
    Vector b = LoadIntegers(place + kLanes);
    Vector c = _mm256_permute2f128_pd(a, b, 0x20);
    Vector d = _mm256_permute2f128_pd(a, b, 0x31);
    a = _mm256_unpacklo_pd(c, d);
    b = _mm256_unpackhi_pd(c, d);
    InverseOuter(a, b, TwiddlesOfFour(tables.inverse, 4 * one), prime);
    c = _mm256_unpacklo_pd(a, b);
    d = _mm256_unpackhi_pd(a, b);
    InverseInner(c, d, TwiddlesOfTwo(tables.inverse, 2 * one), prime);
    a = _mm256_permute2f128_pd(c, d, 0x20);
    b = _mm256_permute2f128_pd(c, d, 0x31);
    InverseOuter(a, b, TwiddleOf(tables.inverse[one]), prime);
    Store(place, a);
    Store(place + kLanes, b);
  }
}

}  // namespace

CHORUS_AVX2 void Forward(const NttTables& tables, uint64_t* residues) {
  const Prime prime(tables.prime);
  for (size_t i = 0; i < tables.degree; i += kLanes)
    Store(residues + i, LoadIntegers(residues + i));
  ForwardWholeVectors(tables, residues, prime);
  ForwardInside(tables, residues, prime);
}

CHORUS_AVX2 void Inverse(const NttTables& tables, uint64_t* residues) {
  const Prime prime(tables.prime);
  InverseInside(tables, residues, prime);
  InverseWholeVectors(tables, residues, prime);
}

}  // namespace avx2

#endif

}  // namespace chorus::math
