// What the tool tells people: lines about rounds, and the curve of a run. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "chorus/store.h"

namespace chorus::cli {

// The text as it may stand in XML and HTML, between tags and in quotes alike.
std::string XmlEscaped(std::string_view text);
std::string Fixed(double value, int digits);        // 0.8123
std::string ReadableBytes(uint64_t bytes);          // "640 B", "1.2 MB"; decimal units
std::string ReadableSeconds(uint64_t duration_ms);  // "4.2 s"

// How good a model is, measured here on examples of our own, or by the clients on theirs.
struct Measured {
  double accuracy = 0;
  double loss = 0;
};

// One line about a round that ended; `steps` are the names of its protocol's. Without `measured`
// the clients' own evaluation is shown, when there is one.
std::string RoundLine(const RoundReport& round, std::span<const std::string_view> steps,
                      const std::optional<Measured>& measured);

// Accuracy after each committed round, in order.
struct CurvePoint {
  uint64_t round = 0;
  double accuracy = 0;
};

// The curve as text of at most 80 columns, with axes.
std::string TextCurve(const std::vector<CurvePoint>& curve);
// The curve as a self-contained SVG that is readable on light and on dark ground.
std::string SvgCurve(const std::vector<CurvePoint>& curve, std::string_view title);

}  // namespace chorus::cli
