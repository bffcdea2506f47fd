// Plots as SVG, to stand in a page whose style sheet gives the colours: class "series N" for the
// N-th line or bar, "axis" and "grid". Pure.
#pragma once

#include <string>
#include <vector>

namespace chorus::cli {

struct Point {
  double x = 0;
  double y = 0;
};
struct Series {
  std::string name;
  std::vector<Point> points;  // ascending x; those that are not finite are left out
};

struct PlotText {
  std::string title;  // for those who cannot see it
  std::string x;
  std::string y;
  bool whole_x = false;  // numbers of rounds, say: no ticks between them
};

// Lines over common axes, whose y begins at zero when `from_zero`.
std::string LinePlot(const PlotText& text, const std::vector<Series>& series, bool from_zero);

// Columns beside each other: [series][bin] counts over bins of equal width between low and high.
struct Bins {
  std::string name;
  std::vector<double> counts;
};
std::string HistogramPlot(const PlotText& text, const std::vector<Bins>& series, double low,
                          double high);

// A bar for each label, made of parts one after the other. `values` [labels][parts].
struct Bars {
  std::vector<std::string> labels;
  std::vector<std::string> parts;
  std::vector<std::vector<double>> values;
  std::vector<std::string> totals;  // [labels] as text at the bars' ends
};
std::string BarPlot(const PlotText& text, const Bars& bars);

// Around, and steps of 1, 2 or 5 times a power of ten that fall on, the range of a plot's axis.
struct Axis {
  double low = 0;
  double high = 1;
  double step = 0.5;
};
Axis AxisOver(double low, double high, int steps_max);

}  // namespace chorus::cli
