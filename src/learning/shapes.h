// The shapes of a model, inferred layer by layer: what goes into each, what comes out, and the
// tensors of its parameters. Internal to learning, and for those who export models.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "chorus/model.h"
#include "chorus/status.h"

namespace chorus::learning {

// Axes of one example, or of one tensor: at most 4, none of them 0.
struct Shape {
  std::array<uint32_t, 4> axes{};
  uint32_t rank = 0;

  uint64_t count() const {
    uint64_t product = 1;
    for (uint32_t i = 0; i < rank; ++i) product *= axes[i];
    return product;
  }
  uint32_t last() const { return axes[rank - 1]; }
  bool operator==(const Shape&) const = default;
};

// "[28 × 28 × 1]"
std::string Text(const Shape& shape);
// "layer 3 (conv2d)", for messages; `index` from 0.
std::string LayerName(const ModelSpec& model, size_t index);

struct LayerShapes {
  Shape input;
  Shape output;
  std::array<Shape, 4> tensors{};  // of its parameters, in layout order
  uint32_t tensor_count = 0;
  uint64_t weights_at = 0;  // where they begin in the flat weights
  uint64_t weight_count = 0;
  uint64_t work = 0;  // multiply-adds, or as much, for one example
};

// What the network itself reads of an example: `shape`, or [inputs] where it is empty; one feature
// fewer than `inputs` under kNextToken. kInvalidArgument when the two do not agree.
Result<Shape> InputShape(const ModelSpec& model);

// One for each layer of a model that is not custom. kInvalidArgument names the layer and what is
// wrong with it. Says nothing of the loss.
Result<std::vector<LayerShapes>> InferShapes(const ModelSpec& model);

// kInvalidArgument unless all are whole numbers from 0 to bound - 1.
Status CheckTokens(std::span<const float> tokens, uint32_t bound);

// Rows and columns of zeros that kSame puts before an axis of `size`.
uint32_t PaddingBefore(const LayerSpec& layer, uint32_t size, uint32_t size_out);

}  // namespace chorus::learning
