// Copies of a store in SQLite by its online backup: of one moment, while a coordinator goes on.
// https://sqlite.org/backup.html
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <memory>
#include <string>
#include <system_error>
#include <utility>

#include "chorus/store.h"
#include "coordinator/sqlite_statement.h"

namespace chorus {
namespace {

using coordinator::sqlite::Database;
using coordinator::sqlite::Number;
using coordinator::sqlite::StatusOf;
using coordinator::sqlite::Text;

constexpr int kBusyMilliseconds = 10'000;

Result<Database> Open(const std::string& path, int flags) {
  sqlite3* raw = nullptr;
  const int result = sqlite3_open_v2(path.c_str(), &raw,
                                     flags | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, nullptr);
  Database database(raw);
  if (raw == nullptr) return ResourceExhausted("the store is out of memory");
  if (result != SQLITE_OK) return StatusOf(raw, result);
  sqlite3_busy_timeout(raw, kBusyMilliseconds);
  return database;
}

Status Copy(sqlite3* from, sqlite3* to) {
  sqlite3_backup* const backup = sqlite3_backup_init(to, "main", from, "main");
  if (backup == nullptr) return StatusOf(to, sqlite3_errcode(to));
  // All pages in one step are of one moment: the log of writes that are going on is kept meanwhile,
  // and nobody waits.
  const int step = sqlite3_backup_step(backup, -1);
  const int finish = sqlite3_backup_finish(backup);
  if (finish != SQLITE_OK) return StatusOf(to, finish);
  return step == SQLITE_DONE ? OkStatus() : StatusOf(from, step);
}

// A copy that is damaged is found now, and not when it is needed.
Status CheckSound(sqlite3* database) {
  CHORUS_TRY_ASSIGN(const uint64_t application, Number(database, "PRAGMA application_id"));
  if (application != coordinator::sqlite::kApplication)
    return FailedPrecondition("the file is no store of chorus");
  CHORUS_TRY_ASSIGN(const std::string verdict, Text(database, "PRAGMA integrity_check(1)"));
  if (verdict != "ok") return DataLoss("the store's file is damaged: restore it from a backup");
  return OkStatus();
}

Status WriteCopy(const std::string& path, const std::string& to) {
  CHORUS_TRY_ASSIGN(const Database from, Open(path, SQLITE_OPEN_READWRITE));
  CHORUS_TRY_ASSIGN(const Database copy, Open(to, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE));
  CHORUS_TRY(Copy(from.get(), copy.get()));
  // In one file, whatever is copied with it or not.
  CHORUS_TRY_ASSIGN(const std::string mode, Text(copy.get(), "PRAGMA journal_mode = DELETE"));
  if (mode != "delete")
    return Unavailable("the copy cannot be closed: another process has it open");
  return CheckSound(copy.get());
}

// What belonged to a file of this name, and would be played into one that took its place.
Status CheckNoRemains(const std::string& to) {
  for (const char* const suffix : {"-wal", "-shm", "-journal"}) {
    const std::string remains = to + suffix;
    if (access(remains.c_str(), F_OK) != 0) continue;
    return Status(Code::kAlreadyExists,
                  "\"" + remains + "\" exists: SQLite would read it as a part of \"" + to +
                      "\"; move it away together with the store that it belonged to");
  }
  return OkStatus();
}

Status OfSystem(const std::string& what) {
  return Unavailable(what + ": " + std::system_category().message(errno));
}

}  // namespace

Status BackUpSqliteStore(const std::string& path, const std::string& to) {
  if (path.empty() || to.empty())
    return InvalidArgument("a backup needs the names of two files: the store's and the copy's");
  if (access(to.c_str(), F_OK) == 0)
    return Status(Code::kAlreadyExists,
                  "\"" + to + "\" exists: move it away, or name another file");
  CHORUS_TRY(CheckNoRemains(to));
  // Its final name it has only once it is whole.
  const std::string part = to + ".part";
  if (unlink(part.c_str()) != 0 && errno != ENOENT)
    return OfSystem("\"" + part + "\" is in the way");
  CHORUS_TRY(CheckNoRemains(part));
  const Status status = WriteCopy(path, part);
  if (!status.ok()) {
    unlink(part.c_str());
    return status;
  }
  // A link, unlike a rename, replaces nothing that has come meanwhile.
  if (link(part.c_str(), to.c_str()) != 0) {
    Status failed = OfSystem("the copy cannot be given its name");
    unlink(part.c_str());
    return failed;
  }
  unlink(part.c_str());
  const size_t slash = to.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : to.substr(0, slash + 1);
  const int descriptor = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return OfSystem("the copy's folder cannot be opened");
  const int synced = fsync(descriptor);
  close(descriptor);
  return synced == 0 ? OkStatus() : OfSystem("the copy's folder cannot be written");
}

}  // namespace chorus
