// The C ABI of both sides over TLS, and who may come: certificates, session tokens.
#include <algorithm>
#include <string>

#include "c_abi_world.h"
#include "chorus/client_c.h"
#include "chorus/coordinator_c.h"
#include "crypto/crypto.h"
#include "federation.h"
#include "matchers.h"
#include "tokens.h"

namespace chorus {
namespace {

using testing::HasSubstr;

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

// A coordinator that asks for certificates and tokens.
class CAbiAtTheDoor : public CAbi {
 protected:
  void SetUp() override {
    const std::string keys = KeySet(login_.Jwk("a"));
    ServeAs([&](chorus_coordinator_config& config) {
      config.plaintext = 0;
      config.own_thread = 1;
      config.tls_certificate_pem = Lend(tls_.server.certificate_pem);
      config.tls_key_pem = Lend(tls_.server.key_pem);
      config.client_ca_pem = Lend(tls_.authority.certificate_pem);
      config.token_keys = Lend(keys);
      config.token_issuer = Lend("login");
      config.token_audience = Lend("chorus");
    });
  }

  std::string TokenOf(uint64_t number) const { return TokenOf(number, login_); }
  std::string TokenOf(uint64_t number, const Ed25519Login& login) const {
    return login.Sign(R"({"alg":"EdDSA"})",
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

TEST_F(CAbiAtTheDoor, TakesTheLoginsNewKeys) {
  const auto first_of = [&](const Player& player) {
    PlayUntil([&] { return !player.kinds.empty(); });
    return player.kinds.front();
  };
  const Ed25519Login renewed(2);
  EXPECT_EQ(first_of(Come(1, tls_.client, TokenOf(1))), CHORUS_CLIENT_CONNECTED);
  EXPECT_EQ(first_of(Come(2, tls_.client, TokenOf(2, renewed))), CHORUS_CLIENT_DISCONNECTED);
  // What is no set of keys changes nothing.
  EXPECT_EQ(chorus_coordinator_set_token_keys(coordinator_, "{}", 2), CHORUS_INVALID_ARGUMENT);
  EXPECT_EQ(first_of(Come(3, tls_.client, TokenOf(3))), CHORUS_CLIENT_CONNECTED);
  const std::string keys = KeySet(renewed.Jwk("b"));
  ASSERT_EQ(chorus_coordinator_set_token_keys(coordinator_, keys.data(), keys.size()), CHORUS_OK)
      << chorus_last_error();
  EXPECT_EQ(first_of(Come(4, tls_.client, TokenOf(4, renewed))), CHORUS_CLIENT_CONNECTED);
  EXPECT_EQ(first_of(Come(5, tls_.client, TokenOf(5))), CHORUS_CLIENT_DISCONNECTED);
}

TEST_F(CAbi, AsksForTokensWithKeysAlone) {
  Serve(kTask);
  const std::string keys = KeySet(Ed25519Login(1).Jwk("a"));
  EXPECT_EQ(chorus_coordinator_set_token_keys(coordinator_, keys.data(), keys.size()),
            CHORUS_FAILED_PRECONDITION);
  chorus_coordinator_config config;
  ASSERT_EQ(chorus_coordinator_config_init(&config, sizeof(config)), CHORUS_OK);
  const PublicKey key{2};
  config.plaintext = 1;
  config.task = Lend(kTask);
  config.listen = Lend("127.0.0.1:0");
  config.signing_seed = Lend(key);
  config.issuer_key = Lend(key);
  config.token_issuer = Lend("login");
  chorus_coordinator* other = nullptr;
  EXPECT_EQ(chorus_coordinator_create(&config, &other), CHORUS_INVALID_ARGUMENT);
  EXPECT_THAT(chorus_last_error(), HasSubstr("token_keys"));
  config.token_keys = Lend(keys);
  EXPECT_EQ(chorus_coordinator_create(&config, &other), CHORUS_INVALID_ARGUMENT);
  EXPECT_THAT(chorus_last_error(), HasSubstr("audience"));
  config.token_audience = Lend("chorus");
  config.token_keys = Lend("{}");
  EXPECT_EQ(chorus_coordinator_create(&config, &other), CHORUS_INVALID_ARGUMENT);
  EXPECT_THAT(chorus_last_error(), HasSubstr("key"));
}

}  // namespace
}  // namespace chorus
