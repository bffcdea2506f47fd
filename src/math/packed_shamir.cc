// Dealing, adding up, and opening a packed sharing.
#include "math/packed_shamir.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "math/math.h"
#include "math/reed_solomon.h"

namespace chorus::math {
namespace {

constexpr unsigned kPairShift = 30;  // between the two coefficients of an element

// Where element `index` of a block stands.
uint64_t ElementPoint(uint32_t index) { return kPrime - 1 - index; }

uint64_t LoadElement(BytesView share, size_t index) {
  uint64_t element = 0;
  std::memcpy(&element, share.data() + index * sizeof(element), sizeof(element));
  return element;
}

// A number whose top bit says that `element` is not below the prime. No branch.
uint64_t Excess(uint64_t element) { return element | (kPrime - 1 - element); }

// Whether `share` is [blocks] elements below the prime; the time tells no more.
Status CheckShare(size_t blocks, BytesView share) {
  if (share.size() != blocks * sizeof(uint64_t)) {
    return InvalidArgument("a share must have one element a block");
  }
  uint64_t excess = 0;
  for (size_t i = 0; i < blocks; ++i) excess |= Excess(LoadElement(share, i));
  if (excess >> 63U != 0) {
    return InvalidArgument("a share must be made of numbers below the prime");
  }
  return OkStatus();
}

Status CheckMemberShares(const PackedSpec& spec, size_t blocks,
                         std::span<const MemberShare> shares) {
  CHORUS_TRY(CheckPackedSpec(spec));
  if (blocks == 0 || blocks > kPackedBlocksMax) {
    return InvalidArgument("blocks must be at least 1 and at most 8192");
  }
  if (shares.size() < spec.threshold()) return InvalidArgument("fewer shares than the threshold");
  std::vector<bool> named(spec.members + size_t{1});
  for (const MemberShare& share : shares) {
    if (share.member == 0 || share.member > spec.members) {
      return InvalidArgument("members are numbered from 1 to their number");
    }
    if (named[share.member]) return InvalidArgument("two shares of one member");
    named[share.member] = true;
    if (share.values.size() != blocks) {
      return InvalidArgument("a share must have one element a block");
    }
    for (const uint64_t value : share.values) {
      if (value >= kPrime)
        return InvalidArgument("a share must be made of numbers below the prime");
    }
  }
  return OkStatus();
}

}  // namespace

Status CheckPackedSpec(const PackedSpec& spec) {
  if (spec.members > kPackedMembersMax) return InvalidArgument("members are more than 1024");
  if (spec.privacy == 0) return InvalidArgument("privacy must be at least 1");
  if (spec.packing == 0) return InvalidArgument("packing must be at least 1");
  // In 64 bits, where the sum cannot wrap.
  if (uint64_t{spec.privacy} + spec.packing > spec.members) {
    return InvalidArgument("members are fewer than privacy and packing together");
  }
  return OkStatus();
}

std::span<const uint64_t> PackedShares::Of(uint32_t member) const {
  if (member == 0 || blocks_ == 0 || member > values_.size() / blocks_) return {};
  return values_.Reveal().subspan((member - size_t{1}) * blocks_, blocks_);
}

BytesView PackedShares::BytesOf(uint32_t member) const {
  const std::span<const uint64_t> values = Of(member);
  return {reinterpret_cast<const uint8_t*>(values.data()), values.size_bytes()};
}

Result<PackedDealer> PackedDealer::For(const PackedSpec& spec) {
  CHORUS_TRY(CheckPackedSpec(spec));
  return PackedDealer(spec);
}

PackedDealer::PackedDealer(const PackedSpec& spec) : spec_(spec) {
  std::vector<uint64_t> points;
  points.reserve(spec.threshold());
  for (uint32_t i = 0; i < spec.packing; ++i) points.push_back(ElementPoint(i));
  for (uint32_t x = 1; x <= spec.privacy; ++x) points.push_back(x);
  const LagrangeBasis basis(std::move(points));
  matrix_.reserve(size_t{spec.members - spec.privacy} * spec.threshold());
  for (uint32_t member = spec.privacy + 1; member <= spec.members; ++member) {
    const std::vector<uint64_t> row = basis.At(member);
    matrix_.insert(matrix_.end(), row.begin(), row.end());
  }
}

Result<PackedShares> PackedDealer::Deal(std::span<const uint64_t> elements, Rng& rng) const {
  const size_t blocks = elements.size() / spec_.packing;
  if (elements.size() % spec_.packing != 0 || blocks == 0 || blocks > kPackedBlocksMax) {
    return InvalidArgument("elements must fill whole blocks, at least 1 and at most 8192");
  }
  uint64_t excess = 0;
  for (const uint64_t element : elements) excess |= Excess(element);
  if (excess >> 63U != 0) return InvalidArgument("an element must be a number below the prime");

  SecretNumbers<uint64_t> uniform(blocks * spec_.privacy);
  rng.Fill(uniform.RevealMutableBytes());
  for (uint64_t& value : uniform.RevealMutable()) {
    value &= kPrime;
    // One in 2^61 is the prime itself. Drawing again says nothing about the value kept.
    while (value == kPrime) {
      rng.Fill({reinterpret_cast<uint8_t*>(&value), sizeof(value)});
      value &= kPrime;
    }
  }
  PackedShares shares(spec_.members, blocks);
  const std::span<uint64_t> values = shares.RevealMutable();
  SecretNumbers<uint64_t> known(spec_.threshold());  // a block's elements and uniform values
  for (size_t block = 0; block < blocks; ++block) {
    const std::span<const uint64_t> of_block =
        elements.subspan(block * spec_.packing, spec_.packing);
    const std::span<const uint64_t> drawn =
        uniform.Reveal().subspan(block * spec_.privacy, spec_.privacy);
    std::copy(of_block.begin(), of_block.end(), known.RevealMutable().begin());
    std::copy(drawn.begin(), drawn.end(), known.RevealMutable().begin() + spec_.packing);
    for (size_t i = 0; i < spec_.members; ++i) {
      const std::span<const uint64_t> matrix(matrix_);
      values[i * blocks + block] =
          i < spec_.privacy
              ? drawn[i]
              : DotProduct(matrix.subspan((i - spec_.privacy) * known.size(), known.size()),
                           known.Reveal());
    }
  }
  return shares;
}

Status AddPackedShare(std::span<uint64_t> sum, BytesView share) {
  CHORUS_TRY(CheckShare(sum.size(), share));
  for (size_t i = 0; i < sum.size(); ++i) sum[i] = FieldAdd(sum[i], LoadElement(share, i));
  return OkStatus();
}

Result<std::vector<uint64_t>> ReadPackedShare(size_t blocks, BytesView share) {
  CHORUS_TRY(CheckShare(blocks, share));
  std::vector<uint64_t> values(blocks);
  for (size_t i = 0; i < blocks; ++i) values[i] = LoadElement(share, i);
  return values;
}

Result<OpenedElements> OpenPacked(const PackedSpec& spec, size_t blocks,
                                  std::span<const MemberShare> shares) {
  CHORUS_TRY(CheckMemberShares(spec, blocks, shares));
  std::vector<uint64_t> points(shares.size());
  std::vector<uint64_t> values(blocks * shares.size());
  for (size_t i = 0; i < shares.size(); ++i) {
    points[i] = shares[i].member;
    for (size_t block = 0; block < blocks; ++block) {
      values[block * shares.size() + i] = shares[i].values[block];
    }
  }
  const size_t threshold = spec.threshold();
  const auto wrong = FindWrongPoints(points, values, threshold);
  if (!wrong.has_value()) return DataLoss("the shares do not open: too many are wrong");
  OpenedElements opened{.elements = std::vector<uint64_t>(blocks * spec.packing), .wrong = {}};
  std::vector<bool> is_wrong(shares.size());
  for (const size_t index : *wrong) {
    is_wrong[index] = true;
    opened.wrong.push_back(shares[index].member);
  }
  std::sort(opened.wrong.begin(), opened.wrong.end());
  std::vector<const MemberShare*> right;
  std::vector<uint64_t> right_points;
  for (size_t i = 0; i < shares.size() && right.size() < threshold; ++i) {
    if (is_wrong[i]) continue;
    right.push_back(&shares[i]);
    right_points.push_back(points[i]);
  }
  const LagrangeBasis basis(std::move(right_points));
  std::vector<std::vector<uint64_t>> weights;  // of the right shares' values, for each element
  for (uint32_t i = 0; i < spec.packing; ++i) weights.push_back(basis.At(ElementPoint(i)));
  std::vector<uint64_t> of_block(threshold);
  for (size_t block = 0; block < blocks; ++block) {
    for (size_t i = 0; i < threshold; ++i) of_block[i] = right[i]->values[block];
    for (uint32_t i = 0; i < spec.packing; ++i) {
      opened.elements[block * spec.packing + i] = DotProduct(weights[i], of_block);
    }
  }
  return opened;
}

SecretNumbers<uint64_t> PairCoefficients(std::span<const int32_t> coefficients) {
  SecretNumbers<uint64_t> elements(coefficients.size() / 2);
  for (size_t j = 0; j < elements.size(); ++j) {
    const int64_t pair =
        coefficients[2 * j] + int64_t{coefficients[2 * j + 1]} * (int64_t{1} << kPairShift);
    const auto sign = static_cast<uint64_t>(pair >> 63);
    elements.RevealMutable()[j] = static_cast<uint64_t>(pair) + (kPrime & sign);
  }
  return elements;
}

Result<std::vector<int32_t>> UnpairCoefficients(std::span<const uint64_t> elements, int32_t bound) {
  constexpr int64_t kPairEnd = int64_t{1} << kPairShift;
  std::vector<int32_t> coefficients;
  coefficients.reserve(2 * elements.size());
  for (const uint64_t element : elements) {
    if (element >= kPrime) return InvalidArgument("an element must be a number below the prime");
    const int64_t centered =
        static_cast<int64_t>(element) - (element > kPrime / 2 ? static_cast<int64_t>(kPrime) : 0);
    // The low 30 bits in two's complement.
    const int64_t low = ((centered + kPairEnd / 2) & (kPairEnd - 1)) - kPairEnd / 2;
    const int64_t high = (centered - low) / kPairEnd;
    if (low < -bound || low > bound || high < -bound || high > bound) {
      return DataLoss("the shares open to a key that no honest ones add up to");
    }
    coefficients.push_back(static_cast<int32_t>(low));
    coefficients.push_back(static_cast<int32_t>(high));
  }
  return coefficients;
}

}  // namespace chorus::math
