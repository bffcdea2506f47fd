// Rounds that close on count (FedBuff): what commits, what goes on, what counts how much, and who
// hears what.
#include <cmath>
#include <set>
#include <string>
#include <vector>

#include "coordinator_world.h"

namespace chorus::coordinator {
namespace {

using testing::ElementsAre;
using testing::FloatNear;
using testing::HasSubstr;
using testing::Pointwise;
using testing::SizeIs;

TaskSpec BufferedTask(uint32_t sums, uint32_t parallel) {
  TaskSpec task = PlainTask();
  task.cohort = {.minimum = 5, .target = 5, .maximum = 5, .parallel = parallel};
  task.server.buffered_sums = sums;
  task.rounds = 10;
  return task;
}

// `weights` and the mean update of those, weighted down by so many commits.
Weights MovedBy(const Weights& weights, const Group& who, double staleness) {
  const Weights mean = MeanAdded({0, 0, 0, 0}, who);
  Weights moved = weights;
  for (size_t j = 0; j < moved.size(); ++j) {
    moved[j] += mean[j] / static_cast<float>(std::sqrt(1 + staleness));
  }
  return moved;
}

void ExpectNear(const Weights& actual, const Weights& expected) {
  EXPECT_THAT(actual, Pointwise(FloatNear(1e-6F), expected));
}

struct Buffered : Parallel {
  using Parallel::Parallel;
  void HearOfEnd(const Group& who, bool counted = true, Code code = Code::kOk) {
    for (const size_t i : who) players[i]->HearsOfEnd(counted, code);
  }
  void AskAgain(const Group& who) {
    for (const size_t i : who) players[i]->Ask();
    world.Settle();
  }
  // They take part in the round that has begun with them, up to the first question.
  void BeginWith(const Group& who) {
    for (const size_t i : who) players[i]->Ready(UpdateOf(i), ExamplesOf(i));
    for (const size_t i : who) {
      const Result<Bytes> answer = players[i]->Think();
      ASSERT_THAT(answer, IsOk());
      thoughts[i] = *answer;
    }
  }
};

TEST(BufferedRound, CommitsOnTheFirstSumsAndLetsTheOthersGoOn) {
  Buffered t(BufferedTask(1, 2), 10);
  ASSERT_THAT(t.groups, SizeIs(2));
  const Group& first = t.groups[0];
  const Group& second = t.groups[1];
  t.GiveFirst(first);
  t.world.Settle();
  const Weights one = MeanAdded({1, 2, 3, 4}, first);
  EXPECT_EQ(t.world.core->weights(), one);
  EXPECT_EQ(t.world.store.Round(1).state, RoundState::kCommitted);
  EXPECT_EQ(t.world.store.Round(1).cohorts, 2U);
  EXPECT_EQ(t.world.store.Round(1).cohorts_committed, 1U);
  EXPECT_EQ(t.world.store.Round(1).contributors, 5U);
  t.HearOfEnd(first);

  // The next round begins with whom is free; the others still have what they train on.
  t.AskAgain(first);
  EXPECT_EQ(t.world.store.Round(2).state, RoundState::kOpen);
  EXPECT_EQ(t.world.store.Round(2).cohorts, 1U);
  const Player& late = *t.players[second[0]];
  const auto still = late.Download(late.joined.model, 0);
  ASSERT_THAT(still, IsOk());
  EXPECT_EQ(crypto::Sha256(still->data), late.joined.model);
  const Player& next = *t.players[first[0]];
  EXPECT_THAT(next.Download(next.joined.model, 0), HasCode(Code::kNotFound));

  // Their sum commits round 2, weighted down by the one commit between.
  t.GiveFirst(second);
  t.world.Settle();
  ExpectNear(t.world.core->weights(), MovedBy(one, second, 1));
  EXPECT_EQ(t.world.store.Round(2).state, RoundState::kCommitted);
  EXPECT_EQ(t.world.store.Round(2).contributors, 5U);
  EXPECT_EQ(t.world.store.Round(2).evaluated, 0U);
  t.HearOfEnd(second);
  EXPECT_THAT(late.Download(late.joined.model, 0), HasCode(Code::kNotFound));
}

TEST(BufferedRound, TrainsEachCohortFromTheModelThatItBeganWith) {
  Buffered t(BufferedTask(1, 2), 10);
  t.GiveFirst(t.groups[0]);
  t.world.Settle();
  const Weights one = t.world.core->weights();
  t.HearOfEnd(t.groups[0]);
  t.AskAgain(t.groups[0]);
  t.BeginWith(t.groups[0]);
  for (const size_t i : t.groups[0]) EXPECT_EQ(t.players[i]->weights, one);
  // Its sum comes first, so that it is fresh.
  t.GiveFirst(t.groups[0]);
  t.world.Settle();
  const Weights two = MeanAdded(one, t.groups[0]);
  EXPECT_EQ(t.world.core->weights(), two);
  EXPECT_GT(t.world.store.Round(2).evaluated, 0U);
  // The other's, two commits later; nobody else is free, and so it is a round by itself.
  t.GiveFirst(t.groups[1]);
  t.world.Settle();
  ExpectNear(t.world.core->weights(), MovedBy(two, t.groups[1], 2));
  EXPECT_EQ(t.world.store.Round(3).state, RoundState::kCommitted);
  EXPECT_EQ(t.world.store.Round(3).invited, 0U);
  EXPECT_EQ(t.world.store.Round(3).cohorts, 0U);
  EXPECT_EQ(t.world.store.Round(3).cohorts_committed, 1U);
  EXPECT_EQ(t.world.store.Task().rounds_committed, 3U);
}

TEST(BufferedRound, RunsNoMoreCohortsThanTheTaskSays) {
  Buffered t(BufferedTask(1, 2), 10);
  Players more;
  for (uint64_t serial = 101; serial <= 110; ++serial) {
    more.push_back(std::make_unique<Player>(t.world, serial));
    more.back()->CheckIn();
    more.back()->Ask();
  }
  t.world.Settle();
  t.GiveFirst(t.groups[0]);
  t.world.Settle();
  EXPECT_EQ(t.world.store.Round(2).cohorts, 1U) << "one of round 1 goes on";
  t.GiveFirst(t.groups[1]);
  t.world.Settle();
  EXPECT_EQ(t.world.store.Round(2).state, RoundState::kCommitted);
  EXPECT_EQ(t.world.store.Round(3).cohorts, 1U) << "one of round 2 goes on";
}

TEST(BufferedRound, KeepsSumsThatAreTooFewForTheNextRound) {
  Buffered t(BufferedTask(2, 2), 10);
  const Group first = t.groups[0];
  for (const size_t i : t.groups[1]) ASSERT_THAT(t.players[i]->Abort(Code::kUnavailable), IsOk());
  t.GiveFirst(first);
  t.world.Settle();
  EXPECT_EQ(t.world.store.Round(1).state, RoundState::kAborted);
  EXPECT_THAT(t.world.store.Round(1).reason, HasSubstr("they count in a later round"));
  EXPECT_EQ(t.world.core->weights(), (Weights{1, 2, 3, 4}));
  t.HearOfEnd(first);
  t.AskAgain(t.Without({}));
  EXPECT_EQ(t.world.store.Round(2).state, RoundState::kOpen) << "there is no reason to pause";
  t.Begin();
  const Group second = t.groups[0];
  t.GiveFirst(second);
  t.world.Settle();
  EXPECT_EQ(t.world.store.Round(2).state, RoundState::kCommitted);
  EXPECT_EQ(t.world.store.Round(2).cohorts_committed, 2U);
  EXPECT_EQ(t.world.store.Round(2).contributors, 10U);
  // No commit came between: both are fresh.
  Group both = first;
  both.insert(both.end(), second.begin(), second.end());
  ExpectNear(t.world.core->weights(), MeanAdded({1, 2, 3, 4}, both));
}

TEST(BufferedRound, SendsHomeWhoIsTooStaleToCount) {
  TaskSpec task = BufferedTask(1, 2);
  task.server.staleness_max = 0;
  Buffered t(task, 10);
  t.GiveFirst(t.groups[0]);
  t.world.Settle();
  const Weights one = t.world.core->weights();
  t.HearOfEnd(t.groups[0]);
  t.HearOfEnd(t.groups[1], false, Code::kDeadlineExceeded);
  // Nothing of theirs is taken any more, and both cohorts are free.
  const size_t i = t.groups[1][0];
  EXPECT_FALSE(t.players[i]->Answer(t.thoughts[i]).ok());
  t.AskAgain(t.Without({}));
  EXPECT_EQ(t.world.store.Round(2).invited, 10U);
  EXPECT_EQ(t.world.core->weights(), one);
}

TEST(BufferedRound, TellsLateCohortsThatFailByThemselves) {
  Buffered t(BufferedTask(1, 2), 10);
  t.GiveFirst(t.groups[0]);
  t.world.Settle();
  const Weights one = t.world.core->weights();
  t.world.Advance(t.world.task.deadlines.upload);
  t.HearOfEnd(t.groups[1], false, Code::kDeadlineExceeded);
  EXPECT_EQ(t.world.core->weights(), one);
  EXPECT_EQ(t.world.store.Task().rounds_committed, 1U);
}

// Who left a cohort that goes on is in another by the time that the first one ends.
TEST(BufferedRound, LeavesAloneWhoHasGoneOnToAnotherRound) {
  TaskSpec task = BufferedTask(1, 2);
  task.cohort.minimum = 4;
  Buffered t(task, 10);
  const size_t leaver = t.groups[1].front();
  Group rest(t.groups[1].begin() + 1, t.groups[1].end());
  ASSERT_THAT(t.players[leaver]->Abort(Code::kUnavailable), IsOk());
  t.GiveFirst(t.groups[0]);
  t.world.Settle();
  t.HearOfEnd(t.groups[0]);
  Group next(t.groups[0].begin() + 1, t.groups[0].end());
  next.push_back(leaver);
  t.AskAgain(next);
  EXPECT_EQ(t.world.store.Round(2).invited, 5U);
  t.BeginWith(next);
  EXPECT_EQ(t.players[leaver]->joined.round, 2U);
  t.GiveFirst(rest);
  t.world.Settle();
  EXPECT_EQ(t.world.store.Round(2).contributors, 4U);
  t.HearOfEnd(rest);
  const Weights two = t.world.core->weights();
  t.GiveFirst(next);
  t.world.Settle();
  ExpectNear(t.world.core->weights(), MovedBy(two, next, 1));
  t.HearOfEnd(next);
}

TEST(BufferedRound, LosesWhatIsOnTheWayInACrashAndNothingElse) {
  Buffered t(BufferedTask(1, 2), 10);
  t.GiveFirst(t.groups[0]);
  t.world.Settle();
  const Weights one = t.world.core->weights();
  t.HearOfEnd(t.groups[0]);
  t.AskAgain(t.groups[0]);
  t.world.Start();
  EXPECT_EQ(t.world.core->weights(), one);
  EXPECT_EQ(t.world.store.Round(1).state, RoundState::kCommitted);
  EXPECT_EQ(t.world.store.Round(2).state, RoundState::kAborted);
  t.players = CheckedIn(t.world, 10);
  t.Begin();
  EXPECT_EQ(t.players[0]->joined.round, 3U) << "a round's number is never used again";
  t.GiveFirst(t.groups[0]);
  t.world.Settle();
  EXPECT_EQ(t.world.core->weights(), MeanAdded(one, t.groups[0]));
}

TEST(BufferedRound, TakesSumsWhileTheStoreIsInTrouble) {
  Buffered t(BufferedTask(1, 2), 10);
  t.world.store.failing = "commit round";
  t.GiveFirst(t.groups[0]);
  t.world.Settle();
  t.GiveFirst(t.groups[1]);
  t.world.Settle();
  EXPECT_EQ(t.world.core->weights(), (Weights{1, 2, 3, 4}));
  t.world.store.failing.clear();
  t.world.Advance(Time{3'000});
  // The first commits, and then the other, which is one behind by now.
  ExpectNear(t.world.core->weights(),
             MovedBy(MeanAdded({1, 2, 3, 4}, t.groups[0]), t.groups[1], 1));
  EXPECT_EQ(t.world.store.Task().rounds_committed, 2U);
  t.HearOfEnd(t.Without({}));
}

TEST(BufferedRound, EndsWithTheTask) {
  TaskSpec task = BufferedTask(1, 2);
  task.rounds = 1;
  Buffered t(task, 10);
  t.GiveFirst(t.groups[0]);
  t.world.Settle();
  EXPECT_THAT(t.world.Of(EventKind::kTaskComplete), SizeIs(1));
  t.HearOfEnd(t.groups[0]);
  for (const size_t i : t.groups[1]) {
    const auto wait = t.players[i]->Take<wire::Wait>();
    const auto over = wait.has_value() ? std::nullopt : t.players[i]->Take<wire::RoundOver>();
    EXPECT_TRUE(wait.has_value() || over.has_value()) << i;
    EXPECT_FALSE(t.players[i]->Answer(t.thoughts[i]).ok());
  }
  t.world.Advance(t.world.task.deadlines.upload);
  EXPECT_EQ(t.world.store.Task().rounds_committed, 1U);
}

// The same over SecAgg, whose sessions each bind the model that their cohort began with.
TEST(BufferedRound, OpensLateSumsOfSecAggUnderTheirOwnModel) {
  TaskSpec task = SecAggTask();
  task.cohort = {.minimum = 5, .target = 5, .maximum = 5, .parallel = 2};
  task.server.buffered_sums = 1;
  Buffered t(task, 10);
  t.GiveFirst(t.groups[0]);
  t.Give(t.groups[0], 4);
  t.world.Settle();
  const Weights one = MeanAdded({1, 2, 3, 4}, t.groups[0]);
  EXPECT_EQ(t.world.core->weights(), one);
  t.GiveFirst(t.groups[1]);
  t.Give(t.groups[1], 4);
  t.world.Settle();
  ExpectNear(t.world.core->weights(), MovedBy(one, t.groups[1], 1));
  t.HearOfEnd(t.Without({}));
}

}  // namespace
}  // namespace chorus::coordinator
