// `chorus train`: one client, on the examples in a folder.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/log.h"
#include "chorus/client.h"
#include "cli/command.h"
#include "cli/files.h"
#include "cli/party.h"
#include "cli/stop.h"
#include "client/example_store.h"
#include "client/experiment.h"
#include "trust/trust.h"

namespace chorus::cli {
namespace {

struct TrainOptions {
  std::string data;
  std::string keys;
  std::string server;
  std::string state;
  std::string policy;
  std::string token;
  std::vector<std::string> tasks;
  bool plaintext = false;
  bool leave_after_upload = false;
  std::string experiment;
  bool quiet = false;
};

// The login may write a new token at any time; one that cannot be read now is refused as none, and
// the client tries again.
Bytes TokenIn(const std::string& path) {
  const Result<std::string> text = ReadText(path);
  if (!text.ok()) return {};
  std::string_view token = *text;
  while (!token.empty() && (token.back() == '\n' || token.back() == '\r')) token.remove_suffix(1);
  return Bytes(token.begin(), token.end());
}

class Train final : public Command {
 public:
  explicit Train(CLI::App& tool)
      : app_(*tool.add_subcommand("train", "Run one client until its task is complete.")) {
    app_.add_option("--data", options_.data, "Folder of this client's examples (IDX files).")
        ->required();
    app_.add_option("--keys", options_.keys,
                    "Folder of this client's identity, one of those that `keys client` made.")
        ->required();
    app_.add_option(
            "--server", options_.server,
            "HOST:PORT of the coordinator, or several with commas between them, of processes "
            "that share a store.")
        ->required();
    app_.add_option("--state", options_.state,
                    "Folder of the ledger of uploads; made when absent, and to be kept.")
        ->required();
    app_.add_option("--policy", options_.policy,
                    "Policy file: protobuf text of chorus.v1.Policy. Default: the built-in one.");
    app_.add_option("--token", options_.token,
                    "File with the session token of the game's login, for a coordinator that asks "
                    "for one; read anew at each check-in.");
    app_.add_option("--task", options_.tasks,
                    "Name of a task to serve; may be repeated. Default: whichever the coordinator "
                    "picks.");
    app_.add_flag("--plaintext", options_.plaintext,
                  "Connect without TLS: only over something that encrypts already.");
    app_.add_option("--experiment", options_.experiment,
                    "Makes the order of training, what is held back and rounding repeatable, for "
                    "example 42/client-007; keys and masks never are.");
    app_.add_flag("--leave-after-upload", options_.leave_after_upload,
                  "Hang up the moment that the update is uploaded, and come again for the next "
                  "round: costs nothing in OneShot, and is a dropout in SecAgg.");
    app_.add_flag("--quiet", options_.quiet, "Print no events.");
  }
  CLI::App& app() override { return app_; }

  Status Run() override {
    CatchStopSignals();
    CHORUS_TRY_ASSIGN(const Examples examples, client::LoadExamples(options_.data, nullptr));
    const std::unique_ptr<Clock> clock = NewSystemClock();
    const std::unique_ptr<LogSink> log =
        NewStderrLogSink(options_.quiet ? LogLevel::kError : LogLevel::kWarn);
    while (!stop_requested()) {
      CHORUS_TRY_ASSIGN(PartyKeys keys, ReadPartyKeys(options_.keys, {.tls = !options_.plaintext}));
      const std::unique_ptr<IdentityVerifier> verifier =
          trust::NewCertificateVerifier(keys.issuer, *clock);
      CHORUS_TRY_ASSIGN(ClientOptions options, MakeOptions(std::move(keys)));
      Result<std::unique_ptr<Client>> client =
          options_.experiment.empty()
              ? Client::Start(std::move(options), examples, *verifier, *clock, *log)
              : client::StartExperiment(std::move(options), examples, *verifier, *clock, *log,
                                        client::ExperimentSeed{options_.experiment});
      if (!client.ok()) return client.status();
      CHORUS_TRY_ASSIGN(const bool complete, Follow(**client));
      if (complete) return OkStatus();
    }
    return Cancelled("stopped before the task was complete; the same command goes on");
  }

 private:
  Result<ClientOptions> MakeOptions(PartyKeys keys) const {
    ClientOptions options;
    options.server = options_.server;
    options.plaintext = options_.plaintext;
    options.state_dir = options_.state;
    options.tasks = options_.tasks;
    options.identity_seed = std::move(keys.identity_seed);
    options.certificate = std::move(keys.certificate);
    options.coordinator = keys.coordinator;
    options.tls_roots_pem = std::move(keys.tls_roots_pem);
    options.tls_certificate_pem = std::move(keys.tls_certificate_pem);
    options.tls_key_pem = std::move(keys.tls_key_pem);
    if (!options_.token.empty()) options.token = [path = options_.token] { return TokenIn(path); };
    CHORUS_TRY_ASSIGN(options.policy, ReadPolicy(options_.policy));
    CHORUS_TRY(MakeFolder(options_.state, Access::kSecret));
    return options;
  }

  // Until the task is complete (true), or this client has uploaded and is to leave, or a signal.
  Result<bool> Follow(Client& client) const {
    while (!stop_requested()) {
      for (const ClientEvent& event : client.Poll(kStopLatency)) {
        if (!options_.quiet) {
          std::printf("%s\n", Describe(event).c_str());
          std::fflush(stdout);
        }
        if (event.kind == ClientEvent::Kind::kStopped) {
          CHORUS_TRY(event.status);
          return true;
        }
        const bool uploaded = event.kind == ClientEvent::Kind::kUploaded;
        if (uploaded && options_.leave_after_upload) return false;
      }
    }
    return false;
  }

  CLI::App& app_;
  TrainOptions options_;
};

}  // namespace

std::unique_ptr<Command> NewTrain(CLI::App& tool) { return std::make_unique<Train>(tool); }

}  // namespace chorus::cli
