// A committee's member: its conversation with the coordinator, which is a client's in another role.
#include "chorus/committee.h"

#include "base/clock.h"
#include "client_fakes.h"

namespace chorus::client {
namespace {

using Kind = ClientEvent::Kind;

constexpr uint8_t kFirstMember = 200;  // numbers of identities, as World has them
constexpr uint8_t kFirstClient = 100;
constexpr size_t kMembers = 4;
constexpr size_t kClients = 4;

PublicKey KeyOf(uint8_t number) { return crypto::Ed25519Public(SeedOf(number).Reveal()); }

TaskSpec OneShotTask() {
  TaskSpec task = SomeTask(Protocol::kOneShot);
  task.experimental = true;
  task.one_shot = {.gamma_ppm = 0, .honest_min = 2};
  for (size_t j = 0; j < kMembers; ++j) {
    task.one_shot.members.push_back(KeyOf(static_cast<uint8_t>(kFirstMember + j)));
  }
  return task;
}

Policy PolicyFor(const TaskSpec& task) {
  Policy policy;
  policy.allow_experimental = true;
  policy.committee = task.one_shot.members;
  return policy;
}

aggregation::SessionParams OneShotParams(const TaskSpec& task, uint64_t round,
                                         const Weights& weights) {
  aggregation::SessionParams params = ParamsFor(task, round, weights);
  params.gamma_ppm = task.one_shot.gamma_ppm;
  params.delta_ppm = 0;
  params.a_min = task.one_shot.honest_min;
  params.committee = *aggregation::CommitteeOf(task.one_shot);
  return params;
}

// A client or a member, with a coordinator of its own in front.
struct OneShotWorld : World {
  OneShotWorld(uint8_t number, const TaskSpec& task) : World(number) {
    options.policy = PolicyFor(task);
    if (number >= kFirstMember) Restart();
  }
  // As a member whose process was started again.
  void Restart() {
    session = Session::Create({.options = &options,
                               .role = Role::kCommitteeMember,
                               .verifier = verifier.get(),
                               .clock = &clock,
                               .rng = rng.get(),
                               .log = &log,
                               .cancel = &cancel,
                               .experiment = std::nullopt});
  }
};

// Clients, members and an aggregator that all the coordinators stand for.
class OneShotWorlds : public testing::Test {
 protected:
  OneShotWorlds() {
    for (size_t i = 0; i < kClients; ++i) Add(kFirstClient + i);
    for (size_t j = 0; j < kMembers; ++j) Add(kFirstMember + j);
  }

  void Add(size_t number) {
    worlds[number] = std::make_unique<OneShotWorld>(static_cast<uint8_t>(number), task);
  }

  // Everybody says that they are ready for round 1.
  void Begin() {
    for (auto& [number, world] : worlds) {
      ASSERT_TRUE(world->RunUntilAnswered(world->Invite(1, task))) << number;
    }
    std::vector<PartyId> clients;
    std::vector<aggregation::CommitteeMember> members;
    for (size_t i = 0; i < kClients; ++i) clients.push_back(kFirstClient + i);
    for (uint32_t j = 0; j < kMembers; ++j) members.push_back({kFirstMember + j, j + 1});
    const World& first = *worlds.begin()->second;
    auto made = aggregation::NewAggregator({.params = OneShotParams(task, 1, first.weights),
                                            .signing_seed = first.server.signing_seed.Reveal(),
                                            .verifier = first.verifier.get(),
                                            .parties = clients,
                                            .committee_ids = task.one_shot.members,
                                            .committee = members});
    ASSERT_THAT(made, IsOk());
    aggregator = *std::move(made);
  }

  FakeCoordinator::Upload Ask(PartyId party, const Bytes& body) {
    World& world = *worlds[party];
    const uint64_t sequence = world.server.Ask(body, /*inline_bytes=*/100);
    EXPECT_TRUE(world.RunUntilAnswered(sequence));
    return world.server.uploads[sequence];
  }

  // One step of the protocol, without `absent`.
  void Step(std::optional<PartyId> absent = std::nullopt) {
    const Result<std::vector<Question>> questions = aggregator->Ask();
    ASSERT_THAT(questions, IsOk());
    for (const Question& question : *questions) {
      if (absent == question.to) continue;
      const auto upload = Ask(question.to, *aggregator->Body(question.to));
      EXPECT_EQ(upload.abort_code, Code::kOk) << question.to;
      EXPECT_THAT(aggregator->Hear(question.to, upload.data), IsOk()) << question.to;
    }
    ASSERT_THAT(aggregator->Close(), IsOk());
  }

  const TaskSpec task = OneShotTask();
  std::map<PartyId, std::unique_ptr<OneShotWorld>> worlds;
  std::unique_ptr<Aggregator> aggregator;
};

TEST_F(OneShotWorlds, AMemberIsReadyAtOnceAndFetchesNoModel) {
  OneShotWorld& member = *worlds[kFirstMember];
  const uint64_t invitation = member.Invite(1, task);
  ASSERT_TRUE(member.RunUntilAnswered(invitation));
  EXPECT_EQ(member.server.uploads[invitation].total_bytes, 0U);
  EXPECT_EQ(member.server.uploads[invitation].abort_code, Code::kOk);
  EXPECT_EQ(member.server.Count(wire::kDownload), 0U);
  EXPECT_EQ(member.Find(Kind::kTrained), nullptr);
}

TEST_F(OneShotWorlds, ClientsSpeakOnceAndMembersOpenTheSum) {
  Begin();
  while (!aggregator->done()) Step();
  const Result<Sum> sum = aggregator->Finish();
  ASSERT_THAT(sum, IsOk());
  EXPECT_EQ(sum->contributors, kClients);
  const World& first = *worlds[kFirstClient];
  const auto encoding =
      math::FixedPointFor(first.weights.size(), task.clip, task.encoding, task.cohort.maximum);
  const Result<math::Mean> mean = math::Decode(*encoding, *sum);
  ASSERT_THAT(mean, IsOk());
  EXPECT_EQ(mean->examples, 18U * kClients);
  for (auto& [number, world] : worlds) {
    EXPECT_EQ(world->Find(Kind::kUploaded) != nullptr, number < kFirstMember);
    world->server.Push(Over(1, /*counted=*/true));
    EXPECT_TRUE(world->RunUntil(Kind::kContributed)) << number;
  }
}

TEST_F(OneShotWorlds, AMemberThatDidNotOpenIsNotCounted) {
  Begin();
  Step();
  World& member = *worlds[kFirstMember];
  member.server.Push(Over(1, /*counted=*/true));
  EXPECT_TRUE(member.RunUntil(Kind::kDisconnected)) << "such a coordinator makes no sense";
  EXPECT_EQ(member.Find(Kind::kContributed), nullptr);
}

TEST_F(OneShotWorlds, AMemberOfAnotherTaskRefuses) {
  TaskSpec other = task;
  other.name = "other";
  other.one_shot.members[0] = KeyOf(99);
  World& member = *worlds[kFirstMember];
  member.options.policy.allow_any_committee = true;
  const uint64_t invitation = member.Invite(1, other);
  ASSERT_TRUE(member.RunUntilAnswered(invitation));
  EXPECT_EQ(member.server.uploads[invitation].abort_code, Code::kPermissionDenied);
  ASSERT_NE(member.Find(Kind::kRefused), nullptr);
  EXPECT_THAT(member.Find(Kind::kRefused)->status,
              HasCodeAndText(Code::kPermissionDenied, "not on the task's committee"));

  const uint64_t training = member.Invite(2, SomeTask(Protocol::kSecAgg));
  ASSERT_TRUE(member.RunUntilAnswered(training));
  EXPECT_EQ(member.server.uploads[training].abort_code, Code::kPermissionDenied);
}

TEST_F(OneShotWorlds, AMemberHasAPolicyOfItsOwn) {
  for (const bool experimental : {true, false}) {
    SCOPED_TRACE(experimental);
    Add(kFirstMember);
    World& member = *worlds[kFirstMember];
    member.options.policy.allow_experimental = experimental;
    member.options.policy.cohort_min = experimental ? task.cohort.minimum + 1 : 1;
    const uint64_t invitation = member.Invite(1, task);
    ASSERT_TRUE(member.RunUntilAnswered(invitation));
    EXPECT_EQ(member.server.uploads[invitation].abort_code, Code::kPermissionDenied);
  }
}

// Its key and its vote died with it: whatever it is asked of this session, it says nothing.
TEST_F(OneShotWorlds, ARestartedMemberNeitherVotesAgainNorOpens) {
  for (const size_t steps_before : {1U, 2U, 3U, 4U}) {
    SCOPED_TRACE(steps_before);
    for (auto& [number, world] : worlds) Add(number);
    Begin();
    for (size_t i = 0; i < steps_before; ++i) Step();
    OneShotWorld& member = *worlds[kFirstMember];
    const Result<std::vector<Question>> questions = aggregator->Ask();
    ASSERT_THAT(questions, IsOk());
    const PartyId asked = steps_before == 1 ? kFirstClient : kFirstMember;
    const Result<Bytes> body = aggregator->Body(asked);
    ASSERT_THAT(body, IsOk());
    member.Restart();
    // Even when it is invited to the same round again, and asked from the start or in the middle.
    const uint64_t invitation = member.Invite(1, task);
    ASSERT_TRUE(member.RunUntilAnswered(invitation));
    EXPECT_EQ(member.server.uploads[invitation].abort_code, Code::kOk);
    const auto upload = Ask(kFirstMember, *body);
    EXPECT_NE(upload.abort_code, Code::kOk);
    EXPECT_TRUE(upload.data.empty());
    aggregator.reset();
  }
}

TEST_F(OneShotWorlds, AMemberTakesAsMuchAsItsMemoryAllowsAndAClientNoPull) {
  OneShotWorld& member = *worlds[kFirstMember];
  OneShotWorld& client = *worlds[kFirstClient];
  for (OneShotWorld* world : {&member, &client}) {
    world->options.memory_bytes_max = limits::kQuestionBytesMax * 2;
    ASSERT_TRUE(world->RunUntilAnswered(world->Invite(1, task)));
  }
  const auto announce = [](World& world, uint64_t bytes) {
    world.server.Push(wire::Question{.total_bytes = bytes, .sha256 = {1}, .data = Bytes(10)});
    const auto fetches = [&] { return world.server.Count(wire::kDownload) > 0; };
    world.events.clear();
    return world.Run([&] { return fetches() || world.Find(Kind::kDisconnected) != nullptr; }) &&
           world.Find(Kind::kDisconnected) == nullptr;
  };
  client.server.calls.clear();
  EXPECT_TRUE(announce(member, limits::kQuestionBytesMax * 2));
  EXPECT_FALSE(announce(client, limits::kQuestionBytesMax + 1));
  Add(kFirstMember + 1);
  OneShotWorld& other = *worlds[kFirstMember + 1];
  other.options.memory_bytes_max = limits::kQuestionBytesMax * 2;
  ASSERT_TRUE(other.RunUntilAnswered(other.Invite(1, task)));
  EXPECT_FALSE(announce(other, limits::kQuestionBytesMax * 2 + 1));
}

TEST(CommitteeMember, NamesTheOptionThatIsUnusable) {
  const std::unique_ptr<Clock> clock = NewSystemClock();
  const auto verifier = trust::NewCertificateVerifier(KeyOf(50), *clock);
  QuietSink log;
  const auto start = [&](const std::function<void(CommitteeOptions&)>& spoil) {
    CommitteeOptions options;
    options.server = "127.0.0.1:1";
    options.plaintext = true;
    options.coordinator = KeyOf(1);
    options.identity_seed = SeedOf(kFirstMember);
    options.certificate = World::CertificateFor(kFirstMember);
    spoil(options);
    return CommitteeMember::Start(std::move(options), *verifier, *clock, log);
  };
  EXPECT_THAT(start([](CommitteeOptions&) {}), IsOk());
  EXPECT_THAT(start([](CommitteeOptions& o) { o.server.clear(); }),
              HasCodeAndText(Code::kInvalidArgument, "server"));
  EXPECT_THAT(start([](CommitteeOptions& o) { o.identity_seed = SecretBytes(31); }),
              HasCodeAndText(Code::kInvalidArgument, "identity_seed"));
  EXPECT_THAT(start([](CommitteeOptions& o) { o.coordinator = {}; }),
              HasCodeAndText(Code::kInvalidArgument, "coordinator"));
  EXPECT_THAT(start([](CommitteeOptions& o) { o.certificate = World::CertificateFor(7); }),
              HasCodeAndText(Code::kInvalidArgument, "certificate"));
  EXPECT_THAT(CommitteeMember::StartOver(nullptr, CommitteeOptions(), *verifier, *clock, log),
              HasCode(Code::kInvalidArgument));
}

}  // namespace
}  // namespace chorus::client
