// The report of simulations: one page of HTML that needs nothing else, and the same as JSON, which
// can be read again and compared with others, and as CSV.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "chorus/simulation.h"
#include "chorus/status.h"
#include "cli/answers_text.h"

namespace chorus::cli {

// One simulation, with what it takes to run it again.
struct RecordedRun {
  std::string name;  // tells it from others in one report
  uint64_t seed = 0;
  std::string task;       // its text
  std::string command;    // how the tool was called
  std::string partition;  // as text
  uint64_t parameters = 0;
  SimulationResult result;               // weights and contributors are left out of every report
  std::vector<RecordedAnswers> answers;  // of analytics: of each round that committed
};

// Equal for equal simulations but for "measured", where the processor's and the wall's times are.
std::string RunJson(const RecordedRun& run);
// kInvalidArgument names `where` the text is from and what is wrong with it.
Result<RecordedRun> ParseRunJson(std::string_view json, std::string_view where);

// One line a round under a heading.
std::string RunCsv(const RecordedRun& run);

// Of one run in full, or of several beside each other and then each. At least one.
std::string ReportHtml(std::span<const RecordedRun> runs);

// Writes `path`, a name that ends in .html, and .json and .csv of the same name beside it, in place
// of older ones. kInvalidArgument: another ending; and the errors of WriteFile.
Status WriteReport(const RecordedRun& run, const std::string& path);

}  // namespace chorus::cli
