// Tasks and policies: files in Protobuf's text format, and a task as it is signed.
#include <algorithm>
#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "base/hex.h"
#include "base/limits.h"
#include "chorus/v1/types.pb.h"
#include "wire/learning.h"
#include "wire/proto.h"
#include "wire/wire.h"

namespace chorus::wire {
namespace {

using wire::Read;
using wire::Write;

static_assert(static_cast<int>(OneShotSet::kOsa4096) == v1::ONE_SHOT_SET_OSA_4096 &&
                  static_cast<int>(OneShotSet::kOsa8192) == v1::ONE_SHOT_SET_OSA_8192,
              "the plain enumerations share their numbers with the schema");
static_assert(limits::kStepDeadlineMax.count() <= UINT32_MAX, "a deadline is a uint32 on the wire");

void TakeMilliseconds(bool present, uint32_t value, std::chrono::milliseconds& out) {
  if (present) out = std::chrono::milliseconds(value);
}

uint32_t Milliseconds(std::chrono::milliseconds value) {
  return static_cast<uint32_t>(
      std::clamp<int64_t>(value.count(), 0, limits::kStepDeadlineMax.count()));
}

void Write(const DeadlineSpec& from, v1::Deadlines& to) {
  to.set_check_in_ms(Milliseconds(from.check_in));
  to.set_train_ms(Milliseconds(from.train));
  to.set_choose_ms(Milliseconds(from.choose));
  to.set_share_ms(Milliseconds(from.share));
  to.set_upload_ms(Milliseconds(from.upload));
  to.set_consistency_ms(Milliseconds(from.consistency));
  to.set_unmask_ms(Milliseconds(from.unmask));
  to.set_hedge_ms(Milliseconds(from.hedge));
}

Status Read(const v1::Deadlines& from, DeadlineSpec& to) {
  TakeMilliseconds(from.has_check_in_ms(), from.check_in_ms(), to.check_in);
  TakeMilliseconds(from.has_train_ms(), from.train_ms(), to.train);
  TakeMilliseconds(from.has_choose_ms(), from.choose_ms(), to.choose);
  TakeMilliseconds(from.has_share_ms(), from.share_ms(), to.share);
  TakeMilliseconds(from.has_upload_ms(), from.upload_ms(), to.upload);
  TakeMilliseconds(from.has_consistency_ms(), from.consistency_ms(), to.consistency);
  TakeMilliseconds(from.has_unmask_ms(), from.unmask_ms(), to.unmask);
  TakeMilliseconds(from.has_hedge_ms(), from.hedge_ms(), to.hedge);
  const std::pair<std::string_view, uint32_t> values[] = {
      {"deadlines.check_in_ms", from.check_in_ms()},
      {"deadlines.train_ms", from.train_ms()},
      {"deadlines.choose_ms", from.choose_ms()},
      {"deadlines.share_ms", from.share_ms()},
      {"deadlines.upload_ms", from.upload_ms()},
      {"deadlines.consistency_ms", from.consistency_ms()},
      {"deadlines.unmask_ms", from.unmask_ms()},
      {"deadlines.hedge_ms", from.hedge_ms()}};
  for (const std::pair<std::string_view, uint32_t>& value : values)
    CHORUS_TRY(AtMost(value.second, limits::kStepDeadlineMax.count(), value.first));
  return OkStatus();
}

v1::Protocol ProtocolOnTheWire(Protocol protocol) {
  if (protocol == Protocol::kPlain) return v1::PROTOCOL_PLAIN;
  return protocol == Protocol::kOneShot ? v1::PROTOCOL_ONE_SHOT : v1::PROTOCOL_SECAGG;
}

Protocol ProtocolOf(v1::Protocol protocol) {
  if (protocol == v1::PROTOCOL_PLAIN) return Protocol::kPlain;
  return protocol == v1::PROTOCOL_ONE_SHOT ? Protocol::kOneShot : Protocol::kSecAgg;
}

// Public keys as people write them into files. A file's size bounds their number.
template <typename Texts>
Status ReadKeys(const Texts& from, std::vector<PublicKey>& to, std::string_view field) {
  for (const std::string& text : from) {
    const Result<Bytes> key = FromHex(text);
    if (!key.ok() || key->size() != sizeof(PublicKey))
      return InvalidArgument(std::string(field) + " must be 64 hexadecimal digits each");
    std::copy(key->begin(), key->end(), to.emplace_back().begin());
  }
  return OkStatus();
}

void Write(const OneShotSpec& from, v1::OneShot& to) {
  to.set_set(static_cast<v1::OneShotSet>(from.set));
  for (const PublicKey& member : from.members) to.add_members(ToHex(member));
  to.set_gamma_members_ppm(from.gamma_members_ppm);
  to.set_delta_members_ppm(from.delta_members_ppm);
  to.set_gamma_ppm(from.gamma_ppm);
  to.set_honest_min(from.honest_min);
}

Status Read(const v1::OneShot& from, OneShotSpec& to) {
  if (from.set() != v1::ONE_SHOT_SET_UNSPECIFIED) to.set = static_cast<OneShotSet>(from.set());
  Take(from.has_gamma_members_ppm(), from.gamma_members_ppm(), to.gamma_members_ppm);
  Take(from.has_delta_members_ppm(), from.delta_members_ppm(), to.delta_members_ppm);
  Take(from.has_gamma_ppm(), from.gamma_ppm(), to.gamma_ppm);
  Take(from.has_honest_min(), from.honest_min(), to.honest_min);
  return ReadKeys(from.members(), to.members, "one_shot.members");
}

void Write(const TaskSpec& from, v1::Task& to) {
  to.set_name(from.name);
  if (from.queries.empty()) Write(from.model, *to.mutable_model());
  Write(from.training, *to.mutable_training());
  to.mutable_clip()->set_update_l2_norm_max(from.clip.update_l2_norm_max);
  to.mutable_encoding()->set_bound(from.encoding.bound);
  to.mutable_encoding()->set_examples_max(from.encoding.examples_max);
  to.set_protocol(ProtocolOnTheWire(from.protocol));
  to.mutable_secagg()->set_gamma_ppm(from.secagg.gamma_ppm);
  to.mutable_secagg()->set_delta_ppm(from.secagg.delta_ppm);
  to.mutable_secagg()->set_honest_min(from.secagg.honest_min);
  // Left out where it is the default, so that tasks of before keep their bytes.
  if (from.secagg.graph != SharingGraph::kComplete)
    to.mutable_secagg()->set_graph(static_cast<v1::SharingGraph>(from.secagg.graph));
  // Likewise in tasks of other protocols.
  if (from.protocol == Protocol::kOneShot) Write(from.one_shot, *to.mutable_one_shot());
  if (from.experimental) to.set_experimental(true);
  if (!from.adapt) to.set_adapt(false);
  v1::Cohort& cohort = *to.mutable_cohort();
  cohort.set_minimum(from.cohort.minimum);
  cohort.set_target(from.cohort.target);
  cohort.set_maximum(from.cohort.maximum);
  cohort.set_over_selection_percent(from.cohort.over_selection_percent);
  if (from.cohort.parallel != 1) cohort.set_parallel(from.cohort.parallel);  // likewise
  Write(from.deadlines, *to.mutable_deadlines());
  to.set_rounds(from.rounds);
  to.set_server_learning_rate(from.server_learning_rate);
  WriteServer(from, to);
}

Status Read(const v1::Task& from, TaskSpec& to) {
  if (from.name().empty()) return InvalidArgument("the task has no name: set name");
  if (CleanText(from.name(), kNameBytesMax) != from.name())
    return InvalidArgument("name must be UTF-8 without control characters, of at most " +
                           std::to_string(kNameBytesMax) + " bytes");
  if (!from.has_model() && from.queries().empty())
    return InvalidArgument("the task has no model: set model, or queries for analytics");
  if (from.protocol() == v1::PROTOCOL_UNSPECIFIED)
    return InvalidArgument("the task has no protocol: set protocol");
  to.name = from.name();
  to.protocol = ProtocolOf(from.protocol());
  if (from.has_model()) CHORUS_TRY(Read(from.model(), to.model));
  CHORUS_TRY(ReadServer(from, to));
  Read(from.training(), to.training);
  Take(from.clip().has_update_l2_norm_max(), from.clip().update_l2_norm_max(),
       to.clip.update_l2_norm_max);
  Take(from.encoding().has_bound(), from.encoding().bound(), to.encoding.bound);
  Take(from.encoding().has_examples_max(), from.encoding().examples_max(),
       to.encoding.examples_max);
  Take(from.secagg().has_gamma_ppm(), from.secagg().gamma_ppm(), to.secagg.gamma_ppm);
  Take(from.secagg().has_delta_ppm(), from.secagg().delta_ppm(), to.secagg.delta_ppm);
  Take(from.secagg().has_honest_min(), from.secagg().honest_min(), to.secagg.honest_min);
  Take(from.secagg().has_graph(), static_cast<SharingGraph>(from.secagg().graph()),
       to.secagg.graph);
  CHORUS_TRY(Read(from.one_shot(), to.one_shot));
  Take(from.has_experimental(), from.experimental(), to.experimental);
  Take(from.has_adapt(), from.adapt(), to.adapt);
  const v1::Cohort& cohort = from.cohort();
  Take(cohort.has_minimum(), cohort.minimum(), to.cohort.minimum);
  Take(cohort.has_target(), cohort.target(), to.cohort.target);
  Take(cohort.has_maximum(), cohort.maximum(), to.cohort.maximum);
  Take(cohort.has_over_selection_percent(), cohort.over_selection_percent(),
       to.cohort.over_selection_percent);
  Take(cohort.has_parallel(), cohort.parallel(), to.cohort.parallel);
  CHORUS_TRY(Read(from.deadlines(), to.deadlines));
  Take(from.has_rounds(), from.rounds(), to.rounds);
  Take(from.has_server_learning_rate(), from.server_learning_rate(), to.server_learning_rate);
  return AtMost(to.rounds, limits::kRoundsMax, "rounds");
}

Status Read(const v1::Policy& from, Policy& to) {
  Take(from.has_allow_plain(), from.allow_plain(), to.allow_plain);
  Take(from.has_cohort_min(), from.cohort_min(), to.cohort_min);
  Take(from.has_honest_min(), from.honest_min(), to.honest_min);
  Take(from.has_gamma_ppm_min(), from.gamma_ppm_min(), to.gamma_ppm_min);
  Take(from.has_delta_ppm_min(), from.delta_ppm_min(), to.delta_ppm_min);
  Take(from.has_update_l2_norm_max(), from.update_l2_norm_max(), to.update_l2_norm_max);
  Take(from.has_uploads_per_model_max(), from.uploads_per_model_max(), to.uploads_per_model_max);
  Take(from.has_allow_honest_but_curious(), from.allow_honest_but_curious(),
       to.allow_honest_but_curious);
  Take(from.has_allow_experimental(), from.allow_experimental(), to.allow_experimental);
  Take(from.has_allow_any_committee(), from.allow_any_committee(), to.allow_any_committee);
  Take(from.has_allow_analytics(), from.allow_analytics(), to.allow_analytics);
  Take(from.has_analytics_cohort_min(), from.analytics_cohort_min(), to.analytics_cohort_min);
  return ReadKeys(from.committee(), to.committee, "committee");
}

template <typename Proto, typename T>
Result<T> ReadText(std::string_view text, std::string_view kind) {
  Proto proto;
  Locations locations;
  CHORUS_TRY(ParseText(text, kind, proto, locations));
  T value;
  Status status = CheckValues(proto, &locations);
  if (status.ok()) status = Read(proto, value);
  if (!status.ok()) return InvalidArgument(std::string(kind) + " file " + status.message());
  return value;
}

}  // namespace

Result<TaskSpec> ParseTaskText(std::string_view text) {
  return ReadText<v1::Task, TaskSpec>(text, "task");
}

Result<Policy> ParsePolicyText(std::string_view text) {
  return ReadText<v1::Policy, Policy>(text, "policy");
}

Bytes EncodeTask(const TaskSpec& task) {
  v1::Task proto;
  Write(task, proto);
  return Serialize(proto);
}

Result<TaskSpec> DecodeTask(BytesView bytes) {
  v1::Task proto;
  CHORUS_TRY(Parse(bytes, limits::kTaskBytesMax, proto));
  CHORUS_TRY(CheckValues(proto, nullptr));
  TaskSpec task;
  CHORUS_TRY(Read(proto, task));
  return task;
}

}  // namespace chorus::wire
