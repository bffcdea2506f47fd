#include "chorus/store.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>
#include <thread>

#include "crypto/crypto.h"
#include "matchers.h"

namespace chorus {
namespace {

using testing::ElementsAre;
using testing::ElementsAreArray;
using testing::IsEmpty;

constexpr TaskId kTask = {1, 2, 3};
constexpr TaskId kOtherTask = {9};

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

std::unique_ptr<Store> OpenSqlite(const std::string& path) {
  Result<std::unique_ptr<Store>> store = NewSqliteStore(path);
  EXPECT_THAT(store, IsOk());
  return store.ok() ? *std::move(store) : nullptr;
}

TaskRecord SomeTask(const TaskId& id = kTask) {
  TaskRecord task{.id = id, .name = "digits \xC3\xA9", .spec = {5, 0, 6}};
  task.model.fill(7);
  task.rounds_begun = 3;
  task.rounds_committed = 2;
  task.server_state.fill(8);
  return task;
}

RoundReport SomeRound(uint64_t number) {
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
  return round;
}

void ExpectSame(const RoundReport& a, const RoundReport& b) {
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
}

void ExpectSame(const TaskRecord& a, const TaskRecord& b) {
  EXPECT_EQ(a.id, b.id);
  EXPECT_EQ(a.name, b.name);
  EXPECT_EQ(a.spec, b.spec);
  EXPECT_EQ(a.model, b.model);
  EXPECT_EQ(a.rounds_begun, b.rounds_begun);
  EXPECT_EQ(a.rounds_committed, b.rounds_committed);
  EXPECT_EQ(a.server_state, b.server_state);
}

// Bytes without a pattern that a wrong order of chunks would leave unnoticed.
Bytes SomeModel(size_t size, uint8_t seed) {
  Bytes bytes(size);
  crypto::NewSeededRng(Bytes(32, seed))->Fill(bytes);
  return bytes;
}

Result<std::vector<RoundReport>> RoundsIn(Store& store, const TaskId& task, uint64_t first,
                                          uint32_t count) {
  std::vector<RoundReport> rounds;
  CHORUS_TRY(store.RunTransaction("read", [&](Transaction& transaction) -> Status {
    CHORUS_TRY_ASSIGN(rounds, transaction.Rounds(task, first, count));
    return OkStatus();
  }));
  return rounds;
}

std::vector<uint64_t> NumbersOf(const Result<std::vector<RoundReport>>& rounds) {
  EXPECT_THAT(rounds, IsOk());
  std::vector<uint64_t> numbers;
  if (!rounds.ok()) return numbers;
  for (const RoundReport& round : *rounds) numbers.push_back(round.round);
  return numbers;
}

std::vector<uint64_t> NumbersOf(Store& store, const TaskId& task, uint64_t first, uint32_t count) {
  return NumbersOf(RoundsIn(store, task, first, count));
}

Status PutRound(Store& store, const TaskId& task, const RoundReport& round) {
  return store.RunTransaction(
      "write", [&](Transaction& transaction) { return transaction.PutRound(task, round); });
}

Result<Bytes> ModelIn(Store& store, const Digest& hash) {
  Bytes bytes;
  CHORUS_TRY(store.RunTransaction("read", [&](Transaction& transaction) -> Status {
    CHORUS_TRY_ASSIGN(bytes, transaction.GetModel(hash));
    return OkStatus();
  }));
  return bytes;
}

std::optional<TaskRecord> TaskIn(Store& store, const TaskId& id) {
  std::optional<TaskRecord> task;
  EXPECT_THAT(store.RunTransaction("read",
                                   [&](Transaction& transaction) -> Status {
                                     CHORUS_TRY_ASSIGN(task, transaction.FindTask(id));
                                     return OkStatus();
                                   }),
              IsOk());
  return task;
}

Status PutTaskAndRounds(Store& store, const std::vector<uint64_t>& numbers) {
  return store.RunTransaction("write", [&](Transaction& transaction) {
    CHORUS_TRY(transaction.PutTask(SomeTask()));
    for (const uint64_t number : numbers)
      CHORUS_TRY(transaction.PutRound(kTask, SomeRound(number)));
    return OkStatus();
  });
}

Status PutModel(Store& store, const Bytes& model) {
  return store.RunTransaction("write", [&](Transaction& transaction) {
    return transaction.PutModel(crypto::Sha256(model), model);
  });
}

// --- the laws of every store ---------------------------------------------------------------------

struct Sqlite {
  static std::unique_ptr<Store> New(const Folder& folder) { return OpenSqlite(folder.File()); }
};
struct Memory {
  static std::unique_ptr<Store> New(const Folder&) { return NewMemoryStore(); }
};

template <typename Kind>
class EveryStore : public testing::Test {
 protected:
  void SetUp() override { ASSERT_NE(store_, nullptr); }
  Folder folder_;
  std::unique_ptr<Store> store_ = Kind::New(folder_);
};
using Kinds = testing::Types<Sqlite, Memory>;
TYPED_TEST_SUITE(EveryStore, Kinds);

TYPED_TEST(EveryStore, GivesBackWhatWasPut) {
  ASSERT_THAT(PutTaskAndRounds(*this->store_, {1, 2}), IsOk());
  const std::optional<TaskRecord> task = TaskIn(*this->store_, kTask);
  ASSERT_TRUE(task.has_value());
  ExpectSame(*task, SomeTask());
  const Result<std::vector<RoundReport>> rounds = RoundsIn(*this->store_, kTask, 1, 10);
  ASSERT_THAT(NumbersOf(rounds), ElementsAre(1, 2));
  for (const RoundReport& round : *rounds) ExpectSame(round, SomeRound(round.round));
}

TYPED_TEST(EveryStore, FindsNothingBeforeAnythingWasPut) {
  EXPECT_FALSE(TaskIn(*this->store_, kTask).has_value());
  EXPECT_THAT(NumbersOf(*this->store_, kTask, 0, 10), IsEmpty());
  EXPECT_THAT(ModelIn(*this->store_, Digest{}), HasCode(Code::kNotFound));
}

TYPED_TEST(EveryStore, SeesItsOwnWritesBeforeTheCommit) {
  const Bytes model = SomeModel(100, 1);
  const auto write = [&model](Transaction& transaction) {
    CHORUS_TRY(transaction.PutTask(SomeTask()));
    CHORUS_TRY(transaction.PutRound(kTask, SomeRound(4)));
    CHORUS_TRY(transaction.PutModel(crypto::Sha256(model), model));
    CHORUS_TRY_ASSIGN(const std::optional<TaskRecord> task, transaction.FindTask(kTask));
    EXPECT_TRUE(task.has_value());
    EXPECT_THAT(NumbersOf(transaction.Rounds(kTask, 0, 10)), ElementsAre(4));
    EXPECT_THAT(transaction.GetModel(crypto::Sha256(model)), HoldsValue(model));
    return OkStatus();
  };
  ASSERT_THAT(this->store_->RunTransaction("write", write), IsOk());
}

TYPED_TEST(EveryStore, LeavesNothingOfAFunctionThatFailed) {
  ASSERT_THAT(PutTaskAndRounds(*this->store_, {1}), IsOk());
  const Bytes model = SomeModel(100, 2);
  const Status failed = this->store_->RunTransaction("write", [&](Transaction& transaction) {
    TaskRecord changed = SomeTask();
    changed.rounds_begun = 99;
    RoundReport overwritten = SomeRound(1);
    overwritten.invited = 99;
    CHORUS_TRY(transaction.PutTask(changed));
    CHORUS_TRY(transaction.PutTask(SomeTask(kOtherTask)));
    CHORUS_TRY(transaction.PutRound(kTask, overwritten));
    CHORUS_TRY(transaction.PutRound(kTask, SomeRound(2)));
    CHORUS_TRY(transaction.PutModel(crypto::Sha256(model), model));
    return Aborted("changed its mind");
  });
  EXPECT_EQ(failed.code(), Code::kAborted);
  EXPECT_EQ(failed.message(), "changed its mind");
  ExpectSame(TaskIn(*this->store_, kTask).value(), SomeTask());
  EXPECT_FALSE(TaskIn(*this->store_, kOtherTask).has_value());
  EXPECT_THAT(NumbersOf(*this->store_, kTask, 0, 10), ElementsAre(1));
  EXPECT_THAT(ModelIn(*this->store_, crypto::Sha256(model)), HasCode(Code::kNotFound));
}

TYPED_TEST(EveryStore, ReplacesATaskWithoutTouchingItsRounds) {
  ASSERT_THAT(PutTaskAndRounds(*this->store_, {1, 2, 3}), IsOk());
  TaskRecord changed = SomeTask();
  changed.rounds_begun = 17;
  changed.spec = {};
  ASSERT_THAT(this->store_->RunTransaction(
                  "write", [&](Transaction& transaction) { return transaction.PutTask(changed); }),
              IsOk());
  ExpectSame(TaskIn(*this->store_, kTask).value(), changed);
  EXPECT_THAT(NumbersOf(*this->store_, kTask, 0, 10), ElementsAre(1, 2, 3));
}

TYPED_TEST(EveryStore, ReplacesARound) {
  ASSERT_THAT(PutTaskAndRounds(*this->store_, {1}), IsOk());
  RoundReport changed = SomeRound(1);
  changed.state = RoundState::kCommitted;
  changed.code = Code::kOk;
  changed.reason = "";
  changed.dropouts = {};
  ASSERT_THAT(PutRound(*this->store_, kTask, changed), IsOk());
  const Result<std::vector<RoundReport>> rounds = RoundsIn(*this->store_, kTask, 0, 10);
  ASSERT_THAT(NumbersOf(rounds), ElementsAre(1));
  ExpectSame(rounds->at(0), changed);
}

TYPED_TEST(EveryStore, GivesRoundsAscendingFromTheFirstAndBounded) {
  ASSERT_THAT(PutTaskAndRounds(*this->store_, {12, 3, 300, 1, 7}), IsOk());
  EXPECT_THAT(NumbersOf(*this->store_, kTask, 0, 100), ElementsAre(1, 3, 7, 12, 300));
  EXPECT_THAT(NumbersOf(*this->store_, kTask, 3, 3), ElementsAre(3, 7, 12));
  EXPECT_THAT(NumbersOf(*this->store_, kTask, 8, UINT32_MAX), ElementsAre(12, 300));
  EXPECT_THAT(NumbersOf(*this->store_, kTask, 301, 5), IsEmpty());
  EXPECT_THAT(NumbersOf(*this->store_, kTask, UINT64_MAX, 5), IsEmpty());
  EXPECT_THAT(NumbersOf(*this->store_, kTask, 1, 0), IsEmpty());
  EXPECT_THAT(NumbersOf(*this->store_, kOtherTask, 0, 5), IsEmpty());
}

TYPED_TEST(EveryStore, BoundsRoundsOverKeptAndUnkeptOnes) {
  ASSERT_THAT(PutTaskAndRounds(*this->store_, {2, 4, 6}), IsOk());
  const auto write = [](Transaction& transaction) {
    for (const uint64_t number : {1, 3, 4, 8})
      CHORUS_TRY(transaction.PutRound(kTask, SomeRound(number)));
    EXPECT_THAT(NumbersOf(transaction.Rounds(kTask, 2, 3)), ElementsAre(2, 3, 4));
    return OkStatus();
  };
  ASSERT_THAT(this->store_->RunTransaction("write", write), IsOk());
}

TYPED_TEST(EveryStore, RefusesARoundOfNoTaskAndOneOutOfRange) {
  EXPECT_THAT(PutRound(*this->store_, kTask, SomeRound(1)), HasCode(Code::kNotFound));
  ASSERT_THAT(PutTaskAndRounds(*this->store_, {}), IsOk());
  const uint64_t beyond = uint64_t{1} << 63U;
  EXPECT_THAT(PutRound(*this->store_, kTask, SomeRound(beyond)), HasCode(Code::kInvalidArgument));
  EXPECT_THAT(PutRound(*this->store_, kTask, SomeRound(beyond - 1)), IsOk());
}

TYPED_TEST(EveryStore, KeepsALossThatIsNoNumber) {
  RoundReport diverged = SomeRound(1);
  diverged.loss = std::numeric_limits<double>::quiet_NaN();
  diverged.accuracy = -std::numeric_limits<double>::infinity();
  ASSERT_THAT(PutTaskAndRounds(*this->store_, {}), IsOk());
  ASSERT_THAT(PutRound(*this->store_, kTask, diverged), IsOk());
  const Result<std::vector<RoundReport>> rounds = RoundsIn(*this->store_, kTask, 1, 1);
  ASSERT_THAT(NumbersOf(rounds), ElementsAre(1));
  EXPECT_TRUE(std::isnan(rounds->at(0).loss));
  EXPECT_EQ(rounds->at(0).accuracy, diverged.accuracy);
}

TYPED_TEST(EveryStore, KeepsAModelOfAnySizeOnce) {
  for (const size_t size :
       {size_t{0}, size_t{1}, size_t{1} << 20U, (size_t{1} << 20U) + 1, size_t{5} << 20U}) {
    const Bytes model = SomeModel(size, 3);
    ASSERT_THAT(PutModel(*this->store_, model), IsOk()) << size;
    ASSERT_THAT(PutModel(*this->store_, model), IsOk()) << size << " again";
    EXPECT_THAT(ModelIn(*this->store_, crypto::Sha256(model)), HoldsValue(model)) << size;
  }
}

TYPED_TEST(EveryStore, DropsAModelWithItsTransactionOnly) {
  Store& store = *this->store_;
  const Bytes model = SomeModel(size_t{3} << 20U, 4);
  const Digest hash = crypto::Sha256(model);
  ASSERT_THAT(PutModel(store, model), IsOk());
  EXPECT_THAT(store.RunTransaction("drop",
                                   [&](Transaction& transaction) -> Status {
                                     CHORUS_TRY(transaction.DropModel(hash));
                                     EXPECT_THAT(transaction.GetModel(hash),
                                                 HasCode(Code::kNotFound));
                                     return Aborted("not after all");
                                   }),
              HasCode(Code::kAborted));
  EXPECT_THAT(ModelIn(store, hash), HoldsValue(model));
  const auto drop = [&](Transaction& transaction) { return transaction.DropModel(hash); };
  ASSERT_THAT(store.RunTransaction("drop", drop), IsOk());
  EXPECT_THAT(ModelIn(store, hash), HasCode(Code::kNotFound));
  ASSERT_THAT(store.RunTransaction("drop what is not there", drop), IsOk());
  // Dropped and put again in one step, it is there.
  ASSERT_THAT(PutModel(store, model), IsOk());
  const auto renew = [&](Transaction& transaction) -> Status {
    CHORUS_TRY(transaction.DropModel(hash));
    return transaction.PutModel(hash, model);
  };
  ASSERT_THAT(store.RunTransaction("renew", renew), IsOk());
  EXPECT_THAT(ModelIn(store, hash), HoldsValue(model));
}

TYPED_TEST(EveryStore, RefusesAModelUnderAForeignName) {
  const Bytes model = SomeModel(10, 5);
  EXPECT_THAT(
      this->store_->RunTransaction(
          "write", [&](Transaction& transaction) { return transaction.PutModel({}, model); }),
      HasCode(Code::kInvalidArgument));
}

TYPED_TEST(EveryStore, RunsTransactionsOfManyThreadsOneAfterTheOther) {
  ASSERT_THAT(PutTaskAndRounds(*this->store_, {}), IsOk());
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([this] {
      for (int k = 0; k < 10; ++k) {
        EXPECT_THAT(this->store_->RunTransaction("count",
                                                 [](Transaction& transaction) -> Status {
                                                   CHORUS_TRY_ASSIGN(std::optional<TaskRecord> task,
                                                                     transaction.FindTask(kTask));
                                                   ++task.value().rounds_begun;
                                                   return transaction.PutTask(*task);
                                                 }),
                    IsOk());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(TaskIn(*this->store_, kTask).value().rounds_begun, SomeTask().rounds_begun + 40);
}

// --- SQLite --------------------------------------------------------------------------------------

// Runs SQL on a file that no store has open.
void Edit(const std::string& path, const std::string& sql) {
  sqlite3* database = nullptr;
  ASSERT_EQ(sqlite3_open(path.c_str(), &database), SQLITE_OK);
  char* error = nullptr;
  EXPECT_EQ(sqlite3_exec(database, sql.c_str(), nullptr, nullptr, &error), SQLITE_OK)
      << (error == nullptr ? "" : error);
  sqlite3_free(error);
  EXPECT_EQ(sqlite3_close(database), SQLITE_OK);
}

TEST(SqliteStore, KeepsEverythingAcrossAReopening) {
  const Folder folder;
  const Bytes model = SomeModel(size_t{5} << 20U, 6);
  {
    const std::unique_ptr<Store> store = OpenSqlite(folder.File());
    ASSERT_THAT(PutTaskAndRounds(*store, {1, 2}), IsOk());
    ASSERT_THAT(PutModel(*store, model), IsOk());
  }
  const std::unique_ptr<Store> store = OpenSqlite(folder.File());
  ExpectSame(TaskIn(*store, kTask).value(), SomeTask());
  EXPECT_THAT(NumbersOf(*store, kTask, 0, 10), ElementsAre(1, 2));
  EXPECT_THAT(ModelIn(*store, crypto::Sha256(model)), HoldsValue(model));
}

TEST(SqliteStore, NoticesADamagedModel) {
  const Bytes model = SomeModel(size_t{3} << 20U, 7);
  const std::string edits[] = {
      "UPDATE model_chunk SET bytes = zeroblob(length(bytes)) WHERE chunk = 1",
      "UPDATE model_chunk SET bytes = substr(bytes, 1, length(bytes) - 1) WHERE chunk = 2",
      "DELETE FROM model_chunk WHERE chunk = 0",
      "UPDATE model_chunk SET chunk = 7 - chunk",
      "UPDATE model SET size = size + 1",
      "UPDATE model SET size = -1"};
  for (const std::string& edit : edits) {
    const Folder folder;
    ASSERT_THAT(PutModel(*OpenSqlite(folder.File()), model), IsOk());
    Edit(folder.File(), edit);
    EXPECT_THAT(ModelIn(*OpenSqlite(folder.File()), crypto::Sha256(model)),
                HasCode(Code::kDataLoss))
        << edit;
  }
}

TEST(SqliteStore, NoticesDamagedRows) {
  const std::string edits[] = {"UPDATE round SET state = 3",
                               "UPDATE round SET code = 17",
                               "UPDATE round SET code = -1",
                               "UPDATE round SET model = x'00'",
                               "UPDATE round SET dropouts = x'0000000100'",
                               "UPDATE round SET answers = x'00'"};
  for (const std::string& edit : edits) {
    const Folder folder;
    ASSERT_THAT(PutTaskAndRounds(*OpenSqlite(folder.File()), {1}), IsOk());
    Edit(folder.File(), edit);
    EXPECT_THAT(RoundsIn(*OpenSqlite(folder.File()), kTask, 1, 1), HasCode(Code::kDataLoss))
        << edit;
  }
}

TEST(SqliteStore, RefusesAFileOfANewerVersion) {
  const Folder folder;
  ASSERT_THAT(PutTaskAndRounds(*OpenSqlite(folder.File()), {1}), IsOk());
  Edit(folder.File(), "PRAGMA user_version = 4");
  EXPECT_THAT(NewSqliteStore(folder.File()), HasCodeAndText(Code::kFailedPrecondition, "newer"));
  Edit(folder.File(), "PRAGMA user_version = 3");
  EXPECT_THAT(NumbersOf(*OpenSqlite(folder.File()), kTask, 0, 10), ElementsAre(1));
}

TEST(SqliteStore, ReadsTasksAndRoundsOfTheVersionBeforeAsWithoutStateAndAnswers) {
  const Folder folder;
  ASSERT_THAT(PutTaskAndRounds(*OpenSqlite(folder.File()), {1}), IsOk());
  Edit(folder.File(),
       "ALTER TABLE task DROP COLUMN server_state; ALTER TABLE round DROP COLUMN answers;"
       "PRAGMA user_version = 2");
  const std::unique_ptr<Store> store = OpenSqlite(folder.File());
  TaskRecord task = SomeTask();
  task.server_state = {};
  ExpectSame(TaskIn(*store, kTask).value(), task);
  RoundReport round = SomeRound(1);
  round.answers = {};
  ExpectSame(RoundsIn(*store, kTask, 1, 1)->at(0), round);
  // And takes both from now on.
  ASSERT_THAT(PutTaskAndRounds(*store, {1}), IsOk());
  ExpectSame(TaskIn(*store, kTask).value(), SomeTask());
  ExpectSame(RoundsIn(*store, kTask, 1, 1)->at(0), SomeRound(1));
}

TEST(SqliteStore, RefusesADatabaseOfAnotherProgramAndLeavesItAlone) {
  const Folder folder;
  Edit(folder.File(), "CREATE TABLE player (name TEXT)");
  EXPECT_THAT(NewSqliteStore(folder.File()),
              HasCodeAndText(Code::kFailedPrecondition, "another program"));
  Edit(folder.File(), "INSERT INTO player VALUES ('still here')");
}

TEST(SqliteStore, RefusesWhatIsNoDatabase) {
  for (const size_t size : {size_t{20}, size_t{511}, size_t{100'000}}) {
    const Folder folder;
    const std::string text(size, 'x');
    std::ofstream(folder.File()) << text;
    EXPECT_THAT(NewSqliteStore(folder.File()), HasCode(Code::kDataLoss)) << size;
    std::string after;
    std::ifstream(folder.File()) >> after;
    EXPECT_EQ(after, text);
  }
}

TEST(SqliteStore, NoticesATornFile) {
  const Folder folder;
  const Bytes model = SomeModel(size_t{3} << 20U, 8);
  ASSERT_THAT(PutModel(*OpenSqlite(folder.File()), model), IsOk());
  std::filesystem::resize_file(folder.File(), size_t{1} << 20U);
  const Result<std::unique_ptr<Store>> store = NewSqliteStore(folder.File());
  if (!store.ok()) {
    EXPECT_THAT(store, HasCode(Code::kDataLoss));
    return;
  }
  EXPECT_THAT(ModelIn(**store, crypto::Sha256(model)), HasCode(Code::kDataLoss));
}

TEST(SqliteStore, SaysWhyAFileCannotBeOpened) {
  const Folder folder;
  EXPECT_THAT(NewSqliteStore(folder.name()), HasCode(Code::kUnavailable));
  EXPECT_THAT(NewSqliteStore(folder.name() + "/absent/store.db"),
              HasCodeAndText(Code::kUnavailable, "No such file"));
  EXPECT_THAT(NewSqliteStore(""), HasCode(Code::kInvalidArgument));
}

TEST(SqliteStore, HasOneCoordinatorAtATime) {
  const Folder folder;
  {
    const std::unique_ptr<Store> store = OpenSqlite(folder.File());
    EXPECT_THAT(NewSqliteStore(folder.File()), HasCodeAndText(Code::kFailedPrecondition, "in use"));
    ASSERT_THAT(PutTaskAndRounds(*store, {1}), IsOk());
    EXPECT_THAT(NewSqliteStore(folder.File()), HasCode(Code::kFailedPrecondition));
  }
  EXPECT_THAT(NewSqliteStore(folder.File()), IsOk());
}

// A process of its own that runs `body`, which returns its exit code, and can be killed.
class Child {
 public:
  // `body` writes to the descriptor it is given.
  template <typename Body>
  explicit Child(Body body) {
    int ends[2];
    EXPECT_EQ(pipe(ends), 0);
    process_ = fork();
    if (process_ == 0) {
      close(ends[0]);
      _exit(body(ends[1]));
    }
    close(ends[1]);
    from_ = ends[0];
  }
  ~Child() { close(from_); }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  // The next number it wrote; none once it has ended.
  std::optional<uint64_t> Read() const {
    uint64_t number = 0;
    if (read(from_, &number, sizeof(number)) != sizeof(number)) return std::nullopt;
    return number;
  }
  void Kill() const { kill(process_, SIGKILL); }
  int Wait() const {
    int status = 0;
    waitpid(process_, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

 private:
  pid_t process_ = -1;
  int from_ = -1;
};

bool Tell(int to, uint64_t number) { return write(to, &number, sizeof(number)) == sizeof(number); }

TEST(SqliteStore, RefusesASecondProcessUntilTheFirstIsGone) {
  const Folder folder;
  const Child first([&](int to) {
    const Result<std::unique_ptr<Store>> store = NewSqliteStore(folder.File());
    if (!store.ok() || !Tell(to, 1)) return 1;
    while (true) pause();
  });
  ASSERT_TRUE(first.Read().has_value());
  EXPECT_THAT(NewSqliteStore(folder.File()), HasCode(Code::kFailedPrecondition));
  first.Kill();
  first.Wait();
  EXPECT_THAT(NewSqliteStore(folder.File()), IsOk());
}

TEST(SqliteStore, LosesNoCommittedTransactionWhenItsProcessIsKilled) {
  for (uint64_t enough = 1; enough <= 61; enough += 12) {
    const Folder folder;
    const Child writer([&](int to) {
      const Result<std::unique_ptr<Store>> store = NewSqliteStore(folder.File());
      if (!store.ok()) return 1;
      for (uint64_t number = 1;; ++number) {
        const Bytes model = SomeModel(number * 10'000, static_cast<uint8_t>(number));
        const Status status = (*store)->RunTransaction("round", [&](Transaction& transaction) {
          TaskRecord task = SomeTask();
          task.rounds_begun = number;
          task.model = crypto::Sha256(model);
          CHORUS_TRY(transaction.PutTask(task));
          CHORUS_TRY(transaction.PutModel(task.model, model));
          return transaction.PutRound(kTask, SomeRound(number));
        });
        if (!status.ok() || !Tell(to, number)) return 2;
      }
    });
    uint64_t reported = 0;
    while (reported < enough) {
      const std::optional<uint64_t> number = writer.Read();
      ASSERT_TRUE(number.has_value()) << "after " << reported;
      reported = *number;
    }
    writer.Kill();
    while (const std::optional<uint64_t> number = writer.Read()) reported = *number;
    writer.Wait();

    const std::unique_ptr<Store> store = OpenSqlite(folder.File());
    const TaskRecord task = TaskIn(*store, kTask).value();
    EXPECT_GE(task.rounds_begun, reported);
    EXPECT_LE(task.rounds_begun, reported + 1);
    std::vector<uint64_t> all(task.rounds_begun);
    for (size_t i = 0; i < all.size(); ++i) all[i] = i + 1;
    EXPECT_THAT(NumbersOf(*store, kTask, 0, 1'000), ElementsAreArray(all));
    EXPECT_THAT(ModelIn(*store, task.model), IsOk());
  }
}

// A limit on the size of files stands in for a full disk: the kernel refuses the same writes.
TEST(SqliteStore, SaysThatTheDiskIsFullAndLosesNothing) {
  const Folder folder;
  const Bytes small = SomeModel(1'000, 9);
  const Bytes large = SomeModel(size_t{5} << 20U, 10);
  const Child writer([&](int) {
    signal(SIGXFSZ, SIG_IGN);
    const rlimit two_megabytes{.rlim_cur = 2'000'000, .rlim_max = 2'000'000};
    if (setrlimit(RLIMIT_FSIZE, &two_megabytes) != 0) return 1;
    const Result<std::unique_ptr<Store>> store = NewSqliteStore(folder.File());
    if (!store.ok() || !PutTaskAndRounds(**store, {1}).ok()) return 2;
    if (PutModel(**store, large).code() != Code::kResourceExhausted) return 3;
    if (ModelIn(**store, crypto::Sha256(large)).status().code() != Code::kNotFound) return 4;
    if (!PutModel(**store, small).ok()) return 5;
    return 0;
  });
  EXPECT_EQ(writer.Wait(), 0);
  const std::unique_ptr<Store> store = OpenSqlite(folder.File());
  EXPECT_THAT(NumbersOf(*store, kTask, 0, 10), ElementsAre(1));
  EXPECT_THAT(ModelIn(*store, crypto::Sha256(small)), HoldsValue(small));
  EXPECT_THAT(ModelIn(*store, crypto::Sha256(large)), HasCode(Code::kNotFound));
  EXPECT_THAT(PutModel(*store, large), IsOk());
}

}  // namespace
}  // namespace chorus
