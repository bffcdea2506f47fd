// The cohort of one contributor under attack: everybody else is a puppet of the coordinator's, with
// keys that are the same in every run.
#pragma once

#include <vector>

#include "aggregation/secagg.h"
#include "fuzz.h"
#include "math/math.h"

namespace chorus::fuzz {

inline constexpr uint8_t kPuppets = 37;  // for a roster of 38 at most

inline constexpr int64_t kNow = 1'800'000'000;
inline constexpr int64_t kHour = 3'600;

enum class Row : uint8_t { kOffer, kRoster, kPeers, kDeliver, kSurvivors, kAckSet };

inline std::span<const Row> RowsOf(SharingGraph graph) {
  static constexpr Row kComplete[] = {Row::kOffer, Row::kRoster, Row::kDeliver, Row::kSurvivors,
                                      Row::kAckSet};
  static constexpr Row kSelfSelected[] = {Row::kOffer,   Row::kRoster,    Row::kPeers,
                                          Row::kDeliver, Row::kSurvivors, Row::kAckSet};
  static constexpr Row kHarary[] = {Row::kOffer, Row::kRoster, Row::kDeliver, Row::kSurvivors};
  if (graph == SharingGraph::kSelfSelected) return kSelfSelected;
  if (graph == SharingGraph::kHarary) return kHarary;
  return kComplete;
}

// What a contributor made ahead of its session, and whether it is spared the keys row for it.
enum class Ahead : uint8_t { kNothing, kUsed, kUnused };

class Everybody final : public IdentityVerifier {
 public:
  Result<Identity> Verify(const PublicKey&, BytesView evidence) const override {
    if (!evidence.empty() && evidence[0] == 0xff) return Unauthenticated("not certified");
    return Identity{};
  }
};

struct Puppet {
  explicit Puppet(uint8_t number)
      : identity(Key("identity", number)),
        id(crypto::Ed25519Public(identity.Reveal())),
        c(Key("c", number).Reveal()),
        s(Key("s", number).Reveal()) {}

  SecretBytes identity;
  PublicKey id;
  crypto::X25519Key c;
  crypto::X25519Key s;
};

inline const std::vector<Puppet>& Puppets() {
  static const std::vector<Puppet> puppets = [] {
    std::vector<Puppet> made;
    for (uint8_t i = 0; i < kPuppets; ++i) made.emplace_back(i);
    return made;
  }();
  return puppets;
}

inline const SecretBytes& CoordinatorSeed() {
  static const SecretBytes seed = Key("coordinator");
  return seed;
}

// The larger graphs have the tables of small_graph_tables.cc: k = 6 and t = 4.
inline aggregation::SessionParams Params(SharingGraph graph) {
  const bool complete = graph == SharingGraph::kComplete;
  aggregation::SessionParams p;
  p.mode = static_cast<uint8_t>(graph);
  p.round = 7;
  p.vec_len = 4;
  p.bits = 21;
  p.word_bytes = 4;
  p.bound = 1'000;
  p.n_min = complete ? 3 : 8;
  p.n_max = complete ? 8 : kPuppets + 1;
  p.gamma_ppm = 50'000;
  p.delta_ppm = 100'000;
  p.a_min = 1;
  p.coordinator_id = crypto::Ed25519Public(CoordinatorSeed().Reveal());
  return p;
}

// Of the one honest contributor; the same in every run.
inline aggregation::ContributorOptions VictimOptions(SharingGraph mode, Rng& rng) {
  static const SecretBytes identity = Key("victim");
  static const Everybody verifier;
  aggregation::ContributorOptions options;
  options.expected = Params(mode);
  options.coordinator = options.expected.coordinator_id;
  options.honest_min = 1;
  options.identity_seed = identity.Reveal();
  options.evidence = {1, 2, 3};
  options.verifier = &verifier;
  options.rng = &rng;
  options.unix_now = kNow;
  options.input = math::ZeroVector(options.expected.vec_len, options.expected.bits);
  return options;
}

inline Signature Sign(const SecretBytes& seed, const Digest& words) {
  return crypto::Ed25519Sign(seed.Reveal(), words);
}

// Forty bytes that no other message holds.
inline Bytes ShareOf(std::string_view kind, uint8_t number) {
  math::Share share;
  share.x = 1;
  const SecretBytes key = Key(kind, number);
  Choices words(key.Reveal());
  for (uint64_t& limb : share.y) limb = 1 + (words.Word() ^ number) % (math::kPrime - 1);
  return math::ShareBytes(share);
}

// A puppet that is the victim's neighbour, what it shares with the victim, and what the victim may
// open.
struct Neighbour {
  int puppet = 0;
  bool holder = false;  // the victim chose it
  bool owner = false;   // it chose the victim
  aggregation::ChannelKeys channel;
  Bytes share_s;
  Bytes share_b;
};

// A proof needs nobody's word but the coordinator's signatures.
inline void CheckProof(const std::optional<aggregation::Equivocation>& proof) {
  if (!proof) return;
  for (const aggregation::Equivocation::SignedRoster& said : {proof->first, proof->second}) {
    const PublicKey id = Params(SharingGraph::kComplete).coordinator_id;
    Require(crypto::Ed25519Verify(id, aggregation::RosterMessage(proof->sid0, said.n, said.root),
                                  said.signature),
            "the coordinator signed what it is accused of");
  }
  Require(proof->first.n != proof->second.n || proof->first.root != proof->second.root,
          "which are two rosters");
}

}  // namespace chorus::fuzz
