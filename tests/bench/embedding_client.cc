// A game with Chorus in it, through the C ABI and nothing else:
//   embedding_client idle|train|frame|pause|pause_worker HOST:PORT KEYS STATE NUMBER POLICY
// idle: checks in, prints what that took, and what is resident a little later. train: takes part in
// one round. frame: times 10,000 polls of 2 ms while it trains, each beside a bare spin of 2 ms.
// pause: how soon a poll of another thread ends that is paused; pause_worker: how soon the
// library's own thread sleeps.
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "chorus/client_c.h"
#include "embedding_process.h"

namespace {

using chorus::bench::CpuSeconds;
using chorus::bench::StatusKb;
using chorus::bench::WallSeconds;

constexpr uint32_t kInputs = 784;
// An idle game has seen some things already, as an NPC sees them: they are its own data, and
// counted to it.
constexpr uint32_t kInputsIdle = 64;
constexpr uint32_t kExamplesIdle = 200;
constexpr uint32_t kExamples = 60;
constexpr uint32_t kBudgetUs = 2000;
constexpr size_t kPolls = 10'000;

std::string Read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::string ReadHex(const std::string& path) {
  const std::string digits = Read(path);
  std::string bytes;
  for (size_t i = 0; i + 1 < digits.size(); i += 2)
    bytes.push_back(static_cast<char>(std::stoi(digits.substr(i, 2), nullptr, 16)));
  return bytes;
}

chorus_bytes Lend(const std::string& text) { return {text.data(), text.size()}; }

bool Ok(int32_t code) {
  if (code == CHORUS_OK) return true;
  std::fprintf(stderr, "%s: %s\n", chorus_status_message(code), chorus_last_error());
  return false;
}

// Kinds of events that came so far, a bit each.
void Note(void* user, const chorus_client_event* event) {
  *static_cast<uint32_t*>(user) |= 1U << static_cast<uint32_t>(event->kind);
  if (event->kind == CHORUS_CLIENT_REFUSED || event->kind == CHORUS_CLIENT_ROUND_LOST)
    std::fprintf(stderr, "%s\n", event->message);
}
bool Has(uint32_t seen, int32_t kind) { return (seen >> static_cast<uint32_t>(kind) & 1U) != 0; }

struct Game {
  chorus_client* client = nullptr;
  uint32_t seen = 0;
  double begin = 0;
};

bool Begin(Game& game, char** argv) {
  const std::string keys = argv[3];
  const std::string server = argv[2];
  const std::string state = argv[4];
  const std::string roots = Read(keys + "/tls-authority.pem");
  const std::string coordinator = ReadHex(keys + "/coordinator.pub");
  const std::string issuer = ReadHex(keys + "/issuer.pub");
  const std::string identity = ReadHex(keys + "/identity-" + argv[5] + ".key");
  const std::string certificate = Read(keys + "/certificate-" + argv[5]);
  const std::string policy = argv[6];
  const std::string_view mode = argv[1];
  const bool idle = mode == "idle";
  const uint32_t count = idle ? kExamplesIdle : kExamples;
  const uint32_t inputs = idle ? kInputsIdle : kInputs;
  std::vector<float> features(size_t{inputs} * count);
  std::vector<uint32_t> labels(count);
  uint32_t draw = 7;
  for (float& feature : features) {
    draw = draw * 1'664'525 + 1'013'904'223;
    feature = static_cast<float>(draw >> 8U) / 16'777'216.0F;
  }
  for (uint32_t i = 0; i < count; ++i) labels[i] = i % 10;

  game.begin = WallSeconds();
  chorus_client_config config;
  if (!Ok(chorus_client_config_init(&config, sizeof(config)))) return false;
  config.training = mode == "pause_worker" ? CHORUS_TRAIN_ON_WORKER : CHORUS_TRAIN_IN_POLL;
  config.server = Lend(server);
  config.tls_roots_pem = Lend(roots);
  config.coordinator_key = Lend(coordinator);
  config.issuer_key = Lend(issuer);
  config.identity_seed = Lend(identity);
  config.certificate = Lend(certificate);
  config.policy = Lend(policy);
  config.state_dir = Lend(state);
  config.on_event = &Note;
  config.user = &game.seen;
  if (!Ok(chorus_client_create(&config, &game.client))) return false;
  const chorus_examples examples = {.struct_size = sizeof(chorus_examples),
                                    .inputs = inputs,
                                    .count = count,
                                    .features = features.data(),
                                    .labels = labels.data(),
                                    .targets = nullptr,
                                    .outputs = 0,
                                    .reserved = 0};
  return Ok(chorus_client_add_examples(game.client, &examples)) &&
         Ok(chorus_client_start(game.client));
}

// Polls until an event of `kind` came; false after two minutes.
bool Await(Game& game, int32_t kind, uint32_t budget_us) {
  const double end = WallSeconds() + 120;
  while (!Has(game.seen, kind) && WallSeconds() < end) {
    if (!Ok(chorus_client_poll(game.client, budget_us))) return false;
    usleep(100);
  }
  if (!Has(game.seen, kind)) std::fprintf(stderr, "event %d did not come\n", kind);
  return Has(game.seen, kind);
}

int Idle(Game& game) {
  if (!Await(game, CHORUS_CLIENT_CONNECTED, 0)) return 1;
  std::printf("start_ms %.3f\n", 1e3 * (WallSeconds() - game.begin));
  usleep(chorus::bench::kSettleUs);
  std::printf("resident_kb %ld\n", StatusKb("VmRSS"));
  return 0;
}

int Train(Game& game) {
  if (!Await(game, CHORUS_CLIENT_TRAINED, kBudgetUs)) return 1;
  std::printf("resident_kb %ld\n", StatusKb("VmHWM"));
  if (!Await(game, CHORUS_CLIENT_CONTRIBUTED, kBudgetUs)) return 1;
  std::printf("round_kb %ld\n", StatusKb("VmHWM"));
  return 0;
}

double Percentile99(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() * 99 / 100];
}

void Spin() {
  const double end = WallSeconds() + 1e-6 * kBudgetUs;
  while (WallSeconds() < end) {
  }
}

// Another thread of this process.
class Thread {
 public:
  explicit Thread(int id) : id_(id), stat_("/proc/self/task/" + std::to_string(id) + "/stat") {}

  // As Linux numbers the clock of a thread's CPU time.
  double CpuSeconds() const {
    timespec now{};
    clock_gettime(static_cast<clockid_t>(~static_cast<unsigned>(id_) << 3U | 6U), &now);
    return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
  }
  bool Sleeps() const {
    const std::string stat = Read(stat_);
    const size_t name_end = stat.rfind(") ");
    return name_end != std::string::npos && stat[name_end + 2] == 'S';
  }

  // All of them but the caller.
  static std::vector<Thread> Others() {
    std::vector<Thread> others;
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/task")) {
      const int id = std::stoi(entry.path().filename());
      if (id != getpid()) others.emplace_back(id);
    }
    return others;
  }

 private:
  int id_;
  std::string stat_;
};

constexpr size_t kPauses = 300;

// What pauses took until nothing trained any more: the training thread's CPU, and wall time, in
// which on a busy machine that thread may have waited for its turn.
struct Pauses {
  std::vector<double> cpu;
  std::vector<double> wall;
};

void Print(Pauses pauses) {
  std::printf("pause_ms %.4f\n", 1e3 * Percentile99(std::move(pauses.cpu)));
  std::printf("wall_ms %.4f\n", 1e3 * Percentile99(pauses.wall));
  std::sort(pauses.wall.begin(), pauses.wall.end());
  std::printf("median_wall_ms %.4f\n", 1e3 * pauses.wall[pauses.wall.size() / 2]);
}

// Somewhere in its training, elsewhere for each pause.
void LetItTrain(size_t pause) {
  std::this_thread::sleep_for(std::chrono::microseconds(3'000 + 37 * (pause % 100)));
}

// From a pause by the host's thread to the end of the long poll that its other thread is in.
int PollPauses(Game& game) {
  constexpr uint32_t kLongPollUs = 100'000;
  if (!Await(game, CHORUS_CLIENT_INVITED, 0)) return 1;
  const double patience = WallSeconds() + 120;
  for (double took = 0; took < 0.5e-6 * kBudgetUs;) {
    const double begin = WallSeconds();
    if (begin > patience || !Ok(chorus_client_poll(game.client, kBudgetUs))) return 1;
    took = WallSeconds() - begin;
  }
  Pauses pauses;
  for (size_t i = 0; i < kPauses; ++i) {
    std::atomic<int> id = 0;
    double end = 0;
    double cpu_end = 0;
    std::thread job([&] {
      id = gettid();
      (void)Ok(chorus_client_poll(game.client, kLongPollUs));
      end = WallSeconds();
      cpu_end = CpuSeconds();
    });
    while (id == 0) std::this_thread::yield();
    LetItTrain(i);
    const double cpu_begin = Thread(id).CpuSeconds();
    const double begin = WallSeconds();
    if (!Ok(chorus_client_pause(game.client))) return 1;
    job.join();
    pauses.wall.push_back(end - begin);
    pauses.cpu.push_back(cpu_end - cpu_begin);
    if (!Ok(chorus_client_resume(game.client))) return 1;
  }
  Print(std::move(pauses));
  return 0;
}

// From a pause to when the library's thread sleeps: it does so nowhere else while it trains.
int WorkerPauses(Game& game) {
  constexpr double kTrains = 0.2;  // seconds that nothing but training takes
  if (!Await(game, CHORUS_CLIENT_INVITED, 0)) return 1;
  std::vector<Thread> trainer;
  const double patience = WallSeconds() + 120;
  while (trainer.empty() && WallSeconds() < patience) {
    usleep(1'000);
    for (const Thread& thread : Thread::Others()) {
      if (trainer.empty() && thread.CpuSeconds() > kTrains) trainer.push_back(thread);
    }
  }
  if (trainer.empty()) return 1;
  const Thread& worker = trainer.front();
  Pauses pauses;
  for (size_t i = 0; i < kPauses; ++i) {
    const double resumed = worker.CpuSeconds();
    while (worker.CpuSeconds() == resumed) usleep(100);
    LetItTrain(i);
    const double cpu_begin = worker.CpuSeconds();
    const double begin = WallSeconds();
    if (!Ok(chorus_client_pause(game.client))) return 1;
    while (!worker.Sleeps()) {
    }
    pauses.wall.push_back(WallSeconds() - begin);
    pauses.cpu.push_back(worker.CpuSeconds() - cpu_begin);
    if (!Ok(chorus_client_resume(game.client))) return 1;
  }
  Print(std::move(pauses));
  return 0;
}

int Frame(Game& game) {
  if (!Await(game, CHORUS_CLIENT_INVITED, 0)) return 1;
  std::vector<double> cpu;
  std::vector<double> wall;
  std::vector<double> spin;
  const double end = WallSeconds() + 300;
  while (cpu.size() < kPolls && WallSeconds() < end) {
    const double cpu_begin = CpuSeconds();
    const double begin = WallSeconds();
    if (!Ok(chorus_client_poll(game.client, kBudgetUs))) return 1;
    const double took = WallSeconds() - begin;
    const double used = CpuSeconds() - cpu_begin;
    // Before the training began, and after its end, a poll takes nothing: those would only help.
    if (took < 0.25e-6 * kBudgetUs) {
      usleep(200);
      continue;
    }
    cpu.push_back(used);
    wall.push_back(took);
    if (cpu.size() % 10 == 0) {
      const double spin_begin = WallSeconds();
      Spin();
      spin.push_back(WallSeconds() - spin_begin);
    }
  }
  if (cpu.size() < kPolls) return 1;
  double total = 0;
  for (const double one : cpu) total += one;
  std::printf("frame_ms %.4f\n", 1e3 * Percentile99(cpu));
  std::printf("mean_ms %.4f\n", 1e3 * total / static_cast<double>(cpu.size()));
  std::printf("wall_ms %.4f\n", 1e3 * Percentile99(wall));
  std::printf("spin_ms %.4f\n", 1e3 * Percentile99(spin));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 7) return 2;
  const std::map<std::string_view, int (*)(Game&)> modes = {{"idle", &Idle},
                                                            {"train", &Train},
                                                            {"frame", &Frame},
                                                            {"pause", &PollPauses},
                                                            {"pause_worker", &WorkerPauses}};
  const auto found = modes.find(argv[1]);
  if (found == modes.end()) return 2;
  Game game;
  if (!Begin(game, argv)) return 1;
  const int outcome = found->second(game);
  return Ok(chorus_client_destroy(game.client)) ? outcome : 1;
}
