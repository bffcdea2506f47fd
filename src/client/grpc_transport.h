// The default Transport: unary calls over gRPC.
#pragma once

#include <memory>
#include <string>

#include "chorus/bytes.h"
#include "chorus/host.h"
#include "chorus/status.h"

namespace chorus::client {

struct GrpcTransportOptions {
  // host:port; or several, separated by commas, of coordinators that share a store.
  std::string server;
  // Decides which of several is called first: so that different values spread over all of them, and
  // few move when one is added. A client gives its identity.
  BytesView spread = {};
  // The certificate authority that signed the coordinator's TLS certificate, PEM; empty: those that
  // the system trusts.
  std::string tls_roots_pem = {};
  // What this client shows to a coordinator that asks for it (mutual TLS), PEM; empty: nothing.
  std::string tls_certificate_pem = {};
  std::string tls_key_pem = {};
  bool plaintext = false;  // connect without TLS
};

// Never null: connects on the first call and again whenever the connection broke, so whatever is
// wrong with the address or the certificate is told by Call, as kUnavailable. Stays with one of
// several servers until it does not answer twice in a row, then goes on to the next: a session is
// open at one of them only, and the others answer kUnauthenticated. Call is for one thread at a
// time, Interrupt for any.
std::unique_ptr<Transport> NewGrpcTransport(GrpcTransportOptions options);

}  // namespace chorus::client
