// The cohorts that one round runs side by side, each a Round with a session of its own: which
// client is in which. It is spoken to as one Round is, so that the core need not know how many
// there are; their sums go to CohortSums as they end.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "aggregation/protocols.h"
#include "base/pieces.h"
#include "base/random.h"
#include "chorus/bytes.h"
#include "chorus/status.h"
#include "chorus/store.h"
#include "chorus/task.h"
#include "coordinator/outcome.h"
#include "coordinator/round.h"

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
  uint64_t version = 0;         // of the published vector that they train on: ServerState's
  uint32_t first = 1;           // the first one's number in the round
};

// Somebody whose cohort has ended.
struct Dismissed {
  PartyId party = 0;
  Status verdict;            // whether its cohort's sum counts, else why not
  bool contributed = false;  // to that sum
};

// A cohort whose sum nobody has taken yet.
struct EndedCohort {
  uint32_t number = 0;
  Result<Sum> sum;
  uint32_t invited = 0;
  uint32_t declined = 0;
  std::vector<uint32_t> dropouts;
};

// Thread-compatible.
class Cohorts {
 public:
  Cohorts(CohortsOptions options, Time now);

  // As Round's, of the cohort that the party is in.
  Status Hear(PartyId from, Pieces answer);
  void HearAgain(PartyId from, Pieces answer);
  Result<Bytes> Body(PartyId to);
  void Leave(PartyId party, Round::Departure departure);
  bool Contributed(PartyId party) const;

  // As Round's, of all cohorts. A cohort that fails ends alone; the sum of one that does not goes
  // to `sums` when it ends, which may refuse it; null: it waits in TakeEnded.
  void Advance(Time now, CohortSums* sums);
  // Whether that would open a sum, which may take long.
  bool OpensBy(Time now) const;
  // The cohorts that have ended without `sums` since this was last called.
  std::vector<EndedCohort> TakeEnded() { return std::exchange(ended_cohorts_, {}); }
  // The sum of a cohort that has ended does not count after all.
  void Refuse(uint32_t number, const Status& why);
  void Postpone(Time by);
  Time NextTick() const;
  RoundNews TakeNews();
  std::string_view step() const;  // of the first cohort that has not ended
  StepProgress progress() const;  // of that step, over the cohorts that are in it
  bool done() const { return ended_ == cohorts_.size(); }
  uint32_t going_on() const { return static_cast<uint32_t>(cohorts_.size() - ended_); }
  // Whether the party is in a cohort and was not dismissed.
  bool Has(PartyId party) const { return cohort_of_.contains(party); }
  // The party has nothing more to do with its cohort, and may be in another round's from now on.
  void Forget(PartyId party);
  // Everybody in the cohorts that have ended since this was last called, in the order of the cut;
  // they are in no cohort from now on.
  std::vector<Dismissed> Dismiss();
  // Likewise of those alone that have ended without a sum, while others' sums may still count.
  std::vector<Dismissed> DismissFailed();
  // Ends the cohorts that go on, without a sum; TakeEnded has them too, since a store that other
  // processes use is to hear of these as well.
  void Abandon(const Status& why);
  // Of cohorts of which none made a sum: why.
  Status WhyNone() const;

  uint32_t count() const { return static_cast<uint32_t>(cohorts_.size()); }
  uint32_t declined() const;
  std::vector<uint32_t> dropouts() const;  // of each step, over all cohorts
  // What the cohorts that have ended since found against parties, with the cohort's number.
  std::vector<std::pair<uint32_t, aggregation::Blame>> TakeBlame() {
    return std::exchange(blame_, {});
  }

 private:
  struct Cohort {
    Round round;
    std::vector<PartyId> parties;  // none once dismissed
    uint32_t invited = 0;
    bool ended = false;
    Status verdict;
  };

  Cohort* CohortOf(PartyId party);
  const Cohort* CohortOf(PartyId party) const;
  void Dismiss(Cohort& cohort, std::vector<Dismissed>& dismissed);
  void End(Cohort& cohort, uint32_t number, CohortSums* sums);

  std::vector<Cohort> cohorts_;
  std::unordered_map<PartyId, size_t> cohort_of_;
  uint64_t version_ = 0;
  uint32_t first_ = 1;
  size_t ended_ = 0;
  std::vector<EndedCohort> ended_cohorts_;
  std::vector<std::pair<uint32_t, aggregation::Blame>> blame_;
};

}  // namespace chorus::coordinator
