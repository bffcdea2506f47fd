// What a player's device accepts, whoever asks. The client checks it before anything is trained or
// sent.
#pragma once

#include <cstdint>
#include <vector>

#include "chorus/status.h"
#include "chorus/task.h"

namespace chorus {

struct Policy {
  bool allow_plain = false;  // true: the coordinator may read this client's updates
  // true: accept a sharing graph that hides an update only from a coordinator that follows the
  // protocol (SharingGraph::kHarary); one that does not can read it.
  bool allow_honest_but_curious = false;
  bool allow_experimental = false;  // true: accept protection that nobody outside has reviewed
  // Whom this player trusts to sit on a committee (Protocol::kOneShot): a task is refused unless
  // each of its members is named here. The coordinator writes the task, so members of its own
  // choosing would let it read every update.
  std::vector<PublicKey> committee = {};
  bool allow_any_committee = false;  // true: accept whatever members the coordinator names
  uint32_t cohort_min = 3;           // refuse a task whose sums may be over fewer clients
  uint32_t honest_min = 2;     // refuse unless at least so many honest clients hide in every sum
  uint32_t gamma_ppm_min = 0;  // refuse a weaker assumption on corrupt members than this
  uint32_t delta_ppm_min = 0;  // likewise for dropouts
  // true: answer questions about this device's examples (TaskSpec::queries). Sums of answers are
  // exact, without clip or noise, so that they ask for a larger cohort than updates do.
  bool allow_analytics = false;
  uint32_t analytics_cohort_min = 20;  // cohort_min of such tasks, where that is less
  float update_l2_norm_max = 1e6F;     // refuse a task that lets one update weigh more
  // How often an update may be uploaded against one and the same model. Each repeat (after an
  // aborted round) shows a lying coordinator one more sum that differs by a client or two from the
  // last; 1 is strictest, and lets one abort stall a small population. 0: unlimited, for a silo or
  // a fault test. [specification 3.7] Of analytics the questions are the model: each is answered so
  // often for as long as the ledger lasts, whatever tasks ask it and in however many rounds.
  uint32_t uploads_per_model_max = 3;
};

// Ok, or kPermissionDenied with the reason in words for the player. Pure.
Status Permit(const Policy& policy, const TaskSpec& task);

}  // namespace chorus
