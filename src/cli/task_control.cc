// `chorus task`: what a coordinator's operators do to its tasks, over the network.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>

#include "base/clock.h"
#include "base/limits.h"
#include "chorus/audit.h"
#include "cli/command.h"
#include "cli/files.h"
#include "cli/remote.h"
#include "crypto/crypto.h"
#include "wire/wire.h"

namespace chorus::cli {
namespace {

using Action = AuditEntry::Action;

const char* ModeOf(const wire::TaskStatus& task) {
  if (task.mode == TaskMode::kStopped) return "stopped";
  if (task.rounds_committed >= task.rounds_wanted) return "complete";
  return task.mode == TaskMode::kPaused ? "paused" : "running";
}

class TaskList final : public Command {
 public:
  explicit TaskList(CLI::App& task)
      : app_(*task.add_subcommand("list", "Show a coordinator's tasks.")) {
    AddRemoteOptions(app_, remote_);
  }
  CLI::App& app() override { return app_; }

  chorus::Status Run() override {
    CHORUS_TRY_ASSIGN(const Remote remote, Remote::Connect(remote_));
    CHORUS_TRY_ASSIGN(const wire::StatusReply reply, remote.Status({}));
    std::printf("%-24s %-9s %8s %11s %8s  %s\n", "task", "mode", "priority", "committed", "clients",
                "step");
    for (const wire::TaskStatus& task : reply.tasks) {
      const std::string committed =
          std::to_string(task.rounds_committed) + "/" + std::to_string(task.rounds_wanted);
      std::printf("%-24s %-9s %8u %11s %8u  %s\n", task.name.c_str(), ModeOf(task), task.priority,
                  committed.c_str(), task.clients, task.step.empty() ? "none" : task.step.c_str());
    }
    return OkStatus();
  }

 private:
  CLI::App& app_;
  RemoteOptions remote_;
};

// What every order has: by whom, to which task, why.
class Ordering : public Command {
 public:
  explicit Ordering(CLI::App& app) : app_(app) {
    AddRemoteOptions(app_, remote_);
    app_.add_option("--operator-key", key_, "File of the operator's key, NAME.key.")->required();
    app_.add_option("--reason", reason_, "Why, for those who read the audit.")
        ->check(CLI::Validator([](std::string& text) { return wire::CheckReason(text).message(); },
                               ""));
  }
  CLI::App& app() override { return app_; }

 protected:
  CLI::App& app_;
  RemoteOptions remote_;
  std::string key_;
  std::string reason_;
};

// An order to a task that is there. It is signed for the place after the audit's last entry, so
// that it does what its operator saw coming, or nothing.
class TaskOrder final : public Ordering {
 public:
  TaskOrder(CLI::App& task, Action action, const std::string& name, const std::string& help)
      : Ordering(*task.add_subcommand(name, help)), action_(action) {
    app_.add_option("--task", task_, "Name of the task.")->required();
    if (action == Action::kPaused) {
      app_.add_flag("--now", now_, "Abort the round in flight rather than let it end.");
    } else if (action == Action::kRolledBack) {
      app_.add_option("--round", round_,
                      "The round whose model is to be current again; 0: the "
                      "model that the task began with.")
          ->required();
    } else if (action == Action::kPriority) {
      app_.add_option("--priority", priority_, "Share of the clients beside other tasks'.")
          ->required()
          ->check(CLI::Range(1U, limits::kPriorityMax));
    }
  }

  chorus::Status Run() override {
    CHORUS_TRY_ASSIGN(const SecretBytes seed, ReadSeed(key_));
    CHORUS_TRY_ASSIGN(const Remote remote, Remote::Connect(remote_));
    CHORUS_TRY_ASSIGN(const wire::AuditReply audit, remote.Audit({.task = task_, .count = 1}));
    const std::unique_ptr<Clock> clock = NewSystemClock();
    wire::ControlRequest request;
    request.task = task_;
    AuditEntry& entry = request.entry;
    entry.number = audit.entries.empty() ? 1 : audit.entries.back().number + 1;
    if (!audit.entries.empty()) {
      entry.previous = AuditHash(audit.task_sha256, audit.entries.back());
    }
    entry.unix_seconds = clock->UnixSeconds();
    entry.action = now_ ? Action::kPausedNow : action_;
    entry.round = round_;
    entry.priority = priority_;
    entry.reason = reason_;
    if (action_ == Action::kRolledBack) {
      CHORUS_TRY_ASSIGN(entry.model, ModelOf(remote));
    }
    SignAudit(audit.task_sha256, seed.Reveal(), entry);
    CHORUS_TRY(remote.Control(request));
    std::printf("task %s: done, audit entry %llu\n", task_.c_str(),
                static_cast<unsigned long long>(entry.number));
    return OkStatus();
  }

 private:
  Result<Digest> ModelOf(const Remote& remote) const {
    const uint64_t first = round_ == 0 ? 1 : round_;
    CHORUS_TRY_ASSIGN(const wire::StatusReply status,
                      remote.Status({.first_round = first, .round_count = 1, .task = task_}));
    if (status.rounds.empty() || status.rounds.front().round != first) {
      return NotFound("the coordinator knows no round " + std::to_string(first) +
                      " of the task any more, or not yet; see `chorus status`");
    }
    return round_ == 0 ? status.rounds.front().model : status.rounds.front().result;
  }

  const Action action_;
  std::string task_;
  bool now_ = false;
  uint64_t round_ = 0;
  uint32_t priority_ = 0;
};

class TaskAdd final : public Ordering {
 public:
  explicit TaskAdd(CLI::App& task)
      : Ordering(*task.add_subcommand(
            "add", "Let a coordinator serve one more task; its first model is drawn.")) {
    app_.add_option("--file", file_, "Task file: protobuf text of chorus.v1.Task.")->required();
    app_.add_option("--priority", priority_, "Share of the clients beside other tasks'.")
        ->check(CLI::Range(1U, limits::kPriorityMax))
        ->capture_default_str();
  }

  chorus::Status Run() override {
    CHORUS_TRY_ASSIGN(const SecretBytes seed, ReadSeed(key_));
    CHORUS_TRY_ASSIGN(const std::string text, ReadText(file_));
    const Result<TaskSpec> task = wire::ParseTaskText(text);
    if (!task.ok()) {
      return {task.status().code(), "\"" + file_ + "\": " + task.status().message()};
    }
    wire::ControlRequest request;
    request.task = task->name;
    request.task_bytes = wire::EncodeTask(*task);
    request.entry.number = 1;
    request.entry.unix_seconds = NewSystemClock()->UnixSeconds();
    request.entry.action = Action::kCreated;
    request.entry.priority = priority_;
    request.entry.reason = reason_;
    SignAudit(crypto::Sha256(request.task_bytes), seed.Reveal(), request.entry);
    CHORUS_TRY_ASSIGN(const Remote remote, Remote::Connect(remote_));
    CHORUS_TRY(remote.Control(request));
    std::printf("task %s: added\n", task->name.c_str());
    return OkStatus();
  }

 private:
  std::string file_;
  uint32_t priority_ = 1;
};

}  // namespace

std::unique_ptr<Command> NewTaskList(CLI::App& task) { return std::make_unique<TaskList>(task); }
std::unique_ptr<Command> NewTaskPause(CLI::App& task) {
  return std::make_unique<TaskOrder>(task, Action::kPaused, "pause",
                                     "Begin no round any more, until it is resumed.");
}
std::unique_ptr<Command> NewTaskResume(CLI::App& task) {
  return std::make_unique<TaskOrder>(task, Action::kResumed, "resume", "Go on with a paused task.");
}
std::unique_ptr<Command> NewTaskStop(CLI::App& task) {
  return std::make_unique<TaskOrder>(task, Action::kStopped, "stop",
                                     "End a task for good; its results stay.");
}
std::unique_ptr<Command> NewTaskRollBack(CLI::App& task) {
  return std::make_unique<TaskOrder>(task, Action::kRolledBack, "rollback",
                                     "Make the model current again that a round made.");
}
std::unique_ptr<Command> NewTaskPriority(CLI::App& task) {
  return std::make_unique<TaskOrder>(task, Action::kPriority, "priority",
                                     "Change a task's share of the clients.");
}
std::unique_ptr<Command> NewTaskAdd(CLI::App& task) { return std::make_unique<TaskAdd>(task); }

}  // namespace chorus::cli
