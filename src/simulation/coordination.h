// The coordinator's side of a simulation: it begins rounds with the cohorts of production, passes
// questions and answers between them and the virtual devices in the order of virtual time, and
// makes of their sums the next model, by the code of production.
#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "aggregation/protocols.h"
#include "base/parallel.h"
#include "base/random.h"
#include "chorus/bytes.h"
#include "chorus/simulation.h"
#include "chorus/status.h"
#include "coordinator/cohorts.h"
#include "coordinator/outcome.h"
#include "simulation/fleet.h"
#include "simulation/virtual_clock.h"
#include "simulation/workers.h"

namespace chorus::simulation {

struct CoordinationOptions {
  const Simulation* simulation = nullptr;  // must outlive the object, as all pointers here
  const Population* population = nullptr;
  Workers* workers = nullptr;
  Executor* executor = nullptr;
  const Cancel* cancel = nullptr;
  BytesView signing_seed;
  BytesView task_bytes;            // as signed
  coordinator::ServerState first;  // that the task begins with
};

// Thread-compatible.
class Coordination {
 public:
  explicit Coordination(CoordinationOptions options);

  // Begins a round as soon as enough clients are available, and runs it to its end: its report says
  // whether it committed. kFailedPrecondition: too few clients are available, however long one
  // waits; kCancelled; else what the task or the cluster is at fault for.
  Result<SimulatedRound> RunRound();

  std::span<const float> published() const { return state_.published; }
  double seconds() const { return static_cast<double>(now_.count()) / 1e3; }  // virtual

 private:
  // Cohorts that began together. With server.buffered_sums some may outlive their round.
  struct Run {
    uint64_t round = 0;
    uint64_t version = 0;  // of the published vector that they train on
    std::unique_ptr<coordinator::Cohorts> cohorts;
    std::vector<size_t> step;                          // [cohorts] that is open, training first
    std::vector<Time> step_began;                      // [cohorts]
    std::unordered_map<uint32_t, uint32_t> cohort_of;  // by client, from 0
  };
  // What a client was asked and has not answered.
  struct Asked {
    Run* run = nullptr;
    uint32_t cohort = 0;  // from 0
    size_t step = 0;
    Fate fate = Fate::kAnswers;
    Time arrives{};
    uint64_t sequence = 0;
    uint64_t answer_bytes_max = 0;
    bool computed = false;
    Bytes question;
    Done done;
  };
  using Arrival = std::tuple<Time, uint64_t, uint32_t>;  // when, sequence, client
  struct Question {
    uint32_t client = 0;
    Bytes body;
    uint64_t answer_bytes_max = 0;
  };

  Result<std::vector<uint32_t>> GatherClients();
  Status Begin(SimulatedRound& round);
  CohortSpec FreeCohorts() const;
  void Invite(Run& run, std::span<const uint32_t> sizes, std::span<const uint32_t> clients);
  void Ask(Run& run, uint32_t cohort, Question question);
  Status Follow(SimulatedRound& round);
  Status Hear(const Arrival& arrival);
  Status Compute();
  void Deliver(Run& run);
  void Lose(uint32_t client);
  Status RetireRuns();
  Status PayOwed();
  Status Conclude(SimulatedRound& round);
  bool NeedsComputing(const Asked& asked) const;
  SimulatedStep& StepOf(size_t step);
  Time NextTick() const;
  uint64_t ExamplesVisited(uint32_t client) const;

  const CoordinationOptions options_;
  const TaskSpec& task_;
  VirtualClock clock_;
  std::unique_ptr<IdentityVerifier> verifier_;
  std::unique_ptr<Rng> rng_;  // of nonces
  aggregation::SeenKeys seen_keys_;
  Fleet fleet_;
  coordinator::ServerState state_;
  coordinator::CohortSums sums_;
  std::vector<std::unique_ptr<Run>> runs_;
  std::unordered_map<uint32_t, Asked> asked_;  // by client
  std::set<Arrival> arrivals_;
  std::vector<Job> owed_;              // answers that were sent and never heard
  SimulatedRound* current_ = nullptr;  // while RunRound
  Status why_none_;                    // the last cohorts that ended made no sum
  double clients_seconds_ = 0;         // CPU, of this round
  double computing_seconds_ = 0;       // CPU of this thread inside the workers, of this round
  uint64_t sequence_ = 0;
  uint64_t rounds_begun_ = 0;
  uint32_t aborts_in_a_row_ = 0;
  Time now_{0};
};

}  // namespace chorus::simulation
