// The attacks of a lying server, numbered as in the specification [3.15], and what must happen;
// docs/adversary.md lists them all. Over the complete graph (ten clients: k = 9, t = 6) and small
// ones of the other kinds (twelve: k = 6, t = 4), with one colluder unless said otherwise, every
// client under the monitor's eyes.
//
// On the Harary ring the coordinator is taken to follow the protocol, so there stands only what a
// client refuses all the same. In a complete graph only Deliver can cut an edge.
#include "malicious_server.h"

namespace chorus::aggregation {
namespace {

constexpr size_t kVictim = 4;

CohortShape ServerShape(SharingGraph mode) {
  return mode == SharingGraph::kComplete ? ShapeOf(10) : ShapeOf(mode);
}

class Attack : public testing::TestWithParam<SharingGraph> {
 protected:
  MaliciousServer Server(uint64_t seed) const { return {seed, ServerShape(GetParam()), 1}; }
  Rows rows() const { return RowsOf(GetParam()); }
  // The status of a client that is offered changed parameters, correctly signed.
  Status Offered(const std::function<void(SessionParams&)>& change) const {
    CohortShape shape = ShapeOf(GetParam());
    shape.gamma_ppm = 100'000;
    AttackedCohort cohort(14, shape);
    const Status status = cohort.Lie(kVictim, rows().keys, [&](Bytes& body) {
      SessionParams params = cohort.params;
      change(params);
      body = MakeOffer(params, cohort.signing_seed.Reveal());
    });
    EXPECT_EQ(cohort.sent.contains({rows().keys, kVictim}), status.ok());
    return status;
  }
};
INSTANTIATE_TEST_SUITE_P(Server, Attack, testing::ValuesIn(kAllGraphs), NameOfGraph);

// What only a coordinator that lies would do.
class MaliciousAttack : public Attack {};
INSTANTIATE_TEST_SUITE_P(Server, MaliciousAttack, testing::ValuesIn(kMaliciousGraphs), NameOfGraph);

// The last `count` of the client's holders, by their numbers in the cohort.
std::set<size_t> LastHolders(const MaliciousServer& server, size_t client, size_t count) {
  const std::set<size_t>& holders = server.Holders(client);
  auto first = holders.end();
  while (count-- > 0) --first;
  return {first, holders.end()};
}

// --- who survived ------------------------------------------------------------------------------
void TellTwoFates(SharingGraph mode, size_t colluders) {
  CohortShape shape = ServerShape(mode);
  shape.gamma_ppm = colluders > 1 ? 200'000 : 50'000;
  for (size_t told_alive = 0; told_alive <= 9; ++told_alive) {
    MaliciousServer server(told_alive, shape, colluders);
    server.script.alive = [&](size_t holder, size_t owner) {
      if (owner != kVictim) return true;
      const std::set<size_t>& holders = server.Holders(kVictim);
      const auto place = std::distance(holders.begin(), holders.find(holder));
      return static_cast<size_t>(place) < told_alive;
    };
    server.Run();
    EXPECT_FALSE(server.Knows(kVictim, Fate::kAlive) && server.Knows(kVictim, Fate::kDropped))
        << told_alive << " holders were told that it is alive";
    for (const Learned& set : server.Learn()) {
      EXPECT_TRUE(set.closed && set.exact);
      EXPECT_GE(set.clients.size(), set.honest_min);
    }
  }
}

TEST_P(MaliciousAttack, 01_OwnerAliveToSomeAndDroppedToOthersIsNeverOpenedBothWays) {
  TellTwoFates(GetParam(), 1);
}

TEST_P(Attack, 02_OwnerAliveAndDroppedAtOnceEndsTheSession) {
  AttackedCohort cohort(2, GetParam());
  EXPECT_THAT(cohort.Lie(kVictim, rows().survivors,
                         [&](Bytes& body) {
                           std::vector<Survivor> entries = *DecodeSurvivors(body, cohort.clients);
                           entries.insert(entries.begin() + 1, entries[0]);
                           entries[1].fate = Fate::kDropped;
                           body = EncodeSurvivors(entries);
                         }),
              HasCode(Code::kInvalidArgument));
  EXPECT_FALSE(cohort.sent.contains({rows().survivors, kVictim}));
  EXPECT_THAT(cohort.run, IsOk()) << "the others go on";
}

TEST_P(Attack, 03_SecondSurvivorsEndTheSession) {
  MaliciousServer server = Server(3);
  server.script.after = [&](size_t row) {
    if (row != rows().survivors) return;
    ASSERT_TRUE(server.Answered(kVictim, row));
    server.script.alive = [](size_t, size_t) { return false; };
    server.Send(kVictim, server.QuestionOf(row, kVictim));
    EXPECT_FALSE(server.status[kVictim].ok());
  };
  server.Run();
  EXPECT_EQ(server.Answered(kVictim, rows().unmask), GetParam() == SharingGraph::kHarary)
      << "on the ring it had opened its shares, once, before";
}

TEST_P(Attack, 04_SurvivorsThatNameTheReceiverOrAStrangerEndTheSession) {
  for (const bool itself : {true, false}) {
    MaliciousServer server = Server(4);
    // The stranger's shares never reached the victim.
    server.script.delivers = [](size_t to, size_t from) { return to != kVictim || from != 9; };
    server.script.tamper = [&](size_t step, size_t to, Bytes& body) {
      if (step != rows().survivors || to != kVictim) return;
      std::vector<Survivor> entries = *DecodeSurvivors(body, 12);
      std::set<Index> listed;
      for (const Survivor& entry : entries) listed.insert(entry.owner);
      Index absent = 0;
      while (listed.contains(absent) || (absent == server.Place(to)) != itself) ++absent;
      entries.push_back({absent, Fate::kDropped, {}});
      std::sort(entries.begin(), entries.end(),
                [](const Survivor& a, const Survivor& b) { return a.owner < b.owner; });
      body = EncodeSurvivors(entries);
    };
    server.Run();
    EXPECT_TRUE(server.Uploaded(kVictim));
    EXPECT_FALSE(server.Answered(kVictim, rows().survivors)) << "itself: " << itself;
    EXPECT_TRUE(server.Answered(kVictim + 1, rows().unmask));
  }
}

TEST_P(Attack, 04_SurvivorsThatLeaveAnOwnerOutEndTheSession) {
  AttackedCohort cohort(4, GetParam());
  EXPECT_THAT(cohort.Lie(kVictim, rows().survivors,
                         [&](Bytes& body) {
                           std::vector<Survivor> entries = *DecodeSurvivors(body, cohort.clients);
                           entries.erase(entries.begin() + 2);
                           body = EncodeSurvivors(entries);
                         }),
              HasCode(Code::kAborted));
}

// --- order of rows -----------------------------------------------------------------------------
TEST_P(Attack, 05_RowOutOfTurnEndsTheSession) {
  // The questions of a whole session first, so that later rows can come early.
  MaliciousServer server = Server(5);
  std::map<size_t, Bytes> questions;
  server.script.tamper = [&](size_t step, size_t to, Bytes& body) {
    if (to == kVictim) questions[step] = body;
  };
  server.Run();
  ASSERT_TRUE(server.Answered(kVictim, rows().unmask));
  for (size_t due = rows().keys; due <= rows().unmask; ++due) {
    for (size_t other = rows().keys; other <= rows().unmask; ++other) {
      if (other == due) continue;
      MaliciousServer again = Server(5);
      again.script.tamper = [&](size_t step, size_t to, Bytes& body) {
        if (to == kVictim && step == due) body = questions[other];
      };
      again.script.asks = [due](size_t step, size_t) { return step <= due; };
      again.Run();
      EXPECT_TRUE(due == 0 || again.Answered(kVictim, due - 1));
      EXPECT_FALSE(again.Answered(kVictim, due)) << "row " << other << " in place of " << due;
      EXPECT_FALSE(again.status[kVictim].ok());
    }
  }
}

TEST_P(MaliciousAttack, 06_AcknowledgementsRepeatedOrOfAnotherOwnerAreNotCounted) {
  const auto lie = [this](const std::function<void(AckSet&)>& change) {
    AttackedCohort cohort(6, GetParam());  // t = 4
    Status status = cohort.Lie(kVictim, rows().unmask, [&](Bytes& body) {
      AckSet acks = *DecodeAckSet(body, cohort.clients);
      EXPECT_EQ(acks.size(), 6U);
      change(acks);
      body = EncodeAckSet(acks);
    });
    EXPECT_EQ(cohort.sent.contains({rows().unmask, kVictim}), status.ok());
    return status;
  };
  EXPECT_THAT(lie([](AckSet& acks) { acks.resize(4); }), IsOk());
  EXPECT_THAT(lie([](AckSet& acks) { acks.resize(3); }), HasCode(Code::kAborted));
  EXPECT_THAT(lie([](AckSet& acks) { acks.assign(6, acks[0]); }), HasCode(Code::kInvalidArgument));
  // One tag under every name.
  EXPECT_THAT(lie([](AckSet& acks) {
                for (auto& [holder, tag] : acks) tag = acks[0].second;
              }),
              HasCode(Code::kAborted));
}

TEST_P(MaliciousAttack, 06_AcknowledgementsOfAnotherSessionAreNotCounted) {
  MaliciousServer before = Server(6);
  Bytes old;
  before.script.tamper = [&](size_t step, size_t to, Bytes& body) {
    if (step == rows().unmask && to == kVictim) old = body;
  };
  before.Run();
  MaliciousServer server = Server(6);  // the same members with the same keys
  server.script.world = [](size_t) { return 1; };
  server.script.tamper = [&](size_t step, size_t to, Bytes& body) {
    if (step == rows().unmask && to == kVictim) body = old;
  };
  server.Run();
  EXPECT_THAT(server.status[kVictim], HasCode(Code::kAborted));
  EXPECT_TRUE(server.Answered(kVictim + 1, rows().unmask));
}

// The victim opened the ciphertexts of t holders. Of these one does not acknowledge it; those whose
// ciphertexts were spoilt do, and count for nothing.
TEST_P(MaliciousAttack, 07_AcknowledgementsOfOneSidedHoldersAreNotCounted) {
  for (const bool all : {true, false}) {
    MaliciousServer server = Server(7);
    const auto spare = [&] {
      const GraphParams graph = server.Graph(kVictim);
      return LastHolders(server, kVictim, graph.k - graph.t);
    };
    server.script.spoils = [&](size_t to, size_t from) {
      return to == kVictim && spare().contains(from);
    };
    server.script.alive = [&](size_t holder, size_t owner) {
      return all || owner != kVictim || holder != *server.Holders(kVictim).lower_bound(1);
    };
    server.Run();
    EXPECT_EQ(server.Failed(kVictim), spare());
    for (const size_t holder : spare()) EXPECT_TRUE(server.Acknowledges(holder, kVictim));
    EXPECT_EQ(server.Answered(kVictim, rows().unmask), all);
  }
}

// --- edges -------------------------------------------------------------------------------------
// The bound is met: six honest clients among themselves, and no fewer.
TEST(CompleteAttack, 08_NoFewerThanTheBoundCanBeCutOff) {
  for (const size_t honest : {6, 5}) {
    MaliciousServer server(8, ShapeOf(10), 1);
    const auto inside = [&](size_t client) { return client >= 1 && client <= honest; };
    server.script.delivers = [&](size_t to, size_t from) {
      return from == 0 || inside(to) == inside(from);
    };
    server.Run();
    const std::vector<Learned> sets = server.Learn();
    EXPECT_EQ(server.Uploaded(1), honest == 6);
    ASSERT_EQ(sets.size(), honest == 6 ? 1 : 0);
    if (sets.empty()) continue;
    EXPECT_EQ(sets[0].clients, (std::set<size_t>{1, 2, 3, 4, 5, 6}));
    EXPECT_EQ(sets[0].honest_min, 6U);
    EXPECT_TRUE(sets[0].exact);
  }
}

TEST_P(MaliciousAttack, 08_DroppingAllNeighboursButThresholdLeavesAClosedSet) {
  for (const size_t missing : {0, 1}) {
    MaliciousServer server = Server(8);
    const auto kept = [&](size_t client) {
      const std::set<size_t>& holders = server.Holders(kVictim);
      const auto place = std::distance(holders.begin(), holders.find(client));
      return static_cast<size_t>(place) < server.Graph(kVictim).t - missing;
    };
    server.script.delivers = [&](size_t to, size_t from) {
      if (to == kVictim) return kept(from);
      return from != kVictim || kept(to);
    };
    server.Run();
    EXPECT_EQ(server.Uploaded(kVictim), missing == 0);
    for (const Learned& set : server.Learn()) {
      EXPECT_TRUE(set.closed && set.exact);
      EXPECT_GE(set.clients.size(), set.honest_min);
    }
  }
}

// Some holders are cut off from one victim, and hold its shares all the same. Without its edge tag
// they refuse it, so they help nobody to open it.
TEST_P(MaliciousAttack, 08_HoldersThatTheOwnerNeverMaskedWithOpenNothingOfIt) {
  MaliciousServer server = Server(8);
  const auto spare = [&] {
    const GraphParams graph = server.Graph(kVictim);
    return LastHolders(server, kVictim, graph.k - graph.t);
  };
  server.script.delivers = [&](size_t to, size_t from) {
    return to != kVictim || !spare().contains(from);
  };
  server.Run();
  for (const size_t holder : server.Holders(kVictim)) {
    if (holder == 0) continue;  // it colludes
    const bool cut_off = spare().contains(holder);
    EXPECT_EQ(server.Acknowledges(holder, kVictim), !cut_off) << holder;
    EXPECT_TRUE(server.Answered(holder, rows().unmask));
    EXPECT_EQ(server.Gave(holder, kVictim), !cut_off) << holder;
  }
  for (const Learned& set : server.Learn()) EXPECT_TRUE(set.closed && set.exact);
}

TEST_P(Attack, 09_PeersKeyReplacedEndsTheSession) {
  for (const bool channel : {true, false}) {
    AttackedCohort cohort(9, GetParam());
    const PublicKey mine = crypto::X25519Public(cohort.Secret("middle", 0).Reveal());
    EXPECT_THAT(cohort.LieAboutMembers(kVictim,
                                       [&](AttackedCohort::Told& told) {
                                         told.shown = {cohort.IndexOf(1)};
                                         Advertise& peer = told.members[cohort.IndexOf(1)];
                                         (channel ? peer.c : peer.s) = mine;
                                       }),
                HasCodeAndText(Code::kAborted, "did not sign"));
    EXPECT_FALSE(cohort.sent.contains({rows().shares, kVictim}));
    EXPECT_THAT(cohort.run, IsOk()) << "the others go on";
  }
}

TEST_P(Attack, 10_NothingOpensAcrossTwoRosters) {
  MaliciousServer server = Server(10);
  const auto first_half = [](size_t client) { return client < 5; };
  server.script.lists = [&](size_t to, size_t about) {
    return about != (first_half(to) ? 8U : 9U);
  };
  server.Run();
  for (size_t client = 1; client < server.cohort.clients; ++client) {
    EXPECT_TRUE(server.Answered(client, rows().shares));
    if (GetParam() == SharingGraph::kComplete) {
      EXPECT_FALSE(server.Uploaded(client));
    }
    if (!server.Uploaded(client)) continue;
    for (const size_t peer : server.Edges(client)) {
      if (peer == 0 || first_half(peer) == first_half(client)) continue;
      EXPECT_TRUE(server.Failed(client).contains(peer)) << client << " opened " << peer;
    }
  }
  for (const Learned& set : server.Learn()) {
    EXPECT_TRUE(GetParam() == SharingGraph::kHarary || (set.closed && set.exact));
    EXPECT_EQ(first_half(*set.clients.begin()), first_half(*set.clients.rbegin()));
  }
}

TEST_P(Attack, 11_RosterWithDuplicatesEndsTheSession) {
  // 0: an identity, 1: a peer's key, 2: the receiver's own key, 3: the receiver twice.
  for (int what = 0; what < 4; ++what) {
    AttackedCohort cohort(11, GetParam());
    const Status status = cohort.LieAboutMembers(kVictim, [&](AttackedCohort::Told& told) {
      std::vector<Advertise>& members = told.members;
      // Next to the original, so that the order of the roster is kept.
      const Index twin = cohort.IndexOf(1);
      Index place = twin > 0 ? twin - 1 : 1;
      if (place == told.me) place = twin + 1;
      told.shown = {twin, place};
      Advertise& copy = members[place];
      const size_t owner = what == 0 ? 1 : cohort.ClientAt(place);
      if (what == 0) copy.id = members[twin].id;
      if (what == 1) copy.s = members[twin].s;
      if (what == 2) copy.s = members[told.me].c;
      copy.signature = cohort.SignAs(owner, AdvertiseMessage(copy));
      if (what == 3) copy = members[told.me];
    });
    EXPECT_THAT(status, HasCodeAndText(Code::kAborted, "in the roster twice")) << what;
    EXPECT_FALSE(cohort.sent.contains({rows().shares, kVictim})) << what;
  }
}

TEST_P(Attack, 12_SybilWithoutACertificateEndsTheSession) {
  AttackedCohort cohort(12, GetParam());
  const SecretBytes sybil = cohort.Secret("sybil", 0);
  cohort.verifier.refused.insert(crypto::Ed25519Public(sybil.Reveal()));
  EXPECT_THAT(cohort.LieAboutMembers(kVictim,
                                     [&](AttackedCohort::Told& told) {
                                       told.shown = {cohort.IndexOf(1)};
                                       Advertise& peer = told.members[cohort.IndexOf(1)];
                                       peer.id = crypto::Ed25519Public(sybil.Reveal());
                                       peer.signature = crypto::Ed25519Sign(sybil.Reveal(),
                                                                            AdvertiseMessage(peer));
                                     }),
              HasCodeAndText(Code::kAborted, "not certified"));
}

// As many as gamma allows: the guarantee stands. malicious_server_test.cc has more of it.
TEST_P(MaliciousAttack, 12_CertifiedSybilsWithinGammaGainNothing) { TellTwoFates(GetParam(), 2); }

// --- what clients agree to ---------------------------------------------------------------------
TEST_P(Attack, 13_CohortThatIsTooSmallIsRefused) {
  CohortShape shape = ShapeOf(GetParam());
  shape.gamma_ppm = 200'000;
  const auto shown = [&shape](size_t size, uint32_t honest_min) {
    AttackedCohort cohort(13, shape);
    ContributorOptions options = cohort.OptionsFor(kVictim);
    options.honest_min = honest_min;
    cohort.Replace(kVictim, *NewContributor(std::move(options)));
    return cohort.LieAboutMembers(kVictim, [&](AttackedCohort::Told& told) {
      std::vector<Advertise>& members = told.members;
      const PublicKey mine = members[told.me].id;
      while (members.size() > size) {
        members.erase(members.begin() + (members.front().id == mine ? 1 : 0));
      }
      told.me = 0;
      while (members[told.me].id != mine) ++told.me;
    });
  };
  // Of the five at least that are summed on the ring, two of twelve may be corrupt.
  const uint32_t honest = GetParam() == SharingGraph::kHarary ? 3 : 4;
  EXPECT_THAT(shown(shape.minimum - 1, 1),
              HasCodeAndText(Code::kPermissionDenied, "smaller than agreed"));
  EXPECT_THAT(shown(shape.clients, honest + 1),
              HasCodeAndText(Code::kPermissionDenied, "too few honest"));
  EXPECT_THAT(shown(shape.clients, honest), IsOk());
}

TEST_P(Attack, 14_WeakerAssumptionsThanThePolicysAreRefused) {
  EXPECT_THAT(Offered([](SessionParams&) {}), IsOk());
  EXPECT_THAT(Offered([](SessionParams& p) { p.gamma_ppm = 50'000; }),
              HasCode(Code::kPermissionDenied));
  EXPECT_THAT(Offered([](SessionParams& p) { p.delta_ppm = 50'000; }),
              HasCode(Code::kPermissionDenied));
  EXPECT_THAT(Offered([](SessionParams& p) { --p.n_min; }), testing::Not(IsOk()));
  EXPECT_THAT(Offered([](SessionParams& p) { --p.a_min; }), HasCode(Code::kPermissionDenied));
  EXPECT_FALSE(Offered([](SessionParams& p) { --p.sigma; }).ok());
  EXPECT_FALSE(Offered([](SessionParams& p) { --p.eta; }).ok());
  EXPECT_FALSE(Offered([](SessionParams& p) { p.mode = p.mode == 0 ? 1 : 0; }).ok());
}

TEST_P(Attack, 15_AnotherModelToOneClientIsRefusedOrAnotherSession) {
  const auto other = [](SessionParams& p) { p.model_hash[0] ^= 1; };
  EXPECT_THAT(Offered(other), HasCode(Code::kPermissionDenied)) << "not what it trained on";
  // One that trained on the other model accepts it, and is in another session than its peers.
  AttackedCohort cohort(15, GetParam());
  ContributorOptions options = cohort.OptionsFor(kVictim);
  other(options.expected);
  cohort.Replace(kVictim, *NewContributor(std::move(options)));
  EXPECT_THAT(cohort.Lie(kVictim, rows().keys,
                         [&](Bytes& body) {
                           SessionParams params = cohort.params;
                           other(params);
                           body = MakeOffer(params, cohort.signing_seed.Reveal());
                         }),
              IsOk());
  EXPECT_THAT(cohort.hear_status[kVictim], HasCode(Code::kInvalidArgument));
  EXPECT_NE(DecodeAdvertise(cohort.sent[{rows().keys, kVictim}])->sid0,
            DecodeAdvertise(cohort.sent[{rows().keys, 0}])->sid0);
}

TEST_P(Attack, 18_AttemptBeyondTheCapIsRefused) {
  const auto attempt = [this](uint8_t number) {
    return Offered([number](SessionParams& p) { p.attempt = number; });
  };
  EXPECT_THAT(attempt(limits::kAttemptsPerRoundMax), IsOk());
  EXPECT_THAT(attempt(limits::kAttemptsPerRoundMax + 1), HasCode(Code::kPermissionDenied));
  EXPECT_THAT(attempt(0), HasCode(Code::kPermissionDenied));
}

TEST_P(Attack, 26_ParamsThatOverflowAreRefused) {
  EXPECT_THAT(Offered([](SessionParams& p) { p.bits = 12; }), HasCode(Code::kInvalidArgument));
  EXPECT_THAT(Offered([](SessionParams& p) { p.word_bytes = 8; }), HasCode(Code::kInvalidArgument));
  EXPECT_THAT(Offered([](SessionParams& p) { p.bound = UINT64_MAX / 2; }),
              HasCode(Code::kInvalidArgument));
}

TEST_P(Attack, 27_VectorOfAnotherLengthThanTheLayoutsIsRefused) {
  EXPECT_FALSE(Offered([](SessionParams& p) { --p.vec_len; }).ok());
  EXPECT_FALSE(Offered([](SessionParams& p) { ++p.vec_len; }).ok());
  EXPECT_FALSE(Offered([](SessionParams& p) { p.layout_hash[0] ^= 1; }).ok());
}

TEST_P(Attack, 28_OfferThatThePinnedKeyDidNotSignIsRefused) {
  AttackedCohort cohort(28, GetParam());
  const SecretBytes former = cohort.Secret("former key", 0);
  EXPECT_THAT(cohort.Lie(kVictim, rows().keys,
                         [&](Bytes& body) {
                           SessionParams params = cohort.params;
                           params.coordinator_id = crypto::Ed25519Public(former.Reveal());
                           body = MakeOffer(params, former.Reveal());
                         }),
              HasCode(Code::kUnauthenticated));
  AttackedCohort unsigned_offer(28, GetParam());
  EXPECT_THAT(
      unsigned_offer.Lie(kVictim, rows().keys,
                         [](Bytes& body) { std::fill(body.end() - 64, body.end(), uint8_t{0}); }),
      HasCode(Code::kUnauthenticated));
}

// --- other sessions, spoilt and absent ciphertexts ---------------------------------------------
TEST_P(Attack, 19_ReplayOfAnOldSessionOpensNothing) {
  for (const size_t row : std::set<size_t>{rows().roster, rows().shares, rows().input}) {
    MaliciousServer before = Server(19);
    Bytes old;
    before.script.tamper = [&](size_t step, size_t to, Bytes& body) {
      if (step == row && to == kVictim) old = body;
    };
    before.Run();
    MaliciousServer server = Server(19);  // the same members with the same keys
    server.script.world = [](size_t) { return 1; };
    server.script.tamper = [&](size_t step, size_t to, Bytes& body) {
      if (step == row && to == kVictim) body = old;
    };
    server.Run();
    EXPECT_FALSE(server.Answered(kVictim, row)) << row;
    EXPECT_TRUE(server.Answered(kVictim + 1, rows().unmask)) << "the others go on";
  }
}

TEST_P(Attack, 20_MasksOfSpoiltCiphertextsStay) {
  for (const size_t too_many : {0, 1}) {
    MaliciousServer server = Server(20);
    const auto spoilt = [&] {
      const GraphParams graph = server.Graph(kVictim);
      return LastHolders(server, kVictim, graph.k - graph.t + too_many);
    };
    server.script.spoils = [&](size_t to, size_t from) {
      return to == kVictim && spoilt().contains(from);
    };
    server.Run();
    EXPECT_EQ(server.Uploaded(kVictim), too_many == 0);
    if (too_many != 0) continue;
    EXPECT_EQ(server.Failed(kVictim), spoilt());
    for (const size_t owner : spoilt()) {
      EXPECT_FALSE(server.Acknowledges(kVictim, owner)) << "it holds no share to speak for";
    }
    const std::vector<Learned> sets = server.Learn();
    ASSERT_EQ(sets.size(), 1U);
    EXPECT_EQ(sets[0].clients.size(), server.honest())
        << "the masks stayed: all open together or not at all";
    EXPECT_TRUE(sets[0].exact);
  }
}

// A holder of the victim vanishes before the upload. The server names it to the victim all the
// same, with a ciphertext that it made up, and to nobody else.
TEST_P(Attack, 21_InventedEdgeSpoilsOnlyTheServersSum) {
  MaliciousServer server = Server(21);
  const auto absent = [&] { return *server.Holders(kVictim).rbegin(); };
  server.script.asks = [&](size_t step, size_t to) {
    return step <= rows().shares || to != absent();
  };
  server.script.delivers = [&](size_t to, size_t from) {
    return from != absent() || to == kVictim;
  };
  server.script.spoils = [&](size_t to, size_t from) { return to == kVictim && from == absent(); };
  server.Run();
  EXPECT_EQ(server.Failed(kVictim), std::set<size_t>{absent()});
  EXPECT_TRUE(server.Answered(kVictim, rows().unmask));
  EXPECT_TRUE(server.Learn().empty()) << "a mask that nobody can open stays in the only sum";
}

TEST_P(Attack, 22_RosterInAnotherOrderEndsTheSession) {
  AttackedCohort cohort(22, GetParam());
  EXPECT_THAT(cohort.LieAboutMembers(kVictim,
                                     [&](AttackedCohort::Told& told) {
                                       const Index one = (told.me + 1) % cohort.clients;
                                       const Index two = (told.me + 2) % cohort.clients;
                                       std::swap(told.members[one], told.members[two]);
                                       told.shown = {one, two};
                                     }),
              HasCodeAndText(Code::kAborted, "not in its order"));
}

TEST(CompleteAttack, 22_PeerListThatIsNotTheWholeRosterEndsTheSession) {
  AttackedCohort cohort(22, ShapeOf(7));
  EXPECT_THAT(cohort.Lie(kVictim, kComplete.shares,
                         [](Bytes& body) {
                           // One index less in the list of choosers.
                           body[body.size() - 6 * 4 - 1] = 5;
                           body.erase(body.end() - 4, body.end());
                         }),
              HasCode(Code::kInvalidArgument));
}

TEST_P(Attack, 23_PeersPointOfLowOrderEndsTheSession) {
  for (const uint8_t first : {uint8_t{0}, uint8_t{1}}) {  // u = 0 and u = 1
    for (const bool channel : {true, false}) {
      AttackedCohort cohort(23, GetParam());
      EXPECT_THAT(cohort.LieAboutMembers(kVictim,
                                         [&](AttackedCohort::Told& told) {
                                           told.shown = {cohort.IndexOf(1)};
                                           Advertise& peer = told.members[cohort.IndexOf(1)];
                                           (channel ? peer.c : peer.s) = PublicKey{first};
                                           peer.signature =
                                               cohort.SignAs(1, AdvertiseMessage(peer));
                                         }),
                  HasCodeAndText(Code::kAborted, "low order"));
    }
  }
}

TEST_P(Attack, 24_RosterLargerThanAgreedIsRefused) {
  const uint32_t clients = ShapeOf(GetParam()).clients;
  for (const uint32_t n : {clients + 1, limits::kCohortMax + 1, UINT32_MAX}) {
    AttackedCohort cohort(24, GetParam());
    EXPECT_THAT(cohort.Lie(kVictim, rows().roster,
                           [n](Bytes& body) {
                             const Bytes count = std::move(Writer().U32(n)).Take();
                             std::copy(count.begin(), count.end(), body.begin());
                           }),
                HasCode(Code::kInvalidArgument));
  }
}

TEST_P(Attack, 25_UnmaskingIsAnsweredOnce) {
  MaliciousServer server = Server(25);
  server.Run();
  ASSERT_TRUE(server.Answered(kVictim, rows().unmask));
  server.script.alive = [](size_t, size_t) { return false; };
  for (const size_t row : {rows().unmask, rows().survivors}) {
    server.Send(kVictim, server.QuestionOf(row, kVictim));
    EXPECT_THAT(server.status[kVictim], HasCode(Code::kFailedPrecondition));
  }
}

}  // namespace
}  // namespace chorus::aggregation
