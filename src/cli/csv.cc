// CSV as RFC 4180 has it: a header row unless the columns are named, fields in quotes may hold
// separators, line ends and doubled quotes.
#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "base/limits.h"
#include "cli/lines.h"
#include "cli/pool.h"

namespace chorus::cli {
namespace {

using Record = std::vector<std::string>;

Result<char> Separator(const std::string& text) {
  if (text == "tab") return '\t';
  if (text.size() == 1 && text[0] != '"' && text[0] != '\n') return text[0];
  return InvalidArgument("--separator is one character, or tab");
}

// What may stand around a field and is not part of it: never the separator itself.
std::string_view Blanks(char separator) {
  return separator == '\t' ? " " : separator == ' ' ? "\t" : " \t";
}

std::string Trimmed(std::string_view text, std::string_view blanks) {
  const size_t begin = text.find_first_not_of(blanks);
  if (begin == std::string_view::npos) return {};
  return std::string(text.substr(begin, text.find_last_not_of(blanks) - begin + 1));
}

// Splits lines into fields; reads on while a quote is open.
class CsvReader {
 public:
  CsvReader(LineReader lines, char separator)
      : lines_(std::move(lines)), separator_(separator), blanks_(Blanks(separator)) {}

  // False after the last record. Blank lines are no records.
  Result<bool> Next(Record& record) {
    do {
      CHORUS_TRY_ASSIGN(const bool more, lines_.Next(line_));
      if (!more) return false;
      if (lines_.number() == 1 && line_.starts_with("\xEF\xBB\xBF")) line_.erase(0, 3);
    } while (line_.find_first_not_of(blanks_) == std::string::npos);
    where_ = lines_.Where();
    record.clear();
    size_t at = 0;
    while (true) {
      std::string field;
      const size_t first = line_.find_first_not_of(blanks_, at);
      // Spaces before a quote do not belong to the field.
      const bool quoted = first != std::string::npos && line_[first] == '"';
      if (quoted) {
        CHORUS_TRY_ASSIGN(at, Quoted(first + 1, record.size() + 1, field));
      } else {
        const size_t end = std::min(line_.find(separator_, at), line_.size());
        field = Trimmed(std::string_view(line_).substr(at, end - at), blanks_);
        at = end;
      }
      record.push_back(std::move(field));
      if (record.size() > limits::kUnitsMax) {
        return ResourceExhausted(where_ + ": more than " + std::to_string(limits::kUnitsMax) +
                                 " fields");
      }
      if (at >= line_.size()) return true;
      ++at;
    }
  }

  const std::string& where() const { return where_; }

 private:
  // Reads to the quote that closes the field; gives back where the separator or the end is.
  Result<size_t> Quoted(size_t at, size_t column, std::string& field) {
    while (true) {
      const size_t quote = line_.find('"', at);
      if (quote == std::string::npos) {
        field.append(line_, at, std::string::npos).push_back('\n');
        if (field.size() > kLineBytesMax) {
          return ResourceExhausted(Where(column) + ": a field of more than 64 MB");
        }
        CHORUS_TRY_ASSIGN(const bool more, lines_.Next(line_));
        if (!more) {
          return InvalidArgument(Where(column) + ": a quote is opened and never closed; close it");
        }
        at = 0;
        continue;
      }
      field.append(line_, at, quote - at);
      at = quote + 1;
      if (at < line_.size() && line_[at] == '"') {
        field.push_back('"');
        ++at;
        continue;
      }
      at = std::min(line_.find_first_not_of(blanks_, at), line_.size());
      if (at == line_.size() || line_[at] == separator_) return at;
      return InvalidArgument(Where(column) +
                             ": text after a closing quote; put all of the field into quotes, and"
                             " double the quotes in it");
    }
  }

  std::string Where(size_t column) const { return where_ + ":" + std::to_string(column); }

  LineReader lines_;
  char separator_;
  std::string_view blanks_;
  std::string line_;
  std::string where_;  // where the record began
};

// Where a wanted column stands in the file.
struct Place {
  size_t index = 0;
  Column* column = nullptr;
};

Result<std::vector<Place>> FindColumns(const std::string& path, const Record& header,
                                       Table& table) {
  std::vector<Place> places;
  for (Column* const column : table.Columns()) {
    const auto found = std::find(header.begin(), header.end(), column->name);
    if (found == header.end()) {
      std::string names;
      for (size_t i = 0; i < std::min<size_t>(header.size(), 30); ++i) {
        names += (i == 0 ? "" : ", ") + header[i];
      }
      return InvalidArgument(path + " has no column \"" + column->name + "\"; it has " + names +
                             (header.size() > 30 ? " and more" : ""));
    }
    if (std::find(found + 1, header.end(), column->name) != header.end()) {
      return InvalidArgument(path + " has two columns \"" + column->name +
                             "\"; give each a name of its own");
    }
    places.push_back({static_cast<size_t>(found - header.begin()), column});
  }
  return places;
}

}  // namespace

Status ReadCsv(const DataOptions& options, const std::string& path, uint64_t rows_max,
               Table& table) {
  CHORUS_TRY_ASSIGN(const char separator, Separator(options.separator));
  CHORUS_TRY_ASSIGN(LineReader lines, LineReader::Open(path));
  CsvReader csv(std::move(lines), separator);
  Record header = options.columns;
  if (header.empty()) {
    CHORUS_TRY_ASSIGN(const bool any, csv.Next(header));
    if (!any) return InvalidArgument(path + " is empty; it needs a header row and data");
  }
  PlanRemaining(options, header, table);
  CHORUS_TRY_ASSIGN(const std::vector<Place> places, FindColumns(path, header, table));
  const uint32_t file = table.files.Number(path);
  const size_t end = rows_max > SIZE_MAX - table.rows() ? SIZE_MAX : table.rows() + rows_max;
  Record record;
  while (table.rows() < end) {
    CHORUS_TRY_ASSIGN(const bool more, csv.Next(record));
    if (!more) break;
    if (record.size() != header.size()) {
      return InvalidArgument(csv.where() + ": " + std::to_string(record.size()) +
                             " fields in place of " + std::to_string(header.size()) +
                             "; mend the row, or check --separator");
    }
    for (const Place& place : places) {
      const std::string where = csv.where() + ":" + std::to_string(place.index + 1);
      CHORUS_TRY(AppendCell(options, {.text = record[place.index], .where = where}, *place.column));
    }
    table.file.push_back(file);
    CHORUS_TRY(EndRow(options, csv.where(), table));
  }
  return OkStatus();
}

}  // namespace chorus::cli
