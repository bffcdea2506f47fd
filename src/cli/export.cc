// `chorus export`: a model, out of a coordinator's state or a model file, as a model file or as
// ONNX.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "cli/command.h"
#include "cli/files.h"
#include "cli/model_file.h"
#include "cli/onnx_graph.h"
#include "cli/report.h"
#include "cli/results.h"
#include "cli/store.h"
#include "learning/learning.h"
#include "wire/onnx.h"
#include "wire/wire.h"

namespace chorus::cli {
namespace {

const std::map<std::string, GruForm> kGruForms = {
    {"unrolled", GruForm::kUnrolled}, {"op", GruForm::kOperator}, {"cell", GruForm::kCell}};

// A model and where it comes from.
struct Source {
  TaskSpec task;
  Weights weights;
  std::optional<uint64_t> rounds;  // that it was trained for, where that is known
};

class Export final : public Command {
 public:
  explicit Export(CLI::App& tool)
      : app_(*tool.add_subcommand("export", "Write a task's current model to a file.")) {
    AddStoreOptions(app_, place_);
    app_.add_option("--task", task_, "Name of the task. With --model: its task file.")->required();
    app_.add_option("--model", model_, "Model file to export, in place of a state.");
    app_.add_option("--out", out_, "Model file to write; replaced when it exists.");
    app_.add_option("--onnx", onnx_, "ONNX file to write (opset 15); replaced when it exists.");
    app_.add_option("--gru", options_.gru,
                    "GRU layers in ONNX: unrolled over the sequence, op (ONNX's own), or cell (one "
                    "step, its states in and out).")
        ->transform(CLI::CheckedTransformer(kGruForms));
    app_.add_flag("--probabilities", options_.probabilities,
                  "Let the ONNX model end in softmax or sigmoid.");
    app_.add_option("--evaluate", evaluate_,
                    "Folder of examples to measure the model on; the accuracy is the last line.");
  }
  CLI::App& app() override { return app_; }

  Status Run() override {
    const bool from_store = !place_.state.empty() || !place_.store.empty();
    if (from_store != model_.empty()) {
      return InvalidArgument("name where the model is, with --state, --store or --model");
    }
    if (out_.empty() && onnx_.empty()) {
      return InvalidArgument("name a file to write, with --out or with --onnx");
    }
    CHORUS_TRY_ASSIGN(const Source source, from_store ? FromStore() : FromFile());
    if (!out_.empty()) {
      CHORUS_TRY(WriteFile(out_, EncodeModelFile(source.task.model, source.weights),
                           WriteOptions{.existing = Existing::kReplace}));
      Announce(source, out_);
    }
    if (!onnx_.empty()) CHORUS_TRY(WriteOnnx(source));
    if (evaluate_.empty()) return OkStatus();
    CHORUS_TRY_ASSIGN(const Evaluator evaluator, Evaluator::Load(evaluate_, source.task.model));
    CHORUS_TRY_ASSIGN(const Measured measured, evaluator.Measure(source.weights));
    std::printf("accuracy %s\n", Fixed(measured.accuracy, 4).c_str());
    return OkStatus();
  }

 private:
  Result<Source> FromStore() const {
    CHORUS_TRY_ASSIGN(const std::unique_ptr<Store> store, OpenStore(place_, WhenAbsent::kRefuse));
    CHORUS_TRY_ASSIGN(const std::optional<TaskRecord> record, FindTask(*store, task_));
    if (!record.has_value()) {
      return NotFound("the store has no task of this name; check --task");
    }
    Source source;
    CHORUS_TRY_ASSIGN(source.task, wire::DecodeTask(record->spec));
    if (!source.task.queries.empty()) {
      return InvalidArgument("the task asks queries and has no model; see chorus results");
    }
    CHORUS_TRY_ASSIGN(source.weights, LoadWeights(*store, record->model, source.task));
    source.rounds = record->rounds_committed;
    return source;
  }

  Result<Source> FromFile() const {
    CHORUS_TRY_ASSIGN(const std::string text, ReadText(task_));
    Source source;
    Result<TaskSpec> task = wire::ParseTaskText(text);
    if (!task.ok()) return Status(task.status().code(), task_ + ": " + task.status().message());
    source.task = *std::move(task);
    CHORUS_TRY(learning::ValidateModel(source.task.model));
    CHORUS_TRY_ASSIGN(source.weights, ReadModelFile(model_, source.task.model));
    return source;
  }

  Status WriteOnnx(const Source& source) const {
    CHORUS_TRY_ASSIGN(wire::OnnxModel graph, OnnxOf(source.task.model, source.weights, options_));
    graph.producer_version = CHORUS_VERSION;
    graph.metadata.emplace_back("task", source.task.name);
    if (source.rounds.has_value()) {
      graph.metadata.emplace_back("rounds", std::to_string(*source.rounds));
    }
    CHORUS_TRY(
        WriteFile(onnx_, wire::EncodeOnnx(graph), WriteOptions{.existing = Existing::kReplace}));
    Announce(source, onnx_);
    return OkStatus();
  }

  static void Announce(const Source& source, const std::string& path) {
    const std::string rounds =
        source.rounds.has_value() ? " after " + std::to_string(*source.rounds) + " rounds" : "";
    std::printf("model%s, %zu parameters: %s\n", rounds.c_str(), source.weights.size(),
                path.c_str());
  }

  CLI::App& app_;
  StorePlace place_;
  std::string task_;
  std::string model_;
  std::string out_;
  std::string onnx_;
  std::string evaluate_;
  OnnxOptions options_;
};

}  // namespace

std::unique_ptr<Command> NewExport(CLI::App& tool) { return std::make_unique<Export>(tool); }

}  // namespace chorus::cli
