// Packed Shamir sharing: known answers of an independent implementation [specification 3.14], the
// laws, lying members, refusals.
#include "math/packed_shamir.h"

#include <algorithm>
#include <numeric>
#include <string>
#include <vector>

#include "base/codec.h"
#include "base/hex.h"
#include "crypto/crypto.h"
#include "matchers.h"
#include "math/math.h"
#include "math/reed_solomon.h"
#include "math/rlwe.h"
#include "test_rng.h"

namespace chorus::math {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

// The committees of specification 2.2.3, and its helper servers.
constexpr PackedSpec kSpecs[] = {
    {.members = 64, .privacy = 15, .packing = 16},  {.members = 64, .privacy = 28, .packing = 16},
    {.members = 96, .privacy = 36, .packing = 32},  {.members = 128, .privacy = 42, .packing = 32},
    {.members = 192, .privacy = 54, .packing = 64}, {.members = 256, .privacy = 66, .packing = 64},
    {.members = 4, .privacy = 1, .packing = 2},     {.members = 7, .privacy = 2, .packing = 2},
};
constexpr size_t kElements = 256;

std::vector<uint64_t> RandomElements(size_t count, TestRng& rng) {
  std::vector<uint64_t> elements(count);
  for (uint64_t& element : elements) element = UniformBelow(rng, kPrime);
  elements.front() = 0;
  elements.back() = kPrime - 1;
  return elements;
}

// `count` of the members of a committee, in any order.
std::vector<uint32_t> SomeMembers(const PackedSpec& spec, size_t count, TestRng& rng) {
  std::vector<uint32_t> members(spec.members);
  std::iota(members.begin(), members.end(), 1U);
  for (size_t i = 0; i < count; ++i) {
    std::swap(members[i], members[i + UniformBelow(rng, members.size() - i)]);
  }
  members.resize(count);
  return members;
}

// A dealing, and the shares of some members, which a test may change.
class Dealing {
 public:
  Dealing(const PackedSpec& spec, uint64_t seed) : spec_(spec), rng_(seed) {
    elements_ = RandomElements(kElements, rng_);
    const Result<PackedDealer> dealer = PackedDealer::For(spec);
    EXPECT_THAT(dealer, IsOk());
    const Result<PackedShares> shares = dealer->Deal(elements_, rng_);
    EXPECT_THAT(shares, IsOk());
    for (uint32_t member = 1; member <= spec.members; ++member) {
      values_.emplace_back(shares->Of(member).begin(), shares->Of(member).end());
    }
  }

  size_t blocks() const { return kElements / spec_.packing; }
  const std::vector<uint64_t>& elements() const { return elements_; }
  TestRng& rng() { return rng_; }
  std::vector<uint64_t>& ValuesOf(uint32_t member) { return values_[member - 1]; }

  Result<OpenedElements> Open(const std::vector<uint32_t>& members) const {
    std::vector<MemberShare> shares;
    for (const uint32_t member : members) shares.push_back({member, values_[member - 1]});
    return OpenPacked(spec_, blocks(), shares);
  }

 private:
  PackedSpec spec_;
  TestRng rng_;
  std::vector<uint64_t> elements_;
  std::vector<std::vector<uint64_t>> values_;
};

// --- known answers [specification 3.14] ------------------------------------------------------

Digest Det(std::string_view tag, uint32_t i) {
  Writer text;
  text.Raw("CHORUS1-KAT/").Raw(tag).U32(i);
  return crypto::Sha256(text.view());
}

// The values at x = 1 .. c of a client's blocks: LE64 of tag osa-r, modulo the prime.
class KnownUniform final : public Rng {
 public:
  explicit KnownUniform(uint32_t first) : next_(first) {}
  void Fill(std::span<uint8_t> out) override {
    ASSERT_EQ(out.size() % 8, 0U);
    for (size_t i = 0; i < out.size(); i += 8) {
      const Digest digest = Det("osa-r", next_++);
      const uint64_t value = Reader(digest).U64Little() % kPrime;
      for (size_t j = 0; j < 8; ++j) out[i + j] = static_cast<uint8_t>(value >> (8 * j));
    }
  }

 private:
  uint32_t next_;
};

TEST(PackedKnownAnswers, ASessionOfFiveClientsAndSevenMembers) {
  const Bytes sid = *FromHex("f9b54a97d69de1467ac642be07dc9c3b0831f00a4cb98dd944722f869aa9869e");
  const RlweRing ring(RlweSet::kOsa4096);
  const PackedSpec spec{.members = 7, .privacy = 2, .packing = 2};
  const Result<PackedDealer> dealer = PackedDealer::For(spec);
  ASSERT_THAT(dealer, IsOk());
  std::vector<std::vector<uint64_t>> sums(7, std::vector<uint64_t>(1'024));
  std::vector<int32_t> secret_sum(4'096);
  for (const uint32_t i : {0U, 3U, 1U, 2U}) {
    const SecretBytes extracted = crypto::HkdfExtract(sid, Det("osa", i));
    const SecretBytes key =
        crypto::HkdfExpand(extracted.Reveal(), ViewOf("CHORUS1-OSA/secret"), crypto::kKeyBytes);
    const SecretNumbers<int32_t> secret = SampleSecret(ring, *crypto::NewSeededRng(key.Reveal()));
    const SecretNumbers<uint64_t> elements = PairCoefficients(secret.Reveal());
    KnownUniform uniform(i * 1'024 * 2);
    const Result<PackedShares> shares = dealer->Deal(elements.Reveal(), uniform);
    ASSERT_THAT(shares, IsOk());
    if (i == 0) {
      EXPECT_THAT(elements.Reveal().first(2), ElementsAre(2147483650, 4294967293));
      std::vector<uint64_t> first_block;
      for (uint32_t member = 1; member <= 7; ++member) {
        first_block.push_back(shares->Of(member)[0]);
      }
      EXPECT_THAT(first_block,
                  ElementsAre(929894988320676378, 2163684048523781197, 1038172855774585350,
                              11151455227997012, 1540409892038924358, 1166209183721193710,
                              1346339375429713243));
      const BytesView third = shares->BytesOf(3);
      EXPECT_EQ(third.size(), 8'192U);
      EXPECT_EQ(ToHex(third.first(16)), "06a2e53bb654680e63a876ff744d3811");
      EXPECT_EQ(ToHex(crypto::Sha256(third)),
                "d3fcf634f2bef5c7e0c687cb8fcae5cdf59eabe436c829379b6c13bc782d0448");
    }
    for (uint32_t member = 1; member <= 7; ++member) {
      ASSERT_THAT(AddPackedShare(sums[member - 1], shares->BytesOf(member)), IsOk());
    }
    for (size_t k = 0; k < secret_sum.size(); ++k) secret_sum[k] += secret.Reveal()[k];
  }
  EXPECT_THAT(std::span(sums[0]).first(2), ElementsAre(904985828732034272, 655252276645159813));
  const std::vector<MemberShare> answers = {{2, sums[1]}, {4, sums[3]}, {5, sums[4]}, {7, sums[6]}};
  const Result<OpenedElements> opened = OpenPacked(spec, 1'024, answers);
  ASSERT_THAT(opened, IsOk());
  EXPECT_THAT(UnpairCoefficients(opened->elements, 4 * 42), HoldsValue(secret_sum));
}

// --- laws ------------------------------------------------------------------------------------

TEST(PackedSharing, AnyThresholdOfMembersOpensAndOneFewerDoesNot) {
  for (const PackedSpec& spec : kSpecs) {
    Dealing dealing(spec, spec.members);
    for (int trial = 0; trial < 3; ++trial) {
      const std::vector<uint32_t> members = SomeMembers(spec, spec.threshold(), dealing.rng());
      const Result<OpenedElements> opened = dealing.Open(members);
      ASSERT_THAT(opened, IsOk());
      EXPECT_EQ(opened->elements, dealing.elements());
      EXPECT_THAT(opened->wrong, IsEmpty());
    }
    EXPECT_THAT(dealing.Open(SomeMembers(spec, spec.threshold() - 1, dealing.rng())),
                HasCode(Code::kInvalidArgument));
  }
}

TEST(PackedSharing, AllMembersTogetherOpen) {
  for (const PackedSpec& spec : kSpecs) {
    Dealing dealing(spec, spec.members);
    const Result<OpenedElements> opened =
        dealing.Open(SomeMembers(spec, spec.members, dealing.rng()));
    ASSERT_THAT(opened, IsOk());
    EXPECT_EQ(opened->elements, dealing.elements());
  }
}

TEST(PackedSharing, SharesOfASumAreSumsOfShares) {
  const PackedSpec& spec = kSpecs[3];
  Dealing one(spec, 1);
  Dealing another(spec, 2);
  std::vector<uint64_t> expected(kElements);
  for (size_t i = 0; i < kElements; ++i) {
    expected[i] = FieldAdd(one.elements()[i], another.elements()[i]);
  }
  for (uint32_t member = 1; member <= spec.members; ++member) {
    const std::vector<uint64_t>& added = another.ValuesOf(member);
    const BytesView wire(reinterpret_cast<const uint8_t*>(added.data()), 8 * added.size());
    ASSERT_THAT(AddPackedShare(one.ValuesOf(member), wire), IsOk());
  }
  const Result<OpenedElements> opened = one.Open(SomeMembers(spec, 100, one.rng()));
  ASSERT_THAT(opened, IsOk());
  EXPECT_EQ(opened->elements, expected);
}

// The rank of rows over the field.
size_t RankOf(std::vector<std::vector<uint64_t>> rows) {
  size_t rank = 0;
  for (size_t column = 0; !rows.empty() && column < rows[0].size(); ++column) {
    const auto pivot = std::find_if(rows.begin() + static_cast<ptrdiff_t>(rank), rows.end(),
                                    [column](const auto& row) { return row[column] != 0; });
    if (pivot == rows.end()) continue;
    std::swap(*pivot, rows[rank]);
    const uint64_t inverse = FieldInverse(rows[rank][column]);
    for (size_t i = rank + 1; i < rows.size(); ++i) {
      const uint64_t factor = FieldMultiply(rows[i][column], inverse);
      for (size_t j = column; j < rows[i].size(); ++j) {
        rows[i][j] = FieldSubtract(rows[i][j], FieldMultiply(factor, rows[rank][j]));
      }
    }
    ++rank;
  }
  return rank;
}

// What the uniform values do to the shares of `privacy` members is one to one, so that these shares
// are uniform whatever the elements are.
TEST(PackedSharing, AsManySharesAsPrivacyAllowsAreUniform) {
  for (const PackedSpec& spec : kSpecs) {
    TestRng rng(spec.members);
    std::vector<uint64_t> points;
    for (uint32_t i = 0; i < spec.packing; ++i) points.push_back(kPrime - 1 - i);
    for (uint32_t x = 1; x <= spec.privacy; ++x) points.push_back(x);
    const LagrangeBasis basis(points);
    for (int trial = 0; trial < 3; ++trial) {
      std::vector<std::vector<uint64_t>> rows;
      for (const uint32_t member : SomeMembers(spec, spec.privacy, rng)) {
        std::vector<uint64_t> row(spec.threshold());
        if (member <= spec.privacy) {
          row[spec.packing + member - 1] = 1;
        } else {
          row = basis.At(member);
        }
        row.erase(row.begin(), row.begin() + spec.packing);
        rows.push_back(row);
      }
      EXPECT_EQ(RankOf(rows), spec.privacy);
    }
  }
}

TEST(PackedSharing, DrawsAgainWhenTheStreamGivesThePrime) {
  class Script final : public Rng {
   public:
    void Fill(std::span<uint8_t> out) override {
      for (uint8_t& byte : out) byte = drawn_++ < 8 ? 0xff : 0x05;
    }

   private:
    int drawn_ = 0;
  };
  const PackedSpec spec{.members = 4, .privacy = 1, .packing = 2};
  const Result<PackedDealer> dealer = PackedDealer::For(spec);
  ASSERT_THAT(dealer, IsOk());
  Script script;
  const Result<PackedShares> shares = dealer->Deal(std::vector<uint64_t>{1, 2}, script);
  ASSERT_THAT(shares, IsOk());
  EXPECT_THAT(shares->Of(1), ElementsAre(0x0505050505050505 & kPrime));
}

TEST(DotProduct, IsRightForManyOfTheLargestElements) {
  for (const size_t count : {0, 1, 31, 32, 33, 64, 65, 130, 1'024}) {
    const std::vector<uint64_t> largest(count, kPrime - 1);
    EXPECT_EQ(DotProduct(largest, largest), count);  // (-1)^2 each
    const std::vector<uint64_t> ones(count, 1);
    EXPECT_EQ(DotProduct(largest, ones), FieldSubtract(0, count));
  }
}

// --- lying members ---------------------------------------------------------------------------

// Each lies in blocks of its own, so that no block shows them all.
TEST(PackedSharing, LiarsUpToHalfTheSurplusAreNamed) {
  for (const PackedSpec& spec : kSpecs) {
    for (uint64_t seed = 0; seed < 3; ++seed) {
      Dealing dealing(spec, 100 * spec.members + seed);
      const size_t answers =
          spec.threshold() + UniformBelow(dealing.rng(), spec.members - spec.threshold() + 1);
      const std::vector<uint32_t> members = SomeMembers(spec, answers, dealing.rng());
      const size_t liars = (answers - spec.threshold()) / 2;
      std::vector<uint32_t> wrong(members.begin(), members.begin() + static_cast<ptrdiff_t>(liars));
      for (const uint32_t member : wrong) {
        for (size_t lies = 0; lies < 1 + seed; ++lies) {
          uint64_t& value = dealing.ValuesOf(member)[UniformBelow(dealing.rng(), dealing.blocks())];
          value = FieldAdd(value, 1 + UniformBelow(dealing.rng(), 5));
        }
      }
      std::sort(wrong.begin(), wrong.end());
      const Result<OpenedElements> opened = dealing.Open(members);
      ASSERT_THAT(opened, IsOk()) << "members " << spec.members << ", seed " << seed;
      EXPECT_EQ(opened->elements, dealing.elements());
      EXPECT_EQ(opened->wrong, wrong);
    }
  }
}

TEST(PackedSharing, LiarsThatShareAnotherWordAreNamed) {
  const PackedSpec& spec = kSpecs[3];
  Dealing dealing(spec, 1);
  Dealing another(spec, 2);
  const std::vector<uint32_t> members = SomeMembers(spec, spec.members, dealing.rng());
  const size_t liars = (spec.members - spec.threshold()) / 2;
  std::vector<uint32_t> wrong(members.begin(), members.begin() + static_cast<ptrdiff_t>(liars));
  for (const uint32_t member : wrong) dealing.ValuesOf(member) = another.ValuesOf(member);
  std::sort(wrong.begin(), wrong.end());
  const Result<OpenedElements> opened = dealing.Open(members);
  ASSERT_THAT(opened, IsOk());
  EXPECT_EQ(opened->elements, dealing.elements());
  EXPECT_EQ(opened->wrong, wrong);
}

TEST(PackedSharing, OneLiarTooManyMakesItRefuse) {
  for (const PackedSpec& spec : kSpecs) {
    Dealing dealing(spec, 7);
    const std::vector<uint32_t> members = SomeMembers(spec, spec.members, dealing.rng());
    const size_t liars = (spec.members - spec.threshold()) / 2 + 1;
    for (size_t i = 0; i < liars; ++i) {
      for (uint64_t& value : dealing.ValuesOf(members[i])) {
        value = UniformBelow(dealing.rng(), kPrime);
      }
    }
    EXPECT_THAT(dealing.Open(members), HasCode(Code::kDataLoss)) << spec.members;
  }
}

// One liar too many, of whom no block shows more than one.
TEST(PackedSharing, LiarsThatTakeTurnsAreNotTakenForFewer) {
  const PackedSpec spec{.members = 12, .privacy = 2, .packing = 4};
  Dealing dealing(spec, 8);
  const std::vector<uint32_t> members = SomeMembers(spec, spec.members, dealing.rng());
  for (size_t i = 0; i < 4; ++i) dealing.ValuesOf(members[i])[i] ^= 1U;
  EXPECT_THAT(dealing.Open(members), HasCode(Code::kDataLoss));
}

TEST(PackedSharing, WithoutSurplusALieIsNotSeen) {
  Dealing dealing(kSpecs[7], 9);
  dealing.ValuesOf(1)[0] ^= 1U;
  const Result<OpenedElements> opened = dealing.Open({1, 2, 3, 4});
  ASSERT_THAT(opened, IsOk());  // which is why the result is checked [specification 2.2.4]
  EXPECT_NE(opened->elements, dealing.elements());
  EXPECT_THAT(dealing.Open({1, 2, 3, 4, 5}), HasCode(Code::kDataLoss));
}

// --- refusals --------------------------------------------------------------------------------

TEST(PackedSpecs, AreRefusedByTheNameOfTheirField) {
  const auto refused = [](const PackedSpec& spec, const char* field) {
    EXPECT_THAT(CheckPackedSpec(spec), HasCodeAndText(Code::kInvalidArgument, field));
    EXPECT_THAT(PackedDealer::For(spec), HasCode(Code::kInvalidArgument));
  };
  for (const PackedSpec& spec : kSpecs) EXPECT_THAT(CheckPackedSpec(spec), IsOk());
  refused({.members = 4, .privacy = 0, .packing = 2}, "privacy");
  refused({.members = 4, .privacy = 1, .packing = 0}, "packing");
  refused({.members = 4, .privacy = 3, .packing = 2}, "members");
  refused({.members = 4, .privacy = 2, .packing = UINT32_MAX}, "members");
  refused({.members = 1'025, .privacy = 3, .packing = 2}, "members");
}

TEST(PackedSharing, RefusesElementsThatDoNotFit) {
  const Result<PackedDealer> dealer = PackedDealer::For(kSpecs[7]);
  ASSERT_THAT(dealer, IsOk());
  TestRng rng(1);
  for (const std::vector<uint64_t>& elements :
       {std::vector<uint64_t>{}, std::vector<uint64_t>{1, 2, 3}, std::vector<uint64_t>{1, kPrime},
        std::vector<uint64_t>{UINT64_MAX, 1},
        std::vector<uint64_t>(2 * (size_t{kPackedBlocksMax} + 1))}) {
    EXPECT_THAT(dealer->Deal(elements, rng), HasCode(Code::kInvalidArgument));
  }
  const Result<PackedShares> shares = dealer->Deal(std::vector<uint64_t>{1, 2}, rng);
  ASSERT_THAT(shares, IsOk());
  EXPECT_THAT(shares->Of(0), IsEmpty());
  EXPECT_THAT(shares->Of(8), IsEmpty());
  EXPECT_EQ(shares->BytesOf(7).size(), 8U);
}

TEST(PackedSharing, RefusesSharesThatAreNotOnesOfTheWire) {
  for (const uint64_t element : {kPrime, kPrime + 1, uint64_t{1} << 63U, UINT64_MAX}) {
    const Bytes wire = std::move(Writer().U64Little(4).U64Little(element)).Take();
    std::vector<uint64_t> sum = {1, 2};
    EXPECT_THAT(AddPackedShare(sum, wire), HasCode(Code::kInvalidArgument));
    EXPECT_THAT(sum, ElementsAre(1, 2));
    EXPECT_THAT(ReadPackedShare(2, wire), HasCode(Code::kInvalidArgument));
  }
  const Bytes wire = std::move(Writer().U64Little(4).U64Little(kPrime - 1)).Take();
  EXPECT_THAT(ReadPackedShare(2, wire), HoldsValue(ElementsAre(4, kPrime - 1)));
  EXPECT_THAT(ReadPackedShare(1, wire), HasCode(Code::kInvalidArgument));
  EXPECT_THAT(ReadPackedShare(3, wire), HasCode(Code::kInvalidArgument));
  EXPECT_THAT(ReadPackedShare(2, BytesView(wire).first(15)), HasCode(Code::kInvalidArgument));
  std::vector<uint64_t> sum = {1, 2};
  EXPECT_THAT(AddPackedShare(sum, wire), IsOk());
  EXPECT_THAT(sum, ElementsAre(5, 1));
}

TEST(PackedSharing, RefusesToOpenWhatIsNotAnAnswerEach) {
  const PackedSpec& spec = kSpecs[7];
  Dealing dealing(spec, 1);
  EXPECT_THAT(dealing.Open({1, 2, 3, 3}), HasCodeAndText(Code::kInvalidArgument, "two shares"));
  const std::vector<uint64_t> values(2, 1);
  const auto open = [&](size_t blocks, uint32_t last, const std::vector<uint64_t>& of_last) {
    const std::vector<MemberShare> shares = {
        {1, values}, {2, values}, {3, values}, {last, of_last}};
    return OpenPacked(spec, blocks, shares);
  };
  EXPECT_THAT(open(2, 4, values), IsOk());
  EXPECT_THAT(open(2, 0, values), HasCode(Code::kInvalidArgument));
  EXPECT_THAT(open(2, 8, values), HasCode(Code::kInvalidArgument));
  EXPECT_THAT(open(2, 4, {1}), HasCode(Code::kInvalidArgument));
  EXPECT_THAT(open(2, 4, {1, kPrime}), HasCode(Code::kInvalidArgument));
  EXPECT_THAT(open(0, 4, values), HasCode(Code::kInvalidArgument));
  EXPECT_THAT(open(kPackedBlocksMax + 1, 4, values), HasCode(Code::kInvalidArgument));
}

// --- pairs of coefficients -------------------------------------------------------------------

TEST(PairedCoefficients, SumsOfPairsArePairsOfSums) {
  constexpr int32_t kLargest = 42 * 32'768;
  const std::vector<int32_t> edges = {0, 1, -1, kLargest, -kLargest};
  for (const int32_t low : edges) {
    for (const int32_t high : edges) {
      const std::vector<int32_t> pair = {low, high};
      const SecretNumbers<uint64_t> elements = PairCoefficients(pair);
      EXPECT_LT(elements.Reveal()[0], kPrime);
      EXPECT_THAT(UnpairCoefficients(elements.Reveal(), kLargest), HoldsValue(pair));
      const std::vector<uint64_t> twice = {FieldAdd(elements.Reveal()[0], elements.Reveal()[0])};
      EXPECT_THAT(UnpairCoefficients(twice, 2 * kLargest),
                  HoldsValue(ElementsAre(2 * low, 2 * high)));
    }
  }
}

TEST(PairedCoefficients, SumsBeyondTheBoundAreRefused) {
  for (const std::vector<int32_t>& pair :
       {std::vector<int32_t>{85, 0}, {0, 85}, {-85, 0}, {0, -85}, {(1 << 29) - 1, 0}}) {
    EXPECT_THAT(UnpairCoefficients(PairCoefficients(pair).Reveal(), 84), HasCode(Code::kDataLoss));
  }
  for (const uint64_t element : {kPrime / 2, kPrime / 2 + 1, uint64_t{1} << 29U}) {
    EXPECT_THAT(UnpairCoefficients(std::vector<uint64_t>{element}, (1 << 29) - 1),
                HasCode(Code::kDataLoss));
  }
  EXPECT_THAT(UnpairCoefficients(std::vector<uint64_t>{kPrime}, 84),
              HasCode(Code::kInvalidArgument));
}

}  // namespace
}  // namespace chorus::math
