// A random source for tests that replays from a small number, which a failing test prints.
#pragma once

#include <cstring>
#include <memory>

#include "base/random.h"
#include "crypto/crypto.h"

namespace chorus {

class TestRng final : public Rng {
 public:
  explicit TestRng(uint64_t seed) : stream_(crypto::NewSeededRng(KeyOf(seed))) {}
  void Fill(std::span<uint8_t> out) override { stream_->Fill(out); }
  uint64_t Word() {
    uint64_t word = 0;
    Fill({reinterpret_cast<uint8_t*>(&word), sizeof(word)});
    return word;
  }

 private:
  static std::array<uint8_t, crypto::kKeyBytes> KeyOf(uint64_t seed) {
    std::array<uint8_t, crypto::kKeyBytes> key{};
    std::memcpy(key.data(), &seed, sizeof(seed));
    return key;
  }

  std::unique_ptr<Rng> stream_;
};

}  // namespace chorus
