// TLS certificates of our own making, judged by OpenSSL as a client would.
#include <openssl/asn1.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <memory>
#include <string>
#include <vector>

#include "crypto/crypto.h"
#include "matchers.h"

namespace chorus::crypto {
namespace {

constexpr int64_t kBegin = 1'700'000'000;
constexpr int64_t kEnd = 1'800'000'000;

struct Free {
  void operator()(X509* certificate) const { X509_free(certificate); }
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
  void operator()(BIO* bio) const { BIO_free(bio); }
  void operator()(X509_STORE* store) const { X509_STORE_free(store); }
  void operator()(X509_STORE_CTX* context) const { X509_STORE_CTX_free(context); }
};

template <typename T>
using Owned = std::unique_ptr<T, Free>;

Owned<X509> ReadCertificate(const std::string& pem) {
  const Owned<BIO> bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  return Owned<X509>(PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr));
}

Owned<EVP_PKEY> ReadKey(const std::string& pem) {
  const Owned<BIO> bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  return Owned<EVP_PKEY>(PEM_read_bio_PrivateKey(bio.get(), nullptr, nullptr, nullptr));
}

TlsIdentity Authority(int64_t begin = kBegin, int64_t end = kEnd) {
  Result<TlsIdentity> authority = MakeTlsAuthority("Test authority", begin, end);
  EXPECT_THAT(authority, IsOk());
  return *std::move(authority);
}

TlsIdentity Server(const TlsIdentity& authority, const std::vector<std::string>& hosts) {
  Result<TlsIdentity> server = MakeTlsServer(authority, hosts, kBegin, kEnd);
  EXPECT_THAT(server, IsOk());
  return *std::move(server);
}

// What a TLS client that trusts `root` says at `time`: X509_V_OK, or why not. Strict: RFC 5280 to
// the letter.
int Judge(const TlsIdentity& root, const TlsIdentity& leaf, int64_t time) {
  const Owned<X509> root_certificate = ReadCertificate(root.certificate_pem);
  const Owned<X509> certificate = ReadCertificate(leaf.certificate_pem);
  const Owned<X509_STORE> store(X509_STORE_new());
  X509_STORE_add_cert(store.get(), root_certificate.get());
  const Owned<X509_STORE_CTX> context(X509_STORE_CTX_new());
  X509_STORE_CTX_init(context.get(), store.get(), certificate.get(), nullptr);
  X509_VERIFY_PARAM* const parameters = X509_STORE_CTX_get0_param(context.get());
  X509_VERIFY_PARAM_set_time(parameters, time);
  X509_VERIFY_PARAM_set_purpose(parameters, X509_PURPOSE_SSL_SERVER);
  X509_VERIFY_PARAM_set_flags(parameters, X509_V_FLAG_X509_STRICT);
  X509_verify_cert(context.get());
  return X509_STORE_CTX_get_error(context.get());
}

bool NamesHost(X509* certificate, const std::string& host) {
  return X509_check_host(certificate, host.data(), host.size(), 0, nullptr) == 1;
}
bool NamesAddress(X509* certificate, const std::string& address) {
  return X509_check_ip_asc(certificate, address.c_str(), 0) == 1;
}

TEST(Tls, ServerVerifiesAgainstItsAuthorityAndNoOther) {
  const TlsIdentity authority = Authority();
  const TlsIdentity server = Server(authority, {"game.example.com"});
  EXPECT_EQ(Judge(authority, server, kBegin + 1), X509_V_OK);
  EXPECT_NE(Judge(Authority(), server, kBegin + 1), X509_V_OK);
  EXPECT_EQ(Judge(authority, authority, kBegin + 1), X509_V_ERR_INVALID_PURPOSE);
}

TEST(Tls, ServerIsValidExactlyInItsTime) {
  const TlsIdentity authority = Authority(0, 253'402'300'799);
  const TlsIdentity server = Server(authority, {"localhost"});
  EXPECT_EQ(Judge(authority, server, kBegin - 1), X509_V_ERR_CERT_NOT_YET_VALID);
  EXPECT_EQ(Judge(authority, server, kBegin), X509_V_OK);
  EXPECT_EQ(Judge(authority, server, kEnd - 1), X509_V_OK);
  EXPECT_EQ(Judge(authority, server, kEnd + 1), X509_V_ERR_CERT_HAS_EXPIRED);
}

TEST(Tls, ServerNamesItsHostsAndNoOthers) {
  const TlsIdentity server =
      Server(Authority(), {"localhost", "game-1.example.com", "127.0.0.1", "::1", "fe80::a:1"});
  const Owned<X509> certificate = ReadCertificate(server.certificate_pem);
  ASSERT_NE(certificate, nullptr);
  EXPECT_TRUE(NamesHost(certificate.get(), "localhost"));
  EXPECT_TRUE(NamesHost(certificate.get(), "GAME-1.example.com"));
  EXPECT_FALSE(NamesHost(certificate.get(), "example.com"));
  EXPECT_FALSE(NamesHost(certificate.get(), "a.localhost"));
  EXPECT_FALSE(NamesHost(certificate.get(), "Chorus coordinator"));
  EXPECT_FALSE(NamesHost(certificate.get(), "127.0.0.1"));
  EXPECT_TRUE(NamesAddress(certificate.get(), "127.0.0.1"));
  EXPECT_TRUE(NamesAddress(certificate.get(), "0:0:0:0:0:0:0:1"));
  EXPECT_TRUE(NamesAddress(certificate.get(), "fe80::a:1"));
  EXPECT_FALSE(NamesAddress(certificate.get(), "127.0.0.2"));
}

TEST(Tls, KeysAreP256AndBelongToTheirCertificates) {
  const TlsIdentity authority = Authority();
  const TlsIdentity server = Server(authority, {"localhost"});
  for (const TlsIdentity* identity : {&authority, &server}) {
    const Owned<X509> certificate = ReadCertificate(identity->certificate_pem);
    const Owned<EVP_PKEY> key = ReadKey(identity->key_pem);
    ASSERT_NE(key, nullptr);
    EXPECT_EQ(X509_check_private_key(certificate.get(), key.get()), 1);
    char group[32] = {};
    size_t size = 0;
    ASSERT_EQ(EVP_PKEY_get_group_name(key.get(), group, sizeof(group), &size), 1);
    EXPECT_STREQ(group, "prime256v1");
    EXPECT_EQ(X509_get_signature_nid(certificate.get()), NID_ecdsa_with_SHA256);
  }
  EXPECT_NE(authority.key_pem, server.key_pem);
}

TEST(Tls, AuthorityMaySignAndServerMayOnlyServe) {
  const TlsIdentity authority = Authority();
  const Owned<X509> root = ReadCertificate(authority.certificate_pem);
  const Owned<X509> leaf = ReadCertificate(Server(authority, {"localhost"}).certificate_pem);
  EXPECT_EQ(X509_check_ca(root.get()), 1);
  EXPECT_EQ(X509_get_key_usage(root.get()), uint32_t{KU_KEY_CERT_SIGN | KU_CRL_SIGN});
  EXPECT_EQ(X509_get_pathlen(root.get()), 0);
  EXPECT_EQ(X509_check_ca(leaf.get()), 0);
  EXPECT_EQ(X509_get_key_usage(leaf.get()), uint32_t{KU_DIGITAL_SIGNATURE});
  EXPECT_EQ(X509_get_extended_key_usage(leaf.get()), uint32_t{XKU_SSL_SERVER});
}

// 126 random bits agree with a chance of 2^-126 a pair.
TEST(Tls, SerialsArePositiveAndNeverRepeat) {
  const TlsIdentity authority = Authority();
  std::vector<Owned<X509>> certificates;
  for (int i = 0; i < 20; ++i) {
    certificates.push_back(ReadCertificate(Server(authority, {"localhost"}).certificate_pem));
    const ASN1_INTEGER* const serial = X509_get0_serialNumber(certificates.back().get());
    EXPECT_EQ(ASN1_STRING_length(serial), 16);
    EXPECT_EQ(ASN1_STRING_type(serial), V_ASN1_INTEGER);  // a negative one has another type
    for (size_t j = 0; j + 1 < certificates.size(); ++j) {
      EXPECT_NE(ASN1_INTEGER_cmp(serial, X509_get0_serialNumber(certificates[j].get())), 0);
    }
  }
}

TEST(Tls, RefusesWhatIsNoHost) {
  const TlsIdentity authority = Authority();
  const std::vector<std::string> bad = {"",
                                        " ",
                                        ".",
                                        "a..b",
                                        ".a",
                                        "a.",
                                        "-a",
                                        "a-",
                                        "a_b",
                                        "*.example.com",
                                        "a b",
                                        "a,DNS:b",
                                        "localhost:7447",
                                        "http://localhost",
                                        "[::1]",
                                        "1.2.3",
                                        "1.2.3.4.5",
                                        "1.2.3.256",
                                        "1.2.3.-4",
                                        "+1.2.3.4",
                                        "1.2.3.4 ",
                                        ":::",
                                        "::1%eth0",
                                        "12345::",
                                        "example.123",
                                        std::string(64, 'a'),
                                        "caf\xC3\xA9.example.com",
                                        std::string("a\0b", 3),
                                        std::string("1.2.3.4\0", 8)};
  for (const std::string& host : bad) {
    EXPECT_THAT(MakeTlsServer(authority, {"localhost", host}, kBegin, kEnd),
                HasCodeAndText(Code::kInvalidArgument, "host 2"))
        << host;
  }
  std::string longest;
  for (int i = 0; i < 4; ++i) longest += std::string(62, 'a') + ".";
  EXPECT_THAT(MakeTlsServer(authority, {longest + "a"}, kBegin, kEnd), IsOk());  // 253 bytes
  EXPECT_THAT(MakeTlsServer(authority, {longest + "aa"}, kBegin, kEnd),
              HasCode(Code::kInvalidArgument));
}

TEST(Tls, RefusesNoHostsAndTooMany) {
  const TlsIdentity authority = Authority();
  EXPECT_THAT(MakeTlsServer(authority, {}, kBegin, kEnd),
              HasCodeAndText(Code::kInvalidArgument, "at least one"));
  EXPECT_THAT(MakeTlsServer(authority, std::vector<std::string>(100, "a"), kBegin, kEnd), IsOk());
  EXPECT_THAT(MakeTlsServer(authority, std::vector<std::string>(101, "a"), kBegin, kEnd),
              HasCodeAndText(Code::kInvalidArgument, "at most 100"));
}

TEST(Tls, RefusesNamesThatAreEmptyLongOrUnprintable) {
  for (const std::string& name : {std::string(), std::string(65, 'a'), std::string("a\nb"),
                                  std::string("a\0b", 3), std::string("\xFF")}) {
    EXPECT_THAT(MakeTlsAuthority(name, kBegin, kEnd), HasCode(Code::kInvalidArgument));
  }
  EXPECT_THAT(MakeTlsAuthority(std::string(64, 'a'), kBegin, kEnd), IsOk());
}

TEST(Tls, RefusesTimesThatAreEmptyOrOutOfRange) {
  const TlsIdentity authority = Authority();
  const std::vector<std::pair<int64_t, int64_t>> bad = {{kEnd, kBegin},
                                                        {kBegin, kBegin},
                                                        {-1, kEnd},
                                                        {kBegin, 253'402'300'800},
                                                        {INT64_MIN, INT64_MAX}};
  for (const auto& times : bad) {
    EXPECT_THAT(MakeTlsAuthority("a", times.first, times.second), HasCode(Code::kInvalidArgument));
    EXPECT_THAT(MakeTlsServer(authority, {"a"}, times.first, times.second),
                HasCode(Code::kInvalidArgument));
  }
}

TEST(Tls, RefusesAnAuthorityThatIsNone) {
  const TlsIdentity authority = Authority();
  const TlsIdentity server = Server(authority, {"localhost"});
  const auto refusal = [](const TlsIdentity& signer) {
    return MakeTlsServer(signer, {"localhost"}, kBegin, kEnd);
  };
  EXPECT_THAT(refusal({"", authority.key_pem}),
              HasCodeAndText(Code::kInvalidArgument, "not a certificate"));
  EXPECT_THAT(refusal({authority.certificate_pem, ""}),
              HasCodeAndText(Code::kInvalidArgument, "not an unencrypted"));
  EXPECT_THAT(refusal({authority.certificate_pem, server.key_pem}),
              HasCodeAndText(Code::kInvalidArgument, "does not belong"));
  EXPECT_THAT(refusal(server), HasCodeAndText(Code::kInvalidArgument, "not one of a certificate"));
  EXPECT_THAT(refusal({std::string(100'000, 'a'), authority.key_pem}),
              HasCodeAndText(Code::kInvalidArgument, "too long"));
}

TEST(Tls, RefusesAnEncryptedKeyWithoutAskingForItsPassword) {
  TlsIdentity authority = Authority();
  const Owned<EVP_PKEY> key = ReadKey(authority.key_pem);
  const Owned<BIO> bio(BIO_new(BIO_s_mem()));
  const unsigned char password[] = "secret";
  ASSERT_EQ(PEM_write_bio_PrivateKey(bio.get(), key.get(), EVP_aes_256_cbc(), password, 6, nullptr,
                                     nullptr),
            1);
  char* text = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &text);
  authority.key_pem.assign(text, static_cast<size_t>(size));
  EXPECT_THAT(MakeTlsServer(authority, {"localhost"}, kBegin, kEnd),
              HasCodeAndText(Code::kInvalidArgument, "not an unencrypted"));
}

// An error left in OpenSSL's queue would be taken by the next TLS connection on the thread for its
// own.
TEST(Tls, LeavesNoErrorInTheQueueOfOpenSsl) {
  ERR_clear_error();
  EXPECT_FALSE(MakeTlsServer({"x", "y"}, {"localhost"}, 0, 1).ok());
  EXPECT_FALSE(MakeTlsServer({"x", "y"}, {"1.2.3.999"}, 0, 1).ok());
  EXPECT_EQ(ERR_peek_error(), 0U);
}

}  // namespace
}  // namespace chorus::crypto
