// What a seed of the simulation of faults stands for: who takes part in which task, what may go
// wrong and how often.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "chorus/bytes.h"
#include "chorus/simulation.h"
#include "chorus/task.h"

namespace chorus::simulation {

struct ChaosPlan {
  uint64_t seed = 0;
  TaskSpec task;
  uint32_t clients = 0;
  uint32_t liars = 0;  // of the clients, the last ones
  uint32_t coordinators = 1;
  std::array<bool, kFaultKinds> on{};
  std::array<double, kFaultKinds> rate{};  // in (0, 1): how much of each that is on
  std::array<Time, 2> chaos_for{};         // the phases of faults

  bool has(Fault fault) const { return on[static_cast<size_t>(fault)]; }
  double rate_of(Fault fault) const { return has(fault) ? rate[static_cast<size_t>(fault)] : 0.0; }
  std::string Describe() const;
};

ChaosPlan PlanOf(const ChaosOptions& options);

// Whose keys are whose.
SecretBytes ClientSeed(uint64_t seed, uint32_t client);
SecretBytes MemberSeed(uint64_t seed, uint32_t member);
SecretBytes CoordinatorSeed(uint64_t seed);

// What a client trains in a round, for ever the same. Weights are powers of kDigit, so that a sum
// of them, written in that base, says who is in it and how often; coordinates are small integers
// that differ from round to round, and all of them are encoded exactly.
inline constexpr uint64_t kChaosDim = 4;
inline constexpr uint64_t kDigit = 4;
uint64_t ExamplesOf(uint32_t client);
std::array<int, kChaosDim> UpdateOf(uint32_t client, uint64_t round);

}  // namespace chorus::simulation
