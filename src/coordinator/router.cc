#include "coordinator/router.h"

#include <algorithm>
#include <iterator>
#include <string>
#include <utility>

#include "base/limits.h"
#include "base/log.h"
#include "chorus/audit.h"
#include "coordinator/processes.h"
#include "coordinator/task_state.h"
#include "crypto/crypto.h"
#include "wire/wire.h"

namespace chorus::coordinator {
namespace {

// Looking through all sessions costs about a microsecond each; so long a pause between two looks
// keeps that to a small part of the coordinator's time.
constexpr size_t kSessionsPerLookMillisecond = 1'000;
constexpr Time kLookPause{2};
// What time alone changes, such as who called lately, is looked at this often.
constexpr Time kLookEvery{5'000};

Status NoSession() { return Unauthenticated("this session is not open here; check in again"); }

}  // namespace

Router::Router(Parts parts)
    : parts_(std::move(parts)),
      sessions_({.rng = parts_.rng,
                 .admission = {.coordinator = crypto::Ed25519Public(parts_.signing_seed),
                               .verifier = parts_.verifier,
                               .clock = parts_.clock,
                               .options = parts_.admission},
                 .pacing = parts_.pacing,
                 .sessions_max = limits::kSessionsMax,
                 .uploads_in_flight_bytes_max = limits::kUploadsInFlightBytesMax}),
      allotment_(*parts_.rng) {}

Router::~Router() = default;

Result<std::unique_ptr<Router>> Router::Create(RouterOptions options, Store& store,
                                               const IdentityVerifier& verifier, const Clock& clock,
                                               Rng& rng, LogSink& log) {
  if (options.operators.size() > limits::kOperatorsMax) {
    return InvalidArgument("operators: at most " + std::to_string(limits::kOperatorsMax) +
                           " keys may be given");
  }
  std::unique_ptr<Router> router(new Router({.signing_seed = options.signing_seed,
                                             .executor = options.executor,
                                             .operators = std::move(options.operators),
                                             .retention = options.retention,
                                             .store = &store,
                                             .verifier = &verifier,
                                             .clock = &clock,
                                             .rng = &rng,
                                             .log = &log,
                                             .process = DrawProcessName(rng),
                                             .address = std::move(options.advertise),
                                             .admission = options.admission,
                                             .pacing = options.pacing}));
  for (HostedTask& task : options.tasks) CHORUS_TRY(router->AddTask(std::move(task)));
  if (options.stored_tasks) CHORUS_TRY(router->AddStored());
  return router;
}

Status Router::AddTask(HostedTask task) { return Add(std::move(task), std::nullopt); }

Status Router::Add(HostedTask task, std::optional<AuditEntry> created) {
  const std::string name = task.task.name;
  if (Find(name) != nullptr) {
    return AlreadyExists("this coordinator serves a task named \"" + name + "\" already");
  }
  if (cores_.size() >= limits::kTasksMax) {
    return ResourceExhausted("a coordinator serves at most " + std::to_string(limits::kTasksMax) +
                             " tasks, those included that have ended since it started; start it "
                             "again without these, or start another");
  }
  if (task.priority < 1 || task.priority > limits::kPriorityMax) {
    return InvalidArgument("priority must be from 1 to " + std::to_string(limits::kPriorityMax));
  }
  CHORUS_TRY_ASSIGN(std::unique_ptr<CoordinatorCore> core,
                    CoordinatorCore::Make({.signing_seed = parts_.signing_seed,
                                           .executor = parts_.executor,
                                           .task = std::move(task.task),
                                           .initial_weights = std::move(task.initial_weights),
                                           .experiment_seed = task.experiment_seed,
                                           .priority = task.priority,
                                           .created = std::move(created),
                                           .sessions = &sessions_,
                                           .place = static_cast<uint32_t>(cores_.size()),
                                           .process = parts_.process,
                                           .address = parts_.address,
                                           .retention = parts_.retention},
                                          *parts_.store, *parts_.verifier, *parts_.clock,
                                          *parts_.rng, *parts_.log));
  views_.push_back(core.get());
  cores_.push_back(std::move(core));
  sessions_.shared_out = cores_.size() > 1;
  changed_ = true;
  return OkStatus();
}

// Takes up the tasks that were added while an earlier coordinator ran, but for those that have
// ended. One that cannot be served is not to keep the others from it.
Status Router::AddStored() {
  std::vector<TaskRecord> records;
  CHORUS_TRY(parts_.store->RunTransaction("list tasks", [&](Transaction& transaction) -> Status {
    CHORUS_TRY_ASSIGN(records, transaction.Tasks());
    return OkStatus();
  }));
  for (const TaskRecord& record : records) {
    if (Find(record.name) != nullptr || record.mode == TaskMode::kStopped) continue;
    Result<TaskSpec> task = wire::DecodeTask(record.spec);
    if (task.ok() && record.rounds_committed >= task->rounds) continue;
    if (cores_.size() >= limits::kTasksMax) {
      Log(*parts_.log, LogLevel::kWarn, "stored tasks are left out: there are too many",
          {{"served", cores_.size()}, {"stored", records.size()}});
      return OkStatus();
    }
    Status added = task.status();
    if (added.ok()) added = AddTask({.task = *std::move(task), .priority = record.priority});
    const bool unfit =
        added.code() == Code::kFailedPrecondition || added.code() == Code::kInvalidArgument;
    if (!unfit) {
      CHORUS_TRY(added);
      continue;
    }
    Log(*parts_.log, LogLevel::kWarn, "a stored task cannot be served here",
        {{"code", static_cast<int>(added.code())},
         {"place", &record - records.data() + 1},
         {"stored", records.size()}});
  }
  return OkStatus();
}

CoordinatorCore* Router::Find(std::string_view task) {
  const auto found =
      std::find_if(views_.begin(), views_.end(),
                   [task](const CoordinatorCore* core) { return core->task().name == task; });
  return found == views_.end() ? nullptr : *found;
}

std::vector<CoordinatorCore*> Router::cores() const { return views_; }

// --- calls ---

void Router::Handle(std::string_view method, Body request, Reply reply) {
  const Time now = parts_.clock->Now();
  changed_ = true;
  if (request.size() > limits::kMessageBytesMax) {
    reply(ResourceExhausted("the request is longer than a message may be"));
  } else if (method == wire::kChallenge) {
    reply(Challenge(request.Whole(), now));
  } else if (method == wire::kCheckIn) {
    Result<Vetted> vetted = sessions_.admission()->Vet(request.Whole(), now);
    if (!vetted.ok()) return reply(vetted.status());
    CheckIn(*std::move(vetted), now, std::move(reply));
  } else if (method == wire::kGetStatus) {
    reply(GetStatus(request.Whole(), now));
  } else if (method == wire::kControl) {
    reply(Control(request.Whole(), now));
  } else if (method == wire::kGetAudit) {
    reply(GetAudit(request.Whole()));
  } else if (method == wire::kNext || method == wire::kDownload) {
    const Result<wire::SessionToken> session = wire::SessionIn(method, request.Whole());
    if (!session.ok()) return reply(session.status());
    CoordinatorCore* const core = CoreOf(*session);
    if (core == nullptr) return reply(NoSession());
    core->Handle(method, std::move(request), std::move(reply));
  } else if (method == wire::kUpload) {
    Result<UploadCall> call = UploadCall::Read(std::move(request));
    if (!call.ok()) return reply(call.status());
    TakeUpload(*std::move(call), std::move(reply));
  } else {
    reply(Status(Code::kUnimplemented, "this coordinator knows no such call"));
  }
  TellResting();
}

void Router::TakeUpload(UploadCall call, Reply reply) {
  changed_ = true;
  CoordinatorCore* const core = CoreOf(call.chunk.session);
  if (core == nullptr) return reply(NoSession());
  core->TakeUpload(std::move(call), std::move(reply));
  TellResting();
}

void Router::HashAhead(std::span<UploadCall* const> calls) const {
  if (calls.size() < 2 || !crypto::Sha256Stream::SideBySidePays()) return;
  std::vector<crypto::Sha256Stream::Share> shares;
  std::set<PartyId> of;
  for (UploadCall* const call : calls) {
    const CoordinatorCore* const core = CoreOf(call->chunk.session);
    if (core == nullptr || call->chunk.data_bytes == 0) continue;
    // A second chunk of a party is not the next one, or is the same again.
    if (!of.insert(Parties::IdIn(call->chunk.session)).second) continue;
    if (const auto share = core->parties().AheadOf(*call)) shares.push_back(*share);
  }
  crypto::Sha256Stream::UpdateSideBySide(shares);
}

Result<Bytes> Router::Challenge(BytesView request, Time now) {
  CHORUS_TRY(wire::Decode<wire::ChallengeRequest>(request));
  return wire::Encode(wire::ChallengeReply{.challenge = sessions_.admission()->NewChallenge(now)});
}

CoordinatorCore* Router::CoreOf(const wire::SessionToken& session) const {
  if (views_.size() == 1) return views_.front();
  const PartyId id = Parties::IdIn(session);
  const auto found = std::find_if(views_.begin(), views_.end(), [id](CoordinatorCore* core) {
    return core->parties().Find(id) != nullptr;
  });
  return found == views_.end() ? nullptr : *found;
}

// The tasks that a client asks for. Who is on a committee serves those that it is a member of.
Result<TaskMask> Router::Serves(const wire::CheckInRequest& asked) const {
  TaskMask named = asked.tasks.empty() ? kEveryTask : 0;
  TaskMask member = 0;
  for (uint32_t place = 0; place < cores_.size(); ++place) {
    const std::string& name = cores_[place]->task().name;
    if (std::find(asked.tasks.begin(), asked.tasks.end(), name) != asked.tasks.end()) {
      named |= MaskOf(place);
    }
    if (cores_[place]->committee().IndexOf(asked.identity) != 0) member |= MaskOf(place);
  }
  if (named == 0) {
    return NotFound("this coordinator serves none of the tasks that the client names");
  }
  return (named & member) != 0 ? named & member : named;
}

void Router::Admit(Vetted vetted, Reply reply) {
  changed_ = true;
  CheckIn(std::move(vetted), parts_.clock->Now(), std::move(reply));
  TellResting();
}

void Router::CheckIn(Vetted vetted, Time now, Reply reply) {
  if (views_.empty()) {
    return reply(Unavailable("this coordinator serves no task yet; call again later"));
  }
  const Result<TaskMask> serves = Serves(vetted.request);
  if (!serves.ok()) return reply(serves.status());
  const PublicKey identity = vetted.request.identity;
  bool member = false;
  for (uint32_t place = 0; place < cores_.size(); ++place) {
    member = member ||
             ((*serves & MaskOf(place)) != 0 && cores_[place]->committee().IndexOf(identity) != 0);
  }
  if (vetted.exempt && !member) {
    return reply(Unauthenticated("members of a committee need a session token to be clients"));
  }
  // An identity has one session. Its core replaces it, and knows whether the challenge is newer.
  const auto known = std::find_if(views_.begin(), views_.end(), [&](CoordinatorCore* core) {
    return core->parties().FindIdentity(identity) != nullptr;
  });
  const uint32_t best = allotment_.PlaceFor(views_, *serves, now);
  CoordinatorCore& core = known == views_.end() ? *views_[best] : **known;
  core.Admit(std::move(vetted), [&](Result<Bytes> answer) {
    if (answer.ok()) {
      Party& party = *core.parties().FindIdentity(identity);
      party.serves = *serves;
      if (&core != views_[best]) {
        views_[best]->parties().Adopt(core.parties().Release(party.id));
      }
    }
    reply(std::move(answer));
  });
}

Result<Bytes> Router::GetStatus(BytesView request, Time now) {
  CHORUS_TRY_ASSIGN(const wire::StatusRequest asked, wire::Decode<wire::StatusRequest>(request));
  wire::StatusReply reply;
  if (!asked.task.empty() || !views_.empty()) {
    CoordinatorCore* const core = asked.task.empty() ? views_.front() : Find(asked.task);
    if (core == nullptr) return NotFound("this coordinator serves no task of this name");
    CHORUS_TRY_ASSIGN(reply, core->StatusOf(asked, now));
  }
  reply.tasks.clear();
  for (CoordinatorCore* const core : views_) reply.tasks.push_back(core->Summary());
  return wire::Encode(reply);
}

// --- operators ---

Status Router::Control(std::string_view task, const AuditEntry& entry) {
  CoordinatorCore* const core = Find(task);
  if (core == nullptr) return NotFound("this coordinator serves no task of this name");
  CHORUS_TRY(wire::CheckReason(entry.reason));
  changed_ = true;
  const Status done = core->Control(entry, parts_.clock->Now());
  TellResting();
  return done;
}

Result<Bytes> Router::Control(BytesView request, Time now) {
  CHORUS_TRY_ASSIGN(const wire::ControlRequest asked, wire::Decode<wire::ControlRequest>(request));
  CHORUS_TRY(CheckOrder(asked.entry));
  if (asked.entry.action == AuditEntry::Action::kCreated) {
    CHORUS_TRY(AddSigned(asked));
    return wire::Encode(wire::ControlReply{});
  }
  CoordinatorCore* const core = Find(asked.task);
  if (core == nullptr) return NotFound("this coordinator serves no task of this name");
  const Digest words = AuditWords(core->task_sha256(), asked.entry);
  if (!crypto::Ed25519Verify(asked.entry.actor, words, asked.entry.signature)) {
    return Unauthenticated("the order is not signed by the operator that it names, for this task");
  }
  CHORUS_TRY(core->Control(asked.entry, now));
  return wire::Encode(wire::ControlReply{});
}

// Whether who gives the order may, and gave it lately. An order that was signed long ago is refused
// even if nothing has happened since, as whoever kept it may not mean well.
Status Router::CheckOrder(const AuditEntry& entry) const {
  const std::vector<PublicKey>& operators = parts_.operators;
  if (operators.empty()) {
    return PermissionDenied(
        "this coordinator takes no orders over the network: start it with its operators' keys");
  }
  if (std::find(operators.begin(), operators.end(), entry.actor) == operators.end()) {
    return PermissionDenied("the key is not one of this coordinator's operators'");
  }
  const int64_t now = parts_.clock->UnixSeconds();
  const int64_t life = limits::kOrderLife.count();
  if (entry.unix_seconds < now - life || entry.unix_seconds > now + life) {
    return FailedPrecondition("the order is dated more than " + std::to_string(life) +
                              " seconds from now: set the clocks of operator and coordinator");
  }
  return OkStatus();
}

// A task that an operator adds: its bytes are what the signature is for.
Status Router::AddSigned(const wire::ControlRequest& asked) {
  const Digest task_sha256 = crypto::Sha256(asked.task_bytes);
  const AuditEntry& entry = asked.entry;
  if (!crypto::Ed25519Verify(entry.actor, AuditWords(task_sha256, entry), entry.signature)) {
    return Unauthenticated("the order is not signed by the operator that it names, for this task");
  }
  CHORUS_TRY_ASSIGN(TaskSpec task, wire::DecodeTask(asked.task_bytes));
  if (wire::EncodeTask(task) != asked.task_bytes) {
    return InvalidArgument("the task is not written as this version writes it; use its own tool");
  }
  if (entry.number != 1 || entry.previous != Digest{} || entry.round != 0 ||
      entry.model != Digest{}) {
    return InvalidArgument("a new task's audit begins with this: number 1, and nothing before it");
  }
  return Add({.task = std::move(task), .priority = entry.priority}, entry);
}

// From the store, as tasks that have ended are not served any more, and are audited all the same.
Result<Bytes> Router::GetAudit(BytesView request) {
  CHORUS_TRY_ASSIGN(const wire::AuditRequest asked, wire::Decode<wire::AuditRequest>(request));
  const TaskId id = TaskIdOf(asked.task);
  wire::AuditReply reply;
  const auto list = [&](Transaction& transaction) -> Status {
    CHORUS_TRY_ASSIGN(const std::optional<TaskRecord> record, transaction.FindTask(id));
    if (!record) return NotFound("this coordinator's store has no task of this name");
    reply.task_sha256 = crypto::Sha256(record->spec);
    if (asked.first != 0) {
      CHORUS_TRY_ASSIGN(reply.entries, transaction.AuditFrom(id, asked.first, asked.count));
      return OkStatus();
    }
    CHORUS_TRY_ASSIGN(reply.entries, transaction.ListAudit(id, asked.count));
    std::reverse(reply.entries.begin(), reply.entries.end());
    return OkStatus();
  };
  CHORUS_TRY(parts_.store->RunTransaction("audit", list));
  return wire::Encode(reply);
}

// --- time and events ---

// Clients that wait for nothing any more are told.
void Router::TellResting() {
  const TaskMask resting = sessions_.over | sessions_.paused;
  if (std::exchange(resting_, resting) != resting) {
    for (CoordinatorCore* const core : views_) core->parties().AnswerResting();
  }
}

// When clients are shared out next, where there are several tasks.
Time Router::NextAllotment() const {
  if (views_.size() < 2) return Time::max();
  if (!changed_) return allotted_at_ + kLookEvery;
  return allotted_at_ + kLookPause +
         Time{static_cast<Time::rep>(sessions_.open() / kSessionsPerLookMillisecond)};
}

void Router::EndTurn(Time began) {
  const Time took = parts_.clock->Now() - began;
  for (CoordinatorCore* const core : views_) core->EndTurn(took);
}

void Router::Tick() {
  const Time now = parts_.clock->Now();
  for (CoordinatorCore* const core : views_) {
    if (core->NextTick() > now) continue;
    const Time began = parts_.clock->Now();
    core->Tick();
    // The next one's deadlines come after that.
    EndTurn(began);
    changed_ = true;
  }
  TellResting();
  if (NextAllotment() > now) return;
  changed_ = false;
  allotted_at_ = now;
  allotment_.Run(views_, now);
}

Time Router::NextTick() const {
  Time due = NextAllotment();
  for (const CoordinatorCore* const core : views_) due = std::min(due, core->NextTick());
  return due;
}

std::vector<CoordinatorEvent> Router::TakeEvents() {
  std::vector<CoordinatorEvent> events;
  for (CoordinatorCore* const core : views_) {
    std::vector<CoordinatorEvent> more = core->TakeEvents();
    std::move(more.begin(), more.end(), std::back_inserter(events));
  }
  return events;
}

}  // namespace chorus::coordinator
