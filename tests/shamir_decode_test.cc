// Opening secrets although shares are wrong. The laws are checked against a decoder that tries
// every set of holders, and against words made to lie between two secrets.
#include <algorithm>
#include <array>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <new>
#include <numeric>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/limits.h"
#include "matchers.h"
#include "math/math.h"
#include "test_rng.h"

namespace {

// While it is armed, every block that this program frees is searched for the needles.
struct Watch {
  bool armed = false;
  size_t found = 0;
  size_t freed = 0;
  size_t needle_count = 0;
  uint64_t needles[128] = {};
} g_watch;

constexpr size_t kHeader = 16;  // holds a block's size and keeps malloc's alignment

void* Allocate(size_t size) {
  auto* block = static_cast<uint8_t*>(std::malloc(kHeader + size));
  if (block == nullptr) std::abort();
  std::memcpy(block, &size, sizeof(size));
  return block + kHeader;
}

void Release(void* pointer) {
  if (pointer == nullptr) return;
  auto* block = static_cast<uint8_t*>(pointer) - kHeader;
  if (g_watch.armed) {
    size_t size = 0;
    std::memcpy(&size, block, sizeof(size));
    const uint64_t* const begin = g_watch.needles;
    const uint64_t* const end = begin + g_watch.needle_count;
    for (size_t at = 0; at + sizeof(uint64_t) <= size; at += sizeof(uint64_t)) {
      uint64_t word = 0;
      std::memcpy(&word, block + kHeader + at, sizeof(word));
      if (std::find(begin, end, word) != end) ++g_watch.found;
    }
    ++g_watch.freed;
  }
  std::free(block);
}

}  // namespace

void* operator new(size_t size) { return Allocate(size); }
void operator delete(void* pointer) noexcept { Release(pointer); }
void operator delete(void* pointer, size_t) noexcept { Release(pointer); }

namespace chorus::math {
namespace {

using Limbs = std::array<uint64_t, kLimbs>;

Bytes RandomSecret(TestRng& rng) {
  Bytes secret(kSharedSecretBytes);
  rng.Fill(secret);
  return secret;
}

// The limbs of a secret are everyone's share in a sharing of threshold 1.
Limbs LimbsOf(BytesView secret) {
  TestRng unused(0);
  return Polynomial(secret, {.threshold = 1}, unused).At(1).y;
}

uint64_t RandomElement(TestRng& rng) { return UniformBelow(rng, kPrime); }

// Every limb becomes another value than it was.
void Spoil(Share& share, TestRng& rng) {
  for (uint64_t& limb : share.y) limb = FieldAdd(limb, 1 + UniformBelow(rng, kPrime - 1));
}

std::vector<uint32_t> RandomHolders(size_t count, TestRng& rng) {
  std::vector<uint32_t> xs;
  while (xs.size() < count) {
    const auto x = static_cast<uint32_t>(1 + UniformBelow(rng, UINT32_MAX));
    if (std::find(xs.begin(), xs.end(), x) == xs.end()) xs.push_back(x);
  }
  return xs;
}

std::vector<Share> SharesAt(const Polynomial& polynomial, std::span<const uint32_t> xs) {
  std::vector<Share> shares;
  for (const uint32_t x : xs) shares.push_back(polynomial.At(x));
  return shares;
}

template <typename T>
void Shuffle(std::vector<T>& values, TestRng& rng) {
  for (size_t i = values.size(); i > 1; --i) std::swap(values[i - 1], values[UniformBelow(rng, i)]);
}

MATCHER_P2(DecodesTo, secret, wrong, "decodes to the secret and names the wrong shares") {
  if (!arg.ok()) {
    *result_listener << arg.status().ToString();
    return false;
  }
  *result_listener << "wrong: " << testing::PrintToString(arg->wrong);
  const BytesView opened = arg->secret.Reveal();
  return std::equal(opened.begin(), opened.end(), secret.begin(), secret.end()) &&
         arg->wrong == wrong;
}

// --- a decoder that tries every set of holders ---

// The value at `x` of the polynomial through the shares' `limb`, by Lagrange's formula as in books.
uint64_t ValueAt(std::span<const Share> shares, size_t limb, uint64_t x) {
  uint64_t value = 0;
  for (const Share& i : shares) {
    uint64_t term = i.y[limb];
    for (const Share& j : shares) {
      if (i.x == j.x) continue;
      term = FieldMultiply(term, FieldSubtract(x, j.x));
      term = FieldMultiply(term, FieldInverse(FieldSubtract(i.x, j.x)));
    }
    value = FieldAdd(value, term);
  }
  return value;
}

struct Truth {
  Limbs at_zero{};
  std::vector<uint32_t> wrong;
};

// What at least m - e whole shares say, if they do.
std::optional<Truth> TryEverySet(const std::vector<Share>& shares, uint32_t threshold) {
  const size_t wrong_max = (shares.size() - threshold) / 2;
  for (uint32_t set = 0; set < 1U << shares.size(); ++set) {
    if (std::popcount(set) != static_cast<int>(threshold)) continue;
    std::vector<Share> chosen;
    for (size_t i = 0; i < shares.size(); ++i) {
      if ((set >> i & 1U) != 0) chosen.push_back(shares[i]);
    }
    Truth truth;
    for (const Share& share : shares) {
      bool right = true;
      for (size_t limb = 0; limb < kLimbs; ++limb) {
        right = right && ValueAt(chosen, limb, share.x) == share.y[limb];
      }
      if (!right) truth.wrong.push_back(share.x);
    }
    if (truth.wrong.size() > wrong_max) continue;
    for (size_t limb = 0; limb < kLimbs; ++limb) truth.at_zero[limb] = ValueAt(chosen, limb, 0);
    std::sort(truth.wrong.begin(), truth.wrong.end());
    return truth;
  }
  return std::nullopt;
}

// Whether the decoder finds what trying every set finds, and nothing where that finds nothing.
testing::AssertionResult AgreesWithEverySet(const std::vector<Share>& shares, uint32_t threshold) {
  const std::optional<Truth> truth = TryEverySet(shares, threshold);
  const Result<DecodedSecret> decoded = DecodeSecret(shares, {.threshold = threshold});
  bool secret = truth.has_value();
  for (size_t limb = 0; secret && limb < kLimbs; ++limb) {
    secret = truth->at_zero[limb] >> (limb + 1 < kLimbs ? 56U : 32U) == 0;
  }
  if (!secret) {
    if (decoded.status().code() == Code::kDataLoss) return testing::AssertionSuccess();
    return testing::AssertionFailure() << "gave " << decoded.status().ToString();
  }
  if (!decoded.ok()) return testing::AssertionFailure() << decoded.status().ToString();
  if (decoded->wrong != truth->wrong) return testing::AssertionFailure() << "blames others";
  if (LimbsOf(decoded->secret.Reveal()) != truth->at_zero) {
    return testing::AssertionFailure() << "another secret";
  }
  return testing::AssertionSuccess();
}

// Shares of `other`, at the places of `shares` [m], by the one polynomial that has the shares of
// `shares` at the first threshold - 1 places.
std::vector<Share> Neighbour(const std::vector<Share>& shares, uint32_t threshold, BytesView secret,
                             BytesView other) {
  const Limbs from = LimbsOf(secret);
  const Limbs to = LimbsOf(other);
  const auto common = std::span(shares).first(threshold - 1);
  std::vector<Share> neighbour = shares;
  for (Share& share : neighbour) {
    // (to - from) times the polynomial that is 1 at zero and 0 at the common places.
    uint64_t factor = 1;
    for (const Share& at : common) {
      factor = FieldMultiply(factor, FieldSubtract(at.x, share.x));
      factor = FieldMultiply(factor, FieldInverse(at.x));
    }
    for (size_t limb = 0; limb < kLimbs; ++limb) {
      const uint64_t step = FieldSubtract(to[limb], from[limb]);
      share.y[limb] = FieldAdd(share.y[limb], FieldMultiply(step, factor));
    }
  }
  return neighbour;
}

// --- laws ---

TEST(ShamirDecode, OpensTheKnownSharesOfTheSpecificationWithAnyOneWrong) {
  // Section 3.14: threshold 3, the secret 0, 1, …, 31.
  const std::vector<std::pair<uint32_t, const char*>> known = {
      {1, "547b16464ea88a10274bd5808c7e4b03b459226eb3c7c302bda454a046a70a1af0494924dd2b2404"},
      {2, "c18b5b18eda2c01da1f86d76ca72fb0a1f28a59d7433000e0b62df117da373176e719a4becb1b717"},
      {3, "4832d179e0f4a7077510d3eac4e81c17507a989f5556c901fe4db76cbc0e5618979311952d92ba1a"},
      {1'000, "c76441efe5502c1dd27996c1802c3a1bfcb11648a5a7381eb3ac4c988093ee1d1792a59f39ead214"},
      {100'000,
       "78da3a3828cca11ee3edbe601b562711d784b833fd7e4e032c8deb64f60a1707e7a49dc62505ec0e"}};
  Bytes secret(kSharedSecretBytes);
  std::iota(secret.begin(), secret.end(), uint8_t{0});
  std::vector<Share> shares;
  for (const auto& [x, hex] : known) {
    Bytes bytes;
    for (size_t i = 0; i < 2 * kShareBytes; i += 2) {
      bytes.push_back(static_cast<uint8_t>(std::stoi(std::string(hex + i, 2), nullptr, 16)));
    }
    const Result<Share> share = ReadShare(x, bytes);
    ASSERT_THAT(share, IsOk());
    shares.push_back(*share);
  }
  const std::vector<uint32_t> none;
  EXPECT_THAT(DecodeSecret(shares, {.threshold = 3}), DecodesTo(secret, none));
  for (size_t i = 0; i < shares.size(); ++i) {
    std::vector<Share> spoilt = shares;
    spoilt[i].y[i] ^= 1U;
    const std::vector<uint32_t> wrong = {shares[i].x};
    EXPECT_THAT(DecodeSecret(spoilt, {.threshold = 3}), DecodesTo(secret, wrong)) << i;
  }
}

TEST(ShamirDecode, FindsWhatTryingEverySetOfHoldersFinds) {
  // Every word of up to six shares that each come from one secret, from another with as many shares
  // in common as two may have, or from nowhere.
  TestRng rng(1);
  for (uint32_t threshold = 1; threshold <= 4; ++threshold) {
    for (size_t m = threshold; m <= 6; ++m) {
      const Bytes secret = RandomSecret(rng);
      const std::vector<Share> shares =
          SharesAt(Polynomial(secret, {.threshold = threshold}, rng), RandomHolders(m, rng));
      const std::vector<Share> neighbour = Neighbour(shares, threshold, secret, RandomSecret(rng));
      uint32_t words = 1;
      for (size_t i = 0; i < m; ++i) words *= 3;
      for (uint32_t word = 0; word < words; ++word) {
        std::vector<Share> mixed = shares;
        uint32_t digits = word;
        for (size_t i = 0; i < m; ++i, digits /= 3) {
          if (digits % 3 == 1) mixed[i] = neighbour[i];
          if (digits % 3 == 2) Spoil(mixed[i], rng);
        }
        EXPECT_TRUE(AgreesWithEverySet(mixed, threshold)) << threshold << " " << m << " " << word;
      }
    }
  }
}

TEST(ShamirDecode, FindsWhatTryingEverySetFindsWhenLimbsErrApart) {
  for (uint64_t seed = 0; seed < 2'000; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    TestRng rng(seed);
    const auto threshold = static_cast<uint32_t>(1 + UniformBelow(rng, 3));
    const size_t m = threshold + UniformBelow(rng, 8 - threshold);
    const Bytes secret = RandomSecret(rng);
    std::vector<Share> shares =
        SharesAt(Polynomial(secret, {.threshold = threshold}, rng), RandomHolders(m, rng));
    const std::vector<Share> neighbour = Neighbour(shares, threshold, secret, RandomSecret(rng));
    const uint64_t errors = UniformBelow(rng, 8);
    for (uint64_t error = 0; error < errors; ++error) {
      const size_t i = UniformBelow(rng, m);
      const size_t limb = UniformBelow(rng, kLimbs);
      shares[i].y[limb] = error % 2 == 0 ? neighbour[i].y[limb] : RandomElement(rng);
    }
    EXPECT_TRUE(AgreesWithEverySet(shares, threshold)) << threshold << " of " << m;
  }
}

struct Size {
  uint32_t threshold;
  size_t m;
};

const std::vector<Size>& Sizes() {
  static const std::vector<Size> sizes = {{1, 1},   {1, 2},   {1, 3},   {1, 9},    {2, 3},
                                          {2, 5},   {5, 6},   {5, 8},   {16, 29},  {29, 29},
                                          {53, 99}, {52, 78}, {60, 91}, {130, 200}};
  return sizes;
}

TEST(ShamirDecode, CorrectsEveryNumberOfErrorsUpToTheRadiusAndRefusesMore) {
  // One and two more than the radius, at random: they reach another secret with a chance of at
  // most 2^-48 each, that of no share to spare and the spare bits zero by luck.
  TestRng rng(2);
  for (const auto& [threshold, m] : Sizes()) {
    const size_t wrong_max = (m - threshold) / 2;
    const Bytes secret = RandomSecret(rng);
    const Polynomial polynomial(secret, {.threshold = threshold}, rng);
    for (size_t errors = 0; errors <= std::min(wrong_max + 2, m); ++errors) {
      SCOPED_TRACE(testing::Message() << errors << " wrong of " << m << ", t=" << threshold);
      std::vector<Share> shares = SharesAt(polynomial, RandomHolders(m, rng));
      std::vector<uint32_t> wrong;
      for (size_t i = 0; i < errors; ++i) {
        Spoil(shares[i], rng);
        wrong.push_back(shares[i].x);
      }
      std::sort(wrong.begin(), wrong.end());
      Shuffle(shares, rng);
      const Result<DecodedSecret> decoded = DecodeSecret(shares, {.threshold = threshold});
      if (errors <= wrong_max) {
        EXPECT_THAT(decoded, DecodesTo(secret, wrong));
      } else {
        EXPECT_THAT(decoded, HasCode(Code::kDataLoss));
      }
    }
  }
}

TEST(ShamirDecode, GivesTheSecretThatAllButTheRadiusAgreeOnOrNone) {
  // Of two secrets with threshold - 1 shares in common, the other m - threshold + 1 vote one way or
  // the other; at most the radius may be outvoted, whoever was first.
  TestRng rng(3);
  for (const auto& [threshold, m] : Sizes()) {
    const size_t wrong_max = (m - threshold) / 2;
    const size_t free = m - threshold + 1;
    const Bytes secret = RandomSecret(rng);
    const Bytes other = RandomSecret(rng);
    const std::vector<Share> shares =
        SharesAt(Polynomial(secret, {.threshold = threshold}, rng), RandomHolders(m, rng));
    const std::vector<Share> neighbour = Neighbour(shares, threshold, secret, other);
    for (size_t votes = 0; votes <= free; ++votes) {
      SCOPED_TRACE(testing::Message() << votes << " votes, t=" << threshold << " of " << m);
      std::vector<Share> mixed = shares;
      std::vector<uint32_t> for_secret;
      std::vector<uint32_t> for_other;
      for (size_t i = threshold - 1; i < m; ++i) {
        const bool votes_other = i - (threshold - 1) < votes;
        if (votes_other) mixed[i] = neighbour[i];
        (votes_other ? for_other : for_secret).push_back(mixed[i].x);
      }
      std::sort(for_secret.begin(), for_secret.end());
      std::sort(for_other.begin(), for_other.end());
      Shuffle(mixed, rng);
      const Result<DecodedSecret> decoded = DecodeSecret(mixed, {.threshold = threshold});
      if (votes <= wrong_max) {
        EXPECT_THAT(decoded, DecodesTo(secret, for_other));
      } else if (free - votes <= wrong_max) {
        EXPECT_THAT(decoded, DecodesTo(other, for_secret));
      } else {
        EXPECT_THAT(decoded, HasCode(Code::kDataLoss));
      }
    }
  }
}

TEST(ShamirDecode, CountsAShareAsWrongWhenAnyLimbIs) {
  // Every holder errs in one limb, by one: within the radius all are found, limb after limb; one
  // more is refused, although no limb alone is beyond the radius.
  TestRng rng(4);
  for (const auto& [threshold, m] : std::vector<Size>{{3, 13}, {16, 29}, {53, 99}}) {
    const size_t wrong_max = (m - threshold) / 2;
    const Bytes secret = RandomSecret(rng);
    std::vector<Share> shares =
        SharesAt(Polynomial(secret, {.threshold = threshold}, rng), RandomHolders(m, rng));
    std::vector<uint32_t> wrong;
    for (size_t i = 0; i < wrong_max; ++i) {
      uint64_t& limb = shares[2 * i].y[i % kLimbs];
      limb = FieldAdd(limb, 1);
      wrong.push_back(shares[2 * i].x);
      std::sort(wrong.begin(), wrong.end());
      EXPECT_THAT(DecodeSecret(shares, {.threshold = threshold}), DecodesTo(secret, wrong));
    }
    shares[1].y[wrong_max % kLimbs] ^= 1U;
    EXPECT_THAT(DecodeSecret(shares, {.threshold = threshold}), HasCode(Code::kDataLoss));
  }
}

TEST(ShamirDecode, NamesHoldersWhoSentEachOthersShares) {
  TestRng rng(5);
  const Bytes secret = RandomSecret(rng);
  std::vector<Share> shares =
      SharesAt(Polynomial(secret, {.threshold = 4}, rng), RandomHolders(8, rng));
  std::swap(shares[0].y, shares[7].y);
  const std::vector<uint32_t> wrong = {std::min(shares[0].x, shares[7].x),
                                       std::max(shares[0].x, shares[7].x)};
  EXPECT_THAT(DecodeSecret(shares, {.threshold = 4}), DecodesTo(secret, wrong));
}

TEST(ShamirDecode, TakesEqualSharesForAConstantPolynomial) {
  // They lie on one, whatever the threshold: a secret that its owner's commitment refuses, unless
  // the value is no secret's.
  const std::vector<uint32_t> none;
  for (const uint32_t threshold : {1U, 3U, 9U}) {
    for (const uint64_t limb : {uint64_t{0}, uint64_t{7}, (uint64_t{1} << 32U) - 1}) {
      std::vector<Share> shares(9, Share{.x = 0, .y = {limb, limb, limb, limb, limb}});
      for (uint32_t i = 0; i < 9; ++i) shares[i].x = i + 1;
      const Result<SecretBytes> value = OpenSecret(std::span(shares).first(1), {{uint64_t{1}}});
      ASSERT_THAT(value, IsOk());
      EXPECT_THAT(DecodeSecret(shares, {.threshold = threshold}), DecodesTo(value->Reveal(), none));
      for (Share& share : shares) share.y.fill(kPrime - 1);
      EXPECT_THAT(DecodeSecret(shares, {.threshold = threshold}), HasCode(Code::kDataLoss));
    }
  }
}

TEST(ShamirDecode, RefusesLimbsWithBitsThatNoSecretHas) {
  // A constant added to every share adds to the secret's limb.
  TestRng rng(6);
  const Bytes secret(kSharedSecretBytes);
  const std::vector<Share> shares =
      SharesAt(Polynomial(secret, {.threshold = 3}, rng), RandomHolders(9, rng));
  for (size_t limb = 0; limb < kLimbs; ++limb) {
    const unsigned bits = limb + 1 < kLimbs ? 56 : 32;
    for (unsigned bit = 0; bit <= 60; ++bit) {
      std::vector<Share> moved = shares;
      for (Share& share : moved) {
        share.y[limb] = FieldAdd(share.y[limb], uint64_t{1} << bit);
      }
      for (size_t errors = 0; errors <= 3; errors += 3) {
        for (size_t i = 0; i < errors; ++i) Spoil(moved[i], rng);
        EXPECT_EQ(DecodeSecret(moved, {.threshold = 3}).ok(), bit < bits) << limb << " " << bit;
      }
    }
  }
}

TEST(ShamirDecode, RefusesWhatIsNoSetOfShares) {
  TestRng rng(7);
  const Bytes secret = RandomSecret(rng);
  const std::vector<Share> shares =
      SharesAt(Polynomial(secret, {.threshold = 3}, rng), RandomHolders(9, rng));
  const auto refuses = [](const std::vector<Share>& bad, uint32_t threshold) {
    return DecodeSecret(bad, {.threshold = threshold}).status().code() == Code::kInvalidArgument;
  };
  EXPECT_FALSE(refuses(shares, 3));
  EXPECT_FALSE(refuses(shares, 9));
  EXPECT_TRUE(refuses(shares, 0));
  EXPECT_TRUE(refuses(shares, 10));
  EXPECT_TRUE(refuses(shares, UINT32_MAX));
  EXPECT_TRUE(refuses({}, 0));
  EXPECT_TRUE(refuses({}, 1));
  for (size_t i = 0; i < shares.size(); ++i) {
    std::vector<Share> bad = shares;
    bad[i].x = 0;
    EXPECT_TRUE(refuses(bad, 3)) << i;
    bad = shares;
    bad[i].x = shares[(i + 4) % shares.size()].x;
    EXPECT_TRUE(refuses(bad, 3)) << i;
    for (const uint64_t value : {kPrime, UINT64_MAX}) {
      bad = shares;
      bad[i].y[i % kLimbs] = value;
      EXPECT_TRUE(refuses(bad, 3)) << i;
    }
  }
}

TEST(ShamirDecode, TakesItsLargestSetAndNoLarger) {
  TestRng rng(8);
  const Bytes secret = RandomSecret(rng);
  const Polynomial polynomial(secret, {.threshold = 2}, rng);
  std::vector<uint32_t> xs(limits::kDecodedSharesMax);
  std::iota(xs.begin(), xs.end(), 1U);
  std::vector<Share> shares = SharesAt(polynomial, xs);
  const std::vector<uint32_t> none;
  EXPECT_THAT(DecodeSecret(shares, {.threshold = 2}), DecodesTo(secret, none));
  shares.push_back(polynomial.At(UINT32_MAX));
  EXPECT_THAT(DecodeSecret(shares, {.threshold = 2}), HasCode(Code::kInvalidArgument));
}

TEST(ShamirDecode, WipesWhatItDerivedFromTheShares) {
  // The needles are all coefficients of the polynomials, the secret's limbs first.
  TestRng rng(9);
  const Bytes secret = RandomSecret(rng);
  std::vector<std::vector<uint64_t>> coefficients(kLimbs);
  g_watch.needle_count = 0;
  for (const uint64_t limb : LimbsOf(secret)) g_watch.needles[g_watch.needle_count++] = limb;
  for (std::vector<uint64_t>& of_limb : coefficients) {
    for (size_t j = 1; j < 16; ++j) {
      of_limb.push_back(RandomElement(rng));
      g_watch.needles[g_watch.needle_count++] = of_limb.back();
    }
  }
  std::vector<Share> shares = SharesAt(Polynomial(secret, coefficients), RandomHolders(29, rng));
  for (size_t wrong : {0U, 6U, 7U}) {
    for (size_t i = 0; i < wrong; ++i) Spoil(shares[i], rng);
    g_watch.found = g_watch.freed = 0;
    g_watch.armed = true;
    const Result<DecodedSecret> decoded = DecodeSecret(shares, {.threshold = 16});
    g_watch.armed = false;
    EXPECT_EQ(decoded.ok(), wrong <= 6);
    EXPECT_GT(g_watch.freed, 5U);
    EXPECT_EQ(g_watch.found, 0U) << wrong;
  }
}

}  // namespace
}  // namespace chorus::math
