#include "client/event_log.h"

#include "base/log.h"

namespace chorus::client {

void LogEvent(LogSink& log, const ClientEvent& event) {
  const auto code = static_cast<int32_t>(event.status.code());
  switch (event.kind) {
    case ClientEvent::Kind::kConnected:
      return Log(log, LogLevel::kInfo, "checked in");
    case ClientEvent::Kind::kDisconnected:
      return Log(log, LogLevel::kWarn, "disconnected; will try again", {{"code", code}});
    case ClientEvent::Kind::kInvited:
      return Log(log, LogLevel::kInfo, "invited", {{"round", event.round}});
    case ClientEvent::Kind::kRefused:
      return Log(log, LogLevel::kInfo, "refused", {{"round", event.round}, {"code", code}});
    case ClientEvent::Kind::kTrained:
      return Log(log, LogLevel::kInfo, "trained", {{"round", event.round}});
    case ClientEvent::Kind::kUploaded:
      return Log(log, LogLevel::kInfo, "uploaded", {{"round", event.round}});
    case ClientEvent::Kind::kContributed:
      return Log(log, LogLevel::kInfo, "contributed", {{"round", event.round}});
    case ClientEvent::Kind::kRoundLost:
      return Log(log, LogLevel::kInfo, "round lost", {{"round", event.round}, {"code", code}});
    case ClientEvent::Kind::kStopped:
      return Log(log, LogLevel::kInfo, "stopped", {{"code", code}});
    case ClientEvent::Kind::kEquivocation:
      return Log(log, LogLevel::kWarn, "the coordinator signed two rosters for one session",
                 {{"round", event.round}, {"code", code}});
  }
}

}  // namespace chorus::client
