// The sharing graphs: their parameters against the published and the solved ones, and the laws of
// the graphs themselves [specification 3.6].
#include "aggregation/graph.h"

#include <gmock/gmock.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <set>
#include <sstream>

#include "crypto/crypto.h"
#include "matchers.h"

namespace chorus::aggregation {
namespace {

SessionParams ParamsOf(SharingGraph graph, uint32_t gamma_ppm, uint32_t delta_ppm) {
  SessionParams params;
  params.mode = static_cast<uint8_t>(graph);
  params.gamma_ppm = gamma_ppm;
  params.delta_ppm = delta_ppm;
  params.n_min = graph == SharingGraph::kSelfSelected ? 160 : 32;
  params.n_max = 1'024;
  return params;
}

// k and t that Google's graph parameter finder publishes for an honest but curious server, as far
// as they are in the table; tests/graph_parameters.py reproduces all 22.
TEST(GraphTable, HoldsThePublishedHararyParameters) {
  struct Row {
    uint32_t n, gamma_ppm, delta_ppm, k, t;
  };
  const Row rows[] = {{100, 50'000, 330'000, 28, 6},     {1'000, 50'000, 330'000, 72, 24},
                      {10'000, 50'000, 330'000, 86, 29}, {100'000, 50'000, 330'000, 96, 32},
                      {1'000, 50'000, 50'000, 30, 17},   {10'000, 50'000, 50'000, 34, 20}};
  for (const Row& row : rows) {
    const Result<GraphParams> graph =
        GraphFor(ParamsOf(SharingGraph::kHarary, row.gamma_ppm, row.delta_ppm), row.n);
    ASSERT_THAT(graph, IsOk());
    EXPECT_EQ(graph->k, row.k) << row.n;
    EXPECT_EQ(graph->t, row.t) << row.n;
  }
}

// Entries of the specification's worked table.
TEST(GraphTable, HoldsTheWorkedSelfSelectedParameters) {
  struct Row {
    uint32_t n, gamma_ppm, delta_ppm, k, t, a;
  };
  const Row rows[] = {
      {300, 50'000, 50'000, 38, 27, 62},         {1'000, 50'000, 100'000, 78, 52, 296},
      {1'000, 200'000, 330'000, 780, 487, 370},  {3'000, 100'000, 200'000, 250, 160, 1'016},
      {10'000, 200'000, 50'000, 114, 89, 1'754}, {100'000, 50'000, 330'000, 890, 501, 42'537}};
  for (const Row& row : rows) {
    const Result<GraphParams> graph =
        GraphFor(ParamsOf(SharingGraph::kSelfSelected, row.gamma_ppm, row.delta_ppm), row.n);
    ASSERT_THAT(graph, IsOk());
    EXPECT_EQ(graph->k, row.k) << row.n;
    EXPECT_EQ(graph->t, row.t) << row.n;
    EXPECT_EQ(graph->honest, row.a) << row.n;
  }
}

// The output of `python3 graph_parameters.py ARGUMENT`, or nothing where there is no Python.
std::string Solved(const std::string& argument) {
  const std::string command = "python3 " CHORUS_SOURCE_DIR "/tests/graph_parameters.py " + argument;
  FILE* pipe = ::popen((command + " 2>/dev/null").c_str(), "r");
  if (pipe == nullptr) return "";
  std::string text;
  char buffer[4'096];
  while (const size_t size = std::fread(buffer, 1, sizeof(buffer), pipe)) text.append(buffer, size);
  return ::pclose(pipe) == 0 ? text : "";
}

bool HasPython() { return std::system("python3 -c pass >/dev/null 2>&1") == 0; }

TEST(GraphTable, SolverReproducesThePublishedValues) {
  if (!HasPython()) GTEST_SKIP() << "needs python3";
  EXPECT_EQ(Solved("published"), "22 published values reproduced\n");
}

// I10: the table in the library is what the solver makes.
TEST(GraphTable, EqualsTheSolversOutput) {
  if (!HasPython()) GTEST_SKIP() << "needs python3";
  std::ifstream file(CHORUS_SOURCE_DIR "/src/aggregation/graph_table.cc");
  std::stringstream committed;
  committed << file.rdbuf();
  EXPECT_EQ(Solved("table"), committed.str());
}

// What must hold of every entry, whoever solved for it.
TEST(GraphTable, EveryEntryIsAGraph) {
  uint32_t last = 0;
  for (const GraphRow& row : kSelfSelectedTable) {
    EXPECT_GT(row.n, last);
    last = row.n;
    for (const GraphEntry& entry : row.entries) {
      if (entry.k == 0) continue;
      EXPECT_LT(entry.k, row.n - 1);
      EXPECT_EQ(entry.k % 2, 0);
      EXPECT_GT(2 * entry.t, entry.k) << "two sets of holders could open both shares";
      EXPECT_LE(entry.t, entry.k);
      EXPECT_GE(entry.a * 5, row.n * 4 / 5);
    }
  }
  last = 0;
  for (const GraphRow& row : kHararyTable) {
    EXPECT_GT(row.n, last);
    last = row.n;
    for (const GraphEntry& entry : row.entries) {
      EXPECT_LT(entry.k, row.n);
      EXPECT_EQ(entry.k % 2, 0) << "a ring needs as many neighbours on either side";
      EXPECT_LE(entry.t, entry.k);
    }
  }
}

TEST(GraphFor, RefusesWhatTheTableLacks) {
  const SessionParams good = ParamsOf(SharingGraph::kSelfSelected, 50'000, 100'000);
  EXPECT_THAT(GraphFor(good, 192), IsOk());
  EXPECT_THAT(GraphFor(good, 193), HasCode(Code::kInvalidArgument));
  EXPECT_THAT(GraphFor(good, 128), HasCode(Code::kInvalidArgument));
  EXPECT_THAT(GraphFor(good, 200'000), HasCode(Code::kInvalidArgument));
  const auto changed = [&](const std::function<void(SessionParams&)>& change) {
    SessionParams params = good;
    change(params);
    return GraphFor(params, 192);
  };
  EXPECT_THAT(changed([](SessionParams& p) { p.gamma_ppm = 50'001; }),
              HasCode(Code::kInvalidArgument));
  EXPECT_THAT(changed([](SessionParams& p) { p.delta_ppm = 0; }), HasCode(Code::kInvalidArgument));
  EXPECT_THAT(changed([](SessionParams& p) { p.sigma = 41; }), HasCode(Code::kInvalidArgument));
  EXPECT_THAT(changed([](SessionParams& p) { p.eta = 21; }), HasCode(Code::kInvalidArgument));
  // 200000 and 330000 need more holders than 30,000 clients can be asked to have.
  EXPECT_THAT(GraphFor(ParamsOf(SharingGraph::kSelfSelected, 200'000, 330'000), 30'000),
              HasCodeAndText(Code::kInvalidArgument, "cannot bear"));
}

TEST(GraphFor, TakesTheCorruptOffTheMinimumOnTheRing) {
  SessionParams params = ParamsOf(SharingGraph::kHarary, 100'000, 50'000);
  params.n_min = 90;
  EXPECT_EQ(GraphFor(params, 100)->honest, 80U);
  params.n_min = 5;
  EXPECT_EQ(GraphFor(params, 100)->honest, 0U);
}

TEST(RosterSize, IsTheLargestInTheTableBelow) {
  const SessionParams params = ParamsOf(SharingGraph::kSelfSelected, 50'000, 100'000);
  EXPECT_EQ(RosterSize(params, 159), 0U);
  EXPECT_EQ(RosterSize(params, 160), 160U);
  EXPECT_EQ(RosterSize(params, 299), 288U);
  EXPECT_EQ(RosterSize(params, 303), 300U);
  EXPECT_EQ(RosterSize(params, 1'023), 1'000U);
  EXPECT_EQ(RosterSize(params, 1'024), 1'024U);
  SessionParams more = params;
  more.n_min = 200;
  EXPECT_EQ(RosterSize(more, 199), 0U);
  EXPECT_EQ(RosterSize(more, 223), 0U) << "192 are fewer than the minimum";
  EXPECT_EQ(RosterSize(more, 224), 224U);
  EXPECT_EQ(RosterSize(ParamsOf(SharingGraph::kHarary, 50'000, 50'000), 111), 100U);
  EXPECT_EQ(RosterSize(ParamsOf(SharingGraph::kComplete, 1, 1), 77), 77U);
}

TEST(CheckGraph, BoundsTheCohortOfEachGraph) {
  SessionParams params = ParamsOf(SharingGraph::kSelfSelected, 50'000, 100'000);
  EXPECT_THAT(CheckGraph(params), IsOk());
  params.n_min = 159;
  EXPECT_THAT(CheckGraph(params), HasCode(Code::kInvalidArgument));
  params.n_min = 193;
  params.n_max = 223;
  EXPECT_THAT(CheckGraph(params), HasCodeAndText(Code::kInvalidArgument, "no size"));
  params = ParamsOf(SharingGraph::kHarary, 50'000, 100'000);
  EXPECT_THAT(CheckGraph(params), IsOk());
  params = ParamsOf(SharingGraph::kComplete, 50'000, 100'000);
  params.n_max = 128;
  EXPECT_THAT(CheckGraph(params), IsOk());
  params.n_max = 129;
  EXPECT_THAT(CheckGraph(params), HasCodeAndText(Code::kInvalidArgument, "complete graph"));
}

// Chi-square over who is chosen, 29 degrees of freedom; 75 is passed by chance once in 10^5.
TEST(ChooseNeighbours, DrawsUniformlyWithoutReplacement) {
  const std::unique_ptr<Rng> rng = crypto::NewSeededRng(Bytes(32, 7));
  constexpr uint32_t kRuns = 20'000;
  std::vector<double> counts(31, 0.0);
  for (uint32_t run = 0; run < kRuns; ++run) {
    const std::vector<Index> chosen = ChooseNeighbours(*rng, 31, 11, 6);
    ASSERT_EQ(std::set<Index>(chosen.begin(), chosen.end()).size(), 6U);
    ASSERT_TRUE(std::is_sorted(chosen.begin(), chosen.end()));
    for (const Index index : chosen) counts.at(index) += 1;
  }
  EXPECT_EQ(counts[11], 0) << "itself";
  double chi_square = 0;
  for (size_t i = 0; i < counts.size(); ++i) {
    const double expected = kRuns * 6 / 30.0;
    if (i != 11) chi_square += (counts[i] - expected) * (counts[i] - expected) / expected;
  }
  EXPECT_LT(chi_square, 75.0);
  EXPECT_EQ(ChooseNeighbours(*rng, 5, 4, 4), (std::vector<Index>{0, 1, 2, 3}));
}

TEST(RingOf, IsRegularSymmetricAndConnected) {
  const std::unique_ptr<Rng> rng = crypto::NewSeededRng(Bytes(32, 8));
  const std::vector<Neighbours> ring = RingOf(*rng, 32, 8);
  for (Index u = 0; u < 32; ++u) {
    EXPECT_EQ(ring[u].out.size(), 8U);
    EXPECT_EQ(ring[u].in, ring[u].out);
    EXPECT_EQ(ring[u].All(), ring[u].out);
    for (const Index v : ring[u].out) {
      EXPECT_NE(v, u);
      EXPECT_TRUE(std::binary_search(ring[v].out.begin(), ring[v].out.end(), u));
    }
  }
  std::set<Index> reached{0};
  for (size_t before = 0; before != reached.size();) {
    before = reached.size();
    for (const Index u : std::set<Index>(reached)) {
      reached.insert(ring[u].out.begin(), ring[u].out.end());
    }
  }
  EXPECT_EQ(reached.size(), 32U);
  EXPECT_NE(RingOf(*rng, 32, 8)[0].out, ring[0].out) << "the order is drawn anew";
}

// Against the definition: drop whoever is short of holders, again until nobody is.
TEST(DropUnsupported, ReachesTheFixedPoint) {
  size_t cascades = 0;
  for (uint8_t seed = 0; seed < 200; ++seed) {
    const std::unique_ptr<Rng> rng = crypto::NewSeededRng(Bytes(32, seed));
    const uint32_t n = 12;
    std::vector<Neighbours> graph(n);
    std::vector<bool> present(n);
    for (Index u = 0; u < n; ++u) {
      graph[u].out = ChooseNeighbours(*rng, n, u, 5);
      present[u] = UniformBelow(*rng, 5) != 0;
    }
    FillIn(graph, present);
    for (Index u = 0; u < n; ++u) {
      for (const Index owner : graph[u].in) {
        EXPECT_TRUE(present[owner]);
        EXPECT_TRUE(std::binary_search(graph[owner].out.begin(), graph[owner].out.end(), u));
      }
    }
    std::vector<bool> expected = present;
    size_t passes = 0;
    for (bool changed = true; changed; ++passes) {
      changed = false;
      for (Index u = 0; u < n; ++u) {
        const auto holders = std::count_if(graph[u].out.begin(), graph[u].out.end(),
                                           [&](Index v) { return expected[v]; });
        if (expected[u] && holders < 4) expected[u] = false, changed = true;
      }
    }
    cascades += passes > 2 ? 1 : 0;
    DropUnsupported(graph, 4, present);
    EXPECT_EQ(present, expected) << "seed " << int{seed};
  }
  EXPECT_GT(cascades, 20U) << "the cases are too easy to tell a fixed point from one pass";
}

}  // namespace
}  // namespace chorus::aggregation
