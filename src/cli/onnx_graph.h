// A model as a graph of ONNX, for the inference runtimes of game engines: operators of opset 15
// that all of them have, so layer normalisation and GELU in small steps, and GRU cells unrolled.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "chorus/model.h"
#include "chorus/status.h"
#include "wire/onnx.h"

namespace chorus::cli {

enum class GruForm : uint8_t {
  kUnrolled,  // one cell after the other, from a zero state
  kOperator,  // ONNX's GRU, which some runtimes lack
  kCell,      // one step of a sequence: its states go in and come out, for play token by token
};

struct OnnxOptions {
  GruForm gru = GruForm::kUnrolled;
  bool probabilities = false;  // softmax or sigmoid after a classifier's outputs
};

// The input is "features" [N × inputs], as examples have them, or "tokens" [N × T] of int64 where
// the first layer is an embedding; the output "outputs" [N × ...], or "probabilities". With kCell
// T is 1, and each GRU, say of layer 2, has an input "layer2_state" and an output
// "layer2_next_state" [N × units]. Dropout is left out: it is the identity outside training.
// kInvalidArgument: the model is none, custom or invalid, the weights are not its [dim], or its
// layers or loss do not go with an option; named.
Result<wire::OnnxModel> OnnxOf(const ModelSpec& model, std::span<const float> weights,
                               const OnnxOptions& options);

}  // namespace chorus::cli
