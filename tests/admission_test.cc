// Who is let in: session tokens, one session an account, rates, and clients that are sent away.
#include "coordinator/admission.h"

#include <string>

#include "chorus/token.h"
#include "coordinator/allowance.h"
#include "coordinator/rate_limits.h"
#include "coordinator_world.h"
#include "tokens.h"

namespace chorus::coordinator {
namespace {

constexpr char kHeader[] = R"({"alg":"EdDSA"})";

// A coordinator that asks for tokens of a login.
class Door : public testing::Test {
 protected:
  void SetUp() override {
    auto made = NewJwtVerifier(KeySet(login_.Jwk("a")), {.issuer = "login", .audience = "chorus"});
    ASSERT_THAT(made, IsOk());
    tokens_ = *std::move(made);
    world_.admission.tokens = tokens_.get();
    world_.Start();
  }
  Bytes TokenOf(std::string_view subject, int64_t seconds = 3'600,
                std::string_view more = "") const {
    const std::string text = login_.Sign(
        kHeader, R"({"iss":"login","aud":"chorus","sub":")" + std::string(subject) + R"(","exp":)" +
                     std::to_string(world_.clock.unix_seconds + seconds) + std::string(more) + "}");
    return Bytes(text.begin(), text.end());
  }
  Status TryCheckIn(Player& player, Bytes token) {
    wire::CheckInRequest request = player.SignedCheckIn(player.Challenge());
    request.token = std::move(token);
    return player.TryCheckIn(request);
  }

  const Ed25519Login login_{1};
  std::unique_ptr<JwtVerifier> tokens_;
  World world_;
};

TEST_F(Door, OpensToWhoHasATokenAndToNobodyElse) {
  Player player(world_, 1);
  EXPECT_THAT(TryCheckIn(player, {}), HasCodeAndText(Code::kUnauthenticated, "wants a session"));
  EXPECT_THAT(TryCheckIn(player, Bytes{1, 2}), HasCode(Code::kUnauthenticated));
  EXPECT_THAT(TryCheckIn(player, TokenOf("ann", -100)),
              HasCodeAndText(Code::kUnauthenticated, "expired"));
  EXPECT_THAT(TryCheckIn(player, TokenOf("ann")), IsOk());
  player.Ask();
  EXPECT_TRUE(player.parked());
}

TEST_F(Door, GivesAnAccountOneSessionAtATime) {
  Player first(world_, 1);
  Player second(world_, 2);
  EXPECT_THAT(TryCheckIn(first, TokenOf("ann")), IsOk());
  EXPECT_THAT(TryCheckIn(second, TokenOf("ann")),
              HasCodeAndText(Code::kAlreadyExists, "another identity"));
  EXPECT_THAT(TryCheckIn(second, TokenOf("bob")), IsOk());
  EXPECT_THAT(TryCheckIn(first, TokenOf("ann")), IsOk());  // anew, with the same identity
  // The same identity may change its account; the one that it had is free then.
  EXPECT_THAT(TryCheckIn(first, TokenOf("eve")), IsOk());
  EXPECT_THAT(TryCheckIn(second, TokenOf("ann")), IsOk());
  // A session that nobody uses any more holds its account no longer than itself.
  world_.Advance(limits::kSessionIdleMax + Time{6'000});
  Player third(world_, 3);
  EXPECT_THAT(TryCheckIn(third, TokenOf("eve")), IsOk());
}

TEST_F(Door, LetsNobodyUseATokenThatIsBoundToAnother) {
  Player owner(world_, 1);
  Player thief(world_, 2);
  const std::string bound = R"(,"cnf":{"jwk":{"kty":"OKP","crv":"Ed25519","x":")" +
                            Base64Url(crypto::Ed25519Public(owner.seed.Reveal())) + "\"}}";
  EXPECT_THAT(TryCheckIn(thief, TokenOf("ann", 60, bound)),
              HasCodeAndText(Code::kUnauthenticated, "bound to another"));
  EXPECT_THAT(TryCheckIn(owner, TokenOf("ann", 60, bound)), IsOk());
}

TEST_F(Door, ClosesBehindASessionWhoseTokenHasExpired) {
  Player player(world_, 1);
  wire::CheckInRequest request = player.SignedCheckIn(player.Challenge());
  request.token = TokenOf("ann", 10);
  ASSERT_THAT(player.TryCheckIn(request), IsOk());
  player.Ask();
  world_.Advance(Time{69'000});  // the skew that the verifier allows is a minute
  player.Ask();
  EXPECT_TRUE(player.parked());
  world_.Advance(Time{7'000});
  EXPECT_THAT(player.Given(), HasCodeAndText(Code::kUnauthenticated, "expired"));
  // What opened it opens nothing again.
  world_.clock.unix_seconds -= 1;
  EXPECT_THAT(player.TryCheckIn(request), HasCodeAndText(Code::kUnauthenticated, "used before"));
}

TEST_F(Door, OpensToNoChallengeFromBeforeASessionThatEndedEarly) {
  Player player(world_, 1);
  const Digest never_used = player.Challenge();
  std::vector<wire::CheckInRequest> sent = {player.SignedCheckIn(player.Challenge()),
                                            player.SignedCheckIn(player.Challenge()),
                                            player.SignedCheckIn(never_used)};
  for (wire::CheckInRequest& request : sent) request.token = TokenOf("ann", 10);
  // The second replaces the first, and ends with its token.
  ASSERT_THAT(player.TryCheckIn(sent[0]), IsOk());
  ASSERT_THAT(player.TryCheckIn(sent[1]), IsOk());
  world_.Advance(Time{76'000});
  player.Ask();
  ASSERT_THAT(player.Given(), HasCode(Code::kUnauthenticated));
  world_.clock.unix_seconds -= 1;
  for (const wire::CheckInRequest& request : sent) {
    EXPECT_THAT(player.TryCheckIn(request), HasCodeAndText(Code::kUnauthenticated, "used before"));
  }
  // Nobody else's are any worse for it.
  Player other(world_, 2);
  EXPECT_THAT(TryCheckIn(other, TokenOf("bob")), IsOk());
  EXPECT_THAT(TryCheckIn(player, TokenOf("ann")), IsOk());
}

TEST(Rates, OfOneIdentityAreBoundedAndSayWhenToComeBack) {
  World world;
  world.admission.identity = {.per_second = 1, .burst = 3};
  world.Start();
  Player player(world, 1);
  for (int i = 0; i < 3; ++i) player.CheckIn();
  Status refused;
  world.core->Handle(wire::kCheckIn, wire::Encode(player.SignedCheckIn(player.Challenge())),
                     [&](const Result<Bytes>& reply) { refused = reply.status(); });
  EXPECT_THAT(refused, HasCodeAndText(Code::kResourceExhausted, "identity"));
  EXPECT_EQ(refused.retry_after(), Time{1'000});
  // A signature that is wrong draws on nobody's bucket.
  Player other(world, 2);
  for (int i = 0; i < 10; ++i) {
    wire::CheckInRequest forged = other.SignedCheckIn(other.Challenge());
    forged.signature[0] ^= 1;
    EXPECT_THAT(other.TryCheckIn(forged), HasCode(Code::kUnauthenticated));
  }
  other.CheckIn();
  world.Advance(Time{1'000});
  player.CheckIn();
}

TEST_F(Door, CountsAnAccountWhateverItsIdentities) {
  world_.admission.subject = {.per_second = 1, .burst = 2};
  world_.Start();
  std::vector<Status> outcomes;
  for (const uint64_t serial : {1, 2, 3, 4}) {
    Player player(world_, serial);
    outcomes.push_back(TryCheckIn(player, TokenOf("ann")));
  }
  EXPECT_THAT(outcomes, testing::ElementsAre(IsOk(), HasCode(Code::kAlreadyExists),
                                             HasCode(Code::kResourceExhausted),
                                             HasCode(Code::kResourceExhausted)));
}

TEST_F(Door, LetsNobodyDrawFromAnAccountWhoseTokenTheySaw) {
  world_.admission.subject = {.per_second = 1, .burst = 2};
  world_.Start();
  for (const uint64_t serial : {1, 2, 3, 4}) {
    // Signed by a key that nobody has vouched for.
    Player stranger(world_, serial);
    stranger.evidence.back() ^= 1;
    EXPECT_THAT(TryCheckIn(stranger, TokenOf("ann")), HasCode(Code::kUnauthenticated));
  }
  Player player(world_, 5);
  EXPECT_THAT(TryCheckIn(player, TokenOf("ann")), IsOk());
}

TEST(Rates, OfOneSessionAreBounded) {
  World world;
  world.Start();
  Player player(world, 1);
  player.CheckIn();
  Status refused;
  int calls = 0;
  while (refused.ok() && calls < 20'000) {
    ++calls;
    world.core->Handle(wire::kDownload,
                       wire::Encode(wire::DownloadRequest{.session = player.session, .sha256 = {}}),
                       [&](const Result<Bytes>& reply) {
                         if (reply.status().code() == Code::kResourceExhausted)
                           refused = reply.status();
                       });
  }
  EXPECT_GT(calls, 8'000);
  EXPECT_THAT(refused, HasCodeAndText(Code::kResourceExhausted, "this session"));
  EXPECT_GT(refused.retry_after(), Time{0});
  world.Advance(refused.retry_after());
  player.Ask();
  EXPECT_TRUE(player.parked());
}

TEST(Rates, CountWhatIsDownloaded) {
  Allowance allowance;
  const Time now{1'000'000};
  uint64_t bytes = 0;
  while (allowance.Call(now).ok()) {
    allowance.Give(limits::kChunkBytesMax, now);
    bytes += limits::kChunkBytesMax;
  }
  // A model of 400 MiB comes at once, and after it 200 MiB in each second.
  EXPECT_GT(bytes, uint64_t{400} << 20U);
  EXPECT_LT(bytes, uint64_t{512} << 20U);
  for (int i = 0; i < 200; ++i) {
    ASSERT_THAT(allowance.Call(now + Time{5 * (i + 1)}), IsOk()) << i;
    allowance.Give(limits::kChunkBytesMax, now + Time{5 * (i + 1)});
  }
}

TEST(Rates, OfAnySizeAreKept) {
  // Slow beyond a day a call, and buckets beyond what a moment can count.
  RateLimits slow({.per_second = 1e-30, .burst = UINT32_MAX}, 10, Bytes(32, 1));
  const Bytes caller{1};
  for (int i = 0; i < 1'000; ++i) EXPECT_THAT(slow.Take(caller, "test", 1, Time{5}), IsOk());
  // More than a whole bucket is a whole one, so it can be had at all.
  RateLimits small({.per_second = 1, .burst = 3}, 10, Bytes(32, 1));
  EXPECT_THAT(small.Take(caller, "test", 10, Time{5}), IsOk());
  EXPECT_THAT(small.Take(caller, "test", 1, Time{5}), HasCode(Code::kResourceExhausted));
  EXPECT_THAT(small.Take(caller, "test", 10, Time{3'005}), IsOk());
}

// --- clients that are sent away ---

TEST(HangingUp, IsAskedOfThoseForWhomThereIsNoPlace) {
  World world;
  world.task.cohort = {.minimum = 100, .target = 100, .maximum = 100};
  world.pacing = {.connected_max = 210, .returns_per_second = 10};
  world.Start();
  Players players = CheckedIn(world, 210);
  // A round is under way by now; whoever comes on top is told when to come back, and forgotten.
  Time before{};
  for (uint64_t serial = 1'000; serial < 1'020; ++serial) {
    Player player(world, serial);
    const wire::CheckInRequest request = player.SignedCheckIn(player.Challenge());
    ASSERT_THAT(player.TryCheckIn(request), IsOk());
    const auto wait = player.Take<wire::Wait>();
    ASSERT_TRUE(wait.has_value()) << serial;
    EXPECT_TRUE(wait->hang_up);
    const Time stay{wait->retry_ms};
    if (before != Time{}) {
      EXPECT_EQ(stay - before, Time{100});  // ten turns a second
    }
    EXPECT_GE(stay, Time{60'000});
    before = stay;
    player.Ask();
    EXPECT_THAT(player.Given(), HasCode(Code::kUnauthenticated));
    EXPECT_THAT(player.TryCheckIn(request), HasCodeAndText(Code::kUnauthenticated, "used before"));
  }
  const auto status = world.Call<wire::StatusReply>(wire::kGetStatus, wire::StatusRequest{});
  ASSERT_THAT(status, IsOk());
  EXPECT_EQ(status->clients, 210U);
}

TEST(HangingUp, IsNeverAskedInAnExperiment) {
  World world;
  world.task.cohort = {.minimum = 50, .target = 50, .maximum = 50};
  world.pacing = {.connected_max = 1, .returns_per_second = 10};
  world.experiment_seed = 1;
  world.Start();
  Players players = CheckedIn(world, 40);
  for (const auto& player : players) EXPECT_TRUE(player->parked());
}

}  // namespace
}  // namespace chorus::coordinator
