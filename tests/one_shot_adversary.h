// What an adversary of OneShot's tests does: a client or members that follow no protocol, over the
// in-memory transport of cohort.h.
#pragma once

#include <algorithm>
#include <functional>
#include <set>

#include "aggregation/one_shot.h"
#include "cohort.h"
#include "matchers.h"

namespace chorus::aggregation {

inline constexpr size_t kKeysStep = 0;
inline constexpr size_t kInputStep = 1;
inline constexpr size_t kComplaintsStep = 2;
inline constexpr size_t kVotesStep = 3;
inline constexpr size_t kOpeningStep = 4;

inline CohortShape Shape(uint32_t clients) {
  CohortShape shape;
  shape.protocol = Protocol::kOneShot;
  shape.clients = clients;
  return shape;
}

inline std::set<size_t> AllBut(size_t count, size_t without) {
  std::set<size_t> clients;
  for (size_t i = 0; i < count; ++i) {
    if (i != without) clients.insert(i);
  }
  return clients;
}

MATCHER_P2(Blames, party, cause, "blames the party") {
  return arg.party == party && arg.cause == cause;
}

// What a certified client that follows no protocol may change of its contribution.
struct Lie {
  std::function<void(uint32_t member, Bytes& share)> on_share = [](uint32_t, Bytes&) {};
  std::function<void(Bytes& packed)> on_packed = [](Bytes&) {};
  std::function<void(ShareRoute& route)> on_route = [](ShareRoute&) {};
  std::function<void(Digest& sid)> on_share_sid = [](Digest&) {};
};

// A contribution of `client` that is signed and sealed like any other.
inline Bytes LyingContribution(Cohort& cohort, size_t client, BytesView question, const Lie& lie) {
  const CommitteeParams& shape = cohort.params.committee;
  const CommitteeList committee =
      *DecodeCommittee(question.subspan(OfferBytes(Protocol::kOneShot)), shape.members);
  OsaContribution message;
  message.header.sid =
      OneShotSessionId(question.first(kOneShotParamsBytes), CommitteeRoot(committee));
  const SecretBytes seed = cohort.Secret("lying seed", client);
  const crypto::X25519Key ephemeral(cohort.Secret("lying key", client).Reveal());
  message.header.id = crypto::Ed25519Public(cohort.identities[client].Reveal());
  message.header.ephemeral = ephemeral.Public();
  const math::RlweEncoding encoding = EncodingOf(cohort.params);
  const math::RlweRing ring(encoding.set);
  const ClientStreams own(message.header.sid, seed.Reveal());
  const LatticeStreams common(message.header.sid);
  const math::SecretNumbers<int32_t> secret = math::SampleSecret(ring, *own.Secret());
  Bytes packed = *math::Encrypt(
      ring, encoding, cohort.OptionsFor(client).input, secret,
      [&](uint32_t polynomial, uint32_t limb) { return common.PublicPolynomial(polynomial, limb); },
      [&](uint32_t polynomial) { return own.Error(polynomial); });
  lie.on_packed(packed);
  message.header.vector_digest = crypto::Sha256(packed);
  const math::PackedShares dealt =
      *math::PackedDealer::For(SharingOf(shape))
           ->Deal(math::PairCoefficients(secret.Reveal()).Reveal(), *cohort.rngs[client]);
  Bytes shares;
  for (uint32_t j = 1; j <= shape.members; ++j) {
    if (!committee[j - 1].present()) continue;
    Bytes share(dealt.BytesOf(j).begin(), dealt.BytesOf(j).end());
    lie.on_share(j, share);
    ShareRoute route{message.header.id, message.header.ephemeral, j, committee[j - 1].key.key};
    lie.on_route(route);
    Digest sid = message.header.sid;
    lie.on_share_sid(sid);
    const SecretBytes key = *DeriveShareKey(sid, ephemeral, route.member_key, route);
    const Bytes sealed =
        crypto::AeadSeal(key.Reveal(), crypto::Nonce{},
                         OneShotShareData(sid, route, message.header.vector_digest), share);
    shares.insert(shares.end(), sealed.begin(), sealed.end());
  }
  message.header.shares_digest = crypto::Sha256(shares);
  const Bytes evidence = {1, 2, 3};
  message.evidence = evidence;
  message.shares = shares;
  message.packed = packed;
  message.signature =
      crypto::Ed25519Sign(cohort.identities[client].Reveal(), ContributionMessage(message.header));
  return Encode(message);
}

// From now on `client` sends that instead of its own contribution.
inline void LetLie(Cohort& cohort, size_t client, const Lie& lie) {
  cohort.on_answer = [&cohort, client, lie](Where where, Bytes& body) {
    if (where.step == kInputStep && where.client == client) {
      body = LyingContribution(cohort, client, cohort.first_question[kInputStep], lie);
    }
    return true;
  };
}

// Adds to the residue of coefficient 0 modulo each prime of OSA-4096, of 50 bits each.
inline void AddToFirstCoefficient(Bytes& packed, uint64_t coefficients, uint64_t plaintext_moduli) {
  const math::RlweParameters& set = math::RlweParametersFor(math::RlweSet::kOsa4096);
  for (uint32_t limb = 0; limb < set.limbs; ++limb) {
    const uint64_t first_bit = limb * coefficients * math::kResidueBits;
    __extension__ using Wide = unsigned __int128;
    Wide residue = 0;
    for (uint64_t i = 0; i < 50; ++i) {
      const uint64_t bit = first_bit + i;
      residue |= static_cast<Wide>(packed[bit / 8] >> bit % 8 & 1U) << i;
    }
    Wide step = plaintext_moduli % set.primes[limb];
    for (int i = 0; i < set.plaintext_bits; ++i) step = 2 * step % set.primes[limb];
    residue = (residue + step) % set.primes[limb];
    for (uint64_t i = 0; i < 50; ++i) {
      const uint64_t bit = first_bit + i;
      const auto mask = static_cast<uint8_t>(1U << bit % 8);
      packed[bit / 8] =
          static_cast<uint8_t>((packed[bit / 8] & ~mask) | ((residue >> i & 1U) != 0 ? mask : 0));
    }
  }
}

// Runs the steps before `step`.
inline void RunUntil(Cohort& cohort, size_t step) {
  ASSERT_THAT(cohort.Begin(), IsOk());
  while (cohort.step < step) ASSERT_THAT(cohort.Step(), IsOk());
}

// Makes `member` answer the opening with other elements, properly signed.
inline void LetMembersLie(Cohort& cohort, std::set<size_t> members,
                          std::function<void(std::span<uint64_t>)> change) {
  cohort.on_answer = [&cohort, members, change](Where where, Bytes& body) {
    if (where.step != kOpeningStep || !members.contains(where.client)) return true;
    SumShare share = *DecodeSumShare(body, body.size() - sizeof(Signature));
    std::vector<uint64_t> elements =
        *math::ReadPackedShare(share.elements.size() / 8, share.elements);
    change(elements);
    Writer out;
    for (const uint64_t element : elements) out.U64Little(element);
    share.elements = std::move(out).Take();
    const Quorum quorum =
        *DecodeQuorum(*cohort.aggregator->Body(Cohort::kFirstMember + where.client),
                      cohort.params.committee.members);
    const Pull pull = *DecodePull(cohort.first_question[kComplaintsStep], cohort.params);
    const Digest sid = OneShotSessionId(EncodeParams(cohort.params), CommitteeRoot(pull.committee));
    share.signature = crypto::Ed25519Sign(
        cohort.member_identities[where.client].Reveal(),
        SumShareMessage(sid, quorum.root, static_cast<uint32_t>(where.client + 1), share.elements));
    body = Encode(share);
    return true;
  };
}

}  // namespace chorus::aggregation
