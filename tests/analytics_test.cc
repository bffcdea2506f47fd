// Federated analytics: what cells a query has, how a client fills them, and that sums of them say
// exactly what one computation over everybody's examples says.
#include "learning/analytics.h"

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "learning/learning.h"
#include "matchers.h"
#include "test_rng.h"

namespace chorus::learning {
namespace {

using testing::DoubleEq;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

constexpr EncodingSpec kWide = {.bound = (1U << 31U) - 1, .examples_max = 1'000};

QuerySpec Count() { return {.name = "count", .kind = QueryKind::kCount}; }
QuerySpec Histogram() {
  return {.name = "histogram",
          .kind = QueryKind::kHistogram,
          .columns = {0},
          .low = -1,
          .high = 1,
          .bins = 4};
}
QuerySpec Mean() {
  return {.name = "mean",
          .kind = QueryKind::kMean,
          .columns = {1},
          .low = -10,
          .high = 10,
          .unit = 0.5F};
}
QuerySpec Table() {
  return {.name = "table",
          .kind = QueryKind::kTable,
          .columns = {2, 1},
          .low = -10,
          .high = 10,
          .bins = 2,
          .unit = 0.5F};
}
QuerySpec Regression() {
  return {.name = "moments",
          .kind = QueryKind::kMoments,
          .columns = {0, 1},
          .low = -10,
          .high = 10,
          .unit = 0.5F};
}

// Three features; of each example (x, value, arm).
Examples ExamplesOf(const std::vector<std::vector<float>>& rows) {
  Examples examples;
  examples.inputs = 3;
  for (const std::vector<float>& row : rows) {
    examples.features.insert(examples.features.end(), row.begin(), row.end());
  }
  return examples;
}

Result<std::vector<int64_t>> CellsOf(const QuerySpec& query, const Examples& examples) {
  return AnswerQueries(std::span(&query, 1), examples, 1'000, Cancel());
}

// --- one client's cells ---

TEST(CountQuery, CountsExamplesAndOneClient) {
  EXPECT_THAT(CellsOf(Count(), ExamplesOf({{0, 0, 0}, {0, 0, 0}})), HoldsValue(ElementsAre(2, 1)));
}

TEST(HistogramQuery, TakesTheLowerEdgeIntoABinAndLeavesTheUpperToTheNext) {
  const auto below = std::nextafter(-1.0F, -2.0F);
  const auto last = std::nextafter(1.0F, 0.0F);
  const Examples examples = ExamplesOf({{below, 0, 0},
                                        {-1, 0, 0},
                                        {-0.5F, 0, 0},
                                        {0, 0, 0},
                                        {0.49F, 0, 0},
                                        {last, 0, 0},
                                        {1, 0, 0},
                                        {50, 0, 0}});
  EXPECT_THAT(CellsOf(Histogram(), examples), HoldsValue(ElementsAre(1, 1, 1, 2, 1, 2)));
}

TEST(HistogramQuery, LosesNoExampleToRounding) {
  // A width that no float is a multiple of.
  QuerySpec query = Histogram();
  query.low = 0.1F;
  query.high = 0.7F;
  query.bins = 3;
  TestRng rng(3);
  std::vector<std::vector<float>> rows;
  for (int i = 0; i < 1'000; ++i) rows.push_back({static_cast<float>(UniformUnit(rng)), 0, 0});
  rows.push_back({0.1F, 0, 0});
  rows.push_back({std::nextafter(0.7F, 0.0F), 0, 0});
  rows.push_back({0.7F, 0, 0});
  const auto cells = AnswerQueries(std::span(&query, 1), ExamplesOf(rows), 2'000, Cancel());
  ASSERT_THAT(cells, IsOk());
  int64_t sum = 0;
  for (const int64_t cell : *cells) sum += cell;
  EXPECT_EQ(sum, static_cast<int64_t>(rows.size()));
}

TEST(MeanQuery, CutsToItsRangeAndRoundsToUnitsFirst) {
  // In units of a half: 3 (of 1.4), -1 (of -0.6), 20 and -20 (cut).
  const Examples examples = ExamplesOf({{0, 1.4F, 0}, {0, -0.6F, 0}, {0, 11, 0}, {0, -1e9F, 0}});
  EXPECT_THAT(CellsOf(Mean(), examples),
              HoldsValue(ElementsAre(4, 3 - 1 + 20 - 20, 9 + 1 + 400 + 400)));
}

TEST(TableQuery, SumsEachArmAndCountsThoseOfNone) {
  const Examples examples = ExamplesOf(
      {{0, 1, 0}, {0, 2, 1}, {0, 3, 1}, {0, 4, 2}, {0, 5, -1}, {0, 6, 0.5F}, {0, 7, 1e30F}});
  EXPECT_THAT(CellsOf(Table(), examples),
              HoldsValue(ElementsAre(1, 2, 4, 2, 10, 16 + 36, /*left out*/ 4)));
}

TEST(MomentsQuery, SumsEveryProductOfTwoColumnsAndTheConstant) {
  // In units: (2, 4) and (-1, 3).
  const Examples examples = ExamplesOf({{1, 2, 0}, {-0.5F, 1.5F, 0}});
  EXPECT_THAT(CellsOf(Regression(), examples),
              HoldsValue(ElementsAre(/*1*1*/ 2, /*x*1*/ 1, /*x*x*/ 5, /*y*1*/ 7, /*y*x*/ 5,
                                     /*y*y*/ 25)));
}

TEST(Queries, ReadTheLabelAndTheTargetsAsColumnsAfterTheFeatures) {
  QuerySpec query = Mean();
  query.columns = {3};
  Examples examples = ExamplesOf({{9, 9, 9}, {9, 9, 9}});
  examples.labels = {2, 5};
  EXPECT_THAT(CellsOf(query, examples), HoldsValue(ElementsAre(2, 14, 16 + 100)));
  examples.labels.clear();
  examples.targets = {0, 1, 0, 3};
  query.columns = {4};
  EXPECT_THAT(CellsOf(query, examples), HoldsValue(ElementsAre(2, 8, 4 + 36)));
}

TEST(Queries, LookAtAClientsFirstExamplesOnly) {
  const Examples examples = ExamplesOf({{0, 1, 0}, {0, 2, 0}, {0, 3, 0}});
  const std::vector<QuerySpec> queries = {Count(), Mean()};
  EXPECT_THAT(AnswerQueries(queries, examples, 2, Cancel()),
              HoldsValue(ElementsAre(2, 1, 2, 6, 4 + 16)));
}

// A clock that moves a millisecond each time somebody looks.
class CountingClock final : public Clock {
 public:
  Time Now() const override { return Time(++looks); }
  int64_t UnixSeconds() const override { return 0; }
  mutable int64_t looks = 0;
};

TEST(Queries, StopWhenAskedOrWhenNobodyWaitsAnyMore) {
  const Examples examples = ExamplesOf(std::vector<std::vector<float>>(1'000, {1, 2, 0}));
  Cancel cancel;
  cancel.Request();
  for (const QuerySpec& query : {Count(), Histogram(), Mean(), Table(), Regression()}) {
    const std::span<const QuerySpec> queries(&query, 1);
    EXPECT_THAT(AnswerQueries(queries, examples, 1'000, cancel), HasCode(Code::kCancelled));
    const Cancel none;
    CountingClock clock;  // 1,000 examples are four pieces of at most 256
    EXPECT_THAT(AnswerQueries(queries, examples, 1'000, Stop(none, &clock, Time(4))), IsOk());
    EXPECT_EQ(clock.looks, 4);
    CountingClock late;
    EXPECT_THAT(AnswerQueries(queries, examples, 1'000, Stop(none, &late, Time(3))),
                HasCode(Code::kDeadlineExceeded));
  }
}

TEST(Queries, StopWithinOneExampleOfManyMoments) {
  QuerySpec query = Regression();
  query.columns.clear();
  Examples examples;
  examples.inputs = 1'024;
  examples.features.assign(size_t{3} * examples.inputs, 1.0F);
  for (uint32_t column = 0; column < examples.inputs; ++column) query.columns.push_back(column);
  const Cancel cancel;
  CountingClock clock;
  EXPECT_THAT(AnswerQueries(std::span(&query, 1), examples, 3, Stop(cancel, &clock)), IsOk());
  EXPECT_EQ(clock.looks, 3);
}

TEST(Queries, RefuseExamplesThatDoNotHaveTheirColumns) {
  const QuerySpec query = Mean();
  EXPECT_THAT(CellsOf(query, Examples()), HasCodeAndText(Code::kInvalidArgument, "no examples"));
  Examples narrow;
  narrow.inputs = 1;
  narrow.features = {1, 2};
  EXPECT_THAT(CellsOf(query, narrow),
              HasCodeAndText(Code::kInvalidArgument, "\"mean\" asks for column 1"));
  Examples cut = ExamplesOf({{1, 2, 3}});
  cut.features.push_back(4);
  EXPECT_THAT(CellsOf(query, cut), HasCodeAndText(Code::kInvalidArgument, "cut short"));
  Examples labels = ExamplesOf({{1, 2, 3}});
  labels.labels = {1, 2};
  EXPECT_THAT(CellsOf(query, labels), HasCodeAndText(Code::kInvalidArgument, "cut short"));
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    EXPECT_THAT(CellsOf(query, ExamplesOf({{1, bad, 3}})),
                HasCodeAndText(Code::kInvalidArgument, "not a finite number"));
  }
}

// --- what a task may ask ---

Status Validate(QuerySpec query, const EncodingSpec& encoding = kWide) {
  return ValidateQueries(std::span(&query, 1), encoding);
}

template <typename Change>
QuerySpec With(QuerySpec query, const Change& change) {
  change(query);
  return query;
}

TEST(ValidateQueries, AcceptsEveryKind) {
  const std::vector<QuerySpec> all = {Count(), Histogram(), Mean(), Table(), Regression()};
  EXPECT_THAT(ValidateQueries(all, kWide), IsOk());
  EXPECT_EQ(CellCount(all), 2U + 6 + 3 + 7 + 6);
}

TEST(ValidateQueries, NamesTheQueryAndTheField) {
  const auto refused = [](const std::string& text) {
    return HasCodeAndText(Code::kInvalidArgument, text);
  };
  EXPECT_THAT(Validate(With(Mean(), [](QuerySpec& q) { q.name.clear(); })), refused("name"));
  EXPECT_THAT(Validate(With(Mean(), [](QuerySpec& q) { q.kind = static_cast<QueryKind>(5); })),
              refused("queries[0] \"mean\": kind"));
  EXPECT_THAT(Validate(With(Count(), [](QuerySpec& q) { q.columns = {0}; })),
              refused("columns must be empty"));
  EXPECT_THAT(Validate(With(Mean(), [](QuerySpec& q) { q.columns = {}; })),
              refused("columns must name exactly one"));
  EXPECT_THAT(Validate(With(Table(), [](QuerySpec& q) { q.columns = {0}; })),
              refused("columns must name two"));
  EXPECT_THAT(Validate(With(Regression(), [](QuerySpec& q) { q.columns = {}; })),
              refused("columns must name at least one"));
  EXPECT_THAT(Validate(With(Regression(), [](QuerySpec& q) { q.columns.assign(1'025, 0); })),
              refused("columns are at most 1024"));
  EXPECT_THAT(Validate(With(Regression(),
                            [](QuerySpec& q) {
                              q.columns = {1, 0, 1};
                            })),
              refused("columns name one twice"));
  EXPECT_THAT(Validate(With(Table(),
                            [](QuerySpec& q) {
                              q.columns = {1, 1};
                            })),
              refused("columns name one twice"));
  EXPECT_THAT(Validate(With(Mean(), [](QuerySpec& q) { q.high = q.low; })),
              refused("low must be below high"));
  EXPECT_THAT(Validate(With(Mean(), [](QuerySpec& q) { q.high = INFINITY; })),
              refused("low must be below high"));
  EXPECT_THAT(Validate(With(Mean(), [](QuerySpec& q) { q.low = NAN; })),
              refused("low must be below high"));
  EXPECT_THAT(Validate(With(Mean(), [](QuerySpec& q) { q.unit = 0; })), refused("unit must be"));
  EXPECT_THAT(Validate(With(Mean(), [](QuerySpec& q) { q.unit = 1e-30F; })),
              refused("take a larger unit"));
  EXPECT_THAT(Validate(With(Histogram(), [](QuerySpec& q) { q.bins = 0; })), refused("bins"));
  EXPECT_THAT(Validate(With(Histogram(), [](QuerySpec& q) { q.bins = UINT32_MAX; })),
              refused("bins are too many"));
  EXPECT_THAT(ValidateQueries(std::vector<QuerySpec>(257, Count()), kWide),
              refused("queries are at most 256"));
  EXPECT_THAT(ValidateQueries(std::vector<QuerySpec>{Count(), Count()}, kWide),
              refused("queries[1] \"count\": another query has this name"));
  std::vector<QuerySpec> many;
  for (const char* const name : {"a", "b", "c"}) {
    many.push_back(With(Histogram(), [name](QuerySpec& q) {
      q.name = name;
      q.bins = 400'000;
    }));
  }
  EXPECT_THAT(ValidateQueries(many, kWide), refused("cells together"));
}

// 20 units squared times 1,000 examples is 400,000.
TEST(ValidateQueries, RefusesABoundThatOneClientCouldPass) {
  EXPECT_THAT(Validate(Mean(), {.bound = 400'000, .examples_max = 1'000}), IsOk());
  const EncodingSpec tight = {.bound = 399'999, .examples_max = 1'000};
  for (const QuerySpec& query : {Mean(), Table(), Regression()}) {
    EXPECT_THAT(Validate(query, tight), HasCodeAndText(Code::kInvalidArgument, "encoding.bound"));
  }
  EXPECT_THAT(Validate(Count(), {.bound = 1'000, .examples_max = 1'000}), IsOk());
  EXPECT_THAT(Validate(Histogram(), {.bound = 1'000, .examples_max = 1'000}), IsOk());
}

// The bound is exactly what the worst examples reach.
TEST(ValidateQueries, AsksForNoMoreThanTheWorstClientReaches) {
  std::vector<std::vector<float>> worst(10, {-10, -10, 0});
  const EncodingSpec encoding = {.bound = 4'000, .examples_max = 10};
  for (const QuerySpec& query : {Mean(), Table(), Regression()}) {
    ASSERT_THAT(Validate(query, encoding), IsOk());
    const auto cells = CellsOf(query, ExamplesOf(worst));
    ASSERT_THAT(cells, IsOk());
    EXPECT_EQ(*std::max_element(cells->begin(), cells->end()), 4'000) << query.name;
  }
}

// --- sums ---

constexpr uint32_t kClients = 40;

Examples RandomExamples(Rng& rng) {
  std::vector<std::vector<float>> rows(1 + static_cast<size_t>(UniformUnit(rng) * 50));
  for (std::vector<float>& row : rows) {
    row = {static_cast<float>(4 * UniformUnit(rng) - 2),
           static_cast<float>(30 * UniformUnit(rng) - 15),
           std::floor(static_cast<float>(4 * UniformUnit(rng)))};
  }
  return ExamplesOf(rows);
}

TEST(CellSums, SayExactlyWhatOneComputationOverAllExamplesSays) {
  const std::vector<QuerySpec> queries = {Count(), Histogram(), Mean(), Table(), Regression()};
  const EncodingSpec spec = {.bound = 1U << 20U, .examples_max = 64};
  ASSERT_THAT(ValidateQueries(queries, spec), IsOk());
  const auto encoding = math::FixedPointFor(CellCount(queries), {}, spec, kClients);
  ASSERT_THAT(encoding, IsOk());
  TestRng rng(11);
  Examples all = ExamplesOf({});
  Sum sum = {math::ZeroVector(encoding->vector_dim(), encoding->bits), kClients};
  for (uint32_t client = 0; client < kClients; ++client) {
    const Examples own = RandomExamples(rng);
    all.features.insert(all.features.end(), own.features.begin(), own.features.end());
    const auto cells = AnswerQueries(queries, own, spec.examples_max, Cancel());
    ASSERT_THAT(cells, IsOk());
    const auto vector = EncodeCells(*encoding, *cells, own.count());
    ASSERT_THAT(vector, IsOk());
    ASSERT_THAT(math::AddPacked(sum.values, math::Pack(*vector, encoding->bits), encoding->bits),
                IsOk());
  }
  math::ReduceBits(sum.values, encoding->bits);
  auto expected = AnswerQueries(queries, all, UINT32_MAX, Cancel());
  ASSERT_THAT(expected, IsOk());
  (*expected)[1] = kClients;
  EXPECT_THAT(DecodeCells(*encoding, sum), HoldsValue(*expected));
}

TEST(CellSums, AreRefusedWhereAClientLied) {
  const auto encoding = math::FixedPointFor(2, {}, {.bound = 100, .examples_max = 100}, 8);
  ASSERT_THAT(encoding, IsOk());
  const auto sum_of = [&](int64_t cell, int64_t examples) {
    Sum sum = {math::ZeroVector(encoding->vector_dim(), encoding->bits), 3};
    math::SetSigned(sum.values, 0, cell);
    math::SetSigned(sum.values, 2, examples);
    math::ReduceBits(sum.values, encoding->bits);
    return sum;
  };
  EXPECT_THAT(DecodeCells(*encoding, sum_of(-300, 300)), HoldsValue(ElementsAre(-300, 0)));
  EXPECT_THAT(DecodeCells(*encoding, sum_of(301, 300)), HasCode(Code::kAborted));
  EXPECT_THAT(DecodeCells(*encoding, sum_of(1, 301)), HasCode(Code::kAborted));
}

TEST(EncodeCells, RefusesCellsBeyondTheBoundOrOfAnotherTask) {
  const auto encoding = math::FixedPointFor(2, {}, {.bound = 100, .examples_max = 100}, 8);
  ASSERT_THAT(encoding, IsOk());
  EXPECT_THAT(EncodeCells(*encoding, std::vector<int64_t>{100, -100}, 1), IsOk());
  EXPECT_THAT(EncodeCells(*encoding, std::vector<int64_t>{101, 0}, 1),
              HasCodeAndText(Code::kInvalidArgument, "encoding.bound"));
  EXPECT_THAT(EncodeCells(*encoding, std::vector<int64_t>{0, -101}, 1),
              HasCode(Code::kInvalidArgument));
  EXPECT_THAT(EncodeCells(*encoding, std::vector<int64_t>{0}, 1), HasCode(Code::kInvalidArgument));
}

// --- reading ---

TEST(ReadAnswers, GivesMeansAndVariancesOfTheValuesThemselves) {
  // 1.5, 2.5 and 5 in units of a half.
  const std::vector<QuerySpec> queries = {Mean()};
  const auto answers = ReadAnswers(queries, std::vector<int64_t>{3, 18, 9 + 25 + 100});
  ASSERT_THAT(answers, HoldsValue(SizeIs(1)));
  const Moments& moments = answers->at(0).moments.at(0);
  EXPECT_EQ(moments.count, 3);
  EXPECT_EQ(moments.sum, 18);
  EXPECT_THAT(moments.mean, DoubleEq(3.0));
  EXPECT_THAT(moments.variance, DoubleEq((2.25 + 0.25 + 4) / 2));
}

TEST(ReadAnswers, GivesZeroForTheMeanOfNothing) {
  const std::vector<QuerySpec> queries = {Mean()};
  const auto none = ReadAnswers(queries, std::vector<int64_t>{0, 0, 0});
  ASSERT_THAT(none, IsOk());
  EXPECT_EQ(none->at(0).moments.at(0).mean, 0);
  const auto one = ReadAnswers(queries, std::vector<int64_t>{1, 4, 16});
  ASSERT_THAT(one, IsOk());
  EXPECT_EQ(one->at(0).moments.at(0).mean, 2);
  EXPECT_EQ(one->at(0).moments.at(0).variance, 0);
}

TEST(ReadAnswers, KeepsAVarianceThatFloatsWouldLose) {
  // Values 2^30 and 2^30 + 1 in units: the sum of squares needs 62 bits.
  QuerySpec query = Mean();
  query.unit = 1;
  const int64_t value = int64_t{1} << 30U;
  const auto answers =
      ReadAnswers(std::span(&query, 1),
                  std::vector<int64_t>{2, 2 * value + 1, 2 * value * value + 2 * value + 1});
  ASSERT_THAT(answers, IsOk());
  EXPECT_THAT(answers->at(0).moments.at(0).variance, DoubleEq(0.5));
}

TEST(ReadAnswers, LaysOutHistogramTableAndProducts) {
  const std::vector<QuerySpec> queries = {Count(), Histogram(), Table(), Regression()};
  const std::vector<int64_t> cells = {9, 4, 1, 2, 3, 4, 5, 6, 1, 2, 4,
                                      0, 0, 0, 7, 2, 1, 5, 7, 5, 25};
  const auto answers = ReadAnswers(queries, cells);
  ASSERT_THAT(answers, HoldsValue(SizeIs(4)));
  EXPECT_EQ(answers->at(0).examples, 9);
  EXPECT_EQ(answers->at(0).clients, 4);
  EXPECT_THAT(answers->at(1).histogram, ElementsAre(1, 2, 3, 4, 5, 6));
  EXPECT_THAT(answers->at(1).edges, ElementsAre(-1, -0.5, 0, 0.5, 1));
  ASSERT_THAT(answers->at(2).moments, SizeIs(2));
  EXPECT_EQ(answers->at(2).moments[0].mean, 1);
  EXPECT_EQ(answers->at(2).left_out, 7);
  EXPECT_THAT(answers->at(3).products, ElementsAre(2, 1, 7, 1, 5, 5, 7, 5, 25));
}

TEST(ReadAnswers, RefusesAnotherNumberOfCells) {
  const std::vector<QuerySpec> queries = {Count()};
  EXPECT_THAT(ReadAnswers(queries, std::vector<int64_t>{1}),
              HasCodeAndText(Code::kInvalidArgument, "the queries have 2"));
}

TEST(StoredAnswers, ComeBackToTheLastUnit) {
  const std::vector<int64_t> cells = {0, -1, INT64_MAX, INT64_MIN};
  EXPECT_THAT(DecodeAnswers(EncodeAnswers(cells), 4), HoldsValue(cells));
  EXPECT_THAT(DecodeAnswers(EncodeAnswers(cells), 3), HasCode(Code::kDataLoss));
  EXPECT_THAT(DecodeAnswers(Bytes(31), 4), HasCode(Code::kDataLoss));
  EXPECT_THAT(DecodeAnswers({}, UINT64_MAX), HasCode(Code::kDataLoss));
}

// --- what sessions are bound to ---

TEST(CanonicalContribution, TellsQueriesApartByEverythingThatFillsTheirCells) {
  TaskSpec task;
  task.queries = {Table()};
  const Bytes before = CanonicalContribution(task);
  EXPECT_EQ(ContributionDim(task), 7U);
  EXPECT_EQ(PublishedCount(task), 1U);
  const auto differs = [&](const auto& change) {
    TaskSpec other = task;
    change(other.queries[0]);
    return CanonicalContribution(other) != before;
  };
  EXPECT_TRUE(differs([](QuerySpec& q) { q.kind = QueryKind::kMoments; }));
  EXPECT_TRUE(differs([](QuerySpec& q) { q.columns[1] = 0; }));
  EXPECT_TRUE(differs([](QuerySpec& q) { q.low = -9; }));
  EXPECT_TRUE(differs([](QuerySpec& q) { q.high = 9; }));
  EXPECT_TRUE(differs([](QuerySpec& q) { q.bins = 3; }));
  EXPECT_TRUE(differs([](QuerySpec& q) { q.unit = 1; }));
  EXPECT_EQ(CanonicalSubject(task), before);
  task.queries.clear();
  task.model = {.inputs = 3, .layers = {{.units = 2}}};
  EXPECT_EQ(CanonicalContribution(task), CanonicalLayout(task.model));
  EXPECT_EQ(CanonicalSubject(task), CanonicalModel(task.model));
}

}  // namespace
}  // namespace chorus::learning
