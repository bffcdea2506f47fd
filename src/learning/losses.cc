#include "learning/losses.h"

#include <algorithm>
#include <cmath>

namespace chorus::learning {
namespace {

// Loss of softmax(z) against label y: log(sum(exp(z - max z))) - (z_y - max z), which cannot
// overflow; its derivative by z is softmax(z) minus one at y.
template <typename Scalar>
void AddCrossEntropy(const Kernels<Scalar>& kernels, const Scalar* z, size_t width, size_t label,
                     double share, Scalar* delta, LossSums& sums) {
  const SoftmaxParts<Scalar> parts = kernels.softmax(z, delta, width);
  delta[label] -= Scalar{1};
  sums.loss += share * (std::log(static_cast<double>(parts.sum)) -
                        static_cast<double>(z[label] - parts.largest));
  // The first of the largest outputs is the prediction.
  const bool right = z[label] == parts.largest && std::none_of(z, z + label, [&](Scalar value) {
                       return value == parts.largest;
                     });
  if (right) sums.right += share;
  ++sums.predictions;
}

// A row counts by the mean over its tokens that are no padding.
template <typename Scalar>
void AddNextTokens(const Kernels<Scalar>& kernels, const Shape& shape, const float* tokens,
                   const Scalar* z, Scalar* delta, Pace* pace, LossSums& sums) {
  const size_t length = shape.axes[0];
  const size_t width = shape.axes[1];
  const float* const next = tokens + 1;
  size_t judged = 0;
  while (judged < length && next[judged] >= 0) ++judged;
  const double share = 1.0 / static_cast<double>(judged);
  for (size_t t = 0; t < judged; ++t) {
    Breathe(pace);
    AddCrossEntropy(kernels, z + t * width, width, static_cast<size_t>(next[t]), share,
                    delta + t * width, sums);
  }
  InPieces(pace, judged * width, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) delta[i] *= static_cast<Scalar>(share);
  });
  Scalar* const padding = delta + judged * width;
  InPieces(pace, (length - judged) * width,
           [&](size_t begin, size_t end) { std::fill(padding + begin, padding + end, Scalar{0}); });
}

// Of a logit: -t * log(s) - (1 - t) * log(1 - s) with s = sigmoid(z), which is max(z, 0) - z * t +
// log(1 + e^-|z|) and cannot overflow; its derivative is s - t.
template <typename Scalar>
void AddBinaryCrossEntropy(Scalar z, Scalar target, Scalar& delta, LossSums& sums) {
  const auto logit = static_cast<double>(z);
  const double small = std::exp(-std::abs(logit));
  sums.loss += (logit < 0 ? 0 : logit) - logit * static_cast<double>(target) + std::log1p(small);
  const double sigmoid = (logit < 0 ? small : 1) / (1 + small);
  delta = static_cast<Scalar>(sigmoid - static_cast<double>(target));
}

template <typename Scalar>
void AddSquaredError(Scalar error, Scalar& delta, LossSums& sums) {
  delta = error;
  sums.loss += 0.5 * static_cast<double>(error) * static_cast<double>(error);
}

template <typename Scalar>
void AddHuber(Scalar error, Scalar limit, Scalar& delta, LossSums& sums) {
  const auto size = static_cast<double>(std::abs(error));
  const auto bound = static_cast<double>(limit);
  delta = error > limit ? limit : error < -limit ? -limit : error;
  sums.loss += size <= bound ? 0.5 * size * size : bound * (size - 0.5 * bound);
}

// Losses that look at one output at a time, against targets or, of one logit, a label.
template <typename Scalar>
void AddOutputs(const ModelSpec& model, const Examples& examples, size_t row, size_t count,
                const Scalar* outputs, Scalar* delta, LossSums& sums) {
  const bool labelled = !examples.labels.empty();
  for (size_t i = 0; i < count; ++i) {
    const auto target = labelled ? static_cast<Scalar>(examples.labels[row])
                                 : static_cast<Scalar>(examples.targets[row * count + i]);
    if (model.loss == Loss::kBinaryCrossEntropy) {
      AddBinaryCrossEntropy(outputs[i], target, delta[i], sums);
    } else if (model.loss == Loss::kHuber) {
      AddHuber(outputs[i] - target, static_cast<Scalar>(model.huber_delta), delta[i], sums);
    } else {
      AddSquaredError(outputs[i] - target, delta[i], sums);
    }
  }
  if (labelled && (outputs[0] > 0) == (examples.labels[row] == 1)) sums.right += 1;
  ++sums.predictions;
}

}  // namespace

template <typename Scalar>
LossSums SumLosses(const ModelSpec& model, const Shape& shape, const Kernels<Scalar>& kernels,
                   const Examples& examples, std::span<const size_t> rows, const Scalar* outputs,
                   Scalar* delta, Pace* pace) {
  LossSums sums;
  const size_t count = shape.count();
  for (const size_t row : rows) {
    Breathe(pace);
    if (model.loss == Loss::kCrossEntropy) {
      AddCrossEntropy(kernels, outputs, count, examples.labels[row], 1.0, delta, sums);
    } else if (model.loss == Loss::kNextToken) {
      AddNextTokens(kernels, shape, examples.features.data() + row * examples.inputs, outputs,
                    delta, pace, sums);
    } else {
      AddOutputs(model, examples, row, count, outputs, delta, sums);
    }
    outputs += count;
    delta += count;
  }
  return sums;
}

template LossSums SumLosses<float>(const ModelSpec& model, const Shape& shape,
                                   const Kernels<float>& kernels, const Examples& examples,
                                   std::span<const size_t> rows, const float* outputs, float* delta,
                                   Pace* pace);
template LossSums SumLosses<double>(const ModelSpec& model, const Shape& shape,
                                    const Kernels<double>& kernels, const Examples& examples,
                                    std::span<const size_t> rows, const double* outputs,
                                    double* delta, Pace* pace);

}  // namespace chorus::learning
