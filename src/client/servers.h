// Where a client finds its coordinator, whatever carries its calls.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "chorus/bytes.h"
#include "chorus/status.h"

namespace chorus::client {

// The addresses of a list that commas separate. kInvalidArgument: one is empty, has no port, or
// comes twice, or there are more than limits::kServersMax.
Result<std::vector<std::string>> ServersOf(std::string_view list);
// In the order in which `spread` calls them.
std::vector<std::string> SpreadOver(std::vector<std::string> servers, BytesView spread);

}  // namespace chorus::client
