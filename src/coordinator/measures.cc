#include "coordinator/measures.h"

#include <algorithm>

#include "coordinator/process_figures.h"

namespace chorus::coordinator {
namespace {

// A call takes some tens of microseconds, and a parked one limits::kPollParked.
constexpr double kCallBounds[] = {1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05,
                                  0.1,  0.25,   0.5,  1,    2.5,    5,    10,   20,    30};
constexpr double kTransactionBounds[] = {1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025,
                                         0.05, 0.1,    0.25, 0.5,  1,      2.5,  5,    10};
constexpr double kRoundBounds[] = {0.1, 0.25, 0.5, 1,   2.5,   5,     10,    30,
                                   60,  120,  300, 600, 1'800, 3'600, 14'400};

double Number(uint64_t count) { return static_cast<double>(count); }

std::string_view ResultOf(RoundState state) {
  return state == RoundState::kCommitted ? "committed" : "aborted";
}

void WriteGauge(MetricFamily family, double value, std::string& page) {
  family.kind = MetricKind::kGauge;
  MetricSeries gauge(family);
  gauge.Set({}, value);
  gauge.Write(page);
}

void WriteTasks(const std::vector<wire::StatusReply>& tasks, std::string& page) {
  MetricSeries rounds({"chorus_task_rounds", "Rounds of the task, over all its processes so far.",
                       MetricKind::kGauge});
  MetricSeries clients(
      {"chorus_clients_checked_in", "Clients with an open session.", MetricKind::kGauge});
  MetricSeries members({"chorus_committee_members",
                        "Members of the committee, by whether they called lately.",
                        MetricKind::kGauge});
  MetricSeries step({"chorus_step_parties",
                     "Parties of the step that is open, by whether they answered; none between "
                     "rounds.",
                     MetricKind::kGauge});
  for (const wire::StatusReply& status : tasks) {
    const std::string_view task = status.task;
    rounds.Set({{"task", task}, {"state", "wanted"}}, status.rounds_wanted);
    rounds.Set({{"task", task}, {"state", "begun"}}, Number(status.rounds_begun));
    rounds.Set({{"task", task}, {"state", "committed"}}, Number(status.rounds_committed));
    clients.Set({{"task", task}}, status.clients);
    if (!status.committee.empty()) {
      const auto present = static_cast<double>(
          std::count_if(status.committee.begin(), status.committee.end(),
                        [](const wire::CommitteeMember& member) { return member.checked_in; }));
      members.Set({{"task", task}, {"state", "present"}}, present);
      members.Set({{"task", task}, {"state", "absent"}}, Number(status.committee.size()) - present);
    }
    if (!status.in_flight) continue;
    const uint32_t answered = std::min(status.in_flight->answered, status.in_flight->asked);
    step.Set({{"task", task}, {"state", "answered"}}, answered);
    step.Set({{"task", task}, {"state", "awaited"}}, status.in_flight->asked - answered);
  }
  for (const MetricSeries* series : {&rounds, &clients, &members, &step}) series->Write(page);
}

// Under the names that every Prometheus client library gives them.
void WriteProcess(std::string& page) {
  const ProcessFigures figures = ReadProcessFigures();
  MetricSeries cpu({"process_cpu_seconds_total", "Processor time used, of user and system."});
  cpu.Add({}, figures.cpu_seconds);
  cpu.Write(page);
  WriteGauge({"process_resident_memory_bytes", "Resident memory."}, Number(figures.resident_bytes),
             page);
  WriteGauge({"process_open_fds", "Open file descriptors."}, Number(figures.open_files), page);
  WriteGauge({"process_max_fds", "How many file descriptors may be open."},
             Number(figures.open_files_max), page);
  WriteGauge({"process_threads", "Threads."}, Number(figures.threads), page);
  WriteGauge({"process_start_time_seconds", "When the process started, in Unix time."},
             figures.started_unix_seconds, page);
}

}  // namespace

Measures::Measures()
    : round_seconds_({"chorus_round_duration_seconds",
                      "Time from a round's first invitation to its end, by result.",
                      MetricKind::kHistogram, kRoundBounds}),
      call_seconds_({"chorus_call_duration_seconds",
                     "Time from a call's arrival to its answer, what it waited included.",
                     MetricKind::kHistogram, kCallBounds}),
      transaction_seconds_({"chorus_store_transaction_duration_seconds",
                            "Time that the store's transactions took, by name and result.",
                            MetricKind::kHistogram, kTransactionBounds}) {}

void Measures::Count(const CoordinatorEvent& event, std::string_view task,
                     const std::vector<std::string>& steps) {
  const std::lock_guard lock(mutex_);
  if (event.kind == CoordinatorEvent::Kind::kRoundBegan) rounds_begun_.Add({{"task", task}}, 1);
  if (event.kind == CoordinatorEvent::Kind::kRoundEnded) CountRound(event.round, task, steps);
  if (event.kind == CoordinatorEvent::Kind::kTrouble) {
    troubles_.Add({{"task", task}, {"code", CodeName(event.trouble.code())}}, 1);
  }
}

void Measures::CountRound(const RoundReport& report, std::string_view task,
                          const std::vector<std::string>& steps) {
  const std::string_view result = ResultOf(report.state);
  rounds_.Add({{"task", task}, {"result", result}}, 1);
  round_seconds_.Observe({{"task", task}, {"result", result}}, Number(report.duration_ms) / 1e3);
  invited_.Add({{"task", task}}, report.invited);
  refused_.Add({{"task", task}}, report.refused);
  payload_.Add({{"task", task}, {"direction", "up"}}, Number(report.bytes_up));
  payload_.Add({{"task", task}, {"direction", "down"}}, Number(report.bytes_down));
  for (size_t i = 0; i < report.dropouts.size(); ++i) {
    const std::string_view step = i < steps.size() ? std::string_view(steps[i]) : "later";
    dropouts_.Add({{"task", task}, {"step", step}}, report.dropouts[i]);
  }
  if (report.state != RoundState::kCommitted) return;
  contributions_.Add({{"task", task}}, report.contributors);
  examples_.Add({{"task", task}}, Number(report.examples));
  if (report.evaluated == 0) return;
  accuracy_.Set({{"task", task}}, report.accuracy);
  loss_.Set({{"task", task}}, report.loss);
}

void Measures::Count(const AnsweredCall& call) {
  const std::lock_guard lock(mutex_);
  call_seconds_.Observe({{"method", call.method}, {"code", CodeName(call.code)}}, call.seconds);
  call_bytes_.Add({{"method", call.method}, {"direction", "up"}}, Number(call.request_bytes));
  call_bytes_.Add({{"method", call.method}, {"direction", "down"}}, Number(call.reply_bytes));
}

void Measures::Count(const RanTransaction& transaction) {
  const std::lock_guard lock(mutex_);
  transaction_seconds_.Observe({{"name", transaction.name}, {"code", CodeName(transaction.code)}},
                               transaction.seconds);
  retries_.Add({{"name", transaction.name}}, transaction.runs > 1 ? transaction.runs - 1 : 0);
}

std::string Measures::Page(const Levels& levels) const {
  std::string page;
  MetricSeries build({"chorus_build_info", "The version that runs.", MetricKind::kGauge});
  build.Set({{"version", CHORUS_VERSION}}, 1);
  build.Write(page);
  {
    const std::lock_guard lock(mutex_);
    for (const MetricSeries* series :
         {&rounds_begun_, &rounds_, &round_seconds_, &invited_, &refused_, &contributions_,
          &dropouts_, &examples_, &payload_, &accuracy_, &loss_, &troubles_, &call_seconds_,
          &call_bytes_, &transaction_seconds_, &retries_}) {
      series->Write(page);
    }
  }
  WriteTasks(levels.tasks, page);
  WriteGauge({"chorus_requests_queued", "Requests that wait for the coordinator's thread."},
             Number(levels.requests_queued), page);
  WriteGauge({"chorus_requests_queued_bytes", "Bytes of these."},
             Number(levels.requests_queued_bytes), page);
  WriteGauge({"chorus_store_failing", "1 while the store fails, and no round can go on."},
             levels.store_failing ? 1 : 0, page);
  WriteProcess(page);
  return page;
}

}  // namespace chorus::coordinator
