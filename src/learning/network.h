// A network over flat weights: forward and backward passes on a bounded number of rows, in buffers
// that are made once. Internal to learning.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "base/pace.h"
#include "base/random.h"
#include "chorus/client.h"
#include "chorus/model.h"
#include "learning/kernels.h"

namespace chorus::learning {

// `Scalar` is float or double. The model must be valid and not custom, and the examples must fit
// it. Where `weights` or `sink` [dim] stand in memory does not change a bit of the results. Nothing
// of one Forward and its Backward is left for the next, so that one network serves many clients in
// turn. Thread-compatible.
template <typename Scalar>
class Network {
 public:
  // Holds at most `rows_wanted` rows at a time, and fewer where activations of so many would take
  // more than 64 MiB; always at least one.
  Network(const ModelSpec& model, size_t rows_wanted);
  // The same on a path of the kernels that the caller chose; `kernels` must outlive the network.
  Network(const ModelSpec& model, size_t rows_wanted, const Kernels<Scalar>& kernels);
  ~Network();
  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;

  size_t rows_max() const;
  // From now on, passes take a breath of `pace` every 50 microseconds or so; null: none.
  void Follow(Pace* pace);

  struct Outcome {
    double loss = 0;  // summed over the rows
    // Summed over the rows, of which one counts 1 when its largest output is at its label, or when
    // its single logit has its label's side; under kNextToken, the fraction of its positions that
    // are no padding whose largest output is at the next token. 0 for losses on targets.
    double right = 0;
    uint64_t predictions = 0;  // rows; under kNextToken, positions that are no padding
  };
  // Runs the examples at `rows` (1 to rows_max() of them) through the network and keeps what
  // Backward needs. In training `dropout` gives the draws of dropout layers; null is evaluation,
  // without dropout.
  Outcome Forward(std::span<const Scalar> weights, const Examples& examples,
                  std::span<const size_t> rows, Rng* dropout);

  // sink += scale * (gradient of the summed loss of the last Forward). `sink` may be `weights`
  // itself: every layer is read before it is written. After it, another Forward must come first.
  void Backward(std::span<const Scalar> weights, Scalar scale, std::span<Scalar> sink);

  // What the last layer gives for `features` [1 to rows_max() × inputs of the network, which are
  // one fewer than the model's under kNextToken]: [rows × outputs], valid until the next call.
  std::span<const Scalar> Predict(std::span<const Scalar> weights, std::span<const float> features);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

extern template class Network<float>;
extern template class Network<double>;

}  // namespace chorus::learning
