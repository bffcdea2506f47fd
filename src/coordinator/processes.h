// The processes that serve from one shared store: their names, who of them is there, and what one
// that starts again does with what its predecessor left.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/random.h"
#include "chorus/status.h"
#include "chorus/store.h"
#include "coordinator/cohort_record.h"
#include "wire/wire.h"

namespace chorus::coordinator {

// A name for a start of a process that no other has.
std::string DrawProcessName(Rng& rng);

// What can be read of a cohort's part of the report; of one that cannot, nothing.
CohortReport ReportOf(const CohortRecord& cohort);
// Ends an open cohort without a sum, as its process's fault.
void FailCohort(CohortRecord& cohort, std::string why);

struct Successor {
  std::string name;     // of this start
  std::string address;  // of the process, whenever it was started; empty: nobody's successor
};
// An address is one process's, so who had it before is dead: its cohorts in flight, of `cohorts`,
// end at once instead of with their leases, and nobody waits for it. Should it live after all, its
// sums are refused as those of any cohort that has ended.
Status SucceedTo(const Successor& successor, const TaskId& task, std::span<CohortRecord> cohorts,
                 Transaction& transaction);

// Processes that give signs of life, with the number of cohorts that each runs in the round.
Result<std::vector<wire::Process>> ProcessesOf(Transaction& transaction, const TaskRecord& record);

}  // namespace chorus::coordinator
