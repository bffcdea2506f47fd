#include "client/evidence.h"

#include <algorithm>

#include "base/codec.h"
#include "base/limits.h"
#include "client/durable_file.h"

namespace chorus::client {
namespace {

constexpr std::string_view kMagic = "CHORUSEV";
constexpr uint32_t kVersion = 1;
constexpr size_t kHeaderBytes = 16;
constexpr uint8_t kTwoRosters = 1;
constexpr size_t kRosterBytes = 4 + 32 + 64;
constexpr size_t kRecordBytes = 1 + 8 + 32 + 16 + 8 + 32 + 2 * kRosterBytes;
// No record goes over what a file of so many holds.
constexpr uint64_t kFileBytesMax =
    kHeaderBytes + uint64_t{limits::kEvidenceRecordsMax} * kRecordBytes;

Bytes Header() { return std::move(Writer().Raw(kMagic).U32(kVersion).U32(0)).Take(); }

void AppendRoster(Writer& out, const aggregation::Equivocation::SignedRoster& roster) {
  out.U32(roster.n).Raw(roster.root).Raw(roster.signature);
}

Bytes Encode(const Evidence& evidence) {
  Writer out;
  out.U8(kTwoRosters).U64(static_cast<uint64_t>(evidence.unix_seconds));
  out.Raw(evidence.coordinator).Raw(evidence.task).U64(evidence.round).Raw(evidence.rosters.sid0);
  AppendRoster(out, evidence.rosters.first);
  AppendRoster(out, evidence.rosters.second);
  return std::move(out).Take();
}

Status Trouble(int error) {
  return FileError("the evidence against the coordinator cannot be kept", error);
}

}  // namespace

Status KeepEvidence(const std::string& directory, const Evidence& evidence) {
  return KeepEvidence(SystemDisk(), directory, evidence);
}

Status KeepEvidence(Disk& disk, const std::string& directory, const Evidence& evidence) {
  const Opened opened = disk.Open(directory + "/evidence", Opening::kEnsure);
  if (opened.file == nullptr) return Trouble(opened.error);
  File& file = *opened.file;
  uint64_t size = 0;
  if (const int error = file.SizeBytes(size); error != 0) return Trouble(error);
  const Bytes header = Header();
  if (size < kHeaderBytes) {  // new, or its maker was cut short before the first record
    if (const int error = file.Write(0, header); error != 0) return Trouble(error);
    size = kHeaderBytes;
  } else {
    Bytes found(kHeaderBytes);
    if (const int error = file.Read(0, found); error != 0) return Trouble(error);
    if (found != header) return DataLoss("the file of evidence is not one of this version");
  }
  // A record that a crash cut short goes: the next one is written over it.
  size -= (size - kHeaderBytes) % kRecordBytes;
  if (size + kRecordBytes > kFileBytesMax)
    return ResourceExhausted("there is evidence enough against this coordinator");
  int error = file.Write(size, Encode(evidence));
  if (error == 0) error = file.Sync();
  if (error == 0) error = disk.SyncDirectory(directory);
  return error == 0 ? OkStatus() : Trouble(error);
}

}  // namespace chorus::client
