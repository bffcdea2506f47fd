// SQLite in terms of Status and SqlRow.
#pragma once

#include <sqlite3.h>

#include <cerrno>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <variant>

#include "chorus/bytes.h"
#include "chorus/status.h"
#include "coordinator/sql_transaction.h"

namespace chorus::coordinator::sqlite {

inline constexpr int64_t kApplication = 0x43484F52;  // "CHOR", in the file's header

struct CloseDatabase {
  void operator()(sqlite3* database) const { sqlite3_close_v2(database); }
};
using Database = std::unique_ptr<sqlite3, CloseDatabase>;

// A failure of SQLite in words. SQLite's own text names tables and columns, never their content.
inline Status StatusOf(sqlite3* database, int result) {
  const int cause = sqlite3_system_errno(database);
  switch (result & 0xFF) {
    case SQLITE_FULL:
      return ResourceExhausted("the disk is full: make room for the store");
    case SQLITE_NOMEM:
      return ResourceExhausted("the store is out of memory");
    case SQLITE_CORRUPT:
      return DataLoss("the store's file is damaged: restore it from a backup");
    case SQLITE_NOTADB:
      return DataLoss("the store's file is not a database");
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return Unavailable(
          "another program holds the store's file: a tool that looks into it, or one that copies "
          "it");
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

// One statement, bound from left to right and then stepped from row to row. Bound bytes and text
// must outlive it.
class Statement final : public SqlRow {
 public:
  Statement(sqlite3* database, const char* sql) : database_(database) {
    result_ = sqlite3_prepare_v2(database, sql, -1, &statement_, nullptr);
  }
  ~Statement() override { sqlite3_finalize(statement_); }
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;

  Statement& Bind(const SqlValue& value) {
    const int place = ++bound_;
    if (const auto* number = std::get_if<uint64_t>(&value))
      return Bound(sqlite3_bind_int64(statement_, place, static_cast<int64_t>(*number)));
    if (const auto* number = std::get_if<double>(&value))
      return Bound(sqlite3_bind_double(statement_, place, *number));
    // A null pointer would bind NULL.
    if (const auto* text = std::get_if<std::string_view>(&value)) {
      return Bound(sqlite3_bind_text64(statement_, place, text->empty() ? "" : text->data(),
                                       text->size(), SQLITE_STATIC, SQLITE_UTF8));
    }
    const BytesView bytes = std::get<BytesView>(value);
    const void* data = bytes.empty() ? static_cast<const void*>("") : bytes.data();
    return Bound(sqlite3_bind_blob64(statement_, place, data, bytes.size(), SQLITE_STATIC));
  }

  // True: there is a row to read. False: done.
  Result<bool> Step() {
    if (result_ == SQLITE_OK) result_ = sqlite3_step(statement_);
    const int result = std::exchange(result_, SQLITE_OK);
    read_ = 0;
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

  // Whether running it could not have changed the database; false when it does not parse.
  bool only_reads() const {
    return statement_ != nullptr && sqlite3_stmt_readonly(statement_) != 0;
  }

  uint64_t TakeU64() override {
    return static_cast<uint64_t>(sqlite3_column_int64(statement_, read_++));
  }
  double TakeDouble() override {
    const int column = read_++;
    if (sqlite3_column_type(statement_, column) == SQLITE_NULL)
      return std::numeric_limits<double>::quiet_NaN();
    return sqlite3_column_double(statement_, column);
  }
  // Good until the next Step.
  BytesView TakeView() override {
    const int column = read_++;
    const void* data = sqlite3_column_blob(statement_, column);
    const int size = sqlite3_column_bytes(statement_, column);
    return {static_cast<const uint8_t*>(data), data == nullptr ? 0 : static_cast<size_t>(size)};
  }

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

inline Status Run(sqlite3* database, const char* sql) { return Statement(database, sql).Run(); }
// The first column of the first row; 0 and empty when there is none.
inline Result<uint64_t> Number(sqlite3* database, const char* sql) {
  Statement statement(database, sql);
  CHORUS_TRY_ASSIGN(const bool row, statement.Step());
  return row ? statement.TakeU64() : 0;
}
inline Result<std::string> Text(sqlite3* database, const char* sql) {
  Statement statement(database, sql);
  CHORUS_TRY_ASSIGN(const bool row, statement.Step());
  return row ? statement.TakeText() : std::string();
}

}  // namespace chorus::coordinator::sqlite
