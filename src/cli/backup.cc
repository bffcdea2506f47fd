// `chorus backup`, `chorus restore` and `chorus check`: a store's content to a file, back, and
// whether it is sound.
#include <CLI/CLI.hpp>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>

#include "cli/command.h"
#include "cli/files.h"
#include "cli/results.h"
#include "cli/store.h"

namespace chorus::cli {
namespace {

// More rounds than most coordinators begin between two backups.
constexpr uint64_t kRoundsSkipped = 1'000;

class Backup final : public Command {
 public:
  explicit Backup(CLI::App& tool)
      : app_(*tool.add_subcommand(
            "backup", "Copy a coordinator's state to a file, also while the coordinator runs.")) {
    AddStoreOptions(app_, place_);
    app_.add_option("--to", to_, "File to write the copy into; it must not exist.")->required();
  }
  CLI::App& app() override { return app_; }

  Status Run() override {
    CHORUS_TRY_ASSIGN(const std::string file, SqliteFileOf(place_));
    if (!Exists(file)) {
      return NotFound(NameOf(place_) + " holds no coordinator's state to copy");
    }
    CHORUS_TRY(BackUpSqliteStore(file, to_));
    std::printf("copied to %s, and the copy is sound\n", to_.c_str());
    return OkStatus();
  }

 private:
  CLI::App& app_;
  StorePlace place_;
  std::string to_;
};

class Restore final : public Command {
 public:
  explicit Restore(CLI::App& tool)
      : app_(*tool.add_subcommand("restore",
                                  "Put a backup in place, for a coordinator to go on from.")) {
    AddStoreOptions(app_, place_);
    app_.add_option("--from", from_,
                    "File that `chorus backup` wrote. Left out for PostgreSQL, once pg_restore has "
                    "put the database in place.");
    app_.add_option("--skip-rounds", skipped_,
                    "Numbers of rounds to leave out: at least as many as began since the backup. "
                    "Clients take part in no round whose number they gave to before.")
        ->capture_default_str();
  }
  CLI::App& app() override { return app_; }

  Status Run() override {
    if (!from_.empty()) {
      CHORUS_TRY_ASSIGN(const std::string file, SqliteFileOf(place_));
      if (!Exists(from_)) return NotFound("there is no file \"" + from_ + "\" to restore from");
      if (!place_.state.empty()) CHORUS_TRY(MakeFolder(place_.state, Access::kSecret));
      CHORUS_TRY(BackUpSqliteStore(from_, file));
    }
    CHORUS_TRY_ASSIGN(const std::unique_ptr<Store> store, OpenStore(place_, WhenAbsent::kRefuse));
    CHORUS_TRY_ASSIGN(const std::vector<TaskRecord> tasks, SkipRounds(*store));
    for (const TaskRecord& task : tasks) {
      std::printf("task %s goes on after %llu committed rounds, with round %llu\n",
                  task.name.c_str(), static_cast<unsigned long long>(task.rounds_committed),
                  static_cast<unsigned long long>(task.rounds_begun) + 1);
    }
    if (tasks.empty()) std::printf("restored; it holds no task\n");
    return OkStatus();
  }

 private:
  // Rounds that began after the backup are unknown to it, and clients' ledgers know them.
  Result<std::vector<TaskRecord>> SkipRounds(Store& store) const {
    std::vector<TaskRecord> tasks;
    const auto skip = [this, &tasks](Transaction& transaction) -> Status {
      CHORUS_TRY_ASSIGN(tasks, transaction.Tasks());
      for (TaskRecord& task : tasks) {
        if (skipped_ > INT64_MAX - task.rounds_begun)
          return InvalidArgument("--skip-rounds is too large: rounds are numbered below 2^63");
        task.rounds_begun += skipped_;
        CHORUS_TRY(transaction.PutTask(task));
      }
      return OkStatus();
    };
    CHORUS_TRY(store.RunTransaction("skip rounds", skip));
    return tasks;
  }

  CLI::App& app_;
  StorePlace place_;
  std::string from_;
  uint64_t skipped_ = kRoundsSkipped;
};

class Check final : public Command {
 public:
  explicit Check(CLI::App& tool)
      : app_(*tool.add_subcommand(
            "check", "Read everything that a coordinator's state holds, and say if it is sound.")) {
    AddStoreOptions(app_, place_);
  }
  CLI::App& app() override { return app_; }

  Status Run() override {
    CHORUS_TRY_ASSIGN(const std::unique_ptr<Store> store, OpenStore(place_, WhenAbsent::kRefuse));
    std::vector<TaskRecord> tasks;
    CHORUS_TRY(store->RunTransaction("read tasks", [&](Transaction& transaction) -> Status {
      CHORUS_TRY_ASSIGN(tasks, transaction.Tasks());
      return OkStatus();
    }));
    for (const TaskRecord& task : tasks) CHORUS_TRY(CheckTask(*store, task));
    if (tasks.empty()) std::printf("the store is sound; it holds no task\n");
    return OkStatus();
  }

 private:
  static Status CheckTask(Store& store, const TaskRecord& task) {
    CHORUS_TRY(ReadContent(store, task.model).status());
    if (task.server_state != Digest{}) CHORUS_TRY(ReadContent(store, task.server_state).status());
    CHORUS_TRY_ASSIGN(const std::vector<RoundReport> rounds, CommittedRounds(store, task.id));
    uint64_t sound = 0;
    for (const RoundReport& round : rounds) {
      if (round.round > task.rounds_begun) return Damaged(task, "a round that was never begun");
      if (round.answers != Digest{}) CHORUS_TRY(ReadContent(store, round.answers).status());
      const Result<Bytes> model = ReadContent(store, round.result);
      if (model.ok()) ++sound;
      if (!model.ok() && model.status().code() != Code::kNotFound) return model.status();
    }
    if (rounds.size() > task.rounds_committed) return Damaged(task, "too many committed rounds");
    std::printf("task %s: %llu committed of %llu begun rounds, %llu models sound\n",
                task.name.c_str(), static_cast<unsigned long long>(task.rounds_committed),
                static_cast<unsigned long long>(task.rounds_begun),
                static_cast<unsigned long long>(sound));
    return OkStatus();
  }
  static Status Damaged(const TaskRecord& task, const std::string& what) {
    return DataLoss("task " + task.name + " has " + what + ": restore the store from a backup");
  }

  CLI::App& app_;
  StorePlace place_;
};

}  // namespace

std::unique_ptr<Command> NewCheck(CLI::App& tool) { return std::make_unique<Check>(tool); }
std::unique_ptr<Command> NewBackup(CLI::App& tool) { return std::make_unique<Backup>(tool); }
std::unique_ptr<Command> NewRestore(CLI::App& tool) { return std::make_unique<Restore>(tool); }

}  // namespace chorus::cli
