// What the commands that run a party, a client or a committee's member, have in common: what they
// read and what they tell.
#pragma once

#include <string>

#include "chorus/bytes.h"
#include "chorus/client.h"
#include "chorus/policy.h"
#include "chorus/status.h"

namespace chorus::cli {

// A folder that `keys client` or `keys committee` made.
struct PartyKeys {
  SecretBytes identity_seed;
  Bytes certificate;
  PublicKey coordinator{};
  PublicKey issuer{};
  std::string tls_roots_pem;  // empty when it is not wanted
  // What the party shows in mutual TLS; empty when its folder has none.
  std::string tls_certificate_pem = {};
  std::string tls_key_pem = {};
};
struct PartyKeysWanted {
  bool tls = true;
};
Result<PartyKeys> ReadPartyKeys(const std::string& folder, PartyKeysWanted wanted);

// The file's policy; without a path the built-in one.
Result<Policy> ReadPolicy(const std::string& path);

// One event in words.
std::string Describe(const ClientEvent& event);

}  // namespace chorus::cli
