// The clients' work of a simulation, spread over the processes of a cluster: each client belongs to
// one of them for good, and what its devices answer does not depend on which. Rank 0 gives out
// work; the others serve until it has no more.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "chorus/bytes.h"
#include "chorus/simulation.h"
#include "chorus/status.h"
#include "simulation/devices.h"

namespace chorus::simulation {

// Before any work: all processes go on or none does. The verdict that all get is the first failure
// by rank, or kInvalidArgument when not all have the same `inputs`.
Status ShareInputs(Cluster& cluster, const Result<Bytes>& inputs);

// Thread-compatible. Failures are the cluster's, or those of any process's devices: the first by
// rank.
class Workers {
 public:
  // `cluster` may be null: this process alone. Both must outlive the object. `threads` are this
  // process's.
  Workers(Devices& devices, Cluster* cluster, uint32_t threads);

  // --- of rank 0, as those of Devices
  Status BeginRound(uint64_t round, std::span<const float> published, const Digest& hash);
  Result<std::vector<Done>> Do(std::span<const Job> jobs, Time now);
  Status EndRound(uint64_t round);
  Result<std::vector<ClientAccuracy>> Measure(std::span<const float> weights);
  // Lets the other ranks go.
  Status Finish();

  // --- of the others: until rank 0 finishes
  Status Serve();

  // Of all processes, if each has as many.
  uint64_t threads() const { return uint64_t{threads_} * part_.count; }

 private:
  bool alone() const { return part_.count == 1; }
  bool Mine(uint32_t client) const { return client % part_.count == part_.index; }
  Result<Bytes> Perform(BytesView command);
  Result<std::vector<Bytes>> Call(BytesView command);

  Devices& devices_;
  Cluster* cluster_;
  uint32_t threads_;
  Part part_;
};

}  // namespace chorus::simulation
