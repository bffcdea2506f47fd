// What a device gives to a sum, with several devices and a server in memory: through the encoding,
// the sum and the outcome of production.
#include <algorithm>
#include <bit>
#include <cmath>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "client/device_state.h"
#include "client/training.h"
#include "coordinator/outcome.h"
#include "learning/learning.h"
#include "matchers.h"
#include "math/math.h"
#include "test_rng.h"

namespace chorus::client {
namespace {

using learning::FairnessScale;
using testing::Each;
using testing::FloatNear;
using testing::Pointwise;

// output = w * x + b under squared error.
ModelSpec Line() { return {.inputs = 1, .layers = {{.units = 1}}, .loss = Loss::kSquaredError}; }

// Points at -x and x on the line of slope w through `offset`: curvature x^2 along w and 1 along b.
Examples PointsOnLine(float x, float w, float offset = 0, size_t pairs = 2) {
  Examples examples;
  examples.inputs = 1;
  for (size_t i = 0; i < pairs; ++i) {
    for (const float sign : {-1.0F, 1.0F}) {
      examples.features.push_back(sign * x);
      examples.targets.push_back(offset + w * sign * x);
    }
  }
  return examples;
}

TaskSpec LineTask() {
  TaskSpec task;
  task.name = "line";
  task.model = Line();
  task.training = {.batch_size = 100, .learning_rate = 0.1F, .held_back_percent = 0, .steps = 20};
  task.clip.update_l2_norm_max = 8;
  task.encoding = {.bound = 1U << 22U, .examples_max = 8};
  return task;
}

struct Device {
  Examples examples;
  std::optional<DeviceRecord> record;
};

// A task's devices and what they hear.
class Federation {
 public:
  Federation(TaskSpec task, std::vector<Examples> examples) : task_(std::move(task)), rng_(1) {
    for (Examples& own : examples) devices.push_back({std::move(own), std::nullopt});
    Begin(Weights(learning::ParameterCount(task_.model)));
    encoding_ = *math::FixedPointFor(learning::ContributionDim(task_), task_.clip, task_.encoding,
                                     task_.cohort.maximum);
  }

  // One round over some of the devices: the mean contribution. The server goes on from it.
  std::vector<float> Round(std::span<const size_t> who) {
    Sum sum{math::ZeroVector(encoding_.vector_dim(), encoding_.bits), 0};
    ++round_;
    for (const size_t i : who) {
      Device& device = devices[i];
      Result<Trained> trained = Train(device);
      if (!trained.ok()) {
        ADD_FAILURE() << trained.status().message();
        return {};
      }
      EXPECT_THAT(
          math::AddPacked(sum.values, math::Pack(trained->vector, encoding_.bits), encoding_.bits),
          IsOk());
      ++sum.contributors;
      device.record = std::move(trained->record);
    }
    math::ReduceBits(sum.values, encoding_.bits);
    std::vector<float> mean = math::Decode(encoding_, sum)->update;
    coordinator::CohortSums sums(task_);
    EXPECT_THAT(sums.Add(std::move(sum), server_.version), IsOk());
    RoundReport report;
    Result<coordinator::NextModel> next = coordinator::ComputeNext(task_, server_, sums, report);
    EXPECT_THAT(next, IsOk());
    if (next.ok()) server_ = std::move(next->state);
    return mean;
  }
  void Run(std::span<const size_t> who, uint32_t rounds) {
    for (uint32_t i = 0; i < rounds; ++i) Round(who);
  }

  Result<Trained> Train(const Device& device) {
    const learning::Split split =
        learning::HoldBack(device.examples.count(), task_.training.held_back_percent, rng_);
    return TrainAndEncode({.task = &task_,
                           .encoding = &encoding_,
                           .examples = &device.examples,
                           .split = &split,
                           .published = server_.published,
                           .round = round_,
                           .record = device.record.has_value() ? &*device.record : nullptr,
                           .draws = &rng_,
                           .cancel = &cancel_,
                           .buffers = &buffers_});
  }

  std::vector<size_t> All() const {
    std::vector<size_t> all(devices.size());
    for (size_t i = 0; i < all.size(); ++i) all[i] = i;
    return all;
  }

  const std::vector<float>& published() const { return server_.published; }
  void Begin(Weights weights) { server_ = coordinator::FirstState(task_, std::move(weights)); }

  void Publish(std::vector<float> all) { server_.published = std::move(all); }

  std::vector<Device> devices;

 private:
  const TaskSpec task_;
  TestRng rng_;
  coordinator::ServerState server_;
  math::FixedPoint encoding_;
  Cancel cancel_;
  TrainingBuffers buffers_;
  uint64_t round_ = 0;
};

// Two devices whose slopes differ, and of which the steeper curve reaches its own within a round.
std::vector<Examples> TwoCurvatures() { return {PointsOnLine(3, 1), PointsOnLine(0.5F, -1)}; }
// Where the sum of both losses is least: (9 * 1 - 0.25 * 1) / 9.25.
constexpr float kLeastOfSum = 8.75F / 9.25F;
// Where the mean of both updates is zero: a step shrinks the distance to the own slope by 1 - 0.1 *
// 9 and 1 - 0.1 * 0.25, twenty of them by (0.1)^20 and 0.6027.
constexpr float kLeastOfDrift = (1 - 0.3973F) / (1 + 0.3973F);

TEST(LocalTraining, DriftsWithoutScaffold) {
  Federation federation(LineTask(), TwoCurvatures());
  federation.Run(federation.All(), 60);
  EXPECT_NEAR(federation.published()[0], kLeastOfDrift, 2e-3);
  EXPECT_NEAR(federation.published()[1], 0, 1e-3);
}

float MeanControl(const Federation& federation, size_t i) {
  float sum = 0;
  for (const Device& device : federation.devices) {
    if (device.record.has_value()) sum += device.record->control.get()[i];
  }
  return sum / static_cast<float>(federation.devices.size());
}

TaskSpec ScaffoldTask(uint32_t population) {
  TaskSpec task = LineTask();
  task.training.scaffold = true;
  task.training.population = population;
  return task;
}

TEST(LocalTraining, DoesNotDriftWithScaffold) {
  Federation federation(ScaffoldTask(2), TwoCurvatures());
  federation.Run(federation.All(), 200);
  EXPECT_NEAR(federation.published()[0], kLeastOfSum, 2e-3);
  EXPECT_NEAR(federation.published()[1], 0, 2e-3);
}

TEST(LocalTraining, DoesNotDriftWithScaffoldOverAFewAtATime) {
  std::vector<Examples> four = TwoCurvatures();
  for (Examples& examples : TwoCurvatures()) four.push_back(std::move(examples));
  Federation federation(ScaffoldTask(4), std::move(four));
  TestRng rng(2);
  for (int i = 0; i < 800; ++i) {
    const std::vector<size_t> who = {UniformBelow(rng, 2), 2 + UniformBelow(rng, 2)};
    federation.Round(who);
    // The server's is the mean of all clients', whatever has been clipped and rounded.
    for (size_t j = 0; j < 2; ++j) {
      ASSERT_NEAR(federation.published()[2 + j], MeanControl(federation, j), 2e-4) << "round " << i;
    }
  }
  EXPECT_NEAR(federation.published()[0], kLeastOfSum, 5e-3);
}

TEST(LocalTraining, GivesTheChangeOfOptionTwo) {
  TaskSpec task = ScaffoldTask(1);
  task.training.steps = 1;
  // The gradient at (0, 0) is (-1, -2).
  Federation federation(task, {PointsOnLine(1, 1, 2)});
  federation.Publish({0, 0, 0.5F, 0.25F});
  federation.devices[0].record.emplace();
  federation.devices[0].record->control = PrivateWeights({0.1F, -0.2F});
  const std::vector<size_t> one = {0};
  const std::vector<float> mean = federation.Round(one);
  // A step of 0.1 against the gradient less the device's variate plus the server's.
  EXPECT_NEAR(mean[0], 0.1 * (1 + 0.1 - 0.5), 1e-5);
  EXPECT_NEAR(mean[1], 0.1 * (2 - 0.2 - 0.25), 1e-5);
  // After one step the new variate is the gradient itself.
  EXPECT_THAT(federation.devices[0].record->control.get(),
              testing::ElementsAre(FloatNear(-1, 1e-4F), FloatNear(-2, 1e-4F)));
  EXPECT_NEAR(mean[2], 0.1 * (-1 - 0.1), 1e-5);
  EXPECT_NEAR(mean[3], 0.1 * (-2 + 0.2), 1e-5);
  // The server's own step of its variate, over its only client.
  EXPECT_NEAR(federation.published()[2], 0.5 - 1.1, 1e-4);
  EXPECT_NEAR(federation.published()[3], 0.25 - 1.8, 1e-4);
}

TEST(LocalTraining, KeepsBothHalvesOfScaffoldWithinTheClip) {
  TaskSpec task = ScaffoldTask(2);
  task.clip.update_l2_norm_max = 0.5F;
  Federation federation(task, TwoCurvatures());
  const std::vector<size_t> one = {0};
  const std::vector<float> mean = federation.Round(one);
  const float half = 0.5F * std::sqrt(0.5F);
  // Both are cut: the device went a whole unit, and its gradients' mean is of that order.
  EXPECT_NEAR(std::hypot(mean[0], mean[1]), half, 1e-5);
  EXPECT_NEAR(std::hypot(mean[2], mean[3]), half, 1e-5);
  const float scale = learning::ControlScale(task);
  EXPECT_FLOAT_EQ(scale, 2);
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_NEAR(federation.devices[0].record->control.get()[i], mean[2 + i] / scale, 1e-5);
  }
}

TEST(ControlScale, IsTheRateTimesTheStepsOfAClient) {
  TaskSpec task = ScaffoldTask(2);
  EXPECT_FLOAT_EQ(learning::ControlScale(task), 2);
  task.training.steps = 0;
  task.training.epochs = 3;
  task.training.batch_size = 3;
  EXPECT_FLOAT_EQ(learning::ControlScale(task), 0.1F * 3 * 3);  // 8 examples are three minibatches
  task.training.scaffold = false;
  EXPECT_EQ(learning::ControlScale(task), 0);
}

// --- q-FedAvg ------------------------------------------------------------------------------------

TaskSpec FairTask(float q) {
  TaskSpec task = LineTask();
  task.training.fairness_q = q;
  return task;
}

TEST(LocalTraining, GivesTheUpdateAndTheWeightOfQFedAvg) {
  for (const float q : {0.5F, 1.0F, 2.0F}) {
    // On one device, so that the mean is its own: from (0, 0) towards b = 2, which 20 steps of 0.1
    // near by 1 - 0.9^20; the loss there is 2.
    Federation federation(FairTask(q), {PointsOnLine(0, 0, 2)});
    const std::vector<size_t> one = {0};
    const std::vector<float> mean = federation.Round(one);
    const double update = 2 * (1 - std::pow(0.9, 20));
    const double weight = std::pow(2.0, q);
    const double h = weight + q * std::pow(2.0, q - 1) * update * update / 0.1;
    const double scale = FairnessScale(FairTask(q));
    EXPECT_FLOAT_EQ(static_cast<float>(scale), 8 * 0.5F / (1 + q * 64 / 0.1F));
    // Direction and weight keep their ratio where the clip cuts both.
    const double ratio = weight * update / (h * scale);
    EXPECT_NEAR(mean[1] / mean[2], ratio, 1e-3 * ratio);
    const double norm = std::hypot(weight * update, h * scale);
    EXPECT_NEAR(mean[1], weight * update * std::min(1.0, 8 / norm), 1e-4);
    EXPECT_EQ(mean[0], 0);
  }
}

// Under default values, with h far above 16, where a fixed share of the clip for an h of one would
// make all devices send the same.
TEST(LocalTraining, LetsWeightsFollowLossesWhereHIsLarge) {
  constexpr double kQ = 8;
  TaskSpec task = FairTask(kQ);
  task.clip = {};
  const auto sends = [&](float offset) {
    Federation federation(task, {PointsOnLine(0, 0, offset)});
    return federation.Round(std::vector<size_t>{0});
  };
  // From (0, 0) towards b = offset: a loss of offset^2 / 2, and a part of it as the update.
  task.training.steps = 8;
  const auto h_of = [&](double offset) {
    const double update = offset * (1 - std::pow(0.9, 8));
    const double loss = offset * offset / 2;
    return std::pow(loss, kQ) * (1 + kQ * update * update / (0.1 * loss));
  };
  ASSERT_GT(h_of(1.4), 16);
  const std::vector<float> high = sends(1.4F);
  const std::vector<float> low = sends(1.3F);
  const double scale = FairnessScale(task);
  EXPECT_NEAR(high[2] / scale, h_of(1.4), 0.01 * h_of(1.4));
  EXPECT_NEAR(low[2] / scale, h_of(1.3), 0.01 * h_of(1.3));
  EXPECT_GT(high[2] / low[2], 3);  // (1.4 / 1.3)^16
}

// What all losses are measured by cancels.
TEST(LocalTraining, MovesByTheSameUnderAnyReferenceLoss) {
  const auto moved = [](float reference) {
    TaskSpec task = FairTask(2);
    task.training.fairness_loss = reference;
    Federation federation(task, {PointsOnLine(0, 0, 1), PointsOnLine(0, 0, 0.5F)});
    federation.Round(federation.All());
    return federation.published()[1];
  };
  EXPECT_NEAR(moved(0.5F), moved(1), 1e-3);
  EXPECT_NEAR(moved(2), moved(1), 1e-3);
}

TEST(LocalTraining, StaysWithinTheClipUnderTheLargestWeights) {
  TaskSpec task = FairTask(16);
  task.training.fairness_loss = 0x1p-10F;
  Federation federation(task, {PointsOnLine(0, 0, 6)});  // a loss cut to 16
  const std::vector<float> mean = federation.Round(std::vector<size_t>{0});
  ASSERT_EQ(mean.size(), 3U);
  EXPECT_NEAR(std::hypot(mean[1], mean[2]), 8, 1e-3);
}

// Where q-FedAvg ends for three devices at b = 0 and one at b = 1.
float FairEnd(float q) {
  Federation federation(FairTask(q), {PointsOnLine(0, 0, 0), PointsOnLine(0, 0, 0),
                                      PointsOnLine(0, 0, 0), PointsOnLine(0, 0, 1)});
  federation.Run(federation.All(), 300);
  return federation.published()[1];
}

TEST(LocalTraining, MakesLossesMoreEqualWithQFedAvg) {
  // The least of 3 F1^(q + 1) + F2^(q + 1) with F1 = b^2 / 2, F2 = (1 - b)^2 / 2 is where
  // (1 - b) / b = 3^(1 / (2 q + 1)).
  EXPECT_NEAR(FairEnd(0), 0.25, 1e-3);
  EXPECT_NEAR(FairEnd(1), 1 / (1 + std::pow(3.0, 1.0 / 3)), 2e-3);
  EXPECT_NEAR(FairEnd(2), 1 / (1 + std::pow(3.0, 1.0 / 5)), 5e-3);
}

// --- personal layers -----------------------------------------------------------------------------

// A shared hidden layer and a personal head.
TaskSpec PersonalTask() {
  TaskSpec task = LineTask();
  task.name = "personal";
  task.model = {
      .inputs = 1,
      .layers = {{.units = 3, .activation = Activation::kTanh}, {.units = 1, .personal = true}},
      .loss = Loss::kSquaredError};
  return task;
}
constexpr size_t kSharedNumbers = 6;
constexpr size_t kPersonalNumbers = 4;

TEST(LocalTraining, SendsNothingOfPersonalLayers) {
  const TaskSpec task = PersonalTask();
  ASSERT_EQ(learning::ContributionDim(task), kSharedNumbers);
  ASSERT_EQ(learning::PublishedCount(task), kSharedNumbers + kPersonalNumbers);
  Federation federation(task, {PointsOnLine(1, 1, 0.5F)});
  TestRng rng(3);
  federation.Begin(learning::InitialWeights(task.model, rng));
  const Result<Trained> trained = federation.Train(federation.devices[0]);
  ASSERT_THAT(trained, IsOk());
  EXPECT_EQ(math::DimOf(trained->vector), kSharedNumbers + math::kMetricCoordinates);
  ASSERT_TRUE(trained->record.has_value());
  const Weights& personal = trained->record->personal.get();
  ASSERT_EQ(personal.size(), kPersonalNumbers);
  // None of the integers sent is one of the personal layers' values or changes, encoded.
  const double unit = (1U << 22U) / 8.0 * 4 / 8;
  for (size_t i = 0; i < kPersonalNumbers; ++i) {
    EXPECT_NE(personal[i], federation.published()[kSharedNumbers + i]);  // they were trained
    for (uint64_t j = 0; j < kSharedNumbers; ++j) {
      const auto sent = static_cast<double>(math::SignedAt(trained->vector, j, 26));
      EXPECT_GT(std::abs(sent - personal[i] * unit), 1);
      EXPECT_GT(std::abs(sent - (personal[i] - federation.published()[kSharedNumbers + i]) * unit),
                1);
    }
  }
}

TEST(LocalTraining, GoesOnFromItsOwnPersonalLayers) {
  // Opposite slopes: no one head serves both, each device's own does.
  Federation federation(PersonalTask(), {PointsOnLine(1, 1), PointsOnLine(1, -1)});
  TestRng rng(4);
  federation.Begin(learning::InitialWeights(PersonalTask().model, rng));
  const Weights head(federation.published().begin() + kSharedNumbers, federation.published().end());
  federation.Run(federation.All(), 40);
  // What is published of a personal layer stays as it began.
  EXPECT_TRUE(
      std::equal(head.begin(), head.end(), federation.published().begin() + kSharedNumbers));
  for (const Device& device : federation.devices) {
    Weights own = federation.published();
    std::copy(device.record->personal.get().begin(), device.record->personal.get().end(),
              own.begin() + kSharedNumbers);
    const auto personal = learning::Evaluate(PersonalTask().model, device.examples, own, Cancel());
    const auto common =
        learning::Evaluate(PersonalTask().model, device.examples, federation.published(), Cancel());
    EXPECT_LT(personal->loss, 0.01);
    EXPECT_GT(common->loss, 0.05);
  }
}

TEST(LocalTraining, EvaluatesWithItsOwnPersonalLayers) {
  TaskSpec task = PersonalTask();
  task.training.held_back_percent = 50;
  Federation federation(task, {PointsOnLine(1, 1, 0, 10)});
  TestRng rng(5);
  federation.Begin(learning::InitialWeights(task.model, rng));
  const auto loss = [&] {
    Result<Trained> trained = federation.Train(federation.devices[0]);
    EXPECT_THAT(trained, IsOk());
    return math::SignedAt(trained->vector, kSharedNumbers + 3, 26);
  };
  const int64_t before = loss();
  federation.devices[0].record.emplace();
  // A head of zeros but for a bias of 5 is wrong by about 5 everywhere.
  federation.devices[0].record->personal = PrivateWeights({0, 0, 0, 5});
  EXPECT_GT(loss(), 5 * before);
}

TEST(LocalTraining, KeepsNothingForOtherTasks) {
  Federation federation(LineTask(), {PointsOnLine(1, 1)});
  const Result<Trained> trained = federation.Train(federation.devices[0]);
  ASSERT_THAT(trained, IsOk());
  EXPECT_FALSE(trained->record.has_value());
  EXPECT_FALSE(KeepsRecord(LineTask()));
  EXPECT_TRUE(KeepsRecord(PersonalTask()));
  EXPECT_TRUE(KeepsRecord(ScaffoldTask(2)));
}

TEST(LocalTraining, AbortsWhenTrainingDiverged) {
  for (const bool scaffold : {false, true}) {
    TaskSpec task = scaffold ? ScaffoldTask(1) : LineTask();
    task.training.learning_rate = 1e20F;
    Federation federation(task, {PointsOnLine(3, 1)});
    EXPECT_THAT(federation.Train(federation.devices[0]), HasCode(Code::kAborted));
  }
}

// --- the host's own engine -----------------------------------------------------------------------

class FixedTrainer final : public Trainer {
 public:
  Status Accept(const TaskSpec&) override { return OkStatus(); }
  Result<TrainedUpdate> Train(const TaskSpec&, uint64_t round, std::span<const float> weights,
                              const Cancel&) override {
    seen_round = round;
    seen_weights.assign(weights.begin(), weights.end());
    if (!failure.ok()) return failure;
    return result;
  }
  TrainedUpdate result{.update = {3, -4}, .examples = 8};
  Status failure;
  uint64_t seen_round = 0;
  Weights seen_weights;
};

Result<Trained> TrainWith(FixedTrainer& trainer, const TaskSpec& task) {
  const auto encoding =
      *math::FixedPointFor(learning::ContributionDim(task), task.clip, task.encoding, 4);
  TestRng rng(6);
  const Cancel cancel;
  TrainingBuffers buffers;
  const std::vector<float> published(learning::PublishedCount(task), 0.5F);
  return TrainByHost(trainer, {.task = &task,
                               .encoding = &encoding,
                               .published = published,
                               .round = 7,
                               .draws = &rng,
                               .cancel = &cancel,
                               .buffers = &buffers});
}

TEST(TrainByHost, EncodesTheUpdateWithinTheClip) {
  FixedTrainer trainer;
  trainer.result.evaluated = 4;
  trainer.result.accuracy = 0.5;
  trainer.result.loss = 2;
  TaskSpec task = LineTask();
  for (const float clip : {8.0F, 2.5F}) {
    task.clip.update_l2_norm_max = clip;
    const Result<Trained> trained = TrainWith(trainer, task);
    ASSERT_THAT(trained, IsOk());
    EXPECT_EQ(trainer.seen_round, 7U);
    EXPECT_THAT(trainer.seen_weights, Each(0.5F));
    const double unit = (1U << 22U) / static_cast<double>(clip) * std::min(1.0F, clip / 5);
    EXPECT_NEAR(static_cast<double>(math::SignedAt(trained->vector, 0, 25)), 3 * unit, 1.5);
    EXPECT_NEAR(static_cast<double>(math::SignedAt(trained->vector, 1, 25)), -4 * unit, 1.5);
    EXPECT_EQ(math::SignedAt(trained->vector, 2, 25), 8);
    EXPECT_EQ(math::SignedAt(trained->vector, 3, 25), 4);
    EXPECT_EQ(math::SignedAt(trained->vector, 4, 25), 2);
  }
}

TEST(TrainByHost, RefusesResultsThatCannotBe) {
  const auto refuses = [](const TrainedUpdate& result, const std::string& text) {
    FixedTrainer trainer;
    trainer.result = result;
    EXPECT_THAT(TrainWith(trainer, LineTask()), HasCodeAndText(Code::kInvalidArgument, text));
  };
  const float infinity = std::numeric_limits<float>::infinity();
  refuses({.update = {1}, .examples = 1}, "an update of 1 numbers; the model has 2");
  refuses({.update = {1, 2, 3}, .examples = 1}, "an update of 3 numbers");
  refuses({.update = {1, infinity}, .examples = 1}, "not finite");
  refuses({.update = {std::nanf(""), 1}, .examples = 1}, "not finite");
  refuses({.update = {1, 2}, .examples = 0}, "no examples");
  refuses({.update = {1, 2}, .examples = 1, .accuracy = 1.5}, "accuracy");
  refuses({.update = {1, 2}, .examples = 1, .accuracy = std::nan("")}, "accuracy");
  refuses({.update = {1, 2}, .examples = 1, .loss = -1}, "loss");
  refuses({.update = {1, 2}, .examples = 1, .loss = std::nan("")}, "loss");
}

TEST(TrainByHost, GivesTheFailureOfTheHost) {
  FixedTrainer trainer;
  trainer.failure = Unavailable("the engine sleeps");
  EXPECT_THAT(TrainWith(trainer, LineTask()),
              HasCodeAndText(Code::kUnavailable, "the engine sleeps"));
}

TEST(TrainByHost, SendsNothingOfPersonalLayers) {
  FixedTrainer trainer;
  trainer.result.update = {1, 2, 3, 4, 5, 6, 70, 80, 90, 100};
  TaskSpec task = PersonalTask();
  task.clip.update_l2_norm_max = 10;
  const Result<Trained> trained = TrainWith(trainer, task);
  ASSERT_THAT(trained, IsOk());
  ASSERT_EQ(math::DimOf(trained->vector), kSharedNumbers + math::kMetricCoordinates);
  // Not even their size: the clip is of what is sent.
  EXPECT_NEAR(static_cast<double>(math::SignedAt(trained->vector, 5, 25)), 6.0 * (1U << 22U) / 10,
              1.5);
}

}  // namespace
}  // namespace chorus::client
