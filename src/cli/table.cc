// Tables: which columns are wanted, what a cell may be, and the pool of examples they become.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <span>
#include <string>
#include <utility>

#include "base/limits.h"
#include "cli/pool.h"

namespace chorus::cli {
namespace {

constexpr uint32_t kClassesMax = 1U << 16U;
constexpr float kMissing = std::numeric_limits<float>::quiet_NaN();

std::string Quoted(std::string_view text) {
  constexpr size_t kShown = 40;
  std::string quoted(1, '"');
  quoted.append(text.substr(0, kShown)).append(text.size() > kShown ? "...\"" : "\"");
  return quoted;
}

// NAME or NAME:category or NAME:number.
Result<Column> FeatureColumn(std::string_view text) {
  Column column;
  const size_t colon = text.rfind(':');
  column.name = std::string(text.substr(0, colon));
  if (colon == std::string_view::npos) return column;
  const std::string_view kind = text.substr(colon + 1);
  column.category = kind == "category";
  if (column.category || kind == "number") return column;
  return InvalidArgument("--features " + Quoted(text) +
                         ": after the colon stands number or category");
}

// NAME or NAME>NUMBER.
Result<Column> LabelColumn(std::string_view text, const Wanted& wanted) {
  Column column;
  column.category = wanted.labels;
  const size_t sign = text.find('>');
  column.name = std::string(text.substr(0, sign));
  if (sign == std::string_view::npos) return column;
  CHORUS_TRY_ASSIGN(const float threshold,
                    ParseNumber({.text = text.substr(sign + 1), .where = "--label"}));
  column.category = false;
  column.above = true;
  column.threshold = threshold;
  return column;
}

size_t RowsOf(const Column& column) {
  if (column.category) return column.values.size();
  return column.width == 0 ? 0 : column.numbers.size() / column.width;
}

bool LastIsMissing(const Column& column) {
  if (column.category) return column.values.back() == kNoValue;
  const auto last = std::span(column.numbers).last(column.width);
  return std::any_of(last.begin(), last.end(), [](float value) { return std::isnan(value); });
}

void TakeBack(Column& column) {
  if (column.category) {
    // A category that only skipped rows have is none of the data's.
    if (column.values.back() != kNoValue) column.dictionary.TakeBack();
    column.values.pop_back();
  } else {
    column.numbers.resize(column.numbers.size() - column.width);
  }
}

uint64_t WidthOf(const Column& column) {
  return column.category ? column.dictionary.names().size() : column.width;
}

// A whole number as it is written, below `bound`.
bool IsWholeBelow(const std::string& text, uint32_t bound, uint32_t& value) {
  const char* const end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, value);
  return parsed.ec == std::errc() && parsed.ptr == end && value < bound;
}

// The labels' numbers: themselves when all are whole numbers below `classes`, else their order.
struct Classes {
  std::vector<uint32_t> of;  // [distinct]
  std::vector<std::string> names;
};
Result<Classes> NumberClasses(const Column& column, const Wanted& wanted) {
  const std::vector<std::string>& distinct = column.dictionary.names();
  const uint32_t bound = wanted.classes == 0 ? kClassesMax : wanted.classes;
  Classes classes{.of = std::vector<uint32_t>(distinct.size()), .names = {}};
  bool whole = true;
  uint32_t largest = 0;
  for (size_t i = 0; i < distinct.size() && whole; ++i) {
    whole = IsWholeBelow(distinct[i], bound, classes.of[i]);
    largest = std::max(largest, classes.of[i]);
  }
  if (whole) {
    for (uint32_t i = 0; i <= largest; ++i) classes.names.push_back(std::to_string(i));
    return classes;
  }
  if (distinct.size() > bound) {
    return InvalidArgument("column " + Quoted(column.name) + " has " +
                           std::to_string(distinct.size()) + " classes and the model tells " +
                           std::to_string(bound) + " apart; widen its last layer");
  }
  std::vector<uint32_t> order(distinct.size());
  std::vector<float> numbers(distinct.size());
  bool numeric = true;
  for (uint32_t i = 0; i < distinct.size(); ++i) {
    order[i] = i;
    const Result<float> number = ParseNumber({.text = distinct[i], .where = ""});
    numeric = numeric && number.ok();
    numbers[i] = number.ok() ? *number : 0;
  }
  std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
    return numeric ? numbers[a] < numbers[b] : distinct[a] < distinct[b];
  });
  for (uint32_t i = 0; i < order.size(); ++i) {
    classes.of[order[i]] = i;
    classes.names.push_back(distinct[order[i]]);
  }
  return classes;
}

Status TakeLabels(const Wanted& wanted, const Column& column, Pool& pool) {
  if (column.above) {
    if (column.width != 1) {
      return InvalidArgument("column " + Quoted(column.name) +
                             " has several numbers in a row and"
                             " a label is one");
    }
    for (const float value : column.numbers) {
      pool.examples.labels.push_back(value > column.threshold ? 1 : 0);
    }
    pool.classes = {"no", "yes"};
    return OkStatus();
  }
  CHORUS_TRY_ASSIGN(Classes classes, NumberClasses(column, wanted));
  for (const uint32_t value : column.values) {
    pool.examples.labels.push_back(classes.of[value]);
  }
  pool.classes = std::move(classes.names);
  return OkStatus();
}

void TakeTargets(const std::vector<Column>& labels, size_t rows, Pool& pool) {
  for (size_t row = 0; row < rows; ++row) {
    for (const Column& column : labels) {
      for (size_t i = row * column.width; i < (row + 1) * column.width; ++i) {
        const float value = column.numbers[i];
        pool.examples.targets.push_back(column.above ? (value > column.threshold ? 1.0F : 0.0F)
                                                     : value);
      }
    }
  }
}

// What the columns of the examples are called, and which of them are numbers.
void NameFeatures(const std::vector<Column>& features, Pool& pool) {
  for (const Column& column : features) {
    const uint64_t width = WidthOf(column);
    for (uint64_t i = 0; i < width; ++i) {
      const bool many = !column.category && width > 1;
      pool.features.push_back(column.category ? column.name + "=" + column.dictionary.names()[i]
                              : many          ? column.name + "[" + std::to_string(i) + "]"
                                              : column.name);
      pool.scalable.push_back(column.category ? 0 : 1);
    }
  }
}

void TakeFeatures(const std::vector<Column>& features, size_t rows, Pool& pool) {
  NameFeatures(features, pool);
  std::vector<float>& out = pool.examples.features;
  out.reserve(rows * pool.features.size());
  for (size_t row = 0; row < rows; ++row) {
    for (const Column& column : features) {
      if (column.category) {
        // A missing category is none of them.
        const size_t begin = out.size();
        out.resize(begin + column.dictionary.names().size());
        if (column.values[row] != kNoValue) out[begin + column.values[row]] = 1;
        continue;
      }
      const auto from = column.numbers.begin() + static_cast<ptrdiff_t>(row * column.width);
      out.insert(out.end(), from, from + column.width);
    }
  }
}

}  // namespace

uint32_t Dictionary::Number(std::string_view text) {
  const auto [entry, fresh] =
      numbers_.try_emplace(std::string(text), static_cast<uint32_t>(names_.size()));
  if (fresh) names_.emplace_back(text);
  fresh_ = fresh;
  return entry->second;
}

void Dictionary::TakeBack() {
  if (!std::exchange(fresh_, false)) return;
  numbers_.erase(names_.back());
  names_.pop_back();
}

std::vector<Column*> Table::Columns() {
  std::vector<Column*> columns;
  for (std::vector<Column>* group : {&features, &labels, &user}) {
    for (Column& column : *group) columns.push_back(&column);
  }
  return columns;
}

Result<Table> PlanTable(const DataOptions& options, const Wanted& wanted) {
  Table table;
  for (const std::string& text : options.features) {
    CHORUS_TRY_ASSIGN(Column column, FeatureColumn(text));
    table.features.push_back(std::move(column));
  }
  for (const std::string& text : options.labels) {
    CHORUS_TRY_ASSIGN(Column column, LabelColumn(text, wanted));
    table.labels.push_back(std::move(column));
  }
  if (wanted.labels && table.labels.size() != 1) {
    return InvalidArgument(
        "the model learns classes; name the one column that tells them with"
        " --label");
  }
  if (wanted.targets > 0 && table.labels.empty()) {
    return InvalidArgument("the model learns numbers; name their columns with --label");
  }
  if (!options.user.empty()) {
    table.user.emplace_back();
    table.user[0].name = options.user;
    table.user[0].category = true;
  }
  return table;
}

void PlanRemaining(const DataOptions& options, const std::vector<std::string>& names,
                   Table& table) {
  if (!table.features.empty()) return;
  for (const std::string& name : names) {
    const auto is_named = [&](const std::vector<Column>& columns) {
      return std::any_of(columns.begin(), columns.end(),
                         [&](const Column& column) { return column.name == name; });
    };
    const bool ignored =
        std::find(options.ignore.begin(), options.ignore.end(), name) != options.ignore.end();
    if (ignored || is_named(table.labels) || is_named(table.user)) continue;
    table.features.emplace_back();
    table.features.back().name = name;
  }
}

bool IsMissing(const DataOptions& options, std::string_view text) {
  return text.empty() ||
         std::find(options.missing.begin(), options.missing.end(), text) != options.missing.end();
}

Result<float> ParseNumber(const Cell& cell) {
  std::string_view text = cell.text;
  if (text.starts_with('+') && !text.starts_with("+-")) text.remove_prefix(1);
  double value = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool whole = parsed.ptr == text.data() + text.size() && !text.empty();
  if (parsed.ec != std::errc() || !whole || std::isnan(value)) {
    return InvalidArgument(std::string(cell.where) + ": " + Quoted(cell.text) +
                           " is no number; mend it, name it as --missing, or call the column a"
                           " category");
  }
  if (!(std::abs(value) <= std::numeric_limits<float>::max())) {
    return InvalidArgument(std::string(cell.where) + ": " + Quoted(cell.text) +
                           " is too large a number");
  }
  return static_cast<float>(value);
}

Status CheckMissing(const DataOptions& options, const Column& column, std::string_view where) {
  if (options.when_missing != "refuse") return OkStatus();
  return InvalidArgument(std::string(where) + ": no value of " + Quoted(column.name) +
                         "; mend the row, or choose --when-missing skip or mean");
}

Status AppendCell(const DataOptions& options, const Cell& cell, Column& column) {
  const bool missing = IsMissing(options, cell.text);
  if (missing) CHORUS_TRY(CheckMissing(options, column, cell.where));
  if (column.category) {
    column.values.push_back(missing ? kNoValue : column.dictionary.Number(cell.text));
    return OkStatus();
  }
  if (column.width > 1) {
    return InvalidArgument(std::string(cell.where) + ": one number where earlier rows have " +
                           std::to_string(column.width));
  }
  column.width = 1;
  if (missing) {
    column.numbers.push_back(kMissing);
    return OkStatus();
  }
  CHORUS_TRY_ASSIGN(const float number, ParseNumber(cell));
  column.numbers.push_back(number);
  return OkStatus();
}

Status EndRow(const DataOptions& options, std::string_view where, Table& table) {
  const std::vector<Column*> columns = table.Columns();
  const bool missing = std::any_of(columns.begin(), columns.end(),
                                   [](const Column* column) { return LastIsMissing(*column); });
  if (missing && options.when_missing == "skip") {
    for (Column* const column : columns) TakeBack(*column);
    table.file.pop_back();
    return OkStatus();
  }
  if (missing) {
    for (const std::vector<Column>* group : {&table.labels, &table.user}) {
      for (const Column& column : *group) {
        if (!LastIsMissing(column)) continue;
        return InvalidArgument(std::string(where) + ": no value of " + Quoted(column.name) +
                               ", which has no mean; mend the row, or choose --when-missing skip");
      }
    }
  }
  uint64_t width = 0;
  for (const Column& column : table.features) width += WidthOf(column);
  if (width > limits::kUnitsMax) {
    return ResourceExhausted(std::string(where) + ": more than " +
                             std::to_string(limits::kUnitsMax) + " features");
  }
  if (table.rows() * width > limits::kExamplesBytesMax / sizeof(float)) {
    return ResourceExhausted(std::string(where) +
                             ": more values than a data set may have; use fewer rows or features");
  }
  return OkStatus();
}

Result<Pool> PoolOfTable(const DataOptions& options, const Wanted& wanted, Table table) {
  const size_t rows = table.rows();
  if (rows == 0) return InvalidArgument("the data has no rows that can be used");
  if (table.features.empty()) {
    return InvalidArgument("no column is left for the features; check --features and --ignore");
  }
  Pool pool;
  pool.test_begin = table.test_begin;
  TakeFeatures(table.features, rows, pool);
  pool.examples.inputs = static_cast<uint32_t>(pool.features.size());
  if (wanted.labels) {
    CHORUS_TRY(TakeLabels(wanted, table.labels[0], pool));
  } else if (wanted.targets > 0) {
    uint64_t width = 0;
    for (const Column& column : table.labels) width += RowsOf(column) == 0 ? 0 : column.width;
    if (width != wanted.targets) {
      return InvalidArgument("--label names " + std::to_string(width) +
                             " numbers and the model has " + std::to_string(wanted.targets) +
                             " outputs; name as many");
    }
    TakeTargets(table.labels, rows, pool);
  }
  const bool by_file = options.partition == "file";
  if (by_file) {
    pool.user = std::move(table.file);
    pool.users = table.files.names();
  } else if (!table.user.empty()) {
    pool.user = std::move(table.user[0].values);
    pool.users = table.user[0].dictionary.names();
  }
  return pool;
}

}  // namespace chorus::cli
