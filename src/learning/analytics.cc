#include "learning/analytics.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include "base/codec.h"
#include "base/limits.h"
#include "learning/learning.h"

namespace chorus::learning {
namespace {

// Beyond it, squares of values in units would leave 62 bits; encoding.bound stops far earlier.
constexpr double kUnitsMagnitudeMax = 2147483648.0;
constexpr uint64_t kMomentCells = 3;  // count, sum, sum of squares
// Between two looks at whether to go on.
constexpr uint64_t kExamplesAtOnce = 256;
constexpr uint64_t kProductsAtOnce = uint64_t{1} << 16U;

bool HasRange(QueryKind kind) { return kind != QueryKind::kCount; }
// Whether the kind sums values, in units, and not only counts examples.
bool SumsValues(QueryKind kind) {
  return kind == QueryKind::kMean || kind == QueryKind::kTable || kind == QueryKind::kMoments;
}

uint64_t Cells(const QuerySpec& query) {
  switch (query.kind) {
    case QueryKind::kCount:
      return 2;
    case QueryKind::kHistogram:
      return uint64_t{query.bins} + 2;
    case QueryKind::kMean:
      return kMomentCells;
    case QueryKind::kTable:
      return kMomentCells * query.bins + 1;
    case QueryKind::kMoments:
      break;
  }
  const uint64_t columns = query.columns.size() + 1;
  return columns * (columns + 1) / 2;
}

// A value that was cut to the query's range, in its units.
int64_t InUnits(const QuerySpec& query, double value) {
  const double cut = std::clamp(value, double{query.low}, double{query.high});
  return std::llround(cut / double{query.unit});
}

// --- what a query must be ---

Status CheckColumns(const QuerySpec& query) {
  const size_t columns = query.columns.size();
  if (columns > limits::kQueryColumnsMax) {
    return InvalidArgument("columns are at most " + std::to_string(limits::kQueryColumnsMax));
  }
  if (std::set<uint32_t>(query.columns.begin(), query.columns.end()).size() < columns) {
    return InvalidArgument("columns name one twice");
  }
  switch (query.kind) {
    case QueryKind::kCount:
      if (columns == 0) return OkStatus();
      return InvalidArgument("columns must be empty: a count looks at none");
    case QueryKind::kHistogram:
    case QueryKind::kMean:
      if (columns == 1) return OkStatus();
      return InvalidArgument("columns must name exactly one");
    case QueryKind::kTable:
      if (columns == 2) return OkStatus();
      return InvalidArgument("columns must name two: the arm, then the value");
    case QueryKind::kMoments:
      break;
  }
  if (columns > 0) return OkStatus();
  return InvalidArgument("columns must name at least one, y last");
}

Status CheckRange(const QuerySpec& query) {
  if (!HasRange(query.kind)) return OkStatus();
  if (!std::isfinite(query.low) || !std::isfinite(query.high) || query.low >= query.high) {
    return InvalidArgument("low must be below high, and both finite");
  }
  if (!SumsValues(query.kind)) return OkStatus();
  if (!std::isfinite(query.unit) || query.unit <= 0) {
    return InvalidArgument("unit must be finite and above 0");
  }
  const double magnitude =
      std::max(std::abs(double{query.low}), std::abs(double{query.high})) / double{query.unit};
  if (magnitude > kUnitsMagnitudeMax) {
    return InvalidArgument("low and high are more than 2^31 units from 0; take a larger unit");
  }
  return OkStatus();
}

Status CheckBins(const QuerySpec& query) {
  const bool has_bins = query.kind == QueryKind::kHistogram || query.kind == QueryKind::kTable;
  if (!has_bins) return OkStatus();
  if (query.bins == 0) return InvalidArgument("bins must be at least 1");
  if (Cells(query) > limits::kCellsMax) return InvalidArgument("bins are too many");
  return OkStatus();
}

Status CheckShape(const QuerySpec& query) {
  if (query.name.empty()) return InvalidArgument("name must not be empty");
  if (query.kind > QueryKind::kMoments) {
    return InvalidArgument("kind is not one that this version knows");
  }
  CHORUS_TRY(CheckColumns(query));
  CHORUS_TRY(CheckRange(query));
  return CheckBins(query);
}

std::string NameOf(const QuerySpec& query, size_t index) {
  return "queries[" + std::to_string(index) + "] \"" + query.name + "\"";
}

Status CheckShapes(std::span<const QuerySpec> queries) {
  if (queries.size() > limits::kQueriesMax) {
    return InvalidArgument("queries are at most " + std::to_string(limits::kQueriesMax));
  }
  std::set<std::string_view> names;
  uint64_t cells = 0;
  for (size_t i = 0; i < queries.size(); ++i) {
    if (const Status shape = CheckShape(queries[i]); !shape.ok()) {
      return InvalidArgument(NameOf(queries[i], i) + ": " + shape.message());
    }
    if (!names.insert(queries[i].name).second) {
      return InvalidArgument(NameOf(queries[i], i) + ": another query has this name");
    }
    cells += Cells(queries[i]);
  }
  if (cells > limits::kCellsMax) {
    return InvalidArgument("queries have " + std::to_string(cells) + " cells together, more than " +
                           std::to_string(limits::kCellsMax) + "; use fewer bins or columns");
  }
  return OkStatus();
}

// The largest number that one example can add to a cell of the query. At most 2^62.
uint64_t LargestOfExample(const QuerySpec& query) {
  if (!SumsValues(query.kind)) return 1;
  const auto magnitude = static_cast<uint64_t>(
      std::max(std::abs(InUnits(query, query.low)), std::abs(InUnits(query, query.high))));
  return std::max<uint64_t>(magnitude * magnitude, 1);
}

// --- one client's answers ---

// One of the examples' columns: a feature, the label or a target.
class Column {
 public:
  Column(const Examples& examples, uint32_t number)
      : examples_(examples),
        feature_(number < examples.inputs),
        at_(feature_ ? number : number - examples.inputs),
        targets_(examples.count() == 0 ? 0 : examples.targets.size() / examples.count()) {}

  double operator[](size_t example) const {
    if (feature_) return examples_.features[example * examples_.inputs + at_];
    if (!examples_.labels.empty()) return examples_.labels[example];
    return examples_.targets[example * targets_ + at_];
  }

 private:
  const Examples& examples_;
  bool feature_;
  size_t at_;
  size_t targets_;  // of one example
};

void AddMoments(int64_t value, std::span<int64_t> cells) {
  cells[0] += 1;
  cells[1] += value;
  cells[2] += value * value;
}

// Some of the examples, one after the other.
struct Piece {
  size_t begin = 0;
  size_t end = 0;
};

void AnswerHistogram(const QuerySpec& query, const Column& column, const Piece& piece,
                     std::span<int64_t> cells) {
  const double width = double{query.high} - double{query.low};
  for (size_t i = piece.begin; i < piece.end; ++i) {
    const double value = column[i];
    if (value < query.low) {
      ++cells[0];
    } else if (value >= query.high) {
      ++cells.back();
    } else {
      // The division may round up to the next bin at the very end of the range.
      const auto bin = static_cast<uint64_t>((value - query.low) / width * query.bins);
      ++cells[1 + std::min<uint64_t>(bin, query.bins - 1)];
    }
  }
}

void AnswerTable(const QuerySpec& query, const Column& arms, const Column& values,
                 const Piece& piece, std::span<int64_t> cells) {
  for (size_t i = piece.begin; i < piece.end; ++i) {
    const double arm = arms[i];
    if (arm < 0 || arm >= query.bins || arm != std::floor(arm)) {
      ++cells.back();
      continue;
    }
    AddMoments(InUnits(query, values[i]),
               cells.subspan(static_cast<size_t>(arm) * kMomentCells, kMomentCells));
  }
}

void AnswerMoments(const QuerySpec& query, std::span<const Column> columns, const Piece& piece,
                   std::span<int64_t> cells) {
  std::vector<int64_t> row(columns.size() + 1, 1);
  for (size_t i = piece.begin; i < piece.end; ++i) {
    for (size_t j = 0; j < columns.size(); ++j) row[j + 1] = InUnits(query, columns[j][i]);
    size_t cell = 0;
    for (size_t j = 0; j < row.size(); ++j) {
      for (size_t k = 0; k <= j; ++k) cells[cell++] += row[j] * row[k];
    }
  }
  Wipe({reinterpret_cast<uint8_t*>(row.data()), row.size() * sizeof(row[0])});
}

// Adds what the examples of a piece say.
void AnswerPiece(const QuerySpec& query, std::span<const Column> columns, const Piece& piece,
                 std::span<int64_t> cells) {
  switch (query.kind) {
    case QueryKind::kCount:
      cells[0] += static_cast<int64_t>(piece.end - piece.begin);
      return;
    case QueryKind::kHistogram:
      return AnswerHistogram(query, columns[0], piece, cells);
    case QueryKind::kMean:
      for (size_t i = piece.begin; i < piece.end; ++i) {
        AddMoments(InUnits(query, columns[0][i]), cells);
      }
      return;
    case QueryKind::kTable:
      return AnswerTable(query, columns[0], columns[1], piece, cells);
    case QueryKind::kMoments:
      return AnswerMoments(query, columns, piece, cells);
  }
}

// In pieces after each of which it may be stopped.
Status Answer(const QuerySpec& query, const Examples& examples, size_t count, const Stop& stop,
              std::span<int64_t> cells) {
  std::vector<Column> columns;
  for (const uint32_t number : query.columns) columns.emplace_back(examples, number);
  if (query.kind == QueryKind::kCount) cells[1] = 1;
  // Only of moments does every example change every cell.
  const uint64_t most =
      query.kind == QueryKind::kMoments ? kProductsAtOnce / cells.size() : kExamplesAtOnce;
  const auto rows = static_cast<size_t>(std::clamp<uint64_t>(most, 1, kExamplesAtOnce));
  for (size_t begin = 0; begin < count; begin += rows) {
    CHORUS_TRY(stop.Check("answering"));
    AnswerPiece(query, columns, {.begin = begin, .end = std::min(count, begin + rows)}, cells);
  }
  return OkStatus();
}

// --- what the cells say ---

// Exact up to the last division: with at most 2^62 in each cell the products fit 128 bits.
Moments ReadMoments(const QuerySpec& query, std::span<const int64_t> cells) {
  Moments moments{.count = cells[0], .sum = cells[1], .sum_of_squares = cells[2]};
  if (moments.count <= 0) return moments;
  const auto count = static_cast<double>(moments.count);
  const double unit = query.unit;
  moments.mean = static_cast<double>(moments.sum) / count * unit;
  if (moments.count < 2) return moments;
  const __int128 spread = static_cast<__int128>(moments.count) * moments.sum_of_squares -
                          static_cast<__int128>(moments.sum) * moments.sum;
  moments.variance = static_cast<double>(spread) / count / (count - 1) * unit * unit;
  return moments;
}

QueryAnswer ReadAnswer(const QuerySpec& query, std::span<const int64_t> cells) {
  QueryAnswer answer;
  answer.name = query.name;
  answer.kind = query.kind;
  switch (query.kind) {
    case QueryKind::kCount:
      answer.examples = cells[0];
      answer.clients = cells[1];
      break;
    case QueryKind::kHistogram:
      answer.histogram.assign(cells.begin(), cells.end());
      for (uint32_t i = 0; i <= query.bins; ++i) {
        const double part = static_cast<double>(i) / query.bins;
        answer.edges.push_back(query.low + part * (double{query.high} - double{query.low}));
      }
      break;
    case QueryKind::kMean:
      answer.moments.push_back(ReadMoments(query, cells));
      break;
    case QueryKind::kTable:
      for (uint32_t arm = 0; arm < query.bins; ++arm) {
        answer.moments.push_back(
            ReadMoments(query, cells.subspan(arm * kMomentCells, kMomentCells)));
      }
      answer.left_out = cells.back();
      break;
    case QueryKind::kMoments: {
      const size_t size = query.columns.size() + 1;
      answer.products.resize(size * size);
      size_t cell = 0;
      for (size_t j = 0; j < size; ++j) {
        for (size_t k = 0; k <= j; ++k, ++cell) {
          answer.products[j * size + k] = answer.products[k * size + j] = cells[cell];
        }
      }
      break;
    }
  }
  return answer;
}

}  // namespace

Status ValidateQueries(std::span<const QuerySpec> queries, const EncodingSpec& encoding) {
  CHORUS_TRY(CheckShapes(queries));
  for (size_t i = 0; i < queries.size(); ++i) {
    const auto largest =
        static_cast<unsigned __int128>(LargestOfExample(queries[i])) * encoding.examples_max;
    if (largest <= encoding.bound) continue;
    return InvalidArgument(
        NameOf(queries[i], i) + ": one client's sum could reach " +
        std::to_string(LargestOfExample(queries[i])) + " * encoding.examples_max of " +
        std::to_string(encoding.examples_max) + ", beyond encoding.bound of " +
        std::to_string(encoding.bound) +
        "; raise the bound (to 2^31 - 1 at most), take a larger unit or a narrower range, or lower"
        " encoding.examples_max");
  }
  return OkStatus();
}

uint64_t CellCount(std::span<const QuerySpec> queries) {
  uint64_t count = 0;
  for (const QuerySpec& query : queries) count += Cells(query);
  return count;
}

Status CheckQueryExamples(std::span<const QuerySpec> queries, const Examples& examples) {
  const size_t count = examples.count();
  if (count == 0) return InvalidArgument("there are no examples");
  const bool whole = examples.features.size() == count * examples.inputs &&
                     (examples.labels.empty() || examples.labels.size() == count) &&
                     examples.targets.size() % count == 0;
  if (!whole) return InvalidArgument("the features, labels or targets are cut short");
  const auto finite = [](float value) { return std::isfinite(value); };
  if (!std::all_of(examples.features.begin(), examples.features.end(), finite) ||
      !std::all_of(examples.targets.begin(), examples.targets.end(), finite)) {
    return InvalidArgument("a feature or target is not a finite number; clean the examples");
  }
  const uint64_t columns =
      examples.inputs + (examples.labels.empty() ? examples.targets.size() / count : 1);
  for (size_t i = 0; i < queries.size(); ++i) {
    for (const uint32_t column : queries[i].columns) {
      if (column < columns) continue;
      return InvalidArgument(NameOf(queries[i], i) + " asks for column " + std::to_string(column) +
                             ", and the examples have columns 0 to " + std::to_string(columns - 1));
    }
  }
  return OkStatus();
}

Result<std::vector<int64_t>> AnswerQueries(std::span<const QuerySpec> queries,
                                           const Examples& examples, uint32_t examples_max,
                                           const Stop& stop) {
  CHORUS_TRY(CheckShapes(queries));
  CHORUS_TRY(CheckQueryExamples(queries, examples));
  const size_t count = std::min<size_t>(examples.count(), examples_max);
  std::vector<int64_t> cells(CellCount(queries));
  std::span<int64_t> rest = cells;
  for (const QuerySpec& query : queries) {
    if (Status answered = Answer(query, examples, count, stop, rest.first(Cells(query)));
        !answered.ok()) {
      Wipe({reinterpret_cast<uint8_t*>(cells.data()), cells.size() * sizeof(cells[0])});
      return answered;
    }
    rest = rest.subspan(Cells(query));
  }
  return cells;
}

Result<RingVector> EncodeCells(const math::FixedPoint& encoding, std::span<const int64_t> cells,
                               uint64_t examples) {
  if (cells.size() != encoding.dim) {
    return InvalidArgument("the answers have another number of cells than the task");
  }
  const auto bound = static_cast<int64_t>(encoding.bound);
  const auto inside = [bound](int64_t cell) { return cell >= -bound && cell <= bound; };
  if (!std::all_of(cells.begin(), cells.end(), inside)) {
    return InvalidArgument("an answer is beyond encoding.bound");
  }
  RingVector vector = math::ZeroVector(encoding.vector_dim(), encoding.bits);
  for (uint64_t i = 0; i < cells.size(); ++i) math::SetSigned(vector, i, cells[i]);
  const uint64_t counted = std::min<uint64_t>(examples, encoding.examples_max);
  math::SetSigned(vector, encoding.dim, static_cast<int64_t>(counted));
  return vector;
}

Result<std::vector<int64_t>> DecodeCells(const math::FixedPoint& encoding, const Sum& sum) {
  CHORUS_TRY(math::CheckSum(encoding, sum));
  std::vector<int64_t> cells(encoding.dim);
  for (uint64_t i = 0; i < cells.size(); ++i) {
    cells[i] = math::SignedAt(sum.values, i, encoding.bits);
  }
  return cells;
}

Bytes EncodeAnswers(std::span<const int64_t> cells) {
  Writer writer(cells.size() * sizeof(uint64_t));
  for (const int64_t cell : cells) writer.U64(static_cast<uint64_t>(cell));
  return std::move(writer).Take();
}

Result<std::vector<int64_t>> DecodeAnswers(BytesView bytes, uint64_t count) {
  if (count > limits::kCellsMax || bytes.size() != count * sizeof(uint64_t)) {
    return DataLoss("the stored answers do not fit the task's queries; restore the file");
  }
  Reader reader(bytes);
  std::vector<int64_t> cells(count);
  for (int64_t& cell : cells) cell = static_cast<int64_t>(reader.U64());
  return cells;
}

Bytes CanonicalContribution(const TaskSpec& task) {
  if (task.queries.empty()) return CanonicalLayout(task.model);
  Writer writer;
  writer.Raw("CHORUS1/queries").U32(static_cast<uint32_t>(task.queries.size()));
  for (const QuerySpec& query : task.queries) {
    writer.U8(static_cast<uint8_t>(query.kind)).U32(static_cast<uint32_t>(query.columns.size()));
    for (const uint32_t column : query.columns) writer.U32(column);
    writer.F32(query.low).F32(query.high).F32(query.unit).U32(query.bins);
  }
  return std::move(writer).Take();
}

Bytes CanonicalSubject(const TaskSpec& task) {
  return task.queries.empty() ? CanonicalModel(task.model) : CanonicalContribution(task);
}

}  // namespace chorus::learning

namespace chorus {

Result<std::vector<QueryAnswer>> ReadAnswers(std::span<const QuerySpec> queries,
                                             std::span<const int64_t> cells) {
  CHORUS_TRY(learning::CheckShapes(queries));
  if (cells.size() != learning::CellCount(queries)) {
    return InvalidArgument("there are " + std::to_string(cells.size()) +
                           " cells, and the queries have " +
                           std::to_string(learning::CellCount(queries)));
  }
  std::vector<QueryAnswer> answers;
  for (const QuerySpec& query : queries) {
    answers.push_back(learning::ReadAnswer(query, cells.first(learning::Cells(query))));
    cells = cells.subspan(learning::Cells(query));
  }
  return answers;
}

}  // namespace chorus
