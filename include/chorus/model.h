// Models as data: a task describes its model, and a client needs no update for a new architecture.
#pragma once

#include <cstdint>
#include <vector>

namespace chorus {

// The numbers of all enumerations here are on the wire and in hashed bytes.
enum class Activation : uint8_t {
  kNone = 0,
  kRelu = 1,
  kTanh = 2,
  kSigmoid = 3,
  kGelu = 4,     // x * Phi(x), by way of erf [HG16]
  kSoftmax = 5,  // over the last axis
};

enum class Loss : uint8_t {
  kCrossEntropy = 0,  // softmax over the last layer's outputs against a class label
  kSquaredError = 1,  // 0.5 * |output - target|^2, averaged over the examples
  // Of logits against targets in [0, 1], summed over the outputs, averaged over the examples. With
  // a single output, labels 0 and 1 serve as well.
  kBinaryCrossEntropy = 2,
  kHuber = 3,  // of output - target, quadratic up to huber_delta; summed, then averaged likewise
  // Features are T + 1 token ids: the network reads the first T and its outputs [T × vocabulary]
  // are softmaxed against the last T. A target below zero is padding and does not count; the loss
  // is the mean over the others, and so is the accuracy.
  kNextToken = 4,
};

enum class LayerKind : uint8_t {
  kDense = 0,      // [..., F] -> [..., units]: W * input + bias; W is [units × F] row-major
  kConv2d = 1,     // [H, W, C] -> [H', W', units]; weights [units × kernel × kernel × C], bias
  kMaxPool2d = 2,  // [H, W, C] -> [H', W', C]
  kEmbedding = 3,  // [T] token ids -> [T, units]; weights [vocabulary × units]. Only the first
  // [T, F] -> [T, units], or [units] with last_only, from a zero state. Gates in ONNX's order z, r,
  // h with linear_before_reset: input weights [3 units × F], recurrent weights [3 units × units],
  // input bias [3 units], recurrent bias [3 units].
  kGru = 4,
  kLayerNorm = 5,  // over the last axis, epsilon 1e-5; gain [F], offset [F] [BKH16]
  kDropout = 6,    // in training, zeroes a value with probability `rate`, scales the others up
  kFlatten = 7,    // [...] -> [product]
  kResidual = 8,   // adds the input of the layer `span` places before it, of the same shape
};

enum class Padding : uint8_t {
  kValid = 0,  // windows lie inside: H' = (H - kernel) / stride + 1, rounded down
  kSame = 1,   // H' = H / stride, rounded up; zeros around, the odd one below and to the right
};

// One layer; fields that its kind does not name are left at their defaults.
struct LayerSpec {
  uint32_t units = 0;                         // of dense, conv2d, embedding, gru
  Activation activation = Activation::kNone;  // after dense, conv2d, layer norm, residual
  LayerKind kind = LayerKind::kDense;
  // Trained on the device and never sent; every device begins with the published values.
  bool personal = false;
  uint32_t kernel = 0;  // of conv2d and max_pool2d: side of the square window
  uint32_t stride = 1;  // likewise
  Padding padding = Padding::kValid;
  uint32_t vocabulary = 0;  // of embedding: ids are below it
  float rate = 0.0F;        // of dropout: in [0, 1)
  uint32_t span = 0;        // of residual
  bool last_only = false;   // of gru
};

// A feed-forward network. One dense layer without activation and kCrossEntropy is softmax
// regression.
struct ModelSpec {
  uint32_t inputs = 0;  // features of one example
  std::vector<LayerSpec> layers;
  Loss loss = Loss::kCrossEntropy;
  // What the features mean to the first layer: [H, W, C], [T, F] or [T], whose product is `inputs`
  // (of kNextToken [T], with inputs = T + 1). Empty: [inputs], or [inputs - 1] of kNextToken.
  std::vector<uint32_t> shape = {};
  float huber_delta = 1.0F;
  // Not 0: so many numbers that only the host's own Trainer understands; no inputs and no layers.
  uint64_t custom_parameters = 0;
};

// Every parameter of a model in layout order: for each layer its tensors in the order that its kind
// names them (of dense: W, then the bias). [dim] floats.
using Weights = std::vector<float>;

}  // namespace chorus
