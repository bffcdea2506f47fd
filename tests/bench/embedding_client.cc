// A game with Chorus in it, through the C ABI and nothing else:
//   embedding_client idle|train|frame HOST:PORT KEYS STATE NUMBER POLICY
// idle: checks in, prints what that took, and what is resident a little later. train: takes part in
// one round. frame: times 10,000 polls of 2 ms while it trains, each beside a bare spin of 2 ms,
// and then how soon a poll of another thread ends that is paused.
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <thread>
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
  const bool idle = std::string_view(argv[1]) == "idle";
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
  config.training = CHORUS_TRAIN_IN_POLL;
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

// From a pause by the host's thread to the end of the long poll that its other thread is in.
int Pauses(Game& game) {
  constexpr size_t kPauses = 300;
  constexpr uint32_t kLongPollUs = 100'000;
  std::vector<double> waits;
  for (size_t i = 0; i < kPauses; ++i) {
    std::atomic<bool> polling = false;
    double end = 0;
    std::thread job([&] {
      polling = true;
      (void)Ok(chorus_client_poll(game.client, kLongPollUs));
      end = WallSeconds();
    });
    while (!polling) std::this_thread::yield();
    // Somewhere in its training.
    std::this_thread::sleep_for(std::chrono::microseconds(3'000 + 37 * (i % 100)));
    const double begin = WallSeconds();
    if (!Ok(chorus_client_pause(game.client))) return 1;
    job.join();
    waits.push_back(end - begin);
    if (!Ok(chorus_client_resume(game.client))) return 1;
  }
  std::printf("pause_ms %.4f\n", 1e3 * Percentile99(waits));
  std::sort(waits.begin(), waits.end());
  std::printf("median_pause_ms %.4f\n", 1e3 * waits[waits.size() / 2]);
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
  return Pauses(game);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 7) return 2;
  const std::string_view mode = argv[1];
  Game game;
  if (!Begin(game, argv)) return 1;
  const int outcome = mode == "idle" ? Idle(game) : mode == "train" ? Train(game) : Frame(game);
  return Ok(chorus_client_destroy(game.client)) ? outcome : 1;
}
