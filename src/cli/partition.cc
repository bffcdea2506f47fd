#include "cli/partition.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <numeric>
#include <queue>
#include <string>
#include <utility>

#include "base/codec.h"
#include "crypto/crypto.h"

namespace chorus::cli {
namespace {

struct Named {
  PartitionKind kind;
  std::string_view name;
};
constexpr std::array<Named, 5> kKinds = {{{PartitionKind::kIid, "iid"},
                                          {PartitionKind::kShards, "shards"},
                                          {PartitionKind::kDirichlet, "dirichlet"},
                                          {PartitionKind::kColumn, "column"},
                                          {PartitionKind::kFile, "file"}}};

void Shuffle(Indices& order, Rng& rng) {
  for (size_t left = order.size(); left > 1; --left) {
    std::swap(order[left - 1], order[UniformBelow(rng, left)]);
  }
}

// Uniform in (0, 1], so that its logarithm is finite.
double UniformAboveZero(Rng& rng) { return 1 - UniformUnit(rng); }

// Standard normal [BM58].
double Normal(Rng& rng) {
  const double radius = std::sqrt(-2 * std::log(UniformAboveZero(rng)));
  return radius * std::cos(2 * std::numbers::pi * UniformUnit(rng));
}

// The logarithm of a draw from Gamma(shape, 1) [MT00]. Below shape 1 it is a draw at shape + 1
// times U^(1/shape), which underflows for small shapes unless taken in logarithms.
double LogGamma(double shape, Rng& rng) {
  double boost = 0;
  if (shape < 1) {
    boost = std::log(UniformAboveZero(rng)) / shape;
    shape += 1;
  }
  const double d = shape - 1.0 / 3.0;
  const double c = 1 / std::sqrt(9 * d);
  while (true) {
    const double x = Normal(rng);
    const double root = 1 + c * x;
    if (root <= 0) continue;
    const double v = root * root * root;
    const double log_u = std::log(UniformAboveZero(rng));
    if (log_u < 0.5 * x * x + d - d * v + d * std::log(v)) return boost + std::log(d * v);
  }
}

}  // namespace

Result<PartitionKind> ParsePartitionKind(std::string_view text) {
  for (const Named& named : kKinds) {
    if (named.name == text) return named.kind;
  }
  return InvalidArgument("there is no partition \"" + std::string(text) +
                         "\"; choose iid, shards, dirichlet, column or file");
}

std::string_view PartitionName(PartitionKind kind) {
  for (const Named& named : kKinds) {
    if (named.kind == kind) return named.name;
  }
  return "";
}

std::unique_ptr<Rng> NewPartitionRng(uint64_t seed) {
  Writer writer;
  writer.U64(seed);
  return crypto::NewSeededRng(crypto::LabeledHash("CHORUS1/split", {writer.view()}));
}

std::vector<double> DrawDirichlet(double alpha, size_t count, Rng& rng) {
  std::vector<double> proportions(count);
  for (double& value : proportions) value = LogGamma(alpha, rng);
  const double largest = *std::max_element(proportions.begin(), proportions.end());
  double sum = 0;
  for (double& value : proportions) {
    value = std::exp(value - largest);
    sum += value;
  }
  for (double& value : proportions) value /= sum;
  return proportions;
}

Partition DealEvenly(size_t examples, uint32_t clients, Rng& rng) {
  Indices order(examples);
  std::iota(order.begin(), order.end(), uint32_t{0});
  Shuffle(order, rng);
  Partition partition(clients);
  for (size_t i = 0; i < order.size(); ++i) partition[i % clients].push_back(order[i]);
  return partition;
}

Partition DealShards(std::span<const uint32_t> labels, uint32_t clients, uint32_t shards,
                     Rng& rng) {
  Indices order(labels.size());
  std::iota(order.begin(), order.end(), uint32_t{0});
  // Shuffled first, so that which examples of a class lie together follows the seed as well.
  Shuffle(order, rng);
  std::stable_sort(order.begin(), order.end(),
                   [labels](uint32_t a, uint32_t b) { return labels[a] < labels[b]; });
  const uint64_t pieces = uint64_t{clients} * shards;
  Indices dealt(pieces);
  std::iota(dealt.begin(), dealt.end(), uint32_t{0});
  Shuffle(dealt, rng);
  Partition partition(clients);
  for (uint64_t i = 0; i < pieces; ++i) {
    const uint64_t piece = dealt[i];
    const auto begin = static_cast<ptrdiff_t>(piece * order.size() / pieces);
    const auto end = static_cast<ptrdiff_t>((piece + 1) * order.size() / pieces);
    Indices& own = partition[i / shards];
    own.insert(own.end(), order.begin() + begin, order.begin() + end);
  }
  return partition;
}

// Cuts each class where the running sum of its proportions says, so that roundings never add up to
// an example lost or given twice.
Partition DealByDirichlet(std::span<const uint32_t> labels, uint32_t clients, double alpha,
                          Rng& rng) {
  uint32_t classes = 0;
  for (const uint32_t label : labels) classes = std::max(classes, label + 1);
  std::vector<Indices> by_class(classes);
  for (size_t i = 0; i < labels.size(); ++i) {
    by_class[labels[i]].push_back(static_cast<uint32_t>(i));
  }
  Partition partition(clients);
  for (Indices& members : by_class) {
    Shuffle(members, rng);
    const std::vector<double> proportions = DrawDirichlet(alpha, clients, rng);
    double reached = 0;
    size_t begin = 0;
    for (uint32_t client = 0; client < clients; ++client) {
      reached += proportions[client];
      const auto exact = static_cast<size_t>(
          std::llround(std::min(reached, 1.0) * static_cast<double>(members.size())));
      const size_t end = client + 1 == clients ? members.size() : std::max(begin, exact);
      Indices& own = partition[client];
      own.insert(own.end(), members.begin() + static_cast<ptrdiff_t>(begin),
                 members.begin() + static_cast<ptrdiff_t>(end));
      begin = end;
    }
  }
  return partition;
}

void RaiseToMinimum(Partition& partition, uint32_t examples_min, Rng& rng) {
  std::priority_queue<std::pair<size_t, size_t>> richest;  // (examples, client)
  for (size_t i = 0; i < partition.size(); ++i) richest.emplace(partition[i].size(), i);
  for (Indices& poor : partition) {
    while (poor.size() < examples_min) {
      // Those who are given to stay below the minimum, so an entry that leads is never out of date.
      Indices& rich = partition[richest.top().second];
      const size_t client = richest.top().second;
      richest.pop();
      std::swap(rich.back(), rich[UniformBelow(rng, rich.size())]);
      poor.push_back(rich.back());
      rich.pop_back();
      richest.emplace(rich.size(), client);
    }
  }
}

}  // namespace chorus::cli
