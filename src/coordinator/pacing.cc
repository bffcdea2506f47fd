#include "coordinator/pacing.h"

#include <algorithm>

#include "base/limits.h"

namespace chorus::coordinator {
namespace {

// A connection with TLS costs as much as it costs to wait a minute or so on an open one.
constexpr Time kStayMin{60'000};
constexpr int64_t kMicrosecond = 1'000;       // in a millisecond
constexpr int64_t kMicroseconds = 1'000'000;  // in a second
// The golden ratio's fraction of 2^64. Its multiples, modulo one, fill any stretch evenly however
// many of them there are [Knuth, The Art of Computer Programming 3, 6.4, theorem S].
constexpr uint64_t kGoldenFraction = 0x9E3779B97F4A7C15;

}  // namespace

void Pacing::Want(uint64_t clients) { wanted_ = std::min(kEverybody, wanted_ + clients); }

bool Pacing::Crowded(uint64_t sessions) const {
  return options_.connected_max != 0 && options_.returns_per_second != 0 &&
         sessions > std::max<uint64_t>(options_.connected_max, 2 * wanted_);
}

Time Pacing::NextStay(Time now) {
  const int64_t rate = std::max<int64_t>(options_.returns_per_second, 1);
  const int64_t now_us = now.count() * kMicrosecond;
  const int64_t most_us = limits::kStayAwayMax.count() * kMicrosecond;
  if (last_turn_us_ < 0) {
    // An earlier process may have given turns to everybody, and those are still to come.
    const auto known = static_cast<int64_t>(
        std::min<uint64_t>(options_.population, static_cast<uint64_t>(INT32_MAX)));
    last_turn_us_ = now_us + std::min(most_us, known * kMicroseconds / rate);
  }
  const int64_t turn_us =
      std::max(last_turn_us_, now_us + kStayMin.count() * kMicrosecond) + kMicroseconds / rate;
  if (turn_us - now_us > most_us) {
    const uint64_t range = static_cast<uint64_t>((limits::kStayAwayMax - kStayMin).count());
    const uint64_t fraction = (++spread_ * kGoldenFraction) >> 32U;
    return kStayMin + Time{static_cast<Time::rep>((range * fraction) >> 32U)};
  }
  last_turn_us_ = turn_us;
  return Time{(turn_us - now_us) / kMicrosecond};
}

}  // namespace chorus::coordinator
