// A coordinator that signs two rosters for one session: the client that sees both ends the session
// and keeps the proof [specification 3.7, before Choose].
#include "matchers.h"
#include "prekey_cohort.h"

namespace chorus::aggregation {
namespace {

const std::map<SharingGraph, uint32_t> kClients = {
    {SharingGraph::kComplete, 7}, {SharingGraph::kSelfSelected, 160}, {SharingGraph::kHarary, 32}};

// Another roster for the session of `roster`, signed with `seed`.
Bytes OtherRoster(const Digest& sid0, Roster roster, BytesView seed) {
  roster.root[5] ^= 1;
  roster.signature = crypto::Ed25519Sign(seed, RosterMessage(sid0, roster.n, roster.root));
  return EncodeRosterOnly(roster);
}

struct TwoRosters {
  Status status;                             // of the victim's last answer
  std::optional<Equivocation> equivocation;  // what it kept
  Digest sid0{};
  Roster first;  // that it accepted
};

// Asks the victim in row `due` what `make` gives of the session's sid0, the roster that it
// accepted, and the coordinator's seed.
TwoRosters AskWithARoster(
    SharingGraph graph, size_t stride, size_t due,
    const std::function<Bytes(const PreKeyCohort&, const TwoRosters&)>& make) {
  PreKeyCohort cohort = PreKeyCohort::With(28, ShapeOf(graph, kClients.at(graph)), stride);
  TwoRosters result;
  result.sid0 = crypto::LabeledHash("CHORUS1/sid0", {EncodeParams(cohort.params)});
  cohort.on_question = [&](Where where, Bytes& body) {
    if (where.client != kVictim) return where.step < due;  // the rest is not needed
    if (where.step == 1) {
      const size_t start = cohort.made.contains(kVictim) ? kOfferBytes : 0;
      result.first = *ReadSignedRoster(BytesView(body).subspan(start));
    }
    if (where.step > due) return false;
    if (where.step == due) body = make(cohort, result);
    return true;
  };
  EXPECT_THAT(cohort.Run(), HasCode(Code::kAborted));
  result.status = cohort.client_status[kVictim];
  result.equivocation = cohort.equivocation;
  return result;
}

void ExpectProof(const TwoRosters& found, const PublicKey& coordinator) {
  EXPECT_THAT(found.status, HasCodeAndText(Code::kAborted, "two rosters"));
  ASSERT_TRUE(found.equivocation.has_value());
  const Equivocation& proof = *found.equivocation;
  EXPECT_EQ(proof.sid0, found.sid0);
  EXPECT_EQ(proof.first.root, found.first.root);
  EXPECT_NE(proof.first.root, proof.second.root);
  for (const auto* roster : {&proof.first, &proof.second}) {
    EXPECT_TRUE(crypto::Ed25519Verify(
        coordinator, RosterMessage(proof.sid0, roster->n, roster->root), roster->signature));
  }
}

TEST(Equivocation, OfTheCoordinatorIsKeptWithBothSignatures) {
  const PublicKey coordinator = Cohort(28).coordinator;
  for (const SharingGraph graph :
       {SharingGraph::kComplete, SharingGraph::kSelfSelected, SharingGraph::kHarary}) {
    const size_t rows = Steps(Protocol::kSecAgg, graph).size();
    // One row is enough in the graph that is slow to run; the machine is the same.
    for (size_t due = 2; due < (graph == SharingGraph::kSelfSelected ? 3 : rows); ++due) {
      for (const bool behind_offer : {false, true}) {
        SCOPED_TRACE(testing::Message() << static_cast<int>(graph) << " row " << due);
        ExpectProof(AskWithARoster(graph, 2, due,
                                   [&](const PreKeyCohort& cohort, const TwoRosters& so_far) {
                                     Bytes body = behind_offer ? cohort.Offer() : Bytes();
                                     const Bytes other = OtherRoster(so_far.sid0, so_far.first,
                                                                     cohort.signing_seed.Reveal());
                                     body.insert(body.end(), other.begin(), other.end());
                                     return body;
                                   }),
                    coordinator);
      }
    }
  }
}

TEST(Equivocation, IsOnlyWhatTheCoordinatorSignedForThisSession) {
  const auto ask = [](const std::function<Bytes(const PreKeyCohort&, const TwoRosters&)>& make) {
    const TwoRosters found = AskWithARoster(SharingGraph::kComplete, 1, 2, make);
    EXPECT_FALSE(found.status.ok());
    return found.equivocation.has_value();
  };
  EXPECT_TRUE(ask([](const auto& cohort, const TwoRosters& so_far) {
    return OtherRoster(so_far.sid0, so_far.first, cohort.signing_seed.Reveal());
  }));
  EXPECT_TRUE(ask([](const auto& cohort, const TwoRosters& so_far) {  // the root, of fewer
    Roster other = so_far.first;
    other.n = 5;
    other.index = 0;
    other.path.resize(crypto::MerklePathLength(0, 5));
    other.signature = crypto::Ed25519Sign(cohort.signing_seed.Reveal(),
                                          RosterMessage(so_far.sid0, 5, other.root));
    return EncodeRosterOnly(other);
  }));
  EXPECT_FALSE(ask([](const auto&, const TwoRosters& so_far) {  // the same again
    return EncodeRosterOnly(so_far.first);
  }));
  EXPECT_FALSE(ask([](const auto&, const TwoRosters& so_far) {  // made by somebody else
    return OtherRoster(so_far.sid0, so_far.first, Bytes(32, 9));
  }));
  EXPECT_FALSE(ask([](const auto& cohort, const TwoRosters& so_far) {  // of another session
    return OtherRoster(Digest{1}, so_far.first, cohort.signing_seed.Reveal());
  }));
  EXPECT_FALSE(ask([](const auto& cohort, const TwoRosters& so_far) {  // cut short
    Bytes other = OtherRoster(so_far.sid0, so_far.first, cohort.signing_seed.Reveal());
    other.pop_back();
    return other;
  }));
  EXPECT_FALSE(ask([](const auto&, const TwoRosters&) { return Bytes(); }));
}

TEST(Equivocation, IsFoundAfterTheLastAnswerToo) {
  PreKeyCohort cohort = PreKeyCohort::With(29, {}, 1);
  Roster first;
  cohort.on_question = [&](Where where, Bytes& body) {
    if (where.step == 1 && where.client == kVictim) {
      first = *ReadSignedRoster(BytesView(body).subspan(kOfferBytes));
    }
    return true;
  };
  ASSERT_THAT(cohort.Run(), IsOk());
  const Digest sid0 = crypto::LabeledHash("CHORUS1/sid0", {EncodeParams(cohort.params)});
  EXPECT_THAT(
      cohort.contributors[kVictim]->Answer(OtherRoster(sid0, first, cohort.signing_seed.Reveal())),
      HasCodeAndText(Code::kAborted, "two rosters"));
  EXPECT_TRUE(cohort.equivocation.has_value());
}

}  // namespace
}  // namespace chorus::aggregation
