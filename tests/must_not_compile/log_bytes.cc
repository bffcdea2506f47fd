// Bytes have no way into a log line.
#include "base/log.h"
#include "chorus/bytes.h"

void Write(chorus::LogSink& sink, const chorus::Bytes& key) {
#ifdef CHORUS_MUST_NOT_COMPILE
  chorus::Log(sink, chorus::LogLevel::kInfo, "keys agreed", {{"key", key}});
#else
  chorus::Log(sink, chorus::LogLevel::kInfo, "keys agreed", {{"bytes", key.size()}});
#endif
}
