// One seed of the simulation of faults, from its first process to its verdict.
#include <memory>
#include <string>
#include <utility>

#include "base/limits.h"
#include "chorus/simulation.h"
#include "client/round.h"
#include "simulation/chaos_audit.h"
#include "simulation/chaos_network.h"
#include "simulation/chaos_parts.h"
#include "simulation/chaos_plan.h"
#include "simulation/chaos_processes.h"

namespace chorus::simulation {
namespace {

using std::chrono::minutes;

constexpr Time kFirstStarts{10'000};
constexpr Time kCutLongest{150'000};
constexpr Time kDiskTroubleLongest{150'000};
constexpr double kSyncFailureChance = 0.05;
constexpr int64_t kJumpLongestSeconds = 2 * 86'400;
constexpr Time kStoreBegins{1'700'000'000'000};  // of Unix, so that no jump goes back beyond it

class World {
 public:
  explicit World(const ChaosOptions& options)
      : plan_(PlanOf(options)),
        scene_(options.trace_lines_max),
        network_(scene_, plan_),
        store_clock_(scene_),
        store_(NewMemoryStore({.clock = &store_clock_, .shared = plan_.coordinators > 1})),
        audit_({.scene = &scene_,
                .plan = &plan_,
                .store = store_.get(),
                .durable_ledger =
                    [this](uint32_t client) { return stage_.clients[client]->DurableLedger(); }}),
        partition_dice_(plan_.seed, "partition", 0),
        disk_dice_(plan_.seed, "disk-trouble", 0),
        clock_dice_(plan_.seed, "clock", 0),
        start_dice_(plan_.seed, "start", 0) {
    Populate();
  }

  ChaosReport Run();

 private:
  void Populate();
  void Begin();
  void Chaos(Time lasts);
  void Peace(bool to_the_end);
  void End();
  template <typename Done>
  bool RunUntil(Time until, const Done& done);
  bool over() const { return !scene_.verdict().ok(); }
  Time RoundBound() const {
    return 2 * client::LongestRound(plan_.task.deadlines) + Time(minutes(5));
  }

  void Every(Dice& dice, Fault fault, void (World::*strike)());
  void Partition();
  void TroubleDisk();
  void JumpClock();

  const ChaosPlan plan_;
  Scene scene_;
  Network network_;
  Roll roll_;
  ProcessClock store_clock_;  // its Now() is what all coordinators' leases go by, and jumps
  std::unique_ptr<Store> store_;
  Audit audit_;
  Stage stage_;
  Dice partition_dice_;
  Dice disk_dice_;
  Dice clock_dice_;
  Dice start_dice_;
  uint64_t phase_ = 0;
};

void World::Populate() {
  store_clock_.BeginAt(kStoreBegins);
  const uint32_t members = static_cast<uint32_t>(plan_.task.one_shot.members.size());
  for (uint32_t i = 0; i < plan_.clients; ++i) {
    roll_.Add(crypto::Ed25519Public(ClientSeed(plan_.seed, i).Reveal()), i + 1);
  }
  for (uint32_t i = 0; i < members; ++i) {
    roll_.Add(plan_.task.one_shot.members[i], plan_.clients + i + 1);
  }
  stage_.scene = &scene_;
  stage_.plan = &plan_;
  stage_.audit = &audit_;
  stage_.network = &network_;
  stage_.roll = &roll_;
  stage_.store = store_.get();
  stage_.coordinator_key = crypto::Ed25519Public(CoordinatorSeed(plan_.seed).Reveal());
  for (uint32_t i = 0; i < plan_.coordinators; ++i) {
    stage_.coordinators.push_back(std::make_unique<ChaosCoordinator>(stage_, i));
  }
  for (uint32_t i = 0; i < plan_.clients + members; ++i) {
    stage_.clients.push_back(std::make_unique<ChaosClient>(stage_, i));
  }
}

void World::Begin() {
  scene_.Say("the system", plan_.Describe());
  for (const auto& coordinator : stage_.coordinators) {
    scene_.At(scene_.now(), [&coordinator] { coordinator->Start(); });
  }
  for (const auto& client : stage_.clients) {
    scene_.At(start_dice_.Between(Time{0}, kFirstStarts), [&client] { client->Start(); });
  }
}

template <typename Done>
bool World::RunUntil(Time until, const Done& done) {
  while (!over() && !done()) {
    if (!scene_.Step(until)) return false;
  }
  return !over();
}

// Lets a fault strike again and again while this phase of faults lasts.
void World::Every(Dice& dice, Fault fault, void (World::*strike)()) {
  if (!plan_.has(fault)) return;
  const double rate = plan_.rate_of(fault);
  const Time pause = dice.Between(Time{500}, Time{static_cast<Time::rep>(10'000 / rate)});
  scene_.At(scene_.now() + pause, [this, &dice, fault, strike, phase = phase_] {
    if (!scene_.chaos || phase != phase_) return;
    (this->*strike)();
    Every(dice, fault, strike);
  });
}

void World::Partition() {
  Link link{.client = static_cast<uint32_t>(partition_dice_.Below(stage_.clients.size())),
            .coordinator = static_cast<uint32_t>(partition_dice_.Below(plan_.coordinators))};
  const Time until = scene_.now() + partition_dice_.Between(Time{1'000}, kCutLongest);
  if (plan_.coordinators > 1 && partition_dice_.Chance(0.3)) {
    scene_.Strike(Fault::kPartition);
    scene_.Say("coordinator " + std::to_string(link.coordinator), "is cut from the store");
    return stage_.coordinators[link.coordinator]->CutFromStore(until);
  }
  const uint64_t directions = partition_dice_.Below(3);
  for (const bool up : {true, false}) {
    link.up = up;
    if (directions == 2 || (directions == 0) == up) network_.Cut(link, until);
  }
}

void World::TroubleDisk() {
  ChaosClient& client = *stage_.clients[disk_dice_.Below(plan_.clients)];
  const Time until = scene_.now() + disk_dice_.Between(Time{1'000}, kDiskTroubleLongest);
  if (disk_dice_.Chance(0.7)) {
    scene_.Say(client.name(), "has no room on its disk");
    client.disk().full = true;
    scene_.At(until, [&client] { client.disk().full = false; });
  } else {
    scene_.Say(client.name(), "has a disk that fails at times");
    client.disk().sync_failure_chance = kSyncFailureChance;
    scene_.At(until, [&client] { client.disk().sync_failure_chance = 0; });
  }
}

void World::JumpClock() {
  const uint64_t clients = stage_.clients.size();
  const uint64_t coordinators = stage_.coordinators.size();
  // Nothing but leases goes by the store's clock, and one coordinator alone has none.
  const uint64_t who = clock_dice_.Below(clients + coordinators + (coordinators > 1 ? 1 : 0));
  const int64_t longest = clock_dice_.Chance(0.5) ? kJumpLongestSeconds : 120;
  const int64_t seconds =
      static_cast<int64_t>(clock_dice_.Below(static_cast<uint64_t>(2 * longest))) - longest;
  scene_.Strike(Fault::kClock);
  const std::string set = "has its wall clock set by " + std::to_string(seconds) + " s";
  if (who < clients) {
    scene_.Say(stage_.clients[who]->name(), set);
    stage_.clients[who]->JumpClock(seconds);
  } else if (who < clients + coordinators) {
    scene_.Say("a coordinator", set);
    stage_.coordinators[who - clients]->JumpClock(seconds);
  } else {
    scene_.Say("the store", set);
    store_clock_.Jump(std::chrono::seconds(seconds));
  }
}

void World::Chaos(Time lasts) {
  ++phase_;
  scene_.chaos = true;
  scene_.Say("the system", "faults begin");
  for (const auto& coordinator : stage_.coordinators) coordinator->Arm();
  for (const auto& client : stage_.clients) client->Arm();
  Every(partition_dice_, Fault::kPartition, &World::Partition);
  Every(disk_dice_, Fault::kDisk, &World::TroubleDisk);
  Every(clock_dice_, Fault::kClock, &World::JumpClock);
  (void)RunUntil(scene_.now() + lasts, [this] { return audit_.complete(); });
  scene_.chaos = false;
}

// Without faults a round commits within a bound, or as many as are missing.
void World::Peace(bool to_the_end) {
  if (over()) return;
  scene_.Say("the system", "faults end");
  network_.Heal();
  for (const auto& coordinator : stage_.coordinators) coordinator->Heal();
  for (const auto& client : stage_.clients) client->Heal();
  do {
    const uint64_t before = audit_.rounds_committed();
    const bool committed = RunUntil(scene_.now() + RoundBound(), [&] {
      return audit_.complete() || audit_.rounds_committed() > before;
    });
    if (!committed && !over())
      scene_.Violated("no round commits, though nothing is wrong any more");
  } while (to_the_end && !over() && !audit_.complete());
}

// Once the task is done, everybody hears of it, goes home and is forgotten.
void World::End() {
  if (over()) return;
  const bool all_gone = RunUntil(scene_.now() + RoundBound(), [&] {
    for (const auto& client : stage_.clients) {
      if (!client->stopped()) return false;
    }
    return true;
  });
  if (!all_gone && !over()) scene_.Violated("a client does not hear that the task is done");
  (void)RunUntil(scene_.now() + 3 * limits::kSessionIdleMax, [] { return false; });
  for (const auto& coordinator : stage_.coordinators) {
    if (!over()) coordinator->CheckIdle();
  }
}

ChaosReport World::Run() {
  Begin();
  for (const Time lasts : plan_.chaos_for) {
    Chaos(lasts);
    Peace(/*to_the_end=*/false);
    if (over() || audit_.complete()) break;
  }
  Peace(/*to_the_end=*/true);
  End();
  ChaosReport report;
  report.verdict = scene_.verdict();
  report.system = plan_.Describe();
  report.trace = scene_.Lines();
  report.trace_sha256 = scene_.EndStory();
  report.steps = scene_.steps();
  report.rounds_committed = audit_.rounds_committed();
  report.rounds_aborted = audit_.rounds_aborted();
  report.virtual_seconds = static_cast<double>(scene_.now().count()) / 1e3;
  report.faults = scene_.struck;
  return report;
}

}  // namespace
}  // namespace chorus::simulation

namespace chorus {

std::string_view FaultName(Fault fault) {
  static constexpr std::array<std::string_view, kFaultKinds> kNames = {
      "loss",  "delay", "duplicate", "partition", "coordinator-crash", "client-crash", "disk",
      "store", "clock", "slow",      "lie"};
  return kNames[static_cast<size_t>(fault)];
}

ChaosReport RunChaos(const ChaosOptions& options) {
  return std::make_unique<simulation::World>(options)->Run();
}

}  // namespace chorus
