#include "client/training.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "crypto/crypto.h"
#include "learning/analytics.h"
#include "privacy/privacy.h"

namespace chorus::client {
namespace {

using learning::ParameterRange;

// The root of one half, rounded down: two halves of so much of the clip make one of the clip.
constexpr float kHalfOfNorm = 0x1.6a09e4p-1F;

Status Diverged() {
  return Aborted("training diverged; the task's learning rate is too high for this device");
}

bool AllFinite(std::span<const float> values) { return std::isfinite(math::Norm(values)); }

// Calls `each` with every range of the model that is not among `shared`, ascending.
template <typename Each>
void ForPersonal(uint64_t dim, std::span<const ParameterRange> shared, Each each) {
  uint64_t at = 0;
  for (const ParameterRange& range : shared) {
    if (range.begin > at) each(ParameterRange{.begin = at, .count = range.begin - at});
    at = range.begin + range.count;
  }
  if (at < dim) each(ParameterRange{.begin = at, .count = dim - at});
}

// One device's work in one round.
class Work {
 public:
  explicit Work(const TrainingInputs& inputs)
      : inputs_(inputs),
        spec_(*inputs.task),
        stop_(*inputs.cancel, inputs.clock, inputs.until, inputs.budget),
        dim_(learning::ParameterCount(spec_.model)),
        shared_(learning::SharedRanges(spec_.model)) {
    for (const ParameterRange& range : shared_) shared_count_ += range.count;
  }

  Result<Trained> Run();

 private:
  std::span<const float> model() const { return inputs_.published.first(dim_); }
  // From 0, as schedules count.
  uint64_t round() const { return std::max<uint64_t>(inputs_.round, 1) - 1; }
  // SCAFFOLD: the server's control variate, and this device's.
  std::span<const float> server_control() const { return inputs_.published.subspan(dim_); }
  std::span<const float> own_control() const {
    return inputs_.record == nullptr ? std::span<const float>()
                                     : std::span<const float>(inputs_.record->control.get());
  }

  void Begin();
  Status MeasureAndTrain();
  Status Measure();
  Status Train();
  void TakePersonal();
  Status Assemble();
  void AddControlChange(std::span<float> half);
  void AddFairness(std::span<float> contribution);

  const TrainingInputs& inputs_;
  const TaskSpec& spec_;
  const Stop stop_;
  const uint64_t dim_;
  const std::vector<ParameterRange> shared_;
  uint64_t shared_count_ = 0;
  learning::Evaluation evaluation_;
  double loss_before_ = 0;  // of the published model on what is trained on; of q-FedAvg
  uint64_t steps_ = 0;
  std::optional<DeviceRecord> kept_;
};

// The published model, with this device's own layers in their places; and what SCAFFOLD corrects
// by, which is made on the client's own thread since nothing in it takes a breath.
void Work::Begin() {
  inputs_.buffers->weights.Reset(model());
  if (inputs_.record != nullptr)
    PutPersonal(spec_, *inputs_.record, inputs_.buffers->weights.Mutable());
  if (!spec_.training.scaffold) return;
  Weights& correction = inputs_.buffers->correction.Reset(server_control());
  const std::span<const float> own = own_control();
  for (size_t i = 0; i < own.size(); ++i) correction[i] -= own[i];
}

// What takes long, perhaps on the host's thread; all the rest is done on the client's own.
Status Work::MeasureAndTrain() {
  Status outcome;
  const auto work = [&] {
    outcome = Measure();
    if (outcome.ok()) outcome = Train();
  };
  if (inputs_.budget == nullptr) {
    work();
    return outcome;
  }
  CHORUS_TRY(inputs_.budget->Run(work));
  return outcome;
}

Status Work::Measure() {
  learning::Learner& learner = *inputs_.buffers->learner;
  const std::span<const float> weights = inputs_.buffers->weights.get();
  if (!inputs_.split->held_back.empty()) {
    CHORUS_TRY_ASSIGN(
        evaluation_, learner.Evaluate(*inputs_.examples, inputs_.split->held_back, weights, stop_));
  }
  if (spec_.training.fairness_q > 0) {
    CHORUS_TRY_ASSIGN(const learning::Evaluation before,
                      learner.Evaluate(*inputs_.examples, inputs_.split->train, weights, stop_));
    loss_before_ = before.loss;
  }
  return OkStatus();
}

Status Work::Train() {
  learning::LocalTraining local = {.examples = inputs_.examples,
                                   .rows = inputs_.split->train,
                                   .round = round(),
                                   .anchor = model()};
  if (spec_.training.scaffold) local.correction = inputs_.buffers->correction.get();
  CHORUS_TRY_ASSIGN(steps_, inputs_.buffers->learner->Train(
                                local, inputs_.buffers->weights.Mutable(), *inputs_.draws, stop_));
  return OkStatus();
}

void Work::TakePersonal() {
  kept_.emplace();
  Weights& personal = kept_->personal.Reset(dim_ - shared_count_);
  float* to = personal.data();
  ForPersonal(dim_, shared_, [&](const ParameterRange& range) {
    to = std::copy_n(inputs_.buffers->weights.get().data() + range.begin, range.count, to);
  });
}

// [KKMRSS20], option II: c_i' = c_i - c + (x - y) / (steps * rate), so that its change is
// -(c + update / (steps * rate)). `contribution` has the update in its first half, not yet clipped.
// What the device keeps is changed by what it sends, the clip included: so the server's c stays the
// mean of what devices keep, and a clip only slows both down. DEVIATION: that mean is weighted by
// examples, as all sums are.
void Work::AddControlChange(std::span<float> contribution) {
  const std::span<float> update = contribution.first(shared_count_);
  const std::span<float> change = contribution.subspan(shared_count_);
  const std::span<const float> control = server_control();
  const float scale = learning::ControlScale(spec_);
  const float rate = learning::RateAt(spec_.training, round());
  const float per_step = 1 / (static_cast<float>(steps_) * rate);
  for (size_t i = 0; i < change.size(); ++i) {
    change[i] = -scale * (control[i] + per_step * update[i]);
  }
  const float half = kHalfOfNorm * spec_.clip.update_l2_norm_max;
  privacy::ClipToNorm(update, half);
  privacy::ClipToNorm(change, half);
  const std::span<const float> own = own_control();
  Weights& kept = kept_->control.Reset(shared_count_);
  std::copy(own.begin(), own.end(), kept.begin());
  for (size_t i = 0; i < kept.size(); ++i) kept[i] += change[i] / scale;
}

// [LSBS20, Alg. 2], with L = 1 / rate and all divided by it: the update counts F^q times, and the
// server divides by the sum of h = F^q + q F^(q - 1) |update|^2 / rate. Both are divided by the
// task's F0^q, which cancels in the server's quotient. The clip takes both together, so that a
// device whose contribution is cut keeps its direction and length and loses weight; it is taken
// here, since what it cuts may be beyond a float. DEVIATION: both sums are weighted by examples,
// where the paper draws devices by theirs.
void Work::AddFairness(std::span<float> contribution) {
  const std::span<float> update = contribution.first(shared_count_);
  const double q = spec_.training.fairness_q;
  const double loss = std::clamp(loss_before_, learning::kFairnessLossMin, math::kLossMax);
  const double rate = learning::RateAt(spec_.training, round());
  const double norm = math::Norm(update);
  const double weight = std::pow(loss / double{spec_.training.fairness_loss}, q);
  const double h = weight * (1 + q * norm * norm / (rate * loss)) *
                   static_cast<double>(learning::FairnessScale(spec_));
  const double clip = spec_.clip.update_l2_norm_max;
  const double cut = clip / std::max(clip, std::hypot(weight * norm, h));
  for (float& value : update) value *= static_cast<float>(weight * cut);
  contribution.back() = static_cast<float>(h * cut);
}

// From the trained weights to the contribution, within the clip. Where all is shared and nothing
// goes beside the update, the weights become it in place.
Status Work::Assemble() {
  PrivateWeights& weights = inputs_.buffers->weights;
  const uint64_t count = learning::ContributionDim(spec_);
  const float clip = spec_.clip.update_l2_norm_max;
  if (count == dim_ && shared_count_ == dim_) {
    const double norm = math::SubtractForNorm(weights.Mutable(), model());
    if (!std::isfinite(norm)) return Diverged();
    if (norm > clip) privacy::ClipToNorm(weights.Mutable(), clip);
    std::swap(weights, inputs_.buffers->contribution);
    return OkStatus();
  }
  if (!AllFinite(weights.get())) return Diverged();
  Weights& contribution = inputs_.buffers->contribution.Reset(count);
  float* to = contribution.data();
  for (const ParameterRange& range : shared_) {
    for (uint64_t i = range.begin; i < range.begin + range.count; ++i) {
      *to++ = weights.get()[i] - model()[i];
    }
  }
  if (KeepsRecord(spec_)) TakePersonal();
  if (spec_.training.scaffold) AddControlChange(contribution);
  if (spec_.training.fairness_q > 0) AddFairness(contribution);
  return std::isfinite(privacy::ClipToNorm(contribution, clip)) ? OkStatus() : Diverged();
}

Result<Trained> Work::Run() {
  if (inputs_.buffers->learner == nullptr) {
    CHORUS_TRY_ASSIGN(inputs_.buffers->learner,
                      learning::Learner::Create(spec_.model, spec_.training));
  }
  Begin();
  CHORUS_TRY(MeasureAndTrain());
  CHORUS_TRY(Assemble());
  if (inputs_.last_use) inputs_.buffers->learner.reset();
  Trained trained;
  // Written so that a loss that is not a number counts as the largest.
  const double loss = evaluation_.loss <= math::kLossMax ? evaluation_.loss : math::kLossMax;
  CHORUS_TRY_ASSIGN(trained.vector,
                    math::Encode(*inputs_.encoding,
                                 {.update = inputs_.buffers->contribution.get(),
                                  .examples = inputs_.split->train.size(),
                                  .evaluated = evaluation_.count,
                                  .accuracy = evaluation_.accuracy,
                                  .loss = std::max(loss, 0.0)},
                                 *inputs_.draws, std::move(inputs_.buffers->vector)));
  trained.record = std::move(kept_);
  return trained;
}

Status CheckOfHost(const TrainedUpdate& trained, uint64_t dim) {
  if (trained.update.size() != dim) {
    return InvalidArgument("the host's trainer gave an update of " +
                           std::to_string(trained.update.size()) + " numbers; the model has " +
                           std::to_string(dim));
  }
  if (!AllFinite(trained.update)) {
    return InvalidArgument("the host's trainer gave an update with numbers that are not finite");
  }
  if (trained.examples == 0) {
    return InvalidArgument("the host's trainer says that it trained on no examples");
  }
  if (!(trained.accuracy >= 0 && trained.accuracy <= 1)) {
    return InvalidArgument("the host's trainer gave an accuracy that is not between 0 and 1");
  }
  if (!std::isfinite(trained.loss) || trained.loss < 0) {
    return InvalidArgument("the host's trainer gave a loss that is not finite or below 0");
  }
  return OkStatus();
}

}  // namespace

Result<Trained> TrainAndEncode(const TrainingInputs& inputs) { return Work(inputs).Run(); }

Result<Trained> TrainByHost(Trainer& trainer, const TrainingInputs& inputs) {
  const TaskSpec& spec = *inputs.task;
  const uint64_t dim = learning::ParameterCount(spec.model);
  CHORUS_TRY_ASSIGN(TrainedUpdate result,
                    trainer.Train(spec, inputs.round, inputs.published.first(dim), *inputs.cancel));
  const Status sound = CheckOfHost(result, dim);
  // Wiped whatever comes of it.
  PrivateWeights update(std::move(result.update));
  CHORUS_TRY(sound);
  PrivateWeights& contribution = inputs.buffers->contribution;
  Weights& values = contribution.Reset(learning::ContributionDim(spec));
  float* to = values.data();
  for (const ParameterRange& range : learning::SharedRanges(spec.model)) {
    to = std::copy_n(update.get().data() + range.begin, range.count, to);
  }
  privacy::ClipToNorm(contribution.Mutable(), spec.clip.update_l2_norm_max);
  Trained trained;
  CHORUS_TRY_ASSIGN(trained.vector, math::Encode(*inputs.encoding,
                                                 {.update = contribution.get(),
                                                  .examples = result.examples,
                                                  .evaluated = result.evaluated,
                                                  .accuracy = result.accuracy,
                                                  .loss = result.loss},
                                                 *inputs.draws));
  return trained;
}

Result<RingVector> AnswerAndEncode(const TaskSpec& task, const math::FixedPoint& encoding,
                                   const Examples& examples, const Stop& stop) {
  CHORUS_TRY_ASSIGN(
      std::vector<int64_t> cells,
      learning::AnswerQueries(task.queries, examples, task.encoding.examples_max, stop));
  Result<RingVector> vector = learning::EncodeCells(encoding, cells, examples.count());
  Wipe({reinterpret_cast<uint8_t*>(cells.data()), cells.size() * sizeof(int64_t)});
  return vector;
}

bool KeepsRecord(const TaskSpec& task) {
  if (!task.queries.empty()) return false;
  return task.training.scaffold ||
         learning::SharedCount(task.model) < learning::ParameterCount(task.model);
}

void PutPersonal(const TaskSpec& task, const DeviceRecord& record, std::span<float> weights) {
  const float* from = record.personal.get().data();
  const std::vector<ParameterRange> shared = learning::SharedRanges(task.model);
  ForPersonal(weights.size(), shared, [&](const ParameterRange& range) {
    std::copy_n(from, range.count, weights.data() + range.begin);
    from += range.count;
  });
}

RecordKey RecordKeyOf(const TaskId& id, const TaskSpec& task) {
  const uint64_t shared = learning::SharedCount(task.model);
  return {.task = id,
          .model = crypto::Sha256(learning::CanonicalModel(task.model)),
          .personal_count = learning::ParameterCount(task.model) - shared,
          .control_count = task.training.scaffold ? shared : 0};
}

}  // namespace chorus::client
