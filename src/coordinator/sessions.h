// What the sessions of all tasks of one coordinator have in common: challenges, numbers, bounds,
// and for which tasks there is still something to do.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <utility>

#include "base/limits.h"
#include "base/random.h"
#include "chorus/aggregation.h"
#include "chorus/bytes.h"
#include "chorus/host.h"
#include "chorus/status.h"
#include "coordinator/admission.h"
#include "coordinator/pacing.h"
#include "coordinator/upload_turns.h"

namespace chorus::coordinator {

// The tasks of a coordinator have places, from 0 to kTasksMax - 1; a set of them is a mask of bits.
using TaskMask = uint64_t;
inline constexpr TaskMask kEveryTask = ~TaskMask{0};
inline TaskMask MaskOf(uint32_t place) { return TaskMask{1} << place; }
static_assert(limits::kTasksMax <= 64, "a set of tasks is a mask of bits");

struct SessionsOptions {
  Rng* rng = nullptr;  // used by the constructor only
  AdmissionParts admission = {};
  PacingOptions pacing = {.connected_max = 0};
  // Bounds; tests make them small.
  size_t sessions_max = 0;
  uint64_t uploads_in_flight_bytes_max = 0;
};

// Thread-compatible.
class Sessions {
 public:
  explicit Sessions(const SessionsOptions& options);

  // The door: thread-safe, unlike everything else here, and shared because other threads vet
  // check-ins there until they notice that the sessions are gone.
  std::shared_ptr<Admission> admission() { return admission_; }  // NOLINT(tidy): as it says.
  Pacing& pacing() { return pacing_; }
  UploadTurns& upload_turns() { return upload_turns_; }

  // The challenge of a session that ends before it is too old opens nothing again for its identity,
  // and neither does any that is older: with one of those an earlier session may have been opened.
  // Few end so early, and at a rate that the pacing sets; should there be more than there may be
  // sessions, the oldest are forgotten.
  void Spend(const PublicKey& identity, uint64_t challenge, Time now);
  bool Spent(const PublicKey& identity, uint64_t challenge) const;

  // An account has one session at a time, of whichever task. False when another identity has it.
  bool ClaimSubject(const Digest& subject, const PublicKey& identity);
  void FreeSubject(const Digest& subject) { subjects_.erase(subject); }

  // Opens a session: its number, which no other of this coordinator has or had.
  PartyId Open();
  void Close() { --open_; }
  size_t open() const { return open_; }
  bool full() const { return open_ >= options_.sessions_max; }

  // Memory of answers on their way in.
  bool HasRoomFor(uint64_t bytes) const {
    return in_flight_bytes_ + bytes <= options_.uploads_in_flight_bytes_max;
  }
  void Hold(uint64_t bytes) { in_flight_bytes_ += bytes; }
  void Release(uint64_t bytes) { in_flight_bytes_ -= bytes; }
  uint64_t held() const { return in_flight_bytes_; }
  // A number for a state of an answer that no other state of any answer has.
  uint64_t NewVersion() { return ++versions_; }

  TaskMask hosted = 0;
  TaskMask over = 0;    // complete, or stopped
  TaskMask paused = 0;  // begin no round
  // Several tasks share the clients: who waits is in a round only of the task that it is allotted
  // to.
  bool shared_out = false;

 private:
  const SessionsOptions options_;
  const std::shared_ptr<Admission> admission_;  // NOLINT(tidy): see admission().
  Pacing pacing_;
  UploadTurns upload_turns_{kUploadsAtATimeBytes};
  struct SpentUntil {
    Time until{};  // when the challenge is too old anyway
    PublicKey identity{};
    uint64_t challenge = 0;
  };

  std::map<PublicKey, uint64_t> spent_;  // of sessions that ended early, each identity's last
  std::deque<SpentUntil> spent_until_;
  std::map<Digest, PublicKey> subjects_;
  PartyId last_id_ = 0;
  size_t open_ = 0;
  uint64_t versions_ = 0;
  uint64_t in_flight_bytes_ = 0;  // that all answers on their way in hold
};

}  // namespace chorus::coordinator
