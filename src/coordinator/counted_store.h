// A store that counts what another does, and knows whether it works.
#pragma once

#include <atomic>
#include <functional>
#include <mutex>
#include <set>
#include <string>
#include <string_view>

#include "chorus/store.h"
#include "coordinator/measures.h"

namespace chorus::coordinator {

// Thread-safe.
class CountedStore final : public Store {
 public:
  CountedStore(Store& store, Measures& measures) : store_(store), measures_(measures) {}

  // Every task looks at a shared store by itself, several times a second. Once one of them could
  // not reach it, the others are told the same at once until some transaction could, a probe's at
  // the latest: each would else hold up the thread that serves all tasks until it is out of
  // patience.
  Status RunTransaction(std::string_view name,
                        const std::function<Status(Transaction&)>& function) override;
  bool shared() const override { return store_.shared(); }

  // Whether a transaction's last run failed for the store's sake: a full disk, a lost connection.
  bool failing() const { return failing_.load(std::memory_order_relaxed); }
  // Writes what is there already, to learn whether the store works again; with success nothing
  // counts as failing until it fails anew. Without it a coordinator that is not asked for anything,
  // since it said that it cannot work, would never find out that it can.
  Status Probe(const TaskId& task);

 private:
  Store& store_;
  Measures& measures_;
  std::mutex mutex_;
  std::set<std::string, std::less<>> failed_;  // names whose last run did
  std::atomic<bool> failing_{false};
  Status out_of_reach_;  // what the look said that found it so
};

}  // namespace chorus::coordinator
