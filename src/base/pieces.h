// Bytes that lie in several pieces, in order, as a network brings them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "chorus/bytes.h"

namespace chorus {

// Owns neither the pieces nor what they are of.
using Pieces = std::span<const BytesView>;

inline uint64_t SizeOf(Pieces pieces) {
  uint64_t size = 0;
  for (const BytesView piece : pieces) size += piece.size();
  return size;
}

// At most `size` bytes, from `offset` on.
inline std::vector<BytesView> Cut(Pieces pieces, uint64_t offset, uint64_t size) {
  std::vector<BytesView> cut;
  for (const BytesView piece : pieces) {
    if (size == 0) break;
    const auto skipped = static_cast<size_t>(std::min<uint64_t>(offset, piece.size()));
    offset -= skipped;
    const BytesView rest = piece.subspan(skipped);
    const BytesView taken = rest.first(static_cast<size_t>(std::min<uint64_t>(size, rest.size())));
    size -= taken.size();
    if (!taken.empty()) cut.push_back(taken);
  }
  return cut;
}

// All of them in one: where they are several, in `room`, which is only a place and kept for the
// next.
inline BytesView Whole(Pieces pieces, Bytes& room) {
  if (pieces.size() == 1) return pieces.front();
  room.clear();
  room.reserve(static_cast<size_t>(SizeOf(pieces)));
  for (const BytesView piece : pieces) room.insert(room.end(), piece.begin(), piece.end());
  return room;
}

inline Bytes Join(Pieces pieces) {
  Bytes joined;
  joined.reserve(static_cast<size_t>(SizeOf(pieces)));
  for (const BytesView piece : pieces) joined.insert(joined.end(), piece.begin(), piece.end());
  return joined;
}

}  // namespace chorus
