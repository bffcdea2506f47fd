// A coordinator and five clients in one program, over gRPC on the loopback interface: everything
// that a host does, through the public headers alone. Ends with exit code 0 when the model that
// came of it is right about nine points in ten.
#include <array>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "chorus/client.h"
#include "chorus/coordinator.h"

namespace {

constexpr uint32_t kClients = 5;
constexpr uint32_t kClasses = 3;

// Key pair 1 of RFC 8032, section 7.1: a key that everybody knows, for an example. `chorus keys
// init` makes one of your own.
constexpr std::array<uint8_t, 32> kCoordinatorSeed = {
    0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c, 0xc4,
    0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60};
constexpr chorus::PublicKey kCoordinatorKey = {
    0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7, 0xd5, 0x4b, 0xfe, 0xd3, 0xc9, 0x64, 0x07, 0x3a,
    0x0e, 0xe1, 0x72, 0xf3, 0xda, 0xa6, 0x23, 0x25, 0xaf, 0x02, 0x1a, 0x68, 0xf7, 0x07, 0x51, 0x1a};

// --- 1. What the host supplies: time, a place for log lines, and who is who. --------------------

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

// The evidence of client i is the one byte i. A game would ask its account service, or issue
// certificates with a key that the coordinator does not hold: whoever can make identities can
// outnumber the honest clients of a cohort.
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

// --- 2. Data: points of three classes around three centres. Every client has its own. ------------

chorus::Examples MakeExamples(uint32_t seed, uint32_t count) {
  std::mt19937 random(seed);
  std::normal_distribution<float> noise(0.0F, 0.4F);
  constexpr float kCentres[kClasses][2] = {{0, 1}, {1, -1}, {-1, -1}};
  chorus::Examples examples;
  examples.inputs = 2;
  for (uint32_t i = 0; i < count; ++i) {
    const uint32_t label = i % kClasses;
    examples.features.push_back(kCentres[label][0] + noise(random));
    examples.features.push_back(kCentres[label][1] + noise(random));
    examples.labels.push_back(label);
  }
  return examples;
}

// --- 3. The task: everything that a client agrees to. --------------------------------------------

chorus::TaskSpec MakeTask() {
  chorus::TaskSpec task;
  task.name = "three-centres";
  task.model.inputs = 2;
  task.model.layers = {{.units = kClasses}};  // softmax regression
  task.training = {.epochs = 1, .batch_size = 10, .learning_rate = 0.2F};
  task.clip.update_l2_norm_max = 5;
  task.protocol = chorus::Protocol::kSecAgg;  // the coordinator reads only sums
  task.cohort = {.minimum = kClients, .target = kClients, .maximum = 8};
  task.rounds = 4;
  return task;
}

// --- 4. A client: its key, what it accepts, and a folder that remembers what it gave away. -------

chorus::Result<std::unique_ptr<chorus::Client>> StartClient(
    uint32_t number, int port, const std::filesystem::path& folder,
    const chorus::IdentityVerifier& verifier, const chorus::Clock& clock, chorus::LogSink& log) {
  chorus::ClientOptions options;
  options.server = "127.0.0.1:" + std::to_string(port);
  options.plaintext = true;  // nothing leaves this machine
  options.coordinator = kCoordinatorKey;
  options.identity_seed = chorus::SecretBytes(32);
  options.identity_seed.RevealMutable()[0] = static_cast<uint8_t>(number + 1);
  options.certificate = {static_cast<uint8_t>(number)};
  options.policy.cohort_min = kClients;  // never a sum over fewer
  options.state_dir = folder / std::to_string(number);
  std::filesystem::create_directories(options.state_dir);
  return chorus::Client::Start(std::move(options), MakeExamples(number, 150), verifier, clock, log);
}

// --- 5. The game's loop: both sides are asked what happened; nobody calls the host.
// ---------------

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
      std::printf(
          "round %llu: a sum over %u clients, %s\n",
          static_cast<unsigned long long>(event.round.round), event.round.contributors,
          event.round.state == chorus::RoundState::kCommitted ? "in the model" : "thrown away");
    }
  }
  return false;
}

// --- 6. The model: weights in layout order, [3 × 2] and then 3 biases.
// ----------------------------

double Accuracy(const chorus::Weights& weights, const chorus::Examples& examples) {
  size_t right = 0;
  for (size_t i = 0; i < examples.count(); ++i) {
    uint32_t best = 0;
    float best_score = 0;
    for (uint32_t unit = 0; unit < kClasses; ++unit) {
      const float score = weights[2 * unit] * examples.features[2 * i] +
                          weights[2 * unit + 1] * examples.features[2 * i + 1] +
                          weights[2 * kClasses + unit];
      if (unit > 0 && score <= best_score) continue;
      best = unit;
      best_score = score;
    }
    if (best == examples.labels[i]) ++right;
  }
  return static_cast<double>(right) / static_cast<double>(examples.count());
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
  std::vector<std::unique_ptr<chorus::Client>> clients;
  for (uint32_t number = 0; number < kClients; ++number) {
    auto client = StartClient(number, (*coordinator)->port(), folder, verifier, clock, log);
    if (!client.ok()) {
      std::fprintf(stderr, "%s\n", client.status().message().c_str());
      return 1;
    }
    clients.push_back(*std::move(client));
  }
  if (!RunToTheEnd(**coordinator, clients)) return 1;
  const double accuracy =
      Accuracy((*coordinator)->CurrentWeights(MakeTask().name), MakeExamples(99, 300));
  std::printf("accuracy %.4f\n", accuracy);
  return accuracy > 0.9 ? 0 : 1;
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
