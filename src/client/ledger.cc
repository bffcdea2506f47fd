// One append-only file, `ledger`, in the client's folder, and `ledger.lock` beside it:
//   header   magic "CHORUSLG" | version u32 | zero u32
//   records  kind u8 | task 16 | round u64 | model 32 | day u64 | checksum 16
// A checksum is the first 16 bytes of SHA-256(the checksum before it, the record), so that a
// changed, missing or moved record breaks the chain. What no file can show by itself is that it was
// replaced by an older copy of itself: whoever controls the folder controls the ledger.
#include "client/ledger.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <string_view>
#include <utility>

#include "base/codec.h"
#include "base/limits.h"
#include "client/durable_file.h"
#include "crypto/crypto.h"

namespace chorus::client {
namespace {

constexpr std::string_view kMagic = "CHORUSLG";
constexpr uint32_t kVersion = 1;
constexpr size_t kHeaderBytes = 16;
constexpr size_t kChecksumBytes = 16;
constexpr size_t kContentBytes = 1 + 16 + 8 + 32 + 8;
constexpr size_t kRecordBytes = kContentBytes + kChecksumBytes;
// The least that a disk writes as a whole; what writes more does so in multiples.
constexpr size_t kSectorBytes = 512;
// From so many records on, attempts that no longer matter are worth a rewrite.
constexpr uint64_t kCompactFrom = 4'096;
// Attempts count against their day and the one after it: a clock that is set back by a time zone
// forgets nothing.
constexpr int64_t kAttemptDays = 2;

using Checksum = std::array<uint8_t, kChecksumBytes>;

struct Record {
  enum class Kind : uint8_t { kAttempt = 1, kUpload = 2 };
  Kind kind = Kind::kAttempt;
  TaskId task{};
  uint64_t round = 0;
  Digest model{};   // of an upload; zeros for an attempt
  int64_t day = 0;  // of an attempt; zero for an upload
};

Bytes EncodeRecord(const Record& record) {
  Writer writer;
  writer.U8(static_cast<uint8_t>(record.kind)).Raw(record.task).U64(record.round);
  writer.Raw(record.model).U64(static_cast<uint64_t>(record.day));
  return std::move(writer).Take();
}

Result<Record> DecodeRecord(BytesView bytes) {
  Reader reader(bytes);
  const uint8_t kind = reader.U8();
  Record record;
  record.task = reader.Array<16>();
  record.round = reader.U64();
  record.model = reader.Array<32>();
  record.day = static_cast<int64_t>(reader.U64());
  CHORUS_TRY(reader.Finish("a record of the ledger"));
  if (kind != 1 && kind != 2) return DataLoss("the ledger holds a record of an unknown kind");
  record.kind = static_cast<Record::Kind>(kind);
  return record;
}

Bytes Header() {
  Writer writer;
  writer.Raw(kMagic).U32(kVersion).U32(0);
  return std::move(writer).Take();
}

Checksum ChecksumOf(BytesView before, BytesView content) {
  crypto::Sha256Stream stream;
  stream.Update(before);
  stream.Update(content);
  const Digest digest = stream.Finish();
  Checksum checksum;
  std::copy_n(digest.begin(), checksum.size(), checksum.begin());
  return checksum;
}

Checksum FirstChecksum() { return ChecksumOf({}, Header()); }

// What the operating system said, as a status.
Status SystemError(std::string_view what, int error) {
  return FileError("the ledger cannot be " + std::string(what), error);
}

Status KeepFolder(Disk& disk, const std::string& directory) {
  if (const int error = disk.SyncDirectory(directory); error != 0)
    return SystemError("kept", error);
  return OkStatus();
}

class FileLedger final : public Ledger {
 public:
  FileLedger(Disk& disk, std::string directory, std::unique_ptr<File> lock)
      : disk_(disk), directory_(std::move(directory)), lock_(std::move(lock)) {}

  Status Load();

  Status PermitAttempt(const TaskId& task, uint64_t round, int64_t day) const override;
  Status NoteAttempt(const TaskId& task, uint64_t round, int64_t day) override;
  Status PermitUpload(const TaskId& task, uint64_t round, const Digest& model_hash,
                      uint32_t uploads_per_model_max) const override;
  Status NoteUpload(const TaskId& task, uint64_t round, const Digest& model_hash,
                    uint32_t uploads_per_model_max) override;

 private:
  struct Use {
    uint32_t attempts = 0;
    bool uploaded = false;
  };

  std::string Path(std::string_view name) const { return directory_ + "/" + std::string(name); }
  Result<std::vector<Record>> ReadRecords();
  Status Replace(const std::vector<Record>& records);
  Status Append(const Record& record);
  Status Compact(int64_t day);
  void Index(const Record& record);
  uint64_t compact_at() const { return std::max(kCompactFrom, 2 * uploads_); }

  Disk& disk_;
  const std::string directory_;
  const std::unique_ptr<File> lock_;  // holds the lock for as long as this lives
  std::unique_ptr<File> file_;
  uint64_t length_ = 0;  // of the file's sound part
  Checksum checksum_{};  // of the last record
  Status trouble_;       // not ok: the file's state is unknown and the object is spent

  std::map<std::pair<TaskId, uint64_t>, Use> rounds_;
  std::map<Digest, uint32_t> uploads_by_model_;
  std::map<int64_t, uint32_t> attempts_by_day_;
  uint64_t records_ = 0;
  uint64_t uploads_ = 0;
};

void FileLedger::Index(const Record& record) {
  ++records_;
  Use& use = rounds_[{record.task, record.round}];
  if (record.kind == Record::Kind::kAttempt) {
    ++use.attempts;
    ++attempts_by_day_[record.day];
    return;
  }
  use.uploaded = true;
  ++uploads_;
  ++uploads_by_model_[record.model];
}

// Whether a crash left `record`, the last of the file, at `offset` in it: the length was on disk
// before the content was, or before one of the two sectors that it lies across, and what was not
// written reads as zeros. No sound record begins with a zero.
bool NeverWritten(BytesView record, uint64_t offset) {
  const auto zeros = [](BytesView bytes) {
    return std::all_of(bytes.begin(), bytes.end(), [](uint8_t byte) { return byte == 0; });
  };
  const uint64_t sector = kSectorBytes - offset % kSectorBytes;
  if (sector >= record.size()) return zeros(record);
  return zeros(record.first(sector)) || zeros(record.subspan(sector));
}

// Reads the open file from its start, checks the chain and leaves length_ and checksum_ at its
// sound end.
Result<std::vector<Record>> FileLedger::ReadRecords() {
  uint64_t size = 0;
  if (const int error = file_->SizeBytes(size); error != 0) return SystemError("read", error);
  if (size > kHeaderBytes + uint64_t{limits::kLedgerEntriesMax} * kRecordBytes + kRecordBytes)
    return DataLoss("the ledger is larger than any ledger can be");
  Bytes bytes(size);
  if (const int error = file_->Read(0, bytes); error != 0) return SystemError("read", error);
  BytesView rest = bytes;
  const Bytes header = Header();
  if (rest.size() < kHeaderBytes || !std::equal(header.begin(), header.end(), rest.begin()))
    return DataLoss("the ledger's first bytes are not a ledger's of this version");
  rest = rest.subspan(kHeaderBytes);

  std::vector<Record> records;
  Checksum checksum = FirstChecksum();
  while (rest.size() >= kRecordBytes) {
    const BytesView content = rest.first(kContentBytes);
    const Checksum expected = ChecksumOf(checksum, content);
    const BytesView found = rest.subspan(kContentBytes, kChecksumBytes);
    if (!std::equal(expected.begin(), expected.end(), found.begin())) {
      if (rest.size() < 2 * kRecordBytes && NeverWritten(rest, size - rest.size())) break;
      return DataLoss("the ledger of uploads is damaged: a record's checksum is wrong");
    }
    CHORUS_TRY_ASSIGN(const Record record, DecodeRecord(content));
    records.push_back(record);
    checksum = expected;
    rest = rest.subspan(kRecordBytes);
  }
  length_ = size - rest.size();
  checksum_ = checksum;
  return records;
}

Status FileLedger::Load() {
  Opened opened = disk_.Open(Path("ledger"), Opening::kUpdate);
  if (opened.error != 0 && opened.error != ENOENT) return SystemError("opened", opened.error);
  file_ = std::move(opened.file);
  if (file_ == nullptr) CHORUS_TRY(Replace({}));
  CHORUS_TRY_ASSIGN(const std::vector<Record> records, ReadRecords());
  // What a crash cut short goes now, so that the next record does not land behind it. Where nothing
  // was, the length stays alone: should the power fail now, a length that reached the disk before
  // the last record did would look like damage.
  uint64_t size = 0;
  int cut = file_->SizeBytes(size);
  if (cut == 0 && size != length_) cut = file_->Truncate(length_);
  if (cut != 0) return SystemError("repaired", cut);
  if (const int error = file_->Sync(); error != 0) return SystemError("repaired", error);
  // A process that died between renaming the file and this has left a name that is not durable.
  CHORUS_TRY(KeepFolder(disk_, directory_));
  for (const Record& record : records) Index(record);
  return OkStatus();
}

// Puts a file with exactly `records` in the ledger's place. The old one stays whole until the new
// one is on disk. On failure nothing has changed, unless trouble_ says so.
Status FileLedger::Replace(const std::vector<Record>& records) {
  const std::string path = Path("ledger");
  const std::string fresh_path = Path("ledger.new");
  Opened opened = disk_.Open(fresh_path, Opening::kReplace);
  if (opened.file == nullptr) return SystemError("made", opened.error);
  std::unique_ptr<File> fresh = std::move(opened.file);
  Writer writer;
  writer.Raw(Header());
  Checksum checksum = FirstChecksum();
  for (const Record& record : records) {
    const Bytes content = EncodeRecord(record);
    checksum = ChecksumOf(checksum, content);
    writer.Raw(content).Raw(checksum);
  }
  int error = fresh->Write(0, writer.view());
  if (error == 0) error = fresh->Sync();
  if (error == 0) error = disk_.Rename(fresh_path, path);
  if (error != 0) {
    (void)disk_.Remove(fresh_path);  // what stays is written over by the next
    return SystemError("written", error);
  }
  file_ = std::move(fresh);
  length_ = writer.view().size();
  checksum_ = checksum;
  // Without this a crash may bring the old file back, and with it an old end of the chain.
  trouble_ = KeepFolder(disk_, directory_);
  return trouble_;
}

Status FileLedger::Append(const Record& record) {
  CHORUS_TRY(trouble_);
  if (records_ >= limits::kLedgerEntriesMax)
    return ResourceExhausted(
        "the ledger of uploads is full; this device cannot take part any more");
  const Bytes content = EncodeRecord(record);
  const Checksum checksum = ChecksumOf(checksum_, content);
  Writer writer;
  writer.Raw(content).Raw(checksum);
  const int write_error = file_->Write(length_, writer.view());
  const int sync_error = write_error == 0 ? file_->Sync() : 0;
  if (write_error != 0 || sync_error != 0) {
    const Status failure = SystemError("written", write_error != 0 ? write_error : sync_error);
    // Half a record must not poison later ones. After a failed fsync nobody knows what the disk
    // holds, so nothing is written there again before the file was read anew.
    if (file_->Truncate(length_) != 0 || sync_error != 0) trouble_ = failure;
    return failure;
  }
  length_ += writer.view().size();
  checksum_ = checksum;
  Index(record);
  return OkStatus();
}

// Rewrites the file without the attempts of days gone by, and begins the index again from it.
Status FileLedger::Compact(int64_t day) {
  CHORUS_TRY_ASSIGN(std::vector<Record> records, ReadRecords());
  std::erase_if(records, [day](const Record& record) {
    return record.kind == Record::Kind::kAttempt && record.day <= day - kAttemptDays;
  });
  CHORUS_TRY(Replace(records));
  rounds_.clear();
  uploads_by_model_.clear();
  attempts_by_day_.clear();
  records_ = 0;
  uploads_ = 0;
  for (const Record& record : records) Index(record);
  return OkStatus();
}

Status FileLedger::PermitAttempt(const TaskId& task, uint64_t round, int64_t day) const {
  if (const auto use = rounds_.find({task, round}); use != rounds_.end()) {
    if (use->second.uploaded)
      return PermissionDenied("this device has already given its part to this round");
    if (use->second.attempts >= limits::kAttemptsPerRoundMax)
      return PermissionDenied(
          "this round was begun too often on this device; it waits for another");
  }
  if (const auto today = attempts_by_day_.find(day);
      today != attempts_by_day_.end() && today->second >= limits::kAttemptsPerDayMax)
    return PermissionDenied("this device has begun enough rounds today; it goes on tomorrow");
  return OkStatus();
}

Status FileLedger::NoteAttempt(const TaskId& task, uint64_t round, int64_t day) {
  CHORUS_TRY(PermitAttempt(task, round, day));
  if (records_ >= compact_at()) {
    // A rewrite that finds no room is no reason to stop: the old file is whole and goes on.
    const Status compacted = Compact(day);
    if (compacted.code() == Code::kDataLoss) trouble_ = compacted;
  }
  return Append({.kind = Record::Kind::kAttempt, .task = task, .round = round, .day = day});
}

Status FileLedger::PermitUpload(const TaskId& task, uint64_t round, const Digest& model_hash,
                                uint32_t uploads_per_model_max) const {
  if (const auto use = rounds_.find({task, round}); use != rounds_.end() && use->second.uploaded)
    return PermissionDenied("this device has already given its part to this round");
  if (uploads_per_model_max == 0) return OkStatus();
  if (const auto uploads = uploads_by_model_.find(model_hash);
      uploads != uploads_by_model_.end() && uploads->second >= uploads_per_model_max)
    return PermissionDenied(
        "this device has already answered this version of the model as often as its policy allows");
  return OkStatus();
}

Status FileLedger::NoteUpload(const TaskId& task, uint64_t round, const Digest& model_hash,
                              uint32_t uploads_per_model_max) {
  CHORUS_TRY(PermitUpload(task, round, model_hash, uploads_per_model_max));
  return Append({.kind = Record::Kind::kUpload, .task = task, .round = round, .model = model_hash});
}

}  // namespace

Result<std::unique_ptr<Ledger>> Ledger::Open(const std::string& directory) {
  return Open(SystemDisk(), directory);
}

Result<std::unique_ptr<Ledger>> Ledger::Open(Disk& disk, const std::string& directory) {
  bool made = false;
  if (const int error = disk.MakeDirectory(directory, made); error != 0)
    return FileError("the ledger's folder cannot be made", error);
  if (made) CHORUS_TRY(KeepFolder(disk, directory + "/.."));
  Opened lock = disk.Open(directory + "/ledger.lock", Opening::kEnsure);
  if (lock.file == nullptr) return SystemError("locked", lock.error);
  if (const int error = lock.file->Lock(); error != 0) {
    if (error == EWOULDBLOCK)
      return FailedPrecondition("another client uses this state folder; give each its own");
    return SystemError("locked", error);
  }
  auto ledger = std::make_unique<FileLedger>(disk, directory, std::move(lock.file));
  CHORUS_TRY(ledger->Load());
  return std::unique_ptr<Ledger>(std::move(ledger));
}

}  // namespace chorus::client
