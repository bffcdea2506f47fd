#include "coordinator/sockets.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <memory>
#include <optional>
#include <utility>

namespace chorus::coordinator {
namespace {

struct Address {
  std::string host = "127.0.0.1";
  std::string port;
};

Result<Address> ParseAddress(std::string_view text, std::string_view whose) {
  Address address;
  const size_t colon = text.rfind(':');
  std::string_view port = text;
  if (colon != std::string_view::npos) {
    port = text.substr(colon + 1);
    std::string_view host = text.substr(0, colon);
    if (host.size() >= 2 && host.front() == '[' && host.back() == ']') {
      host = host.substr(1, host.size() - 2);
    }
    if (!host.empty()) address.host = host;
  }
  uint32_t number = 0;
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), number);
  if (port.empty() || error != std::errc() || end != port.data() + port.size() || number > 65'535) {
    std::string wrong("not an address for ");
    wrong.append(whose).append(": give HOST:PORT, for example 127.0.0.1:7447, not ").append(text);
    return InvalidArgument(wrong);
  }
  address.port = port;
  return address;
}

bool IsLoopback(const sockaddr* address) {
  if (address->sa_family == AF_INET) {
    const auto* const v4 = reinterpret_cast<const sockaddr_in*>(address);
    return ntohl(v4->sin_addr.s_addr) >> 24U == 127;
  }
  const auto* const v6 = reinterpret_cast<const sockaddr_in6*>(address);
  return IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr);
}

// The port of an address of either family, where the system keeps it.
in_port_t& PortIn(sockaddr_storage& address) {
  return address.ss_family == AF_INET ? reinterpret_cast<sockaddr_in&>(address).sin_port
                                      : reinterpret_cast<sockaddr_in6&>(address).sin6_port;
}

int PortOf(int socket) {
  sockaddr_storage bound{};
  socklen_t size = sizeof(bound);
  if (::getsockname(socket, reinterpret_cast<sockaddr*>(&bound), &size) != 0) return 0;
  return ntohs(PortIn(bound));
}

// None: the address cannot be had. `port` 0: the one that `address` names.
std::optional<Listening> ListenAt(const addrinfo& address, int port, int backlog) {
  sockaddr_storage at{};
  std::copy_n(reinterpret_cast<const char*>(address.ai_addr), address.ai_addrlen,
              reinterpret_cast<char*>(&at));
  if (port != 0) PortIn(at) = htons(static_cast<in_port_t>(port));
  Listening listening;
  listening.socket =
      Socket(::socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listening.socket.open()) return std::nullopt;
  const int descriptor = listening.socket.get();
  const int on = 1;
  // A restart need not wait for connections that linger; and what is accepted sends at once.
  ::setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  ::setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  if (::bind(descriptor, reinterpret_cast<const sockaddr*>(&at), address.ai_addrlen) != 0 ||
      ::listen(descriptor, backlog) != 0) {
    return std::nullopt;
  }
  listening.port = PortOf(descriptor);
  listening.loopback = IsLoopback(address.ai_addr);
  return listening;
}

}  // namespace

Socket& Socket::operator=(Socket&& other) noexcept {
  if (this == &other) return *this;
  if (open()) ::close(descriptor_);
  descriptor_ = other.Release();
  return *this;
}

Socket::~Socket() {
  if (open()) ::close(descriptor_);
}

int Socket::Release() { return std::exchange(descriptor_, -1); }

Result<std::vector<Listening>> ListenOn(const std::string& where, const ListenOptions& options) {
  CHORUS_TRY_ASSIGN(const Address address, ParseAddress(where, options.whose));
  const std::string whose(options.whose);
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  if (::getaddrinfo(address.host.c_str(), address.port.c_str(), &hints, &found) != 0)
    return InvalidArgument("the host of " + whose + ", \"" + address.host + "\", has no address");
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owned(found, &::freeaddrinfo);
  std::vector<Listening> all;
  for (const addrinfo* at = found; at != nullptr && all.size() < options.addresses_max;
       at = at->ai_next) {
    std::optional<Listening> one =
        ListenAt(*at, all.empty() ? 0 : all.front().port, options.backlog);
    if (one.has_value()) all.push_back(*std::move(one));
  }
  if (!all.empty()) return all;
  return Unavailable(whose + " cannot listen on " + where +
                     ": the port is in use, or the address is not of this machine");
}

}  // namespace chorus::coordinator
