#include "cli/remote.h"

#include <CLI/CLI.hpp>
#include <string_view>
#include <utility>

#include "base/limits.h"
#include "cli/files.h"
#include "client/grpc_transport.h"

namespace chorus::cli {
namespace {

template <typename Answer, typename Request>
Result<Answer> Call(Transport& transport, std::string_view method, const Request& request) {
  CHORUS_TRY_ASSIGN(const Bytes reply,
                    transport.Call(method, wire::Encode(request), limits::kCallDeadline));
  return wire::Decode<Answer>(reply);
}

}  // namespace

void AddRemoteOptions(CLI::App& app, RemoteOptions& options) {
  app.add_option("--server", options.server, "HOST:PORT of the coordinator.")->required();
  CLI::Option* const authority =
      app.add_option("--tls-authority", options.tls_authority,
                     "Certificate that signed the coordinator's (PEM file). Default: those that "
                     "the system trusts.");
  CLI::Option* const plaintext =
      app.add_flag("--plaintext", options.plaintext, "Connect without TLS.");
  CLI::Option* const certificate =
      app.add_option("--tls-certificate", options.tls_certificate,
                     "Certificate to show to a coordinator that runs with --client-ca (PEM file): "
                     "a tls-client.pem of `keys client --tls`, or another of that authority.");
  CLI::Option* const key =
      app.add_option("--tls-key", options.tls_key, "The certificate's private key (PEM file).");
  certificate->needs(key)->excludes(plaintext);
  key->needs(certificate)->excludes(plaintext);
  authority->excludes(plaintext);
}

Result<std::unique_ptr<Transport>> TransportTo(const RemoteOptions& options) {
  client::GrpcTransportOptions transport;
  transport.server = options.server;
  transport.plaintext = options.plaintext;
  if (!options.tls_authority.empty()) {
    CHORUS_TRY_ASSIGN(transport.tls_roots_pem, ReadText(options.tls_authority));
  }
  if (!options.tls_certificate.empty()) {
    CHORUS_TRY_ASSIGN(transport.tls_certificate_pem, ReadText(options.tls_certificate));
    CHORUS_TRY_ASSIGN(transport.tls_key_pem, ReadText(options.tls_key));
  }
  return client::NewGrpcTransport(std::move(transport));
}

Result<Remote> Remote::Connect(const RemoteOptions& options) {
  CHORUS_TRY_ASSIGN(std::unique_ptr<Transport> transport, TransportTo(options));
  return Remote(std::move(transport));
}

Result<wire::StatusReply> Remote::Status(const wire::StatusRequest& request) const {
  return Call<wire::StatusReply>(*transport_, wire::kGetStatus, request);
}

Result<wire::AuditReply> Remote::Audit(const wire::AuditRequest& request) const {
  return Call<wire::AuditReply>(*transport_, wire::kGetAudit, request);
}

Result<wire::ControlReply> Remote::Control(const wire::ControlRequest& request) const {
  return Call<wire::ControlReply>(*transport_, wire::kControl, request);
}

}  // namespace chorus::cli
