#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "learning/layers.h"
#include "learning/learning.h"

namespace chorus::learning {
namespace {

constexpr size_t kEvaluationRows = 256;
constexpr size_t kHoldBackCountMin = 10;

void Shuffle(std::span<size_t> order, Rng& rng) {
  for (size_t left = order.size(); left > 1; --left) {
    std::swap(order[left - 1], order[UniformBelow(rng, left)]);
  }
}

std::vector<size_t> InOrder(size_t count) {
  std::vector<size_t> order(count);
  std::iota(order.begin(), order.end(), size_t{0});
  return order;
}

// The shapes alone agree, whatever the values: what memory safety needs.
bool ShapesFit(const Examples& examples) {
  const size_t count = examples.count();
  if (count == 0 || examples.features.size() % examples.inputs != 0) return false;
  if (examples.labels.empty() == examples.targets.empty()) return false;
  return examples.targets.empty() ? examples.labels.size() == count
                                  : examples.targets.size() % count == 0;
}

Examples Pick(const Examples& examples, std::span<const size_t> rows) {
  const size_t outputs = examples.targets.size() / examples.count();
  Examples picked;
  picked.inputs = examples.inputs;
  picked.features.reserve(rows.size() * examples.inputs);
  for (const size_t row : rows) {
    const float* features = examples.features.data() + row * examples.inputs;
    picked.features.insert(picked.features.end(), features, features + examples.inputs);
    if (!examples.labels.empty()) picked.labels.push_back(examples.labels[row]);
    const float* targets = examples.targets.data() + row * outputs;
    picked.targets.insert(picked.targets.end(), targets, targets + outputs);
  }
  return picked;
}

Status CheckWeights(const ModelSpec& model, std::span<const float> weights) {
  if (weights.size() == ParameterCount(model)) return OkStatus();
  return InvalidArgument("the model has " + std::to_string(ParameterCount(model)) +
                         " parameters and was given " + std::to_string(weights.size()) +
                         " weights; fetch the weights of this model");
}

Status LossNotFinite() {
  return Aborted("the loss is no longer a finite number; lower the learning rate");
}

// One step of SGD on the mean loss of `rows`. Where they fit the buffers, the gradient goes
// straight into the weights; else it is summed in `gradient` [dim, or empty] piece by piece.
Status Step(Network<float>& network, const Examples& examples, std::span<const size_t> rows,
            float rate, std::span<float> weights, std::span<float> gradient, const Cancel& cancel) {
  const float scale = -rate / static_cast<float>(rows.size());
  const bool whole = rows.size() <= network.rows_max();
  if (!whole) std::fill(gradient.begin(), gradient.end(), 0.0F);
  double loss = 0;
  while (!rows.empty()) {
    if (cancel.requested()) return Cancelled("training was cancelled");
    const auto piece = rows.first(std::min(rows.size(), network.rows_max()));
    rows = rows.subspan(piece.size());
    loss += network.Forward(weights, examples, piece).loss;
    if (!std::isfinite(loss)) return LossNotFinite();
    network.Backward(weights, scale, whole ? weights : gradient);
  }
  if (!whole) ApplyMean(weights, gradient, 1.0F);
  return OkStatus();
}

template <typename Scalar>
double LossAndGradientOf(const ModelSpec& model, const Examples& examples,
                         std::span<const Scalar> weights, std::span<Scalar> gradient) {
  if (!CheckExamples(model, examples).ok() || weights.size() != ParameterCount(model) ||
      gradient.size() != weights.size()) {
    return std::numeric_limits<double>::quiet_NaN();
  }
  const std::vector<size_t> order = InOrder(examples.count());
  Network<Scalar> network(model, std::min(order.size(), kEvaluationRows));
  std::fill(gradient.begin(), gradient.end(), Scalar{0});
  const auto count = static_cast<double>(order.size());
  double loss = 0;
  for (std::span<const size_t> rest = order; !rest.empty();) {
    const auto piece = rest.first(std::min(rest.size(), network.rows_max()));
    rest = rest.subspan(piece.size());
    loss += network.Forward(weights, examples, piece).loss;
    network.Backward(weights, static_cast<Scalar>(1 / count), gradient);
  }
  return loss / count;
}

}  // namespace

Split HoldBack(const Examples& examples, uint32_t percent, Rng& rng) {
  const size_t count = examples.count();
  Split split;
  split.held_back.inputs = examples.inputs;
  const size_t held = count / 100 * std::min(percent, kHeldBackPercentMax) +
                      count % 100 * std::min(percent, kHeldBackPercentMax) / 100;
  if (count < kHoldBackCountMin || held == 0 || !ShapesFit(examples)) {
    split.train = examples;
    return split;
  }
  std::vector<size_t> order = InOrder(count);
  Shuffle(order, rng);
  const auto middle = order.begin() + static_cast<ptrdiff_t>(held);
  std::sort(order.begin(), middle);
  std::sort(middle, order.end());
  split.held_back = Pick(examples, std::span(order).first(held));
  split.train = Pick(examples, std::span(order).subspan(held));
  return split;
}

Status Train(const ModelSpec& model, const TrainingSpec& training, const Examples& examples,
             std::span<float> weights, Rng& order, const Cancel& cancel) {
  CHORUS_TRY(CheckExamples(model, examples));
  CHORUS_TRY(ValidateTraining(training));
  CHORUS_TRY(CheckWeights(model, weights));
  std::vector<size_t> rows = InOrder(examples.count());
  const size_t batch = std::min<size_t>(training.batch_size, rows.size());
  Network<float> network(model, batch);
  Weights gradient(network.rows_max() < batch ? weights.size() : 0);
  for (uint32_t epoch = 0; epoch < training.epochs; ++epoch) {
    Shuffle(rows, order);
    for (std::span<const size_t> rest = rows; !rest.empty();) {
      const auto minibatch = rest.first(std::min(rest.size(), batch));
      rest = rest.subspan(minibatch.size());
      CHORUS_TRY(
          Step(network, examples, minibatch, training.learning_rate, weights, gradient, cancel));
    }
  }
  // The last step may have overflowed after its loss was seen.
  const bool finite =
      std::all_of(weights.begin(), weights.end(), [](float w) { return std::isfinite(w); });
  return finite ? OkStatus() : LossNotFinite();
}

double LossAndGradient(const ModelSpec& model, const Examples& examples,
                       std::span<const float> weights, std::span<float> gradient) {
  return LossAndGradientOf<float>(model, examples, weights, gradient);
}

double LossAndGradientDouble(const ModelSpec& model, const Examples& examples,
                             std::span<const double> weights, std::span<double> gradient) {
  return LossAndGradientOf<double>(model, examples, weights, gradient);
}

Result<Evaluation> Evaluate(const ModelSpec& model, const Examples& examples,
                            std::span<const float> weights, const Cancel& cancel) {
  CHORUS_TRY(ValidateModel(model));
  CHORUS_TRY(CheckWeights(model, weights));
  if (examples.features.empty()) return Evaluation{};
  CHORUS_TRY(CheckExamples(model, examples));
  const std::vector<size_t> order = InOrder(examples.count());
  Network<float> network(model, std::min(order.size(), kEvaluationRows));
  double loss = 0;
  uint64_t right = 0;
  for (std::span<const size_t> rest = order; !rest.empty();) {
    if (cancel.requested()) return Cancelled("evaluation was cancelled");
    const auto piece = rest.first(std::min(rest.size(), network.rows_max()));
    rest = rest.subspan(piece.size());
    const auto outcome = network.Forward(weights, examples, piece);
    loss += outcome.loss;
    right += outcome.right;
  }
  if (!std::isfinite(loss)) {
    return Aborted("the loss is not a finite number: the weights have diverged");
  }
  const auto count = static_cast<double>(order.size());
  return Evaluation{
      .count = order.size(), .loss = loss / count, .accuracy = static_cast<double>(right) / count};
}

void ApplyMean(std::span<float> weights, std::span<const float> mean, float rate) {
  const size_t dim = std::min(weights.size(), mean.size());
  for (size_t i = 0; i < dim; ++i) weights[i] += rate * mean[i];
}

}  // namespace chorus::learning
