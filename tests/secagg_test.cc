// What a SecAgg client refuses, whoever asks [specification 3.7]: each check, with the message that
// would break it, correctly signed by a lying coordinator wherever a signature is due.
#include "cohort.h"
#include "matchers.h"

namespace chorus::aggregation {
namespace {

constexpr size_t kKeys = 0;
constexpr size_t kShares = 1;
constexpr size_t kInput = 2;
constexpr size_t kAcks = 3;
constexpr size_t kUnmask = 4;
constexpr size_t kVictim = 2;

// A cohort of seven in which the coordinator sends the victim something else in one step.
class Liar : public testing::Test {
 protected:
  Liar() {
    cohort_.on_answer = [this](Where where, Bytes& body) {
      if (where.step == kKeys) said_[where.client] = *DecodeAdvertise(body);
      if (where.client == kVictim) answers_.push_back(body);
      return true;
    };
  }
  // Replaces what the victim is asked in `step`; gives the victim's status afterwards.
  Status Send(size_t step, std::function<void(Bytes&)> change) {
    cohort_.on_question = [step, change = std::move(change)](Where where, Bytes& body) {
      if (where.step == step && where.client == kVictim) change(body);
      return true;
    };
    run_ = cohort_.Run().status();
    if (!cohort_.client_status[kVictim].ok()) {
      EXPECT_TRUE(cohort_.contributors[kVictim]->done());
      EXPECT_EQ(answers_.size(), step) << "something left after the refusal";
    }
    return cohort_.client_status[kVictim];
  }
  // A roster of `members`, consistent and signed, as the victim would see it.
  Bytes Forge(
      const std::vector<Advertise>& members, Index me,
      const std::function<void(RosterAndPeers&)>& change = [](RosterAndPeers&) {}) {
    std::vector<Digest> leaves;
    for (const Advertise& m : members) leaves.push_back(RosterLeaf(m.sid0, m.id, m.c, m.s));
    const auto paths = crypto::MerklePaths(leaves);
    std::vector<Bytes> records;
    for (Index v = 0; v < members.size(); ++v) {
      const Advertise& m = members[v];
      records.push_back(EncodePeer({v, m.id, m.c, m.s, m.evidence, m.signature, paths[v]}));
    }
    RosterAndPeers roster;
    roster.n = static_cast<uint32_t>(members.size());
    roster.index = me;
    roster.root = crypto::MerkleRoot(leaves);
    roster.path = paths[me];
    roster.signature = crypto::Ed25519Sign(cohort_.signing_seed.Reveal(),
                                           RosterMessage(members[0].sid0, roster.n, roster.root));
    change(roster);
    return EncodeRoster(roster, records);
  }
  // Everybody who advertised, in roster order, and the victim's place.
  std::pair<std::vector<Advertise>, Index> Members() const {
    std::vector<Advertise> members;
    for (const auto& [client, advertise] : said_) members.push_back(advertise);
    std::sort(members.begin(), members.end(), [](const Advertise& a, const Advertise& b) {
      return OrderKey(a.sid0, a.id) < OrderKey(b.sid0, b.id);
    });
    Index me = 0;
    while (members[me].id != said_.at(kVictim).id) ++me;
    return {members, me};
  }
  // Signs an advertisement anew, as a colluding member may.
  static void Sign(Advertise& advertise, BytesView seed) {
    advertise.id = crypto::Ed25519Public(seed);
    advertise.signature = crypto::Ed25519Sign(seed, AdvertiseMessage(advertise));
  }
  // The identity seed of a member, who colludes.
  BytesView SeedOf(const PublicKey& id) const {
    for (const SecretBytes& seed : cohort_.identities) {
      if (crypto::Ed25519Public(seed.Reveal()) == id) return seed.Reveal();
    }
    return {};
  }
  static CohortShape SevenClients() {
    CohortShape shape;
    shape.clients = 7;
    return shape;
  }

  Cohort cohort_{11, SevenClients()};
  std::map<size_t, Advertise> said_;
  std::vector<Bytes> answers_;
  Status run_;
};

// --- before Advertise
// ------------------------------------------------------------------------------
TEST_F(Liar, OfferThatIsNotSignedByThePinnedCoordinatorIsRefused) {
  EXPECT_THAT(Send(kKeys, [](Bytes& body) { body[40] ^= 1; }), HasCode(Code::kUnauthenticated));
}

TEST_F(Liar, OfferOfAnotherCoordinatorIsRefused) {
  const SecretBytes other = cohort_.Secret("other coordinator", 0);
  EXPECT_THAT(Send(kKeys,
                   [&](Bytes& body) {
                     SessionParams params = cohort_.params;
                     params.coordinator_id = crypto::Ed25519Public(other.Reveal());
                     body = MakeOffer(params, other.Reveal());
                   }),
              HasCode(Code::kUnauthenticated));
}

struct Change {
  const char* name;
  void (*apply)(SessionParams&);
};

class ChangedOffer : public Liar, public testing::WithParamInterface<Change> {};

INSTANTIATE_TEST_SUITE_P(
    Liar, ChangedOffer,
    testing::Values(Change{"Protocol", [](SessionParams& p) { p.protocol = Protocol::kPlain; }},
                    Change{"TaskId", [](SessionParams& p) { p.task_id[0] ^= 1; }},
                    Change{"TaskHash", [](SessionParams& p) { p.task_hash[0] ^= 1; }},
                    Change{"Round", [](SessionParams& p) { ++p.round; }},
                    Change{"AttemptZero", [](SessionParams& p) { p.attempt = 0; }},
                    Change{"AttemptTooMany", [](SessionParams& p) { p.attempt = 5; }},
                    Change{"Model", [](SessionParams& p) { p.model_hash[0] ^= 1; }},
                    Change{"Layout", [](SessionParams& p) { p.layout_hash[0] ^= 1; }},
                    Change{"Privacy", [](SessionParams& p) { p.dp_hash[0] ^= 1; }},
                    Change{"Length", [](SessionParams& p) { ++p.vec_len; }},
                    Change{"Bits", [](SessionParams& p) { ++p.bits; }},
                    Change{"WordBytes", [](SessionParams& p) { p.word_bytes = 8; }},
                    Change{"Bound", [](SessionParams& p) { p.bound = 999; }},
                    Change{"Wrap", [](SessionParams& p) { p.bound = 1 << 20; }},
                    Change{"SmallerCohort", [](SessionParams& p) { --p.n_min; }},
                    Change{"LargerCohort", [](SessionParams& p) { ++p.n_max; }},
                    Change{"Gamma", [](SessionParams& p) { --p.gamma_ppm; }},
                    Change{"Delta", [](SessionParams& p) { --p.delta_ppm; }},
                    Change{"Sigma", [](SessionParams& p) { --p.sigma; }},
                    Change{"Eta", [](SessionParams& p) { --p.eta; }},
                    Change{"HonestMinimum", [](SessionParams& p) { --p.a_min; }},
                    Change{"Suite", [](SessionParams& p) { p.suite = 2; }},
                    Change{"Mode", [](SessionParams& p) { p.mode = 3; }},
                    Change{"Graph", [](SessionParams& p) { p.mode = 2; }},
                    Change{"CoordinatorName", [](SessionParams& p) { p.coordinator_id[0] ^= 1; }}),
    [](const testing::TestParamInfo<Change>& test) { return std::string(test.param.name); });

TEST_P(ChangedOffer, IsRefusedThoughSigned) {
  const Status status = Send(kKeys, [&](Bytes& body) {
    SessionParams params = cohort_.params;
    GetParam().apply(params);
    body = MakeOffer(params, cohort_.signing_seed.Reveal());
  });
  EXPECT_FALSE(status.ok());
  EXPECT_NE(status.code(), Code::kUnauthenticated)
      << "the signature was good: " << status.message();
}

// --- before Shares
// ---------------------------------------------------------------------------------
TEST_F(Liar, RosterAsItShouldBeIsAccepted) {
  EXPECT_THAT(Send(kShares,
                   [&](Bytes& body) {
                     const auto [members, me] = Members();
                     EXPECT_EQ(Forge(members, me), body);
                   }),
              IsOk());
  EXPECT_THAT(run_, IsOk());
}

TEST_F(Liar, RosterThatIsNotSignedIsRefused) {
  EXPECT_THAT(Send(kShares,
                   [&](Bytes& body) {
                     const auto [members, me] = Members();
                     body = Forge(members, me, [](RosterAndPeers& r) { r.signature[0] ^= 1; });
                   }),
              HasCode(Code::kUnauthenticated));
}

TEST_F(Liar, RosterBelowTheMinimumIsRefused) {
  EXPECT_THAT(Send(kShares,
                   [&](Bytes& body) {
                     body = Forge({said_[kVictim], said_[kVictim + 1]}, 0);
                   }),
              HasCode(Code::kPermissionDenied));
}

TEST_F(Liar, RosterThatCannotBearTheAssumptionsIsRefused) {
  EXPECT_THAT(Send(kShares,
                   [&](Bytes& body) {
                     body = Forge({said_[0], said_[1], said_[kVictim], said_[3]}, 2);
                   }),
              HasCodeAndText(Code::kPermissionDenied, "cannot bear"));
}

TEST_F(Liar, RosterThatHidesTooFewHonestIsRefused) {
  ContributorOptions options = cohort_.OptionsFor(kVictim);
  options.honest_min = 5;  // seven clients guarantee four
  cohort_.contributors[kVictim] = *NewContributor(std::move(options));
  EXPECT_THAT(Send(kShares, [](Bytes&) {}), HasCode(Code::kPermissionDenied));
}

TEST_F(Liar, RosterWithoutTheVictimsOwnKeysIsRefused) {
  EXPECT_THAT(Send(kShares,
                   [&](Bytes& body) {
                     auto [members, me] = Members();
                     members[me].c[0] ^= 1;
                     body = Forge(members, me);
                   }),
              HasCodeAndText(Code::kAborted, "not in the roster as it advertised"));
}

TEST_F(Liar, PeersKeyReplacedInTransitIsRefused) {
  EXPECT_THAT(Send(kShares,
                   [&](Bytes& body) {
                     auto [members, me] = Members();
                     members[(me + 1) % 7].s =
                         crypto::X25519Public(cohort_.Secret("m", 0).Reveal());
                     body = Forge(members, me);
                   }),
              HasCodeAndText(Code::kAborted, "did not sign"));
}

TEST_F(Liar, PeersRecordOutsideTheRosterIsRefused) {
  EXPECT_THAT(Send(kShares,
                   [&](Bytes& body) {
                     auto [members, me] = Members();
                     const Bytes honest = Forge(members, me);
                     Advertise& other = members[(me + 1) % 7];
                     other.s = crypto::X25519Public(cohort_.Secret("m", 0).Reveal());
                     Sign(other, cohort_.Secret("sybil", 0).Reveal());
                     const RosterAndPeers said = *DecodeRoster(honest, 128);
                     body = Forge(members, me, [&](RosterAndPeers& r) {
                       r.root = said.root;
                       r.path = said.path;
                       r.signature = said.signature;
                     });
                   }),
              HasCodeAndText(Code::kAborted, "record is not in the roster"));
}

TEST_F(Liar, PeerWithoutCertificateIsRefused) {
  const SecretBytes sybil = cohort_.Secret("sybil", 0);
  cohort_.verifier.refused.insert(crypto::Ed25519Public(sybil.Reveal()));
  EXPECT_THAT(Send(kShares,
                   [&](Bytes& body) {
                     auto [members, me] = Members();
                     Sign(members[(me + 1) % 7], sybil.Reveal());
                     body = Forge(members, me);
                   }),
              HasCodeAndText(Code::kAborted, "not certified"));
}

TEST_F(Liar, IdentityInTheRosterTwiceIsRefused) {
  EXPECT_THAT(Send(kShares,
                   [&](Bytes& body) {
                     auto [members, me] = Members();
                     Advertise& twice = members[(me + 1) % 7];
                     twice.c = crypto::X25519Public(cohort_.Secret("m", 0).Reveal());
                     twice.s = crypto::X25519Public(cohort_.Secret("m", 1).Reveal());
                     for (size_t i = 0; i < 7; ++i) {
                       if (members[(me + 2) % 7].id ==
                           crypto::Ed25519Public(cohort_.identities[i].Reveal())) {
                         Sign(twice, cohort_.identities[i].Reveal());
                       }
                     }
                     body = Forge(members, me);
                   }),
              HasCodeAndText(Code::kAborted, "peer is in the roster twice"));
}

TEST_F(Liar, KeyInTheRosterTwiceIsRefused) {
  EXPECT_THAT(Send(kShares,
                   [&](Bytes& body) {
                     auto [members, me] = Members();
                     Advertise& copy = members[(me + 1) % 7];
                     copy.s = members[(me + 2) % 7].s;
                     Sign(copy, SeedOf(copy.id));
                     body = Forge(members, me);
                   }),
              HasCodeAndText(Code::kAborted, "key is in the roster twice"));
}

TEST_F(Liar, OwnKeyInTheRosterTwiceIsRefused) {
  EXPECT_THAT(Send(kShares,
                   [&](Bytes& body) {
                     auto [members, me] = Members();
                     Advertise& copy = members[(me + 1) % 7];
                     copy.s = members[me].c;
                     Sign(copy, SeedOf(copy.id));
                     body = Forge(members, me);
                   }),
              HasCodeAndText(Code::kAborted, "key is in the roster twice"));
}

TEST_F(Liar, PeersPointOfLowOrderIsRefused) {
  EXPECT_THAT(Send(kShares,
                   [&](Bytes& body) {
                     auto [members, me] = Members();
                     Advertise& zero = members[(me + 1) % 7];
                     zero.s = PublicKey{};
                     Sign(zero, SeedOf(zero.id));
                     body = Forge(members, me);
                   }),
              HasCodeAndText(Code::kAborted, "low order"));
}

// X25519 ignores the top bit, so the same key would pass for two.
TEST_F(Liar, PeersKeyInAnotherEncodingIsRefused) {
  EXPECT_THAT(Send(kShares,
                   [&](Bytes& body) {
                     auto [members, me] = Members();
                     Advertise& other = members[(me + 1) % 7];
                     other.s[31] |= 0x80;
                     Sign(other, SeedOf(other.id));
                     body = Forge(members, me);
                   }),
              HasCode(Code::kAborted));
}

TEST_F(Liar, RosterInAnotherOrderIsRefused) {
  EXPECT_THAT(Send(kShares,
                   [&](Bytes& body) {
                     auto [members, me] = Members();
                     std::swap(members[(me + 1) % 7], members[(me + 2) % 7]);
                     body = Forge(members, me);
                   }),
              HasCodeAndText(Code::kAborted, "order"));
}

TEST_F(Liar, RosterThatLeavesAPeerOutOfTheListsIsRefused) {
  EXPECT_THAT(Send(kShares,
                   [&](Bytes& body) {
                     auto [members, me] = Members();
                     RosterAndPeers roster = *DecodeRoster(body, 128);
                     std::vector<Bytes> records;
                     for (const Peer& peer : roster.peers) records.push_back(EncodePeer(peer));
                     // The count says six, five records follow.
                     body.erase(body.end() - 24 - static_cast<ptrdiff_t>(records.back().size()),
                                body.end() - 24);
                   }),
              HasCode(Code::kInvalidArgument));
}

// --- before Masked
// ---------------------------------------------------------------------------------
TEST_F(Liar, DeliveryFromNobodyInTheRosterIsRefused) {
  for (const auto& change : std::vector<std::function<void(std::vector<Delivery>&)>>{
           [](std::vector<Delivery>& d) { d.back().from = 7; },
           [](std::vector<Delivery>& d) { d[1].from = d[0].from; },
           [](std::vector<Delivery>& d) { std::swap(d[0], d[1]); }}) {
    Cohort cohort(11, SevenClients());
    cohort.on_question = [&](Where where, Bytes& body) {
      if (where.step == kInput && where.client == kVictim) {
        std::vector<Delivery> entries = *DecodeDeliver(body, 7);
        change(entries);
        body = EncodeDeliver(entries);
      }
      return true;
    };
    EXPECT_THAT(cohort.Run(), IsOk());
    EXPECT_THAT(cohort.client_status[kVictim], HasCode(Code::kInvalidArgument));
    EXPECT_FALSE(cohort.contributors[kVictim]->uploaded());
  }
}

TEST_F(Liar, DeliveryThatNamesTheReceiverIsRefused) {
  EXPECT_THAT(Send(kInput,
                   [&](Bytes& body) {
                     const auto [members, me] = Members();
                     std::vector<Delivery> entries = *DecodeDeliver(body, 7);
                     const size_t place = me == 6 ? 5 : me;
                     entries[place].from = me;
                     body = EncodeDeliver(entries);
                   }),
              HasCodeAndText(Code::kAborted, "no neighbour"));
}

TEST_F(Liar, TooFewSharesThatOpenEndTheSession) {
  // Seven clients: t = 4 of six neighbours; three spoilt ciphertexts leave three.
  EXPECT_THAT(Send(kInput,
                   [&](Bytes& body) {
                     std::vector<Delivery> entries = *DecodeDeliver(body, 7);
                     for (size_t i = 0; i < 3; ++i) entries[i].sealed[5] ^= 1;
                     body = EncodeDeliver(entries);
                   }),
              HasCode(Code::kAborted));
  EXPECT_FALSE(cohort_.contributors[kVictim]->uploaded());
  EXPECT_THAT(run_, IsOk()) << "the others go on without it";
}

TEST_F(Liar, DeliveryOfAnotherCommitmentDoesNotOpen) {
  EXPECT_THAT(Send(kInput,
                   [&](Bytes& body) {
                     std::vector<Delivery> entries = *DecodeDeliver(body, 7);
                     for (Delivery& entry : entries) entry.commitment[0] ^= 1;
                     body = EncodeDeliver(entries);
                   }),
              HasCode(Code::kAborted));
}

// A spoilt ciphertext costs a holder, not the mask: the sum stays exact.
TEST_F(Liar, SpoiltShareIsListedAndItsMaskStays) {
  std::vector<Index> failed;
  cohort_.on_answer = [&](Where where, Bytes& body) {
    if (where.step == kInput && where.client == kVictim) {
      failed = DecodeMasked(body, 7, math::PackedBytes(8, 21))->failed;
    }
    return true;
  };
  cohort_.on_question = [&](Where where, Bytes& body) {
    if (where.step == kInput && where.client == kVictim) {
      std::vector<Delivery> entries = *DecodeDeliver(body, 7);
      entries[3].sealed[5] ^= 1;
      body = EncodeDeliver(entries);
    }
    return true;
  };
  const Result<Sum> sum = cohort_.Run();
  ASSERT_THAT(sum, IsOk());
  EXPECT_EQ(failed.size(), 1U);
  EXPECT_THAT(cohort_.Values(*sum),
              testing::ElementsAreArray(cohort_.Expected({0, 1, 2, 3, 4, 5, 6})));
}

// --- before Acks
// -----------------------------------------------------------------------------------
TEST_F(Liar, SurvivorsMustBeExactlyTheOwnersHeld) {
  for (const auto& change : std::vector<std::function<void(std::vector<Survivor>&, Index)>>{
           [](std::vector<Survivor>&s, Index) { s.pop_back(); },
           [](std::vector<Survivor>&s, Index) { s.clear(); },
           [](std::vector<Survivor>&s, Index me) {
             s.insert(s.begin() + me, Survivor{me, Fate::kDropped, {}});
           }}) {
    Cohort cohort(11, SevenClients());
    Index me = 0;
    cohort.on_question = [&](Where where, Bytes& body) {
      if (where.client != kVictim) return true;
      if (where.step == kShares) me = DecodeRoster(body, 128)->index;
      if (where.step == kAcks) {
        std::vector<Survivor> entries = *DecodeSurvivors(body, 7);
        change(entries, me);
        body = EncodeSurvivors(entries);
      }
      return true;
    };
    EXPECT_THAT(cohort.Run(), IsOk());
    EXPECT_THAT(cohort.client_status[kVictim], HasCode(Code::kAborted));
  }
}

TEST_F(Liar, OwnerListedAliveAndDroppedEndsTheSession) {
  EXPECT_THAT(Send(kAcks,
                   [&](Bytes& body) {
                     std::vector<Survivor> entries = *DecodeSurvivors(body, 7);
                     entries[1].owner = entries[0].owner;
                     entries[1].fate = Fate::kDropped;
                     body = EncodeSurvivors(entries);
                   }),
              HasCode(Code::kInvalidArgument));
}

TEST_F(Liar, UnknownFateEndsTheSession) {
  EXPECT_THAT(Send(kAcks, [&](Bytes& body) { body[8] = 3; }), HasCode(Code::kInvalidArgument));
}

// An owner said to be alive without its tag is refused and nothing of it is opened; the rest goes
// on.
TEST_F(Liar, OwnerWithoutItsEdgeTagIsRevealedNothing) {
  Index owner = 0;
  std::vector<Index> refused;
  std::vector<UnmaskEntry> opened;
  cohort_.on_question = [&](Where where, Bytes& body) {
    if (where.step == kAcks && where.client == kVictim) {
      std::vector<Survivor> entries = *DecodeSurvivors(body, 7);
      entries[1].edge[0] ^= 1;
      owner = entries[1].owner;
      body = EncodeSurvivors(entries);
    }
    return true;
  };
  cohort_.on_answer = [&](Where where, Bytes& body) {
    if (where.client != kVictim) return true;
    if (where.step == kAcks) refused = DecodeAcks(body, 7)->refused;
    if (where.step == kUnmask) opened = *DecodeUnmask(body, 7, 1);
    return true;
  };
  const Result<Sum> sum = cohort_.Run();
  ASSERT_THAT(sum, IsOk());
  EXPECT_THAT(refused, testing::ElementsAre(owner));
  EXPECT_EQ(opened.size(), 5U);
  for (const UnmaskEntry& entry : opened) EXPECT_NE(entry.owner, owner);
  EXPECT_THAT(cohort_.Values(*sum),
              testing::ElementsAreArray(cohort_.Expected({0, 1, 2, 3, 4, 5, 6})));
}

TEST_F(Liar, SecondSurvivorsEndTheSession) {
  Bytes survivors;
  cohort_.on_question = [&](Where where, Bytes& body) {
    if (where.client != kVictim) return true;
    if (where.step == kAcks) survivors = body;
    if (where.step == kUnmask) body = survivors;
    return true;
  };
  EXPECT_THAT(cohort_.Run(), IsOk());
  EXPECT_FALSE(cohort_.client_status[kVictim].ok());
  EXPECT_EQ(answers_.size(), kUnmask);
}

TEST_F(Liar, SkippingTheAcknowledgementsEndsTheSession) {
  EXPECT_FALSE(Send(kAcks, [&](Bytes& body) { body = EncodeAckSet({}); }).ok());
}

// --- before Unmask
// ---------------------------------------------------------------------------------
TEST_F(Liar, TooFewAcknowledgementsEndTheSession) {
  EXPECT_THAT(Send(kUnmask,
                   [&](Bytes& body) {
                     AckSet acks = *DecodeAckSet(body, 7);
                     acks.resize(3);  // t = 4
                     body = EncodeAckSet(acks);
                   }),
              HasCode(Code::kAborted));
}

TEST_F(Liar, AcknowledgementsMeantForOthersAreNotCounted) {
  EXPECT_THAT(Send(kUnmask,
                   [&](Bytes& body) {
                     AckSet acks = *DecodeAckSet(body, 7);
                     for (size_t i = 0; i + 1 < acks.size(); i += 2) {
                       std::swap(acks[i].second, acks[i + 1].second);
                     }
                     body = EncodeAckSet(acks);
                   }),
              HasCode(Code::kAborted));
}

TEST_F(Liar, AcknowledgementsOfOneHolderCountOnce) {
  EXPECT_THAT(Send(kUnmask,
                   [&](Bytes& body) {
                     AckSet acks = *DecodeAckSet(body, 7);
                     acks.assign(6, acks[0]);
                     body = EncodeAckSet(acks);
                   }),
              HasCode(Code::kInvalidArgument));
}

// --- the server's side of the same
// -------------------------------------------------------------------- What the victim itself sends
// wrong, signed where it must be.
TEST(SecAggServer, RefusesAnAdvertiseOfUnsoundKeys) {
  CohortShape shape;
  shape.clients = 7;
  for (int attack = 0; attack < 5; ++attack) {
    Cohort cohort(5, shape);
    Advertise first;
    cohort.on_answer = [&](Where where, Bytes& body) {
      if (where.step != kKeys) return true;
      Advertise said = *DecodeAdvertise(body);
      if (where.client == 0) first = said;
      if (where.client != kVictim) return true;
      if (attack == 0) said.c = PublicKey{};
      if (attack == 1) said.c = said.s;
      if (attack == 2) said.s = first.s;
      if (attack == 3) said.sid0[0] ^= 1;
      if (attack == 4) said.s[31] |= 0x80;
      const BytesView seed = cohort.identities[kVictim].Reveal();
      said.signature = crypto::Ed25519Sign(seed, AdvertiseMessage(said));
      body = Encode(said);
      return true;
    };
    const Result<Sum> sum = cohort.Run();
    ASSERT_THAT(sum, IsOk());
    EXPECT_THAT(cohort.hear_status[kVictim], HasCode(Code::kInvalidArgument));
    EXPECT_EQ(sum->contributors, 6U);
  }
}

TEST(SecAggServer, RefusesAnIdentityThatIsClaimedByAnother) {
  CohortShape shape;
  shape.clients = 7;
  Cohort cohort(5, shape);
  cohort.on_answer = [&](Where where, Bytes& body) {
    if (where.step != kKeys || where.client != kVictim) return true;
    Advertise said = *DecodeAdvertise(body);
    said.id = crypto::Ed25519Public(cohort.identities[0].Reveal());
    body = Encode(said);
    return true;
  };
  ASSERT_THAT(cohort.Run(), IsOk());
  EXPECT_THAT(cohort.hear_status[kVictim], HasCode(Code::kUnauthenticated));
}

// Shares that open to something else than their owner committed to: no sum, rather than a wrong
// one.
TEST(SecAggContributor, IsNotMadeFromUnusableOptions) {
  Cohort cohort(5, {});
  const auto refused = [&](const std::function<void(ContributorOptions&)>& change) {
    ContributorOptions options = cohort.OptionsFor(0);
    change(options);
    return NewContributor(std::move(options));
  };
  EXPECT_THAT(refused([](ContributorOptions&) {}), IsOk());
  EXPECT_THAT(refused([](ContributorOptions& o) { o.verifier = nullptr; }),
              HasCode(Code::kInvalidArgument));
  EXPECT_THAT(refused([](ContributorOptions& o) { o.rng = nullptr; }),
              HasCode(Code::kInvalidArgument));
  EXPECT_THAT(refused([](ContributorOptions& o) { o.identity_seed = {}; }),
              HasCode(Code::kInvalidArgument));
  EXPECT_THAT(refused([](ContributorOptions& o) { o.coordinator = {}; }),
              HasCode(Code::kInvalidArgument));
  EXPECT_THAT(refused([](ContributorOptions& o) { o.evidence.resize(5000); }),
              HasCode(Code::kInvalidArgument));
}

// A contribution in words of another width would be masked with another stretch of key stream.
TEST(SecAggContributor, RefusesAnInputInWordsOfAnotherWidth) {
  Cohort cohort(5, {});
  ContributorOptions options = cohort.OptionsFor(2);
  options.input = math::ZeroVector(8, 64);
  cohort.contributors[2] = *NewContributor(std::move(options));
  EXPECT_THAT(cohort.Run(), HasCode(Code::kAborted));  // four are left of five
  EXPECT_THAT(cohort.client_status[2], HasCode(Code::kInvalidArgument));
}

TEST(SecAggServer, NeverOpensAMaskThatWasNotCommittedTo) {
  CohortShape shape;
  shape.clients = 7;
  for (const bool dropped : {false, true}) {
    Cohort cohort(6, shape);
    if (dropped) cohort.DropOut(5, kInput);
    cohort.on_answer = [&](Where where, Bytes& body) {
      if (where.step == kUnmask && where.client < 4) body[body.size() - 1] ^= 1;
      return true;
    };
    EXPECT_THAT(cohort.Run(), HasCode(Code::kAborted));
  }
}

// I3: one upload says nothing about its input while the self mask is unknown. Chi-square over the
// top six bits of one word, 63 degrees of freedom; 140 is passed by chance once in 10^7. All pair
// masks are known to the observer.
TEST(SecAggMasks, MaskedInputIsUniformWhateverTheInput) {
  constexpr int kBits = 12;
  constexpr int kSeeds = 100'000;
  for (const int64_t input : {0, 2047, -2047}) {
    std::vector<double> counts(64, 0.0);
    for (uint64_t seed = 0; seed < kSeeds; ++seed) {
      RingVector vector = math::ZeroVector(1, kBits);
      math::SetSigned(vector, 0, input);
      const Digest b = crypto::Sha256(Writer().U64(seed).U64(static_cast<uint64_t>(input)).view());
      std::vector<Mask> masks;
      masks.push_back({DeriveSelfMask(Digest{}, b, 3), math::Sign::kAdd});
      ApplyMasks(crypto::FastestMaskPath(), vector, masks);
      math::ReduceBits(vector, kBits);
      counts[static_cast<uint64_t>(math::SignedAt(vector, 0, kBits) + 2048) >> 6U] += 1;
    }
    double chi_square = 0;
    for (const double count : counts) {
      const double expected = kSeeds / 64.0;
      chi_square += (count - expected) * (count - expected) / expected;
    }
    EXPECT_LT(chi_square, 140.0) << "input " << input;
  }
}

TEST(SecAggMasks, PartiesOnEveryMaskPathMakeOneSum) {
  const std::array paths = {crypto::MaskPath::kEvp, crypto::MaskPath::kVaes256,
                            crypto::MaskPath::kVaes512};
  for (uint64_t seed = 0; seed < paths.size(); ++seed) {
    CohortShape shape;
    shape.clients = 7;
    shape.dim = 1'000;
    Cohort cohort(seed, shape);
    for (size_t i = 0; i < shape.clients; ++i) {
      ContributorOptions options = cohort.OptionsFor(i);
      options.mask_path = paths[(seed + i) % paths.size()];
      cohort.contributors[i] = *NewContributor(std::move(options));
    }
    cohort.mask_path = paths[seed];
    cohort.DropOut(4, kInput);
    const Result<Sum> sum = cohort.Run();
    ASSERT_THAT(sum, IsOk());
    EXPECT_EQ(cohort.Values(*sum), cohort.Expected({0, 1, 2, 3, 5, 6}));
  }
}

}  // namespace
}  // namespace chorus::aggregation
