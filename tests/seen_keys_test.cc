// Attack 40: the session keys of one session in the next, refused by the coordinator and by
// devices.
#include "cohort.h"
#include "matchers.h"

namespace chorus::aggregation {
namespace {

CohortShape Seven() {
  CohortShape shape;
  shape.clients = 7;
  return shape;
}

// Two cohorts of one seed draw the same keys; the first client of this one draws others.
void DrawFreshKeys(Cohort& cohort, SeenKeys* seen) {
  cohort.rngs[0] = crypto::NewSeededRng(Bytes(32, 1));
  ContributorOptions options = cohort.OptionsFor(0);
  options.seen_keys = seen;
  cohort.contributors[0] = *NewContributor(std::move(options));
}

TEST(SeenKeys, TheCoordinatorRefusesTheKeysOfAnotherSession) {
  SeenKeys seen(1'000);
  Cohort first(31, Seven());
  first.seen_keys = &seen;
  EXPECT_THAT(first.Run(), IsOk());

  Cohort again(31, Seven());
  again.seen_keys = &seen;
  DrawFreshKeys(again, nullptr);
  std::map<size_t, Status> heard;
  again.on_heard = [&](Where where, BytesView) {
    if (where.step == 0) heard[where.client] = again.hear_status[where.client];
  };
  EXPECT_THAT(again.Run(), HasCode(Code::kAborted));
  EXPECT_THAT(heard[0], IsOk());
  for (size_t client = 1; client < 7; ++client) {
    EXPECT_THAT(heard[client], HasCodeAndText(Code::kInvalidArgument, "another session"));
  }
}

TEST(SeenKeys, ADeviceRefusesPeersWithTheKeysOfAnotherSession) {
  SeenKeys seen(1'000);
  Cohort first(31, Seven());
  ContributorOptions options = first.OptionsFor(1);
  options.seen_keys = &seen;
  first.contributors[1] = *NewContributor(std::move(options));
  EXPECT_THAT(first.Run(), IsOk());

  Cohort again(31, Seven());
  DrawFreshKeys(again, &seen);
  const Result<Sum> sum = again.Run();
  ASSERT_THAT(sum, IsOk());
  EXPECT_THAT(again.client_status[0], HasCodeAndText(Code::kAborted, "another session"));
  EXPECT_EQ(sum->contributors, 6U) << "the others keep no such memory";
}

TEST(SeenKeys, RememberYesterdayAndNoMoreThanTheyMay) {
  SeenKeys seen(4);
  const auto key = [](uint8_t first) {
    PublicKey made{};
    made[0] = first;
    return made;
  };
  seen.Advance(100);
  seen.Note(key(1));
  seen.Advance(101);
  EXPECT_TRUE(seen.Contains(key(1)));
  EXPECT_FALSE(seen.Contains(key(2)));
  seen.Advance(102);
  EXPECT_FALSE(seen.Contains(key(1)));
  for (uint8_t i = 1; i <= 5; ++i) seen.Note(key(i));
  EXPECT_FALSE(seen.Contains(key(1))) << "the oldest went";
  EXPECT_TRUE(seen.Contains(key(3)) && seen.Contains(key(4)) && seen.Contains(key(5)));
  seen.Advance(104);
  EXPECT_FALSE(seen.Contains(key(5)));
}

}  // namespace
}  // namespace chorus::aggregation
