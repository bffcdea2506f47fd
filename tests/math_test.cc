// Ring vectors, packing and secret sharing; fixed point and clipping are in fixed_point_test.cc.
#include "math/math.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <set>
#include <vector>

#include "base/hex.h"
#include "base/limits.h"
#include "matchers.h"
#include "test_rng.h"

namespace chorus::math {
namespace {

// Yields the given words, then zeros.
class ScriptedRng final : public Rng {
 public:
  explicit ScriptedRng(std::vector<uint64_t> words) : words_(std::move(words)) {}
  void Fill(std::span<uint8_t> out) override {
    for (size_t i = 0; i < out.size(); ++i, ++next_) {
      const size_t word = next_ / 8;
      const uint64_t value = word < words_.size() ? words_[word] : 0;
      out[i] = static_cast<uint8_t>(value >> (next_ % 8 * 8));
    }
  }

 private:
  std::vector<uint64_t> words_;
  size_t next_ = 0;
};

uint64_t LowBits(uint64_t value, int bits) { return bits == 64 ? value : value % (1ULL << bits); }

uint64_t UnsignedAt(const RingVector& vector, uint64_t index) {
  return std::visit([index](const auto& words) -> uint64_t { return words[index]; }, vector);
}

// Words with arbitrary bits, also above those that count.
RingVector RandomVector(uint64_t dim, int bits, TestRng& rng) {
  RingVector vector = ZeroVector(dim, bits);
  for (uint64_t i = 0; i < dim; ++i) SetSigned(vector, i, static_cast<int64_t>(rng.Word()));
  return vector;
}

// Specification 3.4, one bit at a time.
Bytes ReferencePack(const RingVector& vector, int bits) {
  const uint64_t dim = DimOf(vector);
  Bytes packed((dim * static_cast<uint64_t>(bits) + 7) / 8);
  uint64_t position = 0;
  for (uint64_t j = 0; j < dim; ++j) {
    for (int bit = 0; bit < bits; ++bit, ++position) {
      const uint64_t value = UnsignedAt(vector, j) >> bit & 1U;
      packed[position / 8] = static_cast<uint8_t>(packed[position / 8] | value << position % 8);
    }
  }
  return packed;
}

constexpr uint64_t kDims[] = {1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 127, 200, 1001};

// --- ring ---

TEST(Ring, PacksTheKnownAnswerOfTheSpecification) {
  const RingVector vector = std::vector<uint32_t>{1, (1U << 21U) - 1, 0, 1'048'576};
  EXPECT_EQ(ToHex(Pack(vector, 21)), "0100e0ffff030000000008");
}

TEST(Ring, ChoosesTheSmallestWordThatHoldsTheBits) {
  for (int bits = 1; bits <= 64; ++bits) {
    const int bytes = WordBytesFor(bits);
    EXPECT_GE(8 * bytes, bits);
    EXPECT_TRUE(bytes == 2 || 4 * bytes < bits) << bits;
    EXPECT_EQ(ZeroVector(3, bits).index(), bytes == 2 ? 0U : bytes == 4 ? 1U : 2U);
  }
  EXPECT_EQ(DimOf(ZeroVector(77, 40)), 77U);
}

TEST(Ring, PacksAsTheBitwiseReferenceAndUnpacksAgain) {
  for (int bits = 1; bits <= 64; ++bits) {
    for (const uint64_t dim : kDims) {
      SCOPED_TRACE(testing::Message() << "bits " << bits << " dim " << dim);
      TestRng rng(static_cast<uint64_t>(bits) * 10'000 + dim);
      RingVector vector = RandomVector(dim, bits, rng);
      const Bytes packed = Pack(vector, bits);
      Bytes in_place(packed.size(), 0xff);
      PackInto(vector, bits, in_place);
      ASSERT_EQ(in_place, packed);
      ASSERT_EQ(packed.size(), PackedBytes(dim, bits));
      ASSERT_EQ(packed, ReferencePack(vector, bits));
      RingVector unpacked = ZeroVector(dim, bits);
      ASSERT_THAT(AddPacked(unpacked, packed, bits), IsOk());
      ReduceBits(vector, bits);
      ASSERT_EQ(unpacked, vector);
    }
  }
}

TEST(Ring, AddsPackedVectorsWordByWordWithWrapping) {
  for (int bits = 1; bits <= 64; ++bits) {
    for (const uint64_t dim : kDims) {
      SCOPED_TRACE(testing::Message() << "bits " << bits << " dim " << dim);
      TestRng rng(static_cast<uint64_t>(bits) * 20'000 + dim);
      RingVector sum = RandomVector(dim, bits, rng);
      const RingVector before = sum;
      const RingVector vector = RandomVector(dim, bits, rng);
      ASSERT_THAT(AddPacked(sum, Pack(vector, bits), bits), IsOk());
      RingVector expected = before;
      for (uint64_t i = 0; i < dim; ++i) {
        const uint64_t added = UnsignedAt(before, i) + LowBits(UnsignedAt(vector, i), bits);
        SetSigned(expected, i, static_cast<int64_t>(added));
      }
      ASSERT_EQ(sum, expected);
    }
  }
}

TEST(Ring, AddsAPackedVectorWhereverItIsCut) {
  for (int bits = 1; bits <= 64; ++bits) {
    for (const uint64_t dim : kDims) {
      SCOPED_TRACE(testing::Message() << "bits " << bits << " dim " << dim);
      TestRng rng(static_cast<uint64_t>(bits) * 30'000 + dim);
      const RingVector before = RandomVector(dim, bits, rng);
      const Bytes packed = Pack(RandomVector(dim, bits, rng), bits);
      RingVector expected = before;
      ASSERT_THAT(AddPacked(expected, packed, bits), IsOk());
      for (const size_t longest : {1, 3, 50, 1'000}) {
        std::vector<BytesView> pieces;
        for (BytesView rest = packed; !rest.empty(); rest = rest.subspan(pieces.back().size())) {
          pieces.push_back(rest.first(std::min(rest.size(), UniformBelow(rng, longest + 1))));
        }
        RingVector sum = before;
        ASSERT_THAT(AddPackedPieces(sum, pieces, bits), IsOk());
        ASSERT_EQ(sum, expected) << "pieces of up to " << longest;
      }
    }
  }
}

TEST(Ring, RefusesPadBitsThatAreNotZeroAndKeepsTheSum) {
  for (int bits = 1; bits <= 64; ++bits) {
    for (const uint64_t dim : kDims) {
      const uint64_t used = dim * static_cast<uint64_t>(bits);
      TestRng rng(used);
      RingVector sum = RandomVector(dim, bits, rng);
      const RingVector before = sum;
      const Bytes packed = Pack(RandomVector(dim, bits, rng), bits);
      for (uint64_t bit = used; bit < packed.size() * 8; ++bit) {
        Bytes changed = packed;
        changed.back() = static_cast<uint8_t>(changed.back() | 1U << bit % 8);
        ASSERT_THAT(AddPacked(sum, changed, bits), HasCodeAndText(Code::kInvalidArgument, "pad"));
        ASSERT_EQ(sum, before);
      }
    }
  }
}

TEST(Ring, RefusesLengthsAndWidthsThatDoNotFit) {
  TestRng rng(1);
  for (const int bits : {1, 12, 16, 21, 32, 33, 60, 64}) {
    RingVector sum = RandomVector(17, bits, rng);
    const RingVector before = sum;
    const uint64_t right = PackedBytes(17, bits);
    for (const uint64_t wrong : {uint64_t{0}, right - 1, right + 1, right * 2}) {
      EXPECT_THAT(AddPacked(sum, Bytes(wrong), bits),
                  HasCodeAndText(Code::kInvalidArgument, "length"));
    }
    for (const int wrong : {-1, 0, 8 * WordBytesFor(bits) + 1, 65}) {
      EXPECT_THAT(AddPacked(sum, Bytes(right), wrong), HasCode(Code::kInvalidArgument));
    }
    EXPECT_EQ(sum, before);
  }
  RingVector nothing = ZeroVector(0, 21);
  EXPECT_THAT(AddPacked(nothing, {}, 21), IsOk());
  EXPECT_TRUE(Pack(nothing, 21).empty());
  Bytes room(7, 0xee);  // a byte short
  PackInto(ZeroVector(3, 21), 21, room);
  EXPECT_EQ(room, Bytes(7, 0xee));
}

TEST(Ring, MeasuresTheLargestVectorsWithoutOverflow) {
  EXPECT_EQ(PackedBytes(limits::kDimMax, 64), limits::kDimMax * 8);
  EXPECT_EQ(PackedBytes((uint64_t{1} << 60U) + 1, 63), (uint64_t{1} << 57U) * 63 + 8);
  EXPECT_EQ(PackedBytes(3, 21), 8U);
  EXPECT_EQ(PackedBytes(0, 21), 0U);
}

TEST(Ring, ReadsAndWritesTwosComplement) {
  for (int bits = 2; bits <= 64; ++bits) {
    const auto top = static_cast<int64_t>((uint64_t{1} << (bits - 1)) - 1);
    RingVector vector = ZeroVector(4, bits);
    const std::array<int64_t, 4> values = {top, -top - 1, -1, 0};
    for (uint64_t i = 0; i < 4; ++i) SetSigned(vector, i, values[i]);
    RingVector reduced = vector;
    ReduceBits(reduced, bits);
    for (uint64_t i = 0; i < 4; ++i) {
      EXPECT_EQ(SignedAt(vector, i, bits), values[i]) << bits;
      EXPECT_EQ(SignedAt(reduced, i, bits), values[i]) << bits;
      EXPECT_EQ(UnsignedAt(reduced, i), LowBits(static_cast<uint64_t>(values[i]), bits)) << bits;
    }
  }
}

TEST(Ring, WipesToZeros) {
  TestRng rng(3);
  for (const int bits : {16, 32, 64}) {
    RingVector vector = RandomVector(50, bits, rng);
    WipeVector(vector);
    EXPECT_EQ(vector, ZeroVector(50, bits));
  }
}

// --- the field ---

// Values with arbitrary bits, and those at the edges.
std::vector<uint64_t> FieldSamples(uint64_t seed) {
  TestRng rng(seed);
  std::vector<uint64_t> samples = {0, 1, 2, kPrime - 1, kPrime - 2, kPrime / 2, kPrime / 2 + 1};
  for (int i = 0; i < 8; ++i) samples.push_back(UniformBelow(rng, kPrime));
  return samples;
}

uint64_t Slow(unsigned __int128 value) { return static_cast<uint64_t>(value % kPrime); }

TEST(Field, AgreesWithLongDivision) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    const std::vector<uint64_t> samples = FieldSamples(seed);
    for (const uint64_t a : samples) {
      for (const uint64_t b : samples) {
        const unsigned __int128 wide = a;
        ASSERT_EQ(FieldAdd(a, b), Slow(wide + b)) << a << " " << b;
        ASSERT_EQ(FieldSubtract(a, b), Slow(wide + kPrime - b)) << a << " " << b;
        ASSERT_EQ(FieldMultiply(a, b), Slow(wide * b)) << a << " " << b;
      }
    }
  }
}

TEST(Field, InvertsEverythingButZero) {
  EXPECT_EQ(FieldInverse(0), 0U);
  EXPECT_EQ(FieldInverse(1), 1U);
  EXPECT_EQ(FieldInverse(kPrime - 1), kPrime - 1);
  EXPECT_EQ(FieldInverse(2), uint64_t{1} << 60U);
  for (uint64_t seed = 0; seed < 200; ++seed) {
    for (const uint64_t a : FieldSamples(seed)) {
      ASSERT_EQ(FieldMultiply(a, FieldInverse(a)), a == 0 ? 0U : 1U) << a;
    }
  }
}

// --- sharing ---

Bytes CountingSecret() {
  Bytes secret(kSharedSecretBytes);
  for (size_t i = 0; i < secret.size(); ++i) secret[i] = static_cast<uint8_t>(i);
  return secret;
}

Bytes RandomBytes(size_t size, TestRng& rng) {
  Bytes bytes(size);
  rng.Fill(bytes);
  return bytes;
}

// Opens from `shares` whatever their number.
Result<SecretBytes> Open(const std::vector<Share>& shares) {
  std::vector<uint32_t> xs;
  for (const Share& share : shares) xs.push_back(share.x);
  return OpenSecret(shares, LagrangeAtZero(xs));
}

bool Opens(const std::vector<Share>& shares, const Bytes& secret) {
  const Result<SecretBytes> opened = Open(shares);
  return opened.ok() && std::ranges::equal(opened->Reveal(), secret);
}

TEST(Shamir, GivesTheKnownSharesOfTheSpecification) {
  // Section 3.14: coefficient j of limb c is the first eight bytes, little-endian and modulo the
  // prime, of SHA-256("CHORUS1-KAT/coef" || c || j).
  std::vector<std::vector<uint64_t>> coefficients(kLimbs);
  for (uint8_t limb = 0; limb < kLimbs; ++limb) {
    for (uint8_t j = 1; j <= 2; ++j) {
      Bytes message(ViewOf("CHORUS1-KAT/coef").begin(), ViewOf("CHORUS1-KAT/coef").end());
      message.insert(message.end(), {limb, j});
      const Digest digest = crypto::Sha256(message);
      uint64_t value = 0;
      std::memcpy(&value, digest.data(), sizeof(value));
      coefficients[limb].push_back(value % kPrime);
    }
  }
  const Polynomial polynomial(CountingSecret(), coefficients);
  const std::vector<std::pair<uint32_t, const char*>> known = {
      {1, "547b16464ea88a10274bd5808c7e4b03b459226eb3c7c302bda454a046a70a1af0494924dd2b2404"},
      {2, "c18b5b18eda2c01da1f86d76ca72fb0a1f28a59d7433000e0b62df117da373176e719a4becb1b717"},
      {3, "4832d179e0f4a7077510d3eac4e81c17507a989f5556c901fe4db76cbc0e5618979311952d92ba1a"},
      {1'000, "c76441efe5502c1dd27996c1802c3a1bfcb11648a5a7381eb3ac4c988093ee1d1792a59f39ead214"},
      {100'000,
       "78da3a3828cca11ee3edbe601b562711d784b833fd7e4e032c8deb64f60a1707e7a49dc62505ec0e"}};
  std::vector<Share> shares;
  for (const auto& [x, hex] : known) {
    shares.push_back(polynomial.At(x));
    EXPECT_EQ(ToHex(ShareBytes(shares.back())), hex) << x;
  }
  EXPECT_TRUE(Opens({shares[0], shares[2], shares[4]}, CountingSecret()));
  EXPECT_TRUE(Opens({shares[1], shares[3], shares[2]}, CountingSecret()));
}

TEST(Shamir, OpensFromEverySetOfThresholdSharesAndNoSmallerOne) {
  // A smaller set gives either kDataLoss or, with a chance below 2^-49, bytes: never the secret.
  for (uint64_t seed = 0; seed < 20; ++seed) {
    for (uint32_t threshold = 1; threshold <= 6; ++threshold) {
      SCOPED_TRACE(testing::Message() << "seed " << seed << " threshold " << threshold);
      TestRng rng(seed);
      const Bytes secret = RandomBytes(kSharedSecretBytes, rng);
      const Polynomial polynomial(secret, {.threshold = threshold}, rng);
      for (uint32_t set = 1; set < 1U << 6U; ++set) {
        std::vector<Share> shares;
        for (uint32_t holder = 0; holder < 6; ++holder) {
          if ((set >> holder & 1U) != 0) shares.push_back(polynomial.At(holder * holder * 999 + 1));
        }
        ASSERT_EQ(Opens(shares, secret), shares.size() >= threshold) << set;
      }
    }
  }
}

TEST(Shamir, OpensLargeSetsInAnyOrder) {
  TestRng rng(1);
  const Bytes secret = RandomBytes(kSharedSecretBytes, rng);
  const Polynomial polynomial(secret, {.threshold = 66}, rng);
  std::vector<Share> shares;
  for (uint32_t x = 128; x > 62; --x) shares.push_back(polynomial.At(x));
  EXPECT_TRUE(Opens(shares, secret));
  std::rotate(shares.begin(), shares.begin() + 17, shares.end());
  EXPECT_TRUE(Opens(shares, secret));
  shares.back() = polynomial.At(UINT32_MAX);
  EXPECT_TRUE(Opens(shares, secret));
}

// The higher coefficients that make `secret` agree with two shares of a threshold of three: by
// limb, y = s + a x + b x^2 at both points.
std::vector<std::vector<uint64_t>> Explain(const Bytes& secret, const Share& p, const Share& q) {
  const Share limbs = Polynomial(secret, std::vector<std::vector<uint64_t>>(kLimbs)).At(1);
  std::vector<std::vector<uint64_t>> coefficients;
  for (size_t limb = 0; limb < kLimbs; ++limb) {
    const auto slope = [&](const Share& share) {
      return FieldMultiply(FieldSubtract(share.y[limb], limbs.y[limb]), FieldInverse(share.x));
    };
    const uint64_t b =
        FieldMultiply(FieldSubtract(slope(p), slope(q)), FieldInverse(FieldSubtract(p.x, q.x)));
    coefficients.push_back({FieldSubtract(slope(p), FieldMultiply(b, p.x)), b});
  }
  return coefficients;
}

// Any polynomial of lower degree than there are points is what they say it is at zero; the powers
// of X are enough to try.
TEST(Shamir, LagrangeCoefficientsTakeEveryPowerToItsValueAtZero) {
  TestRng rng(41);
  for (const size_t count : {1, 2, 3, 17, 60}) {
    std::set<uint32_t> distinct;
    while (distinct.size() < count) {
      distinct.insert(static_cast<uint32_t>(1 + UniformBelow(rng, UINT32_MAX)));
    }
    const std::vector<uint32_t> xs(distinct.begin(), distinct.end());
    const std::vector<uint64_t> lagrange = LagrangeAtZero(xs);
    ASSERT_EQ(lagrange.size(), count);
    std::vector<uint64_t> powers(count, 1);
    for (size_t degree = 0; degree < count; ++degree) {
      uint64_t at_zero = 0;
      for (size_t i = 0; i < count; ++i) {
        at_zero = FieldAdd(at_zero, FieldMultiply(lagrange[i], powers[i]));
        powers[i] = FieldMultiply(powers[i], xs[i]);
      }
      EXPECT_EQ(at_zero, degree == 0 ? 1U : 0U) << count << " points, degree " << degree;
    }
  }
  EXPECT_TRUE(LagrangeAtZero({}).empty());
}

TEST(Shamir, SaysNothingBelowTheThreshold) {
  // For every other secret there are coefficients that give the same two shares, and exactly one
  // set of them: as coefficients are uniform, all secrets are equally likely.
  for (uint64_t seed = 0; seed < 100; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    TestRng rng(seed);
    const Bytes secret = RandomBytes(kSharedSecretBytes, rng);
    const Bytes other = RandomBytes(kSharedSecretBytes, rng);
    const Polynomial polynomial(secret, {.threshold = 3}, rng);
    for (uint32_t x = 1; x <= 5; ++x) {
      const Share p = polynomial.At(x);
      const Share q = polynomial.At(x + 1);
      const Polynomial explained(other, Explain(other, p, q));
      ASSERT_EQ(explained.At(x).y, p.y);
      ASSERT_EQ(explained.At(x + 1).y, q.y);
      ASSERT_TRUE(Opens({p, q, explained.At(77)}, other));
      ASSERT_TRUE(Opens({p, q, polynomial.At(77)}, secret));
    }
  }
}

TEST(Shamir, DrawsCoefficientsLimbByLimbAndRejectsThePrime) {
  // Threshold 3 takes two words a limb, of which the top three bits do not count. A word that is
  // the prime is replaced by the next ones drawn, after its limb's.
  const uint64_t top = uint64_t{7} << 61U;
  ScriptedRng rng({11, 12 | top, kPrime, 22, kPrime | top, 21, 31, 32, 41, 42, 51, 52});
  const Polynomial drawn(CountingSecret(), {.threshold = 3}, rng);
  const std::vector<std::vector<uint64_t>> expected = {
      {11, 12}, {21, 22}, {31, 32}, {41, 42}, {51, 52}};
  const Polynomial given(CountingSecret(), expected);
  for (const uint32_t x : {1U, 2U, 1'000U, UINT32_MAX}) EXPECT_EQ(drawn.At(x).y, given.At(x).y);
}

TEST(Shamir, TreatsTheEdgesOfItsSpecification) {
  TestRng rng(2);
  const Bytes secret = RandomBytes(kSharedSecretBytes, rng);
  const Polynomial alone(secret, {.threshold = 1}, rng);
  EXPECT_EQ(alone.At(1).y, alone.At(9).y);  // anyone's share is the secret
  EXPECT_TRUE(Opens({alone.At(9)}, secret));
  const std::array<uint64_t, kLimbs> zeros{};
  EXPECT_EQ(alone.At(0).y, zeros);  // nobody stands at zero, where the secret is
  EXPECT_EQ(Polynomial(secret, {.threshold = 0}, rng).At(1).y, zeros);
  EXPECT_EQ(Polynomial(Bytes(31), {.threshold = 2}, rng).At(1).y, zeros);
  EXPECT_EQ(Polynomial(secret, std::vector<std::vector<uint64_t>>(4, {1})).At(1).y, zeros);
  EXPECT_EQ(Polynomial(secret, std::vector<std::vector<uint64_t>>{{1}, {1}, {1}, {1}, {}}).At(1).y,
            zeros);
  const Bytes ones(kSharedSecretBytes, 0xff);
  const Polynomial largest(ones, {.threshold = 2}, rng);
  EXPECT_TRUE(Opens({largest.At(3), largest.At(UINT32_MAX)}, ones));
}

TEST(Shamir, CatchesSharesThatWereChanged) {
  // A changed share moves a limb to a place that is uniform for the forger, who does not know the
  // others' Lagrange-weighted sum; here single flips in each limb, all caught with this seed.
  TestRng rng(3);
  const Bytes secret = RandomBytes(kSharedSecretBytes, rng);
  const Polynomial polynomial(secret, {.threshold = 3}, rng);
  for (size_t limb = 0; limb < kLimbs; ++limb) {
    for (uint64_t bit = 0; bit < 60; ++bit) {
      std::vector<Share> shares = {polynomial.At(5), polynomial.At(17), polynomial.At(6)};
      shares[1].y[limb] = (shares[1].y[limb] ^ uint64_t{1} << bit) % kPrime;
      EXPECT_THAT(Open(shares), HasCode(Code::kDataLoss)) << limb << " " << bit;
    }
  }
  const std::vector<Share> shares = {polynomial.At(5), polynomial.At(17), polynomial.At(6)};
  EXPECT_THAT(OpenSecret(shares, LagrangeAtZero(std::vector<uint32_t>{5, 17})),
              HasCode(Code::kInvalidArgument));
  EXPECT_THAT(OpenSecret({}, {}), HasCode(Code::kInvalidArgument));
}

TEST(Shamir, ReadsWhatItWroteAndRefusesTheRest) {
  Share share{.x = 4, .y = {0, 1, kPrime - 1, 12'345, uint64_t{1} << 60U}};
  const Bytes bytes = ShareBytes(share);
  const Result<Share> read = ReadShare(4, bytes);
  ASSERT_THAT(read, IsOk());
  EXPECT_EQ(read->x, 4U);
  EXPECT_EQ(read->y, share.y);
  EXPECT_THAT(ReadShare(0, bytes), HasCode(Code::kInvalidArgument));
  for (const size_t size : {0U, 1U, 39U, 41U, 80U}) {
    EXPECT_THAT(ReadShare(4, Bytes(size)), HasCode(Code::kInvalidArgument)) << size;
  }
  for (size_t limb = 0; limb < kLimbs; ++limb) {
    for (const uint64_t bad : {kPrime, kPrime + 1, uint64_t{1} << 63U, UINT64_MAX}) {
      Share wrong = share;
      wrong.y[limb] = bad;
      EXPECT_THAT(ReadShare(4, ShareBytes(wrong)), HasCodeAndText(Code::kInvalidArgument, "prime"));
    }
  }
}

}  // namespace
}  // namespace chorus::math
