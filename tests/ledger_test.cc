// The client's ledger: what it allows, what it survives, what it refuses.
#include "client/ledger.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <string>

#include "base/codec.h"
#include "base/limits.h"
#include "client_fakes.h"
#include "crypto/crypto.h"

namespace chorus::client {
namespace {

constexpr TaskId kTask{1};
constexpr Digest kModel{2};
constexpr int64_t kDay = 20'000;
constexpr size_t kHeaderBytes = 16;  // of the file
constexpr size_t kRecordBytes = 81;

std::string LedgerFile(const TemporaryFolder& folder) { return folder.path() + "/ledger"; }

TEST(Ledger, NeverLetsOneRoundBeAnsweredTwice) {
  const TemporaryFolder folder;
  const auto ledger = *Ledger::Open(folder.path());
  EXPECT_THAT(ledger->NoteAttempt(kTask, 1, kDay), IsOk());
  EXPECT_THAT(ledger->NoteUpload(kTask, 1, kModel, 0), IsOk());
  EXPECT_THAT(ledger->NoteUpload(kTask, 1, kModel, 0),
              HasCodeAndText(Code::kPermissionDenied, "already given its part"));
  EXPECT_THAT(ledger->PermitUpload(kTask, 1, Digest{3}, 0), HasCode(Code::kPermissionDenied));
  EXPECT_THAT(ledger->NoteAttempt(kTask, 1, kDay + 9), HasCode(Code::kPermissionDenied));
  EXPECT_THAT(ledger->PermitUpload(TaskId{9}, 1, kModel, 0), IsOk());
}

TEST(Ledger, CountsUploadsOfEachModel) {
  for (const uint32_t most : {1U, 3U}) {
    const TemporaryFolder folder;
    const auto ledger = *Ledger::Open(folder.path());
    for (uint64_t round = 1; round <= most; ++round)
      EXPECT_THAT(ledger->NoteUpload(kTask, round, kModel, most), IsOk());
    EXPECT_THAT(ledger->NoteUpload(kTask, 9, kModel, most),
                HasCodeAndText(Code::kPermissionDenied, "this version of the model"));
    EXPECT_THAT(ledger->NoteUpload(TaskId{5}, 9, kModel, most), HasCode(Code::kPermissionDenied));
    EXPECT_THAT(ledger->PermitUpload(kTask, 9, kModel, 0), IsOk());
    EXPECT_THAT(ledger->NoteUpload(kTask, 9, Digest{3}, most), IsOk());
  }
}

TEST(Ledger, CapsAttemptsOfARoundAndOfADay) {
  const TemporaryFolder folder;
  const auto ledger = *Ledger::Open(folder.path());
  for (uint32_t i = 0; i < limits::kAttemptsPerRoundMax; ++i)
    EXPECT_THAT(ledger->NoteAttempt(kTask, 1, kDay), IsOk());
  EXPECT_THAT(ledger->NoteAttempt(kTask, 1, kDay + 1),
              HasCodeAndText(Code::kPermissionDenied, "too often"));
  for (uint32_t i = limits::kAttemptsPerRoundMax; i < limits::kAttemptsPerDayMax; ++i)
    EXPECT_THAT(ledger->NoteAttempt(kTask, 100 + i, kDay), IsOk());
  EXPECT_THAT(ledger->NoteAttempt(kTask, 99, kDay),
              HasCodeAndText(Code::kPermissionDenied, "tomorrow"));
  EXPECT_THAT(ledger->PermitAttempt(kTask, 99, kDay),
              HasCodeAndText(Code::kPermissionDenied, "tomorrow"));
  EXPECT_THAT(ledger->PermitAttempt(kTask, 99, kDay + 1), IsOk());
  EXPECT_THAT(ledger->NoteAttempt(kTask, 99, kDay + 1), IsOk());
}

TEST(Ledger, RemembersOverRestarts) {
  const TemporaryFolder folder;
  for (uint64_t round = 1; round <= 3; ++round) {
    const auto ledger = *Ledger::Open(folder.path());
    EXPECT_THAT(ledger->NoteAttempt(kTask, 77, kDay), IsOk());
    EXPECT_THAT(ledger->NoteUpload(kTask, round, kModel, 3), IsOk());
  }
  const auto ledger = *Ledger::Open(folder.path());
  EXPECT_THAT(ledger->NoteUpload(kTask, 4, kModel, 3), HasCode(Code::kPermissionDenied));
  EXPECT_THAT(ledger->PermitUpload(kTask, 2, Digest{3}, 3), HasCode(Code::kPermissionDenied));
  EXPECT_THAT(ledger->NoteAttempt(kTask, 77, kDay), IsOk());
  EXPECT_THAT(ledger->NoteAttempt(kTask, 77, kDay), HasCode(Code::kPermissionDenied));
}

TEST(Ledger, DropsALastRecordThatACrashCutShort) {
  for (size_t lost = 1; lost < kRecordBytes; lost += 13) {
    const TemporaryFolder folder;
    {
      const auto ledger = *Ledger::Open(folder.path());
      EXPECT_THAT(ledger->NoteUpload(kTask, 1, kModel, 0), IsOk());
      EXPECT_THAT(ledger->NoteUpload(kTask, 2, kModel, 0), IsOk());
    }
    std::filesystem::resize_file(LedgerFile(folder), kHeaderBytes + 2 * kRecordBytes - lost);
    {
      const auto ledger = *Ledger::Open(folder.path());
      EXPECT_THAT(ledger->PermitUpload(kTask, 1, kModel, 0), HasCode(Code::kPermissionDenied));
      EXPECT_THAT(ledger->NoteUpload(kTask, 2, kModel, 0), IsOk());
    }
    const auto ledger = *Ledger::Open(folder.path());
    EXPECT_THAT(ledger->PermitUpload(kTask, 2, kModel, 0), HasCode(Code::kPermissionDenied));
  }
}

TEST(Ledger, DropsALastRecordWhoseContentNeverReachedTheDisk) {
  const TemporaryFolder folder;
  EXPECT_THAT((*Ledger::Open(folder.path()))->NoteUpload(kTask, 1, kModel, 0), IsOk());
  std::filesystem::resize_file(LedgerFile(folder), kHeaderBytes + 2 * kRecordBytes);
  const auto ledger = *Ledger::Open(folder.path());
  EXPECT_THAT(ledger->PermitUpload(kTask, 1, kModel, 0), HasCode(Code::kPermissionDenied));
  EXPECT_EQ(ReadFile(LedgerFile(folder)).size(), kHeaderBytes + kRecordBytes);
}

TEST(Ledger, RefusesDamage) {
  const TemporaryFolder folder;
  {
    const auto ledger = *Ledger::Open(folder.path());
    for (uint64_t round = 1; round <= 3; ++round)
      EXPECT_THAT(ledger->NoteUpload(kTask, round, kModel, 0), IsOk());
  }
  const Bytes whole = ReadFile(LedgerFile(folder));
  ASSERT_EQ(whole.size(), kHeaderBytes + 3 * kRecordBytes);
  const auto opens = [&](const Bytes& bytes) {
    WriteFile(LedgerFile(folder), bytes);
    return Ledger::Open(folder.path());
  };
  for (size_t i = 0; i < whole.size(); ++i) {
    Bytes flipped = whole;
    flipped[i] ^= 0x10;
    EXPECT_THAT(opens(flipped), HasCode(Code::kDataLoss)) << i;
  }
  Bytes swapped = whole;
  std::swap_ranges(swapped.begin() + kHeaderBytes, swapped.begin() + kHeaderBytes + kRecordBytes,
                   swapped.begin() + kHeaderBytes + kRecordBytes);
  EXPECT_THAT(opens(swapped), HasCode(Code::kDataLoss));
  Bytes missing = whole;
  missing.erase(missing.begin() + kHeaderBytes + kRecordBytes,
                missing.begin() + kHeaderBytes + 2 * kRecordBytes);
  EXPECT_THAT(opens(missing), HasCode(Code::kDataLoss));
  EXPECT_THAT(opens({}), HasCode(Code::kDataLoss));
  EXPECT_THAT(opens(whole), IsOk());
}

TEST(Ledger, IsForOneClientAtATime) {
  const TemporaryFolder folder;
  {
    const auto ledger = *Ledger::Open(folder.path());
    EXPECT_THAT(Ledger::Open(folder.path()),
                HasCodeAndText(Code::kFailedPrecondition, "another client"));
  }
  EXPECT_THAT(Ledger::Open(folder.path()), IsOk());
}

TEST(Ledger, SaysWhenItsFolderCannotBeUsed) {
  EXPECT_THAT(Ledger::Open("/proc/no/such/folder"), HasCode(Code::kUnavailable));
}

TEST(Ledger, SurvivesAFullDisk) {
  const TemporaryFolder folder;
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    signal(SIGXFSZ, SIG_IGN);
    const auto ledger = *Ledger::Open(folder.path());
    if (!ledger->NoteUpload(kTask, 1, kModel, 0).ok()) _exit(1);
    rlimit limit{};
    getrlimit(RLIMIT_FSIZE, &limit);
    limit.rlim_cur = kHeaderBytes + kRecordBytes + 40;  // half a record more
    setrlimit(RLIMIT_FSIZE, &limit);
    if (ledger->NoteUpload(kTask, 2, kModel, 0).code() != Code::kResourceExhausted) _exit(2);
    if (ReadFile(LedgerFile(folder)).size() != kHeaderBytes + kRecordBytes) _exit(3);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_FSIZE, &limit);
    if (!ledger->NoteUpload(kTask, 2, kModel, 0).ok()) _exit(4);
    _exit(0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
  const auto ledger = *Ledger::Open(folder.path());
  EXPECT_THAT(ledger->PermitUpload(kTask, 2, kModel, 0), HasCode(Code::kPermissionDenied));
}

// The file's format, written down a second time: a ledger of one upload and then of `attempts`,
// as many a day as are allowed, the last on `day`.
Bytes LedgerOfManyAttempts(uint64_t attempts, int64_t day) {
  Writer file;
  file.Raw("CHORUSLG").U32(1).U32(0);
  Digest chain = crypto::Sha256(file.view());  // the header begins it
  const auto add = [&](uint8_t kind, uint64_t round, const Digest& model, int64_t on) {
    Writer record;
    record.U8(kind).Raw(kTask).U64(round).Raw(model).U64(static_cast<uint64_t>(on));
    const BytesView before = BytesView(chain).first(16);
    chain = crypto::Sha256(Writer().Raw(before).Raw(record.view()).view());
    file.Raw(record.view()).Raw(BytesView(chain).first(16));
  };
  add(2, 1, kModel, 0);
  for (uint64_t left = attempts; left > 0; --left)
    add(1, 1'000 + left, Digest{},
        day - static_cast<int64_t>((left - 1) / limits::kAttemptsPerDayMax));
  return std::move(file).Take();
}

TEST(Ledger, ForgetsOldAttemptsButNoUploadWhenItGrows) {
  const TemporaryFolder folder;
  WriteFile(LedgerFile(folder), LedgerOfManyAttempts(4'200, kDay));
  {
    const auto ledger = *Ledger::Open(folder.path());
    EXPECT_THAT(ledger->NoteAttempt(kTask, 9, kDay), HasCode(Code::kPermissionDenied));
    EXPECT_THAT(ledger->NoteAttempt(kTask, 9, kDay + 1), IsOk());
    EXPECT_THAT(ledger->NoteUpload(kTask, 9, Digest{3}, 1), IsOk());
  }
  EXPECT_EQ(ReadFile(LedgerFile(folder)).size(),
            kHeaderBytes + (1 + limits::kAttemptsPerDayMax + 2) * kRecordBytes);
  const auto ledger = *Ledger::Open(folder.path());
  EXPECT_THAT(ledger->PermitUpload(kTask, 1, Digest{4}, 0), HasCode(Code::kPermissionDenied));
  EXPECT_THAT(ledger->PermitUpload(kTask, 2, kModel, 1), HasCode(Code::kPermissionDenied));
  EXPECT_THAT(ledger->PermitUpload(kTask, 2, Digest{3}, 1), HasCode(Code::kPermissionDenied));
  EXPECT_THAT(ledger->NoteAttempt(kTask, 10, kDay), HasCode(Code::kPermissionDenied));
}

TEST(Ledger, GoesOnWhenThereIsNoRoomToRewriteIt) {
  const TemporaryFolder folder;
  const Bytes file = LedgerOfManyAttempts(4'200, kDay);
  WriteFile(LedgerFile(folder), file);
  std::filesystem::create_directory(folder.path() + "/ledger.new");  // in the rewrite's way
  const auto ledger = *Ledger::Open(folder.path());
  EXPECT_THAT(ledger->NoteAttempt(kTask, 9, kDay + 1), IsOk());
  EXPECT_EQ(ReadFile(LedgerFile(folder)).size(), file.size() + kRecordBytes);
}

}  // namespace
}  // namespace chorus::client
