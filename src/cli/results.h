// A task's results in a coordinator's store, and how good its models are.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "chorus/client.h"
#include "chorus/model.h"
#include "chorus/store.h"
#include "cli/report.h"

namespace chorus::cli {

Result<std::optional<TaskRecord>> FindTask(Store& store, std::string_view name);
// What is kept under `hash`. kNotFound: not kept; kDataLoss: damaged.
Result<Bytes> ReadContent(Store& store, const Digest& hash);
// In ascending order.
Result<std::vector<RoundReport>> CommittedRounds(Store& store, const TaskId& task);
// [dim] weights of the task's model, out of what was published under `hash`. kNotFound: not kept;
// kDataLoss: of another size, or damaged.
Result<Weights> LoadWeights(Store& store, const Digest& hash, const TaskSpec& task);
// Of analytics: the cells of a round that committed. kNotFound: not kept; kDataLoss: damaged.
Result<std::vector<int64_t>> LoadAnswers(Store& store, const RoundReport& round,
                                         const TaskSpec& task);

// Measures models on one set of examples. Thread-compatible.
class Evaluator {
 public:
  // Reads the examples in `folder`, which must fit the model.
  static Result<Evaluator> Load(const std::string& folder, const ModelSpec& model);
  Result<Measured> Measure(const Weights& weights) const;

 private:
  Evaluator(Examples examples, ModelSpec model);
  Examples examples_;
  ModelSpec model_;
};

}  // namespace chorus::cli
