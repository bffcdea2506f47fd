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

void Sessions::Spend(const PublicKey& identity, uint64_t challenge, Time now) {
  while (!spent_until_.empty() &&
         (spent_until_.front().until <= now || spent_until_.size() >= options_.sessions_max)) {
    const SpentUntil& oldest = spent_until_.front();
    // The identity may have spent another since.
    if (const auto found = spent_.find(oldest.identity);
        found != spent_.end() && found->second == oldest.challenge) {
      spent_.erase(found);
    }
    spent_until_.pop_front();
  }
  spent_[identity] = challenge;
  spent_until_.push_back(
      {.until = now + limits::kChallengeLife, .identity = identity, .challenge = challenge});
}

bool Sessions::Spent(const PublicKey& identity, uint64_t challenge) const {
  const auto found = spent_.find(identity);
  return found != spent_.end() && challenge <= found->second;
}

bool Sessions::ClaimSubject(const Digest& subject, const PublicKey& identity) {
  const auto [claimed, fresh] = subjects_.try_emplace(subject, identity);
  return fresh || claimed->second == identity;
}

}  // namespace chorus::coordinator
