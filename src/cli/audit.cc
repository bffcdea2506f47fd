// `chorus audit`: who did what to a task, and whether that is the whole truth.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <ctime>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/hex.h"
#include "base/limits.h"
#include "chorus/audit.h"
#include "cli/command.h"
#include "cli/files.h"
#include "cli/remote.h"
#include "wire/wire.h"

namespace chorus::cli {
namespace {

// As many as are read: an audit has one entry for each thing that somebody did.
constexpr size_t kEntriesMax = 100'000;

std::string Describe(const AuditEntry& entry) {
  switch (entry.action) {
    case AuditEntry::Action::kCreated:
      return "created, priority " + std::to_string(entry.priority);
    case AuditEntry::Action::kPaused:
      return "paused";
    case AuditEntry::Action::kPausedNow:
      return "paused, round aborted";
    case AuditEntry::Action::kResumed:
      return "resumed";
    case AuditEntry::Action::kStopped:
      return "stopped";
    case AuditEntry::Action::kRolledBack:
      return "rolled back to round " + std::to_string(entry.round);
    case AuditEntry::Action::kPriority:
      return "priority " + std::to_string(entry.priority);
  }
  return "unknown";
}

std::string UtcOf(int64_t unix_seconds) {
  const std::time_t time = unix_seconds;
  std::tm parts{};
  char text[32] = "?";
  if (::gmtime_r(&time, &parts) != nullptr) {
    std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  }
  return text;
}

void Print(const AuditEntry& entry, const std::string& hash) {
  std::printf("%llu  %s  %s\n  by   %s\n  hash %s\n%s%s%s",
              static_cast<unsigned long long>(entry.number), UtcOf(entry.unix_seconds).c_str(),
              Describe(entry).c_str(), ToHex(entry.actor).c_str(), hash.c_str(),
              entry.reason.empty() ? "" : "  ", entry.reason.c_str(),
              entry.reason.empty() ? "" : "\n");
}

// Nobody but `actors` may have acted; none are named: anybody.
chorus::Status CheckActor(const AuditEntry& entry, const std::vector<PublicKey>& actors) {
  if (actors.empty() || std::find(actors.begin(), actors.end(), entry.actor) != actors.end()) {
    return OkStatus();
  }
  return DataLoss("audit entry " + std::to_string(entry.number) +
                  " is by somebody else than --actor says");
}

// No store drops entries; an old coordinator, asked for a first one, shows the latest all the same.
chorus::Status CheckStart(const wire::AuditReply& page, uint64_t first) {
  if (page.entries.empty() || page.entries.front().number == first) return OkStatus();
  return DataLoss("asked for audit entries from " + std::to_string(first) +
                  " on, the coordinator begins with " +
                  std::to_string(page.entries.front().number) +
                  ": it keeps some back, or its version can show the latest only");
}

class ShowAudit final : public Command {
 public:
  explicit ShowAudit(CLI::App& tool)
      : app_(*tool.add_subcommand(
            "audit", "Show who did what to a coordinator's task, and check the signatures.")) {
    AddRemoteOptions(app_, remote_);
    app_.add_option("--task", task_, "Name of the task.")->required();
    app_.add_option("--actor", actors_,
                    "Public key file of who may have acted: coordinator.pub, an operator's; may be "
                    "repeated. Default: anybody.");
    app_.add_option("--contains", contains_,
                    "Hash of an entry, as printed here before, that must still be there.");
  }
  CLI::App& app() override { return app_; }

  chorus::Status Run() override {
    std::vector<PublicKey> actors;
    for (const std::string& path : actors_) {
      CHORUS_TRY_ASSIGN(const PublicKey actor, ReadPublicKey(path));
      actors.push_back(actor);
    }
    CHORUS_TRY_ASSIGN(const Remote remote, Remote::Connect(remote_));
    bool found = contains_.empty();
    size_t count = 0;
    // A page, after the last entry of the page before it, which it must follow.
    std::vector<AuditEntry> chain;
    for (bool more = true; more;) {
      CHORUS_TRY_ASSIGN(
          wire::AuditReply page,
          remote.Audit({.task = task_, .count = limits::kAuditEntriesMax, .first = count + 1}));
      for (const AuditEntry& entry : page.entries) {
        const std::string hash = ToHex(AuditHash(page.task_sha256, entry));
        found = found || hash == contains_;
        Print(entry, hash);
        CHORUS_TRY(CheckActor(entry, actors));
      }
      CHORUS_TRY(CheckStart(page, count + 1));
      more = page.entries.size() == limits::kAuditEntriesMax;
      count += page.entries.size();
      if (count > kEntriesMax) return ResourceExhausted("the audit has too many entries to check");
      std::move(page.entries.begin(), page.entries.end(), std::back_inserter(chain));
      CHORUS_TRY(VerifyAudit(page.task_sha256, chain));
      if (!chain.empty()) chain.erase(chain.begin(), chain.end() - 1);
    }
    if (!found) return DataLoss("the audit does not contain the entry of --contains any more");
    std::printf("%zu entries, each signed and in its place\n", count);
    return OkStatus();
  }

 private:
  CLI::App& app_;
  RemoteOptions remote_;
  std::string task_;
  std::vector<std::string> actors_;
  std::string contains_;
};

}  // namespace

std::unique_ptr<Command> NewAudit(CLI::App& tool) { return std::make_unique<ShowAudit>(tool); }

}  // namespace chorus::cli
