// What must hold in a simulation of faults whatever happens, checked against the store, the files
// of the clients and what each party was told.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "chorus/client.h"
#include "chorus/coordinator.h"
#include "chorus/store.h"
#include "simulation/chaos_parts.h"
#include "simulation/chaos_plan.h"

namespace chorus::simulation {

struct AuditSources {
  Scene* scene = nullptr;  // all must outlive the audit
  const ChaosPlan* plan = nullptr;
  Store* store = nullptr;
  // What a loss of power would leave of this client's ledger for certain.
  std::function<std::optional<Bytes>(uint32_t client)> durable_ledger;
};

class Audit {
 public:
  explicit Audit(AuditSources sources) : from_(std::move(sources)) {}

  // After each commit of any coordinator, before it knows of it.
  void StoreChanged();
  // What a coordinator says.
  void Heard(const CoordinatorEvent& event);
  // What a client says, and what it does.
  void Heard(uint32_t client, const ClientEvent& event);
  void Trained(uint32_t client, uint64_t round, std::span<const float> weights);
  // The client, which lies, has sent something else than what it should have in this round.
  void Lied(uint64_t round) { lied_in_.insert(round); }
  // Of the task, so far.
  uint64_t rounds_committed() const { return record_ ? record_->rounds_committed : 0; }
  uint64_t rounds_aborted() const { return aborted_; }
  uint64_t last_begun() const { return last_begun_; }
  bool complete() const { return rounds_committed() >= from_.plan->task.rounds; }

 private:
  struct Committed {
    std::set<uint32_t> clients;
    bool known = false;  // whether the clients are: not with a liar among them
  };
  Status Read(TaskRecord& record, std::vector<RoundReport>& rounds, Weights& weights);
  void CheckHistory(const TaskRecord& record, const std::vector<RoundReport>& rounds);
  void CheckCommitted(const RoundReport& report, const TaskRecord& record, const Weights& weights);
  std::optional<std::set<uint32_t>> NamedBy(const RoundReport& report);
  void CheckSum(const RoundReport& report, const std::set<uint32_t>& named, const Weights& weights);
  void CheckLedger(uint32_t client, uint64_t round);
  void Violated(const std::string& what) { from_.scene->Violated(what); }

  const AuditSources from_;
  std::optional<TaskRecord> record_;
  std::map<uint64_t, RoundReport> rounds_;
  Weights weights_;  // of record_
  std::map<uint64_t, Committed> committed_;
  std::map<std::pair<uint32_t, uint64_t>, Weights> trained_on_;  // by client and round
  std::set<std::pair<uint32_t, uint64_t>> told_counted_;
  std::set<uint64_t> lied_in_;
  uint64_t last_begun_ = 0;  // the last round of which a coordinator said that it began
  uint64_t aborted_ = 0;
};

}  // namespace chorus::simulation
