// Pre-keys: session keys made and signed before the session is known [specification 3.2].
#include <algorithm>

#include "aggregation/secagg.h"
#include "base/codec.h"
#include "crypto/crypto.h"

namespace chorus::aggregation {

Digest PreKeyMessage(const PreKeyRecord& m) {
  const Digest evidence = crypto::Sha256(m.evidence);
  return crypto::LabeledHash("CHORUS1/prekey",
                             {m.id, m.c, m.s, Writer().U64(m.not_after).view(), evidence});
}

Bytes Encode(const PreKeyRecord& m) {
  Writer out;
  out.Raw(m.id).Raw(m.c).Raw(m.s).U64(m.not_after);
  out.U16(static_cast<uint16_t>(m.evidence.size())).Raw(m.evidence).Raw(m.signature);
  return std::move(out).Take();
}

Result<PreKeyRecord> DecodePreKeyRecord(BytesView bytes) {
  Reader in(bytes);
  PreKeyRecord m;
  m.id = in.Array<32>();
  m.c = in.Array<32>();
  m.s = in.Array<32>();
  m.not_after = in.U64();
  const BytesView evidence = in.Raw(in.U16());
  if (evidence.size() > limits::kEvidenceBytesMax) {
    return InvalidArgument("the evidence is too long");
  }
  m.evidence.assign(evidence.begin(), evidence.end());
  m.signature = in.Array<64>();
  CHORUS_TRY(in.Finish("the pre-key record"));
  return m;
}

bool NamesIdentity(BytesView record, const PublicKey& id) {
  return record.size() >= id.size() && std::equal(id.begin(), id.end(), record.begin());
}

Status CheckPreKeyLife(uint64_t not_after, int64_t unix_now, std::chrono::seconds skew) {
  const auto now = static_cast<uint64_t>(std::max<int64_t>(unix_now, 0));
  const auto allowed = static_cast<uint64_t>(skew.count());
  // Subtractions of what is smaller, so that no time overflows.
  if (not_after < now && now - not_after > allowed) {
    return InvalidArgument("a pre-key has expired");
  }
  const uint64_t ahead = not_after > now ? not_after - now : 0;
  if (ahead > static_cast<uint64_t>(limits::kPreKeyLifeMax.count()) + allowed) {
    return InvalidArgument("a pre-key would live longer than any may");
  }
  return OkStatus();
}

Result<PreKeys> MakePreKeys(const PreKeySpec& spec, Rng& rng) {
  if (spec.identity_seed.size() != crypto::kKeyBytes) {
    return InvalidArgument("the identity seed is not 32 bytes");
  }
  if (spec.evidence.size() > limits::kEvidenceBytesMax) {
    return InvalidArgument("the evidence of this identity is too long");
  }
  if (spec.not_after < 0) return InvalidArgument("pre-keys cannot end before 1970");
  PreKeys keys;
  keys.c_secret = crypto::RandomSecret(rng, crypto::kKeyBytes);
  keys.s_secret = crypto::RandomSecret(rng, crypto::kKeyBytes);
  keys.c = crypto::X25519Public(keys.c_secret.Reveal());
  keys.s = crypto::X25519Public(keys.s_secret.Reveal());
  keys.not_after = spec.not_after;
  PreKeyRecord record;
  record.id = crypto::Ed25519Public(spec.identity_seed);
  record.c = keys.c;
  record.s = keys.s;
  record.not_after = static_cast<uint64_t>(spec.not_after);
  record.evidence.assign(spec.evidence.begin(), spec.evidence.end());
  record.signature = crypto::Ed25519Sign(spec.identity_seed, PreKeyMessage(record));
  keys.record = Encode(record);
  return keys;
}

}  // namespace chorus::aggregation
