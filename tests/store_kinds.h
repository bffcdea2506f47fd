// The stores that tests of every store run on. PostgreSQL's needs a server, which CHORUS_POSTGRES
// names; without one it is skipped.
#pragma once

#include <unistd.h>

#include <cstdlib>
#include <memory>
#include <string>
#ifdef CHORUS_WITH_POSTGRES
#include <libpq-fe.h>
#endif

#include "store_cases.h"

namespace chorus {

struct Sqlite {
  static constexpr const char* kName = "Sqlite";
  static bool here() { return true; }
  static std::unique_ptr<Store> New(const Folder& folder) { return OpenSqlite(folder.File()); }
};
struct Memory {
  static constexpr const char* kName = "Memory";
  static bool here() { return true; }
  static std::unique_ptr<Store> New(const Folder&) { return NewMemoryStore(); }
};

#ifdef CHORUS_WITH_POSTGRES
inline const char* PostgresUri() { return std::getenv("CHORUS_POSTGRES"); }

// The process's schema in the database of CHORUS_POSTGRES, emptied.
inline PostgresOptions FreshSchema() {
  PostgresOptions options{.connection = PostgresUri(),
                          .schema = "chorus_test_" + std::to_string(getpid())};
  PGconn* const connection = PQconnectdb(PostgresUri());
  EXPECT_EQ(PQstatus(connection), CONNECTION_OK) << PQerrorMessage(connection);
  PQclear(PQexec(connection, "SET client_min_messages = error"));
  PGresult* const result =
      PQexec(connection, ("DROP SCHEMA IF EXISTS " + options.schema + " CASCADE").c_str());
  EXPECT_EQ(PQresultStatus(result), PGRES_COMMAND_OK) << PQerrorMessage(connection);
  PQclear(result);
  PQfinish(connection);
  return options;
}

inline std::unique_ptr<Store> OpenPostgres(const PostgresOptions& options) {
  Result<std::unique_ptr<Store>> store = NewPostgresStore(options);
  EXPECT_THAT(store, IsOk());
  return store.ok() ? *std::move(store) : nullptr;
}

struct Postgres {
  static constexpr const char* kName = "Postgres";
  static bool here() { return PostgresUri() != nullptr; }
  static std::unique_ptr<Store> New(const Folder&) { return OpenPostgres(FreshSchema()); }
};
using EveryKind = testing::Types<Sqlite, Memory, Postgres>;
#else
using EveryKind = testing::Types<Sqlite, Memory>;
#endif

struct KindName {
  template <typename Kind>
  static std::string GetName(int) {
    return Kind::kName;
  }
};

template <typename Kind>
class StoreOfAKind : public testing::Test {
 protected:
  void SetUp() override {
    if (!Kind::here()) GTEST_SKIP() << "CHORUS_POSTGRES names no server";
    store_ = Kind::New(folder_);
    ASSERT_NE(store_, nullptr);
  }
  Folder folder_;
  std::unique_ptr<Store> store_;
};

}  // namespace chorus
