#include "coordinator/committee.h"

#include <string>

namespace chorus::coordinator {
namespace {

constexpr uint32_t kMillion = 1'000'000;
constexpr uint32_t kHonestMin = 2;  // so that the sum of keys hides each [specification 2.2.2]

}  // namespace

Status CheckOneShot(const TaskSpec& task) {
  const OneShotSpec& one_shot = task.one_shot;
  if (!task.experimental) {
    return InvalidArgument(
        "experimental must be true with PROTOCOL_ONE_SHOT, which nobody outside has reviewed");
  }
  CHORUS_TRY(aggregation::CommitteeOf(one_shot));
  if (task.cohort.parallel != 1) {
    return InvalidArgument(
        "cohort.parallel must be 1 with PROTOCOL_ONE_SHOT: a committee serves one session at a "
        "time");
  }
  if (one_shot.gamma_ppm >= kMillion) {
    return InvalidArgument("one_shot.gamma_ppm must be below 1000000");
  }
  if (one_shot.honest_min < kHonestMin) {
    return InvalidArgument("one_shot.honest_min must be at least 2");
  }
  const uint32_t honest = aggregation::HonestAmong(task.cohort.minimum, one_shot.gamma_ppm);
  if (honest < one_shot.honest_min) {
    return InvalidArgument(
        "one_shot.honest_min: a cohort of cohort.minimum hides an update among " +
        std::to_string(honest) +
        " honest clients only; raise cohort.minimum or lower "
        "one_shot.gamma_ppm or one_shot.honest_min");
  }
  return OkStatus();
}

std::vector<PartyId> Invited::Everybody() const {
  std::vector<PartyId> everybody = clients;
  for (const aggregation::CommitteeMember& member : committee) everybody.push_back(member.party);
  return everybody;
}

Committee::Committee(const TaskSpec& task) {
  if (task.protocol != Protocol::kOneShot) return;
  const Result<aggregation::CommitteeParams> params = aggregation::CommitteeOf(task.one_shot);
  if (!params.ok()) return;
  needed_ = aggregation::MembersNeeded(*params);
  members_ = task.one_shot.members;
  uint32_t index = 0;
  for (const PublicKey& member : members_) index_of_[member] = ++index;
}

uint32_t Committee::IndexOf(const PublicKey& identity) const {
  const auto found = index_of_.find(identity);
  return found == index_of_.end() ? 0 : found->second;
}

Status Committee::TooFew(size_t present) const {
  return Unavailable("only " + std::to_string(present) + " of the committee's " +
                     std::to_string(members_.size()) + " members are checked in; a round needs " +
                     std::to_string(needed_));
}

}  // namespace chorus::coordinator
