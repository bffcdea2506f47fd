// What coordinators let their store forget: they ask for it with every round that they record, and
// keep what they need to go on.
#include <algorithm>
#include <string>
#include <vector>

#include "shared_world.h"

namespace chorus::coordinator {
namespace {

using testing::ElementsAre;
using testing::UnorderedElementsAre;

constexpr uint32_t kRounds = 15;
constexpr Retention kKept = {.models_kept = 2, .rounds_kept = 5};

std::vector<Digest> ModelsIn(const MemoryContent& content) {
  std::vector<Digest> models;
  for (const auto& [hash, bytes] : content.models) models.push_back(hash);
  return models;
}

// The latest five rounds and no other, the models of the latest two and no other.
void ExpectTheLatestOnly(const MemoryContent& content) {
  ASSERT_EQ(content.tasks.size(), 1U);
  ASSERT_EQ(content.rounds.size(), 1U);
  const auto& rounds = content.rounds.begin()->second;
  std::vector<uint64_t> numbers;
  for (const auto& [number, round] : rounds) {
    numbers.push_back(number);
    EXPECT_EQ(round.state, RoundState::kCommitted) << round.reason;
  }
  std::sort(numbers.begin(), numbers.end());
  ASSERT_THAT(numbers, ElementsAre(11, 12, 13, 14, 15));
  EXPECT_EQ(content.tasks.begin()->second.rounds_committed, kRounds);
  EXPECT_EQ(content.tasks.begin()->second.model, rounds.at(15).result);
  EXPECT_THAT(ModelsIn(content), UnorderedElementsAre(rounds.at(14).result, rounds.at(15).result));
}

// Everybody hears of the end, and waits for the next round.
void HearOfTheEnd(Players& players) {
  for (auto& player : players) {
    player->HearsOfEnd(true);
    player->Ask();
  }
}

class RetentionOf : public testing::TestWithParam<Protocol> {};
INSTANTIATE_TEST_SUITE_P(Protocols, RetentionOf,
                         testing::Values(Protocol::kPlain, Protocol::kSecAgg));

TEST_P(RetentionOf, AStoreOfItsOwnLeavesTheLatestRoundsAndModels) {
  World world(GetParam() == Protocol::kSecAgg ? SecAggTask() : PlainTask());
  world.task.rounds = kRounds;
  world.retention = kKept;
  world.Start();
  Players players = CheckedIn(world, 5);
  for (uint32_t round = 1; round <= kRounds; ++round) {
    RunRound(players);
    world.Settle();
    HearOfTheEnd(players);
    world.Settle();
  }
  ExpectTheLatestOnly(world.store.content);
  const Weights before = world.core->weights();
  world.Start();
  EXPECT_EQ(world.core->weights(), before);
}

TEST_P(RetentionOf, ASharedStoreLeavesTheLatestRoundsAndModels) {
  TaskSpec task = FleetTask(GetParam(), 2);
  task.rounds = kRounds;
  Fleet fleet(task, 2, kKept);
  fleet.JoinAll(5);
  for (uint32_t round = 1; round <= kRounds; ++round) {
    fleet.Advance(kWatchEvery * 2);
    PlayRound(fleet, {0, 1});
    fleet.Advance(kWatchEvery * 2);
    for (const auto& process : fleet.processes) HearOfTheEnd(process->players);
  }
  ExpectTheLatestOnly(fleet.shared.content);
  const Weights before = fleet[0].world.core->weights();
  EXPECT_EQ(fleet[1].world.core->weights(), before);
  EXPECT_EQ(fleet.Add().world.core->weights(), before);
}

TEST(Retention, KeepsEverythingWhereItIsTold) {
  World world;
  world.task.rounds = kRounds;
  world.retention = {.models_kept = 0, .rounds_kept = 0};
  world.Start();
  Players players = CheckedIn(world, 5);
  for (uint32_t round = 1; round <= kRounds; ++round) {
    RunRound(players);
    world.Settle();
    HearOfTheEnd(players);
    world.Settle();
  }
  EXPECT_EQ(world.store.content.rounds.begin()->second.size(), kRounds);
  EXPECT_EQ(world.store.content.models.size(), kRounds + 1U);  // and the one that it began with
}

}  // namespace
}  // namespace chorus::coordinator
