// The network of a simulation of faults: between each client and each coordinator a link that
// loses, delays, repeats, and at times carries nothing, in one direction or both.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <tuple>

#include "simulation/chaos_parts.h"
#include "simulation/chaos_plan.h"

namespace chorus::simulation {

struct Link {
  uint32_t client = 0;
  uint32_t coordinator = 0;
  bool up = true;  // from the client to the coordinator
};

class Network {
 public:
  // Both must outlive the object.
  Network(Scene& scene, const ChaosPlan& plan);

  // Carries one message. `deliver` happens once, twice, or never; `broken` happens instead where
  // the sender's or the receiver's connection breaks, and never together with it.
  void Carry(const Link& link, const std::string& what, std::function<void()> deliver,
             std::function<void()> broken);
  // Nothing gets through until then.
  void Cut(const Link& link, Time until);
  void Heal() { cut_until_.clear(); }

 private:
  Time Latency(const Link& link);

  Scene& scene_;
  const ChaosPlan& plan_;
  Dice latency_;
  Dice loss_;
  Dice delay_;
  Dice duplicate_;
  std::map<std::tuple<uint32_t, uint32_t, bool>, Time> cut_until_;
};

std::string NameOf(const Link& link);

}  // namespace chorus::simulation
