#include <algorithm>
#include <string>
#include <utility>

#include "base/limits.h"
#include "simulation/chaos_processes.h"
#include "wire/wire.h"

namespace chorus::simulation {
namespace {

// Effects of a life, at the most crashes.
constexpr double kEffectsOfLife = 40;
constexpr Time kRestartLongest{90'000};
constexpr Time kRetryStart{5'000};
constexpr double kStoreMost = 0.3;
constexpr Time kPatience{1'000};  // that a parked call may be answered late

}  // namespace

ChaosCoordinator::ChaosCoordinator(Stage& stage, uint32_t index)
    : stage_(stage),
      index_(index),
      name_("coordinator " + std::to_string(index)),
      signing_seed_(CoordinatorSeed(stage.plan->seed)),
      dice_(stage.plan->seed, "coordinator-crash", index),
      store_dice_(stage.plan->seed, "store", index),
      clock_(*stage.scene),
      door_(*stage.store, *stage.scene, life_, store_dice_, name_) {
  const double store = kStoreMost * stage.plan->rate_of(Fault::kStore);
  door_.faults = {.full_chance = store, .conflict_chance = store, .unknown_chance = store};
  door_.committed = [this] { stage_.audit->StoreChanged(); };
}

// What the core still has to say when it goes is heard by nobody.
ChaosCoordinator::~ChaosCoordinator() {
  life_.End();
  core_.reset();
}

void ChaosCoordinator::Start() {
  ++lives_;
  life_.Begin(Life::kUnlimited);
  if (stage_.scene->chaos) Arm();
  clock_.BeginAt(Time{static_cast<Time::rep>(1'000 + dice_.Below(1'000'000))});
  rng_ = crypto::NewSeededRng(
      SeedFor(stage_.plan->seed, "coordinator-keys", index_ << 20U | lives_).Reveal());
  stage_.scene->Say(name_, "starts");
  Result<std::unique_ptr<coordinator::Core>> core =
      coordinator::Core::Create({.signing_seed = signing_seed_.Reveal(),
                                 .task = stage_.plan->task,
                                 .initial_weights = Weights(kChaosDim, 0.0F),
                                 .experiment_seed = std::nullopt,
                                 .process = name_ + "-" + std::to_string(lives_),
                                 .address = name_},
                                door_, *stage_.roll, clock_, *rng_, log_);
  if (!core.ok()) {
    stage_.scene->Say(name_, "does not start: " + core.status().message());
    const Code code = core.status().code();
    if (code != Code::kUnavailable && code != Code::kResourceExhausted && code != Code::kAborted) {
      stage_.scene->Violated(name_ + " cannot start: " + core.status().message());
      return;
    }
    life_.End();
    return StartAfter(kRetryStart);
  }
  core_ = *std::move(core);
  tick_at_ = Time::max();
  Settle();
}

void ChaosCoordinator::StartAfter(Time pause) {
  stage_.scene->At(stage_.scene->now() + pause, [this] {
    if (!running()) Start();
  });
}

void ChaosCoordinator::Arrive(const Call& call) {
  const Waiting from{.client = call.client, .call = call.id, .since = stage_.scene->now()};
  if (!running()) return SendReply(from, Unavailable("nobody listens there"));
  if (!life_.Effect()) return Die();
  const uint64_t request = ++requests_;
  waiting_[request] = from;
  core_->Handle(call.method, call.request,
                [this, request](const Result<Bytes>& reply) { Answer(request, reply); });
  Settle();
}

void ChaosCoordinator::Answer(uint64_t request, const Result<Bytes>& reply) {
  const auto found = waiting_.find(request);
  if (found == waiting_.end()) return stage_.scene->Violated(name_ + " answered a call twice");
  if (!life_.Effect()) return;
  const Waiting to = found->second;
  waiting_.erase(found);
  SendReply(to, reply);
}

void ChaosCoordinator::SendReply(const Waiting& to, const Result<Bytes>& reply) {
  const auto hear = [this, to](const Result<Bytes>& heard) {
    stage_.clients[to.client]->Hear(to.call, heard);
  };
  const std::string what = "answer " + std::to_string(to.call) + ": " +
                           (reply.ok() ? std::to_string(reply->size()) + " bytes"
                                       : std::string(CodeName(reply.status().code())));
  stage_.network->Carry(
      {.client = to.client, .coordinator = index_, .up = false}, what,
      [hear, reply] { hear(reply); }, [hear] { hear(Unavailable("the connection broke")); });
}

// After the core did something: sees to what it said and when it wants to be called next.
void ChaosCoordinator::Settle() {
  if (life_.dead()) return Die();
  for (const CoordinatorEvent& event : core_->TakeEvents()) {
    if (event.kind == CoordinatorEvent::Kind::kRoundBegan) {
      stage_.scene->Say(name_, "round " + std::to_string(event.round.round) + " begins, " +
                                   std::to_string(event.round.invited) + " clients");
    } else if (event.kind == CoordinatorEvent::Kind::kRoundEnded) {
      const bool committed = event.round.state == RoundState::kCommitted;
      stage_.scene->Say(
          name_, "round " + std::to_string(event.round.round) +
                     (committed ? " committed with " + std::to_string(event.round.contributors)
                                : " aborted: " + event.round.reason));
    }
    stage_.audit->Heard(event);
  }
  for (const auto& [request, waiting] : waiting_) {
    if (stage_.scene->now() - waiting.since <= limits::kPollParked + kPatience) continue;
    stage_.scene->Violated(name_ + " does not answer call " + std::to_string(waiting.call) +
                           " of client " + std::to_string(waiting.client));
  }
  const Time due = clock_.ToScene(core_->NextTick());
  if (due == Time::max() || (tick_at_ <= due && tick_at_ >= stage_.scene->now())) return;
  tick_at_ = std::max(due, stage_.scene->now());
  stage_.scene->At(tick_at_, [this, life = lives_] { Tick(life); });
}

void ChaosCoordinator::Tick(uint64_t life) {
  if (!running() || life != lives_ || stage_.scene->now() < tick_at_) return;
  tick_at_ = Time::max();
  if (!life_.Effect()) return Die();
  core_->Tick();
  Settle();
}

void ChaosCoordinator::Die() {
  stage_.scene->Strike(Fault::kCoordinatorCrash);
  // With a process alone its connections break; with the machine nobody hears anything.
  const bool connections_break = dice_.Chance(0.5);
  stage_.scene->Say(name_, connections_break ? "crashes" : "loses its power");
  core_.reset();
  const std::map<uint64_t, Waiting> waiting = std::exchange(waiting_, {});
  for (const auto& [request, to] : waiting) {
    if (connections_break) SendReply(to, Unavailable("the connection broke"));
  }
  StartAfter(dice_.Between(Time{100}, kRestartLongest));
}

void ChaosCoordinator::Arm() {
  if (!stage_.plan->has(Fault::kCoordinatorCrash)) return;
  const double rate = stage_.plan->rate_of(Fault::kCoordinatorCrash);
  life_.Limit(dice_.Below(static_cast<uint64_t>(2 * kEffectsOfLife / rate)));
}

void ChaosCoordinator::Heal() {
  life_.Limit(Life::kUnlimited);
  door_.Cut(Time{0});
  clock_.wall_offset_seconds = 0;
}

void ChaosCoordinator::CheckIdle() {
  if (!running()) return stage_.scene->Violated(name_ + " is down in peace");
  if (!waiting_.empty()) stage_.scene->Violated(name_ + " owes an answer when nobody calls");
  core_->Handle(wire::kGetStatus, wire::Encode(wire::StatusRequest{}), [this](const auto& reply) {
    const Result<wire::StatusReply> status =
        reply.ok() ? wire::Decode<wire::StatusReply>(*reply) : reply.status();
    if (!status.ok()) return stage_.scene->Violated(name_ + " does not tell its state");
    if (status->clients != 0) {
      stage_.scene->Violated(name_ + " holds sessions of clients that are gone");
    }
  });
}

}  // namespace chorus::simulation
