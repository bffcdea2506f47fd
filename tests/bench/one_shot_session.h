// Whole sessions of OneShot over the in-memory transport: every client encrypts and deals for real,
// every committee member checks and opens for real. A client lives for its one message, a few of
// them at a time, so that nobody but the server holds what they sent.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "aggregation/one_shot.h"
#include "base/parallel.h"
#include "chorus/status.h"
#include "parties.h"

namespace chorus::bench {

struct OneShotShape {
  uint32_t clients = 0;
  uint64_t dim = 0;
  int bits = 0;
  uint64_t bound = 0;
};

struct OneShotCosts {
  double wall_seconds = 0;  // from the first client's question to the sum
  // Of the server, CPU, of each step: its questions, its answers and its close.
  std::array<double, 5> step_seconds{};
  double open_seconds = 0;    // of the server, CPU, from the last close to the sum
  double client_seconds = 0;  // CPU, the mean
  double member_seconds = 0;  // likewise
  size_t server_bytes = 0;    // of memory, at the peak
  size_t member_bytes = 0;    // likewise, of the member with most
  uint64_t bytes_up = 0;      // by a client
  uint64_t bytes_down = 0;
  uint64_t wrong_values = 0;  // of the sum, against adding the plain vectors
};

// A committee of 128 at gamma .10 and delta .10, and any number of clients. Thread-compatible.
class OneShotSession {
 public:
  explicit OneShotSession(const OneShotShape& shape);

  // Until the committee has given its keys, so that clients can be asked.
  Status Begin();
  // Of a client that is asked now: its question, itself, and what the server says of its answer.
  Result<Bytes> Question(PartyId client) { return aggregator_->Body(client); }
  Result<std::unique_ptr<Contributor>> NewClient(PartyId client, RingVector input) const;
  Status Hear(PartyId client, BytesView answer) { return aggregator_->Hear(client, answer); }

  // What follows Begin, to the end. An error when the session fails; a wrong sum is counted.
  Result<OneShotCosts> Finish();

  // Anything within the bound, of this client's own.
  RingVector InputOf(PartyId client) const;
  // Of the session that was begun.
  const aggregation::SessionParams& params() const { return params_; }

 private:
  struct Member {
    Account& account = OpenAccount();
    double seconds = 0;
    std::unique_ptr<Contributor> contributor;
  };
  // A question on its way to a party and the answer to it.
  struct Exchange {
    PartyId party = 0;
    Bytes question;
    RingVector input;  // of a client
    Bytes answer;
    Status status;
    double seconds = 0;  // CPU, of a client
  };

  Status Ask();
  Status AskAll();  // who was asked in this step, and closes it
  Status Carry(std::span<const PartyId> parties);
  Status AnswerAsClient(Exchange& exchange) const;
  Status AnswerAsMember(Exchange& exchange);
  void NoteClient(const Exchange& exchange);
  uint64_t WrongValues(const Sum& sum) const;

  OneShotShape shape_;
  aggregation::SessionParams params_;
  AnyIdentity verifier_;
  std::unique_ptr<Rng> rng_;
  SecretBytes signing_seed_;
  std::vector<SecretBytes> client_seeds_;
  std::vector<SecretBytes> member_seeds_;
  std::vector<PublicKey> committee_ids_;
  std::vector<Member> members_;
  std::vector<int64_t> plain_sum_;  // [dim]
  Account& server_ = OpenAccount();
  size_t step_ = 0;
  std::vector<PartyId> asked_;
  OneShotCosts costs_;
  std::unique_ptr<Aggregator> aggregator_;
  ThreadPool threads_{2};
};

}  // namespace chorus::bench
