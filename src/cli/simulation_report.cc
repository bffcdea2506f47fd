#include "cli/simulation_report.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <optional>
#include <sstream>
#include <utility>
#include <vector>

#include "cli/files.h"
#include "cli/report.h"
#include "cli/svg.h"

namespace chorus::cli {
namespace {

constexpr size_t kBins = 20;

// --- figures of a run ----------------------------------------------------------------------------

struct Totals {
  uint64_t committed = 0;
  uint64_t aborted = 0;
  uint64_t invited = 0;
  uint64_t contributors = 0;
  uint64_t bytes_up = 0;
  uint64_t bytes_down = 0;
  std::optional<double> best_accuracy;
  uint64_t best_round = 0;
  std::optional<double> last_accuracy;
  std::optional<double> last_loss;
};

Totals TotalsOf(const RecordedRun& run) {
  Totals totals;
  for (const SimulatedRound& round : run.result.rounds) {
    const RoundReport& report = round.report;
    (report.state == RoundState::kCommitted ? totals.committed : totals.aborted) += 1;
    totals.invited += report.invited;
    totals.contributors += report.contributors;
    totals.bytes_up += report.bytes_up;
    totals.bytes_down += report.bytes_down;
    if (!round.tested) continue;
    totals.last_accuracy = round.test_accuracy;
    totals.last_loss = round.test_loss;
    if (totals.best_accuracy.has_value() && *totals.best_accuracy >= round.test_accuracy) continue;
    totals.best_accuracy = round.test_accuracy;
    totals.best_round = report.round;
  }
  return totals;
}

// One step of the protocol over all rounds.
struct StepTotals {
  std::string name;
  uint64_t rounds = 0;
  double seconds = 0;
  uint64_t left = 0;
  uint64_t lost = 0;
  uint64_t late = 0;
  uint64_t failed = 0;
};

std::vector<StepTotals> StepsOf(const RecordedRun& run) {
  std::vector<StepTotals> steps;
  for (const SimulatedRound& round : run.result.rounds) {
    for (const SimulatedStep& step : round.steps) {
      if (step.asked == 0) continue;  // pre-keys, say, spare a step
      auto found = std::find_if(steps.begin(), steps.end(),
                                [&step](const StepTotals& each) { return each.name == step.name; });
      if (found == steps.end()) found = steps.insert(steps.end(), {.name = step.name});
      ++found->rounds;
      found->seconds += step.seconds;
      found->left += step.left;
      found->lost += step.lost;
      found->late += step.late;
      found->failed += step.failed;
    }
  }
  return steps;
}

std::string Duration(double seconds) {
  if (!std::isfinite(seconds)) return "-";
  if (seconds < 0.1) return Fixed(seconds * 1e3, 1) + " ms";
  if (seconds < 120) return Fixed(seconds, 1) + " s";
  if (seconds < 7'200) return Fixed(seconds / 60, 1) + " min";
  if (seconds < 172'800) return Fixed(seconds / 3'600, 1) + " h";
  return Fixed(seconds / 86'400, 1) + " days";
}

std::string Accuracy(const std::optional<double>& value) {
  return value.has_value() ? Fixed(*value, 4) : "-";
}

// --- plots ---------------------------------------------------------------------------------------

template <typename Value>
std::vector<Series> SeriesOf(std::span<const RecordedRun> runs, const Value& value) {
  std::vector<Series> series;
  for (const RecordedRun& run : runs) {
    Series line{.name = run.name, .points = {}};
    for (const SimulatedRound& round : run.result.rounds) {
      line.points.push_back({static_cast<double>(round.report.round), value(round)});
    }
    series.push_back(std::move(line));
  }
  return series;
}

std::string AccuracyPlot(std::span<const RecordedRun> runs) {
  return LinePlot(
      {.title = "Accuracy on the test examples", .x = "round", .y = "accuracy", .whole_x = true},
      SeriesOf(
          runs,
          [](const SimulatedRound& round) { return round.tested ? round.test_accuracy : NAN; }),
      false);
}

std::string LossPlot(std::span<const RecordedRun> runs) {
  return LinePlot(
      {.title = "Loss on the test examples", .x = "round", .y = "loss", .whole_x = true},
      SeriesOf(runs,
               [](const SimulatedRound& round) { return round.tested ? round.test_loss : NAN; }),
      false);
}

// Accuracy against what it cost the clients to send.
std::string UploadPlot(std::span<const RecordedRun> runs) {
  std::vector<Series> series;
  for (const RecordedRun& run : runs) {
    Series line{.name = run.name, .points = {}};
    double sent = 0;
    for (const SimulatedRound& round : run.result.rounds) {
      sent += static_cast<double>(round.report.bytes_up) / 1e6;
      if (round.tested) line.points.push_back({sent, round.test_accuracy});
    }
    series.push_back(std::move(line));
  }
  return LinePlot({.title = "Accuracy by what all clients sent", .x = "MB sent", .y = "accuracy"},
                  series, false);
}

std::string ClientsPlot(std::span<const RecordedRun> runs) {
  std::vector<Bins> series;
  for (const RecordedRun& run : runs) {
    Bins bins{.name = run.name, .counts = std::vector<double>(kBins)};
    for (const ClientAccuracy& client : run.result.clients) {
      if (!(client.accuracy >= 0 && client.accuracy <= 1)) continue;
      const auto bin = static_cast<size_t>(client.accuracy * static_cast<double>(kBins));
      bins.counts[std::min(bin, kBins - 1)] += 1;
    }
    series.push_back(std::move(bins));
  }
  return HistogramPlot({.title = "Clients by the accuracy of the last model on their own examples",
                        .x = "accuracy",
                        .y = "clients"},
                       series, 0, 1);
}

// Kilobytes of one invited client, down and up.
std::string BytesPlot(const RecordedRun& run) {
  const auto each = [](uint64_t bytes, uint32_t clients) {
    return clients == 0 ? NAN : static_cast<double>(bytes) / clients / 1e3;
  };
  Series up{.name = "up", .points = {}};
  Series down{.name = "down", .points = {}};
  for (const SimulatedRound& round : run.result.rounds) {
    const auto x = static_cast<double>(round.report.round);
    up.points.push_back({x, each(round.report.bytes_up, round.report.invited)});
    down.points.push_back({x, each(round.report.bytes_down, round.report.invited)});
  }
  return LinePlot(
      {.title = "Bytes of one invited client", .x = "round", .y = "kB a client", .whole_x = true},
      {up, down}, true);
}

std::string StepsPlot(const std::vector<StepTotals>& steps) {
  Bars bars{
      .labels = {}, .parts = {"virtual seconds, mean of the rounds"}, .values = {}, .totals = {}};
  for (const StepTotals& step : steps) {
    const double mean = step.seconds / static_cast<double>(std::max<uint64_t>(step.rounds, 1));
    bars.labels.push_back(step.name);
    bars.values.push_back({mean});
    bars.totals.push_back(Duration(mean));
  }
  return BarPlot({.title = "Virtual time of each step", .x = "", .y = ""}, bars);
}

const std::vector<std::string>& DropoutParts() {
  static const std::vector<std::string> parts = {"left", "message lost", "too late",
                                                 "failed or refused"};
  return parts;
}

std::string DropoutsPlot(const std::vector<StepTotals>& steps) {
  Bars bars{.labels = {}, .parts = DropoutParts(), .values = {}, .totals = {}};
  for (const StepTotals& step : steps) {
    bars.labels.push_back(step.name);
    bars.values.push_back({static_cast<double>(step.left), static_cast<double>(step.lost),
                           static_cast<double>(step.late), static_cast<double>(step.failed)});
    bars.totals.push_back(std::to_string(step.left + step.lost + step.late + step.failed));
  }
  return BarPlot({.title = "Clients lost in each step, all rounds", .x = "", .y = ""}, bars);
}

// --- the page ------------------------------------------------------------------------------------

constexpr std::string_view kStyle = R"(
:root { color-scheme: light dark; --ground: #f6f7f9; --card: #ffffff; --text: #1c2430;
  --quiet: #5c6675; --rule: #dfe3e8; --s0: #1f6fb4; --s1: #c8500a; --s2: #0b8262; --s3: #a8438a;
  --s4: #7a6a00; --s5: #5a4fcf; --s6: #b3261e; --s7: #4d6472; }
@media (prefers-color-scheme: dark) { :root { --ground: #11151b; --card: #1a2029; --text: #e4e8ee;
  --quiet: #9aa5b4; --rule: #303946; --s0: #5aaef0; --s1: #f0914e; --s2: #3fc79b; --s3: #e08ac6;
  --s4: #d8c34a; --s5: #a79bf5; --s6: #f2827a; --s7: #a3b8c4; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--text);
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 28px 20px 60px; }
h1 { font-size: 25px; line-height: 1.25; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 20px; margin: 40px 0 0; padding-top: 20px; border-top: 1px solid var(--rule);
  overflow-wrap: anywhere; }
h3 { font-size: 15px; margin: 0 0 8px; }
.under { color: var(--quiet); margin: 2px 0 0; }
.tiles { display: grid; grid-template-columns: repeat(4, 1fr); gap: 12px;
  margin: 20px 0; }
@media (max-width: 820px) { .tiles { grid-template-columns: repeat(2, 1fr); } }
.tile, .card { background: var(--card); border: 1px solid var(--rule); border-radius: 8px; }
.tile { padding: 12px 16px; }
.tile b { display: block; font-size: 22px; font-weight: 600; line-height: 1.3;
  font-variant-numeric: tabular-nums; }
.tile span { color: var(--quiet); font-size: 13px; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(460px, 100%), 1fr));
  gap: 16px; margin: 16px 0; }
.card { padding: 16px 18px; min-width: 0; }
.wide { margin: 16px 0; }
svg { display: block; width: 100%; height: auto; font-size: 13px; fill: var(--quiet); }
.axis { stroke: var(--quiet); fill: none; }
.grid { stroke: var(--rule); fill: none; }
.line { fill: none; stroke: currentColor; stroke-width: 2; stroke-linejoin: round; }
.bar, circle { fill: currentColor; }
.s0 { color: var(--s0); } .s1 { color: var(--s1); } .s2 { color: var(--s2); }
.s3 { color: var(--s3); } .s4 { color: var(--s4); } .s5 { color: var(--s5); }
.s6 { color: var(--s6); } .s7 { color: var(--s7); }
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; margin: 0 0 8px; font-size: 13px;
  color: var(--text); }
.legend i { display: inline-block; width: 12px; height: 12px; border-radius: 3px;
  background: currentColor; margin-right: 6px; vertical-align: -1px; }
.legend em { font-style: normal; color: var(--text); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums;
  width: 100%; }
th, td { text-align: right; padding: 5px 8px; border-bottom: 1px solid var(--rule);
  white-space: nowrap; }
th { color: var(--quiet); font-weight: 500; }
th:first-child, td:first-child { text-align: left; white-space: normal; min-width: 7em; }
pre { margin: 0; overflow-x: auto; font: 13px/1.45 ui-monospace, "DejaVu Sans Mono", monospace; }
details { margin: 12px 0; } summary { cursor: pointer; font-weight: 600; }
details[open] summary { margin-bottom: 10px; }
.none { color: var(--quiet); }
@media print { body { background: none; } .tile, .card { break-inside: avoid; } }
)";

std::string Legend(const std::vector<std::string>& names) {
  std::string legend = "<p class=\"legend\">";
  for (size_t i = 0; i < names.size(); ++i) {
    legend += "<span class=\"s" + std::to_string(i % 8) + "\"><i></i><em>" + XmlEscaped(names[i]) +
              "</em></span>";
  }
  return legend + "</p>\n";
}

std::string Card(std::string_view title, const std::string& legend, const std::string& body) {
  return "<section class=\"card\"><h3>" + XmlEscaped(title) + "</h3>\n" + legend + body +
         "</section>\n";
}

std::string Tile(const std::string& value, const std::string& what) {
  return "<div class=\"tile\"><b>" + XmlEscaped(value) + "</b><span>" + XmlEscaped(what) +
         "</span></div>\n";
}

std::string Tiles(const RecordedRun& run, const Totals& totals) {
  const SimulationResult& result = run.result;
  std::string tiles = "<div class=\"tiles\">\n";
  tiles += Tile(Accuracy(totals.last_accuracy), "accuracy after the last round");
  tiles += Tile(Accuracy(totals.best_accuracy),
                totals.best_round == 0 ? "best accuracy"
                                       : "best, in round " + std::to_string(totals.best_round));
  tiles += Tile(std::to_string(totals.committed),
                totals.aborted == 0 ? "rounds, none aborted"
                                    : "rounds, " + std::to_string(totals.aborted) + " aborted");
  if (result.target_round.has_value()) {
    tiles += Tile(std::to_string(*result.target_round), "first round at the target accuracy");
  }
  const uint64_t invited = std::max<uint64_t>(totals.invited, 1);
  tiles += Tile(std::to_string(totals.contributors) + " / " + std::to_string(totals.invited),
                "contributed, of those invited");
  tiles += Tile(
      ReadableBytes(totals.bytes_up / invited) + " / " + ReadableBytes(totals.bytes_down / invited),
      "up / down, a client and round");
  tiles += Tile(Duration(result.virtual_seconds), "of virtual time");
  tiles += Tile(Duration(result.cost.wall_seconds), "of real time");
  return tiles + "</div>\n";
}

// Where the processor's time went.
std::string CostTable(const SimulationCost& cost) {
  std::string rows;
  for (const auto& [name, seconds] :
       {std::pair<const char*, double>{"clients: training, encoding, protocol",
                                       cost.clients_seconds},
        {"coordinator: sums and the virtual clock", cost.coordinator_seconds},
        {"testing", cost.testing_seconds}}) {
    rows += std::string("<tr><td>") + name + "</td><td>" + Duration(seconds) + "</td></tr>\n";
  }
  return "<div class=\"scroll\"><table><tr><th>Processor time</th><th></th></tr>\n" + rows +
         "</table></div>\n";
}

// How the clients fare: the mean hides those for whom the model is bad.
std::string ClientsTable(std::span<const RecordedRun> runs) {
  const bool several = runs.size() > 1;
  std::string rows;
  for (const RecordedRun& run : runs) {
    std::vector<double> values;
    for (const ClientAccuracy& client : run.result.clients) {
      if (std::isfinite(client.accuracy)) values.push_back(client.accuracy);
    }
    if (values.empty()) continue;
    std::sort(values.begin(), values.end());
    double sum = 0;
    for (const double value : values) sum += value;
    const auto quantile = [&values](double part) {
      return Fixed(values[static_cast<size_t>(part * static_cast<double>(values.size() - 1))], 3);
    };
    const std::string name = several ? "<td>" + XmlEscaped(run.name) + "</td>" : "";
    rows += "<tr>" + name + "<td>" + std::to_string(values.size()) + "</td><td>" +
            Fixed(sum / static_cast<double>(values.size()), 3) + "</td><td>" + quantile(0) +
            "</td><td>" + quantile(0.1) + "</td><td>" + quantile(0.5) + "</td><td>" +
            quantile(0.9) + "</td><td>" + quantile(1) + "</td></tr>\n";
  }
  if (rows.empty()) return {};
  return std::string("<div class=\"scroll\"><table><tr>") + (several ? "<th>run</th>" : "") +
         "<th>clients</th><th>mean</th><th>worst</th><th>10 %</th><th>median</th><th>90 %</th>"
         "<th>best</th></tr>\n" +
         rows + "</table></div>\n";
}

std::string Details(std::string_view title, const std::string& text) {
  if (text.empty()) return {};
  return "<details class=\"card wide\"><summary>" + XmlEscaped(title) + "</summary><pre>" +
         XmlEscaped(text) + "</pre></details>\n";
}

std::string AbortedRounds(const RecordedRun& run) {
  std::string text;
  for (const SimulatedRound& round : run.result.rounds) {
    if (round.report.state == RoundState::kCommitted) continue;
    text += "round " + std::to_string(round.report.round) + ": " + round.report.reason + "\n";
  }
  return text;
}

// The last round's answers, which those before led up to, in sight; the others folded away.
std::string Answers(const RecordedRun& run) {
  std::string page;
  for (size_t i = run.answers.size(); i-- > 0;) {
    const RecordedAnswers& answers = run.answers[i];
    const std::string title = "Answers of round " + std::to_string(answers.round);
    const std::string text = AnswersText(answers.queries);
    page += i + 1 == run.answers.size()
                ? "<section class=\"card wide\"><h3>" + title + "</h3>\n<pre>" + XmlEscaped(text) +
                      "</pre></section>\n"
                : Details(title, text);
  }
  return page;
}

std::string RunDetails(const RecordedRun& run) {
  const std::vector<StepTotals> steps = StepsOf(run);
  std::string page = Answers(run) + "<div class=\"plots\">\n";
  page += Card("Bytes of one invited client", Legend({"up", "down"}), BytesPlot(run));
  page += Card("What the simulation itself took", "", CostTable(run.result.cost));
  page += Card("Virtual time of each step, mean of the rounds", "", StepsPlot(steps));
  page +=
      Card("Clients lost in each step, all rounds", Legend(DropoutParts()), DropoutsPlot(steps));
  page += "</div>\n";
  page += Details("Rounds that were aborted", AbortedRounds(run));
  page += Details("Task", run.task);
  page += Details("Partition", run.partition);
  page += Details("Command", run.command);
  return page;
}

std::string Subtitle(const RecordedRun& run) {
  return "<p class=\"under\">" + std::to_string(run.result.virtual_clients) + " virtual clients, " +
         std::to_string(run.parameters) + " parameters, seed " + std::to_string(run.seed) +
         "</p>\n";
}

std::string Comparison(std::span<const RecordedRun> runs) {
  std::string rows;
  for (const RecordedRun& run : runs) {
    const Totals totals = TotalsOf(run);
    const auto cell = [](const std::string& text) { return "<td>" + XmlEscaped(text) + "</td>"; };
    rows +=
        "<tr>" + cell(run.name) + cell(std::to_string(run.seed)) +
        cell(std::to_string(totals.committed)) + cell(Accuracy(totals.last_accuracy)) +
        cell(Accuracy(totals.best_accuracy)) +
        cell(totals.best_round == 0 ? "-" : std::to_string(totals.best_round)) +
        cell(run.result.target_round.has_value() ? std::to_string(*run.result.target_round) : "-") +
        cell(Accuracy(totals.last_loss)) + cell(ReadableBytes(totals.bytes_up)) +
        cell(Duration(run.result.virtual_seconds)) + cell(Duration(run.result.cost.wall_seconds)) +
        "</tr>\n";
  }
  return "<section class=\"card wide\"><div class=\"scroll\"><table><tr><th>run</th><th>seed</th>"
         "<th>rounds</th><th>accuracy</th><th>best</th><th>in round</th><th>target in</th>"
         "<th>loss</th><th>sent</th><th>virtual time</th><th>real time</th></tr>\n" +
         rows + "</table></div></section>\n";
}

std::string Plots(std::span<const RecordedRun> runs) {
  std::vector<std::string> names;
  for (const RecordedRun& run : runs) names.push_back(run.name);
  const std::string legend = runs.size() > 1 ? Legend(names) : "";
  return "<div class=\"plots\">\n" +
         Card("Accuracy on the test examples", legend, AccuracyPlot(runs)) +
         Card("Loss on the test examples", legend, LossPlot(runs)) +
         Card("Accuracy by what all clients sent", legend, UploadPlot(runs)) +
         Card("Clients by the last model's accuracy on their examples", legend,
              ClientsPlot(runs) + ClientsTable(runs)) +
         "</div>\n";
}

std::string CsvField(const std::string& text) {
  if (text.find_first_of(",\"\n\r") == std::string::npos) return text;
  std::string quoted(1, '"');
  for (const char c : text) quoted.append(c == '"' ? 2 : 1, c);
  return quoted + "\"";
}

using Figures = std::vector<std::pair<std::string, std::string>>;

Figures FiguresOfAll(std::span<const RecordedAnswer> answers) {
  Figures all;
  for (const RecordedAnswer& recorded : answers) {
    for (auto& figure : FiguresOf(recorded)) all.push_back(std::move(figure));
  }
  return all;
}

// Those that name the columns.
Figures FirstFigures(const RecordedRun& run) {
  return run.answers.empty() ? Figures() : FiguresOfAll(run.answers.front().queries);
}

// The cells of one round, a comma before each.
std::string FigureCells(const RecordedRun& run, uint64_t round) {
  const auto found =
      std::find_if(run.answers.begin(), run.answers.end(),
                   [round](const RecordedAnswers& answers) { return answers.round == round; });
  if (found == run.answers.end()) return std::string(FirstFigures(run).size(), ',');
  std::string cells;
  for (const auto& figure : FiguresOfAll(found->queries))
    cells.append(",").append(CsvField(figure.second));
  return cells;
}

}  // namespace

std::string RunCsv(const RecordedRun& run) {
  const std::vector<StepTotals> steps = StepsOf(run);
  std::ostringstream csv;
  csv << "round,state,test_accuracy,test_loss,invited,contributors,refused,examples,bytes_up,"
         "bytes_down,began_seconds,ended_seconds";
  for (const StepTotals& step : steps) {
    const std::string name = step.name;
    csv << "," << CsvField(name + "_seconds") << "," << CsvField(name + "_asked") << ","
        << CsvField(name + "_answered");
  }
  // Each figure of the answers has a column, which is empty for rounds that aborted.
  for (const auto& figure : FirstFigures(run)) csv << "," << CsvField(figure.first);
  csv << "\n";
  csv.precision(10);
  for (const SimulatedRound& round : run.result.rounds) {
    const RoundReport& report = round.report;
    csv << report.round << "," << (report.state == RoundState::kCommitted ? "committed" : "aborted")
        << ",";
    if (round.tested) csv << round.test_accuracy;
    csv << ",";
    if (round.tested) csv << round.test_loss;
    csv << "," << report.invited << "," << report.contributors << "," << report.refused << ","
        << report.examples << "," << report.bytes_up << "," << report.bytes_down << ","
        << round.began_seconds << "," << round.ended_seconds;
    for (const StepTotals& step : steps) {
      const auto found =
          std::find_if(round.steps.begin(), round.steps.end(),
                       [&step](const SimulatedStep& each) { return each.name == step.name; });
      csv << ",";
      if (found == round.steps.end()) {
        csv << ",,";
      } else {
        csv << found->seconds << "," << found->asked << "," << found->answered;
      }
    }
    csv << FigureCells(run, report.round);
    csv << "\n";
  }
  return csv.str();
}

std::string ReportHtml(std::span<const RecordedRun> runs) {
  const bool several = runs.size() > 1;
  const std::string title =
      several ? std::to_string(runs.size()) + " simulations compared" : runs.front().name;
  std::string page =
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<title>" +
      XmlEscaped(title) + "</title>\n<style>" + std::string(kStyle) +
      "</style>\n</head>\n<body>\n<main>\n<h1>" + XmlEscaped(title) + "</h1>\n";
  if (several) {
    page += Comparison(runs) + Plots(runs);
    for (const RecordedRun& run : runs) {
      page += "<h2>" + XmlEscaped(run.name) + "</h2>\n" + Subtitle(run) +
              Tiles(run, TotalsOf(run)) + RunDetails(run);
    }
  } else {
    page += Subtitle(runs.front()) + Tiles(runs.front(), TotalsOf(runs.front())) + Plots(runs) +
            RunDetails(runs.front());
  }
  return page + "</main>\n</body>\n</html>\n";
}

Status WriteReport(const RecordedRun& run, const std::string& path) {
  constexpr std::string_view kEnding = ".html";
  if (!path.ends_with(kEnding) || path.size() == kEnding.size()) {
    return InvalidArgument("the report's name must end in .html; .json and .csv go beside it");
  }
  const std::string stem = path.substr(0, path.size() - kEnding.size());
  const auto write = [](const std::string& file, const std::string& text) {
    return WriteFile(file, {reinterpret_cast<const uint8_t*>(text.data()), text.size()},
                     WriteOptions{.existing = Existing::kReplace});
  };
  CHORUS_TRY(write(stem + ".json", RunJson(run)));
  CHORUS_TRY(write(stem + ".csv", RunCsv(run)));
  return write(path, ReportHtml({&run, 1}));
}

}  // namespace chorus::cli
