// A network of fully connected layers over flat weights: forward and backward passes on a bounded
// number of rows, in buffers that are made once. Internal to learning, where Eigen ends.
#pragma once

#include <Eigen/Core>
#include <cstdint>
#include <span>
#include <vector>

#include "chorus/client.h"
#include "chorus/model.h"

namespace chorus::learning {

// `Scalar` is float or double. The model must be valid, and the examples must fit it. Where
// `weights` or `sink` [dim] stand in memory does not change a bit of the results.
// Thread-compatible.
template <typename Scalar>
class Network {
 public:
  // Holds at most `rows_wanted` rows at a time, and fewer where activations of so many would take
  // more than 64 MiB; always at least one.
  Network(const ModelSpec& model, size_t rows_wanted);

  size_t rows_max() const { return rows_max_; }

  struct Outcome {
    double loss = 0;     // summed over the rows
    uint64_t right = 0;  // rows whose largest output is at their label; 0 for squared error
  };
  // Runs the examples at `rows` (1 to rows_max() of them) through the network and keeps what
  // Backward needs.
  Outcome Forward(std::span<const Scalar> weights, const Examples& examples,
                  std::span<const size_t> rows);

  // sink += scale * (gradient of the summed loss of the last Forward). `sink` may be `weights`
  // itself: every layer is read before it is written. After it, another Forward must come first.
  void Backward(std::span<const Scalar> weights, Scalar scale, std::span<Scalar> sink);

 private:
  // Eigen aligns the memory of its own matrices, and where vector instructions begin is then the
  // same in every run.
  using Matrix = Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  struct Layer {
    Eigen::Index inputs = 0;
    Eigen::Index units = 0;
    size_t weights_at = 0;  // W in the flat vector; the bias follows it
    Activation activation = Activation::kNone;
    Matrix outputs;  // [rows_max × units]
    Matrix delta;    // [rows_max × units] derivative of the summed loss by W * input + bias
  };

  void Gather(const Examples& examples, std::span<const size_t> rows);
  Outcome CrossEntropy(const Examples& examples, std::span<const size_t> rows);
  Outcome SquaredError(const Examples& examples, std::span<const size_t> rows);

  Loss loss_;
  size_t rows_max_;
  Eigen::Index rows_ = 0;  // of the last Forward
  Matrix features_;        // [rows_max × inputs]
  std::vector<Layer> layers_;
};

extern template class Network<float>;
extern template class Network<double>;

}  // namespace chorus::learning
