// Opening a secret although some shares are wrong: Shamir's shares are a Reed-Solomon codeword,
// here five interleaved ones, one a limb, with errors in the same holders.
//
// Nothing here is constant time: the server, which alone decodes, has been given every share and
// may know all that their timing tells. What is derived from them is wiped all the same.
#include <algorithm>

#include "base/limits.h"
#include "math/math.h"
#include "math/reed_solomon.h"
#include "math/secret_numbers.h"

namespace chorus::math {
namespace {

Status CheckShares(std::span<const Share> shares, SharingSpec spec) {
  if (spec.threshold == 0) return InvalidArgument("a threshold must be at least 1");
  if (shares.size() < spec.threshold) return InvalidArgument("fewer shares than the threshold");
  if (shares.size() > limits::kDecodedSharesMax)
    return InvalidArgument("too many shares for one secret");
  std::vector<uint32_t> xs;
  xs.reserve(shares.size());
  for (const Share& share : shares) {
    if (share.x == 0) return InvalidArgument("a share's holder must be numbered from 1");
    for (const uint64_t limb : share.y) {
      if (limb >= kPrime) return InvalidArgument("a share must be made of numbers below the prime");
    }
    xs.push_back(share.x);
  }
  std::sort(xs.begin(), xs.end());
  if (std::adjacent_find(xs.begin(), xs.end()) != xs.end()) {
    return InvalidArgument("two shares of one holder");
  }
  return OkStatus();
}

}  // namespace

Result<DecodedSecret> DecodeSecret(std::span<const Share> shares, SharingSpec spec) {
  CHORUS_TRY(CheckShares(shares, spec));
  std::vector<uint64_t> points(shares.size());
  SecretNumbers<uint64_t> values(kLimbs * shares.size());
  for (size_t i = 0; i < shares.size(); ++i) {
    points[i] = shares[i].x;
    for (size_t limb = 0; limb < kLimbs; ++limb) {
      values.RevealMutable()[limb * shares.size() + i] = shares[i].y[limb];
    }
  }
  const auto wrong = FindWrongPoints(points, values.Reveal(), spec.threshold);
  if (!wrong.has_value()) return DataLoss("the shares do not open a secret: too many are wrong");
  DecodedSecret decoded;
  for (const size_t index : *wrong) decoded.wrong.push_back(shares[index].x);
  std::sort(decoded.wrong.begin(), decoded.wrong.end());
  std::vector<Share> right;
  right.reserve(spec.threshold);
  std::vector<uint32_t> xs;
  for (const Share& share : shares) {
    if (right.size() == spec.threshold) break;
    if (std::binary_search(decoded.wrong.begin(), decoded.wrong.end(), share.x)) continue;
    right.push_back(share);
    xs.push_back(share.x);
  }
  CHORUS_TRY_ASSIGN(decoded.secret, OpenSecret(right, LagrangeAtZero(xs)));
  return decoded;
}

}  // namespace chorus::math
