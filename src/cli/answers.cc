// `chorus results`: what the clients answered to a task's queries, out of a coordinator's state, as
// tables or as JSON.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "chorus/analytics.h"
#include "cli/answers_text.h"
#include "cli/command.h"
#include "cli/files.h"
#include "cli/results.h"
#include "cli/store.h"
#include "wire/wire.h"

namespace chorus::cli {
namespace {

using Json = nlohmann::ordered_json;

// --- JSON ---

Json JsonOf(const Moments& moments) {
  return {{"count", moments.count},
          {"sum_in_units", moments.sum},
          {"sum_of_squares_in_units", moments.sum_of_squares},
          {"mean", moments.mean},
          {"variance", moments.variance}};
}

Json JsonOf(const QueryAnswer& answer, const QuerySpec& query) {
  Json json = {{"name", answer.name}, {"kind", KindName(answer.kind)}};
  switch (answer.kind) {
    case QueryKind::kCount:
      json["examples"] = answer.examples;
      json["clients"] = answer.clients;
      return json;
    case QueryKind::kHistogram:
      json["edges"] = answer.edges;
      json["below"] = answer.histogram.front();
      json["bins"] = std::vector<int64_t>(answer.histogram.begin() + 1, answer.histogram.end() - 1);
      json["above"] = answer.histogram.back();
      return json;
    case QueryKind::kMean:
      json["unit"] = query.unit;
      json["moments"] = JsonOf(answer.moments.front());
      return json;
    case QueryKind::kTable:
      json["unit"] = query.unit;
      for (const Moments& moments : answer.moments) json["arms"].push_back(JsonOf(moments));
      json["left_out"] = answer.left_out;
      return json;
    case QueryKind::kMoments:
      json["unit"] = query.unit;
      json["columns"] = query.columns;
      json["products_in_units"] = answer.products;
      return json;
  }
  return json;
}

class ShowResults final : public Command {
 public:
  explicit ShowResults(CLI::App& tool)
      : app_(*tool.add_subcommand("results", "Show what clients answered to a task's queries.")) {
    AddStoreOptions(app_, place_);
    app_.add_option("--task", task_, "Name of the task.")->required();
    app_.add_option("--round", round_, "Which round's answers. Default: the last that committed.");
    app_.add_option("--json", json_, "JSON file to write them to; replaced when it exists.");
  }
  CLI::App& app() override { return app_; }

  Status Run() override {
    CHORUS_TRY_ASSIGN(const std::unique_ptr<Store> store, OpenStore(place_, WhenAbsent::kRefuse));
    CHORUS_TRY_ASSIGN(const std::optional<TaskRecord> record, FindTask(*store, task_));
    if (!record.has_value()) {
      return NotFound("the store has no task of this name; check --task");
    }
    CHORUS_TRY_ASSIGN(const TaskSpec task, wire::DecodeTask(record->spec));
    if (task.queries.empty()) {
      return InvalidArgument("the task trains a model and asks no queries; see chorus export");
    }
    CHORUS_TRY_ASSIGN(const RoundReport round, FindRound(*store, record->id));
    CHORUS_TRY_ASSIGN(const std::vector<int64_t> cells, LoadAnswers(*store, round, task));
    CHORUS_TRY_ASSIGN(const std::vector<QueryAnswer> answers, ReadAnswers(task.queries, cells));
    std::printf("task %s, round %llu: %llu examples of %u clients\n", task.name.c_str(),
                static_cast<unsigned long long>(round.round),
                static_cast<unsigned long long>(round.examples), round.contributors);
    for (size_t i = 0; i < answers.size(); ++i) {
      const RecordedAnswer recorded{
          .answer = answers[i], .columns = task.queries[i].columns, .unit = task.queries[i].unit};
      std::printf("%s", AnswersText({&recorded, 1}).c_str());
    }
    if (json_.empty()) return OkStatus();
    return WriteJson(task, round, answers);
  }

 private:
  Result<RoundReport> FindRound(Store& store, const TaskId& task) const {
    CHORUS_TRY_ASSIGN(std::vector<RoundReport> rounds, CommittedRounds(store, task));
    if (rounds.empty()) return NotFound("no round of the task has committed yet");
    if (!round_.has_value()) return std::move(rounds.back());
    const auto found = std::find_if(rounds.begin(), rounds.end(), [this](const RoundReport& round) {
      return round.round == *round_;
    });
    if (found != rounds.end()) return std::move(*found);
    return NotFound("round " + std::to_string(*round_) + " has not committed; see --round");
  }

  Status WriteJson(const TaskSpec& task, const RoundReport& round,
                   const std::vector<QueryAnswer>& answers) const {
    Json json = {{"format", "chorus results 1"},
                 {"task", task.name},
                 {"round", round.round},
                 {"clients", round.contributors},
                 {"examples", round.examples}};
    for (size_t i = 0; i < answers.size(); ++i) {
      json["queries"].push_back(JsonOf(answers[i], task.queries[i]));
    }
    const std::string text = json.dump(2) + "\n";
    CHORUS_TRY(WriteFile(json_, ViewOf(text), WriteOptions{.existing = Existing::kReplace}));
    std::printf("JSON: %s\n", json_.c_str());
    return OkStatus();
  }

  CLI::App& app_;
  StorePlace place_;
  std::string task_;
  std::optional<uint64_t> round_;
  std::string json_;
};

}  // namespace

std::unique_ptr<Command> NewResults(CLI::App& tool) { return std::make_unique<ShowResults>(tool); }

}  // namespace chorus::cli
