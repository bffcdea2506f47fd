#include "coordinator/tempo.h"

#include <algorithm>
#include <cmath>
#include <iterator>

namespace chorus::coordinator {
namespace {

constexpr size_t kAnswersKept = 64;  // the quantile of so many is worth something
constexpr size_t kAnswersMin = 8;    // and that of fewer is not
constexpr size_t kClosesMax = 16;    // however few answers each had
constexpr uint64_t kQuantilePercent = 95;
// A deadline cuts off the slowest, who are then missing from what the next is fitted to. With a
// margin of two it settles all the same, above the 95th percentile, even if times differ by e^2 as
// a rule (log-normal with sigma 2); with 1.5 it shrinks to the 88th.
constexpr int kMargin = 2;
// Networks and devices hiccup for seconds, and nothing is won by less.
constexpr Time kTrainLeast{10'000};
constexpr Time kStepLeast{5'000};

// Rounds between patient ones: twice as many after each in which waiting helped nobody.
constexpr uint32_t kPatientFirst = 8;
constexpr uint32_t kPatientMost = 32;
constexpr uint32_t kTaskRoundsMax = 16;  // in a row, after fitted rounds have aborted

// Silence at fitted deadlines is more than before when it is by a twentieth of the asked, and by
// two standard deviations of as many independent losses, and by more than one.
constexpr double kSilenceSlack = 0.05;
constexpr double kDeviations = 2;

constexpr double kInvitedKept = 256;
constexpr double kInvitedMin = 16;  // of fewer, who is lost says little
constexpr int kWaitForMore = 4;     // times as long, when those who wait may be too few
constexpr double kLostMost = 0.8;
constexpr double kNineOfTen = 1.2816;  // quantile of the normal distribution

}  // namespace

// The number of those who stay, of n, has mean n * (1 - lost) and variance n * (1 - lost) * lost;
// the root n is where the mean is so many deviations above `wanted`.
uint64_t InvitedFor(uint64_t wanted, double lost) {
  const double stays = 1 - std::clamp(lost, 0.0, kLostMost);
  const double spread = kNineOfTen * std::sqrt(stays * (1 - stays));
  const double root =
      (spread + std::sqrt(spread * spread + 4 * stays * static_cast<double>(wanted))) / (2 * stays);
  // What rounding adds to a whole number is not a client.
  return static_cast<uint64_t>(std::ceil(root * root - 1e-6));
}

void StepRecord::Note(const ClosedStep& step) {
  if (step.asked == 0) return;
  if (!step.took.empty()) {
    took_.push_back(step.took);
    size_t kept = 0;
    for (const std::vector<Time>& some : took_) kept += some.size();
    while (kept - took_.front().size() >= kAnswersKept || took_.size() > kClosesMax) {
      kept -= took_.front().size();
      took_.pop_front();
    }
  }
  if (step.fitted) {
    fitted_.asked += step.asked;
    fitted_.silent += step.silent;
    return;
  }
  fitted_ = {};
  full_.push_back({step.asked, step.silent});
  uint64_t asked = 0;
  for (const Silence& some : full_) asked += some.asked;
  while (asked - full_.front().asked >= kAnswersKept || full_.size() > kClosesMax) {
    asked -= full_.front().asked;
    full_.pop_front();
  }
}

std::optional<Time> StepRecord::Fitting(Time least) const {
  std::vector<Time> all;
  for (const std::vector<Time>& some : took_) all.insert(all.end(), some.begin(), some.end());
  if (all.size() < kAnswersMin) return std::nullopt;
  const size_t rank = (all.size() * kQuantilePercent + 99) / 100;
  const auto at = all.begin() + static_cast<ptrdiff_t>(rank - 1);
  std::nth_element(all.begin(), at, all.end());
  return std::max(least, kMargin * *at);
}

bool StepRecord::LosesMore() const {
  Silence full;
  for (const Silence& some : full_) {
    full.asked += some.asked;
    full.silent += some.silent;
  }
  if (full.asked == 0 || fitted_.asked == 0) return false;
  const double asked = static_cast<double>(fitted_.asked);
  const double usual = static_cast<double>(full.silent) / static_cast<double>(full.asked);
  const double deviation = std::sqrt(asked * usual * (1 - usual));
  return static_cast<double>(fitted_.silent) >
         asked * (usual + kSilenceSlack) + kDeviations * deviation + 1;
}

Tempo::Tempo(const TaskSpec& task)
    : adapt_(task.adapt),
      cohort_(task.cohort),
      check_in_(task.deadlines.check_in),
      deadlines_(StepDeadlines(task)),
      records_(deadlines_.size()),
      interval_(kPatientFirst) {}

double Tempo::Lost() const { return invited_ >= kInvitedMin ? lost_ / invited_ : 0; }

bool Tempo::MayBeTooFew(size_t waiting) const {
  return waiting < InvitedFor(cohort_.minimum, Lost());
}

Time Tempo::WaitForMore(size_t waiting) const {
  return adapt_ && MayBeTooFew(waiting) ? kWaitForMore * check_in_ : check_in_;
}

CohortSpec Tempo::Cohorts(CohortSpec free) const {
  if (!adapt_ || free.target == 0) return free;
  const uint64_t named = (free.target * (uint64_t{100} + free.over_selection_percent) + 99) / 100;
  const uint64_t invited = std::max(named, InvitedFor(free.target, Lost()));
  free.target = static_cast<uint32_t>(std::min<uint64_t>(invited, free.maximum));
  free.over_selection_percent = 0;
  return free;
}

Time Tempo::Least(size_t step) const { return step == 0 ? kTrainLeast : kStepLeast; }

// Why a round has the task's own deadlines: nothing is known, a fitted one has aborted, or more
// parties were lost at fitted ones; all of which grows them back at once. And every so many rounds
// one is patient, so that whoever is always slow counts from time to time, and what is believed of
// the slow is put right.
Tempo::Patience Tempo::Choose() {
  if (!adapt_) return Patience::kTask;
  if (task_rounds_ > 0) {
    --task_rounds_;
    return Patience::kTask;
  }
  const bool loses = std::any_of(records_.begin(), records_.end(),
                                 [](const StepRecord& record) { return record.LosesMore(); });
  if (loses || !records_.front().Fitting(kTrainLeast)) return Patience::kTask;
  if (++since_patient_ < interval_) return Patience::kFitted;
  since_patient_ = 0;
  waiting_helped_ = false;
  return Patience::kPatient;
}

StepLimits Tempo::Begin(uint64_t invited) {
  ++begun_;
  patience_ = Choose();
  StepLimits limits;
  limits.patient = patience_ == Patience::kPatient;
  limits.fitted = patience_ == Patience::kFitted;
  limits.at_most.assign(deadlines_.size(), Time::max());
  chosen_ = {};
  chosen_.patient = limits.patient;
  chosen_.fitted = limits.fitted;
  for (size_t step = 0; step < deadlines_.size(); ++step) {
    if (limits.fitted) {
      limits.at_most[step] = records_[step].Fitting(Least(step)).value_or(Time::max());
    }
    const Time deadline = std::min(limits.at_most[step], deadlines_[step]);
    chosen_.deadlines_ms.push_back(static_cast<uint32_t>(deadline.count()));
  }
  chosen_.expected =
      static_cast<uint32_t>(std::lround(static_cast<double>(invited) * (1 - Lost())));
  return limits;
}

void Tempo::Note(const ClosedStep& step) {
  if (!adapt_ || step.index >= records_.size()) return;
  StepRecord& record = records_[step.index];
  if (step.patient && !step.took.empty()) {
    const std::optional<Time> fitting = record.Fitting(Least(step.index));
    const Time slowest = *std::max_element(step.took.begin(), step.took.end());
    waiting_helped_ = waiting_helped_ || (fitting && slowest > *fitting);
  }
  record.Note(step);
  if (!step.before_upload) return;
  if (step.index == 0) invited_ += step.asked;
  lost_ += step.asked - step.answered;
}

void Tempo::End(bool aborted) {
  if (patience_ == Patience::kPatient) {
    interval_ = waiting_helped_ ? kPatientFirst : std::min(2 * interval_, kPatientMost);
  }
  if (patience_ == Patience::kFitted) {
    fitted_aborts_ = aborted ? fitted_aborts_ + 1 : 0;
    if (aborted) task_rounds_ = std::min(1U << std::min(fitted_aborts_ - 1, 8U), kTaskRoundsMax);
  }
  while (invited_ > kInvitedKept) {
    invited_ /= 2;
    lost_ /= 2;
  }
}

}  // namespace chorus::coordinator
