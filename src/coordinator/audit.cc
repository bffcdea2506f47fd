#include "chorus/audit.h"

#include <string>

#include "base/codec.h"
#include "crypto/crypto.h"

namespace chorus {

Digest AuditWords(const Digest& task, const AuditEntry& entry) {
  const Bytes number = std::move(Writer().U64(entry.number)).Take();
  const Bytes time = std::move(Writer().U64(static_cast<uint64_t>(entry.unix_seconds))).Take();
  const Bytes action = {static_cast<uint8_t>(entry.action)};
  const Bytes round = std::move(Writer().U64(entry.round)).Take();
  const Bytes priority = std::move(Writer().U32(entry.priority)).Take();
  return crypto::LabeledHash("CHORUS1/audit",
                             {task, number, time, action, entry.actor, round, entry.model, priority,
                              ViewOf(entry.reason), entry.previous});
}

Digest AuditHash(const Digest& task, const AuditEntry& entry) {
  return crypto::LabeledHash("CHORUS1/audit-entry", {AuditWords(task, entry), entry.signature});
}

void SignAudit(const Digest& task, BytesView seed, AuditEntry& entry) {
  entry.actor = crypto::Ed25519Public(seed);
  entry.signature = crypto::Ed25519Sign(seed, AuditWords(task, entry));
}

Status VerifyAudit(const Digest& task, std::span<const AuditEntry> entries) {
  for (size_t i = 0; i < entries.size(); ++i) {
    const AuditEntry& entry = entries[i];
    const std::string which = "audit entry " + std::to_string(entry.number);
    const bool first = i == 0;
    if (entry.number == 0 || (!first && entry.number != entries[i - 1].number + 1)) {
      return DataLoss(which + " does not follow the one before it");
    }
    const bool known = !first || entry.number == 1;
    const Digest before = first ? Digest{} : AuditHash(task, entries[i - 1]);
    if (known && entry.previous != before) {
      return DataLoss(which + " names another entry before it: one was changed or left out");
    }
    if (!crypto::Ed25519Verify(entry.actor, AuditWords(task, entry), entry.signature)) {
      return DataLoss(which + " is not signed by the key that it names: it was changed");
    }
  }
  return OkStatus();
}

}  // namespace chorus
