#include "coordinator/counted_store.h"

#include <optional>

#include "base/stopwatch.h"

namespace chorus::coordinator {
namespace {

// Names are literals of ours; the bound is for a host's own store that makes some up.
constexpr size_t kNamesMax = 64;
constexpr std::string_view kLook = "look";

// Other codes are about what was asked of it: that something is not there, or has changed, say.
bool IsStoresFault(Code code) {
  return code == Code::kResourceExhausted || code == Code::kUnavailable ||
         code == Code::kInternal || code == Code::kDataLoss || code == Code::kUnknown ||
         code == Code::kDeadlineExceeded;
}

}  // namespace

Status CountedStore::RunTransaction(std::string_view name,
                                    const std::function<Status(Transaction&)>& function) {
  if (name == kLook) {
    const std::lock_guard lock(mutex_);
    CHORUS_TRY(out_of_reach_);
  }
  const Stopwatch watch;
  uint32_t runs = 0;
  Status status = store_.RunTransaction(name, [&](Transaction& transaction) {
    ++runs;
    return function(transaction);
  });
  measures_.Count(RanTransaction{
      .name = name, .code = status.code(), .seconds = watch.Seconds(), .runs = runs});
  const bool fault = IsStoresFault(status.code());
  if (!fault && !failing()) return status;
  const std::lock_guard lock(mutex_);
  // A function that was run had a connection, whatever came of it.
  if (name == kLook && runs == 0 && fault) out_of_reach_ = status;
  if (!fault) out_of_reach_ = OkStatus();
  if (!fault) {
    if (const auto found = failed_.find(name); found != failed_.end()) failed_.erase(found);
  } else if (failed_.size() < kNamesMax) {
    failed_.emplace(name);
  }
  failing_.store(!failed_.empty(), std::memory_order_relaxed);
  return status;
}

Status CountedStore::Probe(const TaskId& task) {
  CHORUS_TRY(RunTransaction("probe", [&](Transaction& transaction) -> Status {
    CHORUS_TRY_ASSIGN(const std::optional<TaskRecord> record, transaction.FindTask(task));
    if (!record) return OkStatus();
    return transaction.PutTask(*record);
  }));
  const std::lock_guard lock(mutex_);
  failed_.clear();
  out_of_reach_ = OkStatus();
  failing_.store(false, std::memory_order_relaxed);
  return OkStatus();
}

}  // namespace chorus::coordinator
