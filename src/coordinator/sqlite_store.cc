#include <sqlite3.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <limits>
#include <memory>
#include <mutex>
#include <string>
#include <system_error>
#include <utility>

#include "base/codec.h"
#include "base/limits.h"
#include "chorus/store.h"
#include "crypto/crypto.h"

namespace chorus {
namespace {

constexpr int64_t kApplication = 0x43484F52;  // "CHOR", in the file's header
// A large model passes through the write-ahead log once; the file shrinks to this afterwards.
constexpr std::string_view kLogBytesKept = "67108864";

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
     "ALTER TABLE round ADD COLUMN answers BLOB NOT NULL DEFAULT x'';")};
constexpr int64_t kSchemaVersion = std::size(kMigrations);

struct CloseDatabase {
  void operator()(sqlite3* database) const { sqlite3_close_v2(database); }
};
using Database = std::unique_ptr<sqlite3, CloseDatabase>;

// A failure of SQLite in words. SQLite's own text names tables and columns, never their content.
Status StatusOf(sqlite3* database, int result) {
  const int cause = sqlite3_system_errno(database);
  switch (result & 0xFF) {
    case SQLITE_FULL:
      return ResourceExhausted("the disk is full: make room for the store");
    case SQLITE_NOMEM:
      return ResourceExhausted("the store is out of memory");
    case SQLITE_CORRUPT:
      return DataLoss("the store's file is damaged: restore it from a copy");
    case SQLITE_NOTADB:
      return DataLoss("the store's file is not a database");
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return FailedPrecondition("the store is in use by another coordinator");
    case SQLITE_IOERR:
      if (cause == ENOSPC || cause == EDQUOT || cause == EFBIG)
        return ResourceExhausted("the store's file may not grow: the disk or its quota is full");
      break;
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
    case SQLITE_READONLY:
    case SQLITE_AUTH:
      break;
    default:
      return Internal(std::string("the store refused a statement: ") + sqlite3_errmsg(database));
  }
  std::string reason = sqlite3_errstr(result);
  if (cause != 0) reason += ", " + std::system_category().message(cause);
  return Unavailable("the store's file cannot be used: " + reason);
}

// One statement, bound from left to right and then stepped. Bound bytes and text must outlive it.
class Statement {
 public:
  Statement(sqlite3* database, const char* sql) : database_(database) {
    result_ = sqlite3_prepare_v2(database, sql, -1, &statement_, nullptr);
  }
  ~Statement() { sqlite3_finalize(statement_); }
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;

  Statement& Bind(BytesView bytes) {
    // A null pointer would bind NULL.
    const void* data = bytes.empty() ? static_cast<const void*>("") : bytes.data();
    return Bound(sqlite3_bind_blob64(statement_, ++bound_, data, bytes.size(), SQLITE_STATIC));
  }
  Statement& Bind(const std::string& text) {
    return Bound(sqlite3_bind_text64(statement_, ++bound_, text.data(), text.size(), SQLITE_STATIC,
                                     SQLITE_UTF8));
  }
  // Counts above 2^63 come back as they went in, as SQLite's negative numbers.
  Statement& Bind(uint64_t number) {
    return Bound(sqlite3_bind_int64(statement_, ++bound_, static_cast<int64_t>(number)));
  }
  Statement& Bind(double number) {
    return Bound(sqlite3_bind_double(statement_, ++bound_, number));
  }

  // True: there is a row to read. False: done.
  Result<bool> Step() {
    if (result_ == SQLITE_OK) result_ = sqlite3_step(statement_);
    const int result = std::exchange(result_, SQLITE_OK);
    if (result == SQLITE_ROW) return true;
    if (result == SQLITE_DONE) return false;
    return StatusOf(database_, result);
  }
  // For a statement whose rows, if any, are of no interest.
  Status Run() {
    CHORUS_TRY_ASSIGN(bool row, Step());
    while (row) {
      CHORUS_TRY_ASSIGN(row, Step());
    }
    return OkStatus();
  }

  // The row's columns from left to right.
  uint64_t TakeU64() { return static_cast<uint64_t>(sqlite3_column_int64(statement_, read_++)); }
  uint32_t TakeU32() { return static_cast<uint32_t>(TakeU64()); }
  double TakeDouble() {
    const int column = read_++;
    if (sqlite3_column_type(statement_, column) == SQLITE_NULL)
      return std::numeric_limits<double>::quiet_NaN();
    return sqlite3_column_double(statement_, column);
  }
  // Points into the row: good until the next Step.
  BytesView TakeView() {
    const int column = read_++;
    const void* data = sqlite3_column_blob(statement_, column);
    const int size = sqlite3_column_bytes(statement_, column);
    return {static_cast<const uint8_t*>(data), data == nullptr ? 0 : static_cast<size_t>(size)};
  }
  Bytes TakeBytes() {
    const BytesView view = TakeView();
    return Bytes(view.begin(), view.end());
  }
  std::string TakeText() {
    const BytesView view = TakeView();
    return std::string(view.begin(), view.end());
  }
  template <size_t N>
  Status Take(std::array<uint8_t, N>& out) {
    const BytesView view = TakeView();
    if (view.size() != N) return DataLoss("a row of the store is damaged: a value is too short");
    std::memcpy(out.data(), view.data(), N);
    return OkStatus();
  }
  // Zeros for a digest of nothing, which is stored as no bytes.
  Status TakeOptional(Digest& out) {
    if (sqlite3_column_bytes(statement_, read_) > 0) return Take(out);
    ++read_;
    out = {};
    return OkStatus();
  }
  void NextRow() { read_ = 0; }

 private:
  Statement& Bound(int result) {
    if (result_ == SQLITE_OK) result_ = result;
    return *this;
  }

  sqlite3* database_;
  sqlite3_stmt* statement_ = nullptr;
  int result_ = SQLITE_OK;
  int bound_ = 0;
  int read_ = 0;
};

// As TakeOptional reads it.
BytesView Optional(const Digest& digest) {
  return digest == Digest{} ? BytesView() : BytesView(digest);
}

Status Run(sqlite3* database, const char* sql) { return Statement(database, sql).Run(); }

// Dropouts are a short list that nobody searches: one value.
Bytes EncodeDropouts(const std::vector<uint32_t>& dropouts) {
  Writer writer;
  for (const uint32_t count : dropouts) writer.U32(count);
  return std::move(writer).Take();
}

Status DecodeDropouts(BytesView bytes, std::vector<uint32_t>& dropouts) {
  Reader reader(bytes);
  while (reader.left() > 0 && !reader.failed()) dropouts.push_back(reader.U32());
  if (reader.failed()) return DataLoss("a row of the store is damaged: a value is cut short");
  return OkStatus();
}

Status ReadRound(Statement& row, RoundReport& report) {
  row.NextRow();
  report.round = row.TakeU64();
  const uint64_t state = row.TakeU64();
  const uint64_t code = row.TakeU64();
  if (state > static_cast<uint64_t>(RoundState::kAborted) ||
      code > static_cast<uint64_t>(Code::kUnauthenticated))
    return DataLoss("a row of the store is damaged: a value is out of range");
  report.state = static_cast<RoundState>(state);
  report.code = static_cast<Code>(code);
  report.reason = row.TakeText();
  CHORUS_TRY(row.Take(report.model));
  report.invited = row.TakeU32();
  report.contributors = row.TakeU32();
  report.refused = row.TakeU32();
  CHORUS_TRY(DecodeDropouts(row.TakeView(), report.dropouts));
  report.bytes_up = row.TakeU64();
  report.bytes_down = row.TakeU64();
  report.duration_ms = row.TakeU64();
  report.examples = row.TakeU64();
  report.loss = row.TakeDouble();
  report.accuracy = row.TakeDouble();
  report.evaluated = row.TakeU64();
  report.cohorts = row.TakeU32();
  report.cohorts_committed = row.TakeU32();
  return row.TakeOptional(report.answers);
}

Status ReadEvidence(Statement& row, Evidence& evidence) {
  row.NextRow();
  evidence.round = row.TakeU64();
  evidence.cohort = row.TakeU32();
  CHORUS_TRY(row.Take(evidence.identity));
  CHORUS_TRY(row.Take(evidence.first.message));
  CHORUS_TRY(row.Take(evidence.first.signature));
  CHORUS_TRY(row.Take(evidence.second.message));
  return row.Take(evidence.second.signature);
}

class SqliteTransaction final : public Transaction {
 public:
  explicit SqliteTransaction(sqlite3* database) : database_(database) {}

  Result<std::optional<TaskRecord>> FindTask(const TaskId& id) override {
    Statement find(database_,
                   "SELECT id, name, spec, model, rounds_begun, rounds_committed, server_state"
                   " FROM task WHERE id = ?");
    CHORUS_TRY_ASSIGN(const bool found, find.Bind(id).Step());
    if (!found) return std::optional<TaskRecord>();
    TaskRecord task;
    CHORUS_TRY(find.Take(task.id));
    task.name = find.TakeText();
    task.spec = find.TakeBytes();
    CHORUS_TRY(find.Take(task.model));
    task.rounds_begun = find.TakeU64();
    task.rounds_committed = find.TakeU64();
    CHORUS_TRY(find.TakeOptional(task.server_state));
    return std::optional<TaskRecord>(std::move(task));
  }

  Status PutTask(const TaskRecord& task) override {
    // Not REPLACE, which would delete the row that rounds refer to.
    Statement put(database_,
                  "INSERT INTO task (id, name, spec, model, rounds_begun, rounds_committed,"
                  " server_state) VALUES (?, ?, ?, ?, ?, ?, ?)"
                  " ON CONFLICT (id) DO UPDATE SET name = excluded.name,"
                  " spec = excluded.spec, model = excluded.model,"
                  " rounds_begun = excluded.rounds_begun,"
                  " rounds_committed = excluded.rounds_committed,"
                  " server_state = excluded.server_state");
    put.Bind(task.id).Bind(task.name).Bind(task.spec).Bind(task.model);
    put.Bind(task.rounds_begun).Bind(task.rounds_committed);
    return Written(put.Bind(Optional(task.server_state)).Run());
  }

  Status PutRound(const TaskId& task, const RoundReport& round) override {
    CHORUS_TRY(CheckKnown(task, round.round));
    const Bytes dropouts = EncodeDropouts(round.dropouts);
    Statement put(database_,
                  "REPLACE INTO round (task, round, state, code, reason, model, invited,"
                  " contributors, refused, dropouts, bytes_up, bytes_down, duration_ms, examples,"
                  " loss, accuracy, evaluated, cohorts, cohorts_committed, answers)"
                  " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)");
    put.Bind(task).Bind(round.round).Bind(static_cast<uint64_t>(round.state));
    put.Bind(static_cast<uint64_t>(round.code)).Bind(round.reason).Bind(round.model);
    put.Bind(uint64_t{round.invited}).Bind(uint64_t{round.contributors});
    put.Bind(uint64_t{round.refused}).Bind(dropouts).Bind(round.bytes_up).Bind(round.bytes_down);
    put.Bind(round.duration_ms).Bind(round.examples).Bind(round.loss).Bind(round.accuracy);
    put.Bind(round.evaluated).Bind(uint64_t{round.cohorts});
    put.Bind(uint64_t{round.cohorts_committed});
    return Written(put.Bind(Optional(round.answers)).Run());
  }

  Result<std::vector<RoundReport>> Rounds(const TaskId& task, uint64_t first,
                                          uint32_t count) override {
    std::vector<RoundReport> reports;
    if (first > INT64_MAX) return reports;
    Statement find(database_,
                   "SELECT round, state, code, reason, model, invited, contributors, refused,"
                   " dropouts, bytes_up, bytes_down, duration_ms, examples, loss, accuracy,"
                   " evaluated, cohorts, cohorts_committed, answers FROM round"
                   " WHERE task = ? AND round >= ? ORDER BY round LIMIT ?");
    find.Bind(task).Bind(first).Bind(uint64_t{count});
    while (true) {
      CHORUS_TRY_ASSIGN(const bool row, find.Step());
      if (!row) return reports;
      CHORUS_TRY(ReadRound(find, reports.emplace_back()));
    }
  }

  Status PutEvidence(const TaskId& task, const Evidence& evidence) override {
    CHORUS_TRY(CheckKnown(task, evidence.round));
    Statement put(database_,
                  "INSERT OR IGNORE INTO evidence (task, round, cohort, identity, first_message,"
                  " first_signature, second_message, second_signature)"
                  " VALUES (?, ?, ?, ?, ?, ?, ?, ?)");
    put.Bind(task).Bind(evidence.round).Bind(uint64_t{evidence.cohort}).Bind(evidence.identity);
    put.Bind(evidence.first.message).Bind(evidence.first.signature);
    return Written(put.Bind(evidence.second.message).Bind(evidence.second.signature).Run());
  }

  Result<std::vector<Evidence>> ListEvidence(const TaskId& task, uint32_t count) override {
    std::vector<Evidence> list;
    Statement find(database_,
                   "SELECT round, cohort, identity, first_message, first_signature,"
                   " second_message, second_signature FROM evidence WHERE task = ?"
                   " ORDER BY round DESC, cohort, identity LIMIT ?");
    find.Bind(task).Bind(uint64_t{count});
    while (true) {
      CHORUS_TRY_ASSIGN(const bool row, find.Step());
      if (!row) return list;
      CHORUS_TRY(ReadEvidence(find, list.emplace_back()));
    }
  }

  Status PutModel(const Digest& hash, BytesView bytes) override {
    CHORUS_TRY_ASSIGN(const bool known,
                      Statement(database_, "SELECT 1 FROM model WHERE hash = ?").Bind(hash).Step());
    if (known) return OkStatus();
    if (crypto::Sha256(bytes) != hash)
      return InvalidArgument("the model does not hash to the name it is put under");
    Statement put(database_, "INSERT INTO model (hash, size) VALUES (?, ?)");
    CHORUS_TRY(Written(put.Bind(hash).Bind(uint64_t{bytes.size()}).Run()));
    for (uint64_t chunk = 0; !bytes.empty(); ++chunk) {
      const BytesView piece = bytes.first(std::min(bytes.size(), limits::kChunkBytesMax));
      bytes = bytes.subspan(piece.size());
      Statement add(database_, "INSERT INTO model_chunk (hash, chunk, bytes) VALUES (?, ?, ?)");
      CHORUS_TRY(Written(add.Bind(hash).Bind(chunk).Bind(piece).Run()));
    }
    return OkStatus();
  }

  Result<Bytes> GetModel(const Digest& hash) override {
    // The sizes are compared before anything of that size is allocated.
    Statement find(database_,
                   "SELECT size, (SELECT ifnull(sum(length(bytes)), 0) FROM model_chunk"
                   " WHERE model_chunk.hash = model.hash) FROM model WHERE hash = ?");
    CHORUS_TRY_ASSIGN(const bool found, find.Bind(hash).Step());
    if (!found) return NotFound("the store has no such model");
    const uint64_t size = find.TakeU64();
    if (find.TakeU64() != size || size > limits::kTransferBytesMax) return Damaged();
    Bytes bytes;
    bytes.reserve(size);
    Statement chunks(database_, "SELECT bytes FROM model_chunk WHERE hash = ? ORDER BY chunk");
    chunks.Bind(hash);
    while (true) {
      CHORUS_TRY_ASSIGN(const bool row, chunks.Step());
      if (!row) break;
      chunks.NextRow();
      const BytesView piece = chunks.TakeView();
      bytes.insert(bytes.end(), piece.begin(), piece.end());
    }
    if (crypto::Sha256(bytes) != hash) return Damaged();
    return bytes;
  }

  Status DropModel(const Digest& hash) override {
    Statement chunks(database_, "DELETE FROM model_chunk WHERE hash = ?");
    CHORUS_TRY(Written(chunks.Bind(hash).Run()));
    return Written(Statement(database_, "DELETE FROM model WHERE hash = ?").Bind(hash).Run());
  }

  // The first write that SQLite failed: then what came before it may be gone as well.
  const Status& failed() const { return failed_; }

 private:
  Status CheckKnown(const TaskId& task, uint64_t round) {
    if (round > INT64_MAX) return InvalidArgument("a round's number is below 2^63");
    CHORUS_TRY_ASSIGN(const bool known,
                      Statement(database_, "SELECT 1 FROM task WHERE id = ?").Bind(task).Step());
    return known ? OkStatus() : NotFound("the store has no such task: put it before its rounds");
  }
  static Status Damaged() {
    return DataLoss("a model of the store is damaged: restore the file from a copy");
  }
  Status Written(Status status) {
    if (failed_.ok()) failed_ = status;
    return status;
  }

  sqlite3* database_;
  Status failed_;
};

class SqliteStore final : public Store {
 public:
  explicit SqliteStore(Database database) : database_(std::move(database)) {}

  Status RunTransaction(std::string_view name,
                        const std::function<Status(Transaction&)>& function) override {
    const std::lock_guard lock(mutex_);
    CHORUS_TRY(Named(name, Run(database_.get(), "BEGIN IMMEDIATE")));
    SqliteTransaction transaction(database_.get());
    Status status = function(transaction);
    if (status.ok()) status = Named(name, transaction.failed());
    if (status.ok()) status = Named(name, Run(database_.get(), "COMMIT"));
    // Some failures have rolled back already.
    if (!status.ok() && sqlite3_get_autocommit(database_.get()) == 0)
      CHORUS_TRY(Named(name, Run(database_.get(), "ROLLBACK")));
    return status;
  }

 private:
  static Status Named(std::string_view name, Status status) {
    if (status.ok()) return status;
    return Status(status.code(), std::string(name) + ": " + status.message());
  }

  std::mutex mutex_;
  Database database_;
};

Result<uint64_t> Number(sqlite3* database, const char* sql) {
  Statement statement(database, sql);
  CHORUS_TRY_ASSIGN(const bool row, statement.Step());
  return row ? statement.TakeU64() : 0;
}

Result<std::string> Text(sqlite3* database, const char* sql) {
  Statement statement(database, sql);
  CHORUS_TRY_ASSIGN(const bool row, statement.Step());
  return row ? statement.TakeText() : std::string();
}

// Takes the file for this coordinator alone, until it is closed, and makes commits durable.
Status Configure(sqlite3* database) {
  CHORUS_TRY(Run(database, "PRAGMA locking_mode = EXCLUSIVE"));
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
  return std::unique_ptr<Store>(std::make_unique<SqliteStore>(std::move(database)));
}

}  // namespace chorus
