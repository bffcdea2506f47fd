#include "aggregation/secagg_server.h"
#include "base/ensure.h"
#include "crypto/crypto.h"

namespace chorus::aggregation {
namespace {

// Opens the secrets of owners one after the other. Owners whose shares come from the same holders,
// as in a complete graph, use one set of Lagrange coefficients.
class Opening {
 public:
  explicit Opening(ServerState& state) : state_(state) {}

  // b of an owner that uploaded, else its s; what it committed to, or kAborted.
  Result<SecretBytes> Open(Index owner) {
    std::vector<math::Share> shares;
    shares.reserve(state_.neighbours[owner].out.size());
    for (const Index holder : state_.neighbours[owner].out) {
      const math::Share* given = FindEntry(state_.members[holder].given, owner);
      if (given != nullptr) shares.push_back(*given);
    }
    const uint32_t t = state_.graph.t;
    CHORUS_ENSURE(shares.size() >= t);
    Result<SecretBytes> secret = OpenFirst(std::span(shares).first(t));
    if (secret.ok() && IsRight(owner, *secret)) return secret;
    if (!secret.ok() && secret.status().code() != Code::kDataLoss) return secret.status();
    return Correct(owner, shares);
  }

 private:
  Result<SecretBytes> OpenFirst(std::span<const math::Share> shares) {
    std::vector<uint32_t> xs;
    for (const math::Share& share : shares) xs.push_back(share.x);
    if (xs != lagrange_xs_) {
      lagrange_ = math::LagrangeAtZero(xs);
      lagrange_xs_ = std::move(xs);
    }
    return math::OpenSecret(shares, lagrange_);
  }

  // Some share is wrong: the surplus ones tell which, unless the owner dealt them so.
  Result<SecretBytes> Correct(Index owner, std::span<const math::Share> shares) {
    Result<math::DecodedSecret> decoded = math::DecodeSecret(shares, {.threshold = state_.graph.t});
    if (!decoded.ok() || !IsRight(owner, decoded->secret)) {
      state_.Note(owner, Blame::Cause::kInconsistentShares);
      return Aborted("shares of a member do not open to what it committed to");
    }
    for (const uint32_t x : decoded->wrong) state_.Note(x - 1, Blame::Cause::kWrongShare);
    return std::move(decoded->secret);
  }

  bool IsRight(Index owner, const SecretBytes& secret) const {
    const Member& member = state_.members[owner];
    return member.uploaded
               ? ShareCommitment(state_.sid, owner, secret.Reveal()) == member.commitment
               : crypto::X25519Public(secret.Reveal()) == member.said.s;
  }

  ServerState& state_;
  std::vector<uint32_t> lagrange_xs_;
  std::vector<uint64_t> lagrange_;
};

}  // namespace

uint32_t ServerState::Count(bool Member::*state) const {
  return static_cast<uint32_t>(std::count_if(
      members.begin(), members.end(), [state](const Member& member) { return member.*state; }));
}

std::vector<Index> ServerState::In(bool Member::*state) const {
  std::vector<Index> indices;
  for (Index v = 0; v < members.size(); ++v) {
    if (members[v].*state) indices.push_back(v);
  }
  return indices;
}

std::vector<Index> ServerState::MaskedWith(Index u) const {
  std::vector<Index> all = neighbours[u].All();
  std::erase_if(all, [this](Index v) { return !members[v].dealt; });
  return all;
}

std::vector<Index> ServerState::OwnersOf(Index holder) const {
  std::vector<Index> owners = neighbours[holder].in;
  std::erase_if(owners, [&](Index owner) {
    return !members[owner].dealt || Contains(members[holder].failed, owner);
  });
  return owners;
}

bool ServerState::Opens(Index holder, Index owner) const {
  const Member& member = members[holder];
  return member.acked && !Contains(member.failed, owner) && !Contains(member.refused, owner);
}

void ServerState::Note(Index member, Blame::Cause cause, Blame::Statement first,
                       Blame::Statement second) {
  Member& blamed = members[member];
  const auto bit = static_cast<uint8_t>(1U << static_cast<unsigned>(cause));
  if (blame == nullptr || (blamed.blamed & bit) != 0) return;
  blamed.blamed |= bit;
  blame->push_back({blamed.party, cause, blamed.said.id, first, second});
}

Blame::Statement StatementIn(const ServerState& state, Step step, Index sender, BytesView answer) {
  const uint32_t n = state.n();
  if (step == Step::kKeys) {
    const Result<Advertise> said = DecodeAdvertise(answer);
    if (said.ok() && said->sid0 == state.sid0) {
      return {AdvertiseMessage(*said), said->signature};
    }
  } else if (step == Step::kNeighbours) {
    const Result<Choose> choice = DecodeChoose(answer, n);
    if (choice.ok() && choice->sid == state.sid) {
      return {ChooseMessage(sender, *choice), choice->signature};
    }
  } else if (step == Step::kShares) {
    const Result<Shares> shares = DecodeShares(answer, n);
    if (shares.ok()) return {SharesMessage(state.sid, sender, *shares), shares->signature};
  } else if (step == Step::kInput) {
    const Result<Masked> masked = DecodeMasked(answer, n, state.PackedBytes());
    if (masked.ok() && masked->sid == state.sid) {
      return {MaskedMessage(sender, *masked), masked->signature};
    }
  }
  return {};
}

void NoteUnusableShares(ServerState& state) {
  for (const Index owner : state.In(&Member::dealt)) {
    std::vector<Index> deniers;
    for (const Index holder : state.neighbours[owner].out) {
      const Member& member = state.members[holder];
      if (Contains(member.failed, owner) || Contains(member.refused, owner)) {
        deniers.push_back(holder);
      }
    }
    if (deniers.size() <= state.graph.k - state.graph.t) continue;
    state.Note(owner, Blame::Cause::kUnusableShares);
    for (const Index holder : deniers) state.Note(holder, Blame::Cause::kDeniedShares);
  }
}

Result<std::vector<Mask>> OpenMasks(ServerState& state) {
  std::vector<Mask> masks;
  Opening opening(state);
  for (const Index owner : state.In(&Member::dealt)) {
    CHORUS_TRY_ASSIGN(const SecretBytes secret, opening.Open(owner));
    const Member& member = state.members[owner];
    if (member.uploaded) {
      masks.push_back({DeriveSelfMask(state.sid, secret.Reveal(), owner), math::Sign::kSubtract});
      continue;
    }
    const crypto::X25519Key s_key(secret.Reveal());
    for (const Index u : state.MaskedWith(owner)) {
      if (!state.members[u].uploaded) continue;
      CHORUS_TRY_ASSIGN(SecretBytes key, DerivePairMask(state.sid, s_key, {owner, member.said.s},
                                                        {u, state.members[u].said.s}));
      // u added it with PairSign(u, owner); the owner's own sign is the opposite one.
      masks.push_back({std::move(key), PairSign(owner, u)});
    }
  }
  return masks;
}

}  // namespace chorus::aggregation
