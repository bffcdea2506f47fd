// `chorus status`: what a coordinator is doing, asked over the network.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>

#include "base/hex.h"
#include "base/limits.h"
#include "chorus/host.h"
#include "cli/command.h"
#include "cli/files.h"
#include "cli/report.h"
#include "client/grpc_transport.h"
#include "wire/wire.h"

namespace chorus::cli {
namespace {

const char* StateName(RoundState state) {
  switch (state) {
    case RoundState::kOpen:
      return "open";
    case RoundState::kCommitted:
      return "committed";
    case RoundState::kAborted:
      return "aborted";
  }
  return "unknown";
}

void PrintCommittee(const wire::StatusReply& reply) {
  const auto present =
      std::count_if(reply.committee.begin(), reply.committee.end(),
                    [](const wire::CommitteeMember& member) { return member.checked_in; });
  std::printf("committee: %lld of %zu members\n", static_cast<long long>(present),
              reply.committee.size());
  for (const wire::CommitteeMember& member : reply.committee) {
    if (!member.checked_in) std::printf("  absent: %s\n", ToHex(member.identity).c_str());
  }
}

void PrintRounds(const wire::StatusReply& reply) {
  std::printf("%6s  %-9s %8s %8s %9s %9s %8s  %s\n", "round", "state", "in sum", "invited",
              "accuracy*", "up", "down", "seconds");
  for (const RoundReport& round : reply.rounds) {
    const uint64_t shares = round.invited == 0 ? 1 : round.invited;
    const std::string cohorts = round.cohorts == 1
                                    ? std::string()
                                    : "  " + std::to_string(round.cohorts_committed) + " of " +
                                          std::to_string(round.cohorts) + " cohorts";
    std::printf("%6llu  %-9s %8u %8u %9s %9s %8s  %s%s%s%s\n",
                static_cast<unsigned long long>(round.round), StateName(round.state),
                round.contributors, round.invited,
                round.evaluated == 0 ? "-" : Fixed(round.accuracy, 4).c_str(),
                ReadableBytes(round.bytes_up / shares).c_str(),
                ReadableBytes(round.bytes_down / shares).c_str(),
                Fixed(static_cast<double>(round.duration_ms) / 1e3, 1).c_str(), cohorts.c_str(),
                round.reason.empty() ? "" : "  ", round.reason.c_str());
  }
  std::printf(
      "* measured by the clients on examples of theirs, of the model before the round; "
      "up and down are a client's bytes\n");
}

void PrintEvidence(const wire::StatusReply& reply) {
  std::printf("signed two different answers in one step:\n%6s %7s  %s\n", "round", "cohort",
              "identity");
  for (const Evidence& evidence : reply.evidence) {
    std::printf("%6llu %7u  %s\n", static_cast<unsigned long long>(evidence.round), evidence.cohort,
                ToHex(evidence.identity).c_str());
  }
}

class ShowStatus final : public Command {
 public:
  explicit ShowStatus(CLI::App& tool)
      : app_(*tool.add_subcommand("status", "Show a coordinator's task and its rounds.")) {
    app_.add_option("--server", server_, "HOST:PORT of the coordinator.")->required();
    CLI::Option* const authority =
        app_.add_option("--tls-authority", tls_authority_,
                        "Certificate that signed the coordinator's (PEM file). Default: those "
                        "that the system trusts.");
    CLI::Option* const plaintext = app_.add_flag("--plaintext", plaintext_, "Connect without TLS.");
    authority->excludes(plaintext);
    app_.add_option("--rounds", rounds_, "How many of the last rounds to show.")
        ->check(CLI::Range(0U, limits::kStatusRoundsMax))
        ->capture_default_str();
  }
  CLI::App& app() override { return app_; }

  Status Run() override {
    client::GrpcTransportOptions options;
    options.server = server_;
    options.plaintext = plaintext_;
    if (!tls_authority_.empty()) {
      CHORUS_TRY_ASSIGN(options.tls_roots_pem, ReadText(tls_authority_));
    }
    const std::unique_ptr<Transport> transport = client::NewGrpcTransport(std::move(options));
    CHORUS_TRY_ASSIGN(wire::StatusReply reply, Ask(*transport, wire::StatusRequest{}));
    const uint64_t first = reply.rounds_begun > rounds_ ? reply.rounds_begun - rounds_ + 1 : 1;
    if (rounds_ > 0 && reply.rounds_begun > 0) {
      const wire::StatusRequest request = {.first_round = first, .round_count = rounds_};
      CHORUS_TRY_ASSIGN(reply, Ask(*transport, request));
    }
    std::printf("task %s: %llu of %u rounds committed, %llu begun\n", reply.task.c_str(),
                static_cast<unsigned long long>(reply.rounds_committed), reply.rounds_wanted,
                static_cast<unsigned long long>(reply.rounds_begun));
    std::printf("clients: %u\n", reply.clients);
    if (!reply.committee.empty()) PrintCommittee(reply);
    std::printf("step: %s\n", reply.step.empty() ? "none" : reply.step.c_str());
    if (!reply.rounds.empty()) PrintRounds(reply);
    if (!reply.evidence.empty()) PrintEvidence(reply);
    return OkStatus();
  }

 private:
  static Result<wire::StatusReply> Ask(Transport& transport, const wire::StatusRequest& request) {
    CHORUS_TRY_ASSIGN(const Bytes reply, transport.Call(wire::kGetStatus, wire::Encode(request),
                                                        limits::kCallDeadline));
    return wire::Decode<wire::StatusReply>(reply);
  }

  CLI::App& app_;
  std::string server_;
  std::string tls_authority_;
  bool plaintext_ = false;
  uint32_t rounds_ = 10;
};

}  // namespace

std::unique_ptr<Command> NewStatus(CLI::App& tool) { return std::make_unique<ShowStatus>(tool); }

}  // namespace chorus::cli
