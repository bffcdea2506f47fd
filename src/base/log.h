// Logging for the coordinator, the client and the tool; the layers below return and never log. A
// field is a number or a word fixed at compile time: a user's text or bytes do not compile.
#pragma once

#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "chorus/host.h"

namespace chorus {

// A string literal and nothing else.
class Literal {
 public:
  template <size_t N>
  consteval Literal(const char (&text)[N])
      : text_(text, N - 1) {}  // NOLINT(google-explicit-constructor)
  template <size_t N>
  Literal(char (&)[N]) = delete;
  std::string_view text() const { return text_; }

 private:
  std::string_view text_;
};

// A named number or a named literal.
class Field {
 public:
  template <typename Integer>
  requires std::is_integral_v<Integer> Field(Literal name, Integer number)
      : field_{name.text(), static_cast<int64_t>(number), {}} {}
  Field(Literal name, Literal word) : field_{name.text(), 0, word.text()} {}
  const LogField& field() const { return field_; }

 private:
  LogField field_;
};

// Log(sink, LogLevel::kInfo, "round began", {{"round", 7}, {"invited", 20}});
void Log(LogSink& sink, LogLevel level, Literal message, std::initializer_list<Field> fields = {});

enum class LogFormat {
  kText,  // "2026-01-31 12:00:00.000 info round began round=7"
  kJson,  // {"time":"2026-01-31T12:00:00.000Z","level":"info","message":"round began","round":7}
};

// A line in JSON without its time, from the level's member on. Fields that are called as one of the
// line's own get a "_" behind their name.
std::string JsonLogLine(LogLevel level, std::string_view message, std::span<const LogField> fields);

// Writes lines of `least` and above to standard error.
std::unique_ptr<LogSink> NewStderrLogSink(LogLevel least, LogFormat format);
inline std::unique_ptr<LogSink> NewStderrLogSink(LogLevel least) {
  return NewStderrLogSink(least, LogFormat::kText);
}

}  // namespace chorus
