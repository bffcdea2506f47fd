// What the client's files on disk are written with. Calls go on after a signal; failures are the
// operating system's error numbers, 0 for none, until FileError makes words of one.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "chorus/bytes.h"
#include "chorus/status.h"

namespace chorus::client {

// A file descriptor that closes itself.
class File {
 public:
  File() = default;
  explicit File(int descriptor) : descriptor_(descriptor) {}
  File(File&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
  File& operator=(File&& other) noexcept {
    std::swap(descriptor_, other.descriptor_);
    return *this;
  }
  ~File();
  int descriptor() const { return descriptor_; }
  bool open() const { return descriptor_ >= 0; }

 private:
  int descriptor_ = -1;
};

// open(2) with these flags, close-on-exec, mode 0600 where it makes the file. Not open: see errno.
File OpenFile(const std::string& path, int flags);
int Sync(const File& file);
int WriteAt(const File& file, uint64_t offset, BytesView bytes);
int Truncate(const File& file, uint64_t length);
// Fills `into` from `offset` on; EIO when the file ends before.
int ReadAt(const File& file, uint64_t offset, std::span<uint8_t> into);
// Makes what was created or renamed in it durable.
int SyncDirectory(const std::string& directory);

// "`what`: …" as a status. A full disk (kResourceExhausted) is told from everything else
// (kUnavailable), since the player can do something about it.
Status FileError(std::string_view what, int error);

}  // namespace chorus::client
