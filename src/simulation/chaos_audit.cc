#include "simulation/chaos_audit.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <utility>

#include "base/limits.h"
#include "coordinator/task_state.h"

namespace chorus::simulation {
namespace {

// Of the mean; what one client's smallest part changes is far above: 1 / the sum of all weights.
constexpr double kRounding = 2e-6;
// Of the new coordinate, which a liar of an earlier round may have made large: a float's half unit
// in the last place, twice.
constexpr double kRelativeRounding = 0x1p-23;

std::string Round(uint64_t number) { return "round " + std::to_string(number); }
std::string Client(uint32_t number) { return "client " + std::to_string(number); }

bool SameReport(const RoundReport& a, const RoundReport& b) {
  return a.round == b.round && a.state == b.state && a.code == b.code && a.reason == b.reason &&
         a.model == b.model && a.result == b.result && a.invited == b.invited &&
         a.contributors == b.contributors && a.refused == b.refused && a.dropouts == b.dropouts &&
         a.bytes_up == b.bytes_up && a.bytes_down == b.bytes_down &&
         a.duration_ms == b.duration_ms && a.examples == b.examples && a.loss == b.loss &&
         a.accuracy == b.accuracy && a.evaluated == b.evaluated && a.cohorts == b.cohorts &&
         a.cohorts_committed == b.cohorts_committed && a.answers == b.answers;
}

// Whether the file of a ledger holds an upload of the round: src/client/ledger.cc says how.
bool HoldsUpload(BytesView ledger, const TaskId& task, uint64_t round) {
  constexpr size_t kHeaderBytes = 16;
  constexpr size_t kRecordBytes = 1 + 16 + 8 + 32 + 8 + 16;
  constexpr uint8_t kUpload = 2;
  for (size_t at = kHeaderBytes; at + kRecordBytes <= ledger.size(); at += kRecordBytes) {
    Reader reader(ledger.subspan(at, kRecordBytes));
    const uint8_t kind = reader.U8();
    const TaskId of = reader.Array<16>();
    if (kind == kUpload && of == task && reader.U64() == round) return true;
  }
  return false;
}

}  // namespace

Status Audit::Read(TaskRecord& record, std::vector<RoundReport>& rounds, Weights& weights) {
  const TaskId id = coordinator::TaskIdOf(from_.plan->task.name);
  return from_.store->RunTransaction("audit", [&](Transaction& transaction) -> Status {
    CHORUS_TRY_ASSIGN(const std::optional<TaskRecord> found, transaction.FindTask(id));
    if (!found) return NotFound("there is no task");
    record = *found;
    CHORUS_TRY_ASSIGN(rounds, transaction.Rounds(id, 1, limits::kStatusRoundsMax));
    CHORUS_TRY_ASSIGN(const Bytes model, transaction.GetModel(record.model));
    weights.resize(model.size() / sizeof(float));
    std::memcpy(weights.data(), model.data(), model.size());
    return OkStatus();
  });
}

void Audit::StoreChanged() {
  TaskRecord record;
  std::vector<RoundReport> rounds;
  Weights weights;
  if (const Status read = Read(record, rounds, weights); !read.ok()) {
    return Violated("the store cannot be read: " + read.message());
  }
  CheckHistory(record, rounds);
  const uint64_t before = rounds_committed();
  for (const RoundReport& report : rounds) {
    const auto known = rounds_.find(report.round);
    const bool was_open = known == rounds_.end() || known->second.state == RoundState::kOpen;
    rounds_[report.round] = report;
    if (!was_open || report.state == RoundState::kOpen) continue;
    if (report.state == RoundState::kAborted) ++aborted_;
    if (report.state == RoundState::kCommitted) CheckCommitted(report, record, weights);
  }
  if (record.rounds_committed == before && record_ && record.model != record_->model) {
    Violated("the model changed without a round");
  }
  record_ = std::move(record);
  weights_ = std::move(weights);
}

// The history only grows: what was settled stays as it is, and numbers are never given back.
void Audit::CheckHistory(const TaskRecord& record, const std::vector<RoundReport>& rounds) {
  std::map<uint64_t, const RoundReport*> now;
  uint64_t committed = 0;
  uint64_t open = 0;
  for (const RoundReport& report : rounds) {
    now[report.round] = &report;
    if (report.state == RoundState::kOpen) ++open;
    if (report.state == RoundState::kCommitted) ++committed;
    if (report.round > record.rounds_begun) Violated(Round(report.round) + " was never begun");
  }
  if (open > 1) Violated("two rounds are open at once: one of them will never end");
  for (const auto& [number, report] : rounds_) {
    const auto found = now.find(number);
    if (found == now.end()) {
      Violated(Round(number) + " is gone from the history");
    } else if (report.state != RoundState::kOpen && !SameReport(report, *found->second)) {
      Violated(Round(number) + " was settled and has changed");
    }
  }
  if (committed != record.rounds_committed) {
    Violated("the task counts " + std::to_string(record.rounds_committed) +
             " committed rounds, the history " + std::to_string(committed));
  }
  if (record_ && record.rounds_begun < record_->rounds_begun) {
    Violated("the number of rounds begun went back");
  }
}

// Who is in the sum, as its weights tell. Nothing, once it was said what is wrong.
std::optional<std::set<uint32_t>> Audit::NamedBy(const RoundReport& report) {
  std::set<uint32_t> named;
  uint64_t rest = report.examples;
  for (uint32_t client = 0; client < from_.plan->clients; ++client) {
    const uint64_t times = rest % kDigit;
    rest /= kDigit;
    if (times > 1) {
      Violated(Client(client) + " is in the sum of " + Round(report.round) + " " +
               std::to_string(times) + " times");
      return std::nullopt;
    }
    if (times == 1) named.insert(client);
  }
  if (rest != 0 || named.size() != report.contributors) {
    Violated(Round(report.round) + " says " + std::to_string(report.contributors) +
             " clients, and its weights another number: " + std::to_string(report.examples));
    return std::nullopt;
  }
  return named;
}

void Audit::CheckCommitted(const RoundReport& report, const TaskRecord& record,
                           const Weights& weights) {
  if (!record_) return Violated("a round was committed before its task was there");
  if (record.rounds_committed != record_->rounds_committed + 1) {
    Violated("one commit counts for more rounds than one");
  }
  if (report.model != record_->model) {
    Violated(Round(report.round) + " was trained on another model than the last");
  }
  if (report.result != record.model) {
    Violated(Round(report.round) + " names another result than the task's model");
  }
  Committed& committed = committed_[report.round];
  if (lied_in_.contains(report.round)) return;
  const std::optional<std::set<uint32_t>> named = NamedBy(report);
  if (!named) return;
  committed = {.clients = *named, .known = true};
  CheckSum(report, *named, weights);
  for (const uint32_t client : *named) CheckLedger(client, report.round);
}

// The new model is the old one and the weighted mean of what these clients, and no others, trained.
void Audit::CheckSum(const RoundReport& report, const std::set<uint32_t>& named,
                     const Weights& weights) {
  if (weights.size() != kChaosDim || weights_.size() != kChaosDim) {
    return Violated("the model has another size");
  }
  std::array<int64_t, kChaosDim> sum{};
  for (const uint32_t client : named) {
    const auto trained = trained_on_.find({client, report.round});
    if (trained == trained_on_.end()) {
      Violated(Client(client) + " is in " + Round(report.round) + " and never trained in it");
    } else if (trained->second != weights_) {
      Violated(Client(client) + " trained on another model than " + Round(report.round) + "'s");
    }
    const std::array<int, kChaosDim> update = UpdateOf(client, report.round);
    for (size_t i = 0; i < kChaosDim; ++i) {
      sum[i] += static_cast<int64_t>(ExamplesOf(client)) * update[i];
    }
  }
  for (size_t i = 0; i < kChaosDim; ++i) {
    const double mean = static_cast<double>(sum[i]) / static_cast<double>(report.examples);
    const double expected = static_cast<double>(weights_[i]) + mean;
    const double rounding = kRounding + kRelativeRounding * std::abs(expected);
    if (std::abs(static_cast<double>(weights[i]) - expected) > rounding) {
      return Violated("the sum of " + Round(report.round) + " is not that of its clients");
    }
  }
}

void Audit::CheckLedger(uint32_t client, uint64_t round) {
  const std::optional<Bytes> ledger = from_.durable_ledger(client);
  const TaskId id = coordinator::TaskIdOf(from_.plan->task.name);
  if (!ledger || !HoldsUpload(*ledger, id, round)) {
    Violated(Client(client) + " is in " + Round(round) +
             ", and its ledger on disk does not say so");
  }
}

void Audit::Heard(const CoordinatorEvent& event) {
  const RoundReport& report = event.round;
  if (event.kind == CoordinatorEvent::Kind::kRoundBegan) {
    // Several coordinators take part in one round, each with cohorts of its own.
    const bool again = from_.plan->coordinators == 1 && report.round <= last_begun_;
    if (again) Violated(Round(report.round) + " was begun twice");
    last_begun_ = std::max(last_begun_, report.round);
    if (!rounds_.contains(report.round))
      Violated(Round(report.round) + " began before it was noted");
  }
  if (event.kind == CoordinatorEvent::Kind::kRoundEnded) {
    const auto found = rounds_.find(report.round);
    if (found == rounds_.end() || found->second.state != report.state) {
      Violated(Round(report.round) + " ended before it was durable");
    }
  }
}

void Audit::Heard(uint32_t client, const ClientEvent& event) {
  const std::pair<uint32_t, uint64_t> key{client, event.round};
  if (event.kind == ClientEvent::Kind::kEquivocation) {
    Violated(Client(client) + " holds evidence against an honest coordinator");
  }
  if (event.kind == ClientEvent::Kind::kRoundLost && told_counted_.contains(key)) {
    Violated(Client(client) + " lost " + Round(event.round) + ", in which it was counted");
  }
  // A committee's members are told as well, and are in no sum.
  if (event.kind != ClientEvent::Kind::kContributed || client >= from_.plan->clients) return;
  if (!told_counted_.insert(key).second) {
    Violated(Client(client) + " was counted twice in " + Round(event.round));
  }
  const auto found = committed_.find(event.round);
  if (found == committed_.end()) {
    Violated(Client(client) + " was told that it counts in " + Round(event.round) +
             ", which is not durable");
  } else if (found->second.known && !found->second.clients.contains(client)) {
    Violated(Client(client) + " was told that it counts in " + Round(event.round) +
             ", and is not in its sum");
  }
}

void Audit::Trained(uint32_t client, uint64_t round, std::span<const float> weights) {
  trained_on_[{client, round}] = Weights(weights.begin(), weights.end());
}

}  // namespace chorus::simulation
