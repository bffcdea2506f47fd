#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include "base/limits.h"
#include "learning/learning.h"
#include "matchers.h"
#include "test_rng.h"

namespace chorus::learning {
namespace {

using testing::Each;
using testing::ElementsAreArray;

ModelSpec SmallModel(Loss loss) {
  return {.inputs = 4, .layers = {{6, Activation::kTanh}, {3, Activation::kNone}}, .loss = loss};
}

// Three that fit the small model.
Examples GoodExamples(const ModelSpec& model) {
  Examples examples;
  examples.inputs = 4;
  examples.features.assign(12, 0.5F);
  if (model.loss == Loss::kCrossEntropy) {
    examples.labels = {0, 1, 2};
  } else {
    examples.targets.assign(9, 0.5F);
  }
  return examples;
}

// --- models --------------------------------------------------------------------------------------

TEST(ValidateModel, TakesModelsUpToTheLimits) {
  EXPECT_THAT(ValidateModel(SmallModel(Loss::kCrossEntropy)), IsOk());
  EXPECT_THAT(ValidateModel({.inputs = 255, .layers = {{limits::kUnitsMax, Activation::kNone}}}),
              IsOk());
  const ModelSpec deep{
      .inputs = 1, .layers = std::vector<LayerSpec>(limits::kLayersMax, {1, Activation::kNone})};
  EXPECT_THAT(ValidateModel(deep), IsOk());
  EXPECT_THAT(
      ValidateModel(
          {.inputs = 1, .layers = {{1, Activation::kSigmoid}}, .loss = Loss::kSquaredError}),
      IsOk());
}

TEST(ValidateModel, NamesTheLayerAndWhatIsWrong) {
  const auto refuses = [](const ModelSpec& model, const std::string& text) {
    EXPECT_THAT(ValidateModel(model), HasCodeAndText(Code::kInvalidArgument, text));
  };
  constexpr Activation kNone = Activation::kNone;
  refuses({.inputs = 0, .layers = {{1, kNone}}}, "no inputs");
  refuses({.inputs = limits::kUnitsMax + 1, .layers = {{1, kNone}}}, "more than 1048576 inputs");
  refuses({.inputs = 1, .layers = {}}, "no layers");
  refuses({.inputs = 1, .layers = std::vector<LayerSpec>(limits::kLayersMax + 1, {1, kNone})},
          "more than 64 layers");
  refuses({.inputs = 1, .layers = {{5, kNone}, {0, kNone}}}, "layer 2 (dense) has no units");
  refuses({.inputs = 1, .layers = {{limits::kUnitsMax + 1, kNone}}},
          "layer 1 (dense) has more than");
  refuses({.inputs = 1, .layers = {{2, Activation::kRelu}}}, "layer 1 (dense) is the last before");
  refuses({.inputs = 1, .layers = {{2, static_cast<Activation>(6)}, {2, kNone}}},
          "layer 1 (dense) has an activation");
  refuses({.inputs = 1, .layers = {{2, kNone}}, .loss = static_cast<Loss>(5)}, "a loss");
  refuses({.inputs = 256, .layers = {{limits::kUnitsMax, kNone}}},
          "layer 1 (dense) takes the model beyond");
  refuses({.inputs = 1, .layers = {{1U << 14U, kNone}, {1U << 14U, kNone}}},
          "layer 2 (dense) takes the model beyond");
  // All products at their largest must not wrap around.
  refuses({.inputs = limits::kUnitsMax,
           .layers = std::vector<LayerSpec>(limits::kLayersMax, {limits::kUnitsMax, kNone})},
          "layer 1 (dense) takes the model beyond");
}

TEST(Model, CountsParametersAndOutputs) {
  const ModelSpec model{.inputs = 784,
                        .layers = {{128, Activation::kRelu}, {10, Activation::kNone}}};
  EXPECT_EQ(ParameterCount(model), 101'770U);
  EXPECT_EQ(OutputCount(model), 10U);
  EXPECT_EQ(ParameterCount({}), 0U);
  EXPECT_EQ(OutputCount({}), 0U);
}

TEST(Model, HasTheDocumentedCanonicalBytes) {
  const ModelSpec model{.inputs = 0x00010203,
                        .layers = {{258, Activation::kTanh}, {3, Activation::kNone}},
                        .loss = Loss::kSquaredError};
  const auto bytes_of = [](std::string_view magic, std::initializer_list<int> rest) {
    Bytes bytes(magic.begin(), magic.end());
    for (const int byte : rest) bytes.push_back(static_cast<uint8_t>(byte));
    return bytes;
  };
  EXPECT_THAT(CanonicalModel(model),
              ElementsAreArray(bytes_of("CHORUS1/model-spec", {0, 1, 2, 3,     // inputs
                                                               1,              // loss
                                                               0, 0, 0, 2,     // layers
                                                               0, 0, 1, 2, 2,  // 258 tanh
                                                               0, 0, 0, 3, 0})));
  EXPECT_THAT(
      CanonicalLayout(model),
      ElementsAreArray(bytes_of("CHORUS1/layout", {1,                          // binary32
                                                   0, 0, 0, 4,                 // tensors
                                                   2, 0, 0, 1, 2, 0, 1, 2, 3,  // W [258 × inputs]
                                                   1, 0, 0, 1, 2,              // bias [258]
                                                   2, 0, 0, 0, 3, 0, 0, 1, 2,  // W [3 × 258]
                                                   1, 0, 0, 0, 3})));          // bias [3]
}

TEST(InitialWeights, AreGlorotUniformWithZeroBiases) {
  const ModelSpec model{.inputs = 100,
                        .layers = {{50, Activation::kRelu}, {10, Activation::kNone}}};
  TestRng rng(20);
  const Weights weights = InitialWeights(model, rng);
  ASSERT_EQ(weights.size(), ParameterCount(model));
  const std::span<const float> all(weights);
  const auto check = [](std::span<const float> matrix, double fans) {
    const double bound = std::sqrt(6.0 / fans);
    double sum = 0;
    double squares = 0;
    for (const float weight : matrix) {
      ASSERT_LE(std::abs(weight), bound * (1 + 1e-6));
      sum += weight;
      squares += weight * weight;
    }
    // Uniform in ±bound has variance bound^2/3. Six standard errors: a false alarm has chance below
    // 1e-8, and the seed is fixed.
    const auto count = static_cast<double>(matrix.size());
    EXPECT_NEAR(sum / count, 0, 6 * bound / std::sqrt(3 * count));
    EXPECT_NEAR(squares / count, bound * bound / 3, 6 * bound * bound * 0.3 / std::sqrt(count));
  };
  check(all.subspan(0, 5'000), 150);
  EXPECT_THAT(all.subspan(5'000, 50), Each(0.0F));
  check(all.subspan(5'050, 500), 60);
  EXPECT_THAT(all.subspan(5'550, 10), Each(0.0F));
}

// --- examples ------------------------------------------------------------------------------------

TEST(CheckExamples, RefusesWhatDoesNotFitTheModel) {
  const ModelSpec model = SmallModel(Loss::kCrossEntropy);
  const Examples good = GoodExamples(model);
  EXPECT_THAT(CheckExamples(model, good), IsOk());
  const auto refuses = [](const ModelSpec& to, const Examples& examples, const std::string& text) {
    EXPECT_THAT(CheckExamples(to, examples), HasCodeAndText(Code::kInvalidArgument, text));
  };
  const auto changed = [&good](auto change) {
    Examples examples = good;
    change(examples);
    return examples;
  };
  refuses(model, Examples(), "0 features each and the model takes 4");
  refuses({}, good, "no inputs");
  refuses(model, changed([](Examples& e) { e.inputs = 3; }), "3 features");
  refuses(model, changed([](Examples& e) { e.features.clear(); }), "no examples");
  refuses(model, changed([](Examples& e) { e.features.pop_back(); }), "cut short");
  refuses(model, changed([](Examples& e) { e.labels.pop_back(); }), "one label for each");
  refuses(model, changed([](Examples& e) { e.labels.clear(); }), "one label for each");
  refuses(model, changed([](Examples& e) { e.labels[1] = 3; }), "not below 3");
  refuses(model, changed([](Examples& e) { e.targets = {1}; }), "leave targets empty");
  for (const float value :
       {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    refuses(model, changed([value](Examples& e) { e.features[7] = value; }), "a feature is not");
  }
}

TEST(CheckExamples, RefusesTargetsThatDoNotFitTheModel) {
  const ModelSpec model = SmallModel(Loss::kSquaredError);
  const Examples good = GoodExamples(model);
  EXPECT_THAT(CheckExamples(model, good), IsOk());
  Examples bad = good;
  bad.targets.pop_back();
  EXPECT_THAT(CheckExamples(model, bad),
              HasCodeAndText(Code::kInvalidArgument, "exactly 3 target"));
  bad = good;
  bad.targets.resize(6);
  EXPECT_THAT(CheckExamples(model, bad),
              HasCodeAndText(Code::kInvalidArgument, "exactly 3 target"));
  bad = good;
  bad.labels = {0, 1, 2};
  EXPECT_THAT(CheckExamples(model, bad), HasCodeAndText(Code::kInvalidArgument, "labels empty"));
  bad = good;
  bad.targets[4] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THAT(CheckExamples(model, bad), HasCodeAndText(Code::kInvalidArgument, "a target is not"));
}

}  // namespace
}  // namespace chorus::learning
