#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

#include "crypto/crypto.h"
#include "crypto/mask_kernels.h"
#include "crypto/openssl.h"

namespace chorus::crypto {
namespace {

constexpr size_t kTileBytes = size_t{64} << 10U;  // zeroed and encrypted while still in cache
constexpr size_t kBufferBytes = 4'096;
constexpr size_t kBlockBytes = 16;
static_assert(kBufferBytes % kMaskLineBytes == 0);

const EVP_CIPHER* AesCtr() {
  static const EVP_CIPHER* const cipher = EVP_CIPHER_fetch(nullptr, "AES-256-CTR", nullptr);
  Require(cipher != nullptr);
  return cipher;
}

// The key stream of one key from a block on, read in order.
class KeyStream {
 public:
  KeyStream(BytesView key, uint64_t first_block) : context_(EVP_CIPHER_CTX_new()) {
    Require(context_ != nullptr && key.size() == kKeyBytes);
    std::array<uint8_t, 16> counter{};
    for (size_t i = 0; i < 8; ++i) {
      counter[15 - i] = static_cast<uint8_t>(first_block >> (8 * i));
    }
    Require(EVP_EncryptInit_ex2(context_.get(), AesCtr(), key.data(), counter.data(), nullptr) ==
            1);
  }

  void Read(std::span<uint8_t> out) {
    while (!out.empty()) {
      const std::span<uint8_t> tile = out.first(std::min(out.size(), kTileBytes));
      const int size = static_cast<int>(tile.size());
      std::memset(tile.data(), 0, tile.size());
      int written = 0;
      Require(EVP_EncryptUpdate(context_.get(), tile.data(), &written, tile.data(), size) == 1);
      Require(written == size);
      out = out.subspan(tile.size());
    }
  }

 private:
  OwnedCipherContext context_;
};

// The same stream of a key from its first block on, by the loops of masks where the processor has
// them.
class FastKeyStream {
 public:
  explicit FastKeyStream(BytesView key) : kernel_(MaskKernelFor(FastestMaskPath())) {
    Require(key.size() == kKeyBytes);
    if (kernel_ == nullptr) {
      everywhere_.emplace(key, 0);
    } else {
      kernel_->expand(key.data(), schedule_);
    }
  }

  // `out` is a whole number of lines.
  void Read(std::span<uint8_t> out) {
    if (kernel_ == nullptr) return everywhere_->Read(out);
    kernel_->apply(schedule_, block_, out.data(), out.size() / kMaskLineBytes, MaskOp::kReplace);
    block_ += out.size() / kBlockBytes;
  }

 private:
  const MaskKernel* const kernel_;
  AesSchedule schedule_;  // with a kernel; else
  std::optional<KeyStream> everywhere_;
  uint64_t block_ = 0;
};

// Draws are mostly of a few bytes, where a call of OpenSSL costs more than the bytes.
class SeededRng final : public Rng {
 public:
  explicit SeededRng(BytesView key) : stream_(key), buffer_(kBufferBytes) {}

  void Fill(std::span<uint8_t> out) override {
    while (!out.empty()) {
      if (used_ == kBufferBytes && out.size() >= kBufferBytes) {
        const std::span<uint8_t> whole = out.first(out.size() / kBufferBytes * kBufferBytes);
        stream_.Read(whole);
        out = out.subspan(whole.size());
        continue;
      }
      if (used_ == kBufferBytes) {
        stream_.Read(buffer_.RevealMutable());
        used_ = 0;
      }
      const size_t taken = std::min(out.size(), kBufferBytes - used_);
      std::memcpy(out.data(), buffer_.Reveal().data() + used_, taken);
      used_ += taken;
      out = out.subspan(taken);
    }
  }

 private:
  FastKeyStream stream_;
  SecretBytes buffer_;          // the stream's next bytes,
  size_t used_ = kBufferBytes;  // of which so many are spent
};

}  // namespace

void ExpandAesCtr(BytesView key, uint64_t first_block, std::span<uint8_t> out) {
  KeyStream(key, first_block).Read(out);
}

std::unique_ptr<Rng> NewSeededRng(BytesView key) { return std::make_unique<SeededRng>(key); }

}  // namespace chorus::crypto
