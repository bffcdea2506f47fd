// What the client costs a game: size of its shared object, memory, time of a frame, time to start.
// Games and a bare gRPC client are processes of their own, and this one is their coordinator.
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/hex.h"
#include "bench.h"
#include "chorus/coordinator.h"
#include "chorus/store.h"
#include "crypto/crypto.h"
#include "learning/learning.h"
#include "trust/trust.h"

namespace chorus::bench {
namespace {

constexpr uint32_t kPlayers = 5;
constexpr double kMegabyte = 1024 * 1024;  // of memory
constexpr double kMillion = 1e6;           // bytes of a file

class NoLog final : public LogSink {
 public:
  void Write(LogLevel, std::string_view, std::span<const LogField>) override {}
};

// The issue's model: a multilayer perceptron of about a million parameters.
ModelSpec Million() {
  return {.inputs = 784, .layers = {{1024, Activation::kRelu}, {196, Activation::kRelu}, {10}}};
}

TaskSpec BaseTask() {
  TaskSpec task;
  task.model = Million();
  task.training.batch_size = 20;
  task.training.learning_rate = 0.01F;
  task.training.steps = 20;
  task.clip.update_l2_norm_max = 10;
  task.encoding = {.bound = 1U << 20U, .examples_max = 1024};
  task.rounds = 1;
  task.secagg.honest_min = 2;
  task.cohort = {.minimum = kPlayers, .target = kPlayers, .maximum = kPlayers};
  const std::chrono::milliseconds ample = std::chrono::minutes(10);
  task.deadlines.check_in = task.deadlines.train = task.deadlines.choose = ample;
  task.deadlines.share = task.deadlines.upload = ample;
  task.deadlines.consistency = task.deadlines.unmask = ample;
  task.deadlines.hedge = std::chrono::milliseconds(0);
  return task;
}

using Lines = std::map<std::string, double>;

// A coordinator with keys for some players, in a folder of its own.
class World {
 public:
  static std::optional<World> Make(TaskSpec task) {
    World world;
    if (const Status started = world.Start(std::move(task)); !started.ok()) {
      std::fprintf(stderr, "%s\n", started.ToString().c_str());
      return std::nullopt;
    }
    return world;
  }
  World(World&&) = default;
  World& operator=(World&&) = delete;
  ~World() {
    coordinator_.reset();
    if (!dir_.empty()) std::filesystem::remove_all(dir_);
  }

  // Starts a program of this benchmark; Wait gives its lines.
  FILE* Launch(const std::string& command) const {
    return popen((command + " < /dev/null").c_str(), "r");
  }
  static std::optional<Lines> Wait(FILE* program) {
    if (program == nullptr) return std::nullopt;
    Lines lines;
    std::array<char, 64> name{};
    double value = 0;
    while (std::fscanf(program, "%63s %lf", name.data(), &value) == 2) lines[name.data()] = value;
    if (const int ended = pclose(program); ended != 0) {
      std::fprintf(stderr, "a process of the benchmark ended with status %d\n", ended);
      return std::nullopt;
    }
    return lines;
  }
  std::string Bare() const {
    return std::string(CHORUS_EMBEDDING_BARE) + " " + server() + " " + dir_ + "/tls-authority.pem";
  }
  std::string Client(const std::string& mode, uint32_t number, const std::string& policy) const {
    const std::string n = std::to_string(number);
    return std::string(CHORUS_EMBEDDING_CLIENT) + " " + mode + " " + server() + " " + dir_ + " " +
           dir_ + "/state-" + n + " " + n + " '" + policy + "'";
  }

 private:
  World() = default;
  std::string server() const { return "127.0.0.1:" + std::to_string(coordinator_->port()); }
  void Put(const std::string& name, std::string_view text) const {
    std::ofstream(dir_ + "/" + name, std::ios::binary) << text;
  }
  Status Start(TaskSpec task);

  std::string dir_;
  std::unique_ptr<Clock> clock_ = NewSystemClock();
  std::unique_ptr<NoLog> log_ = std::make_unique<NoLog>();
  std::unique_ptr<Store> store_ = NewMemoryStore();
  std::unique_ptr<IdentityVerifier> verifier_;
  std::unique_ptr<Coordinator> coordinator_;
};

Status World::Start(TaskSpec task) {
  std::string pattern = std::filesystem::temp_directory_path() / "chorus-embedding-XXXXXX";
  dir_ = mkdtemp(pattern.data());
  const std::unique_ptr<Rng> rng = crypto::NewSystemRng();
  const int64_t now = clock_->UnixSeconds();
  constexpr int64_t kDay = 24 * 3600;
  CHORUS_TRY_ASSIGN(const crypto::TlsIdentity authority,
                    crypto::MakeTlsAuthority("benchmark", now - kDay, now + kDay));
  CHORUS_TRY_ASSIGN(const crypto::TlsIdentity tls,
                    crypto::MakeTlsServer(authority, {"127.0.0.1"}, now - kDay, now + kDay));
  const SecretBytes issuer = crypto::RandomSecret(*rng, crypto::kKeyBytes);
  SecretBytes signing = crypto::RandomSecret(*rng, crypto::kKeyBytes);
  const PublicKey issuer_key = crypto::Ed25519Public(issuer.Reveal());
  Put("tls-authority.pem", authority.certificate_pem);
  Put("issuer.pub", ToHex(issuer_key));
  Put("coordinator.pub", ToHex(crypto::Ed25519Public(signing.Reveal())));
  for (uint32_t number = 0; number < kPlayers; ++number) {
    const SecretBytes seed = crypto::RandomSecret(*rng, crypto::kKeyBytes);
    const Bytes certificate =
        trust::IssueCertificate({.serial = number + 1,
                                 .not_before = now - kDay,
                                 .not_after = now + kDay,
                                 .subject = crypto::Ed25519Public(seed.Reveal())},
                                issuer.Reveal());
    Put("identity-" + std::to_string(number) + ".key", ToHex(seed.Reveal()));
    Put("certificate-" + std::to_string(number),
        {reinterpret_cast<const char*>(certificate.data()), certificate.size()});
  }
  verifier_ = trust::NewCertificateVerifier(issuer_key, *clock_);
  CoordinatorOptions options;
  options.listen = "127.0.0.1:0";
  options.tls_certificate_pem = tls.certificate_pem;
  options.tls_key_pem = tls.key_pem;
  options.signing_seed = std::move(signing);
  options.tasks.push_back({.task = std::move(task), .initial_weights = {}, .experiment_seed = {}});
  CHORUS_TRY_ASSIGN(coordinator_,
                    Coordinator::Start(std::move(options), *store_, *verifier_, *clock_, *log_));
  return OkStatus();
}

// --- figures -------------------------------------------------------------------------------------

// A figure that could not be taken falls short.
std::optional<Measured> Failed() { return Measured{.value = 1e9, .limit = 0}; }

// Medians of five bare clients and five games in turn: resident, in MiB, and milliseconds to the
// first check-in, of a game's first start ever, which makes its state folder, and of one that finds
// it.
struct Idle {
  double bare_mb = 0;
  double client_mb = 0;
  double bare_ms = 0;
  double first_ms = 0;
  double client_ms = 0;
};
std::optional<Idle> MeasureIdle() {
  TaskSpec task = BaseTask();
  task.name = "idle";
  // Nobody is invited: it takes more than ever come.
  task.cohort = {.minimum = kPlayers + 1, .target = kPlayers + 1, .maximum = kPlayers + 1};
  const std::optional<World> world = World::Make(std::move(task));
  if (!world.has_value()) return std::nullopt;
  std::vector<double> values[5];
  for (uint32_t number = 0; number < kPlayers; ++number) {
    const std::optional<Lines> bare = World::Wait(world->Launch(world->Bare()));
    const std::string game = world->Client("idle", number, "");
    const std::optional<Lines> first = World::Wait(world->Launch(game));
    const std::optional<Lines> client = World::Wait(world->Launch(game));
    if (!bare.has_value() || !first.has_value() || !client.has_value()) return std::nullopt;
    values[0].push_back(bare->at("resident_kb") / 1024);
    values[1].push_back(client->at("resident_kb") / 1024);
    values[2].push_back(bare->at("start_ms"));
    values[3].push_back(first->at("start_ms"));
    values[4].push_back(client->at("start_ms"));
  }
  return Idle{Median(values[0]), Median(values[1]), Median(values[2]), Median(values[3]),
              Median(values[4])};
}

const std::optional<Idle>& TheIdle() {
  static const std::optional<Idle> idle = MeasureIdle();
  return idle;
}

// Our own shared object as it is shipped, stripped; size.sh attributes it.
std::optional<Measured> Size() {
  const std::string command = std::string("sh ") + CHORUS_EMBEDDING_SIZE + " " + CHORUS_CLIENT_C;
  const std::optional<Lines> lines = World::Wait(popen(command.c_str(), "r"));
  if (!lines.has_value()) return Failed();
  for (const auto& [name, bytes] : *lines)
    std::printf("  %s: %.2f MB\n", name.c_str(), bytes / kMillion);
  return Measured{.value = lines->at("own_code") / kMillion, .limit = 1.5};
}

std::optional<Measured> MemoryIdle() {
  const std::optional<Idle>& idle = TheIdle();
  if (!idle.has_value()) return Failed();
  std::printf("  bare gRPC TLS client: %.1f MB; with Chorus: %.1f MB\n", idle->bare_mb,
              idle->client_mb);
  return Measured{.value = idle->client_mb - idle->bare_mb, .limit = 4};
}

std::optional<Measured> StartTime() {
  const std::optional<Idle>& idle = TheIdle();
  if (!idle.has_value()) return Failed();
  std::printf(
      "  medians of five: first TLS call of a bare gRPC client %.1f ms; a game's first start"
      " %.1f ms, later ones %.1f ms\n",
      idle->bare_ms, idle->first_ms, idle->client_ms);
  return Measured{.value = std::max(idle->first_ms, idle->client_ms), .limit = 50};
}

// Peaks above a bare client, in MiB, medians of a cohort: until the training is done, and in the
// whole round. `environment` goes before the games' command.
struct Peaks {
  double training_mb = 0;
  double round_mb = 0;
};
std::optional<Peaks> MeasureTraining(const std::string& environment) {
  const std::optional<Idle>& idle = TheIdle();
  TaskSpec task = BaseTask();
  task.name = "memory";
  const std::optional<World> world = World::Make(std::move(task));
  if (!idle.has_value() || !world.has_value()) return std::nullopt;
  std::vector<FILE*> games;
  for (uint32_t number = 0; number < kPlayers; ++number)
    games.push_back(world->Launch(environment + world->Client("train", number, "")));
  std::vector<double> training;
  std::vector<double> round;
  bool whole = true;
  for (FILE* const game : games) {
    const std::optional<Lines> lines = World::Wait(game);
    whole = whole && lines.has_value();
    if (!whole) continue;
    training.push_back(lines->at("resident_kb") / 1024 - idle->bare_mb);
    round.push_back(lines->at("round_kb") / 1024 - idle->bare_mb);
  }
  if (!whole) return std::nullopt;
  return Peaks{Median(training), Median(round)};
}

std::optional<Measured> MemoryTraining() {
  const std::optional<Peaks> peaks = MeasureTraining("");
  // What the allocator keeps of what was freed is resident too. With a fixed threshold, glibc's
  // gives large blocks back at once, and what is left is what the client holds.
  const std::optional<Peaks> held = MeasureTraining("MALLOC_MMAP_THRESHOLD_=131072 ");
  if (!peaks.has_value() || !held.has_value()) return Failed();
  std::printf("  in the whole round, secure aggregation included: %.1f MB\n", peaks->round_mb);
  std::printf("  without what the allocator keeps of freed blocks: %.1f MB, %.1f MB\n",
              held->training_mb, held->round_mb);
  const auto parameters = static_cast<double>(learning::ParameterCount(Million()));
  return Measured{.value = peaks->training_mb, .limit = 4 + 16 * parameters / kMegabyte};
}

// What a game prints that trains by itself, and for longer than it looks.
std::optional<Lines> TrainAlone(const std::string& mode) {
  TaskSpec task = BaseTask();
  task.name = mode;
  task.protocol = Protocol::kPlain;
  task.training.steps = 1'000'000;
  task.cohort = {.minimum = 1, .target = 1, .maximum = 1};
  const std::optional<World> world = World::Make(std::move(task));
  if (!world.has_value()) return std::nullopt;
  return World::Wait(
      world->Launch(world->Client(mode, 0, "allow_plain: true cohort_min: 1 honest_min: 1")));
}

std::optional<Measured> Frame() {
  const std::optional<Lines> lines = TrainAlone("frame");
  if (!lines.has_value()) return Failed();
  std::printf("  mean %.3f ms; wall p99 %.3f ms beside %.3f ms of a bare spin of 2 ms\n",
              lines->at("mean_ms"), lines->at("wall_ms"), lines->at("spin_ms"));
  return Measured{.value = lines->at("frame_ms"), .limit = 2.2};
}

std::optional<Measured> Pause() {
  const std::optional<Lines> poll = TrainAlone("pause");
  const std::optional<Lines> worker = TrainAlone("pause_worker");
  if (!poll.has_value() || !worker.has_value()) return Failed();
  std::printf(
      "  in poll: %.3f ms; wall, until the poll of another thread ends: median %.3f, p99 %.3f\n",
      poll->at("pause_ms"), poll->at("median_wall_ms"), poll->at("wall_ms"));
  std::printf("  on the worker: %.3f ms; wall, until it sleeps: median %.3f, p99 %.3f\n",
              worker->at("pause_ms"), worker->at("median_wall_ms"), worker->at("wall_ms"));
  return Measured{.value = std::max(poll->at("pause_ms"), worker->at("pause_ms")), .limit = 1};
}

}  // namespace
}  // namespace chorus::bench

int main(int argc, char** argv) {
  using chorus::bench::Figure;
  const std::array figures = {
      Figure{.name = "size", .unit = "MB of our own", .measure = &chorus::bench::Size},
      Figure{.name = "memory_idle",
             .unit = "MB above a bare gRPC TLS client",
             .measure = &chorus::bench::MemoryIdle},
      Figure{.name = "memory_training",
             .unit = "MB above a bare gRPC TLS client",
             .measure = &chorus::bench::MemoryTraining},
      Figure{.name = "start",
             .unit = "ms from create to checked in",
             .measure = &chorus::bench::StartTime},
      Figure{.name = "frame",
             .unit = "ms of CPU, p99 of 10000 polls of 2 ms",
             .measure = &chorus::bench::Frame},
      Figure{.name = "pause",
             .unit = "ms of CPU until training stops, p99 of 300 pauses, in poll or on the worker",
             .measure = &chorus::bench::Pause},
  };
  return chorus::bench::PrintAll(figures, std::span(argv + 1, static_cast<size_t>(argc - 1)));
}
