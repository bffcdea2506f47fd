// The client's memory of what it has given away: which (task, round) pairs carried an upload, how
// many uploads went against each model, how many attempts were made [specification 3.7]. Durable:
// an entry is on disk (fsync) before the call returns, and the upload it allows leaves only after
// that.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "chorus/bytes.h"
#include "chorus/status.h"
#include "chorus/task.h"

namespace chorus::client {

class Disk;

// Thread-compatible. One process at a time (the file is locked).
class Ledger {
 public:
  // The ledger in `directory`, made when absent. A last entry cut short by a crash is dropped: what
  // it would have allowed never left. kDataLoss: any other damage; the client must not run until a
  // human decides. kFailedPrecondition: in use by another process. kUnavailable: the folder cannot
  // be used, with the reason.
  static Result<std::unique_ptr<Ledger>> Open(const std::string& directory);
  // Likewise on `disk`, which must outlive it.
  static Result<std::unique_ptr<Ledger>> Open(Disk& disk, const std::string& directory);
  virtual ~Ledger() = default;

  // Ok when an attempt (a session begun) of (task, round) on `day` (Unix days) is allowed.
  // kPermissionDenied, in words for the player, once the pair has an upload, has
  // kAttemptsPerRoundMax attempts, or the day has kAttemptsPerDayMax.
  virtual Status PermitAttempt(const TaskId& task, uint64_t round, int64_t day) const = 0;
  // Notes an attempt. Fails as PermitAttempt, and kResourceExhausted when the disk is full.
  virtual Status NoteAttempt(const TaskId& task, uint64_t round, int64_t day) = 0;
  // Ok when an upload for (task, round) against `model_hash` is allowed: the pair is unused, and
  // fewer than `uploads_per_model_max` (0: unlimited) went against the model.
  virtual Status PermitUpload(const TaskId& task, uint64_t round, const Digest& model_hash,
                              uint32_t uploads_per_model_max) const = 0;
  // Records the upload, durably, before its first byte leaves. Fails as PermitUpload, and
  // kResourceExhausted when the disk is full: then nothing may leave.
  virtual Status NoteUpload(const TaskId& task, uint64_t round, const Digest& model_hash,
                            uint32_t uploads_per_model_max) = 0;
};

}  // namespace chorus::client
