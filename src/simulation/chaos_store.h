// The store of a simulation of faults: it outlives the coordinators, and each reaches it through a
// door of its own, at which things go wrong.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "chorus/store.h"
#include "simulation/chaos_parts.h"

namespace chorus::simulation {

struct StoreFaults {
  double full_chance = 0;      // of each transaction, as the next: fails before it begins
  double conflict_chance = 0;  // its function runs, is undone, and runs again
  double unknown_chance = 0;   // it commits, and its caller hears that it did not
};

// What one coordinator sees of the store. Everything must outlive it.
class StoreDoor final : public Store {
 public:
  StoreDoor(Store& store, Scene& scene, Life& life, Dice& dice, std::string who)
      : store_(store), scene_(scene), life_(life), dice_(dice), who_(std::move(who)) {}

  Status RunTransaction(std::string_view name,
                        const std::function<Status(Transaction&)>& function) override;

  bool shared() const override { return store_.shared(); }
  // Nothing gets through until then.
  void Cut(Time until) { cut_until_ = until; }

  StoreFaults faults;
  std::function<void()> committed =
      nullptr;  // called after each commit, before anybody hears of it

 private:
  Status Undone(std::string_view name, const std::function<Status(Transaction&)>& function);

  Store& store_;
  Scene& scene_;
  Life& life_;
  Dice& dice_;
  const std::string who_;
  Time cut_until_{0};
};

}  // namespace chorus::simulation
