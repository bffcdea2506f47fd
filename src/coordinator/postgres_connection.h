// One connection to a PostgreSQL server, in terms of Status and SqlRow. No call waits for ever.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>

#include "chorus/host.h"
#include "chorus/status.h"
#include "coordinator/sql_transaction.h"

struct pg_conn;
struct pg_result;

namespace chorus::coordinator::postgres {

// A transaction's conflicts and lost connections are met with another attempt for so long; an
// attempt under way then still has its own deadline.
inline constexpr Time kConnectDeadline{5'000};
// Each statement is to be answered within the one, so that a server that is gone is noticed, and
// all of an attempt within the other: a large model is written in thousands of statements.
inline constexpr Time kAnswerDeadline{30'000};
inline constexpr Time kAttemptDeadline{600'000};
inline constexpr Time kPatience{10'000};
// Of those that are made again in any case: what looks how things stand is not to hold up whoever
// asks for longer.
inline constexpr Time kLookPatience{1'000};
inline constexpr size_t kConnectionsMax = 4;  // of one store

// What a failed statement means for the transaction that it was in.
enum class Trouble : uint8_t {
  kNone,
  kConflict,  // another transaction was in the way: rolled back, to be run again
  kLost,      // the connection is gone, and with it the transaction, unless it was committing
  kOther,
};

struct CloseConnection {
  void operator()(pg_conn* connection) const;
};

// Thread-compatible.
class Connection {
 public:
  // Connects within kConnectDeadline. `conninfo` is libpq's. `clock` must outlive it.
  // kUnavailable: no such server, or it refuses, with its reason; kInvalidArgument: not a conninfo.
  static Result<std::unique_ptr<Connection>> Open(const std::string& conninfo, const Clock& clock);

  // When to give up on a server though it answers; on one that does not answer a statement within
  // kAnswerDeadline that is done anyway. The connection is then lost.
  void GiveUpAt(Time deadline) { deadline_ = deadline; }

  // Runs statements without parameters; gives the first value of the last of them as text, empty
  // when it has none.
  Result<std::string> Execute(const std::string& sql);
  // Runs one statement, which stays prepared under the address of `sql`.
  Status Query(const char* sql, std::span<const SqlValue> values,
               const std::function<Status(SqlRow&)>& row);

  // Of the last failed statement since ForgetTrouble.
  Trouble trouble() const { return trouble_; }
  void ForgetTrouble() { trouble_ = Trouble::kNone; }
  // Whether a statement since ForgetWrites was other than a query.
  bool wrote() const { return wrote_; }
  void ForgetWrites() { wrote_ = false; }
  // What the server called the last statement that it ran, for example "COMMIT".
  const std::string& tag() const { return tag_; }

 private:
  Connection(std::unique_ptr<pg_conn, CloseConnection> raw, const Clock& clock);

  Status Finish(bool sent, const std::function<Status(pg_result*)>& take);
  Status Await();
  Status Lost(const std::string& reason);
  Status Failed(pg_result* result);
  Status Prepare(const char* sql, std::span<const SqlValue> values, std::string& name);

  std::unique_ptr<pg_conn, CloseConnection> raw_;
  const Clock& clock_;
  Time deadline_ = Time::max();
  Time answer_by_ = Time::max();  // of what was sent last
  std::map<const char*, std::string> prepared_;
  Trouble trouble_ = Trouble::kNone;
  bool wrote_ = false;
  std::string tag_;
};

}  // namespace chorus::coordinator::postgres
