// The transforms' tables, and the loops for any processor.
#include "math/ntt.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "math/rlwe_kernels.h"

namespace chorus::math {
namespace {

// --- the portable path -----------------------------------------------------------------------

Factor Prepare(uint64_t value, uint64_t prime) {
  const unsigned __int128 shifted = static_cast<unsigned __int128>(value) << 64U;
  return {value, static_cast<uint64_t>(shifted / prime)};
}

// Residues stay in [0, 4 * prime) from stage to stage and are made canonical once [Harvey 2014,
// Algorithm 4].
void Forward(const NttTables& tables, uint64_t* residues) {
  const uint64_t prime = tables.prime;
  size_t half = tables.degree / 2;
  for (size_t blocks = 1; blocks < tables.degree; blocks *= 2, half /= 2) {
    for (size_t block = 0; block < blocks; ++block) {
      const Factor twiddle = tables.forward[blocks + block];
      uint64_t* const low = residues + 2 * block * half;
      uint64_t* const high = low + half;
      for (size_t i = 0; i < half; ++i) {
        const uint64_t kept = ReduceOnce(low[i], 2 * prime);
        const uint64_t turned = MultiplyLazily(high[i], twiddle, prime);
        low[i] = kept + turned;
        high[i] = kept - turned + 2 * prime;
      }
    }
  }
  for (size_t i = 0; i < tables.degree; ++i) {
    residues[i] = ReduceOnce(ReduceOnce(residues[i], 2 * prime), prime);
  }
}

// Residues stay in [0, 2 * prime); the last stage divides by the degree as well.
void Inverse(const NttTables& tables, uint64_t* residues) {
  const uint64_t prime = tables.prime;
  size_t half = 1;
  for (size_t blocks = tables.degree / 2; blocks > 1; blocks /= 2, half *= 2) {
    for (size_t block = 0; block < blocks; ++block) {
      const Factor twiddle = tables.inverse[blocks + block];
      uint64_t* const low = residues + 2 * block * half;
      uint64_t* const high = low + half;
      for (size_t i = 0; i < half; ++i) {
        const uint64_t sum = low[i] + high[i];
        const uint64_t difference = low[i] - high[i] + 2 * prime;
        low[i] = ReduceOnce(sum, 2 * prime);
        high[i] = MultiplyLazily(difference, twiddle, prime);
      }
    }
  }
  for (size_t i = 0; i < half; ++i) {
    const uint64_t sum = residues[i] + residues[i + half];
    const uint64_t difference = residues[i] - residues[i + half] + 2 * prime;
    residues[i] = ReduceOnce(MultiplyLazily(sum, tables.scale, prime), prime);
    residues[i + half] = ReduceOnce(MultiplyLazily(difference, tables.scaled_middle, prime), prime);
  }
}

void Multiply(uint64_t prime, uint64_t* target, const uint64_t* factor, size_t count) {
  for (size_t i = 0; i < count; ++i) target[i] = MultiplyModulo(target[i], factor[i], prime);
}

void AddDigits(const DigitWeights& weights, const uint64_t* digits, uint64_t* target,
               size_t count) {
  for (size_t i = 0; i < count; ++i) {
    uint64_t sum = target[i] + digits[i] + weights.offset;
    for (size_t k = 1; k < weights.digits; ++k) {
      sum += MultiplyLazily(digits[k * count + i], weights.weights[k], weights.prime);
    }
    target[i] = ReduceWide(sum, weights.prime);
  }
}

// Bits set, by adding neighbours. Not the compiler's, which may look numbers up in a table.
uint64_t CountBits(uint64_t word) {
  word -= word >> 1U & 0x5555555555555555;
  word = (word & 0x3333333333333333) + (word >> 2U & 0x3333333333333333);
  word = (word + (word >> 4U)) & 0x0f0f0f0f0f0f0f0f;
  return word * 0x0101010101010101 >> 56U;
}

void DrawNoise(const uint8_t* stream, uint64_t* noise, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    uint64_t words[2];
    std::memcpy(words, stream + i * kNoiseBytes, kNoiseBytes);
    noise[i] = kNoiseMax + CountBits(words[0] & kNoiseMask) - CountBits(words[1] & kNoiseMask);
  }
}

// Four residues take 25 bytes. How many fours lie in `size` bytes so that the eight bytes read for
// the last residue, from its first on, end inside as well.
constexpr size_t kQuad = 4;
constexpr size_t kQuadBytes = kQuad * kDigitBits / 8;
size_t QuadsInside(size_t size, size_t count) {
  constexpr size_t kLastQuadRead = (kQuad - 1) * kDigitBits / 8 + sizeof(uint64_t);
  if (size < kLastQuadRead) return 0;
  // An even number, as callers count in eights.
  return std::min(count / kQuad, (size - kLastQuadRead) / kQuadBytes + 1) / 2 * 2;
}

uint64_t ResidueOfQuad(const uint8_t* quad, size_t index) {
  uint64_t word = 0;
  std::memcpy(&word, quad + index * kDigitBits / 8, sizeof(word));
  return word >> index * kDigitBits % 8 & kDigitMask;
}

size_t Check(BytesView packed, uint64_t prime, size_t count, uint64_t* over) {
  const size_t quads = QuadsInside(packed.size(), count);
  uint64_t signs = 0;
  for (size_t i = 0; i < quads; ++i) {
    const uint8_t* const quad = packed.data() + i * kQuadBytes;
    for (size_t j = 0; j < kQuad; ++j) signs |= prime - 1 - ResidueOfQuad(quad, j);
  }
  *over |= signs;
  return quads * kQuad;
}

size_t Fold(BytesView packed, uint64_t prime, size_t count, uint64_t* sum) {
  const size_t quads = QuadsInside(packed.size(), count);
  for (size_t i = 0; i < quads; ++i) {
    const uint8_t* const quad = packed.data() + i * kQuadBytes;
    for (size_t j = 0; j < kQuad; ++j) {
      uint64_t& place = sum[i * kQuad + j];
      place = ReduceOnce(place + ResidueOfQuad(quad, j), prime);
    }
  }
  return quads * kQuad;
}

constexpr RlweKernel kPortableKernel = {
    .prepare = &Prepare,
    .forward = &Forward,
    .inverse = &Inverse,
    .multiply = &Multiply,
    .add_digits = &AddDigits,
    .draw_noise = &DrawNoise,
    .check = &Check,
    .fold = &Fold,
};

// The low `bits` of `value` in reverse.
size_t ReverseBits(size_t value, int bits) {
  size_t reversed = 0;
  for (int i = 0; i < bits; ++i) reversed |= (value >> i & 1U) << (bits - 1 - i);
  return reversed;
}

// root^brv(i), prepared.
Factors PowersOf(uint64_t root, size_t degree, uint64_t prime, const RlweKernel& kernel) {
  const int bits = std::countr_zero(degree);
  Factors factors{.values = std::vector<uint64_t>(degree),
                  .quotients = std::vector<uint64_t>(degree)};
  uint64_t power = 1;
  for (size_t i = 0; i < degree; ++i) {
    const Factor factor = kernel.prepare(power, prime);
    factors.values[ReverseBits(i, bits)] = factor.value;
    factors.quotients[ReverseBits(i, bits)] = factor.quotient;
    power = MultiplyModulo(power, root, prime);
  }
  return factors;
}

}  // namespace

uint64_t PowerModulo(uint64_t base, uint64_t exponent, uint64_t prime) {
  uint64_t power = 1;
  for (; exponent > 0; exponent >>= 1U) {
    if ((exponent & 1U) != 0) power = MultiplyModulo(power, base, prime);
    base = MultiplyModulo(base, base, prime);
  }
  return power;
}

const RlweKernel* RlweKernelFor(RlwePath path) {
  switch (path) {
    case RlwePath::kPortable:
      return &kPortableKernel;
    case RlwePath::kAvx2:
      return RlweKernelAvx2();
    case RlwePath::kAvx512:
      return RlweKernelAvx512();
  }
  return nullptr;
}

bool HasRlwePath(RlwePath path) { return RlweKernelFor(path) != nullptr; }

RlwePath FastestRlwePath() {
  if (HasRlwePath(RlwePath::kAvx512)) return RlwePath::kAvx512;
  return HasRlwePath(RlwePath::kAvx2) ? RlwePath::kAvx2 : RlwePath::kPortable;
}

Ntt::Ntt(const Spec& spec, RlwePath path) : kernel_(RlweKernelFor(path)) {
  if (kernel_ == nullptr) kernel_ = &kPortableKernel;
  tables_.prime = spec.prime;
  tables_.degree = spec.degree;
  // Inverses by Fermat's little theorem.
  const uint64_t inverse_root = PowerModulo(spec.root, spec.prime - 2, spec.prime);
  const uint64_t scale = PowerModulo(spec.degree, spec.prime - 2, spec.prime);
  // brv(1) is half the degree.
  const uint64_t middle = PowerModulo(inverse_root, spec.degree / 2, spec.prime);
  tables_.forward = PowersOf(spec.root, spec.degree, spec.prime, *kernel_);
  tables_.inverse = PowersOf(inverse_root, spec.degree, spec.prime, *kernel_);
  tables_.scale = kernel_->prepare(scale, spec.prime);
  tables_.scaled_middle = kernel_->prepare(MultiplyModulo(scale, middle, spec.prime), spec.prime);
}

void Ntt::Forward(std::span<uint64_t> residues) const {
  kernel_->forward(tables_, residues.data());
}

void Ntt::Inverse(std::span<uint64_t> residues) const {
  kernel_->inverse(tables_, residues.data());
}

void Ntt::Multiply(std::span<uint64_t> target, std::span<const uint64_t> factor) const {
  kernel_->multiply(tables_.prime, target.data(), factor.data(), target.size());
}

}  // namespace chorus::math
