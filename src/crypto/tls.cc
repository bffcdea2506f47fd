#include <openssl/asn1.h>
#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/rand.h>

#include <algorithm>
#include <array>

#include "crypto/crypto.h"
#include "crypto/openssl.h"

namespace chorus::crypto {
namespace {

constexpr size_t kHostsMax = 100;
constexpr size_t kHostNameBytesMax = 253;               // [RFC 1035, 2.3.4]
constexpr size_t kLabelBytesMax = 63;                   // likewise
constexpr size_t kCommonNameBytesMax = 64;              // ub-common-name [RFC 5280, A.1]
constexpr size_t kSerialBytes = 16;                     // random, so unique [RFC 5280, 4.1.2.2]
constexpr size_t kPemBytesMax = 64 * 1'024;             // far above any certificate or key
constexpr int64_t kTimeMax = int64_t{253'402'300'799};  // the last second of the year 9999

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsLetter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool IsHexDigit(char c) { return IsDigit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }

bool IsLabel(std::string_view label) {
  if (label.empty() || label.size() > kLabelBytesMax) return false;
  if (label.front() == '-' || label.back() == '-') return false;
  return std::all_of(label.begin(), label.end(),
                     [](char c) { return IsDigit(c) || IsLetter(c) || c == '-'; });
}

// A name whose last label is a number is a mistyped address, never a name.
bool IsDnsName(std::string_view host) {
  if (host.empty() || host.size() > kHostNameBytesMax) return false;
  std::string_view rest = host;
  for (size_t dot = rest.find('.'); dot != std::string_view::npos; dot = rest.find('.')) {
    if (!IsLabel(rest.substr(0, dot))) return false;
    rest.remove_prefix(dot + 1);
  }
  return IsLabel(rest) && !std::all_of(rest.begin(), rest.end(), IsDigit);
}

// Null when `host` is not an IPv4 or IPv6 address. The characters are checked first because
// OpenSSL's reader also takes blanks and signs.
OwnedOctets ReadAddress(const std::string& host) {
  const bool plausible = std::all_of(host.begin(), host.end(),
                                     [](char c) { return IsHexDigit(c) || c == '.' || c == ':'; });
  return OwnedOctets(plausible ? a2i_IPADDRESS(host.c_str()) : nullptr);
}

// Null when `host` is neither an address nor a name.
OwnedGeneralName ReadHost(const std::string& host) {
  OwnedGeneralName name(GENERAL_NAME_new());
  Require(name != nullptr);
  if (OwnedOctets address = ReadAddress(host)) {
    GENERAL_NAME_set0_value(name.get(), GEN_IPADD, address.release());
    return name;
  }
  if (!IsDnsName(host)) return nullptr;
  ASN1_IA5STRING* text = ASN1_IA5STRING_new();
  Require(text != nullptr);
  GENERAL_NAME_set0_value(name.get(), GEN_DNS, text);
  Require(ASN1_STRING_set(text, host.data(), static_cast<int>(host.size())) == 1);
  return name;
}

Result<OwnedGeneralNames> ReadHosts(const std::vector<std::string>& hosts) {
  if (hosts.empty()) return InvalidArgument("a server certificate needs at least one host");
  if (hosts.size() > kHostsMax) {
    return InvalidArgument("a server certificate takes at most 100 hosts");
  }
  OwnedGeneralNames names(GENERAL_NAMES_new());
  Require(names != nullptr);
  for (size_t i = 0; i < hosts.size(); ++i) {
    OwnedGeneralName name = ReadHost(hosts[i]);
    if (name == nullptr) {
      return InvalidArgument("host " + std::to_string(i + 1) +
                             " is neither a DNS name nor an IP address; give it without port, "
                             "brackets or wildcard");
    }
    Require(sk_GENERAL_NAME_push(names.get(), name.get()) > 0);
    (void)name.release();  // the list owns it now
  }
  return names;
}

Status CheckValidity(int64_t not_before, int64_t not_after) {
  if (not_before < 0 || not_after > kTimeMax) {
    return InvalidArgument("a certificate's validity must lie between the years 1970 and 9999");
  }
  if (not_before >= not_after) {
    return InvalidArgument("a certificate's validity must begin before it ends");
  }
  return OkStatus();
}

void SetSerial(X509* certificate) {
  std::array<uint8_t, kSerialBytes> raw;
  Require(RAND_bytes(raw.data(), static_cast<int>(raw.size())) == 1);
  raw[0] = static_cast<uint8_t>((raw[0] & 0x7FU) | 0x40U);  // positive, and always of one length
  const Owned<BIGNUM, BN_free> number(BN_bin2bn(raw.data(), static_cast<int>(raw.size()), nullptr));
  Require(number != nullptr);
  Require(BN_to_ASN1_INTEGER(number.get(), X509_get_serialNumber(certificate)) != nullptr);
}

void SetCommonName(X509_NAME* name, std::string_view text) {
  Require(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8,
                                     reinterpret_cast<const unsigned char*>(text.data()),
                                     static_cast<int>(text.size()), -1, 0) == 1);
}

// Adds an extension that OpenSSL reads from `value`, which is always a constant of ours: text from
// outside could bring extensions of its own.
void AddExtension(X509* certificate, X509* issuer, int kind, const char* value) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  X509V3_set_ctx_nodb(&context);
  const OwnedExtension extension(X509V3_EXT_conf_nid(nullptr, &context, kind, value));
  Require(extension != nullptr);
  Require(X509_add_ext(certificate, extension.get(), -1) == 1);
}

// A certificate for `key` with everything but issuer, extensions and signature.
OwnedCertificate BeginCertificate(EVP_PKEY* key, std::string_view common_name, int64_t not_before,
                                  int64_t not_after) {
  OwnedCertificate certificate(X509_new());
  Require(certificate != nullptr);
  Require(X509_set_version(certificate.get(), X509_VERSION_3) == 1);
  SetSerial(certificate.get());
  Require(ASN1_TIME_set(X509_getm_notBefore(certificate.get()), not_before) != nullptr);
  Require(ASN1_TIME_set(X509_getm_notAfter(certificate.get()), not_after) != nullptr);
  SetCommonName(X509_get_subject_name(certificate.get()), common_name);
  Require(X509_set_pubkey(certificate.get(), key) == 1);
  return certificate;
}

std::string TextOf(BIO* bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  Require(size > 0);
  return std::string(data, static_cast<size_t>(size));
}

TlsIdentity ToPem(X509* certificate, EVP_PKEY* key) {
  const OwnedBio certificate_bio(BIO_new(BIO_s_mem()));
  const OwnedBio key_bio(BIO_new(BIO_s_secmem()));
  Require(certificate_bio != nullptr && key_bio != nullptr);
  Require(PEM_write_bio_X509(certificate_bio.get(), certificate) == 1);
  Require(PEM_write_bio_PKCS8PrivateKey(key_bio.get(), key, nullptr, nullptr, 0, nullptr,
                                        nullptr) == 1);
  return {.certificate_pem = TextOf(certificate_bio.get()), .key_pem = TextOf(key_bio.get())};
}

OwnedKey NewTlsKey() {
  OwnedKey key(EVP_EC_gen("P-256"));
  Require(key != nullptr);
  return key;
}

struct Authority {
  OwnedCertificate certificate;
  OwnedKey key;
};

Result<Authority> ReadAuthority(const TlsIdentity& pem) {
  if (pem.certificate_pem.size() > kPemBytesMax || pem.key_pem.size() > kPemBytesMax) {
    return InvalidArgument("the authority's certificate or key is too long to be one");
  }
  const OwnedBio certificate_bio(
      BIO_new_mem_buf(pem.certificate_pem.data(), static_cast<int>(pem.certificate_pem.size())));
  const OwnedBio key_bio(BIO_new_mem_buf(pem.key_pem.data(), static_cast<int>(pem.key_pem.size())));
  Require(certificate_bio != nullptr && key_bio != nullptr);
  // Without an answer of ours OpenSSL would ask for an encrypted key's password on the terminal.
  const auto no_password = [](char*, int, int, void*) { return -1; };
  Authority authority;
  authority.certificate.reset(
      PEM_read_bio_X509(certificate_bio.get(), nullptr, no_password, nullptr));
  if (authority.certificate == nullptr) {
    return InvalidArgument("the authority's certificate is not a certificate in PEM");
  }
  authority.key.reset(PEM_read_bio_PrivateKey(key_bio.get(), nullptr, no_password, nullptr));
  if (authority.key == nullptr || EVP_PKEY_is_a(authority.key.get(), "EC") != 1) {
    return InvalidArgument("the authority's key is not an unencrypted ECDSA key in PEM");
  }
  if (X509_check_private_key(authority.certificate.get(), authority.key.get()) != 1) {
    return InvalidArgument("the authority's key does not belong to its certificate");
  }
  if (X509_check_ca(authority.certificate.get()) != 1) {
    return InvalidArgument("the authority's certificate is not one of a certificate authority");
  }
  return authority;
}

// A certificate for a new key, signed by `signer`, for one end of TLS: `purpose` is its extended
// key usage. `names`: of a server; null for a client, which is known by its common name alone.
TlsIdentity Issue(const Authority& signer, std::string_view common_name, const char* purpose,
                  GENERAL_NAMES* names, int64_t not_before, int64_t not_after) {
  const OwnedKey key = NewTlsKey();
  const OwnedCertificate certificate =
      BeginCertificate(key.get(), common_name, not_before, not_after);
  X509* const x509 = certificate.get();
  X509* const issuer = signer.certificate.get();
  Require(X509_set_issuer_name(x509, X509_get_subject_name(issuer)) == 1);
  AddExtension(x509, issuer, NID_basic_constraints, "critical,CA:FALSE");
  AddExtension(x509, issuer, NID_key_usage, "critical,digitalSignature");
  AddExtension(x509, issuer, NID_ext_key_usage, purpose);
  AddExtension(x509, issuer, NID_subject_key_identifier, "hash");
  if (X509_get0_subject_key_id(issuer) != nullptr) {
    AddExtension(x509, issuer, NID_authority_key_identifier, "keyid");
  }
  if (names != nullptr) {
    Require(X509_add1_ext_i2d(x509, NID_subject_alt_name, names, 0, X509V3_ADD_DEFAULT) == 1);
  }
  Require(X509_sign(x509, signer.key.get(), EVP_sha256()) > 0);
  return ToPem(x509, key.get());
}

Status CheckCommonName(std::string_view common_name, std::string_view whose) {
  const bool printable = std::all_of(common_name.begin(), common_name.end(),
                                     [](char c) { return c >= ' ' && c <= '~'; });
  if (common_name.empty() || common_name.size() > kCommonNameBytesMax || !printable) {
    return InvalidArgument(std::string(whose) + " name must be 1 to 64 printable ASCII characters");
  }
  return OkStatus();
}

}  // namespace

Result<TlsIdentity> MakeTlsAuthority(std::string_view common_name, int64_t not_before,
                                     int64_t not_after) {
  CHORUS_TRY(CheckCommonName(common_name, "an authority's"));
  CHORUS_TRY(CheckValidity(not_before, not_after));
  const ErrorScope errors;
  const OwnedKey key = NewTlsKey();
  const OwnedCertificate certificate =
      BeginCertificate(key.get(), common_name, not_before, not_after);
  X509* const x509 = certificate.get();
  Require(X509_set_issuer_name(x509, X509_get_subject_name(x509)) == 1);
  AddExtension(x509, x509, NID_basic_constraints, "critical,CA:TRUE,pathlen:0");
  AddExtension(x509, x509, NID_key_usage, "critical,keyCertSign,cRLSign");
  AddExtension(x509, x509, NID_subject_key_identifier, "hash");
  Require(X509_sign(x509, key.get(), EVP_sha256()) > 0);
  return ToPem(x509, key.get());
}

Result<TlsIdentity> MakeTlsServer(const TlsIdentity& authority,
                                  const std::vector<std::string>& hosts, int64_t not_before,
                                  int64_t not_after) {
  const ErrorScope errors;
  CHORUS_TRY(CheckValidity(not_before, not_after));
  CHORUS_TRY_ASSIGN(const OwnedGeneralNames names, ReadHosts(hosts));
  CHORUS_TRY_ASSIGN(const Authority signer, ReadAuthority(authority));
  // Clients look for the host among the alternative names and nowhere else [RFC 6125, 6.4.4].
  return Issue(signer, "Chorus coordinator", "serverAuth", names.get(), not_before, not_after);
}

Result<TlsIdentity> MakeTlsClient(const TlsIdentity& authority, std::string_view common_name,
                                  int64_t not_before, int64_t not_after) {
  const ErrorScope errors;
  CHORUS_TRY(CheckValidity(not_before, not_after));
  CHORUS_TRY(CheckCommonName(common_name, "a client's"));
  CHORUS_TRY_ASSIGN(const Authority signer, ReadAuthority(authority));
  return Issue(signer, common_name, "clientAuth", nullptr, not_before, not_after);
}

}  // namespace chorus::crypto
