// How examples are dealt out to clients: the splits of the literature, each from a seed. Pure.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "base/random.h"
#include "chorus/status.h"

namespace chorus::cli {

enum class PartitionKind : uint8_t {
  kIid,        // shuffled and dealt out in turn: equal shares
  kShards,     // sorted by label, cut into clients * shards pieces, so many pieces each [MMRHA17]
  kDirichlet,  // each class in proportions drawn from Dirichlet(alpha) [HQB19]
  kColumn,     // natural: a client for each value of the user column
  kFile,       // natural: a client for each file
};

// "iid", "shards" and so on; kInvalidArgument names the kinds there are.
Result<PartitionKind> ParsePartitionKind(std::string_view text);
std::string_view PartitionName(PartitionKind kind);

using Indices = std::vector<uint32_t>;   // of examples
using Partition = std::vector<Indices>;  // [clients]

// One draw from the symmetric Dirichlet(alpha): `count` proportions that sum to 1.
std::vector<double> DrawDirichlet(double alpha, size_t count, Rng& rng);

// Each gives every example to exactly one client; `clients` is not zero.
Partition DealEvenly(size_t examples, uint32_t clients, Rng& rng);
// Pieces differ by at most one example. clients * shards must not exceed the examples.
Partition DealShards(std::span<const uint32_t> labels, uint32_t clients, uint32_t shards, Rng& rng);
Partition DealByDirichlet(std::span<const uint32_t> labels, uint32_t clients, double alpha,
                          Rng& rng);

// Moves examples, each drawn from the client that is richest at the time, until everyone has
// `examples_min`. There must be enough for all.
void RaiseToMinimum(Partition& partition, uint32_t examples_min, Rng& rng);

// The source of a partition: equal seeds give equal partitions on every machine whose libm rounds
// log, exp, sqrt and cos alike.
std::unique_ptr<Rng> NewPartitionRng(uint64_t seed);

}  // namespace chorus::cli
