// JSON lines: an object a line. As a table its fields are numbers, arrays of numbers, or
// categories; as text one field is what was said, and a next-token model learns to go on.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "base/limits.h"
#include "cli/lines.h"
#include "cli/pool.h"

namespace chorus::cli {
namespace {

using Json = nlohmann::json;

// Finds where a text stops being JSON.
class ErrorPlace final : public nlohmann::json_sax<Json> {
 public:
  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(size_t) override { return true; }
  bool key(string_t&) override { return true; }
  bool end_object() override { return true; }
  bool start_array(size_t) override { return true; }
  bool end_array() override { return true; }
  bool parse_error(size_t position, const std::string&,
                   const nlohmann::detail::exception&) override {
    position_ = position;
    return false;
  }
  size_t position() const { return position_; }

 private:
  size_t position_ = 0;
};

// The next object of the file into `object`; false after the last. Blank lines are none.
Result<bool> NextObject(LineReader& lines, std::string& line, Json& object) {
  do {
    CHORUS_TRY_ASSIGN(const bool more, lines.Next(line));
    if (!more) return false;
  } while (line.find_first_not_of(" \t") == std::string::npos);
  object = Json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (object.is_discarded()) {
    ErrorPlace place;
    Json::sax_parse(line, &place);
    return InvalidArgument(lines.Where() + ":" + std::to_string(place.position()) +
                           ": this is no JSON; each line must be one whole object");
  }
  if (!object.is_object()) {
    return InvalidArgument(lines.Where() + ":1: a line must be an object, {\"field\": value, ...}");
  }
  return true;
}

// A value as the text that a cell has; nothing for null.
std::string TextOf(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_null()) return {};
  if (value.is_boolean()) return value.get<bool>() ? "1" : "0";
  return value.dump();
}

Status AppendArray(const DataOptions& options, const Json& array, const std::string& where,
                   Column& column) {
  if (array.empty()) return InvalidArgument(where + ": an empty array; leave the field out");
  const size_t width = array.size();
  if (width > limits::kUnitsMax || (column.width != 0 && column.width != width)) {
    return InvalidArgument(where + ": " + std::to_string(width) + " numbers where earlier rows" +
                           " have " + std::to_string(column.width));
  }
  column.width = static_cast<uint32_t>(width);
  for (const Json& value : array) {
    if (value.is_null()) {
      CHORUS_TRY(CheckMissing(options, column, where));
      column.numbers.push_back(std::numeric_limits<float>::quiet_NaN());
      continue;
    }
    const std::string text = TextOf(value);
    CHORUS_TRY_ASSIGN(const float number, ParseNumber({.text = text, .where = where}));
    column.numbers.push_back(number);
  }
  return OkStatus();
}

Status AppendField(const DataOptions& options, const Json& object, const std::string& where,
                   Column& column) {
  const auto field = object.find(column.name);
  const std::string place = where + ":" + column.name;
  if (field == object.end() || field->is_null()) {
    if (column.category || column.width <= 1) {
      return AppendCell(options, {.text = "", .where = place}, column);
    }
    CHORUS_TRY(CheckMissing(options, column, place));
    column.numbers.resize(column.numbers.size() + column.width,
                          std::numeric_limits<float>::quiet_NaN());
    return OkStatus();
  }
  if (field->is_array() && !column.category) {
    return AppendArray(options, *field, place, column);
  }
  if (field->is_object() || field->is_array()) {
    return InvalidArgument(place + ": a value here is a number, a text or an array of numbers");
  }
  const std::string text = TextOf(*field);
  return AppendCell(options, {.text = text, .where = place}, column);
}

std::vector<std::string> NumericFields(const Json& object) {
  std::vector<std::string> names;
  for (const auto& [name, value] : object.items()) {
    if (!value.is_string() && !value.is_object() && !value.is_null()) names.push_back(name);
  }
  return names;
}

// Unicode characters of well-formed UTF-8; what is not becomes U+FFFD.
std::vector<char32_t> Characters(const std::string& text) {
  constexpr char32_t kReplacement = 0xFFFD;
  std::vector<char32_t> characters;
  characters.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const auto first = static_cast<unsigned char>(text[at]);
    const size_t length = first < 0x80                    ? 1
                          : first >= 0xC2 && first < 0xE0 ? 2
                          : first >= 0xE0 && first < 0xF0 ? 3
                          : first >= 0xF0 && first < 0xF5 ? 4
                                                          : 0;
    char32_t value = length == 1 ? first : first & (0x7FU >> length);
    bool valid = length > 0 && at + length <= text.size();
    for (size_t i = 1; valid && i < length; ++i) {
      const auto next = static_cast<unsigned char>(text[at + i]);
      valid = (next & 0xC0U) == 0x80U;
      value = value << 6U | (next & 0x3FU);
    }
    characters.push_back(valid ? value : kReplacement);
    at += valid ? length : 1;
  }
  return characters;
}

std::string Utf8(char32_t c) {
  const auto byte = [](char32_t value) { return static_cast<char>(value); };
  if (c < 0x80) return {byte(c)};
  if (c < 0x800) return {byte(0xC0U | c >> 6U), byte(0x80U | (c & 0x3FU))};
  if (c < 0x10000) {
    return {byte(0xE0U | c >> 12U), byte(0x80U | (c >> 6U & 0x3FU)), byte(0x80U | (c & 0x3FU))};
  }
  return {byte(0xF0U | c >> 18U), byte(0x80U | (c >> 12U & 0x3FU)), byte(0x80U | (c >> 6U & 0x3FU)),
          byte(0x80U | (c & 0x3FU))};
}

// What each user said, in order: [users] characters.
struct Speech {
  Dictionary users;
  std::vector<std::vector<char32_t>> text;
  uint64_t count = 0;
};

Status AddSpeech(const DataOptions& options, const Json& object, const std::string& where,
                 Speech& speech) {
  const auto field = object.find(options.text);
  std::string text;
  if (field != object.end() && field->is_string()) {
    text = field->get<std::string>();
  } else if (field != object.end() && field->is_array()) {
    for (const Json& part : *field) {
      if (!part.is_string()) {
        return InvalidArgument(where + ":" + options.text + ": an array of texts holds texts only");
      }
      if (!text.empty()) text.push_back('\n');
      text += part.get<std::string>();
    }
  } else {
    return InvalidArgument(where + ":" + options.text +
                           ": no text here; --text names a string or an array of strings");
  }
  std::string user = std::to_string(speech.text.size() + 1);
  if (!options.user.empty()) {
    const auto name = object.find(options.user);
    if (name == object.end() || name->is_null() || name->is_structured()) {
      return InvalidArgument(where + ":" + options.user + ": no user; every line needs one");
    }
    user = TextOf(*name);
  }
  const uint32_t index = speech.users.Number(user);
  if (index == speech.text.size()) speech.text.emplace_back();
  std::vector<char32_t>& own = speech.text[index];
  const std::vector<char32_t> characters = Characters(text);
  if (!own.empty()) own.push_back(U'\n');
  own.insert(own.end(), characters.begin(), characters.end());
  speech.count += characters.size() + 1;
  if (speech.count > limits::kExamplesBytesMax / sizeof(float) / 2) {
    return ResourceExhausted(where + ": more text than a data set may have");
  }
  return OkStatus();
}

// Adds to `speech` what the files say, at most so many lines of it.
Status ReadSpeech(const DataOptions& options, const std::vector<std::string>& paths,
                  uint64_t lines_max, Speech& speech) {
  std::string line;
  Json object;
  uint64_t count = 0;
  for (const std::string& path : paths) {
    CHORUS_TRY_ASSIGN(LineReader lines, LineReader::Open(path));
    while (count < lines_max) {
      CHORUS_TRY_ASSIGN(const bool more, NextObject(lines, line, object));
      if (!more) break;
      CHORUS_TRY(AddSpeech(options, object, lines.Where(), speech));
      ++count;
    }
  }
  return OkStatus();
}

// Of the last characters of each speaker: none when the test set is another.
uint32_t PercentHeldBack(const DataOptions& options) {
  const bool apart = !options.test_paths.empty() || options.test_clients_percent > 0;
  return apart ? 0 : options.test_percent;
}

// The characters that are tokens, the most frequent ones when there are too many, in the order of
// their code points; beyond them stands the token of all others.
class Vocabulary {
 public:
  void Count(char32_t c) { ++counts_[c]; }
  void Close(uint32_t tokens_max) {
    std::vector<std::pair<uint64_t, char32_t>> ranked;
    for (const auto& [c, count] : counts_) ranked.emplace_back(count, c);
    std::sort(ranked.begin(), ranked.end(), [](const auto& a, const auto& b) {
      return a.first != b.first ? a.first > b.first : a.second < b.second;
    });
    const size_t room = tokens_max == 0 ? ranked.size() : tokens_max - 1;
    ranked.resize(std::min(ranked.size(), room));
    std::vector<char32_t> kept;
    for (const auto& entry : ranked) kept.push_back(entry.second);
    std::sort(kept.begin(), kept.end());
    for (const char32_t c : kept) {
      tokens_[c] = static_cast<uint32_t>(names_.size());
      names_.push_back(Utf8(c));
    }
    names_.emplace_back("\xEF\xBF\xBD");
  }
  float Token(char32_t c) const {
    const auto token = tokens_.find(c);
    return static_cast<float>(token == tokens_.end() ? tokens_.size() : token->second);
  }
  const std::vector<std::string>& names() const { return names_; }

 private:
  std::unordered_map<char32_t, uint64_t> counts_;
  std::unordered_map<char32_t, uint32_t> tokens_;
  std::vector<std::string> names_;
};

Status FillVocabulary(const DataOptions& options, const Speech& speech, Vocabulary& vocabulary) {
  if (options.vocabulary.empty()) {
    // Of what the model may see in training only.
    std::vector<bool> unseen(speech.text.size());
    for (const uint32_t user : TestClients(options, static_cast<uint32_t>(unseen.size()))) {
      unseen[user] = true;
    }
    for (size_t user = 0; user < speech.text.size(); ++user) {
      const std::vector<char32_t>& text = speech.text[user];
      const size_t kept =
          unseen[user] ? 0 : text.size() - text.size() * PercentHeldBack(options) / 100;
      for (size_t i = 0; i < kept; ++i) vocabulary.Count(text[i]);
    }
    return OkStatus();
  }
  CHORUS_TRY_ASSIGN(LineReader lines, LineReader::Open(options.vocabulary));
  std::string line;
  while (true) {
    CHORUS_TRY_ASSIGN(const bool more, lines.Next(line));
    if (!more) return OkStatus();
    for (const char32_t c : Characters(line)) vocabulary.Count(c);
    vocabulary.Count(U'\n');
  }
}

// Windows of `wanted.window` tokens over text[begin, end), each beginning with the last token of
// the one before, so that every character but the first is predicted once. -1 fills the last one.
Status AddWindows(const std::vector<char32_t>& text, size_t begin, size_t end,
                  const Vocabulary& vocabulary, uint32_t window, std::vector<float>& features) {
  for (size_t at = begin; at + 1 < end; at += window - 1) {
    // Short speeches fill little of a wide window, so that few characters can make many numbers.
    if (features.size() + window > limits::kExamplesBytesMax / sizeof(float)) {
      return ResourceExhausted(
          "the text makes more examples than a data set may have; use less of it, or a model of a"
          " narrower window");
    }
    for (size_t i = at; i < at + window; ++i) {
      features.push_back(i < end ? vocabulary.Token(text[i]) : -1.0F);
    }
  }
  return OkStatus();
}

// The examples of all users, those to test on behind those to train on.
Status AddSpeakers(const DataOptions& options, const Wanted& wanted, const Speech& speech,
                   const Vocabulary& vocabulary, bool apart, Pool& pool) {
  const auto mark = [&pool](uint32_t user, bool held_out) {
    pool.user.resize(pool.rows(), user);
    pool.held_out.resize(pool.rows(), held_out ? 1 : 0);
  };
  for (uint32_t user = 0; user < speech.text.size(); ++user) {
    const std::vector<char32_t>& text = speech.text[user];
    const size_t cut = text.size() - text.size() * PercentHeldBack(options) / 100;
    CHORUS_TRY(AddWindows(text, 0, cut, vocabulary, wanted.window, pool.examples.features));
    mark(user, apart);
    if (cut == text.size()) continue;
    // The first held-out character follows the last one to train on.
    CHORUS_TRY(AddWindows(text, cut == 0 ? 0 : cut - 1, text.size(), vocabulary, wanted.window,
                          pool.examples.features));
    mark(user, true);
  }
  return OkStatus();
}

}  // namespace

Status ReadJsonLines(const DataOptions& options, const std::string& path, uint64_t rows_max,
                     Table& table) {
  CHORUS_TRY_ASSIGN(LineReader lines, LineReader::Open(path));
  const uint32_t file = table.files.Number(path);
  const size_t end = rows_max > SIZE_MAX - table.rows() ? SIZE_MAX : table.rows() + rows_max;
  std::string line;
  Json object;
  while (table.rows() < end) {
    CHORUS_TRY_ASSIGN(const bool more, NextObject(lines, line, object));
    if (!more) break;
    PlanRemaining(options, NumericFields(object), table);
    for (Column* const column : table.Columns()) {
      CHORUS_TRY(AppendField(options, object, lines.Where(), *column));
    }
    table.file.push_back(file);
    CHORUS_TRY(EndRow(options, lines.Where(), table));
  }
  return OkStatus();
}

Result<Pool> PoolOfText(const DataOptions& options, const Wanted& wanted) {
  if (wanted.window < 2) {
    return InvalidArgument("--text is for models with next-token loss; leave it out");
  }
  const uint64_t lines_max = options.examples_max == 0 ? UINT64_MAX : options.examples_max;
  Speech speech;
  CHORUS_TRY(ReadSpeech(options, options.paths, lines_max, speech));
  Vocabulary vocabulary;
  CHORUS_TRY(FillVocabulary(options, speech, vocabulary));
  vocabulary.Close(wanted.tokens);
  Pool pool;
  pool.examples.inputs = wanted.window;
  CHORUS_TRY(AddSpeakers(options, wanted, speech, vocabulary, /*apart=*/false, pool));
  pool.test_begin = pool.rows();
  if (!options.test_paths.empty()) {
    // Who speaks in both is one user of one number; those of the test alone come behind the others.
    for (std::vector<char32_t>& text : speech.text) text.clear();
    CHORUS_TRY(ReadSpeech(options, options.test_paths, UINT64_MAX, speech));
    CHORUS_TRY(AddSpeakers(options, wanted, speech, vocabulary, /*apart=*/true, pool));
  }
  pool.users = speech.users.names();
  pool.vocabulary = vocabulary.names();
  if (pool.rows() == 0) return InvalidArgument("the data has no text of two characters or more");
  return pool;
}

}  // namespace chorus::cli
