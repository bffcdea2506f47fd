#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/params.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "crypto/crypto.h"
#include "crypto/openssl.h"

namespace chorus::crypto {
namespace {

// Fetched once and kept for the life of the process: a fetch costs more than a short message.
const EVP_MD* Sha256Algorithm() {
  static const EVP_MD* const algorithm = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  Require(algorithm != nullptr);
  return algorithm;
}

// A context that is set up for HMAC-SHA-256, to be copied for each use and then given its key.
// OpenSSL 3.0 cannot copy a context that has no key, hence the one that is never used.
const EVP_MAC_CTX* HmacPrototype() {
  static const EVP_MAC_CTX* const prototype = [] {
    const OwnedMac mac(EVP_MAC_fetch(nullptr, "HMAC", nullptr));
    Require(mac != nullptr);
    EVP_MAC_CTX* context = EVP_MAC_CTX_new(mac.get());
    char digest[] = "SHA256";
    const OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
                                 OSSL_PARAM_construct_end()};
    const uint8_t unused_key = 0;
    Require(context != nullptr && EVP_MAC_init(context, &unused_key, 1, params) == 1);
    return context;
  }();
  return prototype;
}

// HMAC over the concatenation of `pieces`, which is never formed: pieces may be secret.
void Hmac(BytesView key, std::initializer_list<BytesView> pieces,
          std::span<uint8_t, kMacBytes> out) {
  const OwnedMacContext context(EVP_MAC_CTX_dup(HmacPrototype()));
  Require(context != nullptr);
  // A null key would mean "the key as before"; an empty one is a key like any other.
  const uint8_t nothing = 0;
  const uint8_t* key_data = key.empty() ? &nothing : key.data();
  Require(EVP_MAC_init(context.get(), key_data, key.size(), nullptr) == 1);
  for (const BytesView piece : pieces) {
    if (piece.empty()) continue;
    Require(EVP_MAC_update(context.get(), piece.data(), piece.size()) == 1);
  }
  size_t written = 0;
  Require(EVP_MAC_final(context.get(), out.data(), &written, out.size()) == 1);
  Require(written == out.size());
}

std::array<uint8_t, 4> BigEndian(uint32_t v) {
  return {static_cast<uint8_t>(v >> 24U), static_cast<uint8_t>(v >> 16U),
          static_cast<uint8_t>(v >> 8U), static_cast<uint8_t>(v)};
}

}  // namespace

Digest Sha256(BytesView message) {
  Digest digest{};
  Require(EVP_Digest(message.data(), message.size(), digest.data(), nullptr, Sha256Algorithm(),
                     nullptr) == 1);
  return digest;
}

Digest LabeledHash(std::string_view label, std::initializer_list<BytesView> fields) {
  Require(label.size() <= UINT16_MAX);
  Sha256Stream stream;
  const auto label_size = BigEndian(static_cast<uint32_t>(label.size()));
  stream.Update(BytesView(label_size).last(2));
  stream.Update(ViewOf(label));
  stream.Update(BigEndian(static_cast<uint32_t>(fields.size())));
  for (const BytesView field : fields) {
    Require(field.size() <= UINT32_MAX);
    stream.Update(BigEndian(static_cast<uint32_t>(field.size())));
    stream.Update(field);
  }
  return stream.Finish();
}

Digest HmacSha256(BytesView key, BytesView message) {
  Digest mac{};
  Hmac(key, {message}, mac);
  return mac;
}

SecretBytes HkdfExtract(BytesView salt, BytesView key_material) {
  SecretBytes pseudo_random_key(kMacBytes);
  Hmac(salt, {key_material}, pseudo_random_key.RevealMutable().first<kMacBytes>());
  return pseudo_random_key;
}

SecretBytes HkdfExpand(BytesView pseudo_random_key, BytesView info, size_t size) {
  Require(size <= 255 * kMacBytes);
  SecretBytes out(size);
  SecretBytes block(kMacBytes);
  BytesView previous;  // T(0) is empty [RFC 5869, 2.3]
  uint8_t counter = 0;
  for (size_t done = 0; done < size;) {
    ++counter;
    Hmac(pseudo_random_key, {previous, info, BytesView(&counter, 1)},
         block.RevealMutable().first<kMacBytes>());
    previous = block.Reveal();
    const size_t taken = std::min(size - done, kMacBytes);
    std::memcpy(out.RevealMutable().data() + done, previous.data(), taken);
    done += taken;
  }
  return out;
}

bool EqualConstantTime(BytesView a, BytesView b) {
  if (a.size() != b.size()) return false;
  return a.empty() || CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

}  // namespace chorus::crypto
