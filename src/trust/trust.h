// Who belongs to a key, and what a player's device accepts (Permit, in chorus/policy.h). Pure.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string_view>

#include "chorus/bytes.h"
#include "chorus/host.h"
#include "chorus/policy.h"
#include "chorus/status.h"

namespace chorus::trust {

// An issuer's word that an Ed25519 key belongs to somebody. The issuer's own key is never held by a
// coordinator. As bytes: magic "CHC1" | serial u64 | weight u32 | not_before u64 | not_after u64
// (Unix s) | subject 32 | issuer 32 | Ed25519 signature over H_L("CHORUS1/certificate"; all
// before), 160 in all.
struct Certificate {
  uint64_t serial = 0;
  uint32_t weight = 1;
  int64_t not_before = 0;
  int64_t not_after = 0;
  PublicKey subject{};
  PublicKey issuer{};
};

Bytes IssueCertificate(const Certificate& certificate,
                       BytesView issuer_seed);  // issuer is set from the seed
// kUnauthenticated with the reason; checks form and signature by the issuer that it names, not
// validity in time.
Result<Certificate> ReadCertificate(BytesView bytes);

// Accepts certificates by `issuer` that are valid now and name the key. `clock` must outlive it.
std::unique_ptr<IdentityVerifier> NewCertificateVerifier(const PublicKey& issuer,
                                                         const Clock& clock);

// The coordinator's: a certificate must be valid now and still `ahead` from now, so that none
// expires between a client's admission to a round and its peers' own look at it, which would end
// the round for all.
std::unique_ptr<IdentityVerifier> NewAdmissionVerifier(const PublicKey& issuer, const Clock& clock,
                                                       std::chrono::seconds ahead);

// The bytes of unpadded base64url [RFC 7515, 2]. kInvalidArgument for any other text, padding,
// blanks, and a last character with bits that say nothing, which would make two texts of one value.
Result<Bytes> FromBase64Url(std::string_view text);

}  // namespace chorus::trust
