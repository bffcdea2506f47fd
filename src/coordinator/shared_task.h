// A task whose store other processes serve from too: the cohorts of one round run in several of
// them, and their sums meet in the store. This is what one process reads and writes there, each in
// one transaction, and what it knows since. Who may write what, and why nothing is counted twice
// whatever dies and whichever clock jumps, is in docs/decisions/0018-shared-store.md.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "chorus/aggregation.h"
#include "chorus/bytes.h"
#include "chorus/host.h"
#include "chorus/status.h"
#include "chorus/store.h"
#include "chorus/task.h"
#include "coordinator/cohort_record.h"
#include "coordinator/task_state.h"

namespace chorus::coordinator {

// A cohort whose lease is not renewed for so long has died with its process.
inline constexpr Time kLease{10'000};
inline constexpr Time kLeaseRenewal{3'000};
// While a process opens a sum it renews nothing: 1,000 clients of whom a third dropped out take a
// minute of one processor.
inline constexpr Time kOpeningLease{60'000};
// A process gives its cohorts up so long before their lease ends by its own clock.
inline constexpr Time kLeaseMargin{1'000};
inline constexpr Time kWatchEvery{200};
// Other processes may add cohorts to a round so long after it was opened; the task's
// deadlines.check_in where that is less.
inline constexpr Time kJoining{2'000};
// Who opened a round concludes it; others when it has not so long after it could.
inline constexpr Time kConclusionGrace{2'000};
// Who had a cohort in the last round lets others open the next one first.
inline constexpr Time kYield{400};
inline constexpr Time kProcessForgotten{600'000};

// A cohort that has ended in this process.
struct CohortEnd {
  uint32_t cohort = 0;
  Result<Sum> sum;
  CohortReport report;  // `began` is filled in
  std::vector<Evidence> evidence;
};

struct SharedTaskOptions {
  Store* store = nullptr;          // must outlive the object, as `task`
  const TaskSpec* task = nullptr;  // valid, and not buffered
  const Clock* clock = nullptr;    // must outlive the object; for how long the store took
  std::string process;             // a name that no other start of a process has
  std::string address;             // where clients reach it, its own; may be empty
  Retention retention = {};
};

// What may begin now.
struct Room {
  uint32_t cohorts = 0;       // at most so many; 0: nothing may
  uint32_t share = 0;         // of these, so many are a fair part among the processes
  std::optional<Time> until;  // they join a round that is open, and that until then
};

// Thread-compatible. A failure of the store changes nothing here.
class SharedTask {
 public:
  SharedTask(SharedTaskOptions options, const TaskState& state);

  const std::string& process() const { return options_.process; }

  // Reads how the task stands, renews leases and gives a sign of life when that is due, and brings
  // `state` up to date where another process has changed it. kNotFound: the task is gone.
  Status Look(TaskState& state, Time now);
  Time next_look() const { return next_look_; }
  void LookSoon(Time now) { next_look_ = std::min(next_look_, now); }
  // Whether the latest look found anything that bears on what may begin.
  bool TakeChanged() { return std::exchange(changed_, false); }
  // The rounds that have ended since this was last called, ascending.
  std::vector<RoundReport> TakeEnded() { return std::exchange(ended_, {}); }
  // Whether the round has ended, of which TakeEnded may have known nothing: its report is kept for
  // so many rounds only.
  bool IsOver(uint64_t round) const {
    return round <= rounds_seen_ || (open_ && open_->round > round);
  }

  Room RoomFor(const TaskRecord& record, Time now) const;
  // Whether the identity is in a cohort of the open round, as far as is known.
  bool Claimed(const PublicKey& identity) const { return claimed_.contains(identity); }
  bool alone() const { return live_processes_ <= 1; }  // no other process gives signs of life

  // The cohorts that begin here, those of `members` that there is room for.
  struct Opened {
    RoundReport report;  // of the round, with what this process adds to it
    uint32_t first = 0;  // the first cohort's number
    uint32_t cohorts = 0;
  };
  // Opens the next round with cohorts of these members, or adds them to the one that is open. None:
  // that cannot be now, because somebody is claimed already or the task has moved on; look again.
  Result<std::optional<Opened>> Open(const TaskState& state,
                                     std::span<const std::vector<PublicKey>> members, Time now);

  // Before a sum is opened: others wait for this process's cohorts for longer. Best effort.
  void ExtendLeases(Time now);

  // Notes how a cohort of this process ended, to be handed in. A failure: its sum is not one that
  // can count, and it ends with that.
  Status End(CohortEnd end);
  // Hands in what has ended. What comes back are cohorts whose end came too late, and why.
  std::vector<std::pair<uint32_t, Status>> HandIn(Time now);
  Time next_hand_in() const { return pending_.empty() ? Time::max() : hand_in_at_; }
  // Of the last transaction that would write: reading may go well on a disk that is full.
  const Status& trouble() const { return trouble_; }
  // When cohorts that this process has not ended are lost, unless a look comes first: it cannot be
  // told any more then whether others wait for them.
  Time lost_at() const { return own_.empty() ? Time::max() : leased_until_ - kLeaseMargin; }
  // Forgets what was not handed in; the cohorts' numbers.
  std::vector<uint32_t> GiveUp();

  // Whether the open round can be concluded, and it is this process's turn.
  bool Due(const TaskRecord& record, Time now);
  // Makes the next model of the sums that are there, and ends the round. Ok also when that was done
  // already, or cannot be done yet: look again.
  Status Conclude(const TaskState& state, Time now);

  // Gives up this process's cohorts and name, so that nobody waits for them. Best effort.
  void Leave();

 private:
  struct Ending {
    CohortRecord record;
    CohortReport report;
    Bytes sum;
    std::vector<Evidence> evidence;
  };
  // What a look has read.
  struct View {
    Time store_now{};
    std::vector<RoundReport> rounds;
    std::optional<RoundReport> open;
    std::vector<CohortRecord> cohorts;  // of the open round, ascending
    std::optional<uint32_t> live_processes;
    bool renewed = false;
  };
  // How long a cohort's lease has been seen unchanged.
  struct Watched {
    Time lease_until{};
    Time since{};
    Time patience{};  // it is taken for ended when it is not renewed for so long
  };

  Status Read(Transaction& transaction, View& view, bool renew) const;
  Status Renew(Transaction& transaction, View& view) const;
  void Adopt(View view, Time now);
  void Watch(Time now);
  bool JoiningIsOver(const std::vector<CohortRecord>& cohorts, Time store_now) const;
  bool Dead(const CohortRecord& cohort, Time store_now) const;
  Result<Opened> Claim(Transaction& transaction, TaskRecord record, const RoundReport* open,
                       std::span<const std::vector<PublicKey>> members,
                       std::vector<PublicKey>& taken) const;
  Status HandIn(Transaction& transaction, const Ending& ending, Status& refused) const;
  Status ConcludeIn(Transaction& transaction, const TaskState& state, RoundReport report) const;

  SharedTaskOptions options_;
  TaskId id_{};
  Time next_look_{};
  Time next_renewal_{};
  bool succeeded_ = false;  // to an earlier start of this process
  bool changed_ = true;
  uint64_t rounds_seen_ = 0;  // the last round whose end is known here
  std::vector<RoundReport> ended_;

  std::optional<RoundReport> open_;
  std::vector<CohortRecord> cohorts_;
  Time store_ahead_{};  // the store's time less ours, at the last look
  std::map<uint32_t, Watched> watched_;
  std::set<uint32_t> silent_;  // cohorts whose lease does not move
  std::optional<Time> due_since_;
  bool conclusion_failed_ = false;
  std::set<PublicKey> claimed_;
  uint32_t live_processes_ = 1;

  uint64_t own_round_ = 0;  // the last one that this process had cohorts in
  std::set<uint32_t> own_;  // those of its cohorts whose end is not in the store yet
  Time leased_until_{};     // theirs, by our clock
  std::vector<Ending> pending_;
  Time hand_in_at_{};
  Status trouble_;
};

}  // namespace chorus::coordinator
