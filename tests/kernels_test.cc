// Every path of the kernels beside plain loops, over shapes that end within a vector and a tile.
#include "learning/kernels.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "network_cases.h"

#include "matchers.h"

namespace chorus::learning {
namespace {

constexpr KernelPath kPaths[] = {KernelPath::kBaseline, KernelPath::kAvx2, KernelPath::kAvx512};

template <typename Scalar>
std::vector<Scalar> Noise(Rng& rng, size_t count) {
  std::vector<Scalar> values(count);
  for (Scalar& value : values) value = static_cast<Scalar>(UniformBetween(rng, -1, 1));
  return values;
}

struct Dimensions {
  size_t m = 0;
  size_t n = 0;
  size_t k = 0;
};

// Whole tiles and parts of them, more than one pass of depth and of width, and both ways to the
// product of a few rows.
const std::vector<Dimensions>& AllDimensions() {
  static const std::vector<Dimensions> all = {
      {1, 1, 1},     {1, 10, 7},    {3, 16, 5},     {4, 17, 64},   {5, 4, 65},
      {7, 3, 200},   {8, 48, 20},   {9, 49, 33},    {12, 32, 9},   {13, 31, 40},
      {20, 10, 64},  {25, 100, 12}, {33, 65, 32},   {40, 130, 34}, {64, 20, 100},
      {66, 47, 300}, {2, 500, 3},   {35, 481, 257}, {70, 24, 513}};
  return all;
}

template <typename Scalar>
struct Operands {
  std::vector<Scalar> a;
  std::vector<Scalar> b;
  std::vector<Scalar> c;
  std::vector<Scalar> bias;
};

enum class Form { kRowsByRows, kTurnedByRows, kRowsByTurned };

template <typename Scalar>
Product<Scalar> ProductOf(const Dimensions& d, Form form, const Operands<Scalar>& from, Scalar* c) {
  const bool turned_a = form == Form::kTurnedByRows;
  const bool turned_b = form == Form::kRowsByTurned;
  return {.m = d.m,
          .n = d.n,
          .k = d.k,
          .a = from.a.data(),
          .a_row = turned_a ? 1 : d.k,
          .a_column = turned_a ? d.m : 1,
          .b = from.b.data(),
          .b_row = turned_b ? 1 : d.n,
          .b_column = turned_b ? d.k : 1,
          .c = c,
          .c_row = d.n};
}

template <typename Scalar>
std::vector<double> Expected(const Product<Scalar>& p) {
  std::vector<double> c;
  for (size_t i = 0; i < p.m; ++i) {
    for (size_t j = 0; j < p.n; ++j) {
      double sum = p.add ? double{p.c[i * p.c_row + j]} : p.bias != nullptr ? double{p.bias[j]} : 0;
      for (size_t k = 0; k < p.k; ++k) {
        sum +=
            double{p.a[i * p.a_row + k * p.a_column]} * double{p.b[k * p.b_row + j * p.b_column]};
      }
      c.push_back(sum);
    }
  }
  return c;
}

template <typename Scalar>
void CheckProducts(KernelPath path, double tolerance) {
  const Kernels<Scalar>* const kernels = KernelsOf<Scalar>(path);
  if (kernels == nullptr) GTEST_SKIP() << "not on this processor";
  std::vector<Scalar> workspace(kWorkspaceCount);
  TestRng rng(1);
  for (const Dimensions& d : AllDimensions()) {
    const Operands<Scalar> operands{.a = Noise<Scalar>(rng, d.m * d.k),
                                    .b = Noise<Scalar>(rng, d.k * d.n),
                                    .c = Noise<Scalar>(rng, d.m * d.n + 1),
                                    .bias = Noise<Scalar>(rng, d.n)};
    for (const Form form : {Form::kRowsByRows, Form::kTurnedByRows, Form::kRowsByTurned}) {
      for (const int onto : {0, 1, 2}) {  // nothing, itself, the bias
        std::vector<Scalar> c = operands.c;
        Product<Scalar> product = ProductOf(d, form, operands, c.data());
        product.add = onto == 1;
        product.bias = onto == 2 ? operands.bias.data() : nullptr;
        const std::vector<double> expected = Expected(product);
        kernels->multiply(product, workspace.data());
        for (size_t i = 0; i < expected.size(); ++i) {
          ASSERT_NEAR(c[i], expected[i], tolerance * std::sqrt(static_cast<double>(d.k)))
              << d.m << " " << d.n << " " << d.k << " form " << static_cast<int>(form) << " " << i;
        }
        ASSERT_EQ(c.back(), operands.c.back()) << "a write beyond the product";
      }
    }
  }
}

class EveryPath : public testing::TestWithParam<KernelPath> {};

TEST_P(EveryPath, MultipliesFloatsAsPlainLoopsDo) { CheckProducts<float>(GetParam(), 2e-6); }

TEST_P(EveryPath, MultipliesDoublesAsPlainLoopsDo) { CheckProducts<double>(GetParam(), 1e-14); }

// What a caller's memory is aligned to changes no bit, or one seed would give several models.
TEST_P(EveryPath, GivesTheSameBitsWhereverMemoryBegins) {
  const Kernels<float>* const kernels = KernelsOf<float>(GetParam());
  if (kernels == nullptr) GTEST_SKIP() << "not on this processor";
  std::vector<float> workspace(kWorkspaceCount + 16);
  const Dimensions d{21, 37, 70};
  TestRng rng(2);
  const Operands<float> operands{.a = Noise<float>(rng, d.m * d.k),
                                 .b = Noise<float>(rng, d.k * d.n),
                                 .c = Noise<float>(rng, d.m * d.n),
                                 .bias = {}};
  for (const Form form : {Form::kRowsByRows, Form::kTurnedByRows, Form::kRowsByTurned}) {
    std::vector<float> first;
    for (const size_t offset : {0U, 1U, 3U, 7U, 8U}) {
      Operands<float> moved;
      moved.a.resize(offset);
      moved.b.resize(offset);
      moved.a.insert(moved.a.end(), operands.a.begin(), operands.a.end());
      moved.b.insert(moved.b.end(), operands.b.begin(), operands.b.end());
      std::vector<float> c(offset);
      c.insert(c.end(), operands.c.begin(), operands.c.end());
      Product<float> product = ProductOf(d, form, moved, c.data() + offset);
      product.a += offset;
      product.b += offset;
      product.add = true;
      kernels->multiply(product, workspace.data() + offset);
      c.erase(c.begin(), c.begin() + static_cast<ptrdiff_t>(offset));
      if (first.empty()) first = c;
      ASSERT_EQ(c, first) << offset;
    }
  }
}

// Values over the whole range, the part of a vector at the end too.
TEST_P(EveryPath, ActivatesWithinRoundingOfTheLibrarysFunctions) {
  const Kernels<float>* const kernels = KernelsOf<float>(GetParam());
  if (kernels == nullptr) GTEST_SKIP() << "not on this processor";
  std::vector<float> inputs;
  for (int i = -4'000; i <= 4'003; ++i) inputs.push_back(static_cast<float>(i) * 0.025F);
  for (const float tiny : {1e-30F, 1e-6F, -1e-6F, 0.2999F, 0.3001F, -0.3F}) inputs.push_back(tiny);
  const auto check = [&](Activation activation, double (*exact)(double)) {
    std::vector<float> outputs = inputs;
    kernels->activate(activation, outputs.data(), outputs.size());
    for (size_t i = 0; i < inputs.size(); ++i) {
      const double expected = exact(inputs[i]);
      ASSERT_NEAR(outputs[i], expected, 3e-7 * (1e-9 + std::abs(expected))) << inputs[i];
    }
  };
  check(Activation::kNone, [](double x) { return x; });
  check(Activation::kRelu, [](double x) { return x > 0 ? x : 0; });
  check(Activation::kTanh, [](double x) { return std::tanh(x); });
  std::vector<float> outputs = inputs;
  kernels->activate(Activation::kSigmoid, outputs.data(), outputs.size());
  for (size_t i = 0; i < inputs.size(); ++i) {
    ASSERT_NEAR(outputs[i], 1 / (1 + std::exp(-double{inputs[i]})), 2e-7) << inputs[i];
  }
  outputs = inputs;
  kernels->activate(Activation::kGelu, outputs.data(), outputs.size());
  for (size_t i = 0; i < inputs.size(); ++i) {
    const double x = inputs[i];
    const double expected = x * 0.5 * (1 + std::erf(x / std::sqrt(2.0)));
    ASSERT_NEAR(outputs[i], expected, 3e-7 * (1 + std::abs(x))) << inputs[i];
  }
}

TEST_P(EveryPath, KeepsInfinitiesAndNans) {
  const Kernels<float>* const kernels = KernelsOf<float>(GetParam());
  if (kernels == nullptr) GTEST_SKIP() << "not on this processor";
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const Activation activation :
       {Activation::kRelu, Activation::kTanh, Activation::kSigmoid, Activation::kGelu}) {
    std::vector<float> values(19, std::nanf(""));
    kernels->activate(activation, values.data(), values.size());
    for (const float value : values) EXPECT_TRUE(std::isnan(value)) << static_cast<int>(activation);
  }
  std::vector<float> values{-kInfinity, kInfinity, -1e30F, 1e30F};
  kernels->activate(Activation::kSigmoid, values.data(), values.size());
  EXPECT_THAT(values, testing::ElementsAre(0, 1, 0, 1));
  values = {-kInfinity, kInfinity, -1e30F, 1e30F};
  kernels->activate(Activation::kTanh, values.data(), values.size());
  EXPECT_THAT(values, testing::ElementsAre(-1, 1, -1, 1));
}

TEST_P(EveryPath, TakesSoftmaxesThatSumToOne) {
  const Kernels<float>* const kernels = KernelsOf<float>(GetParam());
  if (kernels == nullptr) GTEST_SKIP() << "not on this processor";
  TestRng rng(3);
  for (size_t width = 1; width <= 40; ++width) {
    std::vector<float> logits = Noise<float>(rng, width);
    for (float& logit : logits) logit *= 30;
    std::vector<float> shares(width);
    const SoftmaxParts<float> parts = kernels->softmax(logits.data(), shares.data(), width);
    EXPECT_EQ(parts.largest, *std::max_element(logits.begin(), logits.end()));
    double sum = 0;
    for (const float logit : logits) sum += std::exp(double{logit} - double{parts.largest});
    EXPECT_NEAR(parts.sum, sum, 1e-6 * sum);
    for (size_t i = 0; i < width; ++i) {
      ASSERT_NEAR(shares[i], std::exp(double{logits[i]} - double{parts.largest}) / sum, 1e-6);
    }
  }
}

std::string NameOf(const testing::TestParamInfo<KernelPath>& path) {
  static const char* const names[] = {"Baseline", "Avx2", "Avx512"};
  return names[static_cast<size_t>(path.param)];
}
INSTANTIATE_TEST_SUITE_P(Kernels, EveryPath, testing::ValuesIn(kPaths), NameOf);

TEST(Kernels, TakeTheWidestPathThatTheProcessorHas) {
  ASSERT_NE(KernelsOf<float>(KernelPath::kBaseline), nullptr);
  const Kernels<float>* widest = nullptr;
  for (const KernelPath path : kPaths) {
    if (KernelsOf<float>(path) != nullptr) widest = KernelsOf<float>(path);
  }
  EXPECT_EQ(&FastestKernels<float>(), widest);
}

}  // namespace
}  // namespace chorus::learning
