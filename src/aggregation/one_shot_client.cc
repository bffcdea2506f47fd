// The client's side of OneShot: one question, one answer. Every check of specification 2.2.4 stands
// here before it is sent.
#include "aggregation/one_shot.h"
#include "base/codec.h"
#include "crypto/crypto.h"

namespace chorus::aggregation {
namespace {

// Each key seals one message: it is derived from a key pair made for this session.
constexpr crypto::Nonce kZeroNonce{};

Status CoordinatorLied(const char* what) {
  return Aborted(std::string("the coordinator broke the protocol: ") + what);
}

class OneShotContributor final : public Contributor {
 public:
  explicit OneShotContributor(ContributorOptions options) : options_(std::move(options)) {}
  ~OneShotContributor() override { math::WipeVector(options_.input); }

  Result<Bytes> Answer(BytesView question) override {
    if (done_) return FailedPrecondition("this session has ended");
    done_ = true;
    Result<Bytes> answer = Contribute(question);
    math::WipeVector(options_.input);
    uploaded_ = answer.ok();
    return answer;
  }

  bool uploaded() const override { return uploaded_; }
  bool done() const override { return done_; }

 private:
  Result<Bytes> Contribute(BytesView question) {
    const size_t offer_bytes = OfferBytes(Protocol::kOneShot);
    if (question.size() < offer_bytes) return InvalidArgument("the offer is cut short");
    CHORUS_TRY_ASSIGN(const AcceptedOffer offer,
                      AcceptOffer(options_, question.first(offer_bytes)));
    const SessionParams& params = offer.params;
    if (params.a_min < options_.honest_min) {
      return PermissionDenied("too few honest clients would hide in the sums of this session");
    }
    CHORUS_TRY_ASSIGN(const CommitteeList committee,
                      DecodeCommittee(question.subspan(offer_bytes), params.committee.members));
    CHORUS_TRY(CheckCommittee(params.committee, options_.committee_ids, committee));
    CHORUS_TRY(CheckCommitteeSignatures(offer.sid0, committee));
    CHORUS_TRY(NoteKeys(committee));
    const Digest sid =
        OneShotSessionId(question.first(kOneShotParamsBytes), CommitteeRoot(committee));

    const SecretBytes seed = crypto::RandomSecret(*options_.rng, crypto::kKeyBytes);
    const crypto::X25519Key ephemeral(
        crypto::RandomSecret(*options_.rng, crypto::kKeyBytes).Reveal());
    OsaContribution message;
    message.header.sid = sid;
    message.header.id = crypto::Ed25519Public(options_.identity_seed);
    message.header.ephemeral = ephemeral.Public();
    const math::RlweEncoding encoding = EncodingOf(params);
    const math::RlweRing ring(encoding.set);
    const ClientStreams own(sid, seed.Reveal());
    const math::SecretNumbers<int32_t> secret = math::SampleSecret(ring, *own.Secret());
    CHORUS_TRY_ASSIGN(const Bytes packed, Seal(ring, encoding, own, sid, secret));
    message.header.vector_digest = crypto::Sha256(packed);
    CHORUS_TRY_ASSIGN(const Bytes shares,
                      DealShares(params, committee, ephemeral, message.header, secret));
    message.header.shares_digest = crypto::Sha256(shares);
    message.evidence = options_.evidence;
    message.shares = shares;
    message.packed = packed;
    message.signature =
        crypto::Ed25519Sign(options_.identity_seed, ContributionMessage(message.header));
    return Encode(message);
  }

  // Members' keys are new to this device: those of another session would be replayed ones.
  Status NoteKeys(const CommitteeList& committee) {
    if (options_.seen_keys == nullptr) return OkStatus();
    for (const CommitteeEntry& entry : committee) {
      if (entry.present() && options_.seen_keys->Contains(entry.key.key)) {
        return CoordinatorLied("a committee member's key was used in another session");
      }
    }
    for (const CommitteeEntry& entry : committee) {
      if (entry.present()) options_.seen_keys->Note(entry.key.key);
    }
    return OkStatus();
  }

  // The input under the session's lattice key.
  Result<Bytes> Seal(const math::RlweRing& ring, const math::RlweEncoding& encoding,
                     const ClientStreams& own, const Digest& sid,
                     const math::SecretNumbers<int32_t>& secret) const {
    const LatticeStreams common(sid);
    return math::Encrypt(
        ring, encoding, options_.input, secret,
        [&](uint32_t polynomial, uint32_t limb) {
          return common.PublicPolynomial(polynomial, limb);
        },
        [&](uint32_t polynomial) { return own.Error(polynomial); });
  }

  // A share of the lattice key to each member that gave a key, in order.
  Result<Bytes> DealShares(const SessionParams& params, const CommitteeList& committee,
                           const crypto::X25519Key& ephemeral, const ContributionHeader& header,
                           const math::SecretNumbers<int32_t>& secret) const {
    CHORUS_TRY_ASSIGN(const math::PackedDealer dealer,
                      math::PackedDealer::For(SharingOf(params.committee)));
    const math::SecretNumbers<uint64_t> elements = math::PairCoefficients(secret.Reveal());
    CHORUS_TRY_ASSIGN(const math::PackedShares shares,
                      dealer.Deal(elements.Reveal(), *options_.rng));
    Writer out(committee.size() * SealedShareBytes(params.committee));
    uint32_t member = 0;
    for (const CommitteeEntry& entry : committee) {
      ++member;
      if (!entry.present()) continue;
      const ShareRoute route{header.id, header.ephemeral, member, entry.key.key};
      const Result<SecretBytes> key = DeriveShareKey(header.sid, ephemeral, entry.key.key, route);
      if (!key.ok()) return CoordinatorLied("a committee member's key is a point of low order");
      out.Raw(crypto::AeadSeal(key->Reveal(), kZeroNonce,
                               OneShotShareData(header.sid, route, header.vector_digest),
                               shares.BytesOf(member)));
    }
    return std::move(out).Take();
  }

  ContributorOptions options_;
  bool uploaded_ = false;
  bool done_ = false;
};

}  // namespace

std::unique_ptr<Contributor> NewOneShotContributor(ContributorOptions options) {
  return std::make_unique<OneShotContributor>(std::move(options));
}

}  // namespace chorus::aggregation
