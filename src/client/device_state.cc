// One file a task, `task-<id in hex>`, in the client's folder:
//   magic "CHORUSDS" | version u32 | zero u32 | task 16 | model 32 | personal u64 | control u64
//   personal binary32* | control binary32* | SHA-256 of all before it
// The header's integers are big-endian, numbers little-endian as they are in memory. A checksum
// shows damage and not malice: whoever controls the folder controls what is in it.
#include "client/device_state.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <map>
#include <string_view>
#include <system_error>
#include <vector>

#include "base/codec.h"
#include "base/hex.h"
#include "base/limits.h"
#include "client/durable_file.h"
#include "crypto/crypto.h"

namespace chorus::client {
namespace {

static_assert(std::endian::native == std::endian::little, "numbers are written as they stand");

constexpr std::string_view kMagic = "CHORUSDS";
constexpr uint32_t kVersion = 1;
constexpr std::string_view kPrefix = "task-";
constexpr std::string_view kUnfinished = ".new";
constexpr size_t kDigestBytes = 32;

BytesView BytesOf(const Weights& values) {
  return {reinterpret_cast<const uint8_t*>(values.data()), values.size() * sizeof(float)};
}

std::span<uint8_t> BytesOf(Weights& values) {
  return {reinterpret_cast<uint8_t*>(values.data()), values.size() * sizeof(float)};
}

Bytes HeaderOf(const RecordKey& key) {
  Writer writer;
  writer.Raw(kMagic).U32(kVersion).U32(0).Raw(key.task).Raw(key.model);
  writer.U64(key.personal_count).U64(key.control_count);
  return std::move(writer).Take();
}

Digest ChecksumOf(BytesView header, const DeviceRecord& record) {
  crypto::Sha256Stream stream;
  stream.Update(header);
  stream.Update(BytesOf(record.personal.get()));
  stream.Update(BytesOf(record.control.get()));
  return stream.Finish();
}

class FileState final : public DeviceState {
 public:
  explicit FileState(std::string directory);

  Result<std::optional<DeviceRecord>> Find(const RecordKey& key) const override;
  Status Keep(const RecordKey& key, DeviceRecord record) override;

 private:
  std::string PathOf(const TaskId& task) const {
    return directory_ + "/" + std::string(kPrefix) + ToHex(task);
  }
  Status WriteNew(const std::string& path, const RecordKey& key, const DeviceRecord& record) const;
  Status MakeRoom(const std::string& path) const;

  const std::string directory_;
};

Status ReadError(int error) { return FileError("the device's state cannot be read", error); }
Status WriteError(int error) { return FileError("the device's state cannot be written", error); }

Status Damaged() {
  return DataLoss("what this device kept of the task is damaged; it begins the task anew");
}

Result<std::optional<DeviceRecord>> FileState::Find(const RecordKey& key) const {
  const File file = OpenFile(PathOf(key.task), O_RDONLY);
  if (!file.open()) {
    if (errno == ENOENT) return std::optional<DeviceRecord>();
    return ReadError(errno);
  }
  struct stat facts {};
  if (fstat(file.descriptor(), &facts) != 0) return ReadError(errno);
  const auto size_bytes = static_cast<uint64_t>(facts.st_size);
  const Bytes expected = HeaderOf(key);
  Bytes header(expected.size());
  if (size_bytes < header.size() + kDigestBytes) return Damaged();
  if (const int error = ReadAt(file, 0, header); error != 0) return ReadError(error);
  // A header that is damaged looks like another model's, and is as useless.
  if (header != expected) return std::optional<DeviceRecord>();
  const uint64_t numbers = key.personal_count + key.control_count;
  if (size_bytes != header.size() + numbers * sizeof(float) + kDigestBytes) return Damaged();

  DeviceRecord record;
  const std::span<uint8_t> personal = BytesOf(record.personal.Reset(key.personal_count));
  const std::span<uint8_t> control = BytesOf(record.control.Reset(key.control_count));
  Digest checksum{};
  uint64_t offset = header.size();
  for (const std::span<uint8_t> part : {personal, control, std::span<uint8_t>(checksum)}) {
    if (const int error = ReadAt(file, offset, part); error != 0) return ReadError(error);
    offset += part.size();
  }
  if (ChecksumOf(header, record) != checksum) return Damaged();
  return std::optional<DeviceRecord>(std::move(record));
}

// Where `path` would be one file too many, the one that was written longest ago goes.
Status FileState::MakeRoom(const std::string& path) const {
  std::error_code error;
  if (std::filesystem::exists(path, error)) return OkStatus();
  std::vector<std::pair<std::filesystem::file_time_type, std::filesystem::path>> kept;
  std::filesystem::directory_iterator entry(directory_, error);
  for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (!name.starts_with(kPrefix) || name.ends_with(kUnfinished)) continue;
    std::error_code gone;
    const auto written = std::filesystem::last_write_time(entry->path(), gone);
    if (!gone) kept.emplace_back(written, entry->path());
  }
  if (error) return WriteError(error.value());
  std::sort(kept.begin(), kept.end());
  for (size_t i = 0; i + limits::kDeviceStatesMax <= kept.size(); ++i) {
    if (!std::filesystem::remove(kept[i].second, error) && error) return WriteError(error.value());
  }
  return OkStatus();
}

// What a process that died while it wrote has left holds what the device learned, and goes. What
// cannot be removed is in nobody's way: the next writing begins the file anew.
FileState::FileState(std::string directory) : directory_(std::move(directory)) {
  std::error_code error;
  std::vector<std::filesystem::path> stale;
  std::filesystem::directory_iterator entry(directory_, error);
  for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (name.starts_with(kPrefix) && name.ends_with(kUnfinished)) stale.push_back(entry->path());
  }
  for (const std::filesystem::path& path : stale) std::filesystem::remove(path, error);
}

Status FileState::WriteNew(const std::string& path, const RecordKey& key,
                           const DeviceRecord& record) const {
  const Bytes header = HeaderOf(key);
  const Digest checksum = ChecksumOf(header, record);
  const File file = OpenFile(path, O_WRONLY | O_CREAT | O_TRUNC);
  if (!file.open()) return WriteError(errno);
  uint64_t offset = 0;
  for (const BytesView part : {BytesView(header), BytesOf(record.personal.get()),
                               BytesOf(record.control.get()), BytesView(checksum)}) {
    if (const int error = WriteAt(file, offset, part); error != 0) return WriteError(error);
    offset += part.size();
  }
  if (const int error = Sync(file); error != 0) return WriteError(error);
  return OkStatus();
}

// Nothing that was kept goes before its successor is on disk.
Status FileState::Keep(const RecordKey& key, DeviceRecord record) {
  const std::string path = PathOf(key.task);
  const std::string unfinished = path + std::string(kUnfinished);
  Status kept = WriteNew(unfinished, key, record);
  if (kept.ok()) kept = MakeRoom(path);
  if (kept.ok() && std::rename(unfinished.c_str(), path.c_str()) != 0) kept = WriteError(errno);
  if (!kept.ok()) {
    std::remove(unfinished.c_str());
    return kept;
  }
  if (const int error = SyncDirectory(directory_); error != 0) return WriteError(error);
  return OkStatus();
}

class MemoryState final : public DeviceState {
 public:
  Result<std::optional<DeviceRecord>> Find(const RecordKey& key) const override {
    const auto found = kept_.find(key.task);
    if (found == kept_.end() || HeaderOf(found->second.key) != HeaderOf(key)) {
      return std::optional<DeviceRecord>();
    }
    const DeviceRecord& kept = found->second.record;
    return std::optional<DeviceRecord>({.personal = PrivateWeights(Weights(kept.personal.get())),
                                        .control = PrivateWeights(Weights(kept.control.get()))});
  }
  Status Keep(const RecordKey& key, DeviceRecord record) override {
    kept_[key.task] = {.key = key, .record = std::move(record)};
    return OkStatus();
  }

 private:
  struct Kept {
    RecordKey key;
    DeviceRecord record;
  };
  std::map<TaskId, Kept> kept_;
};

}  // namespace

Weights& PrivateWeights::Reset(size_t count) {
  if (count != values_.size()) Wipe(BytesOf(values_));  // what it leaves behind
  values_.assign(count, 0.0F);
  return values_;
}

Weights& PrivateWeights::Reset(std::span<const float> from) {
  if (from.size() != values_.size()) Wipe(BytesOf(values_));
  values_.assign(from.begin(), from.end());
  return values_;
}

std::unique_ptr<DeviceState> DeviceState::InFiles(std::string directory) {
  return std::make_unique<FileState>(std::move(directory));
}

std::unique_ptr<DeviceState> DeviceState::InMemory() { return std::make_unique<MemoryState>(); }

}  // namespace chorus::client
