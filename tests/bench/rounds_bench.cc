// What rounds of secure aggregation cost: whole sessions over the in-memory transport, every client
// masking for real, for each size of cohort and vector, share of dropouts and assumed dropout. The
// table goes to the standard output and, cell by cell, to the file named, from which an interrupted
// run goes on.
#include <fstream>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "bench.h"
#include "crypto/mask.h"
#include "session.h"

namespace chorus::bench {
namespace {

constexpr uint32_t kCohorts[] = {100, 192, 512, 1'000};
constexpr uint64_t kDims[] = {10'000, 100'000, 1'000'000};
constexpr uint32_t kDropoutPercents[] = {0, 10, 30};
constexpr uint32_t kDeltasPpm[] = {50'000, 100'000, 330'000};
constexpr uint32_t kGammaPpm = 50'000;
constexpr uint32_t kCompleteMax = 100;  // larger cohorts draw their neighbours
constexpr uint32_t kQuickCohortMax = 192;
constexpr uint64_t kQuickDimMax = 100'000;
constexpr double kMebibyte = 1024.0 * 1024.0;

constexpr char kHeading[] =
    "| n | d | delta | dropped | k / t | server CPU s | x AES | of it unmasking | client CPU ms | "
    "x AES | KB up | KB down | server MiB | client MiB |\n"
    "|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n";

struct Options {
  bool quick = false;      // small cohorts and vectors only
  bool backwards = false;  // the last cell first: a second process on the same file shares the work
  std::string path;        // of the rows measured so far; none are kept when empty
};

struct Cell {
  uint32_t clients = 0;
  uint64_t dim = 0;
  uint32_t delta_ppm = 0;
  uint32_t dropout_percent = 0;
};

std::vector<Cell> Cells(bool quick) {
  std::vector<Cell> cells;
  for (const uint32_t clients : kCohorts) {
    for (const uint64_t dim : kDims) {
      if (quick && (clients > kQuickCohortMax || dim > kQuickDimMax)) continue;
      for (const uint32_t delta : kDeltasPpm) {
        for (const uint32_t percent : kDropoutPercents) {
          cells.push_back({clients, dim, delta, percent});
        }
      }
    }
  }
  return cells;
}

std::string Format(const char* format, double value) {
  char text[64];
  std::snprintf(text, sizeof(text), format, value);
  return text;
}

// The first columns, by which a row is known.
std::string KeyOf(const Cell& cell) {
  return "| " + std::to_string(cell.clients) + " | " + std::to_string(cell.dim) + " | " +
         Format("%.2f", cell.delta_ppm / 1e6) + " | " + std::to_string(cell.dropout_percent) +
         " % |";
}

std::string Row(const Cell& cell, const SessionCosts& costs) {
  const double aes = costs.raw_aes_seconds * sizeof(uint32_t) * static_cast<double>(cell.dim);
  const uint64_t vector = cell.dim * sizeof(uint32_t);
  const double server_aes = aes * static_cast<double>(costs.server_masks);
  const double client_aes = aes * costs.client_masks;
  return KeyOf(cell) + " " + std::to_string(costs.sharing.k) + " / " +
         std::to_string(costs.sharing.t) + Format(" | %.3g", costs.server_seconds) +
         Format(" | %.2f", costs.server_seconds / server_aes) +
         Format(" | %.3g", costs.unmask_seconds) + Format(" | %.3g", 1e3 * costs.client_seconds) +
         Format(" | %.2f", costs.client_seconds / client_aes) +
         Format(" | %.1f", costs.bytes_up / 1e3) + Format(" | %.1f", costs.bytes_down / 1e3) +
         Format(" | %.2f", static_cast<double>(costs.server_bytes + vector) / kMebibyte) +
         Format(" | %.2f |", static_cast<double>(costs.client_bytes + vector) / kMebibyte);
}

std::string AbortedRow(const Cell& cell, const std::string& why) {
  return KeyOf(cell) + " aborts: " + why + " | | | | | | | | | |";
}

std::string Measure(const Cell& cell) {
  const SessionShape shape = {
      .graph = cell.clients <= kCompleteMax ? SharingGraph::kComplete : SharingGraph::kSelfSelected,
      .clients = cell.clients,
      .dim = cell.dim,
      .dropped = cell.clients * cell.dropout_percent / 100,
      .gamma_ppm = kGammaPpm,
      .delta_ppm = cell.delta_ppm,
      .path = crypto::FastestMaskPath()};
  const uint32_t uploads = shape.clients - shape.dropped;
  if (uploads < UploadsMin(shape)) {
    return AbortedRow(cell, std::to_string(uploads) + " uploads of at least " +
                                std::to_string(UploadsMin(shape)));
  }
  const Result<SessionCosts> costs = RunSession(shape);
  return costs.ok() ? Row(cell, *costs) : AbortedRow(cell, costs.status().message());
}

// Rows of an earlier run, by their first columns.
std::map<std::string, std::string> RowsIn(const std::string& path) {
  std::map<std::string, std::string> rows;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    for (const Cell& cell : Cells(false)) {
      const std::string key = KeyOf(cell);
      if (line.starts_with(key)) rows[key] = line;
    }
  }
  return rows;
}

void PrintTable(const Options& options) {
  std::vector<Cell> cells = Cells(options.quick);
  if (options.backwards) std::reverse(cells.begin(), cells.end());
  std::printf("%s", kHeading);
  for (const Cell& cell : cells) {
    std::string row = RowsIn(options.path)[KeyOf(cell)];
    if (row.empty()) {
      row = Measure(cell);
      if (!options.path.empty()) std::ofstream(options.path, std::ios::app) << row << std::endl;
    }
    std::printf("%s\n", row.c_str());
    std::fflush(stdout);
  }
}

}  // namespace
}  // namespace chorus::bench

// rounds_bench [--quick] [--backwards] [FILE]
int main(int count, char** words) {
  chorus::bench::Options options;
  for (const std::string_view word : std::span(words, static_cast<size_t>(count)).subspan(1)) {
    if (word == "--quick") {
      options.quick = true;
    } else if (word == "--backwards") {
      options.backwards = true;
    } else {
      options.path = word;
    }
  }
  chorus::bench::PrintTable(options);
}
