// A user's text has no way into a log line.
#include <string>

#include "base/log.h"

void Write(chorus::LogSink& sink, const std::string& name) {
#ifdef CHORUS_MUST_NOT_COMPILE
  chorus::Log(sink, chorus::LogLevel::kInfo, "checked in", {{"player", name}});
#else
  chorus::Log(sink, chorus::LogLevel::kInfo, "checked in", {{"player", name.size()}});
#endif
}
