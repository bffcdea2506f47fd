#include <cmath>
#include <string>
#include <utility>

#include "base/codec.h"
#include "base/limits.h"
#include "learning/learning.h"

namespace chorus::learning {
namespace {

constexpr uint8_t kFloat32 = 1;  // the element type in a layout

Status ValidateLayer(const ModelSpec& model, size_t index) {
  const LayerSpec& layer = model.layers[index];
  const std::string name = "layer " + std::to_string(index + 1);
  if (layer.units == 0) return InvalidArgument(name + " has no units; give it at least one");
  if (layer.units > limits::kUnitsMax) {
    return InvalidArgument(name + " has more than " + std::to_string(limits::kUnitsMax) +
                           " units; make it narrower");
  }
  if (layer.activation > Activation::kSigmoid) {
    return InvalidArgument(name + " has an activation that this version does not know");
  }
  const bool last = index + 1 == model.layers.size();
  if (last && model.loss == Loss::kCrossEntropy && layer.activation != Activation::kNone) {
    return InvalidArgument(name +
                           " is the last before cross-entropy, which has its own softmax;"
                           " give it no activation");
  }
  return OkStatus();
}

bool AllFinite(std::span<const float> values) {
  for (const float value : values) {
    if (!std::isfinite(value)) return false;
  }
  return true;
}

Status CheckLabels(const ModelSpec& model, const Examples& examples) {
  if (!examples.targets.empty()) {
    return InvalidArgument("a model with cross-entropy learns from labels; leave targets empty");
  }
  if (examples.labels.size() != examples.count()) {
    return InvalidArgument("there must be exactly one label for each example");
  }
  const uint32_t classes = OutputCount(model);
  for (const uint32_t label : examples.labels) {
    if (label >= classes) {
      return InvalidArgument("a label is not below " + std::to_string(classes) +
                             ", the outputs of the model; use labels 0 to " +
                             std::to_string(classes - 1) + " or widen the last layer");
    }
  }
  return OkStatus();
}

Status CheckTargets(const ModelSpec& model, const Examples& examples) {
  if (!examples.labels.empty()) {
    return InvalidArgument("a model with squared error learns from targets; leave labels empty");
  }
  const uint32_t outputs = OutputCount(model);
  if (examples.targets.size() % outputs != 0 ||
      examples.targets.size() / outputs != examples.count()) {
    return InvalidArgument("there must be exactly " + std::to_string(outputs) +
                           " target values for each example");
  }
  if (!AllFinite(examples.targets)) {
    return InvalidArgument("a target is not a finite number; clean the examples");
  }
  return OkStatus();
}

}  // namespace

Status ValidateModel(const ModelSpec& model) {
  if (model.inputs == 0) return InvalidArgument("the model has no inputs; give it at least one");
  if (model.inputs > limits::kUnitsMax) {
    return InvalidArgument("the model has more than " + std::to_string(limits::kUnitsMax) +
                           " inputs");
  }
  if (model.loss > Loss::kSquaredError) {
    return InvalidArgument("the model has a loss that this version does not know");
  }
  if (model.layers.empty()) return InvalidArgument("the model has no layers; give it at least one");
  if (model.layers.size() > limits::kLayersMax) {
    return InvalidArgument("the model has more than " + std::to_string(limits::kLayersMax) +
                           " layers");
  }
  uint64_t inputs = model.inputs;
  uint64_t dim = 0;
  for (size_t i = 0; i < model.layers.size(); ++i) {
    CHORUS_TRY(ValidateLayer(model, i));
    const uint64_t units = model.layers[i].units;
    dim += (inputs + 1) * units;
    if (dim > limits::kDimMax) {
      return InvalidArgument("layer " + std::to_string(i + 1) +
                             " takes the model beyond the limit of " +
                             std::to_string(limits::kDimMax) + " parameters; make it narrower");
    }
    inputs = units;
  }
  return OkStatus();
}

Status ValidateTraining(const TrainingSpec& training) {
  if (training.epochs == 0) return InvalidArgument("training needs at least one epoch");
  if (training.batch_size == 0) return InvalidArgument("the batch size must be at least one");
  if (!std::isfinite(training.learning_rate) || training.learning_rate <= 0) {
    return InvalidArgument("the learning rate must be a finite number above zero");
  }
  if (training.held_back_percent > kHeldBackPercentMax) {
    return InvalidArgument("at most " + std::to_string(kHeldBackPercentMax) +
                           " percent of the examples can be held back");
  }
  return OkStatus();
}

uint64_t ParameterCount(const ModelSpec& model) {
  uint64_t inputs = model.inputs;
  uint64_t dim = 0;
  for (const LayerSpec& layer : model.layers) {
    dim += (inputs + 1) * layer.units;
    inputs = layer.units;
  }
  return dim;
}

uint32_t OutputCount(const ModelSpec& model) {
  return model.layers.empty() ? 0 : model.layers.back().units;
}

Bytes CanonicalModel(const ModelSpec& model) {
  Writer writer;
  writer.Raw("CHORUS1/model-spec");
  writer.U32(model.inputs).U8(static_cast<uint8_t>(model.loss));
  writer.U32(static_cast<uint32_t>(model.layers.size()));
  for (const LayerSpec& layer : model.layers) {
    writer.U32(layer.units).U8(static_cast<uint8_t>(layer.activation));
  }
  return std::move(writer).Take();
}

Bytes CanonicalLayout(const ModelSpec& model) {
  Writer writer;
  writer.Raw("CHORUS1/layout").U8(kFloat32);
  writer.U32(static_cast<uint32_t>(model.layers.size() * 2));
  uint32_t inputs = model.inputs;
  for (const LayerSpec& layer : model.layers) {
    writer.U8(2).U32(layer.units).U32(inputs);
    writer.U8(1).U32(layer.units);
    inputs = layer.units;
  }
  return std::move(writer).Take();
}

Weights InitialWeights(const ModelSpec& model, Rng& rng) {
  Weights weights;
  weights.reserve(ParameterCount(model));
  uint64_t inputs = model.inputs;
  for (const LayerSpec& layer : model.layers) {
    const double bound = std::sqrt(6.0 / static_cast<double>(inputs + layer.units));
    for (uint64_t i = 0; i < inputs * layer.units; ++i) {
      weights.push_back(static_cast<float>(bound * (2 * UniformUnit(rng) - 1)));
    }
    weights.resize(weights.size() + layer.units, 0.0F);
    inputs = layer.units;
  }
  return weights;
}

Status CheckExamples(const ModelSpec& model, const Examples& examples) {
  CHORUS_TRY(ValidateModel(model));
  if (examples.inputs != model.inputs) {
    return InvalidArgument("the examples have " + std::to_string(examples.inputs) +
                           " features each and the model takes " + std::to_string(model.inputs) +
                           "; use data and task that fit");
  }
  if (examples.features.empty()) return InvalidArgument("there are no examples");
  if (examples.features.size() % examples.inputs != 0) {
    return InvalidArgument("the last example is cut short: each needs " +
                           std::to_string(examples.inputs) + " features");
  }
  if (!AllFinite(examples.features)) {
    return InvalidArgument("a feature is not a finite number; clean the examples");
  }
  return model.loss == Loss::kCrossEntropy ? CheckLabels(model, examples)
                                           : CheckTargets(model, examples);
}

}  // namespace chorus::learning
