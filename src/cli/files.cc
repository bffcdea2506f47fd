#include "cli/files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/hex.h"
#include "crypto/crypto.h"

namespace chorus::cli {
namespace {

// An open file, closed on every path out.
class File {
 public:
  explicit File(int descriptor) : descriptor_(descriptor) {}
  ~File() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  int get() const { return descriptor_; }
  // False when the file system reports a late failure, as network file systems do.
  bool Close() { return ::close(std::exchange(descriptor_, -1)) == 0; }

 private:
  int descriptor_;
};

std::string Quoted(const std::string& path) { return "\"" + path + "\""; }

Status Failed(const std::string& what, const std::string& path, int error) {
  const std::string where = what + " " + Quoted(path) + ": ";
  switch (error) {
    case ENOENT:
    case ENOTDIR:
      return NotFound(where + "there is no such file or folder; check the path");
    case EACCES:
    case EPERM:
    case EROFS:
      return PermissionDenied(where + "this user may not; check the permissions");
    case EEXIST:
      return AlreadyExists(where +
                           "it exists already and is not overwritten; choose another "
                           "folder, or move it away");
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return ResourceExhausted(where + "the disk is full; free some space and run this again");
    default:
      return Unavailable(where + std::strerror(error));
  }
}

std::string FolderOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

Status WriteAll(const File& file, BytesView content, const std::string& path) {
  while (!content.empty()) {
    const ssize_t count = ::write(file.get(), content.data(), content.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return Failed("cannot write", path, errno);
    content = content.subspan(static_cast<size_t>(count));
  }
  if (::fsync(file.get()) != 0) return Failed("cannot write", path, errno);
  return OkStatus();
}

// Gives the finished file its name. link() refuses an existing name atomically, rename() replaces.
Status Publish(const std::string& temporary, const std::string& path, Existing existing) {
  if (existing == Existing::kRefuse) {
    if (::link(temporary.c_str(), path.c_str()) != 0) return Failed("cannot make", path, errno);
  } else if (::rename(temporary.c_str(), path.c_str()) != 0) {
    return Failed("cannot replace", path, errno);
  }
  const File folder(::open(FolderOf(path).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (folder.get() < 0 || ::fsync(folder.get()) != 0) {
    return Failed("cannot make durable", path, errno);
  }
  return OkStatus();
}

std::string_view Trimmed(std::string_view text) {
  const auto blank = [](char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; };
  while (!text.empty() && blank(text.back())) text.remove_suffix(1);
  while (!text.empty() && blank(text.front())) text.remove_prefix(1);
  return text;
}

// The 32 bytes behind 64 hexadecimal digits, in a buffer that is wiped.
Result<SecretBytes> ReadHexKey(const std::string& path) {
  CHORUS_TRY_ASSIGN(Bytes raw, ReadFile(path, kTextBytesMax));
  const SecretBytes text(std::move(raw));
  const auto* characters = reinterpret_cast<const char*>(text.Reveal().data());
  Result<Bytes> key = FromHex(Trimmed({characters, text.size()}));
  if (!key.ok() || key->size() != crypto::kKeyBytes) {
    if (key.ok()) Wipe(*key);
    return DataLoss("the key file " + Quoted(path) +
                    " does not hold 64 hexadecimal digits; restore it, or make new keys");
  }
  return SecretBytes(*std::move(key));
}

}  // namespace

Result<Bytes> ReadFile(const std::string& path, size_t bytes_max) {
  const File file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.get() < 0) return Failed("cannot open", path, errno);
  struct stat about {};
  if (::fstat(file.get(), &about) != 0) return Failed("cannot read", path, errno);
  if (!S_ISREG(about.st_mode)) {
    return InvalidArgument(Quoted(path) + " is not a regular file; name a file");
  }
  if (static_cast<uint64_t>(about.st_size) > bytes_max) {
    return ResourceExhausted(Quoted(path) + " is larger than " + std::to_string(bytes_max) +
                             " bytes; this cannot be the right file");
  }
  Bytes content(static_cast<size_t>(about.st_size));
  size_t filled = 0;
  while (filled < content.size()) {
    const ssize_t count = ::read(file.get(), content.data() + filled, content.size() - filled);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return Failed("cannot read", path, errno);
    if (count == 0) return DataLoss(Quoted(path) + " became shorter while it was read; try again");
    filled += static_cast<size_t>(count);
  }
  return content;
}

Result<std::string> ReadText(const std::string& path) {
  CHORUS_TRY_ASSIGN(const Bytes content, ReadFile(path, kTextBytesMax));
  return std::string(content.begin(), content.end());
}

Result<SecretBytes> ReadSeed(const std::string& path) { return ReadHexKey(path); }

Result<PublicKey> ReadPublicKey(const std::string& path) {
  CHORUS_TRY_ASSIGN(const SecretBytes raw, ReadHexKey(path));
  PublicKey key{};
  std::copy_n(raw.Reveal().begin(), key.size(), key.begin());
  return key;
}

Status WriteFile(const std::string& path, BytesView content, WriteOptions options) {
  if (options.existing == Existing::kRefuse && Exists(path)) {
    return Failed("cannot make", path, EEXIST);
  }
  const std::string temporary = path + ".part-" + std::to_string(::getpid());
  const mode_t mode = options.access == Access::kSecret ? 0600 : 0644;
  ::unlink(temporary.c_str());  // left by a crash of an earlier process of this number
  File file(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode));
  if (file.get() < 0) return Failed("cannot make", path, errno);
  Status status = WriteAll(file, content, path);
  if (!file.Close() && status.ok()) status = Failed("cannot write", path, errno);
  if (status.ok()) status = Publish(temporary, path, options.existing);
  ::unlink(temporary.c_str());
  return status;
}

Status WriteSeed(const std::string& path, BytesView seed) {
  std::string text = ToHex(seed) + "\n";
  const Status status = WriteFile(path, ViewOf(text), {.access = Access::kSecret});
  Wipe({reinterpret_cast<uint8_t*>(text.data()), text.size()});
  return status;
}

Status WritePublicKey(const std::string& path, const PublicKey& key) {
  const std::string text = ToHex(key) + "\n";
  return WriteFile(path, ViewOf(text), {});
}

Status MakeFolder(const std::string& path, Access access) {
  const mode_t mode = access == Access::kSecret ? 0700 : 0755;
  for (size_t slash = path.find('/', 1);; slash = path.find('/', slash + 1)) {
    const std::string part = path.substr(0, slash);
    if (::mkdir(part.c_str(), mode) != 0 && errno != EEXIST) {
      return Failed("cannot make the folder", part, errno);
    }
    if (slash == std::string::npos) break;
  }
  struct stat about {};
  if (::stat(path.c_str(), &about) != 0 || !S_ISDIR(about.st_mode)) {
    return FailedPrecondition(Quoted(path) + " is not a folder; move it away, or name another");
  }
  return OkStatus();
}

bool Exists(const std::string& path) {
  struct stat about {};
  return ::lstat(path.c_str(), &about) == 0;
}

}  // namespace chorus::cli
