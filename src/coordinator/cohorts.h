// The cohorts that one round runs side by side, each a Round with a session of its own: which
// client is in which, and what their sums add up to. It is spoken to as one Round is, so that the
// core need not know how many there are.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "aggregation/protocols.h"
#include "base/random.h"
#include "chorus/bytes.h"
#include "chorus/status.h"
#include "chorus/store.h"
#include "chorus/task.h"
#include "coordinator/round.h"
#include "math/math.h"

namespace chorus::coordinator {

// How many clients fill every cohort of a round, those included that are invited against dropouts.
uint64_t ClientsWanted(const CohortSpec& spec);
// The cohorts that so many waiting clients make: as many as it takes to hold them, of sizes that
// differ by at most one, none below the minimum. Who then has no place waits for another round.
// Empty when there are fewer than the minimum.
std::vector<uint32_t> CohortSizes(const CohortSpec& spec, size_t waiting);

struct CohortsOptions {
  RoundOptions all;  // what the cohorts share; `invited` are everybody's, in the order of the cut
  std::vector<uint32_t> sizes;  // of each cohort; they add up to the number of the invited
  Rng* rng = nullptr;           // of the sessions' nonces; used by the constructor only
};

// What the cohorts that succeeded add up to.
struct RoundSum {
  math::Mean mean;
  uint32_t contributors = 0;
};

// Thread-compatible.
class Cohorts {
 public:
  Cohorts(CohortsOptions options, Time now);

  // As Round's, of the cohort that the party is in.
  Status Hear(PartyId from, BytesView answer);
  void HearAgain(PartyId from, BytesView answer);
  Result<Bytes> Body(PartyId to);
  void Leave(PartyId party, Round::Departure departure);
  bool Contributed(PartyId party) const;

  // As Round's, of all cohorts. A cohort that fails ends alone; its sum is added to the total, or
  // not, when it ends.
  void Advance(Time now);
  void Postpone(Time by);
  Time NextTick() const;
  RoundNews TakeNews();
  std::string_view step() const;  // of the first cohort that has not ended
  // Null while any cohort goes on; then what the sums add up to, or why there is none at all.
  Result<RoundSum>* outcome() { return ended_ == cohorts_.size() ? &outcome_ : nullptr; }

  // Once its cohort has ended: whether its sum is in the total, else why not.
  const Status& VerdictOn(PartyId party) const;
  uint32_t count() const { return static_cast<uint32_t>(cohorts_.size()); }
  uint32_t committed() const { return committed_; }
  uint32_t declined() const;
  std::vector<uint32_t> dropouts() const;  // of each step, over all cohorts
  // What the cohorts that have ended since found against parties, with the cohort's number.
  std::vector<std::pair<uint32_t, aggregation::Blame>> TakeBlame() {
    return std::exchange(blame_, {});
  }

 private:
  struct Cohort {
    Round round;
    bool ended = false;
    Status verdict;
  };

  Cohort* CohortOf(PartyId party);
  const Cohort* CohortOf(PartyId party) const;
  void End(Cohort& cohort, uint32_t number);
  Status Add(Sum sum);
  Result<RoundSum> Total() const;

  std::vector<Cohort> cohorts_;
  std::unordered_map<PartyId, size_t> cohort_of_;
  Status unusable_;         // why the task has no encoding; ok in a valid task
  math::FixedPoint each_;   // of one cohort's sum
  math::FixedPoint total_;  // of what they all add up to, in as many bits as that takes
  Sum sum_;
  size_t ended_ = 0;
  uint32_t committed_ = 0;
  Result<RoundSum> outcome_ = Status(Code::kInternal, "the round goes on");
  std::vector<std::pair<uint32_t, aggregation::Blame>> blame_;
};

}  // namespace chorus::coordinator
