// The coordinator's side of SecAgg [specification 3.8]. Parties become roster indices when the
// roster freezes; uploads are folded into one accumulator as they arrive and never taken out again.
#include <map>
#include <set>

#include "aggregation/secagg.h"
#include "base/codec.h"
#include "base/ensure.h"
#include "base/limits.h"
#include "crypto/crypto.h"

namespace chorus::aggregation {
namespace {

constexpr uint64_t kAdvertiseBytesMax = 32 + 3 * 32 + 2 + limits::kEvidenceBytesMax + 64;

enum class Row : uint8_t { kKeys, kShares, kInput, kAcks, kUnmask, kDone, kSpent };

// One roster member and how far it came.
struct Member {
  PartyId party = 0;
  Advertise said;
  bool dealt = false;     // in U2: its shares are complete
  bool uploaded = false;  // in U3: its input is in the sum
  bool acked = false;     // answered R4
  bool opened = false;    // answered R5
  Shares shares;
  std::set<Index> failed;              // owners whose shares it could not open
  std::map<Index, Tag> edges;          // its edge tag to each neighbour
  std::map<Index, Tag> acks;           // to each owner that it accepted as alive
  std::map<Index, math::Share> given;  // R5: its share of each owner's b (alive) or s (dropped)
};

class SecAggAggregator final : public Aggregator {
 public:
  explicit SecAggAggregator(AggregatorOptions options)
      : params_(options.params),
        verifier_(*options.verifier),
        signing_seed_(options.signing_seed),
        parties_(std::move(options.parties)) {
    const Bytes bytes = EncodeParams(params_);
    sid0_ = crypto::LabeledHash("CHORUS1/sid0", {bytes});
    offer_ = MakeOffer(params_, signing_seed_);
  }

  // The rows, each Ask -> Hear* -> Close:
  //   kKeys    --roster frozen-->     kShares
  //   kShares  --drop rule-->         kInput
  //   kInput   --enough holders-->    kAcks
  //   kAcks    --enough holders-->    kUnmask
  //   kUnmask  --enough shares-->     kDone
  //   kDone    --Finish-->            kSpent;   a failed Close or Finish --> kSpent
  Result<std::vector<Question>> Ask() override {
    if (asking_ || row_ == Row::kDone || row_ == Row::kSpent) {
      return FailedPrecondition("this sum has nothing to ask now");
    }
    asking_ = true;
    switch (row_) {
      case Row::kKeys:
        return AskKeys();
      case Row::kShares:
        return AskShares();
      case Row::kInput:
        return AskInput();
      case Row::kAcks:
        return AskAcks();
      default:
        return AskUnmask();
    }
  }

  Status Hear(PartyId from, BytesView answer) override {
    const auto found = asked_.find(from);
    if (!asking_ || found == asked_.end()) {
      return NotFound("this party was not asked in this step");
    }
    if (found->second.heard) return AlreadyExists("this party's answer was heard before");
    CHORUS_TRY(HearIn(row_, from, found->second.index, answer));
    found->second.heard = true;
    return OkStatus();
  }

  Status Close() override {
    if (!asking_) return FailedPrecondition("nothing was asked");
    asking_ = false;
    const Status closed = CloseIn(row_);
    row_ = closed.ok() ? static_cast<Row>(static_cast<uint8_t>(row_) + 1) : Row::kSpent;
    return closed;
  }

  bool done() const override { return row_ == Row::kDone; }

  Result<Sum> Finish() override {
    if (row_ != Row::kDone) return FailedPrecondition("there is no sum to open");
    row_ = Row::kSpent;
    CHORUS_TRY_ASSIGN(std::vector<Mask> masks, OpenMasks());
    for (Member& member : members_) member.given.clear();
    ApplyMasks(sum_, masks);
    math::ReduceBits(sum_, params_.bits);
    Sum sum{std::move(sum_), Count(&Member::uploaded)};
    CHORUS_TRY(CheckSumRange(params_, sum));
    return sum;
  }

 private:
  struct Asked {
    Index index = 0;
    bool heard = false;
  };

  Status HearIn(Row row, PartyId from, Index index, BytesView answer) {
    switch (row) {
      case Row::kKeys:
        return HearKeys(from, answer);
      case Row::kShares:
        return HearShares(index, answer);
      case Row::kInput:
        return HearInput(index, answer);
      case Row::kAcks:
        return HearAcks(index, answer);
      default:
        return HearUnmask(index, answer);
    }
  }

  Status CloseIn(Row row) {
    switch (row) {
      case Row::kKeys:
        return CloseKeys();
      case Row::kShares:
        return CloseShares();
      case Row::kInput:
        return CloseInput();
      case Row::kAcks:
        return CloseAcks();
      default:
        return CloseUnmask();
    }
  }

  uint32_t Count(bool Member::*state) const {
    return static_cast<uint32_t>(std::count_if(
        members_.begin(), members_.end(), [state](const Member& member) { return member.*state; }));
  }

  // Members that stand in `state`, ascending.
  std::vector<Index> In(bool Member::*state) const {
    std::vector<Index> indices;
    for (Index v = 0; v < members_.size(); ++v) {
      if (members_[v].*state) indices.push_back(v);
    }
    return indices;
  }

  // Registers a question to each member of `to`.
  template <typename Body>
  std::vector<Question> AskEach(const std::vector<Index>& to, uint64_t answer_bytes_max,
                                Body body) {
    asked_.clear();
    std::vector<Question> questions;
    for (const Index u : to) {
      asked_[members_[u].party] = {u, false};
      questions.push_back({members_[u].party, body(u), answer_bytes_max});
    }
    return questions;
  }

  // --- R0 ---------------------------------------------------------------------------------------
  std::vector<Question> AskKeys() {
    std::vector<Question> questions;
    for (const PartyId party : parties_) {
      asked_[party] = {};
      questions.push_back({party, offer_, kAdvertiseBytesMax});
    }
    return questions;
  }

  Status HearKeys(PartyId from, BytesView answer) {
    CHORUS_TRY_ASSIGN(Advertise said, DecodeAdvertise(answer));
    if (said.sid0 != sid0_) return InvalidArgument("the advertisement is of another session");
    if (!crypto::Ed25519Verify(said.id, AdvertiseMessage(said), said.signature)) {
      return Unauthenticated("the advertisement is not signed by the identity it names");
    }
    if (ids_.contains(said.id)) return InvalidArgument("this identity is in the session already");
    if (said.c == said.s || keys_.contains(said.c) || keys_.contains(said.s)) {
      return InvalidArgument("a session key is used twice");
    }
    if (!crypto::X25519Canonical(said.c) || !crypto::X25519Canonical(said.s)) {
      return InvalidArgument("a session key is not in its one encoding");
    }
    // A clamped scalar times a low-order point is always zero, so any one agreement tells.
    if (!crypto::X25519Agree(sid0_, said.c).ok() || !crypto::X25519Agree(sid0_, said.s).ok()) {
      return InvalidArgument("a session key is a point of low order");
    }
    CHORUS_TRY(verifier_.Verify(said.id, said.evidence));
    ids_.insert(said.id);
    keys_.insert(said.c);
    keys_.insert(said.s);
    Member member;
    member.party = from;
    member.said = std::move(said);
    members_.push_back(std::move(member));
    return OkStatus();
  }

  // Freezes the roster: indices by ascending order key, one Merkle root over all keys, the session
  // id.
  Status CloseKeys() {
    const auto n = static_cast<uint32_t>(members_.size());
    if (n < params_.n_min) return Aborted("too few clients advertised keys");
    Result<GraphParams> graph = CompleteGraph(n, params_.gamma_ppm, params_.delta_ppm);
    if (!graph.ok()) return Aborted(graph.status().message());
    graph_ = *graph;
    if (graph_.honest < params_.a_min) return Aborted("the cohort hides too few honest clients");
    std::sort(members_.begin(), members_.end(), [this](const Member& a, const Member& b) {
      return OrderKey(sid0_, a.said.id) < OrderKey(sid0_, b.said.id);
    });
    std::vector<Digest> leaves;
    for (const Member& member : members_) {
      leaves.push_back(RosterLeaf(sid0_, member.said.id, member.said.c, member.said.s));
    }
    root_ = crypto::MerkleRoot(leaves);
    paths_ = crypto::MerklePaths(leaves);
    sid_ = SessionId(sid0_, n, root_);
    return OkStatus();
  }

  // --- R2 ---------------------------------------------------------------------------------------
  std::vector<Question> AskShares() {
    const auto n = static_cast<uint32_t>(members_.size());
    std::vector<Bytes> records;
    std::vector<Index> everybody;
    for (Index v = 0; v < n; ++v) {
      const Advertise& said = members_[v].said;
      records.push_back(
          EncodePeer({v, said.id, said.c, said.s, said.evidence, said.signature, paths_[v]}));
      everybody.push_back(v);
    }
    RosterAndPeers roster;
    roster.n = n;
    roster.root = root_;
    roster.signature = crypto::Ed25519Sign(signing_seed_, RosterMessage(sid0_, n, root_));
    const uint64_t answer = 32 + 4 + uint64_t{n - 1} * (4 + kSealedSharesBytes) + 4 + 64;
    return AskEach(everybody, answer, [&](Index u) {
      roster.index = u;
      roster.path = paths_[u];
      return EncodeRoster(roster, records);
    });
  }

  Status HearShares(Index sender, BytesView answer) {
    const auto n = static_cast<uint32_t>(members_.size());
    CHORUS_TRY_ASSIGN(Shares shares, DecodeShares(answer, n));
    // Strictly ascending, below n, n - 1 of them and not the sender itself: everybody else.
    const bool itself = std::any_of(shares.sealed.begin(), shares.sealed.end(),
                                    [sender](const auto& entry) { return entry.first == sender; });
    if (shares.sealed.size() != n - 1 || itself) {
      return InvalidArgument("shares must be dealt to everybody else in the roster");
    }
    Member& member = members_[sender];
    if (!crypto::Ed25519Verify(member.said.id, SharesMessage(sid_, sender, shares),
                               shares.signature)) {
      return Unauthenticated("the shares are not signed by their sender");
    }
    member.shares = std::move(shares);
    member.dealt = true;
    return OkStatus();
  }

  // U2, and the drop rule: who has fewer than t holders left is out, until nobody is. In a complete
  // graph everybody holds everybody's shares, so all fall together.
  Status CloseShares() {
    const uint32_t dealt = Count(&Member::dealt);
    if (dealt < params_.n_min || dealt - 1 < graph_.t) {
      return Aborted("too few clients dealt shares");
    }
    sum_ = math::ZeroVector(params_.vec_len, params_.bits);
    return OkStatus();
  }

  // --- R3 ---------------------------------------------------------------------------------------
  std::vector<Question> AskInput() {
    const std::vector<Index> dealt = In(&Member::dealt);
    const uint64_t answer = MaskedBytesMax(static_cast<uint32_t>(dealt.size()) - 1,
                                           math::PackedBytes(params_.vec_len, params_.bits));
    return AskEach(dealt, answer, [&](Index u) {
      std::vector<Delivery> entries;
      for (const Index v : dealt) {
        if (v == u) continue;
        const size_t place = u < v ? u : u - 1;  // in v's list, which leaves v itself out
        entries.push_back(
            {v, members_[v].shares.commitment, members_[v].shares.sealed[place].second});
      }
      return EncodeDeliver(entries);
    });
  }

  Status HearInput(Index sender, BytesView answer) {
    const auto n = static_cast<uint32_t>(members_.size());
    CHORUS_TRY_ASSIGN(const Masked masked,
                      DecodeMasked(answer, n, math::PackedBytes(params_.vec_len, params_.bits)));
    if (masked.sid != sid_) return InvalidArgument("the masked input is of another session");
    std::vector<Index> neighbours = In(&Member::dealt);
    std::erase(neighbours, sender);
    const bool tagged_all =
        std::equal(masked.edges.begin(), masked.edges.end(), neighbours.begin(), neighbours.end(),
                   [](const auto& edge, Index neighbour) { return edge.first == neighbour; });
    if (!tagged_all) return InvalidArgument("an edge tag is due to each neighbour and nobody else");
    if (!std::includes(neighbours.begin(), neighbours.end(), masked.failed.begin(),
                       masked.failed.end())) {
      return InvalidArgument("the failed list names somebody who is no neighbour");
    }
    Member& member = members_[sender];
    if (!crypto::Ed25519Verify(member.said.id, MaskedMessage(sender, masked), masked.signature)) {
      return Unauthenticated("the masked input is not signed by its sender");
    }
    CHORUS_TRY(math::AddPacked(sum_, masked.packed, params_.bits));
    member.failed.insert(masked.failed.begin(), masked.failed.end());
    member.edges.insert(masked.edges.begin(), masked.edges.end());
    member.uploaded = true;
    return OkStatus();
  }

  Status CloseInput() {
    if (Count(&Member::uploaded) < params_.n_min) return Aborted("too few clients uploaded");
    return EachOwnerHasHolders([this](Index holder, Index owner) {
      return members_[holder].uploaded && !members_[holder].failed.contains(owner);
    });
  }

  // kAborted unless for each owner of U2 at least t others satisfy `holds`.
  template <typename Holds>
  Status EachOwnerHasHolders(Holds holds) {
    for (const Index owner : In(&Member::dealt)) {
      uint32_t holders = 0;
      for (Index w = 0; w < members_.size(); ++w) holders += w != owner && holds(w, owner) ? 1 : 0;
      if (holders < graph_.t) return Aborted("a member has too few holders of its shares left");
    }
    return OkStatus();
  }

  // --- R4 ---------------------------------------------------------------------------------------
  // Owners whose shares `holder` holds, ascending.
  std::vector<Index> OwnersOf(Index holder) const {
    std::vector<Index> owners = In(&Member::dealt);
    std::erase_if(owners, [&](Index owner) {
      return owner == holder || members_[holder].failed.contains(owner);
    });
    return owners;
  }

  std::vector<Question> AskAcks() {
    const auto n = static_cast<uint64_t>(members_.size());
    return AskEach(In(&Member::uploaded), 8 + n * (4 + sizeof(Tag)), [&](Index holder) {
      std::vector<Survivor> entries;
      for (const Index owner : OwnersOf(holder)) {
        Survivor entry;
        entry.owner = owner;
        entry.fate = members_[owner].uploaded ? Fate::kAlive : Fate::kDropped;
        if (members_[owner].uploaded) entry.edge = members_[owner].edges.at(holder);
        entries.push_back(entry);
      }
      return EncodeSurvivors(entries);
    });
  }

  Status HearAcks(Index holder, BytesView answer) {
    CHORUS_TRY_ASSIGN(const Acks acks, DecodeAcks(answer, static_cast<uint32_t>(members_.size())));
    std::vector<Index> judged = acks.refused;
    for (const auto& [owner, tag] : acks.acks) judged.push_back(owner);
    std::sort(judged.begin(), judged.end());
    std::vector<Index> alive = OwnersOf(holder);
    std::erase_if(alive, [this](Index owner) { return !members_[owner].uploaded; });
    if (judged != alive) {
      return InvalidArgument("each owner said to be alive is acknowledged or refused, once");
    }
    members_[holder].acks.insert(acks.acks.begin(), acks.acks.end());
    members_[holder].acked = true;
    return OkStatus();
  }

  // Whether `holder` will open a share of `owner`.
  bool Opens(Index holder, Index owner) const {
    const Member& member = members_[holder];
    if (!member.acked || member.failed.contains(owner)) return false;
    return !members_[owner].uploaded || member.acks.contains(owner);
  }

  Status CloseAcks() {
    return EachOwnerHasHolders([this](Index holder, Index owner) { return Opens(holder, owner); });
  }

  // --- R5 ---------------------------------------------------------------------------------------
  std::vector<Question> AskUnmask() {
    const std::vector<Index> acked = In(&Member::acked);
    const auto n = static_cast<uint64_t>(members_.size());
    return AskEach(acked, 4 + n * (4 + 1 + math::kShareBytes), [&](Index u) {
      AckSet entries;
      for (const Index holder : acked) {
        const auto ack = members_[holder].acks.find(u);
        if (ack != members_[holder].acks.end()) entries.emplace_back(holder, ack->second);
      }
      return EncodeAckSet(entries);
    });
  }

  Status HearUnmask(Index holder, BytesView answer) {
    CHORUS_TRY_ASSIGN(const std::vector<UnmaskEntry> entries,
                      DecodeUnmask(answer, static_cast<uint32_t>(members_.size()), holder + 1));
    std::vector<Index> due = OwnersOf(holder);
    std::erase_if(due, [&](Index owner) { return !Opens(holder, owner); });
    const bool exact = std::equal(entries.begin(), entries.end(), due.begin(), due.end(),
                                  [this](const UnmaskEntry& entry, Index owner) {
                                    return entry.owner == owner &&
                                           (entry.fate == Fate::kAlive) == members_[owner].uploaded;
                                  });
    if (!exact) return InvalidArgument("one share is due of each owner, of the kind asked for");
    Member& member = members_[holder];
    for (const UnmaskEntry& entry : entries) member.given[entry.owner] = entry.share;
    member.opened = true;
    return OkStatus();
  }

  Status CloseUnmask() {
    return EachOwnerHasHolders([this](Index holder, Index owner) {
      return members_[holder].opened && members_[holder].given.contains(owner);
    });
  }

  // --- opening
  // ------------------------------------------------------------------------------------ The secret
  // of `owner` from the first t of those who gave a share: b if it uploaded, else s.
  Result<SecretBytes> OpenOwner(Index owner) {
    std::vector<math::Share> shares;
    shares.reserve(graph_.t);
    std::vector<uint32_t> xs;
    for (Index holder = 0; holder < members_.size() && shares.size() < graph_.t; ++holder) {
      const auto given = members_[holder].given.find(owner);
      if (given == members_[holder].given.end()) continue;
      shares.push_back(given->second);
      xs.push_back(holder + 1);
    }
    CHORUS_ENSURE(shares.size() == graph_.t);
    auto lagrange = lagrange_.find(xs);
    if (lagrange == lagrange_.end()) {
      lagrange = lagrange_.emplace(xs, math::LagrangeAtZero(xs)).first;
    }
    return math::OpenSecret(shares, lagrange->second);
  }

  // Checks an opened secret against what its owner committed to.
  Status CheckOpened(Index owner, const SecretBytes& secret) const {
    const Member& member = members_[owner];
    const bool right =
        member.uploaded ? ShareCommitment(sid_, owner, secret.Reveal()) == member.shares.commitment
                        : crypto::X25519Public(secret.Reveal()) == member.said.s;
    if (right) return OkStatus();
    return Aborted("shares of a member do not open to what it committed to");
  }

  // Every mask that is left in the sum, with the sign that takes it out: the self masks of U3, and
  // the pair masks between U3 and whoever dropped out after dealing shares.
  Result<std::vector<Mask>> OpenMasks() {
    std::vector<Mask> masks;
    for (const Index owner : In(&Member::dealt)) {
      Result<SecretBytes> secret = OpenOwner(owner);
      if (secret.status().code() == Code::kDataLoss) return Aborted(secret.status().message());
      if (!secret.ok()) return secret.status();
      CHORUS_TRY(CheckOpened(owner, *secret));
      const Member& member = members_[owner];
      if (member.uploaded) {
        masks.push_back({DeriveSelfMask(sid_, secret->Reveal(), owner), math::Sign::kSubtract});
        continue;
      }
      for (const Index u : In(&Member::uploaded)) {
        CHORUS_TRY_ASSIGN(SecretBytes key,
                          DerivePairMask(sid_, secret->Reveal(), {owner, member.said.s},
                                         {u, members_[u].said.s}));
        // u added it with PairSign(u, owner); the owner's own sign is the opposite one.
        masks.push_back({std::move(key), PairSign(owner, u)});
      }
    }
    return masks;
  }

  SessionParams params_;
  const IdentityVerifier& verifier_;
  BytesView signing_seed_;
  std::vector<PartyId> parties_;
  Bytes offer_;
  Digest sid0_{};
  Digest sid_{};
  Digest root_{};
  std::vector<std::vector<Digest>> paths_;
  GraphParams graph_;
  std::set<PublicKey> ids_;
  std::set<PublicKey> keys_;
  std::vector<Member> members_;  // from R0's close on, by roster index
  std::map<PartyId, Asked> asked_;
  std::map<std::vector<uint32_t>, std::vector<uint64_t>> lagrange_;
  RingVector sum_;
  Row row_ = Row::kKeys;
  bool asking_ = false;
};

}  // namespace

Result<std::unique_ptr<Aggregator>> NewSecAggAggregator(AggregatorOptions options) {
  return std::unique_ptr<Aggregator>(std::make_unique<SecAggAggregator>(std::move(options)));
}

}  // namespace chorus::aggregation
