// How a client's optimiser makes steps of gradients. Internal to learning.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/pace.h"
#include "chorus/task.h"

namespace chorus::learning {

// Momentum and Adam, whose state begins anew with every client, and SGD, which has none. All spans
// are [dim]. Thread-compatible.
class LocalOptimizer {
 public:
  // Of a valid recipe.
  LocalOptimizer(const TrainingSpec& training, size_t dim);
  // Wipes what it knows of the last client.
  ~LocalOptimizer();
  LocalOptimizer(const LocalOptimizer&) = delete;
  LocalOptimizer& operator=(const LocalOptimizer&) = delete;

  // Forgets the last client, and takes steps of `rate` from now on, with breaths of `pace`.
  void Begin(float rate, Pace* pace);
  // One step against `gradient`.
  void Step(std::span<float> weights, std::span<const float> gradient);

 private:
  void StepPiece(size_t first, std::span<float> weights, std::span<const float> gradient);
  void StepAdam(size_t first, std::span<float> weights, std::span<const float> gradient);

  const TrainingSpec training_;
  float rate_ = 0;
  Pace* pace_ = nullptr;
  uint64_t steps_ = 0;
  std::vector<float> first_;   // velocity, or the mean of gradients
  std::vector<float> second_;  // of squared gradients
};

}  // namespace chorus::learning
