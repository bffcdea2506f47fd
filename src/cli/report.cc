#include "cli/report.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <iomanip>
#include <sstream>

namespace chorus::cli {
namespace {

// The range of accuracies that a chart shows: whole tenths around the curve.
struct Range {
  double low = 0;
  double high = 1;
};

Range RangeOf(const std::vector<CurvePoint>& curve) {
  double low = 1;
  double high = 0;
  for (const CurvePoint& point : curve) {
    low = std::min(low, point.accuracy);
    high = std::max(high, point.accuracy);
  }
  Range range{.low = std::max(0.0, std::floor(low * 10) / 10),
              .high = std::min(1.0, std::ceil(high * 10) / 10)};
  if (range.high - range.low < 0.1) range.low = std::max(0.0, range.high - 0.1);
  if (range.high - range.low < 0.1) range.high = range.low + 0.1;
  return range;
}

// Who was lost where: "2 dropped out (keys 1, input 1)". Training is the first step.
std::string Dropouts(const RoundReport& round, std::span<const std::string_view> names) {
  uint64_t total = 0;
  std::ostringstream where;
  for (size_t i = 0; i < round.dropouts.size(); ++i) {
    if (round.dropouts[i] == 0) continue;
    total += round.dropouts[i];
    where << (total == round.dropouts[i] ? "" : ", ")
          << (i == 0              ? "train"
              : i <= names.size() ? names[i - 1]
                                  : "later")
          << " " << round.dropouts[i];
  }
  std::ostringstream text;
  text << total << " dropped out";
  if (total > 0) text << " (" << where.str() << ")";
  return text.str();
}

}  // namespace

std::string XmlEscaped(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    switch (c) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      default:
        escaped += c;
    }
  }
  return escaped;
}

std::string Fixed(double value, int digits) {
  std::ostringstream out;
  out << std::fixed << std::setprecision(digits) << value;
  return out.str();
}

std::string ReadableBytes(uint64_t bytes) {
  static constexpr std::array<const char*, 4> kUnits = {"kB", "MB", "GB", "TB"};
  if (bytes < 1'000) return std::to_string(bytes) + " B";
  double value = static_cast<double>(bytes) / 1e3;
  size_t unit = 0;
  while (value >= 999.95 && unit + 1 < kUnits.size()) {
    value /= 1e3;
    ++unit;
  }
  return Fixed(value, value < 99.95 ? 1 : 0) + " " + kUnits[unit];
}

std::string ReadableSeconds(uint64_t duration_ms) {
  return Fixed(static_cast<double>(duration_ms) / 1e3, 1) + " s";
}

std::string RoundLine(const RoundReport& round, std::span<const std::string_view> steps,
                      const std::optional<Measured>& measured) {
  std::ostringstream line;
  line << "round " << std::setw(3) << round.round << ": ";
  if (round.state != RoundState::kCommitted) {
    line << "aborted, " << (round.reason.empty() ? CodeName(round.code) : round.reason) << "; ";
  } else if (measured.has_value()) {
    line << "accuracy " << Fixed(measured->accuracy, 4) << ", loss " << Fixed(measured->loss, 4)
         << "; ";
  } else if (round.evaluated > 0) {
    line << "before it, at the clients, accuracy " << Fixed(round.accuracy, 4) << ", loss "
         << Fixed(round.loss, 4) << "; ";
  }
  line << round.contributors << "/" << round.invited << " contributed, " << Dropouts(round, steps);
  if (round.cohorts > 1) {
    line << ", sums of " << round.cohorts_committed << "/" << round.cohorts << " cohorts";
  }
  if (round.refused > 0) line << ", " << round.refused << " refused";
  if (round.invited > 0) {
    line << "; a client " << ReadableBytes(round.bytes_up / round.invited) << " up, "
         << ReadableBytes(round.bytes_down / round.invited) << " down";
  }
  line << "; " << ReadableSeconds(round.duration_ms);
  return line.str();
}

std::string TextCurve(const std::vector<CurvePoint>& curve) {
  constexpr int kRows = 12;
  constexpr size_t kColumnsMax = 70;
  if (curve.empty()) return "no round was committed, so there is no curve\n";
  const Range range = RangeOf(curve);
  // A short curve gets several columns a round, a long one the last round of each column.
  const size_t columns_a_round = std::clamp<size_t>(kColumnsMax / curve.size(), 1, 6);
  const size_t columns = std::min(kColumnsMax, curve.size() * columns_a_round);
  std::vector<std::string> rows(kRows + 1, std::string(columns, ' '));
  for (size_t i = 0; i < curve.size(); ++i) {
    const size_t column = ((i + 1) * columns - 1) / curve.size();
    const double height = (curve[i].accuracy - range.low) / (range.high - range.low);
    const int row = kRows - static_cast<int>(std::lround(std::clamp(height, 0.0, 1.0) * kRows));
    rows[static_cast<size_t>(row)][column] = '*';
  }
  std::ostringstream out;
  out << "accuracy\n";
  for (int row = 0; row <= kRows; ++row) {
    const double value = range.high - (range.high - range.low) * row / kRows;
    out << (row % 3 == 0 ? Fixed(value, 3) : std::string(5, ' ')) << " |"
        << rows[static_cast<size_t>(row)] << "\n";
  }
  out << "      +" << std::string(columns, '-') << "\n";
  const std::string first = "round " + std::to_string(curve.front().round);
  const std::string last = std::to_string(curve.back().round);
  const size_t gap =
      columns > first.size() + last.size() ? columns - first.size() - last.size() : 1;
  out << "       " << first << std::string(gap, ' ') << last << "\n";
  return out.str();
}

std::string SvgCurve(const std::vector<CurvePoint>& curve, std::string_view title) {
  constexpr double kLeft = 60;
  constexpr double kRight = 620;
  constexpr double kTop = 40;
  constexpr double kBottom = 340;
  const Range range = RangeOf(curve);
  const auto x_of = [&](size_t index) {
    const double steps = curve.size() > 1 ? static_cast<double>(curve.size() - 1) : 1.0;
    return kLeft + (kRight - kLeft) * static_cast<double>(index) / steps;
  };
  const auto y_of = [&](double accuracy) {
    return kBottom - (kBottom - kTop) * (accuracy - range.low) / (range.high - range.low);
  };
  std::ostringstream out;
  out << "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 640 400\" role=\"img\" "
         "font-family=\"sans-serif\" font-size=\"13\" fill=\"#808080\">\n"
      << "<title>" << XmlEscaped(title) << "</title>\n"
      << "<text x=\"" << kLeft << "\" y=\"22\" font-size=\"15\">" << XmlEscaped(title)
      << "</text>\n";
  constexpr int kLines = 5;
  for (int i = 0; i <= kLines; ++i) {
    const double value = range.low + (range.high - range.low) * i / kLines;
    const std::string y = Fixed(y_of(value), 1);
    out << "<path d=\"M" << kLeft << " " << y << "H" << kRight
        << "\" stroke=\"#808080\" stroke-opacity=\"" << (i == 0 ? "1" : "0.3") << "\"/>\n"
        << "<text x=\"" << kLeft - 8 << "\" y=\"" << y << "\" dy=\"4\" text-anchor=\"end\">"
        << Fixed(value, 2) << "</text>\n";
  }
  const size_t label_every = curve.size() / 12 + 1;
  std::ostringstream path;
  for (size_t i = 0; i < curve.size(); ++i) {
    const std::string x = Fixed(x_of(i), 1);
    path << (i == 0 ? "M" : "L") << x << " " << Fixed(y_of(curve[i].accuracy), 1);
    if (i % label_every != 0) continue;
    out << "<text x=\"" << x << "\" y=\"360\" text-anchor=\"middle\">" << curve[i].round
        << "</text>\n";
  }
  out << "<text x=\"340\" y=\"388\" text-anchor=\"middle\">round</text>\n"
      << "<text x=\"16\" y=\"190\" text-anchor=\"middle\" transform=\"rotate(-90 16 190)\">"
         "accuracy</text>\n";
  if (!curve.empty()) {
    out << "<path d=\"" << path.str()
        << "\" fill=\"none\" stroke=\"#2a8fd6\" stroke-width=\"2\"/>\n";
  }
  for (size_t i = 0; i < curve.size(); ++i) {
    out << "<circle cx=\"" << Fixed(x_of(i), 1) << "\" cy=\"" << Fixed(y_of(curve[i].accuracy), 1)
        << "\" r=\"3\" fill=\"#2a8fd6\"><title>round " << curve[i].round << ": "
        << Fixed(curve[i].accuracy, 4) << "</title></circle>\n";
  }
  out << "</svg>\n";
  return out.str();
}

}  // namespace chorus::cli
