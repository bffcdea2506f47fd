#include "client/example_store.h"

#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include "base/codec.h"
#include "base/limits.h"

namespace chorus::client {
namespace {

constexpr uint8_t kUnsignedByte = 8;
constexpr size_t kRankMax = 8;
constexpr size_t kPieceBytes = size_t{1} << 20U;
constexpr uint64_t kValuesMax = limits::kExamplesBytesMax / sizeof(float);

// What the system said when `path` could not be opened, read or written.
Status SystemFailure(const std::string& path, std::string_view action, int error) {
  const std::string text = path + " cannot be " + std::string(action) + ": ";
  switch (error) {
    case ENOENT:
    case ENOTDIR:
      return NotFound(text + "there is no such file or folder; check the path");
    case EACCES:
    case EPERM:
    case EROFS:
      return PermissionDenied(text + "permission is denied; check its owner and mode");
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return ResourceExhausted(text + "the disk is full; free space or choose another folder");
    case EISDIR:
      return Status(Code::kInvalidArgument, text + "it is a folder; name a file");
    default:
      return Unavailable(text + "system error " + std::to_string(error));
  }
}

struct GzipCloser {
  void operator()(gzFile_s* file) const { gzclose(file); }
};
using GzipFile = std::unique_ptr<gzFile_s, GzipCloser>;

struct FileCloser {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using StdioFile = std::unique_ptr<std::FILE, FileCloser>;

// Why the last read of `file` failed.
Status ReadFailure(gzFile_s* file, const std::string& path) {
  int code = Z_OK;
  gzerror(file, &code);
  if (code == Z_ERRNO) return SystemFailure(path, "read", errno);
  if (code == Z_BUF_ERROR) return DataLoss(path + " is cut short; fetch it again");
  return DataLoss(path + " is damaged gzip data; fetch it again");
}

// Appends exactly `count` bytes to `out`, in pieces: a lying header sizes no allocation.
Status ReadExactly(gzFile_s* file, const std::string& path, uint64_t count, Bytes& out) {
  while (count > 0) {
    const auto piece = static_cast<unsigned>(std::min<uint64_t>(count, kPieceBytes));
    const size_t at = out.size();
    out.resize(at + piece);
    errno = 0;
    const int got = gzread(file, out.data() + at, piece);
    if (got < 0) return ReadFailure(file, path);
    if (got < static_cast<int>(piece)) return DataLoss(path + " is cut short; fetch it again");
    count -= piece;
  }
  return OkStatus();
}

// The number of values, or nothing when it exceeds kValuesMax.
std::optional<uint64_t> Product(std::span<const uint32_t> dimensions) {
  uint64_t product = 1;
  for (const uint32_t dimension : dimensions) {
    if (dimension == 0) return 0;
    if (product > kValuesMax / dimension) product = kValuesMax + 1;
    if (product <= kValuesMax) product *= dimension;
  }
  if (product > kValuesMax) return std::nullopt;
  return product;
}

Result<std::vector<uint32_t>> ReadHeader(gzFile_s* file, const std::string& path) {
  Bytes magic;
  CHORUS_TRY(ReadExactly(file, path, 4, magic));
  if (magic[0] != 0 || magic[1] != 0 || magic[3] == 0 || magic[3] > kRankMax) {
    return InvalidArgument(path + " is not an IDX file: its first four bytes are wrong");
  }
  if (magic[2] != kUnsignedByte) {
    return InvalidArgument(path +
                           " holds IDX values of another type than unsigned bytes;"
                           " convert it");
  }
  Bytes raw;
  CHORUS_TRY(ReadExactly(file, path, size_t{4} * magic[3], raw));
  Reader reader(raw);
  std::vector<uint32_t> dimensions;
  while (reader.left() > 0) dimensions.push_back(reader.U32());
  return dimensions;
}

struct FoundFile {
  std::string prefix;
  std::string path;
};

// The prefix of `name` when it is PREFIX + stem + "-idx" + rank + "-ubyte" [+ ".gz"].
std::optional<std::string> PrefixOf(std::string_view name, std::string_view stem) {
  constexpr std::string_view kGzip = ".gz";
  if (name.ends_with(kGzip)) name.remove_suffix(kGzip.size());
  for (const std::string_view prefix : {"", "train-", "t10k-"}) {
    if (!name.starts_with(prefix)) continue;
    std::string_view rest = name.substr(prefix.size());
    if (!rest.starts_with(stem)) continue;
    rest.remove_prefix(stem.size());
    constexpr std::string_view kBefore = "-idx";
    constexpr std::string_view kAfter = "-ubyte";
    if (rest.size() != kBefore.size() + 1 + kAfter.size()) continue;
    const char rank = rest[kBefore.size()];
    if (rest.starts_with(kBefore) && rest.ends_with(kAfter) && rank >= '1' && rank <= '8') {
      return std::string(prefix);
    }
  }
  return std::nullopt;
}

// The one file of kind `stem`.
Result<FoundFile> TheOnly(const std::vector<FoundFile>& found, const std::string& folder,
                          const std::string& stem) {
  if (found.empty()) {
    return NotFound(folder + " holds no " + stem + " file; a data folder needs" +
                    " images-idx3-ubyte and labels-idx1-ubyte (or with .gz, or both with train-" +
                    " or t10k- before)");
  }
  if (found.size() > 1) {
    return InvalidArgument(folder + " holds " + std::to_string(found.size()) + " " + stem +
                           " files; keep the one pair to train on and move the others away");
  }
  return found.front();
}

struct Pair {
  std::string images;
  std::string labels;
};

Result<Pair> FindPair(const std::string& folder) {
  std::error_code error;
  std::filesystem::directory_iterator entry(folder, error);
  if (error) return SystemFailure(folder, "read", error.value());
  std::vector<FoundFile> images;
  std::vector<FoundFile> labels;
  bool empty = true;
  while (entry != std::filesystem::directory_iterator()) {
    empty = false;
    const std::string name = entry->path().filename().string();
    const std::string path = entry->path().string();
    if (auto prefix = PrefixOf(name, "images")) images.push_back({*std::move(prefix), path});
    if (auto prefix = PrefixOf(name, "labels")) labels.push_back({*std::move(prefix), path});
    entry.increment(error);
    if (error) return SystemFailure(folder, "read", error.value());
  }
  if (empty) {
    return NotFound(folder + " is empty; put images-idx3-ubyte and labels-idx1-ubyte there");
  }
  CHORUS_TRY_ASSIGN(FoundFile the_images, TheOnly(images, folder, "images"));
  CHORUS_TRY_ASSIGN(FoundFile the_labels, TheOnly(labels, folder, "labels"));
  if (the_images.prefix != the_labels.prefix) {
    return InvalidArgument(the_images.path + " and " + the_labels.path +
                           " do not belong together: their prefixes differ; add the other half");
  }
  return Pair{.images = std::move(the_images.path), .labels = std::move(the_labels.path)};
}

Status CheckAgainst(const ModelSpec& model, uint64_t features, const IdxFile& labels,
                    const Pair& pair) {
  if (model.loss != Loss::kCrossEntropy || model.layers.empty()) {
    return InvalidArgument(pair.labels +
                           " holds class labels, which a model trains on with cross-entropy;"
                           " change the task's loss");
  }
  if (features != model.inputs) {
    return InvalidArgument(pair.images + " has " + std::to_string(features) +
                           " features for each example and the model takes " +
                           std::to_string(model.inputs) + "; use data or a task that fits");
  }
  const uint32_t classes = model.layers.back().units;
  const auto outside = [classes](uint8_t label) { return label >= classes; };
  if (std::any_of(labels.values.begin(), labels.values.end(), outside)) {
    return InvalidArgument(pair.labels + " has a label that is not below the model's " +
                           std::to_string(classes) +
                           " classes; relabel from 0 or widen the last layer");
  }
  return OkStatus();
}

}  // namespace

Result<IdxFile> ReadIdx(const std::string& path) {
  errno = 0;
  const GzipFile file(gzopen(path.c_str(), "rb"));
  if (file == nullptr) return SystemFailure(path, "opened", errno);
  IdxFile idx;
  CHORUS_TRY_ASSIGN(idx.dimensions, ReadHeader(file.get(), path));
  const std::optional<uint64_t> count = Product(idx.dimensions);
  if (!count.has_value()) {
    return ResourceExhausted(path + " is larger than the limit of " + std::to_string(kValuesMax) +
                             " values; split it");
  }
  CHORUS_TRY(ReadExactly(file.get(), path, *count, idx.values));
  // Reading on is also what makes zlib check the sum at the end of a compressed file.
  uint8_t beyond = 0;
  errno = 0;
  const int left = gzread(file.get(), &beyond, 1);
  if (left > 0) return DataLoss(path + " is longer than its header says; fetch it again");
  int code = Z_OK;
  gzerror(file.get(), &code);
  if (left < 0 || code != Z_OK) return ReadFailure(file.get(), path);
  return idx;
}

Status WriteIdx(const std::string& path, std::span<const uint32_t> dimensions, BytesView values) {
  const std::optional<uint64_t> count = Product(dimensions);
  if (dimensions.empty() || dimensions.size() > kRankMax || count != values.size()) {
    return InvalidArgument(path + " is not written: its dimensions and values disagree");
  }
  Writer header;
  header.U16(0).U8(kUnsignedByte).U8(static_cast<uint8_t>(dimensions.size()));
  for (const uint32_t dimension : dimensions) header.U32(dimension);
  errno = 0;
  StdioFile file(std::fopen(path.c_str(), "wb"));
  if (file == nullptr) return SystemFailure(path, "written", errno);
  const auto write = [&file](BytesView bytes) {
    return bytes.empty() || std::fwrite(bytes.data(), 1, bytes.size(), file.get()) == bytes.size();
  };
  const bool written = write(header.view()) && write(values);
  int error = written ? 0 : errno;
  // Closing writes what is still buffered, so the disk may turn out full only here.
  if (std::fclose(file.release()) != 0 && error == 0) error = errno;
  if (written && error == 0) return OkStatus();
  std::error_code ignored;
  if (std::filesystem::is_regular_file(path, ignored)) std::filesystem::remove(path, ignored);
  return SystemFailure(path, "written", error);
}

Result<Examples> LoadExamples(const std::string& folder, const ModelSpec* expected) {
  CHORUS_TRY_ASSIGN(const Pair pair, FindPair(folder));
  CHORUS_TRY_ASSIGN(const IdxFile labels, ReadIdx(pair.labels));
  CHORUS_TRY_ASSIGN(const IdxFile images, ReadIdx(pair.images));
  if (labels.dimensions.size() != 1) {
    return InvalidArgument(pair.labels + " must have one dimension: one label for each example");
  }
  const uint32_t count = images.dimensions[0];
  if (count == 0) return InvalidArgument(pair.images + " holds no examples");
  if (count != labels.dimensions[0]) {
    return InvalidArgument(pair.images + " holds " + std::to_string(count) + " examples and " +
                           pair.labels + " holds " + std::to_string(labels.dimensions[0]) +
                           " labels; use files that belong together");
  }
  const uint64_t features = images.values.size() / count;
  if (features == 0 || features > limits::kUnitsMax) {
    return InvalidArgument(pair.images + " must have 1 to " + std::to_string(limits::kUnitsMax) +
                           " features for each example");
  }
  if (expected != nullptr) CHORUS_TRY(CheckAgainst(*expected, features, labels, pair));
  Examples examples;
  examples.inputs = static_cast<uint32_t>(features);
  examples.features.reserve(images.values.size());
  for (const uint8_t value : images.values) {
    examples.features.push_back(static_cast<float>(value) / 255.0F);
  }
  examples.labels.assign(labels.values.begin(), labels.values.end());
  return examples;
}

}  // namespace chorus::client
