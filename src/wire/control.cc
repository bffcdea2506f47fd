// Operators' orders and the audit on the wire.
#include <string>

#include "base/limits.h"
#include "chorus/v1/service.pb.h"
#include "wire/proto.h"
#include "wire/wire.h"

namespace chorus::wire {
namespace {

static_assert(static_cast<int>(AuditEntry::Action::kPausedNow) == v1::AUDIT_ACTION_PAUSED_NOW,
              "the plain enumeration shares its numbers with the schema");
static_assert(limits::kAuditEntriesMax * (limits::kAuditReasonBytesMax + 300) <
                  limits::kChunkBytesMax,
              "the longest audit reply is one message");

void Write(const AuditEntry& from, v1::AuditEntry& to) {
  to.set_number(from.number);
  to.set_unix_seconds(from.unix_seconds);
  to.set_action(static_cast<v1::AuditAction>(from.action));
  to.set_actor(Text(from.actor));
  to.set_round(from.round);
  to.set_model(Text(from.model));
  to.set_priority(from.priority);
  to.set_reason(CleanText(from.reason, limits::kAuditReasonBytesMax));
  to.set_previous(Text(from.previous));
  to.set_signature(Text(from.signature));
}

Result<AuditEntry> ReadEntry(const v1::AuditEntry& from) {
  if (!v1::AuditAction_IsValid(from.action()))
    return InvalidArgument("action has a value that this version does not know");
  CHORUS_TRY(CheckReason(from.reason()));
  AuditEntry to;
  CHORUS_TRY(Fixed(from.actor(), to.actor, "actor"));
  CHORUS_TRY(Fixed(from.model(), to.model, "model"));
  CHORUS_TRY(Fixed(from.previous(), to.previous, "previous"));
  CHORUS_TRY(Fixed(from.signature(), to.signature, "signature"));
  to.number = from.number();
  to.unix_seconds = from.unix_seconds();
  to.action = static_cast<AuditEntry::Action>(from.action());
  to.round = from.round();
  to.priority = from.priority();
  to.reason = from.reason();
  return to;
}

}  // namespace

Status CheckReason(std::string_view reason) {
  CHORUS_TRY(AtMost(reason.size(), limits::kAuditReasonBytesMax, "the size of reason"));
  if (CleanText(reason, reason.size()) != reason)
    return InvalidArgument("reason must be UTF-8 text without control characters");
  return OkStatus();
}

template <>
Bytes Encode(const ControlRequest& message) {
  v1::ControlRequest proto;
  proto.set_task(CleanText(message.task, kNameBytesMax));
  Write(message.entry, *proto.mutable_entry());
  proto.set_task_bytes(Text(message.task_bytes));
  return Serialize(proto);
}
template <>
Result<ControlRequest> Decode(BytesView bytes) {
  v1::ControlRequest proto;
  CHORUS_TRY(Parse(bytes, limits::kMessageBytesMax, proto));
  CHORUS_TRY(AtMost(proto.task_bytes().size(), limits::kTaskBytesMax, "the size of task_bytes"));
  ControlRequest message;
  message.task = CleanText(proto.task(), kNameBytesMax);
  CHORUS_TRY_ASSIGN(message.entry, ReadEntry(proto.entry()));
  message.task_bytes = Copy(proto.task_bytes());
  return message;
}

template <>
Bytes Encode(const ControlReply&) {
  return Serialize(v1::ControlReply());
}
template <>
Result<ControlReply> Decode(BytesView bytes) {
  v1::ControlReply proto;
  CHORUS_TRY(Parse(bytes, limits::kMessageBytesMax, proto));
  return ControlReply();
}

template <>
Bytes Encode(const AuditRequest& message) {
  v1::AuditRequest proto;
  proto.set_task(CleanText(message.task, kNameBytesMax));
  proto.set_count(message.count);
  proto.set_first(message.first);
  return Serialize(proto);
}
template <>
Result<AuditRequest> Decode(BytesView bytes) {
  v1::AuditRequest proto;
  CHORUS_TRY(Parse(bytes, limits::kMessageBytesMax, proto));
  CHORUS_TRY(AtMost(proto.count(), limits::kAuditEntriesMax, "count"));
  return AuditRequest{.task = CleanText(proto.task(), kNameBytesMax),
                      .count = proto.count(),
                      .first = proto.first()};
}

template <>
Bytes Encode(const AuditReply& message) {
  v1::AuditReply proto;
  proto.set_task_sha256(Text(message.task_sha256));
  for (const AuditEntry& entry : message.entries) Write(entry, *proto.add_entries());
  return Serialize(proto);
}
template <>
Result<AuditReply> Decode(BytesView bytes) {
  v1::AuditReply proto;
  CHORUS_TRY(Parse(bytes, limits::kMessageBytesMax, proto));
  CHORUS_TRY(AtMost(static_cast<uint64_t>(proto.entries_size()), limits::kAuditEntriesMax,
                    "the number of entries"));
  AuditReply message;
  CHORUS_TRY(Fixed(proto.task_sha256(), message.task_sha256, "task_sha256"));
  for (const v1::AuditEntry& entry : proto.entries()) {
    CHORUS_TRY_ASSIGN(AuditEntry read, ReadEntry(entry));
    message.entries.push_back(std::move(read));
  }
  return message;
}

}  // namespace chorus::wire
