// The C ABI of both sides, inside one program: a federation that is driven by one loop, as a game
// server drives it, and misuse. What C itself thinks of the headers is client_c_test.c's.
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "c_abi_world.h"
#include "chorus/client_c.h"
#include "chorus/coordinator_c.h"
#include "federation.h"
#include "matchers.h"

namespace chorus {
namespace {

using testing::Contains;
using testing::HasSubstr;

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
  ASSERT_GE(small.kinds.size(), 3U);
  EXPECT_EQ(small.kinds[0], CHORUS_CLIENT_CONNECTED);
  EXPECT_EQ(small.kinds[1], CHORUS_CLIENT_INVITED);
  EXPECT_EQ(small.kinds[2], CHORUS_CLIENT_REFUSED);
  EXPECT_EQ(small.statuses[2], CHORUS_RESOURCE_EXHAUSTED);
  EXPECT_THAT(small.kinds, testing::Not(Contains(CHORUS_CLIENT_TRAINED)));
}

// The task needs a little more than a megabyte, most of it whatever the model's size is.
TEST_F(CAbi, KeepsTheMemoryCapWhileARoundRuns) {
  constexpr uint64_t kCap = 1'200'000;
  const std::vector<float> features(40'000, 0.5F);
  const std::vector<uint32_t> labels(features.size() / 2);
  const chorus_examples more = {.struct_size = sizeof(chorus_examples),
                                .inputs = 2,
                                .count = labels.size(),
                                .features = features.data(),
                                .labels = labels.data(),
                                .targets = nullptr,
                                .outputs = 0,
                                .reserved = 0};
  Serve(kTask);
  for (uint64_t number = 1; number <= 5; ++number) Join(number, kCap);
  const Player& invited = *players_[0];
  TickUntil([&] {
    return std::find(invited.kinds.begin(), invited.kinds.end(), CHORUS_CLIENT_INVITED) !=
           invited.kinds.end();
  });
  // The coordinator stands still, and so does the round.
  EXPECT_EQ(chorus_client_add_examples(invited.client, &more), CHORUS_RESOURCE_EXHAUSTED);
  Add(*players_[0], 7);
  EXPECT_THAT(invited.kinds, testing::Not(Contains(CHORUS_CLIENT_REFUSED)));
  Join(6, kCap);
  EXPECT_EQ(chorus_client_add_examples(players_[5]->client, &more), CHORUS_OK)
      << chorus_last_error();
}

TEST_F(CAbi, LooksAtNoExamplesThatTheMemoryCapHasNoRoomFor) {
  Serve(kTask);
  Player& player =
      Create(1, [](chorus_client_config& config) { config.memory_bytes_max = 1'000'000; });
  const float only = 0;
  chorus_examples examples{};
  examples.struct_size = sizeof(examples);
  examples.inputs = 2;
  examples.count = 50'000'000;  // which are not there
  examples.features = &only;
  EXPECT_EQ(chorus_client_add_examples(player.client, &examples), CHORUS_RESOURCE_EXHAUSTED);
  Add(player, 1);
  EXPECT_EQ(chorus_client_add_examples(player.client, &examples), CHORUS_RESOURCE_EXHAUSTED);
  ASSERT_EQ(chorus_client_start(player.client), CHORUS_OK) << chorus_last_error();
  EXPECT_EQ(chorus_client_add_examples(player.client, &examples), CHORUS_RESOURCE_EXHAUSTED);
  Add(player, 2);
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

TEST_F(CAbi, ReadsOfAFirstVersionsCoordinatorWhatThatHad) {
  ServeAs([](chorus_coordinator_config& config) {
    constexpr uint32_t kFirst = 152;
    config.struct_size = kFirst;
    std::memset(reinterpret_cast<char*>(&config) + kFirst, 0xa5, sizeof(config) - kFirst);
  });
  EXPECT_GT(port_, 0);
  int32_t web_port = 1;
  EXPECT_EQ(chorus_coordinator_get_web_port(coordinator_, &web_port), CHORUS_OK);
  EXPECT_EQ(web_port, 0);
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

// What joins earlier ones counts three times.
TEST_F(CAbi, CountsExamplesAgainstTheMemoryCap) {
  Serve(kTask);
  const Examples clouds = Clouds(1);
  const uint64_t once = 4 * (clouds.features.size() + clouds.labels.size());
  Player& player =
      Create(1, [&](chorus_client_config& config) { config.memory_bytes_max = 9 * once - 1; });
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

// Asks the page for `path` while the coordinator is ticked; all that comes until it hangs up.
std::string GetTicking(chorus_coordinator* coordinator, int32_t port, const std::string& path) {
  const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const std::string request = "GET " + path + " HTTP/1.1\r\nHost: localhost\r\n\r\n";
  EXPECT_EQ(::connect(socket, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  EXPECT_EQ(::send(socket, request.data(), request.size(), MSG_NOSIGNAL),
            static_cast<ssize_t>(request.size()));
  std::string all;
  std::array<char, 4096> part{};
  ssize_t got = 1;
  for (int tick = 0; got > 0 && tick < 20'000; ++tick) {
    EXPECT_EQ(chorus_coordinator_poll(coordinator, 1000), CHORUS_OK) << chorus_last_error();
    pollfd event{.fd = socket, .events = POLLIN, .revents = 0};
    if (::poll(&event, 1, 1) <= 0) continue;
    got = ::recv(socket, part.data(), part.size(), 0);
    if (got > 0) all.append(part.data(), static_cast<size_t>(got));
  }
  ::close(socket);
  return all;
}

TEST_F(CAbi, ServesItsPageWhereItIsTold) {
  Serve(kTask);
  int32_t port = 1;
  EXPECT_EQ(chorus_coordinator_get_web_port(coordinator_, &port), CHORUS_OK);
  EXPECT_EQ(port, 0);
  EXPECT_EQ(chorus_coordinator_destroy(coordinator_), CHORUS_OK);
  ServeAs([&](chorus_coordinator_config& config) { config.web_listen = Lend("127.0.0.1:0"); });
  EXPECT_EQ(chorus_coordinator_get_web_port(coordinator_, &port), CHORUS_OK);
  ASSERT_GT(port, 0);
  EXPECT_THAT(GetTicking(coordinator_, port, "/healthz"), testing::StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(GetTicking(coordinator_, port, "/metrics"), HasSubstr("\nchorus_"));
}

}  // namespace
}  // namespace chorus
