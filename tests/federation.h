// Real coordinators, clients and committee members over loopback gRPC, in one process.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <deque>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "chorus/client.h"
#include "chorus/committee.h"
#include "chorus/coordinator.h"
#include "client/experiment.h"
#include "client/grpc_transport.h"
#include "crypto/crypto.h"
#include "matchers.h"
#include "test_rng.h"
#include "trust/trust.h"
#include "wire/wire.h"

namespace chorus {

using std::chrono::milliseconds;
using std::chrono::seconds;

class SilentLog final : public LogSink {
 public:
  void Write(LogLevel, std::string_view, std::span<const LogField>) override {}
};

inline SecretBytes Seed(std::string_view tag, uint64_t index) {
  const BytesView number(reinterpret_cast<const uint8_t*>(&index), sizeof(index));
  const Digest digest = crypto::LabeledHash("CHORUS1/test", {ViewOf(tag), number});
  return SecretBytes(Bytes(digest.begin(), digest.end()));
}

// Two overlapping clouds, different for each client.
inline Examples Clouds(uint64_t client, uint32_t inputs = 2, size_t count = 60) {
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

inline TaskSpec SmallTask(Protocol protocol, uint32_t clients) {
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
  task.adapt = false;  // a loaded machine is not to cost anybody its part
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
    policy_.allow_plain = true;
    policy_.allow_honest_but_curious = true;
    policy_.uploads_per_model_max = 0;
    std::string pattern = std::filesystem::temp_directory_path() / "chorus-federation-XXXXXX";
    dir_ = mkdtemp(pattern.data());
  }
  ~Federation() override {
    members_.clear();
    clients_.clear();
    coordinator_.reset();
    std::filesystem::remove_all(dir_);
  }

  Status Serve(TaskSpec task, Store& store, int port = 0) {
    CoordinatorOptions options;
    task_name_ = task.name;
    options.tasks.push_back({.task = std::move(task), .experiment_seed = 5});
    return Serve(std::move(options), store, port);
  }
  Status Serve(CoordinatorOptions options, Store& store, int port = 0) {
    options.listen = "127.0.0.1:" + std::to_string(port);
    options.tls_certificate_pem = server_tls_.certificate_pem;
    options.tls_key_pem = server_tls_.key_pem;
    options.signing_seed = Seed("coordinator", 0);
    CHORUS_TRY_ASSIGN(coordinator_,
                      Coordinator::Start(std::move(options), store, *verifier_, *clock_, log_));
    return OkStatus();
  }

  Weights CurrentWeights() const { return coordinator_->CurrentWeights(task_name_); }

  Bytes CertificateFor(const PublicKey& key, uint64_t serial) {
    trust::Certificate certificate;
    certificate.serial = serial;
    certificate.not_before = clock_->UnixSeconds() - 60;
    certificate.not_after = clock_->UnixSeconds() + 3600;
    certificate.subject = key;
    return trust::IssueCertificate(certificate, issuer_seed_.Reveal());
  }

  ClientOptions OptionsFor(uint64_t client) {
    ClientOptions options;
    options.server = "127.0.0.1:" + std::to_string(coordinator_->port());
    options.tls_roots_pem = authority_.certificate_pem;
    options.coordinator = crypto::Ed25519Public(Seed("coordinator", 0).Reveal());
    options.identity_seed = Seed("client", client);
    options.certificate =
        CertificateFor(crypto::Ed25519Public(options.identity_seed.Reveal()), client);
    options.policy = policy_;
    options.state_dir = dir_ / ("device-" + std::to_string(client));
    return options;
  }

  // A client of an experiment: trains alike in every run. It is cut off before its `cut_before`-th
  // answer.
  static constexpr size_t kNever = SIZE_MAX;
  void Join(uint64_t client, Examples examples, size_t cut_before = kNever) {
    ClientOptions options = OptionsFor(client);
    std::unique_ptr<Transport> transport = client::NewGrpcTransport(
        {.server = options.server, .tls_roots_pem = options.tls_roots_pem});
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
    TaskSpec task = SmallTask(protocol, static_cast<uint32_t>(clients.size()));
    task.rounds = rounds;
    return ModelOf(task, clients);
  }
  Weights ModelOf(const TaskSpec& task, const std::vector<uint64_t>& clients) {
    const std::unique_ptr<Store> store = NewMemoryStore();
    EXPECT_THAT(Serve(task, *store), IsOk());
    for (const uint64_t client : clients) Join(client, Clouds(client));
    EXPECT_TRUE(Await(CoordinatorEvent::Kind::kTaskComplete).has_value());
    Weights weights = CurrentWeights();
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
  Policy policy_;  // of everybody who joins
  std::filesystem::path dir_;
  std::unique_ptr<Coordinator> coordinator_;
  std::string task_name_;  // that it serves
  std::vector<std::unique_ptr<Client>> clients_;
  std::map<uint32_t, std::unique_ptr<CommitteeMember>> members_;  // by place on the committee
  std::deque<CoordinatorEvent> pending_;
};

}  // namespace chorus
