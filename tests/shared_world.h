// Several coordinators' cores on one store in memory, and their clients: virtual time, seeded
// chance, and a way to the store for each process that can be cut, stutter and lose replies.
#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "coordinator/memory_store.h"
#include "coordinator/shared_task.h"
#include "coordinator_world.h"

namespace chorus::coordinator {

// What all processes use.
struct Shared {
  MemoryContent content;
  TestClock clock;  // the store's own

  const TaskRecord& Task() { return content.tasks.begin()->second; }
  const RoundReport& Round(uint64_t number) { return content.rounds.begin()->second.at(number); }
  std::vector<RoundReport> Rounds() {
    std::vector<RoundReport> all;
    for (const auto& [task, rounds] : content.rounds) {
      for (const auto& [number, round] : rounds) all.push_back(round);
    }
    return all;
  }
};

// One process's way to the store.
class Door final : public Store {
 public:
  explicit Door(Shared& behind) : shared_(behind) {}

  Status RunTransaction(std::string_view name,
                        const std::function<Status(Transaction&)>& function) override {
    ++transactions[std::string(name)];
    if (meanwhile) meanwhile(name);
    if (cut) return Unavailable("the store cannot be reached");
    if (name == failing) return ResourceExhausted("the disk is full");
    for (int i = 0; i < conflicts; ++i) {
      MemoryTransaction conflicting(shared_.content, shared_.clock);
      static_cast<void>(function(conflicting));
      conflicting.Undo();
      if (between) std::exchange(between, nullptr)();
    }
    MemoryTransaction transaction(shared_.content, shared_.clock);
    Status status = function(transaction);
    if (!status.ok()) transaction.Undo();
    if (status.ok() && name == reply_lost) {
      reply_lost.clear();
      return Unavailable("the connection broke");
    }
    return status;
  }
  bool shared() const override { return true; }

  bool cut = false;
  std::function<void(std::string_view)> meanwhile;  // what happens while it is reached
  std::string failing;                              // the name of transactions that fail
  int conflicts = 0;                                // so often each function runs in vain first
  std::function<void()> between;                    // what somebody else commits meanwhile, once
  std::string reply_lost;  // the name of a transaction that commits once without saying so
  std::map<std::string, int> transactions;

 private:
  Shared& shared_;
};

struct Process {
  explicit Process(TaskSpec task, Shared& shared, const std::string& name)
      : door(shared), world(std::move(task)) {
    world.store_in_use = &door;
    world.process = name;
    world.rng = crypto::NewSeededRng(SeedOf(name).Reveal());
  }
  Door door;
  World world;
  Players players;
  bool alive = true;
};

// Processes that keep one time, their clients, and the clients' groups.
class Fleet {
 public:
  Fleet(TaskSpec spec, size_t count, Retention kept = {}) : task(std::move(spec)), retention(kept) {
    shared.clock.now = Time{50'000'000};
    for (size_t i = 0; i < count; ++i) Add();
    // Until each has heard of the others.
    Advance(kLeaseRenewal + kWatchEvery * 2);
  }
  Process& Add() { return AddAt("", "process-" + std::to_string(processes.size())); }
  // One that clients reach at `address`, of which every start has a name of its own.
  Process& AddAt(const std::string& address, const std::string& name) {
    processes.push_back(std::make_unique<Process>(task, shared, name));
    Process& added = *processes.back();
    added.world.address = address;
    added.world.retention = retention;
    added.world.clock.now = now;
    added.world.Start();
    added.world.Settle();
    return added;
  }
  Process& operator[](size_t i) { return *processes[i]; }

  // A new client of process i.
  Player& Join(size_t i) {
    auto player = std::make_unique<Player>(processes[i]->world, ++players_made);
    player->CheckIn();
    player->Ask();
    processes[i]->players.push_back(std::move(player));
    return *processes[i]->players.back();
  }
  void JoinAll(size_t each) {
    for (size_t i = 0; i < processes.size(); ++i) {
      for (size_t j = 0; j < each; ++j) Join(i);
    }
    Settle();
  }
  // The process dies without a word. Its clients find another.
  void Kill(size_t i) {
    Process& process = *processes[i];
    process.door.cut = true;
    process.world.core.reset();
    process.alive = false;
  }
  void Move(size_t from, size_t to) {
    for (auto& player : processes[from]->players) {
      player->world = &processes[to]->world;
      player->reply = nullptr;
      player->CheckIn();
      player->Ask();
      processes[to]->players.push_back(std::move(player));
    }
    processes[from]->players.clear();
  }

  void Settle() {
    for (const auto& process : processes) {
      if (process->alive) process->world.Settle();
    }
  }
  // All clocks go on together; `stopped` has been cut off from time in tests of clocks.
  void Advance(Time by) {
    const Time until = now + by;
    Settle();
    while (true) {
      Time next = until;
      for (const auto& process : processes) {
        if (process->alive) next = std::min(next, process->world.core->NextTick());
      }
      Set(next);
      Settle();
      if (next == until) return;
    }
  }
  void Set(Time to) {
    shared.clock.now += to - now;
    now = to;
    for (const auto& process : processes) process->world.clock.now = to;
  }

  // The players of process i answer `steps` questions, after the invitation.
  void Ready(size_t i) {
    for (auto& player : processes[i]->players) {
      player->Ready(UpdateOf(player->serial), ExamplesOf(player->serial));
    }
  }
  void Give(size_t i, size_t steps) {
    for (size_t step = 0; step < steps; ++step) {
      for (auto& player : processes[i]->players) player->Contribute();
    }
  }
  size_t Steps() const { return aggregation::Steps(task.protocol, task.secagg.graph).size(); }
  std::vector<size_t> Serials(size_t i) const {
    std::vector<size_t> serials;
    for (const auto& player : processes[i]->players) serials.push_back(player->serial);
    return serials;
  }

  TaskSpec task;
  Retention retention;
  Shared shared;
  Time now{1'000};
  std::vector<std::unique_ptr<Process>> processes;
  uint64_t players_made = 0;
};

inline const Weights kFirst = {1, 2, 3, 4};  // World's

inline TaskSpec FleetTask(Protocol protocol, uint32_t parallel) {
  TaskSpec task = protocol == Protocol::kSecAgg ? SecAggTask() : PlainTask();
  task.cohort = {
      .minimum = 4, .target = 5, .maximum = 5, .over_selection_percent = 0, .parallel = parallel};
  task.rounds = 20;
  return task;
}

inline std::vector<size_t> OneTo(size_t last) {
  std::vector<size_t> all(last);
  std::iota(all.begin(), all.end(), size_t{1});
  return all;
}

// Everybody joins, says that it is ready, and answers all that it is asked.
inline void PlayRound(Fleet& fleet, const std::vector<size_t>& processes) {
  for (const size_t i : processes) fleet.Ready(i);
  for (size_t step = 0; step < fleet.Steps(); ++step) {
    for (const size_t i : processes) fleet.Give(i, 1);
  }
  fleet.Settle();
}

inline void ExpectCommitted(Fleet& fleet, uint64_t round, uint32_t contributors, uint32_t cohorts) {
  const RoundReport& report = fleet.shared.Round(round);
  EXPECT_EQ(report.state, RoundState::kCommitted) << report.reason;
  EXPECT_EQ(report.contributors, contributors);
  EXPECT_EQ(report.cohorts_committed, cohorts);
}

}  // namespace chorus::coordinator
