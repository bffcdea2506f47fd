// Chance, passed in: whoever draws takes an Rng&, so that a run replays from a seed. The system's
// source and the seeded AES-CTR one are made in crypto.
#pragma once

#include <cstdint>
#include <span>

namespace chorus {

// Uniform random bytes. Thread-compatible unless its maker says otherwise.
class Rng {
 public:
  virtual ~Rng() = default;
  virtual void Fill(std::span<uint8_t> out) = 0;
};

// A uniform integer in [0, bound), unbiased, by rejection; 0 for a bound of 0. Not for keys: what
// it draws is not wiped.
inline uint64_t UniformBelow(Rng& rng, uint64_t bound) {
  if (bound == 0) return 0;
  const uint64_t limit = UINT64_MAX - (UINT64_MAX % bound + 1) % bound;
  while (true) {
    uint8_t raw[8];
    rng.Fill(raw);
    uint64_t value = 0;
    for (int i = 7; i >= 0; --i) value = value << 8U | raw[i];
    if (value <= limit) return value % bound;
  }
}

// A uniform double in [0, 1) with 53 random bits.
inline double UniformUnit(Rng& rng) {
  return static_cast<double>(UniformBelow(rng, uint64_t{1} << 53U)) * 0x1p-53;
}

}  // namespace chorus
