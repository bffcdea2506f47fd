#include "coordinator/sql_transaction.h"

#include <algorithm>
#include <set>
#include <utility>

#include "base/codec.h"
#include "base/limits.h"
#include "crypto/crypto.h"

namespace chorus::coordinator {
namespace {

constexpr std::string_view kDamagedModel =
    "a model of the store is damaged: restore the store from a backup";

// As SqlRow::TakeOptional reads it.
BytesView Optional(const Digest& digest) {
  return digest == Digest{} ? BytesView() : BytesView(digest);
}

uint64_t NumberOf(Time time) { return static_cast<uint64_t>(time.count()); }
template <typename Enum>
uint64_t NumberOf(Enum value) {
  return static_cast<uint64_t>(value);
}

// Dropouts are a short list that nobody searches: one value.
Bytes EncodeDropouts(const std::vector<uint32_t>& dropouts) {
  Writer writer;
  for (const uint32_t count : dropouts) writer.U32(count);
  return std::move(writer).Take();
}

Status DecodeDropouts(BytesView bytes, std::vector<uint32_t>& dropouts) {
  Reader reader(bytes);
  while (reader.left() > 0 && !reader.failed()) dropouts.push_back(reader.U32());
  if (reader.failed()) return DataLoss("a row of the store is damaged: a value is cut short");
  return OkStatus();
}

Status ReadTask(SqlRow& row, TaskRecord& task) {
  CHORUS_TRY(row.Take(task.id));
  task.name = row.TakeText();
  task.spec = row.TakeBytes();
  CHORUS_TRY(row.Take(task.model));
  task.rounds_begun = row.TakeU64();
  task.rounds_committed = row.TakeU64();
  CHORUS_TRY(row.TakeOptional(task.server_state));
  CHORUS_TRY(row.TakeEnum(TaskMode::kStopped, task.mode));
  task.priority = row.TakeU32();
  return OkStatus();
}

Status ReadRound(SqlRow& row, RoundReport& report) {
  report.round = row.TakeU64();
  CHORUS_TRY(row.TakeEnum(RoundState::kAborted, report.state));
  CHORUS_TRY(row.TakeEnum(Code::kUnauthenticated, report.code));
  report.reason = row.TakeText();
  CHORUS_TRY(row.Take(report.model));
  report.invited = row.TakeU32();
  report.contributors = row.TakeU32();
  report.refused = row.TakeU32();
  CHORUS_TRY(DecodeDropouts(row.TakeView(), report.dropouts));
  report.bytes_up = row.TakeU64();
  report.bytes_down = row.TakeU64();
  report.duration_ms = row.TakeU64();
  report.examples = row.TakeU64();
  report.loss = row.TakeDouble();
  report.accuracy = row.TakeDouble();
  report.evaluated = row.TakeU64();
  report.cohorts = row.TakeU32();
  report.cohorts_committed = row.TakeU32();
  CHORUS_TRY(row.TakeOptional(report.answers));
  return row.TakeOptional(report.result);
}

Status ReadEvidence(SqlRow& row, Evidence& evidence) {
  evidence.round = row.TakeU64();
  evidence.cohort = row.TakeU32();
  CHORUS_TRY(row.Take(evidence.identity));
  CHORUS_TRY(row.Take(evidence.first.message));
  CHORUS_TRY(row.Take(evidence.first.signature));
  CHORUS_TRY(row.Take(evidence.second.message));
  return row.Take(evidence.second.signature);
}

Status ReadAudit(SqlRow& row, AuditEntry& entry) {
  entry.number = row.TakeU64();
  entry.unix_seconds = static_cast<int64_t>(row.TakeU64());
  CHORUS_TRY(row.TakeEnum(AuditEntry::Action::kPausedNow, entry.action));
  CHORUS_TRY(row.Take(entry.actor));
  entry.round = row.TakeU64();
  CHORUS_TRY(row.Take(entry.model));
  entry.priority = row.TakeU32();
  entry.reason = row.TakeText();
  CHORUS_TRY(row.Take(entry.previous));
  return row.Take(entry.signature);
}

Status ReadProcess(SqlRow& row, ProcessRecord& process) {
  process.name = row.TakeText();
  process.address = row.TakeText();
  process.seen = row.TakeTime();
  return OkStatus();
}

Status ReadCohort(SqlRow& row, CohortRecord& cohort) {
  cohort.round = row.TakeU64();
  cohort.cohort = row.TakeU32();
  cohort.process = row.TakeText();
  cohort.lease_until = row.TakeTime();
  CHORUS_TRY(row.TakeEnum(CohortState::kFailed, cohort.state));
  cohort.report = row.TakeBytes();
  return row.TakeOptional(cohort.sum);
}

// What a statement finds, each row read by `read`.
template <typename T>
Result<std::vector<T>> List(SqlSession& session, const char* sql,
                            std::initializer_list<SqlValue> values, Status (*read)(SqlRow&, T&)) {
  std::vector<T> list;
  CHORUS_TRY(session.Run(sql, values, [&](SqlRow& row) { return read(row, list.emplace_back()); }));
  return list;
}

#define CHORUS_TASK_COLUMNS \
  "id, name, spec, model, rounds_begun, rounds_committed, server_state, mode, priority"
#define CHORUS_ROUND_COLUMNS                                                                   \
  "round, state, code, reason, model, invited, contributors, refused, dropouts, bytes_up,"     \
  " bytes_down, duration_ms, examples, loss, accuracy, evaluated, cohorts, cohorts_committed," \
  " answers, result"
#define CHORUS_AUDIT_COLUMNS \
  "number, unix_seconds, action, actor, round, model, priority, reason, previous, signature"

}  // namespace

Status SqlTransaction::Run(const char* sql, std::initializer_list<SqlValue> values) {
  return session_.Run(sql, values, [](SqlRow&) { return OkStatus(); });
}

Result<uint64_t> SqlTransaction::Number(const char* sql, std::initializer_list<SqlValue> values) {
  std::optional<uint64_t> number;
  CHORUS_TRY(session_.Run(sql, values, [&](SqlRow& row) {
    if (!number) number = row.TakeU64();
    return OkStatus();
  }));
  return number.value_or(0);
}

Status SqlTransaction::CheckKnown(const TaskId& task, uint64_t round) {
  if (round > INT64_MAX) return InvalidArgument("a round's number is below 2^63");
  CHORUS_TRY_ASSIGN(const uint64_t known,
                    Number("SELECT count(*) FROM task WHERE id = $1", {task}));
  return known > 0 ? OkStatus() : NotFound("the store has no such task: put it before its rounds");
}

// --- tasks and rounds ---

Result<std::optional<TaskRecord>> SqlTransaction::FindTask(const TaskId& id) {
  CHORUS_TRY_ASSIGN(
      std::vector<TaskRecord> tasks,
      List(session_, "SELECT " CHORUS_TASK_COLUMNS " FROM task WHERE id = $1", {id}, ReadTask));
  if (tasks.empty()) return std::optional<TaskRecord>();
  return std::optional<TaskRecord>(std::move(tasks.front()));
}

Status SqlTransaction::PutTask(const TaskRecord& task) {
  // Not REPLACE, which would delete the row that rounds refer to.
  return Run("INSERT INTO task (" CHORUS_TASK_COLUMNS
             ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)"
             " ON CONFLICT (id) DO UPDATE SET name = excluded.name, spec = excluded.spec,"
             " model = excluded.model, rounds_begun = excluded.rounds_begun,"
             " rounds_committed = excluded.rounds_committed,"
             " server_state = excluded.server_state, mode = excluded.mode,"
             " priority = excluded.priority",
             {task.id, std::string_view(task.name), task.spec, task.model, task.rounds_begun,
              task.rounds_committed, Optional(task.server_state), NumberOf(task.mode),
              uint64_t{task.priority}});
}

Result<std::vector<TaskRecord>> SqlTransaction::Tasks() {
  return List(session_, "SELECT " CHORUS_TASK_COLUMNS " FROM task ORDER BY name, id", {}, ReadTask);
}

Status SqlTransaction::PutRound(const TaskId& task, const RoundReport& round) {
  CHORUS_TRY(CheckKnown(task, round.round));
  const Bytes dropouts = EncodeDropouts(round.dropouts);
  CHORUS_TRY(Run("DELETE FROM round WHERE task = $1 AND round = $2", {task, round.round}));
  return Run(
      "INSERT INTO round (task, " CHORUS_ROUND_COLUMNS
      ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18,"
      " $19, $20, $21)",
      {task,
       round.round,
       NumberOf(round.state),
       NumberOf(round.code),
       std::string_view(round.reason),
       round.model,
       uint64_t{round.invited},
       uint64_t{round.contributors},
       uint64_t{round.refused},
       dropouts,
       round.bytes_up,
       round.bytes_down,
       round.duration_ms,
       round.examples,
       round.loss,
       round.accuracy,
       round.evaluated,
       uint64_t{round.cohorts},
       uint64_t{round.cohorts_committed},
       Optional(round.answers),
       Optional(round.result)});
}

Result<std::vector<RoundReport>> SqlTransaction::Rounds(const TaskId& task, uint64_t first,
                                                        uint32_t count) {
  if (first > INT64_MAX) return std::vector<RoundReport>();
  return List(session_,
              "SELECT " CHORUS_ROUND_COLUMNS
              " FROM round WHERE task = $1 AND round >= $2 ORDER BY round LIMIT $3",
              {task, first, uint64_t{count}}, ReadRound);
}

Result<std::vector<RoundReport>> SqlTransaction::LatestRounds(const TaskId& task, uint32_t count) {
  return List(session_,
              "SELECT " CHORUS_ROUND_COLUMNS
              " FROM round WHERE task = $1 ORDER BY round DESC LIMIT $2",
              {task, uint64_t{count}}, ReadRound);
}

Status SqlTransaction::DropRounds(const TaskId& task, uint64_t first) {
  const uint64_t end = std::min<uint64_t>(first, INT64_MAX);
  std::vector<Digest> answers;
  CHORUS_TRY(session_.Run(
      "SELECT answers FROM round WHERE task = $1 AND round < $2 AND length(answers) > 0"
      " AND NOT EXISTS (SELECT 1 FROM model WHERE model.hash = round.result)",
      {task, end}, [&](SqlRow& row) { return row.Take(answers.emplace_back()); }));
  CHORUS_TRY(
      Run("DELETE FROM round WHERE task = $1 AND round < $2"
          " AND NOT EXISTS (SELECT 1 FROM model WHERE model.hash = round.result)",
          {task, end}));
  CHORUS_TRY(Run("DELETE FROM evidence WHERE task = $1 AND round < $2", {task, end}));
  return DropUnlessNamed(answers, task, 0);
}

Status SqlTransaction::PutEvidence(const TaskId& task, const Evidence& evidence) {
  CHORUS_TRY(CheckKnown(task, evidence.round));
  return Run(
      "INSERT INTO evidence (task, round, cohort, identity, first_message, first_signature,"
      " second_message, second_signature) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"
      " ON CONFLICT DO NOTHING",
      {task, evidence.round, uint64_t{evidence.cohort}, evidence.identity, evidence.first.message,
       evidence.first.signature, evidence.second.message, evidence.second.signature});
}

Result<std::vector<Evidence>> SqlTransaction::ListEvidence(const TaskId& task, uint32_t count) {
  return List(session_,
              "SELECT round, cohort, identity, first_message, first_signature, second_message,"
              " second_signature FROM evidence WHERE task = $1"
              " ORDER BY round DESC, cohort, identity LIMIT $2",
              {task, uint64_t{count}}, ReadEvidence);
}

// --- models ---

Status SqlTransaction::PutModel(const Digest& hash, BytesView bytes) {
  CHORUS_TRY_ASSIGN(const uint64_t known,
                    Number("SELECT count(*) FROM model WHERE hash = $1", {hash}));
  if (known > 0) return OkStatus();
  if (crypto::Sha256(bytes) != hash)
    return InvalidArgument("the model does not hash to the name it is put under");
  CHORUS_TRY(Run("INSERT INTO model (hash, size) VALUES ($1, $2)", {hash, uint64_t{bytes.size()}}));
  for (uint64_t chunk = 0; !bytes.empty(); ++chunk) {
    const BytesView piece = bytes.first(std::min(bytes.size(), limits::kChunkBytesMax));
    bytes = bytes.subspan(piece.size());
    CHORUS_TRY(Run("INSERT INTO model_chunk (hash, chunk, bytes) VALUES ($1, $2, $3)",
                   {hash, chunk, piece}));
  }
  return OkStatus();
}

Result<Bytes> SqlTransaction::GetModel(const Digest& hash) {
  bool found = false;
  uint64_t size = 0;
  uint64_t stored = 0;
  // The sizes are compared before anything of that size is allocated.
  CHORUS_TRY(
      session_.Run("SELECT size, CAST((SELECT coalesce(sum(length(bytes)), 0) FROM model_chunk"
                   " WHERE model_chunk.hash = model.hash) AS BIGINT) FROM model WHERE hash = $1",
                   {hash}, [&](SqlRow& row) {
                     found = true;
                     size = row.TakeU64();
                     stored = row.TakeU64();
                     return OkStatus();
                   }));
  if (!found) return NotFound("the store has no such model");
  if (stored != size || size > limits::kTransferBytesMax)
    return DataLoss(std::string(kDamagedModel));
  Bytes bytes;
  bytes.reserve(size);
  // One at a time, since an engine over the network hands over a whole result at once.
  for (uint64_t chunk = 0; bytes.size() < size; ++chunk) {
    const size_t before = bytes.size();
    CHORUS_TRY(session_.Run("SELECT bytes FROM model_chunk WHERE hash = $1 AND chunk = $2",
                            {hash, chunk}, [&](SqlRow& row) {
                              const BytesView piece = row.TakeView();
                              bytes.insert(bytes.end(), piece.begin(), piece.end());
                              return OkStatus();
                            }));
    if (bytes.size() == before) return DataLoss(std::string(kDamagedModel));
  }
  if (crypto::Sha256(bytes) != hash) return DataLoss(std::string(kDamagedModel));
  return bytes;
}

Status SqlTransaction::DropModel(const Digest& hash) {
  CHORUS_TRY(Run("DELETE FROM model_chunk WHERE hash = $1", {hash}));
  return Run("DELETE FROM model WHERE hash = $1", {hash});
}

// Rounds of `task` numbered below `first` do not count as naming what they made.
Status SqlTransaction::DropUnlessNamed(const std::vector<Digest>& hashes, const TaskId& task,
                                       uint64_t first) {
  for (const Digest& hash : hashes) {
    CHORUS_TRY_ASSIGN(
        const uint64_t named,
        Number("SELECT (SELECT count(*) FROM task WHERE model = $1 OR server_state = $1)"
               " + (SELECT count(*) FROM round WHERE result = $1"
               "    AND (task <> $2 OR round >= $3))"
               " + (SELECT count(*) FROM round WHERE answers = $1 AND length(answers) > 0)"
               " + (SELECT count(*) FROM cohort WHERE sum = $1)",
               {hash, task, first}));
    if (named == 0) CHORUS_TRY(DropModel(hash));
  }
  return OkStatus();
}

Status SqlTransaction::DropOldModels(const TaskId& task, uint32_t kept) {
  // The first round whose model stays.
  CHORUS_TRY_ASSIGN(const uint64_t first,
                    Number("SELECT round FROM round WHERE task = $1 AND state = 1"
                           " ORDER BY round DESC LIMIT 1 OFFSET $2",
                           {task, uint64_t{std::max(kept, 1U)} - 1}));
  std::vector<Digest> old;
  const auto take = [&old](SqlRow& row) { return row.Take(old.emplace_back()); };
  // The store has few models, so the search begins with them.
  CHORUS_TRY(session_.Run(
      "SELECT hash FROM model WHERE EXISTS (SELECT 1 FROM round WHERE round.result = model.hash"
      " AND round.task = $1 AND round.round < $2)",
      {task, first}, take));
  // The model that the task began with is no round's result.
  CHORUS_TRY(
      session_.Run("SELECT model FROM round WHERE task = $1 AND round < $2"
                   " ORDER BY round LIMIT 1",
                   {task, first}, take));
  return DropUnlessNamed(old, task, first);
}

// --- operators ---

Status SqlTransaction::PutAudit(const TaskId& task, const AuditEntry& entry) {
  CHORUS_TRY(CheckKnown(task, entry.round));
  CHORUS_TRY_ASSIGN(const uint64_t last,
                    Number("SELECT coalesce(max(number), 0) FROM audit WHERE task = $1", {task}));
  if (entry.number != last + 1)
    return FailedPrecondition("the task's next audit entry is number " + std::to_string(last + 1));
  return Run(
      "INSERT INTO audit (task, number, unix_seconds, action, actor, round, model, priority,"
      " reason, previous, signature) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
      {task, entry.number, static_cast<uint64_t>(entry.unix_seconds), NumberOf(entry.action),
       entry.actor, entry.round, entry.model, uint64_t{entry.priority},
       std::string_view(entry.reason), entry.previous, entry.signature});
}

Result<std::vector<AuditEntry>> SqlTransaction::ListAudit(const TaskId& task, uint32_t count) {
  return List(session_,
              "SELECT " CHORUS_AUDIT_COLUMNS
              " FROM audit WHERE task = $1 ORDER BY number DESC LIMIT $2",
              {task, uint64_t{count}}, ReadAudit);
}

Result<std::vector<AuditEntry>> SqlTransaction::AuditFrom(const TaskId& task, uint64_t first,
                                                          uint32_t count) {
  if (first > INT64_MAX) return std::vector<AuditEntry>();
  return List(session_,
              "SELECT " CHORUS_AUDIT_COLUMNS
              " FROM audit WHERE task = $1 AND number >= $2 ORDER BY number LIMIT $3",
              {task, first, uint64_t{count}}, ReadAudit);
}

// --- processes ---

Result<Time> SqlTransaction::Now() {
  CHORUS_TRY_ASSIGN(const uint64_t now, Number(session_.now_sql(), {}));
  return Time(static_cast<Time::rep>(now));
}

Status SqlTransaction::PutProcess(const ProcessRecord& process) {
  return Run(
      "INSERT INTO process (name, address, seen) VALUES ($1, $2, $3)"
      " ON CONFLICT (name) DO UPDATE SET address = excluded.address, seen = excluded.seen",
      {std::string_view(process.name), std::string_view(process.address), NumberOf(process.seen)});
}

Result<std::vector<ProcessRecord>> SqlTransaction::Processes() {
  return List(session_, "SELECT name, address, seen FROM process ORDER BY name", {}, ReadProcess);
}

Status SqlTransaction::DropProcess(const std::string& name) {
  return Run("DELETE FROM process WHERE name = $1", {std::string_view(name)});
}

Status SqlTransaction::PutCohort(const TaskId& task, const CohortRecord& cohort) {
  CHORUS_TRY(CheckKnown(task, cohort.round));
  return Run(
      "INSERT INTO cohort (task, round, cohort, process, lease_until, state, report, sum)"
      " VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"
      " ON CONFLICT (task, round, cohort) DO UPDATE SET process = excluded.process,"
      " lease_until = excluded.lease_until, state = excluded.state,"
      " report = excluded.report, sum = excluded.sum",
      {task, cohort.round, uint64_t{cohort.cohort}, std::string_view(cohort.process),
       NumberOf(cohort.lease_until), NumberOf(cohort.state), cohort.report, Optional(cohort.sum)});
}

Result<std::vector<CohortRecord>> SqlTransaction::CohortsOf(const TaskId& task, uint64_t round) {
  return List(session_,
              "SELECT round, cohort, process, lease_until, state, report, sum FROM cohort"
              " WHERE task = $1 AND round = $2 ORDER BY cohort",
              {task, round}, ReadCohort);
}

Result<std::vector<PublicKey>> SqlTransaction::ClaimIdentities(
    const TaskId& task, uint64_t round, uint32_t cohort, std::span<const PublicKey> identities) {
  CHORUS_TRY(CheckKnown(task, round));
  std::vector<PublicKey> claimed;
  if (identities.empty()) return claimed;
  Writer all(identities.size() * sizeof(PublicKey));
  for (const PublicKey& identity : identities) all.Raw(identity);
  std::set<PublicKey> fresh;
  const auto take = [&fresh](SqlRow& row) -> Status {
    PublicKey identity;
    CHORUS_TRY(row.Take(identity));
    fresh.insert(identity);
    return OkStatus();
  };
  // One statement for all of them: a cohort has up to a thousand.
  CHORUS_TRY(session_.Run(
      "WITH RECURSIVE place (head) AS"
      " (SELECT 1 UNION ALL SELECT head + 32 FROM place WHERE head + 32 < $1)"
      " INSERT INTO claim (task, round, cohort, identity)"
      " SELECT $2, $3, $4, substr($5, head, 32) FROM place WHERE true"
      " ON CONFLICT DO NOTHING RETURNING identity",
      {uint64_t{identities.size()} * sizeof(PublicKey), task, round, uint64_t{cohort}, all.view()},
      take));
  for (const PublicKey& identity : identities) {
    if (fresh.erase(identity) > 0) claimed.push_back(identity);
  }
  return claimed;
}

Status SqlTransaction::DropCohorts(const TaskId& task, uint64_t round) {
  CHORUS_TRY(Run("DELETE FROM cohort WHERE task = $1 AND round = $2", {task, round}));
  return Run("DELETE FROM claim WHERE task = $1 AND round = $2", {task, round});
}

}  // namespace chorus::coordinator
