// What is kept and told of cohorts and of equivocation: in either store, in a file of the version
// before, and in a status reply.
#include <sqlite3.h>

#include <filesystem>
#include <string>

#include "base/limits.h"
#include "chorus/store.h"
#include "matchers.h"
#include "store_cases.h"
#include "store_kinds.h"
#include "wire/wire.h"

namespace chorus {
namespace {

using testing::IsEmpty;
using testing::SizeIs;

Evidence SomeEvidence(uint64_t round, uint32_t cohort, uint8_t identity) {
  Evidence evidence{.round = round, .cohort = cohort, .identity = {}, .first = {}, .second = {}};
  evidence.identity.fill(identity);
  evidence.first.message.fill(1);
  evidence.first.signature.fill(2);
  evidence.second.message.fill(3);
  evidence.second.signature.fill(4);
  return evidence;
}

void ExpectSame(const Evidence& a, const Evidence& b) {
  EXPECT_EQ(a.round, b.round);
  EXPECT_EQ(a.cohort, b.cohort);
  EXPECT_EQ(a.identity, b.identity);
  EXPECT_EQ(a.first.message, b.first.message);
  EXPECT_EQ(a.first.signature, b.first.signature);
  EXPECT_EQ(a.second.message, b.second.message);
  EXPECT_EQ(a.second.signature, b.second.signature);
}

Status PutTask(Store& store) {
  return store.RunTransaction("put", [](Transaction& transaction) {
    TaskRecord task;
    task.id = kTask;
    return transaction.PutTask(task);
  });
}

Status Put(Store& store, const Evidence& evidence, const TaskId& task = kTask) {
  return store.RunTransaction(
      "put", [&](Transaction& transaction) { return transaction.PutEvidence(task, evidence); });
}

std::vector<Evidence> ListOf(Store& store, uint32_t count, const TaskId& task = kTask) {
  std::vector<Evidence> list;
  EXPECT_THAT(store.RunTransaction("list",
                                   [&](Transaction& transaction) -> Status {
                                     CHORUS_TRY_ASSIGN(list, transaction.ListEvidence(task, count));
                                     return OkStatus();
                                   }),
              IsOk());
  return list;
}

RoundReport RoundIn(Store& store, uint64_t number) {
  RoundReport report;
  EXPECT_THAT(store.RunTransaction("read",
                                   [&](Transaction& transaction) -> Status {
                                     CHORUS_TRY_ASSIGN(const std::vector<RoundReport> rounds,
                                                       transaction.Rounds(kTask, number, 1));
                                     if (rounds.empty()) return NotFound("no such round");
                                     report = rounds[0];
                                     return OkStatus();
                                   }),
              IsOk());
  return report;
}

Status PutRound(Store& store, const RoundReport& report) {
  return store.RunTransaction(
      "put", [&](Transaction& transaction) { return transaction.PutRound(kTask, report); });
}

template <typename Kind>
class EvidenceStore : public StoreOfAKind<Kind> {
 protected:
  void SetUp() override {
    StoreOfAKind<Kind>::SetUp();
    if (this->store_ == nullptr) return;
    ASSERT_THAT(PutTask(*this->store_), IsOk());
  }
};
TYPED_TEST_SUITE(EvidenceStore, EveryKind, KindName);

TYPED_TEST(EvidenceStore, ListsTheLatestFirstAndBounded) {
  for (const auto& [round, cohort, identity] : std::vector<std::tuple<uint64_t, uint32_t, uint8_t>>{
           {1, 1, 9}, {3, 2, 7}, {3, 2, 6}, {3, 1, 8}, {2, 1, 1}}) {
    ASSERT_THAT(Put(*this->store_, SomeEvidence(round, cohort, identity)), IsOk());
  }
  const std::vector<Evidence> list = ListOf(*this->store_, 4);
  ASSERT_THAT(list, SizeIs(4));
  ExpectSame(list[0], SomeEvidence(3, 1, 8));
  ExpectSame(list[1], SomeEvidence(3, 2, 6));
  ExpectSame(list[2], SomeEvidence(3, 2, 7));
  ExpectSame(list[3], SomeEvidence(2, 1, 1));
  EXPECT_THAT(ListOf(*this->store_, 0), IsEmpty());
  EXPECT_THAT(ListOf(*this->store_, 100), SizeIs(5));
  EXPECT_THAT(ListOf(*this->store_, 100, kOtherTask), IsEmpty());
}

TYPED_TEST(EvidenceStore, KeepsTheFirstOfOneIdentityCohortAndRound) {
  Evidence again = SomeEvidence(1, 1, 1);
  ASSERT_THAT(Put(*this->store_, again), IsOk());
  again.first.message.fill(77);
  ASSERT_THAT(Put(*this->store_, again), IsOk());
  ASSERT_THAT(ListOf(*this->store_, 10), SizeIs(1));
  ExpectSame(ListOf(*this->store_, 10)[0], SomeEvidence(1, 1, 1));
}

TYPED_TEST(EvidenceStore, RefusesEvidenceOfNoTaskAndARoundOutOfRange) {
  EXPECT_THAT(Put(*this->store_, SomeEvidence(1, 1, 1), kOtherTask), HasCode(Code::kNotFound));
  EXPECT_THAT(Put(*this->store_, SomeEvidence(uint64_t{1} << 63U, 1, 1)),
              HasCode(Code::kInvalidArgument));
  EXPECT_THAT(ListOf(*this->store_, 10), IsEmpty());
}

TYPED_TEST(EvidenceStore, LeavesNothingOfATransactionThatFailed) {
  const Status failed = this->store_->RunTransaction("put", [](Transaction& transaction) -> Status {
    CHORUS_TRY(transaction.PutEvidence(kTask, SomeEvidence(1, 1, 1)));
    CHORUS_TRY_ASSIGN(const std::vector<Evidence> list, transaction.ListEvidence(kTask, 10));
    EXPECT_THAT(list, SizeIs(1)) << "it sees its own";
    return Aborted("on purpose");
  });
  EXPECT_THAT(failed, HasCode(Code::kAborted));
  EXPECT_THAT(ListOf(*this->store_, 10), IsEmpty());
}

TYPED_TEST(EvidenceStore, KeepsTheCohortsOfARound) {
  RoundReport report;
  report.round = 4;
  report.cohorts = 10;
  report.cohorts_committed = 9;
  ASSERT_THAT(PutRound(*this->store_, report), IsOk());
  EXPECT_EQ(RoundIn(*this->store_, 4).cohorts, 10U);
  EXPECT_EQ(RoundIn(*this->store_, 4).cohorts_committed, 9U);
}

TEST(SqliteEvidence, OutlivesTheProcessOfItsCoordinator) {
  const Folder folder;
  {
    const std::unique_ptr<Store> store = OpenSqlite(folder.File());
    ASSERT_THAT(PutTask(*store), IsOk());
    ASSERT_THAT(Put(*store, SomeEvidence(5, 2, 1)), IsOk());
  }
  const std::unique_ptr<Store> store = OpenSqlite(folder.File());
  ASSERT_THAT(ListOf(*store, 10), SizeIs(1));
  ExpectSame(ListOf(*store, 10)[0], SomeEvidence(5, 2, 1));
}

TEST(SqliteEvidence, ReadsRoundsOfTheVersionBeforeAsOneCohort) {
  const Folder folder;
  {
    const std::unique_ptr<Store> store = OpenSqlite(folder.File());
    ASSERT_THAT(PutTask(*store), IsOk());
    RoundReport report;
    report.round = 1;
    report.state = RoundState::kCommitted;
    ASSERT_THAT(PutRound(*store, report), IsOk());
    report.round = 2;
    report.state = RoundState::kAborted;
    ASSERT_THAT(PutRound(*store, report), IsOk());
  }
  sqlite3* database = nullptr;
  ASSERT_EQ(sqlite3_open(folder.File().c_str(), &database), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(database,
                         (std::string(kBackToVersion3) +
                          "DROP TABLE evidence; ALTER TABLE round DROP COLUMN cohorts;"
                          "ALTER TABLE round DROP COLUMN cohorts_committed;"
                          "ALTER TABLE round DROP COLUMN answers;"
                          "ALTER TABLE task DROP COLUMN server_state; PRAGMA user_version = 1")
                             .c_str(),
                         nullptr, nullptr, nullptr),
            SQLITE_OK);
  sqlite3_close(database);
  const std::unique_ptr<Store> store = OpenSqlite(folder.File());
  EXPECT_EQ(RoundIn(*store, 1).cohorts, 1U);
  EXPECT_EQ(RoundIn(*store, 1).cohorts_committed, 1U);
  EXPECT_EQ(RoundIn(*store, 2).cohorts, 1U);
  EXPECT_EQ(RoundIn(*store, 2).cohorts_committed, 0U);
  ASSERT_THAT(Put(*store, SomeEvidence(2, 1, 1)), IsOk());
  EXPECT_THAT(ListOf(*store, 10), SizeIs(1));
}

// --- on the wire ---

TEST(StatusReply, CarriesCohortsAndEvidence) {
  wire::StatusReply reply;
  RoundReport& round = reply.rounds.emplace_back();
  round.round = 3;
  round.cohorts = 10;
  round.cohorts_committed = 0;
  reply.evidence.push_back(SomeEvidence(3, 7, 5));
  const Result<wire::StatusReply> read = wire::Decode<wire::StatusReply>(wire::Encode(reply));
  ASSERT_THAT(read, IsOk());
  ASSERT_THAT(read->rounds, SizeIs(1));
  EXPECT_EQ(read->rounds[0].cohorts, 10U);
  EXPECT_EQ(read->rounds[0].cohorts_committed, 0U);
  ASSERT_THAT(read->evidence, SizeIs(1));
  ExpectSame(read->evidence[0], SomeEvidence(3, 7, 5));
}

TEST(StatusReply, ReadsARoundWithoutCohortsAsOne) {
  // Written by hand: Round{state, model of 32 bytes} as of before.
  for (const uint8_t state : {uint8_t{1}, uint8_t{2}}) {
    Bytes round = {0x10, state, 0x2A, 32};
    round.resize(round.size() + 32);
    Bytes reply = {0x3A, static_cast<uint8_t>(round.size())};
    reply.insert(reply.end(), round.begin(), round.end());
    const Result<wire::StatusReply> read = wire::Decode<wire::StatusReply>(reply);
    ASSERT_THAT(read, IsOk());
    ASSERT_THAT(read->rounds, SizeIs(1));
    EXPECT_EQ(read->rounds[0].cohorts, 1U);
    EXPECT_EQ(read->rounds[0].cohorts_committed, state == 1 ? 1U : 0U);
  }
}

TEST(StatusReply, BoundsEvidence) {
  wire::StatusReply reply;
  reply.evidence.assign(limits::kStatusEvidenceMax, SomeEvidence(UINT64_MAX, UINT32_MAX, 1));
  EXPECT_THAT(wire::Decode<wire::StatusReply>(wire::Encode(reply)), IsOk());
  reply.evidence.push_back(reply.evidence[0]);
  EXPECT_THAT(wire::Decode<wire::StatusReply>(wire::Encode(reply)),
              HasCodeAndText(Code::kInvalidArgument, "evidence"));
}

TEST(TaskText, HasParallelCohortsAndLeavesOneOut) {
  constexpr std::string_view kShort =
      "name: 'a' model { inputs: 1 layers { units: 1 } } protocol: PROTOCOL_SECAGG ";
  const Result<TaskSpec> one = wire::ParseTaskText(kShort);
  const Result<TaskSpec> ten = wire::ParseTaskText(std::string(kShort) + "cohort { parallel: 10 }");
  ASSERT_THAT(one, IsOk());
  ASSERT_THAT(ten, IsOk());
  EXPECT_EQ(one->cohort.parallel, 1U);
  EXPECT_EQ(ten->cohort.parallel, 10U);
  // A task of before keeps its bytes, and so its hash and its signature.
  EXPECT_EQ(wire::EncodeTask(*one).size() + 2, wire::EncodeTask(*ten).size());
  const Result<TaskSpec> read = wire::DecodeTask(wire::EncodeTask(*ten));
  ASSERT_THAT(read, IsOk());
  EXPECT_EQ(read->cohort.parallel, 10U);
}

}  // namespace
}  // namespace chorus
