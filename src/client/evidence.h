// Evidence against a coordinator, kept for whoever has to judge it: the file `evidence` in the
// client's folder (docs/wire_format.md).
#pragma once

#include <cstdint>
#include <string>

#include "aggregation/protocols.h"
#include "chorus/bytes.h"
#include "chorus/status.h"
#include "chorus/task.h"

namespace chorus::client {

class Disk;

// The coordinator signed two rosters for one session [specification 3.7, before Choose].
struct Evidence {
  int64_t unix_seconds = 0;  // when it was found, by this device's clock
  PublicKey coordinator{};   // whose signatures they are
  TaskId task{};
  uint64_t round = 0;
  aggregation::Equivocation rosters;
};

// Appends to the file, made when absent; it is on disk (fsync) when this returns ok. Only the
// process that holds the folder's ledger may call it. kResourceExhausted: the disk is full, or
// limits::kEvidenceRecordsMax are there already, which say enough; kDataLoss: the file is none of
// ours, and is left alone; kUnavailable: it cannot be written, with the reason.
Status KeepEvidence(const std::string& directory, const Evidence& evidence);
// Likewise on `disk`.
Status KeepEvidence(Disk& disk, const std::string& directory, const Evidence& evidence);

}  // namespace chorus::client
