#include "chorus/client.h"

#ifdef __linux__
#include <sys/resource.h>
#endif

#include <algorithm>
#include <cmath>
#include <condition_variable>
#include <deque>
#include <iterator>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "aggregation/protocols.h"
#include "base/limits.h"
#include "base/random.h"
#include "chorus/committee.h"
#include "client/device_state.h"
#include "client/experiment.h"
#include "client/grpc_transport.h"
#include "client/ledger.h"
#include "client/session.h"
#include "crypto/crypto.h"
#include "trust/trust.h"

namespace chorus {
namespace {

// Training must not cost the game frames.
constexpr int kNiceness = 10;

Status ValidateOptions(const ClientOptions& options, client::Role role) {
  if (options.identity_seed.size() != crypto::kKeyBytes)
    return InvalidArgument("identity_seed must have 32 bytes");
  if (options.coordinator == PublicKey{})
    return InvalidArgument("coordinator is not set: pin the coordinator's public key");
  if (options.certificate.empty()) return InvalidArgument("certificate is empty");
  if (options.certificate.size() > limits::kEvidenceBytesMax)
    return InvalidArgument("certificate is longer than any identity's evidence may be");
  // Evidence of another kind than ours is the verifier's business.
  if (const Result<trust::Certificate> read = trust::ReadCertificate(options.certificate);
      read.ok() && read->subject != crypto::Ed25519Public(options.identity_seed.Reveal()))
    return InvalidArgument("certificate names another key than identity_seed's");
  if (role == client::Role::kClient && options.state_dir.empty())
    return InvalidArgument("state_dir is empty");
  if (!(options.policy.update_l2_norm_max > 0))
    return InvalidArgument("policy.update_l2_norm_max must be positive");
  return OkStatus();
}

Status ValidateNetwork(const ClientOptions& options) {
  if (options.server.empty()) return InvalidArgument("server is empty: set host:port");
  if (options.plaintext && !options.tls_roots_pem.empty())
    return InvalidArgument("plaintext and tls_roots_pem exclude each other: choose one");
  if (!options.plaintext && options.tls_roots_pem.empty())
    return InvalidArgument(
        "tls_roots_pem is empty: give the authority that signed the coordinator's certificate");
  return OkStatus();
}

// What a client trains with: its examples, or the host's own engine, which has them.
struct Source {
  Examples examples;
  Trainer* trainer = nullptr;
};

// What can be asked of examples before a task says what model they are for.
Status ValidateExamples(const Examples& examples) {
  const size_t count = examples.count();
  if (count == 0) return InvalidArgument("there are no examples");
  if (examples.features.size() % examples.inputs != 0)
    return InvalidArgument("the examples' features are not a whole number of examples");
  if (!examples.labels.empty() && !examples.targets.empty())
    return InvalidArgument("examples have either labels or targets, and not both");
  if (!examples.labels.empty() && examples.labels.size() != count)
    return InvalidArgument("the examples do not have one label each");
  if (examples.targets.size() % count != 0)
    return InvalidArgument("the examples do not have equally many targets each");
  const uint64_t numbers = uint64_t{examples.features.size()} + examples.targets.size();
  if (numbers + examples.labels.size() > limits::kExamplesBytesMax / sizeof(float))
    return InvalidArgument("the examples are larger than a client may hold");
  const auto finite = [](float value) { return std::isfinite(value); };
  if (!std::all_of(examples.features.begin(), examples.features.end(), finite) ||
      !std::all_of(examples.targets.begin(), examples.targets.end(), finite))
    return InvalidArgument("the examples hold numbers that are not finite");
  return OkStatus();
}

}  // namespace

// Everything but cancel_, events_ and the transport's Interrupt belongs to the thread once it runs.
struct Client::Inside {
  Inside(std::unique_ptr<Transport> way, ClientOptions settings, Source data,
         std::unique_ptr<client::Ledger> book, const Clock& time)
      : transport(std::move(way)),
        options(std::move(settings)),
        source(std::move(data)),
        ledger(std::move(book)),
        state(client::DeviceState::InFiles(options.state_dir)),
        clock(time),
        rng(crypto::NewSystemRng()),
        seen_keys(limits::kSeenKeysOnDeviceMax) {}
  ~Inside();
  Inside(const Inside&) = delete;
  Inside& operator=(const Inside&) = delete;

  void Run();
  void Step(const client::CallAction& call);
  void Step(const client::WaitAction& wait);
  void Step(const client::WorkAction& work);
  void Step(const client::StopAction& stop);
  void Publish();

  const std::unique_ptr<Transport> transport;
  const ClientOptions options;
  const Source source;
  const std::unique_ptr<client::Ledger> ledger;
  const std::unique_ptr<client::DeviceState> state;
  const Clock& clock;
  const std::unique_ptr<Rng> rng;
  aggregation::SeenKeys seen_keys;
  std::unique_ptr<client::Session> session;
  bool stopped = false;

  Cancel cancel;
  std::mutex mutex;  // guards events; a request to cancel is made under it, so no wait misses it
  std::condition_variable changed;
  std::deque<ClientEvent> events;
  std::thread thread;  // last: it uses all the others
};

Client::Inside::~Inside() {
  {
    const std::lock_guard lock(mutex);
    cancel.Request();
  }
  changed.notify_all();
  transport->Interrupt();
  if (thread.joinable()) thread.join();
}

void Client::Inside::Run() {
#ifdef __linux__
  // On Linux this concerns the calling thread alone. Refused, the thread trains as it is.
  (void)setpriority(PRIO_PROCESS, 0, kNiceness);
#endif
  while (!stopped) {
    const client::Action action = session->Next();
    Publish();
    std::visit([this](const auto& step) { Step(step); }, action);
    Publish();
  }
}

void Client::Inside::Step(const client::CallAction& call) {
  session->Deliver(transport->Call(call.method, call.request, call.deadline));
}

void Client::Inside::Step(const client::WaitAction& wait) {
  const Time left = wait.until - clock.Now();
  std::unique_lock lock(mutex);
  changed.wait_for(lock, left, [this] { return cancel.requested(); });
}

void Client::Inside::Step(const client::WorkAction&) { session->Work(); }

void Client::Inside::Step(const client::StopAction&) { stopped = true; }

void Client::Inside::Publish() {
  std::vector<ClientEvent> fresh = session->TakeEvents();
  if (fresh.empty()) return;
  {
    const std::lock_guard lock(mutex);
    for (ClientEvent& event : fresh) events.push_back(std::move(event));
    while (events.size() > limits::kEventsMax) events.pop_front();
  }
  changed.notify_all();
}

Client::Client(std::unique_ptr<Inside> inside) : inside_(std::move(inside)) {}
Client::~Client() = default;

std::vector<ClientEvent> Client::Poll(std::chrono::milliseconds wait) {
  std::unique_lock lock(inside_->mutex);
  inside_->changed.wait_for(lock, wait, [this] { return !inside_->events.empty(); });
  std::vector<ClientEvent> events(std::make_move_iterator(inside_->events.begin()),
                                  std::make_move_iterator(inside_->events.end()));
  inside_->events.clear();
  return events;
}

// The one way in: every kind of start ends here, its options' network part checked already.
struct client::Starter {
  static Result<std::unique_ptr<Client>> Start(std::unique_ptr<Transport> transport,
                                               ClientOptions options, Source source,
                                               const IdentityVerifier& verifier, const Clock& clock,
                                               LogSink& log, std::optional<ExperimentSeed> seed) {
    CHORUS_TRY(ValidateOptions(options, Role::kClient));
    if (source.trainer == nullptr) CHORUS_TRY(ValidateExamples(source.examples));
    CHORUS_TRY_ASSIGN(std::unique_ptr<Ledger> ledger, Ledger::Open(options.state_dir));
    auto inside = std::make_unique<Client::Inside>(std::move(transport), std::move(options),
                                                   std::move(source), std::move(ledger), clock);
    return Run(std::move(inside), Role::kClient, verifier, log, std::move(seed));
  }

  static Result<std::unique_ptr<Client>> StartMember(std::unique_ptr<Transport> transport,
                                                     CommitteeOptions options,
                                                     const IdentityVerifier& verifier,
                                                     const Clock& clock, LogSink& log) {
    ClientOptions common = Common(std::move(options));
    CHORUS_TRY(ValidateOptions(common, Role::kCommitteeMember));
    if (transport == nullptr) {
      CHORUS_TRY(ValidateNetwork(common));
      transport = NewGrpcTransport({.server = common.server,
                                    .tls_roots_pem = common.tls_roots_pem,
                                    .plaintext = common.plaintext});
    }
    auto inside = std::make_unique<Client::Inside>(std::move(transport), std::move(common),
                                                   Source(), nullptr, clock);
    return Run(std::move(inside), Role::kCommitteeMember, verifier, log, std::nullopt);
  }

  static std::unique_ptr<Client> Run(std::unique_ptr<Client::Inside> inside, Role role,
                                     const IdentityVerifier& verifier, LogSink& log,
                                     std::optional<ExperimentSeed> seed) {
    inside->session = Session::Create({.options = &inside->options,
                                       .role = role,
                                       .examples = &inside->source.examples,
                                       .trainer = inside->source.trainer,
                                       .state = inside->state.get(),
                                       .verifier = &verifier,
                                       .clock = &inside->clock,
                                       .rng = inside->rng.get(),
                                       .log = &log,
                                       .ledger = inside->ledger.get(),
                                       .cancel = &inside->cancel,
                                       .experiment = std::move(seed),
                                       .seen_keys = &inside->seen_keys});
    Client::Inside& running = *inside;
    inside->thread = std::thread([&running] { running.Run(); });
    return std::unique_ptr<Client>(new Client(std::move(inside)));
  }

  // What a member's options have in common with a client's.
  static ClientOptions Common(CommitteeOptions options) {
    ClientOptions common;
    common.server = std::move(options.server);
    common.tls_roots_pem = std::move(options.tls_roots_pem);
    common.plaintext = options.plaintext;
    common.coordinator = options.coordinator;
    common.identity_seed = std::move(options.identity_seed);
    common.certificate = std::move(options.certificate);
    common.policy = std::move(options.policy);
    common.memory_bytes_max = options.memory_bytes_max;
    return common;
  }

  static Result<std::unique_ptr<Client>> StartGrpc(ClientOptions options, Source source,
                                                   const IdentityVerifier& verifier,
                                                   const Clock& clock, LogSink& log,
                                                   std::optional<ExperimentSeed> seed) {
    CHORUS_TRY(ValidateNetwork(options));
    std::unique_ptr<Transport> transport = NewGrpcTransport({.server = options.server,
                                                             .tls_roots_pem = options.tls_roots_pem,
                                                             .plaintext = options.plaintext});
    return Start(std::move(transport), std::move(options), std::move(source), verifier, clock, log,
                 std::move(seed));
  }
};

Result<std::unique_ptr<Client>> Client::Start(ClientOptions options, Examples examples,
                                              const IdentityVerifier& verifier, const Clock& clock,
                                              LogSink& log) {
  return client::Starter::StartGrpc(std::move(options), {.examples = std::move(examples)}, verifier,
                                    clock, log, std::nullopt);
}

Result<std::unique_ptr<Client>> Client::Start(ClientOptions options, Trainer& trainer,
                                              const IdentityVerifier& verifier, const Clock& clock,
                                              LogSink& log) {
  return client::Starter::StartGrpc(std::move(options), {.examples = {}, .trainer = &trainer},
                                    verifier, clock, log, std::nullopt);
}

Result<std::unique_ptr<Client>> Client::StartOver(std::unique_ptr<Transport> transport,
                                                  ClientOptions options, Examples examples,
                                                  const IdentityVerifier& verifier,
                                                  const Clock& clock, LogSink& log) {
  if (transport == nullptr) return InvalidArgument("transport is null");
  return client::Starter::Start(std::move(transport), std::move(options),
                                {.examples = std::move(examples)}, verifier, clock, log,
                                std::nullopt);
}

Result<std::unique_ptr<Client>> Client::StartOver(std::unique_ptr<Transport> transport,
                                                  ClientOptions options, Trainer& trainer,
                                                  const IdentityVerifier& verifier,
                                                  const Clock& clock, LogSink& log) {
  if (transport == nullptr) return InvalidArgument("transport is null");
  return client::Starter::Start(std::move(transport), std::move(options),
                                {.examples = {}, .trainer = &trainer}, verifier, clock, log,
                                std::nullopt);
}

Result<std::unique_ptr<Client>> client::StartExperiment(ClientOptions options, Examples examples,
                                                        const IdentityVerifier& verifier,
                                                        const Clock& clock, LogSink& log,
                                                        ExperimentSeed seed) {
  return Starter::StartGrpc(std::move(options), {.examples = std::move(examples)}, verifier, clock,
                            log, std::move(seed));
}

Result<std::unique_ptr<Client>> client::StartExperimentOver(
    std::unique_ptr<Transport> transport, ClientOptions options, Examples examples,
    const IdentityVerifier& verifier, const Clock& clock, LogSink& log, ExperimentSeed seed) {
  if (transport == nullptr) return InvalidArgument("transport is null");
  return Starter::Start(std::move(transport), std::move(options), {.examples = std::move(examples)},
                        verifier, clock, log, std::move(seed));
}

Result<std::unique_ptr<CommitteeMember>> CommitteeMember::Start(CommitteeOptions options,
                                                                const IdentityVerifier& verifier,
                                                                const Clock& clock, LogSink& log) {
  CHORUS_TRY_ASSIGN(
      std::unique_ptr<Client> client,
      client::Starter::StartMember(nullptr, std::move(options), verifier, clock, log));
  return std::unique_ptr<CommitteeMember>(new CommitteeMember(std::move(client)));
}

Result<std::unique_ptr<CommitteeMember>> CommitteeMember::StartOver(
    std::unique_ptr<Transport> transport, CommitteeOptions options,
    const IdentityVerifier& verifier, const Clock& clock, LogSink& log) {
  if (transport == nullptr) return InvalidArgument("transport is null");
  CHORUS_TRY_ASSIGN(
      std::unique_ptr<Client> client,
      client::Starter::StartMember(std::move(transport), std::move(options), verifier, clock, log));
  return std::unique_ptr<CommitteeMember>(new CommitteeMember(std::move(client)));
}

}  // namespace chorus
