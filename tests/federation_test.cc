// Real coordinators and real clients over loopback gRPC, in one process.
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <future>

#include "federation.h"

namespace chorus {
namespace {

TEST_F(Federation, SecAggRoundsTrainAModel) {
  const std::unique_ptr<Store> store = NewMemoryStore();
  TaskSpec task = SmallTask(Protocol::kSecAgg, 6);
  task.rounds = 5;
  ASSERT_THAT(Serve(task, *store), IsOk());
  for (uint64_t client = 0; client < 6; ++client) Join(client, Clouds(client));
  std::vector<double> losses;
  for (uint64_t round = 1; round <= 5; ++round) {
    const auto ended = Await(CoordinatorEvent::Kind::kRoundEnded);
    ASSERT_TRUE(ended.has_value());
    EXPECT_EQ(ended->round.state, RoundState::kCommitted) << ended->round.reason;
    EXPECT_EQ(ended->round.round, round);
    EXPECT_EQ(ended->round.invited, 6U);
    EXPECT_EQ(ended->round.contributors, 6U);
    EXPECT_EQ(ended->round.examples, 6U * 54);
    EXPECT_EQ(ended->round.evaluated, 6U * 6);
    EXPECT_GT(ended->round.bytes_up, 0U);
    losses.push_back(ended->round.loss);
  }
  EXPECT_LT(losses.back(), losses.front());
  EXPECT_TRUE(Await(CoordinatorEvent::Kind::kTaskComplete).has_value());
  EXPECT_TRUE(AwaitClient(0, ClientEvent::Kind::kContributed).has_value());
  EXPECT_TRUE(AwaitClient(1, ClientEvent::Kind::kStopped).has_value());
}

TEST_F(Federation, ProtocolsAndRepetitionsGiveTheSameModelBitForBit) {
  const std::vector<uint64_t> clients = {0, 1, 2, 3, 4, 5, 6};
  const Weights masked = ModelOf(Protocol::kSecAgg, clients, 3);
  EXPECT_EQ(masked, ModelOf(Protocol::kSecAgg, clients, 3));
  EXPECT_EQ(masked, ModelOf(Protocol::kPlain, {6, 5, 4, 3, 2, 1, 0}, 3));
  EXPECT_NE(masked, ModelOf(Protocol::kPlain, {0, 1, 2, 3, 4, 5}, 3));
}

// Four of twenty clients are cut off in one step, a run for each step. The model afterwards is that
// of a plain round over exactly those whose input had arrived.
class CutInStep : public Federation, public testing::WithParamInterface<size_t> {};

std::string StepName(const testing::TestParamInfo<size_t>& test) {
  static const char* const kNames[] = {"Training", "Shares", "Input", "Acks", "Unmask"};
  return kNames[test.param];
}

INSTANTIATE_TEST_SUITE_P(Federation, CutInStep, testing::Range<size_t>(0, 5), &StepName);

TEST_P(CutInStep, TheRoundEndsWithTheExactSumOfTheSurvivors) {
  // Its answers: training with its pre-keys, which answer for keys as well, and then from shares
  // on.
  const size_t answer = GetParam();
  const size_t step = answer == 0 ? 0 : answer + 1;
  std::vector<uint64_t> survivors;
  for (uint64_t client = 0; client < 20; ++client) {
    if (client % 5 != 1 || step > 3) survivors.push_back(client);
  }
  const Weights expected = ModelOf(Protocol::kPlain, survivors, 1);
  const std::unique_ptr<Store> store = NewMemoryStore();
  TaskSpec task = SmallTask(Protocol::kSecAgg, 20);
  task.secagg.delta_ppm = 200'000;
  task.cohort.minimum = 10;
  milliseconds* const deadlines[] = {&task.deadlines.train,       &task.deadlines.choose,
                                     &task.deadlines.share,       &task.deadlines.upload,
                                     &task.deadlines.consistency, &task.deadlines.unmask};
  *deadlines[step] = seconds(12);  // what the cut costs
  ASSERT_THAT(Serve(task, *store), IsOk());
  for (uint64_t client = 0; client < 20; ++client) {
    Join(client, Clouds(client), client % 5 == 1 ? answer : kNever);
  }
  const auto ended = Await(CoordinatorEvent::Kind::kRoundEnded);
  ASSERT_TRUE(ended.has_value());
  ASSERT_EQ(ended->round.state, RoundState::kCommitted) << ended->round.reason;
  EXPECT_EQ(ended->round.invited, 20U);
  EXPECT_EQ(ended->round.contributors, survivors.size());
  ASSERT_GT(ended->round.dropouts.size(), step);
  EXPECT_EQ(ended->round.dropouts[step], 4U);
  EXPECT_EQ(CurrentWeights(), expected);
}

TEST_F(Federation, ParallelCohortsGiveTheModelOfOnePlainRound) {
  const std::vector<uint64_t> clients = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14};
  TaskSpec task = SmallTask(Protocol::kSecAgg, 5);
  task.rounds = 2;
  task.cohort.parallel = 3;
  const Weights parallel = ModelOf(task, clients);
  EXPECT_EQ(parallel, ModelOf(Protocol::kPlain, clients, 2));
}

TEST_F(Federation, ARestartedCoordinatorGoesOnFromItsLastModel) {
  const std::string path = dir_ / "state.db";
  TaskSpec task = SmallTask(Protocol::kSecAgg, 6);
  task.rounds = 4;
  int port = 0;
  {
    Result<std::unique_ptr<Store>> store = NewSqliteStore(path);
    ASSERT_THAT(store, IsOk());
    ASSERT_THAT(Serve(task, **store), IsOk());
    port = coordinator_->port();
    for (uint64_t client = 0; client < 6; ++client) Join(client, Clouds(client));
    ASSERT_TRUE(Await(CoordinatorEvent::Kind::kRoundEnded).has_value());
    ASSERT_TRUE(Await(CoordinatorEvent::Kind::kRoundEnded).has_value());
    coordinator_.reset();
  }
  pending_.clear();
  Result<std::unique_ptr<Store>> store = NewSqliteStore(path);
  ASSERT_THAT(store, IsOk());
  ASSERT_THAT(Serve(task, **store, port), IsOk());
  EXPECT_TRUE(Await(CoordinatorEvent::Kind::kTaskComplete).has_value());
  std::vector<RoundReport> rounds;
  const auto look = [&](Transaction& transaction) -> Status {
    const Digest name = crypto::Sha256(ViewOf("clouds"));
    TaskId id{};
    std::copy_n(name.begin(), id.size(), id.begin());
    CHORUS_TRY_ASSIGN(rounds, transaction.Rounds(id, 1, 100));
    return OkStatus();
  };
  ASSERT_THAT((*store)->RunTransaction("look", look), IsOk());
  size_t committed = 0;
  for (size_t i = 0; i < rounds.size(); ++i) {
    EXPECT_EQ(rounds[i].round, i + 1) << "a round's number is never used again";
    EXPECT_NE(rounds[i].state, RoundState::kOpen);
    committed += rounds[i].state == RoundState::kCommitted ? 1 : 0;
  }
  EXPECT_EQ(committed, 4U);
}

TEST_F(Federation, ForeignAndExpiredCertificatesHarmOnlyTheirOwner) {
  const std::unique_ptr<Store> store = NewMemoryStore();
  ASSERT_THAT(Serve(SmallTask(Protocol::kSecAgg, 6), *store), IsOk());
  ClientOptions foreign = OptionsFor(90);
  trust::Certificate certificate;
  certificate.not_after = clock_->UnixSeconds() + 3600;
  certificate.subject = crypto::Ed25519Public(foreign.identity_seed.Reveal());
  foreign.certificate = trust::IssueCertificate(certificate, Seed("other issuer", 0).Reveal());
  ClientOptions expired = OptionsFor(91);
  certificate.not_after = clock_->UnixSeconds() - 1;
  certificate.subject = crypto::Ed25519Public(expired.identity_seed.Reveal());
  expired.certificate = trust::IssueCertificate(certificate, issuer_seed_.Reveal());
  for (ClientOptions* options : {&foreign, &expired}) {
    Result<std::unique_ptr<Client>> started =
        Client::Start(std::move(*options), Clouds(1), *verifier_, *clock_, log_);
    ASSERT_THAT(started, IsOk());
    clients_.push_back(*std::move(started));
  }
  for (size_t i = 0; i < 2; ++i) {
    const auto event = AwaitClient(i, ClientEvent::Kind::kDisconnected);
    ASSERT_TRUE(event.has_value());
    EXPECT_EQ(event->status.code(), Code::kUnauthenticated) << event->status.message();
  }
  for (uint64_t client = 0; client < 6; ++client) Join(client, Clouds(client));
  const auto ended = Await(CoordinatorEvent::Kind::kRoundEnded);
  ASSERT_TRUE(ended.has_value());
  EXPECT_EQ(ended->round.contributors, 6U);
}

TEST_F(Federation, AServerThatTheAuthorityDidNotSignIsNotTalkedTo) {
  const std::unique_ptr<Store> store = NewMemoryStore();
  ASSERT_THAT(Serve(SmallTask(Protocol::kSecAgg, 6), *store), IsOk());
  const int64_t now = clock_->UnixSeconds();
  ClientOptions wrong_roots = OptionsFor(0);
  wrong_roots.tls_roots_pem =
      crypto::MakeTlsAuthority("somebody else", now - 60, now + 3600)->certificate_pem;
  ClientOptions plaintext = OptionsFor(1);
  plaintext.plaintext = true;
  plaintext.tls_roots_pem.clear();
  for (ClientOptions* options : {&wrong_roots, &plaintext}) {
    Result<std::unique_ptr<Client>> started =
        Client::Start(std::move(*options), Clouds(1), *verifier_, *clock_, log_);
    ASSERT_THAT(started, IsOk());
    clients_.push_back(*std::move(started));
  }
  for (size_t i = 0; i < 2; ++i) {
    const auto event = AwaitClient(i, ClientEvent::Kind::kDisconnected);
    ASSERT_TRUE(event.has_value());
    EXPECT_EQ(event->status.code(), Code::kUnavailable) << event->status.message();
  }
}

TEST_F(Federation, TheHealthServiceAnswers) {
  const std::unique_ptr<Store> store = NewMemoryStore();
  ASSERT_THAT(Serve(SmallTask(Protocol::kSecAgg, 6), *store), IsOk());
  grpc::SslCredentialsOptions tls;
  tls.pem_root_certs = authority_.certificate_pem;
  grpc::GenericStub stub(grpc::CreateChannel("127.0.0.1:" + std::to_string(coordinator_->port()),
                                             grpc::SslCredentials(tls)));
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + seconds(20));
  grpc::Slice empty;
  const grpc::ByteBuffer request(&empty, 1);
  grpc::ByteBuffer reply;
  std::promise<grpc::Status> answered;
  stub.UnaryCall(&context, "/grpc.health.v1.Health/Check", grpc::StubOptions(), &request, &reply,
                 [&](grpc::Status status) { answered.set_value(std::move(status)); });
  const grpc::Status status = answered.get_future().get();
  ASSERT_TRUE(status.ok()) << status.error_message();
  grpc::Slice slice;
  ASSERT_TRUE(reply.DumpToSingleSlice(&slice).ok());
  // HealthCheckResponse{status: SERVING}.
  ASSERT_EQ(slice.size(), 2U);
  EXPECT_EQ(slice.begin()[0], 0x08);
  EXPECT_EQ(slice.begin()[1], 0x01);
}

// What a client keeps is kept for each task: its ledger's pairs of task and round, and its control
// variate of SCAFFOLD.
TEST_F(Federation, ClientsServeTwoTasksInTurn) {
  const std::unique_ptr<Store> store = NewMemoryStore();
  CoordinatorOptions options;
  TaskSpec masked = SmallTask(Protocol::kSecAgg, 6);
  masked.name = "masked";
  masked.rounds = 3;
  TaskSpec scaffold = SmallTask(Protocol::kPlain, 6);
  scaffold.name = "scaffold";
  scaffold.rounds = 3;
  scaffold.training.scaffold = true;
  scaffold.training.population = 6;
  options.tasks.push_back({.task = masked});
  options.tasks.push_back({.task = scaffold, .priority = 2});
  ASSERT_THAT(Serve(std::move(options), *store), IsOk());
  for (uint64_t client = 0; client < 6; ++client) Join(client, Clouds(client));
  std::map<std::string, uint32_t> contributors;
  size_t complete = 0;
  const Time end = clock_->Now() + seconds(240);
  while (complete < 2 && clock_->Now() < end) {
    for (const CoordinatorEvent& event : coordinator_->Poll(milliseconds(50))) {
      if (event.kind == CoordinatorEvent::Kind::kTaskComplete) ++complete;
      if (event.kind != CoordinatorEvent::Kind::kRoundEnded) continue;
      EXPECT_EQ(event.round.state, RoundState::kCommitted) << event.round.reason;
      EXPECT_EQ(event.round.refused, 0U);
      contributors[event.task] += event.round.contributors;
    }
  }
  EXPECT_EQ(complete, 2U);
  EXPECT_EQ(contributors, (std::map<std::string, uint32_t>{{"masked", 18}, {"scaffold", 18}}));
  EXPECT_TRUE(AwaitClient(0, ClientEvent::Kind::kStopped).has_value());
}

#if !defined(CHORUS_SANITIZED)
// 400 MB down and 325 MB up for each client, in chunks of 1 MiB, masked.
TEST_F(Federation, AModelOfAHundredMillionParametersPasses) {
  const std::unique_ptr<Store> store = NewMemoryStore();
  TaskSpec task = SmallTask(Protocol::kSecAgg, 3);
  task.model.inputs = 10'000;
  task.model.layers = {{10'000, Activation::kNone}};
  task.cohort.minimum = 3;
  task.cohort.maximum = 3;
  task.secagg.delta_ppm = 0;
  task.training.batch_size = 20;
  task.deadlines.train = task.deadlines.upload = seconds(600);
  ASSERT_THAT(Serve(task, *store), IsOk());
  const Weights before = CurrentWeights();
  ASSERT_EQ(before.size(), 100'010'000U);
  for (uint64_t client = 0; client < 3; ++client) Join(client, Clouds(client, 10'000, 20));
  const auto ended = Await(CoordinatorEvent::Kind::kRoundEnded, seconds(500));
  ASSERT_TRUE(ended.has_value());
  ASSERT_EQ(ended->round.state, RoundState::kCommitted) << ended->round.reason;
  EXPECT_EQ(ended->round.contributors, 3U);
  EXPECT_GT(ended->round.bytes_down, 3U * 400'040'000U);
  EXPECT_NE(CurrentWeights(), before);
}
#endif

}  // namespace
}  // namespace chorus
