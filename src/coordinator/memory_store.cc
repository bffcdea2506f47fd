#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <tuple>
#include <utility>

#include "chorus/store.h"
#include "crypto/crypto.h"

namespace chorus {
namespace {

// Rounds descend from the largest, so that the latest come first.
using EvidenceKey = std::tuple<uint64_t, uint32_t, PublicKey>;
EvidenceKey KeyOf(const Evidence& evidence) {
  return {UINT64_MAX - evidence.round, evidence.cohort, evidence.identity};
}

struct Content {
  std::map<TaskId, TaskRecord> tasks;
  std::map<TaskId, std::map<uint64_t, RoundReport>> rounds;
  std::map<TaskId, std::map<EvidenceKey, Evidence>> evidence;
  std::map<Digest, Bytes> models;
};

// What a transaction wrote.
struct Draft : Content {
  std::set<Digest> dropped;  // models
};

// Reads what is kept below what it wrote itself, and keeps its own writes apart until it commits.
class MemoryTransaction final : public Transaction {
 public:
  explicit MemoryTransaction(const Content& kept) : kept_(kept) {}

  Result<std::optional<TaskRecord>> FindTask(const TaskId& id) override {
    for (const Content* content : {&Written(), &kept_}) {
      const auto found = content->tasks.find(id);
      if (found != content->tasks.end()) return std::optional<TaskRecord>(found->second);
    }
    return std::optional<TaskRecord>();
  }

  Status PutTask(const TaskRecord& task) override {
    written_.tasks.insert_or_assign(task.id, task);
    return OkStatus();
  }

  Status PutRound(const TaskId& task, const RoundReport& round) override {
    CHORUS_TRY(CheckKnown(task, round.round));
    written_.rounds[task].insert_or_assign(round.round, round);
    return OkStatus();
  }

  Result<std::vector<RoundReport>> Rounds(const TaskId& task, uint64_t first,
                                          uint32_t count) override {
    std::map<uint64_t, const RoundReport*> found;
    for (const Content* content : {&kept_, &Written()}) {
      const auto rounds = content->rounds.find(task);
      if (rounds == content->rounds.end()) continue;
      uint32_t taken = 0;
      for (auto at = rounds->second.lower_bound(first); at != rounds->second.end() && taken < count;
           ++at, ++taken)
        found[at->first] = &at->second;
    }
    std::vector<RoundReport> reports;
    for (const auto& [number, report] : found) {
      if (reports.size() == count) break;
      reports.push_back(*report);
    }
    return reports;
  }

  Status PutEvidence(const TaskId& task, const Evidence& evidence) override {
    CHORUS_TRY(CheckKnown(task, evidence.round));
    const auto kept = kept_.evidence.find(task);
    if (kept != kept_.evidence.end() && kept->second.contains(KeyOf(evidence))) return OkStatus();
    written_.evidence[task].emplace(KeyOf(evidence), evidence);
    return OkStatus();
  }

  Result<std::vector<Evidence>> ListEvidence(const TaskId& task, uint32_t count) override {
    std::map<EvidenceKey, const Evidence*> found;
    for (const Content* content : {&kept_, &Written()}) {
      const auto evidence = content->evidence.find(task);
      if (evidence == content->evidence.end()) continue;
      uint32_t taken = 0;
      for (auto at = evidence->second.begin(); at != evidence->second.end() && taken < count;
           ++at, ++taken)
        found[at->first] = &at->second;
    }
    std::vector<Evidence> list;
    for (const auto& [key, evidence] : found) {
      if (list.size() == count) break;
      list.push_back(*evidence);
    }
    return list;
  }

  Status PutModel(const Digest& hash, BytesView bytes) override {
    const bool kept = kept_.models.contains(hash) && !written_.dropped.contains(hash);
    if (written_.models.contains(hash) || kept) return OkStatus();
    if (crypto::Sha256(bytes) != hash)
      return InvalidArgument("the model does not hash to the name it is put under");
    written_.models.emplace(hash, Bytes(bytes.begin(), bytes.end()));
    return OkStatus();
  }

  Result<Bytes> GetModel(const Digest& hash) override {
    if (const auto found = written_.models.find(hash); found != written_.models.end())
      return found->second;
    const auto found = kept_.models.find(hash);
    if (found == kept_.models.end() || written_.dropped.contains(hash))
      return NotFound("the store has no such model");
    return found->second;
  }

  Status DropModel(const Digest& hash) override {
    written_.models.erase(hash);
    written_.dropped.insert(hash);
    return OkStatus();
  }

  // What it wrote; nothing afterwards.
  Draft TakeWritten() { return std::exchange(written_, {}); }

 private:
  Status CheckKnown(const TaskId& task, uint64_t round) const {
    if (round > INT64_MAX) return InvalidArgument("a round's number is below 2^63");
    if (!written_.tasks.contains(task) && !kept_.tasks.contains(task))
      return NotFound("the store has no such task: put it before its rounds");
    return OkStatus();
  }

  const Content& Written() const { return written_; }

  const Content& kept_;
  Draft written_;
};

class MemoryStore final : public Store {
 public:
  Status RunTransaction(std::string_view,
                        const std::function<Status(Transaction&)>& function) override {
    const std::lock_guard lock(mutex_);
    MemoryTransaction transaction(kept_);
    CHORUS_TRY(function(transaction));
    Draft written = transaction.TakeWritten();
    for (const Digest& hash : written.dropped) kept_.models.erase(hash);
    for (auto& [id, task] : written.tasks) kept_.tasks.insert_or_assign(id, std::move(task));
    for (auto& [id, rounds] : written.rounds) {
      std::map<uint64_t, RoundReport>& kept = kept_.rounds[id];
      for (auto& [number, round] : rounds) kept.insert_or_assign(number, std::move(round));
    }
    for (auto& [id, evidence] : written.evidence) kept_.evidence[id].merge(std::move(evidence));
    kept_.models.merge(std::move(written.models));
    return OkStatus();
  }

 private:
  std::mutex mutex_;
  Content kept_;
};

}  // namespace

std::unique_ptr<Store> NewMemoryStore() { return std::make_unique<MemoryStore>(); }

}  // namespace chorus
