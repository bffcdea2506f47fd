#include "coordinator/cohorts.h"

#include <algorithm>
#include <string>

namespace chorus::coordinator {
namespace {

uint64_t WantedEach(const CohortSpec& spec) {
  if (spec.target == 0) return spec.maximum;
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

Cohorts::Cohorts(CohortsOptions options, Time now)
    : version_(options.version), first_(options.first) {
  const std::vector<PartyId> invited = std::move(options.all.invited);
  auto next = invited.begin();
  cohorts_.reserve(options.sizes.size());
  for (const uint32_t size : options.sizes) {
    RoundOptions one = options.all;
    one.invited.assign(next, next + static_cast<ptrdiff_t>(size));
    options.rng->Fill(one.params.nonce);
    std::vector<PartyId> parties = one.invited;
    for (const aggregation::CommitteeMember& member : one.committee) {
      parties.push_back(member.party);
    }
    for (const PartyId party : parties) cohort_of_[party] = cohorts_.size();
    cohorts_.push_back({.round = Round(std::move(one), now),
                        .parties = std::move(parties),
                        .invited = size,
                        .verdict = {}});
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

Status Cohorts::Hear(PartyId from, Pieces answer) {
  Cohort* cohort = CohortOf(from);
  if (cohort == nullptr) return FailedPrecondition("this client is not in the round");
  return cohort->round.Hear(from, answer);
}

void Cohorts::HearAgain(PartyId from, Pieces answer) {
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

void Cohorts::Advance(Time now, CohortSums* sums) {
  for (size_t i = 0; i < cohorts_.size(); ++i) {
    Cohort& cohort = cohorts_[i];
    if (cohort.ended) continue;
    cohort.round.Advance(now);
    if (cohort.round.outcome() != nullptr) End(cohort, static_cast<uint32_t>(first_ + i), sums);
  }
}

bool Cohorts::OpensBy(Time now) const {
  return std::any_of(cohorts_.begin(), cohorts_.end(), [now](const Cohort& cohort) {
    return !cohort.ended && cohort.round.OpensBy(now);
  });
}

void Cohorts::End(Cohort& cohort, uint32_t number, CohortSums* sums) {
  Result<Sum>& sum = *cohort.round.outcome();
  cohort.verdict = sum.status();
  if (sums == nullptr) {
    ended_cohorts_.push_back({.number = number,
                              .sum = std::move(sum),
                              .invited = cohort.invited,
                              .declined = cohort.round.declined(),
                              .dropouts = cohort.round.dropouts()});
  } else if (sum.ok()) {
    cohort.verdict = sums->Add(*std::move(sum), version_);
  }
  cohort.ended = true;
  ++ended_;
  for (aggregation::Blame& blame : cohort.round.TakeBlame()) {
    blame_.emplace_back(number, std::move(blame));
  }
}

void Cohorts::Refuse(uint32_t number, const Status& why) {
  if (number < first_ || number - first_ >= cohorts_.size()) return;
  cohorts_[number - first_].verdict = why;
}

void Cohorts::Forget(PartyId party) {
  Cohort* cohort = CohortOf(party);
  if (cohort == nullptr) return;
  std::erase(cohort->parties, party);
  cohort_of_.erase(party);
}

std::vector<Dismissed> Cohorts::Dismiss() {
  std::vector<Dismissed> dismissed;
  for (Cohort& cohort : cohorts_) {
    if (cohort.ended) Dismiss(cohort, dismissed);
  }
  return dismissed;
}

std::vector<Dismissed> Cohorts::DismissFailed() {
  std::vector<Dismissed> dismissed;
  for (Cohort& cohort : cohorts_) {
    if (cohort.ended && !cohort.verdict.ok()) Dismiss(cohort, dismissed);
  }
  return dismissed;
}

void Cohorts::Dismiss(Cohort& cohort, std::vector<Dismissed>& dismissed) {
  for (const PartyId party : std::exchange(cohort.parties, {})) {
    dismissed.push_back({.party = party,
                         .verdict = cohort.verdict,
                         .contributed = cohort.round.Contributed(party)});
    cohort_of_.erase(party);
  }
}

void Cohorts::Abandon(const Status& why) {
  for (size_t i = 0; i < cohorts_.size(); ++i) {
    Cohort& cohort = cohorts_[i];
    if (cohort.ended) continue;
    cohort.verdict = why;
    cohort.ended = true;
    ++ended_;
    ended_cohorts_.push_back({.number = static_cast<uint32_t>(first_ + i),
                              .sum = why,
                              .invited = cohort.invited,
                              .declined = cohort.round.declined(),
                              .dropouts = cohort.round.dropouts()});
  }
}

Status Cohorts::WhyNone() const {
  if (cohorts_.empty()) return Aborted("the round has no cohort");
  // With buffered sums a cohort may have made one that an earlier model has used up.
  const auto failed = std::find_if(cohorts_.begin(), cohorts_.end(),
                                   [](const Cohort& cohort) { return !cohort.verdict.ok(); });
  if (failed == cohorts_.end()) return Aborted("no cohort has a sum left for another model");
  const Status& first = failed->verdict;
  if (cohorts_.size() == 1) return first;
  const bool none = std::none_of(cohorts_.begin(), cohorts_.end(),
                                 [](const Cohort& cohort) { return cohort.verdict.ok(); });
  const std::string how_many = none ? "none of " : "not all of ";
  return Status(first.code(), how_many + std::to_string(cohorts_.size()) +
                                  " cohorts made a sum; the first: " + first.message());
}

void Cohorts::Postpone(Time by) {
  for (Cohort& cohort : cohorts_) cohort.round.Postpone(by);
}

Time Cohorts::NextTick() const {
  Time due = Time::max();
  for (const Cohort& cohort : cohorts_) {
    if (!cohort.ended) due = std::min(due, cohort.round.NextTick());
  }
  return due;
}

RoundNews Cohorts::TakeNews() {
  RoundNews all;
  for (size_t i = 0; i < cohorts_.size(); ++i) {
    RoundNews news = cohorts_[i].round.TakeNews();
    all.questions.insert(all.questions.end(), news.questions.begin(), news.questions.end());
    all.lost.insert(all.lost.end(), news.lost.begin(), news.lost.end());
    for (ClosedStep& step : news.closed) {
      step.cohort = static_cast<uint32_t>(first_ + i);
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

StepProgress Cohorts::progress() const {
  StepProgress all{.name = step()};
  for (const Cohort& cohort : cohorts_) {
    if (cohort.ended || cohort.round.step() != all.name) continue;
    const StepProgress one = cohort.round.progress();
    all.asked += one.asked;
    all.answered += one.answered;
  }
  return all;
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
