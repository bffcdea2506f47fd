// The Merkle tree of RFC 6962 and its verifier of RFC 9162.
#include <bit>
#include <string>
#include <vector>

#include "base/hex.h"
#include "crypto/crypto.h"
#include "matchers.h"
#include "vectors.h"

namespace chorus::crypto {
namespace {

Digest Node(const Digest& left, const Digest& right) {
  Bytes bytes = {1};
  bytes.insert(bytes.end(), left.begin(), left.end());
  bytes.insert(bytes.end(), right.begin(), right.end());
  return Sha256(bytes);
}

// MTH(D[n]) as RFC 6962, 2.1 defines it, by recursion.
Digest DefinedRoot(std::span<const Digest> leaves) {
  if (leaves.empty()) return Sha256({});
  if (leaves.size() == 1) return leaves[0];
  const size_t split = std::bit_floor(leaves.size() - 1);
  return Node(DefinedRoot(leaves.first(split)), DefinedRoot(leaves.subspan(split)));
}

std::vector<Digest> Leaves(size_t count) {
  std::vector<Digest> leaves;
  for (size_t i = 0; i < count; ++i) leaves.push_back(MerkleLeaf(Text(std::to_string(i))));
  return leaves;
}

// The known roots of Certificate Transparency's reference tree, for its first 0 to 8 entries.
TEST(Merkle, GivesThePublishedRoots) {
  const std::vector<std::string> entries = {"",
                                            "00",
                                            "10",
                                            "2021",
                                            "3031",
                                            "40414243",
                                            "5051525354555657",
                                            "606162636465666768696a6b6c6d6e6f"};
  const std::vector<std::string> roots = {
      "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
      "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
      "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
      "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
      "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
      "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
      "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
      "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
      "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"};
  std::vector<Digest> leaves;
  for (size_t size = 0; size < roots.size(); ++size) {
    EXPECT_EQ(ToHex(MerkleRoot(leaves)), roots[size]);
    if (size < entries.size()) leaves.push_back(MerkleLeaf(H(entries[size])));
  }
}

TEST(Merkle, AgreesWithTheVectorsOfTransparencyDev) {
  const json file = Vectors("merkle/hashing.json");
  SKIP_WITHOUT(file);
  EXPECT_EQ(ToHex(MerkleLeaf({})), file["empty_leaf"]);
  EXPECT_EQ(ToHex(MerkleLeaf(Text(file["leaf"]["data_utf8"].get<std::string>()))),
            file["leaf"]["hash"]);
  std::vector<Digest> leaves;
  for (const json& entry : file["leaf_inputs"]) {
    EXPECT_EQ(ToHex(MerkleRoot(leaves)), file["roots_by_size"][leaves.size()]);
    leaves.push_back(MerkleLeaf(H(entry.get<std::string>())));
  }
  EXPECT_EQ(ToHex(MerkleRoot(leaves)), file["roots_by_size"][leaves.size()]);
}

TEST(Merkle, HasTheRootAndThePathsOfItsDefinitionForEverySize) {
  for (size_t size = 0; size <= 130; ++size) {
    const std::vector<Digest> leaves = Leaves(size);
    const Digest root = MerkleRoot(leaves);
    ASSERT_EQ(root, DefinedRoot(leaves)) << size;
    const std::vector<std::vector<Digest>> paths = MerklePaths(leaves);
    ASSERT_EQ(paths.size(), size);
    for (size_t i = 0; i < size; ++i) {
      ASSERT_EQ(paths[i], MerklePath(leaves, i));
      ASSERT_EQ(paths[i].size(), MerklePathLength(i, size));
      ASSERT_TRUE(MerkleVerify(leaves[i], i, size, paths[i], root)) << i << " of " << size;
    }
  }
}

TEST(Merkle, RefusesAnotherPlaceLeafRootOrPath) {
  for (const size_t size : {1, 2, 3, 6, 7, 8, 11}) {
    const std::vector<Digest> leaves = Leaves(size);
    const Digest root = MerkleRoot(leaves);
    for (size_t i = 0; i < size; ++i) {
      std::vector<Digest> path = MerklePath(leaves, i);
      for (size_t j = 0; j < size + 3; ++j) {
        EXPECT_EQ(MerkleVerify(leaves[i], j, size, path, root), j == i);
      }
      EXPECT_FALSE(MerkleVerify(MerkleLeaf(Text("other")), i, size, path, root));
      EXPECT_FALSE(MerkleVerify(leaves[i], i, size, path, leaves[i]) && size > 1);
      for (Digest& sibling : path) {
        sibling[31] ^= 1U;
        EXPECT_FALSE(MerkleVerify(leaves[i], i, size, path, root));
        sibling[31] ^= 1U;
      }
      path.push_back(root);
      EXPECT_FALSE(MerkleVerify(leaves[i], i, size, path, root));
      path.pop_back();
      if (path.empty()) continue;
      path.pop_back();
      EXPECT_FALSE(MerkleVerify(leaves[i], i, size, path, root));
    }
  }
}

TEST(Merkle, RefusesANodeInPlaceOfALeaf) {
  const std::vector<Digest> leaves = Leaves(4);
  const std::vector<Digest> upper = {Node(leaves[2], leaves[3])};
  const Digest root = MerkleRoot(leaves);
  EXPECT_FALSE(MerkleVerify(Node(leaves[0], leaves[1]), 0, 4, upper, root));
}

TEST(Merkle, TakesTheLargestIndexesAndEmptyTrees) {
  constexpr uint64_t kMax = ~uint64_t{0};
  EXPECT_EQ(MerklePathLength(0, kMax), 64U);
  EXPECT_EQ(MerklePathLength(0, 1), 0U);
  EXPECT_EQ(MerklePathLength(0, 0), 0U);
  EXPECT_EQ(MerklePathLength(5, 5), 0U);
  EXPECT_FALSE(MerkleVerify(Digest{}, 0, 0, {}, Digest{}));
  EXPECT_FALSE(MerkleVerify(Digest{}, kMax, kMax, {}, Digest{}));
  EXPECT_FALSE(MerkleVerify(Digest{}, kMax - 1, kMax, std::vector<Digest>(200), Digest{}));
  EXPECT_TRUE(MerklePath({}, 0).empty());
}

}  // namespace
}  // namespace chorus::crypto
