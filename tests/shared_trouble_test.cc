// What goes wrong on a store that several processes use, beside what shared_task_test.cc has:
// orders of operators, tasks that cannot be served, and time in which a process hears nobody.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/limits.h"
#include "coordinator/machine.h"
#include "coordinator/router.h"
#include "shared_world.h"
#include "tasks_world.h"

namespace chorus::coordinator {
namespace {

using testing::IsEmpty;
using testing::SizeIs;

CoordinatorCore& CoreOf(Process& process) {
  return static_cast<CoordinatorCore&>(*process.world.core);
}
Status Act(Process& process, AuditEntry::Action action) {
  AuditEntry order;
  order.action = action;
  order.reason = "because";
  return CoreOf(process).Control(order, process.world.clock.now);
}

TEST(SharedStore, EndsARoundOfWhichAnOperatorAbortedOneProcessesPart) {
  Fleet fleet(FleetTask(Protocol::kPlain, 2), 2);
  fleet.JoinAll(5);
  fleet.Advance(kWatchEvery * 2);
  fleet.Ready(0);
  fleet.Ready(1);
  ASSERT_THAT(Act(fleet[0], AuditEntry::Action::kPausedNow), IsOk());
  fleet.Settle();
  for (auto& player : fleet[0].players) player->HearsOfEnd(false, Code::kAborted);
  fleet.Give(1, 1);
  fleet.Advance(kWatchEvery * 2);
  ExpectCommitted(fleet, 1, 5, 1);
  for (auto& player : fleet[1].players) player->HearsOfEnd(true);
  ASSERT_THAT(Act(fleet[0], AuditEntry::Action::kResumed), IsOk());
  for (const auto& process : fleet.processes) {
    for (auto& player : process->players) player->Ask();
  }
  fleet.Advance(Time{60'000});
  EXPECT_EQ(fleet.shared.Task().rounds_begun, 2U);
}

TEST(SharedStore, EndsARoundThatAnOperatorAbortedWhole) {
  Fleet fleet(FleetTask(Protocol::kPlain, 1), 2);
  for (int i = 0; i < 5; ++i) fleet.Join(0);
  fleet.Settle();
  ASSERT_THAT(Act(fleet[0], AuditEntry::Action::kPausedNow), IsOk());
  fleet.Advance(kWatchEvery * 2);
  EXPECT_EQ(fleet.shared.Round(1).state, RoundState::kAborted);
  EXPECT_EQ(fleet.shared.Round(1).code, Code::kAborted);
}

TEST(SharedStore, TellsEveryProcessesHostOfAnOrder) {
  Fleet fleet(FleetTask(Protocol::kPlain, 1), 2);
  fleet.JoinAll(5);
  PlayRound(fleet, {0});
  fleet.Advance(kWatchEvery * 2);
  ExpectCommitted(fleet, 1, 5, 1);
  const World& other = fleet[1].world;
  ASSERT_THAT(Act(fleet[0], AuditEntry::Action::kPaused), IsOk());
  fleet.Advance(kWatchEvery * 2);
  EXPECT_THAT(other.Of(EventKind::kTaskChanged), SizeIs(1));
  fleet[1].alive = false;  // its round ends without it
  fleet.Advance(kLease + kConclusionGrace + kWatchEvery * 2);
  fleet[1].alive = true;
  ASSERT_THAT(Act(fleet[0], AuditEntry::Action::kRolledBack), IsOk());
  fleet.Advance(kWatchEvery * 2);
  EXPECT_THAT(other.Of(EventKind::kTaskChanged), SizeIs(2));
  EXPECT_EQ(other.core->weights(), kFirst);
  ASSERT_THAT(Act(fleet[0], AuditEntry::Action::kStopped), IsOk());
  fleet.Advance(kWatchEvery * 2);
  EXPECT_THAT(other.Of(EventKind::kTaskChanged), SizeIs(3));
  EXPECT_THAT(fleet[0].world.Of(EventKind::kTaskChanged), SizeIs(3));
}

TEST(SharedStore, KeepsNoStateOfARoundThatAnotherProcessMadeBeforeARollback) {
  TaskSpec task = FleetTask(Protocol::kPlain, 1);
  task.server.optimizer = ServerOptimizer::kFedAdam;
  Fleet fleet(task, 2);
  for (int i = 0; i < 5; ++i) fleet.Join(0);
  fleet.Settle();
  fleet[1].door.cut = true;
  PlayRound(fleet, {0});
  fleet.Advance(kWatchEvery * 2);
  ExpectCommitted(fleet, 1, 5, 1);
  ASSERT_THAT(Act(fleet[0], AuditEntry::Action::kPaused), IsOk());
  const Digest state = fleet.shared.Task().server_state;
  ASSERT_TRUE(fleet.shared.content.models.contains(state));
  // Process 1 has not looked since the round.
  fleet[1].door.cut = false;
  ASSERT_THAT(Act(fleet[1], AuditEntry::Action::kRolledBack), IsOk());
  EXPECT_FALSE(fleet.shared.content.models.contains(state));
}

TEST(SharedStore, PausesAfterAnAbortedRoundOnlyWhereItRan) {
  Fleet fleet(FleetTask(Protocol::kPlain, 1), 2);
  for (int i = 0; i < 5; ++i) fleet.Join(0);
  fleet.Settle();
  for (int i = 0; i < 5; ++i) fleet.Join(1);
  fleet.Settle();
  for (auto& player : fleet[0].players) {
    ASSERT_TRUE(player->Take<wire::Invitation>().has_value());
    ASSERT_THAT(player->Abort(Code::kInternal), IsOk());
  }
  fleet.Advance(kWatchEvery * 3);
  EXPECT_EQ(fleet.shared.Round(1).state, RoundState::kAborted);
  ASSERT_EQ(fleet.shared.Task().rounds_begun, 2U);
  EXPECT_EQ(fleet.shared.content.cohorts.begin()->second.process, "process-1");
}

// --- leases ---

TEST(SharedStore, TakesASumWhoseLeaseHasLapsedIntoARoundThatIsOpen) {
  Fleet fleet(FleetTask(Protocol::kPlain, 1), 1);
  fleet.JoinAll(5);
  fleet.Ready(0);
  // The process cannot know; the store's clock is what counts.
  fleet.shared.clock.now += kLease + Time{1};
  fleet.Give(0, 1);
  fleet.Settle();
  ExpectCommitted(fleet, 1, 5, 1);
}

TEST(SharedStore, RenewsLeasesThatHaveLapsedInARoundThatIsOpen) {
  Fleet fleet(FleetTask(Protocol::kPlain, 2), 2);
  fleet.JoinAll(5);
  fleet.Advance(kWatchEvery * 2);
  fleet.Ready(0);
  fleet.Ready(1);
  fleet.shared.clock.now += kLease + Time{1};
  fleet.Advance(kWatchEvery);
  fleet.Give(1, 1);
  fleet.Give(0, 1);
  fleet.Advance(kWatchEvery * 2);
  ExpectCommitted(fleet, 1, 10, 2);
}

TEST(SharedStore, RefusesASumWithoutWhichItsRoundHasEnded) {
  Fleet fleet(FleetTask(Protocol::kPlain, 2), 2);
  fleet.JoinAll(5);
  fleet.Advance(kWatchEvery * 2);
  fleet.Ready(0);
  fleet.Ready(1);
  fleet.Give(0, 1);
  // Process 1 stands still just as it hands its sum in.
  fleet[1].door.meanwhile = [&](std::string_view name) {
    if (name != "end cohort") return;
    fleet[1].alive = false;
    fleet.Advance(kLease + kConclusionGrace + kWatchEvery * 2);
    fleet[1].alive = true;
    ExpectCommitted(fleet, 1, 5, 1);
  };
  fleet.Give(1, 1);
  fleet[1].door.meanwhile = nullptr;
  fleet.Settle();
  ExpectCommitted(fleet, 1, 5, 1);
  EXPECT_THAT(fleet.shared.content.models, SizeIs(2));  // the first model, and the round's
  for (auto& player : fleet[1].players) player->HearsOfEnd(false, Code::kDeadlineExceeded);
  EXPECT_EQ(fleet[1].world.core->weights(), MeanAdded(kFirst, fleet.Serials(0)));
}

// A pool that takes its time, once.
class SlowExecutor final : public Executor {
 public:
  void ParallelFor(size_t count, const std::function<void(size_t)>& work) override {
    if (meanwhile) std::exchange(meanwhile, nullptr)();
    for (size_t i = 0; i < count; ++i) work(i);
  }
  std::function<void()> meanwhile;
};

TEST(SharedStore, WaitsForASumThatTakesLongerToOpenThanALease) {
  Fleet fleet(FleetTask(Protocol::kSecAgg, 2), 2);
  SlowExecutor executor;
  fleet[1].world.executor = &executor;
  fleet[1].world.Start();
  fleet.Advance(kLeaseRenewal * 2);
  fleet.JoinAll(5);
  fleet.Advance(kWatchEvery * 2);
  fleet.Ready(0);
  fleet.Ready(1);
  for (size_t step = 0; step < fleet.Steps(); ++step) fleet.Give(0, 1);
  for (size_t step = 0; step + 1 < fleet.Steps(); ++step) fleet.Give(1, 1);
  bool slow = false;
  executor.meanwhile = [&] {
    slow = true;
    fleet[1].alive = false;
    fleet.Advance(kOpeningLease - kLease);
    fleet[1].alive = true;
    EXPECT_EQ(fleet.shared.Round(1).state, RoundState::kOpen);
  };
  fleet.Give(1, 1);
  fleet.Advance(kWatchEvery * 2);
  EXPECT_TRUE(slow);
  ExpectCommitted(fleet, 1, 10, 2);
  for (auto& player : fleet[1].players) player->HearsOfEnd(true);
}

TEST(SharedStore, GoesOnAfterARoundWhoseReportItsProcessMissed) {
  Fleet fleet(FleetTask(Protocol::kPlain, 2), 2);
  fleet.JoinAll(5);
  fleet.Advance(kWatchEvery * 2);
  fleet.Ready(0);
  fleet.Ready(1);
  fleet[1].door.cut = true;
  fleet.Give(0, 1);
  fleet.Advance(kLease + kConclusionGrace);
  ExpectCommitted(fleet, 1, 5, 1);
  for (auto& player : fleet[0].players) {
    player->HearsOfEnd(true);
    player->Ask();
  }
  fleet.Advance(kLease);
  ASSERT_EQ(fleet.shared.Task().rounds_begun, 2U);
  PlayRound(fleet, {0});
  fleet.Advance(kWatchEvery * 2);
  ExpectCommitted(fleet, 2, 5, 1);
  fleet.shared.content.rounds.begin()->second.erase(1);
  fleet[1].door.cut = false;
  fleet.Advance(kWatchEvery * 2);
  for (auto& player : fleet[1].players) {
    player->HearsOfEnd(false, Code::kUnavailable);
    player->Ask();
  }
  fleet.Advance(fleet.task.deadlines.check_in);
  EXPECT_EQ(fleet.shared.Task().rounds_begun, 3U);
}

TEST(SharedStore, IsNotLookedAtAgainAtOnceWhenItTookLongToFail) {
  Fleet fleet(FleetTask(Protocol::kPlain, 1), 1);
  fleet[0].door.cut = true;
  fleet[0].door.meanwhile = [&](std::string_view) { fleet.Set(fleet.now + Time{1'000}); };
  Core& core = *fleet[0].world.core;
  const int before = fleet[0].door.transactions["look"];
  const Time until = fleet.now + Time{60'000};
  while (fleet.now < until) {
    fleet.Set(std::max(fleet.now, core.NextTick()));
    core.Tick();
  }
  EXPECT_LE(fleet[0].door.transactions["look"] - before, 31);
}

// --- time in which nobody is heard ---

class AnotherTasksStall : public testing::TestWithParam<bool> {};

TEST_P(AnotherTasksStall, CostsNoClientItsTime) {
  const CohortSpec three = {.minimum = 3, .target = 3, .maximum = 8};
  std::vector<HostedTask> tasks;
  tasks.push_back({.task = TaskNamed(GetParam() ? "a" : "b", three)});
  tasks.push_back({.task = TaskNamed(GetParam() ? "b" : "a", three)});
  TasksWorld world(std::move(tasks));
  world.Start();
  Crowd a(world, 3, {"a"});
  a.silent = true;
  for (int i = 0; i < 50 && world.Of("a").step != "input"; ++i) a.Run(1);
  ASSERT_EQ(world.Of("a").step, "input");
  int stalls = 0;
  world.store.meanwhile = [&](std::string_view name) {
    if (name != "begin round") return;
    ++stalls;
    world.clock.now += Time{3'600'000};
  };
  Crowd b(world, 3, {"b"}, /*first=*/10);
  b.Run(3);
  EXPECT_EQ(stalls, 1);
  EXPECT_EQ(world.Of("a").step, "input");
  a.silent = false;
  a.Run(3);
  EXPECT_EQ(world.Of("a").rounds_committed, 1U);
}
INSTANTIATE_TEST_SUITE_P(FirstOrLast, AnotherTasksStall, testing::Bool());

// --- tasks that cannot be served ---

TaskSpec Buffered() {
  TaskSpec task = FleetTask(Protocol::kPlain, 2);
  task.name = "buffered";
  task.server.buffered_sums = 2;
  return task;
}

TEST(SharedStore, KeepsNothingOfATaskThatItRefuses) {
  Shared shared;
  Process process(Buffered(), shared, "one");
  EXPECT_THAT(process.world.Create(), HasCode(Code::kFailedPrecondition));
  EXPECT_THAT(shared.content.tasks, IsEmpty());
}

// A router that takes up what is in the store.
Result<std::unique_ptr<Router>> Take(World& world, Store& store) {
  RouterOptions options;
  options.signing_seed = world.signing_seed.Reveal();
  options.stored_tasks = true;
  return Router::Create(std::move(options), store, *world.verifier, world.clock, *world.rng,
                        world.log);
}

TEST(StoredTasks, AreServedBesideOneThatCannotBe) {
  Shared shared;
  World own(Buffered());
  own.store.content = shared.content;
  own.Start();
  own.task = FleetTask(Protocol::kPlain, 1);
  own.Start();
  own.core.reset();
  shared.content = own.store.content;
  ASSERT_THAT(shared.content.tasks, SizeIs(2));
  Door door(shared);
  const Result<std::unique_ptr<Router>> router = Take(own, door);
  ASSERT_THAT(router, IsOk());
  ASSERT_THAT((*router)->cores(), SizeIs(1));
  EXPECT_EQ((*router)->cores()[0]->task().name, own.task.name);
}

TEST(StoredTasks, ThatHaveEndedTakeNoPlace) {
  World world;
  for (uint32_t i = 0; i < limits::kTasksMax + 3; ++i) {
    world.task.name = "task-" + std::to_string(i);
    world.Start();
  }
  world.core.reset();
  ASSERT_THAT(world.store.content.tasks, SizeIs(limits::kTasksMax + 3));
  {
    const Result<std::unique_ptr<Router>> router = Take(world, world.store);
    ASSERT_THAT(router, IsOk());
    EXPECT_THAT((*router)->cores(), SizeIs(limits::kTasksMax));
  }
  uint32_t ended = 0;
  for (auto& [id, record] : world.store.content.tasks) {
    if (ended == 6) break;
    if (++ended % 2 == 0) {
      record.mode = TaskMode::kStopped;
    } else {
      record.rounds_committed = world.task.rounds;
    }
  }
  const Result<std::unique_ptr<Router>> router = Take(world, world.store);
  ASSERT_THAT(router, IsOk());
  EXPECT_THAT((*router)->cores(), SizeIs(limits::kTasksMax - 3));
}

}  // namespace
}  // namespace chorus::coordinator
