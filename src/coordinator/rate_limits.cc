#include "coordinator/rate_limits.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "base/codec.h"
#include "crypto/crypto.h"

namespace chorus::coordinator {
namespace {

constexpr double kMicroseconds = 1e6;    // in a second
constexpr int64_t kMicrosecond = 1'000;  // in a millisecond
constexpr double kIntervalMax = 86'400 * kMicroseconds;
constexpr int64_t kBurstMax = int64_t{1} << 60U;  // microseconds: sums of it and a moment fit

int64_t IntervalOf(const RateLimit& limit) {
  if (!(limit.per_second > 0)) return 0;
  return std::max<int64_t>(
      1, static_cast<int64_t>(std::min(kIntervalMax, kMicroseconds / limit.per_second)));
}

}  // namespace

RateLimits::RateLimits(const RateLimit& limit, size_t callers_max, BytesView key)
    : interval_(IntervalOf(limit)),
      burst_(interval_ == 0
                 ? 0
                 : interval_ * std::clamp<int64_t>(limit.burst, 1, kBurstMax / interval_)),
      callers_max_(callers_max),
      key_(key.begin(), key.end()) {}

Status RateLimits::Take(BytesView caller, std::string_view who, uint32_t weight, Time now) {
  if (interval_ == 0) return OkStatus();
  const Digest name = crypto::HmacSha256(key_, caller);
  const uint64_t number = Reader(name).U64();
  const Moment moment = now.count() * kMicrosecond;
  const std::lock_guard lock(mutex_);
  Sweep(moment);
  const auto found = full_at_.find(number);
  Moment interval = interval_;
  Moment burst = burst_;
  Moment* full_at = &shared_full_at_;
  if (found != full_at_.end()) {
    full_at = &found->second;
  } else if (full_at_.size() < callers_max_) {
    full_at = &full_at_[number];
  } else {
    interval = std::max<Moment>(1, interval / static_cast<Moment>(callers_max_));
    burst = std::max(burst, interval);
  }
  const Moment next = std::max(*full_at, moment) + std::min(burst, interval * Moment{weight});
  if (next - moment > burst) {
    const Time wait{(next - moment - burst + kMicrosecond - 1) / kMicrosecond};
    return ResourceExhausted("this " + std::string(who) + " asks too often; wait before the next")
        .RetryAfter(wait);
  }
  *full_at = next;
  return OkStatus();
}

// Once in the time that a bucket takes to fill, so that looking through all of them costs each call
// a small share.
void RateLimits::Sweep(Moment now) {
  if (now < sweep_at_) return;
  sweep_at_ = now + burst_;
  std::erase_if(full_at_, [now](const auto& bucket) { return bucket.second <= now; });
}

size_t RateLimits::callers() const {
  const std::lock_guard lock(mutex_);
  return full_at_.size();
}

}  // namespace chorus::coordinator
