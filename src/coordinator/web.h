// A small HTTP/1.1 listener for what people and Prometheus look at: GET and HEAD, a connection a
// request, no body, no cookie, no TLS. libmicrohttpd ends in web.cc.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "chorus/status.h"

namespace chorus::coordinator {

struct WebReply {
  uint32_t status = 200;
  std::string_view content_type = "text/plain; charset=utf-8";  // outlives the listener
  std::string body;
};

// What stands at a path, without its query. Called on the listener's one thread; a slow answer
// keeps others waiting.
using WebSource = std::function<WebReply(std::string_view path)>;

struct WebOptions {
  std::string
      listen;  // host:port, :port or port; without a host 127.0.0.1, port 0 takes a free one
  double connection_seconds = 10;  // then a connection is cut, whatever it is doing
};

// Thread-compatible.
class Web {
 public:
  // kInvalidArgument: an address that is none; kUnavailable: the port is in use, or the address is
  // not of this machine.
  static Result<std::unique_ptr<Web>> Start(const WebOptions& options, WebSource source);
  virtual ~Web() = default;
  virtual int port() const = 0;
};

// Whether a request whose Host header says `host` may be answered by a listener on loopback. A page
// elsewhere can give its own name the address 127.0.0.1 and read what answers there (DNS
// rebinding), but its requests then carry that name.
bool IsLoopbackHost(std::string_view host);

}  // namespace chorus::coordinator
