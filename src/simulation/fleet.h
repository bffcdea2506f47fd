// The virtual devices: how fast each is, when it can be invited, and what befalls it in a round.
// All of it follows from the seed by draws for each device, so that a fleet holds nothing for a
// device but, where its availability is a chain, the link of the chain that it is in.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "chorus/simulation.h"
#include "chorus/status.h"
#include "simulation/draws.h"

namespace chorus::simulation {

// kInvalidArgument names the field and what it must be.
Status ValidateSpreads(const DeviceSpec& devices);
Status ValidateAvailability(const AvailabilitySpec& availability);
Status ValidateFaults(const FaultSpec& faults);

// What becomes of a client that was asked something in a step.
enum class Fate : uint8_t {
  kAnswers,       // in its own time
  kLeaves,        // the round, before it answers
  kQuestionLost,  // it never comes, and the client does nothing
  kAnswerLost,    // it never comes, though the client has sent it
};

// What a client is sent and sends in a step, and what it does between.
struct Exchange {
  uint32_t client = 0;
  uint64_t round = 0;
  size_t step = 0;  // training first, then the protocol's
  uint64_t bytes_down = 0;
  uint64_t bytes_up = 0;
  uint64_t examples = 0;  // visited in training
};

struct Passage {
  Fate fate = Fate::kAnswers;
  double seconds = 0;  // from the question to the answer's arrival, if it answers
};

// Thread-compatible.
class Fleet {
 public:
  explicit Fleet(const Simulation& simulation, size_t clients);

  size_t size() const { return clients_; }
  // Whether the client can be invited at `seconds` of virtual time, which never goes back.
  bool Available(uint32_t client, double seconds);
  // At most `count` distinct clients that are available and that `free` names, in an order drawn
  // for `round`; fewer only when there are no more. O(count) where most are.
  using Free = std::function<bool(uint32_t client)>;
  std::vector<uint32_t> Select(size_t count, uint64_t round, double seconds, const Free& free);
  Passage PassageOf(const Exchange& exchange, double seconds);

 private:
  struct Turn {
    double until = 0;
    uint32_t number = 0;
    bool on = false;
  };

  double AvailableUntil(uint32_t client, double seconds);
  double Seconds(const Exchange& exchange) const;
  const Turn& TurnAt(uint32_t client, double seconds);
  std::vector<uint32_t> SelectFromAll(size_t count, uint64_t round, double seconds,
                                      const Free& free);

  Draws draws_;
  size_t clients_;
  DeviceSpec devices_;
  AvailabilitySpec availability_;
  FaultSpec faults_;
  std::vector<Turn> turns_;  // [clients], of kOnOff
};

}  // namespace chorus::simulation
