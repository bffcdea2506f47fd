#include "client/round.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "aggregation/protocols.h"
#include "base/codec.h"
#include "base/limits.h"
#include "base/log.h"
#include "client/durable_file.h"
#include "client/evidence.h"
#include "client/training.h"
#include "crypto/crypto.h"
#include "learning/analytics.h"
#include "learning/learning.h"
#include "privacy/privacy.h"
#include "wire/wire.h"

namespace chorus::client {
namespace {

constexpr int64_t kSecondsPerDay = 86'400;
// An hour less than a coordinator allows, so that a clock that is ahead of it does no harm.
constexpr std::chrono::seconds kPreKeyLife = limits::kPreKeyLifeMax - limits::kClockSkewMax;
// learning::Evaluate takes so many examples at a time.
constexpr uint32_t kEvaluationBatch = 256;

std::span<uint8_t> BytesOf(Weights& weights) {
  return {reinterpret_cast<uint8_t*>(weights.data()), weights.size() * sizeof(float)};
}

bool AllFinite(std::span<const float> values) {
  return std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); });
}

uint64_t ExamplesBytes(const Examples& examples) {
  // As much as they lie in, which is more where they came one after the other.
  return sizeof(float) * (examples.features.capacity() + examples.targets.capacity()) +
         sizeof(uint32_t) * examples.labels.capacity();
}

// What this client computes for itself and the coordinator's parameters must agree with.
aggregation::SessionParams ExpectedParams(const ClientOptions& options, const AcceptedTask& task) {
  const TaskSpec& spec = task.spec;
  aggregation::SessionParams params;
  params.protocol = spec.protocol;
  params.task_id = task.id;
  params.task_hash = task.hash;
  params.vec_len = task.encoding.vector_dim();
  params.bits = static_cast<uint8_t>(task.encoding.bits);
  params.word_bytes = static_cast<uint8_t>(math::WordBytesFor(task.encoding.bits));
  params.bound = spec.encoding.bound;
  params.n_min = std::max(spec.cohort.minimum, options.policy.cohort_min);
  if (!spec.queries.empty())
    params.n_min = std::max(params.n_min, options.policy.analytics_cohort_min);
  params.n_max = spec.cohort.maximum;
  if (spec.protocol == Protocol::kOneShot) {
    params.gamma_ppm = std::max(spec.one_shot.gamma_ppm, options.policy.gamma_ppm_min);
    params.a_min = std::max(spec.one_shot.honest_min, options.policy.honest_min);
    params.committee = task.committee;
  } else {
    params.mode = static_cast<uint8_t>(spec.secagg.graph);
    params.gamma_ppm = std::max(spec.secagg.gamma_ppm, options.policy.gamma_ppm_min);
    params.delta_ppm = std::max(spec.secagg.delta_ppm, options.policy.delta_ppm_min);
    params.a_min = spec.secagg.honest_min;
  }
  params.dp_hash = crypto::Sha256(privacy::CanonicalPrivacy(spec.clip));
  params.layout_hash = crypto::Sha256(learning::CanonicalContribution(spec));
  params.coordinator_id = options.coordinator;
  return params;
}

// Whether the host's own engine can train the task.
Status CheckTrainer(Trainer& trainer, const TaskSpec& task) {
  if (task.training.scaffold || task.training.fairness_q > 0)
    return InvalidArgument(
        "the task uses SCAFFOLD or q-FedAvg, which reach into training; this game trains by an "
        "engine of its own");
  return trainer.Accept(task);
}

// Whether the device's examples are of the kind that the task needs.
Status CheckOwnExamples(const SessionOptions& options, const TaskSpec& task) {
  if (!task.queries.empty() && options.trainer != nullptr)
    return InvalidArgument(
        "the task asks questions about examples, which this game's own engine holds");
  if (!task.queries.empty()) return learning::CheckQueryExamples(task.queries, *options.examples);
  if (options.trainer != nullptr) return OkStatus();
  if (task.model.custom_parameters > 0)
    return InvalidArgument(
        "the task's model is one that only a game's own Trainer understands; this game has none");
  return learning::CheckExamples(task.model, *options.examples);
}

// Whether this device can train the task, or answer its queries.
Status CheckDevice(const SessionOptions& options, const AcceptedTask& task) {
  CHORUS_TRY(CheckOwnExamples(options, task.spec));
  const Examples none;
  const uint64_t bytes = RoundBytes(task, options.trainer == nullptr ? *options.examples : none);
  const bool fits = options.take_memory != nullptr ? options.take_memory(bytes)
                                                   : bytes <= options.options->memory_bytes_max;
  if (!fits)
    return ResourceExhausted("training this task needs " + std::to_string(bytes >> 20U) +
                             " MiB of memory; this game allows " +
                             std::to_string(options.options->memory_bytes_max >> 20U) + " MiB");
  if (options.trainer != nullptr) return CheckTrainer(*options.trainer, task.spec);
  if (KeepsRecord(task.spec) && options.state == nullptr)
    return FailedPrecondition(
        "the task needs what a device keeps between rounds; this client keeps nothing");
  return OkStatus();
}

// Whether the task describes something that a device can do.
Status CheckRecipe(const TaskSpec& task) {
  if (!task.queries.empty()) return learning::ValidateQueries(task.queries, task.encoding);
  CHORUS_TRY(learning::ValidateModel(task.model));
  return learning::ValidateTraining(task.training);
}

// Whether the task names this committee member, whose identity serves nothing else.
Status CheckMembership(const ClientOptions& options, const TaskSpec& task) {
  const PublicKey mine = crypto::Ed25519Public(options.identity_seed.Reveal());
  const std::vector<PublicKey>& members = task.one_shot.members;
  if (task.protocol != Protocol::kOneShot ||
      std::find(members.begin(), members.end(), mine) == members.end())
    return PermissionDenied("this identity is not on the task's committee; it does not train");
  return OkStatus();
}

}  // namespace

Result<AcceptedTask> AcceptTask(const SessionOptions& options, BytesView task,
                                const Signature& signature) {
  const Digest signed_words = crypto::LabeledHash("CHORUS1/task", {task});
  if (!crypto::Ed25519Verify(options.options->coordinator, signed_words, signature))
    return Unauthenticated(
        "the task is not signed by the coordinator that this game trusts; nothing was trained");
  AcceptedTask accepted;
  CHORUS_TRY_ASSIGN(accepted.spec, wire::DecodeTask(task));
  const TaskSpec& spec = accepted.spec;
  CHORUS_TRY(Permit(options.options->policy, spec));
  CHORUS_TRY(CheckRecipe(spec));
  accepted.hash = crypto::Sha256(task);
  const Digest name_hash = crypto::Sha256(ViewOf(spec.name));
  std::copy_n(name_hash.begin(), accepted.id.size(), accepted.id.begin());
  CHORUS_TRY_ASSIGN(accepted.encoding,
                    math::FixedPointFor(learning::ContributionDim(spec), spec.clip, spec.encoding,
                                        spec.cohort.maximum));
  if (spec.protocol == Protocol::kOneShot) {
    CHORUS_TRY_ASSIGN(accepted.committee, aggregation::CommitteeOf(spec.one_shot));
  }
  CHORUS_TRY(options.role == Role::kCommitteeMember ? CheckMembership(*options.options, spec)
                                                    : CheckDevice(options, accepted));
  accepted.published = learning::PublishedCount(spec);
  accepted.expected = ExpectedParams(*options.options, accepted);
  return accepted;
}

uint64_t QuestionBytesMax(const SessionOptions& options) {
  if (options.role == Role::kClient) return limits::kQuestionBytesMax;
  return std::min<uint64_t>(limits::kPullBytesMax, options.options->memory_bytes_max);
}

uint64_t RoundBytes(const AcceptedTask& task, const Examples& examples) {
  const TaskSpec& spec = task.spec;
  // The model, what it becomes, a gradient and the optimiser's two; the contribution, and what it
  // corrects; what the device keeps, before and after. The vector, and its packed form in a growing
  // answer.
  const uint64_t word_bytes = static_cast<uint64_t>(math::WordBytesFor(task.encoding.bits));
  const uint64_t numbers = 3 * task.published + 2 * task.encoding.dim +
                           (KeepsRecord(spec) ? 2 * task.published : 0) +
                           (spec.training.optimizer == ClientOptimizer::kSgd ? 0 : 2) *
                               learning::ParameterCount(spec.model);
  const uint64_t vectors = numbers * sizeof(float) + task.encoding.vector_dim() * 4 * word_bytes;
  const uint64_t batch = std::min<uint64_t>(spec.training.batch_size, examples.count());
  const uint64_t evaluated = std::min<uint64_t>(kEvaluationBatch, examples.count());
  const uint64_t networks =
      learning::TrainingBytes(spec.model, batch) + learning::TrainingBytes(spec.model, evaluated);
  // The examples, and their order.
  return vectors + networks + ExamplesBytes(examples) + 2 * sizeof(size_t) * examples.count();
}

Status ModelDownload::Take(BytesView piece, uint64_t total_bytes) {
  const std::span<uint8_t> all = BytesOf(model_.weights);
  if (total_bytes != all.size() || piece.empty() || piece.size() > all.size() - received_)
    return InvalidArgument("a piece of the model does not have the size it must have");
  std::copy(piece.begin(), piece.end(), all.begin() + static_cast<std::ptrdiff_t>(received_));
  received_ += piece.size();
  return OkStatus();
}

Result<Model> ModelDownload::Finish() && {
  if (!whole() || crypto::Sha256(BytesOf(model_.weights)) != model_.sha256)
    return DataLoss("the model is not the one that the coordinator promised");
  return std::move(model_);
}

std::chrono::milliseconds LongestRound(const DeadlineSpec& deadlines) {
  std::chrono::milliseconds sum = limits::kSessionIdleMax;
  for (const std::chrono::milliseconds step :
       // Two steps have as long as a choice: the keys and the neighbours.
       {deadlines.check_in, deadlines.train, deadlines.choose, deadlines.choose, deadlines.share,
        deadlines.upload, deadlines.consistency, deadlines.unmask})
    sum += std::clamp(step, std::chrono::milliseconds{0}, limits::kStepDeadlineMax);
  return sum;
}

std::unique_ptr<Rng> DrawsFor(const SessionOptions& options, std::string_view purpose,
                              uint64_t round) {
  if (options.experiment.has_value()) {
    const SecretBytes root =
        crypto::HkdfExtract(ViewOf("CHORUS1/experiment"), ViewOf(options.experiment->text));
    Writer info;
    info.Raw(purpose).U64(round);
    return crypto::NewSeededRng(
        crypto::HkdfExpand(root.Reveal(), info.view(), crypto::kKeyBytes).Reveal());
  }
  if (purpose == "held-back") {
    const SecretBytes root = crypto::HkdfExtract({}, options.options->identity_seed.Reveal());
    return crypto::NewSeededRng(
        crypto::HkdfExpand(root.Reveal(), ViewOf("CHORUS1/held-back"), crypto::kKeyBytes).Reveal());
  }
  return crypto::NewSeededRng(crypto::RandomSecret(*options.rng, crypto::kKeyBytes).Reveal());
}

Round::Round(const SessionOptions& options, AcceptedTask task, uint64_t number)
    : options_(options),
      own_task_(std::make_unique<const AcceptedTask>(std::move(task))),
      task_(*own_task_),
      number_(number) {}

Round::Round(const SessionOptions& options, const AcceptedTask* task, uint64_t number)
    : options_(options), task_(*task), number_(number) {}

Round::~Round() {
  if (prepared_ != nullptr) math::WipeVector(prepared_->input);
}

Status Round::Permit(const Model& model) {
  if (model.model_hash.has_value()) {
    model_hash_ = *model.model_hash;
  } else {
    if (!AllFinite(model.weights)) return DataLoss("the model holds numbers that are not finite");
    model_hash_ = aggregation::ModelHash(learning::CanonicalSubject(task_.spec), model.weights);
  }
  return options_.ledger->PermitUpload(task_.id, number_, model_hash_,
                                       options_.options->policy.uploads_per_model_max);
}

Status Round::Train(const Model& model, Time until) {
  CHORUS_TRY_ASSIGN(RingVector input, TrainAndEncode(model, until));
  prepared_ = std::make_unique<aggregation::ContributorOptions>();
  aggregation::ContributorOptions& contributor = *prepared_;
  contributor.input = std::move(input);
  contributor.coordinator = options_.options->coordinator;
  contributor.expected = task_.expected;
  contributor.expected.round = number_;
  contributor.expected.model_hash = model_hash_;
  contributor.known_offers = options_.known_offers;
  if (options_.buffers != nullptr) contributor.spent = &options_.buffers->vector;
  contributor.honest_min =
      std::max(options_.options->policy.honest_min, task_.spec.protocol == Protocol::kOneShot
                                                        ? task_.spec.one_shot.honest_min
                                                        : task_.spec.secagg.honest_min);
  contributor.committee_ids = task_.spec.one_shot.members;
  contributor.identity_seed = options_.options->identity_seed.Reveal();
  contributor.evidence = options_.options->certificate;
  contributor.verifier = options_.verifier;
  contributor.rng = options_.rng;
  contributor.seen_keys = options_.seen_keys;
  contributor.equivocation = &equivocation_;
  if (task_.spec.protocol != Protocol::kSecAgg) return OkStatus();
  CHORUS_TRY_ASSIGN(
      contributor.prekeys,
      aggregation::MakePreKeys({.identity_seed = contributor.identity_seed,
                                .evidence = contributor.evidence,
                                .not_after = options_.clock->UnixSeconds() + kPreKeyLife.count()},
                               *options_.rng));
  ready_ = std::move(contributor.prekeys->record);
  return OkStatus();
}

// Before the update leaves, so that what the device keeps and what it gave never part by more than
// one round that was lost after this.
Status Round::KeepRecord() {
  if (!to_keep_.has_value() || !contributor_->uploaded()) return OkStatus();
  CHORUS_TRY(options_.state->Keep(RecordKeyOf(task_.id, task_.spec), *std::move(to_keep_)));
  to_keep_.reset();
  return OkStatus();
}

Status Round::NoteUpload() {
  if (options_.role == Role::kCommitteeMember) {
    uploaded_ = contributor_->done();
    return OkStatus();
  }
  if (!contributor_->uploaded() || uploaded_) return OkStatus();
  CHORUS_TRY(options_.ledger->NoteUpload(task_.id, number_, model_hash_,
                                         options_.options->policy.uploads_per_model_max));
  uploaded_ = true;
  return OkStatus();
}

Status Round::Attend() {
  aggregation::MemberOptions member;
  member.coordinator = options_.options->coordinator;
  // A member trains on no model, so that which one it is says nothing to it.
  member.expected = task_.expected;
  member.expected.round = number_;
  member.committee_ids = task_.spec.one_shot.members;
  member.identity_seed = options_.options->identity_seed.Reveal();
  member.verifier = options_.verifier;
  member.rng = options_.rng;
  member.seen_keys = options_.seen_keys;
  if (options_.seen_keys != nullptr)
    options_.seen_keys->Advance(options_.clock->UnixSeconds() / kSecondsPerDay);
  CHORUS_TRY_ASSIGN(contributor_, aggregation::NewCommitteeMember(std::move(member)));
  return OkStatus();
}

// What the device keeps of the task. Damage costs the device what it kept, and not the game: it
// begins the task anew, as it does where the model has changed.
Result<std::optional<DeviceRecord>> Round::FindRecord() const {
  if (options_.trainer != nullptr || !KeepsRecord(task_.spec)) return std::optional<DeviceRecord>();
  Result<std::optional<DeviceRecord>> found =
      options_.state->Find(RecordKeyOf(task_.id, task_.spec));
  if (found.ok() || found.status().code() != Code::kDataLoss) return found;
  Log(*options_.log, LogLevel::kWarn, "what this device kept of the task is damaged",
      {{"round", static_cast<int64_t>(number_)}});
  return std::optional<DeviceRecord>();
}

Result<RingVector> Round::TrainAndEncode(const Model& model, Time until) {
  const TaskSpec& spec = task_.spec;
  if (!spec.queries.empty())
    return AnswerAndEncode(spec, task_.encoding, *options_.examples,
                           Stop(*options_.cancel, options_.clock, until));
  const std::unique_ptr<Rng> draws = DrawsFor(options_, "training", number_);
  CHORUS_TRY_ASSIGN(const std::optional<DeviceRecord> record, FindRecord());
  TrainingBuffers own;
  TrainingInputs inputs = {.task = &spec,
                           .encoding = &task_.encoding,
                           .examples = options_.examples,
                           .published = model.weights,
                           .round = number_,
                           .record = record.has_value() ? &*record : nullptr,
                           .draws = draws.get(),
                           .cancel = options_.cancel,
                           .clock = options_.clock,
                           .until = until,
                           .budget = options_.budget,
                           .buffers = options_.buffers != nullptr ? options_.buffers : &own,
                           .last_use = options_.buffers == nullptr};
  if (options_.trainer != nullptr) {
    CHORUS_TRY_ASSIGN(Trained by_host, TrainByHost(*options_.trainer, inputs));
    return std::move(by_host.vector);
  }
  const uint32_t percent = spec.training.held_back_percent;
  const std::unique_ptr<Rng> held_back = percent > 0 ? DrawsFor(options_, "held-back", 0) : nullptr;
  const ExampleRows rows =
      options_.rows.value_or(ExampleRows{.begin = 0, .count = options_.examples->count()});
  learning::Split split =
      learning::HoldBack(rows.count, percent, held_back != nullptr ? *held_back : *draws);
  for (size_t& row : split.train) row += rows.begin;
  for (size_t& row : split.held_back) row += rows.begin;
  inputs.split = &split;
  CHORUS_TRY_ASSIGN(Trained trained, client::TrainAndEncode(inputs));
  to_keep_ = std::move(trained.record);
  return std::move(trained.vector);
}

// A committee member gives nothing of its own away, and has no ledger.
Status Round::PermitAttempt() const {
  if (options_.role == Role::kCommitteeMember) return OkStatus();
  return options_.ledger->PermitAttempt(task_.id, number_,
                                        options_.clock->UnixSeconds() / kSecondsPerDay);
}

Status Round::NoteAttempt() {
  if (attempted_ || options_.role == Role::kCommitteeMember) return OkStatus();
  CHORUS_TRY(options_.ledger->NoteAttempt(task_.id, number_,
                                          options_.clock->UnixSeconds() / kSecondsPerDay));
  attempted_ = true;
  return OkStatus();
}

// Only now, since how old the pre-keys may be is a matter of when the session begins: others may
// have trained for hours.
Status Round::BeginSession() {
  prepared_->unix_now = options_.clock->UnixSeconds();
  if (options_.seen_keys != nullptr)
    options_.seen_keys->Advance(prepared_->unix_now / kSecondsPerDay);
  const std::unique_ptr<aggregation::ContributorOptions> prepared = std::move(prepared_);
  CHORUS_TRY_ASSIGN(contributor_, aggregation::NewContributor(std::move(*prepared)));
  return OkStatus();
}

void Round::KeepEvidenceFound() {
  if (!equivocation_.has_value()) return;
  Disk& disk = options_.disk != nullptr ? *options_.disk : SystemDisk();
  evidence_kept_ = KeepEvidence(disk, options_.options->state_dir,
                                {.unix_seconds = options_.clock->UnixSeconds(),
                                 .coordinator = options_.options->coordinator,
                                 .task = task_.id,
                                 .round = number_,
                                 .rosters = *equivocation_});
}

Result<SecretBytes> Round::Answer(BytesView question) {
  if (prepared_ != nullptr) CHORUS_TRY(BeginSession());
  if (contributor_ == nullptr)
    return FailedPrecondition("this client has no part in the round; it was asked too early");
  if (const Status noted = NoteAttempt(); !noted.ok()) {
    refused_by_ledger_ = true;
    contributor_.reset();
    return noted;
  }
  Result<Bytes> answer = contributor_->Answer(question);
  if (!answer.ok()) {
    contributor_.reset();
    KeepEvidenceFound();
    return answer.status();
  }
  SecretBytes kept(*std::move(answer));
  if (const Status wrote = KeepRecord(); !wrote.ok()) {
    contributor_.reset();
    return wrote;
  }
  if (const Status noted = NoteUpload(); !noted.ok()) {
    refused_by_ledger_ = true;
    contributor_.reset();
    return noted;
  }
  return kept;
}

}  // namespace chorus::client
