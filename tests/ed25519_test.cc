// Ed25519: published answers, what is refused, and that both libraries behind it judge alike.
#include "crypto/ed25519.h"

#include <openssl/err.h>
#include <openssl/evp.h>

#include "crypto_cases.h"

namespace chorus::crypto {
namespace {

// Two libraries can stand behind Ed25519Verify, and must judge alike.
void ExpectVerdict(bool good, const PublicKey& key, BytesView message, BytesView signature) {
  EXPECT_EQ(Ed25519Verify(key, message, signature), good);
  EXPECT_EQ(VerifyByOpenSsl(key, message, signature), good);
  if (SodiumWantsNoCofactor()) {
    EXPECT_EQ(VerifyBySodium(key, message, signature), good);
  }
}

TEST(Ed25519, GivesThePublishedAnswers) {  // [RFC 8032, 7.1, tests 1 to 3]
  struct Case {
    std::string seed, key, message, signature;
  };
  const std::vector<Case> cases = {
      {"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
       "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
       "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701c"
       "f9b46bd25bf5f0595bbe24655141438e7a100b"},
      {"4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
       "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
       "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0"
       "f11d8c387b2eaeb4302aeeb00d291612bb0c00"},
      {"c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
       "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
       "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f76098"
       "4dc6594a7c15e9716ed28dc027beceea1ec40a"}};
  for (const Case& c : cases) {
    EXPECT_EQ(ToHex(Ed25519Public(H(c.seed))), c.key);
    EXPECT_EQ(ToHex(Ed25519Sign(H(c.seed), H(c.message))), c.signature);
    ExpectVerdict(true, Fixed<32>(H(c.key)), H(c.message), H(c.signature));
  }
}

TEST(Ed25519, AgreesWithWycheproof) {
  const json file = Vectors("wycheproof/ed25519_test.json");
  SKIP_WITHOUT(file);
  const size_t count = ForEachCase(file, [](const json& group, const json& test) {
    const PublicKey key = Fixed<32>(HexOf(group["publicKey"], "pk"));
    ExpectVerdict(IsValid(test), key, HexOf(test, "msg"), HexOf(test, "sig"));
  });
  EXPECT_EQ(count, 151U);
}

TEST(Ed25519, IsJudgedAlikeByBothLibraries) {
  const std::unique_ptr<Rng> rng = Seeded(9);
  for (size_t i = 0; i < 200; ++i) {
    const Bytes seed = Draw(*rng, 32);
    const Bytes message = Draw(*rng, i);
    const PublicKey key = Ed25519Public(seed);
    Signature signature = Ed25519Sign(seed, message);
    ExpectVerdict(true, key, message, signature);
    signature[UniformBelow(*rng, 64)] ^= static_cast<uint8_t>(1U << UniformBelow(*rng, 8));
    ExpectVerdict(false, key, message, signature);
  }
}

// A key with a part of order 8, and a signature as if it had none: good with the cofactor.
TEST(Ed25519, HasNoCofactor) {
  ExpectVerdict(false,
                Fixed<32>(H("06903bfea2a1ddc586e78a189513f47ac6ae27e4e7803a1c2fb94c94b18f3958")),
                Text("chorus"),
                H("cf3419599c220d2fabbcbf52d650530ed31560f1212e9042ccf2e6ac3dd181e9"
                  "16406bebae81cbff8b2e448a5ab9bb3fccbd81ab75e59a3834a49d9fe9264a09"));
}

// OpenSSL by itself, which takes keys and R of low order.
bool OpenSslAloneVerifies(const PublicKey& key, BytesView message, BytesView signature) {
  EVP_PKEY* const public_key =
      EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr, key.data(), key.size());
  EVP_MD_CTX* const context = EVP_MD_CTX_new();
  EVP_DigestVerifyInit(context, nullptr, nullptr, nullptr, public_key);
  const int verdict =
      EVP_DigestVerify(context, signature.data(), signature.size(), message.data(), message.size());
  EVP_MD_CTX_free(context);
  EVP_PKEY_free(public_key);
  ERR_clear_error();
  return verdict == 1;
}

// The eight points of low order, in every encoding of 255 bits.
std::vector<PublicKey> PointsOfLowOrder() {
  std::vector<PublicKey> points;
  for (const char* const y : {"0000000000000000000000000000000000000000000000000000000000000000",
                              "0100000000000000000000000000000000000000000000000000000000000000",
                              "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
                              "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
                              "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
                              "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
                              "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"}) {
    points.push_back(Fixed<32>(H(y)));
    points.push_back(points.back());
    points.back()[31] |= 0x80;
  }
  return points;
}

// With such a key S = 0 and R = -hA, which is of low order too, verify whatever has the right h:
// one message in eight.
TEST(Ed25519, RefusesKeysOfLowOrder) {
  size_t taken = 0;
  for (const PublicKey& key : PointsOfLowOrder()) {
    for (const PublicKey& r : PointsOfLowOrder()) {
      Signature signature{};
      std::copy(r.begin(), r.end(), signature.begin());
      for (uint8_t i = 0; i < 20; ++i) {
        const Bytes message(1, i);
        taken += OpenSslAloneVerifies(key, message, signature) ? 1 : 0;
        ExpectVerdict(false, key, message, signature);
      }
    }
  }
  EXPECT_GT(taken, 100U);
}

// A good key, and R = 0.
TEST(Ed25519, RefusesAnROfLowOrder) {
  const PublicKey key =
      Fixed<32>(H("3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29"));
  const Bytes signature =
      H("0100000000000000000000000000000000000000000000000000000000000000"
        "8a6d235d2357f62ff8bff8b8c66d475931501306d74e538f954628eba6f1450e");
  EXPECT_TRUE(OpenSslAloneVerifies(key, Text("chorus"), signature));
  ExpectVerdict(false, key, Text("chorus"), signature);
}

TEST(Ed25519, RefusesEveryFlippedBitAndEveryOtherLength) {
  const Bytes seed(32, 5);
  PublicKey key = Ed25519Public(seed);
  Bytes message = Text("task");
  const Signature signature = Ed25519Sign(seed, message);
  Bytes signed_bytes(signature.begin(), signature.end());
  const auto refuses_flips_of = [&](std::span<uint8_t> part) {
    for (size_t bit = 0; bit < part.size() * 8; ++bit) {
      part[bit / 8] ^= static_cast<uint8_t>(1U << (bit % 8));
      EXPECT_FALSE(Ed25519Verify(key, message, signed_bytes)) << bit;
      part[bit / 8] ^= static_cast<uint8_t>(1U << (bit % 8));
    }
  };
  refuses_flips_of(signed_bytes);
  refuses_flips_of(message);
  refuses_flips_of(key);
  EXPECT_TRUE(Ed25519Verify(key, message, signed_bytes));
  for (size_t size = 0; size < 64; ++size) {
    EXPECT_FALSE(Ed25519Verify(key, message, BytesView(signed_bytes).first(size)));
  }
  signed_bytes.push_back(0);
  EXPECT_FALSE(Ed25519Verify(key, message, signed_bytes));
}

}  // namespace
}  // namespace chorus::crypto
