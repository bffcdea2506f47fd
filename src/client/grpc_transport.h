// The default Transport: unary calls over gRPC.
#pragma once

#include <memory>
#include <string>

#include "chorus/host.h"

namespace chorus::client {

struct GrpcTransportOptions {
  std::string server;  // host:port
  // The certificate authority that signed the coordinator's TLS certificate, PEM; empty: those that
  // the system trusts.
  std::string tls_roots_pem;
  bool plaintext = false;  // connect without TLS
};

// Never null: connects on the first call and again whenever the connection broke, so whatever is
// wrong with the address or the certificate is told by Call, as kUnavailable. Call is for one
// thread at a time, Interrupt for any.
std::unique_ptr<Transport> NewGrpcTransport(GrpcTransportOptions options);

}  // namespace chorus::client
