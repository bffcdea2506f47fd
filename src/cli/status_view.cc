#include "cli/status_view.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <iomanip>
#include <sstream>

#include "base/hex.h"
#include "cli/report.h"
#include "coordinator/funnel.h"

namespace chorus::cli {
namespace {

using coordinator::Funnel;
using coordinator::FunnelOf;

constexpr std::string_view kReset = "\033[0m";
constexpr std::string_view kBold = "\033[1m";
constexpr std::string_view kFaint = "\033[2m";
constexpr std::string_view kRed = "\033[31m";
constexpr std::string_view kGreen = "\033[32m";
constexpr std::string_view kBlue = "\033[34m";
constexpr size_t kLabelColumns = 11;

const char* StateName(RoundState state) {
  switch (state) {
    case RoundState::kOpen:
      return "open";
    case RoundState::kCommitted:
      return "committed";
    case RoundState::kAborted:
      return "aborted";
  }
  return "unknown";
}

// The character that begins at `at` of valid UTF-8, or one byte of what is none.
struct Character {
  size_t bytes = 1;
  size_t columns = 1;
};
Character CharacterAt(std::string_view text, size_t at) {
  const auto first = static_cast<unsigned char>(text[at]);
  size_t bytes = first < 0x80 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
  bytes = std::min(bytes, text.size() - at);
  // East Asian letters, and pictures, take two columns on a terminal (UAX 11).
  const bool wide =
      first >= 0xF0 || (first >= 0xE2 && bytes == 3 && text.substr(at, 2) >= "\xE2\xBA");
  return {.bytes = bytes, .columns = wide ? size_t{2} : size_t{1}};
}

// Past the escape sequence "ESC [ ... letter" that begins at `at`; `at` where none does.
size_t EscapeEnd(std::string_view text, size_t at) {
  if (text.substr(at, 2) != "\033[") return at;
  size_t end = at + 2;
  while (end < text.size() && std::isalpha(static_cast<unsigned char>(text[end])) == 0) ++end;
  return std::min(end + 1, text.size());
}

// The text, cut to so many columns.
std::string Clipped(std::string_view text, size_t columns) {
  size_t used = 0;
  size_t at = 0;
  bool escaped = false;
  while (at < text.size()) {
    if (const size_t end = EscapeEnd(text, at); end != at) {
      escaped = true;
      at = end;
      continue;
    }
    const Character next = CharacterAt(text, at);
    if (used + next.columns > columns) break;
    used += next.columns;
    at += next.bytes;
  }
  std::string clipped(text.substr(0, at));
  if (at < text.size() && escaped) clipped += kReset;
  return clipped;
}

std::string Padded(std::string_view text, size_t columns) {
  const size_t used = ColumnsOf(text);
  return std::string(text) + std::string(columns - std::min(columns, used), ' ');
}

// Lines of a screen, one by one.
class Screen {
 public:
  Screen(const ViewState& state, ViewSize size) : colour_(state.colour), size_(size) {}

  void Line(std::string_view text) {
    if (lines_.size() < size_.rows) lines_.push_back(Clipped(text, size_.columns));
  }
  void Labelled(std::string_view label, std::string_view text) {
    Line(Painted(Padded(label, kLabelColumns), kFaint) + std::string(text));
  }
  std::string Painted(std::string_view text, std::string_view with) const {
    if (!colour_) return std::string(text);
    return std::string(with) + std::string(text) + std::string(kReset);
  }
  // `of` 0 to 1 as a bar of so many columns.
  std::string Bar(double of, size_t columns, std::string_view with) const {
    const auto full =
        static_cast<size_t>(std::lround(std::clamp(of, 0.0, 1.0) * static_cast<double>(columns)));
    std::string bar;
    for (size_t i = 0; i < full; ++i) bar += "█";
    std::string rest;
    for (size_t i = full; i < columns; ++i) rest += "░";
    return Painted(bar, with) + Painted(rest, kFaint);
  }
  size_t left() const { return size_.rows - lines_.size(); }
  size_t columns() const { return size_.columns; }
  std::vector<std::string> Take() { return std::move(lines_); }

 private:
  bool colour_;
  ViewSize size_;
  std::vector<std::string> lines_;
};

double Ratio(uint64_t part, uint64_t of) {
  return of == 0 ? 0 : static_cast<double>(part) / static_cast<double>(of);
}

std::string StateOf(const wire::StatusReply& reply) {
  if (!reply.step.empty()) return "running";
  return reply.rounds_committed >= reply.rounds_wanted ? "complete" : "waiting for clients";
}

uint64_t AbortedOf(const wire::StatusReply& reply) {
  const uint64_t open = reply.in_flight ? 1 : 0;
  return reply.rounds_begun - std::min(reply.rounds_begun, reply.rounds_committed + open);
}

std::vector<RoundReport> EndedOf(const wire::StatusReply& reply) {
  std::vector<RoundReport> ended;
  std::copy_if(reply.rounds.begin(), reply.rounds.end(), std::back_inserter(ended),
               [](const RoundReport& round) { return round.state != RoundState::kOpen; });
  return ended;
}

void ShowHead(const wire::StatusReply& reply, const ViewState& state, Screen& screen) {
  const std::string word = state.trouble.empty() ? StateOf(reply) : "unreachable";
  const std::string_view colour = !state.trouble.empty() ? kRed
                                  : word == "running"    ? kBlue
                                  : word == "complete"   ? kGreen
                                                         : kBold;
  screen.Line(screen.Painted("Chorus", kBold) + "  " + reply.task + "  " +
              screen.Painted(word, colour) + "  " + screen.Painted(state.server, kFaint));
  if (!state.trouble.empty()) {
    screen.Line(screen.Painted(
        "figures of " + std::to_string(state.heard_s) + " s ago: " + state.trouble, kRed));
  }
  const uint64_t aborted = AbortedOf(reply);
  const std::string so_many = std::to_string(reply.rounds_committed) + " of " +
                              std::to_string(reply.rounds_wanted) + " committed" +
                              (aborted == 0 ? "" : ", " + std::to_string(aborted) + " aborted");
  screen.Labelled(
      "rounds",
      screen.Bar(Ratio(reply.rounds_committed, reply.rounds_wanted), 24, kGreen) + "  " + so_many);
  std::string clients = std::to_string(reply.clients) + " checked in";
  if (!reply.committee.empty()) {
    const auto present =
        std::count_if(reply.committee.begin(), reply.committee.end(),
                      [](const wire::CommitteeMember& member) { return member.checked_in; });
    clients += ", and " + std::to_string(present) + " of the committee's " +
               std::to_string(reply.committee.size());
  }
  screen.Labelled("clients", clients);
}

// Where several serve from one store.
void ShowProcesses(const wire::StatusReply& reply, Screen& screen) {
  for (const wire::Process& process : reply.processes) {
    screen.Labelled(&process == &reply.processes.front() ? "processes" : "",
                    process.name + (process.address.empty() ? "" : " at " + process.address) +
                        ", " + std::to_string(process.cohorts) + " cohorts, seen " +
                        ReadableSeconds(static_cast<uint64_t>(process.age.count())) + " ago");
  }
}

void ShowRound(const wire::StatusReply& reply, Screen& screen) {
  screen.Line("");
  if (!reply.in_flight) {
    screen.Labelled("now", reply.step.empty() ? "no round is open" : reply.step);
    return;
  }
  const wire::RoundInFlight& now = *reply.in_flight;
  screen.Labelled("round " + std::to_string(now.round.round),
                  screen.Bar(Ratio(now.answered, now.asked), 24, kBlue) + "  " + reply.step + ", " +
                      std::to_string(now.answered) + " of " + std::to_string(now.asked) +
                      " answered, for " + ReadableSeconds(now.running_ms));
  std::string steps;
  const size_t open = now.round.dropouts.size();
  for (size_t i = 0; i < reply.steps.size(); ++i) {
    const std::string& name = reply.steps[i].name;
    if (i > 0) steps += " > ";
    steps += i == open ? screen.Painted("[" + name + "]", kBlue)
                       : screen.Painted(name, i < open ? std::string_view() : kFaint);
  }
  screen.Labelled("", steps);
}

void ShowCohort(const wire::StatusReply& reply, const std::vector<RoundReport>& ended,
                Screen& screen) {
  if (!reply.in_flight && ended.empty()) return;
  const Funnel funnel = reply.in_flight ? FunnelOf(*reply.in_flight, reply.steps)
                                        : FunnelOf(ended.back(), reply.steps);
  const uint64_t widest = std::max<uint64_t>({funnel.invited, reply.clients, 1});
  const std::pair<std::string_view, uint64_t> stages[] = {{"checked in", reply.clients},
                                                          {"invited", funnel.invited},
                                                          {"trained", funnel.trained},
                                                          {"uploaded", funnel.uploaded},
                                                          {"in the sum", funnel.in_sum}};
  screen.Line("");
  for (const auto& [name, count] : stages) {
    screen.Labelled(name,
                    screen.Bar(Ratio(count, widest), 24, kBlue) + "  " + std::to_string(count));
  }
}

void ShowHistory(const wire::StatusReply& reply, const std::vector<RoundReport>& ended,
                 Screen& screen) {
  if (ended.empty()) return;
  std::vector<double> accuracies;
  uint64_t up = 0;
  uint64_t down = 0;
  uint64_t shares = 0;
  std::vector<uint64_t> dropouts(reply.steps.size());
  for (const RoundReport& round : ended) {
    if (round.state == RoundState::kCommitted && round.evaluated > 0) {
      accuracies.push_back(round.accuracy);
    }
    up += round.bytes_up;
    down += round.bytes_down;
    shares += round.invited;
    for (size_t i = 0; i < std::min(dropouts.size(), round.dropouts.size()); ++i) {
      dropouts[i] += round.dropouts[i];
    }
  }
  screen.Line("");
  if (!accuracies.empty()) {
    screen.Labelled("accuracy", screen.Painted(Sparkline(accuracies, 48), kGreen) + "  " +
                                    Fixed(accuracies.back(), 4));
  }
  std::string lost;
  for (size_t i = 0; i < dropouts.size(); ++i) {
    if (dropouts[i] == 0) continue;
    if (!lost.empty()) lost += ", ";
    lost.append(reply.steps[i].name).append(" ").append(std::to_string(dropouts[i]));
  }
  screen.Labelled("dropouts", (lost.empty() ? "none" : lost) + " (in " +
                                  std::to_string(ended.size()) + " rounds)");
  shares = std::max<uint64_t>(shares, 1);
  screen.Labelled("bytes", ReadableBytes(up) + " received, " + ReadableBytes(down) + " sent; " +
                               ReadableBytes(up / shares) + " and " + ReadableBytes(down / shares) +
                               " a client and round");
}

void ShowRounds(const std::vector<RoundReport>& ended, Screen& screen) {
  if (ended.empty() || screen.left() < 4) return;
  screen.Line("");
  screen.Line(screen.Painted(" round  state      in sum  invited  accuracy  seconds", kFaint));
  const size_t rows = std::min(ended.size(), screen.left() - 1);
  for (size_t i = 0; i < rows; ++i) {
    const RoundReport& round = ended[ended.size() - 1 - i];
    std::ostringstream line;
    line << std::setw(6) << round.round << "  "
         << screen.Painted(Padded(StateName(round.state), 9),
                           round.state == RoundState::kAborted ? kRed : kGreen)
         << std::setw(8) << round.contributors << std::setw(9) << round.invited << std::setw(10)
         << (round.evaluated == 0 ? "-" : Fixed(round.accuracy, 4)) << std::setw(9)
         << Fixed(static_cast<double>(round.duration_ms) / 1e3, 1);
    if (!round.reason.empty()) line << "  " << round.reason;
    screen.Line(line.str());
  }
}

// Where there are several: all of them, of which one is shown.
void ShowTasks(const wire::StatusReply& reply, Screen& screen) {
  if (reply.tasks.size() < 2) return;
  screen.Line("");
  for (const wire::TaskStatus& task : reply.tasks) {
    const std::string line = task.name + "  " + std::to_string(task.rounds_committed) + " of " +
                             std::to_string(task.rounds_wanted) + " committed, " +
                             std::to_string(task.clients) + " clients, " +
                             (task.step.empty() ? "no round open" : task.step);
    screen.Labelled(&task == &reply.tasks.front() ? "tasks" : "",
                    task.name == reply.task ? screen.Painted(line, kBold) : line);
  }
}

void TellTasks(const wire::StatusReply& reply, std::ostringstream& out) {
  out << "all tasks (--task shows another):\n";
  for (const wire::TaskStatus& task : reply.tasks) {
    out << "  " << Padded(task.name, 24) << "  " << task.rounds_committed << " of "
        << task.rounds_wanted << " rounds, priority " << task.priority << ", " << task.clients
        << " clients, " << (task.step.empty() ? "no round open" : task.step) << "\n";
  }
}

void TellCommittee(const wire::StatusReply& reply, std::ostringstream& out) {
  const auto present =
      std::count_if(reply.committee.begin(), reply.committee.end(),
                    [](const wire::CommitteeMember& member) { return member.checked_in; });
  out << "committee: " << present << " of " << reply.committee.size() << " members\n";
  for (const wire::CommitteeMember& member : reply.committee) {
    if (!member.checked_in) out << "  absent: " << ToHex(member.identity) << "\n";
  }
}

void TellRounds(const wire::StatusReply& reply, std::ostringstream& out) {
  out << " round  state       in sum  invited accuracy*        up     down  seconds\n";
  for (const RoundReport& round : reply.rounds) {
    const uint64_t shares = std::max<uint64_t>(round.invited, 1);
    out << std::setw(6) << round.round << "  " << Padded(StateName(round.state), 9) << std::setw(9)
        << round.contributors << std::setw(9) << round.invited << std::setw(10)
        << (round.evaluated == 0 ? "-" : Fixed(round.accuracy, 4)) << std::setw(10)
        << ReadableBytes(round.bytes_up / shares) << std::setw(9)
        << ReadableBytes(round.bytes_down / shares) << "  "
        << Fixed(static_cast<double>(round.duration_ms) / 1e3, 1);
    if (round.cohorts != 1) {
      out << "  " << round.cohorts_committed << " of " << round.cohorts << " cohorts";
    }
    if (!round.reason.empty()) out << "  " << round.reason;
    out << "\n";
  }
  out << "* measured by the clients on examples of theirs, of the model before the round; up and "
         "down are a client's bytes\n";
}

void TellEvidence(const wire::StatusReply& reply, std::ostringstream& out) {
  out << "signed two different answers in one step:\n round  cohort  identity\n";
  for (const Evidence& evidence : reply.evidence) {
    out << std::setw(6) << evidence.round << " " << std::setw(7) << evidence.cohort << "  "
        << ToHex(evidence.identity) << "\n";
  }
}

}  // namespace

size_t ColumnsOf(std::string_view text) {
  size_t columns = 0;
  for (size_t at = 0; at < text.size();) {
    if (const size_t end = EscapeEnd(text, at); end != at) {
      at = end;
      continue;
    }
    const Character next = CharacterAt(text, at);
    columns += next.columns;
    at += next.bytes;
  }
  return columns;
}

std::string Sparkline(std::span<const double> values, size_t width) {
  constexpr std::array<std::string_view, 8> kLevels = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  if (values.size() > width) values = values.last(width);
  if (values.empty()) return "";
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  const double range = *high - *low;
  std::string line;
  for (const double value : values) {
    const double of = range > 0 ? (value - *low) / range : 0.5;
    line += kLevels[static_cast<size_t>(std::clamp(std::lround(of * 7), 0L, 7L))];
  }
  return line;
}

std::string StatusText(const wire::StatusReply& reply) {
  std::ostringstream out;
  out << "task " << reply.task << ": " << reply.rounds_committed << " of " << reply.rounds_wanted
      << " rounds committed, " << reply.rounds_begun << " begun\n"
      << "clients: " << reply.clients << "\n";
  if (!reply.committee.empty()) TellCommittee(reply, out);
  out << "step: " << (reply.step.empty() ? "none" : reply.step);
  if (reply.in_flight) {
    out << ", " << reply.in_flight->answered << " of " << reply.in_flight->asked << " answered";
  }
  out << "\n";
  if (!reply.rounds.empty()) TellRounds(reply, out);
  if (!reply.evidence.empty()) TellEvidence(reply, out);
  if (reply.tasks.size() > 1) TellTasks(reply, out);
  return out.str();
}

std::vector<std::string> WatchScreen(const wire::StatusReply& reply, const ViewState& state,
                                     ViewSize size) {
  Screen screen(state, size);
  const std::vector<RoundReport> ended = EndedOf(reply);
  ShowHead(reply, state, screen);
  ShowProcesses(reply, screen);
  ShowTasks(reply, screen);
  ShowRound(reply, screen);
  ShowCohort(reply, ended, screen);
  ShowHistory(reply, ended, screen);
  ShowRounds(ended, screen);
  screen.Line(screen.Painted("q leaves", kFaint));
  return screen.Take();
}

std::string WatchLine(const wire::StatusReply& reply) {
  std::ostringstream line;
  line << reply.task << ": " << reply.rounds_committed << " of " << reply.rounds_wanted
       << " rounds committed, " << reply.clients << " clients";
  if (reply.in_flight) {
    line << "; round " << reply.in_flight->round.round << ", " << reply.step << ", "
         << reply.in_flight->answered << " of " << reply.in_flight->asked << " answered";
  } else {
    line << "; " << (reply.step.empty() ? StateOf(reply) : reply.step);
  }
  const std::vector<RoundReport> ended = EndedOf(reply);
  if (ended.empty()) return line.str();
  const RoundReport& last = ended.back();
  line << "; round " << last.round << " " << StateName(last.state);
  if (last.state == RoundState::kAborted) line << " (" << last.reason << ")";
  if (last.evaluated > 0) line << ", accuracy " << Fixed(last.accuracy, 4);
  return line.str();
}

}  // namespace chorus::cli
