// Writes each model of onnx_models.h as NAME.onnx and, as NAME.json, inputs and what our own
// network makes of them; onnx.sh shows them to ONNX's checker and to onnxruntime.
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "learning/network.h"
#include "onnx_models.h"
#include "wire/onnx.h"

namespace chorus {
namespace {

constexpr size_t kRows = 5;

std::vector<float> RandomInputs(const ModelSpec& model, Rng& rng) {
  const LayerSpec& first = model.layers.front();
  const bool tokens = first.kind == LayerKind::kEmbedding;
  const size_t width = model.inputs - (model.loss == Loss::kNextToken ? 1 : 0);
  std::vector<float> inputs(kRows * width);
  for (float& value : inputs) {
    value = tokens ? static_cast<float>(UniformBelow(rng, first.vocabulary))
                   : static_cast<float>(UniformUnit(rng) * 4 - 2);
  }
  // The last row ends in padding.
  if (tokens) inputs.back() = -1;
  return inputs;
}

bool WriteCase(const std::string& folder, const OnnxCase& each, uint64_t seed) {
  TestRng rng(seed);
  const Weights weights = OnnxWeights(each.model, rng);
  const auto graph = cli::OnnxOf(each.model, weights, each.options);
  if (!graph.ok()) {
    std::fprintf(stderr, "%s: %s\n", each.name.c_str(), graph.status().message().c_str());
    return false;
  }
  const std::vector<float> inputs = RandomInputs(each.model, rng);
  learning::Network<float> network(each.model, kRows);
  const auto outputs = network.Predict(weights, inputs);
  const Bytes bytes = wire::EncodeOnnx(*graph);
  std::ofstream(folder + "/" + each.name + ".onnx", std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
  nlohmann::json json;
  json["rows"] = kRows;
  json["inputs"] = inputs;
  json["outputs"] = std::vector<float>(outputs.begin(), outputs.end());
  json["cell"] = each.options.gru == cli::GruForm::kCell;
  json["steps"] = each.model.shape.size() == 2 ? each.model.shape[0] : each.model.inputs - 1;
  json["tokens"] = graph->inputs.front().integers;
  json["width"] = graph->inputs.front().axes.back();
  json["probabilities"] = !each.options.probabilities                    ? "no"
                          : each.model.loss == Loss::kBinaryCrossEntropy ? "sigmoid"
                                                                         : "softmax";
  json["classes"] = each.model.layers.back().units;
  for (size_t i = 1; i < graph->inputs.size(); ++i) {
    json["states"].push_back({{"in", graph->inputs[i].name},
                              {"out", graph->outputs[i].name},
                              {"units", graph->inputs[i].axes[0]}});
  }
  std::ofstream file(folder + "/" + each.name + ".json");
  file << json;
  return file.good();
}

}  // namespace
}  // namespace chorus

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: onnx_cases FOLDER\n");
    return 2;
  }
  uint64_t seed = 1;
  for (const chorus::OnnxCase& each : chorus::OnnxCases()) {
    if (!chorus::WriteCase(argv[1], each, seed++)) return 1;
  }
  return 0;
}
