#include "client/servers.h"

#include <algorithm>

#include "base/limits.h"
#include "crypto/crypto.h"

namespace chorus::client {

Result<std::vector<std::string>> ServersOf(std::string_view list) {
  std::vector<std::string> servers;
  while (true) {
    const size_t comma = list.find(',');
    const std::string_view one = list.substr(0, comma);
    if (one.empty()) {
      return InvalidArgument(
          "server names an empty address: set host:port, or several with commas "
          "between them");
    }
    if (one.find(':') == std::string_view::npos) {
      return InvalidArgument("server names an address without a port: set host:port");
    }
    if (std::find(servers.begin(), servers.end(), one) != servers.end()) {
      return InvalidArgument("server names an address twice: name each once");
    }
    if (servers.size() == limits::kServersMax) {
      return InvalidArgument("server names more than " + std::to_string(limits::kServersMax) +
                             " addresses: name some of them");
    }
    servers.emplace_back(one);
    if (comma == std::string_view::npos) return servers;
    list.remove_prefix(comma + 1);
  }
}

// Each client orders the servers by a hash of its own and theirs [Thaler and Ravishankar 1998,
// highest random weight], so a server that is added or gone moves only those that it serves.
std::vector<std::string> SpreadOver(std::vector<std::string> servers, BytesView spread) {
  const auto weight = [spread](const std::string& server) {
    return crypto::LabeledHash("CHORUS1/server", {spread, ViewOf(server)});
  };
  std::sort(servers.begin(), servers.end(),
            [&weight](const auto& a, const auto& b) { return weight(a) < weight(b); });
  return servers;
}

}  // namespace chorus::client
