#include <algorithm>
#include <bit>
#include <cmath>
#include <string>
#include <utility>

#include "base/codec.h"
#include "base/limits.h"
#include "learning/learning.h"
#include "learning/shapes.h"

namespace chorus::learning {
namespace {

constexpr uint8_t kFloat32 = 1;  // the element type in a layout

// A model that only the host's own Trainer understands describes nothing else.
Status ValidateCustom(const ModelSpec& model) {
  if (model.custom_parameters > limits::kDimMax)
    return InvalidArgument("the model has more than the limit of " +
                           std::to_string(limits::kDimMax) + " parameters; make it smaller");
  if (model.inputs != 0 || !model.layers.empty() || !model.shape.empty() ||
      model.loss != Loss::kCrossEntropy || model.huber_delta != ModelSpec().huber_delta)
    return InvalidArgument(
        "a model of custom parameters has neither inputs, shape, layers nor loss;"
        " the game's own trainer knows them");
  return OkStatus();
}

// The layer whose activation gives the model's outputs: flatten and dropout have none.
size_t LastActive(const ModelSpec& model) {
  size_t last = model.layers.size() - 1;
  while (last > 0 && (model.layers[last].kind == LayerKind::kFlatten ||
                      model.layers[last].kind == LayerKind::kDropout)) {
    --last;
  }
  return last;
}

Status ValidateLoss(const ModelSpec& model, const std::vector<LayerShapes>& shapes) {
  if (model.loss > Loss::kNextToken)
    return InvalidArgument("the model has a loss that this version does not know");
  const bool huber = model.loss == Loss::kHuber;
  if (huber ? !(std::isfinite(model.huber_delta) && model.huber_delta > 0)
            : model.huber_delta != ModelSpec().huber_delta)
    return InvalidArgument(huber ? "huber_delta must be a finite number above zero"
                                 : "only the Huber loss takes a huber_delta; leave it out");
  const size_t last = LastActive(model);
  const bool of_logits = model.loss == Loss::kCrossEntropy || model.loss == Loss::kNextToken ||
                         model.loss == Loss::kBinaryCrossEntropy;
  if (of_logits && model.layers[last].activation != Activation::kNone)
    return InvalidArgument(LayerName(model, last) + " is the last before " +
                           (model.loss == Loss::kBinaryCrossEntropy
                                ? "binary cross-entropy, which has its own sigmoid"
                                : "cross-entropy, which has its own softmax") +
                           "; give it no activation");
  const Shape& output = shapes.back().output;
  const std::string name = LayerName(model, model.layers.size() - 1);
  if (model.loss == Loss::kCrossEntropy && output.rank != 1)
    return InvalidArgument(name + " gives " + Text(output) +
                           "; cross-entropy needs one axis, the classes: add a flatten and a dense"
                           " layer, or last_only to a gru");
  const uint32_t tokens = model.inputs - 1;
  if (model.loss == Loss::kNextToken && (output.rank != 2 || output.axes[0] != tokens))
    return InvalidArgument(name + " gives " + Text(output) + "; the next-token loss needs [" +
                           std::to_string(tokens) + " × vocabulary], one row for each token");
  return OkStatus();
}

Status ValidateSharing(const ModelSpec& model, const std::vector<LayerShapes>& shapes) {
  bool shared = false;
  for (size_t i = 0; i < shapes.size(); ++i) {
    shared = shared || (shapes[i].weight_count > 0 && !model.layers[i].personal);
  }
  if (shared) return OkStatus();
  return InvalidArgument(
      "no layer has parameters that are shared; nothing would be learnt together");
}

// Of a valid model.
std::vector<LayerShapes> ShapesOf(const ModelSpec& model) {
  Result<std::vector<LayerShapes>> shapes = InferShapes(model);
  return shapes.ok() ? *std::move(shapes) : std::vector<LayerShapes>();
}

// Whether the fields of the first version say all there is to say.
bool IsPlainDense(const ModelSpec& model) {
  const auto plain = [](const LayerSpec& layer) {
    return layer.kind == LayerKind::kDense && !layer.personal && layer.kernel == 0 &&
           layer.stride == 1 && layer.padding == Padding::kValid && layer.vocabulary == 0 &&
           layer.rate == 0 && layer.span == 0 && !layer.last_only;
  };
  return model.shape.empty() && model.custom_parameters == 0 &&
         model.huber_delta == ModelSpec().huber_delta &&
         std::all_of(model.layers.begin(), model.layers.end(), plain);
}

void WriteRest(const ModelSpec& model, Writer& writer) {
  writer.U8(static_cast<uint8_t>(model.shape.size()));
  for (const uint32_t axis : model.shape) writer.U32(axis);
  writer.U32(std::bit_cast<uint32_t>(model.huber_delta)).U64(model.custom_parameters);
  for (const LayerSpec& layer : model.layers) {
    writer.U8(static_cast<uint8_t>(layer.kind)).U8(layer.personal ? 1 : 0);
    writer.U32(layer.kernel).U32(layer.stride).U8(static_cast<uint8_t>(layer.padding));
    writer.U32(layer.vocabulary).U32(std::bit_cast<uint32_t>(layer.rate)).U32(layer.span);
    writer.U8(layer.last_only ? 1 : 0);
  }
}

// Fans of one matrix of weights [GB10]: of a convolution the whole window counts.
double GlorotBound(const Shape& tensor, uint64_t matrices) {
  const double window = tensor.rank == 4 ? double{1} * tensor.axes[1] * tensor.axes[2] : 1;
  const double out = static_cast<double>(tensor.axes[0]) / static_cast<double>(matrices);
  return std::sqrt(6.0 / (window * (out + tensor.last())));
}

}  // namespace

Status ValidateModel(const ModelSpec& model) {
  if (model.custom_parameters != 0) return ValidateCustom(model);
  CHORUS_TRY_ASSIGN(const std::vector<LayerShapes> shapes, InferShapes(model));
  CHORUS_TRY(ValidateLoss(model, shapes));
  return ValidateSharing(model, shapes);
}

uint64_t ParameterCount(const ModelSpec& model) {
  if (model.custom_parameters != 0) return model.custom_parameters;
  const std::vector<LayerShapes> shapes = ShapesOf(model);
  return shapes.empty() ? 0 : shapes.back().weights_at + shapes.back().weight_count;
}

std::vector<ParameterRange> SharedRanges(const ModelSpec& model) {
  if (model.custom_parameters != 0) return {{.begin = 0, .count = model.custom_parameters}};
  std::vector<ParameterRange> ranges;
  const std::vector<LayerShapes> shapes = ShapesOf(model);
  for (size_t i = 0; i < shapes.size(); ++i) {
    if (model.layers[i].personal || shapes[i].weight_count == 0) continue;
    const uint64_t begin = shapes[i].weights_at;
    if (ranges.empty() || ranges.back().begin + ranges.back().count != begin)
      ranges.push_back({.begin = begin, .count = 0});
    ranges.back().count += shapes[i].weight_count;
  }
  return ranges;
}

uint64_t SharedCount(const ModelSpec& model) {
  uint64_t count = 0;
  for (const ParameterRange& range : SharedRanges(model)) count += range.count;
  return count;
}

uint32_t OutputCount(const ModelSpec& model) {
  const std::vector<LayerShapes> shapes = ShapesOf(model);
  return shapes.empty() ? 0 : static_cast<uint32_t>(shapes.back().output.count());
}

Bytes CanonicalModel(const ModelSpec& model) {
  Writer writer;
  writer.Raw("CHORUS1/model-spec");
  writer.U32(model.inputs).U8(static_cast<uint8_t>(model.loss));
  writer.U32(static_cast<uint32_t>(model.layers.size()));
  for (const LayerSpec& layer : model.layers) {
    writer.U32(layer.units).U8(static_cast<uint8_t>(layer.activation));
  }
  if (!IsPlainDense(model)) WriteRest(model, writer);
  return std::move(writer).Take();
}

Bytes CanonicalLayout(const ModelSpec& model) {
  Writer writer;
  writer.Raw("CHORUS1/layout").U8(kFloat32);
  if (model.custom_parameters != 0) {
    writer.U32(1).U8(1).U32(static_cast<uint32_t>(model.custom_parameters));
    return std::move(writer).Take();
  }
  const std::vector<LayerShapes> layers = ShapesOf(model);
  uint32_t tensors = 0;
  for (const LayerShapes& layer : layers) tensors += layer.tensor_count;
  writer.U32(tensors);
  for (const LayerShapes& layer : layers) {
    for (uint32_t i = 0; i < layer.tensor_count; ++i) {
      const Shape& tensor = layer.tensors[i];
      writer.U8(static_cast<uint8_t>(tensor.rank));
      for (uint32_t axis = 0; axis < tensor.rank; ++axis) writer.U32(tensor.axes[axis]);
    }
  }
  return std::move(writer).Take();
}

Weights InitialWeights(const ModelSpec& model, Rng& rng) {
  Weights weights;
  weights.reserve(ParameterCount(model));
  weights.resize(model.custom_parameters, 0.0F);
  const std::vector<LayerShapes> layers = ShapesOf(model);
  const auto draw = [&](uint64_t count, double bound) {
    for (uint64_t i = 0; i < count; ++i) {
      weights.push_back(static_cast<float>(bound * (2 * UniformUnit(rng) - 1)));
    }
  };
  for (size_t i = 0; i < layers.size(); ++i) {
    const LayerKind kind = model.layers[i].kind;
    for (uint32_t t = 0; t < layers[i].tensor_count; ++t) {
      const Shape& tensor = layers[i].tensors[t];
      if (kind == LayerKind::kEmbedding) {
        // Of variance one, as the layers above expect of their inputs.
        draw(tensor.count(), std::sqrt(3.0));
      } else if (tensor.rank == 1) {
        const bool gain = kind == LayerKind::kLayerNorm && t == 0;
        weights.resize(weights.size() + tensor.count(), gain ? 1.0F : 0.0F);
      } else {
        draw(tensor.count(), GlorotBound(tensor, kind == LayerKind::kGru ? 3 : 1));
      }
    }
  }
  return weights;
}

}  // namespace chorus::learning
