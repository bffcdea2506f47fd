// How a task's clients train, and what they are given and give back beside the update itself.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <string>
#include <string_view>

#include "base/limits.h"
#include "learning/analytics.h"
#include "learning/learning.h"
#include "math/math.h"

namespace chorus::learning {
namespace {

constexpr float kFairnessMax = 16;
// Of the clip: what the largest expected h of q-FedAvg takes.
constexpr double kFairnessShare = 0.5;
// And an h of one takes so much at least, whatever the clip: some hundred units of the encoding.
constexpr double kFairnessShareMin = 0x1p-12;
constexpr double kCosineRest = 0.01;  // of the rate, where a cosine ends

uint64_t BatchesOf(uint64_t examples, uint32_t batch_size) {
  return (examples + batch_size - 1) / std::max(batch_size, 1U);
}

bool IsPositive(float value) { return std::isfinite(value) && value > 0; }

Status NeedsFraction(std::string_view field, float value) {
  if (value >= 0 && value < 1) return OkStatus();
  return InvalidArgument(std::string(field) + " must be at least 0 and below 1");
}

Status NeedsNotNegative(std::string_view field, float value) {
  if (std::isfinite(value) && value >= 0) return OkStatus();
  return InvalidArgument(std::string(field) + " must be finite and not negative; 0 turns it off");
}

Status CheckAmount(const TrainingSpec& training) {
  if (training.epochs == 0 && training.steps == 0) {
    return InvalidArgument("epochs must be at least one, or steps set");
  }
  if (training.epochs > limits::kEpochsMax) {
    return InvalidArgument("epochs must be at most " + std::to_string(limits::kEpochsMax));
  }
  if (training.steps > limits::kStepsMax) {
    return InvalidArgument("steps must be at most " + std::to_string(limits::kStepsMax));
  }
  if (training.batch_size == 0) return InvalidArgument("batch_size must be at least one");
  if (training.held_back_percent > kHeldBackPercentMax) {
    return InvalidArgument("held_back_percent must be at most " +
                           std::to_string(kHeldBackPercentMax));
  }
  return OkStatus();
}

Status CheckOptimizer(const TrainingSpec& training) {
  if (training.optimizer > ClientOptimizer::kAdam) {
    return InvalidArgument("optimizer is not one that this version knows; use sgd, momentum, adam");
  }
  if (training.optimizer == ClientOptimizer::kMomentum) {
    return NeedsFraction("momentum", training.momentum);
  }
  if (training.optimizer != ClientOptimizer::kAdam) return OkStatus();
  CHORUS_TRY(NeedsFraction("beta1", training.beta1));
  CHORUS_TRY(NeedsFraction("beta2", training.beta2));
  return IsPositive(training.epsilon) ? OkStatus()
                                      : InvalidArgument("epsilon must be finite and above zero");
}

Status CheckSchedule(const TrainingSpec& training) {
  if (!IsPositive(training.learning_rate)) {
    return InvalidArgument("learning_rate must be a finite number above zero");
  }
  if (training.schedule > Schedule::kCosine) {
    return InvalidArgument(
        "schedule is not one that this version knows; use constant, exponential, inverse_sqrt, "
        "cosine");
  }
  if (training.schedule == Schedule::kConstant) return OkStatus();
  if (training.decay_rounds == 0) return InvalidArgument("decay_rounds must be at least one");
  if (training.schedule == Schedule::kExponential && !(training.decay > 0 && training.decay <= 1)) {
    return InvalidArgument("decay must be above 0 and at most 1");
  }
  return OkStatus();
}

Status CheckScaffold(const TrainingSpec& training) {
  if (!training.scaffold) return OkStatus();
  if (training.population == 0) {
    return InvalidArgument("scaffold needs population: how many clients may ever take part");
  }
  if (training.optimizer != ClientOptimizer::kSgd) {
    return InvalidArgument(
        "scaffold needs the sgd optimizer: its control variates are mean gradients, and only there "
        "an update is a sum of these");
  }
  if (training.proximal > 0) {
    return InvalidArgument("scaffold and proximal exclude each other: both correct the drift");
  }
  return OkStatus();
}

}  // namespace

Status ValidateTraining(const TrainingSpec& training) {
  CHORUS_TRY(CheckAmount(training));
  CHORUS_TRY(CheckOptimizer(training));
  CHORUS_TRY(CheckSchedule(training));
  CHORUS_TRY(NeedsNotNegative("gradient_l2_norm_max", training.gradient_l2_norm_max));
  CHORUS_TRY(NeedsNotNegative("proximal", training.proximal));
  CHORUS_TRY(NeedsNotNegative("fairness_q", training.fairness_q));
  if (training.fairness_q > kFairnessMax) {
    return InvalidArgument("fairness_q must be at most 16");
  }
  if (!(training.fairness_loss >= kFairnessLossMin && training.fairness_loss <= math::kLossMax)) {
    return InvalidArgument("fairness_loss must be between 2^-10 and 16");
  }
  CHORUS_TRY(CheckScaffold(training));
  if (training.scaffold && training.fairness_q > 0) {
    return InvalidArgument(
        "scaffold and fairness_q exclude each other: the one needs the mean of all updates, the "
        "other weighs them by loss");
  }
  return OkStatus();
}

float RateAt(const TrainingSpec& training, uint64_t round) {
  const double part = static_cast<double>(round) / std::max(training.decay_rounds, 1U);
  double share = 1;
  switch (training.schedule) {
    case Schedule::kConstant:
      break;
    case Schedule::kExponential:
      share = std::pow(static_cast<double>(training.decay), part);
      break;
    case Schedule::kInverseSqrt:
      share = 1 / std::sqrt(1 + part);
      break;
    case Schedule::kCosine:
      share = std::max((1 + std::cos(std::numbers::pi * std::min(part, 1.0))) / 2, kCosineRest);
      break;
  }
  // Never zero: what a client learned is divided by it.
  return std::max(static_cast<float>(training.learning_rate * share),
                  std::numeric_limits<float>::min());
}

uint64_t ContributionDim(const TaskSpec& task) {
  if (!task.queries.empty()) return CellCount(task.queries);
  const uint64_t shared = SharedCount(task.model);
  return (task.training.scaffold ? 2 : 1) * shared + (task.training.fairness_q > 0 ? 1 : 0);
}

uint64_t PublishedCount(const TaskSpec& task) {
  if (!task.queries.empty()) return 1;
  return ParameterCount(task.model) + (task.training.scaffold ? SharedCount(task.model) : 0);
}

float ControlScale(const TaskSpec& task) {
  const TrainingSpec& training = task.training;
  if (!training.scaffold) return 0;
  const uint64_t steps =
      training.steps > 0
          ? training.steps
          : training.epochs * BatchesOf(task.encoding.examples_max, training.batch_size);
  return training.learning_rate * static_cast<float>(steps);
}

float FairnessScale(const TaskSpec& task) {
  const TrainingSpec& training = task.training;
  if (training.fairness_q == 0) return 0;
  const double clip = task.clip.update_l2_norm_max;
  const double largest = 1 + training.fairness_q * clip * clip /
                                 (double{training.learning_rate} * training.fairness_loss);
  return static_cast<float>(clip * std::max(kFairnessShare / largest, kFairnessShareMin));
}

}  // namespace chorus::learning
