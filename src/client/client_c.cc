#include "chorus/client_c.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <system_error>
#include <utility>

#include "base/c_handle.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "chorus/client.h"
#include "client/echo.h"
#include "client/held_start.h"
#include "crypto/crypto.h"
#include "learning/model_c.h"
#include "trust/trust.h"
#include "wire/wire.h"

namespace chorus::c_abi {

CHORUS_FIRST_VERSION_ENDS_AFTER(chorus_client_config, user);
CHORUS_FIRST_VERSION_ENDS_AFTER(chorus_client_event, message);
CHORUS_FIRST_VERSION_ENDS_AFTER(chorus_examples, reserved);

}  // namespace chorus::c_abi

namespace chorus::client {
namespace {

using c_abi::CheckBytes;
using c_abi::CheckKey;
using c_abi::TextOf;
using c_abi::View;

constexpr uint32_t kSignals =
    kSignalInCombat | kSignalOnBattery | kSignalHot | kSignalMeteredNetwork;
constexpr uint64_t kMemoryBytesMax = uint64_t{4} << 30U;

class NoLog final : public LogSink {
 public:
  void Write(LogLevel, std::string_view, std::span<const LogField>) override {}
};

PublicKey KeyFrom(const chorus_bytes& bytes) {
  PublicKey key{};
  const BytesView view = View(bytes);
  std::copy(view.begin(), view.end(), key.begin());
  return key;
}

chorus_client_config Defaults() {
  chorus_client_config config{};
  config.defer_on = kSignals;
  config.memory_bytes_max = kMemoryBytesMax;
  return config;
}

Status CheckConfig(const chorus_client_config& config) {
  if (config.training > CHORUS_TRAIN_IN_POLL)
    return InvalidArgument("config.training is none of CHORUS_TRAIN_ON_WORKER and _IN_POLL");
  if ((config.defer_on & ~kSignals) != 0)
    return InvalidArgument("config.defer_on has bits that are no CHORUS_SIGNAL");
  CHORUS_TRY(CheckBytes(config.server, "config.server"));
  if (config.echo != 0) return OkStatus();
  CHORUS_TRY(CheckBytes(config.tls_roots_pem, "config.tls_roots_pem"));
  CHORUS_TRY(CheckBytes(config.certificate, "config.certificate"));
  CHORUS_TRY(CheckBytes(config.policy, "config.policy"));
  CHORUS_TRY(CheckBytes(config.state_dir, "config.state_dir"));
  CHORUS_TRY(CheckBytes(config.tls_certificate_pem, "config.tls_certificate_pem"));
  CHORUS_TRY(CheckBytes(config.tls_key_pem, "config.tls_key_pem"));
  CHORUS_TRY(CheckKey(config.coordinator_key, "config.coordinator_key", crypto::kKeyBytes));
  CHORUS_TRY(CheckKey(config.issuer_key, "config.issuer_key", crypto::kKeyBytes));
  return CheckKey(config.identity_seed, "config.identity_seed", crypto::kKeyBytes);
}

uint64_t MemoryMax(const chorus_client_config& config) {
  return config.memory_bytes_max == 0 ? kMemoryBytesMax : config.memory_bytes_max;
}

Result<ClientOptions> OptionsFrom(const chorus_client_config& config) {
  ClientOptions options;
  options.server = TextOf(config.server);
  options.tls_roots_pem = TextOf(config.tls_roots_pem);
  options.tls_certificate_pem = TextOf(config.tls_certificate_pem);
  options.tls_key_pem = TextOf(config.tls_key_pem);
  options.plaintext = config.plaintext != 0;
  options.coordinator = KeyFrom(config.coordinator_key);
  const BytesView seed = View(config.identity_seed);
  options.identity_seed = SecretBytes(Bytes(seed.begin(), seed.end()));
  const BytesView certificate = View(config.certificate);
  options.certificate.assign(certificate.begin(), certificate.end());
  if (config.policy.size > 0) {
    CHORUS_TRY_ASSIGN(options.policy, wire::ParsePolicyText(TextOf(config.policy)));
  }
  options.state_dir = TextOf(config.state_dir);
  options.memory_bytes_max = MemoryMax(config);
  options.training = config.training == CHORUS_TRAIN_IN_POLL ? TrainingPlace::kHostFrames
                                                             : TrainingPlace::kOwnThread;
  options.defer_on = config.defer_on;
  return options;
}

bool AllFinite(std::span<const float> values) {
  return std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); });
}

// What of the examples can be told without looking at them.
Status CheckExamples(const chorus_examples& given) {
  if (given.inputs == 0 || given.count == 0)
    return InvalidArgument("examples need at least one example of at least one feature");
  if (given.features == nullptr) return c_abi::NullPointer("examples.features");
  if (given.labels != nullptr && given.targets != nullptr)
    return InvalidArgument("examples have either labels or targets, and not both");
  if ((given.targets != nullptr) != (given.outputs > 0))
    return InvalidArgument("examples.outputs says how many targets an example has, 0 without any");
  // Divisions, since what the caller says may overflow a product.
  const uint64_t each = uint64_t{given.inputs} + given.outputs + 1;
  if (given.count > limits::kExamplesBytesMax / sizeof(float) / each)
    return InvalidArgument("the examples are larger than a client may hold");
  return OkStatus();
}

uint64_t NumbersOf(const chorus_examples& given) {
  return given.count * (uint64_t{given.inputs} + given.outputs + (given.labels != nullptr ? 1 : 0));
}

// Of examples that were checked.
Result<Examples> ExamplesFrom(const chorus_examples& given) {
  Examples examples;
  examples.inputs = given.inputs;
  examples.features.assign(given.features, given.features + given.count * given.inputs);
  if (given.labels != nullptr) examples.labels.assign(given.labels, given.labels + given.count);
  if (given.targets != nullptr)
    examples.targets.assign(given.targets, given.targets + given.count * given.outputs);
  // The start would refuse all examples for it, and none can be taken out again.
  if (!AllFinite(examples.features) || !AllFinite(examples.targets))
    return InvalidArgument("the examples hold numbers that are not finite");
  return examples;
}

void AppendTo(Examples& all, Examples more) {
  if (all.features.empty()) {
    all = std::move(more);
    return;
  }
  all.features.insert(all.features.end(), more.features.begin(), more.features.end());
  all.labels.insert(all.labels.end(), more.labels.begin(), more.labels.end());
  all.targets.insert(all.targets.end(), more.targets.begin(), more.targets.end());
}

}  // namespace

// A client as the C ABI sees it, from its creation on.
class Bound {
 public:
  static constexpr c_abi::HandleKind kHandleKind = c_abi::HandleKind::kClient;

  explicit Bound(const chorus_client_config& config)
      : echo_(config.echo != 0),
        greeting_(TextOf(config.server)),
        on_event_(config.on_event),
        user_(config.user),
        memory_bytes_max_(MemoryMax(config)),
        clock_(NewSystemClock()),
        log_(config.log_to_stderr == 0
                 ? std::make_unique<NoLog>()
                 : NewStderrLogSink(config.log_to_stderr == 1 ? LogLevel::kWarn
                                                              : LogLevel::kInfo)) {}

  Status Prepare(const chorus_client_config& config);
  Status Add(const chorus_examples& given);
  Status Start();
  Status Poll(std::chrono::microseconds budget);
  Status TakeEvent(chorus_client_event* event);
  Result<chorus_model*> FetchModel() const;

  // From any thread.
  Status Pause(bool paused);
  Status SetSignals(uint32_t signals);
  Status SetToken(BytesView token);
  Status Stop();

 private:
  // What any thread may say, before the start too.
  struct Said {
    HostState state;
    bool stopped = false;
  };
  Said said() const {
    const std::lock_guard lock(mutex_);
    return said_;
  }
  Bytes token() const {
    const std::lock_guard lock(mutex_);
    return token_;
  }
  Status CheckRoom(uint64_t more) const;
  void PlayEcho();
  void Keep(ClientEvent event, std::string message);
  struct Kept {
    ClientEvent event;
    std::string message;
  };
  static chorus_client_event Shown(const Kept& kept);

  const bool echo_;
  const std::string greeting_;
  const chorus_client_on_event on_event_;
  void* const user_;
  const uint64_t memory_bytes_max_;
  const std::unique_ptr<Clock> clock_;
  const std::unique_ptr<LogSink> log_;
  std::unique_ptr<IdentityVerifier> verifier_;
  ClientOptions options_;  // until the start
  Examples examples_;      // likewise
  uint64_t numbers_ = 0;   // in all examples that were added here
  bool started_ = false;
  Echo story_;
  bool told_stopped_ = false;
  std::deque<Kept> events_;
  uint32_t defer_on_ = 0;

  mutable std::mutex mutex_;  // guards what follows, but for the client, which runs by then
  Said said_;
  Bytes token_;
  Client* running_ = nullptr;       // `client_`, for calls from any thread
  std::unique_ptr<Client> client_;  // last: it uses the others
};

Status Bound::Prepare(const chorus_client_config& config) {
  defer_on_ = config.defer_on;
  if (echo_) return OkStatus();
  CHORUS_TRY_ASSIGN(options_, OptionsFrom(config));
  CHORUS_TRY(CheckOptions(options_));
  options_.token = [this] { return token(); };
  verifier_ = trust::NewCertificateVerifier(KeyFrom(config.issuer_key), *clock_);
  return OkStatus();
}

// As the start will judge the first examples, and the client that runs all later ones.
Status Bound::CheckRoom(uint64_t more) const {
  if (client_ != nullptr) return client::CheckRoom(*client_, more);
  const uint64_t copies = numbers_ == 0 ? 1 : kCopiesOfAdded;
  const uint64_t bytes = sizeof(float) * (numbers_ + more);
  if (bytes > limits::kExamplesBytesMax || copies * bytes > memory_bytes_max_)
    return ResourceExhausted("the examples would be larger than memory_bytes_max allows");
  return OkStatus();
}

Status Bound::Add(const chorus_examples& given) {
  CHORUS_TRY(CheckExamples(given));
  if (said().stopped) return FailedPrecondition("the client was stopped");
  // Before anything is copied.
  CHORUS_TRY(CheckRoom(NumbersOf(given)));
  CHORUS_TRY_ASSIGN(Examples examples, ExamplesFrom(given));
  if (client_ != nullptr) return client_->AddExamples(std::move(examples));
  const bool first = examples_.features.empty();
  const bool labels = examples_.labels.empty() == examples.labels.empty();
  const bool targets =
      examples_.targets.size() * examples.count() == examples.targets.size() * examples_.count();
  if (!first && (examples.inputs != examples_.inputs || !labels || !targets))
    return InvalidArgument("the examples are of another kind than those added before");
  numbers_ += NumbersOf(given);
  if (echo_) story_.Add(examples);
  // The echo keeps the first of each kind alone, to judge later ones by.
  if (!echo_ || first) AppendTo(examples_, std::move(examples));
  return OkStatus();
}

Status Bound::Start() {
  if (started_) return FailedPrecondition("the client was started before");
  const Said before = said();
  if (before.stopped) return FailedPrecondition("the client was stopped before it was started");
  if (examples_.features.empty())
    return FailedPrecondition("there are no examples: add some before the start");
  if (!echo_) {
    CHORUS_TRY_ASSIGN(client_,
                      StartHeld(options_, examples_, before.state, *verifier_, *clock_, *log_));
    const std::lock_guard lock(mutex_);
    running_ = client_.get();
    // What was said while the start was under way.
    said_.state.paused ? running_->Pause() : running_->Resume();
    running_->SetSignals(said_.state.signals);
    if (said_.stopped) running_->Stop();
  }
  started_ = true;
  return OkStatus();
}

void Bound::Keep(ClientEvent event, std::string message) {
  if (events_.size() >= limits::kEventsMax) events_.pop_front();
  events_.push_back({std::move(event), std::move(message)});
}

void Bound::PlayEcho() {
  if (told_stopped_) return;
  const Said now = said();
  if (now.stopped) {
    told_stopped_ = true;
    const Status why = Cancelled("the client was stopped");
    return Keep({.kind = ClientEvent::Kind::kStopped, .round = 0, .status = why}, why.message());
  }
  if (now.state.paused || (now.state.signals & defer_on_) != 0) return;
  ClientEvent event = story_.Next();
  Keep(event, event.kind == ClientEvent::Kind::kConnected ? greeting_ : std::string());
}

chorus_client_event Bound::Shown(const Kept& kept) {
  return {.struct_size = sizeof(chorus_client_event),
          .kind = static_cast<int32_t>(kept.event.kind),
          .round = kept.event.round,
          .status = static_cast<int32_t>(kept.event.status.code()),
          .reserved = 0,
          .message = kept.message.c_str()};
}

Status Bound::Poll(std::chrono::microseconds budget) {
  if (!started_) return FailedPrecondition("the client was not started");
  const int64_t begin = MonotonicNanoseconds();
  if (echo_) {
    if (budget.count() > 0) PlayEcho();
  } else {
    for (ClientEvent& event : client_->Poll(std::chrono::milliseconds(0))) {
      std::string message = event.status.message();
      Keep(std::move(event), std::move(message));
    }
  }
  while (on_event_ != nullptr && !events_.empty()) {
    // Taken off first: the callback may make calls that look at the others.
    const Kept kept = std::move(events_.front());
    events_.pop_front();
    const chorus_client_event event = Shown(kept);
    on_event_(user_, &event);
  }
  if (echo_) return OkStatus();
  const std::chrono::nanoseconds used(MonotonicNanoseconds() - begin);
  return client_->Work(budget - std::chrono::duration_cast<std::chrono::microseconds>(used));
}

Status Bound::TakeEvent(chorus_client_event* event) {
  CHORUS_TRY(c_abi::CheckRoom(event, "event"));
  if (on_event_ != nullptr)
    return FailedPrecondition("the events of this client go to its on_event");
  if (events_.empty()) return NotFound("no event is left");
  CHORUS_TRY(c_abi::WriteStruct(event, Shown(events_.front()), "event"));
  event->message = c_abi::Lend(std::move(events_.front().message));
  events_.pop_front();
  return OkStatus();
}

Result<chorus_model*> Bound::FetchModel() const {
  if (!started_) return FailedPrecondition("the client was not started");
  if (echo_) {
    if (story_.round() == 0) return NotFound("no round has begun yet");
    return learning::NewEchoModelHandle(story_.Means(), story_.round());
  }
  CHORUS_TRY_ASSIGN(HeldModel held, client_->CopyModel());
  return learning::NewModelHandle(held.spec, std::move(held.weights), held.round);
}

Status Bound::Pause(bool paused) {
  const std::lock_guard lock(mutex_);
  said_.state.paused = paused;
  if (running_ != nullptr) paused ? running_->Pause() : running_->Resume();
  return OkStatus();
}

Status Bound::SetSignals(uint32_t signals) {
  if ((signals & ~kSignals) != 0)
    return InvalidArgument("signals has bits that are no CHORUS_SIGNAL");
  const std::lock_guard lock(mutex_);
  said_.state.signals = signals;
  if (running_ != nullptr) running_->SetSignals(signals);
  return OkStatus();
}

Status Bound::SetToken(BytesView token) {
  if (token.size() > limits::kTokenBytesMax)
    return InvalidArgument("the token is longer than a session token may be");
  const std::lock_guard lock(mutex_);
  token_.assign(token.begin(), token.end());
  return OkStatus();
}

Status Bound::Stop() {
  const std::lock_guard lock(mutex_);
  said_.stopped = true;
  if (running_ != nullptr) running_->Stop();
  return OkStatus();
}

}  // namespace chorus::client

namespace {

using chorus::c_abi::Entry;
using chorus::c_abi::GateOf;
using chorus::c_abi::Report;
using chorus::client::Bound;
using ClientCall = chorus::c_abi::Call<Bound>;
using ClientShell = chorus::c_abi::Shell<Bound>;

// Enters, does `work` on the client, reports.
template <typename Work>
int32_t Do(chorus_client* client, Entry entry, const Work& work) {
  const ClientCall call(GateOf(client), entry);
  if (!call.status().ok()) return Report(call.status());
  return Report(work(*call.operator->()));
}

chorus::Status Create(const chorus_client_config* given, chorus_client** client) {
  if (client == nullptr) return chorus::c_abi::NullPointer("client");
  *client = nullptr;
  CHORUS_TRY_ASSIGN(const chorus_client_config config, chorus::c_abi::ReadStruct(given, "config"));
  CHORUS_TRY(chorus::client::CheckConfig(config));
  auto bound = std::make_unique<Bound>(config);
  CHORUS_TRY(bound->Prepare(config));
  *client = ClientShell::Make<chorus_client>(std::move(bound));
  return chorus::OkStatus();
}

chorus::Status Add(Bound& bound, const chorus_examples* given) {
  CHORUS_TRY_ASSIGN(const chorus_examples examples, chorus::c_abi::ReadStruct(given, "examples"));
  return bound.Add(examples);
}

chorus::Status Fetch(const Bound& bound, chorus_model** model) {
  if (model == nullptr) return chorus::c_abi::NullPointer("model");
  *model = nullptr;
  CHORUS_TRY_ASSIGN(*model, bound.FetchModel());
  return chorus::OkStatus();
}

}  // namespace

extern "C" {

int32_t chorus_client_config_init(chorus_client_config* config, uint32_t struct_size) {
  return Report(
      chorus::c_abi::InitStruct(config, struct_size, chorus::client::Defaults(), "config"));
}

int32_t chorus_client_create(const chorus_client_config* config, chorus_client** client) {
  return Report(Create(config, client));
}

int32_t chorus_client_add_examples(chorus_client* client, const chorus_examples* examples) {
  return Do(client, Entry::kNested, [&](Bound& bound) { return Add(bound, examples); });
}

int32_t chorus_client_start(chorus_client* client) {
  return Do(client, Entry::kAlone, [](Bound& bound) { return bound.Start(); });
}

int32_t chorus_client_poll(chorus_client* client, uint32_t budget_us) {
  return Do(client, Entry::kAlone,
            [&](Bound& bound) { return bound.Poll(std::chrono::microseconds(budget_us)); });
}

int32_t chorus_client_next_event(chorus_client* client, chorus_client_event* event) {
  return Do(client, Entry::kNested, [&](Bound& bound) { return bound.TakeEvent(event); });
}

int32_t chorus_client_pause(chorus_client* client) {
  return Do(client, Entry::kAnyThread, [](Bound& bound) { return bound.Pause(true); });
}

int32_t chorus_client_resume(chorus_client* client) {
  return Do(client, Entry::kAnyThread, [](Bound& bound) { return bound.Pause(false); });
}

int32_t chorus_client_set_signals(chorus_client* client, uint32_t signals) {
  return Do(client, Entry::kAnyThread, [&](Bound& bound) { return bound.SetSignals(signals); });
}

int32_t chorus_client_set_token(chorus_client* client, const void* token, uint64_t size) {
  return Do(client, Entry::kAnyThread, [&](Bound& bound) {
    if (token == nullptr && size > 0) return chorus::c_abi::NullPointer("token");
    return bound.SetToken(chorus::c_abi::View({token, size}));
  });
}

int32_t chorus_client_stop(chorus_client* client) {
  return Do(client, Entry::kAnyThread, [](Bound& bound) { return bound.Stop(); });
}

int32_t chorus_client_fetch_model(chorus_client* client, chorus_model** model) {
  return Do(client, Entry::kNested, [&](Bound& bound) { return Fetch(bound, model); });
}

int32_t chorus_client_destroy(chorus_client* client) {
  ClientCall call(GateOf(client), Entry::kAlone);
  if (!call.status().ok()) return Report(call.status());
  call.Destroy();
  return CHORUS_OK;
}

}  // extern "C"
