// What the client's files are on: the operating system's disk, or a simulated one that tears writes
// and forgets what was not synchronised. Failures are the operating system's error numbers, 0 for
// none, until FileError makes words of one.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "chorus/bytes.h"
#include "chorus/status.h"

namespace chorus::client {

// An open file; closed when it goes. Thread-compatible.
class File {
 public:
  virtual ~File() = default;
  virtual int SizeBytes(uint64_t& bytes) const = 0;
  // Fills `into` from `offset` on; EIO when the file ends before.
  virtual int Read(uint64_t offset, std::span<uint8_t> into) const = 0;
  virtual int Write(uint64_t offset, BytesView bytes) = 0;
  virtual int Truncate(uint64_t length) = 0;
  // Makes the content durable, and the length with it.
  virtual int Sync() = 0;
  // For as long as the file is open, against other processes; EWOULDBLOCK: one has it.
  virtual int Lock() = 0;
};

enum class Opening : uint8_t {
  kRead,     // for reading alone; ENOENT when absent, as the next
  kUpdate,   // for reading and writing
  kEnsure,   // likewise, made when absent, for nobody else to read
  kReplace,  // likewise, and emptied
};

struct Opened {
  std::unique_ptr<File> file;  // null: see error
  int error = 0;
};

// An entry of a directory.
struct DirectoryEntry {
  std::string name;
  int64_t written = 0;  // when it was written last, on a scale of the disk's own
};

// Thread-safe, but for two calls about one path.
class Disk {
 public:
  virtual ~Disk() = default;
  virtual Opened Open(const std::string& path, Opening how) = 0;
  // In place of what `to` was, as one step.
  virtual int Rename(const std::string& from, const std::string& to) = 0;
  virtual int Remove(const std::string& path) = 0;
  // With all those it lies in; `made` says whether it was absent.
  virtual int MakeDirectory(const std::string& directory, bool& made) = 0;
  virtual int List(const std::string& directory, std::vector<DirectoryEntry>& entries) const = 0;
  // Makes durable what was made, renamed or removed in it.
  virtual int SyncDirectory(const std::string& directory) = 0;
};

// The operating system's: stateless, hence one for all.
Disk& SystemDisk();

// "`what`: …" as a status. A full disk (kResourceExhausted) is told from everything else
// (kUnavailable), since the player can do something about it.
Status FileError(std::string_view what, int error);

}  // namespace chorus::client
