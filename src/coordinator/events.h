// What a coordinator has to tell its host, in order and within a bound. Each is a line of the log
// as well.
#pragma once

#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "chorus/coordinator.h"
#include "chorus/host.h"
#include "chorus/status.h"
#include "coordinator/round.h"

namespace chorus::coordinator {

// Thread-compatible.
class Events {
 public:
  Events(std::string task, LogSink& log) : task_(std::move(task)), log_(log) {}

  void RoundBegan(const RoundReport& report, const RoundTempo& tempo);
  void StepClosed(const ClosedStep& step, const RoundReport& report);
  void RoundEnded(const RoundReport& report);
  void TaskChanged(TaskMode mode);
  void TaskComplete(const RoundReport& report);
  // Told once while it lasts, so that an hour of a full disk does not push out other events.
  void Trouble(const Status& status);
  void TroubleHasPassed() { trouble_ = OkStatus(); }

  std::vector<CoordinatorEvent> Take();

 private:
  void Add(CoordinatorEvent event);

  const std::string task_;
  LogSink& log_;
  Status trouble_;  // the last one told, until it has passed
  std::deque<CoordinatorEvent> events_;
};

}  // namespace chorus::coordinator
