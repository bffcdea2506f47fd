#include "chorus/policy.h"

#include <algorithm>
#include <string>

namespace chorus {
namespace {

std::string Number(uint32_t number) { return std::to_string(number); }

// The promises that only secure aggregation makes.
Status PermitSecAgg(const Policy& policy, const SecAggSpec& task) {
  if (task.graph > SharingGraph::kHarary) {
    return PermissionDenied(
        "the task shares secrets in a way that this version does not know; update the game");
  }
  if (task.graph == SharingGraph::kHarary && !policy.allow_honest_but_curious) {
    return PermissionDenied(
        "the task hides your update only from a coordinator that follows the protocol; your policy "
        "does not trust it to");
  }
  if (task.honest_min < policy.honest_min) {
    return PermissionDenied("the task lets your update hide among only " + Number(task.honest_min) +
                            " honest clients; your policy asks for at least " +
                            Number(policy.honest_min));
  }
  if (task.gamma_ppm < policy.gamma_ppm_min) {
    return PermissionDenied("the task withstands only " + Number(task.gamma_ppm) +
                            " corrupt clients in a million; your policy asks for at least " +
                            Number(policy.gamma_ppm_min));
  }
  if (task.delta_ppm < policy.delta_ppm_min) {
    return PermissionDenied("the task withstands only " + Number(task.delta_ppm) +
                            " dropouts in a million clients; your policy asks for at least " +
                            Number(policy.delta_ppm_min));
  }
  return OkStatus();
}

// What a committee's protocol promises. Dropouts of clients never end its rounds, whatever delta.
Status PermitOneShot(const Policy& policy, const TaskSpec& task) {
  const OneShotSpec& one_shot = task.one_shot;
  if (!task.experimental) {
    return PermissionDenied(
        "the task protects updates in a way that nobody outside has reviewed, and does not say so");
  }
  if (!policy.allow_experimental) {
    return PermissionDenied(
        "the task protects updates in a way that nobody outside has reviewed; your policy asks for "
        "one that has been");
  }
  if (one_shot.honest_min < policy.honest_min) {
    return PermissionDenied(
        "the task lets your update hide among only " + Number(one_shot.honest_min) +
        " honest clients; your policy asks for at least " + Number(policy.honest_min));
  }
  if (one_shot.gamma_ppm < policy.gamma_ppm_min) {
    return PermissionDenied("the task withstands only " + Number(one_shot.gamma_ppm) +
                            " corrupt clients in a million; your policy asks for at least " +
                            Number(policy.gamma_ppm_min));
  }
  if (one_shot.members.empty()) return PermissionDenied("the task names no committee");
  const auto trusted = [&policy](const PublicKey& member) {
    return std::find(policy.committee.begin(), policy.committee.end(), member) !=
           policy.committee.end();
  };
  if (!policy.allow_any_committee &&
      !std::all_of(one_shot.members.begin(), one_shot.members.end(), trusted)) {
    return PermissionDenied(
        "the task has a committee member that your policy does not name; enough members of the "
        "coordinator's own choosing can read your update");
  }
  return OkStatus();
}

// An exact sum of answers says more about each of few clients than a sum of updates does.
Status PermitAnalytics(const Policy& policy, const TaskSpec& task) {
  if (task.queries.empty()) return OkStatus();
  if (!policy.allow_analytics) {
    return PermissionDenied(
        "the task asks questions about your examples instead of training a model; your policy "
        "does not allow analytics");
  }
  if (task.cohort.minimum < policy.analytics_cohort_min) {
    return PermissionDenied("the task may add your answers to only " + Number(task.cohort.minimum) +
                            " clients' in all; your policy asks for at least " +
                            Number(policy.analytics_cohort_min) + " for analytics");
  }
  return OkStatus();
}

}  // namespace

Status Permit(const Policy& policy, const TaskSpec& task) {
  if (task.cohort.minimum < policy.cohort_min) {
    return PermissionDenied("the task may add your update to only " + Number(task.cohort.minimum) +
                            " clients' in all; your policy asks for at least " +
                            Number(policy.cohort_min));
  }
  CHORUS_TRY(PermitAnalytics(policy, task));
  // Written so that a bound that is not a number is refused too.
  if (!(task.clip.update_l2_norm_max <= policy.update_l2_norm_max)) {
    return PermissionDenied(
        "the task lets one update weigh " + std::to_string(task.clip.update_l2_norm_max) +
        "; your policy allows at most " + std::to_string(policy.update_l2_norm_max));
  }
  switch (task.protocol) {
    case Protocol::kPlain:
      if (policy.allow_plain) return OkStatus();
      return PermissionDenied(
          "the task would let the coordinator read your update by itself; your policy allows only "
          "encrypted sums");
    case Protocol::kSecAgg:
      return PermitSecAgg(policy, task.secagg);
    case Protocol::kOneShot:
      return PermitOneShot(policy, task);
  }
  return PermissionDenied(
      "the task protects updates in a way that this version does not know; update the game");
}

}  // namespace chorus
