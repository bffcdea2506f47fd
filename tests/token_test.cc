// Session tokens: published vectors, and everything that is no token.
#include "chorus/token.h"

#include <string>

#include "base/limits.h"
#include "crypto/crypto.h"
#include "matchers.h"
#include "tokens.h"
#include "trust/json.h"
#include "trust/trust.h"

namespace chorus {
namespace {

constexpr int64_t kNow = 1'700'000'000;
constexpr char kEdDsa[] = R"({"alg":"EdDSA","kid":"a"})";
constexpr char kEs256[] = R"({"alg":"ES256","kid":"b"})";

// Claims of a good token, with `more` at their end.
std::string Claims(std::string_view more = "") {
  return R"({"iss":"login","aud":"chorus","sub":"player 7","exp":1700000600)" + std::string(more) +
         "}";
}

class Tokens : public testing::Test {
 protected:
  void SetUp() override {
    Result<std::unique_ptr<JwtVerifier>> verifier =
        NewJwtVerifier(KeySet(login_.Jwk("a") + "," + p256_.Jwk("b")), Options());
    ASSERT_THAT(verifier, IsOk());
    verifier_ = *std::move(verifier);
  }
  static JwtOptions Options() {
    return {.issuer = "login", .audience = "chorus", .clock_skew = std::chrono::seconds(30)};
  }
  Result<TokenClaims> Verify(std::string_view token, int64_t now = kNow) const {
    return verifier_->Verify(ViewOf(token), now);
  }
  Result<TokenClaims> VerifyClaims(std::string_view claims, int64_t now = kNow) const {
    return Verify(login_.Sign(kEdDsa, claims), now);
  }

  const Ed25519Login login_{1};
  const Ed25519Login stranger_{2};
  const P256Login p256_;
  std::unique_ptr<JwtVerifier> verifier_;
};

// --- published vectors ---

TEST(TokenVectors, Rfc8037EdDsaSignatureIsGood) {
  const Result<Bytes> x = trust::FromBase64Url("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
  ASSERT_THAT(x, IsOk());
  PublicKey key{};
  std::copy(x->begin(), x->end(), key.begin());
  const Result<Bytes> signature = trust::FromBase64Url(
      "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg");
  ASSERT_THAT(signature, IsOk());
  const std::string_view text = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
  EXPECT_TRUE(crypto::Ed25519Verify(key, ViewOf(text), *signature));
}

constexpr char kRfc7515Key[] =
    R"({"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",)"
    R"("y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"})";
constexpr char kRfc7515Text[] =
    "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNv"
    "bS9pc19yb290Ijp0cnVlfQ";
constexpr char kRfc7515Signature[] =
    "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";

TEST(TokenVectors, Rfc7515Es256SignatureIsGoodAndNoOtherIs) {
  const Bytes x = *trust::FromBase64Url("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU");
  const Bytes y = *trust::FromBase64Url("x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0");
  const Result<crypto::P256Key> key = crypto::P256Key::FromCoordinates(x, y);
  ASSERT_THAT(key, IsOk());
  const Bytes signature = *trust::FromBase64Url(kRfc7515Signature);
  EXPECT_TRUE(key->Verify(ViewOf(kRfc7515Text), signature));
  EXPECT_FALSE(key->Verify(ViewOf("other"), signature));
  for (size_t i = 0; i < signature.size(); ++i) {
    Bytes changed = signature;
    changed[i] ^= 1;
    EXPECT_FALSE(key->Verify(ViewOf(kRfc7515Text), changed)) << i;
  }
  // The "psychic" signature of zeros, and sizes that are none.
  EXPECT_FALSE(key->Verify(ViewOf(kRfc7515Text), Bytes(64)));
  EXPECT_FALSE(key->Verify(ViewOf(kRfc7515Text), Bytes(63)));
  EXPECT_FALSE(key->Verify(ViewOf(kRfc7515Text), {}));
  Bytes off = y;
  off[31] ^= 1;
  EXPECT_THAT(crypto::P256Key::FromCoordinates(x, off), HasCode(Code::kInvalidArgument));
  EXPECT_THAT(crypto::P256Key::FromCoordinates(x, Bytes(31)), HasCode(Code::kInvalidArgument));
  EXPECT_THAT(crypto::P256Key::FromCoordinates(Bytes(32), Bytes(32)),
              HasCode(Code::kInvalidArgument));
}

// The claims of the vector name neither audience nor subject, so it gets as far as that.
TEST(TokenVectors, Rfc7515TokenPassesAllChecksOfItsSignature) {
  const auto verifier =
      NewJwtVerifier(KeySet(kRfc7515Key), {.issuer = "joe", .audience = "chorus"});
  ASSERT_THAT(verifier, IsOk());
  const std::string text(kRfc7515Text);
  EXPECT_THAT((*verifier)->Verify(ViewOf(text + "." + kRfc7515Signature), 1'300'000'000),
              HasCodeAndText(Code::kUnauthenticated, "audience"));
  std::string changed = kRfc7515Signature;
  changed[3] = 'x';
  EXPECT_THAT((*verifier)->Verify(ViewOf(text + "." + changed), 1'300'000'000),
              HasCodeAndText(Code::kUnauthenticated, "signature"));
}

// --- what is good ---

TEST_F(Tokens, OfBothAlgorithmsSayWhoIsThere) {
  for (const std::string& token :
       {login_.Sign(kEdDsa, Claims()), p256_.Sign(kEs256, Claims()),
        login_.Sign(R"({"alg":"EdDSA","typ":"JWT"})", Claims()),
        login_.Sign(kEdDsa, R"( { "aud" : [ "other" , "chorus" ] , "iss":"login", "deep":[[{}]],
                                 "sub":"player 7","exp":1.7000006E9,"nbf":1699999999.5 } )")}) {
    const Result<TokenClaims> claims = Verify(token);
    ASSERT_THAT(claims, IsOk()) << token;
    EXPECT_EQ(claims->subject, "player 7");
    EXPECT_EQ(claims->expires_at, 1'700'000'600 + 30);
    EXPECT_FALSE(claims->identity.has_value());
  }
}

TEST_F(Tokens, CanBeBoundToAnIdentity) {
  const Ed25519Login identity(9);
  const std::string bound = R"(,"cnf":{"jwk":)" + identity.Jwk("x") + "}";
  const Result<TokenClaims> claims = VerifyClaims(Claims(bound));
  ASSERT_THAT(claims, IsOk());
  EXPECT_EQ(claims->identity, crypto::Ed25519Public(Bytes(32, 9)));
  for (const std::string_view other :
       {R"(,"cnf":{})", R"(,"cnf":"x")", R"(,"cnf":{"jkt":"AAAA"})", R"(,"cnf":{"jwk":{}})",
        R"(,"cnf":{"jwk":{"kty":"OKP","crv":"Ed25519","x":"AAAA"}})"}) {
    EXPECT_THAT(VerifyClaims(Claims(other)), HasCodeAndText(Code::kUnauthenticated, "cnf"));
  }
  // Bound by something else besides, whose proof nobody here can check.
  const std::string twice = R"(,"cnf":{"jwk":)" + identity.Jwk("x") + R"(,"x5t#S256":"AAAA"})";
  EXPECT_THAT(VerifyClaims(Claims(twice)), HasCodeAndText(Code::kUnauthenticated, "cnf"));
}

// --- what is not ---

TEST_F(Tokens, ChooseNoAlgorithmTheirKeyIsNotFor) {
  const std::string good = login_.Sign(kEdDsa, Claims());
  const std::string signature = good.substr(good.rfind('.'));
  for (const std::string_view header :
       {R"({"alg":"none"})", R"({"alg":"None","kid":"a"})", R"({"alg":"HS256","kid":"a"})",
        R"({"alg":"ES256","kid":"a"})", R"({"alg":"EdDSA","kid":"b"})", R"({"kid":"a"})",
        R"({"alg":"RS256","kid":"a"})", R"({"alg":["EdDSA"],"kid":"a"})",
        R"({"alg":"eddsa","kid":"a"})"}) {
    EXPECT_THAT(Verify(UnsignedToken(header, Claims()) + "."), HasCode(Code::kUnauthenticated));
    EXPECT_THAT(Verify(UnsignedToken(header, Claims()) + signature),
                HasCode(Code::kUnauthenticated));
    EXPECT_THAT(Verify(login_.Sign(header, Claims())), HasCode(Code::kUnauthenticated)) << header;
  }
  // A key's public bytes as the secret of a MAC is what confuses others.
  EXPECT_THAT(Verify(login_.Sign(R"({"alg":"EdDSA","kid":"a","crit":["exp"]})", Claims())),
              HasCodeAndText(Code::kUnauthenticated, "not understood"));
  EXPECT_THAT(Verify(login_.Sign(R"({"alg":"EdDSA","kid":"a","b64":false})", Claims())),
              HasCodeAndText(Code::kUnauthenticated, "not understood"));
}

TEST_F(Tokens, OfStrangersAndChangedOnesAreRefused) {
  EXPECT_THAT(Verify(stranger_.Sign(kEdDsa, Claims())),
              HasCodeAndText(Code::kUnauthenticated, "signature"));
  EXPECT_THAT(Verify(login_.Sign(R"({"alg":"EdDSA","kid":"c"})", Claims())),
              HasCodeAndText(Code::kUnauthenticated, "not known"));
  const std::string good = p256_.Sign(kEs256, Claims());
  for (size_t i = 0; i < good.size(); ++i) {
    std::string changed = good;
    changed[i] = good[i] == 'A' ? 'B' : 'A';
    EXPECT_THAT(Verify(changed), HasCode(Code::kUnauthenticated)) << i;
    EXPECT_THAT(Verify(good.substr(0, i)), HasCode(Code::kUnauthenticated)) << i;
  }
  EXPECT_THAT(Verify(good + "."), HasCode(Code::kUnauthenticated));
  EXPECT_THAT(Verify(good + "="), HasCode(Code::kUnauthenticated));
  EXPECT_THAT(Verify(" " + good), HasCode(Code::kUnauthenticated));
  EXPECT_THAT(Verify(std::string(limits::kTokenBytesMax + 1, 'A')),
              HasCodeAndText(Code::kUnauthenticated, "longer"));
}

TEST_F(Tokens, HoldFromTheirFirstSecondToTheirLast) {
  const std::string token = login_.Sign(kEdDsa, Claims(R"(,"nbf":1700000000,"iat":1700000000)"));
  EXPECT_THAT(Verify(token, 1'699'999'969),
              HasCodeAndText(Code::kUnauthenticated, "not valid yet"));
  EXPECT_THAT(Verify(token, 1'699'999'970), IsOk());
  EXPECT_THAT(Verify(token, 1'700'000'629), IsOk());
  EXPECT_THAT(Verify(token, 1'700'000'630), HasCodeAndText(Code::kUnauthenticated, "expired"));
  EXPECT_THAT(VerifyClaims(Claims(R"(,"iat":1700000031)")),
              HasCodeAndText(Code::kUnauthenticated, "future"));
  for (const std::string_view bad :
       {R"(,"nbf":"1700000000")", R"(,"iat":null)", R"(,"nbf":1e300)", R"(,"nbf":-1e17)"}) {
    EXPECT_THAT(VerifyClaims(Claims(bad)), HasCodeAndText(Code::kUnauthenticated, "no time"));
  }
  EXPECT_THAT(VerifyClaims(R"({"iss":"login","aud":"chorus","sub":"p"})"),
              HasCodeAndText(Code::kUnauthenticated, "exp"));
}

TEST_F(Tokens, AreForThisAudienceByThisIssuerAboutSomebody) {
  EXPECT_THAT(VerifyClaims(R"({"iss":"other","aud":"chorus","sub":"p","exp":1700000600})"),
              HasCodeAndText(Code::kUnauthenticated, "issuer"));
  EXPECT_THAT(VerifyClaims(R"({"aud":"chorus","sub":"p","exp":1700000600})"),
              HasCodeAndText(Code::kUnauthenticated, "issuer"));
  for (const std::string_view audience :
       {R"("other")", R"(["chorus2"])", R"([["chorus"]])", "7", R"({"chorus":1})", "[]"}) {
    EXPECT_THAT(VerifyClaims(R"({"iss":"login","sub":"p","exp":1700000600,"aud":)" +
                             std::string(audience) + "}"),
                HasCodeAndText(Code::kUnauthenticated, "audience"));
  }
  for (const std::string& subject :
       {std::string("\"\""), std::string("7"),
        "\"" + std::string(limits::kSubjectBytesMax + 1, 'p') + "\""}) {
    EXPECT_THAT(
        VerifyClaims(R"({"iss":"login","aud":"chorus","exp":1700000600,"sub":)" + subject + "}"),
        HasCodeAndText(Code::kUnauthenticated, "sub"));
  }
}

TEST_F(Tokens, FollowTheKeySet) {
  const std::string token = login_.Sign(kEdDsa, Claims());
  EXPECT_THAT(Verify(token), IsOk());
  EXPECT_THAT(verifier_->SetKeys("no JSON"), HasCode(Code::kInvalidArgument));
  EXPECT_THAT(Verify(token), IsOk());  // the keys before stay
  EXPECT_THAT(verifier_->SetKeys(KeySet(stranger_.Jwk("a"))), IsOk());
  EXPECT_THAT(Verify(token), HasCode(Code::kUnauthenticated));
  EXPECT_THAT(Verify(stranger_.Sign(kEdDsa, Claims())), IsOk());
}

TEST(KeySets, WithoutAKeyThatVerifiesAreRefused) {
  const auto make = [](std::string_view keys) {
    return NewJwtVerifier(keys, {.issuer = "i", .audience = "a"});
  };
  const Ed25519Login login(1);
  const std::string jwk = login.Jwk("a");
  const auto with = [&jwk](std::string_view more) {
    return KeySet(jwk.substr(0, jwk.size() - 1) + std::string(more) + "}");
  };
  EXPECT_THAT(make(KeySet(jwk)), IsOk());
  EXPECT_THAT(make(with(R"(,"use":"sig","alg":"EdDSA","key_ops":["verify"])")), IsOk());
  EXPECT_THAT(make(KeySet(R"({"kty":"RSA","n":"AQAB","e":"AQAB"},)" + jwk)), IsOk());
  for (const std::string& keys :
       {KeySet(""), with(R"(,"use":"enc")"), with(R"(,"alg":"ES256")"), with(R"(,"key_ops":[])"),
        with(R"(,"kid":"b")"), KeySet("7"), KeySet(jwk + "," + jwk), std::string("{}"),
        std::string("[]"), std::string(R"({"keys":{}})"), KeySet(R"({"kty":"EC","crv":"P-256"})"),
        std::string(limits::kTokenKeysBytesMax + 1, ' ')}) {
    EXPECT_THAT(make(keys), HasCode(Code::kInvalidArgument)) << keys.substr(0, 100);
  }
  EXPECT_THAT(make(with(R"(,"d":"AAAA")")), HasCodeAndText(Code::kInvalidArgument, "private"));
  EXPECT_THAT(NewJwtVerifier(KeySet(jwk), {.issuer = "", .audience = "a"}),
              HasCode(Code::kInvalidArgument));
  EXPECT_THAT(NewJwtVerifier(KeySet(jwk), {.issuer = "i", .audience = ""}),
              HasCode(Code::kInvalidArgument));
}

// --- the forms ---

TEST(Base64UrlText, HasOneFormForEachValue) {
  EXPECT_THAT(trust::FromBase64Url(""), HoldsValue(Bytes{}));
  EXPECT_THAT(trust::FromBase64Url("_-8"), HoldsValue(Bytes{0xFF, 0xEF}));
  for (size_t size = 0; size < 70; ++size) {
    Bytes bytes(size);
    crypto::NewSeededRng(Bytes(32, 3))->Fill(bytes);
    EXPECT_THAT(trust::FromBase64Url(Base64Url(bytes)), HoldsValue(bytes));
  }
  for (const std::string_view bad :
       {"A", "AB", "AAB", "AA==", "AAA=", "A A", "A+AA", "A/AA", "AAAA\n", "AAAAA"}) {
    EXPECT_THAT(trust::FromBase64Url(bad), HasCode(Code::kInvalidArgument)) << bad;
  }
}

TEST(Json, IsReadAsItsStandardSays) {
  const Result<trust::JsonObject> object = trust::ReadJsonObject(
      " {\"a\":\"\\u0041\\n\\ud83d\\ude00\xC3\xA9\",\"n\":-1.5e2,\"t\":true,\"x\":null,"
      "\"l\":[1, \"b\"]}\n");
  ASSERT_THAT(object, IsOk());
  EXPECT_EQ(trust::FindJson(*object, "a")->text, "A\n\xF0\x9F\x98\x80\xC3\xA9");
  EXPECT_EQ(trust::FindJson(*object, "n")->number, -150);
  EXPECT_TRUE(trust::FindJson(*object, "t")->boolean);
  EXPECT_EQ(trust::FindJson(*object, "x")->kind, trust::JsonValue::Kind::kNull);
  EXPECT_EQ(trust::ReadJsonArray(trust::FindJson(*object, "l")->text)->size(), 2U);
  EXPECT_EQ(trust::FindJson(*object, "none"), nullptr);
}

TEST(Json, OfAnyOtherFormIsRefused) {
  std::string deep;
  for (size_t i = 0; i <= limits::kJsonNestingMax; ++i) deep += "[";
  std::string many = "{\"a\":[0";
  for (size_t i = 0; i < limits::kJsonMembersMax; ++i) many += ",0";
  const std::string bad[] = {"",
                             "{",
                             "}",
                             "[]",
                             "{}{}",
                             "{\"a\"}",
                             "{\"a\":}",
                             "{\"a\":1,}",
                             "{,}",
                             "{a:1}",
                             "{'a':1}",
                             "{\"a\":1,\"a\":2}",
                             "{\"a\":01}",
                             "{\"a\":+1}",
                             "{\"a\":.5}",
                             "{\"a\":1.}",
                             "{\"a\":1e}",
                             "{\"a\":-}",
                             "{\"a\":NaN}",
                             "{\"a\":1e999}",
                             "{\"a\":tru}",
                             "{\"a\":\"\\x\"}",
                             "{\"a\":\"\\u12\"}",
                             "{\"a\":\"\\ud800\"}",
                             "{\"a\":\"\\udc00\"}",
                             "{\"a\":\"\\ud800\\u0041\"}",
                             "{\"a\":\"\xFF\"}",
                             "{\"a\":\"\xC0\x80\"}",
                             "{\"a\":\"\xED\xA0\x80\"}",
                             "{\"a\":\"\n\"}",
                             "{\"a\":\"",
                             "{\"a\":\"\\",
                             "{\"a\":\"\\u",
                             "{} x",
                             "{\"a\":1 \"b\":2}",
                             "\xEF\xBB\xBF{}",
                             "{\"a\":" + deep,
                             many + "]}"};
  for (const std::string& text : bad) {
    EXPECT_THAT(trust::ReadJsonObject(text), HasCode(Code::kInvalidArgument)) << text.substr(0, 60);
  }
  // A NUL within is no end.
  EXPECT_THAT(trust::ReadJsonObject(std::string_view("{\"a\":\"\0\"}", 9)),
              HasCode(Code::kInvalidArgument));
}

}  // namespace
}  // namespace chorus
