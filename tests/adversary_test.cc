// The attacks of a lying server, numbered as in the specification [3.15], and what must happen.
// A cohort of ten with one colluder unless said otherwise: k = 9, t = 6, a = 6. Every client is
// under the monitor's eyes throughout. Clients' attacks are in adversary_clients_test.cc, those
// on the layers above in adversary_layers_test.cc.
//
// What takes another form in a complete graph, or none:
//   8, 22  Everybody is everybody's neighbour by the roster; only Deliver can cut an edge.
//   10     One message shows the root, so a client never sees two to keep as evidence.
//   12     Certified colluders are part of malicious_server_test.cc.
//   21     There are no one-sided choices; an edge to who never dealt is the same lie.
//   24     There is no in-degree to flood; the roster's size is what can be too large.
//   39     There is no Choose list; the list of shares takes its place, among the tests of 31.
//   T1..   These are attacks on OSA's committee, which this protocol has not.
#include "malicious_server.h"

namespace chorus::aggregation {
namespace {

constexpr size_t kVictim = 4;

MaliciousServer ServerOfTen(uint64_t seed) { return {seed, ShapeOf(10), 1}; }

// --- who survived ------------------------------------------------------------------------------
TEST(Attack, 01_AliveToSomeDroppedToOthers) {
  for (size_t told_alive = 0; told_alive < 9; ++told_alive) {
    MaliciousServer server = ServerOfTen(told_alive);
    server.script.alive = [&](size_t holder, size_t owner) {
      return owner != kVictim || holder <= told_alive + (holder > kVictim ? 1 : 0);
    };
    server.Run();
    EXPECT_FALSE(server.Knows(kVictim, Fate::kAlive) && server.Knows(kVictim, Fate::kDropped))
        << told_alive << " holders were told that it is alive";
    for (const Learned& set : server.Learn()) EXPECT_GE(set.clients.size(), set.honest_min);
  }
}

TEST(Attack, 02_OwnerAliveAndDroppedAtOnce) {
  AttackedCohort cohort(2);
  EXPECT_THAT(cohort.Lie(kVictim, kComplete.acks,
                         [](Bytes& body) {
                           std::vector<Survivor> entries = *DecodeSurvivors(body, 7);
                           entries.insert(entries.begin() + 1, entries[0]);
                           entries[1].fate = Fate::kDropped;
                           body = EncodeSurvivors(entries);
                         }),
              HasCode(Code::kInvalidArgument));
  EXPECT_FALSE(cohort.sent.contains({kComplete.acks, kVictim}));
}

TEST(Attack, 03_SecondSurvivors) {
  AttackedCohort cohort(3);
  const Status status = cohort.Lie(kVictim, kComplete.unmask, [&](Bytes& body) {
    std::vector<Survivor> entries = *DecodeSurvivors(cohort.asked[{kComplete.acks, kVictim}], 7);
    entries[0].fate = Fate::kDropped;
    body = EncodeSurvivors(entries);
  });
  EXPECT_FALSE(status.ok());
  EXPECT_FALSE(cohort.sent.contains({kComplete.unmask, kVictim}));
  EXPECT_THAT(cohort.run, IsOk()) << "the others go on";
}

TEST(Attack, 04_SurvivorsNameTheReceiverOrAStranger) {
  for (const bool itself : {true, false}) {
    MaliciousServer server = ServerOfTen(4);
    // The stranger's shares never reached the victim.
    server.script.delivers = [](size_t to, size_t from) { return to != kVictim || from != 9; };
    server.script.tamper = [&](size_t step, size_t to, Bytes& body) {
      if (step != kComplete.acks || to != kVictim) return;
      std::vector<Survivor> entries = *DecodeSurvivors(body, 10);
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
    EXPECT_FALSE(server.Answered(kVictim, kComplete.acks)) << "itself: " << itself;
    EXPECT_TRUE(server.Answered(kVictim + 1, kComplete.unmask));
  }
}

TEST(Attack, 04_SurvivorsLeaveAnOwnerOut) {
  AttackedCohort cohort(4);
  EXPECT_THAT(cohort.Lie(kVictim, kComplete.acks,
                         [](Bytes& body) {
                           std::vector<Survivor> entries = *DecodeSurvivors(body, 7);
                           entries.erase(entries.begin() + 2);
                           body = EncodeSurvivors(entries);
                         }),
              HasCode(Code::kAborted));
}

// --- order of rows -----------------------------------------------------------------------------
TEST(Attack, 05_RowsOutOfTurn) {
  for (size_t due = kComplete.keys; due <= kComplete.unmask; ++due) {
    for (size_t other = kComplete.keys; other <= kComplete.unmask; ++other) {
      if (other == due) continue;
      // The questions of a whole session first, so that later rows can come early.
      MaliciousServer server = ServerOfTen(5);
      std::map<size_t, Bytes> questions;
      server.script.tamper = [&](size_t step, size_t to, Bytes& body) {
        if (to == kVictim) questions[step] = body;
      };
      server.Run();
      MaliciousServer again = ServerOfTen(5);
      again.script.tamper = [&](size_t step, size_t to, Bytes& body) {
        if (to == kVictim && step == due) body = questions[other];
      };
      again.Run();
      EXPECT_TRUE(due == 0 || again.Answered(kVictim, due - 1));
      EXPECT_FALSE(again.Answered(kVictim, due)) << "row " << other << " in place of " << due;
      EXPECT_FALSE(again.status[kVictim].ok());
    }
  }
}

TEST(Attack, 06_AcknowledgementsRepeatedOrOfAnotherOwner) {
  const auto lie = [](const std::function<void(AckSet&)>& change) {
    AttackedCohort cohort(6);  // seven clients: t = 4
    Status status = cohort.Lie(kVictim, kComplete.unmask, [&](Bytes& body) {
      AckSet acks = *DecodeAckSet(body, 7);
      change(acks);
      body = EncodeAckSet(acks);
    });
    EXPECT_EQ(cohort.sent.contains({kComplete.unmask, kVictim}), status.ok());
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

TEST(Attack, 06_AcknowledgementsOfAnotherSession) {
  MaliciousServer before = ServerOfTen(6);
  Bytes old;
  before.script.tamper = [&](size_t step, size_t to, Bytes& body) {
    if (step == kComplete.unmask && to == kVictim) old = body;
  };
  before.Run();
  MaliciousServer server = ServerOfTen(6);  // the same members with the same keys
  server.script.world = [](size_t) { return 1; };
  server.script.tamper = [&](size_t step, size_t to, Bytes& body) {
    if (step == kComplete.unmask && to == kVictim) body = old;
  };
  server.Run();
  EXPECT_THAT(server.status[kVictim], HasCode(Code::kAborted));
  EXPECT_TRUE(server.Answered(kVictim + 1, kComplete.unmask));
}

// The victim opened six ciphertexts. Of these one holder does not acknowledge it; the three whose
// ciphertexts were spoilt do, and count for nothing.
TEST(Attack, 07_AcknowledgementsOfOneSidedHolders) {
  for (const bool sixth : {true, false}) {
    MaliciousServer server = ServerOfTen(7);
    server.script.spoils = [](size_t to, size_t from) { return to == kVictim && from >= 7; };
    server.script.alive = [&](size_t holder, size_t owner) {
      return sixth || holder != 1 || owner != kVictim;
    };
    server.Run();
    EXPECT_EQ(server.Failed(kVictim), (std::set<size_t>{7, 8, 9}));
    EXPECT_EQ(server.Answered(kVictim, kComplete.unmask), sixth);
  }
}

// --- edges -------------------------------------------------------------------------------------
// The bound is met: six honest clients among themselves, and no fewer.
TEST(Attack, 08_AllNeighboursDroppedButThreshold) {
  for (const size_t honest : {6, 5}) {
    MaliciousServer server = ServerOfTen(8);
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

// Three honest clients are cut off from one victim, and hold its shares all the same. Without its
// edge tag they refuse it, so they help nobody to open it.
TEST(Attack, 08_HoldersThatTheOwnerNeverMaskedWith) {
  MaliciousServer server = ServerOfTen(8);
  server.script.delivers = [](size_t to, size_t from) { return to != kVictim || from < 7; };
  server.Run();
  for (const size_t holder : {7, 8, 9}) {
    EXPECT_FALSE(server.Acknowledges(holder, kVictim));
    EXPECT_TRUE(server.Answered(holder, kComplete.unmask));
    EXPECT_FALSE(server.Gave(holder, kVictim));
  }
  for (const size_t holder : {1, 2, 3}) {
    EXPECT_TRUE(server.Acknowledges(holder, kVictim));
    EXPECT_TRUE(server.Gave(holder, kVictim));
  }
  for (const Learned& set : server.Learn()) EXPECT_GE(set.clients.size(), set.honest_min);
}

TEST(Attack, 09_PeersKeyReplaced) {
  for (const bool channel : {true, false}) {
    AttackedCohort cohort(9);
    const PublicKey mine = crypto::X25519Public(cohort.Secret("middle", 0).Reveal());
    EXPECT_THAT(cohort.Lie(kVictim, kComplete.shares,
                           [&](Bytes& body) {
                             std::vector<Advertise> members = cohort.Members();
                             Advertise& peer = members[cohort.IndexOf(1)];
                             (channel ? peer.c : peer.s) = mine;
                             body = cohort.Forge(members, cohort.IndexOf(kVictim));
                           }),
                HasCodeAndText(Code::kAborted, "did not sign"));
    EXPECT_FALSE(cohort.sent.contains({kComplete.shares, kVictim}));
  }
}

TEST(Attack, 10_TwoRosters) {
  MaliciousServer server = ServerOfTen(10);
  server.script.lists = [](size_t to, size_t about) { return about != (to < 5 ? 8U : 9U); };
  server.Run();
  for (size_t client = 1; client < 10; ++client) {
    EXPECT_TRUE(server.Answered(client, kComplete.shares));
    EXPECT_FALSE(server.Uploaded(client)) << "nothing opens across the two sessions";
  }
  EXPECT_TRUE(server.Learn().empty());
}

TEST(Attack, 11_RosterWithDuplicates) {
  // 0: an identity, 1: a peer's key, 2: the receiver's own key, 3: the receiver twice.
  for (int what = 0; what < 4; ++what) {
    AttackedCohort cohort(11);
    const Status status = cohort.Lie(kVictim, kComplete.shares, [&](Bytes& body) {
      std::vector<Advertise> members = cohort.Members();
      const Index me = cohort.IndexOf(kVictim);
      Advertise& copy = members[cohort.IndexOf(1)];
      if (what == 0) copy.id = cohort.IdOf(2);
      if (what == 1) copy.s = members[cohort.IndexOf(2)].s;
      if (what == 2) copy.s = members[me].c;
      if (what == 3) copy = members[me];
      copy.signature = cohort.SignAs(what == 0 ? 2 : 1, AdvertiseMessage(copy));
      if (what == 3) copy.signature = members[me].signature;
      body = cohort.Forge(members, me);
    });
    EXPECT_THAT(status, HasCode(Code::kAborted)) << what;
    EXPECT_FALSE(cohort.sent.contains({kComplete.shares, kVictim})) << what;
  }
}

TEST(Attack, 12_UncertifiedSybils) {
  AttackedCohort cohort(12);
  const SecretBytes sybil = cohort.Secret("sybil", 0);
  cohort.verifier.refused.insert(crypto::Ed25519Public(sybil.Reveal()));
  EXPECT_THAT(cohort.Lie(kVictim, kComplete.shares,
                         [&](Bytes& body) {
                           std::vector<Advertise> members = cohort.Members();
                           Advertise& peer = members[cohort.IndexOf(1)];
                           peer.id = crypto::Ed25519Public(sybil.Reveal());
                           peer.signature =
                               crypto::Ed25519Sign(sybil.Reveal(), AdvertiseMessage(peer));
                           body = cohort.Forge(members, cohort.IndexOf(kVictim));
                         }),
              HasCodeAndText(Code::kAborted, "not certified"));
}

// --- what clients agree to ---------------------------------------------------------------------
TEST(Attack, 13_TinyCohort) {
  const auto forged = [](uint32_t size, uint32_t honest_min) {
    AttackedCohort cohort(13);
    ContributorOptions options = cohort.OptionsFor(kVictim);
    options.honest_min = honest_min;
    cohort.contributors[kVictim] = *NewContributor(std::move(options));
    return cohort.Lie(kVictim, kComplete.shares, [&](Bytes& body) {
      std::vector<Advertise> members = cohort.Members();
      const Advertise mine = members[cohort.IndexOf(kVictim)];
      while (members.size() > size) {
        members.erase(members.begin() + (members.front().id == mine.id ? 1 : 0));
      }
      Index me = 0;
      while (members[me].id != mine.id) ++me;
      body = cohort.Forge(members, me);
    });
  };
  EXPECT_THAT(forged(2, 1), HasCodeAndText(Code::kPermissionDenied, "smaller than agreed"));
  EXPECT_THAT(forged(7, 5), HasCodeAndText(Code::kPermissionDenied, "too few honest"));
  EXPECT_THAT(forged(7, 4), IsOk());
}

// The status of a client that is offered changed parameters, correctly signed.
Status Offered(const std::function<void(SessionParams&)>& change) {
  AttackedCohort cohort(14);
  const Status status = cohort.Lie(kVictim, kComplete.keys, [&](Bytes& body) {
    SessionParams params = cohort.params;
    change(params);
    body = MakeOffer(params, cohort.signing_seed.Reveal());
  });
  EXPECT_EQ(cohort.sent.contains({kComplete.keys, kVictim}), status.ok());
  return status;
}

TEST(Attack, 14_WeakerAssumptionsThanThePolicys) {
  EXPECT_THAT(Offered([](SessionParams&) {}), IsOk());
  EXPECT_THAT(Offered([](SessionParams& p) { --p.gamma_ppm; }), HasCode(Code::kPermissionDenied));
  EXPECT_THAT(Offered([](SessionParams& p) { --p.delta_ppm; }), HasCode(Code::kPermissionDenied));
  EXPECT_FALSE(Offered([](SessionParams& p) { --p.sigma; }).ok());
  EXPECT_FALSE(Offered([](SessionParams& p) { p.mode = 2; }).ok());
}

TEST(Attack, 15_AnotherModelToOneClient) {
  const auto other = [](SessionParams& p) { p.model_hash[0] ^= 1; };
  EXPECT_THAT(Offered(other), HasCode(Code::kPermissionDenied)) << "not what it trained on";
  // One that trained on the other model accepts it, and is in another session than its peers.
  AttackedCohort cohort(15);
  ContributorOptions options = cohort.OptionsFor(kVictim);
  other(options.expected);
  cohort.contributors[kVictim] = *NewContributor(std::move(options));
  EXPECT_THAT(cohort.Lie(kVictim, kComplete.keys,
                         [&](Bytes& body) {
                           SessionParams params = cohort.params;
                           other(params);
                           body = MakeOffer(params, cohort.signing_seed.Reveal());
                         }),
              IsOk());
  EXPECT_THAT(cohort.hear_status[kVictim], HasCode(Code::kInvalidArgument));
  EXPECT_NE(DecodeAdvertise(cohort.sent[{kComplete.keys, kVictim}])->sid0,
            DecodeAdvertise(cohort.sent[{kComplete.keys, 0}])->sid0);
}

TEST(Attack, 26_ParamsThatOverflow) {
  EXPECT_THAT(Offered([](SessionParams& p) { p.bits = 12; }), HasCode(Code::kInvalidArgument));
  EXPECT_THAT(Offered([](SessionParams& p) { p.word_bytes = 8; }), HasCode(Code::kInvalidArgument));
  EXPECT_THAT(Offered([](SessionParams& p) { p.bound = UINT64_MAX / 2; }),
              HasCode(Code::kInvalidArgument));
}

TEST(Attack, 27_VectorOfAnotherLengthThanTheLayouts) {
  EXPECT_FALSE(Offered([](SessionParams& p) { --p.vec_len; }).ok());
  EXPECT_FALSE(Offered([](SessionParams& p) { ++p.vec_len; }).ok());
  EXPECT_FALSE(Offered([](SessionParams& p) { p.layout_hash[0] ^= 1; }).ok());
}

TEST(Attack, 28_OfferThatThePinnedKeyDidNotSign) {
  AttackedCohort cohort(28);
  const SecretBytes former = cohort.Secret("former key", 0);
  EXPECT_THAT(cohort.Lie(kVictim, kComplete.keys,
                         [&](Bytes& body) {
                           SessionParams params = cohort.params;
                           params.coordinator_id = crypto::Ed25519Public(former.Reveal());
                           body = MakeOffer(params, former.Reveal());
                         }),
              HasCode(Code::kUnauthenticated));
  AttackedCohort unsigned_offer(28);
  EXPECT_THAT(
      unsigned_offer.Lie(kVictim, kComplete.keys,
                         [](Bytes& body) { std::fill(body.end() - 64, body.end(), uint8_t{0}); }),
      HasCode(Code::kUnauthenticated));
}

// --- other sessions, spoilt and absent ciphertexts ---------------------------------------------
TEST(Attack, 19_ReplayOfAnOldSession) {
  for (const size_t row : {kComplete.shares, kComplete.input}) {
    MaliciousServer before = ServerOfTen(19);
    Bytes old;
    before.script.tamper = [&](size_t step, size_t to, Bytes& body) {
      if (step == row && to == kVictim) old = body;
    };
    before.Run();
    MaliciousServer server = ServerOfTen(19);  // the same members with the same keys
    server.script.world = [](size_t) { return 1; };
    server.script.tamper = [&](size_t step, size_t to, Bytes& body) {
      if (step == row && to == kVictim) body = old;
    };
    server.Run();
    EXPECT_FALSE(server.Answered(kVictim, row)) << row;
    EXPECT_TRUE(server.Answered(kVictim + 1, kComplete.unmask)) << "the others go on";
  }
}

TEST(Attack, 20_CiphertextsSpoiltToStripMasks) {
  for (const size_t spoilt : {3, 4}) {  // k - t = 3
    MaliciousServer server = ServerOfTen(20);
    server.script.spoils = [&](size_t to, size_t from) {
      return to == kVictim && from >= 10 - spoilt;
    };
    server.Run();
    EXPECT_EQ(server.Uploaded(kVictim), spoilt == 3);
    if (spoilt != 3) continue;
    EXPECT_EQ(server.Failed(kVictim), (std::set<size_t>{7, 8, 9}));
    EXPECT_FALSE(server.Acknowledges(kVictim, 9)) << "it holds no share to speak for";
    const std::vector<Learned> sets = server.Learn();
    ASSERT_EQ(sets.size(), 1U);
    EXPECT_EQ(sets[0].clients.size(), 9U) << "the masks stayed: all open together or not at all";
    EXPECT_TRUE(sets[0].exact);
  }
}

// Client 9 never dealt anything; the server names it as a neighbour all the same.
TEST(Attack, 21_EdgesToWhoNeverDealt) {
  MaliciousServer server = ServerOfTen(21);
  server.script.asks = [](size_t step, size_t to) { return to != 9 || step == kComplete.keys; };
  server.script.delivers = [](size_t to, size_t from) { return from != 9 || to == kVictim; };
  server.Run();
  EXPECT_EQ(server.Failed(kVictim), (std::set<size_t>{9}));
  EXPECT_TRUE(server.Answered(kVictim, kComplete.unmask));
  EXPECT_TRUE(server.Learn().empty()) << "a mask that nobody can open stays in the only sum";
}

TEST(Attack, 22_PeerListThatIsNotTheWholeRoster) {
  for (const bool short_list : {true, false}) {
    AttackedCohort cohort(22);
    EXPECT_THAT(cohort.Lie(kVictim, kComplete.shares,
                           [&](Bytes& body) {
                             std::vector<Advertise> members = cohort.Members();
                             const Index me = cohort.IndexOf(kVictim);
                             if (!short_list) {
                               std::swap(members[(me + 1) % 7], members[(me + 2) % 7]);
                               body = cohort.Forge(members, me);
                               return;
                             }
                             // One index less in the list of choosers.
                             body[body.size() - 6 * 4 - 1] = 5;
                             body.erase(body.end() - 4, body.end());
                           }),
                HasCode(short_list ? Code::kInvalidArgument : Code::kAborted));
  }
}

TEST(Attack, 23_PeersPointOfLowOrder) {
  for (const uint8_t first : {uint8_t{0}, uint8_t{1}}) {  // u = 0 and u = 1
    for (const bool channel : {true, false}) {
      AttackedCohort cohort(23);
      EXPECT_THAT(cohort.Lie(kVictim, kComplete.shares,
                             [&](Bytes& body) {
                               std::vector<Advertise> members = cohort.Members();
                               Advertise& peer = members[cohort.IndexOf(1)];
                               (channel ? peer.c : peer.s) = PublicKey{first};
                               peer.signature = cohort.SignAs(1, AdvertiseMessage(peer));
                               body = cohort.Forge(members, cohort.IndexOf(kVictim));
                             }),
                  HasCodeAndText(Code::kAborted, "low order"));
    }
  }
}

TEST(Attack, 24_RosterLargerThanAgreed) {
  for (const uint32_t n : {8U, 129U, UINT32_MAX}) {
    AttackedCohort cohort(24);
    EXPECT_THAT(cohort.Lie(kVictim, kComplete.shares,
                           [n](Bytes& body) {
                             const Bytes count = std::move(Writer().U32(n)).Take();
                             std::copy(count.begin(), count.end(), body.begin());
                           }),
                HasCode(Code::kInvalidArgument));
  }
}

TEST(Attack, 25_UnmaskingTwice) {
  MaliciousServer server = ServerOfTen(25);
  server.Run();
  ASSERT_TRUE(server.Answered(kVictim, kComplete.unmask));
  server.script.alive = [](size_t, size_t) { return false; };
  for (const size_t row : {kComplete.unmask, kComplete.acks}) {
    server.Send(kVictim, server.QuestionOf(row, kVictim));
    EXPECT_THAT(server.status[kVictim], HasCode(Code::kFailedPrecondition));
  }
}

}  // namespace
}  // namespace chorus::aggregation
