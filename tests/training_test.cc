// A client's training: recipes, schedules, optimisers by steps worked out by hand, and buffers that
// serve one client after another.
#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/limits.h"
#include "learning/learning.h"
#include "matchers.h"
#include "test_rng.h"

namespace chorus::learning {
namespace {

using testing::ElementsAre;
using testing::FloatNear;

// output = w * x + b under squared error: with e = output - target the gradient is (e * x, e).
ModelSpec Line() { return {.inputs = 1, .layers = {{.units = 1}}, .loss = Loss::kSquaredError}; }

// One example, x = 2 and target 1, so that from (0, 0) the first gradient is (-2, -1).
Examples OnePoint() { return {.inputs = 1, .features = {2}, .labels = {}, .targets = {1}}; }

Examples ManyPoints(size_t count, uint64_t seed) {
  TestRng rng(seed);
  Examples examples;
  examples.inputs = 1;
  for (size_t i = 0; i < count; ++i) {
    examples.features.push_back(static_cast<float>(2 * UniformUnit(rng) - 1));
    examples.targets.push_back(static_cast<float>(UniformUnit(rng)));
  }
  return examples;
}

std::vector<size_t> FirstRows(size_t count) {
  std::vector<size_t> rows(count);
  for (size_t i = 0; i < count; ++i) rows[i] = i;
  return rows;
}

// --- recipes -------------------------------------------------------------------------------------

TEST(ValidateTraining, NamesTheFieldThatIsOutOfRange) {
  const auto refuses = [](const TrainingSpec& training, const std::string& text) {
    EXPECT_THAT(ValidateTraining(training), HasCodeAndText(Code::kInvalidArgument, text));
  };
  EXPECT_THAT(ValidateTraining({}), IsOk());
  EXPECT_THAT(ValidateTraining({.held_back_percent = 90}), IsOk());
  EXPECT_THAT(ValidateTraining({.epochs = 0, .steps = 1}), IsOk());
  refuses({.epochs = 0}, "epochs");
  refuses({.epochs = limits::kEpochsMax + 1}, "epochs must be at most");
  refuses({.steps = limits::kStepsMax + 1}, "steps must be at most");
  refuses({.batch_size = 0}, "batch_size");
  refuses({.held_back_percent = 91}, "held_back_percent must be at most 90");
  refuses({.optimizer = static_cast<ClientOptimizer>(3)}, "optimizer");
  refuses({.schedule = static_cast<Schedule>(4)}, "schedule");
  refuses({.schedule = Schedule::kCosine, .decay_rounds = 0}, "decay_rounds");
  const float infinity = std::numeric_limits<float>::infinity();
  const float nan = std::nanf("");
  for (const float rate : {0.0F, -0.0F, -1.0F, infinity, -infinity, nan}) {
    refuses({.learning_rate = rate}, "learning_rate");
    refuses({.optimizer = ClientOptimizer::kAdam, .epsilon = rate}, "epsilon");
  }
  for (const float fraction : {-0.1F, 1.0F, infinity, nan}) {
    refuses({.optimizer = ClientOptimizer::kMomentum, .momentum = fraction}, "momentum");
    refuses({.optimizer = ClientOptimizer::kAdam, .beta1 = fraction}, "beta1");
    refuses({.optimizer = ClientOptimizer::kAdam, .beta2 = fraction}, "beta2");
  }
  for (const float decay : {0.0F, -0.5F, 1.1F, nan}) {
    refuses({.schedule = Schedule::kExponential, .decay = decay}, "decay");
  }
  for (const float bad : {-1.0F, infinity, nan}) {
    refuses({.gradient_l2_norm_max = bad}, "gradient_l2_norm_max");
    refuses({.proximal = bad}, "proximal");
    refuses({.fairness_q = bad}, "fairness_q");
  }
  refuses({.fairness_q = 16.5F}, "fairness_q");
  for (const float bad : {0.0F, -1.0F, 16.5F, NAN}) {
    refuses({.fairness_loss = bad}, "fairness_loss must be between 2^-10 and 16");
  }
}

TEST(ValidateTraining, NamesTheFieldsThatExcludeEachOther) {
  const auto refuses = [](const TrainingSpec& training, const std::string& text) {
    EXPECT_THAT(ValidateTraining(training), HasCodeAndText(Code::kInvalidArgument, text));
  };
  EXPECT_THAT(ValidateTraining({.scaffold = true, .population = 1}), IsOk());
  refuses({.scaffold = true}, "population");
  refuses({.optimizer = ClientOptimizer::kAdam, .scaffold = true, .population = 9}, "sgd");
  refuses({.proximal = 0.1F, .scaffold = true, .population = 9}, "proximal");
  refuses({.scaffold = true, .population = 9, .fairness_q = 1}, "fairness_q");
}

TEST(RateAt, FollowsTheScheduleOverTheRounds) {
  TrainingSpec training{.learning_rate = 0.5F, .decay = 0.25F, .decay_rounds = 10};
  for (const uint64_t round : {uint64_t{0}, uint64_t{1}, uint64_t{1'000'000}}) {
    EXPECT_EQ(RateAt(training, round), 0.5F);
  }
  training.schedule = Schedule::kExponential;
  EXPECT_FLOAT_EQ(RateAt(training, 0), 0.5F);
  EXPECT_FLOAT_EQ(RateAt(training, 5), 0.25F);
  EXPECT_FLOAT_EQ(RateAt(training, 20), 0.03125F);
  EXPECT_GT(RateAt(training, UINT64_MAX), 0);
  training.schedule = Schedule::kInverseSqrt;
  EXPECT_FLOAT_EQ(RateAt(training, 0), 0.5F);
  EXPECT_FLOAT_EQ(RateAt(training, 30), 0.25F);
  training.schedule = Schedule::kCosine;
  EXPECT_FLOAT_EQ(RateAt(training, 0), 0.5F);
  EXPECT_FLOAT_EQ(RateAt(training, 5), 0.25F);
  EXPECT_FLOAT_EQ(RateAt(training, 10), 0.005F);  // and does not rise again
  EXPECT_FLOAT_EQ(RateAt(training, 20), 0.005F);
}

// --- steps by hand -------------------------------------------------------------------------------

// The weights after so many steps on one point from (0, 0).
Weights AfterSteps(TrainingSpec training, uint32_t steps, std::vector<float> correction = {},
                   uint64_t round = 0) {
  training.steps = steps;
  training.learning_rate = 0.1F;
  const Examples examples = OnePoint();
  const std::vector<size_t> rows = {0};
  const Weights anchor = {0, 0};
  Weights weights = anchor;
  TestRng rng(1);
  auto learner = Learner::Create(Line(), training);
  EXPECT_THAT(learner, IsOk());
  EXPECT_THAT((*learner)->Train({.examples = &examples,
                                 .rows = rows,
                                 .round = round,
                                 .anchor = anchor,
                                 .correction = correction},
                                weights, rng, Cancel()),
              IsOk());
  return weights;
}

testing::Matcher<Weights> Are(float w, float b) {
  return ElementsAre(FloatNear(w, 1e-6F), FloatNear(b, 1e-6F));
}

TEST(Learner, TakesTheStepsOfSgd) {
  EXPECT_THAT(AfterSteps({}, 1), Are(0.2F, 0.1F));
  EXPECT_THAT(AfterSteps({}, 2), Are(0.3F, 0.15F));  // the error is halved
}

TEST(Learner, TakesTheStepsOfMomentum) {
  const TrainingSpec training{.optimizer = ClientOptimizer::kMomentum, .momentum = 0.9F};
  EXPECT_THAT(AfterSteps(training, 1), Are(0.2F, 0.1F));
  // The velocity is 0.9 * (-2, -1) + (-1, -0.5).
  EXPECT_THAT(AfterSteps(training, 2), Are(0.48F, 0.24F));
}

TEST(Learner, TakesTheStepsOfAdam) {
  const TrainingSpec training{.optimizer = ClientOptimizer::kAdam};
  // The first step is the rate, whatever the gradient.
  EXPECT_THAT(AfterSteps(training, 1), Are(0.1F, 0.1F));
  // For w: m = -0.32 / 0.19, v = 0.005956 / 0.001999, and m / sqrt(v) = -0.975720; for b, whose
  // gradients are half of it, the same.
  EXPECT_THAT(AfterSteps(training, 2), Are(0.197572F, 0.197572F));
  // An epsilon that counts: 2 / (2 + 1) and 1 / (1 + 1) of the rate.
  EXPECT_THAT(AfterSteps({.optimizer = ClientOptimizer::kAdam, .epsilon = 1}, 1),
              Are(0.1F * 2 / 3, 0.05F));
}

TEST(Learner, ClipsTheGradientOfAMinibatch) {
  const float length = std::sqrt(5.0F);
  EXPECT_THAT(AfterSteps({.gradient_l2_norm_max = 1}, 1), Are(0.2F / length, 0.1F / length));
  EXPECT_THAT(AfterSteps({.gradient_l2_norm_max = 3}, 1), Are(0.2F, 0.1F));
}

TEST(Learner, PullsToWhereTheRoundBegan) {
  EXPECT_THAT(AfterSteps({.proximal = 1}, 1), Are(0.2F, 0.1F));
  EXPECT_THAT(AfterSteps({.proximal = 1}, 2),
              Are(0.28F, 0.14F));  // gradient (-1 + 0.2, -0.5 + 0.1)
  // At rest both gradients cancel: with e = 5 s - 1 along (2, 1) s, mu * s = 1 - 5 s.
  for (const float mu : {0.5F, 5.0F}) {
    const float s = 1 / (5 + mu);
    EXPECT_THAT(AfterSteps({.proximal = mu}, 500), Are(2 * s, s));
  }
}

TEST(Learner, AddsTheCorrectionToEveryGradient) {
  EXPECT_THAT(AfterSteps({}, 1, {0.5F, -0.25F}), Are(0.15F, 0.125F));
  // Behind the clip: it is of the minibatch's gradient alone.
  const float length = std::sqrt(5.0F);
  EXPECT_THAT(AfterSteps({.gradient_l2_norm_max = 1}, 1, {0.5F, -0.25F}),
              Are(0.2F / length - 0.05F, 0.1F / length + 0.025F));
}

TEST(Learner, TakesTheRateOfTheRound) {
  const TrainingSpec training{.schedule = Schedule::kExponential, .decay = 0.5F};
  EXPECT_THAT(AfterSteps(training, 1, {}, 0), Are(0.2F, 0.1F));
  EXPECT_THAT(AfterSteps(training, 1, {}, 2), Are(0.05F, 0.025F));
}

TEST(Learner, PullsAndCorrectsNoPersonalLayer) {
  const ModelSpec model{
      .inputs = 1,
      .layers = {{.units = 2, .activation = Activation::kTanh}, {.units = 1, .personal = true}},
      .loss = Loss::kSquaredError};
  constexpr size_t kShared = 4;
  const Examples examples = OnePoint();
  const std::vector<size_t> rows = {0};
  const Weights begin = {0.1F, -0.2F, 0.3F, 0.4F, 0.5F, -0.6F, 0.7F};
  const auto after = [&](TrainingSpec training, std::span<const float> anchor,
                         std::span<const float> correction) {
    training.steps = 1;
    training.learning_rate = 0.25F;
    auto learner = Learner::Create(model, training);
    Weights weights = begin;
    TestRng rng(1);
    EXPECT_THAT(
        (*learner)->Train(
            {.examples = &examples, .rows = rows, .anchor = anchor, .correction = correction},
            weights, rng, Cancel()),
        IsOk());
    return weights;
  };
  const Weights plain = after({}, {}, {});
  // What was published of everything is far away, and what is shared alone is pulled there.
  Weights far = begin;
  for (float& value : far) value += 8;
  const Weights pulled = after({.proximal = 0.5F}, far, {});
  const std::vector<float> correction = {1, 2, 3, 4};
  const Weights corrected = after({}, {}, correction);
  for (size_t i = 0; i < begin.size(); ++i) {
    const bool shared = i < kShared;
    EXPECT_NEAR(pulled[i], plain[i] + (shared ? 0.25F * 0.5F * 8 : 0), 1e-5) << i;
    EXPECT_NEAR(corrected[i], plain[i] - (shared ? 0.25F * correction[i] : 0), 1e-5) << i;
  }
}

// --- amounts, rows, buffers ----------------------------------------------------------------------

Result<uint64_t> TrainOn(Learner& learner, const Examples& examples, std::span<const size_t> rows,
                         Weights& weights, uint64_t seed) {
  TestRng rng(seed);
  const Weights anchor = weights;
  return learner.Train({.examples = &examples, .rows = rows, .anchor = anchor}, weights, rng,
                       Cancel());
}

TEST(Learner, CountsEpochsOrStepsInMinibatches) {
  const Examples examples = ManyPoints(23, 2);
  const auto steps = [&](TrainingSpec training) {
    training.batch_size = 5;
    auto learner = Learner::Create(Line(), training);
    Weights weights(2);
    return *TrainOn(**learner, examples, FirstRows(23), weights, 3);
  };
  EXPECT_EQ(steps({.epochs = 1}), 5U);
  EXPECT_EQ(steps({.epochs = 3}), 15U);
  EXPECT_EQ(steps({.epochs = 3, .steps = 7}), 7U);
  EXPECT_EQ(steps({.epochs = 0, .steps = 70}), 70U);
}

TEST(Learner, TrainsByStepsAsByEpochsOfAsMany) {
  const Examples examples = ManyPoints(23, 4);
  const auto weights_of = [&](TrainingSpec training) {
    training.batch_size = 5;
    auto learner = Learner::Create(Line(), training);
    Weights weights(2);
    EXPECT_THAT(TrainOn(**learner, examples, FirstRows(23), weights, 5), IsOk());
    return weights;
  };
  EXPECT_EQ(weights_of({.epochs = 3}), weights_of({.epochs = 0, .steps = 15}));
  EXPECT_NE(weights_of({.epochs = 3}), weights_of({.epochs = 0, .steps = 14}));
}

// Counts what is drawn.
class CountingRng final : public Rng {
 public:
  void Fill(std::span<uint8_t> out) override {
    ++fills;
    rng_.Fill(out);
  }
  size_t fills = 0;

 private:
  TestRng rng_{10};
};

// A clock that moves a millisecond each time somebody looks.
class CountingClock final : public Clock {
 public:
  Time Now() const override { return Time(++looks); }
  int64_t UnixSeconds() const override { return 0; }
  mutable int64_t looks = 0;
};

TEST(Learner, StopsWithinOneMinibatchOfTheEndOfItsRound) {
  const Examples examples = ManyPoints(6, 12);
  const std::vector<size_t> rows = FirstRows(6);
  const Cancel cancel;
  for (const int64_t until : {0, 2, 3}) {  // of three minibatches
    auto learner = Learner::Create(Line(), {.batch_size = 2});
    Weights weights(2);
    TestRng rng(13);
    CountingClock clock;
    const Result<uint64_t> trained = (*learner)->Train(
        {.examples = &examples, .rows = rows}, weights, rng, Stop(cancel, &clock, Time(until)));
    if (until == 3) {
      EXPECT_THAT(trained, HoldsValue(3U));
    } else {
      EXPECT_THAT(trained, HasCodeAndText(Code::kDeadlineExceeded, "training took longer"));
      EXPECT_EQ(clock.looks, until + 1);
    }
  }
  CountingClock clock;
  auto learner = Learner::Create(Line(), {});
  EXPECT_THAT((*learner)->Evaluate(examples, rows, Weights(2), Stop(cancel, &clock, Time(0))),
              HasCode(Code::kDeadlineExceeded));
}

TEST(Learner, DrawsTheOrderAnewEachTimeThatAllRowsWereUsed) {
  const Examples examples = ManyPoints(5, 11);
  const auto draws = [&](TrainingSpec training) {
    training.batch_size = 2;
    auto learner = Learner::Create(Line(), training);
    Weights weights(2);
    CountingRng rng;
    const std::vector<size_t> rows = FirstRows(5);
    EXPECT_THAT((*learner)->Train({.examples = &examples, .rows = rows}, weights, rng, Cancel()),
                IsOk());
    return rng.fills;
  };
  // Four draws put five rows in an order; one that is rejected has a chance below 2^-60.
  EXPECT_EQ(draws({.epochs = 1}), 4U);
  EXPECT_EQ(draws({.epochs = 3}), 12U);
  EXPECT_EQ(draws({.steps = 4}), 8U);  // three minibatches are all rows
}

TEST(Learner, TrainsOnItsRowsAlone) {
  const Examples all = ManyPoints(30, 6);
  Examples some;
  some.inputs = 1;
  std::vector<size_t> rows;
  for (size_t i = 1; i < 30; i += 3) {
    rows.push_back(i);
    some.features.push_back(all.features[i]);
    some.targets.push_back(all.targets[i]);
  }
  auto learner = Learner::Create(Line(), {.epochs = 3, .batch_size = 4});
  Weights by_rows(2);
  Weights picked(2);
  ASSERT_THAT(TrainOn(**learner, all, rows, by_rows, 7), IsOk());
  ASSERT_THAT(TrainOn(**learner, some, FirstRows(10), picked, 7), IsOk());
  EXPECT_EQ(by_rows, picked);
  const Cancel cancel;
  const auto here = (*learner)->Evaluate(all, rows, picked, cancel);
  const auto there = (*learner)->Evaluate(some, FirstRows(10), picked, cancel);
  EXPECT_EQ(here->count, 10U);
  EXPECT_EQ(here->loss, there->loss);
}

TEST(Learner, LeavesNothingOfOneClientForTheNext) {
  for (const ClientOptimizer optimizer :
       {ClientOptimizer::kSgd, ClientOptimizer::kMomentum, ClientOptimizer::kAdam}) {
    for (const float clip : {0.0F, 0.5F}) {
      const TrainingSpec training{
          .epochs = 2, .batch_size = 8, .optimizer = optimizer, .gradient_l2_norm_max = clip};
      auto used = Learner::Create(Line(), training);
      // Clients of fewer and more examples than the last, so that buffers grow between.
      for (const size_t count : {3U, 20U, 1U, 9U}) {
        const Examples examples = ManyPoints(count, count);
        Weights weights(2);
        ASSERT_THAT(TrainOn(**used, examples, FirstRows(count), weights, count), IsOk());
        auto fresh = Learner::Create(Line(), training);
        Weights right(2);
        ASSERT_THAT(TrainOn(**fresh, examples, FirstRows(count), right, count), IsOk());
        EXPECT_EQ(weights, right);
      }
    }
  }
}

TEST(Learner, RefusesWhatIsOfAnotherSize) {
  auto learner = Learner::Create(Line(), {.proximal = 1});
  const Examples examples = ManyPoints(4, 8);
  const std::vector<size_t> rows = FirstRows(4);
  const Weights anchor(2);
  TestRng rng(9);
  const auto refuses = [&](const LocalTraining& local, size_t dim) {
    Weights weights(dim, 0.5F);
    EXPECT_THAT((*learner)->Train(local, weights, rng, Cancel()), HasCode(Code::kInvalidArgument));
    EXPECT_EQ(weights, Weights(dim, 0.5F));
  };
  const std::vector<float> short_correction = {1};
  refuses({.examples = &examples, .rows = rows, .anchor = anchor}, 3);
  refuses({.examples = &examples, .rows = {}, .anchor = anchor}, 2);
  refuses({.examples = &examples, .rows = rows}, 2);
  refuses({.examples = &examples, .rows = rows, .anchor = anchor, .correction = short_correction},
          2);
  EXPECT_THAT((*learner)->Evaluate(examples, rows, Weights(3), Cancel()),
              HasCode(Code::kInvalidArgument));
  EXPECT_THAT(Learner::Create({}, {}), HasCode(Code::kInvalidArgument));
  EXPECT_THAT(Learner::Create(Line(), {.epochs = 0}), HasCode(Code::kInvalidArgument));
}

TEST(Learner, AbortsWhenAGradientHasNoLength) {
  auto learner =
      Learner::Create(Line(), {.learning_rate = 1e30F, .steps = 9, .gradient_l2_norm_max = 1e38F});
  Weights weights(2);
  EXPECT_THAT(TrainOn(**learner, OnePoint(), FirstRows(1), weights, 1),
              HasCodeAndText(Code::kAborted, "lower the learning rate"));
}

// --- held-back examples --------------------------------------------------------------------------

TEST(HoldBack, GivesEveryExampleToExactlyOneSideInOrder) {
  for (const size_t count : {10U, 11U, 99U, 250U}) {
    for (const uint32_t percent : {0U, 1U, 10U, 33U, 90U}) {
      TestRng rng(count * 100 + percent);
      const Split split = HoldBack(count, percent, rng);
      EXPECT_EQ(split.held_back.size(), count * percent / 100);
      EXPECT_EQ(split.train.size() + split.held_back.size(), count);
      EXPECT_TRUE(std::is_sorted(split.train.begin(), split.train.end()));
      EXPECT_TRUE(std::is_sorted(split.held_back.begin(), split.held_back.end()));
      std::set<size_t> all(split.train.begin(), split.train.end());
      all.insert(split.held_back.begin(), split.held_back.end());
      EXPECT_EQ(all.size(), count);
      EXPECT_EQ(*all.rbegin(), count - 1);
    }
  }
}

TEST(HoldBack, IsStableForOneSeedAndDiffersByAnother) {
  const auto held_back = [](uint64_t seed) {
    TestRng rng(seed);
    return HoldBack(200, 10, rng).held_back;
  };
  EXPECT_EQ(held_back(1), held_back(1));
  EXPECT_NE(held_back(1), held_back(2));
}

TEST(HoldBack, NeverTakesEverythingNorAnyOfFewerThanTen) {
  TestRng rng(23);
  EXPECT_EQ(HoldBack(9, 50, rng).train.size(), 9U);
  EXPECT_EQ(HoldBack(100, UINT32_MAX, rng).train.size(), 10U);
  EXPECT_TRUE(HoldBack(0, 50, rng).train.empty());
}

}  // namespace
}  // namespace chorus::learning
