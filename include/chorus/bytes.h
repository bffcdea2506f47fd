// Bytes as Chorus passes them: owned, viewed, fixed-size, and secret.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace chorus {

using Bytes = std::vector<uint8_t>;
using BytesView = std::span<const uint8_t>;

using Digest = std::array<uint8_t, 32>;     // SHA-256
using PublicKey = std::array<uint8_t, 32>;  // Ed25519 or X25519
using Signature = std::array<uint8_t, 64>;  // Ed25519

inline BytesView ViewOf(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

// Overwrites `bytes` with zeros. The barrier makes the compiler believe that they are read, so it
// may not drop the write.
inline void Wipe(std::span<uint8_t> bytes) {
  if (bytes.empty()) return;
  std::memset(bytes.data(), 0, bytes.size());
  __asm__ __volatile__("" : : "r"(bytes.data()) : "memory");
}

// Bytes that nobody else may see: keys, seeds, shares, masks. Movable, not copyable, not printable;
// wiped on destruction and before move-assignment. The size is fixed at construction, so no growth
// leaves a copy behind. Compare only through crypto's EqualConstantTime. Thread-compatible.
class SecretBytes {
 public:
  SecretBytes() = default;
  explicit SecretBytes(size_t size) : bytes_(size) {}
  // Takes over `bytes` without a copy; the caller's vector is empty afterwards.
  explicit SecretBytes(Bytes&& bytes) : bytes_(std::move(bytes)) { bytes.clear(); }
  SecretBytes(SecretBytes&& other) noexcept : bytes_(std::move(other.bytes_)) {
    other.bytes_.clear();
  }
  SecretBytes& operator=(SecretBytes&& other) noexcept {
    if (this != &other) {
      Wipe(bytes_);
      bytes_ = std::move(other.bytes_);
      other.bytes_.clear();
    }
    return *this;
  }
  SecretBytes(const SecretBytes&) = delete;
  SecretBytes& operator=(const SecretBytes&) = delete;
  ~SecretBytes() { Wipe(bytes_); }

  // A second secret with the same content, for the few places that need one: the copy is visible to
  // a reader.
  SecretBytes Clone() const { return SecretBytes(Bytes(bytes_)); }

  bool empty() const { return bytes_.empty(); }
  size_t size() const { return bytes_.size(); }
  BytesView Reveal() const { return bytes_; }            // the one way to read
  std::span<uint8_t> RevealMutable() { return bytes_; }  // the one way to fill

 private:
  Bytes bytes_;
};

}  // namespace chorus
