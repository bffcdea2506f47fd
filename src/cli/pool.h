// Where the readers of data meet: rows of any format become one pool of examples, which is then
// dealt out to clients.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "chorus/client.h"
#include "chorus/model.h"
#include "chorus/status.h"
#include "cli/dataset.h"

namespace chorus::cli {

// What a model wants of its data.
struct Wanted {
  bool labels = false;   // classes
  uint32_t targets = 0;  // or so many numbers
  uint32_t classes = 0;  // labels are below it; 0: any
  uint32_t window = 0;   // of text: tokens of an example, T + 1
  uint32_t tokens = 0;   // of text: the vocabulary's largest size; 0: any
};

// Examples before they are dealt out.
struct Pool {
  Examples examples;                  // NaN: missing
  std::vector<uint32_t> user;         // [rows] index in `users`, or empty
  std::vector<std::string> users;     // of natural clients
  std::vector<uint8_t> held_out;      // [rows] not 0: for testing; or empty: not decided yet
  std::vector<uint8_t> scalable;      // [inputs] not 0: a number that may be standardised
  std::vector<std::string> features;  // [inputs] names, or empty
  std::vector<std::string> classes;
  std::vector<std::string> vocabulary;
  size_t test_begin = 0;  // rows from here on come from the test set apart

  size_t rows() const { return examples.count(); }
};

// Distinct texts, numbered as they come.
class Dictionary {
 public:
  uint32_t Number(std::string_view text);
  // Forgets the text of the last Number if it was new.
  void TakeBack();
  const std::vector<std::string>& names() const { return names_; }

 private:
  std::unordered_map<std::string, uint32_t> numbers_;
  std::vector<std::string> names_;
  bool fresh_ = false;  // the last Number was of a new text
};

// One wanted column of a table.
struct Column {
  std::string name;
  bool category = false;       // else numbers
  bool above = false;          // of a label: 1 for more than `threshold`, else 0
  double threshold = 0;        // of `above`
  uint32_t width = 0;          // numbers of a row: more than one of a JSON array; 0: not yet known
  std::vector<float> numbers;  // [rows × width]; NaN: missing
  std::vector<uint32_t> values;  // [rows] of a category: index in its names; kNoValue: missing
  Dictionary dictionary;
};
inline constexpr uint32_t kNoValue = UINT32_MAX;

// Rows of wanted columns, from CSV or JSON lines.
struct Table {
  std::vector<Column> features;
  std::vector<Column> labels;
  std::vector<Column> user;  // one or none
  std::vector<uint32_t> file;
  Dictionary files;
  size_t test_begin = 0;

  size_t rows() const { return file.size(); }
  std::vector<Column*> Columns();
};

// One cell as text; `where` says file, line and column.
struct Cell {
  std::string_view text;
  std::string_view where;
};

// The columns that the options name; those of `features` may still be empty, which means all others
// of the data. kInvalidArgument: an option that makes no sense, named.
Result<Table> PlanTable(const DataOptions& options, const Wanted& wanted);
// Adds the columns `names` as features that the options neither name nor ignore.
void PlanRemaining(const DataOptions& options, const std::vector<std::string>& names, Table& table);
bool IsMissing(const DataOptions& options, std::string_view text);
// kInvalidArgument: not a finite number, with what stands there.
Result<float> ParseNumber(const Cell& cell);
// A value missing from `column`: an error that says what to do, unless the options allow it.
Status CheckMissing(const DataOptions& options, const Column& column, std::string_view where);
// Appends the cell, missing or not.
Status AppendCell(const DataOptions& options, const Cell& cell, Column& column);
// After each row's cells: takes the row back when the options skip those with a value missing.
Status EndRow(const DataOptions& options, std::string_view where, Table& table);

Status ReadCsv(const DataOptions& options, const std::string& path, uint64_t rows_max,
               Table& table);
Status ReadJsonLines(const DataOptions& options, const std::string& path, uint64_t rows_max,
                     Table& table);

Result<Pool> PoolOfTable(const DataOptions& options, const Wanted& wanted, Table table);
Result<Pool> PoolOfIdx(const DataOptions& options, const Wanted& wanted);
Result<Pool> PoolOfText(const DataOptions& options, const Wanted& wanted);

// Which of so many natural clients are for testing alone, by the options' seed; none without
// test_clients_percent.
std::vector<uint32_t> TestClients(const DataOptions& options, uint32_t clients);

}  // namespace chorus::cli
