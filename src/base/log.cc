#include "base/log.h"

#include <spdlog/logger.h>
#include <spdlog/sinks/stdout_sinks.h>

#include <array>
#include <string>

namespace chorus {
namespace {

constexpr size_t kFieldsMax = 16;

spdlog::level::level_enum LevelOf(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarn:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
  }
  return spdlog::level::err;
}

class StderrLogSink final : public LogSink {
 public:
  explicit StderrLogSink(LogLevel least)
      : logger_("chorus", std::make_shared<spdlog::sinks::stderr_sink_mt>()) {
    logger_.set_level(LevelOf(least));
    logger_.set_pattern("%Y-%m-%d %H:%M:%S.%e %l %v");
    logger_.flush_on(spdlog::level::debug);
  }

  void Write(LogLevel level, std::string_view message, std::span<const LogField> fields) override {
    std::string line(message);
    for (const LogField& field : fields) {
      line.append(" ").append(field.name).append("=");
      line.append(field.word.empty() ? std::to_string(field.number) : std::string(field.word));
    }
    logger_.log(LevelOf(level), spdlog::string_view_t(line));
  }

 private:
  spdlog::logger logger_;
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

std::unique_ptr<LogSink> NewStderrLogSink(LogLevel least) {
  return std::make_unique<StderrLogSink>(least);
}

}  // namespace chorus
