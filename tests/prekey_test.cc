// Pre-keys: keys made ahead of the session, that spare a client the keys step [specification 3.2].
#include "base/limits.h"
#include "matchers.h"
#include "prekey_cohort.h"

namespace chorus::aggregation {
namespace {

// --- sums ----------------------------------------------------------------------------------------

struct Mixture {
  SharingGraph graph;
  uint32_t clients;
  size_t stride;  // which clients make pre-keys
};

class PreKeysIn : public testing::TestWithParam<Mixture> {};

TEST_P(PreKeysIn, GiveTheExactSumAndSpareTheKeysStep) {
  const Mixture mixture = GetParam();
  PreKeyCohort cohort =
      PreKeyCohort::With(11, ShapeOf(mixture.graph, mixture.clients), mixture.stride);
  const size_t upload =
      static_cast<size_t>(std::ranges::find(Steps(Protocol::kSecAgg, mixture.graph), Step::kInput) -
                          Steps(Protocol::kSecAgg, mixture.graph).begin());
  cohort.DropOut(0, upload);      // made pre-keys; its mask key is opened
  cohort.DropOut(1, upload + 1);  // did or did not; its input is in the sum
  const Bytes offer = cohort.Offer();
  size_t asked_for_keys = 0;
  cohort.on_question = [&](Where where, Bytes& body) {
    if (where.step == 0) ++asked_for_keys;
    const bool has = cohort.made.contains(where.client);
    EXPECT_FALSE(where.step == 0 && has) << where.client;
    const bool behind_offer =
        body.size() > offer.size() && std::equal(offer.begin(), offer.end(), body.begin());
    EXPECT_EQ(behind_offer, where.step == 1 && has) << where.client << " in " << where.step;
    return true;
  };
  const Result<Sum> sum = cohort.Run();
  ASSERT_THAT(sum, IsOk());
  EXPECT_EQ(asked_for_keys, mixture.clients - cohort.made.size());
  EXPECT_EQ(sum->contributors, mixture.clients - 1);
  EXPECT_EQ(cohort.Values(*sum), cohort.Expected(AllBut(mixture.clients, {0})));
  EXPECT_TRUE(cohort.blame.empty());
}

INSTANTIATE_TEST_SUITE_P(EveryGraph, PreKeysIn,
                         testing::Values(Mixture{SharingGraph::kComplete, 12, 1},
                                         Mixture{SharingGraph::kComplete, 13, 3},
                                         Mixture{SharingGraph::kSelfSelected, 192, 2},
                                         Mixture{SharingGraph::kHarary, 48, 1},
                                         Mixture{SharingGraph::kHarary, 48, 2}));

TEST(PreKeys, GiveTheSumThatKeysAskedForGive) {
  Cohort plain(12);
  const Result<Sum> asked = plain.Run();
  PreKeyCohort cohort = PreKeyCohort::With(12, {}, 1);
  const Result<Sum> spared = cohort.Run();
  ASSERT_THAT(asked, IsOk());
  ASSERT_THAT(spared, IsOk());
  EXPECT_EQ(plain.Values(*asked), cohort.Values(*spared));
}

TEST(PreKeys, OfEverybodyLeaveTheKeysStepNobodyToAsk) {
  PreKeyCohort cohort = PreKeyCohort::With(13, {}, 1);
  ASSERT_THAT(cohort.Begin(), IsOk());
  EXPECT_THAT(cohort.aggregator->Ask(), HoldsValue(testing::IsEmpty()));
  EXPECT_THAT(cohort.aggregator->Body(Cohort::kFirstParty), HasCode(Code::kNotFound));
  EXPECT_THAT(cohort.aggregator->Hear(Cohort::kFirstParty, Bytes(10)), HasCode(Code::kNotFound));
  EXPECT_THAT(cohort.aggregator->Close(), IsOk());
}

// --- the record ----------------------------------------------------------------------------------

TEST(PreKeyRecord, IsSignedOverItsFieldsUnderItsOwnLabel) {
  const SecretBytes seed(Bytes(32, 7));
  const Bytes evidence = {9, 8, 7};
  const auto rng = crypto::NewSeededRng(Bytes(32, 3));
  const Result<PreKeys> keys =
      MakePreKeys({.identity_seed = seed.Reveal(), .evidence = evidence, .not_after = kNow}, *rng);
  ASSERT_THAT(keys, IsOk());
  EXPECT_EQ(crypto::X25519Public(keys->c_secret.Reveal()), keys->c);
  EXPECT_EQ(crypto::X25519Public(keys->s_secret.Reveal()), keys->s);
  const PublicKey id = crypto::Ed25519Public(seed.Reveal());
  // Written out byte by byte: u64be(not_after), and H_L of five fields.
  Bytes words = {0, 14};
  const auto add = [&words](BytesView bytes) {
    words.insert(words.end(), bytes.begin(), bytes.end());
  };
  add(ViewOf("CHORUS1/prekey"));
  add(Bytes{0, 0, 0, 5});
  const Bytes time = {0, 0, 0, 0, 0x6B, 0x49, 0xD2, 0x00};
  const Digest shown = crypto::Sha256(evidence);
  for (const BytesView field : {BytesView(id), BytesView(keys->c), BytesView(keys->s)}) {
    add(Bytes{0, 0, 0, 32});
    add(field);
  }
  add(Bytes{0, 0, 0, 8});
  add(time);
  add(Bytes{0, 0, 0, 32});
  add(shown);
  const Signature signature = crypto::Ed25519Sign(seed.Reveal(), crypto::Sha256(words));
  const Bytes record = std::move(Writer()
                                     .Raw(id)
                                     .Raw(keys->c)
                                     .Raw(keys->s)
                                     .Raw(time)
                                     .Raw(Bytes{0, 3, 9, 8, 7})
                                     .Raw(signature))
                           .Take();
  EXPECT_EQ(keys->record, record);
}

TEST(PreKeyRecord, HasOneEncodingAndABound) {
  PreKeyRecord record;
  record.evidence.resize(limits::kEvidenceBytesMax, 5);
  const Bytes largest = Encode(record);
  EXPECT_EQ(largest.size(), kPreKeyRecordBytesMax);
  ASSERT_THAT(DecodePreKeyRecord(largest), IsOk());
  EXPECT_EQ(Encode(*DecodePreKeyRecord(largest)), largest);
  record.evidence.push_back(5);
  EXPECT_THAT(DecodePreKeyRecord(Encode(record)), HasCode(Code::kInvalidArgument));
  record.evidence = {1, 2};
  Bytes bytes = Encode(record);
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_FALSE(DecodePreKeyRecord(BytesView(bytes).first(size)).ok()) << size;
  }
  bytes.push_back(0);
  EXPECT_FALSE(DecodePreKeyRecord(bytes).ok());
}

TEST(PreKeyRecord, IsNotMadeOfWhatCannotBe) {
  const auto rng = crypto::NewSeededRng(Bytes(32, 3));
  const Bytes seed(32, 7);
  const Bytes evidence(limits::kEvidenceBytesMax + 1);
  EXPECT_THAT(MakePreKeys({.identity_seed = BytesView(seed).first(31)}, *rng),
              HasCode(Code::kInvalidArgument));
  EXPECT_THAT(MakePreKeys({.identity_seed = seed, .evidence = evidence}, *rng),
              HasCode(Code::kInvalidArgument));
  EXPECT_THAT(MakePreKeys({.identity_seed = seed, .not_after = -1}, *rng),
              HasCode(Code::kInvalidArgument));
}

TEST(PreKeyRecord, LivesForADayAtMost) {
  const auto ok = [](uint64_t not_after, int64_t now, int64_t skew) {
    return CheckPreKeyLife(not_after, now, std::chrono::seconds(skew)).ok();
  };
  const auto at = [](int64_t seconds) { return static_cast<uint64_t>(kNow + seconds); };
  EXPECT_TRUE(ok(at(0), kNow, 0));
  EXPECT_FALSE(ok(at(-1), kNow, 0));
  EXPECT_TRUE(ok(at(24 * kHour), kNow, 0));
  EXPECT_FALSE(ok(at(24 * kHour + 1), kNow, 0));
  EXPECT_TRUE(ok(at(-kHour), kNow, kHour));
  EXPECT_FALSE(ok(at(-kHour - 1), kNow, kHour));
  EXPECT_TRUE(ok(at(25 * kHour), kNow, kHour));
  EXPECT_FALSE(ok(at(25 * kHour + 1), kNow, kHour));
  EXPECT_FALSE(ok(UINT64_MAX, kNow, kHour));
  EXPECT_FALSE(ok(UINT64_MAX, INT64_MIN, kHour));
  EXPECT_FALSE(ok(0, INT64_MAX, kHour));
}

// --- at the coordinator --------------------------------------------------------------------------

// What is wrong with a record; given the cohort and the record of kVictim as it was made.
using Spoil = std::function<Bytes(PreKeyCohort&, PreKeyRecord)>;

// Runs a cohort of five with pre-keys, the victim's spoilt: it is asked for keys like one without,
// and nothing else happens.
void ExpectAskedInstead(const char* what, const Spoil& spoil) {
  SCOPED_TRACE(what);
  PreKeyCohort cohort = PreKeyCohort::With(14, {}, 1);
  cohort.RecordOf(kVictim) = spoil(cohort, cohort.made[kVictim]);
  std::set<size_t> asked;
  cohort.on_question = [&](Where where, Bytes& body) {
    if (where.step == 0) {
      asked.insert(where.client);
      EXPECT_EQ(body, cohort.Offer());
    }
    return true;
  };
  const Result<Sum> sum = cohort.Run();
  ASSERT_THAT(sum, IsOk());
  EXPECT_EQ(asked, std::set<size_t>{kVictim});
  EXPECT_EQ(sum->contributors, 5U);
  EXPECT_EQ(cohort.Values(*sum), cohort.Expected(AllBut(5)));
}

PublicKey LowOrder() {
  PublicKey one{};  // u = 1 has order 4
  one[0] = 1;
  return one;
}

TEST(PreKeys, ThatAreNotSoundAreAskedForInstead) {
  ExpectAskedInstead("cut short", [](auto& cohort, const PreKeyRecord& record) {
    Bytes bytes = cohort.Signed(kVictim, record);
    bytes.pop_back();
    return bytes;
  });
  ExpectAskedInstead("of no bytes", [](auto&, const PreKeyRecord&) { return Bytes(); });
  ExpectAskedInstead("too long", [](auto& cohort, PreKeyRecord record) {
    record.evidence.resize(limits::kEvidenceBytesMax + 1);
    return cohort.Signed(kVictim, record);
  });
  ExpectAskedInstead("expired", [](auto& cohort, PreKeyRecord record) {
    record.not_after = kNow - 1;
    return cohort.Signed(kVictim, record);
  });
  ExpectAskedInstead("too long a life", [](auto& cohort, PreKeyRecord record) {
    record.not_after = kNow + 24 * kHour + 1;
    return cohort.Signed(kVictim, record);
  });
  ExpectAskedInstead("unsigned time", [](auto&, PreKeyRecord record) {
    ++record.not_after;
    return Encode(record);
  });
  ExpectAskedInstead("signed by another", [](auto& cohort, const PreKeyRecord& record) {
    return cohort.Signed(kVictim + 1, record);
  });
  ExpectAskedInstead("signed as an advertisement", [](auto& cohort, PreKeyRecord record) {
    const Digest message =
        AdvertiseMessage({{}, record.id, record.c, record.s, record.evidence, {}});
    record.signature = crypto::Ed25519Sign(cohort.identities[kVictim].Reveal(), message);
    return Encode(record);
  });
}

TEST(PreKeys, WithKeysThatNoAdvertiseMayHaveAreAskedForInstead) {
  ExpectAskedInstead("C = S", [](auto& cohort, PreKeyRecord record) {
    record.c = record.s;
    return cohort.Signed(kVictim, record);
  });
  for (const bool channel : {true, false}) {
    ExpectAskedInstead("low order", [channel](auto& cohort, PreKeyRecord record) {
      (channel ? record.c : record.s) = LowOrder();
      return cohort.Signed(kVictim, record);
    });
    ExpectAskedInstead("another encoding", [channel](auto& cohort, PreKeyRecord record) {
      (channel ? record.c : record.s)[31] |= 0x80;
      return cohort.Signed(kVictim, record);
    });
    ExpectAskedInstead("somebody else's key", [channel](auto& cohort, PreKeyRecord record) {
      (channel ? record.c : record.s) = cohort.made[0].s;
      return cohort.Signed(kVictim, record);
    });
  }
  ExpectAskedInstead("an identity that is there already", [](auto& cohort, const PreKeyRecord&) {
    return cohort.Signed(0, cohort.made[0]);
  });
}

TEST(PreKeys, OfAnIdentityThatNobodyVouchesForAreNotTaken) {
  PreKeyCohort cohort = PreKeyCohort::With(15, ShapeOf(SharingGraph::kComplete, 7), 1);
  cohort.verifier.refused.insert(cohort.made[kVictim].id);
  const Result<Sum> sum = cohort.Run();
  ASSERT_THAT(sum, IsOk());
  EXPECT_EQ(cohort.Values(*sum), cohort.Expected(AllBut(7, {kVictim})));
}

TEST(PreKeys, OfAnotherSessionAreRefused) {
  SeenKeys seen(1'000);
  PreKeyCohort first = PreKeyCohort::With(16, {}, 1);
  first.seen_keys = &seen;
  ASSERT_THAT(first.Run(), IsOk());

  // The same records again; the second's clients have drawn others since.
  PreKeyCohort second = PreKeyCohort::With(17, {}, 1);
  second.seen_keys = &seen;
  second.prekeys = first.prekeys;
  ASSERT_THAT(second.Begin(), IsOk());
  EXPECT_THAT(second.aggregator->Ask(), HoldsValue(testing::SizeIs(5))) << "all are asked";
}

TEST(PreKeys, BelongToPartiesOncePerParty) {
  PreKeyCohort cohort = PreKeyCohort::With(18, {}, 1);
  cohort.prekeys.push_back(cohort.prekeys.front());
  EXPECT_THAT(cohort.Begin(), HasCode(Code::kInvalidArgument));
  cohort.prekeys.back().from = Cohort::kFirstParty + 5;
  EXPECT_THAT(cohort.Begin(), HasCode(Code::kInvalidArgument));
  cohort.prekeys.pop_back();
  EXPECT_THAT(cohort.Begin(), IsOk());
}

// --- at the peers --------------------------------------------------------------------------------

// Changes the record of one peer in what the victim is asked for shares, in whatever graph.
void ChangeAPeer(SharingGraph graph, const std::function<void(Peer&)>& change, Bytes& body) {
  const size_t start = body.size() > kOfferBytes && body[0] == 'C' ? kOfferBytes : 0;
  const BytesView rest = BytesView(body).subspan(start);
  std::vector<Bytes> records(1'024);
  const auto spoil = [&](std::vector<Peer>& peers) {
    change(peers.front());
    for (const Peer& peer : peers) records[peer.index] = EncodePeer(peer);
  };
  Bytes changed;
  if (graph == SharingGraph::kSelfSelected) {
    Peers peers = *DecodePeers(rest, 160);
    spoil(peers.records);
    changed = EncodePeers(peers.out, peers.in, records);
  } else {
    RosterAndPeers roster =
        graph == SharingGraph::kHarary ? *DecodeRing(rest, 1'024) : *DecodeRoster(rest, 128);
    spoil(roster.peers);
    std::vector<Index> neighbours;
    for (const Peer& peer : roster.peers) neighbours.push_back(peer.index);
    changed = EncodeRing(roster, neighbours, records);
  }
  body.resize(start);
  body.insert(body.end(), changed.begin(), changed.end());
}

// What the victim says when the record of one of its peers is changed.
Status WithAPeerChanged(SharingGraph graph, size_t stride, std::function<void(Peer&)> change) {
  const uint32_t clients = graph == SharingGraph::kSelfSelected ? 160
                           : graph == SharingGraph::kHarary     ? 32
                                                                : 7;
  PreKeyCohort cohort = PreKeyCohort::With(19, ShapeOf(graph, clients), stride);
  const size_t due = graph == SharingGraph::kSelfSelected ? 2 : 1;
  cohort.on_question = [&](Where where, Bytes& body) {
    if (where.step < due) return true;
    if (where.client != kVictim || where.step > due) return false;
    ChangeAPeer(graph, change, body);
    return true;
  };
  EXPECT_THAT(cohort.Run(), HasCode(Code::kAborted));
  return cohort.client_status[kVictim];
}

TEST(PreKeys, AreAKindOfPeerRecordAndThereIsNoThird) {
  Peer peer;
  peer.path.resize(crypto::MerklePathLength(0, 2));
  Bytes advertise = EncodePeer(peer);
  peer.not_after = 5;
  const Bytes prekey = EncodePeer(peer);
  EXPECT_EQ(advertise[0], 0U);
  EXPECT_EQ(prekey[0], 1U);
  EXPECT_EQ(prekey.size(), advertise.size() + 8);
  const auto decode = [](const Bytes& record) {
    const Index out[] = {0};
    return DecodePeers(EncodePeers(out, {}, std::span(&record, 1)), 2);
  };
  EXPECT_EQ(decode(advertise)->records[0].not_after, std::nullopt);
  EXPECT_EQ(decode(prekey)->records[0].not_after, std::optional<uint64_t>(5));
  for (const uint8_t kind : Bytes{2, 255}) {
    advertise[0] = kind;
    EXPECT_THAT(decode(advertise), HasCode(Code::kInvalidArgument));
  }
}

TEST(PreKeys, ChangedByTheCoordinatorEndTheSessionOfWhoIsShownThem) {
  for (const SharingGraph graph :
       {SharingGraph::kComplete, SharingGraph::kSelfSelected, SharingGraph::kHarary}) {
    SCOPED_TRACE(static_cast<int>(graph));
    EXPECT_THAT(WithAPeerChanged(graph, 1, [](Peer&) {}), IsOk());
    EXPECT_THAT(WithAPeerChanged(graph, 1, [](Peer& peer) { ++*peer.not_after; }),
                HasCodeAndText(Code::kAborted, "did not sign"));
    EXPECT_THAT(WithAPeerChanged(graph, 1, [](Peer& peer) { peer.not_after.reset(); }),
                HasCodeAndText(Code::kAborted, "did not sign"));
    EXPECT_THAT(WithAPeerChanged(graph, 1'000, [](Peer& peer) { peer.not_after = kNow; }),
                HasCodeAndText(Code::kAborted, "did not sign"));
    EXPECT_THAT(WithAPeerChanged(graph, 1, [](Peer& peer) { peer.evidence[0] ^= 1; }),
                HasCodeAndText(Code::kAborted, "did not sign"));
    EXPECT_THAT(WithAPeerChanged(graph, 1, [](Peer& peer) { peer.not_after = UINT64_MAX; }),
                HasCodeAndText(Code::kAborted, "expired or lives too long"));
  }
}

TEST(PreKeys, OfPeersAreJudgedByTheDevicesOwnClockWithSomeSkew) {
  // Records end at kNow + 24 h, which the coordinator just takes.
  const auto session = [](int64_t device_now) {
    PreKeyCohort cohort(20);
    for (size_t i = 0; i < 5; ++i) {
      if (i != kVictim) cohort.Give(i, kNow + 24 * kHour);
    }
    ContributorOptions options = cohort.OptionsFor(kVictim);
    options.unix_now = device_now;
    cohort.Renew(kVictim, std::move(options));
    cohort.on_question = [](Where where, Bytes&) {
      return where.step == 0 || (where.step == 1 && where.client == kVictim);
    };
    EXPECT_THAT(cohort.Run(), HasCode(Code::kAborted));
    return cohort.client_status[kVictim];
  };
  EXPECT_THAT(session(kNow + 25 * kHour), IsOk());
  EXPECT_THAT(session(kNow + 25 * kHour + 1), HasCodeAndText(Code::kAborted, "expired"));
  EXPECT_THAT(session(kNow - kHour), IsOk());
  EXPECT_THAT(session(kNow - kHour - 1), HasCodeAndText(Code::kAborted, "lives too long"));
}

TEST(PreKeys, OfPeersInASecondSessionAreRefusedByADevice) {
  SeenKeys seen(1'000);
  PreKeyCohort first = PreKeyCohort::With(21, {}, 1);
  first.Renew(kVictim, first.OptionsFor(kVictim));
  first.prekeys.erase(first.prekeys.begin() + kVictim);
  for (const bool again : {false, true}) {
    PreKeyCohort cohort = PreKeyCohort::With(21, {}, 1);  // of one seed: the same pre-keys
    cohort.prekeys.erase(cohort.prekeys.begin() + kVictim);
    cohort.rngs[kVictim] = crypto::NewSeededRng(Bytes(32, again ? 1 : 2));
    ContributorOptions options = cohort.OptionsFor(kVictim);
    options.seen_keys = &seen;
    cohort.Renew(kVictim, std::move(options));
    ASSERT_THAT(cohort.Run(), IsOk());
    if (again) {
      EXPECT_THAT(cohort.client_status[kVictim], HasCodeAndText(Code::kAborted, "another session"));
    } else {
      EXPECT_THAT(cohort.client_status[kVictim], IsOk());
    }
  }
}

// --- at their maker ------------------------------------------------------------------------------

// The first question to the victim in a cohort of five where everybody made pre-keys.
Bytes FirstQuestion(PreKeyCohort& cohort) {
  EXPECT_THAT(cohort.Begin(), IsOk());
  EXPECT_THAT(cohort.aggregator->Ask(), HoldsValue(testing::IsEmpty()));
  EXPECT_THAT(cohort.aggregator->Close(), IsOk());
  EXPECT_THAT(cohort.aggregator->Ask(), IsOk());
  return *cohort.aggregator->Body(Cohort::kFirstParty + kVictim);
}

TEST(PreKeys, ServeAfterTheSameChecksThatPrecedeAnAdvertise) {
  const auto says = [](const std::function<void(PreKeyCohort&, Bytes&)>& change) {
    PreKeyCohort cohort = PreKeyCohort::With(22, {}, 1);
    Bytes question = FirstQuestion(cohort);
    change(cohort, question);
    Contributor& client = *cohort.contributors[kVictim];
    const Status status = internal::StatusOf(client.Answer(question));
    if (!status.ok()) {
      EXPECT_TRUE(client.done());
      EXPECT_FALSE(client.Answer(FirstQuestion(cohort)).ok()) << "one session or none";
      EXPECT_FALSE(client.Answer(cohort.Offer()).ok());
    }
    return status;
  };
  EXPECT_THAT(says([](auto&, Bytes&) {}), IsOk());
  EXPECT_THAT(says([](auto&, Bytes& q) { q[40] ^= 1; }), HasCode(Code::kUnauthenticated));
  EXPECT_THAT(says([](auto& cohort, Bytes& q) {
                SessionParams other = cohort.params;
                ++other.round;
                const Bytes offer = MakeOffer(other, cohort.signing_seed.Reveal());
                std::copy(offer.begin(), offer.end(), q.begin());
              }),
              HasCodeAndText(Code::kPermissionDenied, "another round"));
  EXPECT_THAT(says([](auto& cohort, Bytes& q) {  // an offer of another session than the roster's
                SessionParams other = cohort.params;
                ++other.nonce[0];
                const Bytes offer = MakeOffer(other, cohort.signing_seed.Reveal());
                std::copy(offer.begin(), offer.end(), q.begin());
              }),
              HasCode(Code::kUnauthenticated));
  EXPECT_THAT(says([](auto&, Bytes& q) { q.resize(kOfferBytes + 1); }),
              HasCode(Code::kInvalidArgument));
  EXPECT_THAT(says([](auto&, Bytes& q) { q.resize(kOfferBytes - 1); }),
              HasCode(Code::kInvalidArgument));
}

TEST(PreKeys, DieByTheirMakersClock) {
  for (const int64_t late : {0, 1}) {
    PreKeyCohort cohort = PreKeyCohort::With(23, {}, 1);
    PreKeys keys = *MakePreKeys({.identity_seed = cohort.identities[kVictim].Reveal(),
                                 .evidence = Bytes{1},
                                 .not_after = kNow + kHour},
                                *cohort.rngs[kVictim]);
    cohort.RecordOf(kVictim) = keys.record;
    ContributorOptions options = cohort.OptionsFor(kVictim);
    options.prekeys = std::move(keys);
    options.unix_now = kNow + kHour + late;
    cohort.Renew(kVictim, std::move(options));
    const Bytes question = FirstQuestion(cohort);
    const Result<Bytes> answer = cohort.contributors[kVictim]->Answer(question);
    EXPECT_THAT(answer, late == 0 ? testing::Matcher<const Result<Bytes>&>(IsOk())
                                  : HasCodeAndText(Code::kInvalidArgument, "expired"));
  }
}

TEST(PreKeys, NeverServeTwoSessions) {
  PreKeyCohort cohort = PreKeyCohort::With(24, {}, 1);
  const Bytes question = FirstQuestion(cohort);
  Contributor& client = *cohort.contributors[kVictim];
  ASSERT_THAT(client.Answer(question), IsOk());

  PreKeyCohort other = PreKeyCohort::With(25, {}, 1);  // another session of the same coordinator
  other.signing_seed = cohort.signing_seed.Clone();
  other.coordinator = cohort.coordinator;
  other.RecordOf(kVictim) = cohort.RecordOf(kVictim);
  EXPECT_FALSE(client.Answer(FirstQuestion(other)).ok());
  EXPECT_TRUE(client.done());
}

TEST(PreKeys, AreForgottenWhenAPlainOfferComes) {
  PreKeyCohort cohort = PreKeyCohort::With(26, {}, 1);
  const Bytes question = FirstQuestion(cohort);
  Contributor& client = *cohort.contributors[kVictim];
  const Result<Bytes> answer = client.Answer(cohort.Offer());
  ASSERT_THAT(answer, IsOk());
  const Result<Advertise> said = DecodeAdvertise(*answer);
  ASSERT_THAT(said, IsOk());
  EXPECT_NE(said->c, cohort.made[kVictim].c);
  EXPECT_NE(said->s, cohort.made[kVictim].s);
  EXPECT_FALSE(client.Answer(BytesView(question).subspan(kOfferBytes)).ok())
      << "the roster with its pre-keys is not its own any more";
}

TEST(PreKeys, AreWhatALongerFirstQuestionIsFor) {
  PreKeyCohort cohort = PreKeyCohort::With(27, {}, 1);
  const Bytes question = FirstQuestion(cohort);
  cohort.Renew(kVictim, cohort.OptionsFor(kVictim));  // without
  EXPECT_THAT(cohort.contributors[kVictim]->Answer(question), HasCode(Code::kInvalidArgument));
}

}  // namespace
}  // namespace chorus::aggregation
