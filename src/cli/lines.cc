#include "cli/lines.h"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

namespace chorus::cli {

struct LineReader::Stream {
  explicit Stream(gzFile_s* opened) : file(opened) {}
  ~Stream() { gzclose(file); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  gzFile_s* file;
  std::array<char, size_t{64} << 10U> buffer;
  size_t begin = 0;
  size_t end = 0;
};

LineReader::LineReader(std::string path, std::unique_ptr<Stream> stream)
    : path_(std::move(path)), stream_(std::move(stream)) {}
LineReader::LineReader(LineReader&&) noexcept = default;
LineReader& LineReader::operator=(LineReader&&) noexcept = default;
LineReader::~LineReader() = default;

Result<LineReader> LineReader::Open(const std::string& path) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) {
    return InvalidArgument(path + " is a folder; name a file");
  }
  errno = 0;
  gzFile_s* const file = gzopen(path.c_str(), "rb");
  if (file != nullptr) return LineReader(path, std::make_unique<Stream>(file));
  if (errno == ENOENT || errno == ENOTDIR) {
    return NotFound(path + " cannot be opened: there is no such file; check the path");
  }
  if (errno == EACCES || errno == EPERM) {
    return PermissionDenied(path + " cannot be opened: check its owner and mode");
  }
  return Unavailable(path + " cannot be opened: " + std::strerror(errno));
}

Result<bool> LineReader::Next(std::string& line) {
  line.clear();
  Stream& stream = *stream_;
  while (true) {
    if (stream.begin == stream.end) {
      const int got =
          gzread(stream.file, stream.buffer.data(), static_cast<unsigned>(stream.buffer.size()));
      int code = Z_OK;
      gzerror(stream.file, &code);
      if (got < 0 || (got == 0 && code != Z_OK && code != Z_STREAM_END)) {
        return DataLoss(path_ + " is cut short or damaged after line " + std::to_string(number_) +
                        "; fetch it again");
      }
      stream.begin = 0;
      stream.end = static_cast<size_t>(got);
      if (got == 0) {
        if (line.empty()) return false;
        break;
      }
    }
    const char* const from = stream.buffer.data() + stream.begin;
    const char* const to = stream.buffer.data() + stream.end;
    const char* const newline = std::find(from, to, '\n');
    line.append(from, newline);
    if (line.size() > kLineBytesMax) {
      return ResourceExhausted(path_ + ":" + std::to_string(number_ + 1) +
                               ": a line of more than 64 MB; split it");
    }
    stream.begin = static_cast<size_t>(newline - stream.buffer.data());
    if (newline == to) continue;
    ++stream.begin;
    break;
  }
  ++number_;
  if (line.ends_with('\r')) line.pop_back();
  return true;
}

}  // namespace chorus::cli
