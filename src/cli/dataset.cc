#include "cli/dataset.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <memory>
#include <numeric>
#include <optional>
#include <span>
#include <utility>

#include "base/limits.h"
#include "cli/data.h"
#include "cli/pool.h"
#include "learning/learning.h"

namespace chorus::cli {
namespace {

constexpr uint32_t kTestPercentMax = 90;
constexpr double kAlphaMin = 1e-6;
constexpr double kAlphaMax = 1e6;

Status CheckChoice(std::string_view option, const std::string& value,
                   std::span<const std::string_view> choices) {
  if (std::find(choices.begin(), choices.end(), value) != choices.end()) return OkStatus();
  std::string text = std::string(option) + " is one of";
  for (const std::string_view choice : choices) text.append(" ").append(choice);
  return InvalidArgument(text + ", and not \"" + value + "\"");
}

// Options of which one would be ignored beside the partition.
Status CheckPartition(const DataOptions& options, PartitionKind kind) {
  const bool natural = kind == PartitionKind::kColumn || kind == PartitionKind::kFile;
  if (options.test_clients_percent > 0 && !natural) {
    return InvalidArgument("--test-clients draws among natural clients, and the partition \"" +
                           std::string(PartitionName(kind)) +
                           "\" makes them up; choose --partition column or file, or hold examples"
                           " back with --test-percent");
  }
  if (!options.text.empty() && kind == PartitionKind::kFile) {
    return InvalidArgument(
        "--partition file is not for --text, whose clients are the users; name their field with"
        " --user and choose --partition column");
  }
  return OkStatus();
}

Status CheckOptions(const DataOptions& options) {
  static constexpr std::array<std::string_view, 3> kMissings = {"refuse", "skip", "mean"};
  static constexpr std::array<std::string_view, 4> kScales = {"none", "train", "all", "client"};
  if (options.paths.empty()) return InvalidArgument("name the data with --data");
  CHORUS_TRY(CheckChoice("--when-missing", options.when_missing, kMissings));
  CHORUS_TRY(CheckChoice("--standardise", options.standardise, kScales));
  if (options.test_percent > kTestPercentMax) {
    return InvalidArgument("--test-percent is at most " + std::to_string(kTestPercentMax));
  }
  if (options.test_clients_percent > kTestPercentMax) {
    return InvalidArgument("--test-clients is at most " + std::to_string(kTestPercentMax));
  }
  if (options.test_clients_percent > 0 && !options.test_paths.empty()) {
    return InvalidArgument("the test set is either --test or some of the clients, --test-clients");
  }
  if (options.clients == 0 || options.shards == 0) {
    return InvalidArgument("--clients and --shards are at least 1");
  }
  if (!(options.alpha >= kAlphaMin && options.alpha <= kAlphaMax)) {
    return InvalidArgument("--alpha is from 0.000001 to 1000000");
  }
  if (!options.text.empty() && options.standardise != "none") {
    return InvalidArgument("--standardise is for numbers, and tokens are none");
  }
  return OkStatus();
}

Result<Wanted> WantedBy(const ModelSpec& model, const DataOptions& options) {
  Wanted wanted;
  if (model.layers.empty()) {
    wanted.labels = !options.labels.empty();
    return wanted;
  }
  CHORUS_TRY(learning::ValidateModel(model));
  const uint32_t outputs = learning::OutputCount(model);
  if (model.loss == Loss::kNextToken) {
    if (options.text.empty()) {
      return InvalidArgument(
          "a model with next-token loss learns from text; name the field with"
          " --text");
    }
    wanted.window = model.inputs;
    wanted.tokens = model.layers.front().vocabulary;
  } else if (model.loss == Loss::kCrossEntropy) {
    wanted.labels = true;
    wanted.classes = outputs;
  } else if (model.loss == Loss::kBinaryCrossEntropy && outputs == 1) {
    wanted.labels = true;
    wanted.classes = 2;
  } else {
    wanted.targets = outputs;
  }
  return wanted;
}

bool IsJson(const std::string& path) {
  return path.ends_with(".jsonl") || path.ends_with(".jsonl.gz") || path.ends_with(".ndjson");
}

Status ReadTableFile(const DataOptions& options, const std::string& path, uint64_t rows_max,
                     Table& table) {
  if (IsJson(path)) return ReadJsonLines(options, path, rows_max, table);
  return ReadCsv(options, path, rows_max, table);
}

Result<Pool> ReadPool(const DataOptions& options, const Wanted& wanted) {
  if (!options.text.empty()) return PoolOfText(options, wanted);
  std::error_code error;
  if (std::filesystem::is_directory(options.paths[0], error)) return PoolOfIdx(options, wanted);
  CHORUS_TRY_ASSIGN(Table table, PlanTable(options, wanted));
  for (const std::string& path : options.paths) {
    const uint64_t left =
        options.examples_max == 0 ? UINT64_MAX : options.examples_max - table.rows();
    CHORUS_TRY(ReadTableFile(options, path, left, table));
  }
  table.test_begin = table.rows();
  for (const std::string& path : options.test_paths) {
    CHORUS_TRY(ReadTableFile(options, path, UINT64_MAX, table));
  }
  return PoolOfTable(options, wanted, std::move(table));
}

// Whose row is whose: indices of the pool.
struct Dealt {
  std::vector<std::string> names;
  Partition train;
  Partition test;  // [clients]
  Indices common;  // test rows that are nobody's
};

// Takes so many clients out of the training, and all their rows into the common test set.
void DrawTestClients(const DataOptions& options, Dealt& dealt) {
  for (const uint32_t client : TestClients(options, static_cast<uint32_t>(dealt.train.size()))) {
    for (Partition* const part : {&dealt.train, &dealt.test}) {
      Indices& rows = (*part)[client];
      dealt.common.insert(dealt.common.end(), rows.begin(), rows.end());
      rows.clear();
    }
  }
  std::sort(dealt.common.begin(), dealt.common.end());
}

Result<Dealt> DealNaturally(const DataOptions& options, PartitionKind kind, const Pool& pool) {
  if (pool.user.empty()) {
    return InvalidArgument("the partition \"" + std::string(PartitionName(kind)) +
                           "\" needs a user of every row; name the column with --user, or choose"
                           " another --partition");
  }
  const bool files = kind == PartitionKind::kFile;
  Dealt dealt;
  dealt.train.resize(pool.users.size());
  dealt.test.resize(pool.users.size());
  for (uint32_t row = 0; row < pool.test_begin; ++row) {
    const bool held_out = !pool.held_out.empty() && pool.held_out[row] != 0;
    (held_out ? dealt.test : dealt.train)[pool.user[row]].push_back(row);
  }
  Indices apart(pool.rows() - pool.test_begin);
  std::iota(apart.begin(), apart.end(), static_cast<uint32_t>(pool.test_begin));
  if (options.test_clients_percent > 0) {
    DrawTestClients(options, dealt);
  } else if (apart.empty() && pool.held_out.empty()) {
    for (size_t client = 0; client < dealt.train.size(); ++client) {
      Indices& train = dealt.train[client];
      const size_t kept = train.size() - train.size() * options.test_percent / 100;
      dealt.test[client].assign(train.begin() + static_cast<ptrdiff_t>(kept), train.end());
      train.resize(kept);
    }
  }
  // Clients with too little to train on go; a test set of its own stays whole.
  size_t kept = 0;
  std::vector<uint32_t> now(pool.users.size(), kNoValue);
  for (uint32_t client = 0; client < pool.users.size(); ++client) {
    if (dealt.train[client].size() < std::max(options.examples_min, 1U)) continue;
    now[client] = static_cast<uint32_t>(kept);
    std::swap(dealt.train[kept], dealt.train[client]);
    std::swap(dealt.test[kept], dealt.test[client]);
    dealt.names.push_back(files ? std::filesystem::path(pool.users[client]).filename().string()
                                : pool.users[client]);
    ++kept;
  }
  dealt.train.resize(kept);
  dealt.test.resize(kept);
  for (const uint32_t row : apart) {
    const uint32_t client = files ? kNoValue : now[pool.user[row]];
    (client == kNoValue ? dealt.common : dealt.test[client]).push_back(row);
  }
  if (kept > 0) return dealt;
  return InvalidArgument("no client has " + std::to_string(options.examples_min) +
                         " examples to train on; lower --examples-min");
}

Status CheckDealing(const DataOptions& options, PartitionKind kind, size_t rows, const Pool& pool) {
  if (kind != PartitionKind::kIid && pool.examples.labels.empty()) {
    return InvalidArgument("the partition \"" + std::string(PartitionName(kind)) +
                           "\" goes by class labels and the data has none; choose another");
  }
  const uint64_t pieces =
      uint64_t{options.clients} * (kind == PartitionKind::kShards ? options.shards : 1);
  if (pieces > rows || uint64_t{options.clients} * options.examples_min > rows) {
    return InvalidArgument("the data has " + std::to_string(rows) + " examples to deal out, too" +
                           " few for " + std::to_string(options.clients) +
                           " clients; ask for fewer with --clients");
  }
  return OkStatus();
}

Result<Dealt> DealBySeed(const DataOptions& options, PartitionKind kind, const Pool& pool) {
  Dealt dealt;
  Indices rows;
  for (uint32_t row = 0; row < pool.rows(); ++row) {
    const bool held_out =
        row >= pool.test_begin || (!pool.held_out.empty() && pool.held_out[row] != 0);
    (held_out ? dealt.common : rows).push_back(row);
  }
  CHORUS_TRY(CheckDealing(options, kind, rows.size(), pool));
  std::vector<uint32_t> labels;
  if (kind != PartitionKind::kIid) {
    for (const uint32_t row : rows) labels.push_back(pool.examples.labels[row]);
  }
  const std::unique_ptr<Rng> rng = NewPartitionRng(options.seed);
  dealt.train = kind == PartitionKind::kIid ? DealEvenly(rows.size(), options.clients, *rng)
                : kind == PartitionKind::kShards
                    ? DealShards(labels, options.clients, options.shards, *rng)
                    : DealByDirichlet(labels, options.clients, options.alpha, *rng);
  RaiseToMinimum(dealt.train, std::max(options.examples_min, 1U), *rng);
  dealt.test.resize(options.clients);
  for (uint32_t client = 0; client < options.clients; ++client) {
    dealt.names.push_back(ClientName(client, options.clients));
    Indices& train = dealt.train[client];
    for (uint32_t& index : train) index = rows[index];
    std::sort(train.begin(), train.end());
    if (!dealt.common.empty()) continue;
    const size_t kept = train.size() - train.size() * options.test_percent / 100;
    dealt.test[client].assign(train.begin() + static_cast<ptrdiff_t>(kept), train.end());
    train.resize(kept);
  }
  return dealt;
}

void Gather(const Pool& pool, std::span<const uint32_t> rows, Examples& out) {
  const Examples& from = pool.examples;
  const size_t targets = from.targets.size() / std::max<size_t>(pool.rows(), 1);
  const auto append = [](const std::vector<float>& values, size_t row, size_t width,
                         std::vector<float>& to) {
    const auto begin = values.begin() + static_cast<ptrdiff_t>(row * width);
    to.insert(to.end(), begin, begin + static_cast<ptrdiff_t>(width));
  };
  for (const uint32_t row : rows) {
    append(from.features, row, from.inputs, out.features);
    if (!from.labels.empty()) out.labels.push_back(from.labels[row]);
    append(from.targets, row, targets, out.targets);
  }
}

DataSet Group(Pool pool, Dealt dealt) {
  DataSet data;
  data.train.inputs = pool.examples.inputs;
  data.test.inputs = pool.examples.inputs;
  const auto group = [&pool](const Partition& partition, Examples& examples,
                             std::vector<Rows>& rows_of) {
    size_t total = 0;
    for (const Indices& rows : partition) total += rows.size();
    examples.features.reserve(total * pool.examples.inputs);
    for (const Indices& rows : partition) {
      rows_of.push_back({.begin = static_cast<uint32_t>(examples.count()),
                         .count = static_cast<uint32_t>(rows.size())});
      Gather(pool, rows, examples);
    }
  };
  group(dealt.train, data.train, data.train_of);
  group(dealt.test, data.test, data.test_of);
  if (data.test.count() == 0) data.test_of.clear();
  Gather(pool, dealt.common, data.test);
  data.clients = std::move(dealt.names);
  data.features = std::move(pool.features);
  data.classes = std::move(pool.classes);
  data.vocabulary = std::move(pool.vocabulary);
  return data;
}

// Rows of one set of examples, to be scaled together.
struct Part {
  Examples* examples = nullptr;
  Rows rows;
};

// Mean and deviation of the numbers that are there, in double.
struct Moments {
  double mean = 0;
  double deviation = 1;
};
Moments MomentsOf(std::span<const Part> parts, size_t feature) {
  double sum = 0;
  double squares = 0;
  uint64_t count = 0;
  // Two passes: the squares are of what is left beside the mean.
  for (const bool second : {false, true}) {
    const double mean = count == 0 ? 0 : sum / static_cast<double>(count);
    for (const Part& part : parts) {
      const size_t inputs = part.examples->inputs;
      for (size_t row = part.rows.begin; row < size_t{part.rows.begin} + part.rows.count; ++row) {
        const double value = part.examples->features[row * inputs + feature];
        if (std::isnan(value)) continue;
        if (second) {
          squares += (value - mean) * (value - mean);
        } else {
          sum += value;
          ++count;
        }
      }
    }
  }
  if (count == 0) return {};
  const double deviation = std::sqrt(squares / static_cast<double>(count));
  return {.mean = sum / static_cast<double>(count), .deviation = deviation > 0 ? deviation : 1};
}

template <typename Change>
void ForEach(std::span<const Part> parts, size_t feature, const Change& change) {
  for (const Part& part : parts) {
    const size_t inputs = part.examples->inputs;
    for (size_t row = part.rows.begin; row < size_t{part.rows.begin} + part.rows.count; ++row) {
      float& value = part.examples->features[row * inputs + feature];
      value = change(value);
    }
  }
}

// Puts features[of] - mean over deviation in place in `to`, by the moments of `from`.
void Scale(std::span<const Part> from, std::span<const Part> to,
           const std::vector<uint8_t>& scalable) {
  const size_t inputs = from.empty() ? 0 : from[0].examples->inputs;
  for (size_t feature = 0; feature < inputs; ++feature) {
    if (!scalable.empty() && scalable[feature] == 0) continue;
    const Moments moments = MomentsOf(from, feature);
    ForEach(to, feature, [&moments](float value) {
      return static_cast<float>((value - moments.mean) / moments.deviation);
    });
  }
}

Part Whole(Examples& examples) {
  return {.examples = &examples,
          .rows = {.begin = 0, .count = static_cast<uint32_t>(examples.count())}};
}

void FillMissing(DataSet& data) {
  const std::array<Part, 1> train = {Whole(data.train)};
  const std::array<Part, 2> both = {Whole(data.train), Whole(data.test)};
  for (size_t feature = 0; feature < data.train.inputs; ++feature) {
    const double mean = MomentsOf(train, feature).mean;
    ForEach(both, feature,
            [mean](float value) { return std::isnan(value) ? static_cast<float>(mean) : value; });
  }
}

Status ScaleFeatures(const DataOptions& options, const std::vector<uint8_t>& scalable,
                     DataSet& data) {
  if (options.when_missing == "mean") FillMissing(data);
  const std::array<Part, 2> both = {Whole(data.train), Whole(data.test)};
  if (options.standardise == "all") Scale(both, both, scalable);
  if (options.standardise == "train") Scale(std::span(both).first(1), both, scalable);
  if (options.standardise != "client") return OkStatus();
  size_t owned = 0;
  for (const Rows& rows : data.test_of) owned += rows.count;
  if (owned != data.test.count()) {
    return InvalidArgument(
        "--standardise client scales the clients' own test examples, and the"
        " test set is apart from them; choose train or all");
  }
  for (size_t client = 0; client < data.train_of.size(); ++client) {
    const Rows test = data.test_of.empty() ? Rows() : data.test_of[client];
    const std::array<Part, 2> own = {Part{&data.train, data.train_of[client]},
                                     Part{&data.test, test}};
    Scale(std::span(own).first(1), own, scalable);
  }
  return OkStatus();
}

}  // namespace

std::vector<uint32_t> TestClients(const DataOptions& options, uint32_t clients) {
  std::vector<uint32_t> drawn;
  const uint64_t count = uint64_t{clients} * options.test_clients_percent / 100;
  if (count == 0) return drawn;
  const std::unique_ptr<Rng> rng = NewPartitionRng(options.seed);
  // Dealt out to one each, the order is a shuffle.
  const Partition order = DealEvenly(clients, clients, *rng);
  for (uint64_t i = 0; i < count; ++i) drawn.push_back(order[i].front());
  return drawn;
}

Result<DataSet> ReadDataSet(const DataOptions& options, const ModelSpec& model) {
  CHORUS_TRY(CheckOptions(options));
  CHORUS_TRY_ASSIGN(const PartitionKind kind, ParsePartitionKind(options.partition));
  CHORUS_TRY(CheckPartition(options, kind));
  CHORUS_TRY_ASSIGN(const Wanted wanted, WantedBy(model, options));
  CHORUS_TRY_ASSIGN(Pool pool, ReadPool(options, wanted));
  if (pool.test_begin == 0) return InvalidArgument("the data has no rows that can be used");
  if (!model.layers.empty() && pool.examples.inputs != model.inputs) {
    return InvalidArgument("the data has " + std::to_string(pool.examples.inputs) +
                           " features for each example and the model takes " +
                           std::to_string(model.inputs) +
                           "; choose others with --features and --ignore, or change the task");
  }
  const bool natural = kind == PartitionKind::kColumn || kind == PartitionKind::kFile;
  CHORUS_TRY_ASSIGN(Dealt dealt,
                    natural ? DealNaturally(options, kind, pool) : DealBySeed(options, kind, pool));
  const std::vector<uint8_t> scalable = pool.scalable;
  DataSet data = Group(std::move(pool), std::move(dealt));
  if (data.test.count() == 0 && options.test_percent > 0) {
    return InvalidArgument(
        "no client has examples enough to hold one of them back for testing;"
        " name a test set with --test, or set --test-percent to 0");
  }
  CHORUS_TRY(ScaleFeatures(options, scalable, data));
  if (!model.layers.empty()) {
    CHORUS_TRY(learning::CheckExamples(model, data.train));
    if (data.test.count() > 0) CHORUS_TRY(learning::CheckExamples(model, data.test));
  }
  return data;
}

Population PopulationOf(const DataSet& data) {
  return {.train = &data.train,
          .train_of = data.train_of,
          .test = data.test.count() == 0 ? nullptr : &data.test,
          .test_of = data.test_of};
}

std::string PartitionTable(const DataSet& data, uint32_t lines_max) {
  constexpr size_t kClassesShown = 20;
  constexpr size_t kNameMax = 28;
  const size_t clients = data.clients.size();
  const size_t classes = data.train.labels.empty() ? 0 : data.classes.size();
  const bool each = classes > 0 && classes <= kClassesShown;
  std::string table = std::to_string(clients) + " clients, " + std::to_string(data.train.count()) +
                      " examples to train on, " + std::to_string(data.test.count()) +
                      " to test on, " + std::to_string(data.train.inputs) + " features";
  if (classes > 0) table += ", " + std::to_string(classes) + " classes";
  if (!data.vocabulary.empty()) {
    table += ", " + std::to_string(data.vocabulary.size()) + " tokens";
  }
  table += "\n";
  const auto append = [&table](std::string text, size_t width) {
    if (text.size() > width - 1) text = text.substr(0, width - 1);
    table.append(width - text.size(), ' ').append(text);
  };
  size_t name_width = 6;
  for (const std::string& name : data.clients) name_width = std::max(name_width, name.size());
  name_width = std::min(name_width, kNameMax) + 1;
  append("client", name_width);
  append("train", 8);
  append("test", 8);
  for (size_t i = 0; each && i < classes; ++i) append(data.classes[i], 7);
  if (classes > 0 && !each) append("classes", 9);
  table += "\n";
  for (size_t client = 0; client < clients; ++client) {
    if (client >= lines_max && client + 1 < clients) {
      if (client == lines_max) table += "  ...\n";
      continue;
    }
    const Rows rows = data.train_of[client];
    append(data.clients[client], name_width);
    append(std::to_string(rows.count), 8);
    append(data.test_of.empty() ? "-" : std::to_string(data.test_of[client].count), 8);
    std::vector<uint32_t> counts(classes);
    for (uint32_t row = rows.begin; classes > 0 && row < rows.begin + rows.count; ++row) {
      ++counts[data.train.labels[row]];
    }
    for (size_t i = 0; each && i < classes; ++i) append(std::to_string(counts[i]), 7);
    if (classes > 0 && !each) {
      append(std::to_string(classes -
                            static_cast<size_t>(std::count(counts.begin(), counts.end(), 0U))),
             9);
    }
    table += "\n";
  }
  return table;
}

}  // namespace chorus::cli
