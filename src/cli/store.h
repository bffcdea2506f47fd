// Where the tool's commands find a coordinator's state: one pair of options for all of them.
#pragma once

#include <memory>
#include <string>

#include "chorus/status.h"
#include "chorus/store.h"

namespace CLI {
class App;
}

namespace chorus::cli {

struct StorePlace {
  std::string state;  // a folder, with the SQLite file coordinator.db in it
  std::string store;  // sqlite:FILE or postgresql://...
};
// Adds --state and --store, of which a command wants one.
void AddStoreOptions(CLI::App& app, StorePlace& place);

enum class WhenAbsent { kRefuse, kMake };
// kInvalidArgument: not exactly one of the two, or a store of no known kind; kNotFound: there is
// none and it is not to be made; else the store's.
Result<std::unique_ptr<Store>> OpenStore(const StorePlace& place, WhenAbsent absent);
// The file of a store in SQLite. kFailedPrecondition: it is in PostgreSQL, with what to do then.
Result<std::string> SqliteFileOf(const StorePlace& place);
// As it is typed, for messages; never with a password.
std::string NameOf(const StorePlace& place);

}  // namespace chorus::cli
