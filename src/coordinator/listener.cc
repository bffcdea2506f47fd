#include "coordinator/listener.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <thread>
#include <utility>

namespace chorus::coordinator {
namespace {

constexpr int kBacklog = 4'096;
constexpr size_t kDescriptorsKept = 200;  // for all that is no connection, where there are many
constexpr double kSweepSeconds = 0.1;
constexpr int kNoRoomWaitMs = 50;  // until accept is tried again when the system has no room

ino_t SocketOf(int descriptor) {
  struct stat facts {};
  return ::fstat(descriptor, &facts) == 0 && S_ISSOCK(facts.st_mode) ? facts.st_ino : 0;
}

class AcceptingThread final : public Listener {
 public:
  explicit AcceptingThread(std::vector<Listening> ports) : ports_(std::move(ports)) {}

  ~AcceptingThread() override {
    const uint64_t one = 1;
    stopping_.store(true);
    if (wake_.open()) static_cast<void>(!::write(wake_.get(), &one, sizeof(one)));
    if (thread_.joinable()) thread_.join();
  }

  int port() const override { return ports_.front().port; }

  Status Start(Sink sink) override {
    sink_ = std::move(sink);
    wake_ = Socket(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!wake_.open()) return Unavailable("the listener cannot start: no descriptor is free");
    thread_ = std::thread([this] { Run(); });
    return OkStatus();
  }

 private:
  void Run() {
    std::vector<pollfd> events = {{.fd = wake_.get(), .events = POLLIN, .revents = 0}};
    for (const Listening& port : ports_)
      events.push_back({.fd = port.socket.get(), .events = POLLIN, .revents = 0});
    while (!stopping_.load()) {
      ::poll(events.data(), events.size(), -1);
      bool room = true;
      for (const Listening& port : ports_) room = AcceptFrom(port.socket.get()) && room;
      if (!room) ::poll(events.data(), 1, kNoRoomWaitMs);
    }
  }

  // All that wait at this port. False: some do for whom there is no room now.
  bool AcceptFrom(int port) {
    while (!stopping_.load()) {
      Socket accepted(::accept4(port, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
      if (accepted.open()) {
        if (room_.Admits(accepted.get(), DescriptorsMax())) sink_(accepted.Release());
        continue;
      }
      switch (errno) {
        case EAGAIN:
          return true;
        case ECONNABORTED:  // of a connection that is gone already, as is the next
        case EPROTO:
        case EINTR:
          continue;
        default:  // EMFILE and its like
          return false;
      }
    }
    return true;
  }

  const std::vector<Listening> ports_;
  Socket wake_;
  Sink sink_;
  ConnectionRoom room_;  // the thread's
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

}  // namespace

size_t ConnectionsMax(size_t descriptors_max) {
  return descriptors_max - std::min(kDescriptorsKept, descriptors_max / 4);
}

size_t DescriptorsMax() {
  rlimit files{};
  return ::getrlimit(RLIMIT_NOFILE, &files) == 0 ? files.rlim_cur : 0;
}

bool ConnectionRoom::Admits(int socket, size_t descriptors_max) {
  const auto descriptor = static_cast<size_t>(socket);
  const size_t room = ConnectionsMax(descriptors_max);
  if (descriptor >= room) return false;
  const Network network = NetworkOf(socket);
  if (descriptor >= connections_.size()) connections_.resize(descriptor + 1);
  Connection& connection = connections_[descriptor];
  Forget(connection);  // one that was closed, or the descriptor would not have been free
  if (descriptor >= room / 4 * 3) {
    // It looks at every connection, which takes milliseconds where there are thousands.
    if (!swept_.has_value() || swept_->Seconds() > kSweepSeconds) Sweep();
    const auto mine = of_.find(network);
    if (mine != of_.end() && mine->second > count_ / 2) return false;
  }
  connection = {.socket = SocketOf(socket), .network = network};
  ++of_[network];
  ++count_;
  return true;
}

// 4 bytes of IPv4, wherever it came in, behind others that no IPv6 network begins with.
ConnectionRoom::Network ConnectionRoom::NetworkOf(int socket) {
  sockaddr_storage peer{};
  socklen_t size = sizeof(peer);
  Network network{};
  if (::getpeername(socket, reinterpret_cast<sockaddr*>(&peer), &size) != 0) return network;
  const auto& v6 = reinterpret_cast<const sockaddr_in6&>(peer);
  const auto& v4 = reinterpret_cast<const sockaddr_in&>(peer);
  const uint8_t* const v6_bytes = v6.sin6_addr.s6_addr;
  if (peer.ss_family == AF_INET6 && !IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr)) {
    std::copy_n(v6_bytes, network.size(), network.begin());
    return network;
  }
  network.fill(0xff);
  if (peer.ss_family == AF_INET6) {
    std::copy_n(v6_bytes + 12, 4, network.begin() + 4);
  } else {
    std::memcpy(network.data() + 4, &v4.sin_addr, 4);
  }
  return network;
}

void ConnectionRoom::Forget(Connection& connection) {
  if (connection.socket == 0) return;
  connection.socket = 0;
  --count_;
  const auto found = of_.find(connection.network);
  if (--found->second == 0) of_.erase(found);
}

// Those that were closed and whose descriptors are free or another's now.
void ConnectionRoom::Sweep() {
  swept_.emplace();
  for (size_t i = 0; i < connections_.size(); ++i) {
    if (connections_[i].socket != SocketOf(static_cast<int>(i))) Forget(connections_[i]);
  }
}

Result<std::unique_ptr<Listener>> Listener::Open(const std::string& where) {
  constexpr size_t kAddressesMax = 16;
  CHORUS_TRY_ASSIGN(std::vector<Listening> ports, ListenOn(where, {.whose = "the coordinator",
                                                                   .addresses_max = kAddressesMax,
                                                                   .backlog = kBacklog}));
  return std::unique_ptr<Listener>(std::make_unique<AcceptingThread>(std::move(ports)));
}

}  // namespace chorus::coordinator
