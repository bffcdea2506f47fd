// Eight values, which take `bits` bytes, are the unit: each begins on a byte. Every function with
// AVX2 says so itself, so that a portable build has it and does not run it where it cannot. The
// instructions are the same whatever the values are.
#include <algorithm>
#include <array>

#include "math/packing.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace chorus::math {

#if defined(__x86_64__)

namespace {

#define CHORUS_AVX2 __attribute__((target("avx2")))

constexpr size_t kUnit = 8;
constexpr size_t kLoadBytes = 16;

// Whether each value, with the bits before it in its first byte, fits a window of four bytes: up to
// 25 bits, and 26, 28 and 32, whose values begin where bytes have room.
bool IsNarrow(unsigned bits) {
  bool fits = true;
  for (unsigned i = 0; i < kUnit; ++i) fits = fits && i * bits % 8 + bits <= 32;
  return fits;
}

bool HasAvx2() {
  static const bool has = __builtin_cpu_supports("avx2") != 0;
  return has;
}

// How many units lie in `size` bytes so that the last 16-byte access of each, which begins at
// `last_access`, ends inside as well.
size_t UnitsInside(size_t size, size_t last_access, unsigned bits) {
  if (size < last_access + kLoadBytes) return 0;
  return (size - last_access - kLoadBytes) / bits + 1;
}

CHORUS_AVX2 inline __m256i LoadBytes(const std::array<uint8_t, 32>& bytes) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(bytes.data()));
}

CHORUS_AVX2 inline __m256i LoadHalves(const uint8_t* low, const uint8_t* high) {
  const __m128i first = _mm_loadu_si128(reinterpret_cast<const __m128i*>(low));
  const __m128i second = _mm_loadu_si128(reinterpret_cast<const __m128i*>(high));
  return _mm256_inserti128_si256(_mm256_castsi128_si256(first), second, 1);
}

// --- unpacking -------------------------------------------------------------------------------

// Where values stand in the 32 bytes of two loads: value `values[i]` in a window of `window` bytes
// at place i. `bases` are where the loads begin, for the lower and the upper half of the places.
struct Windows {
  std::array<uint8_t, 32> bytes{};     // for a byte shuffle
  std::array<uint64_t, 4> shifts{};    // right, of 64-bit windows
  std::array<uint32_t, 8> shifts32{};  // right, of 32-bit windows
  size_t low = 0;
  size_t high = 0;
};

template <size_t kPlaces>
Windows WindowsOf(const std::array<unsigned, kPlaces>& values, unsigned bits) {
  constexpr size_t kWindow = 32 / kPlaces;
  Windows windows;
  windows.low = values[0] * bits / 8;
  windows.high = values[kPlaces / 2] * bits / 8;
  for (size_t i = 0; i < kPlaces; ++i) {
    const unsigned first_bit = values[i] * bits;
    const size_t base = i < kPlaces / 2 ? windows.low : windows.high;
    for (size_t j = 0; j < kWindow; ++j) {
      windows.bytes[i * kWindow + j] = static_cast<uint8_t>(first_bit / 8 - base + j);
    }
    if constexpr (kPlaces == 4) windows.shifts[i] = first_bit % 8;
    if constexpr (kPlaces == 8) windows.shifts32[i] = first_bit % 8;
  }
  return windows;
}

CHORUS_AVX2 inline __m256i LoadShifts(const void* shifts) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(shifts));
}

// Units of narrow values, as 32-bit words.
class NarrowUnits {
 public:
  CHORUS_AVX2 explicit NarrowUnits(unsigned bits)
      : windows_(WindowsOf<8>({0, 1, 2, 3, 4, 5, 6, 7}, bits)),
        mask_(_mm256_set1_epi32(static_cast<int>((uint64_t{1} << bits) - 1))) {}

  size_t last_access() const { return windows_.high; }

  CHORUS_AVX2 inline __m256i At(const uint8_t* packed) const {
    const __m256i bytes = LoadHalves(packed, packed + windows_.high);
    const __m256i words = _mm256_shuffle_epi8(bytes, LoadBytes(windows_.bytes));
    return _mm256_and_si256(_mm256_srlv_epi32(words, LoadShifts(&windows_.shifts32)), mask_);
  }

 private:
  Windows windows_;
  __m256i mask_;
};

// Units of values of up to 32 bits, through 64-bit windows. The places are such that the even
// 32-bit words of both halves, taken together, are the values in order.
class FullUnits {
 public:
  CHORUS_AVX2 explicit FullUnits(unsigned bits)
      : outer_(WindowsOf<4>({0, 1, 4, 5}, bits)),
        inner_(WindowsOf<4>({2, 3, 6, 7}, bits)),
        mask_(_mm256_set1_epi32(static_cast<int>((uint64_t{1} << bits) - 1))) {}

  size_t last_access() const { return inner_.high; }

  CHORUS_AVX2 inline __m256i At(const uint8_t* packed) const {
    const __m256 outer = _mm256_castsi256_ps(Half(packed, outer_));
    const __m256 inner = _mm256_castsi256_ps(Half(packed, inner_));
    const __m256i values = _mm256_castps_si256(_mm256_shuffle_ps(outer, inner, 0x88));
    return _mm256_and_si256(values, mask_);
  }

 private:
  CHORUS_AVX2 static inline __m256i Half(const uint8_t* packed, const Windows& windows) {
    const __m256i bytes = LoadHalves(packed + windows.low, packed + windows.high);
    const __m256i words = _mm256_shuffle_epi8(bytes, LoadBytes(windows.bytes));
    return _mm256_srlv_epi64(words, LoadShifts(&windows.shifts));
  }

  Windows outer_;
  Windows inner_;
  __m256i mask_;
};

// How far ahead of its use memory is fetched: the processor by itself does so within a page only.
constexpr size_t kFetchAheadBytes = 1'024;

CHORUS_AVX2 inline void FetchAhead(const void* from) {  // faults nowhere
  _mm_prefetch(static_cast<const char*>(from) + kFetchAheadBytes, _MM_HINT_T0);
}

template <typename Units>
CHORUS_AVX2 size_t AddUnits(std::span<uint32_t> sum, BytesView packed, unsigned bits) {
  const Units units(bits);
  const size_t count =
      std::min(sum.size() / kUnit, UnitsInside(packed.size(), units.last_access(), bits));
  const uint8_t* from = packed.data();
  uint32_t* to = sum.data();
  for (size_t i = 0; i < count; ++i, from += bits, to += kUnit) {
    auto* place = reinterpret_cast<__m256i*>(to);
    FetchAhead(from);
    FetchAhead(to);
    _mm256_storeu_si256(place, _mm256_add_epi32(_mm256_loadu_si256(place), units.At(from)));
  }
  return count * kUnit;
}

// Two units at a time, which fill a vector of 16-bit words.
CHORUS_AVX2 size_t AddUnitPairs(std::span<uint16_t> sum, BytesView packed, unsigned bits) {
  const NarrowUnits units(bits);
  const size_t count =
      std::min(sum.size() / kUnit, UnitsInside(packed.size(), units.last_access(), bits)) / 2;
  const uint8_t* from = packed.data();
  uint16_t* to = sum.data();
  for (size_t i = 0; i < count; ++i, from += 2 * size_t{bits}, to += 2 * kUnit) {
    auto* place = reinterpret_cast<__m256i*>(to);
    // Packing works within halves, so the middle quarters change places.
    const __m256i mixed = _mm256_packus_epi32(units.At(from), units.At(from + bits));
    const __m256i values = _mm256_permute4x64_epi64(mixed, 0xd8);
    _mm256_storeu_si256(place, _mm256_add_epi16(_mm256_loadu_si256(place), values));
  }
  return count * 2 * kUnit;
}

// --- packing ---------------------------------------------------------------------------------

// Joins eight values to `bits` bytes: pairs within 64 bits, fours within a half, then both halves.
// Four values may end in the middle of a byte, which the upper half then begins with.
class Joiner {
 public:
  CHORUS_AVX2 explicit Joiner(unsigned bits)
      : middle_(bits / 2),
        value_mask_(_mm256_set1_epi32(static_cast<int>((uint64_t{1} << bits) - 1))),
        pair_(_mm_cvtsi32_si128(static_cast<int>(bits))),
        up_(Alternating(2 * bits, 64)),
        down_(Alternating(64, 64 - 2 * bits)),
        nibble_up_(_mm256_set_epi64x(4 * (bits % 2), 4 * (bits % 2), 0, 0)),
        nibble_down_(_mm256_set_epi64x(64 - 4 * (bits % 2), 64 - 4 * (bits % 2), 64, 64)) {
    std::array<uint8_t, 16> shared;
    shared.fill(0x80);  // gives zero
    if (bits % 2 == 1) shared[0] = static_cast<uint8_t>(middle_);
    shared_ = _mm_loadu_si128(reinterpret_cast<const __m128i*>(shared.data()));
  }

  size_t last_access() const { return middle_; }

  // Writes 16 bytes from `out` and from `out` + last_access() on, of which `bits` are the values.
  CHORUS_AVX2 inline void Put(__m256i values, uint8_t* out) const {
    const __m256i words = _mm256_and_si256(values, value_mask_);
    const __m256i lower = _mm256_blend_epi32(words, _mm256_setzero_si256(), 0xaa);
    const __m256i upper = _mm256_sll_epi64(_mm256_srli_epi64(words, 32), pair_);
    const __m256i pairs = _mm256_or_si256(lower, upper);
    const __m256i first = _mm256_unpacklo_epi64(pairs, _mm256_setzero_si256());
    const __m256i second = _mm256_unpackhi_epi64(pairs, pairs);
    const __m256i fours = _mm256_or_si256(
        first, _mm256_or_si256(_mm256_sllv_epi64(second, up_), _mm256_srlv_epi64(second, down_)));
    const __m256i carried = _mm256_slli_si256(_mm256_srlv_epi64(fours, nibble_down_), 8);
    const __m256i placed = _mm256_or_si256(_mm256_sllv_epi64(fours, nibble_up_), carried);
    const __m128i low = _mm256_castsi256_si128(placed);
    const __m128i high = _mm256_extracti128_si256(placed, 1);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out), low);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + middle_),
                     _mm_or_si128(high, _mm_shuffle_epi8(low, shared_)));
  }

 private:
  // Shifts of the lower and the upper 64 bits of both halves; 64 leaves nothing.
  CHORUS_AVX2 static inline __m256i Alternating(unsigned lower, unsigned upper) {
    return _mm256_set_epi64x(upper, lower, upper, lower);
  }

  size_t middle_;  // byte in which the upper half begins
  __m256i value_mask_;
  __m128i pair_;
  __m256i up_;
  __m256i down_;
  __m256i nibble_up_;
  __m256i nibble_down_;
  __m128i shared_;  // moves the lower half's byte `middle_` to the front when it is shared
};

CHORUS_AVX2 inline __m256i LoadUnit(const uint32_t* words) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(words));
}
CHORUS_AVX2 inline __m256i LoadUnit(const uint16_t* words) {
  return _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(words)));
}

template <typename Word>
CHORUS_AVX2 size_t PackUnits(std::span<const Word> words, unsigned bits,
                             std::span<uint8_t> packed) {
  const Joiner joiner(bits);
  const size_t count =
      std::min(words.size() / kUnit, UnitsInside(packed.size(), joiner.last_access(), bits));
  const Word* from = words.data();
  uint8_t* to = packed.data();
  for (size_t i = 0; i < count; ++i, from += kUnit, to += bits) joiner.Put(LoadUnit(from), to);
  return count * kUnit;
}

}  // namespace

size_t AddPackedWide(std::span<uint16_t> sum, BytesView packed, unsigned bits) {
  return HasAvx2() ? AddUnitPairs(sum, packed, bits) : 0;
}

size_t AddPackedWide(std::span<uint32_t> sum, BytesView packed, unsigned bits) {
  if (!HasAvx2()) return 0;
  return IsNarrow(bits) ? AddUnits<NarrowUnits>(sum, packed, bits)
                        : AddUnits<FullUnits>(sum, packed, bits);
}

size_t PackWide(std::span<const uint16_t> words, unsigned bits, std::span<uint8_t> packed) {
  return HasAvx2() ? PackUnits(words, bits, packed) : 0;
}

size_t PackWide(std::span<const uint32_t> words, unsigned bits, std::span<uint8_t> packed) {
  return HasAvx2() ? PackUnits(words, bits, packed) : 0;
}

#else

size_t AddPackedWide(std::span<uint16_t>, BytesView, unsigned) { return 0; }
size_t AddPackedWide(std::span<uint32_t>, BytesView, unsigned) { return 0; }
size_t PackWide(std::span<const uint16_t>, unsigned, std::span<uint8_t>) { return 0; }
size_t PackWide(std::span<const uint32_t>, unsigned, std::span<uint8_t>) { return 0; }

#endif

}  // namespace chorus::math
