// Cohorts of the larger sharing graphs, with real clients over loopback gRPC.
#include <numeric>

#include "federation.h"

namespace chorus {
namespace {

// What must hold for any graph: `task` over as many clients as fill its
// cohorts gives the model of a plain round over the same clients, and nobody is asked for keys.
class LargeCohorts : public Federation {
 protected:
  void ExpectsThePlainModel(TaskSpec task) {
    const uint32_t count = task.cohort.target * task.cohort.parallel;
    std::vector<uint64_t> clients(count);
    std::iota(clients.begin(), clients.end(), uint64_t{0});
    TaskSpec plain = task;
    plain.protocol = Protocol::kPlain;
    plain.cohort = {.minimum = count, .target = count, .maximum = count};
    const Weights expected = ModelOf(plain, clients);

    const std::unique_ptr<Store> store = NewMemoryStore();
    ASSERT_THAT(Serve(task, *store), IsOk());
    for (const uint64_t client : clients) Join(client, Clouds(client));
    uint32_t asked_for_keys = 0;
    std::optional<CoordinatorEvent> ended;
    const Time end = clock_->Now() + seconds(500);
    while (!ended && clock_->Now() < end) {
      for (const CoordinatorEvent& event : coordinator_->Poll(milliseconds(50))) {
        if (event.step == "keys") asked_for_keys += event.asked;
        if (event.kind == CoordinatorEvent::Kind::kRoundEnded) ended = event;
      }
    }
    ASSERT_TRUE(ended.has_value());
    ASSERT_EQ(ended->round.state, RoundState::kCommitted) << ended->round.reason;
    EXPECT_EQ(ended->round.contributors, count);
    EXPECT_EQ(ended->round.cohorts, task.cohort.parallel);
    EXPECT_EQ(ended->round.cohorts_committed, task.cohort.parallel);
    EXPECT_EQ(asked_for_keys, 0U) << "all had sent pre-keys";
    EXPECT_EQ(CurrentWeights(), expected);
  }
};

TaskSpec TaskWith(SharingGraph graph, uint32_t clients, uint32_t parallel) {
  TaskSpec task = SmallTask(Protocol::kSecAgg, clients);
  task.secagg.graph = graph;
  task.cohort = {.minimum = clients,
                 .target = clients,
                 .maximum = clients,
                 .over_selection_percent = 0,
                 .parallel = parallel};
  return task;
}

TEST_F(LargeCohorts, OnASelfSelectedGraphGiveThePlainModel) {
  ExpectsThePlainModel(TaskWith(SharingGraph::kSelfSelected, 160, 1));
}

TEST_F(LargeCohorts, OnTwoHararyRingsSideBySideGiveThePlainModel) {
  ExpectsThePlainModel(TaskWith(SharingGraph::kHarary, 32, 2));
}

}  // namespace
}  // namespace chorus
