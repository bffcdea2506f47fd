#include "simulation/chaos_plan.h"

#include <algorithm>
#include <cmath>

#include "crypto/crypto.h"
#include "simulation/chaos_parts.h"

namespace chorus::simulation {
namespace {

using std::chrono::seconds;

constexpr uint32_t kMembers =
    4;  // helper servers: the smallest committee, of which one may be away
// In these many of a hundred seeds.
constexpr uint64_t kPlainPercent = 55;
constexpr uint64_t kOneShotPercent = 4;
constexpr uint64_t kParallelPercent = 25;
constexpr uint64_t kSharedPercent = 20;  // of the plain ones

// All encodings are exact: weights / examples_max * bound / clip is a whole number.
void DescribeLearning(TaskSpec& task) {
  task.name = "chaos";
  task.model.custom_parameters = kChaosDim;
  task.clip.update_l2_norm_max = 16.0F;
  task.encoding = {.bound = 1U << 30U, .examples_max = 1U << 20U};
}

void DrawProtocol(ChaosPlan& plan, Dice& dice) {
  TaskSpec& task = plan.task;
  const uint64_t draw = dice.Below(100);
  const bool parallel = dice.Below(100) < kParallelPercent;
  plan.clients = static_cast<uint32_t>(4 + dice.Below(4));
  task.cohort = {.minimum = 3, .target = plan.clients, .maximum = 8, .over_selection_percent = 0};
  if (draw < kPlainPercent) {
    task.protocol = Protocol::kPlain;
    if (parallel) {
      plan.clients = static_cast<uint32_t>(6 + dice.Below(3));
      task.cohort = {.minimum = 2, .target = plan.clients / 2, .maximum = 4, .parallel = 2};
    }
    // Several coordinators share the task's rounds, each with a cohort of its own.
    if (dice.Below(100) < kSharedPercent) {
      plan.clients = 8;
      plan.coordinators = static_cast<uint32_t>(2 + dice.Below(2));
      task.cohort = {.minimum = 2, .target = 3, .maximum = 4, .parallel = plan.coordinators};
    }
    return;
  }
  if (draw < 100 - kOneShotPercent) {
    task.protocol = Protocol::kSecAgg;
    if (dice.Below(4) == 0) {  // nobody may drop out
      plan.clients = static_cast<uint32_t>(5 + dice.Below(3));
      task.cohort = {.minimum = 4, .target = plan.clients, .maximum = 8, .parallel = 1};
      task.secagg = {.gamma_ppm = 10'000, .delta_ppm = 0, .honest_min = 2};
      return;
    }
    plan.clients = static_cast<uint32_t>(6 + dice.Below(3));
    task.cohort = {.minimum = 5, .target = plan.clients, .maximum = 8, .parallel = 1};
    task.secagg = {.gamma_ppm = 10'000, .delta_ppm = 160'000, .honest_min = 2};
    return;
  }
  task.protocol = Protocol::kOneShot;
  task.experimental = true;
  task.one_shot = {.gamma_ppm = 0, .honest_min = 2};
  for (uint32_t member = 0; member < kMembers; ++member) {
    task.one_shot.members.push_back(crypto::Ed25519Public(MemberSeed(plan.seed, member).Reveal()));
  }
}

void DrawDeadlines(TaskSpec& task, Dice& dice) {
  DeadlineSpec& deadlines = task.deadlines;
  deadlines.check_in = seconds(1 + dice.Below(20));
  deadlines.train = seconds(20 + dice.Below(60));
  deadlines.choose = deadlines.share = seconds(3 + dice.Below(15));
  deadlines.upload = seconds(5 + dice.Below(40));
  deadlines.consistency = deadlines.unmask = seconds(3 + dice.Below(10));
  deadlines.hedge = seconds(dice.Below(4));
}

}  // namespace

SecretBytes ClientSeed(uint64_t seed, uint32_t client) { return SeedFor(seed, "client", client); }
SecretBytes MemberSeed(uint64_t seed, uint32_t member) { return SeedFor(seed, "member", member); }
SecretBytes CoordinatorSeed(uint64_t seed) { return SeedFor(seed, "coordinator", 0); }

uint64_t ExamplesOf(uint32_t client) {
  uint64_t examples = 1;
  for (uint32_t i = 0; i < client; ++i) examples *= kDigit;
  return examples;
}

std::array<int, kChaosDim> UpdateOf(uint32_t client, uint64_t round) {
  std::array<int, kChaosDim> update{};
  const Bytes words = std::move(Writer().U64(client).U64(round)).Take();
  const Digest digest = crypto::LabeledHash("CHORUS1/chaos-update", {words});
  for (size_t i = 0; i < update.size(); ++i) update[i] = static_cast<int>(digest[i] % 9) - 4;
  return update;
}

ChaosPlan PlanOf(const ChaosOptions& options) {
  ChaosPlan plan;
  plan.seed = options.seed;
  Dice dice(options.seed, "plan", 0);
  DescribeLearning(plan.task);
  DrawProtocol(plan, dice);
  DrawDeadlines(plan.task, dice);
  plan.task.rounds = static_cast<uint32_t>(3 + dice.Below(6));
  for (size_t kind = 0; kind < kFaultKinds; ++kind) {
    // Each by itself is on in every second seed, so that faults come in all company and alone.
    plan.on[kind] = dice.Below(2) == 0;
    plan.rate[kind] = std::pow(10.0, -1.5 * UniformUnit(dice.rng()));
  }
  for (Time& phase : plan.chaos_for) phase = seconds(30 + dice.Below(400));
  if (plan.has(Fault::kLie)) plan.liars = 1;
  if (plan.has(Fault::kLie) && plan.task.cohort.parallel == 1 && plan.clients >= 6) {
    plan.liars = static_cast<uint32_t>(1 + dice.Below(2));
  }
  for (const Fault fault : options.without) plan.on[static_cast<size_t>(fault)] = false;
  return plan;
}

std::string ChaosPlan::Describe() const {
  const char* const protocol = task.protocol == Protocol::kPlain    ? "plain"
                               : task.protocol == Protocol::kSecAgg ? "secagg"
                                                                    : "one-shot";
  std::string text = std::to_string(clients) + " clients, " + std::to_string(coordinators) +
                     (coordinators == 1 ? " coordinator, " : " coordinators, ") + protocol + ", " +
                     std::to_string(task.cohort.parallel) +
                     (task.cohort.parallel == 1 ? " cohort, " : " cohorts, ") +
                     std::to_string(task.rounds) + " rounds; faults:";
  for (size_t kind = 0; kind < kFaultKinds; ++kind) {
    if (on[kind]) text.append(" ").append(FaultName(static_cast<Fault>(kind)));
  }
  return text;
}

}  // namespace chorus::simulation
