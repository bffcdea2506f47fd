// The coordinator's core under requests that the input chooses: what an honest client would send
// next, the same with bytes or fields changed, replays, and noise, in any order, while time passes,
// the store fails, operators act on its tasks and the coordinator restarts. Laws: nothing crashes;
// every request is answered once, with a reply of its call or a status that is not kInternal; the
// core always comes to rest; weights stay finite; a round that commits has its minimum of
// contributors.
#include <cmath>

#include "fuzz.h"
#include "tasks_world.h"

namespace chorus::coordinator {
namespace {

using fuzz::Choices;
using fuzz::Require;

constexpr size_t kPlayers = 6;
constexpr size_t kOperationsMax = 200;
constexpr size_t kHistoryMax = 32;
constexpr const char* kNames[] = {"a", "b", "c", "d"};
constexpr std::string_view kMethods[] = {wire::kChallenge, wire::kCheckIn,  wire::kNext,
                                         wire::kDownload,  wire::kUpload,   wire::kGetStatus,
                                         wire::kControl,   wire::kGetAudit, "Unknown"};

// An answer that may come later than its request.
struct Slot {
  std::string_view method;
  int answers = 0;
  Result<Bytes> reply = Unavailable("not answered yet");
};
// Shared with the core, which answers a parked call when it likes.
using SharedSlot = std::shared_ptr<Slot>;

bool IsReplyOf(std::string_view method, BytesView bytes) {
  if (method == wire::kChallenge) return wire::Decode<wire::ChallengeReply>(bytes).ok();
  if (method == wire::kCheckIn) return wire::Decode<wire::CheckInReply>(bytes).ok();
  if (method == wire::kNext) return wire::Decode<wire::NextReply>(bytes).ok();
  if (method == wire::kDownload) return wire::Decode<wire::DownloadReply>(bytes).ok();
  if (method == wire::kUpload) return wire::Decode<wire::UploadReply>(bytes).ok();
  if (method == wire::kControl) return wire::Decode<wire::ControlReply>(bytes).ok();
  if (method == wire::kGetAudit) return wire::Decode<wire::AuditReply>(bytes).ok();
  return method == wire::kGetStatus && wire::Decode<wire::StatusReply>(bytes).ok();
}

class Conversation {
 public:
  explicit Conversation(Choices& choices) : choices_(choices), world_(TasksOf(choices)) {
    world_.operators = {crypto::Ed25519Public(SeedOf("operator").Reveal())};
    world_.stored_tasks = true;
    world_.Start();
    for (uint64_t serial = 1; serial <= kPlayers; ++serial) {
      players_.push_back(std::make_unique<Player>(world_, serial));
    }
    waiting_.resize(kPlayers);
    for (uint32_t left = choices_.Below(24); left > 0; --left) Everybody();
  }

  void Run() {
    for (size_t i = 0; i < kOperationsMax && !choices_.empty(); ++i) {
      Operation();
      world_.Settle();
      CheckWorld();
    }
    world_.core = nullptr;
    for (const SharedSlot& slot : slots_) Require(slot->answers == 1, "each request is answered");
  }

 private:
  static std::vector<HostedTask> TasksOf(Choices& choices) {
    std::vector<HostedTask> tasks;
    const TaskSpec task = choices.Flag() ? SecAggTask() : PlainTask();
    for (uint32_t count = 1 + choices.Below(3); count > 0; --count) {
      tasks.push_back({.task = task, .initial_weights = Weights{1, 2, 3, 4}, .priority = count});
      tasks.back().task.name = kNames[tasks.size() - 1];
    }
    return tasks;
  }

  void Operation() {
    const uint32_t what = choices_.Below(16);
    Player& player = *players_[choices_.Below(kPlayers)];
    if (what < 5) return Natural(player);
    switch (what) {
      case 5:
      case 6:
        return Everybody();
      case 7:
        return world_.Advance(Time{int64_t{1} << choices_.Below(18)});
      case 8:
      case 9:
      case 10:
        change_next_ = 1 + choices_.Below(3);
        Natural(player);
        change_next_ = 0;
        return;
      case 11: {
        const BytesView noise = choices_.Take(choices_.Below(64));
        Send(kMethods[choices_.Below(std::size(kMethods))], Bytes(noise.begin(), noise.end()));
        return;
      }
      case 12:
        if (history_.empty()) return;
        return Replay(history_[choices_.Below(history_.size())]);
      case 13:
        return Upload(player);
      case 14:
        return Ask(player);
      default:
        return Disturb();
    }
  }

  void Everybody() {
    for (auto& player : players_) Natural(*player);
    world_.Settle();
  }

  void Disturb() {
    switch (choices_.Below(6)) {
      case 0:
        world_.store.failing = world_.store.failing.empty() ? "commit round" : "";
        return;
      case 3:
        world_.store.failing = world_.store.failing.empty() ? "control task" : "";
        return;
      case 4:
      case 5:
        return Order();
      case 1:
        world_.store.failing = world_.store.failing.empty() ? "begin round" : "";
        return;
      default:
        // A crash: the new core knows what the store knows, and no session.
        world_.store.failing.clear();
        world_.Start();
    }
  }

  // An operator's order, as it should be but for a byte or two.
  void Order() {
    const std::string name = kNames[choices_.Below(std::size(kNames))];
    CoordinatorCore* const core = world_.router().Find(name);
    wire::ControlRequest request{.task = name, .entry = {}};
    AuditEntry& entry = request.entry;
    entry.action = static_cast<AuditEntry::Action>(choices_.Below(7));
    entry.round = entry.action == AuditEntry::Action::kRolledBack ? choices_.Below(8) : 0;
    entry.priority = choices_.Below(5);
    entry.unix_seconds = world_.clock.unix_seconds;
    entry.number = 1;
    Digest task{};
    if (core == nullptr) {
      TaskSpec added = world_.task;
      added.name = name;
      request.task_bytes = wire::EncodeTask(added);
      task = crypto::Sha256(request.task_bytes);
    } else {
      task = core->task_sha256();
      const AuditEntry& last = world_.store.content.audit[TaskIdOf(name)].rbegin()->second;
      entry.number = last.number + 1;
      entry.previous = AuditHash(task, last);
      const auto& rounds = world_.store.content.rounds[TaskIdOf(name)];
      const auto round = rounds.find(entry.round);
      if (round != rounds.end()) entry.model = round->second.result;
    }
    if (choices_.Below(4) == 0) ++entry.number;
    SignAudit(task, SeedOf("operator").Reveal(), entry);
    if (choices_.Below(4) == 0) change_next_ = 1;
    Send(wire::kControl, wire::Encode(request));
    change_next_ = 0;
  }

  SharedSlot Send(std::string_view method, Bytes request) {
    for (; change_next_ > 0; --change_next_) fuzz::Mutate(choices_, request);
    if (history_.size() < kHistoryMax) {
      history_.emplace_back(method, request);
    } else {
      history_[slots_.size() % kHistoryMax] = {method, request};
    }
    return Deliver(method, request);
  }

  void Replay(const std::pair<std::string_view, Bytes>& request) {
    Deliver(request.first, request.second);
  }

  // As a network might bring it.
  static coordinator::Body InPieces(BytesView request) {
    struct Kept final : coordinator::Body::Memory {
      explicit Kept(BytesView request) : bytes(request.begin(), request.end()) {}
      const Bytes bytes;
    };
    auto kept = std::make_unique<Kept>(request);
    const BytesView all = kept->bytes;
    const size_t cut = all.size() / 3;
    return {{all.first(cut), all.subspan(cut, cut / 2), all.subspan(cut + cut / 2)},
            std::move(kept)};
  }

  SharedSlot Deliver(std::string_view method, BytesView request) {
    const SharedSlot slot = std::make_shared<Slot>();
    slot->method = method;
    slots_.push_back(slot);
    world_.core->Handle(method, InPieces(request), [slot](Result<Bytes> reply) {
      ++slot->answers;
      if (reply.ok()) Require(IsReplyOf(slot->method, *reply), "a reply is one of its call");
      Require(reply.status().code() != Code::kInternal, "no request reaches a broken invariant");
      slot->reply = std::move(reply);
    });
    return slot;
  }

  template <typename Answer, typename Request>
  Result<Answer> Call(std::string_view method, const Request& request) {
    const SharedSlot slot = Send(method, wire::Encode(request));
    CHORUS_TRY(slot->reply);
    return wire::Decode<Answer>(*slot->reply);
  }

  // What an honest client does next.
  void Natural(Player& player) {
    SharedSlot& waiting = waiting_[player.serial - 1];
    if (player.session == wire::SessionToken{}) return CheckIn(player);
    if (waiting == nullptr) {
      waiting = Send(wire::kNext, wire::Encode(wire::NextRequest{player.session, player.done}));
    }
    world_.Settle();
    if (waiting->answers == 0) return;  // parked
    const Result<Bytes> reply = waiting->reply;
    waiting = nullptr;
    if (!reply.ok()) {
      if (reply.status().code() == Code::kUnauthenticated) player.session = {};
      return;
    }
    wire::NextReply next = *wire::Decode<wire::NextReply>(*reply);
    player.sequence = next.sequence;
    if (const auto* invitation = std::get_if<wire::Invitation>(&next.what)) {
      Join(player, *invitation);
    } else if (const auto* question = std::get_if<wire::Question>(&next.what)) {
      Think(player, *question);
    } else if (std::holds_alternative<wire::RoundOver>(next.what)) {
      player.done = next.sequence;
    }
  }

  void CheckIn(Player& player) {
    const auto challenge = Call<wire::ChallengeReply>(wire::kChallenge, wire::ChallengeRequest{});
    if (!challenge.ok()) return;
    wire::CheckInRequest request = player.SignedCheckIn(challenge->challenge);
    if (choices_.Below(4) == 0) request.tasks = {kNames[choices_.Below(std::size(kNames))]};
    const auto admitted = Call<wire::CheckInReply>(wire::kCheckIn, request);
    if (!admitted.ok()) return;
    player.session = admitted->session;
    player.done = 0;
  }

  void Join(Player& player, const wire::Invitation& invitation) {
    const Result<TaskSpec> invited = wire::DecodeTask(invitation.task);
    Require(invited.ok(), "a task that clients are invited to can be read");
    const TaskSpec& task = *invited;
    const Weights weights = world_.router().Find(task.name)->weights();
    const auto expected = SessionParamsFor({.task = task,
                                            .task_bytes = invitation.task,
                                            .weights = weights,
                                            .round = invitation.round});
    const size_t dim = weights.size();
    const auto encoding = math::FixedPointFor(dim, task.clip, task.encoding, task.cohort.maximum);
    Require(expected.ok() && encoding.ok(), "a task that runs has parameters");
    const std::vector<float> update = UpdateOf(player.serial);
    auto input = math::Encode(*encoding,
                              {.update = update,
                               .examples = ExamplesOf(player.serial),
                               .evaluated = ExamplesOf(player.serial),
                               .accuracy = 0.5,
                               .loss = 2},
                              *world_.rng);
    Require(input.ok(), "an honest update can be encoded");
    aggregation::ContributorOptions options;
    options.coordinator = world_.public_key;
    options.expected = *expected;
    options.expected.coordinator_id = world_.public_key;
    options.honest_min = 1;
    options.identity_seed = player.seed.Reveal();
    options.evidence = player.evidence;
    options.verifier = world_.verifier.get();
    options.rng = world_.rng.get();
    options.unix_now = world_.clock.unix_seconds;
    options.input = *std::move(input);
    Bytes record;
    if (task.protocol == Protocol::kSecAgg && player.serial % 2 == 1) {
      options.prekeys = *aggregation::MakePreKeys({.identity_seed = options.identity_seed,
                                                   .evidence = options.evidence,
                                                   .not_after = options.unix_now + 3'600},
                                                  *world_.rng);
      record = options.prekeys->record;
    }
    player.contributor = *aggregation::NewContributor(std::move(options));
    Answer(player, record);
  }

  void Think(Player& player, const wire::Question& question) {
    Bytes body = question.data;
    if (body.size() < question.total_bytes) {
      const auto rest = Call<wire::DownloadReply>(
          wire::kDownload, wire::DownloadRequest{player.session, question.sha256, body.size()});
      if (rest.ok()) body.insert(body.end(), rest->data.begin(), rest->data.end());
    }
    if (player.contributor == nullptr) return;
    const Result<Bytes> answer = player.contributor->Answer(body);
    if (answer.ok()) return Answer(player, *answer);
    wire::UploadRequest abort = player.UploadOf({});
    abort.abort_code = answer.status().code();
    if (Call<wire::UploadReply>(wire::kUpload, abort).ok()) player.done = player.sequence;
  }

  void Answer(Player& player, BytesView answer) {
    const auto taken = Call<wire::UploadReply>(wire::kUpload, player.UploadOf(answer));
    if (taken.ok() && taken->received == answer.size()) player.done = player.sequence;
  }

  // An upload with true session and whatever else.
  void Upload(Player& player) {
    const BytesView data = choices_.Take(choices_.Below(96));
    wire::UploadRequest request = player.UploadOf(data);
    switch (choices_.Below(6)) {
      case 0:
        break;
      case 1:
        request.total_bytes = choices_.Number();
        break;
      case 2:
        request.offset = choices_.Number();
        break;
      case 3:
        request.sequence = choices_.Number();
        break;
      case 4:
        request.sha256[0] ^= 1U;
        break;
      default:
        request.abort_code = static_cast<Code>(choices_.Below(20));
    }
    Send(wire::kUpload, wire::Encode(request));
  }

  void Ask(Player& player) {
    switch (choices_.Below(4)) {
      case 0:
        Send(wire::kNext, wire::Encode(wire::NextRequest{player.session, choices_.Number()}));
        return;
      case 1: {
        const Digest model = crypto::Sha256(BytesOf(world_.core->weights()));
        Send(wire::kDownload,
             wire::Encode(wire::DownloadRequest{player.session, model, choices_.Number()}));
        return;
      }
      case 2: {
        const auto rounds = static_cast<uint32_t>(choices_.Number());
        Send(wire::kGetStatus, wire::Encode(wire::StatusRequest{choices_.Number(), rounds}));
        return;
      }
      default:
        player.session = {};
        CheckIn(player);
    }
  }

  void CheckWorld() {
    for (const CoordinatorCore* const core : world_.router().cores()) {
      for (const float weight : core->weights()) {
        Require(std::isfinite(weight), "weights stay finite");
      }
      std::vector<AuditEntry> audit;
      for (const auto& [number, entry] : world_.store.content.audit[TaskIdOf(core->task().name)]) {
        audit.push_back(entry);
      }
      Require(VerifyAudit(core->task_sha256(), audit).ok(), "the audit is sound");
    }
    for (const CoordinatorEvent& event : world_.events) {
      if (event.kind != EventKind::kRoundEnded) continue;
      Require(event.round.state != RoundState::kCommitted ||
                  event.round.contributors >= world_.task.cohort.minimum,
              "a round that commits has its minimum of contributors");
    }
    world_.events.clear();
  }

  Choices& choices_;
  TasksWorld world_;
  Players players_;
  std::vector<SharedSlot> waiting_;  // each player's Next
  std::vector<SharedSlot> slots_;
  std::vector<std::pair<std::string_view, Bytes>> history_;
  uint32_t change_next_ = 0;
};

}  // namespace

void Converse(BytesView input) {
  static const bool prepared = [] {
    // What the shared world expects are laws here.
    testing::FLAGS_gtest_break_on_failure = true;
    return true;
  }();
  Require(prepared, "the world's expectations end the process");
  Choices choices(input);
  Conversation(choices).Run();
}

}  // namespace chorus::coordinator

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  chorus::coordinator::Converse({data, size});
  return 0;
}
