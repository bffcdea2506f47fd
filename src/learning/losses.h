// The losses, with their derivatives by the network's outputs. Internal to learning.
#pragma once

#include <cstdint>
#include <span>

#include "chorus/client.h"
#include "chorus/model.h"
#include "learning/kernels.h"
#include "learning/shapes.h"

namespace chorus::learning {

struct LossSums {
  double loss = 0;
  double right = 0;
  uint64_t predictions = 0;
};

// Of the outputs [rows × shape] of the examples at `rows`, which fit the model; see
// Network::Outcome for what is summed. Writes the derivative of the summed loss by them to `delta`.
template <typename Scalar>
LossSums SumLosses(const ModelSpec& model, const Shape& shape, const Kernels<Scalar>& kernels,
                   const Examples& examples, std::span<const size_t> rows, const Scalar* outputs,
                   Scalar* delta, Pace* pace);

}  // namespace chorus::learning
