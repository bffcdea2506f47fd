// What the processes of the embedding benchmark have in common.
#pragma once

#include <cstdio>
#include <fstream>
#include <string>

#include "bench.h"

namespace chorus::bench {

// Idle is idle after that long.
inline constexpr unsigned kSettleUs = 300'000;

// A line of this process's status, in KiB; -1 when it is not there.
inline long StatusKb(const std::string& name) {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    if (word != name + ":") continue;
    long kb = -1;
    status >> kb;
    return kb;
  }
  return -1;
}

}  // namespace chorus::bench
