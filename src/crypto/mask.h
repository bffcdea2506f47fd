// Masks on vectors: AES-256-CTR key streams added to words or taken from them, fused where the
// processor can. The stream is that of ExpandAesCtr, byte for byte, on every path.
#pragma once

#include <cstdint>
#include <span>

#include "chorus/bytes.h"

namespace chorus::crypto {

enum class MaskSign : uint8_t { kAdd, kSubtract };

// One key stream and what is done with it. `key` is 32 bytes.
struct MaskStream {
  BytesView key;
  MaskSign sign = MaskSign::kAdd;
};

// How streams are made. All paths give the same bytes.
enum class MaskPath : uint8_t {
  kEvp,      // OpenSSL into a tile, then a vector add: everywhere
  kVaes256,  // AVX2 and VAES
  kVaes512,  // AVX-512 F, BW and VL, and VAES
};
bool HasMaskPath(MaskPath path);  // whether this processor and its system run it
MaskPath FastestMaskPath();

// Applies every stream to `words`, which are those from word `first_word` on of a vector whose word
// i meets bytes [i * w, (i + 1) * w) of each stream, little-endian; sums wrap. first_word + the
// number of words <= 2^64. Tile by tile, all streams while a tile is in cache. Word is uint16_t,
// uint32_t or uint64_t. A path that this processor lacks is replaced by kEvp. Thread-safe on
// disjoint words: a caller may cut a vector where it likes. Constant time in keys and words;
// expanded keys and streams are wiped from memory.
template <typename Word>
void ApplyMaskStreams(MaskPath path, std::span<Word> words, uint64_t first_word,
                      std::span<const MaskStream> streams);

}  // namespace chorus::crypto
