// Several processes on one store: rounds that they share, and what the death of one, a lost reply,
// a conflict or a jump of the store's clock costs.
#include "coordinator/shared_task.h"

#include <algorithm>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "coordinator/cohort_record.h"
#include "shared_world.h"

namespace chorus::coordinator {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

class SharedStoreOf : public testing::TestWithParam<Protocol> {};

TEST_P(SharedStoreOf, ThreeProcessesMakesTheModelThatOneWouldHaveMade) {
  Fleet fleet(FleetTask(GetParam(), 3), 3);
  fleet.JoinAll(5);
  fleet.Advance(kWatchEvery * 2);
  PlayRound(fleet, {0, 1, 2});
  fleet.Advance(kWatchEvery * 2);
  ExpectCommitted(fleet, 1, 15, 3);
  const RoundReport& report = fleet.shared.Round(1);
  EXPECT_EQ(report.invited, 15U);
  EXPECT_EQ(report.cohorts, 3U);
  EXPECT_EQ(report.dropouts, std::vector<uint32_t>(fleet.Steps() + 1, 0));

  // The same clients at one process.
  World one(FleetTask(GetParam(), 3));
  one.Start();
  Players players = CheckedIn(one, 15);
  for (auto& player : players) {
    player->Ready(UpdateOf(player->serial), ExamplesOf(player->serial));
  }
  for (size_t step = 0; step < fleet.Steps(); ++step) {
    for (auto& player : players) player->Contribute();
  }
  one.Settle();
  const RoundReport& alone = one.store.Round(1);
  ASSERT_EQ(alone.state, RoundState::kCommitted) << alone.reason;
  EXPECT_EQ(report.bytes_up, alone.bytes_up);
  EXPECT_EQ(report.examples, alone.examples);
  EXPECT_EQ(report.loss, alone.loss);
  EXPECT_EQ(report.result, alone.result);
  for (const auto& process : fleet.processes) {
    EXPECT_EQ(process->world.core->weights(), one.core->weights());
    EXPECT_THAT(process->world.Of(EventKind::kRoundEnded), SizeIs(1));
    for (auto& player : process->players) player->HearsOfEnd(true);
  }
  EXPECT_EQ(one.core->weights(), MeanAdded(kFirst, OneTo(15)));
}
INSTANTIATE_TEST_SUITE_P(Protocols, SharedStoreOf,
                         testing::Values(Protocol::kPlain, Protocol::kSecAgg));

TEST(SharedStore, LeavesNothingOfARoundThatIsOver) {
  Fleet fleet(FleetTask(Protocol::kPlain, 3), 3);
  fleet.JoinAll(5);
  fleet.Advance(kWatchEvery * 2);
  PlayRound(fleet, {0, 1, 2});
  fleet.Advance(kWatchEvery * 2);
  ExpectCommitted(fleet, 1, 15, 3);
  EXPECT_THAT(fleet.shared.content.cohorts, IsEmpty());
  EXPECT_THAT(fleet.shared.content.claims, IsEmpty());
  EXPECT_THAT(fleet.shared.content.models, SizeIs(2));  // the first model, and the round's
}

// --- what the death of a process costs ---

struct Death {
  size_t victim = 0;  // 0 opened the round
  size_t steps = 0;   // done by then; 0: invited, 1: ready
};
class ADeadProcess : public testing::TestWithParam<Death> {};

TEST_P(ADeadProcess, CostsItsCohortsInFlightAndNothingElse) {
  const Death death = GetParam();
  Fleet fleet(FleetTask(Protocol::kSecAgg, 3), 3);
  fleet.JoinAll(5);
  fleet.Advance(kWatchEvery * 2);
  std::vector<size_t> others;
  std::vector<size_t> counted;
  for (size_t i = 0; i < 3; ++i) {
    if (i == death.victim) continue;
    others.push_back(i);
    for (const size_t serial : fleet.Serials(i)) counted.push_back(serial);
  }
  if (death.steps > 0) fleet.Ready(death.victim);
  if (death.steps > 1) fleet.Give(death.victim, death.steps - 1);
  fleet.Settle();
  const bool handed_in = death.steps > fleet.Steps();
  if (handed_in) counted = OneTo(15);
  fleet.Kill(death.victim);
  PlayRound(fleet, others);
  fleet.Advance(kWatchEvery * 2);
  // Nobody waits for the next lease to end when there is none.
  if (!handed_in) {
    EXPECT_EQ(fleet.shared.Round(1).state, RoundState::kOpen);
    fleet.Advance(kLease + kConclusionGrace + kWatchEvery * 2);
  } else {
    fleet.Advance(kConclusionGrace + kWatchEvery * 2);
  }
  ExpectCommitted(fleet, 1, static_cast<uint32_t>(counted.size()), handed_in ? 3 : 2);
  EXPECT_EQ(fleet.shared.Round(1).cohorts, 3U);
  for (const size_t i : others) {
    EXPECT_EQ(fleet[i].world.core->weights(), MeanAdded(kFirst, counted));
    for (auto& player : fleet[i].players) player->HearsOfEnd(true);
  }

  // The clients of the dead go on elsewhere.
  fleet.Move(death.victim, others[0]);
  for (const size_t i : others) {
    for (auto& player : fleet[i].players) {
      if (!player->parked()) player->Ask();
    }
  }
  fleet.Advance(fleet.task.deadlines.check_in + kLease);
  EXPECT_EQ(fleet.shared.Task().rounds_begun, 2U);
  EXPECT_EQ(fleet.shared.Round(2).invited, 15U);
  EXPECT_EQ(fleet.shared.content.claims.size(), 15U);
}
std::vector<Death> Deaths() {
  std::vector<Death> deaths;
  for (const size_t victim : {0U, 1U}) {
    for (size_t steps = 0; steps <= 6; ++steps) deaths.push_back({victim, steps});
  }
  return deaths;
}
INSTANTIATE_TEST_SUITE_P(EveryPhase, ADeadProcess, testing::ValuesIn(Deaths()));

TEST(SharedStore, AbortsARoundWhoseOnlyProcessDied) {
  Fleet fleet(FleetTask(Protocol::kPlain, 1), 2);
  for (int i = 0; i < 5; ++i) fleet.Join(0);
  fleet.Settle();
  ASSERT_EQ(fleet.shared.Task().rounds_begun, 1U);
  fleet.Kill(0);
  fleet.Advance(kLease + kConclusionGrace + kWatchEvery * 2);
  const RoundReport& report = fleet.shared.Round(1);
  EXPECT_EQ(report.state, RoundState::kAborted);
  EXPECT_EQ(report.code, Code::kUnavailable);
  EXPECT_THAT(report.reason, HasSubstr("died"));
  EXPECT_EQ(fleet[1].world.core->weights(), kFirst);
  fleet.Move(0, 1);
  fleet.Advance(kLease);
  EXPECT_EQ(fleet.shared.Task().rounds_begun, 2U);
}

TEST(SharedStore, IsNotKeptWaitingByAProcessThatStopsInGoodOrder) {
  Fleet fleet(FleetTask(Protocol::kPlain, 2), 2);
  fleet.JoinAll(5);
  fleet.Advance(kWatchEvery * 2);
  fleet[1].world.core.reset();
  fleet[1].alive = false;
  PlayRound(fleet, {0});
  fleet.Advance(kWatchEvery);
  ExpectCommitted(fleet, 1, 5, 1);
  EXPECT_THAT(fleet.shared.content.processes, SizeIs(1));
}

TEST(SharedStore, DoesNotWaitForAProcessThatWasStartedAgain) {
  Fleet fleet(FleetTask(Protocol::kPlain, 2), 1);
  fleet.AddAt("a", "a-1");
  fleet.Advance(kLeaseRenewal);
  fleet.JoinAll(5);
  fleet.Advance(kWatchEvery * 2);
  fleet.Kill(1);
  fleet.AddAt("a", "a-2");
  fleet.Ready(0);
  fleet.Give(0, fleet.Steps());
  fleet.Advance(kWatchEvery * 2);
  // Of the dead one's cohort nothing is left, and the living one's is committed without it.
  ExpectCommitted(fleet, 1, 5, 1);
  EXPECT_EQ(fleet.shared.Round(1).cohorts, 2U);
  EXPECT_THAT(fleet.shared.content.processes, SizeIs(2));
}

TEST(SharedStore, TakesNothingFromAProcessOfAnotherAddressWhenOneStarts) {
  Fleet fleet(FleetTask(Protocol::kPlain, 2), 0);
  fleet.AddAt("a", "a-1");
  fleet.AddAt("b", "b-1");
  fleet.Advance(kLeaseRenewal + kWatchEvery * 2);
  fleet.JoinAll(5);
  fleet.Advance(kWatchEvery * 2);
  fleet.AddAt("c", "c-1");
  PlayRound(fleet, {0, 1});
  fleet.Advance(kWatchEvery * 2);
  ExpectCommitted(fleet, 1, 10, 2);
}

// Two with one address are an operator's mistake: it costs the earlier one's cohort, not the sum.
TEST(SharedStore, RefusesTheSumOfAProcessWhoseAddressAnotherHasTaken) {
  Fleet fleet(FleetTask(Protocol::kPlain, 1), 0);
  fleet.AddAt("a", "a-1");
  fleet.Advance(kWatchEvery * 2);
  fleet.JoinAll(5);
  fleet.Advance(kWatchEvery);
  fleet.AddAt("a", "a-2");
  PlayRound(fleet, {0});
  fleet.Advance(kConclusionGrace + kWatchEvery * 2);
  const RoundReport& report = fleet.shared.Round(1);
  EXPECT_EQ(report.state, RoundState::kAborted);
  EXPECT_EQ(report.contributors, 0U);
  EXPECT_THAT(report.reason, HasSubstr("started again"));
}

TEST(SharedStore, LetsAProcessStartWhileOthersRunARound) {
  Fleet fleet(FleetTask(Protocol::kPlain, 2), 2);
  fleet.JoinAll(5);
  fleet.Advance(kWatchEvery * 2);
  fleet.Ready(0);
  fleet.Ready(1);
  Process& third = fleet.Add();
  fleet.Advance(kWatchEvery * 2);
  EXPECT_EQ(fleet.shared.Round(1).state, RoundState::kOpen);
  fleet.Give(0, 1);
  fleet.Give(1, 1);
  fleet.Advance(kWatchEvery * 2);
  ExpectCommitted(fleet, 1, 10, 2);
  EXPECT_EQ(third.world.core->weights(), MeanAdded(kFirst, OneTo(10)));
  EXPECT_THAT(third.world.Of(EventKind::kRoundEnded), SizeIs(1));
}

TEST(SharedStore, TellsAProcessThatStartsOfNoRoundThatWasOver) {
  Fleet fleet(FleetTask(Protocol::kPlain, 1), 1);
  fleet.JoinAll(5);
  PlayRound(fleet, {0});
  fleet.Advance(kWatchEvery * 2);
  ExpectCommitted(fleet, 1, 5, 1);
  Process& late = fleet.Add();
  fleet.Advance(kWatchEvery * 2);
  EXPECT_THAT(late.world.Of(EventKind::kRoundEnded), IsEmpty());
  EXPECT_EQ(late.world.core->weights(), MeanAdded(kFirst, OneTo(5)));
}

// --- leases ---

TEST(SharedStore, MakesAProcessGiveUpItsCohortsBeforeTheirLeaseEnds) {
  Fleet fleet(FleetTask(Protocol::kPlain, 2), 2);
  fleet.JoinAll(5);
  fleet.Advance(kWatchEvery * 2);
  fleet.Ready(0);
  fleet.Ready(1);
  fleet[1].door.cut = true;
  for (auto& player : fleet[1].players) player->Ask();
  fleet.Advance(kLease - kLeaseMargin);
  for (auto& player : fleet[1].players) player->HearsOfEnd(false, Code::kUnavailable);
  fleet.Give(0, 1);
  fleet.Advance(kLease + kConclusionGrace);
  ExpectCommitted(fleet, 1, 5, 1);
  fleet[1].door.cut = false;
  fleet.Advance(kWatchEvery * 2);
  for (auto& player : fleet[0].players) player->HearsOfEnd(true);
  EXPECT_EQ(fleet[1].world.core->weights(), MeanAdded(kFirst, fleet.Serials(0)));
}

TEST(SharedStore, EndsTheLeasesOfTheDeadThoughItsClockGoesBackAnHour) {
  Fleet fleet(FleetTask(Protocol::kPlain, 2), 2);
  fleet.JoinAll(5);
  fleet.Advance(kWatchEvery * 2);
  fleet.shared.clock.now -= Time{3'600'000};
  fleet.Kill(1);
  fleet.Ready(0);
  fleet.Advance(kLease);
  EXPECT_EQ(fleet.shared.Round(1).state, RoundState::kOpen);
  fleet.Give(0, 1);
  fleet.Advance(kLease * 2 + kConclusionGrace);
  ExpectCommitted(fleet, 1, 5, 1);
}

TEST(SharedStore, GoesOnWithTheCohortsOfTheLivingWhenItsClockGoesBackAnHour) {
  Fleet fleet(FleetTask(Protocol::kPlain, 2), 2);
  fleet.JoinAll(5);
  fleet.Advance(kWatchEvery * 2);
  fleet.shared.clock.now -= Time{3'600'000};
  fleet.Ready(0);
  fleet.Ready(1);
  fleet.Give(0, 1);
  fleet.Advance(kLease * 2);
  fleet.Give(1, 1);
  fleet.Advance(kWatchEvery * 2);
  ExpectCommitted(fleet, 1, 10, 2);
}

// --- transactions that go wrong ---

class ALostReply : public testing::TestWithParam<std::string> {};

TEST_P(ALostReply, NeitherLosesNorRepeatsAnything) {
  Fleet fleet(FleetTask(Protocol::kPlain, 2), 2);
  for (const auto& process : fleet.processes) process->door.reply_lost = GetParam();
  fleet.JoinAll(5);
  for (int i = 0; i < 60 && fleet.shared.Task().rounds_committed < 2; ++i) {
    fleet.Advance(Time{1'000});
    for (const auto& process : fleet.processes) {
      for (auto& player : process->players) {
        if (!player->parked()) player->Ask();
        const Result<wire::NextReply> given = player->Given();
        if (!given.ok()) continue;
        if (std::holds_alternative<wire::Invitation>(given->what)) {
          player->Ready(UpdateOf(player->serial), ExamplesOf(player->serial));
        } else if (std::holds_alternative<wire::Question>(given->what)) {
          player->Contribute();
        } else if (player->Take<wire::RoundOver>()) {
          player->done = player->sequence;
        }
      }
    }
  }
  EXPECT_EQ(fleet.shared.Task().rounds_committed, 2U);
  Weights expected = kFirst;
  for (const RoundReport& round : fleet.shared.Rounds()) {
    EXPECT_LE(round.contributors, 10U);
    if (round.state != RoundState::kCommitted) continue;
    ASSERT_EQ(round.contributors, 10U);
    expected = MeanAdded(expected, OneTo(10));
  }
  for (const auto& process : fleet.processes) {
    EXPECT_THAT(process->door.reply_lost, IsEmpty()) << "no such transaction";
    break;
  }
  EXPECT_EQ(fleet[0].world.core->weights(), expected);
}
INSTANTIATE_TEST_SUITE_P(OfEveryTransaction, ALostReply,
                         testing::Values("look", "begin round", "end cohort", "commit round"));

TEST(SharedStore, ComesToTheSameWhateverConflicts) {
  Fleet fleet(FleetTask(Protocol::kSecAgg, 3), 3);
  for (const auto& process : fleet.processes) process->door.conflicts = 2;
  fleet.JoinAll(5);
  fleet.Advance(kWatchEvery * 2);
  PlayRound(fleet, {0, 1, 2});
  fleet.Advance(kWatchEvery * 2);
  ExpectCommitted(fleet, 1, 15, 3);
  EXPECT_EQ(fleet[1].world.core->weights(), MeanAdded(kFirst, OneTo(15)));
}

TEST(SharedStore, LetsOneOfTwoConcludeARound) {
  Fleet fleet(FleetTask(Protocol::kPlain, 2), 2);
  fleet.JoinAll(5);
  fleet.Advance(kWatchEvery * 2);
  fleet.Ready(0);
  fleet.Ready(1);
  fleet.Give(1, 1);
  fleet.Settle();
  // Process 0 dies just as its last client is heard; process 1 is about to conclude when another
  // process, which has just started, does so first.
  fleet.Give(0, 1);
  fleet.Kill(0);
  Process& third = fleet.Add();
  fleet[1].door.conflicts = 1;
  fleet[1].door.between = nullptr;
  bool raced = false;
  for (int i = 0; i < 100 && fleet.shared.Round(1).state == RoundState::kOpen; ++i) {
    fleet[1].door.between = [&] {
      third.world.core->Tick();
      raced = raced || fleet.shared.Round(1).state == RoundState::kCommitted;
    };
    fleet.Advance(kWatchEvery);
  }
  fleet.Advance(kWatchEvery * 2);
  EXPECT_TRUE(raced);
  ExpectCommitted(fleet, 1, 10, 2);
  EXPECT_EQ(fleet.shared.Task().rounds_committed, 1U);
  EXPECT_EQ(fleet[1].world.core->weights(), MeanAdded(kFirst, OneTo(10)));
  EXPECT_EQ(third.world.core->weights(), MeanAdded(kFirst, OneTo(10)));
}

TEST(SharedStore, LetsOneOfTwoOpenARoundAndTheOtherJoinIt) {
  Fleet fleet(FleetTask(Protocol::kPlain, 2), 2);
  for (int i = 0; i < 5; ++i) fleet.Join(1);  // not looked at yet
  fleet[0].door.conflicts = 1;
  fleet[0].door.between = nullptr;
  for (int i = 0; i < 5; ++i) fleet.Join(0);
  fleet[0].door.between = [&] { fleet[1].world.core->Tick(); };
  fleet[0].world.Settle();
  fleet.Advance(kWatchEvery * 2);
  EXPECT_EQ(fleet.shared.Task().rounds_begun, 1U);
  EXPECT_THAT(fleet.shared.content.cohorts, SizeIs(2));
  EXPECT_EQ(fleet.shared.Round(1).invited, 10U);
}

TEST(SharedStore, TellsOfAFullDiskOnceAndGoesOnWhenThereIsRoom) {
  Fleet fleet(FleetTask(Protocol::kPlain, 1), 1);
  fleet.JoinAll(5);
  fleet[0].door.failing = "commit round";
  PlayRound(fleet, {0});
  fleet.Advance(Time{30'000});
  EXPECT_EQ(fleet.shared.Round(1).state, RoundState::kOpen);
  EXPECT_GE(fleet[0].door.transactions["commit round"], 20);
  // Signs of life are written in between, and go well.
  EXPECT_THAT(fleet[0].world.Of(EventKind::kTrouble), SizeIs(1));
  fleet[0].door.failing.clear();
  fleet.Advance(kStoreRetry * 2);
  ExpectCommitted(fleet, 1, 5, 1);
  for (auto& player : fleet[0].players) player->HearsOfEnd(true);
}

// --- who is in which cohort ---

TEST(SharedStore, PutsNobodyInTwoCohortsOfARound) {
  Fleet fleet(FleetTask(Protocol::kPlain, 2), 2);
  for (int i = 0; i < 5; ++i) fleet.Join(0);
  fleet.Settle();
  fleet.Ready(0);
  // One of them gives up its process and tries the other, where four wait.
  Player& mover = *fleet[0].players[2];
  mover.world = &fleet[1].world;
  mover.CheckIn();
  mover.Ask();
  for (int i = 0; i < 3; ++i) fleet.Join(1);
  fleet.Settle();
  fleet.Advance(kWatchEvery * 3);
  EXPECT_THAT(fleet.shared.content.cohorts, SizeIs(1));  // three are too few without it
  fleet.Join(1);
  fleet.Advance(kWatchEvery * 2);
  fleet.Advance(kJoining);
  EXPECT_THAT(fleet.shared.content.cohorts, SizeIs(2));
  EXPECT_EQ(fleet.shared.Round(1).invited, 9U);
  EXPECT_EQ(fleet.shared.content.claims.size(), 9U);
  EXPECT_TRUE(mover.parked());
}

TEST(SharedStore, HasNoMoreCohortsInARoundThanTheTaskWants) {
  Fleet fleet(FleetTask(Protocol::kPlain, 2), 3);
  fleet.JoinAll(5);
  fleet.Advance(kJoining * 2);
  EXPECT_THAT(fleet.shared.content.cohorts, SizeIs(2));
  EXPECT_EQ(fleet.shared.Round(1).cohorts, 2U);
  EXPECT_EQ(fleet.shared.Round(1).invited, 10U);
}

TEST(SharedStore, AddsNoCohortOnceJoiningIsOver) {
  Fleet fleet(FleetTask(Protocol::kPlain, 3), 2);
  for (int i = 0; i < 10; ++i) fleet.Join(0);
  fleet.Settle();
  ASSERT_EQ(fleet.shared.Round(1).cohorts, 2U);
  fleet.Advance(kJoining);
  for (int i = 0; i < 5; ++i) fleet.Join(1);
  fleet.Advance(kWatchEvery * 2);
  EXPECT_EQ(fleet.shared.Round(1).cohorts, 2U);
  PlayRound(fleet, {0});
  fleet.Advance(kWatchEvery * 2);
  ExpectCommitted(fleet, 1, 10, 2);
  fleet.Advance(fleet.task.deadlines.check_in);
  ASSERT_EQ(fleet.shared.Task().rounds_begun, 2U);
  EXPECT_EQ(fleet.shared.content.cohorts.begin()->second.process, "process-1");
}

TEST(SharedStore, GivesEachProcessItsTurnWhereOneCohortIsARound) {
  Fleet fleet(FleetTask(Protocol::kPlain, 1), 2);
  fleet.JoinAll(5);
  std::map<std::string, int> rounds;
  for (int round = 1; round <= 6; ++round) {
    fleet.Advance(kYield + kWatchEvery * 3);
    ASSERT_THAT(fleet.shared.content.cohorts, SizeIs(1)) << round;
    const std::string name = fleet.shared.content.cohorts.begin()->second.process;
    ++rounds[name];
    const size_t i = name == "process-0" ? 0 : 1;
    PlayRound(fleet, {i});
    fleet.Advance(kWatchEvery);
    for (auto& player : fleet[i].players) {
      player->HearsOfEnd(true);
      player->Ask();
    }
  }
  EXPECT_EQ(rounds["process-0"], 3);
  EXPECT_EQ(rounds["process-1"], 3);
}

// --- the task ---

TEST(SharedStore, PausesTheTaskInEveryProcess) {
  Fleet fleet(FleetTask(Protocol::kPlain, 2), 2);
  fleet.shared.content.tasks.begin()->second.mode = TaskMode::kPaused;
  fleet.Advance(kWatchEvery * 2);
  fleet.JoinAll(5);
  fleet.Advance(fleet.task.deadlines.check_in * 2);
  EXPECT_EQ(fleet.shared.Task().rounds_begun, 0U);
  fleet.shared.content.tasks.begin()->second.mode = TaskMode::kRunning;
  fleet.Advance(kWatchEvery * 2);
  EXPECT_EQ(fleet.shared.Task().rounds_begun, 1U);
  EXPECT_EQ(fleet.shared.Round(1).invited, 10U);
}

TEST(SharedStore, CompletesTheTaskInEveryProcess) {
  TaskSpec task = FleetTask(Protocol::kPlain, 1);
  task.rounds = 1;
  Fleet fleet(task, 2);
  fleet.JoinAll(5);
  PlayRound(fleet, {0});
  fleet.Advance(kWatchEvery * 2);
  for (const auto& process : fleet.processes) {
    EXPECT_THAT(process->world.Of(EventKind::kTaskComplete), SizeIs(1));
  }
  for (auto& player : fleet[1].players) {
    const Result<wire::NextReply> given = player->Given();
    ASSERT_THAT(given, IsOk());
    const auto* wait = std::get_if<wire::Wait>(&given->what);
    ASSERT_NE(wait, nullptr);
    EXPECT_TRUE(wait->complete);
  }
}

TEST(SharedStore, IsRefusedForBufferedRounds) {
  TaskSpec task = FleetTask(Protocol::kPlain, 2);
  task.server.buffered_sums = 2;
  Shared shared;
  Process process(task, shared, "one");
  const Result<std::unique_ptr<Core>> created = process.world.Create();
  EXPECT_THAT(created, HasCode(Code::kFailedPrecondition));
  EXPECT_THAT(created.status().message(), HasSubstr("buffered_sums"));
}

TEST(SharedStore, ShowsItsProcessesInTheStatus) {
  Fleet fleet(FleetTask(Protocol::kPlain, 2), 2);
  fleet.JoinAll(5);
  fleet.Advance(kWatchEvery * 2);
  fleet.Kill(1);
  fleet.Advance(Time{5'000});
  const auto status = fleet[0].world.Call<wire::StatusReply>(
      wire::kGetStatus, wire::StatusRequest{.first_round = 1, .round_count = 1});
  ASSERT_THAT(status, IsOk());
  ASSERT_THAT(status->processes, SizeIs(2));
  EXPECT_EQ(status->processes[0].name, "process-0");
  EXPECT_EQ(status->processes[0].cohorts, 1U);
  EXPECT_LE(status->processes[0].age, kLeaseRenewal);
  EXPECT_GE(status->processes[1].age, Time{5'000});
}

// --- what is kept of a cohort ---

TEST(CohortRecords, AreReadAsTheyWereWritten) {
  CohortReport report;
  report.began = Time{123'456};
  report.invited = 7;
  report.refused = 2;
  report.dropouts = {1, 0, 3};
  report.bytes_up = uint64_t{1} << 40U;
  report.bytes_down = 9;
  report.code = Code::kAborted;
  report.reason = "too few";
  const Bytes bytes = EncodeCohortReport(report);
  const Result<CohortReport> read = DecodeCohortReport(bytes);
  ASSERT_THAT(read, IsOk());
  EXPECT_EQ(EncodeCohortReport(*read), bytes);
  EXPECT_EQ(read->began, report.began);
  EXPECT_EQ(read->dropouts, report.dropouts);
  EXPECT_EQ(read->reason, report.reason);
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_FALSE(DecodeCohortReport(BytesView(bytes).first(size)).ok()) << size;
  }
}

TEST(CohortRecords, HoldASumOfOneCohortOnly) {
  const TaskSpec task = FleetTask(Protocol::kPlain, 1);
  const auto encoding = math::FixedPointFor(4, task.clip, task.encoding, task.cohort.maximum);
  ASSERT_THAT(encoding, IsOk());
  const auto rng = crypto::NewSeededRng(SeedOf("sum").Reveal());
  auto values = math::Encode(*encoding, {.update = UpdateOf(1), .examples = 512}, *rng);
  ASSERT_THAT(values, IsOk());
  const Sum sum{.values = *values, .contributors = 1};
  const CohortName name{.task = TaskIdOf(task.name), .round = 3, .cohort = 2};
  const Result<Bytes> bytes = EncodeSum(task, name, sum);
  ASSERT_THAT(bytes, IsOk());
  const Result<Sum> read = DecodeSum(task, name, *bytes);
  ASSERT_THAT(read, IsOk());
  EXPECT_EQ(read->contributors, 1U);
  EXPECT_EQ(math::Pack(read->values, encoding->bits), math::Pack(sum.values, encoding->bits));
  EXPECT_FALSE(DecodeSum(task, {.task = name.task, .round = 4, .cohort = 2}, *bytes).ok());
  EXPECT_FALSE(DecodeSum(task, {.task = name.task, .round = 3, .cohort = 1}, *bytes).ok());
  EXPECT_FALSE(DecodeSum(task, name, BytesView(*bytes).first(bytes->size() - 1)).ok());
}

TEST(SharedStore, AbortsTheRoundWhenASumIsDamaged) {
  Fleet fleet(FleetTask(Protocol::kPlain, 2), 2);
  fleet.JoinAll(5);
  fleet.Advance(kWatchEvery * 2);
  fleet.Ready(0);
  fleet.Ready(1);
  fleet.Give(0, 1);
  fleet.Settle();
  for (const auto& [key, cohort] : fleet.shared.content.cohorts) {
    if (cohort.state == CohortState::kSummed) fleet.shared.content.models.at(cohort.sum).pop_back();
  }
  fleet.Give(1, 1);
  fleet.Advance(kWatchEvery * 2);
  EXPECT_EQ(fleet.shared.Round(1).state, RoundState::kAborted);
  EXPECT_EQ(fleet.shared.Round(1).code, Code::kDataLoss);
  for (auto& player : fleet[0].players) player->HearsOfEnd(false, Code::kDataLoss);
}

}  // namespace
}  // namespace chorus::coordinator
