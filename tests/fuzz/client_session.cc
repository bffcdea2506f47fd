// A client's session under replies that the input chooses: those of an honest coordinator, and the
// same with bytes or fields changed (signed again where the coordinator signs), replays and errors.
// Laws: nothing crashes; the session always says what to do next and waits a bounded time; an
// update leaves only after the ledger has noted it, and one update a note; with an abort leaves
// nothing but its code.
#include <limits>
#include <optional>
#include <set>

#include "client_fakes.h"
#include "fuzz.h"

namespace chorus::client {
namespace {

using fuzz::Choices;
using fuzz::Require;

constexpr int kActionsMax = 120;
constexpr int kActionsAfter = 12;  // once the input has run out: enough to end a round
constexpr size_t kRepliesKept = 16;

// Remembers what it allowed, in memory.
class MemoryLedger final : public Ledger {
 public:
  Status PermitAttempt(const TaskId& task, uint64_t round, int64_t) const override {
    return PermitUpload(task, round, Digest{}, 0);
  }
  Status NoteAttempt(const TaskId&, uint64_t, int64_t) override { return OkStatus(); }
  Status PermitUpload(const TaskId& task, uint64_t round, const Digest&, uint32_t) const override {
    if (noted.contains({task, round})) return PermissionDenied("given already");
    return OkStatus();
  }
  Status NoteUpload(const TaskId& task, uint64_t round, const Digest& model,
                    uint32_t uploads_per_model_max) override {
    CHORUS_TRY(PermitUpload(task, round, model, uploads_per_model_max));
    noted.insert({task, round});
    return OkStatus();
  }
  std::set<std::pair<TaskId, uint64_t>> noted;
};

float AnyFloat(Choices& choices) {
  constexpr float kEdges[] = {0,
                              -1,
                              1e-38F,
                              1e38F,
                              std::numeric_limits<float>::infinity(),
                              std::numeric_limits<float>::quiet_NaN()};
  return kEdges[choices.Below(std::size(kEdges))];
}

// One change to a task, which its coordinator then signs.
void Change(Choices& choices, TaskSpec& task) {
  const auto number = [&] { return static_cast<uint32_t>(choices.Number()); };
  switch (choices.Below(14)) {
    case 0:
      task.name = std::string(choices.Below(70), 'n');
      return;
    case 1:
      task.model.inputs = number();
      return;
    case 2:
      task.model.layers[0].units = number();
      return;
    case 3:
      task.model.layers.push_back({.units = number(), .activation = Activation::kNone});
      return;
    case 4:
      task.training.epochs = choices.Below(4);
      task.training.batch_size = number();
      return;
    case 5:
      task.training.learning_rate = AnyFloat(choices);
      return;
    case 6:
      task.training.held_back_percent = choices.Below(256);
      return;
    case 7:
      task.clip.update_l2_norm_max = AnyFloat(choices);
      return;
    case 8:
      task.encoding.bound = number();
      return;
    case 9:
      task.encoding.examples_max = number();
      return;
    case 10:
      task.cohort = {.minimum = number(),
                     .target = number(),
                     .maximum = number(),
                     .over_selection_percent = number()};
      return;
    case 11:
      task.secagg = {.gamma_ppm = number(), .delta_ppm = number(), .honest_min = number()};
      return;
    case 12:
      task.deadlines.train = Time{static_cast<int64_t>(choices.Number())};
      task.deadlines.upload = Time{static_cast<int64_t>(choices.Number())};
      return;
    default:
      task.model.loss = Loss::kSquaredError;
  }
}

class Conversation {
 public:
  explicit Conversation(Choices& choices) : choices_(choices), task_(Task(choices)) {
    auto book = std::make_unique<MemoryLedger>();
    ledger_ = book.get();
    world_.emplace(uint8_t{100}, SomeExamples(), std::move(book));
    world_->options.policy.allow_plain = true;
    world_->options.policy.cohort_min = 1;
    world_->weights.assign(learning::ParameterCount(task_.model), 0.25F);
    world_->server.fault = [this](std::string_view method, BytesView request) {
      return Reply(method, request);
    };
  }

  void Run() {
    int left = kActionsAfter;
    for (int i = 0; i < kActionsMax && left > 0 && !world_->stopped; ++i) {
      if (choices_.empty()) --left;
      Coordinate();
      const Time before = world_->clock.now;
      world_->Run([] { return false; }, 1);
      Require(world_->clock.now - before <= limits::kBackoffMax, "a session waits a bounded time");
      Require(world_->events.size() <= limits::kEventsMax, "events are bounded");
    }
  }

 private:
  static TaskSpec Task(Choices& choices) {
    return choices.Flag() ? SomeTask(Protocol::kSecAgg) : PlainTask();
  }

  // Gives the next item once the last was answered: an invitation, the question, the round's end.
  void Coordinate() {
    FakeCoordinator& server = world_->server;
    const uint64_t last = server.last_sequence;
    if (last != 0 && turn_ != 0 && !server.uploads[last].complete) return;
    switch (turn_++) {
      case 0:
        server.Push(server.InvitationTo(++round_, task_, world_->weights));
        return;
      case 1: {
        const Result<std::unique_ptr<Aggregator>> aggregator =
            aggregation::NewAggregator({.params = ParamsFor(task_, round_, world_->weights),
                                        .signing_seed = server.signing_seed.Reveal(),
                                        .verifier = world_->verifier.get(),
                                        .parties = {1, 2, 3}});
        Require(aggregator.ok(), "an honest coordinator has its session");
        Require((*aggregator)->Ask().ok(), "which asks");
        const Bytes offer = *(*aggregator)->Body(1);
        server.Ask(offer, choices_.Flag() ? choices_.Below(400) : SIZE_MAX);
        return;
      }
      default:
        server.Push(Over(round_, ledger_->noted.size() >= round_));
        turn_ = 0;
    }
  }

  std::optional<Result<Bytes>> Reply(std::string_view method, BytesView request) {
    if (honest_) return std::nullopt;
    if (method == wire::kUpload) CheckUpload(*wire::Decode<wire::UploadRequest>(request));
    const uint8_t how = choices_.Byte();
    if (how < 0xb0) return std::nullopt;
    if (how < 0xc0) return Status(static_cast<Code>(1 + choices_.Below(16)), "a failure");
    honest_ = true;
    Result<Bytes> honest = world_->server.Call(method, request);
    honest_ = false;
    if (!honest.ok()) return honest;
    Bytes reply = *std::move(honest);
    if (how < 0xd0) {
      fuzz::Mutate(choices_, reply);
    } else if (how < 0xd8 && !replies_.empty()) {
      reply = replies_[choices_.Below(replies_.size())];
    } else {
      reply = Changed(method, reply);
    }
    if (replies_.size() < kRepliesKept) replies_.push_back(reply);
    return reply;
  }

  void CheckUpload(const wire::UploadRequest& request) {
    if (request.abort_code != Code::kOk) {
      Require(request.data.empty() && request.total_bytes == 0, "with an abort leaves no answer");
      return;
    }
    if (task_.protocol != Protocol::kPlain || request.total_bytes == 0) return;
    updates_.insert(request.sha256);
    Require(updates_.size() <= ledger_->noted.size(), "an update is noted before it leaves");
  }

  Bytes Changed(std::string_view method, const Bytes& reply) {
    if (method == wire::kNext) return ChangedItem(*wire::Decode<wire::NextReply>(reply));
    if (method == wire::kUpload) {
      return wire::Encode(wire::UploadReply{.received = choices_.Number()});
    }
    if (method != wire::kDownload) return {};
    wire::DownloadReply piece = *wire::Decode<wire::DownloadReply>(reply);
    if (choices_.Flag()) piece.total_bytes = choices_.Number();
    if (choices_.Flag()) piece.data.resize(choices_.Below(600), 1);
    return wire::Encode(piece);
  }

  Bytes ChangedItem(wire::NextReply next) {
    switch (choices_.Below(6)) {
      case 0:
        next.sequence = choices_.Number();
        break;
      case 1:
        next.what = wire::Wait{.retry_ms = static_cast<uint32_t>(choices_.Number()),
                               .complete = choices_.Below(4) == 3};
        break;
      case 2:
        next.sequence += choices_.Below(3);
        next.what = Over(choices_.Below(4), choices_.Flag());
        break;
      case 3: {
        const BytesView body = choices_.Take(choices_.Below(400));
        next.sequence += choices_.Below(3);
        next.what = wire::Question{.total_bytes = choices_.Flag() ? choices_.Number() : body.size(),
                                   .sha256 = crypto::Sha256(body),
                                   .data = Bytes(body.begin(), body.end())};
        break;
      }
      case 4:
        next.sequence += choices_.Below(3);
        next.what = ChangedInvitation();
        break;
      default:
        if (auto* question = std::get_if<wire::Question>(&next.what)) ChangeOffer(*question);
    }
    return wire::Encode(next);
  }

  wire::Invitation ChangedInvitation() {
    TaskSpec task = task_;
    for (uint32_t left = choices_.Below(3); left > 0; --left) Change(choices_, task);
    Weights weights = world_->weights;
    if (choices_.Flag()) weights.assign(weights.size(), AnyFloat(choices_));
    wire::Invitation invitation = world_->server.InvitationTo(choices_.Below(4), task, weights);
    if (choices_.Below(8) == 7) invitation.model_bytes = choices_.Number();
    if (choices_.Below(8) == 7) invitation.task_signature[0] ^= 1U;
    return invitation;
  }

  // Other parameters under the coordinator's true signature.
  void ChangeOffer(wire::Question& question) {
    aggregation::SessionParams params = ParamsFor(task_, round_, world_->weights);
    params.coordinator_id = world_->server.key();
    Bytes bytes = aggregation::EncodeParams(params);
    for (uint32_t left = choices_.Below(3); left > 0; --left) fuzz::Mutate(choices_, bytes);
    const Digest words = crypto::LabeledHash("CHORUS1/params", {bytes});
    const Signature signature = crypto::Ed25519Sign(world_->server.signing_seed.Reveal(), words);
    bytes.insert(bytes.end(), signature.begin(), signature.end());
    question = {.total_bytes = bytes.size(), .sha256 = crypto::Sha256(bytes), .data = bytes};
  }

  Choices& choices_;
  TaskSpec task_;
  MemoryLedger* ledger_ = nullptr;
  std::optional<World> world_;
  uint64_t round_ = 0;
  int turn_ = 0;
  bool honest_ = false;  // the coordinator is asked what it would say
  std::vector<Bytes> replies_;
  std::set<Digest> updates_;
};

}  // namespace

void Converse(BytesView input) {
  Choices choices(input);
  Conversation(choices).Run();
}

}  // namespace chorus::client

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  chorus::client::Converse({data, size});
  return 0;
}
