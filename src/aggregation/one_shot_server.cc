// The coordinator's side of OneShot [specification 2.2.4]. Clients' ciphertexts are folded as they
// arrive; their shares are kept until the committee has pulled them.
#include <algorithm>
#include <map>
#include <set>

#include "aggregation/one_shot.h"
#include "base/codec.h"
#include "base/limits.h"
#include "base/pieces.h"
#include "crypto/crypto.h"

namespace chorus::aggregation {
namespace {

// A client's one message, without its ciphertext.
struct Client {
  PartyId party = 0;
  ContributionHeader header;
  Signature signature{};
  Bytes evidence;
  Bytes shares;     // sealed, one for each member with a key; until the survivors are known
  size_t fold = 0;  // in which partial sum its ciphertext is
};

struct Member {
  PartyId party = 0;
  uint32_t index = 0;   // j, from 1
  size_t slot = 0;      // of its share in a client's shares
  bool active = false;  // answered every step so far
  Positions complaints;
  Signature vote{};
  std::vector<uint64_t> sum;  // its share of the sum of keys
};

class OneShotAggregator final : public Aggregator {
 public:
  OneShotAggregator(AggregatorOptions options, const CommitteeRow& row)
      : options_(std::move(options)),
        row_(row),
        offer_(MakeOffer(options_.params, options_.signing_seed)),
        sid0_(crypto::LabeledHash("CHORUS1/sid0", {SignedParams()})),
        ring_(EncodingOf(options_.params).set) {
    for (const CommitteeMember& there : options_.committee) {
      Member& member = members_.emplace_back();
      member.party = there.party;
      member.index = there.index;
      member.active = true;
    }
    std::sort(members_.begin(), members_.end(),
              [](const Member& a, const Member& b) { return a.index < b.index; });
    committee_.resize(options_.committee_ids.size());
    for (size_t j = 0; j < committee_.size(); ++j) committee_[j].id = options_.committee_ids[j];
  }

  // The rows, each Ask -> Hear* -> Close:
  //   kCommitteeKeys --enough keys-->     kInput
  //   kInput         --n_min clients-->   kComplaints
  //   kComplaints    --resolved, enough members and clients left--> kVotes
  //   kVotes         --quorum-->          kOpening
  //   kOpening       --enough shares-->   done --Finish--> spent;  a failed Close or Finish -->
  //   spent
  Result<std::vector<Question>> Ask() override {
    if (asking_ || spent_ || done()) {
      return FailedPrecondition("this sum has nothing to ask now");
    }
    asking_ = true;
    std::vector<Question> questions;
    const uint64_t answer_bytes_max = AnswerBytesMax();
    if (step() == Step::kInput) {
      for (const PartyId party : options_.parties) asked_[party] = {};
    } else {
      for (size_t i = 0; i < members_.size(); ++i) {
        if (members_[i].active) asked_[members_[i].party].member = i;
      }
    }
    questions.reserve(asked_.size());
    for (const auto& [party, asked] : asked_) questions.push_back({party, answer_bytes_max});
    return questions;
  }

  Result<Bytes> Body(PartyId to) override {
    const auto found = asked_.find(to);
    if (!asking_ || found == asked_.end() || found->second.heard) {
      return NotFound("this party is not asked now");
    }
    switch (step()) {
      case Step::kInput:
        return EncodeOsaOffer(offer_, committee_);
      case Step::kComplaints:
        return PullFor(members_[found->second.member]);
      case Step::kVotes:
        return EncodeSurvivorMap(survivors_, ClientCount());
      case Step::kOpening:
        return Encode(quorum_);
      default:
        return offer_;
    }
  }

  Status HearPieces(PartyId from, Pieces pieces) override {
    const auto found = asked_.find(from);
    if (!asking_ || found == asked_.end()) {
      return NotFound("this party was not asked in this step");
    }
    Asked& asked = found->second;
    const BytesView answer = Whole(pieces, joined_);
    if (asked.heard) {
      KeepEvidence(from, asked, answer);
      return AlreadyExists("this party's answer was heard before");
    }
    CHORUS_TRY(HearIn(from, asked, answer));
    asked.heard = true;
    return OkStatus();
  }

  Status Close() override {
    if (!asking_) return FailedPrecondition("nothing was asked");
    asking_ = false;
    if (step() != Step::kInput) {
      for (Member& member : members_) {
        const auto asked = asked_.find(member.party);
        member.active = asked != asked_.end() && asked->second.heard;
      }
    }
    asked_.clear();
    Bytes().swap(joined_);
    const Status closed = CloseIn();
    spent_ = !closed.ok();
    if (closed.ok()) ++row_number_;
    return closed;
  }

  bool done() const override { return !spent_ && row_number_ == Rows().size(); }

  Result<Sum> Finish() override {
    if (!done()) return FailedPrecondition("there is no sum to open");
    spent_ = true;
    std::vector<math::MemberShare> shares;
    for (const Member& member : members_) {
      if (member.active) shares.push_back({member.index, member.sum});
    }
    CHORUS_TRY_ASSIGN(OpenedSum opened, OpenSum(options_.params, sid_, shares, folds_.front()));
    Sum sum{std::move(opened.values), static_cast<uint32_t>(survivors_.size())};
    CHORUS_TRY(CheckSumRange(options_.params, sum));
    // The sum is what was uploaded, so those whose shares do not lie on it lied.
    for (const Member& member : members_) {
      if (std::binary_search(opened.wrong.begin(), opened.wrong.end(), member.index)) {
        Note(member.party, Blame::Cause::kWrongShare, IdOf(member));
      }
    }
    return sum;
  }

 private:
  struct Asked {
    size_t member = 0;  // place in members_; of clients nothing
    bool heard = false;
    bool compared = false;  // a second answer was looked at
    PublicKey id{};         // who signed the first answer
    Blame::Statement said;  // what it signed
  };

  static std::span<const Step> Rows() { return Steps(Protocol::kOneShot, SharingGraph::kComplete); }
  Step step() const { return Rows()[row_number_]; }
  BytesView SignedParams() const { return BytesView(offer_).first(kOneShotParamsBytes); }
  uint32_t ClientCount() const { return static_cast<uint32_t>(clients_.size()); }
  const PublicKey& IdOf(const Member& member) const {
    return options_.committee_ids[member.index - 1];
  }
  size_t ActiveMembers() const {
    return static_cast<size_t>(std::count_if(members_.begin(), members_.end(),
                                             [](const Member& member) { return member.active; }));
  }
  size_t SumBytes() const { return ShareElements(options_.params.committee) * sizeof(uint64_t); }

  uint64_t AnswerBytesMax() const {
    switch (step()) {
      case Step::kInput:
        return Shape().bytes_max();
      case Step::kComplaints:
        return 4 + 4 * uint64_t{ClientCount()};
      case Step::kVotes:
        return sizeof(Signature);
      case Step::kOpening:
        return SumBytes() + sizeof(Signature);
      default:
        return sizeof(PublicKey) + sizeof(Signature);
    }
  }

  Status HearIn(PartyId from, Asked& asked, BytesView answer) {
    switch (step()) {
      case Step::kInput:
        return HearInput(from, asked, answer);
      case Step::kComplaints:
        return HearComplaints(members_[asked.member], answer);
      case Step::kVotes:
        return HearVote(members_[asked.member], answer);
      case Step::kOpening:
        return HearOpening(asked, answer);
      default:
        return HearKey(asked, answer);
    }
  }

  Status CloseIn() {
    switch (step()) {
      case Step::kInput:
        return CloseInput();
      case Step::kComplaints:
        return CloseComplaints();
      case Step::kVotes:
        return CloseVotes();
      case Step::kOpening:
        if (ActiveMembers() < row_.threshold()) {
          return Aborted("too few committee members opened their shares");
        }
        return OkStatus();
      default:
        return CloseKeys();
    }
  }

  void Note(PartyId party, Blame::Cause cause, const PublicKey& id, Blame::Statement first = {},
            Blame::Statement second = {}) {
    if (options_.blame == nullptr) return;
    const auto same = [&](const Blame& blame) {
      return blame.party == party && blame.cause == cause;
    };
    if (std::any_of(options_.blame->begin(), options_.blame->end(), same)) return;
    options_.blame->push_back({party, cause, id, first, second});
  }

  // A second answer of one step changes nothing. When it is signed and says something else, both
  // signatures are kept; one look a party and step, so that repeating costs only its sender.
  void KeepEvidence(PartyId from, Asked& asked, BytesView answer) {
    if (options_.blame == nullptr || asked.compared) return;
    asked.compared = true;
    const Blame::Statement again = StatementIn(asked, answer);
    if (again.signature == Signature{} || again.message == asked.said.message) return;
    if (!crypto::Ed25519Verify(asked.id, again.message, again.signature)) return;
    Note(from, Blame::Cause::kEquivocated, asked.id, asked.said, again);
  }

  // What an answer signs, as far as it says itself: complaints sign nothing, a vote does not tell
  // for which set it is.
  Blame::Statement StatementIn(const Asked& asked, BytesView answer) const {
    if (step() == Step::kCommitteeKeys) {
      const Result<CommitteeKey> said = DecodeCommitteeKey(answer);
      if (!said.ok()) return {};
      return {CommitteeKeyMessage(sid0_, members_[asked.member].index, said->key), said->signature};
    }
    if (step() == Step::kInput) {
      const Result<OsaContribution> said = DecodeContribution(answer, Shape());
      if (!said.ok() || said->header.sid != sid_) return {};
      return {ContributionMessage(said->header), said->signature};
    }
    if (step() == Step::kOpening) {
      const Result<SumShare> said = DecodeSumShare(answer, SumBytes());
      if (!said.ok()) return {};
      return {SumShareMessage(sid_, quorum_.root, members_[asked.member].index, said->elements),
              said->signature};
    }
    return {};
  }

  // --- O0 ---------------------------------------------------------------------------------------
  Status HearKey(Asked& asked, BytesView answer) {
    CHORUS_TRY_ASSIGN(const CommitteeKey said, DecodeCommitteeKey(answer));
    const Member& member = members_[asked.member];
    const Digest message = CommitteeKeyMessage(sid0_, member.index, said.key);
    if (!crypto::Ed25519Verify(IdOf(member), message, said.signature)) {
      return Unauthenticated("the committee key is not signed by its member");
    }
    for (const CommitteeEntry& entry : committee_) {
      if (entry.key.key == said.key) return InvalidArgument("a committee key is used twice");
    }
    if (options_.seen_keys != nullptr && options_.seen_keys->Contains(said.key)) {
      return InvalidArgument("a committee key was used in another session");
    }
    // A clamped scalar times a low-order point is always zero, so any one agreement tells.
    if (!crypto::X25519Canonical(said.key) || !crypto::X25519Agree(sid0_, said.key).ok()) {
      return InvalidArgument("a committee key is of low order, or not in its one encoding");
    }
    if (options_.seen_keys != nullptr) options_.seen_keys->Note(said.key);
    committee_[member.index - 1].key = said;
    asked.id = IdOf(member);
    asked.said = {message, said.signature};
    return OkStatus();
  }

  // Fixes the committee, and with it the session's id.
  Status CloseKeys() {
    if (ActiveMembers() + row_.dropouts_max < row_.members) {
      return Aborted("too few committee members gave a key");
    }
    size_t slot = 0;
    for (Member& member : members_) {
      if (member.active) member.slot = slot++;
    }
    sid_ = OneShotSessionId(SignedParams(), CommitteeRoot(committee_));
    folds_max_ = std::clamp<uint64_t>(
        limits::kOneShotFoldsBytesMax / (EncodingOf(options_.params).residues() * sizeof(uint64_t)),
        1, options_.params.n_max);
    return OkStatus();
  }

  // --- O1 ---------------------------------------------------------------------------------------
  ContributionShape Shape() const {
    return {.shares_bytes = ActiveMembers() * SealedShareBytes(options_.params.committee),
            .packed_bytes = EncodingOf(options_.params).ciphertext_bytes()};
  }

  Status HearInput(PartyId from, Asked& asked, BytesView answer) {
    CHORUS_TRY_ASSIGN(const OsaContribution said, DecodeContribution(answer, Shape()));
    const ContributionHeader& header = said.header;
    if (header.sid != sid_) return InvalidArgument("the contribution is of another session");
    if (client_ids_.contains(header.id)) {
      return InvalidArgument("this identity is in the session already");
    }
    const Blame::Statement statement{ContributionMessage(header), said.signature};
    if (!crypto::Ed25519Verify(header.id, statement.message, statement.signature)) {
      return Unauthenticated("the contribution is not signed by the identity it names");
    }
    CHORUS_TRY(options_.verifier->Verify(header.id, said.evidence));
    if (crypto::Sha256(said.packed) != header.vector_digest ||
        crypto::Sha256(said.shares) != header.shares_digest) {
      return DataLoss("the contribution is not what its header was signed for");
    }
    const size_t fold = clients_.size() % folds_max_;
    if (fold == folds_.size()) folds_.emplace_back(ring_, EncodingOf(options_.params));
    CHORUS_TRY(folds_[fold].Fold(said.packed));
    Client& client = clients_.emplace_back();
    client.party = from;
    client.header = header;
    client.signature = said.signature;
    client.evidence.assign(said.evidence.begin(), said.evidence.end());
    client.shares.assign(said.shares.begin(), said.shares.end());
    client.fold = fold;
    client_ids_.insert(header.id);
    asked.id = header.id;
    asked.said = statement;
    return OkStatus();
  }

  Status CloseInput() {
    if (clients_.size() < options_.params.n_min) return Aborted("too few clients uploaded");
    client_ids_.clear();
    std::sort(clients_.begin(), clients_.end(),
              [](const Client& a, const Client& b) { return a.header.id < b.header.id; });
    return OkStatus();
  }

  // --- O2 ---------------------------------------------------------------------------------------
  Bytes PullFor(const Member& member) const {
    const size_t sealed_bytes = SealedShareBytes(options_.params.committee);
    std::vector<PullEntry> entries;
    entries.reserve(clients_.size());
    for (const Client& client : clients_) {
      entries.push_back(
          {client.header, client.signature, client.evidence,
           BytesView(client.shares).subspan(member.slot * sealed_bytes, sealed_bytes)});
    }
    return EncodePull(committee_, entries);
  }

  Status HearComplaints(Member& member, BytesView answer) {
    CHORUS_TRY_ASSIGN(member.complaints, DecodeComplaints(answer, ClientCount()));
    return OkStatus();
  }

  // Fixes the survivors, and adds up their ciphertexts.
  Status CloseComplaints() {
    std::vector<Positions> complaints;
    std::vector<Member*> complaining;
    for (Member& member : members_) {
      if (!member.active) continue;
      complaints.push_back(std::move(member.complaints));
      complaining.push_back(&member);
    }
    const Resolution resolution = ResolveComplaints(complaints, ClientCount());
    for (size_t i = 0; i < complaining.size(); ++i) {
      if (!resolution.members[i]) continue;
      complaining[i]->active = false;
      Note(complaining[i]->party, Blame::Cause::kDeniedShares, IdOf(*complaining[i]));
    }
    std::vector<bool> spoilt(folds_.size());
    for (size_t i = 0; i < clients_.size(); ++i) {
      clients_[i].shares = {};
      if (!resolution.clients[i]) continue;
      spoilt[clients_[i].fold] = true;
      Note(clients_[i].party, Blame::Cause::kUnusableShares, clients_[i].header.id);
    }
    for (uint32_t i = 0; i < clients_.size(); ++i) {
      if (!spoilt[clients_[i].fold]) survivors_.push_back(i);
    }
    if (survivors_.size() < options_.params.n_min) {
      return Aborted("too few clients dealt shares that the committee can use");
    }
    if (ActiveMembers() < std::max<uint32_t>(row_.quorum, row_.threshold())) {
      return Aborted("too few committee members are left");
    }
    std::vector<Digest> leaves;
    leaves.reserve(survivors_.size());
    for (const uint32_t i : survivors_) leaves.push_back(ContributionLeaf(clients_[i].header));
    survivor_set_ = {crypto::MerkleRoot(leaves), static_cast<uint32_t>(survivors_.size())};
    quorum_.root = survivor_set_.root;
    return AddFolds(spoilt);
  }

  // Leaves one partial sum, of all that are not spoilt.
  Status AddFolds(const std::vector<bool>& spoilt) {
    math::CiphertextSum sum(ring_, EncodingOf(options_.params));
    for (size_t i = 0; i < folds_.size(); ++i) {
      if (!spoilt[i]) CHORUS_TRY(sum.Add(folds_[i]));
    }
    folds_.clear();
    folds_.push_back(std::move(sum));
    return OkStatus();
  }

  // --- O3 ---------------------------------------------------------------------------------------
  Status HearVote(Member& member, BytesView answer) {
    if (answer.size() != sizeof(Signature)) return InvalidArgument("a vote is one signature");
    if (!crypto::Ed25519Verify(IdOf(member), VoteMessage(sid_, survivor_set_), answer)) {
      return Unauthenticated("the vote is not its member's for the survivors");
    }
    std::copy(answer.begin(), answer.end(), member.vote.begin());
    return OkStatus();
  }

  Status CloseVotes() {
    for (const Member& member : members_) {
      if (member.active && quorum_.votes.size() < row_.quorum) {
        quorum_.votes.emplace_back(member.index, member.vote);
      }
    }
    if (quorum_.votes.size() < row_.quorum) {
      return Aborted("too few committee members voted for the survivors");
    }
    return OkStatus();
  }

  // --- O4 ---------------------------------------------------------------------------------------
  Status HearOpening(Asked& asked, BytesView answer) {
    CHORUS_TRY_ASSIGN(const SumShare said, DecodeSumShare(answer, SumBytes()));
    Member& member = members_[asked.member];
    const Digest message = SumShareMessage(sid_, quorum_.root, member.index, said.elements);
    if (!crypto::Ed25519Verify(IdOf(member), message, said.signature)) {
      return Unauthenticated("the sum share is not signed by its member");
    }
    CHORUS_TRY_ASSIGN(
        member.sum, math::ReadPackedShare(ShareElements(options_.params.committee), said.elements));
    asked.id = IdOf(member);
    asked.said = {message, said.signature};
    return OkStatus();
  }

  AggregatorOptions options_;
  const CommitteeRow& row_;
  Bytes offer_;
  Digest sid0_{};
  Digest sid_{};
  math::RlweRing ring_;
  std::vector<Member> members_;  // ascending by index
  CommitteeList committee_;
  std::vector<Client> clients_;     // in order of arrival, from O2 on ascending by id
  std::set<PublicKey> client_ids_;  // until O2
  // A client that is complained of has to be taken out with its ciphertext, which is gone: so the
  // ciphertexts are folded into several sums, and those without such a client are used. As long as
  // there is a sum for each client, none is lost with another.
  std::vector<math::CiphertextSum> folds_;
  size_t folds_max_ = 1;
  Positions survivors_;  // U, from the end of O2 on
  SurvivorSet survivor_set_;
  Quorum quorum_;
  std::map<PartyId, Asked> asked_;
  Bytes joined_;  // room for an answer that came in pieces
  size_t row_number_ = 0;
  bool asking_ = false;
  bool spent_ = false;
};

}  // namespace

Result<std::unique_ptr<Aggregator>> NewOneShotAggregator(AggregatorOptions options) {
  const CommitteeRow* row = RowOf(options.params.committee);
  if (row == nullptr) return InvalidArgument("the committee is none of the table of committees");
  return std::unique_ptr<Aggregator>(std::make_unique<OneShotAggregator>(std::move(options), *row));
}

}  // namespace chorus::aggregation
