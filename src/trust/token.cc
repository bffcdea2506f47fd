#include "chorus/token.h"

#include <algorithm>
#include <cmath>
#include <mutex>
#include <optional>
#include <utility>
#include <variant>
#include <vector>

#include "base/limits.h"
#include "crypto/crypto.h"
#include "trust/json.h"
#include "trust/trust.h"

namespace chorus {
namespace {

using trust::FindJson;
using trust::JsonObject;
using trust::JsonValue;
using Kind = JsonValue::Kind;

constexpr std::chrono::seconds kSkewMax{3'600};
constexpr size_t kSignatureBytes = 64;              // of both algorithms
constexpr double kTimeMax = 9'007'199'254'740'991;  // beyond it a double skips whole seconds

struct TokenKey {
  std::optional<std::string> id;
  std::variant<PublicKey, crypto::P256Key> key;  // which of them is the algorithm

  bool IsEd25519() const { return std::holds_alternative<PublicKey>(key); }
  bool Verify(BytesView message, BytesView signature) const {
    if (const auto* ed25519 = std::get_if<PublicKey>(&key)) {
      return crypto::Ed25519Verify(*ed25519, message, signature);
    }
    return std::get<crypto::P256Key>(key).Verify(message, signature);
  }
};
using TokenKeys = std::vector<TokenKey>;

// What a character of base64url stands for; -1 for any other.
int SextetOf(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  if (c == '-') return 62;
  return c == '_' ? 63 : -1;
}

const std::string* StringOf(const JsonObject& object, std::string_view name) {
  const JsonValue* const value = FindJson(object, name);
  return value != nullptr && value->kind == Kind::kString ? &value->text : nullptr;
}

bool Says(const JsonObject& object, std::string_view name, std::string_view text) {
  const std::string* const value = StringOf(object, name);
  return value != nullptr && *value == text;
}

// Whether the value is that text, or an array with it.
Result<bool> Names(const JsonValue& value, std::string_view text) {
  if (value.kind == Kind::kString) return value.text == text;
  if (value.kind != Kind::kArray) return false;
  CHORUS_TRY_ASSIGN(const trust::JsonArray array, trust::ReadJsonArray(value.text));
  return std::any_of(array.begin(), array.end(), [text](const JsonValue& one) {
    return one.kind == Kind::kString && one.text == text;
  });
}

// The bytes of one of the members of a JWK; empty when it is missing or not base64url.
Bytes BytesIn(const JsonObject& jwk, std::string_view name) {
  const std::string* const text = StringOf(jwk, name);
  if (text == nullptr) return {};
  Result<Bytes> bytes = trust::FromBase64Url(*text);
  return bytes.ok() ? *std::move(bytes) : Bytes();
}

std::optional<PublicKey> Ed25519In(const JsonObject& jwk) {
  if (!Says(jwk, "kty", "OKP") || !Says(jwk, "crv", "Ed25519")) return std::nullopt;
  const Bytes x = BytesIn(jwk, "x");
  PublicKey key{};
  if (x.size() != key.size()) return std::nullopt;
  std::copy(x.begin(), x.end(), key.begin());
  return key;
}

// --- keys [RFC 7517] ---

// A key that may verify tokens; nothing for one of another kind or use, as section 5 wants it.
Result<std::optional<TokenKey>> ReadKey(std::string_view text) {
  CHORUS_TRY_ASSIGN(const JsonObject jwk, trust::ReadJsonObject(text));
  if (FindJson(jwk, "d") != nullptr || FindJson(jwk, "k") != nullptr) {
    return InvalidArgument(
        "the JWK Set has a private or symmetric key in it: publish the public keys alone, and "
        "change this one, for it is known now");
  }
  const JsonValue* const use = FindJson(jwk, "use");
  if (use != nullptr && !Says(jwk, "use", "sig")) return std::optional<TokenKey>();
  if (const JsonValue* const operations = FindJson(jwk, "key_ops")) {
    CHORUS_TRY_ASSIGN(const bool verifies, Names(*operations, "verify"));
    if (operations->kind != Kind::kArray || !verifies) return std::optional<TokenKey>();
  }
  std::optional<TokenKey> key;
  if (const std::optional<PublicKey> ed25519 = Ed25519In(jwk)) {
    key = TokenKey{.id = {}, .key = *ed25519};
  } else if (Says(jwk, "kty", "EC") && Says(jwk, "crv", "P-256")) {
    CHORUS_TRY_ASSIGN(crypto::P256Key p256,
                      crypto::P256Key::FromCoordinates(BytesIn(jwk, "x"), BytesIn(jwk, "y")));
    key = TokenKey{.id = {}, .key = std::move(p256)};
  }
  if (!key) return std::optional<TokenKey>();
  if (FindJson(jwk, "alg") != nullptr && !Says(jwk, "alg", key->IsEd25519() ? "EdDSA" : "ES256")) {
    return std::optional<TokenKey>();
  }
  if (FindJson(jwk, "kid") != nullptr) {
    const std::string* const id = StringOf(jwk, "kid");
    if (id == nullptr) return InvalidArgument("a key's \"kid\" must be a string");
    key->id = *id;
  }
  return key;
}

Result<TokenKeys> ReadKeys(std::string_view jwks) {
  if (jwks.size() > limits::kTokenKeysBytesMax) {
    return InvalidArgument("a JWK Set has at most " + std::to_string(limits::kTokenKeysBytesMax) +
                           " bytes");
  }
  CHORUS_TRY_ASSIGN(const JsonObject set, trust::ReadJsonObject(jwks));
  const JsonValue* const listed = FindJson(set, "keys");
  if (listed == nullptr || listed->kind != Kind::kArray) {
    return InvalidArgument("a JWK Set is an object with the array \"keys\"");
  }
  CHORUS_TRY_ASSIGN(const trust::JsonArray array, trust::ReadJsonArray(listed->text));
  if (array.size() > limits::kTokenKeysMax) {
    return InvalidArgument("a JWK Set has at most " + std::to_string(limits::kTokenKeysMax) +
                           " keys");
  }
  TokenKeys keys;
  for (const JsonValue& value : array) {
    if (value.kind != Kind::kObject) return InvalidArgument("each of \"keys\" must be an object");
    CHORUS_TRY_ASSIGN(std::optional<TokenKey> key, ReadKey(value.text));
    if (!key) continue;
    const bool again = key->id && std::any_of(keys.begin(), keys.end(), [&key](const auto& other) {
                         return other.id == key->id;
                       });
    if (again) return InvalidArgument("two keys of the JWK Set have the same \"kid\"");
    keys.push_back(*std::move(key));
  }
  if (keys.empty()) {
    return InvalidArgument(
        "the JWK Set has no key that can verify a token: Ed25519 or P-256, for signatures");
  }
  return keys;
}

// --- tokens ---

struct TokenParts {
  std::string_view signed_text;
  JsonObject header;
  JsonObject claims;
  Bytes signature;
};

Result<JsonObject> ObjectIn(std::string_view base64url) {
  CHORUS_TRY_ASSIGN(const Bytes text, trust::FromBase64Url(base64url));
  return trust::ReadJsonObject({reinterpret_cast<const char*>(text.data()), text.size()});
}

// The compact serialisation [RFC 7515, 3.1]: header, claims and signature, with dots between.
Result<TokenParts> Split(std::string_view token) {
  const size_t first = token.find('.');
  const size_t second = first == std::string_view::npos ? first : token.find('.', first + 1);
  if (second == std::string_view::npos || token.find('.', second + 1) != std::string_view::npos) {
    return Unauthenticated("the session token is no JWT: three parts with dots between");
  }
  TokenParts parts;
  parts.signed_text = token.substr(0, second);
  Result<JsonObject> header = ObjectIn(token.substr(0, first));
  Result<JsonObject> claims = ObjectIn(token.substr(first + 1, second - first - 1));
  Result<Bytes> signature = trust::FromBase64Url(token.substr(second + 1));
  if (!header.ok() || !claims.ok() || !signature.ok()) {
    return Unauthenticated("the session token is no JWT: a part of it is not base64url or JSON");
  }
  parts.header = *std::move(header);
  parts.claims = *std::move(claims);
  parts.signature = *std::move(signature);
  return parts;
}

// The one key that may verify the token. The header's "alg" only has to agree with it: it never
// chooses how a key is used [RFC 8725, 3.1].
Result<const TokenKey*> KeyFor(const JsonObject& header, const TokenKeys& keys) {
  const bool ed25519 = Says(header, "alg", "EdDSA");
  if (!ed25519 && !Says(header, "alg", "ES256")) {
    return Unauthenticated("the session token's \"alg\" must be EdDSA or ES256");
  }
  // Extensions that must be understood, and a payload that is not what it looks like.
  if (FindJson(header, "crit") != nullptr || FindJson(header, "b64") != nullptr) {
    return Unauthenticated("the session token's header asks for what is not understood here");
  }
  const JsonValue* const id = FindJson(header, "kid");
  if (id != nullptr && id->kind != Kind::kString) {
    return Unauthenticated("the session token's \"kid\" must be a string");
  }
  const TokenKey* found = nullptr;
  for (const TokenKey& key : keys) {
    if (key.IsEd25519() != ed25519) continue;
    if (id != nullptr && key.id != id->text) continue;
    if (found != nullptr) {
      return Unauthenticated("the session token names none of several keys: it needs a \"kid\"");
    }
    found = &key;
  }
  if (found == nullptr) {
    return Unauthenticated("the session token is signed with a key that is not known here");
  }
  return found;
}

// A NumericDate [RFC 7519, 2], cut to whole seconds; nothing when the claim is missing.
Result<std::optional<int64_t>> TimeIn(const JsonObject& claims, std::string_view name) {
  const JsonValue* const value = FindJson(claims, name);
  if (value == nullptr) return std::optional<int64_t>();
  if (value->kind != Kind::kNumber || !(std::abs(value->number) <= kTimeMax)) {
    return Unauthenticated("the session token's \"" + std::string(name) + "\" is no time");
  }
  return std::optional<int64_t>(static_cast<int64_t>(std::floor(value->number)));
}

Result<int64_t> CheckTimes(const JsonObject& claims, int64_t now, int64_t skew) {
  CHORUS_TRY_ASSIGN(const std::optional<int64_t> expires, TimeIn(claims, "exp"));
  CHORUS_TRY_ASSIGN(const std::optional<int64_t> not_before, TimeIn(claims, "nbf"));
  CHORUS_TRY_ASSIGN(const std::optional<int64_t> issued, TimeIn(claims, "iat"));
  if (!expires) return Unauthenticated("the session token has no \"exp\": it must end some day");
  if (now >= *expires + skew) {
    return Unauthenticated("the session token has expired; log in again");
  }
  if (not_before && now + skew < *not_before) {
    return Unauthenticated("the session token is not valid yet; check the clocks");
  }
  if (issued && now + skew < *issued) {
    return Unauthenticated("the session token was issued in the future; check the clocks");
  }
  return *expires + skew;
}

// The identity key of "cnf", when the token is bound to one. Whatever else binds it is refused: who
// cannot check a proof must not act as if it were there.
Result<std::optional<PublicKey>> BoundKey(const JsonObject& claims) {
  const JsonValue* const bound = FindJson(claims, "cnf");
  if (bound == nullptr) return std::optional<PublicKey>();
  std::optional<PublicKey> key;
  if (bound->kind == Kind::kObject) {
    CHORUS_TRY_ASSIGN(const JsonObject confirmation, trust::ReadJsonObject(bound->text));
    const JsonValue* const jwk = FindJson(confirmation, "jwk");
    if (jwk != nullptr && jwk->kind == Kind::kObject && confirmation.size() == 1) {
      CHORUS_TRY_ASSIGN(const JsonObject members, trust::ReadJsonObject(jwk->text));
      key = Ed25519In(members);
    }
  }
  if (!key)
    return Unauthenticated("the session token's \"cnf\" is not an Ed25519 key in a \"jwk\" alone");
  return key;
}

class JwksVerifier final : public JwtVerifier {
 public:
  JwksVerifier(JwtOptions options, TokenKeys keys)
      : options_(std::move(options)),
        // NOLINTNEXTLINE(tidy): a verification may still use the keys that others have replaced.
        keys_(std::make_shared<const TokenKeys>(std::move(keys))) {}  // NOLINT(tidy): likewise.

  Status SetKeys(std::string_view jwks) override {
    CHORUS_TRY_ASSIGN(TokenKeys keys, ReadKeys(jwks));
    // NOLINTNEXTLINE(tidy): see above.
    auto fresh = std::make_shared<const TokenKeys>(std::move(keys));  // NOLINT(tidy): see above.
    const std::lock_guard lock(mutex_);
    keys_.swap(fresh);
    return OkStatus();
  }

  Result<TokenClaims> Verify(BytesView token, int64_t unix_seconds) const override {
    if (token.size() > limits::kTokenBytesMax) {
      return Unauthenticated("the session token is longer than " +
                             std::to_string(limits::kTokenBytesMax) + " bytes");
    }
    const std::string_view text(reinterpret_cast<const char*>(token.data()), token.size());
    CHORUS_TRY_ASSIGN(const TokenParts parts, Split(text));
    const auto keys = Keys();
    CHORUS_TRY_ASSIGN(const TokenKey* const key, KeyFor(parts.header, *keys));
    if (parts.signature.size() != kSignatureBytes ||
        !key->Verify(ViewOf(parts.signed_text), parts.signature)) {
      return Unauthenticated("the session token's signature is wrong");
    }
    return CheckClaims(parts.claims, unix_seconds);
  }

 private:
  std::shared_ptr<const TokenKeys> Keys() const {  // NOLINT(tidy): see above.
    const std::lock_guard lock(mutex_);
    return keys_;
  }

  Result<TokenClaims> CheckClaims(const JsonObject& claims, int64_t now) const {
    if (!Says(claims, "iss", options_.issuer)) {
      return Unauthenticated("the session token is by another issuer than the one trusted here");
    }
    const JsonValue* const audience = FindJson(claims, "aud");
    bool meant = false;
    if (audience != nullptr) {
      CHORUS_TRY_ASSIGN(meant, Names(*audience, options_.audience));
    }
    if (!meant) return Unauthenticated("the session token is for another audience");
    const std::string* const subject = StringOf(claims, "sub");
    if (subject == nullptr || subject->empty() || subject->size() > limits::kSubjectBytesMax) {
      return Unauthenticated("the session token's \"sub\" must be a string of 1 to " +
                             std::to_string(limits::kSubjectBytesMax) + " bytes");
    }
    TokenClaims read;
    read.subject = *subject;
    CHORUS_TRY_ASSIGN(read.expires_at, CheckTimes(claims, now, options_.clock_skew.count()));
    CHORUS_TRY_ASSIGN(read.identity, BoundKey(claims));
    return read;
  }

  const JwtOptions options_;
  mutable std::mutex mutex_;
  std::shared_ptr<const TokenKeys> keys_;  // NOLINT(tidy): see the constructor.
};

}  // namespace

namespace trust {

Result<Bytes> FromBase64Url(std::string_view text) {
  Bytes bytes;
  bytes.reserve(text.size() / 4 * 3 + 2);
  uint32_t bits = 0;
  unsigned held = 0;
  for (const char c : text) {
    const int value = SextetOf(c);
    if (value < 0) return InvalidArgument("this is not base64url");
    bits = (bits << 6U | static_cast<uint32_t>(value)) & 0xFFFFU;
    held += 6;
    if (held < 8) continue;
    held -= 8;
    bytes.push_back(static_cast<uint8_t>(bits >> held));
  }
  // One text for each value: no lone character, and no bit that says nothing.
  if (held == 6 || (bits & ((1U << held) - 1)) != 0)
    return InvalidArgument("this is not base64url");
  return bytes;
}

}  // namespace trust

Result<std::unique_ptr<JwtVerifier>> NewJwtVerifier(std::string_view jwks, JwtOptions options) {
  if (options.issuer.empty()) return InvalidArgument("the tokens' issuer is empty");
  if (options.audience.empty()) return InvalidArgument("the tokens' audience is empty");
  if (options.clock_skew < std::chrono::seconds(0) || options.clock_skew > kSkewMax) {
    return InvalidArgument("the clock skew must be within 0 and an hour");
  }
  CHORUS_TRY_ASSIGN(TokenKeys keys, ReadKeys(jwks));
  return std::unique_ptr<JwtVerifier>(
      std::make_unique<JwksVerifier>(std::move(options), std::move(keys)));
}

}  // namespace chorus
