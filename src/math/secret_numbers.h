// Numbers that nobody else may see: keys of a ring, their shares and what is computed from them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "chorus/bytes.h"

namespace chorus::math {

// What SecretBytes is to bytes: movable, not copyable, not printable; wiped on destruction and
// before move-assignment. The size is fixed at construction, so no growth leaves a copy behind.
// Thread-compatible.
template <typename Number>
class SecretNumbers {
 public:
  static_assert(std::is_integral_v<Number>);

  SecretNumbers() = default;
  explicit SecretNumbers(size_t size) : numbers_(size) {}  // zeros
  SecretNumbers(SecretNumbers&& other) noexcept : numbers_(std::move(other.numbers_)) {
    other.numbers_.clear();
  }
  SecretNumbers& operator=(SecretNumbers&& other) noexcept {
    if (this != &other) {
      WipeAll();
      numbers_ = std::move(other.numbers_);
      other.numbers_.clear();
    }
    return *this;
  }
  SecretNumbers(const SecretNumbers&) = delete;
  SecretNumbers& operator=(const SecretNumbers&) = delete;
  ~SecretNumbers() { WipeAll(); }

  size_t size() const { return numbers_.size(); }
  std::span<const Number> Reveal() const { return numbers_; }  // the one way to read
  std::span<Number> RevealMutable() { return numbers_; }       // the one way to fill
  // The numbers as they lie in memory, little-endian.
  BytesView RevealBytes() const {
    return {reinterpret_cast<const uint8_t*>(numbers_.data()), numbers_.size() * sizeof(Number)};
  }
  std::span<uint8_t> RevealMutableBytes() {
    return {reinterpret_cast<uint8_t*>(numbers_.data()), numbers_.size() * sizeof(Number)};
  }

 private:
  void WipeAll() { Wipe(RevealMutableBytes()); }

  std::vector<Number> numbers_;
};

}  // namespace chorus::math
