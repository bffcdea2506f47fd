// What a benchmark is made of: figures with bars, measured and printed one a line. Figures are
// ratios or costs taken in one run on one core, because rates on a shared machine are noise.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace chorus::bench {

inline double CpuSeconds() {  // of this thread
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

inline double WallSeconds() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double>(now).count();
}

// What `work` takes by `clock`.
template <typename Work>
double Seconds(double (*clock)(), const Work& work) {
  const double start = clock();
  work();
  return clock() - start;
}

inline double Median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

struct Measured {
  double value = 0;
  double limit = 0;
};

enum class Bar { kAtMost, kAtLeast };

struct Figure {
  std::string name;
  std::string unit;
  Bar bar = Bar::kAtMost;
  // Nothing when the processor lacks what the figure is about.
  std::optional<Measured> (*measure)() = nullptr;
};

// Measures and prints; false when the bar falls short.
inline bool Print(const Figure& figure) {
  const std::optional<Measured> measured = figure.measure();
  if (!measured.has_value()) {
    std::printf("figure %s: not on this processor\n", figure.name.c_str());
    return true;
  }
  const bool at_most = figure.bar == Bar::kAtMost;
  const bool holds =
      at_most ? measured->value <= measured->limit : measured->value >= measured->limit;
  std::printf("figure %s %.3f %s, bar %s %.3f: %s\n", figure.name.c_str(), measured->value,
              figure.unit.c_str(), at_most ? "<=" : ">=", measured->limit,
              holds ? "holds" : "falls short");
  std::fflush(stdout);
  return holds;
}

// The exit code of a benchmark: 1 when a bar falls short. `names`: of the figures to print, all
// when there are none.
inline int PrintAll(std::span<const Figure> figures, std::span<char* const> names) {
  bool hold = true;
  for (const Figure& figure : figures) {
    if (!names.empty() && std::find(names.begin(), names.end(), figure.name) == names.end()) {
      continue;
    }
    hold = Print(figure) && hold;
  }
  return hold ? 0 : 1;
}

}  // namespace chorus::bench
