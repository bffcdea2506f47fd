#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/param_build.h>

#include <array>
#include <utility>

#include "crypto/crypto.h"
#include "crypto/openssl.h"

namespace chorus::crypto {
namespace {

constexpr size_t kNumberBytes = 32;      // a coordinate, r or s
constexpr uint8_t kUncompressed = 0x04;  // [SEC 1, 2.3.3]

using OwnedParamBuilder = Owned<OSSL_PARAM_BLD, OSSL_PARAM_BLD_free>;
using OwnedParams = Owned<OSSL_PARAM, OSSL_PARAM_free>;
using OwnedEcdsaSignature = Owned<ECDSA_SIG, ECDSA_SIG_free>;

// Above the longest DER of two numbers of 33 bytes: what OpenSSL reads signatures in.
constexpr size_t kDerBytesMax = 80;

}  // namespace

struct P256Key::Context {
  OwnedKey key;
};

P256Key::P256Key(std::unique_ptr<Context> context) : context_(std::move(context)) {}
P256Key::~P256Key() = default;
P256Key::P256Key(P256Key&&) noexcept = default;
P256Key& P256Key::operator=(P256Key&&) noexcept = default;

Result<P256Key> P256Key::FromCoordinates(BytesView x, BytesView y) {
  if (x.size() != kNumberBytes || y.size() != kNumberBytes) {
    return InvalidArgument("a coordinate of a P-256 key must have 32 bytes");
  }
  const ErrorScope errors;
  std::array<uint8_t, 1 + 2 * kNumberBytes> point{kUncompressed};
  std::copy(x.begin(), x.end(), point.begin() + 1);
  std::copy(y.begin(), y.end(), point.begin() + 1 + kNumberBytes);
  const OwnedParamBuilder builder(OSSL_PARAM_BLD_new());
  Require(builder != nullptr);
  Require(OSSL_PARAM_BLD_push_utf8_string(builder.get(), OSSL_PKEY_PARAM_GROUP_NAME, "P-256", 0) ==
          1);
  Require(OSSL_PARAM_BLD_push_octet_string(builder.get(), OSSL_PKEY_PARAM_PUB_KEY, point.data(),
                                           point.size()) == 1);
  const OwnedParams params(OSSL_PARAM_BLD_to_param(builder.get()));
  const OwnedKeyContext maker(EVP_PKEY_CTX_new_from_name(nullptr, "EC", nullptr));
  Require(params != nullptr && maker != nullptr);
  Require(EVP_PKEY_fromdata_init(maker.get()) == 1);
  EVP_PKEY* made = nullptr;
  const int status = EVP_PKEY_fromdata(maker.get(), &made, EVP_PKEY_PUBLIC_KEY, params.get());
  auto context = std::make_unique<Context>();
  context->key.reset(made);
  const OwnedKeyContext checker(
      made == nullptr ? nullptr : EVP_PKEY_CTX_new_from_pkey(nullptr, made, nullptr));
  if (status != 1 || checker == nullptr || EVP_PKEY_public_check(checker.get()) != 1) {
    return InvalidArgument("the coordinates are no point of P-256");
  }
  return P256Key(std::move(context));
}

bool P256Key::Verify(BytesView message, BytesView signature) const {
  if (signature.size() != 2 * kNumberBytes) return false;
  const ErrorScope errors;
  const OwnedEcdsaSignature numbers(ECDSA_SIG_new());
  Require(numbers != nullptr);
  BIGNUM* const r = BN_bin2bn(signature.data(), kNumberBytes, nullptr);
  BIGNUM* const s = BN_bin2bn(signature.data() + kNumberBytes, kNumberBytes, nullptr);
  Require(r != nullptr && s != nullptr);
  Require(ECDSA_SIG_set0(numbers.get(), r, s) == 1);
  std::array<uint8_t, kDerBytesMax> der{};
  uint8_t* end = der.data();
  const int size = i2d_ECDSA_SIG(numbers.get(), &end);
  Require(size > 0 && static_cast<size_t>(size) <= der.size());
  const OwnedDigestContext context(EVP_MD_CTX_new());
  Require(context != nullptr);
  Require(EVP_DigestVerifyInit_ex(context.get(), nullptr, "SHA256", nullptr, nullptr,
                                  context_->key.get(), nullptr) == 1);
  return EVP_DigestVerify(context.get(), der.data(), static_cast<size_t>(size), message.data(),
                          message.size()) == 1;
}

}  // namespace chorus::crypto
