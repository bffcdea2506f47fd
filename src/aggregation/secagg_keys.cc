#include "aggregation/secagg.h"
#include "base/codec.h"
#include "crypto/crypto.h"

namespace chorus::aggregation {
namespace {

constexpr size_t kTileBytes = size_t{64} << 10U;

// ctx(i, j, P) = u32be(i) || u32be(j) || P_i || P_j behind a label.
Bytes Info(std::string_view label, const End& i, const End& j) {
  return std::move(Writer().Raw(label).U32(i.index).U32(j.index).Raw(i.key).Raw(j.key)).Take();
}

SecretBytes Expand(const SecretBytes& prk, std::string_view label, const End& i, const End& j) {
  return crypto::HkdfExpand(prk.Reveal(), Info(label, i, j), crypto::kKeyBytes);
}

Tag Truncated(BytesView key, std::string_view word, const Digest& sid) {
  const Digest mac = crypto::HmacSha256(key, Writer().Raw(word).Raw(sid).view());
  Tag tag;
  std::copy_n(mac.begin(), tag.size(), tag.begin());
  return tag;
}

}  // namespace

Digest SessionId(const Digest& sid0, uint32_t n, const Digest& root) {
  return crypto::LabeledHash("CHORUS1/sid", {sid0, Writer().U32(n).view(), root});
}

Digest OrderKey(const Digest& sid0, const PublicKey& id) {
  return crypto::LabeledHash("CHORUS1/order", {sid0, id});
}

Digest RosterLeaf(const Digest& sid0, const PublicKey& id, const PublicKey& c, const PublicKey& s) {
  return crypto::MerkleLeaf(crypto::LabeledHash("CHORUS1/leaf", {sid0, id, c, s}));
}

Result<ChannelKeys> DeriveChannel(const Digest& sid, BytesView c_secret, const End& me,
                                  const End& peer) {
  CHORUS_TRY_ASSIGN(const SecretBytes shared, crypto::X25519Agree(c_secret, peer.key));
  const SecretBytes prk = crypto::HkdfExtract(sid, shared.Reveal());
  ChannelKeys keys;
  keys.seal = Expand(prk, "CHORUS1/share-enc", me, peer);
  keys.open = Expand(prk, "CHORUS1/share-enc", peer, me);
  keys.ack_out = Expand(prk, "CHORUS1/ack", me, peer);
  keys.ack_in = Expand(prk, "CHORUS1/ack", peer, me);
  return keys;
}

Result<SecretBytes> DerivePairMask(const Digest& sid, BytesView s_secret, const End& me,
                                   const End& peer) {
  CHORUS_TRY_ASSIGN(const SecretBytes shared, crypto::X25519Agree(s_secret, peer.key));
  const SecretBytes prk = crypto::HkdfExtract(sid, shared.Reveal());
  const bool ascending = me.index < peer.index;
  return Expand(prk, "CHORUS1/pair-mask", ascending ? me : peer, ascending ? peer : me);
}

SecretBytes DeriveSelfMask(const Digest& sid, BytesView b, Index owner) {
  const SecretBytes prk = crypto::HkdfExtract(sid, b);
  return crypto::HkdfExpand(prk.Reveal(), Writer().Raw("CHORUS1/self-mask").U32(owner).view(),
                            crypto::kKeyBytes);
}

Digest ShareCommitment(const Digest& sid, Index owner, BytesView b) {
  return crypto::LabeledHash("CHORUS1/com-b", {sid, Writer().U32(owner).view(), b});
}

Bytes ShareAssociatedData(const Digest& sid, Index from, Index to, const GraphParams& graph,
                          const Digest& commitment) {
  Writer out;
  out.Raw("CHORUS1/share-aad").Raw(sid).U32(from).U32(to).U32(graph.k).U32(graph.t);
  return std::move(out.Raw(commitment)).Take();
}

Tag EdgeTag(BytesView ack_key, const Digest& sid) { return Truncated(ack_key, "edge", sid); }

Tag AckTag(BytesView ack_key, const Digest& sid) { return Truncated(ack_key, "alive", sid); }

void ApplyMasks(RingVector& vector, std::span<const Mask> masks) {
  const uint64_t dim = math::DimOf(vector);
  const uint64_t word_bytes =
      std::visit([](const auto& words) { return sizeof(words[0]); }, vector);
  const uint64_t tile = kTileBytes / word_bytes;
  SecretBytes stream(std::min<uint64_t>(kTileBytes, dim * word_bytes));
  for (uint64_t first = 0; first < dim; first += tile) {
    const uint64_t size = std::min(tile, dim - first) * word_bytes;
    const std::span<uint8_t> part = stream.RevealMutable().first(size);
    for (const Mask& mask : masks) {
      crypto::ExpandAesCtr(mask.key.Reveal(), first * word_bytes / 16, part);
      math::ApplyStream(vector, first, part, mask.sign);
    }
  }
}

}  // namespace chorus::aggregation
