// Models, local training and evaluation, and the server's optimiser. Pure and deterministic: the
// same inputs and random source give the same bits on one instruction set.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/random.h"
#include "base/stop.h"
#include "chorus/bytes.h"
#include "chorus/client.h"
#include "chorus/host.h"
#include "chorus/model.h"
#include "chorus/status.h"
#include "chorus/task.h"

namespace chorus::learning {

inline constexpr uint32_t kHeldBackPercentMax = 90;
// Below this, a loss counts as this in q-FedAvg: its power may have a negative exponent.
inline constexpr double kFairnessLossMin = 0x1p-10;

// kInvalidArgument names the layer, as in "layer 3 (conv2d)", and what is wrong with it: a field
// that its kind does not take or that is out of range, an input of another shape than it takes, an
// activation that is last before a loss of logits, outputs that the loss cannot judge, more
// parameters than limits' kDimMax, none that are shared. A model of custom parameters says nothing
// else.
Status ValidateModel(const ModelSpec& model);
// kInvalidArgument names the field that is out of range, or the two that exclude each other.
Status ValidateTraining(const TrainingSpec& training);
// The client's learning rate in `round`, which counts from 0.
float RateAt(const TrainingSpec& training, uint64_t round);

uint64_t ParameterCount(const ModelSpec& model);  // dim; of a valid model
// Numbers that the last layer gives for one example: of next tokens, all positions' together. 0 of
// a model of custom parameters.
uint32_t OutputCount(const ModelSpec& model);

// An upper bound on what a Learner's network takes for batches of `batch_rows` examples, beside the
// weights and the examples. 0 of a model of custom parameters.
uint64_t TrainingBytes(const ModelSpec& model, uint64_t batch_rows);

// Neighbouring parameters in layout order.
struct ParameterRange {
  uint64_t begin = 0;
  uint64_t count = 0;
  bool operator==(const ParameterRange&) const = default;
};
// Of the layers that are not personal, ascending, neighbours merged; the shared parameters of an
// update in this order are [shared] floats.
std::vector<ParameterRange> SharedRanges(const ModelSpec& model);
uint64_t SharedCount(const ModelSpec& model);

// What a client gives to a round of a valid task, before it is encoded: [shared] of the update;
// with SCAFFOLD another [shared] for the change of its control variate; with q-FedAvg one more for
// its h. Of analytics: the cells of all queries.
uint64_t ContributionDim(const TaskSpec& task);
// What the coordinator publishes for a round: [dim] weights; with SCAFFOLD, then the server's
// control variate [shared]. Of analytics: one zero.
uint64_t PublishedCount(const TaskSpec& task);

// SCAFFOLD: the second half of a contribution is the change of the client's control variate times
// this constant of the task, the learning rate times a client's steps. A control variate is a mean
// gradient, and so many steps along it make an update: both halves are of like norm under the one
// clip. The coordinator divides the mean of that half by it. Without `steps`, those of a client
// with encoding.examples_max examples count. (docs/algorithms.md) 0: no SCAFFOLD.
float ControlScale(const TaskSpec& task);
// q-FedAvg: the last coordinate of a contribution is the client's h times this constant of the
// task, at which the h of a client with a loss of fairness_loss and an update as large as the clip
// takes half of the clip. With `mean` the decoded contribution [shared + 1],
// the coordinator moves the model by mean[0 .. shared) / (mean[shared] / FairnessScale(task)), and
// not at all where mean[shared] is not above zero. (docs/algorithms.md) 0: FedAvg.
float FairnessScale(const TaskSpec& task);

// Canonical bytes, hashed into every session; integers big-endian. The model's description:
// "CHORUS1/model-spec" || inputs u32 || loss u8 || layers u32 || (units u32 || activation u8)*; and
// unless all layers are dense and every other field has its default, || axes u8 || shape u32* ||
// huber_delta binary32 || custom_parameters u64 || (kind u8 || personal u8 || kernel u32 ||
// stride u32 || padding u8 || vocabulary u32 || rate binary32 || span u32 || last_only u8)*. Its
// parameters' layout: "CHORUS1/layout" || element type u8 (1: binary32) || tensors u32 ||
// (rank u8 || dimensions u32*)*, where each layer gives its tensors in the order of LayerKind.
Bytes CanonicalModel(const ModelSpec& model);
Bytes CanonicalLayout(const ModelSpec& model);

// Glorot-uniform weights, zero biases [GB10]; embeddings of variance one, gains of one; custom
// parameters zero. [dim]
Weights InitialWeights(const ModelSpec& model, Rng& rng);

// kInvalidArgument unless the examples fit the model: their width, labels below the outputs or
// targets of their shape (exactly one of the two, as the loss needs; of next tokens neither), every
// number finite, token ids whole and below the vocabulary, at least one example. Next tokens may
// end in padding of -1 after two tokens. Nothing fits a model of custom parameters, which the
// host's own Trainer trains on data that it alone understands.
Status CheckExamples(const ModelSpec& model, const Examples& examples);

// What the model gives for each example, without dropout: logits where the loss is of logits, else
// what the last layer's activation gives. `features` [examples × inputs], of next tokens one fewer
// each; [examples × OutputCount]. kInvalidArgument when the sizes do not fit the model, or when
// token ids are not below the vocabulary.
Result<std::vector<float>> Predict(const ModelSpec& model, std::span<const float> weights,
                                   std::span<const float> features);

// Splits examples 0 to count - 1 into those to train on and those held back: `percent` of them (at
// most 90), rounded down, drawn from `rng` and so the same for one seed; both ascending. A draw of
// every k-th would hold back a single class where classes alternate. Of fewer than ten examples
// none is held back.
struct Split {
  std::vector<size_t> train;
  std::vector<size_t> held_back;
};
Split HoldBack(size_t count, uint32_t percent, Rng& rng);

struct Evaluation {
  uint64_t count = 0;
  double loss = 0;  // mean
  // Fraction of right labels; of next tokens, the mean over the examples of the fraction of theirs;
  // 0 for losses on targets.
  double accuracy = 0;
};

// One client's training in one round.
struct LocalTraining {
  const Examples* examples = nullptr;
  std::span<const size_t> rows;  // of the examples: what to train on, at least one
  uint64_t round = 0;            // from 0, for the schedule
  // [dim] of FedProx: where the round began; read with `proximal` only.
  std::span<const float> anchor = {};
  // [shared] of SCAFFOLD: the server's control variate less the client's, added to every gradient.
  // Empty: zeros.
  std::span<const float> correction = {};
};

// What trains and evaluates one model by one recipe: a network and the optimiser's state, in
// buffers that are made once and serve any number of clients in turn; nothing of one client reaches
// the next. All that it is given must fit the model: CheckExamples has passed, rows are of the
// examples. Thread-compatible.
class Learner {
 public:
  // kInvalidArgument: as ValidateModel and ValidateTraining, or a model that only the host's own
  // Trainer understands.
  static Result<std::unique_ptr<Learner>> Create(const ModelSpec& model,
                                                 const TrainingSpec& training);
  virtual ~Learner() = default;

  // Minibatches in an order drawn from `draws` anew each time that all rows have been used, of
  // which the last may be smaller; changes `weights` [dim] in place and gives back the number of
  // steps. kInvalidArgument: weights, rows, anchor or correction of another size, nothing has
  // changed. Else `weights` are spoilt: the failures of `stop` within one minibatch; kAborted when
  // the loss stops being finite (the rate is too high). The last step may leave weights that are
  // not finite.
  virtual Result<uint64_t> Train(const LocalTraining& local, std::span<float> weights, Rng& draws,
                                 const Stop& stop) = 0;
  // Of no rows: all zeros. kInvalidArgument: `weights` of another size; the failures of `stop`
  // within 256 examples; kAborted when the loss is not finite (the weights have diverged).
  virtual Result<Evaluation> Evaluate(const Examples& examples, std::span<const size_t> rows,
                                      std::span<const float> weights, const Stop& stop) = 0;
};

// Learner::Train on all examples in the first round, without a correction, from where `weights`
// [dim] are. kInvalidArgument when model, training, examples and weights do not fit together, with
// `weights` as they were; those of `stop` and kAborted, also for weights that are not finite in the
// end.
Status Train(const ModelSpec& model, const TrainingSpec& training, const Examples& examples,
             std::span<float> weights, Rng& draws, const Stop& stop);
// Learner::Evaluate on all examples. kInvalidArgument when model, examples and weights do not fit
// together.
Result<Evaluation> Evaluate(const ModelSpec& model, const Examples& examples,
                            std::span<const float> weights, const Stop& stop);

// Mean loss and its gradient [dim] on all `examples` as one batch: what Train follows, open to
// gradient checks. NaN, and `gradient` as it was, when the arguments do not fit together.
double LossAndGradient(const ModelSpec& model, const Examples& examples,
                       std::span<const float> weights, std::span<float> gradient);
// The same in double throughout, for numeric gradient checks.
double LossAndGradientDouble(const ModelSpec& model, const Examples& examples,
                             std::span<const double> weights, std::span<double> gradient);

// FedAvg: weights += rate * mean [MMRHA17, Alg. 1]. Sizes must match; what is beyond the shorter
// one is not touched.
void ApplyMean(std::span<float> weights, std::span<const float> mean, float rate);

}  // namespace chorus::learning
