#include <algorithm>
#include <limits>
#include <string_view>

#include "base/codec.h"
#include "crypto/crypto.h"
#include "trust/trust.h"

namespace chorus::trust {
namespace {

constexpr std::string_view kMagic = "CHC1";
constexpr std::string_view kLabel = "CHORUS1/certificate";
constexpr size_t kSignedBytes = 96;
constexpr size_t kCertificateBytes = 160;
static_assert(kSignedBytes + sizeof(Signature) == kCertificateBytes);

// What the bytes say, whoever signed them. Times past the range of int64_t are refused rather than
// read as long ago.
Result<Certificate> Decode(BytesView bytes) {
  if (bytes.size() != kCertificateBytes) {
    return Unauthenticated("the certificate is not 160 bytes long; ask its issuer for a new one");
  }
  Reader reader(bytes);
  const BytesView magic = reader.Raw(kMagic.size());
  if (!std::equal(magic.begin(), magic.end(), ViewOf(kMagic).begin())) {
    return Unauthenticated("the certificate does not begin with CHC1; it is of another kind");
  }
  Certificate certificate;
  certificate.serial = reader.U64();
  certificate.weight = reader.U32();
  const uint64_t not_before = reader.U64();
  const uint64_t not_after = reader.U64();
  constexpr uint64_t kTimeMax = std::numeric_limits<int64_t>::max();
  if (not_before > kTimeMax || not_after > kTimeMax) {
    return Unauthenticated("the certificate's times are out of range");
  }
  certificate.not_before = static_cast<int64_t>(not_before);
  certificate.not_after = static_cast<int64_t>(not_after);
  certificate.subject = reader.Array<32>();
  certificate.issuer = reader.Array<32>();
  return certificate;
}

// `bytes` have passed Decode, which said that `issuer` signed them.
Status CheckSignature(const PublicKey& issuer, BytesView bytes) {
  const Digest digest = crypto::LabeledHash(kLabel, {bytes.first(kSignedBytes)});
  if (!crypto::Ed25519Verify(issuer, digest, bytes.subspan(kSignedBytes))) {
    return Unauthenticated("the certificate's signature is wrong; it was changed or made up");
  }
  return OkStatus();
}

class CertificateVerifier final : public IdentityVerifier {
 public:
  CertificateVerifier(const PublicKey& issuer, const Clock& clock, std::chrono::seconds ahead)
      : issuer_(issuer), clock_(clock), ahead_(ahead) {}

  Result<Identity> Verify(const PublicKey& key, BytesView evidence) const override {
    CHORUS_TRY_ASSIGN(const Certificate certificate, Decode(evidence));
    if (certificate.issuer != issuer_) {
      return Unauthenticated("the certificate is by another issuer than the one trusted here");
    }
    if (certificate.subject != key) {
      return Unauthenticated("the certificate belongs to another key");
    }
    // Last but one, for it costs a thousand times more than the checks above.
    CHORUS_TRY(CheckSignature(issuer_, evidence));
    const int64_t now = clock_.UnixSeconds();
    if (now < certificate.not_before) {
      return Unauthenticated("the certificate is not valid yet; check this device's clock");
    }
    if (certificate.weight == 0) return Unauthenticated("the certificate carries no weight");
    if (now + ahead_.count() > certificate.not_after) {
      return Unauthenticated("the certificate has expired; ask its issuer for a new one");
    }
    return Identity{.serial = certificate.serial, .weight = certificate.weight};
  }

 private:
  const PublicKey issuer_;
  const Clock& clock_;
  const std::chrono::seconds ahead_;
};

}  // namespace

Bytes IssueCertificate(const Certificate& certificate, BytesView issuer_seed) {
  Writer writer;
  writer.Raw(kMagic)
      .U64(certificate.serial)
      .U32(certificate.weight)
      .U64(static_cast<uint64_t>(certificate.not_before))
      .U64(static_cast<uint64_t>(certificate.not_after))
      .Raw(certificate.subject)
      .Raw(crypto::Ed25519Public(issuer_seed));
  const Digest digest = crypto::LabeledHash(kLabel, {writer.view()});
  writer.Raw(crypto::Ed25519Sign(issuer_seed, digest));
  return std::move(writer).Take();
}

Result<Certificate> ReadCertificate(BytesView bytes) {
  CHORUS_TRY_ASSIGN(const Certificate certificate, Decode(bytes));
  CHORUS_TRY(CheckSignature(certificate.issuer, bytes));
  return certificate;
}

std::unique_ptr<IdentityVerifier> NewCertificateVerifier(const PublicKey& issuer,
                                                         const Clock& clock) {
  return std::make_unique<CertificateVerifier>(issuer, clock, std::chrono::seconds(0));
}

std::unique_ptr<IdentityVerifier> NewAdmissionVerifier(const PublicKey& issuer, const Clock& clock,
                                                       std::chrono::seconds ahead) {
  return std::make_unique<CertificateVerifier>(issuer, clock, ahead);
}

}  // namespace chorus::trust
