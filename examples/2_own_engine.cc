// A host that trains with an engine of its own: how strong the weapons of a game are, learnt from
// duels that never leave the players' devices. The model is Davidson's for paired comparisons with
// draws (Davidson 1970, Journal of the American Statistical Association 65), which no stack of
// layers describes; to Chorus it is so many numbers. Chorus does all the rest, as for its own
// models: it clips and encodes the update, adds it up under secure aggregation, and keeps the
// ledger. Ends with exit code 0 when the strengths learnt rank the weapons as they are.
#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "chorus/client.h"
#include "chorus/coordinator.h"

namespace {

constexpr uint32_t kClients = 5;
constexpr size_t kWeapons = 6;
constexpr std::array<const char*, kWeapons> kNames = {"sword", "axe",   "bow",
                                                      "spear", "staff", "dagger"};
// What the duels are drawn by and nobody is told: the logarithm of each weapon's strength, and how
// likely a draw is.
constexpr std::array<float, kWeapons> kTruth = {0.9F, 0.5F, 0.1F, -0.2F, -0.5F, -0.8F};
constexpr float kDrawTruth = -0.7F;

// --- 1. A player's data: who won which duel. -----------------------------------------------------

struct Duel {
  size_t first = 0;
  size_t second = 0;
  int outcome = 0;  // 0: the first won, 1: the second, 2: a draw
};

// The chances of the three outcomes. `weights` are the weapons' strengths, then the draw's.
std::array<double, 3> Chances(const float* weights, const Duel& duel) {
  const double a = weights[duel.first];
  const double b = weights[duel.second];
  const std::array<double, 3> parts = {std::exp(a), std::exp(b),
                                       std::exp(weights[kWeapons] + (a + b) / 2)};
  const double sum = parts[0] + parts[1] + parts[2];
  return {parts[0] / sum, parts[1] / sum, parts[2] / sum};
}

std::vector<Duel> MakeDuels(uint32_t seed, size_t count) {
  std::mt19937 random(seed);
  std::array<float, kWeapons + 1> truth{};
  std::copy(kTruth.begin(), kTruth.end(), truth.begin());
  truth[kWeapons] = kDrawTruth;
  std::vector<Duel> duels(count);
  for (Duel& duel : duels) {
    duel.first = random() % kWeapons;
    duel.second = (duel.first + 1 + random() % (kWeapons - 1)) % kWeapons;
    const std::array<double, 3> chances = Chances(truth.data(), duel);
    duel.outcome = std::discrete_distribution<int>(chances.begin(), chances.end())(random);
  }
  return duels;
}

// --- 2. The engine: whatever the host has, behind two methods. -----------------------------------

class DuelEngine final : public chorus::Trainer {
 public:
  explicit DuelEngine(std::vector<Duel> duels) : duels_(std::move(duels)) {}

  // A game with other weapons than this one's version must not train on it.
  chorus::Status Accept(const chorus::TaskSpec& task) override {
    if (task.model.custom_parameters == kWeapons + 1) return chorus::OkStatus();
    return chorus::InvalidArgument("the task is for another version of this game");
  }

  // Ascends the likelihood of all duels but the last tenth, by which the model as it came is
  // judged.
  chorus::Result<chorus::TrainedUpdate> Train(const chorus::TaskSpec& task, uint64_t,
                                              std::span<const float> weights,
                                              const chorus::Cancel& cancel) override {
    const size_t trained = duels_.size() - duels_.size() / 10;
    chorus::TrainedUpdate result = Judge(weights, trained);
    result.examples = trained;
    const double step = task.training.learning_rate / static_cast<double>(trained);
    std::vector<float> now(weights.begin(), weights.end());
    for (uint32_t epoch = 0; epoch < task.training.epochs; ++epoch) {
      if (cancel.requested()) return chorus::Cancelled("the player closed the game");
      std::vector<double> gradient(now.size());
      for (size_t i = 0; i < trained; ++i) AddGradient(now, duels_[i], gradient);
      for (size_t i = 0; i < now.size(); ++i) {
        now[i] += static_cast<float>(step * gradient[i]);
      }
    }
    for (size_t i = 0; i < now.size(); ++i) result.update.push_back(now[i] - weights[i]);
    return result;
  }

 private:
  // What each outcome that came is above its chance: a draw counts half for either weapon.
  static void AddGradient(const std::vector<float>& weights, const Duel& duel,
                          std::vector<double>& gradient) {
    const std::array<double, 3> chances = Chances(weights.data(), duel);
    const double draw = duel.outcome == 2 ? 1 : 0;
    gradient[duel.first] += (duel.outcome == 0) + draw / 2 - chances[0] - chances[2] / 2;
    gradient[duel.second] += (duel.outcome == 1) + draw / 2 - chances[1] - chances[2] / 2;
    gradient[kWeapons] += draw - chances[2];
  }

  chorus::TrainedUpdate Judge(std::span<const float> weights, size_t begin) const {
    chorus::TrainedUpdate judged;
    for (size_t i = begin; i < duels_.size(); ++i) {
      const std::array<double, 3> chances = Chances(weights.data(), duels_[i]);
      const auto likeliest = std::max_element(chances.begin(), chances.end()) - chances.begin();
      judged.accuracy += likeliest == duels_[i].outcome ? 1 : 0;
      judged.loss -= std::log(chances[static_cast<size_t>(duels_[i].outcome)]);
      ++judged.evaluated;
    }
    judged.accuracy /= static_cast<double>(judged.evaluated);
    judged.loss /= static_cast<double>(judged.evaluated);
    return judged;
  }

  const std::vector<Duel> duels_;
};

// --- 3. The task. Everything but the model is as in the first example. ---------------------------

chorus::TaskSpec MakeTask() {
  chorus::TaskSpec task;
  task.name = "weapon-balance";
  task.model.custom_parameters = kWeapons + 1;
  task.training = {.epochs = 20, .learning_rate = 1.0F};  // for the engine to read
  task.clip.update_l2_norm_max = 5;
  task.protocol = chorus::Protocol::kSecAgg;
  task.cohort = {.minimum = kClients, .target = kClients, .maximum = 8};
  task.rounds = 5;
  return task;
}

// --- 4. What else the host supplies; see the first example. --------------------------------------

// Key pair 1 of RFC 8032, section 7.1: a key that everybody knows, for an example.
constexpr std::array<uint8_t, 32> kCoordinatorSeed = {
    0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c, 0xc4,
    0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60};
constexpr chorus::PublicKey kCoordinatorKey = {
    0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7, 0xd5, 0x4b, 0xfe, 0xd3, 0xc9, 0x64, 0x07, 0x3a,
    0x0e, 0xe1, 0x72, 0xf3, 0xda, 0xa6, 0x23, 0x25, 0xaf, 0x02, 0x1a, 0x68, 0xf7, 0x07, 0x51, 0x1a};

class HostClock final : public chorus::Clock {
 public:
  chorus::Time Now() const override {
    return std::chrono::duration_cast<chorus::Time>(
        std::chrono::steady_clock::now().time_since_epoch());
  }
  int64_t UnixSeconds() const override {
    return std::chrono::duration_cast<std::chrono::seconds>(
               std::chrono::system_clock::now().time_since_epoch())
        .count();
  }
};

class QuietLog final : public chorus::LogSink {
 public:
  void Write(chorus::LogLevel level, std::string_view message,
             std::span<const chorus::LogField>) override {
    if (level < chorus::LogLevel::kWarn) return;
    std::fprintf(stderr, "%.*s\n", static_cast<int>(message.size()), message.data());
  }
};

class OneByteEvidence final : public chorus::IdentityVerifier {
 public:
  chorus::Result<chorus::Identity> Verify(const chorus::PublicKey&,
                                          chorus::BytesView evidence) const override {
    if (evidence.size() != 1 || evidence[0] >= kClients) {
      return chorus::Unauthenticated("this is none of the five clients");
    }
    return chorus::Identity{.serial = evidence[0]};
  }
};

chorus::ClientOptions OptionsOf(uint32_t number, int port, const std::filesystem::path& folder) {
  chorus::ClientOptions options;
  options.server = "127.0.0.1:" + std::to_string(port);
  options.plaintext = true;  // nothing leaves this machine
  options.coordinator = kCoordinatorKey;
  options.identity_seed = chorus::SecretBytes(32);
  options.identity_seed.RevealMutable()[0] = static_cast<uint8_t>(number + 1);
  options.certificate = {static_cast<uint8_t>(number)};
  options.policy.cohort_min = kClients;
  options.state_dir = folder / std::to_string(number);
  std::filesystem::create_directories(options.state_dir);
  return options;
}

// --- 5. The game's loop, and what came of it. ----------------------------------------------------

bool RunToTheEnd(chorus::Coordinator& coordinator,
                 const std::vector<std::unique_ptr<chorus::Client>>& clients) {
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(100);
  while (std::chrono::steady_clock::now() < give_up) {
    for (const std::unique_ptr<chorus::Client>& client : clients) {
      for (const chorus::ClientEvent& event : client->Poll(std::chrono::milliseconds(0))) {
        if (!event.status.ok()) std::printf("a client: %s\n", event.status.message().c_str());
      }
    }
    for (const chorus::CoordinatorEvent& event : coordinator.Poll(std::chrono::milliseconds(50))) {
      if (event.kind == chorus::CoordinatorEvent::Kind::kTaskComplete) return true;
      if (event.kind != chorus::CoordinatorEvent::Kind::kRoundEnded) continue;
      std::printf("round %llu: %.3f of the duels held back foretold, loss %.3f\n",
                  static_cast<unsigned long long>(event.round.round), event.round.accuracy,
                  event.round.loss);
    }
  }
  return false;
}

// Strengths have no zero of their own, so both are told from their mean.
bool Report(const chorus::Weights& weights) {
  float mean = 0;
  for (size_t i = 0; i < kWeapons; ++i) mean += (weights[i] - kTruth[i]) / kWeapons;
  bool ranked = true;
  for (size_t i = 0; i < kWeapons; ++i) {
    std::printf("%-7s strength %+.2f, in truth %+.2f\n", kNames[i], weights[i] - mean, kTruth[i]);
    ranked = ranked && (i == 0 || weights[i] < weights[i - 1]);
  }
  std::printf("draws   %+.2f, in truth %+.2f\n", weights[kWeapons], kDrawTruth);
  return ranked;
}

int Run(const std::filesystem::path& folder) {
  const HostClock clock;
  QuietLog log;
  const OneByteEvidence verifier;
  const std::unique_ptr<chorus::Store> store = chorus::NewMemoryStore();
  chorus::CoordinatorOptions options;
  options.listen = "127.0.0.1:0";
  options.plaintext = true;
  options.signing_seed =
      chorus::SecretBytes(chorus::Bytes(kCoordinatorSeed.begin(), kCoordinatorSeed.end()));
  options.tasks.push_back({.task = MakeTask()});
  const auto coordinator =
      chorus::Coordinator::Start(std::move(options), *store, verifier, clock, log);
  if (!coordinator.ok()) {
    std::fprintf(stderr, "%s\n", coordinator.status().message().c_str());
    return 1;
  }
  std::vector<std::unique_ptr<DuelEngine>> engines;  // outlive the clients
  std::vector<std::unique_ptr<chorus::Client>> clients;
  for (uint32_t number = 0; number < kClients; ++number) {
    engines.push_back(std::make_unique<DuelEngine>(MakeDuels(number, 1'000)));
    auto client = chorus::Client::Start(OptionsOf(number, (*coordinator)->port(), folder),
                                        *engines.back(), verifier, clock, log);
    if (!client.ok()) {
      std::fprintf(stderr, "%s\n", client.status().message().c_str());
      return 1;
    }
    clients.push_back(*std::move(client));
  }
  if (!RunToTheEnd(**coordinator, clients)) return 1;
  return Report((*coordinator)->CurrentWeights(MakeTask().name)) ? 0 : 1;
}

}  // namespace

int main() {
  std::random_device random;
  const std::filesystem::path folder =
      std::filesystem::temp_directory_path() / ("chorus-example-" + std::to_string(random()));
  const int exit_code = Run(folder);
  std::filesystem::remove_all(folder);
  return exit_code;
}
