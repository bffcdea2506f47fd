#include "simulation/chaos_parts.h"

namespace chorus::simulation {
namespace {

// So many events of one moment, or of a whole run, that nothing gets on any more.
constexpr uint64_t kStepsOfOneMoment = 20'000;

}  // namespace

SecretBytes SeedFor(uint64_t seed, std::string_view purpose, uint64_t index) {
  const Bytes numbers = std::move(Writer().U64(seed).U64(index)).Take();
  const Digest key = crypto::LabeledHash("CHORUS1/chaos", {ViewOf(purpose), numbers});
  return SecretBytes(Bytes(key.begin(), key.end()));
}

Dice::Dice(uint64_t seed, std::string_view purpose, uint64_t index)
    : rng_(crypto::NewSeededRng(SeedFor(seed, purpose, index).Reveal())) {}

Scene::Scene(size_t lines_max) : lines_max_(lines_max) {}

void Scene::At(Time when, std::function<void()> event) {
  events_.emplace(std::make_pair(std::max(when, now_), sequence_++), std::move(event));
}

bool Scene::Step(Time until) {
  if (events_.empty() || events_.begin()->first.first > until) {
    now_ = std::max(now_, until);
    return false;
  }
  auto next = events_.extract(events_.begin());
  steps_of_this_moment_ = next.key().first > now_ ? 0 : steps_of_this_moment_ + 1;
  if (steps_of_this_moment_ > kStepsOfOneMoment) {
    Violated("livelock: events follow each other and time does not go on");
    return false;
  }
  now_ = next.key().first;
  ++steps_;
  next.mapped()();
  return true;
}

Digest Scene::EndStory() {
  ended_ = true;
  return story_.Finish();
}

void Scene::Say(std::string_view who, std::string_view what) {
  if (ended_) return;
  const std::string millis = std::to_string(1'000 + now_.count() % 1'000);
  std::string line = std::to_string(now_.count() / 1'000);
  line.append(".").append(millis, 1, 3).append(" s  ").append(who).append(": ").append(what);
  story_.Update(ViewOf(line));
  if (lines_max_ == 0) return;
  if (lines_.size() == lines_max_) lines_.pop_front();
  lines_.push_back(std::move(line));
}

void Scene::Violated(std::string what) {
  Say("VIOLATED", what);
  if (verdict_.ok()) verdict_ = Internal(std::move(what));
}

}  // namespace chorus::simulation
