// Federated analytics end to end: real clients over loopback gRPC, and what one computation over
// all their examples says.
#include "chorus/analytics.h"
#include "federation.h"
#include "learning/analytics.h"

namespace chorus {
namespace {

using testing::IsEmpty;
using testing::SizeIs;

class FederatedAnalytics : public Federation {
 protected:
  FederatedAnalytics() {
    policy_.allow_analytics = true;
    policy_.analytics_cohort_min = 5;
  }

  static TaskSpec Task(Protocol protocol, uint32_t clients) {
    TaskSpec task = SmallTask(protocol, clients);
    task.name = "telemetry";
    task.model = {};
    task.queries = {
        {.name = "players", .kind = QueryKind::kCount},
        {.name = "speed",
         .kind = QueryKind::kHistogram,
         .columns = {0},
         .low = -1,
         .high = 1,
         .bins = 8},
        {.name = "won by arm",
         .kind = QueryKind::kTable,
         .columns = {2, 1},
         .low = -2,
         .high = 2,
         .bins = 2,
         .unit = 1.0F / 64},
        {.name = "regression",
         .kind = QueryKind::kMoments,
         .columns = {0, 1, 2},
         .low = -2,
         .high = 2,
         .unit = 1.0F / 64},
    };
    task.encoding.examples_max = 50;  // of 60
    return task;
  }

  // The cells of these clients' examples, each cut to what counts, computed in one place.
  static std::vector<int64_t> Expected(const TaskSpec& task, const std::vector<uint64_t>& clients) {
    std::vector<int64_t> sum(learning::CellCount(task.queries));
    for (const uint64_t client : clients) {
      const auto cells = learning::AnswerQueries(task.queries, Clouds(client),
                                                 task.encoding.examples_max, Cancel());
      EXPECT_THAT(cells, IsOk());
      for (size_t i = 0; i < sum.size(); ++i) sum[i] += (*cells)[i];
    }
    return sum;
  }

  void ExpectsExactCells(const TaskSpec& task, const std::vector<uint64_t>& clients,
                         const std::vector<uint64_t>& cut, size_t cut_before) {
    const std::unique_ptr<Store> store = NewMemoryStore();
    ASSERT_THAT(Serve(task, *store), IsOk());
    EXPECT_THAT(coordinator_->CurrentAnswers(task_name_), IsEmpty());
    std::vector<uint64_t> survivors;
    for (const uint64_t client : clients) {
      const bool is_cut = std::find(cut.begin(), cut.end(), client) != cut.end();
      if (!is_cut) survivors.push_back(client);
      Join(client, Clouds(client), is_cut ? cut_before : kNever);
    }
    const auto ended = Await(CoordinatorEvent::Kind::kRoundEnded);
    ASSERT_TRUE(ended.has_value());
    ASSERT_EQ(ended->round.state, RoundState::kCommitted) << ended->round.reason;
    EXPECT_EQ(ended->round.contributors, survivors.size());
    EXPECT_EQ(ended->round.examples, 50 * survivors.size());
    const std::vector<int64_t> cells = coordinator_->CurrentAnswers(task_name_);
    EXPECT_EQ(cells, Expected(task, survivors));
    EXPECT_THAT(CurrentWeights(), IsEmpty());

    // The same is in the store, under the round.
    Bytes stored;
    ASSERT_THAT(store->RunTransaction("look",
                                      [&](Transaction& transaction) -> Status {
                                        CHORUS_TRY_ASSIGN(
                                            stored, transaction.GetModel(ended->round.answers));
                                        return OkStatus();
                                      }),
                IsOk());
    EXPECT_THAT(learning::DecodeAnswers(stored, cells.size()), HoldsValue(cells));
    const auto answers = ReadAnswers(task.queries, cells);
    ASSERT_THAT(answers, HoldsValue(SizeIs(4)));
    EXPECT_EQ(answers->at(0).clients, static_cast<int64_t>(survivors.size()));
    EXPECT_EQ(answers->at(2).moments.at(1).count, 25 * static_cast<int64_t>(survivors.size()));
  }
};

TEST_F(FederatedAnalytics, OverPlainIsExact) {
  ExpectsExactCells(Task(Protocol::kPlain, 6), {0, 1, 2, 3, 4, 5}, {}, 0);
}

TEST_F(FederatedAnalytics, OverSecAggIsExact) {
  ExpectsExactCells(Task(Protocol::kSecAgg, 6), {0, 1, 2, 3, 4, 5}, {}, 0);
}

TEST_F(FederatedAnalytics, OverParallelCohortsIsExact) {
  TaskSpec task = Task(Protocol::kSecAgg, 5);
  task.cohort.parallel = 2;
  ExpectsExactCells(task, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, {}, 0);
}

TEST_F(FederatedAnalytics, CountsExactlyThoseWhoDidNotDropOut) {
  std::vector<uint64_t> clients(20);
  for (uint64_t i = 0; i < clients.size(); ++i) clients[i] = i;
  TaskSpec plain = Task(Protocol::kPlain, 20);
  plain.cohort.minimum = 10;
  plain.deadlines.upload = seconds(12);  // what the cut costs
  ExpectsExactCells(plain, clients, {3, 7, 11}, 1);
  clients_.clear();
  coordinator_.reset();
  pending_.clear();
  std::filesystem::remove_all(dir_);
  TaskSpec secagg = Task(Protocol::kSecAgg, 20);
  secagg.secagg.delta_ppm = 200'000;
  secagg.cohort.minimum = 10;
  secagg.deadlines.upload = seconds(12);
  ExpectsExactCells(secagg, clients, {3, 7, 11}, 2);
}

// With the default limit of uploads, of which each question has its own.
TEST_F(FederatedAnalytics, AnswerEveryQuestionAsOftenAsThePolicyAllowsAndNoOtherFewer) {
  policy_.uploads_per_model_max = Policy().uploads_per_model_max;
  TaskSpec task = Task(Protocol::kPlain, 5);
  task.rounds = policy_.uploads_per_model_max;
  const std::unique_ptr<Store> first = NewMemoryStore();
  const auto completes = [&](const TaskSpec& asked, Store& store) {
    ASSERT_THAT(Serve(asked, store), IsOk());
    for (uint64_t client = 0; client < 5; ++client) Join(client, Clouds(client));
    EXPECT_TRUE(Await(CoordinatorEvent::Kind::kTaskComplete, seconds(60)).has_value());
    clients_.clear();
    coordinator_.reset();
    pending_.clear();
  };
  completes(task, *first);
  TaskSpec other = task;
  other.name = "another-question";
  other.queries.pop_back();
  const std::unique_ptr<Store> second = NewMemoryStore();
  completes(other, *second);
  // The first questions under another name are still the first questions.
  TaskSpec again = task;
  again.name = "the-same-questions";
  const std::unique_ptr<Store> third = NewMemoryStore();
  ASSERT_THAT(Serve(again, *third), IsOk());
  for (uint64_t client = 0; client < 5; ++client) Join(client, Clouds(client));
  const auto refused = AwaitClient(0, ClientEvent::Kind::kRefused);
  coordinator_.reset();  // it goes on asking, and the store is this test's
  ASSERT_TRUE(refused.has_value());
  EXPECT_THAT(refused->status, HasCodeAndText(Code::kPermissionDenied, "as often as"));
}

TEST_F(FederatedAnalytics, AskADeviceThatDoesNotAllowThemInVain) {
  policy_.allow_analytics = false;
  const std::unique_ptr<Store> store = NewMemoryStore();
  ASSERT_THAT(Serve(Task(Protocol::kPlain, 5), *store), IsOk());
  for (uint64_t client = 0; client < 5; ++client) Join(client, Clouds(client));
  const auto refused = AwaitClient(0, ClientEvent::Kind::kRefused);
  coordinator_.reset();  // it goes on asking, and the store is this test's
  ASSERT_TRUE(refused.has_value());
  EXPECT_THAT(refused->status, HasCodeAndText(Code::kPermissionDenied, "analytics"));
}

TEST_F(FederatedAnalytics, AskADeviceWithoutTheColumnsInVain) {
  TaskSpec task = Task(Protocol::kPlain, 5);
  task.queries[1].columns = {9};
  const std::unique_ptr<Store> store = NewMemoryStore();
  ASSERT_THAT(Serve(task, *store), IsOk());
  for (uint64_t client = 0; client < 5; ++client) Join(client, Clouds(client));
  const auto refused = AwaitClient(0, ClientEvent::Kind::kRefused);
  coordinator_.reset();  // it goes on asking, and the store is this test's
  ASSERT_TRUE(refused.has_value());
  EXPECT_NE(refused->status.message().find("\"speed\" asks for column 9"), std::string::npos)
      << refused->status.message();
}

}  // namespace
}  // namespace chorus
