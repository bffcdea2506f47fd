// Negacyclic number-theoretic transforms modulo primes of 50 bits: what makes products in
// Z_q[X] / (X^N + 1) cheap. The inner loops exist for several kinds of processors; all give the
// same numbers. [specification 2.2.2, RLWE conventions]
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace chorus::math {

inline constexpr uint32_t kRlweLimbsMax = 4;
inline constexpr uint32_t kRlweDegreeMax = 8'192;

// How inner loops run.
enum class RlwePath : uint8_t {
  kPortable,  // 64-bit integers: everywhere
  kAvx2,      // AVX2 and FMA: products in double precision, exact
  kAvx512,    // AVX-512 F, BW, DQ, VL, IFMA, VBMI and VPOPCNTDQ
};
bool HasRlwePath(RlwePath path);  // whether this processor and its system run it
RlwePath FastestRlwePath();

struct RlweKernel;  // of rlwe_kernels.h

// A constant factor, prepared for a path: the value and what speeds up its products.
struct Factor {
  uint64_t value = 0;
  uint64_t quotient = 0;
};

// Prepared factors, apart so that vectors of either load in one go.
struct Factors {
  std::vector<uint64_t> values;
  std::vector<uint64_t> quotients;

  Factor operator[](size_t index) const { return {values[index], quotients[index]}; }
};

struct NttTables {
  uint64_t prime = 0;
  size_t degree = 0;
  Factors forward;       // psi^brv(i) [degree]
  Factors inverse;       // psi^-brv(i) [degree]
  Factor scale;          // 1 / degree
  Factor scaled_middle;  // psi^-brv(1) / degree, for the last stage of the inverse
};

// The transform modulo one prime. Immutable and thread-safe. Every method takes and gives canonical
// residues (< prime), [degree] of them, and is constant time in them.
class Ntt {
 public:
  struct Spec {
    uint32_t degree = 0;  // a power of two in 64 .. kRlweDegreeMax
    uint64_t prime = 0;   // = 1 modulo 2 * degree, in 2^50 - 2^21 .. 2^50
    uint64_t root = 0;    // psi: psi^degree = -1
  };
  // A path that this processor lacks is replaced by kPortable.
  Ntt(const Spec& spec, RlwePath path);

  uint64_t prime() const { return tables_.prime; }
  size_t degree() const { return tables_.degree; }
  const RlweKernel& kernel() const { return *kernel_; }

  // In place, from coefficients to values at psi^(2 * brv(i) + 1) [Cooley and Tukey 1965].
  void Forward(std::span<uint64_t> residues) const;
  // In place, back [Gentleman and Sande 1966].
  void Inverse(std::span<uint64_t> residues) const;
  // target[i] = target[i] * factor[i].
  void Multiply(std::span<uint64_t> target, std::span<const uint64_t> factor) const;

 private:
  const RlweKernel* kernel_;
  NttTables tables_;
};

}  // namespace chorus::math
