#include "learning/model_c.h"

#include <algorithm>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "base/c_handle.h"
#include "learning/learning.h"
#include "learning/network.h"
#include "learning/shapes.h"

namespace chorus::c_abi {

CHORUS_FIRST_VERSION_ENDS_AFTER(chorus_model_shape, round);

}  // namespace chorus::c_abi

namespace chorus::learning {

// Rows of one pass: games ask for one decision, or for those of some characters.
constexpr size_t kPredictRows = 16;

// A model, and the network that runs it once somebody asks.
class RunnableModel {
 public:
  static constexpr c_abi::HandleKind kHandleKind = c_abi::HandleKind::kModel;

  RunnableModel(ModelSpec spec, Weights weights, uint64_t round)
      : spec_(std::move(spec)),
        weights_(std::move(weights)),
        round_(round),
        inputs_(InputsOf(spec_, weights_)),
        outputs_(IsEcho(spec_) ? inputs_ : OutputCount(spec_)) {}

  chorus_model_shape shape() const {
    return {.struct_size = 0,
            .inputs = inputs_,
            .outputs = outputs_,
            .reserved = 0,
            .parameters = weights_.size(),
            .round = round_};
  }
  std::span<const float> weights() const { return weights_; }
  Status Predict(std::span<const float> features, std::span<float> outputs);

 private:
  // Nothing that can be described is trained without layers.
  static bool IsEcho(const ModelSpec& spec) {
    return spec.layers.empty() && spec.custom_parameters == 0;
  }
  static uint32_t InputsOf(const ModelSpec& spec, const Weights& weights) {
    if (IsEcho(spec)) return static_cast<uint32_t>(weights.size());
    const bool tokens = spec.loss == Loss::kNextToken && spec.inputs > 0;
    return tokens ? spec.inputs - 1 : spec.inputs;
  }

  const ModelSpec spec_;
  const Weights weights_;
  const uint64_t round_;
  const uint32_t inputs_;
  const uint32_t outputs_;
  std::unique_ptr<Network<float>> network_;
};

Status RunnableModel::Predict(std::span<const float> features, std::span<float> outputs) {
  if (spec_.custom_parameters != 0)
    return InvalidArgument("only the game's own trainer understands a model of custom parameters");
  if (inputs_ == 0 || features.empty() || features.size() % inputs_ != 0)
    return InvalidArgument("the model takes " + std::to_string(inputs_) +
                           " features an example, and at least one example");
  const size_t rows = features.size() / inputs_;
  if (outputs.size() != rows * outputs_)
    return InvalidArgument("the model gives " + std::to_string(outputs_) +
                           " outputs for each example");
  if (IsEcho(spec_)) {
    std::copy(features.begin(), features.end(), outputs.begin());
    return OkStatus();
  }
  if (spec_.layers.front().kind == LayerKind::kEmbedding)
    CHORUS_TRY(CheckTokens(features, spec_.layers.front().vocabulary));
  if (network_ == nullptr) network_ = std::make_unique<Network<float>>(spec_, kPredictRows);
  float* to = outputs.data();
  while (!features.empty()) {
    const size_t count = std::min(features.size(), network_->rows_max() * inputs_);
    const std::span<const float> piece = network_->Predict(weights_, features.first(count));
    to = std::copy(piece.begin(), piece.end(), to);
    features = features.subspan(count);
  }
  return OkStatus();
}

}  // namespace chorus::learning

using ModelCall = chorus::c_abi::Call<chorus::learning::RunnableModel>;
using ModelShell = chorus::c_abi::Shell<chorus::learning::RunnableModel>;
using chorus::c_abi::Entry;
using chorus::c_abi::GateOf;
using chorus::c_abi::Report;

namespace chorus::learning {

chorus_model* NewModelHandle(const ModelSpec& spec, Weights weights, uint64_t round) {
  return ModelShell::Make<chorus_model>(
      std::make_unique<RunnableModel>(spec, std::move(weights), round));
}

chorus_model* NewEchoModelHandle(Weights weights, uint64_t round) {
  return NewModelHandle({}, std::move(weights), round);
}

}  // namespace chorus::learning

extern "C" {

int32_t chorus_model_get_shape(chorus_model* model, chorus_model_shape* shape) {
  const ModelCall call(GateOf(model), Entry::kNested);
  if (!call.status().ok()) return Report(call.status());
  return Report(chorus::c_abi::WriteStruct(shape, call->shape(), "shape"));
}

int32_t chorus_model_predict(chorus_model* model, const float* features, uint64_t features_count,
                             float* outputs, uint64_t outputs_count) {
  const ModelCall call(GateOf(model), Entry::kNested);
  if (!call.status().ok()) return Report(call.status());
  if (features == nullptr) return Report(chorus::c_abi::NullPointer("features"));
  if (outputs == nullptr) return Report(chorus::c_abi::NullPointer("outputs"));
  return Report(call->Predict({features, static_cast<size_t>(features_count)},
                              {outputs, static_cast<size_t>(outputs_count)}));
}

int32_t chorus_model_copy_weights(chorus_model* model, float* weights, uint64_t count) {
  const ModelCall call(GateOf(model), Entry::kNested);
  if (!call.status().ok()) return Report(call.status());
  if (weights == nullptr) return Report(chorus::c_abi::NullPointer("weights"));
  if (count != call->weights().size())
    return Report(chorus::InvalidArgument("the model has " +
                                          std::to_string(call->weights().size()) + " weights"));
  std::copy(call->weights().begin(), call->weights().end(), weights);
  return CHORUS_OK;
}

int32_t chorus_model_destroy(chorus_model* model) {
  ModelCall call(GateOf(model), Entry::kNested);
  if (!call.status().ok()) return Report(call.status());
  call.Destroy();
  return CHORUS_OK;
}

}  // extern "C"
