#include "cli/onnx_graph.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "learning/learning.h"
#include "learning/shapes.h"

namespace chorus::cli {
namespace {

using learning::LayerShapes;
using wire::OnnxAttribute;
using wire::OnnxNode;

constexpr float kLayerNormEpsilon = 1e-5F;

// What a layer gives: images may stand channels first, as ONNX's windows want them, until someone
// needs them otherwise.
struct Value {
  std::string name;
  bool channels_first = false;
};

OnnxAttribute One(std::string name, int64_t value) {
  return {.name = std::move(name), .list = false, .values = {value}};
}
OnnxAttribute Many(std::string name, std::vector<int64_t> values) {
  return {.name = std::move(name), .list = true, .values = std::move(values)};
}

bool HasTokens(const ModelSpec& model) {
  return model.layers.front().kind == LayerKind::kEmbedding;
}

// [rows × columns] to [columns × rows].
std::vector<float> Transposed(std::span<const float> matrix, size_t rows, size_t columns) {
  std::vector<float> transposed(matrix.size());
  for (size_t row = 0; row < rows; ++row) {
    for (size_t column = 0; column < columns; ++column) {
      transposed[column * rows + row] = matrix[row * columns + column];
    }
  }
  return transposed;
}

class GraphBuilder {
 public:
  GraphBuilder(const ModelSpec& model, std::span<const float> weights,
               const std::vector<LayerShapes>& shapes, const OnnxOptions& options)
      : model_(model), weights_(weights), shapes_(shapes), options_(options) {}

  Result<wire::OnnxModel> Build() {
    graph_.name = "chorus";
    Value value = Input();
    for (size_t i = 0; i < model_.layers.size(); ++i) {
      layer_ = "layer" + std::to_string(i + 1);
      before_.push_back(value);
      value = Apply(i, value);
    }
    layer_ = "output";
    value = ChannelsLast(value);
    if (options_.probabilities) {
      const bool single = model_.loss == Loss::kBinaryCrossEntropy;
      value.name = single ? Node("Sigmoid", {value.name}) : Softmax(value.name);
    }
    NameOutput(value.name);
    return std::move(graph_);
  }

 private:
  // --- names, constants, nodes ---

  std::string Fresh(const std::string& what) {
    return layer_ + "_" + what + "_" + std::to_string(++count_);
  }

  std::string Node(const std::string& op, std::vector<std::string> inputs,
                   std::vector<OnnxAttribute> attributes = {}) {
    std::string output = Fresh(op);
    graph_.nodes.push_back({.op = op,
                            .inputs = std::move(inputs),
                            .outputs = {output},
                            .attributes = std::move(attributes)});
    return output;
  }

  std::string Floats(const std::string& what, std::vector<int64_t> axes,
                     std::vector<float> values) {
    graph_.constants.push_back({.name = layer_ + "_" + what,
                                .axes = std::move(axes),
                                .floats = std::move(values),
                                .integers = {}});
    return graph_.constants.back().name;
  }

  // Numbers that layers share under one name.
  std::string Scalar(const std::string& name, float value) {
    return Shared({.name = name, .axes = {}, .floats = {value}, .integers = {}});
  }
  std::string Integers(const std::string& name, std::vector<int64_t> values) {
    const auto count = static_cast<int64_t>(values.size());
    return Shared({.name = name, .axes = {count}, .floats = {}, .integers = std::move(values)});
  }
  std::string Index(uint32_t value) {
    return Shared(
        {.name = "index_" + std::to_string(value), .axes = {}, .floats = {}, .integers = {value}});
  }
  std::string Shared(wire::OnnxTensor tensor) {
    const std::string name = tensor.name;
    if (shared_.insert(name).second) graph_.constants.push_back(std::move(tensor));
    return name;
  }

  // Tensor `index` of the layer's parameters.
  std::span<const float> Tensor(const LayerShapes& shapes, uint32_t index) const {
    uint64_t at = shapes.weights_at;
    for (uint32_t i = 0; i < index; ++i) at += shapes.tensors[i].count();
    return weights_.subspan(at, shapes.tensors[index].count());
  }
  std::string Vector(const std::string& what, std::span<const float> values) {
    return Floats(what, {static_cast<int64_t>(values.size())}, {values.begin(), values.end()});
  }

  // --- the ends ---

  Value Input() {
    const learning::Shape& shape = shapes_.front().input;
    layer_ = "input";
    if (HasTokens(model_)) {
      const int64_t tokens = options_.gru == GruForm::kCell ? 1 : shape.axes[0];
      graph_.inputs.push_back({.name = "tokens", .integers = true, .axes = {tokens}});
      return {.name = "tokens"};
    }
    const bool cell = options_.gru == GruForm::kCell && shape.rank == 2;
    const int64_t inputs = cell ? shape.axes[1] : static_cast<int64_t>(shape.count());
    graph_.inputs.push_back({.name = "features", .integers = false, .axes = {inputs}});
    if (shape.rank == 1) return {.name = "features"};
    std::vector<int64_t> axes = {0};  // the batch as it is
    for (uint32_t i = 0; i < shape.rank; ++i) axes.push_back(shape.axes[i]);
    if (cell) axes[1] = 1;
    return {.name = Node("Reshape", {"features", Integers("input_shape", axes)})};
  }

  void NameOutput(const std::string& name) {
    const std::string output = options_.probabilities ? "probabilities" : "outputs";
    const auto node = std::find_if(graph_.nodes.begin(), graph_.nodes.end(),
                                   [&name](const OnnxNode& n) { return n.outputs[0] == name; });
    const bool read = std::any_of(graph_.nodes.begin(), graph_.nodes.end(), [&](const OnnxNode& n) {
      return std::find(n.inputs.begin(), n.inputs.end(), name) != n.inputs.end();
    });
    if (node == graph_.nodes.end() || read) {
      graph_.nodes.push_back(
          {.op = "Identity", .inputs = {name}, .outputs = {output}, .attributes = {}});
    } else {
      node->outputs[0] = output;
    }
    const learning::Shape& shape = shapes_.back().output;
    wire::OnnxValue value{.name = output, .integers = false, .axes = {}};
    for (uint32_t i = 0; i < shape.rank; ++i) value.axes.push_back(shape.axes[i]);
    if (options_.gru == GruForm::kCell && shape.rank == 2) value.axes[0] = 1;
    // The states of cells come after it.
    graph_.outputs.insert(graph_.outputs.begin(), std::move(value));
  }

  // --- layers ---

  Value ChannelsLast(const Value& value) {
    if (!value.channels_first) return value;
    return {.name = Node("Transpose", {value.name}, {Many("perm", {0, 2, 3, 1})})};
  }
  Value ChannelsFirst(const Value& value) {
    if (value.channels_first) return value;
    return {.name = Node("Transpose", {value.name}, {Many("perm", {0, 3, 1, 2})}),
            .channels_first = true};
  }

  Value Apply(size_t index, const Value& input) {
    const LayerSpec& layer = model_.layers[index];
    const LayerShapes& shapes = shapes_[index];
    switch (layer.kind) {
      case LayerKind::kDense:
        return Activated(layer.activation, {.name = Dense(shapes, ChannelsLast(input).name)});
      case LayerKind::kConv2d:
        return Activated(layer.activation, Conv(layer, shapes, ChannelsFirst(input)));
      case LayerKind::kMaxPool2d:
        return {.name = Node("MaxPool", {ChannelsFirst(input).name}, Window(layer, shapes)),
                .channels_first = true};
      case LayerKind::kEmbedding:
        return {.name = Node("Gather", {EmbeddingRows(shapes), input.name}, {One("axis", 0)})};
      case LayerKind::kGru:
        return {.name = options_.gru == GruForm::kOperator ? GruOperator(layer, shapes, input.name)
                                                           : GruCells(layer, shapes, input.name)};
      case LayerKind::kLayerNorm:
        return Activated(layer.activation, {.name = LayerNorm(shapes, ChannelsLast(input).name)});
      case LayerKind::kDropout:
        return input;
      case LayerKind::kFlatten:
        return {.name = Node("Flatten", {ChannelsLast(input).name}, {One("axis", 1)})};
      case LayerKind::kResidual:
        return Activated(layer.activation,
                         {.name = Node("Add", {ChannelsLast(input).name,
                                               ChannelsLast(before_[index - layer.span]).name})});
    }
    return input;
  }

  Value Activated(Activation activation, const Value& value) {
    switch (activation) {
      case Activation::kNone:
        return value;
      case Activation::kRelu:
        return {Node("Relu", {value.name}), value.channels_first};
      case Activation::kTanh:
        return {Node("Tanh", {value.name}), value.channels_first};
      case Activation::kSigmoid:
        return {Node("Sigmoid", {value.name}), value.channels_first};
      case Activation::kGelu: {
        // x / 2 * (1 + erf(x / sqrt 2)) [HG16]
        const std::string scaled = Node(
            "Mul", {value.name, Scalar("half_sqrt2", static_cast<float>(std::numbers::sqrt2 / 2))});
        const std::string sum = Node("Add", {Node("Erf", {scaled}), Scalar("one", 1)});
        const std::string half = Node("Mul", {value.name, Scalar("half", 0.5F)});
        return {Node("Mul", {half, sum}), value.channels_first};
      }
      case Activation::kSoftmax:
        return {.name = Softmax(ChannelsLast(value).name)};
    }
    return value;
  }

  std::string Softmax(const std::string& value) {
    return Node("Softmax", {value}, {One("axis", -1)});
  }

  // Tensor `index`, a matrix, as it lies.
  std::string Matrix(const std::string& what, const LayerShapes& shapes, uint32_t index) {
    const learning::Shape& shape = shapes.tensors[index];
    const std::span<const float> values = Tensor(shapes, index);
    return Floats(what, {shape.axes[0], shape.axes[1]}, {values.begin(), values.end()});
  }
  // Likewise, for products from the right.
  std::string MatrixTransposed(const std::string& what, const LayerShapes& shapes, uint32_t index) {
    const learning::Shape& shape = shapes.tensors[index];
    return Floats(what, {shape.axes[1], shape.axes[0]},
                  Transposed(Tensor(shapes, index), shape.axes[0], shape.axes[1]));
  }

  // A last row of zeros is what index -1 finds: padding, which embeds as nothing.
  std::string EmbeddingRows(const LayerShapes& shapes) {
    const learning::Shape& shape = shapes.tensors[0];
    const std::span<const float> values = Tensor(shapes, 0);
    std::vector<float> rows(values.size() + shape.axes[1]);
    std::copy(values.begin(), values.end(), rows.begin());
    return Floats("weights", {int64_t{shape.axes[0]} + 1, shape.axes[1]}, std::move(rows));
  }

  std::string Dense(const LayerShapes& shapes, const std::string& input) {
    if (shapes.input.rank == 1) {
      return Node("Gemm", {input, Matrix("weights", shapes, 0), Vector("bias", Tensor(shapes, 1))},
                  {One("transB", 1)});
    }
    const std::string product = Node("MatMul", {input, MatrixTransposed("weights", shapes, 0)});
    return Node("Add", {product, Vector("bias", Tensor(shapes, 1))});
  }

  std::vector<OnnxAttribute> Window(const LayerSpec& layer, const LayerShapes& shapes) const {
    std::vector<int64_t> pads(4);
    for (const size_t axis : {size_t{0}, size_t{1}}) {
      const uint32_t size = shapes.input.axes[axis];
      const uint32_t size_out = shapes.output.axes[axis];
      const int64_t covered = int64_t{size_out - 1} * layer.stride + layer.kernel;
      const int64_t before = learning::PaddingBefore(layer, size, size_out);
      pads[axis] = before;
      if (layer.padding == Padding::kSame) {
        pads[axis + 2] = std::max<int64_t>(covered - size - before, 0);
      }
    }
    return {Many("kernel_shape", {layer.kernel, layer.kernel}), Many("pads", pads),
            Many("strides", {layer.stride, layer.stride})};
  }

  Value Conv(const LayerSpec& layer, const LayerShapes& shapes, const Value& input) {
    const size_t channels = shapes.input.axes[2];
    const size_t area = size_t{layer.kernel} * layer.kernel;
    const std::span<const float> from = Tensor(shapes, 0);
    std::vector<float> weights;  // of each unit [channels × kernel × kernel]
    weights.reserve(from.size());
    for (size_t unit = 0; unit < layer.units; ++unit) {
      const std::vector<float> own =
          Transposed(from.subspan(unit * area * channels, area * channels), area, channels);
      weights.insert(weights.end(), own.begin(), own.end());
    }
    const std::string w =
        Floats("weights", {layer.units, static_cast<int64_t>(channels), layer.kernel, layer.kernel},
               std::move(weights));
    return {.name = Node("Conv", {input.name, w, Vector("bias", Tensor(shapes, 1))},
                         Window(layer, shapes)),
            .channels_first = true};
  }

  std::string LayerNorm(const LayerShapes& shapes, const std::string& input) {
    const std::vector<OnnxAttribute> last = {Many("axes", {-1}), One("keepdims", 1)};
    const std::string centred = Node("Sub", {input, Node("ReduceMean", {input}, last)});
    const std::string variance = Node("ReduceMean", {Node("Mul", {centred, centred})}, last);
    const std::string deviation =
        Node("Sqrt", {Node("Add", {variance, Scalar("epsilon", kLayerNormEpsilon)})});
    const std::string scaled =
        Node("Mul", {Node("Div", {centred, deviation}), Vector("gain", Tensor(shapes, 0))});
    return Node("Add", {scaled, Vector("offset", Tensor(shapes, 1))});
  }

  // ONNX's own, for sequences [T × N × F].
  std::string GruOperator(const LayerSpec& layer, const LayerShapes& shapes,
                          const std::string& input) {
    const int64_t units = layer.units;
    const int64_t inputs = shapes.input.axes[1];
    const auto all = [&](uint32_t index) {
      const std::span<const float> tensor = Tensor(shapes, index);
      return std::vector<float>(tensor.begin(), tensor.end());
    };
    std::vector<float> bias = all(2);
    const std::vector<float> recurrent_bias = all(3);
    bias.insert(bias.end(), recurrent_bias.begin(), recurrent_bias.end());
    const std::string turned = Node("Transpose", {input}, {Many("perm", {1, 0, 2})});
    const std::string all_states = Fresh("GRU");
    const std::string last_state = Fresh("GRU");
    graph_.nodes.push_back(
        {.op = "GRU",
         .inputs = {turned, Floats("weights", {1, 3 * units, inputs}, all(0)),
                    Floats("recurrent", {1, 3 * units, units}, all(1)),
                    Floats("bias", {1, 6 * units}, std::move(bias))},
         .outputs = {all_states, last_state},
         .attributes = {One("hidden_size", units), One("linear_before_reset", 1)}});
    if (layer.last_only) return Node("Squeeze", {last_state, Integers("axis_0", {0})});
    const std::string states = Node("Squeeze", {all_states, Integers("axis_1", {1})});
    return Node("Transpose", {states}, {Many("perm", {1, 0, 2})});
  }

  // The three parts of [N × 3 units].
  std::vector<std::string> Gates(const std::string& value, const std::string& sizes) {
    std::vector<std::string> gates = {Fresh("z"), Fresh("r"), Fresh("h")};
    graph_.nodes.push_back({.op = "Split",
                            .inputs = {value, sizes},
                            .outputs = gates,
                            .attributes = {One("axis", -1)}});
    return gates;
  }

  // Cells one after the other, or one alone whose state goes in and comes out. The projections of
  // all inputs are one product.
  std::string GruCells(const LayerSpec& layer, const LayerShapes& shapes,
                       const std::string& input) {
    const bool alone = options_.gru == GruForm::kCell;
    const int64_t units = layer.units;
    const std::string sizes = Integers("gates_" + std::to_string(units), {units, units, units});
    const std::string recurrent = MatrixTransposed("recurrent", shapes, 1);
    const std::string recurrent_bias = Vector("recurrent_bias", Tensor(shapes, 3));
    const std::string projected =
        Node("Add", {Node("MatMul", {input, MatrixTransposed("weights", shapes, 0)}),
                     Vector("bias", Tensor(shapes, 2))});
    std::string state;  // none: zero
    if (alone) {
      state = layer_ + "_state";
      graph_.inputs.push_back({.name = state, .integers = false, .axes = {units}});
    }
    std::vector<std::string> states;
    for (uint32_t t = 0; t < (alone ? 1 : shapes.input.axes[0]); ++t) {
      const auto x = Gates(Node("Gather", {projected, Index(t)}, {One("axis", 1)}), sizes);
      // A zero state leaves the biases.
      const std::string from_state =
          state.empty() ? recurrent_bias
                        : Node("Add", {Node("MatMul", {state, recurrent}), recurrent_bias});
      const auto h = Gates(from_state, sizes);
      const std::string z = Node("Sigmoid", {Node("Add", {x[0], h[0]})});
      const std::string r = Node("Sigmoid", {Node("Add", {x[1], h[1]})});
      const std::string fresh = Node("Tanh", {Node("Add", {x[2], Node("Mul", {r, h[2]})})});
      // (1 - z) * fresh + z * state
      const std::string kept =
          state.empty() ? Node("Mul", {z, fresh}) : Node("Mul", {z, Node("Sub", {state, fresh})});
      state = Node(state.empty() ? "Sub" : "Add", {fresh, kept});
      if (layer.last_only) continue;
      states.push_back(Node("Unsqueeze", {state, Integers("axis_1", {1})}));
    }
    if (alone) {
      const std::string next = layer_ + "_next_state";
      graph_.nodes.push_back(
          {.op = "Identity", .inputs = {state}, .outputs = {next}, .attributes = {}});
      graph_.outputs.push_back({.name = next, .integers = false, .axes = {units}});
    }
    if (layer.last_only) return state;
    return Node("Concat", states, {One("axis", 1)});
  }

  const ModelSpec& model_;
  std::span<const float> weights_;
  const std::vector<LayerShapes>& shapes_;
  const OnnxOptions options_;
  wire::OnnxModel graph_;
  std::set<std::string> shared_;  // names of constants that several layers use
  std::string layer_;
  std::vector<Value> before_;  // [layers] what goes into each
  size_t count_ = 0;
};

// One step alone makes sense where every layer works on each step by itself.
Status CheckCell(const ModelSpec& model) {
  bool any = false;
  for (size_t i = 0; i < model.layers.size(); ++i) {
    const LayerSpec& layer = model.layers[i];
    any = any || layer.kind == LayerKind::kGru;
    if (layer.kind == LayerKind::kFlatten || (layer.kind == LayerKind::kGru && layer.last_only)) {
      return InvalidArgument(learning::LayerName(model, i) +
                             " needs a whole sequence; export it unrolled");
    }
  }
  if (any) return OkStatus();
  return InvalidArgument("the model has no gru layer whose cell could be exported");
}

Status CheckOptions(const ModelSpec& model, const OnnxOptions& options) {
  if (options.gru == GruForm::kCell) CHORUS_TRY(CheckCell(model));
  const bool classifies = model.loss == Loss::kCrossEntropy || model.loss == Loss::kNextToken ||
                          model.loss == Loss::kBinaryCrossEntropy;
  if (!options.probabilities || classifies) return OkStatus();
  return InvalidArgument(
      "the outputs of this model's loss are no probabilities; leave"
      " --probabilities out");
}

}  // namespace

Result<wire::OnnxModel> OnnxOf(const ModelSpec& model, std::span<const float> weights,
                               const OnnxOptions& options) {
  if (model.custom_parameters > 0) {
    return InvalidArgument(
        "a custom model's parameters mean something to its own trainer alone;"
        " export them with that");
  }
  if (model.layers.empty()) {
    return InvalidArgument("this task has no model, only queries; there is nothing to export");
  }
  CHORUS_TRY(learning::ValidateModel(model));
  CHORUS_TRY_ASSIGN(const std::vector<LayerShapes> shapes, learning::InferShapes(model));
  CHORUS_TRY(CheckOptions(model, options));
  if (weights.size() != learning::ParameterCount(model)) {
    return InvalidArgument("the model has " + std::to_string(learning::ParameterCount(model)) +
                           " parameters and is given " + std::to_string(weights.size()));
  }
  return GraphBuilder(model, weights, shapes, options).Build();
}

}  // namespace chorus::cli
