// Small models of every layer, activation and loss, with random weights and examples that fit them.
#pragma once

#include <string>
#include <vector>

#include "learning/learning.h"
#include "learning/network.h"
#include "test_rng.h"

namespace chorus::learning {

struct NetworkCase {
  std::string name;
  ModelSpec model;
};

inline LayerSpec Dense(uint32_t units, Activation activation = Activation::kNone) {
  return {.units = units, .activation = activation};
}
inline LayerSpec Conv(uint32_t units, uint32_t kernel, uint32_t stride, Padding padding,
                      Activation activation = Activation::kNone) {
  return {.units = units,
          .activation = activation,
          .kind = LayerKind::kConv2d,
          .kernel = kernel,
          .stride = stride,
          .padding = padding};
}
inline LayerSpec Pool(uint32_t kernel, uint32_t stride, Padding padding) {
  return {.kind = LayerKind::kMaxPool2d, .kernel = kernel, .stride = stride, .padding = padding};
}
inline LayerSpec Embed(uint32_t vocabulary, uint32_t units) {
  return {.units = units, .kind = LayerKind::kEmbedding, .vocabulary = vocabulary};
}
inline LayerSpec Gru(uint32_t units, bool last_only) {
  return {.units = units, .kind = LayerKind::kGru, .last_only = last_only};
}
inline LayerSpec Norm(Activation activation = Activation::kNone) {
  return {.activation = activation, .kind = LayerKind::kLayerNorm};
}
inline LayerSpec Drop(float rate) { return {.kind = LayerKind::kDropout, .rate = rate}; }
inline LayerSpec Flat() { return {.kind = LayerKind::kFlatten}; }
inline LayerSpec Add(uint32_t span, Activation activation = Activation::kNone) {
  return {.activation = activation, .kind = LayerKind::kResidual, .span = span};
}

inline std::vector<NetworkCase> DenseCases() {
  std::vector<NetworkCase> cases;
  for (const Activation activation :
       {Activation::kNone, Activation::kRelu, Activation::kTanh, Activation::kSigmoid,
        Activation::kGelu, Activation::kSoftmax}) {
    for (const Loss loss :
         {Loss::kCrossEntropy, Loss::kSquaredError, Loss::kBinaryCrossEntropy, Loss::kHuber}) {
      const bool logits = loss == Loss::kCrossEntropy || loss == Loss::kBinaryCrossEntropy;
      ModelSpec model{.inputs = 5,
                      .layers = {Dense(6, activation), Dense(4, activation),
                                 Dense(3, logits ? Activation::kNone : activation)},
                      .loss = loss};
      if (loss == Loss::kHuber) model.huber_delta = 0.4F;
      cases.push_back({"activation" + std::to_string(static_cast<int>(activation)) + "loss" +
                           std::to_string(static_cast<int>(loss)),
                       model});
    }
  }
  return cases;
}

inline std::vector<NetworkCase> ImageCases() {
  constexpr Padding kValid = Padding::kValid;
  constexpr Padding kSame = Padding::kSame;
  const auto image = [](std::vector<LayerSpec> layers, std::vector<uint32_t> shape) {
    uint32_t inputs = 1;
    for (const uint32_t axis : shape) inputs *= axis;
    layers.push_back(Flat());
    layers.push_back(Dense(3));
    return ModelSpec{.inputs = inputs, .layers = std::move(layers), .shape = std::move(shape)};
  };
  constexpr Activation kTanh = Activation::kTanh;
  return {
      {"conv", image({Conv(3, 3, 1, kValid, kTanh)}, {5, 6, 2})},
      {"conv_same", image({Conv(2, 3, 1, kSame, Activation::kGelu)}, {4, 5, 2})},
      {"conv_even_same", image({Conv(2, 2, 1, kSame, kTanh)}, {3, 4, 1})},
      {"conv_stride", image({Conv(3, 3, 2, kValid, kTanh)}, {6, 7, 1})},
      {"conv_stride_same", image({Conv(2, 3, 2, kSame, Activation::kRelu)}, {5, 6, 2})},
      {"conv_wide_stride", image({Conv(2, 1, 3, kSame)}, {5, 4, 2})},
      {"conv_of_conv", image({Conv(3, 2, 1, kSame, kTanh), Conv(2, 3, 2, kSame, kTanh),
                              Conv(2, 1, 1, kValid, Activation::kSoftmax)},
                             {5, 5, 2})},
      {"pool", image({Conv(2, 2, 1, kValid), Pool(2, 2, kValid)}, {5, 6, 2})},
      {"pool_overlaps", image({Conv(2, 1, 1, kValid), Pool(3, 1, kSame)}, {4, 4, 1})},
      {"pool_stride_same", image({Conv(2, 1, 1, kValid), Pool(3, 2, kSame)}, {4, 5, 1})},
      {"pool_first", image({Pool(2, 1, kValid), Conv(2, 2, 1, kValid)}, {4, 4, 2})},
      {"dense_on_image", image({Dense(3, kTanh)}, {2, 3, 2})},
      {"norm_on_image", image({Conv(4, 1, 1, kValid), Norm(Activation::kRelu)}, {3, 3, 1})},
      {"residual_image",
       image({Conv(2, 3, 1, kSame, kTanh), Conv(2, 3, 1, kSame, kTanh), Add(1)}, {4, 4, 2})},
  };
}

inline std::vector<NetworkCase> SequenceCases() {
  constexpr Activation kTanh = Activation::kTanh;
  const auto tokens = [](std::vector<LayerSpec> layers) {
    return ModelSpec{.inputs = 7, .layers = std::move(layers), .loss = Loss::kNextToken};
  };
  return {
      {"tokens_dense", tokens({Embed(5, 3), Dense(4, kTanh), Dense(5)})},
      {"tokens_gru", tokens({Embed(5, 3), Gru(4, false), Dense(5)})},
      {"tokens_two_grus", tokens({Embed(4, 2), Gru(3, false), Gru(3, false), Dense(6)})},
      {"tokens_norm", tokens({Embed(5, 4), Norm(), Gru(4, false), Add(1), Dense(5)})},
      {"tokens_are_numbers",
       {.inputs = 5, .layers = {Dense(3), Dense(4)}, .loss = Loss::kNextToken, .shape = {4, 1}}},
      {"gru_last", {.inputs = 12, .layers = {Gru(4, true), Dense(3)}, .shape = {4, 3}}},
      {"gru_of_one_step", {.inputs = 3, .layers = {Gru(4, true), Dense(3)}, .shape = {1, 3}}},
      {"gru_of_gru",
       {.inputs = 10, .layers = {Gru(3, false), Gru(4, true), Dense(3)}, .shape = {5, 2}}},
      {"gru_targets",
       {.inputs = 8, .layers = {Gru(3, false)}, .loss = Loss::kSquaredError, .shape = {4, 2}}},
      {"embedding_labels", {.inputs = 4, .layers = {Embed(6, 3), Flat(), Dense(3)}}},
      {"embedding_gru_labels", {.inputs = 5, .layers = {Embed(6, 3), Gru(3, true), Dense(2)}}},
  };
}

inline std::vector<NetworkCase> StackCases() {
  constexpr Activation kTanh = Activation::kTanh;
  return {
      {"norm", {.inputs = 6, .layers = {Dense(5), Norm(), Dense(3)}}},
      {"norm_gelu", {.inputs = 6, .layers = {Dense(5), Norm(Activation::kGelu), Dense(3)}}},
      {"norm_first", {.inputs = 6, .layers = {Norm(kTanh), Dense(3)}}},
      {"norm_last", {.inputs = 4, .layers = {Dense(3), Norm()}, .loss = Loss::kSquaredError}},
      {"residual", {.inputs = 4, .layers = {Dense(5, kTanh), Dense(5, kTanh), Add(1), Dense(3)}}},
      {"residual_of_features", {.inputs = 5, .layers = {Dense(5, kTanh), Add(1), Dense(3)}}},
      {"residual_activation",
       {.inputs = 4, .layers = {Dense(5), Dense(5, kTanh), Add(1, Activation::kGelu), Dense(3)}}},
      {"residuals_overlap",
       {.inputs = 4,
        .layers = {Dense(4, kTanh), Dense(4, kTanh), Dense(4, kTanh), Add(2), Add(3), Add(2, kTanh),
                   Dense(3)}}},
      {"residual_past_flatten",
       {.inputs = 4,
        .layers = {Dense(4, kTanh), Flat(), Dense(4, kTanh), Add(2), Flat(), Add(3), Dense(3)}}},
      {"residual_last",
       {.inputs = 3, .layers = {Dense(3, kTanh), Add(1)}, .loss = Loss::kSquaredError}},
      {"dropout", {.inputs = 6, .layers = {Dense(8, kTanh), Drop(0.4F), Dense(3)}}},
      {"dropout_first", {.inputs = 6, .layers = {Drop(0.3F), Dense(5, kTanh), Dense(3)}}},
      {"dropout_last",
       {.inputs = 4, .layers = {Dense(3), Drop(0.5F)}, .loss = Loss::kSquaredError}},
      {"binary_label",
       {.inputs = 4, .layers = {Dense(3, kTanh), Dense(1)}, .loss = Loss::kBinaryCrossEntropy}},
  };
}

inline std::vector<NetworkCase> AllNetworkCases() {
  std::vector<NetworkCase> cases = DenseCases();
  for (const auto& more : {ImageCases(), SequenceCases(), StackCases()}) {
    cases.insert(cases.end(), more.begin(), more.end());
  }
  return cases;
}

inline float UniformBetween(Rng& rng, double low, double high) {
  return static_cast<float>(low + (high - low) * UniformUnit(rng));
}

// Of next tokens, some end in padding.
inline Examples ExamplesFor(const ModelSpec& model, size_t count, Rng& rng) {
  Examples examples;
  examples.inputs = model.inputs;
  const bool embeds = model.layers.front().kind == LayerKind::kEmbedding;
  const bool next_token = model.loss == Loss::kNextToken;
  const uint32_t outputs = OutputCount(model);
  for (size_t i = 0; i < count; ++i) {
    const size_t length =
        next_token && i % 2 == 1 ? 2 + UniformBelow(rng, model.inputs - 2) : model.inputs;
    for (size_t j = 0; j < model.inputs; ++j) {
      const auto token = static_cast<float>(
          UniformBelow(rng, embeds ? std::min(model.layers[0].vocabulary, 5U) : 4));
      const bool is_token = embeds || next_token;
      examples.features.push_back(j >= length ? -1 : is_token ? token : UniformBetween(rng, -1, 1));
    }
    if (next_token) continue;
    if (model.loss == Loss::kCrossEntropy) {
      examples.labels.push_back(static_cast<uint32_t>(UniformBelow(rng, outputs)));
    } else if (model.loss == Loss::kBinaryCrossEntropy && outputs == 1) {
      examples.labels.push_back(static_cast<uint32_t>(UniformBelow(rng, 2)));
    } else {
      for (uint32_t k = 0; k < outputs; ++k) {
        examples.targets.push_back(UniformBetween(rng, 0, 1));
      }
    }
  }
  return examples;
}

// Random biases and gains too: their first values would hide that they are used wrongly.
template <typename Scalar>
std::vector<Scalar> WeightsFor(const ModelSpec& model, Rng& rng) {
  std::vector<Scalar> weights(ParameterCount(model));
  for (Scalar& weight : weights) weight = UniformBetween(rng, -0.9, 0.9);
  return weights;
}

}  // namespace chorus::learning
