// `chorus export`: the current model of a task, out of a coordinator's state, as one file:
//   magic "CHM1" | length u32 (big-endian) | canonical description of the model, of that length
//   | every parameter in layout order, IEEE-754 binary32 little-endian
#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>

#include "base/codec.h"
#include "cli/command.h"
#include "cli/files.h"
#include "cli/report.h"
#include "cli/results.h"
#include "learning/learning.h"
#include "wire/wire.h"

namespace chorus::cli {
namespace {

Bytes EncodeModelFile(const ModelSpec& model, const Weights& weights) {
  const Bytes description = learning::CanonicalModel(model);
  Writer writer;
  writer.Raw("CHM1").U32(static_cast<uint32_t>(description.size())).Raw(description);
  writer.Raw({reinterpret_cast<const uint8_t*>(weights.data()), weights.size() * sizeof(float)});
  return std::move(writer).Take();
}

class Export final : public Command {
 public:
  explicit Export(CLI::App& tool)
      : app_(*tool.add_subcommand("export", "Write a task's current model to a file.")) {
    app_.add_option("--state", state_, "State folder of a coordinator that is not running.")
        ->required();
    app_.add_option("--task", task_, "Name of the task.")->required();
    app_.add_option("--out", out_, "File to write; replaced when it exists.")->required();
    app_.add_option("--evaluate", evaluate_,
                    "Folder of examples to measure the model on; the accuracy is the last line.");
  }
  CLI::App& app() override { return app_; }

  Status Run() override {
    CHORUS_TRY_ASSIGN(const std::unique_ptr<Store> store, OpenState(state_, /*make=*/false));
    CHORUS_TRY_ASSIGN(const std::optional<TaskRecord> record, FindTask(*store, task_));
    if (!record.has_value()) {
      return NotFound("the state folder has no task of this name; check --task");
    }
    CHORUS_TRY_ASSIGN(const TaskSpec spec, wire::DecodeTask(record->spec));
    CHORUS_TRY_ASSIGN(const Weights weights, LoadWeights(*store, record->model, spec.model));
    CHORUS_TRY(WriteFile(out_, EncodeModelFile(spec.model, weights),
                         WriteOptions{.existing = Existing::kReplace}));
    std::printf("model after %llu rounds, %zu parameters: %s\n",
                static_cast<unsigned long long>(record->rounds_committed), weights.size(),
                out_.c_str());
    if (evaluate_.empty()) return OkStatus();
    CHORUS_TRY_ASSIGN(const Evaluator evaluator, Evaluator::Load(evaluate_, spec.model));
    CHORUS_TRY_ASSIGN(const Measured measured, evaluator.Measure(weights));
    std::printf("accuracy %s\n", Fixed(measured.accuracy, 4).c_str());
    return OkStatus();
  }

 private:
  CLI::App& app_;
  std::string state_;
  std::string task_;
  std::string out_;
  std::string evaluate_;
};

}  // namespace

std::unique_ptr<Command> NewExport(CLI::App& tool) { return std::make_unique<Export>(tool); }

}  // namespace chorus::cli
