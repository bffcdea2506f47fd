#include "client/round.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "aggregation/protocols.h"
#include "base/codec.h"
#include "base/limits.h"
#include "client/evidence.h"
#include "crypto/crypto.h"
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

// Weights that hold what this device learned: wiped when they go.
struct PrivateWeights {
  explicit PrivateWeights(const Weights& from) : values(from) {}
  PrivateWeights(const PrivateWeights&) = delete;
  PrivateWeights& operator=(const PrivateWeights&) = delete;
  ~PrivateWeights() { Wipe(BytesOf(values)); }
  Weights values;
};

bool AllFinite(std::span<const float> values) {
  return std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); });
}

uint64_t ExamplesBytes(const Examples& examples) {
  return sizeof(float) * (examples.features.size() + examples.targets.size()) +
         sizeof(uint32_t) * examples.labels.size();
}

// What this client computes for itself and the coordinator's parameters must agree with.
aggregation::SessionParams ExpectedParams(const ClientOptions& options, const AcceptedTask& task,
                                          uint64_t round, const Digest& model_hash) {
  const TaskSpec& spec = task.spec;
  aggregation::SessionParams params;
  params.protocol = spec.protocol;
  params.task_id = task.id;
  params.task_hash = task.hash;
  params.round = round;
  params.model_hash = model_hash;
  params.vec_len = task.encoding.vector_dim();
  params.bits = static_cast<uint8_t>(task.encoding.bits);
  params.word_bytes = static_cast<uint8_t>(math::WordBytesFor(task.encoding.bits));
  params.bound = spec.encoding.bound;
  params.n_min = std::max(spec.cohort.minimum, options.policy.cohort_min);
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
  params.layout_hash = crypto::Sha256(learning::CanonicalLayout(spec.model));
  params.coordinator_id = options.coordinator;
  return params;
}

// Whether this device can train the task.
Status CheckDevice(const SessionOptions& options, const AcceptedTask& task) {
  CHORUS_TRY(learning::CheckExamples(task.spec.model, *options.examples));
  const uint64_t bytes = RoundBytes(task, *options.examples);
  if (bytes > options.options->memory_bytes_max)
    return ResourceExhausted("training this task needs " + std::to_string(bytes >> 20U) +
                             " MiB of memory; this game allows " +
                             std::to_string(options.options->memory_bytes_max >> 20U) + " MiB");
  return OkStatus();
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
  CHORUS_TRY(learning::ValidateModel(spec.model));
  CHORUS_TRY(learning::ValidateTraining(spec.training));
  accepted.hash = crypto::Sha256(task);
  const Digest name_hash = crypto::Sha256(ViewOf(spec.name));
  std::copy_n(name_hash.begin(), accepted.id.size(), accepted.id.begin());
  CHORUS_TRY_ASSIGN(accepted.encoding,
                    math::FixedPointFor(learning::ParameterCount(spec.model), spec.clip,
                                        spec.encoding, spec.cohort.maximum));
  if (spec.protocol == Protocol::kOneShot) {
    CHORUS_TRY_ASSIGN(accepted.committee, aggregation::CommitteeOf(spec.one_shot));
  }
  CHORUS_TRY(options.role == Role::kCommitteeMember ? CheckMembership(*options.options, spec)
                                                    : CheckDevice(options, accepted));
  return accepted;
}

uint64_t QuestionBytesMax(const SessionOptions& options) {
  if (options.role == Role::kClient) return limits::kQuestionBytesMax;
  return std::min<uint64_t>(limits::kPullBytesMax, options.options->memory_bytes_max);
}

uint64_t RoundBytes(const AcceptedTask& task, const Examples& examples) {
  const TaskSpec& spec = task.spec;
  // The model, what it becomes and a gradient; the vector, and its packed form in a growing answer.
  const uint64_t word_bytes = static_cast<uint64_t>(math::WordBytesFor(task.encoding.bits));
  const uint64_t vectors =
      task.encoding.dim * 3 * sizeof(float) + task.encoding.vector_dim() * 4 * word_bytes;
  // A batch's inputs, and each layer's outputs and their gradients.
  uint64_t units = spec.model.inputs;
  for (const LayerSpec& layer : spec.model.layers) units += 2 * uint64_t{layer.units};
  const uint64_t batch =
      std::min<uint64_t>(std::max(spec.training.batch_size, kEvaluationBatch), examples.count());
  // The examples, and their copy in two parts.
  return vectors + batch * units * sizeof(float) + 2 * ExamplesBytes(examples);
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
    : options_(options), task_(std::move(task)), number_(number) {}

Round::~Round() {
  if (prepared_ != nullptr) math::WipeVector(prepared_->input);
}

Status Round::Permit(const Model& model) {
  if (!AllFinite(model.weights)) return DataLoss("the model holds numbers that are not finite");
  model_hash_ = aggregation::ModelHash(learning::CanonicalModel(task_.spec.model), model.weights);
  return options_.ledger->PermitUpload(task_.id, number_, model_hash_,
                                       options_.options->policy.uploads_per_model_max);
}

Status Round::Train(const Model& model) {
  CHORUS_TRY_ASSIGN(RingVector input, TrainAndEncode(model));
  prepared_ = std::make_unique<aggregation::ContributorOptions>();
  aggregation::ContributorOptions& contributor = *prepared_;
  contributor.input = std::move(input);
  contributor.coordinator = options_.options->coordinator;
  contributor.expected = ExpectedParams(*options_.options, task_, number_, model_hash_);
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
  member.expected = ExpectedParams(*options_.options, task_, number_, Digest{});
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

Result<RingVector> Round::TrainAndEncode(const Model& model) const {
  const TaskSpec& spec = task_.spec;
  const std::unique_ptr<Rng> held_back = DrawsFor(options_, "held-back", 0);
  const std::unique_ptr<Rng> order = DrawsFor(options_, "order", number_);
  const std::unique_ptr<Rng> rounding = DrawsFor(options_, "rounding", number_);
  const learning::Split split =
      learning::HoldBack(*options_.examples, spec.training.held_back_percent, *held_back);

  learning::Evaluation evaluation;
  if (split.held_back.count() > 0) {
    CHORUS_TRY_ASSIGN(evaluation, learning::Evaluate(spec.model, split.held_back, model.weights,
                                                     *options_.cancel));
  }
  PrivateWeights update(model.weights);
  CHORUS_TRY(learning::Train(spec.model, spec.training, split.train, update.values, *order,
                             *options_.cancel));
  for (size_t i = 0; i < update.values.size(); ++i) update.values[i] -= model.weights[i];
  if (!std::isfinite(privacy::ClipToNorm(update.values, spec.clip.update_l2_norm_max)))
    return Aborted("training diverged; the task's learning rate is too high for this device");
  // Written so that a loss that is not a number counts as the largest.
  const double loss = evaluation.loss <= math::kLossMax ? evaluation.loss : math::kLossMax;
  return math::Encode(task_.encoding,
                      {.update = update.values,
                       .examples = split.train.count(),
                       .evaluated = evaluation.count,
                       .accuracy = evaluation.accuracy,
                       .loss = std::max(loss, 0.0)},
                      *rounding);
}

// A committee member gives nothing of its own away, and has no ledger.
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
  evidence_kept_ =
      KeepEvidence(options_.options->state_dir, {.unix_seconds = options_.clock->UnixSeconds(),
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
  if (const Status noted = NoteUpload(); !noted.ok()) {
    refused_by_ledger_ = true;
    contributor_.reset();
    return noted;
  }
  return kept;
}

}  // namespace chorus::client
