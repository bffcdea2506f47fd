// The events of a client or a committee member as lines of its log.
#pragma once

#include "chorus/client.h"
#include "chorus/host.h"

namespace chorus::client {

void LogEvent(LogSink& log, const ClientEvent& event);

}  // namespace chorus::client
