// Protobuf messages as Chorus treats what comes from elsewhere: parsed within bounds, values
// checked, words cleaned. Only this folder's files include it.
#pragma once

#include <google/protobuf/descriptor.h>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <google/protobuf/message.h>
#include <google/protobuf/stubs/logging.h>
#include <google/protobuf/text_format.h>
#include <google/protobuf/unknown_field_set.h>
#include <google/protobuf/wire_format_lite.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "base/limits.h"
#include "chorus/bytes.h"
#include "chorus/status.h"

namespace chorus::wire {

using google::protobuf::FieldDescriptor;
using google::protobuf::TextFormat;
using Locations = TextFormat::ParseInfoTree;

inline constexpr size_t kNameBytesMax = 200;  // of a task, a process or an address
inline constexpr uint64_t kAgeMsMax = uint64_t{1} << 40U;
inline constexpr size_t kReasonBytesMax = 500;  // of words that a peer gives, and of a step's name
inline constexpr int kStepsMax = 16;            // of a round
inline constexpr int kNestingMax = 16;          // of braces in a file

static_assert(limits::kStatusRoundsMax * (kReasonBytesMax + kStepsMax * 5 + 220) +
                      limits::kStatusEvidenceMax * 260 +
                      limits::kTasksMax * (kNameBytesMax + kReasonBytesMax + 50) +
                      limits::kStatusProcessesMax * (kNameBytesMax * 2 + 30) +
                      (kStepsMax + 1) * (kReasonBytesMax + 250) <
                  limits::kChunkBytesMax,
              "the longest status reply is one message");

// --- text from elsewhere ---------------------------------------------------------------------

// The size of the UTF-8 sequence at the start of `text` (not empty); 0 when it is not one, or
// stands for a control character (C0, DEL, C1).
inline size_t PrintableSize(std::string_view text) {
  const auto byte = [text](size_t i) {
    return i < text.size() ? static_cast<uint8_t>(text[i]) : uint8_t{0};
  };
  const auto continues = [&byte](size_t i) { return (byte(i) & 0xC0U) == 0x80U; };
  const uint8_t lead = byte(0);
  if (lead < 0x80) return lead >= 0x20 && lead != 0x7F ? 1 : 0;
  if (lead < 0xC2 || !continues(1)) return 0;
  if (lead < 0xE0) return lead == 0xC2 && byte(1) < 0xA0 ? 0 : 2;
  if (!continues(2)) return 0;
  if (lead < 0xF0) {
    const bool overlong = lead == 0xE0 && byte(1) < 0xA0;
    const bool surrogate = lead == 0xED && byte(1) >= 0xA0;
    return overlong || surrogate ? 0 : 3;
  }
  if (!continues(3) || lead > 0xF4) return 0;
  const bool overlong = lead == 0xF0 && byte(1) < 0x90;
  const bool beyond = lead == 0xF4 && byte(1) >= 0x90;
  return overlong || beyond ? 0 : 4;
}

// At most `size_max` bytes of `text`: valid UTF-8, whole characters, no control characters.
inline std::string CleanText(std::string_view text, size_t size_max) {
  std::string clean;
  while (!text.empty()) {
    const size_t size = PrintableSize(text);
    if (clean.size() + size > size_max) break;
    clean.append(text.substr(0, size));
    text.remove_prefix(std::max<size_t>(size, 1));
  }
  return clean;
}

// Keeps the first error of a text-format parse.
class FirstError final : public google::protobuf::io::ErrorCollector {
 public:
  void AddError(int line, google::protobuf::io::ColumnNumber column,
                const std::string& message) override {
    if (!text_.empty()) return;
    text_ = CleanText(message, kReasonBytesMax);
    if (!text_.empty() && text_[0] >= 'A' && text_[0] <= 'Z')
      text_[0] = static_cast<char>(text_[0] - 'A' + 'a');
    text_ = std::to_string(line + 1) + ":" + std::to_string(column + 1) + ": " + text_;
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

// --- any message -----------------------------------------------------------------------------

inline BytesView View(const std::string& bytes) { return ViewOf(bytes); }

inline Bytes Copy(const std::string& bytes) {
  const BytesView view = View(bytes);
  return Bytes(view.begin(), view.end());
}

inline std::string Text(BytesView bytes) {
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

inline Bytes Serialize(const google::protobuf::Message& message) {
  const google::protobuf::LogSilencer silencer;
  Bytes bytes(message.ByteSizeLong());
  google::protobuf::io::ArrayOutputStream stream(bytes.data(), static_cast<int>(bytes.size()));
  google::protobuf::io::CodedOutputStream coded(&stream);
  coded.SetSerializationDeterministic(true);
  message.SerializeWithCachedSizes(&coded);
  return bytes;
}

// Protobuf writes a line to standard error for text that is not UTF-8. Peers must not be able to
// write there, so Chorus silences it during its own calls, here and in the two functions beside
// this one; a host's use of Protobuf keeps its log handler.
inline Status Parse(BytesView bytes, size_t size_max, google::protobuf::Message& message) {
  const google::protobuf::LogSilencer silencer;
  const std::string& name = message.GetDescriptor()->name();
  if (bytes.size() > size_max)
    return InvalidArgument("a " + name + " message has at most " + std::to_string(size_max) +
                           " bytes");
  if (!message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())))
    return InvalidArgument("these bytes are not a valid " + name + " message");
  return OkStatus();
}

inline Status ParseText(std::string_view text, std::string_view kind,
                        google::protobuf::Message& message, Locations& locations) {
  const google::protobuf::LogSilencer silencer;
  const std::string file = std::string(kind) + " file";
  if (text.size() > limits::kTaskBytesMax)
    return InvalidArgument(file + ": has more than " + std::to_string(limits::kTaskBytesMax) +
                           " bytes");
  FirstError error;
  TextFormat::Parser parser;
  parser.RecordErrorsTo(&error);
  parser.WriteLocationsTo(&locations);
  parser.SetRecursionLimit(kNestingMax);
  google::protobuf::io::ArrayInputStream stream(text.data(), static_cast<int>(text.size()));
  if (!parser.Parse(&stream, &message)) return InvalidArgument(file + " " + error.text());
  return OkStatus();
}

// What is wrong with a value of a message, said with its place in the file when there is one.
inline Status BadValue(const Locations* locations, const FieldDescriptor* field, int index,
                       std::string_view wrong) {
  std::string text;
  if (locations != nullptr) {
    const TextFormat::ParseLocation place = locations->GetLocation(field, index);
    text = std::to_string(place.line + 1) + ":" + std::to_string(place.column + 1) + ": ";
  }
  return InvalidArgument(text + field->name() + std::string(wrong));
}

inline Status CheckValues(const google::protobuf::Message& message, const Locations* locations);

inline Status CheckValue(const google::protobuf::Message& message, const FieldDescriptor* field,
                         int index, const Locations* locations) {
  const google::protobuf::Reflection& values = *message.GetReflection();
  const bool repeated = field->is_repeated();
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_ENUM: {
      const int number = repeated ? values.GetRepeatedEnumValue(message, field, index)
                                  : values.GetEnumValue(message, field);
      if (field->enum_type()->FindValueByNumber(number) == nullptr)
        return BadValue(locations, field, index, " has a value that this version does not know");
      return OkStatus();
    }
    case FieldDescriptor::CPPTYPE_FLOAT: {
      const float number = repeated ? values.GetRepeatedFloat(message, field, index)
                                    : values.GetFloat(message, field);
      if (!std::isfinite(number))
        return BadValue(locations, field, index, " must be a finite number");
      return OkStatus();
    }
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return CheckValues(
          repeated ? values.GetRepeatedMessage(message, field, index)
                   : values.GetMessage(message, field),
          locations == nullptr ? nullptr : locations->GetTreeForNested(field, index));
    default:
      return OkStatus();
  }
}

// What Protobuf lets pass in a Task or Policy: unknown fields, unknown numbers of enumerations, and
// floats that are no numbers. Whoever agrees to a task must understand all of it. The schema does
// not nest a message in itself, so the recursion ends.
inline Status CheckValues(const google::protobuf::Message& message, const Locations* locations) {
  const google::protobuf::Reflection& values = *message.GetReflection();
  const google::protobuf::Descriptor& type = *message.GetDescriptor();
  if (!values.GetUnknownFields(message).empty())
    return InvalidArgument(type.name() + " has a field that this version does not know: update");
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor* field = type.field(i);
    if (!field->is_repeated()) {
      if (values.HasField(message, field)) CHORUS_TRY(CheckValue(message, field, -1, locations));
      continue;
    }
    for (int k = 0; k < values.FieldSize(message, field); ++k)
      CHORUS_TRY(CheckValue(message, field, k, locations));
  }
  return OkStatus();
}

template <size_t N>
Status Fixed(const std::string& bytes, std::array<uint8_t, N>& out, std::string_view field) {
  if (bytes.size() != N)
    return InvalidArgument(std::string(field) + " must have " + std::to_string(N) + " bytes");
  std::memcpy(out.data(), bytes.data(), N);
  return OkStatus();
}

inline Status AtMost(uint64_t value, uint64_t most, std::string_view field) {
  if (value > most)
    return InvalidArgument(std::string(field) + " must be at most " + std::to_string(most));
  return OkStatus();
}

inline Status Between(uint64_t value, uint64_t least, uint64_t most, std::string_view field) {
  if (value < least)
    return InvalidArgument(std::string(field) + " must be at least " + std::to_string(least));
  return AtMost(value, most, field);
}

// `size` bytes of data as a piece at `offset` of something of `total` bytes.
inline Status CheckPiece(size_t size, uint64_t offset, uint64_t total, uint64_t total_max) {
  CHORUS_TRY(AtMost(size, limits::kChunkBytesMax, "the size of data"));
  CHORUS_TRY(AtMost(total, total_max, "total_bytes"));
  CHORUS_TRY(AtMost(offset, total, "offset"));
  return AtMost(size, total - offset, "the size of data");
}

// A field that may be left out.
template <typename T>
void Take(bool present, T value, T& out) {
  if (present) out = value;
}

inline Code CodeOf(int32_t number) {
  const bool known = number >= 0 && number <= static_cast<int32_t>(Code::kUnauthenticated);
  return known ? static_cast<Code>(number) : Code::kUnknown;
}

}  // namespace chorus::wire
