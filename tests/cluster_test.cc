// Processes that share a simulation and fail: none of them may wait for another that has given up.
#include <gtest/gtest.h>

#include <thread>

#include "matchers.h"
#include "simulation_world.h"

namespace chorus {
namespace {

struct TwinStatuses {
  Status first;
  Status second;
};
template <typename First, typename Second>
TwinStatuses OnTwins(const First& first, const Second& second) {
  TwinCluster twins;
  TwinStatuses statuses;
  std::thread other([&] { statuses.second = second(twins.of(1)); });
  statuses.first = first(twins.of(0));
  other.join();
  return statuses;
}

TEST(Cluster, EndsInAllProcessesWhenOneCannotBegin) {
  const CloudPeople people(20);
  const Simulation good = SmallSimulation(Protocol::kPlain, 10, 2);
  Simulation bad = good;
  bad.faults.loss = 2;
  Simulation bad_start = good;
  bad_start.initial_weights = Weights(3);
  const auto run = [&](const Simulation& simulation) {
    return [&](Cluster& cluster) {
      return RunSimulation(simulation, people.population(), {.cluster = &cluster}).status();
    };
  };
  const TwinStatuses second = OnTwins(run(good), run(bad));
  EXPECT_THAT(second.first, HasCodeAndText(Code::kInvalidArgument, "process 1: faults.loss"));
  EXPECT_THAT(second.second, HasCodeAndText(Code::kInvalidArgument, "faults.loss"));
  const TwinStatuses first = OnTwins(run(bad), run(good));
  EXPECT_THAT(first.first, HasCodeAndText(Code::kInvalidArgument, "faults.loss"));
  EXPECT_THAT(first.second, HasCodeAndText(Code::kInvalidArgument, "faults.loss"));
  // What rank 0 alone looks at.
  const TwinStatuses start = OnTwins(run(bad_start), run(bad_start));
  EXPECT_THAT(start.first, HasCodeAndText(Code::kInvalidArgument, "initial_weights"));
  EXPECT_THAT(start.second, HasCodeAndText(Code::kInvalidArgument, "initial_weights"));
}

TEST(Cluster, RefusesToShareDifferentData) {
  const CloudPeople people(20);
  const CloudPeople others(20, /*examples_each=*/61);
  const Simulation simulation = SmallSimulation(Protocol::kPlain, 10, 2);
  Simulation reseeded = simulation;
  ++reseeded.seed;
  const auto run = [](const Simulation& shared, const CloudPeople& data) {
    return [&](Cluster& cluster) {
      return RunSimulation(shared, data.population(), {.cluster = &cluster}).status();
    };
  };
  for (const TwinStatuses& statuses : {OnTwins(run(simulation, people), run(simulation, others)),
                                       OnTwins(run(simulation, people), run(reseeded, people))}) {
    EXPECT_THAT(statuses.first, HasCodeAndText(Code::kInvalidArgument, "process 1 has another"));
    EXPECT_THAT(statuses.second, HasCodeAndText(Code::kInvalidArgument, "process 1 has another"));
  }
}

TEST(Cluster, SharesWhatFailedBeforeTheSimulation) {
  const auto say = [](const Status& mine) {
    return [&mine](Cluster& cluster) { return ShareVerdict(&cluster, mine); };
  };
  const Status fine;
  const Status missing = NotFound("no such file");
  const TwinStatuses one = OnTwins(say(fine), say(missing));
  EXPECT_THAT(one.first, HasCodeAndText(Code::kNotFound, "process 1: no such file"));
  EXPECT_THAT(one.second, HasCodeAndText(Code::kNotFound, "no such file"));
  const TwinStatuses none = OnTwins(say(fine), say(fine));
  EXPECT_THAT(none.first, IsOk());
  EXPECT_THAT(none.second, IsOk());
}

// A failure in the midst of the work, of the process that serves.
TEST(Cluster, HearsOfWhatFailsInAnotherProcess) {
  const CloudPeople people(20);
  const Simulation simulation = SmallSimulation(Protocol::kPlain, 10, 2);
  Cancel cancel;
  const TwinStatuses statuses = OnTwins(
      [&](Cluster& cluster) {
        return RunSimulation(simulation, people.population(),
                             {.progress = [&](const SimulationProgress&) { cancel.Request(); },
                              .cluster = &cluster})
            .status();
      },
      [&](Cluster& cluster) {
        return RunSimulation(simulation, people.population(),
                             {.cancel = &cancel, .cluster = &cluster})
            .status();
      });
  EXPECT_THAT(statuses.first, HasCode(Code::kCancelled));
  EXPECT_THAT(statuses.second, IsOk());
}

}  // namespace
}  // namespace chorus
