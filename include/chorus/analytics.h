// Answers to a task's queries.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "chorus/status.h"
#include "chorus/task.h"

namespace chorus {

// Of the values that one column takes: exact sums in units of the query, and what follows.
struct Moments {
  int64_t count = 0;
  int64_t sum = 0;             // in units
  int64_t sum_of_squares = 0;  // in units squared
  double mean = 0.0;           // of the values, not in units; 0 when there are none
  double variance = 0.0;       // unbiased; 0 of fewer than two
};

// One query's answer over all clients of a round. What its kind does not name is empty.
struct QueryAnswer {
  std::string name;
  QueryKind kind = QueryKind::kCount;
  int64_t examples = 0;            // of kCount
  int64_t clients = 0;             // of kCount
  std::vector<int64_t> histogram;  // of kHistogram: below low, each bin, high and above
  std::vector<double> edges;       // of kHistogram: [bins + 1], from low to high
  std::vector<Moments> moments;    // of kMean: one; of kTable: one for each arm
  int64_t left_out = 0;            // of kTable: examples of no arm
  // Of kMoments: [(columns + 1) × (columns + 1)] row-major and symmetric, products of (1,
  // columns...) in units squared (those with the constant in units, of the constants a count). The
  // last row and column belong to y: without them it is X'X, and the last column is X'y.
  std::vector<int64_t> products;
};

// What the cells of a round say. kInvalidArgument: queries that are not valid, or another number of
// cells than they have.
Result<std::vector<QueryAnswer>> ReadAnswers(std::span<const QuerySpec> queries,
                                             std::span<const int64_t> cells);

}  // namespace chorus
