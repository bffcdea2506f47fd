// Models, local training and evaluation, and the server's optimiser. Eigen begins and ends in this
// folder. Pure and deterministic: the same inputs and random source give the same bits on one
// instruction set.
#pragma once

#include <cstdint>
#include <span>

#include "base/random.h"
#include "chorus/bytes.h"
#include "chorus/client.h"
#include "chorus/host.h"
#include "chorus/model.h"
#include "chorus/status.h"
#include "chorus/task.h"

namespace chorus::learning {

// kInvalidArgument names the layer and what is wrong with it: no layers, zero or too many units, an
// activation after the last layer under cross-entropy, more parameters than limits' kDimMax.
Status ValidateModel(const ModelSpec& model);
// kInvalidArgument: zero epochs or batch size, a rate that is not finite and positive,
// held_back_percent above 90.
Status ValidateTraining(const TrainingSpec& training);

uint64_t ParameterCount(const ModelSpec& model);  // dim; of a valid model
uint32_t OutputCount(const ModelSpec& model);     // units of the last layer

// Canonical bytes of the model's description, and of its parameters' layout; hashed into every
// session.
Bytes CanonicalModel(const ModelSpec& model);
Bytes CanonicalLayout(const ModelSpec& model);

// Glorot-uniform weights, zero biases [GB10]. [dim]
Weights InitialWeights(const ModelSpec& model, Rng& rng);

// kInvalidArgument unless the examples fit the model: their width, labels below the outputs or
// targets of their shape (exactly one of the two, as the loss needs), every number finite, at least
// one example.
Status CheckExamples(const ModelSpec& model, const Examples& examples);

// Splits examples into those to train on and those held back: every k-th by a draw from `rng`,
// stable for one seed. With fewer than ten examples none is held back.
struct Split {
  Examples train;
  Examples held_back;
};
Split HoldBack(const Examples& examples, uint32_t percent, Rng& rng);

// Mini-batch SGD on `weights` [dim] in place, in an order drawn from `order` anew each epoch.
// kCancelled within one minibatch of a request; kAborted when the loss stops being finite (the rate
// is too high). `weights` are then spoilt.
Status Train(const ModelSpec& model, const TrainingSpec& training, const Examples& examples,
             std::span<float> weights, Rng& order, const Cancel& cancel);

// Mean loss and its gradient [dim] on all `examples` as one batch: what Train follows, open to
// gradient checks.
double LossAndGradient(const ModelSpec& model, const Examples& examples,
                       std::span<const float> weights, std::span<float> gradient);
// The same in double throughout, for numeric gradient checks.
double LossAndGradientDouble(const ModelSpec& model, const Examples& examples,
                             std::span<const double> weights, std::span<double> gradient);

struct Evaluation {
  uint64_t count = 0;
  double loss = 0;      // mean
  double accuracy = 0;  // fraction of right labels; 0 for squared error
};
Result<Evaluation> Evaluate(const ModelSpec& model, const Examples& examples,
                            std::span<const float> weights, const Cancel& cancel);

// FedAvg: weights += rate * mean [MMRHA17, Alg. 1]. Sizes must match.
void ApplyMean(std::span<float> weights, std::span<const float> mean, float rate);

}  // namespace chorus::learning
