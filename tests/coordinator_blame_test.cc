// What a coordinator holds against identities: proof expels and is kept, all else only makes them
// wait behind the others, and fades.
#include <algorithm>
#include <set>
#include <vector>

#include "coordinator/party.h"
#include "coordinator/standing.h"
#include "coordinator_world.h"

namespace chorus::coordinator {
namespace {

using aggregation::Blame;
using testing::Contains;
using testing::Each;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

PublicKey IdentityOf(uint64_t number) {
  return crypto::Ed25519Public(SeedOf("identity" + std::to_string(number)).Reveal());
}

std::vector<Evidence> Hold(Standing& standing, uint64_t identity, Blame::Cause cause,
                           uint64_t round) {
  SilentLog log;
  Blame blame;
  blame.id = IdentityOf(identity);
  blame.cause = cause;
  blame.first.message.fill(1);
  blame.second.message.fill(2);
  return standing.Hold({{3, blame}}, round, log);
}

constexpr Blame::Cause kNoProof[] = {Blame::Cause::kUnusableShares, Blame::Cause::kDeniedShares,
                                     Blame::Cause::kInconsistentShares, Blame::Cause::kWrongShare};

// --- standing ---

TEST(Standing, ExpelsWhoSignedTwoAnswersAndReturnsTheProof) {
  Standing standing(10);
  const std::vector<Evidence> proof = Hold(standing, 1, Blame::Cause::kEquivocated, 7);
  ASSERT_THAT(proof, SizeIs(1));
  EXPECT_EQ(proof[0].round, 7U);
  EXPECT_EQ(proof[0].cohort, 3U);
  EXPECT_EQ(proof[0].identity, IdentityOf(1));
  EXPECT_EQ(proof[0].first.message[0], 1);
  EXPECT_EQ(proof[0].second.message[0], 2);
  EXPECT_TRUE(standing.Expelled(IdentityOf(1)));
  EXPECT_FALSE(standing.Expelled(IdentityOf(2)));
}

// A set of holders can make an honest owner look like any of these, round after round.
TEST(Standing, NeverExpelsForWhatColludingHoldersCanArrange) {
  Standing standing(10);
  for (uint64_t round = 1; round <= 1'000; ++round) {
    for (const Blame::Cause cause : kNoProof) {
      EXPECT_THAT(Hold(standing, 1, cause, round), IsEmpty());
    }
  }
  EXPECT_FALSE(standing.Expelled(IdentityOf(1)));
  EXPECT_LE(standing.Strikes(IdentityOf(1), 1'000), 65U);
  EXPECT_EQ(standing.Strikes(IdentityOf(1), 1'065), 0U);
}

TEST(Standing, StrikesFadeRoundByRound) {
  Standing standing(10);
  Hold(standing, 1, Blame::Cause::kWrongShare, 5);
  Hold(standing, 1, Blame::Cause::kDeniedShares, 5);  // one round, one strike
  EXPECT_EQ(standing.Strikes(IdentityOf(1), 6), 8U);
  EXPECT_EQ(standing.Strikes(IdentityOf(1), 13), 1U);
  EXPECT_EQ(standing.Strikes(IdentityOf(1), 14), 0U);
  Hold(standing, 1, Blame::Cause::kWrongShare, 9);
  EXPECT_EQ(standing.Strikes(IdentityOf(1), 10), 12U);
  Hold(standing, 1, Blame::Cause::kWrongShare, 100);
  EXPECT_EQ(standing.Strikes(IdentityOf(1), 101), 8U);
  EXPECT_EQ(standing.Strikes(IdentityOf(2), 101), 0U);
}

TEST(Standing, RemembersSoManyAndForgetsFirstWhatFadesFirst) {
  Standing standing(3);
  for (uint64_t identity = 1; identity <= 5; ++identity) {
    Hold(standing, identity, Blame::Cause::kWrongShare, identity);
    Hold(standing, 100 + identity, Blame::Cause::kEquivocated, identity);
  }
  for (uint64_t identity = 1; identity <= 5; ++identity) {
    EXPECT_EQ(standing.Strikes(IdentityOf(identity), 6) > 0, identity > 2) << identity;
    EXPECT_EQ(standing.Expelled(IdentityOf(100 + identity)), identity <= 3) << identity;
  }
}

// --- selection ---

// Parties of which some have strikes.
struct Waiting {
  explicit Waiting(const std::set<uint64_t>& struck) {
    for (uint64_t serial = 1; serial <= 40; ++serial) {
      const Player player(world, serial);
      const auto admission = parties.CheckIn(
          player.SignedCheckIn(parties.NewChallenge(world.clock.now)), world.clock.now);
      EXPECT_THAT(admission, IsOk());
      const Party& party = *parties.Authenticate(admission->session, world.clock.now);
      if (!struck.contains(serial)) continue;
      bad.insert(party.id);
      Blame blame;
      blame.id = party.identity;
      blame.cause = Blame::Cause::kUnusableShares;
      standing.Hold({{1, blame}}, 1, world.log);
    }
  }
  World world;
  Standing standing{100};
  Parties parties{{.coordinator = world.public_key,
                   .verifier = world.verifier.get(),
                   .rng = world.rng.get(),
                   .standing = &standing,
                   .sessions_max = 100,
                   .uploads_in_flight_bytes_max = 0}};
  std::set<PartyId> bad;
};

TEST(Selection, DrawsWhoHasStrikesOnlyWhenThereAreTooFewWithout) {
  for (const std::optional<uint64_t> seed :
       {std::optional<uint64_t>(), std::optional<uint64_t>(5)}) {
    Waiting t({3, 14, 15, 26});
    const std::vector<PartyId> waiting = t.parties.Waiting(t.world.clock.now);
    ASSERT_THAT(waiting, SizeIs(40));
    const auto struck_among = [&](size_t count, uint64_t round) {
      const std::vector<PartyId> chosen =
          t.parties.Select(waiting, count, {.round = round, .experiment_seed = seed});
      EXPECT_EQ(std::set<PartyId>(chosen.begin(), chosen.end()).size(), count);
      return std::count_if(chosen.begin(), chosen.end(),
                           [&](PartyId id) { return t.bad.contains(id); });
    };
    EXPECT_EQ(struck_among(36, 2), 0);
    EXPECT_EQ(struck_among(38, 2), 2);
    EXPECT_EQ(struck_among(40, 2), 4);
    EXPECT_GT(struck_among(39, 10), 2);  // faded by then
  }
}

// Cut into cohorts as they stand, the last would else be made of those with strikes. 200 draws
// put one of four at place 0 to 19 in 400 cases of 800, give or take 14; the seed is fixed.
TEST(Selection, LeavesWhoHasStrikesNoPlaceOfTheirOwn) {
  Waiting t({3, 14, 15, 26, 27});
  const std::vector<PartyId> waiting = t.parties.Waiting(t.world.clock.now);
  int in_first_half = 0;
  for (int i = 0; i < 200; ++i) {
    const std::vector<PartyId> chosen =
        t.parties.Select(waiting, 39, {.round = 2, .experiment_seed = {}});
    for (size_t place = 0; place < 20; ++place) in_first_half += t.bad.contains(chosen[place]);
  }
  EXPECT_NEAR(in_first_half, 200 * 4 * 20 / 39, 90);
}

// --- in rounds ---

std::vector<uint64_t> InvitedOf(Players& players) {
  std::vector<uint64_t> invited;
  for (auto& player : players) {
    if (player->Take<wire::Invitation>()) invited.push_back(player->serial);
  }
  return invited;
}

void EndRound(World& world, Players& players) {
  world.Settle();
  for (auto& player : players) {
    const auto over = player->Take<wire::RoundOver>();
    if (over) player->done = player->sequence;
    if (!player->parked()) player->Ask();
  }
  world.Settle();
}

// Signs another answer to the question of the player, of other keys.
Bytes OtherAnswer(Player& player, const wire::Question& question) {
  Player twin(*player.world, player.serial);
  twin.session = player.session;
  twin.Join(player.joined, UpdateOf(0), 256);
  const Result<Bytes> answer = twin.contributor->Answer(twin.Body(question));
  EXPECT_THAT(answer, IsOk());
  return *answer;
}

TEST(Equivocation, IsProvenKeptAndEndsInNoMoreInvitations) {
  World world(SecAggTask());
  world.Start();
  Players players = CheckedIn(world, 5);
  ReadyAll(players);
  Player& liar = *players[2];
  const auto question = liar.Take<wire::Question>();
  ASSERT_TRUE(question.has_value());
  const Bytes body = liar.Body(*question);
  const Bytes other = OtherAnswer(liar, *question);
  const Result<Bytes> answer = liar.contributor->Answer(body);
  ASSERT_THAT(answer, IsOk());
  ASSERT_THAT(liar.Answer(*answer), IsOk());
  EXPECT_THAT(liar.Answer(*answer), IsOk());  // repeated: nobody's fault
  EXPECT_THAT(liar.Answer(other), HasCode(Code::kAlreadyExists));
  for (size_t i = 0; i < 5; ++i) {
    if (i != 2) players[i]->Contribute();
  }
  for (size_t step = 1; step < 5; ++step) {
    for (auto& player : players) player->Contribute();
  }
  world.Settle();
  EXPECT_EQ(world.store.Round(1).contributors, 5U);

  // Five are waiting, of which four are enough, and one is passed over.
  EndRound(world, players);
  world.Advance(world.task.deadlines.check_in);
  EXPECT_THAT(InvitedOf(players), Not(Contains(liar.serial)));
  EXPECT_EQ(world.store.Round(2).invited, 4U);

  world.Start();
  const auto status =
      world.Call<wire::StatusReply>(wire::kGetStatus, wire::StatusRequest{.round_count = 1});
  ASSERT_THAT(status, IsOk());
  ASSERT_THAT(status->evidence, SizeIs(1));
  const Evidence& evidence = status->evidence[0];
  EXPECT_EQ(evidence.round, 1U);
  EXPECT_EQ(evidence.cohort, 1U);
  EXPECT_EQ(evidence.identity, crypto::Ed25519Public(liar.seed.Reveal()));
  EXPECT_NE(evidence.first.message, evidence.second.message);
  for (const Evidence::Statement* said : {&evidence.first, &evidence.second}) {
    EXPECT_TRUE(crypto::Ed25519Verify(evidence.identity, said->message, said->signature));
  }
}

TEST(Equivocation, IsNotWhatIsSaidInAnotherStepOrUnderAnotherSignature) {
  World world(SecAggTask());
  world.Start();
  Players players = CheckedIn(world, 5);
  ReadyAll(players);
  const auto question = players[0]->Take<wire::Question>();
  ASSERT_TRUE(question.has_value());
  const Bytes other = OtherAnswer(*players[0], *question);
  const Result<Bytes> answer = players[0]->contributor->Answer(players[0]->Body(*question));
  ASSERT_THAT(players[0]->Answer(*answer), IsOk());
  Bytes unsigned_one = other;
  unsigned_one.back() ^= 1;
  EXPECT_THAT(players[0]->Answer(unsigned_one), HasCode(Code::kAlreadyExists));
  const uint64_t keys_step = players[0]->sequence;
  for (size_t i = 1; i < 5; ++i) players[i]->Contribute();
  // The step has closed.
  ASSERT_TRUE(players[0]->Take<wire::Question>().has_value());
  wire::UploadRequest late = players[0]->UploadOf(other);
  late.sequence = keys_step;
  EXPECT_THAT(players[0]->Send(late), Not(IsOk()));
  world.Advance(Time{1'000'000});
  EXPECT_THAT(world.store.content.evidence, IsEmpty());
}

// One of eight opens wrong shares, which the others make up for. Whether it is in the selection of
// the next round, for which there is one client more than places.
void TryAWrongShare(size_t liar, bool* selected_next) {
  TaskSpec task = SecAggTask();
  task.cohort = {.minimum = 6, .target = 8, .maximum = 8};
  task.adapt = false;  // no waiting for more than the six that come in the end
  World world(task);
  world.Start();
  Players players = CheckedIn(world, 8);
  ReadyAll(players);
  for (size_t step = 0; step < 4; ++step) {
    for (auto& player : players) player->Contribute();
  }
  Player& wrong = *players[liar];
  Result<Bytes> shares = wrong.Think();
  ASSERT_THAT(shares, IsOk());
  for (size_t at = 4 + 5; at + 40 <= shares->size(); at += 45) (*shares)[at] ^= 1;
  ASSERT_THAT(wrong.Answer(*shares), IsOk());
  for (size_t i = 0; i < 8; ++i) {
    if (i != liar) players[i]->Contribute();
  }
  world.Settle();
  ASSERT_EQ(world.store.Round(1).state, RoundState::kCommitted) << world.store.Round(1).reason;
  EXPECT_THAT(world.store.content.evidence, IsEmpty());

  for (auto& player : players) player->CheckIn();
  players.push_back(std::make_unique<Player>(world, 9));
  players.back()->CheckIn();
  for (auto& player : players) player->Ask();
  world.Settle();
  const std::vector<uint64_t> invited = InvitedOf(players);
  EXPECT_THAT(invited, SizeIs(8));
  *selected_next = std::find(invited.begin(), invited.end(), wrong.serial) != invited.end();

  // It takes part where there is nobody else.
  for (auto& player : players) player->CheckIn();
  world.Advance(Time{200'000});
  for (size_t i = 0, asked = 0; i < 8 && asked < 6; ++i) {
    if (liar >= 6 && i < 2) continue;
    players[i]->CheckIn();
    players[i]->Ask();
    ++asked;
  }
  world.Advance(Time{60'000});
  EXPECT_THAT(InvitedOf(players), Contains(wrong.serial));
}

// A share is found wrong when its secret is opened with it: the first t of each owner's are used,
// in the order of the roster, and the others only when those do not fit.
TEST(WrongShare, PutsItsSenderLastInLaterSelections) {
  const TaskSpec task = SecAggTask();
  const Result<aggregation::GraphParams> graph =
      aggregation::CompleteGraph(8, task.secagg.gamma_ppm, task.secagg.delta_ppm);
  ASSERT_THAT(graph, IsOk());
  uint32_t left_out = 0;
  for (size_t liar = 0; liar < 8; ++liar) {
    bool selected = true;
    ASSERT_NO_FATAL_FAILURE(TryAWrongShare(liar, &selected));
    left_out += selected ? 0 : 1;
  }
  EXPECT_GE(left_out, graph->t);
}

}  // namespace
}  // namespace chorus::coordinator
