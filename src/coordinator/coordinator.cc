#include "chorus/coordinator.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "base/limits.h"
#include "base/log.h"
#include "base/parallel.h"
#include "coordinator/core.h"
#include "coordinator/service.h"
#include "crypto/crypto.h"

namespace chorus {
namespace {

constexpr std::chrono::milliseconds kPollWaitMax{24 * 3'600 * 1'000};
// A host's clock need not run as fast as the machine's, so it is looked at this often.
constexpr std::chrono::milliseconds kClockLookMax{250};

// Unmasking scales with cores, but the coordinator is a guest on its machine.
size_t UnmaskingThreads() {
  constexpr unsigned kThreadsMax = 8;
  return std::clamp(std::thread::hardware_concurrency(), 1U, kThreadsMax);
}

struct Request {
  std::string_view method;
  Bytes body;
  coordinator::Reply reply;
};

// What gRPC's threads hand to the coordinator's thread. Thread-safe.
class RequestQueue {
 public:
  // Queues, or answers at once why not.
  void Push(Request request) {
    Status refused;
    {
      const std::lock_guard lock(mutex_);
      if (closed_) {
        refused = Unavailable("the coordinator is stopping: try again later");
      } else if (requests_.size() >= limits::kRequestsQueuedMax ||
                 bytes_ + request.body.size() > limits::kRequestsQueuedBytesMax) {
        refused = Unavailable("the coordinator has too many requests: try again later");
      } else {
        bytes_ += request.body.size();
        requests_.push_back(std::move(request));
      }
    }
    if (!refused.ok()) {
      request.reply(std::move(refused));
      return;
    }
    changed_.notify_one();
  }

  // The next request, or none after `wait` and once closed.
  std::optional<Request> Pop(std::chrono::milliseconds wait) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, wait, [this] { return closed_ || !requests_.empty(); });
    if (closed_ || requests_.empty()) return std::nullopt;
    Request request = std::move(requests_.front());
    requests_.pop_front();
    bytes_ -= request.body.size();
    return request;
  }

  void Close() {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    changed_.notify_all();
  }
  bool closed() const {
    const std::lock_guard lock(mutex_);
    return closed_;
  }
  // Forgets what was waiting when the queue closed.
  void DropRest() {
    std::deque<Request> rest;
    const std::lock_guard lock(mutex_);
    rest.swap(requests_);
    bytes_ = 0;
  }

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Request> requests_;
  size_t bytes_ = 0;
  bool closed_ = false;
};

// What the coordinator's thread shows to the host's threads. Thread-safe.
class Showcase {
 public:
  void ShowResults(Weights weights, std::vector<int64_t> answers) {
    const std::lock_guard lock(mutex_);
    weights_.swap(weights);
    answers_.swap(answers);
  }
  void Add(std::vector<CoordinatorEvent> events) {
    if (events.empty()) return;
    const std::lock_guard lock(mutex_);
    for (CoordinatorEvent& event : events) events_.push_back(std::move(event));
    while (events_.size() > limits::kEventsMax) events_.pop_front();
    changed_.notify_all();
  }
  std::vector<CoordinatorEvent> Take(std::chrono::milliseconds wait) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, wait, [this] { return !events_.empty(); });
    std::vector<CoordinatorEvent> events(std::make_move_iterator(events_.begin()),
                                         std::make_move_iterator(events_.end()));
    events_.clear();
    return events;
  }
  Weights weights() const {
    const std::lock_guard lock(mutex_);
    return weights_;
  }
  std::vector<int64_t> answers() const {
    const std::lock_guard lock(mutex_);
    return answers_;
  }

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<CoordinatorEvent> events_;
  Weights weights_;
  std::vector<int64_t> answers_;
};

}  // namespace

struct Coordinator::Inside {
  Inside(SecretBytes seed, const Clock& the_clock, LogSink& the_log)
      : signing_seed(std::move(seed)),
        rng(crypto::NewSystemRng()),
        clock(the_clock),
        log(the_log) {}

  // In this order: every call is answered (those still queued by dropping their replies), and then
  // the service ends without waiting for any.
  ~Inside() {
    requests.Close();
    if (thread.joinable()) thread.join();
    core.reset();
    requests.DropRest();
    service.reset();
    Log(log, LogLevel::kInfo, "coordinator stopped");
  }

  // The coordinator's thread: the only one that touches the core once it runs.
  void Run() {
    while (!requests.closed()) {
      const std::chrono::milliseconds wait =
          std::clamp(core->NextTick() - clock.Now(), std::chrono::milliseconds(0), kClockLookMax);
      if (std::optional<Request> request = requests.Pop(wait))
        core->Handle(request->method, request->body, std::move(request->reply));
      if (clock.Now() >= core->NextTick()) core->Tick();
      Show();
    }
    core.reset();  // aborts the round and answers parked calls
  }

  // Whoever hears of a committed round finds its model.
  void Show() {
    std::vector<CoordinatorEvent> events = core->TakeEvents();
    const bool committed =
        std::any_of(events.begin(), events.end(), [](const CoordinatorEvent& event) {
          return event.kind == CoordinatorEvent::Kind::kRoundEnded &&
                 event.round.state == RoundState::kCommitted;
        });
    if (committed) showcase.ShowResults(core->weights(), core->answers());
    showcase.Add(std::move(events));
  }

  const SecretBytes signing_seed;
  ThreadPool pool{UnmaskingThreads()};
  const std::unique_ptr<Rng> rng;
  const Clock& clock;
  LogSink& log;
  RequestQueue requests;
  Showcase showcase;
  std::unique_ptr<coordinator::Core> core;
  std::unique_ptr<coordinator::Service> service;
  std::thread thread;
};

Coordinator::Coordinator(std::unique_ptr<Inside> inside) : inside_(std::move(inside)) {}
Coordinator::~Coordinator() = default;

Result<std::unique_ptr<Coordinator>> Coordinator::Start(CoordinatorOptions options, Store& store,
                                                        const IdentityVerifier& verifier,
                                                        const Clock& clock, LogSink& log) {
  if (options.signing_seed.size() != crypto::kKeyBytes)
    return InvalidArgument("signing_seed must have 32 bytes");
  const coordinator::ServiceOptions service{
      .listen = std::move(options.listen),
      .tls_certificate_pem = std::move(options.tls_certificate_pem),
      .tls_key_pem = std::move(options.tls_key_pem),
      .plaintext = options.plaintext};
  CHORUS_TRY(coordinator::CheckServiceOptions(service));
  auto inside = std::make_unique<Inside>(std::move(options.signing_seed), clock, log);
  CHORUS_TRY_ASSIGN(inside->core, coordinator::Core::Create(
                                      {.signing_seed = inside->signing_seed.Reveal(),
                                       .executor = &inside->pool,
                                       .task = std::move(options.task),
                                       .initial_weights = std::move(options.initial_weights),
                                       .experiment_seed = options.experiment_seed},
                                      store, verifier, clock, *inside->rng, log));
  inside->showcase.ShowResults(inside->core->weights(), inside->core->answers());
  inside->Show();
  RequestQueue& requests = inside->requests;
  CHORUS_TRY_ASSIGN(
      inside->service,
      coordinator::Service::Start(
          service, [&requests](std::string_view method, Bytes request, coordinator::Reply reply) {
            requests.Push({method, std::move(request), std::move(reply)});
          }));
  inside->thread = std::thread([started = inside.get()] { started->Run(); });
  Log(log, LogLevel::kInfo, "coordinator listens", {{"port", inside->service->port()}});
  return std::unique_ptr<Coordinator>(new Coordinator(std::move(inside)));
}

int Coordinator::port() const { return inside_->service->port(); }

std::vector<CoordinatorEvent> Coordinator::Poll(std::chrono::milliseconds wait) {
  return inside_->showcase.Take(std::clamp(wait, std::chrono::milliseconds(0), kPollWaitMax));
}

Weights Coordinator::CurrentWeights() const { return inside_->showcase.weights(); }

std::vector<int64_t> Coordinator::CurrentAnswers() const { return inside_->showcase.answers(); }

}  // namespace chorus
