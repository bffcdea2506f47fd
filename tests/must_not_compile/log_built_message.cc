// A message put together at run time cannot be logged, not even from a local array.
#include "base/log.h"

void Write(chorus::LogSink& sink) {
#ifdef CHORUS_MUST_NOT_COMPILE
  char message[] = "built at run time";
  chorus::Log(sink, chorus::LogLevel::kInfo, message);
#else
  chorus::Log(sink, chorus::LogLevel::kInfo, "fixed at compile time");
#endif
}
