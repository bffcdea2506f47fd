#include "chorus/coordinator_c.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/c_handle.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "chorus/coordinator.h"
#include "chorus/store.h"
#include "chorus/token.h"
#include "crypto/crypto.h"
#include "learning/model_c.h"
#include "trust/trust.h"
#include "wire/wire.h"

namespace chorus::c_abi {

CHORUS_FIRST_VERSION_ENDS_AFTER(chorus_coordinator_config, experiment_seed);
CHORUS_FIRST_VERSION_ENDS_AFTER(chorus_coordinator_event, message);

}  // namespace chorus::c_abi

namespace chorus::coordinator {
namespace {

using c_abi::CheckBytes;
using c_abi::CheckKey;
using c_abi::TextOf;
using c_abi::View;

// A certificate must outlive the longest round: see NewAdmissionVerifier.
constexpr std::chrono::hours kLongestRound{1};

class NoLog final : public LogSink {
 public:
  void Write(LogLevel, std::string_view, std::span<const LogField>) override {}
};

Status CheckConfig(const chorus_coordinator_config& config) {
  CHORUS_TRY(CheckBytes(config.task, "config.task"));
  CHORUS_TRY(CheckBytes(config.listen, "config.listen"));
  CHORUS_TRY(CheckBytes(config.tls_certificate_pem, "config.tls_certificate_pem"));
  CHORUS_TRY(CheckBytes(config.tls_key_pem, "config.tls_key_pem"));
  CHORUS_TRY(CheckBytes(config.store_path, "config.store_path"));
  CHORUS_TRY(CheckBytes(config.client_ca_pem, "config.client_ca_pem"));
  CHORUS_TRY(CheckBytes(config.token_keys, "config.token_keys"));
  CHORUS_TRY(CheckBytes(config.token_issuer, "config.token_issuer"));
  CHORUS_TRY(CheckBytes(config.token_audience, "config.token_audience"));
  CHORUS_TRY(CheckBytes(config.web_listen, "config.web_listen"));
  CHORUS_TRY(CheckKey(config.issuer_key, "config.issuer_key", crypto::kKeyBytes));
  return CheckKey(config.signing_seed, "config.signing_seed", crypto::kKeyBytes);
}

Result<CoordinatorOptions> OptionsFrom(const chorus_coordinator_config& config) {
  CoordinatorOptions options;
  if (config.listen.size > 0) options.listen = TextOf(config.listen);
  options.tls_certificate_pem = TextOf(config.tls_certificate_pem);
  options.tls_key_pem = TextOf(config.tls_key_pem);
  options.plaintext = config.plaintext != 0;
  const BytesView seed = View(config.signing_seed);
  options.signing_seed = SecretBytes(Bytes(seed.begin(), seed.end()));
  HostedTask hosted;
  CHORUS_TRY_ASSIGN(hosted.task, wire::ParseTaskText(TextOf(config.task)));
  if (config.experiment_seed != 0) hosted.experiment_seed = config.experiment_seed;
  options.tasks.push_back(std::move(hosted));
  options.own_thread = config.own_thread != 0;
  options.client_ca_pem = TextOf(config.client_ca_pem);
  options.web_listen = TextOf(config.web_listen);
  return options;
}

// Null: the configuration asks for no tokens.
Result<std::unique_ptr<JwtVerifier>> TokensFrom(const chorus_coordinator_config& config) {
  if (config.token_keys.size > 0) {
    return NewJwtVerifier(TextOf(config.token_keys),
                          {.issuer = std::string(TextOf(config.token_issuer)),
                           .audience = std::string(TextOf(config.token_audience))});
  }
  if (config.token_issuer.size > 0 || config.token_audience.size > 0)
    return InvalidArgument(
        "config.token_issuer and token_audience are of no use without token_keys");
  return std::unique_ptr<JwtVerifier>();
}

}  // namespace

// A coordinator as the C ABI sees it.
class Bound {
 public:
  static constexpr c_abi::HandleKind kHandleKind = c_abi::HandleKind::kCoordinator;

  static Result<std::unique_ptr<Bound>> Start(const chorus_coordinator_config& config);
  explicit Bound(const chorus_coordinator_config& config)
      : on_event_(config.on_event),
        user_(config.user),
        own_thread_(config.own_thread != 0),
        clock_(NewSystemClock()),
        log_(config.log_to_stderr == 0
                 ? std::make_unique<NoLog>()
                 : NewStderrLogSink(config.log_to_stderr == 1 ? LogLevel::kWarn
                                                              : LogLevel::kInfo)) {}

  int port() const { return coordinator_->port(); }
  int web_port() const { return coordinator_->web_port(); }
  Status SetTokenKeys(std::string_view jwks) const;
  Status Poll(std::chrono::microseconds budget);
  Status TakeEvent(chorus_coordinator_event* event);
  chorus_model* FetchModel() const {
    ServedModel served = coordinator_->CurrentModel(task_);
    return learning::NewModelHandle(model_, std::move(served.weights), served.rounds_committed);
  }

 private:
  struct Kept {
    chorus_coordinator_event event;  // without its message
    std::string message;
  };
  static Kept KeptOf(const CoordinatorEvent& event);

  const chorus_coordinator_on_event on_event_;
  void* const user_;
  const bool own_thread_;
  const std::unique_ptr<Clock> clock_;
  const std::unique_ptr<LogSink> log_;
  std::unique_ptr<IdentityVerifier> verifier_;
  std::unique_ptr<JwtVerifier> tokens_;  // null: none are asked for
  std::unique_ptr<Store> store_;
  std::string task_;
  ModelSpec model_;
  std::deque<Kept> events_;
  std::unique_ptr<Coordinator> coordinator_;  // last: it uses the others
};

Result<std::unique_ptr<Bound>> Bound::Start(const chorus_coordinator_config& config) {
  CHORUS_TRY_ASSIGN(CoordinatorOptions options, OptionsFrom(config));
  const TaskSpec& task = options.tasks.front().task;
  if (!task.queries.empty())
    return InvalidArgument("config.task asks queries: the C ABI has models alone");
  auto bound = std::make_unique<Bound>(config);
  bound->task_ = task.name;
  bound->model_ = task.model;
  PublicKey issuer{};
  const BytesView key = View(config.issuer_key);
  std::copy(key.begin(), key.end(), issuer.begin());
  bound->verifier_ = trust::NewAdmissionVerifier(issuer, *bound->clock_, kLongestRound);
  CHORUS_TRY_ASSIGN(bound->tokens_, TokensFrom(config));
  options.admission.tokens = bound->tokens_.get();
  if (config.store_path.size > 0) {
    CHORUS_TRY_ASSIGN(bound->store_, NewSqliteStore(std::string(TextOf(config.store_path))));
  } else {
    bound->store_ = NewMemoryStore();
  }
  CHORUS_TRY_ASSIGN(bound->coordinator_,
                    Coordinator::Start(std::move(options), *bound->store_, *bound->verifier_,
                                       *bound->clock_, *bound->log_));
  return bound;
}

Bound::Kept Bound::KeptOf(const CoordinatorEvent& event) {
  using Kind = CoordinatorEvent::Kind;
  const bool ended = event.kind == Kind::kRoundEnded;
  const Code code = ended ? event.round.code : event.trouble.code();
  Kept kept;
  kept.event = {.struct_size = sizeof(chorus_coordinator_event),
                .kind = static_cast<int32_t>(event.kind),
                .round = event.round.round,
                .status = static_cast<int32_t>(code),
                .committed = ended && event.round.state == RoundState::kCommitted ? 1U : 0U,
                .answered = event.answered,
                .asked = event.asked,
                .accuracy = event.round.accuracy,
                .loss = event.round.loss,
                .message = nullptr};
  kept.message = ended                             ? event.round.reason
                 : event.kind == Kind::kStepClosed ? event.step
                                                   : event.trouble.message();
  return kept;
}

Status Bound::SetTokenKeys(std::string_view jwks) const {
  if (tokens_ == nullptr)
    return FailedPrecondition("this coordinator asks for no tokens: make it with token_keys");
  return tokens_->SetKeys(jwks);
}

Status Bound::Poll(std::chrono::microseconds budget) {
  if (!own_thread_) CHORUS_TRY(coordinator_->Tick(budget));
  for (const CoordinatorEvent& event : coordinator_->Poll(std::chrono::milliseconds(0))) {
    if (events_.size() >= limits::kEventsMax) events_.pop_front();
    events_.push_back(KeptOf(event));
  }
  while (on_event_ != nullptr && !events_.empty()) {
    // Taken off first: the callback may make calls that look at the others.
    Kept kept = std::move(events_.front());
    events_.pop_front();
    kept.event.message = kept.message.c_str();
    on_event_(user_, &kept.event);
  }
  return OkStatus();
}

Status Bound::TakeEvent(chorus_coordinator_event* event) {
  CHORUS_TRY(c_abi::CheckRoom(event, "event"));
  if (on_event_ != nullptr)
    return FailedPrecondition("the events of this coordinator go to its on_event");
  if (events_.empty()) return NotFound("no event is left");
  CHORUS_TRY(c_abi::WriteStruct(event, events_.front().event, "event"));
  event->message = c_abi::Lend(std::move(events_.front().message));
  events_.pop_front();
  return OkStatus();
}

}  // namespace chorus::coordinator

namespace {

using chorus::c_abi::Entry;
using chorus::c_abi::GateOf;
using chorus::c_abi::Report;
using chorus::coordinator::Bound;
using CoordinatorCall = chorus::c_abi::Call<Bound>;
using CoordinatorShell = chorus::c_abi::Shell<Bound>;

// Enters, does `work` on the coordinator, reports.
template <typename Work>
int32_t Do(chorus_coordinator* coordinator, Entry entry, const Work& work) {
  const CoordinatorCall call(GateOf(coordinator), entry);
  if (!call.status().ok()) return Report(call.status());
  return Report(work(*call.operator->()));
}

chorus::Status Create(const chorus_coordinator_config* given, chorus_coordinator** coordinator) {
  if (coordinator == nullptr) return chorus::c_abi::NullPointer("coordinator");
  *coordinator = nullptr;
  CHORUS_TRY_ASSIGN(const chorus_coordinator_config config,
                    chorus::c_abi::ReadStruct(given, "config"));
  CHORUS_TRY(chorus::coordinator::CheckConfig(config));
  CHORUS_TRY_ASSIGN(std::unique_ptr<Bound> bound, Bound::Start(config));
  *coordinator = CoordinatorShell::Make<chorus_coordinator>(std::move(bound));
  return chorus::OkStatus();
}

}  // namespace

extern "C" {

int32_t chorus_coordinator_config_init(chorus_coordinator_config* config, uint32_t struct_size) {
  return Report(chorus::c_abi::InitStruct(config, struct_size, {}, "config"));
}

int32_t chorus_coordinator_create(const chorus_coordinator_config* config,
                                  chorus_coordinator** coordinator) {
  return Report(Create(config, coordinator));
}

int32_t chorus_coordinator_get_port(chorus_coordinator* coordinator, int32_t* port) {
  return Do(coordinator, Entry::kNested, [&](const Bound& bound) {
    if (port == nullptr) return chorus::c_abi::NullPointer("port");
    *port = bound.port();
    return chorus::OkStatus();
  });
}

int32_t chorus_coordinator_get_web_port(chorus_coordinator* coordinator, int32_t* port) {
  return Do(coordinator, Entry::kNested, [&](const Bound& bound) {
    if (port == nullptr) return chorus::c_abi::NullPointer("port");
    *port = bound.web_port();
    return chorus::OkStatus();
  });
}

int32_t chorus_coordinator_set_token_keys(chorus_coordinator* coordinator, const void* jwks,
                                          uint64_t size) {
  return Do(coordinator, Entry::kAnyThread, [&](const Bound& bound) {
    const chorus_bytes text{jwks, size};
    CHORUS_TRY(chorus::c_abi::CheckBytes(text, "jwks"));
    return bound.SetTokenKeys(chorus::c_abi::TextOf(text));
  });
}

int32_t chorus_coordinator_poll(chorus_coordinator* coordinator, uint32_t budget_us) {
  return Do(coordinator, Entry::kAlone,
            [&](Bound& bound) { return bound.Poll(std::chrono::microseconds(budget_us)); });
}

int32_t chorus_coordinator_next_event(chorus_coordinator* coordinator,
                                      chorus_coordinator_event* event) {
  return Do(coordinator, Entry::kNested, [&](Bound& bound) { return bound.TakeEvent(event); });
}

int32_t chorus_coordinator_fetch_model(chorus_coordinator* coordinator, chorus_model** model) {
  return Do(coordinator, Entry::kNested, [&](const Bound& bound) {
    if (model == nullptr) return chorus::c_abi::NullPointer("model");
    *model = bound.FetchModel();
    return chorus::OkStatus();
  });
}

int32_t chorus_coordinator_destroy(chorus_coordinator* coordinator) {
  CoordinatorCall call(GateOf(coordinator), Entry::kAlone);
  if (!call.status().ok()) return Report(call.status());
  call.Destroy();
  return CHORUS_OK;
}

}  // extern "C"
