// How often callers may ask, each by itself, in bounded memory however many there are.
#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <string_view>
#include <unordered_map>

#include "chorus/bytes.h"
#include "chorus/coordinator.h"
#include "chorus/host.h"
#include "chorus/status.h"

namespace chorus::coordinator {

// Token buckets, as the generic cell rate algorithm keeps them [ITU-T I.371, A]: of each caller one
// moment, at which its bucket will be full. A full bucket is the same as none, and is forgotten.
// When more callers than `callers_max` have buckets that are not full, the rest share one bucket of
// that many times the rate, so that whoever makes up callers fills no memory. Thread-safe.
class RateLimits {
 public:
  // `key`: 32 secret bytes, without which nobody finds callers that share a bucket.
  RateLimits(const RateLimit& limit, size_t callers_max, BytesView key);

  // Counts `weight` calls of `caller`, or refuses them: kResourceExhausted with the time after
  // which they would be taken. More than a whole bucket are as many as that. `who` names the kind
  // of caller in the message.
  Status Take(BytesView caller, std::string_view who, uint32_t weight, Time now);
  size_t callers() const;

 private:
  using Moment = int64_t;  // microseconds

  void Sweep(Moment now);

  const Moment interval_;  // between two calls at the rate; 0: no limit
  const Moment burst_;     // how far a bucket may be drawn
  const size_t callers_max_;
  const Bytes key_;
  mutable std::mutex mutex_;
  std::unordered_map<uint64_t, Moment> full_at_;
  Moment shared_full_at_ = 0;
  Moment sweep_at_ = 0;
};

}  // namespace chorus::coordinator
