// Protobuf as it comes from a peer, and text as it comes from a file. Protobuf has many encodings
// of one message, ours has one: what decodes, encoded and decoded again, encodes to the same bytes.
#include "chorus/policy.h"
#include "fuzz.h"
#include "wire/wire.h"

namespace chorus::wire {
namespace {

using fuzz::Require;

template <typename Message>
void Call(BytesView bytes) {
  const Result<Message> decoded = Decode<Message>(bytes);
  if (!decoded.ok()) return;
  const Bytes ours = Encode(*decoded);
  const Result<Message> again = Decode<Message>(ours);
  Require(again.ok(), "what we encode we decode");
  Require(Encode(*again) == ours, "our encoding is stable");
}

void Task(const TaskSpec& task) {
  const Bytes ours = EncodeTask(task);
  const Result<TaskSpec> again = DecodeTask(ours);
  Require(again.ok(), "a task that we encode we decode");
  Require(EncodeTask(*again) == ours, "a task's bytes are stable");
  Require(Permit({}, task).code() != Code::kInternal, "a policy judges every task");
}

std::string_view TextOf(BytesView bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

void Files(uint32_t kind, BytesView bytes) {
  if (kind == 0) {
    const Result<TaskSpec> task = DecodeTask(bytes);
    if (task.ok()) Task(*task);
  } else if (kind == 1) {
    const Result<TaskSpec> task = ParseTaskText(TextOf(bytes));
    if (task.ok()) Task(*task);
  } else {
    const Result<Policy> policy = ParsePolicyText(TextOf(bytes));
    if (policy.ok()) {
      Require(Permit(*policy, {}).code() != Code::kInternal, "a policy that parses can judge");
    }
  }
}

}  // namespace

void DecodeOne(BytesView input) {
  using Decoder = void (*)(BytesView);
  static constexpr Decoder kCalls[] = {
      Call<ChallengeRequest>, Call<ChallengeReply>, Call<CheckInRequest>,  Call<CheckInReply>,
      Call<NextRequest>,      Call<NextReply>,      Call<DownloadRequest>, Call<DownloadReply>,
      Call<UploadRequest>,    Call<UploadReply>,    Call<StatusRequest>,   Call<StatusReply>};
  constexpr uint32_t kFiles = 3;
  fuzz::Choices choices(input);
  const uint32_t kind = choices.Below(std::size(kCalls) + kFiles);
  if (kind < kFiles) return Files(kind, choices.Rest());
  kCalls[kind - kFiles](choices.Rest());
}

}  // namespace chorus::wire

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  chorus::wire::DecodeOne({data, size});
  return 0;
}
