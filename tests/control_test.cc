// What operators and the host do to tasks, in every phase of a round, and the audit of it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "tasks_world.h"

namespace chorus::coordinator {
namespace {

using Action = AuditEntry::Action;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

constexpr CohortSpec kThree = {.minimum = 3, .target = 3, .maximum = 8};

AuditEntry Order(Action action) {
  AuditEntry order;
  order.action = action;
  order.reason = "because";
  return order;
}
AuditEntry Back(uint64_t round) {
  AuditEntry order = Order(Action::kRolledBack);
  order.round = round;
  return order;
}

// One task and three clients of it.
struct Controlled : TasksWorld {
  explicit Controlled(uint32_t rounds = 50, ServerOptimizer optimizer = ServerOptimizer::kFedAvg)
      : TasksWorld({}) {
    TaskSpec spec = TaskNamed("a", kThree, rounds);
    spec.server.optimizer = optimizer;
    tasks.push_back({.task = spec, .initial_weights = Weights{1, 2, 3, 4}});
    task = spec;
    operators = {crypto::Ed25519Public(operator_seed.Reveal())};
    Start();
    crowd = std::make_unique<Crowd>(*this, 3);
  }
  Status Act(const AuditEntry& order) { return router().Control("a", order); }
  void Restart() {
    Start();
    crowd = std::make_unique<Crowd>(*this, 3);
  }
  // Until a round is at its last step, and nobody answers.
  void Hold() {
    crowd->silent = true;
    for (int i = 0; i < 50 && Of("a").step != "input"; ++i) crowd->Run(1);
    ASSERT_EQ(Of("a").step, "input");
  }
  // A round's result waits for a store that fails.
  void HoldRecording() {
    store.failing = "commit round";
    for (int i = 0; i < 50 && Of("a").step != "recording"; ++i) crowd->Run(1);
    ASSERT_EQ(Of("a").step, "recording");
  }
  // Until so many rounds have committed, at least.
  void Commit(uint64_t rounds) {
    for (int i = 0; i < 200 && Of("a").rounds_committed < rounds; ++i) crowd->Run(1);
    ASSERT_GE(Of("a").rounds_committed, rounds);
  }
  bool IsModel(const Digest& hash) { return crypto::Sha256(BytesOf(core->weights())) == hash; }
  std::vector<AuditEntry> Audit(const std::string& of = "a") {
    return Call<wire::AuditReply>(wire::kGetAudit, wire::AuditRequest{of, 500})->entries;
  }
  // As an operator's tool signs it.
  wire::ControlRequest Signed(AuditEntry order, std::string_view seed = "operator") {
    const std::vector<AuditEntry> entries = Audit();
    const Digest sha256 = router().Find("a")->task_sha256();
    order.number = entries.size() + 1;
    order.previous = entries.empty() ? Digest{} : AuditHash(sha256, entries.back());
    order.unix_seconds = clock.unix_seconds;
    SignAudit(sha256, SeedOf(seed).Reveal(), order);
    return {.task = "a", .entry = order};
  }
  Status Send(const wire::ControlRequest& request) {
    return Call<wire::ControlReply>(wire::kControl, request).status();
  }

  SecretBytes operator_seed = SeedOf("operator");
  std::unique_ptr<Crowd> crowd;
};

std::vector<Action> ActionsOf(const std::vector<AuditEntry>& entries) {
  std::vector<Action> actions;
  for (const AuditEntry& entry : entries) actions.push_back(entry.action);
  return actions;
}

TEST(Pause, BeginsNoRoundAndSendsClientsAwayForAWhile) {
  Controlled world;
  world.Commit(1);
  const uint64_t begun = world.Of("a").rounds_begun;
  ASSERT_THAT(world.Act(Order(Action::kPaused)), IsOk());
  world.crowd->Run(5);
  const uint64_t settled = world.Of("a").rounds_begun;
  EXPECT_LE(settled, begun + 1);
  world.crowd->Run(50);
  EXPECT_EQ(world.Of("a").rounds_begun, settled);
  EXPECT_GT(world.crowd->retries, 0);
  EXPECT_EQ(world.crowd->completions, 0);
  EXPECT_THAT(world.Act(Order(Action::kPaused)), HasCode(Code::kFailedPrecondition));
  ASSERT_THAT(world.Act(Order(Action::kResumed)), IsOk());
  world.crowd->Run(50);
  EXPECT_GT(world.Of("a").rounds_committed, settled);
  EXPECT_THAT(world.Act(Order(Action::kResumed)), HasCode(Code::kFailedPrecondition));
}

TEST(Pause, LetsTheRoundInFlightEndAsItWould) {
  Controlled world;
  world.Hold();
  ASSERT_THAT(world.Act(Order(Action::kPaused)), IsOk());
  world.crowd->silent = false;
  for (auto& player : world.crowd->players) player->reply = nullptr;
  world.crowd->Run(20);
  EXPECT_EQ(world.Of("a").rounds_committed, 1U);
  EXPECT_EQ(world.Of("a").rounds_begun, 1U);
}

TEST(Pause, AtOnceAbortsTheRoundInFlight) {
  Controlled world;
  world.Hold();
  ASSERT_THAT(world.Act(Order(Action::kPausedNow)), IsOk());
  EXPECT_EQ(world.Of("a").step, "");
  EXPECT_EQ(world.store.Round(1).state, RoundState::kAborted);
  EXPECT_EQ(world.store.Round(1).reason, "an operator paused the task");
  world.crowd->Run(4);
  ASSERT_THAT(world.crowd->outcomes, SizeIs(3));
  for (const wire::RoundOver& over : world.crowd->outcomes) {
    EXPECT_FALSE(over.counted);
    EXPECT_EQ(over.code, Code::kAborted);
  }
}

TEST(Pause, OutlivesTheCoordinator) {
  Controlled world;
  ASSERT_THAT(world.Act(Order(Action::kPaused)), IsOk());
  world.Restart();
  world.crowd->Run(50);
  EXPECT_EQ(world.Of("a").rounds_begun, 0U);
  ASSERT_THAT(world.Act(Order(Action::kResumed)), IsOk());
  world.Commit(1);
}

TEST(Pause, LosesNoResultThatWaitsForTheStore) {
  Controlled world;
  world.HoldRecording();
  EXPECT_THAT(world.Act(Order(Action::kPaused)), HasCode(Code::kUnavailable));
  EXPECT_THAT(world.Audit(), SizeIs(1)) << "and nothing was done";
  EXPECT_EQ(world.Of("a").mode, TaskMode::kRunning);
  world.store.failing.clear();
  ASSERT_THAT(world.Act(Order(Action::kPaused)), IsOk());
  EXPECT_EQ(world.Of("a").rounds_committed, 1U);
  world.crowd->Run(30);
  EXPECT_EQ(world.Of("a").rounds_begun, 1U);
}

TEST(Stop, IsForGoodInEveryPhase) {
  for (const int phase : {0, 1, 2}) {
    Controlled world;
    if (phase == 1) world.Hold();
    if (phase == 2) {
      world.HoldRecording();
      EXPECT_THAT(world.Act(Order(Action::kStopped)), HasCode(Code::kUnavailable));
      world.store.failing.clear();
    }
    ASSERT_THAT(world.Act(Order(Action::kStopped)), IsOk()) << phase;
    EXPECT_EQ(world.Of("a").rounds_committed, phase == 2 ? 1U : 0U);
    world.crowd->silent = false;
    world.crowd->Run(10);
    EXPECT_GE(world.crowd->completions, 3) << phase;
    EXPECT_THAT(world.Of("a").step, IsEmpty());
    if (phase == 1) {
      EXPECT_EQ(world.store.Round(1).state, RoundState::kAborted);
    }
    for (const Action action : {Action::kResumed, Action::kPaused, Action::kStopped}) {
      EXPECT_THAT(world.Act(Order(action)), HasCode(Code::kFailedPrecondition));
    }
    EXPECT_THAT(world.Of(EventKind::kTaskComplete), SizeIs(1));
    const uint64_t begun = world.Of("a").rounds_begun;
    world.Restart();
    world.crowd->Run(30);
    EXPECT_EQ(world.Of("a").rounds_begun, begun);
    EXPECT_GE(world.crowd->completions, 3);
  }
}

TEST(Stop, AbortsARoundOnceTheStoreTakesThat) {
  Controlled world;
  world.Hold();
  world.store.failing = "commit round";
  ASSERT_THAT(world.Act(Order(Action::kStopped)), IsOk()) << "itself it is durable";
  EXPECT_EQ(world.Of("a").step, "recording");
  world.store.failing.clear();
  world.Advance(Time{2'000});
  EXPECT_EQ(world.store.Round(1).state, RoundState::kAborted);
  world.crowd->Run(6);
  EXPECT_GE(world.crowd->completions, 3);
}

TEST(Control, ChangesNothingThatTheStoreDoesNotTake) {
  Controlled world;
  world.Commit(2);
  const Weights before = world.core->weights();
  world.store.failing = "control task";
  for (const AuditEntry& order : {Order(Action::kPaused), Order(Action::kStopped), Back(1)}) {
    EXPECT_THAT(world.Act(order), HasCode(Code::kResourceExhausted));
  }
  world.store.failing.clear();
  EXPECT_EQ(world.Of("a").mode, TaskMode::kRunning);
  EXPECT_EQ(world.core->weights(), before);
  EXPECT_THAT(world.Audit(), SizeIs(1));
}

TEST(RollBack, MakesAnEarlierModelCurrentAndGoesOnCounting) {
  Controlled world(50, ServerOptimizer::kFedAvgM);
  world.Commit(3);
  const Digest first = world.store.Round(1).result;
  ASSERT_FALSE(world.IsModel(first));
  ASSERT_NE(world.store.Task().server_state, Digest{});
  const uint64_t committed = world.Of("a").rounds_committed;
  ASSERT_THAT(world.Act(Back(1)), IsOk());
  EXPECT_TRUE(world.IsModel(first));
  EXPECT_EQ(world.Of("a").rounds_committed, committed) << "they were done";
  EXPECT_EQ(world.store.Task().server_state, Digest{}) << "the optimiser begins anew";
  EXPECT_EQ(world.Audit().back().model, first);
  const uint64_t begun = world.Of("a").rounds_begun;
  world.Restart();
  EXPECT_TRUE(world.IsModel(first));
  world.Commit(committed + 1);
  EXPECT_EQ(world.store.Round(begun + 1).model, first);
  ASSERT_THAT(world.Act(Back(0)), IsOk());
  EXPECT_EQ(world.core->weights(), (Weights{1, 2, 3, 4})) << "what it began with";
}

TEST(RollBack, AbortsTheRoundInFlight) {
  Controlled world;
  world.Commit(1);
  world.Hold();
  const uint64_t in_flight = world.Of("a").rounds_begun;
  ASSERT_THAT(world.Act(Back(1)), IsOk());
  EXPECT_EQ(world.store.Round(in_flight).state, RoundState::kAborted);
  EXPECT_TRUE(world.IsModel(world.store.Round(1).result));
  EXPECT_THAT(world.Of("a").step, IsEmpty());
}

TEST(RollBack, RefusesModelsThatAreNotThereAndLeavesTheRoundAlone) {
  Controlled world;
  world.Commit(2);
  world.Hold();
  world.store.content.models.erase(world.store.Round(1).result);
  EXPECT_THAT(world.Act(Back(1)), HasCodeAndText(Code::kNotFound, "not kept any more"));
  EXPECT_THAT(world.Act(Back(99)), HasCodeAndText(Code::kNotFound, "has begun"));
  EXPECT_THAT(world.Act(Back(world.Of("a").rounds_begun)),
              HasCodeAndText(Code::kNotFound, "made no model"));
  EXPECT_EQ(world.Of("a").step, "input");
}

TEST(Priority, IsDurableAndBounded) {
  Controlled world;
  AuditEntry order = Order(Action::kPriority);
  order.priority = 7;
  ASSERT_THAT(world.Act(order), IsOk());
  world.Restart();
  EXPECT_EQ(world.Of("a").priority, 7U);
  for (const uint32_t bad : {0U, limits::kPriorityMax + 1}) {
    order.priority = bad;
    EXPECT_THAT(world.Act(order), HasCode(Code::kInvalidArgument));
  }
  EXPECT_THAT(world.router().Control("b", order), HasCode(Code::kNotFound));
}

// --- the audit -----------------------------------------------------------------------------------

TEST(Audit, HasAnEntryForEachAction) {
  Controlled world;
  ASSERT_THAT(world.Act(Order(Action::kPaused)), IsOk());
  ASSERT_THAT(world.Send(world.Signed(Order(Action::kResumed))), IsOk());
  world.Restart();
  ASSERT_THAT(world.Send(world.Signed(Order(Action::kStopped))), IsOk());
  const auto reply = world.Call<wire::AuditReply>(wire::kGetAudit, wire::AuditRequest{"a", 500});
  ASSERT_THAT(reply, IsOk());
  EXPECT_THAT(ActionsOf(reply->entries),
              ElementsAre(Action::kCreated, Action::kPaused, Action::kResumed, Action::kStopped));
  EXPECT_EQ(reply->task_sha256, crypto::Sha256(world.store.Task().spec));
  EXPECT_THAT(VerifyAudit(reply->task_sha256, reply->entries), IsOk());
  EXPECT_EQ(reply->entries[1].actor, world.public_key)
      << "the host acts with its coordinator's key";
  EXPECT_EQ(reply->entries[2].actor, world.operators[0]);
}

TEST(Audit, IsToldAPageAtATimeFromItsFirstEntryOn) {
  Controlled world;
  for (int i = 0; i < 251; ++i) {
    ASSERT_THAT(world.Act(Order(Action::kPaused)), IsOk());
    ASSERT_THAT(world.Act(Order(Action::kResumed)), IsOk());
  }
  const auto page = [&world](uint64_t first, uint32_t count) {
    return world.Call<wire::AuditReply>(
        wire::kGetAudit, wire::AuditRequest{.task = "a", .count = count, .first = first});
  };
  const auto numbers = [&page](uint64_t first, uint32_t count) {
    std::vector<uint64_t> all;
    const auto reply = page(first, count);
    for (const AuditEntry& entry : reply->entries) all.push_back(entry.number);
    return all;
  };
  const auto first = page(1, 500);
  const auto second = page(501, 500);
  ASSERT_THAT(first, IsOk());
  ASSERT_THAT(second, IsOk());
  std::vector<AuditEntry> entries = first->entries;
  ASSERT_THAT(entries, SizeIs(500));
  ASSERT_THAT(second->entries, SizeIs(3));
  entries.insert(entries.end(), second->entries.begin(), second->entries.end());
  EXPECT_EQ(entries.front().number, 1U);
  EXPECT_THAT(VerifyAudit(first->task_sha256, entries), IsOk());
  EXPECT_THAT(numbers(7, 2), ElementsAre(7, 8));
  EXPECT_THAT(numbers(504, 500), IsEmpty());
  EXPECT_THAT(numbers(UINT64_MAX, 500), IsEmpty());
  EXPECT_THAT(numbers(0, 2), ElementsAre(502, 503)) << "the latest, where no first one is named";
  EXPECT_THAT(page(1, 501), HasCode(Code::kInvalidArgument));
}

TEST(Audit, OutlivesItsTask) {
  Controlled world;
  ASSERT_THAT(world.Act(Order(Action::kStopped)), IsOk());
  world.tasks.front().task.name = "another";
  world.Restart();
  const auto reply = world.Call<wire::AuditReply>(wire::kGetAudit, wire::AuditRequest{"a", 500});
  ASSERT_THAT(reply, IsOk());
  EXPECT_THAT(ActionsOf(reply->entries), ElementsAre(Action::kCreated, Action::kStopped));
  EXPECT_THAT(world.Call<wire::AuditReply>(wire::kGetAudit, wire::AuditRequest{"b", 500}),
              HasCode(Code::kNotFound));
}

TEST(Audit, ShowsEveryChange) {
  Controlled world;
  ASSERT_THAT(world.Act(Order(Action::kPaused)), IsOk());
  ASSERT_THAT(world.Act(Order(Action::kResumed)), IsOk());
  const std::vector<AuditEntry> honest = world.Audit();
  const Digest task = world.router().Find("a")->task_sha256();
  ASSERT_THAT(VerifyAudit(task, honest), IsOk());
  const auto tampered = [&](size_t index, const std::function<void(AuditEntry&)>& change) {
    std::vector<AuditEntry> entries = honest;
    change(entries[index]);
    return VerifyAudit(task, entries);
  };
  for (const size_t index : {0U, 1U, 2U}) {
    const auto each = [&](const std::function<void(AuditEntry&)>& change) {
      EXPECT_THAT(tampered(index, change), HasCode(Code::kDataLoss)) << index;
    };
    each([](AuditEntry& entry) { ++entry.number; });
    each([](AuditEntry& entry) { ++entry.unix_seconds; });
    each([](AuditEntry& entry) { entry.action = Action::kStopped; });
    each([](AuditEntry& entry) { entry.actor[3] ^= 1U; });
    each([](AuditEntry& entry) { ++entry.round; });
    each([](AuditEntry& entry) { entry.model[0] ^= 1U; });
    each([](AuditEntry& entry) { ++entry.priority; });
    each([](AuditEntry& entry) { entry.reason += "!"; });
    each([](AuditEntry& entry) { entry.previous[9] ^= 1U; });
    each([](AuditEntry& entry) { entry.signature[9] ^= 1U; });
  }
  std::vector<AuditEntry> gap = honest;
  gap.erase(gap.begin() + 1);
  EXPECT_THAT(VerifyAudit(task, gap), HasCode(Code::kDataLoss));
  // Signed anew by another who has a key, but not the one before's place.
  std::vector<AuditEntry> other = honest;
  other[1].reason = "another";
  SignAudit(task, SeedOf("foreign").Reveal(), other[1]);
  EXPECT_THAT(VerifyAudit(task, other), HasCode(Code::kDataLoss));
  EXPECT_THAT(VerifyAudit(Digest{}, honest), HasCode(Code::kDataLoss)) << "of another task";
}

// --- operators over the network ------------------------------------------------------------------

TEST(Operator, IsObeyedOncePerSignature) {
  Controlled world;
  const wire::ControlRequest pause = world.Signed(Order(Action::kPaused));
  ASSERT_THAT(world.Send(pause), IsOk());
  EXPECT_EQ(world.Of("a").mode, TaskMode::kPaused);
  ASSERT_THAT(world.Send(world.Signed(Order(Action::kResumed))), IsOk());
  EXPECT_THAT(world.Send(pause), HasCode(Code::kAborted)) << "replayed";
  EXPECT_EQ(world.Of("a").mode, TaskMode::kRunning);
  world.Restart();
  EXPECT_THAT(world.Send(pause), HasCode(Code::kAborted)) << "replayed to its successor";
}

TEST(Operator, MustBeOneOfTheCoordinators) {
  Controlled world;
  EXPECT_THAT(world.Send(world.Signed(Order(Action::kPaused), "foreign")),
              HasCode(Code::kPermissionDenied));
  wire::ControlRequest forged = world.Signed(Order(Action::kPaused), "foreign");
  forged.entry.actor = world.operators[0];
  EXPECT_THAT(world.Send(forged), HasCode(Code::kUnauthenticated));
  wire::ControlRequest changed = world.Signed(Order(Action::kPaused));
  changed.entry.action = Action::kStopped;
  EXPECT_THAT(world.Send(changed), HasCode(Code::kUnauthenticated));
  wire::ControlRequest elsewhere = world.Signed(Order(Action::kPaused));
  elsewhere.task = "b";
  EXPECT_THAT(world.Send(elsewhere), HasCode(Code::kNotFound));
  world.operators.clear();
  world.Restart();
  EXPECT_THAT(world.Send(world.Signed(Order(Action::kPaused))),
              HasCodeAndText(Code::kPermissionDenied, "over the network"));
  EXPECT_EQ(world.Of("a").mode, TaskMode::kRunning);
  EXPECT_THAT(world.Audit(), SizeIs(1));
}

TEST(Operator, MustSignForThisTask) {
  Controlled world;
  ASSERT_THAT(world.router().AddTask({.task = TaskNamed("b", kThree)}), IsOk());
  wire::ControlRequest order = world.Signed(Order(Action::kPaused));
  order.task = "b";
  EXPECT_THAT(world.Send(order), HasCode(Code::kUnauthenticated));
}

TEST(Operator, IsNotObeyedLongAfter) {
  Controlled world;
  const wire::ControlRequest order = world.Signed(Order(Action::kPaused));
  world.clock.unix_seconds += limits::kOrderLife.count() + 1;
  EXPECT_THAT(world.Send(order), HasCodeAndText(Code::kFailedPrecondition, "clocks"));
  world.clock.unix_seconds -= 2 * limits::kOrderLife.count() + 2;
  EXPECT_THAT(world.Send(order), HasCode(Code::kFailedPrecondition));
}

TEST(Operator, SignsForTheModelThatIsToBeCurrent) {
  Controlled world;
  world.Commit(1);
  AuditEntry order = Back(1);
  EXPECT_THAT(world.Send(world.Signed(order)), HasCode(Code::kInvalidArgument));
  order.model = world.store.Round(1).result;
  EXPECT_THAT(world.Send(world.Signed(order)), IsOk());
}

TEST(Operator, AddsATaskThatOutlivesTheCoordinator) {
  Controlled world;
  const Bytes bytes = wire::EncodeTask(TaskNamed("b", kThree));
  AuditEntry created = Order(Action::kCreated);
  created.number = 1;
  created.priority = 4;
  created.unix_seconds = world.clock.unix_seconds;
  SignAudit(crypto::Sha256(bytes), world.operator_seed.Reveal(), created);
  const wire::ControlRequest request{.task = "b", .entry = created, .task_bytes = bytes};
  wire::ControlRequest changed = request;
  changed.task_bytes = wire::EncodeTask(TaskNamed("c", kThree));
  EXPECT_THAT(world.Send(changed), HasCode(Code::kUnauthenticated));
  ASSERT_THAT(world.Send(request), IsOk());
  EXPECT_THAT(world.Send(request), HasCode(Code::kAlreadyExists));
  EXPECT_EQ(world.Of("b").priority, 4U);
  world.crowd->Run(80);
  EXPECT_GT(world.Of("b").rounds_committed, 1U);
  const uint64_t committed = world.Of("b").rounds_committed;
  world.stored_tasks = true;
  world.Restart();
  EXPECT_EQ(world.Of("b").rounds_committed, committed);
  EXPECT_EQ(world.Of("b").priority, 4U);
  EXPECT_EQ(world.Audit("b").back().actor, world.operators[0]);
}

TEST(Operator, GivesReasonsInPlainWords) {
  Controlled world;
  for (const std::string& reason : {std::string(501, 'x'), std::string("a\nb")}) {
    AuditEntry order = Order(Action::kPaused);
    order.reason = reason;
    EXPECT_THAT(world.Act(order), HasCode(Code::kInvalidArgument));
  }
}

}  // namespace
}  // namespace chorus::coordinator
