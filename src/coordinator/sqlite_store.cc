#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <iterator>
#include <memory>
#include <mutex>
#include <string>
#include <system_error>
#include <utility>

#include "chorus/store.h"
#include "coordinator/sql_transaction.h"
#include "coordinator/sqlite_statement.h"

namespace chorus {
namespace {

using coordinator::SqlRow;
using coordinator::SqlValue;
using coordinator::sqlite::Database;
using coordinator::sqlite::kApplication;
using coordinator::sqlite::Number;
using coordinator::sqlite::Run;
using coordinator::sqlite::Statement;
using coordinator::sqlite::StatusOf;
using coordinator::sqlite::Text;

// A large model passes through the write-ahead log once; the file shrinks to this afterwards.
constexpr std::string_view kLogBytesKept = "67108864";

constexpr int kBusyMilliseconds = 2'000;

// What takes a file from each version of the schema to the next, the first from an empty file.
// Never edited, only added to. The current version is the number of entries.
constexpr const char* kMigrations[] = {
    "CREATE TABLE task ("
    "  id BLOB PRIMARY KEY NOT NULL, name TEXT NOT NULL, spec BLOB NOT NULL, model BLOB NOT NULL,"
    "  rounds_begun INTEGER NOT NULL, rounds_committed INTEGER NOT NULL);"
    // A loss or accuracy that is not a number is NULL: SQLite has none.
    "CREATE TABLE round ("
    "  task BLOB NOT NULL REFERENCES task (id), round INTEGER NOT NULL, state INTEGER NOT NULL,"
    "  code INTEGER NOT NULL, reason TEXT NOT NULL, model BLOB NOT NULL, invited INTEGER NOT NULL,"
    "  contributors INTEGER NOT NULL, refused INTEGER NOT NULL, dropouts BLOB NOT NULL,"
    "  bytes_up INTEGER NOT NULL, bytes_down INTEGER NOT NULL, duration_ms INTEGER NOT NULL,"
    "  examples INTEGER NOT NULL, loss REAL, accuracy REAL, evaluated INTEGER NOT NULL,"
    "  PRIMARY KEY (task, round)) WITHOUT ROWID;"
    "CREATE TABLE model (hash BLOB PRIMARY KEY NOT NULL, size INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE model_chunk ("
    "  hash BLOB NOT NULL REFERENCES model (hash), chunk INTEGER NOT NULL, bytes BLOB NOT NULL,"
    "  PRIMARY KEY (hash, chunk));",
    // Rounds of before had one cohort, which is in the model when the round is.
    "ALTER TABLE round ADD COLUMN cohorts INTEGER NOT NULL DEFAULT 1;"
    "ALTER TABLE round ADD COLUMN cohorts_committed INTEGER NOT NULL DEFAULT 0;"
    "UPDATE round SET cohorts_committed = 1 WHERE state = 1;"
    "CREATE TABLE evidence ("
    "  task BLOB NOT NULL REFERENCES task (id), round INTEGER NOT NULL, cohort INTEGER NOT NULL,"
    "  identity BLOB NOT NULL, first_message BLOB NOT NULL, first_signature BLOB NOT NULL,"
    "  second_message BLOB NOT NULL, second_signature BLOB NOT NULL,"
    "  PRIMARY KEY (task, round, cohort, identity)) WITHOUT ROWID;",
    // Tasks of before had no state beside their model, and no answers. A digest of no content is of
    // no bytes here, and zeros in memory.
    ("ALTER TABLE task ADD COLUMN server_state BLOB NOT NULL DEFAULT x'';"
     "ALTER TABLE round ADD COLUMN answers BLOB NOT NULL DEFAULT x'';"),
    // What a round made is what the next one trained on, or what the task has now.
    "ALTER TABLE task ADD COLUMN mode INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE task ADD COLUMN priority INTEGER NOT NULL DEFAULT 1;"
    "ALTER TABLE round ADD COLUMN result BLOB NOT NULL DEFAULT x'';"
    "UPDATE round SET result = coalesce("
    "  (SELECT next.model FROM round AS next WHERE next.task = round.task"
    "    AND next.round > round.round ORDER BY next.round LIMIT 1),"
    "  (SELECT task.model FROM task WHERE task.id = round.task)) WHERE state = 1;"
    "CREATE INDEX round_result ON round (result);"
    "CREATE INDEX round_answers ON round (answers) WHERE length(answers) > 0;"
    "CREATE TABLE audit ("
    "  task BLOB NOT NULL REFERENCES task (id), number INTEGER NOT NULL,"
    "  unix_seconds INTEGER NOT NULL, action INTEGER NOT NULL, actor BLOB NOT NULL,"
    "  round INTEGER NOT NULL, model BLOB NOT NULL, priority INTEGER NOT NULL, reason TEXT NOT "
    "NULL,"
    "  previous BLOB NOT NULL, signature BLOB NOT NULL, PRIMARY KEY (task, number)) WITHOUT ROWID;"
    "CREATE TABLE process ("
    "  name TEXT PRIMARY KEY NOT NULL, address TEXT NOT NULL, seen INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE cohort ("
    "  task BLOB NOT NULL REFERENCES task (id), round INTEGER NOT NULL, cohort INTEGER NOT NULL,"
    "  process TEXT NOT NULL, lease_until INTEGER NOT NULL, state INTEGER NOT NULL,"
    "  report BLOB NOT NULL, sum BLOB NOT NULL, PRIMARY KEY (task, round, cohort)) WITHOUT ROWID;"
    "CREATE TABLE claim ("
    "  task BLOB NOT NULL REFERENCES task (id), round INTEGER NOT NULL, identity BLOB NOT NULL,"
    "  cohort INTEGER NOT NULL, PRIMARY KEY (task, round, identity)) WITHOUT ROWID;"};
constexpr int64_t kSchemaVersion = std::size(kMigrations);

// Keeps other coordinators away from a store's file for as long as it lives. A lock of its own, and
// not the database's exclusive one, so that a backup can be taken while the coordinator runs. The
// kernel drops it with the process, however that dies.
class FileLock {
 public:
  FileLock() = default;
  FileLock(FileLock&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
  FileLock& operator=(FileLock&&) = delete;
  ~FileLock() {
    if (descriptor_ >= 0) close(descriptor_);
  }

  static Result<FileLock> Take(const std::string& path) {
    FileLock lock;
    lock.descriptor_ = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (lock.descriptor_ < 0) return Failed(errno);
    while (flock(lock.descriptor_, LOCK_EX | LOCK_NB) != 0) {
      if (errno == EINTR) continue;
      if (errno == EWOULDBLOCK)
        return FailedPrecondition("the store is in use by another coordinator");
      return Failed(errno);
    }
    return lock;
  }

 private:
  static Status Failed(int cause) {
    return Unavailable("the store's file cannot be used: " + std::system_category().message(cause));
  }

  int descriptor_ = -1;
};

class SqliteSession final : public coordinator::SqlSession {
 public:
  explicit SqliteSession(sqlite3* database) : database_(database) {}

  Status Run(const char* sql, std::initializer_list<SqlValue> values,
             const std::function<Status(SqlRow&)>& row) override {
    Statement statement(database_, sql);
    for (const SqlValue& value : values) statement.Bind(value);
    while (true) {
      const Result<bool> found = statement.Step();
      if (!found.ok()) {
        if (failed_.ok() && !statement.only_reads()) failed_ = found.status();
        return found.status();
      }
      if (!*found) return OkStatus();
      CHORUS_TRY(row(statement));
    }
  }
  const char* now_sql() const override {
    return "SELECT CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)";
  }

  // The first write that SQLite failed: then what came before it may be gone as well.
  const Status& failed() const { return failed_; }

 private:
  sqlite3* database_;
  Status failed_;
};

class SqliteStore final : public Store {
 public:
  SqliteStore(FileLock lock, Database database)
      : lock_(std::move(lock)), database_(std::move(database)) {}

  Status RunTransaction(std::string_view name,
                        const std::function<Status(Transaction&)>& function) override {
    const std::lock_guard lock(mutex_);
    CHORUS_TRY(Named(name, Run(database_.get(), "BEGIN IMMEDIATE")));
    SqliteSession session(database_.get());
    coordinator::SqlTransaction transaction(session);
    Status status = function(transaction);
    if (status.ok()) status = Named(name, session.failed());
    if (status.ok()) status = Named(name, Run(database_.get(), "COMMIT"));
    // Some failures have rolled back already.
    if (!status.ok() && sqlite3_get_autocommit(database_.get()) == 0)
      CHORUS_TRY(Named(name, Run(database_.get(), "ROLLBACK")));
    return status;
  }
  bool shared() const override { return false; }

 private:
  static Status Named(std::string_view name, Status status) {
    if (status.ok()) return status;
    return Status(status.code(), std::string(name) + ": " + status.message());
  }

  std::mutex mutex_;
  FileLock lock_;  // outlives the database
  Database database_;
};

// Makes commits durable, and damage noticed.
Status Configure(sqlite3* database) {
  // Somebody who looks at the file, or a backup, may hold a lock for a moment.
  sqlite3_busy_timeout(database, kBusyMilliseconds);
  CHORUS_TRY(Run(database, "PRAGMA trusted_schema = OFF"));
  CHORUS_TRY(Run(database, "PRAGMA cell_size_check = ON"));
  CHORUS_TRY_ASSIGN(const std::string mode, Text(database, "PRAGMA journal_mode = WAL"));
  if (mode != "wal")
    return Unavailable("the store's file system cannot hold a write-ahead log: use another");
  CHORUS_TRY(Run(database, ("PRAGMA journal_size_limit = " + std::string(kLogBytesKept)).c_str()));
  CHORUS_TRY(Run(database, "PRAGMA synchronous = FULL"));
  return Run(database, "PRAGMA foreign_keys = ON");
}

// Inside a transaction: brings the schema to this version's.
Status Migrate(sqlite3* database) {
  CHORUS_TRY_ASSIGN(const uint64_t version, Number(database, "PRAGMA user_version"));
  CHORUS_TRY_ASSIGN(const uint64_t application, Number(database, "PRAGMA application_id"));
  CHORUS_TRY_ASSIGN(const uint64_t objects, Number(database, "SELECT count(*) FROM sqlite_schema"));
  if (application != (objects == 0 ? 0 : kApplication))
    return FailedPrecondition("the store's file belongs to another program: name another file");
  if (version > kSchemaVersion)
    return FailedPrecondition("the store was written by a newer version of chorus: update");
  for (uint64_t next = version; next < kSchemaVersion; ++next) {
    const int result = sqlite3_exec(database, kMigrations[next], nullptr, nullptr, nullptr);
    if (result != SQLITE_OK) return StatusOf(database, result);
  }
  const std::string marks = "PRAGMA user_version = " + std::to_string(kSchemaVersion);
  CHORUS_TRY(Run(database, marks.c_str()));
  return Run(database, ("PRAGMA application_id = " + std::to_string(kApplication)).c_str());
}

}  // namespace

Result<std::unique_ptr<Store>> NewSqliteStore(const std::string& path) {
  if (path.empty() || path == ":memory:")
    return InvalidArgument("the store needs the name of a file");
  // One file is one store, by whatever links it is reached.
  std::error_code unresolved;
  const std::filesystem::path file = std::filesystem::weakly_canonical(path, unresolved);
  CHORUS_TRY_ASSIGN(FileLock lock, FileLock::Take((unresolved ? path : file.string()) + "-lock"));
  sqlite3* raw = nullptr;
  const int result = sqlite3_open_v2(
      path.c_str(), &raw,
      SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE,
      nullptr);
  Database database(raw);
  if (raw == nullptr) return ResourceExhausted("the store is out of memory");
  if (result != SQLITE_OK) return StatusOf(raw, result);
  CHORUS_TRY(Configure(raw));
  CHORUS_TRY(Run(raw, "BEGIN IMMEDIATE"));
  CHORUS_TRY(Migrate(raw));
  CHORUS_TRY(Run(raw, "COMMIT"));
  return std::unique_ptr<Store>(
      std::make_unique<SqliteStore>(std::move(lock), std::move(database)));
}

}  // namespace chorus
