#include "coordinator/round.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <span>
#include <string>

#include "base/codec.h"
#include "base/ensure.h"
#include "base/limits.h"
#include "chorus/coordinator.h"
#include "crypto/crypto.h"
#include "learning/learning.h"
#include "math/math.h"
#include "privacy/privacy.h"
#include "wire/wire.h"

namespace chorus {
namespace {

constexpr uint32_t kMillion = 1'000'000;
constexpr size_t kNameBytesMax = 64;

// `status` with the task file's field in front, for checks that do not know where their input
// stands.
Status InField(std::string_view field, const Status& status) {
  if (status.ok()) return status;
  return {status.code(), std::string(field) + ": " + status.message()};
}

Status CheckName(std::string_view name) {
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
  };
  if (name.empty() || name.size() > kNameBytesMax ||
      !std::all_of(name.begin(), name.end(), allowed)) {
    return InvalidArgument("name must be 1 to " + std::to_string(kNameBytesMax) +
                           " of the characters a-z, 0-9, _ and -");
  }
  return OkStatus();
}

Status CheckCohort(const CohortSpec& cohort) {
  if (cohort.minimum == 0) return InvalidArgument("cohort.minimum must be at least 1");
  if (cohort.target < cohort.minimum) {
    return InvalidArgument("cohort.target must be at least cohort.minimum");
  }
  if (cohort.maximum < cohort.target) {
    return InvalidArgument("cohort.maximum must be at least cohort.target");
  }
  if (cohort.maximum > limits::kCohortMax) {
    return InvalidArgument("cohort.maximum must be at most " + std::to_string(limits::kCohortMax));
  }
  if (cohort.parallel == 0 || cohort.parallel > limits::kParallelCohortsMax) {
    return InvalidArgument("cohort.parallel must be between 1 and " +
                           std::to_string(limits::kParallelCohortsMax));
  }
  if (uint64_t{cohort.parallel} * cohort.target > limits::kSessionsMax) {
    return InvalidArgument("cohort.parallel * cohort.target must be at most " +
                           std::to_string(limits::kSessionsMax));
  }
  return OkStatus();
}

// How large a cohort each graph serves [specification 3.6].
Status CheckGraphSize(SharingGraph graph, const CohortSpec& cohort) {
  if (graph > SharingGraph::kHarary) {
    return InvalidArgument("secagg.graph is not one that this version knows");
  }
  constexpr uint32_t kSelfSelectedMin = 160;
  constexpr uint32_t kHararyMin = 32;
  if (graph == SharingGraph::kComplete && cohort.maximum > limits::kCompleteCohortMax) {
    return InvalidArgument("cohort.maximum must be at most " +
                           std::to_string(limits::kCompleteCohortMax) +
                           " with a complete graph; set secagg.graph");
  }
  const uint32_t minimum = graph == SharingGraph::kSelfSelected ? kSelfSelectedMin
                           : graph == SharingGraph::kHarary     ? kHararyMin
                                                                : 0;
  if (cohort.minimum < minimum) {
    return InvalidArgument("cohort.minimum must be at least " + std::to_string(minimum) +
                           " with this secagg.graph");
  }
  return OkStatus();
}

// Any number of clients between minimum and maximum may turn out ready, and rounding makes larger
// cohorts infeasible where smaller ones are not; hence every size that a roster can have is
// checked.
Status CheckSecAgg(const SecAggSpec& secagg, const CohortSpec& cohort) {
  if (secagg.gamma_ppm >= kMillion)
    return InvalidArgument("secagg.gamma_ppm must be below 1000000");
  if (secagg.delta_ppm >= kMillion)
    return InvalidArgument("secagg.delta_ppm must be below 1000000");
  CHORUS_TRY(CheckGraphSize(secagg.graph, cohort));
  aggregation::SessionParams params;
  params.mode = static_cast<uint8_t>(secagg.graph);
  params.gamma_ppm = secagg.gamma_ppm;
  params.delta_ppm = secagg.delta_ppm;
  params.n_min = cohort.minimum;
  if (aggregation::RosterSize(params, cohort.maximum) == 0) {
    return InvalidArgument(
        "cohort: no roster that secagg.graph serves has between minimum and "
        "maximum clients");
  }
  for (uint32_t n = cohort.minimum; n <= cohort.maximum; ++n) {
    if (aggregation::RosterSize(params, n) != n) continue;
    const Result<aggregation::GraphParams> graph = aggregation::GraphFor(params, n);
    const std::string_view field = secagg.graph != SharingGraph::kComplete ? "secagg"
                                   : n == cohort.minimum                   ? "cohort.minimum"
                                                                           : "cohort.maximum";
    if (!graph.ok()) return InField(field, graph.status());
    if (graph->honest < secagg.honest_min) {
      return InvalidArgument("secagg.honest_min: a cohort of " + std::to_string(n) +
                             " hides an update among " + std::to_string(graph->honest) +
                             " honest clients only; raise cohort.minimum or lower "
                             "secagg.gamma_ppm or secagg.honest_min");
    }
  }
  return OkStatus();
}

Status CheckDeadlines(const DeadlineSpec& deadlines) {
  const std::pair<std::string_view, Time> steps[] = {
      {"check_in", deadlines.check_in}, {"train", deadlines.train},
      {"choose", deadlines.choose},     {"share", deadlines.share},
      {"upload", deadlines.upload},     {"consistency", deadlines.consistency},
      {"unmask", deadlines.unmask},
  };
  for (const auto& step : steps) {
    if (step.second <= Time{0} || step.second > limits::kStepDeadlineMax) {
      return InvalidArgument("deadlines." + std::string(step.first) +
                             " must be above 0 and at most 24 hours");
    }
  }
  if (deadlines.hedge < Time{0} || deadlines.hedge > limits::kStepDeadlineMax) {
    return InvalidArgument("deadlines.hedge must be between 0 and 24 hours");
  }
  return OkStatus();
}

}  // namespace

Status ValidateTask(const TaskSpec& task) {
  CHORUS_TRY(CheckName(task.name));
  CHORUS_TRY(InField("model", learning::ValidateModel(task.model)));
  CHORUS_TRY(InField("training", learning::ValidateTraining(task.training)));
  CHORUS_TRY(CheckCohort(task.cohort));
  const uint64_t dim = learning::ParameterCount(task.model);
  CHORUS_TRY_ASSIGN(const math::FixedPoint encoding,
                    math::FixedPointFor(dim, task.clip, task.encoding, task.cohort.maximum));
  CHORUS_TRY(InField("encoding.bound",
                     math::CheckNoWrap(task.cohort.maximum, task.encoding.bound, encoding.bits)));
  CHORUS_TRY(InField(
      "cohort.parallel",
      math::FixedPointFor(dim, task.clip, task.encoding, task.cohort.maximum * task.cohort.parallel)
          .status()));
  if (task.protocol == Protocol::kSecAgg) {
    CHORUS_TRY(CheckSecAgg(task.secagg, task.cohort));
  } else if (task.protocol != Protocol::kPlain) {
    return InvalidArgument("protocol is not one that this version knows");
  }
  CHORUS_TRY(CheckDeadlines(task.deadlines));
  if (task.rounds == 0 || task.rounds > limits::kRoundsMax) {
    return InvalidArgument("rounds must be between 1 and " + std::to_string(limits::kRoundsMax));
  }
  if (!std::isfinite(task.server_learning_rate) || task.server_learning_rate <= 0) {
    return InvalidArgument("server_learning_rate must be finite and above 0");
  }
  return OkStatus();
}

}  // namespace chorus

namespace chorus::coordinator {
namespace {

// The slowest link that is waited for: an upload of n bytes may take n / 256 KiB seconds
// [specification 3.8].
constexpr uint64_t kUploadBytesPerSecond = uint64_t{256} << 10U;
constexpr uint64_t kHedgePercent = 95;
constexpr std::string_view kTrainingStep = "training";
constexpr int64_t kSecondsADay = 24 * 3'600;

uint32_t Milliseconds(Time time) { return static_cast<uint32_t>(time.count()); }

std::span<const aggregation::Step> StepsOf(const TaskSpec& task) {
  return aggregation::Steps(task.protocol, task.secagg.graph);
}

// How long a step of the protocol may take when its answers are at most so large.
Time StepDuration(const TaskSpec& task, aggregation::Step step, uint64_t answer_bytes_max) {
  const DeadlineSpec& deadlines = task.deadlines;
  const Time transfer{static_cast<Time::rep>(answer_bytes_max / kUploadBytesPerSecond * 1'000 +
                                             answer_bytes_max % kUploadBytesPerSecond * 1'000 /
                                                 kUploadBytesPerSecond)};
  switch (step) {
    case aggregation::Step::kKeys:
    case aggregation::Step::kNeighbours:
      return deadlines.choose;
    case aggregation::Step::kShares:
      return deadlines.share;
    case aggregation::Step::kInput:
      return std::max(deadlines.upload, transfer);
    case aggregation::Step::kAcks:
      return deadlines.consistency;
    case aggregation::Step::kUnmask:
      break;
  }
  return deadlines.unmask;
}

static_assert(sizeof(float) == 4 && std::endian::native == std::endian::little,
              "weights are served as the machine holds them");

// Rounds that were open when the last coordinator died are over: their half-states died with it.
Status CloseOpenRounds(Transaction& transaction, const TaskRecord& record) {
  uint64_t first = 1;
  while (first <= record.rounds_begun) {
    CHORUS_TRY_ASSIGN(std::vector<RoundReport> rounds,
                      transaction.Rounds(record.id, first, limits::kStatusRoundsMax));
    if (rounds.empty()) break;
    for (RoundReport& round : rounds) {
      if (round.state != RoundState::kOpen) continue;
      round.state = RoundState::kAborted;
      round.code = Code::kAborted;
      round.reason = "the coordinator restarted";
      CHORUS_TRY(transaction.PutRound(record.id, round));
    }
    first = rounds.back().round + 1;
  }
  return OkStatus();
}

// Fills `state` with the stored task of the same name, or stores it as it stands.
Status LoadOrCreate(Transaction& transaction, TaskState& state) {
  CHORUS_TRY_ASSIGN(std::optional<TaskRecord> found, transaction.FindTask(state.record.id));
  if (!found) {
    CHORUS_TRY(transaction.PutModel(state.record.model, BytesOf(state.weights)));
    return transaction.PutTask(state.record);
  }
  if (found->spec != state.record.spec) {
    return FailedPrecondition(
        "the store holds a task of this name with another specification; change name, or use "
        "another store");
  }
  CHORUS_TRY_ASSIGN(const Bytes model, transaction.GetModel(found->model));
  if (model.size() != state.weights.size() * sizeof(float)) {
    return DataLoss("the stored model has another size than the task's");
  }
  CHORUS_TRY(CloseOpenRounds(transaction, *found));
  std::memcpy(state.weights.data(), model.data(), model.size());
  state.record = *std::move(found);
  return OkStatus();
}

Result<Weights> FirstWeights(const CoreOptions& options, Rng& rng) {
  const uint64_t dim = learning::ParameterCount(options.task.model);
  if (options.initial_weights) {
    const Weights& given = *options.initial_weights;
    if (given.size() != dim) {
      return InvalidArgument("initial_weights has " + std::to_string(given.size()) +
                             " values, but the model has " + std::to_string(dim) + " parameters");
    }
    if (!std::all_of(given.begin(), given.end(), [](float w) { return std::isfinite(w); })) {
      return InvalidArgument("initial_weights holds a value that is not finite");
    }
    return given;
  }
  if (!options.experiment_seed) return learning::InitialWeights(options.task.model, rng);
  const Bytes seed = std::move(Writer().U64(*options.experiment_seed)).Take();
  const Digest key = crypto::LabeledHash("CHORUS1/initial-weights", {seed});
  return learning::InitialWeights(options.task.model, *crypto::NewSeededRng(key));
}

TaskId TaskIdOf(std::string_view name) {
  TaskId id{};
  const Digest hash = crypto::Sha256(ViewOf(name));
  std::copy_n(hash.begin(), id.size(), id.begin());
  return id;
}

}  // namespace

BytesView BytesOf(std::span<const float> weights) {
  return {reinterpret_cast<const uint8_t*>(weights.data()), weights.size_bytes()};
}

Result<TaskState> OpenTask(const CoreOptions& options, Store& store, Rng& rng) {
  TaskState first;
  CHORUS_TRY_ASSIGN(first.weights, FirstWeights(options, rng));
  first.record.id = TaskIdOf(options.task.name);
  first.record.name = options.task.name;
  first.record.spec = wire::EncodeTask(options.task);
  first.record.model = crypto::Sha256(BytesOf(first.weights));
  TaskState state;
  CHORUS_TRY(store.RunTransaction("open task", [&](Transaction& transaction) {
    state = first;  // anew, should a conflict make this run again
    return LoadOrCreate(transaction, state);
  }));
  return state;
}

Result<aggregation::SessionParams> SessionParamsFor(const SessionSubject& subject) {
  const TaskSpec& task = subject.task;
  CHORUS_TRY_ASSIGN(const math::FixedPoint encoding,
                    math::FixedPointFor(learning::ParameterCount(task.model), task.clip,
                                        task.encoding, task.cohort.maximum));
  aggregation::SessionParams params;
  params.protocol = task.protocol;
  params.mode = static_cast<uint8_t>(task.secagg.graph);
  params.task_id = TaskIdOf(task.name);
  params.task_hash = crypto::Sha256(subject.task_bytes);
  params.round = subject.round;
  params.attempt = 1;
  params.model_hash = aggregation::ModelHash(learning::CanonicalModel(task.model), subject.weights);
  params.vec_len = encoding.vector_dim();
  params.bits = static_cast<uint8_t>(encoding.bits);
  params.word_bytes = static_cast<uint8_t>(math::WordBytesFor(encoding.bits));
  params.bound = encoding.bound;
  params.n_min = task.cohort.minimum;
  params.n_max = task.cohort.maximum;
  params.gamma_ppm = task.secagg.gamma_ppm;
  params.delta_ppm = task.secagg.delta_ppm;
  params.a_min = task.secagg.honest_min;
  params.dp_hash = crypto::Sha256(privacy::CanonicalPrivacy(task.clip));
  params.layout_hash = crypto::Sha256(learning::CanonicalLayout(task.model));
  const DeadlineSpec& deadlines = task.deadlines;
  const Time timers[] = {deadlines.choose, deadlines.share, deadlines.upload, deadlines.consistency,
                         deadlines.unmask};
  std::transform(std::begin(timers), std::end(timers), std::begin(params.timers_ms), Milliseconds);
  return params;
}

uint64_t ReadyBytesMax(const TaskSpec& task) {
  return task.protocol == Protocol::kSecAgg ? aggregation::kPreKeyRecordBytesMax : 0;
}

Round::Round(RoundOptions options, Time now)
    : options_(std::move(options)),
      members_(options_.invited.begin(), options_.invited.end()),
      blame_(std::make_unique<std::vector<aggregation::Blame>>()),
      phase_(Training{}) {
  Step& step = std::get<Training>(phase_).step;
  step.pending = members_;
  step.asked = static_cast<uint32_t>(members_.size());
  step.deadline = now + options_.task->deadlines.train;
}

Step* Round::OpenStep() {
  if (auto* training = std::get_if<Training>(&phase_)) return &training->step;
  if (auto* aggregating = std::get_if<Aggregating>(&phase_)) return &aggregating->step;
  return nullptr;
}

const Step* Round::OpenStep() const { return const_cast<Round*>(this)->OpenStep(); }

bool Round::IsInputStep(size_t index) const {
  return StepsOf(*options_.task)[index] == aggregation::Step::kInput;
}

Status Round::Hear(PartyId from, BytesView answer) {
  Step* step = OpenStep();
  if (step == nullptr || !step->pending.contains(from)) {
    return FailedPrecondition("this step asks nothing of this client, or has closed");
  }
  if (auto* aggregating = std::get_if<Aggregating>(&phase_)) {
    if (Status heard = aggregating->aggregator->Hear(from, answer); !heard.ok()) {
      Leave(from, Departure::kFailed);
      // To a client this code means that its session is gone, which is not so.
      if (heard.code() == Code::kUnauthenticated) return PermissionDenied(heard.message());
      return heard;
    }
    if (IsInputStep(aggregating->index)) contributed_.insert(from);
  } else if (auto* training = std::get_if<Training>(&phase_)) {
    if (answer.size() > ReadyBytesMax(*options_.task)) {
      Leave(from, Departure::kFailed);
      return InvalidArgument("an invitation is answered by no bytes, or by pre-keys in SecAgg");
    }
    if (!answer.empty()) training->prekeys.push_back({from, Bytes(answer.begin(), answer.end())});
    training->ready.push_back(from);
  }
  step->pending.erase(from);
  ++step->answered;
  return OkStatus();
}

void Round::HearAgain(PartyId from, BytesView answer) {
  auto* aggregating = std::get_if<Aggregating>(&phase_);
  // Who is still to be heard would be heard for the first time.
  if (aggregating == nullptr || !members_.contains(from)) return;
  if (aggregating->step.pending.contains(from)) return;
  // The aggregator refuses it, and keeps what it proves.
  static_cast<void>(aggregating->aggregator->Hear(from, answer));
}

Result<Bytes> Round::Body(PartyId to) {
  if (auto* aggregating = std::get_if<Aggregating>(&phase_)) {
    return aggregating->aggregator->Body(to);
  }
  return NotFound("no step of the protocol is open");
}

void Round::Leave(PartyId party, Departure departure) {
  if (members_.erase(party) == 0) return;
  Step* step = OpenStep();
  const bool was_pending = step != nullptr && step->pending.erase(party) > 0;
  if (!was_pending || departure != Departure::kDeclined) return;
  ++step->declined;
  ++declined_;
}

Time Round::NextTick() const {
  const Step* step = OpenStep();
  if (step == nullptr) return Time::max();
  return step->hedge_until ? std::min(step->deadline, *step->hedge_until) : step->deadline;
}

void Round::Postpone(Time by) {
  Step* step = OpenStep();
  if (step == nullptr) return;
  step->deadline += by;
  if (step->hedge_until) *step->hedge_until += by;
}

std::string_view Round::step() const {
  if (std::holds_alternative<Training>(phase_)) return kTrainingStep;
  const auto* aggregating = std::get_if<Aggregating>(&phase_);
  if (aggregating == nullptr) return {};
  const TaskSpec& task = *options_.task;
  return aggregation::StepNames(task.protocol, task.secagg.graph)[aggregating->index];
}

Result<Sum>* Round::outcome() {
  auto* ended = std::get_if<Ended>(&phase_);
  return ended == nullptr ? nullptr : &ended->outcome;
}

// All transitions. A step is over when everybody asked has answered or left, when its deadline has
// passed, or when 95 % have answered and the hedge has passed since.
//
//   phase        when the step is over                         next
//   -----------  --------------------------------------------  ----------------------------------
//   Training     ready clients >= cohort.minimum               Aggregating, first step asked
//   Training     fewer, or the protocol refuses the cohort     Ended with the reason
//   Aggregating  Close is ok, more steps follow                Aggregating, next step asked
//   Aggregating  Close is ok, the protocol is done             Ended with the sum of Finish
//   Aggregating  Close, Ask or Finish fails                    Ended with the reason
//   Ended        -                                             -
//
// Leaving Aggregating destroys the aggregator and what it holds. Each step is closed at most once
// and the protocol has few, so the loop is bounded.
void Round::Advance(Time now) {
  while (Step* step = OpenStep()) {
    const Time hedge = options_.task->deadlines.hedge;
    if (!step->hedge_until && hedge > Time{0} && step->answered > 0 &&
        uint64_t{step->answered} * 100 >= uint64_t{step->asked} * kHedgePercent) {
      step->hedge_until = now + hedge;
    }
    const bool hedged = step->hedge_until && now >= *step->hedge_until;
    if (!step->pending.empty() && now < step->deadline && !hedged) return;

    Close(*step);
    if (auto* training = std::get_if<Training>(&phase_)) {
      phase_ = AfterTraining(*training, now);
    } else {
      phase_ = AfterStep(std::get<Aggregating>(phase_), now);
    }
  }
}

void Round::Close(const Step& step) {
  news_.closed.push_back({.name = this->step(), .asked = step.asked, .answered = step.answered});
  dropouts_.push_back(step.asked - step.answered - step.declined);
  for (const PartyId party : step.pending) {
    members_.erase(party);
    news_.lost.push_back(party);
  }
}

Round::Phase Round::AfterTraining(Training& training, Time now) {
  // Who was ready and has left since is not to be counted on.
  std::erase_if(training.ready, [this](PartyId party) { return !members_.contains(party); });
  std::erase_if(training.prekeys, [this](const aggregation::PreKey& prekey) {
    return !members_.contains(prekey.from);
  });
  if (training.ready.size() < options_.task->cohort.minimum) {
    return Ended{Aborted("too few clients were ready: " + std::to_string(training.ready.size()) +
                         " of at least " + std::to_string(options_.task->cohort.minimum))};
  }
  const int64_t unix_now = options_.clock->UnixSeconds();
  options_.seen_keys->Advance(unix_now / kSecondsADay);
  Result<std::unique_ptr<Aggregator>> aggregator =
      aggregation::NewAggregator({.params = options_.params,
                                  .signing_seed = options_.signing_seed,
                                  .verifier = options_.verifier,
                                  .parties = std::move(training.ready),
                                  .blame = blame_.get(),
                                  .seen_keys = options_.seen_keys,
                                  .prekeys = std::move(training.prekeys),
                                  .unix_now = unix_now,
                                  .executor = options_.executor});
  if (!aggregator.ok()) return Ended{aggregator.status()};
  Result<Step> step = AskStep(**aggregator, 0, now);
  if (!step.ok()) return Ended{step.status()};
  return Aggregating{.aggregator = *std::move(aggregator), .step = *std::move(step), .index = 0};
}

Round::Phase Round::AfterStep(Aggregating& aggregating, Time now) {
  Aggregator& aggregator = *aggregating.aggregator;
  if (Status closed = aggregator.Close(); !closed.ok()) return Ended{closed};
  if (aggregator.done()) return Ended{aggregator.Finish()};
  const size_t index = aggregating.index + 1;
  Result<Step> step = AskStep(aggregator, index, now);
  if (!step.ok()) return Ended{step.status()};
  return Aggregating{
      .aggregator = std::move(aggregating.aggregator), .step = *std::move(step), .index = index};
}

Result<Step> Round::AskStep(Aggregator& aggregator, size_t index, Time now) {
  const std::span<const aggregation::Step> steps = StepsOf(*options_.task);
  CHORUS_ENSURE(index < steps.size());
  CHORUS_TRY_ASSIGN(std::vector<Question> questions, aggregator.Ask());
  Step step;
  step.asked = static_cast<uint32_t>(questions.size());
  uint64_t answer_bytes_max = 0;
  for (const Question& question : questions) {
    answer_bytes_max = std::max(answer_bytes_max, question.answer_bytes_max);
    // Who has left after its last answer is asked by the protocol, and will not answer.
    if (!members_.contains(question.to)) continue;
    step.pending.insert(question.to);
    news_.questions.push_back(question);
  }
  for (auto member = members_.begin(); member != members_.end();) {
    // The protocol goes on without this one. Who is in the sum already stays to hear of its end,
    // and whose pre-key was taken has nothing to answer for keys.
    if (step.pending.contains(*member) || Contributed(*member) ||
        steps[index] == aggregation::Step::kKeys) {
      ++member;
    } else {
      news_.lost.push_back(*member);
      member = members_.erase(member);
    }
  }
  step.deadline = now + StepDuration(*options_.task, steps[index], answer_bytes_max);
  return step;
}

}  // namespace chorus::coordinator
