#include "coordinator/processes.h"

#include <algorithm>
#include <array>
#include <set>
#include <utility>

#include "base/hex.h"
#include "base/limits.h"

namespace chorus::coordinator {
namespace {

constexpr size_t kProcessNameBytes = 12;

}  // namespace

std::string DrawProcessName(Rng& rng) {
  std::array<uint8_t, kProcessNameBytes> drawn{};
  rng.Fill(drawn);
  return ToHex(drawn);
}

CohortReport ReportOf(const CohortRecord& cohort) {
  Result<CohortReport> report = DecodeCohortReport(cohort.report);
  return report.ok() ? *std::move(report) : CohortReport();
}

void FailCohort(CohortRecord& cohort, std::string why) {
  CohortReport report = ReportOf(cohort);
  report.code = Code::kUnavailable;
  report.reason = std::move(why);
  cohort.state = CohortState::kFailed;
  cohort.report = EncodeCohortReport(report);
}

// Another task of this start may have dropped the predecessor's record already, so a cohort whose
// process has none is its own as well: whoever lives renews its record.
Status SucceedTo(const Successor& successor, const TaskId& task, std::span<CohortRecord> cohorts,
                 Transaction& transaction) {
  if (successor.address.empty()) return OkStatus();
  CHORUS_TRY_ASSIGN(const std::vector<ProcessRecord> processes, transaction.Processes());
  std::set<std::string> others = {successor.name};
  for (const ProcessRecord& process : processes) {
    if (process.name == successor.name) continue;
    if (process.address == successor.address) {
      CHORUS_TRY(transaction.DropProcess(process.name));
    } else {
      others.insert(process.name);
    }
  }
  for (CohortRecord& cohort : cohorts) {
    if (cohort.state != CohortState::kOpen || others.contains(cohort.process)) continue;
    FailCohort(cohort, "the process that ran the cohort died, and was started again");
    CHORUS_TRY(transaction.PutCohort(task, cohort));
  }
  return OkStatus();
}

Result<std::vector<wire::Process>> ProcessesOf(Transaction& transaction, const TaskRecord& record) {
  CHORUS_TRY_ASSIGN(const Time store_now, transaction.Now());
  CHORUS_TRY_ASSIGN(const std::vector<ProcessRecord> processes, transaction.Processes());
  CHORUS_TRY_ASSIGN(const std::vector<CohortRecord> cohorts,
                    transaction.CohortsOf(record.id, record.rounds_begun));
  std::vector<wire::Process> views;
  for (const ProcessRecord& process : processes) {
    if (views.size() == limits::kStatusProcessesMax) break;
    wire::Process view{.name = process.name, .address = process.address, .cohorts = 0};
    view.age = std::max(store_now - process.seen, Time{0});
    view.cohorts = static_cast<uint32_t>(
        std::count_if(cohorts.begin(), cohorts.end(), [&process](const CohortRecord& cohort) {
          return cohort.process == process.name && cohort.state == CohortState::kOpen;
        }));
    views.push_back(std::move(view));
  }
  return views;
}

}  // namespace chorus::coordinator
