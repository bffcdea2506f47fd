// OneShot inside: messages, key schedule and committee, which clients, members, server and the
// known-answer tests share, and the factories behind protocols.h. The protocol is OSA
// [specification 2.2]:
//
//   O0  Offer      -> CommitteeKey  a member's fresh key, signed by its identity
//   O1  OsaOffer   -> Contribution  the client's one message: its input under a lattice key, and
//                                   that key's shares, each sealed to a member
//   O2  Pull       -> Complaints    a member's shares of all clients; which it cannot use
//   O3  Survivors  -> Vote          the set U whose sum shall be opened; one vote a session
//   O4  Quorum     -> SumShare      so many votes for U that no other set can have them; the sum
//                                   of the member's shares over U
//
// O1 is asked of clients, the other steps of the committee's members. Integers are big-endian, but
// shares and packed vectors little-endian.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "aggregation/protocols.h"
#include "aggregation/secagg.h"
#include "crypto/crypto.h"
#include "math/packed_shamir.h"
#include "math/rlwe.h"

namespace chorus::aggregation {

// --- the committee (one_shot_params.cc) [specification 2.2.3] --------------------------------
// A row of the table: with probability 2^-41 at most more than `corrupt_max` of a random committee
// are corrupt, with 2^-20 at most more than `dropouts_max` drop out, at the fractions named.
struct CommitteeRow {
  uint16_t members = 0;    // m
  uint32_t gamma_ppm = 0;  // both 0: helper servers, who are few and chosen one by one
  uint32_t delta_ppm = 0;
  uint16_t corrupt_max = 0;   // c, and t_priv
  uint16_t dropouts_max = 0;  // f
  uint16_t quorum = 0;        // Qm: votes that certify a set of survivors
  uint16_t packing = 0;       // rho

  // Shares that open a sum: the degree of a sharing polynomial, plus one.
  constexpr uint32_t threshold() const { return uint32_t{corrupt_max} + packing; }
};
std::span<const CommitteeRow> CommitteeRows();
// The row that parameters name; null when they name none, or name it with other numbers.
const CommitteeRow* RowOf(const CommitteeParams& committee);

// How the sessions' vectors lie in the ring, and how keys are shared.
math::RlweEncoding EncodingOf(const SessionParams& params);
math::PackedSpec SharingOf(const CommitteeParams& committee);
size_t ShareElements(const CommitteeParams& committee);     // of one share: one a block
size_t SealedShareBytes(const CommitteeParams& committee);  // a share as it travels

// What ValidateParams requires of OneShot's parameters, besides what it requires of all.
Status CheckOneShot(const SessionParams& params);
// kInvalidArgument unless the ids are as many as the committee has members, none twice.
Status CheckCommitteeIds(const CommitteeParams& committee, std::span<const PublicKey> ids);
// What NewAggregator requires of a committee that is there to be asked.
Status CheckCommitteeOptions(const AggregatorOptions& options);

// --- messages (one_shot_messages.cc) [specification 2.2.4] -----------------------------------
// Decoders give kInvalidArgument on anything but a canonical encoding, before they allocate more
// than a few times the input's own size. Views point into the decoded bytes.

// A member's answer in O0.
struct CommitteeKey {
  PublicKey key{};  // kx_pk, X25519; zeros in a committee list: it gave none
  Signature signature{};
};
Digest CommitteeKeyMessage(const Digest& sid0, uint32_t member, const PublicKey& key);
Bytes Encode(const CommitteeKey& message);
Result<CommitteeKey> DecodeCommitteeKey(BytesView bytes);

// A member as clients and members are shown it.
struct CommitteeEntry {
  PublicKey id{};
  CommitteeKey key;
  bool present() const { return key.key != PublicKey{}; }
};
using CommitteeList = std::vector<CommitteeEntry>;  // [m], in the task's order
inline constexpr size_t kCommitteeEntryBytes = 32 + 32 + 64;
// The question of O1.
Bytes EncodeOsaOffer(BytesView offer, const CommitteeList& committee);
// Reads what follows the offer.
Result<CommitteeList> DecodeCommittee(BytesView bytes, uint16_t members);
Digest CommitteeRoot(const CommitteeList& committee);
// kAborted: not the ids of the task, too many members without a key, or a key that is there twice,
// not in its one encoding, or signed although it is none. Signatures are not looked at.
Status CheckCommittee(const CommitteeParams& committee, std::span<const PublicKey> ids,
                      const CommitteeList& list);
// kAborted unless each key is signed by the member whose it is. The most costly check of a client.
Status CheckCommitteeSignatures(const Digest& sid0, const CommitteeList& list);

// What a client signs of its contribution.
struct ContributionHeader {
  Digest sid{};
  PublicKey id{};
  PublicKey ephemeral{};  // eph_pk, X25519
  Digest vector_digest{};
  Digest shares_digest{};
};
inline constexpr size_t kHeaderBytes = 5 * 32;
Bytes EncodeHeader(const ContributionHeader& header);
Digest ContributionMessage(const ContributionHeader& header);  // what is signed
Digest ContributionLeaf(const ContributionHeader& header);     // in the tree over U

// The answer of O1.
struct OsaContribution {
  ContributionHeader header;
  Signature signature{};
  BytesView evidence;
  BytesView shares;  // a sealed share for each member with a key, in order
  BytesView packed;  // the ciphertext
};
Bytes Encode(const OsaContribution& message);
// The sizes of the two parts are the session's.
struct ContributionShape {
  uint64_t shares_bytes = 0;
  uint64_t packed_bytes = 0;
  uint64_t bytes_max() const;
};
Result<OsaContribution> DecodeContribution(BytesView bytes, const ContributionShape& shape);

// The question of O2.
struct PullEntry {
  ContributionHeader header;  // its sid is the receiver's own
  Signature signature{};
  BytesView evidence;
  BytesView sealed;  // the receiver's share
};
struct Pull {
  CommitteeList committee;
  std::vector<PullEntry> entries;  // strictly ascending by id
};
Bytes EncodePull(const CommitteeList& committee, std::span<const PullEntry> entries);
// Refuses more than n_max entries. Entries have no sid yet: it follows from the committee.
Result<Pull> DecodePull(BytesView bytes, const SessionParams& params);

// Positions in Pull, ascending.
using Positions = std::vector<uint32_t>;
Bytes EncodeComplaints(const Positions& complaints);
Result<Positions> DecodeComplaints(BytesView bytes, uint32_t limit);

// The question of O3: a bit for each position.
Bytes EncodeSurvivorMap(const Positions& survivors, uint32_t count);
Result<Positions> DecodeSurvivorMap(BytesView bytes, uint32_t count);

// A set of survivors as members vote on it: root(U) and |U|.
struct SurvivorSet {
  Digest root{};
  uint32_t count = 0;
};
Digest VoteMessage(const Digest& sid, const SurvivorSet& survivors);

// The question of O4.
struct Quorum {
  Digest root{};
  std::vector<std::pair<uint32_t, Signature>> votes;  // by member, strictly ascending
};
Bytes Encode(const Quorum& message);
Result<Quorum> DecodeQuorum(BytesView bytes, uint16_t members);
// kAborted unless `quorum` certifies exactly this set: Qm votes for it by distinct members.
Status CheckQuorum(const Quorum& quorum, const Digest& sid, const SurvivorSet& survivors,
                   const CommitteeRow& row, std::span<const PublicKey> ids);

// The answer of O4.
struct SumShare {
  Bytes elements;  // 8 bytes each, little-endian, below 2^61 - 1
  Signature signature{};
};
Digest SumShareMessage(const Digest& sid, const Digest& root, uint32_t member, BytesView elements);
Bytes Encode(const SumShare& message);
Result<SumShare> DecodeSumShare(BytesView bytes, size_t elements_bytes);

// --- key schedule (one_shot_keys.cc) ----------------------------------------------------------
// `params` as they were signed.
Digest OneShotSessionId(BytesView params, const Digest& committee_root);

// Who shares to whom, as the share's key and associated data name it.
struct ShareRoute {
  PublicKey client{};
  PublicKey ephemeral{};
  uint32_t member = 0;
  PublicKey member_key{};
};
// From either end: `secret` is the client's ephemeral one or the member's, `peer` the other's
// public key. kInvalidArgument when that is of low order.
Result<SecretBytes> DeriveShareKey(const Digest& sid, const crypto::X25519Key& secret,
                                   const PublicKey& peer, const ShareRoute& route);
Digest OneShotShareData(const Digest& sid, const ShareRoute& route, const Digest& vector_digest);

// The streams that a session's lattice polynomials are drawn from.
class LatticeStreams {
 public:
  explicit LatticeStreams(const Digest& sid);
  std::unique_ptr<Rng> PublicPolynomial(uint32_t polynomial, uint32_t limb) const;

 private:
  SecretBytes public_key_;
};
class ClientStreams {
 public:
  ClientStreams(const Digest& sid, BytesView seed);
  std::unique_ptr<Rng> Secret() const;
  std::unique_ptr<Rng> Error(uint32_t polynomial) const;

 private:
  SecretBytes key_;
};

// --- complaints and the opening (one_shot_opening.cc) -----------------------------------------
struct Resolution {
  std::vector<bool> members;  // who is left out, as numbered by the caller
  std::vector<bool> clients;  // by position
};
// While an unresolved complaint exists, whoever has most of them is left out, the client on ties;
// the lowest number among equals [specification 2.2.4]. `complaints` of each member are positions
// below `clients`.
Resolution ResolveComplaints(std::span<const Positions> complaints, uint32_t clients);

struct OpenedSum {
  RingVector values;            // [dim], reduced to the encoding's bits
  std::vector<uint32_t> wrong;  // members whose shares were wrong, ascending
};
// The sum of the vectors in `ciphertexts` from members' shares of the sum of their keys. kAborted
// when there is none: too many wrong shares, or a client that shared something else than its key.
Result<OpenedSum> OpenSum(const SessionParams& params, const Digest& sid,
                          std::span<const math::MemberShare> shares,
                          const math::CiphertextSum& ciphertexts);

// --- the machines ----------------------------------------------------------------------------
Result<std::unique_ptr<Aggregator>> NewOneShotAggregator(AggregatorOptions options);
std::unique_ptr<Contributor> NewOneShotContributor(ContributorOptions options);

}  // namespace chorus::aggregation
