#include "coordinator/cohort_record.h"

#include <algorithm>

#include "base/codec.h"
#include "learning/learning.h"
#include "math/math.h"

namespace chorus::coordinator {
namespace {

constexpr uint8_t kFormat = 1;
constexpr size_t kReasonBytesMax = 1'000;
constexpr std::string_view kSumLabel = "CHORUS1/cohort-sum";

Result<math::FixedPoint> EncodingOf(const TaskSpec& task) {
  return math::FixedPointFor(learning::ContributionDim(task), task.clip, task.encoding,
                             task.cohort.maximum);
}

Writer SumHead(const CohortName& name, uint32_t contributors) {
  Writer writer;
  writer.Raw(kSumLabel).Raw(name.task).U64(name.round).U32(name.cohort).U32(contributors);
  return writer;
}

}  // namespace

Bytes EncodeCohortReport(const CohortReport& report) {
  Writer writer;
  writer.U8(kFormat).U64(static_cast<uint64_t>(report.began.count()));
  writer.U32(report.invited).U32(report.refused).U64(report.bytes_up).U64(report.bytes_down);
  writer.U32(static_cast<uint32_t>(report.code));
  const std::string_view reason = std::string_view(report.reason).substr(0, kReasonBytesMax);
  writer.U32(static_cast<uint32_t>(reason.size())).Raw(reason);
  writer.U32(static_cast<uint32_t>(report.dropouts.size()));
  for (const uint32_t count : report.dropouts) writer.U32(count);
  return std::move(writer).Take();
}

Result<CohortReport> DecodeCohortReport(BytesView bytes) {
  Reader reader(bytes);
  CohortReport report;
  if (reader.U8() != kFormat) return InvalidArgument("a cohort's report has another format");
  report.began = Time{static_cast<Time::rep>(reader.U64())};
  report.invited = reader.U32();
  report.refused = reader.U32();
  report.bytes_up = reader.U64();
  report.bytes_down = reader.U64();
  const uint32_t code = reader.U32();
  if (code > static_cast<uint32_t>(Code::kUnauthenticated)) {
    return InvalidArgument("a cohort's report names a code that there is not");
  }
  report.code = static_cast<Code>(code);
  const BytesView reason = reader.Raw(reader.Count(1));
  report.reason.assign(reason.begin(), reason.end());
  const uint32_t steps = reader.Count(sizeof(uint32_t));
  for (uint32_t i = 0; i < steps; ++i) report.dropouts.push_back(reader.U32());
  CHORUS_TRY(reader.Finish("a cohort's report"));
  return report;
}

Result<Bytes> EncodeSum(const TaskSpec& task, const CohortName& name, const Sum& sum) {
  CHORUS_TRY_ASSIGN(const math::FixedPoint encoding, EncodingOf(task));
  CHORUS_TRY(math::CheckSum(encoding, sum));
  Bytes bytes = std::move(SumHead(name, sum.contributors)).Take();
  const size_t head = bytes.size();
  bytes.resize(head + math::PackedBytes(encoding.vector_dim(), encoding.bits));
  math::PackInto(sum.values, encoding.bits, std::span(bytes).subspan(head));
  return bytes;
}

Result<Sum> DecodeSum(const TaskSpec& task, const CohortName& name, BytesView bytes) {
  CHORUS_TRY_ASSIGN(const math::FixedPoint encoding, EncodingOf(task));
  const size_t head = SumHead(name, 0).view().size();
  // Looked at before memory for it is taken.
  if (bytes.size() != head + math::PackedBytes(encoding.vector_dim(), encoding.bits)) {
    return InvalidArgument("a cohort's sum has another size than the task's");
  }
  Sum sum;
  sum.contributors = Reader(bytes.subspan(head - sizeof(uint32_t))).U32();
  const Writer expected = SumHead(name, sum.contributors);
  if (!std::ranges::equal(expected.view(), bytes.first(head))) {
    return InvalidArgument("the sum is another cohort's");
  }
  sum.values = math::ZeroVector(encoding.vector_dim(), encoding.bits);
  CHORUS_TRY(math::AddPacked(sum.values, bytes.subspan(head), encoding.bits));
  CHORUS_TRY(math::CheckSum(encoding, sum));
  return sum;
}

}  // namespace chorus::coordinator
