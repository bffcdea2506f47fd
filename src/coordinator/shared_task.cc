#include "coordinator/shared_task.h"

#include <algorithm>
#include <iterator>

#include "base/limits.h"
#include "coordinator/processes.h"
#include "crypto/crypto.h"

namespace chorus::coordinator {
namespace {

// Where the store's clock has gone back a lease ends late by it; so long without a renewal, by a
// clock that never goes back, is an end as well.
constexpr Time kSilenceMax = kLease * 2;
constexpr Time kOpeningSilenceMax = kOpeningLease + kLease;

bool IsOpen(const RoundReport& round) { return round.state == RoundState::kOpen; }

// The round in which cohorts may be, with what is known of it; none when it has ended.
Result<std::optional<RoundReport>> OpenRound(Transaction& transaction, const TaskRecord& record) {
  CHORUS_TRY_ASSIGN(std::vector<RoundReport> rounds,
                    transaction.Rounds(record.id, record.rounds_begun, 1));
  std::optional<RoundReport> open;
  if (!rounds.empty() && rounds.front().round == record.rounds_begun && IsOpen(rounds.front())) {
    open = std::move(rounds.front());
  }
  return open;
}

Result<TaskRecord> RecordIn(Transaction& transaction, const TaskId& id) {
  CHORUS_TRY_ASSIGN(std::optional<TaskRecord> record, transaction.FindTask(id));
  if (!record) return NotFound("the task is gone from the store; restart the coordinator");
  return *std::move(record);
}

Time Joining(const TaskSpec& task) { return std::min(kJoining, task.deadlines.check_in); }

bool Running(const TaskSpec& task, const TaskRecord& record) {
  return record.mode == TaskMode::kRunning && record.rounds_committed < task.rounds;
}

// Whether what was computed from the one record still goes on from the other.
bool SameModel(const TaskRecord& a, const TaskRecord& b) {
  return a.model == b.model && a.server_state == b.server_state &&
         a.rounds_committed == b.rounds_committed;
}

void AddTo(RoundReport& report, const CohortReport& cohort) {
  report.invited += cohort.invited;
  report.refused += cohort.refused;
  report.bytes_up += cohort.bytes_up;
  report.bytes_down += cohort.bytes_down;
  report.dropouts.resize(std::max(report.dropouts.size(), cohort.dropouts.size()));
  for (size_t i = 0; i < cohort.dropouts.size(); ++i) report.dropouts[i] += cohort.dropouts[i];
}

// The ends of a round's cohorts, as they are stored.
struct Ends {
  explicit Ends(const TaskSpec& task) : sums(task) {}

  CohortSums sums;
  std::vector<Digest> contents;  // of the sums
  uint32_t cohorts = 0;
  Status first_failure;
  Status damage;  // a sum that was handed in and cannot be read

  void Fail(Status why) {
    if (first_failure.ok()) first_failure = std::move(why);
  }
  // Who gave to a sum was told that it is kept, so a round goes with all of its sums or with none.
  Result<NextModel> Next(const TaskSpec& task, const ServerState& state,
                         RoundReport& report) const {
    CHORUS_TRY(damage);
    if (sums.count() > 0) return ComputeNext(task, state, sums, report);
    if (cohorts == 0) return Aborted("the round has no cohort");
    if (cohorts == 1) return first_failure;
    return Status(first_failure.code(),
                  "none of " + std::to_string(cohorts) +
                      " cohorts made a sum; the first: " + first_failure.message());
  }
};

Status ReadSum(Transaction& transaction, const TaskSpec& task, const CohortName& name,
               const Digest& content, Result<Sum>& sum) {
  const Result<Bytes> bytes = transaction.GetModel(content);
  const Code code = bytes.status().code();
  if (code == Code::kNotFound || code == Code::kDataLoss) {
    sum = bytes.status();
    return OkStatus();
  }
  CHORUS_TRY(bytes.status());
  sum = DecodeSum(task, name, *bytes);
  return OkStatus();
}

}  // namespace

SharedTask::SharedTask(SharedTaskOptions options, const TaskState& state)
    : options_(std::move(options)), id_(state.record.id), rounds_seen_(state.rounds_ended) {}

// --- looking ---

Status SharedTask::Look(TaskState& state, Time now) {
  const bool renew = now >= next_renewal_;
  next_look_ = now + kWatchEvery;
  View view;
  std::optional<TaskState> moved;
  TaskRecord record;
  const auto look = [&](Transaction& transaction) -> Status {
    view = {};
    moved.reset();
    CHORUS_TRY_ASSIGN(record, RecordIn(transaction, id_));
    if (!SameModel(record, state.record)) {
      CHORUS_TRY_ASSIGN(moved, LoadState(transaction, *options_.task, record));
    }
    return Read(transaction, view, renew);
  };
  if (Status looked = options_.store->RunTransaction("look", look); !looked.ok()) {
    // Counted from when it was given up: a store that cannot be reached may take seconds to say so.
    next_look_ = options_.clock->Now() + kStoreRetry;
    return looked;
  }
  if (record.mode != state.record.mode || moved) changed_ = true;
  if (moved) state = *std::move(moved);
  state.record = std::move(record);
  if (view.renewed) {
    succeeded_ = true;
    next_renewal_ = now + kLeaseRenewal;
    leased_until_ = now + kLease;
    // What waits to be written may be larger than a sign of life, and still not have room.
    if (pending_.empty() && !conclusion_failed_) trouble_ = OkStatus();
  }
  Adopt(std::move(view), now);
  // Nothing moves in a task that is complete.
  if (state.record.rounds_committed >= options_.task->rounds) next_look_ = now + kLeaseRenewal;
  return OkStatus();
}

Status SharedTask::Read(Transaction& transaction, View& view, bool renew) const {
  CHORUS_TRY_ASSIGN(view.store_now, transaction.Now());
  CHORUS_TRY_ASSIGN(view.rounds,
                    transaction.Rounds(id_, rounds_seen_ + 1, limits::kStatusRoundsMax));
  if (!view.rounds.empty() && IsOpen(view.rounds.back())) {
    view.open = std::move(view.rounds.back());
    view.rounds.pop_back();
    CHORUS_TRY_ASSIGN(view.cohorts, transaction.CohortsOf(id_, view.open->round));
  }
  const bool lapsed =
      std::any_of(view.cohorts.begin(), view.cohorts.end(), [&](const CohortRecord& cohort) {
        return cohort.process == options_.process && cohort.state == CohortState::kOpen &&
               view.store_now > cohort.lease_until;
      });
  return renew || lapsed ? Renew(transaction, view) : OkStatus();
}

// A lease that has lapsed is renewed as well: nobody has ended the round without this cohort yet,
// and who does so sees this or is seen. A cohort that this process does not know began in a
// transaction whose reply was lost, and nobody runs it.
Status SharedTask::Renew(Transaction& transaction, View& view) const {
  if (!succeeded_) {
    const Successor successor{.name = options_.process, .address = options_.address};
    CHORUS_TRY(SucceedTo(successor, id_, view.cohorts, transaction));
  }
  for (CohortRecord& cohort : view.cohorts) {
    if (cohort.process != options_.process || cohort.state != CohortState::kOpen) continue;
    if (own_.contains(cohort.cohort) && view.open->round == own_round_) {
      cohort.lease_until = view.store_now + kLease;
    } else {
      FailCohort(cohort, "its process was out of touch with the store");
    }
    CHORUS_TRY(transaction.PutCohort(id_, cohort));
  }
  CHORUS_TRY(transaction.PutProcess(
      {.name = options_.process, .address = options_.address, .seen = view.store_now}));
  CHORUS_TRY_ASSIGN(const std::vector<ProcessRecord> processes, transaction.Processes());
  uint32_t live = 0;
  for (const ProcessRecord& process : processes) {
    const Time age = view.store_now - process.seen;
    if (age > kProcessForgotten) CHORUS_TRY(transaction.DropProcess(process.name));
    if (age <= kLease) ++live;
  }
  view.live_processes = std::max(live, 1U);
  view.renewed = true;
  return OkStatus();
}

void SharedTask::Adopt(View view, Time now) {
  store_ahead_ = view.store_now - now;
  if (view.live_processes && *view.live_processes != live_processes_) changed_ = true;
  live_processes_ = view.live_processes.value_or(live_processes_);
  if (!view.rounds.empty()) {
    rounds_seen_ = view.rounds.back().round;
    changed_ = true;
    std::move(view.rounds.begin(), view.rounds.end(), std::back_inserter(ended_));
  }
  const bool same = open_ && view.open && open_->round == view.open->round;
  if (!same) {
    changed_ = changed_ || open_ || view.open;
    claimed_.clear();
    watched_.clear();
    due_since_.reset();
    conclusion_failed_ = false;
  }
  if (!view.open || view.open->round != own_round_) own_.clear();
  changed_ = changed_ || view.cohorts.size() != cohorts_.size();
  open_ = std::move(view.open);
  cohorts_ = std::move(view.cohorts);
  Watch(now);
}

void SharedTask::Watch(Time now) {
  silent_.clear();
  for (const CohortRecord& cohort : cohorts_) {
    Watched& watched = watched_[cohort.cohort];
    if (watched.since == Time{} || watched.lease_until != cohort.lease_until) {
      const Time left = cohort.lease_until - (now + store_ahead_);
      watched = {.lease_until = cohort.lease_until,
                 .since = now,
                 .patience = std::clamp(left + kLease, kSilenceMax, kOpeningSilenceMax)};
    }
    if (now - watched.since >= watched.patience) silent_.insert(cohort.cohort);
  }
}

// --- what may begin ---

bool SharedTask::JoiningIsOver(const std::vector<CohortRecord>& cohorts, Time store_now) const {
  if (cohorts.empty() || cohorts.size() >= options_.task->cohort.parallel) return true;
  const Time opened = ReportOf(cohorts.front()).began;
  return store_now < opened || store_now >= opened + Joining(*options_.task);
}

Room SharedTask::RoomFor(const TaskRecord& record, Time now) const {
  Room room;
  // What has ended here is to be in the store before anything else begins here.
  if (!Running(*options_.task, record) || !pending_.empty()) return room;
  const uint32_t parallel = options_.task->cohort.parallel;
  room.share = (parallel + live_processes_ - 1) / live_processes_;
  room.cohorts = parallel;
  if (open_) {
    const bool here = std::any_of(
        cohorts_.begin(), cohorts_.end(),
        [this](const CohortRecord& cohort) { return cohort.process == options_.process; });
    if (here || JoiningIsOver(cohorts_, now + store_ahead_)) return {};
    room.cohorts -= static_cast<uint32_t>(cohorts_.size());
    // A look earlier, since it takes a transaction.
    const Time opened = ReportOf(cohorts_.front()).began;
    room.until = opened + Joining(*options_.task) - store_ahead_ - kWatchEvery;
  }
  room.share = std::min(room.share, room.cohorts);
  return room;
}

Result<std::optional<SharedTask::Opened>> SharedTask::Open(
    const TaskState& state, std::span<const std::vector<PublicKey>> members, Time now) {
  std::optional<Opened> opened;
  std::vector<PublicKey> taken;
  bool moved_on = false;
  const Status status =
      options_.store->RunTransaction("begin round", [&](Transaction& transaction) {
        opened.reset();
        taken.clear();
        moved_on = false;
        CHORUS_TRY_ASSIGN(TaskRecord record, RecordIn(transaction, id_));
        CHORUS_TRY_ASSIGN(std::optional<RoundReport> open, OpenRound(transaction, record));
        moved_on = !Running(*options_.task, record) || !SameModel(record, state.record) ||
                   record.rounds_begun < rounds_seen_;
        if (moved_on) return Aborted("the task has moved on");
        Result<Opened> claimed =
            Claim(transaction, std::move(record), open ? &*open : nullptr, members, taken);
        // What was claimed beside those who are taken is given back.
        moved_on = !claimed.ok() && claimed.status().code() == Code::kFailedPrecondition;
        if (!claimed.ok()) return claimed.status();
        opened = *std::move(claimed);
        return taken.empty() ? OkStatus() : Aborted("somebody is in another cohort of the round");
      });
  if (!taken.empty() || moved_on) {
    claimed_.insert(taken.begin(), taken.end());
    LookSoon(now);
    return std::optional<Opened>();
  }
  trouble_ = status;
  CHORUS_TRY(status);
  const uint32_t end = opened->first + opened->cohorts;
  own_.clear();
  for (uint32_t cohort = opened->first; cohort < end; ++cohort) own_.insert(cohort);
  own_round_ = opened->report.round;
  leased_until_ = now + kLease;
  return opened;
}

// kFailedPrecondition: nobody can join the round any more.
Result<SharedTask::Opened> SharedTask::Claim(Transaction& transaction, TaskRecord record,
                                             const RoundReport* open,
                                             std::span<const std::vector<PublicKey>> members,
                                             std::vector<PublicKey>& taken) const {
  CHORUS_TRY_ASSIGN(const Time store_now, transaction.Now());
  Opened opened;
  size_t before = 0;
  if (open != nullptr) {
    CHORUS_TRY_ASSIGN(const std::vector<CohortRecord> cohorts,
                      transaction.CohortsOf(id_, open->round));
    if (JoiningIsOver(cohorts, store_now)) {
      return FailedPrecondition("the round is not open for joining any more");
    }
    before = cohorts.size();
    opened.report = *open;
  } else {
    ++record.rounds_begun;
    opened.report.round = record.rounds_begun;
    opened.report.model = record.model;
    opened.report.cohorts = 0;
    CHORUS_TRY(transaction.PutTask(record));
  }
  opened.first = static_cast<uint32_t>(before) + 1;
  const size_t room = options_.task->cohort.parallel - before;
  opened.cohorts = static_cast<uint32_t>(std::min(members.size(), room));
  opened.report.cohorts += opened.cohorts;
  for (uint32_t i = 0; i < opened.cohorts; ++i) {
    const std::vector<PublicKey>& all = members[i];
    const uint32_t cohort = opened.first + i;
    CHORUS_TRY_ASSIGN(const std::vector<PublicKey> got,
                      transaction.ClaimIdentities(id_, opened.report.round, cohort, all));
    const std::set<PublicKey> free(got.begin(), got.end());
    std::copy_if(all.begin(), all.end(), std::back_inserter(taken),
                 [&free](const PublicKey& one) { return !free.contains(one); });
    CohortReport report;
    report.began = store_now;
    report.invited = static_cast<uint32_t>(all.size());
    opened.report.invited += report.invited;
    CHORUS_TRY(transaction.PutCohort(id_, {.round = opened.report.round,
                                           .cohort = cohort,
                                           .process = options_.process,
                                           .lease_until = store_now + kLease,
                                           .state = CohortState::kOpen,
                                           .report = EncodeCohortReport(report)}));
  }
  CHORUS_TRY(transaction.PutRound(id_, opened.report));
  return opened;
}

// --- how a cohort ends ---

void SharedTask::ExtendLeases(Time now) {
  const auto extend = [&](Transaction& transaction) -> Status {
    CHORUS_TRY_ASSIGN(const Time store_now, transaction.Now());
    CHORUS_TRY_ASSIGN(std::vector<CohortRecord> cohorts, transaction.CohortsOf(id_, own_round_));
    for (CohortRecord& cohort : cohorts) {
      if (cohort.process != options_.process || cohort.state != CohortState::kOpen) continue;
      cohort.lease_until = store_now + kOpeningLease;
      CHORUS_TRY(transaction.PutCohort(id_, cohort));
    }
    return OkStatus();
  };
  if (options_.store->RunTransaction("extend leases", extend).ok()) {
    leased_until_ = now + kOpeningLease;
  }
}

Status SharedTask::End(CohortEnd end) {
  Ending ending{.record = {}, .report = std::move(end.report), .sum = {}, .evidence = {}};
  ending.evidence = std::move(end.evidence);
  ending.record.cohort = end.cohort;
  ending.record.round = own_round_;
  Status verdict = end.sum.status();
  if (verdict.ok()) {
    const CohortName name{.task = id_, .round = ending.record.round, .cohort = end.cohort};
    Result<Bytes> sum = EncodeSum(*options_.task, name, *end.sum);
    verdict = sum.status();
    if (sum.ok()) ending.sum = *std::move(sum);
  }
  ending.record.state = verdict.ok() ? CohortState::kSummed : CohortState::kFailed;
  if (verdict.ok()) ending.record.sum = crypto::Sha256(ending.sum);
  ending.report.code = verdict.code();
  ending.report.reason = verdict.message();
  pending_.push_back(std::move(ending));
  return verdict;
}

std::vector<std::pair<uint32_t, Status>> SharedTask::HandIn(Time now) {
  std::vector<std::pair<uint32_t, Status>> late;
  while (!pending_.empty()) {
    const Ending& ending = pending_.front();
    Status refused;
    trouble_ = options_.store->RunTransaction("end cohort", [&](Transaction& transaction) {
      refused = OkStatus();
      return HandIn(transaction, ending, refused);
    });
    if (!trouble_.ok()) {
      hand_in_at_ = options_.clock->Now() + kStoreRetry;
      return late;
    }
    own_.erase(ending.record.cohort);
    if (!refused.ok()) late.emplace_back(ending.record.cohort, refused);
    pending_.erase(pending_.begin());
    LookSoon(now);
  }
  return late;
}

// The only way in which a sum comes into the store: in a round that is open, by the cohort's own
// process, once. A lease that has lapsed meanwhile is no hindrance: nobody has ended the round
// without this cohort.
Status SharedTask::HandIn(Transaction& transaction, const Ending& ending, Status& refused) const {
  CHORUS_TRY_ASSIGN(const TaskRecord record, RecordIn(transaction, id_));
  CHORUS_TRY_ASSIGN(const std::optional<RoundReport> open, OpenRound(transaction, record));
  if (!open || open->round != ending.record.round) {
    refused = Status(Code::kDeadlineExceeded, "the round was over before this client's cohort");
    return OkStatus();
  }
  CHORUS_TRY_ASSIGN(const std::vector<CohortRecord> cohorts,
                    transaction.CohortsOf(id_, open->round));
  const auto mine = std::find_if(cohorts.begin(), cohorts.end(), [&](const CohortRecord& cohort) {
    return cohort.cohort == ending.record.cohort && cohort.process == options_.process;
  });
  if (mine == cohorts.end()) {
    refused = Unavailable("this client's cohort is gone from the store");
    return OkStatus();
  }
  if (mine->state != CohortState::kOpen) {
    // Done already, in a transaction whose reply was lost.
    if (mine->state == ending.record.state && mine->sum == ending.record.sum) return OkStatus();
    refused = Unavailable("this client's cohort was given up by its coordinator");
    return OkStatus();
  }
  CohortReport report = ending.report;
  report.began = ReportOf(*mine).began;
  CohortRecord ended = *mine;
  ended.state = ending.record.state;
  ended.sum = ending.record.sum;
  ended.report = EncodeCohortReport(report);
  if (!ending.sum.empty()) CHORUS_TRY(transaction.PutModel(ended.sum, ending.sum));
  for (const Evidence& evidence : ending.evidence) {
    CHORUS_TRY(transaction.PutEvidence(id_, evidence));
  }
  return transaction.PutCohort(id_, ended);
}

std::vector<uint32_t> SharedTask::GiveUp() {
  std::vector<uint32_t> given_up;
  for (const Ending& ending : pending_) given_up.push_back(ending.record.cohort);
  pending_.clear();
  own_.clear();
  return given_up;
}

void SharedTask::Leave() {
  const auto leave = [&](Transaction& transaction) -> Status {
    CHORUS_TRY_ASSIGN(const TaskRecord record, RecordIn(transaction, id_));
    CHORUS_TRY_ASSIGN(std::vector<CohortRecord> cohorts,
                      transaction.CohortsOf(id_, record.rounds_begun));
    for (CohortRecord& cohort : cohorts) {
      if (cohort.process != options_.process || cohort.state != CohortState::kOpen) continue;
      FailCohort(cohort, "its process was stopped");
      CHORUS_TRY(transaction.PutCohort(id_, cohort));
    }
    return transaction.DropProcess(options_.process);
  };
  // Where this fails the leases end by themselves.
  static_cast<void>(options_.store->RunTransaction("leave", leave));
}

// --- how a round ends ---

bool SharedTask::Dead(const CohortRecord& cohort, Time store_now) const {
  if (cohort.state != CohortState::kOpen) return false;
  if (store_now > cohort.lease_until) return true;
  // It has moved since it was found silent.
  const auto watched = watched_.find(cohort.cohort);
  return silent_.contains(cohort.cohort) && watched != watched_.end() &&
         watched->second.lease_until == cohort.lease_until;
}

bool SharedTask::Due(const TaskRecord& record, Time now) {
  if (!open_) return false;
  const Time store_now = now + store_ahead_;
  const bool all_ended =
      std::all_of(cohorts_.begin(), cohorts_.end(), [&](const CohortRecord& cohort) {
        return cohort.state != CohortState::kOpen || Dead(cohort, store_now);
      });
  std::set<std::string_view> here;
  for (const CohortRecord& cohort : cohorts_) here.insert(cohort.process);
  const bool joining = !JoiningIsOver(cohorts_, store_now) && here.size() < live_processes_ &&
                       Running(*options_.task, record);
  const bool stopped = record.mode == TaskMode::kStopped;
  if (!stopped && (!all_ended || joining)) {
    due_since_.reset();
    return false;
  }
  if (!due_since_) due_since_ = now;
  const bool opener = !cohorts_.empty() && cohorts_.front().process == options_.process;
  return opener || alone() || now - *due_since_ >= kConclusionGrace;
}

Status SharedTask::Conclude(const TaskState& state, Time now) {
  if (!open_) return OkStatus();
  const uint64_t round = open_->round;
  const Status status =
      options_.store->RunTransaction("commit round", [&](Transaction& transaction) -> Status {
        CHORUS_TRY_ASSIGN(const TaskRecord record, RecordIn(transaction, id_));
        CHORUS_TRY_ASSIGN(std::optional<RoundReport> open, OpenRound(transaction, record));
        // Another process was first, or the model is not the one that is known here.
        if (!open || open->round != round || !SameModel(record, state.record)) return OkStatus();
        TaskState current;
        current.record = record;
        current.server = state.server;
        return ConcludeIn(transaction, current, *std::move(open));
      });
  // A look that finds the round over follows at once, and after a failure no sooner than is useful.
  next_look_ = status.ok() ? now : options_.clock->Now() + kStoreRetry;
  trouble_ = status;
  conclusion_failed_ = !status.ok();
  return status;
}

// Everything that the outcome depends on is read here, so that whoever concludes the round comes to
// the same; and of two who try, the store lets one commit.
Status SharedTask::ConcludeIn(Transaction& transaction, const TaskState& state,
                              RoundReport report) const {
  const TaskSpec& task = *options_.task;
  const bool stopped = state.record.mode == TaskMode::kStopped;
  CHORUS_TRY_ASSIGN(const Time store_now, transaction.Now());
  CHORUS_TRY_ASSIGN(const std::vector<CohortRecord> cohorts,
                    transaction.CohortsOf(id_, report.round));
  Ends ends(task);
  ends.cohorts = static_cast<uint32_t>(cohorts.size());
  report.cohorts = std::max(ends.cohorts, 1U);
  report.invited = 0;
  for (const CohortRecord& cohort : cohorts) {
    const CohortReport said = ReportOf(cohort);
    AddTo(report, said);
    const Time took = std::max(store_now - said.began, Time{0});
    report.duration_ms = std::max(report.duration_ms, static_cast<uint64_t>(took.count()));
    if (cohort.state == CohortState::kSummed) {
      const CohortName name{.task = id_, .round = report.round, .cohort = cohort.cohort};
      Result<Sum> sum = Sum();
      CHORUS_TRY(ReadSum(transaction, task, name, cohort.sum, sum));
      Status added = sum.status();
      if (added.ok()) added = ends.sums.Add(*std::move(sum), state.server.version);
      if (!added.ok()) ends.damage = DataLoss("a cohort's sum in the store: " + added.message());
      ends.contents.push_back(cohort.sum);
    } else if (cohort.state == CohortState::kFailed) {
      ends.Fail(Status(said.code, said.reason));
    } else if (stopped || Dead(cohort, store_now)) {
      ends.Fail(Unavailable("the process that ran the cohort died, or lost touch with the store"));
    } else {
      return OkStatus();  // it has come back to life since the look
    }
  }
  Result<NextModel> next = stopped ? Result<NextModel>(Aborted("the task was stopped"))
                                   : ends.Next(task, state.server, report);
  if (next.ok()) {
    const Results results = MakeResults(task, id_, *std::move(next));
    report.state = RoundState::kCommitted;
    report.result = results.model;
    if (!task.queries.empty()) report.answers = results.beside_sha256;
    CHORUS_TRY(PutResults(task, results, state.record, transaction));
  } else {
    report.state = RoundState::kAborted;
    report.code = next.status().code();
    report.reason = next.status().message();
  }
  CHORUS_TRY(transaction.PutRound(id_, report));
  for (const Digest& content : ends.contents) CHORUS_TRY(transaction.DropModel(content));
  CHORUS_TRY(transaction.DropCohorts(id_, report.round));
  return Forget(options_.retention, id_, report.round, transaction);
}

}  // namespace chorus::coordinator
