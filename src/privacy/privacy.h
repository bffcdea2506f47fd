// Bounding what one client can reveal or influence. Pure.
#pragma once

#include <span>

#include "chorus/bytes.h"
#include "chorus/task.h"

namespace chorus::privacy {

// Scales `update` [dim] so that its L2 norm is at most `norm_max` (> 0), in place; gives back the
// norm before. The norm is summed in double: at dim = 10^7 a float sum loses enough bits to break
// the sensitivity bound. A result that is not finite means that the update is not finite; it is
// then unchanged. [MRTZ18, Alg. 1]
double ClipToNorm(std::span<float> update, float norm_max);

// Canonical bytes of the clip (and, in time, noise) specification; their SHA-256 is the dp_hash of
// session parameters.
Bytes CanonicalPrivacy(const ClipSpec& clip);

}  // namespace chorus::privacy
