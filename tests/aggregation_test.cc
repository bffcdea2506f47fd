// The laws of chorus/aggregation.h, over every protocol there is.
#include <numeric>

#include "base/limits.h"
#include "cohort.h"
#include "matchers.h"

namespace chorus::aggregation {
namespace {

using testing::ElementsAreArray;
using testing::Eq;

std::set<size_t> FirstClients(size_t count) {
  std::set<size_t> clients;
  for (size_t i = 0; i < count; ++i) clients.insert(i);
  return clients;
}

class EveryProtocol : public testing::TestWithParam<Protocol> {
 protected:
  size_t steps() const { return Steps(GetParam(), SharingGraph::kComplete).size(); }
  // The step whose answer carries the input: who answered it is in the sum.
  size_t input_step() const {
    if (GetParam() == Protocol::kOneShot) return 1;
    return GetParam() == Protocol::kPlain ? 0 : 2;
  }
  // Whether a step is asked of OneShot's committee, and no client loses its place by it.
  bool AsksCommittee(size_t step) const {
    return GetParam() == Protocol::kOneShot && step != input_step();
  }
  CohortShape Shape(uint32_t clients) const {
    CohortShape shape;
    shape.protocol = GetParam();
    shape.clients = clients;
    return shape;
  }
};

INSTANTIATE_TEST_SUITE_P(Aggregation, EveryProtocol,
                         testing::Values(Protocol::kPlain, Protocol::kSecAgg, Protocol::kOneShot),
                         [](const testing::TestParamInfo<Protocol>& test) {
                           if (test.param == Protocol::kOneShot) return "OneShot";
                           return test.param == Protocol::kPlain ? "Plain" : "SecAgg";
                         });

TEST_P(EveryProtocol, SumEqualsThePlainSum) {
  const std::vector<std::pair<int, uint64_t>> encodings = {
      {12, 50}, {16, 1000}, {21, 1000}, {32, 1 << 20}, {33, 1 << 20}, {40, 1'000'000'000}};
  for (const auto& [bits, bound] : encodings) {
    for (const uint64_t dim : {1, 7, 1000}) {
      CohortShape shape = Shape(9);
      shape.bits = bits;
      shape.bound = bound;
      shape.dim = dim;
      Cohort cohort(dim + bits, shape);
      const Result<Sum> sum = cohort.Run();
      ASSERT_THAT(sum, IsOk()) << "bits " << bits << " dim " << dim;
      EXPECT_THAT(cohort.Values(*sum), ElementsAreArray(cohort.Expected(FirstClients(9))));
      EXPECT_EQ(sum->contributors, 9U);
    }
  }
}

TEST_P(EveryProtocol, ServesTheLargestCohort) {
  CohortShape shape = Shape(128);
  shape.bits = 21;
  Cohort cohort(3, shape);
  const Result<Sum> sum = cohort.Run();
  ASSERT_THAT(sum, IsOk());
  EXPECT_THAT(cohort.Values(*sum), ElementsAreArray(cohort.Expected(FirstClients(128))));
}

// I1, random: any dropouts change only the contributors, or end the round; never a wrong sum.
TEST_P(EveryProtocol, DropoutsChangeOnlyTheContributors) {
  int sums = 0;
  for (uint64_t seed = 0; seed < 60; ++seed) {
    const uint32_t n = 5 + static_cast<uint32_t>(seed % 20);
    Cohort cohort(seed, Shape(n));
    const std::unique_ptr<Rng> rng = crypto::NewSeededRng(cohort.Secret("drops", 0).Reveal());
    std::set<size_t> in = FirstClients(n);
    for (size_t client = 0; client < n; ++client) {
      if (UniformBelow(*rng, 10) != 0) continue;
      const size_t step = UniformBelow(*rng, steps());
      cohort.DropOut(client, step);
      if (step <= input_step()) in.erase(client);
    }
    const Result<Sum> sum = cohort.Run();
    if (!sum.ok()) {
      EXPECT_THAT(sum, HasCode(Code::kAborted)) << "seed " << seed;
      continue;
    }
    ++sums;
    EXPECT_THAT(cohort.Values(*sum), ElementsAreArray(cohort.Expected(in))) << "seed " << seed;
    EXPECT_EQ(sum->contributors, in.size());
  }
  EXPECT_GT(sums, 40);
}

// Within what the cohort bears there is a sum: an abort would hide a mask taken out wrongly.
TEST_P(EveryProtocol, OneDropoutInAnyStepLeavesTheExactSum) {
  for (size_t step = 0; step < steps(); ++step) {
    for (size_t client = 0; client < 9; ++client) {
      Cohort cohort(step, Shape(9));
      cohort.DropOut(client, step);
      std::set<size_t> in = FirstClients(9);
      if (step <= input_step()) in.erase(client);
      const Result<Sum> sum = cohort.Run();
      ASSERT_THAT(sum, IsOk()) << "step " << step << " client " << client;
      EXPECT_THAT(cohort.Values(*sum), ElementsAreArray(cohort.Expected(in)));
    }
  }
}

TEST_P(EveryProtocol, AbortsBelowTheMinimum) {
  for (size_t step = 0; step <= input_step(); ++step) {
    CohortShape shape = Shape(10);
    shape.minimum = 8;
    Cohort cohort(step, shape);
    for (size_t client : {1, 4, 9}) cohort.DropOut(client, step);
    EXPECT_THAT(cohort.Run(), HasCode(Code::kAborted));
    EXPECT_THAT(cohort.aggregator->Ask(), HasCode(Code::kFailedPrecondition));
    EXPECT_THAT(cohort.aggregator->Finish(), HasCode(Code::kFailedPrecondition));
    EXPECT_FALSE(cohort.aggregator->done());
  }
}

// Each way in which an answer can be malformed, in every step: its sender is out, everybody else's
// sum is exact.
TEST_P(EveryProtocol, OneBadAnswerHarmsOnlyItsSender) {
  const std::vector<std::function<void(Bytes&)>> damages = {
      [](Bytes& b) { b.clear(); },
      [](Bytes& b) { b.resize(3); },
      [](Bytes& b) { b.pop_back(); },
      [](Bytes& b) { b.push_back(0); },
      [](Bytes& b) { b[0] ^= 1; },
      [](Bytes& b) { b.insert(b.end(), b.begin(), b.end()); },
      [](Bytes& b) { std::fill(b.begin(), b.end(), 0xFF); },
  };
  for (size_t step = 0; step < steps(); ++step) {
    for (size_t damage = 0; damage < damages.size(); ++damage) {
      Cohort cohort(damage, Shape(9));
      cohort.on_answer = [&](Where where, Bytes& body) {
        if (where.step == step && where.client == 4) damages[damage](body);
        return true;
      };
      const Result<Sum> sum = cohort.Run();
      ASSERT_THAT(sum, IsOk()) << "step " << step << " damage " << damage;
      const bool member = AsksCommittee(step);
      EXPECT_FALSE((member ? cohort.member_hear_status : cohort.hear_status)[4].ok())
          << "step " << step << " damage " << damage;
      std::set<size_t> in = FirstClients(9);
      if (step <= input_step() && !member) in.erase(4);
      EXPECT_THAT(cohort.Values(*sum), ElementsAreArray(cohort.Expected(in)));
    }
  }
}

TEST_P(EveryProtocol, RefusesRepeatedForeignAndLateAnswers) {
  Cohort cohort(1, Shape(7));
  ASSERT_THAT(cohort.Begin(), IsOk());
  EXPECT_THAT(cohort.aggregator->Hear(Cohort::kFirstParty, {}), HasCode(Code::kNotFound));
  EXPECT_THAT(cohort.aggregator->Close(), HasCode(Code::kFailedPrecondition));
  Bytes late;
  while (!cohort.aggregator->done()) {
    Bytes last;
    const Result<std::vector<Question>> questions = cohort.aggregator->Ask();
    ASSERT_THAT(questions, IsOk());
    EXPECT_THAT(cohort.aggregator->Ask(), HasCode(Code::kFailedPrecondition));
    for (const Question& question : *questions) {
      const Result<Bytes> body = cohort.aggregator->Body(question.to);
      ASSERT_THAT(body, IsOk());
      EXPECT_EQ(*cohort.aggregator->Body(question.to), *body);
      const Result<Bytes> answer = cohort.Of(question.to).Answer(*body);
      ASSERT_THAT(answer, IsOk());
      EXPECT_LE(answer->size(), question.answer_bytes_max);
      EXPECT_FALSE(cohort.aggregator->Hear(question.to, late).ok());
      EXPECT_THAT(cohort.aggregator->Hear(99, *answer), HasCode(Code::kNotFound));
      EXPECT_THAT(cohort.aggregator->Hear(question.to, *answer), IsOk());
      EXPECT_THAT(cohort.aggregator->Hear(question.to, *answer), HasCode(Code::kAlreadyExists));
      EXPECT_THAT(cohort.aggregator->Body(question.to), HasCode(Code::kNotFound));
      EXPECT_THAT(cohort.aggregator->Body(99), HasCode(Code::kNotFound));
      last = *answer;
    }
    ASSERT_THAT(cohort.aggregator->Close(), IsOk());
    EXPECT_FALSE(cohort.aggregator->Hear(Cohort::kFirstParty, last).ok());
    late = last;
  }
  const Result<Sum> sum = cohort.aggregator->Finish();
  ASSERT_THAT(sum, IsOk());
  EXPECT_THAT(cohort.Values(*sum), ElementsAreArray(cohort.Expected(FirstClients(7))));
  EXPECT_THAT(cohort.aggregator->Finish(), HasCode(Code::kFailedPrecondition));
}

TEST_P(EveryProtocol, EqualSeedsGiveEqualTranscripts) {
  const auto transcript = [&](uint64_t seed) {
    Cohort cohort(seed, Shape(6));
    Bytes all;
    cohort.on_question = cohort.on_answer = [&](Where, Bytes& body) {
      all.insert(all.end(), body.begin(), body.end());
      return true;
    };
    EXPECT_THAT(cohort.Run(), IsOk());
    return all;
  };
  EXPECT_EQ(transcript(5), transcript(5));
  EXPECT_NE(transcript(5), transcript(6));
}

// I2: whatever order answers arrive in.
TEST_P(EveryProtocol, ArrivalOrderDoesNotMatter) {
  RingVector first;
  for (uint64_t round = 0; round < 6; ++round) {
    Cohort cohort(8, Shape(9));
    cohort.DropOut(3, input_step());
    const std::unique_ptr<Rng> rng = crypto::NewSeededRng(cohort.Secret("order", round).Reveal());
    cohort.arrival = [&](std::vector<size_t>& order) {
      for (size_t i = order.size(); i > 1; --i)
        std::swap(order[i - 1], order[UniformBelow(*rng, i)]);
    };
    const Result<Sum> sum = cohort.Run();
    ASSERT_THAT(sum, IsOk());
    if (round == 0) first = sum->values;
    EXPECT_EQ(sum->values, first);
  }
}

TEST_P(EveryProtocol, ContributorAnswersEachQuestionOnce) {
  Cohort cohort(2, Shape(7));
  size_t repeats = 0;
  cohort.on_question = [&](Where where, Bytes& body) {
    if (where.client != 1 || where.of_committee) return true;
    EXPECT_THAT(cohort.contributors[1]->Answer(body), IsOk());
    EXPECT_FALSE(cohort.contributors[1]->Answer(body).ok());
    EXPECT_TRUE(cohort.contributors[1]->done());
    EXPECT_THAT(cohort.contributors[1]->Answer(body), HasCode(Code::kFailedPrecondition));
    ++repeats;
    return false;
  };
  EXPECT_THAT(cohort.Run(), IsOk());
  EXPECT_EQ(repeats, 1U);
}

// Garbage from a certified client cannot be seen in one contribution, only in the sum.
TEST_P(EveryProtocol, GarbageInTheSumIsNeverTakenForRight) {
  if (GetParam() == Protocol::kOneShot) GTEST_SKIP() << "its encryption refuses such an input";
  CohortShape shape = Shape(6);
  shape.bits = 30;
  Cohort cohort(4, shape);
  ContributorOptions options = cohort.OptionsFor(2);
  math::SetSigned(options.input, 5, 1 << 28);
  cohort.contributors[2] = *NewContributor(std::move(options));
  EXPECT_THAT(cohort.Run(), HasCode(Code::kAborted));
}

TEST_P(EveryProtocol, RefusesUnworkableParameters) {
  const auto refused = [&](const std::function<void(SessionParams&)>& change) {
    Cohort cohort(1, Shape(6));
    change(cohort.params);
    return cohort.Begin();
  };
  EXPECT_THAT(refused([](SessionParams& p) { p.bound = 1 << 19; }),
              HasCode(Code::kInvalidArgument));
  EXPECT_THAT(refused([](SessionParams& p) { p.word_bytes = 8; }),
              HasCodeAndText(Code::kInvalidArgument, "w does not match b"));
  EXPECT_THAT(refused([](SessionParams& p) { p.bits = 65; }), HasCode(Code::kInvalidArgument));
  EXPECT_THAT(refused([](SessionParams& p) { p.bits = 0; }), HasCode(Code::kInvalidArgument));
  EXPECT_THAT(refused([](SessionParams& p) { p.n_min = 0; }), HasCode(Code::kInvalidArgument));
  EXPECT_THAT(refused([](SessionParams& p) { p.n_min = 7; }), HasCode(Code::kInvalidArgument));
  const uint32_t largest =
      GetParam() == Protocol::kOneShot ? limits::kOneShotCohortMax : limits::kCohortMax;
  EXPECT_THAT(refused([&](SessionParams& p) { p.n_max = largest + 1; }),
              HasCode(Code::kInvalidArgument));
  EXPECT_THAT(refused([](SessionParams& p) { p.n_max = 5; }), HasCode(Code::kInvalidArgument));
  EXPECT_THAT(refused([](SessionParams& p) { p.vec_len = 0; }), HasCode(Code::kInvalidArgument));
}

// I6: every protocol gives the same integers.
TEST(Aggregation, ProtocolsGiveIdenticalSums) {
  for (uint64_t seed = 0; seed < 5; ++seed) {
    CohortShape shape;
    shape.clients = 8;
    shape.dim = 100;
    Cohort masked(seed, shape);
    shape.protocol = Protocol::kPlain;
    Cohort plain(seed, shape);
    const Result<Sum> a = masked.Run();
    shape.protocol = Protocol::kOneShot;
    Cohort one_shot(seed, shape);
    const Result<Sum> b = plain.Run();
    const Result<Sum> c = one_shot.Run();
    ASSERT_THAT(a, IsOk());
    ASSERT_THAT(b, IsOk());
    ASSERT_THAT(c, IsOk());
    EXPECT_EQ(a->values, b->values);
    EXPECT_EQ(c->values, b->values);
    EXPECT_EQ(a->contributors, b->contributors);
    EXPECT_EQ(c->contributors, b->contributors);
  }
}

// I1, exhaustive: every pattern of who drops out at which step, for cohorts of 3, 4 and 5.
class EveryDropoutPattern : public testing::TestWithParam<std::pair<uint32_t, uint32_t>> {};

INSTANTIATE_TEST_SUITE_P(SecAgg, EveryDropoutPattern,
                         testing::Values(std::pair(3U, 0U), std::pair(4U, 0U), std::pair(5U, 0U),
                                         std::pair(5U, 1U), std::pair(5U, 2U), std::pair(5U, 3U),
                                         std::pair(5U, 4U), std::pair(5U, 5U)),
                         [](const auto& test) {
                           return "Clients" + std::to_string(test.param.first) + "First" +
                                  std::to_string(test.param.second);
                         });

#if defined(CHORUS_SANITIZED)
constexpr size_t kStride = 11;  // sanitizers look at the code's paths, which a sample covers
#else
constexpr size_t kStride = 1;
#endif

TEST_P(EveryDropoutPattern, GivesTheExactSumOrNone) {
  constexpr size_t kNever = 5;
  const uint32_t n = GetParam().first;
  const bool fixed_first = n == 5;  // the patterns of five clients are split over six tests
  const size_t free = fixed_first ? n - 1 : n;
  size_t patterns = 1;
  for (size_t i = 0; i < free; ++i) patterns *= kNever + 1;
  size_t sums = 0;
  for (size_t pattern = 0; pattern < patterns; ++pattern) {
    // The last patterns, in which most clients never drop out, are those with a sum.
    if (pattern % kStride != 0 && pattern + 60 < patterns) continue;
    CohortShape shape;
    shape.clients = n;
    shape.minimum = 2;
    shape.delta_ppm = n == 5 ? 100'000 : 0;
    Cohort cohort(n, shape);
    std::set<size_t> in;
    size_t rest = pattern;
    for (size_t client = 0; client < n; ++client) {
      size_t step = GetParam().second;
      if (!fixed_first || client > 0) {
        step = rest % (kNever + 1);
        rest /= kNever + 1;
      }
      cohort.DropOut(client, step);
      if (step > 2) in.insert(client);
    }
    const Result<Sum> sum = cohort.Run();
    if (!sum.ok()) {
      ASSERT_THAT(sum, HasCode(Code::kAborted)) << "pattern " << pattern;
      continue;
    }
    ++sums;
    ASSERT_THAT(cohort.Values(*sum), ElementsAreArray(cohort.Expected(in)))
        << "pattern " << pattern;
    ASSERT_THAT(sum->contributors, Eq(in.size()));
  }
  // Without the first client from the start, four are left: too few for one dropout's assumption.
  EXPECT_EQ(sums == 0, fixed_first && GetParam().second == 0);
}

}  // namespace
}  // namespace chorus::aggregation
