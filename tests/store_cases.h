// What the tests of stores put in and look for.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "chorus/store.h"
#include "crypto/crypto.h"
#include "matchers.h"

namespace chorus {

inline constexpr TaskId kTask = {1, 2, 3};
inline constexpr TaskId kOtherTask = {9};

class Folder {
 public:
  Folder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "chorus_store_XXXXXX").string();
    path_ = mkdtemp(pattern.data());
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  std::string File() const { return (path_ / "store.db").string(); }
  std::string name() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

inline std::unique_ptr<Store> OpenSqlite(const std::string& path) {
  Result<std::unique_ptr<Store>> store = NewSqliteStore(path);
  EXPECT_THAT(store, IsOk());
  return store.ok() ? *std::move(store) : nullptr;
}

inline TaskRecord SomeTask(const TaskId& id = kTask) {
  TaskRecord task{.id = id, .name = "digits \xC3\xA9", .spec = {5, 0, 6}};
  task.model.fill(7);
  task.rounds_begun = 3;
  task.rounds_committed = 2;
  task.server_state.fill(8);
  task.mode = TaskMode::kPaused;
  task.priority = 4'000'000'000U;
  return task;
}

inline RoundReport SomeRound(uint64_t number) {
  RoundReport round{.round = number,
                    .state = RoundState::kAborted,
                    .code = Code::kAborted,
                    .reason = std::string("too few\0answered", 16),
                    .invited = 20,
                    .contributors = 17,
                    .refused = 1,
                    .dropouts = {0, 2, 4'000'000'000U},
                    .bytes_up = UINT64_MAX,
                    .bytes_down = 6,
                    .duration_ms = 7,
                    .examples = 8,
                    .loss = 0.1,
                    .accuracy = 1.0 / 3,
                    .evaluated = 9,
                    .cohorts = 10,
                    .cohorts_committed = 9};
  round.model.fill(static_cast<uint8_t>(number));
  round.answers.fill(static_cast<uint8_t>(number + 1));
  round.result.fill(static_cast<uint8_t>(number + 2));
  return round;
}

inline void ExpectSame(const RoundReport& a, const RoundReport& b) {
  EXPECT_EQ(a.round, b.round);
  EXPECT_EQ(a.state, b.state);
  EXPECT_EQ(a.code, b.code);
  EXPECT_EQ(a.reason, b.reason);
  EXPECT_EQ(a.model, b.model);
  EXPECT_EQ(a.invited, b.invited);
  EXPECT_EQ(a.contributors, b.contributors);
  EXPECT_EQ(a.refused, b.refused);
  EXPECT_EQ(a.dropouts, b.dropouts);
  EXPECT_EQ(a.bytes_up, b.bytes_up);
  EXPECT_EQ(a.bytes_down, b.bytes_down);
  EXPECT_EQ(a.duration_ms, b.duration_ms);
  EXPECT_EQ(a.examples, b.examples);
  EXPECT_EQ(a.loss, b.loss);
  EXPECT_EQ(a.accuracy, b.accuracy);
  EXPECT_EQ(a.evaluated, b.evaluated);
  EXPECT_EQ(a.cohorts, b.cohorts);
  EXPECT_EQ(a.cohorts_committed, b.cohorts_committed);
  EXPECT_EQ(a.answers, b.answers);
  EXPECT_EQ(a.result, b.result);
}

inline void ExpectSame(const TaskRecord& a, const TaskRecord& b) {
  EXPECT_EQ(a.id, b.id);
  EXPECT_EQ(a.name, b.name);
  EXPECT_EQ(a.spec, b.spec);
  EXPECT_EQ(a.model, b.model);
  EXPECT_EQ(a.rounds_begun, b.rounds_begun);
  EXPECT_EQ(a.rounds_committed, b.rounds_committed);
  EXPECT_EQ(a.server_state, b.server_state);
  EXPECT_EQ(a.mode, b.mode);
  EXPECT_EQ(a.priority, b.priority);
}

// Bytes without a pattern that a wrong order of chunks would leave unnoticed.
inline Bytes SomeModel(size_t size, uint8_t seed) {
  Bytes bytes(size);
  crypto::NewSeededRng(Bytes(32, seed))->Fill(bytes);
  return bytes;
}

inline Result<std::vector<RoundReport>> RoundsIn(Store& store, const TaskId& task, uint64_t first,
                                                 uint32_t count) {
  std::vector<RoundReport> rounds;
  CHORUS_TRY(store.RunTransaction("read", [&](Transaction& transaction) -> Status {
    CHORUS_TRY_ASSIGN(rounds, transaction.Rounds(task, first, count));
    return OkStatus();
  }));
  return rounds;
}

inline std::vector<uint64_t> NumbersOf(const Result<std::vector<RoundReport>>& rounds) {
  EXPECT_THAT(rounds, IsOk());
  std::vector<uint64_t> numbers;
  if (!rounds.ok()) return numbers;
  for (const RoundReport& round : *rounds) numbers.push_back(round.round);
  return numbers;
}

inline std::vector<uint64_t> NumbersOf(Store& store, const TaskId& task, uint64_t first,
                                       uint32_t count) {
  return NumbersOf(RoundsIn(store, task, first, count));
}

inline Status PutRound(Store& store, const TaskId& task, const RoundReport& round) {
  return store.RunTransaction(
      "write", [&](Transaction& transaction) { return transaction.PutRound(task, round); });
}

inline Result<Bytes> ModelIn(Store& store, const Digest& hash) {
  Bytes bytes;
  CHORUS_TRY(store.RunTransaction("read", [&](Transaction& transaction) -> Status {
    CHORUS_TRY_ASSIGN(bytes, transaction.GetModel(hash));
    return OkStatus();
  }));
  return bytes;
}

inline std::optional<TaskRecord> TaskIn(Store& store, const TaskId& id) {
  std::optional<TaskRecord> task;
  EXPECT_THAT(store.RunTransaction("read",
                                   [&](Transaction& transaction) -> Status {
                                     CHORUS_TRY_ASSIGN(task, transaction.FindTask(id));
                                     return OkStatus();
                                   }),
              IsOk());
  return task;
}

inline Status PutTaskAndRounds(Store& store, const std::vector<uint64_t>& numbers) {
  return store.RunTransaction("write", [&](Transaction& transaction) {
    CHORUS_TRY(transaction.PutTask(SomeTask()));
    for (const uint64_t number : numbers)
      CHORUS_TRY(transaction.PutRound(kTask, SomeRound(number)));
    return OkStatus();
  });
}

inline Status PutModel(Store& store, const Bytes& model) {
  return store.RunTransaction("write", [&](Transaction& transaction) {
    return transaction.PutModel(crypto::Sha256(model), model);
  });
}

// SQL that takes a SQLite file of the current version back to version 3.
inline constexpr const char* kBackToVersion3 =
    "DROP TABLE claim; DROP TABLE cohort; DROP TABLE process; DROP TABLE audit;"
    "DROP INDEX round_answers; DROP INDEX round_result; ALTER TABLE round DROP COLUMN result;"
    "ALTER TABLE task DROP COLUMN mode; ALTER TABLE task DROP COLUMN priority;"
    "PRAGMA user_version = 3;";

}  // namespace chorus
