// A committee's member: one of those who, beside the clients, open the sums of a task of OneShot
// (Protocol::kOneShot), and only sums over enough of them [specification 2.2.4].
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "chorus/bytes.h"
#include "chorus/client.h"
#include "chorus/host.h"
#include "chorus/policy.h"
#include "chorus/status.h"

namespace chorus {

struct CommitteeOptions {
  std::string server;  // host:port of the coordinator; several as in ClientOptions
  std::string
      tls_roots_pem;  // the certificate authority that signed the coordinator's TLS certificate
  // Its own certificate and key, PEM, where the coordinator asks for one (mutual TLS).
  std::string tls_certificate_pem = {};
  std::string tls_key_pem = {};
  bool plaintext = false;     // connect without TLS
  PublicKey coordinator{};    // pinned: tasks and session parameters must be signed by it
  SecretBytes identity_seed;  // the Ed25519 seed (32 bytes) of an identity that tasks name
  Bytes certificate;          // evidence for its key, shown to the coordinator
  Policy policy;              // of which tasks to serve
  size_t memory_bytes_max = size_t{4} << 30U;  // a session with more to check is refused
};

// Thread-safe. Owns one thread, as Client does. Keeps nothing on disk: the keys of a session, and
// the one vote in it, live in memory only, so that a member which restarts in the middle of a round
// can neither vote again nor open anything; the round counts it as absent.
class CommitteeMember {
 public:
  // kInvalidArgument: an option is unusable, named. `verifier` judges clients' certificates; it,
  // `clock` and `log` must outlive the member.
  static Result<std::unique_ptr<CommitteeMember>> Start(CommitteeOptions options,
                                                        const IdentityVerifier& verifier,
                                                        const Clock& clock, LogSink& log);
  // As above over a transport of the host's.
  static Result<std::unique_ptr<CommitteeMember>> StartOver(std::unique_ptr<Transport> transport,
                                                            CommitteeOptions options,
                                                            const IdentityVerifier& verifier,
                                                            const Clock& clock, LogSink& log);
  CommitteeMember(const CommitteeMember&) = delete;
  CommitteeMember& operator=(const CommitteeMember&) = delete;

  // Client's events in order, at once or after at most `wait`. kContributed: the sum of `round` was
  // opened, with this member's share of it; kTrained and kUploaded never come.
  std::vector<ClientEvent> Poll(std::chrono::milliseconds wait) { return client_->Poll(wait); }

 private:
  explicit CommitteeMember(std::unique_ptr<Client> client) : client_(std::move(client)) {}

  std::unique_ptr<Client> client_;  // the same conversation, in another role
};

}  // namespace chorus
