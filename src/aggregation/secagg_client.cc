// The client's side of SecAgg [specification 3.7]. Every check there stands here under the step
// before which it is made.
#include <set>

#include "aggregation/graph.h"
#include "aggregation/secagg.h"
#include "base/codec.h"
#include "base/ensure.h"
#include "base/limits.h"
#include "crypto/crypto.h"

namespace chorus::aggregation {
namespace {

// Each (key, nonce) seals one message: the keys are fresh for every session and direction.
constexpr crypto::Nonce kZeroNonce{};

Status CoordinatorLied(const char* what) {
  return Aborted(std::string("the coordinator broke the protocol: ") + what);
}

// Colluding members can all choose one client; an honest one is never chosen by so many times k
// [specification 3.6].
constexpr size_t kChoosersOverNeighboursMax = 4;

// What a client knows of one other member from R2 on.
struct Neighbour {
  Index index = 0;
  bool holder = false;  // this client chose it, and shares its secrets to it
  bool owner = false;   // it chose this client, and shares its secrets to it
  ChannelKeys channel;
  SecretBytes pair_mask;  // wiped at the upload
};

// What is fixed once the roster is.
struct Membership {
  Digest sid{};
  Index me = 0;
  uint32_t n = 0;
  GraphParams graph;
  SharingGraph mode = SharingGraph::kComplete;
};

// The phases. Each owns what it needs and no more, so leaving one wipes its secrets.
struct AwaitingOffer {};
struct Advertised {
  AcceptedOffer offer;
  SecretBytes c_secret;
  SecretBytes s_secret;
  PublicKey c{};
  PublicKey s{};
};
struct Rostered {  // in a self-selected graph only
  Advertised advertised;
  Membership membership;
  Digest root{};
  std::vector<Index> holders;  // as this client drew them
};
struct Shared {
  SessionParams params;
  Membership membership;
  SecretBytes b;
  std::vector<Neighbour> neighbours;  // ascending by index
};
struct Held {  // shares that this client holds of one owner, and the means to talk about it
  Index owner = 0;
  SecretBytes ack_out;
  SecretBytes ack_in;
  SecretBytes share_s;
  SecretBytes share_b;
};
struct Holder {  // who showed that it is there to hold shares of this client
  Index index = 0;
  SecretBytes ack_in;
};
struct Uploaded {
  Membership membership;
  std::vector<Held> held;       // ascending by owner
  std::vector<Holder> holders;  // ascending
};
using Fates = std::vector<std::pair<size_t, Fate>>;  // place in `held`, and which share to open
struct Acknowledged {
  Membership membership;
  std::vector<Held> held;
  std::vector<Holder> holders;
  Fates fates;
};
struct Ended {
  Status why;  // ok: the session ran to its end
};

class SecAggContributor final : public Contributor {
 public:
  explicit SecAggContributor(ContributorOptions options) : options_(std::move(options)) {}
  ~SecAggContributor() override { math::WipeVector(options_.input); }

  // The transitions:
  //   AwaitingOffer --Offer--> Advertised --RosterAndPeers--> Shared --Deliver--> Uploaded
  //   --Survivors--> Acknowledged --AckSet--> Ended(ok);   any failure --> Ended(why)
  // In a self-selected graph: Advertised --Roster--> Rostered --Peers--> Shared.
  // On the Harary ring:       Uploaded --Survivors--> Ended(ok).
  // With pre-keys the first question may be Offer and the next row's in one, and passes through
  // Advertised: the pre-key record was the Advertise.
  Result<Bytes> Answer(BytesView question) override {
    Result<Bytes> answer = Step(question);
    if (answer.ok()) return answer;
    // No row after the roster's takes a roster, so that one only comes with a failure.
    if (KeepsEquivocation(question)) {
      answer = CoordinatorLied("it signed two rosters of one session");
    }
    phase_ = Ended{answer.status()};
    math::WipeVector(options_.input);
    return answer;
  }

  bool uploaded() const override { return uploaded_; }
  bool done() const override { return std::holds_alternative<Ended>(phase_); }

 private:
  Result<Bytes> Step(BytesView question) {
    if (auto* phase = std::get_if<AwaitingOffer>(&phase_)) return OnOffer(*phase, question);
    if (auto* phase = std::get_if<Advertised>(&phase_)) return OnRoster(*phase, question);
    if (auto* phase = std::get_if<Rostered>(&phase_)) return OnPeers(*phase, question);
    if (auto* phase = std::get_if<Shared>(&phase_)) return OnDeliver(*phase, question);
    if (auto* phase = std::get_if<Uploaded>(&phase_)) return OnSurvivors(*phase, question);
    if (auto* phase = std::get_if<Acknowledged>(&phase_)) return OnAckSet(*phase, question);
    return FailedPrecondition("this session has ended: " + std::get<Ended>(phase_).why.message());
  }

  // R0. Before Advertise: the parameters are the pinned coordinator's and what was agreed to.
  // Pre-keys leave the options here: they serve this session or none.
  Result<Bytes> OnOffer(AwaitingOffer&, BytesView question) {
    std::optional<PreKeys> prekeys = std::exchange(options_.prekeys, std::nullopt);
    if (prekeys.has_value() && question.size() > kOfferBytes) {
      return OnOfferAndRow(*std::move(prekeys), question);
    }
    Advertised next;
    CHORUS_TRY_ASSIGN(next.offer, AcceptOffer(options_, question));
    next.c_secret = crypto::RandomSecret(*options_.rng, crypto::kKeyBytes);
    next.s_secret = crypto::RandomSecret(*options_.rng, crypto::kKeyBytes);
    next.c = crypto::X25519Public(next.c_secret.Reveal());
    next.s = crypto::X25519Public(next.s_secret.Reveal());
    Advertise message;
    message.sid0 = next.offer.sid0;
    message.id = crypto::Ed25519Public(options_.identity_seed);
    message.c = next.c;
    message.s = next.s;
    message.evidence = options_.evidence;
    message.signature = crypto::Ed25519Sign(options_.identity_seed, AdvertiseMessage(message));
    phase_ = std::move(next);
    return Encode(message);
  }

  // R0 and the row after it. The same checks, now before the first answer [specification 3.2].
  Result<Bytes> OnOfferAndRow(PreKeys prekeys, BytesView question) {
    Advertised next;
    CHORUS_TRY_ASSIGN(next.offer, AcceptOffer(options_, question.first(kOfferBytes)));
    // By the device's own clock, which made them: no skew.
    CHORUS_TRY(CheckPreKeyLife(static_cast<uint64_t>(prekeys.not_after), options_.unix_now,
                               std::chrono::seconds(0)));
    next.c_secret = std::move(prekeys.c_secret);
    next.s_secret = std::move(prekeys.s_secret);
    next.c = prekeys.c;
    next.s = prekeys.s;
    return OnRoster(phase_.emplace<Advertised>(std::move(next)), question.subspan(kOfferBytes));
  }

  // R1 or R2, by the graph.
  Result<Bytes> OnRoster(Advertised& now, BytesView question) {
    const SessionParams& params = now.offer.params;
    const auto mode = static_cast<SharingGraph>(params.mode);
    if (mode == SharingGraph::kSelfSelected) return OnRosterOnly(now, question);
    CHORUS_TRY_ASSIGN(RosterAndPeers roster, mode == SharingGraph::kHarary
                                                 ? DecodeRing(question, params.n_max)
                                                 : DecodeRoster(question, params.n_max));
    CHORUS_TRY_ASSIGN(const Membership my, CheckRoster(now, roster));
    if (roster.peers.size() != my.graph.k) {
      return CoordinatorLied("the neighbours are not as many as the graph has");
    }
    Peers peers;
    for (const Peer& peer : roster.peers) peers.out.push_back(peer.index);
    peers.in = peers.out;
    peers.records = std::move(roster.peers);
    return ShareWith(now, my, roster.root, peers);
  }

  // R1. Before Choose: the roster is signed, large enough and holds this client as it advertised
  // itself. Its root is fixed here; who the holders are is this client's own draw.
  Result<Bytes> OnRosterOnly(Advertised& now, BytesView question) {
    CHORUS_TRY_ASSIGN(const Roster roster, DecodeRosterOnly(question, now.offer.params.n_max));
    Rostered next;
    CHORUS_TRY_ASSIGN(next.membership, CheckRoster(now, roster));
    const Membership& my = next.membership;
    next.root = roster.root;
    next.holders = ChooseNeighbours(*options_.rng, my.n, my.me, my.graph.k);
    Choose message;
    message.sid = my.sid;
    message.holders = next.holders;
    message.signature = crypto::Ed25519Sign(options_.identity_seed, ChooseMessage(my.me, message));
    next.advertised = std::move(now);
    phase_ = std::move(next);
    return Encode(message);
  }

  // R2 in a self-selected graph. Before Shares: the holders are those that were drawn.
  Result<Bytes> OnPeers(Rostered& now, BytesView question) {
    const Membership& my = now.membership;
    CHORUS_TRY_ASSIGN(const Peers peers, DecodePeers(question, my.n));
    if (peers.out != now.holders) return CoordinatorLied("the holders are not those chosen");
    if (peers.in.size() > kChoosersOverNeighboursMax * my.graph.k) {
      return CoordinatorLied("more members chose this client than can have done so");
    }
    if (std::binary_search(peers.in.begin(), peers.in.end(), my.me)) {
      return CoordinatorLied("this client is said to have chosen itself");
    }
    return ShareWith(now.advertised, my, now.root, peers);
  }

  // R2. Before Shares: every neighbour is certified, signed its own keys and is in the roster, and
  // nobody is twice.
  Result<Bytes> ShareWith(Advertised& now, const Membership& my, const Digest& root,
                          const Peers& peers) {
    CHORUS_TRY(CheckPeers(now, my, root, peers.records));
    Shared next;
    next.membership = my;
    next.neighbours.reserve(peers.records.size());
    const crypto::X25519Key c_key(now.c_secret.Reveal());
    const crypto::X25519Key s_key(now.s_secret.Reveal());
    for (const Peer& peer : peers.records) {
      Neighbour neighbour;
      neighbour.index = peer.index;
      neighbour.holder = std::binary_search(peers.out.begin(), peers.out.end(), peer.index);
      neighbour.owner = std::binary_search(peers.in.begin(), peers.in.end(), peer.index);
      Result<ChannelKeys> channel =
          DeriveChannel(my.sid, c_key, {my.me, now.c}, {peer.index, peer.c});
      Result<SecretBytes> pair_mask =
          DerivePairMask(my.sid, s_key, {my.me, now.s}, {peer.index, peer.s});
      if (!channel.ok() || !pair_mask.ok()) {
        return CoordinatorLied("a peer's key is a point of low order");
      }
      neighbour.channel = *std::move(channel);
      neighbour.pair_mask = *std::move(pair_mask);
      next.neighbours.push_back(std::move(neighbour));
    }
    next.params = now.offer.params;
    next.b = crypto::RandomSecret(*options_.rng, math::kSharedSecretBytes);
    Bytes answer = DealShares(now.s_secret, next);
    phase_ = std::move(next);
    return answer;
  }

  Result<Membership> CheckRoster(const Advertised& now, const Roster& roster) {
    const SessionParams& params = now.offer.params;
    if (roster.n < params.n_min) return PermissionDenied("the cohort is smaller than agreed");
    const Result<GraphParams> graph = GraphFor(params, roster.n);
    if (!graph.ok()) return PermissionDenied(graph.status().message());
    if (graph->honest < std::max(params.a_min, options_.honest_min)) {
      return PermissionDenied("too few honest clients would hide in the sum of this cohort");
    }
    Membership my;
    my.graph = *graph;
    const Digest message = RosterMessage(now.offer.sid0, roster.n, roster.root);
    if (!crypto::Ed25519Verify(options_.coordinator, message, roster.signature)) {
      return Unauthenticated("the roster is not signed by the pinned coordinator");
    }
    const PublicKey id = crypto::Ed25519Public(options_.identity_seed);
    const Digest leaf = RosterLeaf(now.offer.sid0, id, now.c, now.s);
    if (!crypto::MerkleVerify(leaf, roster.index, roster.n, roster.path, roster.root)) {
      return CoordinatorLied("this client is not in the roster as it advertised itself");
    }
    accepted_ = {now.offer.sid0, {roster.n, roster.root, roster.signature}, {}};
    my.sid = SessionId(now.offer.sid0, roster.n, roster.root);
    my.me = roster.index;
    my.n = roster.n;
    my.mode = static_cast<SharingGraph>(params.mode);
    return my;
  }

  Status CheckPeers(const Advertised& now, const Membership& my, const Digest& root,
                    std::span<const Peer> peers) {
    const Digest& sid0 = now.offer.sid0;
    std::set<PublicKey> ids{crypto::Ed25519Public(options_.identity_seed)};
    std::set<PublicKey> keys{now.c, now.s};
    const Digest own_order = OrderKey(sid0, *ids.begin());
    Digest last_order{};
    for (const Peer& peer : peers) {
      const Digest leaf = RosterLeaf(sid0, peer.id, peer.c, peer.s);
      if (!crypto::MerkleVerify(leaf, peer.index, my.n, peer.path, root)) {
        return CoordinatorLied("a peer's record is not in the roster");
      }
      CHORUS_TRY(CheckSigned(sid0, peer));
      if (!options_.verifier->Verify(peer.id, peer.evidence).ok()) {
        return CoordinatorLied("a peer's identity is not certified");
      }
      if (!ids.insert(peer.id).second) return CoordinatorLied("a peer is in the roster twice");
      if (!crypto::X25519Canonical(peer.c) || !crypto::X25519Canonical(peer.s) ||
          !keys.insert(peer.c).second || !keys.insert(peer.s).second) {
        return CoordinatorLied("a key is in the roster twice");
      }
      const Digest order = OrderKey(sid0, peer.id);
      if (order <= last_order || (order < own_order) != (peer.index < my.me)) {
        return CoordinatorLied("the roster is not in its order");
      }
      last_order = order;
    }
    return NoteKeys(peers);
  }

  // The peer signed its keys, for this session or ahead of any.
  Status CheckSigned(const Digest& sid0, const Peer& peer) const {
    Digest message;
    if (peer.not_after.has_value()) {
      message =
          PreKeyMessage({peer.id, peer.c, peer.s, *peer.not_after, peer.evidence, peer.signature});
      // The coordinator had to check it too, by a clock that may differ from this device's.
      if (!CheckPreKeyLife(*peer.not_after, options_.unix_now, limits::kClockSkewMax).ok()) {
        return CoordinatorLied("a peer's pre-key has expired or lives too long");
      }
    } else {
      message = AdvertiseMessage({sid0, peer.id, peer.c, peer.s, peer.evidence, peer.signature});
    }
    if (!crypto::Ed25519Verify(peer.id, message, peer.signature)) {
      return CoordinatorLied("a peer did not sign the keys shown as its own");
    }
    return OkStatus();
  }

  // Peers' keys are new to this device: those of another session would be replayed ones.
  Status NoteKeys(std::span<const Peer> peers) {
    if (options_.seen_keys == nullptr) return OkStatus();
    for (const Peer& peer : peers) {
      if (options_.seen_keys->Contains(peer.c) || options_.seen_keys->Contains(peer.s)) {
        return CoordinatorLied("a peer's key was used in another session");
      }
    }
    for (const Peer& peer : peers) {
      options_.seen_keys->Note(peer.c);
      options_.seen_keys->Note(peer.s);
    }
    return OkStatus();
  }

  // Shares of s_u and b_u for each holder, sealed to it, and a hello for who is only an owner.
  Bytes DealShares(const SecretBytes& s_secret, Shared& next) {
    const Membership& my = next.membership;
    const math::SharingSpec spec{.threshold = my.graph.t};
    const math::Polynomial poly_s(s_secret.Reveal(), spec, *options_.rng);
    const math::Polynomial poly_b(next.b.Reveal(), spec, *options_.rng);
    Shares message;
    message.commitment = ShareCommitment(my.sid, my.me, next.b.Reveal());
    for (Neighbour& peer : next.neighbours) {
      SecretBytes both(peer.holder ? kSharePairBytes : 0);
      if (peer.holder) {
        const SecretBytes s_part(math::ShareBytes(poly_s.At(peer.index + 1)));
        const SecretBytes b_part(math::ShareBytes(poly_b.At(peer.index + 1)));
        std::copy(s_part.Reveal().begin(), s_part.Reveal().end(), both.RevealMutable().begin());
        std::copy(b_part.Reveal().begin(), b_part.Reveal().end(),
                  both.RevealMutable().begin() + math::kShareBytes);
      }
      const Bytes sealed = crypto::AeadSeal(
          peer.channel.seal.Reveal(), kZeroNonce,
          ShareAssociatedData(my.sid, my.me, peer.index, my.graph, message.commitment),
          both.Reveal());
      peer.channel.seal = SecretBytes();  // it sealed its one message
      if (peer.holder) {
        std::pair<Index, SealedShares>& entry = message.sealed.emplace_back();
        entry.first = peer.index;
        std::copy_n(sealed.begin(), entry.second.size(), entry.second.begin());
      } else {
        std::pair<Index, Hello>& entry = message.hellos.emplace_back();
        entry.first = peer.index;
        std::copy_n(sealed.begin(), entry.second.size(), entry.second.begin());
      }
    }
    message.signature =
        crypto::Ed25519Sign(options_.identity_seed, SharesMessage(my.sid, my.me, message));
    return Encode(message);
  }

  // R3. Before Masked: at least t holders' ciphertexts opened. Masks are applied for everybody
  // named, opened or not, so that an edge is one-sided only if the coordinator lied.
  Result<Bytes> OnDeliver(Shared& now, BytesView question) {
    const Membership& my = now.membership;
    std::vector<Index> hellos;
    for (const Neighbour& peer : now.neighbours) {
      if (!peer.owner) hellos.push_back(peer.index);
    }
    CHORUS_TRY_ASSIGN(const std::vector<Delivery> entries, DecodeDeliver(question, my.n, hellos));
    Uploaded next;
    Masked message;
    std::vector<Mask> masks;
    masks.push_back({DeriveSelfMask(my.sid, now.b.Reveal(), my.me), math::Sign::kAdd});
    auto neighbour = now.neighbours.begin();
    for (const Delivery& entry : entries) {
      while (neighbour != now.neighbours.end() && neighbour->index < entry.from) ++neighbour;
      if (neighbour == now.neighbours.end() || neighbour->index != entry.from) {
        return CoordinatorLied("a delivery names somebody who is no neighbour");
      }
      masks.push_back({std::move(neighbour->pair_mask), PairSign(my.me, entry.from)});
      message.edges.emplace_back(entry.from, EdgeTag(neighbour->channel.ack_out.Reveal(), my.sid));
      if (!Open(my, *neighbour, entry, next)) message.failed.push_back(entry.from);
    }
    if (next.holders.size() < my.graph.t) {
      return Aborted("too few members hold shares with this client to go on");
    }
    ApplyMasks(options_.mask_path, options_.input, masks);
    const uint64_t packed_bytes = math::PackedBytes(now.params.vec_len, now.params.bits);
    message.sid = my.sid;
    Bytes answer = EncodeUnfilled(message, packed_bytes);
    const MaskedParts parts = PartsOf(answer, packed_bytes);
    math::PackInto(options_.input, now.params.bits, parts.packed);
    math::WipeVector(options_.input);
    options_.input = {};
    message.packed = parts.packed;
    message.signature = crypto::Ed25519Sign(options_.identity_seed, MaskedMessage(my.me, message));
    std::copy(message.signature.begin(), message.signature.end(), parts.signature.begin());
    next.membership = my;
    phase_ = std::move(next);
    uploaded_ = true;
    return answer;
  }

  // Opens what `entry.from` sent to this client and keeps what is needed of it; false when it does
  // not open or parse.
  static bool Open(const Membership& my, Neighbour& from, const Delivery& entry, Uploaded& next) {
    const BytesView sealed = entry.hello ? BytesView(*entry.hello) : BytesView(entry.sealed);
    const Result<SecretBytes> opened = crypto::AeadOpen(
        from.channel.open.Reveal(), kZeroNonce,
        ShareAssociatedData(my.sid, entry.from, my.me, my.graph, entry.commitment), sealed);
    if (!opened.ok() || opened->size() != (from.owner ? kSharePairBytes : 0)) return false;
    if (from.owner && !Keep(my, from, *opened, next.held)) return false;
    if (from.holder) next.holders.push_back({from.index, from.channel.ack_in.Clone()});
    return true;
  }

  // Keeps the two shares in `opened`; false when they are none.
  static bool Keep(const Membership& my, Neighbour& from, const SecretBytes& opened,
                   std::vector<Held>& held) {
    const BytesView s_part = opened.Reveal().first(math::kShareBytes);
    const BytesView b_part = opened.Reveal().subspan(math::kShareBytes);
    if (!math::ReadShare(my.me + 1, s_part).ok() || !math::ReadShare(my.me + 1, b_part).ok()) {
      return false;
    }
    Held kept;
    kept.owner = from.index;
    kept.ack_out = from.channel.ack_out.Clone();
    kept.ack_in = from.channel.ack_in.Clone();
    kept.share_s = SecretBytes(Bytes(s_part.begin(), s_part.end()));
    kept.share_b = SecretBytes(Bytes(b_part.begin(), b_part.end()));
    held.push_back(std::move(kept));
    return true;
  }

  // R4. Before Acks: exactly the owners whose shares this client holds, each once; alive only with
  // a true edge tag. The fates are frozen for ever. On the ring this is R5: nobody acknowledges, a
  // client counts its own neighbours that are alive.
  Result<Bytes> OnSurvivors(Uploaded& now, BytesView question) {
    const Membership& my = now.membership;
    CHORUS_TRY_ASSIGN(const std::vector<Survivor> entries, DecodeSurvivors(question, my.n));
    const bool exact = std::equal(
        entries.begin(), entries.end(), now.held.begin(), now.held.end(),
        [](const Survivor& entry, const Held& held) { return entry.owner == held.owner; });
    if (!exact) return CoordinatorLied("the survivors are not the owners whose shares are held");
    Acknowledged next;
    Acks message;
    for (size_t i = 0; i < entries.size(); ++i) {
      const Held& held = now.held[i];
      if (entries[i].fate == Fate::kDropped) {
        next.fates.emplace_back(i, Fate::kDropped);
      } else if (crypto::EqualConstantTime(EdgeTag(held.ack_in.Reveal(), my.sid),
                                           entries[i].edge)) {
        next.fates.emplace_back(i, Fate::kAlive);
        message.acks.emplace_back(held.owner, AckTag(held.ack_out.Reveal(), my.sid));
      } else {
        message.refused.push_back(held.owner);
      }
    }
    if (my.mode == SharingGraph::kHarary) {
      if (message.acks.size() < my.graph.t) return Aborted("too few neighbours are alive");
      return Unmask(my, now.held, next.fates);
    }
    next.membership = my;
    next.held = std::move(now.held);
    next.holders = std::move(now.holders);
    phase_ = std::move(next);
    return Encode(message);
  }

  // R5. Before Unmask: t distinct holders acknowledged this client.
  Result<Bytes> OnAckSet(Acknowledged& now, BytesView question) {
    const Membership& my = now.membership;
    CHORUS_TRY_ASSIGN(const AckSet acks, DecodeAckSet(question, my.n));
    uint32_t valid = 0;
    auto holder = now.holders.begin();
    for (const auto& [index, tag] : acks) {  // both ascend
      while (holder != now.holders.end() && holder->index < index) ++holder;
      if (holder == now.holders.end() || holder->index != index) continue;
      if (crypto::EqualConstantTime(AckTag(holder->ack_in.Reveal(), my.sid), tag)) ++valid;
    }
    if (valid < my.graph.t) return Aborted("too few members acknowledged this client's upload");
    return Unmask(my, now.held, now.fates);
  }

  // One share of each owner whose fate is known, and the end of the session.
  Result<Bytes> Unmask(const Membership& my, std::span<const Held> held_shares,
                       const Fates& fates) {
    std::vector<UnmaskEntry> entries;
    entries.reserve(fates.size());
    for (const auto& [place, fate] : fates) {
      const Held& held = held_shares[place];
      const SecretBytes& share = fate == Fate::kAlive ? held.share_b : held.share_s;
      UnmaskEntry& entry = entries.emplace_back();
      entry.owner = held.owner;
      entry.fate = fate;
      CHORUS_TRY_ASSIGN(entry.share, math::ReadShare(my.me + 1, share.Reveal()));
    }
    Bytes answer = EncodeUnmask(entries);
    phase_ = Ended{OkStatus()};
    return answer;
  }

  // Whether `question` begins with a roster, behind an offer or not, that the coordinator signed
  // for this session and that is another than the one accepted. The proof goes to the options'
  // equivocation.
  bool KeepsEquivocation(BytesView question) {
    if (!accepted_.has_value()) return false;
    for (const size_t start : {size_t{0}, kOfferBytes}) {
      if (question.size() <= start) return false;
      const Result<Roster> other = ReadSignedRoster(question.subspan(start));
      if (!other.ok()) continue;
      const Equivocation::SignedRoster& first = accepted_->first;
      if (other->n == first.n && other->root == first.root) continue;
      const Digest message = RosterMessage(accepted_->sid0, other->n, other->root);
      if (!crypto::Ed25519Verify(options_.coordinator, message, other->signature)) continue;
      if (options_.equivocation != nullptr) {
        *options_.equivocation = {
            accepted_->sid0, first, {other->n, other->root, other->signature}};
      }
      return true;
    }
    return false;
  }

  ContributorOptions options_;
  std::variant<AwaitingOffer, Advertised, Rostered, Shared, Uploaded, Acknowledged, Ended> phase_;
  std::optional<Equivocation> accepted_;  // the roster taken for true, as `first`
  bool uploaded_ = false;
};

}  // namespace

std::unique_ptr<Contributor> NewSecAggContributor(ContributorOptions options) {
  return std::make_unique<SecAggContributor>(std::move(options));
}

}  // namespace chorus::aggregation
