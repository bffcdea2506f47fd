// A store's content in memory, and a transaction on it that can be undone.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "chorus/host.h"
#include "chorus/store.h"

namespace chorus::coordinator {

struct MemoryContent {
  // Rounds descend from the largest number, so that the latest come first.
  using EvidenceKey = std::tuple<uint64_t, uint32_t, PublicKey>;
  using CohortKey = std::tuple<TaskId, uint64_t, uint32_t>;
  using ClaimKey = std::tuple<TaskId, uint64_t, PublicKey>;

  std::map<TaskId, TaskRecord> tasks;
  std::map<TaskId, std::map<uint64_t, RoundReport>> rounds;
  std::map<TaskId, std::map<EvidenceKey, Evidence>> evidence;
  std::map<Digest, Bytes> models;
  std::map<TaskId, std::map<uint64_t, AuditEntry>> audit;
  std::map<std::string, ProcessRecord> processes;
  std::map<CohortKey, CohortRecord> cohorts;
  std::map<ClaimKey, uint32_t> claims;  // the cohort
};

// Writes into the content as it goes, and notes how to take each write back. Thread-compatible.
class MemoryTransaction final : public Transaction {
 public:
  // Both must outlive it.
  MemoryTransaction(MemoryContent& content, const Clock& clock)
      : content_(content), clock_(clock) {}

  // Leaves the content as it was before the transaction.
  void Undo();

  Result<std::optional<TaskRecord>> FindTask(const TaskId& id) override;
  Status PutTask(const TaskRecord& task) override;
  Result<std::vector<TaskRecord>> Tasks() override;
  Status PutRound(const TaskId& task, const RoundReport& round) override;
  Result<std::vector<RoundReport>> Rounds(const TaskId& task, uint64_t first,
                                          uint32_t count) override;
  Result<std::vector<RoundReport>> LatestRounds(const TaskId& task, uint32_t count) override;
  Status DropRounds(const TaskId& task, uint64_t first) override;
  Status PutEvidence(const TaskId& task, const Evidence& evidence) override;
  Result<std::vector<Evidence>> ListEvidence(const TaskId& task, uint32_t count) override;
  Status PutModel(const Digest& hash, BytesView bytes) override;
  Result<Bytes> GetModel(const Digest& hash) override;
  Status DropModel(const Digest& hash) override;
  Status DropOldModels(const TaskId& task, uint32_t kept) override;
  Status PutAudit(const TaskId& task, const AuditEntry& entry) override;
  Result<std::vector<AuditEntry>> ListAudit(const TaskId& task, uint32_t count) override;
  Result<std::vector<AuditEntry>> AuditFrom(const TaskId& task, uint64_t first,
                                            uint32_t count) override;
  Result<Time> Now() override { return clock_.Now(); }
  Status PutProcess(const ProcessRecord& process) override;
  Result<std::vector<ProcessRecord>> Processes() override;
  Status DropProcess(const std::string& name) override;
  Status PutCohort(const TaskId& task, const CohortRecord& cohort) override;
  Result<std::vector<CohortRecord>> CohortsOf(const TaskId& task, uint64_t round) override;
  Result<std::vector<PublicKey>> ClaimIdentities(const TaskId& task, uint64_t round,
                                                 uint32_t cohort,
                                                 std::span<const PublicKey> identities) override;
  Status DropCohorts(const TaskId& task, uint64_t round) override;

 private:
  Status CheckKnown(const TaskId& task, uint64_t round) const;
  // Whether anything names the model, rounds of `task` numbered below `first` not counted.
  bool Named(const Digest& hash, const TaskId& task, uint64_t first) const;
  // A map that was written to stays where it is, so that the write can be taken back through it.
  template <typename Map>
  void Put(Map& map, const typename Map::key_type& key, typename Map::mapped_type value);
  template <typename Map>
  void Drop(Map& map, const typename Map::key_type& key);

  MemoryContent& content_;
  const Clock& clock_;
  std::vector<std::function<void()>> undo_;  // the latest write last
};

}  // namespace chorus::coordinator
