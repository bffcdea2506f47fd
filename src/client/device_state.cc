// One file a task, `task-<id in hex>`, in the client's folder:
//   magic "CHORUSDS" | version u32 | zero u32 | task 16 | model 32 | personal u64 | control u64
//   personal binary32* | control binary32* | SHA-256 of all before it
// The header's integers are big-endian, numbers little-endian as they are in memory. A checksum
// shows damage and not malice: whoever controls the folder controls what is in it.
#include "client/device_state.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <map>
#include <string_view>
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
  FileState(Disk& disk, std::string directory);

  Result<std::optional<DeviceRecord>> Find(const RecordKey& key) const override;
  Status Keep(const RecordKey& key, DeviceRecord record) override;

 private:
  std::string PathOf(const TaskId& task) const {
    return directory_ + "/" + std::string(kPrefix) + ToHex(task);
  }
  Status WriteNew(const std::string& path, const RecordKey& key, const DeviceRecord& record) const;
  Status MakeRoom(const std::string& path) const;

  Disk& disk_;
  const std::string directory_;
};

Status ReadError(int error) { return FileError("the device's state cannot be read", error); }
Status WriteError(int error) { return FileError("the device's state cannot be written", error); }

Status Damaged() {
  return DataLoss("what this device kept of the task is damaged; it begins the task anew");
}

Result<std::optional<DeviceRecord>> FileState::Find(const RecordKey& key) const {
  const Opened opened = disk_.Open(PathOf(key.task), Opening::kRead);
  if (opened.file == nullptr) {
    if (opened.error == ENOENT) return std::optional<DeviceRecord>();
    return ReadError(opened.error);
  }
  const File& file = *opened.file;
  uint64_t size_bytes = 0;
  if (const int error = file.SizeBytes(size_bytes); error != 0) return ReadError(error);
  const Bytes expected = HeaderOf(key);
  Bytes header(expected.size());
  if (size_bytes < header.size() + kDigestBytes) return Damaged();
  if (const int error = file.Read(0, header); error != 0) return ReadError(error);
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
    if (const int error = file.Read(offset, part); error != 0) return ReadError(error);
    offset += part.size();
  }
  if (ChecksumOf(header, record) != checksum) return Damaged();
  return std::optional<DeviceRecord>(std::move(record));
}

// Where `path` would be one file too many, the one that was written longest ago goes.
Status FileState::MakeRoom(const std::string& path) const {
  std::vector<DirectoryEntry> entries;
  if (const int error = disk_.List(directory_, entries); error != 0) return WriteError(error);
  std::vector<std::pair<int64_t, std::string>> kept;
  for (const DirectoryEntry& entry : entries) {
    if (!entry.name.starts_with(kPrefix) || entry.name.ends_with(kUnfinished)) continue;
    kept.emplace_back(entry.written, directory_ + "/" + entry.name);
    if (kept.back().second == path) return OkStatus();
  }
  std::sort(kept.begin(), kept.end());
  for (size_t i = 0; i + limits::kDeviceStatesMax <= kept.size(); ++i) {
    const int error = disk_.Remove(kept[i].second);
    if (error != 0 && error != ENOENT) return WriteError(error);
  }
  return OkStatus();
}

// What a process that died while it wrote has left holds what the device learned, and goes. What
// cannot be removed is in nobody's way: the next writing begins the file anew.
FileState::FileState(Disk& disk, std::string directory)
    : disk_(disk), directory_(std::move(directory)) {
  std::vector<DirectoryEntry> entries;
  if (disk_.List(directory_, entries) != 0) return;
  for (const DirectoryEntry& entry : entries) {
    if (entry.name.starts_with(kPrefix) && entry.name.ends_with(kUnfinished))
      (void)disk_.Remove(directory_ + "/" + entry.name);
  }
}

Status FileState::WriteNew(const std::string& path, const RecordKey& key,
                           const DeviceRecord& record) const {
  const Bytes header = HeaderOf(key);
  const Digest checksum = ChecksumOf(header, record);
  const Opened opened = disk_.Open(path, Opening::kReplace);
  if (opened.file == nullptr) return WriteError(opened.error);
  uint64_t offset = 0;
  for (const BytesView part : {BytesView(header), BytesOf(record.personal.get()),
                               BytesOf(record.control.get()), BytesView(checksum)}) {
    if (const int error = opened.file->Write(offset, part); error != 0) return WriteError(error);
    offset += part.size();
  }
  if (const int error = opened.file->Sync(); error != 0) return WriteError(error);
  return OkStatus();
}

// Nothing that was kept goes before its successor is on disk.
Status FileState::Keep(const RecordKey& key, DeviceRecord record) {
  const std::string path = PathOf(key.task);
  const std::string unfinished = path + std::string(kUnfinished);
  Status kept = WriteNew(unfinished, key, record);
  if (kept.ok()) kept = MakeRoom(path);
  if (kept.ok()) {
    if (const int error = disk_.Rename(unfinished, path); error != 0) kept = WriteError(error);
  }
  if (!kept.ok()) {
    (void)disk_.Remove(unfinished);  // what stays goes when the state is opened again
    return kept;
  }
  if (const int error = disk_.SyncDirectory(directory_); error != 0) return WriteError(error);
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
  return InFiles(SystemDisk(), std::move(directory));
}

std::unique_ptr<DeviceState> DeviceState::InFiles(Disk& disk, std::string directory) {
  return std::make_unique<FileState>(disk, std::move(directory));
}

std::unique_ptr<DeviceState> DeviceState::InMemory() { return std::make_unique<MemoryState>(); }

}  // namespace chorus::client
