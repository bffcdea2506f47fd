// Protobuf and plain structs, either way; Protobuf ends in this folder and in the gRPC files. Every
// decoder checks what the schema cannot say (sizes of keys and digests, bounds of limits.h) and
// gives kInvalidArgument naming the field.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/pieces.h"
#include "chorus/bytes.h"
#include "chorus/policy.h"
#include "chorus/status.h"
#include "chorus/store.h"
#include "chorus/task.h"

namespace chorus::wire {

// --- files: protobuf text format -------------------------------------------------------------
// kInvalidArgument with line, column and what is wrong: an unknown field, a value of the wrong
// type, a value that this version does not know, a task without protocol, model or name.
Result<TaskSpec> ParseTaskText(std::string_view text);
Result<Policy> ParsePolicyText(std::string_view text);

// --- a task as it is signed
// ---------------------------------------------------------------------------------------- Bytes of
// chorus.v1.Task with every field written out. They are made once, signed, kept and passed on as
// they are; nobody serialises a decoded task again to check a signature.
Bytes EncodeTask(const TaskSpec& task);
Result<TaskSpec> DecodeTask(BytesView bytes);

// --- calls -----------------------------------------------------------------------------------
// Names of the rpcs, as Transport::Call takes them.
inline constexpr std::string_view kChallenge = "Challenge";
inline constexpr std::string_view kCheckIn = "CheckIn";
inline constexpr std::string_view kNext = "Next";
inline constexpr std::string_view kDownload = "Download";
inline constexpr std::string_view kUpload = "Upload";
inline constexpr std::string_view kGetStatus = "GetStatus";
inline constexpr std::string_view kControl = "Control";
inline constexpr std::string_view kGetAudit = "GetAudit";
// Whether its caller names a session, which somebody has who was let in.
constexpr bool IsOfSession(std::string_view method) {
  return method == kNext || method == kDownload || method == kUpload;
}

inline constexpr uint32_t kVersion = 1;

using SessionToken = std::array<uint8_t, 32>;

struct ChallengeRequest {};
struct ChallengeReply {
  Digest challenge{};
};
struct CheckInRequest {
  Digest challenge{};
  PublicKey identity{};
  Bytes evidence;
  Signature signature{};
  uint32_t version = kVersion;
  std::vector<std::string> tasks = {};  // names of those that the client serves; none: any
  Bytes token = {};                     // of the game's own login
};
struct CheckInReply {
  SessionToken session{};
};
struct NextRequest {
  SessionToken session{};
  uint64_t done = 0;
};
struct Wait {
  uint32_t retry_ms = 0;
  bool complete = false;
  bool hang_up = false;  // the session is forgotten: come back after retry_ms and check in anew
};
struct Invitation {
  uint64_t round = 0;
  Bytes task;
  Signature task_signature{};
  Digest model{};
  uint64_t model_bytes = 0;
};
struct Question {
  uint64_t total_bytes = 0;
  Digest sha256{};
  Bytes data;
};
struct RoundOver {
  uint64_t round = 0;
  bool counted = false;
  Code code = Code::kOk;
  std::string reason;
};
struct NextReply {
  uint64_t sequence = 0;
  std::variant<Wait, Invitation, Question, RoundOver> what;
};
struct DownloadRequest {
  SessionToken session{};
  Digest sha256{};
  uint64_t offset = 0;
  uint64_t bytes_max = 0;  // of the piece; 0: as much as a message takes
};
struct DownloadReply {
  Bytes data;
  uint64_t total_bytes = 0;
};
struct UploadRequest {
  SessionToken session{};
  uint64_t sequence = 0;
  uint64_t offset = 0;
  uint64_t total_bytes = 0;
  Digest sha256{};
  Bytes data;
  Code abort_code = Code::kOk;
};
// The same, its data where the request's bytes lie.
struct UploadChunk {
  UploadChunk() = default;
  UploadChunk(const UploadRequest& request)  // NOLINT(google-explicit-constructor)
      : session(request.session),
        sequence(request.sequence),
        offset(request.offset),
        total_bytes(request.total_bytes),
        sha256(request.sha256),
        data(1, request.data),
        data_bytes(request.data.size()),
        abort_code(request.abort_code) {}

  SessionToken session{};
  uint64_t sequence = 0;
  uint64_t offset = 0;
  uint64_t total_bytes = 0;
  Digest sha256{};
  std::vector<BytesView> data;  // whoever has the bytes that were decoded must keep them
  size_t data_bytes = 0;        // of all of it
  Code abort_code = Code::kOk;
};
struct UploadReply {
  uint64_t received = 0;
};
struct StatusRequest {
  uint64_t first_round = 1;
  uint32_t round_count = 0;
  std::string task = {};  // its name; empty: the first
};
struct CommitteeMember {
  PublicKey identity{};
  bool checked_in = false;
};
struct StepInfo {
  std::string name;
  bool of_clients = true;
  bool brings_input = false;
};
struct RoundInFlight {
  RoundReport round;
  uint64_t running_ms = 0;
  uint32_t asked = 0;
  uint32_t answered = 0;
};
struct TaskStatus {
  std::string name;
  TaskMode mode = TaskMode::kRunning;
  uint32_t priority = 1;
  uint32_t rounds_wanted = 0;
  uint64_t rounds_begun = 0;
  uint64_t rounds_committed = 0;
  uint32_t clients = 0;
  std::string step = {};
};
// A process that serves from the same store.
struct Process {
  std::string name;
  std::string address;   // where clients reach it; empty: not said
  Time age{};            // since its last sign of life
  uint32_t cohorts = 0;  // that it runs in the open round
};
struct StatusReply {
  std::string task;
  uint32_t rounds_wanted = 0;
  uint64_t rounds_begun = 0;
  uint64_t rounds_committed = 0;
  uint32_t clients = 0;
  std::string step;
  std::vector<CommitteeMember> committee = {};  // of OneShot, in the task's order
  std::vector<RoundReport> rounds;
  std::vector<Evidence> evidence = {};  // the latest
  std::vector<TaskStatus> tasks = {};   // all that the coordinator serves
  std::vector<Process> processes = {};  // where several serve from one store
  std::optional<RoundInFlight> in_flight = {};
  std::vector<StepInfo> steps = {};  // of dropouts: the training first
};

// An operator's order: an entry for the audit, signed for its place there.
struct ControlRequest {
  std::string task;  // its name
  AuditEntry entry;
  Bytes task_bytes = {};  // kCreated: of the task to add
};
struct ControlReply {};
struct AuditRequest {
  std::string task;
  uint32_t count = 0;  // of the entries from `first` on, or without it of the latest
  uint64_t first = 0;  // 0: none is named
};
struct AuditReply {
  Digest task_sha256{};                  // of its bytes as published: what AuditWords are for
  std::vector<AuditEntry> entries = {};  // ascending
};
// Whether these words can be an entry's: kInvalidArgument when they are too long, not UTF-8, or
// hold control characters.
Status CheckReason(std::string_view reason);

// Encode(x) gives the protobuf bytes of x; Decode<T> reads them. Defined for every call's request
// and reply.
template <typename T>
Bytes Encode(const T& message);
template <typename T>
Result<T> Decode(BytesView bytes);
// As Decode<UploadRequest>, without copying the chunk: it is most of what a coordinator receives.
Result<UploadChunk> DecodeUpload(Pieces bytes);
// In control.cc.
template <>
Bytes Encode(const ControlRequest& message);
template <>
Result<ControlRequest> Decode(BytesView bytes);
template <>
Bytes Encode(const ControlReply& message);
template <>
Result<ControlReply> Decode(BytesView bytes);
template <>
Bytes Encode(const AuditRequest& message);
template <>
Result<AuditRequest> Decode(BytesView bytes);
template <>
Bytes Encode(const AuditReply& message);
template <>
Result<AuditReply> Decode(BytesView bytes);

// The session that a Next or Download is of, without reading the rest of it where it comes
// first, as whoever writes fields in order puts it. It is only good for finding who will judge the
// request, and read it whole. kInvalidArgument: as Decode.
Result<SessionToken> SessionIn(std::string_view method, BytesView request);

// What CheckInRequest.signature and Invitation.task_signature are over: docs/wire_format.md.

}  // namespace chorus::wire
