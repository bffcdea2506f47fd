// The clients that have checked in: who they are, what waits for them, and what they are sending.
// Knows nothing of rounds; every bound on what a client can make the coordinator hold is kept here.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
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
#include "coordinator/allowance.h"
#include "coordinator/committee.h"
#include "coordinator/core.h"
#include "coordinator/incoming.h"
#include "coordinator/sessions.h"
#include "coordinator/standing.h"
#include "crypto/crypto.h"
#include "wire/wire.h"

namespace chorus::coordinator {

// What one Next gives.
using Item = decltype(wire::NextReply::what);

// An answer that is asked for.
struct Upload {
  uint64_t sequence = 0;   // of the item that it answers
  uint64_t bytes_max = 0;  // longer is refused before it is received
  bool ready = false;      // it answers an invitation
  uint64_t total_bytes = 0;
  Digest sha256{};
  Incoming answer;
  std::optional<crypto::Sha256Stream> hash;  // of it; absent: nothing was announced so far
  uint64_t version = 0;                      // of it: see Sessions
  Reply turn;                                // an announcement that waits for its turn to be sent
  Time turn_until{};                         // when it is told to announce it again
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
  std::optional<Digest> subject;   // of its session token, hashed: one session each
  std::optional<Time> token_ends;  // from then on it must check in with another
  uint64_t challenge = 0;  // number of the challenge that opened the session; older ones are stale
  Time contact{};          // last call
  Time idle_since{};       // last call, or the end of its last round
  bool in_round = false;   // from the invitation until it has nothing more to do with the round

  TaskMask serves = kEveryTask;  // the tasks that may invite it
  TaskMask refused = 0;          // of these, which it has declined lately
  Time refused_until{};
  bool allotted = false;  // to the task that it waits with: see Sessions::shared_out

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
  Allowance allowance;
};

// Payload bytes from and to clients in a round; the committee's are not counted.
struct Traffic {
  uint64_t up = 0;
  uint64_t down = 0;
};

struct Admitted {
  wire::SessionToken session{};
  std::optional<PartyId> replaced;  // the same identity's older session, which is gone
};

// Whom to select for.
struct Selection {
  uint64_t round = 0;
  std::optional<uint64_t> experiment_seed;
};

struct PartiesOptions {
  Sessions* sessions = nullptr;  // null: its own; must outlive the object, as all pointers here
  uint32_t place = 0;            // of the task, among those that share the sessions
  PublicKey coordinator{};       // what clients sign their check-in for
  const IdentityVerifier* verifier = nullptr;
  Rng* rng = nullptr;
  const Clock* clock = nullptr;  // for session tokens; null: none are asked for
  // Of its own sessions, as the bounds below.
  AdmissionOptions admission = {.identity = {}, .subject = {}, .address = {}};
  PacingOptions pacing = {.connected_max = 0};
  const Standing* standing = nullptr;    // null: nobody is held anything against
  const Committee* committee = nullptr;  // null: everybody is a client
  // Makes what a party is asked, whenever it is given to it.
  std::function<Result<Bytes>(PartyId)> question = nullptr;
  // Bounds of its own sessions; tests make them small.
  size_t sessions_max = 0;
  uint64_t uploads_in_flight_bytes_max = 0;
};

// Every session that waits with one task, or is in its round. Thread-compatible. Pointers to a
// party stay valid until the party is removed: by its identity's next CheckIn, or by Forget.
class Parties {
 public:
  explicit Parties(const PartiesOptions& options);
  // Answers what is parked with kUnavailable.
  ~Parties();
  Parties(const Parties&) = delete;
  Parties& operator=(const Parties&) = delete;

  std::shared_ptr<Admission> admission() { return sessions_.admission(); }  // NOLINT(tidy): core.h.
  Pacing& pacing() { return sessions_.pacing(); }
  Digest NewChallenge(Time now) { return sessions_.admission()->NewChallenge(now); }
  // Opens a session for whom `admission` let through. kUnauthenticated: the challenge was used by
  // this identity; kAlreadyExists: another identity has a session with this token's subject;
  // kResourceExhausted: too many sessions.
  Result<Admitted> Admit(const Vetted& vetted, Time now);
  // Both in one.
  Result<Admitted> CheckIn(const wire::CheckInRequest& request, Time now);
  // The number of the party whose session this would be.
  static PartyId IdIn(const wire::SessionToken& session);
  // The party whose session this is; null when there is none. Notes the contact.
  Party* Authenticate(const wire::SessionToken& session, Time now);
  Party* Find(PartyId id);
  Party* FindIdentity(const PublicKey& identity);
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

  // Answers a Next now, or parks it. kInvalidArgument when `done` was never given. A client for
  // whom there is nothing to do, and no place to wait, is sent away and its session forgotten: then
  // the party is gone.
  void Next(Party& party, uint64_t done, Time now, Reply reply);
  // The task is complete. Every later Next of parties that serve no other, and those parked, are
  // told.
  void Complete();
  // While the task is paused, parties that serve no other are told to come back later.
  void Pause(bool paused);
  // Answers those parked that have nothing to wait for, after a change to any task.
  void AnswerResting();
  // The party has declined this task, and is rather given another for some time.
  void NoteRefusal(Party& party, Time now);

  // Every party, by id.
  template <typename Function>
  void ForEach(Function function) {
    for (auto& [id, party] : parties_) function(party);
  }
  // Whether it may be invited, by whichever task it serves: it is in no round, has no item to deal
  // with, called lately, and is not expelled.
  bool Free(const Party& party, Time now) const;
  // Whether it called lately, or is in a round.
  bool Present(const Party& party, Time now) const;
  // Hands a free party over to another task's parties: its session goes on.
  Party Release(PartyId id);
  void Adopt(Party party);

  // Takes one chunk. True: the answer is whole and lies in party.upload->answer, and the caller
  // gives its judgement to FinishUpload; what it answered is not given again. False: there is more
  // to come, or it was answered before; *received says how many bytes are held. kResourceExhausted:
  // as many answers are coming in as should, and this one is told when to be sent again.
  Result<bool> Receive(Party& party, UploadCall& call, uint64_t* received);
  // What to hash of the call, if it looks as if Receive will take its chunk next: nothing is
  // changed but call.ahead, which the share works on and Receive then finds.
  std::optional<crypto::Sha256Stream::Share> AheadOf(UploadCall& call) const;
  void FinishUpload(Party& party, Status outcome);
  // An answer is announced by a chunk without any bytes, so that none are sent in vain. True: it
  // must wait for its turn, and what was moved into `reply` is answered then, or in kTurnParked.
  bool WaitForTurn(Party& party, const wire::UploadChunk& request, Reply& reply);
  // Tells those who wait for their turn and may begin now.
  void GiveTurns(Time now);
  // Whether the request is, whole, another answer to what the party has answered last, while it is
  // asked nothing else. Only one that fits a request is looked at.
  bool Contradicts(const Party& party, const wire::UploadChunk& request) const;

  // A chunk of `body` from `offset` on; kOutOfRange at its end and beyond.
  Result<wire::DownloadReply> Chunk(const Party& party, BytesView body,
                                    const wire::DownloadRequest& asked);

  // Ids, ascending, of those who are in no round, have no item to deal with, called lately, and are
  // not expelled.
  std::vector<PartyId> Waiting(Time now) const;
  // Likewise of the committee's members, who are none of those.
  std::vector<aggregation::CommitteeMember> WaitingMembers(Time now) const;
  // How many clients wait, or are in no round and have called so lately that they will.
  size_t Here(Time now, Time lately) const;
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

  const Traffic& traffic() const { return traffic_; }  // since it was last taken
  Traffic TakeTraffic() { return std::exchange(traffic_, {}); }

 private:
  void Shuffle(std::vector<PartyId>& ids, const Selection& selection);
  Status RefuseUpload(const Party& party, const wire::UploadChunk& request) const;
  Status Append(Upload& upload, UploadCall& call);
  void Put(Party& party, Item what, std::optional<Upload> upload);
  void CloseUpload(Party& party);
  void BeginUpload(Upload& upload, Time now);
  void AnswerParked(Party& party, Result<Bytes> answer);
  Result<Bytes> EncodeItem(Party& party);
  Result<wire::Question> MakeQuestion(Party& party);
  bool Over(const Party& party) const;
  bool Resting(const Party& party) const;
  Bytes EncodeWait(const Party& party, uint64_t done) const;
  void Count(const Party& party, const Traffic& more);
  void Remove(PartyId id, Status why);
  void RemoveEarly(const Party& party, Time now, Status why);
  void EndExpired(Time now);

  PartiesOptions options_;
  const std::unique_ptr<Sessions> own_sessions_;
  Sessions& sessions_;
  std::map<PartyId, Party> parties_;
  std::map<PublicKey, PartyId> by_identity_;
  std::set<std::pair<Time, PartyId>> parked_;
  std::deque<PartyId> turns_wanted_;  // in the order in which they came
  Traffic traffic_;
  Time next_sweep_{};
  Time next_turns_{};
};

}  // namespace chorus::coordinator
