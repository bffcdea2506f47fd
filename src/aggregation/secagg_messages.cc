#include "aggregation/secagg.h"
#include "base/codec.h"
#include "base/limits.h"
#include "crypto/crypto.h"

namespace chorus::aggregation {
namespace {

// Reads a list's next index: below `limit` and above the one before.
class Ascending {
 public:
  explicit Ascending(uint32_t limit) : limit_(limit) {}
  bool Take(Index index) {
    const bool good = index < limit_ && (first_ || index > last_);
    first_ = false;
    last_ = index;
    return good;
  }

 private:
  uint32_t limit_;
  Index last_ = 0;
  bool first_ = true;
};

Status OutOfOrder(const char* what) {
  return InvalidArgument(std::string(what) +
                         " names an index twice, out of order or beyond the roster");
}

// A list's count: no more entries than the roster has members, and none that cannot be there.
uint32_t ReadCount(Reader& in, size_t entry_bytes_min, uint32_t limit) {
  const uint32_t count = in.Count(entry_bytes_min);
  return count <= limit ? count : in.Fail();
}

// Entries of (index, tag) without the count, as they are signed.
void AppendTags(Writer& out, std::span<const std::pair<Index, Tag>> tags) {
  for (const auto& [index, tag] : tags) out.U32(index).Raw(tag);
}

void AppendIndices(Writer& out, std::span<const Index> indices) {
  for (const Index index : indices) out.U32(index);
}

Result<std::vector<std::pair<Index, Tag>>> ReadTags(Reader& in, uint32_t limit, const char* what) {
  std::vector<std::pair<Index, Tag>> tags(ReadCount(in, sizeof(Index) + sizeof(Tag), limit));
  Ascending order(limit);
  for (auto& [index, tag] : tags) {
    index = in.U32();
    tag = in.Array<sizeof(Tag)>();
    if (!order.Take(index)) return OutOfOrder(what);
  }
  return tags;
}

Result<std::vector<Index>> ReadIndices(Reader& in, uint32_t limit, const char* what) {
  std::vector<Index> indices(ReadCount(in, sizeof(Index), limit));
  Ascending order(limit);
  for (Index& index : indices) {
    index = in.U32();
    if (!order.Take(index)) return OutOfOrder(what);
  }
  return indices;
}

std::vector<Digest> ReadPath(Reader& in, Index index, uint32_t n) {
  std::vector<Digest> path(crypto::MerklePathLength(index, n));
  for (Digest& node : path) node = in.Array<sizeof(Digest)>();
  return path;
}

constexpr uint8_t kKindAdvertise = 0;
constexpr uint8_t kKindPreKey = 1;
constexpr size_t kPeerBytesMin = 1 + 4 + 3 * 32 + 2 + 64;

Result<Peer> ReadPeer(Reader& in, uint32_t n) {
  Peer peer;
  const uint8_t kind = in.U8();
  if (kind != kKindAdvertise && kind != kKindPreKey) {
    return InvalidArgument("a peer record is of an unknown kind");
  }
  peer.index = in.U32();
  peer.id = in.Array<32>();
  peer.c = in.Array<32>();
  peer.s = in.Array<32>();
  const BytesView evidence = in.Raw(in.U16());
  if (evidence.size() > limits::kEvidenceBytesMax) {
    return InvalidArgument("a peer's evidence is too long");
  }
  peer.evidence.assign(evidence.begin(), evidence.end());
  if (kind == kKindPreKey) peer.not_after = in.U64();
  peer.signature = in.Array<64>();
  if (peer.index >= n) return OutOfOrder("the peer list");
  peer.path = ReadPath(in, peer.index, n);
  return peer;
}

}  // namespace

Digest AdvertiseMessage(const Advertise& m) {
  return crypto::LabeledHash("CHORUS1/adv", {m.sid0, m.id, m.c, m.s, crypto::Sha256(m.evidence)});
}

Bytes Encode(const Advertise& m) {
  Writer out;
  out.Raw(m.sid0).Raw(m.id).Raw(m.c).Raw(m.s);
  out.U16(static_cast<uint16_t>(m.evidence.size())).Raw(m.evidence).Raw(m.signature);
  return std::move(out).Take();
}

Result<Advertise> DecodeAdvertise(BytesView bytes) {
  Reader in(bytes);
  Advertise m;
  m.sid0 = in.Array<32>();
  m.id = in.Array<32>();
  m.c = in.Array<32>();
  m.s = in.Array<32>();
  const BytesView evidence = in.Raw(in.U16());
  if (evidence.size() > limits::kEvidenceBytesMax) {
    return InvalidArgument("the evidence is too long");
  }
  m.evidence.assign(evidence.begin(), evidence.end());
  m.signature = in.Array<64>();
  CHORUS_TRY(in.Finish("the advertisement"));
  return m;
}

Digest RosterMessage(const Digest& sid0, uint32_t n, const Digest& root) {
  return crypto::LabeledHash("CHORUS1/roster", {sid0, Writer().U32(n).view(), root});
}

Bytes EncodePeer(const Peer& peer) {
  Writer out;
  out.U8(peer.not_after ? kKindPreKey : kKindAdvertise);
  out.U32(peer.index).Raw(peer.id).Raw(peer.c).Raw(peer.s);
  out.U16(static_cast<uint16_t>(peer.evidence.size())).Raw(peer.evidence);
  if (peer.not_after) out.U64(*peer.not_after);
  out.Raw(peer.signature);
  for (const Digest& node : peer.path) out.Raw(node);
  return std::move(out).Take();
}

namespace {

void AppendRoster(Writer& out, const Roster& m) {
  out.U32(m.n).U32(m.index).Raw(m.root);
  for (const Digest& node : m.path) out.Raw(node);
  out.Raw(m.signature);
}

Status ReadRoster(Reader& in, uint32_t n_max, Roster& m) {
  m.n = in.U32();
  m.index = in.U32();
  if (m.n > n_max || m.index >= m.n) {
    return InvalidArgument("the roster is larger than agreed or leaves this client out");
  }
  m.root = in.Array<32>();
  m.path = ReadPath(in, m.index, m.n);
  m.signature = in.Array<64>();
  return OkStatus();
}

// The list of those chosen in full, the list of choosers by index, and then the records of the
// choosers that were not chosen.
void AppendPeers(Writer& out, std::span<const Index> chosen, std::span<const Index> choosers,
                 std::span<const Bytes> records) {
  out.U32(static_cast<uint32_t>(chosen.size()));
  for (const Index v : chosen) out.Raw(records[v]);
  out.U32(static_cast<uint32_t>(choosers.size()));
  AppendIndices(out, choosers);
  for (const Index v : choosers) {
    if (!std::binary_search(chosen.begin(), chosen.end(), v)) out.Raw(records[v]);
  }
}

Result<Peers> ReadPeers(Reader& in, uint32_t n) {
  Peers m;
  const uint32_t count = ReadCount(in, kPeerBytesMin, n);
  Ascending order(n);
  for (uint32_t i = 0; i < count; ++i) {
    CHORUS_TRY_ASSIGN(Peer peer, ReadPeer(in, n));
    if (!order.Take(peer.index)) return OutOfOrder("the peer list");
    m.out.push_back(peer.index);
    m.records.push_back(std::move(peer));
  }
  CHORUS_TRY_ASSIGN(m.in, ReadIndices(in, n, "the list of choosers"));
  for (const Index v : m.in) {
    if (std::binary_search(m.out.begin(), m.out.end(), v)) continue;
    CHORUS_TRY_ASSIGN(Peer peer, ReadPeer(in, n));
    if (peer.index != v) return OutOfOrder("the choosers' records");
    m.records.push_back(std::move(peer));
  }
  std::sort(m.records.begin(), m.records.end(),
            [](const Peer& a, const Peer& b) { return a.index < b.index; });
  return m;
}

Result<RosterAndPeers> ReadRosterAndPeers(BytesView bytes, uint32_t n_max) {
  Reader in(bytes);
  RosterAndPeers m;
  CHORUS_TRY(ReadRoster(in, n_max, m));
  CHORUS_TRY_ASSIGN(Peers peers, ReadPeers(in, m.n));
  CHORUS_TRY(in.Finish("the roster"));
  if (peers.in != peers.out) return InvalidArgument("in this graph all edges go both ways");
  if (std::binary_search(peers.out.begin(), peers.out.end(), m.index)) {
    return OutOfOrder("the peer list");
  }
  m.peers = std::move(peers.records);
  return m;
}

}  // namespace

Bytes EncodeRoster(const RosterAndPeers& m, std::span<const Bytes> records) {
  std::vector<Index> others;
  for (Index v = 0; v < m.n; ++v) {
    if (v != m.index) others.push_back(v);
  }
  return EncodeRing(m, others, records);
}

Result<RosterAndPeers> DecodeRoster(BytesView bytes, uint32_t n_max) {
  CHORUS_TRY_ASSIGN(RosterAndPeers m, ReadRosterAndPeers(bytes, n_max));
  if (m.peers.size() != m.n - 1) return InvalidArgument("the peer list is not the whole roster");
  return m;
}

Bytes EncodeRosterOnly(const Roster& roster) {
  Writer out;
  AppendRoster(out, roster);
  return std::move(out).Take();
}

Result<Roster> ReadSignedRoster(BytesView bytes) {
  Reader in(bytes);
  Roster m;
  CHORUS_TRY(ReadRoster(in, limits::kCohortMax, m));
  if (in.failed()) return InvalidArgument("the roster is cut short");
  return m;
}

Result<Roster> DecodeRosterOnly(BytesView bytes, uint32_t n_max) {
  Reader in(bytes);
  Roster m;
  CHORUS_TRY(ReadRoster(in, n_max, m));
  CHORUS_TRY(in.Finish("the roster"));
  return m;
}

Bytes EncodeRing(const Roster& roster, std::span<const Index> neighbours,
                 std::span<const Bytes> records) {
  Writer out;
  AppendRoster(out, roster);
  AppendPeers(out, neighbours, neighbours, records);
  return std::move(out).Take();
}

Result<RosterAndPeers> DecodeRing(BytesView bytes, uint32_t n_max) {
  return ReadRosterAndPeers(bytes, n_max);
}

Digest ChooseMessage(Index sender, const Choose& m) {
  Writer list;
  AppendIndices(list, m.holders);
  return crypto::LabeledHash("CHORUS1/choose", {m.sid, Writer().U32(sender).view(), list.view()});
}

Bytes Encode(const Choose& m) {
  Writer out;
  out.Raw(m.sid).U32(static_cast<uint32_t>(m.holders.size()));
  AppendIndices(out, m.holders);
  out.Raw(m.signature);
  return std::move(out).Take();
}

Result<Choose> DecodeChoose(BytesView bytes, uint32_t limit) {
  Reader in(bytes);
  Choose m;
  m.sid = in.Array<32>();
  CHORUS_TRY_ASSIGN(m.holders, ReadIndices(in, limit, "the list of chosen holders"));
  m.signature = in.Array<64>();
  CHORUS_TRY(in.Finish("the choice"));
  return m;
}

Bytes EncodePeers(std::span<const Index> out, std::span<const Index> in,
                  std::span<const Bytes> records) {
  Writer bytes;
  AppendPeers(bytes, out, in, records);
  return std::move(bytes).Take();
}

Result<Peers> DecodePeers(BytesView bytes, uint32_t n) {
  Reader in(bytes);
  CHORUS_TRY_ASSIGN(Peers m, ReadPeers(in, n));
  CHORUS_TRY(in.Finish("the peers"));
  return m;
}

namespace {

void AppendShares(Writer& out, const Shares& m) {
  out.Raw(m.commitment).U32(static_cast<uint32_t>(m.sealed.size()));
  for (const auto& [index, sealed] : m.sealed) out.U32(index).Raw(sealed);
  out.U32(static_cast<uint32_t>(m.hellos.size()));
  AppendTags(out, m.hellos);
}

}  // namespace

Digest SharesMessage(const Digest& sid, Index sender, const Shares& m) {
  Writer before;
  AppendShares(before, m);
  return crypto::LabeledHash("CHORUS1/shares",
                             {sid, Writer().U32(sender).view(), crypto::Sha256(before.view())});
}

Bytes Encode(const Shares& m) {
  Writer out;
  AppendShares(out, m);
  out.Raw(m.signature);
  return std::move(out).Take();
}

Result<Shares> DecodeShares(BytesView bytes, uint32_t limit) {
  Reader in(bytes);
  Shares m;
  m.commitment = in.Array<32>();
  m.sealed.resize(ReadCount(in, sizeof(Index) + kSealedSharesBytes, limit));
  Ascending order(limit);
  for (auto& [index, sealed] : m.sealed) {
    index = in.U32();
    sealed = in.Array<kSealedSharesBytes>();
    if (!order.Take(index)) return OutOfOrder("the list of shares");
  }
  CHORUS_TRY_ASSIGN(m.hellos, ReadTags(in, limit, "the list of hellos"));
  m.signature = in.Array<64>();
  CHORUS_TRY(in.Finish("the shares"));
  return m;
}

Bytes EncodeDeliver(std::span<const Delivery> entries) {
  Writer out;
  out.U32(static_cast<uint32_t>(entries.size()));
  for (const Delivery& entry : entries) {
    out.U32(entry.from).Raw(entry.commitment);
    if (entry.hello) out.Raw(*entry.hello);
    if (!entry.hello) out.Raw(entry.sealed);
  }
  return std::move(out).Take();
}

Result<std::vector<Delivery>> DecodeDeliver(BytesView bytes, uint32_t limit) {
  return DecodeDeliver(bytes, limit, {});
}

Result<std::vector<Delivery>> DecodeDeliver(BytesView bytes, uint32_t limit,
                                            std::span<const Index> hellos) {
  Reader in(bytes);
  const size_t sealed_bytes_min = hellos.empty() ? kSealedSharesBytes : sizeof(Hello);
  std::vector<Delivery> entries(ReadCount(in, sizeof(Index) + 32 + sealed_bytes_min, limit));
  Ascending order(limit);
  for (Delivery& entry : entries) {
    entry.from = in.U32();
    entry.commitment = in.Array<32>();
    if (std::binary_search(hellos.begin(), hellos.end(), entry.from)) {
      entry.hello = in.Array<sizeof(Hello)>();
    } else {
      entry.sealed = in.Array<kSealedSharesBytes>();
    }
    if (!order.Take(entry.from)) return OutOfOrder("the delivery");
  }
  CHORUS_TRY(in.Finish("the delivery"));
  return entries;
}

Digest MaskedMessage(Index sender, const Masked& m) {
  Writer failed;
  AppendIndices(failed, m.failed);
  Writer edges;
  AppendTags(edges, m.edges);
  return crypto::LabeledHash("CHORUS1/masked", {m.sid, Writer().U32(sender).view(), failed.view(),
                                                edges.view(), crypto::Sha256(m.packed)});
}

Bytes EncodeUnfilled(const Masked& m, uint64_t packed_bytes) {
  Writer out;
  out.Raw(m.sid).U32(static_cast<uint32_t>(m.failed.size()));
  AppendIndices(out, m.failed);
  out.U32(static_cast<uint32_t>(m.edges.size()));
  AppendTags(out, m.edges);
  // Room for all of it at once: growing by doubling would take up to twice the vector.
  Bytes bytes(out.view().size() + packed_bytes + sizeof(m.signature));
  std::copy(out.view().begin(), out.view().end(), bytes.begin());
  return bytes;
}

MaskedParts PartsOf(Bytes& encoded, uint64_t packed_bytes) {
  const std::span<uint8_t> tail = std::span(encoded).last(packed_bytes + sizeof(Signature));
  return {tail.first(packed_bytes), tail.subspan(packed_bytes)};
}

Bytes Encode(const Masked& m) {
  Bytes bytes = EncodeUnfilled(m, m.packed.size());
  const MaskedParts parts = PartsOf(bytes, m.packed.size());
  std::copy(m.packed.begin(), m.packed.end(), parts.packed.begin());
  std::copy(m.signature.begin(), m.signature.end(), parts.signature.begin());
  return bytes;
}

Result<Masked> DecodeMasked(BytesView bytes, uint32_t limit, uint64_t packed_bytes) {
  Reader in(bytes);
  Masked m;
  m.sid = in.Array<32>();
  CHORUS_TRY_ASSIGN(m.failed, ReadIndices(in, limit, "the failed list"));
  CHORUS_TRY_ASSIGN(m.edges, ReadTags(in, limit, "the list of edge tags"));
  m.packed = in.Raw(packed_bytes);
  m.signature = in.Array<64>();
  CHORUS_TRY(in.Finish("the masked input"));
  return m;
}

uint64_t MaskedBytesMax(uint32_t neighbours, uint64_t packed_bytes) {
  return 32 + 4 + uint64_t{neighbours} * 4 + 4 + uint64_t{neighbours} * (4 + sizeof(Tag)) +
         packed_bytes + 64;
}

Bytes EncodeSurvivors(std::span<const Survivor> entries) {
  Writer out;
  out.U32(static_cast<uint32_t>(entries.size()));
  for (const Survivor& entry : entries) {
    out.U32(entry.owner).U8(static_cast<uint8_t>(entry.fate));
    if (entry.fate == Fate::kAlive) out.Raw(entry.edge);
  }
  return std::move(out).Take();
}

namespace {

Result<Fate> ReadFate(Reader& in) {
  const uint8_t raw = in.U8();
  if (raw != static_cast<uint8_t>(Fate::kAlive) && raw != static_cast<uint8_t>(Fate::kDropped)) {
    return InvalidArgument("an owner is neither alive nor dropped");
  }
  return static_cast<Fate>(raw);
}

}  // namespace

Result<std::vector<Survivor>> DecodeSurvivors(BytesView bytes, uint32_t limit) {
  Reader in(bytes);
  std::vector<Survivor> entries(ReadCount(in, sizeof(Index) + 1, limit));
  Ascending order(limit);
  for (Survivor& entry : entries) {
    entry.owner = in.U32();
    CHORUS_TRY_ASSIGN(entry.fate, ReadFate(in));
    if (entry.fate == Fate::kAlive) entry.edge = in.Array<sizeof(Tag)>();
    if (!order.Take(entry.owner)) return OutOfOrder("the list of survivors");
  }
  CHORUS_TRY(in.Finish("the list of survivors"));
  return entries;
}

Bytes Encode(const Acks& m) {
  Writer out;
  out.U32(static_cast<uint32_t>(m.acks.size()));
  AppendTags(out, m.acks);
  out.U32(static_cast<uint32_t>(m.refused.size()));
  AppendIndices(out, m.refused);
  return std::move(out).Take();
}

Result<Acks> DecodeAcks(BytesView bytes, uint32_t limit) {
  Reader in(bytes);
  Acks m;
  CHORUS_TRY_ASSIGN(m.acks, ReadTags(in, limit, "the list of acknowledgements"));
  CHORUS_TRY_ASSIGN(m.refused, ReadIndices(in, limit, "the refused list"));
  CHORUS_TRY(in.Finish("the acknowledgements"));
  return m;
}

Bytes EncodeAckSet(const AckSet& entries) {
  Writer out;
  out.U32(static_cast<uint32_t>(entries.size()));
  AppendTags(out, entries);
  return std::move(out).Take();
}

Result<AckSet> DecodeAckSet(BytesView bytes, uint32_t limit) {
  Reader in(bytes);
  CHORUS_TRY_ASSIGN(AckSet entries, ReadTags(in, limit, "the set of acknowledgements"));
  CHORUS_TRY(in.Finish("the set of acknowledgements"));
  return entries;
}

Bytes EncodeUnmask(std::span<const UnmaskEntry> entries) {
  Writer out(4 + entries.size() * (sizeof(Index) + 1 + math::kShareBytes));
  out.U32(static_cast<uint32_t>(entries.size()));
  for (const UnmaskEntry& entry : entries) {
    const SecretBytes share(math::ShareBytes(entry.share));
    out.U32(entry.owner).U8(static_cast<uint8_t>(entry.fate)).Raw(share.Reveal());
  }
  return std::move(out).Take();
}

Result<std::vector<UnmaskEntry>> DecodeUnmask(BytesView bytes, uint32_t limit, uint32_t x) {
  Reader in(bytes);
  std::vector<UnmaskEntry> entries(ReadCount(in, sizeof(Index) + 1 + math::kShareBytes, limit));
  Ascending order(limit);
  for (UnmaskEntry& entry : entries) {
    entry.owner = in.U32();
    CHORUS_TRY_ASSIGN(entry.fate, ReadFate(in));
    CHORUS_TRY_ASSIGN(entry.share, math::ReadShare(x, in.Raw(math::kShareBytes)));
    if (!order.Take(entry.owner)) return OutOfOrder("the list of opened shares");
  }
  CHORUS_TRY(in.Finish("the opened shares"));
  return entries;
}

}  // namespace chorus::aggregation
