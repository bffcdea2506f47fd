#include <openssl/rand.h>

#include <algorithm>

#include "crypto/crypto.h"
#include "crypto/openssl.h"

namespace chorus::crypto {
namespace {

// Stateless: OpenSSL keeps one generator a thread, seeded by the operating system and again after a
// fork.
class SystemRng final : public Rng {
 public:
  void Fill(std::span<uint8_t> out) override {
    while (!out.empty()) {
      const std::span<uint8_t> piece = out.first(std::min(out.size(), kPieceBytesMax));
      Require(RAND_priv_bytes(piece.data(), static_cast<int>(piece.size())) == 1);
      out = out.subspan(piece.size());
    }
  }
};

}  // namespace

std::unique_ptr<Rng> NewSystemRng() { return std::make_unique<SystemRng>(); }

SecretBytes RandomSecret(Rng& rng, size_t size) {
  SecretBytes secret(size);
  rng.Fill(secret.RevealMutable());
  return secret;
}

}  // namespace chorus::crypto
