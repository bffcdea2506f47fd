#include <array>

#include "crypto/crypto.h"

namespace chorus::crypto {
namespace {

Digest MerkleNode(const Digest& left, const Digest& right) {
  static constexpr std::array<uint8_t, 1> kNodePrefix = {1};
  Sha256Stream stream;
  stream.Update(kNodePrefix);
  stream.Update(left);
  stream.Update(right);
  return stream.Finish();
}

// The next level up, in place. Pairing neighbours and lifting a last one without partner builds
// RFC 6962's tree: its split at the largest power of two leaves complete subtrees on the left.
void Climb(std::vector<Digest>& level) {
  const size_t pairs = level.size() / 2;
  for (size_t i = 0; i < pairs; ++i) level[i] = MerkleNode(level[2 * i], level[2 * i + 1]);
  if (level.size() % 2 != 0) level[pairs] = level.back();
  level.resize(level.size() - pairs);
}

}  // namespace

Digest MerkleLeaf(BytesView entry) {
  static constexpr std::array<uint8_t, 1> kLeafPrefix = {0};
  Sha256Stream stream;
  stream.Update(kLeafPrefix);
  stream.Update(entry);
  return stream.Finish();
}

Digest MerkleRoot(std::span<const Digest> leaves) {
  if (leaves.empty()) return Sha256({});
  std::vector<Digest> level(leaves.begin(), leaves.end());
  while (level.size() > 1) Climb(level);
  return level.front();
}

std::vector<Digest> MerklePath(std::span<const Digest> leaves, size_t index) {
  std::vector<Digest> path;
  if (index >= leaves.size()) return path;
  std::vector<Digest> level(leaves.begin(), leaves.end());
  for (size_t node = index; level.size() > 1; node /= 2) {
    if ((node ^ 1U) < level.size()) path.push_back(level[node ^ 1U]);
    Climb(level);
  }
  return path;
}

std::vector<std::vector<Digest>> MerklePaths(std::span<const Digest> leaves) {
  std::vector<std::vector<Digest>> paths(leaves.size());
  std::vector<Digest> level(leaves.begin(), leaves.end());
  for (unsigned height = 0; level.size() > 1; ++height) {
    for (size_t leaf = 0; leaf < leaves.size(); ++leaf) {
      const size_t sibling = (leaf >> height) ^ 1U;
      if (sibling < level.size()) paths[leaf].push_back(level[sibling]);
    }
    Climb(level);
  }
  return paths;
}

size_t MerklePathLength(uint64_t index, uint64_t size) {
  if (index >= size) return 0;
  size_t length = 0;
  for (uint64_t last = size - 1; last > 0; last >>= 1U, index >>= 1U) {
    if (index % 2 != 0 || index < last) ++length;
  }
  return length;
}

bool MerkleVerify(const Digest& leaf, uint64_t index, uint64_t size, std::span<const Digest> path,
                  const Digest& root) {
  if (index >= size) return false;
  uint64_t node = index;     // fn of RFC 9162
  uint64_t last = size - 1;  // sn of RFC 9162
  Digest hash = leaf;
  for (const Digest& sibling : path) {
    if (last == 0) return false;
    if (node % 2 != 0 || node == last) {
      hash = MerkleNode(sibling, hash);
      while (node % 2 == 0 && node != 0) {
        node >>= 1U;
        last >>= 1U;
      }
    } else {
      hash = MerkleNode(hash, sibling);
    }
    node >>= 1U;
    last >>= 1U;
  }
  return last == 0 && hash == root;
}

}  // namespace chorus::crypto
