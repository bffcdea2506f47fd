// When an answer may begin to come in: at once, unless so many bytes are on their way, and so fast,
// that it is worth a moment's wait to hold fewer of them at a time.
#pragma once

#include <cstdint>

#include "chorus/host.h"

namespace chorus::coordinator {

inline constexpr uint64_t kUploadsAtATimeBytes = uint64_t{24} << 20U;

// Answers of a cohort come together, and are held until they are whole. Clients near by send theirs
// in a blink, one after the other as well as all at once; those far away must not wait for each
// other. So a new one waits only as long as those under way will be done within a quarter of a
// second at the rate at which bytes arrive now. Whoever announces much and sends nothing delays
// nobody: then they will not. Thread-compatible.
class UploadTurns {
 public:
  explicit UploadTurns(uint64_t bytes_at_a_time) : bytes_at_a_time_(bytes_at_a_time) {}

  bool MayBegin(uint64_t bytes, Time now) const;
  void Begin(uint64_t bytes, Time now);
  void Took(uint64_t bytes, Time now);
  // Of `bytes` that were announced, so many came.
  void End(uint64_t bytes, uint64_t received) {
    announced_ -= bytes;
    received_ -= received;
  }

 private:
  // Bytes that came within half a second to a second before now.
  uint64_t Lately(Time now) const;

  uint64_t bytes_at_a_time_;
  uint64_t announced_ = 0;  // of the answers under way
  uint64_t received_ = 0;   // of these
  Time full_since_{};       // when there began to be as many as there should be
  Time slot_{};             // the half of a second in which the last bytes came
  uint64_t in_slot_ = 0;
  uint64_t before_slot_ = 0;  // in the half before it
};

}  // namespace chorus::coordinator
