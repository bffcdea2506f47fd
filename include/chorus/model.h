// Models as data: a task describes its model, and a client needs no update for a new architecture.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace chorus {

enum class Activation : uint8_t { kNone = 0, kRelu = 1, kTanh = 2, kSigmoid = 3 };

enum class Loss : uint8_t {
  kCrossEntropy = 0,  // softmax over the last layer's outputs against a class label
  kSquaredError = 1,  // 0.5 * |output - target|^2, averaged over the examples
};

// A fully connected layer: output = activation(W * input + bias), W is [units × inputs] row-major,
// bias [units].
struct LayerSpec {
  uint32_t units = 0;
  Activation activation = Activation::kNone;
};

// A feed-forward network. One layer without activation and kCrossEntropy is softmax regression.
struct ModelSpec {
  uint32_t inputs = 0;  // features of one example
  std::vector<LayerSpec> layers;
  Loss loss = Loss::kCrossEntropy;
};

// Every parameter of a model in layout order: for each layer its W, row-major, then its bias. [dim]
// floats.
using Weights = std::vector<float>;

}  // namespace chorus
