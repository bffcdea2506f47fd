// The door: whether who checks in is who it says, before it is anybody here. Checking signatures is
// most of what a check-in costs, and depends on nothing that changes, so several threads may do it
// before the request reaches the coordinator's own.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <optional>
#include <set>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "base/random.h"
#include "chorus/bytes.h"
#include "chorus/coordinator.h"
#include "chorus/host.h"
#include "chorus/status.h"
#include "coordinator/rate_limits.h"
#include "wire/wire.h"

namespace chorus::coordinator {

// A check-in whose proofs hold.
struct Vetted {
  wire::CheckInRequest request;  // without evidence and token, which are not needed any more
  uint64_t challenge = 0;        // its number
  uint64_t serial = 0;           // the issuer's number for the identity
  std::optional<Digest> subject = std::nullopt;  // of its token, hashed
  std::optional<Time> token_ends = std::nullopt;
  bool exempt = false;  // without a token, for being on a committee: as a client it is nobody
};

struct AdmissionParts {
  PublicKey coordinator{};                     // what clients sign their check-in for
  const IdentityVerifier* verifier = nullptr;  // must outlive the object, as `clock`
  const Clock* clock = nullptr;                // for tokens; null: none are asked for
  AdmissionOptions options = {.identity = {}, .subject = {}, .address = {}};
};

// Thread-safe.
class Admission {
 public:
  Admission(const AdmissionParts& parts, Rng& rng);

  // A challenge holds its own number and time under a MAC, so a flood of them costs no memory.
  Digest NewChallenge(Time now);
  // kUnimplemented: another version; kUnauthenticated: a challenge that is not ours or too old,
  // evidence that does not vouch for the key, a wrong signature, a token that is missing or not
  // good, or bound to another key; kResourceExhausted: this identity, or this subject, too often.
  Result<Vetted> Vet(wire::CheckInRequest request, Time now);
  // The same of the request's bytes.
  Result<Vetted> Vet(BytesView request, Time now);
  // Members of a committee: the task names them, and they need no token.
  void Exempt(const std::vector<PublicKey>& members);
  // Whether a call of `method` from this address may go on; kResourceExhausted as above.
  Status Enter(std::string_view method, BytesView address, Time now);
  // A session opens, or has ended.
  void Open(const wire::SessionToken& session);
  void End(const wire::SessionToken& session);
  // Whether this is a session that is open, or was a moment ago; kUnauthenticated.
  Status CheckSession(const wire::SessionToken& session) const;

 private:
  Digest MakeChallenge(uint64_t number, Time at) const;
  Status CheckChallenge(const Digest& challenge, Time now) const;
  Status CheckToken(const wire::CheckInRequest& request, Time now, Vetted& vetted);
  uint64_t NameOf(const wire::SessionToken& session) const;

  const AdmissionParts parts_;
  const SecretBytes challenge_key_;
  std::atomic<uint64_t> challenges_{0};
  const Digest session_key_;
  mutable std::mutex mutex_;  // guards the exempt and the sessions
  std::set<PublicKey> exempt_;
  std::unordered_set<uint64_t> sessions_;  // hashed with a secret: a search takes no telling time
  RateLimits identities_;
  RateLimits subjects_;
  RateLimits addresses_;
};

}  // namespace chorus::coordinator
