#include "coordinator/web.h"

#include <arpa/inet.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <thread>
#include <utility>
#include <vector>

#include "base/limits.h"
#include "base/stopwatch.h"
#include "coordinator/sockets.h"

namespace chorus::coordinator {
namespace {

constexpr int kLookMaxMs = 500;  // how late a slow connection may be cut

// What a browser may do with a page of ours: nothing but show it, and ask this listener.
constexpr std::pair<const char*, const char*> kHeaders[] = {
    {"Content-Security-Policy",
     "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
     "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"},
    {"X-Content-Type-Options", "nosniff"},
    {"X-Frame-Options", "DENY"},
    {"Referrer-Policy", "no-referrer"},
    {"Cross-Origin-Resource-Policy", "same-origin"},
    {"Cross-Origin-Opener-Policy", "same-origin"},
    {"Cache-Control", "no-store"},
    {"Connection", "close"}};

class HttpListener final : public Web {
 public:
  HttpListener(const WebOptions& options, WebSource source)
      : connection_seconds_(options.connection_seconds), source_(std::move(source)) {}

  ~HttpListener() override {
    stopping_.store(true);
    Wake();
    if (thread_.joinable()) thread_.join();
    if (daemon_ != nullptr) MHD_stop_daemon(daemon_);  // closes the socket as well
    if (wake_ >= 0) ::close(wake_);
  }

  Status Start(Listening listening) {
    port_ = listening.port;
    loopback_ = listening.loopback;
    wake_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    daemon_ = MHD_start_daemon(
        MHD_USE_EPOLL, 0, nullptr, nullptr, &HttpListener::OnRequest, this,
        MHD_OPTION_LISTEN_SOCKET, listening.socket.get(), MHD_OPTION_CONNECTION_LIMIT,
        static_cast<unsigned>(limits::kWebConnectionsMax), MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        limits::kWebRequestBytesMax, MHD_OPTION_CONNECTION_TIMEOUT,
        static_cast<unsigned>(limits::kWebIdleMax.count()), MHD_OPTION_STRICT_FOR_CLIENT, 1,
        MHD_OPTION_NOTIFY_CONNECTION, &HttpListener::OnConnection, this, MHD_OPTION_END);
    if (daemon_ != nullptr) listening.socket.Release();
    if (daemon_ == nullptr || wake_ < 0) return Unavailable("the web page's listener cannot start");
    thread_ = std::thread([this] { Run(); });
    return OkStatus();
  }

  int port() const override { return port_; }

 private:
  struct Connection {
    int socket = -1;
    Stopwatch age;
  };

  void Wake() const {
    const uint64_t one = 1;
    if (wake_ >= 0) static_cast<void>(!::write(wake_, &one, sizeof(one)));
  }

  void Run() {
    const MHD_DaemonInfo* const info = MHD_get_daemon_info(daemon_, MHD_DAEMON_INFO_EPOLL_FD);
    while (!stopping_.load()) {
      MHD_UNSIGNED_LONG_LONG due = kLookMaxMs;
      const bool timed = MHD_get_timeout(daemon_, &due) == MHD_YES;
      const int wait = timed ? static_cast<int>(std::min<uint64_t>(due, kLookMaxMs)) : kLookMaxMs;
      pollfd events[] = {{.fd = info->epoll_fd, .events = POLLIN, .revents = 0},
                         {.fd = wake_, .events = POLLIN, .revents = 0}};
      ::poll(events, std::size(events), wait);
      MHD_run(daemon_);
      CutSlow();
    }
  }

  // libmicrohttpd's own timeout begins anew with every byte, so a peer that sends one now and then
  // would stay for hours. Once the socket is shut down the library sees its end and closes it.
  void CutSlow() {
    for (const Connection& connection : connections_) {
      if (connection.age.Seconds() > connection_seconds_) ::shutdown(connection.socket, SHUT_RDWR);
    }
  }

  static void OnConnection(void* self, MHD_Connection* connection, void**,
                           MHD_ConnectionNotificationCode what) {
    const MHD_ConnectionInfo* const info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    if (info == nullptr) return;
    auto& connections = static_cast<HttpListener*>(self)->connections_;
    std::erase_if(connections,
                  [&](const Connection& one) { return one.socket == info->connect_fd; });
    if (what == MHD_CONNECTION_NOTIFY_STARTED)
      connections.push_back({.socket = info->connect_fd, .age = Stopwatch()});
  }

  // Answered before a body is read, which ends the connection if there is one.
  static MHD_Result OnRequest(void* self, MHD_Connection* connection, const char* path,
                              const char* method, const char*, const char*, size_t*, void**) {
    const auto* const listener = static_cast<const HttpListener*>(self);
    return Send(connection, listener->Answer(connection, path, method));
  }

  WebReply Answer(MHD_Connection* connection, std::string_view path,
                  std::string_view method) const {
    if (method != MHD_HTTP_METHOD_GET && method != MHD_HTTP_METHOD_HEAD) {
      return {.status = MHD_HTTP_METHOD_NOT_ALLOWED, .body = "only GET and HEAD\n"};
    }
    const char* const host =
        MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_HOST);
    if (loopback_ && host != nullptr && !IsLoopbackHost(host)) {
      return {.status = MHD_HTTP_MISDIRECTED_REQUEST,
              .body = "this listener answers to localhost only: let a proxy send that as Host\n"};
    }
    return source_(path);
  }

  static MHD_Result Send(MHD_Connection* connection, WebReply reply) {
    MHD_Response* const response = MHD_create_response_from_buffer(
        reply.body.size(), reply.body.data(), MHD_RESPMEM_MUST_COPY);
    if (response == nullptr) return MHD_NO;
    for (const auto& [name, value] : kHeaders) MHD_add_response_header(response, name, value);
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE,
                            std::string(reply.content_type).c_str());
    if (reply.status == MHD_HTTP_METHOD_NOT_ALLOWED) {
      MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
    }
    const MHD_Result queued = MHD_queue_response(connection, reply.status, response);
    MHD_destroy_response(response);
    return queued;
  }

  const double connection_seconds_;
  const WebSource source_;
  MHD_Daemon* daemon_ = nullptr;
  int wake_ = -1;
  int port_ = 0;
  bool loopback_ = false;
  std::atomic<bool> stopping_{false};
  std::vector<Connection> connections_;  // the thread's
  std::thread thread_;
};

}  // namespace

bool IsLoopbackHost(std::string_view host) {
  if (host.starts_with("[")) return host == "[::1]" || host.starts_with("[::1]:");
  const std::string name(host.substr(0, host.find(':')));
  if (name == "localhost") return true;
  in_addr v4{};
  return ::inet_pton(AF_INET, name.c_str(), &v4) == 1 && ntohl(v4.s_addr) >> 24U == 127;
}

Result<std::unique_ptr<Web>> Web::Start(const WebOptions& options, WebSource source) {
  auto listener = std::make_unique<HttpListener>(options, std::move(source));
  CHORUS_TRY_ASSIGN(std::vector<Listening> listening,
                    ListenOn(options.listen, {.whose = "the web page"}));
  CHORUS_TRY(listener->Start(std::move(listening.front())));
  return std::unique_ptr<Web>(std::move(listener));
}

}  // namespace chorus::coordinator
