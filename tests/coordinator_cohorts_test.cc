// Rounds of several cohorts side by side: who is in which, what their sums add up to, and what one
// that fails costs. Also the pre-keys that clients send ahead of their session.
#include "coordinator/cohorts.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "base/limits.h"
#include "coordinator_world.h"

namespace chorus::coordinator {
namespace {

using testing::Contains;
using testing::Each;
using testing::ElementsAre;
using testing::ElementsAreArray;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

TaskSpec ParallelTask(Protocol protocol, uint32_t parallel) {
  TaskSpec task = protocol == Protocol::kSecAgg ? SecAggTask() : PlainTask();
  task.cohort = {
      .minimum = 4, .target = 5, .maximum = 5, .over_selection_percent = 0, .parallel = parallel};
  return task;
}

// --- sizes ---

TEST(CohortSizes, AreAsManyAsHoldTheWaitingAndNearlyEqual) {
  const CohortSpec spec = {.minimum = 4,
                           .target = 8,
                           .maximum = 10,
                           .over_selection_percent = 25,
                           .parallel = 3};  // 10 each
  EXPECT_EQ(ClientsWanted(spec), 30U);
  EXPECT_THAT(CohortSizes(spec, 3), IsEmpty());
  EXPECT_THAT(CohortSizes(spec, 4), ElementsAre(4));
  EXPECT_THAT(CohortSizes(spec, 10), ElementsAre(10));
  EXPECT_THAT(CohortSizes(spec, 11), ElementsAre(6, 5));
  EXPECT_THAT(CohortSizes(spec, 20), ElementsAre(10, 10));
  EXPECT_THAT(CohortSizes(spec, 23), ElementsAre(8, 8, 7));
  EXPECT_THAT(CohortSizes(spec, 30), ElementsAre(10, 10, 10));
  EXPECT_THAT(CohortSizes(spec, 1'000), ElementsAre(10, 10, 10));
}

TEST(CohortSizes, AreNeverBelowTheMinimumNorAboveWhatACohortWants) {
  for (uint32_t minimum = 1; minimum <= 9; ++minimum) {
    for (size_t waiting = 0; waiting <= 40; ++waiting) {
      const CohortSpec spec = {.minimum = minimum, .target = 9, .maximum = 9, .parallel = 4};
      const std::vector<uint32_t> sizes = CohortSizes(spec, waiting);
      EXPECT_EQ(sizes.empty(), waiting < minimum);
      EXPECT_LE(sizes.size(), 4U);
      for (const uint32_t size : sizes) {
        EXPECT_GE(size, minimum);
        EXPECT_LE(size, 9U);
      }
      EXPECT_LE(std::accumulate(sizes.begin(), sizes.end(), size_t{0}), waiting);
    }
  }
}

// --- sums ---

TEST(ParallelCohorts, AddUpToTheExactMeanOverAllOfThem) {
  Parallel t(ParallelTask(Protocol::kSecAgg, 3), 15);
  ASSERT_THAT(t.groups, SizeIs(3));
  EXPECT_THAT(t.groups, Each(SizeIs(5)));
  const Group all = t.Without({});
  t.GiveFirst(all);
  t.Give(all, 4);
  t.world.Settle();
  EXPECT_EQ(t.world.core->weights(), MeanAdded({1, 2, 3, 4}, all));
  for (auto& player : t.players) player->HearsOfEnd(true);
  const RoundReport& report = t.world.store.Round(1);
  EXPECT_EQ(report.state, RoundState::kCommitted) << report.reason;
  EXPECT_EQ(report.invited, 15U);
  EXPECT_EQ(report.contributors, 15U);
  EXPECT_EQ(report.cohorts, 3U);
  EXPECT_EQ(report.cohorts_committed, 3U);
  EXPECT_THAT(report.dropouts, ElementsAre(0, 0, 0, 0, 0, 0));
  std::map<uint32_t, int> closed;
  for (const CoordinatorEvent& event : t.world.Of(EventKind::kStepClosed)) {
    EXPECT_EQ(event.answered, 5U);
    ++closed[event.cohort];
  }
  EXPECT_THAT(closed, ElementsAre(std::pair(1U, 6), std::pair(2U, 6), std::pair(3U, 6)));
}

TEST(ParallelCohorts, OneThatAbortsCostsOnlyItself) {
  Parallel t(ParallelTask(Protocol::kSecAgg, 3), 15);
  const Group failing = t.groups[1];
  const Group rest = t.Without(failing);
  const Group all = t.Without({});
  t.GiveFirst(all);
  t.Give(all, 1);
  t.Give(rest, 3);
  t.Give({failing[0], failing[1], failing[2]}, 1);  // the minimum is 4
  t.world.Settle();
  EXPECT_THAT(t.world.Of(EventKind::kRoundEnded), IsEmpty());
  t.world.Advance(t.world.task.deadlines.upload);
  const RoundReport& report = t.world.store.Round(1);
  EXPECT_EQ(report.state, RoundState::kCommitted) << report.reason;
  EXPECT_EQ(report.contributors, 10U);
  EXPECT_EQ(report.cohorts, 3U);
  EXPECT_EQ(report.cohorts_committed, 2U);
  EXPECT_EQ(t.world.core->weights(), MeanAdded({1, 2, 3, 4}, rest));
  for (const size_t i : rest) t.players[i]->HearsOfEnd(true);
  for (size_t i = 0; i < 3; ++i) t.players[failing[i]]->HearsOfEnd(false, Code::kAborted);
}

TEST(ParallelCohorts, AbortTheRoundOnlyWhenNoneMakesASum) {
  Parallel t(ParallelTask(Protocol::kSecAgg, 2), 10);
  t.GiveFirst(t.groups[0]);
  t.world.Advance(t.world.task.deadlines.choose);
  t.Give(t.groups[0], 1);
  t.world.Advance(t.world.task.deadlines.share);
  t.world.Advance(t.world.task.deadlines.upload);
  const RoundReport& report = t.world.store.Round(1);
  EXPECT_EQ(report.state, RoundState::kAborted);
  EXPECT_EQ(report.code, Code::kAborted);
  EXPECT_THAT(report.reason, HasSubstr("none of 2 cohorts"));
  EXPECT_EQ(report.cohorts, 2U);
  EXPECT_EQ(report.cohorts_committed, 0U);
  EXPECT_EQ(t.world.core->weights(), (Weights{1, 2, 3, 4}));
}

TEST(ParallelCohorts, GarbageInOneCostsOnlyThatOne) {
  Parallel t(ParallelTask(Protocol::kPlain, 2), 10);
  // Each value is within its bound, but more examples were right than were looked at.
  const int bits = math::BitsFor(5, t.world.task.encoding.bound);
  RingVector garbage = math::ZeroVector(4 + math::kMetricCoordinates, bits);
  math::SetSigned(garbage, 4 + 2, t.world.task.encoding.bound);
  const Bytes packed = math::Pack(garbage, bits);
  Bytes& answer = t.thoughts[t.groups[0][0]];
  ASSERT_EQ(answer.size(), 32 + packed.size());
  std::copy(packed.begin(), packed.end(), answer.begin() + 32);
  t.GiveFirst(t.Without({}));
  t.world.Settle();
  EXPECT_EQ(t.world.store.Round(1).state, RoundState::kCommitted);
  EXPECT_EQ(t.world.store.Round(1).cohorts_committed, 1U);
  EXPECT_EQ(t.world.core->weights(), MeanAdded({1, 2, 3, 4}, t.groups[1]));
  for (const size_t i : t.groups[0]) t.players[i]->HearsOfEnd(false, Code::kAborted);
  for (const size_t i : t.groups[1]) t.players[i]->HearsOfEnd(true);
}

// Every client gives the largest value that there is: 15 of them are more than the bits of a
// cohort of 5 hold.
TEST(ParallelCohorts, AddUpBeyondTheBitsOfOneCohort) {
  World world(ParallelTask(Protocol::kPlain, 3));
  world.Start();
  Players players = CheckedIn(world, 15);
  for (auto& player : players) player->Ready({1, 0, 0, 0}, 4'096);
  for (auto& player : players) player->Contribute();
  world.Settle();
  EXPECT_EQ(world.store.Round(1).contributors, 15U);
  EXPECT_EQ(world.core->weights(), (Weights{2, 2, 3, 4}));
}

// --- time ---

// Takes long to open a sum.
class SlowExecutor final : public Executor {
 public:
  explicit SlowExecutor(TestClock& clock) : clock_(clock) {}
  void ParallelFor(size_t count, const std::function<void(size_t)>& work) override {
    clock_.now += Time{600'000};
    for (size_t i = 0; i < count; ++i) work(i);
  }

 private:
  TestClock& clock_;
};

TEST(ParallelCohorts, AreNotHeldToTheTimeThatOpeningAnotherTakes) {
  World world(ParallelTask(Protocol::kSecAgg, 2));
  SlowExecutor executor(world.clock);
  world.executor = &executor;
  world.Start();
  Players players = CheckedIn(world, 10);
  ReadyAll(players);
  for (size_t step = 0; step < 4; ++step) {
    for (auto& player : players) player->Contribute();
  }
  // Everybody's last answer is on its way when the first cohort is opened.
  for (auto& player : players) {
    const auto question = player->Take<wire::Question>();
    ASSERT_TRUE(question.has_value());
    const Result<Bytes> answer = player->contributor->Answer(player->Body(*question));
    ASSERT_THAT(answer, IsOk());
    EXPECT_THAT(player->Answer(*answer), IsOk());
    world.core->Tick();
  }
  EXPECT_EQ(world.store.Round(1).cohorts_committed, 2U);
  EXPECT_EQ(world.store.Round(1).contributors, 10U);
}

// --- selection ---

TEST(ParallelCohorts, BeginSmallAfterCheckInsPatience) {
  World world(ParallelTask(Protocol::kPlain, 4));
  world.Start();
  Players players = CheckedIn(world, 13);
  world.Advance(world.task.deadlines.check_in - Time{1});
  EXPECT_THAT(world.Of(EventKind::kRoundBegan), IsEmpty());
  world.Advance(Time{1});
  ASSERT_THAT(world.Of(EventKind::kRoundBegan), SizeIs(1));
  EXPECT_EQ(world.Of(EventKind::kRoundBegan)[0].round.invited, 13U);
  EXPECT_EQ(world.Of(EventKind::kRoundBegan)[0].round.cohorts, 3U);
}

TEST(ParallelCohorts, AreCutByTheExperimentsSeedAndNotByTheOrderOfArrival) {
  std::vector<std::set<std::set<uint64_t>>> cuts;
  for (const uint64_t seed : {7, 7, 8}) {
    World world(ParallelTask(Protocol::kPlain, 3));
    world.experiment_seed = seed;
    world.Start();
    Players players;
    const bool reverse = cuts.size() == 1;
    for (uint64_t i = 1; i <= 15; ++i) {
      players.push_back(std::make_unique<Player>(world, reverse ? 16 - i : i));
      players.back()->CheckIn();
      players.back()->Ask();
    }
    ReadyAll(players);
    std::map<Digest, std::set<uint64_t>> by_offer;
    for (auto& player : players) {
      const auto question = player->Take<wire::Question>();
      ASSERT_TRUE(question.has_value());
      by_offer[question->sha256].insert(player->serial);
    }
    std::set<std::set<uint64_t>>& cut = cuts.emplace_back();
    for (const auto& [offer, serials] : by_offer) cut.insert(serials);
  }
  EXPECT_EQ(cuts[0], cuts[1]);
  EXPECT_NE(cuts[0], cuts[2]);
}

TEST(ParallelCohorts, AreBoundedInNumber) {
  TaskSpec task = ParallelTask(Protocol::kPlain, 1);
  for (const uint32_t parallel : {uint32_t{0}, limits::kParallelCohortsMax + 1, UINT32_MAX}) {
    task.cohort.parallel = parallel;
    EXPECT_THAT(ValidateTask(task), HasCodeAndText(Code::kInvalidArgument, "cohort.parallel"));
  }
  task.cohort.parallel = limits::kParallelCohortsMax;
  EXPECT_THAT(ValidateTask(task), IsOk());
  task.cohort.target = task.cohort.maximum = limits::kCohortMax;
  EXPECT_THAT(ValidateTask(task), HasCodeAndText(Code::kInvalidArgument, "cohort.parallel"));
}

// --- keys ---

aggregation::PreKeys PreKeysOf(const Player& player, int64_t not_after) {
  return *aggregation::MakePreKeys(
      {.identity_seed = player.seed.Reveal(), .evidence = player.evidence, .not_after = not_after},
      *player.world->rng);
}

// What the keys step asked, and whether the round then went well, when all but the players of
// `without` have sent pre-keys that are good until `not_after`.
CoordinatorEvent KeysStepOf(const Group& without, int64_t not_after) {
  World world(ParallelTask(Protocol::kSecAgg, 1));
  world.Start();
  Players players = CheckedIn(world, 5);
  for (size_t i = 0; i < players.size(); ++i) {
    if (std::find(without.begin(), without.end(), i) != without.end()) continue;
    players[i]->prekeys = PreKeysOf(*players[i], not_after);
  }
  ReadyAll(players);
  world.Settle();
  for (size_t step = 0; step < 5; ++step) {
    const bool asked_all = step > 0 || not_after < world.clock.unix_seconds;
    for (size_t i = 0; i < players.size(); ++i) {
      if (asked_all || std::find(without.begin(), without.end(), i) != without.end()) {
        players[i]->Contribute();
      }
    }
  }
  world.Settle();
  EXPECT_EQ(world.store.Round(1).state, RoundState::kCommitted) << world.store.Round(1).reason;
  EXPECT_EQ(world.store.Round(1).contributors, 5U);
  EXPECT_THAT(world.store.Round(1).dropouts, ElementsAre(0, 0, 0, 0, 0, 0));
  EXPECT_EQ(world.core->weights(), MeanAdded({1, 2, 3, 4}, {0, 1, 2, 3, 4}));
  for (auto& player : players) player->HearsOfEnd(true);
  const std::vector<CoordinatorEvent> closed = world.Of(EventKind::kStepClosed);
  return closed.size() < 2 ? CoordinatorEvent{} : closed[1];
}

// Records are shown to peers, so one that is still good could be sent again by any of them.
TEST(PreKeys, OfAnotherIdentityAreRefusedAndHarmOnlyTheirSender) {
  World world(ParallelTask(Protocol::kSecAgg, 1));
  world.Start();
  Players players = CheckedIn(world, 5);
  for (auto& player : players) player->prekeys = PreKeysOf(*player, 1'050'000);
  ASSERT_TRUE(players[0]->Take<wire::Invitation>().has_value());
  EXPECT_THAT(players[0]->Answer(players[1]->prekeys->record), HasCode(Code::kInvalidArgument));
  for (size_t i = 1; i < players.size(); ++i) players[i]->Ready(UpdateOf(i), ExamplesOf(i));
  world.Settle();
  const auto closed = world.Of(EventKind::kStepClosed);
  ASSERT_THAT(closed, testing::SizeIs(testing::Ge(2U)));
  EXPECT_EQ(closed[0].asked, 5U);
  EXPECT_EQ(closed[0].answered, 4U);
  EXPECT_EQ(closed[1].asked, 0U) << "the others' pre-keys are in, its owner's among them";
}

TEST(PreKeys, SpareTheirSendersTheKeysStepAndNobodyCountsAsLost) {
  const CoordinatorEvent nobody = KeysStepOf({}, 1'050'000);
  EXPECT_EQ(nobody.step, "keys");
  EXPECT_EQ(nobody.asked, 0U);
  const CoordinatorEvent two = KeysStepOf({1, 3}, 1'050'000);
  EXPECT_EQ(two.asked, 2U);
  EXPECT_EQ(two.answered, 2U);
}

TEST(PreKeys, ThatHaveExpiredByTheCoordinatorsClockAreAskedFor) {
  EXPECT_EQ(KeysStepOf({}, 999'999).asked, 5U);
}

TEST(PreKeys, AreNoAnswerToAnInvitationOfPlainNorWhenTooLong) {
  World plain(PlainTask());
  plain.Start();
  Players players = CheckedIn(plain, 5);
  ASSERT_TRUE(players[0]->Take<wire::Invitation>().has_value());
  EXPECT_THAT(players[0]->Answer(Bytes(100)), HasCode(Code::kResourceExhausted));
  World world(SecAggTask());
  world.Start();
  Players others = CheckedIn(world, 5);
  ASSERT_TRUE(others[0]->Take<wire::Invitation>().has_value());
  EXPECT_THAT(others[0]->Answer(Bytes(aggregation::kPreKeyRecordBytesMax + 1)),
              HasCode(Code::kResourceExhausted));
  // Garbage under one's own name is no record, and its sender is asked as everybody.
  const PublicKey id = crypto::Ed25519Public(others[0]->seed.Reveal());
  Bytes garbage(aggregation::kPreKeyRecordBytesMax);
  std::copy(id.begin(), id.end(), garbage.begin());
  ASSERT_THAT(others[0]->Answer(garbage), IsOk());
}

TEST(SessionKeys, AreRefusedInAnotherSessionUntilTwoDaysHavePassed) {
  World world(ParallelTask(Protocol::kSecAgg, 1));
  world.Start();
  Players players = CheckedIn(world, 5);
  Player& replaying = *players[2];
  const auto begin = [&] {
    replaying.own_rng = crypto::NewSeededRng(SeedOf("always the same").Reveal());
    ReadyAll(players);
    const Result<Bytes> keys = replaying.Think();
    EXPECT_THAT(keys, IsOk());
    return replaying.Answer(*keys);
  };
  const auto end = [&] {
    for (auto& player : players) player->Ask();
    world.Advance(Time{600'000});
    for (auto& player : players) player->done = 0;
    for (auto& player : players) {
      player->CheckIn();
      player->Ask();
    }
    world.Advance(Time{30'000});
  };
  EXPECT_THAT(begin(), IsOk());
  end();
  EXPECT_THAT(begin(), HasCodeAndText(Code::kInvalidArgument, "another session"));
  end();
  world.clock.unix_seconds += 3 * 86'400;
  EXPECT_THAT(begin(), IsOk());
}

}  // namespace
}  // namespace chorus::coordinator
