// The coordinator's calls over gRPC: bytes in, bytes out, nothing decoded. gRPC ends in service.cc.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "chorus/bytes.h"
#include "chorus/status.h"
#include "coordinator/body.h"
#include "coordinator/core.h"

namespace chorus::coordinator {

struct ServiceOptions {
  std::string listen;                    // host:port; port 0 takes a free one
  std::string tls_certificate_pem = {};  // chain
  std::string tls_key_pem = {};
  std::string client_ca_pem = {};  // whose certificates clients must show; empty: they show none
  bool plaintext = false;          // without TLS, and then without the three above
  bool reflection = false;         // whether the server tells callers its schema
  // Whether a call of `method` from this address, without its port, may go on; asked before
  // anything else, on gRPC's threads. Null: all may.
  std::function<Status(std::string_view method, std::string_view address)> gate = nullptr;
  // Whoever opens a connection and says nothing, or its half of the handshakes a byte at a time,
  // holds a descriptor and some 50 KB, and is cut off after so long.
  std::chrono::milliseconds handshake_timeout{10'000};
};

// What is wrong with them without touching the network: kInvalidArgument for no address, TLS with
// less than both of certificate and key, plaintext with either.
Status CheckServiceOptions(const ServiceOptions& options);

// Where requests go: the rpc's name (one of wire.h's, valid for ever), its bytes, and what answers
// it. Called on gRPC's threads, several at a time: it queues and returns. `reply` takes the first
// answer from any thread and ignores others; when its last copy goes unanswered, the caller gets
// kUnavailable.
using RequestSink = std::function<void(std::string_view method, Body request, Reply reply)>;

class Service {
 public:
  // Listens. kInvalidArgument: see CheckServiceOptions, or PEM that is none; kUnavailable: the
  // address cannot be had, named.
  static Result<std::unique_ptr<Service>> Start(const ServiceOptions& options, RequestSink sink);
  // Stops listening and ends every call. Whoever holds a Reply must have answered or dropped it
  // before, or does so soon from another thread: gRPC waits for them.
  virtual ~Service() = default;
  virtual int port() const = 0;
  // What grpc.health.v1 says of the server and of chorus.v1.Coordinator. It begins as serving.
  virtual void SetServing(bool serving) = 0;
};

}  // namespace chorus::coordinator
