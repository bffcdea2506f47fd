// The client: its conversation with the coordinator, and the thread around it.
#include "chorus/client.h"

#include <atomic>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <thread>

#include "base/clock.h"
#include "base/codec.h"
#include "client/round.h"
#include "client_fakes.h"

namespace chorus::client {
namespace {

using std::chrono::milliseconds;
using Kind = ClientEvent::Kind;

constexpr size_t kLedgerHeaderBytes = 16;
constexpr size_t kLedgerRecordBytes = 81;

// --- a round -------------------------------------------------------------------------------------

TEST(Session, ContributesInTheOpenWhenThePolicySaysSo) {
  PlainWorld world;
  const uint64_t question = world.AskForUpdate(1);
  EXPECT_NE(world.Find(Kind::kTrained), nullptr);
  ASSERT_TRUE(world.RunUntilAnswered(question));
  ASSERT_THAT(world.aggregator->Hear(1, world.server.uploads[question].data), IsOk());
  ASSERT_THAT(world.aggregator->Close(), IsOk());
  const Result<Sum> sum = world.aggregator->Finish();
  ASSERT_THAT(sum, IsOk());
  const auto encoding =
      math::FixedPointFor(world.weights.size(), world.task.clip, world.task.encoding, 8);
  const auto mean = math::Decode(*encoding, *sum);
  ASSERT_THAT(mean, IsOk());
  EXPECT_EQ(mean->examples, 18U);  // 20, of which a tenth is held back
  EXPECT_EQ(mean->evaluated, 2U);
  EXPECT_GT(math::Norm(mean->update), 0.0);
  world.server.Push(Over(1, /*counted=*/true));
  ASSERT_TRUE(world.RunUntil(Kind::kContributed));
  world.server.complete = true;
  ASSERT_TRUE(world.Run([&] { return world.stopped.has_value(); }));
  EXPECT_THAT(*world.stopped, IsOk());
  EXPECT_NE(world.Find(Kind::kStopped), nullptr);
  EXPECT_EQ(world.Find(Kind::kRoundLost), nullptr);
}

TEST(Session, ContributesToASecureSum) {
  std::vector<std::unique_ptr<World>> worlds;
  const TaskSpec task = SomeTask(Protocol::kSecAgg);
  for (uint8_t i = 0; i < 3; ++i) worlds.push_back(std::make_unique<World>(uint8_t(100 + i)));
  for (auto& world : worlds) ASSERT_TRUE(world->RunUntilAnswered(world->Invite(1, task)));
  auto aggregator =
      *aggregation::NewAggregator({.params = ParamsFor(task, 1, worlds[0]->weights),
                                   .signing_seed = worlds[0]->server.signing_seed.Reveal(),
                                   .verifier = worlds[0]->verifier.get(),
                                   .parties = {0, 1, 2}});
  while (!aggregator->done()) {
    const auto questions = aggregator->Ask();
    ASSERT_THAT(questions, IsOk());
    for (const Question& question : *questions) {
      World& world = *worlds[question.to];
      const uint64_t sequence =
          world.server.Ask(*aggregator->Body(question.to), /*inline_bytes=*/7);
      ASSERT_TRUE(world.RunUntilAnswered(sequence));
      EXPECT_EQ(world.server.uploads[sequence].abort_code, Code::kOk);
      ASSERT_THAT(aggregator->Hear(question.to, world.server.uploads[sequence].data), IsOk());
    }
    ASSERT_THAT(aggregator->Close(), IsOk());
  }
  const Result<Sum> sum = aggregator->Finish();
  ASSERT_THAT(sum, IsOk());
  EXPECT_EQ(sum->contributors, 3U);
  for (auto& world : worlds) {
    world->server.Push(Over(1, /*counted=*/true));
    EXPECT_TRUE(world->RunUntil(Kind::kContributed));
    const auto uploaded = [](const ClientEvent& event) { return event.kind == Kind::kUploaded; };
    EXPECT_EQ(std::count_if(world->events.begin(), world->events.end(), uploaded), 1)
        << "told once, though more answers followed";
  }
}

TEST(Session, WritesTheLedgerBeforeTheFirstByteLeaves) {
  PlainWorld world;
  const uint64_t question = world.AskForUpdate(1);
  bool checked = false;
  world.server.fault = [&](std::string_view method, BytesView) -> std::optional<Result<Bytes>> {
    if (method != wire::kUpload || checked) return std::nullopt;
    const Bytes file = ReadFile(world.folder.path() + "/ledger");
    EXPECT_EQ(file.size(), kLedgerHeaderBytes + 2 * kLedgerRecordBytes);
    const size_t last = kLedgerHeaderBytes + kLedgerRecordBytes;
    EXPECT_EQ(file.size() > last ? file[last] : 0, 2) << "the last record is not an upload's";
    checked = true;
    return std::nullopt;
  };
  EXPECT_TRUE(world.RunUntilAnswered(question));
  EXPECT_TRUE(checked);
}

TEST(Session, SendsNothingWhenTheLedgerCannotBeWritten) {
  auto full = std::make_unique<OpenLedger>();
  full->upload_status = ResourceExhausted("the disk is full");
  PlainWorld world(PlainTask(), SomeExamples(), std::move(full));
  const uint64_t question = world.AskForUpdate(1);
  ASSERT_TRUE(world.RunUntilAnswered(question));
  EXPECT_EQ(world.server.uploads[question].abort_code, Code::kResourceExhausted);
  EXPECT_TRUE(world.server.uploads[question].data.empty());
  ASSERT_NE(world.Find(Kind::kRefused), nullptr);
}

TEST(Session, TrainsTheSameFromTheSameExperimentSeed) {
  std::vector<Bytes> answers;
  for (const char* seed : {"7/a", "7/a", "7/b"}) {
    PlainWorld world;
    world.experiment = ExperimentSeed{seed};
    world.Renew();
    const uint64_t question = world.AskForUpdate(1);
    ASSERT_TRUE(world.RunUntilAnswered(question));
    answers.push_back(world.server.uploads[question].data);
  }
  EXPECT_EQ(answers[0], answers[1]);
  EXPECT_NE(answers[0], answers[2]);
}

TEST(Session, HoldsBackTheSameExamplesForLife) {
  World world;
  SessionOptions options;
  options.options = &world.options;
  options.rng = world.rng.get();
  const auto first = [&](std::string_view purpose, uint64_t round) {
    return UniformBelow(*DrawsFor(options, purpose, round), uint64_t{1} << 60U);
  };
  EXPECT_EQ(first("held-back", 0), first("held-back", 0));
  EXPECT_NE(first("training", 1), first("training", 1));
}

// --- refusals ------------------------------------------------------------------------------------

// Invites to `task` and expects a refusal with these words, told to host and coordinator.
void ExpectRefusal(World& world, const TaskSpec& task, Code code, std::string_view words) {
  const uint64_t sequence = world.Invite(1, task);
  ASSERT_TRUE(world.RunUntilAnswered(sequence));
  EXPECT_EQ(world.server.uploads[sequence].abort_code, code);
  ASSERT_NE(world.Find(Kind::kRefused), nullptr);
  EXPECT_THAT(world.Find(Kind::kRefused)->status, HasCodeAndText(code, std::string(words)));
  EXPECT_EQ(world.Find(Kind::kTrained), nullptr);
  // And goes on: the next round may be another.
  EXPECT_TRUE(world.Run([&, calls = world.server.Count(wire::kNext)] {
    return world.server.Count(wire::kNext) > calls + 2;
  }));
}

TEST(Session, RefusesWhatThePolicyForbids) {
  World plain;
  ExpectRefusal(plain, SomeTask(Protocol::kPlain), Code::kPermissionDenied, "by itself");
  World cohort;
  cohort.options.policy.cohort_min = 4;
  ExpectRefusal(cohort, SomeTask(Protocol::kSecAgg), Code::kPermissionDenied, "at least 4");
  World clip;
  clip.options.policy.update_l2_norm_max = 0.5F;
  ExpectRefusal(clip, SomeTask(Protocol::kSecAgg), Code::kPermissionDenied, "weigh");
}

TEST(Session, RefusesATaskThatItsCoordinatorDidNotSign) {
  World wrong_pin;
  wrong_pin.server.signing_seed = SeedOf(2);
  wrong_pin.server.fault = [&](std::string_view method, BytesView) -> std::optional<Result<Bytes>> {
    if (method != wire::kCheckIn) return std::nullopt;
    return wire::Encode(wire::CheckInReply{.session = wrong_pin.server.token});
  };
  ExpectRefusal(wrong_pin, SomeTask(Protocol::kSecAgg), Code::kUnauthenticated, "not signed");
  World changed;
  wire::Invitation invitation =
      changed.server.InvitationTo(1, SomeTask(Protocol::kSecAgg), Weights(10));
  TaskSpec other = SomeTask(Protocol::kSecAgg);
  other.cohort.minimum = 4;
  invitation.task = wire::EncodeTask(other);
  const uint64_t sequence = changed.server.Push(invitation);
  ASSERT_TRUE(changed.RunUntilAnswered(sequence));
  EXPECT_EQ(changed.server.uploads[sequence].abort_code, Code::kUnauthenticated);
}

TEST(Session, RefusesATaskThatChangedUnderItsName) {
  PlainWorld world;
  ASSERT_TRUE(world.RunUntilAnswered(world.Invite(1, world.task)));
  world.task.clip.update_l2_norm_max = 2.0F;
  const uint64_t sequence = world.Invite(2, world.task);
  ASSERT_TRUE(world.RunUntilAnswered(sequence));
  EXPECT_EQ(world.server.uploads[sequence].abort_code, Code::kPermissionDenied);
  ASSERT_NE(world.Find(Kind::kRefused), nullptr);
  EXPECT_THAT(world.Find(Kind::kRefused)->status,
              HasCodeAndText(Code::kPermissionDenied, "changed"));
}

TEST(Session, RefusesWhatThisDeviceCannotTrain) {
  World small;
  small.options.memory_bytes_max = 1'000;
  ExpectRefusal(small, SomeTask(Protocol::kSecAgg), Code::kResourceExhausted, "memory");
  // What examples lie in counts, though nothing is there yet.
  World roomy;
  roomy.options.memory_bytes_max = size_t{1} << 28U;
  roomy.examples.features.reserve(roomy.options.memory_bytes_max / sizeof(float));
  ExpectRefusal(roomy, SomeTask(Protocol::kSecAgg), Code::kResourceExhausted, "memory");
  World other_shape;
  ExpectRefusal(other_shape, SomeTask(Protocol::kSecAgg, 5), Code::kInvalidArgument, "");
  World labels;
  ExpectRefusal(labels, SomeTask(Protocol::kSecAgg, 4, 1), Code::kInvalidArgument, "");
}

TEST(Session, RefusesOnceTheLedgerIsUsedUp) {
  PlainWorld world;
  for (uint64_t round = 1; round <= 3; ++round) {
    ASSERT_TRUE(world.RunUntilAnswered(world.AskForUpdate(round)));
    world.server.Push(Over(round, /*counted=*/false));
  }
  const uint64_t repeated = world.Invite(2, world.task);
  ASSERT_TRUE(world.RunUntilAnswered(repeated));
  EXPECT_EQ(world.server.uploads[repeated].abort_code, Code::kPermissionDenied);
  ASSERT_NE(world.Find(Kind::kRefused), nullptr);
  EXPECT_THAT(world.Find(Kind::kRefused)->status,
              HasCodeAndText(Code::kPermissionDenied, "already given its part"));
  world.events.clear();
  const uint64_t fourth = world.Invite(4, world.task);
  ASSERT_TRUE(world.RunUntilAnswered(fourth));
  EXPECT_EQ(world.server.uploads[fourth].abort_code, Code::kPermissionDenied);
  ASSERT_NE(world.Find(Kind::kRefused), nullptr);
  EXPECT_THAT(world.Find(Kind::kRefused)->status,
              HasCodeAndText(Code::kPermissionDenied, "this version of the model"));
}

TEST(Session, TrainsNothingInVainOnceTheDayIsUsedUp) {
  auto spent = std::make_unique<OpenLedger>();
  spent->attempt_status = PermissionDenied("it goes on tomorrow");
  PlainWorld world(PlainTask(), SomeExamples(), std::move(spent));
  const uint64_t invited = world.Invite(1, world.task);
  ASSERT_TRUE(world.RunUntilAnswered(invited));
  EXPECT_EQ(world.server.uploads[invited].abort_code, Code::kPermissionDenied);
  ASSERT_NE(world.Find(Kind::kRefused), nullptr);
  EXPECT_THAT(world.Find(Kind::kRefused)->status,
              HasCodeAndText(Code::kPermissionDenied, "tomorrow"));
  EXPECT_EQ(world.Find(Kind::kTrained), nullptr);
}

TEST(Session, TellsTheCoordinatorOnlyTheCodeOfAProtocolFailure) {
  PlainWorld world;
  ASSERT_TRUE(world.RunUntilAnswered(world.Invite(1, world.task)));
  const uint64_t question = world.server.Ask(Bytes(348, 1));
  ASSERT_TRUE(world.RunUntilAnswered(question));
  EXPECT_EQ(world.server.uploads[question].abort_code, Code::kUnauthenticated);
  EXPECT_TRUE(world.server.uploads[question].data.empty());
  EXPECT_NE(world.Find(Kind::kRoundLost), nullptr);
}

// --- a bad network -------------------------------------------------------------------------------

TEST(Session, FetchesAModelInPiecesAndGoesOnWhereACallBroke) {
  PlainWorld world(PlainTask(4'000, 100), SomeExamples(4'000));  // 1.6 MB
  std::vector<uint64_t> offsets;
  world.server.fault = [&](std::string_view method,
                           BytesView request) -> std::optional<Result<Bytes>> {
    if (method != wire::kDownload) return std::nullopt;
    offsets.push_back(wire::Decode<wire::DownloadRequest>(request)->offset);
    if (offsets.size() == 2) return Unavailable("the network broke");
    if (offsets.size() == 3) return Unauthenticated("the coordinator restarted");
    return std::nullopt;
  };
  world.Invite(1, world.task);
  ASSERT_TRUE(world.RunUntil(Kind::kRoundLost));
  const uint64_t again = world.Invite(2, world.task);
  world.server.queue.erase(again - 1);
  ASSERT_TRUE(world.RunUntilAnswered(again));
  // Pieces are smaller than a message may be: each is held several times over while it comes.
  const uint64_t piece = limits::kChunkBytesMax / 4;
  EXPECT_THAT(offsets, testing::ElementsAre(0, piece, piece, piece, 2 * piece, 3 * piece, 4 * piece,
                                            5 * piece, 6 * piece));
  ASSERT_TRUE(world.RunUntilAnswered(world.Invite(3, world.task)));
  EXPECT_EQ(offsets.size(), 9U) << "a model at hand is not fetched again";
}

TEST(Session, DropsTheRoundOfAModelThatIsNotThePromisedOne) {
  PlainWorld world;
  const uint64_t sequence = world.Invite(1, world.task);
  const auto digest = std::get<wire::Invitation>(world.server.queue[sequence]).model;
  world.server.blobs[digest][3] ^= 1;
  ASSERT_TRUE(world.RunUntil(Kind::kRoundLost));
  EXPECT_THAT(world.Find(Kind::kRoundLost)->status, HasCode(Code::kDataLoss));
  EXPECT_EQ(world.Find(Kind::kTrained), nullptr);
  EXPECT_TRUE(world.Run([&] { return world.server.Count(wire::kCheckIn) == 2; }));
}

TEST(Session, SendsTheSameAnswerOnFromWhereTheCoordinatorIs) {
  constexpr size_t kChunk = limits::kChunkBytesMax;
  PlainWorld world(PlainTask(4'000, 200), SomeExamples(4'000));  // an answer of 2.4 MB
  const uint64_t question = world.AskForUpdate(1);
  std::vector<std::pair<uint64_t, size_t>> sent;
  world.server.fault = [&](std::string_view method,
                           BytesView request) -> std::optional<Result<Bytes>> {
    if (method != wire::kUpload) return std::nullopt;
    const auto upload = wire::Decode<wire::UploadRequest>(request);
    sent.emplace_back(upload->offset, upload->data.size());
    if (sent.size() == 3) {  // it arrives, and the reply is lost
      world.server.fault = nullptr;
      (void)world.server.Call(method, request);
      return Status(Code::kDeadlineExceeded, "no reply");
    }
    return std::nullopt;
  };
  ASSERT_TRUE(world.RunUntilAnswered(question));
  // Announced first, as it is longer than a chunk.
  EXPECT_THAT(sent, testing::ElementsAre(testing::Pair(0, 0), testing::Pair(0, kChunk),
                                         testing::Pair(kChunk, kChunk)));
  ASSERT_THAT(world.aggregator->Hear(1, world.server.uploads[question].data), IsOk());
  EXPECT_EQ(world.Find(Kind::kRoundLost), nullptr);
}

TEST(Session, GivesUpAnAnswerThatTheCoordinatorRefuses) {
  PlainWorld world;
  const uint64_t sequence = world.Invite(1, world.task);
  world.server.fault = [&](std::string_view method, BytesView) -> std::optional<Result<Bytes>> {
    if (method != wire::kUpload) return std::nullopt;
    return FailedPrecondition("the step has closed");
  };
  ASSERT_TRUE(world.RunUntil(Kind::kRoundLost));
  EXPECT_FALSE(world.server.uploads[sequence].complete);
  world.server.fault = nullptr;
  world.server.Push(Over(1, /*counted=*/false));
  EXPECT_TRUE(world.RunUntilAnswered(world.Invite(2, world.task)));
  EXPECT_EQ(world.server.Count(wire::kCheckIn), 1U) << "the session goes on";
}

TEST(Session, EndsASessionWhoseCoordinatorTakesNothing) {
  PlainWorld world;
  const uint64_t question = world.AskForUpdate(1);
  world.server.fault = [&](std::string_view method, BytesView) -> std::optional<Result<Bytes>> {
    if (method != wire::kUpload) return std::nullopt;
    return wire::Encode(wire::UploadReply{.received = 0});
  };
  EXPECT_TRUE(world.RunUntil(Kind::kRoundLost));
  EXPECT_LT(world.server.Count(wire::kUpload), 12U);
  EXPECT_TRUE(world.server.uploads.count(question) == 0);
}

TEST(Session, BacksOffLongerAndLongerWithJitter) {
  std::vector<Time> sums(12);
  constexpr int kWorlds = 60;
  for (int seed = 0; seed < kWorlds; ++seed) {
    World world(static_cast<uint8_t>(seed + 1), SomeExamples(), std::make_unique<OpenLedger>());
    world.server.fault = [](std::string_view, BytesView) { return Unavailable("nobody there"); };
    ASSERT_TRUE(world.Run([&] { return world.waits.size() >= sums.size(); }));
    Time most = limits::kBackoffFirst;
    for (size_t i = 0; i < sums.size(); ++i) {
      EXPECT_LE(world.waits[i], most);
      most = std::min(2 * most, limits::kBackoffMax);
      sums[i] += world.waits[i];
    }
    EXPECT_EQ(std::count_if(world.events.begin(), world.events.end(),
                            [](const auto& e) { return e.kind == Kind::kDisconnected; }),
              1);
  }
  // Means of uniform draws, their seeds fixed: within a third of the expected half.
  EXPECT_NEAR(double(sums[0].count()) / kWorlds, 125, 42);
  EXPECT_NEAR(double(sums[4].count()) / kWorlds, 2'000, 667);
  EXPECT_NEAR(double(sums[11].count()) / kWorlds, 15'000, 5'000);
}

TEST(Session, AsksSlowlyWhereItsCertificateIsRefused) {
  World world;
  world.server.fault = [](std::string_view method, BytesView) -> std::optional<Result<Bytes>> {
    if (method != wire::kCheckIn) return std::nullopt;
    return PermissionDenied("this certificate is not known here");
  };
  ASSERT_TRUE(world.Run([&] { return world.waits.size() >= 5; }));
  for (const Time wait : world.waits) EXPECT_GE(wait, limits::kBackoffMax / 2);
  EXPECT_THAT(world.Find(Kind::kDisconnected)->status,
              HasCodeAndText(Code::kPermissionDenied, "certificate"));
}

TEST(Session, ChecksInAgainWhenItsSessionIsGone) {
  PlainWorld world;
  world.AskForUpdate(1);
  world.server.token = {10};
  ASSERT_TRUE(world.RunUntil(Kind::kRoundLost));
  EXPECT_THAT(world.Find(Kind::kRoundLost)->status, HasCode(Code::kUnauthenticated));
  world.server.queue.clear();
  EXPECT_TRUE(world.RunUntilAnswered(world.Invite(2, world.task)));
  EXPECT_EQ(world.server.Count(wire::kCheckIn), 2U);
}

TEST(Session, GivesUpARoundThatOutlivesItsDeadlines) {
  PlainWorld world;
  ASSERT_TRUE(world.RunUntilAnswered(world.Invite(1, world.task)));
  world.clock.now += LongestRound(world.task.deadlines) + milliseconds(1);
  ASSERT_TRUE(world.RunUntil(Kind::kRoundLost));
  EXPECT_THAT(world.Find(Kind::kRoundLost)->status, HasCode(Code::kDeadlineExceeded));
}

TEST(Session, StopsTrainingThatOutlivesItsRound) {
  for (const bool asks : {false, true}) {
    PlainWorld world;
    if (asks) {
      world.task.model = {};
      world.task.queries = {{.name = "count"}};
      world.options.policy.allow_analytics = true;
      world.options.policy.analytics_cohort_min = 1;
    }
    world.Invite(1, world.task);
    ASSERT_TRUE(
        world.Run([&] { return std::holds_alternative<WorkAction>(world.session->Next()); }));
    world.clock.now += LongestRound(world.task.deadlines) + milliseconds(1);
    world.session->Work();
    for (ClientEvent& event : world.session->TakeEvents()) world.events.push_back(event);
    EXPECT_EQ(world.Find(Kind::kTrained), nullptr);
    ASSERT_NE(world.Find(Kind::kRoundLost), nullptr);
    EXPECT_THAT(world.Find(Kind::kRoundLost)->status,
                HasCodeAndText(Code::kDeadlineExceeded, "took longer than its round allows"));
  }
}

// --- a bad coordinator ---------------------------------------------------------------------------

TEST(Session, DropsACoordinatorThatMakesNoSense) {
  const std::vector<wire::NextReply> nonsense = {
      {.sequence = 0, .what = Over(1, /*counted=*/false)},  // not above `done`
      {.sequence = 9, .what = wire::Wait{}},                // not `done`
      {.sequence = 9, .what = Over(2, /*counted=*/false)},  // of another round
      {.sequence = 9, .what = Over(1, /*counted=*/true)},   // nothing was sent
      {.sequence = 9,
       .what = wire::Question{.total_bytes = 0, .sha256 = {1}, .data = {}}},  // another digest
  };
  for (size_t i = 0; i < nonsense.size(); ++i) {
    PlainWorld world;
    ASSERT_TRUE(world.RunUntilAnswered(world.Invite(1, world.task)));
    world.server.fault = [&](std::string_view method, BytesView) -> std::optional<Result<Bytes>> {
      if (method != wire::kNext) return std::nullopt;
      return wire::Encode(nonsense[i]);
    };
    EXPECT_TRUE(world.RunUntil(Kind::kRoundLost)) << i;
    EXPECT_TRUE(world.RunUntil(Kind::kDisconnected)) << i;
    EXPECT_EQ(world.waits.size(), 0U) << i;
    EXPECT_TRUE(world.Run([&] { return world.server.Count(wire::kCheckIn) == 2; })) << i;
    EXPECT_EQ(world.server.uploads.count(9), 0U) << i;
    EXPECT_GT(world.waits.size(), 0U) << i;
  }
  PlainWorld asked_too_often;
  const uint64_t question = asked_too_often.AskForUpdate(1);
  ASSERT_TRUE(asked_too_often.RunUntilAnswered(question));
  asked_too_often.server.Ask(Bytes(348, 1));
  EXPECT_TRUE(asked_too_often.RunUntil(Kind::kRoundLost));
  PlainWorld outside;
  outside.server.Ask(Bytes(348, 1));
  EXPECT_TRUE(outside.RunUntil(Kind::kDisconnected));
}

// A reply as the coordinator gives it, spoilt: bytes flipped, cut, added, or all noise.
Bytes Spoil(Bytes reply, Rng& rng) {
  const uint64_t way = UniformBelow(rng, 4);
  if (way == 0) {
    reply.resize(UniformBelow(rng, 200));
    rng.Fill(reply);
  } else if (way == 1) {
    reply.resize(UniformBelow(rng, reply.size() + 1));
  } else if (way == 2) {
    reply.push_back(static_cast<uint8_t>(UniformBelow(rng, 256)));
  } else if (!reply.empty()) {
    reply[UniformBelow(rng, reply.size())] ^= static_cast<uint8_t>(1 + UniformBelow(rng, 255));
  }
  return reply;
}

TEST(Session, SurvivesSpoiltRepliesOfEveryKind) {
  PlainWorld world(PlainTask(), SomeExamples(), std::make_unique<OpenLedger>());
  const Bytes offer = [&] {
    const uint64_t question = world.AskForUpdate(1);
    return std::get<wire::Question>(world.server.queue[question]).data;
  }();
  uint64_t trained = 0;
  for (uint64_t seed = 0; seed < 10'000; ++seed) {
    const auto rng = crypto::NewSeededRng(crypto::Sha256(Writer().U64(seed).view()));
    world.Renew();
    world.server.queue.clear();
    world.events.clear();
    world.Invite(1, world.task);
    world.server.Ask(offer, UniformBelow(*rng, 400));
    world.server.Push(Over(1, /*counted=*/true));
    const uint64_t spoilt = UniformBelow(*rng, 12);
    world.server.fault = [&, call = uint64_t{0}](
                             std::string_view method,
                             BytesView request) mutable -> std::optional<Result<Bytes>> {
      if (call++ < spoilt) return std::nullopt;
      const auto fault = std::exchange(world.server.fault, nullptr);
      Result<Bytes> reply = world.server.Call(method, request);
      world.server.fault = fault;
      if (!reply.ok()) return reply;
      return Spoil(*std::move(reply), *rng);
    };
    (void)world.Run([] { return false; }, 30);
    trained += world.Find(Kind::kTrained) != nullptr ? 1 : 0;
  }
  EXPECT_GT(trained, 2'000U) << "replies were spoilt too early to test what comes late";
}

// --- the thread ----------------------------------------------------------------------------------

// The coordinator in memory behind a transport; a call for Next may hang until interrupted.
class MemoryTransport final : public Transport {
 public:
  explicit MemoryTransport(FakeCoordinator& server, bool hang) : server_(server), hang_(hang) {}
  Result<Bytes> Call(std::string_view method, BytesView request, milliseconds) override {
    std::unique_lock lock(mutex_);
    if (hang_ && method == wire::kNext) wake_.wait(lock, [this] { return interrupted_; });
    if (interrupted_) return Cancelled("interrupted");
    return server_.Call(method, request);
  }
  void Interrupt() override {
    const std::lock_guard lock(mutex_);
    interrupted_ = true;
    wake_.notify_all();
  }

 private:
  FakeCoordinator& server_;
  const bool hang_;
  bool interrupted_ = false;
  std::mutex mutex_;
  std::condition_variable wake_;
};

struct ThreadWorld : PlainWorld {
  ThreadWorld() : PlainWorld(PlainTask(), SomeExamples(), std::make_unique<OpenLedger>()) {}
  Result<std::unique_ptr<Client>> Start(bool hang) {
    return Client::StartOver(std::make_unique<MemoryTransport>(server, hang), std::move(options),
                             examples, *verifier, clock, log);
  }
};

TEST(Client, TrainsOnItsOwnThreadAndTellsInOrder) {
  ThreadWorld world;
  world.Invite(1, world.task);
  const auto client = world.Start(/*hang=*/false);
  ASSERT_THAT(client, IsOk());
  std::vector<Kind> kinds;
  for (int i = 0; i < 100 && (kinds.empty() || kinds.back() != Kind::kTrained); ++i)
    for (const ClientEvent& event : (*client)->Poll(milliseconds(100))) kinds.push_back(event.kind);
  EXPECT_THAT(kinds, testing::ElementsAre(Kind::kConnected, Kind::kInvited, Kind::kTrained));
}

TEST(Client, StopsAtOnceInACallAndInABackoff) {
  for (const bool in_call : {true, false}) {
    ThreadWorld world;
    if (!in_call)
      world.server.fault = [](std::string_view, BytesView) { return PermissionDenied("no"); };
    auto client = world.Start(/*hang=*/in_call);
    ASSERT_THAT(client, IsOk());
    EXPECT_FALSE((*client)->Poll(milliseconds(5'000)).empty());
    // Time enough to be inside the wait, not on the way to it.
    std::this_thread::sleep_for(milliseconds(50));
    const auto clock = NewSystemClock();
    const Time before = clock->Now();
    client->reset();
    // The backoff is 15 s at least, and the call hangs for good; a busy machine is slow as well.
    EXPECT_LT(clock->Now() - before, milliseconds(5'000));
  }
}

TEST(Client, NamesTheOptionThatIsUnusable) {
  const auto start = [](const std::function<void(ThreadWorld&)>& spoil) {
    ThreadWorld world;
    spoil(world);
    return internal::StatusOf(world.Start(/*hang=*/false));
  };
  const auto refuses = [](const char* name) {
    return HasCodeAndText(Code::kInvalidArgument, std::string(name));
  };
  EXPECT_THAT(start([](auto& w) { w.options.identity_seed = SecretBytes(31); }),
              refuses("identity_seed"));
  EXPECT_THAT(start([](auto& w) { w.options.certificate.clear(); }), refuses("certificate"));
  EXPECT_THAT(start([](auto& w) { w.options.certificate = World::CertificateFor(7); }),
              refuses("another key"));
  EXPECT_THAT(start([](auto& w) { w.options.coordinator = {}; }), refuses("coordinator"));
  EXPECT_THAT(start([](auto& w) { w.options.state_dir.clear(); }), refuses("state_dir"));
  EXPECT_THAT(start([](auto& w) { w.examples.labels.pop_back(); }), refuses("label"));
  EXPECT_THAT(start([](auto& w) { w.examples.features[0] = NAN; }), refuses("finite"));
  EXPECT_THAT(start([](auto& w) { w.examples = {}; }), refuses("no examples"));
  EXPECT_THAT(start([](auto& w) { w.examples.targets.assign(20, 1); }), refuses("not both"));
  // Neither is right where the next token or a query is what counts: the task says.
  EXPECT_THAT(start([](auto& w) { w.examples.labels.clear(); }), IsOk());
  ThreadWorld tls;
  tls.options.server = "localhost:1";
  EXPECT_THAT(
      Client::Start(std::move(tls.options), tls.examples, *tls.verifier, tls.clock, tls.log),
      refuses("tls_roots_pem"));
}

// Says how often it was asked.
class CountingTrainer final : public Trainer {
 public:
  Status Accept(const TaskSpec&) override { return OkStatus(); }
  Result<TrainedUpdate> Train(const TaskSpec&, uint64_t, std::span<const float> weights,
                              const Cancel&) override {
    ++trained;
    return TrainedUpdate{.update = Weights(weights.size()), .examples = 1};
  }
  std::atomic<int> trained{0};
};

TEST(Client, TrainsByTheHostsEngineWithoutExamples) {
  ThreadWorld world;
  world.Invite(1, world.task);
  CountingTrainer trainer;
  const auto client =
      Client::StartOver(std::make_unique<MemoryTransport>(world.server, /*hang=*/false),
                        std::move(world.options), trainer, *world.verifier, world.clock, world.log);
  ASSERT_THAT(client, IsOk());
  bool told = false;
  for (int i = 0; i < 100 && !told; ++i)
    for (const ClientEvent& event : (*client)->Poll(milliseconds(100)))
      told = told || event.kind == Kind::kTrained;
  EXPECT_TRUE(told);
  EXPECT_EQ(trainer.trained, 1);
}

TEST(Client, SharesItsFolderWithNobody) {
  ThreadWorld world;
  const auto held = *Ledger::Open(world.folder.path());
  EXPECT_THAT(world.Start(/*hang=*/true), HasCode(Code::kFailedPrecondition));
}

}  // namespace
}  // namespace chorus::client
