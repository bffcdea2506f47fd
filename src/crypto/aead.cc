#include <algorithm>

#include "crypto/crypto.h"
#include "crypto/openssl.h"

namespace chorus::crypto {
namespace {

const EVP_CIPHER* AesGcm() {
  static const EVP_CIPHER* const cipher = EVP_CIPHER_fetch(nullptr, "AES-256-GCM", nullptr);
  Require(cipher != nullptr);
  return cipher;
}

enum class Direction : int { kOpen = 0, kSeal = 1 };

// Runs `input` through the cipher into `output`, or into the tag alone when `output` is null.
void Pass(EVP_CIPHER_CTX* context, BytesView input, uint8_t* output) {
  while (!input.empty()) {
    const BytesView piece = input.first(std::min(input.size(), kPieceBytesMax));
    const int size = static_cast<int>(piece.size());
    int written = 0;
    Require(EVP_CipherUpdate(context, output, &written, piece.data(), size) == 1);
    Require(written == size);
    if (output != nullptr) output += piece.size();
    input = input.subspan(piece.size());
  }
}

OwnedCipherContext Begin(Direction direction, BytesView key, const Nonce& nonce,
                         BytesView associated_data) {
  Require(key.size() == kKeyBytes);
  OwnedCipherContext context(EVP_CIPHER_CTX_new());
  Require(context != nullptr);
  // OpenSSL's nonce size for GCM is 12 bytes unless set otherwise, as is Nonce's.
  Require(EVP_CipherInit_ex2(context.get(), AesGcm(), key.data(), nonce.data(),
                             static_cast<int>(direction), nullptr) == 1);
  Pass(context.get(), associated_data, nullptr);
  return context;
}

}  // namespace

Bytes AeadSeal(BytesView key, const Nonce& nonce, BytesView associated_data, BytesView plaintext) {
  const OwnedCipherContext context = Begin(Direction::kSeal, key, nonce, associated_data);
  Bytes sealed(plaintext.size() + kAeadTagBytes);
  Pass(context.get(), plaintext, sealed.data());
  uint8_t* tag = sealed.data() + plaintext.size();
  int written = 0;
  Require(EVP_CipherFinal_ex(context.get(), tag, &written) == 1 && written == 0);
  Require(EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_AEAD_GET_TAG, kAeadTagBytes, tag) == 1);
  return sealed;
}

Result<SecretBytes> AeadOpen(BytesView key, const Nonce& nonce, BytesView associated_data,
                             BytesView ciphertext) {
  if (ciphertext.size() < kAeadTagBytes) {
    return DataLoss("a sealed message is shorter than its tag");
  }
  const ErrorScope errors;
  const BytesView body = ciphertext.first(ciphertext.size() - kAeadTagBytes);
  std::array<uint8_t, kAeadTagBytes> tag;
  std::copy_n(ciphertext.data() + body.size(), kAeadTagBytes, tag.data());
  const OwnedCipherContext context = Begin(Direction::kOpen, key, nonce, associated_data);
  SecretBytes plaintext(body.size());
  Pass(context.get(), body, plaintext.RevealMutable().data());
  Require(EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_AEAD_SET_TAG, kAeadTagBytes, tag.data()) ==
          1);
  uint8_t nothing = 0;
  int written = 0;
  // The plaintext is not looked at before this has accepted the tag, and is wiped when it has not.
  if (EVP_CipherFinal_ex(context.get(), &nothing, &written) != 1) {
    return DataLoss("a sealed message does not open: it was changed, or is for another key");
  }
  return plaintext;
}

}  // namespace chorus::crypto
