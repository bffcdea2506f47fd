// The gated recurrent unit [CMGBBSB14], in the form and order of gates that ONNX calls
// linear_before_reset. What the inputs contribute to the gates of all steps is one product; only
// the state's share goes step by step.
#include <algorithm>

#include "learning/layers.h"

namespace chorus::learning {
namespace {

template <typename Scalar>
class Gru final : public Layer<Scalar> {
 public:
  Gru(const LayerSpec& spec, const LayerShapes& shapes, size_t rows)
      : last_only_(spec.last_only),
        steps_(shapes.input.axes[0]),
        features_(shapes.input.axes[1]),
        units_(spec.units),
        scratch_(GruScratch(spec, shapes).each_row * rows + GruScratch(spec, shapes).fixed),
        turned_(scratch_.data()),
        gates_(turned_ + 3 * units_ * units_),
        kept_(gates_ + rows * steps_ * 3 * units_),
        states_(kept_ + rows * steps_ * units_),
        shares_(states_ + rows * (steps_ + 1) * units_),
        delta_(shares_ + rows * (steps_ + 1) * 3 * units_) {}

  void Forward(const Pass<Scalar>& pass) override {
    const Scalar* const input_bias = Recurrent(pass.weights) + 3 * units_ * units_;
    pass.kernels->multiply({.m = pass.rows * steps_,
                            .n = 3 * units_,
                            .k = features_,
                            .a = pass.input,
                            .a_row = features_,
                            .a_column = 1,
                            .b = pass.weights,
                            .b_row = 1,
                            .b_column = features_,
                            .c = gates_,
                            .c_row = 3 * units_,
                            .bias = input_bias,
                            .pace = pass.pace},
                           pass.workspace);
    Turn(Recurrent(pass.weights), pass.pace);
    InRows(pass.pace, pass.rows, units_, [&](RowGroup group) {
      for (size_t i = 0; i < group.count; ++i)
        std::fill_n(StateAt(group.first + i, 0), units_, Scalar{0});
    });
    for (size_t t = 0; t < steps_; ++t) {
      pass.kernels->multiply({.m = pass.rows,
                              .n = 3 * units_,
                              .k = units_,
                              .a = StateAt(0, t),
                              .a_row = (steps_ + 1) * units_,
                              .a_column = 1,
                              .b = turned_,
                              .b_row = 3 * units_,
                              .b_column = 1,
                              .c = shares_,
                              .c_row = 3 * units_,
                              .bias = input_bias + 3 * units_,
                              .pace = pass.pace},
                             pass.workspace);
      InRows(pass.pace, pass.rows, units_, [&](RowGroup group) {
        GruStep<Scalar> step = StepAt(group, t);
        step.recurrent = shares_ + group.first * 3 * units_;
        step.recurrent_row = 3 * units_;
        step.after = StateAt(group.first, t + 1);
        pass.kernels->gru_forward(step);
      });
    }
    const size_t outputs = last_only_ ? 1 : steps_;
    for (size_t row = 0; row < pass.rows; ++row) {
      const Scalar* const from = StateAt(row, steps_ + 1 - outputs);
      Scalar* const to = pass.output + row * outputs * units_;
      InPieces(pass.pace, outputs * units_,
               [&](size_t begin, size_t end) { std::copy(from + begin, from + end, to + begin); });
    }
  }

  void Backward(const Pass<Scalar>& pass) override {
    // Derivatives by the state's shares of the gates, where their values were: [rows × steps + 1 ×
    // 3 units], with zeros at the last, so that one product with the states sums over all steps.
    const size_t width = 3 * units_;
    const size_t shares_row = (steps_ + 1) * width;
    InRows(pass.pace, pass.rows, 4 * units_, [&](RowGroup group) {
      for (size_t row = group.first; row < group.first + group.count; ++row) {
        std::fill_n(shares_ + row * shares_row + steps_ * width, width, Scalar{0});
        std::fill_n(delta_ + row * units_, units_, Scalar{0});
      }
    });
    for (size_t t = steps_; t-- > 0;) {
      InRows(pass.pace, pass.rows, units_, [&](RowGroup group) {
        AddOutputs(pass, group, t);
        GruStep<Scalar> step = StepAt(group, t);
        step.recurrent = shares_ + group.first * shares_row + t * width;
        step.recurrent_row = shares_row;
        step.delta = delta_ + group.first * units_;
        pass.kernels->gru_backward(step);
      });
      if (t == 0) break;  // nobody asks for the derivative by the zero state
      pass.kernels->multiply({.m = pass.rows,
                              .n = units_,
                              .k = width,
                              .a = shares_ + t * width,
                              .a_row = shares_row,
                              .a_column = 1,
                              .b = Recurrent(pass.weights),
                              .b_row = units_,
                              .b_column = 1,
                              .c = delta_,
                              .c_row = units_,
                              .add = true,
                              .pace = pass.pace},
                             pass.workspace);
    }
    AddGradients(pass);
  }

 private:
  const Scalar* Recurrent(const Scalar* weights) const { return weights + 3 * units_ * features_; }
  Scalar* StateAt(size_t row, size_t t) const {
    return states_ + (row * (steps_ + 1) + t) * units_;
  }

  GruStep<Scalar> StepAt(RowGroup group, size_t t) const {
    return {.rows = group.count,
            .units = units_,
            .row = steps_ * 3 * units_,
            .gates = gates_ + (group.first * steps_ + t) * 3 * units_,
            .kept = kept_ + (group.first * steps_ + t) * units_,
            .kept_row = steps_ * units_,
            .before = StateAt(group.first, t),
            .state_row = (steps_ + 1) * units_};
  }

  // The recurrent weights [3 units × units] as [units × 3 units], once for all steps; in strips as
  // wide as a line of the cache.
  void Turn(const Scalar* weights, Pace* pace) const {
    constexpr size_t kStrip = 64 / sizeof(Scalar);
    for (size_t first = 0; first < units_; first += kStrip) {
      Breathe(pace);
      const size_t end = std::min(first + kStrip, units_);
      for (size_t gate = 0; gate < 3 * units_; ++gate) {
        for (size_t i = first; i < end; ++i) {
          turned_[i * 3 * units_ + gate] = weights[gate * units_ + i];
        }
      }
    }
  }

  // Adds the derivative by the outputs of step t to that by its state.
  void AddOutputs(const Pass<Scalar>& pass, RowGroup group, size_t t) const {
    if (last_only_ && t + 1 < steps_) return;
    for (size_t row = group.first; row < group.first + group.count; ++row) {
      const size_t place = last_only_ ? row : row * steps_ + t;
      const Scalar* const from = pass.delta + place * units_;
      Scalar* const to = delta_ + row * units_;
      for (size_t unit = 0; unit < units_; ++unit) to[unit] += from[unit];
    }
  }

  void AddGradients(const Pass<Scalar>& pass) const {
    const size_t width = 3 * units_;
    const size_t m = pass.rows * steps_;
    const size_t padded = pass.rows * (steps_ + 1);
    if (pass.delta_input != nullptr) {
      pass.kernels->multiply({.m = m,
                              .n = features_,
                              .k = width,
                              .a = gates_,
                              .a_row = width,
                              .a_column = 1,
                              .b = pass.weights,
                              .b_row = features_,
                              .b_column = 1,
                              .c = pass.delta_input,
                              .c_row = features_,
                              .pace = pass.pace},
                             pass.workspace);
    }
    const auto add = [&](const Scalar* delta, const Scalar* values, size_t count, size_t n,
                         Scalar* sink) {
      pass.kernels->multiply({.m = width,
                              .n = n,
                              .k = count,
                              .a = delta,
                              .a_row = 1,
                              .a_column = width,
                              .b = values,
                              .b_row = n,
                              .b_column = 1,
                              .c = sink,
                              .c_row = n,
                              .add = true,
                              .pace = pass.pace},
                             pass.workspace);
    };
    Scalar* const recurrent = pass.sink + width * features_;
    Scalar* const biases = recurrent + width * units_;
    add(gates_, pass.input, m, features_, pass.sink);
    add(shares_, states_, padded, units_, recurrent);
    AddRows(pass, gates_, m, width, biases);
    AddRows(pass, shares_, padded, width, biases + width);
  }

  bool last_only_;
  size_t steps_;
  size_t features_;
  size_t units_;
  Buffer<Scalar> scratch_;
  Scalar* turned_;  // [units × 3 units]
  Scalar* gates_;   // [rows × steps × 3 units] z, r and h of each step; then derivatives
  Scalar* kept_;    // [rows × steps × units] the state's share of h
  Scalar* states_;  // [rows × steps + 1 × units] before each step, and after the last
  Scalar* shares_;  // [rows × 3 units] of the state in the gates of one step; then see Backward
  Scalar* delta_;   // [rows × units] by the state after a step
};

}  // namespace

Scratch GruScratch(const LayerSpec& spec, const LayerShapes& shapes) {
  const uint64_t steps = shapes.input.axes[0];
  const uint64_t units = spec.units;
  return {.each_row = units * (4 * steps + 4 * (steps + 1) + 1), .fixed = 3 * units * units};
}

template <typename Scalar>
std::unique_ptr<Layer<Scalar>> MakeGru(const LayerSpec& spec, const LayerShapes& shapes,
                                       size_t rows) {
  return std::make_unique<Gru<Scalar>>(spec, shapes, rows);
}

template std::unique_ptr<Layer<float>> MakeGru<float>(const LayerSpec& spec,
                                                      const LayerShapes& shapes, size_t rows);
template std::unique_ptr<Layer<double>> MakeGru<double>(const LayerSpec& spec,
                                                        const LayerShapes& shapes, size_t rows);

}  // namespace chorus::learning
