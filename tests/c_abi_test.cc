// The C ABI of both sides, inside one program: a federation that is driven by one loop, as a game
// server drives it, and misuse. What C itself thinks of the headers is client_c_test.c's.
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "chorus/client_c.h"
#include "chorus/coordinator.h"
#include "chorus/coordinator_c.h"
#include "chorus/store.h"
#include "chorus/token.h"
#include "crypto/crypto.h"
#include "federation.h"
#include "matchers.h"
#include "tokens.h"
#include "trust/trust.h"
#include "wire/wire.h"

namespace chorus {
namespace {

using testing::Contains;
using testing::HasSubstr;

chorus_bytes Lend(BytesView bytes) { return {bytes.data(), bytes.size()}; }
chorus_bytes Lend(std::string_view text) { return Lend(ViewOf(text)); }

constexpr std::string_view kTask = R"(
  name: "clouds"
  rounds: 3
  protocol: PROTOCOL_SECAGG
  model {
    inputs: 2
    layers { units: 8 activation: ACTIVATION_TANH }
    layers { units: 2 }
    loss: LOSS_CROSS_ENTROPY
  }
  training { epochs: 4 batch_size: 10 learning_rate: 0.3 held_back_percent: 10 }
  clip { update_l2_norm_max: 4 }
  encoding { bound: 1048576 examples_max: 1024 }
  secagg { gamma_ppm: 50000 delta_ppm: 100000 honest_min: 2 }
  cohort { minimum: 5 target: 5 maximum: 5 }
  deadlines { check_in_ms: 120000 train_ms: 120000 choose_ms: 120000 share_ms: 120000
              upload_ms: 120000 consistency_ms: 120000 unmask_ms: 120000 hedge_ms: 0 }
)";

struct Player {
  chorus_client* client = nullptr;
  std::vector<int32_t> kinds;
  std::vector<int32_t> statuses;
  std::vector<std::string> messages;
  ~Player() {
    if (client != nullptr) chorus_client_destroy(client);
  }
};

void Note(void* user, const chorus_client_event* event) {
  auto* const player = static_cast<Player*>(user);
  player->kinds.push_back(event->kind);
  player->statuses.push_back(event->status);
  player->messages.emplace_back(event->message);
}

class CAbi : public testing::Test {
 protected:
  CAbi() : clock_(NewSystemClock()), issuer_seed_(Seed("issuer", 0)) {
    std::string pattern = std::filesystem::temp_directory_path() / "chorus-c-abi-XXXXXX";
    dir_ = mkdtemp(pattern.data());
  }
  ~CAbi() override {
    players_.clear();
    if (coordinator_ != nullptr) {
      EXPECT_EQ(chorus_coordinator_destroy(coordinator_), CHORUS_OK);
    }
    std::filesystem::remove_all(dir_);
  }

  void Serve(std::string_view task, const std::string& store = "") {
    ServeAs([&](chorus_coordinator_config& config) {
      config.task = Lend(task);
      config.store_path = Lend(store);
    });
  }
  // `edit` changes the configuration of a coordinator of kTask.
  template <typename Edit>
  void ServeAs(const Edit& edit) {
    chorus_coordinator_config config;
    ASSERT_EQ(chorus_coordinator_config_init(&config, sizeof(config)), CHORUS_OK);
    const PublicKey issuer = crypto::Ed25519Public(issuer_seed_.Reveal());
    const SecretBytes signing = Seed("coordinator", 0);
    config.plaintext = 1;
    config.experiment_seed = 5;
    config.task = Lend(kTask);
    config.listen = Lend("127.0.0.1:0");
    config.signing_seed = Lend(signing.Reveal());
    config.issuer_key = Lend(issuer);
    edit(config);
    ASSERT_EQ(chorus_coordinator_create(&config, &coordinator_), CHORUS_OK) << chorus_last_error();
    ASSERT_EQ(chorus_coordinator_get_port(coordinator_, &port_), CHORUS_OK);
  }

  void Join(uint64_t number, uint64_t memory_bytes_max = 0) {
    Player& player = Create(
        number, [&](chorus_client_config& config) { config.memory_bytes_max = memory_bytes_max; });
    Add(player, number);
    ASSERT_EQ(chorus_client_start(player.client), CHORUS_OK) << chorus_last_error();
  }

  // A player's client that is not started. `edit` changes its configuration; a code other than
  // CHORUS_OK is what creating it is expected to give.
  template <typename Edit>
  Player& Create(uint64_t number, const Edit& edit, int32_t expected = CHORUS_OK) {
    Player& player = *players_.emplace_back(std::make_unique<Player>());
    chorus_client_config config;
    EXPECT_EQ(chorus_client_config_init(&config, sizeof(config)), CHORUS_OK);
    const std::string server = "127.0.0.1:" + std::to_string(port_);
    const std::string state = dir_ / std::to_string(number);
    const PublicKey issuer = crypto::Ed25519Public(issuer_seed_.Reveal());
    const PublicKey coordinator = crypto::Ed25519Public(Seed("coordinator", 0).Reveal());
    const SecretBytes identity = Seed("client", number);
    const Bytes certificate =
        trust::IssueCertificate({.serial = number,
                                 .not_before = clock_->UnixSeconds() - 60,
                                 .not_after = clock_->UnixSeconds() + 24 * 3600,
                                 .subject = crypto::Ed25519Public(identity.Reveal())},
                                issuer_seed_.Reveal());
    config.plaintext = 1;
    config.training = CHORUS_TRAIN_IN_POLL;
    config.server = Lend(server);
    config.coordinator_key = Lend(coordinator);
    config.issuer_key = Lend(issuer);
    config.identity_seed = Lend(identity.Reveal());
    config.certificate = Lend(certificate);
    config.state_dir = Lend(state);
    config.on_event = &Note;
    config.user = &player;
    edit(config);
    EXPECT_EQ(chorus_client_create(&config, &player.client), expected) << chorus_last_error();
    return player;
  }

  static void Add(Player& player, uint64_t number) {
    const Examples clouds = Clouds(number);
    const chorus_examples examples = {.struct_size = sizeof(chorus_examples),
                                      .inputs = clouds.inputs,
                                      .count = clouds.count(),
                                      .features = clouds.features.data(),
                                      .labels = clouds.labels.data(),
                                      .targets = nullptr,
                                      .outputs = 0,
                                      .reserved = 0};
    ASSERT_EQ(chorus_client_add_examples(player.client, &examples), CHORUS_OK)
        << chorus_last_error();
  }

  // Ticks until `done`: all of it on this thread.
  template <typename Done>
  void TickUntil(const Done& done) {
    const Time end = clock_->Now() + seconds(240);
    while (!done() && clock_->Now() < end) {
      ASSERT_EQ(chorus_coordinator_poll(coordinator_, 1000), CHORUS_OK) << chorus_last_error();
      chorus_coordinator_event event{};
      event.struct_size = sizeof(event);
      while (chorus_coordinator_next_event(coordinator_, &event) == CHORUS_OK)
        ended_.push_back(event.kind);
      for (const auto& player : players_)
        ASSERT_EQ(chorus_client_poll(player->client, 200), CHORUS_OK) << chorus_last_error();
      usleep(200);
    }
    ASSERT_TRUE(done());
  }
  // Polls the players alone until `done`, for a coordinator with a thread of its own.
  template <typename Done>
  void PlayUntil(const Done& done) {
    const Time end = clock_->Now() + seconds(240);
    while (!done() && clock_->Now() < end) {
      for (const auto& player : players_)
        ASSERT_EQ(chorus_client_poll(player->client, 200), CHORUS_OK) << chorus_last_error();
      usleep(200);
    }
    ASSERT_TRUE(done());
  }
  // The model that a player's device holds, as soon as the library's thread does not change it.
  chorus_model* FetchedFrom(const Player& player) const {
    chorus_model* model = nullptr;
    const Time end = clock_->Now() + seconds(60);
    int32_t code = CHORUS_UNAVAILABLE;
    while (code == CHORUS_UNAVAILABLE && clock_->Now() < end) {
      code = chorus_client_fetch_model(player.client, &model);
      if (code == CHORUS_UNAVAILABLE) usleep(1000);
    }
    EXPECT_EQ(code, CHORUS_OK) << chorus_last_error();
    return model;
  }
  bool Complete() const {
    return std::find(ended_.begin(), ended_.end(), CHORUS_COORDINATOR_TASK_COMPLETE) !=
           ended_.end();
  }
  static double Right(chorus_model* model) {
    const Examples clouds = Clouds(99);
    std::vector<float> outputs(2 * clouds.count());
    EXPECT_EQ(chorus_model_predict(model, clouds.features.data(), clouds.features.size(),
                                   outputs.data(), outputs.size()),
              CHORUS_OK)
        << chorus_last_error();
    double right = 0;
    for (size_t i = 0; i < clouds.count(); ++i)
      right += (outputs[2 * i + 1] > outputs[2 * i]) == (clouds.labels[i] == 1) ? 1 : 0;
    return right / static_cast<double>(clouds.count());
  }

  const std::unique_ptr<Clock> clock_;
  const SecretBytes issuer_seed_;
  std::filesystem::path dir_;
  chorus_coordinator* coordinator_ = nullptr;
  int32_t port_ = 0;
  std::vector<std::unique_ptr<Player>> players_;
  std::vector<int32_t> ended_;
};

TEST_F(CAbi, LearnsInsideOneLoopThatTicksServerAndPlayers) {
  Serve(kTask);
  for (uint64_t number = 1; number <= 5; ++number) Join(number);
  TickUntil([&] { return Complete(); });
  EXPECT_EQ(std::count(ended_.begin(), ended_.end(), CHORUS_COORDINATOR_ROUND_ENDED), 3);
  for (const auto& player : players_) {
    EXPECT_THAT(player->kinds, Contains(CHORUS_CLIENT_CONTRIBUTED));
    // Examples that came while it ran do not disturb it.
    Add(*player, 7);
  }
  chorus_model* learnt = nullptr;
  ASSERT_EQ(chorus_coordinator_fetch_model(coordinator_, &learnt), CHORUS_OK);
  chorus_model_shape shape{};
  shape.struct_size = sizeof(shape);
  ASSERT_EQ(chorus_model_get_shape(learnt, &shape), CHORUS_OK);
  EXPECT_EQ(shape.parameters, 42U);
  EXPECT_EQ(shape.round, 3U);
  EXPECT_GT(Right(learnt), 0.75);
  EXPECT_EQ(chorus_model_destroy(learnt), CHORUS_OK);
  // A player's device holds the model that the last round began with: two rounds learnt.
  chorus_model* const held = FetchedFrom(*players_[0]);
  ASSERT_NE(held, nullptr);
  ASSERT_EQ(chorus_model_get_shape(held, &shape), CHORUS_OK);
  EXPECT_EQ(shape.round, 3U);
  EXPECT_GT(Right(held), 0.7);
  EXPECT_EQ(chorus_model_destroy(held), CHORUS_OK);
}

TEST_F(CAbi, NumbersItsModelRightAfterARestart) {
  const std::string store = dir_ / "store";
  Serve(kTask, store);
  for (uint64_t number = 1; number <= 5; ++number) Join(number);
  TickUntil([&] { return Complete(); });
  players_.clear();
  ASSERT_EQ(chorus_coordinator_destroy(coordinator_), CHORUS_OK);
  Serve(kTask, store);
  chorus_model* learnt = nullptr;
  ASSERT_EQ(chorus_coordinator_fetch_model(coordinator_, &learnt), CHORUS_OK);
  chorus_model_shape shape{};
  shape.struct_size = sizeof(shape);
  ASSERT_EQ(chorus_model_get_shape(learnt, &shape), CHORUS_OK);
  EXPECT_EQ(shape.round, 3U);
  EXPECT_EQ(chorus_model_destroy(learnt), CHORUS_OK);
}

TEST_F(CAbi, KeepsTheMemoryCap) {
  Serve(kTask);
  Join(1, /*memory_bytes_max=*/100'000);
  for (uint64_t number = 2; number <= 5; ++number) Join(number);
  const Player& small = *players_[0];
  TickUntil([&] {
    return std::find(small.kinds.begin(), small.kinds.end(), CHORUS_CLIENT_REFUSED) !=
           small.kinds.end();
  });
  EXPECT_THAT(small.messages, Contains(HasSubstr("memory")));
  EXPECT_THAT(small.kinds, testing::Not(Contains(CHORUS_CLIENT_TRAINED)));
}

TEST_F(CAbi, TurnsAwayASecondThread) {
  // Inside the callback, another thread tries; the first is still in its poll.
  struct Attempt {
    chorus_client* client;
    int32_t poll = CHORUS_OK;
    int32_t destroy = CHORUS_OK;
    int32_t pause = CHORUS_UNKNOWN;
  } attempt;
  chorus_client_config config;
  ASSERT_EQ(chorus_client_config_init(&config, sizeof(config)), CHORUS_OK);
  config.echo = 1;
  config.user = &attempt;
  config.on_event = [](void* user, const chorus_client_event*) {
    auto* const mine = static_cast<Attempt*>(user);
    std::thread([mine] {
      mine->poll = chorus_client_poll(mine->client, 1);
      mine->destroy = chorus_client_destroy(mine->client);
      mine->pause = chorus_client_pause(mine->client);
    }).join();
  };
  Player player;
  ASSERT_EQ(chorus_client_create(&config, &player.client), CHORUS_OK);
  attempt.client = player.client;
  Add(player, 1);
  ASSERT_EQ(chorus_client_start(player.client), CHORUS_OK);
  ASSERT_EQ(chorus_client_poll(player.client, 1), CHORUS_OK);
  EXPECT_EQ(attempt.poll, CHORUS_FAILED_PRECONDITION);
  EXPECT_EQ(attempt.destroy, CHORUS_FAILED_PRECONDITION);
  EXPECT_EQ(attempt.pause, CHORUS_OK);
}

TEST_F(CAbi, RefusesFieldsFromTheFutureUnlessTheyAreZero) {
  struct Newer {
    chorus_client_config known;
    uint64_t later;
  } newer;
  ASSERT_EQ(chorus_client_config_init(&newer.known, sizeof(newer)), CHORUS_OK);
  EXPECT_EQ(newer.later, 0U);
  newer.known.echo = 1;
  chorus_client* client = nullptr;
  ASSERT_EQ(chorus_client_create(&newer.known, &client), CHORUS_OK) << chorus_last_error();
  EXPECT_EQ(chorus_client_destroy(client), CHORUS_OK);
  newer.later = 1;
  EXPECT_EQ(chorus_client_create(&newer.known, &client), CHORUS_UNIMPLEMENTED);
  EXPECT_EQ(client, nullptr);
  newer.known.struct_size = 8;
  EXPECT_EQ(chorus_client_create(&newer.known, &client), CHORUS_INVALID_ARGUMENT);
}

TEST_F(CAbi, NamesWhatIsWrongInAConfiguration) {
  chorus_client_config config;
  ASSERT_EQ(chorus_client_config_init(&config, sizeof(config)), CHORUS_OK);
  chorus_client* client = nullptr;
  EXPECT_EQ(chorus_client_create(&config, &client), CHORUS_INVALID_ARGUMENT);
  EXPECT_THAT(chorus_last_error(), HasSubstr("config.coordinator_key must have 32 bytes"));
  config.server = {nullptr, 5};
  EXPECT_EQ(chorus_client_create(&config, &client), CHORUS_INVALID_ARGUMENT);
  EXPECT_THAT(chorus_last_error(), HasSubstr("config.server is a null pointer"));
  config.training = 7;
  EXPECT_EQ(chorus_client_create(&config, &client), CHORUS_INVALID_ARGUMENT);
  EXPECT_THAT(chorus_last_error(), HasSubstr("config.training"));
  chorus_coordinator_config server;
  ASSERT_EQ(chorus_coordinator_config_init(&server, sizeof(server)), CHORUS_OK);
  EXPECT_EQ(chorus_coordinator_create(&server, &coordinator_), CHORUS_INVALID_ARGUMENT);
  EXPECT_THAT(chorus_last_error(), HasSubstr("config.issuer_key"));
}

TEST_F(CAbi, StartsAfterAStartThatFailed) {
  Serve(kTask);
  // Another client holds the folder at first.
  Player& first = Create(1, [](const chorus_client_config&) {});
  Add(first, 1);
  ASSERT_EQ(chorus_client_start(first.client), CHORUS_OK) << chorus_last_error();
  Player& second = Create(1, [](const chorus_client_config&) {});
  Add(second, 1);
  EXPECT_EQ(chorus_client_start(second.client), CHORUS_FAILED_PRECONDITION);
  EXPECT_EQ(chorus_client_start(second.client), CHORUS_FAILED_PRECONDITION);
  EXPECT_EQ(chorus_client_destroy(first.client), CHORUS_OK);
  first.client = nullptr;
  players_.erase(players_.begin());
  EXPECT_EQ(chorus_client_start(second.client), CHORUS_OK) << chorus_last_error();
  // With its examples and its options: it learns with the others.
  for (uint64_t number = 2; number <= 5; ++number) Join(number);
  TickUntil([&] {
    return std::find(second.kinds.begin(), second.kinds.end(), CHORUS_CLIENT_CONTRIBUTED) !=
           second.kinds.end();
  });
}

TEST_F(CAbi, RefusesAtItsCreationWhatAStartWouldRefuse) {
  const auto refuses = [&](const auto& edit, std::string_view why) {
    Create(1, edit, CHORUS_INVALID_ARGUMENT);
    EXPECT_THAT(chorus_last_error(), HasSubstr(std::string(why)));
  };
  refuses([](chorus_client_config& config) { config.state_dir = {}; }, "state_dir is empty");
  refuses([](chorus_client_config& config) { config.server = {}; }, "server is empty");
  refuses([](chorus_client_config& config) { config.certificate = {}; }, "certificate is empty");
  refuses([](chorus_client_config& config) { config.plaintext = 0; }, "tls_roots_pem is empty");
  refuses(
      [](chorus_client_config& config) {
        config.plaintext = 0;
        config.tls_roots_pem = Lend("roots");
        config.tls_certificate_pem = Lend("certificate");
      },
      "tls_certificate_pem and tls_key_pem belong together");
}

// An echo reads too little of its configuration to show this.
TEST_F(CAbi, ReadsOfAFirstVersionsConfigurationWhatThatHad) {
  Player& player = Create(1, [](chorus_client_config& config) {
    constexpr uint32_t kFirst = 176;
    config.struct_size = kFirst;
    std::memset(reinterpret_cast<char*>(&config) + kFirst, 0xa5, sizeof(config) - kFirst);
  });
  EXPECT_NE(player.client, nullptr);
}

TEST_F(CAbi, PausesFromBeforeTheStart) {
  Serve(kTask);
  Player& player = Create(1, [](const chorus_client_config&) {});
  Add(player, 1);
  EXPECT_EQ(chorus_client_pause(player.client), CHORUS_OK);
  ASSERT_EQ(chorus_client_start(player.client), CHORUS_OK) << chorus_last_error();
  for (int i = 0; i < 100; ++i) {
    ASSERT_EQ(chorus_coordinator_poll(coordinator_, 1000), CHORUS_OK);
    ASSERT_EQ(chorus_client_poll(player.client, 200), CHORUS_OK);
    usleep(1000);
  }
  EXPECT_TRUE(player.kinds.empty());
  EXPECT_EQ(chorus_client_resume(player.client), CHORUS_OK);
  TickUntil([&] { return !player.kinds.empty(); });
  EXPECT_EQ(player.kinds.front(), CHORUS_CLIENT_CONNECTED);
}

TEST_F(CAbi, TakesTokensOfAnySizeThatIsAllowedFromAnyThread) {
  Player& player = Create(1, [](const chorus_client_config&) {});
  EXPECT_EQ(chorus_client_set_token(player.client, nullptr, 1), CHORUS_INVALID_ARGUMENT);
  const std::string token(4'096, 't');
  EXPECT_EQ(chorus_client_set_token(player.client, token.data(), token.size()), CHORUS_OK);
  std::thread([&] {
    EXPECT_EQ(chorus_client_set_token(player.client, nullptr, 0), CHORUS_OK);
  }).join();
  const std::string longer(4'097, 't');
  EXPECT_EQ(chorus_client_set_token(player.client, longer.data(), longer.size()),
            CHORUS_INVALID_ARGUMENT);
}

TEST_F(CAbi, CountsExamplesAgainstTheMemoryCap) {
  Serve(kTask);
  const Examples clouds = Clouds(1);
  const uint64_t once = 4 * (clouds.features.size() + clouds.labels.size());
  Player& player =
      Create(1, [&](chorus_client_config& config) { config.memory_bytes_max = 3 * once - 1; });
  const chorus_examples examples = {.struct_size = sizeof(chorus_examples),
                                    .inputs = clouds.inputs,
                                    .count = clouds.count(),
                                    .features = clouds.features.data(),
                                    .labels = clouds.labels.data(),
                                    .targets = nullptr,
                                    .outputs = 0,
                                    .reserved = 0};
  EXPECT_EQ(chorus_client_add_examples(player.client, &examples), CHORUS_OK);
  EXPECT_EQ(chorus_client_add_examples(player.client, &examples), CHORUS_OK);
  EXPECT_EQ(chorus_client_add_examples(player.client, &examples), CHORUS_RESOURCE_EXHAUSTED);
  ASSERT_EQ(chorus_client_start(player.client), CHORUS_OK) << chorus_last_error();
  EXPECT_EQ(chorus_client_add_examples(player.client, &examples), CHORUS_RESOURCE_EXHAUSTED);
  EXPECT_THAT(chorus_last_error(), HasSubstr("memory_bytes_max"));
}

TEST_F(CAbi, AddsNothingOfExamplesOfWhichOneNumberIsNotFinite) {
  Serve(kTask);
  Player& player = Create(1, [](const chorus_client_config&) {});
  const auto refuses = [&] {
    for (const float bad : {NAN, INFINITY, -INFINITY}) {
      std::vector<float> features(20, 0.5F);
      std::vector<float> targets(10, 0.5F);
      chorus_examples examples{};
      examples.struct_size = sizeof(examples);
      examples.inputs = 2;
      examples.count = 10;
      examples.features = features.data();
      features.back() = bad;
      EXPECT_EQ(chorus_client_add_examples(player.client, &examples), CHORUS_INVALID_ARGUMENT);
      EXPECT_THAT(chorus_last_error(), HasSubstr("hold numbers that are not finite"));
      features.back() = 0;
      examples.targets = targets.data();
      examples.outputs = 1;
      targets.front() = bad;
      EXPECT_EQ(chorus_client_add_examples(player.client, &examples), CHORUS_INVALID_ARGUMENT);
      EXPECT_THAT(chorus_last_error(), HasSubstr("hold numbers that are not finite"));
    }
  };
  refuses();
  EXPECT_EQ(chorus_client_start(player.client), CHORUS_FAILED_PRECONDITION);
  EXPECT_THAT(chorus_last_error(), HasSubstr("no examples"));
  // Good ones are of another kind than those that were refused.
  Add(player, 1);
  refuses();
  ASSERT_EQ(chorus_client_start(player.client), CHORUS_OK) << chorus_last_error();
  refuses();
  Add(player, 2);
}

TEST_F(CAbi, KeepsAnEventsTextUntilTheNextCallOnTheSameThread) {
  chorus_client_config config;
  ASSERT_EQ(chorus_client_config_init(&config, sizeof(config)), CHORUS_OK);
  config.echo = 1;
  config.server = Lend("a greeting too long for a string to keep in itself");
  Player player;
  ASSERT_EQ(chorus_client_create(&config, &player.client), CHORUS_OK);
  Add(player, 1);
  ASSERT_EQ(chorus_client_start(player.client), CHORUS_OK);
  ASSERT_EQ(chorus_client_poll(player.client, 1), CHORUS_OK);
  ASSERT_EQ(chorus_client_poll(player.client, 1), CHORUS_OK);
  chorus_client_event event{};
  event.struct_size = sizeof(event);
  ASSERT_EQ(chorus_client_next_event(player.client, &event), CHORUS_OK);
  // Another thread takes the next event, and ends the handle.
  std::thread([&] {
    chorus_client_event other{};
    other.struct_size = sizeof(other);
    EXPECT_EQ(chorus_client_next_event(player.client, &other), CHORUS_OK);
    EXPECT_EQ(chorus_client_destroy(player.client), CHORUS_OK);
  }).join();
  player.client = nullptr;
  EXPECT_STREQ(event.message, "a greeting too long for a string to keep in itself");
}

TEST_F(CAbi, RefusesExamplesThatWouldOverflowOrAreOfAnotherKind) {
  chorus_client_config config;
  ASSERT_EQ(chorus_client_config_init(&config, sizeof(config)), CHORUS_OK);
  config.echo = 1;
  Player player;
  ASSERT_EQ(chorus_client_create(&config, &player.client), CHORUS_OK);
  const std::array<float, 4> values{};
  chorus_examples examples{};
  examples.struct_size = sizeof(examples);
  examples.inputs = 2;
  examples.count = UINT64_MAX / 2 + 2;  // times two features it is four
  examples.features = values.data();
  EXPECT_EQ(chorus_client_add_examples(player.client, &examples), CHORUS_INVALID_ARGUMENT);
  examples.count = 2;
  examples.targets = values.data();
  EXPECT_EQ(chorus_client_add_examples(player.client, &examples), CHORUS_INVALID_ARGUMENT);
  examples.outputs = 1;
  EXPECT_EQ(chorus_client_add_examples(player.client, &examples), CHORUS_OK);
  examples.targets = nullptr;
  examples.outputs = 0;
  EXPECT_EQ(chorus_client_add_examples(player.client, &examples), CHORUS_INVALID_ARGUMENT);
  EXPECT_THAT(chorus_last_error(), HasSubstr("another kind"));
}

// Certificates of TLS, by one authority and by another.
struct Tls {
  explicit Tls(int64_t now) {
    authority = *crypto::MakeTlsAuthority("authority", now - 60, now + 3'600);
    server = *crypto::MakeTlsServer(authority, {"127.0.0.1"}, now - 60, now + 3'600);
    client = *crypto::MakeTlsClient(authority, "client", now - 60, now + 3'600);
    const auto stranger = *crypto::MakeTlsAuthority("stranger", now - 60, now + 3'600);
    foreign = *crypto::MakeTlsClient(stranger, "client", now - 60, now + 3'600);
  }
  crypto::TlsIdentity authority;
  crypto::TlsIdentity server;
  crypto::TlsIdentity client;
  crypto::TlsIdentity foreign;
};

TEST_F(CAbi, LearnsOverTlsFromACoordinatorWithItsOwnThread) {
  const Tls tls(clock_->UnixSeconds());
  ServeAs([&](chorus_coordinator_config& config) {
    config.plaintext = 0;
    config.own_thread = 1;
    config.tls_certificate_pem = Lend(tls.server.certificate_pem);
    config.tls_key_pem = Lend(tls.server.key_pem);
  });
  for (uint64_t number = 1; number <= 5; ++number) {
    Player& player = Create(number, [&](chorus_client_config& config) {
      config.plaintext = 0;
      config.training = CHORUS_TRAIN_ON_WORKER;
      config.tls_roots_pem = Lend(tls.authority.certificate_pem);
    });
    Add(player, number);
    ASSERT_EQ(chorus_client_start(player.client), CHORUS_OK) << chorus_last_error();
  }
  // Nobody polls the coordinator, and yet it answers.
  PlayUntil([&] {
    return std::all_of(players_.begin(), players_.end(), [](const auto& player) {
      return !player->kinds.empty() && player->kinds.back() == CHORUS_CLIENT_STOPPED;
    });
  });
  for (const auto& player : players_)
    EXPECT_EQ(std::count(player->kinds.begin(), player->kinds.end(), CHORUS_CLIENT_CONTRIBUTED), 3);
  TickUntil([&] { return Complete(); });
  chorus_model* learnt = nullptr;
  ASSERT_EQ(chorus_coordinator_fetch_model(coordinator_, &learnt), CHORUS_OK);
  EXPECT_GT(Right(learnt), 0.75);
  EXPECT_EQ(chorus_model_destroy(learnt), CHORUS_OK);
}

// A coordinator that asks for certificates and tokens, which none does through C.
class CAbiAtTheDoor : public CAbi {
 protected:
  void SetUp() override {
    auto tokens =
        NewJwtVerifier(KeySet(login_.Jwk("a")), {.issuer = "login", .audience = "chorus"});
    ASSERT_THAT(tokens, IsOk());
    tokens_ = *std::move(tokens);
    const PublicKey issuer = crypto::Ed25519Public(issuer_seed_.Reveal());
    verifier_ = trust::NewAdmissionVerifier(issuer, *clock_, std::chrono::hours(1));
    Result<TaskSpec> task = wire::ParseTaskText(kTask);
    ASSERT_THAT(task, IsOk());
    CoordinatorOptions options;
    options.listen = "127.0.0.1:0";
    options.tls_certificate_pem = tls_.server.certificate_pem;
    options.tls_key_pem = tls_.server.key_pem;
    options.client_ca_pem = tls_.authority.certificate_pem;
    options.admission.tokens = tokens_.get();
    options.signing_seed = Seed("coordinator", 0);
    options.tasks.push_back({.task = *std::move(task), .experiment_seed = 5});
    auto started = Coordinator::Start(std::move(options), *store_, *verifier_, *clock_, log_);
    ASSERT_THAT(started, IsOk());
    host_ = *std::move(started);
    port_ = host_->port();
  }
  // Before the coordinator goes.
  void TearDown() override { players_.clear(); }

  std::string TokenOf(uint64_t number) const {
    return login_.Sign(R"({"alg":"EdDSA"})",
                       R"({"iss":"login","aud":"chorus","sub":"player-)" + std::to_string(number) +
                           R"(","exp":)" + std::to_string(clock_->UnixSeconds() + 3'600) + "}");
  }
  // One that comes with this certificate, if any, and `token`, if any.
  Player& Come(uint64_t number, const crypto::TlsIdentity& shown, const std::string& token) {
    Player& player = Create(number, [&](chorus_client_config& config) {
      config.plaintext = 0;
      config.tls_roots_pem = Lend(tls_.authority.certificate_pem);
      config.tls_certificate_pem = Lend(shown.certificate_pem);
      config.tls_key_pem = Lend(shown.key_pem);
    });
    Add(player, number);
    // What the login gives later counts.
    EXPECT_EQ(chorus_client_set_token(player.client, "expired", 7), CHORUS_OK);
    EXPECT_EQ(chorus_client_set_token(player.client, token.data(), token.size()), CHORUS_OK);
    EXPECT_EQ(chorus_client_start(player.client), CHORUS_OK) << chorus_last_error();
    return player;
  }

  const Tls tls_{NewSystemClock()->UnixSeconds()};
  const Ed25519Login login_{1};
  SilentLog log_;
  std::unique_ptr<JwtVerifier> tokens_;
  std::unique_ptr<IdentityVerifier> verifier_;
  const std::unique_ptr<Store> store_ = NewMemoryStore();
  std::unique_ptr<Coordinator> host_;
};

TEST_F(CAbiAtTheDoor, LetsInWhoShowsACertificateAndATokenAndNobodyElse) {
  const Player& without_certificate = Come(6, {}, TokenOf(6));
  const Player& with_a_foreign_one = Come(7, tls_.foreign, TokenOf(7));
  const Player& without_token = Come(8, tls_.client, "");
  const Player& with_anothers_words = Come(9, tls_.client, TokenOf(9) + "x");
  for (uint64_t number = 1; number <= 5; ++number) Come(number, tls_.client, TokenOf(number));
  PlayUntil([&] {
    return std::all_of(players_.begin(), players_.begin() + 4,
                       [](const auto& player) { return !player->kinds.empty(); }) &&
           std::all_of(players_.begin() + 4, players_.end(), [](const auto& player) {
             return std::count(player->kinds.begin(), player->kinds.end(),
                               CHORUS_CLIENT_CONTRIBUTED) > 0;
           });
  });
  for (const Player* const refused :
       {&without_certificate, &with_a_foreign_one, &without_token, &with_anothers_words}) {
    EXPECT_THAT(refused->kinds, testing::Each(CHORUS_CLIENT_DISCONNECTED));
  }
  EXPECT_EQ(without_certificate.statuses.front(), CHORUS_UNAVAILABLE);
  EXPECT_EQ(with_a_foreign_one.statuses.front(), CHORUS_UNAVAILABLE);
  EXPECT_EQ(without_token.statuses.front(), CHORUS_UNAUTHENTICATED);
  EXPECT_THAT(without_token.messages.front(), HasSubstr("wants a session"));
  EXPECT_EQ(with_anothers_words.statuses.front(), CHORUS_UNAUTHENTICATED);
}

}  // namespace
}  // namespace chorus
