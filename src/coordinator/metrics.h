// Counters, gauges and histograms in Prometheus's text format 0.0.4
// (https://prometheus.io/docs/instrumenting/exposition_formats/). Nothing of a single client: label
// values are words of ours, names of tasks, steps and transactions, and their number is bounded.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <map>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace chorus::coordinator {

enum class MetricKind : uint8_t { kCounter, kGauge, kHistogram };

// A metric and what it is split by.
struct MetricFamily {
  std::string_view name;  // of the page; its literal outlives the object, as the others
  std::string_view help;
  MetricKind kind = MetricKind::kCounter;
  std::span<const double> bounds = {};  // of a histogram's buckets, ascending, without infinity
};

using MetricLabels = std::initializer_list<std::pair<std::string_view, std::string_view>>;

// Series of one family. Beyond kSeriesMax sets of labels, more are counted together under labels
// that all say "other", so that no peer or mistake can make the page grow. Thread-compatible.
class MetricSeries {
 public:
  static constexpr size_t kSeriesMax = 1'024;

  explicit MetricSeries(MetricFamily family) : family_(family) {}

  void Add(MetricLabels labels, double by);         // to a counter; negative or not finite: ignored
  void Set(MetricLabels labels, double value);      // a gauge
  void Observe(MetricLabels labels, double value);  // in a histogram
  void Clear() { series_.clear(); }
  void Write(std::string& out) const;  // nothing when it has no series

 private:
  struct Series {
    double value = 0;              // of a histogram, the sum
    uint64_t count = 0;            // of a histogram
    std::vector<uint64_t> counts;  // likewise, of each bucket alone
  };
  Series& At(MetricLabels labels);
  void WriteHistogram(std::string_view labels, const Series& series, std::string& out) const;

  MetricFamily family_;
  std::map<std::string, Series, std::less<>> series_;  // by their labels as they are written
  std::string key_;                                    // room for the labels that are looked up
};

// A number as Prometheus reads it: the shortest decimal that gives the same double back, +Inf, -Inf
// or NaN.
std::string MetricNumber(double value);

}  // namespace chorus::coordinator
