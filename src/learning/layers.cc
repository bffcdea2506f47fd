#include "learning/layers.h"

#include <algorithm>
#include <cmath>

namespace chorus::learning {
namespace {

constexpr uint64_t kBufferBytesMax = uint64_t{64} << 20U;

// Applies `activation` to every value in place. A NaN stays one, so that the loss shows it.
template <typename Block>
void Activate(Activation activation, Block values) {
  using Scalar = typename Block::Scalar;
  switch (activation) {
    case Activation::kNone:
      return;
    case Activation::kRelu:
      values = values.unaryExpr([](Scalar value) { return value < 0 ? Scalar{0} : value; });
      return;
    case Activation::kTanh:
      values = values.array().tanh().matrix();
      return;
    case Activation::kSigmoid:
      // By way of tanh, which cannot overflow.
      values = (Scalar{0.5} * (Scalar{0.5} * values.array()).tanh() + Scalar{0.5}).matrix();
      return;
  }
}

// Multiplies `delta` by the activation's derivative, which its outputs alone determine. ReLU's at
// zero is taken as zero.
template <typename Outputs, typename Delta>
void TimesDerivative(Activation activation, const Outputs& outputs, Delta delta) {
  using Scalar = typename Delta::Scalar;
  switch (activation) {
    case Activation::kNone:
      return;
    case Activation::kRelu:
      delta.array() *= (outputs.array() > Scalar{0}).template cast<Scalar>();
      return;
    case Activation::kTanh:
      delta.array() *= Scalar{1} - outputs.array().square();
      return;
    case Activation::kSigmoid:
      delta.array() *= outputs.array() * (Scalar{1} - outputs.array());
      return;
  }
}

template <typename Scalar>
size_t RowsThatFit(const ModelSpec& model, size_t rows_wanted) {
  uint64_t row_bytes = model.inputs * sizeof(Scalar);
  for (const LayerSpec& layer : model.layers)
    row_bytes += uint64_t{2} * layer.units * sizeof(Scalar);
  const uint64_t fit = kBufferBytesMax / row_bytes;
  return static_cast<size_t>(std::max<uint64_t>(1, std::min<uint64_t>(rows_wanted, fit)));
}

}  // namespace

template <typename Scalar>
Network<Scalar>::Network(const ModelSpec& model, size_t rows_wanted)
    : loss_(model.loss), rows_max_(RowsThatFit<Scalar>(model, rows_wanted)) {
  const auto rows = static_cast<Eigen::Index>(rows_max_);
  features_.resize(rows, model.inputs);
  Eigen::Index inputs = model.inputs;
  size_t weights_at = 0;
  layers_.reserve(model.layers.size());
  for (const LayerSpec& spec : model.layers) {
    Layer& layer = layers_.emplace_back();
    layer.inputs = inputs;
    layer.units = spec.units;
    layer.weights_at = weights_at;
    layer.activation = spec.activation;
    layer.outputs.resize(rows, layer.units);
    layer.delta.resize(rows, layer.units);
    weights_at += (static_cast<size_t>(inputs) + 1) * spec.units;
    inputs = layer.units;
  }
}

template <typename Scalar>
void Network<Scalar>::Gather(const Examples& examples, std::span<const size_t> rows) {
  const size_t width = examples.inputs;
  Scalar* to = features_.data();
  for (const size_t row : rows) {
    const float* from = examples.features.data() + row * width;
    for (size_t i = 0; i < width; ++i) to[i] = from[i];
    to += width;
  }
}

template <typename Scalar>
typename Network<Scalar>::Outcome Network<Scalar>::Forward(std::span<const Scalar> weights,
                                                           const Examples& examples,
                                                           std::span<const size_t> rows) {
  using ConstMap = Eigen::Map<const Matrix>;
  Gather(examples, rows);
  rows_ = static_cast<Eigen::Index>(rows.size());
  const Matrix* below = &features_;
  for (Layer& layer : layers_) {
    const ConstMap w(weights.data() + layer.weights_at, layer.units, layer.inputs);
    const Scalar* bias = w.data() + w.size();
    auto outputs = layer.outputs.topRows(rows_);
    for (Eigen::Index row = 0; row < rows_; ++row) {
      std::copy(bias, bias + layer.units, layer.outputs.row(row).data());
    }
    outputs.noalias() += below->topRows(rows_) * w.transpose();
    Activate(layer.activation, layer.outputs.topRows(rows_));
    below = &layer.outputs;
  }
  return loss_ == Loss::kCrossEntropy ? CrossEntropy(examples, rows) : SquaredError(examples, rows);
}

// Loss of softmax(z) against label y: log(sum(exp(z - max z))) - (z_y - max z), which cannot
// overflow; its derivative by z is softmax(z) minus one at y.
template <typename Scalar>
typename Network<Scalar>::Outcome Network<Scalar>::CrossEntropy(const Examples& examples,
                                                                std::span<const size_t> rows) {
  Layer& last = layers_.back();
  Outcome outcome;
  for (size_t row = 0; row < rows.size(); ++row) {
    const Scalar* z = last.outputs.row(static_cast<Eigen::Index>(row)).data();
    Scalar* delta = last.delta.row(static_cast<Eigen::Index>(row)).data();
    const uint32_t label = examples.labels[rows[row]];
    const Scalar* largest = std::max_element(z, z + last.units);
    double sum = 0;
    for (Eigen::Index i = 0; i < last.units; ++i) {
      delta[i] = std::exp(z[i] - *largest);
      sum += static_cast<double>(delta[i]);
    }
    const auto share = static_cast<Scalar>(1 / sum);
    for (Eigen::Index i = 0; i < last.units; ++i) delta[i] *= share;
    delta[label] -= Scalar{1};
    outcome.loss += std::log(sum) - static_cast<double>(z[label] - *largest);
    if (largest - z == static_cast<ptrdiff_t>(label)) ++outcome.right;
  }
  return outcome;
}

template <typename Scalar>
typename Network<Scalar>::Outcome Network<Scalar>::SquaredError(const Examples& examples,
                                                                std::span<const size_t> rows) {
  Layer& last = layers_.back();
  Outcome outcome;
  for (size_t row = 0; row < rows.size(); ++row) {
    const Scalar* output = last.outputs.row(static_cast<Eigen::Index>(row)).data();
    Scalar* delta = last.delta.row(static_cast<Eigen::Index>(row)).data();
    const float* target = examples.targets.data() + rows[row] * static_cast<size_t>(last.units);
    for (Eigen::Index i = 0; i < last.units; ++i) {
      delta[i] = output[i] - static_cast<Scalar>(target[i]);
      outcome.loss += 0.5 * static_cast<double>(delta[i]) * static_cast<double>(delta[i]);
    }
  }
  TimesDerivative(last.activation, last.outputs.topRows(rows_), last.delta.topRows(rows_));
  return outcome;
}

template <typename Scalar>
void Network<Scalar>::Backward(std::span<const Scalar> weights, Scalar scale,
                               std::span<Scalar> sink) {
  for (size_t i = layers_.size(); i-- > 0;) {
    Layer& layer = layers_[i];
    auto delta = layer.delta.topRows(rows_);
    if (i > 0) {
      Layer& below = layers_[i - 1];
      const Eigen::Map<const Matrix> w(weights.data() + layer.weights_at, layer.units,
                                       layer.inputs);
      below.delta.topRows(rows_).noalias() = delta * w;
      TimesDerivative(below.activation, below.outputs.topRows(rows_), below.delta.topRows(rows_));
    }
    const Matrix& inputs = i > 0 ? layers_[i - 1].outputs : features_;
    delta *= scale;
    Eigen::Map<Matrix> w(sink.data() + layer.weights_at, layer.units, layer.inputs);
    w.noalias() += delta.transpose() * inputs.topRows(rows_);
    Scalar* bias = w.data() + w.size();
    for (Eigen::Index row = 0; row < rows_; ++row) {
      const Scalar* from = layer.delta.row(row).data();
      for (Eigen::Index unit = 0; unit < layer.units; ++unit) bias[unit] += from[unit];
    }
  }
}

template class Network<float>;
template class Network<double>;

}  // namespace chorus::learning
