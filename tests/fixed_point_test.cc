// The encoding of contributions, and the clipping before it.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>

#include "base/hex.h"
#include "base/limits.h"
#include "matchers.h"
#include "math/encode_kernels.h"
#include "math/math.h"
#include "privacy/privacy.h"
#include "test_rng.h"

namespace chorus::math {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::Ge;
using testing::Le;

FixedPoint EncodingOf(uint64_t dim, EncodingSpec spec = {}, float clip = 1.0F,
                      uint32_t n_max = 128) {
  return *FixedPointFor(dim, {.update_l2_norm_max = clip}, spec, n_max);
}

// What the protocols do: packed contributions, added and reduced.
Sum SumOf(const FixedPoint& encoding, const std::vector<RingVector>& contributions) {
  Sum sum{ZeroVector(encoding.vector_dim(), encoding.bits), 0};
  for (const RingVector& contribution : contributions) {
    EXPECT_THAT(AddPacked(sum.values, Pack(contribution, encoding.bits), encoding.bits), IsOk());
    ++sum.contributors;
  }
  ReduceBits(sum.values, encoding.bits);
  return sum;
}

std::vector<float> RandomUpdate(uint64_t dim, float norm, TestRng& rng) {
  std::vector<float> update(dim);
  for (float& value : update) value = static_cast<float>(UniformUnit(rng) - 0.5);
  privacy::ClipToNorm(update, norm);
  return update;
}

TEST(FixedPoint, TakesTheFewestBitsThatCannotWrap) {
  // The examples of specification 3.10.
  EXPECT_EQ(BitsFor(1'000, 127), 18);
  EXPECT_EQ(BitsFor(1'000, 32'767), 26);
  EXPECT_EQ(BitsFor(10'000, 127), 22);
  EXPECT_EQ(BitsFor(10'000, 32'767), 30);
  EXPECT_EQ(BitsFor(100'000, 127), 25);
  EXPECT_EQ(BitsFor(100'000, 32'767), 33);
  TestRng rng(5);
  for (int i = 0; i < 10'000; ++i) {
    const uint64_t n = 1 + UniformBelow(rng, 1U << UniformBelow(rng, 30));
    const uint64_t bound = 1 + UniformBelow(rng, 1U << UniformBelow(rng, 31));
    const int bits = BitsFor(n, bound);
    EXPECT_THAT(CheckNoWrap(n, bound, bits), IsOk());
    EXPECT_THAT(CheckNoWrap(n, bound, bits - 1), HasCodeAndText(Code::kInvalidArgument, "wrap"));
    EXPECT_LT(n * bound, uint64_t{1} << (bits - 1));
    EXPECT_GE(n * bound, uint64_t{1} << (bits - 2));
  }
  EXPECT_THAT(CheckNoWrap(1, 1, 65), HasCode(Code::kInvalidArgument));
  EXPECT_THAT(CheckNoWrap(UINT64_MAX, UINT64_MAX, 64), HasCode(Code::kInvalidArgument));
}

TEST(FixedPoint, RefusesSpecificationsByTheNameOfTheField) {
  const auto refuses = [](ClipSpec clip, EncodingSpec encoding, uint32_t n_max, const char* field) {
    EXPECT_THAT(FixedPointFor(10, clip, encoding, n_max),
                HasCodeAndText(Code::kInvalidArgument, field));
  };
  refuses({}, {.bound = 0, .examples_max = 1}, 10, "encoding.bound");
  refuses({}, {.bound = 1U << 31U, .examples_max = 1}, 10, "encoding.bound");
  refuses({}, {.bound = 10, .examples_max = 0}, 10, "encoding.examples_max");
  refuses({}, {.bound = 10, .examples_max = 11}, 10, "encoding.examples_max");
  refuses({}, {.bound = (1U << 31U) - 1, .examples_max = 1}, UINT32_MAX, "cohort.maximum");
  refuses({}, {}, 0, "cohort.maximum");
  const float infinity = std::numeric_limits<float>::infinity();
  for (const float clip : {0.0F, -1.0F, infinity, std::nanf("")}) {
    refuses({.update_l2_norm_max = clip}, {}, 10, "update_l2_norm_max");
  }
  EXPECT_THAT(FixedPointFor(limits::kDimMax + 1, {}, {}, 10), HasCode(Code::kInvalidArgument));
  EXPECT_THAT(FixedPointFor(limits::kDimMax, {}, {.bound = (1U << 31U) - 1}, 1U << 31U), IsOk());
}

TEST(FixedPoint, RefusesValuesThatAreNotFiniteWhereverTheyStand) {
  const uint64_t dim = 10'003;
  const FixedPoint encoding = EncodingOf(dim);
  const float infinity = std::numeric_limits<float>::infinity();
  TestRng rng(6);
  for (const uint64_t place : {uint64_t{0}, uint64_t{7}, uint64_t{4'095}, uint64_t{4'096},
                               uint64_t{8'191}, dim - 3, dim - 1}) {
    for (const float bad : {infinity, -infinity, std::nanf("")}) {
      std::vector<float> update(dim);
      update[place] = bad;
      EXPECT_THAT(Encode(encoding, {.update = update}, rng),
                  HasCodeAndText(Code::kInvalidArgument, "not finite"));
    }
  }
}

TEST(FixedPoint, RefusesMetricsOutOfRangeAndWrongDimensions) {
  const FixedPoint encoding = EncodingOf(2);
  const std::vector<float> update = {0.5F, -0.5F};
  const double nan = std::nan("");
  const double infinity = std::numeric_limits<double>::infinity();
  TestRng rng(7);
  for (const double bad : {-1e-9, 1 + 1e-9, nan, infinity, -infinity}) {
    EXPECT_THAT(Encode(encoding, {.update = update, .accuracy = bad}, rng),
                HasCodeAndText(Code::kInvalidArgument, "accuracy"));
  }
  for (const double bad : {-1e-9, nan, infinity, -infinity}) {
    EXPECT_THAT(Encode(encoding, {.update = update, .loss = bad}, rng),
                HasCodeAndText(Code::kInvalidArgument, "loss"));
  }
  for (const size_t dim : {0U, 1U, 3U}) {
    EXPECT_THAT(Encode(encoding, {.update = std::vector<float>(dim)}, rng),
                HasCodeAndText(Code::kInvalidArgument, "dimension"));
  }
}

TEST(FixedPoint, ToleratesNormsAboveTheClipByRoundingOnly) {
  const FixedPoint encoding = EncodingOf(1, {}, 2.0F);
  TestRng rng(8);
  for (const float sign : {1.0F, -1.0F}) {
    const std::vector<float> rounded = {sign * 2.0F * (1 + 8e-7F)};
    const Result<RingVector> encoded =
        Encode(encoding, {.update = rounded, .examples = 1U << 12U}, rng);
    ASSERT_THAT(encoded, IsOk());
    EXPECT_EQ(SignedAt(*encoded, 0, encoding.bits), static_cast<int64_t>(sign) * (1 << 20));
    const std::vector<float> larger = {sign * 2.0F * (1 + 2e-6F)};
    EXPECT_THAT(Encode(encoding, {.update = larger}, rng),
                HasCodeAndText(Code::kInvalidArgument, "clip"));
  }
}

TEST(FixedPoint, RoundsToOneOfTwoNeighboursWithoutBias) {
  // Each case rounds 2^16 times; its mean strays beyond 6 standard deviations with a chance below
  // 2e-9, so a false alarm in any of the 18 cases has a chance below 4e-8 (and the seed is fixed).
  constexpr uint64_t kDim = 1U << 16U;
  for (const uint32_t n_max : {2U, 1U << 12U, 1U << 30U}) {  // words of 2, 4 and 8 bytes
    const FixedPoint encoding = EncodingOf(kDim, {.bound = 8'191, .examples_max = 100}, 256, n_max);
    for (const float value : {0.1F, 0.97F, -0.1F, -0.003F, 1e-4F, -1.0F}) {
      SCOPED_TRACE(testing::Message() << "n_max " << n_max << " value " << value);
      TestRng rng(9);
      const std::vector<float> update(kDim, value);
      const Result<RingVector> encoded = Encode(encoding, {.update = update, .examples = 37}, rng);
      ASSERT_THAT(encoded, IsOk());
      const double scaled = static_cast<double>(value) * 0.37 * (8'191.0 / 256);
      double total = 0;
      for (uint64_t i = 0; i < kDim; ++i) {
        const auto rounded = static_cast<double>(SignedAt(*encoded, i, encoding.bits));
        ASSERT_THAT(rounded, AllOf(Ge(std::floor(scaled)), Le(std::ceil(scaled))));
        total += rounded;
      }
      const double up = scaled - std::floor(scaled);
      EXPECT_NEAR(total / kDim, scaled, 6 * std::sqrt(up * (1 - up) / kDim));
    }
  }
}

TEST(FixedPoint, EncodesUnderClipsAtTheEndsOfTheFloats) {
  // Their scales are beyond what single precision holds, or near its end.
  for (const float clip : {std::numeric_limits<float>::denorm_min(), 1e-44F, 1e-30F, 1e30F,
                           std::numeric_limits<float>::max()}) {
    const FixedPoint encoding = EncodingOf(17, {.bound = 1U << 20U, .examples_max = 8}, clip);
    for (const float sign : {1.0F, -1.0F}) {
      std::vector<float> update(17);
      update[3] = sign * clip;
      TestRng rng(16);
      const Result<RingVector> encoded = Encode(encoding, {.update = update, .examples = 8}, rng);
      ASSERT_THAT(encoded, IsOk());
      for (uint64_t i = 0; i < 17; ++i) {
        const auto right = i == 3 ? static_cast<int64_t>(sign) * (1 << 20) : 0;
        EXPECT_EQ(SignedAt(*encoded, i, encoding.bits), right) << "clip " << clip;
      }
    }
  }
}

TEST(FixedPoint, RoundsLargeBoundsWithoutBiasToo) {
  // In double precision: the bound is beyond what single precision holds. The chance of a false
  // alarm is below 4e-9 a case.
  constexpr uint64_t kDim = 1U << 16U;
  const FixedPoint encoding =
      EncodingOf(kDim, {.bound = (1U << 31U) - 1, .examples_max = 1}, 1U << 30U, 2);
  for (const float value : {0.1F, 0.75F, -0.3F, -1'000.25F, 1'000'000.5F}) {
    TestRng rng(14);
    const std::vector<float> update(kDim, value);
    const Result<RingVector> encoded = Encode(encoding, {.update = update, .examples = 1}, rng);
    ASSERT_THAT(encoded, IsOk());
    const double scaled = static_cast<double>(value) * (encoding.bound / encoding.clip);
    double total = 0;
    for (uint64_t i = 0; i < kDim; ++i) {
      const auto rounded = static_cast<double>(SignedAt(*encoded, i, encoding.bits));
      ASSERT_THAT(rounded, AllOf(Ge(std::floor(scaled)), Le(std::ceil(scaled))));
      total += rounded;
    }
    const double up = scaled - std::floor(scaled);
    EXPECT_NEAR(total / kDim, scaled, 6 * std::sqrt(up * (1 - up) / kDim) + 0x1p-17) << value;
  }
}

TEST(RoundRandomly, GoesUpForTheFractionOfAllDraws) {
  // Over all 2^16 draws, so that there is no chance in it; a tie in the last bit may go either way.
  for (const float value : {0.25F, -0.25F, 0.5F, -0.5F, 1.5F, -7.125F, 1'048'574.75F, 3.0F, 0.0F,
                            -4'194'304.0F, 4'194'304.0F, 0.000'030'518F}) {
    int64_t narrow = 0;
    int64_t wide = 0;
    for (uint32_t random = 0; random < 1U << 16U; ++random) {
      narrow += RoundRandomly(value, static_cast<uint16_t>(random));
      wide += RoundRandomly(static_cast<double>(value), static_cast<uint16_t>(random));
    }
    EXPECT_NEAR(static_cast<double>(narrow), value * 0x1p16, 0.5) << value;
    EXPECT_EQ(narrow, wide) << value;
  }
}

// What a kernel's loops make of random values, some of them at and beyond the bound.
struct KernelResults {
  std::vector<uint16_t> words16;
  std::vector<uint32_t> words32;
  std::vector<uint64_t> words64;
  std::array<double, kEncodeLanes> squares{};
  std::array<double, kEncodeLanes> differences_squares{};
  std::vector<float> differences;
  bool operator==(const KernelResults&) const = default;
};

KernelResults RunKernel(const EncodeKernel& kernel, uint64_t seed, size_t count) {
  TestRng rng(seed);
  std::vector<float> values(count);
  std::vector<float> base(count);
  for (float& value : values) value = static_cast<float>(20'000 * (2 * UniformUnit(rng) - 1));
  for (float& value : base) value = static_cast<float>(UniformUnit(rng) - 0.5);
  std::vector<uint16_t> random(count);
  rng.Fill({reinterpret_cast<uint8_t*>(random.data()), count * sizeof(random[0])});
  KernelResults results;
  results.words16.resize(count);
  results.words32.resize(count);
  results.words64.resize(count);
  kernel.round16(values.data(), count, 1.7F, 30'000, random.data(), results.words16.data());
  kernel.round32(values.data(), count, 213.7F, kNarrowBoundMax, random.data(),
                 results.words32.data());
  kernel.round64(values.data(), count, 0.013F, 250, random.data(), results.words64.data());
  kernel.square(values.data(), count, results.squares);
  results.differences = values;
  kernel.subtract(results.differences.data(), base.data(), count, results.differences_squares);
  return results;
}

TEST(EncodeKernel, GivesTheSameBytesOnEveryPath) {
  const EncodeKernel& portable = *EncodeKernelFor(EncodePath::kPortable);
  for (uint64_t seed = 0; seed < 50; ++seed) {
    const size_t count = kEncodeLanes * (seed % 7);
    const KernelResults right = RunKernel(portable, seed, count);
    for (size_t i = 0; i < count; ++i) {  // what is narrow is also read as signed
      ASSERT_EQ(static_cast<int64_t>(right.words64[i]),
                static_cast<int32_t>(static_cast<uint32_t>(right.words64[i])));
      ASSERT_LE(std::abs(static_cast<int16_t>(right.words16[i])), 30'000);
    }
    for (const EncodePath path : {EncodePath::kAvx2, EncodePath::kAvx512}) {
      const EncodeKernel* kernel = EncodeKernelFor(path);
      if (kernel == nullptr) continue;
      ASSERT_EQ(RunKernel(*kernel, seed, count), right)
          << "seed " << seed << " path " << static_cast<int>(path);
    }
  }
}

TEST(Encode, IsKnownByItsBytesWhateverThePath) {
  const FixedPoint encoding = EncodingOf(37, {.bound = 30'000, .examples_max = 10}, 2, 1);
  TestRng rng(15);
  const std::vector<float> update = RandomUpdate(37, 2, rng);
  const Result<RingVector> encoded =
      Encode(encoding, {.update = update, .examples = 9, .evaluated = 3, .loss = 0.7}, rng);
  ASSERT_THAT(encoded, IsOk());
  uint64_t sum = 0;
  for (uint64_t i = 0; i < encoding.vector_dim(); ++i) {
    const auto value = static_cast<uint64_t>(SignedAt(*encoded, i, encoding.bits));
    sum = sum * 1'000'003 + value;
  }
  EXPECT_EQ(sum, 14'947'627'059'283'675'809U);
}

TEST(SubtractForNorm, LeavesTheDifferencesAndGivesTheirNorm) {
  for (const size_t dim : {0U, 1U, 15U, 16U, 17U, 4'096U, 10'003U}) {
    TestRng rng(dim);
    std::vector<float> values(dim);
    std::vector<float> base(dim);
    for (float& value : values) value = static_cast<float>(UniformUnit(rng));
    for (float& value : base) value = static_cast<float>(UniformUnit(rng));
    std::vector<float> right = values;
    for (size_t i = 0; i < dim; ++i) right[i] -= base[i];
    const double norm = SubtractForNorm(values, base);
    EXPECT_EQ(values, right);
    EXPECT_EQ(norm, Norm(right));
  }
}

TEST(FixedPoint, LeavesIntegersAsTheyAre) {
  const EncodingSpec spec = {.bound = (1U << 31U) - 1, .examples_max = 8};
  const auto bound = static_cast<float>(1U << 31U);  // so that scaling is by (2^31 - 1) / 2^31
  const FixedPoint small = EncodingOf(5, {.bound = 1U << 20U, .examples_max = 8}, 1U << 20U);
  const FixedPoint large = EncodingOf(2, spec, bound, 2);
  for (uint64_t seed = 0; seed < 1'000; ++seed) {
    TestRng rng(seed);
    const std::vector<float> integers = {0, 1, -1, 777'777, -524'288};
    const Result<RingVector> encoded = Encode(small, {.update = integers, .examples = 8}, rng);
    ASSERT_THAT(encoded, IsOk());
    for (uint64_t i = 0; i < integers.size(); ++i) {
      ASSERT_EQ(SignedAt(*encoded, i, small.bits), static_cast<int64_t>(integers[i]));
    }
    const std::vector<float> largest = {seed % 2 == 0 ? bound : -bound, 0};
    const Result<RingVector> edge = Encode(large, {.update = largest, .examples = 8}, rng);
    ASSERT_THAT(edge, IsOk());
    ASSERT_EQ(SignedAt(*edge, 0, large.bits), (seed % 2 == 0 ? 1 : -1) * ((int64_t{1} << 31U) - 1));
  }
}

TEST(FixedPoint, WritesTheMetricsBehindTheUpdate) {
  const FixedPoint encoding = EncodingOf(1, {.bound = 1'600, .examples_max = 100});
  TestRng rng(10);
  const std::vector<float> update = {0};
  const auto encode = [&](uint64_t examples, uint64_t evaluated, double accuracy, double loss) {
    const RingVector vector = *Encode(encoding,
                                      {.update = update,
                                       .examples = examples,
                                       .evaluated = evaluated,
                                       .accuracy = accuracy,
                                       .loss = loss},
                                      rng);
    std::vector<int64_t> metrics;
    for (uint64_t i = 1; i < 5; ++i) metrics.push_back(SignedAt(vector, i, encoding.bits));
    return metrics;
  };
  EXPECT_THAT(encode(7, 50, 0.5, 2), ElementsAre(7, 50, 25, 100));
  EXPECT_THAT(encode(0, 0, 0, 0), ElementsAre(0, 0, 0, 0));
  EXPECT_THAT(encode(1'000'000, UINT64_MAX, 1, 16), ElementsAre(100, 100, 100, 1'600));
  EXPECT_THAT(encode(100, 100, 1, 1e300), ElementsAre(100, 100, 100, 1'600));  // the loss is cut
  for (uint64_t evaluated = 1; evaluated <= 100; ++evaluated) {
    for (uint64_t correct = 0; correct <= evaluated; ++correct) {
      const double accuracy = static_cast<double>(correct) / static_cast<double>(evaluated);
      ASSERT_EQ(encode(1, evaluated, accuracy, 0)[2], static_cast<int64_t>(correct));
    }
  }
}

struct Expectation {
  std::vector<double> update;
  double examples = 0;
  double evaluated = 0;
  double correct = 0;
  double loss = 0;  // times evaluated
};

// One round of `clients` with random data, decoded and compared with the exact weighted mean.
void ExpectWeightedMean(uint64_t seed, uint32_t clients, const FixedPoint& encoding) {
  SCOPED_TRACE(testing::Message() << "seed " << seed << " bits " << encoding.bits);
  TestRng rng(seed);
  Expectation expected{.update = std::vector<double>(encoding.dim)};
  std::vector<RingVector> contributions;
  for (uint32_t client = 0; client < clients; ++client) {
    const std::vector<float> update =
        RandomUpdate(encoding.dim, static_cast<float>(encoding.clip), rng);
    const uint64_t examples = 1 + UniformBelow(rng, 2ULL * encoding.examples_max);
    const uint64_t evaluated = 1 + UniformBelow(rng, encoding.examples_max);
    const uint64_t correct = UniformBelow(rng, evaluated + 1);
    const double loss = UniformUnit(rng) * kLossMax;
    const Contribution contribution = {
        .update = update,
        .examples = examples,
        .evaluated = evaluated,
        .accuracy = static_cast<double>(correct) / static_cast<double>(evaluated),
        .loss = loss};
    contributions.push_back(*Encode(encoding, contribution, rng));
    const auto weight = static_cast<double>(std::min<uint64_t>(examples, encoding.examples_max));
    for (uint64_t i = 0; i < encoding.dim; ++i) expected.update[i] += weight * update[i];
    expected.examples += weight;
    expected.evaluated += static_cast<double>(evaluated);
    expected.correct += static_cast<double>(correct);
    expected.loss += loss * static_cast<double>(evaluated);
  }
  const Result<Mean> mean = Decode(encoding, SumOf(encoding, contributions));
  ASSERT_THAT(mean, IsOk());
  // Each contribution strays by less than one unit a coordinate; floats add their own rounding.
  const double units = static_cast<double>(clients) * encoding.examples_max / encoding.bound;
  for (uint64_t i = 0; i < encoding.dim; ++i) {
    const double right = expected.update[i] / expected.examples;
    ASSERT_NEAR(mean->update[i], right,
                units * encoding.clip / expected.examples + 1e-6 * std::abs(right));
  }
  EXPECT_EQ(static_cast<double>(mean->examples), expected.examples);
  EXPECT_EQ(static_cast<double>(mean->evaluated), expected.evaluated);
  EXPECT_DOUBLE_EQ(mean->accuracy, expected.correct / expected.evaluated);
  EXPECT_NEAR(mean->loss, expected.loss / expected.evaluated,
              units * kLossMax / expected.evaluated + 1e-9);
}

TEST(FixedPoint, DecodesTheMeanWeightedByExamples) {
  for (uint64_t seed = 0; seed < 100; ++seed) {
    const auto clients = static_cast<uint32_t>(1 + seed % 9);
    ExpectWeightedMean(seed, clients, EncodingOf(101, {}, 0.25F, 9));
    ExpectWeightedMean(seed, clients,
                       EncodingOf(9, {.bound = 1'000, .examples_max = 50}, 3, clients));
    ExpectWeightedMean(seed, clients,
                       EncodingOf(5'000, {.bound = (1U << 31U) - 1, .examples_max = 7}, 1e6F, 9));
  }
}

TEST(FixedPoint, DecodesSumsAtBothEndsOfTheRange) {
  for (const float sign : {1.0F, -1.0F}) {
    const FixedPoint encoding = EncodingOf(1, {.bound = 4, .examples_max = 4}, 1, 7);
    EXPECT_EQ(encoding.bits, 6);
    TestRng rng(11);
    const std::vector<float> update = {sign};
    const Contribution contribution = {
        .update = update, .examples = 4, .evaluated = 4, .accuracy = 1, .loss = 16};
    const std::vector<RingVector> all(7, *Encode(encoding, contribution, rng));
    const Result<Mean> mean = Decode(encoding, SumOf(encoding, all));
    ASSERT_THAT(mean, IsOk());
    EXPECT_EQ(mean->update[0], sign);
    EXPECT_EQ(mean->examples, 28U);
    EXPECT_EQ(mean->accuracy, 1);
    EXPECT_EQ(mean->loss, 16);
  }
}

TEST(FixedPoint, DecodesNoMetricsWhenNothingWasEvaluated) {
  const FixedPoint encoding = EncodingOf(1);
  TestRng rng(12);
  const std::vector<float> update = {0.5F};
  const Contribution contribution = {.update = update, .examples = 3, .accuracy = 1, .loss = 1};
  const Result<Mean> mean =
      Decode(encoding, SumOf(encoding, {*Encode(encoding, contribution, rng)}));
  ASSERT_THAT(mean, IsOk());
  EXPECT_EQ(mean->evaluated, 0U);
  EXPECT_EQ(mean->accuracy, 0);
  EXPECT_EQ(mean->loss, 0);
}

TEST(FixedPoint, AbortsOnSumsThatHonestClientsCannotMake) {
  const FixedPoint encoding = EncodingOf(2, {.bound = 100, .examples_max = 10}, 1, 50);
  const auto decode = [&](std::vector<int64_t> values, uint32_t contributors) {
    Sum sum{ZeroVector(encoding.vector_dim(), encoding.bits), contributors};
    for (uint64_t i = 0; i < values.size(); ++i) SetSigned(sum.values, i, values[i]);
    ReduceBits(sum.values, encoding.bits);
    return Decode(encoding, sum);
  };
  EXPECT_THAT(decode({200, -200, 20, 20, 20, 200}, 2), IsOk());
  EXPECT_THAT(decode({0, 0, 1, 0, 0, 0}, 2), IsOk());
  const std::vector<std::vector<int64_t>> garbage = {
      {201, 0, 20, 20, 20, 200},   {0, -201, 20, 20, 20, 200}, {0, 0, 0, 0, 0, 0},
      {0, 0, -1, 20, 20, 200},     {0, 0, 21, 20, 20, 200},    {0, 0, 20, -1, 0, 0},
      {0, 0, 20, 21, 20, 200},     {0, 0, 20, 20, 21, 200},    {0, 0, 20, 20, -1, 200},
      {0, 0, 20, 20, 20, -1},      {0, 0, 20, 5, 5, 53},       {0, 0, 20, 0, 0, 1},
      {-8'192, 0, 20, 20, 20, 200}};
  for (const std::vector<int64_t>& values : garbage) {
    EXPECT_THAT(decode(values, 2), HasCode(Code::kAborted)) << testing::PrintToString(values);
  }
  EXPECT_THAT(decode({0, 0, 1, 0, 0, 0}, 0), HasCode(Code::kAborted));
  EXPECT_THAT(decode({0, 0, 1, 0, 0, 0}, UINT32_MAX), HasCode(Code::kInvalidArgument));
  const FixedPoint huge = EncodingOf(1, {}, 3e38F, 9);
  Sum overflow{ZeroVector(5, huge.bits), 1};
  SetSigned(overflow.values, 0, 1 << 20);
  SetSigned(overflow.values, 1, 1);
  EXPECT_THAT(Decode(huge, overflow), HasCode(Code::kAborted));
}

TEST(FixedPoint, RefusesSumsOfAnotherShape) {
  const FixedPoint encoding = EncodingOf(2);
  for (const uint64_t dim : {0U, 2U, 5U, 7U}) {
    EXPECT_THAT(Decode(encoding, {ZeroVector(dim, encoding.bits), 1}),
                HasCode(Code::kInvalidArgument));
  }
  EXPECT_THAT(Decode(encoding, {ZeroVector(6, 64), 1}), HasCode(Code::kInvalidArgument));
  EXPECT_THAT(Decode(encoding, {ZeroVector(6, 16), 1}), HasCode(Code::kInvalidArgument));
}

// --- clipping ---

long double ExactNorm(std::span<const float> values) {
  long double total = 0;
  for (const float value : values) total += static_cast<long double>(value) * value;
  return std::sqrt(total);
}

TEST(ClipToNorm, ScalesDownToTheBoundAndNeverAbove) {
  for (uint64_t seed = 0; seed < 500; ++seed) {
    for (const size_t dim : {1U, 2U, 9U, 100U, 4'097U}) {
      SCOPED_TRACE(testing::Message() << "seed " << seed << " dim " << dim);
      TestRng rng(seed);
      const float scale = std::ldexp(1.0F, static_cast<int>(UniformBelow(rng, 200)) - 80);
      std::vector<float> update(dim);
      for (float& value : update) value = scale * static_cast<float>(UniformUnit(rng) - 0.5);
      const std::vector<float> before = update;
      const auto norm = static_cast<double>(ExactNorm(before));
      const auto norm_max = static_cast<float>(norm * (0.01 + 0.98 * UniformUnit(rng)));
      ASSERT_NEAR(privacy::ClipToNorm(update, norm_max), norm, norm * 1e-12);
      ASSERT_LE(ExactNorm(update), norm_max);
      ASSERT_GE(ExactNorm(update), norm_max * (1 - 2e-7));
      for (size_t i = 0; i < dim; ++i) {
        const double right = before[i] * (norm_max / norm);
        ASSERT_NEAR(update[i], right, std::abs(right) * 2e-7);
      }
    }
  }
}

TEST(ClipToNorm, LeavesWhatIsWithinTheBound) {
  std::vector<float> zeros(1'000, 0.0F);
  EXPECT_EQ(privacy::ClipToNorm(zeros, 1), 0);
  EXPECT_EQ(zeros, std::vector<float>(1'000, 0.0F));
  std::vector<float> update = {3, -4};
  EXPECT_EQ(privacy::ClipToNorm(update, 5), 5);
  EXPECT_THAT(update, ElementsAre(3, -4));
  EXPECT_EQ(privacy::ClipToNorm({}, 1), 0);
}

TEST(ClipToNorm, HoldsAtTheEndsOfTheFloats) {
  const float denormal = std::numeric_limits<float>::denorm_min();
  std::vector<float> large(100, std::numeric_limits<float>::max());
  EXPECT_GT(privacy::ClipToNorm(large, 1), 3e39);
  EXPECT_LE(ExactNorm(large), 1);
  EXPECT_NEAR(large[0], 0.1, 1e-7);
  std::vector<float> tiny(3, 1.0F);
  privacy::ClipToNorm(tiny, 5 * denormal);  // 2.9 units each, of which 2 can be kept
  EXPECT_THAT(tiny, ElementsAre(2 * denormal, 2 * denormal, 2 * denormal));
}

TEST(ClipToNorm, KeepsTheBoundInAMillionDimensions) {
  TestRng rng(13);
  std::vector<float> update = RandomUpdate(1'000'000, 1e9F, rng);
  const auto norm = static_cast<double>(ExactNorm(update));
  EXPECT_NEAR(privacy::ClipToNorm(update, 1), norm, norm * 1e-13);
  EXPECT_LE(ExactNorm(update), 1);
  EXPECT_GE(ExactNorm(update), 1 - 1e-7L);
  const FixedPoint encoding = EncodingOf(update.size());
  EXPECT_THAT(Encode(encoding, {.update = update, .examples = 1}, rng), IsOk());
}

TEST(ClipToNorm, LeavesAnUpdateThatIsNotFiniteAndSaysSo) {
  const float infinity = std::numeric_limits<float>::infinity();
  for (const size_t place : {0U, 5U, 4'096U, 9'998U}) {
    for (const float bad : {infinity, -infinity, std::nanf("")}) {
      std::vector<float> update(9'999, 1.0F);
      update[place] = bad;
      EXPECT_FALSE(std::isfinite(privacy::ClipToNorm(update, 1)));
      for (size_t i = 0; i < update.size(); ++i) {
        ASSERT_EQ(std::bit_cast<uint32_t>(update[i]),
                  std::bit_cast<uint32_t>(i == place ? bad : 1.0F));
      }
    }
  }
}

// --- sums of sums ---

FixedPoint Holding(uint32_t contributors_max) {
  return *FixedPointFor(3, {.update_l2_norm_max = 1}, {.bound = 1'000, .examples_max = 10},
                        contributors_max);
}

// A sum whose values are all that so many contributors can make them.
Sum Extreme(const FixedPoint& encoding, uint32_t contributors, int64_t sign) {
  Sum sum{ZeroVector(encoding.vector_dim(), encoding.bits), contributors};
  for (uint64_t j = 0; j < 3; ++j) SetSigned(sum.values, j, sign * contributors * 1'000);
  SetSigned(sum.values, 3, contributors * 10);
  return sum;
}

TEST(AddSum, IsExactBeyondTheBitsOfEachSum) {
  const FixedPoint each = Holding(4);
  for (const uint32_t cohorts : {1U, 2U, 9U, 128U}) {
    const FixedPoint wide = Holding(4 * cohorts);
    Sum total{ZeroVector(wide.vector_dim(), wide.bits), 0};
    for (uint32_t i = 0; i < cohorts; ++i) {
      ASSERT_THAT(AddSum(wide, total, Extreme(each, 4, -1), each.bits), IsOk());
    }
    EXPECT_EQ(total.contributors, 4 * cohorts);
    EXPECT_EQ(SignedAt(total.values, 0, wide.bits), -4'000 * int64_t{cohorts});
    EXPECT_EQ(SignedAt(total.values, 3, wide.bits), 40 * int64_t{cohorts});
    const Result<Mean> mean = Decode(wide, total);
    ASSERT_THAT(mean, IsOk());
    EXPECT_EQ(mean->update, std::vector<float>(3, -1.0F));
    EXPECT_EQ(mean->examples, 40 * uint64_t{cohorts});
  }
}

TEST(AddSum, TakesSumsOfEitherSignTogether) {
  const FixedPoint each = Holding(4);
  const FixedPoint wide = Holding(400);
  Sum total{ZeroVector(wide.vector_dim(), wide.bits), 0};
  for (const int64_t sign : {1, -1, -1}) {
    ASSERT_THAT(AddSum(wide, total, Extreme(each, 3, sign), each.bits), IsOk());
  }
  EXPECT_EQ(SignedAt(total.values, 1, wide.bits), -3'000);
}

TEST(AddSum, RefusesAnotherShapeAndMoreContributorsThanTheBitsHold) {
  const FixedPoint each = Holding(4);
  const FixedPoint wide = Holding(8);
  Sum total{ZeroVector(wide.vector_dim(), wide.bits), 0};
  Sum longer = Extreme(each, 4, 1);
  longer.values = ZeroVector(each.vector_dim() + 1, each.bits);
  EXPECT_THAT(AddSum(wide, total, longer, each.bits), HasCode(Code::kInvalidArgument));
  Sum wider = Extreme(each, 4, 1);
  wider.values = ZeroVector(each.vector_dim(), 40);
  EXPECT_THAT(AddSum(wide, total, wider, each.bits), HasCode(Code::kInvalidArgument));
  for (int i = 0; i < 2; ++i) {
    ASSERT_THAT(AddSum(wide, total, Extreme(each, 4, 1), each.bits), IsOk());
  }
  EXPECT_THAT(AddSum(wide, total, Extreme(each, 4, 1), each.bits), HasCode(Code::kInvalidArgument));
  EXPECT_EQ(total.contributors, 8U);
  EXPECT_EQ(SignedAt(total.values, 0, wide.bits), 8'000);
}

TEST(CheckSum, FindsWhatNoContributorsCanHaveMade) {
  const FixedPoint each = Holding(4);
  EXPECT_THAT(CheckSum(each, Extreme(each, 3, 1)), IsOk());
  Sum sum = Extreme(each, 3, 1);
  SetSigned(sum.values, 2, 3'001);
  EXPECT_THAT(CheckSum(each, sum), HasCode(Code::kAborted));
  sum = Extreme(each, 3, 1);
  SetSigned(sum.values, 3, 31);
  EXPECT_THAT(CheckSum(each, sum), HasCode(Code::kAborted));
}

TEST(CanonicalPrivacy, IsTheMagicAndTheClip) {
  EXPECT_EQ(ToHex(privacy::CanonicalPrivacy({.update_l2_norm_max = 1.5F})),
            "4348502d434c4950313fc00000");
}

}  // namespace
}  // namespace chorus::math
