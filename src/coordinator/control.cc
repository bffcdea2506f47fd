// What operators and the host do to a task: pause, resume, stop, roll back, priority. Whatever is
// done is durable together with its entry in the audit before it has any effect.
#include <algorithm>
#include <string>
#include <utility>
#include <variant>

#include "base/limits.h"
#include "chorus/audit.h"
#include "coordinator/machine.h"
#include "crypto/crypto.h"

namespace chorus::coordinator {
namespace {

using Action = AuditEntry::Action;

bool ByHost(const AuditEntry& entry) { return entry.signature == Signature{}; }

// The record as the entry leaves it.
void Apply(const AuditEntry& entry, TaskRecord& record) {
  switch (entry.action) {
    case Action::kPaused:
    case Action::kPausedNow:
      record.mode = TaskMode::kPaused;
      return;
    case Action::kResumed:
      record.mode = TaskMode::kRunning;
      return;
    case Action::kStopped:
      record.mode = TaskMode::kStopped;
      return;
    case Action::kPriority:
      record.priority = entry.priority;
      return;
    case Action::kRolledBack:
      record.model = entry.model;
      record.server_state = {};
      return;
    case Action::kCreated:
      return;
  }
}

}  // namespace

Status CoordinatorCore::Control(const AuditEntry& entry, Time now) {
  // A result that waits for the store is made durable first: it is not an operator's to lose.
  if (auto* recording = std::get_if<Recording>(&phase_)) {
    Record(*recording, now);
    if (std::holds_alternative<Recording>(phase_) && entry.action != Action::kPriority) {
      return Unavailable(
          "the last round's result waits for the store, which fails: see to that, then try again");
    }
  }
  CHORUS_TRY(CheckPossible(entry));
  CHORUS_TRY(entry.action == Action::kRolledBack ? RollBack(entry, now) : Change(entry));
  ApplyMode(now);
  if (entry.action == Action::kPausedNow) {
    AbortRound(Aborted("an operator paused the task"), now);
  }
  events_.TaskChanged(record().mode);
  return OkStatus();
}

// Whether the task is in a state in which this means something.
Status CoordinatorCore::CheckPossible(const AuditEntry& entry) const {
  const TaskMode mode = parts_.state.record.mode;
  if (entry.action == Action::kCreated) {
    return AlreadyExists("this coordinator serves a task of this name already");
  }
  if (entry.action == Action::kPriority &&
      (entry.priority < 1 || entry.priority > limits::kPriorityMax)) {
    return InvalidArgument("priority must be from 1 to " + std::to_string(limits::kPriorityMax));
  }
  if (entry.action == Action::kRolledBack) {
    if (parts_.task.queries.empty()) return OkStatus();
    return FailedPrecondition("the task asks queries and has no model to roll back");
  }
  if (mode == TaskMode::kStopped) {
    return FailedPrecondition("the task is stopped, and that is for good; add a new one");
  }
  if (parts_.state.record.rounds_committed >= parts_.task.rounds) {
    return FailedPrecondition("the task is complete: it has all its rounds");
  }
  if (entry.action == Action::kResumed && mode != TaskMode::kPaused) {
    return FailedPrecondition("the task is not paused");
  }
  if (entry.action == Action::kPaused && mode == TaskMode::kPaused) {
    return FailedPrecondition("the task is paused already");
  }
  return OkStatus();
}

// Makes the entry the next of the task's audit. An operator's is signed for one place in it, which
// is what makes every order good once.
Status CoordinatorCore::PlaceEntry(Transaction& transaction, const AuditEntry& entry) const {
  const TaskId& id = parts_.state.record.id;
  CHORUS_TRY_ASSIGN(const std::vector<AuditEntry> last, transaction.ListAudit(id, 1));
  const uint64_t number = last.empty() ? 1 : last.front().number + 1;
  const Digest previous = last.empty() ? Digest{} : AuditHash(task_sha256_, last.front());
  AuditEntry placed = entry;
  if (ByHost(entry)) {
    placed.number = number;
    placed.previous = previous;
    placed.unix_seconds = parts_.clock->UnixSeconds();
    SignAudit(task_sha256_, parts_.signing_seed, placed);
  } else if (entry.number != number || entry.previous != previous) {
    return Aborted(
        "the task's audit has gone on since this was signed: somebody else acted, or this was "
        "done already; look at the task and decide again");
  }
  return transaction.PutAudit(id, placed);
}

Status CoordinatorCore::Change(const AuditEntry& entry) {
  TaskRecord changed;
  const auto change = [&](Transaction& transaction) -> Status {
    CHORUS_TRY_ASSIGN(std::optional<TaskRecord> found, transaction.FindTask(record().id));
    if (!found) return DataLoss("the store has lost the task");
    if (found->mode == TaskMode::kStopped) {
      return FailedPrecondition("the task is stopped, and that is for good; add a new one");
    }
    CHORUS_TRY(PlaceEntry(transaction, entry));
    changed = *std::move(found);
    Apply(entry, changed);
    return transaction.PutTask(changed);
  };
  CHORUS_TRY(parts_.store->RunTransaction("control task", change));
  // Where other processes use the store, the rest of the record is for who watches it to take up.
  record().mode = changed.mode;
  record().priority = changed.priority;
  return OkStatus();
}

// The round in flight trains on a model that is not to be current any more, so it ends first; but
// not for a model that is not there.
Status CoordinatorCore::RollBack(const AuditEntry& entry, Time now) {
  TaskState back;
  Digest server_state{};  // as the store has it: another process may have gone on
  const auto find = [&](Transaction& transaction) -> Status {
    CHORUS_TRY_ASSIGN(const std::optional<TaskRecord> found, transaction.FindTask(record().id));
    if (!found) return DataLoss("the store has lost the task");
    server_state = found->server_state;
    CHORUS_TRY_ASSIGN(back, StateAfter(parts_.task, *found, entry.round, transaction));
    if (!ByHost(entry) && entry.model != back.record.model) {
      return InvalidArgument("the model signed for is not the one that the round made");
    }
    if (!parts_.store->shared()) return OkStatus();
    CHORUS_TRY_ASSIGN(const std::vector<RoundReport> last,
                      transaction.LatestRounds(record().id, 1));
    const bool open = !last.empty() && last.front().state == RoundState::kOpen;
    if (found->mode == TaskMode::kRunning || open) {
      return FailedPrecondition(
          "several processes serve this task: pause it, wait for the round in flight to end, then "
          "roll back");
    }
    return OkStatus();
  };
  CHORUS_TRY(parts_.store->RunTransaction("find model", find));
  AbortRound(Aborted("an operator rolled the model back"), now);
  if (std::holds_alternative<Recording>(phase_)) {
    return Unavailable("the round in flight was ended, but the store fails: try again");
  }
  const auto change = [&](Transaction& transaction) -> Status {
    CHORUS_TRY(find(transaction));
    AuditEntry placed = entry;
    placed.model = back.record.model;
    CHORUS_TRY(PlaceEntry(transaction, placed));
    if (server_state != Digest{}) CHORUS_TRY(transaction.DropModel(server_state));
    return transaction.PutTask(back.record);
  };
  CHORUS_TRY(parts_.store->RunTransaction("control task", change));
  back.rounds_ended = parts_.state.rounds_ended;
  parts_.state = std::move(back);
  return OkStatus();
}

// Gives the record's mode its effects, whoever set it: this process or another on the same store.
void CoordinatorCore::ApplyMode(Time now) {
  if (record().mode == applied_mode_) return;
  applied_mode_ = record().mode;
  parties_.Pause(applied_mode_ == TaskMode::kPaused);
  LookSoon(now);
  if (applied_mode_ != TaskMode::kStopped) return;
  AbortRound(Aborted("an operator stopped the task"), now);
  // A round that waits to be recorded settles the rest once it is.
  if (!std::holds_alternative<Gathering>(phase_)) return;
  phase_ = Complete{};
  EndLate(now);
  parties_.Complete();
  events_.TaskComplete({});
}

// Ends the round in flight, and what earlier rounds left behind, without a sum.
void CoordinatorCore::AbortRound(const Status& why, Time now) {
  for (Running& late : late_) late.cohorts.Abandon(why);
  sums_.Clear();
  if (auto* running = std::get_if<Running>(&phase_)) {
    running->cohorts.Abandon(why);
    // A round that other processes share ends in the store, once all cohorts have.
    if (parts_.store->shared()) return Progress(now);
    Conclude(*running, now);
  }
  EndLate(now);
}

}  // namespace chorus::coordinator
