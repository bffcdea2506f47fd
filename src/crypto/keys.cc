#include <algorithm>

#include "crypto/crypto.h"
#include "crypto/openssl.h"

namespace chorus::crypto {
namespace {

constexpr char kX25519[] = "X25519";
constexpr char kEd25519[] = "ED25519";

OwnedKey PrivateKey(const char* algorithm, BytesView raw) {
  Require(raw.size() == kKeyBytes);
  OwnedKey key(
      EVP_PKEY_new_raw_private_key_ex(nullptr, algorithm, nullptr, raw.data(), raw.size()));
  Require(key != nullptr);
  return key;
}

// Every 32 bytes are taken here; whether they are a point shows in their use.
OwnedKey PeerKey(const char* algorithm, const PublicKey& raw) {
  OwnedKey key(EVP_PKEY_new_raw_public_key_ex(nullptr, algorithm, nullptr, raw.data(), raw.size()));
  Require(key != nullptr);
  return key;
}

PublicKey PublicOf(const OwnedKey& key) {
  PublicKey raw{};
  size_t size = raw.size();
  Require(EVP_PKEY_get_raw_public_key(key.get(), raw.data(), &size) == 1);
  Require(size == raw.size());
  return raw;
}

// The y coordinates of Ed25519's eight points of low order, in every encoding of 255 bits: 0, 1,
// -1, the two of order 8, and 0 and 1 with the prime added.
constexpr PublicKey kLowOrder[] = {
    {},
    {1},
    {0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4,
     0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6,
     0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05},
    {0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b,
     0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39,
     0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a},
};

// Whether `key`, its sign bit aside, is 2^255 - 19 + `offset` for a small offset of -1 or more.
bool IsPrimePlus(const PublicKey& key, int offset) {
  for (size_t i = 1; i < 31; ++i) {
    if (key[i] != 0xff) return false;
  }
  return (key[31] & 0x7f) == 0x7f && key[0] == 0xed + offset;
}

bool IsLowOrder(const PublicKey& key) {
  PublicKey y = key;
  y[31] &= 0x7f;
  return std::find(std::begin(kLowOrder), std::end(kLowOrder), y) != std::end(kLowOrder) ||
         IsPrimePlus(y, -1) || IsPrimePlus(y, 0) || IsPrimePlus(y, 1);
}

}  // namespace

PublicKey X25519Public(BytesView secret) { return PublicOf(PrivateKey(kX25519, secret)); }

bool X25519Canonical(const PublicKey& key) {
  if ((key[31] & 0x80) != 0) return false;
  for (int offset = 0; offset < 19; ++offset) {
    if (IsPrimePlus(key, offset)) return false;
  }
  return true;
}

struct X25519Key::Context {
  OwnedKey key;
  OwnedKeyContext derivation;
};

X25519Key::X25519Key(BytesView secret) : context_(std::make_unique<Context>()) {
  context_->key = PrivateKey(kX25519, secret);
  public_ = PublicOf(context_->key);
  context_->derivation.reset(EVP_PKEY_CTX_new_from_pkey(nullptr, context_->key.get(), nullptr));
  Require(context_->derivation != nullptr);
  Require(EVP_PKEY_derive_init(context_->derivation.get()) == 1);
}

X25519Key::~X25519Key() = default;
X25519Key::X25519Key(X25519Key&&) noexcept = default;
X25519Key& X25519Key::operator=(X25519Key&&) noexcept = default;

Result<SecretBytes> X25519Key::Agree(const PublicKey& peer) const {
  const ErrorScope errors;
  Require(context_ != nullptr);
  EVP_PKEY_CTX* const derivation = context_->derivation.get();
  const OwnedKey peer_key = PeerKey(kX25519, peer);
  constexpr int kUnchecked = 0;  // there is nothing to check: every 32 bytes are a point
  Require(EVP_PKEY_derive_set_peer_ex(derivation, peer_key.get(), kUnchecked) == 1);
  SecretBytes shared(kKeyBytes);
  size_t size = shared.size();
  // Fails exactly when the shared secret is all zeros [RFC 7748, 6.1].
  if (EVP_PKEY_derive(derivation, shared.RevealMutable().data(), &size) != 1) {
    return InvalidArgument("a peer's public key is a point of low order; refuse the peer");
  }
  Require(size == kKeyBytes);
  return shared;
}

Result<SecretBytes> X25519Agree(BytesView secret, const PublicKey& peer) {
  return X25519Key(secret).Agree(peer);
}

PublicKey Ed25519Public(BytesView seed) { return PublicOf(PrivateKey(kEd25519, seed)); }

Signature Ed25519Sign(BytesView seed, BytesView message) {
  const OwnedKey key = PrivateKey(kEd25519, seed);
  const OwnedDigestContext context(EVP_MD_CTX_new());
  Require(context != nullptr);
  Require(EVP_DigestSignInit_ex(context.get(), nullptr, nullptr, nullptr, nullptr, key.get(),
                                nullptr) == 1);
  Signature signature{};
  size_t size = signature.size();
  Require(EVP_DigestSign(context.get(), signature.data(), &size, message.data(), message.size()) ==
          1);
  Require(size == signature.size());
  return signature;
}

bool Ed25519Verify(const PublicKey& key, BytesView message, BytesView signature) {
  if (signature.size() != Signature{}.size() || IsLowOrder(key)) return false;
  const ErrorScope errors;
  const OwnedKey public_key = PeerKey(kEd25519, key);
  const OwnedDigestContext context(EVP_MD_CTX_new());
  Require(context != nullptr);
  Require(EVP_DigestVerifyInit_ex(context.get(), nullptr, nullptr, nullptr, nullptr,
                                  public_key.get(), nullptr) == 1);
  return EVP_DigestVerify(context.get(), signature.data(), signature.size(), message.data(),
                          message.size()) == 1;
}

}  // namespace chorus::crypto
