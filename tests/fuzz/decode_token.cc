// Session tokens and their keys: what is accepted is signed by the key that its header may name,
// holds now, and says whom it is about; JSON that reads, reads again from what was kept of it.
#include "chorus/token.h"
#include "fuzz.h"
#include "trust/json.h"
#include "trust/trust.h"

namespace chorus::trust {
namespace {

using fuzz::Require;

constexpr int64_t kNow = 1'700'000'000;

std::string Base64Url(BytesView bytes) {
  constexpr std::string_view kAlphabet =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  std::string text;
  uint32_t bits = 0;
  unsigned held = 0;
  for (const uint8_t byte : bytes) {
    bits = bits << 8U | byte;
    for (held += 8; held >= 6;) text.push_back(kAlphabet[bits >> (held -= 6) & 63U]);
  }
  if (held > 0) text.push_back(kAlphabet[bits << (6 - held) & 63U]);
  return text;
}

const SecretBytes& LoginSeed() {
  static const SecretBytes seed = fuzz::Key("login");
  return seed;
}

const JwtVerifier& Verifier() {
  static const std::unique_ptr<JwtVerifier> verifier = [] {
    const std::string x = Base64Url(crypto::Ed25519Public(LoginSeed().Reveal()));
    auto made = NewJwtVerifier(R"({"keys":[{"kty":"OKP","crv":"Ed25519","x":")" + x + "\"}]}",
                               {.issuer = "login", .audience = "chorus"});
    return *std::move(made);
  }();
  return *verifier;
}

void JudgeToken(BytesView token, bool signed_by_login) {
  const Result<TokenClaims> claims = Verifier().Verify(token, kNow);
  if (!claims.ok()) {
    Require(claims.status().code() == Code::kUnauthenticated, "a bad token is nobody's");
    return;
  }
  Require(signed_by_login, "only the login makes tokens");
  Require(!claims->subject.empty() && claims->expires_at > kNow, "a token is about somebody, now");
  Require(!Verifier().Verify(token, claims->expires_at).ok(), "and not for ever");
}

void JudgeJson(std::string_view text) {
  const Result<JsonObject> object = ReadJsonObject(text);
  if (!object.ok()) return;
  for (const auto& [name, value] : *object) {
    Require(FindJson(*object, name) == &value, "a name stands once");
    if (value.kind == JsonValue::Kind::kObject) {
      Require(ReadJsonObject(value.text).ok(), "what is inside reads by itself");
    } else if (value.kind == JsonValue::Kind::kArray) {
      Require(ReadJsonArray(value.text).ok(), "what is inside reads by itself");
    }
  }
}

}  // namespace

void Decode(BytesView input) {
  fuzz::Choices choices(input);
  const uint8_t kind = choices.Byte();
  const BytesView rest = choices.Rest();
  const std::string_view text(reinterpret_cast<const char*>(rest.data()), rest.size());
  switch (kind % 4) {
    case 0:
      return JudgeToken(rest, /*signed_by_login=*/false);
    case 1:
      JudgeJson(text);
      (void)NewJwtVerifier(text, {.issuer = "login", .audience = "chorus"});
      return;
    case 2: {
      const Result<Bytes> bytes = FromBase64Url(text);
      Require(!bytes.ok() || Base64Url(*bytes) == text, "a value has one base64url");
      return;
    }
    default: {
      // A true signature over a header and claims that the fuzzer chose: two lines.
      const size_t line = std::min(text.find('\n'), text.size());
      const std::string_view claims = text.substr(std::min(line + 1, text.size()));
      std::string token = Base64Url(ViewOf(text.substr(0, line))) + "." + Base64Url(ViewOf(claims));
      token += "." + Base64Url(crypto::Ed25519Sign(LoginSeed().Reveal(), ViewOf(token)));
      return JudgeToken(ViewOf(token), /*signed_by_login=*/true);
    }
  }
}

}  // namespace chorus::trust

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  chorus::trust::Decode({data, size});
  return 0;
}
