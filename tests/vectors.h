// Published test vectors: bytes typed in as hex, and the JSON files below CHORUS_VECTORS.
#pragma once

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/hex.h"
#include "chorus/bytes.h"
#include "matchers.h"

namespace chorus {

using nlohmann::json;

inline Bytes H(std::string_view hex) { return *FromHex(hex); }
inline Bytes Text(std::string_view text) { return {ViewOf(text).begin(), ViewOf(text).end()}; }

// A file of CHORUS_VECTORS; null when the variable is not set.
inline json Vectors(const std::string& name) {
  const char* folder = std::getenv("CHORUS_VECTORS");
  if (folder == nullptr) return nullptr;
  std::ifstream file(std::string(folder) + "/" + name);
  EXPECT_TRUE(file.good()) << name;
  return json::parse(file, nullptr, /*allow_exceptions=*/false);
}

#define SKIP_WITHOUT(vectors) \
  if ((vectors).is_null()) GTEST_SKIP() << "CHORUS_VECTORS does not name the folder of vectors"

}  // namespace chorus
