// The coordinator under thousands of real clients on loopback, in processes of their own, beside a
// bare gRPC server that does nothing with the same connections, calls and bytes.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>
#include <map>
#include <thread>
#include <utility>

#include "base/clock.h"
#include "bench.h"
#include "load_stage.h"
#include "tokens.h"

namespace chorus::bench {

namespace {

constexpr size_t kProcesses = 2;  // of clients

// What a process of clients says once it is done. Ends the benchmark when any call failed: a figure
// of calls that failed is none.
Words DoneBy(Child& clients) {
  Words words = clients.Hear();
  if (NumberIn(words, "errors") > 0) {
    std::fprintf(stderr, "load: %s calls failed\n", words["errors"].c_str());
    std::exit(2);
  }
  return words;
}

void AllDone(Children& children) {
  for (const auto& child : children) (void)DoneBy(*child);
}

// --- memory of clients that wait, and of those that do not ---

constexpr size_t kIdle = 10'000;
constexpr size_t kWarm = 200;  // before the first look, so that what exists once is not counted

double KilobytesEach(Stage& stage, Child& server, const std::string& mode) {
  Children warm = stage.Clients(1, kWarm, mode);
  AllDone(warm);
  const uint64_t before = NumberIn(server.Ask("look"), "rss_kb");
  Children clients = stage.Clients(kProcesses, kIdle, mode, kWarm);
  AllDone(clients);
  const uint64_t after = NumberIn(server.Ask("look"), "rss_kb");
  return static_cast<double>(after - before) / static_cast<double>(kIdle);
}

std::optional<Measured> Idle() {
  Stage stage(/*tls=*/true);
  double bare = 0;
  {
    const std::unique_ptr<Child> server = stage.Server("bare", "");
    bare = KilobytesEach(stage, *server, "mode=park");
  }
  const std::unique_ptr<Child> server =
      stage.Server("coordinator", "dim=1000 rounds=1 cohort=20 connected=0");
  const double ours = KilobytesEach(stage, *server, "mode=crowd");
  std::printf("idle: %.1f KB a client, bare %.1f KB\n", ours, bare);
  return Measured{ours / bare, 1.15};
}

// Bytes of the heap that are in use, once everything with a time of its own has had it.
std::optional<Measured> Paced() {
  Stage stage(/*tls=*/true);
  const std::unique_ptr<Child> server =
      stage.Server("coordinator", "dim=1000 rounds=1 cohort=20 connected=100");
  Children waiting = stage.Clients(1, 100, "mode=crowd");
  AllDone(waiting);
  const auto send = [&](uint64_t first, size_t count) {
    Children away = stage.Clients(kProcesses, count, "mode=away", first);
    AllDone(away);
    away.clear();
    // Once for those whose call was parked when they vanished, and again for their sessions.
    for (int i = 0; i < 2; ++i) {
      (void)server->Ask("move=130000");
      std::this_thread::sleep_for(std::chrono::seconds(1));
    }
    // The first to come after that sweeps out what the others have left.
    Children last = stage.Clients(1, 10, "mode=away", 1'000'000 + first);
    AllDone(last);
    last.clear();
    // Until gRPC has taken all those connections down.
    uint64_t heap = NumberIn(server->Ask("trim"), "heap");
    for (int i = 0; i < 20; ++i) {
      std::this_thread::sleep_for(std::chrono::seconds(1));
      const uint64_t before = std::exchange(heap, NumberIn(server->Ask("trim"), "heap"));
      if (i >= 5 && heap >= before) break;
    }
  };
  send(10'000, kIdle);  // as many as come later, so that what is there for them all is there
  // gRPC's own structures grow and shrink with how many connections there were at a time, as it
  // happens, by a megabyte; what is kept of clients would grow with every ten thousand of them. So
  // the median.
  std::array<double, 5> grown{};
  for (size_t time = 0; time < grown.size(); ++time) {
    const Words before = server->Ask("trim");
    send((2 + time) * kIdle, kIdle);
    const Words after = server->Ask("trim");
    const auto difference = [&](const std::string& name) {
      return static_cast<double>(NumberIn(after, name)) -
             static_cast<double>(NumberIn(before, name));
    };
    grown[time] = difference("heap");
    std::printf("paced: %.0f clients; heap in use %+.0f bytes, resident %+.0f KB\n",
                static_cast<double>(kIdle), grown[time], difference("rss_kb"));
  }
  std::sort(grown.begin(), grown.end());
  // Whatever is kept of a client takes this much at least: a node of a map, and a key of 16 bytes.
  // Less of each is nobody's: tables that stay as large as they were once, blocks of allocators.
  constexpr double kLeastBytes = 64;
  const double each = std::max(0.0, grown[grown.size() / 2] / static_cast<double>(kIdle));
  std::printf("paced: %.1f bytes of the heap a client; less than %.0f count as none\n", each,
              kLeastBytes);
  return Measured{each < kLeastBytes ? 0 : each, 0};
}

// --- uploads ---

constexpr size_t kUploading = 16;
constexpr uint64_t kUploadRounds = 12;
constexpr char kMillion[] = " dim=1000000 cohort=16";

// The time in which updates were on their way, of all processes together, and what came.
struct Flow {
  double seconds = 0;
  double bytes = 0;
};

Flow FlowOf(Children& clients, size_t count, uint64_t rounds) {
  std::map<uint64_t, std::pair<double, double>> windows;
  Flow flow;
  for (const auto& client : clients) {
    const Words words = DoneBy(*client);
    flow.bytes = static_cast<double>(NumberIn(words, "bytes")) * static_cast<double>(count) *
                 static_cast<double>(rounds);
    for (uint64_t round = 1; round <= rounds; ++round) {
      const double from = std::stod(words.at("from" + std::to_string(round)));
      const double to = std::stod(words.at("to" + std::to_string(round)));
      auto [window, fresh] = windows.try_emplace(round, from, to);
      window->second.first = std::min(window->second.first, from);
      window->second.second = std::max(window->second.second, to);
    }
  }
  for (const auto& [round, window] : windows) flow.seconds += window.second - window.first;
  return flow;
}

std::string Uploads(const std::string& mode, uint64_t rounds) {
  return "mode=" + mode + kMillion + " rounds=" + std::to_string(rounds);
}

Flow BareFlow(Stage& stage) {
  const std::unique_ptr<Child> server = stage.Server("bare", "");
  Children clients = stage.Clients(kProcesses, kUploading, Uploads("stream", kUploadRounds));
  return FlowOf(clients, kUploading, kUploadRounds);
}

std::optional<Measured> Ingest() {
  Stage stage(/*tls=*/true);
  const Flow before = BareFlow(stage);
  Flow ours;
  {
    const std::unique_ptr<Child> server =
        stage.Server("coordinator", Uploads("", kUploadRounds) + " connected=0");
    Children clients = stage.Clients(kProcesses, kUploading, Uploads("updates", kUploadRounds));
    ours = FlowOf(clients, kUploading, kUploadRounds);
  }
  // Half before and half after, so that a machine that becomes slower is no result.
  const Flow after = BareFlow(stage);
  const double bare = (before.bytes + after.bytes) / (before.seconds + after.seconds);
  std::printf("ingest: %.2f GB/s, bare %.2f GB/s\n", ours.bytes / ours.seconds * 1e-9, bare * 1e-9);
  return Measured{ours.bytes / ours.seconds / bare, 0.6};
}

// What an update costs the server, of a hundred clients as the rival's figure is.
double MillisecondsAnUpdate() {
  Stage stage(/*tls=*/false);
  constexpr size_t kClients = 100;
  constexpr uint64_t kRounds = 5;
  const std::string task = " dim=1000000 cohort=100 rounds=5";
  const std::unique_ptr<Child> server = stage.Server("coordinator", task + " connected=0");
  const Words before = server->Ask("look");
  Children clients = stage.Clients(kProcesses, kClients, "mode=updates" + task);
  (void)FlowOf(clients, kClients, kRounds);
  const Words after = server->Ask("look");
  const auto milliseconds = [&](const std::string& name) {
    return static_cast<double>(NumberIn(after, name) - NumberIn(before, name)) * 1e-3 /
           static_cast<double>(kClients * kRounds);
  };
  std::printf("ingest_cpu: %.2f ms an update, of it transport %.2f, store %.2f\n",
              milliseconds("cpu_us"), milliseconds("cpu_us") - milliseconds("own_us"),
              milliseconds("store_us"));
  return milliseconds("cpu_us");
}

// The median: what others do to the caches of a shared machine makes up to a quarter of it.
std::optional<Measured> IngestCpu() {
  std::array<double, 5> times{};
  for (double& time : times) time = MillisecondsAnUpdate();
  std::sort(times.begin(), times.end());
  return Measured{times[times.size() / 2], 4};
}

std::optional<Measured> IngestMemory() {
  Stage stage(/*tls=*/true);
  const std::string task = " dim=1000000 cohort=100 rounds=2";
  const std::unique_ptr<Child> server = stage.Server("coordinator", task + " connected=0");
  Children clients = stage.Clients(kProcesses, 100, "mode=updates" + task);
  const Flow flow = FlowOf(clients, 100, 2);
  const Words costs = server->Ask("look");
  std::printf("ingest_memory: %.1f MB an update, %.0f MB resident now, heap in use %.0f MB\n",
              flow.bytes / 200 * 1e-6, static_cast<double>(NumberIn(costs, "rss_kb")) * 1.024e-3,
              static_cast<double>(NumberIn(costs, "heap")) * 1e-6);
  return Measured{static_cast<double>(NumberIn(costs, "peak_kb")) * 1.024e-3, 200};
}

// --- rounds ---

std::optional<Measured> Round1000() {
  Stage stage(/*tls=*/true);
  constexpr size_t kCohort = 1'000;
  const std::unique_ptr<Child> server =
      stage.Server("coordinator", "dim=100000 cohort=1000 rounds=1 secagg=1 sqlite=1 connected=0");
  const Words before = server->Ask("look");
  const double began = WallSeconds();
  Children clients = stage.Clients(4, kCohort, "mode=library");
  size_t counted = 0;
  for (const auto& client : clients) counted += NumberIn(DoneBy(*client), "counted");
  const Words after = server->Ask("look");
  const auto seconds = [&](const std::string& name) {
    return static_cast<double>(NumberIn(after, name) - NumberIn(before, name)) * 1e-6;
  };
  const double store = seconds("store_us");
  std::printf(
      "round_1000: %.1f s, server CPU %.2f s: transport %.2f, crypto and sums %.2f, store %.2f; "
      "peak %.0f MB\n",
      WallSeconds() - began, seconds("cpu_us"), seconds("cpu_us") - seconds("own_us"),
      seconds("own_us") - store, store, static_cast<double>(NumberIn(after, "peak_kb")) * 1.024e-3);
  return Measured{static_cast<double>(counted), kCohort};
}

uint64_t StoreKilobytes(const Scene& scene) {
  uint64_t bytes = 0;
  for (const auto& file : std::filesystem::directory_iterator(scene.folder)) {
    if (file.path().filename().string().starts_with("state.sqlite")) bytes += file.file_size();
  }
  return bytes / 1'024;
}

std::optional<Measured> Leak() {
  Stage stage(/*tls=*/true);
  const std::string task = " dim=100000 cohort=8 rounds=1010";
  const std::unique_ptr<Child> server =
      stage.Server("coordinator", task + " sqlite=1 kept=5 connected=0");
  Children clients = stage.Clients(1, 8, "mode=updates" + task);
  // The least of several looks: rounds go on meanwhile, and hold now more and now less.
  const auto look = [&](const std::string& until) {
    Words least = server->Ask(until + " trim");
    for (int i = 0; i < 20; ++i) {
      Words now = server->Ask("trim");
      if (NumberIn(now, "rss_kb") < NumberIn(least, "rss_kb")) least = std::move(now);
    }
    return least;
  };
  const Words early = look("until=10");
  const uint64_t store_early = StoreKilobytes(stage.scene());
  const Words late = look("until=1000");
  // The server stops counting at the first round that is aborted.
  if (NumberIn(late, "rounds") < 1'000) {
    std::fprintf(stderr, "load: only %s rounds, and %s aborted\n", late.at("rounds").c_str(),
                 late.at("aborted").c_str());
    std::exit(2);
  }
  const uint64_t store_late = StoreKilobytes(stage.scene());
  const auto ratio = [](uint64_t now, uint64_t then) {
    return static_cast<double>(now) / static_cast<double>(then);
  };
  const double memory = ratio(NumberIn(late, "rss_kb"), NumberIn(early, "rss_kb"));
  const double store = ratio(store_late, store_early);
  std::printf("leak: memory %.3f, %.0f MB now; store %.3f, %.0f KB now; %.0f rounds\n", memory,
              static_cast<double>(NumberIn(late, "rss_kb")) * 1.024e-3, store,
              static_cast<double>(store_late), static_cast<double>(NumberIn(late, "rounds")));
  return Measured{std::max(memory, store), 1.05};
}

// --- check-ins ---

constexpr size_t kCheckIns = 20'000;
constexpr size_t kCheckInConnections = 50;
constexpr double kLatencyRatioMax = 20;

struct Calls {
  double per_second = 0;
  double p99 = 0;
};

Calls CallsOf(Children& clients) {
  for (const auto& client : clients) (void)client->Hear();
  for (const auto& client : clients) client->Tell("go");
  double calls = 0;
  double seconds = 0;
  Calls result;
  for (const auto& client : clients) {
    const Words words = DoneBy(*client);
    calls += std::stod(words.at("calls"));
    seconds = std::max(seconds, std::stod(words.at("seconds")));
    result.p99 = std::max(result.p99, std::stod(words.at("p99")));
  }
  result.per_second = calls / seconds;
  return result;
}

void WriteLogin(Stage& stage, size_t players) {
  const P256Login login;
  stage.Write("login.jwks", KeySet(login.Jwk("a")));
  const std::string ends = std::to_string(NewSystemClock()->UnixSeconds() + 86'400);
  std::string tokens;
  for (size_t player = 0; player < players; ++player) {
    tokens += login.Sign(kLoginHeader, R"({"iss":"login","aud":"chorus","sub":"player )" +
                                           std::to_string(player) + R"(","exp":)" + ends + "}") +
              "\n";
  }
  stage.Write("tokens", tokens);
}

std::optional<Measured> CheckIn() {
  Stage stage(/*tls=*/true);
  WriteLogin(stage, kCheckIns);
  const std::string calls = " calls=" + std::to_string(kCheckIns / kProcesses);
  const auto echo = [&] {
    const std::unique_ptr<Child> server = stage.Server("bare", "");
    Children clients =
        stage.Clients(kProcesses, kCheckInConnections, "mode=echo payload=64" + calls);
    return CallsOf(clients);
  };
  const auto check_in = [&](const std::string& verifying) {
    const std::unique_ptr<Child> server = stage.Server(
        "coordinator", "dim=1000 rounds=1 cohort=1024 tokens=1 connected=0" + verifying);
    Children clients;
    for (size_t i = 0; i < kProcesses; ++i) {
      clients.push_back(
          std::move(stage.Clients(1, kCheckInConnections / kProcesses, "mode=checkin" + calls,
                                  i * kCheckIns / kProcesses)[0]));
    }
    return CallsOf(clients);
  };
  // Each between two of the bare server: a shared machine is faster and slower from second to
  // second. The median of the ratios.
  std::array<double, 5> ratios{};
  double latency = 0;
  Calls before = echo();
  for (double& ratio : ratios) {
    const Calls ours = check_in("");
    const Calls after = echo();
    const double bare = (before.per_second + after.per_second) / 2;
    const double times = ours.p99 / ((before.p99 + after.p99) / 2);
    std::printf("checkin: %.0f a second, echo %.0f; p99 %.2f ms, %.1f x the echo's\n",
                ours.per_second, bare, ours.p99 * 1e3, times);
    ratio = ours.per_second / bare;
    latency = std::max(latency, times);
    before = after;
  }
  // What `chorus serve` verifies of everybody: the issuer's certificate as well. No figure.
  const Calls both = check_in(" certificates=1");
  const Calls after = echo();
  const double bare = (before.per_second + after.per_second) / 2;
  std::printf("checkin with certificates: %.0f a second, %.3f x the echo's %.0f; p99 %.2f ms\n",
              both.per_second, both.per_second / bare, bare, both.p99 * 1e3);
  std::sort(ratios.begin(), ratios.end());
  // One figure for both bars: what is too late counts as nothing.
  return Measured{latency <= kLatencyRatioMax ? ratios[ratios.size() / 2] : 0, 0.25};
}

const Figure kFigures[] = {
    {"idle", "of a bare idle call's memory", Bar::kAtMost, Idle},
    {"paced", "bytes", Bar::kAtMost, Paced},
    {"ingest", "of a bare stream's bytes a second", Bar::kAtLeast, Ingest},
    {"ingest_cpu", "ms", Bar::kAtMost, IngestCpu},
    {"ingest_memory", "MB", Bar::kAtMost, IngestMemory},
    {"round_1000", "clients counted", Bar::kAtLeast, Round1000},
    {"checkin", "of a bare echo's calls a second", Bar::kAtLeast, CheckIn},
    {"leak", "of memory, or of the store, after ten rounds", Bar::kAtMost, Leak},
};

}  // namespace
}  // namespace chorus::bench

int main(int argc, char** argv) {
  using namespace chorus::bench;  // NOLINT(google-build-using-namespace)
  if (argc == 4 && std::strcmp(argv[1], "--part") == 0) {
    return PlayPart(argv[2], ParseWords(argv[3]));
  }
  return PrintAll(kFigures, {argv + 1, argv + argc});
}
