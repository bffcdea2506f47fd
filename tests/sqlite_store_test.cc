// What only SQLite does: its file, reopened, damaged, full, of other versions, and its process
// killed.
#include <fcntl.h>
#include <sqlite3.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <fstream>
#include <iterator>
#include <thread>

#include "base/random.h"
#include "store_cases.h"

namespace chorus {
namespace {

using testing::ElementsAre;
using testing::ElementsAreArray;

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
  Edit(folder.File(), "PRAGMA user_version = 5");
  EXPECT_THAT(NewSqliteStore(folder.File()), HasCodeAndText(Code::kFailedPrecondition, "newer"));
  Edit(folder.File(), "PRAGMA user_version = 4");
  EXPECT_THAT(NumbersOf(*OpenSqlite(folder.File()), kTask, 0, 10), ElementsAre(1));
}

TEST(SqliteStore, ReadsTasksAndRoundsOfTheVersionBeforeAsWithoutStateAndAnswers) {
  const Folder folder;
  ASSERT_THAT(PutTaskAndRounds(*OpenSqlite(folder.File()), {1}), IsOk());
  Edit(folder.File(),
       std::string(kBackToVersion3) +
           "ALTER TABLE task DROP COLUMN server_state; ALTER TABLE round DROP COLUMN answers;"
           "PRAGMA user_version = 2");
  const std::unique_ptr<Store> store = OpenSqlite(folder.File());
  TaskRecord task = SomeTask();
  task.server_state = {};
  task.mode = TaskMode::kRunning;
  task.priority = 1;
  ExpectSame(TaskIn(*store, kTask).value(), task);
  RoundReport round = SomeRound(1);
  round.answers = {};
  round.result = {};
  ExpectSame(RoundsIn(*store, kTask, 1, 1)->at(0), round);
  // And takes both from now on.
  ASSERT_THAT(PutTaskAndRounds(*store, {1}), IsOk());
  ExpectSame(TaskIn(*store, kTask).value(), SomeTask());
  ExpectSame(RoundsIn(*store, kTask, 1, 1)->at(0), SomeRound(1));
}

TEST(SqliteStore, LearnsFromTheVersionBeforeWhichModelEachRoundMade) {
  const Folder folder;
  ASSERT_THAT(PutTaskAndRounds(*OpenSqlite(folder.File()), {1, 2, 4, 5}), IsOk());
  Edit(folder.File(),
       "UPDATE round SET state = 1 WHERE round <> 2;" + std::string(kBackToVersion3));
  const std::unique_ptr<Store> store = OpenSqlite(folder.File());
  const Result<std::vector<RoundReport>> rounds = RoundsIn(*store, kTask, 1, 10);
  ASSERT_THAT(NumbersOf(rounds), ElementsAre(1, 2, 4, 5));
  EXPECT_EQ(rounds->at(0).result, SomeRound(2).model);
  EXPECT_EQ(rounds->at(1).result, Digest{}) << "it was aborted";
  EXPECT_EQ(rounds->at(2).result, SomeRound(5).model);
  EXPECT_EQ(rounds->at(3).result, SomeTask().model);
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

TEST(SqliteStore, HasOneCoordinatorByWhateverNameItIsReached) {
  const Folder folder;
  const std::unique_ptr<Store> store = OpenSqlite(folder.File());
  const std::string link = folder.name() + "/link.db";
  std::filesystem::create_symlink(folder.File(), link);
  EXPECT_THAT(NewSqliteStore(link), HasCodeAndText(Code::kFailedPrecondition, "in use"));
  EXPECT_THAT(NewSqliteStore(folder.name() + "/./store.db"), HasCode(Code::kFailedPrecondition));
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

// One round's worth of writing: the state after it is of this round in every part.
Status WriteRound(Store& store, uint64_t number) {
  const Bytes model = SomeModel(30'000, static_cast<uint8_t>(number));
  return store.RunTransaction("round", [&](Transaction& transaction) {
    TaskRecord task = SomeTask();
    task.rounds_begun = number;
    task.model = crypto::Sha256(model);
    CHORUS_TRY(transaction.PutTask(task));
    CHORUS_TRY(transaction.PutModel(task.model, model));
    return transaction.PutRound(kTask, SomeRound(number));
  });
}

// The round up to which the store has everything; none when its parts disagree.
std::optional<uint64_t> WholeUpTo(Store& store) {
  const std::optional<TaskRecord> task = TaskIn(store, kTask);
  if (!task) return 0;
  const std::vector<uint64_t> numbers = NumbersOf(store, kTask, 0, 1'000);
  for (uint64_t number = 1; number <= task->rounds_begun; ++number) {
    const Bytes model = SomeModel(30'000, static_cast<uint8_t>(number));
    if (!ModelIn(store, crypto::Sha256(model)).ok()) return std::nullopt;
  }
  if (numbers.size() != task->rounds_begun) return std::nullopt;
  return task->rounds_begun;
}

std::string ReadAll(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}
void WriteAll(const std::string& path, const std::string& content) {
  std::ofstream(path, std::ios::binary) << content;
}

// What a crash leaves is the file and a log of which the end may be missing or garbage.
TEST(SqliteStore, OpensOnATornLogWithWhatWasWholeInIt) {
  const Folder folder;
  const std::unique_ptr<Store> store = OpenSqlite(folder.File());
  for (uint64_t number = 1; number <= 8; ++number) ASSERT_THAT(WriteRound(*store, number), IsOk());
  const std::string file = ReadAll(folder.File());
  const std::string log = ReadAll(folder.File() + "-wal");
  ASSERT_GT(log.size(), 240'000U);
  const std::unique_ptr<Rng> rng = crypto::NewSeededRng(Bytes(32, 1));
  bool some = false;
  for (int trial = 0; trial < 40; ++trial) {
    std::string torn = log;
    if (trial % 2 == 0) torn.resize(UniformBelow(*rng, log.size()));
    if (trial % 2 == 1) torn[UniformBelow(*rng, log.size())] ^= static_cast<char>(1 + trial);
    const Folder after;
    WriteAll(after.File(), file);
    WriteAll(after.File() + "-wal", torn);
    const std::unique_ptr<Store> left = OpenSqlite(after.File());
    const std::optional<uint64_t> whole = WholeUpTo(*left);
    ASSERT_TRUE(whole.has_value()) << "trial " << trial;
    some = some || (*whole > 0 && *whole < 8);
    ASSERT_THAT(WriteRound(*left, *whole + 1), IsOk()) << "trial " << trial;
  }
  EXPECT_TRUE(some) << "the log was never torn in its middle";
}

// Whatever befell the file, what is read of it is what was written, or a failure with a reason.
TEST(SqliteStore, ReportsADamagedFileAndNeverCrashesOnIt) {
  const Folder folder;
  {
    const std::unique_ptr<Store> store = OpenSqlite(folder.File());
    for (uint64_t number = 1; number <= 4; ++number)
      ASSERT_THAT(WriteRound(*store, number), IsOk());
  }
  const std::string file = ReadAll(folder.File());
  const std::unique_ptr<Rng> rng = crypto::NewSeededRng(Bytes(32, 2));
  int noticed = 0;
  for (int trial = 0; trial < 150; ++trial) {
    std::string damaged = file;
    if (trial % 3 == 0) damaged.resize(1 + UniformBelow(*rng, file.size() - 1));
    if (trial % 3 == 1) damaged[UniformBelow(*rng, file.size())] ^= static_cast<char>(1 + trial);
    if (trial % 3 == 2) {
      const size_t page = UniformBelow(*rng, file.size() / 4'096) * 4'096;
      std::fill_n(damaged.begin() + static_cast<ptrdiff_t>(page), 4'096, '\0');
    }
    const Folder after;
    WriteAll(after.File(), damaged);
    const Result<std::unique_ptr<Store>> store = NewSqliteStore(after.File());
    Status status = store.status();
    if (store.ok()) {
      status = (*store)->RunTransaction("read", [&](Transaction& transaction) -> Status {
        CHORUS_TRY_ASSIGN(const std::vector<TaskRecord> tasks, transaction.Tasks());
        for (const TaskRecord& task : tasks) {
          CHORUS_TRY(transaction.Rounds(task.id, 0, 100).status());
          CHORUS_TRY(transaction.GetModel(task.model).status());
        }
        return OkStatus();
      });
    }
    if (status.ok()) continue;
    ++noticed;
    EXPECT_THAT(status, testing::AnyOf(HasCode(Code::kDataLoss), HasCode(Code::kNotFound),
                                       HasCode(Code::kFailedPrecondition)))
        << "trial " << trial;
  }
  EXPECT_GT(noticed, 50);
}

TEST(SqliteStore, IsBackedUpWhileItIsWrittenTo) {
  const Folder folder;
  const std::unique_ptr<Store> store = OpenSqlite(folder.File());
  ASSERT_THAT(WriteRound(*store, 1), IsOk());
  std::atomic<bool> stop{false};
  std::thread writing([&] {
    for (uint64_t number = 2; !stop && number < 200; ++number)
      EXPECT_THAT(WriteRound(*store, number), IsOk());
  });
  uint64_t last = 1;
  for (int i = 0; i < 5; ++i) {
    const std::string copy = folder.name() + "/copy" + std::to_string(i) + ".db";
    ASSERT_THAT(BackUpSqliteStore(folder.File(), copy), IsOk());
    EXPECT_FALSE(std::filesystem::exists(copy + ".part"));
    const std::optional<uint64_t> whole = WholeUpTo(*OpenSqlite(copy));
    ASSERT_TRUE(whole.has_value()) << "the copy is not of one moment";
    EXPECT_GE(*whole, last);
    last = *whole;
  }
  stop = true;
  writing.join();
}

TEST(SqliteStore, RefusesABackupOfDamageOrOverAFile) {
  const Folder folder;
  const std::string copy = folder.name() + "/copy.db";
  EXPECT_THAT(BackUpSqliteStore(folder.File(), copy), HasCode(Code::kUnavailable));
  {
    const std::unique_ptr<Store> store = OpenSqlite(folder.File());
    for (uint64_t number = 1; number <= 4; ++number)
      ASSERT_THAT(WriteRound(*store, number), IsOk());
  }
  EXPECT_THAT(BackUpSqliteStore(folder.File(), folder.File()), HasCode(Code::kAlreadyExists));
  std::string damaged = ReadAll(folder.File());
  std::fill_n(damaged.begin() + 4'096, 4'096, '\x11');
  WriteAll(folder.File(), damaged);
  EXPECT_THAT(BackUpSqliteStore(folder.File(), copy), HasCode(Code::kDataLoss));
  EXPECT_FALSE(std::filesystem::exists(copy));
  const std::string other = folder.name() + "/other.db";
  Edit(other, "CREATE TABLE player (name TEXT)");
  EXPECT_THAT(BackUpSqliteStore(other, copy), HasCode(Code::kFailedPrecondition));
  EXPECT_FALSE(std::filesystem::exists(copy));
}

TEST(SqliteStore, IsNotRestoredBesideTheRemainsOfAnother) {
  const Folder folder;
  const std::string copy = folder.name() + "/copy.db";
  ASSERT_THAT(WriteRound(*OpenSqlite(folder.File()), 1), IsOk());
  for (const char* const suffix : {"-wal", "-shm", "-journal"}) {
    const std::string remains = copy + suffix;
    WriteAll(remains, "of another store");
    EXPECT_THAT(BackUpSqliteStore(folder.File(), copy),
                HasCodeAndText(Code::kAlreadyExists, remains));
    EXPECT_FALSE(std::filesystem::exists(copy));
    std::filesystem::remove(remains);
  }
  EXPECT_THAT(BackUpSqliteStore(folder.File(), copy), IsOk());
}

// What is dropped makes room for what comes: under its retention a store stays as large as it is.
TEST(SqliteStore, DoesNotGrowUnderItsRetention) {
  const Folder folder;
  const std::unique_ptr<Store> store = OpenSqlite(folder.File());
  const auto size = [&] {
    return std::filesystem::file_size(folder.File()) +
           std::filesystem::file_size(folder.File() + "-wal");
  };
  uintmax_t early = 0;
  TaskRecord task = SomeTask();
  for (uint64_t number = 1; number <= 200; ++number) {
    const Bytes model = SomeModel(100'000 + number, static_cast<uint8_t>(number));
    RoundReport round = SomeRound(number);
    round.state = RoundState::kCommitted;
    round.answers = {};
    round.model = task.model;
    task.model = round.result = crypto::Sha256(model);
    ASSERT_THAT(store->RunTransaction("round",
                                      [&](Transaction& transaction) {
                                        CHORUS_TRY(transaction.PutTask(task));
                                        CHORUS_TRY(transaction.PutModel(task.model, model));
                                        CHORUS_TRY(transaction.PutRound(kTask, round));
                                        CHORUS_TRY(transaction.DropOldModels(kTask, 10));
                                        return number <= 10
                                                   ? OkStatus()
                                                   : transaction.DropRounds(kTask, number - 9);
                                      }),
                IsOk());
    // By then the log of writes has had its size once, too.
    if (number == 50) early = size();
  }
  EXPECT_LE(static_cast<double>(size()), 1.05 * static_cast<double>(early));
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
