// The inner loops of ntt.h and rlwe.h, as a table of functions by path. Included only in this
// folder, by tests and by benchmarks. All are constant time in the numbers that they work on.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "chorus/bytes.h"
#include "math/rlwe.h"

namespace chorus::math {

inline constexpr unsigned kDigitBits = 50;  // of a residue, and of a plaintext's digits
inline constexpr uint64_t kDigitMask = (uint64_t{1} << kDigitBits) - 1;
inline constexpr uint64_t kNoiseMax = 42;  // of CBD(42)
inline constexpr uint64_t kNoiseMask = (uint64_t{1} << kNoiseMax) - 1;
inline constexpr size_t kNoiseBytes = 16;       // of the stream, for one draw
inline constexpr uint64_t kGapMax = 1U << 21U;  // 2^50 less a prime is at most this

// What turns the digits of a plaintext, in base 2^50, into its residue modulo a prime.
struct DigitWeights {
  uint64_t prime = 0;
  size_t digits = 0;                            // in 1 .. kRlweLimbsMax
  std::array<Factor, kRlweLimbsMax> weights{};  // 2^(50 * k), prepared; the first is not read
  uint64_t offset = 0;                          // added to every residue; < prime
};

// Where the error begins in a plaintext's last digit, which is where T stands.
constexpr unsigned ErrorShift(const RlweParameters& parameters) {
  return static_cast<unsigned>(parameters.plaintext_bits) - (parameters.limbs - 1) * kDigitBits;
}

struct RlweKernel {
  // `value` < prime; constant factors for the functions below are made by it and nowhere else.
  Factor (*prepare)(uint64_t value, uint64_t prime);
  // Residues are canonical before and after; [degree].
  void (*forward)(const NttTables& tables, uint64_t* residues);
  void (*inverse)(const NttTables& tables, uint64_t* residues);
  // target[i] = target[i] * factor[i], canonical. `count` is a multiple of 16, here and in the next
  // two.
  void (*multiply)(uint64_t prime, uint64_t* target, const uint64_t* factor, size_t count);
  // target[i] += offset + sum of digit[k][i] * weight[k], canonical. digits are [digits] of [count]
  // numbers < 2^50.
  void (*add_digits)(const DigitWeights& weights, const uint64_t* digits, uint64_t* target,
                     size_t count);
  // noise[i] = 42 + a draw from CBD(42), made of bytes [16 * i, 16 * i + 16) of the stream.
  void (*draw_noise)(const uint8_t* stream, uint64_t* noise, size_t count);

  // The next two take the first residues of a bit stream of 50 bits each, as many of `count` as
  // wide loads can take without a read outside `packed`, and say how many these were, a multiple
  // of 8. *over gets its top bit set when one of them is not < prime.
  size_t (*check)(BytesView packed, uint64_t prime, size_t count, uint64_t* over);
  // sum[i] = sum[i] + residue i, canonical.
  size_t (*fold)(BytesView packed, uint64_t prime, size_t count, uint64_t* sum);
};

// A path's loops; null where the processor or the build lacks the path.
const RlweKernel* RlweKernelFor(RlwePath path);
// The vector paths' loops, in ntt_x86.cc and rlwe_x86.cc; null in a build for other processors.
const RlweKernel* RlweKernelAvx2();
const RlweKernel* RlweKernelAvx512();

// --- arithmetic modulo a prime of ntt.h ------------------------------------------------------

// `value` < 2 * prime to canonical form, without a branch.
inline uint64_t ReduceOnce(uint64_t value, uint64_t prime) {
  const uint64_t less = value - prime;
  return less + (prime & (uint64_t{0} - (less >> 63U)));
}

// `value` < 2^60 to canonical form: 2^50 is the prime and its gap.
inline uint64_t ReduceWide(uint64_t value, uint64_t prime) {
  const uint64_t gap = (uint64_t{1} << kDigitBits) - prime;
  return ReduceOnce((value & kDigitMask) + (value >> kDigitBits) * gap, prime);
}

// a * b, canonical, for a, b < 2^50. The part above 2^50 is folded down twice.
inline uint64_t MultiplyModulo(uint64_t a, uint64_t b, uint64_t prime) {
  const uint64_t gap = (uint64_t{1} << kDigitBits) - prime;
  const unsigned __int128 product = static_cast<unsigned __int128>(a) * b;
  const unsigned __int128 once =
      static_cast<unsigned __int128>(static_cast<uint64_t>(product >> kDigitBits)) * gap +
      (static_cast<uint64_t>(product) & kDigitMask);
  return ReduceOnce(
      (static_cast<uint64_t>(once) & kDigitMask) + static_cast<uint64_t>(once >> kDigitBits) * gap,
      prime);
}

// base^exponent. Not constant time: for public numbers.
uint64_t PowerModulo(uint64_t base, uint64_t exponent, uint64_t prime);

// value * factor in [0, 2 * prime), for any value, with a factor of the portable path: quotient =
// floor(factor * 2^64 / prime) [Harvey 2014, Algorithm 2, after Shoup].
inline uint64_t MultiplyLazily(uint64_t value, Factor factor, uint64_t prime) {
  const auto quotient =
      static_cast<uint64_t>(static_cast<unsigned __int128>(value) * factor.quotient >> 64U);
  return value * factor.value - quotient * prime;
}

}  // namespace chorus::math
