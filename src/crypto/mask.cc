#include "crypto/mask.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "crypto/crypto.h"
#include "crypto/mask_kernels.h"
#include "crypto/openssl.h"

namespace chorus::crypto {
namespace {

constexpr size_t kBlockBytes = 16;
// Stays in a second-level cache while every stream of a group passes over it.
constexpr size_t kTileBytes = size_t{64} << 10U;
// So many streams are set up at once and kept for all tiles: what setting up costs is spread over
// the whole vector, and each group moves the vector through the cache once more.
constexpr size_t kGroup = 64;
// OpenSSL writes so much at a time, so that zeros, stream and words stay in a first-level cache.
constexpr size_t kPieceBytes = size_t{8} << 10U;

// Where words stand in the streams, and their size.
struct Place {
  uint8_t* words;
  size_t size;        // bytes
  uint64_t block;     // of the stream
  size_t skip;        // bytes of that block which come before the words
  size_t word_bytes;  // 2, 4 or 8
};

// Cuts `place` into tiles that begin with a block, but for the first.
template <typename Visit>
void ForEachTile(const Place& place, const Visit& visit) {
  Place tile = place;
  for (size_t left = place.size; left > 0; left -= tile.size) {
    tile.size = std::min(left, kTileBytes - tile.skip);
    visit(tile);
    tile.words += tile.size;
    tile.block += (tile.skip + tile.size) / kBlockBytes;
    tile.skip = 0;
  }
}

// --- by OpenSSL ------------------------------------------------------------------------------

const EVP_CIPHER* AesCtr() {
  static const EVP_CIPHER* const cipher = EVP_CIPHER_fetch(nullptr, "AES-256-CTR", nullptr);
  Require(cipher != nullptr);
  return cipher;
}

alignas(64) constexpr std::array<uint8_t, kPieceBytes> kZeros{};

// Contexts that read the streams of a group in order, so that none is set up anew for a tile, and
// that serve one group after another.
class EvpGroup {
 public:
  explicit EvpGroup(size_t size) {
    for (size_t i = 0; i < size; ++i) {
      contexts_[i].reset(EVP_CIPHER_CTX_new());
      Require(contexts_[i] != nullptr);
    }
  }
  ~EvpGroup() { Wipe(piece_); }
  EvpGroup(const EvpGroup&) = delete;
  EvpGroup& operator=(const EvpGroup&) = delete;

  void Apply(const Place& place, std::span<const MaskStream> streams) {
    for (size_t i = 0; i < streams.size(); ++i) Begin(i, streams[i].key, place);
    ForEachTile(place, [&](const Place& tile) {
      for (size_t i = 0; i < streams.size(); ++i) {
        ApplyTile(i, tile, MaskOpFor(streams[i].sign, place.word_bytes));
      }
    });
  }

 private:
  void Begin(size_t i, BytesView key, const Place& place) {
    std::array<uint8_t, kBlockBytes> counter{};
    for (size_t j = 0; j < 8; ++j) {
      counter[15 - j] = static_cast<uint8_t>(place.block >> (8 * j));
    }
    Require(EVP_EncryptInit_ex2(contexts_[i].get(), AesCtr(), key.data(), counter.data(),
                                nullptr) == 1);
    if (place.skip > 0) Read(i, place.skip);
  }

  // The next `size` bytes of stream i, at most kPieceBytes, into piece_.
  void Read(size_t i, size_t size) {
    const int wanted = static_cast<int>(size);
    int written = 0;
    Require(EVP_EncryptUpdate(contexts_[i].get(), piece_.data(), &written, kZeros.data(), wanted) ==
                1 &&
            written == wanted);
  }

  void ApplyTile(size_t i, const Place& tile, MaskOp op) {
    for (size_t done = 0; done < tile.size; done += kPieceBytes) {
      const size_t size = std::min(tile.size - done, kPieceBytes);
      Read(i, size);
      CombineStream(tile.words + done, piece_.data(), size, op);
    }
  }

  std::array<OwnedCipherContext, kGroup> contexts_;
  alignas(64) std::array<uint8_t, kPieceBytes> piece_;
};

// --- by a kernel -----------------------------------------------------------------------------

// One line of the stream, of which the bytes from `skip` on meet `size` bytes of words.
void ApplyPartOfLine(const MaskKernel& kernel, const AesSchedule& schedule, const Place& tile,
                     size_t size, MaskOp op) {
  alignas(64) std::array<uint8_t, kMaskLineBytes> line;
  kernel.apply(schedule, tile.block, line.data(), 1, MaskOp::kReplace);
  CombineStream(tile.words, line.data() + tile.skip, size, op);
  Wipe(line);
}

void ApplyTile(const MaskKernel& kernel, const AesSchedule& schedule, Place tile, MaskOp op) {
  if (tile.skip > 0) {
    const size_t head = std::min(tile.size, kMaskLineBytes - tile.skip);
    ApplyPartOfLine(kernel, schedule, tile, head, op);
    tile = {tile.words + head, tile.size - head, tile.block + kMaskLineBytes / kBlockBytes, 0,
            tile.word_bytes};
  }
  const size_t lines = tile.size / kMaskLineBytes;
  kernel.apply(schedule, tile.block, tile.words, lines, op);
  const size_t done = lines * kMaskLineBytes;
  if (done == tile.size) return;
  tile.words += done;
  tile.block += done / kBlockBytes;
  ApplyPartOfLine(kernel, schedule, tile, tile.size - done, op);
}

void ApplyGroup(const MaskKernel& kernel, const Place& place, std::span<const MaskStream> streams) {
  std::array<AesSchedule, kGroup> schedules;
  for (size_t i = 0; i < streams.size(); ++i) kernel.expand(streams[i].key.data(), schedules[i]);
  ForEachTile(place, [&](const Place& tile) {
    for (size_t i = 0; i < streams.size(); ++i) {
      ApplyTile(kernel, schedules[i], tile, MaskOpFor(streams[i].sign, place.word_bytes));
    }
  });
}

// --- the rest of a stream, a word at a time --------------------------------------------------

template <typename Word, bool kAdd>
void CombineWords(uint8_t* words, const uint8_t* stream, size_t size) {
  for (size_t i = 0; i < size; i += sizeof(Word)) {
    Word word = 0;
    Word other = 0;
    std::memcpy(&word, words + i, sizeof(Word));
    std::memcpy(&other, stream + i, sizeof(Word));
    word = static_cast<Word>(kAdd ? word + other : word - other);
    std::memcpy(words + i, &word, sizeof(Word));
  }
}

}  // namespace

void CombineStream(uint8_t* words, const uint8_t* stream, size_t size, MaskOp op) {
  const size_t done = CombineStreamWide(words, stream, size, op);
  words += done;
  stream += done;
  size -= done;
  switch (op) {
    case MaskOp::kReplace:
      std::copy_n(stream, size, words);
      return;
    case MaskOp::kAdd16:
      return CombineWords<uint16_t, true>(words, stream, size);
    case MaskOp::kAdd32:
      return CombineWords<uint32_t, true>(words, stream, size);
    case MaskOp::kAdd64:
      return CombineWords<uint64_t, true>(words, stream, size);
    case MaskOp::kSubtract16:
      return CombineWords<uint16_t, false>(words, stream, size);
    case MaskOp::kSubtract32:
      return CombineWords<uint32_t, false>(words, stream, size);
    case MaskOp::kSubtract64:
      return CombineWords<uint64_t, false>(words, stream, size);
  }
}

bool HasMaskPath(MaskPath path) { return path == MaskPath::kEvp || MaskKernelFor(path) != nullptr; }

MaskPath FastestMaskPath() {
  if (HasMaskPath(MaskPath::kVaes512)) return MaskPath::kVaes512;
  return HasMaskPath(MaskPath::kVaes256) ? MaskPath::kVaes256 : MaskPath::kEvp;
}

template <typename Word>
void ApplyMaskStreams(MaskPath path, std::span<Word> words, uint64_t first_word,
                      std::span<const MaskStream> streams) {
  constexpr uint64_t kWordsOfBlock = kBlockBytes / sizeof(Word);
  for (const MaskStream& stream : streams) Require(stream.key.size() == kKeyBytes);
  if (words.empty() || streams.empty()) return;
  const Place place{reinterpret_cast<uint8_t*>(words.data()), words.size_bytes(),
                    first_word / kWordsOfBlock,
                    static_cast<size_t>(first_word % kWordsOfBlock) * sizeof(Word), sizeof(Word)};
  const auto for_each_group = [streams](const auto& apply) {
    for (size_t i = 0; i < streams.size(); i += kGroup) {
      apply(streams.subspan(i, std::min(kGroup, streams.size() - i)));
    }
  };
  const MaskKernel* const kernel = MaskKernelFor(path);
  if (kernel != nullptr) {
    for_each_group([&](auto group) { ApplyGroup(*kernel, place, group); });
    return;
  }
  EvpGroup contexts(std::min(kGroup, streams.size()));
  for_each_group([&](auto group) { contexts.Apply(place, group); });
}

template void ApplyMaskStreams(MaskPath, std::span<uint16_t>, uint64_t,
                               std::span<const MaskStream>);
template void ApplyMaskStreams(MaskPath, std::span<uint32_t>, uint64_t,
                               std::span<const MaskStream>);
template void ApplyMaskStreams(MaskPath, std::span<uint64_t>, uint64_t,
                               std::span<const MaskStream>);

}  // namespace chorus::crypto
