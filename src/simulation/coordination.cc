#include "simulation/coordination.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <utility>

#include "base/clock.h"
#include "base/codec.h"
#include "base/ensure.h"
#include "base/limits.h"
#include "client/training.h"
#include "coordinator/round.h"
#include "crypto/crypto.h"

namespace chorus::simulation {
namespace {

// As the coordinator's core does after rounds that aborted in a row.
constexpr Time kPauseFirst{1'000};
constexpr Time kPauseMax{30'000};
// How often and how long enough clients are waited for; every pattern of availability has shown
// itself by then.
constexpr Time kLookAgain{60'000};
constexpr Time kPatienceMax{int64_t{7} * 24 * 3'600 * 1'000};
// Answers that are computed together and wait for their turn: few enough to stay in the caches of
// the cores that compute them.
constexpr uint64_t kWaitingBytesEach = uint64_t{2} << 20U;
constexpr uint64_t kWaitingMax = 4'096;
constexpr std::string_view kTrainingStep = "training";

Time Milliseconds(double seconds) {
  return Time(static_cast<Time::rep>(std::min(std::ceil(seconds * 1e3), 1e15)));
}

std::unique_ptr<Rng> NonceRng(uint64_t seed) {
  const Bytes number = std::move(Writer().U64(seed)).Take();
  return crypto::NewSeededRng(crypto::LabeledHash("CHORUS1/simulation-nonces", {number}));
}

}  // namespace

Coordination::Coordination(CoordinationOptions options)
    : options_(std::move(options)),
      task_(options_.simulation->task),
      verifier_(NewFleetVerifier()),
      rng_(NonceRng(options_.simulation->seed)),
      seen_keys_(limits::kSeenKeysMax),
      fleet_(*options_.simulation, options_.population->train_of.size()),
      state_(options_.first),
      sums_(task_) {}

Result<SimulatedRound> Coordination::RunRound() {
  const double start = ThreadCpuSeconds();
  SimulatedRound round;
  current_ = &round;
  clients_seconds_ = computing_seconds_ = 0;
  CHORUS_TRY(Begin(round));
  CHORUS_TRY(Follow(round));
  CHORUS_TRY(Conclude(round));
  round.cost.clients_seconds = clients_seconds_;
  round.cost.coordinator_seconds = ThreadCpuSeconds() - start - computing_seconds_;
  current_ = nullptr;
  return round;
}

// --- the beginning ---

// Cohorts of earlier rounds that go on take the places of new ones.
CohortSpec Coordination::FreeCohorts() const {
  CohortSpec cohort = task_.cohort;
  for (const std::unique_ptr<Run>& run : runs_) {
    cohort.parallel -= std::min(cohort.parallel, run->cohorts->going_on());
  }
  return cohort;
}

// Those that a round begins with, as the coordinator's core would take them: as many as all cohorts
// want, or at least the minimum once deadlines.check_in has passed.
Result<std::vector<uint32_t>> Coordination::GatherClients() {
  const uint64_t wanted = coordinator::ClientsWanted(FreeCohorts());
  if (wanted == 0) return std::vector<uint32_t>{};
  const auto free = [this](uint32_t client) {
    return std::none_of(runs_.begin(), runs_.end(), [client](const std::unique_ptr<Run>& run) {
      return run->cohorts->Has(client);
    });
  };
  const Time patience = now_ + kPatienceMax;
  for (; now_ < patience; now_ += kLookAgain) {
    std::vector<uint32_t> clients = fleet_.Select(wanted, rounds_begun_ + 1, seconds(), free);
    if (clients.size() >= wanted) return clients;
    if (!runs_.empty()) {
      // Cohorts that go on do not wait for others to begin; their clients will be free again.
      if (clients.size() < task_.cohort.minimum) clients.clear();
      return clients;
    }
    if (clients.size() < task_.cohort.minimum) continue;
    now_ += task_.deadlines.check_in;
    clients = fleet_.Select(wanted, rounds_begun_ + 1, seconds(), free);
    if (clients.size() >= task_.cohort.minimum) return clients;
  }
  return FailedPrecondition("never were " + std::to_string(task_.cohort.minimum) +
                            " clients, cohort.minimum, available at once; simulate more clients, "
                            "or have them available more often");
}

Status Coordination::Begin(SimulatedRound& round) {
  CHORUS_TRY_ASSIGN(std::vector<uint32_t> clients, GatherClients());
  const CohortSpec free = FreeCohorts();
  std::vector<uint32_t> sizes =
      clients.empty() ? std::vector<uint32_t>() : coordinator::CohortSizes(free, clients.size());
  clients.resize(std::accumulate(sizes.begin(), sizes.end(), size_t{0}));
  clock_.Set(now_);
  ++rounds_begun_;
  round.began_seconds = seconds();
  round.report.round = rounds_begun_;
  round.report.invited = static_cast<uint32_t>(clients.size());
  round.report.cohorts = static_cast<uint32_t>(sizes.size());
  if (clients.empty()) return OkStatus();
  CHORUS_TRY_ASSIGN(aggregation::SessionParams params,
                    coordinator::SessionParamsFor({.task = task_,
                                                   .task_bytes = options_.task_bytes,
                                                   .weights = state_.published,
                                                   .round = rounds_begun_}));
  params.coordinator_id = crypto::Ed25519Public(options_.signing_seed);
  round.report.model = params.model_hash;
  CHORUS_TRY(options_.workers->BeginRound(rounds_begun_, state_.published, params.model_hash));
  auto run = std::make_unique<Run>();
  run->round = rounds_begun_;
  run->version = state_.version;
  run->step.resize(sizes.size());
  run->step_began.assign(sizes.size(), now_);
  run->cohorts = std::make_unique<coordinator::Cohorts>(
      coordinator::CohortsOptions{.all = {.task = &task_,
                                          .params = params,
                                          .signing_seed = options_.signing_seed,
                                          .verifier = verifier_.get(),
                                          .clock = &clock_,
                                          .seen_keys = &seen_keys_,
                                          .executor = options_.executor,
                                          .invited = {clients.begin(), clients.end()}},
                                  .sizes = sizes,
                                  .rng = rng_.get(),
                                  .version = state_.version},
      now_);
  runs_.push_back(std::move(run));
  Invite(*runs_.back(), sizes, clients);
  return OkStatus();
}

void Coordination::Invite(Run& run, std::span<const uint32_t> sizes,
                          std::span<const uint32_t> clients) {
  // What a virtual client's record of pre-keys takes: its evidence is short.
  const uint64_t ready_bytes =
      task_.protocol == Protocol::kSecAgg
          ? aggregation::kPreKeyRecordBytesMax - limits::kEvidenceBytesMax + EvidenceOf(0).size()
          : 0;
  for (uint32_t cohort = 0; cohort < sizes.size(); ++cohort) {
    for (const uint32_t client : clients.first(sizes[cohort])) {
      run.cohort_of[client] = cohort;
      Ask(run, cohort, {.client = client, .body = {}, .answer_bytes_max = ready_bytes});
    }
    clients = clients.subspan(sizes[cohort]);
  }
}

uint64_t Coordination::ExamplesVisited(uint32_t client) const {
  const TrainingSpec& training = task_.training;
  const uint64_t all = options_.population->train_of[client].count;
  const uint64_t kept = all - all * training.held_back_percent / 100;
  if (!task_.queries.empty()) return all;
  if (training.steps == 0) return kept * training.epochs;
  return std::min<uint64_t>(kept, training.batch_size) * training.steps;
}

SimulatedStep& Coordination::StepOf(size_t step) {
  std::vector<SimulatedStep>& steps = current_->steps;
  const auto names = aggregation::StepNames(task_.protocol, task_.secagg.graph);
  while (steps.size() <= step) {
    // Named before it is put there: the right side of an assignment is evaluated first.
    const size_t next = steps.size();
    steps.emplace_back().name = next == 0 ? kTrainingStep : names[next - 1];
  }
  return steps[step];
}

// Decides by the fleet what becomes of the question, and when its answer arrives.
void Coordination::Ask(Run& run, uint32_t cohort, Question question) {
  const size_t step = run.step[cohort];
  const bool invitation = step == 0;
  const uint64_t bytes_down =
      invitation ? options_.task_bytes.size() + state_.published.size() * sizeof(float)
                 : question.body.size();
  const Passage passage =
      fleet_.PassageOf({.client = question.client,
                        .round = run.round,
                        .step = step,
                        .bytes_down = bytes_down,
                        .bytes_up = question.answer_bytes_max,
                        .examples = invitation ? ExamplesVisited(question.client) : 0},
                       seconds());
  StepOf(step).bytes_down += bytes_down;
  current_->report.bytes_down += bytes_down;
  Asked asked{.run = &run,
              .cohort = cohort,
              .step = step,
              .fate = passage.fate,
              .arrives = now_ + Milliseconds(passage.seconds),
              .sequence = ++sequence_,
              .answer_bytes_max = question.answer_bytes_max,
              .question = std::move(question.body),
              .done = {}};
  if (asked.fate == Fate::kAnswers) {
    arrivals_.emplace(asked.arrives, asked.sequence, question.client);
  }
  asked_[question.client] = std::move(asked);
}

// --- the course of a round ---

Time Coordination::NextTick() const {
  Time due = Time::max();
  for (const std::unique_ptr<Run>& run : runs_) due = std::min(due, run->cohorts->NextTick());
  return due;
}

// Lets virtual time pass from one event to the next until the round is over.
Status Coordination::Follow(SimulatedRound& round) {
  while (true) {
    for (const std::unique_ptr<Run>& run : runs_) {
      run->cohorts->Advance(now_, &sums_);
      Deliver(*run);
    }
    CHORUS_TRY(RetireRuns());
    if (coordinator::IsOver(task_, {.sums = sums_.count(), .all_ended = runs_.empty()})) break;
    if (options_.cancel->requested()) return Cancelled("the simulation was cancelled");
    const Time tick = NextTick();
    // Advance has done all that is due by now, so that time goes on, or the loop would not end.
    CHORUS_ENSURE(tick > now_);
    // What arrives at the very end of a step is heard.
    if (arrivals_.empty() || std::get<Time>(*arrivals_.begin()) > tick) {
      CHORUS_ENSURE(tick != Time::max());
      now_ = tick;
      clock_.Set(now_);
      continue;
    }
    const Arrival arrival = *arrivals_.begin();
    now_ = std::max(now_, std::get<Time>(arrival));
    clock_.Set(now_);
    CHORUS_TRY(Hear(arrival));
  }
  round.ended_seconds = seconds();
  return OkStatus();
}

// Training under plain makes no answer: the update comes with the next.
bool Coordination::NeedsComputing(const Asked& asked) const {
  return !asked.computed && (asked.step > 0 || task_.protocol != Protocol::kPlain);
}

// Has the next answers computed, in the order in which they arrive: together as many as the
// processes' threads have a use for.
Status Coordination::Compute() {
  const uint64_t each = asked_.at(std::get<uint32_t>(*arrivals_.begin())).answer_bytes_max + 1;
  const uint64_t threads = options_.workers->threads();
  // One thread has the least to move when it hears an answer at once.
  const uint64_t together =
      threads == 1 ? 1 : std::clamp(threads * kWaitingBytesEach / each, 2 * threads, kWaitingMax);
  std::vector<Job> jobs;
  for (const auto& [at, sequence, client] : arrivals_) {
    if (jobs.size() == together) break;
    Asked& asked = asked_.at(client);
    if (!NeedsComputing(asked)) continue;
    jobs.push_back({.client = client,
                    .round = asked.run->round,
                    .trains = asked.step == 0,
                    .question = std::move(asked.question)});
  }
  const double start = ThreadCpuSeconds();
  CHORUS_TRY_ASSIGN(std::vector<Done> done, options_.workers->Do(jobs, now_));
  computing_seconds_ += ThreadCpuSeconds() - start;
  for (size_t i = 0; i < jobs.size(); ++i) {
    clients_seconds_ += done[i].cpu_seconds;
    Asked& asked = asked_.at(jobs[i].client);
    asked.done = std::move(done[i]);
    asked.computed = true;
  }
  return OkStatus();
}

Status Coordination::Hear(const Arrival& arrival) {
  const uint32_t client = std::get<uint32_t>(arrival);
  if (NeedsComputing(asked_.at(client))) CHORUS_TRY(Compute());
  arrivals_.erase(arrival);
  const auto found = asked_.find(client);
  const Asked asked = std::move(found->second);
  asked_.erase(found);
  SimulatedStep& step = StepOf(asked.step);
  coordinator::Cohorts& cohorts = *asked.run->cohorts;
  if (!asked.done.status.ok()) {
    if (asked.done.status.code() == Code::kCancelled) return asked.done.status;
    ++step.failed;
    cohorts.Leave(client, asked.done.status.code() == Code::kPermissionDenied
                              ? coordinator::Round::Departure::kDeclined
                              : coordinator::Round::Departure::kFailed);
    return OkStatus();
  }
  step.bytes_up += asked.done.answer.size();
  current_->report.bytes_up += asked.done.answer.size();
  const BytesView answer = asked.done.answer.Reveal();
  if (!cohorts.Hear(client, {&answer, 1}).ok()) ++step.failed;
  return OkStatus();
}

// Passes on what the cohorts of `run` have to say.
void Coordination::Deliver(Run& run) {
  const coordinator::RoundNews news = run.cohorts->TakeNews();
  for (const coordinator::ClosedStep& closed : news.closed) {
    const uint32_t cohort = closed.cohort - 1;
    SimulatedStep& step = StepOf(run.step[cohort]++);
    step.asked += closed.asked;
    step.answered += closed.answered;
    const Time took = now_ - std::exchange(run.step_began[cohort], now_);
    step.seconds = std::max(step.seconds, static_cast<double>(took.count()) / 1e3);
  }
  for (const PartyId party : news.lost) Lose(static_cast<uint32_t>(party));
  for (const chorus::Question& question : news.questions) {
    const auto client = static_cast<uint32_t>(question.to);
    Result<Bytes> body = run.cohorts->Body(question.to);
    if (!body.ok()) {
      run.cohorts->Leave(question.to, coordinator::Round::Departure::kFailed);
      continue;
    }
    Ask(run, run.cohort_of.at(client),
        {.client = client,
         .body = *std::move(body),
         .answer_bytes_max = question.answer_bytes_max});
  }
}

// The round went on without this client.
void Coordination::Lose(uint32_t client) {
  const auto found = asked_.find(client);
  if (found == asked_.end()) return;
  Asked& asked = found->second;
  SimulatedStep& step = StepOf(asked.step);
  switch (asked.fate) {
    case Fate::kAnswers:
      ++step.late;
      arrivals_.erase({asked.arrives, asked.sequence, client});
      break;
    case Fate::kLeaves:
      ++step.left;
      break;
    case Fate::kQuestionLost:
    case Fate::kAnswerLost:
      ++step.lost;
      break;
  }
  const bool answered = asked.fate == Fate::kAnswers || asked.fate == Fate::kAnswerLost;
  if (answered && !asked.computed && asked.step > 0) {
    owed_.push_back(
        {.client = client, .round = asked.run->round, .question = std::move(asked.question)});
  }
  asked_.erase(found);
}

// Lets cohorts go that have ended, with all that is held for their clients.
Status Coordination::RetireRuns() {
  for (const std::unique_ptr<Run>& run : runs_) {
    if (task_.server.buffered_sums > 0 &&
        state_.version - run->version > task_.server.staleness_max) {
      run->cohorts->Abandon(
          Status(Code::kDeadlineExceeded, "the model moved on too far while the cohort trained"));
    }
    for (const coordinator::Dismissed& dismissed : run->cohorts->Dismiss()) {
      const auto client = static_cast<uint32_t>(dismissed.party);
      Lose(client);
      if (dismissed.verdict.ok() && dismissed.contributed) {
        current_->contributors.push_back(client);
      }
    }
  }
  CHORUS_TRY(PayOwed());
  for (const std::unique_ptr<Run>& run : runs_) {
    if (!run->cohorts->done()) continue;
    if (sums_.count() == 0) why_none_ = run->cohorts->WhyNone();
    current_->report.refused += run->cohorts->declined();
    CHORUS_TRY(options_.workers->EndRound(run->round));
  }
  std::erase_if(runs_, [](const std::unique_ptr<Run>& run) { return run->cohorts->done(); });
  return OkStatus();
}

// Of answers that nobody hears, those are computed too that change what their devices keep: an
// update that has left is behind a device even if it came too late.
Status Coordination::PayOwed() {
  if (!client::KeepsRecord(task_)) owed_.clear();
  if (owed_.empty()) return OkStatus();
  const std::vector<Job> owed = std::exchange(owed_, {});
  const double start = ThreadCpuSeconds();
  CHORUS_TRY_ASSIGN(const std::vector<Done> done, options_.workers->Do(owed, now_));
  computing_seconds_ += ThreadCpuSeconds() - start;
  for (const Done& one : done) clients_seconds_ += one.cpu_seconds;
  return OkStatus();
}

// --- the end ---

Status Coordination::Conclude(SimulatedRound& round) {
  RoundReport& report = round.report;
  std::ranges::sort(round.contributors);
  report.duration_ms =
      static_cast<uint64_t>(std::llround((round.ended_seconds - round.began_seconds) * 1e3));
  for (const SimulatedStep& step : round.steps) {
    report.dropouts.push_back(step.asked - std::min(step.asked, step.answered));
  }
  Result<coordinator::NextModel> next =
      sums_.count() == 0 ? Result<coordinator::NextModel>(why_none_)
                         : coordinator::ComputeNext(task_, state_, sums_, report);
  // Sums that are too few for a buffered round wait for the next.
  if (sums_.count() >= task_.server.buffered_sums) sums_.Clear();
  if (next.ok()) {
    report.state = RoundState::kCommitted;
    state_ = std::move(next->state);
    round.cells = std::move(next->cells);
    aborts_in_a_row_ = 0;
    return OkStatus();
  }
  report.state = RoundState::kAborted;
  report.code = next.status().code();
  report.reason = next.status().message();
  round.contributors.clear();
  // A buffered round whose sums wait for the next has come to nothing bad, and costs no pause.
  if (sums_.count() > 0) {
    aborts_in_a_row_ = 0;
    return OkStatus();
  }
  now_ += std::min(kPauseMax, kPauseFirst * (1U << std::min(aborts_in_a_row_, 16U)));
  ++aborts_in_a_row_;
  return OkStatus();
}

}  // namespace chorus::simulation
