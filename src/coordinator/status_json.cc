#include "coordinator/status_json.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "coordinator/funnel.h"
#include "coordinator/metrics.h"

namespace chorus::coordinator {
namespace {

// Writes an object or a list member by member. `name` is a word of ours.
class JsonWriter {
 public:
  void Open(std::string_view name, char bracket) {
    Name(name);
    out_ += bracket;
    first_ = true;
  }
  void Close(char bracket) {
    out_ += bracket;
    first_ = false;
  }
  void Text(std::string_view name, std::string_view value) {
    Name(name);
    out_ += JsonString(value);
  }
  // JSON knows no infinity.
  void Number(std::string_view name, double value) {
    Name(name);
    out_ += std::isfinite(value) ? MetricNumber(value) : "null";
  }
  void Count(std::string_view name, uint64_t value) {
    Name(name);
    out_ += std::to_string(value);
  }
  void Truth(std::string_view name, bool value) {
    Name(name);
    out_ += value ? "true" : "false";
  }
  std::string Take() { return std::move(out_); }

 private:
  void Name(std::string_view name) {
    if (!first_) out_ += ',';
    first_ = false;
    if (!name.empty()) out_.append("\"").append(name).append("\":");
  }
  std::string out_;
  bool first_ = true;
};

std::string_view NameOf(RoundState state) {
  if (state == RoundState::kCommitted) return "committed";
  return state == RoundState::kAborted ? "aborted" : "open";
}

void WriteRound(const RoundReport& round, const Funnel& funnel, JsonWriter& json) {
  json.Count("round", round.round);
  json.Text("state", NameOf(round.state));
  json.Text("reason", round.reason);
  json.Count("invited", funnel.invited);
  json.Count("trained", funnel.trained);
  json.Count("uploaded", funnel.uploaded);
  json.Count("in_sum", funnel.in_sum);
  json.Count("refused", round.refused);
  json.Open("dropouts", '[');
  for (const uint32_t count : round.dropouts) json.Count("", count);
  json.Close(']');
  json.Count("bytes_up", round.bytes_up);
  json.Count("bytes_down", round.bytes_down);
  json.Count("duration_ms", round.duration_ms);
  json.Count("examples", round.examples);
  json.Count("evaluated", round.evaluated);
  json.Number("accuracy", round.accuracy);
  json.Number("loss", round.loss);
  json.Count("cohorts", round.cohorts);
  json.Count("cohorts_committed", round.cohorts_committed);
}

void WriteInFlight(const wire::StatusReply& status, JsonWriter& json) {
  if (!status.in_flight) return;
  const wire::RoundInFlight& now = *status.in_flight;
  json.Open("in_flight", '{');
  WriteRound(now.round, FunnelOf(now, status.steps), json);
  json.Count("running_ms", now.running_ms);
  json.Count("asked", now.asked);
  json.Count("answered", now.answered);
  json.Close('}');
}

void WriteTask(const wire::StatusReply& status, JsonWriter& json) {
  json.Open("", '{');
  json.Text("name", status.task);
  json.Count("rounds_wanted", status.rounds_wanted);
  json.Count("rounds_begun", status.rounds_begun);
  json.Count("rounds_committed", status.rounds_committed);
  json.Count("clients", status.clients);
  json.Text("step", status.step);
  const auto summary =
      std::find_if(status.tasks.begin(), status.tasks.end(),
                   [&](const wire::TaskStatus& one) { return one.name == status.task; });
  json.Count("priority", summary == status.tasks.end() ? 1 : summary->priority);
  json.Count("evidence", status.evidence.size());
  if (!status.committee.empty()) {
    const auto present =
        std::count_if(status.committee.begin(), status.committee.end(),
                      [](const wire::CommitteeMember& member) { return member.checked_in; });
    json.Open("committee", '{');
    json.Count("present", static_cast<uint64_t>(present));
    json.Count("members", status.committee.size());
    json.Close('}');
  }
  json.Open("steps", '[');
  for (const wire::StepInfo& step : status.steps) {
    json.Open("", '{');
    json.Text("name", step.name);
    json.Truth("of_clients", step.of_clients);
    json.Close('}');
  }
  json.Close(']');
  WriteInFlight(status, json);
  json.Open("rounds", '[');
  for (const RoundReport& round : status.rounds) {
    json.Open("", '{');
    WriteRound(round, FunnelOf(round, status.steps), json);
    json.Close('}');
  }
  json.Close(']');
  json.Close('}');
}

void WriteProcess(const ProcessFigures& process, JsonWriter& json) {
  json.Open("", '{');
  json.Text("name", "this process");
  json.Text("version", CHORUS_VERSION);
  json.Number("started_unix_seconds", process.started_unix_seconds);
  json.Number("cpu_seconds", process.cpu_seconds);
  json.Count("resident_bytes", process.resident_bytes);
  json.Count("resident_bytes_max", process.resident_bytes_max);
  json.Count("threads", process.threads);
  json.Count("open_files", process.open_files);
  json.Close('}');
}

// Those that serve from the same store, this one among them, with their cohorts of all tasks.
void WritePeers(const std::vector<wire::StatusReply>& tasks, JsonWriter& json) {
  std::map<std::string, wire::Process> peers;
  for (const wire::StatusReply& task : tasks) {
    for (const wire::Process& process : task.processes) {
      const auto [peer, is_new] = peers.try_emplace(process.name, process);
      if (!is_new) peer->second.cohorts += process.cohorts;
    }
  }
  json.Open("peers", '[');
  for (const auto& [name, peer] : peers) {
    json.Open("", '{');
    json.Text("name", name);
    json.Text("address", peer.address);
    json.Number("age_seconds", static_cast<double>(peer.age.count()) / 1e3);
    json.Count("cohorts", peer.cohorts);
    json.Close('}');
  }
  json.Close(']');
}

}  // namespace

std::string JsonString(std::string_view text) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20) {
      out.append("\\u00").append({kDigits[byte >> 4U], kDigits[byte & 15U]});
    } else {
      out += c;
    }
  }
  return out + "\"";
}

std::string StatusJson(const BoardStatus& board, const ProcessFigures& process) {
  JsonWriter json;
  json.Open("", '{');
  json.Number("age_seconds", board.age_seconds);
  json.Open("processes", '[');
  WriteProcess(process, json);
  json.Close(']');
  WritePeers(board.tasks, json);
  json.Open("tasks", '[');
  for (const wire::StatusReply& task : board.tasks) WriteTask(task, json);
  json.Close(']');
  json.Close('}');
  return json.Take();
}

}  // namespace chorus::coordinator
