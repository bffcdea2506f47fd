#include "coordinator/round.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <iterator>
#include <span>
#include <string>

#include "base/codec.h"
#include "base/ensure.h"
#include "base/limits.h"
#include "coordinator/committee.h"
#include "coordinator/task_state.h"
#include "crypto/crypto.h"
#include "learning/analytics.h"
#include "learning/learning.h"
#include "math/math.h"
#include "privacy/privacy.h"

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

Time StepDeadline(const DeadlineSpec& deadlines, aggregation::Step step) {
  switch (step) {
    case aggregation::Step::kKeys:
    case aggregation::Step::kNeighbours:
    case aggregation::Step::kCommitteeKeys:
      return deadlines.choose;
    case aggregation::Step::kShares:
    case aggregation::Step::kComplaints:
      return deadlines.share;
    case aggregation::Step::kInput:
      return deadlines.upload;
    case aggregation::Step::kAcks:
    case aggregation::Step::kVotes:
      return deadlines.consistency;
    case aggregation::Step::kUnmask:
    case aggregation::Step::kOpening:
      break;
  }
  return deadlines.unmask;
}

// How long a step of the protocol may take when its answers are at most so large; for complaints,
// its questions, which hold a share of every client.
Time StepDuration(const TaskSpec& task, aggregation::Step step, uint64_t transfer_bytes) {
  const Time deadline = StepDeadline(task.deadlines, step);
  if (step != aggregation::Step::kComplaints && step != aggregation::Step::kInput) return deadline;
  const Time transfer{static_cast<Time::rep>(transfer_bytes / kUploadBytesPerSecond * 1'000 +
                                             transfer_bytes % kUploadBytesPerSecond * 1'000 /
                                                 kUploadBytesPerSecond)};
  return std::max(deadline, transfer);
}

}  // namespace

std::vector<Time> StepDeadlines(const TaskSpec& task) {
  std::vector<Time> deadlines = {task.deadlines.train};
  for (const aggregation::Step step : StepsOf(task)) {
    deadlines.push_back(StepDeadline(task.deadlines, step));
  }
  return deadlines;
}

Result<aggregation::SessionParams> SessionParamsFor(const SessionSubject& subject) {
  const TaskSpec& task = subject.task;
  CHORUS_TRY_ASSIGN(const math::FixedPoint encoding,
                    math::FixedPointFor(learning::ContributionDim(task), task.clip, task.encoding,
                                        task.cohort.maximum));
  aggregation::SessionParams params;
  params.protocol = task.protocol;
  params.task_id = TaskIdOf(task.name);
  params.task_hash = crypto::Sha256(subject.task_bytes);
  params.round = subject.round;
  params.attempt = 1;
  params.model_hash = aggregation::ModelHash(learning::CanonicalSubject(task), subject.weights);
  params.vec_len = encoding.vector_dim();
  params.bits = static_cast<uint8_t>(encoding.bits);
  params.word_bytes = static_cast<uint8_t>(math::WordBytesFor(encoding.bits));
  params.bound = encoding.bound;
  params.n_min = task.cohort.minimum;
  params.n_max = task.cohort.maximum;
  const DeadlineSpec& deadlines = task.deadlines;
  Time timers[] = {deadlines.choose, deadlines.share, deadlines.upload, deadlines.consistency,
                   deadlines.unmask};
  if (task.protocol == Protocol::kOneShot) {
    params.gamma_ppm = task.one_shot.gamma_ppm;
    params.a_min = task.one_shot.honest_min;
    CHORUS_TRY_ASSIGN(params.committee, aggregation::CommitteeOf(task.one_shot));
    // Those of committee keys, input, complaints, votes and opening.
    std::swap(timers[1], timers[2]);
  } else {
    params.mode = static_cast<uint8_t>(task.secagg.graph);
    params.gamma_ppm = task.secagg.gamma_ppm;
    params.delta_ppm = task.secagg.delta_ppm;
    params.a_min = task.secagg.honest_min;
  }
  params.dp_hash = crypto::Sha256(privacy::CanonicalPrivacy(task.clip));
  params.layout_hash = crypto::Sha256(learning::CanonicalContribution(task));
  std::transform(std::begin(timers), std::end(timers), std::begin(params.timers_ms), Milliseconds);
  return params;
}

uint64_t ReadyBytesMax(const TaskSpec& task) {
  return task.protocol == Protocol::kSecAgg ? aggregation::kPreKeyRecordBytesMax : 0;
}

Round::Round(RoundOptions options, Time now)
    : options_(std::move(options)),
      parties_(options_.invited.begin(), options_.invited.end()),
      blame_(std::make_unique<std::vector<aggregation::Blame>>()),
      phase_(Training{}) {
  for (const aggregation::CommitteeMember& member : options_.committee) {
    committee_.insert(member.party);
    parties_.insert(member.party);
  }
  Step& step = std::get<Training>(phase_).step;
  step.pending = parties_;
  step.asked = static_cast<uint32_t>(parties_.size());
  step.began = now;
  step.deadline = now + std::min(options_.task->deadlines.train, LimitOf(0));
}

Step* Round::OpenStep() {
  if (auto* training = std::get_if<Training>(&phase_)) return &training->step;
  if (auto* aggregating = std::get_if<Aggregating>(&phase_)) return &aggregating->step;
  return nullptr;
}

const Step* Round::OpenStep() const { return const_cast<Round*>(this)->OpenStep(); }

StepProgress Round::progress() const {
  const Step* const open = OpenStep();
  if (open == nullptr) return {};
  return {.name = step(), .asked = open->asked, .answered = open->answered};
}

// A client by its input, a committee's member by its share of the sum.
bool Round::GivesToTheSum(size_t index) const {
  const aggregation::Step step = StepsOf(*options_.task)[index];
  return step == aggregation::Step::kInput || step == aggregation::Step::kOpening;
}

// In OneShot all but the input is asked of the committee, and of nobody else.
bool Round::AsksTheCommittee(size_t index) const {
  return options_.task->protocol == Protocol::kOneShot &&
         StepsOf(*options_.task)[index] != aggregation::Step::kInput;
}

// What the open step asks is asked of clients, for their input or towards it.
bool Round::BeforeUpload() const {
  const auto* aggregating = std::get_if<Aggregating>(&phase_);
  if (aggregating == nullptr) return true;
  const std::span<const aggregation::Step> steps = StepsOf(*options_.task);
  const auto input = std::find(steps.begin(), steps.end(), aggregation::Step::kInput);
  return aggregating->index <= static_cast<size_t>(input - steps.begin()) &&
         !AsksTheCommittee(aggregating->index);
}

Time Round::LimitOf(size_t index) const {
  const std::vector<Time>& limits = options_.limits.at_most;
  return index < limits.size() ? limits[index] : Time::max();
}

Status Round::Hear(PartyId from, Pieces answer) {
  Step* step = OpenStep();
  if (step == nullptr || !step->pending.contains(from)) {
    return FailedPrecondition("this step asks nothing of this client, or has closed");
  }
  if (auto* aggregating = std::get_if<Aggregating>(&phase_)) {
    if (Status heard = aggregating->aggregator->HearPieces(from, answer); !heard.ok()) {
      Leave(from, Departure::kFailed);
      // To a client this code means that its session is gone, which is not so.
      if (heard.code() == Code::kUnauthenticated) return PermissionDenied(heard.message());
      return heard;
    }
    if (GivesToTheSum(aggregating->index)) contributed_.insert(from);
  } else if (auto* training = std::get_if<Training>(&phase_)) {
    const uint64_t size = SizeOf(answer);
    if (size > ReadyBytesMax(*options_.task)) {
      Leave(from, Departure::kFailed);
      return InvalidArgument("an invitation is answered by no bytes, or by pre-keys in SecAgg");
    }
    if (size > 0) training->prekeys.push_back({from, Join(answer)});
    training->ready.push_back(from);
  }
  step->pending.erase(from);
  ++step->answered;
  return OkStatus();
}

void Round::HearAgain(PartyId from, Pieces answer) {
  auto* aggregating = std::get_if<Aggregating>(&phase_);
  // Who is still to be heard would be heard for the first time.
  if (aggregating == nullptr || !parties_.contains(from)) return;
  if (aggregating->step.pending.contains(from)) return;
  // The aggregator refuses it, and keeps what it proves.
  static_cast<void>(aggregating->aggregator->HearPieces(from, answer));
}

Result<Bytes> Round::Body(PartyId to) {
  if (auto* aggregating = std::get_if<Aggregating>(&phase_)) {
    return aggregating->aggregator->Body(to);
  }
  return NotFound("no step of the protocol is open");
}

void Round::Leave(PartyId party, Departure departure) {
  if (parties_.erase(party) == 0) return;
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
  step->began += by;
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
// passed, or when 95 % have answered and the hedge has passed since, which a patient round lacks.
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
    step->took.resize(step->answered, now - step->began);
    const Time hedge = options_.limits.patient ? Time{0} : options_.task->deadlines.hedge;
    if (!step->hedge_until && hedge > Time{0} && step->answered > 0 &&
        uint64_t{step->answered} * 100 >= uint64_t{step->asked} * kHedgePercent) {
      step->hedge_until = now + hedge;
    }
    if (!IsOver(*step, now)) return;

    Close(*step);
    if (auto* training = std::get_if<Training>(&phase_)) {
      phase_ = AfterTraining(*training, now);
    } else {
      phase_ = AfterStep(std::get<Aggregating>(phase_), now);
    }
  }
}

bool Round::IsOver(const Step& step, Time now) {
  const bool hedged = step.hedge_until && now >= *step.hedge_until;
  return step.pending.empty() || now >= step.deadline || hedged;
}

bool Round::OpensBy(Time now) const {
  const auto* aggregating = std::get_if<Aggregating>(&phase_);
  return aggregating != nullptr && aggregating->index + 1 == StepsOf(*options_.task).size() &&
         IsOver(aggregating->step, now);
}

void Round::Close(Step& step) {
  const auto* aggregating = std::get_if<Aggregating>(&phase_);
  news_.closed.push_back({.name = this->step(),
                          .asked = step.asked,
                          .answered = step.answered,
                          .index = aggregating == nullptr ? 0 : aggregating->index + 1,
                          .silent = static_cast<uint32_t>(step.pending.size()),
                          .took = std::move(step.took),
                          .fitted = options_.limits.fitted,
                          .patient = options_.limits.patient,
                          .before_upload = BeforeUpload()});
  dropouts_.push_back(step.asked - step.answered - step.declined);
  for (const PartyId party : step.pending) {
    parties_.erase(party);
    news_.lost.push_back(party);
  }
}

Round::Phase Round::AfterTraining(Training& training, Time now) {
  // Who was ready and has left since is not to be counted on.
  std::erase_if(training.ready, [this](PartyId party) { return !parties_.contains(party); });
  std::erase_if(training.prekeys, [this](const aggregation::PreKey& prekey) {
    return !parties_.contains(prekey.from);
  });
  Result<std::unique_ptr<Aggregator>> aggregator = NewSession(training);
  if (!aggregator.ok()) return Ended{aggregator.status()};
  Result<Step> step = AskStep(**aggregator, 0, now);
  if (!step.ok()) return Ended{step.status()};
  return Aggregating{.aggregator = *std::move(aggregator), .step = *std::move(step), .index = 0};
}

// Of those who are ready; kAborted when they are too few.
Result<std::unique_ptr<Aggregator>> Round::NewSession(Training& training) {
  const std::set<PartyId> ready(training.ready.begin(), training.ready.end());
  std::vector<PartyId> clients;
  std::copy_if(training.ready.begin(), training.ready.end(), std::back_inserter(clients),
               [this](PartyId party) { return !committee_.contains(party); });
  std::vector<aggregation::CommitteeMember> committee = options_.committee;
  std::erase_if(committee, [&ready](const aggregation::CommitteeMember& member) {
    return !ready.contains(member.party);
  });
  const TaskSpec& task = *options_.task;
  if (clients.size() < task.cohort.minimum) {
    return Aborted("too few clients were ready: " + std::to_string(clients.size()) +
                   " of at least " + std::to_string(task.cohort.minimum));
  }
  if (task.protocol == Protocol::kOneShot) {
    const uint32_t needed = aggregation::MembersNeeded(options_.params.committee);
    if (committee.size() < needed) {
      return Aborted("too few members of the committee were ready: " +
                     std::to_string(committee.size()) + " of at least " + std::to_string(needed));
    }
  }
  const int64_t unix_now = options_.clock->UnixSeconds();
  options_.seen_keys->Advance(unix_now / kSecondsADay);
  return aggregation::NewAggregator({.params = options_.params,
                                     .signing_seed = options_.signing_seed,
                                     .verifier = options_.verifier,
                                     .parties = std::move(clients),
                                     .blame = blame_.get(),
                                     .seen_keys = options_.seen_keys,
                                     .prekeys = std::move(training.prekeys),
                                     .unix_now = unix_now,
                                     .executor = options_.executor,
                                     .committee_ids = task.one_shot.members,
                                     .committee = std::move(committee)});
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
    if (!parties_.contains(question.to)) continue;
    step.pending.insert(question.to);
    news_.questions.push_back(question);
  }
  for (auto party = parties_.begin(); party != parties_.end();) {
    const bool other_kind = committee_.contains(*party) != AsksTheCommittee(index);
    // The protocol goes on without this one. Who is in the sum already stays to hear of its end,
    // and whose pre-key was taken has nothing to answer for keys.
    if (step.pending.contains(*party) || Contributed(*party) || other_kind ||
        steps[index] == aggregation::Step::kKeys) {
      ++party;
    } else {
      news_.lost.push_back(*party);
      party = parties_.erase(party);
    }
  }
  uint64_t transfer_bytes = answer_bytes_max;
  if (steps[index] == aggregation::Step::kComplaints && !questions.empty()) {
    CHORUS_TRY_ASSIGN(const Bytes pull, aggregator.Body(questions.front().to));
    transfer_bytes = pull.size();
  }
  step.began = now;
  step.deadline = now + std::min(StepDuration(*options_.task, steps[index], transfer_bytes),
                                 LimitOf(index + 1));
  return step;
}

}  // namespace chorus::coordinator
