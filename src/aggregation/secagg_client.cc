// The client's side of SecAgg [specification 3.7]. Every check there stands here under the step
// before which it is made.
#include <set>

#include "aggregation/secagg.h"
#include "base/codec.h"
#include "base/ensure.h"
#include "crypto/crypto.h"

namespace chorus::aggregation {
namespace {

// Each (key, nonce) seals one message: the keys are fresh for every session and direction.
constexpr crypto::Nonce kZeroNonce{};

Status CoordinatorLied(const char* what) {
  return Aborted(std::string("the coordinator broke the protocol: ") + what);
}

// What a client knows of one other member from R2 on.
struct Neighbour {
  Index index = 0;
  ChannelKeys channel;
  SecretBytes pair_mask;  // wiped at the upload
};

// What is fixed once the roster is.
struct Membership {
  Digest sid{};
  Index me = 0;
  uint32_t n = 0;
  GraphParams graph;
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
struct Uploaded {
  Membership membership;
  std::vector<Held> held;  // ascending by owner
};
struct Acknowledged {
  Membership membership;
  std::vector<Held> held;
  std::vector<std::pair<size_t, Fate>> fates;  // place in `held`, and which share will be opened
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
  Result<Bytes> Answer(BytesView question) override {
    Result<Bytes> answer = Step(question);
    if (!answer.ok()) {
      phase_ = Ended{answer.status()};
      math::WipeVector(options_.input);
    }
    return answer;
  }

  bool uploaded() const override { return uploaded_; }
  bool done() const override { return std::holds_alternative<Ended>(phase_); }

 private:
  Result<Bytes> Step(BytesView question) {
    if (auto* phase = std::get_if<AwaitingOffer>(&phase_)) return OnOffer(*phase, question);
    if (auto* phase = std::get_if<Advertised>(&phase_)) return OnRoster(*phase, question);
    if (auto* phase = std::get_if<Shared>(&phase_)) return OnDeliver(*phase, question);
    if (auto* phase = std::get_if<Uploaded>(&phase_)) return OnSurvivors(*phase, question);
    if (auto* phase = std::get_if<Acknowledged>(&phase_)) return OnAckSet(*phase, question);
    return FailedPrecondition("this session has ended: " + std::get<Ended>(phase_).why.message());
  }

  // R0. Before Advertise: the parameters are the pinned coordinator's and what was agreed to.
  Result<Bytes> OnOffer(AwaitingOffer&, BytesView question) {
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

  // R2. Before Shares: the roster is signed and holds this client as it advertised itself;
  // everybody in it is certified, signed its own keys, and nobody is in it twice.
  Result<Bytes> OnRoster(Advertised& now, BytesView question) {
    const SessionParams& params = now.offer.params;
    CHORUS_TRY_ASSIGN(const RosterAndPeers roster, DecodeRoster(question, params.n_max));
    Shared next;
    CHORUS_TRY_ASSIGN(next.membership, CheckRoster(now, roster));
    CHORUS_TRY(CheckPeers(now, roster));
    const Membership& my = next.membership;
    for (const Peer& peer : roster.peers) {
      Neighbour neighbour;
      neighbour.index = peer.index;
      Result<ChannelKeys> channel =
          DeriveChannel(my.sid, now.c_secret.Reveal(), {my.me, now.c}, {peer.index, peer.c});
      Result<SecretBytes> pair_mask =
          DerivePairMask(my.sid, now.s_secret.Reveal(), {my.me, now.s}, {peer.index, peer.s});
      if (!channel.ok() || !pair_mask.ok()) {
        return CoordinatorLied("a peer's key is a point of low order");
      }
      neighbour.channel = *std::move(channel);
      neighbour.pair_mask = *std::move(pair_mask);
      next.neighbours.push_back(std::move(neighbour));
    }
    next.params = params;
    next.b = crypto::RandomSecret(*options_.rng, math::kSharedSecretBytes);
    Bytes answer = DealShares(now.s_secret, next);
    phase_ = std::move(next);
    return answer;
  }

  Result<Membership> CheckRoster(const Advertised& now, const RosterAndPeers& roster) {
    const SessionParams& params = now.offer.params;
    if (roster.n < params.n_min) return PermissionDenied("the cohort is smaller than agreed");
    const Result<GraphParams> graph = CompleteGraph(roster.n, params.gamma_ppm, params.delta_ppm);
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
    my.sid = SessionId(now.offer.sid0, roster.n, roster.root);
    my.me = roster.index;
    my.n = roster.n;
    return my;
  }

  Status CheckPeers(const Advertised& now, const RosterAndPeers& roster) {
    const Digest& sid0 = now.offer.sid0;
    std::set<PublicKey> ids{crypto::Ed25519Public(options_.identity_seed)};
    std::set<PublicKey> keys{now.c, now.s};
    const Digest own_order = OrderKey(sid0, *ids.begin());
    Digest last_order{};
    for (const Peer& peer : roster.peers) {
      const Digest leaf = RosterLeaf(sid0, peer.id, peer.c, peer.s);
      if (!crypto::MerkleVerify(leaf, peer.index, roster.n, peer.path, roster.root)) {
        return CoordinatorLied("a peer's record is not in the roster");
      }
      const Advertise said{sid0, peer.id, peer.c, peer.s, peer.evidence, peer.signature};
      if (!crypto::Ed25519Verify(peer.id, AdvertiseMessage(said), peer.signature)) {
        return CoordinatorLied("a peer did not sign the keys shown as its own");
      }
      if (!options_.verifier->Verify(peer.id, peer.evidence).ok()) {
        return CoordinatorLied("a peer's identity is not certified");
      }
      if (!ids.insert(peer.id).second) return CoordinatorLied("a peer is in the roster twice");
      if (!crypto::X25519Canonical(peer.c) || !crypto::X25519Canonical(peer.s) ||
          !keys.insert(peer.c).second || !keys.insert(peer.s).second) {
        return CoordinatorLied("a key is in the roster twice");
      }
      const Digest order = OrderKey(sid0, peer.id);
      if (order <= last_order || (order < own_order) != (peer.index < roster.index)) {
        return CoordinatorLied("the roster is not in its order");
      }
      last_order = order;
    }
    return OkStatus();
  }

  // Shares of s_u and b_u for each peer, sealed to it.
  Bytes DealShares(const SecretBytes& s_secret, Shared& next) {
    const Membership& my = next.membership;
    const math::SharingSpec spec{.threshold = my.graph.t};
    const math::Polynomial poly_s(s_secret.Reveal(), spec, *options_.rng);
    const math::Polynomial poly_b(next.b.Reveal(), spec, *options_.rng);
    Shares message;
    message.commitment = ShareCommitment(my.sid, my.me, next.b.Reveal());
    for (Neighbour& peer : next.neighbours) {
      const SecretBytes s_part(math::ShareBytes(poly_s.At(peer.index + 1)));
      const SecretBytes b_part(math::ShareBytes(poly_b.At(peer.index + 1)));
      SecretBytes both(kSharePairBytes);
      std::copy(s_part.Reveal().begin(), s_part.Reveal().end(), both.RevealMutable().begin());
      std::copy(b_part.Reveal().begin(), b_part.Reveal().end(),
                both.RevealMutable().begin() + math::kShareBytes);
      const Bytes sealed = crypto::AeadSeal(
          peer.channel.seal.Reveal(), kZeroNonce,
          ShareAssociatedData(my.sid, my.me, peer.index, my.graph, message.commitment),
          both.Reveal());
      peer.channel.seal = SecretBytes();  // it sealed its one message
      std::pair<Index, SealedShares>& entry = message.sealed.emplace_back();
      entry.first = peer.index;
      std::copy_n(sealed.begin(), entry.second.size(), entry.second.begin());
    }
    message.signature =
        crypto::Ed25519Sign(options_.identity_seed, SharesMessage(my.sid, my.me, message));
    return Encode(message);
  }

  // R3. Before Masked: at least t peers' shares opened. Masks are applied for everybody named,
  // opened or not, so that an edge is one-sided only if the coordinator lied.
  Result<Bytes> OnDeliver(Shared& now, BytesView question) {
    const Membership& my = now.membership;
    CHORUS_TRY_ASSIGN(const std::vector<Delivery> entries, DecodeDeliver(question, my.n));
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
      if (!Open(my, *neighbour, entry, next.held)) message.failed.push_back(entry.from);
    }
    if (next.held.size() < my.graph.t) {
      return Aborted("too few members hold shares with this client to go on");
    }
    ApplyMasks(options_.input, masks);
    const Bytes packed = math::Pack(options_.input, now.params.bits);
    math::WipeVector(options_.input);
    message.sid = my.sid;
    message.packed = packed;
    message.signature = crypto::Ed25519Sign(options_.identity_seed, MaskedMessage(my.me, message));
    next.membership = my;
    phase_ = std::move(next);
    uploaded_ = true;
    return Encode(message);
  }

  // Opens what `entry.from` dealt to this client and keeps it; false when it does not open or
  // parse.
  static bool Open(const Membership& my, Neighbour& from, const Delivery& entry,
                   std::vector<Held>& held) {
    const Result<SecretBytes> opened = crypto::AeadOpen(
        from.channel.open.Reveal(), kZeroNonce,
        ShareAssociatedData(my.sid, entry.from, my.me, my.graph, entry.commitment), entry.sealed);
    if (!opened.ok() || opened->size() != kSharePairBytes) return false;
    const BytesView s_part = opened->Reveal().first(math::kShareBytes);
    const BytesView b_part = opened->Reveal().subspan(math::kShareBytes);
    if (!math::ReadShare(my.me + 1, s_part).ok() || !math::ReadShare(my.me + 1, b_part).ok()) {
      return false;
    }
    Held kept;
    kept.owner = entry.from;
    kept.ack_out = std::move(from.channel.ack_out);
    kept.ack_in = std::move(from.channel.ack_in);
    kept.share_s = SecretBytes(Bytes(s_part.begin(), s_part.end()));
    kept.share_b = SecretBytes(Bytes(b_part.begin(), b_part.end()));
    held.push_back(std::move(kept));
    return true;
  }

  // R4. Before Acks: exactly the owners whose shares this client holds, each once; alive only with
  // a true edge tag. The fates are frozen for ever.
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
    next.membership = my;
    next.held = std::move(now.held);
    phase_ = std::move(next);
    return Encode(message);
  }

  // R5. Before Unmask: t distinct holders acknowledged this client. Then one share an owner, once.
  Result<Bytes> OnAckSet(Acknowledged& now, BytesView question) {
    const Membership& my = now.membership;
    CHORUS_TRY_ASSIGN(const AckSet acks, DecodeAckSet(question, my.n));
    uint32_t valid = 0;
    for (const auto& [holder, tag] : acks) {
      const Index sought = holder;
      const auto held =
          std::find_if(now.held.begin(), now.held.end(),
                       [sought](const Held& candidate) { return candidate.owner == sought; });
      if (held == now.held.end()) continue;
      if (crypto::EqualConstantTime(AckTag(held->ack_in.Reveal(), my.sid), tag)) ++valid;
    }
    if (valid < my.graph.t) return Aborted("too few members acknowledged this client's upload");
    std::vector<UnmaskEntry> entries;
    entries.reserve(now.fates.size());
    for (const auto& [place, fate] : now.fates) {
      const Held& held = now.held[place];
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

  ContributorOptions options_;
  std::variant<AwaitingOffer, Advertised, Shared, Uploaded, Acknowledged, Ended> phase_;
  bool uploaded_ = false;
};

}  // namespace

std::unique_ptr<Contributor> NewSecAggContributor(ContributorOptions options) {
  return std::make_unique<SecAggContributor>(std::move(options));
}

}  // namespace chorus::aggregation
