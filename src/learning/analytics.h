// Federated analytics: questions about clients' examples, answered by integers that are summed
// exactly. A query has cells; a client fills each with a whole number from its own examples, and
// the sum over the cohort is the answer over all their examples, to the last unit.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/stop.h"
#include "chorus/analytics.h"
#include "chorus/bytes.h"
#include "chorus/client.h"
#include "chorus/status.h"
#include "chorus/task.h"
#include "math/math.h"

namespace chorus::learning {

// kInvalidArgument names the query and the field: a kind that this version does not know, the wrong
// number of columns, a column that is named twice, low that is not below high, a unit that is not
// positive, too many bins or cells, or a cell that one client could fill beyond encoding.bound with
// encoding.examples_max examples.
Status ValidateQueries(std::span<const QuerySpec> queries, const EncodingSpec& encoding);

// Cells of all queries together; of valid queries. In the order of the queries:
//   kCount      examples, clients
//   kHistogram  below `low`, each bin, `high` and above
//   kMean       count, sum, sum of squares, in units
//   kTable      for each arm count, sum, sum of squares; last, examples of no arm
//   kMoments    products of two of (1, columns...), (0, 0), (0, 1), ..., (1, 1), ..., in units
uint64_t CellCount(std::span<const QuerySpec> queries);

// kInvalidArgument unless the examples have the columns that the queries name, all finite. Columns
// count the features, then the label or the targets.
Status CheckQueryExamples(std::span<const QuerySpec> queries, const Examples& examples);

// One client's cells [CellCount], over its first `examples_max` examples. Of valid queries and
// examples that fit them, else the failures of the two checks. The failures of `stop` within 256
// examples, and of moments within as many as make 2^16 products, with nothing left in memory.
Result<std::vector<int64_t>> AnswerQueries(std::span<const QuerySpec> queries,
                                           const Examples& examples, uint32_t examples_max,
                                           const Stop& stop);

// A client's cells as the vector of integers that the protocols sum, in the layout of updates
// (docs/decisions/0006): no rounding, no clip. `encoding` is the task's, its dim the cells'. It
// holds the client's input: wipe it. kInvalidArgument: another number of cells, or one beyond the
// bound.
Result<RingVector> EncodeCells(const math::FixedPoint& encoding, std::span<const int64_t> cells,
                               uint64_t examples);
// The cells of a sum that passes math::CheckSum; its failures.
Result<std::vector<int64_t>> DecodeCells(const math::FixedPoint& encoding, const Sum& sum);

// Cells as the store keeps them: each as a big-endian two's complement of 64 bits.
Bytes EncodeAnswers(std::span<const int64_t> cells);
// kDataLoss: not so many cells.
Result<std::vector<int64_t>> DecodeAnswers(BytesView bytes, uint64_t count);

// What a contribution is made of, hashed into every session: the model's layout, or of analytics
// "CHORUS1/queries" || queries u32 || for each: kind u8 || columns u32 || column u32* || low, high,
// unit binary32 || bins u32. Integers big-endian.
Bytes CanonicalContribution(const TaskSpec& task);
// What a round is about, hashed with the published numbers into the model_hash that a client's
// ledger counts uploads by: the model; of analytics, where a zero is published in every round of
// every task, the questions themselves, whatever the task and they are called.
Bytes CanonicalSubject(const TaskSpec& task);

}  // namespace chorus::learning
