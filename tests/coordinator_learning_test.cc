// What the server learns and keeps: its optimiser's state across restarts, what clients are sent
// under SCAFFOLD, and robust rounds over real cohorts.
#include <algorithm>
#include <string>
#include <vector>

#include "coordinator_world.h"
#include "learning/learning.h"

namespace chorus::coordinator {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;

constexpr ServerOptimizer kWithState[] = {ServerOptimizer::kFedAvgM, ServerOptimizer::kFedAdagrad,
                                          ServerOptimizer::kFedAdam, ServerOptimizer::kFedYogi};

TaskSpec TaskWith(ServerOptimizer optimizer) {
  TaskSpec task = PlainTask();
  task.server.optimizer = optimizer;
  task.rounds = 4;
  return task;
}

void RunRounds(World& world, int rounds) {
  Players players = CheckedIn(world, 5);
  for (int round = 0; round < rounds; ++round) {
    RunRound(players);
    world.Settle();
    for (auto& player : players) player->HearsOfEnd(true);
    for (auto& player : players) player->Ask();
    world.Settle();
  }
}

TEST(ServerState, SurvivesARestartWithTheSameBits) {
  for (const ServerOptimizer optimizer : kWithState) {
    World whole(TaskWith(optimizer));
    whole.Start();
    RunRounds(whole, 4);
    World cut(TaskWith(optimizer));
    cut.Start();
    RunRounds(cut, 2);
    cut.Start();
    RunRounds(cut, 2);
    EXPECT_EQ(cut.store.Task().rounds_committed, 4U);
    EXPECT_EQ(cut.core->weights(), whole.core->weights()) << static_cast<int>(optimizer);
    EXPECT_EQ(cut.store.Task().server_state, whole.store.Task().server_state);
    EXPECT_NE(cut.store.Task().server_state, Digest{});
  }
}

// The state is not that of a beginner: a coordinator without it goes elsewhere.
TEST(ServerState, IsMissedWhereItIsForgotten) {
  World whole(TaskWith(ServerOptimizer::kFedAvgM));
  whole.Start();
  RunRounds(whole, 3);
  World forgetful(TaskWith(ServerOptimizer::kFedAvgM));
  forgetful.Start();
  RunRounds(forgetful, 2);
  forgetful.store.Task().server_state = {};
  forgetful.Start();
  RunRounds(forgetful, 1);
  EXPECT_NE(forgetful.core->weights(), whole.core->weights());
}

TEST(ServerState, SurvivesACrashInTheMiddleOfARound) {
  World whole(TaskWith(ServerOptimizer::kFedAdam));
  whole.Start();
  RunRounds(whole, 2);
  World cut(TaskWith(ServerOptimizer::kFedAdam));
  cut.Start();
  RunRounds(cut, 1);
  cut.Start();
  {
    Players players = CheckedIn(cut, 5);
    ReadyAll(players);
    players[0]->Contribute();
  }
  cut.Start();
  RunRounds(cut, 1);
  EXPECT_EQ(cut.store.Round(2).state, RoundState::kAborted);
  EXPECT_EQ(cut.core->weights(), whole.core->weights());
}

TEST(ServerState, IsNotTakenOnByACommitThatTheStoreRefused) {
  World whole(TaskWith(ServerOptimizer::kFedAdam));
  whole.Start();
  RunRounds(whole, 2);
  World full(TaskWith(ServerOptimizer::kFedAdam));
  full.Start();
  RunRounds(full, 1);
  full.Start();
  Players players = CheckedIn(full, 5);
  full.store.failing = "commit round";
  RunRound(players);
  full.Advance(Time{3'500});
  EXPECT_EQ(full.store.failures, 4);
  full.store.failing.clear();
  full.Advance(Time{1'000});
  EXPECT_EQ(full.core->weights(), whole.core->weights());
}

TEST(ServerState, OfThePastIsNotKept) {
  World world(TaskWith(ServerOptimizer::kFedAdam));
  world.Start();
  RunRounds(world, 3);
  EXPECT_THAT(world.store.content.models, SizeIs(4 + 1)) << "four models and one state";
  EXPECT_TRUE(world.store.content.models.contains(world.store.Task().server_state));
}

TEST(ServerState, OfFedAvgIsNone) {
  World world(TaskWith(ServerOptimizer::kFedAvg));
  world.Start();
  RunRounds(world, 2);
  EXPECT_EQ(world.store.Task().server_state, Digest{});
  EXPECT_THAT(world.store.content.models, SizeIs(3));
}

TEST(ServerState, ThatIsDamagedIsSaidAndNotGuessed) {
  World world(TaskWith(ServerOptimizer::kFedAdam));
  world.Start();
  RunRounds(world, 1);
  world.core.reset();
  Bytes& state = world.store.content.models[world.store.Task().server_state];
  state.pop_back();
  EXPECT_THAT(world.Create(), HasCodeAndText(Code::kDataLoss, "optimiser"));
  world.store.content.models.erase(world.store.Task().server_state);
  EXPECT_THAT(world.Create(), HasCode(Code::kNotFound));
}

// --- SCAFFOLD ---

TEST(ScaffoldRound, SendsTheControlVariateBehindTheWeightsAndKeepsIt) {
  TaskSpec task = PlainTask();
  task.training.scaffold = true;
  task.training.steps = 2;
  task.training.learning_rate = 0.5F;
  task.training.population = 10;
  World world(task);
  world.Start();
  Players players = CheckedIn(world, 5);
  // An update, and behind it the change of a control variate times 0.5 * 2.
  for (auto& player : players) {
    player->Ready({0.25F, 0, 0, 0, 0, 0.5F, 0, 0}, 256);
    EXPECT_THAT(player->weights, ElementsAre(1, 2, 3, 4, 0, 0, 0, 0));
  }
  for (auto& player : players) player->Contribute();
  world.Settle();
  for (auto& player : players) player->HearsOfEnd(true);
  EXPECT_THAT(world.core->weights(), ElementsAre(1.25F, 2, 3, 4));
  world.Start();
  EXPECT_THAT(world.core->weights(), ElementsAre(1.25F, 2, 3, 4));
  Players again = CheckedIn(world, 5);
  again[0]->Ready({0, 0, 0, 0, 0, 0, 0, 0}, 256);
  // Half of the population, and so half of the change.
  EXPECT_THAT(again[0]->weights, ElementsAre(1.25F, 2, 3, 4, 0, 0.25F, 0, 0));
}

// --- robust rounds ---

TaskSpec MedianTask() {
  TaskSpec task = PlainTask();
  task.cohort = {.minimum = 4, .target = 5, .maximum = 5, .parallel = 3};
  task.server.robust = RobustRule::kMedian;
  task.server.byzantine = 1;
  return task;
}

TEST(RobustRound, CommitsTheMedianOfItsCohortsMeans) {
  Parallel t(MedianTask(), 15);
  ASSERT_THAT(t.groups, SizeIs(3));
  const Group all = t.Without({});
  t.GiveFirst(all);
  t.world.Settle();
  Weights expected(4);
  for (size_t j = 0; j < expected.size(); ++j) {
    std::vector<float> means;
    for (const Group& group : t.groups) means.push_back(MeanAdded({0, 0, 0, 0}, group)[j]);
    std::sort(means.begin(), means.end());
    expected[j] = Weights{1, 2, 3, 4}[j] + means[1];
  }
  EXPECT_EQ(t.world.core->weights(), expected);
  EXPECT_EQ(t.world.store.Round(1).cohorts_committed, 3U);
}

TEST(RobustRound, AbortsWhenTooFewOfItsCohortsHaveASum) {
  Parallel t(MedianTask(), 15);
  for (const size_t i : t.groups[1]) ASSERT_THAT(t.players[i]->Abort(Code::kUnavailable), IsOk());
  t.GiveFirst(t.Without(t.groups[1]));
  t.world.Settle();
  const RoundReport& report = t.world.store.Round(1);
  EXPECT_EQ(report.state, RoundState::kAborted);
  EXPECT_THAT(report.reason, HasSubstr("server.robust needs the sums of 3 cohorts"));
  EXPECT_EQ(report.cohorts_committed, 0U);
  EXPECT_EQ(t.world.core->weights(), (Weights{1, 2, 3, 4}));
  t.players[t.groups[0][0]]->HearsOfEnd(false, Code::kAborted);
}

// What waited for one round does not count in the next.
TEST(RobustRound, TakesNothingOverFromARoundThatAborted) {
  Parallel t(MedianTask(), 15);
  for (const size_t i : t.groups[1]) ASSERT_THAT(t.players[i]->Abort(Code::kUnavailable), IsOk());
  t.GiveFirst(t.Without(t.groups[1]));
  t.world.Settle();
  t.world.Start();
  t.players = CheckedIn(t.world, 15);
  t.Begin();
  t.GiveFirst(t.Without({}));
  t.world.Settle();
  EXPECT_EQ(t.world.store.Round(2).state, RoundState::kCommitted);
  EXPECT_EQ(t.world.store.Round(2).cohorts_committed, 3U);
}

}  // namespace
}  // namespace chorus::coordinator
