// What becomes of the means of a round's cohorts, some of which may be spoilt: rules whose result
// stays near the honest means whatever the others are. Deterministic.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "chorus/status.h"
#include "chorus/task.h"

namespace chorus::learning {

// How few means a rule can work with when `byzantine` of them may be spoilt: 2f + 1 of the medians
// and the trimmed mean, 2f + 3 of Krum and Multi-Krum [BEGS17], 4f + 3 of Bulyan
// [EGR18]; 1 of the mean.
uint64_t MeansNeeded(RobustRule rule, uint32_t byzantine);

// One vector [dim] out of `means` [n × dim], each of which counts alike. With f = byzantine:
//   kMedian           of each coordinate; of an even number, the middle of the two [YCRB18]
//   kTrimmedMean      of each coordinate without the f largest and the f smallest [YCRB18]
//   kGeometricMedian  the point of the least sum of distances, by smoothed Weiszfeld steps from
//                     the coordinate median [PKH22, Alg. 2]
//   kKrum             the mean with the least sum of squared distances to its n - f - 2 nearest
//                     [BEGS17]
//   kMultiKrum        the average of the n - f - 2 that are best in that order
//   kBulyan           n - 2f means by repeated Krum; of each coordinate the average of the n - 4f
//                     of them that are nearest to their median [EGR18]
//   kMean             their average
// Ties of Krum go to the mean that is first in lexicographic order. kInvalidArgument: fewer than
// MeansNeeded, sizes that differ, or a value that is not finite.
Result<std::vector<float>> Combine(RobustRule rule, uint32_t byzantine,
                                   std::span<const std::span<const float>> means);

}  // namespace chorus::learning
