#include "wire/wire.h"

#include <algorithm>
#include <string>
#include <tuple>
#include <utility>

#include "base/limits.h"
#include "chorus/v1/service.pb.h"
#include "chorus/v1/types.pb.h"
#include "wire/proto.h"

namespace chorus::wire {
namespace {

static_assert(static_cast<int>(RoundState::kAborted) == v1::ROUND_STATE_ABORTED,
              "the plain enumeration shares its numbers with the schema");
static_assert(static_cast<int>(TaskMode::kStopped) == v1::TASK_MODE_STOPPED,
              "the plain enumeration shares its numbers with the schema");
static_assert(limits::kCommitteeMax * 48 < limits::kMessageBytesMax - limits::kChunkBytesMax,
              "whatever else is in a status reply, the committee fits too");

constexpr uint32_t kUploadDataTag = v1::UploadRequest::kDataFieldNumber << 3U | 2U;  // of bytes
constexpr size_t kUploadHeadBytesMax = 4'096;  // of an upload besides its data

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
  to.set_token(Text(from.token));
  for (const std::string& task : from.tasks) to.add_tasks(CleanText(task, kNameBytesMax));
}
Status Read(const v1::CheckInRequest& from, CheckInRequest& to) {
  CHORUS_TRY(Fixed(from.challenge(), to.challenge, "challenge"));
  CHORUS_TRY(Fixed(from.identity(), to.identity, "identity"));
  CHORUS_TRY(AtMost(from.evidence().size(), limits::kEvidenceBytesMax, "the size of evidence"));
  CHORUS_TRY(Fixed(from.signature(), to.signature, "signature"));
  CHORUS_TRY(AtMost(from.token().size(), limits::kTokenBytesMax, "the size of token"));
  to.evidence = Copy(from.evidence());
  to.token = Copy(from.token());
  to.version = from.version();
  CHORUS_TRY(
      AtMost(static_cast<uint64_t>(from.tasks_size()), limits::kTasksMax, "the number of tasks"));
  for (const std::string& task : from.tasks()) to.tasks.push_back(CleanText(task, kNameBytesMax));
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
    to.mutable_wait()->set_hang_up(from.hang_up);
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
  CHORUS_TRY(CheckPiece(from.data().size(), 0, from.total_bytes(), limits::kPullBytesMax));
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
      to.what = Wait{.retry_ms = from.wait().retry_ms(),
                     .complete = from.wait().complete(),
                     .hang_up = from.wait().hang_up()};
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
  to.set_bytes_max(from.bytes_max);
}
Status Read(const v1::DownloadRequest& from, DownloadRequest& to) {
  CHORUS_TRY(Fixed(from.session(), to.session, "session"));
  CHORUS_TRY(Fixed(from.sha256(), to.sha256, "sha256"));
  CHORUS_TRY(AtMost(from.offset(), limits::kTransferBytesMax, "offset"));
  to.offset = from.offset();
  to.bytes_max = from.bytes_max();
  return OkStatus();
}

void Write(const DownloadReply& from, v1::DownloadReply& to) {
  to.set_data(Text(from.data));
  to.set_total_bytes(from.total_bytes);
}
Status Read(const v1::DownloadReply& from, DownloadReply& to) {
  CHORUS_TRY(CheckPiece(from.data().size(), 0, from.total_bytes(), limits::kTransferBytesMax));
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
  CHORUS_TRY(
      CheckPiece(from.data().size(), from.offset(), from.total_bytes(), limits::kTransferBytesMax));
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
  to.set_task(CleanText(from.task, kNameBytesMax));
}
Status Read(const v1::StatusRequest& from, StatusRequest& to) {
  to.first_round = from.first_round();
  to.round_count = from.round_count();
  to.task = CleanText(from.task(), kNameBytesMax);
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
  if (from.result != Digest{}) to.set_result(Text(from.result));
}
Status Read(const v1::Round& from, RoundReport& to) {
  if (!v1::RoundState_IsValid(from.state()))
    return InvalidArgument("state has a value that this version does not know");
  CHORUS_TRY(Fixed(from.model(), to.model, "model"));
  CHORUS_TRY(
      AtMost(static_cast<uint64_t>(from.dropouts_size()), kStepsMax, "the number of dropouts"));
  if (!from.result().empty()) CHORUS_TRY(Fixed(from.result(), to.result, "result"));
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

void Write(const RoundInFlight& from, v1::RoundInFlight& to) {
  Write(from.round, *to.mutable_round());
  to.set_running_ms(from.running_ms);
  to.set_asked(from.asked);
  to.set_answered(from.answered);
}
Status Read(const v1::RoundInFlight& from, RoundInFlight& to) {
  CHORUS_TRY(Read(from.round(), to.round));
  to.running_ms = from.running_ms();
  to.asked = from.asked();
  to.answered = from.answered();
  return OkStatus();
}

void Write(const StepInfo& from, v1::StepInfo& to) {
  to.set_name(from.name);
  to.set_of_clients(from.of_clients);
  to.set_brings_input(from.brings_input);
}
void Read(const v1::StepInfo& from, StepInfo& to) {
  to.name = CleanText(from.name(), kNameBytesMax);
  to.of_clients = from.of_clients();
  to.brings_input = from.brings_input();
}

void Write(const TaskStatus& from, v1::TaskStatus& to) {
  to.set_name(CleanText(from.name, kNameBytesMax));
  to.set_mode(static_cast<v1::TaskMode>(from.mode));
  to.set_priority(from.priority);
  to.set_rounds_wanted(from.rounds_wanted);
  to.set_rounds_begun(from.rounds_begun);
  to.set_rounds_committed(from.rounds_committed);
  to.set_clients(from.clients);
  to.set_step(CleanText(from.step, kReasonBytesMax));
}
Status Read(const v1::TaskStatus& from, TaskStatus& to) {
  if (!v1::TaskMode_IsValid(from.mode()))
    return InvalidArgument("mode has a value that this version does not know");
  to = {.name = CleanText(from.name(), kNameBytesMax),
        .mode = static_cast<TaskMode>(from.mode()),
        .priority = from.priority(),
        .rounds_wanted = from.rounds_wanted(),
        .rounds_begun = from.rounds_begun(),
        .rounds_committed = from.rounds_committed(),
        .clients = from.clients(),
        .step = CleanText(from.step(), kReasonBytesMax)};
  return OkStatus();
}

void Write(const StatusReply& from, v1::StatusReply& to) {
  to.set_task(CleanText(from.task, kNameBytesMax));
  to.set_rounds_wanted(from.rounds_wanted);
  to.set_rounds_begun(from.rounds_begun);
  to.set_rounds_committed(from.rounds_committed);
  to.set_clients(from.clients);
  to.set_step(CleanText(from.step, kReasonBytesMax));
  for (const CommitteeMember& member : from.committee) {
    v1::CommitteeMember& out = *to.add_committee();
    out.set_identity(Text(member.identity));
    out.set_checked_in(member.checked_in);
  }
  for (const RoundReport& round : from.rounds) Write(round, *to.add_rounds());
  for (const Evidence& evidence : from.evidence) Write(evidence, *to.add_evidence());
  for (const TaskStatus& task : from.tasks) Write(task, *to.add_tasks());
  for (const Process& process : from.processes) {
    v1::Process& out = *to.add_processes();
    out.set_name(CleanText(process.name, kNameBytesMax));
    out.set_address(CleanText(process.address, kNameBytesMax));
    out.set_age_ms(static_cast<uint64_t>(process.age.count()));
    out.set_cohorts(process.cohorts);
  }
  if (from.in_flight) Write(*from.in_flight, *to.mutable_in_flight());
  for (const StepInfo& step : from.steps) Write(step, *to.add_steps());
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
  CHORUS_TRY(AtMost(static_cast<uint64_t>(from.committee_size()), limits::kCommitteeMax,
                    "the number of committee members"));
  for (const v1::CommitteeMember& member : from.committee()) {
    CommitteeMember& read = to.committee.emplace_back();
    CHORUS_TRY(Fixed(member.identity(), read.identity, "identity"));
    read.checked_in = member.checked_in();
  }
  for (const v1::Round& round : from.rounds()) CHORUS_TRY(Read(round, to.rounds.emplace_back()));
  for (const v1::Evidence& evidence : from.evidence())
    CHORUS_TRY(Read(evidence, to.evidence.emplace_back()));
  CHORUS_TRY(
      AtMost(static_cast<uint64_t>(from.tasks_size()), limits::kTasksMax, "the number of tasks"));
  for (const v1::TaskStatus& task : from.tasks()) CHORUS_TRY(Read(task, to.tasks.emplace_back()));
  CHORUS_TRY(AtMost(static_cast<uint64_t>(from.processes_size()), limits::kStatusProcessesMax,
                    "the number of processes"));
  for (const v1::Process& process : from.processes()) {
    CHORUS_TRY(AtMost(process.age_ms(), kAgeMsMax, "a process's age"));
    to.processes.push_back({.name = CleanText(process.name(), kNameBytesMax),
                            .address = CleanText(process.address(), kNameBytesMax),
                            .age = Time{static_cast<Time::rep>(process.age_ms())},
                            .cohorts = process.cohorts()});
  }
  if (from.has_in_flight()) CHORUS_TRY(Read(from.in_flight(), to.in_flight.emplace()));
  CHORUS_TRY(AtMost(static_cast<uint64_t>(from.steps_size()), kStepsMax, "the number of steps"));
  for (const v1::StepInfo& step : from.steps()) Read(step, to.steps.emplace_back());
  return OkStatus();
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

// Reads pieces without joining them.
class PiecesStream final : public google::protobuf::io::ZeroCopyInputStream {
 public:
  explicit PiecesStream(Pieces rest) : rest_(rest) {}
  bool Next(const void** data, int* size) override {
    while (ahead_.empty()) {
      if (rest_.empty()) return false;
      ahead_ = rest_.front();
      rest_ = rest_.subspan(1);
    }
    *data = ahead_.data();
    *size = static_cast<int>(ahead_.size());
    given_ = std::exchange(ahead_, {});
    count_ += *size;
    return true;
  }
  void BackUp(int count) override {
    ahead_ = given_.last(static_cast<size_t>(count));
    count_ -= count;
  }
  bool Skip(int count) override {
    while (count > 0) {
      const void* data = nullptr;
      int size = 0;
      if (!Next(&data, &size)) return false;
      if (size > count) BackUp(size - count);
      count -= std::min(size, count);
    }
    return true;
  }
  int64_t ByteCount() const override { return count_; }

 private:
  Pieces rest_;
  BytesView ahead_;  // of the piece that is being read, what is not given yet
  BytesView given_;
  int64_t count_ = 0;
};

}  // namespace

Result<SessionToken> SessionIn(std::string_view method, BytesView request) {
  // The key of field 1 as bytes, and their length.
  constexpr std::array<uint8_t, 2> kFront = {0x0A, std::tuple_size_v<SessionToken>};
  SessionToken session{};
  if (request.size() >= kFront.size() + session.size() &&
      std::equal(kFront.begin(), kFront.end(), request.begin())) {
    std::copy_n(request.begin() + kFront.size(), session.size(), session.begin());
    return session;
  }
  const auto session_of = [](const auto& message) -> Result<SessionToken> {
    CHORUS_TRY(message);
    return message->session;
  };
  if (method == kNext) return session_of(Decode<NextRequest>(request));
  return session_of(Decode<DownloadRequest>(request));
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

// Field by field: everything but the data goes to Protobuf, which would copy the data twice.
Result<UploadChunk> DecodeUpload(Pieces bytes) {
  const uint64_t all = SizeOf(bytes);
  CHORUS_TRY(AtMost(all, limits::kMessageBytesMax, "the size of an UploadRequest"));
  PiecesStream pieces(bytes);
  google::protobuf::io::CodedInputStream in(&pieces);
  const auto position = [&in] { return static_cast<uint64_t>(in.CurrentPosition()); };
  uint64_t data_begin = 0;
  uint32_t data_bytes = 0;
  Bytes rest;
  while (position() < all) {
    const uint64_t begin = position();
    const uint32_t tag = in.ReadTag();
    uint32_t size = 0;
    if (tag == kUploadDataTag && in.ReadVarint32(&size) && size <= all &&
        in.Skip(static_cast<int>(size))) {
      data_begin = position() - size;
      data_bytes = size;
      continue;
    }
    if (tag == 0 || tag == kUploadDataTag ||
        !google::protobuf::internal::WireFormatLite::SkipField(&in, tag)) {
      return InvalidArgument("these bytes are not a valid UploadRequest message");
    }
    const uint64_t length = position() - begin;
    if (length + rest.size() > kUploadHeadBytesMax) {
      return InvalidArgument("an UploadRequest has too many bytes besides its data");
    }
    for (const BytesView piece : Cut(bytes, begin, length)) {
      rest.insert(rest.end(), piece.begin(), piece.end());
    }
  }
  v1::UploadRequest head;
  CHORUS_TRY(Parse(rest, kUploadHeadBytesMax, head));
  CHORUS_TRY(CheckPiece(data_bytes, head.offset(), head.total_bytes(), limits::kTransferBytesMax));
  UploadRequest message;
  CHORUS_TRY(Read(head, message));
  UploadChunk chunk(message);
  chunk.data = Cut(bytes, data_begin, data_bytes);
  chunk.data_bytes = data_bytes;
  return chunk;
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
