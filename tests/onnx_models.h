// Models of every kind of layer, activation and loss, with weights that leave none of them at rest,
// for the tests of what is exported.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "chorus/model.h"
#include "cli/onnx_graph.h"
#include "learning/learning.h"
#include "test_rng.h"

namespace chorus {

struct OnnxCase {
  std::string name;
  ModelSpec model;
  cli::OnnxOptions options;
};

inline ModelSpec OfLayers(uint32_t inputs, std::vector<uint32_t> shape,
                          std::vector<LayerSpec> layers) {
  ModelSpec model;
  model.inputs = inputs;
  model.shape = std::move(shape);
  model.layers = std::move(layers);
  return model;
}

inline LayerSpec DenseLayer(uint32_t units, Activation activation = Activation::kNone) {
  return {.units = units, .activation = activation};
}
inline LayerSpec ConvLayer(uint32_t units, uint32_t kernel, uint32_t stride, Padding padding,
                           Activation activation = Activation::kNone) {
  return {.units = units,
          .activation = activation,
          .kind = LayerKind::kConv2d,
          .kernel = kernel,
          .stride = stride,
          .padding = padding};
}
inline LayerSpec PoolLayer(uint32_t kernel, uint32_t stride, Padding padding) {
  return {.kind = LayerKind::kMaxPool2d, .kernel = kernel, .stride = stride, .padding = padding};
}
inline LayerSpec EmbeddingLayer(uint32_t vocabulary, uint32_t units) {
  return {.units = units, .kind = LayerKind::kEmbedding, .vocabulary = vocabulary};
}
inline LayerSpec GruLayer(uint32_t units, bool last_only = false) {
  return {.units = units, .kind = LayerKind::kGru, .last_only = last_only};
}
inline LayerSpec NormLayer(Activation activation = Activation::kNone) {
  return {.activation = activation, .kind = LayerKind::kLayerNorm};
}
inline LayerSpec DropoutLayer(float rate) { return {.kind = LayerKind::kDropout, .rate = rate}; }
inline LayerSpec FlattenLayer() { return {.kind = LayerKind::kFlatten}; }
inline LayerSpec ResidualLayer(uint32_t span, Activation activation = Activation::kNone) {
  return {.activation = activation, .kind = LayerKind::kResidual, .span = span};
}

inline ModelSpec WithLoss(ModelSpec model, Loss loss) {
  model.loss = loss;
  return model;
}
inline ModelSpec NextToken(uint32_t tokens, std::vector<LayerSpec> layers) {
  return WithLoss(OfLayers(tokens + 1, {}, std::move(layers)), Loss::kNextToken);
}

inline std::vector<OnnxCase> WindowCases() {
  constexpr auto kRelu = Activation::kRelu;
  std::vector<OnnxCase> cases;
  for (const Padding padding : {Padding::kValid, Padding::kSame}) {
    const std::string name = padding == Padding::kSame ? "same" : "valid";
    cases.push_back(
        {"conv_" + name,
         OfLayers(7 * 6 * 3, {7, 6, 3},
                  {ConvLayer(5, 3, 1, padding, Activation::kTanh), FlattenLayer(), DenseLayer(4)}),
         {}});
    cases.push_back({"conv_stride_" + name,
                     OfLayers(8 * 9 * 2, {8, 9, 2},
                              {ConvLayer(4, 4, 2, padding), FlattenLayer(), DenseLayer(3)}),
                     {}});
    // Without an activation before it, many of its inputs are below zero.
    cases.push_back({"pool_" + name,
                     OfLayers(7 * 7 * 2, {7, 7, 2},
                              {ConvLayer(3, 1, 1, padding), PoolLayer(3, 2, padding),
                               FlattenLayer(), DenseLayer(3)}),
                     {}});
  }
  cases.push_back({"pool_first",
                   OfLayers(6 * 6 * 1, {6, 6, 1},
                            {PoolLayer(2, 2, Padding::kValid), FlattenLayer(), DenseLayer(2)}),
                   {}});
  cases.push_back({"dense_over_channels",
                   OfLayers(5 * 5 * 3, {5, 5, 3},
                            {ConvLayer(4, 3, 1, Padding::kSame), DenseLayer(6, kRelu),
                             ConvLayer(2, 3, 1, Padding::kValid, Activation::kSoftmax),
                             FlattenLayer(), DenseLayer(3)}),
                   {}});
  cases.push_back(
      {"image_classifier",
       OfLayers(784, {28, 28, 1},
                {ConvLayer(8, 5, 1, Padding::kSame, kRelu), PoolLayer(2, 2, Padding::kValid),
                 ConvLayer(16, 3, 1, Padding::kSame, kRelu), PoolLayer(2, 2, Padding::kSame),
                 FlattenLayer(), DropoutLayer(0.3F), DenseLayer(64, kRelu), DenseLayer(10)}),
       {.probabilities = true}});
  cases.push_back(
      {"residual_image",
       OfLayers(6 * 6 * 4, {6, 6, 4},
                {ConvLayer(4, 3, 1, Padding::kSame, kRelu), ConvLayer(4, 3, 1, Padding::kSame),
                 ResidualLayer(2, kRelu), FlattenLayer(), DenseLayer(3)}),
       {}});
  return cases;
}

inline std::vector<OnnxCase> SequenceCases() {
  using cli::GruForm;
  std::vector<OnnxCase> cases;
  const ModelSpec writer = NextToken(20, {EmbeddingLayer(30, 8), GruLayer(24), DenseLayer(30)});
  const ModelSpec deep =
      NextToken(12, {EmbeddingLayer(11, 6), GruLayer(10), NormLayer(), GruLayer(10),
                     ResidualLayer(2), DropoutLayer(0.1F), DenseLayer(11)});
  const ModelSpec last = OfLayers(9 * 4, {9, 4}, {GruLayer(7, true), DenseLayer(3)});
  for (const GruForm form : {GruForm::kUnrolled, GruForm::kOperator}) {
    const std::string name = form == GruForm::kOperator ? "_op" : "_unrolled";
    cases.push_back({"next_token" + name, writer, {.gru = form}});
    cases.push_back({"next_token_deep" + name, deep, {.gru = form, .probabilities = true}});
    cases.push_back({"gru_last_state" + name, last, {.gru = form}});
  }
  cases.push_back({"next_character",
                   NextToken(80, {EmbeddingLayer(66, 16), GruLayer(128), DenseLayer(66)}),
                   {}});
  cases.push_back({"next_token_cell", writer, {.gru = GruForm::kCell}});
  cases.push_back({"next_token_deep_cell", deep, {.gru = GruForm::kCell}});
  cases.push_back(
      {"sequence_cell",
       WithLoss(OfLayers(9 * 4, {9, 4}, {GruLayer(7), DenseLayer(2)}), Loss::kSquaredError),
       {.gru = GruForm::kCell}});
  cases.push_back({"bag_of_tokens",
                   OfLayers(6, {}, {EmbeddingLayer(9, 5), FlattenLayer(), DenseLayer(4)}),
                   {}});
  return cases;
}

inline std::vector<OnnxCase> OnnxCases() {
  constexpr auto kRelu = Activation::kRelu;
  std::vector<OnnxCase> cases = {
      {"softmax_regression", OfLayers(20, {}, {DenseLayer(5)}), {}},
      {"mlp_784_200_10", OfLayers(784, {}, {DenseLayer(200, kRelu), DenseLayer(10)}), {}},
      {"logistic_regression",
       WithLoss(OfLayers(10, {}, {DenseLayer(1)}), Loss::kBinaryCrossEntropy),
       {.probabilities = true}},
      {"several_yes_or_no",
       WithLoss(OfLayers(10, {}, {DenseLayer(8, kRelu), DenseLayer(3)}), Loss::kBinaryCrossEntropy),
       {}},
      {"regression",
       WithLoss(OfLayers(6, {}, {DenseLayer(9, Activation::kGelu), DenseLayer(2)}), Loss::kHuber),
       {}},
      {"layer_norm",
       OfLayers(12, {}, {DenseLayer(16), NormLayer(Activation::kGelu), DenseLayer(4)}),
       {}},
      {"residual",
       OfLayers(8, {},
                {DenseLayer(8, kRelu), DropoutLayer(0.5F), DenseLayer(8), ResidualLayer(3, kRelu),
                 NormLayer(), DenseLayer(3)}),
       {}},
      {"policy",
       OfLayers(12, {}, {DenseLayer(32, Activation::kTanh), DenseLayer(5)}),
       {.probabilities = true}},
      {"ends_in_dropout", OfLayers(4, {}, {DenseLayer(3), DropoutLayer(0.2F)}), {}},
  };
  for (const auto& [name, activation] : {std::pair<const char*, Activation>{"relu", kRelu},
                                         {"tanh", Activation::kTanh},
                                         {"sigmoid", Activation::kSigmoid},
                                         {"gelu", Activation::kGelu},
                                         {"softmax", Activation::kSoftmax}}) {
    cases.push_back({std::string("activation_") + name,
                     OfLayers(7, {}, {DenseLayer(9, activation), DenseLayer(3)}),
                     {}});
  }
  for (auto& more : {WindowCases(), SequenceCases()}) {
    cases.insert(cases.end(), more.begin(), more.end());
  }
  return cases;
}

// No parameter at zero or one, where a mistake would not show.
inline Weights OnnxWeights(const ModelSpec& model, Rng& rng) {
  Weights weights = learning::InitialWeights(model, rng);
  for (float& weight : weights) weight += static_cast<float>(UniformUnit(rng) - 0.5) * 0.2F;
  return weights;
}

}  // namespace chorus
