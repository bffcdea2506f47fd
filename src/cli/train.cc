// `chorus train`: one client, on the examples in a folder.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>

#include "base/clock.h"
#include "base/log.h"
#include "chorus/client.h"
#include "cli/command.h"
#include "cli/files.h"
#include "cli/stop.h"
#include "client/example_store.h"
#include "client/experiment.h"
#include "trust/trust.h"
#include "wire/wire.h"

namespace chorus::cli {
namespace {

struct TrainOptions {
  std::string data;
  std::string keys;
  std::string server;
  std::string state;
  std::string policy;
  bool plaintext = false;
  std::string experiment;
  bool quiet = false;
};

std::string Describe(const ClientEvent& event) {
  const std::string round = "round " + std::to_string(event.round);
  switch (event.kind) {
    case ClientEvent::Kind::kConnected:
      return "connected";
    case ClientEvent::Kind::kDisconnected:
      return "disconnected, trying again: " + event.status.message();
    case ClientEvent::Kind::kInvited:
      return round + ": invited";
    case ClientEvent::Kind::kRefused:
      return round + ": refused, " + event.status.message();
    case ClientEvent::Kind::kTrained:
      return round + ": trained";
    case ClientEvent::Kind::kContributed:
      return round + ": contributed";
    case ClientEvent::Kind::kRoundLost:
      return round + ": lost, " + event.status.message();
    case ClientEvent::Kind::kStopped:
      return event.status.ok() ? "the task is complete" : "stopped: " + event.status.message();
    case ClientEvent::Kind::kEquivocation:
      return round + ": the coordinator signed two rosters; " +
             (event.status.ok() ? "the proof is in the file `evidence` of the state folder"
                                : event.status.message());
  }
  return "an event of an unknown kind";
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
    app_.add_option("--server", options_.server, "HOST:PORT of the coordinator.")->required();
    app_.add_option("--state", options_.state,
                    "Folder of the ledger of uploads; made when absent, and to be kept.")
        ->required();
    app_.add_option("--policy", options_.policy,
                    "Policy file: protobuf text of chorus.v1.Policy. Default: the built-in one.");
    app_.add_flag("--plaintext", options_.plaintext,
                  "Connect without TLS: only over something that encrypts already.");
    app_.add_option("--experiment", options_.experiment,
                    "Makes the order of training, what is held back and rounding repeatable, for "
                    "example 42/client-007; keys and masks never are.");
    app_.add_flag("--quiet", options_.quiet, "Print no events.");
  }
  CLI::App& app() override { return app_; }

  Status Run() override {
    CatchStopSignals();
    CHORUS_TRY_ASSIGN(ClientOptions options, MakeOptions());
    CHORUS_TRY_ASSIGN(Examples examples, client::LoadExamples(options_.data, nullptr));
    CHORUS_TRY_ASSIGN(const PublicKey issuer, ReadPublicKey(options_.keys + "/issuer.pub"));
    const std::unique_ptr<Clock> clock = NewSystemClock();
    const std::unique_ptr<IdentityVerifier> verifier =
        trust::NewCertificateVerifier(issuer, *clock);
    const std::unique_ptr<LogSink> log =
        NewStderrLogSink(options_.quiet ? LogLevel::kError : LogLevel::kWarn);
    Result<std::unique_ptr<Client>> client =
        options_.experiment.empty()
            ? Client::Start(std::move(options), std::move(examples), *verifier, *clock, *log)
            : client::StartExperiment(std::move(options), std::move(examples), *verifier, *clock,
                                      *log, client::ExperimentSeed{options_.experiment});
    if (!client.ok()) return client.status();
    return Follow(**client);
  }

 private:
  Result<ClientOptions> MakeOptions() const {
    ClientOptions options;
    options.server = options_.server;
    options.plaintext = options_.plaintext;
    options.state_dir = options_.state;
    CHORUS_TRY_ASSIGN(options.identity_seed, ReadSeed(options_.keys + "/identity.key"));
    CHORUS_TRY_ASSIGN(options.certificate, ReadFile(options_.keys + "/certificate", kTextBytesMax));
    CHORUS_TRY_ASSIGN(options.coordinator, ReadPublicKey(options_.keys + "/coordinator.pub"));
    if (!options_.plaintext) {
      CHORUS_TRY_ASSIGN(options.tls_roots_pem, ReadText(options_.keys + "/tls-authority.pem"));
    }
    if (!options_.policy.empty()) {
      CHORUS_TRY_ASSIGN(const std::string text, ReadText(options_.policy));
      Result<Policy> policy = wire::ParsePolicyText(text);
      if (!policy.ok()) {
        return Status(policy.status().code(),
                      "\"" + options_.policy + "\": " + policy.status().message());
      }
      options.policy = *policy;
    }
    CHORUS_TRY(MakeFolder(options_.state, Access::kSecret));
    return options;
  }

  Status Follow(Client& client) const {
    while (!stop_requested()) {
      for (const ClientEvent& event : client.Poll(kStopLatency)) {
        if (!options_.quiet) {
          std::printf("%s\n", Describe(event).c_str());
          std::fflush(stdout);
        }
        if (event.kind == ClientEvent::Kind::kStopped) return event.status;
      }
    }
    return Cancelled("stopped before the task was complete; the same command goes on");
  }

  CLI::App& app_;
  TrainOptions options_;
};

}  // namespace

std::unique_ptr<Command> NewTrain(CLI::App& tool) { return std::make_unique<Train>(tool); }

}  // namespace chorus::cli
