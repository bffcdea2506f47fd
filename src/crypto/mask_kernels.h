// The inner loops of mask.h for processors of x86-64, as a table of functions by path. Included
// only in this folder, by tests and by benchmarks.
#pragma once

#include <cstddef>
#include <cstdint>

#include "chorus/bytes.h"
#include "crypto/mask.h"

namespace chorus::crypto {

// What a loop does with a word of the stream and the word in place.
enum class MaskOp : uint8_t {
  kReplace,  // the stream itself
  kAdd16,
  kAdd32,
  kAdd64,
  kSubtract16,
  kSubtract32,
  kSubtract64,
};

// The operation for `sign` on words of 2, 4 or 8 bytes.
constexpr MaskOp MaskOpFor(MaskSign sign, size_t word_bytes) {
  if (sign == MaskSign::kAdd) {
    if (word_bytes == 2) return MaskOp::kAdd16;
    return word_bytes == 4 ? MaskOp::kAdd32 : MaskOp::kAdd64;
  }
  if (word_bytes == 2) return MaskOp::kSubtract16;
  return word_bytes == 4 ? MaskOp::kSubtract32 : MaskOp::kSubtract64;
}

// The fifteen round keys of AES-256. Wiped on destruction.
struct AesSchedule {
  alignas(16) uint8_t round_keys[15][16];

  ~AesSchedule() { Wipe({&round_keys[0][0], sizeof(round_keys)}); }
};

inline constexpr size_t kMaskLineBytes = 64;  // what the loops take at a time

// A path's loops; `words` need no alignment.
struct MaskKernel {
  // `key` is 32 bytes. Constant time [FIPS 197, 5.2].
  void (*expand)(const uint8_t* key, AesSchedule& schedule);
  // `lines` lines of the key stream from block `first_block` on, applied to as many of words.
  void (*apply)(const AesSchedule& schedule, uint64_t first_block, uint8_t* words, size_t lines,
                MaskOp op);
};

// Null for kEvp, and where the processor or the build lacks the path.
const MaskKernel* MaskKernelFor(MaskPath path);

// Applies `size` bytes of a finished stream to as many of words. Both hold whole words.
void CombineStream(uint8_t* words, const uint8_t* stream, size_t size, MaskOp op);
// The same for as many bytes as vector instructions can take; says how many these were.
size_t CombineStreamWide(uint8_t* words, const uint8_t* stream, size_t size, MaskOp op);

}  // namespace chorus::crypto
