#include "coordinator/funnel.h"

#include <algorithm>

namespace chorus::coordinator {
namespace {

// The steps up to and with the one that brings the input.
size_t StepsToInput(std::span<const wire::StepInfo> steps) {
  const auto input = std::find_if(steps.begin(), steps.end(),
                                  [](const wire::StepInfo& step) { return step.brings_input; });
  return input == steps.end() ? steps.size() : static_cast<size_t>(input - steps.begin()) + 1;
}

uint64_t Less(uint64_t from, uint64_t what) { return from - std::min(from, what); }

}  // namespace

// Members of a committee are invited and may drop out beside the clients, so a count is never below
// what came after it.
Funnel FunnelOf(const RoundReport& round, std::span<const wire::StepInfo> steps) {
  Funnel funnel{.invited = round.invited, .in_sum = round.contributors};
  const size_t input = StepsToInput(steps);
  uint64_t left = Less(round.invited, round.refused);
  for (size_t i = 0; i < round.dropouts.size() && i < input; ++i) {
    if (steps[i].of_clients) left = Less(left, round.dropouts[i]);
    if (i == 0) funnel.trained = left;
  }
  if (round.dropouts.size() >= input) funnel.uploaded = left;
  funnel.uploaded = std::max(funnel.uploaded, funnel.in_sum);
  funnel.trained = std::max(funnel.trained, funnel.uploaded);
  return funnel;
}

Funnel FunnelOf(const wire::RoundInFlight& in_flight, std::span<const wire::StepInfo> steps) {
  Funnel funnel = FunnelOf(in_flight.round, steps);
  const size_t open = in_flight.round.dropouts.size();
  if (open >= steps.size()) return funnel;
  if (open == 0) funnel.trained = std::min<uint64_t>(in_flight.answered, funnel.invited);
  if (steps[open].brings_input) {
    funnel.uploaded = std::min<uint64_t>(in_flight.answered, funnel.trained);
  }
  return funnel;
}

}  // namespace chorus::coordinator
