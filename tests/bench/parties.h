// What the parties of a simulated session share: who they are, and who pays for what.
#pragma once

#include <cstdint>

#include "base/codec.h"
#include "bench.h"
#include "chorus/bytes.h"
#include "chorus/host.h"
#include "crypto/crypto.h"
#include "memory.h"

namespace chorus::bench {

// Certifies everybody: what a certificate costs is its issuer's choice, not the protocol's.
class AnyIdentity final : public IdentityVerifier {
 public:
  Result<Identity> Verify(const PublicKey&, BytesView) const override { return Identity{}; }
};

inline SecretBytes SeedOf(uint64_t index) {
  const Digest digest = crypto::LabeledHash("CHORUS1/bench", {Writer().U64(index).view()});
  return SecretBytes(Bytes(digest.begin(), digest.end()));
}

// Charges CPU time and memory to one party while it lives.
class Charge {
 public:
  Charge(Account& account, double& seconds)
      : on_(account), seconds_(seconds), begin_(CpuSeconds()) {}
  ~Charge() { seconds_ += CpuSeconds() - begin_; }
  Charge(const Charge&) = delete;
  Charge& operator=(const Charge&) = delete;

 private:
  OnAccount on_;
  double& seconds_;
  double begin_;
};

}  // namespace chorus::bench
