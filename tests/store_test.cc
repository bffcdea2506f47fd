// The laws that every store keeps.
#include "chorus/store.h"

#include <chrono>
#include <cmath>
#include <functional>
#include <limits>
#include <thread>

#include "store_cases.h"
#include "store_kinds.h"

namespace chorus {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

// --- the laws of every store ---------------------------------------------------------------------

template <typename Kind>
class EveryStore : public StoreOfAKind<Kind> {};
TYPED_TEST_SUITE(EveryStore, EveryKind, KindName);

TYPED_TEST(EveryStore, GivesBackWhatWasPut) {
  ASSERT_THAT(PutTaskAndRounds(*this->store_, {1, 2}), IsOk());
  const std::optional<TaskRecord> task = TaskIn(*this->store_, kTask);
  ASSERT_TRUE(task.has_value());
  ExpectSame(*task, SomeTask());
  const Result<std::vector<RoundReport>> rounds = RoundsIn(*this->store_, kTask, 1, 10);
  ASSERT_THAT(NumbersOf(rounds), ElementsAre(1, 2));
  for (const RoundReport& round : *rounds) ExpectSame(round, SomeRound(round.round));
}

TYPED_TEST(EveryStore, FindsNothingBeforeAnythingWasPut) {
  EXPECT_FALSE(TaskIn(*this->store_, kTask).has_value());
  EXPECT_THAT(NumbersOf(*this->store_, kTask, 0, 10), IsEmpty());
  EXPECT_THAT(ModelIn(*this->store_, Digest{}), HasCode(Code::kNotFound));
}

TYPED_TEST(EveryStore, SeesItsOwnWritesBeforeTheCommit) {
  const Bytes model = SomeModel(100, 1);
  const auto write = [&model](Transaction& transaction) {
    CHORUS_TRY(transaction.PutTask(SomeTask()));
    CHORUS_TRY(transaction.PutRound(kTask, SomeRound(4)));
    CHORUS_TRY(transaction.PutModel(crypto::Sha256(model), model));
    CHORUS_TRY_ASSIGN(const std::optional<TaskRecord> task, transaction.FindTask(kTask));
    EXPECT_TRUE(task.has_value());
    EXPECT_THAT(NumbersOf(transaction.Rounds(kTask, 0, 10)), ElementsAre(4));
    EXPECT_THAT(transaction.GetModel(crypto::Sha256(model)), HoldsValue(model));
    return OkStatus();
  };
  ASSERT_THAT(this->store_->RunTransaction("write", write), IsOk());
}

TYPED_TEST(EveryStore, LeavesNothingOfAFunctionThatFailed) {
  ASSERT_THAT(PutTaskAndRounds(*this->store_, {1}), IsOk());
  const Bytes model = SomeModel(100, 2);
  const Status failed = this->store_->RunTransaction("write", [&](Transaction& transaction) {
    TaskRecord changed = SomeTask();
    changed.rounds_begun = 99;
    RoundReport overwritten = SomeRound(1);
    overwritten.invited = 99;
    CHORUS_TRY(transaction.PutTask(changed));
    CHORUS_TRY(transaction.PutTask(SomeTask(kOtherTask)));
    CHORUS_TRY(transaction.PutRound(kTask, overwritten));
    CHORUS_TRY(transaction.PutRound(kTask, SomeRound(2)));
    CHORUS_TRY(transaction.PutModel(crypto::Sha256(model), model));
    return Aborted("changed its mind");
  });
  EXPECT_EQ(failed.code(), Code::kAborted);
  EXPECT_EQ(failed.message(), "changed its mind");
  ExpectSame(TaskIn(*this->store_, kTask).value(), SomeTask());
  EXPECT_FALSE(TaskIn(*this->store_, kOtherTask).has_value());
  EXPECT_THAT(NumbersOf(*this->store_, kTask, 0, 10), ElementsAre(1));
  EXPECT_THAT(ModelIn(*this->store_, crypto::Sha256(model)), HasCode(Code::kNotFound));
}

TYPED_TEST(EveryStore, ReplacesATaskWithoutTouchingItsRounds) {
  ASSERT_THAT(PutTaskAndRounds(*this->store_, {1, 2, 3}), IsOk());
  TaskRecord changed = SomeTask();
  changed.rounds_begun = 17;
  changed.spec = {};
  ASSERT_THAT(this->store_->RunTransaction(
                  "write", [&](Transaction& transaction) { return transaction.PutTask(changed); }),
              IsOk());
  ExpectSame(TaskIn(*this->store_, kTask).value(), changed);
  EXPECT_THAT(NumbersOf(*this->store_, kTask, 0, 10), ElementsAre(1, 2, 3));
}

TYPED_TEST(EveryStore, ReplacesARound) {
  ASSERT_THAT(PutTaskAndRounds(*this->store_, {1}), IsOk());
  RoundReport changed = SomeRound(1);
  changed.state = RoundState::kCommitted;
  changed.code = Code::kOk;
  changed.reason = "";
  changed.dropouts = {};
  ASSERT_THAT(PutRound(*this->store_, kTask, changed), IsOk());
  const Result<std::vector<RoundReport>> rounds = RoundsIn(*this->store_, kTask, 0, 10);
  ASSERT_THAT(NumbersOf(rounds), ElementsAre(1));
  ExpectSame(rounds->at(0), changed);
}

TYPED_TEST(EveryStore, GivesRoundsAscendingFromTheFirstAndBounded) {
  ASSERT_THAT(PutTaskAndRounds(*this->store_, {12, 3, 300, 1, 7}), IsOk());
  EXPECT_THAT(NumbersOf(*this->store_, kTask, 0, 100), ElementsAre(1, 3, 7, 12, 300));
  EXPECT_THAT(NumbersOf(*this->store_, kTask, 3, 3), ElementsAre(3, 7, 12));
  EXPECT_THAT(NumbersOf(*this->store_, kTask, 8, UINT32_MAX), ElementsAre(12, 300));
  EXPECT_THAT(NumbersOf(*this->store_, kTask, 301, 5), IsEmpty());
  EXPECT_THAT(NumbersOf(*this->store_, kTask, UINT64_MAX, 5), IsEmpty());
  EXPECT_THAT(NumbersOf(*this->store_, kTask, 1, 0), IsEmpty());
  EXPECT_THAT(NumbersOf(*this->store_, kOtherTask, 0, 5), IsEmpty());
}

TYPED_TEST(EveryStore, BoundsRoundsOverKeptAndUnkeptOnes) {
  ASSERT_THAT(PutTaskAndRounds(*this->store_, {2, 4, 6}), IsOk());
  const auto write = [](Transaction& transaction) {
    for (const uint64_t number : {1, 3, 4, 8})
      CHORUS_TRY(transaction.PutRound(kTask, SomeRound(number)));
    EXPECT_THAT(NumbersOf(transaction.Rounds(kTask, 2, 3)), ElementsAre(2, 3, 4));
    return OkStatus();
  };
  ASSERT_THAT(this->store_->RunTransaction("write", write), IsOk());
}

TYPED_TEST(EveryStore, RefusesARoundOfNoTaskAndOneOutOfRange) {
  EXPECT_THAT(PutRound(*this->store_, kTask, SomeRound(1)), HasCode(Code::kNotFound));
  ASSERT_THAT(PutTaskAndRounds(*this->store_, {}), IsOk());
  const uint64_t beyond = uint64_t{1} << 63U;
  EXPECT_THAT(PutRound(*this->store_, kTask, SomeRound(beyond)), HasCode(Code::kInvalidArgument));
  EXPECT_THAT(PutRound(*this->store_, kTask, SomeRound(beyond - 1)), IsOk());
}

TYPED_TEST(EveryStore, KeepsALossThatIsNoNumber) {
  RoundReport diverged = SomeRound(1);
  diverged.loss = std::numeric_limits<double>::quiet_NaN();
  diverged.accuracy = -std::numeric_limits<double>::infinity();
  ASSERT_THAT(PutTaskAndRounds(*this->store_, {}), IsOk());
  ASSERT_THAT(PutRound(*this->store_, kTask, diverged), IsOk());
  const Result<std::vector<RoundReport>> rounds = RoundsIn(*this->store_, kTask, 1, 1);
  ASSERT_THAT(NumbersOf(rounds), ElementsAre(1));
  EXPECT_TRUE(std::isnan(rounds->at(0).loss));
  EXPECT_EQ(rounds->at(0).accuracy, diverged.accuracy);
}

TYPED_TEST(EveryStore, KeepsAModelOfAnySizeOnce) {
  for (const size_t size :
       {size_t{0}, size_t{1}, size_t{1} << 20U, (size_t{1} << 20U) + 1, size_t{5} << 20U}) {
    const Bytes model = SomeModel(size, 3);
    ASSERT_THAT(PutModel(*this->store_, model), IsOk()) << size;
    ASSERT_THAT(PutModel(*this->store_, model), IsOk()) << size << " again";
    EXPECT_THAT(ModelIn(*this->store_, crypto::Sha256(model)), HoldsValue(model)) << size;
  }
}

TYPED_TEST(EveryStore, DropsAModelWithItsTransactionOnly) {
  Store& store = *this->store_;
  const Bytes model = SomeModel(size_t{3} << 20U, 4);
  const Digest hash = crypto::Sha256(model);
  ASSERT_THAT(PutModel(store, model), IsOk());
  EXPECT_THAT(store.RunTransaction("drop",
                                   [&](Transaction& transaction) -> Status {
                                     CHORUS_TRY(transaction.DropModel(hash));
                                     EXPECT_THAT(transaction.GetModel(hash),
                                                 HasCode(Code::kNotFound));
                                     return Aborted("not after all");
                                   }),
              HasCode(Code::kAborted));
  EXPECT_THAT(ModelIn(store, hash), HoldsValue(model));
  const auto drop = [&](Transaction& transaction) { return transaction.DropModel(hash); };
  ASSERT_THAT(store.RunTransaction("drop", drop), IsOk());
  EXPECT_THAT(ModelIn(store, hash), HasCode(Code::kNotFound));
  ASSERT_THAT(store.RunTransaction("drop what is not there", drop), IsOk());
  // Dropped and put again in one step, it is there.
  ASSERT_THAT(PutModel(store, model), IsOk());
  const auto renew = [&](Transaction& transaction) -> Status {
    CHORUS_TRY(transaction.DropModel(hash));
    return transaction.PutModel(hash, model);
  };
  ASSERT_THAT(store.RunTransaction("renew", renew), IsOk());
  EXPECT_THAT(ModelIn(store, hash), HoldsValue(model));
}

TYPED_TEST(EveryStore, RefusesAModelUnderAForeignName) {
  const Bytes model = SomeModel(10, 5);
  EXPECT_THAT(
      this->store_->RunTransaction(
          "write", [&](Transaction& transaction) { return transaction.PutModel({}, model); }),
      HasCode(Code::kInvalidArgument));
}

// Runs `function` in a transaction that is to succeed.
void Do(Store& store, const std::function<Status(Transaction&)>& function) {
  EXPECT_THAT(store.RunTransaction("do", function), IsOk());
}

// What `list` gives in a transaction of its own.
template <typename T>
T Read(Store& store, const std::function<Result<T>(Transaction&)>& list) {
  T values;
  Do(store, [&](Transaction& transaction) -> Status {
    CHORUS_TRY_ASSIGN(values, list(transaction));
    return OkStatus();
  });
  return values;
}

TYPED_TEST(EveryStore, ListsTasksByName) {
  TaskRecord other = SomeTask(kOtherTask);
  other.name = "another";
  ASSERT_THAT(PutTaskAndRounds(*this->store_, {}), IsOk());
  Do(*this->store_, [&](Transaction& transaction) { return transaction.PutTask(other); });
  const auto tasks = Read<std::vector<TaskRecord>>(
      *this->store_, [](Transaction& transaction) { return transaction.Tasks(); });
  ASSERT_THAT(tasks, SizeIs(2));
  ExpectSame(tasks[0], other);
  ExpectSame(tasks[1], SomeTask());
}

std::vector<uint64_t> Latest(Store& store, uint32_t count) {
  return NumbersOf(Read<std::vector<RoundReport>>(
      store, [&](Transaction& transaction) { return transaction.LatestRounds(kTask, count); }));
}

TYPED_TEST(EveryStore, GivesTheLatestRoundsDescendingAndBounded) {
  EXPECT_THAT(Latest(*this->store_, 5), IsEmpty());
  ASSERT_THAT(PutTaskAndRounds(*this->store_, {12, 3, 300, 1}), IsOk());
  EXPECT_THAT(Latest(*this->store_, 3), ElementsAre(300, 12, 3));
  EXPECT_THAT(Latest(*this->store_, UINT32_MAX), ElementsAre(300, 12, 3, 1));
  EXPECT_THAT(Latest(*this->store_, 0), IsEmpty());
}

TYPED_TEST(EveryStore, ForgetsRoundsWithTheirEvidenceAndAnswers) {
  Store& store = *this->store_;
  std::vector<Bytes> answers;
  Do(store, [&](Transaction& transaction) {
    TaskRecord task = SomeTask();
    for (uint64_t number = 1; number <= 4; ++number) {
      answers.push_back(SomeModel(100, static_cast<uint8_t>(number)));
      RoundReport round = SomeRound(number);
      round.answers = crypto::Sha256(answers.back());
      task.server_state = round.answers;
      CHORUS_TRY(transaction.PutTask(task));
      CHORUS_TRY(transaction.PutModel(round.answers, answers.back()));
      CHORUS_TRY(transaction.PutRound(kTask, round));
      CHORUS_TRY(transaction.PutEvidence(
          kTask,
          Evidence{.round = number, .cohort = 1, .identity = {}, .first = {}, .second = {}}));
    }
    // The answers of the second are those of the last as well.
    RoundReport second = SomeRound(2);
    second.answers = task.server_state;
    return transaction.PutRound(kTask, second);
  });
  const auto forget = [](Transaction& transaction) { return transaction.DropRounds(kTask, 3); };
  EXPECT_THAT(store.RunTransaction("forget",
                                   [&](Transaction& transaction) -> Status {
                                     CHORUS_TRY(forget(transaction));
                                     return Aborted("not after all");
                                   }),
              HasCode(Code::kAborted));
  EXPECT_THAT(NumbersOf(store, kTask, 0, 10), ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(ModelIn(store, crypto::Sha256(answers[0])), IsOk());
  Do(store, forget);
  EXPECT_THAT(NumbersOf(store, kTask, 0, 10), ElementsAre(3, 4));
  const auto evidence = Read<std::vector<Evidence>>(
      store, [](Transaction& transaction) { return transaction.ListEvidence(kTask, 10); });
  EXPECT_THAT(evidence, ElementsAre(testing::Field(&Evidence::round, 4U),
                                    testing::Field(&Evidence::round, 3U)));
  EXPECT_THAT(ModelIn(store, crypto::Sha256(answers[0])), HasCode(Code::kNotFound));
  EXPECT_THAT(ModelIn(store, crypto::Sha256(answers[2])), IsOk());
  EXPECT_THAT(ModelIn(store, crypto::Sha256(answers[3])), IsOk());
  Do(store, [](Transaction& transaction) { return transaction.DropRounds(kTask, UINT64_MAX); });
  EXPECT_THAT(NumbersOf(store, kTask, 0, 10), IsEmpty());
  EXPECT_THAT(ModelIn(store, crypto::Sha256(answers[3])), IsOk()) << "the task names them";
}

// A task whose rounds 1 to 6 committed but for the third, each with a model; model 0 is the first.
std::vector<Digest> PutHistory(Store& store) {
  std::vector<Digest> models;
  Do(store, [&](Transaction& transaction) {
    models.clear();
    TaskRecord task = SomeTask();
    for (uint64_t number = 0; number <= 6; ++number) {
      const Bytes model = SomeModel(50, static_cast<uint8_t>(number));
      RoundReport round = SomeRound(number);
      round.state = RoundState::kCommitted;
      round.answers = {};
      if (number > 0) round.model = models.back();
      models.push_back(crypto::Sha256(model));
      CHORUS_TRY(transaction.PutModel(models.back(), model));
      round.result = models.back();
      if (number == 3) {
        round.state = RoundState::kAborted;
        round.result = {};
      }
      task.model = models.back();
      CHORUS_TRY(transaction.PutTask(task));
      if (number > 0) CHORUS_TRY(transaction.PutRound(kTask, round));
    }
    return OkStatus();
  });
  return models;
}

// Which of `models` the store has.
std::vector<size_t> Kept(Store& store, const std::vector<Digest>& models) {
  std::vector<size_t> kept;
  for (size_t i = 0; i < models.size(); ++i) {
    if (ModelIn(store, models[i]).ok()) kept.push_back(i);
  }
  return kept;
}

TYPED_TEST(EveryStore, DropsModelsOlderThanTheLatestOnes) {
  Store& store = *this->store_;
  const std::vector<Digest> models = PutHistory(store);
  const auto keep = [&](uint32_t count) {
    Do(store, [=](Transaction& transaction) { return transaction.DropOldModels(kTask, count); });
    return Kept(store, models);
  };
  EXPECT_THAT(keep(100), ElementsAre(0, 1, 2, 3, 4, 5, 6));
  EXPECT_THAT(keep(5), ElementsAre(0, 1, 2, 3, 4, 5, 6)) << "as old as the first kept round";
  EXPECT_THAT(keep(4), ElementsAre(2, 3, 4, 5, 6)) << "the third is of no committed round";
  EXPECT_THAT(keep(2), ElementsAre(3, 5, 6));
  Do(store, [](Transaction& transaction) { return transaction.DropRounds(kTask, 6); });
  EXPECT_THAT(NumbersOf(store, kTask, 0, 10), ElementsAre(5, 6)) << "the fifth made a kept model";
  EXPECT_THAT(keep(0), ElementsAre(3, 6)) << "at least one stays";
}

CohortRecord OpenCohort(uint64_t round, uint32_t number) {
  CohortRecord cohort;
  cohort.round = round;
  cohort.cohort = number;
  cohort.process = "east-1";
  return cohort;
}

CohortRecord SummedCohort(uint64_t round, const Digest& sum) {
  CohortRecord cohort = OpenCohort(round, 1);
  cohort.state = CohortState::kSummed;
  cohort.sum = sum;
  return cohort;
}

TYPED_TEST(EveryStore, KeepsOldModelsThatSomethingNames) {
  Store& store = *this->store_;
  const std::vector<Digest> models = PutHistory(store);
  Do(store, [&](Transaction& transaction) {
    TaskRecord task = SomeTask();
    task.model = models[1];  // rolled back
    CHORUS_TRY(transaction.PutTask(task));
    TaskRecord other = SomeTask(kOtherTask);
    other.server_state = models[2];
    CHORUS_TRY(transaction.PutTask(other));
    RoundReport round = SomeRound(1);
    round.result = models[4];
    CHORUS_TRY(transaction.PutRound(kOtherTask, round));
    CHORUS_TRY(transaction.PutCohort(kTask, SummedCohort(7, models[5])));
    CHORUS_TRY(transaction.DropOldModels(kOtherTask, 1));
    return transaction.DropOldModels(kTask, 1);
  });
  EXPECT_THAT(Kept(store, models), ElementsAre(1, 2, 3, 4, 5, 6));
}

AuditEntry SomeEntry(uint64_t number) {
  AuditEntry entry{.number = number,
                   .unix_seconds = -5,
                   .action = AuditEntry::Action::kRolledBack,
                   .round = 7,
                   .priority = 4'000'000'000U,
                   .reason = "the \xE9v\0al says so"};
  entry.actor.fill(static_cast<uint8_t>(number));
  entry.model.fill(2);
  entry.previous.fill(3);
  entry.signature.fill(4);
  return entry;
}

TYPED_TEST(EveryStore, KeepsTheAuditInOrderAndWithoutAGap) {
  Store& store = *this->store_;
  const auto put = [&](uint64_t number, const TaskId& task) {
    return store.RunTransaction("audit", [&](Transaction& transaction) {
      return transaction.PutAudit(task, SomeEntry(number));
    });
  };
  const auto list = [&](uint32_t count) {
    return Read<std::vector<AuditEntry>>(
        store, [&](Transaction& transaction) { return transaction.ListAudit(kTask, count); });
  };
  EXPECT_THAT(put(1, kTask), HasCode(Code::kNotFound));
  ASSERT_THAT(PutTaskAndRounds(store, {}), IsOk());
  EXPECT_THAT(list(5), IsEmpty());
  EXPECT_THAT(put(2, kTask), HasCodeAndText(Code::kFailedPrecondition, "number 1"));
  for (const uint64_t number : {1, 2, 3}) EXPECT_THAT(put(number, kTask), IsOk());
  EXPECT_THAT(put(3, kTask), HasCodeAndText(Code::kFailedPrecondition, "number 4"));
  EXPECT_THAT(put(5, kTask), HasCode(Code::kFailedPrecondition));
  const std::vector<AuditEntry> latest = list(2);
  ASSERT_THAT(latest, SizeIs(2));
  EXPECT_EQ(latest[0].number, 3U);
  const AuditEntry expected = SomeEntry(2);
  EXPECT_EQ(latest[1].number, expected.number);
  EXPECT_EQ(latest[1].unix_seconds, expected.unix_seconds);
  EXPECT_EQ(latest[1].action, expected.action);
  EXPECT_EQ(latest[1].actor, expected.actor);
  EXPECT_EQ(latest[1].round, expected.round);
  EXPECT_EQ(latest[1].model, expected.model);
  EXPECT_EQ(latest[1].priority, expected.priority);
  EXPECT_EQ(latest[1].reason, expected.reason);
  EXPECT_EQ(latest[1].previous, expected.previous);
  EXPECT_EQ(latest[1].signature, expected.signature);
  EXPECT_THAT(list(100), SizeIs(3));
  const auto numbers = [&](uint64_t first, uint32_t count) {
    std::vector<uint64_t> all;
    for (const AuditEntry& entry :
         Read<std::vector<AuditEntry>>(store, [&](Transaction& transaction) {
           return transaction.AuditFrom(kTask, first, count);
         })) {
      all.push_back(entry.number);
    }
    return all;
  };
  EXPECT_THAT(numbers(0, 5), ElementsAre(1, 2, 3));
  EXPECT_THAT(numbers(2, 1), ElementsAre(2));
  EXPECT_THAT(numbers(2, 5), ElementsAre(2, 3));
  EXPECT_THAT(numbers(4, 5), IsEmpty());
  EXPECT_THAT(numbers(UINT64_MAX, 5), IsEmpty());
}

TYPED_TEST(EveryStore, RemembersProcessesUntilTheyAreDropped) {
  Store& store = *this->store_;
  const auto names = [&] {
    std::vector<std::string> all;
    for (const ProcessRecord& process : Read<std::vector<ProcessRecord>>(
             store, [](Transaction& transaction) { return transaction.Processes(); })) {
      all.push_back(process.name + " " + process.address + " " +
                    std::to_string(process.seen.count()));
    }
    return all;
  };
  EXPECT_THAT(names(), IsEmpty());
  Do(store, [](Transaction& transaction) {
    CHORUS_TRY(transaction.PutProcess({.name = "b", .address = "", .seen = Time(5)}));
    CHORUS_TRY(transaction.PutProcess({.name = "a", .address = "host:1", .seen = Time(-6)}));
    return transaction.PutProcess({.name = "b", .address = "host:2", .seen = Time(7)});
  });
  EXPECT_THAT(names(), ElementsAre("a host:1 -6", "b host:2 7"));
  Do(store, [](Transaction& transaction) {
    CHORUS_TRY(transaction.DropProcess("c"));
    return transaction.DropProcess("a");
  });
  EXPECT_THAT(names(), ElementsAre("b host:2 7"));
}

std::vector<CohortRecord> CohortsIn(Store& store, uint64_t round) {
  return Read<std::vector<CohortRecord>>(
      store, [&](Transaction& transaction) { return transaction.CohortsOf(kTask, round); });
}

TYPED_TEST(EveryStore, KeepsTheCohortsOfARoundUntilTheyAreDropped) {
  Store& store = *this->store_;
  const auto put = [&store](const CohortRecord& cohort) {
    return store.RunTransaction(
        "put", [&](Transaction& transaction) { return transaction.PutCohort(kTask, cohort); });
  };
  CohortRecord summed{.round = 8,
                      .cohort = 2,
                      .process = "west-1",
                      .lease_until = Time(99),
                      .state = CohortState::kSummed,
                      .report = {1, 0, 2}};
  summed.sum.fill(6);
  EXPECT_THAT(put(summed), HasCode(Code::kNotFound));
  ASSERT_THAT(PutTaskAndRounds(store, {}), IsOk());
  ASSERT_THAT(put(OpenCohort(8, 2)), IsOk());
  ASSERT_THAT(put(summed), IsOk());
  ASSERT_THAT(put(OpenCohort(8, 1)), IsOk());
  ASSERT_THAT(put(OpenCohort(9, 1)), IsOk());
  const std::vector<CohortRecord> cohorts = CohortsIn(store, 8);
  ASSERT_THAT(cohorts, SizeIs(2));
  EXPECT_EQ(cohorts[0].process, "east-1");
  EXPECT_EQ(cohorts[0].state, CohortState::kOpen);
  EXPECT_EQ(cohorts[0].sum, Digest{});
  EXPECT_EQ(cohorts[1].round, 8U);
  EXPECT_EQ(cohorts[1].cohort, 2U);
  EXPECT_EQ(cohorts[1].process, "west-1");
  EXPECT_EQ(cohorts[1].lease_until, Time(99));
  EXPECT_EQ(cohorts[1].state, CohortState::kSummed);
  EXPECT_EQ(cohorts[1].report, summed.report);
  EXPECT_EQ(cohorts[1].sum, summed.sum);
  Do(store, [](Transaction& transaction) { return transaction.DropCohorts(kTask, 8); });
  EXPECT_THAT(CohortsIn(store, 8), IsEmpty());
  EXPECT_THAT(CohortsIn(store, 9), SizeIs(1));
}

TYPED_TEST(EveryStore, LetsAnIdentityIntoOneCohortOfARound) {
  Store& store = *this->store_;
  const auto key = [](int number) {
    PublicKey identity{};
    identity[0] = static_cast<uint8_t>(number % 256);
    identity[31] = static_cast<uint8_t>(number / 256);
    return identity;
  };
  const auto claim = [&](uint64_t round, uint32_t cohort, const std::vector<PublicKey>& wanted) {
    return Read<std::vector<PublicKey>>(store, [&](Transaction& transaction) {
      return transaction.ClaimIdentities(kTask, round, cohort, wanted);
    });
  };
  ASSERT_THAT(PutTaskAndRounds(store, {}), IsOk());
  EXPECT_THAT(claim(1, 1, {}), IsEmpty());
  EXPECT_THAT(claim(1, 1, {key(5), key(3), key(5)}), ElementsAre(key(5), key(3)));
  EXPECT_THAT(claim(1, 2, {key(4), key(3), key(1)}), ElementsAre(key(4), key(1)));
  EXPECT_THAT(claim(1, 1, {key(5)}), IsEmpty());
  EXPECT_THAT(claim(2, 1, {key(5)}), ElementsAre(key(5)));
  std::vector<PublicKey> many;
  for (int number = 999; number >= 0; --number) many.push_back(key(number));
  EXPECT_THAT(claim(1, 3, many), SizeIs(1'000 - 4));
  EXPECT_THAT(store.RunTransaction("drop",
                                   [](Transaction& transaction) -> Status {
                                     CHORUS_TRY(transaction.DropCohorts(kTask, 1));
                                     return Aborted("not after all");
                                   }),
              HasCode(Code::kAborted));
  EXPECT_THAT(claim(1, 3, many), IsEmpty());
  Do(store, [](Transaction& transaction) { return transaction.DropCohorts(kTask, 1); });
  EXPECT_THAT(claim(1, 3, many), SizeIs(1'000));
  EXPECT_THAT(claim(2, 1, {key(5)}), IsEmpty());
}

TYPED_TEST(EveryStore, TellsATimeThatGoesOn) {
  const auto now = [this] {
    return Read<Time>(*this->store_, [](Transaction& transaction) { return transaction.Now(); });
  };
  const Time first = now();
  const auto waited = std::chrono::steady_clock::now() + std::chrono::milliseconds(20);
  while (std::chrono::steady_clock::now() < waited) std::this_thread::yield();
  const Time second = now();
  EXPECT_GE(second - first, Time(15));
  EXPECT_LT(second - first, Time(60'000));
}

TEST(MemoryStore, TellsTheTimeOfItsClock) {
  class StoppedClock final : public Clock {
   public:
    Time Now() const override { return Time(42); }
    int64_t UnixSeconds() const override { return 0; }
  };
  const StoppedClock clock;
  const std::unique_ptr<Store> store = NewMemoryStore({.clock = &clock, .shared = true});
  EXPECT_EQ(Read<Time>(*store, [](Transaction& transaction) { return transaction.Now(); }),
            Time(42));
  EXPECT_TRUE(store->shared());
  EXPECT_FALSE(NewMemoryStore()->shared());
}

TYPED_TEST(EveryStore, RunsTransactionsOfManyThreadsOneAfterTheOther) {
  ASSERT_THAT(PutTaskAndRounds(*this->store_, {}), IsOk());
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([this] {
      for (int k = 0; k < 10; ++k) {
        EXPECT_THAT(this->store_->RunTransaction("count",
                                                 [](Transaction& transaction) -> Status {
                                                   CHORUS_TRY_ASSIGN(std::optional<TaskRecord> task,
                                                                     transaction.FindTask(kTask));
                                                   ++task.value().rounds_begun;
                                                   return transaction.PutTask(*task);
                                                 }),
                    IsOk());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(TaskIn(*this->store_, kTask).value().rounds_begun, SomeTask().rounds_begun + 40);
}

}  // namespace
}  // namespace chorus
