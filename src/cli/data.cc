#include "cli/data.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <numeric>
#include <span>
#include <utility>

#include "base/random.h"
#include "cli/partition.h"
#include "client/example_store.h"

namespace chorus::cli {
namespace {

constexpr double kAlphaMin = 1e-6;
constexpr double kAlphaMax = 1e6;

struct Dataset {
  client::IdxFile images;
  std::vector<uint32_t> labels;
  uint32_t classes = 0;
};

Status CheckOptions(const SplitOptions& options) {
  if (options.clients == 0) return InvalidArgument("a split needs at least one client");
  const double alpha = options.dirichlet_alpha;
  if (alpha != 0 && !(alpha >= kAlphaMin && alpha <= kAlphaMax)) {
    return InvalidArgument("alpha must be 0 for an even split, or from 0.000001 to 1000000");
  }
  if (options.out_folder.empty()) return InvalidArgument("a split needs a folder to write to");
  return OkStatus();
}

Result<Dataset> Read(const SplitOptions& options) {
  CHORUS_TRY_ASSIGN(client::IdxFile labels, client::ReadIdx(options.labels_path));
  if (labels.dimensions.size() != 1) {
    return InvalidArgument(options.labels_path +
                           " must have one dimension: one label for each example");
  }
  CHORUS_TRY_ASSIGN(client::IdxFile images, client::ReadIdx(options.images_path));
  const uint64_t count = images.dimensions[0];
  if (count != labels.dimensions[0]) {
    return InvalidArgument(options.images_path + " holds " + std::to_string(count) +
                           " examples and " + options.labels_path + " holds " +
                           std::to_string(labels.dimensions[0]) +
                           " labels; use files that belong together");
  }
  if (options.clients > count) {
    return InvalidArgument(options.images_path + " holds " + std::to_string(count) +
                           " examples, too few for " + std::to_string(options.clients) +
                           " clients; ask for fewer clients");
  }
  if (uint64_t{options.clients} * options.examples_min > count) {
    return InvalidArgument(options.images_path + " holds " + std::to_string(count) +
                           " examples, too few for " + std::to_string(options.clients) +
                           " clients with at least " + std::to_string(options.examples_min) +
                           " each; ask for fewer clients or a smaller minimum");
  }
  if (images.values.empty()) {
    return InvalidArgument(options.images_path +
                           " has no features; each example needs at least one");
  }
  const uint32_t classes = *std::max_element(labels.values.begin(), labels.values.end()) + 1U;
  return Dataset{.images = std::move(images),
                 .labels = {labels.values.begin(), labels.values.end()},
                 .classes = classes};
}

// What a failed split takes away again.
class Cleanup {
 public:
  Cleanup() = default;
  Cleanup(const Cleanup&) = delete;
  Cleanup& operator=(const Cleanup&) = delete;
  ~Cleanup() {
    std::error_code ignored;
    for (auto path = made_.rbegin(); path != made_.rend(); ++path) {
      std::filesystem::remove_all(*path, ignored);
    }
  }
  void Add(std::filesystem::path made) { made_.push_back(std::move(made)); }
  void Keep() { made_.clear(); }

 private:
  std::vector<std::filesystem::path> made_;
};

Status MakeFolder(const std::filesystem::path& folder, Cleanup& cleanup) {
  std::error_code error;
  const bool made = std::filesystem::create_directories(folder, error);
  if (made) cleanup.Add(folder);
  if (!error) return OkStatus();
  const std::string text = folder.string() + " cannot be made: " + error.message();
  if (error == std::errc::no_space_on_device) return ResourceExhausted(text);
  return FailedPrecondition(text + "; choose another folder");
}

Status PrepareOut(const std::string& folder, Cleanup& cleanup) {
  CHORUS_TRY(MakeFolder(folder, cleanup));
  std::error_code error;
  const bool empty = std::filesystem::is_empty(folder, error);
  if (error || !std::filesystem::is_directory(folder, error)) {
    return FailedPrecondition(folder + " is not a folder that can be read; choose another");
  }
  if (!empty) return FailedPrecondition(folder + " is not empty; name a new folder or empty it");
  return OkStatus();
}

// Writes one client's folder and gives back its count of each class.
Result<std::vector<uint32_t>> WriteClient(const std::filesystem::path& folder, const Dataset& data,
                                          const Indices& examples) {
  std::vector<uint32_t> dimensions = data.images.dimensions;
  const size_t width = data.images.values.size() / dimensions[0];
  dimensions[0] = static_cast<uint32_t>(examples.size());
  Bytes pixels;
  Bytes labels;
  pixels.reserve(examples.size() * width);
  labels.reserve(examples.size());
  std::vector<uint32_t> counts(data.classes);
  for (const uint32_t example : examples) {
    const auto from = data.images.values.begin() + static_cast<ptrdiff_t>(example * width);
    pixels.insert(pixels.end(), from, from + static_cast<ptrdiff_t>(width));
    labels.push_back(static_cast<uint8_t>(data.labels[example]));
    ++counts[data.labels[example]];
  }
  const std::string images_name = "images-idx" + std::to_string(dimensions.size()) + "-ubyte";
  CHORUS_TRY(client::WriteIdx((folder / images_name).string(), dimensions, pixels));
  CHORUS_TRY(client::WriteIdx((folder / "labels-idx1-ubyte").string(),
                              std::span(dimensions).first(1), labels));
  return counts;
}

}  // namespace

Result<SplitReport> SplitDataset(const SplitOptions& options, const SplitProgress& progress) {
  CHORUS_TRY(CheckOptions(options));
  CHORUS_TRY_ASSIGN(const Dataset data, Read(options));
  const std::unique_ptr<Rng> rng = NewPartitionRng(options.seed);
  Partition partition =
      options.dirichlet_alpha == 0
          ? DealEvenly(data.labels.size(), options.clients, *rng)
          : DealByDirichlet(data.labels, options.clients, options.dirichlet_alpha, *rng);
  RaiseToMinimum(partition, options.examples_min, *rng);

  Cleanup cleanup;
  CHORUS_TRY(PrepareOut(options.out_folder, cleanup));
  SplitReport report{.classes = data.classes, .counts = {}};
  for (uint32_t client = 0; client < options.clients; ++client) {
    const std::filesystem::path folder =
        std::filesystem::path(options.out_folder) / ClientName(client, options.clients);
    CHORUS_TRY(MakeFolder(folder, cleanup));
    Indices& examples = partition[client];
    std::sort(examples.begin(), examples.end());
    CHORUS_TRY_ASSIGN(std::vector<uint32_t> counts, WriteClient(folder, data, examples));
    report.counts.push_back(std::move(counts));
    if (progress) progress(client + 1, options.clients);
  }
  cleanup.Keep();
  return report;
}

std::string ClientName(uint32_t index, uint32_t clients) {
  const size_t width = std::max<size_t>(3, std::to_string(clients - 1).size());
  const std::string number = std::to_string(index);
  return "client-" + std::string(width - std::min(width, number.size()), '0') + number;
}

std::string SplitTable(const SplitReport& report) {
  constexpr size_t kNumberWidth = 7;
  const auto clients = static_cast<uint32_t>(report.counts.size());
  const size_t name_width = clients == 0 ? 0 : ClientName(0, clients).size();
  std::string table;
  const auto append = [&table](const std::string& text, size_t width) {
    table.append(width - std::min(width, text.size()), ' ').append(text);
  };
  append("client", name_width);
  append("total", kNumberWidth);
  for (uint32_t i = 0; i < report.classes; ++i) append(std::to_string(i), kNumberWidth);
  table.push_back('\n');
  for (uint32_t client = 0; client < clients; ++client) {
    const std::vector<uint32_t>& counts = report.counts[client];
    append(ClientName(client, clients), name_width);
    append(std::to_string(std::accumulate(counts.begin(), counts.end(), uint64_t{0})),
           kNumberWidth);
    for (const uint32_t count : counts) append(std::to_string(count), kNumberWidth);
    table.push_back('\n');
  }
  return table;
}

}  // namespace chorus::cli
