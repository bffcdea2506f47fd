// Robust rules: against their definitions by brute force, at the edge of what they bear, and
// whatever order the means come in.
#include "learning/robust.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "matchers.h"
#include "test_rng.h"

namespace chorus::learning {
namespace {

using testing::ElementsAre;
using testing::FloatEq;

using Vectors = std::vector<std::vector<float>>;

constexpr RobustRule kRobust[] = {RobustRule::kMedian,          RobustRule::kTrimmedMean,
                                  RobustRule::kGeometricMedian, RobustRule::kKrum,
                                  RobustRule::kMultiKrum,       RobustRule::kBulyan};

std::string NameOf(RobustRule rule) { return "rule " + std::to_string(static_cast<int>(rule)); }

Result<std::vector<float>> CombineAll(RobustRule rule, uint32_t byzantine, const Vectors& means) {
  const std::vector<std::span<const float>> views(means.begin(), means.end());
  return Combine(rule, byzantine, views);
}

// Normal enough: sums of uniform numbers, of mean `centre` and standard deviation 1.
Vectors Cloud(size_t count, size_t dim, float centre, uint64_t seed) {
  TestRng rng(seed);
  Vectors cloud(count, std::vector<float>(dim));
  for (std::vector<float>& point : cloud) {
    for (float& value : point) {
      double sum = 0;
      for (int i = 0; i < 12; ++i) sum += UniformUnit(rng);
      value = centre + static_cast<float>(sum - 6);
    }
  }
  return cloud;
}

double Distance(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += std::pow(double{a[i]} - double{b[i]}, 2);
  return std::sqrt(sum);
}

// --- definitions ---

TEST(Median, IsTheMiddleOfEachCoordinate) {
  EXPECT_THAT(CombineAll(RobustRule::kMedian, 1, {{1, 9}, {2, -5}, {100, 0}}),
              HoldsValue(ElementsAre(2, 0)));
  EXPECT_THAT(CombineAll(RobustRule::kMedian, 1, {{1, 9}, {2, -5}, {100, 0}, {4, 1}}),
              HoldsValue(ElementsAre(3, 0.5F)));
}

TEST(TrimmedMean, LeavesOutTheLargestAndSmallestOfEachCoordinate) {
  EXPECT_THAT(CombineAll(RobustRule::kTrimmedMean, 1, {{1, 9}, {2, -5}, {100, 0}, {4, 1}}),
              HoldsValue(ElementsAre(3, 0.5F)));
  EXPECT_THAT(CombineAll(RobustRule::kTrimmedMean, 0, {{1}, {2}, {6}}), HoldsValue(ElementsAre(3)));
}

TEST(GeometricMedian, IsTheFermatPointOfATriangle) {
  // From the middle of an equilateral triangle every corner is seen under 120 degrees.
  const auto height = static_cast<float>(std::sqrt(3.0) / 2);
  const auto result = CombineAll(RobustRule::kGeometricMedian, 1, {{0, 0}, {1, 0}, {0.5F, height}});
  ASSERT_THAT(result, IsOk());
  EXPECT_NEAR((*result)[0], 0.5, 1e-4);
  EXPECT_NEAR((*result)[1], height / 3, 1e-4);
}

TEST(GeometricMedian, HasNoNeighbourWithALesserSumOfDistances) {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    const Vectors means = Cloud(9, 4, 0, seed);
    const auto result = CombineAll(RobustRule::kGeometricMedian, 2, means);
    ASSERT_THAT(result, IsOk());
    const auto cost = [&means](const std::vector<float>& at) {
      double sum = 0;
      for (const std::vector<float>& mean : means) sum += Distance(at, mean);
      return sum;
    };
    const double least = cost(*result);
    TestRng rng(seed + 100);
    for (int step = 0; step < 200; ++step) {
      std::vector<float> near = *result;
      for (float& value : near) value += static_cast<float>((2 * UniformUnit(rng) - 1) * 0.05);
      EXPECT_GE(cost(near), least - 1e-6) << "seed " << seed;
    }
  }
}

TEST(GeometricMedian, IsThePointThatMostMeansAre) {
  EXPECT_THAT(CombineAll(RobustRule::kGeometricMedian, 1, {{1, 2}, {1, 2}, {7, 7}}),
              HoldsValue(ElementsAre(1, 2)));
}

// The score of [BEGS17] straight from its words.
double KrumScore(const Vectors& means, size_t of, size_t neighbours) {
  std::vector<double> squared;
  for (size_t k = 0; k < means.size(); ++k) {
    if (k != of) squared.push_back(std::pow(Distance(means[of], means[k]), 2));
  }
  std::sort(squared.begin(), squared.end());
  return std::accumulate(squared.begin(), squared.begin() + static_cast<ptrdiff_t>(neighbours),
                         0.0);
}

TEST(Krum, PicksTheMeanWithTheLeastScore) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    const Vectors means = Cloud(9, 5, 0, seed);
    constexpr uint32_t kByzantine = 2;
    size_t best = 0;
    for (size_t i = 1; i < means.size(); ++i) {
      if (KrumScore(means, i, 9 - kByzantine - 2) < KrumScore(means, best, 9 - kByzantine - 2))
        best = i;
    }
    EXPECT_THAT(CombineAll(RobustRule::kKrum, kByzantine, means), HoldsValue(means[best]))
        << "seed " << seed;
  }
}

TEST(MultiKrum, AveragesTheBestByKrum) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    const Vectors means = Cloud(9, 5, 0, seed);
    std::vector<size_t> order(means.size());
    std::iota(order.begin(), order.end(), 0);
    std::sort(order.begin(), order.end(), [&means](size_t a, size_t b) {
      return KrumScore(means, a, 5) < KrumScore(means, b, 5);
    });
    const auto result = CombineAll(RobustRule::kMultiKrum, 2, means);
    ASSERT_THAT(result, IsOk());
    for (size_t j = 0; j < 5; ++j) {
      double sum = 0;
      for (size_t i = 0; i < 5; ++i) sum += means[order[i]][j];
      EXPECT_NEAR((*result)[j], sum / 5, 1e-6) << "seed " << seed;
    }
  }
}

// Both steps of [EGR18] by their words: choose by Krum again and again, then of each coordinate try
// every set of as many values as are to be averaged, and take the one nearest to the median.
std::vector<float> BulyanByForce(Vectors rest, size_t byzantine) {
  const size_t wanted = rest.size() - 2 * byzantine;
  Vectors chosen;
  while (chosen.size() < wanted) {
    const size_t neighbours = rest.size() > byzantine + 3 ? rest.size() - byzantine - 2 : size_t{1};
    const size_t counted = std::min(neighbours, rest.size() - 1);
    size_t best = 0;
    for (size_t i = 1; i < rest.size(); ++i) {
      const double score = KrumScore(rest, i, counted);
      const double least = KrumScore(rest, best, counted);
      if (score < least || (score == least && rest[i] < rest[best])) best = i;
    }
    chosen.push_back(rest[best]);
    rest.erase(rest.begin() + static_cast<ptrdiff_t>(best));
  }
  std::vector<float> result;
  for (size_t j = 0; j < chosen.front().size(); ++j) {
    std::vector<float> values;
    for (const std::vector<float>& one : chosen) values.push_back(one[j]);
    std::sort(values.begin(), values.end());
    const size_t n = values.size();
    const double median = (double{values[(n - 1) / 2]} + double{values[n / 2]}) / 2;
    std::sort(values.begin(), values.end(),
              [median](float a, float b) { return std::abs(a - median) < std::abs(b - median); });
    const auto last = values.begin() + static_cast<ptrdiff_t>(n - 2 * byzantine);
    result.push_back(static_cast<float>(std::accumulate(values.begin(), last, 0.0) /
                                        static_cast<double>(n - 2 * byzantine)));
  }
  return result;
}

TEST(Bulyan, IsKrumRepeatedAndThenTheMeanAroundTheMedian) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    for (const uint32_t byzantine : {0U, 1U, 2U}) {
      const Vectors means = Cloud(4 * byzantine + 3 + seed % 3, 5, 0, seed);
      const std::vector<float> expected = BulyanByForce(means, byzantine);
      const auto result = CombineAll(RobustRule::kBulyan, byzantine, means);
      ASSERT_THAT(result, IsOk());
      for (size_t j = 0; j < expected.size(); ++j) {
        EXPECT_NEAR((*result)[j], expected[j], 1e-6) << "seed " << seed << " f " << byzantine;
      }
    }
  }
}

// --- laws of all ---

TEST(RobustRules, GiveBackWhatAllMeansAgreeOn) {
  for (const RobustRule rule : kRobust) {
    const Vectors means(11, {1, -2, 0.25F});
    EXPECT_THAT(CombineAll(rule, 2, means), HoldsValue(ElementsAre(1, -2, 0.25F))) << NameOf(rule);
  }
}

// With f spoilt means of 4f + 3, wherever they are put, the result stays among the honest ones: no
// farther from their average than the farthest of them.
TEST(RobustRules, ArePulledNowhereByAsManySpoiltMeansAsTheyBear) {
  constexpr uint32_t kByzantine = 2;
  for (const RobustRule rule : kRobust) {
    for (const float garbage : {1e3F, 1e6F, -1e12F, 1e18F}) {
      for (uint64_t seed = 1; seed <= 5; ++seed) {
        const Vectors honest = Cloud(4 * kByzantine + 3 - kByzantine, 20, 1, seed);
        const auto average = CombineAll(RobustRule::kMean, 0, honest);
        double radius = 0;
        for (const std::vector<float>& one : honest) {
          radius = std::max(radius, Distance(one, *average));
        }
        Vectors means = honest;
        for (uint32_t i = 0; i < kByzantine; ++i) {
          means.insert(means.begin() + 2 * i, std::vector<float>(20, garbage));
        }
        const auto result = CombineAll(rule, kByzantine, means);
        ASSERT_THAT(result, IsOk()) << NameOf(rule);
        EXPECT_LE(Distance(*result, *average), radius)
            << NameOf(rule) << " garbage " << garbage << " seed " << seed;
      }
    }
  }
}

TEST(RobustRules, ArePulledAwayByMoreThanHalf) {
  for (const RobustRule rule : kRobust) {
    Vectors means = Cloud(5, 20, 1, 3);
    for (int i = 0; i < 6; ++i) means.push_back(std::vector<float>(20, 1e6F));
    const auto result = CombineAll(rule, 2, means);
    ASSERT_THAT(result, IsOk()) << NameOf(rule);
    EXPECT_GT(Distance(*result, means[0]), 1e5) << NameOf(rule);
  }
}

TEST(Mean, IsPulledAwayByOneSpoiltMean) {
  Vectors means = Cloud(10, 20, 1, 3);
  means.push_back(std::vector<float>(20, 1e6F));
  const auto result = CombineAll(RobustRule::kMean, 0, means);
  ASSERT_THAT(result, IsOk());
  EXPECT_GT(Distance(*result, means[0]), 1e5);
}

TEST(RobustRules, DoNotDependOnTheOrderOfTheMeans) {
  for (const RobustRule rule : kRobust) {
    Vectors means = Cloud(11, 20, 1, 5);
    const auto expected = CombineAll(rule, 2, means);
    ASSERT_THAT(expected, IsOk());
    TestRng rng(6);
    for (int shuffle = 0; shuffle < 20; ++shuffle) {
      for (size_t i = means.size() - 1; i > 0; --i) {
        std::swap(means[i], means[rng.Word() % (i + 1)]);
      }
      const auto result = CombineAll(rule, 2, means);
      ASSERT_THAT(result, IsOk());
      for (size_t j = 0; j < expected->size(); ++j) {
        EXPECT_NEAR((*result)[j], (*expected)[j], 1e-5) << NameOf(rule);
      }
    }
  }
}

TEST(RobustRules, GiveTheSameBitsAgain) {
  for (const RobustRule rule : kRobust) {
    const Vectors means = Cloud(11, 50, 1, 8);
    EXPECT_EQ(*CombineAll(rule, 2, means), *CombineAll(rule, 2, means)) << NameOf(rule);
  }
}

TEST(RobustRules, RefuseFewerMeansThanTheyNeed) {
  const std::pair<RobustRule, uint64_t> needs[] = {
      {RobustRule::kMedian, 5}, {RobustRule::kTrimmedMean, 5}, {RobustRule::kGeometricMedian, 5},
      {RobustRule::kKrum, 7},   {RobustRule::kMultiKrum, 7},   {RobustRule::kBulyan, 11},
  };
  for (const auto& [rule, needed] : needs) {
    EXPECT_EQ(MeansNeeded(rule, 2), needed) << NameOf(rule);
    EXPECT_THAT(CombineAll(rule, 2, Vectors(needed, {1})), IsOk()) << NameOf(rule);
    EXPECT_THAT(CombineAll(rule, 2, Vectors(needed - 1, {1})),
                HasCodeAndText(Code::kInvalidArgument, "needs " + std::to_string(needed)));
  }
  EXPECT_EQ(MeansNeeded(RobustRule::kMean, 0), 1U);
  EXPECT_EQ(MeansNeeded(RobustRule::kBulyan, UINT32_MAX), 4 * uint64_t{UINT32_MAX} + 3);
}

TEST(RobustRules, RefuseMeansOfTwoSizesAndNumbersThatAreNotFinite) {
  EXPECT_THAT(CombineAll(RobustRule::kMedian, 1, {{1, 2}, {1}, {1, 2}}),
              HasCodeAndText(Code::kInvalidArgument, "one size"));
  for (const float bad :
       {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    EXPECT_THAT(CombineAll(RobustRule::kMedian, 1, {{1}, {bad}, {1}}),
                HasCodeAndText(Code::kInvalidArgument, "finite"));
  }
}

}  // namespace
}  // namespace chorus::learning
