// A character of a game learns to behave from how players play, and then gets better at it: first
// behaviour cloning from players of three styles, then REINFORCE on the games that it plays on
// their devices. What players did never leaves them; the coordinator reads sums.
//
//   6_npc_behaviour [CLONING_ROUNDS [REINFORCE_ROUNDS]]
//
// The game: on a board of 7 by 7 a thief collects coins, 1 point each, and loses 3 when the guard
// catches it; a game has 40 turns. Ends with exit code 0 when cloning beats chance and REINFORCE
// beats cloning.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <utility>
#include <vector>

#include "chorus/simulation.h"

namespace {

using Random = std::mt19937;

constexpr int kSide = 7;
constexpr int kTurns = 40;
constexpr uint32_t kActions = 5;
constexpr std::array<std::pair<int, int>, kActions> kMoves = {
    {{0, 0}, {1, 0}, {-1, 0}, {0, 1}, {0, -1}}};

int Below(int bound, Random& random) {
  return static_cast<int>(random() % static_cast<uint32_t>(bound));
}
bool Chance(int percent, Random& random) { return Below(100, random) < percent; }

// --- 1. The game. --------------------------------------------------------------------------------

struct Place {
  int x = 0;
  int y = 0;
  bool operator==(const Place&) const = default;
};

int Distance(Place a, Place b) { return std::abs(a.x - b.x) + std::abs(a.y - b.y); }

Place Moved(Place from, uint32_t action) {
  return {std::clamp(from.x + kMoves[action].first, 0, kSide - 1),
          std::clamp(from.y + kMoves[action].second, 0, kSide - 1)};
}

// The move after which `score` is lowest; ties go to chance.
template <typename Score>
uint32_t BestMove(Place from, Random& random, const Score& score) {
  uint32_t best = 0;
  int best_score = 0;
  for (uint32_t i = 0; i < kActions; ++i) {
    const int own = 4 * score(Moved(from, i)) + Below(4, random);
    if (i > 0 && own >= best_score) continue;
    best = i;
    best_score = own;
  }
  return best;
}

struct Game {
  Place thief;
  Place coin;
  Place guard;

  explicit Game(Random& random) {
    thief = {kSide / 2, kSide / 2};
    coin = Elsewhere(random);
    guard = Elsewhere(random);
  }
  Place Elsewhere(Random& random) const {
    while (true) {
      const Place place = {Below(kSide, random), Below(kSide, random)};
      if (Distance(place, thief) > 2) return place;
    }
  }
  // One turn; gives the points that it brings. The guard follows the thief, six turns in ten.
  float Play(uint32_t action, Random& random) {
    thief = Moved(thief, action);
    float points = 0;
    if (thief == coin) {
      points += 1;
      coin = Elsewhere(random);
    }
    const uint32_t step =
        Chance(60, random)
            ? BestMove(guard, random, [this](Place place) { return Distance(place, thief); })
            : static_cast<uint32_t>(Below(kActions, random));
    guard = Moved(guard, step);
    if (thief == guard) {
      points -= 3;
      guard = Elsewhere(random);
    }
    return points;
  }
};

// What the policy sees: where coin and guard are from here, and how near the walls.
constexpr uint32_t kInputs = 12;
using Features = std::array<float, kInputs>;

Features Seen(const Game& game) {
  const auto sign = [](int value) { return static_cast<float>((value > 0) - (value < 0)); };
  const auto part = [](int value) { return static_cast<float>(value) / kSide; };
  const int coin_x = game.coin.x - game.thief.x;
  const int coin_y = game.coin.y - game.thief.y;
  const int guard_x = game.guard.x - game.thief.x;
  const int guard_y = game.guard.y - game.thief.y;
  const float near = 2.0F / static_cast<float>(1 + Distance(game.guard, game.thief));
  return {part(coin_x),
          part(coin_y),
          sign(coin_x),
          sign(coin_y),
          part(guard_x),
          part(guard_y),
          near * sign(guard_x),
          near * sign(guard_y),
          near,
          part(game.thief.x) - 0.5F,
          part(game.thief.y) - 0.5F,
          1.0F};
}

// --- 2. Players, each of one of three styles. ----------------------------------------------------

enum class Style { kBold, kCautious, kIdle };
constexpr std::array<const char*, 3> kStyles = {"bold", "cautious", "idle"};

uint32_t PlayerMove(Style style, const Game& game, Random& random) {
  const bool wanders = Chance(style == Style::kIdle ? 50 : 10, random);
  if (wanders) return static_cast<uint32_t>(Below(kActions, random));
  const bool flees = style == Style::kCautious && Distance(game.guard, game.thief) <= 2;
  return BestMove(game.thief, random, [&](Place place) {
    return flees ? -Distance(place, game.guard) : Distance(place, game.coin);
  });
}

// --- 3. The policy: a small network, run here as the game would run it. --------------------------

constexpr uint32_t kHidden = 32;

chorus::ModelSpec MakeModel(chorus::Loss loss) {
  chorus::ModelSpec model;
  model.inputs = kInputs;
  model.layers = {{.units = kHidden, .activation = chorus::Activation::kTanh}, {.units = kActions}};
  model.loss = loss;
  return model;
}

using Outputs = std::array<float, kActions>;

// The weights lie layer by layer: the matrix, a row for each unit, then the biases.
Outputs Run(const chorus::Weights& weights, const Features& features) {
  const float* w = weights.data();
  std::array<float, kHidden> hidden{};
  for (uint32_t unit = 0; unit < kHidden; ++unit) {
    float sum = w[kHidden * kInputs + unit];
    for (uint32_t i = 0; i < kInputs; ++i) sum += w[unit * kInputs + i] * features[i];
    hidden[unit] = std::tanh(sum);
  }
  w += kHidden * (kInputs + 1);
  Outputs outputs{};
  for (uint32_t unit = 0; unit < kActions; ++unit) {
    outputs[unit] = w[kActions * kHidden + unit];
    for (uint32_t i = 0; i < kHidden; ++i) outputs[unit] += w[unit * kHidden + i] * hidden[i];
  }
  return outputs;
}

Outputs Softmax(const Outputs& outputs) {
  Outputs chances{};
  float sum = 0;
  const float largest = *std::max_element(outputs.begin(), outputs.end());
  for (uint32_t i = 0; i < kActions; ++i) sum += chances[i] = std::exp(outputs[i] - largest);
  for (float& chance : chances) chance /= sum;
  return chances;
}

uint32_t Draw(const Outputs& chances, Random& random) {
  float left = static_cast<float>(random() >> 8U) * 0x1p-24F;
  for (uint32_t i = 0; i + 1 < kActions; ++i) {
    if (left < chances[i]) return i;
    left -= chances[i];
  }
  return kActions - 1;
}

// Points of a game, on average, for whoever `move` plays.
template <typename Move>
double Points(const Move& move) {
  constexpr int kGames = 500;
  Random random(99);
  double points = 0;
  for (int game_number = 0; game_number < kGames; ++game_number) {
    Game game(random);
    for (int turn = 0; turn < kTurns; ++turn) points += game.Play(move(game, random), random);
  }
  return points / kGames;
}

double PointsOf(const chorus::Weights& policy) {
  return Points([&policy](const Game& game, Random& random) {
    return Draw(Softmax(Run(policy, Seen(game))), random);
  });
}

// --- 4. Learning together. -----------------------------------------------------------------------

constexpr uint32_t kPlayers = 24;

chorus::Simulation MakeSimulation(const char* name, chorus::Loss loss, uint32_t rounds) {
  chorus::Simulation simulation;
  chorus::TaskSpec& task = simulation.task;
  task.name = name;
  task.model = MakeModel(loss);
  task.clip.update_l2_norm_max = 5;
  task.protocol = chorus::Protocol::kSecAgg;
  task.cohort = {.minimum = 16, .target = kPlayers, .maximum = kPlayers};
  task.rounds = rounds;
  simulation.seed = 1;
  simulation.measure_clients = false;
  return simulation;
}

// Adds one device's examples behind the others'.
void AddDevice(chorus::Examples& all, size_t count_before, std::vector<chorus::Rows>& devices) {
  devices.push_back(
      {static_cast<uint32_t>(count_before), static_cast<uint32_t>(all.count() - count_before)});
}

chorus::Result<chorus::Weights> CloneBehaviour(uint32_t rounds) {
  constexpr int kGamesEach = 20;
  chorus::Examples examples;
  examples.inputs = kInputs;
  std::vector<chorus::Rows> devices;
  for (uint32_t player = 0; player < kPlayers; ++player) {
    Random random(player);
    const size_t before = examples.count();
    for (int game_number = 0; game_number < kGamesEach; ++game_number) {
      Game game(random);
      for (int turn = 0; turn < kTurns; ++turn) {
        const uint32_t action = PlayerMove(static_cast<Style>(player % 3), game, random);
        const Features seen = Seen(game);
        examples.features.insert(examples.features.end(), seen.begin(), seen.end());
        examples.labels.push_back(action);
        game.Play(action, random);
      }
    }
    AddDevice(examples, before, devices);
  }
  chorus::Simulation simulation =
      MakeSimulation("behaviour-cloning", chorus::Loss::kCrossEntropy, rounds);
  simulation.task.training = {.epochs = 3, .batch_size = 20, .learning_rate = 0.1F};
  CHORUS_TRY_ASSIGN(
      chorus::SimulationResult result,
      chorus::RunSimulation(simulation, {.train = &examples, .train_of = devices}, {}));
  return std::move(result.weights);
}

// One device plays the policy against itself and turns what came of it into examples. The gradient
// of REINFORCE by the outputs is advantage * (chances - taken) [Williams 1992], that of the squared
// error is outputs - target; so the target outputs + advantage * (taken - chances) makes a step of
// plain gradient descent on the one the step on the other.
void PlayPolicy(const chorus::Weights& policy, Random& random, chorus::Examples& examples) {
  constexpr int kGamesEach = 10;
  constexpr float kDiscount = 0.9F;
  struct Turn {
    Features seen;
    Outputs outputs;
    uint32_t action;
    float advantage;
  };
  std::vector<Turn> turns;
  for (int game_number = 0; game_number < kGamesEach; ++game_number) {
    Game game(random);
    std::array<float, kTurns> points{};
    for (int turn = 0; turn < kTurns; ++turn) {
      const Features seen = Seen(game);
      const Outputs outputs = Run(policy, seen);
      const uint32_t action = Draw(Softmax(outputs), random);
      points[static_cast<size_t>(turn)] = game.Play(action, random);
      turns.push_back({seen, outputs, action, 0});
    }
    float to_come = 0;
    for (size_t back = 0; back < kTurns; ++back) {
      to_come = points[kTurns - 1 - back] + kDiscount * to_come;
      turns[turns.size() - 1 - back].advantage = to_come;
    }
  }
  float mean = 0;
  float squares = 0;
  for (const Turn& turn : turns) mean += turn.advantage / static_cast<float>(turns.size());
  for (const Turn& turn : turns) squares += (turn.advantage - mean) * (turn.advantage - mean);
  const float deviation = std::sqrt(squares / static_cast<float>(turns.size())) + 1e-6F;
  for (const Turn& turn : turns) {
    const Outputs chances = Softmax(turn.outputs);
    examples.features.insert(examples.features.end(), turn.seen.begin(), turn.seen.end());
    for (uint32_t i = 0; i < kActions; ++i) {
      const float taken = i == turn.action ? 1.0F : 0.0F;
      const float advantage = (turn.advantage - mean) / deviation;
      examples.targets.push_back(turn.outputs[i] + advantage * (taken - chances[i]));
    }
  }
}

chorus::Result<chorus::Weights> Reinforce(chorus::Weights policy, uint32_t rounds) {
  for (uint32_t round = 0; round < rounds; ++round) {
    chorus::Examples examples;
    examples.inputs = kInputs;
    std::vector<chorus::Rows> devices;
    for (uint32_t player = 0; player < kPlayers; ++player) {
      Random random(1'000 * (round + 1) + player);
      const size_t before = examples.count();
      PlayPolicy(policy, random, examples);
      AddDevice(examples, before, devices);
    }
    chorus::Simulation simulation = MakeSimulation("reinforce", chorus::Loss::kSquaredError, 1);
    // One step on everything that was played: afterwards the games are another policy's.
    simulation.task.training = {
        .batch_size = 512, .learning_rate = 1.0F, .held_back_percent = 0, .steps = 1};
    simulation.seed = round;
    simulation.initial_weights = std::move(policy);
    CHORUS_TRY_ASSIGN(
        chorus::SimulationResult result,
        chorus::RunSimulation(simulation, {.train = &examples, .train_of = devices}, {}));
    policy = std::move(result.weights);
    if ((round + 1) % 20 == 0) {
      std::printf("  after %3u rounds of REINFORCE %6.2f points a game\n", round + 1,
                  PointsOf(policy));
    }
  }
  return policy;
}

}  // namespace

int main(int argc, char** argv) {
  const auto number = [&](int index, uint32_t otherwise) {
    return argc > index ? static_cast<uint32_t>(std::strtoul(argv[index], nullptr, 10)) : otherwise;
  };
  for (size_t style = 0; style < kStyles.size(); ++style) {
    std::printf("%-9s players %6.2f points a game\n", kStyles[style],
                Points([style](const Game& game, Random& random) {
                  return PlayerMove(static_cast<Style>(style), game, random);
                }));
  }
  const double chance = Points(
      [](const Game&, Random& random) { return static_cast<uint32_t>(Below(kActions, random)); });
  std::printf("chance            %6.2f\n", chance);
  const auto cloned = CloneBehaviour(number(1, 15));
  if (!cloned.ok()) {
    std::fprintf(stderr, "%s\n", cloned.status().message().c_str());
    return 1;
  }
  const double cloned_points = PointsOf(*cloned);
  std::printf("cloned            %6.2f\n", cloned_points);
  const auto reinforced = Reinforce(*cloned, number(2, 100));
  if (!reinforced.ok()) {
    std::fprintf(stderr, "%s\n", reinforced.status().message().c_str());
    return 1;
  }
  const double reinforced_points = PointsOf(*reinforced);
  std::printf("reinforced        %6.2f\n", reinforced_points);
  return cloned_points > chance && reinforced_points > cloned_points ? 0 : 1;
}
