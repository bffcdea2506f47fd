#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "learning/learning.h"
#include "matchers.h"
#include "simulation/fleet.h"
#include "simulation_world.h"

namespace chorus {
namespace {

using simulation::Fleet;
using testing::HasSubstr;

// Everything that can go wrong, often.
Simulation Troubled(Protocol protocol, uint32_t rounds) {
  Simulation simulation = SmallSimulation(protocol, /*cohort=*/16, rounds);
  simulation.task.cohort.minimum = 10;
  simulation.task.cohort.over_selection_percent = 25;
  simulation.task.secagg.delta_ppm = 200'000;
  simulation.task.deadlines.train = simulation.task.deadlines.upload = seconds(3);
  simulation.devices.examples_per_second = {Spread::Shape::kLognormal, 60, 0.5};
  simulation.devices.latency_seconds = {Spread::Shape::kUniform, 0.1, 0.9};
  simulation.availability.pattern = AvailabilitySpec::Pattern::kOnOff;
  simulation.availability.on_seconds_mean = 60;
  simulation.availability.off_seconds_mean = 30;
  simulation.faults.loss = 0.01;
  simulation.faults.dropout = {0.05, 0.02};
  return simulation;
}

SimulationResult Simulated(const Simulation& simulation, const Population& population) {
  Result<SimulationResult> result = RunSimulation(simulation, population, {});
  EXPECT_THAT(result, IsOk());
  return result.ok() ? *std::move(result) : SimulationResult{};
}

uint32_t Sum(const SimulationResult& result, size_t step, uint32_t SimulatedStep::*what) {
  uint32_t sum = 0;
  for (const SimulatedRound& round : result.rounds) {
    if (step < round.steps.size()) sum += round.steps[step].*what;
  }
  return sum;
}

// --- one seed, one story ---

class OneSeed : public testing::TestWithParam<Protocol> {};

TEST_P(OneSeed, GivesTheSameOnOneThreadOnThreeAndOnTwoProcesses) {
  const CloudPeople people(60);
  Simulation simulation = Troubled(GetParam(), /*rounds=*/4);
  const SimulationResult alone = Simulated(simulation, people.population());
  ASSERT_GE(alone.rounds.size(), 4U);
  EXPECT_GT(Sum(alone, 0, &SimulatedStep::left) + Sum(alone, 0, &SimulatedStep::late), 0U);
  simulation.threads = 3;
  EXPECT_EQ(Story(Simulated(simulation, people.population())), Story(alone));
  simulation.threads = 2;
  const Result<SimulationResult> twins = RunOnTwins(simulation, people.population());
  ASSERT_THAT(twins, IsOk());
  EXPECT_EQ(Story(*twins), Story(alone));
}

TEST_P(OneSeed, TellsAnotherStoryThanTheNext) {
  const CloudPeople people(60);
  Simulation simulation = Troubled(GetParam(), /*rounds=*/1);
  const std::string first = Story(Simulated(simulation, people.population()));
  ++simulation.seed;
  EXPECT_NE(Story(Simulated(simulation, people.population())), first);
}

INSTANTIATE_TEST_SUITE_P(Protocols, OneSeed, testing::Values(Protocol::kPlain, Protocol::kSecAgg),
                         [](const auto& protocol) {
                           return protocol.param == Protocol::kPlain ? "Plain" : "SecAgg";
                         });

TEST(Simulation, GivesTheSameModelUnderPlainAndSecAgg) {
  const CloudPeople people(30);
  Simulation simulation = SmallSimulation(Protocol::kPlain, 10, 3);
  const Weights plain = Simulated(simulation, people.population()).weights;
  simulation.task.protocol = Protocol::kSecAgg;
  EXPECT_EQ(Simulated(simulation, people.population()).weights, plain);
}

// What devices keep between rounds lives with the process that plays them, and answers that come
// too late change it too.
TEST(Simulation, KeepsControlVariatesAndPersonalLayersAlikeOnAnyNumberOfProcesses) {
  const CloudPeople people(60);
  Simulation simulation = Troubled(Protocol::kPlain, /*rounds=*/6);
  simulation.task.training.scaffold = true;
  simulation.task.training.population = 60;
  simulation.task.model.layers.back().personal = true;
  simulation.task.cohort = {.minimum = 10, .target = 40, .maximum = 64};
  // The last few of a step are late, whose answers another number of threads computes, or does not,
  // before it is known.
  simulation.task.deadlines.hedge = milliseconds(1);
  simulation.availability = {};
  simulation.faults = {};
  const SimulationResult alone = Simulated(simulation, people.population());
  EXPECT_GT(Sum(alone, 1, &SimulatedStep::late), 0U);
  simulation.threads = 3;
  EXPECT_EQ(Story(Simulated(simulation, people.population())), Story(alone));
  const Result<SimulationResult> twins = RunOnTwins(simulation, people.population());
  ASSERT_THAT(twins, IsOk());
  EXPECT_EQ(Story(*twins), Story(alone));
}

TEST(Simulation, MeasuresEachClientWithItsOwnLayers) {
  const CloudPeople people(10);
  Simulation simulation = SmallSimulation(Protocol::kPlain, 10, 3);
  simulation.task.model.layers.back().personal = true;
  const SimulationResult result = Simulated(simulation, people.population());
  const Result<learning::Evaluation> shared_alone =
      learning::Evaluate(simulation.task.model, Clouds(0), result.weights, Cancel());
  ASSERT_THAT(shared_alone, IsOk());
  EXPECT_NE(result.clients[0].loss, shared_alone->loss);
  EXPECT_LT(result.clients[0].loss, shared_alone->loss);
}

TEST(Simulation, LetsRoundsCloseOnCountWhileSlowCohortsGoOn) {
  const CloudPeople people(120);
  Simulation simulation = SmallSimulation(Protocol::kPlain, 8, 8);
  simulation.task.cohort.parallel = 4;
  simulation.task.server.buffered_sums = 2;
  simulation.devices.examples_per_second = {Spread::Shape::kLognormal, 60, 1.0};
  const SimulationResult buffered = Simulated(simulation, people.population());
  ASSERT_GE(buffered.rounds.size(), 8U);
  bool went_on = false;
  for (const SimulatedRound& round : buffered.rounds) {
    EXPECT_EQ(round.report.state, RoundState::kCommitted) << round.report.reason;
    // Cohorts that go on take places of new ones.
    went_on = went_on || round.report.cohorts < 4;
  }
  EXPECT_TRUE(went_on);
  simulation.threads = 3;
  EXPECT_EQ(Story(Simulated(simulation, people.population())), Story(buffered));
  simulation.task.server.buffered_sums = 0;
  EXPECT_LT(buffered.virtual_seconds, Simulated(simulation, people.population()).virtual_seconds);
}

// Sums that are too few wait for the next round, which begins at once, as it does in production.
TEST(Simulation, TakesNoPauseWhileSumsWaitForMore) {
  const CloudPeople people(60);
  Simulation simulation = SmallSimulation(Protocol::kPlain, 8, 4);
  simulation.task.cohort.minimum = 7;
  simulation.task.cohort.parallel = 4;
  simulation.task.server.buffered_sums = 4;
  simulation.faults.dropout = {0.1};
  const SimulationResult result = Simulated(simulation, people.population());
  bool waited = false;
  for (size_t i = 0; i + 1 < result.rounds.size(); ++i) {
    const SimulatedRound& round = result.rounds[i];
    if (round.report.reason.find("they count in a later round") == std::string::npos) continue;
    waited = true;
    EXPECT_EQ(result.rounds[i + 1].began_seconds, round.ended_seconds) << round.report.reason;
  }
  EXPECT_TRUE(waited);
}

TEST(Simulation, AnswersQueriesExactlyOverTheContributors) {
  const CloudPeople people(20);
  Simulation simulation = SmallSimulation(Protocol::kPlain, 10, 1);
  simulation.task.model = {};
  simulation.task.queries = {{.name = "examples", .kind = QueryKind::kCount}};
  const SimulationResult result = Simulated(simulation, people.population());
  ASSERT_EQ(result.rounds.size(), 1U);
  EXPECT_EQ(result.rounds[0].cells, (std::vector<int64_t>{600, 10}));
}

// The same task with the same seeds, on real clients and a real coordinator that talk over gRPC.
class Production : public Federation {};

TEST_F(Production, TrainsTheSameModelBitForBitWhenNothingFails) {
  constexpr uint32_t kRounds = 3;
  for (const Protocol protocol : {Protocol::kPlain, Protocol::kSecAgg}) {
    const CloudPeople people(6);
    const Simulation simulation = SmallSimulation(protocol, 6, kRounds);
    const SimulationResult simulated = Simulated(simulation, people.population());
    EXPECT_EQ(simulated.rounds.back().report.contributors, 6U);
    EXPECT_EQ(simulated.weights, ModelOf(simulation.task, {0, 1, 2, 3, 4, 5}));
  }
}

TEST_F(Production, MakesTheSumOfExactlyTheContributorsThatTheReportNames) {
  const CloudPeople people(12);
  Simulation simulation = SmallSimulation(Protocol::kPlain, 12, 1);
  simulation.faults.dropout = {0.2};
  const SimulationResult simulated = Simulated(simulation, people.population());
  const std::vector<uint32_t>& named = simulated.rounds.front().contributors;
  ASSERT_GE(named.size(), 6U);
  ASSERT_LT(named.size(), 12U);
  std::vector<uint64_t> clients(named.begin(), named.end());
  simulation.task.cohort.target = static_cast<uint32_t>(clients.size());
  EXPECT_EQ(simulated.weights, ModelOf(simulation.task, clients));
  clients.pop_back();
  --simulation.task.cohort.target;
  EXPECT_NE(simulated.weights, ModelOf(simulation.task, clients));
}

// --- what the report says ---

TEST(Simulation, EndsWithFewerContributorsThanInvitedWhenSomeLeave) {
  const CloudPeople people(40);
  Simulation simulation = SmallSimulation(Protocol::kPlain, 20, 5);
  simulation.faults.dropout = {0.2};
  const SimulationResult result = Simulated(simulation, people.population());
  for (const SimulatedRound& round : result.rounds) {
    EXPECT_EQ(round.contributors.size(), round.report.contributors);
    ASSERT_EQ(round.steps.size(), 2U);
    EXPECT_EQ(round.steps[0].asked, round.report.invited);
    EXPECT_EQ(round.steps[1].asked, round.steps[0].answered);
    EXPECT_EQ(round.report.contributors, round.steps[1].answered);
  }
  EXPECT_GT(Sum(result, 0, &SimulatedStep::left), 0U);
  EXPECT_GT(Sum(result, 1, &SimulatedStep::left), 0U);
}

// Who is asked in a step answers, leaves, is lost, is late or fails.
void ExpectNobodyUnaccounted(const SimulationResult& result) {
  for (const SimulatedRound& round : result.rounds) {
    for (size_t i = 0; i < round.steps.size(); ++i) {
      const SimulatedStep& step = round.steps[i];
      EXPECT_EQ(step.asked, step.answered + step.left + step.lost + step.late + step.failed)
          << "round " << round.report.round << ", " << step.name;
      if (i < round.report.dropouts.size()) {
        EXPECT_EQ(round.report.dropouts[i], step.asked - step.answered);
      }
    }
  }
}

TEST(Simulation, AccountsForEveryoneWhoWasAsked) {
  const CloudPeople people(60);
  ExpectNobodyUnaccounted(Simulated(Troubled(Protocol::kSecAgg, 6), people.population()));
  ExpectNobodyUnaccounted(Simulated(Troubled(Protocol::kPlain, 6), people.population()));
}

TEST(Simulation, ReportsDropoutsInTheStepInWhichTheyHappen) {
  const CloudPeople people(60);
  Simulation simulation = SmallSimulation(Protocol::kSecAgg, 20, 2);
  simulation.task.cohort.minimum = 12;
  simulation.task.secagg.delta_ppm = 200'000;
  const size_t steps = Simulated(simulation, people.population()).rounds.front().steps.size();
  ASSERT_GE(steps, 6U);
  for (size_t dropping = 0; dropping < steps; ++dropping) {
    simulation.faults.dropout.assign(dropping + 2, 0.0);
    simulation.faults.dropout[dropping] = 0.1;
    const SimulationResult result = Simulated(simulation, people.population());
    for (size_t step = 0; step < steps; ++step) {
      // With pre-keys nobody is asked for keys, and so nobody can leave then.
      const bool nobody = Sum(result, step, &SimulatedStep::asked) == 0;
      EXPECT_EQ(Sum(result, step, &SimulatedStep::left) > 0, step == dropping && !nobody)
          << "step " << step << " while " << dropping << " drops";
    }
  }
}

TEST(Simulation, LosesMessages) {
  const CloudPeople people(60);
  Simulation simulation = SmallSimulation(Protocol::kPlain, 20, 4);
  simulation.faults.loss = 0.1;
  const SimulationResult result = Simulated(simulation, people.population());
  EXPECT_GT(Sum(result, 0, &SimulatedStep::lost), 0U);
  EXPECT_GT(Sum(result, 1, &SimulatedStep::lost), 0U);
  EXPECT_EQ(Sum(result, 0, &SimulatedStep::left), 0U);
}

TEST(Simulation, CutsDevicesThatAreSlowerThanTheDeadline) {
  const CloudPeople people(40);
  Simulation simulation = SmallSimulation(Protocol::kPlain, 20, 3);
  // 54 examples take one to nine seconds and some.
  simulation.devices.examples_per_second = {Spread::Shape::kUniform, 30, 0.8};
  EXPECT_EQ(Sum(Simulated(simulation, people.population()), 0, &SimulatedStep::late), 0U);
  simulation.task.deadlines.train = seconds(3);
  const SimulationResult cut = Simulated(simulation, people.population());
  EXPECT_GT(Sum(cut, 0, &SimulatedStep::late), 0U);
  EXPECT_GT(Sum(cut, 0, &SimulatedStep::answered), 0U);
  for (const SimulatedRound& round : cut.rounds) EXPECT_LE(round.steps[0].seconds, 3.0);
}

TEST(Simulation, ClosesAStepEarlyOnceNearlyAllHaveAnswered) {
  const CloudPeople people(40);
  Simulation simulation = SmallSimulation(Protocol::kPlain, 20, 3);
  simulation.faults.dropout = {0.02};
  simulation.task.deadlines.train = seconds(1'000);
  const double patient = Simulated(simulation, people.population()).virtual_seconds;
  simulation.task.deadlines.hedge = seconds(1);
  EXPECT_LT(Simulated(simulation, people.population()).virtual_seconds, patient - 900);
}

TEST(Simulation, MeasuresAsOnePieceWhatItMeasuresInMany) {
  const CloudPeople people(20);
  Simulation simulation = SmallSimulation(Protocol::kPlain, 10, 2);
  const SimulationResult result = Simulated(simulation, people.population());
  const Result<learning::Evaluation> whole =
      learning::Evaluate(simulation.task.model, people.test(), result.weights, Cancel());
  ASSERT_THAT(whole, IsOk());
  ASSERT_TRUE(result.rounds.back().tested);
  EXPECT_NEAR(result.rounds.back().test_accuracy, whole->accuracy, 1e-12);
  EXPECT_NEAR(result.rounds.back().test_loss, whole->loss, 1e-6);
  ASSERT_EQ(result.clients.size(), 20U);
  const Result<learning::Evaluation> own =
      learning::Evaluate(simulation.task.model, Clouds(7), result.weights, Cancel());
  ASSERT_THAT(own, IsOk());
  EXPECT_EQ(result.clients[7].client, 7U);
  EXPECT_EQ(result.clients[7].examples, 60U);
  EXPECT_EQ(result.clients[7].accuracy, own->accuracy);
}

TEST(Simulation, MeasuresAClientOnItsOwnTestRowsWhereItHasSome) {
  const CloudPeople people(20);
  Population population = people.population();
  population.test_of.assign(20, Rows{});
  population.test_of[3] = {.begin = 100, .count = 50};
  const SimulationResult result = Simulated(SmallSimulation(Protocol::kPlain, 10, 1), population);
  EXPECT_EQ(result.clients[3].examples, 50U);
  EXPECT_EQ(result.clients[4].examples, 60U);
}

TEST(Simulation, StopsAtTheTarget) {
  const CloudPeople people(20);
  Simulation simulation = SmallSimulation(Protocol::kPlain, 10, 50);
  simulation.task.training.learning_rate = 0.5F;
  simulation.target_accuracy = 0.75;
  const SimulationResult result = Simulated(simulation, people.population());
  ASSERT_TRUE(result.target_round.has_value());
  EXPECT_EQ(*result.target_round, result.rounds.size());
  EXPECT_LT(result.rounds.size(), 50U);
  EXPECT_GE(result.rounds.back().test_accuracy, 0.75);
  EXPECT_LT(result.first_accuracy, 0.75);
}

TEST(Simulation, StopsWhenCancelled) {
  const CloudPeople people(20);
  Cancel cancel;
  const SimulationOptions options{.progress = [&](const SimulationProgress&) { cancel.Request(); },
                                  .cancel = &cancel};
  EXPECT_THAT(RunSimulation(SmallSimulation(Protocol::kPlain, 10, 5), people.population(), options),
              HasCode(Code::kCancelled));
}

// Once the last round is over, what is left is to measure each client.
TEST(Simulation, TakesNoCancelledMeasurementForABadModel) {
  const CloudPeople people(20);
  Cancel cancel;
  const SimulationOptions options{.progress =
                                      [&](const SimulationProgress& progress) {
                                        if (progress.rounds_done == 2) cancel.Request();
                                      },
                                  .cancel = &cancel};
  EXPECT_THAT(RunSimulation(SmallSimulation(Protocol::kPlain, 10, 2), people.population(), options),
              HasCode(Code::kCancelled));
}

TEST(Simulation, TellsHowFarItIs) {
  const CloudPeople people(20);
  std::vector<uint64_t> done;
  const SimulationOptions options{.progress = [&](const SimulationProgress& progress) {
    done.push_back(progress.rounds_done);
    EXPECT_EQ(progress.rounds_wanted, 3U);
    EXPECT_EQ(progress.last->report.round, progress.rounds_done);
  }};
  ASSERT_THAT(RunSimulation(SmallSimulation(Protocol::kPlain, 10, 3), people.population(), options),
              IsOk());
  EXPECT_EQ(done, (std::vector<uint64_t>{1, 2, 3}));
}

TEST(Simulation, SaysWhyARoundAborts) {
  const CloudPeople people(20);
  Simulation simulation = SmallSimulation(Protocol::kPlain, 10, 5);
  simulation.task.cohort.minimum = 9;
  simulation.faults.dropout = {0.5};
  simulation.rounds = 3;
  const SimulationResult result = Simulated(simulation, people.population());
  ASSERT_EQ(result.rounds.size(), 3U);
  EXPECT_EQ(result.rounds[0].report.state, RoundState::kAborted);
  EXPECT_THAT(result.rounds[0].report.reason, HasSubstr("too few clients"));
  EXPECT_TRUE(result.rounds[0].contributors.empty());
  // A pause follows, as in production.
  EXPECT_GE(result.rounds[1].began_seconds, result.rounds[0].ended_seconds + 1);
}

// --- many ---

TEST(Simulation, RunsAHundredThousandClients) {
  constexpr uint32_t kClients = 100'000;
  constexpr uint32_t kEach = 4;
  // Everybody's examples are a window of the same ones.
  const Examples all = Clouds(0, 2, 1'000);
  Population population{.train = &all, .train_of = {}, .test = nullptr, .test_of = {}};
  for (uint32_t client = 0; client < kClients; ++client) {
    population.train_of.push_back({client % (1'000 - kEach), kEach});
  }
  Simulation simulation = SmallSimulation(Protocol::kPlain, 200, 10);
  simulation.task.cohort.maximum = 256;
  simulation.task.training.batch_size = kEach;
  simulation.availability.pattern = AvailabilitySpec::Pattern::kDaily;
  simulation.threads = 0;
  const SimulationResult result = Simulated(simulation, population);
  EXPECT_EQ(result.rounds.size(), 10U);
  EXPECT_EQ(result.virtual_clients, kClients);
  EXPECT_EQ(result.clients.size(), kClients);
  std::set<uint32_t> everybody;
  for (const SimulatedRound& round : result.rounds) {
    everybody.insert(round.contributors.begin(), round.contributors.end());
  }
  EXPECT_GT(everybody.size(), 1'800U);
}

// --- refusals ---

TEST(Simulation, RefusesWhatCannotWorkAndNamesTheField) {
  const CloudPeople people(20);
  const auto refused = [&](const auto& spoil) {
    Simulation simulation = SmallSimulation(Protocol::kPlain, 10, 1);
    Population population = people.population();
    spoil(simulation, population);
    return RunSimulation(simulation, population, {}).status();
  };
  const auto expect = [&](const auto& spoil, const std::string& text) {
    EXPECT_THAT(refused(spoil), HasCodeAndText(Code::kInvalidArgument, text));
  };
  expect([](Simulation& s, Population&) { s.faults.loss = 1.5; }, "faults.loss");
  expect([](Simulation& s, Population&) { s.faults.dropout = {-1.0}; }, "faults.dropout");
  expect([](Simulation& s, Population&) { s.devices.examples_per_second.median = 0; },
         "devices.examples_per_second");
  expect(
      [](Simulation& s, Population&) {
        s.devices.latency_seconds = {Spread::Shape::kUniform, 1, 2};
      },
      "devices.latency_seconds");
  expect(
      [](Simulation& s, Population&) {
        s.availability = {.pattern = AvailabilitySpec::Pattern::kDaily, .window_hours = 25};
      },
      "availability.window_hours");
  expect([](Simulation& s, Population&) { s.test_every = 0; }, "test_every");
  expect([](Simulation& s, Population&) { s.task.cohort.minimum = 0; }, "cohort.minimum");
  expect([](Simulation& s, Population&) { s.task.model.inputs = 3; }, "");
  expect([](Simulation& s, Population&) { s.initial_weights = Weights(3); }, "initial_weights");
  expect([](Simulation&, Population& p) { p.train_of.clear(); }, "population");
  expect([](Simulation&, Population& p) { p.train_of[2].count = 0; }, "population.train_of");
  expect([](Simulation&, Population& p) { p.train_of[2].begin = UINT32_MAX; },
         "population.train_of");
  expect([](Simulation&, Population& p) { p.test_of.resize(3); }, "population.test_of");
  EXPECT_THAT(
      refused([](Simulation& s, Population& p) { p.train_of.resize(s.task.cohort.minimum - 1); }),
      HasCode(Code::kFailedPrecondition));
}

// --- the fleet ---

Fleet FleetOf(const AvailabilitySpec& availability, size_t clients) {
  Simulation simulation;
  simulation.seed = 9;
  simulation.availability = availability;
  return Fleet(simulation, clients);
}
const auto kAnybody = [](uint32_t) { return true; };

TEST(Fleet, NeverSelectsWhoIsUnavailable) {
  for (const auto pattern :
       {AvailabilitySpec::Pattern::kDaily, AvailabilitySpec::Pattern::kOnOff}) {
    Fleet fleet = FleetOf({.pattern = pattern, .window_hours = 3, .off_seconds_mean = 10'000},
                          /*clients=*/500);
    for (uint64_t round = 1; round < 200; ++round) {
      const double now = 777.0 * static_cast<double>(round);
      const std::vector<uint32_t> selected = fleet.Select(20, round, now, kAnybody);
      EXPECT_EQ(selected.size(), 20U);
      EXPECT_EQ(std::set<uint32_t>(selected.begin(), selected.end()).size(), selected.size());
      for (const uint32_t client : selected) EXPECT_TRUE(fleet.Available(client, now));
    }
  }
}

TEST(Fleet, SelectsEverybodyWhoIsLeftWhenTheyAreFew) {
  Fleet fleet = FleetOf({.pattern = AvailabilitySpec::Pattern::kDaily, .window_hours = 1}, 1'000);
  size_t available = 0;
  for (uint32_t client = 0; client < 1'000; ++client)
    available += fleet.Available(client, 50) ? 1 : 0;
  ASSERT_GT(available, 10U);
  ASSERT_LT(available, 100U);
  EXPECT_EQ(fleet.Select(100, 1, 50, kAnybody).size(), available);
  const std::vector<uint32_t> even =
      fleet.Select(100, 1, 50, [](uint32_t client) { return client % 2 == 0; });
  EXPECT_TRUE(std::ranges::all_of(even, [](uint32_t client) { return client % 2 == 0; }));
}

TEST(Fleet, SelectsUniformly) {
  // Each of 100 clients is in 10 of 100 draws; a chi-square of 99 degrees above 149 has chance
  // 0.0008, and the seed is fixed.
  Fleet fleet = FleetOf({}, 100);
  std::vector<double> count(100);
  for (uint64_t round = 1; round <= 1'000; ++round) {
    for (const uint32_t client : fleet.Select(10, round, 0, kAnybody)) ++count[client];
  }
  double chi_square = 0;
  for (const double c : count) chi_square += (c - 100) * (c - 100) / 100;
  EXPECT_LT(chi_square, 149);
}

TEST(Fleet, IsOnForItsShareOfTheTime) {
  Fleet daily = FleetOf({.pattern = AvailabilitySpec::Pattern::kDaily, .window_hours = 6}, 200);
  Fleet chain = FleetOf({.pattern = AvailabilitySpec::Pattern::kOnOff,
                         .on_seconds_mean = 1'000,
                         .off_seconds_mean = 3'000},
                        200);
  double daily_on = 0;
  double chain_on = 0;
  constexpr int kMoments = 500;
  for (int moment = 0; moment < kMoments; ++moment) {
    for (uint32_t client = 0; client < 200; ++client) {
      const double now = 1'733.0 * moment;
      daily_on += daily.Available(client, now) ? 1 : 0;
      chain_on += chain.Available(client, now) ? 1 : 0;
    }
  }
  // Of 100,000 looks, hardly dependent: four standard deviations are 0.006.
  EXPECT_NEAR(daily_on / kMoments / 200, 0.25, 0.01);
  EXPECT_NEAR(chain_on / kMoments / 200, 0.25, 0.01);
}

TEST(Fleet, LetsAClientGoWhoseTimeEndsBeforeItAnswers) {
  Simulation simulation;
  simulation.availability = {.pattern = AvailabilitySpec::Pattern::kDaily, .window_hours = 1};
  Fleet fleet(simulation, 200);
  for (uint32_t client = 0; client < 200; ++client) {
    if (!fleet.Available(client, 0)) continue;
    // A thousand examples take a second, and an hour has 3,600.
    const auto fate = [&](uint64_t examples) {
      return fleet.PassageOf({.client = client, .round = 1, .examples = examples}, 0).fate;
    };
    EXPECT_EQ(fate(3'601'000), simulation::Fate::kLeaves);
  }
}

TEST(Fleet, TakesTimeForBytesExamplesAndDistance) {
  Simulation simulation;
  simulation.devices = {.examples_per_second = {.median = 100},
                        .latency_seconds = {.median = 0.25},
                        .download_bytes_per_second = {.median = 1'000},
                        .upload_bytes_per_second = {.median = 500}};
  Fleet fleet(simulation, 1);
  const simulation::Passage passage =
      fleet.PassageOf({.round = 1, .bytes_down = 2'000, .bytes_up = 1'500, .examples = 400}, 0);
  EXPECT_DOUBLE_EQ(passage.seconds, 0.5 + 2 + 3 + 4);
}

TEST(Fleet, SpreadsDevicesAsDescribed) {
  Simulation simulation;
  simulation.devices.examples_per_second = {Spread::Shape::kLognormal, 100, 0.5};
  simulation.devices.latency_seconds.median = 0;
  Fleet fleet(simulation, 2'001);
  std::vector<double> logs;
  for (uint32_t client = 0; client < fleet.size(); ++client) {
    const double seconds =
        fleet.PassageOf({.client = client, .round = 1, .examples = 100}, 0).seconds;
    logs.push_back(std::log(seconds));
  }
  const double mean = std::accumulate(logs.begin(), logs.end(), 0.0) / 2'001;
  double variance = 0;
  for (const double l : logs) variance += (l - mean) * (l - mean) / 2'000;
  // Of 2,001 draws four standard deviations: of the mean 0.045, of the deviation 0.032.
  EXPECT_NEAR(mean, 0, 0.045);
  EXPECT_NEAR(std::sqrt(variance), 0.5, 0.032);
}

}  // namespace
}  // namespace chorus
