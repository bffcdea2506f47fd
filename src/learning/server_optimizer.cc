#include "learning/server_optimizer.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <utility>

#include "base/codec.h"

namespace chorus::learning {
namespace {

constexpr std::string_view kMagic = "CHS1";

bool IsAdaptive(ServerOptimizer optimizer) {
  return optimizer == ServerOptimizer::kFedAdagrad || optimizer == ServerOptimizer::kFedAdam ||
         optimizer == ServerOptimizer::kFedYogi;
}

bool HasMomentum(ServerOptimizer optimizer) { return optimizer != ServerOptimizer::kFedAvg; }

// The second moment after a change whose square this is.
float NextSecondMoment(const ServerSpec& server, float second, float square) {
  switch (server.optimizer) {
    case ServerOptimizer::kFedAdagrad:
      return second + square;
    case ServerOptimizer::kFedAdam:
      return server.beta2 * second + (1 - server.beta2) * square;
    default:  // FedYogi
      break;
  }
  const float part = (1 - server.beta2) * square;
  return second > square ? second - part : second < square ? second + part : second;
}

// The parameters of one range, with what belongs to them.
struct Moving {
  std::span<float> weights;
  std::span<const float> change;
  std::span<float> momentum;
  std::span<float> second_moment;
};

void MoveAdaptively(const ServerStep& step, const Moving& moving) {
  const ServerSpec& server = step.server;
  for (size_t i = 0; i < moving.weights.size(); ++i) {
    const float change = moving.change[i];
    float& momentum = moving.momentum[i];
    float& second = moving.second_moment[i];
    momentum = server.beta1 * momentum + (1 - server.beta1) * change;
    second = NextSecondMoment(server, second, change * change);
    moving.weights[i] += step.rate * momentum / (std::sqrt(second) + server.tau);
  }
}

void MoveWithMomentum(const ServerStep& step, const Moving& moving) {
  for (size_t i = 0; i < moving.weights.size(); ++i) {
    moving.momentum[i] = step.server.beta1 * moving.momentum[i] + moving.change[i];
    moving.weights[i] += step.rate * moving.momentum[i];
  }
}

// How many parameters the ranges have in all; nothing when they do not lie in the weights.
Result<uint64_t> SharedWithin(std::span<const ParameterRange> shared, uint64_t dim) {
  uint64_t count = 0;
  uint64_t end = 0;
  for (const ParameterRange& range : shared) {
    if (range.begin < end || range.begin > dim || range.count > dim - range.begin) {
      return InvalidArgument("a range of shared parameters does not lie in the model");
    }
    end = range.begin + range.count;
    count += range.count;
  }
  return count;
}

Status CheckStep(const ServerStep& step, const OptimizerState& state, uint64_t shared) {
  const auto fits = [shared](const std::vector<float>& values) {
    return values.empty() || values.size() == shared;
  };
  if (step.change.size() != shared || !fits(state.momentum) || !fits(state.second_moment)) {
    return InvalidArgument("the change or the optimiser's state does not fit the model");
  }
  return OkStatus();
}

void WriteFloats(const std::vector<float>& values, Writer& writer) {
  writer.Raw({reinterpret_cast<const uint8_t*>(values.data()), values.size() * sizeof(float)});
}

void ReadFloats(Reader& reader, uint64_t count, std::vector<float>& values) {
  const BytesView raw = reader.Raw(count * sizeof(float));
  if (reader.failed()) return;
  values.resize(count);
  if (count > 0) std::memcpy(values.data(), raw.data(), raw.size());
}

}  // namespace

Status ValidateServerOptimizer(const ServerSpec& server) {
  if (server.optimizer > ServerOptimizer::kFedYogi) {
    return InvalidArgument("server.optimizer is not one that this version knows");
  }
  const std::pair<std::string_view, float> fractions[] = {{"beta1", server.beta1},
                                                          {"beta2", server.beta2}};
  for (const auto& [name, value] : fractions) {
    if (!(value >= 0 && value < 1)) {
      return InvalidArgument("server." + std::string(name) + " must be at least 0 and below 1");
    }
  }
  if (!std::isfinite(server.tau) || server.tau <= 0) {
    return InvalidArgument("server.tau must be finite and above 0");
  }
  return OkStatus();
}

Status Step(const ServerStep& step, std::span<float> weights, OptimizerState& state) {
  CHORUS_TRY_ASSIGN(const uint64_t shared, SharedWithin(step.shared, weights.size()));
  CHORUS_TRY(CheckStep(step, state, shared));
  const ServerOptimizer optimizer = step.server.optimizer;
  if (HasMomentum(optimizer)) state.momentum.resize(shared, 0.0F);
  if (IsAdaptive(optimizer)) state.second_moment.resize(shared, step.server.tau * step.server.tau);
  uint64_t before = 0;
  for (const ParameterRange& range : step.shared) {
    const std::span<float> own = weights.subspan(range.begin, range.count);
    const std::span<const float> change = step.change.subspan(before, range.count);
    if (!HasMomentum(optimizer)) {
      ApplyMean(own, change, step.rate);
    } else {
      const std::span<float> momentum = std::span(state.momentum).subspan(before, range.count);
      if (IsAdaptive(optimizer)) {
        MoveAdaptively(
            step, {.weights = own,
                   .change = change,
                   .momentum = momentum,
                   .second_moment = std::span(state.second_moment).subspan(before, range.count)});
      } else {
        MoveWithMomentum(
            step, {.weights = own, .change = change, .momentum = momentum, .second_moment = {}});
      }
    }
    before += range.count;
  }
  return OkStatus();
}

Bytes EncodeState(BytesView owner, const OptimizerState& state) {
  Writer writer;
  writer.Raw(kMagic).Raw(owner);
  writer.U64(state.momentum.size()).U64(state.second_moment.size());
  WriteFloats(state.momentum, writer);
  WriteFloats(state.second_moment, writer);
  return std::move(writer).Take();
}

Result<OptimizerState> DecodeState(BytesView owner, BytesView bytes, uint64_t shared) {
  const Status damaged = DataLoss(
      "the stored state of the server's optimiser does not fit the task; restore the file");
  Reader reader(bytes);
  const BytesView magic = reader.Raw(kMagic.size());
  const BytesView of = reader.Raw(owner.size());
  if (reader.failed() || !std::equal(magic.begin(), magic.end(), kMagic.begin()) ||
      !std::equal(of.begin(), of.end(), owner.begin())) {
    return damaged;
  }
  OptimizerState state;
  const uint64_t momentum = reader.U64();
  const uint64_t second_moment = reader.U64();
  const auto fits = [shared](uint64_t count) { return count == 0 || count == shared; };
  if (reader.failed() || !fits(momentum) || !fits(second_moment) ||
      reader.left() != (momentum + second_moment) * sizeof(float)) {
    return damaged;
  }
  ReadFloats(reader, momentum, state.momentum);
  ReadFloats(reader, second_moment, state.second_moment);
  return state;
}

}  // namespace chorus::learning
