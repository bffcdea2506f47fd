// `chorus serve`: a coordinator for one task, as a process of its own.
#include <sys/resource.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "aggregation/protocols.h"
#include "base/clock.h"
#include "base/log.h"
#include "chorus/coordinator.h"
#include "cli/command.h"
#include "cli/files.h"
#include "cli/model_file.h"
#include "cli/report.h"
#include "cli/results.h"
#include "cli/stop.h"
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

struct ServeOptions {
  std::string task;
  std::string keys;
  std::string state;
  std::string listen = "127.0.0.1:7447";
  bool plaintext = false;
  std::string start;
  std::string evaluate;
  std::string curve;
  std::optional<uint64_t> experiment_seed;
  std::string port_file;
  bool until_complete = false;
  bool verbose = false;
};

// One task being served: what happened so far and how to tell it.
class Run {
 public:
  Run(const ServeOptions& options, TaskSpec task) : options_(options), task_(std::move(task)) {}

  Status Serve();

 private:
  Result<CoordinatorOptions> MakeOptions() const;
  Status Resume(Store& store);
  Status Loop(Coordinator& coordinator, const Clock& clock);
  Status Tell(const CoordinatorEvent& event, const Coordinator& coordinator);
  Status TellRound(const RoundReport& round, const Coordinator& coordinator);
  void CountTraffic(const RoundReport& round);
  Status Conclude();

  const ServeOptions& options_;
  TaskSpec task_;
  Screen screen_;
  std::optional<Evaluator> evaluator_;
  std::vector<CurvePoint> curve_;
  bool resumed_ = false;  // the state folder has the task
  uint64_t committed_ = 0;
  bool complete_ = false;
  uint64_t client_rounds_ = 0;  // invitations in all
  uint64_t bytes_up_ = 0;
  uint64_t bytes_down_ = 0;
};

Result<CoordinatorOptions> Run::MakeOptions() const {
  CoordinatorOptions options;
  options.listen = options_.listen;
  options.plaintext = options_.plaintext;
  options.task = task_;
  options.experiment_seed = options_.experiment_seed;
  CHORUS_TRY_ASSIGN(options.signing_seed, ReadSeed(options_.keys + "/coordinator.key"));
  if (!options_.plaintext) {
    CHORUS_TRY_ASSIGN(options.tls_certificate_pem, ReadText(options_.keys + "/tls-server.pem"));
    CHORUS_TRY_ASSIGN(options.tls_key_pem, ReadText(options_.keys + "/tls-server.key"));
  }
  // A task that goes on does so from its own last model, so that one command serves both.
  if (!options_.start.empty() && !resumed_) {
    CHORUS_TRY_ASSIGN(options.initial_weights, ReadModelFile(options_.start, task_.model));
  }
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

Status Run::Serve() {
  CHORUS_TRY(ValidateTask(task_));
  if (!task_.queries.empty() &&
      !(options_.start.empty() && options_.evaluate.empty() && options_.curve.empty())) {
    return InvalidArgument(
        "the task asks queries and has no model: leave out --start, --evaluate and --curve");
  }
  if (!options_.evaluate.empty()) {
    CHORUS_TRY_ASSIGN(evaluator_, Evaluator::Load(options_.evaluate, task_.model));
  }
  CHORUS_TRY_ASSIGN(const PublicKey issuer, ReadPublicKey(options_.keys + "/issuer.pub"));
  CHORUS_TRY_ASSIGN(const std::unique_ptr<Store> store, OpenState(options_.state, /*make=*/true));
  CHORUS_TRY(Resume(*store));
  CHORUS_TRY_ASSIGN(CoordinatorOptions options, MakeOptions());
  const std::unique_ptr<Clock> clock = NewSystemClock();
  const std::unique_ptr<IdentityVerifier> verifier =
      trust::NewAdmissionVerifier(issuer, *clock, kLongestRound);
  const std::unique_ptr<LogSink> log =
      NewStderrLogSink(options_.verbose ? LogLevel::kInfo : LogLevel::kWarn);
  CHORUS_TRY_ASSIGN(const std::unique_ptr<Coordinator> coordinator,
                    Coordinator::Start(std::move(options), *store, *verifier, *clock, *log));
  if (!options_.port_file.empty()) {
    const std::string text = std::to_string(coordinator->port()) + "\n";
    CHORUS_TRY(
        WriteFile(options_.port_file, ViewOf(text), WriteOptions{.existing = Existing::kReplace}));
  }
  screen_.Line("task " + task_.name + ", protocol " + NameOf(task_.protocol) + ", " +
               std::to_string(task_.rounds) + " rounds; listening on port " +
               std::to_string(coordinator->port()) +
               (options_.plaintext ? " without TLS" : " with TLS"));
  CHORUS_TRY(Loop(*coordinator, *clock));
  return Conclude();
}

Status Run::Loop(Coordinator& coordinator, const Clock& clock) {
  std::optional<Time> leave_at;
  while (!stop_requested()) {
    for (const CoordinatorEvent& event : coordinator.Poll(kStopLatency)) {
      CHORUS_TRY(Tell(event, coordinator));
    }
    if (!complete_ || !options_.until_complete) continue;
    if (!leave_at.has_value()) leave_at = clock.Now() + kFarewell;
    if (clock.Now() >= *leave_at) break;
  }
  return OkStatus();
}

Status Run::Tell(const CoordinatorEvent& event, const Coordinator& coordinator) {
  const std::string round = "round " + std::to_string(event.round.round) + ": ";
  switch (event.kind) {
    case CoordinatorEvent::Kind::kRoundBegan:
      screen_.Progress(round + "training, " + std::to_string(event.round.invited) + " invited");
      return OkStatus();
    case CoordinatorEvent::Kind::kStepClosed:
      screen_.Progress(round + event.step + ", " + std::to_string(event.answered) + " of " +
                       std::to_string(event.asked) + " answered");
      return OkStatus();
    case CoordinatorEvent::Kind::kRoundEnded:
      return TellRound(event.round, coordinator);
    case CoordinatorEvent::Kind::kTaskComplete:
      complete_ = true;
      return OkStatus();
    case CoordinatorEvent::Kind::kTrouble:
      screen_.Line("trouble: " + event.trouble.message() + "; trying again");
      return OkStatus();
  }
  return OkStatus();
}

Status Run::TellRound(const RoundReport& round, const Coordinator& coordinator) {
  std::optional<Measured> measured;
  CountTraffic(round);
  if (round.state == RoundState::kCommitted) {
    ++committed_;
    if (evaluator_.has_value()) {
      CHORUS_TRY_ASSIGN(measured, evaluator_->Measure(coordinator.CurrentWeights()));
      curve_.push_back({round.round, measured->accuracy});
    } else if (round.evaluated > 0) {
      curve_.push_back({round.round, round.accuracy});
    }
  }
  screen_.Line(
      RoundLine(round, aggregation::StepNames(task_.protocol, task_.secagg.graph), measured));
  return OkStatus();
}

void Run::CountTraffic(const RoundReport& round) {
  client_rounds_ += round.invited;
  bytes_up_ += round.bytes_up;
  bytes_down_ += round.bytes_down;
}

Status Run::Conclude() {
  if (!task_.queries.empty()) {
    screen_.Line("answers: chorus results --state " + options_.state + " --task " + task_.name);
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
  if (complete_) return OkStatus();
  return Cancelled("stopped after " + std::to_string(committed_) + " of " +
                   std::to_string(task_.rounds) + " rounds; the same command goes on from there");
}

class Serve final : public Command {
 public:
  explicit Serve(CLI::App& tool)
      : app_(*tool.add_subcommand("serve", "Run a coordinator for one task.")) {
    app_.add_option("--task", options_.task, "Task file: protobuf text of chorus.v1.Task.")
        ->required();
    app_.add_option("--keys", options_.keys, "Folder that `keys init` made.")->required();
    app_.add_option("--state", options_.state,
                    "Folder of the results; made when absent, taken up when not.")
        ->required();
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
    app_.add_flag("--verbose", options_.verbose,
                  "Log each transition of a round to standard error.");
  }
  CLI::App& app() override { return app_; }

  Status Run() override {
    CatchStopSignals();
    CHORUS_TRY_ASSIGN(const std::string text, ReadText(options_.task));
    Result<TaskSpec> task = wire::ParseTaskText(text);
    if (!task.ok()) {
      return Status(task.status().code(), "\"" + options_.task + "\": " + task.status().message());
    }
    return cli::Run(options_, *std::move(task)).Serve();
  }

 private:
  CLI::App& app_;
  ServeOptions options_;
};

}  // namespace

std::unique_ptr<Command> NewServe(CLI::App& tool) { return std::make_unique<Serve>(tool); }

}  // namespace chorus::cli
