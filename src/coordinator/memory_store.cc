#include "coordinator/memory_store.h"

#include <algorithm>
#include <memory>
#include <mutex>
#include <utility>

#include "base/clock.h"
#include "crypto/crypto.h"

namespace chorus::coordinator {
namespace {

MemoryContent::EvidenceKey KeyOf(const Evidence& evidence) {
  return {UINT64_MAX - evidence.round, evidence.cohort, evidence.identity};
}

// The values of a map in its order, or in the order of a range of it, at most `count`.
template <typename Iterator>
auto ValuesOf(Iterator at, Iterator end, uint32_t count) {
  std::vector<std::remove_cvref_t<decltype(at->second)>> values;
  for (; at != end && values.size() < count; ++at) values.push_back(at->second);
  return values;
}

}  // namespace

template <typename Map>
void MemoryTransaction::Put(Map& map, const typename Map::key_type& key,
                            typename Map::mapped_type value) {
  const auto found = map.find(key);
  if (found == map.end()) {
    map.emplace(key, std::move(value));
    undo_.push_back([&map, key] { map.erase(key); });
    return;
  }
  std::swap(found->second, value);
  undo_.push_back([&map, key, value = std::move(value)] { map.insert_or_assign(key, value); });
}

template <typename Map>
void MemoryTransaction::Drop(Map& map, const typename Map::key_type& key) {
  const auto found = map.find(key);
  if (found == map.end()) return;
  undo_.push_back(
      [&map, key, value = std::move(found->second)] { map.insert_or_assign(key, value); });
  map.erase(found);
}

void MemoryTransaction::Undo() {
  for (; !undo_.empty(); undo_.pop_back()) undo_.back()();
}

Status MemoryTransaction::CheckKnown(const TaskId& task, uint64_t round) const {
  if (round > INT64_MAX) return InvalidArgument("a round's number is below 2^63");
  if (!content_.tasks.contains(task))
    return NotFound("the store has no such task: put it before its rounds");
  return OkStatus();
}

// --- tasks and rounds ---

Result<std::optional<TaskRecord>> MemoryTransaction::FindTask(const TaskId& id) {
  const auto found = content_.tasks.find(id);
  if (found == content_.tasks.end()) return std::optional<TaskRecord>();
  return std::optional<TaskRecord>(found->second);
}

Status MemoryTransaction::PutTask(const TaskRecord& task) {
  Put(content_.tasks, task.id, task);
  return OkStatus();
}

Result<std::vector<TaskRecord>> MemoryTransaction::Tasks() {
  auto tasks = ValuesOf(content_.tasks.begin(), content_.tasks.end(), UINT32_MAX);
  std::stable_sort(tasks.begin(), tasks.end(),
                   [](const TaskRecord& a, const TaskRecord& b) { return a.name < b.name; });
  return tasks;
}

Status MemoryTransaction::PutRound(const TaskId& task, const RoundReport& round) {
  CHORUS_TRY(CheckKnown(task, round.round));
  Put(content_.rounds[task], round.round, round);
  return OkStatus();
}

Result<std::vector<RoundReport>> MemoryTransaction::Rounds(const TaskId& task, uint64_t first,
                                                           uint32_t count) {
  const auto found = content_.rounds.find(task);
  if (found == content_.rounds.end()) return std::vector<RoundReport>();
  return ValuesOf(found->second.lower_bound(first), found->second.end(), count);
}

Result<std::vector<RoundReport>> MemoryTransaction::LatestRounds(const TaskId& task,
                                                                 uint32_t count) {
  const auto found = content_.rounds.find(task);
  if (found == content_.rounds.end()) return std::vector<RoundReport>();
  return ValuesOf(found->second.rbegin(), found->second.rend(), count);
}

Status MemoryTransaction::DropRounds(const TaskId& task, uint64_t first) {
  std::vector<Digest> answers;
  if (const auto rounds = content_.rounds.find(task); rounds != content_.rounds.end()) {
    for (auto at = rounds->second.begin(); at != rounds->second.end() && at->first < first;) {
      const auto round = at++;
      if (content_.models.contains(round->second.result)) continue;
      if (round->second.answers != Digest{}) answers.push_back(round->second.answers);
      Drop(rounds->second, round->first);
    }
  }
  for (const Digest& hash : answers) {
    if (!Named(hash, task, 0)) Drop(content_.models, hash);
  }
  const auto evidence = content_.evidence.find(task);
  if (evidence == content_.evidence.end()) return OkStatus();
  while (!evidence->second.empty() && evidence->second.rbegin()->second.round < first) {
    Drop(evidence->second, KeyOf(evidence->second.rbegin()->second));
  }
  return OkStatus();
}

Status MemoryTransaction::PutEvidence(const TaskId& task, const Evidence& evidence) {
  CHORUS_TRY(CheckKnown(task, evidence.round));
  std::map<MemoryContent::EvidenceKey, Evidence>& kept = content_.evidence[task];
  if (!kept.contains(KeyOf(evidence))) Put(kept, KeyOf(evidence), evidence);
  return OkStatus();
}

Result<std::vector<Evidence>> MemoryTransaction::ListEvidence(const TaskId& task, uint32_t count) {
  const auto found = content_.evidence.find(task);
  if (found == content_.evidence.end()) return std::vector<Evidence>();
  return ValuesOf(found->second.begin(), found->second.end(), count);
}

// --- models ---

Status MemoryTransaction::PutModel(const Digest& hash, BytesView bytes) {
  if (content_.models.contains(hash)) return OkStatus();
  if (crypto::Sha256(bytes) != hash)
    return InvalidArgument("the model does not hash to the name it is put under");
  Put(content_.models, hash, Bytes(bytes.begin(), bytes.end()));
  return OkStatus();
}

Result<Bytes> MemoryTransaction::GetModel(const Digest& hash) {
  const auto found = content_.models.find(hash);
  if (found == content_.models.end()) return NotFound("the store has no such model");
  return found->second;
}

Status MemoryTransaction::DropModel(const Digest& hash) {
  Drop(content_.models, hash);
  return OkStatus();
}

bool MemoryTransaction::Named(const Digest& hash, const TaskId& task, uint64_t first) const {
  for (const auto& [id, record] : content_.tasks) {
    if (record.model == hash || record.server_state == hash) return true;
  }
  for (const auto& [id, rounds] : content_.rounds) {
    for (const auto& [number, round] : rounds) {
      if (round.answers == hash) return true;
      if (round.result == hash && (id != task || number >= first)) return true;
    }
  }
  return std::any_of(content_.cohorts.begin(), content_.cohorts.end(),
                     [&hash](const auto& cohort) { return cohort.second.sum == hash; });
}

Status MemoryTransaction::DropOldModels(const TaskId& task, uint32_t kept) {
  const auto rounds = content_.rounds.find(task);
  if (rounds == content_.rounds.end()) return OkStatus();
  uint64_t first = 0;  // of the rounds whose models stay
  uint32_t committed = 0;
  for (auto at = rounds->second.rbegin(); at != rounds->second.rend() && first == 0; ++at) {
    if (at->second.state != RoundState::kCommitted) continue;
    if (++committed == std::max(kept, 1U)) first = at->first;
  }
  std::vector<Digest> old;
  for (const auto& [number, round] : rounds->second) {
    if (number >= first) break;
    // The model that the task began with is no round's result.
    if (old.empty()) old.push_back(round.model);
    old.push_back(round.result);
  }
  for (const Digest& hash : old) {
    if (content_.models.contains(hash) && !Named(hash, task, first)) Drop(content_.models, hash);
  }
  return OkStatus();
}

// --- operators ---

Status MemoryTransaction::PutAudit(const TaskId& task, const AuditEntry& entry) {
  CHORUS_TRY(CheckKnown(task, entry.round));
  std::map<uint64_t, AuditEntry>& entries = content_.audit[task];
  const uint64_t next = entries.size() + 1;
  if (entry.number != next)
    return FailedPrecondition("the task's next audit entry is number " + std::to_string(next));
  Put(entries, entry.number, entry);
  return OkStatus();
}

Result<std::vector<AuditEntry>> MemoryTransaction::ListAudit(const TaskId& task, uint32_t count) {
  const auto found = content_.audit.find(task);
  if (found == content_.audit.end()) return std::vector<AuditEntry>();
  return ValuesOf(found->second.rbegin(), found->second.rend(), count);
}

Result<std::vector<AuditEntry>> MemoryTransaction::AuditFrom(const TaskId& task, uint64_t first,
                                                             uint32_t count) {
  const auto found = content_.audit.find(task);
  if (found == content_.audit.end()) return std::vector<AuditEntry>();
  return ValuesOf(found->second.lower_bound(first), found->second.end(), count);
}

// --- processes ---

Status MemoryTransaction::PutProcess(const ProcessRecord& process) {
  Put(content_.processes, process.name, process);
  return OkStatus();
}

Result<std::vector<ProcessRecord>> MemoryTransaction::Processes() {
  return ValuesOf(content_.processes.begin(), content_.processes.end(), UINT32_MAX);
}

Status MemoryTransaction::DropProcess(const std::string& name) {
  Drop(content_.processes, name);
  return OkStatus();
}

Status MemoryTransaction::PutCohort(const TaskId& task, const CohortRecord& cohort) {
  CHORUS_TRY(CheckKnown(task, cohort.round));
  Put(content_.cohorts, {task, cohort.round, cohort.cohort}, cohort);
  return OkStatus();
}

Result<std::vector<CohortRecord>> MemoryTransaction::CohortsOf(const TaskId& task, uint64_t round) {
  return ValuesOf(content_.cohorts.lower_bound({task, round, 0}),
                  content_.cohorts.lower_bound({task, round + 1, 0}), UINT32_MAX);
}

Result<std::vector<PublicKey>> MemoryTransaction::ClaimIdentities(
    const TaskId& task, uint64_t round, uint32_t cohort, std::span<const PublicKey> identities) {
  CHORUS_TRY(CheckKnown(task, round));
  std::vector<PublicKey> claimed;
  for (const PublicKey& identity : identities) {
    if (content_.claims.contains({task, round, identity})) continue;
    Put(content_.claims, {task, round, identity}, cohort);
    claimed.push_back(identity);
  }
  return claimed;
}

Status MemoryTransaction::DropCohorts(const TaskId& task, uint64_t round) {
  const auto drop = [this, &task, round](auto& map) {
    const auto next = [&] { return map.lower_bound({task, round, {}}); };
    for (auto at = next(); at != map.end(); at = next()) {
      if (std::get<0>(at->first) != task || std::get<1>(at->first) != round) return;
      Drop(map, at->first);
    }
  };
  drop(content_.cohorts);
  drop(content_.claims);
  return OkStatus();
}

// --- the store ---

namespace {

class MemoryStore final : public Store {
 public:
  explicit MemoryStore(const MemoryStoreOptions& options)
      : own_clock_(options.clock == nullptr ? NewSystemClock() : nullptr),
        clock_(options.clock == nullptr ? *own_clock_ : *options.clock),
        shared_(options.shared) {}

  Status RunTransaction(std::string_view,
                        const std::function<Status(Transaction&)>& function) override {
    const std::lock_guard lock(mutex_);
    MemoryTransaction transaction(content_, clock_);
    Status status = function(transaction);
    if (!status.ok()) transaction.Undo();
    return status;
  }
  bool shared() const override { return shared_; }

 private:
  const std::unique_ptr<Clock> own_clock_;
  const Clock& clock_;
  const bool shared_;
  std::mutex mutex_;
  MemoryContent content_;
};

}  // namespace
}  // namespace chorus::coordinator

namespace chorus {

std::unique_ptr<Store> NewMemoryStore() { return NewMemoryStore(MemoryStoreOptions()); }

std::unique_ptr<Store> NewMemoryStore(const MemoryStoreOptions& options) {
  return std::make_unique<coordinator::MemoryStore>(options);
}

}  // namespace chorus
