#include "cli/store.h"

#include <CLI/CLI.hpp>
#include <string_view>

#include "cli/files.h"

namespace chorus::cli {
namespace {

constexpr std::string_view kSqlite = "sqlite:";

bool IsPostgres(const std::string& store) {
  return store.starts_with("postgresql://") || store.starts_with("postgres://");
}

Status CheckOne(const StorePlace& place) {
  if (place.state.empty() == place.store.empty()) {
    return InvalidArgument("name where the coordinator's state is, with --state or with --store");
  }
  const bool known =
      place.store.empty() || place.store.starts_with(kSqlite) || IsPostgres(place.store);
  if (!known) {
    return InvalidArgument("--store is sqlite:FILE or postgresql://USER@HOST/DATABASE");
  }
  return OkStatus();
}

}  // namespace

void AddStoreOptions(CLI::App& app, StorePlace& place) {
  app.add_option(
      "--state", place.state,
      "Folder of the coordinator's state: short for --store sqlite:FOLDER/coordinator.db");
  app.add_option("--store", place.store,
                 "The coordinator's state: sqlite:FILE, or postgresql://USER@HOST/DATABASE, which "
                 "several coordinators may share. A password is best left to ~/.pgpass.");
}

Result<std::string> SqliteFileOf(const StorePlace& place) {
  CHORUS_TRY(CheckOne(place));
  if (IsPostgres(place.store)) {
    return FailedPrecondition(
        "this store is in PostgreSQL: use pg_dump and pg_restore, see docs/operating.md");
  }
  if (!place.state.empty()) return place.state + "/coordinator.db";
  return place.store.substr(kSqlite.size());
}

Result<std::unique_ptr<Store>> OpenStore(const StorePlace& place, WhenAbsent absent) {
  CHORUS_TRY(CheckOne(place));
  if (IsPostgres(place.store)) return NewPostgresStore({.connection = place.store});
  CHORUS_TRY_ASSIGN(const std::string file, SqliteFileOf(place));
  if (absent == WhenAbsent::kMake) {
    if (!place.state.empty()) CHORUS_TRY(MakeFolder(place.state, Access::kSecret));
  } else if (!Exists(file)) {
    return NotFound(NameOf(place) + " holds no coordinator's state; name what was given to serve");
  }
  return NewSqliteStore(file);
}

std::string NameOf(const StorePlace& place) {
  if (!place.state.empty()) return "--state " + place.state;
  const size_t at = place.store.find('@');
  if (!IsPostgres(place.store) || at == std::string::npos) return "--store " + place.store;
  return "--store postgresql://..." + place.store.substr(at);
}

}  // namespace chorus::cli
