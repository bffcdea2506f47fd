#include "simulation/devices.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <optional>
#include <string_view>
#include <utility>

#include "base/clock.h"
#include "base/codec.h"
#include "client/ledger.h"
#include "crypto/crypto.h"
#include "learning/learning.h"
#include "simulation/rows.h"

namespace chorus::simulation {
namespace {

constexpr size_t kEvidenceBytes = 4;
// Clients whose accuracy one thread measures at a stretch.
constexpr size_t kMeasuredTogether = 64;

// Of virtual clients, which are asked once about each round by construction and keep no promise to
// a player.
class OpenLedger final : public client::Ledger {
 public:
  Status PermitAttempt(const TaskId&, uint64_t, int64_t) const override { return OkStatus(); }
  Status NoteAttempt(const TaskId&, uint64_t, int64_t) override { return OkStatus(); }
  Status PermitUpload(const TaskId&, uint64_t, const Digest&, uint32_t) const override {
    return OkStatus();
  }
  Status NoteUpload(const TaskId&, uint64_t, const Digest&, uint32_t) override {
    return OkStatus();
  }
};

class SilentLog final : public LogSink {
 public:
  void Write(LogLevel, std::string_view, std::span<const LogField>) override {}
};

class FleetVerifier final : public IdentityVerifier {
 public:
  Result<Identity> Verify(const PublicKey&, BytesView evidence) const override {
    Reader in(evidence);
    const Identity identity{.serial = in.U32()};
    if (in.failed() || in.left() > 0) return Unauthenticated("no evidence of a virtual client");
    return identity;
  }
};

// A virtual client accepts whatever the task says: it has no player to protect.
Policy OpenPolicy() {
  Policy policy;
  policy.allow_plain = true;
  policy.allow_honest_but_curious = true;
  policy.allow_experimental = true;
  policy.allow_any_committee = true;
  policy.cohort_min = 1;
  policy.allow_analytics = true;
  policy.analytics_cohort_min = 1;
  policy.honest_min = 0;
  policy.update_l2_norm_max = std::numeric_limits<float>::infinity();
  policy.uploads_per_model_max = 0;
  return policy;
}

Bytes Number(uint64_t value) { return std::move(Writer().U64(value)).Take(); }

}  // namespace

SecretBytes IdentitySeedOf(uint64_t seed, uint32_t client) {
  const Digest digest =
      crypto::LabeledHash("CHORUS1/simulation-identity", {Number(seed), Number(client)});
  return SecretBytes(Bytes(digest.begin(), digest.end()));
}

std::unique_ptr<IdentityVerifier> NewFleetVerifier() { return std::make_unique<FleetVerifier>(); }

Bytes EvidenceOf(uint32_t client) { return std::move(Writer(kEvidenceBytes).U32(client)).Take(); }

Devices::Devices(DevicesOptions options)
    : options_(std::move(options)),
      verifier_(NewFleetVerifier()),
      log_(std::make_unique<SilentLog>()),
      ledger_(std::make_unique<OpenLedger>()) {}

Result<std::unique_ptr<Devices>> Devices::Create(DevicesOptions options) {
  std::unique_ptr<Devices> devices(new Devices(std::move(options)));
  const std::unique_ptr<Active> any = devices->NewActive();
  Scratch scratch;
  client::SessionOptions session = devices->SessionOf(*any, 0, scratch);
  // Of everybody at once: whatever rows a client has, they fit too.
  session.examples = devices->options_.population->train;
  const std::unique_ptr<client::DeviceState> state = client::DeviceState::InMemory();
  session.state = state.get();
  CHORUS_TRY_ASSIGN(
      client::AcceptedTask task,
      client::AcceptTask(session, devices->options_.task, devices->options_.task_signature));
  devices->keeps_records_ = client::KeepsRecord(task.spec);
  devices->task_ = std::make_unique<const client::AcceptedTask>(std::move(task));
  return devices;
}

// Plain neither signs nor draws, so that there one identity and one random source would do for all.
std::unique_ptr<Devices::Active> Devices::NewActive() const {
  auto active = std::make_unique<Active>();
  active->options.coordinator = options_.coordinator;
  active->options.policy = OpenPolicy();
  active->options.memory_bytes_max = std::numeric_limits<size_t>::max();
  active->options.identity_seed = IdentitySeedOf(options_.simulation->seed, 0);
  active->rng = crypto::NewSeededRng(active->options.identity_seed.Reveal());
  return active;
}

std::unique_ptr<Devices::Scratch> Devices::TakeScratch() {
  const std::lock_guard lock(mutex_);
  if (idle_.empty()) return std::make_unique<Scratch>();
  std::unique_ptr<Scratch> scratch = std::move(idle_.back());
  idle_.pop_back();
  return scratch;
}

void Devices::GiveBack(std::unique_ptr<Scratch> scratch) {
  const std::lock_guard lock(mutex_);
  idle_.push_back(std::move(scratch));
}

client::SessionOptions Devices::SessionOf(const Active& active, uint32_t client, Scratch& scratch) {
  client::SessionOptions session;
  session.options = &active.options;
  session.buffers = &scratch.buffers;
  session.verifier = verifier_.get();
  session.clock = &clock_;
  session.rng = active.rng.get();
  session.log = log_.get();
  session.ledger = ledger_.get();
  session.cancel = options_.cancel;
  session.experiment = client::ExperimentSeed{std::to_string(options_.simulation->seed) +
                                              "/client-" + std::to_string(client)};
  session.known_offers = &known_offers_;
  return session;
}

client::DeviceState* Devices::StateOf(uint32_t client) {
  if (!keeps_records_) return nullptr;
  const std::lock_guard lock(mutex_);
  std::unique_ptr<client::DeviceState>& state = states_[client];
  if (state == nullptr) state = client::DeviceState::InMemory();
  return state.get();
}

void Devices::BeginRound(uint64_t round, Weights published, const Digest& hash) {
  client::Model& model = models_[round];
  model.weights = std::move(published);
  model.model_hash = hash;
}

Result<std::vector<ClientAccuracy>> Devices::Measure(std::span<const float> weights,
                                                     const Part& part) {
  const size_t clients = options_.population->train_of.size();
  std::vector<ClientAccuracy> measured(
      part.index < clients ? (clients - part.index + part.count - 1) / part.count : 0);
  std::vector<Status> statuses(measured.size());
  const size_t pieces = (measured.size() + kMeasuredTogether - 1) / kMeasuredTogether;
  options_.executor->ParallelFor(pieces, [&](size_t piece) {
    std::unique_ptr<Scratch> scratch = TakeScratch();
    const size_t end = std::min(measured.size(), (piece + 1) * kMeasuredTogether);
    for (size_t i = piece * kMeasuredTogether; i < end; ++i) {
      measured[i].client = static_cast<uint32_t>(part.index + i * part.count);
      statuses[i] = MeasureOne(weights, *scratch, measured[i]);
    }
    GiveBack(std::move(scratch));
  });
  if (options_.cancel->requested()) return Cancelled("the simulation was cancelled");
  for (size_t i = 0; i < measured.size(); ++i) {
    if (statuses[i].ok()) continue;
    if (statuses[i].code() != Code::kAborted) return statuses[i];
    // A model that has diverged is right about nothing.
    measured[i].accuracy = 0;
  }
  return measured;
}

Status Devices::MeasureOne(std::span<const float> weights, Scratch& scratch,
                           ClientAccuracy& measured) {
  const Population& population = *options_.population;
  const bool own_test = !population.test_of.empty() && population.test != nullptr &&
                        population.test_of[measured.client].count > 0;
  const Rows& rows =
      own_test ? population.test_of[measured.client] : population.train_of[measured.client];
  const Examples& examples = own_test ? *population.test : *population.train;
  measured.examples = rows.count;
  const TaskSpec& spec = task_->spec;
  client::TrainingBuffers& buffers = scratch.buffers;
  if (buffers.learner == nullptr) {
    CHORUS_TRY_ASSIGN(buffers.learner, learning::Learner::Create(spec.model, spec.training));
  }
  std::vector<size_t> all(rows.count);
  std::iota(all.begin(), all.end(), size_t{rows.begin});
  if (keeps_records_) {
    // With the layers that are its own.
    buffers.weights.Reset(weights);
    CHORUS_TRY_ASSIGN(const std::optional<client::DeviceRecord> record,
                      StateOf(measured.client)->Find(client::RecordKeyOf(task_->id, spec)));
    if (record.has_value()) client::PutPersonal(spec, *record, buffers.weights.Mutable());
    weights = buffers.weights.get();
  }
  CHORUS_TRY_ASSIGN(const learning::Evaluation evaluation,
                    buffers.learner->Evaluate(examples, all, weights, *options_.cancel));
  measured.accuracy = evaluation.accuracy;
  measured.loss = evaluation.loss;
  return OkStatus();
}

void Devices::EndRound(uint64_t round) {
  models_.erase(round);
  std::erase_if(active_, [round](const auto& entry) { return entry.second->number == round; });
}

// Training finds a client's rows among everybody's; queries are asked about all that there is.
void Devices::GiveExamples(uint32_t client, client::SessionOptions& session,
                           Scratch& scratch) const {
  const Population& population = *options_.population;
  const Rows& rows = population.train_of[client];
  if (task_->spec.queries.empty()) {
    session.examples = population.train;
    session.rows = client::ExampleRows{.begin = rows.begin, .count = rows.count};
  } else {
    CopyRows(*population.train, rows, scratch.examples);
    session.examples = &scratch.examples;
  }
}

Status Devices::Train(Active& active, const Job& job, Scratch& scratch) {
  if (!one_step()) {
    const uint64_t seed = options_.simulation->seed;
    active.options.identity_seed = IdentitySeedOf(seed, job.client);
    active.options.certificate = EvidenceOf(job.client);
    active.rng = crypto::NewSeededRng(crypto::LabeledHash(
        "CHORUS1/simulation-keys", {Number(seed), Number(job.client), Number(job.round)}));
  }
  const auto model = models_.find(job.round);
  if (model == models_.end()) return FailedPrecondition("the round has not begun here");
  client::SessionOptions session = SessionOf(active, job.client, scratch);
  GiveExamples(job.client, session, scratch);
  session.state = StateOf(job.client);
  active.number = job.round;
  active.round = std::make_unique<client::Round>(session, task_.get(), job.round);
  CHORUS_TRY(active.round->Permit(model->second));
  return active.round->Train(model->second);
}

Result<SecretBytes> Devices::Perform(Active& active, const Job& job) {
  if (!job.trains && !one_step()) {
    if (active.round == nullptr) return FailedPrecondition("this client has not trained");
    return active.round->Answer(job.question);
  }
  std::unique_ptr<Scratch> scratch = TakeScratch();
  const Status trained = Train(active, job, *scratch);
  // Once it has trained, and under plain answered, the round looks at its contribution alone.
  Result<SecretBytes> answer = !trained.ok() ? Result<SecretBytes>(trained)
                               : job.trains  ? SecretBytes(Bytes(active.round->ready()))
                                             : active.round->Answer(job.question);
  GiveBack(std::move(scratch));
  return answer;
}

std::vector<Done> Devices::Do(std::span<const Job> jobs, Time now) {
  clock_.Set(now);
  std::vector<Done> done(jobs.size());
  // A client in several steps keeps its place from its training on.
  std::vector<Active*> places(jobs.size());
  for (size_t i = 0; i < jobs.size() && !one_step(); ++i) {
    if (jobs[i].trains) active_[jobs[i].client] = NewActive();
    const auto found = active_.find(jobs[i].client);
    if (found != active_.end()) places[i] = found->second.get();
  }
  options_.executor->ParallelFor(jobs.size(), [&](size_t i) {
    const double start = ThreadCpuSeconds();
    const std::unique_ptr<Active> passing = one_step() ? NewActive() : nullptr;
    Active* const active = one_step() ? passing.get() : places[i];
    Result<SecretBytes> answer = active == nullptr
                                     ? FailedPrecondition("this client is not in the round")
                                     : Perform(*active, jobs[i]);
    done[i].status = answer.status();
    if (answer.ok()) done[i].answer = *std::move(answer);
    done[i].cpu_seconds = ThreadCpuSeconds() - start;
  });
  return done;
}

}  // namespace chorus::simulation
