// The client: trains on this device's examples when a coordinator it trusts invites it, and sends
// updates that can only be read as part of a sum.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "chorus/bytes.h"
#include "chorus/host.h"
#include "chorus/model.h"
#include "chorus/policy.h"
#include "chorus/status.h"
#include "chorus/task.h"

namespace chorus {

namespace client {
struct Starter;  // internal: how the library itself makes a Client
}  // namespace client

// Local examples in one batch: features [count × inputs] row-major; at most one of labels [count]
// and targets [count × outputs] is filled, as the model's loss needs it: labels for kCrossEntropy,
// either for kBinaryCrossEntropy with one output (labels of 0 and 1), neither for kNextToken,
// targets else.
struct Examples {
  uint32_t inputs = 0;
  std::vector<float> features;
  std::vector<uint32_t> labels;
  std::vector<float> targets;

  size_t count() const { return inputs == 0 ? 0 : features.size() / inputs; }
};

// What a host's own engine made of a model on this device.
struct TrainedUpdate {
  Weights update;         // [dim] the weights after training less those given, all finite
  uint64_t examples = 0;  // trained on, at least one: the weight of the update in the mean
  // How the weights as given did on examples of which none is trained on; none: 0, 0, 0.
  uint64_t evaluated = 0;
  double accuracy = 0;  // in [0, 1]
  double loss = 0;      // mean, finite and not negative
};

// The host's own engine, for models that Chorus cannot train: those of custom_parameters, or any
// other where the host would rather. Everything else stays Chorus's: the update is clipped,
// encoded, summed and counted in the ledger as every update is. Both methods are called on the
// client's thread, one at a time; no exception may leave them. SCAFFOLD and q-FedAvg, which reach
// into the training itself, are refused. Personal layers of a described model are in `weights` as
// published, their part of the update is not sent, and keeping them is the host's business.
class Trainer {
 public:
  virtual ~Trainer() = default;
  // Whether this device can train `task`, which has passed all of the client's own checks. A
  // failure refuses the round; its message is for the player.
  virtual Status Accept(const TaskSpec& task) = 0;
  // Trains from `weights` [dim] in `round` (from 1). A failure loses the round. Should return
  // kCancelled soon after `cancel` asks: until then the client cannot stop.
  virtual Result<TrainedUpdate> Train(const TaskSpec& task, uint64_t round,
                                      std::span<const float> weights, const Cancel& cancel) = 0;
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
  // Holds the ledger of uploads, and the personal layers; must survive restarts of the game.
  std::string state_dir;
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

// Thread-safe. Owns one thread, on which it trains and talks. Host code runs on that thread where
// the host gave it: a Trainer, a Transport, a verifier, a clock, a log; all else only inside the
// host's own calls.
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
  // As the two above, where `trainer` does the training and has the examples. It must outlive the
  // client.
  static Result<std::unique_ptr<Client>> Start(ClientOptions options, Trainer& trainer,
                                               const IdentityVerifier& verifier, const Clock& clock,
                                               LogSink& log);
  static Result<std::unique_ptr<Client>> StartOver(std::unique_ptr<Transport> transport,
                                                   ClientOptions options, Trainer& trainer,
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
