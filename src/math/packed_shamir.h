// Packed Shamir sharing over GF(2^61 - 1): many elements in one polynomial, dealt to a committee
// whose members later open a sum of what was dealt. [Franklin and Yung 1992; specification 2.2.3]
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/random.h"
#include "chorus/bytes.h"
#include "chorus/status.h"
#include "math/secret_numbers.h"

namespace chorus::math {

inline constexpr uint32_t kPackedMembersMax = 1'024;
inline constexpr uint32_t kPackedBlocksMax = 8'192;

// The shape of a sharing. Elements come in blocks of `packing`. A block's polynomial, of degree <
// threshold(), has its elements at x = p - 1, p - 2, .. p - packing and uniform values at x = 1 ..
// privacy; member j, counted from 1, holds its value at x = j.
struct PackedSpec {
  uint32_t members = 0;  // m
  uint32_t privacy = 0;  // t_priv: so many shares say nothing; > 0
  uint32_t packing = 0;  // rho: elements of a block; > 0

  uint32_t threshold() const { return privacy + packing; }  // t_rec: so many shares open
};

// kInvalidArgument names the field: privacy or packing of zero, members above kPackedMembersMax or
// below the threshold.
Status CheckPackedSpec(const PackedSpec& spec);

// The shares of all members, [members] of [blocks] elements. Wiped on destruction.
class PackedShares {
 public:
  PackedShares(uint32_t members, size_t blocks)
      : blocks_(blocks), values_(size_t{members} * blocks) {}
  // Of member j in 1 .. members: [blocks] elements < p; the bytes are the wire form, 8 bytes
  // little-endian an element. Empty for another j.
  std::span<const uint64_t> Of(uint32_t member) const;
  BytesView BytesOf(uint32_t member) const;
  std::span<uint64_t> RevealMutable() { return values_.RevealMutable(); }

 private:
  size_t blocks_;
  SecretNumbers<uint64_t> values_;
};

// Deals in one shape: computes the shape's matrix once. Thread-compatible; const calls may overlap.
class PackedDealer {
 public:
  // kInvalidArgument as CheckPackedSpec. O(members * threshold) multiplications.
  static Result<PackedDealer> For(const PackedSpec& spec);
  const PackedSpec& spec() const { return spec_; }
  // `elements` < p, a multiple of `packing`, at most kPackedBlocksMax blocks: kInvalidArgument
  // otherwise. The uniform values are drawn block after block, x = 1 first, 8 bytes each, of which
  // the low 61 bits count; the prime itself is drawn again at the end. Constant time in the
  // elements and the uniform values.
  Result<PackedShares> Deal(std::span<const uint64_t> elements, Rng& rng) const;

 private:
  explicit PackedDealer(const PackedSpec& spec);

  PackedSpec spec_;
  // [members - privacy][threshold]: the members above `privacy`; those below hold the uniform
  // values themselves.
  std::vector<uint64_t> matrix_;
};

// Adds a share in wire form to `sum` [blocks], modulo p: what a member does with the shares of
// those in the survivor set. kInvalidArgument, with `sum` unchanged: a wrong size, or an element >=
// p. The time tells nothing but whether that was so.
Status AddPackedShare(std::span<uint64_t> sum, BytesView share);
// A share (or a sum of shares) from its wire form, [blocks]; kInvalidArgument likewise.
Result<std::vector<uint64_t>> ReadPackedShare(size_t blocks, BytesView share);

// What a member answered: its share of the sum.
struct MemberShare {
  uint32_t member = 0;               // j, counted from 1
  std::span<const uint64_t> values;  // [blocks]
};

struct OpenedElements {
  std::vector<uint64_t> elements;  // [blocks * packing], in the order dealt
  std::vector<uint32_t> wrong;     // members whose shares are wrong, ascending
};

// Opens from n >= threshold shares of which at most e = floor((n - threshold) / 2) are wrong, in
// any of their blocks, and tells which. The law: the result, if there is one, is the only word with
// polynomials of degree < threshold on which at least n - e whole shares lie, and `wrong` are
// exactly the others. More than e liars can pass for another word: check what was opened.
// kDataLoss: no such word. kInvalidArgument: a bad spec, `blocks` of zero or above
// kPackedBlocksMax, too few shares, a member outside 1 .. members or named twice, a wrong number of
// values, a value >= p. Not constant time: for whoever may see all the shares.
Result<OpenedElements> OpenPacked(const PackedSpec& spec, size_t blocks,
                                  std::span<const MemberShare> shares);

// --- a ring's secret as elements [specification 2.2.3, share layout] -------------------------

// Element j = (s_2j + 2^30 * s_(2j + 1)) mod p, for coefficients far below 2^29 in magnitude. Half
// as many elements as coefficients, whose number is even. Constant time.
SecretNumbers<uint64_t> PairCoefficients(std::span<const int32_t> coefficients);
// Undoes it for a sum. kDataLoss when a coefficient lies outside [-bound, bound]: with the bound 42
// * |U| [specification 2.2.4], that is a sum that no honest shares open to. `bound` < 2^29.
Result<std::vector<int32_t>> UnpairCoefficients(std::span<const uint64_t> elements, int32_t bound);

}  // namespace chorus::math
