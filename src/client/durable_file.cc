#include "client/durable_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <system_error>

namespace chorus::client {
namespace {

// Calls go on after a signal.
class SystemFile final : public File {
 public:
  explicit SystemFile(int descriptor) : descriptor_(descriptor) {}
  ~SystemFile() override { close(descriptor_); }
  SystemFile(const SystemFile&) = delete;
  SystemFile& operator=(const SystemFile&) = delete;

  int SizeBytes(uint64_t& bytes) const override {
    struct stat facts {};
    if (fstat(descriptor_, &facts) != 0) return errno;
    bytes = static_cast<uint64_t>(facts.st_size);
    return 0;
  }

  int Read(uint64_t offset, std::span<uint8_t> into) const override {
    while (!into.empty()) {
      const ssize_t got = pread(descriptor_, into.data(), into.size(), static_cast<off_t>(offset));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return errno;
      if (got == 0) return EIO;
      into = into.subspan(static_cast<size_t>(got));
      offset += static_cast<uint64_t>(got);
    }
    return 0;
  }

  int Write(uint64_t offset, BytesView bytes) override {
    while (!bytes.empty()) {
      const ssize_t written =
          pwrite(descriptor_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) return errno;
      if (written == 0) return EIO;
      bytes = bytes.subspan(static_cast<size_t>(written));
      offset += static_cast<uint64_t>(written);
    }
    return 0;
  }

  int Truncate(uint64_t length) override {
    while (ftruncate(descriptor_, static_cast<off_t>(length)) != 0) {
      if (errno != EINTR) return errno;
    }
    return 0;
  }

  int Sync() override {
    while (fsync(descriptor_) != 0) {
      if (errno != EINTR) return errno;
    }
    return 0;
  }

  int Lock() override { return flock(descriptor_, LOCK_EX | LOCK_NB) == 0 ? 0 : errno; }

 private:
  const int descriptor_;
};

int FlagsOf(Opening how) {
  switch (how) {
    case Opening::kRead:
      return O_RDONLY;
    case Opening::kUpdate:
      return O_RDWR;
    case Opening::kEnsure:
      return O_RDWR | O_CREAT;
    case Opening::kReplace:
      return O_RDWR | O_CREAT | O_TRUNC;
  }
  return O_RDONLY;
}

// With the descriptor below zero: errno says why.
int OpenDescriptor(const std::string& path, int flags) {
  int descriptor = -1;
  do {
    descriptor = ::open(path.c_str(), flags | O_CLOEXEC, 0600);
  } while (descriptor < 0 && errno == EINTR);
  return descriptor;
}

class FileSystem final : public Disk {
 public:
  Opened Open(const std::string& path, Opening how) override {
    const int descriptor = OpenDescriptor(path, FlagsOf(how));
    if (descriptor < 0) return {.file = nullptr, .error = errno};
    return {.file = std::make_unique<SystemFile>(descriptor)};
  }

  int Rename(const std::string& from, const std::string& to) override {
    return std::rename(from.c_str(), to.c_str()) == 0 ? 0 : errno;
  }

  int Remove(const std::string& path) override {
    return std::remove(path.c_str()) == 0 ? 0 : errno;
  }

  int MakeDirectory(const std::string& directory, bool& made) override {
    std::error_code error;
    made = std::filesystem::create_directories(directory, error);
    return error.value();
  }

  int List(const std::string& directory, std::vector<DirectoryEntry>& entries) const override {
    std::error_code error;
    std::filesystem::directory_iterator entry(directory, error);
    for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
      std::error_code gone;
      const auto written = std::filesystem::last_write_time(entry->path(), gone);
      if (gone) continue;
      entries.push_back({.name = entry->path().filename().string(),
                         .written = static_cast<int64_t>(written.time_since_epoch().count())});
    }
    return error.value();
  }

  int SyncDirectory(const std::string& directory) override {
    const int descriptor = OpenDescriptor(directory, O_RDONLY | O_DIRECTORY);
    return descriptor < 0 ? errno : SystemFile(descriptor).Sync();
  }
};

}  // namespace

Disk& SystemDisk() {
  static FileSystem disk;
  return disk;
}

Status FileError(std::string_view what, int error) {
  std::string text(what);
  text.append(": ").append(std::generic_category().message(error));
  if (error == ENOSPC || error == EDQUOT || error == EFBIG)
    return ResourceExhausted(std::move(text) + "; free some disk space");
  return Unavailable(std::move(text));
}

}  // namespace chorus::client
