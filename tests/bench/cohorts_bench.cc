// 10,000 clients in one round: ten parallel cohorts of a thousand, every client masking for real,
// through the coordinator's core over the in-memory transport. One in twenty is gone before it
// uploads. Prints what the round came to and what it cost the coordinator; fails unless the model
// afterwards is, bit for bit, that of the plain sum over exactly those who uploaded.
#include <cstdio>
#include <thread>

#include "base/parallel.h"
#include "bench.h"
#include "coordinator_world.h"
#include "learning/learning.h"
#include "memory.h"

namespace chorus::coordinator {
namespace {

constexpr uint32_t kCohorts = 10;
constexpr uint32_t kCohort = 1'000;
constexpr uint32_t kClients = kCohorts * kCohort;
constexpr uint32_t kDim = 1'000;
constexpr size_t kBatch = 256;  // answers that are thought of at the same time

TaskSpec BenchTask() {
  TaskSpec task = SecAggTask();
  task.model.inputs = kDim - 1;
  task.secagg = {.graph = SharingGraph::kSelfSelected,
                 .gamma_ppm = 50'000,
                 .delta_ppm = 100'000,
                 .honest_min = 2};
  task.cohort = {.minimum = 850,
                 .target = kCohort,
                 .maximum = kCohort,
                 .over_selection_percent = 0,
                 .parallel = kCohorts};
  task.deadlines.hedge = Time{0};  // so that all cohorts stop waiting for uploads together
  task.rounds = 1;
  return task;
}

// What the coordinator spends: CPU of its calls, and memory that it allocated in them.
class CountedCore final : public Core {
 public:
  explicit CountedCore(std::unique_ptr<Core> core) : core_(std::move(core)) {}

  void Handle(std::string_view method, Body request, Reply reply) override {
    Count([&] { core_->Handle(method, std::move(request), std::move(reply)); });
  }
  std::shared_ptr<Admission> admission() override {  // NOLINT(tidy): core.h.
    return core_->admission();
  }
  void Admit(Vetted vetted, Reply reply) override {
    Count([&] { core_->Admit(std::move(vetted), std::move(reply)); });
  }
  void Tick() override {
    Count([&] { core_->Tick(); });
  }
  Time NextTick() const override { return core_->NextTick(); }
  std::vector<CoordinatorEvent> TakeEvents() override { return core_->TakeEvents(); }
  Weights weights() const override { return core_->weights(); }
  std::vector<int64_t> answers() const override { return core_->answers(); }

  double seconds() const { return seconds_; }
  size_t peak_bytes() const { return account_.peak; }

 private:
  template <typename Work>
  void Count(const Work& work) {
    const bench::OnAccount counted(account_);
    seconds_ += bench::Seconds(bench::CpuSeconds, work);
  }

  std::unique_ptr<Core> core_;
  bench::Account& account_ = bench::OpenAccount();
  double seconds_ = 0;
};

// Client i's update: exact in the encoding, so that both sides encode the same integers.
std::vector<float> InputOf(size_t i) {
  std::vector<float> update(kDim);
  update[i % kDim] = i % 2 == 0 ? 0.5F : -0.25F;
  update[i * 7 % kDim] += 0.125F;
  return update;
}

bool Drops(size_t i) { return i % 20 == 7; }

// The model after a plain sum over those who upload.
Weights ExpectedWeights(const World& world) {
  const TaskSpec& task = world.task;
  const math::FixedPoint encoding = *math::FixedPointFor(kDim, task.clip, task.encoding, kClients);
  Sum sum{math::ZeroVector(encoding.vector_dim(), encoding.bits), 0};
  for (size_t i = 0; i < kClients; ++i) {
    if (Drops(i)) continue;
    const std::vector<float> update = InputOf(i);
    const uint64_t examples = ExamplesOf(i);
    const math::Contribution contribution{
        .update = update, .examples = examples, .evaluated = examples, .accuracy = 0.5, .loss = 2};
    const Sum one{*math::Encode(encoding, contribution, *world.rng), 1};
    if (!math::AddSum(encoding, sum, one, encoding.bits).ok()) return {};
  }
  Weights weights = *world.initial;
  learning::ApplyMean(weights, math::Decode(encoding, sum)->update, task.server_learning_rate);
  return weights;
}

// One step of the protocol: everybody of `who` answers its question, a batch at a time.
bool AnswerAll(World& world, const Players& players, const std::vector<size_t>& who,
               ThreadPool& pool) {
  for (size_t first = 0; first < who.size(); first += kBatch) {
    const size_t count = std::min(kBatch, who.size() - first);
    std::vector<Bytes> questions(count);
    std::vector<Bytes> answers(count);
    for (size_t i = 0; i < count; ++i) {
      Player& player = *players[who[first + i]];
      const auto question = player.Take<wire::Question>();
      if (!question) return false;
      questions[i] = player.Body(*question);
    }
    pool.ParallelFor(count, [&](size_t i) {
      Result<Bytes> answer = players[who[first + i]]->contributor->Answer(questions[i]);
      if (answer.ok()) answers[i] = *std::move(answer);
    });
    for (size_t i = 0; i < count; ++i) {
      if (!players[who[first + i]]->Answer(answers[i]).ok()) return false;
    }
  }
  world.Settle();
  return true;
}

Players CheckedInAndReady(World& world) {
  Players players;
  for (uint64_t serial = 1; serial <= kClients; ++serial) {
    players.push_back(std::make_unique<Player>(world, serial));
    players.back()->own_rng =
        crypto::NewSeededRng(SeedOf("keys" + std::to_string(serial)).Reveal());
    players.back()->CheckIn();
  }
  for (size_t i = 0; i < players.size(); ++i) players[i]->Ready(InputOf(i), ExamplesOf(i));
  return players;
}

int Run() {
  World world(BenchTask());
  world.initial = Weights(kDim, 1.0F);
  world.Start();
  if (world.core == nullptr) return 1;
  auto counted = std::make_unique<CountedCore>(std::move(world.core));
  const CountedCore& core = *counted;
  world.core = std::move(counted);
  ThreadPool pool(std::max(1U, std::thread::hardware_concurrency()));

  const double began = bench::WallSeconds();
  const Players players = CheckedInAndReady(world);
  std::vector<size_t> who(players.size());
  for (size_t i = 0; i < who.size(); ++i) who[i] = i;
  for (const aggregation::Step step :
       aggregation::Steps(Protocol::kSecAgg, SharingGraph::kSelfSelected)) {
    if (step == aggregation::Step::kInput) std::erase_if(who, Drops);
    if (!AnswerAll(world, players, who, pool)) return 1;
    if (step == aggregation::Step::kInput) world.Advance(world.task.deadlines.upload);
  }
  const double wall = bench::WallSeconds() - began;

  const RoundReport& report = world.store.Round(1);
  const bool exact = world.core->weights() == ExpectedWeights(world);
  const double megabytes = static_cast<double>(core.peak_bytes()) / 1e6;
  std::printf("cohorts: sums of %u of %u, %u contributors of %u invited, the model is %s\n",
              report.cohorts_committed, report.cohorts, report.contributors, report.invited,
              exact ? "exact" : "WRONG");
  std::printf("coordinator: %.1f s of CPU, %.1f MB at the peak, %.1f kB a client\n", core.seconds(),
              megabytes, megabytes * 1e3 / kClients);
  std::printf("a client: %.1f kB up, %.1f kB down\n",
              static_cast<double>(report.bytes_up) / kClients / 1e3,
              static_cast<double>(report.bytes_down) / kClients / 1e3);
  std::printf("all of it, clients too: %.0f s of wall\n", wall);
  const bool complete =
      report.cohorts_committed == kCohorts && report.contributors == who.size() && exact;
  return complete ? 0 : 1;
}

}  // namespace
}  // namespace chorus::coordinator

int main() { return chorus::coordinator::Run(); }
