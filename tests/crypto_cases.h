// What the tests of cryptography share: draws, and cases of published files.
#pragma once

#include <algorithm>
#include <array>
#include <memory>
#include <string>

#include "crypto/crypto.h"
#include "matchers.h"
#include "vectors.h"

namespace chorus::crypto {

template <size_t N>
std::array<uint8_t, N> Fixed(BytesView bytes) {
  std::array<uint8_t, N> out{};
  EXPECT_EQ(bytes.size(), N);
  std::copy_n(bytes.begin(), std::min(bytes.size(), N), out.begin());
  return out;
}

inline Bytes Revealed(const SecretBytes& secret) {
  return {secret.Reveal().begin(), secret.Reveal().end()};
}

inline std::unique_ptr<Rng> Seeded(uint8_t seed) { return NewSeededRng(Bytes(32, seed)); }

inline Bytes Draw(Rng& rng, size_t size) {
  Bytes out(size);
  rng.Fill(out);
  return out;
}

// Calls judge(group, test) for every case; how many there were.
template <typename Judge>
size_t ForEachCase(const json& file, Judge judge) {
  size_t count = 0;
  for (const json& group : file["testGroups"]) {
    for (const json& test : group["tests"]) {
      SCOPED_TRACE("tcId " + test["tcId"].dump());
      judge(group, test);
      ++count;
    }
  }
  return count;
}

inline Bytes HexOf(const json& object, const char* key) {
  return H(object[key].get<std::string>());
}
inline bool IsValid(const json& test) { return test["result"] == "valid"; }

}  // namespace chorus::crypto
