// Sessions, calls, and what a task must be.
#include <cmath>
#include <span>
#include <string>
#include <vector>

#include "base/limits.h"
#include "coordinator/party.h"
#include "coordinator_world.h"

namespace chorus::coordinator {
namespace {

using testing::ElementsAre;
using testing::SizeIs;

// --- checking in ---

TEST(CheckIn, RefusesWhatDoesNotProveAnIdentity) {
  World world;
  world.Start();
  Player player(world, 1);
  wire::CheckInRequest request = player.SignedCheckIn(player.Challenge());

  wire::CheckInRequest wrong = request;
  wrong.signature[10] ^= 1;
  EXPECT_THAT(player.TryCheckIn(wrong), HasCodeAndText(Code::kUnauthenticated, "not signed"));
  wrong = request;
  wrong.version = 2;
  EXPECT_THAT(player.TryCheckIn(wrong), HasCode(Code::kUnimplemented));
  wrong = request;
  wrong.challenge[31] ^= 1;
  EXPECT_THAT(player.TryCheckIn(player.SignedCheckIn(wrong.challenge)),
              HasCodeAndText(Code::kUnauthenticated, "not given by this coordinator"));
  wrong = request;
  wrong.evidence[20] ^= 1;
  EXPECT_THAT(player.TryCheckIn(wrong), HasCode(Code::kUnauthenticated));
  Player foreigner(world, 2, "another issuer");
  EXPECT_THAT(foreigner.TryCheckIn(foreigner.SignedCheckIn(foreigner.Challenge())),
              HasCode(Code::kUnauthenticated));
  Player thief(world, 3);  // shows player 1's certificate with a key of its own
  thief.evidence = player.evidence;
  EXPECT_THAT(thief.TryCheckIn(thief.SignedCheckIn(thief.Challenge())),
              HasCode(Code::kUnauthenticated));
  EXPECT_THAT(player.TryCheckIn(request), IsOk());
}

TEST(CheckIn, AcceptsAChallengeOnceAndInTime) {
  World world;
  world.Start();
  Player player(world, 1);
  const wire::CheckInRequest request = player.SignedCheckIn(player.Challenge());
  const wire::CheckInRequest older = player.SignedCheckIn(player.Challenge());
  const wire::CheckInRequest newer = player.SignedCheckIn(player.Challenge());
  ASSERT_THAT(player.TryCheckIn(request), IsOk());
  EXPECT_THAT(player.TryCheckIn(request), HasCodeAndText(Code::kUnauthenticated, "used before"));
  ASSERT_THAT(player.TryCheckIn(newer), IsOk());
  EXPECT_THAT(player.TryCheckIn(older), HasCodeAndText(Code::kUnauthenticated, "used before"));

  const wire::CheckInRequest late = player.SignedCheckIn(player.Challenge());
  world.Advance(limits::kChallengeLife - Time{1});
  const wire::CheckInRequest fresh = player.SignedCheckIn(player.Challenge());
  world.Advance(Time{1});
  EXPECT_THAT(player.TryCheckIn(late), HasCodeAndText(Code::kUnauthenticated, "too old"));
  EXPECT_THAT(player.TryCheckIn(fresh), IsOk());
}

// The session that used a challenge is forgotten no earlier than the challenge itself.
TEST(CheckIn, RefusesAReplayAfterTheSessionWasForgotten) {
  World world;
  world.Start();
  Player player(world, 1);
  const wire::CheckInRequest request = player.SignedCheckIn(player.Challenge());
  ASSERT_THAT(player.TryCheckIn(request), IsOk());
  for (int i = 0; i < 200; ++i) {
    world.Advance(Time{1'000});
    EXPECT_THAT(player.TryCheckIn(request), HasCode(Code::kUnauthenticated)) << i;
  }
}

TEST(CheckIn, ReplacesTheOlderSessionOfTheSameIdentity) {
  World world;
  world.Start();
  Player player(world, 1);
  player.CheckIn();
  player.Ask();
  EXPECT_TRUE(player.parked());
  Player again(world, 1);
  again.CheckIn();
  EXPECT_THAT(player.Given(), HasCode(Code::kUnauthenticated));
  player.Ask();
  EXPECT_THAT(player.Given(), HasCode(Code::kUnauthenticated));
  again.Ask();
  EXPECT_TRUE(again.parked());
}

TEST(CheckIn, HoldsNoMoreSessionsThanAllowed) {
  World world;
  Parties parties({.coordinator = world.public_key,
                   .verifier = world.verifier.get(),
                   .rng = world.rng.get(),
                   .sessions_max = 2,
                   .uploads_in_flight_bytes_max = 0});
  std::vector<Status> outcomes;
  for (const uint64_t serial : {1, 2, 3, 2}) {
    const Player player(world, serial);
    const Digest challenge = parties.NewChallenge(world.clock.now);
    outcomes.push_back(parties.CheckIn(player.SignedCheckIn(challenge), world.clock.now).status());
  }
  EXPECT_THAT(outcomes, ElementsAre(IsOk(), IsOk(), HasCode(Code::kResourceExhausted), IsOk()));
  EXPECT_EQ(parties.size(), 2U);
}

TEST(CheckIn, FloodOfChallengesCostsNoMemoryAndHurtsNobody) {
  World world;
  world.Start();
  Player player(world, 1);
  const wire::CheckInRequest request = player.SignedCheckIn(player.Challenge());
  for (int i = 0; i < 20'000; ++i) player.Challenge();
  EXPECT_THAT(player.TryCheckIn(request), IsOk());
}

TEST(Session, IsForgottenAfterTwoMinutesOfSilence) {
  World world;
  world.Start();
  Player player(world, 1);
  player.CheckIn();
  world.Advance(limits::kSessionIdleMax - Time{1});
  player.Ask();
  EXPECT_TRUE(player.parked());
  world.Advance(limits::kSessionIdleMax + limits::kPollParked + Time{5'000});
  player.Ask();
  EXPECT_THAT(player.Given(), HasCode(Code::kUnauthenticated));
}

TEST(Session, IsUnknownWithoutItsToken) {
  World world;
  world.Start();
  Player player(world, 1);
  player.CheckIn();
  for (size_t i = 0; i < player.session.size(); ++i) {
    Player guess(world, 2);
    guess.session = player.session;
    guess.session[i] ^= 1;
    guess.Ask();
    EXPECT_THAT(guess.Given(), HasCode(Code::kUnauthenticated));
    EXPECT_THAT(guess.Answer({}), HasCode(Code::kUnauthenticated));
    EXPECT_THAT(guess.Download({}, 0), HasCode(Code::kUnauthenticated));
  }
}

// --- calls ---

TEST(Core, AnswersAnyBytesWithAnError) {
  World world;
  world.Start();
  for (const std::string_view method : {wire::kChallenge, wire::kCheckIn, wire::kNext,
                                        wire::kDownload, wire::kUpload, wire::kGetStatus}) {
    for (int i = 0; i < 300; ++i) {
      Bytes request(UniformBelow(*world.rng, 200));
      world.rng->Fill(request);
      int replies = 0;
      world.core->Handle(method, request, [&](const Result<Bytes>&) { ++replies; });
      EXPECT_EQ(replies, 1) << method;
    }
    Status refused;
    world.core->Handle(method, Bytes(limits::kMessageBytesMax + 1),
                       [&](const Result<Bytes>& reply) { refused = reply.status(); });
    EXPECT_THAT(refused, HasCode(Code::kResourceExhausted));
  }
  Status unknown;
  world.core->Handle("Shutdown", {}, [&](const Result<Bytes>& reply) { unknown = reply.status(); });
  EXPECT_THAT(unknown, HasCode(Code::kUnimplemented));
}

TEST(Next, IsParkedAndAnsweredWaitAfterAWhile) {
  World world;
  world.Start();
  Player player(world, 1);
  player.CheckIn();
  player.Ask();
  world.Advance(limits::kPollParked - Time{1});
  EXPECT_TRUE(player.parked());
  world.Advance(Time{1});
  const auto given = player.Given();
  ASSERT_THAT(given, IsOk());
  EXPECT_EQ(given->sequence, 0U);
  const auto* wait = std::get_if<wire::Wait>(&given->what);
  ASSERT_NE(wait, nullptr);
  EXPECT_FALSE(wait->complete);
}

TEST(Next, EndsTheOneBeforeOfTheSameSession) {
  World world;
  world.Start();
  Player player(world, 1);
  player.CheckIn();
  player.Ask();
  const auto first = player.reply;
  player.Ask();
  ASSERT_TRUE(first->has_value());
  EXPECT_THAT(**first, HasCode(Code::kAborted));
  EXPECT_TRUE(player.parked());
}

TEST(Next, GivesTheSameAgainUntilItIsDealtWith) {
  World world;
  world.Start();
  Players players = CheckedIn(world, 5);
  Player& player = *players[0];
  ASSERT_TRUE(player.Take<wire::Invitation>().has_value());
  const uint64_t sequence = player.sequence;
  ASSERT_TRUE(player.Take<wire::Invitation>().has_value());
  EXPECT_EQ(player.sequence, sequence);
  player.done = sequence;
  player.Ask();
  EXPECT_TRUE(player.parked());
  player.done = sequence + 1;
  player.Ask();
  EXPECT_THAT(player.Given(), HasCodeAndText(Code::kInvalidArgument, "done"));
}

TEST(Next, IsAnsweredUnavailableWhenTheCoreGoes) {
  World world;
  world.Start();
  Player player(world, 1);
  player.CheckIn();
  player.Ask();
  world.core.reset();
  EXPECT_THAT(player.Given(), HasCode(Code::kUnavailable));
}

TEST(Invitation, IsSignedAndNamesTheModelToDownload) {
  World world;
  world.Start();
  Players players = CheckedIn(world, 6);
  std::optional<wire::Invitation> invitation;
  Player* outsider = nullptr;
  Player* insider = nullptr;
  for (auto& player : players) {
    if (player->parked()) {
      outsider = player.get();
    } else {
      invitation = player->Take<wire::Invitation>();
      insider = player.get();
    }
  }
  ASSERT_TRUE(invitation.has_value());
  ASSERT_NE(outsider, nullptr);
  EXPECT_EQ(invitation->round, 1U);
  EXPECT_TRUE(crypto::Ed25519Verify(world.public_key,
                                    crypto::LabeledHash("CHORUS1/task", {invitation->task}),
                                    invitation->task_signature));
  EXPECT_THAT(wire::DecodeTask(invitation->task), IsOk());
  const auto model = insider->Download(invitation->model, 0);
  ASSERT_THAT(model, IsOk());
  EXPECT_EQ(model->data.size(), 4 * sizeof(float));
  EXPECT_EQ(model->total_bytes, invitation->model_bytes);
  EXPECT_EQ(crypto::Sha256(model->data), invitation->model);
  EXPECT_THAT(insider->Download(invitation->model, 1), IsOk());
  const auto piece = insider->Download(invitation->model, 4, /*bytes_max=*/5);
  ASSERT_THAT(piece, IsOk());
  EXPECT_EQ(piece->data, Bytes(model->data.begin() + 4, model->data.begin() + 9));
  EXPECT_THAT(insider->Download(invitation->model, 16), HasCode(Code::kOutOfRange));
  EXPECT_THAT(insider->Download(invitation->model, limits::kTransferBytesMax),
              HasCode(Code::kOutOfRange));
  EXPECT_THAT(insider->Download(Digest{}, 0), HasCode(Code::kNotFound));
  EXPECT_THAT(outsider->Download(invitation->model, 0), HasCode(Code::kNotFound));
}

TEST(Status, TellsTheTaskAndItsRounds) {
  World world;
  world.Start();
  Players players = CheckedIn(world, 6);
  const auto during =
      world.Call<wire::StatusReply>(wire::kGetStatus, wire::StatusRequest{1, 1'000});
  ASSERT_THAT(during, IsOk());
  EXPECT_EQ(during->task, "test-task");
  EXPECT_EQ(during->rounds_wanted, 3U);
  EXPECT_EQ(during->rounds_begun, 1U);
  EXPECT_EQ(during->rounds_committed, 0U);
  EXPECT_EQ(during->clients, 6U);
  EXPECT_EQ(during->step, "training");
  EXPECT_THAT(during->rounds, SizeIs(1));
  const auto none = world.Call<wire::StatusReply>(wire::kGetStatus, wire::StatusRequest{2, 10});
  ASSERT_THAT(none, IsOk());
  EXPECT_THAT(none->rounds, SizeIs(0));
}

TEST(Events, AreBounded) {
  World world;
  world.task.adapt = false;  // else more would be waited for than the three who leave
  world.task.cohort.target = 3;
  world.Start();
  Players players = CheckedIn(world, 3);
  for (int i = 0; i < 2'000; ++i) {
    for (auto& player : players) {
      if (!player->parked()) player->Ask();
      while (player->parked()) {
        world.clock.now = world.core->NextTick();
        world.core->Tick();
      }
      const Result<wire::NextReply> given = player->Given();
      ASSERT_THAT(given, IsOk());
      if (!std::holds_alternative<wire::Invitation>(given->what)) continue;
      player->sequence = given->sequence;
      ASSERT_THAT(player->Abort(Code::kPermissionDenied), IsOk());
    }
  }
  EXPECT_EQ(world.core->TakeEvents().size(), limits::kEventsMax);
}

// --- questions ---

TEST(Question, IsDownloadedBeyondAChunkByItsPartyOnly) {
  World world;
  Bytes body(limits::kChunkBytesMax * 2 + 7);
  world.rng->Fill(body);
  Parties parties({.coordinator = world.public_key,
                   .verifier = world.verifier.get(),
                   .rng = world.rng.get(),
                   .question = [&](PartyId) { return body; },
                   .sessions_max = 2,
                   .uploads_in_flight_bytes_max = 0});
  const Player player(world, 1);
  const auto admission =
      parties.CheckIn(player.SignedCheckIn(parties.NewChallenge(world.clock.now)), world.clock.now);
  ASSERT_THAT(admission, IsOk());
  Party* party = parties.Authenticate(admission->session, world.clock.now);
  parties.Ask(*party, Question{.to = party->id, .answer_bytes_max = 0});
  Bytes got;
  parties.Next(*party, 0, world.clock.now, [&](Result<Bytes> reply) {
    ASSERT_THAT(reply, IsOk());
    ASSERT_LE(reply->size(), limits::kMessageBytesMax);
    const auto next = wire::Decode<wire::NextReply>(*reply);
    ASSERT_THAT(next, IsOk());
    const auto& question = std::get<wire::Question>(next->what);
    EXPECT_EQ(question.total_bytes, body.size());
    EXPECT_EQ(question.sha256, crypto::Sha256(body));
    got = question.data;
  });
  while (got.size() < body.size()) {
    const auto chunk = parties.Chunk(*party, party->question, {.offset = got.size()});
    ASSERT_THAT(chunk, IsOk());
    ASSERT_LE(wire::Encode(*chunk).size(), limits::kMessageBytesMax);
    got.insert(got.end(), chunk->data.begin(), chunk->data.end());
  }
  EXPECT_EQ(got, body);
}

// --- what a task must be ---

TEST(ValidateTask, AcceptsWhatCanWork) {
  EXPECT_THAT(ValidateTask(PlainTask()), IsOk());
  EXPECT_THAT(ValidateTask(SecAggTask()), IsOk());
}

struct SpoiltTask {
  std::string_view field;
  void (*spoil)(TaskSpec&);
};

// Each is refused by its field's name, and leaves nothing in the store.
void ExpectRefused(std::span<const SpoiltTask> cases) {
  for (const SpoiltTask& spoilt : cases) {
    TaskSpec task = SecAggTask();
    spoilt.spoil(task);
    EXPECT_THAT(ValidateTask(task),
                HasCodeAndText(Code::kInvalidArgument, std::string(spoilt.field)))
        << spoilt.field;
    World world(task);
    EXPECT_THAT(world.Create(), HasCode(Code::kInvalidArgument));
    EXPECT_TRUE(world.store.content.tasks.empty());
  }
}

TEST(ValidateTask, NamesTheFieldThatCannotWork) {
  const SpoiltTask cases[] = {
      {"name", [](TaskSpec& t) { t.name = ""; }},
      {"name", [](TaskSpec& t) { t.name = "With Capitals"; }},
      {"name", [](TaskSpec& t) { t.name = std::string(65, 'a'); }},
      {"model", [](TaskSpec& t) { t.model.layers.clear(); }},
      {"training", [](TaskSpec& t) { t.training.epochs = 0; }},
      {"clip.update_l2_norm_max", [](TaskSpec& t) { t.clip.update_l2_norm_max = 0; }},
      {"clip.update_l2_norm_max", [](TaskSpec& t) { t.clip.update_l2_norm_max = NAN; }},
      {"encoding.bound", [](TaskSpec& t) { t.encoding.bound = 0; }},
      {"encoding.examples_max", [](TaskSpec& t) { t.encoding.examples_max = 0; }},
      {"encoding.examples_max",
       [](TaskSpec& t) { t.encoding.examples_max = t.encoding.bound + 1; }},
      {"protocol", [](TaskSpec& t) { t.protocol = static_cast<Protocol>(7); }},
      {"cohort.minimum", [](TaskSpec& t) { t.cohort.minimum = 0; }},
      {"cohort.target", [](TaskSpec& t) { t.cohort.target = t.cohort.minimum - 1; }},
      {"cohort.maximum", [](TaskSpec& t) { t.cohort.maximum = t.cohort.target - 1; }},
      {"cohort.maximum", [](TaskSpec& t) { t.cohort.maximum = limits::kCohortMax + 1; }},
      {"cohort.minimum", [](TaskSpec& t) { t.cohort.minimum = 2; }},
      {"secagg.graph", [](TaskSpec& t) { t.cohort.maximum = limits::kCompleteCohortMax + 1; }},
      {"secagg.graph", [](TaskSpec& t) { t.secagg.graph = static_cast<SharingGraph>(3); }},
      {"cohort.minimum", [](TaskSpec& t) { t.secagg.graph = SharingGraph::kHarary; }},
      {"secagg.gamma_ppm", [](TaskSpec& t) { t.secagg.gamma_ppm = 1'000'000; }},
      {"secagg.delta_ppm", [](TaskSpec& t) { t.secagg.delta_ppm = UINT32_MAX; }},
      {"secagg.honest_min", [](TaskSpec& t) { t.secagg.honest_min = 100; }},
      {"deadlines.check_in", [](TaskSpec& t) { t.deadlines.check_in = Time{0}; }},
      {"deadlines.train", [](TaskSpec& t) { t.deadlines.train = Time{-1}; }},
      {"deadlines.choose", [](TaskSpec& t) { t.deadlines.choose = Time{0}; }},
      {"deadlines.share", [](TaskSpec& t) { t.deadlines.share = Time{0}; }},
      {"deadlines.upload", [](TaskSpec& t) { t.deadlines.upload = Time::max(); }},
      {"deadlines.consistency", [](TaskSpec& t) { t.deadlines.consistency = Time{0}; }},
      {"deadlines.unmask", [](TaskSpec& t) { t.deadlines.unmask = Time{0}; }},
      {"deadlines.hedge", [](TaskSpec& t) { t.deadlines.hedge = Time{-1}; }},
      {"rounds", [](TaskSpec& t) { t.rounds = 0; }},
      {"rounds", [](TaskSpec& t) { t.rounds = limits::kRoundsMax + 1; }},
      {"server_learning_rate", [](TaskSpec& t) { t.server_learning_rate = 0; }},
      {"server_learning_rate", [](TaskSpec& t) { t.server_learning_rate = INFINITY; }},
  };
  ExpectRefused(cases);
}

TEST(ValidateTask, NamesWhatNoSharingGraphServes) {
  const SpoiltTask cases[] = {
      {"cohort: no roster",
       [](TaskSpec& t) {
         t.secagg.graph = SharingGraph::kSelfSelected;
         t.cohort = {.minimum = 193, .target = 200, .maximum = 223};
       }},
      {"gamma_ppm must be",
       [](TaskSpec& t) {
         t.secagg.graph = SharingGraph::kSelfSelected;
         t.secagg.gamma_ppm = 60'000;
         t.cohort = {.minimum = 160, .target = 200, .maximum = 1'024};
       }},
      {"secagg.honest_min",
       [](TaskSpec& t) {
         t.secagg = {.graph = SharingGraph::kSelfSelected,
                     .gamma_ppm = 50'000,
                     .delta_ppm = 50'000,
                     .honest_min = 40};  // 160 clients guarantee 39
         t.cohort = {.minimum = 160, .target = 200, .maximum = 1'024};
       }},
  };
  ExpectRefused(cases);
}

TEST(Core, RefusesWeightsThatDoNotFit) {
  World world;
  world.initial = Weights{1, 2, 3};
  EXPECT_THAT(world.Create(), HasCodeAndText(Code::kInvalidArgument, "initial_weights"));
  world.initial = Weights{1, 2, 3, NAN};
  EXPECT_THAT(world.Create(), HasCodeAndText(Code::kInvalidArgument, "initial_weights"));
  world.initial = Weights{1, 2, 3, 4};
  world.signing_seed = SecretBytes(31);
  EXPECT_THAT(world.Create(), HasCodeAndText(Code::kInvalidArgument, "signing_seed"));
}

}  // namespace
}  // namespace chorus::coordinator
