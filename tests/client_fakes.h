// A world for client tests: a clock that tests move, and a coordinator in memory that speaks the
// wire's bytes, follows a script and can be made to misbehave.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "aggregation/protocols.h"
#include "base/limits.h"
#include "client/device_state.h"
#include "client/ledger.h"
#include "client/session.h"
#include "crypto/crypto.h"
#include "learning/learning.h"
#include "matchers.h"
#include "math/math.h"
#include "privacy/privacy.h"
#include "trust/trust.h"
#include "wire/wire.h"

namespace chorus::client {

class VirtualClock final : public Clock {
 public:
  Time Now() const override { return now; }
  int64_t UnixSeconds() const override { return 1'800'000'000 + now.count() / 1'000; }
  Time now{1'000};
};

class QuietSink final : public LogSink {
 public:
  void Write(LogLevel, std::string_view, std::span<const LogField>) override {}
};

// A folder of its own, gone with the object.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "client-XXXXXX").string();
    path_ = mkdtemp(pattern.data());
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

inline Bytes ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

inline void WriteFile(const std::string& path, BytesView bytes) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
}

inline wire::RoundOver Over(uint64_t round, bool counted) {
  return {.round = round,
          .counted = counted,
          .code = counted ? Code::kOk : Code::kAborted,
          .reason = counted ? "" : "too few clients were left"};
}

inline SecretBytes SeedOf(uint8_t number) { return SecretBytes(Bytes(crypto::kKeyBytes, number)); }

// A coordinator's side of the conversation, for one client.
class FakeCoordinator {
 public:
  struct Upload {
    Bytes data;
    uint64_t total_bytes = 0;
    Code abort_code = Code::kOk;
    bool complete = false;
  };

  FakeCoordinator() : signing_seed(SeedOf(1)) {}

  PublicKey key() const { return crypto::Ed25519Public(signing_seed.Reveal()); }
  // Puts something under the next sequence number, which it gives back.
  uint64_t Push(decltype(wire::NextReply::what) what) {
    queue[++last_sequence] = std::move(what);
    return last_sequence;
  }
  uint64_t Ask(const Bytes& body, size_t inline_bytes = SIZE_MAX) {
    const Digest sha256 = crypto::Sha256(body);
    blobs[sha256] = body;
    const auto end = static_cast<std::ptrdiff_t>(std::min(inline_bytes, body.size()));
    return Push(wire::Question{.total_bytes = body.size(),
                               .sha256 = sha256,
                               .data = Bytes(body.begin(), body.begin() + end)});
  }
  wire::Invitation InvitationTo(uint64_t round, const TaskSpec& task, const Weights& weights) {
    const auto* raw = reinterpret_cast<const uint8_t*>(weights.data());
    Bytes model(raw, raw + weights.size() * sizeof(float));
    wire::Invitation invitation{.round = round, .task = wire::EncodeTask(task)};
    const Digest words = crypto::LabeledHash("CHORUS1/task", {invitation.task});
    invitation.task_signature = crypto::Ed25519Sign(signing_seed.Reveal(), words);
    invitation.model = crypto::Sha256(model);
    invitation.model_bytes = model.size();
    blobs[invitation.model] = std::move(model);
    return invitation;
  }
  uint64_t Count(std::string_view method) const {
    return static_cast<uint64_t>(std::count(calls.begin(), calls.end(), method));
  }

  Result<Bytes> Call(std::string_view method, BytesView request) {
    calls.emplace_back(method);
    if (fault) {
      if (std::optional<Result<Bytes>> instead = fault(method, request)) return *std::move(instead);
    }
    if (method == wire::kChallenge) return wire::Encode(wire::ChallengeReply{.challenge = nonce});
    if (method == wire::kCheckIn) return CheckIn(request);
    if (method == wire::kNext) return Next(*wire::Decode<wire::NextRequest>(request));
    if (method == wire::kDownload) return Download(*wire::Decode<wire::DownloadRequest>(request));
    return Receive(*wire::Decode<wire::UploadRequest>(request));
  }

  SecretBytes signing_seed;
  Digest nonce{7};
  wire::SessionToken token{9};
  bool complete = false;
  uint64_t last_sequence = 0;
  std::map<uint64_t, decltype(wire::NextReply::what)> queue;
  std::map<Digest, Bytes> blobs;
  std::map<uint64_t, Upload> uploads;
  std::vector<std::string> calls;
  // Answers instead of the coordinator when it gives something.
  std::function<std::optional<Result<Bytes>>(std::string_view, BytesView)> fault;

 private:
  Result<Bytes> CheckIn(BytesView request) {
    const auto check_in = wire::Decode<wire::CheckInRequest>(request);
    if (!check_in.ok()) return check_in.status();
    const Digest evidence = crypto::Sha256(check_in->evidence);
    const Digest words = crypto::LabeledHash(
        "CHORUS1/check-in", {key(), check_in->challenge, check_in->identity, evidence});
    if (check_in->challenge != nonce ||
        !crypto::Ed25519Verify(check_in->identity, words, check_in->signature))
      return Unauthenticated("the check-in's signature is wrong");
    return wire::Encode(wire::CheckInReply{.session = token});
  }
  Result<Bytes> Next(const wire::NextRequest& request) {
    if (request.session != token) return Unauthenticated("no such session");
    const auto next = queue.upper_bound(request.done);
    if (next == queue.end())
      return wire::Encode(wire::NextReply{
          .sequence = request.done, .what = wire::Wait{.retry_ms = 500, .complete = complete}});
    return wire::Encode(wire::NextReply{.sequence = next->first, .what = next->second});
  }
  Result<Bytes> Download(const wire::DownloadRequest& request) {
    if (request.session != token) return Unauthenticated("no such session");
    const auto found = blobs.find(request.sha256);
    if (found == blobs.end()) return NotFound("no such content");
    const Bytes& all = found->second;
    const size_t first = std::min<size_t>(request.offset, all.size());
    const size_t size = std::min<size_t>(
        request.bytes_max > 0 ? request.bytes_max : limits::kChunkBytesMax, all.size() - first);
    const auto begin = all.begin() + static_cast<std::ptrdiff_t>(first);
    return wire::Encode(
        wire::DownloadReply{.data = Bytes(begin, begin + static_cast<std::ptrdiff_t>(size)),
                            .total_bytes = all.size()});
  }
  Result<Bytes> Receive(const wire::UploadRequest& request) {
    if (request.session != token) return Unauthenticated("no such session");
    Upload& upload = uploads[request.sequence];
    upload.abort_code = request.abort_code;
    upload.total_bytes = request.total_bytes;
    if (request.offset == upload.data.size())
      upload.data.insert(upload.data.end(), request.data.begin(), request.data.end());
    if (upload.data.size() == request.total_bytes) {
      upload.complete = true;
      if (crypto::Sha256(upload.data) != request.sha256) return DataLoss("the digest is wrong");
    }
    return wire::Encode(wire::UploadReply{.received = upload.data.size()});
  }
};

inline Examples SomeExamples(uint32_t inputs = 4, uint32_t count = 20) {
  Examples examples{.inputs = inputs, .features = {}, .labels = {}, .targets = {}};
  for (uint32_t i = 0; i < count; ++i) {
    for (uint32_t j = 0; j < inputs; ++j)
      examples.features.push_back(static_cast<float>((i * 7 + j * 3) % 11) / 11.0F);
    examples.labels.push_back(i % 2);
  }
  return examples;
}

inline TaskSpec SomeTask(Protocol protocol, uint32_t inputs = 4, uint32_t units = 2) {
  TaskSpec task;
  task.name = "test";
  task.model.inputs = inputs;
  task.model.layers = {{.units = units, .activation = Activation::kNone}};
  task.protocol = protocol;
  task.cohort = {.minimum = 3, .target = 3, .maximum = 8, .over_selection_percent = 0};
  task.secagg = {.gamma_ppm = 0, .delta_ppm = 0, .honest_min = 2};
  return task;
}

// Session parameters as a coordinator derives them from its task.
inline aggregation::SessionParams ParamsFor(const TaskSpec& task, uint64_t round,
                                            const Weights& weights) {
  aggregation::SessionParams params;
  params.protocol = task.protocol;
  const Digest name = crypto::Sha256(ViewOf(task.name));
  std::copy_n(name.begin(), params.task_id.size(), params.task_id.begin());
  params.task_hash = crypto::Sha256(wire::EncodeTask(task));
  params.round = round;
  params.model_hash = aggregation::ModelHash(learning::CanonicalModel(task.model), weights);
  params.vec_len = learning::ContributionDim(task) + math::kMetricCoordinates;
  params.bits = static_cast<uint8_t>(math::BitsFor(task.cohort.maximum, task.encoding.bound));
  params.word_bytes = static_cast<uint8_t>(math::WordBytesFor(params.bits));
  params.bound = task.encoding.bound;
  params.n_min = task.cohort.minimum;
  params.n_max = task.cohort.maximum;
  params.gamma_ppm = task.secagg.gamma_ppm;
  params.delta_ppm = task.secagg.delta_ppm;
  params.a_min = task.secagg.honest_min;
  params.dp_hash = crypto::Sha256(privacy::CanonicalPrivacy(task.clip));
  params.layout_hash = crypto::Sha256(learning::CanonicalLayout(task.model));
  params.nonce = {3};
  return params;
}

// A ledger that allows everything and forgets it.
class OpenLedger final : public Ledger {
 public:
  Status PermitAttempt(const TaskId&, uint64_t, int64_t) const override { return attempt_status; }
  Status NoteAttempt(const TaskId&, uint64_t, int64_t) override { return OkStatus(); }
  Status PermitUpload(const TaskId&, uint64_t, const Digest&, uint32_t) const override {
    return OkStatus();
  }
  Status NoteUpload(const TaskId&, uint64_t, const Digest&, uint32_t) override {
    return upload_status;
  }
  Status attempt_status;
  Status upload_status;
};

// One client and its coordinator, run in one thread under the virtual clock.
class World {
 public:
  explicit World(uint8_t client = 100, Examples data = SomeExamples(),
                 std::unique_ptr<Ledger> ledger_to_use = nullptr)
      : examples(std::move(data)),
        issuer(crypto::Ed25519Public(SeedOf(50).Reveal())),
        verifier(trust::NewCertificateVerifier(issuer, clock)),
        rng(crypto::NewSeededRng(SeedOf(client).Reveal())),
        ledger(std::move(ledger_to_use)) {
    options.coordinator = server.key();
    options.identity_seed = SeedOf(client);
    options.certificate = CertificateFor(client);
    options.state_dir = folder.path();
    if (ledger == nullptr) ledger = *Ledger::Open(folder.path());
    state = DeviceState::InFiles(folder.path());
    Renew();
  }

  static Bytes CertificateFor(uint8_t client) {
    return trust::IssueCertificate({.serial = client,
                                    .weight = 1,
                                    .not_before = 0,
                                    .not_after = 4'000'000'000,
                                    .subject = crypto::Ed25519Public(SeedOf(client).Reveal()),
                                    .issuer = {}},
                                   SeedOf(50).Reveal());
  }

  // A session as after a restart of the game.
  void Renew() {
    session = Session::Create({.options = &options,
                               .examples = &examples,
                               .trainer = trainer,
                               .state = state.get(),
                               .verifier = verifier.get(),
                               .clock = &clock,
                               .rng = rng.get(),
                               .log = &log,
                               .ledger = ledger.get(),
                               .cancel = &cancel,
                               .experiment = experiment,
                               .seen_keys = seen_keys});
  }

  // Does what the session says until `enough` or so many actions; false when they ran out.
  bool Run(const std::function<bool()>& enough, int actions = 200) {
    for (int i = 0; i < actions && !enough(); ++i) {
      Action action = session->Next();
      if (const auto* call = std::get_if<CallAction>(&action)) {
        session->Deliver(server.Call(call->method, call->request));
      } else if (const auto* wait = std::get_if<WaitAction>(&action)) {
        waits.push_back(wait->until - clock.now);
        clock.now = wait->until;
      } else if (std::holds_alternative<WorkAction>(action)) {
        session->Work();
      } else {
        stopped = std::get<StopAction>(action).status;
      }
      for (ClientEvent& event : session->TakeEvents()) events.push_back(std::move(event));
      if (stopped.has_value()) break;
    }
    return enough();
  }
  bool RunUntil(ClientEvent::Kind kind, int actions = 200) {
    return Run([&] { return Find(kind) != nullptr; }, actions);
  }
  bool RunUntilAnswered(uint64_t sequence, int actions = 200) {
    return Run([&] { return server.uploads[sequence].complete; }, actions);
  }
  const ClientEvent* Find(ClientEvent::Kind kind) const {
    for (const ClientEvent& event : events)
      if (event.kind == kind) return &event;
    return nullptr;
  }
  // Invites to `round` of `task`; gives back the invitation's sequence number.
  uint64_t Invite(uint64_t round, const TaskSpec& task) {
    if (weights.size() != learning::PublishedCount(task))
      weights.assign(learning::PublishedCount(task), 0.25F);
    return server.Push(server.InvitationTo(round, task, weights));
  }

  VirtualClock clock;
  QuietSink log;
  Cancel cancel;
  TemporaryFolder folder;
  FakeCoordinator server;
  ClientOptions options;
  Examples examples;
  PublicKey issuer;
  std::unique_ptr<IdentityVerifier> verifier;
  std::unique_ptr<Rng> rng;
  std::unique_ptr<Ledger> ledger;
  std::unique_ptr<DeviceState> state;
  Trainer* trainer = nullptr;
  std::optional<ExperimentSeed> experiment;
  aggregation::SeenKeys* seen_keys = nullptr;
  Weights weights;
  std::unique_ptr<Session> session;
  std::vector<ClientEvent> events;
  std::vector<Time> waits;
  std::optional<Status> stopped;
};

inline TaskSpec PlainTask(uint32_t inputs = 4, uint32_t units = 2) {
  TaskSpec task = SomeTask(Protocol::kPlain, inputs, units);
  task.cohort.minimum = 1;
  return task;
}

// A world whose player trusts the coordinator with plain updates.
struct PlainWorld : World {
  explicit PlainWorld(const TaskSpec& spec = PlainTask(), Examples data = SomeExamples(),
                      std::unique_ptr<Ledger> book = nullptr)
      : World(100, std::move(data), std::move(book)), task(spec) {
    options.policy.allow_plain = true;
    options.policy.cohort_min = 1;
  }
  // Invites, lets it train, and asks for the update; gives back the question's sequence number.
  uint64_t AskForUpdate(uint64_t round) {
    EXPECT_TRUE(RunUntilAnswered(Invite(round, task)));
    aggregator = *aggregation::NewAggregator({.params = ParamsFor(task, round, weights),
                                              .signing_seed = server.signing_seed.Reveal(),
                                              .verifier = verifier.get(),
                                              .parties = {1}});
    EXPECT_THAT(aggregator->Ask(), IsOk());
    return server.Ask(*aggregator->Body(1));
  }
  TaskSpec task;
  std::unique_ptr<Aggregator> aggregator;
};

}  // namespace chorus::client
