// SIGINT and SIGTERM as a question that long commands ask.
#pragma once

#include <chrono>

namespace chorus::cli {

// From now on the first SIGINT or SIGTERM sets stop_requested(), and the second ends the process.
void CatchStopSignals();
bool stop_requested();

// How long a command waits for events before it asks again.
inline constexpr std::chrono::milliseconds kStopLatency{200};

}  // namespace chorus::cli
