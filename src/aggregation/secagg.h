// SecAgg inside: messages, key schedule and masks, which both sides and the known-answer tests
// share, and the factories behind protocols.h. The protocol is SA+ [specification 3]:
//
//   R0  Offer          -> Advertise  fresh keys, signed by the identity
//   R1  Roster         -> Choose     all keys under one Merkle root; the holders a client draws
//   R2  Peers          -> Shares     the neighbours' keys; shares of s_u and b_u to each holder
//   R3  Deliver        -> Masked     the input under a self mask and a mask with each neighbour
//   R4  Survivors      -> Acks       who is alive, shown by edge tags; acknowledged to each
//   R5  AckSet         -> Unmask     of each owner one share: of b_u if alive, of s_u if dropped
//
// In a complete graph nobody has to choose: R1 is left out, and the question of R2 is Roster and
// Peers in one. So it is on the Harary ring, where R4 is left out too and the question of R5 is
// Survivors.
//
// A client that sent a pre-key record ahead is not asked in R0: its first question is Offer and
// that of the next row in one [specification 3.2].
//
// Integers are big-endian; lists are a u32 count and entries strictly ascending by roster index.
// [specification 3.5]
#pragma once

#include <algorithm>
#include <array>
#include <optional>
#include <utility>
#include <vector>

#include "aggregation/protocols.h"
#include "base/parallel.h"
#include "crypto/crypto.h"
#include "crypto/mask.h"
#include "math/math.h"

namespace chorus::aggregation {

using Index = uint32_t;                                             // place in the roster, from 0
using Tag = std::array<uint8_t, 16>;                                // a truncated HMAC
inline constexpr size_t kSharePairBytes = 2 * math::kShareBytes;    // of s_u, then of b_u
inline constexpr size_t kSealedSharesBytes = kSharePairBytes + 16;  // under AES-256-GCM
// What a client sends to who chose it and it did not choose: nothing, sealed, so that it is known
// to be there.
using Hello = std::array<uint8_t, 16>;

// --- offers: common to every protocol (params.cc) --------------------------------------------
inline constexpr size_t kOfferBytes = kSessionParamsBytes + sizeof(Signature);
Bytes MakeOffer(const SessionParams& params, BytesView signing_seed);
size_t OfferBytes(Protocol protocol);  // an offer's length
struct AcceptedOffer {
  SessionParams params;
  Digest sid0{};
};
// What every receiver of an offer checks: form, the pinned coordinator's signature, that the
// parameters are workable. kUnauthenticated: not signed by it.
Result<AcceptedOffer> ReadOffer(const PublicKey& coordinator, Protocol protocol,
                                BytesView question);
// The same, from `offers` if it is known there, and then known there. Null: ReadOffer.
Result<AcceptedOffer> ReadOfferOnce(KnownOffers* offers, const PublicKey& coordinator,
                                    Protocol protocol, BytesView question);
// kUnauthenticated: not signed by the pinned coordinator; kPermissionDenied: not what was agreed
// to.
Result<AcceptedOffer> AcceptOffer(const ContributorOptions& options, BytesView question);
// kAborted when a value lies outside contributors * bound: garbage that only shows in the sum.
Status CheckSumRange(const SessionParams& params, const Sum& sum);

// --- messages (secagg_messages.cc) -----------------------------------------------------------
// Decoders give kInvalidArgument on anything but a canonical encoding, before they allocate more
// than a few times the input's own size. `limit` is the roster's size: every index is below it.
struct Advertise {
  Digest sid0{};
  PublicKey id{};
  PublicKey c{};  // channel key
  PublicKey s{};  // mask key
  Bytes evidence;
  Signature signature{};
};
Bytes Encode(const Advertise& message);
Result<Advertise> DecodeAdvertise(BytesView bytes);
Digest AdvertiseMessage(const Advertise& message);  // what is signed

// What stands for an Advertise of a client that made its keys before it knew the session
// (prekeys.cc) [specification 3.2].
struct PreKeyRecord {
  PublicKey id{};
  PublicKey c{};
  PublicKey s{};
  uint64_t not_after = 0;  // Unix seconds
  Bytes evidence;
  Signature signature{};
};
Bytes Encode(const PreKeyRecord& message);
Result<PreKeyRecord> DecodePreKeyRecord(BytesView bytes);
Digest PreKeyMessage(const PreKeyRecord& message);
// kInvalidArgument: expired, or further ahead than a pre-key may live, by more than `skew`.
Status CheckPreKeyLife(uint64_t not_after, int64_t unix_now, std::chrono::seconds skew);

struct Peer {
  Index index = 0;
  PublicKey id{};
  PublicKey c{};
  PublicKey s{};
  Bytes evidence;
  Signature signature{};                // of its Advertise or pre-key record
  std::vector<Digest> path;             // RFC 6962 audit path of its leaf
  std::optional<uint64_t> not_after{};  // of a pre-key record; without it, an Advertise
};
struct Roster {
  uint32_t n = 0;
  Index index = 0;  // the receiver's
  Digest root{};
  std::vector<Digest> path;  // of the receiver's leaf
  Signature signature{};     // by the coordinator over RosterMessage
};
struct RosterAndPeers : Roster {
  std::vector<Peer> peers;  // the receiver's out and in list at once
};
Digest RosterMessage(const Digest& sid0, uint32_t n, const Digest& root);
// A record as it stands in every receiver's question.
Bytes EncodePeer(const Peer& peer);
// The question of R2 in a complete graph, for `message.index`; `records` are EncodePeer of every
// roster member.
Bytes EncodeRoster(const RosterAndPeers& message, std::span<const Bytes> records);
Result<RosterAndPeers> DecodeRoster(BytesView bytes, uint32_t n_max);
// The question of R1 in a self-selected graph.
Bytes EncodeRosterOnly(const Roster& roster);
Result<Roster> DecodeRosterOnly(BytesView bytes, uint32_t n_max);
// The roster with which the question of R1 or R2 begins, of any size and whatever follows it: to
// keep what the coordinator signed, not to act on it.
Result<Roster> ReadSignedRoster(BytesView bytes);
// The question of R2 on the Harary ring: like EncodeRoster, for the neighbours that are named.
Bytes EncodeRing(const Roster& roster, std::span<const Index> neighbours,
                 std::span<const Bytes> records);
Result<RosterAndPeers> DecodeRing(BytesView bytes, uint32_t n_max);

struct Choose {
  Digest sid{};
  std::vector<Index> holders;
  Signature signature{};
};
Digest ChooseMessage(Index sender, const Choose& message);
Bytes Encode(const Choose& message);
Result<Choose> DecodeChoose(BytesView bytes, uint32_t limit);

// The question of R2 in a self-selected graph.
struct Peers {
  std::vector<Index> out;     // whom the receiver chose
  std::vector<Index> in;      // who chose the receiver
  std::vector<Peer> records;  // of both, ascending, each once
};
Bytes EncodePeers(std::span<const Index> out, std::span<const Index> in,
                  std::span<const Bytes> records);
Result<Peers> DecodePeers(BytesView bytes, uint32_t n);

using SealedShares = std::array<uint8_t, kSealedSharesBytes>;
struct Shares {
  Digest commitment{};                                 // com_u to b_u
  std::vector<std::pair<Index, SealedShares>> sealed;  // for each holder
  std::vector<std::pair<Index, Hello>> hellos;         // for each who is only an owner
  Signature signature{};
};
Digest SharesMessage(const Digest& sid, Index sender, const Shares& message);
Bytes Encode(const Shares& message);
Result<Shares> DecodeShares(BytesView bytes, uint32_t limit);

struct Delivery {
  Index from = 0;
  Digest commitment{};
  SealedShares sealed{};
  std::optional<Hello> hello{};  // instead of shares, from who did not choose the receiver
};
Bytes EncodeDeliver(std::span<const Delivery> entries);
Result<std::vector<Delivery>> DecodeDeliver(BytesView bytes, uint32_t limit);
// `hellos`, ascending: who owes the receiver no shares.
Result<std::vector<Delivery>> DecodeDeliver(BytesView bytes, uint32_t limit,
                                            std::span<const Index> hellos);

struct Masked {
  Digest sid{};
  std::vector<Index> failed;                 // whose ciphertext did not open: blame only
  std::vector<std::pair<Index, Tag>> edges;  // a tag for each neighbour with a mask
  BytesView packed;                          // y, a view into the decoded bytes
  Signature signature{};
};
Digest MaskedMessage(Index sender, const Masked& message);
Bytes Encode(const Masked& message);
// The same with zeros instead of the vector, which is `packed_bytes` long, and of the signature.
// Both are filled in where they stand: a vector is too large to be written twice.
Bytes EncodeUnfilled(const Masked& message, uint64_t packed_bytes);
struct MaskedParts {
  std::span<uint8_t> packed;
  std::span<uint8_t> signature;
};
// Of an encoded message with a vector of that length.
MaskedParts PartsOf(Bytes& encoded, uint64_t packed_bytes);
Result<Masked> DecodeMasked(BytesView bytes, uint32_t limit, uint64_t packed_bytes);
uint64_t MaskedBytesMax(uint32_t neighbours, uint64_t packed_bytes);

enum class Fate : uint8_t { kAlive = 1, kDropped = 2 };
struct Survivor {
  Index owner = 0;
  Fate fate = Fate::kAlive;
  Tag edge{};  // owner's edge tag to the receiver; only when alive
};
Bytes EncodeSurvivors(std::span<const Survivor> entries);
Result<std::vector<Survivor>> DecodeSurvivors(BytesView bytes, uint32_t limit);

struct Acks {
  std::vector<std::pair<Index, Tag>> acks;  // to each owner accepted as alive
  std::vector<Index> refused;               // owners whose edge tag did not verify
};
Bytes Encode(const Acks& message);
Result<Acks> DecodeAcks(BytesView bytes, uint32_t limit);

using AckSet = std::vector<std::pair<Index, Tag>>;  // from each holder to the receiver
Bytes EncodeAckSet(const AckSet& entries);
Result<AckSet> DecodeAckSet(BytesView bytes, uint32_t limit);

struct UnmaskEntry {
  Index owner = 0;
  Fate fate = Fate::kAlive;  // alive: a share of b; dropped: a share of s
  math::Share share;
};
// Fails like the decoders; shares are read for holder `x`.
Result<std::vector<UnmaskEntry>> DecodeUnmask(BytesView bytes, uint32_t limit, uint32_t x);
Bytes EncodeUnmask(std::span<const UnmaskEntry> entries);

// --- key schedule (secagg_keys.cc) [specification 3.4] ---------------------------------------
Digest SessionId(const Digest& sid0, uint32_t n, const Digest& root);
Digest OrderKey(const Digest& sid0, const PublicKey& id);  // the roster ascends by it
Digest RosterLeaf(const Digest& sid0, const PublicKey& id, const PublicKey& c, const PublicKey& s);

// One end of an unordered pair, as the key schedule names it.
struct End {
  Index index = 0;
  PublicKey key{};
};
// Keys of the channel between `me` and `peer`; key fields of the ends are C.
struct ChannelKeys {
  SecretBytes seal;     // k_enc(me -> peer)
  SecretBytes open;     // k_enc(peer -> me)
  SecretBytes ack_out;  // k_ack(me -> peer)
  SecretBytes ack_in;   // k_ack(peer -> me)
};
// kInvalidArgument when the peer's key is of low order.
Result<ChannelKeys> DeriveChannel(const Digest& sid, const crypto::X25519Key& c_key, const End& me,
                                  const End& peer);
// k_pair; key fields are S. The same from both ends.
Result<SecretBytes> DerivePairMask(const Digest& sid, const crypto::X25519Key& s_key, const End& me,
                                   const End& peer);
SecretBytes DeriveSelfMask(const Digest& sid, BytesView b, Index owner);
Digest ShareCommitment(const Digest& sid, Index owner, BytesView b);
Bytes ShareAssociatedData(const Digest& sid, Index from, Index to, const GraphParams& graph,
                          const Digest& commitment);
Tag EdgeTag(BytesView ack_key, const Digest& sid);
Tag AckTag(BytesView ack_key, const Digest& sid);

// The PRG stream of `key` as words, added to or taken from a whole vector.
struct Mask {
  SecretBytes key;
  math::Sign sign = math::Sign::kAdd;
};
// Tile by tile, all masks of a tile while it is in cache [specification 3.11].
void ApplyMasks(crypto::MaskPath path, RingVector& vector, std::span<const Mask> masks);
// The same with the vector's pieces spread by `executor`; they share nothing but the masks.
void ApplyMasks(crypto::MaskPath path, RingVector& vector, std::span<const Mask> masks,
                Executor& executor);
// The sign with which u carries the mask of the pair (u, v).
inline math::Sign PairSign(Index u, Index v) {
  return u < v ? math::Sign::kAdd : math::Sign::kSubtract;
}

// --- the machines ----------------------------------------------------------------------------
Result<std::unique_ptr<Aggregator>> NewPlainAggregator(AggregatorOptions options);
std::unique_ptr<Contributor> NewPlainContributor(ContributorOptions options);
Result<std::unique_ptr<Aggregator>> NewSecAggAggregator(AggregatorOptions options);
std::unique_ptr<Contributor> NewSecAggContributor(ContributorOptions options);

}  // namespace chorus::aggregation
