#include <algorithm>
#include <string>
#include <utility>

#include "base/limits.h"
#include "simulation/chaos_processes.h"
#include "wire/wire.h"

namespace chorus::simulation {
namespace {

// Effects of a life, at the most crashes.
constexpr double kEffectsOfLife = 15;
constexpr Time kRestartLongest{120'000};
constexpr Time kRetryStart{30'000};
constexpr Time kTrainingLongest{10'000};
constexpr Time kSlowest{240'000};
constexpr double kLieMost = 0.3;
constexpr size_t kUploadsKept = 8;
const char* const kFolder = "/state";

}  // namespace

Result<TrainedUpdate> ChaosClient::PlannedTrainer::Train(const TaskSpec&, uint64_t round,
                                                         std::span<const float> weights,
                                                         const Cancel&) {
  stage_.audit->Trained(client_, round, weights);
  const std::array<int, kChaosDim> planned = UpdateOf(client_, round);
  return TrainedUpdate{.update = Weights(planned.begin(), planned.end()),
                       .examples = ExamplesOf(client_)};
}

ChaosClient::ChaosClient(Stage& stage, uint32_t index)
    : stage_(stage),
      index_(index),
      member_(index >= stage.plan->clients),
      liar_(!member_ && index + stage.plan->liars >= stage.plan->clients),
      name_((member_ ? "member " : "client ") + std::to_string(index)),
      dice_(stage.plan->seed, "client", index),
      crash_dice_(stage.plan->seed, "client-crash", index),
      disk_dice_(stage.plan->seed, "disk", index),
      lie_dice_(stage.plan->seed, "lie", index),
      slow_dice_(stage.plan->seed, "slow", index),
      clock_(*stage.scene),
      disk_(*stage.scene, life_, disk_dice_),
      trainer_(stage, index) {
  options_.coordinator = stage.coordinator_key;
  options_.identity_seed = member_ ? MemberSeed(stage.plan->seed, index - stage.plan->clients)
                                   : ClientSeed(stage.plan->seed, index);
  options_.certificate = Bytes{1};
  options_.state_dir = kFolder;
  options_.policy.allow_plain = true;
  options_.policy.allow_experimental = true;
  options_.policy.allow_any_committee = true;
  options_.policy.cohort_min = stage.plan->task.cohort.minimum;
  options_.policy.uploads_per_model_max = 0;
}

Status ChaosClient::Open() {
  if (!member_) {
    CHORUS_TRY_ASSIGN(ledger_, client::Ledger::Open(disk_, kFolder));
    state_ = client::DeviceState::InFiles(disk_, kFolder);
  }
  seen_keys_ = std::make_unique<aggregation::SeenKeys>(limits::kSeenKeysOnDeviceMax);
  session_ = client::Session::Create(
      {.options = &options_,
       .role = member_ ? client::Role::kCommitteeMember : client::Role::kClient,
       .trainer = member_ ? nullptr : &trainer_,
       .state = state_.get(),
       .verifier = stage_.roll,
       .clock = &clock_,
       .rng = rng_.get(),
       .log = &log_,
       .ledger = ledger_.get(),
       .cancel = &cancel_,
       .disk = &disk_,
       .experiment = std::nullopt,
       .seen_keys = seen_keys_.get()});
  return OkStatus();
}

void ChaosClient::Start() {
  ++lives_;
  life_.Begin(Life::kUnlimited);
  if (stage_.scene->chaos) Arm();
  clock_.BeginAt(Time{static_cast<Time::rep>(1'000 + dice_.Below(1'000'000))});
  rng_ = crypto::NewSeededRng(
      SeedFor(stage_.plan->seed, "client-keys", uint64_t{index_} << 32U | lives_).Reveal());
  stage_.scene->Say(name_, "starts");
  const Status opened = Open();
  if (life_.dead()) return Die("crashes while it starts");
  if (!opened.ok()) {
    stage_.scene->Say(name_, "does not start: " + opened.message());
    if (opened.code() != Code::kResourceExhausted && opened.code() != Code::kUnavailable) {
      return stage_.scene->Violated(name_ + " can never start again: " + opened.message());
    }
    life_.End();
    ledger_.reset();
    return StartAfter(kRetryStart);
  }
  Step(lives_);
}

void ChaosClient::StartAfter(Time pause) {
  stage_.scene->At(stage_.scene->now() + pause, [this] {
    if (session_ == nullptr) Start();
  });
}

void ChaosClient::Die(std::string_view how) {
  const bool power_lost = crash_dice_.Chance(0.5);
  stage_.scene->Say(name_, std::string(how) + (power_lost ? ", with its power" : ""));
  life_.End();
  session_.reset();
  state_.reset();
  ledger_.reset();
  seen_keys_.reset();
  disk_.Crash(power_lost);
  calling_ = 0;
  StartAfter(crash_dice_.Between(Time{100}, kRestartLongest));
}

void ChaosClient::Arm() {
  if (!stage_.plan->has(Fault::kClientCrash)) return;
  const double rate = stage_.plan->rate_of(Fault::kClientCrash);
  life_.Limit(crash_dice_.Below(static_cast<uint64_t>(2 * kEffectsOfLife / rate)));
}

void ChaosClient::Heal() {
  life_.Limit(Life::kUnlimited);
  clock_.wall_offset_seconds = 0;
  disk_.full = false;
  disk_.sync_failure_chance = 0;
  // Whoever's disk failed goes on only after a new start.
  if (session_ != nullptr && !stopped_ && disk_.failed_to_sync()) Die("is started anew");
}

void ChaosClient::TakeEvents() {
  for (const ClientEvent& event : session_->TakeEvents()) {
    if (event.kind == ClientEvent::Kind::kInvited) invited_to_ = event.round;
    stage_.audit->Heard(index_, event);
  }
}

// What the session wants to do now.
void ChaosClient::Step(uint64_t life) {
  if (life != lives_ || session_ == nullptr) return;
  client::Action action = session_->Next();
  if (life_.dead()) {
    stage_.scene->Strike(Fault::kClientCrash);
    return Die("crashes");
  }
  TakeEvents();
  std::visit([this](auto& what) { Do(what); }, action);
}

void ChaosClient::Do(client::CallAction& call) {
  calling_ = ++calls_;
  stage_.scene->At(stage_.scene->now() + call.deadline, [this, id = calling_] {
    Hear(id, Status(Code::kDeadlineExceeded, "no answer in time"));
  });
  Call message{
      .client = index_, .id = calling_, .method = call.method, .request = std::move(call.request)};
  if (!life_.Effect()) {
    stage_.scene->Strike(Fault::kClientCrash);
    return Die("crashes before it calls");
  }
  if (liar_ && stage_.scene->chaos &&
      lie_dice_.Chance(kLieMost * stage_.plan->rate_of(Fault::kLie))) {
    stage_.scene->Strike(Fault::kLie);
    message.request = Lie(message.method, message.request);
  }
  Send(std::move(message));
}

void ChaosClient::Send(Call call) {
  const std::string what = std::string(call.method) + " " + std::to_string(call.id) + ", " +
                           std::to_string(call.request.size()) + " bytes";
  const uint64_t id = call.id;
  ChaosCoordinator* const to = stage_.coordinators[address_].get();
  stage_.network->Carry(
      {.client = index_, .coordinator = address_, .up = true}, what,
      [to, call = std::move(call)] { to->Arrive(call); },
      [this, id] { Hear(id, Unavailable("the connection broke")); });
}

void ChaosClient::Do(client::WaitAction& wait) {
  stage_.scene->At(clock_.ToScene(wait.until), [this, life = lives_] {
    if (life != lives_ || session_ == nullptr) return;
    if (!life_.Effect()) {
      stage_.scene->Strike(Fault::kClientCrash);
      return Die("crashes");
    }
    Step(life);
  });
}

void ChaosClient::Do(client::WorkAction&) {
  Time takes = dice_.Between(Time{100}, kTrainingLongest);
  if (stage_.scene->chaos && slow_dice_.Chance(stage_.plan->rate_of(Fault::kSlow))) {
    stage_.scene->Strike(Fault::kSlow);
    takes = slow_dice_.Between(kTrainingLongest, kSlowest);
  }
  stage_.scene->At(stage_.scene->now() + takes, [this, life = lives_] {
    if (life != lives_ || session_ == nullptr) return;
    if (!life_.Effect()) {
      stage_.scene->Strike(Fault::kClientCrash);
      return Die("crashes while it trains");
    }
    session_->Work();
    Step(life);
  });
}

void ChaosClient::Do(client::StopAction& stop) {
  if (!stop.status.ok()) {
    stage_.scene->Violated(name_ + " stopped for good: " + stop.status.message());
  }
  stage_.scene->Say(name_, "is done");
  stopped_ = true;
}

void ChaosClient::Hear(uint64_t call, Result<Bytes> reply) {
  if (session_ == nullptr || call != calling_) return;
  calling_ = 0;
  if (!life_.Effect()) {
    stage_.scene->Strike(Fault::kClientCrash);
    return Die("crashes when it hears");
  }
  if (!reply.ok()) {
    stage_.scene->Say(name_, "call " + std::to_string(call) +
                                 " failed: " + std::string(CodeName(reply.status().code())));
    // Whoever cannot be reached is left for the next in the list.
    if (reply.status().code() == Code::kUnavailable ||
        reply.status().code() == Code::kDeadlineExceeded) {
      address_ = (address_ + 1) % static_cast<uint32_t>(stage_.coordinators.size());
    }
  }
  session_->Deliver(std::move(reply));
  Step(lives_);
}

// Something that no honest client sends in place of `request`.
Bytes ChaosClient::Lie(std::string_view method, const Bytes& request) {
  Bytes garbage(lie_dice_.Below(200));
  lie_dice_.rng().Fill(garbage);
  const auto upload = wire::Decode<wire::UploadRequest>(request);
  if (method != wire::kUpload || !upload.ok()) {
    stage_.scene->Say(name_, "sends garbage");
    return garbage;
  }
  if (uploads_.size() == kUploadsKept) uploads_.erase(uploads_.begin());
  uploads_.push_back(request);
  wire::UploadRequest lie = *upload;
  switch (lie_dice_.Below(6)) {
    case 0:
      stage_.scene->Say(name_, "sends an old answer again");
      return uploads_[lie_dice_.Below(uploads_.size())];
    case 1:
      stage_.scene->Say(name_, "sends an answer of another digest");
      lie.sha256[0] ^= 1U;
      break;
    case 2:
      stage_.scene->Say(name_, "announces more than it may");
      lie.total_bytes = uint64_t{1} << (20U + lie_dice_.Below(43));
      break;
    case 3:
      stage_.scene->Say(name_, "sends of another session");
      lie.session[lie_dice_.Below(lie.session.size())] ^= 1U;
      break;
    case 4:
      stage_.scene->Say(name_, "skips a part");
      lie.offset = lie.total_bytes + lie_dice_.Below(100);
      break;
    default:
      stage_.scene->Say(name_, "changes its answer");
      stage_.audit->Lied(invited_to_);
      if (lie.data.empty()) lie.data = garbage;
      if (!lie.data.empty()) {
        lie.data[lie_dice_.Below(lie.data.size())] ^=
            static_cast<uint8_t>(1 + lie_dice_.Below(255));
      }
      lie.total_bytes = lie.data.size();
      lie.sha256 = crypto::Sha256(lie.data);
      break;
  }
  return wire::Encode(lie);
}

}  // namespace chorus::simulation
