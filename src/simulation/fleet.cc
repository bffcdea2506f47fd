#include "simulation/fleet.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <string_view>
#include <unordered_set>

namespace chorus::simulation {
namespace {

constexpr double kSecondsADay = 24 * 3'600;
// So many draws for each client wanted, before all clients are looked through.
constexpr uint64_t kTriesEach = 16;
constexpr double kLognormalWidthMax = 5;

Status CheckChance(double chance, std::string_view field) {
  if (chance >= 0 && chance <= 1) return OkStatus();
  return InvalidArgument(std::string(field) + " is a chance: it must be from 0 to 1");
}

Status CheckSpread(const Spread& spread, std::string_view field) {
  if (!(spread.median > 0) || !std::isfinite(spread.median)) {
    return InvalidArgument(std::string(field) + ".median must be a number above 0");
  }
  const double widest = spread.shape == Spread::Shape::kUniform ? 1 : kLognormalWidthMax;
  // At a width of 1 a uniform draw may be zero, and a device of no speed never ends.
  const bool fits = spread.width >= 0 && spread.width <= widest &&
                    !(spread.shape == Spread::Shape::kUniform && spread.width == 1);
  if (spread.shape == Spread::Shape::kSame || fits) return OkStatus();
  return InvalidArgument(std::string(field) + ".width must be from 0 to " +
                         (spread.shape == Spread::Shape::kUniform ? "below 1" : "5"));
}

}  // namespace

Status ValidateSpreads(const DeviceSpec& devices) {
  CHORUS_TRY(CheckSpread(devices.examples_per_second, "devices.examples_per_second"));
  CHORUS_TRY(CheckSpread(devices.download_bytes_per_second, "devices.download_bytes_per_second"));
  CHORUS_TRY(CheckSpread(devices.upload_bytes_per_second, "devices.upload_bytes_per_second"));
  if (devices.latency_seconds.median == 0) return OkStatus();
  return CheckSpread(devices.latency_seconds, "devices.latency_seconds");
}

Status ValidateAvailability(const AvailabilitySpec& availability) {
  const auto positive = [](double value) { return value > 0 && std::isfinite(value); };
  switch (availability.pattern) {
    case AvailabilitySpec::Pattern::kAlways:
      break;
    case AvailabilitySpec::Pattern::kDaily:
      if (availability.window_hours > 0 && availability.window_hours <= 24) break;
      return InvalidArgument("availability.window_hours must be above 0 and at most 24");
    case AvailabilitySpec::Pattern::kOnOff:
      // A second at least, so that the turns of a virtual day are few.
      if (positive(availability.on_seconds_mean) && availability.on_seconds_mean >= 1 &&
          positive(availability.off_seconds_mean) && availability.off_seconds_mean >= 1) {
        break;
      }
      return InvalidArgument(
          "availability.on_seconds_mean and off_seconds_mean must be at least a second");
  }
  return OkStatus();
}

Status ValidateFaults(const FaultSpec& faults) {
  CHORUS_TRY(CheckChance(faults.loss, "faults.loss"));
  for (const double dropout : faults.dropout) {
    CHORUS_TRY(CheckChance(dropout, "faults.dropout"));
  }
  return OkStatus();
}

Fleet::Fleet(const Simulation& simulation, size_t clients)
    : draws_(simulation.seed),
      clients_(clients),
      devices_(simulation.devices),
      availability_(simulation.availability),
      faults_(simulation.faults) {
  if (availability_.pattern != AvailabilitySpec::Pattern::kOnOff) return;
  turns_.resize(clients);
  const double on = availability_.on_seconds_mean;
  const double on_share = on / (on + availability_.off_seconds_mean);
  for (uint32_t client = 0; client < clients; ++client) {
    Turn& turn = turns_[client];
    // As it stands after a long time; what is left of a turn has no memory.
    turn.on = draws_.Unit(Purpose::kStartsOn, {.client = client}) < on_share;
    turn.until = draws_.Exponential(Purpose::kDuration, {.client = client},
                                    turn.on ? on : availability_.off_seconds_mean);
  }
}

const Fleet::Turn& Fleet::TurnAt(uint32_t client, double seconds) {
  Turn& turn = turns_[client];
  while (turn.until <= seconds) {
    turn.on = !turn.on;
    ++turn.number;
    turn.until += draws_.Exponential(
        Purpose::kDuration, {.client = client, .index = turn.number},
        turn.on ? availability_.on_seconds_mean : availability_.off_seconds_mean);
  }
  return turn;
}

// The end of the client's time on, or `seconds` itself when it is off.
double Fleet::AvailableUntil(uint32_t client, double seconds) {
  switch (availability_.pattern) {
    case AvailabilitySpec::Pattern::kDaily: {
      const double window = availability_.window_hours * 3'600;
      if (window >= kSecondsADay) break;
      const double start = kSecondsADay * draws_.Unit(Purpose::kWindow, {.client = client});
      const double into = std::fmod(seconds - start + kSecondsADay, kSecondsADay);
      return into < window ? seconds + window - into : seconds;
    }
    case AvailabilitySpec::Pattern::kOnOff: {
      const Turn& turn = TurnAt(client, seconds);
      return turn.on ? turn.until : seconds;
    }
    case AvailabilitySpec::Pattern::kAlways:
      break;
  }
  return std::numeric_limits<double>::infinity();
}

bool Fleet::Available(uint32_t client, double seconds) {
  return AvailableUntil(client, seconds) > seconds;
}

std::vector<uint32_t> Fleet::Select(size_t count, uint64_t round, double seconds,
                                    const Free& free) {
  if (count >= clients_ / 2) return SelectFromAll(count, round, seconds, free);
  std::vector<uint32_t> selected;
  selected.reserve(count);
  std::unordered_set<uint32_t> tried;
  for (uint64_t index = 0; index < kTriesEach * count && selected.size() < count; ++index) {
    const auto client = static_cast<uint32_t>(
        draws_.Bits(Purpose::kSelection, {.round = round, .index = index}) % clients_);
    if (tried.insert(client).second && free(client) && Available(client, seconds))
      selected.push_back(client);
  }
  return selected.size() == count ? selected : SelectFromAll(count, round, seconds, free);
}

std::vector<uint32_t> Fleet::SelectFromAll(size_t count, uint64_t round, double seconds,
                                           const Free& free) {
  std::vector<uint32_t> available;
  for (uint32_t client = 0; client < clients_; ++client) {
    if (free(client) && Available(client, seconds)) available.push_back(client);
  }
  const size_t kept = std::min(count, available.size());
  for (size_t i = 0; i < kept; ++i) {
    const uint64_t draw = draws_.Bits(Purpose::kSelection, {.round = round, .index = i});
    std::swap(available[i], available[i + draw % (available.size() - i)]);
  }
  available.resize(kept);
  return available;
}

double Fleet::Seconds(const Exchange& exchange) const {
  const auto drawn = [&](const Spread& spread, Purpose purpose) {
    return draws_.Of(spread, purpose, exchange.client);
  };
  double seconds = 2 * drawn(devices_.latency_seconds, Purpose::kLatency);
  seconds += static_cast<double>(exchange.bytes_down) /
             drawn(devices_.download_bytes_per_second, Purpose::kDownload);
  seconds += static_cast<double>(exchange.bytes_up) /
             drawn(devices_.upload_bytes_per_second, Purpose::kUpload);
  if (exchange.examples == 0) return seconds;
  return seconds + static_cast<double>(exchange.examples) /
                       drawn(devices_.examples_per_second, Purpose::kSpeed);
}

Passage Fleet::PassageOf(const Exchange& exchange, double seconds) {
  const Concerning what{.client = exchange.client, .round = exchange.round, .index = exchange.step};
  Passage passage{.seconds = Seconds(exchange)};
  const double dropout = faults_.dropout.empty()
                             ? 0
                             : faults_.dropout[std::min(exchange.step, faults_.dropout.size() - 1)];
  if (draws_.Unit(Purpose::kDropout, what) < dropout ||
      AvailableUntil(exchange.client, seconds) < seconds + passage.seconds) {
    passage.fate = Fate::kLeaves;
  } else if (draws_.Unit(Purpose::kLossDown, what) < faults_.loss) {
    passage.fate = Fate::kQuestionLost;
  } else if (draws_.Unit(Purpose::kLossUp, what) < faults_.loss) {
    passage.fate = Fate::kAnswerLost;
  }
  return passage;
}

}  // namespace chorus::simulation
