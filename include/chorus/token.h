// Session tokens of the game's own login as JSON Web Tokens [RFC 7519].
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <string_view>

#include "chorus/host.h"
#include "chorus/status.h"

namespace chorus {

struct JwtOptions {
  std::string issuer;    // what "iss" must be
  std::string audience;  // what "aud" must be, or have among its strings
  // How far the login's clock and this one may be apart.
  std::chrono::seconds clock_skew{60};
};

// Accepts signed tokens in the compact serialisation, by Ed25519 ("EdDSA", RFC 8037) or ECDSA over
// P-256 ("ES256"), and nothing else: which of the two is the key's business, so a token cannot
// choose how it is verified, and there is no "none". "iss", "sub", "aud" and "exp" must be there;
// "nbf" and "iat" hold when they are. A "cnf" with a "jwk" [RFC 7800] binds the token to that
// Ed25519 identity key, base64url as in any JWK. Thread-safe.
class JwtVerifier : public TokenVerifier {
 public:
  // Takes the keys of this JWK Set [RFC 7517] in place of those before. Keys of other kinds and
  // uses are passed over. kInvalidArgument, and the keys before stay, when it is none, has a
  // private key in it, or no key that could verify anything.
  virtual Status SetKeys(std::string_view jwks) = 0;
};

// kInvalidArgument as SetKeys, and when an option is empty or the skew not within 0 and an hour.
Result<std::unique_ptr<JwtVerifier>> NewJwtVerifier(std::string_view jwks, JwtOptions options);

}  // namespace chorus
