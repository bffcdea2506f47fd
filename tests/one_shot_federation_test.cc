// OneShot over loopback gRPC: clients that speak once and are gone, and a committee that opens what
// they left.
#include <functional>
#include <thread>

#include "federation.h"

namespace chorus {
namespace {

using Kind = CoordinatorEvent::Kind;

// A member's answers in a round, as CutTransport counts them.
constexpr size_t kBeforeKey = 1;
constexpr size_t kBeforeVote = 3;
constexpr size_t kBeforeOpening = 4;

// A transport that is cut for good the moment that its client's update has been received whole.
class LeavingTransport final : public Transport {
 public:
  explicit LeavingTransport(std::unique_ptr<Transport> inner) : inner_(std::move(inner)) {}
  Result<Bytes> Call(std::string_view method, BytesView request, milliseconds deadline) override {
    if (gone_) return Unavailable("gone");
    Result<Bytes> reply = inner_->Call(method, request, deadline);
    if (method != wire::kUpload || !reply.ok()) return reply;
    const auto upload = wire::Decode<wire::UploadRequest>(request);
    const auto answer = wire::Decode<wire::UploadReply>(*reply);
    gone_ = upload.ok() && answer.ok() && upload->total_bytes > 0 &&
            answer->received == upload->total_bytes;
    return reply;
  }
  void Interrupt() override { inner_->Interrupt(); }

 private:
  std::unique_ptr<Transport> inner_;
  bool gone_ = false;
};

class OneShot : public Federation {
 protected:
  static constexpr uint32_t kMembers = 4;

  OneShot() {
    policy_.allow_experimental = true;
    for (uint32_t j = 1; j <= kMembers; ++j) policy_.committee.push_back(KeyOf(j));
  }

  static PublicKey KeyOf(uint32_t member) {
    return crypto::Ed25519Public(Seed("member", member).Reveal());
  }

  static TaskSpec OneShotTask(uint32_t clients) {
    TaskSpec task = SmallTask(Protocol::kOneShot, clients);
    task.experimental = true;
    for (uint32_t j = 1; j <= kMembers; ++j) task.one_shot.members.push_back(KeyOf(j));
    return task;
  }

  // Starts a member, in place of the one that ran in its name. It is cut off before its
  // `cut_before`-th answer (0: that it is ready).
  void StartMember(uint32_t member, size_t cut_before = kNever) {
    members_.erase(member);
    CommitteeOptions options;
    options.server = "127.0.0.1:" + std::to_string(coordinator_->port());
    options.tls_roots_pem = authority_.certificate_pem;
    options.coordinator = crypto::Ed25519Public(Seed("coordinator", 0).Reveal());
    options.identity_seed = Seed("member", member);
    options.certificate = CertificateFor(KeyOf(member), 1'000'000 + member);
    options.policy = policy_;
    std::unique_ptr<Transport> transport = client::NewGrpcTransport(
        {.server = options.server, .tls_roots_pem = options.tls_roots_pem});
    if (cut_before != kNever) {
      transport = std::make_unique<CutTransport>(std::move(transport), cut_before);
    }
    auto started = CommitteeMember::StartOver(std::move(transport), std::move(options), *verifier_,
                                              *clock_, log_);
    ASSERT_THAT(started, IsOk());
    members_[member] = *std::move(started);
  }

  // A client that is gone as soon as it has uploaded.
  void Visit(uint64_t client) {
    ClientOptions options = OptionsFor(client);
    auto transport = std::make_unique<LeavingTransport>(client::NewGrpcTransport(
        {.server = options.server, .tls_roots_pem = options.tls_roots_pem}));
    auto started = client::StartExperimentOver(std::move(transport), std::move(options),
                                               Clouds(client), *verifier_, *clock_, log_,
                                               {"5/client-" + std::to_string(client)});
    ASSERT_THAT(started, IsOk());
    clients_.push_back(*std::move(started));
  }

  // One step's end, and how many answered of how many.
  struct Count {
    uint32_t answered = 0;
    uint32_t asked = 0;
    bool operator==(const Count&) const = default;
  };
  std::optional<Count> AwaitStep(std::string_view step) {
    while (const auto closed = Await(Kind::kStepClosed)) {
      if (closed->step == step) return Count{closed->answered, closed->asked};
    }
    return std::nullopt;
  }

  std::vector<ClientEvent> MemberEvents(uint32_t member) {
    return members_[member]->Poll(milliseconds(0));
  }
  static bool Holds(const std::vector<ClientEvent>& events, ClientEvent::Kind kind) {
    return std::any_of(events.begin(), events.end(),
                       [kind](const ClientEvent& event) { return event.kind == kind; });
  }

  const std::unique_ptr<Store> store_ = NewMemoryStore();
};

TEST_F(OneShot, ClientsThatLeaveOnceTheyHaveUploadedAreInTheSum) {
  ASSERT_THAT(Serve(OneShotTask(8), *store_), IsOk());
  for (uint32_t member = 1; member <= kMembers; ++member) StartMember(member);
  for (uint64_t client = 0; client < 8; ++client) Visit(client);
  EXPECT_EQ(AwaitStep("committee keys"), (Count{4, 4}));
  EXPECT_EQ(AwaitStep("input"), (Count{8, 8}));
  const auto ended = Await(Kind::kRoundEnded);
  ASSERT_TRUE(ended.has_value());
  ASSERT_EQ(ended->round.state, RoundState::kCommitted) << ended->round.reason;
  EXPECT_EQ(ended->round.invited, 8U) << "members are no clients";
  EXPECT_EQ(ended->round.contributors, 8U);
  EXPECT_EQ(ended->round.examples, 8U * 54);
  EXPECT_EQ(ended->round.dropouts, (std::vector<uint32_t>(6, 0)));
  for (uint32_t member = 1; member <= kMembers; ++member) {
    const Time end = clock_->Now() + seconds(20);
    bool contributed = false;
    while (!contributed && clock_->Now() < end) {
      contributed =
          Holds(members_[member]->Poll(milliseconds(50)), ClientEvent::Kind::kContributed);
    }
    EXPECT_TRUE(contributed) << member;
  }
}

TEST_F(OneShot, GivesTheModelOfSecAggAndPlainBitForBit) {
  const std::vector<uint64_t> clients = {0, 1, 2, 3, 4, 5, 6};
  const Weights masked = ModelOf(Protocol::kSecAgg, clients, 3);
  const Weights plain = ModelOf(Protocol::kPlain, clients, 3);
  TaskSpec task = OneShotTask(7);
  task.rounds = 3;
  ASSERT_THAT(Serve(task, *store_), IsOk());
  for (uint32_t member = 1; member <= kMembers; ++member) StartMember(member);
  for (const uint64_t client : clients) Join(client, Clouds(client));
  ASSERT_TRUE(Await(Kind::kTaskComplete).has_value());
  EXPECT_EQ(CurrentWeights(), masked);
  EXPECT_EQ(CurrentWeights(), plain);
}

// One of four may be lost at any time.
class OneShotMemberLost : public OneShot, public testing::WithParamInterface<size_t> {};

INSTANTIATE_TEST_SUITE_P(OneShot, OneShotMemberLost,
                         testing::Values(size_t{0}, kBeforeKey, size_t{2}, kBeforeVote,
                                         kBeforeOpening));

TEST_P(OneShotMemberLost, TheRoundCommitsWithoutIt) {
  TaskSpec task = OneShotTask(6);
  milliseconds* const deadlines[] = {&task.deadlines.train, &task.deadlines.choose,
                                     &task.deadlines.share, &task.deadlines.consistency,
                                     &task.deadlines.unmask};
  *deadlines[GetParam()] = seconds(12);  // what the loss costs
  ASSERT_THAT(Serve(task, *store_), IsOk());
  for (uint32_t member = 1; member <= kMembers; ++member) {
    StartMember(member, member == 2 ? GetParam() : kNever);
  }
  for (uint64_t client = 0; client < 6; ++client) Visit(client);
  const auto ended = Await(Kind::kRoundEnded);
  ASSERT_TRUE(ended.has_value());
  ASSERT_EQ(ended->round.state, RoundState::kCommitted) << ended->round.reason;
  EXPECT_EQ(ended->round.contributors, 6U);
}

TEST_F(OneShot, TwoLostMembersEndTheRoundAndTheNextGoesOnWhenTheyAreBack) {
  TaskSpec task = OneShotTask(6);
  task.deadlines.consistency = seconds(12);
  task.deadlines.check_in = seconds(3);
  ASSERT_THAT(Serve(task, *store_), IsOk());
  for (uint32_t member = 1; member <= kMembers; ++member) {
    StartMember(member, member <= 2 ? kBeforeVote : kNever);
  }
  for (uint64_t client = 0; client < 6; ++client) Join(client, Clouds(client));
  const auto aborted = Await(Kind::kRoundEnded);
  ASSERT_TRUE(aborted.has_value());
  EXPECT_EQ(aborted->round.state, RoundState::kAborted);
  EXPECT_EQ(aborted->round.code, Code::kAborted);
  EXPECT_NE(aborted->round.reason.find("committee members voted"), std::string::npos)
      << aborted->round.reason;
  const auto trouble = Await(Kind::kTrouble);
  ASSERT_TRUE(trouble.has_value());
  EXPECT_THAT(trouble->trouble,
              HasCodeAndText(Code::kUnavailable, "only 2 of the committee's 4 members"));
  StartMember(1);
  const auto ended = Await(Kind::kRoundEnded);
  ASSERT_TRUE(ended.has_value());
  EXPECT_EQ(ended->round.state, RoundState::kCommitted) << ended->round.reason;
  EXPECT_EQ(ended->round.contributors, 6U);
}

// It checks in under its old name in the middle of the round, is asked nothing more in it, and
// serves the next one.
TEST_F(OneShot, ARestartedMemberHasNoPartInTheRoundThatItDiedIn) {
  TaskSpec task = OneShotTask(6);
  task.rounds = 2;
  ASSERT_THAT(Serve(task, *store_), IsOk());
  for (uint32_t member = 1; member <= kMembers; ++member) {
    StartMember(member, member == 3 ? kBeforeVote : kNever);
  }
  for (uint64_t client = 0; client < 6; ++client) Join(client, Clouds(client));
  ASSERT_EQ(AwaitStep("complaints"), (Count{4, 4}));
  StartMember(3);
  EXPECT_EQ(AwaitStep("votes"), (Count{3, 4})) << "it is not waited for, nor heard";
  EXPECT_EQ(AwaitStep("opening"), (Count{3, 3}));
  const auto first = Await(Kind::kRoundEnded);
  ASSERT_TRUE(first.has_value());
  ASSERT_EQ(first->round.state, RoundState::kCommitted) << first->round.reason;
  EXPECT_EQ(AwaitStep("opening"), (Count{4, 4}));
  ASSERT_TRUE(Await(Kind::kTaskComplete).has_value());
  const Time end = clock_->Now() + seconds(20);
  std::vector<ClientEvent> events;
  while (!Holds(events, ClientEvent::Kind::kContributed) && clock_->Now() < end) {
    for (ClientEvent& event : members_[3]->Poll(milliseconds(50))) events.push_back(event);
  }
  for (const ClientEvent& event : events) EXPECT_NE(event.round, 1U);
  EXPECT_TRUE(Holds(events, ClientEvent::Kind::kContributed));
}

TEST_F(OneShot, APlayerRefusesAnUnknownCommitteeAndWhatIsExperimental) {
  TaskSpec task = OneShotTask(6);
  task.cohort.minimum = 3;
  ASSERT_THAT(Serve(task, *store_), IsOk());
  for (uint32_t member = 1; member <= kMembers; ++member) StartMember(member);
  for (uint64_t client = 0; client < 4; ++client) Join(client, Clouds(client));
  policy_.committee.pop_back();
  Join(4, Clouds(4));
  policy_.allow_any_committee = true;
  policy_.allow_experimental = false;
  Join(5, Clouds(5));
  const auto foreign = AwaitClient(4, ClientEvent::Kind::kRefused);
  ASSERT_TRUE(foreign.has_value());
  EXPECT_THAT(foreign->status,
              HasCodeAndText(Code::kPermissionDenied, "your policy does not name"));
  const auto experimental = AwaitClient(5, ClientEvent::Kind::kRefused);
  ASSERT_TRUE(experimental.has_value());
  EXPECT_THAT(experimental->status,
              HasCodeAndText(Code::kPermissionDenied, "nobody outside has reviewed"));
  const auto ended = Await(Kind::kRoundEnded);
  ASSERT_TRUE(ended.has_value());
  EXPECT_EQ(ended->round.state, RoundState::kCommitted) << ended->round.reason;
  EXPECT_EQ(ended->round.contributors, 4U);
  EXPECT_EQ(ended->round.refused, 2U);
  task.experimental = false;
  task.name = "other";
  EXPECT_THAT(ValidateTask(task), HasCodeAndText(Code::kInvalidArgument, "experimental"));
}

TEST_F(OneShot, StatusTellsWhoOfTheCommitteeIsThere) {
  ASSERT_THAT(Serve(OneShotTask(6), *store_), IsOk());
  StartMember(2);
  Join(0, Clouds(0));
  const std::unique_ptr<Transport> transport =
      client::NewGrpcTransport({.server = "127.0.0.1:" + std::to_string(coordinator_->port()),
                                .tls_roots_pem = authority_.certificate_pem});
  const Time end = clock_->Now() + seconds(30);
  wire::StatusReply reply;
  do {
    const Result<Bytes> bytes = transport->Call(
        wire::kGetStatus, wire::Encode(wire::StatusRequest{}), milliseconds(10'000));
    ASSERT_THAT(bytes, IsOk());
    reply = *wire::Decode<wire::StatusReply>(*bytes);
    ASSERT_EQ(reply.committee.size(), kMembers);
    std::this_thread::sleep_for(milliseconds(20));
  } while ((reply.clients < 1 || !reply.committee[1].checked_in) && clock_->Now() < end);
  EXPECT_EQ(reply.clients, 1U) << "members are no clients";
  for (uint32_t j = 0; j < kMembers; ++j) {
    EXPECT_EQ(reply.committee[j].identity, KeyOf(j + 1));
    EXPECT_EQ(reply.committee[j].checked_in, j == 1);
  }
}

}  // namespace
}  // namespace chorus
