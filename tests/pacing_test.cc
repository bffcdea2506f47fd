// When clients come back: the law of turns under a million of them, and a client that obeys it.
#include "coordinator/pacing.h"

#include <algorithm>
#include <array>
#include <vector>

#include "base/limits.h"
#include "coordinator/rate_limits.h"
#include "matchers.h"
#include "test_rng.h"

namespace chorus::coordinator {
namespace {

constexpr uint64_t kClients = 1'000'000;
constexpr size_t kRate = 250;
constexpr Time kSecond{1'000};

// A million clients in virtual time, second by second. Of a client only matters how often in a row
// it has failed to reach the coordinator.
class Crowd {
 public:
  static constexpr size_t kFailuresMax = 3;  // from then on the wait does not grow

  explicit Crowd(const PacingOptions& options) : pacing_(options) {}

  void Come(size_t second, size_t clients) { At(second)[0] += static_cast<uint32_t>(clients); }
  // Lets time pass; returns how many calls each second saw, those that nobody answered among them.
  std::vector<size_t> Run(size_t seconds) {
    std::vector<size_t> calls;
    for (size_t i = 0; i < seconds; ++i, ++now_) {
      const std::array<uint32_t, kFailuresMax + 1> due = At(now_);
      calls.push_back(0);
      for (size_t failures = 0; failures < due.size(); ++failures) {
        calls.back() += due[failures];
        for (uint32_t client = 0; client < due[failures]; ++client) Call(failures);
      }
    }
    return calls;
  }
  void Down() { up_ = false; }
  // A new process, which knows nothing of the turns that the old one gave.
  void Up(const PacingOptions& options) {
    up_ = true;
    pacing_ = Pacing(options);
  }

 private:
  std::array<uint32_t, kFailuresMax + 1>& At(size_t second) {
    if (due_.size() <= second) due_.resize(second + 1);
    return due_[second];
  }
  // As client/session.cc does: full jitter on failures, a little on a stay.
  void Call(size_t failures) {
    Time wait{};
    if (up_) {
      const Time stay = pacing_.NextStay(kSecond * static_cast<int64_t>(now_));
      wait = stay + Below(stay / 32);
    } else {
      wait = Below(std::min(limits::kBackoffFirst * (1 << (5 + failures)), limits::kBackoffMax));
    }
    const auto later = static_cast<size_t>(wait / kSecond);
    ++At(now_ + std::max<size_t>(later, 1))[up_ ? 0 : std::min(failures + 1, kFailuresMax)];
  }
  Time Below(Time most) {
    return Time{static_cast<int64_t>(UniformBelow(rng_, static_cast<uint64_t>(most.count()) + 1))};
  }

  Pacing pacing_;
  TestRng rng_{7};
  std::vector<std::array<uint32_t, kFailuresMax + 1>> due_;
  size_t now_ = 0;
  bool up_ = true;
};

size_t Most(const std::vector<size_t>& calls, size_t from) {
  return *std::max_element(calls.begin() + static_cast<ptrdiff_t>(from), calls.end());
}

// A million clients that all start within five minutes, as after an update of the game, are spread
// evenly from then on. With about 250 draws a second, more than 1.5 times as many in any of 8,000
// seconds would be eight standard deviations.
TEST(Pacing, SpreadsAMillionClientsEvenly) {
  Crowd crowd({.connected_max = 1, .returns_per_second = kRate});
  for (size_t second = 0; second < 300; ++second) crowd.Come(second, kClients / 300);
  const std::vector<size_t> calls = crowd.Run(12'000);
  EXPECT_LE(Most(calls, 1'000), kRate * 3 / 2);
  for (size_t minute = 80; minute < 200; ++minute) {  // once everybody has had a first turn
    size_t sum = 0;
    for (size_t i = 0; i < 60; ++i) sum += calls[minute * 60 + i];
    EXPECT_NEAR(static_cast<double>(sum), 60.0 * kRate, 60.0 * kRate * 0.1) << minute;
  }
}

// Half a minute without a coordinator, and then one that has forgotten everything.
TEST(Pacing, RestartCausesNoStampede) {
  const PacingOptions forgetful{.connected_max = 1, .returns_per_second = kRate};
  Crowd crowd(forgetful);
  for (size_t second = 0; second < 300; ++second) crowd.Come(second, kClients / 300);
  (void)crowd.Run(6'000);
  crowd.Down();
  (void)crowd.Run(30);
  crowd.Up(forgetful);
  const std::vector<size_t> calls = crowd.Run(9'000);
  // Old turns and new ones until the old are through, and at first those that had failed: never a
  // thousandth of the crowd in one second.
  EXPECT_LE(Most(calls, 0), kRate * 4);
  EXPECT_LE(Most(calls, 60), kRate * 3);
  EXPECT_LE(Most(calls, 6'000), kRate * 5 / 2);
}

TEST(Pacing, RestartThatKnowsThePopulationGivesNoTurnTwice) {
  const PacingOptions knowing{
      .connected_max = 1, .returns_per_second = kRate, .population = kClients};
  Crowd crowd(knowing);
  for (size_t second = 0; second < 4'000; ++second) crowd.Come(second, kClients / 4'000);
  (void)crowd.Run(6'000);
  crowd.Up(knowing);
  EXPECT_LE(Most(crowd.Run(9'000), 60), kRate * 3 / 2);
}

TEST(Pacing, StaysAreNeverTooShortNorTooLong) {
  Pacing pacing({.connected_max = 1, .returns_per_second = 1});
  std::vector<size_t> hours(4);
  for (int i = 0; i < 50'000; ++i) {
    const Time stay = pacing.NextStay(kSecond);
    ASSERT_GE(stay, Time{60'000}) << i;
    ASSERT_LE(stay, limits::kStayAwayMax) << i;
    if (i >= 20'000) ++hours[static_cast<size_t>(stay.count() / 3'600'001)];
  }
  // More than the queue holds: spread over all of the time that there is.
  for (const size_t hour : hours) EXPECT_NEAR(static_cast<double>(hour), 7'500, 150);
}

TEST(Pacing, SendsNobodyAwayFromASmallTask) {
  Pacing pacing{PacingOptions()};
  pacing.Want(20);
  EXPECT_FALSE(pacing.Crowded(2'000));
  EXPECT_TRUE(pacing.Crowded(2'001));
  // Two rounds' worth of all tasks may always wait.
  pacing.Want(4'980);
  EXPECT_FALSE(pacing.Crowded(10'000));
  EXPECT_TRUE(pacing.Crowded(10'001));
  pacing.Want(kEverybody);
  EXPECT_FALSE(pacing.Crowded(1'000'000));
  EXPECT_FALSE(Pacing({.connected_max = 0}).Crowded(1'000'000));
}

// --- rates ---

Bytes Caller(uint64_t number) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(&number);
  return Bytes(bytes, bytes + sizeof(number));
}

TEST(RateLimits, AllowABurstAndThenTheRate) {
  RateLimits limits({.per_second = 2, .burst = 5}, 100, Bytes(32));
  Time now{1'000'000};
  for (int i = 0; i < 5; ++i) EXPECT_THAT(limits.Take(Caller(1), "one", 1, now), IsOk()) << i;
  const Status refused = limits.Take(Caller(1), "one", 1, now);
  EXPECT_THAT(refused, HasCodeAndText(Code::kResourceExhausted, "one"));
  EXPECT_EQ(refused.retry_after(), Time{500});
  EXPECT_THAT(limits.Take(Caller(2), "one", 1, now), IsOk());  // somebody else
  EXPECT_THAT(limits.Take(Caller(1), "one", 1, now + Time{499}), HasCode(Code::kResourceExhausted));
  EXPECT_THAT(limits.Take(Caller(1), "one", 1, now + Time{500}), IsOk());
  EXPECT_THAT(limits.Take(Caller(1), "one", 1, now + Time{500}), HasCode(Code::kResourceExhausted));
  now += Time{60'000};  // and no more than a burst after a long silence
  int taken = 0;
  while (limits.Take(Caller(1), "one", 1, now).ok()) ++taken;
  EXPECT_EQ(taken, 5);
  RateLimits none({.per_second = 0, .burst = 1}, 100, Bytes(32));
  for (int i = 0; i < 1'000; ++i) EXPECT_THAT(none.Take(Caller(1), "one", 1, now), IsOk());
  EXPECT_EQ(none.callers(), 0U);
}

TEST(RateLimits, HoldBoundedMemoryForCallersWithoutEnd) {
  RateLimits limits({.per_second = 1, .burst = 10}, 1'000, Bytes(32));
  for (uint64_t i = 0; i < 100'000; ++i) (void)limits.Take(Caller(i), "one", 1, Time{1'000});
  EXPECT_LE(limits.callers(), 1'000U);
  // Whoever is known keeps a bucket of its own; the crowd behind shares one, which it has drawn.
  EXPECT_THAT(limits.Take(Caller(1), "one", 1, Time{1'000}), IsOk());
  EXPECT_THAT(limits.Take(Caller(100'001), "one", 1, Time{1'000}),
              HasCode(Code::kResourceExhausted));
  // All of them have filled again, and are forgotten.
  EXPECT_THAT(limits.Take(Caller(200'000), "one", 1, Time{61'000}), IsOk());
  EXPECT_EQ(limits.callers(), 1U);
}

}  // namespace
}  // namespace chorus::coordinator
