// The messages of OneShot, and the checks that several receivers share [specification 2.2.4].
#include <algorithm>
#include <set>

#include "aggregation/one_shot.h"
#include "base/codec.h"
#include "base/limits.h"
#include "crypto/crypto.h"

namespace chorus::aggregation {
namespace {

constexpr size_t kPullHeaderBytes = kHeaderBytes - sizeof(Digest);  // without the sid

Status CoordinatorLied(const char* what) {
  return Aborted(std::string("the coordinator broke the protocol: ") + what);
}

// Everything of a header but the sid.
void AppendWithoutSid(Writer& out, const ContributionHeader& header) {
  out.Raw(header.id).Raw(header.ephemeral).Raw(header.vector_digest).Raw(header.shares_digest);
}

void ReadWithoutSid(Reader& in, ContributionHeader& header) {
  header.id = in.Array<32>();
  header.ephemeral = in.Array<32>();
  header.vector_digest = in.Array<32>();
  header.shares_digest = in.Array<32>();
}

BytesView ReadEvidence(Reader& in) {
  const BytesView evidence = in.Raw(in.U16());
  if (evidence.size() > limits::kEvidenceBytesMax) in.Fail();
  return evidence;
}

void AppendCommittee(Writer& out, const CommitteeList& committee) {
  for (const CommitteeEntry& entry : committee) {
    out.Raw(entry.id).Raw(entry.key.key).Raw(entry.key.signature);
  }
}

CommitteeList ReadCommittee(Reader& in, uint16_t members) {
  if (in.left() / kCommitteeEntryBytes < members) {
    in.Fail();
    return {};
  }
  CommitteeList committee(members);
  for (CommitteeEntry& entry : committee) {
    entry.id = in.Array<32>();
    entry.key.key = in.Array<32>();
    entry.key.signature = in.Array<64>();
  }
  return committee;
}

}  // namespace

// --- O0 -----------------------------------------------------------------------------------------
Digest CommitteeKeyMessage(const Digest& sid0, uint32_t member, const PublicKey& key) {
  return crypto::LabeledHash("CHORUS1-OSA/kx", {sid0, Writer().U32(member).view(), key});
}

Bytes Encode(const CommitteeKey& message) {
  return std::move(Writer().Raw(message.key).Raw(message.signature)).Take();
}

Result<CommitteeKey> DecodeCommitteeKey(BytesView bytes) {
  Reader in(bytes);
  CommitteeKey message;
  message.key = in.Array<32>();
  message.signature = in.Array<64>();
  CHORUS_TRY(in.Finish("the committee key"));
  return message;
}

// --- the committee ------------------------------------------------------------------------------
Bytes EncodeOsaOffer(BytesView offer, const CommitteeList& committee) {
  Writer out(offer.size() + committee.size() * kCommitteeEntryBytes);
  out.Raw(offer);
  AppendCommittee(out, committee);
  return std::move(out).Take();
}

Result<CommitteeList> DecodeCommittee(BytesView bytes, uint16_t members) {
  Reader in(bytes);
  CommitteeList committee = ReadCommittee(in, members);
  CHORUS_TRY(in.Finish("the committee list"));
  return committee;
}

Digest CommitteeRoot(const CommitteeList& committee) {
  std::vector<Digest> leaves;
  leaves.reserve(committee.size());
  for (const CommitteeEntry& entry : committee) {
    const auto member = static_cast<uint32_t>(leaves.size() + 1);
    leaves.push_back(crypto::MerkleLeaf(crypto::LabeledHash(
        "CHORUS1-OSA/member", {Writer().U32(member).view(), entry.id, entry.key.key})));
  }
  return crypto::MerkleRoot(leaves);
}

Status CheckCommittee(const CommitteeParams& committee, std::span<const PublicKey> ids,
                      const CommitteeList& list) {
  const CommitteeRow* row = RowOf(committee);
  if (row == nullptr) return CoordinatorLied("the committee is of no known shape");
  const bool same =
      std::equal(list.begin(), list.end(), ids.begin(), ids.end(),
                 [](const CommitteeEntry& entry, const PublicKey& id) { return entry.id == id; });
  if (!same) return CoordinatorLied("the committee is another than the task's");
  std::set<PublicKey> keys;
  size_t absent = 0;
  for (const CommitteeEntry& entry : list) {
    if (!entry.present()) {
      if (entry.key.signature != Signature{}) {
        return CoordinatorLied("a committee member signed no key");
      }
      ++absent;
    } else if (!crypto::X25519Canonical(entry.key.key) || !keys.insert(entry.key.key).second) {
      return CoordinatorLied("a key is in the committee twice, or not in its one encoding");
    }
  }
  if (absent > row->dropouts_max) return Aborted("too few committee members gave a key");
  return OkStatus();
}

Status CheckCommitteeSignatures(const Digest& sid0, const CommitteeList& list) {
  uint32_t member = 0;
  for (const CommitteeEntry& entry : list) {
    ++member;
    if (!entry.present()) continue;
    const Digest message = CommitteeKeyMessage(sid0, member, entry.key.key);
    if (!crypto::Ed25519Verify(entry.id, message, entry.key.signature)) {
      return CoordinatorLied("a committee member did not sign the key shown as its own");
    }
  }
  return OkStatus();
}

// --- O1 -----------------------------------------------------------------------------------------
Bytes EncodeHeader(const ContributionHeader& header) {
  Writer out(kHeaderBytes);
  out.Raw(header.sid);
  AppendWithoutSid(out, header);
  return std::move(out).Take();
}

Digest ContributionMessage(const ContributionHeader& header) {
  return crypto::LabeledHash("CHORUS1-OSA/contribution", {EncodeHeader(header)});
}

Digest ContributionLeaf(const ContributionHeader& header) {
  return crypto::MerkleLeaf(EncodeHeader(header));
}

uint64_t ContributionShape::bytes_max() const {
  return kHeaderBytes + sizeof(Signature) + 2 + limits::kEvidenceBytesMax + shares_bytes +
         packed_bytes;
}

Bytes Encode(const OsaContribution& message) {
  Writer out(kHeaderBytes + sizeof(Signature) + 2 + message.evidence.size() +
             message.shares.size() + message.packed.size());
  out.Raw(EncodeHeader(message.header)).Raw(message.signature);
  out.U16(static_cast<uint16_t>(message.evidence.size())).Raw(message.evidence);
  out.Raw(message.shares).Raw(message.packed);
  return std::move(out).Take();
}

Result<OsaContribution> DecodeContribution(BytesView bytes, const ContributionShape& shape) {
  Reader in(bytes);
  OsaContribution message;
  message.header.sid = in.Array<32>();
  ReadWithoutSid(in, message.header);
  message.signature = in.Array<64>();
  message.evidence = ReadEvidence(in);
  message.shares = in.Raw(shape.shares_bytes);
  message.packed = in.Raw(shape.packed_bytes);
  CHORUS_TRY(in.Finish("the contribution"));
  return message;
}

// --- O2 -----------------------------------------------------------------------------------------
Bytes EncodePull(const CommitteeList& committee, std::span<const PullEntry> entries) {
  size_t size = committee.size() * kCommitteeEntryBytes + 4;
  for (const PullEntry& entry : entries) {
    size += kPullHeaderBytes + sizeof(Signature) + 2 + entry.evidence.size() + entry.sealed.size();
  }
  Writer out(size);
  AppendCommittee(out, committee);
  out.U32(static_cast<uint32_t>(entries.size()));
  for (const PullEntry& entry : entries) {
    AppendWithoutSid(out, entry.header);
    out.Raw(entry.signature);
    out.U16(static_cast<uint16_t>(entry.evidence.size())).Raw(entry.evidence).Raw(entry.sealed);
  }
  return std::move(out).Take();
}

Result<Pull> DecodePull(BytesView bytes, const SessionParams& params) {
  if (bytes.size() > limits::kPullBytesMax) return InvalidArgument("the pull is too long");
  const size_t sealed_bytes = SealedShareBytes(params.committee);
  Reader in(bytes);
  Pull pull;
  pull.committee = ReadCommittee(in, params.committee.members);
  const uint32_t count = in.Count(kPullHeaderBytes + sizeof(Signature) + 2 + sealed_bytes);
  if (count > params.n_max) return InvalidArgument("the pull names more clients than agreed");
  pull.entries.resize(count);
  for (size_t i = 0; i < pull.entries.size(); ++i) {
    PullEntry& entry = pull.entries[i];
    ReadWithoutSid(in, entry.header);
    entry.signature = in.Array<64>();
    entry.evidence = ReadEvidence(in);
    entry.sealed = in.Raw(sealed_bytes);
    if (i > 0 && entry.header.id <= pull.entries[i - 1].header.id) {
      return InvalidArgument("the pull names a client twice or out of order");
    }
  }
  CHORUS_TRY(in.Finish("the pull"));
  return pull;
}

Bytes EncodeComplaints(const Positions& complaints) {
  Writer out(4 + 4 * complaints.size());
  out.U32(static_cast<uint32_t>(complaints.size()));
  for (const uint32_t position : complaints) out.U32(position);
  return std::move(out).Take();
}

Result<Positions> DecodeComplaints(BytesView bytes, uint32_t limit) {
  Reader in(bytes);
  Positions complaints(in.Count(4));
  for (size_t i = 0; i < complaints.size(); ++i) {
    complaints[i] = in.U32();
    if (complaints[i] >= limit || (i > 0 && complaints[i] <= complaints[i - 1])) {
      return InvalidArgument("the complaints are out of order or name nobody");
    }
  }
  CHORUS_TRY(in.Finish("the complaints"));
  return complaints;
}

// --- O3 -----------------------------------------------------------------------------------------
Bytes EncodeSurvivorMap(const Positions& survivors, uint32_t count) {
  Bytes map((count + 7) / 8);
  for (const uint32_t position : survivors) {
    map[position / 8] = static_cast<uint8_t>(map[position / 8] | 1U << position % 8);
  }
  return map;
}

Result<Positions> DecodeSurvivorMap(BytesView bytes, uint32_t count) {
  if (bytes.size() != (count + 7) / 8) {
    return InvalidArgument("the survivors' map has the wrong length");
  }
  Positions survivors;
  for (uint32_t position = 0; position < 8 * bytes.size(); ++position) {
    if ((bytes[position / 8] >> position % 8 & 1U) == 0) continue;
    if (position >= count) return InvalidArgument("the survivors' map has pad bits set");
    survivors.push_back(position);
  }
  return survivors;
}

Digest VoteMessage(const Digest& sid, const SurvivorSet& survivors) {
  return crypto::LabeledHash("CHORUS1-OSA/vote",
                             {sid, survivors.root, Writer().U32(survivors.count).view()});
}

// --- O4 -----------------------------------------------------------------------------------------
Bytes Encode(const Quorum& message) {
  Writer out;
  out.Raw(message.root).U32(static_cast<uint32_t>(message.votes.size()));
  for (const auto& [member, vote] : message.votes) out.U32(member).Raw(vote);
  return std::move(out).Take();
}

Result<Quorum> DecodeQuorum(BytesView bytes, uint16_t members) {
  Reader in(bytes);
  Quorum message;
  message.root = in.Array<32>();
  const uint32_t count = in.Count(4 + sizeof(Signature));
  if (count > members) return InvalidArgument("the quorum has more votes than members");
  message.votes.resize(count);
  uint32_t last = 0;  // members count from 1
  for (auto& [member, vote] : message.votes) {
    member = in.U32();
    vote = in.Array<64>();
    if (member <= last || member > members) {
      return InvalidArgument("the quorum names a member twice, out of order or none");
    }
    last = member;
  }
  CHORUS_TRY(in.Finish("the quorum"));
  return message;
}

Status CheckQuorum(const Quorum& quorum, const Digest& sid, const SurvivorSet& survivors,
                   const CommitteeRow& row, std::span<const PublicKey> ids) {
  if (quorum.root != survivors.root) {
    return CoordinatorLied("the quorum is for other survivors than were voted on");
  }
  if (quorum.votes.size() != row.quorum) {
    return CoordinatorLied("the quorum has another number of votes than certifies a set");
  }
  const Digest message = VoteMessage(sid, survivors);
  for (const auto& [member, vote] : quorum.votes) {
    if (member == 0 || member > ids.size() ||
        !crypto::Ed25519Verify(ids[member - 1], message, vote)) {
      return CoordinatorLied("a vote of the quorum is not its member's for these survivors");
    }
  }
  return OkStatus();
}

Digest SumShareMessage(const Digest& sid, const Digest& root, uint32_t member, BytesView elements) {
  return crypto::LabeledHash("CHORUS1-OSA/sum", {sid, root, Writer().U32(member).view(), elements});
}

Bytes Encode(const SumShare& message) {
  return std::move(Writer().Raw(message.elements).Raw(message.signature)).Take();
}

Result<SumShare> DecodeSumShare(BytesView bytes, size_t elements_bytes) {
  Reader in(bytes);
  SumShare message;
  const BytesView elements = in.Raw(elements_bytes);
  message.elements.assign(elements.begin(), elements.end());
  message.signature = in.Array<64>();
  CHORUS_TRY(in.Finish("the sum share"));
  return message;
}

}  // namespace chorus::aggregation
