// T7: why a certificate of survivors is demanded. A coordinator that shows members different sets
// of survivors learns coefficients of one client's key from packed shares, long before a threshold
// of members agree; with the certificate it learns nothing [specification 2.2.5].
#include "one_shot_adversary.h"

namespace chorus::aggregation {
namespace {

// What an equivocating coordinator could have of its members: who opened the sum over V and the
// client u, who the sum over V alone, and who colludes with it and shows every share that it has.
struct Opened {
  uint32_t packing = 0;    // rho
  uint32_t threshold = 0;  // t_rec
  std::vector<uint32_t> colluders;
  std::vector<uint32_t> with_client;
  std::vector<uint32_t> without_client;
};

using Vector = std::vector<uint64_t>;  // over GF(2^61 - 1)

// The rank of `rows`, by elimination in place.
size_t Rank(std::vector<Vector> rows) {
  size_t rank = 0;
  for (size_t column = 0; !rows.empty() && column < rows[0].size() && rank < rows.size();
       ++column) {
    const auto pivot = std::find_if(rows.begin() + static_cast<std::ptrdiff_t>(rank), rows.end(),
                                    [column](const Vector& row) { return row[column] != 0; });
    if (pivot == rows.end()) continue;
    std::swap(*pivot, rows[rank]);
    const uint64_t inverse = math::FieldInverse(rows[rank][column]);
    for (size_t i = rank + 1; i < rows.size(); ++i) {
      if (rows[i][column] == 0) continue;
      const uint64_t factor = math::FieldMultiply(rows[i][column], inverse);
      for (size_t j = column; j < rows[i].size(); ++j) {
        rows[i][j] = math::FieldSubtract(rows[i][j], math::FieldMultiply(factor, rows[rank][j]));
      }
    }
    ++rank;
  }
  return rank;
}

// How many of the `packing` coefficients of a block of u's key are known. Unknown are two
// polynomials: the sum over V, and u's own; an observation is a linear form in their coefficients.
size_t LeakedCoefficients(const Opened& opened) {
  const uint32_t t = opened.threshold;
  const auto observe = [t](uint64_t x, bool of_others, bool of_client) {
    Vector row(2 * t);
    uint64_t power = 1;
    for (uint32_t i = 0; i < t; ++i) {
      if (of_others) row[i] = power;
      if (of_client) row[t + i] = power;
      power = math::FieldMultiply(power, x);
    }
    return row;
  };
  std::vector<Vector> rows;
  for (const uint32_t j : opened.colluders) {
    rows.push_back(observe(j, true, false));
    rows.push_back(observe(j, false, true));
  }
  for (const uint32_t j : opened.with_client) rows.push_back(observe(j, true, true));
  for (const uint32_t j : opened.without_client) rows.push_back(observe(j, true, false));
  const size_t known = Rank(rows);
  for (uint32_t q = 0; q < opened.packing; ++q) {
    rows.push_back(observe(math::kPrime - 1 - q, false, true));
  }
  return opened.packing - (Rank(std::move(rows)) - known);
}

std::vector<uint32_t> Range(uint32_t first, uint32_t last) {
  std::vector<uint32_t> range;
  for (uint32_t j = first; j <= last; ++j) range.push_back(j);
  return range;
}

// Everybody opens what it was asked to, as without a certificate: half of the honest members one
// set, half the other.
size_t LeakWithoutCertificate(uint32_t members, uint32_t corrupt, uint32_t threshold,
                              uint32_t packing) {
  const uint32_t half = (members - corrupt) / 2;
  return LeakedCoefficients({.packing = packing,
                             .threshold = threshold,
                             .colluders = Range(1, corrupt),
                             .with_client = Range(corrupt + 1, corrupt + half),
                             .without_client = Range(corrupt + half + 1, members)});
}

TEST(OneShotEquivocation, T7WithoutACertificateKeysLeakAsPredicted) {
  struct Case {
    uint32_t members, corrupt, threshold, packing, leaked;
  };
  // The last satisfies the classic rule 2t > m + c, and leaks 30 of 32.
  for (const Case& c : {Case{12, 2, 8, 6, 4}, Case{12, 2, 8, 3, 1}, Case{12, 2, 8, 1, 0},
                        Case{16, 3, 12, 8, 3}, Case{16, 3, 13, 4, 0}, Case{32, 6, 20, 12, 10},
                        Case{32, 6, 20, 8, 6}, Case{128, 42, 86, 32, 30}}) {
    EXPECT_EQ(LeakWithoutCertificate(c.members, c.corrupt, c.threshold, c.packing), c.leaked)
        << c.members << " " << c.threshold << " " << c.packing;
    const int predicted =
        static_cast<int>(c.members + c.corrupt + c.packing) - 2 * static_cast<int>(c.threshold);
    EXPECT_EQ(std::clamp(predicted, 0, static_cast<int>(c.packing)), static_cast<int>(c.leaked));
  }
}

TEST(OneShotEquivocation, T7EveryCommitteeOfTheTableWouldLeakWithoutACertificate) {
  for (const CommitteeRow& row : CommitteeRows()) {
    EXPECT_GT(LeakWithoutCertificate(row.members, row.corrupt_max, row.threshold(), row.packing),
              0U)
        << row.members;
  }
}

// The coordinator and c corrupt members against real members: it shows some of the honest V with
// client u, some V alone, lets its own members vote for both, and asks each honest member to open
// with the best quorum that it can put together.
class Equivocator {
 public:
  Equivocator(uint32_t honest_with_client, const CohortShape& shape) : cohort_(1, shape) {
    RunUntil(cohort_, kVotesStep);
    const CommitteeRow& row = *RowOf(cohort_.params.committee);
    const Pull pull = *DecodePull(cohort_.first_question[kComplaintsStep], cohort_.params);
    const Digest sid =
        OneShotSessionId(EncodeParams(cohort_.params), CommitteeRoot(pull.committee));
    const auto clients = static_cast<uint32_t>(pull.entries.size());
    for (size_t set = 0; set < 2; ++set) {
      Positions survivors(clients - set);
      std::vector<Digest> leaves;
      for (uint32_t i = 0; i < survivors.size(); ++i) {
        survivors[i] = i;
        ContributionHeader header = pull.entries[i].header;
        header.sid = sid;
        leaves.push_back(ContributionLeaf(header));
      }
      maps_[set] = EncodeSurvivorMap(survivors, clients);
      quorums_[set].root = crypto::MerkleRoot(leaves);
      const Digest message =
          VoteMessage(sid, {quorums_[set].root, static_cast<uint32_t>(survivors.size())});
      for (uint32_t j = 1; j <= row.corrupt_max; ++j) {
        quorums_[set].votes.emplace_back(
            j, crypto::Ed25519Sign(cohort_.member_identities[j - 1].Reveal(), message));
      }
    }
    Vote(row, honest_with_client);
    Open(row, honest_with_client);
  }

  const Opened& opened() const { return opened_; }

 private:
  void Vote(const CommitteeRow& row, uint32_t honest_with_client) {
    for (uint32_t j = row.corrupt_max + 1; j <= row.members; ++j) {
      const size_t set = j <= row.corrupt_max + honest_with_client ? 0 : 1;
      const Result<Bytes> vote = cohort_.committee[j - 1]->Answer(maps_[set]);
      ASSERT_THAT(vote, IsOk());
      auto& [member, signature] = quorums_[set].votes.emplace_back();
      member = j;
      std::copy(vote->begin(), vote->end(), signature.begin());
    }
  }

  void Open(const CommitteeRow& row, uint32_t honest_with_client) {
    opened_ = {.packing = row.packing,
               .threshold = row.threshold(),
               .colluders = Range(1, row.corrupt_max),
               .with_client = {},
               .without_client = {}};
    for (Quorum& quorum : quorums_) {
      // Votes of nobody stand in for those that are missing.
      uint32_t next = row.members;
      while (quorum.votes.size() < row.quorum) {
        quorum.votes.emplace_back(next--, quorum.votes[0].second);
      }
      std::sort(quorum.votes.begin(), quorum.votes.end());
      quorum.votes.resize(row.quorum);
    }
    for (uint32_t j = row.corrupt_max + 1; j <= row.members; ++j) {
      const size_t set = j <= row.corrupt_max + honest_with_client ? 0 : 1;
      if (!cohort_.committee[j - 1]->Answer(Encode(quorums_[set])).ok()) continue;
      (set == 0 ? opened_.with_client : opened_.without_client).push_back(j);
    }
  }

  Cohort cohort_;
  Bytes maps_[2];
  Quorum quorums_[2];
  Opened opened_;
};

CohortShape LargeCommittee() {
  CohortShape shape;
  shape.protocol = Protocol::kOneShot;
  shape.clients = 4;
  shape.members = 128;
  shape.gamma_members_ppm = shape.delta_members_ppm = 100'000;
  return shape;
}

TEST(OneShotEquivocation, T7WithTheCertificateNobodyOpensHalfASplit) {
  const Equivocator equivocator(43, LargeCommittee());
  EXPECT_TRUE(equivocator.opened().with_client.empty());
  EXPECT_TRUE(equivocator.opened().without_client.empty());
  EXPECT_EQ(LeakedCoefficients(equivocator.opened()), 0U);
  EXPECT_EQ(LeakWithoutCertificate(128, 42, 74, 32), 32U) << "the same split without it";
}

// With the fewest votes that certify a set, its members open it, nobody opens the other, and what
// is learned is one sum.
TEST(OneShotEquivocation, T7WithTheCertificateOneSetIsOpenedAndTheOtherIsNot) {
  const Equivocator equivocator(44, LargeCommittee());
  EXPECT_EQ(equivocator.opened().with_client.size(), 44U);
  EXPECT_TRUE(equivocator.opened().without_client.empty());
  EXPECT_EQ(LeakedCoefficients(equivocator.opened()), 0U);
}

}  // namespace
}  // namespace chorus::aggregation
