// Certificates: what reads is signed by the issuer it names and issues to the same bytes, and the
// verifier never vouches for a key that the certificate does not name.
#include "fuzz.h"
#include "trust/trust.h"

namespace chorus::trust {
namespace {

using fuzz::Require;

constexpr int64_t kNow = 1'800'000'000;

class FixedClock final : public Clock {
 public:
  Time Now() const override { return Time{0}; }
  int64_t UnixSeconds() const override { return kNow; }
};

void Judge(BytesView bytes, const SecretBytes& issuer_seed) {
  const PublicKey issuer = crypto::Ed25519Public(issuer_seed.Reveal());
  const Result<Certificate> read = ReadCertificate(bytes);
  if (read.ok() && read->issuer == issuer) {
    const Bytes again = IssueCertificate(*read, issuer_seed.Reveal());
    Require(std::equal(again.begin(), again.end(), bytes.begin(), bytes.end()),
            "a certificate has one encoding");
  }
  static const FixedClock clock;
  static const auto verifier = NewCertificateVerifier(issuer, clock);
  static const auto admission = NewAdmissionVerifier(issuer, clock, std::chrono::hours(1));
  const PublicKey subject = read.ok() ? read->subject : PublicKey{1};
  const bool vouched = verifier->Verify(subject, bytes).ok();
  Require(!vouched || (read.ok() && read->issuer == issuer), "only the issuer vouches");
  Require(!vouched || (read->not_before <= kNow && kNow <= read->not_after), "and only in time");
  Require(vouched || !admission->Verify(subject, bytes).ok(), "admission asks for more, not less");
  PublicKey other = subject;
  other[0] ^= 1U;
  Require(!verifier->Verify(other, bytes).ok(), "a certificate vouches for one key");
}

}  // namespace

void Decode(BytesView input) {
  static const SecretBytes issuer_seed = fuzz::Key("issuer");
  fuzz::Choices choices(input);
  const bool sign = choices.Flag();
  const BytesView rest = choices.Rest();
  Bytes bytes(rest.begin(), rest.end());
  // A true signature over content that the fuzzer chose: magic, content, issuer, signature.
  constexpr size_t kSigned = 4 + 8 + 4 + 8 + 8 + 32 + 32;
  if (sign && bytes.size() == kSigned + sizeof(Signature)) {
    const PublicKey issuer = crypto::Ed25519Public(issuer_seed.Reveal());
    std::copy(issuer.begin(), issuer.end(), bytes.begin() + kSigned - 32);
    const Digest words =
        crypto::LabeledHash("CHORUS1/certificate", {BytesView(bytes).first(kSigned)});
    const Signature signature = crypto::Ed25519Sign(issuer_seed.Reveal(), words);
    std::copy(signature.begin(), signature.end(), bytes.begin() + kSigned);
  }
  Judge(bytes, issuer_seed);
}

}  // namespace chorus::trust

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  chorus::trust::Decode({data, size});
  return 0;
}
