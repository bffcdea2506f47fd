#include "crypto/crypto.h"
#include "crypto/openssl.h"

namespace chorus::crypto {
namespace {

constexpr char kX25519[] = "X25519";

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

// Whether `key`, its top bit aside, is 2^255 - 19 + `offset`.
bool IsPrimePlus(const PublicKey& key, int offset) {
  for (size_t i = 1; i < 31; ++i) {
    if (key[i] != 0xff) return false;
  }
  return (key[31] & 0x7f) == 0x7f && key[0] == 0xed + offset;
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

}  // namespace chorus::crypto
