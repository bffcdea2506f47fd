// What the store keeps of a task, and what a coordinator makes durable with every commit.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/random.h"
#include "chorus/bytes.h"
#include "chorus/coordinator.h"
#include "chorus/model.h"
#include "chorus/status.h"
#include "chorus/store.h"
#include "chorus/task.h"
#include "coordinator/outcome.h"

namespace chorus::coordinator {

// How soon what the store refused is tried again.
inline constexpr Time kStoreRetry{1'000};

// Weights as they are served and stored: binary32 little-endian in layout order.
BytesView BytesOf(std::span<const float> weights);
TaskId TaskIdOf(std::string_view name);

// What the store keeps of a task, with what its digests stand for.
struct TaskState {
  TaskRecord record;
  ServerState server;
  std::vector<int64_t> cells;  // of analytics: of the last round that committed, if any
  // The last round that is over. In a store that is shared the next one may be going on elsewhere.
  uint64_t rounds_ended = 0;
};

// What a task begins with where the store does not have it yet.
struct FirstOptions {
  const TaskSpec& task;  // valid
  const std::optional<Weights>& initial_weights;
  std::optional<uint64_t> experiment_seed;
  const AuditEntry& created;  // of the task's audit, the first; its priority is the task's
};
// Loads the task from `store`, its open rounds marked aborted unless other processes may be running
// them; or creates it with the weights given, else drawn. kInvalidArgument: the weights do not fit
// the model; kFailedPrecondition: the store has a task of this name with another specification;
// kDataLoss: what is stored does not fit the task; else the store's.
Result<TaskState> OpenTask(const FirstOptions& options, Store& store, Rng& rng);

// What `record` stands for, read by the transaction that found it. kDataLoss: it does not fit the
// task.
Result<TaskState> LoadState(Transaction& transaction, const TaskSpec& task, TaskRecord record);
// The model that `round` made, or with 0 the one that the task began with, as it is published.
// kNotFound: it made none, or the model is not kept any more.
Result<TaskState> StateAfter(const TaskSpec& task, const TaskRecord& record, uint64_t round,
                             Transaction& transaction);

// A committed round's results in the form in which they are stored.
struct Results {
  NextModel next;
  Digest model{};  // content hash of next.state.published
  // The optimiser's state, or of analytics the cells; none of FedAvg.
  Bytes beside;
  Digest beside_sha256{};  // zeros when there is none
};
Results MakeResults(const TaskSpec& task, const TaskId& id, NextModel next);
// Puts the results and the task's record, which names them. An optimiser's state that nothing names
// any more goes; models and answers stay.
Status PutResults(const TaskSpec& task, const Results& results, const TaskRecord& before,
                  Transaction& transaction);
// Drops what `retention` does not keep, once the round numbered `round` has been put.
Status Forget(const Retention& retention, const TaskId& task, uint64_t round,
              Transaction& transaction);
// The record that names the results.
TaskRecord RecordOf(const Results& results, TaskRecord before);

}  // namespace chorus::coordinator
