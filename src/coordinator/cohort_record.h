// What a cohort leaves in a shared store when it ends: its part of the round's report, and its sum.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "chorus/aggregation.h"
#include "chorus/bytes.h"
#include "chorus/host.h"
#include "chorus/status.h"
#include "chorus/store.h"
#include "chorus/task.h"

namespace chorus::coordinator {

// What a cohort says into its round's report.
struct CohortReport {
  Time began{};  // the store's time
  uint32_t invited = 0;
  uint32_t refused = 0;
  std::vector<uint32_t> dropouts;
  uint64_t bytes_up = 0;
  uint64_t bytes_down = 0;
  Code code = Code::kOk;  // why it failed
  std::string reason;     // likewise
};
Bytes EncodeCohortReport(const CohortReport& report);
// kInvalidArgument: not what the above makes.
Result<CohortReport> DecodeCohortReport(BytesView bytes);

// A cohort as its sum is kept under: two sums of the same values are two contents.
struct CohortName {
  TaskId task{};
  uint64_t round = 0;
  uint32_t cohort = 0;
};
// The sum of a cohort of `task` as it is kept until its round is concluded.
Result<Bytes> EncodeSum(const TaskSpec& task, const CohortName& name, const Sum& sum);
// kInvalidArgument: not a sum of this cohort.
Result<Sum> DecodeSum(const TaskSpec& task, const CohortName& name, BytesView bytes);

}  // namespace chorus::coordinator
