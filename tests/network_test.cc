// Gradients of every layer, activation and loss against differences in double, and how networks
// treat rows, padding, chance and memory.
#include "learning/network.h"

#include <cmath>
#include <numeric>

#include "learning/layers.h"
#include "learning/shapes.h"
#include "matchers.h"
#include "network_cases.h"

namespace chorus::learning {
namespace {

using testing::Each;
using testing::ElementsAre;

constexpr Padding kValid = Padding::kValid;
constexpr Padding kSame = Padding::kSame;

std::vector<size_t> RowsTo(size_t count) {
  std::vector<size_t> rows(count);
  std::iota(rows.begin(), rows.end(), size_t{0});
  return rows;
}

// The mean loss with the dropout masks of one seed.
double LossOf(Network<double>& network, const Examples& examples, std::span<const double> weights) {
  TestRng masks(77);
  const std::vector<size_t> rows = RowsTo(examples.count());
  return network.Forward(weights, examples, rows, &masks).loss /
         static_cast<double>(examples.count());
}

// Central differences with a step of 1e-5 err by about 1e-10 here; 3e-6 catches any wrong term. A
// difference across the kink of ReLU, of Huber or of a largest value would be no derivative: at
// a fixed seed there is none.
void CheckGradient(Network<double>& network, const Examples& examples, std::vector<double>& weights,
                   size_t every) {
  constexpr double kStep = 1e-5;
  std::vector<double> gradient(weights.size());
  LossOf(network, examples, weights);
  network.Backward(weights, 1.0 / static_cast<double>(examples.count()), gradient);
  for (size_t i = 0; i < weights.size(); i += every) {
    const double weight = weights[i];
    weights[i] = weight + kStep;
    const double above = LossOf(network, examples, weights);
    weights[i] = weight - kStep;
    const double below = LossOf(network, examples, weights);
    weights[i] = weight;
    ASSERT_NEAR(gradient[i], (above - below) / (2 * kStep), 3e-6) << "parameter " << i;
  }
}

class EveryNetwork : public testing::TestWithParam<NetworkCase> {};

TEST_P(EveryNetwork, HasTheGradientOfItsLoss) {
  const ModelSpec& model = GetParam().model;
  ASSERT_THAT(ValidateModel(model), IsOk());
  for (const uint64_t seed : {1U, 2U, 3U}) {
    TestRng rng(seed);
    const Examples examples = ExamplesFor(model, 4, rng);
    ASSERT_THAT(CheckExamples(model, examples), IsOk());
    std::vector<double> weights = WeightsFor<double>(model, rng);
    Network<double> network(model, examples.count());
    CheckGradient(network, examples, weights, 1);
    if (HasFatalFailure()) FAIL() << "seed " << seed;
  }
}

TEST_P(EveryNetwork, GivesOneStepInPlaceThatTheGradientGives) {
  const ModelSpec& model = GetParam().model;
  TestRng rng(4);
  const Examples examples = ExamplesFor(model, 5, rng);
  std::vector<double> weights = WeightsFor<double>(model, rng);
  Network<double> network(model, examples.count());
  std::vector<double> expected = weights;
  LossOf(network, examples, weights);
  network.Backward(weights, -0.5, expected);
  LossOf(network, examples, weights);
  network.Backward(weights, -0.5, weights);
  for (size_t i = 0; i < weights.size(); ++i) ASSERT_NEAR(weights[i], expected[i], 1e-12) << i;
}

TEST_P(EveryNetwork, TreatsEveryRowAsIfItWereAlone) {
  const ModelSpec& model = GetParam().model;
  TestRng rng(5);
  const Examples examples = ExamplesFor(model, 6, rng);
  const std::vector<double> weights = WeightsFor<double>(model, rng);
  Network<double> network(model, examples.count());
  const std::vector<size_t> rows = {4, 0, 3, 5};
  std::vector<double> together(weights.size());
  const auto all = network.Forward(weights, examples, rows, nullptr);
  network.Backward(weights, 1, together);
  std::vector<double> apart(weights.size());
  Network<double>::Outcome sum;
  for (const size_t row : rows) {
    const auto one = network.Forward(weights, examples, std::span(&row, 1), nullptr);
    network.Backward(weights, 1, apart);
    sum.loss += one.loss;
    sum.right += one.right;
    sum.predictions += one.predictions;
  }
  EXPECT_NEAR(all.loss, sum.loss, 1e-12);
  EXPECT_NEAR(all.right, sum.right, 1e-12);
  EXPECT_EQ(all.predictions, sum.predictions);
  for (size_t i = 0; i < weights.size(); ++i) ASSERT_NEAR(together[i], apart[i], 1e-11) << i;
}

// Every path of the kernels, and float beside double.
TEST_P(EveryNetwork, AgreesOnEveryPathWithinRounding) {
  const ModelSpec& model = GetParam().model;
  TestRng rng(6);
  const Examples examples = ExamplesFor(model, 9, rng);
  const std::vector<size_t> rows = RowsTo(examples.count());
  const auto weights = WeightsFor<float>(model, rng);
  const std::vector<double> exact(weights.begin(), weights.end());
  std::vector<double> expected(weights.size());
  Network<double> reference(model, rows.size(), *KernelsOf<double>(KernelPath::kBaseline));
  TestRng masks(1);
  const auto outcome = reference.Forward(exact, examples, rows, &masks);
  reference.Backward(exact, 1, expected);
  for (const KernelPath path : {KernelPath::kBaseline, KernelPath::kAvx2, KernelPath::kAvx512}) {
    const Kernels<float>* const kernels = KernelsOf<float>(path);
    if (kernels == nullptr) continue;
    Network<float> network(model, rows.size(), *kernels);
    std::vector<float> gradient(weights.size());
    TestRng same_masks(1);
    const auto seen = network.Forward(weights, examples, rows, &same_masks);
    network.Backward(weights, 1, gradient);
    EXPECT_NEAR(seen.loss, outcome.loss, 1e-5 * (1 + outcome.loss));
    for (size_t i = 0; i < weights.size(); ++i) {
      ASSERT_NEAR(gradient[i], expected[i], 2e-5 * (1 + std::abs(expected[i])))
          << "path " << static_cast<int>(path) << ", parameter " << i;
    }
  }
}

// Nothing is left of one client for the next, whatever its rows were.
TEST_P(EveryNetwork, ForgetsWhatItSawBefore) {
  const ModelSpec& model = GetParam().model;
  TestRng rng(7);
  const Examples examples = ExamplesFor(model, 8, rng);
  const auto weights = WeightsFor<float>(model, rng);
  const std::vector<size_t> others = RowsTo(examples.count());
  const std::vector<size_t> rows = {6, 1, 2};
  const auto gradient_on = [&](Network<float>& network) {
    std::vector<float> gradient(weights.size());
    TestRng masks(2);
    network.Forward(weights, examples, rows, &masks);
    network.Backward(weights, 0.25F, gradient);
    return gradient;
  };
  Network<float> used(model, others.size());
  std::vector<float> ignored(weights.size());
  used.Forward(WeightsFor<float>(model, rng), examples, others, &rng);
  used.Backward(weights, 1, ignored);
  Network<float> fresh(model, others.size());
  EXPECT_EQ(gradient_on(used), gradient_on(fresh));
}

INSTANTIATE_TEST_SUITE_P(Networks, EveryNetwork, testing::ValuesIn(AllNetworkCases()),
                         [](const auto& each) { return each.param.name; });

// --- whatever is stacked -------------------------------------------------------------------------

// A layer of any kind that an image, a sequence or a vector may meet.
LayerSpec RandomLayer(Rng& rng) {
  const auto below = [&rng](uint64_t bound) {
    return static_cast<uint32_t>(UniformBelow(rng, bound));
  };
  const Activation activation = static_cast<Activation>(below(6));
  const Padding padding = below(2) == 0 ? kValid : kSame;
  switch (below(8)) {
    case 0:
      return Conv(1 + below(3), 1 + below(3), 1 + below(2), padding, activation);
    case 1:
      return Pool(1 + below(3), 1 + below(2), padding);
    case 2:
      return Gru(1 + below(4), below(3) == 0);
    case 3:
      return Norm(activation);
    case 4:
      return Drop(0.3F);
    case 5:
      return Flat();
    case 6:
      return Add(1 + below(3), activation);
    default:
      return Dense(1 + below(4), activation);
  }
}

// Layers that fit one upon the other, then a dense one over three classes.
ModelSpec RandomStack(Rng& rng) {
  ModelSpec model{.inputs = 36, .layers = {}};
  const std::vector<uint32_t> shapes[] = {{6, 6, 1}, {3, 6, 2}, {6, 6}, {36}};
  model.shape = shapes[UniformBelow(rng, 4)];
  const size_t depth = 2 + UniformBelow(rng, 6);
  while (model.layers.size() < depth) {
    model.layers.push_back(RandomLayer(rng));
    if (!InferShapes(model).ok()) model.layers.pop_back();
  }
  model.layers.push_back(Flat());
  model.layers.push_back(Dense(3));
  return model;
}

TEST(Network, HasTheGradientOfItsLossWhateverIsStacked) {
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    TestRng rng(seed);
    const ModelSpec model = RandomStack(rng);
    ASSERT_THAT(ValidateModel(model), IsOk());
    const Examples examples = ExamplesFor(model, 3, rng);
    std::vector<double> weights = WeightsFor<double>(model, rng);
    Network<double> network(model, examples.count());
    CheckGradient(network, examples, weights, 1 + weights.size() / 40);
    if (HasFatalFailure()) {
      for (size_t i = 0; i < model.layers.size(); ++i) ADD_FAILURE() << LayerName(model, i);
      FAIL() << "seed " << seed;
    }
  }
}

// --- known answers -------------------------------------------------------------------------------

// The outputs for one example of consecutive features.
std::vector<float> OutputsOf(const ModelSpec& model, const Weights& weights,
                             std::vector<float> features) {
  const Result<std::vector<float>> outputs = Predict(model, weights, features);
  EXPECT_THAT(outputs, IsOk());
  return outputs.ok() ? *outputs : std::vector<float>();
}

TEST(Conv2d, LaysItsWindowsOutAsDocumented) {
  // An image [2 × 3 × 1]; a 2 × 2 kernel with weights 1, 10, 100, 1000 and a bias of 0.5.
  ModelSpec model{.inputs = 6,
                  .layers = {Conv(1, 2, 1, Padding::kValid)},
                  .loss = Loss::kSquaredError,
                  .shape = {2, 3, 1}};
  const Weights weights{1, 10, 100, 1000, 0.5F};
  EXPECT_THAT(OutputsOf(model, weights, {1, 2, 3, 4, 5, 6}), ElementsAre(5421.5F, 6532.5F));
  // Zeros come below and to the right, where one side must have the odd one.
  model.layers[0].padding = Padding::kSame;
  EXPECT_THAT(OutputsOf(model, weights, {1, 2, 3, 4, 5, 6}),
              ElementsAre(5421.5F, 6532.5F, 603.5F, 54.5F, 65.5F, 6.5F));
}

// 1,600 windows of 400 numbers are laid out in ten pieces, in the same memory, with zeros at other
// places each time.
TEST(Conv2d, LaysOutMoreWindowsThanFitAtATime) {
  const ModelSpec model{.inputs = 40 * 40,
                        .layers = {Conv(16, 1, 1, kValid), Conv(1, 5, 1, kSame)},
                        .loss = Loss::kSquaredError,
                        .shape = {40, 40, 1}};
  TestRng rng(10);
  const Examples examples = ExamplesFor(model, 2, rng);
  std::vector<double> weights = WeightsFor<double>(model, rng);
  Network<double> network(model, 2);
  std::vector<double> gradient(weights.size());
  for (int pass = 0; pass < 2; ++pass) {
    std::fill(gradient.begin(), gradient.end(), 0.0);
    LossOf(network, examples, weights);
    network.Backward(weights, 0.5, gradient);
  }
  // The loss is quadratic in every single weight: its difference has no error but rounding.
  for (size_t i = 0; i < weights.size(); i += 7) {
    const double weight = weights[i];
    weights[i] = weight + 0.25;
    const double above = LossOf(network, examples, weights);
    weights[i] = weight - 0.25;
    const double below = LossOf(network, examples, weights);
    weights[i] = weight;
    ASSERT_NEAR(gradient[i], 2 * (above - below), 1e-7 * (1 + std::abs(gradient[i]))) << i;
  }
}

TEST(MaxPool2d, TakesTheLargestOfWhatLiesInsideTheImage) {
  ModelSpec model{.inputs = 6,
                  .layers = {Dense(1), Pool(2, 1, Padding::kSame)},
                  .loss = Loss::kSquaredError,
                  .shape = {2, 3, 1}};
  EXPECT_THAT(OutputsOf(model, {1, 0}, {-1, -2, -3, -6, -5, -4}),
              ElementsAre(-1, -2, -3, -5, -4, -4));
}

TEST(MaxPool2d, KeepsANan) {
  const ModelSpec model{
      .inputs = 4, .layers = {Pool(2, 1, Padding::kValid), Flat(), Dense(2)}, .shape = {2, 2, 1}};
  for (size_t spot = 0; spot < 4; ++spot) {
    std::vector<float> features{1, 2, 3, 4};
    features[spot] = std::nanf("");
    EXPECT_TRUE(std::isnan(OutputsOf(model, {1, 1, 0, 0}, features)[0])) << spot;
  }
}

// One unit, two steps, worked out by hand with ONNX's formulas.
TEST(Gru, HasOnnxsOrderOfGatesAndResetsAfterTheProduct) {
  const ModelSpec model{
      .inputs = 2, .layers = {Gru(1, false)}, .loss = Loss::kSquaredError, .shape = {2, 1}};
  const double wz = 0.3, wr = -0.6, wh = 0.9, rz = 0.2, rr = 0.5, rh = -0.7;
  const double bz = 0.1, br = 0.4, bh = -0.2, cz = -0.3, cr = 0.25, ch = 0.15;
  const auto sigmoid = [](double x) { return 1 / (1 + std::exp(-x)); };
  double state = 0;
  std::vector<double> states;
  for (const double x : {1.5, -0.5}) {
    const double z = sigmoid(wz * x + bz + rz * state + cz);
    const double r = sigmoid(wr * x + br + rr * state + cr);
    const double h = std::tanh(wh * x + bh + r * (rh * state + ch));
    state = (1 - z) * h + z * state;
    states.push_back(state);
  }
  Weights weights;
  for (const double weight : {wz, wr, wh, rz, rr, rh, bz, br, bh, cz, cr, ch}) {
    weights.push_back(static_cast<float>(weight));
  }
  const std::vector<float> outputs = OutputsOf(model, weights, {1.5F, -0.5F});
  ASSERT_EQ(outputs.size(), 2U);
  EXPECT_NEAR(outputs[0], states[0], 1e-6);
  EXPECT_NEAR(outputs[1], states[1], 1e-6);
}

TEST(Huber, IsQuadraticUpToItsDeltaAndLinearBeyond) {
  const ModelSpec model{
      .inputs = 1, .layers = {Dense(1)}, .loss = Loss::kHuber, .huber_delta = 2.0F};
  Examples examples;
  examples.inputs = 1;
  examples.features = {1, 5};
  examples.targets = {0, 0};
  std::vector<double> gradient(2);
  EXPECT_DOUBLE_EQ(LossAndGradientDouble(model, examples, std::vector<double>{1, 0}, gradient),
                   (0.5 + 2 * (5 - 1)) / 2);
  EXPECT_THAT(gradient, ElementsAre((1.0 + 2 * 5) / 2, (1.0 + 2) / 2));
}

TEST(BinaryCrossEntropy, DoesNotOverflowAndCountsTheRightSide) {
  const ModelSpec model{.inputs = 1, .layers = {Dense(1)}, .loss = Loss::kBinaryCrossEntropy};
  Examples examples;
  examples.inputs = 1;
  examples.features = {1'000, -1'000, 1'000, 0};
  examples.labels = {1, 0, 0, 0};
  const Result<Evaluation> evaluation = Evaluate(model, examples, Weights{1, 0}, Cancel());
  ASSERT_THAT(evaluation, IsOk());
  EXPECT_NEAR(evaluation->loss, (1'000 + std::log(2.0)) / 4, 1e-6);
  EXPECT_DOUBLE_EQ(evaluation->accuracy, 0.75);
}

// Two rows over three classes; the second row's last two positions are padding.
TEST(NextToken, AveragesOverThePositionsThatAreNoPadding) {
  const ModelSpec model{.inputs = 4, .layers = {Embed(3, 3)}, .loss = Loss::kNextToken};
  // Token 0 predicts 1 with logit 5, token 1 predicts 2, token 2 predicts 2.
  const std::vector<double> weights{0, 5, 0, 0, 0, 5, 0, 0, 5};
  Examples examples;
  examples.inputs = 4;
  examples.features = {0, 1, 2, 0, 0, 2, -1, -1};
  Network<double> network(model, 2);
  const std::vector<size_t> rows = {0, 1};
  const auto outcome = network.Forward(weights, examples, rows, nullptr);
  const double right = std::log(2 + std::exp(5.0)) - 5;
  EXPECT_NEAR(outcome.loss, (2 * right + right + 5) / 3 + right + 5, 1e-12);
  EXPECT_NEAR(outcome.right, 2.0 / 3, 1e-12);
  EXPECT_EQ(outcome.predictions, 4U);
  // What padding is embedded by has no gradient.
  std::vector<double> gradient(weights.size());
  network.Backward(weights, 1, gradient);
  double sum = 0;
  for (const double value : gradient) sum += std::abs(value);
  EXPECT_GT(sum, 0.1);
  network.Forward(weights, examples, std::span(rows).subspan(1), nullptr);
  std::fill(gradient.begin(), gradient.end(), 0.0);
  network.Backward(weights, 1, gradient);
  EXPECT_THAT(std::span(gradient).subspan(3), Each(0.0));
}

// --- chance, memory ------------------------------------------------------------------------------

TEST(Dropout, KeepsTheMeanDropsItsShareAndRestsInEvaluation) {
  const ModelSpec model{.inputs = 2'000, .layers = {Drop(0.25F)}, .loss = Loss::kSquaredError};
  Examples examples;
  examples.inputs = 2'000;
  examples.features.assign(2'000, 1.0F);
  examples.targets.assign(2'000, 0.0F);
  Network<double> network(model, 1);
  const std::vector<size_t> rows = {0};
  EXPECT_DOUBLE_EQ(network.Forward({}, examples, rows, nullptr).loss, 1'000);
  TestRng rng(8);
  // Of 2,000 values 1,500 stay, each with half of (4/3)^2. Six standard deviations of 19.4: a false
  // alarm has chance below 1e-8, and the seed is fixed.
  const double kept = network.Forward({}, examples, rows, &rng).loss / (0.5 * 16 / 9);
  EXPECT_NEAR(kept, 1'500, 117);
  EXPECT_NE(network.Forward({}, examples, rows, &rng).loss / (0.5 * 16 / 9), kept);
}

TEST(Network, HoldsFewerRowsWhereTheyWouldTakeTooMuch) {
  const ModelSpec wide{.inputs = 1, .layers = {Dense(33'000, Activation::kTanh), Dense(2)}};
  EXPECT_EQ(Network<float>(wide, 600).rows_max(), 254U);
  EXPECT_EQ(Network<float>(wide, 10).rows_max(), 10U);
  const ModelSpec wider{.inputs = 1, .layers = {Dense(1U << 20U), Dense(1U << 7U)}};
  EXPECT_EQ(Network<float>(wider, 100).rows_max(), 7U);
}

TEST(TrainingBytes, BoundsWhatANetworkHolds) {
  const ModelSpec model{.inputs = 784, .layers = {Dense(200, Activation::kRelu), Dense(10)}};
  const uint64_t workspace = kWorkspaceCount * sizeof(float);
  EXPECT_EQ(TrainingBytes(model, 20), workspace + 20 * (784 + 2 * 200 + 2 * 10) * sizeof(float));
  EXPECT_LE(TrainingBytes(model, UINT64_MAX), workspace + (uint64_t{64} << 20U));
  EXPECT_EQ(TrainingBytes({.layers = {}, .custom_parameters = 5}, 20), 0U);
  // A GRU keeps what its steps were.
  const ModelSpec gru{.inputs = 80, .layers = {Gru(16, true), Dense(2)}, .shape = {80, 1}};
  EXPECT_GE(TrainingBytes(gru, 10) - workspace, 10 * 80 * 8 * 16 * sizeof(float));
}

TEST(Predict, GivesWhatForwardJudgesInPieces) {
  const ModelSpec model{.inputs = 3, .layers = {Dense(4, Activation::kTanh), Dense(2)}};
  TestRng rng(9);
  const Weights weights = WeightsFor<float>(model, rng);
  const Examples examples = ExamplesFor(model, 600, rng);
  const Result<std::vector<float>> outputs = Predict(model, weights, examples.features);
  ASSERT_THAT(outputs, IsOk());
  ASSERT_EQ(outputs->size(), 1'200U);
  double loss = 0;
  for (size_t i = 0; i < examples.count(); ++i) {
    const double zero = (*outputs)[2 * i];
    const double one = (*outputs)[2 * i + 1];
    loss += std::log(std::exp(zero) + std::exp(one)) - (examples.labels[i] == 0 ? zero : one);
  }
  EXPECT_THAT(Evaluate(model, examples, weights, Cancel()),
              HoldsValue(testing::Field(&Evaluation::loss, testing::DoubleNear(loss / 600, 1e-6))));
}

TEST(Predict, RefusesWhatDoesNotFit) {
  const ModelSpec model{.inputs = 3, .layers = {Dense(2)}};
  const ModelSpec embeds{.inputs = 3, .layers = {Embed(4, 2), Flat(), Dense(2)}};
  const auto refused = HasCode(Code::kInvalidArgument);
  EXPECT_THAT(Predict(model, Weights(8), std::vector<float>(6)), IsOk());
  EXPECT_THAT(Predict(model, Weights(8), std::vector<float>(7)), refused);
  EXPECT_THAT(Predict(model, Weights(7), std::vector<float>(6)), refused);
  EXPECT_THAT(Predict({}, Weights(8), std::vector<float>(6)), refused);
  EXPECT_THAT(Predict({.layers = {}, .custom_parameters = 8}, Weights(8), std::vector<float>(6)),
              refused);
  const Weights weights(ParameterCount(embeds));
  EXPECT_THAT(Predict(embeds, weights, std::vector<float>{0, 3, 1}), IsOk());
  for (const float token : {-1.0F, 4.0F, 0.5F, std::nanf("")}) {
    EXPECT_THAT(Predict(embeds, weights, std::vector<float>{0, token, 1}), refused) << token;
  }
}

}  // namespace
}  // namespace chorus::learning
