// From the sums of cohorts to the next model: what a round's outcome is, as a pure function. The
// coordinator's core and the simulator call the same.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "chorus/aggregation.h"
#include "chorus/model.h"
#include "chorus/status.h"
#include "chorus/store.h"
#include "chorus/task.h"
#include "learning/server_optimizer.h"
#include "math/math.h"

namespace chorus::coordinator {

// So many contributions a round's sums add up to at most. With server.buffered_sums sums may wait
// while a whole round comes and goes.
uint32_t ContributorsMax(const TaskSpec& task);

// What a server carries from round to round: all of it is durable with every commit.
struct ServerState {
  Weights published;  // [PublishedCount of the task]: what clients are sent
  learning::OptimizerState optimizer;
  uint64_t version = 0;  // how many committed rounds are in it
};
// The state that a task begins with: `weights` [dim], control variates of zero, and the optimiser's
// beginning. Of analytics `weights` are not looked at.
ServerState FirstState(const TaskSpec& task, Weights weights);

// The sums of cohorts that wait to become the next model. They are added up where they may be, so
// that memory does not grow with their number; a robust rule compares them, so then their means are
// kept apart. Thread-compatible.
class CohortSums {
 public:
  explicit CohortSums(const TaskSpec& task);  // valid

  // Takes the sum of a cohort that trained on the published vector of `version`. It is judged
  // before it meets the others, so that garbage costs its own cohort only: the failures of
  // math::CheckSum, and nothing has changed.
  Status Add(Sum sum, uint64_t version);
  uint32_t count() const { return count_; }
  void Clear();

  // Sums of cohorts that trained on one version.
  struct OfVersion {
    Sum total;                      // what they add up to; empty under a robust rule
    std::vector<math::Mean> means;  // of each, under a robust rule
    uint32_t contributors = 0;
    uint32_t count = 0;
  };
  const std::map<uint64_t, OfVersion>& versions() const { return versions_; }
  const math::FixedPoint& encoding() const { return total_; }  // of the totals

 private:
  Status unusable_;         // why the task has no encoding; ok in a valid task
  math::FixedPoint each_;   // of one cohort's sum
  math::FixedPoint total_;  // of what they all add up to, in as many bits as that takes
  bool apart_ = false;
  uint32_t count_ = 0;
  std::map<uint64_t, OfVersion> versions_;
};

// Whether a round is over: once all of its cohorts have ended, or with server.buffered_sums once so
// many sums are there, of its own cohorts or of earlier rounds' that went on.
struct RoundProgress {
  uint32_t sums = 0;       // CohortSums::count()
  bool all_ended = false;  // no cohort is running, of this round or an earlier one
};
bool IsOver(const TaskSpec& task, const RoundProgress& progress);

struct NextModel {
  ServerState state;
  std::vector<int64_t> cells;  // of analytics: the exact sums
};
// The state after a round whose sums these are (at least one), and what they say into the report:
// contributors, cohorts_committed, examples and metrics. With server.buffered_sums a sum counts 1 /
// sqrt(1 + versions between), and one more than staleness_max versions old does not [NMZYRM22].
// kAborted, and the report as it was: fewer sums than server.buffered_sums or server.robust need,
// or a model that would not be finite.
Result<NextModel> ComputeNext(const TaskSpec& task, const ServerState& state,
                              const CohortSums& sums, RoundReport& report);

}  // namespace chorus::coordinator
