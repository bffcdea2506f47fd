// The transforms and the other inner loops of encryption: laws, and every path against the portable
// one. A path that this processor lacks is skipped, and its test says so.
#include "math/ntt.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <tuple>
#include <vector>

#include "matchers.h"
#include "math/math.h"
#include "math/rlwe_kernels.h"
#include "test_rng.h"

namespace chorus::math {
namespace {

constexpr RlwePath kPaths[] = {RlwePath::kPortable, RlwePath::kAvx2, RlwePath::kAvx512};

Bytes PackedOf(const std::vector<uint64_t>& residues) {
  return Pack(RingVector(residues), kResidueBits);
}

// --- transforms ------------------------------------------------------------------------------

// Residues with the ends of their range among them.
std::vector<uint64_t> Residues(size_t count, uint64_t prime, TestRng& rng) {
  std::vector<uint64_t> residues(count);
  for (uint64_t& residue : residues) {
    residue = UniformBelow(rng, prime);
    if (UniformBelow(rng, 8) == 0) residue = UniformBelow(rng, 2) == 0 ? prime - 1 : 0;
  }
  return residues;
}

// psi for any power of two of coefficients up to 8192.
Ntt::Spec SpecOf(uint32_t degree, uint64_t prime) {
  const RlweParameters& parameters = RlweParametersFor(RlweSet::kOsa8192);
  for (uint32_t limb = 0; limb < parameters.limbs; ++limb) {
    if (parameters.primes[limb] != prime) continue;
    return {.degree = degree,
            .prime = prime,
            .root = PowerModulo(parameters.roots[limb], parameters.degree / degree, prime)};
  }
  return {};
}

// One path, with one degree.
class NttPaths : public testing::TestWithParam<std::tuple<RlwePath, uint32_t>> {
 protected:
  void SetUp() override {
    if (!HasRlwePath(path())) GTEST_SKIP() << "not on this processor";
  }
  static RlwePath path() { return std::get<0>(GetParam()); }
  static uint32_t degree() { return std::get<1>(GetParam()); }
  static std::span<const uint64_t> primes() { return RlweParametersFor(RlweSet::kOsa8192).primes; }
};

TEST_P(NttPaths, MultipliesAsTheSchoolbookDoes) {
  if (degree() > 512) GTEST_SKIP() << "the smaller ones take the same loops";
  TestRng rng(degree());
  for (const uint64_t prime : primes()) {
    const Ntt ntt(SpecOf(degree(), prime), path());
    const std::vector<uint64_t> a = Residues(degree(), prime, rng);
    const std::vector<uint64_t> b = Residues(degree(), prime, rng);
    std::vector<uint64_t> product(degree());
    for (size_t i = 0; i < degree(); ++i) {
      for (size_t j = 0; j < degree(); ++j) {
        const uint64_t term = MultiplyModulo(a[i], b[j], prime);
        uint64_t& place = product[(i + j) % degree()];
        place = (place + (i + j < degree() ? term : prime - term)) % prime;  // X^N = -1
      }
    }
    std::vector<uint64_t> transformed_a = a;
    std::vector<uint64_t> transformed_b = b;
    ntt.Forward(transformed_a);
    ntt.Forward(transformed_b);
    ntt.Multiply(transformed_a, transformed_b);
    ntt.Inverse(transformed_a);
    EXPECT_EQ(transformed_a, product) << prime;
  }
}

TEST_P(NttPaths, EvaluatesAtOddPowersOfTheRootInBitReversedOrder) {
  TestRng rng(degree() + 1);
  const int bits = std::countr_zero(degree());
  for (const uint64_t prime : primes()) {
    const Ntt::Spec spec = SpecOf(degree(), prime);
    const std::vector<uint64_t> a = Residues(degree(), prime, rng);
    std::vector<uint64_t> transformed = a;
    Ntt(spec, path()).Forward(transformed);
    for (int trial = 0; trial < 8; ++trial) {
      const uint64_t i = UniformBelow(rng, degree());
      uint64_t reversed = 0;
      for (int bit = 0; bit < bits; ++bit) reversed |= (i >> bit & 1U) << (bits - 1 - bit);
      const uint64_t x = PowerModulo(spec.root, 2 * reversed + 1, prime);
      uint64_t value = 0;
      for (size_t j = degree(); j > 0; --j)
        value = (MultiplyModulo(value, x, prime) + a[j - 1]) % prime;
      EXPECT_EQ(transformed[i], value);
    }
  }
}

TEST_P(NttPaths, GiveTheSameNumbersAsThePortableOne) {
  TestRng rng(degree() + 2);
  for (const uint64_t prime : primes()) {
    const Ntt portable(SpecOf(degree(), prime), RlwePath::kPortable);
    const Ntt ntt(SpecOf(degree(), prime), path());
    std::vector<std::vector<uint64_t>> inputs;
    for (int i = 0; i < 4; ++i) inputs.push_back(Residues(degree(), prime, rng));
    inputs.emplace_back(degree(), prime - 1);
    inputs.emplace_back(degree(), 0);
    inputs.emplace_back(degree(), prime / 2);
    inputs.emplace_back(degree(), prime / 2 + 1);
    for (const std::vector<uint64_t>& input : inputs) {
      std::vector<uint64_t> forward = input;
      std::vector<uint64_t> expected = input;
      ntt.Forward(forward);
      portable.Forward(expected);
      ASSERT_EQ(forward, expected);
      ntt.Inverse(forward);
      ASSERT_EQ(forward, input);
      std::vector<uint64_t> inverse = input;
      expected = input;
      ntt.Inverse(inverse);
      portable.Inverse(expected);
      ASSERT_EQ(inverse, expected);
      for (const std::vector<uint64_t>& factor : inputs) {
        std::vector<uint64_t> product = input;
        expected = input;
        ntt.Multiply(product, factor);
        portable.Multiply(expected, factor);
        ASSERT_EQ(product, expected);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, NttPaths,
                         testing::Combine(testing::ValuesIn(kPaths),
                                          testing::Values(64, 128, 256, 512, 4'096, 8'192)));

// --- the other loops -------------------------------------------------------------------------

class RlweLoops : public testing::TestWithParam<RlwePath> {
 protected:
  void SetUp() override {
    if (!HasRlwePath(GetParam())) GTEST_SKIP() << "not on this processor";
  }
  static const RlweKernel& kernel() { return *RlweKernelFor(GetParam()); }
  static const RlweKernel& portable() { return *RlweKernelFor(RlwePath::kPortable); }
};
INSTANTIATE_TEST_SUITE_P(All, RlweLoops, testing::ValuesIn(kPaths));

TEST_P(RlweLoops, DrawNoiseFromTheLow42BitsOfTwoWords) {
  constexpr size_t kCount = 4'096;
  TestRng rng(11);
  Bytes stream(kCount * kNoiseBytes);
  rng.Fill(stream);
  std::fill_n(stream.begin(), 16, uint8_t{0});
  std::fill_n(stream.begin() + 16, 8, uint8_t{0xff});  // the largest, whatever stands above
  std::fill_n(stream.begin() + 24, 8, uint8_t{0});
  std::fill_n(stream.begin() + 32, 8, uint8_t{0});
  std::fill_n(stream.begin() + 40, 8, uint8_t{0xff});
  std::vector<uint64_t> noise(kCount);
  kernel().draw_noise(stream.data(), noise.data(), kCount);
  EXPECT_EQ(noise[0], 42U);
  EXPECT_EQ(noise[1], 84U);
  EXPECT_EQ(noise[2], 0U);
  double squares = 0;
  for (size_t i = 0; i < kCount; ++i) {
    int expected = 42;
    for (size_t bit = 0; bit < 42; ++bit) {
      expected += stream[16 * i + bit / 8] >> bit % 8 & 1;
      expected -= stream[16 * i + 8 + bit / 8] >> bit % 8 & 1;
    }
    ASSERT_EQ(noise[i], static_cast<uint64_t>(expected)) << i;
    squares += (expected - 42) * (expected - 42);
  }
  // Variance 21; the seed is fixed. Ten deviations of its estimate are 21 * 10 * sqrt(2 / 4096).
  EXPECT_NEAR(squares / kCount, 21, 21 * 10 * std::sqrt(2.0 / kCount));
}

TEST_P(RlweLoops, AddDigitsAsThePortableOneDoes) {
  constexpr size_t kCount = 64;
  TestRng rng(12);
  for (const RlweSet set : {RlweSet::kOsa4096, RlweSet::kOsa8192}) {
    const RlweParameters& parameters = RlweParametersFor(set);
    for (uint32_t limb = 0; limb < parameters.limbs; ++limb) {
      const uint64_t prime = parameters.primes[limb];
      DigitWeights weights{.prime = prime, .digits = parameters.limbs};
      DigitWeights expected_weights = weights;
      weights.offset = expected_weights.offset = prime - 1;
      for (uint32_t k = 1; k < parameters.limbs; ++k) {
        const uint64_t weight = PowerModulo(2, 50 * k, prime);
        weights.weights[k] = kernel().prepare(weight, prime);
        expected_weights.weights[k] = portable().prepare(weight, prime);
      }
      std::vector<uint64_t> digits = Residues(parameters.limbs * kCount, kDigitMask + 1, rng);
      std::vector<uint64_t> target = Residues(kCount, prime, rng);
      for (size_t k = 0; k < parameters.limbs; ++k) digits[k * kCount] = kDigitMask;
      target[0] = prime - 1;
      std::vector<uint64_t> expected = target;
      kernel().add_digits(weights, digits.data(), target.data(), kCount);
      portable().add_digits(expected_weights, digits.data(), expected.data(), kCount);
      EXPECT_EQ(target, expected);
    }
  }
}

TEST_P(RlweLoops, FoldWhatIsBelowThePrimeAndReadNothingOutside) {
  const uint64_t prime = RlweParametersFor(RlweSet::kOsa4096).primes[0];
  TestRng rng(13);
  for (size_t count = 0; count < 70; ++count) {
    const std::vector<uint64_t> residues = Residues(count, prime, rng);
    const Bytes packed = PackedOf(residues);  // its own allocation: sanitizers see a read outside
    const std::vector<uint64_t> before = Residues(count, prime, rng);
    std::vector<uint64_t> sum = before;
    const size_t done = kernel().fold(packed, prime, count, sum.data());
    ASSERT_LE(done, count);
    ASSERT_EQ(done % 8, 0U);
    ASSERT_TRUE(done > 0 || count <= 16);
    for (size_t i = 0; i < count; ++i) {
      ASSERT_EQ(sum[i], i < done ? (before[i] + residues[i]) % prime : before[i]);
    }
    uint64_t over = 0;
    ASSERT_EQ(kernel().check(packed, prime, count, &over), done);
    EXPECT_EQ(over >> 63U, 0U);
    for (size_t i = 0; i < done; ++i) {
      std::vector<uint64_t> beyond = residues;
      beyond[i] = prime;
      over = 0;
      kernel().check(PackedOf(beyond), prime, count, &over);
      EXPECT_EQ(over >> 63U, 1U) << i;
    }
  }
}

}  // namespace
}  // namespace chorus::math
