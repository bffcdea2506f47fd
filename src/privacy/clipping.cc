#include <bit>
#include <cmath>

#include "base/codec.h"
#include "math/math.h"
#include "privacy/privacy.h"

namespace chorus::privacy {
namespace {

// The float next to `value` on the side of zero, or `value` itself where it is one.
float TowardsZero(double value) {
  const auto nearest = static_cast<float>(value);
  // One less in the bits of a float is one step towards zero, for either sign.
  const uint32_t step = std::abs(static_cast<double>(nearest)) > std::abs(value) ? 1 : 0;
  return std::bit_cast<float>(std::bit_cast<uint32_t>(nearest) - step);
}

}  // namespace

double ClipToNorm(std::span<float> update, float norm_max) {
  const double norm = math::Norm(update);
  if (!std::isfinite(norm) || norm <= norm_max) return norm;
  // Rounding must not lift the norm above the bound again: values are rounded towards zero, and the
  // factor leaves more room than the sum's own rounding can take.
  const double factor = static_cast<double>(norm_max) / norm * (1 - 0x1p-30);
  for (float& value : update) value = TowardsZero(value * factor);
  return norm;
}

// "CHP-CLIP1", then the largest L2 norm as a big-endian binary32. Another mechanism gets another
// magic, so that no two specifications share bytes.
Bytes CanonicalPrivacy(const ClipSpec& clip) {
  Writer writer;
  writer.Raw("CHP-CLIP1").F32(clip.update_l2_norm_max);
  return std::move(writer).Take();
}

}  // namespace chorus::privacy
