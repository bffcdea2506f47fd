// Status and Result: how every failure in Chorus reaches its caller.
//
// Codes are gRPC's numbers (and later the C ABI's), so that a status crosses the wire unchanged.
// Messages are for people: lower case, what was wrong and what to do, and never a user's data. The
// library throws nothing.
#pragma once

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace chorus {

enum class Code : int32_t {
  kOk = 0,
  kCancelled = 1,           // the caller asked to stop
  kUnknown = 2,             // a peer reported something this version does not know
  kInvalidArgument = 3,     // wrong whatever the state of the system; do not retry
  kDeadlineExceeded = 4,    // too late
  kNotFound = 5,            // named thing does not exist
  kAlreadyExists = 6,       // repeated: it was done before and will not be done again
  kPermissionDenied = 7,    // known, and not allowed; also every refusal by a policy
  kResourceExhausted = 8,   // a limit was met: memory, disk, queue, attempts
  kFailedPrecondition = 9,  // not in this state; fix the state first
  kAborted = 10,            // the round or session ended; begin a new one
  kOutOfRange = 11,         // past the end
  kUnimplemented = 12,      // this build or version cannot
  kInternal = 13,           // our bug: an invariant of ours does not hold
  kUnavailable = 14,        // try again later, with backoff
  kDataLoss = 15,           // bytes are damaged: digest, signature or checksum disagrees
  kUnauthenticated = 16,    // who are you?
};

// The constant's gRPC spelling, for example "INVALID_ARGUMENT". Never null.
const char* CodeName(Code code);

// The outcome of an operation: ok, or a code with a message. Copyable; thread-compatible.
class [[nodiscard]] Status {
 public:
  Status() = default;  // ok
  // `code` must not be kOk: use OkStatus().
  Status(Code code, std::string message) : code_(code), message_(std::move(message)) {}

  bool ok() const { return code_ == Code::kOk; }
  Code code() const { return code_; }
  const std::string& message() const { return message_; }
  // How long to wait before the same is tried again, where the side that failed said so; else 0.
  std::chrono::milliseconds retry_after() const { return retry_after_; }
  Status& RetryAfter(std::chrono::milliseconds wait) & {
    retry_after_ = wait;
    return *this;
  }
  Status&& RetryAfter(std::chrono::milliseconds wait) && {
    retry_after_ = wait;
    return std::move(*this);
  }
  // "INVALID_ARGUMENT: …", or "OK".
  std::string ToString() const;

 private:
  Code code_ = Code::kOk;
  std::chrono::milliseconds retry_after_{0};
  std::string message_;
};

inline Status OkStatus() { return Status(); }

inline Status InvalidArgument(std::string m) { return {Code::kInvalidArgument, std::move(m)}; }
inline Status NotFound(std::string m) { return {Code::kNotFound, std::move(m)}; }
inline Status AlreadyExists(std::string m) { return {Code::kAlreadyExists, std::move(m)}; }
inline Status PermissionDenied(std::string m) { return {Code::kPermissionDenied, std::move(m)}; }
inline Status ResourceExhausted(std::string m) { return {Code::kResourceExhausted, std::move(m)}; }
inline Status FailedPrecondition(std::string m) {
  return {Code::kFailedPrecondition, std::move(m)};
}
inline Status Aborted(std::string m) { return {Code::kAborted, std::move(m)}; }
inline Status Internal(std::string m) { return {Code::kInternal, std::move(m)}; }
inline Status Unavailable(std::string m) { return {Code::kUnavailable, std::move(m)}; }
inline Status DataLoss(std::string m) { return {Code::kDataLoss, std::move(m)}; }
inline Status Unauthenticated(std::string m) { return {Code::kUnauthenticated, std::move(m)}; }
inline Status Cancelled(std::string m) { return {Code::kCancelled, std::move(m)}; }

// A value, or the status that says why there is none. Reading the value of a failed result aborts
// the process: it is the caller's programming error, and the only one that does.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}         // NOLINT(google-explicit-constructor)
  Result(Status status) : status_(std::move(status)) {  // NOLINT(google-explicit-constructor)
    if (status_.ok()) status_ = Internal("a result was made from an ok status");
  }

  bool ok() const { return value_.has_value(); }
  const Status& status() const { return status_; }

  T& operator*() & { return Checked(); }
  const T& operator*() const& { return const_cast<Result*>(this)->Checked(); }
  T&& operator*() && { return std::move(Checked()); }
  T* operator->() { return &Checked(); }
  const T* operator->() const { return &const_cast<Result*>(this)->Checked(); }

 private:
  T& Checked() {
    if (!value_.has_value()) std::abort();
    return *value_;
  }

  std::optional<T> value_;
  Status status_;
};

}  // namespace chorus

// Leaves the function with the status when `expression` (a Status or a Result) failed.
#define CHORUS_TRY(expression)                                                            \
  do {                                                                                    \
    if (auto chorus_try_ = ::chorus::internal::StatusOf((expression)); !chorus_try_.ok()) \
      return chorus_try_;                                                                 \
  } while (false)

// Leaves the function with the status when the Result `expression` failed; else `declaration` = its
// value.
#define CHORUS_TRY_ASSIGN(declaration, expression) \
  CHORUS_TRY_ASSIGN_(CHORUS_CONCAT_(chorus_result_, __LINE__), declaration, expression)
#define CHORUS_TRY_ASSIGN_(result, declaration, expression) \
  auto result = (expression);                               \
  if (!result.ok()) return result.status();                 \
  declaration = *std::move(result)
#define CHORUS_CONCAT_(a, b) CHORUS_CONCAT_INNER_(a, b)
#define CHORUS_CONCAT_INNER_(a, b) a##b

namespace chorus::internal {
inline Status StatusOf(Status status) { return status; }
template <typename T>
Status StatusOf(const Result<T>& result) {
  return result.status();
}
}  // namespace chorus::internal
