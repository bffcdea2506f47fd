// Every decoder of SecAgg's messages: what decodes encodes to the same bytes, so that each message
// has one encoding. The first bytes choose the decoder and the roster's size.
#include "aggregation/secagg.h"
#include "base/limits.h"
#include "fuzz.h"
#include "math/math.h"

namespace chorus::aggregation {
namespace {

using fuzz::Require;

void IsCanonical(const Bytes& again, BytesView bytes) {
  Require(std::equal(again.begin(), again.end(), bytes.begin(), bytes.end()),
          "a message has one encoding");
}

// Decoders whose result has an encoder of its own.
template <typename Decoded>
void RoundTrip(const Result<Decoded>& decoded, BytesView bytes) {
  if (decoded.ok()) IsCanonical(Encode(*decoded), bytes);
}

// Records as an encoder takes them: by roster index.
std::vector<Bytes> RecordsOf(std::span<const Peer> peers, uint32_t n) {
  std::vector<Bytes> records(n);
  for (const Peer& peer : peers) records[peer.index] = EncodePeer(peer);
  return records;
}

void CheckPaths(const RosterAndPeers& roster) {
  for (const Peer& peer : roster.peers) {
    const Digest leaf = RosterLeaf({}, peer.id, peer.c, peer.s);
    Digest other = leaf;
    other[0] ^= 1U;
    Require(!crypto::MerkleVerify(leaf, peer.index, roster.n, peer.path, roster.root) ||
                !crypto::MerkleVerify(other, peer.index, roster.n, peer.path, roster.root),
            "a root has one leaf at a place");
  }
}

void WholeRoster(BytesView bytes, uint32_t n_max) {
  const Result<RosterAndPeers> decoded = DecodeRoster(bytes, n_max);
  if (!decoded.ok()) return;
  CheckPaths(*decoded);
  IsCanonical(EncodeRoster(*decoded, RecordsOf(decoded->peers, decoded->n)), bytes);
}

void Ring(BytesView bytes, uint32_t n_max) {
  const Result<RosterAndPeers> decoded = DecodeRing(bytes, n_max);
  if (!decoded.ok()) return;
  CheckPaths(*decoded);
  std::vector<Index> neighbours;
  for (const Peer& peer : decoded->peers) neighbours.push_back(peer.index);
  IsCanonical(EncodeRing(*decoded, neighbours, RecordsOf(decoded->peers, decoded->n)), bytes);
}

void ChosenPeers(BytesView bytes, uint32_t n) {
  const Result<Peers> decoded = DecodePeers(bytes, n);
  if (!decoded.ok()) return;
  IsCanonical(EncodePeers(decoded->out, decoded->in, RecordsOf(decoded->records, n)), bytes);
}

// The record, and its life against a clock at which the numbers are easy.
void OnePreKey(BytesView bytes) {
  const Result<PreKeyRecord> record = DecodePreKeyRecord(bytes);
  if (!record.ok()) return;
  IsCanonical(Encode(*record), bytes);
  Require(bytes.size() <= kPreKeyRecordBytesMax, "a record has a bound");
  constexpr int64_t kNow = 1'800'000'000;
  const auto skew = limits::kClockSkewMax;
  const auto first = static_cast<uint64_t>(kNow - skew.count());
  const auto last = static_cast<uint64_t>(kNow + (limits::kPreKeyLifeMax + skew).count());
  Require(CheckPreKeyLife(record->not_after, kNow, skew).ok() ==
              (first <= record->not_after && record->not_after <= last),
          "a pre-key lives a day, and the clocks' skew");
}

// With a hello from every third member.
void DeliveryWithHellos(BytesView bytes, uint32_t limit) {
  std::vector<Index> hellos;
  for (Index v = 0; v < limit; v += 3) hellos.push_back(v);
  const auto decoded = DecodeDeliver(bytes, limit, hellos);
  if (decoded.ok()) IsCanonical(EncodeDeliver(*decoded), bytes);
}

// A roster with anything behind it.
void SignedRoster(BytesView bytes) {
  const Result<Roster> roster = ReadSignedRoster(bytes);
  if (!roster.ok()) return;
  const Bytes again = EncodeRosterOnly(*roster);
  Require(again.size() <= bytes.size(), "what was read was there");
  IsCanonical(again, bytes.first(again.size()));
}

void PackedVector(BytesView bytes, fuzz::Choices& choices) {
  const int bits = 2 + static_cast<int>(choices.Below(63));
  const uint64_t dim = choices.Below(1'000);
  RingVector sum = math::ZeroVector(dim, bits);
  if (!math::AddPacked(sum, bytes, bits).ok()) return;
  IsCanonical(math::Pack(sum, bits), bytes);
}

void OneShare(BytesView bytes, uint32_t x) {
  const Result<math::Share> share = math::ReadShare(x, bytes);
  if (share.ok()) IsCanonical(math::ShareBytes(*share), bytes);
}

}  // namespace

void Decode(BytesView input) {
  fuzz::Choices choices(input);
  const uint32_t decoder = choices.Below(17);
  const uint32_t limit = choices.Below(1'100);
  const uint64_t packed_bytes = choices.Below(256);
  fuzz::Choices shape(choices.Take(3));
  const BytesView bytes = choices.Rest();
  switch (decoder) {
    case 0:
      return RoundTrip(DecodeAdvertise(bytes), bytes);
    case 1:
      return WholeRoster(bytes, limit);
    case 2:
      return RoundTrip(DecodeShares(bytes, limit), bytes);
    case 3:
      return RoundTrip(DecodeMasked(bytes, limit, packed_bytes), bytes);
    case 4:
      return RoundTrip(DecodeAcks(bytes, limit), bytes);
    case 5: {
      const auto decoded = DecodeDeliver(bytes, limit);
      return decoded.ok() ? IsCanonical(EncodeDeliver(*decoded), bytes) : void();
    }
    case 6: {
      const auto decoded = DecodeSurvivors(bytes, limit);
      return decoded.ok() ? IsCanonical(EncodeSurvivors(*decoded), bytes) : void();
    }
    case 7: {
      const auto decoded = DecodeAckSet(bytes, limit);
      return decoded.ok() ? IsCanonical(EncodeAckSet(*decoded), bytes) : void();
    }
    case 8: {
      const auto decoded = DecodeUnmask(bytes, limit, limit + 1);
      return decoded.ok() ? IsCanonical(EncodeUnmask(*decoded), bytes) : void();
    }
    case 9:
      OneShare(bytes, limit);
      return PackedVector(bytes, shape);
    case 10: {
      const auto decoded = DecodeRosterOnly(bytes, limit);
      return decoded.ok() ? IsCanonical(EncodeRosterOnly(*decoded), bytes) : void();
    }
    case 11:
      return Ring(bytes, limit);
    case 12:
      return RoundTrip(DecodeChoose(bytes, limit), bytes);
    case 13:
      return ChosenPeers(bytes, limit);
    case 14:
      return OnePreKey(bytes);
    case 15:
      return DeliveryWithHellos(bytes, limit);
    default:
      return SignedRoster(bytes);
  }
}

}  // namespace chorus::aggregation

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  chorus::aggregation::Decode({data, size});
  return 0;
}
