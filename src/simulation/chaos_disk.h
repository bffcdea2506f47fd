// A disk in memory that keeps what POSIX promises and nothing more: content is durable once its
// file is synchronised, a name once its directory is; all else a loss of power may tear, forget, or
// keep.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "chorus/bytes.h"
#include "client/durable_file.h"
#include "simulation/chaos_parts.h"

namespace chorus::simulation {

// Of one process at a time, whose life each call asks before it changes anything.
class SimulatedDisk final : public client::Disk {
 public:
  // All must outlive the disk and its files.
  SimulatedDisk(Scene& scene, Life& life, Dice& dice) : scene_(scene), life_(life), dice_(dice) {}

  client::Opened Open(const std::string& path, client::Opening how) override;
  int Rename(const std::string& from, const std::string& to) override;
  int Remove(const std::string& path) override;
  int MakeDirectory(const std::string& directory, bool& made) override;
  int List(const std::string& directory,
           std::vector<client::DirectoryEntry>& entries) const override;
  int SyncDirectory(const std::string& directory) override;

  // The process is gone, and with it its locks. Where the power went too, only what was durable is
  // certain to be there still.
  void Crash(bool power_lost);
  // What a loss of power at this moment would leave of `path` for certain; nothing if no name.
  std::optional<Bytes> Durable(const std::string& path) const;

  bool full = false;               // what makes a file longer fails, perhaps half done
  double sync_failure_chance = 0;  // of each Sync
  bool failed_to_sync() const { return failed_to_sync_; }

 private:
  class OpenFile;
  struct Change {
    bool truncates = false;
    uint64_t offset = 0;  // or the length
    Bytes bytes;
  };
  struct Node {
    Bytes durable;
    Bytes cached;
    std::vector<Change> changes;  // since it was synchronised
    int64_t written = 0;
    bool locked = false;
  };
  struct NameChange {
    std::string name;
    std::optional<uint64_t> node;  // nothing: removed
    std::string renamed_from;      // goes in the same step
  };

  static void Apply(const Change& change, Bytes& content);
  void Tear(Node& node);
  void TearChange(const Change& change, Bytes& content);
  void Make(const NameChange& change);
  Node& NodeOf(uint64_t id) { return nodes_.at(id); }

  Scene& scene_;
  Life& life_;
  Dice& dice_;
  std::map<uint64_t, Node> nodes_;
  std::map<std::string, uint64_t> names_;
  std::map<std::string, uint64_t> durable_names_;
  std::vector<NameChange> name_changes_;  // since the directory was synchronised
  std::vector<std::string> directories_;
  uint64_t last_node_ = 0;
  uint64_t boots_ = 0;  // a file that was open before does nothing any more
  bool failed_to_sync_ = false;
};

}  // namespace chorus::simulation
