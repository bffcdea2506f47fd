// The clients of the load benchmark: thousands in a process, each with a connection of its own and
// no thread. They speak the protocol's bytes without the client library, so that what is measured
// is the server; only the round of secure aggregation has clients of the library.
#include <grpcpp/alarm.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <sstream>

#include "aggregation/protocols.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "bench.h"
#include "chorus/client.h"
#include "load.h"
#include "math/math.h"
#include "trust/trust.h"
#include "wire/wire.h"

namespace chorus::bench {
namespace {

// Counts down to nothing.
class Countdown {
 public:
  explicit Countdown(size_t count) : left_(count) {}
  void Done() {
    const std::lock_guard lock(mutex_);
    --left_;
    done_.notify_all();
  }
  void Wait() {
    std::unique_lock lock(mutex_);
    done_.wait(lock, [this] { return left_ == 0; });
  }
  // Gives up on the last few when none of them came for so long.
  void WaitWhileItMoves(std::chrono::seconds pause, size_t last) {
    std::unique_lock lock(mutex_);
    for (size_t before = left_; left_ > 0; before = left_) {
      const bool moved = done_.wait_for(lock, pause, [&] { return left_ < before; });
      if (!moved && left_ <= last) return;
    }
  }

 private:
  std::mutex mutex_;
  std::condition_variable done_;
  size_t left_;
};

std::atomic<uint64_t> g_errors{0};

void CountError(const grpc::Status& status) {
  if (g_errors++ == 0) {
    std::fprintf(stderr, "load: a call failed: %d %s\n", status.error_code(),
                 status.error_message().c_str());
  }
}

std::shared_ptr<grpc::Channel> Connect(const Scene& scene) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 120'000);  // one attempt may take this long
  arguments.SetMaxReceiveMessageSize(-1);
  std::shared_ptr<grpc::ChannelCredentials> credentials = grpc::InsecureChannelCredentials();
  if (scene.tls) {
    grpc::SslCredentialsOptions tls;
    tls.pem_root_certs = scene.Read("authority.pem");
    credentials = grpc::SslCredentials(tls);
  }
  return grpc::CreateCustomChannel(scene.address, credentials, arguments);
}

// A message and, where there is any, what lies behind it: not copied, so it must outlive the call.
// On two cores what the clients do is taken from the server.
grpc::ByteBuffer BufferOf(BytesView message, BytesView behind) {
  const std::array<grpc::Slice, 2> slices = {
      grpc::Slice(message.data(), message.size()),
      grpc::Slice(behind.data(), behind.size(), grpc::Slice::STATIC_SLICE)};
  return grpc::ByteBuffer(slices.data(), behind.empty() ? 1 : 2);
}

// What stands before the data of an UploadRequest, whose last field it is here.
Bytes HeadOfUpload(const wire::UploadRequest& without_data, size_t data_bytes) {
  constexpr uint8_t kDataField = 6U << 3U | 2U;  // of UploadRequest, as bytes
  Bytes head = wire::Encode(without_data);
  head.push_back(kDataField);
  for (; data_bytes >= 0x80; data_bytes >>= 7U) {
    head.push_back(static_cast<uint8_t>(0x80 | (data_bytes & 0x7F)));
  }
  head.push_back(static_cast<uint8_t>(data_bytes));
  return head;
}

Bytes BytesIn(const grpc::ByteBuffer& buffer) {
  std::vector<grpc::Slice> slices;
  Bytes bytes;
  if (!buffer.Dump(&slices).ok()) return bytes;
  for (const grpc::Slice& slice : slices) bytes.insert(bytes.end(), slice.begin(), slice.end());
  return bytes;
}

// One connection, with one call at a time. Thread-compatible.
class Caller {
 public:
  using Done = std::function<void(const grpc::Status&, Bytes)>;

  explicit Caller(const Scene& scene) : channel_(Connect(scene)), stub_(channel_) {}

  void Call(const std::string& path, BytesView request, Done done, BytesView behind = {}) {
    done_ = std::move(done);
    context_.emplace();
    request_ = BufferOf(request, behind);
    answer_ = grpc::ByteBuffer();
    stub_.UnaryCall(&*context_, path, grpc::StubOptions(), &request_, &answer_,
                    [this](const grpc::Status& status) {
                      const Done done_now = std::move(done_);
                      done_now(status, BytesIn(answer_));
                    });
  }
  grpc::GenericStub& stub() { return stub_; }
  void Cancel() {
    if (context_) context_->TryCancel();
  }

 private:
  std::shared_ptr<grpc::Channel> channel_;
  grpc::GenericStub stub_;
  std::optional<grpc::ClientContext> context_;
  grpc::ByteBuffer request_;
  grpc::ByteBuffer answer_;
  Done done_;
};

std::string PathOf(std::string_view method) {
  return "/chorus.v1.Coordinator/" + std::string(method);
}

wire::CheckInRequest SignedCheckIn(uint64_t client, const Digest& challenge, Bytes token) {
  const Bytes seed = IdentitySeed(client);
  trust::Certificate certificate{.serial = client, .not_after = int64_t{1} << 40U};
  certificate.subject = crypto::Ed25519Public(seed);
  wire::CheckInRequest request;
  request.challenge = challenge;
  request.identity = certificate.subject;
  request.evidence = trust::IssueCertificate(certificate, Bytes(32, kIssuerSeed));
  const PublicKey coordinator = crypto::Ed25519Public(Bytes(32, kCoordinatorSeed));
  request.signature = crypto::Ed25519Sign(
      seed, crypto::LabeledHash("CHORUS1/check-in", {coordinator, challenge, request.identity,
                                                     crypto::Sha256(request.evidence)}));
  request.token = std::move(token);
  return request;
}

// What all uploads of a session are: in the plain protocol everybody's bytes are the same when
// everybody's numbers are.
class Updates {
 public:
  Updates(uint64_t dim, uint32_t cohort) {
    const EncodingSpec spec;
    const auto encoding = math::FixedPointFor(dim, ClipSpec(), spec, cohort);
    const std::vector<float> update(dim, 1e-4F);
    const std::unique_ptr<Rng> rng = crypto::NewSystemRng();
    const auto input = math::Encode(
        *encoding, {.update = update, .examples = 10, .evaluated = 10, .accuracy = 0.5, .loss = 1},
        *rng);
    packed_.resize(math::PackedBytes(math::DimOf(*input), encoding->bits));
    math::PackInto(*input, encoding->bits, packed_);
  }
  struct Answer {
    Digest sid0{};
    Bytes bytes;
    Digest sha256{};
  };
  // The answer to a question, made once a session.
  std::shared_ptr<const Answer> To(BytesView question) {
    const BytesView params = question.first(aggregation::kSessionParamsBytes);
    const Digest sid0 = crypto::LabeledHash("CHORUS1/sid0", {params});
    const std::lock_guard lock(mutex_);
    if (last_ == nullptr || last_->sid0 != sid0) {
      auto next = std::make_shared<Answer>();
      next->sid0 = sid0;
      next->bytes.resize(sid0.size() + packed_.size());
      std::copy(sid0.begin(), sid0.end(), next->bytes.begin());
      std::copy(packed_.begin(), packed_.end(),
                next->bytes.begin() + static_cast<ptrdiff_t>(sid0.size()));
      next->sha256 = crypto::Sha256(next->bytes);
      last_ = std::move(next);
    }
    return last_;
  }
  size_t bytes() const { return packed_.size() + sizeof(Digest); }

 private:
  Bytes packed_;
  std::mutex mutex_;
  std::shared_ptr<const Answer> last_;
};

// From the first byte of an update to the last, of all clients of this process in each round.
class Windows {
 public:
  void Note(uint64_t round, double from, double to) {
    const std::lock_guard lock(mutex_);
    auto [window, fresh] = windows_.try_emplace(round, from, to);
    window->second.first = std::min(window->second.first, from);
    window->second.second = std::max(window->second.second, to);
  }
  std::string Text() const {
    std::ostringstream out;
    out.precision(9);
    out << std::fixed;
    for (const auto& [round, window] : windows_) {
      out << " from" << round << "=" << window.first << " to" << round << "=" << window.second;
    }
    return out.str();
  }

 private:
  std::mutex mutex_;
  std::map<uint64_t, std::pair<double, double>> windows_;
};

// A client of the coordinator that checks in, waits, and uploads prepared updates.
class LoadClient {
 public:
  enum class Until : uint8_t { kParked, kSentAway, kComplete };
  struct Shared {
    const Scene* scene = nullptr;
    Until until = Until::kParked;
    Updates* updates = nullptr;
    Windows* windows = nullptr;
    Countdown* reached = nullptr;
    // Checks in anew whatever happens, and drops out of one round in five.
    bool persistent = false;
  };

  LoadClient(const Shared& shared, uint64_t number)
      : shared_(shared), number_(number), caller_(std::make_unique<Caller>(*shared.scene)) {}

  void Start() {
    Call(wire::kChallenge, {}, [this](const Bytes& reply) {
      const auto answer = wire::Decode<wire::ChallengeReply>(reply);
      Call(wire::kCheckIn, wire::Encode(SignedCheckIn(number_, answer->challenge, {})),
           [this](const Bytes& checked) {
             session_ = wire::Decode<wire::CheckInReply>(checked)->session;
             if (shared_.until == Until::kParked) Reach();
             Next();
           });
    });
  }
  void HangUp() { caller_.reset(); }
  void Cancel() {
    stopping_ = true;
    if (caller_ != nullptr) caller_->Cancel();
  }

 private:
  using Then = std::function<void(const Bytes&)>;
  void Call(std::string_view method, const Bytes& request, Then then, BytesView behind = {}) {
    const auto again = [this, method, request, then, behind](bool) {
      Call(method, request, then, behind);
    };
    caller_->Call(
        PathOf(method), request,
        [this, then, again](const grpc::Status& status, const Bytes& reply) {
          if (stopping_) return Reach();
          if (status.ok()) return then(reply);
          const bool later = status.error_code() == grpc::StatusCode::UNAVAILABLE ||
                             status.error_code() == grpc::RESOURCE_EXHAUSTED;
          if (later && ++retries_ < 10'000) {
            const auto wait = std::chrono::milliseconds(100 + number_ % 100);
            alarm_.Set(std::chrono::system_clock::now() + wait, again);
            return;
          }
          if (shared_.persistent) return StartLater();
          CountError(status);
          Reach();
        },
        behind);
  }
  void Reach() {
    if (!reached_.exchange(true)) shared_.reached->Done();
  }
  void StartLater() {
    done_ = 0;
    alarm_.Set(std::chrono::system_clock::now() + std::chrono::milliseconds(500 + number_ % 500),
               [this](bool) { Start(); });
  }
  void Next() {
    Call(wire::kNext, wire::Encode(wire::NextRequest{.session = session_, .done = done_}),
         [this](const Bytes& reply) {
           Result<wire::NextReply> next = wire::Decode<wire::NextReply>(reply);
           sequence_ = next->sequence;
           if (const auto* wait = std::get_if<wire::Wait>(&next->what)) return Hear(*wait);
           if (auto* invitation = std::get_if<wire::Invitation>(&next->what)) {
             // Of a crowd, those who are invited train for ever, and the others wait.
             if (shared_.updates == nullptr) return Reach();
             round_ = invitation->round;
             answer_ = nullptr;
             return Upload();
           }
           if (auto* question = std::get_if<wire::Question>(&next->what)) {
             answer_ = shared_.updates->To(question->data);
             offset_ = 0;
             announced_ = answer_->bytes.size() <= limits::kChunkBytesMax;
             began_ = WallSeconds();
             if (shared_.persistent && (round_ * 7 + number_ * 3) % 5 == 0) return StartLater();
             return Upload();
           }
           done_ = sequence_;
           Next();
         });
  }
  void Hear(const wire::Wait& wait) {
    if (wait.hang_up || wait.complete) return Reach();
    Next();
  }
  void Upload() {
    wire::UploadRequest request;
    request.session = session_;
    request.sequence = sequence_;
    BytesView chunk;
    if (answer_ != nullptr) {
      const BytesView rest = BytesView(answer_->bytes).subspan(offset_);
      // Announced, as the library does it, and then sent.
      chunk = rest.first(announced_ ? std::min(rest.size(), limits::kChunkBytesMax) : 0);
      request.offset = offset_;
      request.total_bytes = answer_->bytes.size();
      request.sha256 = answer_->sha256;
    } else {
      request.sha256 = crypto::Sha256({});
    }
    const Bytes head = chunk.empty() ? wire::Encode(request) : HeadOfUpload(request, chunk.size());
    const auto then = [this](const Bytes& reply) {
      offset_ = static_cast<size_t>(wire::Decode<wire::UploadReply>(reply)->received);
      announced_ = true;
      if (answer_ != nullptr && offset_ < answer_->bytes.size()) return Upload();
      if (answer_ != nullptr && shared_.windows != nullptr)
        shared_.windows->Note(round_, began_, WallSeconds());
      done_ = sequence_;
      Next();
    };
    Call(wire::kUpload, head, then, chunk);
  }

  const Shared shared_;
  const uint64_t number_;
  std::unique_ptr<Caller> caller_;
  wire::SessionToken session_{};
  uint64_t done_ = 0;
  uint64_t sequence_ = 0;
  uint64_t round_ = 0;
  uint64_t retries_ = 0;
  std::shared_ptr<const Updates::Answer> answer_;
  size_t offset_ = 0;
  bool announced_ = false;
  double began_ = 0;
  grpc::Alarm alarm_;
  std::atomic<bool> reached_{false};
  std::atomic<bool> stopping_{false};
};

// A stream of chunks that ends with the server's answer.
class BareUpload final : public grpc::ClientBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  BareUpload(Caller& caller, BytesView update, std::function<void()> done)
      : update_(update), done_(std::move(done)) {
    caller.stub().PrepareBidiStreamingCall(&context_, "/bare/Stream", grpc::StubOptions(), this);
    StartRead(&answer_);
    Write();
    StartCall();
  }
  void OnWriteDone(bool ok) override {
    if (ok && offset_ < update_.size()) Write();
  }
  void OnDone(const grpc::Status& status) override {
    if (!status.ok()) CountError(status);
    const std::function<void()> done = std::move(done_);
    delete this;
    done();
  }

 private:
  void Write() {
    const BytesView rest = update_.subspan(offset_);
    const BytesView chunk = rest.first(std::min(rest.size(), limits::kChunkBytesMax));
    offset_ += chunk.size();
    message_ = BufferOf({}, chunk);
    if (offset_ == update_.size()) {
      StartWriteLast(&message_, grpc::WriteOptions());
    } else {
      StartWrite(&message_);
    }
  }
  grpc::ClientContext context_;
  grpc::ByteBuffer message_;
  grpc::ByteBuffer answer_;
  const BytesView update_;
  size_t offset_ = 0;
  std::function<void()> done_;
};

// --- what a process of clients does ---

// Makes the prepared calls as fast as its connections allow: one at a time on each.
std::string CallAll(std::vector<std::unique_ptr<Caller>>& callers, const std::string& path,
                    const std::vector<Bytes>& requests) {
  std::atomic<size_t> next{0};
  std::vector<double> seconds(requests.size());
  Countdown done(callers.size());
  const std::function<void(Caller&)> call = [&](Caller& caller) {
    const size_t mine = next++;
    if (mine >= requests.size()) return done.Done();
    const double began = WallSeconds();
    caller.Call(path, requests[mine], [&, mine, began](const grpc::Status& status, const Bytes&) {
      seconds[mine] = WallSeconds() - began;
      if (!status.ok()) CountError(status);
      call(caller);
    });
  };
  const double began = WallSeconds();
  for (const auto& caller : callers) call(*caller);
  done.Wait();
  const double took = WallSeconds() - began;
  std::sort(seconds.begin(), seconds.end());
  std::ostringstream out;
  out << "calls=" << requests.size() << " seconds=" << took
      << " p99=" << seconds[seconds.size() * 99 / 100];
  return out.str();
}

std::vector<Bytes> PreparedCheckIns(Caller& caller, const Scene& scene, uint64_t first,
                                    size_t count) {
  std::ifstream tokens(scene.folder + "/tokens");
  std::string token;
  for (uint64_t i = 0; i < first; ++i) std::getline(tokens, token);
  std::vector<Bytes> requests;
  for (size_t i = 0; i < count && std::getline(tokens, token); ++i) {
    Countdown done(1);
    Bytes challenge;
    caller.Call(PathOf(wire::kChallenge), {}, [&](const grpc::Status& status, const Bytes& reply) {
      if (!status.ok()) CountError(status);
      challenge = reply;
      done.Done();
    });
    done.Wait();
    requests.push_back(wire::Encode(
        SignedCheckIn(first + i, wire::Decode<wire::ChallengeReply>(challenge)->challenge,
                      Bytes(token.begin(), token.end()))));
  }
  return requests;
}

// A trainer that has trained already.
class Prepared final : public Trainer {
 public:
  Status Accept(const TaskSpec&) override { return OkStatus(); }
  Result<TrainedUpdate> Train(const TaskSpec&, uint64_t, std::span<const float> weights,
                              const Cancel&) override {
    return TrainedUpdate{.update = Weights(weights.size(), 1e-4F),
                         .examples = 10,
                         .evaluated = 10,
                         .accuracy = 0.5,
                         .loss = 1};
  }
};

// Clients of the library, until their task is complete.
std::string PlayLibrary(const Scene& scene, uint64_t first, size_t count) {
  const std::unique_ptr<Clock> clock = NewSystemClock();
  const std::unique_ptr<LogSink> log = NewStderrLogSink(LogLevel::kError);
  const std::unique_ptr<IdentityVerifier> verifier =
      trust::NewCertificateVerifier(crypto::Ed25519Public(Bytes(32, kIssuerSeed)), *clock);
  Prepared trainer;
  std::vector<std::unique_ptr<Client>> clients;
  for (uint64_t number = first; number < first + count; ++number) {
    ClientOptions options;
    options.server = scene.address;
    options.plaintext = !scene.tls;
    if (scene.tls) options.tls_roots_pem = scene.Read("authority.pem");
    options.coordinator = crypto::Ed25519Public(Bytes(32, kCoordinatorSeed));
    options.identity_seed = SecretBytes(IdentitySeed(number));
    options.certificate = SignedCheckIn(number, {}, {}).evidence;
    options.state_dir = scene.folder + "/client-" + std::to_string(number);
    std::filesystem::create_directories(options.state_dir);
    auto started = Client::Start(std::move(options), trainer, *verifier, *clock, *log);
    if (!started.ok()) {
      std::fprintf(stderr, "load: %s\n", started.status().ToString().c_str());
      return "errors=1";
    }
    clients.push_back(*std::move(started));
  }
  size_t counted = 0;
  size_t lost = 0;
  for (const auto& client : clients) {
    for (bool stopped = false; !stopped;) {
      for (const ClientEvent& event : client->Poll(std::chrono::milliseconds(1'000))) {
        counted += event.kind == ClientEvent::Kind::kContributed ? 1 : 0;
        lost += event.kind == ClientEvent::Kind::kRoundLost ? 1 : 0;
        stopped = stopped || event.kind == ClientEvent::Kind::kStopped;
      }
    }
  }
  return "counted=" + std::to_string(counted) + " lost=" + std::to_string(lost);
}

// Streams an update on each connection, round after round.
std::string PlayBareUploads(std::vector<std::unique_ptr<Caller>>& callers, BytesView update,
                            uint64_t rounds) {
  Windows windows;
  for (uint64_t round = 1; round <= rounds; ++round) {
    Countdown done(callers.size());
    const double began = WallSeconds();
    for (const auto& caller : callers) {
      new BareUpload(*caller, update, [&done] { done.Done(); });
    }
    done.Wait();
    windows.Note(round, began, WallSeconds());
  }
  return "errors=" + std::to_string(g_errors) + " bytes=" + std::to_string(update.size()) +
         windows.Text();
}

std::vector<std::unique_ptr<Caller>> Callers(const Scene& scene, size_t count) {
  std::vector<std::unique_ptr<Caller>> callers;
  for (size_t i = 0; i < count; ++i) callers.push_back(std::make_unique<Caller>(scene));
  return callers;
}

// Clients that hold their calls until the process is told to end.
void PlayParked(std::vector<std::unique_ptr<Caller>>& callers) {
  std::string line;
  Countdown ended(callers.size());
  for (const auto& caller : callers) {
    caller->Call("/bare/Park", {}, [&ended](const grpc::Status&, const Bytes&) { ended.Done(); });
  }
  Answer("parked=1");
  while (NextCommand(line)) Answer("parked=1");
  for (const auto& caller : callers) caller->Cancel();
  ended.Wait();
}

constexpr size_t kPlaces = 100;  // where clients are sent away beyond these

void PlayCrowd(const LoadClient::Shared& shared, uint64_t first, size_t count) {
  LoadClient::Shared mine = shared;
  Countdown reached(count);
  mine.reached = &reached;
  std::vector<std::unique_ptr<LoadClient>> crowd;
  for (uint64_t number = first; number < first + count; ++number) {
    crowd.push_back(std::make_unique<LoadClient>(mine, number));
    crowd.back()->Start();
  }
  if (shared.until == LoadClient::Until::kSentAway) {
    // Whoever comes when another client's wait is over gets its place, and is not sent away.
    reached.WaitWhileItMoves(std::chrono::seconds(3), kPlaces);
    for (const auto& client : crowd) client->Cancel();
    reached.Wait();
    crowd.clear();
  } else {
    reached.Wait();
  }
  const std::string windows = shared.windows != nullptr ? shared.windows->Text() : "";
  Answer("errors=" + std::to_string(g_errors) +
         (shared.updates != nullptr ? " bytes=" + std::to_string(shared.updates->bytes()) : "") +
         windows);
  std::string line;
  while (NextCommand(line)) Answer("errors=" + std::to_string(g_errors));
  // Calls that are parked end with the process.
  std::fflush(stdout);
  _Exit(0);
}

// Nonsense to every method, as fast as it is refused, until the process is ended.
void PlayHostile(std::vector<std::unique_ptr<Caller>>& callers) {
  std::atomic<uint64_t> sent{0};
  const std::function<void(Caller&)> call = [&](Caller& caller) {
    constexpr std::string_view kMethods[] = {wire::kChallenge, wire::kCheckIn,  wire::kNext,
                                             wire::kUpload,    wire::kDownload, wire::kGetStatus};
    const uint64_t number = sent++;
    const Bytes nonsense(number % 16 == 0 ? 2 << 20 : number * 37 % 5'000,
                         static_cast<uint8_t>(number));
    caller.Call(PathOf(kMethods[number % std::size(kMethods)]), nonsense,
                [&](const grpc::Status&, const Bytes&) { call(caller); });
  };
  for (const auto& caller : callers) call(*caller);
  Answer("hostile=1");
  std::string line;
  while (NextCommand(line)) Answer("sent=" + std::to_string(sent));
  std::fflush(stdout);
  _Exit(0);
}

}  // namespace

int PlayClients(const Scene& scene, const Words& options) {
  RaiseDescriptorLimit();
  const std::string mode = options.at("mode");
  const auto count = static_cast<size_t>(NumberIn(options, "count"));
  const uint64_t first = NumberIn(options, "first");
  const auto calls = static_cast<size_t>(NumberIn(options, "calls"));
  std::string line;
  if (mode == "library") {
    Answer(PlayLibrary(scene, first, count));
    return 0;
  }
  if (mode == "crowd" || mode == "away") {
    PlayCrowd({.scene = &scene,
               .until = mode == "away" ? LoadClient::Until::kSentAway : LoadClient::Until::kParked},
              first, count);
  }
  if (mode == "hostile") {
    std::vector<std::unique_ptr<Caller>> hostile = Callers(scene, count);
    PlayHostile(hostile);
  }
  if (mode == "updates" || mode == "soak") {
    Updates updates(NumberIn(options, "dim"), static_cast<uint32_t>(NumberIn(options, "cohort")));
    Windows windows;
    PlayCrowd({.scene = &scene,
               .until = LoadClient::Until::kComplete,
               .updates = &updates,
               .windows = mode == "soak" ? nullptr : &windows,
               .persistent = mode == "soak"},
              first, count);
  }
  std::vector<std::unique_ptr<Caller>> callers = Callers(scene, count);
  if (mode == "park") {
    PlayParked(callers);
    return 0;
  }
  if (mode == "stream") {
    const Updates updates(NumberIn(options, "dim"),
                          static_cast<uint32_t>(NumberIn(options, "cohort")));
    const Bytes update(updates.bytes(), 7);
    Answer(PlayBareUploads(callers, update, NumberIn(options, "rounds")));
    return 0;
  }
  const bool echo = mode == "echo";
  const std::string path = echo ? "/bare/Echo" : PathOf(wire::kCheckIn);
  const std::vector<Bytes> requests =
      echo ? std::vector<Bytes>(calls, Bytes(NumberIn(options, "payload"), 7))
           : PreparedCheckIns(*callers[0], scene, first, calls);
  // Connected before the clock runs.
  (void)CallAll(callers, echo ? path : PathOf(wire::kGetStatus), std::vector<Bytes>(4 * count));
  Answer("payload=" + std::to_string(requests.empty() ? 0 : requests[0].size()));
  if (!NextCommand(line)) return 1;
  Answer(CallAll(callers, path, requests) + " errors=" + std::to_string(g_errors));
  return 0;
}

}  // namespace chorus::bench
