// Ring vectors: words of 2, 4 or 8 bytes, and their packed form of `bits` a value. The loops below
// are written so that the same instructions run whatever the values are; branches follow positions
// and sizes, which everybody knows.
#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <type_traits>

#include "math/math.h"
#include "math/packing.h"

namespace chorus::math {
namespace {

static_assert(std::endian::native == std::endian::little, "streams are read as words");

constexpr int kBitsMax = 64;

bool AreBits(int bits) { return bits >= 1 && bits <= kBitsMax; }

// The low `bits` set; bits in 1..64.
uint64_t MaskOf(int bits) { return ~uint64_t{0} >> static_cast<unsigned>(kBitsMax - bits); }

// What fits in a word of `vector`, whatever was asked for.
template <typename Word>
int FittingBits(int bits) {
  return std::clamp(bits, 1, std::numeric_limits<Word>::digits);
}

uint64_t LoadWord(const uint8_t* from) {
  uint64_t word = 0;
  std::memcpy(&word, from, sizeof(word));
  return word;
}

// Appends values of up to 64 bits to a little-endian bit stream, eight bytes at a time.
class BitWriter {
 public:
  explicit BitWriter(uint8_t* out) : out_(out) {}

  // `value` < 2^bits.
  void Put(uint64_t value, unsigned bits) {
    held_ |= value << filled_;
    filled_ += bits;
    if (filled_ < kBitsMax) return;
    std::memcpy(out_, &held_, sizeof(held_));
    out_ += sizeof(held_);
    filled_ -= kBitsMax;
    // The part of `value` that did not fit; nothing when it ended on the boundary.
    held_ = filled_ == 0 ? 0 : value >> (bits - filled_);
  }

  // Writes the last, incomplete word and forgets it.
  void Finish() {
    std::memcpy(out_, &held_, (filled_ + 7) / 8);
    Wipe({reinterpret_cast<uint8_t*>(&held_), sizeof(held_)});
  }

 private:
  uint8_t* out_;
  uint64_t held_ = 0;
  unsigned filled_ = 0;
};

template <typename Word>
void PackWords(const std::vector<Word>& words, unsigned bits, std::span<uint8_t> packed) {
  const uint64_t mask = MaskOf(static_cast<int>(bits));
  size_t i = 0;
  if constexpr (sizeof(Word) < sizeof(uint64_t)) {
    if (bits <= std::numeric_limits<Word>::digits) i = PackWide(words, bits, packed);
  }
  BitWriter writer(packed.data() + i / 8 * bits);
  if (bits <= kBitsMax / 4) {
    // Few bits: four values make one Put, which is what costs.
    for (; i + 4 <= words.size(); i += 4) {
      const uint64_t low = (words[i] & mask) | (words[i + 1] & mask) << bits;
      const uint64_t high = (words[i + 2] & mask) | (words[i + 3] & mask) << bits;
      writer.Put(low | high << (2 * bits), 4 * bits);
    }
  } else if (bits <= kBitsMax / 2) {
    for (; i + 2 <= words.size(); i += 2) {
      writer.Put((words[i] & mask) | (words[i + 1] & mask) << bits, 2 * bits);
    }
  }
  for (; i < words.size(); ++i) writer.Put(words[i] & mask, bits);
  writer.Finish();
}

// How far a value's first byte must stay from the end to be read with whole words.
constexpr size_t kReadAhead = 16;

// Adds `count` values of the bit stream at `packed`, from its first bit on. Reads up to kReadAhead
// bytes past a value's first byte.
template <typename Word>
void AddValues(Word* sum, size_t count, const uint8_t* packed, unsigned bits) {
  const uint64_t mask = MaskOf(static_cast<int>(bits));
  uint64_t position = 0;
  if (bits <= kBitsMax - 7) {  // a value and the bits before it in its first byte are one word
    for (size_t i = 0; i < count; ++i, position += bits) {
      const uint64_t word = LoadWord(packed + position / 8);
      sum[i] = static_cast<Word>(sum[i] + (word >> position % 8 & mask));
    }
    return;
  }
  for (size_t i = 0; i < count; ++i, position += bits) {
    const uint8_t* first = packed + position / 8;
    const unsigned shift = position % 8;
    // Two shifts, because one by 64 is undefined when shift is 0.
    const uint64_t word = LoadWord(first) >> shift | uint64_t{first[8]} << 1U << (63 - shift);
    sum[i] = static_cast<Word>(sum[i] + (word & mask));
  }
}

template <typename Word>
void AddAll(std::span<Word> sum, BytesView packed, unsigned bits) {
  if constexpr (sizeof(Word) < sizeof(uint64_t)) {
    const size_t added = AddPackedWide(sum, packed, bits);
    sum = sum.subspan(added);
    packed = packed.subspan(added / 8 * bits);
  }
  // Eight values begin and end on whole bytes, so that is where the stream can be cut: all but the
  // end is read in place, and the end from a copy with room behind it.
  const uint64_t safe_bytes = packed.size() < kReadAhead ? 0 : packed.size() - kReadAhead;
  const uint64_t in_place = std::min<uint64_t>(safe_bytes * 8 / bits, sum.size()) / 8 * 8;
  AddValues(sum.data(), in_place, packed.data(), bits);
  const BytesView rest = packed.subspan(in_place * bits / 8);
  std::array<uint8_t, kBitsMax + 3 * kReadAhead> end{};
  std::copy(rest.begin(), rest.end(), end.begin());
  AddValues(sum.data() + in_place, sum.size() - in_place, end.data(), bits);
}

// Eight values begin and end on whole bytes. Those that lie across pieces are put together first.
template <typename Word>
void AddEachPiece(std::span<Word> sum, Pieces packed, unsigned bits) {
  const auto add = [&](BytesView whole) {
    const size_t values = std::min(whole.size() / bits * 8, sum.size());
    AddAll(sum.first(values), whole, bits);
    sum = sum.subspan(values);
  };
  std::array<uint8_t, kBitsMax> across{};
  size_t filled = 0;
  for (BytesView piece : packed) {
    while (!piece.empty()) {
      size_t taken = 0;
      if (filled == 0 && piece.size() >= bits) {
        taken = piece.size() / bits * bits;
        add(piece.first(taken));
      } else {
        taken = std::min(bits - filled, piece.size());
        std::copy_n(piece.begin(), taken, across.begin() + static_cast<ptrdiff_t>(filled));
        filled += taken;
        if (filled == bits) {
          add(BytesView(across).first(bits));
          filled = 0;
        }
      }
      piece = piece.subspan(taken);
    }
  }
  if (filled > 0) AddAll(sum, BytesView(across).first(filled), bits);
}

}  // namespace

int WordBytesFor(int bits) {
  if (bits <= 16) return 2;
  return bits <= 32 ? 4 : 8;
}

RingVector ZeroVector(uint64_t dim, int bits) {
  switch (WordBytesFor(bits)) {
    case 2:
      return std::vector<uint16_t>(dim);
    case 4:
      return std::vector<uint32_t>(dim);
    default:
      return std::vector<uint64_t>(dim);
  }
}

uint64_t DimOf(const RingVector& vector) {
  return std::visit([](const auto& words) -> uint64_t { return words.size(); }, vector);
}

void WipeVector(RingVector& vector) {
  std::visit(
      [](auto& words) {
        Wipe({reinterpret_cast<uint8_t*>(words.data()), words.size() * sizeof(words[0])});
      },
      vector);
}

void ReduceBits(RingVector& vector, int bits) {
  std::visit(
      [bits](auto& words) {
        using Word = typename std::decay_t<decltype(words)>::value_type;
        const auto mask = static_cast<Word>(MaskOf(FittingBits<Word>(bits)));
        for (Word& word : words) word = static_cast<Word>(word & mask);
      },
      vector);
}

uint64_t PackedBytes(uint64_t dim, int bits) {
  if (!AreBits(bits)) return 0;
  // Eight values take `bits` bytes: dim * bits itself could overflow.
  const auto width = static_cast<uint64_t>(bits);
  return dim / 8 * width + (dim % 8 * width + 7) / 8;
}

Bytes Pack(const RingVector& vector, int bits) {
  Bytes packed(PackedBytes(DimOf(vector), bits));
  PackInto(vector, bits, packed);
  return packed;
}

void PackInto(const RingVector& vector, int bits, std::span<uint8_t> packed) {
  if (packed.empty() || packed.size() != PackedBytes(DimOf(vector), bits)) return;
  std::visit(
      [packed, bits](const auto& words) { PackWords(words, static_cast<unsigned>(bits), packed); },
      vector);
}

Status AddPacked(RingVector& sum, BytesView packed, int bits) {
  return AddPackedPieces(sum, {&packed, 1}, bits);
}

Status AddPackedPieces(RingVector& sum, Pieces packed, int bits) {
  const bool fits = std::visit(
      [bits](const auto& words) { return bits <= static_cast<int>(sizeof(words[0]) * 8); }, sum);
  if (!AreBits(bits) || !fits) return InvalidArgument("the sum's words do not hold so many bits");
  const uint64_t dim = DimOf(sum);
  const uint64_t size = SizeOf(packed);
  if (size != PackedBytes(dim, bits)) {
    return InvalidArgument("the packed vector's length does not match its dimension");
  }
  if (size == 0) return OkStatus();
  const auto used_bits = static_cast<unsigned>(dim % 8 * static_cast<uint64_t>(bits) % 8);
  const uint8_t last = Cut(packed, size - 1, 1).front().front();
  if (used_bits != 0 && last >> used_bits != 0) {
    return InvalidArgument("the packed vector's pad bits are not zero");
  }
  std::visit(
      [packed, bits](auto& words) {
        AddEachPiece(std::span(words), packed, static_cast<unsigned>(bits));
      },
      sum);
  return OkStatus();
}

int64_t SignedAt(const RingVector& vector, uint64_t index, int bits) {
  return std::visit(
      [index, bits](const auto& words) {
        using Word = typename std::decay_t<decltype(words)>::value_type;
        const auto unused = static_cast<unsigned>(kBitsMax - FittingBits<Word>(bits));
        return static_cast<int64_t>(uint64_t{words[index]} << unused) >> unused;
      },
      vector);
}

void SetSigned(RingVector& vector, uint64_t index, int64_t value) {
  std::visit(
      [index, value](auto& words) {
        using Word = typename std::decay_t<decltype(words)>::value_type;
        words[index] = static_cast<Word>(value);
      },
      vector);
}

}  // namespace chorus::math
