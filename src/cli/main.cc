// The tool: keys, data, a coordinator, a client, a committee, and a look at them.
#include <absl/synchronization/mutex.h>
#include <malloc.h>
#include <sched.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "cli/command.h"

namespace {

constexpr int kExitFailed = 1;
constexpr int kExitUsage = 2;
// gRPC's threads are many and take turns; in as many arenas as glibc makes for them, what one has
// freed is of no use to the next.
[[maybe_unused]] constexpr int kArenas = 4;

int Report(const chorus::Status& status) {
  if (status.ok()) return 0;
  std::fprintf(stderr, "chorus: %s\n", status.message().c_str());
  return kExitFailed;
}

}  // namespace

int main(int argc, char** argv) {
  // A reader that went away and a full disk are reported by the call that met them.
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);
  // gRPC writes lines of its own about every failed connection; ours say what to do. A caller who
  // sets the variable sees both.
  setenv("GRPC_VERBOSITY", "NONE", /*overwrite=*/0);
  // See Coordinator::Start.
  setenv("GRPC_EXPERIMENTS", "-tcp_read_chunks", /*overwrite=*/0);
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  // Where it is not allowed everything works as well, if not as fast.
  const sched_param unused{};
  static_cast<void>(sched_setscheduler(0, SCHED_BATCH, &unused));
#ifdef __GLIBC__
  mallopt(M_ARENA_MAX, kArenas);
#endif

  CLI::App tool("Chorus: federated learning with secure aggregation.", "chorus");
  tool.set_version_flag("--version", CHORUS_VERSION, "Print the version and stop.");
  tool.require_subcommand(1);
  CLI::App& keys = *tool.add_subcommand("keys", "Make the keys of an issuer, server and clients.");
  keys.require_subcommand(1);

  CLI::App& task = *tool.add_subcommand("task", "Act on a coordinator's tasks, as an operator.");
  task.require_subcommand(1);

  using chorus::cli::Command;
  std::vector<std::unique_ptr<Command>> commands;
  commands.push_back(chorus::cli::NewKeysInit(keys));
  commands.push_back(chorus::cli::NewKeysClient(keys));
  commands.push_back(chorus::cli::NewKeysCommittee(keys));
  commands.push_back(chorus::cli::NewKeysOperator(keys));
  commands.push_back(chorus::cli::NewTaskList(task));
  commands.push_back(chorus::cli::NewTaskPause(task));
  commands.push_back(chorus::cli::NewTaskResume(task));
  commands.push_back(chorus::cli::NewTaskStop(task));
  commands.push_back(chorus::cli::NewTaskRollBack(task));
  commands.push_back(chorus::cli::NewTaskPriority(task));
  commands.push_back(chorus::cli::NewTaskAdd(task));
  commands.push_back(chorus::cli::NewAudit(tool));
  commands.push_back(chorus::cli::NewSimulate(tool));
  commands.push_back(chorus::cli::NewSplit(tool));
  commands.push_back(chorus::cli::NewServe(tool));
  commands.push_back(chorus::cli::NewTrain(tool));
  commands.push_back(chorus::cli::NewCommittee(tool));
  commands.push_back(chorus::cli::NewStatus(tool));
  commands.push_back(chorus::cli::NewExport(tool));
  commands.push_back(chorus::cli::NewResults(tool));
  commands.push_back(chorus::cli::NewReport(tool));
  commands.push_back(chorus::cli::NewBackup(tool));
  commands.push_back(chorus::cli::NewRestore(tool));
  commands.push_back(chorus::cli::NewCheck(tool));

  try {
    tool.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return tool.exit(error) == 0 ? 0 : kExitUsage;
  }
  for (const std::unique_ptr<Command>& command : commands) {
    if (command->app().parsed()) return Report(command->Run());
  }
  return kExitUsage;
}
