// What the fuzz targets share: choices read off the input, changes made to bytes, and laws that end
// the process when they are broken.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "chorus/bytes.h"
#include "crypto/crypto.h"

namespace chorus::fuzz {

// Ends the process, so that the fuzzer keeps the input that broke the law.
inline void Require(bool holds, const char* law) {
  if (holds) return;
  std::fprintf(stderr, "a law is broken: %s\n", law);
  std::abort();
}

// The input as a sequence of choices. Once it has run out each choice is zero, which every target
// takes to mean "as an honest party would": short inputs are valid sessions.
class Choices {
 public:
  explicit Choices(BytesView bytes) : rest_(bytes) {}

  bool empty() const { return rest_.empty(); }
  // Whether every byte so far was zero.
  bool silent() const { return silent_; }
  uint8_t Byte() {
    const BytesView taken = Take(1);
    return taken.empty() ? 0 : taken[0];
  }
  bool Flag() { return Byte() % 2 == 1; }
  // Below `bound`, 0 for a bound of 0; a small bound costs one byte.
  uint32_t Below(size_t bound) {
    uint32_t value = Byte();
    if (bound > 256) value = value << 8U | Byte();
    return bound == 0 ? 0 : static_cast<uint32_t>(value % bound);
  }
  uint64_t Word() {
    uint64_t value = 0;
    for (const uint8_t byte : Take(8)) value = value << 8U | byte;
    return value;
  }
  // A number of any magnitude: half of them are near a power of two.
  uint64_t Number() {
    const uint32_t kind = Below(130);
    if (kind < 64) return (uint64_t{1} << kind) - 1;
    if (kind < 128) return uint64_t{1} << (kind - 64);
    return Word();
  }
  // The next `size` bytes, or as many as are left.
  BytesView Take(size_t size) {
    const BytesView taken = rest_.first(std::min(size, rest_.size()));
    rest_ = rest_.subspan(taken.size());
    silent_ = silent_ && std::all_of(taken.begin(), taken.end(), [](uint8_t b) { return b == 0; });
    return taken;
  }
  BytesView Rest() { return Take(rest_.size()); }

 private:
  BytesView rest_;
  bool silent_ = true;
};

// One change to `bytes`: a flipped byte, a number written over, a cut, a stretch left out, repeated
// or put in.
inline void Mutate(Choices& choices, Bytes& bytes) {
  const auto at = [&] { return static_cast<std::ptrdiff_t>(choices.Below(bytes.size() + 1)); };
  const std::ptrdiff_t a = at();
  const auto place = static_cast<size_t>(a);
  switch (choices.Below(6)) {
    case 0:
      if (place < bytes.size()) bytes[place] ^= static_cast<uint8_t>(choices.Byte() | 1U);
      return;
    case 1: {
      const uint64_t number = choices.Number();
      for (size_t i = 0; i < 4 && place + i < bytes.size(); ++i) {
        bytes[place + i] = static_cast<uint8_t>(number >> (8 * (3 - i)));
      }
      return;
    }
    case 2:
      bytes.resize(place);
      return;
    case 3: {
      const std::ptrdiff_t b = at();
      bytes.erase(bytes.begin() + std::min(a, b), bytes.begin() + std::max(a, b));
      return;
    }
    case 4: {
      const std::ptrdiff_t b = at();
      const Bytes again(bytes.begin() + std::min(a, b), bytes.begin() + std::max(a, b));
      bytes.insert(bytes.begin() + a, again.begin(), again.end());
      return;
    }
    default: {
      const BytesView more = choices.Take(choices.Below(32));
      bytes.insert(bytes.begin() + a, more.begin(), more.end());
    }
  }
}

// A key that is the same in every run.
inline SecretBytes Key(std::string_view name, uint8_t number = 0) {
  const Digest digest = crypto::LabeledHash("CHORUS1/test", {ViewOf(name), BytesView(&number, 1)});
  return SecretBytes(Bytes(digest.begin(), digest.end()));
}

// A folder of this process in memory where the system has such a place, kept for all its inputs.
inline const std::string& Folder() {
  static const std::string folder = [] {
    const std::filesystem::path shared = "/dev/shm";
    const std::filesystem::path top =
        std::filesystem::is_directory(shared) ? shared : std::filesystem::temp_directory_path();
    std::string pattern = (top / "chorus-fuzz-XXXXXX").string();
    Require(mkdtemp(pattern.data()) != nullptr, "there is a folder for files");
    static std::string made = pattern;
    std::atexit([] { std::filesystem::remove_all(made); });
    return pattern;
  }();
  return folder;
}

inline void WriteFile(const std::string& path, BytesView bytes) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
}

}  // namespace chorus::fuzz
