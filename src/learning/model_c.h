// How the C ABI's client and coordinator make a model's handle.
#pragma once

#include <cstdint>

#include "chorus/model.h"
#include "chorus/model_c.h"

namespace chorus::learning {

// Never null. `spec` is valid; `weights` are its parameters.
chorus_model* NewModelHandle(const ModelSpec& spec, Weights weights, uint64_t round);
// A model whose outputs are its inputs, whatever its `weights`, of which it has one an input.
chorus_model* NewEchoModelHandle(Weights weights, uint64_t round);

}  // namespace chorus::learning
