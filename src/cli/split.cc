// `chorus split`: one data set over many clients.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>

#include "cli/command.h"
#include "cli/data.h"

namespace chorus::cli {
namespace {

class Split final : public Command {
 public:
  explicit Split(CLI::App& tool)
      : app_(*tool.add_subcommand(
            "split", "Spread a labelled data set (IDX files) over the folders of many clients.")) {
    app_.add_option("--images", options_.images_path, "IDX file of the images, .gz or not.")
        ->required();
    app_.add_option("--labels", options_.labels_path, "IDX file of the labels, .gz or not.")
        ->required();
    app_.add_option("--clients", options_.clients, "How many clients.")->required();
    app_.add_option("--dirichlet", options_.dirichlet_alpha,
                    "How evenly classes are spread: the smaller, the less; 0: evenly.")
        ->capture_default_str();
    app_.add_option("--seed", options_.seed, "Equal seeds give equal splits.")
        ->capture_default_str();
    app_.add_option("--out", options_.out_folder, "Folder for client-000 and so on; must be new.")
        ->required();
  }
  CLI::App& app() override { return app_; }

  Status Run() override {
    const bool terminal = ::isatty(STDOUT_FILENO) == 1;
    const auto progress = [terminal](uint32_t written, uint32_t clients) {
      if (!terminal) return;
      std::printf("\r\033[K%u of %u clients written%s", written, clients,
                  written == clients ? "\r\033[K" : "");
      std::fflush(stdout);
    };
    CHORUS_TRY_ASSIGN(const SplitReport report, SplitDataset(options_, progress));
    std::fputs(SplitTable(report).c_str(), stdout);
    return OkStatus();
  }

 private:
  CLI::App& app_;
  SplitOptions options_;
};

}  // namespace

std::unique_ptr<Command> NewSplit(CLI::App& tool) { return std::make_unique<Split>(tool); }

}  // namespace chorus::cli
