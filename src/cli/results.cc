#include "cli/results.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/limits.h"
#include "client/example_store.h"
#include "crypto/crypto.h"
#include "learning/analytics.h"
#include "learning/learning.h"

namespace chorus::cli {

Result<Bytes> ReadContent(Store& store, const Digest& hash) {
  Bytes bytes;
  CHORUS_TRY(store.RunTransaction("read model", [&](Transaction& transaction) -> Status {
    CHORUS_TRY_ASSIGN(bytes, transaction.GetModel(hash));
    return OkStatus();
  }));
  return bytes;
}

Result<std::optional<TaskRecord>> FindTask(Store& store, std::string_view name) {
  TaskId id{};
  const Digest digest = crypto::Sha256(ViewOf(name));
  std::copy_n(digest.begin(), id.size(), id.begin());
  std::optional<TaskRecord> record;
  CHORUS_TRY(store.RunTransaction("find task", [&](Transaction& transaction) -> Status {
    CHORUS_TRY_ASSIGN(record, transaction.FindTask(id));
    return OkStatus();
  }));
  return record;
}

Result<std::vector<RoundReport>> CommittedRounds(Store& store, const TaskId& task) {
  std::vector<RoundReport> committed;
  uint64_t first = 1;
  while (true) {
    std::vector<RoundReport> page;
    CHORUS_TRY(store.RunTransaction("read rounds", [&](Transaction& transaction) -> Status {
      CHORUS_TRY_ASSIGN(page, transaction.Rounds(task, first, limits::kStatusRoundsMax));
      return OkStatus();
    }));
    if (page.empty()) return committed;
    first = page.back().round + 1;
    for (RoundReport& round : page) {
      if (round.state == RoundState::kCommitted) committed.push_back(std::move(round));
    }
  }
}

Result<Weights> LoadWeights(Store& store, const Digest& hash, const TaskSpec& task) {
  CHORUS_TRY_ASSIGN(const Bytes bytes, ReadContent(store, hash));
  if (bytes.size() != learning::PublishedCount(task) * sizeof(float)) {
    return DataLoss(
        "a stored model does not have its task's size; restore the store from a backup");
  }
  Weights weights(learning::ParameterCount(task.model));
  std::memcpy(weights.data(), bytes.data(), weights.size() * sizeof(float));
  return weights;
}

Result<std::vector<int64_t>> LoadAnswers(Store& store, const RoundReport& round,
                                         const TaskSpec& task) {
  CHORUS_TRY_ASSIGN(const Bytes bytes, ReadContent(store, round.answers));
  return learning::DecodeAnswers(bytes, learning::CellCount(task.queries));
}

Result<Evaluator> Evaluator::Load(const std::string& folder, const ModelSpec& model) {
  CHORUS_TRY_ASSIGN(Examples examples, client::LoadExamples(folder, &model));
  CHORUS_TRY(learning::CheckExamples(model, examples));
  return Evaluator(std::move(examples), model);
}

Evaluator::Evaluator(Examples examples, ModelSpec model)
    : examples_(std::move(examples)), model_(std::move(model)) {}

Result<Measured> Evaluator::Measure(const Weights& weights) const {
  CHORUS_TRY_ASSIGN(const learning::Evaluation evaluation,
                    learning::Evaluate(model_, examples_, weights, Cancel()));
  return Measured{.accuracy = evaluation.accuracy, .loss = evaluation.loss};
}

}  // namespace chorus::cli
