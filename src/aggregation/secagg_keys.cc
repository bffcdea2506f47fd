#include "aggregation/secagg.h"
#include "base/codec.h"
#include "crypto/crypto.h"
#include "crypto/mask.h"

namespace chorus::aggregation {
namespace {

// What one thread masks at a time: some tiles of the mask kernel, so that setting up the streams
// costs little, and few enough that threads end together.
constexpr size_t kPieceBytes = size_t{256} << 10U;

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

// Views of the keys, which stay where they are.
std::vector<crypto::MaskStream> StreamsOf(std::span<const Mask> masks) {
  std::vector<crypto::MaskStream> streams;
  streams.reserve(masks.size());
  for (const Mask& mask : masks) {
    const bool adds = mask.sign == math::Sign::kAdd;
    streams.push_back(
        {mask.key.Reveal(), adds ? crypto::MaskSign::kAdd : crypto::MaskSign::kSubtract});
  }
  return streams;
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

Result<ChannelKeys> DeriveChannel(const Digest& sid, const crypto::X25519Key& c_key, const End& me,
                                  const End& peer) {
  CHORUS_TRY_ASSIGN(const SecretBytes shared, c_key.Agree(peer.key));
  const SecretBytes prk = crypto::HkdfExtract(sid, shared.Reveal());
  ChannelKeys keys;
  keys.seal = Expand(prk, "CHORUS1/share-enc", me, peer);
  keys.open = Expand(prk, "CHORUS1/share-enc", peer, me);
  keys.ack_out = Expand(prk, "CHORUS1/ack", me, peer);
  keys.ack_in = Expand(prk, "CHORUS1/ack", peer, me);
  return keys;
}

Result<SecretBytes> DerivePairMask(const Digest& sid, const crypto::X25519Key& s_key, const End& me,
                                   const End& peer) {
  CHORUS_TRY_ASSIGN(const SecretBytes shared, s_key.Agree(peer.key));
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

void ApplyMasks(crypto::MaskPath path, RingVector& vector, std::span<const Mask> masks) {
  const std::vector<crypto::MaskStream> streams = StreamsOf(masks);
  std::visit([&](auto& words) { crypto::ApplyMaskStreams(path, std::span(words), 0, streams); },
             vector);
}

void ApplyMasks(crypto::MaskPath path, RingVector& vector, std::span<const Mask> masks,
                Executor& executor) {
  const std::vector<crypto::MaskStream> streams = StreamsOf(masks);
  std::visit(
      [&](auto& words) {
        const std::span all(words);
        const size_t piece = kPieceBytes / sizeof(words[0]);
        executor.ParallelFor((all.size() + piece - 1) / piece, [&](size_t i) {
          const size_t first = i * piece;
          crypto::ApplyMaskStreams(path, all.subspan(first, std::min(piece, all.size() - first)),
                                   first, streams);
        });
      },
      vector);
}

}  // namespace chorus::aggregation
