// One answer of a session of OneShot changed on purpose, with the liar's true signature over the
// change or without.
#pragma once

#include <set>
#include <vector>

#include "one_shot_cohort.h"

namespace chorus::aggregation {

// What a session must know of a lie to say what may come of it.
struct Told {
  Bytes answer;
  bool visible = false;            // it shows to whoever hears it
  bool fatal = false;              // believed, it may cost the session its sum
  std::vector<int64_t> input;      // of a client: what its contribution opens to
  std::set<uint32_t> wrong_dealt;  // members, from 1, who hold a share that is none of its key
  uint64_t error = 0;              // of a client: added to that of its first coefficient
};

class OneShotLiar {
 public:
  struct Me {
    Size size;
    size_t number = 0;  // among clients or members, from 0
    bool sign = false;
  };
  OneShotLiar(fuzz::Choices& choices, Me me) : choices_(choices), me_(me) {}

  // A client's: the honest one changed, or one that only a liar can make of its question.
  Told Contribution(const Bytes& honest, const Bytes& question, const ContributionShape& shape) {
    Told told;
    told.input = cohort().inputs[me_.number];
    const uint32_t what = choices_.Below(13);
    told.answer = what < 7 ? Altered(what, honest, shape, told) : Made(what, question, told);
    if (me_.sign) return told;
    told.answer[kHeaderBytes + choices_.Below(sizeof(Signature))] ^= 1U;
    told.visible = true;
    return told;
  }

  Told Key(CommitteeKey said, const Digest& sid0, const CommitteeKey* other) {
    Told told;
    const uint32_t what = choices_.Below(5);
    told.visible = !me_.sign || what < 4;
    if (what == 0) said.key = {choices_.Byte() % 2 == 0 ? uint8_t{0} : uint8_t{1}};
    if (what == 1) said.key.fill(0xff);
    if (what == 2) said.key[31] |= 0x80U;
    if (what == 3 && other != nullptr) said.key = other->key;
    if (what == 3 && other == nullptr) said.signature[0] ^= 1U;
    // A key that nobody has the secret of.
    if (what == 4) said.key = crypto::X25519Public(fuzz::Key("unknown", choices_.Byte()).Reveal());
    if (me_.sign && (what != 3 || other != nullptr)) {
      said.signature = Signed(CommitteeKeyMessage(sid0, Index(), said.key));
    }
    told.answer = Encode(said);
    return told;
  }

  Told Complaints(uint32_t clients) {
    Told told;
    const uint8_t which = choices_.Byte();
    Positions positions;
    for (uint32_t i = 0; i < clients; ++i) {
      if ((which >> i & 1U) != 0) positions.push_back(i);
    }
    const uint32_t what = choices_.Below(4);
    told.visible = what > 1;
    if (what == 2) positions.push_back(clients + choices_.Below(3));
    if (what == 3) positions = {1, choices_.Below(2)};
    told.answer = EncodeComplaints(positions);
    return told;
  }

  Told Vote(const Digest& sid, SurvivorSet survivors) {
    Told told;
    told.visible = true;
    const uint32_t what = choices_.Below(3);
    if (what == 0) ++survivors.count;
    if (what == 1) survivors.root[choices_.Below(32)] ^= 1U;
    Signature vote = Signed(VoteMessage(sid, survivors));
    if (what == 2 || !me_.sign) vote[choices_.Below(sizeof(Signature))] ^= 1U;
    told.answer.assign(vote.begin(), vote.end());
    return told;
  }

  // Elements of the share changed: one, all by the same, or one to a number that is none.
  Told Opening(const Bytes& honest, const Digest& sid, const Digest& root) {
    Told told;
    SumShare share = *DecodeSumShare(honest, honest.size() - sizeof(Signature));
    std::vector<uint64_t> elements =
        *math::ReadPackedShare(share.elements.size() / 8, share.elements);
    const uint32_t what = choices_.Below(4);
    const uint64_t step = 1 + choices_.Below(256);
    uint64_t& one = elements[choices_.Below(elements.size())];
    told.visible = !me_.sign || what >= 2;
    if (what == 0) one = math::FieldAdd(one, step);
    if (what == 1) {
      for (uint64_t& element : elements) element = math::FieldAdd(element, step);
    }
    if (what == 2) one = math::kPrime + choices_.Below(2);
    Writer out;
    for (const uint64_t element : elements) out.U64Little(element);
    share.elements = std::move(out).Take();
    if (what == 3) share.elements.pop_back();
    if (me_.sign) {
      share.signature = Signed(SumShareMessage(sid, root, Index(), share.elements));
    } else {
      share.signature[choices_.Below(sizeof(Signature))] ^= 1U;
    }
    told.answer = Encode(share);
    return told;
  }

 private:
  Cohort& cohort() const { return CohortOf(me_.size); }
  uint32_t Index() const { return static_cast<uint32_t>(me_.number + 1); }
  Signature Signed(const Digest& message) const {
    return crypto::Ed25519Sign(cohort().member_identities[me_.number].Reveal(), message);
  }

  // Fields of the honest contribution, and bytes of its parts under a true digest.
  Bytes Altered(uint32_t what, const Bytes& honest, const ContributionShape& shape, Told& told) {
    OsaContribution said = *DecodeContribution(honest, shape);
    ContributionHeader& header = said.header;
    Bytes shares(said.shares.begin(), said.shares.end());
    Bytes packed(said.packed.begin(), said.packed.end());
    told.visible = what < 4;
    if (what == 0) header.sid[choices_.Below(32)] ^= 1U;
    if (what == 1) header.id = crypto::Ed25519Public(fuzz::Key("stranger").Reveal());
    if (what == 2) header.vector_digest[choices_.Below(32)] ^= 1U;
    if (what == 3) header.shares_digest[choices_.Below(32)] ^= 1U;
    if (what == 4) {
      const uint32_t key = choices_.Below(4);
      header.ephemeral = crypto::X25519Public(fuzz::Key("unknown", choices_.Byte()).Reveal());
      if (key < 2) header.ephemeral = {static_cast<uint8_t>(key)};
      if (key == 2) header.ephemeral.fill(0xff);
    }
    if (what == 5) {
      for (uint32_t left = 1 + choices_.Below(3); left > 0; --left) {
        shares[choices_.Below(shares.size())] ^= 1U;
      }
      header.shares_digest = crypto::Sha256(shares);
    }
    if (what == 6) {
      packed[choices_.Below(packed.size())] ^= static_cast<uint8_t>(1U << choices_.Below(8));
      header.vector_digest = crypto::Sha256(packed);
    }
    said.shares = shares;
    said.packed = packed;
    said.signature =
        crypto::Ed25519Sign(cohort().identities[me_.number].Reveal(), ContributionMessage(header));
    return Encode(said);
  }

  // A contribution under keys that are the liar's own, so that every share opens.
  Bytes Made(uint32_t what, const Bytes& question, Told& told) {
    Lie lie;
    const uint8_t which = choices_.Byte();
    const uint32_t element = choices_.Below(1'024);
    const bool all = what == 9;
    if (what == 8 || all) {
      lie.on_share = [&, which, element, all](uint32_t member, Bytes& share) {
        if (!all && (which >> (member - 1) & 1U) == 0) return;
        std::vector<uint64_t> elements = *math::ReadPackedShare(share.size() / 8, share);
        elements[element] = math::FieldAdd(elements[element], 1U + which);
        Writer out;
        for (const uint64_t each : elements) out.U64Little(each);
        share = std::move(out).Take();
        told.wrong_dealt.insert(member);
      };
    } else if (what == 10) {
      lie.on_share = [which](uint32_t member, Bytes& share) {
        if ((which >> (member - 1) & 1U) != 0) std::fill_n(share.begin(), 8, uint8_t{0xff});
      };
    } else if (what == 11) {
      lie.on_share_sid = [which](Digest& sid) { sid[0] ^= which; };
    } else if (what == 12) {
      // The error grows, up to all the way round q.
      const uint64_t coefficients = EncodingOf(cohort().params).coefficients();
      told.error = element * uint64_t{16};
      lie.on_packed = [&, coefficients](Bytes& packed) {
        AddToFirstCoefficient(packed, coefficients, told.error);
      };
      told.fatal = true;
    }
    // A vector of its choice, within the bound, is its right.
    std::vector<int64_t>& input = cohort().inputs[me_.number];
    const std::vector<int64_t> honest = input;
    if (what == 7) input[which % input.size()] = static_cast<int64_t>(element) * 64;
    told.input = input;
    Bytes made = LyingContributionOf(me_.size, me_.number, question, lie);
    input = honest;
    told.fatal = told.fatal || !told.wrong_dealt.empty();
    return made;
  }

  fuzz::Choices& choices_;
  const Me me_;
};

}  // namespace chorus::aggregation
