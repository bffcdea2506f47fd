// Many tasks on one coordinator: who gets which clients.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "chorus/token.h"
#include "tasks_world.h"

namespace chorus::coordinator {
namespace {

using testing::IsEmpty;
using testing::SizeIs;

constexpr CohortSpec kTen = {.minimum = 3, .target = 10, .maximum = 10};
constexpr CohortSpec kSix = {.minimum = 6, .target = 6, .maximum = 10};
constexpr CohortSpec kFour = {.minimum = 3, .target = 4, .maximum = 10};

HostedTask Hosted(TaskSpec task, uint32_t priority = 1) {
  return {.task = std::move(task), .initial_weights = Weights{1, 2, 3, 4}, .priority = priority};
}

// A round over a router in which each answer comes in two chunks, and all second ones together.
TEST(Router, TakesWhatWasHashedAheadAsItTakesAnythingElse) {
  TasksWorld world({Hosted(TaskNamed("a", {.minimum = 5, .target = 5, .maximum = 5}))});
  world.Start();
  Players players = CheckedIn(world, 5);
  ReadyAll(players);
  std::vector<UploadCall> calls;
  for (const auto& player : players) {
    const Result<Bytes> answer = player->Think();
    ASSERT_THAT(answer, IsOk());
    wire::UploadRequest whole = player->UploadOf(*answer);
    wire::UploadRequest first = whole;
    first.data.resize(10);
    ASSERT_THAT(player->Send(first), IsOk());
    whole.offset = 10;
    whole.data.erase(whole.data.begin(), whole.data.begin() + 10);
    for (int twice = 0; twice < 2; ++twice) {  // a repeat is nothing that is next
      Result<UploadCall> call = UploadCall::Read(wire::Encode(whole));
      ASSERT_THAT(call, IsOk());
      calls.push_back(*std::move(call));
    }
  }
  // Whoever only knows the number of a session has nothing hashed for it.
  Result<UploadCall> forged = UploadCall::Read(wire::Encode(wire::UploadRequest{}));
  ASSERT_THAT(forged, IsOk());
  forged->chunk = calls.front().chunk;
  forged->chunk.session.back() ^= 1;
  calls.insert(calls.begin(), *std::move(forged));
  std::vector<UploadCall*> waiting;
  for (UploadCall& call : calls) waiting.push_back(&call);
  world.router().HashAhead(waiting);
  EXPECT_FALSE(calls.front().ahead.has_value());
  for (UploadCall& call : calls) {
    const bool is_forged = &call == &calls.front();
    Status taken = Unavailable("never answered");
    world.router().TakeUpload(std::move(call),
                              [&](const Result<Bytes>& reply) { taken = reply.status(); });
    EXPECT_THAT(taken, HasCode(is_forged ? Code::kUnauthenticated : Code::kOk));
  }
  world.Settle();
  ASSERT_THAT(world.Of(CoordinatorEvent::Kind::kRoundEnded), SizeIs(1));
  EXPECT_EQ(world.Of(CoordinatorEvent::Kind::kRoundEnded)[0].round.contributors, 5U);
  EXPECT_EQ(world.core->weights(), MeanAdded({1, 2, 3, 4}, {0, 1, 2, 3, 4}));
}

TEST(FairShare, GivesClientsAsThePrioritiesAreToEachOther) {
  TasksWorld world({Hosted(TaskNamed("a", kTen), 3), Hosted(TaskNamed("b", kTen), 1)});
  world.Start();
  Crowd crowd(world, 10);
  crowd.Run(500);
  const auto a = static_cast<double>(crowd.invited["a"].size());
  const auto b = static_cast<double>(crowd.invited["b"].size());
  EXPECT_GT(a + b, 400) << "clients in all";
  EXPECT_NEAR(a / b, 3.0, 0.2);
}

TEST(FairShare, TakesTurnsOverAPopulationThatFillsOneRoundOnly) {
  TasksWorld world({Hosted(TaskNamed("a", kSix)), Hosted(TaskNamed("b", kSix))});
  world.Start();
  Crowd crowd(world, 8);
  crowd.Run(400);
  const uint64_t a = world.Of("a").rounds_committed;
  const uint64_t b = world.Of("b").rounds_committed;
  EXPECT_GT(a + b, 30U);
  EXPECT_LE(a > b ? a - b : b - a, 1U);
}

TEST(FairShare, ServesAllAtOnceWhereClientsSufficeForAll) {
  TasksWorld world({Hosted(TaskNamed("a", kSix), 1'000), Hosted(TaskNamed("b", kSix))});
  world.Start();
  Crowd crowd(world, 12);
  crowd.Run(200);
  EXPECT_GT(world.Of("b").rounds_committed, 15U);
  EXPECT_GT(world.Of("a").rounds_committed, 15U);
}

TEST(FairShare, StarvesNoTaskOfAnyPriority) {
  TasksWorld world({Hosted(TaskNamed("a", kTen), 20), Hosted(TaskNamed("b", kTen), 1)});
  world.Start();
  Crowd crowd(world, 10);
  crowd.Run(600);
  EXPECT_GT(world.Of("b").rounds_committed, 2U);
}

TEST(FairShare, DrawsEverybodyAlike) {
  TasksWorld world({Hosted(TaskNamed("a", kSix)), Hosted(TaskNamed("b", kSix))});
  world.Start();
  Crowd crowd(world, 20);
  crowd.Run(400);
  std::map<uint64_t, double> times;
  for (const auto& [name, who] : crowd.invited) {
    for (const uint64_t serial : who) ++times[serial];
  }
  double total = 0;
  for (const auto& [serial, count] : times) total += count;
  ASSERT_EQ(times.size(), 20U);
  // Five standard deviations of so many independent draws.
  for (const auto& [serial, count] : times)
    EXPECT_NEAR(count, total / 20, 5 * std::sqrt(total / 20));
}

TEST(FairShare, PassesOverATaskThatNeedsMoreClientsThanThereAre) {
  const CohortSpec fifty = {.minimum = 50, .target = 50, .maximum = 60};
  TasksWorld world({Hosted(TaskNamed("a", fifty), 1'000), Hosted(TaskNamed("b", kSix))});
  world.Start();
  Crowd crowd(world, 8);
  crowd.Run(100);
  EXPECT_GT(world.Of("b").rounds_committed, 8U);
  EXPECT_EQ(world.Of("a").rounds_begun, 0U);
  Crowd more(world, 44, {}, 100);
  for (int i = 0; i < 60; ++i) {
    crowd.Run(1);
    more.Run(1);
  }
  EXPECT_GT(world.Of("a").rounds_committed, 0U) << "gathers those in the other task's rounds";
}

TEST(FairShare, EndsATurnThatGathersInVain) {
  TasksWorld world({Hosted(TaskNamed("b", kFour))});
  world.Start();
  Crowd busy(world, 4);
  busy.stalls = true;
  busy.Run(3);
  ASSERT_EQ(world.Of("b").step, "training");
  ASSERT_THAT(world.router().AddTask(Hosted(TaskNamed("a", kSix), 1'000)), IsOk());
  ASSERT_THAT(world.router().AddTask(Hosted(TaskNamed("c", kFour))), IsOk());
  Crowd crowd(world, 4, {}, 100);
  crowd.Run(100);
  EXPECT_EQ(world.Of("c").rounds_begun, 0U) << "eight are there, so six may yet be free";
  for (int i = 0; i < 14; ++i) {
    world.Advance(Time{5'000});
    crowd.Run(1);
  }
  crowd.Run(20);
  EXPECT_GT(world.Of("c").rounds_committed, 0U);
}

TEST(Tasks, OfAClientAreThoseThatItNames) {
  TasksWorld world({Hosted(TaskNamed("a", kSix)), Hosted(TaskNamed("b", kSix))});
  world.Start();
  Crowd crowd(world, 8, {"b"});
  crowd.Run(60);
  EXPECT_THAT(crowd.invited["a"], IsEmpty());
  EXPECT_GT(world.Of("b").rounds_committed, 5U);
  Player stranger(world, 100);
  wire::CheckInRequest request = stranger.SignedCheckIn(stranger.Challenge());
  request.tasks = {"c"};
  EXPECT_THAT(stranger.TryCheckIn(request), HasCode(Code::kNotFound));
}

TEST(Tasks, OfAMemberWithoutATokenAreThoseOfItsCommittee) {
  // Says no to every token, which none of these has.
  class NoToken final : public TokenVerifier {
   public:
    Result<TokenClaims> Verify(BytesView, int64_t) const override {
      return Unauthenticated("no token is good");
    }
  } tokens;
  TaskSpec with_committee = TaskNamed("a", kSix);
  with_committee.protocol = Protocol::kOneShot;
  with_committee.experimental = true;
  with_committee.one_shot = {.gamma_ppm = 0, .honest_min = 2};
  for (uint64_t serial = 1; serial <= 4; ++serial) {
    with_committee.one_shot.members.push_back(
        crypto::Ed25519Public(SeedOf("player" + std::to_string(serial)).Reveal()));
  }
  TasksWorld world({Hosted(with_committee), Hosted(TaskNamed("b", kSix))});
  world.admission.tokens = &tokens;
  world.Start();
  const auto check_in = [&](uint64_t serial, const std::string& task) {
    Player player(world, serial);
    wire::CheckInRequest request = player.SignedCheckIn(player.Challenge());
    request.tasks = {task};
    return player.TryCheckIn(request);
  };
  EXPECT_THAT(check_in(1, "a"), IsOk());
  EXPECT_THAT(check_in(2, "b"), HasCodeAndText(Code::kUnauthenticated, "to be clients"));
  EXPECT_THAT(check_in(9, "b"), HasCodeAndText(Code::kUnauthenticated, "wants a session token"));
}

TEST(Tasks, AreNotGivenAgainSoonToWhoDeclinedThem) {
  TasksWorld world({Hosted(TaskNamed("a", kSix), 1'000), Hosted(TaskNamed("b", kSix))});
  world.Start();
  Crowd crowd(world, 6);
  crowd.refuses = "a";
  crowd.Run(400);
  EXPECT_EQ(crowd.invited["a"].size(), 6U) << "each was asked once";
  EXPECT_GT(world.Of("b").rounds_committed, 20U);
  world.Advance(limits::kRefusalLife);
  crowd.Run(20);
}

TEST(Tasks, DeclinedByTheirOnlyClientsAreOfferedAgain) {
  TasksWorld world({Hosted(TaskNamed("a", kSix))});
  world.Start();
  Crowd crowd(world, 6);
  crowd.refuses = "a";
  crowd.Run(20);
  world.Advance(Time{60'000});
  crowd.Run(20);
  EXPECT_GT(crowd.invited["a"].size(), 6U);
}

TEST(Tasks, HandTheirClientsOnWhenTheyAreComplete) {
  TasksWorld world({Hosted(TaskNamed("a", kSix, 2), 1'000), Hosted(TaskNamed("b", kSix, 3))});
  world.Start();
  Crowd crowd(world, 6);
  Crowd faithful(world, 1, {"a"}, 100);
  for (int i = 0; i < 60 && world.Of("a").rounds_committed < 2; ++i) {
    crowd.Run(1);
    faithful.Run(1);
  }
  ASSERT_EQ(world.Of("a").rounds_committed, 2U);
  EXPECT_EQ(crowd.completions, 0) << "there is another task";
  faithful.Run(3);
  EXPECT_GT(faithful.completions, 0) << "who serves no other is told";
  crowd.Run(60);
  EXPECT_EQ(world.Of("b").rounds_committed, 3U);
  EXPECT_GT(crowd.completions, 5);
}

TEST(Tasks, ShareOneSessionAnIdentity) {
  TasksWorld world({Hosted(TaskNamed("a", kSix)), Hosted(TaskNamed("b", kSix))});
  world.Start();
  Player player(world, 1);
  wire::CheckInRequest request = player.SignedCheckIn(player.Challenge());
  request.tasks = {"a"};
  ASSERT_THAT(player.TryCheckIn(request), IsOk());
  const wire::SessionToken first = player.session;
  request.tasks = {"b"};
  EXPECT_THAT(player.TryCheckIn(request), HasCode(Code::kUnauthenticated)) << "replayed";
  request = player.SignedCheckIn(player.Challenge());
  request.tasks = {"b"};
  ASSERT_THAT(player.TryCheckIn(request), IsOk());
  EXPECT_THAT(world.Call<wire::NextReply>(wire::kNext, wire::NextRequest{first, 0}),
              HasCode(Code::kUnauthenticated));
  EXPECT_EQ(world.Of("a").clients, 0U);
  EXPECT_EQ(world.Of("b").clients, 1U);
}

TEST(Tasks, AreAddedWhileOthersRun) {
  TasksWorld world({});
  world.Start();
  Player early(world, 50);
  EXPECT_THAT(early.TryCheckIn(early.SignedCheckIn(early.Challenge())),
              HasCode(Code::kUnavailable));
  ASSERT_THAT(world.router().AddTask(Hosted(TaskNamed("a", kSix))), IsOk());
  Crowd crowd(world, 6);
  crowd.Run(30);
  EXPECT_GT(world.Of("a").rounds_committed, 1U);
  EXPECT_THAT(world.router().AddTask(Hosted(TaskNamed("a", kSix))), HasCode(Code::kAlreadyExists));
  EXPECT_THAT(world.router().AddTask(Hosted(TaskNamed("z", kSix), 0)),
              HasCode(Code::kInvalidArgument));
  ASSERT_THAT(world.router().AddTask(Hosted(TaskNamed("b", kSix))), IsOk());
  crowd.Run(60);
  EXPECT_GT(world.Of("b").rounds_committed, 3U);
}

TEST(Tasks, AreListedInTheStatusOfEach) {
  TasksWorld world({Hosted(TaskNamed("a", kSix), 5), Hosted(TaskNamed("b", kSix))});
  world.Start();
  const auto status =
      world.Call<wire::StatusReply>(wire::kGetStatus, wire::StatusRequest{.task = "b"});
  ASSERT_THAT(status, IsOk());
  EXPECT_EQ(status->task, "b");
  ASSERT_EQ(status->tasks.size(), 2U);
  EXPECT_EQ(status->tasks[0].priority, 5U);
  EXPECT_THAT(world.Call<wire::StatusReply>(wire::kGetStatus, wire::StatusRequest{.task = "c"}),
              HasCode(Code::kNotFound));
  const auto first = world.Call<wire::StatusReply>(wire::kGetStatus, wire::StatusRequest{});
  EXPECT_EQ(first->task, "a");
}

TEST(Tasks, KeepEventsAndModelsApart) {
  TasksWorld world({Hosted(TaskNamed("a", kSix, 2)), Hosted(TaskNamed("b", kSix, 1'000))});
  world.Start();
  Crowd crowd(world, 6, {"a"});
  crowd.Run(30);
  EXPECT_NE(world.router().Find("a")->weights(), (Weights{1, 2, 3, 4}));
  EXPECT_EQ(world.router().Find("b")->weights(), (Weights{1, 2, 3, 4}));
  for (const CoordinatorEvent& event : world.events) EXPECT_EQ(event.task, "a");
  EXPECT_FALSE(world.events.empty());
}

}  // namespace
}  // namespace chorus::coordinator
