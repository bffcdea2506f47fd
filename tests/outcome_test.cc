// From sums to the next model: what counts how much, what is refused, and what a task may ask for.
#include "coordinator/outcome.h"

#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "base/limits.h"
#include "chorus/coordinator.h"
#include "coordinator_world.h"
#include "learning/analytics.h"
#include "learning/learning.h"
#include "test_rng.h"

namespace chorus::coordinator {
namespace {

using testing::ElementsAre;
using testing::FloatEq;
using testing::FloatNear;
using testing::IsEmpty;

// What one client gives: exact in the encoding, like UpdateOf.
struct Given {
  std::vector<float> update;
  uint64_t examples = 256;
};

Sum SumOf(const TaskSpec& task, const std::vector<Given>& given) {
  const auto encoding = math::FixedPointFor(learning::ContributionDim(task), task.clip,
                                            task.encoding, task.cohort.maximum);
  EXPECT_THAT(encoding, IsOk());
  TestRng rng(1);
  Sum sum = {math::ZeroVector(encoding->vector_dim(), encoding->bits),
             static_cast<uint32_t>(given.size())};
  for (const Given& one : given) {
    const auto vector = math::Encode(*encoding,
                                     {.update = one.update,
                                      .examples = one.examples,
                                      .evaluated = one.examples,
                                      .accuracy = 0.5,
                                      .loss = 2},
                                     rng);
    EXPECT_THAT(vector, IsOk());
    EXPECT_THAT(math::AddPacked(sum.values, math::Pack(*vector, encoding->bits), encoding->bits),
                IsOk());
  }
  math::ReduceBits(sum.values, encoding->bits);
  return sum;
}

// A cohort of three that all say the same.
Sum SumOf(const TaskSpec& task, const std::vector<float>& update, uint64_t examples = 256) {
  return SumOf(task, std::vector<Given>(3, {update, examples}));
}

TaskSpec ParallelTask(uint32_t parallel) {
  TaskSpec task = PlainTask();
  task.cohort.parallel = parallel;
  return task;
}

TaskSpec BufferedTask(uint32_t sums, uint32_t parallel) {
  TaskSpec task = ParallelTask(parallel);
  task.server.buffered_sums = sums;
  return task;
}

TaskSpec RobustTask(RobustRule rule, uint32_t byzantine, uint32_t parallel) {
  TaskSpec task = ParallelTask(parallel);
  task.server.robust = rule;
  task.server.byzantine = byzantine;
  return task;
}

ServerState StateOf(const TaskSpec& task, uint64_t version = 0) {
  ServerState state = FirstState(task, {1, 2, 3, 4});
  state.version = version;
  return state;
}

// --- means ---

TEST(Outcome, IsTheMeanOverAllClientsWeightedByExamples) {
  const TaskSpec task = ParallelTask(2);
  CohortSums sums(task);
  ASSERT_THAT(sums.Add(SumOf(task, {{{0.5F, 0, 0, 0}, 256}, {{0, 0.5F, 0, 0}, 256}}), 0), IsOk());
  ASSERT_THAT(sums.Add(SumOf(task, {{{0, 0, 0.5F, 0}, 512}}), 0), IsOk());
  RoundReport report;
  const auto next = ComputeNext(task, StateOf(task), sums, report);
  ASSERT_THAT(next, IsOk());
  EXPECT_THAT(next->state.published, ElementsAre(1.125F, 2.125F, 3.25F, 4));
  EXPECT_EQ(next->state.version, 1U);
  EXPECT_EQ(report.contributors, 3U);
  EXPECT_EQ(report.cohorts_committed, 2U);
  EXPECT_EQ(report.examples, 1'024U);
  EXPECT_EQ(report.evaluated, 1'024U);
  EXPECT_DOUBLE_EQ(report.accuracy, 0.5);
  EXPECT_DOUBLE_EQ(report.loss, 2);
}

TEST(Outcome, RefusesGarbageBeforeItMeetsOtherSums) {
  const TaskSpec task = ParallelTask(2);
  CohortSums sums(task);
  ASSERT_THAT(sums.Add(SumOf(task, {0.5F, 0, 0, 0}), 0), IsOk());
  Sum garbage = SumOf(task, {0, 0, 0, 0});
  math::SetSigned(garbage.values, 4, 1 << 20);  // more examples than three clients can have
  EXPECT_THAT(sums.Add(garbage, 0), HasCode(Code::kAborted));
  EXPECT_EQ(sums.count(), 1U);
  RoundReport report;
  const auto next = ComputeNext(task, StateOf(task), sums, report);
  ASSERT_THAT(next, IsOk());
  EXPECT_THAT(next->state.published, ElementsAre(1.5F, 2, 3, 4));
}

TEST(Outcome, AbortsBeforeTheModelOrTheOptimisersStateIsNotFinite) {
  TaskSpec task = PlainTask();
  task.server_learning_rate = std::numeric_limits<float>::max();
  CohortSums sums(task);
  ASSERT_THAT(sums.Add(SumOf(task, {0.5F, 0, 0, 0}), 0), IsOk());
  RoundReport report;
  ServerState state = StateOf(task);
  state.published[0] = std::numeric_limits<float>::max();
  EXPECT_THAT(ComputeNext(task, state, sums, report),
              HasCodeAndText(Code::kAborted, "server_learning_rate"));
  EXPECT_EQ(report.contributors, 0U);

  // The square of a change can be infinite where the change is not.
  TaskSpec wide = PlainTask();
  wide.server.optimizer = ServerOptimizer::kFedAdagrad;
  wide.clip.update_l2_norm_max = 0x1p70F;
  CohortSums large(wide);
  ASSERT_THAT(large.Add(SumOf(wide, {0x1p69F, 0, 0, 0}), 0), IsOk());
  EXPECT_THAT(ComputeNext(wide, StateOf(wide), large, report),
              HasCodeAndText(Code::kAborted, "optimiser"));
}

TEST(Outcome, TakesTheOptimisersStateOn) {
  TaskSpec task = PlainTask();
  task.server.optimizer = ServerOptimizer::kFedAvgM;
  task.server.beta1 = 0.5F;
  CohortSums sums(task);
  ASSERT_THAT(sums.Add(SumOf(task, {0.5F, 0, 0, 0}), 0), IsOk());
  RoundReport report;
  auto next = ComputeNext(task, StateOf(task), sums, report);
  ASSERT_THAT(next, IsOk());
  EXPECT_THAT(next->state.optimizer.momentum, ElementsAre(0.5F, 0, 0, 0));
  sums.Clear();
  ASSERT_THAT(sums.Add(SumOf(task, {0.5F, 0, 0, 0}), 1), IsOk());
  next = ComputeNext(task, next->state, sums, report);
  ASSERT_THAT(next, IsOk());
  EXPECT_THAT(next->state.published, ElementsAre(1 + 0.5F + 0.75F, 2, 3, 4));
}

TEST(Outcome, LeavesPersonalLayersAsTheyWerePublished) {
  TaskSpec task = PlainTask();
  task.model.layers = {{.units = 2}, {.units = 1, .personal = true}};
  ASSERT_THAT(ValidateTask(task), IsOk());
  ASSERT_EQ(learning::ContributionDim(task), 8U);
  CohortSums sums(task);
  ASSERT_THAT(sums.Add(SumOf(task, std::vector<float>(8, 0.25F)), 0), IsOk());
  RoundReport report;
  const auto next = ComputeNext(task, FirstState(task, Weights(11, 1.0F)), sums, report);
  ASSERT_THAT(next, IsOk());
  Weights expected(11, 1.0F);
  std::fill_n(expected.begin(), 8, 1.25F);
  EXPECT_EQ(next->state.published, expected);
}

// --- staleness ---

TEST(BufferedOutcome, CountsStaleSumsLessAndShortensTheStep) {
  const TaskSpec task = BufferedTask(2, 4);
  CohortSums sums(task);
  ASSERT_THAT(sums.Add(SumOf(task, {0.5F, 0, 0, 0}, 256), 3), IsOk());
  ASSERT_THAT(sums.Add(SumOf(task, {0, 0.5F, 0, 0}, 768), 0), IsOk());  // three commits behind
  RoundReport report;
  const auto next = ComputeNext(task, StateOf(task, 3), sums, report);
  ASSERT_THAT(next, IsOk());
  EXPECT_THAT(next->state.published,
              ElementsAre(FloatEq(1 + 0.25F * 0.5F), FloatEq(2 + 0.75F * 0.5F / 2), 3, 4));
  EXPECT_EQ(next->state.version, 4U);
  EXPECT_EQ(report.contributors, 6U);
  EXPECT_EQ(report.cohorts_committed, 2U);
  EXPECT_EQ(report.examples, 3U * 1'024);
  // What was measured of an older model says nothing about this one.
  EXPECT_EQ(report.evaluated, 3U * 256);
}

TEST(BufferedOutcome, DropsSumsBeyondTheStalenessMax) {
  TaskSpec task = BufferedTask(2, 4);
  task.server.staleness_max = 2;
  CohortSums sums(task);
  ASSERT_THAT(sums.Add(SumOf(task, {0.5F, 0, 0, 0}), 1), IsOk());
  ASSERT_THAT(sums.Add(SumOf(task, {0, 0.5F, 0, 0}), 0), IsOk());
  RoundReport report;
  const auto next = ComputeNext(task, StateOf(task, 3), sums, report);
  ASSERT_THAT(next, IsOk());
  EXPECT_THAT(next->state.published, ElementsAre(FloatEq(1 + 0.5F / std::sqrt(3.0F)), 2, 3, 4));
  EXPECT_EQ(report.cohorts_committed, 1U);
  EXPECT_THAT(ComputeNext(task, StateOf(task, 9), sums, report),
              HasCodeAndText(Code::kAborted, "server.staleness_max"));
}

TEST(BufferedOutcome, NeedsAsManySumsAsTheTaskSays) {
  const TaskSpec task = BufferedTask(2, 4);
  CohortSums sums(task);
  ASSERT_THAT(sums.Add(SumOf(task, {0.5F, 0, 0, 0}), 0), IsOk());
  RoundReport report;
  EXPECT_THAT(ComputeNext(task, StateOf(task), sums, report),
              HasCodeAndText(Code::kAborted, "server.buffered_sums"));
  EXPECT_FALSE(IsOver(task, {.sums = 1, .all_ended = false}));
  EXPECT_TRUE(IsOver(task, {.sums = 2, .all_ended = false}));
  EXPECT_TRUE(IsOver(task, {.sums = 1, .all_ended = true}));
  EXPECT_FALSE(IsOver(PlainTask(), {.sums = 1, .all_ended = false}));
  EXPECT_TRUE(IsOver(PlainTask(), {.sums = 0, .all_ended = true}));
}

// More sums can wait than one round has cohorts.
TEST(BufferedOutcome, HoldsTheSumsOfTwoRounds) {
  TaskSpec task = BufferedTask(3, 3);
  task.cohort.maximum = 3;
  CohortSums sums(task);
  for (int i = 0; i < 6; ++i) {
    ASSERT_THAT(sums.Add(SumOf(task, {0.5F, 0, 0, 0}), 0), IsOk()) << i;
  }
  RoundReport report;
  const auto next = ComputeNext(task, StateOf(task), sums, report);
  ASSERT_THAT(next, IsOk());
  EXPECT_THAT(next->state.published, ElementsAre(1.5F, 2, 3, 4));
  EXPECT_EQ(report.contributors, 18U);
}

// --- robust rules ---

TEST(RobustOutcome, IsMovedByNoSpoiltCohort) {
  for (const RobustRule rule :
       {RobustRule::kMedian, RobustRule::kTrimmedMean, RobustRule::kGeometricMedian,
        RobustRule::kKrum, RobustRule::kMultiKrum, RobustRule::kBulyan}) {
    const TaskSpec task = RobustTask(rule, 1, 7);
    CohortSums sums(task);
    for (int i = 0; i < 7; ++i) {
      const std::vector<float> update = i == 2 ? std::vector<float>{-0.5F, -0.5F, -0.5F, -0.5F}
                                               : std::vector<float>{0, 0, 0.5F, 0};
      // Examples give the spoilt cohort no weight.
      ASSERT_THAT(sums.Add(SumOf(task, update, i == 2 ? 4'096 : 1), 0), IsOk());
    }
    RoundReport report;
    const auto next = ComputeNext(task, StateOf(task), sums, report);
    ASSERT_THAT(next, IsOk());
    EXPECT_NEAR(next->state.published[0], 1, 1e-3) << static_cast<int>(rule);
    EXPECT_NEAR(next->state.published[2], 3.5, 1e-3) << static_cast<int>(rule);
    EXPECT_EQ(report.cohorts_committed, 7U);
    EXPECT_EQ(report.contributors, 21U);
  }
}

TEST(RobustOutcome, AbortsWithFewerSumsThanTheRuleNeeds) {
  const TaskSpec task = RobustTask(RobustRule::kMedian, 1, 3);
  CohortSums sums(task);
  for (int i = 0; i < 2; ++i) ASSERT_THAT(sums.Add(SumOf(task, {0.5F, 0, 0, 0}), 0), IsOk());
  RoundReport report;
  EXPECT_THAT(ComputeNext(task, StateOf(task), sums, report),
              HasCodeAndText(Code::kAborted, "server.robust needs the sums of 3 cohorts"));
}

TEST(RobustOutcome, WeighsStaleMeansDownBeforeItComparesThem) {
  TaskSpec task = RobustTask(RobustRule::kMedian, 1, 3);
  task.server.buffered_sums = 3;
  CohortSums sums(task);
  for (const uint64_t version : {0, 3, 3}) {
    ASSERT_THAT(sums.Add(SumOf(task, {version == 0 ? 0.5F : 0.0F, 0.5F, 0, 0}), version), IsOk());
  }
  RoundReport report;
  const auto next = ComputeNext(task, StateOf(task, 3), sums, report);
  ASSERT_THAT(next, IsOk());
  EXPECT_THAT(next->state.published, ElementsAre(1, 2.5F, 3, 4));
}

// --- SCAFFOLD, q-FedAvg, analytics ---

TEST(ScaffoldOutcome, MovesTheServersControlVariateByThePartOfThePopulation) {
  TaskSpec task = PlainTask();
  task.training.scaffold = true;
  task.training.steps = 4;
  task.training.learning_rate = 0.5F;
  task.training.population = 12;
  const float scale = learning::ControlScale(task);
  ASSERT_EQ(scale, 2);
  ServerState state = StateOf(task);
  EXPECT_THAT(state.published, ElementsAre(1, 2, 3, 4, 0, 0, 0, 0));
  CohortSums sums(task);
  ASSERT_THAT(sums.Add(SumOf(task, {0.5F, 0, 0, 0, 0, -0.5F, 0, 0}), 0), IsOk());
  RoundReport report;
  const auto next = ComputeNext(task, state, sums, report);
  ASSERT_THAT(next, IsOk());
  // Three of twelve clients, whose control variates changed by -1/4 in the mean.
  EXPECT_THAT(next->state.published, ElementsAre(1.5F, 2, 3, 4, 0, -0.0625F, 0, 0));
  sums.Clear();
  ASSERT_THAT(sums.Add(SumOf(task, {0.5F, 0, 0, 0, 0, -0.5F, 0, 0}), 1), IsOk());
  const auto after = ComputeNext(task, next->state, sums, report);
  ASSERT_THAT(after, IsOk());
  EXPECT_THAT(after->state.published, ElementsAre(2, 2, 3, 4, 0, -0.125F, 0, 0));
}

TEST(FairOutcome, DividesTheSumOfUpdatesByTheSumOfH) {
  TaskSpec task = PlainTask();
  task.training.fairness_q = 7;
  task.training.learning_rate = 1;
  const float scale = learning::FairnessScale(task);
  ASSERT_EQ(scale, 0.0625F);  // half of the clip over 1 + q clip^2 / (rate * fairness_loss)
  CohortSums sums(task);
  // h of 2 and of 6: a weighted mean of 4 with equal examples.
  ASSERT_THAT(sums.Add(SumOf(task, std::vector<Given>{{{0.5F, 0, 0, 0, 2 * scale}},
                                                      {{0, 0.25F, 0, 0, 6 * scale}}}),
                       0),
              IsOk());
  RoundReport report;
  const auto next = ComputeNext(task, StateOf(task), sums, report);
  ASSERT_THAT(next, IsOk());
  EXPECT_THAT(next->state.published,
              ElementsAre(FloatEq(1 + 0.5F / 8), FloatEq(2 + 0.25F / 8), 3, 4));
}

TEST(FairOutcome, StandsStillWhereThereIsNoLoss) {
  TaskSpec task = PlainTask();
  task.training.fairness_q = 1;
  CohortSums sums(task);
  ASSERT_THAT(sums.Add(SumOf(task, {0.5F, 0, 0, 0, 0}), 0), IsOk());
  RoundReport report;
  const auto next = ComputeNext(task, StateOf(task), sums, report);
  ASSERT_THAT(next, IsOk());
  EXPECT_THAT(next->state.published, ElementsAre(1, 2, 3, 4));
}

TEST(AnalyticsOutcome, IsTheExactSumOverAllCohorts) {
  TaskSpec task = ParallelTask(2);
  task.model = {};
  task.queries = {{.name = "count"}};
  const auto encoding = math::FixedPointFor(2, task.clip, task.encoding, task.cohort.maximum);
  ASSERT_THAT(encoding, IsOk());
  CohortSums sums(task);
  for (const int64_t cell : {1'048'575, 3}) {
    const auto vector = learning::EncodeCells(*encoding, std::vector<int64_t>{cell, 1}, 7);
    ASSERT_THAT(vector, IsOk());
    ASSERT_THAT(sums.Add({.values = *vector, .contributors = 1}, 0), IsOk());
  }
  ServerState state = FirstState(task, {});
  EXPECT_THAT(state.published, ElementsAre(0));
  RoundReport report;
  const auto next = ComputeNext(task, state, sums, report);
  ASSERT_THAT(next, IsOk());
  EXPECT_THAT(next->cells, ElementsAre(1'048'578, 2));
  EXPECT_THAT(next->state.published, ElementsAre(0));
  EXPECT_EQ(next->state.version, 1U);
  EXPECT_EQ(report.examples, 14U);
  EXPECT_EQ(report.contributors, 2U);
  EXPECT_EQ(report.evaluated, 0U);
}

// --- what a task may ask for ---

TEST(ValidateTask, AcceptsEveryServerRecipe) {
  EXPECT_THAT(ValidateTask(BufferedTask(2, 4)), IsOk());
  EXPECT_THAT(ValidateTask(RobustTask(RobustRule::kBulyan, 1, 7)), IsOk());
  EXPECT_THAT(ValidateTask(RobustTask(RobustRule::kKrum, 0, 3)), IsOk());
}

TEST(ValidateTask, NamesTheServersFieldThatCannotWork) {
  const auto refused = [](const std::string& text) {
    return HasCodeAndText(Code::kInvalidArgument, text);
  };
  TaskSpec task = PlainTask();
  task.server.tau = 0;
  EXPECT_THAT(ValidateTask(task), refused("server.tau"));
  task = PlainTask();
  task.server.robust = static_cast<RobustRule>(7);
  EXPECT_THAT(ValidateTask(task), refused("server.robust"));
  task = PlainTask();
  task.server.byzantine = 1;
  EXPECT_THAT(ValidateTask(task), refused("server.byzantine"));
  EXPECT_THAT(
      ValidateTask(RobustTask(RobustRule::kMedian, 1, 2)),
      refused("cohort.parallel is 2, but server.robust with 1 of server.byzantine needs 3"));
  EXPECT_THAT(ValidateTask(RobustTask(RobustRule::kKrum, 2, 6)), refused("needs 7"));
  EXPECT_THAT(ValidateTask(RobustTask(RobustRule::kBulyan, 2, 10)), refused("needs 11"));
  EXPECT_THAT(ValidateTask(RobustTask(RobustRule::kBulyan, UINT32_MAX, 10)),
              refused("server.robust"));
  task = RobustTask(RobustRule::kMedian, 1, 5);
  task.server.buffered_sums = 2;
  EXPECT_THAT(ValidateTask(task), refused("server.buffered_sums is 2, but"));
  EXPECT_THAT(ValidateTask(BufferedTask(5, 4)), refused("server.buffered_sums must be at most"));
  task = BufferedTask(2, 4);
  task.server.staleness_max = limits::kStalenessMax + 1;
  EXPECT_THAT(ValidateTask(task), refused("server.staleness_max"));
}

TEST(ValidateTask, RefusesRecipesThatContradictEachOther) {
  const auto refused = [](const std::string& text) {
    return HasCodeAndText(Code::kInvalidArgument, text);
  };
  TaskSpec task = BufferedTask(2, 4);
  task.training.scaffold = true;
  task.training.population = 100;
  EXPECT_THAT(ValidateTask(task), refused("training.scaffold"));
  task.server.buffered_sums = 0;
  EXPECT_THAT(ValidateTask(task), IsOk());
  task.training.population = 4 * 5 - 1;
  EXPECT_THAT(ValidateTask(task), refused("training.population"));
  // A rule that leaves out part of what devices sent would let the server's control variate drift.
  for (const RobustRule rule : {RobustRule::kTrimmedMean, RobustRule::kMedian}) {
    task = RobustTask(rule, 1, 3);
    task.training.population = 1'000;
    EXPECT_THAT(ValidateTask(task), IsOk());
    task.training.scaffold = true;
    EXPECT_THAT(ValidateTask(task), refused("server.robust"));
  }
  task = BufferedTask(2, 4);
  task.training.fairness_q = 1;
  EXPECT_THAT(ValidateTask(task), refused("training.fairness_q"));
  task = RobustTask(RobustRule::kMedian, 1, 3);
  task.training.fairness_q = 1;
  EXPECT_THAT(ValidateTask(task), refused("training.fairness_q"));
}

TEST(ValidateTask, KeepsAnalyticsAndTrainingApart) {
  TaskSpec good = PlainTask();
  good.model = {};
  good.queries = {{.name = "count"}};
  EXPECT_THAT(ValidateTask(good), IsOk());
  const auto refused = [](const std::string& text) {
    return HasCodeAndText(Code::kInvalidArgument, text);
  };
  TaskSpec task = good;
  task.model = PlainTask().model;
  EXPECT_THAT(ValidateTask(task), refused("model must be left out"));
  task = good;
  task.training.scaffold = true;
  EXPECT_THAT(ValidateTask(task), refused("training.scaffold"));
  task = good;
  task.server.robust = RobustRule::kMedian;
  EXPECT_THAT(ValidateTask(task), refused("server.robust"));
  task = good;
  task.queries[0].columns = {1};
  EXPECT_THAT(ValidateTask(task), refused("queries[0] \"count\": columns"));
  task = good;
  task.queries[0] = {
      .name = "mean", .kind = QueryKind::kMean, .columns = {0}, .low = 0, .high = 1'000};
  EXPECT_THAT(ValidateTask(task), refused("encoding.bound"));
}

}  // namespace
}  // namespace chorus::coordinator
