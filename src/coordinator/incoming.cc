#include "coordinator/incoming.h"

#include <algorithm>
#include <utility>

namespace chorus::coordinator {
namespace {

// To copy less takes less time than to keep it apart.
constexpr size_t kLongBytesMin = size_t{64} << 10U;
// What is kept of a request besides its chunk. Whoever sends more of it, such as the data twice,
// could have much held that does not count towards his answer.
constexpr size_t kBesidesBytesMax = 8'192;

}  // namespace

Result<UploadCall> UploadCall::Read(Body body) {
  CHORUS_TRY_ASSIGN(wire::UploadChunk chunk, wire::DecodeUpload(body.pieces()));
  return UploadCall{.chunk = std::move(chunk), .body = std::move(body)};
}

bool Incoming::StaysInPlace(const UploadCall& call) {
  return call.chunk.data_bytes >= kLongBytesMin &&
         call.body.size() - call.chunk.data_bytes <= kBesidesBytesMax;
}

// The room to make for a chunk that is copied and does not fit, so that an answer of many of them
// lies in few places: four times what came, with all that is held.
uint64_t Incoming::NextCopies(const UploadCall& call, uint64_t total) const {
  return std::min((size_ + call.chunk.data_bytes) * 4 - held_, total - size_);
}

uint64_t Incoming::Needs(const UploadCall& call, uint64_t total) const {
  if (StaysInPlace(call)) return call.body.size();
  return call.chunk.data_bytes <= Room() ? 0 : NextCopies(call, total);
}

void Incoming::Add(UploadCall& call, uint64_t total) {
  if (StaysInPlace(call)) {
    held_ += call.body.size();
    pieces_.insert(pieces_.end(), call.chunk.data.begin(), call.chunk.data.end());
    memory_.push_back(call.body.TakeMemory());
  } else {
    if (call.chunk.data_bytes > Room()) {
      Bytes more;
      more.reserve(static_cast<size_t>(NextCopies(call, total)));
      held_ += more.capacity();
      copies_.push_back(std::move(more));
    }
    for (const BytesView piece : call.chunk.data) Copy(piece);
  }
  size_ += call.chunk.data_bytes;
}

void Incoming::Copy(BytesView bytes) {
  if (bytes.empty()) return;
  Bytes& into = copies_.back();
  const bool goes_on = !pieces_.empty() && !into.empty() &&
                       pieces_.back().data() + pieces_.back().size() == into.data() + into.size();
  into.insert(into.end(), bytes.begin(), bytes.end());
  const BytesView copied = BytesView(into).last(bytes.size());
  if (goes_on) {
    pieces_.back() = BytesView(pieces_.back().data(), pieces_.back().size() + copied.size());
  } else {
    pieces_.push_back(copied);
  }
}

}  // namespace chorus::coordinator
