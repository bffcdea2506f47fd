// How large a round is and how long it waits, from what was seen of the rounds before. The task's
// cohort and deadlines, which clients have agreed to, are the bounds. A pure function of what it is
// told: no clock, no chance. Kept in memory: after a restart it begins with the task's own numbers.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "chorus/coordinator.h"
#include "chorus/host.h"
#include "chorus/task.h"
#include "coordinator/round.h"

namespace chorus::coordinator {

// Contributions hoped for, and the fraction of those invited who do not give one: how many to
// invite so that in nine of ten rounds there are enough.
uint64_t InvitedFor(uint64_t wanted, double lost);

// What is known of one step of a task's rounds.
class StepRecord {
 public:
  void Note(const ClosedStep& step);
  // What fits the answers seen lately: twice the time in which 95 % of them came, `least` at least.
  // None while there are too few.
  std::optional<Time> Fitting(Time least) const;
  // Whether more parties are silent at fitted deadlines than were at the task's.
  bool LosesMore() const;

 private:
  struct Silence {
    uint64_t asked = 0;
    uint64_t silent = 0;
  };

  // How long answers took in the latest closes, as many as it takes for enough answers.
  std::deque<std::vector<Time>> took_;
  std::deque<Silence> full_;  // at the task's own deadlines, likewise
  Silence fitted_;            // at fitted deadlines, since the latest of those
};

// Thread-compatible.
class Tempo {
 public:
  explicit Tempo(const TaskSpec& task);

  // `free` with `target` as the number to invite to each cohort, those against dropouts included.
  CohortSpec Cohorts(CohortSpec free) const;
  // Whether a round may begin with so many who wait, when all who are connected do, although it
  // wants more: not the first since the start, before which clients are still arriving, and not
  // when too few of them would stay.
  bool MayBeginWith(size_t waiting) const { return adapt_ && begun_ > 0 && !MayBeTooFew(waiting); }
  // How long to wait for more when so many wait, who are enough for a small round.
  Time WaitForMore(size_t waiting) const;

  // A round begins that invites so many: what its steps may take.
  StepLimits Begin(uint64_t invited);
  // What was chosen for the round that began last.
  const RoundTempo& chosen() const { return chosen_; }
  void Note(const ClosedStep& step);
  // A round has ended; `aborted` when it came to nothing.
  void End(bool aborted);

 private:
  enum class Patience : uint8_t { kTask, kFitted, kPatient };
  Patience Choose();
  double Lost() const;
  bool MayBeTooFew(size_t waiting) const;
  Time Least(size_t step) const;

  bool adapt_;
  CohortSpec cohort_;
  Time check_in_;
  std::vector<Time> deadlines_;      // [steps] of the task, training first
  std::vector<StepRecord> records_;  // [steps]
  uint64_t begun_ = 0;
  Patience patience_ = Patience::kTask;  // of the round that began last
  uint32_t task_rounds_ = 0;             // to come at the task's deadlines
  uint32_t fitted_aborts_ = 0;           // in a row
  uint32_t interval_;                    // between patient rounds
  uint32_t since_patient_ = 0;
  bool waiting_helped_ = false;  // somebody answered whom a fitted deadline would have cut off
  double invited_ = 0;           // of late, older rounds counting half and less
  double lost_ = 0;              // of those, before they contributed
  RoundTempo chosen_;
};

}  // namespace chorus::coordinator
