#include "client/durable_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

namespace chorus::client {

File::~File() {
  if (descriptor_ >= 0) close(descriptor_);
}

File OpenFile(const std::string& path, int flags) {
  int descriptor = -1;
  do {
    descriptor = ::open(path.c_str(), flags | O_CLOEXEC, 0600);
  } while (descriptor < 0 && errno == EINTR);
  return File(descriptor);
}

int Sync(const File& file) {
  while (fsync(file.descriptor()) != 0) {
    if (errno != EINTR) return errno;
  }
  return 0;
}

int WriteAt(const File& file, uint64_t offset, BytesView bytes) {
  while (!bytes.empty()) {
    const ssize_t written =
        pwrite(file.descriptor(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return errno;
    if (written == 0) return EIO;
    bytes = bytes.subspan(static_cast<size_t>(written));
    offset += static_cast<uint64_t>(written);
  }
  return 0;
}

int Truncate(const File& file, uint64_t length) {
  while (ftruncate(file.descriptor(), static_cast<off_t>(length)) != 0) {
    if (errno != EINTR) return errno;
  }
  return 0;
}

int ReadAt(const File& file, uint64_t offset, std::span<uint8_t> into) {
  while (!into.empty()) {
    const ssize_t got =
        pread(file.descriptor(), into.data(), into.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno;
    if (got == 0) return EIO;
    into = into.subspan(static_cast<size_t>(got));
    offset += static_cast<uint64_t>(got);
  }
  return 0;
}

int SyncDirectory(const std::string& directory) {
  const File folder = OpenFile(directory, O_RDONLY | O_DIRECTORY);
  return folder.open() ? Sync(folder) : errno;
}

Status FileError(std::string_view what, int error) {
  std::string text(what);
  text.append(": ").append(std::generic_category().message(error));
  if (error == ENOSPC || error == EDQUOT || error == EFBIG)
    return ResourceExhausted(std::move(text) + "; free some disk space");
  return Unavailable(std::move(text));
}

}  // namespace chorus::client
