// The clients that have checked in: who they are, what waits for them, and what they are sending.
// Knows nothing of rounds; every bound on what a client can make the coordinator hold is kept here.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "aggregation/protocols.h"
#include "base/random.h"
#include "chorus/aggregation.h"
#include "chorus/bytes.h"
#include "chorus/host.h"
#include "chorus/status.h"
#include "coordinator/committee.h"
#include "coordinator/core.h"
#include "coordinator/standing.h"
#include "crypto/crypto.h"
#include "wire/wire.h"

namespace chorus::coordinator {

// What one Next gives.
using Item = decltype(wire::NextReply::what);

// An answer on its way in. Its memory grows with the bytes that came, never with those announced.
struct Upload {
  uint64_t sequence = 0;   // of the item that it answers
  uint64_t bytes_max = 0;  // longer is refused before it is received
  bool ready = false;      // it answers an invitation
  uint64_t total_bytes = 0;
  Digest sha256{};
  Bytes buffer;
  std::optional<crypto::Sha256Stream> hash;  // absent: nothing was announced so far
};

// The last answer that was complete, so that a repeat of it (its reply was lost) changes nothing.
struct Answered {
  uint64_t sequence = 0;
  uint64_t total_bytes = 0;
  Digest sha256{};
  Status outcome;
};

struct Party {
  PartyId id = 0;
  PublicKey identity{};
  uint64_t serial = 0;  // the issuer's number for it
  uint32_t member = 0;  // its place on the task's committee, from 1; 0: a client
  SecretBytes token;
  uint64_t challenge = 0;  // number of the challenge that opened the session; older ones are stale
  Time contact{};          // last call
  Time idle_since{};       // last call, or the end of its last round
  bool in_round = false;   // from the invitation until it has nothing more to do with the round

  uint64_t sequence = 0;                // of the latest item
  std::optional<wire::NextReply> item;  // the latest item, while not dealt with
  Bytes
      question;  // the latest question, where it is longer than a chunk; shorter ones are made anew
  Digest question_sha256{};  // of `question`
  Reply parked;              // a Next that waits; answered at parked_until at the latest
  uint64_t parked_done = 0;
  Time parked_until{};
  std::optional<Upload> upload;  // what may be sent now
  std::optional<Answered> answered;
};

// Payload bytes from and to clients in a round; the committee's are not counted.
struct Traffic {
  uint64_t up = 0;
  uint64_t down = 0;
};

struct Admission {
  wire::SessionToken session{};
  std::optional<PartyId> replaced;  // the same identity's older session, which is gone
};

// Whom to select for.
struct Selection {
  uint64_t round = 0;
  std::optional<uint64_t> experiment_seed;
};

struct PartiesOptions {
  PublicKey coordinator{};                     // what clients sign their check-in for
  const IdentityVerifier* verifier = nullptr;  // must outlive the object, as `rng`
  Rng* rng = nullptr;
  const Standing* standing = nullptr;    // null: nobody is held anything against; likewise
  const Committee* committee = nullptr;  // null: everybody is a client; likewise
  // Makes what a party is asked, whenever it is given to it.
  std::function<Result<Bytes>(PartyId)> question = nullptr;
  // Bounds; tests make them small.
  size_t sessions_max = 0;
  uint64_t uploads_in_flight_bytes_max = 0;
};

// Every open session. Thread-compatible. Pointers to a party stay valid until the party is removed:
// by its identity's next CheckIn, or by Forget.
class Parties {
 public:
  explicit Parties(const PartiesOptions& options);
  // Answers what is parked with kUnavailable.
  ~Parties();
  Parties(const Parties&) = delete;
  Parties& operator=(const Parties&) = delete;

  // A challenge holds its own number and time under a MAC, so a flood of them costs no memory.
  Digest NewChallenge(Time now);
  // kUnimplemented: another version; kUnauthenticated: a challenge that is not ours, is too old or
  // was used by this identity, evidence that does not vouch for the key, or a wrong signature;
  // kResourceExhausted: too many sessions.
  Result<Admission> CheckIn(const wire::CheckInRequest& request, Time now);
  // The party whose session this is; null when there is none. Notes the contact.
  Party* Authenticate(const wire::SessionToken& session, Time now);
  Party* Find(PartyId id);
  size_t size() const { return parties_.size(); }
  size_t clients() const;  // of these, not on the committee
  // Which of the committee have a session and called lately.
  std::vector<wire::CommitteeMember> CommitteeStatus(Time now) const;

  // Each makes its argument the party's next item, in place of the one before, and answers a parked
  // Next. What the party was sending for the item before is dropped.
  void Tell(Party& party, wire::RoundOver over);
  // Answered by an upload of at most so many bytes.
  void Ask(Party& party, wire::Invitation invitation, uint64_t answer_bytes_max);
  void Ask(Party& party, const chorus::Question& question);
  // Nothing is asked of the party any more: its step has closed.
  void Withdraw(Party& party);
  // Likewise, and it has nothing more to do with its round.
  void LeaveRound(Party& party, Time now);

  // Answers a Next now, or parks it. kInvalidArgument when `done` was never given.
  void Next(Party& party, uint64_t done, Time now, Reply reply);
  // Every later Next, and those parked, are told that the task is complete.
  void Complete();

  // Takes one chunk. True: the answer is whole and lies in party.upload->buffer, and the caller
  // gives its judgement to FinishUpload; what it answered is not given again. False: there is more
  // to come, or it was answered before; *received says how many bytes are held.
  Result<bool> Receive(Party& party, const wire::UploadRequest& request, uint64_t* received);
  void FinishUpload(Party& party, Status outcome);
  // Whether the request is, whole, another answer to what the party has answered last, while it is
  // asked nothing else. Only one that fits a request is looked at.
  bool Contradicts(const Party& party, const wire::UploadRequest& request) const;

  // A chunk of `body` from `offset` on; kOutOfRange at its end and beyond.
  Result<wire::DownloadReply> Chunk(const Party& party, BytesView body, uint64_t offset);

  // Ids, ascending, of those who are in no round, have no item to deal with, called lately, and are
  // not expelled.
  std::vector<PartyId> Waiting(Time now) const;
  // Likewise of the committee's members, who are none of those.
  std::vector<aggregation::CommitteeMember> WaitingMembers(Time now) const;
  // At most `count` of `waiting` (ascending ids): a uniform draw in a uniform order; or, in an
  // experiment, the first by a hash of its seed, the round and their issuer's number, whatever
  // order they came in. Who has strikes is drawn only when there are too few without, and then
  // stands among the others as anybody.
  std::vector<PartyId> Select(std::vector<PartyId> waiting, size_t count,
                              const Selection& selection);
  // Answers the parked calls that waited long enough, and forgets the sessions that were idle too
  // long.
  void Tick(Time now);
  Time NextTick() const;

  Traffic TakeTraffic() { return std::exchange(traffic_, {}); }

 private:
  void Shuffle(std::vector<PartyId>& ids, const Selection& selection);
  Status CheckChallenge(const Digest& challenge, Time now) const;
  Digest MakeChallenge(uint64_t number, Time now) const;
  Status RefuseUpload(const Party& party, const wire::UploadRequest& request) const;
  Status Append(Upload& upload, BytesView data);
  void Put(Party& party, Item what, std::optional<Upload> upload);
  void CloseUpload(Party& party);
  void AnswerParked(Party& party, Result<Bytes> answer);
  Result<Bytes> EncodeItem(Party& party);
  Result<wire::Question> MakeQuestion(Party& party);
  Bytes EncodeWait(uint64_t done) const;
  void Count(const Party& party, const Traffic& more);
  void Remove(PartyId id, Status why);

  PartiesOptions options_;
  SecretBytes challenge_key_;
  uint64_t challenges_ = 0;
  PartyId last_id_ = 0;
  std::map<PartyId, Party> parties_;
  std::map<PublicKey, PartyId> by_identity_;
  std::set<std::pair<Time, PartyId>> parked_;
  uint64_t in_flight_bytes_ = 0;  // capacity of all upload buffers
  Traffic traffic_;
  bool complete_ = false;
  Time next_sweep_{};
};

}  // namespace chorus::coordinator
