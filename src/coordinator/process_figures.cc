#include "coordinator/process_figures.h"

#include <sys/resource.h>
#include <sys/time.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <system_error>

namespace chorus::coordinator {
namespace {

double SecondsOf(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
}

// The fields of /proc/self/stat after the name of the program, which may hold spaces: proc(5)
// numbers the first of them 3.
void ReadStat(ProcessFigures& figures) {
  std::ifstream file("/proc/self/stat");
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const size_t name_end = text.rfind(')');
  if (name_end == std::string::npos) return;
  std::istringstream fields(text.substr(name_end + 1));
  constexpr int kThreadsField = 20;
  constexpr int kStartField = 22;
  constexpr int kResidentField = 24;
  std::string field;
  for (int number = 3; number <= kResidentField && fields >> field; ++number) {
    if (number == kThreadsField) figures.threads = std::strtoull(field.c_str(), nullptr, 10);
    if (number == kStartField) {
      const double ticks = static_cast<double>(::sysconf(_SC_CLK_TCK));
      if (ticks > 0) figures.started_unix_seconds = std::strtod(field.c_str(), nullptr) / ticks;
    }
    if (number == kResidentField) {
      figures.resident_bytes = std::strtoull(field.c_str(), nullptr, 10) *
                               static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
    }
  }
}

double BootUnixSeconds() {
  std::ifstream file("/proc/stat");
  for (std::string word; file >> word;) {
    if (word != "btime") continue;
    double seconds = 0;
    file >> seconds;
    return seconds;
  }
  return 0;
}

uint64_t OpenFiles() {
  std::error_code error;
  uint64_t count = 0;
  std::filesystem::directory_iterator each("/proc/self/fd", error);
  for (; !error && each != std::filesystem::directory_iterator(); each.increment(error)) ++count;
  return count;
}

}  // namespace

ProcessFigures ReadProcessFigures() {
  ProcessFigures figures;
  rusage usage{};
  if (::getrusage(RUSAGE_SELF, &usage) == 0) {
    figures.cpu_seconds = SecondsOf(usage.ru_utime) + SecondsOf(usage.ru_stime);
    figures.resident_bytes_max = static_cast<uint64_t>(usage.ru_maxrss) * 1'024;
  }
  ReadStat(figures);
  if (figures.started_unix_seconds > 0) figures.started_unix_seconds += BootUnixSeconds();
  figures.open_files = OpenFiles();
  rlimit files{};
  if (::getrlimit(RLIMIT_NOFILE, &files) == 0) figures.open_files_max = files.rlim_cur;
  return figures;
}

}  // namespace chorus::coordinator
