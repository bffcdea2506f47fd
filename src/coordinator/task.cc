// What a coordinator requires of a task (ValidateTask of chorus/coordinator.h).
#include <algorithm>
#include <cmath>
#include <string>
#include <string_view>
#include <utility>

#include "aggregation/protocols.h"
#include "base/limits.h"
#include "chorus/coordinator.h"
#include "coordinator/committee.h"
#include "coordinator/outcome.h"
#include "learning/analytics.h"
#include "learning/learning.h"
#include "learning/robust.h"
#include "learning/server_optimizer.h"
#include "math/math.h"

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

uint32_t LargestTarget(const CohortSpec& cohort) {
  return cohort.target == 0 ? cohort.maximum : cohort.target;
}

Status CheckCohort(Protocol protocol, const CohortSpec& cohort) {
  if (cohort.minimum == 0) return InvalidArgument("cohort.minimum must be at least 1");
  if (cohort.target != 0 && cohort.target < cohort.minimum) {
    return InvalidArgument(
        "cohort.target must be at least cohort.minimum; leave it out for as many as there are");
  }
  if (cohort.maximum < std::max(cohort.minimum, cohort.target)) {
    return InvalidArgument("cohort.maximum must be at least cohort.minimum and cohort.target");
  }
  const uint32_t largest =
      protocol == Protocol::kOneShot ? limits::kOneShotCohortMax : limits::kCohortMax;
  if (cohort.maximum > largest) {
    return InvalidArgument("cohort.maximum must be at most " + std::to_string(largest));
  }
  if (cohort.parallel == 0 || cohort.parallel > limits::kParallelCohortsMax) {
    return InvalidArgument("cohort.parallel must be between 1 and " +
                           std::to_string(limits::kParallelCohortsMax));
  }
  if (uint64_t{cohort.parallel} * LargestTarget(cohort) > limits::kSessionsMax) {
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

// What a robust rule needs, and what does not go with it.
Status CheckRobust(const ServerSpec& server, const CohortSpec& cohort) {
  if (server.robust > RobustRule::kBulyan) {
    return InvalidArgument("server.robust is not one that this version knows");
  }
  if (server.robust == RobustRule::kMean) {
    if (server.byzantine == 0) return OkStatus();
    return InvalidArgument(
        "server.byzantine is a number of spoilt cohorts that a mean cannot bear; set server.robust,"
        " or leave it 0");
  }
  const bool buffered = server.buffered_sums > 0;
  const uint32_t sums = buffered ? server.buffered_sums : cohort.parallel;
  const uint64_t needed = learning::MeansNeeded(server.robust, server.byzantine);
  if (sums >= needed) return OkStatus();
  const std::string field = buffered ? "server.buffered_sums" : "cohort.parallel";
  return InvalidArgument(field + " is " + std::to_string(sums) + ", but server.robust with " +
                         std::to_string(server.byzantine) + " of server.byzantine needs " +
                         std::to_string(needed) + " cohorts or more");
}

Status CheckBuffered(const TaskSpec& task) {
  const ServerSpec& server = task.server;
  if (server.staleness_max > limits::kStalenessMax) {
    return InvalidArgument("server.staleness_max must be at most " +
                           std::to_string(limits::kStalenessMax));
  }
  if (server.buffered_sums == 0) return OkStatus();
  if (server.buffered_sums > task.cohort.parallel) {
    return InvalidArgument("server.buffered_sums must be at most cohort.parallel, which is " +
                           std::to_string(task.cohort.parallel));
  }
  // c is the mean of the clients' control variates only if every change counts, once and in full.
  if (task.training.scaffold) {
    return InvalidArgument(
        "server.buffered_sums cannot be combined with training.scaffold, whose control variates"
        " may not be weighted down");
  }
  return OkStatus();
}

Status CheckServer(const TaskSpec& task) {
  CHORUS_TRY(learning::ValidateServerOptimizer(task.server));
  CHORUS_TRY(CheckRobust(task.server, task.cohort));
  CHORUS_TRY(CheckBuffered(task));
  // Each device moves its own variate by all that it sent; a rule that leaves some of that out
  // would let c drift from their mean [KKMRSS20, algorithm 1].
  if (task.training.scaffold && task.server.robust != RobustRule::kMean) {
    return InvalidArgument(
        "server.robust cannot be combined with training.scaffold, whose control variates need every"
        " change to count; leave server.robust out");
  }
  const bool plain_mean = task.server.robust == RobustRule::kMean && task.server.buffered_sums == 0;
  if (task.training.fairness_q > 0 && !plain_mean) {
    return InvalidArgument(
        "training.fairness_q cannot be combined with server.robust or server.buffered_sums: its"
        " step is a quotient of two sums");
  }
  const uint64_t clients = uint64_t{LargestTarget(task.cohort)} * task.cohort.parallel;
  if (task.training.scaffold && task.training.population < clients) {
    return InvalidArgument(
        "training.population must be at least cohort.target (or else cohort.maximum) * "
        "cohort.parallel, " +
        std::to_string(clients) + ", with training.scaffold");
  }
  if (!std::isfinite(task.server_learning_rate) || task.server_learning_rate <= 0) {
    return InvalidArgument("server_learning_rate must be finite and above 0");
  }
  return OkStatus();
}

// Federated analytics trains nothing, so that whatever speaks of training is a mistake.
Status CheckAnalytics(const TaskSpec& task) {
  const ModelSpec& model = task.model;
  if (model.inputs != 0 || !model.layers.empty() || model.custom_parameters != 0) {
    return InvalidArgument("model must be left out of a task with queries");
  }
  if (task.training.scaffold || task.training.fairness_q > 0) {
    return InvalidArgument("training.scaffold and training.fairness_q do not go with queries");
  }
  const ServerSpec& server = task.server;
  if (server.robust != RobustRule::kMean || server.byzantine > 0 || server.buffered_sums > 0) {
    return InvalidArgument(
        "server.robust, server.byzantine and server.buffered_sums do not go with queries, whose"
        " sums are exact");
  }
  return learning::ValidateQueries(task.queries, task.encoding);
}

Status CheckLearning(const TaskSpec& task) {
  CHORUS_TRY(InField("model", learning::ValidateModel(task.model)));
  CHORUS_TRY(InField("training", learning::ValidateTraining(task.training)));
  if (learning::SharedCount(task.model) == 0) {
    return InvalidArgument(
        "model: every layer is personal, so that there is nothing to learn"
        " together; let one be shared");
  }
  return CheckServer(task);
}

// Whether sums fit the ring, in one cohort and over all.
Status CheckEncoding(const TaskSpec& task) {
  const uint64_t dim = learning::ContributionDim(task);
  CHORUS_TRY_ASSIGN(const math::FixedPoint encoding,
                    math::FixedPointFor(dim, task.clip, task.encoding, task.cohort.maximum));
  CHORUS_TRY(InField("encoding.bound",
                     math::CheckNoWrap(task.cohort.maximum, task.encoding.bound, encoding.bits)));
  const uint32_t contributors_max = coordinator::ContributorsMax(task);
  return InField("cohort.parallel",
                 math::FixedPointFor(dim, task.clip, task.encoding, contributors_max).status());
}

}  // namespace

Status ValidateTask(const TaskSpec& task) {
  CHORUS_TRY(CheckName(task.name));
  CHORUS_TRY(CheckCohort(task.protocol, task.cohort));
  CHORUS_TRY(task.queries.empty() ? CheckLearning(task) : CheckAnalytics(task));
  CHORUS_TRY(CheckEncoding(task));
  if (task.protocol == Protocol::kSecAgg) {
    CHORUS_TRY(CheckSecAgg(task.secagg, task.cohort));
  } else if (task.protocol == Protocol::kOneShot) {
    CHORUS_TRY(coordinator::CheckOneShot(task));
  } else if (task.protocol != Protocol::kPlain) {
    return InvalidArgument("protocol is not one that this version knows");
  }
  CHORUS_TRY(CheckDeadlines(task.deadlines));
  if (task.rounds == 0 || task.rounds > limits::kRoundsMax) {
    return InvalidArgument("rounds must be between 1 and " + std::to_string(limits::kRoundsMax));
  }
  return OkStatus();
}

}  // namespace chorus
