// The processes of a simulation of faults: coordinators around production's core, and clients and
// committee members around production's session, ledger and device state.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "aggregation/protocols.h"
#include "chorus/client.h"
#include "chorus/store.h"
#include "client/device_state.h"
#include "client/ledger.h"
#include "client/session.h"
#include "coordinator/core.h"
#include "simulation/chaos_audit.h"
#include "simulation/chaos_disk.h"
#include "simulation/chaos_network.h"
#include "simulation/chaos_parts.h"
#include "simulation/chaos_plan.h"
#include "simulation/chaos_store.h"

namespace chorus::simulation {

class ChaosCoordinator;
class ChaosClient;

// What all processes share. All must outlive them.
struct Stage {
  Scene* scene = nullptr;
  const ChaosPlan* plan = nullptr;
  Audit* audit = nullptr;
  Network* network = nullptr;
  const Roll* roll = nullptr;
  Store* store = nullptr;
  PublicKey coordinator_key{};
  std::vector<std::unique_ptr<ChaosCoordinator>> coordinators;
  std::vector<std::unique_ptr<ChaosClient>> clients;  // then the committee's members
};

// One call on its way.
struct Call {
  uint32_t client = 0;
  uint64_t id = 0;  // of its client's
  std::string_view method;
  Bytes request;
};

class ChaosCoordinator {
 public:
  ChaosCoordinator(Stage& stage, uint32_t index);
  ~ChaosCoordinator();
  ChaosCoordinator(const ChaosCoordinator&) = delete;
  ChaosCoordinator& operator=(const ChaosCoordinator&) = delete;

  void Start();
  void Arrive(const Call& call);
  // From now on it may crash.
  void Arm();
  // No more crashes in this life; its wall clock is right.
  void Heal();
  void JumpClock(int64_t seconds) { clock_.wall_offset_seconds += seconds; }
  void CutFromStore(Time until) { door_.Cut(until); }
  // Once nobody calls any more, it holds nothing of anybody.
  void CheckIdle();

 private:
  struct Waiting {
    uint32_t client = 0;
    uint64_t call = 0;
    Time since{};
  };

  bool running() const { return core_ != nullptr; }
  void Answer(uint64_t request, const Result<Bytes>& reply);
  void SendReply(const Waiting& to, const Result<Bytes>& reply);
  void Settle();
  void Tick(uint64_t life);
  void Die();
  void StartAfter(Time pause);

  Stage& stage_;
  const uint32_t index_;
  const std::string name_;
  const SecretBytes signing_seed_;
  Dice dice_;
  Dice store_dice_;
  ProcessClock clock_;
  SilentLog log_;
  Life life_;
  uint64_t lives_ = 0;
  StoreDoor door_;
  std::unique_ptr<Rng> rng_;
  std::unique_ptr<coordinator::Core> core_;
  Time tick_at_ = Time::max();  // of the scene, of the tick that is set
  uint64_t requests_ = 0;
  std::map<uint64_t, Waiting> waiting_;  // by request
};

class ChaosClient {
 public:
  ChaosClient(Stage& stage, uint32_t index);

  void Start();
  void Hear(uint64_t call, Result<Bytes> reply);
  void Arm();
  void Heal();
  void JumpClock(int64_t seconds) { clock_.wall_offset_seconds += seconds; }
  SimulatedDisk& disk() { return disk_; }
  std::optional<Bytes> DurableLedger() const { return disk_.Durable("/state/ledger"); }
  bool stopped() const { return stopped_; }
  const std::string& name() const { return name_; }

 private:
  // Trains what the plan says.
  class PlannedTrainer final : public Trainer {
   public:
    PlannedTrainer(Stage& stage, uint32_t client) : stage_(stage), client_(client) {}
    Status Accept(const TaskSpec&) override { return OkStatus(); }
    Result<TrainedUpdate> Train(const TaskSpec& task, uint64_t round,
                                std::span<const float> weights, const Cancel& cancel) override;

   private:
    Stage& stage_;
    const uint32_t client_;
  };

  Status Open();
  void Step(uint64_t life);
  void Do(client::CallAction& call);
  void Do(client::WaitAction& wait);
  void Do(client::WorkAction& work);
  void Do(client::StopAction& stop);
  void Send(Call call);
  Bytes Lie(std::string_view method, const Bytes& request);
  void TakeEvents();
  void Die(std::string_view how);
  void StartAfter(Time pause);

  Stage& stage_;
  const uint32_t index_;
  const bool member_;
  const bool liar_;
  const std::string name_;
  Dice dice_;
  Dice crash_dice_;
  Dice disk_dice_;
  Dice lie_dice_;
  Dice slow_dice_;
  ProcessClock clock_;
  SilentLog log_;
  Cancel cancel_;
  Life life_;
  uint64_t lives_ = 0;
  SimulatedDisk disk_;
  PlannedTrainer trainer_;
  ClientOptions options_;
  std::unique_ptr<Rng> rng_;
  std::unique_ptr<client::Ledger> ledger_;
  std::unique_ptr<client::DeviceState> state_;
  std::unique_ptr<aggregation::SeenKeys> seen_keys_;
  std::unique_ptr<client::Session> session_;
  uint64_t calls_ = 0;          // of all lives
  uint64_t calling_ = 0;        // the one that is under way; 0: none
  uint32_t address_ = 0;        // the coordinator that it talks to
  uint64_t invited_to_ = 0;     // the latest round
  std::vector<Bytes> uploads_;  // that it sent lately; a liar sends them again
  bool stopped_ = false;
};

}  // namespace chorus::simulation
