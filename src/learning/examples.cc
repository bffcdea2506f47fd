// Whether examples fit a model: what memory safety and the losses need of them.
#include <algorithm>
#include <bit>
#include <cmath>
#include <string>

#include "learning/learning.h"
#include "learning/shapes.h"

namespace chorus::learning {
namespace {

// Without a branch, so that it runs on vectors: of what is not finite, all bits of the exponent are
// set.
bool AllFinite(std::span<const float> values) {
  constexpr uint32_t kExponent = 0x7f800000;
  uint32_t bad = 0;
  for (const float value : values) {
    bad |= static_cast<uint32_t>((std::bit_cast<uint32_t>(value) & kExponent) == kExponent);
  }
  return bad == 0;
}

Status CheckLabels(const Examples& examples, uint32_t classes) {
  if (!examples.targets.empty())
    return InvalidArgument("a model with cross-entropy learns from labels; leave targets empty");
  if (examples.labels.size() != examples.count())
    return InvalidArgument("there must be exactly one label for each example");
  for (const uint32_t label : examples.labels) {
    if (label >= classes)
      return InvalidArgument("a label is not below " + std::to_string(classes) +
                             ", the outputs of the model; use labels 0 to " +
                             std::to_string(classes - 1) + " or widen the last layer");
  }
  return OkStatus();
}

Status CheckTargets(const Examples& examples, uint32_t outputs, bool probabilities) {
  if (!examples.labels.empty())
    return InvalidArgument(
        "a model with this loss, such as the squared error, learns from targets;"
        " leave labels empty");
  if (examples.targets.size() % outputs != 0 ||
      examples.targets.size() / outputs != examples.count())
    return InvalidArgument("there must be exactly " + std::to_string(outputs) +
                           " target values for each example");
  if (!AllFinite(examples.targets))
    return InvalidArgument("a target is not a finite number; clean the examples");
  const auto outside = [](float target) { return target < 0 || target > 1; };
  if (probabilities && std::any_of(examples.targets.begin(), examples.targets.end(), outside))
    return InvalidArgument("binary cross-entropy needs targets in [0, 1]; scale them");
  return OkStatus();
}

// Labels serve a single output: 0 and 1.
Status CheckBinary(const Examples& examples, uint32_t outputs) {
  if (examples.labels.empty()) return CheckTargets(examples, outputs, /*probabilities=*/true);
  if (outputs != 1)
    return InvalidArgument("binary cross-entropy of " + std::to_string(outputs) +
                           " outputs learns from targets; leave labels empty");
  if (!examples.targets.empty())
    return InvalidArgument("binary cross-entropy takes labels or targets, not both");
  return CheckLabels(examples, 2);
}

// Each example begins with two tokens at least, the first to read and the next to predict; -1 may
// stand at its end.
Status CheckSequences(const Examples& examples, uint32_t read, uint32_t predicted) {
  if (!examples.labels.empty() || !examples.targets.empty())
    return InvalidArgument(
        "a model of next tokens learns from its features; leave labels and"
        " targets empty");
  const std::span<const float> all(examples.features);
  for (size_t i = 0; i < examples.count(); ++i) {
    const auto tokens = all.subspan(i * examples.inputs, examples.inputs);
    const auto end = std::find(tokens.begin(), tokens.end(), -1.0F);
    const auto length = static_cast<size_t>(end - tokens.begin());
    if (length < 2) return InvalidArgument("an example has fewer than two tokens; leave it out");
    if (std::any_of(end, tokens.end(), [](float token) { return token != -1.0F; }))
      return InvalidArgument("a token follows padding (-1), which may only end an example");
    CHORUS_TRY(CheckTokens(tokens.first(std::min<size_t>(length, tokens.size() - 1)), read));
    CHORUS_TRY(CheckTokens(tokens.subspan(1, length - 1), predicted));
  }
  return OkStatus();
}

}  // namespace

Status CheckTokens(std::span<const float> tokens, uint32_t bound) {
  for (const float token : tokens) {
    if (!(token >= 0 && token < static_cast<float>(bound) && std::floor(token) == token))
      return InvalidArgument("a feature is not a token id, a whole number from 0 to " +
                             std::to_string(bound - 1));
  }
  return OkStatus();
}

Status CheckExamples(const ModelSpec& model, const Examples& examples) {
  CHORUS_TRY(ValidateModel(model));
  if (model.custom_parameters != 0)
    return InvalidArgument(
        "a model of custom parameters is trained by the game's own trainer only");
  if (examples.inputs != model.inputs)
    return InvalidArgument("the examples have " + std::to_string(examples.inputs) +
                           " features each and the model takes " + std::to_string(model.inputs) +
                           "; use data and task that fit");
  if (examples.features.empty()) return InvalidArgument("there are no examples");
  if (examples.features.size() % examples.inputs != 0)
    return InvalidArgument("the last example is cut short: each needs " +
                           std::to_string(examples.inputs) + " features");
  if (!AllFinite(examples.features))
    return InvalidArgument("a feature is not a finite number; clean the examples");
  CHORUS_TRY_ASSIGN(const std::vector<LayerShapes> shapes, InferShapes(model));
  const Shape& output = shapes.back().output;
  const auto outputs = static_cast<uint32_t>(output.count());
  const bool reads_tokens = model.layers.front().kind == LayerKind::kEmbedding;
  // Sequences of whatever layers read numbers that a float holds exactly.
  constexpr uint32_t kTokensMax = 1U << 24U;
  if (model.loss == Loss::kNextToken)
    return CheckSequences(examples, reads_tokens ? model.layers.front().vocabulary : kTokensMax,
                          output.last());
  if (reads_tokens) CHORUS_TRY(CheckTokens(examples.features, model.layers.front().vocabulary));
  if (model.loss == Loss::kCrossEntropy) return CheckLabels(examples, outputs);
  if (model.loss == Loss::kBinaryCrossEntropy) return CheckBinary(examples, outputs);
  return CheckTargets(examples, outputs, /*probabilities=*/false);
}

}  // namespace chorus::learning
