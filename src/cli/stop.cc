#include "cli/stop.h"

#include <atomic>
#include <csignal>

namespace chorus::cli {
namespace {

std::atomic<bool> stop_seen{false};
static_assert(std::atomic<bool>::is_always_lock_free, "set from a signal handler");

extern "C" void NoteStop(int) { stop_seen.store(true, std::memory_order_relaxed); }

}  // namespace

void CatchStopSignals() {
  struct sigaction action {};
  action.sa_handler = &NoteStop;
  action.sa_flags = static_cast<int>(SA_RESETHAND);  // a second signal has its default effect
  sigemptyset(&action.sa_mask);
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
}

bool stop_requested() { return stop_seen.load(std::memory_order_relaxed); }

}  // namespace chorus::cli
