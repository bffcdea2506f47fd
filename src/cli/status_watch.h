// `chorus status --watch`: the status as it changes, on a terminal or as lines.
#pragma once

#include <functional>
#include <string>

#include "chorus/status.h"
#include "wire/wire.h"

namespace chorus::cli {

// Shows what `ask` gives once a second until q, Ctrl-C or SIGTERM; off a terminal a line whenever
// something changed, until then or until nobody reads them. A coordinator that does not answer is
// waited for, but the first failure is the command's.
Status WatchStatus(const std::string& server,
                   const std::function<Result<wire::StatusReply>()>& ask);

}  // namespace chorus::cli
