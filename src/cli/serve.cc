// `chorus serve`: a coordinator as a process of its own.
#include <sys/resource.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "aggregation/protocols.h"
#include "base/clock.h"
#include "base/log.h"
#include "chorus/coordinator.h"
#include "cli/command.h"
#include "cli/door.h"
#include "cli/files.h"
#include "cli/model_file.h"
#include "cli/report.h"
#include "cli/results.h"
#include "cli/stop.h"
#include "cli/store.h"
#include "trust/trust.h"
#include "wire/wire.h"

namespace chorus::cli {
namespace {

// How long a complete task is still served, so that clients in mid-call hear of it.
constexpr std::chrono::milliseconds kFarewell{2'000};
// A client's certificate must outlive the round it is admitted to.
constexpr std::chrono::hours kLongestRound{1};

// Lines on standard output, and on a terminal one line of progress that is written over.
class Screen {
 public:
  void Line(const std::string& text) {
    if (terminal_) std::fputs("\r\033[K", stdout);
    std::fputs((text + "\n").c_str(), stdout);
    std::fflush(stdout);
  }
  void Progress(const std::string& text) {
    if (!terminal_) return;
    std::fputs(("\r\033[K" + text).c_str(), stdout);
    std::fflush(stdout);
  }

 private:
  bool terminal_ = ::isatty(STDOUT_FILENO) == 1;
};

const char* NameOf(Protocol protocol) {
  if (protocol == Protocol::kPlain) return "plain";
  return protocol == Protocol::kOneShot ? "one_shot" : "secagg";
}

// A connection is a descriptor, and systems begin with few of them: 1,024 is usual, though a
// process may have as many as the hard limit says.
void RaiseDescriptors(uint32_t connected_max, Screen& screen) {
  constexpr rlim_t kOthers = 200;  // files, the store's connections, the web page's
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  if (limit.rlim_cur < limit.rlim_max) {
    limit.rlim_cur = limit.rlim_max;
    if (::setrlimit(RLIMIT_NOFILE, &limit) != 0) ::getrlimit(RLIMIT_NOFILE, &limit);
  }
  if (limit.rlim_cur >= connected_max + kOthers) return;
  screen.Line("warning: this process may open " + std::to_string(limit.rlim_cur) +
              " files and connections, fewer than --connected-max " +
              std::to_string(connected_max) + " needs: raise the limit (ulimit -n, LimitNOFILE)");
}

Status WritePort(const std::string& path, int port) {
  if (path.empty()) return OkStatus();
  const std::string text = std::to_string(port) + "\n";
  return WriteFile(path, ViewOf(text), WriteOptions{.existing = Existing::kReplace});
}

struct ServeOptions {
  std::vector<std::string> tasks;
  std::vector<std::string> operators;
  std::string keys;
  StorePlace place;
  Retention retention;
  std::string listen = "127.0.0.1:7447";
  std::string advertise;
  bool plaintext = false;
  std::string start;
  std::string evaluate;
  std::string curve;
  std::optional<uint64_t> experiment_seed;
  std::string port_file;
  bool until_complete = false;
  bool verbose = false;
  DoorOptions door;
  std::string web;
  std::string web_port_file;
  bool reflection = false;
  std::string log_format = "text";
};

// A task beside the first: what is told of it.
struct Companion {
  TaskSpec task;
  bool complete = false;
};

// Tasks being served: what happened so far and how to tell it. Most is told of the first.
class Run {
 public:
  // At least one task.
  Run(const ServeOptions& options, std::vector<TaskSpec> tasks)
      : options_(options), task_(std::move(tasks.front())) {
    for (auto task = tasks.begin() + 1; task != tasks.end(); ++task) {
      const std::string name = task->name;
      companions_[name].task = std::move(*task);
    }
  }

  Status Serve();

 private:
  Result<CoordinatorOptions> MakeOptions() const;
  Status Resume(Store& store);
  void Loop(Coordinator& coordinator, const Clock& clock, Door& door);
  Status CheckOptions() const;
  // What only tells cannot fail: no task ends because there is nothing good to say of one.
  void Tell(const CoordinatorEvent& event, const Coordinator& coordinator);
  void TellCompanion(const CoordinatorEvent& event);
  void TellChange(const CoordinatorEvent& event);
  Companion* FindCompanion(const std::string& name);
  bool all_complete() const;
  void TellRound(const RoundReport& round, const Coordinator& coordinator);
  void CountTraffic(const RoundReport& round);
  Status Conclude();

  const ServeOptions& options_;
  TaskSpec task_;
  std::map<std::string, Companion> companions_;  // by name
  Store* store_ = nullptr;
  Screen screen_;
  std::optional<Evaluator> evaluator_;
  std::vector<CurvePoint> curve_;
  bool resumed_ = false;  // the store has the task
  uint64_t committed_ = 0;
  bool complete_ = false;
  uint64_t client_rounds_ = 0;  // invitations in all
  uint64_t bytes_up_ = 0;
  uint64_t bytes_down_ = 0;
};

Result<CoordinatorOptions> Run::MakeOptions() const {
  CoordinatorOptions options;
  options.listen = options_.listen;
  options.advertise = options_.advertise;
  options.plaintext = options_.plaintext;
  options.web_listen = options_.web;
  options.reflection = options_.reflection;
  options.retention = options_.retention;
  CHORUS_TRY_ASSIGN(options.signing_seed, ReadSeed(options_.keys + "/coordinator.key"));
  if (!options_.plaintext) {
    CHORUS_TRY_ASSIGN(options.tls_certificate_pem, ReadText(options_.keys + "/tls-server.pem"));
    CHORUS_TRY_ASSIGN(options.tls_key_pem, ReadText(options_.keys + "/tls-server.key"));
  }
  HostedTask hosted{.task = task_, .experiment_seed = options_.experiment_seed};
  // A task that goes on does so from its own last model, so that one command serves both.
  if (!options_.start.empty() && !resumed_) {
    CHORUS_TRY_ASSIGN(hosted.initial_weights, ReadModelFile(options_.start, task_.model));
  }
  options.tasks.push_back(std::move(hosted));
  for (const auto& [name, companion] : companions_) {
    options.tasks.push_back({.task = companion.task, .experiment_seed = options_.experiment_seed});
  }
  for (const std::string& path : options_.operators) {
    CHORUS_TRY_ASSIGN(const PublicKey key, ReadPublicKey(path));
    options.operators.push_back(key);
  }
  // What operators have added is served again after a restart.
  options.stored_tasks = !options.operators.empty();
  return options;
}

// Takes up what an earlier process committed: how far the task is, and its part of the curve.
Status Run::Resume(Store& store) {
  CHORUS_TRY_ASSIGN(const std::optional<TaskRecord> record, FindTask(store, task_.name));
  if (!record.has_value()) return OkStatus();
  resumed_ = true;
  committed_ = record->rounds_committed;
  complete_ = committed_ >= task_.rounds;
  CHORUS_TRY_ASSIGN(const std::vector<RoundReport> rounds, CommittedRounds(store, record->id));
  for (size_t i = 0; i < rounds.size(); ++i) {
    CountTraffic(rounds[i]);
    if (!evaluator_.has_value()) {
      if (rounds[i].evaluated > 0) curve_.push_back({rounds[i].round, rounds[i].accuracy});
      continue;
    }
    // What a round made is what the next one trained on.
    const Digest& made = i + 1 < rounds.size() ? rounds[i + 1].model : record->model;
    const Result<Weights> weights = LoadWeights(store, made, task_);
    if (weights.status().code() == Code::kNotFound) continue;
    if (!weights.ok()) return weights.status();
    CHORUS_TRY_ASSIGN(const Measured measured, evaluator_->Measure(*weights));
    curve_.push_back({rounds[i].round, measured.accuracy});
  }
  screen_.Line("task " + task_.name + " goes on after " + std::to_string(committed_) + " of " +
               std::to_string(task_.rounds) + " rounds");
  return OkStatus();
}

Status Run::CheckOptions() const {
  CHORUS_TRY(ValidateTask(task_));
  for (const auto& [name, companion] : companions_) {
    const Status valid = ValidateTask(companion.task);
    if (!valid.ok()) return Status(valid.code(), "task " + name + ": " + valid.message());
  }
  const bool of_one =
      !(options_.start.empty() && options_.evaluate.empty() && options_.curve.empty());
  if (of_one && !companions_.empty()) {
    return InvalidArgument("--start, --evaluate and --curve are for a single --task");
  }
  if (!task_.queries.empty() &&
      !(options_.start.empty() && options_.evaluate.empty() && options_.curve.empty())) {
    return InvalidArgument(
        "the task asks queries and has no model: leave out --start, --evaluate and --curve");
  }
  return OkStatus();
}

Status Run::Serve() {
  CHORUS_TRY(CheckOptions());
  if (!options_.evaluate.empty()) {
    CHORUS_TRY_ASSIGN(evaluator_, Evaluator::Load(options_.evaluate, task_.model));
  }
  CHORUS_TRY_ASSIGN(const PublicKey issuer, ReadPublicKey(options_.keys + "/issuer.pub"));
  CHORUS_TRY_ASSIGN(const std::unique_ptr<Store> store,
                    OpenStore(options_.place, WhenAbsent::kMake));
  store_ = store.get();
  CHORUS_TRY(Resume(*store));
  CHORUS_TRY_ASSIGN(CoordinatorOptions options, MakeOptions());
  CHORUS_TRY_ASSIGN(Door door, Door::Open(options_.door));
  RaiseDescriptors(options_.door.connected_max, screen_);
  door.GiveTo(options);
  const std::unique_ptr<Clock> clock = NewSystemClock();
  const std::unique_ptr<IdentityVerifier> verifier =
      trust::NewAdmissionVerifier(issuer, *clock, kLongestRound);
  const std::unique_ptr<LogSink> log =
      NewStderrLogSink(options_.verbose ? LogLevel::kInfo : LogLevel::kWarn,
                       options_.log_format == "json" ? LogFormat::kJson : LogFormat::kText);
  CHORUS_TRY_ASSIGN(const std::unique_ptr<Coordinator> coordinator,
                    Coordinator::Start(std::move(options), *store, *verifier, *clock, *log));
  CHORUS_TRY(WritePort(options_.web_port_file, coordinator->web_port()));
  CHORUS_TRY(WritePort(options_.port_file, coordinator->port()));
  screen_.Line("task " + task_.name + ", protocol " + NameOf(task_.protocol) + ", " +
               std::to_string(task_.rounds) + " rounds; listening on port " +
               std::to_string(coordinator->port()) +
               (options_.plaintext ? " without TLS" : " with TLS"));
  if (coordinator->web_port() != 0) {
    screen_.Line("web page and metrics on port " + std::to_string(coordinator->web_port()));
  }
  Loop(*coordinator, *clock, door);
  return Conclude();
}

void Run::Loop(Coordinator& coordinator, const Clock& clock, Door& door) {
  std::optional<Time> leave_at;
  while (!stop_requested()) {
    if (const Status looked = door.Look(clock.Now()); !looked.ok()) {
      screen_.Line("trouble: " + looked.message());
    }
    for (const CoordinatorEvent& event : coordinator.Poll(kStopLatency)) {
      Tell(event, coordinator);
    }
    if (!all_complete() || !options_.until_complete) continue;
    if (!leave_at.has_value()) leave_at = clock.Now() + kFarewell;
    if (clock.Now() >= *leave_at) break;
  }
}

bool Run::all_complete() const {
  return complete_ && std::all_of(companions_.begin(), companions_.end(),
                                  [](const auto& entry) { return entry.second.complete; });
}

// A task beside the first: one that the command names or, read from the store when it is first told
// of, one that an operator has added. Null when it cannot be read.
Companion* Run::FindCompanion(const std::string& name) {
  if (const auto found = companions_.find(name); found != companions_.end()) return &found->second;
  const Result<std::optional<TaskRecord>> record = FindTask(*store_, name);
  if (!record.ok() || !record->has_value()) return nullptr;
  Result<TaskSpec> task = wire::DecodeTask((*record)->spec);
  if (!task.ok()) return nullptr;
  return &companions_.emplace(name, Companion{.task = *std::move(task)}).first->second;
}

void Run::TellCompanion(const CoordinatorEvent& event) {
  // The store is not asked: it may be what the trouble is about.
  if (event.kind == CoordinatorEvent::Kind::kTrouble) {
    screen_.Line(event.task + ": trouble: " + event.trouble.message() + "; trying again");
    return;
  }
  Companion* const companion = FindCompanion(event.task);
  if (event.kind == CoordinatorEvent::Kind::kTaskComplete) {
    if (companion != nullptr) companion->complete = true;
    screen_.Line("task " + event.task + " is complete");
  } else if (event.kind == CoordinatorEvent::Kind::kRoundEnded) {
    CountTraffic(event.round);
    std::span<const std::string_view> steps;
    if (companion != nullptr) {
      steps = aggregation::StepNames(companion->task.protocol, companion->task.secagg.graph);
    }
    screen_.Line(event.task + ": " + RoundLine(event.round, steps, std::nullopt));
  }
}

void Run::TellChange(const CoordinatorEvent& event) {
  const char* mode = event.mode == TaskMode::kPaused    ? "paused"
                     : event.mode == TaskMode::kStopped ? "stopped"
                                                        : "running";
  screen_.Line("task " + event.task + " was changed, see chorus audit: it is " + mode);
}

void Run::Tell(const CoordinatorEvent& event, const Coordinator& coordinator) {
  if (event.kind == CoordinatorEvent::Kind::kTaskChanged) return TellChange(event);
  if (event.task != task_.name) return TellCompanion(event);
  const std::string round = "round " + std::to_string(event.round.round) + ": ";
  switch (event.kind) {
    case CoordinatorEvent::Kind::kRoundBegan:
      screen_.Progress(round + "training, " + std::to_string(event.round.invited) + " invited");
      break;
    case CoordinatorEvent::Kind::kStepClosed:
      screen_.Progress(round + event.step + ", " + std::to_string(event.answered) + " of " +
                       std::to_string(event.asked) + " answered");
      break;
    case CoordinatorEvent::Kind::kRoundEnded:
      TellRound(event.round, coordinator);
      break;
    case CoordinatorEvent::Kind::kTaskComplete:
      complete_ = true;
      break;
    case CoordinatorEvent::Kind::kTrouble:
      screen_.Line("trouble: " + event.trouble.message() + "; trying again");
      break;
    case CoordinatorEvent::Kind::kTaskChanged:
      break;
  }
}

void Run::TellRound(const RoundReport& round, const Coordinator& coordinator) {
  std::optional<Measured> measured;
  CountTraffic(round);
  if (round.state == RoundState::kCommitted) {
    ++committed_;
    if (evaluator_.has_value()) {
      const Result<Measured> result = evaluator_->Measure(coordinator.CurrentWeights(task_.name));
      if (result.ok()) {
        measured = *result;
        curve_.push_back({round.round, measured->accuracy});
      } else {
        screen_.Line("trouble: the model of round " + std::to_string(round.round) +
                     " cannot be measured: " + result.status().message());
      }
    } else if (round.evaluated > 0) {
      curve_.push_back({round.round, round.accuracy});
    }
  }
  screen_.Line(
      (companions_.empty() ? std::string() : task_.name + ": ") +
      RoundLine(round, aggregation::StepNames(task_.protocol, task_.secagg.graph), measured));
}

void Run::CountTraffic(const RoundReport& round) {
  client_rounds_ += round.invited;
  bytes_up_ += round.bytes_up;
  bytes_down_ += round.bytes_down;
}

Status Run::Conclude() {
  if (!task_.queries.empty()) {
    screen_.Line("answers: chorus results " + NameOf(options_.place) + " --task " + task_.name);
  } else if (options_.until_complete) {
    screen_.Line(TextCurve(curve_));
  }
  if (!options_.curve.empty()) {
    const std::string title =
        task_.name + (evaluator_.has_value() ? ": accuracy after each round"
                                             : ": accuracy at the clients before each round");
    CHORUS_TRY(WriteFile(options_.curve, ViewOf(SvgCurve(curve_, title)),
                         WriteOptions{.existing = Existing::kReplace}));
    screen_.Line("curve: " + options_.curve);
  }
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const double cpu = static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                     static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
  const uint64_t shares = client_rounds_ == 0 ? 1 : client_rounds_;
  // The kernel counts resident memory in KiB.
  screen_.Line("server: " + Fixed(cpu, 2) + " s cpu, " +
               ReadableBytes(static_cast<uint64_t>(usage.ru_maxrss) * 1'024) + " peak memory, " +
               ReadableBytes(bytes_up_ / shares) + " up and " +
               ReadableBytes(bytes_down_ / shares) + " down a client and round");
  if (all_complete()) return OkStatus();
  if (!companions_.empty()) {
    return Cancelled("stopped before all tasks were complete; the same command goes on from there");
  }
  return Cancelled("stopped after " + std::to_string(committed_) + " of " +
                   std::to_string(task_.rounds) + " rounds; the same command goes on from there");
}

class Serve final : public Command {
 public:
  explicit Serve(CLI::App& tool) : app_(*tool.add_subcommand("serve", "Run a coordinator.")) {
    app_.add_option("--task", options_.tasks,
                    "Task file: protobuf text of chorus.v1.Task; may be repeated, and the tasks "
                    "share the clients.")
        ->required();
    app_.add_option("--operator", options_.operators,
                    "Public key file of somebody who may act on tasks with `chorus task`; may be "
                    "repeated. Tasks that were added so are served as well.");
    app_.add_option("--keys", options_.keys, "Folder that `keys init` made.")->required();
    AddStoreOptions(app_, options_.place);
    app_.add_option("--models-kept", options_.retention.models_kept,
                    "How many of the latest models are kept; 0: all.")
        ->capture_default_str();
    app_.add_option("--rounds-kept", options_.retention.rounds_kept,
                    "How many of the latest rounds' reports are kept; 0: all.")
        ->capture_default_str();
    app_.add_option(
        "--advertise", options_.advertise,
        "HOST:PORT where clients reach this process and no other that shares its store: shown by "
        "`status`, and known again when the process was killed and is started again.");
    app_.add_option("--listen", options_.listen, "HOST:PORT to listen on; port 0 takes a free one.")
        ->capture_default_str();
    app_.add_flag("--plaintext", options_.plaintext,
                  "Serve without TLS: only behind something that encrypts already.");
    app_.add_option("--start", options_.start,
                    "Model file of `chorus export` to start a new task from. Default: drawn anew.");
    app_.add_option("--evaluate", options_.evaluate,
                    "Folder of examples to measure each new model on.");
    app_.add_option("--curve", options_.curve, "SVG file to draw the accuracy into at the end.");
    app_.add_option("--experiment-seed", options_.experiment_seed,
                    "Makes first weights and selection repeatable; keys and masks never are.");
    app_.add_option("--port-file", options_.port_file,
                    "File to write the port into, once clients can connect.");
    app_.add_flag("--until-complete", options_.until_complete,
                  "Stop once the task has all its rounds, and draw the curve.");
    options_.door.AddTo(app_);
    app_.add_flag("--verbose", options_.verbose,
                  "Log each transition of a round to standard error.");
    AddSeeing();
  }
  CLI::App& app() override { return app_; }

  Status Run() override {
    CatchStopSignals();
    std::vector<TaskSpec> tasks;
    for (const std::string& path : options_.tasks) {
      CHORUS_TRY_ASSIGN(const std::string text, ReadText(path));
      Result<TaskSpec> task = wire::ParseTaskText(text);
      if (!task.ok()) {
        return Status(task.status().code(), "\"" + path + "\": " + task.status().message());
      }
      const bool twice = std::any_of(tasks.begin(), tasks.end(), [&task](const TaskSpec& other) {
        return other.name == task->name;
      });
      if (twice) return InvalidArgument("two --task files have the task name " + task->name);
      tasks.push_back(*std::move(task));
    }
    return cli::Run(options_, std::move(tasks)).Serve();
  }

 private:
  void AddSeeing() {
    CLI::Option* const web = app_.add_option(
        "--web", options_.web,
        "HOST:PORT of a web page (/), metrics for Prometheus (/metrics) and a check of health "
        "(/healthz), over plain HTTP; without HOST on 127.0.0.1; port 0 takes a free one. Default: "
        "none.");
    app_.add_option("--web-port-file", options_.web_port_file,
                    "File to write the page's port into.")
        ->needs(web);
    app_.add_flag("--reflection", options_.reflection,
                  "Tell gRPC callers the schema, for tools such as grpcurl.");
    app_.add_option("--log", options_.log_format, "Lines of the log: text or json.")
        ->check(CLI::IsMember({"text", "json"}))
        ->capture_default_str();
  }

  CLI::App& app_;
  ServeOptions options_;
};

}  // namespace

std::unique_ptr<Command> NewServe(CLI::App& tool) { return std::make_unique<Serve>(tool); }

}  // namespace chorus::cli
