#include "trust/json.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/limits.h"

namespace chorus::trust {
namespace {

constexpr uint32_t kSurrogatesFirst = 0xD800;
constexpr uint32_t kLowSurrogatesFirst = 0xDC00;
constexpr uint32_t kSurrogatesEnd = 0xE000;

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

void AppendUtf8(uint32_t point, std::string& out) {
  const auto continuation = [](uint32_t bits) { return static_cast<char>(0x80U | (bits & 0x3FU)); };
  if (point < 0x80) {
    out.push_back(static_cast<char>(point));
  } else if (point < 0x800) {
    out.push_back(static_cast<char>(0xC0U | point >> 6U));
    out.push_back(continuation(point));
  } else if (point < 0x10000) {
    out.push_back(static_cast<char>(0xE0U | point >> 12U));
    out.push_back(continuation(point >> 6U));
    out.push_back(continuation(point));
  } else {
    out.push_back(static_cast<char>(0xF0U | point >> 18U));
    out.push_back(continuation(point >> 12U));
    out.push_back(continuation(point >> 6U));
    out.push_back(continuation(point));
  }
}

// The size of the UTF-8 sequence at the start of `text` (not empty); 0 when it is none [RFC 3629].
size_t Utf8Size(std::string_view text) {
  const auto byte = [text](size_t i) {
    return i < text.size() ? static_cast<uint8_t>(text[i]) : 0;
  };
  const auto continues = [&byte](size_t i) { return (byte(i) & 0xC0) == 0x80; };
  const int lead = byte(0);
  if (lead < 0x80) return 1;
  if (lead < 0xC2 || lead > 0xF4 || !continues(1)) return 0;
  if (lead < 0xE0) return 2;
  if (!continues(2)) return 0;
  if (lead < 0xF0) {
    const bool overlong = lead == 0xE0 && byte(1) < 0xA0;
    const bool surrogate = lead == 0xED && byte(1) >= 0xA0;
    return overlong || surrogate ? 0 : 3;
  }
  const bool overlong = lead == 0xF0 && byte(1) < 0x90;
  const bool beyond = lead == 0xF4 && byte(1) >= 0x90;
  return continues(3) && !overlong && !beyond ? 4 : 0;
}

// Reads from the front of a text. The first thing wrong is kept, and then nothing is read any more.
class Scanner {
 public:
  explicit Scanner(std::string_view text) : text_(text) {}

  JsonObject Object() {
    JsonObject object;
    Members('{', '}', [&] {
      std::string name = Quoted();
      Blanks();
      Expect(':');
      if (FindJson(object, name) != nullptr) Fail("has a name twice");
      object.emplace_back(std::move(name), Value());
      return object.size();
    });
    return object;
  }
  JsonArray Array() {
    JsonArray array;
    Members('[', ']', [&] {
      array.push_back(Value());
      return array.size();
    });
    return array;
  }
  Status Finish() {
    Blanks();
    if (wrong_ == nullptr && at_ < text_.size()) Fail("goes on after its end");
    if (wrong_ == nullptr) return OkStatus();
    return InvalidArgument("JSON " + std::string(wrong_) + " at byte " + std::to_string(at_));
  }

 private:
  void Fail(const char* wrong) {
    if (wrong_ == nullptr) wrong_ = wrong;
  }
  // '\0' at the end, and once something was wrong: no value begins with it, so every loop ends.
  char Peek() const { return wrong_ == nullptr && at_ < text_.size() ? text_[at_] : '\0'; }
  void Expect(char c) {
    if (Peek() == c) {
      ++at_;
    } else {
      Fail("is cut short or has a wrong sign");
    }
  }
  void Blanks() {
    while (Peek() == ' ' || Peek() == '\t' || Peek() == '\n' || Peek() == '\r') ++at_;
  }

  // What stands between `open` and `close`; `member` reads one and says how many there are now.
  template <typename Member>
  void Members(char open, char close, const Member& member) {
    Blanks();
    Expect(open);
    if (++nesting_ > limits::kJsonNestingMax) Fail("is nested too deeply");
    Blanks();
    if (Peek() == close) {
      ++at_;
      --nesting_;
      return;
    }
    while (wrong_ == nullptr) {
      Blanks();
      if (member() > limits::kJsonMembersMax) Fail("has too many members");
      Blanks();
      if (Peek() != ',') break;
      ++at_;
    }
    Expect(close);
    --nesting_;
  }

  JsonValue Value() {
    Blanks();
    JsonValue value;
    const size_t begin = at_;
    const char first = Peek();
    if (first == '"') {
      value.kind = JsonValue::Kind::kString;
      value.text = Quoted();
    } else if (first == '{' || first == '[') {
      value.kind = first == '{' ? JsonValue::Kind::kObject : JsonValue::Kind::kArray;
      if (first == '{') {
        (void)Object();
      } else {
        (void)Array();
      }
      value.text = std::string(text_.substr(begin, at_ - begin));
    } else if (first == '-' || IsDigit(first)) {
      value.kind = JsonValue::Kind::kNumber;
      value.number = Number();
    } else if (Word("true") || Word("false")) {
      value.kind = JsonValue::Kind::kBool;
      value.boolean = first == 't';
    } else if (!Word("null")) {
      Fail("is cut short or has a wrong sign");
    }
    return value;
  }

  bool Word(std::string_view word) {
    if (wrong_ != nullptr || text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }

  void Digits() {
    if (!IsDigit(Peek())) Fail("has a number that is none");
    while (IsDigit(Peek())) ++at_;
  }

  double Number() {
    const size_t begin = at_;
    if (Peek() == '-') ++at_;
    if (Peek() == '0') {
      ++at_;
    } else {
      Digits();
    }
    if (Peek() == '.') {
      ++at_;
      Digits();
    }
    if (Peek() == 'e' || Peek() == 'E') {
      ++at_;
      if (Peek() == '+' || Peek() == '-') ++at_;
      Digits();
    }
    double number = 0;
    const char* const end = text_.data() + at_;
    const std::from_chars_result read = std::from_chars(text_.data() + begin, end, number);
    if (read.ec != std::errc() || read.ptr != end) Fail("has a number that is none");
    return number;
  }

  std::string Quoted() {
    std::string out;
    Expect('"');
    while (wrong_ == nullptr && Peek() != '"') {
      const char c = Peek();
      if (static_cast<uint8_t>(c) < 0x20) {
        Fail("has a string without end, or a control character in one");
      } else if (c == '\\') {
        ++at_;
        Escaped(out);
      } else {
        const size_t size = Utf8Size(text_.substr(at_));
        if (size == 0) Fail("has a string that is no UTF-8");
        out.append(text_.substr(at_, size));
        at_ += size;
      }
    }
    Expect('"');
    return out;
  }

  void Escaped(std::string& out) {
    constexpr std::string_view kNames = "\"\\/bfnrt";
    constexpr std::string_view kMeant = "\"\\/\b\f\n\r\t";
    const char c = Peek();
    ++at_;
    if (const size_t place = kNames.find(c); place != std::string_view::npos) {
      out.push_back(kMeant[place]);
      return;
    }
    if (c != 'u') return Fail("has an escape that is none");
    uint32_t point = FourHexDigits();
    if (point >= kSurrogatesFirst && point < kSurrogatesEnd) {
      const bool followed = point < kLowSurrogatesFirst && Word("\\u");
      const uint32_t low = followed ? FourHexDigits() : 0;
      if (low < kLowSurrogatesFirst || low >= kSurrogatesEnd) return Fail("has half a character");
      point = 0x10000 + ((point - kSurrogatesFirst) << 10U) + (low - kLowSurrogatesFirst);
    }
    AppendUtf8(point, out);
  }

  uint32_t FourHexDigits() {
    const std::string_view digits = text_.substr(std::min(at_, text_.size()), 4);
    uint32_t number = 0;
    const char* const end = digits.data() + digits.size();
    const std::from_chars_result read = std::from_chars(digits.data(), end, number, 16);
    if (digits.size() != 4 || read.ec != std::errc() || read.ptr != end) {
      Fail("has an escape that is none");
      return 0;
    }
    at_ += 4;
    return number;
  }

  std::string_view text_;
  size_t at_ = 0;
  size_t nesting_ = 0;
  const char* wrong_ = nullptr;
};

}  // namespace

Result<JsonObject> ReadJsonObject(std::string_view text) {
  Scanner scanner(text);
  JsonObject object = scanner.Object();
  CHORUS_TRY(scanner.Finish());
  return object;
}

Result<JsonArray> ReadJsonArray(std::string_view text) {
  Scanner scanner(text);
  JsonArray array = scanner.Array();
  CHORUS_TRY(scanner.Finish());
  return array;
}

const JsonValue* FindJson(const JsonObject& object, std::string_view name) {
  const auto found = std::find_if(object.begin(), object.end(),
                                  [name](const auto& member) { return member.first == name; });
  return found == object.end() ? nullptr : &found->second;
}

}  // namespace chorus::trust
