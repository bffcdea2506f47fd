// What one session may ask of the coordinator's thread, which serves all of them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "chorus/host.h"
#include "chorus/status.h"

namespace chorus::coordinator {

// A bucket of bytes, as RateLimits keeps its own of calls: a session may download at 256 MiB a
// second, and two seconds' worth of it at once. A call costs some bytes of its own. Bytes are
// counted once they are given, so that a bucket may be overdrawn by one reply. Thread-compatible.
class Allowance {
 public:
  // Counts a call, or refuses it: kResourceExhausted with the time after which it would be taken.
  Status Call(Time now) {
    const int64_t ahead = full_at_ - now.count() * kMicrosecond;
    if (ahead > kBurst) {
      return ResourceExhausted("this session asks for too much; wait before the next call")
          .RetryAfter(Time{(ahead - kBurst + kMicrosecond - 1) / kMicrosecond});
    }
    Give(kCallBytes, now);
    return OkStatus();
  }
  void Give(size_t bytes, Time now) {
    full_at_ = std::max(full_at_, now.count() * kMicrosecond) +
               static_cast<int64_t>(bytes) / kBytesInMicrosecond;
  }

 private:
  static constexpr int64_t kMicrosecond = 1'000;       // in a millisecond
  static constexpr int64_t kBytesInMicrosecond = 268;  // 256 MiB a second
  static constexpr int64_t kBurst = 2'000'000;         // microseconds of it
  static constexpr size_t kCallBytes = size_t{64} << 10U;

  int64_t full_at_ = 0;  // microseconds
};

}  // namespace chorus::coordinator
