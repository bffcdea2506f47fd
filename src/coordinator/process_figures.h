// What this process uses of its machine, out of /proc.
#pragma once

#include <cstdint>

namespace chorus::coordinator {

// Zeros where the system does not say.
struct ProcessFigures {
  double cpu_seconds = 0;
  uint64_t resident_bytes = 0;
  uint64_t resident_bytes_max = 0;  // the peak
  uint64_t threads = 0;
  uint64_t open_files = 0;
  uint64_t open_files_max = 0;
  double started_unix_seconds = 0;
};
ProcessFigures ReadProcessFigures();

}  // namespace chorus::coordinator
