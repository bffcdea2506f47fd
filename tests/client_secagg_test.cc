// A client's session with SecAgg: pre-keys go with the word that it is ready, and evidence against
// a coordinator with two rosters goes to disk.
#include "aggregation/secagg.h"
#include "base/codec.h"
#include "client/evidence.h"
#include "client/round.h"
#include "client_fakes.h"

namespace chorus::client {
namespace {

using Kind = ClientEvent::Kind;

constexpr size_t kLedgerHeaderBytes = 16;
constexpr size_t kLedgerRecordBytes = 81;
constexpr size_t kEvidenceHeaderBytes = 16;
constexpr size_t kEvidenceRecordBytes = 1 + 8 + 32 + 16 + 8 + 32 + 2 * (4 + 32 + 64);
constexpr int64_t kHour = 3'600;

// Three devices that were invited, trained and said that they are ready.
class ThreeDevices {
 public:
  explicit ThreeDevices(TaskSpec spec = SomeTask(Protocol::kSecAgg)) : task(std::move(spec)) {
    for (uint8_t i = 0; i < 3; ++i) {
      worlds.push_back(std::make_unique<World>(static_cast<uint8_t>(100 + i)));
      const uint64_t invitation = worlds[i]->Invite(1, task);
      EXPECT_TRUE(worlds[i]->RunUntilAnswered(invitation));
      ready.push_back(worlds[i]->server.uploads[invitation].data);
    }
    params = ParamsFor(task, 1, worlds[0]->weights);
  }
  // The coordinator's side of their session, with the pre-keys that they sent.
  std::unique_ptr<Aggregator> NewAggregator() const {
    aggregation::AggregatorOptions options;
    options.params = params;
    options.signing_seed = worlds[0]->server.signing_seed.Reveal();
    options.verifier = worlds[0]->verifier.get();
    options.parties = {0, 1, 2};
    for (PartyId i = 0; i < 3; ++i) options.prekeys.push_back({i, ready[i]});
    options.unix_now = worlds[0]->clock.UnixSeconds();
    return *aggregation::NewAggregator(std::move(options));
  }
  FakeCoordinator::Upload Ask(PartyId device, const Bytes& body) {
    World& world = *worlds[device];
    const uint64_t sequence = world.server.Ask(body);
    EXPECT_TRUE(world.RunUntilAnswered(sequence));
    return world.server.uploads[sequence];
  }
  // Rows from the one that `aggregator` is in until it is done, or until `rows` were played.
  void Play(Aggregator& aggregator, size_t rows = SIZE_MAX) {
    for (size_t row = 0; row < rows && !aggregator.done(); ++row) {
      const auto questions = aggregator.Ask();
      ASSERT_THAT(questions, IsOk());
      for (const Question& question : *questions) {
        const FakeCoordinator::Upload answer = Ask(question.to, *aggregator.Body(question.to));
        EXPECT_EQ(answer.abort_code, Code::kOk);
        EXPECT_THAT(aggregator.Hear(question.to, answer.data), IsOk());
      }
      ASSERT_THAT(aggregator.Close(), IsOk());
    }
  }
  // Another roster for the session of `body`, an offer and a roster, signed like that one.
  Bytes OtherRoster(const Bytes& body) const {
    const Digest sid0 = crypto::LabeledHash(
        "CHORUS1/sid0", {BytesView(body).first(aggregation::kSessionParamsBytes)});
    aggregation::Roster roster =
        *aggregation::ReadSignedRoster(BytesView(body).subspan(aggregation::kOfferBytes));
    roster.root[0] ^= 1;
    roster.signature = crypto::Ed25519Sign(worlds[0]->server.signing_seed.Reveal(),
                                           aggregation::RosterMessage(sid0, roster.n, roster.root));
    return aggregation::EncodeRosterOnly(roster);
  }

  TaskSpec task;
  std::vector<std::unique_ptr<World>> worlds;
  std::vector<Bytes> ready;  // what each sent with that word
  aggregation::SessionParams params;
};

// --- pre-keys ------------------------------------------------------------------------------------

TEST(ClientPreKeys, GoWithTheWordReadyAndAreNoAttemptYet) {
  ThreeDevices three;
  for (size_t i = 0; i < 3; ++i) {
    const World& world = *three.worlds[i];
    const auto record = aggregation::DecodePreKeyRecord(three.ready[i]);
    ASSERT_THAT(record, IsOk());
    EXPECT_EQ(record->id, crypto::Ed25519Public(world.options.identity_seed.Reveal()));
    EXPECT_EQ(record->evidence, world.options.certificate);
    EXPECT_EQ(record->not_after, static_cast<uint64_t>(world.clock.UnixSeconds() + 23 * kHour));
    EXPECT_EQ(ReadFile(world.folder.path() + "/ledger").size(), kLedgerHeaderBytes);
  }
  EXPECT_NE(three.ready[0], three.ready[1]);
  PlainWorld plain;
  const uint64_t invitation = plain.Invite(1, plain.task);
  ASSERT_TRUE(plain.RunUntilAnswered(invitation));
  EXPECT_TRUE(plain.server.uploads[invitation].data.empty());
}

TEST(ClientPreKeys, SpareTheKeysStepAndCountAsAnAttemptWhenTheyAreUsed) {
  ThreeDevices three;
  const auto aggregator = three.NewAggregator();
  EXPECT_THAT(aggregator->Ask(), HoldsValue(testing::IsEmpty()));
  ASSERT_THAT(aggregator->Close(), IsOk());
  World& first = *three.worlds[0];
  bool checked = false;
  first.server.fault = [&](std::string_view method, BytesView) -> std::optional<Result<Bytes>> {
    if (method != wire::kUpload || checked) return std::nullopt;
    EXPECT_EQ(ReadFile(first.folder.path() + "/ledger").size(),
              kLedgerHeaderBytes + kLedgerRecordBytes);
    checked = true;
    return std::nullopt;
  };
  three.Play(*aggregator);
  EXPECT_TRUE(checked);
  const Result<Sum> sum = aggregator->Finish();
  ASSERT_THAT(sum, IsOk());
  EXPECT_EQ(sum->contributors, 3U);
}

TEST(ClientPreKeys, AreMadeAnewForEachRound) {
  World world;
  const TaskSpec task = SomeTask(Protocol::kSecAgg);
  std::vector<Bytes> records;
  for (uint64_t round = 1; round <= 2; ++round) {
    const uint64_t invitation = world.Invite(round, task);
    ASSERT_TRUE(world.RunUntilAnswered(invitation));
    records.push_back(world.server.uploads[invitation].data);
    world.server.Push(Over(round, /*counted=*/false));
  }
  EXPECT_NE(aggregation::DecodePreKeyRecord(records[0])->c,
            aggregation::DecodePreKeyRecord(records[1])->c);
  EXPECT_NE(aggregation::DecodePreKeyRecord(records[0])->s,
            aggregation::DecodePreKeyRecord(records[1])->s);
}

TEST(ClientPreKeys, DieWhileTheOthersTrain) {
  for (const bool dead : {false, true}) {
    TaskSpec task = SomeTask(Protocol::kSecAgg);
    task.deadlines.train = std::chrono::hours(24);
    ThreeDevices three(task);
    const auto aggregator = three.NewAggregator();
    ASSERT_THAT(aggregator->Ask(), IsOk());
    ASSERT_THAT(aggregator->Close(), IsOk());
    ASSERT_THAT(aggregator->Ask(), IsOk());
    World& world = *three.worlds[0];
    const auto life = std::chrono::hours(23) - std::chrono::minutes(1);
    world.clock.now += life + std::chrono::minutes(dead ? 2 : 0);
    const FakeCoordinator::Upload answer = three.Ask(0, *aggregator->Body(0));
    EXPECT_EQ(answer.abort_code, dead ? Code::kInvalidArgument : Code::kOk);
    EXPECT_EQ(answer.data.empty(), dead);
  }
}

TEST(ClientPreKeys, OfPeersAreRememberedBeyondTheSession) {
  aggregation::SeenKeys seen(limits::kSeenKeysOnDeviceMax);
  ThreeDevices three;
  World& world = *three.worlds[0];
  world.seen_keys = &seen;
  world.Renew();
  world.server.queue.clear();
  const uint64_t invitation = world.Invite(1, three.task);
  ASSERT_TRUE(world.RunUntilAnswered(invitation));
  three.ready[0] = world.server.uploads[invitation].data;
  three.Play(*three.NewAggregator());
  for (const size_t peer : {1, 2}) {
    EXPECT_TRUE(seen.Contains(aggregation::DecodePreKeyRecord(three.ready[peer])->c));
  }

  // The same records in the next round, with this device's fresh one.
  const uint64_t second = world.Invite(2, three.task);
  ASSERT_TRUE(world.RunUntilAnswered(second));
  three.ready[0] = world.server.uploads[second].data;
  three.params = ParamsFor(three.task, 2, world.weights);
  const auto again = three.NewAggregator();
  ASSERT_THAT(again->Ask(), HoldsValue(testing::IsEmpty()));
  ASSERT_THAT(again->Close(), IsOk());
  ASSERT_THAT(again->Ask(), IsOk());
  EXPECT_EQ(three.Ask(0, *again->Body(0)).abort_code, Code::kAborted);
}

// --- evidence ------------------------------------------------------------------------------------

// One row of a session with pre-keys, then another roster to the first device.
FakeCoordinator::Upload ShowAnotherRoster(ThreeDevices& three) {
  const auto aggregator = three.NewAggregator();
  EXPECT_THAT(aggregator->Ask(), IsOk());
  EXPECT_THAT(aggregator->Close(), IsOk());
  EXPECT_THAT(aggregator->Ask(), IsOk());
  const Bytes body = *aggregator->Body(0);
  EXPECT_EQ(three.Ask(0, body).abort_code, Code::kOk);
  return three.Ask(0, three.OtherRoster(body));
}

TEST(ClientEvidence, OfTwoRostersIsOnDiskAndVerifiesByItself) {
  ThreeDevices three;
  const FakeCoordinator::Upload answer = ShowAnotherRoster(three);
  EXPECT_EQ(answer.abort_code, Code::kAborted);
  EXPECT_TRUE(answer.data.empty());
  World& world = *three.worlds[0];
  ASSERT_NE(world.Find(Kind::kEquivocation), nullptr);
  EXPECT_THAT(world.Find(Kind::kEquivocation)->status, IsOk());
  EXPECT_EQ(world.Find(Kind::kEquivocation)->round, 1U);

  const Bytes file = ReadFile(world.folder.path() + "/evidence");
  ASSERT_EQ(file.size(), kEvidenceHeaderBytes + kEvidenceRecordBytes);
  Reader in(file);
  EXPECT_EQ(in.Array<8>(), (std::array<uint8_t, 8>{'C', 'H', 'O', 'R', 'U', 'S', 'E', 'V'}));
  EXPECT_EQ(in.U32(), 1U);
  EXPECT_EQ(in.U32(), 0U);
  EXPECT_EQ(in.U8(), 1U);
  EXPECT_EQ(in.U64(), static_cast<uint64_t>(world.clock.UnixSeconds()));
  const PublicKey coordinator = in.Array<32>();
  EXPECT_EQ(coordinator, world.server.key());
  EXPECT_EQ(in.Array<16>(), three.params.task_id);
  EXPECT_EQ(in.U64(), 1U);
  const Digest sid0 = in.Array<32>();
  std::set<Digest> roots;
  for (int i = 0; i < 2; ++i) {
    const uint32_t n = in.U32();
    EXPECT_EQ(n, 3U);
    const Digest root = in.Array<32>();
    const Signature signature = in.Array<64>();
    EXPECT_TRUE(
        crypto::Ed25519Verify(coordinator, aggregation::RosterMessage(sid0, n, root), signature));
    roots.insert(root);
  }
  EXPECT_EQ(roots.size(), 2U);
  EXPECT_THAT(in.Finish("evidence"), IsOk());
}

TEST(ClientEvidence, ThatCannotBeKeptIsToldAndEndsTheRoundAllTheSame) {
  ThreeDevices three;
  World& world = *three.worlds[0];
  WriteFile(world.folder.path() + "/evidence", Bytes(40, 'x'));
  EXPECT_EQ(ShowAnotherRoster(three).abort_code, Code::kAborted);
  ASSERT_NE(world.Find(Kind::kEquivocation), nullptr);
  EXPECT_THAT(world.Find(Kind::kEquivocation)->status, HasCode(Code::kDataLoss));
  EXPECT_EQ(ReadFile(world.folder.path() + "/evidence"), Bytes(40, 'x'));
}

TEST(ClientEvidence, IsTakenAfterTheLastAnswerToo) {
  ThreeDevices three;
  const auto aggregator = three.NewAggregator();
  three.Play(*aggregator, 1);
  ASSERT_THAT(aggregator->Ask(), IsOk());
  const Bytes other = three.OtherRoster(*aggregator->Body(0));
  for (PartyId i = 0; i < 3; ++i) {
    ASSERT_THAT(aggregator->Hear(i, three.Ask(i, *aggregator->Body(i)).data), IsOk());
  }
  ASSERT_THAT(aggregator->Close(), IsOk());
  three.Play(*aggregator);
  World& world = *three.worlds[0];
  world.server.Ask(other);
  EXPECT_TRUE(world.RunUntil(Kind::kEquivocation));
  EXPECT_EQ(ReadFile(world.folder.path() + "/evidence").size(),
            kEvidenceHeaderBytes + kEvidenceRecordBytes);
}

TEST(ClientEvidence, IsNotMadeOfOrdinaryFailures) {
  ThreeDevices three;
  three.Ask(0, Bytes(400, 1));
  EXPECT_EQ(three.worlds[0]->Find(Kind::kEquivocation), nullptr);
  EXPECT_FALSE(std::filesystem::exists(three.worlds[0]->folder.path() + "/evidence"));
}

TEST(EvidenceFile, GrowsByWholeRecordsUpToItsBound) {
  const TemporaryFolder folder;
  const std::string path = folder.path() + "/evidence";
  Evidence evidence;
  for (uint64_t round = 1; round <= 3; ++round) {
    evidence.round = round;
    ASSERT_THAT(KeepEvidence(folder.path(), evidence), IsOk());
  }
  Bytes file = ReadFile(path);
  ASSERT_EQ(file.size(), kEvidenceHeaderBytes + 3 * kEvidenceRecordBytes);
  // The last one cut short by a crash: the next takes its place and no other's.
  const Bytes sound(file.begin(), file.end() - static_cast<std::ptrdiff_t>(kEvidenceRecordBytes));
  file.resize(file.size() - 5);
  WriteFile(path, file);
  evidence.round = 9;
  ASSERT_THAT(KeepEvidence(folder.path(), evidence), IsOk());
  file = ReadFile(path);
  ASSERT_EQ(file.size(), kEvidenceHeaderBytes + 3 * kEvidenceRecordBytes);
  EXPECT_TRUE(std::equal(sound.begin(), sound.end(), file.begin()));
  EXPECT_EQ(file[sound.size() + 1 + 8 + 32 + 16 + 7], 9U) << "the round of the last";

  file.resize(kEvidenceHeaderBytes + limits::kEvidenceRecordsMax * kEvidenceRecordBytes);
  WriteFile(path, file);
  EXPECT_THAT(KeepEvidence(folder.path(), evidence), HasCode(Code::kResourceExhausted));
  EXPECT_EQ(ReadFile(path), file);
}

TEST(EvidenceFile, BeginsAnewWhereItsHeaderWasCutShort) {
  const TemporaryFolder folder;
  WriteFile(folder.path() + "/evidence", Bytes(7, 'C'));
  ASSERT_THAT(KeepEvidence(folder.path(), {}), IsOk());
  EXPECT_EQ(ReadFile(folder.path() + "/evidence").size(),
            kEvidenceHeaderBytes + kEvidenceRecordBytes);
  EXPECT_THAT(KeepEvidence(folder.path() + "/none", {}), HasCode(Code::kUnavailable));
}

}  // namespace
}  // namespace chorus::client
