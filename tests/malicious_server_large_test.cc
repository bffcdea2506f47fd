// I8 at the smallest cohort of a self-selected graph, with the library's own table: gamma and delta
// of 5 %, so that eight of 160 collude, k = 26, t = 18, a = 39. In small graphs, by thousands of
// seeds, it is in malicious_server_test.cc.
#include "malicious_server.h"
#include "test_rng.h"

namespace chorus::aggregation {
namespace {

constexpr size_t kColluders = 8;

CohortShape Large() {
  CohortShape shape;
  shape.graph = SharingGraph::kSelfSelected;
  shape.clients = 160;
  shape.minimum = 160;
  shape.dim = 1;
  shape.delta_ppm = 50'000;
  return shape;
}

// Every set that the server learned is what the table promises; how many clients are in each.
std::vector<size_t> Judge(const MaliciousServer& server) {
  std::vector<size_t> sizes;
  for (const Learned& set : server.Learn()) {
    EXPECT_TRUE(set.closed && set.exact);
    EXPECT_GE(set.clients.size(), server.Graph(*set.clients.begin()).honest);
    sizes.push_back(set.clients.size());
  }
  return sizes;
}

TEST(LargeMaliciousServer, LearnsTheSumOfAllWhenItDoesNotLie) {
  MaliciousServer server(1, Large(), kColluders);
  server.Run();
  EXPECT_EQ(Judge(server), std::vector<size_t>{160 - kColluders});
  EXPECT_EQ(server.Graph(kColluders).honest, 39U);
}

// The server keeps ten clients apart, tells the others that they dropped out, and spoils what it
// passes on here and there: it learns the sum of those who are left, and no part of it.
TEST(LargeMaliciousServer, LearnsOnlySumsOfAsManyAsTheTableSays) {
  MaliciousServer server(2, Large(), kColluders);
  TestRng rng(2);
  const auto apart = [](size_t client) { return client >= 150; };
  server.script.delivers = [&](size_t to, size_t from) {
    return from < kColluders || apart(to) == apart(from);
  };
  server.script.spoils = [&](size_t, size_t) { return UniformBelow(rng, 100) == 0; };
  server.Run();
  EXPECT_FALSE(server.Uploaded(155)) << "ten are too few for a threshold of holders among them";
  EXPECT_EQ(Judge(server), std::vector<size_t>{150 - kColluders});
  EXPECT_GT(server.cohort.monitor.shares_opened(), 0U);
}

}  // namespace
}  // namespace chorus::aggregation
