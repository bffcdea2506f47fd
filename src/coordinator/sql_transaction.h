// A transaction in SQL, and what it needs of an engine. The statements are the same for all of
// them, so that stores differ in how they commit and in nothing else.
#pragma once

#include <array>
#include <cstring>
#include <functional>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "chorus/store.h"

namespace chorus::coordinator {

// A statement's parameter: a number, or text or bytes that must outlive the statement. Numbers
// above 2^63 come back as they went in, from SQL's negative ones. Text is any bytes.
using SqlValue = std::variant<uint64_t, double, std::string_view, BytesView>;

// A row's columns, read from left to right.
class SqlRow {
 public:
  virtual ~SqlRow() = default;
  virtual uint64_t TakeU64() = 0;
  virtual double TakeDouble() = 0;   // NULL: not a number
  virtual BytesView TakeView() = 0;  // of text or bytes; points into the row

  uint32_t TakeU32() { return static_cast<uint32_t>(TakeU64()); }
  Time TakeTime() { return Time(static_cast<Time::rep>(TakeU64())); }
  Bytes TakeBytes() {
    const BytesView view = TakeView();
    return Bytes(view.begin(), view.end());
  }
  std::string TakeText() {
    const BytesView view = TakeView();
    return std::string(view.begin(), view.end());
  }
  template <size_t N>
  Status Take(std::array<uint8_t, N>& out) {
    const BytesView view = TakeView();
    if (view.size() != N) return DataLoss("a row of the store is damaged: a value is too short");
    std::memcpy(out.data(), view.data(), N);
    return OkStatus();
  }
  // Zeros for a digest of nothing, which is stored as no bytes.
  Status TakeOptional(Digest& out) {
    const BytesView view = TakeView();
    out = {};
    if (view.empty()) return OkStatus();
    if (view.size() != out.size())
      return DataLoss("a row of the store is damaged: a value is too short");
    std::memcpy(out.data(), view.data(), out.size());
    return OkStatus();
  }
  // An enumerator, of which `last` is the last.
  template <typename Enum>
  Status TakeEnum(Enum last, Enum& out) {
    const uint64_t number = TakeU64();
    if (number > static_cast<uint64_t>(last))
      return DataLoss("a row of the store is damaged: a value is out of range");
    out = static_cast<Enum>(number);
    return OkStatus();
  }
};

// An engine with a transaction open. Thread-compatible.
class SqlSession {
 public:
  virtual ~SqlSession() = default;
  // Runs a statement and hands each row of its result to `row`, until that fails. `sql` is a
  // literal, in the SQL that all engines share: parameters are $1, $2, ... and stand in it in the
  // order of their numbers.
  virtual Status Run(const char* sql, std::initializer_list<SqlValue> values,
                     const std::function<Status(SqlRow&)>& row) = 0;
  // The engine's milliseconds since 1970, as a statement without parameters.
  virtual const char* now_sql() const = 0;
};

// Thread-compatible, as the session is, which must outlive it.
class SqlTransaction final : public Transaction {
 public:
  explicit SqlTransaction(SqlSession& session) : session_(session) {}

  Result<std::optional<TaskRecord>> FindTask(const TaskId& id) override;
  Status PutTask(const TaskRecord& task) override;
  Result<std::vector<TaskRecord>> Tasks() override;
  Status PutRound(const TaskId& task, const RoundReport& round) override;
  Result<std::vector<RoundReport>> Rounds(const TaskId& task, uint64_t first,
                                          uint32_t count) override;
  Result<std::vector<RoundReport>> LatestRounds(const TaskId& task, uint32_t count) override;
  Status DropRounds(const TaskId& task, uint64_t first) override;
  Status PutEvidence(const TaskId& task, const Evidence& evidence) override;
  Result<std::vector<Evidence>> ListEvidence(const TaskId& task, uint32_t count) override;
  Status PutModel(const Digest& hash, BytesView bytes) override;
  Result<Bytes> GetModel(const Digest& hash) override;
  Status DropModel(const Digest& hash) override;
  Status DropOldModels(const TaskId& task, uint32_t kept) override;
  Status PutAudit(const TaskId& task, const AuditEntry& entry) override;
  Result<std::vector<AuditEntry>> ListAudit(const TaskId& task, uint32_t count) override;
  Result<std::vector<AuditEntry>> AuditFrom(const TaskId& task, uint64_t first,
                                            uint32_t count) override;
  Result<Time> Now() override;
  Status PutProcess(const ProcessRecord& process) override;
  Result<std::vector<ProcessRecord>> Processes() override;
  Status DropProcess(const std::string& name) override;
  Status PutCohort(const TaskId& task, const CohortRecord& cohort) override;
  Result<std::vector<CohortRecord>> CohortsOf(const TaskId& task, uint64_t round) override;
  Result<std::vector<PublicKey>> ClaimIdentities(const TaskId& task, uint64_t round,
                                                 uint32_t cohort,
                                                 std::span<const PublicKey> identities) override;
  Status DropCohorts(const TaskId& task, uint64_t round) override;

 private:
  // For statements without rows of interest.
  Status Run(const char* sql, std::initializer_list<SqlValue> values);
  // The first column of the first row, a number; 0 when there is none.
  Result<uint64_t> Number(const char* sql, std::initializer_list<SqlValue> values);
  Status CheckKnown(const TaskId& task, uint64_t round);
  Status DropUnlessNamed(const std::vector<Digest>& hashes, const TaskId& task, uint64_t first);

  SqlSession& session_;
};

}  // namespace chorus::coordinator
