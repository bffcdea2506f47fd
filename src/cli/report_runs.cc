// `chorus report`: simulations that were run before, compared on one page.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cli/command.h"
#include "cli/files.h"
#include "cli/simulation_report.h"

namespace chorus::cli {
namespace {

constexpr size_t kRunBytesMax = size_t{1} << 30U;
constexpr size_t kRunsMax = 64;

class ReportRuns final : public Command {
 public:
  explicit ReportRuns(CLI::App& tool)
      : app_(*tool.add_subcommand("report", "Compare simulations on one page.")) {
    app_.add_option("runs", paths_, "The .json files that chorus simulate wrote.")->required();
    app_.add_option("--out", out_, "The page to write; replaced when it exists.")->required();
  }
  CLI::App& app() override { return app_; }

  Status Run() override {
    if (paths_.size() > kRunsMax) {
      return InvalidArgument("a page compares at most " + std::to_string(kRunsMax) + " runs");
    }
    std::vector<RecordedRun> runs;
    for (const std::string& path : paths_) {
      CHORUS_TRY_ASSIGN(const Bytes text, ReadFile(path, kRunBytesMax));
      CHORUS_TRY_ASSIGN(
          cli::RecordedRun run,
          ParseRunJson({reinterpret_cast<const char*>(text.data()), text.size()}, path));
      runs.push_back(std::move(run));
    }
    const std::string page = ReportHtml(runs);
    CHORUS_TRY(WriteFile(out_, {reinterpret_cast<const uint8_t*>(page.data()), page.size()},
                         WriteOptions{.existing = Existing::kReplace}));
    std::printf("%zu runs: %s\n", runs.size(), out_.c_str());
    return OkStatus();
  }

 private:
  CLI::App& app_;
  std::vector<std::string> paths_;
  std::string out_;
};

}  // namespace

std::unique_ptr<Command> NewReport(CLI::App& tool) { return std::make_unique<ReportRuns>(tool); }

}  // namespace chorus::cli
