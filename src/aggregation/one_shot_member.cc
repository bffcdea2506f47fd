// A committee member's side of OneShot. Every check of specification 2.2.4 stands here under the
// step before whose answer it is made.
#include <algorithm>
#include <variant>

#include "aggregation/one_shot.h"
#include "base/codec.h"
#include "base/limits.h"
#include "crypto/crypto.h"

namespace chorus::aggregation {
namespace {

constexpr crypto::Nonce kZeroNonce{};

Status CoordinatorLied(const char* what) {
  return Aborted(std::string("the coordinator broke the protocol: ") + what);
}

// The phases. Each owns what it needs and no more, so leaving one wipes its secrets.
struct AwaitingOffer {};
struct Keyed {
  AcceptedOffer offer;
  Bytes params;  // as they were signed
  crypto::X25519Key secret;
  PublicKey key{};
};
struct Held {         // one client's contribution, as far as a member sees it
  Digest leaf{};      // in the tree over the survivors
  SecretBytes share;  // empty: it was complained of
};
struct Pulled {
  SessionParams params;
  Digest sid{};
  std::vector<Held> held;  // by position in Pull
};
struct Voted {
  SessionParams params;
  Digest sid{};
  SurvivorSet survivors;
  SecretBytes sum;  // of the shares of exactly these survivors, as it travels
};
struct Ended {};

class OneShotMember final : public Contributor {
 public:
  OneShotMember(MemberOptions options, uint32_t index)
      : options_(std::move(options)), index_(index) {}

  // The transitions:
  //   AwaitingOffer --Offer--> Keyed --Pull--> Pulled --Survivors--> Voted --Quorum--> Ended
  //   any failure --> Ended
  // There is one Voted in a session, and one way on from it: the sum over the survivors voted on.
  Result<Bytes> Answer(BytesView question) override {
    Result<Bytes> answer = Step(question);
    if (!answer.ok()) phase_ = Ended{};
    return answer;
  }

  bool uploaded() const override { return false; }
  bool done() const override { return std::holds_alternative<Ended>(phase_); }

 private:
  Result<Bytes> Step(BytesView question) {
    if (std::holds_alternative<AwaitingOffer>(phase_)) return OnOffer(question);
    if (auto* keyed = std::get_if<Keyed>(&phase_)) return OnPull(*keyed, question);
    if (auto* pulled = std::get_if<Pulled>(&phase_)) return OnSurvivors(*pulled, question);
    if (auto* voted = std::get_if<Voted>(&phase_)) return OnQuorum(*voted, question);
    return FailedPrecondition("this session has ended");
  }

  // O0. Before a key is made: the parameters are signed, of this task and committee, and as strict
  // as this member's own policy.
  Result<Bytes> OnOffer(BytesView question) {
    CHORUS_TRY_ASSIGN(const AcceptedOffer offer,
                      ReadOffer(options_.coordinator, Protocol::kOneShot, question));
    CHORUS_TRY(CheckAgainst(offer.params));
    const BytesView params = question.first(kOneShotParamsBytes);
    Keyed next{.offer = offer,
               .params = Bytes(params.begin(), params.end()),
               .secret = crypto::X25519Key(
                   crypto::RandomSecret(*options_.rng, crypto::kKeyBytes).Reveal()),
               .key = {}};
    next.key = next.secret.Public();
    CommitteeKey message;
    message.key = next.key;
    message.signature = crypto::Ed25519Sign(options_.identity_seed,
                                            CommitteeKeyMessage(next.offer.sid0, index_, next.key));
    phase_ = std::move(next);
    return Encode(message);
  }

  Status CheckAgainst(const SessionParams& offered) const {
    const SessionParams& mine = options_.expected;
    const auto refuse = [](const char* what) {
      return PermissionDenied(std::string("the coordinator's session parameters are refused: ") +
                              what);
    };
    if (offered.suite != mine.suite || offered.mode != mine.mode) return refuse("suite or mode");
    if (offered.coordinator_id != options_.coordinator) return refuse("another coordinator's name");
    if (offered.task_id != mine.task_id || offered.task_hash != mine.task_hash) {
      return refuse("another task than the one agreed to");
    }
    if (offered.committee != mine.committee) return refuse("another committee than the task's");
    if (offered.n_min < mine.n_min || offered.a_min < mine.a_min)
      return refuse("too small a cohort");
    if (offered.n_max > mine.n_max) return refuse("too large a cohort for the encoding");
    if (offered.gamma_ppm < mine.gamma_ppm) return refuse("weaker assumptions than the policy's");
    return OkStatus();
  }

  // O2. Before Complaints: the committee is the task's, each key signed, mine among them, so that
  // the session's id is the clients'. A client whose signature, certificate or share fails is
  // complained of.
  Result<Bytes> OnPull(Keyed& now, BytesView question) {
    const SessionParams& params = now.offer.params;
    CHORUS_TRY_ASSIGN(Pull pull, DecodePull(question, params));
    CHORUS_TRY(CheckCommittee(params.committee, options_.committee_ids, pull.committee));
    if (pull.committee[index_ - 1].key.key != now.key) {
      return CoordinatorLied("this member is not in the committee with its own key");
    }
    CHORUS_TRY(CheckCommitteeSignatures(now.offer.sid0, pull.committee));
    CHORUS_TRY(NoteKeys(pull.committee));
    if (pull.entries.size() < params.n_min) {
      return PermissionDenied("fewer clients contributed than agreed");
    }
    Pulled next;
    next.params = params;
    next.sid = OneShotSessionId(now.params, CommitteeRoot(pull.committee));
    next.held.resize(pull.entries.size());
    Positions complaints;
    for (uint32_t position = 0; position < next.held.size(); ++position) {
      PullEntry& entry = pull.entries[position];
      entry.header.sid = next.sid;
      next.held[position].leaf = ContributionLeaf(entry.header);
      Result<SecretBytes> share = Open(now, entry);
      if (share.ok()) {
        next.held[position].share = *std::move(share);
      } else {
        complaints.push_back(position);
      }
    }
    phase_ = std::move(next);
    return EncodeComplaints(complaints);
  }

  // Members' keys are new to this one, as are its own.
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

  // The share that a client dealt to this member, with everything checked that vouches for it.
  Result<SecretBytes> Open(const Keyed& now, const PullEntry& entry) const {
    const ContributionHeader& header = entry.header;
    if (!crypto::Ed25519Verify(header.id, ContributionMessage(header), entry.signature)) {
      return Unauthenticated("a contribution is not signed by its client");
    }
    CHORUS_TRY(options_.verifier->Verify(header.id, entry.evidence));
    const ShareRoute route{header.id, header.ephemeral, index_, now.key};
    CHORUS_TRY_ASSIGN(const SecretBytes key,
                      DeriveShareKey(header.sid, now.secret, header.ephemeral, route));
    CHORUS_TRY_ASSIGN(
        SecretBytes share,
        crypto::AeadOpen(key.Reveal(), kZeroNonce,
                         OneShotShareData(header.sid, route, header.vector_digest), entry.sealed));
    math::SecretNumbers<uint64_t> scratch(ShareElements(now.offer.params.committee));
    CHORUS_TRY(math::AddPackedShare(scratch.RevealMutable(), share.Reveal()));
    return share;
  }

  // O3. Before Vote: enough survivors, honest ones among them, and a share of each. What is not
  // needed for them is wiped; they are fixed for ever.
  Result<Bytes> OnSurvivors(Pulled& now, BytesView question) {
    const SessionParams& params = now.params;
    CHORUS_TRY_ASSIGN(const Positions survivors,
                      DecodeSurvivorMap(question, static_cast<uint32_t>(now.held.size())));
    const auto count = static_cast<uint32_t>(survivors.size());
    if (count < params.n_min) return PermissionDenied("fewer clients survived than agreed");
    if (HonestAmong(count, params.gamma_ppm) < params.a_min) {
      return PermissionDenied("too few honest clients would hide in this sum");
    }
    math::SecretNumbers<uint64_t> sum(ShareElements(params.committee));
    std::vector<Digest> leaves;
    leaves.reserve(count);
    for (const uint32_t position : survivors) {
      const Held& held = now.held[position];
      if (held.share.empty()) {
        return CoordinatorLied("a client survived whose share this member could not use");
      }
      leaves.push_back(held.leaf);
      CHORUS_TRY(math::AddPackedShare(sum.RevealMutable(), held.share.Reveal()));
    }
    Voted next;
    next.params = params;
    next.sid = now.sid;
    next.survivors = {crypto::MerkleRoot(leaves), count};
    const BytesView elements = sum.RevealBytes();
    next.sum = SecretBytes(Bytes(elements.begin(), elements.end()));
    const Signature vote =
        crypto::Ed25519Sign(options_.identity_seed, VoteMessage(next.sid, next.survivors));
    phase_ = std::move(next);
    return Bytes(vote.begin(), vote.end());
  }

  // O4. Before SumShare: so many members voted for exactly this set that no other can have a
  // quorum.
  Result<Bytes> OnQuorum(Voted& now, BytesView question) {
    const CommitteeRow* row = RowOf(now.params.committee);
    if (row == nullptr) return Internal("the committee of this session is of no known shape");
    CHORUS_TRY_ASSIGN(const Quorum quorum, DecodeQuorum(question, now.params.committee.members));
    CHORUS_TRY(CheckQuorum(quorum, now.sid, now.survivors, *row, options_.committee_ids));
    SumShare message;
    const BytesView elements = now.sum.Reveal();
    message.elements.assign(elements.begin(), elements.end());
    message.signature =
        crypto::Ed25519Sign(options_.identity_seed,
                            SumShareMessage(now.sid, now.survivors.root, index_, message.elements));
    phase_ = Ended{};
    return Encode(message);
  }

  MemberOptions options_;
  uint32_t index_;  // j, from 1
  std::variant<AwaitingOffer, Keyed, Pulled, Voted, Ended> phase_;
};

}  // namespace

Result<std::unique_ptr<Contributor>> NewCommitteeMember(MemberOptions options) {
  if (options.identity_seed.size() != crypto::kKeyBytes) {
    return InvalidArgument("the identity seed is not 32 bytes");
  }
  if (options.coordinator == PublicKey{}) return InvalidArgument("no coordinator is pinned");
  if (options.verifier == nullptr || options.rng == nullptr) {
    return InvalidArgument("a committee member needs an identity verifier and a random source");
  }
  if (options.expected.protocol != Protocol::kOneShot) {
    return InvalidArgument("only OneShot has a committee");
  }
  CHORUS_TRY(CheckCommitteeIds(options.expected.committee, options.committee_ids));
  const PublicKey id = crypto::Ed25519Public(options.identity_seed);
  const auto place = std::find(options.committee_ids.begin(), options.committee_ids.end(), id);
  if (place == options.committee_ids.end()) {
    return InvalidArgument("this identity is not on the task's committee");
  }
  const auto index = static_cast<uint32_t>(place - options.committee_ids.begin() + 1);
  return std::unique_ptr<Contributor>(std::make_unique<OneShotMember>(std::move(options), index));
}

}  // namespace chorus::aggregation
