// Rounds: their course, who is invited to them, and what of them is durable.
#include <algorithm>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "base/limits.h"
#include "coordinator/party.h"
#include "coordinator_world.h"

namespace chorus::coordinator {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;

// --- rounds ---

TEST(PlainRound, AddsTheExactWeightedMean) {
  World world;
  world.Start();
  Players players = CheckedIn(world, 5);
  RunRound(players);
  world.Settle();
  EXPECT_EQ(world.core->weights(), MeanAdded({1, 2, 3, 4}, {0, 1, 2, 3, 4}));
  for (auto& player : players) player->HearsOfEnd(true);

  ASSERT_THAT(world.Of(EventKind::kRoundBegan), SizeIs(1));
  ASSERT_THAT(world.Of(EventKind::kStepClosed), SizeIs(2));
  EXPECT_EQ(world.Of(EventKind::kStepClosed)[0].step, "training");
  EXPECT_EQ(world.Of(EventKind::kStepClosed)[1].answered, 5U);
  const RoundReport& report = world.store.Round(1);
  EXPECT_EQ(report.state, RoundState::kCommitted);
  EXPECT_EQ(report.invited, 5U);
  EXPECT_EQ(report.contributors, 5U);
  EXPECT_THAT(report.dropouts, ElementsAre(0, 0));
  EXPECT_EQ(report.examples, 256U * (1 + 2 + 4 + 8 + 1));
  EXPECT_EQ(report.evaluated, report.examples);
  EXPECT_DOUBLE_EQ(report.accuracy, 0.5);
  EXPECT_DOUBLE_EQ(report.loss, 2.0);
  EXPECT_GT(report.bytes_up, 0U);
  EXPECT_GT(report.bytes_down, 5 * 16U);
  EXPECT_EQ(world.store.Task().rounds_committed, 1U);
  EXPECT_EQ(world.store.Task().model, crypto::Sha256(BytesOf(world.core->weights())));
}

TEST(PlainRound, CountsDropoutsOfEachStepAndSumsTheRest) {
  World world;
  world.Start();
  Players players = CheckedIn(world, 5);
  for (size_t i = 1; i < 5; ++i) players[i]->Ready(UpdateOf(i), ExamplesOf(i));
  world.Advance(world.task.deadlines.train);
  for (size_t i = 2; i < 5; ++i) players[i]->Contribute();
  world.Advance(world.task.deadlines.upload);
  EXPECT_THAT(world.store.Round(1).dropouts, ElementsAre(1, 1));
  EXPECT_EQ(world.store.Round(1).contributors, 3U);
  EXPECT_EQ(world.core->weights(), MeanAdded({1, 2, 3, 4}, {2, 3, 4}));
  players[1]->HearsOfEnd(false, Code::kDeadlineExceeded);
  for (size_t i = 2; i < 5; ++i) players[i]->HearsOfEnd(true);
}

TEST(PlainRound, AbortsBelowMinimumAndGoesOnAfterAPause) {
  World world;
  world.Start();
  Players players = CheckedIn(world, 3);
  world.Advance(world.task.deadlines.check_in);
  players[0]->Ready(UpdateOf(0), 256);
  players[1]->Ready(UpdateOf(1), 256);
  world.Advance(world.task.deadlines.train - Time{1});
  EXPECT_THAT(world.Of(EventKind::kRoundEnded), SizeIs(0));
  world.Advance(Time{1});
  ASSERT_THAT(world.Of(EventKind::kRoundEnded), SizeIs(1));
  const RoundReport& report = world.store.Round(1);
  EXPECT_EQ(report.state, RoundState::kAborted);
  EXPECT_EQ(report.code, Code::kAborted);
  EXPECT_THAT(report.reason, HasSubstr("too few"));
  EXPECT_THAT(report.dropouts, ElementsAre(1));
  EXPECT_EQ(world.core->weights(), (Weights{1, 2, 3, 4}));
  players[0]->HearsOfEnd(false, Code::kAborted);
  players[1]->HearsOfEnd(false, Code::kAborted);
  players[2]->HearsOfEnd(false, Code::kDeadlineExceeded);

  for (auto& player : players) player->Ask();
  world.Advance(Time{999});
  EXPECT_THAT(world.Of(EventKind::kRoundBegan), SizeIs(1));
  world.Advance(world.task.deadlines.check_in + Time{1});
  ASSERT_THAT(world.Of(EventKind::kRoundBegan), SizeIs(2));
  EXPECT_EQ(world.Of(EventKind::kRoundBegan)[1].round.round, 2U);
}

TEST(PlainRound, PausesLongerAfterEachAbortInARow) {
  World world;
  world.task.adapt = false;  // else more would be waited for than the three who decline
  world.task.cohort.target = 3;
  world.Start();
  Players players = CheckedIn(world, 3);
  std::vector<int64_t> pauses;
  for (int i = 0; i < 7; ++i) {
    world.Settle();
    for (auto& player : players) {
      ASSERT_TRUE(player->Take<wire::Invitation>().has_value()) << i;
      ASSERT_THAT(player->Abort(Code::kPermissionDenied), IsOk());
      player->Ask();
    }
    const Time ended = world.clock.now;
    while (players[0]->parked()) world.Advance(Time{500});
    if (std::holds_alternative<wire::Wait>(players[0]->Given()->what)) {
      for (auto& player : players) player->Ask();
      while (players[0]->parked()) world.Advance(Time{500});
    }
    pauses.push_back((world.clock.now - ended).count());
  }
  EXPECT_THAT(pauses, ElementsAre(1'000, 2'000, 4'000, 8'000, 16'000, 30'000, 30'000));
  EXPECT_EQ(world.store.Round(1).refused, 3U);
  EXPECT_THAT(world.store.Round(1).dropouts, ElementsAre(0));
}

TEST(PlainRound, DoesNotWaitForWhoDeclinesFailsOrChecksInAgain) {
  World world;
  world.task.cohort.target = 6;
  world.Start();
  Players players = CheckedIn(world, 6);
  ASSERT_TRUE(players[0]->Take<wire::Invitation>().has_value());
  ASSERT_THAT(players[0]->Abort(Code::kPermissionDenied), IsOk());
  EXPECT_THAT(players[0]->Abort(Code::kPermissionDenied), IsOk());  // repeated
  EXPECT_THAT(players[0]->Answer({}), HasCode(Code::kFailedPrecondition));
  ASSERT_TRUE(players[1]->Take<wire::Invitation>().has_value());
  ASSERT_THAT(players[1]->Abort(Code::kInternal), IsOk());
  for (size_t i = 2; i < 6; ++i) players[i]->Ready(UpdateOf(i), ExamplesOf(i));
  players[2]->CheckIn();
  for (size_t i = 3; i < 6; ++i) players[i]->Contribute();
  world.Settle();
  ASSERT_THAT(world.Of(EventKind::kRoundEnded), SizeIs(1));
  EXPECT_EQ(world.store.Round(1).refused, 1U);
  EXPECT_THAT(world.store.Round(1).dropouts, ElementsAre(1, 1));
  EXPECT_EQ(world.store.Round(1).duration_ms, 0U);
  EXPECT_EQ(world.core->weights(), MeanAdded({1, 2, 3, 4}, {3, 4, 5}));
}

TEST(PlainRound, ClosesAStepEarlyOnceNearlyAllHaveAnsweredAndTheHedgeHasPassed) {
  World world;
  world.task.cohort = {.minimum = 3, .target = 20, .maximum = 20, .over_selection_percent = 0};
  world.Start();
  Players players = CheckedIn(world, 20);
  for (size_t i = 0; i < 18; ++i) players[i]->Ready(UpdateOf(i), ExamplesOf(i));
  world.Advance(Time{10'000});
  players[18]->Ready(UpdateOf(18), ExamplesOf(18));
  world.Advance(world.task.deadlines.hedge - Time{1});
  EXPECT_THAT(world.Of(EventKind::kStepClosed), SizeIs(0));
  world.Advance(Time{1});
  ASSERT_THAT(world.Of(EventKind::kStepClosed), SizeIs(1));
  EXPECT_EQ(world.Of(EventKind::kStepClosed)[0].answered, 19U);
}

TEST(PlainRound, NeverClosesEarlyWithoutAHedge) {
  World world;
  world.task.cohort = {.minimum = 3, .target = 20, .maximum = 20, .over_selection_percent = 0};
  world.task.deadlines.hedge = Time{0};
  world.Start();
  Players players = CheckedIn(world, 20);
  for (size_t i = 0; i < 19; ++i) players[i]->Ready(UpdateOf(i), ExamplesOf(i));
  world.Advance(world.task.deadlines.train - Time{1});
  EXPECT_THAT(world.Of(EventKind::kStepClosed), SizeIs(0));
  world.Advance(Time{1});
  EXPECT_THAT(world.Of(EventKind::kStepClosed), SizeIs(1));
}

TEST(PlainRound, IsAbortedByASumOfGarbage) {
  Uploading t;
  // The session is right and the length too, but the values lie far outside the bound.
  Bytes garbage = t.answer;
  for (size_t i = 32; i < 32 + 8; ++i) garbage[i] = 0x55;
  ASSERT_THAT(t.players[0]->Answer(garbage), IsOk());
  for (size_t i = 1; i < t.players.size(); ++i) t.players[i]->Contribute();
  t.world.Settle();
  EXPECT_EQ(t.world.store.Round(1).state, RoundState::kAborted);
  EXPECT_EQ(t.world.store.Round(1).code, Code::kAborted);
  EXPECT_EQ(t.world.core->weights(), (Weights{1, 2, 3, 4}));
  for (auto& player : t.players) player->HearsOfEnd(false, Code::kAborted);
}

TEST(PlainRound, NeverCommitsAModelThatIsNotFinite) {
  World world;
  world.task.server_learning_rate = std::numeric_limits<float>::max();
  world.initial = Weights(4, std::numeric_limits<float>::max());
  world.Start();
  Players players = CheckedIn(world, 5);
  RunRound(players);
  world.Settle();
  EXPECT_EQ(world.store.Round(1).state, RoundState::kAborted);
  EXPECT_THAT(world.store.Round(1).reason, HasSubstr("server_learning_rate"));
}

TEST(SecAggRound, AddsTheExactWeightedMean) {
  World world(SecAggTask());
  world.Start();
  Players players = CheckedIn(world, 5);
  RunRound(players);
  world.Settle();
  ASSERT_THAT(world.Of(EventKind::kRoundEnded), SizeIs(1));
  EXPECT_EQ(world.store.Round(1).reason, "");
  EXPECT_EQ(world.core->weights(), MeanAdded({1, 2, 3, 4}, {0, 1, 2, 3, 4}));
  for (auto& player : players) player->HearsOfEnd(true);
  EXPECT_THAT(world.Of(EventKind::kStepClosed), SizeIs(6));
}

// Whoever is silent from some step on is not in the sum, unless its masked input was in before.
TEST(SecAggRound, SurvivesADropoutAtEachStep) {
  const std::vector<size_t> all = {0, 1, 2, 3, 4};
  const std::vector<size_t> rest = {1, 2, 3, 4};
  for (size_t drop = 0; drop <= 5; ++drop) {
    SCOPED_TRACE("silent from step " + std::to_string(drop));
    World world(SecAggTask());
    world.Start();
    Players players = CheckedIn(world, 5);
    const DeadlineSpec& deadlines = world.task.deadlines;
    const Time durations[] = {deadlines.choose, deadlines.share, deadlines.upload,
                              deadlines.consistency, deadlines.unmask};
    if (drop > 0) players[0]->Ready(UpdateOf(0), ExamplesOf(0));
    for (size_t i = 1; i < 5; ++i) players[i]->Ready(UpdateOf(i), ExamplesOf(i));
    if (drop == 0) world.Advance(world.task.deadlines.train);
    for (size_t step = 1; step <= 5; ++step) {
      for (size_t i = step < drop ? 0 : 1; i < 5; ++i) players[i]->Contribute();
      if (step == drop) world.Advance(durations[step - 1]);
    }
    world.Settle();
    ASSERT_THAT(world.Of(EventKind::kRoundEnded), SizeIs(1));
    const RoundReport& report = world.store.Round(1);
    EXPECT_EQ(report.state, RoundState::kCommitted) << report.reason;
    const bool in_sum = drop > 3;
    EXPECT_EQ(world.core->weights(), MeanAdded({1, 2, 3, 4}, in_sum ? all : rest));
    EXPECT_EQ(report.contributors, in_sum ? 5U : 4U);
    ASSERT_THAT(report.dropouts, SizeIs(6));
    for (size_t step = 0; step <= 5; ++step) {
      EXPECT_EQ(report.dropouts[step], step == drop ? 1U : 0U) << step;
    }
    for (size_t i = 1; i < 5; ++i) players[i]->HearsOfEnd(true);
    Player& silent = *players[0];
    silent.reply = nullptr;
    const auto over = silent.Take<wire::RoundOver>();
    ASSERT_TRUE(over.has_value());
    EXPECT_EQ(over->counted, in_sum);
  }
}

TEST(SecAggRound, AbortsBelowMinimumWithoutASum) {
  World world(SecAggTask());
  world.Start();
  Players players = CheckedIn(world, 5);
  ReadyAll(players);
  for (int step = 0; step < 2; ++step) {
    for (auto& player : players) player->Contribute();
  }
  for (size_t i = 2; i < 5; ++i) players[i]->Contribute();
  world.Advance(world.task.deadlines.upload);
  EXPECT_EQ(world.store.Round(1).state, RoundState::kAborted);
  EXPECT_EQ(world.core->weights(), (Weights{1, 2, 3, 4}));
  for (size_t i = 2; i < 5; ++i) players[i]->HearsOfEnd(false, Code::kAborted);
}

TEST(Round, GivesLargeAnswersTheTimeThatTheyTake) {
  TaskSpec task = PlainTask();
  task.model.inputs = 1U << 20U;  // about 3 MB an update: 12 s at 256 KiB/s
  task.deadlines.upload = Time{5'000};
  World world(task);
  world.initial = Weights((1U << 20U) + 1);
  world.Start();
  Players players = CheckedIn(world, 5);
  for (auto& player : players) {
    ASSERT_TRUE(player->Take<wire::Invitation>().has_value());
    ASSERT_THAT(player->Answer({}), IsOk());
  }
  const uint64_t bytes = math::PackedBytes((1U << 20U) + 5, math::BitsFor(8, 1U << 20U)) + 32;
  const Time takes{static_cast<int64_t>(bytes * 1'000 / (256 * 1'024))};
  EXPECT_GT(takes, Time{10'000});
  world.Advance(takes - Time{1});
  EXPECT_THAT(world.Of(EventKind::kRoundEnded), SizeIs(0));
  world.Advance(Time{1});
  EXPECT_THAT(world.Of(EventKind::kRoundEnded), SizeIs(1));
}

// --- selection ---

std::vector<uint64_t> InvitedOf(const Players& players) {
  std::vector<uint64_t> invited;
  for (const auto& player : players) {
    if (!player->parked()) invited.push_back(player->serial);
  }
  return invited;
}

TEST(Selection, InvitesTheTargetAndItsSurplusButNeverMoreThanTheMaximum) {
  for (const auto& [percent, invited] : std::map<uint32_t, uint32_t>{
           {0, 5}, {1, 6}, {20, 6}, {21, 7}, {60, 8}, {100, 8}, {UINT32_MAX, 8}}) {
    World world;
    world.task.cohort.over_selection_percent = percent;
    world.Start();
    // All call at once: none is looked for before all are there.
    Players players;
    for (uint64_t serial = 1; serial <= 12; ++serial) {
      players.push_back(std::make_unique<Player>(world, serial));
      players.back()->CheckIn();
      players.back()->Ask();
    }
    world.Settle();
    EXPECT_THAT(InvitedOf(players), SizeIs(invited)) << percent;
  }
}

TEST(Selection, WaitsForTheTargetBeforeItBeginsSmall) {
  World world;
  world.Start();
  Players players = CheckedIn(world, 2);
  world.Advance(Time{10'000});
  players.push_back(std::make_unique<Player>(world, 3));
  players.back()->CheckIn();
  world.Advance(world.task.deadlines.check_in - Time{1});
  EXPECT_THAT(world.Of(EventKind::kRoundBegan), SizeIs(0));
  world.Advance(Time{1});
  ASSERT_THAT(world.Of(EventKind::kRoundBegan), SizeIs(1));
  EXPECT_EQ(world.Of(EventKind::kRoundBegan)[0].round.invited, 3U);
}

TEST(Selection, PassesOverWhoHasNotCalledLately) {
  World world;
  world.Start();
  Players players = CheckedIn(world, 2);
  Player quiet(world, 3);
  quiet.CheckIn();
  world.Advance(Time{4'000});
  Player another(world, 4);  // resets nothing: 3 are waiting since the quiet one came
  for (int i = 0; i < 20; ++i) {
    for (auto& player : players) {
      if (!player->parked()) player->Ask();
    }
    if (i == 0) {
      EXPECT_THAT(world.Of(EventKind::kRoundBegan), SizeIs(0));
    }
    world.Advance(Time{1'000});
  }
  EXPECT_THAT(world.Of(EventKind::kRoundBegan), SizeIs(1));

  World later;
  later.Start();
  Player silent(later, 1);
  silent.CheckIn();
  later.Advance(limits::kPollParked * 2 + Time{1});
  Players two;
  for (uint64_t serial = 2; serial <= 3; ++serial) {
    two.push_back(std::make_unique<Player>(later, serial));
    two.back()->CheckIn();
    two.back()->Ask();
  }
  later.Advance(Time{15'000});
  EXPECT_THAT(later.Of(EventKind::kRoundBegan), SizeIs(0));
}

TEST(Selection, IsDecidedByTheExperimentsSeedAndNotByTheOrderOfArrival) {
  std::vector<std::vector<uint64_t>> outcomes;
  for (const bool reverse : {false, true}) {
    for (const uint64_t seed : {7, 8}) {
      World world;
      world.task.cohort.maximum = 5;
      world.experiment_seed = seed;
      world.rng = crypto::NewSeededRng(SeedOf(reverse ? "a" : "b").Reveal());
      world.Start();
      Players players;
      for (uint64_t i = 1; i <= 12; ++i) {
        players.push_back(std::make_unique<Player>(world, reverse ? 13 - i : i));
        players.back()->CheckIn();
        players.back()->Ask();
      }
      world.Settle();
      std::vector<uint64_t> invited = InvitedOf(players);
      std::sort(invited.begin(), invited.end());
      outcomes.push_back(invited);
    }
  }
  EXPECT_THAT(outcomes[0], SizeIs(5));
  EXPECT_EQ(outcomes[0], outcomes[2]);
  EXPECT_EQ(outcomes[1], outcomes[3]);
  EXPECT_NE(outcomes[0], outcomes[1]);
}

// 600 draws of 5 out of 10: each is drawn 300 times, give or take 12.2; six of those are allowed,
// so a false alarm has a chance below 10 * 2e-9. The seed is fixed.
TEST(Selection, IsAUniformDrawWithoutASeed) {
  World world;
  Parties parties({.coordinator = world.public_key,
                   .verifier = world.verifier.get(),
                   .rng = world.rng.get(),
                   .sessions_max = 10,
                   .uploads_in_flight_bytes_max = 0});
  std::map<PartyId, int> drawn;
  for (int i = 0; i < 600; ++i) {
    const std::vector<PartyId> chosen =
        parties.Select({1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, 5, Selection{});
    ASSERT_THAT(chosen, SizeIs(5));
    for (const PartyId id : chosen) ++drawn[id];
  }
  for (PartyId id = 1; id <= 10; ++id) EXPECT_NEAR(drawn[id], 300, 73) << id;
}

TEST(Experiment, DrawsTheSameFirstWeightsFromOneSeed) {
  std::vector<Weights> first;
  for (const uint64_t seed : {7, 7, 8}) {
    World world;
    world.initial.reset();
    world.experiment_seed = seed;
    world.rng = crypto::NewSeededRng(SeedOf(std::to_string(first.size())).Reveal());
    world.Start();
    first.push_back(world.core->weights());
  }
  EXPECT_EQ(first[0], first[1]);
  EXPECT_NE(first[0], first[2]);
}

// --- what is durable ---

TEST(Restart, GoesOnWithTheNextRoundAndTheLastModel) {
  World world;
  world.Start();
  Players players = CheckedIn(world, 5);
  RunRound(players);
  world.Settle();
  const Weights after = world.core->weights();
  for (auto& player : players) player->HearsOfEnd(true);
  for (auto& player : players) player->Ask();
  world.Settle();
  ASSERT_THAT(world.Of(EventKind::kRoundBegan), SizeIs(2));
  EXPECT_EQ(world.store.Round(2).state, RoundState::kOpen);

  world.initial = Weights{9, 9, 9, 9};  // of no effect: the task exists
  world.Start();
  EXPECT_EQ(world.core->weights(), after);
  EXPECT_EQ(world.store.Round(2).state, RoundState::kAborted);
  EXPECT_THAT(world.store.Round(2).reason, HasSubstr("restarted"));
  EXPECT_EQ(world.store.Round(1).state, RoundState::kCommitted);
  players[0]->Ask();
  EXPECT_THAT(players[0]->Given(), HasCode(Code::kUnauthenticated));
  for (auto& player : players) {
    player->CheckIn();
    player->Ask();
  }
  world.Settle();
  ASSERT_THAT(world.Of(EventKind::kRoundBegan), SizeIs(3));
  EXPECT_EQ(world.Of(EventKind::kRoundBegan)[2].round.round, 3U);
  RunRound(players);
  world.Settle();
  EXPECT_EQ(world.core->weights(), MeanAdded(after, {0, 1, 2, 3, 4}));
}

TEST(Restart, RefusesAnotherTaskOfTheSameName) {
  World world;
  world.Start();
  world.task.rounds = 4;
  EXPECT_THAT(world.Create(), HasCodeAndText(Code::kFailedPrecondition, "another specification"));
  world.task.name = "another-task";
  EXPECT_THAT(world.Create(), IsOk());
}

TEST(Restart, RefusesAModelOfTheWrongSize) {
  World world;
  world.Start();
  world.store.content.models.begin()->second.pop_back();
  EXPECT_THAT(world.Create(), HasCode(Code::kDataLoss));
}

TEST(FullDisk, BeginsNoRoundAndTriesAgainEverySecond) {
  World world;
  world.store.failing = "begin round";
  world.Start();
  Players players = CheckedIn(world, 5);
  world.Advance(Time{10'000});
  EXPECT_EQ(world.store.failures, 11);
  EXPECT_THAT(world.Of(EventKind::kRoundBegan), SizeIs(0));
  ASSERT_THAT(world.Of(EventKind::kTrouble), SizeIs(1));
  EXPECT_THAT(world.Of(EventKind::kTrouble)[0].trouble, HasCode(Code::kResourceExhausted));
  for (auto& player : players) EXPECT_TRUE(player->parked());
  EXPECT_EQ(world.store.Task().rounds_begun, 0U);
  world.store.failing.clear();
  world.Advance(Time{1'000});
  ASSERT_THAT(world.Of(EventKind::kRoundBegan), SizeIs(1));
  EXPECT_EQ(world.Of(EventKind::kRoundBegan)[0].round.round, 1U);
}

TEST(FullDisk, LosesNoResult) {
  World world;
  world.Start();
  Players players = CheckedIn(world, 5);
  world.store.failing = "commit round";
  RunRound(players);
  for (auto& player : players) player->Ask();
  world.Advance(Time{10'000});
  ASSERT_THAT(world.Of(EventKind::kTrouble), SizeIs(1));
  EXPECT_THAT(world.Of(EventKind::kRoundEnded), SizeIs(0));
  EXPECT_EQ(world.core->weights(), (Weights{1, 2, 3, 4})) << "shown before it was durable";
  for (auto& player : players) EXPECT_TRUE(player->parked());
  EXPECT_EQ(world.store.failures, 11);
  const auto status = world.Call<wire::StatusReply>(wire::kGetStatus, wire::StatusRequest{1, 0});
  EXPECT_EQ(status->step, "recording");

  world.store.failing.clear();
  world.Advance(Time{1'000});
  ASSERT_THAT(world.Of(EventKind::kRoundEnded), SizeIs(1));
  EXPECT_EQ(world.core->weights(), MeanAdded({1, 2, 3, 4}, {0, 1, 2, 3, 4}));
  EXPECT_EQ(world.store.Round(1).duration_ms, 0U) << "what it waited for the disk is not counted";
  for (auto& player : players) player->HearsOfEnd(true);
  // Trouble that comes back is told again.
  world.store.failing = "begin round";
  for (auto& player : players) player->Ask();
  world.Settle();
  EXPECT_THAT(world.Of(EventKind::kTrouble), SizeIs(2));
}

TEST(FullDisk, IsNoReasonToLoseTheRoundsOfADeadCoordinator) {
  World world;
  world.Start();
  Players players = CheckedIn(world, 5);
  world.store.failing = "commit round";
  RunRound(players);
  world.Settle();
  world.store.failing.clear();
  world.Start();  // dies with its result unrecorded
  EXPECT_EQ(world.store.Round(1).state, RoundState::kAborted);
  EXPECT_EQ(world.core->weights(), (Weights{1, 2, 3, 4}));
  EXPECT_EQ(world.store.Task().rounds_begun, 1U);
}

TEST(Task, IsCompleteAfterItsCommittedRounds) {
  World world;
  world.task.rounds = 2;
  world.Start();
  Players players = CheckedIn(world, 5);
  for (int round = 0; round < 2; ++round) {
    RunRound(players);
    world.Settle();
    for (auto& player : players) player->HearsOfEnd(true);
    if (round == 1) break;
    for (auto& player : players) player->Ask();
    world.Settle();
  }
  EXPECT_THAT(world.Of(EventKind::kTaskComplete), SizeIs(1));
  const auto wait = players[0]->Take<wire::Wait>();
  ASSERT_TRUE(wait.has_value());
  EXPECT_TRUE(wait->complete);
  world.Advance(Time{60'000});
  EXPECT_THAT(world.Of(EventKind::kRoundBegan), SizeIs(2));

  world.events.clear();
  world.Start();
  world.Settle();
  EXPECT_THAT(world.Of(EventKind::kTaskComplete), SizeIs(1));
  Player late(world, 9);
  late.CheckIn();
  EXPECT_TRUE(late.Take<wire::Wait>()->complete);
}

}  // namespace
}  // namespace chorus::coordinator
