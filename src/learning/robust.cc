#include "learning/robust.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>

namespace chorus::learning {
namespace {

using Means = std::span<const std::span<const float>>;

// Weiszfeld's steps converge linearly at worst; from the coordinate median a few tens are enough.
constexpr int kWeiszfeldSteps = 100;
constexpr double kWeiszfeldTolerance = 1e-6;  // of the typical distance: a step so short is the end
constexpr double kSmoothing = 1e-6;           // likewise: distances below it count as it

// Applies `rule` to the values that all means have of each coordinate, given in one buffer that it
// may reorder.
template <typename Rule>
std::vector<float> ByCoordinate(Means means, const Rule& rule) {
  std::vector<float> result(means.front().size());
  std::vector<float> values(means.size());
  for (size_t j = 0; j < result.size(); ++j) {
    for (size_t i = 0; i < means.size(); ++i) values[i] = means[i][j];
    result[j] = rule(std::span(values));
  }
  return result;
}

float AverageOf(std::span<const float> values) {
  const double sum = std::accumulate(values.begin(), values.end(), 0.0);
  return static_cast<float>(sum / static_cast<double>(values.size()));
}

// Leaves the values sorted.
float MedianOf(std::span<float> values) {
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  if (values.size() % 2 == 1) return values[middle];
  return static_cast<float>((double{values[middle - 1]} + double{values[middle]}) / 2);
}

std::vector<float> Average(Means means) {
  return ByCoordinate(means, [](std::span<float> values) { return AverageOf(values); });
}

// Sorts first, so that a sum of doubles does not depend on the order of the means.
std::vector<float> TrimmedMean(Means means, size_t trimmed) {
  return ByCoordinate(means, [trimmed](std::span<float> values) {
    std::sort(values.begin(), values.end());
    return AverageOf(values.subspan(trimmed, values.size() - 2 * trimmed));
  });
}

double SquaredDistance(std::span<const float> a, std::span<const float> b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double difference = double{a[i]} - double{b[i]};
    sum += difference * difference;
  }
  return sum;
}

// --- the geometric median ---

std::vector<double> DistancesFrom(std::span<const double> point, Means means) {
  std::vector<double> distances;
  distances.reserve(means.size());
  for (const std::span<const float> mean : means) {
    double sum = 0;
    for (size_t j = 0; j < point.size(); ++j) {
      const double difference = point[j] - double{mean[j]};
      sum += difference * difference;
    }
    distances.push_back(std::sqrt(sum));
  }
  return distances;
}

// The means' average, each weighted by one over its distance.
std::vector<double> WeiszfeldStep(Means means, std::span<const double> distances, double least,
                                  size_t dim) {
  std::vector<double> next(dim);
  double total = 0;
  for (size_t i = 0; i < means.size(); ++i) {
    const double weight = 1 / std::max(distances[i], least);
    total += weight;
    for (size_t j = 0; j < dim; ++j) next[j] += weight * double{means[i][j]};
  }
  for (double& value : next) value /= total;
  return next;
}

// [PKH22, Alg. 2]. The scale of smoothing and tolerance is the median of the distances, which
// spoilt means cannot blow up.
std::vector<float> GeometricMedian(Means means) {
  const std::vector<float> start =
      ByCoordinate(means, [](std::span<float> values) { return MedianOf(values); });
  std::vector<double> point(start.begin(), start.end());
  std::vector<double> distances = DistancesFrom(point, means);
  std::vector<double> sorted = distances;
  std::sort(sorted.begin(), sorted.end());
  const double scale = sorted[sorted.size() / 2];
  // More than half of the means are this very point, which is then the one sought.
  if (scale == 0) return start;
  for (int step = 0; step < kWeiszfeldSteps; ++step) {
    std::vector<double> next = WeiszfeldStep(means, distances, kSmoothing * scale, point.size());
    double moved = 0;
    for (size_t j = 0; j < point.size(); ++j) {
      moved += (next[j] - point[j]) * (next[j] - point[j]);
    }
    point = std::move(next);
    if (std::sqrt(moved) <= kWeiszfeldTolerance * scale) break;
    distances = DistancesFrom(point, means);
  }
  std::vector<float> result(point.size());
  std::transform(point.begin(), point.end(), result.begin(),
                 [](double value) { return static_cast<float>(value); });
  return result;
}

// --- Krum and what builds on it ---

// [n × n] row-major.
std::vector<double> SquaredDistances(Means means) {
  const size_t n = means.size();
  std::vector<double> squared(n * n);
  for (size_t i = 0; i < n; ++i) {
    for (size_t k = i + 1; k < n; ++k) {
      squared[i * n + k] = squared[k * n + i] = SquaredDistance(means[i], means[k]);
    }
  }
  return squared;
}

// Of the means `among`, those with the least sum of squared distances to their nearest come first;
// how many nearest is told by `neighbours`. Two that are each other's nearest tie when one
// neighbour counts; which of them is first must not depend on the order they came in.
std::vector<size_t> KrumOrder(Means means, std::span<const double> squared,
                              std::span<const size_t> among, size_t neighbours) {
  const size_t n = means.size();
  std::vector<double> scores(n);
  std::vector<double> row;
  for (const size_t i : among) {
    row.clear();
    for (const size_t k : among) {
      if (k != i) row.push_back(squared[i * n + k]);
    }
    std::sort(row.begin(), row.end());
    const size_t counted = std::min(neighbours, row.size());
    scores[i] = std::accumulate(row.begin(), row.begin() + static_cast<ptrdiff_t>(counted), 0.0);
  }
  std::vector<size_t> order(among.begin(), among.end());
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    if (scores[a] != scores[b]) return scores[a] < scores[b];
    return std::lexicographical_compare(means[a].begin(), means[a].end(), means[b].begin(),
                                        means[b].end());
  });
  return order;
}

std::vector<size_t> AllOf(size_t n) {
  std::vector<size_t> all(n);
  std::iota(all.begin(), all.end(), size_t{0});
  return all;
}

std::vector<float> MultiKrum(Means means, size_t byzantine, size_t chosen) {
  const size_t n = means.size();
  const std::vector<size_t> order =
      KrumOrder(means, SquaredDistances(means), AllOf(n), n - byzantine - 2);
  std::vector<std::span<const float>> best;
  for (size_t i = 0; i < chosen; ++i) best.push_back(means[order[i]]);
  return Average(best);
}

// Of the values nearest to their median, the average.
float AverageNearMedian(std::span<float> values, size_t count) {
  const float median = MedianOf(values);
  // The values are sorted, so those nearest are neighbours of each other.
  size_t first = 0;
  while (first + count < values.size() &&
         double{median} - double{values[first]} > double{values[first + count]} - double{median}) {
    ++first;
  }
  return AverageOf(values.subspan(first, count));
}

// [EGR18]. DEVIATION: once so many are chosen that r - f - 2 of the rest would be no
// neighbour at all, one is looked at still; the paper leaves that case open.
std::vector<float> Bulyan(Means means, size_t byzantine) {
  const size_t n = means.size();
  const std::vector<double> squared = SquaredDistances(means);
  std::vector<size_t> rest = AllOf(n);
  std::vector<std::span<const float>> chosen;
  while (chosen.size() < n - 2 * byzantine) {
    const size_t neighbours = std::max(rest.size(), byzantine + 3) - byzantine - 2;
    const size_t best = KrumOrder(means, squared, rest, neighbours).front();
    chosen.push_back(means[best]);
    std::erase(rest, best);
  }
  const size_t near = chosen.size() - 2 * byzantine;
  return ByCoordinate(chosen,
                      [near](std::span<float> values) { return AverageNearMedian(values, near); });
}

Status CheckMeans(RobustRule rule, uint32_t byzantine, Means means) {
  const uint64_t needed = MeansNeeded(rule, byzantine);
  if (means.size() < needed) {
    return InvalidArgument("the robust rule needs " + std::to_string(needed) + " means, not " +
                           std::to_string(means.size()));
  }
  for (const std::span<const float> mean : means) {
    if (mean.size() != means.front().size()) {
      return InvalidArgument("the means are not of one size");
    }
    if (!std::all_of(mean.begin(), mean.end(), [](float v) { return std::isfinite(v); })) {
      return InvalidArgument("a mean has a value that is not finite");
    }
  }
  return OkStatus();
}

}  // namespace

uint64_t MeansNeeded(RobustRule rule, uint32_t byzantine) {
  const uint64_t f = byzantine;
  switch (rule) {
    case RobustRule::kMean:
      return 1;
    case RobustRule::kMedian:
    case RobustRule::kTrimmedMean:
    case RobustRule::kGeometricMedian:
      return 2 * f + 1;
    case RobustRule::kKrum:
    case RobustRule::kMultiKrum:
      return 2 * f + 3;
    case RobustRule::kBulyan:
      break;
  }
  return 4 * f + 3;
}

Result<std::vector<float>> Combine(RobustRule rule, uint32_t byzantine, Means means) {
  CHORUS_TRY(CheckMeans(rule, byzantine, means));
  switch (rule) {
    case RobustRule::kMean:
      return Average(means);
    case RobustRule::kMedian:
      return ByCoordinate(means, [](std::span<float> values) { return MedianOf(values); });
    case RobustRule::kTrimmedMean:
      return TrimmedMean(means, byzantine);
    case RobustRule::kGeometricMedian:
      return GeometricMedian(means);
    case RobustRule::kKrum:
      return MultiKrum(means, byzantine, 1);
    case RobustRule::kMultiKrum:
      return MultiKrum(means, byzantine, means.size() - byzantine - 2);
    case RobustRule::kBulyan:
      break;
  }
  return Bulyan(means, byzantine);
}

}  // namespace chorus::learning
