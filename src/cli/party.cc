#include "cli/party.h"

#include "cli/files.h"
#include "wire/wire.h"

namespace chorus::cli {

Result<PartyKeys> ReadPartyKeys(const std::string& folder, PartyKeysWanted wanted) {
  PartyKeys keys;
  CHORUS_TRY_ASSIGN(keys.identity_seed, ReadSeed(folder + "/identity.key"));
  CHORUS_TRY_ASSIGN(keys.certificate, ReadFile(folder + "/certificate", kTextBytesMax));
  CHORUS_TRY_ASSIGN(keys.coordinator, ReadPublicKey(folder + "/coordinator.pub"));
  CHORUS_TRY_ASSIGN(keys.issuer, ReadPublicKey(folder + "/issuer.pub"));
  if (wanted.tls) {
    CHORUS_TRY_ASSIGN(keys.tls_roots_pem, ReadText(folder + "/tls-authority.pem"));
    if (Exists(folder + "/tls-client.pem")) {
      CHORUS_TRY_ASSIGN(keys.tls_certificate_pem, ReadText(folder + "/tls-client.pem"));
      CHORUS_TRY_ASSIGN(keys.tls_key_pem, ReadText(folder + "/tls-client.key"));
    }
  }
  return keys;
}

Result<Policy> ReadPolicy(const std::string& path) {
  if (path.empty()) return Policy();
  CHORUS_TRY_ASSIGN(const std::string text, ReadText(path));
  Result<Policy> policy = wire::ParsePolicyText(text);
  if (!policy.ok()) {
    return Status(policy.status().code(), "\"" + path + "\": " + policy.status().message());
  }
  return policy;
}

std::string Describe(const ClientEvent& event) {
  const std::string round = "round " + std::to_string(event.round);
  switch (event.kind) {
    case ClientEvent::Kind::kConnected:
      return "connected";
    case ClientEvent::Kind::kDisconnected:
      return "disconnected, trying again: " + event.status.message();
    case ClientEvent::Kind::kInvited:
      return round + ": invited";
    case ClientEvent::Kind::kRefused:
      return round + ": refused, " + event.status.message();
    case ClientEvent::Kind::kTrained:
      return round + ": trained";
    case ClientEvent::Kind::kUploaded:
      return round + ": uploaded";
    case ClientEvent::Kind::kContributed:
      return round + ": contributed";
    case ClientEvent::Kind::kRoundLost:
      return round + ": lost, " + event.status.message();
    case ClientEvent::Kind::kStopped:
      return event.status.ok() ? "the task is complete" : "stopped: " + event.status.message();
    case ClientEvent::Kind::kEquivocation:
      return round + ": the coordinator signed two rosters; " +
             (event.status.ok() ? "the proof is in the file `evidence` of the state folder"
                                : event.status.message());
  }
  return "an event of an unknown kind";
}

}  // namespace chorus::cli
