// What a coordinator counts of itself while it works, as a page of metrics. docs/operating.md lists
// them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "chorus/coordinator.h"
#include "chorus/status.h"
#include "coordinator/metrics.h"
#include "wire/wire.h"

namespace chorus::coordinator {

// One call that was answered.
struct AnsweredCall {
  std::string_view method;
  Code code = Code::kOk;
  double seconds = 0;  // from its last byte to its answer, what it waited included
  size_t request_bytes = 0;
  size_t reply_bytes = 0;
};

// One run of Store::RunTransaction.
struct RanTransaction {
  std::string_view name;
  Code code = Code::kOk;
  double seconds = 0;
  uint32_t runs = 1;  // of its function: more than one after a conflict
};

// How things are, where nothing counts.
struct Levels {
  std::vector<wire::StatusReply> tasks;  // of which rounds are not looked at; none: not known
  size_t requests_queued = 0;
  size_t requests_queued_bytes = 0;
  bool store_failing = false;
};

// Thread-safe.
class Measures {
 public:
  Measures();

  void Count(const CoordinatorEvent& event, std::string_view task,
             const std::vector<std::string>& steps);  // names for RoundReport::dropouts
  void Count(const AnsweredCall& call);
  void Count(const RanTransaction& transaction);
  // All of it, the process's own figures among them, in Prometheus's text format 0.0.4.
  std::string Page(const Levels& levels) const;

 private:
  void CountRound(const RoundReport& report, std::string_view task,
                  const std::vector<std::string>& steps);

  mutable std::mutex mutex_;
  MetricSeries rounds_begun_{{"chorus_rounds_begun_total", "Rounds that began."}};
  MetricSeries rounds_{{"chorus_rounds_total", "Rounds that ended, by result."}};
  MetricSeries round_seconds_;
  MetricSeries invited_{{"chorus_clients_invited_total", "Clients invited to a round that ended."}};
  MetricSeries refused_{{"chorus_clients_refused_total",
                         "Invited clients that declined, by their policy or ledger."}};
  MetricSeries contributions_{{"chorus_contributions_total", "Updates in committed sums."}};
  MetricSeries dropouts_{
      {"chorus_dropouts_total", "Parties that a step asked and that did not answer it in time."}};
  MetricSeries examples_{{"chorus_examples_total", "Examples behind committed sums."}};
  MetricSeries payload_{{"chorus_payload_bytes_total",
                         "Bytes of models, questions and answers in rounds that ended."}};
  MetricSeries accuracy_{
      {"chorus_model_accuracy_ratio",
       "Fraction right by the clients' evaluation in the last round that had one, of the model "
       "before it.",
       MetricKind::kGauge}};
  MetricSeries loss_{
      {"chorus_model_loss_ratio", "Mean loss of the same evaluation.", MetricKind::kGauge}};
  MetricSeries troubles_{{"chorus_troubles_total", "Troubles that kept rounds from going on."}};
  MetricSeries call_seconds_;
  MetricSeries call_bytes_{
      {"chorus_call_bytes_total", "Bytes of calls' requests and replies, before encryption."}};
  MetricSeries transaction_seconds_;
  MetricSeries retries_{{"chorus_store_transaction_retries_total",
                         "Times that a transaction ran again after a conflict."}};
};

}  // namespace chorus::coordinator
