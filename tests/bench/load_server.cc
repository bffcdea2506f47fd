// The servers of the load benchmark: a bare one of gRPC, and a coordinator as hosts run it.
#include <absl/synchronization/mutex.h>
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/grpcpp.h>
#include <malloc.h>
#include <sched.h>
#include <sys/prctl.h>

#include <array>
#include <atomic>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <mutex>
#include <optional>
#include <sstream>
#include <thread>

#include "base/clock.h"
#include "base/log.h"
#include "chorus/coordinator.h"
#include "chorus/token.h"
#include "load.h"
#include "trust/trust.h"

namespace chorus::bench {
namespace {

constexpr char kOwnThreads[] = "load-own";  // what our threads are called, and gRPC's are not
constexpr int kMessageBytesMax = 8 << 20;

// --- what a process costs ---

uint64_t StatusKilobytes(const std::string& name) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(name + ":")) return std::stoull(line.substr(name.size() + 1));
  }
  return 0;
}

uint64_t CpuMicroseconds() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000 + static_cast<uint64_t>(now.tv_nsec) / 1'000;
}

uint64_t ThreadMicroseconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000 + static_cast<uint64_t>(now.tv_nsec) / 1'000;
}

// CPU time of the threads that are not gRPC's: of the coordinator, its door and its pool.
uint64_t OwnThreadsMicroseconds() {
  uint64_t ticks = 0;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::ifstream name(task.path() / "comm");
    std::string comm;
    std::getline(name, comm);
    if (comm != kOwnThreads) continue;
    std::ifstream stat(task.path() / "stat");
    std::string text;
    std::getline(stat, text);
    std::istringstream fields(text.substr(text.rfind(')') + 2));
    std::string skipped;
    for (int i = 0; i < 11; ++i) fields >> skipped;
    uint64_t user = 0;
    uint64_t system = 0;
    fields >> user >> system;
    ticks += user + system;
  }
  return ticks * 10'000;  // a hundred a second, as the kernel tells everybody
}

std::string Costs(uint64_t store_us, uint64_t rounds) {
  const struct mallinfo2 heap = mallinfo2();
  std::ostringstream out;
  out << "rss_kb=" << StatusKilobytes("VmRSS") << " peak_kb=" << StatusKilobytes("VmHWM")
      << " heap=" << heap.uordblks + heap.hblkhd << " cpu_us=" << CpuMicroseconds()
      << " own_us=" << OwnThreadsMicroseconds() << " store_us=" << store_us << " rounds=" << rounds;
  return out.str();
}

// --- the bare server ---

// Answers each message with itself, in calls of one message and in streams of many, but those of
// /bare/Park never, and those of /bare/Stream with one empty message at their end.
class BareCall final : public grpc::ServerGenericBidiReactor {
 public:
  explicit BareCall(const std::string& method)
      : park_(method == "/bare/Park"), stream_(method == "/bare/Stream") {
    StartRead(&message_);
  }
  void OnReadDone(bool ok) override {
    if (!ok) {
      if (!stream_) return FinishOnce(grpc::Status::OK);
      const grpc::Slice nothing;  // a buffer without any slice is no message
      message_ = grpc::ByteBuffer(&nothing, 1);
      return StartWriteAndFinish(&message_, grpc::WriteOptions(), grpc::Status::OK);
    }
    if (park_) return;
    if (stream_) return StartRead(&message_);
    StartWriteAndFinish(&message_, grpc::WriteOptions(), grpc::Status::OK);
  }
  void OnCancel() override {
    if (park_) FinishOnce(grpc::Status::CANCELLED);
  }
  void OnDone() override { delete this; }

 private:
  // A caller that leaves before its message was read ends the read and cancels, on two threads.
  void FinishOnce(const grpc::Status& status) {
    if (!finished_.exchange(true)) Finish(status);
  }

  const bool park_;
  const bool stream_;
  std::atomic<bool> finished_ = false;
  grpc::ByteBuffer message_;
};

class BareService final : public grpc::CallbackGenericService {
  grpc::ServerGenericBidiReactor* CreateReactor(
      grpc::GenericCallbackServerContext* context) override {
    return new BareCall(context->method());
  }
};

// --- the coordinator ---

// Counts the CPU time spent in the store.
class TimedStore final : public Store {
 public:
  explicit TimedStore(std::unique_ptr<Store> store) : store_(std::move(store)) {}
  Status RunTransaction(std::string_view name,
                        const std::function<Status(Transaction&)>& function) override {
    const uint64_t before = ThreadMicroseconds();
    const Status status = store_->RunTransaction(name, function);
    microseconds_ += ThreadMicroseconds() - before;
    return status;
  }
  bool shared() const override { return store_->shared(); }
  uint64_t microseconds() const { return microseconds_; }

 private:
  const std::unique_ptr<Store> store_;
  std::atomic<uint64_t> microseconds_{0};
};

// The system's, which can be moved on.
class MovableClock final : public Clock {
 public:
  Time Now() const override { return system_->Now() + Time{moved_.load()}; }
  int64_t UnixSeconds() const override { return system_->UnixSeconds(); }
  void Move(uint64_t milliseconds) { moved_ += static_cast<int64_t>(milliseconds); }

 private:
  const std::unique_ptr<Clock> system_ = NewSystemClock();
  std::atomic<int64_t> moved_{0};
};

// Whoever has an account may come: the token is the proof.
class AnyIdentity final : public IdentityVerifier {
 public:
  Result<Identity> Verify(const PublicKey&, BytesView) const override { return Identity{}; }
};

// How many rounds the store says are committed.
uint64_t StoredRounds(Store& store) {
  const Digest name = crypto::Sha256(ViewOf("load"));
  TaskId id{};
  std::copy_n(name.begin(), id.size(), id.begin());
  uint64_t rounds = 0;
  const Status read = store.RunTransaction("look", [&](Transaction& transaction) -> Status {
    CHORUS_TRY_ASSIGN(const std::optional<TaskRecord> task, transaction.FindTask(id));
    rounds = task.has_value() ? task->rounds_committed : 0;
    return OkStatus();
  });
  return read.ok() ? rounds : 0;
}

TaskSpec TaskOf(const Words& options) {
  const auto clients = static_cast<uint32_t>(NumberIn(options, "cohort"));
  TaskSpec task;
  task.name = "load";
  // So many parameters, exactly, of those that are powers of ten from 1,000.
  const uint64_t dim = NumberIn(options, "dim");
  const auto units = static_cast<uint32_t>(dim < 100'000 ? dim / 10 : 1'000);
  task.model.inputs = static_cast<uint32_t>(dim / units) - 1;
  task.model.layers = {LayerSpec{.units = units}};
  task.model.loss = Loss::kSquaredError;
  task.rounds = static_cast<uint32_t>(NumberIn(options, "rounds"));
  task.cohort = {.minimum = clients, .target = clients, .maximum = clients};
  if (NumberIn(options, "minimum") != 0) {  // some may drop out, and soon
    task.cohort.minimum = static_cast<uint32_t>(NumberIn(options, "minimum"));
    task.protocol = Protocol::kPlain;
    task.deadlines = {.check_in = std::chrono::seconds(2),
                      .train = std::chrono::seconds(5),
                      .upload = std::chrono::seconds(5)};
    return task;
  }
  task.deadlines.check_in = std::chrono::hours(24);
  task.deadlines.train = std::chrono::minutes(20);
  task.deadlines.upload = std::chrono::minutes(20);
  if (NumberIn(options, "secagg") == 0) {
    task.protocol = Protocol::kPlain;
    return task;
  }
  task.protocol = Protocol::kSecAgg;
  task.secagg = {.graph = SharingGraph::kSelfSelected};
  for (auto* deadline : {&task.deadlines.choose, &task.deadlines.share, &task.deadlines.consistency,
                         &task.deadlines.unmask}) {
    *deadline = std::chrono::minutes(10);
  }
  return task;
}

void PrepareAsTheToolDoes() {
  ::setenv("GRPC_EXPERIMENTS", "-tcp_read_chunks", /*replace=*/0);
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  const sched_param unused{};
  static_cast<void>(::sched_setscheduler(0, SCHED_BATCH, &unused));
  mallopt(M_ARENA_MAX, 4);
}

}  // namespace

int PlayBareServer(const Scene& scene) {
  RaiseDescriptorLimit();
  BareService service;
  grpc::ServerBuilder builder;
  int port = 0;
  std::shared_ptr<grpc::ServerCredentials> credentials = grpc::InsecureServerCredentials();
  if (scene.tls) {
    grpc::SslServerCredentialsOptions tls;
    tls.pem_key_cert_pairs.push_back({scene.Read("server.key"), scene.Read("server.pem")});
    credentials = grpc::SslServerCredentials(tls);
  }
  builder.AddListeningPort("127.0.0.1:0", credentials, &port);
  builder.SetMaxReceiveMessageSize(kMessageBytesMax);
  builder.RegisterCallbackGenericService(&service);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (port == 0) return 1;
  Answer("port=" + std::to_string(port));
  for (std::string line; NextCommand(line);) Answer(Costs(0, 0));
  server->Shutdown(std::chrono::system_clock::now());
  return 0;
}

int PlayCoordinator(const Scene& scene, const Words& options) {
  RaiseDescriptorLimit();
  PrepareAsTheToolDoes();
  ::prctl(PR_SET_NAME, kOwnThreads);
  MovableClock clock;
  const std::unique_ptr<LogSink> log = NewStderrLogSink(LogLevel::kError);
  std::unique_ptr<Store> chosen = NewMemoryStore();
  if (NumberIn(options, "sqlite") != 0) {
    Result<std::unique_ptr<Store>> sqlite = NewSqliteStore(scene.folder + "/state.sqlite");
    if (!sqlite.ok()) return 1;
    chosen = *std::move(sqlite);
  }
  TimedStore store(std::move(chosen));
  std::unique_ptr<IdentityVerifier> verifier =
      trust::NewCertificateVerifier(crypto::Ed25519Public(Bytes(32, kIssuerSeed)), clock);
  CoordinatorOptions coordinator;
  coordinator.listen = "127.0.0.1:" + std::to_string(NumberIn(options, "port"));
  coordinator.plaintext = !scene.tls;
  if (scene.tls) {
    coordinator.tls_certificate_pem = scene.Read("server.pem");
    coordinator.tls_key_pem = scene.Read("server.key");
  }
  coordinator.signing_seed = SecretBytes(Bytes(32, kCoordinatorSeed));
  coordinator.tasks.push_back({.task = TaskOf(options)});
  if (const uint64_t kept = NumberIn(options, "kept"); kept != 0) {
    coordinator.retention = {.models_kept = static_cast<uint32_t>(kept), .rounds_kept = kept};
  }
  // All clients of the benchmark are of one address.
  coordinator.admission.address = {};
  coordinator.pacing.connected_max = static_cast<uint32_t>(NumberIn(options, "connected"));
  std::unique_ptr<JwtVerifier> tokens;
  if (NumberIn(options, "tokens") != 0) {
    auto made = NewJwtVerifier(scene.Read("login.jwks"), {.issuer = "login", .audience = "chorus"});
    if (!made.ok()) return 1;
    tokens = *std::move(made);
    if (NumberIn(options, "certificates") == 0) verifier = std::make_unique<AnyIdentity>();
    coordinator.admission.tokens = tokens.get();
  }
  auto started = Coordinator::Start(std::move(coordinator), store, *verifier, clock, *log);
  if (!started.ok()) {
    std::fprintf(stderr, "load: %s\n", started.status().ToString().c_str());
    return 1;
  }
  Answer("port=" + std::to_string((*started)->port()));
  uint64_t committed = 0;
  uint64_t aborted = 0;
  uint64_t trouble = 0;
  for (std::string line; NextCommand(line);) {
    const Words command = ParseWords(line);
    if (command.contains("trim")) malloc_trim(0);
    if (command.contains("move")) clock.Move(NumberIn(command, "move"));
    const uint64_t wanted = NumberIn(command, "until");
    do {
      for (const CoordinatorEvent& event :
           (*started)->Poll(std::chrono::milliseconds(wanted > 0))) {
        trouble += event.kind == CoordinatorEvent::Kind::kTrouble ? 1 : 0;
        if (event.kind != CoordinatorEvent::Kind::kRoundEnded) continue;
        ++(event.round.state == RoundState::kCommitted ? committed : aborted);
      }
    } while (committed < wanted && aborted == 0);
    Answer(Costs(store.microseconds(), committed) + " aborted=" + std::to_string(aborted) +
           " trouble=" + std::to_string(trouble) +
           " stored=" + std::to_string(command.contains("stored") ? StoredRounds(store) : 0));
  }
  return 0;
}

}  // namespace chorus::bench
