// How many clients a round lost on the way to its sum.
#pragma once

#include <cstdint>
#include <span>

#include "chorus/store.h"
#include "wire/wire.h"

namespace chorus::coordinator {

struct Funnel {
  uint64_t invited = 0;
  uint64_t trained = 0;   // said that they are ready
  uint64_t uploaded = 0;  // their input came
  uint64_t in_sum = 0;
};
// Of a round that ended, or as far as a round has come: a step that has not closed lost nobody yet.
// `steps` are StatusReply's, for the report's dropouts.
Funnel FunnelOf(const RoundReport& round, std::span<const wire::StepInfo> steps);
// Of the round in flight, of whose open step only those who answered are through.
Funnel FunnelOf(const wire::RoundInFlight& in_flight, std::span<const wire::StepInfo> steps);

}  // namespace chorus::coordinator
