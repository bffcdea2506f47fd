// The client: trains on this device's examples when a coordinator it trusts invites it, and sends
// updates that can only be read as part of a sum.
#pragma once

#include <cstdint>
#include <functional>
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

// On whose thread local training runs. Talking to the coordinator, masking and encoding always
// happen on the client's own thread of low priority.
enum class TrainingPlace : uint8_t {
  kOwnThread = 0,
  kHostFrames = 1,  // inside the host's calls of Client::Work, in slices
};

// What the host says of its game and its device, one bit each: Client::SetSignals.
enum HostSignal : uint32_t {
  kSignalInCombat = 1U << 0U,
  kSignalOnBattery = 1U << 1U,
  kSignalHot = 1U << 2U,
  kSignalMeteredNetwork = 1U << 3U,
};

struct ClientOptions {
  // host:port; or several, separated by commas, of coordinators that share a store: the client
  // takes one by its certificate, stays there, and goes on to the next when it does not answer.
  std::string server;
  std::string
      tls_roots_pem;  // the certificate authority that signed the coordinator's TLS certificate
  // This client's own certificate and key, PEM, where the coordinator asks for one (mutual TLS).
  std::string tls_certificate_pem = {};
  std::string tls_key_pem = {};
  bool plaintext = false;     // connect without TLS
  PublicKey coordinator{};    // pinned: tasks and session parameters must be signed by it
  SecretBytes identity_seed;  // this client's long-term Ed25519 seed (32 bytes)
  Bytes
      certificate;  // evidence for the key of identity_seed, shown to the coordinator and to peers
  // Gives the session token of the game's own login, for a coordinator that asks for one: at each
  // check-in, on the client's thread, so it gives the newest and returns at once. Null: none.
  std::function<Bytes()> token = nullptr;
  Policy policy;
  // Names of the tasks that this client serves, at most 64; empty: whichever the coordinator picks.
  std::vector<std::string> tasks = {};
  // Holds the ledger of uploads, and the personal layers; must survive restarts of the game.
  std::string state_dir;
  size_t memory_bytes_max = size_t{4} << 30U;  // a task whose training needs more is refused
  TrainingPlace training = TrainingPlace::kOwnThread;
  // While the host shows any of these signals, nothing is trained, no new round is asked for, and
  // no model is fetched for one that was.
  uint32_t defer_on = kSignalInCombat | kSignalOnBattery | kSignalHot | kSignalMeteredNetwork;
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

// A model as a client holds it.
struct HeldModel {
  ModelSpec spec;
  Weights weights;     // [dim]
  uint64_t round = 0;  // that began with it
};

// Thread-safe. Owns one thread, on which it talks, and trains unless that is the host's. Host code
// runs on that thread where the host gave it: a Trainer, a Transport, a verifier, a clock, a log;
// all else only inside the host's own calls.
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
  // Cancels what is under way within a piece of a minibatch, which in a large model takes long, and
  // joins: Stop some frames before, where a frame counts.
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // Events in order, at once or after at most `wait`.
  std::vector<ClientEvent> Poll(std::chrono::milliseconds wait);

  // With TrainingPlace::kHostFrames: trains on the calling thread for at most about `budget`, in
  // pieces of some tens of microseconds, and returns at once when there is nothing to train. The
  // result is the same to the bit as that of training without a pause. kFailedPrecondition: another
  // thread is in this call.
  Status Work(std::chrono::microseconds budget);
  // Until Resume: no training, within a millisecond, and no new call; what a step of the protocol
  // under way computes ends first, on the client's own thread. A pause longer than the task's
  // deadlines costs this client's part in the round, and nothing else.
  void Pause();
  void Resume();
  // HostSignals that are on now: see ClientOptions::defer_on. What a round under way asks of this
  // client beside training is still answered, since others wait for it.
  void SetSignals(uint32_t signals);
  // Ends for good, without waiting: kStopped is the last event.
  void Stop();
  // More of this device's examples, of as many features and the same kind of labels as the first.
  // They count from the next round on. kInvalidArgument: they do not fit; kResourceExhausted: more
  // than a client may hold; kFailedPrecondition: this client's host trains by itself.
  Status AddExamples(Examples examples);
  // A copy of the model that the latest round began with. kNotFound: none has been fetched yet;
  // kUnavailable: it is being replaced at this moment, so ask again in a later frame.
  Result<HeldModel> CopyModel() const;

 private:
  friend struct client::Starter;
  struct Inside;
  explicit Client(std::unique_ptr<Inside> inside);
  std::unique_ptr<Inside> inside_;
};

}  // namespace chorus
