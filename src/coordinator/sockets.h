// TCP ports of this process: bound here, for gRPC and for the web page.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "chorus/status.h"

namespace chorus::coordinator {

// A descriptor, closed with its owner. Movable.
class Socket {
 public:
  Socket() = default;
  explicit Socket(int descriptor) : descriptor_(descriptor) {}
  Socket(Socket&& other) noexcept : descriptor_(other.Release()) {}
  Socket& operator=(Socket&& other) noexcept;
  ~Socket();

  bool open() const { return descriptor_ >= 0; }
  int get() const { return descriptor_; }
  // Gives it away.
  int Release();

 private:
  int descriptor_ = -1;
};

// A socket that listens, without blocking, and where.
struct Listening {
  Socket socket;
  int port = 0;
  bool loopback = false;
};

struct ListenOptions {
  std::string_view whose;  // in messages, as in "the web page"
  size_t addresses_max = 1;
  int backlog = 64;
};

// On the addresses that HOST of HOST:PORT has, all with one port; port 0 takes a free one. Without
// a host it is 127.0.0.1, and the colon may be left out with it. At least one, and all that this
// machine has. kInvalidArgument: no such text, or a host without addresses; kUnavailable: the port
// is in use, or no address is of this machine.
Result<std::vector<Listening>> ListenOn(const std::string& where, const ListenOptions& options);

}  // namespace chorus::coordinator
