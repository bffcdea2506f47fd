#include "coordinator/admission.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/codec.h"
#include "base/limits.h"
#include "crypto/crypto.h"

namespace chorus::coordinator {
namespace {

constexpr size_t kChallengeMacBytes = 16;

Digest KeyFor(const SecretBytes& key, std::string_view name) {
  return crypto::HmacSha256(key.Reveal(), ViewOf(name));
}

}  // namespace

Admission::Admission(const AdmissionParts& parts, Rng& rng)
    : parts_(parts),
      challenge_key_(crypto::RandomSecret(rng, crypto::kMacBytes)),
      session_key_(KeyFor(challenge_key_, "session")),
      identities_(parts.options.identity, limits::kBucketsMax, KeyFor(challenge_key_, "identity")),
      subjects_(parts.options.subject, limits::kBucketsMax, KeyFor(challenge_key_, "subject")),
      addresses_(parts.options.address, limits::kBucketsMax, KeyFor(challenge_key_, "address")) {}

Digest Admission::MakeChallenge(uint64_t number, Time at) const {
  Writer writer;
  writer.U64(number).U64(static_cast<uint64_t>(at.count()));
  const Digest mac = crypto::HmacSha256(challenge_key_.Reveal(), writer.view());
  writer.Raw(BytesView(mac).first(kChallengeMacBytes));
  return Reader(writer.view()).Array<32>();
}

Digest Admission::NewChallenge(Time now) { return MakeChallenge(++challenges_, now); }

Status Admission::CheckChallenge(const Digest& challenge, Time now) const {
  Reader reader(challenge);
  const uint64_t number = reader.U64();
  const Time at{static_cast<Time::rep>(reader.U64())};
  if (!crypto::EqualConstantTime(MakeChallenge(number, at), challenge)) {
    return Unauthenticated("the challenge was not given by this coordinator; ask for a new one");
  }
  if (now - at >= limits::kChallengeLife) {
    return Unauthenticated("the challenge is too old; ask for a new one");
  }
  return OkStatus();
}

void Admission::Exempt(const std::vector<PublicKey>& members) {
  const std::lock_guard lock(mutex_);
  exempt_.insert(members.begin(), members.end());
}

Status Admission::Enter(std::string_view method, BytesView address, Time now) {
  // A status is put together from the store's records, by the one thread that serves all.
  const bool costly =
      method == wire::kGetStatus || method == wire::kGetAudit || method == wire::kControl;
  return addresses_.Take(address, "address", costly ? limits::kCostlyCallWeight : 1, now);
}

uint64_t Admission::NameOf(const wire::SessionToken& session) const {
  return Reader(crypto::HmacSha256(session_key_, session)).U64();
}

void Admission::Open(const wire::SessionToken& session) {
  const uint64_t name = NameOf(session);
  const std::lock_guard lock(mutex_);
  sessions_.insert(name);
}

void Admission::End(const wire::SessionToken& session) {
  const uint64_t name = NameOf(session);
  const std::lock_guard lock(mutex_);
  sessions_.erase(name);
}

Status Admission::CheckSession(const wire::SessionToken& session) const {
  const uint64_t name = NameOf(session);
  const std::lock_guard lock(mutex_);
  if (sessions_.contains(name)) return OkStatus();
  return Unauthenticated("this session is not open here; check in again");
}

Status Admission::CheckToken(const wire::CheckInRequest& request, Time now, Vetted& vetted) {
  const TokenVerifier* const tokens = parts_.options.tokens;
  if (tokens == nullptr) return OkStatus();
  if (request.token.empty()) {
    const std::lock_guard lock(mutex_);
    vetted.exempt = exempt_.contains(request.identity);
    if (vetted.exempt) return OkStatus();
    return Unauthenticated("this coordinator wants a session token of the game's login");
  }
  const int64_t seconds = parts_.clock->UnixSeconds();
  CHORUS_TRY_ASSIGN(const TokenClaims claims, tokens->Verify(request.token, seconds));
  if (claims.identity && *claims.identity != request.identity) {
    return Unauthenticated("the session token is bound to another identity's key");
  }
  vetted.subject = crypto::LabeledHash("CHORUS1/subject", {ViewOf(claims.subject)});
  const int64_t left = std::clamp<int64_t>(claims.expires_at - seconds, 0, INT32_MAX);
  vetted.token_ends = now + std::chrono::seconds(left);
  return subjects_.Take(*vetted.subject, "account", 1, now);
}

Result<Vetted> Admission::Vet(BytesView request, Time now) {
  CHORUS_TRY_ASSIGN(wire::CheckInRequest asked, wire::Decode<wire::CheckInRequest>(request));
  return Vet(std::move(asked), now);
}

Result<Vetted> Admission::Vet(wire::CheckInRequest request, Time now) {
  if (request.version != wire::kVersion) {
    return Status(Code::kUnimplemented, "this coordinator speaks version " +
                                            std::to_string(wire::kVersion) +
                                            " of the protocol; use a client that does");
  }
  if (request.evidence.size() > limits::kEvidenceBytesMax) {
    return InvalidArgument("the evidence is longer than " +
                           std::to_string(limits::kEvidenceBytesMax) + " bytes");
  }
  // What an unauthenticated caller costs before it is refused is bounded by the order of the
  // checks: the MAC of a challenge takes a microsecond, a signature a hundred.
  CHORUS_TRY(CheckChallenge(request.challenge, now));
  const Digest evidence_hash = crypto::Sha256(request.evidence);
  const Digest signed_hash = crypto::LabeledHash(
      "CHORUS1/check-in", {parts_.coordinator, request.challenge, request.identity, evidence_hash});
  if (!crypto::Ed25519Verify(request.identity, signed_hash, request.signature)) {
    return Unauthenticated("the check-in is not signed by the identity that it names");
  }
  // Only now is it known whose bucket a refusal should draw from.
  CHORUS_TRY(identities_.Take(request.identity, "identity", 1, now));
  CHORUS_TRY_ASSIGN(const Identity identity,
                    parts_.verifier->Verify(request.identity, request.evidence));
  // After the evidence: whoever has seen an account's token and is nobody here would else draw from
  // the account's bucket, with keys made up as needed.
  Vetted vetted;
  CHORUS_TRY(CheckToken(request, now, vetted));
  vetted.challenge = Reader(request.challenge).U64();
  vetted.serial = identity.serial;
  request.evidence = Bytes();
  request.token = Bytes();
  vetted.request = std::move(request);
  return vetted;
}

}  // namespace chorus::coordinator
