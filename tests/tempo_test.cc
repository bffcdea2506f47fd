// Rounds that fit the clients: what is chosen from what was seen, and whole populations under
// virtual time over the core of production.
#include "coordinator/tempo.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <deque>
#include <functional>
#include <numbers>
#include <set>

#include "coordinator_world.h"

namespace chorus::coordinator {
namespace {

// The chance that of `invited`, each lost with the chance `lost`, at least `wanted` stay.
double ChanceOfEnough(uint64_t invited, uint64_t wanted, double lost) {
  double chance = 0;
  for (uint64_t stay = wanted; stay <= invited; ++stay) {
    const auto n = static_cast<double>(invited);
    const auto k = static_cast<double>(stay);
    const double ways = std::lgamma(n + 1) - std::lgamma(k + 1) - std::lgamma(n - k + 1);
    chance += std::exp(ways + k * std::log(1 - lost) + (n - k) * std::log(lost));
  }
  return chance;
}

TEST(OverSelection, HasEnoughInNineOfTenRounds) {
  for (const uint64_t wanted : {3U, 10U, 20U, 100U, 1'000U}) {
    for (const double lost : {0.02, 0.1, 0.2, 0.4, 0.7}) {
      const uint64_t invited = InvitedFor(wanted, lost);
      // The normal distribution stands for the binomial one.
      EXPECT_GE(ChanceOfEnough(invited, wanted, lost), 0.87) << wanted << " " << lost;
      EXPECT_LE(ChanceOfEnough(invited - 3, wanted, lost), 0.905) << wanted << " " << lost;
    }
  }
}

TEST(OverSelection, InvitesNobodyMoreWhenNobodyIsLost) {
  for (uint64_t wanted = 1; wanted <= 1'024; ++wanted) EXPECT_EQ(InvitedFor(wanted, 0), wanted);
}

TEST(OverSelection, HasABoundWhenEverybodyIsLost) { EXPECT_LT(InvitedFor(20, 1), 200U); }

ClosedStep Closed(std::vector<Time> took, uint32_t silent, const StepLimits& limits) {
  ClosedStep step;
  step.answered = static_cast<uint32_t>(took.size());
  step.asked = step.answered + silent;
  step.silent = silent;
  step.took = std::move(took);
  step.fitted = limits.fitted;
  step.patient = limits.patient;
  step.before_upload = true;
  return step;
}

TEST(StepRecord, FitsTwiceTheTimeInWhichNearlyAllAnswered) {
  StepRecord record;
  std::vector<Time> took(5, Time{1'000});
  record.Note(Closed(took, 0, {}));
  EXPECT_FALSE(record.Fitting(Time{0}).has_value()) << "five answers say too little";
  took.assign(94, Time{1'000});
  took.push_back(Time{3'000});
  took.insert(took.end(), 5, Time{90'000});
  record.Note(Closed(took, 0, {}));
  EXPECT_EQ(record.Fitting(Time{0}), Time{6'000});
  EXPECT_EQ(record.Fitting(Time{10'000}), Time{10'000});
}

TEST(StepRecord, ForgetsOldAnswers) {
  StepRecord record;
  record.Note(Closed(std::vector<Time>(100, Time{50'000}), 0, {}));
  record.Note(Closed(std::vector<Time>(63, Time{1'000}), 0, {}));
  EXPECT_EQ(record.Fitting(Time{0}), Time{100'000});
  record.Note(Closed({Time{1'000}}, 0, {}));
  EXPECT_EQ(record.Fitting(Time{0}), Time{2'000});
}

// Fitted deadlines cut off the slowest, whom the next then does not see. It has to end somewhere.
TEST(StepRecord, DoesNotShrinkAwayUnderItsOwnDeadlines) {
  const std::unique_ptr<Rng> rng = crypto::NewSeededRng(SeedOf("speeds").Reveal());
  const auto uniform = [&] {
    return (static_cast<double>(UniformBelow(*rng, 1U << 30U)) + 0.5) / (1U << 30U);
  };
  StepRecord record;
  Time deadline = Time::max();
  double cut_off = 0;
  for (int round = 0; round < 300; ++round) {
    std::vector<Time> took;
    uint32_t silent = 0;
    for (int client = 0; client < 100; ++client) {
      // e^(2 z) seconds, z normal [Box and Muller 1958].
      const double z =
          std::sqrt(-2 * std::log(uniform())) * std::cos(2 * std::numbers::pi * uniform());
      const Time time{static_cast<Time::rep>(1'000 * std::exp(2 * z))};
      if (time <= deadline) {
        took.push_back(time);
      } else {
        ++silent;
      }
    }
    if (round >= 100) cut_off += silent;
    record.Note(Closed(took, silent, {.fitted = round > 0}));
    deadline = *record.Fitting(Time{0});
  }
  EXPECT_LT(cut_off / 200, 10) << "of a hundred";
}

TEST(StepRecord, LosesMoreWhenFittedDeadlinesDo) {
  StepRecord record;
  record.Note(Closed(std::vector<Time>(80, Time{1'000}), 20, {}));
  record.Note(Closed(std::vector<Time>(75, Time{1'000}), 25, {.fitted = true}));
  EXPECT_FALSE(record.LosesMore()) << "chance explains five in a hundred";
  record.Note(Closed(std::vector<Time>(50, Time{1'000}), 50, {.fitted = true}));
  EXPECT_TRUE(record.LosesMore());
  record.Note(Closed(std::vector<Time>(50, Time{1'000}), 50, {}));
  EXPECT_FALSE(record.LosesMore()) << "they are lost anyway";
}

// A tempo whose clients all take `took`, in rounds that commit.
struct Rounds {
  explicit Rounds(TaskSpec its_task = PlainTask()) : task(std::move(its_task)), tempo(task) {}
  RoundTempo Run(std::vector<Time> took, uint32_t silent = 0, bool aborted = false) {
    const StepLimits limits = tempo.Begin(took.size() + silent);
    const RoundTempo chosen = tempo.chosen();
    if (chosen.fitted)
      std::erase_if(took, [&](Time time) {
        const bool late = time.count() > chosen.deadlines_ms[0];
        silent += late ? 1 : 0;
        return late;
      });
    tempo.Note(Closed(std::move(took), silent, limits));
    tempo.End(aborted);
    return chosen;
  }
  TaskSpec task;
  Tempo tempo;
};

const std::vector<Time> kQuick(20, Time{8'000});

TEST(Tempo, BeginsWithTheTasksDeadlinesAndFitsThem) {
  Rounds rounds;
  RoundTempo chosen = rounds.Run(kQuick);
  EXPECT_FALSE(chosen.fitted);
  EXPECT_THAT(chosen.deadlines_ms, testing::ElementsAre(120'000, 60'000));
  chosen = rounds.Run(kQuick);
  EXPECT_TRUE(chosen.fitted);
  // Nothing was seen of the upload.
  EXPECT_THAT(chosen.deadlines_ms, testing::ElementsAre(16'000, 60'000));
}

TEST(Tempo, KeepsToTheTasksDeadlines) {
  TaskSpec task = PlainTask();
  task.deadlines.train = Time{9'000};
  Rounds rounds(task);
  rounds.Run(kQuick);
  EXPECT_EQ(rounds.Run(kQuick).deadlines_ms[0], 9'000U);
}

TEST(Tempo, IsTheTasksWithoutAdapt) {
  TaskSpec task = PlainTask();
  task.adapt = false;
  Rounds rounds(task);
  for (int i = 0; i < 40; ++i) {
    const RoundTempo chosen = rounds.Run(kQuick, 10);
    EXPECT_FALSE(chosen.fitted || chosen.patient);
    EXPECT_EQ(chosen.deadlines_ms[0], 120'000U);
  }
  EXPECT_EQ(rounds.tempo.Cohorts(task.cohort).target, task.cohort.target);
  EXPECT_FALSE(rounds.tempo.MayBeginWith(1'000));
  EXPECT_EQ(rounds.tempo.WaitForMore(3), task.deadlines.check_in);
}

TEST(Tempo, GrowsBackAtOnceWhenMoreAreLost) {
  Rounds rounds;
  rounds.Run(kQuick);
  EXPECT_TRUE(rounds.Run(kQuick, 0).fitted);
  EXPECT_TRUE(rounds.Run(kQuick, 20).fitted);
  EXPECT_FALSE(rounds.Run(kQuick, 20).fitted);
  EXPECT_TRUE(rounds.Run(kQuick, 20).fitted) << "waiting longer did not help";
}

TEST(Tempo, GivesTheTasksTimeToMoreRoundsAfterEachFittedOneThatAborts) {
  Rounds rounds;
  rounds.Run(kQuick);
  std::vector<int> between;
  for (int i = 0; i < 7; ++i) {
    int count = 0;
    RoundTempo chosen;
    do {
      chosen = rounds.Run(kQuick, 0, true);
      ++count;
    } while (!chosen.fitted);
    between.push_back(count - 1);
  }
  EXPECT_THAT(between, testing::ElementsAre(0, 1, 2, 4, 8, 16, 16));
}

TEST(Tempo, IsPatientEveryEighthRoundWhileThatHelps) {
  Rounds rounds;
  std::vector<Time> took = kQuick;
  took.push_back(Time{110'000});
  rounds.Run(took);
  std::vector<int> patient;
  for (int i = 1; i <= 40; ++i) {
    const RoundTempo chosen = rounds.Run(took);
    if (!chosen.patient) continue;
    patient.push_back(i);
    EXPECT_EQ(chosen.deadlines_ms[0], 120'000U);
  }
  EXPECT_THAT(patient, testing::ElementsAre(8, 16, 24, 32, 40));
}

TEST(Tempo, IsPatientLessOftenWhenThatHelpsNobody) {
  Rounds rounds;
  std::vector<int> patient;
  for (int i = 0; i <= 120; ++i) {
    if (rounds.Run(kQuick, 4).patient) patient.push_back(i);
  }
  EXPECT_THAT(patient, testing::ElementsAre(8, 24, 56, 88, 120));
}

TEST(Tempo, InvitesAsManyAsTheDropoutsAskForWithinTheTasksBounds) {
  TaskSpec task = PlainTask();
  task.cohort = {.minimum = 3, .target = 20, .maximum = 30, .over_selection_percent = 10};
  Rounds rounds(task);
  const auto invited = [&] { return rounds.tempo.Cohorts(task.cohort).target; };
  EXPECT_EQ(invited(), 22U) << "at least what the task says";
  for (int i = 0; i < 20; ++i) rounds.Run(kQuick, 5);
  EXPECT_EQ(invited(), InvitedFor(20, 0.2));
  for (int i = 0; i < 40; ++i) rounds.Run(kQuick, 20);
  EXPECT_EQ(invited(), 30U) << "at most the maximum";
  task.cohort.target = 0;
  EXPECT_EQ(rounds.tempo.Cohorts(task.cohort).target, 0U) << "all who are there";
}

TEST(Tempo, BeginsEarlyOnlyWithAsManyAsWillBeEnough) {
  Rounds rounds;
  const Time check_in = rounds.task.deadlines.check_in;
  EXPECT_FALSE(rounds.tempo.MayBeginWith(20)) << "the first round";
  EXPECT_EQ(rounds.tempo.WaitForMore(3), check_in);
  for (int i = 0; i < 3; ++i) rounds.Run(kQuick, 20);
  const uint64_t enough = InvitedFor(rounds.task.cohort.minimum, 0.5);
  EXPECT_TRUE(rounds.tempo.MayBeginWith(enough));
  EXPECT_FALSE(rounds.tempo.MayBeginWith(enough - 1));
  EXPECT_EQ(rounds.tempo.WaitForMore(enough), check_in);
  EXPECT_EQ(rounds.tempo.WaitForMore(enough - 1), 4 * check_in);
}

TEST(Tempo, ExpectsWhatIsLeftAfterTheUsualDropouts) {
  Rounds rounds;
  EXPECT_EQ(rounds.Run(kQuick, 20).expected, 40U) << "nothing is known";
  EXPECT_EQ(rounds.Run(kQuick, 20).expected, 20U);
}

// --- whole populations ---

// How a population behaves: who is how fast, and who leaves without a word.
struct Habits {
  uint32_t devices = 10;
  double dropout = 0;       // of each invitation
  uint32_t slow_every = 0;  // every so-manieth device takes 90 s; 0: none
};

struct Outcome {
  std::vector<RoundReport> rounds;
  std::vector<RoundTempo> tempos;
  double seconds = 0;  // virtual, from the first invitation to the last commit
  uint64_t trained = 0;
  uint64_t contributed = 0;
  std::map<size_t, uint32_t> invited_of;      // by device
  std::map<size_t, uint32_t> contributed_of;  // likewise
};

class Population {
 public:
  Population(const TaskSpec& task, Habits habits) : world_(task), habits_(habits) {
    chance_ = crypto::NewSeededRng(SeedOf("population").Reveal());
    world_.Start();
    for (size_t i = 0; i < habits.devices; ++i) {
      players_.push_back(std::make_unique<Player>(world_, i + 1));
      // They come within three seconds of the start.
      At(Time{static_cast<Time::rep>(i * 3'000 / habits.devices)}, [this, i] {
        players_[i]->CheckIn();
        Ask(i);
      });
    }
  }

  ~Population() { world_.core.reset(); }  // it answers whoever is parked

  // Runs until so many rounds have ended.
  Outcome Run(size_t rounds) {
    while (ended_ < rounds) {
      world_.Settle();
      for (; seen_ < world_.events.size(); ++seen_) {
        ended_ += world_.events[seen_].kind == EventKind::kRoundEnded ? 1U : 0U;
      }
      if (!given_.empty()) {
        const size_t device = given_.front();
        given_.pop_front();
        React(device);
        continue;
      }
      const Time act = agenda_.empty() ? Time::max() : agenda_.begin()->first.first;
      const Time next = std::min(world_.core->NextTick(), act);
      EXPECT_LT(next, Time{24 * 3'600 * 1'000}) << "the rounds do not come to an end";
      if (next >= Time{24 * 3'600 * 1'000}) break;
      world_.clock.now = std::max(world_.clock.now, next);
      while (!agenda_.empty() && agenda_.begin()->first.first <= world_.clock.now) {
        agenda_.extract(agenda_.begin()).mapped()();
      }
    }
    for (const CoordinatorEvent& event : world_.Of(EventKind::kRoundBegan)) {
      outcome_.tempos.push_back(event.tempo);
    }
    for (const CoordinatorEvent& event : world_.Of(EventKind::kRoundEnded)) {
      outcome_.rounds.push_back(event.round);
      outcome_.contributed += event.round.contributors;
    }
    outcome_.seconds = static_cast<double>((world_.clock.now - first_).count()) / 1'000;
    return outcome_;
  }

 private:
  double Uniform() { return static_cast<double>(UniformBelow(*chance_, 1U << 30U)) / (1U << 30U); }
  void At(Time after, std::function<void()> act) {
    agenda_.emplace(std::pair(world_.clock.now + after, ++acts_), std::move(act));
  }

  void Ask(size_t device) {
    Player& player = *players_[device];
    player.reply = std::make_shared<Player::Slot>();  // NOLINT(tidy): as in Player
    world_.core->Handle(wire::kNext, wire::Encode(wire::NextRequest{player.session, player.done}),
                        [this, device, into = player.reply](Result<Bytes> bytes) {
                          *into = std::move(bytes);
                          given_.push_back(device);
                        });
  }

  // From two seconds to half a minute, the same device always nearly the same.
  Time TrainingTime(size_t device) {
    if (habits_.slow_every > 0 && device % habits_.slow_every == 0) return Time{90'000};
    const double own = static_cast<double>(device * 7'919 % 1'000) / 1'000;
    return Time{static_cast<Time::rep>(2'000 * std::exp(2.5 * own) * (0.8 + 0.4 * Uniform()))};
  }

  void React(size_t device) {
    Player& player = *players_[device];
    if (player.reply == nullptr || player.parked()) return;
    const Result<wire::NextReply> given = player.Given();
    player.reply = nullptr;
    if (!given.ok()) {
      player.CheckIn();
      return Ask(device);
    }
    player.sequence = given->sequence;
    if (const auto* invitation = std::get_if<wire::Invitation>(&given->what)) {
      return Train(device, *invitation);
    }
    if (const auto* question = std::get_if<wire::Question>(&given->what)) {
      const Result<Bytes> answer = player.contributor->Answer(player.Body(*question));
      const Time takes{500 + static_cast<Time::rep>(1'500 * Uniform())};
      if (!answer.ok()) return At(takes, [this, device] { Ask(device); });
      return At(takes, [this, device, sent = *answer] {
        Player& sender = *players_[device];
        static_cast<void>(sender.Answer(sent));
        Ask(device);
      });
    }
    if (const auto* over = std::get_if<wire::RoundOver>(&given->what)) {
      player.done = player.sequence;
      if (over->counted) ++outcome_.contributed_of[device];
    }
    At(Time{100}, [this, device] { Ask(device); });
  }

  void Train(size_t device, const wire::Invitation& invitation) {
    if (first_ == Time{0}) first_ = world_.clock.now;
    Player& player = *players_[device];
    // Who left comes back, finds the round going on without it, and waits for its end.
    if (player.joined.round == invitation.round) {
      return At(Time{20'000}, [this, device] { Ask(device); });
    }
    ++outcome_.invited_of[device];
    player.joined = invitation;
    if (Uniform() < habits_.dropout) return At(Time{20'000}, [this, device] { Ask(device); });
    player.Join(invitation, {0.25F, 0.5F, 0, -0.25F}, 256);
    ++outcome_.trained;
    At(TrainingTime(device), [this, device, sequence = player.sequence] {
      Player& trained = *players_[device];
      if (trained.sequence == sequence) static_cast<void>(trained.Answer({}));
      Ask(device);
    });
  }

  World world_;
  Habits habits_;
  Players players_;
  std::unique_ptr<Rng> chance_;
  std::multimap<std::pair<Time, uint64_t>, std::function<void()>> agenda_;
  uint64_t acts_ = 0;
  size_t seen_ = 0;   // of the world's events
  size_t ended_ = 0;  // rounds
  std::deque<size_t> given_;
  Time first_{0};
  Outcome outcome_;
};

// Neither cohort nor deadlines.
TaskSpec DefaultTask(Protocol protocol) {
  TaskSpec task = PlainTask();
  task.protocol = protocol;
  task.cohort = {};
  task.deadlines = {};
  task.rounds = 1'000;
  return task;
}

double Mean(std::span<const RoundReport> rounds,
            const std::function<double(const RoundReport&)>& of) {
  double sum = 0;
  for (const RoundReport& round : rounds) sum += of(round);
  return sum / static_cast<double>(rounds.size());
}
double Seconds(const RoundReport& round) { return static_cast<double>(round.duration_ms) / 1'000; }
double Contributors(const RoundReport& round) { return round.contributors; }

// All rounds commit, over all who are there, as far as a cohort reaches and they stay.
void ExpectsRoundsToComplete(const Outcome& outcome, Habits habits) {
  const double invited = std::min(habits.devices, CohortSpec().maximum);
  const auto committed =
      std::count_if(outcome.rounds.begin(), outcome.rounds.end(),
                    [](const RoundReport& round) { return round.state == RoundState::kCommitted; });
  // Of ten, of whom each leaves with 40 %, fewer than the minimum of five stay once in six times.
  const bool hardly = (1 - habits.dropout) * habits.devices < 2 * CohortSpec().minimum;
  EXPECT_GE(committed, std::ssize(outcome.rounds) * (hardly ? 2 : 4) / 4);
  EXPECT_GE(Mean(outcome.rounds, [](const RoundReport& r) { return double{1} * r.invited; }),
            0.65 * invited);
  EXPECT_GE(Mean(outcome.rounds, Contributors), 0.6 * (1 - habits.dropout) * invited);
}

class Defaults : public testing::TestWithParam<std::tuple<uint32_t, int>> {};

TEST_P(Defaults, CompleteRoundsOfAnyPopulation) {
  const auto [devices, dropout_percent] = GetParam();
  const Habits habits{
      .devices = devices, .dropout = dropout_percent / 100.0, .slow_every = devices > 10 ? 33U : 0};
  const size_t rounds = devices >= 10'000 ? 6 : 20;
  Population population(DefaultTask(Protocol::kPlain), habits);
  const Outcome outcome = population.Run(rounds);
  ExpectsRoundsToComplete(outcome, habits);
  RecordProperty("seconds_a_round", std::to_string(Mean(outcome.rounds, Seconds)));
  RecordProperty("contributions_a_round", std::to_string(Mean(outcome.rounds, Contributors)));
  RecordProperty("trained", std::to_string(outcome.trained));
  RecordProperty("counted", std::to_string(outcome.contributed));
}

// Ten thousand once, for the time that it takes.
std::vector<std::tuple<uint32_t, int>> Populations() {
  std::vector<std::tuple<uint32_t, int>> populations = {{10'000, 20}};
  for (const uint32_t devices : {10U, 100U, 1'000U}) {
    for (const int lost : {0, 20, 40}) populations.emplace_back(devices, lost);
  }
  return populations;
}

INSTANTIATE_TEST_SUITE_P(Populations, Defaults, testing::ValuesIn(Populations()),
                         [](const testing::TestParamInfo<std::tuple<uint32_t, int>>& shape) {
                           return std::to_string(std::get<0>(shape.param)) + "_devices_" +
                                  std::to_string(std::get<1>(shape.param)) + "_percent_lost";
                         });

TEST(DefaultsOfSecAgg, CompleteRounds) {
  const Habits habits{.devices = 12, .dropout = 0.2};
  Population population(DefaultTask(Protocol::kSecAgg), habits);
  ExpectsRoundsToComplete(population.Run(12), habits);
}

TEST(Adapting, IsFasterThanTheTasksDeadlinesAndWastesLittle) {
  const Habits habits{.devices = 100, .dropout = 0.2, .slow_every = 33};
  TaskSpec fixed_task = DefaultTask(Protocol::kPlain);
  fixed_task.adapt = false;
  Population adapting(DefaultTask(Protocol::kPlain), habits);
  Population waiting(fixed_task, habits);
  const Outcome fitted = adapting.Run(24);
  const Outcome fixed = waiting.Run(24);
  EXPECT_LT(fitted.seconds, 0.5 * fixed.seconds);
  EXPECT_GT(Mean(fitted.rounds, Contributors), 0.93 * Mean(fixed.rounds, Contributors));
  EXPECT_LT(fitted.trained - fitted.contributed, fitted.trained / 10);
}

TEST(Adapting, GetsTheContributionsThatTheTaskWants) {
  for (const double dropout : {0.0, 0.2, 0.4}) {
    TaskSpec task = DefaultTask(Protocol::kPlain);
    task.cohort.target = 20;
    const Habits habits{.devices = 100, .dropout = dropout};
    Population adapting(task, habits);
    const Outcome outcome = adapting.Run(30);
    const std::span<const RoundReport> settled = std::span(outcome.rounds).subspan(5);
    const auto enough = std::count_if(settled.begin(), settled.end(), [](const RoundReport& round) {
      return round.contributors >= 20;
    });
    EXPECT_GE(enough, 20) << "of 25, at " << dropout;
    EXPECT_LE(Mean(settled, Contributors), 26) << "at " << dropout;
  }
}

// Three of a hundred devices always take a minute and a half.
TEST(Adapting, CountsWhoIsAlwaysSlowFromTimeToTime) {
  const Habits habits{.devices = 100, .dropout = 0.1, .slow_every = 33};
  Population population(DefaultTask(Protocol::kPlain), habits);
  const Outcome outcome = population.Run(40);
  size_t short_rounds = 0;
  for (const RoundTempo& tempo : outcome.tempos) {
    short_rounds += tempo.fitted && tempo.deadlines_ms[0] < 90'000 ? 1U : 0U;
  }
  EXPECT_GE(short_rounds, 20U) << "otherwise this shows nothing";
  for (const size_t slow : {0U, 33U, 66U}) {
    EXPECT_GE(outcome.contributed_of.at(slow), 2U) << slow;
    EXPECT_GE(outcome.invited_of.at(slow), 8U) << slow;
  }
}

TEST(Gathering, WaitsForNobodyWhenAllWhoAreConnectedWait) {
  const Habits habits{.devices = 10};
  Population population(DefaultTask(Protocol::kPlain), habits);
  const Outcome outcome = population.Run(6);
  EXPECT_GE(outcome.tempos.front().gathered_ms, 5'000U) << "others may still arrive";
  for (size_t i = 1; i < outcome.tempos.size(); ++i) {
    EXPECT_LE(outcome.tempos[i].gathered_ms, 200U) << "round " << i + 1;
  }
}

}  // namespace
}  // namespace chorus::coordinator
