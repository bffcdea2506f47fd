#include "cli/simulate_chaos.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <optional>
#include <utility>

#include "base/hex.h"
#include "chorus/simulation.h"
#include "cli/stop.h"

namespace chorus::cli {
namespace {

struct SeedRange {
  uint64_t first = 0;
  uint64_t last = 0;
};

std::optional<uint64_t> Number(std::string_view text) {
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

Result<SeedRange> ReadSeeds(const std::string& text) {
  const size_t dots = text.find("..");
  if (dots != std::string::npos) {
    const std::string_view all = text;
    const auto first = Number(all.substr(0, dots));
    const auto last = Number(all.substr(dots + 2));
    if (first && last && *first <= *last) return SeedRange{.first = *first, .last = *last};
  }
  return InvalidArgument("--seeds: give the first and the last as A..B, such as 1..2000");
}

Result<std::vector<Fault>> ReadFaults(const std::vector<std::string>& names) {
  std::vector<Fault> faults;
  for (const std::string& name : names) {
    size_t kind = 0;
    while (kind < kFaultKinds && FaultName(static_cast<Fault>(kind)) != name) ++kind;
    if (kind == kFaultKinds) {
      std::string known;
      for (size_t i = 0; i < kFaultKinds; ++i) {
        known.append(i == 0 ? "" : ", ").append(FaultName(static_cast<Fault>(i)));
      }
      return InvalidArgument("--without: there is no fault \"" + name + "\"; there are " + known);
    }
    faults.push_back(static_cast<Fault>(kind));
  }
  return faults;
}

std::string ReplayCommand(const ChaosOptions& options) {
  std::string command = "chorus simulate --chaos --seed " + std::to_string(options.seed);
  if (options.without.empty()) return command;
  command.append(" --without ");
  for (size_t i = 0; i < options.without.size(); ++i) {
    command.append(i == 0 ? "" : ",").append(FaultName(options.without[i]));
  }
  return command;
}

std::string OneLine(const ChaosOptions& options, const ChaosReport& report) {
  return "seed " + std::to_string(options.seed) + ": " + report.system + "; " +
         std::to_string(report.rounds_committed) + " rounds committed, " +
         std::to_string(report.rounds_aborted) + " aborted, " + std::to_string(report.steps) +
         " steps in " + std::to_string(static_cast<uint64_t>(report.virtual_seconds)) +
         " s of virtual time; trace " + ToHex(report.trace_sha256).substr(0, 16);
}

// Leaves out one kind of fault after the other for as long as the seed still fails.
ChaosOptions Shrink(ChaosOptions options) {
  for (size_t kind = 0; kind < kFaultKinds && !stop_requested(); ++kind) {
    const Fault fault = static_cast<Fault>(kind);
    if (std::ranges::find(options.without, fault) != options.without.end()) continue;
    options.without.push_back(fault);
    if (RunChaos(options).verdict.ok()) options.without.pop_back();
  }
  return options;
}

void PrintFaults(const std::array<uint64_t, kFaultKinds>& faults) {
  std::string line = "faults that struck:";
  for (size_t kind = 0; kind < kFaultKinds; ++kind) {
    line.append("  ").append(FaultName(static_cast<Fault>(kind))).append(" ");
    line.append(std::to_string(faults[kind]));
  }
  std::printf("%s\n", line.c_str());
}

Status Failed(const ChaosOptions& options, const ChaosReport& report) {
  for (const std::string& line : report.trace) std::printf("%s\n", line.c_str());
  std::printf("%s\n", OneLine(options, report).c_str());
  const std::string command = ReplayCommand(options);
  std::printf("again: %s\n", command.c_str());
  return Internal("seed " + std::to_string(options.seed) + " fails: " + report.verdict.message());
}

}  // namespace

void AddChaosOptions(CLI::App& app, ChaosCommandOptions& options) {
  app.add_option("--seeds", options.seeds, "With --chaos: all from A to B, given as A..B.");
  app.add_option("--without", options.without, "With --chaos: faults that are not to strike.")
      ->delimiter(',');
  app.add_option("--lines", options.lines, "With --chaos: of the trace, at most so many.")
      ->capture_default_str();
  app.add_flag("--shrink", options.shrink,
               "With --chaos: leave out every fault without which a seed fails as well.");
}

Status SimulateChaos(const ChaosCommandOptions& options, uint64_t seed) {
  SeedRange seeds{.first = seed, .last = seed};
  const bool many = !options.seeds.empty();
  if (many) {
    CHORUS_TRY_ASSIGN(seeds, ReadSeeds(options.seeds));
  }
  ChaosOptions chaos;
  CHORUS_TRY_ASSIGN(chaos.without, ReadFaults(options.without));
  chaos.trace_lines_max = options.lines;
  std::array<uint64_t, kFaultKinds> faults{};
  uint64_t played = 0;
  for (chaos.seed = seeds.first; !stop_requested(); ++chaos.seed) {
    const ChaosReport report = RunChaos(chaos);
    ++played;
    for (size_t kind = 0; kind < kFaultKinds; ++kind) faults[kind] += report.faults[kind];
    if (!report.verdict.ok()) {
      if (!options.shrink) return Failed(chaos, report);
      const ChaosOptions small = Shrink(chaos);
      return Failed(small, RunChaos(small));
    }
    if (!many) {
      for (const std::string& line : report.trace) std::printf("%s\n", line.c_str());
      std::printf("%s\n", OneLine(chaos, report).c_str());
    }
    if (chaos.seed == seeds.last) break;
  }
  PrintFaults(faults);
  std::printf("%llu seeds played, every invariant held\n", static_cast<unsigned long long>(played));
  return OkStatus();
}

}  // namespace chorus::cli
