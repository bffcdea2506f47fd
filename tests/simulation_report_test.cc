#include "cli/simulation_report.h"

#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "cli/svg.h"
#include "matchers.h"

namespace chorus {
namespace {

using cli::AxisOver;
using cli::ParseRunJson;
using cli::RecordedRun;
using cli::ReportHtml;
using cli::RunCsv;
using cli::RunJson;
using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;

// A run whose accuracy climbs, with dropouts and one round that was aborted.
RecordedRun MakeRun(const std::string& name, double slope, uint32_t rounds) {
  RecordedRun run;
  run.name = name;
  run.seed = 7;
  run.task = "name = \"fashion\"\nrounds = 30\n";
  run.command = "chorus simulate --task fashion.task --data fashion --seed 7";
  run.partition = "100 clients, 10000 examples\n";
  run.parameters = 159'010;
  run.result.virtual_clients = 100;
  for (uint32_t i = 1; i <= rounds; ++i) {
    SimulatedRound round;
    round.report.round = i;
    round.report.state = i == 4 ? RoundState::kAborted : RoundState::kCommitted;
    if (i == 4) round.report.reason = "5 of 10 clients are left & <7> are needed";
    round.report.invited = 12;
    round.report.contributors = 10 - i % 3;
    round.report.bytes_up = 12 * 640'000 + i * 1'000;
    round.report.bytes_down = 12 * 910'000;
    round.tested = i != 4;
    round.test_accuracy = 0.9 - 0.8 * std::exp(-slope * i);
    round.test_loss = 0.3 + 2 * std::exp(-slope * i);
    round.began_seconds = i * 30.0;
    round.ended_seconds = i * 30.0 + 28;
    for (const char* step : {"train", "keys", "shares", "input", "unmask"}) {
      const bool train = std::string(step) == "train";
      round.steps.push_back({.name = step,
                             .asked = 12,
                             .answered = 10,
                             .left = train ? 1U : 0U,
                             .lost = i % 2,
                             .late = train ? i % 3 : 0,
                             .failed = 0,
                             .bytes_up = 1'000,
                             .bytes_down = 2'000,
                             .seconds = train ? 14.5 : 1.25});
    }
    run.result.rounds.push_back(round);
  }
  for (uint32_t i = 0; i < 100; ++i) {
    run.result.clients.push_back(
        {.client = i, .examples = 20, .accuracy = 1 - 0.5 * (i * 37 % 100) / 100.0 * slope * 5});
  }
  run.result.target_round = 9;
  run.result.virtual_seconds = 930;
  run.result.cost = {
      .clients_seconds = 8, .coordinator_seconds = 0.6, .testing_seconds = 1, .wall_seconds = 5};
  return run;
}

TEST(SimulationReport, ReadsBackWhatItWroteAsJson) {
  const RecordedRun run = MakeRun("plain", 0.2, 12);
  const std::string json = RunJson(run);
  const auto read = ParseRunJson(json, "run.json");
  ASSERT_THAT(read.status(), IsOk());
  EXPECT_EQ(RunJson(*read), json);
  EXPECT_EQ(RunCsv(*read), RunCsv(run));
  EXPECT_EQ(ReportHtml({&*read, 1}), ReportHtml({&run, 1}));
  EXPECT_EQ(read->result.rounds[3].report.reason, run.result.rounds[3].report.reason);
  EXPECT_EQ(read->result.target_round, 9U);
}

// Two rounds of queries of every kind that has a shape of its own.
RecordedRun RunOfQueries() {
  RecordedRun run = MakeRun("queries", 0.2, 5);
  for (const uint64_t round : {2, 5}) {
    cli::RecordedAnswers answers{.round = round, .queries = {}};
    answers.queries.resize(4);
    const char* const names[] = {"people", "age", "debt", "xx"};
    for (size_t i = 0; i < 4; ++i) answers.queries[i].answer.name = names[i];
    QueryAnswer& people = answers.queries[0].answer;
    people.examples = 70;
    people.clients = 9;
    QueryAnswer& age = answers.queries[1].answer;
    age.kind = QueryKind::kHistogram;
    age.histogram = {1, 20, 30, 4};
    age.edges = {0, 40, 80};
    QueryAnswer& debt = answers.queries[2].answer;
    debt.kind = QueryKind::kMean;
    debt.moments = {{.count = 7, .sum = -9, .sum_of_squares = 9, .mean = -4.5, .variance = 2}};
    QueryAnswer& products = answers.queries[3].answer;
    products.kind = QueryKind::kMoments;
    products.products = {7, -9, -9, 11};
    answers.queries[3].columns = {1};
    run.answers.push_back(answers);
  }
  return run;
}

TEST(SimulationReport, HasTheAnswersToQueriesInEveryForm) {
  const RecordedRun run = RunOfQueries();
  const std::string json = RunJson(run);
  const auto read = ParseRunJson(json, "run.json");
  ASSERT_THAT(read.status(), IsOk());
  EXPECT_EQ(RunJson(*read), json);
  EXPECT_THAT(json, HasSubstr("\"sum_in_units\": -9"));
  const std::string html = ReportHtml({&run, 1});
  EXPECT_THAT(html, HasSubstr("Answers of round 5</h3>"));
  EXPECT_THAT(html, HasSubstr("70 examples of 9 clients"));
  EXPECT_THAT(html, HasSubstr("[0, 40)"));
  std::istringstream lines(RunCsv(run));
  std::vector<std::string> all;
  for (std::string line; std::getline(lines, line);) all.push_back(line);
  ASSERT_EQ(all.size(), 6U);
  EXPECT_THAT(all[0], EndsWith(",people.examples,people.clients,age.below 0,\"age.[0, 40)\","
                               "\"age.[40, 80)\",age.80 and above,debt.count,debt.mean,"
                               "debt.variance,xx.1 * 1,xx.1 * column 1,xx.column 1 * column 1"));
  EXPECT_THAT(all[1], EndsWith(",,,,,,,,,,,,"));
  EXPECT_THAT(all[2], EndsWith(",70,9,1,20,30,4,7,-4.5,2,7,-9,11"));
}

TEST(SimulationReport, RefusesAnswersWithoutTheFiguresOfTheirKind) {
  for (const size_t query : {1, 2, 3}) {
    RecordedRun run = RunOfQueries();
    QueryAnswer& answer = run.answers[1].queries[query].answer;
    answer.histogram.clear();
    answer.moments.clear();
    answer.products.clear();
    EXPECT_THAT(ParseRunJson(RunJson(run), "run.json").status(),
                HasCodeAndText(Code::kInvalidArgument, "figures of its kind"))
        << query;
  }
}

TEST(SimulationReport, KeepsWhatDiffersFromRunToRunInOnePlace) {
  const RecordedRun run = MakeRun("plain", 0.2, 3);
  RecordedRun slower = run;
  slower.result.cost = {
      .clients_seconds = 80, .coordinator_seconds = 6, .testing_seconds = 10, .wall_seconds = 50};
  const auto before = [](const std::string& json) { return json.substr(0, json.find("measured")); };
  EXPECT_NE(RunJson(run), RunJson(slower));
  EXPECT_EQ(before(RunJson(run)), before(RunJson(slower)));
}

TEST(SimulationReport, NamesTheFieldThatIsWrong) {
  const std::string json = RunJson(MakeRun("plain", 0.2, 3));
  const auto with = [&json](const std::string& from, const std::string& to) {
    std::string text = json;
    const size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    text.replace(at, from.size(), to);
    const auto read = ParseRunJson(text, "run.json");
    EXPECT_THAT(read.status(), HasCode(Code::kInvalidArgument));
    return read.status().message();
  };
  EXPECT_THAT(with("\"asked\": 12", "\"asked\": -1"),
              HasSubstr("run.json: rounds[0].steps[0].asked is no whole number"));
  EXPECT_THAT(with("\"asked\": 12", "\"asked\": 4294967296"), HasSubstr("no whole number"));
  EXPECT_THAT(with("\"lost\"", "\"lots\""), HasSubstr("rounds[0].steps[0].lost is missing"));
  EXPECT_THAT(with("\"seed\": 7", "\"seed\": \"7\""), HasSubstr("seed is no whole number"));
  EXPECT_THAT(with("chorus simulation 1", "chorus simulation 9"), HasSubstr("format"));
  EXPECT_THAT(with("{", "["), HasSubstr("no JSON"));
  EXPECT_THAT(ParseRunJson("[]", "run.json").status().message(), HasSubstr("format is missing"));
}

TEST(SimulationReport, HasOneCsvLineARound) {
  const std::string csv = RunCsv(MakeRun("plain", 0.2, 5));
  std::istringstream lines(csv);
  std::string line;
  size_t columns = 0;
  size_t count = 0;
  while (std::getline(lines, line)) {
    const auto commas = static_cast<size_t>(std::count(line.begin(), line.end(), ','));
    if (count == 0) columns = commas;
    EXPECT_EQ(commas, columns) << line;
    ++count;
  }
  EXPECT_EQ(count, 6U);
  EXPECT_THAT(csv, HasSubstr("\n4,aborted,,,12,"));
}

TEST(SimulationReport, IsOnePageThatNeedsNothingElse) {
  const RecordedRun run = MakeRun("plain", 0.2, 30);
  const std::string page = ReportHtml({&run, 1});
  for (const char* foreign : {"http://", "https://", "<script", "src=", "@import", "url("}) {
    EXPECT_THAT(page, Not(HasSubstr(foreign)));
  }
  EXPECT_THAT(page, HasSubstr("prefers-color-scheme: dark"));
  EXPECT_THAT(page, HasSubstr("name = &quot;fashion&quot;"));
  EXPECT_THAT(page, HasSubstr("seed 7"));
}

TEST(SimulationReport, EscapesAllText) {
  const std::string bad = "</title><script>alert('x')</script>&\"";
  RecordedRun run = MakeRun(bad, 0.2, 5);
  run.task = bad;
  run.command = bad;
  run.partition = bad;
  run.result.rounds[3].report.reason = bad;
  run.result.rounds[0].steps[0].name = bad;
  const RecordedRun other = MakeRun(bad, 0.1, 5);
  const std::vector<RecordedRun> both = {run, other};
  for (const std::string& page : {ReportHtml({&run, 1}), ReportHtml(both)}) {
    EXPECT_THAT(page, Not(HasSubstr("<script")));
    EXPECT_THAT(page, HasSubstr("&lt;script&gt;"));
  }
}

TEST(SimulationReport, SurvivesRunsInWhichNothingWasMeasured) {
  RecordedRun run;
  run.name = "empty";
  EXPECT_THAT(ReportHtml({&run, 1}), HasSubstr("nothing was measured"));
  RecordedRun odd = MakeRun("odd", 0.2, 1);
  odd.result.rounds[0].test_loss = std::nan("");
  odd.result.rounds[0].report.invited = 0;
  odd.result.clients[0].accuracy = std::nan("");
  const auto read = ParseRunJson(RunJson(odd), "odd.json");
  ASSERT_THAT(read.status(), IsOk());
  EXPECT_TRUE(std::isnan(read->result.rounds[0].test_loss));
  EXPECT_THAT(ReportHtml({&*read, 1}), Not(HasSubstr(">nan")));
}

TEST(SimulationReport, WritesThreeFilesUnderOneName) {
  const std::string stem = testing::TempDir() + "/chorus_report_" + std::to_string(getpid());
  const RecordedRun run = MakeRun("plain", 0.2, 5);
  EXPECT_THAT(cli::WriteReport(run, stem + ".txt"), HasCode(Code::kInvalidArgument));
  ASSERT_THAT(cli::WriteReport(run, stem + ".html"), IsOk());
  const auto text = [&stem](const std::string& ending) {
    std::ifstream file(stem + ending);
    std::ostringstream out;
    out << file.rdbuf();
    std::filesystem::remove(stem + ending);
    return out.str();
  };
  EXPECT_EQ(text(".html"), ReportHtml({&run, 1}));
  EXPECT_EQ(text(".json"), RunJson(run));
  EXPECT_EQ(text(".csv"), RunCsv(run));
}

TEST(PlotAxis, HasStepsThatPeopleCountIn) {
  for (const double scale : {1e-3, 1.0, 250.0, 1e6}) {
    for (double low = -1; low < 1; low += 0.13) {
      for (double width = 0.01; width < 3; width *= 1.7) {
        const cli::Axis axis = AxisOver(low * scale, (low + width) * scale, 6);
        EXPECT_LE(axis.low, low * scale + 1e-9 * scale);
        EXPECT_GE(axis.high, (low + width) * scale - 1e-9 * scale);
        EXPECT_LE((axis.high - axis.low) / axis.step, 8.001);
        const double digit = axis.step / std::pow(10, std::floor(std::log10(axis.step) + 1e-9));
        EXPECT_TRUE(std::abs(digit - 1) < 1e-6 || std::abs(digit - 2) < 1e-6 ||
                    std::abs(digit - 5) < 1e-6)
            << axis.step;
      }
    }
  }
  EXPECT_LT(AxisOver(3, 3, 6).low, 3);
  EXPECT_GT(AxisOver(3, 3, 6).high, 3);
}

}  // namespace
}  // namespace chorus
