#include "learning/shapes.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>

#include "base/limits.h"

namespace chorus::learning {
namespace {

// Which fields of LayerSpec a kind names; `personal` goes with parameters.
struct Fields {
  const char* name = "";
  bool units = false;
  bool activation = false;
  bool window = false;
  bool vocabulary = false;
  bool rate = false;
  bool span = false;
  bool last_only = false;
  bool parameters = false;
};

constexpr std::array<Fields, 9> kFields = {{
    {.name = "dense", .units = true, .activation = true, .parameters = true},
    {.name = "conv2d", .units = true, .activation = true, .window = true, .parameters = true},
    {.name = "max_pool2d", .window = true},
    {.name = "embedding", .units = true, .vocabulary = true, .parameters = true},
    {.name = "gru", .units = true, .last_only = true, .parameters = true},
    {.name = "layer_norm", .activation = true, .parameters = true},
    {.name = "dropout", .rate = true},
    {.name = "flatten"},
    {.name = "residual", .activation = true, .span = true},
}};

Shape ShapeOf(std::initializer_list<uint32_t> axes) {
  Shape shape;
  for (const uint32_t axis : axes) shape.axes[shape.rank++] = axis;
  return shape;
}

// One axis of what a window gives; 0 when it does not fit once.
uint32_t WindowCount(const LayerSpec& layer, uint32_t size) {
  if (layer.padding == Padding::kSame)
    return static_cast<uint32_t>((uint64_t{size} + layer.stride - 1) / layer.stride);
  return size < layer.kernel ? 0 : (size - layer.kernel) / layer.stride + 1;
}

class Inference {
 public:
  Inference(const ModelSpec& model, const std::vector<LayerShapes>& before)
      : model_(model), before_(before), index_(before.size()), layer_(model.layers[index_]) {}

  Status Infer(LayerShapes& to) {
    const auto kind = static_cast<size_t>(layer_.kind);
    if (kind >= kFields.size()) return Refuse("is of a kind that this version does not know");
    CHORUS_TRY(CheckForeignFields(kFields[kind]));
    CHORUS_TRY(CheckOwnFields(kFields[kind]));
    to.output = to.input;
    CHORUS_TRY(Apply(to));
    if (to.output.count() > limits::kOutputsMax)
      return Refuse("gives " + Text(to.output) + " for one example, more than " +
                    std::to_string(limits::kOutputsMax) + " numbers; make it narrower");
    for (uint32_t i = 0; i < to.tensor_count; ++i) to.weight_count += to.tensors[i].count();
    if (to.weights_at + to.weight_count > limits::kDimMax)
      return Refuse("takes the model beyond the limit of " + std::to_string(limits::kDimMax) +
                    " parameters; make it narrower");
    to.work = WorkOf(to);
    uint64_t work = to.work;
    for (const LayerShapes& layer : before_) work += layer.work;
    if (work > limits::kExampleWorkMax)
      return Refuse("takes the model to " + std::to_string(work) +
                    " multiply-adds for one example, more than " +
                    std::to_string(limits::kExampleWorkMax) +
                    "; make it narrower, its input smaller, or its stride longer");
    return OkStatus();
  }

 private:
  // Of shapes within the limits, so that no product wraps around.
  uint64_t WorkOf(const LayerShapes& shapes) const {
    const uint64_t outputs = shapes.output.count();
    switch (layer_.kind) {
      case LayerKind::kDense:
        return shapes.input.count() / shapes.input.last() * shapes.weight_count;
      case LayerKind::kConv2d:
        return outputs / layer_.units * shapes.weight_count;
      case LayerKind::kGru:
        return shapes.input.axes[0] * shapes.weight_count;
      case LayerKind::kMaxPool2d:
        return outputs * std::min(layer_.kernel, shapes.input.axes[0]) *
               std::min(layer_.kernel, shapes.input.axes[1]);
      default:
        return outputs;
    }
  }

  Status Refuse(const std::string& what) const {
    return InvalidArgument(LayerName(model_, index_) + " " + what);
  }

  // Fields that the kind does not name have their defaults.
  Status CheckForeignFields(const Fields& fields) const {
    const LayerSpec unset;
    const auto foreign = [this](const std::string& field) {
      return Refuse("takes no " + field + "; leave it out");
    };
    if (!fields.units && layer_.units != unset.units) return foreign("units");
    if (!fields.activation && layer_.activation != unset.activation) return foreign("activation");
    if (!fields.window && layer_.kernel != unset.kernel) return foreign("kernel");
    if (!fields.window && layer_.stride != unset.stride) return foreign("stride");
    if (!fields.window && layer_.padding != unset.padding) return foreign("padding");
    if (!fields.vocabulary && layer_.vocabulary != unset.vocabulary) return foreign("vocabulary");
    if (!fields.rate && layer_.rate != unset.rate) return foreign("rate");
    if (!fields.span && layer_.span != unset.span) return foreign("span");
    if (!fields.last_only && layer_.last_only != unset.last_only) return foreign("last_only");
    if (!fields.parameters && layer_.personal)
      return Refuse("has no parameters that could be personal");
    return OkStatus();
  }

  Status CheckOwnFields(const Fields& fields) const {
    const std::string units_max = std::to_string(limits::kUnitsMax);
    if (fields.units && layer_.units == 0) return Refuse("has no units; give it at least one");
    if (layer_.units > limits::kUnitsMax)
      return Refuse("has more than " + units_max + " units; make it narrower");
    if (layer_.activation > Activation::kSoftmax)
      return Refuse("has an activation that this version does not know");
    if (fields.window && (layer_.kernel == 0 || layer_.stride == 0))
      return Refuse("needs a kernel and a stride of at least one");
    if (layer_.kernel > limits::kKernelMax)
      return Refuse("has a kernel wider than " + std::to_string(limits::kKernelMax));
    if (layer_.padding > Padding::kSame)
      return Refuse("has a padding that this version does not know");
    if (fields.vocabulary && layer_.vocabulary == 0)
      return Refuse("has no vocabulary; say how many token ids there are");
    if (layer_.vocabulary > limits::kUnitsMax)
      return Refuse("has a vocabulary of more than " + units_max + " token ids");
    if (!(layer_.rate >= 0 && layer_.rate < 1)) return Refuse("has a rate that is not in [0, 1)");
    return OkStatus();
  }

  Status Apply(LayerShapes& to) const {
    const uint32_t units = layer_.units;
    const uint32_t last = to.input.last();
    switch (layer_.kind) {
      case LayerKind::kDense:
        to.output.axes[to.output.rank - 1] = units;
        return Tensors(to, {ShapeOf({units, last}), ShapeOf({units})});
      case LayerKind::kConv2d: {
        CHORUS_TRY(ApplyWindow(to));
        to.output.axes[2] = units;
        return Tensors(to,
                       {ShapeOf({units, layer_.kernel, layer_.kernel, last}), ShapeOf({units})});
      }
      case LayerKind::kMaxPool2d:
        return ApplyWindow(to);
      case LayerKind::kEmbedding:
        if (index_ != 0) return Refuse("must be the first layer");
        CHORUS_TRY(NeedsRank(to, 1, "token ids [T]"));
        to.output = ShapeOf({last, units});
        return Tensors(to, {ShapeOf({layer_.vocabulary, units})});
      case LayerKind::kGru:
        CHORUS_TRY(NeedsRank(to, 2, "a sequence [T × F]"));
        to.output = layer_.last_only ? ShapeOf({units}) : ShapeOf({to.input.axes[0], units});
        return Tensors(to, {ShapeOf({3 * units, last}), ShapeOf({3 * units, units}),
                            ShapeOf({3 * units}), ShapeOf({3 * units})});
      case LayerKind::kLayerNorm:
        return Tensors(to, {ShapeOf({last}), ShapeOf({last})});
      case LayerKind::kDropout:
        return OkStatus();
      case LayerKind::kFlatten:
        to.output = ShapeOf({static_cast<uint32_t>(to.input.count())});
        return OkStatus();
      case LayerKind::kResidual:
        return ApplyResidual(to);
    }
    return OkStatus();
  }

  Status ApplyWindow(LayerShapes& to) const {
    CHORUS_TRY(NeedsRank(to, 3, "an image [H × W × C]"));
    for (const size_t axis : {size_t{0}, size_t{1}}) {
      to.output.axes[axis] = WindowCount(layer_, to.input.axes[axis]);
      if (to.output.axes[axis] == 0)
        return Refuse("has a kernel of " + std::to_string(layer_.kernel) +
                      ", which does not fit into its input of " + Text(to.input) +
                      "; make it smaller, or the padding same");
    }
    return OkStatus();
  }

  Status ApplyResidual(const LayerShapes& to) const {
    if (layer_.span == 0 || layer_.span > index_)
      return Refuse("needs a span of 1 to the layers before it, of which there are " +
                    std::to_string(index_));
    const Shape& added = before_[index_ - layer_.span].input;
    if (added != to.input)
      return Refuse("adds " + Text(added) + ", the input of layer " +
                    std::to_string(index_ - layer_.span + 1) + ", to " + Text(to.input) +
                    "; the two must be of one shape");
    return OkStatus();
  }

  Status NeedsRank(const LayerShapes& to, uint32_t rank, const char* what) const {
    if (to.input.rank == rank) return OkStatus();
    return Refuse(std::string("takes ") + what + " and is given " + Text(to.input) +
                  (index_ == 0 ? "; set the shape of the model" : ""));
  }

  static Status Tensors(LayerShapes& to, std::initializer_list<Shape> tensors) {
    for (const Shape& tensor : tensors) to.tensors[to.tensor_count++] = tensor;
    return OkStatus();
  }

  const ModelSpec& model_;
  const std::vector<LayerShapes>& before_;
  const size_t index_;
  const LayerSpec& layer_;
};

}  // namespace

std::string Text(const Shape& shape) {
  std::string text = "[";
  for (uint32_t i = 0; i < shape.rank; ++i) {
    text += (i > 0 ? " × " : "") + std::to_string(shape.axes[i]);
  }
  return text + "]";
}

std::string LayerName(const ModelSpec& model, size_t index) {
  const auto kind = static_cast<size_t>(model.layers[index].kind);
  const std::string name = "layer " + std::to_string(index + 1);
  return kind < kFields.size() ? name + " (" + kFields[kind].name + ")" : name;
}

Result<Shape> InputShape(const ModelSpec& model) {
  if (model.inputs == 0) return InvalidArgument("the model has no inputs; give it at least one");
  if (model.inputs > limits::kUnitsMax)
    return InvalidArgument("the model has more than " + std::to_string(limits::kUnitsMax) +
                           " inputs");
  const bool next_token = model.loss == Loss::kNextToken;
  if (next_token && model.inputs < 2)
    return InvalidArgument("to predict a next token, the model needs at least two inputs");
  const uint32_t inputs = model.inputs - (next_token ? 1 : 0);
  if (model.shape.empty()) return ShapeOf({inputs});
  if (model.shape.size() > limits::kRankMax)
    return InvalidArgument("the model's shape has more than " + std::to_string(limits::kRankMax) +
                           " axes");
  Shape shape;
  bool zero = false;
  for (const uint32_t axis : model.shape) {
    shape.axes[shape.rank++] = axis;
    zero = zero || axis == 0 || axis > limits::kUnitsMax;
  }
  if (zero || shape.count() != inputs)
    return InvalidArgument("the model's shape " + Text(shape) + " does not hold its " +
                           std::to_string(inputs) +
                           (next_token ? " inputs and a next one" : " inputs"));
  return shape;
}

Result<std::vector<LayerShapes>> InferShapes(const ModelSpec& model) {
  std::vector<LayerShapes> layers;
  CHORUS_TRY_ASSIGN(Shape shape, InputShape(model));
  if (model.layers.empty()) return InvalidArgument("the model has no layers; give it at least one");
  if (model.layers.size() > limits::kLayersMax)
    return InvalidArgument("the model has more than " + std::to_string(limits::kLayersMax) +
                           " layers");
  layers.reserve(model.layers.size());
  uint64_t weights_at = 0;
  while (layers.size() < model.layers.size()) {
    LayerShapes next;
    next.input = shape;
    next.weights_at = weights_at;
    CHORUS_TRY(Inference(model, layers).Infer(next));
    shape = next.output;
    weights_at += next.weight_count;
    layers.push_back(next);
  }
  return layers;
}

uint32_t PaddingBefore(const LayerSpec& layer, uint32_t size, uint32_t size_out) {
  if (layer.padding == Padding::kValid) return 0;
  const uint64_t covered = uint64_t{size_out - 1} * layer.stride + layer.kernel;
  return covered <= size ? 0 : static_cast<uint32_t>((covered - size) / 2);
}

}  // namespace chorus::learning
