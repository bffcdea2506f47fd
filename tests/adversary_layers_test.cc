// Attacks that the layers around the protocol meet, numbered as in the specification [3.15]: the
// client's session and ledger, and the coordinator's core, each as it is, in memory.
#include "adversary.h"
#include "client_fakes.h"
#include "coordinator_world.h"

namespace chorus {
namespace {

using aggregation::kComplete;
using coordinator::EventKind;
using coordinator::MeanAdded;
using coordinator::Player;
using coordinator::Players;
using testing::SizeIs;

// Three players of one game, each with a ledger of its own, and their coordinator.
class ThreePlayers {
 public:
  ThreePlayers() {
    for (uint8_t i = 0; i < 3; ++i) {
      worlds.push_back(std::make_unique<client::World>(uint8_t(100 + i)));
    }
  }
  // Invites all to the round and leads them through its first rows.
  void Run(uint64_t round, size_t rows) {
    for (auto& world : worlds) ASSERT_TRUE(world->RunUntilAnswered(world->Invite(round, task)));
    auto aggregator =
        *aggregation::NewAggregator({.params = client::ParamsFor(task, round, worlds[0]->weights),
                                     .signing_seed = worlds[0]->server.signing_seed.Reveal(),
                                     .verifier = worlds[0]->verifier.get(),
                                     .parties = {0, 1, 2}});
    for (size_t row = 0; row < rows; ++row) {
      const std::vector<Question> asked = *aggregator->Ask();
      for (const Question& question : asked) {
        const client::FakeCoordinator::Upload upload =
            Ask(question.to, *aggregator->Body(question.to));
        EXPECT_EQ(upload.abort_code, Code::kOk);
        EXPECT_THAT(aggregator->Hear(question.to, upload.data), IsOk());
      }
      ASSERT_THAT(aggregator->Close(), IsOk());
    }
    if (aggregator->done()) return;
    const std::vector<Question> asked = *aggregator->Ask();
    for (const Question& question : asked) {
      questions[question.to] = *aggregator->Body(question.to);
    }
  }
  client::FakeCoordinator::Upload Ask(uint64_t player, const Bytes& body) {
    client::World& world = *worlds[player];
    const uint64_t sequence = world.server.Ask(body);
    EXPECT_TRUE(world.RunUntilAnswered(sequence));
    return world.server.uploads[sequence];
  }
  void EndRound(uint64_t round) {
    for (auto& world : worlds) world->server.Push(client::Over(round, /*counted=*/false));
  }
  // What the player answers to one more invitation.
  client::FakeCoordinator::Upload InviteAgain(client::World& world, uint64_t round) const {
    const uint64_t sequence = world.Invite(round, task);
    EXPECT_TRUE(world.RunUntilAnswered(sequence));
    return world.server.uploads[sequence];
  }

  TaskSpec task = client::SomeTask(Protocol::kSecAgg);
  std::vector<std::unique_ptr<client::World>> worlds;
  std::map<PartyId, Bytes> questions;  // of the next row
};

bool Contains(const Bytes& text, BytesView part) {
  return std::search(text.begin(), text.end(), part.begin(), part.end()) != text.end();
}

// --- the client's ledger -----------------------------------------------------------------------
// Secure sums do not protect from weights chosen to betray; that they can be told afterwards, does.
TEST(LayerAttack, 16_TrapWeightsAreOnRecord) {
  ThreePlayers three;
  three.Run(1, 3);
  for (auto& world : three.worlds) {
    const Digest model =
        aggregation::ModelHash(learning::CanonicalModel(three.task.model), world->weights);
    EXPECT_TRUE(Contains(client::ReadFile(world->folder.path() + "/ledger"), model));
  }
  coordinator::World world(coordinator::SecAggTask());
  world.Start();
  const Digest model = crypto::Sha256(coordinator::BytesOf(world.core->weights()));
  Players players = coordinator::CheckedIn(world, 5);
  coordinator::RunRound(players);
  world.Settle();
  EXPECT_EQ(world.store.Round(1).model, model);
}

TEST(LayerAttack, 17_SecondSessionAfterTheUploadIsRefused) {
  ThreePlayers three;
  three.Run(1, 3);  // the masked inputs are in
  three.EndRound(1);
  for (auto& world : three.worlds) {
    const auto upload = three.InviteAgain(*world, 1);
    EXPECT_EQ(upload.abort_code, Code::kPermissionDenied);
    EXPECT_TRUE(upload.data.empty());
  }
  // An abort before the upload costs nothing but an attempt.
  ThreePlayers early;
  early.Run(1, 2);
  early.EndRound(1);
  early.Run(1, 5);
}

TEST(LayerAttack, 18_AttemptsBeforeTheUploadAreCapped) {
  ThreePlayers three;
  for (uint32_t attempt = 0; attempt < limits::kAttemptsPerRoundMax; ++attempt) {
    three.Run(1, 1);
    three.EndRound(1);
  }
  client::World& world = *three.worlds[0];
  // Told at the invitation, before anything is trained in vain.
  const auto fifth = three.InviteAgain(world, 1);
  EXPECT_EQ(fifth.abort_code, Code::kPermissionDenied);
  EXPECT_TRUE(fifth.data.empty());
  const TaskId task_id = client::ParamsFor(three.task, 1, world.weights).task_id;
  // Other rounds, until the day is used up.
  const auto& ledger = world.ledger;
  const int64_t day = world.clock.UnixSeconds() / 86'400;
  for (uint32_t i = limits::kAttemptsPerRoundMax; i < limits::kAttemptsPerDayMax; ++i) {
    EXPECT_THAT(ledger->NoteAttempt(task_id, 100 + i, day), IsOk());
  }
  EXPECT_THAT(ledger->NoteAttempt(task_id, 99, day), HasCode(Code::kPermissionDenied));
}

TEST(LayerAttack, 42_GameRestartedInTheMiddleCannotGoOnNorUploadAgain) {
  ThreePlayers three;
  three.Run(1, 3);
  client::World& world = *three.worlds[1];
  world.ledger.reset();  // the game dies; its folder stays
  world.ledger = *client::Ledger::Open(world.folder.path());
  world.Renew();
  ASSERT_TRUE(three.questions.contains(1));
  const auto survivors = three.Ask(1, three.questions[1]);
  EXPECT_NE(survivors.abort_code, Code::kOk) << "its keys died with it";
  EXPECT_TRUE(survivors.data.empty());
  world.server.Push(client::Over(1, /*counted=*/false));
  const auto again = three.InviteAgain(world, 1);
  EXPECT_EQ(again.abort_code, Code::kPermissionDenied);
  EXPECT_TRUE(again.data.empty());
}

// --- the transport -----------------------------------------------------------------------------
TEST(LayerAttack, 24_AnswerLongerThanTheStepAllowsIsRefusedUnreceived) {
  coordinator::World world(coordinator::SecAggTask());
  world.Start();
  Players players = coordinator::CheckedIn(world, 5);
  coordinator::ReadyAll(players);
  Player& liar = *players[0];
  const Result<Bytes> honest = liar.Think();
  ASSERT_THAT(honest, IsOk());
  for (const uint64_t total : {uint64_t{1} << 16U, limits::kTransferBytesMax, UINT64_MAX}) {
    wire::UploadRequest request = liar.UploadOf(*honest);
    request.total_bytes = total;
    EXPECT_FALSE(liar.Send(request).ok()) << total;
  }
  ASSERT_THAT(liar.Answer(*honest), IsOk());  // nothing was taken
  for (size_t i = 1; i < 5; ++i) players[i]->Contribute();
  for (size_t row = 1; row <= kComplete.unmask; ++row) {
    for (auto& player : players) player->Contribute();
  }
  world.Settle();
  EXPECT_EQ(world.core->weights(), MeanAdded({1, 2, 3, 4}, {0, 1, 2, 3, 4}));
}

// The upload stops half way, or comes a byte at a time until the step is over: either way it is as
// if it had never begun.
TEST(LayerAttack, 36_UploadCutMidStreamIsAsIfItHadNotBegun) {
  for (const bool slow : {false, true}) {
    SCOPED_TRACE(slow ? "slow" : "cut");
    coordinator::World world(coordinator::SecAggTask());
    world.Start();
    Players players = coordinator::CheckedIn(world, 5);
    coordinator::ReadyAll(players);
    for (size_t row = 0; row < kComplete.input; ++row) {
      for (auto& player : players) player->Contribute();
    }
    Player& slow_one = *players[0];
    const Result<Bytes> masked = slow_one.Think();
    ASSERT_THAT(masked, IsOk());
    wire::UploadRequest whole = slow_one.UploadOf(*masked);
    wire::UploadRequest part = whole;
    for (size_t i = 1; i < 5; ++i) players[i]->Contribute();
    const size_t size = slow ? 1 : masked->size() / 2;
    const int parts = slow ? 10 : 1;
    const Time deadline = world.task.deadlines.upload;
    const Time pause = deadline / (parts + 1);
    for (int i = 0; i < parts; ++i) {
      part.offset = static_cast<size_t>(i) * size;
      const auto first = masked->begin() + static_cast<std::ptrdiff_t>(part.offset);
      part.data = Bytes(first, first + static_cast<std::ptrdiff_t>(size));
      const auto reply = slow_one.Send(part);
      ASSERT_THAT(reply, IsOk());
      EXPECT_EQ(reply->received, part.offset + size);
      world.Advance(pause);
    }
    world.Advance(deadline - pause * parts);
    EXPECT_FALSE(slow_one.Send(whole).ok()) << "too late";
    for (size_t row = kComplete.survivors; row <= kComplete.unmask; ++row) {
      for (size_t i = 1; i < 5; ++i) players[i]->Contribute();
    }
    world.Settle();
    ASSERT_THAT(world.Of(EventKind::kRoundEnded), SizeIs(1));
    EXPECT_EQ(world.store.Round(1).contributors, 4U);
    EXPECT_EQ(world.core->weights(), MeanAdded({1, 2, 3, 4}, {1, 2, 3, 4}));
  }
}

}  // namespace
}  // namespace chorus
