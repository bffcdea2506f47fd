// What operators did to a task, as anybody can check it: a chain of entries, each signed by who
// acted, that nobody can change, reorder or leave one out of without their keys. What it cannot
// show is that the newest entries are missing: keep the hash of the last that you signed.
#pragma once

#include <cstdint>
#include <span>

#include "chorus/bytes.h"
#include "chorus/status.h"
#include "chorus/store.h"

namespace chorus {

// What an entry's signature is over: H_L("CHORUS1/audit"; task, number, unix_seconds, action,
// actor, round, model, priority, reason, previous), `task` being the SHA-256 of the task's bytes as
// published, and numbers big-endian.
Digest AuditWords(const Digest& task, const AuditEntry& entry);
// What the entry after this one names as `previous`: H_L("CHORUS1/audit-entry"; words, signature).
Digest AuditHash(const Digest& task, const AuditEntry& entry);
// Fills in actor and signature. `seed` is the actor's Ed25519 seed (32 bytes).
void SignAudit(const Digest& task, BytesView seed, AuditEntry& entry);
// Checks entries that follow each other, ascending; the first is taken to follow what it says it
// follows, unless it is number 1. kDataLoss names the first entry that is wrong and how.
Status VerifyAudit(const Digest& task, std::span<const AuditEntry> entries);

}  // namespace chorus
