// What the tests of the C ABI play in: a coordinator and players of one program, each behind its C
// header, driven by one loop.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "chorus/client_c.h"
#include "chorus/coordinator_c.h"
#include "crypto/crypto.h"
#include "federation.h"
#include "trust/trust.h"

namespace chorus {

inline chorus_bytes Lend(BytesView bytes) { return {bytes.data(), bytes.size()}; }
inline chorus_bytes Lend(std::string_view text) { return Lend(ViewOf(text)); }

inline constexpr std::string_view kTask = R"(
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

inline void Note(void* user, const chorus_client_event* event) {
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

}  // namespace chorus
