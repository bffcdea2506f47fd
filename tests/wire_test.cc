#include "wire/wire.h"

#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

#include "base/hex.h"
#include "base/limits.h"
#include "crypto/crypto.h"
#include "matchers.h"

namespace chorus::wire {
namespace {

// --- Protobuf written by hand: decoders are not tested with their own encoders ------------------

Bytes operator+(Bytes a, const Bytes& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

Bytes Varint(uint64_t value) {
  Bytes bytes;
  for (; value >= 0x80; value >>= 7U) bytes.push_back(static_cast<uint8_t>(value | 0x80U));
  bytes.push_back(static_cast<uint8_t>(value));
  return bytes;
}

Bytes Number(uint32_t field, uint64_t value) { return Varint(field << 3U) + Varint(value); }

Bytes Block(uint32_t field, const Bytes& bytes) {
  return Varint(field << 3U | 2U) + Varint(bytes.size()) + bytes;
}

Bytes Block(uint32_t field, size_t size) { return Block(field, Bytes(size, 0xAB)); }

Bytes Letters(std::string_view text) { return Bytes(text.begin(), text.end()); }

Bytes SomeBytes(size_t size, uint8_t seed) {
  Bytes bytes(size);
  crypto::NewSeededRng(Bytes(32, seed))->Fill(bytes);
  return bytes;
}

template <size_t N>
std::array<uint8_t, N> Filled(uint8_t value) {
  std::array<uint8_t, N> bytes{};
  bytes.fill(value);
  return bytes;
}

// --- tasks ---------------------------------------------------------------------------------------

constexpr std::string_view kWholeTask = R"(
name: "digits"
model {
  inputs: 784
  layers { units: 128 activation: ACTIVATION_RELU }
  layers { units: 10 }
  loss: LOSS_CROSS_ENTROPY
}
training { epochs: 2 batch_size: 20 learning_rate: 0.25 held_back_percent: 15 }
clip { update_l2_norm_max: 1.5 }
encoding { bound: 65536 examples_max: 512 }
protocol: PROTOCOL_PLAIN
secagg { gamma_ppm: 1 delta_ppm: 2 honest_min: 3 graph: SHARING_GRAPH_HARARY }
cohort { minimum: 4 target: 5 maximum: 6 over_selection_percent: 0 }
deadlines {
  check_in_ms: 11 train_ms: 12 choose_ms: 13 share_ms: 14 upload_ms: 15 consistency_ms: 16
  unmask_ms: 17 hedge_ms: 0
}
rounds: 7
server_learning_rate: 0.5
)";
// The same by `protoc --encode=chorus.v1.Task`, of protobuf 3.21.
constexpr std::string_view kWholeTaskHex =
    "0a06646967697473120e089006120508800110011202080a1a0b080210141d0000803e200f22050d0000c03f2a"
    "070880800410800430013a080801100218032002420808041005180620004a10080b100c180d200e280f301038"
    "11400050075d0000003f";

constexpr std::string_view kShortTask =
    "name: 'a' model { inputs: 1 layers { units: 1 } } protocol: PROTOCOL_SECAGG ";

TEST(TaskText, ReadsEveryField) {
  const Result<TaskSpec> task = ParseTaskText(kWholeTask);
  ASSERT_THAT(task, IsOk());
  EXPECT_EQ(task->name, "digits");
  EXPECT_EQ(task->model.inputs, 784U);
  ASSERT_EQ(task->model.layers.size(), 2U);
  EXPECT_EQ(task->model.layers[0].units, 128U);
  EXPECT_EQ(task->model.layers[0].activation, Activation::kRelu);
  EXPECT_EQ(task->model.layers[1].activation, Activation::kNone);
  EXPECT_EQ(task->training.epochs, 2U);
  EXPECT_EQ(task->training.batch_size, 20U);
  EXPECT_EQ(task->training.learning_rate, 0.25F);
  EXPECT_EQ(task->training.held_back_percent, 15U);
  EXPECT_EQ(task->clip.update_l2_norm_max, 1.5F);
  EXPECT_EQ(task->encoding.bound, 65'536U);
  EXPECT_EQ(task->encoding.examples_max, 512U);
  EXPECT_EQ(task->protocol, Protocol::kPlain);
  EXPECT_EQ(task->secagg.gamma_ppm, 1U);
  EXPECT_EQ(task->secagg.delta_ppm, 2U);
  EXPECT_EQ(task->secagg.honest_min, 3U);
  EXPECT_EQ(task->cohort.minimum, 4U);
  EXPECT_EQ(task->cohort.target, 5U);
  EXPECT_EQ(task->cohort.maximum, 6U);
  EXPECT_EQ(task->deadlines.check_in.count(), 11);
  EXPECT_EQ(task->deadlines.train.count(), 12);
  EXPECT_EQ(task->deadlines.choose.count(), 13);
  EXPECT_EQ(task->deadlines.share.count(), 14);
  EXPECT_EQ(task->deadlines.upload.count(), 15);
  EXPECT_EQ(task->deadlines.consistency.count(), 16);
  EXPECT_EQ(task->deadlines.unmask.count(), 17);
  EXPECT_EQ(task->deadlines.hedge.count(), 0);
  EXPECT_EQ(task->rounds, 7U);
  EXPECT_EQ(task->server_learning_rate, 0.5F);
}

TEST(TaskText, TakesTheDefaultsOfWhatIsLeftOut) {
  const Result<TaskSpec> task = ParseTaskText(kShortTask);
  ASSERT_THAT(task, IsOk());
  TaskSpec expected;
  expected.name = "a";
  expected.model = {.inputs = 1, .layers = {LayerSpec{.units = 1}}};
  EXPECT_EQ(EncodeTask(*task), EncodeTask(expected));
}

// Protobuf's own complaints stand behind the word that they are about.
TEST(TaskText, SaysWhereAndWhatIsWrong) {
  const std::pair<std::string, std::string> cases[] = {
      {"name: 'a'\n  modell { }", "task file 2:10: message type"},
      {"name: 'a'\nrounds: many", "task file 2:9: expected integer"},
      {"name: 'a'\nrounds: -1", "task file 2:9:"},
      {"rounds: 1\nrounds: 2", "task file 2:7: non-repeated field \"rounds\""},
      {"name: 'a'\nmodel { inputs: 1 layers { units: 1\n activation: 9 } }",
       "task file 3:2: activation has a value that this version does not know"},
      {"protocol: PROTOCOL_MAGIC", "task file 1:25: unknown enumeration value"},
      {"protocol: 7", "task file 1:1: protocol has a value that this version does not know"},
      {"name: 'a'\n\nclip { update_l2_norm_max: nan }", "task file 3:8: update_l2_norm_max"},
      {"server_learning_rate: -inf", "task file 1:1: server_learning_rate must be a finite number"},
      {"name: 'unfinished", "task file 1:"},
      {"model {", "task file 1:"}};
  for (const auto& [text, expected] : cases)
    EXPECT_THAT(ParseTaskText(text), HasCodeAndText(Code::kInvalidArgument, expected)) << text;
}

TEST(TaskText, NeedsNameModelAndProtocol) {
  EXPECT_THAT(ParseTaskText(""), HasCodeAndText(Code::kInvalidArgument, "name"));
  EXPECT_THAT(ParseTaskText("name: 'a'"), HasCodeAndText(Code::kInvalidArgument, "model"));
  EXPECT_THAT(ParseTaskText("name: 'a' model { inputs: 1 layers { units: 1 } }"),
              HasCodeAndText(Code::kInvalidArgument, "protocol"));
}

TEST(TaskText, KeepsItsLimits) {
  const std::string task(kShortTask);
  const std::string start = "name: 'a' protocol: PROTOCOL_SECAGG model { ";
  std::string layers;
  for (uint32_t i = 0; i < limits::kLayersMax; ++i) layers += "layers { units: 1 } ";
  const std::pair<std::string, std::string> cases[] = {
      {start + "layers { units: 1 } }", "model.inputs"},
      {start + "inputs: 1048577 layers { units: 1 } }", "model.inputs"},
      {start + "inputs: 1 }", "model.layers"},
      {start + "inputs: 1 layers { units: 1 }" + layers + "}", "model.layers"},
      {start + "inputs: 1 layers { units: 1048577 } }", "units"},
      {task + "rounds: 1000001", "rounds"},
      {task + "deadlines { unmask_ms: 86400001 }", "deadlines.unmask_ms"},
      {task + std::string(limits::kTaskBytesMax, ' '), "bytes"},
      {"name: 'a\\n' model { inputs: 1 layers { units: 1 } } protocol: PROTOCOL_PLAIN", "name"},
      {"name: '\\302\\205' model { inputs: 1 layers { units: 1 } } protocol: PROTOCOL_PLAIN",
       "name"},
      {"name: '\\355\\240\\200' model { inputs: 1 layers { units: 1 } } protocol: PROTOCOL_PLAIN",
       "name"},
      {"name: '" + std::string(201, 'a') +
           "' model { inputs: 1 layers { units: 1 } } protocol: PROTOCOL_PLAIN",
       "name"}};
  for (const auto& [text, expected] : cases)
    EXPECT_THAT(ParseTaskText(text), HasCodeAndText(Code::kInvalidArgument, expected)) << text;
  EXPECT_THAT(ParseTaskText(start + "inputs: 1048576 " + layers + "}"), IsOk());
  EXPECT_THAT(ParseTaskText(task + "rounds: 1000000 deadlines { unmask_ms: 86400000 }"), IsOk());
  EXPECT_THAT(ParseTaskText("name: '\xE6\x95\xB0\xE5\xAD\x97 \xF0\x9F\x8E\xB5' model { inputs: 1 "
                            "layers { units: 1 } } protocol: PROTOCOL_PLAIN"),
              IsOk());
}

TEST(TaskText, RefusesDeepNesting) {
  std::string text;
  for (int i = 0; i < 10'000; ++i) text += "model {";
  EXPECT_THAT(ParseTaskText(text), HasCode(Code::kInvalidArgument));
}

TEST(Task, HasTheBytesOfTheReferenceEncoder) {
  const Result<TaskSpec> task = ParseTaskText(kWholeTask);
  ASSERT_THAT(task, IsOk());
  EXPECT_EQ(ToHex(EncodeTask(*task)), kWholeTaskHex);
}

TEST(Task, SaysWhetherItAdapts) {
  TaskSpec task = *ParseTaskText(kWholeTask);
  EXPECT_TRUE(task.adapt);
  task.adapt = false;
  EXPECT_FALSE(DecodeTask(EncodeTask(task))->adapt);
  EXPECT_FALSE(ParseTaskText(std::string(kWholeTask) + "\nadapt: false\n")->adapt);
}

TEST(Task, WritesDefaultsOut) {
  TaskSpec task;
  task.name = "a";
  task.model = {.inputs = 1, .layers = {LayerSpec{.units = 1}}};
  // By protoc from the same task with every default of chorus/task.h spelled out.
  EXPECT_EQ(ToHex(EncodeTask(task)),
            "0a016112060801120208011a0b080110201dcdcccc3d200a22050d0000803f2a0708808040108020"
            "30023a0a08d0860310a08d06180242090805100018800120004a1a08882710c0a90718904e209875"
            "28e0d40330c03e38c03e40d00f500a5d0000803f");
}

TEST(Task, DecodesToWhatWasEncoded) {
  const Result<Bytes> bytes = FromHex(kWholeTaskHex);
  ASSERT_THAT(bytes, IsOk());
  const Result<TaskSpec> task = DecodeTask(*bytes);
  ASSERT_THAT(task, IsOk());
  EXPECT_EQ(EncodeTask(*task), *bytes);
}

TEST(Task, RefusesFieldsAndValuesThatThisVersionDoesNotKnow) {
  const Bytes task = *FromHex(kWholeTaskHex);
  EXPECT_THAT(DecodeTask(task + Number(99, 1)), HasCodeAndText(Code::kInvalidArgument, "field"));
  EXPECT_THAT(DecodeTask(task + Block(3, Number(99, 1))), HasCode(Code::kInvalidArgument));
  EXPECT_THAT(DecodeTask(task + Number(6, 4)), HasCodeAndText(Code::kInvalidArgument, "protocol"));
  EXPECT_THAT(DecodeTask(task + Block(2, Number(3, 5))),
              HasCodeAndText(Code::kInvalidArgument, "loss"));
  EXPECT_THAT(DecodeTask(task + Block(4, Bytes{0x0d, 0, 0, 0xc0, 0x7f})),
              HasCodeAndText(Code::kInvalidArgument, "update_l2_norm_max"));
  EXPECT_THAT(DecodeTask(task + Block(1, limits::kTaskBytesMax)), HasCode(Code::kInvalidArgument));
}

TEST(TaskBytes, CarryTheReferenceLossOfQFedAvgUnlessItIsTheDefault) {
  TaskSpec task;
  task.name = "fair";
  task.model = {.inputs = 1, .layers = {{.units = 2}}};
  const size_t before = EncodeTask(task).size();
  task.training.fairness_loss = 2.5F;
  const Bytes bytes = EncodeTask(task);
  EXPECT_EQ(bytes.size(), before + 6);  // a tag of two bytes and a binary32
  const Result<TaskSpec> decoded = DecodeTask(bytes);
  ASSERT_THAT(decoded, IsOk());
  EXPECT_EQ(decoded->training.fairness_loss, 2.5F);
}

TEST(PolicyText, ReadsEveryFieldAndDefaults) {
  const Result<Policy> policy = ParsePolicyText(
      "allow_plain: true cohort_min: 10 honest_min: 4 gamma_ppm_min: 5 delta_ppm_min: 6 "
      "update_l2_norm_max: 2.5 uploads_per_model_max: 0 allow_honest_but_curious: true "
      "allow_analytics: true analytics_cohort_min: 30");
  ASSERT_THAT(policy, IsOk());
  EXPECT_TRUE(policy->allow_plain && policy->allow_honest_but_curious);
  EXPECT_EQ(policy->cohort_min, 10U);
  EXPECT_EQ(policy->honest_min, 4U);
  EXPECT_EQ(policy->gamma_ppm_min, 5U);
  EXPECT_EQ(policy->delta_ppm_min, 6U);
  EXPECT_EQ(policy->update_l2_norm_max, 2.5F);
  EXPECT_EQ(policy->uploads_per_model_max, 0U);
  EXPECT_TRUE(policy->allow_analytics);
  EXPECT_EQ(policy->analytics_cohort_min, 30U);
  const Result<Policy> empty = ParsePolicyText("# nothing to say\n");
  ASSERT_THAT(empty, IsOk());
  EXPECT_FALSE(empty->allow_plain || empty->allow_honest_but_curious);
  EXPECT_EQ(empty->cohort_min, Policy().cohort_min);
  EXPECT_FALSE(empty->allow_analytics);
  EXPECT_EQ(empty->analytics_cohort_min, 20U);
  EXPECT_EQ(empty->update_l2_norm_max, Policy().update_l2_norm_max);
  EXPECT_EQ(empty->uploads_per_model_max, Policy().uploads_per_model_max);
}

TEST(PolicyText, RefusesWhatItDoesNotKnow) {
  EXPECT_THAT(ParsePolicyText("allow_plain: true\nallow_all: true"),
              HasCodeAndText(Code::kInvalidArgument, "policy file 2:1"));
  EXPECT_THAT(ParsePolicyText("update_l2_norm_max: nan"), HasCode(Code::kInvalidArgument));
}

// --- calls ---------------------------------------------------------------------------------------

Invitation SomeInvitation() {
  return {.round = 3,
          .task = *FromHex(kWholeTaskHex),
          .task_signature = Filled<64>(4),
          .model = Filled<32>(5),
          .model_bytes = 6};
}

RoundReport SomeReport() {
  return {.round = 1,
          .state = RoundState::kAborted,
          .code = Code::kAborted,
          .reason = "too few answered",
          .model = Filled<32>(2),
          .invited = 3,
          .contributors = 4,
          .refused = 5,
          .dropouts = {6, 0, 7},
          .bytes_up = 8,
          .bytes_down = UINT64_MAX,
          .duration_ms = 9,
          .examples = 10,
          .loss = 0.1,
          .accuracy = 0.2,
          .evaluated = 11};
}

StatusReply SomeStatus() {
  return {.task = "digits",
          .rounds_wanted = 1,
          .rounds_begun = 2,
          .rounds_committed = 3,
          .clients = 4,
          .step = "masked input",
          .rounds = {SomeReport(), SomeReport()}};
}

UploadRequest SomeUpload() {
  return {.session = Filled<32>(1),
          .sequence = 2,
          .offset = 3,
          .total_bytes = 1'003,
          .sha256 = Filled<32>(4),
          .data = SomeBytes(1'000, 5),
          .abort_code = Code::kPermissionDenied};
}

TEST(Calls, CarryACheckIn) {
  EXPECT_THAT(Decode<ChallengeRequest>(Encode(ChallengeRequest{})), IsOk());
  const auto challenge = Decode<ChallengeReply>(Encode(ChallengeReply{Filled<32>(9)}));
  ASSERT_THAT(challenge, IsOk());
  EXPECT_EQ(challenge->challenge, Filled<32>(9));
  const CheckInRequest sent{.challenge = Filled<32>(1),
                            .identity = Filled<32>(2),
                            .evidence = SomeBytes(limits::kEvidenceBytesMax, 3),
                            .signature = Filled<64>(4),
                            .version = 5};
  const auto request = Decode<CheckInRequest>(Encode(sent));
  ASSERT_THAT(request, IsOk());
  EXPECT_EQ(request->challenge, sent.challenge);
  EXPECT_EQ(request->identity, sent.identity);
  EXPECT_EQ(request->evidence, sent.evidence);
  EXPECT_EQ(request->signature, sent.signature);
  EXPECT_EQ(request->version, sent.version);
  const auto reply = Decode<CheckInReply>(Encode(CheckInReply{Filled<32>(6)}));
  ASSERT_THAT(reply, IsOk());
  EXPECT_EQ(reply->session, Filled<32>(6));
}

TEST(Calls, CarryWhatIsNext) {
  const auto request = Decode<NextRequest>(Encode(NextRequest{Filled<32>(1), UINT64_MAX}));
  ASSERT_THAT(request, IsOk());
  EXPECT_EQ(request->session, Filled<32>(1));
  EXPECT_EQ(request->done, UINT64_MAX);

  const auto wait = Decode<NextReply>(Encode(NextReply{7, Wait{.retry_ms = 8, .complete = true}}));
  ASSERT_THAT(wait, IsOk());
  EXPECT_EQ(wait->sequence, 7U);
  EXPECT_EQ(std::get<Wait>(wait->what).retry_ms, 8U);
  EXPECT_TRUE(std::get<Wait>(wait->what).complete);

  const auto invitation = Decode<NextReply>(Encode(NextReply{7, SomeInvitation()}));
  ASSERT_THAT(invitation, IsOk());
  const Invitation& invited = std::get<Invitation>(invitation->what);
  EXPECT_EQ(invited.round, 3U);
  EXPECT_EQ(invited.task, SomeInvitation().task);
  EXPECT_EQ(invited.task_signature, SomeInvitation().task_signature);
  EXPECT_EQ(invited.model, SomeInvitation().model);
  EXPECT_EQ(invited.model_bytes, 6U);

  const Question sent{.total_bytes = 10, .sha256 = Filled<32>(2), .data = {1, 2}};
  const auto question = Decode<NextReply>(Encode(NextReply{7, sent}));
  ASSERT_THAT(question, IsOk());
  EXPECT_EQ(std::get<Question>(question->what).total_bytes, 10U);
  EXPECT_EQ(std::get<Question>(question->what).sha256, sent.sha256);
  EXPECT_EQ(std::get<Question>(question->what).data, sent.data);

  const auto over =
      Decode<NextReply>(Encode(NextReply{7, RoundOver{3, true, Code::kAborted, "too few"}}));
  ASSERT_THAT(over, IsOk());
  EXPECT_EQ(std::get<RoundOver>(over->what).round, 3U);
  EXPECT_TRUE(std::get<RoundOver>(over->what).counted);
  EXPECT_EQ(std::get<RoundOver>(over->what).code, Code::kAborted);
  EXPECT_EQ(std::get<RoundOver>(over->what).reason, "too few");
}

TEST(Calls, CarryTransfers) {
  const auto wanted =
      Decode<DownloadRequest>(Encode(DownloadRequest{Filled<32>(1), Filled<32>(2), 3, 4}));
  ASSERT_THAT(wanted, IsOk());
  EXPECT_EQ(wanted->session, Filled<32>(1));
  EXPECT_EQ(wanted->sha256, Filled<32>(2));
  EXPECT_EQ(wanted->offset, 3U);
  EXPECT_EQ(wanted->bytes_max, 4U);
  const DownloadReply sent{.data = SomeBytes(limits::kChunkBytesMax, 4),
                           .total_bytes = limits::kTransferBytesMax};
  const Bytes encoded = Encode(sent);
  EXPECT_LE(encoded.size(), limits::kMessageBytesMax);
  const auto got = Decode<DownloadReply>(encoded);
  ASSERT_THAT(got, IsOk());
  EXPECT_EQ(got->data, sent.data);
  EXPECT_EQ(got->total_bytes, sent.total_bytes);
  const auto upload = Decode<UploadRequest>(Encode(SomeUpload()));
  ASSERT_THAT(upload, IsOk());
  EXPECT_EQ(upload->session, SomeUpload().session);
  EXPECT_EQ(upload->sequence, 2U);
  EXPECT_EQ(upload->offset, 3U);
  EXPECT_EQ(upload->total_bytes, 1'003U);
  EXPECT_EQ(upload->sha256, SomeUpload().sha256);
  EXPECT_EQ(upload->data, SomeUpload().data);
  EXPECT_EQ(upload->abort_code, Code::kPermissionDenied);
  EXPECT_EQ(Decode<UploadReply>(Encode(UploadReply{12}))->received, 12U);
}

TEST(Calls, CarryStatus) {
  const auto request = Decode<StatusRequest>(Encode(StatusRequest{5, 6}));
  ASSERT_THAT(request, IsOk());
  EXPECT_EQ(request->first_round, 5U);
  EXPECT_EQ(request->round_count, 6U);
  const auto reply = Decode<StatusReply>(Encode(SomeStatus()));
  ASSERT_THAT(reply, IsOk());
  EXPECT_EQ(reply->task, "digits");
  EXPECT_EQ(reply->rounds_wanted, 1U);
  EXPECT_EQ(reply->rounds_begun, 2U);
  EXPECT_EQ(reply->rounds_committed, 3U);
  EXPECT_EQ(reply->clients, 4U);
  EXPECT_EQ(reply->step, "masked input");
  ASSERT_EQ(reply->rounds.size(), 2U);
  const RoundReport& round = reply->rounds[1];
  EXPECT_EQ(round.round, 1U);
  EXPECT_EQ(round.state, RoundState::kAborted);
  EXPECT_EQ(round.code, Code::kAborted);
  EXPECT_EQ(round.reason, "too few answered");
  EXPECT_EQ(round.model, Filled<32>(2));
  EXPECT_EQ(round.invited, 3U);
  EXPECT_EQ(round.contributors, 4U);
  EXPECT_EQ(round.refused, 5U);
  EXPECT_EQ(round.dropouts, (std::vector<uint32_t>{6, 0, 7}));
  EXPECT_EQ(round.bytes_up, 8U);
  EXPECT_EQ(round.bytes_down, UINT64_MAX);
  EXPECT_EQ(round.duration_ms, 9U);
  EXPECT_EQ(round.examples, 10U);
  EXPECT_EQ(round.loss, 0.1);
  EXPECT_EQ(round.accuracy, 0.2);
  EXPECT_EQ(round.evaluated, 11U);
}

TEST(Calls, FitTheLongestStatusIntoOneMessage) {
  StatusReply longest = SomeStatus();
  RoundReport report = SomeReport();
  report.round = report.bytes_up = report.duration_ms = report.examples = UINT64_MAX;
  report.evaluated = UINT64_MAX;
  report.invited = report.contributors = report.refused = UINT32_MAX;
  report.cohorts = report.cohorts_committed = UINT32_MAX;
  report.reason = std::string(10'000, 'x');
  report.dropouts.assign(16, UINT32_MAX);
  longest.rounds.assign(limits::kStatusRoundsMax, report);
  longest.evidence.assign(limits::kStatusEvidenceMax, {UINT64_MAX, UINT32_MAX, {}, {}, {}});
  const Bytes encoded = Encode(longest);
  EXPECT_LE(encoded.size(), limits::kMessageBytesMax);
  EXPECT_THAT(Decode<StatusReply>(encoded), IsOk());
}

TEST(Calls, RefuseWrongSizes) {
  const auto refuses = [](const auto& result, const char* field) {
    EXPECT_THAT(result, HasCodeAndText(Code::kInvalidArgument, field));
  };
  refuses(Decode<ChallengeReply>({}), "challenge");
  refuses(Decode<ChallengeReply>(Block(1, 31)), "challenge");
  refuses(Decode<ChallengeReply>(Block(1, 33)), "challenge");
  const Bytes challenge = Block(1, 32);
  const Bytes identity = Block(2, 32);
  const Bytes signature = Block(4, 64);
  EXPECT_THAT(Decode<CheckInRequest>(challenge + identity + signature), IsOk());
  refuses(Decode<CheckInRequest>(identity + signature), "challenge");
  refuses(Decode<CheckInRequest>(challenge + Block(2, 33) + signature), "identity");
  refuses(Decode<CheckInRequest>(challenge + identity + Block(4, 63)), "signature");
  refuses(Decode<CheckInRequest>(challenge + identity + signature +
                                 Block(3, limits::kEvidenceBytesMax + 1)),
          "evidence");
  refuses(Decode<CheckInReply>(Block(1, 16)), "session");
  refuses(Decode<NextRequest>(Number(2, 1)), "session");
  refuses(Decode<DownloadRequest>(Block(1, 32)), "sha256");
  refuses(Decode<DownloadRequest>(Block(1, 32) + Block(2, 32) +
                                  Number(3, limits::kTransferBytesMax + 1)),
          "offset");
  refuses(Decode<DownloadReply>(Block(1, 2) + Number(2, 1)), "data");
  refuses(Decode<DownloadReply>(Number(2, limits::kTransferBytesMax + 1)), "total_bytes");
  refuses(Decode<DownloadReply>(Block(1, limits::kChunkBytesMax + 1) +
                                Number(2, limits::kTransferBytesMax)),
          "data");
  refuses(Decode<DownloadReply>(Block(1, limits::kMessageBytesMax)), "bytes");
  refuses(Decode<UploadReply>(Number(1, UINT64_MAX)), "received");
  EXPECT_THAT(Decode<UploadReply>(Number(1, 5) + Block(200, 10)), IsOk());  // of a newer version
  refuses(Decode<StatusRequest>(Number(2, limits::kStatusRoundsMax + 1)), "round_count");
}

// A request cut where `cut` says, after so many bytes each time.
std::vector<BytesView> PiecesOf(BytesView bytes, size_t cut) {
  std::vector<BytesView> pieces;
  for (; !bytes.empty(); bytes = bytes.subspan(pieces.back().size())) {
    pieces.push_back(bytes.first(std::min(cut, bytes.size())));
  }
  return pieces;
}

TEST(Calls, ReadAnUploadWhereverItIsCut) {
  const UploadRequest sent = SomeUpload();
  const Bytes encoded = Encode(sent);
  // Also as nobody writes it: the data first, an unknown field, and the data again.
  const Bytes odd = Block(6, 7) + Block(100, 9) + encoded;
  for (const Bytes& bytes : {encoded, odd}) {
    for (size_t cut = 1; cut <= bytes.size(); ++cut) {
      const std::vector<BytesView> pieces = PiecesOf(bytes, cut);
      const Result<UploadChunk> chunk = DecodeUpload(pieces);
      ASSERT_THAT(chunk, IsOk()) << "cut " << cut;
      ASSERT_EQ(chunk->session, sent.session);
      ASSERT_EQ(chunk->sequence, sent.sequence);
      ASSERT_EQ(chunk->offset, sent.offset);
      ASSERT_EQ(chunk->total_bytes, sent.total_bytes);
      ASSERT_EQ(chunk->sha256, sent.sha256);
      ASSERT_EQ(chunk->abort_code, sent.abort_code);
      ASSERT_EQ(chunk->data_bytes, sent.data.size());
      ASSERT_EQ(Join(chunk->data), sent.data);
    }
  }
}

TEST(Calls, RefuseAnUploadInPiecesAsInOne) {
  const Bytes encoded = Encode(SomeUpload());
  for (size_t size = 0; size < encoded.size(); ++size) {
    const BytesView cut_off = BytesView(encoded).first(size);
    const bool whole = Decode<UploadRequest>(cut_off).ok();
    for (const size_t cut : {1, 2, 13, 1'500}) {
      ASSERT_EQ(DecodeUpload(PiecesOf(cut_off, cut)).ok(), whole) << size << ", cut " << cut;
    }
  }
  const Bytes long_head = Block(100, 5'000) + encoded;
  EXPECT_THAT(DecodeUpload(PiecesOf(long_head, 700)),
              HasCodeAndText(Code::kInvalidArgument, "besides its data"));
  const Bytes beyond = Block(1, 32) + Block(5, 32) + Number(3, 10) + Number(4, 30) + Block(6, 21);
  EXPECT_THAT(DecodeUpload(PiecesOf(beyond, 3)), HasCodeAndText(Code::kInvalidArgument, "data"));
  EXPECT_THAT(DecodeUpload(PiecesOf(Bytes(limits::kMessageBytesMax + 1), 4'096)),
              HasCodeAndText(Code::kInvalidArgument, "size"));
}

TEST(Calls, RefuseUploadsThatDoNotAddUp) {
  const Bytes start = Block(1, 32) + Block(5, 32);
  const auto upload = [&start](uint64_t offset, uint64_t total, size_t size) {
    return Decode<UploadRequest>(start + Number(3, offset) + Number(4, total) + Block(6, size));
  };
  EXPECT_THAT(upload(10, 30, 20), IsOk());
  EXPECT_THAT(upload(0, 0, 0), IsOk());
  EXPECT_THAT(upload(10, 30, 21), HasCodeAndText(Code::kInvalidArgument, "data"));
  EXPECT_THAT(upload(31, 30, 0), HasCodeAndText(Code::kInvalidArgument, "offset"));
  EXPECT_THAT(upload(UINT64_MAX, 30, 31), HasCode(Code::kInvalidArgument));
  EXPECT_THAT(upload(0, limits::kTransferBytesMax + 1, 0),
              HasCodeAndText(Code::kInvalidArgument, "total_bytes"));
}

TEST(Calls, RefuseAReplyThatAsksForNothingKnown) {
  EXPECT_THAT(Decode<NextReply>(Number(1, 5)), HasCode(Code::kInvalidArgument));
  EXPECT_THAT(Decode<NextReply>(Number(1, 5) + Block(6, 0)), HasCode(Code::kInvalidArgument));
  EXPECT_THAT(Decode<NextReply>(Block(4, Number(1, limits::kPullBytesMax + 1) + Block(2, 32))),
              HasCodeAndText(Code::kInvalidArgument, "total_bytes"));
  EXPECT_THAT(Decode<NextReply>(Block(3, Block(2, limits::kTaskBytesMax + 1))),
              HasCodeAndText(Code::kInvalidArgument, "task"));
}

TEST(Calls, TurnUnknownCodesIntoUnknown) {
  for (const uint64_t code : {uint64_t{17}, uint64_t{1'000}, UINT64_MAX}) {
    const auto upload = Decode<UploadRequest>(Block(1, 32) + Block(5, 32) + Number(7, code));
    ASSERT_THAT(upload, IsOk());
    EXPECT_EQ(upload->abort_code, Code::kUnknown);
    const auto over = Decode<NextReply>(Block(5, Number(3, code)));
    ASSERT_THAT(over, IsOk());
    EXPECT_EQ(std::get<RoundOver>(over->what).code, Code::kUnknown);
  }
}

TEST(Calls, BoundAndCleanThePeersWords) {
  const auto reason = [](std::string_view text) {
    const auto over = Decode<NextReply>(Block(5, Block(4, Letters(text))));
    return over.ok() ? std::get<RoundOver>(over->what).reason : over.status().ToString();
  };
  EXPECT_EQ(reason("line\n\x1B[31mred\x7F\t!"), "line[31mred!");
  EXPECT_EQ(reason("caf\xC3\xA9 \xC2\x9B"
                   "1m \xE6\x95\xB0"),
            "caf\xC3\xA9 1m \xE6\x95\xB0");
  EXPECT_EQ(reason(std::string(10'000, 'a')), std::string(500, 'a'));
  EXPECT_EQ(reason(std::string(499, 'a') + "\xC3\xA9"), std::string(499, 'a'));
  // What we send ourselves is made valid as well.
  const auto sent = Decode<NextReply>(
      Encode(NextReply{1, RoundOver{1, false, Code::kAborted, "broken \xC3(\xFF) text"}}));
  ASSERT_THAT(sent, IsOk());
  EXPECT_EQ(std::get<RoundOver>(sent->what).reason, "broken () text");
}

TEST(Calls, RefuseAStatusOutOfBounds) {
  const Bytes round = Block(5, 32);
  EXPECT_THAT(Decode<StatusReply>(Block(7, round)), IsOk());
  EXPECT_THAT(Decode<StatusReply>(Block(7, round + Number(2, 3))),
              HasCodeAndText(Code::kInvalidArgument, "state"));
  EXPECT_THAT(Decode<StatusReply>(Block(7, round + Block(9, Bytes(17, 1)))),
              HasCodeAndText(Code::kInvalidArgument, "dropouts"));
  EXPECT_THAT(Decode<StatusReply>(Block(7, Number(1, 1))),
              HasCodeAndText(Code::kInvalidArgument, "model"));
  Bytes many;
  for (uint32_t i = 0; i <= limits::kStatusRoundsMax; ++i) many = many + Block(7, round);
  EXPECT_THAT(Decode<StatusReply>(many), HasCodeAndText(Code::kInvalidArgument, "rounds"));
}

TEST(Calls, SayNothingOnStandardErrorAboutInvalidText) {
  testing::internal::CaptureStderr();
  const auto over = Decode<NextReply>(Block(5, Block(4, Letters("\xFF\xFE"))));
  const auto task = DecodeTask(Block(1, Letters("\xFF\xFE")));
  const auto text = ParseTaskText("name: '\\377\\376' rounds: oops");
  TaskSpec unnameable;
  unnameable.name = "\xFF\xFE";
  EncodeTask(unnameable);
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
  EXPECT_THAT(over, HasCodeAndText(Code::kInvalidArgument, "not a valid NextReply message"));
  EXPECT_THAT(task, HasCodeAndText(Code::kInvalidArgument, "not a valid Task message"));
  EXPECT_THAT(text, HasCode(Code::kInvalidArgument));
}

// Whatever arrives, a decoder gives a value or kInvalidArgument.
template <typename T>
void SurviveDamage(const T& message, uint8_t seed) {
  const Bytes whole = Encode(message);
  ASSERT_THAT(Decode<T>(whole), IsOk());
  const auto accepts = [](const Bytes& bytes) {
    const auto result = Decode<T>(bytes);
    return result.ok() || result.status().code() == Code::kInvalidArgument;
  };
  for (size_t size = 0; size < whole.size(); ++size)
    EXPECT_TRUE(accepts(Bytes(whole.begin(), whole.begin() + static_cast<int64_t>(size)))) << size;
  const std::unique_ptr<Rng> rng = crypto::NewSeededRng(Bytes(32, seed));
  for (int i = 0; i < 2'000; ++i) {
    Bytes flipped = whole;
    for (uint64_t flips = 1 + UniformBelow(*rng, 4); flips > 0 && !flipped.empty(); --flips)
      flipped[UniformBelow(*rng, flipped.size())] ^=
          static_cast<uint8_t>(1U << UniformBelow(*rng, 8));
    EXPECT_TRUE(accepts(flipped)) << "seed " << int{seed} << ", case " << i;
  }
}

TEST(Calls, SurviveTruncationAndFlippedBits) {
  SurviveDamage(CheckInRequest{.evidence = SomeBytes(50, 1)}, 1);
  SurviveDamage(NextRequest{}, 2);
  SurviveDamage(NextReply{1, SomeInvitation()}, 3);
  SurviveDamage(NextReply{1, Question{.total_bytes = 50, .data = SomeBytes(50, 2)}}, 4);
  SurviveDamage(NextReply{1, RoundOver{1, true, Code::kOk, "words"}}, 5);
  SurviveDamage(DownloadRequest{}, 6);
  SurviveDamage(UploadRequest{.total_bytes = 20, .data = SomeBytes(20, 3)}, 7);
  SurviveDamage(SomeStatus(), 8);
}

TEST(Task, SurvivesTruncationAndFlippedBits) {
  const Bytes whole = *FromHex(kWholeTaskHex);
  const std::unique_ptr<Rng> rng = crypto::NewSeededRng(Bytes(32, 9));
  for (int i = 0; i < 5'000; ++i) {
    Bytes changed = whole;
    changed.resize(UniformBelow(*rng, changed.size()) + 1);
    changed[UniformBelow(*rng, changed.size())] ^= static_cast<uint8_t>(UniformBelow(*rng, 256));
    const Result<TaskSpec> task = DecodeTask(changed);
    if (!task.ok()) {
      EXPECT_THAT(task, HasCode(Code::kInvalidArgument)) << "case " << i;
      continue;
    }
    EXPECT_THAT(DecodeTask(EncodeTask(*task)), IsOk()) << "case " << i;
  }
}

}  // namespace
}  // namespace chorus::wire
