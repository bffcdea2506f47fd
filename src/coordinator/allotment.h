// Who of the free clients waits with which task, where a coordinator serves several: by priority
// and fair share.
//
// A task spends clients when it begins a round: their number over its priority. Who has spent least
// comes first, and is given all the clients that its round wants before the next is given any, also
// those that wait with tasks behind it: clients are gathered where a round can begin, not scattered
// over tasks none of which has enough. So where there are not enough for all, tasks take turns, and
// get clients as their priorities are to each other; where there are enough, each gets what it
// wants. This is stride scheduling [WW95] with a round as the quantum.
//
// Nobody starves: who waits spends nothing, and so comes first in the end. A task that more clients
// are missing for than there are does not gather any, and one that gathers in vain for kTurnMax has
// had its turn. A task that begins, or begins again, starts with what the thriftiest has spent.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/limits.h"
#include "base/random.h"
#include "coordinator/machine.h"
#include "coordinator/sessions.h"

namespace chorus::coordinator {

// Thread-compatible. Tasks are named by their places, which are indices of `cores`.
class Allotment {
 public:
  explicit Allotment(Rng& rng) : rng_(rng) {}

  // Moves free clients between the cores' parties. Costs time in proportion to all sessions.
  void Run(std::span<CoordinatorCore* const> cores, Time now);
  // Where a client that serves `tasks` had best wait until the next Run.
  uint32_t PlaceFor(std::span<CoordinatorCore* const> cores, TaskMask tasks, Time now);
  // Notes what rounds have spent since this was last called.
  void Count(std::span<CoordinatorCore* const> cores);
  // What each place has spent, in clients over priority.
  double spent(uint32_t place) const { return shares_[place].spent; }

 private:
  struct Share {
    double spent = 0;
    uint64_t invited = 0;  // of CoordinatorCore::clients_invited that are in `spent`
    bool active = false;
  };
  // A free client, by where it waits.
  struct Free {
    PartyId id = 0;
    uint32_t place = 0;
    TaskMask may = 0;  // be given to these
  };
  struct Demand {
    Need need;
    uint64_t population = 0;  // clients that may ever take part: free, or in a round of any task
    std::vector<Free> kept;   // allotted to it, and still waiting
  };

  void Collect(std::span<CoordinatorCore* const> cores, Time now);
  void Order(std::span<CoordinatorCore* const> cores, Time now);
  void Serve(std::span<CoordinatorCore* const> cores, size_t rank, Time now);
  void GiveMembers(std::span<CoordinatorCore* const> cores, Time now);
  void Give(std::span<CoordinatorCore* const> cores, const Free& client, uint32_t place, Time now);
  void EndVainTurn(std::span<CoordinatorCore* const> cores, Time now);
  void Shuffle(std::vector<Free>& clients);

  Rng& rng_;
  std::vector<Share> shares_;
  std::vector<Demand> demands_;
  std::vector<Free> free_;
  std::vector<Free> members_;     // of committees
  std::vector<uint32_t> order_;   // places that want clients now and can have enough
  std::optional<uint32_t> turn_;  // who came first last time
  Time turn_since_{};             // and has not had enough for its minimum
};

}  // namespace chorus::coordinator
