#include "aggregation/secagg_server.h"
#include "crypto/crypto.h"

namespace chorus::aggregation {

Status Admission::Admit(const Advertise& said) {
  if (ids_.contains(said.id)) return InvalidArgument("this identity is in the session already");
  if (said.c == said.s || keys_.contains(said.c) || keys_.contains(said.s)) {
    return InvalidArgument("a session key is used twice");
  }
  if (seen_keys_ != nullptr && (seen_keys_->Contains(said.c) || seen_keys_->Contains(said.s))) {
    return InvalidArgument("a session key was used in another session");
  }
  if (!crypto::X25519Canonical(said.c) || !crypto::X25519Canonical(said.s)) {
    return InvalidArgument("a session key is not in its one encoding");
  }
  // A clamped scalar times a low-order point is always zero, so any one agreement tells.
  if (!any_key_.Agree(said.c).ok() || !any_key_.Agree(said.s).ok()) {
    return InvalidArgument("a session key is a point of low order");
  }
  CHORUS_TRY(verifier_.Verify(said.id, said.evidence));
  ids_.insert(said.id);
  keys_.insert(said.c);
  keys_.insert(said.s);
  if (seen_keys_ != nullptr) {
    seen_keys_->Note(said.c);
    seen_keys_->Note(said.s);
  }
  return OkStatus();
}

Result<Member> Admission::AdmitPreKey(const PreKey& prekey, const Digest& sid0, int64_t unix_now) {
  CHORUS_TRY_ASSIGN(PreKeyRecord record, DecodePreKeyRecord(prekey.record));
  if (!crypto::Ed25519Verify(record.id, PreKeyMessage(record), record.signature)) {
    return Unauthenticated("the pre-key record is not signed by the identity it names");
  }
  // By the coordinator's own clock, which has no leave to be wrong: peers allow for some skew.
  CHORUS_TRY(CheckPreKeyLife(record.not_after, unix_now, std::chrono::seconds(0)));
  Member member;
  member.party = prekey.from;
  member.said.sid0 = sid0;
  member.said.id = record.id;
  member.said.c = record.c;
  member.said.s = record.s;
  member.said.evidence = std::move(record.evidence);
  member.said.signature = record.signature;
  member.not_after = record.not_after;
  CHORUS_TRY(Admit(member.said));
  return member;
}

void Admission::Close() {
  ids_.clear();
  keys_.clear();
}

void ArrangeGraph(ServerState& state, BytesView secret) {
  const uint32_t n = state.n();
  state.neighbours.assign(n, {});
  if (state.mode() == SharingGraph::kSelfSelected) return;
  for (Member& member : state.members) member.chose = true;
  if (state.mode() == SharingGraph::kComplete) {
    state.neighbours = CompleteGraphOf(n);
    return;
  }
  const SecretBytes extracted = crypto::HkdfExtract(state.sid, secret);
  const SecretBytes key =
      crypto::HkdfExpand(extracted.Reveal(), ViewOf("CHORUS1/ring"), crypto::kKeyBytes);
  state.neighbours = RingOf(*crypto::NewSeededRng(key.Reveal()), n, state.graph.k);
}

}  // namespace chorus::aggregation
