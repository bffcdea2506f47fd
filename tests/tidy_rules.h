// The rules of the tree: who includes whom, what is banned, how long things may be. Each is a
// function of one file's path and text; tidy_test.cc tries them on text that breaks them, then on
// the tree.
#pragma once

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <filesystem>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace chorus::tidy {

using Complaints = std::vector<std::string>;

struct SourceFile {
  std::string path;  // from the top of the tree, with '/'
  std::string text;
};

// --- the rules' tables
// ---------------------------------------------------------------------------

inline const std::set<std::string>& AllBelowSides() {
  static const std::set<std::string> all = {"chorus",  "base",     "crypto", "math", "aggregation",
                                            "privacy", "learning", "trust",  "wire"};
  return all;
}

// Who may include whom, besides itself: an include never points up or to a sibling.
inline const std::map<std::string, std::set<std::string>>& MayInclude() {
  static const std::map<std::string, std::set<std::string>> may = [] {
    std::map<std::string, std::set<std::string>> map = {
        {"chorus", {}},
        {"examples", {"chorus"}},
        {"base", {"chorus"}},
        {"crypto", {"chorus", "base"}},
        {"math", {"chorus", "base"}},
        {"aggregation", {"chorus", "base", "crypto", "math"}},
        {"privacy", {"chorus", "base", "math"}},
        {"learning", {"chorus", "base", "math"}},
        {"trust", {"chorus", "base", "crypto"}},
        {"wire", {"chorus", "base"}},
        {"coordinator", AllBelowSides()},
        {"client", AllBelowSides()},
        {"simulation", AllBelowSides()},
        {"cli", AllBelowSides()},
    };
    map["simulation"].insert({"client", "coordinator"});
    map["cli"].insert({"client", "coordinator", "simulation"});
    return map;
  }();
  return may;
}

// Where each third party begins and ends. A place is the start of a path.
struct ThirdParty {
  std::string include;  // start of what stands in the angle brackets or quotes
  std::vector<std::string> places;
};
inline const std::vector<ThirdParty>& ThirdParties() {
  static const std::vector<ThirdParty> parties = {
      {"openssl/", {"src/crypto/"}},
      {"sodium", {"src/crypto/"}},
      {"Eigen/", {"tests/bench/learning_eigen."}},
      {"unsupported/Eigen/", {}},
      {"grpc/",
       {"src/coordinator/service.", "src/coordinator/coordinator.cc",
        "src/client/grpc_transport.cc"}},
      {"grpcpp/",
       {"src/coordinator/service.", "src/coordinator/coordinator.cc",
        "src/client/grpc_transport.cc"}},
      {"chorus/v1/", {"src/wire/", "src/coordinator/service.", "src/client/grpc_transport.cc"}},
      {"google/protobuf/", {"src/wire/"}},
      {"absl/", {"src/cli/main.cc"}},
      {"fmt/", {}},
      {"sqlite3.h", {"src/coordinator/sqlite_"}},
      {"libpq-fe.h", {"src/coordinator/postgres_"}},
      {"microhttpd.h", {"src/coordinator/web.cc"}},
      {"mpi.h", {"src/simulation/mpi.cc"}},
      {"zlib.h", {"src/client/example_store.cc", "src/cli/lines.cc"}},
      {"nlohmann/", {"src/cli/"}},
      {"CLI/", {"src/cli/"}},
  };
  return parties;
}

// Words that code may not contain outside their one place. A line, or the one above it, may say
// NOLINT(tidy) with a reason.
struct Banned {
  std::string word;
  std::string instead;
  std::string place;  // start of the paths where it belongs; empty: nowhere
};
inline const std::vector<Banned>& BannedInLibrary() {
  static const std::vector<Banned> banned = {
      {"steady_clock::now", "Clock", "src/base/base.cc"},
      {"system_clock::now", "Clock", "src/base/base.cc"},
      {"sleep_for", "a wait that a Cancel or Interrupt ends", ""},
      {"sleep_until", "a wait that a Cancel or Interrupt ends", ""},
      {"random_device", "Rng&", "src/crypto/random.cc"},
      {"mt19937", "Rng&", ""},
      {"rand(", "Rng&", ""},
      {"srand(", "Rng&", ""},
      {"memcmp(", "std::equal, or EqualConstantTime for secrets", ""},
      {"shared_ptr", "unique_ptr, or say why with NOLINT(tidy)", ""},
      {"make_shared", "unique_ptr, or say why with NOLINT(tidy)", ""},
      {"system(", "nothing: a library starts no process", ""},
      {"popen(", "nothing: a library starts no process", ""},
      {"strcpy(", "std::string", ""},
      {"sprintf(", "std::string", ""},
      {"snprintf(", "std::string or ostringstream", ""},
      {"printf(", "Log", "src/cli/"},
      {"using namespace", "the names that are meant", ""},
      {"throw", "Status", ""},
      {"try", "CHORUS_TRY", "src/cli/main.cc"},
      {"catch", "Status", "src/cli/main.cc"},
      {"dynamic_cast", "a virtual function or std::variant", ""},
      {"typeid", "a virtual function or std::variant", ""},
      {"assert(", "CHORUS_ENSURE", ""},
  };
  return banned;
}

// Signs of unfinished work, in code and comments alike: in capitals, or whatever their case.
inline const std::vector<std::string>& UnfinishedWords() {
  static const std::vector<std::string> words = {
      "XXX", "HACK", "todo", "fixme", "not implemented", "placeholder", "for now"};
  return words;
}

inline constexpr size_t kColumnsMax = 100;
inline constexpr size_t kFunctionLinesMax = 70;
inline constexpr size_t kFileLinesMax = 700;
inline constexpr uintmax_t kFileBytesMax = 400'000;

// --- reading
// -------------------------------------------------------------------------------------

inline std::vector<std::string> Lines(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

inline bool StartsWith(std::string_view text, std::string_view start) {
  return text.substr(0, start.size()) == start;
}

inline bool EndsWith(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

inline bool IsCpp(const std::string& path) { return EndsWith(path, ".cc") || EndsWith(path, ".h"); }
inline bool IsLibrary(const std::string& path) {
  return IsCpp(path) && (StartsWith(path, "src/") || StartsWith(path, "include/"));
}

inline bool IsWordCharacter(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_';
}

// Whether `word` stands in `line` and is not part of a longer word.
inline bool HasWord(std::string_view line, std::string_view word) {
  for (size_t at = line.find(word); at != std::string_view::npos; at = line.find(word, at + 1)) {
    const bool starts = at == 0 || !IsWordCharacter(word.front()) || !IsWordCharacter(line[at - 1]);
    const size_t end = at + word.size();
    const bool ends =
        end == line.size() || !IsWordCharacter(word.back()) || !IsWordCharacter(line[end]);
    if (starts && ends) return true;
  }
  return false;
}

// Where the literal that begins at `at` ends: past its closing quote. A quote between the digits of
// a number begins none.
inline size_t LiteralEnd(const std::string& text, size_t at) {
  if (text[at] == '"' && at > 0 && text[at - 1] == 'R') {
    const size_t open = text.find('(', at);
    if (open == std::string::npos) return text.size();
    const std::string close = ")" + text.substr(at + 1, open - at - 1) + "\"";
    const size_t end = text.find(close, open);
    return end == std::string::npos ? text.size() : end + close.size();
  }
  for (size_t i = at + 1; i < text.size(); ++i) {
    if (text[i] == '\\') {
      ++i;
    } else if (text[i] == text[at] || text[i] == '\n') {
      return i + 1;
    }
  }
  return text.size();
}

// The code alone: comments and what stands in quotes become spaces; lines stay lines.
inline std::string CodeOnly(const std::string& text) {
  std::string code = text;
  const auto blank = [&](size_t from, size_t to) {
    for (size_t i = from; i < to && i < code.size(); ++i) {
      if (code[i] != '\n') code[i] = ' ';
    }
  };
  size_t at = 0;
  while (at < text.size()) {
    size_t end = at + 1;
    if (text.compare(at, 2, "//") == 0) {
      end = std::min(text.find('\n', at), text.size());
      blank(at, end);
    } else if (text.compare(at, 2, "/*") == 0) {
      const size_t close = text.find("*/", at + 2);
      end = close == std::string::npos ? text.size() : close + 2;
      blank(at, end);
    } else if (text[at] == '"' ||
               (text[at] == '\'' && (at == 0 || !IsWordCharacter(text[at - 1])))) {
      end = LiteralEnd(text, at);
      blank(at + 1, end - 1);
    }
    at = end;
  }
  return code;
}

inline std::string At(const SourceFile& file, size_t line) {
  return file.path + ":" + std::to_string(line + 1) + ": ";
}

// What #include lines name, with their line numbers from 0.
inline std::vector<std::pair<size_t, std::string>> Includes(const SourceFile& file) {
  std::vector<std::pair<size_t, std::string>> includes;
  const std::vector<std::string> lines = Lines(file.text);
  for (size_t i = 0; i < lines.size(); ++i) {
    if (!StartsWith(lines[i], "#include ")) continue;
    const size_t end = lines[i].find_first_of(">\"", 10);
    if (end != std::string::npos) includes.emplace_back(i, lines[i].substr(9, end - 8));
  }
  return includes;
}

// The module of a file, or empty when it may include what it likes (tests).
inline std::string ModuleOf(const std::string& path) {
  if (StartsWith(path, "include/chorus/")) return "chorus";
  if (StartsWith(path, "examples/")) return "examples";
  if (!StartsWith(path, "src/")) return "";
  return path.substr(4, path.find('/', 4) - 4);
}

// --- the rules
// -----------------------------------------------------------------------------------

inline Complaints CheckLayers(const SourceFile& file) {
  Complaints complaints;
  const std::string module = ModuleOf(file.path);
  if (module.empty() || !IsCpp(file.path)) return complaints;
  const auto may = MayInclude().find(module);
  if (may == MayInclude().end()) return {file.path + ": a module that the tidy test does not know"};
  for (const auto& [line, include] : Includes(file)) {
    if (include.front() != '"') continue;
    const std::string target = include.substr(1, include.find_first_of("/\"", 1) - 1);
    if (target == module || may->second.count(target) != 0) continue;
    complaints.push_back(At(file, line) + module + " may not include " + include);
  }
  return complaints;
}

inline Complaints CheckThirdParties(const SourceFile& file) {
  Complaints complaints;
  if (ModuleOf(file.path).empty()) return complaints;
  for (const auto& [line, include] : Includes(file)) {
    for (const ThirdParty& party : ThirdParties()) {
      if (!StartsWith(include.substr(1), party.include)) continue;
      const bool allowed =
          std::any_of(party.places.begin(), party.places.end(),
                      [&](const std::string& place) { return StartsWith(file.path, place); });
      if (!allowed) complaints.push_back(At(file, line) + include + " does not belong here");
    }
    // A public header knows the standard library and its own kind, nothing else.
    const bool standard =
        include.front() == '<' && include.find_first_of("/.") == std::string::npos;
    // Those for C have the one of its headers that they need.
    if (EndsWith(file.path, "_c.h") && include == "<stdint.h>") continue;
    if (StartsWith(file.path, "include/") && !standard && !StartsWith(include, "\"chorus/")) {
      complaints.push_back(At(file, line) + "a public header includes " + include);
    }
  }
  return complaints;
}

inline Complaints CheckBanned(const SourceFile& file) {
  Complaints complaints;
  if (!IsLibrary(file.path)) return complaints;
  const std::vector<std::string> lines = Lines(file.text);
  const std::vector<std::string> code = Lines(CodeOnly(file.text));
  for (size_t i = 0; i < lines.size(); ++i) {
    const auto excused = [&](size_t line) {
      return lines[line].find("NOLINT(tidy)") != std::string::npos;
    };
    if (excused(i) || (i > 0 && excused(i - 1))) continue;
    for (const Banned& banned : BannedInLibrary()) {
      if (!banned.place.empty() && StartsWith(file.path, banned.place)) continue;
      if (!HasWord(code[i], banned.word)) continue;
      complaints.push_back(At(file, i) + banned.word + " is banned; use " + banned.instead);
    }
  }
  return complaints;
}

inline Complaints CheckFinished(const SourceFile& file) {
  Complaints complaints;
  if (StartsWith(file.path, "tests/tidy_")) return complaints;  // names the words
  const std::vector<std::string> lines = Lines(file.text);
  for (size_t i = 0; i < lines.size(); ++i) {
    std::string lower = lines[i];
    std::transform(lower.begin(), lower.end(), lower.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    for (const std::string& word : UnfinishedWords()) {
      if (!HasWord(lower, word) && !HasWord(lines[i], word)) continue;
      complaints.push_back(At(file, i) + "\"" + word + "\": finish it");
    }
  }
  return complaints;
}

inline Complaints CheckLines(const SourceFile& file) {
  Complaints complaints;
  const std::vector<std::string> lines = Lines(file.text);
  for (size_t i = 0; i < lines.size(); ++i) {
    const std::string& line = lines[i];
    if (!line.empty() && (line.back() == ' ' || line.back() == '\t' || line.back() == '\r')) {
      complaints.push_back(At(file, i) + "white space at the end of the line");
    }
    // UTF-8's continuation bytes take no column.
    const auto columns = std::count_if(line.begin(), line.end(), [](char c) {
      return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U;
    });
    if (IsCpp(file.path) && static_cast<size_t>(columns) > kColumnsMax) {
      complaints.push_back(At(file, i) + "a line of " + std::to_string(columns) + " columns");
    }
  }
  if (!file.text.empty() && file.text.back() != '\n') {
    complaints.push_back(file.path + ": no newline at the end");
  }
  if (IsCpp(file.path) && lines.size() > kFileLinesMax) {
    complaints.push_back(file.path + ": " + std::to_string(lines.size()) +
                         " lines: two rooms in one?");
  }
  return complaints;
}

// Follows braces: a block is a function's body when only namespaces and classes are around it and
// its head has parentheses. Everything inside a body belongs to it.
class FunctionFinder {
 public:
  explicit FunctionFinder(const SourceFile& file) : file_(file), code_(CodeOnly(file.text)) {}

  Complaints Check() {
    bool preprocessor = false;
    for (size_t i = 0; i < code_.size(); ++i) {
      const char c = code_[i];
      if (c == '\n') {
        ++line_;
        preprocessor = preprocessor && i > 0 && code_[i - 1] == '\\';
      }
      if (c == '#' && head_.find_first_not_of(" \n") == std::string::npos) preprocessor = true;
      if (!preprocessor) Take(c, i);
    }
    return complaints_;
  }

 private:
  enum class Block { kScope, kFunction, kOther };
  struct Open {
    Block block;
    size_t first_line;
  };

  void Take(char c, size_t at) {
    if (c == '{') {
      open_.push_back({Classify(), head_line_});
      if (open_.back().block != Block::kOther) head_.clear();
    } else if (c == '}') {
      Close(at);
    } else if (c == ';' && open_.size() == scopes()) {
      head_.clear();
    } else {
      if (head_.find_first_not_of(" \n") == std::string::npos) head_line_ = line_;
      head_ += c;
    }
  }

  size_t scopes() const {
    return static_cast<size_t>(std::count_if(
        open_.begin(), open_.end(), [](const Open& open) { return open.block == Block::kScope; }));
  }

  Block Classify() const {
    if (open_.size() != scopes()) return Block::kOther;
    const std::string head = head_.substr(std::min(head_.find_first_not_of(" \n"), head_.size()));
    if (HasWord(head, "namespace") || StartsWith(head, "extern")) return Block::kScope;
    if (head.find('(') != std::string::npos) return Block::kFunction;
    for (const char* word : {"class", "struct", "union"}) {
      if (HasWord(head, word) && head.find('=') == std::string::npos) return Block::kScope;
    }
    return Block::kOther;
  }

  void Close(size_t at) {
    if (open_.empty()) return;
    const Open closed = open_.back();
    open_.pop_back();
    if (closed.block == Block::kFunction) {
      // `: a_{1}, b_{2} {`: what was closed is an initialiser, and the head goes on.
      const size_t next = code_.find_first_not_of(" \n", at + 1);
      if (next != std::string::npos && (code_[next] == ',' || code_[next] == '{')) {
        head_ = "initialised()";
        head_line_ = closed.first_line;
        return;
      }
      const size_t lines = line_ - closed.first_line + 1;
      if (lines > kFunctionLinesMax) {
        complaints_.push_back(At(file_, closed.first_line) + "a function of " +
                              std::to_string(lines) + " lines");
      }
    }
    if (open_.size() == scopes() && closed.block != Block::kOther) head_.clear();
  }

  const SourceFile& file_;
  std::string code_;
  Complaints complaints_;
  std::vector<Open> open_;
  std::string head_;
  size_t head_line_ = 0;
  size_t line_ = 0;
};

inline Complaints CheckFunctions(const SourceFile& file) {
  return IsCpp(file.path) ? FunctionFinder(file).Check() : Complaints();
}

// `own_header`: whether a header of the same name stands beside the source.
inline Complaints CheckHeaders(const SourceFile& file, bool own_header) {
  Complaints complaints;
  if (EndsWith(file.path, ".h") && file.text.find("\n#pragma once\n") == std::string::npos) {
    complaints.push_back(file.path + ": no #pragma once after its opening comment");
  }
  if (!own_header || !StartsWith(file.path, "src/") || !EndsWith(file.path, ".cc")) {
    return complaints;
  }
  const std::string own = "\"" + file.path.substr(4, file.path.size() - 6) + "h\"";
  const auto includes = Includes(file);
  if (includes.empty() || includes.front().second != own) {
    complaints.push_back(file.path + ": its first include is not its own header " + own);
  }
  return complaints;
}

// `exists` tells whether a path from the top of the tree is there.
template <typename Exists>
inline Complaints CheckPage(const SourceFile& file, const Exists& exists) {
  Complaints complaints;
  int titles = 0;
  bool fenced = false;
  const std::vector<std::string> lines = Lines(file.text);
  for (size_t i = 0; i < lines.size(); ++i) {
    if (StartsWith(lines[i], "```")) fenced = !fenced;
    if (fenced) continue;
    if (StartsWith(lines[i], "# ")) ++titles;
    for (size_t at = lines[i].find("]("); at != std::string::npos;
         at = lines[i].find("](", at + 1)) {
      const std::string link = lines[i].substr(at + 2, lines[i].find(')', at) - at - 2);
      const std::string target = link.substr(0, link.find('#'));
      if (target.empty() || target.find("://") != std::string::npos) continue;
      const std::filesystem::path path =
          (std::filesystem::path(file.path).parent_path() / target).lexically_normal();
      if (!exists(path.string())) complaints.push_back(At(file, i) + "a dead link to " + link);
    }
  }
  if (titles != 1) {
    complaints.push_back(file.path + ": " + std::to_string(titles) + " titles instead of one");
  }
  return complaints;
}

// Fields of one Protobuf message share no number. Messages here do not nest but for oneof.
inline Complaints CheckProto(const SourceFile& file) {
  Complaints complaints;
  std::set<std::string> numbers;
  const std::vector<std::string> lines = Lines(CodeOnly(file.text));
  for (size_t i = 0; i < lines.size(); ++i) {
    if (StartsWith(lines[i], "message ") || StartsWith(lines[i], "enum ")) numbers.clear();
    const size_t equals = lines[i].find(" = ");
    const size_t end = lines[i].find(';');
    if (!StartsWith(lines[i], "  ") || equals == std::string::npos || end == std::string::npos) {
      continue;
    }
    if (!numbers.insert(lines[i].substr(equals + 3, end - equals - 3)).second) {
      complaints.push_back(At(file, i) + "a number that its message has already");
    }
  }
  return complaints;
}

}  // namespace chorus::tidy
