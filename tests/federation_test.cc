// Real coordinators and real clients over loopback gRPC, in one process.
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <unistd.h>

#include <chrono>
#include <deque>
#include <filesystem>
#include <future>

#include "base/clock.h"
#include "chorus/client.h"
#include "chorus/coordinator.h"
#include "client/experiment.h"
#include "client/grpc_transport.h"
#include "crypto/crypto.h"
#include "matchers.h"
#include "test_rng.h"
#include "trust/trust.h"
#include "wire/wire.h"

namespace chorus {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class SilentLog final : public LogSink {
 public:
  void Write(LogLevel, std::string_view, std::span<const LogField>) override {}
};

SecretBytes Seed(std::string_view tag, uint64_t index) {
  const BytesView number(reinterpret_cast<const uint8_t*>(&index), sizeof(index));
  const Digest digest = crypto::LabeledHash("CHORUS1/test", {ViewOf(tag), number});
  return SecretBytes(Bytes(digest.begin(), digest.end()));
}

// Two overlapping clouds, different for each client.
Examples Clouds(uint64_t client, uint32_t inputs = 2, size_t count = 60) {
  TestRng rng(1000 + client);
  Examples examples;
  examples.inputs = inputs;
  for (size_t i = 0; i < count; ++i) {
    const auto label = static_cast<uint32_t>(i % 2);
    examples.labels.push_back(label);
    for (uint32_t j = 0; j < inputs; ++j) {
      const double noise = UniformUnit(rng) * 2 - 1;
      examples.features.push_back(static_cast<float>((label == 0 ? -0.5 : 0.5) + noise));
    }
  }
  return examples;
}

TaskSpec SmallTask(Protocol protocol, uint32_t clients) {
  TaskSpec task;
  task.name = "clouds";
  task.model.inputs = 2;
  task.model.layers = {{8, Activation::kTanh}, {2, Activation::kNone}};
  task.protocol = protocol;
  task.training.batch_size = 10;
  task.cohort.minimum = std::min<uint32_t>(clients, 5);
  task.cohort.target = clients;
  task.cohort.maximum = 20;
  task.clip.update_l2_norm_max = 4;
  task.rounds = 1;
  const milliseconds ample = seconds(120);
  task.deadlines.check_in = task.deadlines.train = task.deadlines.choose = ample;
  task.deadlines.share = task.deadlines.upload = ample;
  task.deadlines.consistency = task.deadlines.unmask = ample;
  task.deadlines.hedge = milliseconds(0);
  return task;
}

// A transport that is cut for good when its client is about to answer for the n-th time (0:
// training is done).
class CutTransport final : public Transport {
 public:
  CutTransport(std::unique_ptr<Transport> inner, size_t cut_before)
      : inner_(std::move(inner)), cut_before_(cut_before) {}
  Result<Bytes> Call(std::string_view method, BytesView request, milliseconds deadline) override {
    if (method == wire::kUpload) {
      const Result<wire::UploadRequest> upload = wire::Decode<wire::UploadRequest>(request);
      if (upload.ok() && upload->sequence != last_sequence_) {
        last_sequence_ = upload->sequence;
        if (answers_++ == cut_before_) cut_ = true;
      }
    }
    if (cut_) return Unavailable("cut");
    return inner_->Call(method, request, deadline);
  }
  void Interrupt() override { inner_->Interrupt(); }

 private:
  std::unique_ptr<Transport> inner_;
  size_t cut_before_;
  size_t answers_ = 0;
  uint64_t last_sequence_ = 0;
  bool cut_ = false;
};

class Federation : public testing::Test {
 protected:
  Federation() : clock_(NewSystemClock()) {
    const int64_t now = clock_->UnixSeconds();
    authority_ = *crypto::MakeTlsAuthority("test authority", now - 60, now + 3600);
    server_tls_ =
        *crypto::MakeTlsServer(authority_, {"127.0.0.1", "localhost"}, now - 60, now + 3600);
    issuer_seed_ = Seed("issuer", 0);
    verifier_ =
        trust::NewCertificateVerifier(crypto::Ed25519Public(issuer_seed_.Reveal()), *clock_);
    std::string pattern = std::filesystem::temp_directory_path() / "chorus-federation-XXXXXX";
    dir_ = mkdtemp(pattern.data());
  }
  ~Federation() override {
    clients_.clear();
    coordinator_.reset();
    std::filesystem::remove_all(dir_);
  }

  Status Serve(TaskSpec task, Store& store, int port = 0) {
    CoordinatorOptions options;
    options.listen = "127.0.0.1:" + std::to_string(port);
    options.tls_certificate_pem = server_tls_.certificate_pem;
    options.tls_key_pem = server_tls_.key_pem;
    options.signing_seed = Seed("coordinator", 0);
    options.task = std::move(task);
    options.experiment_seed = 5;
    CHORUS_TRY_ASSIGN(coordinator_,
                      Coordinator::Start(std::move(options), store, *verifier_, *clock_, log_));
    return OkStatus();
  }

  ClientOptions OptionsFor(uint64_t client) {
    ClientOptions options;
    options.server = "127.0.0.1:" + std::to_string(coordinator_->port());
    options.tls_roots_pem = authority_.certificate_pem;
    options.coordinator = crypto::Ed25519Public(Seed("coordinator", 0).Reveal());
    options.identity_seed = Seed("client", client);
    trust::Certificate certificate;
    certificate.serial = client;
    certificate.not_before = clock_->UnixSeconds() - 60;
    certificate.not_after = clock_->UnixSeconds() + 3600;
    certificate.subject = crypto::Ed25519Public(options.identity_seed.Reveal());
    options.certificate = trust::IssueCertificate(certificate, issuer_seed_.Reveal());
    options.policy.allow_plain = true;
    options.policy.uploads_per_model_max = 0;
    options.state_dir = dir_ / ("device-" + std::to_string(client));
    return options;
  }

  // A client of an experiment: trains alike in every run. It is cut off before its `cut_before`-th
  // answer.
  static constexpr size_t kNever = SIZE_MAX;
  void Join(uint64_t client, Examples examples, size_t cut_before = kNever) {
    ClientOptions options = OptionsFor(client);
    std::unique_ptr<Transport> transport =
        client::NewGrpcTransport({options.server, options.tls_roots_pem, false});
    if (cut_before != kNever) {
      transport = std::make_unique<CutTransport>(std::move(transport), cut_before);
    }
    Result<std::unique_ptr<Client>> started = client::StartExperimentOver(
        std::move(transport), std::move(options), std::move(examples), *verifier_, *clock_, log_,
        {"5/client-" + std::to_string(client)});
    ASSERT_THAT(started, IsOk());
    clients_.push_back(*std::move(started));
  }

  // The next event of `kind`, in order; none after `wait`.
  std::optional<CoordinatorEvent> Await(CoordinatorEvent::Kind kind, seconds wait = seconds(240)) {
    const Time end = clock_->Now() + wait;
    while (clock_->Now() < end) {
      for (const CoordinatorEvent& event : coordinator_->Poll(milliseconds(50))) {
        pending_.push_back(event);
      }
      while (!pending_.empty()) {
        const CoordinatorEvent event = pending_.front();
        pending_.pop_front();
        if (event.kind == kind) return event;
      }
    }
    return std::nullopt;
  }

  std::optional<ClientEvent> AwaitClient(size_t index, ClientEvent::Kind kind,
                                         seconds wait = seconds(120)) {
    const Time end = clock_->Now() + wait;
    while (clock_->Now() < end) {
      for (const ClientEvent& event : clients_[index]->Poll(milliseconds(50))) {
        if (event.kind == kind) return event;
      }
    }
    return std::nullopt;
  }

  // Rounds over `clients` with nobody lost; the model they end with.
  Weights ModelOf(Protocol protocol, const std::vector<uint64_t>& clients, uint32_t rounds) {
    const std::unique_ptr<Store> store = NewMemoryStore();
    TaskSpec task = SmallTask(protocol, static_cast<uint32_t>(clients.size()));
    task.rounds = rounds;
    EXPECT_THAT(Serve(task, *store), IsOk());
    for (const uint64_t client : clients) Join(client, Clouds(client));
    EXPECT_TRUE(Await(CoordinatorEvent::Kind::kTaskComplete).has_value());
    Weights weights = coordinator_->CurrentWeights();
    clients_.clear();
    coordinator_.reset();
    pending_.clear();
    std::filesystem::remove_all(dir_);
    return weights;
  }

  std::unique_ptr<Clock> clock_;
  SilentLog log_;
  crypto::TlsIdentity authority_;
  crypto::TlsIdentity server_tls_;
  SecretBytes issuer_seed_;
  std::unique_ptr<IdentityVerifier> verifier_;
  std::filesystem::path dir_;
  std::unique_ptr<Coordinator> coordinator_;
  std::vector<std::unique_ptr<Client>> clients_;
  std::deque<CoordinatorEvent> pending_;
};

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
  static const char* const kNames[] = {"Training", "Keys", "Shares", "Input", "Acks", "Unmask"};
  return kNames[test.param];
}

INSTANTIATE_TEST_SUITE_P(Federation, CutInStep, testing::Range<size_t>(0, 6), &StepName);

TEST_P(CutInStep, TheRoundEndsWithTheExactSumOfTheSurvivors) {
  const size_t step = GetParam();
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
  *deadlines[step] = seconds(6);  // what the cut costs
  ASSERT_THAT(Serve(task, *store), IsOk());
  for (uint64_t client = 0; client < 20; ++client) {
    Join(client, Clouds(client), client % 5 == 1 ? step : kNever);
  }
  const auto ended = Await(CoordinatorEvent::Kind::kRoundEnded);
  ASSERT_TRUE(ended.has_value());
  ASSERT_EQ(ended->round.state, RoundState::kCommitted) << ended->round.reason;
  EXPECT_EQ(ended->round.invited, 20U);
  EXPECT_EQ(ended->round.contributors, survivors.size());
  ASSERT_GT(ended->round.dropouts.size(), step);
  EXPECT_EQ(ended->round.dropouts[step], 4U);
  EXPECT_EQ(coordinator_->CurrentWeights(), expected);
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

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
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
  const Weights before = coordinator_->CurrentWeights();
  ASSERT_EQ(before.size(), 100'010'000U);
  for (uint64_t client = 0; client < 3; ++client) Join(client, Clouds(client, 10'000, 20));
  const auto ended = Await(CoordinatorEvent::Kind::kRoundEnded, seconds(500));
  ASSERT_TRUE(ended.has_value());
  ASSERT_EQ(ended->round.state, RoundState::kCommitted) << ended->round.reason;
  EXPECT_EQ(ended->round.contributors, 3U);
  EXPECT_GT(ended->round.bytes_down, 3U * 400'040'000U);
  EXPECT_NE(coordinator_->CurrentWeights(), before);
}
#endif

}  // namespace
}  // namespace chorus
