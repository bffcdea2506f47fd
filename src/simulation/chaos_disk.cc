#include "simulation/chaos_disk.h"

#include <algorithm>
#include <cerrno>
#include <utility>

namespace chorus::simulation {

using client::Opened;
using client::Opening;

namespace {

// A disk writes sectors whole or not at all.
constexpr uint64_t kSectorBytes = 512;

}  // namespace

class SimulatedDisk::OpenFile final : public client::File {
 public:
  OpenFile(SimulatedDisk& disk, uint64_t node, bool writable)
      : disk_(disk), node_(node), boot_(disk.boots_), writable_(writable) {}
  ~OpenFile() override {
    if (locks_ && boot_ == disk_.boots_) disk_.NodeOf(node_).locked = false;
  }

  int SizeBytes(uint64_t& bytes) const override {
    if (!usable()) return EIO;
    bytes = disk_.NodeOf(node_).cached.size();
    return 0;
  }

  int Read(uint64_t offset, std::span<uint8_t> into) const override {
    if (!usable()) return EIO;
    const Bytes& content = disk_.NodeOf(node_).cached;
    if (offset > content.size() || into.size() > content.size() - offset) return EIO;
    std::copy_n(content.begin() + static_cast<std::ptrdiff_t>(offset), into.size(), into.begin());
    return 0;
  }

  int Write(uint64_t offset, BytesView bytes) override {
    if (!usable()) return EIO;
    if (!writable_) return EBADF;
    const bool lives = disk_.life_.DurableEffect();
    const uint64_t size = disk_.NodeOf(node_).cached.size();
    const bool fits = !disk_.full || offset + bytes.size() <= size;
    // A process that dies in the middle has written a part of it, and so has one that finds no
    // room.
    if (!lives || !fits) bytes = bytes.first(disk_.dice_.Below(bytes.size() + 1));
    if (!fits) disk_.scene_.Strike(Fault::kDisk);
    if (!bytes.empty()) Change({.offset = offset, .bytes = Bytes(bytes.begin(), bytes.end())});
    if (!lives) return EIO;
    return fits ? 0 : ENOSPC;
  }

  int Truncate(uint64_t length) override {
    if (!usable() || !disk_.life_.DurableEffect()) return EIO;
    Change({.truncates = true, .offset = length, .bytes = {}});
    return 0;
  }

  int Sync() override {
    if (!usable() || !disk_.life_.DurableEffect()) return EIO;
    Node& node = disk_.NodeOf(node_);
    if (disk_.sync_failure_chance > 0 && disk_.dice_.Chance(disk_.sync_failure_chance)) {
      // Whatever was not on disk is lost, and reading says so: the kernel drops such pages.
      disk_.scene_.Strike(Fault::kDisk);
      disk_.failed_to_sync_ = true;
      node.cached = node.durable;
      node.changes.clear();
      return EIO;
    }
    node.durable = node.cached;
    node.changes.clear();
    return 0;
  }

  int Lock() override {
    if (!usable()) return EIO;
    Node& node = disk_.NodeOf(node_);
    if (node.locked) return EWOULDBLOCK;
    node.locked = locks_ = true;
    return 0;
  }

 private:
  bool usable() const { return boot_ == disk_.boots_ && !disk_.life_.dead(); }
  void Change(SimulatedDisk::Change change) {
    Node& node = disk_.NodeOf(node_);
    Apply(change, node.cached);
    node.changes.push_back(std::move(change));
    node.written = disk_.scene_.now().count();
  }

  SimulatedDisk& disk_;
  const uint64_t node_;
  const uint64_t boot_;
  const bool writable_;
  bool locks_ = false;
};

void SimulatedDisk::Apply(const Change& change, Bytes& content) {
  if (change.truncates) {
    content.resize(change.offset);
    return;
  }
  content.resize(std::max<size_t>(content.size(), change.offset + change.bytes.size()));
  std::copy(change.bytes.begin(), change.bytes.end(),
            content.begin() + static_cast<std::ptrdiff_t>(change.offset));
}

void SimulatedDisk::Make(const NameChange& change) {
  names_.erase(change.renamed_from);
  if (change.node.has_value()) {
    names_[change.name] = *change.node;
  } else {
    names_.erase(change.name);
  }
  name_changes_.push_back(change);
}

Opened SimulatedDisk::Open(const std::string& path, Opening how) {
  if (life_.dead()) return {.file = nullptr, .error = EIO};
  const bool makes = how == Opening::kEnsure || how == Opening::kReplace;
  auto found = names_.find(path);
  if (found == names_.end()) {
    if (!makes) return {.file = nullptr, .error = ENOENT};
    if (!life_.DurableEffect()) return {.file = nullptr, .error = EIO};
    const uint64_t id = ++last_node_;
    nodes_[id].written = scene_.now().count();
    Make({.name = path, .node = id, .renamed_from = {}});
    found = names_.find(path);
  }
  auto file = std::make_unique<OpenFile>(*this, found->second, how != Opening::kRead);
  if (how == Opening::kReplace && !NodeOf(found->second).cached.empty()) {
    if (const int error = file->Truncate(0); error != 0) return {.file = nullptr, .error = error};
  }
  return {.file = std::move(file)};
}

int SimulatedDisk::Rename(const std::string& from, const std::string& to) {
  if (!life_.DurableEffect()) return EIO;
  const auto found = names_.find(from);
  if (found == names_.end()) return ENOENT;
  Make({.name = to, .node = found->second, .renamed_from = from});
  return 0;
}

int SimulatedDisk::Remove(const std::string& path) {
  if (!life_.DurableEffect()) return EIO;
  if (!names_.contains(path)) return ENOENT;
  Make({.name = path, .node = std::nullopt, .renamed_from = {}});
  return 0;
}

// Directories are made once and never lost: a client's folder is there before its first round.
int SimulatedDisk::MakeDirectory(const std::string& directory, bool& made) {
  if (!life_.DurableEffect()) return EIO;
  made = std::find(directories_.begin(), directories_.end(), directory) == directories_.end();
  if (made) directories_.push_back(directory);
  return 0;
}

int SimulatedDisk::List(const std::string& directory,
                        std::vector<client::DirectoryEntry>& entries) const {
  if (life_.dead()) return EIO;
  const std::string prefix = directory + "/";
  for (const auto& [path, id] : names_) {
    if (!path.starts_with(prefix)) continue;
    entries.push_back({.name = path.substr(prefix.size()), .written = nodes_.at(id).written});
  }
  return 0;
}

int SimulatedDisk::SyncDirectory(const std::string&) {
  if (!life_.DurableEffect()) return EIO;
  durable_names_ = names_;
  name_changes_.clear();
  return 0;
}

// Each change since the last Sync got to the disk in whole, as a first part, as a length without
// content, in one of the sectors that it spans, or not at all, whatever became of the others.
void SimulatedDisk::TearChange(const Change& change, Bytes& content) {
  enum : uint64_t { kWhole, kLost, kFirstPart, kLengthAlone, kFirstSector, kLastSectors, kFates };
  const uint64_t fate = dice_.Below(kFates);
  if (fate == kLost) return;
  if (fate == kWhole || change.truncates) return Apply(change, content);
  const uint64_t size = change.bytes.size();
  const uint64_t sector = std::min(size, kSectorBytes - change.offset % kSectorBytes);
  uint64_t begin = 0;
  uint64_t end = size;
  if (fate == kFirstPart) end = dice_.Below(size + 1);
  if (fate == kLengthAlone) end = 0;
  if (fate == kFirstSector) end = sector;
  if (fate == kLastSectors) begin = sector;
  Apply({.offset = change.offset + begin,
         .bytes = Bytes(change.bytes.begin() + static_cast<std::ptrdiff_t>(begin),
                        change.bytes.begin() + static_cast<std::ptrdiff_t>(end))},
        content);
  if (fate != kFirstPart) content.resize(std::max<size_t>(content.size(), change.offset + size));
}

void SimulatedDisk::Tear(Node& node) {
  Bytes content = node.durable;
  for (const Change& change : node.changes) TearChange(change, content);
  node.durable = node.cached = std::move(content);
  node.changes.clear();
}

void SimulatedDisk::Crash(bool power_lost) {
  ++boots_;
  failed_to_sync_ = false;
  for (auto& [id, node] : nodes_) node.locked = false;
  if (!power_lost) return;
  for (auto& [id, node] : nodes_) Tear(node);
  // File systems log changes of names in order, so that some first ones are there.
  const std::vector<NameChange> changes = std::exchange(name_changes_, {});
  const size_t kept = dice_.Below(changes.size() + 1);
  names_ = durable_names_;
  for (size_t i = 0; i < kept; ++i) Make(changes[i]);
  durable_names_ = names_;
  name_changes_.clear();
}

std::optional<Bytes> SimulatedDisk::Durable(const std::string& path) const {
  const auto found = durable_names_.find(path);
  if (found == durable_names_.end()) return std::nullopt;
  return nodes_.at(found->second).durable;
}

}  // namespace chorus::simulation
