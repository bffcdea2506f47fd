// A game's login as tests and benchmarks play it: keys, their JWK Set, and session tokens.
#pragma once

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>

#include <array>
#include <cstdlib>
#include <string>
#include <string_view>

#include "chorus/bytes.h"
#include "crypto/crypto.h"

namespace chorus {

inline std::string Base64Url(BytesView bytes) {
  constexpr std::string_view kAlphabet =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  std::string text;
  uint32_t bits = 0;
  unsigned held = 0;
  for (const uint8_t byte : bytes) {
    bits = bits << 8U | byte;
    for (held += 8; held >= 6;) text.push_back(kAlphabet[bits >> (held -= 6) & 63U]);
  }
  if (held > 0) text.push_back(kAlphabet[bits << (6 - held) & 63U]);
  return text;
}
inline std::string Base64Url(std::string_view text) { return Base64Url(ViewOf(text)); }

// "header.claims", to be signed.
inline std::string UnsignedToken(std::string_view header, std::string_view claims) {
  return Base64Url(header) + "." + Base64Url(claims);
}

// A login that signs with Ed25519.
class Ed25519Login {
 public:
  explicit Ed25519Login(uint8_t seed) : seed_(32, seed) {}
  std::string Jwk(std::string_view id) const {
    return R"({"kty":"OKP","crv":"Ed25519","kid":")" + std::string(id) + R"(","x":")" +
           Base64Url(crypto::Ed25519Public(seed_)) + "\"}";
  }
  std::string Sign(std::string_view header, std::string_view claims) const {
    const std::string text = UnsignedToken(header, claims);
    return text + "." + Base64Url(crypto::Ed25519Sign(seed_, ViewOf(text)));
  }

 private:
  Bytes seed_;
};

// A login that signs with ECDSA over P-256, by OpenSSL. Aborts when that fails.
class P256Login {
 public:
  P256Login() : key_(EVP_EC_gen("P-256")) { Require(key_ != nullptr); }
  ~P256Login() { EVP_PKEY_free(key_); }
  P256Login(const P256Login&) = delete;
  P256Login& operator=(const P256Login&) = delete;

  std::string Jwk(std::string_view id) const {
    std::array<uint8_t, 65> point{};
    size_t size = 0;
    Require(EVP_PKEY_get_octet_string_param(key_, OSSL_PKEY_PARAM_PUB_KEY, point.data(),
                                            point.size(), &size) == 1 &&
            size == point.size());
    const BytesView coordinates = BytesView(point).subspan(1);
    return R"({"kty":"EC","crv":"P-256","kid":")" + std::string(id) + R"(","x":")" +
           Base64Url(coordinates.first(32)) + R"(","y":")" + Base64Url(coordinates.subspan(32)) +
           "\"}";
  }
  std::string Sign(std::string_view header, std::string_view claims) const {
    const std::string text = UnsignedToken(header, claims);
    EVP_MD_CTX* const context = EVP_MD_CTX_new();
    std::array<uint8_t, 80> der{};
    size_t size = der.size();
    Require(EVP_DigestSignInit_ex(context, nullptr, "SHA256", nullptr, nullptr, key_, nullptr) ==
            1);
    Require(EVP_DigestSign(context, der.data(), &size,
                           reinterpret_cast<const uint8_t*>(text.data()), text.size()) == 1);
    EVP_MD_CTX_free(context);
    const uint8_t* begin = der.data();
    ECDSA_SIG* const numbers = d2i_ECDSA_SIG(nullptr, &begin, static_cast<long>(size));
    Require(numbers != nullptr);
    std::array<uint8_t, 64> raw{};
    Require(BN_bn2binpad(ECDSA_SIG_get0_r(numbers), raw.data(), 32) == 32);
    Require(BN_bn2binpad(ECDSA_SIG_get0_s(numbers), raw.data() + 32, 32) == 32);
    ECDSA_SIG_free(numbers);
    return text + "." + Base64Url(raw);
  }

 private:
  static void Require(bool holds) {
    if (!holds) std::abort();
  }
  EVP_PKEY* key_;
};

inline std::string KeySet(std::string_view keys) {
  return R"({"keys":[)" + std::string(keys) + "]}";
}

}  // namespace chorus
