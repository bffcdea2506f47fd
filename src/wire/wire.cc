#include "wire/wire.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/limits.h"
#include "chorus/v1/service.pb.h"
#include "chorus/v1/types.pb.h"
#include "wire/proto.h"

namespace chorus::wire {
namespace {

static_assert(static_cast<int>(Activation::kSigmoid) == v1::ACTIVATION_SIGMOID &&
                  static_cast<int>(Loss::kSquaredError) == v1::LOSS_SQUARED_ERROR &&
                  static_cast<int>(RoundState::kAborted) == v1::ROUND_STATE_ABORTED,
              "the plain enumerations share their numbers with the schema");
static_assert(limits::kStepDeadlineMax.count() <= UINT32_MAX, "a deadline is a uint32 on the wire");

// --- tasks and policies --------------------------------------------------------------------------

template <typename T>
void Take(bool present, T value, T& out) {
  if (present) out = value;
}

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

void Write(const ModelSpec& from, v1::Model& to) {
  to.set_inputs(from.inputs);
  for (const LayerSpec& layer : from.layers) {
    v1::Layer& out = *to.add_layers();
    out.set_units(layer.units);
    out.set_activation(static_cast<v1::Activation>(layer.activation));
  }
  to.set_loss(static_cast<v1::Loss>(from.loss));
}

// `from` has passed CheckValues, so its enumerations are known.
Status Read(const v1::Model& from, ModelSpec& to) {
  CHORUS_TRY(Between(from.inputs(), 1, limits::kUnitsMax, "model.inputs"));
  CHORUS_TRY(Between(static_cast<uint64_t>(from.layers_size()), 1, limits::kLayersMax,
                     "the number of model.layers"));
  to.inputs = from.inputs();
  for (const v1::Layer& layer : from.layers()) {
    CHORUS_TRY(Between(layer.units(), 1, limits::kUnitsMax, "units of a layer"));
    to.layers.push_back(
        {.units = layer.units(), .activation = static_cast<Activation>(layer.activation())});
  }
  to.loss = static_cast<Loss>(from.loss());
  return OkStatus();
}

void Write(const TaskSpec& from, v1::Task& to) {
  to.set_name(from.name);
  Write(from.model, *to.mutable_model());
  v1::Training& training = *to.mutable_training();
  training.set_epochs(from.training.epochs);
  training.set_batch_size(from.training.batch_size);
  training.set_learning_rate(from.training.learning_rate);
  training.set_held_back_percent(from.training.held_back_percent);
  to.mutable_clip()->set_update_l2_norm_max(from.clip.update_l2_norm_max);
  to.mutable_encoding()->set_bound(from.encoding.bound);
  to.mutable_encoding()->set_examples_max(from.encoding.examples_max);
  to.set_protocol(from.protocol == Protocol::kPlain ? v1::PROTOCOL_PLAIN : v1::PROTOCOL_SECAGG);
  to.mutable_secagg()->set_gamma_ppm(from.secagg.gamma_ppm);
  to.mutable_secagg()->set_delta_ppm(from.secagg.delta_ppm);
  to.mutable_secagg()->set_honest_min(from.secagg.honest_min);
  // Left out where it is the default, so that tasks of before keep their bytes.
  if (from.secagg.graph != SharingGraph::kComplete)
    to.mutable_secagg()->set_graph(static_cast<v1::SharingGraph>(from.secagg.graph));
  v1::Cohort& cohort = *to.mutable_cohort();
  cohort.set_minimum(from.cohort.minimum);
  cohort.set_target(from.cohort.target);
  cohort.set_maximum(from.cohort.maximum);
  cohort.set_over_selection_percent(from.cohort.over_selection_percent);
  if (from.cohort.parallel != 1) cohort.set_parallel(from.cohort.parallel);  // likewise
  Write(from.deadlines, *to.mutable_deadlines());
  to.set_rounds(from.rounds);
  to.set_server_learning_rate(from.server_learning_rate);
}

Status Read(const v1::Task& from, TaskSpec& to) {
  if (from.name().empty()) return InvalidArgument("the task has no name: set name");
  if (CleanText(from.name(), kNameBytesMax) != from.name())
    return InvalidArgument("name must be UTF-8 without control characters, of at most " +
                           std::to_string(kNameBytesMax) + " bytes");
  if (!from.has_model()) return InvalidArgument("the task has no model: set model");
  if (from.protocol() == v1::PROTOCOL_UNSPECIFIED)
    return InvalidArgument("the task has no protocol: set protocol");
  to.name = from.name();
  to.protocol = from.protocol() == v1::PROTOCOL_PLAIN ? Protocol::kPlain : Protocol::kSecAgg;
  CHORUS_TRY(Read(from.model(), to.model));
  const v1::Training& training = from.training();
  Take(training.has_epochs(), training.epochs(), to.training.epochs);
  Take(training.has_batch_size(), training.batch_size(), to.training.batch_size);
  Take(training.has_learning_rate(), training.learning_rate(), to.training.learning_rate);
  Take(training.has_held_back_percent(), training.held_back_percent(),
       to.training.held_back_percent);
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

// --- calls ---------------------------------------------------------------------------------------

void Write(const ChallengeRequest&, v1::ChallengeRequest&) {}
Status Read(const v1::ChallengeRequest&, ChallengeRequest&) { return OkStatus(); }

void Write(const ChallengeReply& from, v1::ChallengeReply& to) {
  to.set_challenge(Text(from.challenge));
}
Status Read(const v1::ChallengeReply& from, ChallengeReply& to) {
  return Fixed(from.challenge(), to.challenge, "challenge");
}

void Write(const CheckInRequest& from, v1::CheckInRequest& to) {
  to.set_challenge(Text(from.challenge));
  to.set_identity(Text(from.identity));
  to.set_evidence(Text(from.evidence));
  to.set_signature(Text(from.signature));
  to.set_version(from.version);
}
Status Read(const v1::CheckInRequest& from, CheckInRequest& to) {
  CHORUS_TRY(Fixed(from.challenge(), to.challenge, "challenge"));
  CHORUS_TRY(Fixed(from.identity(), to.identity, "identity"));
  CHORUS_TRY(AtMost(from.evidence().size(), limits::kEvidenceBytesMax, "the size of evidence"));
  CHORUS_TRY(Fixed(from.signature(), to.signature, "signature"));
  to.evidence = Copy(from.evidence());
  to.version = from.version();
  return OkStatus();
}

void Write(const CheckInReply& from, v1::CheckInReply& to) { to.set_session(Text(from.session)); }
Status Read(const v1::CheckInReply& from, CheckInReply& to) {
  return Fixed(from.session(), to.session, "session");
}

void Write(const NextRequest& from, v1::NextRequest& to) {
  to.set_session(Text(from.session));
  to.set_done(from.done);
}
Status Read(const v1::NextRequest& from, NextRequest& to) {
  to.done = from.done();
  return Fixed(from.session(), to.session, "session");
}

struct WriteWhat {
  v1::NextReply& to;
  void operator()(const Wait& from) const {
    to.mutable_wait()->set_retry_ms(from.retry_ms);
    to.mutable_wait()->set_complete(from.complete);
  }
  void operator()(const Invitation& from) const {
    v1::Invitation& out = *to.mutable_invitation();
    out.set_round(from.round);
    out.set_task(Text(from.task));
    out.set_task_signature(Text(from.task_signature));
    out.set_model(Text(from.model));
    out.set_model_bytes(from.model_bytes);
  }
  void operator()(const Question& from) const {
    to.mutable_question()->set_total_bytes(from.total_bytes);
    to.mutable_question()->set_sha256(Text(from.sha256));
    to.mutable_question()->set_data(Text(from.data));
  }
  void operator()(const RoundOver& from) const {
    v1::RoundOver& out = *to.mutable_round_over();
    out.set_round(from.round);
    out.set_counted(from.counted);
    out.set_code(static_cast<int32_t>(from.code));
    out.set_reason(CleanText(from.reason, kReasonBytesMax));
  }
};

Result<Invitation> ReadInvitation(const v1::Invitation& from) {
  Invitation to{.round = from.round(), .task = {}, .model_bytes = from.model_bytes()};
  CHORUS_TRY(AtMost(from.task().size(), limits::kTaskBytesMax, "the size of task"));
  CHORUS_TRY(Fixed(from.task_signature(), to.task_signature, "task_signature"));
  CHORUS_TRY(Fixed(from.model(), to.model, "model"));
  CHORUS_TRY(AtMost(from.model_bytes(), limits::kTransferBytesMax, "model_bytes"));
  to.task = Copy(from.task());
  return to;
}

Result<Question> ReadQuestion(const v1::Question& from) {
  CHORUS_TRY(CheckPiece(from.data(), 0, from.total_bytes(), limits::kQuestionBytesMax));
  Question to{.total_bytes = from.total_bytes(), .data = Copy(from.data())};
  CHORUS_TRY(Fixed(from.sha256(), to.sha256, "sha256"));
  return to;
}

void Write(const NextReply& from, v1::NextReply& to) {
  to.set_sequence(from.sequence);
  std::visit(WriteWhat{to}, from.what);
}
Status Read(const v1::NextReply& from, NextReply& to) {
  to.sequence = from.sequence();
  switch (from.what_case()) {
    case v1::NextReply::kWait:
      to.what = Wait{.retry_ms = from.wait().retry_ms(), .complete = from.wait().complete()};
      return OkStatus();
    case v1::NextReply::kInvitation: {
      CHORUS_TRY_ASSIGN(to.what, ReadInvitation(from.invitation()));
      return OkStatus();
    }
    case v1::NextReply::kQuestion: {
      CHORUS_TRY_ASSIGN(to.what, ReadQuestion(from.question()));
      return OkStatus();
    }
    case v1::NextReply::kRoundOver:
      to.what = RoundOver{.round = from.round_over().round(),
                          .counted = from.round_over().counted(),
                          .code = CodeOf(from.round_over().code()),
                          .reason = CleanText(from.round_over().reason(), kReasonBytesMax)};
      return OkStatus();
    case v1::NextReply::WHAT_NOT_SET:
      break;
  }
  return InvalidArgument("what is asked for is missing, or unknown to this version: update");
}

void Write(const DownloadRequest& from, v1::DownloadRequest& to) {
  to.set_session(Text(from.session));
  to.set_sha256(Text(from.sha256));
  to.set_offset(from.offset);
}
Status Read(const v1::DownloadRequest& from, DownloadRequest& to) {
  CHORUS_TRY(Fixed(from.session(), to.session, "session"));
  CHORUS_TRY(Fixed(from.sha256(), to.sha256, "sha256"));
  CHORUS_TRY(AtMost(from.offset(), limits::kTransferBytesMax, "offset"));
  to.offset = from.offset();
  return OkStatus();
}

void Write(const DownloadReply& from, v1::DownloadReply& to) {
  to.set_data(Text(from.data));
  to.set_total_bytes(from.total_bytes);
}
Status Read(const v1::DownloadReply& from, DownloadReply& to) {
  CHORUS_TRY(CheckPiece(from.data(), 0, from.total_bytes(), limits::kTransferBytesMax));
  to.data = Copy(from.data());
  to.total_bytes = from.total_bytes();
  return OkStatus();
}

void Write(const UploadRequest& from, v1::UploadRequest& to) {
  to.set_session(Text(from.session));
  to.set_sequence(from.sequence);
  to.set_offset(from.offset);
  to.set_total_bytes(from.total_bytes);
  to.set_sha256(Text(from.sha256));
  to.set_data(Text(from.data));
  to.set_abort_code(static_cast<int32_t>(from.abort_code));
}
Status Read(const v1::UploadRequest& from, UploadRequest& to) {
  CHORUS_TRY(Fixed(from.session(), to.session, "session"));
  CHORUS_TRY(Fixed(from.sha256(), to.sha256, "sha256"));
  CHORUS_TRY(CheckPiece(from.data(), from.offset(), from.total_bytes(), limits::kTransferBytesMax));
  to.sequence = from.sequence();
  to.offset = from.offset();
  to.total_bytes = from.total_bytes();
  to.data = Copy(from.data());
  to.abort_code = CodeOf(from.abort_code());
  return OkStatus();
}

void Write(const UploadReply& from, v1::UploadReply& to) { to.set_received(from.received); }
Status Read(const v1::UploadReply& from, UploadReply& to) {
  to.received = from.received();
  return AtMost(from.received(), limits::kTransferBytesMax, "received");
}

void Write(const StatusRequest& from, v1::StatusRequest& to) {
  to.set_first_round(from.first_round);
  to.set_round_count(from.round_count);
}
Status Read(const v1::StatusRequest& from, StatusRequest& to) {
  to.first_round = from.first_round();
  to.round_count = from.round_count();
  return AtMost(from.round_count(), limits::kStatusRoundsMax, "round_count");
}

void Write(const RoundReport& from, v1::Round& to) {
  to.set_round(from.round);
  to.set_state(static_cast<v1::RoundState>(from.state));
  to.set_code(static_cast<int32_t>(from.code));
  to.set_reason(CleanText(from.reason, kReasonBytesMax));
  to.set_model(Text(from.model));
  to.set_invited(from.invited);
  to.set_contributors(from.contributors);
  to.set_refused(from.refused);
  for (const uint32_t count : from.dropouts) to.add_dropouts(count);
  to.set_bytes_up(from.bytes_up);
  to.set_bytes_down(from.bytes_down);
  to.set_duration_ms(from.duration_ms);
  to.set_examples(from.examples);
  to.set_loss(from.loss);
  to.set_accuracy(from.accuracy);
  to.set_evaluated(from.evaluated);
  to.set_cohorts(from.cohorts);
  to.set_cohorts_committed(from.cohorts_committed);
}
Status Read(const v1::Round& from, RoundReport& to) {
  if (!v1::RoundState_IsValid(from.state()))
    return InvalidArgument("state has a value that this version does not know");
  CHORUS_TRY(Fixed(from.model(), to.model, "model"));
  CHORUS_TRY(
      AtMost(static_cast<uint64_t>(from.dropouts_size()), kStepsMax, "the number of dropouts"));
  to.round = from.round();
  to.state = static_cast<RoundState>(from.state());
  to.code = CodeOf(from.code());
  to.reason = CleanText(from.reason(), kReasonBytesMax);
  to.invited = from.invited();
  to.contributors = from.contributors();
  to.refused = from.refused();
  to.dropouts.assign(from.dropouts().begin(), from.dropouts().end());
  to.bytes_up = from.bytes_up();
  to.bytes_down = from.bytes_down();
  to.duration_ms = from.duration_ms();
  to.examples = from.examples();
  to.loss = from.loss();
  to.accuracy = from.accuracy();
  to.evaluated = from.evaluated();
  to.cohorts_committed = to.state == RoundState::kCommitted ? 1 : 0;
  Take(from.has_cohorts(), from.cohorts(), to.cohorts);
  Take(from.has_cohorts_committed(), from.cohorts_committed(), to.cohorts_committed);
  return OkStatus();
}

void Write(const Evidence& from, v1::Evidence& to) {
  to.set_round(from.round);
  to.set_cohort(from.cohort);
  to.set_identity(Text(from.identity));
  to.set_first_message(Text(from.first.message));
  to.set_first_signature(Text(from.first.signature));
  to.set_second_message(Text(from.second.message));
  to.set_second_signature(Text(from.second.signature));
}
Status Read(const v1::Evidence& from, Evidence& to) {
  CHORUS_TRY(Fixed(from.identity(), to.identity, "identity"));
  CHORUS_TRY(Fixed(from.first_message(), to.first.message, "first_message"));
  CHORUS_TRY(Fixed(from.first_signature(), to.first.signature, "first_signature"));
  CHORUS_TRY(Fixed(from.second_message(), to.second.message, "second_message"));
  CHORUS_TRY(Fixed(from.second_signature(), to.second.signature, "second_signature"));
  to.round = from.round();
  to.cohort = from.cohort();
  return OkStatus();
}

void Write(const StatusReply& from, v1::StatusReply& to) {
  to.set_task(CleanText(from.task, kNameBytesMax));
  to.set_rounds_wanted(from.rounds_wanted);
  to.set_rounds_begun(from.rounds_begun);
  to.set_rounds_committed(from.rounds_committed);
  to.set_clients(from.clients);
  to.set_step(CleanText(from.step, kReasonBytesMax));
  for (const RoundReport& round : from.rounds) Write(round, *to.add_rounds());
  for (const Evidence& evidence : from.evidence) Write(evidence, *to.add_evidence());
}
Status Read(const v1::StatusReply& from, StatusReply& to) {
  CHORUS_TRY(AtMost(static_cast<uint64_t>(from.rounds_size()), limits::kStatusRoundsMax,
                    "the number of rounds"));
  CHORUS_TRY(AtMost(static_cast<uint64_t>(from.evidence_size()), limits::kStatusEvidenceMax,
                    "the number of evidence"));
  to.task = CleanText(from.task(), kNameBytesMax);
  to.rounds_wanted = from.rounds_wanted();
  to.rounds_begun = from.rounds_begun();
  to.rounds_committed = from.rounds_committed();
  to.clients = from.clients();
  to.step = CleanText(from.step(), kReasonBytesMax);
  for (const v1::Round& round : from.rounds()) CHORUS_TRY(Read(round, to.rounds.emplace_back()));
  for (const v1::Evidence& evidence : from.evidence())
    CHORUS_TRY(Read(evidence, to.evidence.emplace_back()));
  return OkStatus();
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
  return OkStatus();
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

// The schema's message behind each plain struct.
template <typename T>
struct ProtoOf;
template <>
struct ProtoOf<ChallengeRequest> {
  using Type = v1::ChallengeRequest;
};
template <>
struct ProtoOf<ChallengeReply> {
  using Type = v1::ChallengeReply;
};
template <>
struct ProtoOf<CheckInRequest> {
  using Type = v1::CheckInRequest;
};
template <>
struct ProtoOf<CheckInReply> {
  using Type = v1::CheckInReply;
};
template <>
struct ProtoOf<NextRequest> {
  using Type = v1::NextRequest;
};
template <>
struct ProtoOf<NextReply> {
  using Type = v1::NextReply;
};
template <>
struct ProtoOf<DownloadRequest> {
  using Type = v1::DownloadRequest;
};
template <>
struct ProtoOf<DownloadReply> {
  using Type = v1::DownloadReply;
};
template <>
struct ProtoOf<UploadRequest> {
  using Type = v1::UploadRequest;
};
template <>
struct ProtoOf<UploadReply> {
  using Type = v1::UploadReply;
};
template <>
struct ProtoOf<StatusRequest> {
  using Type = v1::StatusRequest;
};
template <>
struct ProtoOf<StatusReply> {
  using Type = v1::StatusReply;
};

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

template <typename T>
Bytes Encode(const T& message) {
  typename ProtoOf<T>::Type proto;
  Write(message, proto);
  return Serialize(proto);
}

template <typename T>
Result<T> Decode(BytesView bytes) {
  typename ProtoOf<T>::Type proto;
  CHORUS_TRY(Parse(bytes, limits::kMessageBytesMax, proto));
  T message;
  CHORUS_TRY(Read(proto, message));
  return message;
}

template Bytes Encode(const ChallengeRequest& message);
template Result<ChallengeRequest> Decode(BytesView bytes);
template Bytes Encode(const ChallengeReply& message);
template Result<ChallengeReply> Decode(BytesView bytes);
template Bytes Encode(const CheckInRequest& message);
template Result<CheckInRequest> Decode(BytesView bytes);
template Bytes Encode(const CheckInReply& message);
template Result<CheckInReply> Decode(BytesView bytes);
template Bytes Encode(const NextRequest& message);
template Result<NextRequest> Decode(BytesView bytes);
template Bytes Encode(const NextReply& message);
template Result<NextReply> Decode(BytesView bytes);
template Bytes Encode(const DownloadRequest& message);
template Result<DownloadRequest> Decode(BytesView bytes);
template Bytes Encode(const DownloadReply& message);
template Result<DownloadReply> Decode(BytesView bytes);
template Bytes Encode(const UploadRequest& message);
template Result<UploadRequest> Decode(BytesView bytes);
template Bytes Encode(const UploadReply& message);
template Result<UploadReply> Decode(BytesView bytes);
template Bytes Encode(const StatusRequest& message);
template Result<StatusRequest> Decode(BytesView bytes);
template Bytes Encode(const StatusReply& message);
template Result<StatusReply> Decode(BytesView bytes);

}  // namespace chorus::wire
