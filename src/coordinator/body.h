// The bytes of one request with the memory that they lie in, in the pieces in which the network
// brought them. What is long is not copied on its way to where it is summed.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "base/pieces.h"
#include "chorus/bytes.h"

namespace chorus::coordinator {

class Body {
 public:
  // Whatever the pieces lie in; freed with the last who needs them.
  class Memory {
   public:
    virtual ~Memory() = default;
  };

  Body() = default;
  Body(Body&& other) noexcept { *this = std::move(other); }
  Body& operator=(Body&& other) noexcept {
    pieces_ = std::exchange(other.pieces_, {});
    memory_ = std::move(other.memory_);
    size_ = std::exchange(other.size_, 0);
    return *this;
  }
  Body(Bytes bytes) {  // NOLINT(google-explicit-constructor): a body in one piece
    auto own = std::make_unique<Own>(std::move(bytes));
    pieces_.emplace_back(own->bytes);
    size_ = own->bytes.size();
    memory_ = std::move(own);
  }
  Body(BytesView bytes)  // NOLINT(google-explicit-constructor): a copy of them
      : Body(Bytes(bytes.begin(), bytes.end())) {}
  Body(std::vector<BytesView> pieces, std::unique_ptr<Memory> memory)
      : pieces_(std::move(pieces)), memory_(std::move(memory)), size_(SizeOf(pieces_)) {}

  uint64_t size() const { return size_; }
  Pieces pieces() const { return pieces_; }
  // All of it in one piece, which it lies in from then on.
  BytesView Whole() {
    if (pieces_.empty()) return {};
    if (pieces_.size() > 1) *this = Body(Join(pieces_));
    return pieces_.front();
  }
  // Of a body whose pieces somebody goes on using. They must not be used through it any more.
  std::unique_ptr<Memory> TakeMemory() {
    pieces_.clear();
    size_ = 0;
    return std::move(memory_);
  }

 private:
  class Own final : public Memory {
   public:
    explicit Own(Bytes given) : bytes(std::move(given)) {}
    const Bytes bytes;
  };

  std::vector<BytesView> pieces_;
  std::unique_ptr<Memory> memory_;
  uint64_t size_ = 0;
};

}  // namespace chorus::coordinator
