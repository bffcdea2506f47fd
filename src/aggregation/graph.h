// The sharing graph: who holds shares of whose secrets, and how many open them [specification 3.6].
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "aggregation/protocols.h"
#include "aggregation/secagg.h"
#include "base/random.h"

namespace chorus::aggregation {

// --- parameters (graph.cc, graph_table.cc) ---------------------------------------------------
// The table is part of the protocol: both sides of a session must read the same k and t. Whoever
// changes an entry changes the version, and the label of the session id with it.
inline constexpr uint32_t kGraphTableVersion = 1;
inline constexpr std::array<uint32_t, 3> kTableGammasPpm = {50'000, 100'000, 200'000};
inline constexpr std::array<uint32_t, 4> kTableDeltasPpm = {50'000, 100'000, 200'000, 330'000};
inline constexpr uint8_t kTableSigma = 40;
inline constexpr uint8_t kTableEta = 20;

struct GraphEntry {  // zeros: no graph of this size serves under these assumptions
  uint16_t k = 0;
  uint16_t t = 0;
  uint16_t a = 0;  // only of the self-selected graph
};
struct GraphRow {
  uint32_t n = 0;
  // By gamma, then by delta.
  std::array<GraphEntry, kTableGammasPpm.size() * kTableDeltasPpm.size()> entries;
};
inline constexpr size_t kSelfSelectedTableRows = 34;
inline constexpr size_t kHararyTableRows = 42;
extern const std::array<GraphRow, kSelfSelectedTableRows> kSelfSelectedTable;  // ascending by n
extern const std::array<GraphRow, kHararyTableRows> kHararyTable;              // likewise

// Whether sessions of n_min to n_max clients can use the graph that `params` name.
// kInvalidArgument names what cannot be.
Status CheckGraph(const SessionParams& params);

// --- the graph itself (graph.cc) -------------------------------------------------------------
// Both ascending. In the complete graph and on the ring they are the same list.
struct Neighbours {
  std::vector<Index> out;  // who holds shares of this member
  std::vector<Index> in;   // whose shares this member holds
  std::vector<Index> All() const;
};

// `k` distinct members of `n` but `me`, uniformly, ascending. 0 < k < n, me < n.
std::vector<Index> ChooseNeighbours(Rng& rng, uint32_t n, Index me, uint32_t k);
// Everybody joined to the k nearest on a ring in random order (k even, k < n): a Harary graph.
std::vector<Neighbours> RingOf(Rng& rng, uint32_t n, uint32_t k);
std::vector<Neighbours> CompleteGraphOf(uint32_t n);
// Fills every `in` from the `out` of those in `present`.
void FillIn(std::vector<Neighbours>& graph, const std::vector<bool>& present);
// The drop rule: takes out of `present` who has fewer than `threshold` holders left in it, until
// nobody has. `in` lists must be filled. O(edges), whatever the members chose.
void DropUnsupported(std::span<const Neighbours> graph, uint32_t threshold,
                     std::vector<bool>& present);

}  // namespace chorus::aggregation
