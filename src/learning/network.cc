#include "learning/network.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "base/limits.h"
#include "learning/layers.h"
#include "learning/learning.h"
#include "learning/losses.h"
#include "learning/shapes.h"

namespace chorus::learning {
namespace {

constexpr uint64_t kBufferBytesMax = uint64_t{64} << 20U;

// Of a valid model that is not custom.
std::vector<LayerShapes> ShapesOf(const ModelSpec& model) {
  Result<std::vector<LayerShapes>> shapes = InferShapes(model);
  return shapes.ok() ? *std::move(shapes) : std::vector<LayerShapes>();
}

// What a network holds, in scalars: the features, each layer's outputs and their derivatives, what
// layers keep beside those, and the kernels' workspace.
Scratch ScratchOfNetwork(const ModelSpec& model, const std::vector<LayerShapes>& layers) {
  Scratch all{.each_row = layers.front().input.count(), .fixed = kWorkspaceCount};
  for (size_t i = 0; i < layers.size(); ++i) {
    const Scratch one = ScratchOf(model.layers[i], layers[i]);
    const bool flat = model.layers[i].kind == LayerKind::kFlatten;
    all.each_row += one.each_row + (flat ? 0 : 2 * layers[i].output.count());
    all.fixed += one.fixed;
  }
  return all;
}

uint64_t WorkOf(const std::vector<LayerShapes>& layers) {
  uint64_t work = 1;
  for (const LayerShapes& layer : layers) work += layer.work;
  return work;
}

// Rows that go through the layers at once: as many as memory allows, and as few as it takes to be
// heard soon that training is cancelled.
size_t RowsThatFit(const std::vector<LayerShapes>& layers, uint64_t row_bytes,
                   uint64_t rows_wanted) {
  const uint64_t rows =
      std::min(kBufferBytesMax / row_bytes, limits::kPieceWorkMax / WorkOf(layers));
  return std::max<uint64_t>(1, std::min(rows_wanted, rows));
}

}  // namespace

template <typename Scalar>
struct Network<Scalar>::State {
  struct Node {
    LayerShapes shapes;
    size_t added_from = 0;  // of residual: the layer whose input is added
    bool residual = false;
    std::unique_ptr<Layer<Scalar>> layer;  // null: flatten, whose numbers are the layer's below
    Scalar* output = nullptr;              // [rows_max × output]
    Scalar* delta = nullptr;  // [rows_max × output] derivative of the summed loss by it
  };

  State(const ModelSpec& spec, size_t rows_wanted, const Kernels<Scalar>& chosen)
      : State(spec, rows_wanted, chosen, ShapesOf(spec)) {}
  State(const ModelSpec& spec, size_t rows_wanted, const Kernels<Scalar>& chosen,
        const std::vector<LayerShapes>& shapes);

  // Input of layer i, and where its derivative belongs: nowhere for the features.
  const Scalar* InputOf(size_t i) const { return i > 0 ? nodes[i - 1].output : features.data(); }
  Scalar* DeltaBelow(size_t i) const { return i > 0 ? nodes[i - 1].delta : nullptr; }

  Pass<Scalar> PassOf(size_t i, std::span<const Scalar> weights) {
    return {.kernels = &kernels,
            .workspace = workspace.data(),
            .rows = rows,
            .weights = weights.data() + nodes[i].shapes.weights_at,
            .input = InputOf(i),
            .output = nodes[i].output,
            .pace = pace};
  }
  void Run(std::span<const Scalar> weights, Rng* dropout);
  void RunBack(size_t i, std::span<const Scalar> weights, std::span<Scalar> sink);

  ModelSpec model;
  const Kernels<Scalar>& kernels;
  size_t rows_max;
  size_t inputs;
  size_t rows = 0;  // of the last Forward
  Pace* pace = nullptr;
  Buffer<Scalar> workspace;
  Buffer<Scalar> features;  // [rows_max × inputs]
  std::vector<Buffer<Scalar>> buffers;
  std::vector<Node> nodes;
};

template <typename Scalar>
Network<Scalar>::State::State(const ModelSpec& spec, size_t rows_wanted,
                              const Kernels<Scalar>& chosen, const std::vector<LayerShapes>& shapes)
    : model(spec),
      kernels(chosen),
      rows_max(RowsThatFit(shapes, ScratchOfNetwork(spec, shapes).each_row * sizeof(Scalar),
                           rows_wanted)),
      inputs(shapes.front().input.count()),
      workspace(kWorkspaceCount),
      features(rows_max * inputs) {
  nodes.resize(shapes.size());
  buffers.reserve(2 * shapes.size());
  for (size_t i = 0; i < shapes.size(); ++i) {
    Node& node = nodes[i];
    node.shapes = shapes[i];
    node.residual = spec.layers[i].kind == LayerKind::kResidual;
    if (node.residual) node.added_from = i - spec.layers[i].span;
    node.layer = MakeLayer<Scalar>(spec.layers[i], shapes[i], rows_max);
    if (node.layer == nullptr) {
      node.output = i > 0 ? nodes[i - 1].output : features.data();
      node.delta = DeltaBelow(i);
      continue;
    }
    const size_t count = rows_max * shapes[i].output.count();
    node.output = buffers.emplace_back(count).data();
    node.delta = buffers.emplace_back(count).data();
  }
}

template <typename Scalar>
void Network<Scalar>::State::Run(std::span<const Scalar> weights, Rng* dropout) {
  for (size_t i = 0; i < nodes.size(); ++i) {
    const Node& node = nodes[i];
    if (node.layer == nullptr) continue;
    Pass<Scalar> pass = PassOf(i, weights);
    pass.dropout = dropout;
    if (node.residual) {
      const Scalar* const below = pass.input;
      const Scalar* const added = InputOf(node.added_from);
      const size_t count = rows * node.shapes.output.count();
      InPieces(pace, count, [&](size_t begin, size_t end) {
        for (size_t j = begin; j < end; ++j) node.output[j] = below[j] + added[j];
      });
    }
    node.layer->Forward(pass);
  }
}

template <typename Scalar>
void Network<Scalar>::State::RunBack(size_t i, std::span<const Scalar> weights,
                                     std::span<Scalar> sink) {
  const Node& node = nodes[i];
  if (node.layer != nullptr) {
    Pass<Scalar> pass = PassOf(i, weights);
    pass.delta = node.delta;
    pass.delta_input = DeltaBelow(i);
    pass.sink = sink.data() + node.shapes.weights_at;
    node.layer->Backward(pass);
  }
  Scalar* const to = DeltaBelow(i);
  if (to == nullptr) return;
  // What residuals above add of this layer's input flows back past the layers between.
  const size_t count = rows * node.shapes.input.count();
  for (size_t above = i + 1; above < nodes.size(); ++above) {
    if (!nodes[above].residual || nodes[above].added_from != i) continue;
    const Scalar* const from = nodes[above].delta;
    InPieces(pace, count, [&](size_t begin, size_t end) {
      for (size_t j = begin; j < end; ++j) to[j] += from[j];
    });
  }
}

template <typename Scalar>
Network<Scalar>::Network(const ModelSpec& model, size_t rows_wanted)
    : Network(model, rows_wanted, FastestKernels<Scalar>()) {}

template <typename Scalar>
Network<Scalar>::Network(const ModelSpec& model, size_t rows_wanted, const Kernels<Scalar>& kernels)
    : state_(std::make_unique<State>(model, rows_wanted, kernels)) {}

template <typename Scalar>
Network<Scalar>::~Network() = default;

template <typename Scalar>
size_t Network<Scalar>::rows_max() const {
  return state_->rows_max;
}

template <typename Scalar>
void Network<Scalar>::Follow(Pace* pace) {
  state_->pace = pace;
}

template <typename Scalar>
typename Network<Scalar>::Outcome Network<Scalar>::Forward(std::span<const Scalar> weights,
                                                           const Examples& examples,
                                                           std::span<const size_t> rows,
                                                           Rng* dropout) {
  Scalar* to = state_->features.data();
  for (const size_t row : rows) {
    Breathe(state_->pace);
    const float* const from = examples.features.data() + row * examples.inputs;
    to = std::copy(from, from + state_->inputs, to);
  }
  state_->rows = rows.size();
  state_->Run(weights, dropout);
  const auto& last = state_->nodes.back();
  const LossSums sums = SumLosses(state_->model, last.shapes.output, state_->kernels, examples,
                                  rows, last.output, last.delta, state_->pace);
  return {.loss = sums.loss, .right = sums.right, .predictions = sums.predictions};
}

template <typename Scalar>
void Network<Scalar>::Backward(std::span<const Scalar> weights, Scalar scale,
                               std::span<Scalar> sink) {
  const auto& last = state_->nodes.back();
  const size_t count = state_->rows * last.shapes.output.count();
  InPieces(state_->pace, count, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) last.delta[i] *= scale;
  });
  for (size_t i = state_->nodes.size(); i-- > 0;) state_->RunBack(i, weights, sink);
}

template <typename Scalar>
std::span<const Scalar> Network<Scalar>::Predict(std::span<const Scalar> weights,
                                                 std::span<const float> features) {
  std::copy(features.begin(), features.end(), state_->features.data());
  state_->rows = features.size() / state_->inputs;
  state_->Run(weights, nullptr);
  const auto& last = state_->nodes.back();
  return {last.output, state_->rows * last.shapes.output.count()};
}

template class Network<float>;
template class Network<double>;

Result<std::vector<float>> Predict(const ModelSpec& model, std::span<const float> weights,
                                   std::span<const float> features) {
  constexpr size_t kRows = 256;
  CHORUS_TRY(ValidateModel(model));
  if (model.custom_parameters != 0)
    return InvalidArgument("only the game's own trainer understands a model of custom parameters");
  CHORUS_TRY_ASSIGN(const std::vector<LayerShapes> shapes, InferShapes(model));
  const size_t inputs = shapes.front().input.count();
  if (weights.size() != ParameterCount(model) || features.size() % inputs != 0)
    return InvalidArgument("the model takes " + std::to_string(ParameterCount(model)) +
                           " weights and " + std::to_string(inputs) + " features an example");
  if (model.layers.front().kind == LayerKind::kEmbedding)
    CHORUS_TRY(CheckTokens(features, model.layers.front().vocabulary));
  const size_t outputs = shapes.back().output.count();
  Network<float> network(model, std::min(kRows, features.size() / inputs));
  std::vector<float> all;
  all.reserve(features.size() / inputs * outputs);
  while (!features.empty()) {
    const size_t count = std::min(features.size(), network.rows_max() * inputs);
    const std::span<const float> piece = network.Predict(weights, features.first(count));
    all.insert(all.end(), piece.begin(), piece.end());
    features = features.subspan(count);
  }
  return all;
}

uint64_t TrainingBytes(const ModelSpec& model, uint64_t batch_rows) {
  if (model.custom_parameters != 0) return 0;
  const std::vector<LayerShapes> shapes = ShapesOf(model);
  if (shapes.empty()) return 0;
  const Scratch scratch = ScratchOfNetwork(model, shapes);
  const uint64_t row_bytes = scratch.each_row * sizeof(float);
  return RowsThatFit(shapes, row_bytes, batch_rows) * row_bytes + scratch.fixed * sizeof(float);
}

}  // namespace chorus::learning
