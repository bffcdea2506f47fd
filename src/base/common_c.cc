#include "chorus/common_c.h"

#include <string>
#include <utility>

#include "base/c_handle.h"
#include "base/limits.h"

namespace chorus::c_abi {
namespace {

std::string& LastError() {
  thread_local std::string message;
  return message;
}

const char* Meaning(Code code) {
  switch (code) {
    case Code::kOk:
      return "no failure";
    case Code::kCancelled:
      return "the caller asked to stop";
    case Code::kUnknown:
      return "a peer reported something that this version does not know";
    case Code::kInvalidArgument:
      return "an argument is wrong; do not retry with the same";
    case Code::kDeadlineExceeded:
      return "it took too long";
    case Code::kNotFound:
      return "what was named does not exist";
    case Code::kAlreadyExists:
      return "it was done before and will not be done again";
    case Code::kPermissionDenied:
      return "it is not allowed here";
    case Code::kResourceExhausted:
      return "a limit was met: memory, disk, queue or attempts";
    case Code::kFailedPrecondition:
      return "not in this state; fix the state first";
    case Code::kAborted:
      return "the round or session ended; begin a new one";
    case Code::kOutOfRange:
      return "past the end";
    case Code::kUnimplemented:
      return "this build or version cannot do it";
    case Code::kInternal:
      return "a bug of the library's: please report it";
    case Code::kUnavailable:
      return "not now; try again later";
    case Code::kDataLoss:
      return "bytes are damaged: a digest, signature or checksum disagrees";
    case Code::kUnauthenticated:
      return "the caller has not proven who it is";
  }
  return "no status code";
}

}  // namespace

int32_t Report(const Status& status) {
  if (!status.ok()) LastError() = status.message();
  return static_cast<int32_t>(status.code());
}

const char* Lend(std::string text) {
  thread_local std::string lent;
  lent = std::move(text);
  return lent.c_str();
}

Status CheckBytes(const chorus_bytes& bytes, std::string_view name) {
  if (bytes.data == nullptr && bytes.size > 0)
    return InvalidArgument(std::string(name) + " is a null pointer with a size");
  if (bytes.size > limits::kMessageBytesMax)
    return InvalidArgument(std::string(name) + " is longer than it may be");
  return OkStatus();
}

Status CheckKey(const chorus_bytes& bytes, std::string_view name, size_t size) {
  CHORUS_TRY(CheckBytes(bytes, name));
  if (bytes.size == size) return OkStatus();
  return InvalidArgument(std::string(name) + " must have " + std::to_string(size) + " bytes");
}

Status NullPointer(std::string_view name) {
  return InvalidArgument(std::string(name) + " is a null pointer");
}

Status WrongStructSize(std::string_view name) {
  return InvalidArgument("struct_size of " + std::string(name) +
                         " is not the size of the structure: set it to its sizeof");
}

}  // namespace chorus::c_abi

extern "C" {

const char* chorus_status_message(int32_t code) {
  return chorus::c_abi::Meaning(static_cast<chorus::Code>(code));
}

const char* chorus_last_error(void) { return chorus::c_abi::LastError().c_str(); }

const char* chorus_version(void) { return CHORUS_VERSION; }

}  // extern "C"
