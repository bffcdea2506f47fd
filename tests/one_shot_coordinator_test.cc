// A coordinator's rounds with a committee, under virtual time.
#include <string>

#include "coordinator_world.h"

namespace chorus::coordinator {
namespace {

constexpr uint64_t kFirstMember = 101;  // serial of the committee's first
constexpr size_t kMembers = 4;

PublicKey KeyOf(uint64_t serial) {
  return crypto::Ed25519Public(SeedOf("player" + std::to_string(serial)).Reveal());
}

TaskSpec OneShotTask() {
  TaskSpec task = PlainTask();
  task.protocol = Protocol::kOneShot;
  task.experimental = true;
  task.one_shot = {.gamma_ppm = 0, .honest_min = 2};
  for (size_t j = 0; j < kMembers; ++j) task.one_shot.members.push_back(KeyOf(kFirstMember + j));
  return task;
}

// A member that speaks the conversation by hand.
struct Member : Player {
  Member(World& its_world, uint64_t index) : Player(its_world, kFirstMember + index) {}

  void Attend() {
    const auto invitation = Take<wire::Invitation>();
    ASSERT_TRUE(invitation.has_value());
    const auto expected = SessionParamsFor({.task = world->task,
                                            .task_bytes = invitation->task,
                                            .weights = *world->initial,
                                            .round = invitation->round});
    ASSERT_THAT(expected, IsOk());
    aggregation::MemberOptions options;
    options.coordinator = world->public_key;
    options.expected = *expected;
    options.committee_ids = world->task.one_shot.members;
    options.identity_seed = seed.Reveal();
    options.verifier = world->verifier.get();
    options.rng = world->rng.get();
    contributor = *aggregation::NewCommitteeMember(std::move(options));
    ASSERT_THAT(Answer({}), IsOk());
  }
};

class OneShotRound : public testing::Test {
 protected:
  OneShotRound() : world(OneShotTask()) { world.Start(); }

  void Clients(uint64_t count) { players = CheckedIn(world, count); }
  // Members of these places, from 0, check in.
  void Members(const std::vector<uint64_t>& indices) {
    for (const uint64_t index : indices) {
      members[index] = std::make_unique<Member>(world, index);
      members[index]->CheckIn();
      members[index]->Ask();
    }
    world.Settle();
  }
  size_t Began() { return world.Of(EventKind::kRoundBegan).size(); }

  void MembersContribute() {
    for (auto& [index, member] : members) member->Contribute();
  }
  void AllReady() {
    ReadyAll(players);
    for (auto& [index, member] : members) member->Attend();
  }
  const RoundReport& Report() { return world.store.Round(1); }

  World world;
  Players players;
  std::map<uint64_t, std::unique_ptr<Member>> members;
};

TEST_F(OneShotRound, AddsTheExactWeightedMean) {
  Clients(5);
  Members({0, 1, 2, 3});
  ASSERT_EQ(Began(), 1U);
  AllReady();
  MembersContribute();
  for (auto& player : players) player->Contribute();
  for (int step = 0; step < 3; ++step) MembersContribute();
  EXPECT_EQ(Report().state, RoundState::kCommitted) << Report().reason;
  EXPECT_EQ(Report().invited, 5U);
  EXPECT_EQ(Report().contributors, 5U);
  EXPECT_EQ(world.core->weights(), MeanAdded(*world.initial, {0, 1, 2, 3, 4}));
  for (auto& player : players) player->HearsOfEnd(/*counted=*/true);
  for (auto& [index, member] : members) member->HearsOfEnd(/*counted=*/true);
}

TEST_F(OneShotRound, HangingUpAfterTheUploadCostsNothing) {
  Clients(5);
  Members({0, 1, 2, 3});
  AllReady();
  MembersContribute();
  for (auto& player : players) player->Contribute();
  // Two come again at once, which ends their old sessions; the others are silent for good.
  players[0]->CheckIn();
  players[1]->CheckIn();
  for (int step = 0; step < 3; ++step) MembersContribute();
  EXPECT_EQ(Report().state, RoundState::kCommitted) << Report().reason;
  EXPECT_EQ(Report().contributors, 5U);
  EXPECT_EQ(Report().dropouts, (std::vector<uint32_t>(6, 0)));
  EXPECT_EQ(world.core->weights(), MeanAdded(*world.initial, {0, 1, 2, 3, 4}));
}

TEST_F(OneShotRound, CountsTheBytesOfClientsAlone) {
  Clients(5);
  Members({0, 1, 2, 3});
  AllReady();
  MembersContribute();
  uint64_t bytes = 0;
  for (auto& player : players) {
    const Result<Bytes> answer = player->Think();
    ASSERT_THAT(answer, IsOk());
    ASSERT_THAT(player->Answer(*answer), IsOk());
    bytes += answer->size();
  }
  for (int step = 0; step < 3; ++step) MembersContribute();
  EXPECT_EQ(Report().bytes_up, bytes);
}

TEST_F(OneShotRound, WaitsForTheWholeCommitteeAsForTheTarget) {
  Clients(5);
  Members({0, 1, 2});
  EXPECT_EQ(Began(), 0U);
  world.Advance(world.task.deadlines.check_in - Time(1));
  EXPECT_EQ(Began(), 0U);
  world.Advance(Time(1));
  EXPECT_EQ(Began(), 1U) << "one may be absent";
  EXPECT_TRUE(world.Of(EventKind::kTrouble).empty());
}

TEST_F(OneShotRound, DoesNotBeginWithoutEnoughOfTheCommitteeAndSaysSo) {
  Clients(5);
  Members({0, 1});
  world.Advance(world.task.deadlines.check_in * 3);
  EXPECT_EQ(Began(), 0U);
  const auto troubles = world.Of(EventKind::kTrouble);
  ASSERT_EQ(troubles.size(), 1U) << "told once";
  EXPECT_THAT(troubles[0].trouble,
              HasCodeAndText(Code::kUnavailable, "only 2 of the committee's 4 members"));
  Members({3});
  EXPECT_EQ(Began(), 1U);
}

TEST_F(OneShotRound, NeverTakesAMemberForAClient) {
  Clients(2);
  Members({0, 1, 2, 3});
  world.Advance(world.task.deadlines.check_in * 3);
  EXPECT_EQ(Began(), 0U) << "two clients are fewer than three";
  const auto reply = world.Call<wire::StatusReply>(wire::kGetStatus, wire::StatusRequest{});
  ASSERT_THAT(reply, IsOk());
  EXPECT_EQ(reply->clients, 2U);
  EXPECT_EQ(reply->committee.size(), kMembers);
}

TEST_F(OneShotRound, EndsWhenTooFewMembersAreReady) {
  Clients(5);
  Members({0, 1, 2, 3});
  ReadyAll(players);
  members[0]->Attend();
  members[1]->Attend();
  world.Advance(world.task.deadlines.train);
  EXPECT_EQ(Report().state, RoundState::kAborted);
  EXPECT_EQ(Report().reason, "too few members of the committee were ready: 2 of at least 3");
}

TEST_F(OneShotRound, GoesOnWithoutAMemberAtEachStep) {
  Clients(5);
  Members({0, 1, 2, 3});
  AllReady();
  MembersContribute();
  for (auto& player : players) player->Contribute();
  members.erase(2);  // silent from now on
  MembersContribute();
  world.Advance(world.task.deadlines.share);
  for (int step = 0; step < 2; ++step) MembersContribute();
  EXPECT_EQ(Report().state, RoundState::kCommitted) << Report().reason;
  EXPECT_EQ(Report().contributors, 5U);
  EXPECT_EQ(Report().dropouts, (std::vector<uint32_t>{0, 0, 0, 1, 0, 0}));
}

// A share of each of five clients, 8 KiB a share, takes a slow link about 160 ms.
TEST_F(OneShotRound, GivesThePullTheTimeThatItTakes) {
  world.task.deadlines.share = Time(1);
  world.store.content = {};
  world.Start();
  Clients(5);
  Members({0, 1, 2, 3});
  AllReady();
  MembersContribute();
  for (auto& player : players) player->Contribute();
  world.Advance(Time(100));
  for (int step = 0; step < 3; ++step) MembersContribute();
  EXPECT_EQ(Report().state, RoundState::kCommitted) << Report().reason;
}

TEST_F(OneShotRound, EndsWithAReasonWhenAMemberTooManyIsLost) {
  Clients(5);
  Members({0, 1, 2, 3});
  AllReady();
  MembersContribute();
  for (auto& player : players) player->Contribute();
  MembersContribute();
  members.erase(1);
  members.erase(2);
  MembersContribute();
  world.Advance(world.task.deadlines.consistency);
  EXPECT_EQ(Report().state, RoundState::kAborted);
  EXPECT_EQ(Report().reason, "too few committee members voted for the survivors");
}

// Checked in anew under its old name, it is nobody in the round that goes on.
TEST_F(OneShotRound, ARestartedMemberIsAskedNothingMore) {
  Clients(5);
  Members({0, 1, 2, 3});
  AllReady();
  MembersContribute();
  for (auto& player : players) player->Contribute();
  MembersContribute();
  members[1]->CheckIn();
  members[1]->Ask();
  world.Settle();
  EXPECT_TRUE(members[1]->parked());
  auto restarted = members.extract(1);
  for (int step = 0; step < 2; ++step) MembersContribute();
  EXPECT_EQ(Report().state, RoundState::kCommitted) << Report().reason;
  EXPECT_TRUE(restarted.mapped()->parked());
}

}  // namespace
}  // namespace chorus::coordinator
