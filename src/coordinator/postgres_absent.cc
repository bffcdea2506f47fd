// In place of the PostgreSQL store, where Chorus is built without it.
#include "chorus/store.h"

namespace chorus {

Result<std::unique_ptr<Store>> NewPostgresStore(const PostgresOptions&) {
  return Status(
      Code::kUnimplemented,
      "this chorus was built without PostgreSQL: build it with -DCHORUS_WITH_POSTGRES=ON");
}

}  // namespace chorus
