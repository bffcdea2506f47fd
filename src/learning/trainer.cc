#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "learning/learning.h"
#include "learning/local_optimizer.h"
#include "learning/network.h"
#include "math/math.h"

namespace chorus::learning {
namespace {

constexpr size_t kEvaluationRows = 256;
constexpr size_t kHoldBackCountMin = 10;

void Shuffle(std::span<size_t> order, Rng& rng, Pace* pace) {
  constexpr size_t kBreathDraws = 64;
  for (size_t left = order.size(); left > 1; --left) {
    if (left % kBreathDraws == 0) Breathe(pace);
    std::swap(order[left - 1], order[UniformBelow(rng, left)]);
  }
}

std::vector<size_t> InOrder(size_t count) {
  std::vector<size_t> order(count);
  std::iota(order.begin(), order.end(), size_t{0});
  return order;
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

Result<Evaluation> EvaluateWith(Network<float>& network, const Examples& examples,
                                std::span<const size_t> rows, std::span<const float> weights,
                                const Stop& stop) {
  double loss = 0;
  double right = 0;
  network.Follow(stop.pace());
  for (std::span<const size_t> rest = rows; !rest.empty();) {
    CHORUS_TRY(stop.Check("evaluation"));
    const auto piece = rest.first(std::min(rest.size(), network.rows_max()));
    rest = rest.subspan(piece.size());
    const auto outcome = network.Forward(weights, examples, piece, nullptr);
    loss += outcome.loss;
    right += outcome.right;
  }
  if (!std::isfinite(loss)) {
    return Aborted("the loss is not a finite number: the weights have diverged");
  }
  const auto count = static_cast<double>(rows.size());
  return Evaluation{.count = rows.size(), .loss = loss / count, .accuracy = right / count};
}

std::span<const float> Part(std::span<const float> values, const ParameterRange& range) {
  return values.subspan(range.begin, range.count);
}

// A network for as many rows as any client so far had use for.
class GrowingNetwork {
 public:
  void Hold(const ModelSpec& model, size_t rows) {
    if (network_ != nullptr && rows <= rows_) return;
    network_.reset();  // before another takes as much
    network_ = std::make_unique<Network<float>>(model, rows);
    rows_ = rows;
  }
  Network<float>& get() { return *network_; }  // once it holds any

 private:
  size_t rows_ = 0;
  std::unique_ptr<Network<float>> network_;
};

class NetworkLearner final : public Learner {
 public:
  NetworkLearner(const ModelSpec& model, const TrainingSpec& training)
      : model_(model),
        training_(training),
        dim_(ParameterCount(model)),
        shared_(SharedRanges(model)),
        optimizer_(training, dim_) {
    for (const ParameterRange& range : shared_) shared_count_ += range.count;
    // Made here, where nobody waits for a frame, and not in the first step that needs it.
    if (!plain()) gradient_.resize(dim_);
  }

  ~NetworkLearner() override {
    Wipe({reinterpret_cast<uint8_t*>(gradient_.data()), gradient_.size() * sizeof(float)});
  }

  Result<uint64_t> Train(const LocalTraining& local, std::span<float> weights, Rng& draws,
                         const Stop& stop) override;
  Result<Evaluation> Evaluate(const Examples& examples, std::span<const size_t> rows,
                              std::span<const float> weights, const Stop& stop) override;

 private:
  // A recipe whose step is the gradient times the rate, which goes straight into the weights.
  bool plain() const {
    return training_.optimizer == ClientOptimizer::kSgd && training_.proximal == 0 &&
           training_.gradient_l2_norm_max == 0;
  }

  Status CheckSizes(const LocalTraining& local, std::span<const float> weights) const;
  // sink += scale * (gradient of the mean loss of `rows`), which fit the network, or are taken
  // piece by piece.
  Status AddGradient(const LocalTraining& local, std::span<const size_t> rows, float scale,
                     std::span<const float> weights, std::span<float> sink, Rng& draws,
                     const Stop& stop);
  Status Step(const LocalTraining& local, std::span<const size_t> rows, std::span<float> weights,
              Rng& draws, const Stop& stop);
  void Correct(const LocalTraining& local, float scale, std::span<float> to, Pace* pace) const;

  const ModelSpec model_;
  const TrainingSpec training_;
  const size_t dim_;
  const std::vector<ParameterRange> shared_;
  size_t shared_count_ = 0;
  LocalOptimizer optimizer_;
  float rate_ = 0;
  GrowingNetwork training_network_;
  GrowingNetwork evaluation_network_;
  std::vector<size_t> order_;
  std::vector<float> gradient_;  // [dim], once a step needed it
};

Status NetworkLearner::CheckSizes(const LocalTraining& local,
                                  std::span<const float> weights) const {
  CHORUS_TRY(CheckWeights(model_, weights));
  if (local.rows.empty()) return InvalidArgument("there are no examples");
  if (training_.proximal > 0 && local.anchor.size() != dim_) {
    return InvalidArgument("FedProx needs the weights that the round began with");
  }
  if (!local.correction.empty() && local.correction.size() != shared_count_) {
    return InvalidArgument("the control variates are not of this model");
  }
  return OkStatus();
}

Status NetworkLearner::AddGradient(const LocalTraining& local, std::span<const size_t> rows,
                                   float scale, std::span<const float> weights,
                                   std::span<float> sink, Rng& draws, const Stop& stop) {
  Network<float>& network = training_network_.get();
  const float row_scale = scale / static_cast<float>(rows.size());
  double loss = 0;
  while (!rows.empty()) {
    CHORUS_TRY(stop.Check("training"));
    const auto piece = rows.first(std::min(rows.size(), network.rows_max()));
    rows = rows.subspan(piece.size());
    loss += network.Forward(weights, *local.examples, piece, &draws).loss;
    if (!std::isfinite(loss)) return LossNotFinite();
    network.Backward(weights, row_scale, sink);
  }
  return OkStatus();
}

// to += scale * correction, on what is shared.
void NetworkLearner::Correct(const LocalTraining& local, float scale, std::span<float> to,
                             Pace* pace) const {
  if (local.correction.empty()) return;
  const float* from = local.correction.data();
  for (const ParameterRange& range : shared_) {
    float* const at = to.data() + range.begin;
    InPieces(pace, range.count, [&](uint64_t begin, uint64_t end) {
      for (uint64_t i = begin; i < end; ++i) at[i] += scale * from[i];
    });
    from += range.count;
  }
}

// One step on the mean loss of `rows`.
Status NetworkLearner::Step(const LocalTraining& local, std::span<const size_t> rows,
                            std::span<float> weights, Rng& draws, const Stop& stop) {
  Pace* const pace = stop.pace();
  if (plain() && rows.size() <= training_network_.get().rows_max()) {
    CHORUS_TRY(AddGradient(local, rows, -rate_, weights, weights, draws, stop));
    Correct(local, -rate_, weights, pace);
    return OkStatus();
  }
  gradient_.resize(dim_);
  InPieces(pace, dim_, [&](size_t begin, size_t end) {
    std::fill(gradient_.data() + begin, gradient_.data() + end, 0.0F);
  });
  CHORUS_TRY(AddGradient(local, rows, 1, weights, gradient_, draws, stop));
  if (training_.gradient_l2_norm_max > 0) {
    const double norm = math::Norm(gradient_, pace);
    if (!std::isfinite(norm)) return LossNotFinite();
    const double norm_max = training_.gradient_l2_norm_max;
    const auto factor = static_cast<float>(norm_max / std::max(norm, norm_max));
    InPieces(pace, dim_, [&](size_t begin, size_t end) {
      for (size_t i = begin; i < end; ++i) gradient_[i] *= factor;
    });
  }
  if (training_.proximal > 0) {
    // What pulls back to where the round began [LSZSTS20, section 3.2]; personal layers have no
    // such place.
    for (const ParameterRange& range : shared_) {
      const std::span<const float> now = Part(weights, range);
      const std::span<const float> anchor = Part(local.anchor, range);
      float* const to = gradient_.data() + range.begin;
      InPieces(pace, range.count, [&](uint64_t begin, uint64_t end) {
        for (uint64_t i = begin; i < end; ++i) to[i] += training_.proximal * (now[i] - anchor[i]);
      });
    }
  }
  Correct(local, 1, gradient_, pace);
  optimizer_.Step(weights, gradient_);
  return OkStatus();
}

Result<uint64_t> NetworkLearner::Train(const LocalTraining& local, std::span<float> weights,
                                       Rng& draws, const Stop& stop) {
  CHORUS_TRY(CheckSizes(local, weights));
  order_.assign(local.rows.begin(), local.rows.end());
  const size_t batch = std::min<size_t>(training_.batch_size, order_.size());
  training_network_.Hold(model_, batch);
  training_network_.get().Follow(stop.pace());
  rate_ = RateAt(training_, local.round);
  optimizer_.Begin(rate_, stop.pace());
  const uint64_t batches = (order_.size() + batch - 1) / batch;
  const uint64_t steps = training_.steps > 0 ? training_.steps : training_.epochs * batches;
  for (uint64_t step = 0; step < steps; ++step) {
    const size_t begin = step % batches * batch;
    if (begin == 0) Shuffle(order_, draws, stop.pace());
    const auto minibatch =
        std::span<const size_t>(order_).subspan(begin, std::min(batch, order_.size() - begin));
    CHORUS_TRY(Step(local, minibatch, weights, draws, stop));
  }
  return steps;
}

Result<Evaluation> NetworkLearner::Evaluate(const Examples& examples, std::span<const size_t> rows,
                                            std::span<const float> weights, const Stop& stop) {
  CHORUS_TRY(CheckWeights(model_, weights));
  if (rows.empty()) return Evaluation{};
  evaluation_network_.Hold(model_, std::min(rows.size(), kEvaluationRows));
  return EvaluateWith(evaluation_network_.get(), examples, rows, weights, stop);
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
    loss += network.Forward(weights, examples, piece, nullptr).loss;
    network.Backward(weights, static_cast<Scalar>(1 / count), gradient);
  }
  return loss / count;
}

}  // namespace

Split HoldBack(size_t count, uint32_t percent, Rng& rng) {
  Split split;
  const size_t share = std::min(percent, kHeldBackPercentMax);
  const size_t held = count / 100 * share + count % 100 * share / 100;
  split.train = InOrder(count);
  if (count < kHoldBackCountMin || held == 0) return split;
  Shuffle(split.train, rng, nullptr);
  const auto middle = split.train.begin() + static_cast<ptrdiff_t>(held);
  split.held_back.assign(split.train.begin(), middle);
  split.train.erase(split.train.begin(), middle);
  std::sort(split.held_back.begin(), split.held_back.end());
  std::sort(split.train.begin(), split.train.end());
  return split;
}

Result<std::unique_ptr<Learner>> Learner::Create(const ModelSpec& model,
                                                 const TrainingSpec& training) {
  CHORUS_TRY(ValidateModel(model));
  CHORUS_TRY(ValidateTraining(training));
  if (model.custom_parameters > 0) {
    return InvalidArgument("only the host's own Trainer understands a model of custom_parameters");
  }
  return std::unique_ptr<Learner>(std::make_unique<NetworkLearner>(model, training));
}

Status Train(const ModelSpec& model, const TrainingSpec& training, const Examples& examples,
             std::span<float> weights, Rng& draws, const Stop& stop) {
  CHORUS_TRY_ASSIGN(const std::unique_ptr<Learner> learner, Learner::Create(model, training));
  CHORUS_TRY(CheckExamples(model, examples));
  const std::vector<size_t> rows = InOrder(examples.count());
  const Weights anchor(weights.begin(), weights.end());
  const LocalTraining local = {.examples = &examples, .rows = rows, .anchor = anchor};
  CHORUS_TRY(learner->Train(local, weights, draws, stop).status());
  // The last step may have overflowed after its loss was seen.
  return std::isfinite(math::Norm(weights)) ? OkStatus() : LossNotFinite();
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
                            std::span<const float> weights, const Stop& stop) {
  CHORUS_TRY_ASSIGN(const std::unique_ptr<Learner> learner, Learner::Create(model, {}));
  if (examples.features.empty()) return learner->Evaluate(examples, {}, weights, stop);
  CHORUS_TRY(CheckExamples(model, examples));
  return learner->Evaluate(examples, InOrder(examples.count()), weights, stop);
}

void ApplyMean(std::span<float> weights, std::span<const float> mean, float rate) {
  const size_t dim = std::min(weights.size(), mean.size());
  for (size_t i = 0; i < dim; ++i) weights[i] += rate * mean[i];
}

}  // namespace chorus::learning
