#include "coordinator/outcome.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "learning/analytics.h"
#include "learning/learning.h"
#include "learning/robust.h"

namespace chorus::coordinator {
namespace {

bool AllFinite(std::span<const float> values) {
  return std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); });
}

// What all the sums that count say together.
struct Combined {
  std::vector<float> mean;  // [ContributionDim]
  uint32_t contributors = 0;
  uint32_t sums = 0;
  uint64_t examples = 0;
  math::Mean fresh;  // metrics of those that trained on the version which is current
};

// How much a sum counts that so many commits overtook [NMZYRM22].
double WeightOf(uint64_t staleness) { return 1 / std::sqrt(1 + static_cast<double>(staleness)); }

// Sums of one version, and how many commits overtook them.
struct Counted {
  const CohortSums::OfVersion* of = nullptr;
  uint64_t staleness = 0;
};

std::vector<Counted> CountedOf(const TaskSpec& task, uint64_t version, const CohortSums& sums) {
  std::vector<Counted> counted;
  for (const auto& [trained_on, of] : sums.versions()) {
    const uint64_t staleness = version - std::min(trained_on, version);
    const bool too_old = task.server.buffered_sums > 0 && staleness > task.server.staleness_max;
    if (too_old || of.count == 0) continue;
    counted.push_back({.of = &of, .staleness = staleness});
  }
  return counted;
}

void AddMetrics(const math::Mean& mean, math::Mean& to) {
  const auto evaluated = static_cast<double>(to.evaluated + mean.evaluated);
  if (mean.evaluated == 0) return;
  const double part = static_cast<double>(mean.evaluated) / evaluated;
  to.accuracy += part * (mean.accuracy - to.accuracy);
  to.loss += part * (mean.loss - to.loss);
  to.evaluated += mean.evaluated;
}

// Their mean, weighted by examples; what is stale is weighted down and not made up for, as in
// [NMZYRM22, Alg. 1], where a stale update shortens the step.
Result<Combined> CombineMean(const CohortSums& sums, std::span<const Counted> counted) {
  Combined combined;
  std::vector<double> weighted;
  for (const Counted& one : counted) {
    CHORUS_TRY_ASSIGN(math::Mean mean, math::Decode(sums.encoding(), one.of->total));
    combined.contributors += one.of->contributors;
    combined.sums += one.of->count;
    combined.examples += mean.examples;
    if (one.staleness == 0) AddMetrics(mean, combined.fresh);
    if (counted.size() == 1 && one.staleness == 0) {
      combined.mean = std::move(mean.update);
      return combined;
    }
    weighted.resize(mean.update.size());
    const double weight = WeightOf(one.staleness) * static_cast<double>(mean.examples);
    for (size_t i = 0; i < weighted.size(); ++i) weighted[i] += weight * mean.update[i];
  }
  combined.mean.resize(weighted.size());
  const auto examples = static_cast<double>(combined.examples);
  std::transform(weighted.begin(), weighted.end(), combined.mean.begin(),
                 [examples](double sum) { return static_cast<float>(sum / examples); });
  return combined;
}

Result<Combined> CombineRobust(const TaskSpec& task, std::span<const Counted> counted) {
  Combined combined;
  std::vector<std::vector<float>> weighted;
  std::vector<std::span<const float>> means;
  for (const Counted& one : counted) {
    combined.contributors += one.of->contributors;
    combined.sums += one.of->count;
    const auto weight = static_cast<float>(WeightOf(one.staleness));
    for (const math::Mean& mean : one.of->means) {
      combined.examples += mean.examples;
      if (one.staleness == 0) AddMetrics(mean, combined.fresh);
      means.push_back(mean.update);
      if (one.staleness == 0) continue;
      for (float& value : weighted.emplace_back(mean.update)) value *= weight;
      means.back() = weighted.back();
    }
  }
  const uint64_t needed = learning::MeansNeeded(task.server.robust, task.server.byzantine);
  if (means.size() < needed) {
    return Aborted("server.robust needs the sums of " + std::to_string(needed) +
                   " cohorts, and there are " + std::to_string(means.size()));
  }
  CHORUS_TRY_ASSIGN(combined.mean,
                    learning::Combine(task.server.robust, task.server.byzantine, means));
  return combined;
}

// Moves the published vector by what the contributions say.
Status MoveModel(const TaskSpec& task, const Combined& combined, ServerState& state) {
  const uint64_t shared = learning::SharedCount(task.model);
  const uint64_t dim = state.published.size() - (task.training.scaffold ? shared : 0);
  std::vector<float> change(combined.mean.begin(),
                            combined.mean.begin() + static_cast<ptrdiff_t>(shared));
  if (task.training.fairness_q > 0) {
    // The sum of the updates over the sum of the h [LSBS20, Alg. 2]; no h, no loss, no step.
    const float h = combined.mean.back() / learning::FairnessScale(task);
    for (float& value : change) value = h > 0 ? value / h : 0.0F;
  }
  const std::vector<learning::ParameterRange> ranges = learning::SharedRanges(task.model);
  CHORUS_TRY(learning::Step({.server = task.server,
                             .rate = task.server_learning_rate,
                             .shared = ranges,
                             .change = change},
                            std::span(state.published).first(dim), state.optimizer));
  if (!task.training.scaffold) return OkStatus();
  // c += |S| / N * mean of the clients' changes [KKMRSS20, Alg. 1].
  const double part = static_cast<double>(combined.contributors) / task.training.population;
  const auto factor = static_cast<float>(part / learning::ControlScale(task));
  for (uint64_t i = 0; i < shared; ++i) {
    state.published[dim + i] += factor * combined.mean[shared + i];
  }
  return OkStatus();
}

// Of analytics: nothing is scaled and nothing becomes a float.
Status CountExactly(const CohortSums& sums, std::vector<int64_t>& cells, RoundReport& report) {
  const CohortSums::OfVersion& of = sums.versions().begin()->second;
  const math::FixedPoint& encoding = sums.encoding();
  CHORUS_TRY_ASSIGN(cells, learning::DecodeCells(encoding, of.total));
  report.contributors = of.contributors;
  report.cohorts_committed = of.count;
  report.examples =
      static_cast<uint64_t>(math::SignedAt(of.total.values, encoding.dim, encoding.bits));
  return OkStatus();
}

Status CheckFinite(const ServerState& state) {
  if (!AllFinite(state.published)) {
    return Aborted("the model would not be finite; lower server_learning_rate");
  }
  // An infinite second moment would hold its parameter fast for ever.
  if (!AllFinite(state.optimizer.momentum) || !AllFinite(state.optimizer.second_moment)) {
    return Aborted("the server optimiser's state would not be finite; lower the clip");
  }
  return OkStatus();
}

}  // namespace

uint32_t ContributorsMax(const TaskSpec& task) {
  return task.cohort.maximum * task.cohort.parallel * (task.server.buffered_sums > 0 ? 2 : 1);
}

ServerState FirstState(const TaskSpec& task, Weights weights) {
  ServerState state{.published = std::move(weights), .optimizer = {}};
  if (!task.queries.empty()) state.published.clear();
  state.published.resize(learning::PublishedCount(task), 0.0F);
  return state;
}

CohortSums::CohortSums(const TaskSpec& task) : apart_(task.server.robust != RobustRule::kMean) {
  const uint64_t dim = learning::ContributionDim(task);
  const auto encoding = [&](uint32_t contributors_max) {
    return math::FixedPointFor(dim, task.clip, task.encoding, contributors_max);
  };
  const Result<math::FixedPoint> each = encoding(task.cohort.maximum);
  const Result<math::FixedPoint> total = encoding(ContributorsMax(task));
  unusable_ = each.ok() ? total.status() : each.status();
  if (!unusable_.ok()) return;
  each_ = *each;
  total_ = *total;
}

Status CohortSums::Add(Sum sum, uint64_t version) {
  CHORUS_TRY(unusable_);
  CHORUS_TRY(math::CheckSum(each_, sum));
  const uint32_t contributors = sum.contributors;
  math::Mean mean;
  if (apart_) {
    CHORUS_TRY_ASSIGN(mean, math::Decode(each_, sum));
  }
  OfVersion& of = versions_[version];
  if (apart_) {
    of.means.push_back(std::move(mean));
  } else if (of.count == 0 && each_.bits == total_.bits) {
    of.total = std::move(sum);
  } else {
    if (of.count == 0) of.total = {math::ZeroVector(total_.vector_dim(), total_.bits), 0};
    CHORUS_TRY(math::AddSum(total_, of.total, sum, each_.bits));
  }
  of.contributors += contributors;
  ++of.count;
  ++count_;
  return OkStatus();
}

void CohortSums::Clear() {
  versions_.clear();
  count_ = 0;
}

bool IsOver(const TaskSpec& task, const RoundProgress& progress) {
  const uint32_t enough = task.server.buffered_sums;
  return progress.all_ended || (enough > 0 && progress.sums >= enough);
}

Result<NextModel> ComputeNext(const TaskSpec& task, const ServerState& state,
                              const CohortSums& sums, RoundReport& report) {
  if (sums.count() < std::max(task.server.buffered_sums, 1U)) {
    return Aborted("there are " + std::to_string(sums.count()) +
                   " sums of server.buffered_sums; they count in a later round");
  }
  NextModel next{.state = state, .cells = {}};
  ++next.state.version;
  if (!task.queries.empty()) {
    CHORUS_TRY(CountExactly(sums, next.cells, report));
    return next;
  }
  const std::vector<Counted> counted = CountedOf(task, state.version, sums);
  if (counted.empty()) return Aborted("every sum is older than server.staleness_max allows");
  const bool robust = task.server.robust != RobustRule::kMean;
  CHORUS_TRY_ASSIGN(const Combined combined,
                    robust ? CombineRobust(task, counted) : CombineMean(sums, counted));
  CHORUS_TRY(MoveModel(task, combined, next.state));
  CHORUS_TRY(CheckFinite(next.state));
  report.contributors = combined.contributors;
  report.cohorts_committed = combined.sums;
  report.examples = combined.examples;
  report.evaluated = combined.fresh.evaluated;
  report.accuracy = combined.fresh.accuracy;
  report.loss = combined.fresh.loss;
  return next;
}

}  // namespace chorus::coordinator
