// A coordinator that the tool speaks to over the network: the options that name it, and calls.
#pragma once

#include <memory>
#include <string>

#include "chorus/host.h"
#include "chorus/status.h"
#include "wire/wire.h"

namespace CLI {
class App;
}

namespace chorus::cli {

struct RemoteOptions {
  std::string server;
  std::string tls_authority;
  std::string tls_certificate;
  std::string tls_key;
  bool plaintext = false;
};
// Adds --server, --tls-authority, --tls-certificate, --tls-key and --plaintext.
void AddRemoteOptions(CLI::App& app, RemoteOptions& options);
// To the coordinator that the options name; it is not called yet. Fails when a file of theirs
// cannot be read.
Result<std::unique_ptr<Transport>> TransportTo(const RemoteOptions& options);

// Makes the calls of a tool: one at a time.
class Remote {
 public:
  static Result<Remote> Connect(const RemoteOptions& options);
  Result<wire::StatusReply> Status(const wire::StatusRequest& request) const;
  Result<wire::AuditReply> Audit(const wire::AuditRequest& request) const;
  Result<wire::ControlReply> Control(const wire::ControlRequest& request) const;

 private:
  explicit Remote(std::unique_ptr<Transport> transport) : transport_(std::move(transport)) {}

  std::unique_ptr<Transport> transport_;
};

}  // namespace chorus::cli
