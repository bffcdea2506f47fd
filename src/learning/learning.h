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

inline constexpr uint32_t kHeldBackPercentMax = 90;

// kInvalidArgument names the layer and what is wrong with it: no layers, zero or too many units, an
// activation after the last layer under cross-entropy, more parameters than limits' kDimMax.
Status ValidateModel(const ModelSpec& model);
// kInvalidArgument: zero epochs or batch size, a rate that is not finite and positive,
// held_back_percent above kHeldBackPercentMax.
Status ValidateTraining(const TrainingSpec& training);

uint64_t ParameterCount(const ModelSpec& model);  // dim; of a valid model
uint32_t OutputCount(const ModelSpec& model);     // units of the last layer

// Canonical bytes, hashed into every session; integers big-endian. The model's description:
// "CHORUS1/model-spec" || inputs u32 || loss u8 || layers u32 || (units u32 || activation u8)*. Its
// parameters' layout: "CHORUS1/layout" || element type u8 (1: binary32) || tensors u32 ||
// (rank u8 || dimensions u32*)*, where each layer gives W [units × inputs], then its bias [units].
Bytes CanonicalModel(const ModelSpec& model);
Bytes CanonicalLayout(const ModelSpec& model);

// Glorot-uniform weights, zero biases [GB10]. [dim]
Weights InitialWeights(const ModelSpec& model, Rng& rng);

// kInvalidArgument unless the examples fit the model: their width, labels below the outputs or
// targets of their shape (exactly one of the two, as the loss needs), every number finite, at least
// one example.
Status CheckExamples(const ModelSpec& model, const Examples& examples);

// Splits examples into those to train on and those held back: `percent` of them (at most 90),
// rounded down, drawn from `rng` and so the same for one seed; both keep their order. A draw of
// every k-th would hold back a single class where classes alternate. With fewer than ten examples,
// or examples whose shapes do not agree, none is held back.
struct Split {
  Examples train;
  Examples held_back;
};
Split HoldBack(const Examples& examples, uint32_t percent, Rng& rng);

// Mini-batch SGD on `weights` [dim] in place, in an order drawn from `order` anew each epoch; the
// last batch of an epoch may be smaller. kInvalidArgument when model, training, examples and
// weights do not fit together, with `weights` as they were. kCancelled within one minibatch of a
// request; kAborted when the loss stops being finite (the rate is too high). `weights` are then
// spoilt.
Status Train(const ModelSpec& model, const TrainingSpec& training, const Examples& examples,
             std::span<float> weights, Rng& order, const Cancel& cancel);

// Mean loss and its gradient [dim] on all `examples` as one batch: what Train follows, open to
// gradient checks. NaN, and `gradient` as it was, when the arguments do not fit together.
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
// Of no examples: all zeros. kInvalidArgument when model, examples and weights do not fit together;
// kCancelled within 256 examples; kAborted when the loss is not finite (the weights have diverged).
Result<Evaluation> Evaluate(const ModelSpec& model, const Examples& examples,
                            std::span<const float> weights, const Cancel& cancel);

// FedAvg: weights += rate * mean [MMRHA17, Alg. 1]. Sizes must match; what is beyond the shorter
// one is not touched.
void ApplyMean(std::span<float> weights, std::span<const float> mean, float rate);

}  // namespace chorus::learning
