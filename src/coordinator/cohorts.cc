#include "coordinator/cohorts.h"

#include <algorithm>
#include <string>

#include "learning/learning.h"

namespace chorus::coordinator {
namespace {

uint64_t WantedEach(const CohortSpec& spec) {
  const uint64_t wanted = (spec.target * (uint64_t{100} + spec.over_selection_percent) + 99) / 100;
  return std::min<uint64_t>(wanted, spec.maximum);
}

}  // namespace

uint64_t ClientsWanted(const CohortSpec& spec) { return WantedEach(spec) * spec.parallel; }

std::vector<uint32_t> CohortSizes(const CohortSpec& spec, size_t waiting) {
  const uint64_t each = WantedEach(spec);
  const uint64_t clients = std::min<uint64_t>(waiting, ClientsWanted(spec));
  const uint64_t count = std::min((clients + each - 1) / each, clients / spec.minimum);
  if (count == 0) return {};
  const uint64_t placed = std::min(clients, count * each);
  std::vector<uint32_t> sizes(count, static_cast<uint32_t>(placed / count));
  for (uint64_t i = 0; i < placed % count; ++i) ++sizes[i];
  return sizes;
}

Cohorts::Cohorts(CohortsOptions options, Time now) {
  const TaskSpec& task = *options.all.task;
  const uint64_t dim = learning::ParameterCount(task.model);
  const auto encoding = [&](uint32_t contributors_max) {
    return math::FixedPointFor(dim, task.clip, task.encoding, contributors_max);
  };
  const Result<math::FixedPoint> each = encoding(task.cohort.maximum);
  const Result<math::FixedPoint> total = encoding(task.cohort.maximum * task.cohort.parallel);
  unusable_ = each.ok() ? total.status() : each.status();
  if (unusable_.ok()) {
    each_ = *each;
    total_ = *total;
  }
  const std::vector<PartyId> invited = std::move(options.all.invited);
  auto next = invited.begin();
  cohorts_.reserve(options.sizes.size());
  for (const uint32_t size : options.sizes) {
    RoundOptions one = options.all;
    one.invited.assign(next, next + static_cast<ptrdiff_t>(size));
    options.rng->Fill(one.params.nonce);
    for (const PartyId party : one.invited) cohort_of_[party] = cohorts_.size();
    for (const aggregation::CommitteeMember& member : one.committee) {
      cohort_of_[member.party] = cohorts_.size();
    }
    cohorts_.push_back({.round = Round(std::move(one), now), .verdict = {}});
    next += static_cast<ptrdiff_t>(size);
  }
}

const Cohorts::Cohort* Cohorts::CohortOf(PartyId party) const {
  const auto found = cohort_of_.find(party);
  return found == cohort_of_.end() ? nullptr : &cohorts_[found->second];
}

Cohorts::Cohort* Cohorts::CohortOf(PartyId party) {
  return const_cast<Cohort*>(std::as_const(*this).CohortOf(party));
}

Status Cohorts::Hear(PartyId from, BytesView answer) {
  Cohort* cohort = CohortOf(from);
  if (cohort == nullptr) return FailedPrecondition("this client is not in the round");
  return cohort->round.Hear(from, answer);
}

void Cohorts::HearAgain(PartyId from, BytesView answer) {
  if (Cohort* cohort = CohortOf(from)) cohort->round.HearAgain(from, answer);
}

Result<Bytes> Cohorts::Body(PartyId to) {
  Cohort* cohort = CohortOf(to);
  if (cohort == nullptr) return NotFound("this client is not in the round");
  return cohort->round.Body(to);
}

void Cohorts::Leave(PartyId party, Round::Departure departure) {
  if (Cohort* cohort = CohortOf(party)) cohort->round.Leave(party, departure);
}

bool Cohorts::Contributed(PartyId party) const {
  const Cohort* cohort = CohortOf(party);
  return cohort != nullptr && cohort->round.Contributed(party);
}

const Status& Cohorts::VerdictOn(PartyId party) const {
  const Cohort* cohort = CohortOf(party);
  return cohort == nullptr ? outcome_.status() : cohort->verdict;
}

void Cohorts::Advance(Time now) {
  if (ended_ == cohorts_.size()) return;
  for (size_t i = 0; i < cohorts_.size(); ++i) {
    Cohort& cohort = cohorts_[i];
    if (cohort.ended) continue;
    cohort.round.Advance(now);
    if (cohort.round.outcome() != nullptr) End(cohort, static_cast<uint32_t>(i + 1));
  }
  if (ended_ == cohorts_.size()) outcome_ = Total();
}

void Cohorts::End(Cohort& cohort, uint32_t number) {
  Result<Sum>& sum = *cohort.round.outcome();
  cohort.verdict = sum.ok() ? Add(*std::move(sum)) : sum.status();
  cohort.ended = true;
  ++ended_;
  if (cohort.verdict.ok()) ++committed_;
  for (aggregation::Blame& blame : cohort.round.TakeBlame()) {
    blame_.emplace_back(number, std::move(blame));
  }
}

// Judges a cohort's sum before it meets the others, so that garbage costs its own cohort only.
Status Cohorts::Add(Sum sum) {
  CHORUS_TRY(unusable_);
  CHORUS_TRY(math::CheckSum(each_, sum));
  if (cohorts_.size() == 1 && each_.bits == total_.bits) {
    sum_ = std::move(sum);
    return OkStatus();
  }
  if (committed_ == 0) sum_ = {math::ZeroVector(total_.vector_dim(), total_.bits), 0};
  return math::AddSum(total_, sum_, sum, each_.bits);
}

Result<RoundSum> Cohorts::Total() const {
  if (committed_ == 0) {
    const Status& first = cohorts_.front().verdict;
    if (cohorts_.size() == 1) return first;
    return Status(first.code(), "none of " + std::to_string(cohorts_.size()) +
                                    " cohorts made a sum; the first: " + first.message());
  }
  CHORUS_TRY_ASSIGN(math::Mean mean, math::Decode(total_, sum_));
  return RoundSum{.mean = std::move(mean), .contributors = sum_.contributors};
}

void Cohorts::Postpone(Time by) {
  for (Cohort& cohort : cohorts_) cohort.round.Postpone(by);
}

Time Cohorts::NextTick() const {
  Time due = Time::max();
  for (const Cohort& cohort : cohorts_) due = std::min(due, cohort.round.NextTick());
  return due;
}

RoundNews Cohorts::TakeNews() {
  RoundNews all;
  for (size_t i = 0; i < cohorts_.size(); ++i) {
    RoundNews news = cohorts_[i].round.TakeNews();
    all.questions.insert(all.questions.end(), news.questions.begin(), news.questions.end());
    all.lost.insert(all.lost.end(), news.lost.begin(), news.lost.end());
    for (ClosedStep& step : news.closed) {
      step.cohort = static_cast<uint32_t>(i + 1);
      all.closed.push_back(step);
    }
  }
  return all;
}

std::string_view Cohorts::step() const {
  const auto open = std::find_if(cohorts_.begin(), cohorts_.end(),
                                 [](const Cohort& cohort) { return !cohort.ended; });
  return open == cohorts_.end() ? std::string_view() : open->round.step();
}

uint32_t Cohorts::declined() const {
  uint32_t declined = 0;
  for (const Cohort& cohort : cohorts_) declined += cohort.round.declined();
  return declined;
}

std::vector<uint32_t> Cohorts::dropouts() const {
  std::vector<uint32_t> all;
  for (const Cohort& cohort : cohorts_) {
    const std::vector<uint32_t>& dropouts = cohort.round.dropouts();
    all.resize(std::max(all.size(), dropouts.size()));
    for (size_t i = 0; i < dropouts.size(); ++i) all[i] += dropouts[i];
  }
  return all;
}

}  // namespace chorus::coordinator
