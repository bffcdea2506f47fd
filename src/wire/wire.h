// Protobuf and plain structs, either way; Protobuf ends in this folder and in the gRPC files. Every
// decoder checks what the schema cannot say (sizes of keys and digests, bounds of limits.h) and
// gives kInvalidArgument naming the field.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

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
struct UploadReply {
  uint64_t received = 0;
};
struct StatusRequest {
  uint64_t first_round = 1;
  uint32_t round_count = 0;
};
struct CommitteeMember {
  PublicKey identity{};
  bool checked_in = false;
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
};

// Encode(x) gives the protobuf bytes of x; Decode<T> reads them. Defined for every call's request
// and reply.
template <typename T>
Bytes Encode(const T& message);
template <typename T>
Result<T> Decode(BytesView bytes);

// What CheckInRequest.signature and Invitation.task_signature are over: docs/wire_format.md.

}  // namespace chorus::wire
