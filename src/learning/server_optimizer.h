// The server's optimisers: how a model moves by the mean change of its clients.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "chorus/bytes.h"
#include "chorus/status.h"
#include "chorus/task.h"
#include "learning/learning.h"

namespace chorus::learning {

// What an optimiser carries from round to round. It begins empty.
struct OptimizerState {
  std::vector<float> momentum;       // [shared]; of all but FedAvg
  std::vector<float> second_moment;  // [shared]; of FedAdagrad, FedAdam and FedYogi
  bool operator==(const OptimizerState&) const = default;
};

// kInvalidArgument names the field: an optimiser that this version does not know, beta1 or beta2
// outside [0, 1), tau that is not finite and positive.
Status ValidateServerOptimizer(const ServerSpec& server);

struct ServerStep {
  const ServerSpec& server;  // valid
  float rate = 1.0F;         // server_learning_rate
  // Of the model's parameters that are shared, ascending, within `weights`; no other is touched.
  std::span<const ParameterRange> shared;
  std::span<const float> change;  // [shared] mean of the clients' updates: minus the gradient
};
// Moves `weights` [dim] by one step and takes `state` on. With d the change, m the momentum and v
// the second moment, which begin at 0 and tau^2:
//   FedAvg      w += rate * d                                             [MMRHA17, Alg. 1]
//   FedAvgM     m = beta1 * m + d; w += rate * m                          [HQB19]
//   others      m = beta1 * m + (1 - beta1) * d;
//               w += rate * m / (sqrt(v) + tau)                           [RCZGRKKM21, Alg. 2]
//   FedAdagrad  v = v + d^2
//   FedAdam     v = beta2 * v + (1 - beta2) * d^2
//   FedYogi     v = v - (1 - beta2) * d^2 * sign(v - d^2)
// kInvalidArgument: `change` or `state` has another size than the shared parameters, or a range
// lies outside the weights; nothing has changed then.
Status Step(const ServerStep& step, std::span<float> weights, OptimizerState& state);

// The state as it is stored: "CHS1" || owner || momentum u64 || second moment u64 || their values,
// binary32 little-endian. The owner keeps equal states of two tasks apart.
Bytes EncodeState(BytesView owner, const OptimizerState& state);
// kDataLoss: no such bytes, another owner, or sizes that are neither 0 nor `shared`.
Result<OptimizerState> DecodeState(BytesView owner, BytesView bytes, uint64_t shared);

}  // namespace chorus::learning
