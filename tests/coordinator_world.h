// A coordinator's core and its clients in memory: virtual time, seeded chance, no socket and no
// sleep. Shared by the tests of sessions and calls and those of rounds.
#pragma once

#include <algorithm>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "aggregation/protocols.h"
#include "base/limits.h"
#include "chorus/coordinator.h"
#include "chorus/store.h"
#include "coordinator/core.h"
#include "coordinator/memory_store.h"
#include "coordinator/round.h"
#include "coordinator/task_state.h"
#include "crypto/crypto.h"
#include "matchers.h"
#include "math/math.h"
#include "trust/trust.h"
#include "wire/wire.h"

namespace chorus::coordinator {

using EventKind = CoordinatorEvent::Kind;

class TestClock final : public Clock {
 public:
  Time Now() const override { return now; }
  int64_t UnixSeconds() const override { return unix_seconds; }
  Time now{1'000};
  int64_t unix_seconds = 1'000'000;
};

class SilentLog final : public LogSink {
 public:
  void Write(LogLevel, std::string_view, std::span<const LogField>) override {}
};

// A store in memory whose transactions can be made to fail.
class TestStore final : public Store {
 public:
  Status RunTransaction(std::string_view name,
                        const std::function<Status(Transaction&)>& function) override {
    if (meanwhile) meanwhile(name);
    if (name == failing) {
      ++failures;
      return ResourceExhausted("the disk is full");
    }
    MemoryTransaction transaction(content, clock);
    Status status = function(transaction);
    if (!status.ok()) transaction.Undo();
    return status;
  }
  bool shared() const override { return false; }

  const RoundReport& Round(uint64_t number) { return content.rounds.begin()->second.at(number); }
  TaskRecord& Task() { return content.tasks.begin()->second; }

  TestClock clock;
  MemoryContent content;
  std::string failing;                              // the name of the transactions that fail
  std::function<void(std::string_view)> meanwhile;  // what happens during one
  int failures = 0;
};

inline SecretBytes SeedOf(std::string_view text) {
  const Digest digest = crypto::Sha256(ViewOf(text));
  return SecretBytes(Bytes(digest.begin(), digest.end()));
}

// Three inputs, one output: dim 4. Powers of two throughout, so that encodings below are exact.
inline TaskSpec PlainTask() {
  TaskSpec task;
  task.name = "test-task";
  task.model.inputs = 3;
  task.model.layers = {{.units = 1, .activation = Activation::kNone}};
  task.model.loss = Loss::kSquaredError;
  task.protocol = Protocol::kPlain;
  task.cohort = {.minimum = 3, .target = 5, .maximum = 8, .over_selection_percent = 0};
  task.rounds = 3;
  return task;
}

inline TaskSpec SecAggTask() {
  TaskSpec task = PlainTask();
  task.protocol = Protocol::kSecAgg;
  task.cohort = {.minimum = 4, .target = 5, .maximum = 5, .over_selection_percent = 0};
  task.secagg = {.gamma_ppm = 10'000, .delta_ppm = 0, .honest_min = 2};
  return task;
}

// A coordinator and everything it stands on.
struct World {
  explicit World(TaskSpec spec = PlainTask()) : task(std::move(spec)) {}

  Result<std::unique_ptr<Core>> Create() {
    return Core::Create({.signing_seed = signing_seed.Reveal(),
                         .executor = executor,
                         .task = task,
                         .initial_weights = initial,
                         .experiment_seed = experiment_seed,
                         .process = process,
                         .address = address,
                         .retention = retention,
                         .admission = admission,
                         .pacing = pacing},
                        store_in_use != nullptr ? *store_in_use : store, *verifier, clock, *rng,
                        log);
  }
  void Start() {
    core.reset();
    Result<std::unique_ptr<Core>> created = Create();
    ASSERT_THAT(created, IsOk());
    core = *std::move(created);
  }
  // Ticks as long as something is due.
  void Settle() {
    for (int i = 0; i < 1'000 && core->NextTick() <= clock.now; ++i) core->Tick();
    ASSERT_GT(core->NextTick(), clock.now) << "the core never comes to rest";
    Collect();
  }
  void Advance(Time by) {
    const Time until = clock.now + by;
    Settle();
    while (core->NextTick() <= until) {
      clock.now = core->NextTick();
      Settle();
    }
    clock.now = until;
  }
  void Collect() {
    for (CoordinatorEvent& event : core->TakeEvents()) events.push_back(std::move(event));
  }
  std::vector<CoordinatorEvent> Of(EventKind kind) const {
    std::vector<CoordinatorEvent> found;
    std::copy_if(events.begin(), events.end(), std::back_inserter(found),
                 [kind](const CoordinatorEvent& event) { return event.kind == kind; });
    return found;
  }
  // A call that is answered at once.
  template <typename Answer, typename Request>
  Result<Answer> Call(std::string_view method, const Request& request) {
    std::optional<Result<Bytes>> reply;
    core->Handle(method, wire::Encode(request), [&](Result<Bytes> bytes) { reply = bytes; });
    if (!reply) return Internal("the call was not answered");
    CHORUS_TRY(*reply);
    return wire::Decode<Answer>(**reply);
  }

  TaskSpec task;
  SecretBytes signing_seed = SeedOf("coordinator");
  SecretBytes issuer_seed = SeedOf("issuer");
  PublicKey public_key = crypto::Ed25519Public(signing_seed.Reveal());
  std::optional<Weights> initial = Weights{1, 2, 3, 4};
  std::optional<uint64_t> experiment_seed;
  AdmissionOptions admission{.identity = {}, .subject = {}, .address = {}};
  PacingOptions pacing{.connected_max = 0};
  Executor* executor = nullptr;
  TestClock clock;
  TestStore store;
  Store* store_in_use = nullptr;  // null: the above
  std::string process;
  std::string address;
  Retention retention;
  SilentLog log;
  std::unique_ptr<IdentityVerifier> verifier =
      trust::NewCertificateVerifier(crypto::Ed25519Public(issuer_seed.Reveal()), clock);
  std::unique_ptr<Rng> rng = crypto::NewSeededRng(SeedOf("chance").Reveal());
  std::vector<CoordinatorEvent> events;
  std::unique_ptr<Core> core;
};

// A client that speaks the conversation of docs/wire_format.md by hand.
struct Player {
  Player(World& its_world, uint64_t its_serial, std::string_view issuer = "issuer")
      : world(&its_world), serial(its_serial), seed(SeedOf("player" + std::to_string(its_serial))) {
    trust::Certificate certificate;
    certificate.serial = serial;
    certificate.not_before = 0;
    certificate.not_after = 2'000'000;
    certificate.subject = crypto::Ed25519Public(seed.Reveal());
    evidence = trust::IssueCertificate(certificate, SeedOf(issuer).Reveal());
  }

  Digest Challenge() const {
    const auto answer =
        world->Call<wire::ChallengeReply>(wire::kChallenge, wire::ChallengeRequest{});
    EXPECT_THAT(answer, IsOk());
    return answer.ok() ? answer->challenge : Digest{};
  }
  wire::CheckInRequest SignedCheckIn(const Digest& challenge) const {
    wire::CheckInRequest request;
    request.challenge = challenge;
    request.identity = crypto::Ed25519Public(seed.Reveal());
    request.evidence = evidence;
    request.signature = crypto::Ed25519Sign(
        seed.Reveal(),
        crypto::LabeledHash("CHORUS1/check-in", {world->public_key, challenge, request.identity,
                                                 crypto::Sha256(evidence)}));
    return request;
  }
  Status TryCheckIn(const wire::CheckInRequest& request) {
    CHORUS_TRY_ASSIGN(const wire::CheckInReply answer,
                      world->Call<wire::CheckInReply>(wire::kCheckIn, request));
    session = answer.session;
    done = 0;
    return OkStatus();
  }
  void CheckIn() { ASSERT_THAT(TryCheckIn(SignedCheckIn(Challenge())), IsOk()); }

  // Calls Next; the answer arrives in `reply` now or later.
  void Ask() {
    reply = std::make_shared<Slot>();  // NOLINT(tidy): see below
    world->core->Handle(wire::kNext, wire::Encode(wire::NextRequest{session, done}),
                        [into = reply](Result<Bytes> bytes) {
                          EXPECT_FALSE(into->has_value()) << "answered twice";
                          *into = std::move(bytes);
                        });
  }
  bool parked() const { return reply != nullptr && !reply->has_value(); }
  // What the last Next gave.
  Result<wire::NextReply> Given() const {
    if (reply == nullptr || !reply->has_value()) return NotFound("not answered yet");
    CHORUS_TRY(**reply);
    return wire::Decode<wire::NextReply>(***reply);
  }
  // Asks unless parked, and takes what is there as Kind; null when it is something else.
  template <typename Kind>
  std::optional<Kind> Take() {
    if (!parked()) Ask();
    world->Settle();
    const Result<wire::NextReply> given = Given();
    if (!given.ok()) return std::nullopt;
    const Kind* kind = std::get_if<Kind>(&given->what);
    if (kind == nullptr) return std::nullopt;
    sequence = given->sequence;
    reply = nullptr;
    return *kind;
  }
  // The whole body of a question, its tail downloaded.
  Bytes Body(const wire::Question& question) const {
    Bytes body = question.data;
    while (body.size() < question.total_bytes) {
      const auto chunk = Download(question.sha256, body.size());
      EXPECT_THAT(chunk, IsOk());
      if (!chunk.ok() || chunk->data.empty()) break;
      body.insert(body.end(), chunk->data.begin(), chunk->data.end());
    }
    return body;
  }
  Result<wire::DownloadReply> Download(const Digest& sha256, uint64_t offset,
                                       uint64_t bytes_max = 0) const {
    return world->Call<wire::DownloadReply>(
        wire::kDownload, wire::DownloadRequest{session, sha256, offset, bytes_max});
  }
  wire::UploadRequest UploadOf(BytesView answer) const {
    wire::UploadRequest request;
    request.session = session;
    request.sequence = sequence;
    request.total_bytes = answer.size();
    request.sha256 = crypto::Sha256(answer);
    request.data = Bytes(answer.begin(), answer.end());
    return request;
  }
  Result<wire::UploadReply> Send(const wire::UploadRequest& request) const {
    return world->Call<wire::UploadReply>(wire::kUpload, request);
  }
  Status Answer(BytesView answer) {
    CHORUS_TRY_ASSIGN(const wire::UploadReply taken, Send(UploadOf(answer)));
    EXPECT_EQ(taken.received, answer.size());
    done = sequence;
    return OkStatus();
  }
  Status Abort(Code code) {
    wire::UploadRequest request = UploadOf({});
    request.abort_code = code;
    CHORUS_TRY(Send(request));
    done = sequence;
    return OkStatus();
  }

  // Takes the invitation and says that it is ready, with `update` for `examples` to give, and with
  // a record of pre-keys if it has any.
  void Ready(const std::vector<float>& update, uint64_t examples) {
    const auto invitation = Take<wire::Invitation>();
    ASSERT_TRUE(invitation.has_value());
    const Bytes record = prekeys.has_value() ? prekeys->record : Bytes();
    Join(*invitation, update, examples);
    ASSERT_THAT(Answer(record), IsOk());
  }
  // Makes the contributor that answers the questions of the round.
  void Join(const wire::Invitation& invitation, const std::vector<float>& update,
            uint64_t examples) {
    joined = invitation;
    const auto model = Download(invitation.model, 0);
    ASSERT_THAT(model, IsOk());
    weights.resize(model->data.size() / sizeof(float));
    std::memcpy(weights.data(), model->data.data(), model->data.size());
    const TaskSpec task = *wire::DecodeTask(invitation.task);
    const auto encoding =
        math::FixedPointFor(weights.size(), task.clip, task.encoding, task.cohort.maximum);
    ASSERT_THAT(encoding, IsOk());
    auto input = math::Encode(
        *encoding,
        {.update = update, .examples = examples, .evaluated = examples, .accuracy = 0.5, .loss = 2},
        *world->rng);
    ASSERT_THAT(input, IsOk());
    aggregation::ContributorOptions options;
    options.coordinator = world->public_key;
    const auto expected = SessionParamsFor({.task = task,
                                            .task_bytes = invitation.task,
                                            .weights = weights,
                                            .round = invitation.round});
    ASSERT_THAT(expected, IsOk());
    options.expected = *expected;
    options.expected.coordinator_id = world->public_key;
    options.honest_min = 1;
    options.committee_ids = task.one_shot.members;
    options.identity_seed = seed.Reveal();
    options.evidence = evidence;
    options.verifier = world->verifier.get();
    options.rng = own_rng != nullptr ? own_rng.get() : world->rng.get();
    options.prekeys = std::exchange(prekeys, std::nullopt);
    options.unix_now = world->clock.unix_seconds;
    options.input = *std::move(input);
    contributor = *aggregation::NewContributor(std::move(options));
  }
  // The answer to the question that waits; empty when there is none.
  Result<Bytes> Think() {
    const auto question = Take<wire::Question>();
    if (!question) return NotFound("no question waits");
    const Bytes body = Body(*question);
    EXPECT_EQ(crypto::Sha256(body), question->sha256);
    return contributor->Answer(body);
  }
  void Contribute() {
    const Result<Bytes> answer = Think();
    ASSERT_THAT(answer, IsOk());
    ASSERT_THAT(Answer(*answer), IsOk());
  }
  void HearsOfEnd(bool counted, Code code = Code::kOk) {
    const auto over = Take<wire::RoundOver>();
    ASSERT_TRUE(over.has_value()) << "player " << serial;
    EXPECT_EQ(over->counted, counted) << "player " << serial;
    EXPECT_EQ(over->code, code) << over->reason;
    done = sequence;
  }

  World* world;
  uint64_t serial;
  SecretBytes seed;
  Bytes evidence;
  wire::SessionToken session{};
  uint64_t done = 0;
  uint64_t sequence = 0;
  Weights weights;
  wire::Invitation joined;
  std::unique_ptr<Rng> own_rng;                 // of its keys; null: the world's
  std::optional<aggregation::PreKeys> prekeys;  // for its next session
  std::unique_ptr<Contributor> contributor;
  // Shared with the core, which may outlive the player and answers its parked call then.
  using Slot = std::optional<Result<Bytes>>;
  std::shared_ptr<Slot> reply;  // NOLINT(tidy): as said
};

using Players = std::vector<std::unique_ptr<Player>>;

inline Players CheckedIn(World& world, uint64_t count) {
  Players players;
  for (uint64_t serial = 1; serial <= count; ++serial) {
    players.push_back(std::make_unique<Player>(world, serial));
    players.back()->CheckIn();
    players.back()->Ask();
  }
  world.Settle();
  return players;
}

// Player i's update and weight: exact in the encoding, so that means can be compared exactly.
inline std::vector<float> UpdateOf(size_t i) {
  return {0.25F * static_cast<float>(i % 3), -0.125F, 0.5F, i % 2 == 0 ? 0.25F : -0.25F};
}
inline uint64_t ExamplesOf(size_t i) { return uint64_t{256} << (i % 4); }

inline Weights MeanAdded(const Weights& weights, const std::vector<size_t>& who) {
  Weights sum = weights;
  double total = 0;
  for (const size_t i : who) total += static_cast<double>(ExamplesOf(i));
  for (size_t j = 0; j < sum.size(); ++j) {
    double mean = 0;
    for (const size_t i : who) mean += UpdateOf(i)[j] * static_cast<double>(ExamplesOf(i));
    sum[j] += static_cast<float>(mean / total);
  }
  return sum;
}

inline void ReadyAll(Players& players) {
  for (size_t i = 0; i < players.size(); ++i) players[i]->Ready(UpdateOf(i), ExamplesOf(i));
}

inline void RunRound(Players& players) {
  ReadyAll(players);
  const size_t steps =
      aggregation::Steps(players[0]->world->task.protocol, players[0]->world->task.secagg.graph)
          .size();
  for (size_t step = 0; step < steps; ++step) {
    for (auto& player : players) player->Contribute();
  }
}

// A plain round in which player 0 has an answer to give.
struct Uploading {
  explicit Uploading(TaskSpec task = PlainTask()) : world(std::move(task)) {
    world.Start();
    players = CheckedIn(world, 5);
    ReadyAll(players);
    const Result<Bytes> thought = players[0]->Think();
    EXPECT_THAT(thought, IsOk());
    answer = *thought;
    request = players[0]->UploadOf(answer);
  }
  wire::UploadRequest Chunk(size_t first, size_t size) const {
    wire::UploadRequest chunk = request;
    chunk.offset = first;
    chunk.data = Bytes(answer.begin() + static_cast<std::ptrdiff_t>(first),
                       answer.begin() + static_cast<std::ptrdiff_t>(first + size));
    return chunk;
  }
  uint64_t Received(const Result<wire::UploadReply>& reply) const {
    EXPECT_THAT(reply, IsOk());
    return reply.ok() ? reply->received : UINT64_MAX;
  }

  World world;
  Players players;
  Bytes answer;
  wire::UploadRequest request;
};

using Group = std::vector<size_t>;  // players of one cohort, ascending

// A round of which every client has the first question of the protocol, and an answer to it.
struct Parallel {
  Parallel(TaskSpec task, size_t count) : world(std::move(task)) {
    world.Start();
    players = CheckedIn(world, count);
    Begin();
  }
  void Begin() {
    ReadyAll(players);
    std::map<Digest, Group> by_offer;  // each cohort's offer has a nonce of its own
    thoughts.clear();
    for (size_t i = 0; i < players.size(); ++i) {
      const auto question = players[i]->Take<wire::Question>();
      ASSERT_TRUE(question.has_value()) << i;
      by_offer[question->sha256].push_back(i);
      const Result<Bytes> answer = players[i]->contributor->Answer(players[i]->Body(*question));
      ASSERT_THAT(answer, IsOk());
      thoughts.push_back(*answer);
    }
    groups.clear();
    for (const auto& [offer, group] : by_offer) groups.push_back(group);
  }
  // They answer the first question.
  void GiveFirst(const Group& who) {
    for (const size_t i : who) ASSERT_THAT(players[i]->Answer(thoughts[i]), IsOk());
  }
  // They answer so many more questions.
  void Give(const Group& who, size_t steps) {
    for (size_t step = 0; step < steps; ++step) {
      for (const size_t i : who) players[i]->Contribute();
    }
  }
  Group Without(const Group& gone) const {
    Group rest;
    for (size_t i = 0; i < players.size(); ++i) {
      if (std::find(gone.begin(), gone.end(), i) == gone.end()) rest.push_back(i);
    }
    return rest;
  }

  World world;
  Players players;
  std::vector<Group> groups;
  std::vector<Bytes> thoughts;
};

}  // namespace chorus::coordinator
