// SecAgg over the graphs of large cohorts: each client's own choice of holders, and the Harary
// ring. What a complete graph shares with them is in aggregation_test.cc and secagg_test.cc.
#include "aggregation/graph.h"
#include "cohort.h"
#include "matchers.h"

namespace chorus::aggregation {
namespace {

constexpr size_t kVictim = 2;

CohortShape ShapeOf(SharingGraph graph) {
  CohortShape shape;
  shape.graph = graph;
  shape.clients = graph == SharingGraph::kSelfSelected ? 192 : 48;
  shape.minimum = graph == SharingGraph::kSelfSelected ? 160 : 32;
  shape.dim = 4;
  shape.delta_ppm = 50'000;
  return shape;
}

size_t StepOf(SharingGraph graph, Step step) {
  const std::span<const Step> steps = Steps(Protocol::kSecAgg, graph);
  return static_cast<size_t>(std::find(steps.begin(), steps.end(), step) - steps.begin());
}

std::set<size_t> AllBut(size_t count, const std::set<size_t>& without) {
  std::set<size_t> clients;
  for (size_t i = 0; i < count; ++i) {
    if (!without.contains(i)) clients.insert(i);
  }
  return clients;
}

struct At {
  SharingGraph graph;
  Where where;
  bool Is(Step step, size_t client) const {
    return where.step == StepOf(graph, step) && where.client == client;
  }
};

// A cohort that knows each client's place in the roster.
class Placed : public Cohort {
 public:
  explicit Placed(uint64_t seed, CohortShape shape)
      : Cohort(seed, shape), clients(shape.clients), graph_(shape.graph) {
    on_question = [this](Where where, Bytes& body) {
      const size_t told =
          graph_ == SharingGraph::kSelfSelected ? 1 : StepOf(graph_, aggregation::Step::kShares);
      if (where.step == told) Place(where.client, body);
      return question({graph_, where}, body);
    };
  }
  // Replaces on_question.
  std::function<bool(At, Bytes&)> question = [](At, Bytes&) { return true; };

  GraphParams graph() const { return *GraphFor(params, roster_size); }
  size_t ClientAt(Index index) const {
    return static_cast<size_t>(std::find(index_of.begin(), index_of.end(), index) -
                               index_of.begin());
  }
  std::vector<Index> index_of = std::vector<Index>(1'024, UINT32_MAX);
  uint32_t roster_size = 0;
  uint32_t clients = 0;

 private:
  void Place(size_t client, BytesView body) {
    Reader in(body);
    roster_size = in.U32();
    index_of[client] = in.U32();
  }
  SharingGraph graph_;
};

class LargeGraph : public testing::TestWithParam<SharingGraph> {
 protected:
  size_t steps() const { return Steps(Protocol::kSecAgg, GetParam()).size(); }
  size_t StepAt(Step step) const { return StepOf(GetParam(), step); }
};

INSTANTIATE_TEST_SUITE_P(SecAgg, LargeGraph,
                         testing::Values(SharingGraph::kSelfSelected, SharingGraph::kHarary),
                         [](const testing::TestParamInfo<SharingGraph>& test) {
                           return test.param == SharingGraph::kHarary ? "Harary" : "SelfSelected";
                         });

// I1: dropouts within delta, spread over all steps, change only the contributors.
TEST_P(LargeGraph, DropoutsChangeOnlyTheContributors) {
  for (uint64_t seed = 0; seed < 3; ++seed) {
    const CohortShape shape = ShapeOf(GetParam());
    Placed cohort(seed, shape);
    const std::unique_ptr<Rng> rng = crypto::NewSeededRng(cohort.Secret("drops", 0).Reveal());
    std::set<size_t> gone;
    std::set<size_t> touched;
    for (uint32_t i = 0; i < shape.clients / 20; ++i) {
      const size_t client = UniformBelow(*rng, shape.clients);
      const size_t step = 1 + UniformBelow(*rng, steps() - 1);
      if (!touched.insert(client).second) continue;
      cohort.DropOut(client, step);
      if (step <= StepAt(Step::kInput)) gone.insert(client);
    }
    const Result<Sum> sum = cohort.Run();
    ASSERT_THAT(sum, IsOk()) << "seed " << seed;
    EXPECT_THAT(cohort.Values(*sum),
                testing::ElementsAreArray(cohort.Expected(AllBut(shape.clients, gone))));
    EXPECT_EQ(sum->contributors, shape.clients - gone.size());
    EXPECT_TRUE(cohort.blame.empty());
  }
}

// The largest table size is frozen; who came later is told to come again by not being asked.
TEST_P(LargeGraph, SurplusIsNotAskedFurther) {
  CohortShape shape = ShapeOf(GetParam());
  const uint32_t size = shape.clients;
  shape.clients += 3;
  Placed cohort(1, shape);
  std::set<size_t> asked;
  cohort.question = [&](At at, Bytes&) {
    if (at.where.step == 1) asked.insert(at.where.client);
    return true;
  };
  const Result<Sum> sum = cohort.Run();
  ASSERT_THAT(sum, IsOk());
  EXPECT_EQ(cohort.roster_size, size);
  EXPECT_EQ(asked, AllBut(size, {}));
  EXPECT_THAT(cohort.Values(*sum), testing::ElementsAreArray(cohort.Expected(AllBut(size, {}))));
}

TEST_P(LargeGraph, OneBadAnswerHarmsOnlyItsSender) {
  const std::vector<std::function<void(Bytes&)>> damages = {
      [](Bytes& b) { b.clear(); },    [](Bytes& b) { b.resize(3); },
      [](Bytes& b) { b.pop_back(); }, [](Bytes& b) { b.push_back(0); },
      [](Bytes& b) { b[0] ^= 1; },    [](Bytes& b) { std::fill(b.begin(), b.end(), 0xFF); }};
  // One client for each step, and one damage for each of them: all in one run.
  for (size_t shift = 0; shift < (GetParam() == SharingGraph::kHarary ? damages.size() : 2);
       ++shift) {
    CohortShape shape = ShapeOf(GetParam());
    shape.clients += 1;  // for the client that never gets in
    shape.delta_ppm = GetParam() == SharingGraph::kHarary ? 200'000 : 50'000;
    Placed cohort(shift, shape);
    cohort.on_answer = [&](Where where, Bytes& body) {
      if (where.client == where.step) damages[(where.step + shift) % damages.size()](body);
      return true;
    };
    const Result<Sum> sum = cohort.Run();
    ASSERT_THAT(sum, IsOk()) << "shift " << shift;
    std::set<size_t> gone;
    for (size_t step = 0; step < steps(); ++step) {
      EXPECT_FALSE(cohort.hear_status[step].ok()) << "step " << step << " shift " << shift;
      if (step <= StepAt(Step::kInput)) gone.insert(step);
    }
    EXPECT_THAT(cohort.Values(*sum),
                testing::ElementsAreArray(cohort.Expected(AllBut(shape.clients, gone))));
  }
}

TEST_P(LargeGraph, AnswersKeepToWhatTheQuestionsAllow) {
  Placed cohort(4, ShapeOf(GetParam()));
  cohort.on_answer = [&](Where where, Bytes& body) {
    EXPECT_LE(body.size(), cohort.answer_bytes_max[where.client]) << "step " << where.step;
    return true;
  };
  EXPECT_THAT(cohort.Run(), IsOk());
}

// --- culprits ---------------------------------------------------------------------------------

std::set<size_t> Blamed(const Placed& cohort, Blame::Cause cause) {
  std::set<size_t> clients;
  for (const Blame& blame : cohort.blame) {
    if (blame.cause == cause) clients.insert(blame.party - Cohort::kFirstParty);
  }
  return clients;
}

TEST_P(LargeGraph, WrongSharesAreCorrectedAndTheirHolderNamed) {
  Placed cohort(6, ShapeOf(GetParam()));
  cohort.on_answer = [&](Where where, Bytes& body) {
    // The first two of the roster, whose shares are the first to be used wherever they hold any.
    if (where.step == StepAt(Step::kUnmask) && cohort.index_of[where.client] < 2) {
      // Every share, canonically wrong: the lowest bit of its first limb.
      const Index me = cohort.index_of[where.client];
      std::vector<UnmaskEntry> entries = *DecodeUnmask(body, cohort.roster_size, me + 1);
      for (UnmaskEntry& entry : entries) entry.share.y[0] ^= 1;
      body = EncodeUnmask(entries);
    }
    return true;
  };
  const Result<Sum> sum = cohort.Run();
  ASSERT_THAT(sum, IsOk());
  EXPECT_THAT(cohort.Values(*sum),
              testing::ElementsAreArray(cohort.Expected(AllBut(cohort.clients, {}))));
  EXPECT_EQ(Blamed(cohort, Blame::Cause::kWrongShare),
            (std::set<size_t>{cohort.ClientAt(0), cohort.ClientAt(1)}));
  EXPECT_EQ(cohort.blame.size(), 2U);
}

// An owner whose commitment is to something else than it shared: no sum, and it is named.
TEST_P(LargeGraph, InconsistentSharesEndTheSessionAndNameTheirOwner) {
  Placed cohort(7, ShapeOf(GetParam()));
  cohort.on_answer = [&](Where where, Bytes& body) {
    if (where.step != StepAt(Step::kUnmask)) return true;
    const Index me = cohort.index_of[where.client];
    std::vector<UnmaskEntry> entries = *DecodeUnmask(body, cohort.roster_size, me + 1);
    for (UnmaskEntry& entry : entries) {
      // All holders of client 9 give points of another polynomial.
      if (entry.owner == cohort.index_of[9]) entry.share.y[1] = entry.share.x;
    }
    body = EncodeUnmask(entries);
    return true;
  };
  EXPECT_THAT(cohort.Run(), HasCode(Code::kAborted));
  EXPECT_EQ(Blamed(cohort, Blame::Cause::kInconsistentShares), (std::set<size_t>{9}));
  EXPECT_EQ(cohort.blame.size(), 1U);
}

// Re-signs a client's shares after `change`.
void ChangeShares(Placed& cohort, size_t client, Bytes& body, const Digest& sid,
                  const std::function<void(Shares&)>& change) {
  Shares shares = *DecodeShares(body, cohort.roster_size);
  change(shares);
  shares.signature = crypto::Ed25519Sign(cohort.identities[client].Reveal(),
                                         SharesMessage(sid, cohort.index_of[client], shares));
  body = Encode(shares);
}

TEST_P(LargeGraph, SpoiltCiphertextsAreBornUpToTheSpareHolders) {
  for (const bool too_many : {false, true}) {
    Placed cohort(8, ShapeOf(GetParam()));
    Digest sid{};
    std::map<Index, size_t> failures;
    const Digest sid0 = crypto::LabeledHash("CHORUS1/sid0", {EncodeParams(cohort.params)});
    cohort.question = [&](At at, Bytes& body) {
      const size_t told = GetParam() == SharingGraph::kSelfSelected ? 1 : StepAt(Step::kShares);
      if (at.where.step == told && sid == Digest{}) {
        Reader in(body);
        const uint32_t n = in.U32();
        in.U32();
        sid = SessionId(sid0, n, in.Array<32>());
      }
      return true;
    };
    cohort.on_answer = [&](Where where, Bytes& body) {
      if (where.step == StepAt(Step::kShares) && where.client == 5) {
        const GraphParams graph = cohort.graph();
        const size_t spoilt = graph.k - graph.t + (too_many ? 1 : 0);
        ChangeShares(cohort, 5, body, sid, [&](Shares& shares) {
          for (size_t i = 0; i < spoilt; ++i) shares.sealed[i].second[7] ^= 1;
        });
      }
      return true;
    };
    const Result<Sum> sum = cohort.Run();
    if (!too_many) {
      ASSERT_THAT(sum, IsOk());
      EXPECT_THAT(cohort.Values(*sum),
                  testing::ElementsAreArray(cohort.Expected(AllBut(cohort.clients, {}))));
      EXPECT_TRUE(cohort.blame.empty());
    } else {
      EXPECT_THAT(sum, HasCode(Code::kAborted));
      EXPECT_EQ(Blamed(cohort, Blame::Cause::kUnusableShares), (std::set<size_t>{5}));
      const GraphParams graph = cohort.graph();
      EXPECT_EQ(Blamed(cohort, Blame::Cause::kDeniedShares).size(), graph.k - graph.t + 1);
    }
  }
}

// Two different signed answers in one step: the second changes nothing, and both are kept.
TEST_P(LargeGraph, EquivocationIsKeptAsEvidence) {
  Placed cohort(9, ShapeOf(GetParam()));
  cohort.on_heard = [&](Where where, BytesView answer) {
    if (where.step != 0 || where.client > 3) return;
    Advertise again = *DecodeAdvertise(answer);
    const PartyId party = Cohort::kFirstParty + where.client;
    if (where.client == 1) again.evidence = {9};     // another, signed below
    if (where.client == 2) again.signature[0] ^= 1;  // not signed
    if (where.client == 3) again.sid0[0] ^= 1;       // of another session
    if (where.client == 1 || where.client == 3) {
      again.signature =
          crypto::Ed25519Sign(cohort.identities[where.client].Reveal(), AdvertiseMessage(again));
    }
    EXPECT_THAT(cohort.aggregator->Hear(party, Encode(again)), HasCode(Code::kAlreadyExists));
    EXPECT_THAT(cohort.aggregator->Hear(party, Encode(again)), HasCode(Code::kAlreadyExists));
  };
  const Result<Sum> sum = cohort.Run();
  ASSERT_THAT(sum, IsOk());
  EXPECT_THAT(cohort.Values(*sum),
              testing::ElementsAreArray(cohort.Expected(AllBut(cohort.clients, {}))));
  ASSERT_EQ(cohort.blame.size(), 1U);
  const Blame& blame = cohort.blame[0];
  EXPECT_EQ(blame.cause, Blame::Cause::kEquivocated);
  EXPECT_EQ(blame.party, Cohort::kFirstParty + 1);
  EXPECT_NE(blame.first.message, blame.second.message);
  for (const Blame::Statement& said : {blame.first, blame.second}) {
    EXPECT_TRUE(crypto::Ed25519Verify(blame.id, said.message, said.signature));
  }
}

// --- what a client refuses --------------------------------------------------------------------

// Sends the victim something else in one step, in which nobody else is asked; gives its status.
Status Lie(Placed& cohort, Step step, std::function<void(Bytes&)> change) {
  size_t last = 0;
  cohort.question = [&](At at, Bytes& body) {
    last = StepOf(at.graph, step);
    if (at.Is(step, kVictim)) change(body);
    return at.where.step != last || at.where.client == kVictim;
  };
  EXPECT_THAT(cohort.Begin(), IsOk());
  Status closed;
  while (closed.ok() && !cohort.aggregator->done()) closed = cohort.Step();
  EXPECT_EQ(cohort.step, last + 1) << "too few answered, and so it ended there";
  return cohort.client_status[kVictim];
}

Status LieInPeers(const std::function<void(Peers&, std::vector<Bytes>&, Index)>& change) {
  Placed cohort(11, ShapeOf(SharingGraph::kSelfSelected));
  return Lie(cohort, Step::kShares, [&](Bytes& body) {
    Peers peers = *DecodePeers(body, cohort.roster_size);
    std::vector<Bytes> records(cohort.roster_size);
    for (const Peer& peer : peers.records) records[peer.index] = EncodePeer(peer);
    EXPECT_EQ(EncodePeers(peers.out, peers.in, records), body);
    change(peers, records, cohort.index_of[kVictim]);
    body = EncodePeers(peers.out, peers.in, records);
  });
}

TEST(SelfSelectedClient, RefusesHoldersThatItDidNotChoose) {
  EXPECT_THAT(LieInPeers([](Peers& peers, std::vector<Bytes>&, Index) { peers.out.pop_back(); }),
              HasCodeAndText(Code::kAborted, "not those chosen"));
  // Somebody who chose the victim, in place of somebody whom it chose.
  EXPECT_THAT(LieInPeers([](Peers& peers, std::vector<Bytes>&, Index) {
                std::vector<Index> others;
                std::set_difference(peers.in.begin(), peers.in.end(), peers.out.begin(),
                                    peers.out.end(), std::back_inserter(others));
                peers.out[0] = others.at(0);  // its record is known
                std::sort(peers.out.begin(), peers.out.end());
              }),
              HasCodeAndText(Code::kAborted, "not those chosen"));
}

TEST(SelfSelectedClient, RefusesMoreChoosersThanCanBe) {
  EXPECT_THAT(LieInPeers([](Peers& peers, std::vector<Bytes>& records, Index me) {
                // k = 30: 121 of 191. Their records are never looked at.
                peers.in.clear();
                for (Index v = 0; peers.in.size() < 121; ++v) {
                  if (v == me) continue;
                  peers.in.push_back(v);
                  if (records[v].empty()) {
                    Peer fake;
                    fake.index = v;
                    fake.path.resize(crypto::MerklePathLength(v, 192));
                    records[v] = EncodePeer(fake);
                  }
                }
              }),
              HasCodeAndText(Code::kAborted, "more members chose"));
}

TEST(SelfSelectedClient, RefusesToHaveChosenItself) {
  EXPECT_THAT(LieInPeers([](Peers& peers, std::vector<Bytes>& records, Index me) {
                peers.in.push_back(me);
                std::sort(peers.in.begin(), peers.in.end());
                Peer fake;
                fake.index = me;
                fake.path.resize(crypto::MerklePathLength(me, 192));
                records[me] = EncodePeer(fake);
              }),
              HasCodeAndText(Code::kAborted, "chosen itself"));
}

TEST(SelfSelectedClient, RefusesAPeerOutsideTheRoster) {
  EXPECT_THAT(LieInPeers([](Peers& peers, std::vector<Bytes>& records, Index) {
                Peer& peer = peers.records.back();
                peer.path[0][0] ^= 1;
                records[peer.index] = EncodePeer(peer);
              }),
              HasCodeAndText(Code::kAborted, "not in the roster"));
}

TEST(SelfSelectedClient, RefusesARosterOfAnotherSizeOrUnsigned) {
  const auto roster = [](const std::function<void(Roster&, BytesView)>& change) {
    Placed cohort(12, ShapeOf(SharingGraph::kSelfSelected));
    return Lie(cohort, Step::kNeighbours, [&](Bytes& body) {
      Roster told = *DecodeRosterOnly(body, 1'024);
      EXPECT_EQ(EncodeRosterOnly(told), body);
      change(told, cohort.signing_seed.Reveal());
      body = EncodeRosterOnly(told);
    });
  };
  EXPECT_THAT(roster([](Roster& r, BytesView) { r.signature[0] ^= 1; }),
              HasCode(Code::kUnauthenticated));
  // Signed, and of a size that is not in the table.
  const auto of_size = [&](uint32_t n) {
    return roster([n](Roster& r, BytesView) {
      r.n = n;
      r.index = 0;
      r.path.resize(crypto::MerklePathLength(0, n));
    });
  };
  EXPECT_THAT(of_size(191), HasCode(Code::kPermissionDenied));
  EXPECT_THAT(of_size(128), HasCode(Code::kPermissionDenied));
}

// Out-neighbours of the victim that did not choose it: they owe it a hello and no shares.
std::vector<Index> HellosOf(const Peers& peers) {
  std::vector<Index> hellos;
  std::set_difference(peers.out.begin(), peers.out.end(), peers.in.begin(), peers.in.end(),
                      std::back_inserter(hellos));
  return hellos;
}

// Attack 21: an edge that nobody chose. The victim masks with it, cannot open what comes with it,
// lists it, and holds no share of it.
TEST(SelfSelectedClient, ListsAnInventedChooserAsFailed) {
  Placed cohort(13, ShapeOf(SharingGraph::kSelfSelected));
  std::vector<Index> hellos;
  std::vector<Index> failed;
  cohort.question = [&](At at, Bytes& body) {
    if (at.Is(Step::kShares, kVictim)) {
      Peers peers = *DecodePeers(body, cohort.roster_size);
      std::vector<Bytes> records(cohort.roster_size);
      for (const Peer& peer : peers.records) records[peer.index] = EncodePeer(peer);
      hellos = HellosOf(peers);
      peers.in.push_back(hellos.at(0));
      std::sort(peers.in.begin(), peers.in.end());
      body = EncodePeers(peers.out, peers.in, records);
    }
    if (at.Is(Step::kInput, kVictim)) {
      std::vector<Delivery> entries = *DecodeDeliver(body, cohort.roster_size, hellos);
      EXPECT_EQ(EncodeDeliver(entries), body);
      for (Delivery& entry : entries) {
        if (entry.from == hellos[0]) entry.hello.reset();
      }
      body = EncodeDeliver(entries);
    }
    return true;
  };
  cohort.on_answer = [&](Where where, Bytes& body) {
    if (where.client == kVictim && where.step == StepOf(SharingGraph::kSelfSelected, Step::kInput))
      failed = DecodeMasked(body, cohort.roster_size, math::PackedBytes(4, 21))->failed;
    return true;
  };
  const Result<Sum> sum = cohort.Run();
  ASSERT_THAT(sum, IsOk());
  EXPECT_EQ(failed, std::vector<Index>{hellos.at(0)});
  EXPECT_THAT(cohort.Values(*sum),
              testing::ElementsAreArray(cohort.Expected(AllBut(cohort.clients, {}))));
}

// Attack 7: an acknowledgement counts only of a holder whose own ciphertext opened.
TEST(SelfSelectedClient, CountsNoAcknowledgementOverAOneSidedEdge) {
  for (const uint32_t missing : {0U, 1U}) {
    Placed cohort(14, ShapeOf(SharingGraph::kSelfSelected));
    Peers peers;
    std::vector<Index> spoilt;
    cohort.question = [&](At at, Bytes& body) {
      const GraphParams graph = cohort.roster_size == 0 ? GraphParams{} : cohort.graph();
      if (at.Is(Step::kShares, kVictim)) peers = *DecodePeers(body, cohort.roster_size);
      if (at.Is(Step::kInput, kVictim)) {
        std::vector<Delivery> entries = *DecodeDeliver(body, cohort.roster_size, HellosOf(peers));
        for (Delivery& entry : entries) {
          const bool holder = std::binary_search(peers.out.begin(), peers.out.end(), entry.from);
          if (!holder || spoilt.size() == graph.k - graph.t) continue;
          spoilt.push_back(entry.from);
          entry.sealed[3] ^= 1;
          if (entry.hello) (*entry.hello)[3] ^= 1;
        }
        body = EncodeDeliver(entries);
      }
      if (at.Is(Step::kUnmask, kVictim)) {
        // t holders opened. Without one of them, k - 1 true acknowledgements are too few.
        AckSet acks = *DecodeAckSet(body, cohort.roster_size);
        EXPECT_EQ(acks.size(), graph.k);
        for (uint32_t i = 0; i < missing; ++i) {
          std::erase_if(acks, [&](const auto& ack) { return ack.first == peers.out.back(); });
        }
        body = EncodeAckSet(acks);
      }
      return true;
    };
    EXPECT_THAT(cohort.Run(), IsOk());
    EXPECT_THAT(cohort.client_status[kVictim], HasCode(missing == 0 ? Code::kOk : Code::kAborted));
  }
}

TEST(HararyClient, RefusesAnotherNumberOfNeighbours) {
  Placed cohort(15, ShapeOf(SharingGraph::kHarary));
  EXPECT_THAT(Lie(cohort, Step::kShares,
                  [&](Bytes& body) {
                    const RosterAndPeers told = *DecodeRing(body, 1'024);
                    std::vector<Bytes> records(told.n);
                    std::vector<Index> neighbours;
                    for (const Peer& peer : told.peers) {
                      records[peer.index] = EncodePeer(peer);
                      neighbours.push_back(peer.index);
                    }
                    EXPECT_EQ(EncodeRing(told, neighbours, records), body);
                    neighbours.pop_back();
                    body = EncodeRing(told, neighbours, records);
                  }),
              HasCodeAndText(Code::kAborted, "not as many"));
}

TEST(HararyClient, OpensNothingWhenTooFewNeighboursAreAlive) {
  for (const bool too_few : {false, true}) {
    Placed cohort(16, ShapeOf(SharingGraph::kHarary));
    const Status status = Lie(cohort, Step::kUnmask, [&](Bytes& body) {
      std::vector<Survivor> entries = *DecodeSurvivors(body, cohort.roster_size);
      const GraphParams graph = cohort.graph();
      EXPECT_EQ(entries.size(), graph.k);
      // An edge tag that does not verify is as good as none.
      for (uint32_t i = 0; i < graph.k - graph.t + (too_few ? 1 : 0); ++i) {
        entries[i].edge[0] ^= 1;
      }
      body = EncodeSurvivors(entries);
    });
    EXPECT_THAT(status, HasCode(too_few ? Code::kAborted : Code::kOk));
  }
}

// Attack 39: lists of holders that cannot be.
TEST(SelfSelectedServer, RefusesAChoiceThatCannotBe) {
  Placed cohort(17, ShapeOf(SharingGraph::kSelfSelected));
  const size_t step = StepOf(SharingGraph::kSelfSelected, Step::kNeighbours);
  std::map<size_t, Status> heard;
  cohort.on_answer = [&](Where where, Bytes& body) {
    if (where.step != step || where.client > 4) return true;
    Choose choice = *DecodeChoose(body, cohort.roster_size);
    EXPECT_EQ(Encode(choice), body);
    const Index me = cohort.index_of[where.client];
    std::vector<Index>& holders = choice.holders;
    if (where.client == 0) holders.pop_back();
    if (where.client == 1) {
      Index extra = 0;
      while (extra == me || std::binary_search(holders.begin(), holders.end(), extra)) ++extra;
      holders.push_back(extra);
    }
    if (where.client == 2) holders[0] = me;
    if (where.client == 3) choice.sid[0] ^= 1;
    std::sort(holders.begin(), holders.end());
    if (where.client == 4) holders[1] = holders[0];
    choice.signature =
        crypto::Ed25519Sign(cohort.identities[where.client].Reveal(), ChooseMessage(me, choice));
    body = Encode(choice);
    return true;
  };
  cohort.on_heard = [&](Where where, BytesView) {
    if (where.step == step) heard[where.client] = cohort.hear_status[where.client];
  };
  const Result<Sum> sum = cohort.Run();
  ASSERT_THAT(sum, IsOk());
  for (size_t client = 0; client < 5; ++client) {
    EXPECT_THAT(heard[client], HasCode(Code::kInvalidArgument)) << client;
  }
  EXPECT_THAT(cohort.Values(*sum),
              testing::ElementsAreArray(cohort.Expected(AllBut(cohort.clients, {0, 1, 2, 3, 4}))));
}

// Who loses too many of its holders before shares are dealt is out, and the others go on.
TEST(SelfSelectedServer, DropsWhoHasTooFewHoldersLeft) {
  CohortShape shape = ShapeOf(SharingGraph::kSelfSelected);
  shape.minimum = 160;
  Placed cohort(18, shape);
  std::vector<Index> chosen;
  cohort.on_answer = [&](Where where, Bytes& body) {
    if (where.step == 1 && where.client == 0) {
      chosen = DecodeChoose(body, cohort.roster_size)->holders;
      chosen.resize(cohort.graph().k - cohort.graph().t + 1);
    }
    // Its first holders fall silent.
    return where.step != 2 ||
           !std::binary_search(chosen.begin(), chosen.end(), cohort.index_of[where.client]);
  };
  const Result<Sum> sum = cohort.Run();
  ASSERT_THAT(sum, IsOk());
  std::set<size_t> gone{0};
  for (const Index index : chosen) gone.insert(cohort.ClientAt(index));
  EXPECT_EQ(gone.size(), 11U);  // k = 30, t = 21
  EXPECT_THAT(cohort.Values(*sum),
              testing::ElementsAreArray(cohort.Expected(AllBut(shape.clients, gone))));
}

// The largest cohort of one session.
TEST_P(LargeGraph, ServesTheLargestCohort) {
  CohortShape shape = ShapeOf(GetParam());
  shape.clients = 1'024;
  shape.minimum = 900;
  Placed cohort(19, shape);
  std::set<size_t> gone;
  for (size_t client = 0; client < 20; ++client) {
    cohort.DropOut(client, client % steps());
    if (client % steps() <= StepAt(Step::kInput)) gone.insert(client);
  }
  // Those of step 0 are missing from the roster, which is cut to the table's next size.
  const Result<Sum> sum = cohort.Run();
  ASSERT_THAT(sum, IsOk());
  EXPECT_EQ(cohort.roster_size, 1'000U);
  size_t silent = 0;
  for (size_t client = 0; client < 20; ++client) silent += client % steps() == 0 ? 1 : 0;
  for (size_t client = 1'000 + silent; client < 1'024; ++client) gone.insert(client);
  EXPECT_THAT(cohort.Values(*sum),
              testing::ElementsAreArray(cohort.Expected(AllBut(shape.clients, gone))));
}

}  // namespace
}  // namespace chorus::aggregation
