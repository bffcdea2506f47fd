#include "cli/svg.h"

#include <algorithm>
#include <cmath>
#include <sstream>

#include "cli/report.h"

namespace chorus::cli {
namespace {

// The sheet: 560 by 300, the plot within.
constexpr double kWidth = 560;
constexpr double kHeight = 300;
constexpr double kLeft = 58;
constexpr double kRight = 546;
constexpr double kTop = 14;
constexpr double kBottom = 252;
constexpr size_t kPointsShown = 150;  // of a line with a mark and its value at each

std::string At(double value) { return Fixed(value, 1); }

// As few digits as tell one step from the next.
std::string Tick(double value, double step) {
  if (std::abs(value) < step * 1e-6) value = 0;
  const double size = std::abs(value);
  if (size >= 1e9) return Fixed(value / 1e9, step < 1e9 ? 1 : 0) + " G";
  if (size >= 1e6) return Fixed(value / 1e6, step < 1e6 ? 1 : 0) + " M";
  if (size >= 1e4) return Fixed(value / 1e3, step < 1e3 ? 1 : 0) + " k";
  const int digits = static_cast<int>(std::ceil(-std::log10(step) - 1e-9));
  return Fixed(value, std::clamp(digits, 0, 6));
}

class Plot {
 public:
  Plot(const PlotText& text, Axis x, Axis y) : x_(x), y_(y) {
    out_ << "<svg viewBox=\"0 0 " << kWidth << " " << kHeight << "\" role=\"img\">\n<title>"
         << XmlEscaped(text.title) << "</title>\n";
    for (double tick = y_.low; tick <= y_.high + y_.step / 2; tick += y_.step) {
      out_ << "<path class=\"" << (tick == y_.low ? "axis" : "grid") << "\" d=\"M" << kLeft << " "
           << At(Y(tick)) << "H" << kRight << "\"/><text x=\"" << kLeft - 8 << "\" y=\""
           << At(Y(tick)) << "\" dy=\"4\" text-anchor=\"end\">" << Tick(tick, y_.step)
           << "</text>\n";
    }
    for (double tick = x_.low; tick <= x_.high + x_.step / 2; tick += x_.step) {
      out_ << "<path class=\"axis\" d=\"M" << At(X(tick)) << " " << kBottom << "v5\"/><text x=\""
           << At(X(tick)) << "\" y=\"" << kBottom + 20 << "\" text-anchor=\"middle\">"
           << Tick(tick, x_.step) << "</text>\n";
    }
    out_ << "<text x=\"" << (kLeft + kRight) / 2 << "\" y=\"" << kHeight - 8
         << "\" text-anchor=\"middle\">" << XmlEscaped(text.x) << "</text>\n<text x=\"14\" y=\""
         << (kTop + kBottom) / 2 << "\" text-anchor=\"middle\" transform=\"rotate(-90 14 "
         << (kTop + kBottom) / 2 << ")\">" << XmlEscaped(text.y) << "</text>\n";
  }

  double X(double value) const {
    return kLeft + (kRight - kLeft) * (value - x_.low) / (x_.high - x_.low);
  }
  double Y(double value) const {
    return kBottom - (kBottom - kTop) * (value - y_.low) / (y_.high - y_.low);
  }
  std::ostringstream& out() { return out_; }
  std::string Take() {
    out_ << "</svg>\n";
    return out_.str();
  }

 private:
  Axis x_;
  Axis y_;
  std::ostringstream out_;
};

bool IsFinite(const Point& point) { return std::isfinite(point.x) && std::isfinite(point.y); }

std::string EmptyPlot(const PlotText& text) {
  return "<p class=\"none\">" + XmlEscaped(text.title) + ": nothing was measured.</p>\n";
}

void DrawLine(const Series& line, size_t number, Plot& plot) {
  std::ostringstream path;
  std::ostringstream marks;
  const bool marked = line.points.size() <= kPointsShown;
  bool first = true;
  for (const Point& point : line.points) {
    if (!IsFinite(point)) continue;
    const std::string x = At(plot.X(point.x));
    const std::string y = At(plot.Y(point.y));
    path << (first ? "M" : "L") << x << " " << y;
    first = false;
    if (!marked) continue;
    marks << "<circle cx=\"" << x << "\" cy=\"" << y << "\" r=\""
          << (line.points.size() > 60 ? "1.8" : "2.6") << "\"><title>" << XmlEscaped(line.name)
          << ", " << Tick(point.x, 1) << ": " << Fixed(point.y, 4) << "</title></circle>";
  }
  plot.out() << "<g class=\"series s" << number % 8 << "\"><path class=\"line\" d=\"" << path.str()
             << "\"/>" << marks.str() << "</g>\n";
}

}  // namespace

Axis AxisOver(double low, double high, int steps_max) {
  if (!(high > low)) {
    const double half = std::max(std::abs(high) * 0.05, 0.05);
    low -= half;
    high += half;
  }
  const double least = (high - low) / steps_max;
  const double power = std::pow(10, std::floor(std::log10(least)));
  double step = power;
  for (const double factor : {2.0, 5.0, 10.0}) {
    if (step >= least * (1 - 1e-9)) break;
    step = power * factor;
  }
  return {.low = std::floor(low / step + 1e-9) * step,
          .high = std::ceil(high / step - 1e-9) * step,
          .step = step};
}

std::string LinePlot(const PlotText& text, const std::vector<Series>& series, bool from_zero) {
  double low_x = INFINITY;
  double high_x = -INFINITY;
  double low_y = INFINITY;
  double high_y = -INFINITY;
  for (const Series& line : series) {
    for (const Point& point : line.points) {
      if (!IsFinite(point)) continue;
      low_x = std::min(low_x, point.x);
      high_x = std::max(high_x, point.x);
      low_y = std::min(low_y, point.y);
      high_y = std::max(high_y, point.y);
    }
  }
  if (low_x > high_x) return EmptyPlot(text);
  if (from_zero) low_y = std::min(low_y, 0.0);
  Axis x = AxisOver(low_x, high_x, 8);
  if (text.whole_x && x.step < 1) {
    x = {.low = std::floor(low_x), .high = std::max(high_x, low_x + 1), .step = 1};
  }
  Plot plot(text, x, AxisOver(low_y, high_y, 6));
  for (size_t i = 0; i < series.size(); ++i) DrawLine(series[i], i, plot);
  return plot.Take();
}

std::string HistogramPlot(const PlotText& text, const std::vector<Bins>& series, double low,
                          double high) {
  double largest = 0;
  size_t bins = 0;
  for (const Bins& each : series) {
    bins = std::max(bins, each.counts.size());
    for (const double count : each.counts) largest = std::max(largest, count);
  }
  if (largest == 0) return EmptyPlot(text);
  Axis y = AxisOver(0, largest, 6);
  if (y.step < 1) y = {.low = 0, .high = std::ceil(largest), .step = 1};
  Plot plot(text, AxisOver(low, high, 10), y);
  const double width = (high - low) / static_cast<double>(bins);
  for (size_t i = 0; i < series.size(); ++i) {
    plot.out() << "<g class=\"series s" << i % 8 << "\">";
    for (size_t bin = 0; bin < series[i].counts.size(); ++bin) {
      const double count = series[i].counts[bin];
      if (count == 0) continue;
      const double from = low + width * static_cast<double>(bin);
      const double left = plot.X(from) + 1;
      const double each =
          (plot.X(from + width) - plot.X(from) - 2) / static_cast<double>(series.size());
      plot.out() << "<rect class=\"bar\" x=\"" << At(left + each * static_cast<double>(i))
                 << "\" y=\"" << At(plot.Y(count)) << "\" width=\"" << At(each) << "\" height=\""
                 << At(kBottom - plot.Y(count)) << "\"><title>" << XmlEscaped(series[i].name)
                 << ", " << Fixed(from, 2) << " to " << Fixed(from + width, 2) << ": "
                 << Fixed(count, 0) << "</title></rect>";
    }
    plot.out() << "</g>\n";
  }
  return plot.Take();
}

std::string BarPlot(const PlotText& text, const Bars& bars) {
  constexpr double kBarLeft = 158;
  constexpr double kBarRight = 478;
  constexpr double kRow = 26;
  double largest = 0;
  for (const std::vector<double>& row : bars.values) {
    double sum = 0;
    for (const double value : row) sum += value;
    largest = std::max(largest, sum);
  }
  if (bars.labels.empty()) return EmptyPlot(text);
  const double height = kRow * static_cast<double>(bars.labels.size()) + 12;
  std::ostringstream out;
  out << "<svg viewBox=\"0 0 " << kWidth << " " << height << "\" role=\"img\">\n<title>"
      << XmlEscaped(text.title) << "</title>\n";
  for (size_t i = 0; i < bars.labels.size(); ++i) {
    const double top = 6 + kRow * static_cast<double>(i);
    const std::string middle = At(top + kRow / 2 + 4);
    out << "<text x=\"" << kBarLeft - 10 << "\" y=\"" << middle << "\" text-anchor=\"end\">"
        << XmlEscaped(bars.labels[i]) << "</text>";
    double left = kBarLeft;
    for (size_t part = 0; part < bars.values[i].size(); ++part) {
      const double value = bars.values[i][part];
      const double width = largest > 0 ? (kBarRight - kBarLeft) * value / largest : 0;
      if (width <= 0) continue;
      out << "<g class=\"series s" << part % 8 << "\"><rect class=\"bar\" x=\"" << At(left)
          << "\" y=\"" << At(top + 4) << "\" width=\"" << Fixed(width, 2) << "\" height=\""
          << kRow - 8 << "\"><title>" << XmlEscaped(bars.parts[part]) << ": "
          << Fixed(value, value < 100 ? 2 : 0) << "</title></rect></g>";
      left += width;
    }
    out << "<text x=\"" << At(left + 8) << "\" y=\"" << middle << "\">"
        << XmlEscaped(bars.totals[i]) << "</text>\n";
  }
  out << "</svg>\n";
  return out.str();
}

}  // namespace chorus::cli
