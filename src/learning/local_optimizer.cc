#include "learning/local_optimizer.h"

#include <algorithm>
#include <cmath>

#include "chorus/bytes.h"

namespace chorus::learning {

LocalOptimizer::LocalOptimizer(const TrainingSpec& training, size_t dim)
    : training_(training),
      first_(training.optimizer == ClientOptimizer::kSgd ? 0 : dim),
      second_(training.optimizer == ClientOptimizer::kAdam ? dim : 0) {}

LocalOptimizer::~LocalOptimizer() {
  for (std::vector<float>* state : {&first_, &second_}) {
    Wipe({reinterpret_cast<uint8_t*>(state->data()), state->size() * sizeof(float)});
  }
}

void LocalOptimizer::Begin(float rate, Pace* pace) {
  rate_ = rate;
  pace_ = pace;
  steps_ = 0;
  for (std::vector<float>* state : {&first_, &second_}) {
    float* const values = state->data();
    InPieces(pace, state->size(),
             [&](size_t begin, size_t end) { std::fill(values + begin, values + end, 0.0F); });
  }
}

void LocalOptimizer::Step(std::span<float> weights, std::span<const float> gradient) {
  ++steps_;
  InPieces(pace_, weights.size(), [&](size_t begin, size_t end) {
    StepPiece(begin, weights.subspan(begin, end - begin), gradient.subspan(begin, end - begin));
  });
}

// The step of the parameters from `first`.
void LocalOptimizer::StepPiece(size_t first, std::span<float> weights,
                               std::span<const float> gradient) {
  const size_t dim = weights.size();
  float* const to = weights.data();
  const float* const from = gradient.data();
  const float rate = rate_;
  switch (training_.optimizer) {
    case ClientOptimizer::kSgd:
      for (size_t i = 0; i < dim; ++i) to[i] -= rate * from[i];
      return;
    case ClientOptimizer::kMomentum: {
      const float momentum = training_.momentum;
      float* const velocity = first_.data() + first;
      for (size_t i = 0; i < dim; ++i) {
        velocity[i] = momentum * velocity[i] + from[i];
        to[i] -= rate * velocity[i];
      }
      return;
    }
    case ClientOptimizer::kAdam:
      StepAdam(first, weights, gradient);
      return;
  }
}

// [KB15, Alg. 1], with the corrections of both means taken into the rate and epsilon as at the end
// of its section 2: rate' = rate * sqrt(1 - beta2^t) / (1 - beta1^t), epsilon' = epsilon *
// sqrt(1 - beta2^t), which is the same step with two divisions fewer a value.
void LocalOptimizer::StepAdam(size_t first, std::span<float> weights,
                              std::span<const float> gradient) {
  const auto step = static_cast<double>(steps_);
  const double beta1 = training_.beta1;
  const double beta2 = training_.beta2;
  const double second_share = std::sqrt(1 - std::pow(beta2, step));
  const auto rate =
      static_cast<float>(static_cast<double>(rate_) * second_share / (1 - std::pow(beta1, step)));
  const auto epsilon = static_cast<float>(static_cast<double>(training_.epsilon) * second_share);
  const float keep1 = training_.beta1;
  const float keep2 = training_.beta2;
  const auto take1 = static_cast<float>(1 - beta1);
  const auto take2 = static_cast<float>(1 - beta2);
  const size_t dim = weights.size();
  float* const to = weights.data();
  float* const mean = first_.data() + first;
  float* const square = second_.data() + first;
  const float* const from = gradient.data();
  for (size_t i = 0; i < dim; ++i) {
    mean[i] = keep1 * mean[i] + take1 * from[i];
    square[i] = keep2 * square[i] + take2 * from[i] * from[i];
    to[i] -= rate * mean[i] / (std::sqrt(square[i]) + epsilon);
  }
}

}  // namespace chorus::learning
