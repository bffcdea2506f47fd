#include "base/log.h"

#include <array>
#include <cstdio>
#include <ctime>
#include <string>

namespace chorus {
namespace {

constexpr size_t kFieldsMax = 16;

std::string_view NameOf(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return "debug";
    case LogLevel::kInfo:
      return "info";
    case LogLevel::kWarn:
      return "warn";
    case LogLevel::kError:
      return "error";
  }
  return "error";
}

// Messages are literals of the program, or of a host that logs through our sink.
void AppendJsonString(std::string_view text, std::string& out) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  out += '"';
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20) {
      out.append("\\u00").append({kDigits[byte >> 4U], kDigits[byte & 15U]});
      continue;
    }
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  out += '"';
}

// The time of now as text: of this place for people, of Greenwich in JSON.
std::string TimeNow(LogFormat format) {
  std::timespec now{};
  std::timespec_get(&now, TIME_UTC);
  std::tm parts{};
  const bool json = format == LogFormat::kJson;
  json ? gmtime_r(&now.tv_sec, &parts) : localtime_r(&now.tv_sec, &parts);
  std::array<char, 32> seconds{};
  std::strftime(seconds.data(), seconds.size(), json ? "%Y-%m-%dT%H:%M:%S" : "%Y-%m-%d %H:%M:%S",
                &parts);
  // With the leading zeros of the fraction.
  const std::string thousandths = std::to_string(1000 + now.tv_nsec / 1'000'000 % 1000);
  return std::string(seconds.data()) + '.' + thousandths.substr(1);
}

class StderrLogSink final : public LogSink {
 public:
  StderrLogSink(LogLevel least, LogFormat format) : least_(least), format_(format) {}

  void Write(LogLevel level, std::string_view message, std::span<const LogField> fields) override {
    if (level < least_) return;
    std::string line;
    if (format_ == LogFormat::kJson) {
      line = "{\"time\":\"" + TimeNow(format_) + "Z\"," + JsonLogLine(level, message, fields);
    } else {
      line = TimeNow(format_);
      line.append(" ").append(NameOf(level)).append(" ").append(message);
      for (const LogField& field : fields) {
        line.append(" ").append(field.name).append("=");
        line.append(field.word.empty() ? std::to_string(field.number) : std::string(field.word));
      }
    }
    line += '\n';
    // In one piece, so that lines of several threads stay whole.
    std::fwrite(line.data(), 1, line.size(), stderr);
  }

 private:
  const LogLevel least_;
  const LogFormat format_;
};

}  // namespace

void Log(LogSink& sink, LogLevel level, Literal message, std::initializer_list<Field> fields) {
  std::array<LogField, kFieldsMax> plain;
  size_t count = 0;
  for (const Field& field : fields) {
    if (count < kFieldsMax) plain[count++] = field.field();
  }
  sink.Write(level, message.text(), std::span(plain).first(count));
}

std::string JsonLogLine(LogLevel level, std::string_view message,
                        std::span<const LogField> fields) {
  std::string line = "\"level\":";
  AppendJsonString(NameOf(level), line);
  line += ",\"message\":";
  AppendJsonString(message, line);
  for (const LogField& field : fields) {
    std::string name(field.name);
    if (name == "time" || name == "level" || name == "message") name += '_';
    line += ',';
    AppendJsonString(name, line);
    line += ':';
    if (field.word.empty()) {
      line += std::to_string(field.number);
    } else {
      AppendJsonString(field.word, line);
    }
  }
  return line + "}";
}

std::unique_ptr<LogSink> NewStderrLogSink(LogLevel least, LogFormat format) {
  return std::make_unique<StderrLogSink>(least, format);
}

}  // namespace chorus
