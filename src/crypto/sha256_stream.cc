// SHA-256 in pieces. OpenSSL's EVP does not show its chaining value, which is what several streams
// are compressed from side by side; its older functions do, and are no slower.
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/crypto.h>
#include <openssl/sha.h>

#include <algorithm>
#include <array>
#include <vector>

#include "crypto/crypto.h"
#include "crypto/openssl.h"
#include "crypto/sha256_lanes.h"

namespace chorus::crypto {

struct Sha256Stream::Context {
  Context() { Require(SHA256_Init(&sha256) == 1); }
  Context(const Context&) = default;
  Context& operator=(const Context&) = default;
  ~Context() { OPENSSL_cleanse(&sha256, sizeof(sha256)); }

  SHA256_CTX sha256{};
};

Sha256Stream::Sha256Stream() : context_(std::make_unique<Context>()) {}
Sha256Stream::~Sha256Stream() = default;
Sha256Stream::Sha256Stream(const Sha256Stream& other)
    : context_(other.context_ == nullptr ? nullptr : std::make_unique<Context>(*other.context_)) {}
Sha256Stream& Sha256Stream::operator=(const Sha256Stream& other) {
  Sha256Stream copy(other);
  context_.swap(copy.context_);
  return *this;
}
Sha256Stream::Sha256Stream(Sha256Stream&&) noexcept = default;
Sha256Stream& Sha256Stream::operator=(Sha256Stream&&) noexcept = default;

void Sha256Stream::Update(BytesView piece) {
  Require(context_ != nullptr);
  if (piece.empty()) return;
  Require(SHA256_Update(&context_->sha256, piece.data(), piece.size()) == 1);
}

Digest Sha256Stream::Finish() {
  Require(context_ != nullptr);
  Digest digest{};
  Require(SHA256_Final(digest.data(), &context_->sha256) == 1);
  context_.reset();
  return digest;
}

// A stream with what it still has to be given.
class Sha256Stream::Lane {
 public:
  explicit Lane(const Share& share) : stream_(share.stream), rest_(share.pieces) {
    Require(stream_->context_ != nullptr);
  }

  // How many whole blocks lie ahead in one piece; none: the stream has been given everything. What
  // is less than a block, or lies across two pieces, goes the usual way.
  size_t WholeBlocks() {
    while (true) {
      const size_t begun = stream_->context_->sha256.num;
      if (begun == 0 && piece_.size() >= kSha256BlockBytes) {
        return piece_.size() / kSha256BlockBytes;
      }
      if (piece_.empty()) {
        if (rest_.empty()) return 0;
        piece_ = rest_.front();
        rest_ = rest_.subspan(1);
        continue;
      }
      const size_t taken = std::min(kSha256BlockBytes - begun, piece_.size());
      stream_->Update(piece_.first(taken));
      piece_ = piece_.subspan(taken);
    }
  }

  Sha256Lane Front() { return {stream_->context_->sha256.h, piece_.data()}; }
  // So many blocks have been compressed into Front().
  void Skip(size_t blocks) {
    SHA256_CTX& context = stream_->context_->sha256;
    const uint64_t bits = (uint64_t{context.Nh} << 32U | context.Nl) + blocks * kBlockBits;
    context.Nl = static_cast<SHA_LONG>(bits);
    context.Nh = static_cast<SHA_LONG>(bits >> 32U);
    piece_ = piece_.subspan(blocks * kSha256BlockBytes);
  }

 private:
  static constexpr uint64_t kBlockBits = kSha256BlockBytes * 8;

  Sha256Stream* stream_;
  std::span<const BytesView> rest_;
  BytesView piece_;
};

bool Sha256Stream::SideBySidePays() { return Sha256CompressSideBySide() != nullptr; }

void Sha256Stream::UpdateSideBySide(std::span<const Share> shares) {
  const Sha256Compress compress = Sha256CompressSideBySide();
  if (compress == nullptr) {
    for (const Share& share : shares) {
      for (const BytesView piece : share.pieces) share.stream->Update(piece);
    }
    return;
  }
  std::vector<Lane> lanes;  // those under way; the next share takes the place of one that is done
  while (true) {
    size_t blocks = SIZE_MAX;
    for (size_t i = 0; i < lanes.size();) {
      const size_t whole = lanes[i].WholeBlocks();
      if (whole > 0) {
        blocks = std::min(blocks, whole);
        ++i;
      } else {
        lanes.erase(lanes.begin() + static_cast<ptrdiff_t>(i));
      }
    }
    if (lanes.size() < kSha256LanesMax && !shares.empty()) {
      lanes.emplace_back(shares.front());
      shares = shares.subspan(1);
      continue;
    }
    if (lanes.empty()) return;
    std::array<Sha256Lane, kSha256LanesMax> fronts;
    for (size_t i = 0; i < lanes.size(); ++i) fronts[i] = lanes[i].Front();
    compress(fronts, lanes.size(), blocks);
    for (Lane& lane : lanes) lane.Skip(blocks);
  }
}

}  // namespace chorus::crypto
