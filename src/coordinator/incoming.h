// Calls of Upload, and the answers that they bring, chunk by chunk.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "base/pieces.h"
#include "chorus/bytes.h"
#include "chorus/status.h"
#include "coordinator/body.h"
#include "crypto/crypto.h"
#include "wire/wire.h"

namespace chorus::coordinator {

// The hash of an answer with a chunk that it does not have yet.
struct HashedAhead {
  uint64_t version = 0;  // of the answer without it
  crypto::Sha256Stream hash;
};

// One call of Upload, read.
struct UploadCall {
  // kInvalidArgument: as wire::DecodeUpload.
  static Result<UploadCall> Read(Body body);

  wire::UploadChunk chunk;  // its data lies in the body
  Body body;
  std::optional<HashedAhead> ahead = {};
};

// An answer on its way in. Long chunks stay in the memory in which they came; others are copied
// behind each other. What it holds grows with the bytes that came, never with those announced.
// Thread-compatible.
class Incoming {
 public:
  uint64_t size() const { return size_; }  // bytes that came
  // Bytes of memory, but for what gRPC's buffers have beyond a request that lies in them.
  uint64_t held() const { return held_; }
  Pieces pieces() const { return pieces_; }

  // How much more it will hold with the call's chunk, of an answer of `total` bytes.
  uint64_t Needs(const UploadCall& call, uint64_t total) const;
  // Takes the chunk over.
  void Add(UploadCall& call, uint64_t total);

 private:
  static bool StaysInPlace(const UploadCall& call);
  size_t Room() const {
    return copies_.empty() ? 0 : copies_.back().capacity() - copies_.back().size();
  }
  uint64_t NextCopies(const UploadCall& call, uint64_t total) const;
  void Copy(BytesView bytes);

  std::vector<BytesView> pieces_;
  std::vector<std::unique_ptr<Body::Memory>> memory_;
  std::vector<Bytes> copies_;  // of the others; none is moved once there is something in it
  uint64_t size_ = 0;
  uint64_t held_ = 0;
};

}  // namespace chorus::coordinator
