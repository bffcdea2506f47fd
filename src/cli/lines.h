// Lines of text files, compressed with gzip or not.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "chorus/status.h"

namespace chorus::cli {

inline constexpr size_t kLineBytesMax = size_t{64} << 20U;

// Reads one line after the other. Every error names the file. Thread-compatible.
class LineReader {
 public:
  // kNotFound, kPermissionDenied, kUnavailable: it cannot be read.
  static Result<LineReader> Open(const std::string& path);
  LineReader(LineReader&&) noexcept;
  LineReader& operator=(LineReader&&) noexcept;
  ~LineReader();

  // Puts the next line into `line`, without its end ("\n" or "\r\n"); false after the last.
  // kResourceExhausted: longer than kLineBytesMax; kDataLoss: damaged or cut short.
  Result<bool> Next(std::string& line);
  uint64_t number() const { return number_; }  // of the line last read, from 1
  const std::string& path() const { return path_; }
  // "PATH:LINE", for messages.
  std::string Where() const { return path_ + ":" + std::to_string(number_); }

 private:
  struct Stream;
  LineReader(std::string path, std::unique_ptr<Stream> stream);
  std::string path_;
  std::unique_ptr<Stream> stream_;
  uint64_t number_ = 0;
};

}  // namespace chorus::cli
