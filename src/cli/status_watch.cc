#include "cli/status_watch.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <cstdio>
#include <optional>

#include "base/stopwatch.h"
#include "cli/status_view.h"
#include "cli/stop.h"

namespace chorus::cli {
namespace {

constexpr double kPeriodSeconds = 1;

// A terminal whose whole screen is ours while this lives; it is as before after it.
class Terminal {
 public:
  Terminal() {
    keys_ = ::tcgetattr(STDIN_FILENO, &before_) == 0;
    if (keys_) {
      termios raw = before_;
      raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);  // Ctrl-C stays a signal
      ::tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    }
    Write("\033[?1049h\033[?25l");  // the alternate screen, without its cursor
  }
  ~Terminal() {
    Write("\033[?25h\033[?1049l");
    if (keys_) ::tcsetattr(STDIN_FILENO, TCSANOW, &before_);
  }
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;

  ViewSize size() const {
    winsize window{};
    ViewSize size;
    if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 0) {
      size = {.columns = window.ws_col, .rows = window.ws_row};
    }
    return size;
  }

  // In place and in one piece, so that nothing flickers.
  void Draw(const std::vector<std::string>& lines) {
    std::string all = "\033[H";
    for (size_t i = 0; i < lines.size(); ++i) {
      if (i > 0) all += "\r\n";
      all += lines[i] + "\033[K";
    }
    Write(all + "\033[J");
  }

  // Whether q was typed; waits a moment for it.
  bool Left() const {
    pollfd keys{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0};
    const auto wait = static_cast<int>(kStopLatency.count());
    if (::poll(&keys, keys_ ? 1 : 0, wait) <= 0) return false;
    char key = 0;
    if ((keys.revents & POLLIN) == 0 || ::read(STDIN_FILENO, &key, 1) != 1) return false;
    return key == 'q' || key == 'Q';
  }

 private:
  static void Write(const std::string& text) {
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
  }
  termios before_{};
  bool keys_ = false;  // standard input is a terminal as well
};

// Waits for the next look; true: time to end. Whoever read the lines may be gone (`| head`), which
// a write would tell, but nothing may be left to write.
bool WaitOrStop(const Stopwatch& since) {
  pollfd reader{.fd = STDOUT_FILENO, .events = 0, .revents = 0};
  while (!stop_requested() && since.Seconds() < kPeriodSeconds) {
    ::poll(&reader, 1, static_cast<int>(kStopLatency.count()));
    if (reader.revents != 0) return true;
  }
  return stop_requested();
}

Status WatchLines(wire::StatusReply reply, const std::function<Result<wire::StatusReply>()>& ask) {
  std::string last;
  std::string trouble;
  while (true) {
    const Stopwatch since;
    const std::string line = trouble.empty() ? WatchLine(reply) : "no answer: " + trouble;
    if (line != last) {
      last = line;
      if (std::puts(line.c_str()) < 0 || std::fflush(stdout) != 0) return OkStatus();
    }
    if (WaitOrStop(since)) return OkStatus();
    Result<wire::StatusReply> next = ask();
    trouble = next.ok() ? "" : next.status().message();
    if (next.ok()) reply = *std::move(next);
  }
}

Status WatchTerminal(const std::string& server, wire::StatusReply reply,
                     const std::function<Result<wire::StatusReply>()>& ask) {
  Terminal terminal;
  ViewState state{.server = server, .trouble = "", .colour = true};
  std::optional<Stopwatch> heard(std::in_place);
  while (!stop_requested()) {
    const Stopwatch since;
    state.heard_s = static_cast<uint64_t>(heard->Seconds());
    while (!stop_requested() && since.Seconds() < kPeriodSeconds) {
      terminal.Draw(WatchScreen(reply, state, terminal.size()));
      if (terminal.Left()) return OkStatus();
    }
    if (stop_requested()) break;
    Result<wire::StatusReply> next = ask();
    state.trouble = next.ok() ? "" : next.status().message();
    if (!next.ok()) continue;
    reply = *std::move(next);
    heard.emplace();
  }
  return OkStatus();
}

}  // namespace

Status WatchStatus(const std::string& server,
                   const std::function<Result<wire::StatusReply>()>& ask) {
  CHORUS_TRY_ASSIGN(wire::StatusReply reply, ask());
  CatchStopSignals();
  if (::isatty(STDOUT_FILENO) == 1) return WatchTerminal(server, std::move(reply), ask);
  return WatchLines(std::move(reply), ask);
}

}  // namespace chorus::cli
