// Chance in a simulation: every draw is a function of the seed, of what it is for and of whom it
// concerns, never of how many were made before it. So nothing that happens depends on the order in
// which threads come to it. Not for keys.
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>

#include "chorus/simulation.h"

namespace chorus::simulation {

enum class Purpose : uint64_t {
  kSelection = 1,
  kSpeed,
  kLatency,
  kDownload,
  kUpload,
  kWindow,
  kStartsOn,
  kDuration,
  kDropout,
  kLossDown,
  kLossUp,
};

// What a draw concerns; what a purpose does not name stays zero.
struct Concerning {
  uint64_t client = 0;
  uint64_t round = 0;
  uint64_t index = 0;
};

class Draws {
 public:
  explicit Draws(uint64_t seed) : seed_(seed) {}

  uint64_t Bits(Purpose purpose, const Concerning& what) const {
    uint64_t state = Mix(seed_ + kGamma);
    for (const uint64_t word :
         {static_cast<uint64_t>(purpose), what.client, what.round, what.index}) {
      state = Mix((state ^ word) + kGamma);
    }
    return state;
  }
  // Uniform in [0, 1).
  double Unit(Purpose purpose, const Concerning& what) const {
    return static_cast<double>(Bits(purpose, what) >> 11U) * 0x1p-53;
  }
  // Of exponential distribution.
  double Exponential(Purpose purpose, const Concerning& what, double mean) const {
    return -mean * std::log1p(-Unit(purpose, what));
  }
  // One draw of the quantity for `client`.
  double Of(const Spread& spread, Purpose purpose, uint64_t client) const {
    switch (spread.shape) {
      case Spread::Shape::kUniform:
        return spread.median * (1 + spread.width * (2 * Unit(purpose, {.client = client}) - 1));
      case Spread::Shape::kLognormal:
        return spread.median * std::exp(spread.width * Normal(purpose, client));
      case Spread::Shape::kSame:
        break;
    }
    return spread.median;
  }

 private:
  static constexpr uint64_t kGamma = 0x9E3779B97F4A7C15;

  // The finaliser of SplitMix64 [SLF14, section 4]: a permutation whose every output bit depends on
  // every input bit.
  static uint64_t Mix(uint64_t z) {
    z = (z ^ z >> 30U) * 0xBF58476D1CE4E5B9;
    z = (z ^ z >> 27U) * 0x94D049BB133111EB;
    return z ^ z >> 31U;
  }
  // By the polar angle and radius of two uniform draws [BM58].
  double Normal(Purpose purpose, uint64_t client) const {
    const double radius =
        std::sqrt(-2 * std::log1p(-Unit(purpose, {.client = client, .index = 1})));
    const double angle = 2 * std::numbers::pi * Unit(purpose, {.client = client, .index = 2});
    return radius * std::cos(angle);
  }

  uint64_t seed_;
};

}  // namespace chorus::simulation
