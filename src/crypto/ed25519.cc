#include "crypto/ed25519.h"

#include <sodium.h>

#include <algorithm>

#include "crypto/crypto.h"
#include "crypto/openssl.h"

namespace chorus::crypto {
namespace {

static_assert(kKeyBytes == crypto_sign_SEEDBYTES && kKeyBytes == crypto_sign_PUBLICKEYBYTES &&
              sizeof(Signature) == crypto_sign_BYTES);

// Before any other function of libsodium's.
void BeginSodium() {
  static const bool begun = sodium_init() >= 0;
  Require(begun);
}

// libsodium keeps the public key behind the seed.
struct KeyPair {
  explicit KeyPair(BytesView seed) : secret(crypto_sign_SECRETKEYBYTES) {
    Require(seed.size() == kKeyBytes);
    BeginSodium();
    Require(crypto_sign_seed_keypair(key.data(), secret.RevealMutable().data(), seed.data()) == 0);
  }
  PublicKey key{};
  SecretBytes secret;
};

// The y coordinates of the eight points of low order, in every encoding of 255 bits: 0, 1, the two
// of order 8, and -1, 0 and 1 with the prime added.
bool IsLowOrder(BytesView point) {
  constexpr uint8_t kLowOrder[][32] = {
      {},
      {1},
      {0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4,
       0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6,
       0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05},
      {0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b,
       0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39,
       0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a},
  };
  PublicKey y{};
  std::copy_n(point.begin(), y.size(), y.begin());
  y[31] &= 0x7f;
  const auto is_y = [&](const auto& low) { return std::equal(y.begin(), y.end(), low); };
  if (std::any_of(std::begin(kLowOrder), std::end(kLowOrder), is_y)) return true;
  const bool near_prime = y[31] == 0x7f && y[0] >= 0xec && y[0] <= 0xee;
  return near_prime &&
         std::all_of(y.begin() + 1, y.end() - 1, [](uint8_t byte) { return byte == 0xff; });
}

}  // namespace

PublicKey Ed25519Public(BytesView seed) { return KeyPair(seed).key; }

Signature Ed25519Sign(BytesView seed, BytesView message) {
  const KeyPair pair(seed);
  Signature signature{};
  Require(crypto_sign_detached(signature.data(), nullptr, message.data(), message.size(),
                               pair.secret.Reveal().data()) == 0);
  return signature;
}

bool SodiumWantsNoCofactor() {
  // The key has a part of order 8, and the signature was made as if it had none.
  constexpr PublicKey kKey = {0x06, 0x90, 0x3b, 0xfe, 0xa2, 0xa1, 0xdd, 0xc5, 0x86, 0xe7, 0x8a,
                              0x18, 0x95, 0x13, 0xf4, 0x7a, 0xc6, 0xae, 0x27, 0xe4, 0xe7, 0x80,
                              0x3a, 0x1c, 0x2f, 0xb9, 0x4c, 0x94, 0xb1, 0x8f, 0x39, 0x58};
  constexpr Signature kSignature = {
      0xcf, 0x34, 0x19, 0x59, 0x9c, 0x22, 0x0d, 0x2f, 0xab, 0xbc, 0xbf, 0x52, 0xd6,
      0x50, 0x53, 0x0e, 0xd3, 0x15, 0x60, 0xf1, 0x21, 0x2e, 0x90, 0x42, 0xcc, 0xf2,
      0xe6, 0xac, 0x3d, 0xd1, 0x81, 0xe9, 0x16, 0x40, 0x6b, 0xeb, 0xae, 0x81, 0xcb,
      0xff, 0x8b, 0x2e, 0x44, 0x8a, 0x5a, 0xb9, 0xbb, 0x3f, 0xcc, 0xbd, 0x81, 0xab,
      0x75, 0xe5, 0x9a, 0x38, 0x34, 0xa4, 0x9d, 0x9f, 0xe9, 0x26, 0x4a, 0x09};
  static const bool wants_none = !VerifyBySodium(kKey, ViewOf("chorus"), kSignature);
  return wants_none;
}

bool VerifyBySodium(const PublicKey& key, BytesView message, BytesView signature) {
  if (signature.size() != sizeof(Signature)) return false;
  BeginSodium();
  return crypto_sign_verify_detached(signature.data(), message.data(), message.size(),
                                     key.data()) == 0;
}

bool VerifyByOpenSsl(const PublicKey& key, BytesView message, BytesView signature) {
  if (signature.size() != sizeof(Signature) || IsLowOrder(key) || IsLowOrder(signature)) {
    return false;
  }
  const ErrorScope errors;
  const OwnedKey public_key(
      EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr, key.data(), key.size()));
  const OwnedDigestContext context(EVP_MD_CTX_new());
  Require(public_key != nullptr && context != nullptr);
  Require(EVP_DigestVerifyInit_ex(context.get(), nullptr, nullptr, nullptr, nullptr,
                                  public_key.get(), nullptr) == 1);
  return EVP_DigestVerify(context.get(), signature.data(), signature.size(), message.data(),
                          message.size()) == 1;
}

bool Ed25519Verify(const PublicKey& key, BytesView message, BytesView signature) {
  return SodiumWantsNoCofactor() ? VerifyBySodium(key, message, signature)
                                 : VerifyByOpenSsl(key, message, signature);
}

}  // namespace chorus::crypto
