// `chorus status`: what a coordinator is doing, asked over the network.
#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/limits.h"
#include "chorus/host.h"
#include "cli/command.h"
#include "cli/remote.h"
#include "cli/status_view.h"
#include "cli/status_watch.h"
#include "wire/wire.h"

namespace chorus::cli {
namespace {

// How long each later look is waited for while somebody watches, who may want to leave.
constexpr std::chrono::milliseconds kWatchDeadline{2'000};

class ShowStatus final : public Command {
 public:
  explicit ShowStatus(CLI::App& tool)
      : app_(*tool.add_subcommand("status", "Show a coordinator's task and its rounds.")) {
    AddRemoteOptions(app_, remote_);
    app_.add_option("--rounds", rounds_, "How many of the last rounds to show.")
        ->check(CLI::Range(0U, limits::kStatusRoundsMax))
        ->capture_default_str();
    app_.add_option("--task", task_, "Name of the task. Default: the coordinator's first.");
    app_.add_flag("--watch", watch_,
                  "Follow it: a screen that is drawn anew each second, until q or Ctrl-C; off a "
                  "terminal a line whenever something changes.");
  }
  CLI::App& app() override { return app_; }

  Status Run() override {
    CHORUS_TRY_ASSIGN(const std::unique_ptr<Transport> transport, TransportTo(remote_));
    if (watch_) {
      return WatchStatus(remote_.server, [&] {
        Result<wire::StatusReply> reply = AskForRounds(*transport, kWatchRounds);
        if (reply.ok()) deadline_ = kWatchDeadline;
        return reply;
      });
    }
    CHORUS_TRY_ASSIGN(const wire::StatusReply reply, AskForRounds(*transport, rounds_));
    std::fputs(StatusText(reply).c_str(), stdout);
    return OkStatus();
  }

 private:
  // As many as a screen's curve shows.
  static constexpr uint32_t kWatchRounds = 60;

  Result<wire::StatusReply> Ask(Transport& transport, const wire::StatusRequest& request) const {
    CHORUS_TRY_ASSIGN(const Bytes reply,
                      transport.Call(wire::kGetStatus, wire::Encode(request), deadline_));
    return wire::Decode<wire::StatusReply>(reply);
  }
  // With the last so many rounds.
  Result<wire::StatusReply> AskForRounds(Transport& transport, uint32_t count) const {
    wire::StatusRequest request;
    request.task = task_;
    CHORUS_TRY_ASSIGN(wire::StatusReply reply, Ask(transport, request));
    if (count == 0 || reply.rounds_begun == 0) return reply;
    request.first_round = reply.rounds_begun > count ? reply.rounds_begun - count + 1 : 1;
    std::vector<RoundReport> rounds;
    // A reply has a page of them.
    while (rounds.size() < count && request.first_round <= reply.rounds_begun) {
      request.round_count = count - static_cast<uint32_t>(rounds.size());
      CHORUS_TRY_ASSIGN(reply, Ask(transport, request));
      if (reply.rounds.empty()) break;
      request.first_round = reply.rounds.back().round + 1;
      std::move(reply.rounds.begin(), reply.rounds.end(), std::back_inserter(rounds));
    }
    reply.rounds = std::move(rounds);
    return reply;
  }

  CLI::App& app_;
  RemoteOptions remote_;
  std::string task_;
  uint32_t rounds_ = 10;
  bool watch_ = false;
  std::chrono::milliseconds deadline_ = limits::kCallDeadline;
};

}  // namespace

std::unique_ptr<Command> NewStatus(CLI::App& tool) { return std::make_unique<ShowStatus>(tool); }

}  // namespace chorus::cli
