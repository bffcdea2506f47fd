// Certificates of identity and the player's policy.
#include <limits>

#include "base/codec.h"
#include "base/hex.h"
#include "crypto/crypto.h"
#include "matchers.h"
#include "trust/trust.h"

namespace chorus::trust {
namespace {

class FixedClock final : public Clock {
 public:
  explicit FixedClock(int64_t unix_seconds) : unix_seconds_(unix_seconds) {}
  Time Now() const override { return Time(0); }
  int64_t UnixSeconds() const override { return unix_seconds_; }
  void Set(int64_t unix_seconds) { unix_seconds_ = unix_seconds; }

 private:
  int64_t unix_seconds_;
};

const Bytes kIssuerSeed(32, 0x11);
const Bytes kForeignSeed(32, 0x22);
const PublicKey kIssuer = crypto::Ed25519Public(kIssuerSeed);
const PublicKey kSubject = crypto::Ed25519Public(Bytes(32, 0x33));

Certificate Sample() {
  return {.serial = 0x0102030405060708,
          .weight = 3,
          .not_before = 1'000,
          .not_after = 2'000,
          .subject = kSubject};
}

// A certificate with any header, properly signed: what only the issuer itself could do wrong.
Bytes Signed(BytesView header) {
  Writer writer;
  writer.Raw(header).Raw(
      crypto::Ed25519Sign(kIssuerSeed, crypto::LabeledHash("CHORUS1/certificate", {header})));
  return std::move(writer).Take();
}

TEST(Certificate, HasTheDocumentedBytes) {
  Writer header;
  header.Raw(std::string_view("CHC1")).U64(0x0102030405060708).U32(3).U64(1'000).U64(2'000);
  header.Raw(kSubject).Raw(kIssuer);
  const Bytes bytes = IssueCertificate(Sample(), kIssuerSeed);
  EXPECT_EQ(bytes.size(), 160U);
  EXPECT_EQ(ToHex(bytes), ToHex(Signed(header.view())));
}

TEST(Certificate, IsReadAsIssuedWithItsIssuerSet) {
  const Result<Certificate> read = ReadCertificate(IssueCertificate(Sample(), kIssuerSeed));
  ASSERT_THAT(read, IsOk());
  EXPECT_EQ(read->serial, Sample().serial);
  EXPECT_EQ(read->weight, 3U);
  EXPECT_EQ(read->not_before, 1'000);
  EXPECT_EQ(read->not_after, 2'000);
  EXPECT_EQ(read->subject, kSubject);
  EXPECT_EQ(read->issuer, kIssuer);
}

TEST(Certificate, RefusesEveryOtherLength) {
  Bytes bytes = IssueCertificate(Sample(), kIssuerSeed);
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_THAT(ReadCertificate(BytesView(bytes).first(size)),
                HasCodeAndText(Code::kUnauthenticated, "160 bytes"));
  }
  bytes.push_back(0);
  EXPECT_THAT(ReadCertificate(bytes), HasCodeAndText(Code::kUnauthenticated, "160 bytes"));
}

TEST(Certificate, RefusesEveryFlippedBit) {
  const FixedClock clock(1'500);
  const std::unique_ptr<IdentityVerifier> verifier = NewCertificateVerifier(kIssuer, clock);
  Bytes bytes = IssueCertificate(Sample(), kIssuerSeed);
  for (size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
    bytes[bit / 8] ^= static_cast<uint8_t>(1U << (bit % 8));
    EXPECT_THAT(ReadCertificate(bytes), HasCode(Code::kUnauthenticated)) << bit;
    EXPECT_THAT(verifier->Verify(kSubject, bytes), HasCode(Code::kUnauthenticated)) << bit;
    bytes[bit / 8] ^= static_cast<uint8_t>(1U << (bit % 8));
  }
  EXPECT_THAT(ReadCertificate(bytes), IsOk());
}

TEST(Certificate, RefusesASignatureForAnotherPurpose) {
  Bytes bytes = IssueCertificate(Sample(), kIssuerSeed);
  const BytesView header = BytesView(bytes).first(96);
  const Signature other =
      crypto::Ed25519Sign(kIssuerSeed, crypto::LabeledHash("CHORUS1/params", {header}));
  std::copy(other.begin(), other.end(), bytes.begin() + 96);
  EXPECT_THAT(ReadCertificate(bytes), HasCodeAndText(Code::kUnauthenticated, "signature"));
}

TEST(Certificate, RefusesTimesBeyondTheRangeRatherThanReadingThemAsLongAgo) {
  for (const bool before : {true, false}) {
    Writer header;
    header.Raw(std::string_view("CHC1")).U64(1).U32(1);
    header.U64(before ? uint64_t{1} << 63U : 0).U64(before ? 1 : ~uint64_t{0});
    header.Raw(kSubject).Raw(kIssuer);
    EXPECT_THAT(ReadCertificate(Signed(header.view())),
                HasCodeAndText(Code::kUnauthenticated, "out of range"));
  }
}

TEST(CertificateVerifier, VouchesForTheNamedKeyWithSerialAndWeight) {
  const FixedClock clock(1'500);
  const Result<Identity> identity = NewCertificateVerifier(kIssuer, clock)
                                        ->Verify(kSubject, IssueCertificate(Sample(), kIssuerSeed));
  ASSERT_THAT(identity, IsOk());
  EXPECT_EQ(identity->serial, Sample().serial);
  EXPECT_EQ(identity->weight, 3U);
}

TEST(CertificateVerifier, RefusesAnotherIssuerHoweverWellSigned) {
  const FixedClock clock(1'500);
  const std::unique_ptr<IdentityVerifier> verifier = NewCertificateVerifier(kIssuer, clock);
  EXPECT_THAT(verifier->Verify(kSubject, IssueCertificate(Sample(), kForeignSeed)),
              HasCodeAndText(Code::kUnauthenticated, "another issuer"));
}

TEST(CertificateVerifier, RefusesACertificateThatClaimsTheIssuerButIsSignedByAnother) {
  const FixedClock clock(1'500);
  Bytes bytes = IssueCertificate(Sample(), kForeignSeed);
  std::copy(kIssuer.begin(), kIssuer.end(), bytes.begin() + 64);
  const Signature forged = crypto::Ed25519Sign(
      kForeignSeed, crypto::LabeledHash("CHORUS1/certificate", {BytesView(bytes).first(96)}));
  std::copy(forged.begin(), forged.end(), bytes.begin() + 96);
  EXPECT_THAT(NewCertificateVerifier(kIssuer, clock)->Verify(kSubject, bytes),
              HasCodeAndText(Code::kUnauthenticated, "signature"));
}

TEST(CertificateVerifier, RefusesAKeyThatTheCertificateDoesNotName) {
  const FixedClock clock(1'500);
  EXPECT_THAT(NewCertificateVerifier(kIssuer, clock)
                  ->Verify(kIssuer, IssueCertificate(Sample(), kIssuerSeed)),
              HasCodeAndText(Code::kUnauthenticated, "another key"));
}

TEST(CertificateVerifier, AcceptsExactlyTheWindowOfValidity) {
  FixedClock clock(0);
  const std::unique_ptr<IdentityVerifier> verifier = NewCertificateVerifier(kIssuer, clock);
  const Bytes bytes = IssueCertificate(Sample(), kIssuerSeed);
  for (const int64_t early : {int64_t{-5}, int64_t{0}, int64_t{999}}) {
    clock.Set(early);
    EXPECT_THAT(verifier->Verify(kSubject, bytes),
                HasCodeAndText(Code::kUnauthenticated, "not valid yet"));
  }
  for (const int64_t now : {1'000, 1'500, 2'000}) {
    clock.Set(now);
    EXPECT_THAT(verifier->Verify(kSubject, bytes), IsOk());
  }
  for (const int64_t late : {int64_t{2'001}, std::numeric_limits<int64_t>::max()}) {
    clock.Set(late);
    EXPECT_THAT(verifier->Verify(kSubject, bytes),
                HasCodeAndText(Code::kUnauthenticated, "has expired"));
  }
}

// --- policy
// -----------------------------------------------------------------------------------------

// Each demand of the policy met exactly.
struct Match {
  Policy policy{.allow_plain = false,
                .cohort_min = 10,
                .honest_min = 4,
                .gamma_ppm_min = 50'000,
                .delta_ppm_min = 100'000,
                .update_l2_norm_max = 2.0F};
  TaskSpec task;

  Match() {
    task.protocol = Protocol::kSecAgg;
    task.cohort.minimum = 10;
    task.secagg = {.gamma_ppm = 50'000, .delta_ppm = 100'000, .honest_min = 4};
    task.clip.update_l2_norm_max = 2.0F;
  }
};

TEST(Policy, PermitsATaskThatMeetsEachDemandExactly) {
  const Match match;
  EXPECT_THAT(Permit(match.policy, match.task), IsOk());
}

TEST(Policy, ByDefaultPermitsTheDefaultTask) { EXPECT_THAT(Permit(Policy{}, TaskSpec{}), IsOk()); }

TEST(Policy, RefusesThatTheCoordinatorReadsUpdatesUnlessAllowed) {
  Match match;
  match.task.protocol = Protocol::kPlain;
  EXPECT_THAT(Permit(match.policy, match.task),
              HasCodeAndText(Code::kPermissionDenied, "read your update"));
  match.policy.allow_plain = true;
  EXPECT_THAT(Permit(match.policy, match.task), IsOk());
}

TEST(Policy, DoesNotAskOfPlainWhatOnlySecureAggregationPromises) {
  Match match;
  match.policy.allow_plain = true;
  match.task.protocol = Protocol::kPlain;
  match.task.secagg = {.gamma_ppm = 0, .delta_ppm = 0, .honest_min = 0};
  EXPECT_THAT(Permit(match.policy, match.task), IsOk());
}

TEST(Policy, RefusesASmallerCohortUnderEveryProtocol) {
  for (const Protocol protocol : {Protocol::kPlain, Protocol::kSecAgg}) {
    Match match;
    match.policy.allow_plain = true;
    match.task.protocol = protocol;
    match.task.cohort.minimum = 9;
    EXPECT_THAT(Permit(match.policy, match.task),
                HasCodeAndText(Code::kPermissionDenied, "only 9 clients'"));
  }
}

TEST(Policy, RefusesQuestionsUnlessAllowedAndOverMoreClientsThanUpdates) {
  Match match;
  match.task.queries = {{.name = "count"}};
  match.task.cohort.minimum = 20;
  EXPECT_THAT(Permit(match.policy, match.task),
              HasCodeAndText(Code::kPermissionDenied, "does not allow analytics"));
  match.policy.allow_analytics = true;
  EXPECT_THAT(Permit(match.policy, match.task), IsOk());
  match.task.cohort.minimum = 19;
  EXPECT_THAT(Permit(match.policy, match.task),
              HasCodeAndText(Code::kPermissionDenied, "only 19 clients'"));
  match.policy.analytics_cohort_min = 19;
  EXPECT_THAT(Permit(match.policy, match.task), IsOk());
  match.policy.cohort_min = 20;  // asks of every task
  EXPECT_THAT(Permit(match.policy, match.task), HasCode(Code::kPermissionDenied));
}

TEST(Policy, RefusesThatOneUpdateWeighsMore) {
  Match match;
  match.task.clip.update_l2_norm_max = 2.001F;
  EXPECT_THAT(Permit(match.policy, match.task),
              HasCodeAndText(Code::kPermissionDenied, "at most 2.0"));
  match.task.clip.update_l2_norm_max = std::numeric_limits<float>::infinity();
  EXPECT_THAT(Permit(match.policy, match.task), HasCode(Code::kPermissionDenied));
  match.task.clip.update_l2_norm_max = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THAT(Permit(match.policy, match.task), HasCode(Code::kPermissionDenied));
}

TEST(Policy, RefusesFewerHonestCompanions) {
  Match match;
  match.task.secagg.honest_min = 3;
  EXPECT_THAT(Permit(match.policy, match.task),
              HasCodeAndText(Code::kPermissionDenied, "only 3 honest clients"));
}

TEST(Policy, RefusesAWeakerAssumptionOnCorruptClients) {
  Match match;
  match.task.secagg.gamma_ppm = 49'999;
  EXPECT_THAT(Permit(match.policy, match.task),
              HasCodeAndText(Code::kPermissionDenied, "49999 corrupt clients in a million"));
}

TEST(Policy, RefusesAWeakerAssumptionOnDropouts) {
  Match match;
  match.task.secagg.delta_ppm = 99'999;
  EXPECT_THAT(Permit(match.policy, match.task),
              HasCodeAndText(Code::kPermissionDenied, "99999 dropouts in a million"));
}

TEST(Policy, TrustsTheCoordinatorToFollowTheProtocolOnlyByItsWord) {
  TaskSpec task;
  task.secagg.graph = SharingGraph::kSelfSelected;
  EXPECT_THAT(Permit(Policy{}, task), IsOk());
  task.secagg.graph = SharingGraph::kHarary;
  EXPECT_THAT(Permit(Policy{}, task), HasCodeAndText(Code::kPermissionDenied, "follows"));
  EXPECT_THAT(Permit(Policy{.allow_honest_but_curious = true}, task), IsOk());
  task.secagg.graph = static_cast<SharingGraph>(3);
  EXPECT_THAT(Permit(Policy{.allow_honest_but_curious = true}, task),
              HasCode(Code::kPermissionDenied));
}

// A task of OneShot and a policy that meets each of its demands exactly.
struct OneShotMatch : Match {
  OneShotMatch() {
    policy.allow_experimental = true;
    policy.committee = {{1}, {2}, {3}, {4}, {5}};
    task.protocol = Protocol::kOneShot;
    task.experimental = true;
    task.one_shot.members = {{4}, {1}, {2}, {3}};
    task.one_shot.gamma_ppm = 50'000;
    task.one_shot.honest_min = 4;
    // What is said of another protocol counts for nothing.
    task.secagg = {.gamma_ppm = 0, .delta_ppm = 0, .honest_min = 0};
  }
};

TEST(Policy, PermitsOneShotWithACommitteeThatItNames) {
  const OneShotMatch match;
  EXPECT_THAT(Permit(match.policy, match.task), IsOk());
}

TEST(Policy, RefusesWhatNobodyOutsideHasReviewedUnlessAllowed) {
  OneShotMatch match;
  match.policy.allow_experimental = false;
  EXPECT_THAT(Permit(match.policy, match.task),
              HasCodeAndText(Code::kPermissionDenied, "nobody outside has reviewed"));
  match.policy.allow_experimental = true;
  match.task.experimental = false;
  EXPECT_THAT(Permit(match.policy, match.task),
              HasCodeAndText(Code::kPermissionDenied, "does not say so"));
}

TEST(Policy, RefusesACommitteeWithAMemberThatItDoesNotName) {
  OneShotMatch match;
  match.task.one_shot.members.back() = {9};
  EXPECT_THAT(Permit(match.policy, match.task),
              HasCodeAndText(Code::kPermissionDenied, "your policy does not name"));
  match.policy.allow_any_committee = true;
  EXPECT_THAT(Permit(match.policy, match.task), IsOk());
  match.task.one_shot.members.clear();
  EXPECT_THAT(Permit(match.policy, match.task), HasCode(Code::kPermissionDenied));
}

TEST(Policy, NamesNoCommitteeByDefault) {
  OneShotMatch match;
  match.policy.committee.clear();
  EXPECT_THAT(Permit(match.policy, match.task),
              HasCodeAndText(Code::kPermissionDenied, "your policy does not name"));
}

TEST(Policy, AsksOfOneShotWhatItAsksOfSecAggAboutClients) {
  OneShotMatch match;
  match.task.one_shot.honest_min = 3;
  EXPECT_THAT(Permit(match.policy, match.task),
              HasCodeAndText(Code::kPermissionDenied, "only 3 honest clients"));
  match = OneShotMatch();
  match.task.one_shot.gamma_ppm = 49'999;
  EXPECT_THAT(Permit(match.policy, match.task),
              HasCodeAndText(Code::kPermissionDenied, "49999 corrupt clients in a million"));
}

TEST(Policy, RefusesAProtocolThatThisVersionDoesNotKnow) {
  Match match;
  match.policy.allow_plain = true;
  match.task.protocol = static_cast<Protocol>(7);
  EXPECT_THAT(Permit(match.policy, match.task),
              HasCodeAndText(Code::kPermissionDenied, "does not know"));
}

}  // namespace
}  // namespace chorus::trust
