// What the processes of a simulation of faults are made from: chance, time, lives that end between
// two effects, and the queue of what happens next.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/codec.h"
#include "base/random.h"
#include "chorus/bytes.h"
#include "chorus/host.h"
#include "chorus/simulation.h"
#include "chorus/status.h"
#include "crypto/crypto.h"

namespace chorus::simulation {

// Draws for one purpose. Each purpose has a stream of its own, so that a fault that is left out
// shifts no other draw.
class Dice {
 public:
  Dice(uint64_t seed, std::string_view purpose, uint64_t index);

  bool Chance(double probability) { return UniformUnit(*rng_) < probability; }
  uint64_t Below(uint64_t bound) { return UniformBelow(*rng_, bound); }
  Time Between(Time least, Time most) {
    return least +
           Time{static_cast<Time::rep>(Below(static_cast<uint64_t>((most - least).count()) + 1))};
  }
  Rng& rng() { return *rng_; }

 private:
  std::unique_ptr<Rng> rng_;
};

// The order of what happens, and the story of it. Two events of one moment happen in the order in
// which they were set.
class Scene {
 public:
  explicit Scene(size_t lines_max);

  Time now() const { return now_; }
  void At(Time when, std::function<void()> event);
  // Lets the next event happen. False: there is none, or it is later than `until`.
  bool Step(Time until);
  uint64_t steps() const { return steps_; }

  // Adds a line to the story.
  void Say(std::string_view who, std::string_view what);
  // An invariant does not hold. The first one is the verdict.
  void Violated(std::string what);
  const Status& verdict() const { return verdict_; }
  std::vector<std::string> Lines() const { return {lines_.begin(), lines_.end()}; }
  // The digest of the whole story, which ends with it: what is said after is not heard.
  Digest EndStory();

  // Whether faults may strike now, and how often each did.
  bool chaos = false;
  std::array<uint64_t, kFaultKinds> struck{};
  void Strike(Fault fault) { ++struck[static_cast<size_t>(fault)]; }

 private:
  Time now_{0};
  uint64_t sequence_ = 0;
  uint64_t steps_ = 0;
  uint64_t steps_of_this_moment_ = 0;
  std::map<std::pair<Time, uint64_t>, std::function<void()>> events_;
  size_t lines_max_;
  std::deque<std::string> lines_;  // the last
  crypto::Sha256Stream story_;
  bool ended_ = false;
  Status verdict_;
};

// One life of a process. Everything that leaves the process, or outlasts it, is an effect, and each
// asks first: from the one on which the process dies nothing happens any more, though its code runs
// on until it is taken away.
class Life {
 public:
  static constexpr uint64_t kUnlimited = UINT64_MAX;

  void Begin(uint64_t effects) {
    left_ = effects;
    dead_ = false;
  }
  // So many more effects.
  void Limit(uint64_t effects) { left_ = effects; }
  bool Effect() { return Spend(1); }
  // What is written or committed counts for more, so that lives end there more often than chance
  // alone would have it.
  bool DurableEffect() { return Spend(kWeightOfDurable); }
  void End() { dead_ = true; }
  bool dead() const { return dead_; }

 private:
  static constexpr uint64_t kWeightOfDurable = 5;

  bool Spend(uint64_t weight) {
    if (dead_ || left_ == kUnlimited) return !dead_;
    dead_ = left_ < weight;
    left_ -= std::min(left_, weight);
    return !dead_;
  }

  uint64_t left_ = kUnlimited;
  bool dead_ = true;
};

// A process's clocks: the monotonic one goes with the scene from a start of its own, the wall clock
// jumps.
class ProcessClock final : public Clock {
 public:
  explicit ProcessClock(const Scene& scene) : scene_(scene) {}
  Time Now() const override { return scene_.now() + begin_; }
  int64_t UnixSeconds() const override {
    return kStartUnixSeconds + scene_.now().count() / 1'000 + wall_offset_seconds;
  }
  void BeginAt(Time begin) { begin_ = begin; }
  // Of a clock that others take for a wall clock.
  void Jump(Time by) { begin_ += by; }
  Time ToScene(Time of_process) const {
    return of_process == Time::max() ? of_process : of_process - begin_;
  }

  int64_t wall_offset_seconds = 0;

 private:
  static constexpr int64_t kStartUnixSeconds = 1'700'000'000;
  const Scene& scene_;
  Time begin_{0};
};

class SilentLog final : public LogSink {
 public:
  void Write(LogLevel, std::string_view, std::span<const LogField>) override {}
};

// Knows its own people, whatever their evidence says.
class Roll final : public IdentityVerifier {
 public:
  void Add(const PublicKey& key, uint64_t serial) { serials_[key] = serial; }
  Result<Identity> Verify(const PublicKey& key, BytesView) const override {
    const auto found = serials_.find(key);
    if (found == serials_.end()) return Unauthenticated("nobody here has this key");
    return Identity{.serial = found->second};
  }

 private:
  std::map<PublicKey, uint64_t> serials_;
};

SecretBytes SeedFor(uint64_t seed, std::string_view purpose, uint64_t index);

}  // namespace chorus::simulation
