#include "coordinator/task_state.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <string>
#include <utility>

#include "base/codec.h"
#include "base/limits.h"
#include "crypto/crypto.h"
#include "learning/analytics.h"
#include "learning/learning.h"
#include "wire/wire.h"

namespace chorus::coordinator {
namespace {

static_assert(sizeof(float) == 4 && std::endian::native == std::endian::little,
              "weights are served as the machine holds them");

// Rounds that were open when the last coordinator died are over: their half-states died with it.
Status CloseOpenRounds(Transaction& transaction, const TaskRecord& record) {
  uint64_t first = 1;
  while (first <= record.rounds_begun) {
    CHORUS_TRY_ASSIGN(std::vector<RoundReport> rounds,
                      transaction.Rounds(record.id, first, limits::kStatusRoundsMax));
    if (rounds.empty()) break;
    for (RoundReport& round : rounds) {
      if (round.state != RoundState::kOpen) continue;
      round.state = RoundState::kAborted;
      round.code = Code::kAborted;
      round.reason = "the coordinator restarted";
      CHORUS_TRY(transaction.PutRound(record.id, round));
    }
    first = rounds.back().round + 1;
  }
  return OkStatus();
}

// Reads what the record names besides the model.
Status LoadBeside(Transaction& transaction, const TaskSpec& task, TaskState& state) {
  if (state.record.server_state == Digest{}) return OkStatus();
  CHORUS_TRY_ASSIGN(const Bytes bytes, transaction.GetModel(state.record.server_state));
  if (!task.queries.empty()) {
    CHORUS_TRY_ASSIGN(state.cells,
                      learning::DecodeAnswers(bytes, learning::CellCount(task.queries)));
    return OkStatus();
  }
  CHORUS_TRY_ASSIGN(
      state.server.optimizer,
      learning::DecodeState(state.record.id, bytes, learning::SharedCount(task.model)));
  return OkStatus();
}

// The round that begins last, while it is open, may be another process's.
Result<uint64_t> RoundsEnded(Transaction& transaction, const TaskRecord& record) {
  CHORUS_TRY_ASSIGN(const std::vector<RoundReport> last,
                    transaction.Rounds(record.id, record.rounds_begun, 1));
  const bool open = !last.empty() && last.front().round == record.rounds_begun &&
                    last.front().state == RoundState::kOpen;
  return open ? record.rounds_begun - 1 : record.rounds_begun;
}

// Fills `state` with the stored task of the same name, or stores it as it stands.
Status LoadOrCreate(Transaction& transaction, const FirstOptions& options, bool shared,
                    TaskState& state) {
  const TaskSpec& task = options.task;
  CHORUS_TRY_ASSIGN(std::optional<TaskRecord> found, transaction.FindTask(state.record.id));
  if (!found) {
    CHORUS_TRY(transaction.PutModel(state.record.model, BytesOf(state.server.published)));
    CHORUS_TRY(transaction.PutTask(state.record));
    return transaction.PutAudit(state.record.id, options.created);
  }
  if (found->spec != state.record.spec) {
    return FailedPrecondition(
        "the store holds a task of this name with another specification; change name, or use "
        "another store");
  }
  if (!shared) CHORUS_TRY(CloseOpenRounds(transaction, *found));
  CHORUS_TRY_ASSIGN(state, LoadState(transaction, task, *std::move(found)));
  CHORUS_TRY_ASSIGN(state.rounds_ended, RoundsEnded(transaction, state.record));
  return OkStatus();
}

Result<Weights> FirstWeights(const FirstOptions& options, Rng& rng) {
  const ModelSpec& model = options.task.model;
  const uint64_t dim = options.task.queries.empty() ? learning::ParameterCount(model) : 0;
  if (options.initial_weights) {
    const Weights& given = *options.initial_weights;
    if (given.size() != dim) {
      return InvalidArgument("initial_weights has " + std::to_string(given.size()) +
                             " values, but the model has " + std::to_string(dim) + " parameters");
    }
    if (!std::all_of(given.begin(), given.end(), [](float w) { return std::isfinite(w); })) {
      return InvalidArgument("initial_weights holds a value that is not finite");
    }
    return given;
  }
  if (dim == 0) return Weights();
  // Draws of eight bytes each are cheap from a generator of ours, and not from the system's.
  if (!options.experiment_seed) {
    const SecretBytes drawn = crypto::RandomSecret(rng, crypto::kKeyBytes);
    return learning::InitialWeights(model, *crypto::NewSeededRng(drawn.Reveal()));
  }
  const Bytes seed = std::move(Writer().U64(*options.experiment_seed)).Take();
  const Digest key = crypto::LabeledHash("CHORUS1/initial-weights", {seed});
  return learning::InitialWeights(model, *crypto::NewSeededRng(key));
}

}  // namespace

BytesView BytesOf(std::span<const float> weights) {
  return {reinterpret_cast<const uint8_t*>(weights.data()), weights.size_bytes()};
}

TaskId TaskIdOf(std::string_view name) {
  TaskId id{};
  const Digest hash = crypto::Sha256(ViewOf(name));
  std::copy_n(hash.begin(), id.size(), id.begin());
  return id;
}

Result<TaskState> LoadState(Transaction& transaction, const TaskSpec& task, TaskRecord record) {
  CHORUS_TRY_ASSIGN(const Bytes model, transaction.GetModel(record.model));
  TaskState state;
  Weights& published = state.server.published;
  published.resize(learning::PublishedCount(task));
  if (model.size() != published.size() * sizeof(float)) {
    return DataLoss("the stored model has another size than the task's");
  }
  if (!model.empty()) std::memcpy(published.data(), model.data(), model.size());
  state.record = std::move(record);
  state.server.version = state.record.rounds_committed;
  CHORUS_TRY(LoadBeside(transaction, task, state));
  return state;
}

Result<TaskState> OpenTask(const FirstOptions& options, Store& store, Rng& rng) {
  const TaskSpec& task = options.task;
  CHORUS_TRY_ASSIGN(Weights weights, FirstWeights(options, rng));
  TaskState first;
  first.server = FirstState(task, std::move(weights));
  first.record.id = TaskIdOf(task.name);
  first.record.name = task.name;
  first.record.spec = wire::EncodeTask(task);
  first.record.priority = options.created.priority;
  first.record.model = crypto::Sha256(BytesOf(first.server.published));
  TaskState state;
  CHORUS_TRY(store.RunTransaction("open task", [&](Transaction& transaction) {
    state = first;  // anew, should a conflict make this run again
    return LoadOrCreate(transaction, options, store.shared(), state);
  }));
  return state;
}

Result<TaskState> StateAfter(const TaskSpec& task, const TaskRecord& record, uint64_t round,
                             Transaction& transaction) {
  const std::string which =
      round == 0 ? "the task's first model" : "the model of round " + std::to_string(round);
  CHORUS_TRY_ASSIGN(const std::vector<RoundReport> rounds,
                    transaction.Rounds(record.id, std::max<uint64_t>(round, 1), 1));
  const bool kept = !rounds.empty() && rounds.front().round == std::max<uint64_t>(round, 1);
  if (round > record.rounds_begun) {
    return NotFound("the task has begun " + std::to_string(record.rounds_begun) +
                    " rounds only: name one of these");
  }
  TaskState state;
  state.record = record;
  if (round == 0 && record.rounds_begun > 0 && kept) state.record.model = rounds.front().model;
  if (round > 0 && kept) state.record.model = rounds.front().result;
  if (!kept && record.rounds_begun > 0) {
    return NotFound(which +
                    " is not known any more: the report of the round is not kept so long; "
                    "name a later round, and keep more rounds from now on");
  }
  if (state.record.model == Digest{}) {
    return NotFound("round " + std::to_string(round) +
                    " made no model: name one that committed, see `chorus status`");
  }
  Result<Bytes> model = transaction.GetModel(state.record.model);
  if (model.status().code() == Code::kNotFound) {
    return NotFound(which +
                    " is not kept any more: name a later round, and keep more models from "
                    "now on");
  }
  CHORUS_TRY(model);
  state.server = FirstState(task, Weights(learning::ParameterCount(task.model)));
  Weights& published = state.server.published;
  if (model->size() != published.size() * sizeof(float)) {
    return DataLoss(which + " has another size than the task's");
  }
  std::memcpy(published.data(), model->data(), model->size());
  state.server.version = record.rounds_committed;
  state.record.server_state = {};
  return state;
}

Results MakeResults(const TaskSpec& task, const TaskId& id, NextModel next) {
  Results results{.next = std::move(next), .beside = {}};
  const learning::OptimizerState& optimizer = results.next.state.optimizer;
  results.model = crypto::Sha256(BytesOf(results.next.state.published));
  if (!task.queries.empty()) {
    results.beside = learning::EncodeAnswers(results.next.cells);
  } else if (optimizer != learning::OptimizerState()) {
    results.beside = learning::EncodeState(id, optimizer);
  }
  if (!results.beside.empty()) results.beside_sha256 = crypto::Sha256(results.beside);
  return results;
}

Status PutResults(const TaskSpec& task, const Results& results, const TaskRecord& before,
                  Transaction& transaction) {
  CHORUS_TRY(transaction.PutModel(results.model, BytesOf(results.next.state.published)));
  if (!results.beside.empty()) {
    CHORUS_TRY(transaction.PutModel(results.beside_sha256, results.beside));
  }
  const bool stale = before.server_state != Digest{} &&
                     before.server_state != results.beside_sha256 && task.queries.empty();
  if (stale) CHORUS_TRY(transaction.DropModel(before.server_state));
  return transaction.PutTask(RecordOf(results, before));
}

Status Forget(const Retention& retention, const TaskId& task, uint64_t round,
              Transaction& transaction) {
  if (retention.models_kept > 0) {
    CHORUS_TRY(transaction.DropOldModels(task, retention.models_kept));
  }
  if (retention.rounds_kept == 0 || round <= retention.rounds_kept) return OkStatus();
  return transaction.DropRounds(task, round - retention.rounds_kept + 1);
}

TaskRecord RecordOf(const Results& results, TaskRecord before) {
  before.model = results.model;
  before.server_state = results.beside_sha256;
  ++before.rounds_committed;
  return before;
}

}  // namespace chorus::coordinator
