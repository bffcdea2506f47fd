// `chorus simulate --chaos`: seeds of the simulation of faults, played, told and made small.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "chorus/status.h"

namespace CLI {
class App;
}

namespace chorus::cli {

struct ChaosCommandOptions {
  std::string seeds;                 // "A..B", in place of one
  std::vector<std::string> without;  // names of faults
  size_t lines = 400;                // of the trace
  bool shrink = false;
};

void AddChaosOptions(CLI::App& app, ChaosCommandOptions& options);

// Plays `seed`, or those that the options name. kInternal: a seed failed, and which; its trace, and
// the command that plays it again, were printed.
Status SimulateChaos(const ChaosCommandOptions& options, uint64_t seed);

}  // namespace chorus::cli
