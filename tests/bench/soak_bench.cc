// A coordinator of the load benchmark for half an hour as a live game has it: clients of which one
// in five drops out of each round, others that send nonsense, and three restarts by kill -9. Says
// at the end what became of the results.
//   soak_bench [--minutes N]   30 minutes unless said otherwise
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "bench.h"
#include "load_stage.h"

namespace chorus::bench {
namespace {

constexpr size_t kClients = 60;
constexpr size_t kHostile = 8;
constexpr int kRestarts = 3;
constexpr double kStallSeconds = 60;  // without a committed round
constexpr char kTask[] = "dim=10000 cohort=40 minimum=20 rounds=1000000 sqlite=1 connected=0";

struct Report {
  uint64_t committed = 0;  // as hosts were told
  uint64_t aborted = 0;
  uint64_t trouble = 0;
  uint64_t lost = 0;  // told, and not in the store after a restart
  int stalls = 0;
  int restarts = 0;
  double longest = 0;  // seconds between two commits
};

// One life of the coordinator: until the time is over, or it is killed.
class Life {
 public:
  Life(Stage& stage, Report& report, const std::string& port)
      : report_(report),
        server_(stage.Server("coordinator", std::string(kTask) + " port=" + port)) {
    const uint64_t stored = NumberIn(server_->Ask("stored"), "stored");
    if (stored < report_.committed) report_.lost += report_.committed - stored;
    before_ = stored;
  }
  void Run(double until) {
    double last = WallSeconds();
    bool stalled = false;
    while (WallSeconds() < until) {
      std::this_thread::sleep_for(std::chrono::milliseconds(500));
      const Words words = server_->Ask("look");
      const uint64_t committed = before_ + NumberIn(words, "rounds");
      if (committed > report_.committed) {
        report_.longest = std::max(report_.longest, WallSeconds() - last);
        last = WallSeconds();
        stalled = false;
      } else if (!stalled && WallSeconds() - last > kStallSeconds) {
        stalled = true;
        ++report_.stalls;
      }
      report_.committed = committed;
      aborted_ = NumberIn(words, "aborted");
      trouble_ = NumberIn(words, "trouble");
    }
    report_.aborted += aborted_;
    report_.trouble += trouble_;
  }
  void Kill() { server_->Kill(); }

 private:
  Report& report_;
  std::unique_ptr<Child> server_;
  uint64_t before_ = 0;
  uint64_t aborted_ = 0;
  uint64_t trouble_ = 0;
};

int Soak(double minutes) {
  Stage stage(/*tls=*/true);
  Report report;
  const double began = WallSeconds();
  std::string port = "0";
  Children clients;
  Children hostile;
  for (int life = 0; life <= kRestarts; ++life) {
    Life running(stage, report, port);
    const std::string& address = stage.scene().address;
    port = address.substr(address.rfind(':') + 1);
    if (life == 0) {
      clients = stage.Clients(2, kClients, "mode=soak dim=10000 cohort=40");
      hostile = stage.Clients(1, kHostile, "mode=hostile");
    }
    running.Run(began + minutes * 60 * (life + 1) / (kRestarts + 1));
    std::printf("soak: %.1f minutes, %llu rounds committed, %llu aborted\n",
                (WallSeconds() - began) / 60, static_cast<unsigned long long>(report.committed),
                static_cast<unsigned long long>(report.aborted));
    std::fflush(stdout);
    if (life == kRestarts) break;
    running.Kill();
    ++report.restarts;
  }
  for (const auto& child : clients) child->Kill();
  for (const auto& child : hostile) child->Kill();
  const bool holds =
      report.lost == 0 && report.stalls == 0 && report.trouble == 0 && report.committed > 0;
  std::printf(
      "figure soak %llu rounds, %d restarts, %llu lost results, %d stalls, %llu troubles, longest "
      "wait %.1f s: %s\n",
      static_cast<unsigned long long>(report.committed), report.restarts,
      static_cast<unsigned long long>(report.lost), report.stalls,
      static_cast<unsigned long long>(report.trouble), report.longest,
      holds ? "holds" : "falls short");
  return holds ? 0 : 1;
}

}  // namespace
}  // namespace chorus::bench

int main(int argc, char** argv) {
  using namespace chorus::bench;  // NOLINT(google-build-using-namespace)
  if (argc == 4 && std::strcmp(argv[1], "--part") == 0) {
    return PlayPart(argv[2], ParseWords(argv[3]));
  }
  double minutes = 30;
  if (argc == 3 && std::strcmp(argv[1], "--minutes") == 0) minutes = std::atof(argv[2]);
  if (argc != 1 && !(argc == 3 && minutes > 0)) {
    std::fprintf(stderr, "soak_bench [--minutes N]\n");
    return 2;
  }
  return Soak(minutes);
}
