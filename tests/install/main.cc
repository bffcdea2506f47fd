// A stranger's program against the installed package: starts a coordinator in process, prints its
// port, and starts a client that cannot work, to see that both libraries link and answer. Compiled
// with exceptions and RTTI, as hosts are, and derives from the public interfaces.
#include <cstdio>
#include <memory>

#include "chorus/client.h"
#include "chorus/coordinator.h"

namespace {

class StillClock final : public chorus::Clock {
 public:
  chorus::Time Now() const override { return chorus::Time(0); }
  int64_t UnixSeconds() const override { return 0; }
};

class SilentLog final : public chorus::LogSink {
 public:
  void Write(chorus::LogLevel, std::string_view, std::span<const chorus::LogField>) override {}
};

class TrustNobody final : public chorus::IdentityVerifier {
 public:
  chorus::Result<chorus::Identity> Verify(const chorus::PublicKey&,
                                          chorus::BytesView) const override {
    return chorus::Unauthenticated("nobody is trusted");
  }
};

#ifdef WITH_coordinator
chorus::CoordinatorOptions Options() {
  chorus::CoordinatorOptions options;
  options.listen = "127.0.0.1:0";
  options.plaintext = true;
  options.signing_seed = chorus::SecretBytes(32);
  chorus::TaskSpec task;
  task.name = "stranger";
  task.protocol = chorus::Protocol::kPlain;
  task.model.inputs = 4;
  task.model.layers = {{.units = 3}};
  options.tasks.push_back({.task = task});
  return options;
}

int Serve(const chorus::Clock& clock, chorus::LogSink& log) {
  const TrustNobody verifier;
  const std::unique_ptr<chorus::Store> store = chorus::NewMemoryStore();
  const auto coordinator = chorus::Coordinator::Start(Options(), *store, verifier, clock, log);
  if (!coordinator.ok()) {
    std::fprintf(stderr, "%s\n", coordinator.status().ToString().c_str());
    return 1;
  }
  std::printf("port %d, %zu weights\n", (*coordinator)->port(),
              (*coordinator)->CurrentWeights("stranger").size());
  return (*coordinator)->port() > 0 ? 0 : 1;
}
#endif

#ifdef WITH_client
int Play(const chorus::Clock& clock, chorus::LogSink& log) {
  const TrustNobody verifier;
  const auto client = chorus::Client::Start({}, {}, verifier, clock, log);
  if (client.ok()) return 1;
  std::printf("a client without options: %s\n", client.status().message().c_str());
  return 0;
}
#endif

}  // namespace

int main() {
  const StillClock clock;
  SilentLog log;
  int failed = 0;
#ifdef WITH_coordinator
  failed += Serve(clock, log);
#endif
#ifdef WITH_client
  failed += Play(clock, log);
#endif
  return failed;
}
