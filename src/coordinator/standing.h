// What a coordinator holds against identities when it selects clients. In memory only, and within
// bounds whatever the cohorts find.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "aggregation/protocols.h"
#include "chorus/bytes.h"
#include "chorus/host.h"
#include "chorus/store.h"

namespace chorus::coordinator {

// Only proof expels: two signed answers that differ, which nobody can make but the identity itself.
// Everything else may be the doing of holders who collude against an honest owner, so it only makes
// an identity wait behind the others, and it fades. Thread-compatible.
class Standing {
 public:
  explicit Standing(size_t identities_max) : identities_max_(identities_max) {}

  // Notes what the cohorts of `round` (with their numbers) found, and logs how much of what. All
  // that is found against an identity in one round counts once. What is proof comes back, to be
  // kept.
  std::vector<Evidence> Hold(const std::vector<std::pair<uint32_t, aggregation::Blame>>& blames,
                             uint64_t round, LogSink& log);
  bool Expelled(const PublicKey& identity) const { return expelled_.contains(identity); }
  // How many more rounds, `round` included, the identity is chosen only after those without.
  uint64_t Strikes(const PublicKey& identity, uint64_t round) const;

 private:
  void Strike(const PublicKey& identity, uint64_t round);
  void Forget(const PublicKey& identity);

  struct Struck {
    uint64_t in_round = 0;  // the latest
    uint64_t until = 0;     // the last round in which it counts
  };

  size_t identities_max_;
  std::set<PublicKey> expelled_;
  std::map<PublicKey, Struck> struck_;
  std::set<std::pair<uint64_t, PublicKey>> fading_;  // by `until`
};

}  // namespace chorus::coordinator
