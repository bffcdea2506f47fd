#include "coordinator/sessions.h"

#include <algorithm>

namespace chorus::coordinator {

Sessions::Sessions(const SessionsOptions& options)
    : options_(options),
      // NOLINT(tidy): see admission().
      admission_(std::make_shared<Admission>(options.admission, *options.rng)),
      pacing_(options.pacing) {}

PartyId Sessions::Open() {
  ++open_;
  return ++last_id_;
}

void Sessions::Spend(uint64_t challenge, Time now) {
  while (!spent_until_.empty() &&
         (spent_until_.front().first <= now || spent_until_.size() >= options_.sessions_max)) {
    spent_.erase(spent_until_.front().second);
    spent_until_.pop_front();
  }
  spent_.insert(challenge);
  spent_until_.emplace_back(now + limits::kChallengeLife, challenge);
}

bool Sessions::ClaimSubject(const Digest& subject, const PublicKey& identity) {
  const auto [claimed, fresh] = subjects_.try_emplace(subject, identity);
  return fresh || claimed->second == identity;
}

}  // namespace chorus::coordinator
