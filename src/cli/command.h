// The tool's commands. Each is one .cc, made by the factory below; main.cc parses and runs one.
#pragma once

#include <memory>

#include "chorus/status.h"

namespace CLI {
class App;
}

namespace chorus::cli {

// A subcommand and the options that it was given. Must outlive the parse.
class Command {
 public:
  virtual ~Command() = default;
  virtual CLI::App& app() = 0;
  virtual Status Run() = 0;
};

std::unique_ptr<Command> NewKeysInit(CLI::App& keys);
std::unique_ptr<Command> NewKeysClient(CLI::App& keys);
std::unique_ptr<Command> NewKeysCommittee(CLI::App& keys);
std::unique_ptr<Command> NewSimulate(CLI::App& tool);
std::unique_ptr<Command> NewSplit(CLI::App& tool);
std::unique_ptr<Command> NewServe(CLI::App& tool);
std::unique_ptr<Command> NewTrain(CLI::App& tool);
std::unique_ptr<Command> NewCommittee(CLI::App& tool);
std::unique_ptr<Command> NewStatus(CLI::App& tool);
std::unique_ptr<Command> NewKeysOperator(CLI::App& keys);
std::unique_ptr<Command> NewTaskList(CLI::App& task);
std::unique_ptr<Command> NewTaskPause(CLI::App& task);
std::unique_ptr<Command> NewTaskResume(CLI::App& task);
std::unique_ptr<Command> NewTaskStop(CLI::App& task);
std::unique_ptr<Command> NewTaskRollBack(CLI::App& task);
std::unique_ptr<Command> NewTaskPriority(CLI::App& task);
std::unique_ptr<Command> NewTaskAdd(CLI::App& task);
std::unique_ptr<Command> NewAudit(CLI::App& tool);
std::unique_ptr<Command> NewExport(CLI::App& tool);
std::unique_ptr<Command> NewResults(CLI::App& tool);
std::unique_ptr<Command> NewReport(CLI::App& tool);
std::unique_ptr<Command> NewBackup(CLI::App& tool);
std::unique_ptr<Command> NewRestore(CLI::App& tool);
std::unique_ptr<Command> NewCheck(CLI::App& tool);

}  // namespace chorus::cli
