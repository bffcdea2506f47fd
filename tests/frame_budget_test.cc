// Training in slices on the host's thread, with a clock that the tests turn.
#include "client/frame_budget.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "client/training.h"
#include "learning/layers.h"
#include "learning/learning.h"
#include "learning/losses.h"
#include "matchers.h"
#include "math/math.h"
#include "test_rng.h"
#include "trust/trust.h"

namespace chorus::client {
namespace {

using std::chrono::microseconds;

// Every look at the clock finds it `step` later.
std::atomic<int64_t> clock_now{0};
std::atomic<int64_t> clock_step{0};
int64_t Now() { return clock_now += clock_step; }

// Runs `work` as a client's thread would, and `host` beside it until the work is done.
void RunBeside(FrameBudget& budget, const std::function<void()>& work,
               const std::function<void()>& host) {
  std::atomic<bool> done = false;
  std::thread thread([&] {
    EXPECT_TRUE(budget.Run(work).ok());
    done = true;
  });
  while (!done) host();
  thread.join();
}

struct Case {
  std::string name;
  ModelSpec model;
  TrainingSpec training;
};

std::vector<Case> Cases() {
  ModelSpec dense{.inputs = 70, .layers = {{90, Activation::kGelu}, {3, Activation::kNone}}};
  ModelSpec image{.inputs = 64,
                  .layers = {{.units = 6,
                              .activation = Activation::kRelu,
                              .kind = LayerKind::kConv2d,
                              .kernel = 3,
                              .padding = Padding::kSame},
                             {.kind = LayerKind::kMaxPool2d, .kernel = 2, .stride = 2},
                             {.kind = LayerKind::kFlatten},
                             {.kind = LayerKind::kDropout, .rate = 0.25F},
                             {.units = 3}},
                  .shape = {8, 8, 1}};
  ModelSpec sequence{.inputs = 40,
                     .layers = {{.units = 20, .kind = LayerKind::kGru},
                                {.kind = LayerKind::kLayerNorm},
                                {.units = 20, .activation = Activation::kTanh},
                                {.kind = LayerKind::kResidual, .span = 1},
                                {.kind = LayerKind::kFlatten},
                                {.units = 3}},
                     .shape = {8, 5}};
  const TrainingSpec plain{.epochs = 2, .batch_size = 20, .learning_rate = 0.05F};
  TrainingSpec adam = plain;
  adam.optimizer = ClientOptimizer::kAdam;
  adam.gradient_l2_norm_max = 0.5F;
  TrainingSpec momentum = plain;
  momentum.optimizer = ClientOptimizer::kMomentum;
  momentum.proximal = 0.1F;
  return {{"dense", dense, plain},
          {"dense by adam", dense, adam},
          {"image", image, momentum},
          {"sequence", sequence, plain}};
}

Examples ExamplesFor(const ModelSpec& model) {
  TestRng rng(5);
  Examples examples;
  examples.inputs = model.inputs;
  for (uint32_t i = 0; i < 50; ++i) {
    examples.labels.push_back(i % 3);
    for (uint32_t j = 0; j < model.inputs; ++j)
      examples.features.push_back(static_cast<float>(UniformUnit(rng) * 2 - 1));
  }
  return examples;
}

Weights TrainedBy(const Case& c, Pace* pace) {
  TestRng first(7);
  Weights weights = learning::InitialWeights(c.model, first);
  TestRng draws(8);
  const Cancel never;
  EXPECT_THAT(learning::Train(c.model, c.training, ExamplesFor(c.model), weights, draws,
                              Stop(never, nullptr, Time::max(), pace)),
              IsOk());
  return weights;
}

TEST(FrameBudget, GivesTheSameBitsHoweverTrainingIsCut) {
  for (const Case& c : Cases()) {
    SCOPED_TRACE(c.name);
    const Weights whole = TrainedBy(c, nullptr);
    for (const int64_t step : {1'000'000, 3'000}) {
      clock_step = step;
      FrameBudget budget(TrainingPlace::kHostFrames, &Now);
      Weights sliced;
      int slices = 0;
      RunBeside(
          budget, [&] { sliced = TrainedBy(c, &budget); },
          [&] {
            EXPECT_THAT(budget.Spend(microseconds(20)), IsOk());
            ++slices;
          });
      EXPECT_EQ(sliced, whole);
      EXPECT_GT(slices, 100);
    }
  }
}

// What no clock is needed for: how much is computed between two breaths.
struct Counter : Pace {
  Counter() : Pace{[](Pace& self) { ++static_cast<Counter&>(self).breaths; }} {}
  uint64_t breaths = 0;
};

TEST(FrameBudget, TakesABreathEveryHundredThousandMultiplications) {
  const Case large{
      "large",
      {.inputs = 784, .layers = {{900, Activation::kRelu}, {320, Activation::kRelu}, {3}}},
      {.epochs = 1, .batch_size = 20, .learning_rate = 0.01F}};
  Counter counter;
  TrainedBy(large, &counter);
  // Forward, by the inputs (not of the first layer), and by the weights.
  const uint64_t first = 784 * 900;
  const uint64_t second = 900 * 320;
  const uint64_t multiplications = 50 * (2 * first + 3 * second);
  EXPECT_GT(counter.breaths, multiplications / 100'000);
}

// Numbers that kernels without a pace of their own went through since the last look.
uint64_t worked = 0;

// The most between two breaths: numbers written to what it watches, or gone through by kernels.
struct Watch : Pace {
  explicit Watch(std::vector<std::span<const float>> all)
      : Pace{[](Pace& self) { static_cast<Watch&>(self).Look(); }}, watched(std::move(all)) {
    for (const std::span<const float> part : watched) seen.emplace_back(part.begin(), part.end());
    worked = 0;
  }
  void Look() {
    uint64_t numbers = std::exchange(worked, 0);
    for (size_t i = 0; i < watched.size(); ++i) {
      for (size_t j = 0; j < watched[i].size(); ++j) {
        if (watched[i][j] == seen[i][j]) continue;
        seen[i][j] = watched[i][j];
        ++numbers;
      }
    }
    most = std::max(most, numbers);
  }
  const std::vector<std::span<const float>> watched;
  std::vector<std::vector<float>> seen;
  uint64_t most = 0;
};

learning::Kernels<float> CountedKernels() {
  static const learning::Kernels<float>& real = learning::FastestKernels<float>();
  learning::Kernels<float> counted = real;
  counted.add_rows = [](const learning::RowSums<float>& sums) {
    worked += sums.rows * sums.width;
    real.add_rows(sums);
  };
  counted.gru_forward = [](const learning::GruStep<float>& step) {
    worked += step.rows * step.units;
    real.gru_forward(step);
  };
  counted.gru_backward = [](const learning::GruStep<float>& step) {
    worked += step.rows * step.units;
    real.gru_backward(step);
  };
  return counted;
}

// Of one layer, forward and back.
uint64_t MostBetweenBreaths(const LayerSpec& spec, const std::vector<uint32_t>& shape,
                            size_t rows) {
  const uint32_t inputs =
      std::accumulate(shape.begin(), shape.end(), uint32_t{1}, std::multiplies<>());
  const ModelSpec model{.inputs = inputs, .layers = {spec}, .shape = shape};
  const Result<std::vector<learning::LayerShapes>> shapes = learning::InferShapes(model);
  if (!shapes.ok()) return UINT64_MAX;
  const learning::LayerShapes& only = shapes->front();
  TestRng rng(11);
  const auto noise = [&](size_t count) {
    std::vector<float> values(count);
    for (float& value : values) value = static_cast<float>(UniformUnit(rng) + 0.5);
    return values;
  };
  const std::vector<float> weights = noise(only.weight_count);
  const std::vector<float> input = noise(rows * inputs);
  std::vector<float> output = noise(rows * only.output.count());
  std::vector<float> delta = noise(output.size());
  std::vector<float> delta_input = noise(input.size());
  std::vector<float> sink = noise(weights.size());
  std::vector<float> workspace(learning::kWorkspaceCount);
  const learning::Kernels<float> kernels = CountedKernels();
  Watch watch({output, delta_input, sink});
  learning::Pass<float> pass{.kernels = &kernels,
                             .workspace = workspace.data(),
                             .rows = rows,
                             .weights = weights.data(),
                             .input = input.data(),
                             .output = output.data(),
                             .pace = &watch};
  const auto layer = learning::MakeLayer<float>(spec, only, rows);
  layer->Forward(pass);
  pass.delta = delta.data();
  pass.delta_input = delta_input.data();
  pass.sink = sink.data();
  layer->Backward(pass);
  watch.Look();
  return watch.most;
}

// The end of one piece and the begin of the next, none of them larger than InPieces cuts.
constexpr uint64_t kBetweenBreathsMax = 2 * 8192;

// Sanitizers look at the code's paths, which fewer rows cover.
#if defined(CHORUS_SANITIZED)
constexpr size_t kShare = 10;
#else
constexpr size_t kShare = 1;
#endif

TEST(FrameBudget, DoesLittleBetweenTwoBreathsInEveryLayer) {
  const LayerSpec conv{.units = 16,
                       .activation = Activation::kRelu,
                       .kind = LayerKind::kConv2d,
                       .kernel = 3,
                       .padding = Padding::kSame};
  const LayerSpec pool{.kind = LayerKind::kMaxPool2d, .kernel = 2, .stride = 2};
  LayerSpec gru{.units = 200, .kind = LayerKind::kGru};
  EXPECT_LE(MostBetweenBreaths({.units = 300}, {40}, 100 / kShare), kBetweenBreathsMax);
  EXPECT_LE(MostBetweenBreaths(conv, {16, 16, 4}, 20 / kShare), kBetweenBreathsMax);
  EXPECT_LE(MostBetweenBreaths(pool, {32, 32, 4}, 20 / kShare), kBetweenBreathsMax);
  EXPECT_LE(MostBetweenBreaths(gru, {4, 5}, 100 / kShare), kBetweenBreathsMax);
  gru.last_only = true;
  EXPECT_LE(MostBetweenBreaths(gru, {4, 5}, 100 / kShare), kBetweenBreathsMax);
}

TEST(FrameBudget, DoesLittleBetweenTwoBreathsInALossOverTokens) {
  constexpr uint32_t kTokens = 40;
  constexpr uint32_t kVocabulary = 1000;
  const ModelSpec model{.inputs = kTokens + 1, .layers = {}, .loss = Loss::kNextToken};
  const learning::Shape shape{.axes = {kTokens, kVocabulary}, .rank = 2};
  Examples examples;
  examples.inputs = kTokens + 1;
  for (uint32_t i = 0; i <= kTokens; ++i)
    examples.features.push_back(i < 20 ? static_cast<float>(i) : -1.0F);
  const std::vector<float> outputs(kTokens * kVocabulary, 0.25F);
  std::vector<float> delta(outputs.size(), 7);
  Watch watch({delta});
  const std::vector<size_t> rows = {0};
  learning::SumLosses<float>(model, shape, CountedKernels(), examples, rows, outputs.data(),
                             delta.data(), &watch);
  watch.Look();
  EXPECT_LE(watch.most, kBetweenBreathsMax);
}

// The clock's look just before a slice begins shows what the client's thread had made by then.
const Weights* looked_at = nullptr;
std::optional<Weights> seen_before_a_slice;
int looks_in_slice = 0;
int64_t NowAndLook() {
  if (++looks_in_slice == 2 && !seen_before_a_slice.has_value()) seen_before_a_slice = *looked_at;
  return Now();
}

TEST(FrameBudget, LeavesWhatScaffoldCorrectsByOutOfFrames) {
  TaskSpec task;
  task.model = Cases().front().model;
  task.training = {.epochs = 1, .batch_size = 20, .learning_rate = 0.05F, .held_back_percent = 0};
  task.training.scaffold = true;
  task.training.population = 1;
  task.clip.update_l2_norm_max = 8;
  task.encoding = {.bound = 1U << 22U, .examples_max = 64};
  const Examples examples = ExamplesFor(task.model);
  const auto encoding = *math::FixedPointFor(learning::ContributionDim(task), task.clip,
                                             task.encoding, task.cohort.maximum);
  const size_t dim = learning::ParameterCount(task.model);
  std::vector<float> published(2 * dim, 0.5F);
  DeviceRecord record;
  record.control = PrivateWeights(Weights(dim, 0.125F));
  TestRng draws(3);
  const learning::Split split = learning::HoldBack(examples.count(), 0, draws);
  const Cancel never;
  TrainingBuffers buffers;
  looked_at = &buffers.correction.get();
  seen_before_a_slice.reset();
  clock_step = 1000;
  FrameBudget budget(TrainingPlace::kHostFrames, &NowAndLook);
  std::atomic<bool> done = false;
  std::thread worker([&] {
    EXPECT_THAT(TrainAndEncode({.task = &task,
                                .encoding = &encoding,
                                .examples = &examples,
                                .split = &split,
                                .published = published,
                                .record = &record,
                                .draws = &draws,
                                .cancel = &never,
                                .budget = &budget,
                                .buffers = &buffers}),
                IsOk());
    done = true;
  });
  while (!done) {
    looks_in_slice = 0;
    EXPECT_THAT(budget.Spend(microseconds(20)), IsOk());
  }
  worker.join();
  EXPECT_EQ(seen_before_a_slice, Weights(dim, 0.375F));
}

// Elementwise work is cut into pieces: the gradient of many rows, whose activations take several,
// is the mean of the gradients of single rows, whose take one.
TEST(FrameBudget, CutsActivationsWhereTheyEnd) {
  ModelSpec model{.inputs = 5,
                  .layers = {{300, Activation::kGelu},
                             {300, Activation::kTanh},
                             {.kind = LayerKind::kResidual, .span = 1},
                             {3}}};
  const Examples all = ExamplesFor(model);  // 50 rows of 300 are 15,000 numbers
  TestRng first(7);
  const Weights weights = learning::InitialWeights(model, first);
  Weights together(weights.size());
  learning::LossAndGradient(model, all, weights, together);
  std::vector<double> apart(weights.size());
  for (size_t row = 0; row < all.count(); ++row) {
    Examples one;
    one.inputs = all.inputs;
    const auto from = all.features.begin() + static_cast<ptrdiff_t>(row * all.inputs);
    one.features.assign(from, from + all.inputs);
    one.labels = {all.labels[row]};
    Weights gradient(weights.size());
    learning::LossAndGradient(model, one, weights, gradient);
    for (size_t i = 0; i < apart.size(); ++i)
      apart[i] += static_cast<double>(gradient[i]) / static_cast<double>(all.count());
  }
  for (size_t i = 0; i < apart.size(); ++i)
    ASSERT_NEAR(static_cast<double>(together[i]), apart[i], 1e-5) << i;
}

// One step of each optimiser on more parameters than one piece has, against its formula.
TEST(FrameBudget, CutsStepsWhereTheyEnd) {
  const ModelSpec model{.inputs = 7000, .layers = {{3}}};
  const Examples examples = ExamplesFor(model);
  TestRng first(7);
  const Weights start = learning::InitialWeights(model, first);
  Weights gradient(start.size());
  learning::LossAndGradient(model, examples, start, gradient);
  for (const ClientOptimizer optimizer : {ClientOptimizer::kMomentum, ClientOptimizer::kAdam}) {
    const TrainingSpec training{
        .epochs = 1, .batch_size = 50, .learning_rate = 0.05F, .optimizer = optimizer};
    Weights weights = start;
    TestRng draws(8);
    const Cancel never;
    ASSERT_THAT(learning::Train(model, training, examples, weights, draws, never), IsOk());
    for (size_t i = 0; i < start.size(); ++i) {
      const auto slope = static_cast<double>(gradient[i]);
      const double step = optimizer == ClientOptimizer::kMomentum
                              ? slope
                              : slope / (std::abs(slope) + static_cast<double>(training.epsilon));
      // Adam divides by the slope, so that one of almost nothing may step either way.
      if (std::abs(slope) < 1e-5) continue;
      ASSERT_NEAR(static_cast<double>(weights[i]), static_cast<double>(start[i]) - 0.05 * step,
                  2e-4)
          << i;
    }
  }
}

TEST(FrameBudget, LeavesWhenTheNextPieceWouldNotFit) {
  clock_step = 0;
  clock_now = 0;
  FrameBudget budget(TrainingPlace::kHostFrames, &Now);
  constexpr int64_t kPiece = 300'000;
  std::vector<int64_t> times;
  RunBeside(
      budget,
      [&] {
        for (int i = 0; i < 20; ++i) {
          clock_now += kPiece;
          Breathe(&budget);
        }
      },
      [&] {
        const int64_t begin = clock_now;
        EXPECT_THAT(budget.Spend(microseconds(1000)), IsOk());
        if (clock_now > begin) times.push_back(clock_now - begin);
      });
  ASSERT_EQ(times.size(), 7U);
  for (size_t i = 0; i + 1 < times.size(); ++i) EXPECT_EQ(times[i], 3 * kPiece) << i;
}

TEST(FrameBudget, DoesNothingWhilePausedAndGoesOnAfterwards) {
  clock_step = 0;
  FrameBudget budget(TrainingPlace::kHostFrames, &Now);
  int breaths = 0;
  int paused_polls = 0;
  RunBeside(
      budget,
      [&] {
        for (int i = 0; i < 10; ++i) {
          if (++breaths == 4) budget.Set(Hold::kPaused, true);
          Breathe(&budget);
        }
      },
      [&] {
        EXPECT_THAT(budget.Spend(microseconds(1000)), IsOk());
        if (!budget.held()) return;
        // The breath after the pause began was the last.
        EXPECT_EQ(breaths, 4);
        if (++paused_polls == 3) budget.Set(Hold::kPaused, false);
      });
  EXPECT_EQ(breaths, 10);
  EXPECT_EQ(paused_polls, 3);
}

TEST(FrameBudget, HoldsTheWorkerAtItsNextBreath) {
  FrameBudget budget(TrainingPlace::kOwnThread, &Now);
  std::atomic<int> breaths = 0;
  budget.Set(Hold::kPaused, true);
  budget.Set(Hold::kDeferred, true);
  std::atomic<bool> begun = false;
  std::thread worker([&] {
    begun = true;
    EXPECT_THAT(budget.Run([&] {
      Breathe(&budget);
      ++breaths;
    }),
                IsOk());
  });
  while (!begun) std::this_thread::yield();
  budget.Set(Hold::kPaused, false);  // one hold is left
  EXPECT_EQ(breaths, 0);
  budget.Set(Hold::kDeferred, false);
  worker.join();
  EXPECT_EQ(breaths, 1);
}

TEST(FrameBudget, RefusesASecondThreadInsideASlice) {
  clock_step = 0;
  FrameBudget budget(TrainingPlace::kHostFrames, &Now);
  Status second;
  RunBeside(
      budget, [&] { std::thread([&] { second = budget.Spend(microseconds(10)); }).join(); },
      [&] { EXPECT_THAT(budget.Spend(microseconds(10)), IsOk()); });
  EXPECT_THAT(second, HasCode(Code::kFailedPrecondition));
}

TEST(FrameBudget, EndsWhatWasLeftInTheMiddleWhenItCloses) {
  clock_step = 1'000'000;
  FrameBudget budget(TrainingPlace::kHostFrames, &Now);
  std::atomic<int> breaths = 0;
  std::thread worker([&] {
    EXPECT_THAT(budget.Run([&] {
      for (int i = 0; i < 10; ++i) {
        ++breaths;
        Breathe(&budget);
      }
    }),
                IsOk());
  });
  while (breaths == 0) EXPECT_THAT(budget.Spend(microseconds(1)), IsOk());
  EXPECT_LT(breaths, 10);
  budget.Set(Hold::kPaused, true);  // even then
  budget.Close();
  worker.join();
  EXPECT_EQ(breaths, 10);
}

// The piece under way may be long, and the host's frame is not: neither a slice nor a Close waits
// for the work's end, which comes on the client's thread.
TEST(FrameBudget, LeavesTheEndToTheClientsThreadWhenItCloses) {
  clock_step = 0;
  FrameBudget budget(TrainingPlace::kHostFrames, &Now);
  std::atomic<bool> inside = false;
  std::atomic<bool> closed = false;
  std::thread::id finished_on;
  std::thread worker([&] {
    EXPECT_THAT(budget.Run([&] {
      inside = true;
      while (!closed) std::this_thread::yield();
      Breathe(&budget);
      finished_on = std::this_thread::get_id();
    }),
                IsOk());
  });
  const std::thread::id clients = worker.get_id();
  std::thread host([&] {
    while (!inside) EXPECT_THAT(budget.Spend(std::chrono::hours(1)), IsOk());
  });
  while (!inside) std::this_thread::yield();
  budget.Close();
  closed = true;
  host.join();
  worker.join();
  EXPECT_EQ(finished_on, clients);
}

// --- the client around it ------------------------------------------------------------------------

// Never answers, counts, and holds its first call until it is told to go on.
class CountingTransport final : public Transport {
 public:
  struct Shared {
    std::atomic<int> calls{0};
    std::atomic<bool> go{false};
  };
  explicit CountingTransport(Shared& shared) : shared_(shared) {}
  Result<Bytes> Call(std::string_view, BytesView, std::chrono::milliseconds) override {
    ++shared_.calls;
    while (!shared_.go) std::this_thread::yield();
    return Unavailable("nobody is there");
  }
  void Interrupt() override { shared_.go = true; }

 private:
  Shared& shared_;
};

// Every look is a day later, so that no backoff takes any time.
class HastyClock final : public Clock {
 public:
  Time Now() const override { return std::chrono::hours(24) * ++days_; }
  int64_t UnixSeconds() const override { return 1'700'000'000; }

 private:
  mutable std::atomic<int> days_{0};
};

Examples ExamplesOf(uint32_t inputs) {
  ModelSpec model;
  model.inputs = inputs;
  return ExamplesFor(model);
}

class HeldClient : public testing::Test {
 protected:
  HeldClient() {
    std::string pattern = std::filesystem::temp_directory_path() / "chorus-held-XXXXXX";
    dir_ = mkdtemp(pattern.data());
    ClientOptions options;
    options.identity_seed = SecretBytes(Bytes(32, 7));
    options.coordinator.fill(1);
    options.certificate = {1};
    options.state_dir = dir_;
    Result<std::unique_ptr<Client>> client =
        Client::StartOver(std::make_unique<CountingTransport>(shared_), std::move(options),
                          ExamplesOf(2), *verifier_, clock_, log_);
    EXPECT_THAT(client, IsOk());
    if (client.ok()) client_ = *std::move(client);
    while (client_ != nullptr && shared_.calls == 0) std::this_thread::yield();
  }
  ~HeldClient() override {
    client_.reset();
    std::filesystem::remove_all(dir_);
  }
  // Lets the first call end, and gives the client time for many others.
  void LetItTry() {
    shared_.go = true;
    for (int i = 0; i < 50; ++i) std::this_thread::yield();
  }
  void AwaitAnotherCall() {
    while (shared_.calls < 2) std::this_thread::yield();
  }

  class NoLog final : public LogSink {
    void Write(LogLevel, std::string_view, std::span<const LogField>) override {}
  };
  CountingTransport::Shared shared_;
  HastyClock clock_;
  NoLog log_;
  const std::unique_ptr<IdentityVerifier> verifier_ =
      trust::NewCertificateVerifier(PublicKey{}, clock_);
  std::string dir_;
  std::unique_ptr<Client> client_;
};

TEST_F(HeldClient, MakesNoCallWhilePaused) {
  client_->Pause();
  LetItTry();
  EXPECT_EQ(shared_.calls, 1);
  client_->Resume();
  AwaitAnotherCall();
}

TEST_F(HeldClient, AsksForNoRoundWhileASignalDefersIt) {
  client_->SetSignals(kSignalMeteredNetwork);
  LetItTry();
  EXPECT_EQ(shared_.calls, 1);
  client_->SetSignals(0);
  AwaitAnotherCall();
}

TEST_F(HeldClient, EndsWhilePaused) {
  client_->Pause();
  LetItTry();
  client_->Stop();
  std::vector<ClientEvent> events;
  while (events.empty() || events.back().kind != ClientEvent::Kind::kStopped) {
    for (ClientEvent& event : client_->Poll(std::chrono::milliseconds(10)))
      events.push_back(std::move(event));
  }
}

TEST_F(HeldClient, TakesMoreExamplesOfTheSameKindAlone) {
  EXPECT_THAT(client_->AddExamples(ExamplesOf(2)), IsOk());
  EXPECT_THAT(client_->AddExamples(ExamplesOf(3)), HasCode(Code::kInvalidArgument));
  Examples unlabelled = ExamplesOf(2);
  unlabelled.labels.clear();
  EXPECT_THAT(client_->AddExamples(unlabelled), HasCode(Code::kInvalidArgument));
  EXPECT_THAT(client_->AddExamples({}), HasCode(Code::kInvalidArgument));
  Examples unusable = ExamplesOf(2);
  unusable.features.back() = NAN;
  EXPECT_THAT(client_->AddExamples(unusable),
              HasCodeAndText(Code::kInvalidArgument, "hold numbers that are not finite"));
  EXPECT_THAT(client_->CopyModel(), HasCode(Code::kNotFound));
  EXPECT_THAT(client_->Work(microseconds(10)), IsOk());
}

}  // namespace
}  // namespace chorus::client
