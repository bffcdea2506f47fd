// Hexadecimal text, for file names, keys that people type, and tests. Never for secrets in logs.
#pragma once

#include <string>
#include <string_view>

#include "chorus/bytes.h"
#include "chorus/status.h"

namespace chorus {

std::string ToHex(BytesView bytes);
Result<Bytes> FromHex(
    std::string_view text);  // kInvalidArgument unless an even number of hex digits

}  // namespace chorus
