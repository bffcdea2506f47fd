// The server's optimisers: against numbers worked out by hand, and against the papers' formulas
// written down once more in double.
#include "learning/server_optimizer.h"

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "matchers.h"
#include "test_rng.h"

namespace chorus::learning {
namespace {

using testing::ElementsAre;
using testing::FloatEq;
using testing::FloatNear;
using testing::IsEmpty;
using testing::Pointwise;

constexpr ServerOptimizer kAll[] = {ServerOptimizer::kFedAvg, ServerOptimizer::kFedAvgM,
                                    ServerOptimizer::kFedAdagrad, ServerOptimizer::kFedAdam,
                                    ServerOptimizer::kFedYogi};

ServerSpec SpecOf(ServerOptimizer optimizer) {
  return {.optimizer = optimizer, .beta1 = 0.5F, .beta2 = 0.75F, .tau = 0.25F};
}

// A model of two parameters that are both shared.
struct Model {
  Status Step(const ServerSpec& server, float rate, const std::vector<float>& change) {
    return learning::Step({.server = server, .rate = rate, .shared = shared, .change = change},
                          weights, state);
  }
  std::vector<float> weights = {1, 2};
  std::vector<ParameterRange> shared = {{.begin = 0, .count = 2}};
  OptimizerState state;
};

TEST(FedAvg, AddsTheRateTimesTheChangeAndKeepsNothing) {
  Model model;
  ASSERT_THAT(model.Step(SpecOf(ServerOptimizer::kFedAvg), 0.5F, {4, -2}), IsOk());
  EXPECT_THAT(model.weights, ElementsAre(3, 1));
  EXPECT_EQ(model.state, OptimizerState());
}

TEST(FedAvgM, GoesOnInTheDirectionOfBefore) {
  Model model;
  const ServerSpec server = SpecOf(ServerOptimizer::kFedAvgM);
  ASSERT_THAT(model.Step(server, 0.5F, {4, -2}), IsOk());  // m = (4, -2)
  EXPECT_THAT(model.weights, ElementsAre(3, 1));
  ASSERT_THAT(model.Step(server, 0.5F, {0, 0}), IsOk());  // m = (2, -1)
  EXPECT_THAT(model.weights, ElementsAre(4, 0.5F));
  ASSERT_THAT(model.Step(server, 0.5F, {1, 1}), IsOk());  // m = (2, 0.5)
  EXPECT_THAT(model.weights, ElementsAre(5, 0.75F));
  EXPECT_THAT(model.state.momentum, ElementsAre(2, 0.5F));
  EXPECT_THAT(model.state.second_moment, IsEmpty());
}

// v begins at tau^2 = 1/16, so that a change of sqrt(3)/4 makes v = 1/4 and the denominator 3/4.
TEST(FedAdagrad, DividesByTheRootOfAllSquares) {
  Model model;
  const auto change = static_cast<float>(std::sqrt(3.0) / 4);
  ASSERT_THAT(model.Step(SpecOf(ServerOptimizer::kFedAdagrad), 3.0F, {change, 0}), IsOk());
  EXPECT_THAT(model.state.second_moment, ElementsAre(FloatEq(0.25F), FloatEq(0.0625F)));
  EXPECT_THAT(model.state.momentum, ElementsAre(FloatEq(change / 2), 0));
  EXPECT_THAT(model.weights, ElementsAre(FloatEq(1 + 3 * change / 2 / 0.75F), 2));
}

// v = 3/4 * 1/16 + 1/4 * d^2: with d = 1/4 it stays 1/16, with d = 1 it is 19/64.
TEST(FedAdam, ForgetsSquaresGeometrically) {
  Model model;
  ASSERT_THAT(model.Step(SpecOf(ServerOptimizer::kFedAdam), 1.0F, {0.25F, 1}), IsOk());
  EXPECT_THAT(model.state.second_moment, ElementsAre(FloatEq(0.0625F), FloatEq(19.0F / 64)));
  EXPECT_THAT(model.weights,
              ElementsAre(FloatEq(1.25F), FloatEq(2 + 0.5F / (std::sqrt(19.0F / 64) + 0.25F))));
}

// v moves by d^2 / 4 towards d^2 and never by more: up to 1/16 + 1/4 with d = 1, down to 1/16 -
// 1/256 with d = 1/8, and not at all with d^2 = v.
TEST(FedYogi, MovesTheSecondMomentByTheSquareWhateverItIs) {
  const ServerSpec server = SpecOf(ServerOptimizer::kFedYogi);
  Model model;
  ASSERT_THAT(model.Step(server, 1.0F, {1, 0.125F}), IsOk());
  EXPECT_THAT(model.state.second_moment, ElementsAre(0.3125F, 0.05859375F));
  Model still;
  ASSERT_THAT(still.Step(server, 1.0F, {0.25F, -0.25F}), IsOk());
  EXPECT_THAT(still.state.second_moment, ElementsAre(0.0625F, 0.0625F));
}

// The papers' lines, in double and one parameter at a time.
struct Reference {
  double weight = 0;
  double m = 0;
  double v = 0;
  void Step(const ServerSpec& server, double rate, double d) {
    const double beta1 = server.beta1;
    const double beta2 = server.beta2;
    if (server.optimizer == ServerOptimizer::kFedAvg) {
      weight += rate * d;
      return;
    }
    if (server.optimizer == ServerOptimizer::kFedAvgM) {
      m = beta1 * m + d;
      weight += rate * m;
      return;
    }
    m = beta1 * m + (1 - beta1) * d;
    const double sign = (v > d * d) - (v < d * d);
    if (server.optimizer == ServerOptimizer::kFedAdagrad) v += d * d;
    if (server.optimizer == ServerOptimizer::kFedAdam) v = beta2 * v + (1 - beta2) * d * d;
    if (server.optimizer == ServerOptimizer::kFedYogi) v -= (1 - beta2) * d * d * sign;
    weight += rate * m / (std::sqrt(v) + server.tau);
  }
};

TEST(ServerOptimizer, FollowsItsFormulaOverManyRounds) {
  constexpr size_t kParameters = 50;
  constexpr float kRate = 0.05F;
  for (const ServerOptimizer optimizer : kAll) {
    const ServerSpec server = {.optimizer = optimizer, .beta1 = 0.9F, .beta2 = 0.99F, .tau = 1e-3F};
    TestRng rng(7);
    std::vector<float> weights(kParameters);
    std::vector<Reference> reference(kParameters, {.v = double{server.tau} * server.tau});
    OptimizerState state;
    const std::vector<ParameterRange> shared = {{.begin = 0, .count = kParameters}};
    for (int round = 0; round < 40; ++round) {
      std::vector<float> change(kParameters);
      for (size_t i = 0; i < kParameters; ++i) {
        change[i] = static_cast<float>((2 * UniformUnit(rng) - 1) * std::pow(10, -double(i % 5)));
        reference[i].Step(server, kRate, change[i]);
      }
      ASSERT_THAT(Step({.server = server, .rate = kRate, .shared = shared, .change = change},
                       weights, state),
                  IsOk());
    }
    for (size_t i = 0; i < kParameters; ++i) {
      EXPECT_NEAR(weights[i], reference[i].weight, 1e-5) << static_cast<int>(optimizer) << " " << i;
    }
  }
}

TEST(ServerOptimizer, LeavesPersonalParametersAsTheyAre) {
  for (const ServerOptimizer optimizer : kAll) {
    std::vector<float> weights = {1, 2, 3, 4, 5};
    const std::vector<ParameterRange> shared = {{.begin = 1, .count = 1}, {.begin = 3, .count = 2}};
    const std::vector<float> change = {1, 2, 3};
    OptimizerState state;
    ASSERT_THAT(
        Step({.server = SpecOf(optimizer), .shared = shared, .change = change}, weights, state),
        IsOk());
    EXPECT_EQ(weights[0], 1);
    EXPECT_EQ(weights[2], 3);
    EXPECT_GT(weights[1], 2);
    EXPECT_GT(weights[3], 4);
    EXPECT_GT(weights[4], 5);
    // Each shared parameter has the state of its own place.
    Model alone;
    alone.weights = {4, 5};
    ASSERT_THAT(alone.Step(SpecOf(optimizer), 1.0F, {2, 3}), IsOk());
    EXPECT_EQ(weights[3], alone.weights[0]);
    EXPECT_EQ(weights[4], alone.weights[1]);
  }
}

TEST(ServerOptimizer, ChangesNothingWhenSizesDoNotFit) {
  const ServerSpec server = SpecOf(ServerOptimizer::kFedAdam);
  Model model;
  EXPECT_THAT(model.Step(server, 1.0F, {1}), HasCode(Code::kInvalidArgument));
  model.state.momentum = {1, 2, 3};
  EXPECT_THAT(model.Step(server, 1.0F, {1, 2}), HasCode(Code::kInvalidArgument));
  model.state = {};
  for (const std::vector<ParameterRange>& ranges : std::vector<std::vector<ParameterRange>>{
           {{.begin = 1, .count = 2}},
           {{.begin = 3, .count = 0}},
           {{.begin = 0, .count = UINT64_MAX}},
           {{.begin = 1, .count = 1}, {.begin = 0, .count = 1}}}) {
    model.shared = ranges;
    EXPECT_THAT(model.Step(server, 1.0F, {1, 2}), HasCode(Code::kInvalidArgument));
  }
  EXPECT_THAT(model.weights, ElementsAre(1, 2));
  EXPECT_EQ(model.state, OptimizerState());
}

TEST(ServerOptimizer, NamesTheFieldOfABadValue) {
  EXPECT_THAT(ValidateServerOptimizer({}), IsOk());
  ServerSpec unknown;
  unknown.optimizer = static_cast<ServerOptimizer>(5);
  EXPECT_THAT(ValidateServerOptimizer(unknown),
              HasCodeAndText(Code::kInvalidArgument, "server.optimizer"));
  for (const float bad : {-0.1F, 1.0F, std::numeric_limits<float>::quiet_NaN()}) {
    EXPECT_THAT(ValidateServerOptimizer({.beta1 = bad}),
                HasCodeAndText(Code::kInvalidArgument, "server.beta1"));
    EXPECT_THAT(ValidateServerOptimizer({.beta2 = bad}),
                HasCodeAndText(Code::kInvalidArgument, "server.beta2"));
  }
  for (const float bad : {0.0F, -1.0F, std::numeric_limits<float>::infinity()}) {
    EXPECT_THAT(ValidateServerOptimizer({.tau = bad}),
                HasCodeAndText(Code::kInvalidArgument, "server.tau"));
  }
}

TEST(OptimizerState, ComesBackAsItWasStored) {
  const Bytes owner = {1, 2, 3};
  const OptimizerState empty;
  EXPECT_THAT(DecodeState(owner, EncodeState(owner, empty), 3), HoldsValue(empty));
  const OptimizerState full{.momentum = {1, -2, 0.5F}, .second_moment = {4, 5, 6}};
  EXPECT_THAT(DecodeState(owner, EncodeState(owner, full), 3), HoldsValue(full));
}

TEST(OptimizerState, IsRefusedOfAnotherTaskOrSizeOrWhenDamaged) {
  const Bytes owner = {1, 2, 3};
  const OptimizerState state{.momentum = {1, 2, 3}, .second_moment = {}};
  const Bytes bytes = EncodeState(owner, state);
  EXPECT_THAT(DecodeState(Bytes{1, 2, 4}, bytes, 3), HasCode(Code::kDataLoss));
  EXPECT_THAT(DecodeState(owner, bytes, 2), HasCode(Code::kDataLoss));
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_THAT(DecodeState(owner, BytesView(bytes).first(size), 3), HasCode(Code::kDataLoss));
  }
  Bytes longer = bytes;
  longer.push_back(0);
  EXPECT_THAT(DecodeState(owner, longer, 3), HasCode(Code::kDataLoss));
  Bytes other = bytes;
  other[0] ^= 1U;
  EXPECT_THAT(DecodeState(owner, other, 3), HasCode(Code::kDataLoss));
}

}  // namespace
}  // namespace chorus::learning
