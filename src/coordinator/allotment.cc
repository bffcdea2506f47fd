#include "coordinator/allotment.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <utility>

namespace chorus::coordinator {
namespace {

// The tasks that the party may be given to now. Those that it declined lately are left out while
// there is another that goes on.
TaskMask MayServe(const Party& party, TaskMask going_on, Time now) {
  const TaskMask serves = party.serves & going_on;
  if (now >= party.refused_until) return serves;
  const TaskMask willing = serves & ~party.refused;
  return willing != 0 ? willing : serves;
}

TaskMask GoingOn(std::span<CoordinatorCore* const> cores) {
  TaskMask mask = 0;
  for (uint32_t place = 0; place < cores.size(); ++place) {
    if (cores[place]->goes_on()) mask |= MaskOf(place);
  }
  return mask;
}

}  // namespace

void Allotment::Count(std::span<CoordinatorCore* const> cores) {
  shares_.resize(cores.size());
  for (uint32_t place = 0; place < cores.size(); ++place) {
    const uint64_t invited = cores[place]->clients_invited();
    shares_[place].spent += static_cast<double>(invited - shares_[place].invited) /
                            static_cast<double>(cores[place]->priority());
    shares_[place].invited = invited;
  }
}

void Allotment::Run(std::span<CoordinatorCore* const> cores, Time now) {
  Count(cores);
  Collect(cores, now);
  Order(cores, now);
  GiveMembers(cores, now);
  Shuffle(free_);
  for (size_t rank = 0; rank < order_.size(); ++rank) Serve(cores, rank, now);
  // The rest waits with who comes first, which then draws its round from more than it takes.
  for (const Free& client : std::exchange(free_, {})) {
    const auto place = std::find_if(order_.begin(), order_.end(), [&client](uint32_t candidate) {
      return (client.may & MaskOf(candidate)) != 0;
    });
    if (place != order_.end()) Give(cores, client, *place, now);
  }
  EndVainTurn(cores, now);
}

// Finds what each task wants, who waits with it, and who is free.
void Allotment::Collect(std::span<CoordinatorCore* const> cores, Time now) {
  demands_.assign(cores.size(), Demand());
  free_.clear();
  members_.clear();
  const TaskMask going_on = GoingOn(cores);
  for (uint32_t place = 0; place < cores.size(); ++place) {
    demands_[place].need = cores[place]->NeedNow(now);
  }
  for (uint32_t place = 0; place < cores.size(); ++place) {
    Parties& parties = cores[place]->parties();
    parties.ForEach([&](Party& party) {
      const TaskMask may = MayServe(party, going_on, now);
      if (party.member == 0 && parties.Present(party, now)) {
        for (TaskMask left = may; left != 0; left &= left - 1) {
          ++demands_[static_cast<size_t>(std::countr_zero(left))].population;
        }
      }
      if (!parties.Free(party, now)) return;
      const Free client{.id = party.id, .place = place, .may = may};
      if (party.member != 0) {
        members_.push_back(client);
      } else if (party.allotted && demands_[place].need.open && (may & MaskOf(place)) != 0) {
        demands_[place].kept.push_back(client);
      } else {
        party.allotted = false;
        free_.push_back(client);
      }
    });
  }
}

void Allotment::Order(std::span<CoordinatorCore* const> cores, Time now) {
  order_.clear();
  double least = std::numeric_limits<double>::infinity();
  std::vector<uint32_t> newly;
  for (uint32_t place = 0; place < cores.size(); ++place) {
    const Demand& demand = demands_[place];
    const bool wants = demand.need.open && demand.population >= demand.need.minimum;
    // A pause after an aborted round does not make a task a newcomer.
    const bool active = wants || cores[place]->in_round() ||
                        (shares_[place].active && !demand.need.open && cores[place]->goes_on());
    if (active && !shares_[place].active) newly.push_back(place);
    if (active && shares_[place].active) least = std::min(least, shares_[place].spent);
    shares_[place].active = active;
    if (wants) order_.push_back(place);
  }
  for (const uint32_t place : newly) {
    if (least < std::numeric_limits<double>::infinity()) {
      shares_[place].spent = std::max(shares_[place].spent, least);
    }
  }
  std::stable_sort(order_.begin(), order_.end(),
                   [this](uint32_t a, uint32_t b) { return shares_[a].spent < shares_[b].spent; });
  const std::optional<uint32_t> first =
      order_.empty() ? std::nullopt : std::optional<uint32_t>(order_.front());
  if (turn_ != first) turn_since_ = now;
  turn_ = first;
}

// A committee is wanted whole, so its members go to whichever of their tasks comes first.
void Allotment::GiveMembers(std::span<CoordinatorCore* const> cores, Time now) {
  for (const Free& member : members_) {
    const auto place = std::find_if(order_.begin(), order_.end(), [&member](uint32_t candidate) {
      return (member.may & MaskOf(candidate)) != 0;
    });
    if (place != order_.end()) Give(cores, member, *place, now);
  }
}

// Gives the task of this rank what it wants, of the free first, then of those behind it.
void Allotment::Serve(std::span<CoordinatorCore* const> cores, size_t rank, Time now) {
  const uint32_t place = order_[rank];
  const uint64_t wanted = demands_[place].need.wanted;
  const auto take = [&](std::vector<Free>& from) {
    auto& kept = demands_[place].kept;
    std::erase_if(from, [&](const Free& client) {
      if (kept.size() >= wanted || (client.may & MaskOf(place)) == 0) return false;
      Give(cores, client, place, now);
      kept.push_back({.id = client.id, .place = place, .may = client.may});
      return true;
    });
  };
  take(free_);
  for (size_t behind = order_.size(); behind > rank + 1; --behind) {
    take(demands_[order_[behind - 1]].kept);
  }
}

void Allotment::Give(std::span<CoordinatorCore* const> cores, const Free& client, uint32_t place,
                     Time now) {
  CoordinatorCore& from = *cores[client.place];
  CoordinatorCore& to = *cores[place];
  if (client.place != place) to.parties().Adopt(from.parties().Release(client.id));
  Party& party = *to.parties().Find(client.id);
  if (client.place == place && party.allotted) return;
  party.allotted = true;
  to.LookSoon(now);
}

// Who gathers clients for too long, and has not its minimum, lets the others go first.
void Allotment::EndVainTurn(std::span<CoordinatorCore* const> cores, Time now) {
  if (!turn_) return;
  const Demand& demand = demands_[*turn_];
  if (demand.kept.size() >= demand.need.minimum) {
    turn_since_ = now;
  } else if (now - turn_since_ >= limits::kTurnMax) {
    const double next = order_.size() > 1 ? shares_[order_[1]].spent : shares_[*turn_].spent;
    shares_[*turn_].spent = next + static_cast<double>(demand.need.minimum) /
                                       static_cast<double>(cores[*turn_]->priority());
    turn_.reset();
  }
}

void Allotment::Shuffle(std::vector<Free>& clients) {
  for (size_t i = 0; i + 1 < clients.size(); ++i) {
    std::swap(clients[i], clients[i + UniformBelow(rng_, clients.size() - i)]);
  }
}

uint32_t Allotment::PlaceFor(std::span<CoordinatorCore* const> cores, TaskMask tasks, Time now) {
  Count(cores);
  std::optional<uint32_t> best;
  const auto rank = [&](uint32_t place) {
    const bool open = cores[place]->NeedNow(now).open;
    return std::pair(open ? 0 : cores[place]->goes_on() ? 1 : 2, shares_[place].spent);
  };
  for (uint32_t place = 0; place < cores.size(); ++place) {
    if ((tasks & MaskOf(place)) == 0) continue;
    if (!best || rank(place) < rank(*best)) best = place;
  }
  return best.value_or(0);
}

}  // namespace chorus::coordinator
