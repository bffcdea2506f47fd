// Small populations for tests of the simulator, and what two runs of one seed must share.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "chorus/simulation.h"
#include "federation.h"

namespace chorus {

// Clouds(0), Clouds(1), ... one after the other.
class CloudPeople {
 public:
  explicit CloudPeople(uint32_t clients, size_t examples_each = 60) {
    train_.inputs = 2;
    for (uint32_t client = 0; client < clients; ++client) {
      const Examples own = Clouds(client, 2, examples_each);
      population_.train_of.push_back(
          {static_cast<uint32_t>(train_.count()), static_cast<uint32_t>(own.count())});
      train_.features.insert(train_.features.end(), own.features.begin(), own.features.end());
      train_.labels.insert(train_.labels.end(), own.labels.begin(), own.labels.end());
    }
    test_ = Clouds(1'000'000, 2, 600);
    population_.train = &train_;
    population_.test = &test_;
  }
  CloudPeople(const CloudPeople&) = delete;
  CloudPeople& operator=(const CloudPeople&) = delete;

  const Population& population() const { return population_; }
  const Examples& test() const { return test_; }

 private:
  Examples train_;
  Examples test_;
  Population population_;
};

inline Simulation SmallSimulation(Protocol protocol, uint32_t cohort, uint32_t rounds) {
  Simulation simulation;
  simulation.task = SmallTask(protocol, cohort);
  simulation.task.rounds = rounds;
  simulation.seed = 5;
  simulation.threads = 1;
  return simulation;
}

// Everything in a result that follows from the seed, as text that can be compared.
inline std::string Story(const SimulationResult& result) {
  std::ostringstream out;
  out.precision(17);
  for (const SimulatedRound& round : result.rounds) {
    const RoundReport& report = round.report;
    out << "round " << report.round << ' ' << static_cast<int>(report.state) << ' ' << report.reason
        << ' ' << report.invited << ' ' << report.contributors << ' ' << report.bytes_up << ' '
        << report.bytes_down << ' ' << report.duration_ms << ' ' << report.examples << ' '
        << report.loss << ' ' << report.accuracy << ' ' << report.evaluated << ' '
        << round.began_seconds << ' ' << round.ended_seconds << ' ' << round.tested << ' '
        << round.test_accuracy << ' ' << round.test_loss << '\n';
    for (const uint32_t dropouts : report.dropouts) out << dropouts << ' ';
    for (const uint8_t byte : report.model) out << static_cast<int>(byte) << ',';
    for (const uint32_t client : round.contributors) out << ' ' << client;
    for (const SimulatedStep& step : round.steps) {
      out << "\n  " << step.name << ' ' << step.asked << ' ' << step.answered << ' ' << step.left
          << ' ' << step.lost << ' ' << step.late << ' ' << step.failed << ' ' << step.bytes_up
          << ' ' << step.bytes_down << ' ' << step.seconds;
    }
    out << '\n';
  }
  for (const ClientAccuracy& client : result.clients) {
    out << client.client << ' ' << client.examples << ' ' << client.accuracy << ' ' << client.loss
        << '\n';
  }
  for (const float weight : result.weights) out << weight << ' ';
  out << result.virtual_seconds << ' ' << result.target_round.value_or(0);
  return std::move(out).str();
}

// Two ranks in one process, each on a thread of its own, as mpirun would run two.
class TwinCluster {
 public:
  Cluster& of(uint32_t rank) { return rank == 0 ? first_ : second_; }

 private:
  class Rank final : public Cluster {
   public:
    Rank(TwinCluster& twins, uint32_t rank) : twins_(twins), rank_(rank) {}
    uint32_t rank() const override { return rank_; }
    uint32_t size() const override { return 2; }
    Result<Bytes> Broadcast(BytesView bytes) override {
      if (rank_ == 1) return twins_.Take(twins_.down_);
      twins_.Put(twins_.down_, bytes);
      return Bytes(bytes.begin(), bytes.end());
    }
    Result<std::vector<Bytes>> Gather(BytesView bytes) override {
      if (rank_ == 1) {
        twins_.Put(twins_.up_, bytes);
        return std::vector<Bytes>{};
      }
      return std::vector<Bytes>{Bytes(bytes.begin(), bytes.end()), twins_.Take(twins_.up_)};
    }

   private:
    TwinCluster& twins_;
    uint32_t rank_;
  };

  void Put(std::vector<Bytes>& box, BytesView bytes) {
    const std::lock_guard lock(mutex_);
    box.emplace_back(bytes.begin(), bytes.end());
    changed_.notify_all();
  }
  Bytes Take(std::vector<Bytes>& box) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return !box.empty(); });
    Bytes bytes = std::move(box.front());
    box.erase(box.begin());
    return bytes;
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Bytes> down_;
  std::vector<Bytes> up_;
  Rank first_{*this, 0};
  Rank second_{*this, 1};
};

inline Result<SimulationResult> RunOnTwins(const Simulation& simulation,
                                           const Population& population) {
  TwinCluster twins;
  std::thread second([&] {
    EXPECT_THAT(RunSimulation(simulation, population, {.cluster = &twins.of(1)}), IsOk());
  });
  Result<SimulationResult> result =
      RunSimulation(simulation, population, {.cluster = &twins.of(0)});
  second.join();
  return result;
}

}  // namespace chorus
