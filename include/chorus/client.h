// The client: trains on this device's examples when a coordinator it trusts invites it, and sends
// updates that can only be read as part of a sum.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "chorus/bytes.h"
#include "chorus/host.h"
#include "chorus/model.h"
#include "chorus/policy.h"
#include "chorus/status.h"

namespace chorus {

namespace client {
struct Starter;  // internal: how the library itself makes a Client
}  // namespace client

// Local examples in one batch: features [count × inputs] row-major; exactly one of labels [count]
// (for kCrossEntropy) and targets [count × outputs] (for kSquaredError) is filled.
struct Examples {
  uint32_t inputs = 0;
  std::vector<float> features;
  std::vector<uint32_t> labels;
  std::vector<float> targets;

  size_t count() const { return inputs == 0 ? 0 : features.size() / inputs; }
};

struct ClientOptions {
  std::string server;  // host:port
  std::string
      tls_roots_pem;  // the certificate authority that signed the coordinator's TLS certificate
  bool plaintext = false;     // connect without TLS
  PublicKey coordinator{};    // pinned: tasks and session parameters must be signed by it
  SecretBytes identity_seed;  // this client's long-term Ed25519 seed (32 bytes)
  Bytes
      certificate;  // evidence for the key of identity_seed, shown to the coordinator and to peers
  Policy policy;
  std::string state_dir;  // holds the ledger of uploads; must survive restarts of the game
  size_t memory_bytes_max = size_t{4} << 30U;  // a task whose training needs more is refused
};

struct ClientEvent {
  enum class Kind : uint8_t {
    kConnected,     // checked in
    kDisconnected,  // will try again; `status` says why
    kInvited,       // to round `round`
    kRefused,       // by policy or ledger; `status` says why, in words for the player
    kTrained,       // local training done
    kUploaded,      // the coordinator has all of this client's update; in OneShot it may leave now
    kContributed,   // this client's update is in the sum of `round`
    kRoundLost,     // `round` ended without this client's update; `status` says why
    kStopped,       // for good; `status` says why
    kEquivocation,  // the coordinator signed two rosters for one session of `round`; the proof is
                    // in state_dir's file `evidence`, or `status` says why it is not
  };
  Kind kind = Kind::kConnected;
  uint64_t round = 0;
  Status status;
};

// Thread-safe. Owns one thread, on which it trains and talks; host code runs only inside the host's
// own calls.
class Client {
 public:
  // Reads the ledger and starts. kInvalidArgument: an option is unusable, named; kDataLoss: the
  // ledger is damaged; kFailedPrecondition: another client uses state_dir. `examples` are this
  // device's own and never leave it. `verifier`, `clock` and `log` must outlive the client.
  static Result<std::unique_ptr<Client>> Start(ClientOptions options, Examples examples,
                                               const IdentityVerifier& verifier, const Clock& clock,
                                               LogSink& log);
  // As above over a transport of the host's.
  static Result<std::unique_ptr<Client>> StartOver(std::unique_ptr<Transport> transport,
                                                   ClientOptions options, Examples examples,
                                                   const IdentityVerifier& verifier,
                                                   const Clock& clock, LogSink& log);
  // Cancels what is under way within a minibatch, then joins.
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // Events in order, at once or after at most `wait`.
  std::vector<ClientEvent> Poll(std::chrono::milliseconds wait);

 private:
  friend struct client::Starter;
  struct Inside;
  explicit Client(std::unique_ptr<Inside> inside);
  std::unique_ptr<Inside> inside_;
};

}  // namespace chorus
