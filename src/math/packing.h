// Packing and unpacking with vector instructions: the bulk of what ring.cc does, where the
// processor can. Included only in this folder and by tests.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "chorus/bytes.h"

namespace chorus::math {

// Adds the first values of the bit stream `packed` to the first words of `sum`; says how many, a
// multiple of 8, zero where the processor has no such instructions. Reads nothing outside `packed`.
// bits in 1..16 or 1..32, as the words are.
size_t AddPackedWide(std::span<uint16_t> sum, BytesView packed, unsigned bits);
size_t AddPackedWide(std::span<uint32_t> sum, BytesView packed, unsigned bits);

// Packs the first words, likewise. `packed` has room for all of `words`; what it holds behind the
// bytes of the words that were packed is changed.
size_t PackWide(std::span<const uint16_t> words, unsigned bits, std::span<uint8_t> packed);
size_t PackWide(std::span<const uint32_t> words, unsigned bits, std::span<uint8_t> packed);

}  // namespace chorus::math
