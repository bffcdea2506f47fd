// A store in PostgreSQL, or in any engine that speaks its protocol with serialisable transactions.
// So that such engines will do, there is nothing here but tables, statements and SQLSTATEs: no
// notification, no advisory lock.
#include <algorithm>
#include <condition_variable>
#include <iterator>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/random.h"
#include "chorus/store.h"
#include "coordinator/postgres_connection.h"
#include "coordinator/sql_transaction.h"
#include "crypto/crypto.h"

namespace chorus {
namespace {

namespace postgres = coordinator::postgres;
using coordinator::SqlRow;
using coordinator::SqlTransaction;
using coordinator::SqlValue;
using coordinator::postgres::Connection;
using coordinator::postgres::Trouble;

constexpr Time kBackoffFirst{2};
constexpr Time kBackoffMax{500};
constexpr size_t kClientBytes = 16;
constexpr size_t kSchemaCharactersMax = 63;  // PostgreSQL's NAMEDATALEN - 1
// What a server holds for a client that hangs is freed after these.
constexpr const char* kSessionSettings =
    "SET statement_timeout = 20000; SET lock_timeout = 5000;"
    " SET idle_in_transaction_session_timeout = 60000";
constexpr const char* kBegin = "BEGIN ISOLATION LEVEL SERIALIZABLE";

// What takes a schema from each version to the next, the first from an empty one. Never edited,
// only added to. Names and reasons are bytes, since text can hold neither zeros nor what is not
// UTF-8.
constexpr const char* kMigrations[] = {
    "CREATE TABLE task ("
    "  id BYTEA PRIMARY KEY, name BYTEA NOT NULL, spec BYTEA NOT NULL, model BYTEA NOT NULL,"
    "  rounds_begun BIGINT NOT NULL, rounds_committed BIGINT NOT NULL,"
    "  server_state BYTEA NOT NULL, mode BIGINT NOT NULL, priority BIGINT NOT NULL);"
    "CREATE TABLE round ("
    "  task BYTEA NOT NULL, round BIGINT NOT NULL, state BIGINT NOT NULL, code BIGINT NOT NULL,"
    "  reason BYTEA NOT NULL, model BYTEA NOT NULL, invited BIGINT NOT NULL,"
    "  contributors BIGINT NOT NULL, refused BIGINT NOT NULL, dropouts BYTEA NOT NULL,"
    "  bytes_up BIGINT NOT NULL, bytes_down BIGINT NOT NULL, duration_ms BIGINT NOT NULL,"
    "  examples BIGINT NOT NULL, loss DOUBLE PRECISION NOT NULL,"
    "  accuracy DOUBLE PRECISION NOT NULL, evaluated BIGINT NOT NULL, cohorts BIGINT NOT NULL,"
    "  cohorts_committed BIGINT NOT NULL, answers BYTEA NOT NULL, result BYTEA NOT NULL,"
    "  PRIMARY KEY (task, round));"
    "CREATE INDEX round_result ON round (result);"
    "CREATE INDEX round_answers ON round (answers) WHERE length(answers) > 0;"
    "CREATE TABLE evidence ("
    "  task BYTEA NOT NULL, round BIGINT NOT NULL, cohort BIGINT NOT NULL,"
    "  identity BYTEA NOT NULL, first_message BYTEA NOT NULL, first_signature BYTEA NOT NULL,"
    "  second_message BYTEA NOT NULL, second_signature BYTEA NOT NULL,"
    "  PRIMARY KEY (task, round, cohort, identity));"
    "CREATE TABLE model (hash BYTEA PRIMARY KEY, size BIGINT NOT NULL);"
    "CREATE TABLE model_chunk ("
    "  hash BYTEA NOT NULL, chunk BIGINT NOT NULL, bytes BYTEA NOT NULL,"
    "  PRIMARY KEY (hash, chunk));"
    "CREATE TABLE audit ("
    "  task BYTEA NOT NULL, number BIGINT NOT NULL, unix_seconds BIGINT NOT NULL,"
    "  action BIGINT NOT NULL, actor BYTEA NOT NULL, round BIGINT NOT NULL, model BYTEA NOT NULL,"
    "  priority BIGINT NOT NULL, reason BYTEA NOT NULL, previous BYTEA NOT NULL,"
    "  signature BYTEA NOT NULL, PRIMARY KEY (task, number));"
    "CREATE TABLE process ("
    "  name BYTEA PRIMARY KEY, address BYTEA NOT NULL, seen BIGINT NOT NULL);"
    "CREATE TABLE cohort ("
    "  task BYTEA NOT NULL, round BIGINT NOT NULL, cohort BIGINT NOT NULL,"
    "  process BYTEA NOT NULL, lease_until BIGINT NOT NULL, state BIGINT NOT NULL,"
    "  report BYTEA NOT NULL, sum BYTEA NOT NULL, PRIMARY KEY (task, round, cohort));"
    "CREATE TABLE claim ("
    "  task BYTEA NOT NULL, round BIGINT NOT NULL, identity BYTEA NOT NULL,"
    "  cohort BIGINT NOT NULL, PRIMARY KEY (task, round, identity));"
    // The last transaction that each client is known to have committed.
    "CREATE TABLE last_commit ("
    "  client BYTEA PRIMARY KEY, number BIGINT NOT NULL, day BIGINT NOT NULL);"};
constexpr int64_t kSchemaVersion = std::size(kMigrations);

const auto kIgnoreRows = [](SqlRow&) { return OkStatus(); };

bool IsSchemaName(const std::string& name) {
  const auto fits = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
  };
  return !name.empty() && name.size() <= kSchemaCharactersMax &&
         std::all_of(name.begin(), name.end(), fits);
}

class PostgresSession final : public coordinator::SqlSession {
 public:
  explicit PostgresSession(Connection& connection) : connection_(connection) {}

  Status Run(const char* sql, std::initializer_list<SqlValue> values,
             const std::function<Status(SqlRow&)>& row) override {
    // After a failed statement the server refuses all others, for a reason that says nothing.
    CHORUS_TRY(failed_);
    Status status = connection_.Query(sql, {values.begin(), values.size()}, row);
    if (!status.ok() && connection_.trouble() != Trouble::kNone) failed_ = status;
    return status;
  }
  const char* now_sql() const override {
    return "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)";
  }

  // The first statement that the server failed.
  const Status& failed() const { return failed_; }

 private:
  Connection& connection_;
  Status failed_;
};

// One of a process's ways to the server.
struct Client {
  std::array<uint8_t, kClientBytes> name{};  // in last_commit
  std::unique_ptr<Connection> connection;    // null: to be opened
  uint64_t commits = 0;                      // number of the last commit that was tried
  bool unknown = false;                      // whether that one was done
};

class PostgresStore final : public Store {
 public:
  explicit PostgresStore(PostgresOptions options)
      : options_(std::move(options)), clock_(NewSystemClock()), rng_(crypto::NewSystemRng()) {
    for (size_t i = 0; i < postgres::kConnectionsMax; ++i) {
      clients_.push_back(std::make_unique<Client>());
      rng_->Fill(clients_.back()->name);
    }
  }

  // Connects, and brings the schema to this version's.
  Status Start();
  Status RunTransaction(std::string_view name,
                        const std::function<Status(Transaction&)>& function) override;
  bool shared() const override { return true; }

 private:
  // What one attempt came to. Without trouble the status is the transaction's.
  struct Attempt {
    Trouble trouble = Trouble::kNone;
    Status status;
  };
  Attempt Try(Client& client, const std::function<Status(Transaction&)>& function);
  Attempt Commit(Client& client);
  Attempt Connect(Client& client);
  Attempt FindOut(Client& client, bool& done);
  static Attempt AttemptOf(Client& client, Status status);
  Status Migrate(Connection& connection) const;
  Status MarkCommit(Client& client, uint64_t number) const;

  std::unique_ptr<Client> TakeClient();
  void GiveBack(std::unique_ptr<Client> client);
  void Pause(uint32_t attempts);

  const PostgresOptions options_;
  const std::unique_ptr<Clock> clock_;
  std::mutex mutex_;  // over what follows
  std::condition_variable free_;
  const std::unique_ptr<Rng> rng_;
  std::vector<std::unique_ptr<Client>> clients_;  // that no transaction uses
};

// The connection's trouble, and when that is gone, the connection as well.
PostgresStore::Attempt PostgresStore::AttemptOf(Client& client, Status status) {
  const Trouble trouble = status.ok() ? Trouble::kNone : client.connection->trouble();
  client.connection->ForgetTrouble();
  if (trouble == Trouble::kLost) client.connection.reset();
  return {trouble, std::move(status)};
}

// --- clients ---

std::unique_ptr<Client> PostgresStore::TakeClient() {
  std::unique_lock lock(mutex_);
  free_.wait(lock, [this] { return !clients_.empty(); });
  // The one used last, whose connection is open.
  std::unique_ptr<Client> client = std::move(clients_.back());
  clients_.pop_back();
  return client;
}

void PostgresStore::GiveBack(std::unique_ptr<Client> client) {
  const std::lock_guard lock(mutex_);
  clients_.push_back(std::move(client));
  free_.notify_one();
}

// Before another attempt: twice as long as before it, at random, so that two in each other's way
// part.
void PostgresStore::Pause(uint32_t attempts) {
  const Time longest = std::min(kBackoffMax, kBackoffFirst * (1U << std::min(attempts, 10U)));
  std::unique_lock lock(mutex_);
  const Time pause{
      1 + static_cast<Time::rep>(UniformBelow(*rng_, static_cast<uint64_t>(longest.count())))};
  std::condition_variable never;
  never.wait_for(lock, pause);
}

// --- connections ---

PostgresStore::Attempt PostgresStore::Connect(Client& client) {
  if (client.connection != nullptr) return {};
  Result<std::unique_ptr<Connection>> opened = Connection::Open(options_.connection, *clock_);
  if (!opened.ok()) {
    const bool again = opened.status().code() == Code::kUnavailable;
    return {again ? Trouble::kLost : Trouble::kOther, opened.status()};
  }
  client.connection = *std::move(opened);
  client.connection->GiveUpAt(clock_->Now() + postgres::kAttemptDeadline);
  Attempt attempt = AttemptOf(client, Migrate(*client.connection));
  // A connection without its settings is of no use.
  if (!attempt.status.ok()) client.connection.reset();
  return attempt;
}

Status PostgresStore::Migrate(Connection& connection) const {
  const std::string& schema = options_.schema;
  CHORUS_TRY(connection.Execute(kSessionSettings));
  CHORUS_TRY_ASSIGN(
      const std::string schemas,
      connection.Execute("SELECT count(*) FROM pg_namespace WHERE nspname = '" + schema + "'"));
  if (schemas == "0") CHORUS_TRY(connection.Execute("CREATE SCHEMA IF NOT EXISTS " + schema));
  CHORUS_TRY(connection.Execute("SET search_path TO " + schema));
  CHORUS_TRY_ASSIGN(const std::string tables,
                    connection.Execute("SELECT count(*) FROM pg_tables WHERE tablename ="
                                       " 'schema_version' AND schemaname = '" +
                                       schema + "'"));
  if (tables == "0") {
    CHORUS_TRY(
        connection.Execute("CREATE TABLE IF NOT EXISTS schema_version"
                           " (one BIGINT PRIMARY KEY, version BIGINT NOT NULL)"));
  }
  const std::string current = std::to_string(kSchemaVersion);
  const std::string find = "SELECT version FROM schema_version WHERE one = 1";
  CHORUS_TRY_ASSIGN(std::string found, connection.Execute(find));
  if (found == current) return OkStatus();
  // Whoever comes second waits for the row, and then starts over.
  CHORUS_TRY(connection.Execute(kBegin));
  CHORUS_TRY(connection.Execute(
      "INSERT INTO schema_version (one, version) VALUES (1, 0) ON CONFLICT DO NOTHING"));
  CHORUS_TRY_ASSIGN(found, connection.Execute(find + " FOR UPDATE"));
  const int64_t version = std::strtoll(found.c_str(), nullptr, 10);
  if (version > kSchemaVersion)
    return FailedPrecondition("the store was written by a newer version of chorus: update");
  for (int64_t next = version; next < kSchemaVersion; ++next) {
    CHORUS_TRY(connection.Execute(kMigrations[next]));
  }
  CHORUS_TRY(connection.Execute("UPDATE schema_version SET version = " + current));
  CHORUS_TRY(connection.Execute("COMMIT"));
  return OkStatus();
}

// --- transactions ---

Status PostgresStore::MarkCommit(Client& client, uint64_t number) const {
  const SqlValue values[] = {BytesView(client.name), number,
                             static_cast<uint64_t>(clock_->UnixSeconds() / (24 * 3'600))};
  return client.connection->Query(
      "INSERT INTO last_commit (client, number, day) VALUES ($1, $2, $3)"
      " ON CONFLICT (client) DO UPDATE SET number = excluded.number, day = excluded.day",
      values, kIgnoreRows);
}

// After a connection broke within a commit: whether that was done. The transaction may even be
// about to commit still; so what it would write last is written here first, which waits for it, and
// fails it or is failed by it.
PostgresStore::Attempt PostgresStore::FindOut(Client& client, bool& done) {
  Connection& connection = *client.connection;
  uint64_t last = 0;
  const auto find_out = [&]() -> Status {
    CHORUS_TRY(connection.Execute(kBegin));
    const SqlValue values[] = {BytesView(client.name)};
    CHORUS_TRY(connection.Query("SELECT number FROM last_commit WHERE client = $1", values,
                                [&](SqlRow& row) {
                                  last = row.TakeU64();
                                  return OkStatus();
                                }));
    if (last != client.commits) CHORUS_TRY(MarkCommit(client, client.commits + 1));
    return connection.Execute("COMMIT").status();
  };
  Attempt attempt = AttemptOf(client, find_out());
  if (!attempt.status.ok()) {
    if (client.connection != nullptr) AttemptOf(client, connection.Execute("ROLLBACK").status());
    return attempt;
  }
  done = last == client.commits;
  client.unknown = false;
  ++client.commits;
  return attempt;
}

PostgresStore::Attempt PostgresStore::Commit(Client& client) {
  Connection& connection = *client.connection;
  // A transaction that only read leaves no mark: whether it was committed is all the same.
  const bool marked = connection.wrote();
  if (marked) {
    ++client.commits;
    Attempt mark = AttemptOf(client, MarkCommit(client, client.commits));
    if (!mark.status.ok()) return mark;
  }
  Attempt attempt = AttemptOf(client, connection.Execute("COMMIT").status());
  if (attempt.status.ok() && client.connection->tag() != "COMMIT") {
    return {Trouble::kConflict, Unavailable("the store's server rolled the transaction back")};
  }
  client.unknown = marked && attempt.trouble == Trouble::kLost;
  return attempt;
}

PostgresStore::Attempt PostgresStore::Try(Client& client,
                                          const std::function<Status(Transaction&)>& function) {
  Attempt attempt = Connect(client);
  if (!attempt.status.ok()) return attempt;
  client.connection->GiveUpAt(clock_->Now() + postgres::kAttemptDeadline);
  if (client.unknown) {
    bool done = false;
    attempt = FindOut(client, done);
    if (done || !attempt.status.ok()) return attempt;
  }
  attempt = AttemptOf(client, client.connection->Execute(kBegin).status());
  if (!attempt.status.ok()) return attempt;
  client.connection->ForgetWrites();
  PostgresSession session(*client.connection);
  SqlTransaction transaction(session);
  Status status = function(transaction);
  if (!session.failed().ok()) {
    attempt = AttemptOf(client, session.failed());
    if (attempt.trouble == Trouble::kOther && !status.ok()) attempt.status = std::move(status);
  } else if (status.ok()) {
    attempt = Commit(client);
    if (attempt.status.ok()) return attempt;
  } else {
    attempt.status = std::move(status);
  }
  if (client.connection != nullptr) {
    // One that cannot even roll back is not used again.
    if (!AttemptOf(client, client.connection->Execute("ROLLBACK").status()).status.ok()) {
      client.connection.reset();
    }
  }
  return attempt;
}

Status PostgresStore::RunTransaction(std::string_view name,
                                     const std::function<Status(Transaction&)>& function) {
  std::unique_ptr<Client> client = TakeClient();
  const bool looks = name == "look" || name == "probe";
  const Time give_up = clock_->Now() + (looks ? postgres::kLookPatience : postgres::kPatience);
  Attempt attempt;
  for (uint32_t attempts = 0;; ++attempts) {
    const bool open = client->connection != nullptr;
    attempt = Try(*client, function);
    if (attempt.trouble != Trouble::kConflict && attempt.trouble != Trouble::kLost) break;
    if (clock_->Now() >= give_up) {
      if (client->unknown) {
        attempt.status = Unavailable(attempt.status.message() +
                                     "; whether the transaction was done is not known");
        // Finding out may have left the next number in the store, which is not to be taken for the
        // next transaction's.
        ++client->commits;
      }
      client->unknown = false;
      break;
    }
    // A connection that broke while it was idle is opened anew at once.
    if (attempts > 0 || attempt.trouble != Trouble::kLost || !open) Pause(attempts);
  }
  const bool ours = attempt.trouble != Trouble::kNone;
  GiveBack(std::move(client));
  if (!ours) return attempt.status;
  return Status(attempt.status.code(), std::string(name) + ": " + attempt.status.message());
}

Status PostgresStore::Start() {
  if (!IsSchemaName(options_.schema))
    return InvalidArgument("the store's schema is named in a-z, 0-9 and _, at most 63 of them");
  // Marks of processes of a week ago are of no use to anybody.
  const auto day = static_cast<uint64_t>(clock_->UnixSeconds() / (24 * 3'600));
  std::unique_ptr<Client> client = TakeClient();
  Attempt attempt;
  const Time give_up = clock_->Now() + postgres::kPatience;
  for (uint32_t attempts = 0;; ++attempts) {
    attempt = Connect(*client);
    // A server that is not there is reported at once: its address may be wrong.
    if (attempt.trouble != Trouble::kConflict || clock_->Now() >= give_up) break;
    Pause(attempts);
  }
  if (attempt.status.ok()) {
    const SqlValue values[] = {day - 7};
    attempt = AttemptOf(*client, client->connection->Query("DELETE FROM last_commit WHERE day < $1",
                                                           values, kIgnoreRows));
    // Another process that starts may be doing the same.
    if (attempt.trouble == Trouble::kConflict) attempt = {};
  }
  GiveBack(std::move(client));
  return attempt.status;
}

}  // namespace

Result<std::unique_ptr<Store>> NewPostgresStore(const PostgresOptions& options) {
  auto store = std::make_unique<PostgresStore>(options);
  CHORUS_TRY(store->Start());
  return std::unique_ptr<Store>(std::move(store));
}

}  // namespace chorus
