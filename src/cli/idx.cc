// Folders of IDX files: a pair to train on and, under the prefix t10k- or test-, one to test on.
#include <algorithm>
#include <filesystem>
#include <optional>
#include <string>

#include "base/limits.h"
#include "cli/pool.h"
#include "client/example_store.h"

namespace chorus::cli {
namespace {

struct Pair {
  std::string images;
  std::string labels;
};
struct Pairs {
  std::vector<Pair> train;
  std::vector<Pair> test;
};

// The prefix of PREFIX + stem + "-idx" + rank + "-ubyte" [+ ".gz"].
std::optional<std::string> PrefixOf(std::string name, const std::string& stem) {
  if (name.ends_with(".gz")) name.resize(name.size() - 3);
  constexpr size_t kTail = 11;  // of "-idx3-ubyte"
  if (name.size() < stem.size() + kTail || !name.ends_with("-ubyte")) return std::nullopt;
  const size_t tail = name.size() - kTail;
  const char rank = name[tail + 4];
  if (name.compare(tail, 4, "-idx") != 0 || rank < '1' || rank > '8') return std::nullopt;
  const size_t begin = tail - stem.size();
  if (name.compare(begin, stem.size(), stem) != 0) return std::nullopt;
  return name.substr(0, begin);
}

Result<Pairs> FindPairs(const std::string& folder) {
  std::error_code error;
  std::vector<std::filesystem::path> files;
  for (std::filesystem::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    files.push_back(entry->path());
  }
  if (error) {
    return NotFound(folder + " cannot be read: " + error.message() +
                    "; name a folder of IDX files");
  }
  std::sort(files.begin(), files.end());
  Pairs pairs;
  for (const auto& images : files) {
    const auto prefix = PrefixOf(images.filename().string(), "images");
    if (!prefix.has_value()) continue;
    const auto labels = std::find_if(files.begin(), files.end(), [&](const auto& file) {
      return PrefixOf(file.filename().string(), "labels") == prefix;
    });
    if (labels == files.end()) {
      return NotFound(images.string() + " has no labels file beside it; add " + *prefix +
                      "labels-idx1-ubyte");
    }
    const bool test = prefix->starts_with("t10k") || prefix->starts_with("test");
    (test ? pairs.test : pairs.train).push_back({images.string(), labels->string()});
  }
  return pairs;
}

Status AppendPair(const Pair& pair, const Wanted& wanted, uint64_t rows_max, Pool& pool) {
  CHORUS_TRY_ASSIGN(const client::IdxFile labels, client::ReadIdx(pair.labels));
  CHORUS_TRY_ASSIGN(const client::IdxFile images, client::ReadIdx(pair.images));
  const uint64_t count = images.dimensions[0];
  if (labels.dimensions.size() != 1 || labels.dimensions[0] != count || count == 0) {
    return InvalidArgument(pair.images + " and " + pair.labels +
                           " do not hold as many images as labels; use files that belong together");
  }
  const uint64_t width = images.values.size() / count;
  if (width == 0 || width > limits::kUnitsMax ||
      (pool.examples.inputs != 0 && width != pool.examples.inputs)) {
    return InvalidArgument(pair.images + " has " + std::to_string(width) +
                           " features for each example; all files must have the same, up to " +
                           std::to_string(limits::kUnitsMax));
  }
  pool.examples.inputs = static_cast<uint32_t>(width);
  const uint64_t taken = std::min(count, rows_max);
  for (uint64_t i = 0; i < taken; ++i) {
    const uint8_t label = labels.values[i];
    if (wanted.classes != 0 && label >= wanted.classes) {
      return InvalidArgument(pair.labels + ": label " + std::to_string(label) + " of example " +
                             std::to_string(i + 1) + " is not below the model's " +
                             std::to_string(wanted.classes) + " classes; widen its last layer");
    }
    pool.examples.labels.push_back(label);
  }
  const uint64_t values = taken * width;
  if (pool.examples.features.size() + values > limits::kExamplesBytesMax / sizeof(float)) {
    return ResourceExhausted(pair.images +
                             ": more values than a data set may have; use --examples");
  }
  pool.examples.features.reserve(pool.examples.features.size() + values);
  for (uint64_t i = 0; i < values; ++i) {
    pool.examples.features.push_back(static_cast<float>(images.values[i]) / 255.0F);
  }
  return OkStatus();
}

}  // namespace

Result<Pool> PoolOfIdx(const DataOptions& options, const Wanted& wanted) {
  if (!wanted.labels) {
    return InvalidArgument(
        "IDX files hold class labels, which a model learns with cross-entropy;"
        " change the task's loss");
  }
  if (options.paths.size() != 1 || options.test_paths.size() > 1) {
    return InvalidArgument("name one folder of IDX files with --data, and at most one with --test");
  }
  CHORUS_TRY_ASSIGN(Pairs pairs, FindPairs(options.paths[0]));
  if (!options.test_paths.empty()) {
    CHORUS_TRY_ASSIGN(const Pairs apart, FindPairs(options.test_paths[0]));
    // A folder for testing holds one pair, under whatever name.
    pairs.test = apart.test.empty() ? apart.train : apart.test;
  }
  if (pairs.train.size() != 1 || pairs.test.size() > 1) {
    return InvalidArgument(options.paths[0] + " holds " + std::to_string(pairs.train.size()) +
                           " pairs of images and labels to train on and " +
                           std::to_string(pairs.test.size()) +
                           " (t10k- or test-) to test on; it needs one and at most one");
  }
  Pool pool;
  const uint64_t rows_max = options.examples_max == 0 ? UINT64_MAX : options.examples_max;
  CHORUS_TRY(AppendPair(pairs.train[0], wanted, rows_max, pool));
  pool.test_begin = pool.rows();
  if (!pairs.test.empty()) CHORUS_TRY(AppendPair(pairs.test[0], wanted, UINT64_MAX, pool));
  const uint32_t largest =
      *std::max_element(pool.examples.labels.begin(), pool.examples.labels.end());
  for (uint32_t i = 0; i <= largest; ++i) pool.classes.push_back(std::to_string(i));
  return pool;
}

}  // namespace chorus::cli
