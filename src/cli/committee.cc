// `chorus committee`: one member of the committee that opens the sums of tasks of OneShot.
#include "chorus/committee.h"

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>

#include "base/clock.h"
#include "base/log.h"
#include "cli/command.h"
#include "cli/party.h"
#include "cli/stop.h"
#include "trust/trust.h"

namespace chorus::cli {
namespace {

class Committee final : public Command {
 public:
  explicit Committee(CLI::App& tool)
      : app_(*tool.add_subcommand("committee",
                                  "Run one member of a committee until its task is complete.")) {
    app_.add_option("--keys", keys_,
                    "Folder of this member's identity, one of those that `keys committee` made.")
        ->required();
    app_.add_option("--server", server_, "HOST:PORT of the coordinator.")->required();
    app_.add_option("--policy", policy_,
                    "Policy file: protobuf text of chorus.v1.Policy. Default: the built-in one, "
                    "which serves no task that is experimental.");
    app_.add_flag("--plaintext", plaintext_,
                  "Connect without TLS: only over something that encrypts already.");
    app_.add_flag("--quiet", quiet_, "Print no events.");
  }
  CLI::App& app() override { return app_; }

  Status Run() override {
    CatchStopSignals();
    CHORUS_TRY_ASSIGN(PartyKeys keys, ReadPartyKeys(keys_, {.tls = !plaintext_}));
    CommitteeOptions options;
    options.server = server_;
    options.plaintext = plaintext_;
    options.tls_roots_pem = std::move(keys.tls_roots_pem);
    options.tls_certificate_pem = std::move(keys.tls_certificate_pem);
    options.tls_key_pem = std::move(keys.tls_key_pem);
    options.coordinator = keys.coordinator;
    options.identity_seed = std::move(keys.identity_seed);
    options.certificate = std::move(keys.certificate);
    CHORUS_TRY_ASSIGN(options.policy, ReadPolicy(policy_));
    const std::unique_ptr<Clock> clock = NewSystemClock();
    const std::unique_ptr<IdentityVerifier> verifier =
        trust::NewCertificateVerifier(keys.issuer, *clock);
    const std::unique_ptr<LogSink> log =
        NewStderrLogSink(quiet_ ? LogLevel::kError : LogLevel::kWarn);
    CHORUS_TRY_ASSIGN(const std::unique_ptr<CommitteeMember> member,
                      CommitteeMember::Start(std::move(options), *verifier, *clock, *log));
    return Follow(*member);
  }

 private:
  Status Follow(CommitteeMember& member) const {
    while (!stop_requested()) {
      for (const ClientEvent& event : member.Poll(kStopLatency)) {
        if (!quiet_) {
          std::printf("%s\n", Describe(event).c_str());
          std::fflush(stdout);
        }
        if (event.kind == ClientEvent::Kind::kStopped) return event.status;
      }
    }
    return Cancelled("stopped before the task was complete; the same command goes on");
  }

  CLI::App& app_;
  std::string keys_;
  std::string server_;
  std::string policy_;
  bool plaintext_ = false;
  bool quiet_ = false;
};

}  // namespace

std::unique_ptr<Command> NewCommittee(CLI::App& tool) { return std::make_unique<Committee>(tool); }

}  // namespace chorus::cli
