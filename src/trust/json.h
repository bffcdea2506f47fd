// JSON as tokens and their keys need it [RFC 8259]: one object at a time, within bounds, and
// nothing that two readers could read differently.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "chorus/status.h"

namespace chorus::trust {

struct JsonValue {
  enum class Kind : uint8_t { kNull, kBool, kNumber, kString, kArray, kObject };
  Kind kind = Kind::kNull;
  bool boolean = false;
  double number = 0;
  // Of a string, what it says, as UTF-8; of an array or object, its text, to be read in turn.
  std::string text = {};
};

using JsonObject = std::vector<std::pair<std::string, JsonValue>>;
using JsonArray = std::vector<JsonValue>;

// kInvalidArgument, saying where: not one object (array) and blanks around it, a name twice, a
// string that is no UTF-8, nested deeper or with more members than limits allow.
Result<JsonObject> ReadJsonObject(std::string_view text);
Result<JsonArray> ReadJsonArray(std::string_view text);
// The value of that name; null when there is none.
const JsonValue* FindJson(const JsonObject& object, std::string_view name);

}  // namespace chorus::trust
