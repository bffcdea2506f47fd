// crypto/keys.cc and ed25519.cc as the session targets link them: a fuzzer plays nearly the same
// session over and over, and signatures and agreements are most of its cost, so their results are
// kept. All these functions are pure: what is remembered is what would be computed. As every
// function of theirs that others call is here, the linker leaves the library's own out.
#include <map>

#include "crypto/crypto.h"

namespace chorus::anew {

PublicKey X25519Public(BytesView secret);
bool X25519Canonical(const PublicKey& key);
Result<SecretBytes> X25519Agree(BytesView secret, const PublicKey& peer);
PublicKey Ed25519Public(BytesView seed);
Signature Ed25519Sign(BytesView seed, BytesView message);
bool Ed25519Verify(const PublicKey& key, BytesView message, BytesView signature);

}  // namespace chorus::anew

namespace chorus::crypto {
namespace {

constexpr size_t kRememberedMax = 100'000;  // of each function, some 200 bytes each

// What `compute` gives for `arguments`, kept in the `known` of its function.
template <typename Value, typename Compute>
const Value& Remember(std::map<Digest, Value>& known, std::initializer_list<BytesView> arguments,
                      Compute compute) {
  const Digest key = LabeledHash("CHORUS1/test", arguments);
  const auto found = known.find(key);
  if (found != known.end()) return found->second;
  if (known.size() >= kRememberedMax) known.clear();
  return known.emplace(key, compute()).first->second;
}

}  // namespace

PublicKey X25519Public(BytesView secret) {
  static std::map<Digest, PublicKey> known;
  return Remember(known, {secret}, [&] { return anew::X25519Public(secret); });
}

bool X25519Canonical(const PublicKey& key) { return anew::X25519Canonical(key); }

struct X25519Key::Context {
  SecretBytes secret;
};

X25519Key::X25519Key(BytesView secret)
    : context_(std::make_unique<Context>()), public_(X25519Public(secret)) {
  context_->secret = SecretBytes(Bytes(secret.begin(), secret.end()));
}
X25519Key::~X25519Key() = default;
X25519Key::X25519Key(X25519Key&&) noexcept = default;
X25519Key& X25519Key::operator=(X25519Key&&) noexcept = default;

Result<SecretBytes> X25519Key::Agree(const PublicKey& peer) const {
  static std::map<Digest, Result<SecretBytes>> known;
  const BytesView secret = context_->secret.Reveal();
  const Result<SecretBytes>& shared =
      Remember(known, {secret, peer}, [&] { return anew::X25519Agree(secret, peer); });
  if (!shared.ok()) return shared.status();
  return shared->Clone();
}

Result<SecretBytes> X25519Agree(BytesView secret, const PublicKey& peer) {
  return X25519Key(secret).Agree(peer);
}

PublicKey Ed25519Public(BytesView seed) {
  static std::map<Digest, PublicKey> known;
  return Remember(known, {seed}, [&] { return anew::Ed25519Public(seed); });
}

Signature Ed25519Sign(BytesView seed, BytesView message) {
  static std::map<Digest, Signature> known;
  return Remember(known, {seed, message}, [&] { return anew::Ed25519Sign(seed, message); });
}

bool Ed25519Verify(const PublicKey& key, BytesView message, BytesView signature) {
  static std::map<Digest, bool> known;
  return Remember(known, {key, message, signature},
                  [&] { return anew::Ed25519Verify(key, message, signature); });
}

}  // namespace chorus::crypto
