#include "coordinator/metrics.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

namespace chorus::coordinator {
namespace {

// In a label's value backslash, quote and line feed are escaped, in a help text the first and last.
void AppendEscaped(std::string_view text, bool quotes, std::string& out) {
  for (const char c : text) {
    if (c == '\\') {
      out += "\\\\";
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '"' && quotes) {
      out += "\\\"";
    } else {
      out += c;
    }
  }
}

void AppendLabels(MetricLabels labels, bool other, std::string& out) {
  for (const auto& [name, value] : labels) {
    if (!out.empty()) out += ',';
    out.append(name).append("=\"");
    AppendEscaped(other ? std::string_view("other") : value, /*quotes=*/true, out);
    out += '"';
  }
}

void AppendSample(std::string_view name, std::string_view labels, const std::string& value,
                  std::string& out) {
  out.append(name);
  if (!labels.empty()) out.append("{").append(labels).append("}");
  out.append(" ").append(value).append("\n");
}

std::string_view NameOf(MetricKind kind) {
  if (kind == MetricKind::kCounter) return "counter";
  return kind == MetricKind::kGauge ? "gauge" : "histogram";
}

}  // namespace

std::string MetricNumber(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
  std::array<char, 32> digits{};
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr;
  return std::string(digits.data(), end);
}

MetricSeries::Series& MetricSeries::At(MetricLabels labels) {
  key_.clear();
  AppendLabels(labels, /*other=*/false, key_);
  const auto found = series_.find(key_);
  if (found != series_.end()) return found->second;
  if (series_.size() >= kSeriesMax) {
    key_.clear();
    AppendLabels(labels, /*other=*/true, key_);
  }
  Series& series = series_[key_];
  series.counts.resize(family_.bounds.size());
  return series;
}

void MetricSeries::Add(MetricLabels labels, double by) {
  if (std::isfinite(by) && by >= 0) At(labels).value += by;
}

void MetricSeries::Set(MetricLabels labels, double value) { At(labels).value = value; }

void MetricSeries::Observe(MetricLabels labels, double value) {
  if (!std::isfinite(value)) return;
  Series& series = At(labels);
  series.value += value;
  ++series.count;
  const auto bucket = std::lower_bound(family_.bounds.begin(), family_.bounds.end(), value);
  if (bucket == family_.bounds.end()) return;
  ++series.counts[static_cast<size_t>(bucket - family_.bounds.begin())];
}

void MetricSeries::Write(std::string& out) const {
  if (series_.empty()) return;
  out.append("# HELP ").append(family_.name).append(" ");
  AppendEscaped(family_.help, /*quotes=*/false, out);
  out.append("\n# TYPE ")
      .append(family_.name)
      .append(" ")
      .append(NameOf(family_.kind))
      .append("\n");
  for (const auto& [labels, series] : series_) {
    if (family_.kind == MetricKind::kHistogram) {
      WriteHistogram(labels, series, out);
    } else {
      AppendSample(family_.name, labels, MetricNumber(series.value), out);
    }
  }
}

void MetricSeries::WriteHistogram(std::string_view labels, const Series& series,
                                  std::string& out) const {
  const std::string name(family_.name);
  const std::string before = labels.empty() ? "" : std::string(labels) + ",";
  uint64_t below = 0;
  for (size_t i = 0; i < family_.bounds.size(); ++i) {
    below += series.counts[i];
    AppendSample(name + "_bucket", before + "le=\"" + MetricNumber(family_.bounds[i]) + "\"",
                 std::to_string(below), out);
  }
  AppendSample(name + "_bucket", before + "le=\"+Inf\"", std::to_string(series.count), out);
  AppendSample(name + "_sum", labels, MetricNumber(series.value), out);
  AppendSample(name + "_count", labels, std::to_string(series.count), out);
}

}  // namespace chorus::coordinator
