#include "simulation/chaos_store.h"

namespace chorus::simulation {
namespace {

constexpr uint64_t kConflictsMax = 3;  // of one transaction
// What coordinators that share a store do several times a second, to see what the others do and to
// give a sign of life. Its story would drown all else, and it seldom writes what lasts.
constexpr std::string_view kLook = "look";

}  // namespace

// Runs the function as a transaction that a conflict undoes: its writes are not kept.
Status StoreDoor::Undone(std::string_view name,
                         const std::function<Status(Transaction&)>& function) {
  Status outcome;
  (void)store_.RunTransaction(name, [&](Transaction& transaction) -> Status {
    outcome = function(transaction);
    return Aborted("a conflict with another transaction");
  });
  return outcome;
}

Status StoreDoor::RunTransaction(std::string_view name,
                                 const std::function<Status(Transaction&)>& function) {
  const Status gone = Unavailable("the process has died");
  const bool look = name == kLook;
  if (!(look ? life_.Effect() : life_.DurableEffect())) return gone;
  if (scene_.now() < cut_until_) return Unavailable("the store cannot be reached");
  if (scene_.chaos && dice_.Chance(faults.full_chance)) {
    scene_.Strike(Fault::kStore);
    scene_.Say(who_, "the store is full: " + std::string(name));
    return ResourceExhausted("the disk is full");
  }
  for (uint64_t i = 0; i < kConflictsMax && scene_.chaos; ++i) {
    if (!dice_.Chance(faults.conflict_chance)) break;
    scene_.Strike(Fault::kStore);
    scene_.Say(who_, "a conflict: " + std::string(name) + " runs again");
    CHORUS_TRY(Undone(name, function));
    if (!life_.DurableEffect()) return gone;
  }
  CHORUS_TRY(store_.RunTransaction(name, function));
  if (!look) scene_.Say(who_, "committed: " + std::string(name));
  if (committed) committed();
  if (!look && !life_.DurableEffect()) return gone;
  if (scene_.chaos && dice_.Chance(faults.unknown_chance)) {
    scene_.Strike(Fault::kStore);
    scene_.Say(who_, "does not hear that it committed: " + std::string(name));
    return Unavailable("the connection to the store broke while it committed");
  }
  return OkStatus();
}

}  // namespace chorus::simulation
