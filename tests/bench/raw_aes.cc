#include "raw_aes.h"

#include <openssl/evp.h>

#include <array>
#include <memory>
#include <vector>

#include "bench.h"

namespace chorus::bench {
namespace {

constexpr size_t kBufferBytes = size_t{64} << 10U;
constexpr size_t kBuffers = 1'024;

struct FreeContext {
  void operator()(EVP_CIPHER_CTX* context) const { EVP_CIPHER_CTX_free(context); }
};

}  // namespace

double RawAesSeconds() {
  static EVP_CIPHER* const cipher = EVP_CIPHER_fetch(nullptr, "AES-256-CTR", nullptr);
  const std::unique_ptr<EVP_CIPHER_CTX, FreeContext> context(EVP_CIPHER_CTX_new());
  const std::array<uint8_t, 32> key{};
  const std::array<uint8_t, 16> counter{};
  EVP_EncryptInit_ex2(context.get(), cipher, key.data(), counter.data(), nullptr);
  std::vector<uint8_t> buffer(kBufferBytes);
  const double seconds = Seconds(CpuSeconds, [&] {
    for (size_t i = 0; i < kBuffers; ++i) {
      int written = 0;
      EVP_EncryptUpdate(context.get(), buffer.data(), &written, buffer.data(),
                        static_cast<int>(buffer.size()));
    }
  });
  return seconds / static_cast<double>(kBuffers * kBufferBytes);
}

}  // namespace chorus::bench
