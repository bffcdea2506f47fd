#include "chorus/coordinator.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <future>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "aggregation/protocols.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/parallel.h"
#include "base/stopwatch.h"
#include "coordinator/counted_store.h"
#include "coordinator/listener.h"
#include "coordinator/measures.h"
#include "coordinator/process_figures.h"
#include "coordinator/router.h"
#include "coordinator/service.h"
#include "coordinator/status_board.h"
#include "coordinator/status_json.h"
#include "coordinator/task_state.h"
#include "coordinator/web.h"
#include "coordinator/web_pages.h"
#include "crypto/crypto.h"
#include "wire/wire.h"

namespace chorus {
namespace {

constexpr std::chrono::milliseconds kPollWaitMax{24 * 3'600 * 1'000};
// A host's clock need not run as fast as the machine's, so it is looked at this often.
constexpr std::chrono::milliseconds kClockLookMax{250};
// How often a store that failed is tried, where nobody else uses it.
constexpr std::chrono::milliseconds kStoreProbe{2'000};

// Unmasking and checking signatures scale with cores, but the coordinator is a guest on its
// machine.
size_t WorkingThreads() {
  constexpr unsigned kThreadsMax = 8;
  return std::clamp(std::thread::hardware_concurrency(), 1U, kThreadsMax);
}

// As RoundReport::dropouts counts them.
std::vector<std::string> StepNamesOf(const TaskSpec& task) {
  std::vector<std::string> names = {"training"};
  for (const std::string_view name : aggregation::StepNames(task.protocol, task.secagg.graph)) {
    names.emplace_back(name);
  }
  return names;
}

// A budget beyond this is none; it keeps nanoseconds from overflowing.
constexpr std::chrono::microseconds kTickMax = std::chrono::hours(1);
AuditEntry OrderOf(AuditEntry::Action action) {
  AuditEntry order;
  order.action = action;
  return order;
}

// Of all requests in the queue to the coordinator's thread. A chunk that finds no room is sent
// again in a moment, so more would only be memory.
constexpr size_t kQueuedBytesMax = size_t{32} << 20U;
constexpr std::chrono::milliseconds kRoomWait{50};
static_assert(kQueuedBytesMax <= limits::kRequestsQueuedBytesMax);

// How many of them the thread takes at a time, so that it sees what is cheaper done for several.
constexpr size_t kTakenMax = 8;

struct Request {
  std::string_view method;
  coordinator::Body body;
  coordinator::Reply reply;
  // Of the host: what is done in place of a call, and what `reply` is given.
  std::function<Status(coordinator::Router&)> work = {};
  std::optional<coordinator::Vetted> vetted = std::nullopt;      // a check-in, in place of the body
  std::optional<coordinator::UploadCall> upload = std::nullopt;  // likewise a call of Upload

  uint64_t size_bytes() const { return upload ? upload->body.size() : body.size(); }
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
                 bytes_ + request.size_bytes() > kQueuedBytesMax) {
        refused = Unavailable("the coordinator has too many requests: try again later")
                      .RetryAfter(kRoomWait);
      } else {
        bytes_ += request.size_bytes();
        requests_.push_back(std::move(request));
      }
    }
    if (!refused.ok()) {
      request.reply(std::move(refused));
      return;
    }
    changed_.notify_one();
  }

  // The next requests, at most so many, or none after `wait` and once closed.
  std::deque<Request> Pop(std::chrono::milliseconds wait, size_t most) {
    std::deque<Request> next;
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, wait, [this] { return closed_ || !requests_.empty(); });
    while (!closed_ && !requests_.empty() && next.size() < most) {
      bytes_ -= requests_.front().size_bytes();
      next.push_back(std::move(requests_.front()));
      requests_.pop_front();
    }
    return next;
  }

  // How many wait, and how many bytes they hold.
  std::pair<size_t, size_t> Waiting() const {
    const std::lock_guard lock(mutex_);
    return {requests_.size(), bytes_};
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

// Threads that vet check-ins before the coordinator's own sees them. Thread-safe.
class Doorkeepers {
 public:
  // NOLINTNEXTLINE(tidy): gRPC's threads may be at the door while the core that made it goes.
  Doorkeepers(std::shared_ptr<coordinator::Admission> admission,  // NOLINT(tidy): likewise.
              const Clock& clock, RequestQueue& requests, size_t threads)
      : admission_(std::move(admission)), clock_(clock), requests_(requests) {
    for (size_t i = 0; i < threads; ++i) threads_.emplace_back([this] { Serve(); });
  }
  ~Doorkeepers() { Close(); }
  Doorkeepers(const Doorkeepers&) = delete;
  Doorkeepers& operator=(const Doorkeepers&) = delete;

  Status Enter(std::string_view method, std::string_view address) {
    return admission_->Enter(method, ViewOf(address), clock_.Now());
  }
  // Whether a call names a session that is open. Reads an upload.
  Status CheckSession(Request& request) const {
    if (request.method == wire::kUpload) {
      CHORUS_TRY_ASSIGN(request.upload, coordinator::UploadCall::Read(std::move(request.body)));
      return admission_->CheckSession(request.upload->chunk.session);
    }
    CHORUS_TRY_ASSIGN(const wire::SessionToken session,
                      wire::SessionIn(request.method, request.body.Whole()));
    return admission_->CheckSession(session);
  }
  // Lets nobody in any more; those who wait get kUnavailable.
  void Close() {
    std::deque<Request> rest;
    {
      const std::lock_guard lock(mutex_);
      closed_ = true;
      rest.swap(waiting_);
    }
    changed_.notify_all();
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }

  // Queues a check-in, or answers at once why not.
  void Push(Request request) {
    bool queued = false;
    {
      const std::lock_guard lock(mutex_);
      queued = !closed_ && waiting_.size() < limits::kCheckInsQueuedMax;
      if (queued) waiting_.push_back(std::move(request));
    }
    if (queued) return changed_.notify_one();
    request.reply(Unavailable("the coordinator has too many check-ins: try again later"));
  }

 private:
  void Serve() {
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [this] { return closed_ || !waiting_.empty(); });
      if (closed_) return;
      Request request = std::move(waiting_.front());
      waiting_.pop_front();
      lock.unlock();
      Result<coordinator::Vetted> vetted = admission_->Vet(request.body.Whole(), clock_.Now());
      if (vetted.ok()) {
        request.vetted = *std::move(vetted);
        request.body = {};
        requests_.Push(std::move(request));
      } else {
        request.reply(vetted.status());
      }
      lock.lock();
    }
  }

  const std::shared_ptr<coordinator::Admission> admission_;  // NOLINT(tidy): see the constructor.
  const Clock& clock_;
  RequestQueue& requests_;
  std::mutex mutex_;  // guards what follows, but for the threads
  std::condition_variable changed_;
  std::deque<Request> waiting_;
  bool closed_ = false;
  std::vector<std::thread> threads_;
};

// What the coordinator's thread shows to the host's threads. Thread-safe.
class Showcase {
 public:
  void ShowResults(const std::string& task, ServedModel model, std::vector<int64_t> answers) {
    const std::lock_guard lock(mutex_);
    Results& results = results_[task];
    std::swap(results.model, model);
    results.answers.swap(answers);
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
  ServedModel model(std::string_view task) const {
    const std::lock_guard lock(mutex_);
    const auto found = results_.find(task);
    return found == results_.end() ? ServedModel() : found->second.model;
  }
  std::vector<int64_t> answers(std::string_view task) const {
    const std::lock_guard lock(mutex_);
    const auto found = results_.find(task);
    return found == results_.end() ? std::vector<int64_t>() : found->second.answers;
  }

 private:
  struct Results {
    ServedModel model;
    std::vector<int64_t> answers;
  };

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<CoordinatorEvent> events_;
  std::map<std::string, Results, std::less<>> results_;  // by task
};

}  // namespace

struct Coordinator::Inside {
  Inside(SecretBytes seed, Store& the_store, const Clock& the_clock, LogSink& the_log)
      : signing_seed(std::move(seed)),
        store(the_store, measures),
        rng(crypto::NewSystemRng()),
        clock(the_clock),
        log(the_log) {}

  // In this order: every call is answered (those still queued by dropping their replies), and then
  // the service ends without waiting for any. The page is left last that asks for the status.
  ~Inside() {
    if (service != nullptr) service->SetServing(false);
    requests.Close();
    if (doorkeepers != nullptr) doorkeepers->Close();
    if (thread.joinable()) thread.join();
    router.reset();
    taken.clear();
    requests.DropRest();
    service.reset();
    web.reset();
    Log(log, LogLevel::kInfo, "coordinator stopped");
  }

  // The coordinator's thread: the only one that touches the router and its cores once it runs.
  void Run() {
    while (!requests.closed()) {
      const std::chrono::milliseconds wait =
          std::clamp(router->NextTick() - clock.Now(), std::chrono::milliseconds(0), kClockLookMax);
      (void)Turn(wait);
    }
    router.reset();  // aborts the rounds and answers parked calls
  }

  void Serve(Request& request) {
    if (request.vetted) {
      return router->Admit(*std::move(request.vetted), std::move(request.reply));
    }
    if (request.upload) {
      return router->TakeUpload(*std::move(request.upload), std::move(request.reply));
    }
    if (request.work == nullptr) {
      return router->Handle(request.method, std::move(request.body), std::move(request.reply));
    }
    const Status done = request.work(*router);
    Show();
    request.reply(done.ok() ? Result<Bytes>(Bytes()) : done);
  }

  // Runs the host's `work` on the coordinator's thread and waits for it; without one, here, between
  // two ticks.
  Status Ask(std::function<Status(coordinator::Router&)> work) {
    if (!thread.joinable()) {
      if (ticking.exchange(true))
        return FailedPrecondition("another thread is inside this coordinator's tick");
      const Time began = clock.Now();
      const Status done = work(*router);
      router->EndTurn(began);
      Show();
      ticking = false;
      return done;
    }
    std::promise<Status> promise;
    std::future<Status> done = promise.get_future();
    requests.Push(
        {.method = {},
         .body = {},
         .reply = [&promise](const Result<Bytes>& result) { promise.set_value(result.status()); },
         .work = std::move(work)});
    return done.get();
  }

  // Says whether the coordinator can work, and while it cannot, tries whether it can again.
  void LookAtStore() {
    if (store.failing() && clock.Now() >= probe_at) {
      const std::vector<coordinator::CoordinatorCore*> cores = router->cores();
      static_cast<void>(
          store.Probe(coordinator::TaskIdOf(cores.empty() ? "" : cores.front()->task().name)));
      probe_at = clock.Now() + kStoreProbe;
    }
    const bool serves = !store.failing();
    if (serves == serving) return;
    serving = serves;
    service->SetServing(serves);
    Log(log, LogLevel::kWarn,
        serves ? Literal("the store works again") : Literal("the store fails"));
  }

  // From gRPC's threads, and from those who ask for the status.
  void Take(std::string_view method, coordinator::Body request, coordinator::Reply reply) {
    const uint64_t request_bytes = request.size();
    Receive({method, std::move(request),
             [this, method, request_bytes, watch = Stopwatch(),
              answer = std::move(reply)](Result<Bytes> result) {
               measures.Count(
                   coordinator::AnsweredCall{.method = method,
                                             .code = result.status().code(),
                                             .seconds = watch.Seconds(),
                                             .request_bytes = request_bytes,
                                             .reply_bytes = result.ok() ? result->size() : 0});
               answer(std::move(result));
             }});
  }

  std::string Metrics() {
    coordinator::Levels levels;
    // Without a thread of its own the coordinator may be waiting for the one that asks here.
    Result<coordinator::BoardStatus> board =
        own_thread ? status_board.Look() : status_board.Known();
    if (board.ok()) levels.tasks = std::move(board->tasks);
    std::tie(levels.requests_queued, levels.requests_queued_bytes) = requests.Waiting();
    levels.store_failing = store.failing();
    return measures.Page(levels);
  }

  Status ServeWeb(const std::string& listen) {
    if (listen.empty()) return OkStatus();
    const coordinator::WebSubjects subjects{
        .metrics = [this] { return Metrics(); },
        .status_json = [this]() -> Result<std::string> {
          CHORUS_TRY_ASSIGN(const coordinator::BoardStatus board, status_board.Look());
          return coordinator::StatusJson(board, coordinator::ReadProcessFigures());
        },
        .healthy = [this] { return !store.failing(); }};
    CHORUS_TRY_ASSIGN(
        web, coordinator::Web::Start({.listen = listen}, [subjects](std::string_view path) {
          return coordinator::AnswerWeb(path, subjects);
        }));
    return OkStatus();
  }

  // Does beforehand what is cheaper done for several of the requests taken.
  void HashAhead() {
    std::vector<coordinator::UploadCall*> uploads;
    for (Request& request : taken) {
      if (request.upload) uploads.push_back(&*request.upload);
    }
    router->HashAhead(uploads);
  }

  // One request, if there is one within `wait`, and what is due; false when there was none.
  bool Turn(std::chrono::milliseconds wait) {
    const bool fresh = taken.empty();
    // A host that ticks has a budget, and one request at a time keeps to it best.
    if (fresh) taken = requests.Pop(wait, own_thread ? kTakenMax : 1);
    const Time began = clock.Now();
    const bool any = !taken.empty();
    if (any) {
      if (fresh) HashAhead();
      Request request = std::move(taken.front());
      taken.pop_front();
      Serve(request);
    }
    router->EndTurn(began);
    if (clock.Now() >= router->NextTick()) router->Tick();
    Show();
    const Time looks = clock.Now();
    LookAtStore();
    router->EndTurn(looks);
    return any;
  }

  // On gRPC's threads. What anybody can make up is not to fill the queue, nor to take the time of
  // the one thread behind it.
  void Receive(Request request) {
    if (request.method == wire::kCheckIn) return doorkeepers->Push(std::move(request));
    if (wire::IsOfSession(request.method)) {
      if (Status open = doorkeepers->CheckSession(request); !open.ok()) {
        return request.reply(std::move(open));
      }
    }
    requests.Push(std::move(request));
  }
  // Calls that need no session count against their address; those of a session against it.
  Status Enter(std::string_view method, std::string_view address) {
    return wire::IsOfSession(method) ? OkStatus() : doorkeepers->Enter(method, address);
  }
  Status Control(const TaskChange& change, AuditEntry entry) {
    entry.reason = change.reason;
    return Ask(
        [&change, &entry](coordinator::Router& of) { return of.Control(change.task, entry); });
  }

  // Whoever hears of a committed round finds its model.
  void Show() {
    const std::vector<coordinator::CoordinatorCore*> cores = router->cores();
    for (; shown < cores.size(); ++shown) ShowResults(*cores[shown]);
    std::vector<CoordinatorEvent> events = router->TakeEvents();
    for (const CoordinatorEvent& event : events) {
      const coordinator::CoordinatorCore& core = *router->Find(event.task);
      measures.Count(event, event.task, StepNamesOf(core.task()));
      if (event.kind == CoordinatorEvent::Kind::kTaskChanged ||
          (event.kind == CoordinatorEvent::Kind::kRoundEnded &&
           event.round.state == RoundState::kCommitted)) {
        ShowResults(core);
      }
    }
    showcase.Add(std::move(events));
  }
  void ShowResults(const coordinator::CoordinatorCore& core) {
    showcase.ShowResults(core.task().name, {core.weights(), core.Summary().rounds_committed},
                         core.answers());
  }

  const SecretBytes signing_seed;
  coordinator::Measures measures;
  coordinator::CountedStore store;
  bool serving = true;     // as last said
  bool own_thread = true;  // before anything is listening
  Time probe_at{};
  ThreadPool pool{WorkingThreads()};
  const std::unique_ptr<Rng> rng;
  const Clock& clock;
  LogSink& log;
  RequestQueue requests;
  std::deque<Request> taken;  // off the queue, to be served before any other
  Showcase showcase;
  coordinator::StatusBoard status_board{[this](Bytes request, coordinator::Reply reply) {
    Take(wire::kGetStatus, std::move(request), std::move(reply));
  }};
  std::unique_ptr<coordinator::Router> router;
  std::unique_ptr<Doorkeepers> doorkeepers;
  size_t shown = 0;  // of its tasks, those that the showcase has
  std::unique_ptr<coordinator::Service> service;
  std::unique_ptr<coordinator::Web> web;
  std::atomic<bool> ticking{false};  // some thread is inside Tick
  std::thread thread;
};

Coordinator::Coordinator(std::unique_ptr<Inside> inside) : inside_(std::move(inside)) {}
Coordinator::~Coordinator() = default;

Result<std::unique_ptr<Coordinator>> Coordinator::Start(CoordinatorOptions options, Store& store,
                                                        const IdentityVerifier& verifier,
                                                        const Clock& clock, LogSink& log) {
  if (options.signing_seed.size() != crypto::kKeyBytes)
    return InvalidArgument("signing_seed must have 32 bytes");
  coordinator::ServiceOptions service{.listen = std::move(options.listen),
                                      .tls_certificate_pem = std::move(options.tls_certificate_pem),
                                      .tls_key_pem = std::move(options.tls_key_pem),
                                      .client_ca_pem = std::move(options.client_ca_pem),
                                      .plaintext = options.plaintext,
                                      .reflection = options.reflection};
  CHORUS_TRY(coordinator::CheckServiceOptions(service));
  const size_t room = coordinator::ConnectionsMax(coordinator::DescriptorsMax());
  if (options.pacing.connected_max > room) {
    Log(log, LogLevel::kWarn, "fewer descriptors than pacing.connected_max: raise the limit",
        {{"connected_max", options.pacing.connected_max}, {"room", room}});
    options.pacing.connected_max = static_cast<uint32_t>(room);
  }
  auto inside = std::make_unique<Inside>(std::move(options.signing_seed), store, clock, log);
  inside->own_thread = options.own_thread;
  CHORUS_TRY_ASSIGN(inside->router,
                    coordinator::Router::Create({.signing_seed = inside->signing_seed.Reveal(),
                                                 .executor = &inside->pool,
                                                 .tasks = std::move(options.tasks),
                                                 .stored_tasks = options.stored_tasks,
                                                 .operators = std::move(options.operators),
                                                 .retention = options.retention,
                                                 .advertise = std::move(options.advertise),
                                                 .admission = options.admission,
                                                 .pacing = options.pacing},
                                                inside->store, verifier, clock, *inside->rng, log));
  inside->Show();
  inside->doorkeepers = std::make_unique<Doorkeepers>(inside->router->admission(), clock,
                                                      inside->requests, WorkingThreads());
  Inside& started = *inside;
  service.gate = [&started](std::string_view method, std::string_view address) {
    return started.Enter(method, address);
  };
  CHORUS_TRY_ASSIGN(inside->service,
                    coordinator::Service::Start(
                        service, [&started](std::string_view method, coordinator::Body request,
                                            coordinator::Reply reply) {
                          started.Take(method, std::move(request), std::move(reply));
                        }));
  CHORUS_TRY(inside->ServeWeb(options.web_listen));
  if (options.own_thread) inside->thread = std::thread([&started] { started.Run(); });
  Log(log, LogLevel::kInfo, "coordinator listens", {{"port", inside->service->port()}});
  return std::unique_ptr<Coordinator>(new Coordinator(std::move(inside)));
}

int Coordinator::port() const { return inside_->service->port(); }

int Coordinator::web_port() const { return inside_->web == nullptr ? 0 : inside_->web->port(); }

std::string Coordinator::Metrics() const { return inside_->Metrics(); }

Status Coordinator::Tick(std::chrono::microseconds budget) {
  if (inside_->thread.joinable())
    return FailedPrecondition("this coordinator has its own thread: start it without");
  if (inside_->ticking.exchange(true))
    return FailedPrecondition("another thread is inside this coordinator's tick");
  const int64_t begin = MonotonicNanoseconds();
  const int64_t budget_ns = std::chrono::nanoseconds(std::min(budget, kTickMax)).count();
  while (inside_->Turn(std::chrono::milliseconds(0)) &&
         MonotonicNanoseconds() - begin < budget_ns) {
  }
  inside_->ticking = false;
  return OkStatus();
}

std::vector<CoordinatorEvent> Coordinator::Poll(std::chrono::milliseconds wait) {
  return inside_->showcase.Take(std::clamp(wait, std::chrono::milliseconds(0), kPollWaitMax));
}

Weights Coordinator::CurrentWeights(std::string_view task) const {
  return CurrentModel(task).weights;
}

ServedModel Coordinator::CurrentModel(std::string_view task) const {
  return inside_->showcase.model(task);
}

std::vector<int64_t> Coordinator::CurrentAnswers(std::string_view task) const {
  return inside_->showcase.answers(task);
}

Status Coordinator::AddTask(HostedTask task) {
  // std::function copies what it holds, and a task is moved.
  return inside_->Ask(
      [&task](coordinator::Router& router) { return router.AddTask(std::move(task)); });
}

Status Coordinator::Pause(const TaskChange& change) {
  return inside_->Control(change, OrderOf(change.abort_round ? AuditEntry::Action::kPausedNow
                                                             : AuditEntry::Action::kPaused));
}

Status Coordinator::Resume(const TaskChange& change) {
  return inside_->Control(change, OrderOf(AuditEntry::Action::kResumed));
}

Status Coordinator::Stop(const TaskChange& change) {
  return inside_->Control(change, OrderOf(AuditEntry::Action::kStopped));
}

Status Coordinator::RollBack(const TaskChange& change, uint64_t round) {
  AuditEntry order = OrderOf(AuditEntry::Action::kRolledBack);
  order.round = round;
  return inside_->Control(change, std::move(order));
}

Status Coordinator::SetPriority(const TaskChange& change, uint32_t priority) {
  AuditEntry order = OrderOf(AuditEntry::Action::kPriority);
  order.priority = priority;
  return inside_->Control(change, std::move(order));
}

}  // namespace chorus
