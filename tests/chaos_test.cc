// The simulation of faults: seeds that must hold, those that once did not, and whether what judges
// them can be trusted.
#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/hex.h"
#include "chorus/simulation.h"
#include "client/durable_file.h"
#include "client/ledger.h"
#include "coordinator/task_state.h"
#include "crypto/crypto.h"
#include "matchers.h"
#include "simulation/chaos_audit.h"
#include "simulation/chaos_disk.h"
#include "simulation/chaos_parts.h"
#include "simulation/chaos_plan.h"
#include "simulation/chaos_store.h"

namespace chorus::simulation {
namespace {

using client::Ledger;
using client::Opened;
using client::Opening;

std::string Text(const ChaosReport& report) {
  std::string text;
  for (const std::string& line : report.trace) text.append(line).append("\n");
  return text.append(report.system);
}

void ExpectHolds(uint64_t seed) {
  const ChaosReport report = RunChaos({.seed = seed});
  if (report.verdict.ok()) return;
  ADD_FAILURE() << Text(report) << "\n"
                << report.verdict.message() << "\nagain: chorus simulate --chaos --seed " << seed;
}

// --- seeds ---------------------------------------------------------------------------------------

constexpr uint64_t kShards = 8;
constexpr uint64_t kSeedsOfShard = 250;

class ChaosSeeds : public testing::TestWithParam<uint64_t> {};

TEST_P(ChaosSeeds, HoldEveryInvariant) {
  const uint64_t first = 1 + GetParam() * kSeedsOfShard;
  std::array<uint64_t, kFaultKinds> struck{};
  uint64_t committed = 0;
  for (uint64_t seed = first; seed < first + kSeedsOfShard && !HasFailure(); ++seed) {
    SCOPED_TRACE(seed);
    const ChaosReport report = RunChaos({.seed = seed});
    if (!report.verdict.ok()) ExpectHolds(seed);
    for (size_t kind = 0; kind < kFaultKinds; ++kind) struck[kind] += report.faults[kind];
    committed += report.rounds_committed;
  }
  // A run in which nothing goes wrong, or nothing is done, shows nothing.
  for (size_t kind = 0; kind < kFaultKinds; ++kind) {
    EXPECT_GT(struck[kind], kSeedsOfShard / 4) << FaultName(static_cast<Fault>(kind));
  }
  EXPECT_GT(committed, 3 * kSeedsOfShard);
}

INSTANTIATE_TEST_SUITE_P(TwoThousand, ChaosSeeds, testing::Range(uint64_t{0}, kShards));

// Seeds that found something, and what that was.
TEST(Chaos, SeedsThatOnceFailedHold) {
  // A commit that took effect unheard was made again with another duration: a settled round
  // changed.
  ExpectHolds(9);
  // A client died between renaming its new ledger and synchronising the folder; the next one built
  // on a name that a loss of power could take away, and with it all uploads.
  ExpectHolds(5);
  // Of a ledger's record that lay across two sectors a loss of power kept one: the ledger counted
  // as damaged, and its client could never start again.
  ExpectHolds(47);
  // A client that found nothing to repair in its ledger cut it to its own length all the same; the
  // power failed, and of the last record and that length only the length was kept in full.
  ExpectHolds(4'936);
}

TEST(Chaos, ASeedIsTheSameStoryAgain) {
  for (const uint64_t seed : {3U, 5U, 7U}) {
    const ChaosReport first = RunChaos({.seed = seed});
    const ChaosReport second = RunChaos({.seed = seed, .trace_lines_max = 0});
    EXPECT_EQ(ToHex(first.trace_sha256), ToHex(second.trace_sha256)) << seed;
    EXPECT_EQ(first.steps, second.steps);
    EXPECT_TRUE(second.trace.empty());
    EXPECT_NE(ToHex(RunChaos({.seed = seed + 1}).trace_sha256), ToHex(first.trace_sha256));
  }
}

TEST(Chaos, AFaultThatIsLeftOutDoesNotStrike) {
  ChaosOptions options{.seed = 7};
  for (size_t kind = 0; kind < kFaultKinds; ++kind) {
    options.without.push_back(static_cast<Fault>(kind));
  }
  const ChaosReport report = RunChaos(options);
  EXPECT_THAT(report.verdict, IsOk());
  EXPECT_EQ(report.faults, (std::array<uint64_t, kFaultKinds>{}));
  EXPECT_EQ(report.rounds_aborted, 0U);
}

TEST(Chaos, SetsTheClockByWhichLeasesGo) {
  const auto says_so = [](const std::string& line) {
    return line.find("the store: has its wall clock set") != std::string::npos;
  };
  bool found = false;
  for (uint64_t seed = 1; seed <= 300 && !found; ++seed) {
    const ChaosReport report = RunChaos({.seed = seed, .trace_lines_max = 100'000});
    found = std::any_of(report.trace.begin(), report.trace.end(), says_so);
  }
  EXPECT_TRUE(found);
}

// --- what it is made from ------------------------------------------------------------------------

struct DiskWorld {
  DiskWorld() { life.Begin(Life::kUnlimited); }

  Scene scene{0};
  Life life;
  Dice dice{1, "disk", 0};
  SimulatedDisk disk{scene, life, dice};
};

constexpr std::array<uint8_t, 3> kContent = {1, 2, 3};

TEST(SimulatedDisk, KeepsForCertainOnlyWhatWasSynchronised) {
  DiskWorld world;
  const Opened opened = world.disk.Open("/state/a", Opening::kEnsure);
  ASSERT_EQ(opened.file->Write(0, kContent), 0);
  EXPECT_FALSE(world.disk.Durable("/state/a").has_value());
  ASSERT_EQ(world.disk.SyncDirectory("/state"), 0);
  EXPECT_EQ(world.disk.Durable("/state/a"), Bytes());
  ASSERT_EQ(opened.file->Sync(), 0);
  EXPECT_EQ(world.disk.Durable("/state/a"), Bytes(kContent.begin(), kContent.end()));
  ASSERT_EQ(opened.file->Truncate(1), 0);
  EXPECT_EQ(world.disk.Durable("/state/a"), Bytes(kContent.begin(), kContent.end()));
}

TEST(SimulatedDisk, LosesAndTearsWhatWasNotSynchronisedWhenThePowerGoes) {
  bool lost = false;
  bool torn = false;
  bool whole = false;
  for (uint64_t seed = 0; seed < 200; ++seed) {
    DiskWorld world;
    world.dice = Dice(seed, "disk", 0);
    {
      const Opened opened = world.disk.Open("/state/a", Opening::kEnsure);
      ASSERT_EQ(world.disk.SyncDirectory("/state"), 0);
      ASSERT_EQ(opened.file->Write(0, kContent), 0);
    }
    world.disk.Crash(/*power_lost=*/true);
    const Bytes left = *world.disk.Durable("/state/a");
    lost |= left.empty();
    whole |= std::equal(left.begin(), left.end(), kContent.begin(), kContent.end());
    torn |=
        !left.empty() && !std::equal(left.begin(), left.end(), kContent.begin(), kContent.end());
  }
  EXPECT_TRUE(lost);
  EXPECT_TRUE(torn);
  EXPECT_TRUE(whole);
}

TEST(SimulatedDisk, KeepsWhatWasWrittenWhenOnlyTheProcessDies) {
  DiskWorld world;
  const Opened opened = world.disk.Open("/state/a", Opening::kEnsure);
  ASSERT_EQ(opened.file->Write(0, kContent), 0);
  ASSERT_EQ(opened.file->Lock(), 0);
  world.disk.Crash(/*power_lost=*/false);
  EXPECT_EQ(opened.file->Write(0, kContent), EIO) << "a file of the process that died";
  const Opened again = world.disk.Open("/state/a", Opening::kUpdate);
  uint64_t size = 0;
  ASSERT_EQ(again.file->SizeBytes(size), 0);
  EXPECT_EQ(size, kContent.size());
  EXPECT_EQ(again.file->Lock(), 0);
}

TEST(SimulatedDisk, ChangesNothingOnceItsProcessIsDead) {
  DiskWorld world;
  const Opened opened = world.disk.Open("/state/a", Opening::kEnsure);
  ASSERT_EQ(world.disk.SyncDirectory("/state"), 0);
  world.life.End();
  EXPECT_EQ(opened.file->Write(0, kContent), EIO);
  EXPECT_EQ(opened.file->Sync(), EIO);
  EXPECT_EQ(world.disk.Rename("/state/a", "/state/b"), EIO);
  EXPECT_EQ(world.disk.Durable("/state/a"), Bytes());
}

TEST(StoreDoor, RunsAgainWhatAConflictUndidAndKeepsItOnce) {
  Scene scene(0);
  scene.chaos = true;
  Life life;
  life.Begin(Life::kUnlimited);
  Dice dice(1, "store", 0);
  const std::unique_ptr<Store> store = NewMemoryStore();
  StoreDoor door(*store, scene, life, dice, "coordinator");
  door.faults.conflict_chance = 1.0;
  int runs = 0;
  TaskRecord record;
  record.name = "task";
  ASSERT_THAT(door.RunTransaction("put",
                                  [&](Transaction& transaction) -> Status {
                                    ++runs;
                                    CHORUS_TRY_ASSIGN(const auto found,
                                                      transaction.FindTask(record.id));
                                    EXPECT_FALSE(found.has_value()) << "what was undone is there";
                                    return transaction.PutTask(record);
                                  }),
              IsOk());
  EXPECT_GT(runs, 1);
}

TEST(StoreDoor, ShowsEveryCommitToWhoAudits) {
  Scene scene(0);
  Life life;
  life.Begin(Life::kUnlimited);
  Dice dice(1, "store", 0);
  const std::unique_ptr<Store> store = NewMemoryStore();
  StoreDoor door(*store, scene, life, dice, "coordinator");
  int commits = 0;
  door.committed = [&commits] { ++commits; };
  for (const char* const name : {"look", "begin round"}) {
    ASSERT_THAT(door.RunTransaction(name, [](Transaction&) { return OkStatus(); }), IsOk());
    EXPECT_THAT(door.RunTransaction(name, [](Transaction&) { return Aborted("not now"); }),
                HasCode(Code::kAborted));
  }
  EXPECT_EQ(commits, 2);
}

// --- who judges ----------------------------------------------------------------------------------

// A store in which round 1 has been committed, and the audit of it.
struct Audited {
  Audited() {
    record.id = coordinator::TaskIdOf(plan.task.name);
    record.name = plan.task.name;
    record.model = Put(Weights(kChaosDim, 0.0F));
    Commit(nullptr);
    report.round = 1;
    report.state = RoundState::kCommitted;
    report.model = record.model;
    report.result = Put(Weights(kChaosDim, 1.0F));
    record.model = report.result;
    record.rounds_begun = record.rounds_committed = 1;
    audit.Lied(1);  // its sum, of nobody, is not compared
  }
  Digest Put(const Weights& weights) {
    const auto* const raw = reinterpret_cast<const uint8_t*>(weights.data());
    const BytesView model(raw, weights.size() * sizeof(float));
    EXPECT_THAT(store->RunTransaction("put",
                                      [&](Transaction& transaction) {
                                        return transaction.PutModel(crypto::Sha256(model), model);
                                      }),
                IsOk());
    return crypto::Sha256(model);
  }
  void Commit(const RoundReport* round) {
    EXPECT_THAT(store->RunTransaction("commit",
                                      [&](Transaction& transaction) -> Status {
                                        CHORUS_TRY(transaction.PutTask(record));
                                        if (round == nullptr) return OkStatus();
                                        return transaction.PutRound(record.id, *round);
                                      }),
                IsOk());
    audit.StoreChanged();
  }

  const ChaosPlan plan = PlanOf({.seed = 1});
  Scene scene{0};
  const std::unique_ptr<Store> store = NewMemoryStore();
  Audit audit{{.scene = &scene, .plan = &plan, .store = store.get(), .durable_ledger = nullptr}};
  TaskRecord record;
  RoundReport report;
};

TEST(Audit, NoticesASettledRoundWhoseResultChanges) {
  Audited audited;
  audited.Commit(&audited.report);
  EXPECT_THAT(audited.scene.verdict(), IsOk());
  audited.report.result = audited.report.model;
  audited.Commit(&audited.report);
  EXPECT_THAT(audited.scene.verdict(), HasCodeAndText(Code::kInternal, "was settled"));
}

TEST(Audit, NoticesARoundWhoseResultIsNotTheModel) {
  Audited audited;
  audited.report.result = audited.report.model;
  audited.Commit(&audited.report);
  EXPECT_THAT(audited.scene.verdict(), HasCodeAndText(Code::kInternal, "another result"));
}

// --- what seeds found, each by itself ------------------------------------------------------------

TEST(Ledger, IsThereAfterAPowerLossThoughItsMakerDiedBeforeItsFolderWasSynchronised) {
  constexpr TaskId kTask = {7};
  for (uint64_t effects = 0; effects < 12; ++effects) {
    DiskWorld world;
    // Its maker dies at each of its effects in turn, and the machine runs on.
    world.life.Begin(5 * effects);
    { (void)Ledger::Open(world.disk, "/state"); }
    world.disk.Crash(/*power_lost=*/false);
    world.life.Begin(Life::kUnlimited);
    {
      const auto ledger = Ledger::Open(world.disk, "/state");
      ASSERT_THAT(ledger, IsOk());
      ASSERT_THAT((*ledger)->NoteUpload(kTask, 1, Digest{}, 0), IsOk());
    }
    ASSERT_TRUE(world.disk.Durable("/state/ledger").has_value()) << effects;
    world.disk.Crash(/*power_lost=*/true);
    const auto ledger = Ledger::Open(world.disk, "/state");
    ASSERT_THAT(ledger, IsOk());
    EXPECT_THAT((*ledger)->PermitUpload(kTask, 1, Digest{}, 0), HasCode(Code::kPermissionDenied));
  }
}

TEST(Ledger, GoesOnWithoutARecordOfWhichOneSectorNeverGotToTheDisk) {
  constexpr TaskId kTask = {7};
  // The seventh record is the first that lies across two sectors.
  constexpr uint64_t kWhole = 6;
  constexpr size_t kRecordBytes = 81;
  constexpr size_t kBegin = 16 + kWhole * kRecordBytes;
  for (const bool first_sector : {true, false}) {
    DiskWorld world;
    {
      const auto ledger = Ledger::Open(world.disk, "/state");
      ASSERT_THAT(ledger, IsOk());
      for (uint64_t round = 1; round <= kWhole + 1; ++round) {
        ASSERT_THAT((*ledger)->NoteUpload(kTask, round, Digest{}, 0), IsOk());
      }
    }
    {
      const Opened file = world.disk.Open("/state/ledger", Opening::kUpdate);
      const Bytes zeros(first_sector ? 512 - kBegin : kBegin + kRecordBytes - 512);
      ASSERT_EQ(file.file->Write(first_sector ? kBegin : 512, zeros), 0);
    }
    const auto ledger = Ledger::Open(world.disk, "/state");
    ASSERT_THAT(ledger, IsOk());
    EXPECT_THAT((*ledger)->PermitUpload(kTask, kWhole + 1, Digest{}, 0), IsOk());
    EXPECT_THAT((*ledger)->PermitUpload(kTask, kWhole, Digest{}, 0),
                HasCode(Code::kPermissionDenied));
  }
}

}  // namespace
}  // namespace chorus::simulation
