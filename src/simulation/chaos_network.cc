#include "simulation/chaos_network.h"

#include <utility>

namespace chorus::simulation {
namespace {

constexpr double kLossMost = 0.3;
constexpr double kDelayMost = 0.4;
constexpr double kDuplicateMost = 0.4;
constexpr Time kDelayLongest{60'000};
constexpr Time kDuplicateLatest{180'000};
constexpr Time kBreaksAfter{2'000};

}  // namespace

std::string NameOf(const Link& link) {
  const std::string client = "client " + std::to_string(link.client);
  const std::string coordinator = "coordinator " + std::to_string(link.coordinator);
  return link.up ? client + " -> " + coordinator : coordinator + " -> " + client;
}

Network::Network(Scene& scene, const ChaosPlan& plan)
    : scene_(scene),
      plan_(plan),
      latency_(plan.seed, "latency", 0),
      loss_(plan.seed, "loss", 0),
      delay_(plan.seed, "delay", 0),
      duplicate_(plan.seed, "duplicate", 0) {}

// Between 1 and 100 ms on most links, and up to a second on the last.
Time Network::Latency(const Link& link) {
  const Time most{link.client % 4 == 3 ? 1'000 : 100};
  return latency_.Between(Time{1}, most);
}

void Network::Cut(const Link& link, Time until) {
  scene_.Strike(Fault::kPartition);
  scene_.Say(NameOf(link), "cut for " + std::to_string((until - scene_.now()).count()) + " ms");
  cut_until_[{link.client, link.coordinator, link.up}] = until;
}

void Network::Carry(const Link& link, const std::string& what, std::function<void()> deliver,
                    std::function<void()> broken) {
  const Time arrives = scene_.now() + Latency(link);
  const auto cut = cut_until_.find({link.client, link.coordinator, link.up});
  if (cut != cut_until_.end() && scene_.now() < cut->second) {
    scene_.Say(NameOf(link), what + ", cut off");
    return;
  }
  if (!scene_.chaos) {
    scene_.Say(NameOf(link), what);
    return scene_.At(arrives, std::move(deliver));
  }
  if (loss_.Chance(kLossMost * plan_.rate_of(Fault::kLoss))) {
    scene_.Strike(Fault::kLoss);
    const bool breaks = loss_.Chance(0.5);
    scene_.Say(NameOf(link), what + (breaks ? ", the connection breaks" : ", lost"));
    if (breaks) scene_.At(scene_.now() + loss_.Between(Time{1}, kBreaksAfter), std::move(broken));
    return;
  }
  Time late{0};
  if (delay_.Chance(kDelayMost * plan_.rate_of(Fault::kDelay))) {
    scene_.Strike(Fault::kDelay);
    late = delay_.Between(Time{1}, kDelayLongest);
  }
  if (duplicate_.Chance(kDuplicateMost * plan_.rate_of(Fault::kDuplicate))) {
    scene_.Strike(Fault::kDuplicate);
    scene_.At(arrives + duplicate_.Between(Time{1}, kDuplicateLatest), deliver);
    scene_.Say(NameOf(link), what + ", twice");
  } else {
    scene_.Say(NameOf(link), what + (late > Time{0} ? ", late" : ""));
  }
  scene_.At(arrives + late, std::move(deliver));
}

}  // namespace chorus::simulation
