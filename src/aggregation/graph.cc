#include "aggregation/graph.h"

#include <algorithm>
#include <numeric>
#include <string>

#include "base/limits.h"

namespace chorus::aggregation {
namespace {

constexpr uint64_t kMillion = 1'000'000;

uint64_t CeilOfPpm(uint64_t ppm, uint64_t n) { return (ppm * n + kMillion - 1) / kMillion; }

std::span<const GraphRow> TableOf(SharingGraph graph) {
  if (graph == SharingGraph::kSelfSelected) return kSelfSelectedTable;
  return kHararyTable;
}

// Where a row keeps the entry of these assumptions.
Result<size_t> ColumnOf(const SessionParams& params) {
  if (params.sigma != kTableSigma || params.eta != kTableEta) {
    return InvalidArgument("sigma and eta of this graph must be 40 and 20");
  }
  const auto gamma = std::find(kTableGammasPpm.begin(), kTableGammasPpm.end(), params.gamma_ppm);
  const auto delta = std::find(kTableDeltasPpm.begin(), kTableDeltasPpm.end(), params.delta_ppm);
  if (gamma == kTableGammasPpm.end() || delta == kTableDeltasPpm.end()) {
    return InvalidArgument(
        "with this graph gamma_ppm must be 50000, 100000 or 200000, and delta_ppm 50000, 100000, "
        "200000 or 330000");
  }
  return static_cast<size_t>(gamma - kTableGammasPpm.begin()) * kTableDeltasPpm.size() +
         static_cast<size_t>(delta - kTableDeltasPpm.begin());
}

Result<GraphParams> FromTable(const SessionParams& params, uint32_t n) {
  CHORUS_TRY_ASSIGN(const size_t column, ColumnOf(params));
  const std::span<const GraphRow> table = TableOf(static_cast<SharingGraph>(params.mode));
  const auto row =
      std::lower_bound(table.begin(), table.end(), n,
                       [](const GraphRow& candidate, uint32_t size) { return candidate.n < size; });
  if (row == table.end() || row->n != n) {
    return InvalidArgument("a cohort of " + std::to_string(n) + " is no size of the graph's table");
  }
  const GraphEntry& entry = row->entries[column];
  if (entry.k == 0) {
    return InvalidArgument("a cohort of " + std::to_string(n) +
                           " cannot bear these assumptions; enlarge the cohort or lower delta_ppm "
                           "or gamma_ppm");
  }
  GraphParams graph{entry.k, entry.t, entry.a};
  if (params.mode == static_cast<uint8_t>(SharingGraph::kHarary)) {
    // The coordinator is taken at its word, so every sum is over n_min clients at least.
    const auto corrupt = static_cast<uint32_t>(params.gamma_ppm * uint64_t{n} / kMillion);
    graph.honest = params.n_min - std::min(params.n_min, corrupt);
  }
  return graph;
}

}  // namespace

Result<GraphParams> CompleteGraph(uint32_t n, uint32_t gamma_ppm, uint32_t delta_ppm) {
  if (n < 2) return InvalidArgument("a complete graph needs two clients at least");
  const uint64_t corrupt = std::max<uint64_t>(1, CeilOfPpm(gamma_ppm, n));
  const uint64_t dropouts = CeilOfPpm(delta_ppm, n);
  const uint64_t k = n - 1;
  const uint64_t t = (k + corrupt) / 2 + 1;
  if (t + dropouts > k) {
    return InvalidArgument("a cohort of " + std::to_string(n) + " cannot bear " +
                           std::to_string(corrupt) + " corrupt members and " +
                           std::to_string(dropouts) +
                           " dropouts; enlarge the cohort or lower delta_ppm or gamma_ppm");
  }
  return GraphParams{static_cast<uint32_t>(k), static_cast<uint32_t>(t),
                     static_cast<uint32_t>(t - corrupt + 1)};
}

Result<GraphParams> GraphFor(const SessionParams& params, uint32_t n) {
  if (params.mode == static_cast<uint8_t>(SharingGraph::kComplete)) {
    return CompleteGraph(n, params.gamma_ppm, params.delta_ppm);
  }
  return FromTable(params, n);
}

uint32_t RosterSize(const SessionParams& params, uint32_t advertised) {
  uint32_t size = 0;
  if (params.mode == static_cast<uint8_t>(SharingGraph::kComplete))
    size = advertised;
  else
    for (const GraphRow& row : TableOf(static_cast<SharingGraph>(params.mode))) {
      if (row.n <= advertised) size = row.n;
    }
  return size >= params.n_min ? size : 0;
}

Status CheckGraph(const SessionParams& params) {
  const auto graph = static_cast<SharingGraph>(params.mode);
  if (params.mode > static_cast<uint8_t>(SharingGraph::kHarary)) {
    return InvalidArgument("the mode is not one that this version knows");
  }
  if (graph == SharingGraph::kComplete) {
    if (params.n_max > limits::kCompleteCohortMax) {
      return InvalidArgument("n_max is above " + std::to_string(limits::kCompleteCohortMax) +
                             ", the largest cohort of a complete graph");
    }
    return internal::StatusOf(CompleteGraph(params.n_max, params.gamma_ppm, params.delta_ppm));
  }
  // Below the table's first size the assumptions leave a chance that clients sit in no large set.
  const uint32_t self_selected_min = kSelfSelectedTable.front().n;
  if (graph == SharingGraph::kSelfSelected && params.n_min < self_selected_min) {
    return InvalidArgument("n_min is below " + std::to_string(self_selected_min) +
                           ", the smallest cohort of a self-selected graph");
  }
  CHORUS_TRY(internal::StatusOf(ColumnOf(params)));
  const uint32_t largest = RosterSize(params, params.n_max);
  if (largest == 0) return InvalidArgument("no size of the graph's table is in n_min..n_max");
  return internal::StatusOf(FromTable(params, largest));
}

std::vector<Index> Neighbours::All() const {
  std::vector<Index> all;
  all.reserve(out.size() + in.size());
  std::set_union(out.begin(), out.end(), in.begin(), in.end(), std::back_inserter(all));
  return all;
}

std::vector<Index> ChooseNeighbours(Rng& rng, uint32_t n, Index me, uint32_t k) {
  std::vector<Index> others(n);
  std::iota(others.begin(), others.end(), Index{0});
  others.erase(others.begin() + me);
  for (uint32_t i = 0; i < k; ++i) {
    std::swap(others[i], others[i + UniformBelow(rng, others.size() - i)]);
  }
  others.resize(k);
  std::sort(others.begin(), others.end());
  return others;
}

std::vector<Neighbours> RingOf(Rng& rng, uint32_t n, uint32_t k) {
  std::vector<Index> ring(n);
  std::iota(ring.begin(), ring.end(), Index{0});
  for (uint32_t i = 0; i + 1 < n; ++i) std::swap(ring[i], ring[i + UniformBelow(rng, n - i)]);
  std::vector<Neighbours> graph(n);
  for (uint32_t place = 0; place < n; ++place) {
    std::vector<Index>& out = graph[ring[place]].out;
    out.reserve(k);
    for (uint32_t step = 1; step <= k / 2; ++step) {
      out.push_back(ring[(place + step) % n]);
      out.push_back(ring[(place + n - step) % n]);
    }
    std::sort(out.begin(), out.end());
    graph[ring[place]].in = out;
  }
  return graph;
}

std::vector<Neighbours> CompleteGraphOf(uint32_t n) {
  std::vector<Neighbours> graph(n);
  for (Index u = 0; u < n; ++u) {
    for (Index v = 0; v < n; ++v) {
      if (v != u) graph[u].out.push_back(v);
    }
    graph[u].in = graph[u].out;
  }
  return graph;
}

void FillIn(std::vector<Neighbours>& graph, const std::vector<bool>& present) {
  for (Neighbours& member : graph) member.in.clear();
  for (Index u = 0; u < graph.size(); ++u) {
    if (!present[u]) continue;
    for (const Index holder : graph[u].out) graph[holder].in.push_back(u);
  }
  for (Neighbours& member : graph) member.in.shrink_to_fit();
}

void DropUnsupported(std::span<const Neighbours> graph, uint32_t threshold,
                     std::vector<bool>& present) {
  std::vector<uint32_t> holders(graph.size(), 0);
  std::vector<Index> dropped;
  const auto drop_if_short = [&](Index u) {
    if (!present[u] || holders[u] >= threshold) return;
    present[u] = false;
    dropped.push_back(u);
  };
  for (Index u = 0; u < graph.size(); ++u) {
    for (const Index holder : graph[u].out) holders[u] += present[holder] ? 1 : 0;
  }
  for (Index u = 0; u < graph.size(); ++u) drop_if_short(u);
  while (!dropped.empty()) {
    const Index gone = dropped.back();
    dropped.pop_back();
    for (const Index owner : graph[gone].in) {
      if (!present[owner]) continue;
      --holders[owner];
      drop_if_short(owner);
    }
  }
}

}  // namespace chorus::aggregation
