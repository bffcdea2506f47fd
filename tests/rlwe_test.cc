// Encryption that adds up: known answers of an independent implementation [specification 3.14], the
// laws, and refusals, on every path. A path that this processor lacks is skipped, and its test says
// so.
#include "math/rlwe.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <string>
#include <tuple>
#include <vector>

#include "base/codec.h"
#include "base/hex.h"
#include "base/limits.h"
#include "crypto/crypto.h"
#include "matchers.h"
#include "math/math.h"
#include "math/rlwe_kernels.h"
#include "test_rng.h"

namespace chorus::math {
namespace {

using testing::ElementsAre;

constexpr RlwePath kPaths[] = {RlwePath::kPortable, RlwePath::kAvx2, RlwePath::kAvx512};
constexpr RlweSet kSets[] = {RlweSet::kOsa4096, RlweSet::kOsa8192};

// --- streams ---------------------------------------------------------------------------------

Digest Det(std::string_view tag, uint32_t i) {
  Writer text;
  text.Raw("CHORUS1-KAT/").Raw(tag).U32(i);
  return crypto::Sha256(text.view());
}

std::unique_ptr<Rng> StreamOf(BytesView salt, BytesView key_material, BytesView label) {
  const SecretBytes extracted = crypto::HkdfExtract(salt, key_material);
  const SecretBytes key = crypto::HkdfExpand(extracted.Reveal(), label, crypto::kKeyBytes);
  return crypto::NewSeededRng(key.Reveal());
}

PublicStreams PublicOf(const Bytes& sid) {
  return [sid](uint32_t polynomial, uint32_t limb) {
    Writer label;
    label.Raw("CHORUS1-OSA/a").U32(polynomial).U8(static_cast<uint8_t>(limb));
    return StreamOf(sid, ViewOf("CHORUS1-OSA/public-a"), label.view());
  };
}

ErrorStreams ErrorsOf(const Bytes& sid, const Digest& seed) {
  return [sid, seed](uint32_t polynomial) {
    Writer label;
    label.Raw("CHORUS1-OSA/err").U32(polynomial);
    return StreamOf(sid, seed, label.view());
  };
}

SecretNumbers<int32_t> SecretOf(const RlweRing& ring, const Bytes& sid, const Digest& seed) {
  return SampleSecret(ring, *StreamOf(sid, seed, ViewOf("CHORUS1-OSA/secret")));
}

// Repeats its bytes.
class RepeatedBytes final : public Rng {
 public:
  explicit RepeatedBytes(Bytes bytes) : bytes_(std::move(bytes)) {}
  void Fill(std::span<uint8_t> out) override {
    for (uint8_t& byte : out) byte = bytes_[next_++ % bytes_.size()];
  }

 private:
  Bytes bytes_;
  size_t next_ = 0;
};

// One draw of CBD(42) that gives `value`, in every coefficient.
Bytes DrawOf(int value) {
  Writer words;
  words.U64Little(value > 0 ? (uint64_t{1} << static_cast<unsigned>(value)) - 1 : 0);
  words.U64Little(value < 0 ? (uint64_t{1} << static_cast<unsigned>(-value)) - 1 : 0);
  return std::move(words).Take();
}

ErrorStreams ErrorsAll(int value) {
  return [value](uint32_t) { return std::make_unique<RepeatedBytes>(DrawOf(value)); };
}

// --- parties ---------------------------------------------------------------------------------

RingVector VectorOf(const std::vector<int64_t>& values, int bits) {
  RingVector vector = ZeroVector(values.size(), bits);
  for (size_t i = 0; i < values.size(); ++i) SetSigned(vector, i, values[i]);
  return vector;
}

std::vector<int64_t> ValuesOf(const RingVector& vector, int bits) {
  std::vector<int64_t> values;
  for (uint64_t i = 0; i < DimOf(vector); ++i) values.push_back(SignedAt(vector, i, bits));
  return values;
}

std::vector<int64_t> RandomValues(const RlweEncoding& encoding, TestRng& rng) {
  std::vector<int64_t> values(encoding.dim);
  const auto bound = static_cast<int64_t>(encoding.bound);
  for (int64_t& value : values) {
    value = static_cast<int64_t>(UniformBelow(rng, 2 * encoding.bound + 1)) - bound;
    if (UniformBelow(rng, 8) == 0) value = UniformBelow(rng, 2) == 0 ? bound : -bound;
  }
  return values;
}

void AddTo(std::vector<int32_t>& sum, const SecretNumbers<int32_t>& secret) {
  sum.resize(secret.size());
  for (size_t i = 0; i < sum.size(); ++i) sum[i] += secret.Reveal()[i];
}

std::vector<uint64_t> ResiduesOf(BytesView packed, size_t count) {
  std::vector<uint64_t> residues(count);
  for (size_t bit = 0; bit < count * kResidueBits; ++bit) {
    residues[bit / kResidueBits] |= static_cast<uint64_t>(packed[bit / 8] >> bit % 8 & 1U)
                                    << bit % kResidueBits;
  }
  return residues;
}

Bytes PackedOf(const std::vector<uint64_t>& residues) {
  return Pack(RingVector(residues), kResidueBits);
}

// --- parameters ------------------------------------------------------------------------------

bool IsPrime(uint64_t n) {  // Miller and Rabin; these bases suffice below 2^64
  uint64_t odd = n - 1;
  int twos = 0;
  for (; odd % 2 == 0; odd /= 2) ++twos;
  for (const uint64_t base : {2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37}) {
    uint64_t power = PowerModulo(base, odd, n);
    bool composite = power != 1 && power != n - 1;
    for (int i = 1; i < twos && composite; ++i) {
      power = MultiplyModulo(power, power, n);
      composite = power != n - 1;
    }
    if (composite) return false;
  }
  return true;
}

TEST(RlweParameters, AreThoseOfTheSpecification) {
  const RlweParameters& small = RlweParametersFor(RlweSet::kOsa4096);
  EXPECT_EQ(small.degree, 4'096U);
  EXPECT_EQ(small.limbs, 2U);
  EXPECT_EQ(small.plaintext_bits, 86);
  EXPECT_THAT(small.primes, ElementsAre(1125899906629633, 1125899906826241, 0, 0));
  EXPECT_THAT(small.roots, ElementsAre(967006076000656, 1094367314627419, 0, 0));
  const RlweParameters& large = RlweParametersFor(RlweSet::kOsa8192);
  EXPECT_EQ(large.degree, 8'192U);
  EXPECT_EQ(large.limbs, 4U);
  EXPECT_EQ(large.plaintext_bits, 186);
  EXPECT_THAT(large.primes,
              ElementsAre(1125899906629633, 1125899906826241, 1125899905744897, 1125899905351681));
}

TEST(RlweParameters, HaveRootsFromTheSmallestGenerators) {
  for (const RlweSet set : kSets) {
    const RlweParameters& parameters = RlweParametersFor(set);
    for (uint32_t limb = 0; limb < parameters.limbs; ++limb) {
      const uint64_t prime = parameters.primes[limb];
      EXPECT_TRUE(IsPrime(prime));
      EXPECT_EQ(prime % 16'384, 1U);
      uint64_t root = 0;
      for (uint64_t c = 2; root == 0; ++c) {
        const uint64_t power = PowerModulo(c, (prime - 1) / (2 * parameters.degree), prime);
        if (PowerModulo(power, parameters.degree, prime) == prime - 1) root = power;
      }
      EXPECT_EQ(parameters.roots[limb], root);
    }
  }
}

TEST(RlweEncoding, SaysWhatAVectorTakes) {
  const RlweEncoding encoding{.dim = 1'000'000, .bits = 21, .bound = 8'191};
  EXPECT_EQ(encoding.fields(), 4U);
  EXPECT_EQ(encoding.coefficients(), 250'000U);
  EXPECT_EQ(encoding.polynomials(), 62U);
  EXPECT_EQ(encoding.ciphertext_bytes(), 3'125'000U);
  const std::pair<int, uint64_t> fields[] = {{14, 6}, {17, 5}, {21, 4}, {28, 3}, {43, 2}};
  for (const auto& [bits, count] : fields) {
    EXPECT_EQ((RlweEncoding{.dim = 1, .bits = bits, .bound = 1}.fields()), count);
  }
  EXPECT_EQ((RlweEncoding{.set = RlweSet::kOsa8192, .dim = 9, .bits = 62, .bound = 1}.fields()),
            3U);
  EXPECT_EQ((RlweEncoding{.dim = 8, .bits = 0, .bound = 1}.ciphertext_bytes()), 0U);
  EXPECT_EQ((RlweEncoding{.dim = 8, .bits = 99, .bound = 1}.ciphertext_bytes()), 0U);
}

TEST(RlweEncoding, IsRefusedByTheNameOfItsField) {
  const RlweEncoding good{.dim = 100, .bits = 21, .bound = 8'191};
  EXPECT_THAT(CheckRlweEncoding(good, 128), IsOk());
  const auto refused = [&](auto change, uint64_t n_max, const char* field) {
    RlweEncoding encoding = good;
    change(encoding);
    EXPECT_THAT(CheckRlweEncoding(encoding, n_max), HasCodeAndText(Code::kInvalidArgument, field));
  };
  const auto same = [](RlweEncoding&) {};
  refused([](RlweEncoding& e) { e.set = static_cast<RlweSet>(3); }, 128, "set");
  refused([](RlweEncoding& e) { e.dim = 0; }, 128, "dim");
  refused([](RlweEncoding& e) { e.dim = limits::kDimMax + 5; }, 128, "dim");
  refused([](RlweEncoding& e) { e.bits = 1; }, 128, "bits");
  refused([](RlweEncoding& e) { e.bits = 63; }, 128, "bits");
  refused([](RlweEncoding& e) { e.bits = -1; }, 128, "bits");
  refused([](RlweEncoding& e) { e.bound = 0; }, 128, "bound");
  refused([](RlweEncoding& e) { e.bound = UINT64_MAX; }, 128, "bound");
  refused(same, 0, "n_max");
  refused(same, 129, "n_max * 2 * bound");  // 129 * 2 * 8191 >= 2^21 > 128 * 2 * 8191
}

TEST(RlweEncoding, IsRefusedForMoreThan32768Contributions) {
  const RlweEncoding encoding{.dim = 100, .bits = 43, .bound = 8'191};
  EXPECT_THAT(CheckRlweEncoding(encoding, 32'768), IsOk());
  EXPECT_THAT(CheckRlweEncoding(encoding, 32'769), HasCodeAndText(Code::kInvalidArgument, "n_max"));
}

TEST(RlweErrorBound, IsTenDeviationsAndNeverAmbiguous) {
  EXPECT_EQ(RlweErrorBound(1), 45);     // sqrt(2100) = 45.8
  EXPECT_EQ(RlweErrorBound(21), 210);   // exactly
  EXPECT_EQ(RlweErrorBound(100), 458);  // sqrt(210000) = 458.3
  EXPECT_EQ(RlweErrorBound(10'000), 4'582);
  EXPECT_EQ(RlweErrorBound(31'941), 8'190);  // sqrt(2100 * 31941) = 8190.00..
  EXPECT_EQ(RlweErrorBound(32'768), 8'190);
}

// --- known answers [specification 3.14] ------------------------------------------------------

const char* const kSidOfThree = "6b87e88f799da21d8f04264a05d0a3e231d7c7a533b2d8c4f89db1f8d8e51994";
const char* const kSidOfSession =
    "f9b54a97d69de1467ac642be07dc9c3b0831f00a4cb98dd944722f869aa9869e";

std::vector<uint64_t> FirstPublic(const RlweRing& ring, const Bytes& sid, uint32_t limb) {
  std::vector<uint64_t> residues(ring.parameters().degree);
  SamplePublic(ring.ntt(limb).prime(), *PublicOf(sid)(0, limb), residues);
  residues.resize(3);
  return residues;
}

TEST(RlweKnownAnswers, ThreeClientsEncryptAndTheirSumOpens) {
  const Bytes sid = *FromHex(kSidOfThree);
  const RlweRing ring(RlweSet::kOsa4096);
  EXPECT_THAT(FirstPublic(ring, sid, 0),
              ElementsAre(1084156094589060, 1091685332192185, 246554748557929));
  EXPECT_THAT(FirstPublic(ring, sid, 1),
              ElementsAre(162585942599715, 57286511627068, 927118436211004));

  const std::vector<std::vector<int32_t>> secrets = {
      {1, 3, 0, -9, -1, 3, -3, 5}, {7, -1, 5, 2, 6, -1, 2, 0}, {-2, 6, -3, -3, -2, -2, -7, 0}};
  const std::vector<int32_t> largest = {18, 17, 17};
  const std::vector<std::vector<uint64_t>> first_residues = {
      {1115534112909502, 984468662007418, 217282075939812, 1007221448531953},
      {740890674722721, 338482264020490, 747049366367422, 468970538905401},
      {1027561497873693, 962576625151254, 775096433609793, 77158830683687}};
  // Fields are v = (7i + 3j + 1) mod 1000 there, which are offset by the bound here.
  const RlweEncoding encoding{.dim = 12, .bits = 21, .bound = 500};
  CiphertextSum sum(ring, encoding);
  std::vector<int32_t> secret_sum;
  for (uint32_t i = 0; i < 3; ++i) {
    const Digest seed = Det("osa", i);
    const SecretNumbers<int32_t> secret = SecretOf(ring, sid, seed);
    const std::vector<int32_t> s(secret.Reveal().begin(), secret.Reveal().end());
    EXPECT_EQ(std::vector<int32_t>(s.begin(), s.begin() + 8), secrets[i]);
    EXPECT_EQ(
        std::max(*std::max_element(s.begin(), s.end()), -*std::min_element(s.begin(), s.end())),
        largest[i]);
    std::vector<int64_t> values(12);
    for (int64_t j = 0; j < 12; ++j) {
      values[static_cast<size_t>(j)] = (7 * i + 3 * j + 1) % 1'000 - 500;
    }
    const Result<Bytes> packed =
        Encrypt(ring, encoding, VectorOf(values, 21), secret, PublicOf(sid), ErrorsOf(sid, seed));
    ASSERT_THAT(packed, IsOk());
    const std::vector<uint64_t> residues = ResiduesOf(*packed, 6);
    EXPECT_EQ((std::vector<uint64_t>{residues[0], residues[1], residues[3], residues[4]}),
              first_residues[i]);
    EXPECT_THAT(sum.Fold(*packed), IsOk());
    AddTo(secret_sum, secret);
  }
  const Result<RingVector> opened = sum.Open(secret_sum, PublicOf(sid));
  ASSERT_THAT(opened, IsOk());
  std::vector<int64_t> values = ValuesOf(*opened, 21);
  for (int64_t& value : values) value += 3 * 500;
  EXPECT_THAT(values, ElementsAre(24, 33, 42, 51, 60, 69, 78, 87, 96, 105, 114, 123));
}

TEST(RlweKnownAnswers, ASessionOfFiveOpensWithoutTheOneNotInTheSurvivorSet) {
  const Bytes sid = *FromHex(kSidOfSession);
  const RlweRing ring(RlweSet::kOsa4096);
  EXPECT_THAT(FirstPublic(ring, sid, 0),
              ElementsAre(584885605612963, 213718862851461, 163816688446414));
  EXPECT_THAT(FirstPublic(ring, sid, 1),
              ElementsAre(290807547467837, 567295605151389, 70937086536209));
  const RlweEncoding encoding{.dim = 8, .bits = 21, .bound = 8'191};
  CiphertextSum sum(ring, encoding);
  std::vector<int32_t> secret_sum;
  for (const uint32_t i : {0U, 3U, 1U, 2U}) {
    const Digest seed = Det("osa", i);
    const SecretNumbers<int32_t> secret = SecretOf(ring, sid, seed);
    std::vector<int64_t> values(8);
    for (int64_t j = 0; j < 8; ++j) {
      values[static_cast<size_t>(j)] = (7 * i + 3 * j + 1) % 1'000 - 500;
    }
    const Result<Bytes> packed =
        Encrypt(ring, encoding, VectorOf(values, 21), secret, PublicOf(sid), ErrorsOf(sid, seed));
    ASSERT_THAT(packed, IsOk());
    if (i == 0) {
      EXPECT_EQ(ToHex(*packed), "30aebcf8b3ea3a0406a8dabfd49ccb077e195da478e8763daa");
      EXPECT_THAT(ResiduesOf(*packed, 4),
                  ElementsAre(821008646581808, 334211437396238, 511925213247949, 748723858694801));
      EXPECT_THAT(secret.Reveal().first(8), ElementsAre(2, 2, -3, 4, 4, -7, -1, -2));
    }
    EXPECT_THAT(sum.Fold(*packed), IsOk());
    AddTo(secret_sum, secret);
  }
  const Result<RingVector> opened = sum.Open(secret_sum, PublicOf(sid));
  ASSERT_THAT(opened, IsOk());
  EXPECT_THAT(ValuesOf(*opened, 21),
              ElementsAre(-1954, -1942, -1930, -1918, -1906, -1894, -1882, -1870));
}

// Digests of whole ciphertexts, of several polynomials in both sets, on every path.
TEST(RlweKnownAnswers, CiphertextsOfSeveralPolynomialsAreTheSameBytesOnEveryPath) {
  struct Case {
    RlweEncoding encoding;
    const char* digest;
  };
  const Case cases[] = {
      {{.set = RlweSet::kOsa4096, .dim = 16'389, .bits = 21, .bound = 8'191},
       "2c6472ee1fdfa324ea1968439cd09867c211f083c0d714fdb473f473a13a2ffa"},
      {{.set = RlweSet::kOsa4096, .dim = 20'486, .bits = 17, .bound = 500},
       "ee8b4964888445d8d66f91176508d4b0f645bdf579197004f8ac7d895970748f"},
      {{.set = RlweSet::kOsa8192, .dim = 32'773, .bits = 43, .bound = uint64_t{1} << 30U},
       "53db5a8366a5f33447c53254d3634bb4894e8374b32fc473574d58163cfa308c"},
      {{.set = RlweSet::kOsa8192, .dim = 24'577, .bits = 62, .bound = uint64_t{1} << 45U},
       "81e17b70d34746ec2b68f7134b891d4f15a7a882d705d950757c193c7d8788e5"},
      {{.set = RlweSet::kOsa8192, .dim = 106'497, .bits = 14, .bound = 600},
       "fc3ae90dc3576a2dfea7efbaf84b33a22c34fc81ab3d8bc45b0e7d61d767ed9a"},
  };
  const Bytes sid = *FromHex(kSidOfSession);
  const Digest seed = Det("osa", 0);
  for (const RlwePath path : kPaths) {
    if (!HasRlwePath(path)) continue;
    for (const Case& a_case : cases) {
      const RlweEncoding& encoding = a_case.encoding;
      const RlweRing ring(encoding.set, path);
      const SecretNumbers<int32_t> secret = SecretOf(ring, sid, seed);
      std::vector<int64_t> values(encoding.dim);
      for (size_t j = 0; j < values.size(); ++j) {
        values[j] = static_cast<int64_t>((3 * j + 1) % 1'000) - 500;
      }
      const Result<Bytes> packed = Encrypt(ring, encoding, VectorOf(values, encoding.bits), secret,
                                           PublicOf(sid), ErrorsOf(sid, seed));
      ASSERT_THAT(packed, IsOk());
      EXPECT_EQ(packed->size(), encoding.ciphertext_bytes());
      EXPECT_EQ(ToHex(crypto::Sha256(*packed)), a_case.digest)
          << "path " << static_cast<int>(path) << ", bits " << encoding.bits;
      CiphertextSum sum(ring, encoding);
      ASSERT_THAT(sum.Fold(*packed), IsOk());
      const Result<RingVector> opened = sum.Open(secret.Reveal(), PublicOf(sid));
      ASSERT_THAT(opened, IsOk());
      EXPECT_EQ(ValuesOf(*opened, encoding.bits), values);
    }
  }
}

class RlwePaths : public testing::TestWithParam<RlwePath> {
 protected:
  void SetUp() override {
    if (!HasRlwePath(GetParam())) GTEST_SKIP() << "not on this processor";
  }
};
INSTANTIATE_TEST_SUITE_P(All, RlwePaths, testing::ValuesIn(kPaths));

// --- laws ------------------------------------------------------------------------------------

struct Party {
  SecretNumbers<int32_t> secret;
  std::vector<int64_t> values;
  Bytes ciphertext;
};

Party MakeParty(const RlweRing& ring, const RlweEncoding& encoding, uint64_t seed) {
  TestRng rng(seed);
  Party party{
      .secret = SampleSecret(ring, rng), .values = RandomValues(encoding, rng), .ciphertext = {}};
  const auto errors = [seed](uint32_t polynomial) {
    return std::make_unique<TestRng>(seed ^ uint64_t{polynomial + 1} << 32U);
  };
  const Result<Bytes> packed = Encrypt(ring, encoding, VectorOf(party.values, encoding.bits),
                                       party.secret, PublicOf(Bytes(32, 1)), errors);
  EXPECT_THAT(packed, IsOk());
  if (packed.ok()) party.ciphertext = *packed;
  return party;
}

TEST_P(RlwePaths, SumsOpenToTheSumOfIntegersForAnyBits) {
  for (const RlweSet set : kSets) {
    const RlweRing ring(set, GetParam());
    for (const int bits : {3, 13, 14, 17, 20, 21, 28, 33, 43, 50, 51, 62}) {
      RlweEncoding encoding{.set = set, .dim = 1, .bits = bits};
      constexpr uint32_t kParties = 3;
      encoding.bound = ((uint64_t{1} << static_cast<unsigned>(bits)) - 1) / (2 * kParties);
      const uint64_t in_polynomial = encoding.fields() * ring.parameters().degree;
      encoding.dim = bits % 3 == 0 ? in_polynomial + 1 + static_cast<uint64_t>(bits) % 7
                                   : 37 + static_cast<uint64_t>(bits);
      ASSERT_THAT(CheckRlweEncoding(encoding, kParties), IsOk());
      CiphertextSum sum(ring, encoding);
      std::vector<int32_t> secret_sum;
      RingVector plain = ZeroVector(encoding.dim, bits);
      for (uint32_t i = 0; i < kParties; ++i) {
        const Party party = MakeParty(ring, encoding, 100 * static_cast<uint64_t>(bits) + i);
        ASSERT_THAT(sum.Fold(party.ciphertext), IsOk());
        AddTo(secret_sum, party.secret);
        ASSERT_THAT(AddPacked(plain, Pack(VectorOf(party.values, bits), bits), bits), IsOk());
      }
      ReduceBits(plain, bits);
      const Result<RingVector> opened = sum.Open(secret_sum, PublicOf(Bytes(32, 1)));
      ASSERT_THAT(opened, IsOk()) << bits;
      EXPECT_EQ(*opened, plain) << "bits " << bits << ", limbs " << ring.parameters().limbs;
    }
  }
}

TEST_P(RlwePaths, SumsDoNotDependOnTheOrderOfArrival) {
  const RlweRing ring(RlweSet::kOsa4096, GetParam());
  const RlweEncoding encoding{.dim = 50, .bits = 21, .bound = 1'000};
  std::vector<Party> parties;
  std::vector<int32_t> secret_sum;
  for (uint64_t i = 0; i < 6; ++i) {
    parties.push_back(MakeParty(ring, encoding, i));
    AddTo(secret_sum, parties.back().secret);
  }
  CiphertextSum forwards(ring, encoding);
  CiphertextSum backwards(ring, encoding);
  for (size_t i = 0; i < 6; ++i) {
    ASSERT_THAT(forwards.Fold(parties[i].ciphertext), IsOk());
    ASSERT_THAT(backwards.Fold(parties[5 - i].ciphertext), IsOk());
  }
  const PublicStreams streams = PublicOf(Bytes(32, 1));
  EXPECT_EQ(*forwards.Open(secret_sum, streams), *backwards.Open(secret_sum, streams));
}

// A key of zeros, errors and values as given: the plaintext alone.
Bytes CiphertextOf(const RlweRing& ring, const RlweEncoding& encoding, int64_t value, int error) {
  const SecretNumbers<int32_t> zero(ring.parameters().degree);
  const Result<Bytes> packed =
      Encrypt(ring, encoding, VectorOf(std::vector<int64_t>(encoding.dim, value), encoding.bits),
              zero, PublicOf(Bytes(32, 1)), ErrorsAll(error));
  EXPECT_THAT(packed, IsOk());
  return packed.ok() ? *packed : Bytes();
}

Result<RingVector> OpenWithoutKey(const RlweRing& ring, const CiphertextSum& sum) {
  return sum.Open(std::vector<int32_t>(ring.parameters().degree), PublicOf(Bytes(32, 1)));
}

// All of 2^15 contributions with the largest values, and as much error as is told apart.
TEST(RlweWorstCase, SumsOf32768AreExactUpToTheErrorBoundAndRefusedBeyond) {
  for (const RlweSet set : kSets) {
    const RlweRing ring(set);
    for (const int sign : {1, -1}) {
      RlweEncoding encoding{.set = set, .dim = 40, .bits = 21, .bound = 31};
      if (set == RlweSet::kOsa8192)
        encoding = {.set = set, .dim = 40, .bits = 62, .bound = (uint64_t{1} << 46U) - 1};
      ASSERT_THAT(CheckRlweEncoding(encoding, 32'768), IsOk());
      const auto bound = sign * static_cast<int64_t>(encoding.bound);
      const Bytes noisy = CiphertextOf(ring, encoding, bound, sign * 42);
      const Bytes quiet = CiphertextOf(ring, encoding, bound, 0);
      const Bytes straw = CiphertextOf(ring, encoding, bound, sign);
      for (const bool beyond : {false, true}) {
        CiphertextSum sum(ring, encoding);
        for (int i = 0; i < 195; ++i) ASSERT_THAT(sum.Fold(noisy), IsOk());  // 195 * 42 = 8190
        for (int i = 0; i < 32'768 - 196; ++i) ASSERT_THAT(sum.Fold(quiet), IsOk());
        ASSERT_THAT(sum.Fold(beyond ? straw : quiet), IsOk());
        EXPECT_THAT(sum.Fold(quiet), HasCode(Code::kResourceExhausted));
        EXPECT_EQ(sum.contributors(), 32'768U);
        const Result<RingVector> opened = OpenWithoutKey(ring, sum);
        if (beyond) {
          EXPECT_THAT(opened, HasCode(Code::kAborted));
          continue;
        }
        ASSERT_THAT(opened, IsOk());
        EXPECT_EQ(ValuesOf(*opened, encoding.bits), std::vector<int64_t>(40, 32'768 * bound));
      }
    }
  }
}

// --- refusals --------------------------------------------------------------------------------

TEST(RlweSampling, SkipsWordsThatAreNotBelowThePrime) {
  const uint64_t prime = RlweParametersFor(RlweSet::kOsa4096).primes[0];
  Writer words;
  // What stands above 50 bits does not count.
  for (const uint64_t word : {uint64_t{5}, prime, prime - 1, kDigitMask, ~uint64_t{0}, uint64_t{6},
                              uint64_t{7} | uint64_t{1} << 50U, prime + 1, uint64_t{8}}) {
    words.U64Little(word);
  }
  RepeatedBytes stream(std::move(words).Take());
  std::vector<uint64_t> residues(6);
  SamplePublic(prime, stream, residues);
  EXPECT_THAT(residues, ElementsAre(5, prime - 1, 6, 7, 8, 5));
}

TEST(RlweSampling, SkipsThePrimeItselfAmongGoodWords) {
  const uint64_t prime = RlweParametersFor(RlweSet::kOsa4096).primes[0];
  RepeatedBytes stream(
      std::move(Writer().U64Little(prime - 1).U64Little(prime).U64Little(3)).Take());
  std::vector<uint64_t> residues(3);
  SamplePublic(prime, stream, residues);
  EXPECT_THAT(residues, ElementsAre(prime - 1, 3, prime - 1));
}

TEST(RlweEncryption, RefusesWhatDoesNotFitTheEncoding) {
  const RlweRing ring(RlweSet::kOsa4096);
  const RlweEncoding encoding{.dim = 10, .bits = 21, .bound = 1'000};
  const SecretNumbers<int32_t> secret(4'096);
  const auto encrypt = [&](const RlweEncoding& spec, const RingVector& values,
                           const SecretNumbers<int32_t>& key) {
    return Encrypt(ring, spec, values, key, PublicOf(Bytes(32)), ErrorsAll(0));
  };
  const std::vector<int64_t> good(10, -1'000);
  EXPECT_THAT(encrypt(encoding, VectorOf(good, 21), secret), IsOk());
  EXPECT_THAT(encrypt(encoding, VectorOf(good, 43), secret), HasCode(Code::kInvalidArgument));
  EXPECT_THAT(encrypt(encoding, VectorOf(std::vector<int64_t>(9), 21), secret),
              HasCode(Code::kInvalidArgument));
  EXPECT_THAT(encrypt(encoding, VectorOf(good, 21), SecretNumbers<int32_t>(8'192)),
              HasCode(Code::kInvalidArgument));
  RlweEncoding other = encoding;
  other.set = RlweSet::kOsa8192;
  EXPECT_THAT(encrypt(other, VectorOf(good, 21), secret), HasCode(Code::kInvalidArgument));
  for (const int64_t value : {1'001, -1'001, 1 << 20, -(1 << 20)}) {
    for (const size_t place : {0, 9}) {
      std::vector<int64_t> bad = good;
      bad[place] = value;
      EXPECT_THAT(encrypt(encoding, VectorOf(bad, 21), secret),
                  HasCodeAndText(Code::kInvalidArgument, "bound"))
          << value;
    }
  }
}

TEST_P(RlwePaths, ABadCiphertextIsRefusedAndChangesNothing) {
  const RlweRing ring(RlweSet::kOsa4096, GetParam());
  const uint64_t degree = ring.parameters().degree;
  // Two whole polynomials and one of 19 coefficients, whose second limb begins inside a byte.
  const RlweEncoding encoding{.dim = 4 * (2 * degree + 19) - 1, .bits = 21, .bound = 1'000};
  const Party party = MakeParty(ring, encoding, 1);
  CiphertextSum sum(ring, encoding);
  ASSERT_THAT(sum.Fold(party.ciphertext), IsOk());

  const std::vector<uint64_t> residues = ResiduesOf(party.ciphertext, encoding.residues());
  const size_t last = residues.size() - 1;
  for (const size_t place : {size_t{0}, size_t{7}, degree - 1, degree, 2 * degree, 4 * degree,
                             4 * degree + 18, 4 * degree + 19, 4 * degree + 20, last}) {
    const bool first_limb = place < degree || (place >= 2 * degree && place < 3 * degree) ||
                            (place >= 4 * degree && place < 4 * degree + 19);
    const uint64_t prime = ring.parameters().primes[first_limb ? 0 : 1];
    std::vector<uint64_t> bad = residues;
    bad[place] = prime;
    EXPECT_THAT(sum.Fold(PackedOf(bad)), HasCode(Code::kInvalidArgument)) << place;
    bad[place] = kDigitMask;
    EXPECT_THAT(sum.Fold(PackedOf(bad)), HasCode(Code::kInvalidArgument)) << place;
    bad[place] = prime - 1;
    CiphertextSum another(ring, encoding);
    EXPECT_THAT(another.Fold(PackedOf(bad)), IsOk()) << place;
  }
  Bytes padded = party.ciphertext;
  padded.back() |= 0x80;
  EXPECT_THAT(sum.Fold(padded), HasCodeAndText(Code::kInvalidArgument, "pad"));
  padded = party.ciphertext;
  padded.push_back(0);
  EXPECT_THAT(sum.Fold(padded), HasCodeAndText(Code::kInvalidArgument, "length"));
  padded.resize(padded.size() - 2);
  EXPECT_THAT(sum.Fold(padded), HasCodeAndText(Code::kInvalidArgument, "length"));
  EXPECT_THAT(sum.Fold({}), HasCodeAndText(Code::kInvalidArgument, "length"));

  EXPECT_EQ(sum.contributors(), 1U);
  const Result<RingVector> opened = sum.Open(party.secret.Reveal(), PublicOf(Bytes(32, 1)));
  ASSERT_THAT(opened, IsOk());
  EXPECT_EQ(ValuesOf(*opened, encoding.bits), party.values);
}

TEST(RlweOpening, RefusesAWrongKeyAndAnEmptySum) {
  for (const RlweSet set : kSets) {
    const RlweRing ring(set);
    const RlweEncoding encoding{.set = set, .dim = 50, .bits = 21, .bound = 1'000};
    CiphertextSum sum(ring, encoding);
    EXPECT_THAT(OpenWithoutKey(ring, sum), HasCode(Code::kFailedPrecondition));
    const Party party = MakeParty(ring, encoding, 3);
    ASSERT_THAT(sum.Fold(party.ciphertext), IsOk());
    std::vector<int32_t> secret(party.secret.Reveal().begin(), party.secret.Reveal().end());
    const PublicStreams streams = PublicOf(Bytes(32, 1));
    EXPECT_THAT(sum.Open(secret, streams), IsOk());
    secret[ring.parameters().degree / 2] += 1;
    EXPECT_THAT(sum.Open(secret, streams), HasCode(Code::kAborted));
    secret.pop_back();
    EXPECT_THAT(sum.Open(secret, streams), HasCode(Code::kInvalidArgument));
  }
}

TEST(RlweOpening, RefusesErrorsAndValuesThatNoHonestClientsAddUpTo) {
  const RlweRing ring(RlweSet::kOsa4096);
  const RlweEncoding encoding{.dim = 9, .bits = 21, .bound = 1'000};
  // 42 is within ten deviations of one contribution; four times that is not of four.
  CiphertextSum noisy(ring, encoding);
  ASSERT_THAT(noisy.Fold(CiphertextOf(ring, encoding, 0, 42)), IsOk());
  EXPECT_THAT(OpenWithoutKey(ring, noisy), IsOk());
  for (int i = 0; i < 3; ++i) {
    ASSERT_THAT(noisy.Fold(CiphertextOf(ring, encoding, 0, -42 * (i % 2) + 42)), IsOk());
  }
  EXPECT_THAT(OpenWithoutKey(ring, noisy), HasCode(Code::kAborted));

  // With a larger bound of its own, a client's field of 0 is 1001 too small, that of 2002 too big.
  RlweEncoding loose = encoding;
  loose.bound = 1'001;
  CiphertextSum large(ring, encoding);
  ASSERT_THAT(large.Fold(CiphertextOf(ring, loose, 999, 0)), IsOk());
  EXPECT_THAT(OpenWithoutKey(ring, large), IsOk());
  CiphertextSum too_large(ring, encoding);
  ASSERT_THAT(too_large.Fold(CiphertextOf(ring, loose, 1'000, 0)), IsOk());
  EXPECT_THAT(OpenWithoutKey(ring, too_large), HasCode(Code::kAborted));
}

}  // namespace
}  // namespace chorus::math
