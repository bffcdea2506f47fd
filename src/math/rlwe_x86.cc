// What surrounds the transforms, with vector instructions: products, plaintexts, noise, and
// residues from their 50-bit stream. Eight residues take 50 bytes, so each eight begin on a byte.
#include "math/rlwe_x86.h"

#include <algorithm>

namespace chorus::math {

#if defined(__x86_64__)

namespace {

constexpr size_t kUnit = 8;
constexpr size_t kUnitBytes = kUnit * kDigitBits / 8;

}  // namespace

// --- 512 bits --------------------------------------------------------------------------------

namespace avx512 {
namespace {

Factor Prepare(uint64_t value, uint64_t prime) {
  const unsigned __int128 shifted = static_cast<unsigned __int128>(value) << 52U;
  return {value, static_cast<uint64_t>(shifted / prime)};
}

// As math::ReduceWide, for values < 2^60.
CHORUS_AVX512 inline Vector ReduceWide(Vector value, Vector gap, const Prime& prime) {
  const Vector low = _mm512_and_si512(value, Broadcast(kDigitMask));
  const Vector high = _mm512_srli_epi64(value, kDigitBits);
  return ReduceOnceAll(_mm512_madd52lo_epu64(low, high, gap), prime.one);
}

// 2^52 is four gaps, so the product's part above it is folded down twice.
CHORUS_AVX512 void Multiply(uint64_t prime_value, uint64_t* target, const uint64_t* factor,
                            size_t count) {
  const Prime prime(prime_value);
  const Vector zero = _mm512_setzero_si512();
  const Vector gap = Broadcast((uint64_t{1} << kDigitBits) - prime_value);
  const Vector four_gaps = _mm512_slli_epi64(gap, 2);
  for (size_t i = 0; i < count; i += kLanes) {
    const Vector a = Load(target + i);
    const Vector b = Load(factor + i);
    const Vector low = _mm512_madd52lo_epu64(zero, a, b);
    const Vector high = _mm512_madd52hi_epu64(zero, a, b);
    const Vector once = _mm512_madd52lo_epu64(low, high, four_gaps);
    const Vector higher = _mm512_madd52hi_epu64(zero, high, four_gaps);
    const Vector twice = _mm512_madd52lo_epu64(once, higher, four_gaps);
    Store(target + i, ReduceWide(twice, gap, prime));
  }
}

CHORUS_AVX512 void AddDigits(const DigitWeights& weights, const uint64_t* digits, uint64_t* target,
                             size_t count) {
  const Prime prime(weights.prime);
  const Vector gap = Broadcast((uint64_t{1} << kDigitBits) - weights.prime);
  const Vector offset = Broadcast(weights.offset);
  for (size_t i = 0; i < count; i += kLanes) {
    Vector sum = _mm512_add_epi64(Load(target + i), Load(digits + i));
    sum = _mm512_add_epi64(sum, offset);
    for (size_t k = 1; k < weights.digits; ++k) {
      const Vector digit = Load(digits + k * count + i);
      sum = _mm512_add_epi64(sum, Turn(digit, TwiddleOf(weights.weights[k]), prime));
    }
    Store(target + i, ReduceWide(sum, gap, prime));
  }
}

CHORUS_AVX512 inline Vector CountNoiseBits(const uint8_t* stream) {
  const Vector words = _mm512_loadu_si512(stream);
  return _mm512_popcnt_epi64(_mm512_and_si512(words, Broadcast(kNoiseMask)));
}

CHORUS_AVX512 void DrawNoise(const uint8_t* stream, uint64_t* noise, size_t count) {
  const Vector evens = _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14);
  const Vector odds = _mm512_setr_epi64(1, 3, 5, 7, 9, 11, 13, 15);
  for (size_t i = 0; i < count; i += kLanes) {
    const Vector first = CountNoiseBits(stream + i * kNoiseBytes);
    const Vector second = CountNoiseBits(stream + i * kNoiseBytes + sizeof(Vector));
    const Vector added = _mm512_permutex2var_epi64(first, evens, second);
    const Vector taken = _mm512_permutex2var_epi64(first, odds, second);
    Store(noise + i, _mm512_sub_epi64(_mm512_add_epi64(added, Broadcast(kNoiseMax)), taken));
  }
}

// The eight residues of a unit: to each lane the eight bytes from its first on, then its bits.
class Unit {
 public:
  CHORUS_AVX512 Unit()
      : bytes_(Windows()),
        shifts_(_mm512_setr_epi64(0, 2, 4, 6, 0, 2, 4, 6)),
        mask_(Broadcast(kDigitMask)) {}

  CHORUS_AVX512 inline Vector At(const uint8_t* packed) const {
    constexpr __mmask64 kInside = (uint64_t{1} << kUnitBytes) - 1;
    const Vector bytes = _mm512_maskz_loadu_epi8(kInside, packed);
    const Vector words = _mm512_permutexvar_epi8(bytes_, bytes);
    return _mm512_and_si512(_mm512_srlv_epi64(words, shifts_), mask_);
  }

 private:
  CHORUS_AVX512 static Vector Windows() {
    alignas(64) std::array<uint8_t, 64> bytes{};
    for (size_t i = 0; i < kUnit; ++i) {
      for (size_t j = 0; j < 8; ++j) {
        bytes[8 * i + j] = static_cast<uint8_t>(i * kDigitBits / 8 + j);
      }
    }
    return _mm512_load_si512(bytes.data());
  }

  Vector bytes_;
  Vector shifts_;
  Vector mask_;
};

CHORUS_AVX512 size_t Check(BytesView packed, uint64_t prime, size_t count, uint64_t* over) {
  const size_t units = std::min(count / kUnit, packed.size() / kUnitBytes);
  const Unit unit;
  const Vector largest = Broadcast(prime - 1);
  Vector signs = _mm512_setzero_si512();
  for (size_t i = 0; i < units; ++i) {
    const Vector residues = unit.At(packed.data() + i * kUnitBytes);
    signs = _mm512_or_si512(signs, _mm512_sub_epi64(largest, residues));
  }
  *over |= static_cast<uint64_t>(_mm512_reduce_or_epi64(signs));
  return units * kUnit;
}

CHORUS_AVX512 size_t Fold(BytesView packed, uint64_t prime, size_t count, uint64_t* sum) {
  const size_t units = std::min(count / kUnit, packed.size() / kUnitBytes);
  const Unit unit;
  const Vector bound = Broadcast(prime);
  for (size_t i = 0; i < units; ++i) {
    const Vector residues = unit.At(packed.data() + i * kUnitBytes);
    const Vector added = _mm512_add_epi64(Load(sum + i * kUnit), residues);
    Store(sum + i * kUnit, ReduceOnceAll(added, bound));
  }
  return units * kUnit;
}

bool IsSupported() {
  return __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512bw") != 0 &&
         __builtin_cpu_supports("avx512dq") != 0 && __builtin_cpu_supports("avx512vl") != 0 &&
         __builtin_cpu_supports("avx512ifma") != 0 && __builtin_cpu_supports("avx512vbmi") != 0 &&
         __builtin_cpu_supports("avx512vpopcntdq") != 0;
}

constexpr RlweKernel kKernel = {
    .prepare = &Prepare,
    .forward = &Forward,
    .inverse = &Inverse,
    .multiply = &Multiply,
    .add_digits = &AddDigits,
    .draw_noise = &DrawNoise,
    .check = &Check,
    .fold = &Fold,
};

}  // namespace
}  // namespace avx512

// --- 256 bits --------------------------------------------------------------------------------

namespace avx2 {
namespace {

Factor Prepare(uint64_t value, uint64_t prime) {
  const double centered =
      value > prime / 2 ? -static_cast<double>(prime - value) : static_cast<double>(value);
  return {std::bit_cast<uint64_t>(centered),
          std::bit_cast<uint64_t>(centered / static_cast<double>(prime))};
}

// Three roundings of at most the prime in a quotient of 53 bits: the rest is below 7/8 of it.
CHORUS_AVX2 void Multiply(uint64_t prime_value, uint64_t* target, const uint64_t* factor,
                          size_t count) {
  const Prime prime(prime_value);
  for (size_t i = 0; i < count; i += kLanes) {
    const Vector a = LoadIntegers(target + i);
    const Vector b = LoadIntegers(factor + i);
    const Vector quotient = _mm256_mul_pd(_mm256_mul_pd(a, b), prime.inverse);
    StoreIntegers(target + i, Canonical(ProductRest(a, b, quotient, prime), prime));
  }
}

// A sum of at most five primes.
CHORUS_AVX2 void AddDigits(const DigitWeights& weights, const uint64_t* digits, uint64_t* target,
                           size_t count) {
  const Prime prime(weights.prime);
  const Vector offset = Broadcast(static_cast<double>(weights.offset));
  for (size_t i = 0; i < count; i += kLanes) {
    Vector sum = _mm256_add_pd(LoadIntegers(target + i), LoadIntegers(digits + i));
    sum = _mm256_add_pd(sum, offset);
    for (size_t k = 1; k < weights.digits; ++k) {
      const Vector digit = LoadIntegers(digits + k * count + i);
      sum = _mm256_add_pd(sum, Turn(digit, TwiddleOf(weights.weights[k]), prime));
    }
    StoreIntegers(target + i, Canonical(sum, prime));
  }
}

// Bits set in each 64-bit lane: those of every half byte from a table in a register, added up
// [Mula, Kurz and Lemire 2018].
CHORUS_AVX2 inline __m256i CountNoiseBits(const uint8_t* stream) {
  const __m256i counts =
      _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
  const __m256i half = _mm256_set1_epi8(0x0f);
  const __m256i words =
      _mm256_and_si256(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(stream)),
                       _mm256_set1_epi64x(static_cast<long long>(kNoiseMask)));
  const __m256i low = _mm256_and_si256(words, half);
  const __m256i high = _mm256_and_si256(_mm256_srli_epi16(words, 4), half);
  const __m256i bytes =
      _mm256_add_epi8(_mm256_shuffle_epi8(counts, low), _mm256_shuffle_epi8(counts, high));
  return _mm256_sad_epu8(bytes, _mm256_setzero_si256());
}

CHORUS_AVX2 void DrawNoise(const uint8_t* stream, uint64_t* noise, size_t count) {
  const __m256i base = _mm256_set1_epi64x(static_cast<long long>(kNoiseMax));
  for (size_t i = 0; i < count; i += kLanes) {
    const __m256i first = CountNoiseBits(stream + i * kNoiseBytes);
    const __m256i second = CountNoiseBits(stream + i * kNoiseBytes + sizeof(__m256i));
    const __m256i added = _mm256_unpacklo_epi64(first, second);
    const __m256i taken = _mm256_unpackhi_epi64(first, second);
    const __m256i draws = _mm256_sub_epi64(_mm256_add_epi64(added, base), taken);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(noise + i),
                        _mm256_permute4x64_epi64(draws, 0xd8));
  }
}

// The four residues of half a unit: two from the bytes at its beginning, two from those at the
// third's first. Reads 28 bytes.
constexpr size_t kThirdFirstByte = 2 * kDigitBits / 8;
constexpr size_t kHalfUnitBytes = kUnitBytes / 2;

CHORUS_AVX2 inline __m256i HalfUnitAt(const uint8_t* packed) {
  const auto* const low = reinterpret_cast<const __m128i*>(packed);
  const auto* const high = reinterpret_cast<const __m128i*>(packed + kThirdFirstByte);
  const __m256i bytes = _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128(low)),
                                                _mm_loadu_si128(high), 1);
  const __m256i windows = _mm256_broadcastsi128_si256(
      _mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 6, 7, 8, 9, 10, 11, 12, 13));
  const __m256i words = _mm256_shuffle_epi8(bytes, windows);
  return _mm256_and_si256(_mm256_srlv_epi64(words, _mm256_setr_epi64x(0, 2, 4, 6)),
                          _mm256_set1_epi64x(static_cast<long long>(kDigitMask)));
}

// How many units lie in `size` bytes so that what is read for the last ends inside as well.
size_t UnitsInside(size_t size, size_t count) {
  constexpr size_t kLastUnitRead = kHalfUnitBytes + kThirdFirstByte + sizeof(__m128i);
  if (size < kLastUnitRead) return 0;
  return std::min(count / kUnit, (size - kLastUnitRead) / kUnitBytes + 1);
}

CHORUS_AVX2 size_t Check(BytesView packed, uint64_t prime, size_t count, uint64_t* over) {
  const size_t units = UnitsInside(packed.size(), count);
  const __m256i largest = _mm256_set1_epi64x(static_cast<long long>(prime - 1));
  __m256i signs = _mm256_setzero_si256();
  for (size_t half = 0; half < 2 * units; ++half) {
    const __m256i residues = HalfUnitAt(packed.data() + half * kHalfUnitBytes);
    signs = _mm256_or_si256(signs, _mm256_sub_epi64(largest, residues));
  }
  if (_mm256_movemask_pd(_mm256_castsi256_pd(signs)) != 0) *over |= uint64_t{1} << 63U;
  return units * kUnit;
}

CHORUS_AVX2 size_t Fold(BytesView packed, uint64_t prime, size_t count, uint64_t* sum) {
  const size_t units = UnitsInside(packed.size(), count);
  const __m256i bound = _mm256_set1_epi64x(static_cast<long long>(prime));
  for (size_t half = 0; half < 2 * units; ++half) {
    auto* const place = reinterpret_cast<__m256i*>(sum + half * kLanes);
    const __m256i residues = HalfUnitAt(packed.data() + half * kHalfUnitBytes);
    const __m256i less =
        _mm256_sub_epi64(_mm256_add_epi64(_mm256_loadu_si256(place), residues), bound);
    const __m256i negative = _mm256_cmpgt_epi64(_mm256_setzero_si256(), less);
    _mm256_storeu_si256(place, _mm256_add_epi64(less, _mm256_and_si256(negative, bound)));
  }
  return units * kUnit;
}

bool IsSupported() {
  return __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0;
}

constexpr RlweKernel kKernel = {
    .prepare = &Prepare,
    .forward = &Forward,
    .inverse = &Inverse,
    .multiply = &Multiply,
    .add_digits = &AddDigits,
    .draw_noise = &DrawNoise,
    .check = &Check,
    .fold = &Fold,
};

}  // namespace
}  // namespace avx2

const RlweKernel* RlweKernelAvx2() {
  static const bool supported = avx2::IsSupported();
  return supported ? &avx2::kKernel : nullptr;
}

const RlweKernel* RlweKernelAvx512() {
  static const bool supported = avx512::IsSupported();
  return supported ? &avx512::kKernel : nullptr;
}

#else

const RlweKernel* RlweKernelAvx2() { return nullptr; }
const RlweKernel* RlweKernelAvx512() { return nullptr; }

#endif

}  // namespace chorus::math
