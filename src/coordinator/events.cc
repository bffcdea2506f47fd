#include "coordinator/events.h"

#include <iterator>
#include <string>
#include <utility>

#include "base/limits.h"
#include "base/log.h"

namespace chorus::coordinator {
namespace {

CoordinatorEvent EventOf(CoordinatorEvent::Kind kind, const RoundReport& report) {
  CoordinatorEvent event;
  event.kind = kind;
  event.round = report;
  return event;
}

}  // namespace

void Events::RoundBegan(const RoundReport& report, const RoundTempo& tempo) {
  Log(log_, LogLevel::kInfo, "round began",
      {{"round", report.round},
       {"invited", report.invited},
       {"cohorts", report.cohorts},
       {"expected", tempo.expected},
       {"train_ms", tempo.deadlines_ms.empty() ? 0 : tempo.deadlines_ms.front()},
       {"patient", static_cast<uint32_t>(tempo.patient)}});
  CoordinatorEvent event = EventOf(CoordinatorEvent::Kind::kRoundBegan, report);
  event.tempo = tempo;
  Add(std::move(event));
}

void Events::StepClosed(const ClosedStep& step, const RoundReport& report) {
  Log(log_, LogLevel::kInfo, "step closed",
      {{"round", report.round},
       {"cohort", step.cohort},
       {"answered", step.answered},
       {"asked", step.asked}});
  CoordinatorEvent event = EventOf(CoordinatorEvent::Kind::kStepClosed, report);
  event.step = step.name;
  event.cohort = step.cohort;
  event.answered = step.answered;
  event.asked = step.asked;
  Add(std::move(event));
}

void Events::RoundEnded(const RoundReport& report) {
  Log(log_, LogLevel::kInfo, "round ended",
      {{"round", report.round},
       {"code", static_cast<int32_t>(report.code)},
       {"contributors", report.contributors},
       {"cohorts", report.cohorts_committed}});
  Add(EventOf(CoordinatorEvent::Kind::kRoundEnded, report));
}

void Events::TaskChanged(TaskMode mode) {
  Log(log_, LogLevel::kInfo, "task changed", {{"mode", static_cast<int64_t>(mode)}});
  CoordinatorEvent event = EventOf(CoordinatorEvent::Kind::kTaskChanged, {});
  event.mode = mode;
  Add(std::move(event));
}

void Events::TaskComplete(const RoundReport& report) {
  Log(log_, LogLevel::kInfo, "task complete", {{"round", report.round}});
  Add(EventOf(CoordinatorEvent::Kind::kTaskComplete, report));
}

void Events::Trouble(const Status& status) {
  if (trouble_.code() == status.code() && trouble_.message() == status.message()) return;
  trouble_ = status;
  Log(log_, LogLevel::kWarn, "no round can go on; trying again",
      {{"code", static_cast<int32_t>(status.code())}});
  CoordinatorEvent event = EventOf(CoordinatorEvent::Kind::kTrouble, {});
  event.trouble = status;
  Add(std::move(event));
}

void Events::Add(CoordinatorEvent event) {
  if (events_.size() >= limits::kEventsMax) events_.pop_front();
  event.task = task_;
  events_.push_back(std::move(event));
}

std::vector<CoordinatorEvent> Events::Take() {
  std::vector<CoordinatorEvent> taken(std::make_move_iterator(events_.begin()),
                                      std::make_move_iterator(events_.end()));
  events_.clear();
  return taken;
}

}  // namespace chorus::coordinator
