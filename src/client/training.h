// What a device computes in a round: from the published model and its own examples to the vector
// of integers that goes into the sum. Pure, so that production and simulation share it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "base/random.h"
#include "base/stop.h"
#include "chorus/aggregation.h"
#include "chorus/client.h"
#include "chorus/host.h"
#include "chorus/status.h"
#include "chorus/task.h"
#include "client/device_state.h"
#include "client/frame_budget.h"
#include "learning/learning.h"
#include "math/math.h"

namespace chorus::client {

// What training a task needs besides the examples, in buffers that may serve any number of devices
// of one process in turn. They hold what the last one learned, until another follows or they are
// wiped at their end. One task's; thread-compatible.
struct TrainingBuffers {
  TrainingBuffers() = default;
  ~TrainingBuffers() { math::WipeVector(vector); }
  TrainingBuffers(const TrainingBuffers&) = delete;
  TrainingBuffers& operator=(const TrainingBuffers&) = delete;

  std::unique_ptr<learning::Learner> learner;  // made when first needed
  PrivateWeights weights;
  PrivateWeights contribution;
  PrivateWeights correction;
  RingVector vector;  // memory for what is encoded, which under plain comes back
};

struct TrainingInputs {
  const TaskSpec* task = nullptr;  // valid; this and all pointers are needed
  const math::FixedPoint* encoding = nullptr;
  const Examples* examples = nullptr;      // that fit the model
  const learning::Split* split = nullptr;  // of the examples
  std::span<const float> published;        // [PublishedCount] finite
  uint64_t round = 1;                      // from 1
  const DeviceRecord* record = nullptr;    // what the device keeps; null: nothing yet
  Rng* draws = nullptr;                    // order of training, dropout, rounding
  const Cancel* cancel = nullptr;
  // With a clock: from when on the round cannot use what is trained, and training stops. The host's
  // own engine is not stopped, and its update is lost with the round.
  const Clock* clock = nullptr;
  Time until = Time::max();
  FrameBudget* budget = nullptr;  // when training runs, and where; null: here and now
  TrainingBuffers* buffers = nullptr;
  bool last_use = false;  // of the buffers: what training alone needs goes before the encoding
};

struct Trained {
  RingVector vector;  // holds the client's input: wipe it
  // What the device must keep from now on if the vector leaves it; of tasks with personal layers or
  // SCAFFOLD.
  std::optional<DeviceRecord> record;
};

// Evaluates the published model on what is held back, trains on the rest, and encodes what
// learning::ContributionDim says. kCancelled; kDeadlineExceeded: it was not done by `until`;
// kAborted: training diverged.
Result<Trained> TrainAndEncode(const TrainingInputs& inputs);

// What the host's own engine makes of the published model [dim], checked before it is encoded as
// above. kInvalidArgument: its result has another size, numbers that are not finite or metrics out
// of range; also the failures of `trainer`.
Result<Trained> TrainByHost(Trainer& trainer, const TrainingInputs& inputs);

// Analytics, in place of training: this device's cells of all queries (valid), as whole numbers; no
// clip, no rounding. kInvalidArgument: examples without the columns that are asked for. The
// failures of `stop`.
Result<RingVector> AnswerAndEncode(const TaskSpec& task, const math::FixedPoint& encoding,
                                   const Examples& examples, const Stop& stop);

// Whether a task makes devices keep a record, and which.
bool KeepsRecord(const TaskSpec& task);
RecordKey RecordKeyOf(const TaskId& id, const TaskSpec& task);
// Puts the device's own layers into their places in `weights` [dim].
void PutPersonal(const TaskSpec& task, const DeviceRecord& record, std::span<float> weights);

}  // namespace chorus::client
