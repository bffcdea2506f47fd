// Our own canonical bytes, for everything that is hashed, signed or logged. One encoding for each
// value; a reader never reads past the end and refuses what is left over.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <type_traits>

#include "chorus/bytes.h"
#include "chorus/status.h"

namespace chorus {

static_assert(std::endian::native == std::endian::little,
              "vectors are written as the machine holds them");

// Appends to a growing vector of bytes. Integers are big-endian unless the name says otherwise.
class Writer {
 public:
  Writer() = default;
  // For secrets: a vector that never grows beyond `size` leaves no copy behind.
  explicit Writer(size_t size) { bytes_.reserve(size); }
  Writer& U8(uint8_t v) { return Append(v, 1); }
  Writer& U16(uint16_t v) { return Append(v, 2); }
  Writer& U32(uint32_t v) { return Append(v, 4); }
  Writer& U64(uint64_t v) { return Append(v, 8); }
  Writer& U64Little(uint64_t v) {
    for (int i = 0; i < 8; ++i) bytes_.push_back(static_cast<uint8_t>(v >> (8 * i)));
    return *this;
  }
  // IEEE-754 binary32, big-endian.
  Writer& F32(float v) { return U32(std::bit_cast<uint32_t>(v)); }
  // The bytes as they are, without a length.
  Writer& Raw(BytesView v) {
    const size_t before = bytes_.size();
    bytes_.resize(before + v.size());
    if (!v.empty()) std::memcpy(bytes_.data() + before, v.data(), v.size());
    return *this;
  }
  Writer& Raw(std::string_view text) { return Raw(ViewOf(text)); }

  BytesView view() const { return bytes_; }
  Bytes Take() && { return std::move(bytes_); }

 private:
  Writer& Append(uint64_t v, int size) {
    for (int i = size - 1; i >= 0; --i) bytes_.push_back(static_cast<uint8_t>(v >> (8 * i)));
    return *this;
  }

  Bytes bytes_;
};

// Reads what a Writer wrote. The first read past the end makes every later read yield zeros or
// empty views and Finish() fail, so a decoder reads all fields in a row and checks once. Views
// point into the input.
class Reader {
 public:
  explicit Reader(BytesView bytes) : rest_(bytes) {}

  uint8_t U8() { return static_cast<uint8_t>(Unsigned(1)); }
  uint16_t U16() { return static_cast<uint16_t>(Unsigned(2)); }
  uint32_t U32() { return static_cast<uint32_t>(Unsigned(4)); }
  uint64_t U64() { return Unsigned(8); }
  uint64_t U64Little() {
    const BytesView raw = Raw(8);
    uint64_t v = 0;
    for (size_t i = raw.size(); i > 0; --i) v = v << 8U | raw[i - 1];
    return v;
  }
  float F32() { return std::bit_cast<float>(U32()); }
  BytesView Raw(size_t size) {
    if (size > rest_.size()) {
      failed_ = true;
      rest_ = {};
      return {};
    }
    const BytesView taken = rest_.first(size);
    rest_ = rest_.subspan(size);
    return taken;
  }
  // Reads exactly N bytes into an array; zeros when there are fewer.
  template <size_t N>
  std::array<uint8_t, N> Array() {
    std::array<uint8_t, N> out{};
    const BytesView raw = Raw(N);
    if (raw.size() == N) std::memcpy(out.data(), raw.data(), N);
    return out;
  }
  // A list's count. Fails when even entries of `entry_bytes_min` each could not fit in what is
  // left, so a lying count never sizes an allocation.
  uint32_t Count(size_t entry_bytes_min) {
    const uint32_t count = U32();
    if (entry_bytes_min != 0 && count > rest_.size() / entry_bytes_min) failed_ = true;
    return failed_ ? 0 : count;
  }

  // Makes every later read, and Finish, fail; gives 0.
  uint32_t Fail() {
    failed_ = true;
    rest_ = {};
    return 0;
  }

  size_t left() const { return rest_.size(); }
  bool failed() const { return failed_; }
  // kInvalidArgument "`what` is cut short" or "… has bytes left over".
  Status Finish(std::string_view what) const {
    if (failed_) return InvalidArgument(std::string(what) + " is cut short");
    if (!rest_.empty()) return InvalidArgument(std::string(what) + " has bytes left over");
    return OkStatus();
  }

 private:
  uint64_t Unsigned(size_t size) {
    uint64_t v = 0;
    for (const uint8_t byte : Raw(size)) v = v << 8U | byte;
    return v;
  }

  BytesView rest_;
  bool failed_ = false;
};

}  // namespace chorus
