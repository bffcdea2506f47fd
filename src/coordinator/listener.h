// Accepts the connections of gRPC's server. gRPC's own listener stops for good the first time that
// it finds no descriptor free (grpc/grpc #16058), so whoever opens enough connections at once would
// close the port until somebody starts the process again.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/stopwatch.h"
#include "chorus/status.h"
#include "coordinator/sockets.h"

namespace chorus::coordinator {

// Which connections there is room for, of a process that may have `descriptors_max` descriptors:
// some of them are for files, the store and the page. Once three quarters of the rest are taken,
// an address (of IPv6 a network of 64 bits) that has more than half of the connections gets no
// more, so that one alone never shuts out all others. Thread-compatible.
class ConnectionRoom {
 public:
  // Whether this connection, just accepted, may stay; if so it is counted until its socket is
  // closed, by whomever.
  bool Admits(int socket, size_t descriptors_max);

 private:
  using Network = std::array<uint8_t, 8>;
  struct Connection {
    ino_t socket = 0;  // 0: none
    Network network{};
  };

  static Network NetworkOf(int socket);
  void Sweep();
  void Forget(Connection& connection);

  std::vector<Connection> connections_;  // by descriptor; those closed since are still in it
  std::map<Network, size_t> of_;
  size_t count_ = 0;
  std::optional<Stopwatch> swept_;
};

// How many connections a process has room for that may have `descriptors_max` descriptors.
size_t ConnectionsMax(size_t descriptors_max);
// What this process may have, now.
size_t DescriptorsMax();

class Listener {
 public:
  // Takes a connection's descriptor, which does not block. Called on the listener's thread.
  using Sink = std::function<void(int socket)>;

  // On every address of `where`, as HOST:PORT. Connections wait until Start. Errors as ListenOn.
  static Result<std::unique_ptr<Listener>> Open(const std::string& where);
  // Closes the ports. What was accepted stays as it is.
  virtual ~Listener() = default;
  virtual int port() const = 0;
  // Once.
  virtual Status Start(Sink sink) = 0;
};

}  // namespace chorus::coordinator
