// Answers to queries, for people and for reports.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "chorus/analytics.h"
#include "chorus/task.h"

namespace chorus::cli {

// One query's answer with what it takes to read it.
struct RecordedAnswer {
  QueryAnswer answer;
  std::vector<uint32_t> columns;  // of the query
  double unit = 1;                // likewise
};

// Of one round.
struct RecordedAnswers {
  uint64_t round = 0;
  std::vector<RecordedAnswer> queries;
};

// "histogram", as reports call it.
const char* KindName(QueryKind kind);

// As tables.
std::string AnswersText(std::span<const RecordedAnswer> answers);

// As a list of figures, each with the query's name in front of its own: "age.mean" and "41.2". The
// list's names are the same for all rounds of a task.
std::vector<std::pair<std::string, std::string>> FiguresOf(const RecordedAnswer& recorded);

}  // namespace chorus::cli
