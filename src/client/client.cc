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
#include "base/clock.h"
#include "base/fiber.h"
#include "base/limits.h"
#include "base/random.h"
#include "chorus/committee.h"
#include "client/device_state.h"
#include "client/experiment.h"
#include "client/frame_budget.h"
#include "client/grpc_transport.h"
#include "client/held_start.h"
#include "client/ledger.h"
#include "client/servers.h"
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
  if (options.training > TrainingPlace::kHostFrames)
    return InvalidArgument("training is neither on the client's own thread nor in host frames");
  if (options.training == TrainingPlace::kHostFrames && !Fiber::Supported())
    return Status(Code::kUnimplemented,
                  "this platform cannot leave training in the middle of a frame: train on the "
                  "client's own thread");
  if (options.tasks.size() > limits::kTasksMax)
    return InvalidArgument("tasks names more tasks than a coordinator serves");
  if (!(options.policy.update_l2_norm_max > 0))
    return InvalidArgument("policy.update_l2_norm_max must be positive");
  return OkStatus();
}

Status ValidateNetwork(const ClientOptions& options) {
  if (options.server.empty()) return InvalidArgument("server is empty: set host:port");
  CHORUS_TRY(client::ServersOf(options.server));
  if (options.plaintext && !options.tls_roots_pem.empty())
    return InvalidArgument("plaintext and tls_roots_pem exclude each other: choose one");
  if (!options.plaintext && options.tls_roots_pem.empty())
    return InvalidArgument(
        "tls_roots_pem is empty: give the authority that signed the coordinator's certificate");
  if (options.tls_certificate_pem.empty() != options.tls_key_pem.empty())
    return InvalidArgument("tls_certificate_pem and tls_key_pem belong together: give both");
  if (options.plaintext && !options.tls_certificate_pem.empty())
    return InvalidArgument("plaintext and tls_certificate_pem exclude each other: choose one");
  return OkStatus();
}

// What a client trains with: its examples, or the host's own engine, which has them; and what holds
// it from the start.
struct Source {
  Examples examples;
  Trainer* trainer = nullptr;
  client::HostState state = {};
};

using client::kCopiesOfAdded;
constexpr uint64_t kExampleNumbersMax = limits::kExamplesBytesMax / sizeof(float);

uint64_t NumbersOf(const Examples& examples) {
  return uint64_t{examples.features.size()} + examples.targets.size() + examples.labels.size();
}

// Appends `more`, which is of the same kind.
void Append(Examples& to, const Examples& more) {
  to.features.insert(to.features.end(), more.features.begin(), more.features.end());
  to.labels.insert(to.labels.end(), more.labels.begin(), more.labels.end());
  to.targets.insert(to.targets.end(), more.targets.begin(), more.targets.end());
}

// How many a client may hold: what it trains with counts as its memory too.
uint64_t NumbersMax(const ClientOptions& options) {
  return std::min<uint64_t>(kExampleNumbersMax, options.memory_bytes_max / sizeof(float));
}

Status NoRoom() {
  return ResourceExhausted("the examples would be larger than memory_bytes_max allows");
}

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
  if (NumbersOf(examples) > kExampleNumbersMax)
    return InvalidArgument("the examples are larger than a client may hold");
  const auto finite = [](float value) { return std::isfinite(value); };
  if (!std::all_of(examples.features.begin(), examples.features.end(), finite) ||
      !std::all_of(examples.targets.begin(), examples.targets.end(), finite))
    return InvalidArgument("the examples hold numbers that are not finite");
  return OkStatus();
}

}  // namespace

// Once it runs, everything belongs to the thread but what is marked as guarded, the cancel, the
// budget and the transport's Interrupt.
struct Client::Inside {
  Inside(std::unique_ptr<Transport> way, ClientOptions settings, Source data,
         std::unique_ptr<client::Ledger> book, const Clock& time)
      : transport(std::move(way)),
        options(std::move(settings)),
        source(std::move(data)),
        ledger(std::move(book)),
        state(client::DeviceState::InFiles(options.state_dir)),
        clock(time),
        budget(options.training, &MonotonicNanoseconds),
        inputs(source.examples.inputs),
        numbers(NumbersOf(source.examples)),
        labels_each(source.examples.labels.empty() ? 0 : 1),
        targets_each(EachOf(source.examples)),
        rng(crypto::NewSystemRng()),
        seen_keys(limits::kSeenKeysOnDeviceMax) {}
  ~Inside();
  Inside(const Inside&) = delete;
  Inside& operator=(const Inside&) = delete;

  static uint64_t EachOf(const Examples& examples) {
    return examples.count() == 0 ? 0 : examples.targets.size() / examples.count();
  }

  void Run();
  void AskToStop();
  void TakeFreshExamples();
  bool TakeMemory(uint64_t bytes);
  void FreeMemory();
  Status CheckRoom(uint64_t more) const;
  Status Add(Examples examples);
  void Hold(client::HostState said);
  void Step(const client::CallAction& call);
  void Step(const client::WaitAction& wait);
  void Step(const client::WorkAction& work);
  void Step(const client::StopAction& stop);
  void Publish();

  const std::unique_ptr<Transport> transport;
  const ClientOptions options;
  Source source;
  const std::unique_ptr<client::Ledger> ledger;
  const std::unique_ptr<client::DeviceState> state;
  const Clock& clock;
  client::FrameBudget budget;
  const uint32_t inputs;        // of an example
  uint64_t numbers;             // in all examples, those added too; guarded by `mutex`
  uint64_t round_bytes = 0;     // held by a round that runs; likewise
  const uint64_t labels_each;   // 0 or 1
  const uint64_t targets_each;  // of an example
  const std::unique_ptr<Rng> rng;
  aggregation::SeenKeys seen_keys;
  std::unique_ptr<client::Session> session;
  bool stopped = false;
  bool low_priority = false;

  Cancel cancel;
  std::mutex model_mutex;  // guards the session's model, which changes while a reply is delivered
  // Guards events, the examples added and what memory is counted; a request to cancel is made under
  // it, so no wait misses it.
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<ClientEvent> events;
  Examples added;      // added by the host, and not yet among the source's
  std::thread thread;  // last: it uses all the others
};

Client::Inside::~Inside() {
  AskToStop();
  if (thread.joinable()) thread.join();
}

void Client::Inside::AskToStop() {
  {
    const std::lock_guard lock(mutex);
    cancel.Request();
  }
  changed.notify_all();
  transport->Interrupt();
  budget.Close();
}

// Between rounds only: training reads the examples, and a round has judged them. They are copied
// without the lock, which a host's frame may be waiting for.
void Client::Inside::TakeFreshExamples() {
  Examples fresh;
  {
    const std::lock_guard lock(mutex);
    std::swap(fresh, added);
  }
  if (fresh.features.empty()) return;
  Examples& all = source.examples;
  all.features.reserve(all.features.size() + fresh.features.size());
  all.labels.reserve(all.labels.size() + fresh.labels.size());
  all.targets.reserve(all.targets.size() + fresh.targets.size());
  Append(all, fresh);
}

// A round's, which then runs until FreeMemory.
bool Client::Inside::TakeMemory(uint64_t bytes) {
  const std::lock_guard lock(mutex);
  const uint64_t waiting = kCopiesOfAdded * sizeof(float) * NumbersOf(added);
  if (waiting > options.memory_bytes_max || bytes > options.memory_bytes_max - waiting)
    return false;
  round_bytes = bytes;
  return true;
}

void Client::Inside::FreeMemory() {
  const std::lock_guard lock(mutex);
  round_bytes = 0;
}

// Under `mutex`: whether `more` numbers fit, between rounds and beside what a round holds.
Status Client::Inside::CheckRoom(uint64_t more) const {
  if (more > kExampleNumbersMax - numbers) return NoRoom();
  constexpr uint64_t kEach = kCopiesOfAdded * sizeof(float);
  const uint64_t bytes_max = options.memory_bytes_max;
  const uint64_t beside_round = round_bytes + kEach * (NumbersOf(added) + more);
  if (kEach * (numbers + more) > bytes_max || (round_bytes > 0 && beside_round > bytes_max))
    return NoRoom();
  return OkStatus();
}

Status Client::Inside::Add(Examples examples) {
  if (source.trainer != nullptr)
    return FailedPrecondition("this client's host trains by itself and has the examples");
  CHORUS_TRY(ValidateExamples(examples));
  if (examples.inputs != inputs || examples.labels.size() != labels_each * examples.count() ||
      examples.targets.size() != targets_each * examples.count())
    return InvalidArgument(
        "the examples must have as many features and targets as the first ones, and labels if "
        "those have");
  const std::lock_guard lock(mutex);
  CHORUS_TRY(CheckRoom(NumbersOf(examples)));
  numbers += NumbersOf(examples);
  added.inputs = inputs;
  Append(added, examples);
  return OkStatus();
}

void Client::Inside::Run() {
  while (!stopped) {
    budget.AwaitRelease(static_cast<uint32_t>(client::Hold::kPaused));
    const client::Action action = session->Next();
    Publish();
    std::visit([this](const auto& step) { Step(step); }, action);
    if (session->resting()) FreeMemory();
    Publish();
  }
}

void Client::Inside::Step(const client::CallAction& call) {
  // Of a model: the invitation came while a call waited for it.
  if (session->resting() || call.of_model) budget.AwaitRelease(UINT32_MAX);
  Result<Bytes> reply = transport->Call(call.method, call.request, call.deadline);
  budget.AwaitRelease(static_cast<uint32_t>(client::Hold::kPaused));
  // What came while the call waited, too: the round that the reply may begin counts its memory.
  if (session->resting()) TakeFreshExamples();
  const std::lock_guard lock(model_mutex);
  session->Deliver(std::move(reply));
}

void Client::Inside::Step(const client::WaitAction& wait) {
  if (wait.hang_up) transport->HangUp();
  const Time left = wait.until - clock.Now();
  std::unique_lock lock(mutex);
  changed.wait_for(lock, left, [this] { return cancel.requested(); });
}

// From the first round on the thread yields to the game. Until then it computes next to nothing,
// and a busy device shall not keep it from checking in.
void Client::Inside::Step(const client::WorkAction&) {
#ifdef __linux__
  // On Linux this concerns the calling thread alone. Refused, the thread trains as it is.
  if (!std::exchange(low_priority, true)) (void)setpriority(PRIO_PROCESS, 0, kNiceness);
#endif
  session->Work();
}

void Client::Inside::Step(const client::StopAction&) { stopped = true; }

void Client::Inside::Publish() {
  std::vector<ClientEvent> taken = session->TakeEvents();
  if (taken.empty()) return;
  {
    const std::lock_guard lock(mutex);
    for (ClientEvent& event : taken) events.push_back(std::move(event));
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

Status Client::Work(std::chrono::microseconds budget) { return inside_->budget.Spend(budget); }

void Client::Inside::Hold(client::HostState said) {
  budget.Set(client::Hold::kPaused, said.paused);
  budget.Set(client::Hold::kDeferred, (said.signals & options.defer_on) != 0);
}

void Client::Pause() { inside_->budget.Set(client::Hold::kPaused, true); }

void Client::Resume() { inside_->budget.Set(client::Hold::kPaused, false); }

void Client::SetSignals(uint32_t signals) {
  inside_->budget.Set(client::Hold::kDeferred, (signals & inside_->options.defer_on) != 0);
}

void Client::Stop() { inside_->AskToStop(); }

Status Client::AddExamples(Examples examples) { return inside_->Add(std::move(examples)); }

Result<HeldModel> Client::CopyModel() const {
  const std::unique_lock lock(inside_->model_mutex, std::try_to_lock);
  if (!lock.owns_lock())
    return Unavailable("the model is being replaced at this moment: ask again in a later frame");
  const std::optional<client::ModelView> model = inside_->session->model();
  if (!model.has_value())
    return NotFound("this client has fetched no model yet: wait until a round has invited it");
  return HeldModel{.spec = *model->spec,
                   .weights = Weights(model->weights.begin(), model->weights.end()),
                   .round = model->round};
}

// The one way in: every kind of start ends here, its options' network part checked already. Options
// and sources are taken when nothing can fail any more, so that a start can be tried again.
struct client::Starter {
  static Result<std::unique_ptr<Client>> Start(std::unique_ptr<Transport> transport,
                                               ClientOptions&& options, Source&& source,
                                               const IdentityVerifier& verifier, const Clock& clock,
                                               LogSink& log, std::optional<ExperimentSeed> seed) {
    CHORUS_TRY(ValidateOptions(options, Role::kClient));
    if (source.trainer == nullptr) CHORUS_TRY(ValidateExamples(source.examples));
    if (NumbersOf(source.examples) > NumbersMax(options))
      return ResourceExhausted("the examples are larger than memory_bytes_max allows");
    CHORUS_TRY_ASSIGN(std::unique_ptr<Ledger> ledger, Ledger::Open(options.state_dir));
    const HostState held = source.state;
    auto inside = std::make_unique<Client::Inside>(std::move(transport), std::move(options),
                                                   std::move(source), std::move(ledger), clock);
    inside->Hold(held);
    return Run(std::move(inside), Role::kClient, verifier, log, std::move(seed));
  }

  // To the servers of options that were validated.
  static std::unique_ptr<Transport> TransportTo(const ClientOptions& options) {
    return NewGrpcTransport({.server = options.server,
                             .spread = options.certificate,
                             .tls_roots_pem = options.tls_roots_pem,
                             .tls_certificate_pem = options.tls_certificate_pem,
                             .tls_key_pem = options.tls_key_pem,
                             .plaintext = options.plaintext});
  }

  static Result<std::unique_ptr<Client>> StartMember(std::unique_ptr<Transport> transport,
                                                     CommitteeOptions options,
                                                     const IdentityVerifier& verifier,
                                                     const Clock& clock, LogSink& log) {
    ClientOptions common = Common(std::move(options));
    CHORUS_TRY(ValidateOptions(common, Role::kCommitteeMember));
    if (transport == nullptr) {
      CHORUS_TRY(ValidateNetwork(common));
      transport = TransportTo(common);
    }
    auto inside = std::make_unique<Client::Inside>(std::move(transport), std::move(common),
                                                   Source(), nullptr, clock);
    return Run(std::move(inside), Role::kCommitteeMember, verifier, log, std::nullopt);
  }

  static std::unique_ptr<Client> Run(std::unique_ptr<Client::Inside> inside, Role role,
                                     const IdentityVerifier& verifier, LogSink& log,
                                     std::optional<ExperimentSeed> seed) {
    Client::Inside& running = *inside;
    const auto taker = [&running](uint64_t bytes) { return running.TakeMemory(bytes); };
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
                                       .seen_keys = &inside->seen_keys,
                                       .budget = &inside->budget,
                                       .take_memory = taker});
    inside->thread = std::thread([&running] { running.Run(); });
    return std::unique_ptr<Client>(new Client(std::move(inside)));
  }

  static Status CheckRoom(const Client& client, uint64_t numbers) {
    const std::lock_guard lock(client.inside_->mutex);
    return client.inside_->CheckRoom(numbers);
  }

  // What a member's options have in common with a client's.
  static ClientOptions Common(CommitteeOptions options) {
    ClientOptions common;
    common.server = std::move(options.server);
    common.tls_roots_pem = std::move(options.tls_roots_pem);
    common.tls_certificate_pem = std::move(options.tls_certificate_pem);
    common.tls_key_pem = std::move(options.tls_key_pem);
    common.plaintext = options.plaintext;
    common.coordinator = options.coordinator;
    common.identity_seed = std::move(options.identity_seed);
    common.certificate = std::move(options.certificate);
    common.policy = std::move(options.policy);
    common.memory_bytes_max = options.memory_bytes_max;
    return common;
  }

  static Result<std::unique_ptr<Client>> StartGrpc(ClientOptions&& options, Source&& source,
                                                   const IdentityVerifier& verifier,
                                                   const Clock& clock, LogSink& log,
                                                   std::optional<ExperimentSeed> seed) {
    CHORUS_TRY(ValidateNetwork(options));
    std::unique_ptr<Transport> transport = TransportTo(options);
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

Status client::CheckOptions(const ClientOptions& options) {
  CHORUS_TRY(ValidateNetwork(options));
  return ValidateOptions(options, Role::kClient);
}

Status client::CheckRoom(const Client& client, uint64_t numbers) {
  return Starter::CheckRoom(client, numbers);
}

Result<std::unique_ptr<Client>> client::StartHeld(ClientOptions& options, Examples& examples,
                                                  HostState state, const IdentityVerifier& verifier,
                                                  const Clock& clock, LogSink& log) {
  Source source{.examples = std::move(examples), .trainer = nullptr, .state = state};
  Result<std::unique_ptr<Client>> client =
      Starter::StartGrpc(std::move(options), std::move(source), verifier, clock, log, std::nullopt);
  // A failure took nothing.
  if (!client.ok()) examples = std::move(source.examples);  // NOLINT(bugprone-use-after-move)
  return client;
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
