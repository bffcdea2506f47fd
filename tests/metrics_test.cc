// What a coordinator counts of itself, how it is written, and what the page is told.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <future>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "base/limits.h"
#include "base/log.h"
#include "chorus/store.h"
#include "coordinator/counted_store.h"
#include "coordinator/funnel.h"
#include "coordinator/measures.h"
#include "coordinator/metrics.h"
#include "coordinator/process_figures.h"
#include "coordinator/status_board.h"
#include "coordinator/status_json.h"
#include "matchers.h"

namespace chorus::coordinator {
namespace {

using testing::HasSubstr;
using testing::Not;

std::string Written(const MetricSeries& series) {
  std::string page;
  series.Write(page);
  return page;
}

TEST(MetricSeries, AreWrittenAsTheTextFormatSays) {
  MetricSeries rounds({"chorus_rounds_total", "Rounds,\nby \\ \"result\"."});
  EXPECT_EQ(Written(rounds), "");
  rounds.Add({{"task", "a \"b\"\\\n"}, {"result", "committed"}}, 2);
  rounds.Add({{"task", "a \"b\"\\\n"}, {"result", "committed"}}, 1);
  rounds.Add({{"task", "a \"b\"\\\n"}, {"result", "aborted"}}, 0);
  EXPECT_EQ(Written(rounds),
            "# HELP chorus_rounds_total Rounds,\\nby \\\\ \"result\".\n"
            "# TYPE chorus_rounds_total counter\n"
            "chorus_rounds_total{task=\"a \\\"b\\\"\\\\\\n\",result=\"aborted\"} 0\n"
            "chorus_rounds_total{task=\"a \\\"b\\\"\\\\\\n\",result=\"committed\"} 3\n");
}

TEST(MetricSeries, OfAHistogramAddUpOverItsBuckets) {
  constexpr double kBounds[] = {0.5, 1, 10};
  MetricSeries seconds({"s_seconds", "Seconds.", MetricKind::kHistogram, kBounds});
  for (const double value : {0.25, 0.5, 0.75, 2.0, 100.0}) seconds.Observe({}, value);
  seconds.Observe({}, std::numeric_limits<double>::quiet_NaN());
  EXPECT_EQ(Written(seconds),
            "# HELP s_seconds Seconds.\n# TYPE s_seconds histogram\n"
            "s_seconds_bucket{le=\"0.5\"} 2\ns_seconds_bucket{le=\"1\"} 3\n"
            "s_seconds_bucket{le=\"10\"} 4\ns_seconds_bucket{le=\"+Inf\"} 5\n"
            "s_seconds_sum 103.5\ns_seconds_count 5\n");
}

TEST(MetricSeries, AreBoundedHoweverManyLabelsCome) {
  MetricSeries calls({"calls_total", "Calls."});
  for (size_t i = 0; i < 3 * MetricSeries::kSeriesMax; ++i) {
    calls.Add({{"method", std::to_string(i)}}, 1);
  }
  const std::string page = Written(calls);
  EXPECT_EQ(std::count(page.begin(), page.end(), '\n'), 2 + MetricSeries::kSeriesMax + 1);
  EXPECT_THAT(page, HasSubstr("calls_total{method=\"other\"} " +
                              std::to_string(2 * MetricSeries::kSeriesMax)));
}

TEST(MetricSeries, NeverCountDown) {
  MetricSeries calls({"calls_total", "Calls."});
  calls.Add({}, 5);
  calls.Add({}, -3);
  calls.Add({}, std::numeric_limits<double>::infinity());
  EXPECT_THAT(Written(calls), HasSubstr("calls_total 5\n"));
}

TEST(MetricNumber, ReadsBackAsTheSameNumber) {
  for (const double value : {0.1, 1e-4, 12'345'678'901.0, 1.0 / 3}) {
    EXPECT_EQ(std::stod(MetricNumber(value)), value);
  }
  EXPECT_EQ(MetricNumber(std::numeric_limits<double>::infinity()), "+Inf");
  EXPECT_EQ(MetricNumber(std::numeric_limits<double>::quiet_NaN()), "NaN");
}

// --- what is counted -----------------------------------------------------------------------------

const std::vector<std::string> kSteps = {"training", "input"};

CoordinatorEvent Ended(RoundState state) {
  CoordinatorEvent event;
  event.kind = CoordinatorEvent::Kind::kRoundEnded;
  event.round.state = state;
  event.round.invited = 10;
  event.round.refused = 1;
  event.round.contributors = 6;
  event.round.dropouts = {2, 1, 4};
  event.round.bytes_up = 1'000;
  event.round.duration_ms = 2'500;
  event.round.examples = 60;
  event.round.evaluated = 5;
  event.round.accuracy = 0.75;
  return event;
}

TEST(Measures, CountRoundsWithWhoWasLostWhere) {
  Measures measures;
  CoordinatorEvent began;
  measures.Count(began, "t", kSteps);
  measures.Count(Ended(RoundState::kCommitted), "t", kSteps);
  measures.Count(Ended(RoundState::kAborted), "t", kSteps);
  const std::string page = measures.Page({});
  for (const char* line :
       {"chorus_rounds_begun_total{task=\"t\"} 1\n",
        "chorus_rounds_total{task=\"t\",result=\"committed\"} 1\n",
        "chorus_rounds_total{task=\"t\",result=\"aborted\"} 1\n",
        "chorus_clients_invited_total{task=\"t\"} 20\n",
        "chorus_clients_refused_total{task=\"t\"} 2\n",
        "chorus_dropouts_total{task=\"t\",step=\"training\"} 4\n",
        "chorus_dropouts_total{task=\"t\",step=\"input\"} 2\n",
        "chorus_dropouts_total{task=\"t\",step=\"later\"} 8\n",
        "chorus_contributions_total{task=\"t\"} 6\n", "chorus_examples_total{task=\"t\"} 60\n",
        "chorus_payload_bytes_total{task=\"t\",direction=\"up\"} 2000\n",
        "chorus_model_accuracy_ratio{task=\"t\"} 0.75\n",
        "chorus_round_duration_seconds_bucket{task=\"t\",result=\"aborted\",le=\"2.5\"} 1\n",
        "chorus_round_duration_seconds_bucket{task=\"t\",result=\"aborted\",le=\"1\"} 0\n"}) {
    EXPECT_THAT(page, HasSubstr(line));
  }
}

TEST(Measures, CountCallsByMethodAndCode) {
  Measures measures;
  measures.Count(AnsweredCall{.method = "Next", .seconds = 0.02, .request_bytes = 40});
  measures.Count(AnsweredCall{.method = "Next", .code = Code::kUnauthenticated, .reply_bytes = 9});
  const std::string page = measures.Page({});
  EXPECT_THAT(page, HasSubstr("duration_seconds_count{method=\"Next\",code=\"OK\"} 1\n"));
  EXPECT_THAT(page,
              HasSubstr("duration_seconds_count{method=\"Next\",code=\"UNAUTHENTICATED\"} 1\n"));
  EXPECT_THAT(page, HasSubstr("chorus_call_bytes_total{method=\"Next\",direction=\"up\"} 40\n"));
}

TEST(ProcessFigures, AreThoseOfThisProcess) {
  const ProcessFigures figures = ReadProcessFigures();
  EXPECT_GE(figures.threads, 1);
  EXPECT_GT(figures.resident_bytes, 1U << 20U);
  EXPECT_GE(figures.resident_bytes_max, figures.resident_bytes / 2);
  EXPECT_GE(figures.open_files, 3);
  EXPECT_GE(figures.open_files_max, figures.open_files);
  EXPECT_GT(figures.started_unix_seconds, 1.7e9);
}

// --- a store that fails --------------------------------------------------------------------------

// Fails with `failure` while there is one, and runs its function as often as asked.
class FakeStore final : public Store {
 public:
  Status RunTransaction(std::string_view name,
                        const std::function<Status(Transaction&)>& function) override {
    ++calls;
    Status status;
    for (int run = 0; run < runs; ++run) status = inner_->RunTransaction(name, function);
    return failure.ok() ? status : failure;
  }
  bool shared() const override { return false; }
  Status failure;
  int runs = 1;
  int calls = 0;

 private:
  const std::unique_ptr<Store> inner_ = NewMemoryStore();
};

Status Nothing(Transaction&) { return OkStatus(); }

TEST(CountedStore, CountsTransactionsAndTheirRetries) {
  Measures measures;
  FakeStore inner;
  CountedStore store(inner, measures);
  inner.runs = 3;
  EXPECT_THAT(store.RunTransaction("begin round", Nothing), IsOk());
  const std::string page = measures.Page({});
  EXPECT_THAT(page, HasSubstr("duration_seconds_count{name=\"begin round\",code=\"OK\"} 1\n"));
  EXPECT_THAT(page, HasSubstr("chorus_store_transaction_retries_total{name=\"begin round\"} 2\n"));
}

TEST(CountedStore, FailsUntilTheSameWorksAgain) {
  Measures measures;
  FakeStore inner;
  CountedStore store(inner, measures);
  inner.failure = ResourceExhausted("the disk is full");
  EXPECT_THAT(store.RunTransaction("commit round", Nothing), HasCode(Code::kResourceExhausted));
  EXPECT_TRUE(store.failing());
  inner.failure = OkStatus();
  EXPECT_THAT(store.RunTransaction("status", Nothing), IsOk());
  EXPECT_TRUE(store.failing());
  EXPECT_THAT(store.RunTransaction("commit round", Nothing), IsOk());
  EXPECT_FALSE(store.failing());
}

TEST(CountedStore, IsNotFailingBecauseSomethingIsNotThere) {
  Measures measures;
  FakeStore inner;
  CountedStore store(inner, measures);
  inner.failure = NotFound("no such model");
  EXPECT_THAT(store.RunTransaction("read", Nothing), HasCode(Code::kNotFound));
  EXPECT_FALSE(store.failing());
}

TEST(CountedStore, IsNotFailingBecauseTheTaskHasMovedOn) {
  Measures measures;
  FakeStore inner;
  CountedStore store(inner, measures);
  inner.failure = Aborted("the task has moved on");
  EXPECT_THAT(store.RunTransaction("begin round", Nothing), HasCode(Code::kAborted));
  EXPECT_FALSE(store.failing());
}

TEST(CountedStore, FindsOutThatItWorksByAProbeThatChangesNothing) {
  Measures measures;
  FakeStore inner;
  CountedStore store(inner, measures);
  TaskRecord record;
  record.id[0] = 7;
  record.rounds_begun = 3;
  ASSERT_THAT(store.RunTransaction("put", [&](Transaction& t) { return t.PutTask(record); }),
              IsOk());
  inner.failure = Unavailable("gone");
  EXPECT_THAT(store.RunTransaction("begin round", Nothing), HasCode(Code::kUnavailable));
  EXPECT_THAT(store.Probe(record.id), HasCode(Code::kUnavailable));
  EXPECT_TRUE(store.failing());
  inner.failure = OkStatus();
  EXPECT_THAT(store.Probe(record.id), IsOk());
  EXPECT_FALSE(store.failing());
  EXPECT_THAT(store.RunTransaction("look",
                                   [&](Transaction& t) -> Status {
                                     CHORUS_TRY_ASSIGN(const auto found, t.FindTask(record.id));
                                     EXPECT_EQ(found->rounds_begun, 3U);
                                     return OkStatus();
                                   }),
              IsOk());
}

// Each look takes its time to find out that nobody answers, and many tasks look.
TEST(CountedStore, AsksAServerThatIsGoneOnceForAllTasksUntilAProbeReachesIt) {
  Measures measures;
  FakeStore inner;
  CountedStore store(inner, measures);
  inner.failure = Unavailable("nobody answers");
  inner.runs = 0;
  for (int i = 0; i < 5; ++i) {
    EXPECT_THAT(store.RunTransaction("look", Nothing),
                HasCodeAndText(Code::kUnavailable, "nobody answers"));
  }
  EXPECT_EQ(inner.calls, 1);
  EXPECT_TRUE(store.failing());
  EXPECT_THAT(store.RunTransaction("begin round", Nothing), HasCode(Code::kUnavailable));
  EXPECT_THAT(store.Probe({}), HasCode(Code::kUnavailable));
  EXPECT_EQ(inner.calls, 3);
  inner.failure = OkStatus();
  inner.runs = 1;
  EXPECT_THAT(store.RunTransaction("look", Nothing), HasCode(Code::kUnavailable));
  EXPECT_THAT(store.Probe({}), IsOk());
  EXPECT_THAT(store.RunTransaction("look", Nothing), IsOk());
  EXPECT_FALSE(store.failing());
  // One task whose look is slow or meets others has reached it: that is no news for the rest.
  inner.failure = Unavailable("met another transaction");
  EXPECT_THAT(store.RunTransaction("look", Nothing), HasCode(Code::kUnavailable));
  inner.failure = OkStatus();
  EXPECT_THAT(store.RunTransaction("look", Nothing), IsOk());
}

// --- the status ----------------------------------------------------------------------------------

std::vector<wire::StepInfo> Steps() {
  return {{.name = "training"},
          {.name = "committee keys", .of_clients = false},
          {.name = "input", .brings_input = true},
          {.name = "opening", .of_clients = false}};
}

TEST(Funnel, LosesClientsStepByStepUntilTheirInput) {
  RoundReport round;
  round.invited = 20;
  round.refused = 2;
  round.dropouts = {3, 5, 4, 6};
  round.contributors = 10;
  const Funnel funnel = FunnelOf(round, Steps());
  EXPECT_EQ(funnel.trained, 15U);
  EXPECT_EQ(funnel.uploaded, 11U);
  EXPECT_EQ(funnel.in_sum, 10U);
}

TEST(Funnel, OfARoundInFlightHasOnlyWhoIsThrough) {
  wire::RoundInFlight now;
  now.round.invited = 20;
  now.asked = 20;
  now.answered = 6;
  EXPECT_EQ(FunnelOf(now, Steps()).trained, 6U);
  EXPECT_EQ(FunnelOf(now, Steps()).uploaded, 0U);
  now.round.dropouts = {4, 0};
  now.asked = 16;
  now.answered = 9;
  EXPECT_EQ(FunnelOf(now, Steps()).trained, 16U);
  EXPECT_EQ(FunnelOf(now, Steps()).uploaded, 9U);
}

// A coordinator that has so many rounds, of which the last is open.
struct FakeCoordinator {
  uint64_t begun = 0;
  std::vector<wire::StatusRequest> asked = {};
  bool answers = true;

  StatusBoard::Ask ask() {
    return [this](const Bytes& request, const Reply& reply) {
      asked.push_back(*wire::Decode<wire::StatusRequest>(request));
      if (!answers) return reply(Unavailable("stopping"));
      wire::StatusReply status;
      status.task = "t";
      status.rounds_begun = begun;
      status.tasks = {{.name = "t"}};
      const wire::StatusRequest& last = asked.back();
      for (uint64_t n = last.first_round; n <= begun; ++n) {
        if (status.rounds.size() >= std::min(last.round_count, limits::kStatusPageRounds)) break;
        RoundReport round;
        round.round = n;
        round.state = n == begun ? RoundState::kOpen : RoundState::kCommitted;
        status.rounds.push_back(round);
      }
      reply(wire::Encode(status));
    };
  }
};

TEST(StatusBoard, ShowsTheLatestRoundsOfMany) {
  FakeCoordinator coordinator{.begun = 1'000};
  StatusBoard board(coordinator.ask());
  const Result<BoardStatus> shown = board.Look();
  ASSERT_THAT(shown, IsOk());
  ASSERT_EQ(shown->tasks.at(0).rounds.size(), StatusBoard::kRoundsMax);
  EXPECT_EQ(shown->tasks.at(0).rounds.front().round, 1'000 - StatusBoard::kRoundsMax + 1);
  EXPECT_EQ(shown->tasks.at(0).rounds.back().round, 1'000U);
}

TEST(StatusBoard, AsksOnceForManyWhoLook) {
  FakeCoordinator coordinator{.begun = 3};
  StatusBoard board(coordinator.ask());
  for (int i = 0; i < 100; ++i) ASSERT_THAT(board.Look(), IsOk());
  EXPECT_EQ(coordinator.asked.size(), 3U);
  EXPECT_EQ(coordinator.asked.front().round_count, 0U);
  EXPECT_EQ(coordinator.asked.back().first_round, 1U);
}

TEST(StatusBoard, TellsWhatItKnowsWhileSomebodyLooks) {
  FakeCoordinator coordinator{.begun = 3};
  const StatusBoard::Ask ask = coordinator.ask();
  StatusBoard* looked_at = nullptr;
  std::vector<std::future<bool>> others;
  StatusBoard board([&](Bytes request, Reply reply) {
    others.push_back(std::async(std::launch::async, [&] { return looked_at->Known().ok(); }));
    EXPECT_EQ(others.back().wait_for(std::chrono::seconds(5)), std::future_status::ready);
    ask(std::move(request), std::move(reply));
  });
  looked_at = &board;
  EXPECT_THAT(board.Look(), IsOk());
  EXPECT_THAT(board.Known(), IsOk());
  EXPECT_FALSE(others.empty());
}

TEST(StatusBoard, SaysWhyThereIsNoStatus) {
  FakeCoordinator coordinator{.answers = false};
  StatusBoard board(coordinator.ask());
  EXPECT_THAT(board.Look(), HasCode(Code::kUnavailable));
}

wire::StatusReply SomeStatus() {
  wire::StatusReply status;
  status.task = "a \"task\"\n";
  status.rounds_wanted = 5;
  status.rounds_begun = 2;
  status.rounds_committed = 1;
  status.clients = 12;
  status.step = "input";
  status.steps = Steps();
  PublicKey key{};
  key.fill(0xAB);
  status.committee = {{key, true}, {key, false}};
  Evidence evidence;
  evidence.identity = key;
  status.evidence = {evidence};
  RoundReport round;
  round.round = 1;
  round.state = RoundState::kCommitted;
  round.invited = 10;
  round.contributors = 9;
  round.dropouts = {1, 0, 0, 0};
  round.loss = std::numeric_limits<double>::infinity();
  status.rounds = {round};
  wire::RoundInFlight now;
  now.round.round = 2;
  now.round.invited = 10;
  now.asked = 10;
  now.answered = 4;
  status.in_flight = now;
  return status;
}

TEST(StatusJson, SaysWhatTheStatusSays) {
  const std::string text = StatusJson({.tasks = {SomeStatus()}, .age_seconds = 0.5}, {});
  const nlohmann::json json = nlohmann::json::parse(text);
  const nlohmann::json& task = json["tasks"][0];
  EXPECT_EQ(task["name"], "a \"task\"\n");
  EXPECT_EQ(task["rounds_committed"], 1);
  EXPECT_EQ(task["clients"], 12);
  EXPECT_EQ(task["committee"]["present"], 1);
  EXPECT_EQ(task["committee"]["members"], 2);
  EXPECT_EQ(task["evidence"], 1);
  EXPECT_EQ(task["in_flight"]["trained"], 4);
  EXPECT_EQ(task["steps"].size(), 4);
  EXPECT_EQ(task["rounds"][0]["in_sum"], 9);
  EXPECT_EQ(task["rounds"][0]["dropouts"], nlohmann::json({1, 0, 0, 0}));
  EXPECT_TRUE(task["rounds"][0]["loss"].is_null());
  EXPECT_EQ(json["processes"].size(), 1);
}

TEST(StatusJson, ListsTheProcessesOfAllTasksOnce) {
  wire::StatusReply one = SomeStatus();
  one.processes = {{.name = "a", .address = "", .age = Time(1'500), .cohorts = 2},
                   {.name = "b", .address = "", .cohorts = 1}};
  wire::StatusReply two = SomeStatus();
  two.processes = {{.name = "a", .address = "", .cohorts = 3}};
  const nlohmann::json json = nlohmann::json::parse(StatusJson({.tasks = {one, two}}, {}));
  ASSERT_EQ(json["peers"].size(), 2);
  EXPECT_EQ(json["peers"][0]["name"], "a");
  EXPECT_EQ(json["peers"][0]["cohorts"], 5);
  EXPECT_EQ(json["peers"][0]["age_seconds"], 1.5);
  EXPECT_EQ(json["peers"][1]["cohorts"], 1);
}

TEST(StatusJson, TellsNobodysKey) {
  const std::string text = StatusJson({.tasks = {SomeStatus()}}, {});
  EXPECT_THAT(text, Not(HasSubstr("abab")));
  EXPECT_THAT(text, Not(HasSubstr("\xAB")));
}

// --- the log -------------------------------------------------------------------------------------

TEST(JsonLog, IsOneObjectALine) {
  const LogField fields[] = {{"round", 7}, {"code", 0, "a \"word\"\n"}, {"level", 3}};
  const std::string line = "{" + JsonLogLine(LogLevel::kWarn, "round began", fields);
  EXPECT_EQ(line.find('\n'), std::string::npos);
  const nlohmann::json json = nlohmann::json::parse(line);
  EXPECT_EQ(json["level"], "warn");
  EXPECT_EQ(json["message"], "round began");
  EXPECT_EQ(json["round"], 7);
  EXPECT_EQ(json["code"], "a \"word\"\n");
  EXPECT_EQ(json["level_"], 3);
}

}  // namespace
}  // namespace chorus::coordinator
