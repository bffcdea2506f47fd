#include "coordinator/standing.h"

#include <algorithm>

#include "base/log.h"

namespace chorus::coordinator {
namespace {

// Each round in which an identity is blamed adds so many in which it comes last, and all together
// no more than the second: it is a nuisance for a while and never the end.
constexpr uint64_t kRoundsAStrike = 8;
constexpr uint64_t kRoundsStruckMax = 64;

}  // namespace

std::vector<Evidence> Standing::Hold(
    const std::vector<std::pair<uint32_t, aggregation::Blame>>& blames, uint64_t round,
    LogSink& log) {
  std::vector<Evidence> proof;
  std::map<aggregation::Blame::Cause, uint32_t> counts;
  for (const auto& [cohort, blame] : blames) {
    ++counts[blame.cause];
    if (blame.cause != aggregation::Blame::Cause::kEquivocated) {
      Strike(blame.id, round);
      continue;
    }
    if (expelled_.size() < identities_max_) expelled_.insert(blame.id);
    proof.push_back({.round = round,
                     .cohort = cohort,
                     .identity = blame.id,
                     .first = {blame.first.message, blame.first.signature},
                     .second = {blame.second.message, blame.second.signature}});
  }
  for (const auto& [cause, count] : counts) {
    Log(log, LogLevel::kWarn, "clients blamed",
        {{"round", round}, {"cause", static_cast<uint32_t>(cause)}, {"count", count}});
  }
  return proof;
}

void Standing::Strike(const PublicKey& identity, uint64_t round) {
  Struck struck{.in_round = round, .until = round};
  if (const auto found = struck_.find(identity); found != struck_.end()) {
    if (found->second.in_round == round) return;
    struck.until = std::max(found->second.until, round);
  }
  struck.until = std::min(struck.until + kRoundsAStrike, round + kRoundsStruckMax);
  Forget(identity);
  if (struck_.size() >= identities_max_ && !fading_.empty()) Forget(fading_.begin()->second);
  struck_[identity] = struck;
  fading_.emplace(struck.until, identity);
}

void Standing::Forget(const PublicKey& identity) {
  const auto found = struck_.find(identity);
  if (found == struck_.end()) return;
  fading_.erase({found->second.until, identity});
  struck_.erase(found);
}

uint64_t Standing::Strikes(const PublicKey& identity, uint64_t round) const {
  const auto found = struck_.find(identity);
  if (found == struck_.end() || found->second.until < round) return 0;
  return found->second.until - round + 1;
}

}  // namespace chorus::coordinator
