// Several messages through SHA-256's compression at once, on processors with instructions for it.
// Included only in this folder.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace chorus::crypto {

inline constexpr size_t kSha256BlockBytes = 64;
// With four, what they work on no longer fits the registers.
inline constexpr size_t kSha256LanesMax = 3;

// One message: its chaining value [FIPS 180-4, 6.2.2], and the blocks to be compressed next.
struct Sha256Lane {
  uint32_t* state = nullptr;  // [8]
  const uint8_t* blocks = nullptr;
};

// Compresses `count` blocks of each of the first `lanes`, 1 to kSha256LanesMax, of them, and moves
// `blocks` behind them.
using Sha256Compress = void (*)(std::array<Sha256Lane, kSha256LanesMax>& of, size_t lanes,
                                size_t count);

// Null where the processor or the build has no such instructions.
Sha256Compress Sha256CompressSideBySide();

}  // namespace chorus::crypto
