// The clients' side of a simulation in one process: each virtual client that is asked something is,
// for as long as that takes, a client::Round of production on the examples of its row.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "aggregation/protocols.h"
#include "base/parallel.h"
#include "chorus/bytes.h"
#include "chorus/client.h"
#include "chorus/simulation.h"
#include "chorus/status.h"
#include "client/device_state.h"
#include "client/round.h"
#include "client/session.h"
#include "client/training.h"
#include "simulation/virtual_clock.h"

namespace chorus::simulation {

// What a client has to do. Under plain, training waits for the question that carries the update, so
// that an update is folded into the sum while it is warm and no cohort of them is ever held.
struct Job {
  uint32_t client = 0;
  uint64_t round = 0;
  bool trains = false;  // answers the invitation; else a question
  Bytes question;
};
struct Done {
  Status status;  // a failure is what the client tells its coordinator
  SecretBytes answer;
  double cpu_seconds = 0;
};

// The clients of one process: every `count`-th from `index` on.
struct Part {
  uint32_t index = 0;
  uint32_t count = 1;
};

struct DevicesOptions {
  const Simulation* simulation = nullptr;  // must outlive the devices, as all pointers here
  const Population* population = nullptr;
  Executor* executor = nullptr;
  const Cancel* cancel = nullptr;
  PublicKey coordinator{};
  Bytes task;  // as signed
  Signature task_signature{};
};

// The seed of a virtual client's long-term identity, which nothing but this simulation knows.
SecretBytes IdentitySeedOf(uint64_t seed, uint32_t client);
// Vouches for every identity whose evidence is a client's number. Virtual clients do not lie about
// who they are, so a signature on each would be checked a cohort's square times for nothing.
std::unique_ptr<IdentityVerifier> NewFleetVerifier();
Bytes EvidenceOf(uint32_t client);

// Thread-compatible; spreads its work by the executor.
class Devices {
 public:
  // The task is accepted once for all: kInvalidArgument as client::AcceptTask.
  static Result<std::unique_ptr<Devices>> Create(DevicesOptions options);

  // Holds the round's model for its jobs. `published` are finite; `hash` is their ModelHash.
  void BeginRound(uint64_t round, Weights published, const Digest& hash);
  // In the order of `jobs`, each of another client and of a round that has begun.
  std::vector<Done> Do(std::span<const Job> jobs, Time now);
  // What is held of the round and of the clients in it goes.
  void EndRound(uint64_t round);
  // The accuracy of `weights` [dim] for each client of the part, ascending.
  // kCancelled; and what a client's own record may fail with.
  Result<std::vector<ClientAccuracy>> Measure(std::span<const float> weights, const Part& part);

 private:
  // A client in a round.
  struct Active {
    ClientOptions options;
    std::unique_ptr<Rng> rng;
    uint64_t number = 0;  // of the round
    std::unique_ptr<client::Round> round;
  };
  // What training needs of memory, one for each thread that trains, for one client after another.
  struct Scratch {
    Examples examples;  // of analytics
    client::TrainingBuffers buffers;
  };

  explicit Devices(DevicesOptions options);

  std::unique_ptr<Active> NewActive() const;
  std::unique_ptr<Scratch> TakeScratch();
  void GiveBack(std::unique_ptr<Scratch> scratch);
  client::SessionOptions SessionOf(const Active& active, uint32_t client, Scratch& scratch);
  client::DeviceState* StateOf(uint32_t client);
  void GiveExamples(uint32_t client, client::SessionOptions& session, Scratch& scratch) const;
  Status Train(Active& active, const Job& job, Scratch& scratch);
  Result<SecretBytes> Perform(Active& active, const Job& job);
  Status MeasureOne(std::span<const float> weights, Scratch& scratch, ClientAccuracy& measured);
  bool one_step() const { return task_->spec.protocol == Protocol::kPlain; }

  const DevicesOptions options_;
  VirtualClock clock_;
  std::unique_ptr<IdentityVerifier> verifier_;
  std::unique_ptr<LogSink> log_;
  std::unique_ptr<client::Ledger> ledger_;
  aggregation::KnownOffers known_offers_;
  std::unique_ptr<const client::AcceptedTask> task_;  // of every client::Round
  bool keeps_records_ = false;
  std::map<uint64_t, client::Model> models_;            // by round
  std::map<uint32_t, std::unique_ptr<Active>> active_;  // clients in a round of several steps
  std::mutex mutex_;                                    // guards what follows
  std::vector<std::unique_ptr<Scratch>> idle_;
  // What devices keep from round to round, of those that have trained once.
  std::unordered_map<uint32_t, std::unique_ptr<client::DeviceState>> states_;
};

}  // namespace chorus::simulation
