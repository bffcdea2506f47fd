// OneShot: its committees, parameters and messages, and whole sums with clients and members that
// vanish [specification 2.2].
#include <algorithm>
#include <numeric>

#include "aggregation/one_shot.h"
#include "base/limits.h"
#include "cohort.h"
#include "matchers.h"

namespace chorus::aggregation {
namespace {

using testing::ElementsAre;
using testing::ElementsAreArray;
using testing::IsEmpty;

constexpr size_t kInputStep = 1;
constexpr size_t kVotesStep = 3;
constexpr size_t kOpeningStep = 4;

CohortShape Shape(uint32_t clients) {
  CohortShape shape;
  shape.protocol = Protocol::kOneShot;
  shape.clients = clients;
  return shape;
}

std::set<size_t> All(size_t count) {
  std::set<size_t> clients;
  for (size_t i = 0; i < count; ++i) clients.insert(i);
  return clients;
}

// --- the committee ------------------------------------------------------------------------------
TEST(Committee, HasTheSpecifiedThresholds) {
  std::vector<uint32_t> thresholds;
  std::vector<uint32_t> quorums;
  for (const CommitteeRow& row : CommitteeRows()) {
    thresholds.push_back(row.threshold());
    quorums.push_back(row.quorum);
    EXPECT_GT(2 * row.quorum, row.members + row.corrupt_max) << "two sets could have a quorum";
    EXPECT_LE(std::max<uint32_t>(row.quorum, row.threshold()), row.members - row.dropouts_max);
  }
  EXPECT_THAT(thresholds, ElementsAre(31, 37, 44, 68, 74, 94, 101, 118, 130, 3, 4));
  EXPECT_THAT(quorums, ElementsAre(40, 43, 47, 67, 86, 96, 115, 124, 162, 3, 5));
}

// What the table claims of itself: in a random committee more than c members are corrupt with
// probability at most 2^-41, more than f drop out with at most 2^-20.
TEST(Committee, KeepsItsPromisesByBinomialTails) {
  const auto tail = [](uint32_t n, double p, uint32_t above) {
    double sum = 0;
    for (uint32_t k = above + 1; k <= n; ++k) {
      sum += std::exp(std::lgamma(n + 1.0) - std::lgamma(k + 1.0) - std::lgamma(n - k + 1.0) +
                      k * std::log(p) + (n - k) * std::log1p(-p));
    }
    return std::log2(sum);
  };
  for (const CommitteeRow& row : CommitteeRows()) {
    if (row.gamma_ppm == 0) continue;
    EXPECT_LE(tail(row.members, row.gamma_ppm * 1e-6, row.corrupt_max), -40.9) << row.members;
    EXPECT_LE(tail(row.members, row.delta_ppm * 1e-6, row.dropouts_max), -19.9) << row.members;
  }
}

TEST(Committee, IsPickedByATasksSizeAndAssumptions) {
  OneShotSpec task;
  for (uint8_t j = 0; j < 128; ++j) task.members.push_back({static_cast<uint8_t>(j + 1)});
  task.gamma_members_ppm = task.delta_members_ppm = 100'000;
  const Result<CommitteeParams> committee = CommitteeOf(task);
  ASSERT_THAT(committee, IsOk());
  EXPECT_EQ(committee->corrupt_max, 42);
  EXPECT_EQ(committee->packing, 32);
  EXPECT_EQ(committee->plaintext_bits, 86);
  EXPECT_EQ(ShareElements(*committee), 64U);
  EXPECT_EQ(SealedShareBytes(*committee), 528U);
  task.set = OneShotSet::kOsa8192;
  EXPECT_EQ(CommitteeOf(task)->plaintext_bits, 186);
  task.delta_members_ppm = 200'000;
  EXPECT_THAT(CommitteeOf(task), HasCodeAndText(Code::kInvalidArgument, "128 members"));
  task.delta_members_ppm = 100'000;
  task.members[5] = task.members[90];
  EXPECT_THAT(CommitteeOf(task), HasCodeAndText(Code::kInvalidArgument, "twice"));
  task.members.pop_back();
  EXPECT_THAT(CommitteeOf(task), HasCode(Code::kInvalidArgument));
}

TEST(Committee, CountsAtLeastOneClientAsCorrupt) {
  EXPECT_EQ(HonestAmong(0, 50'000), 0U);
  EXPECT_EQ(HonestAmong(1, 50'000), 0U);
  EXPECT_EQ(HonestAmong(3, 0), 2U);
  EXPECT_EQ(HonestAmong(20, 50'000), 19U);
  EXPECT_EQ(HonestAmong(21, 50'000), 19U);
  EXPECT_EQ(HonestAmong(32'768, 999'999), 0U);
}

// --- parameters ---------------------------------------------------------------------------------
TEST(OneShotParams, RoundTripAndRefuseEveryOtherLength) {
  const Cohort cohort(1, Shape(5));
  const Bytes bytes = EncodeParams(cohort.params);
  ASSERT_EQ(bytes.size(), kOneShotParamsBytes);
  const Result<SessionParams> read = DecodeParams(bytes);
  ASSERT_THAT(read, IsOk());
  EXPECT_EQ(EncodeParams(*read), bytes);
  EXPECT_EQ(read->committee, cohort.params.committee);
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_THAT(DecodeParams(BytesView(bytes).first(size)), HasCode(Code::kInvalidArgument));
  }
  Bytes longer = bytes;
  longer.push_back(0);
  EXPECT_THAT(DecodeParams(longer), HasCode(Code::kInvalidArgument));
}

TEST(OneShotParams, RefuseWhatTheTableLacksAndWhatDoesNotFit) {
  const auto refused = [](const std::function<void(SessionParams&)>& change) {
    Cohort cohort(1, Shape(6));
    change(cohort.params);
    return ValidateParams(cohort.params);
  };
  EXPECT_THAT(refused([](SessionParams&) {}), IsOk());
  EXPECT_THAT(refused([](SessionParams& p) { p.mode = 1; }), HasCode(Code::kInvalidArgument));
  EXPECT_THAT(refused([](SessionParams& p) { p.committee.set = OneShotSet{3}; }),
              HasCodeAndText(Code::kInvalidArgument, "one_shot.set"));
  EXPECT_THAT(refused([](SessionParams& p) { p.committee.plaintext_bits = 85; }),
              HasCodeAndText(Code::kInvalidArgument, "one_shot.set"));
  for (const auto& change : std::vector<std::function<void(CommitteeParams&)>>{
           [](CommitteeParams& c) { c.members = 8; }, [](CommitteeParams& c) { c.corrupt_max = 3; },
           [](CommitteeParams& c) { c.packing = 4; }, [](CommitteeParams& c) { c.packing = 0; },
           [](CommitteeParams& c) { c.gamma_ppm = 1; },
           [](CommitteeParams& c) { c.delta_ppm = 1; }}) {
    EXPECT_THAT(refused([&](SessionParams& p) { change(p.committee); }),
                HasCodeAndText(Code::kInvalidArgument, "table of committees"));
  }
  EXPECT_THAT(refused([](SessionParams& p) { p.a_min = 1; }),
              HasCodeAndText(Code::kInvalidArgument, "a_min is below 2"));
  EXPECT_THAT(refused([](SessionParams& p) { p.a_min = 3; }),
              HasCodeAndText(Code::kInvalidArgument, "n_min has fewer honest"));
  EXPECT_THAT(refused([](SessionParams& p) { p.bound = (1U << 20U) / 6 + 1; }),
              HasCode(Code::kInvalidArgument));
}

// T9.
TEST(OneShotParams, RefuseMoreClientsThanTheErrorsBear) {
  Cohort cohort(1, Shape(6));
  cohort.params.bound = 10;
  cohort.params.n_max = 1U << 15U;
  EXPECT_THAT(ValidateParams(cohort.params), IsOk());
  cohort.params.n_max = (1U << 15U) + 1;
  EXPECT_THAT(ValidateParams(cohort.params), HasCodeAndText(Code::kInvalidArgument, "n_max"));
}

TEST(OneShotOptions, RefuseACommitteeThatDoesNotFit) {
  const auto begun = [](const std::function<void(AggregatorOptions&)>& change) {
    Cohort cohort(1, Shape(6));
    AggregatorOptions options;
    options.params = cohort.params;
    options.signing_seed = cohort.signing_seed.Reveal();
    options.verifier = &cohort.verifier;
    for (PartyId party = 1; party <= 6; ++party) options.parties.push_back(party);
    options.committee_ids = cohort.committee_ids;
    for (uint32_t j = 1; j <= 7; ++j) options.committee.push_back({100 + j, j});
    change(options);
    return NewAggregator(std::move(options)).status();
  };
  EXPECT_THAT(begun([](AggregatorOptions&) {}), IsOk());
  EXPECT_THAT(begun([](AggregatorOptions& o) { o.committee.resize(5); }), IsOk());
  for (const auto& change : std::vector<std::function<void(AggregatorOptions&)>>{
           [](AggregatorOptions& o) { o.committee.resize(4); },
           [](AggregatorOptions& o) { o.committee_ids.pop_back(); },
           [](AggregatorOptions& o) { o.committee_ids[0] = o.committee_ids[1]; },
           [](AggregatorOptions& o) { o.committee[0].index = 0; },
           [](AggregatorOptions& o) { o.committee[0].index = 8; },
           [](AggregatorOptions& o) { o.committee[0].index = 2; },
           [](AggregatorOptions& o) { o.committee[0].party = 102; },
           [](AggregatorOptions& o) { o.committee[0].party = 3; }}) {
    EXPECT_THAT(begun(change), HasCode(Code::kInvalidArgument));
  }
}

TEST(OneShotOptions, RefuseAMemberThatIsNotOnTheCommittee) {
  Cohort cohort(1, Shape(5));
  MemberOptions options = cohort.MemberOptionsFor(0);
  options.identity_seed = cohort.identities[0].Reveal();
  EXPECT_THAT(NewCommitteeMember(options), HasCodeAndText(Code::kInvalidArgument, "not on"));
  options = cohort.MemberOptionsFor(0);
  options.committee_ids.pop_back();
  EXPECT_THAT(NewCommitteeMember(options), HasCode(Code::kInvalidArgument));
  options = cohort.MemberOptionsFor(0);
  options.rng = nullptr;
  EXPECT_THAT(NewCommitteeMember(options), HasCode(Code::kInvalidArgument));
}

TEST(OneShotSteps, HaveTheirNames) {
  EXPECT_THAT(StepNames(Protocol::kOneShot, SharingGraph::kComplete),
              ElementsAre("committee keys", "input", "complaints", "votes", "opening"));
}

// --- whole sums ---------------------------------------------------------------------------------
struct Row {
  uint32_t members;
  uint32_t gamma_ppm;
  uint32_t delta_ppm;
  OneShotSet set;
};

class EveryCommittee : public testing::TestWithParam<Row> {
 protected:
  CohortShape ShapeOf(uint32_t clients) const {
    CohortShape shape = Shape(clients);
    shape.members = GetParam().members;
    shape.gamma_members_ppm = GetParam().gamma_ppm;
    shape.delta_members_ppm = GetParam().delta_ppm;
    shape.set = GetParam().set;
    return shape;
  }
};

INSTANTIATE_TEST_SUITE_P(OneShot, EveryCommittee,
                         testing::Values(Row{4, 0, 0, OneShotSet::kOsa4096},
                                         Row{7, 0, 0, OneShotSet::kOsa4096},
                                         Row{7, 0, 0, OneShotSet::kOsa8192},
                                         Row{64, 100'000, 50'000, OneShotSet::kOsa4096},
                                         Row{128, 100'000, 100'000, OneShotSet::kOsa8192}),
                         [](const testing::TestParamInfo<Row>& test) {
                           return "Members" + std::to_string(test.param.members) + "Set" +
                                  std::to_string(static_cast<int>(test.param.set));
                         });

// As many members as may be absent are, from each step on, and every client vanished once it had
// uploaded.
TEST_P(EveryCommittee, OpensTheExactSumWithoutThoseItCanSpare) {
  Cohort cohort(GetParam().members, ShapeOf(5));
  const CommitteeRow* row = RowOf(cohort.params.committee);
  ASSERT_NE(row, nullptr);
  for (uint32_t i = 0; i < row->dropouts_max; ++i) {
    // Members at both ends of the committee, spread over the steps.
    const uint32_t member = i % 2 == 0 ? i / 2 : row->members - 1 - i / 2;
    if (i % 6 == 5) cohort.absent_members.insert(member);
    cohort.DropOutMember(member, i % 6);
  }
  cohort.on_heard = [&](Where where, BytesView) {
    if (!where.of_committee) cohort.contributors[where.client] = nullptr;
  };
  const Result<Sum> sum = cohort.Run();
  ASSERT_THAT(sum, IsOk());
  EXPECT_THAT(cohort.Values(*sum), ElementsAreArray(cohort.Expected(All(5))));
  EXPECT_EQ(sum->contributors, 5U);
  EXPECT_THAT(cohort.blame, IsEmpty());
}

TEST_P(EveryCommittee, AbortsWithOneMemberLessThanAQuorum) {
  if (GetParam().members > 64) GTEST_SKIP() << "members check each other's keys: 128 take long";
  for (size_t step = 0; step <= kVotesStep; ++step) {
    if (step == kInputStep) continue;
    Cohort cohort(step, ShapeOf(3));
    const CommitteeRow* row = RowOf(cohort.params.committee);
    // Keys are due from all but the f that may be absent; later a quorum suffices.
    const uint32_t needed = step == 0 ? row->members - row->dropouts_max : row->quorum;
    for (uint32_t member = needed - 1; member < row->members; ++member) {
      cohort.DropOutMember(member, step);
    }
    EXPECT_THAT(cohort.Run(), HasCode(Code::kAborted)) << "step " << step;
  }
}

TEST_P(EveryCommittee, OpensWithTheThresholdOfSharesAndNotWithOneLess) {
  if (GetParam().members > 64) GTEST_SKIP() << "members check each other's keys: 128 take long";
  for (const uint32_t missing : {0U, 1U}) {
    Cohort cohort(missing, ShapeOf(3));
    const CommitteeRow* row = RowOf(cohort.params.committee);
    for (uint32_t i = 0; i < row->members - row->threshold() + missing; ++i) {
      cohort.DropOutMember(i, kOpeningStep);
    }
    const Result<Sum> sum = cohort.Run();
    if (missing == 1) {
      EXPECT_THAT(sum, HasCodeAndText(Code::kAborted, "too few"));
    } else {
      ASSERT_THAT(sum, IsOk());
      EXPECT_THAT(cohort.Values(*sum), ElementsAreArray(cohort.Expected(All(3))));
    }
  }
}

// I1, over members: whatever patterns of absence leave, it is the exact sum or none.
TEST(OneShot, MembersThatVanishNeverChangeTheSum) {
  int sums = 0;
  for (uint64_t seed = 0; seed < 80; ++seed) {
    Cohort cohort(seed, Shape(4));
    const std::unique_ptr<Rng> rng = crypto::NewSeededRng(cohort.Secret("drops", 0).Reveal());
    for (size_t member = 0; member < 7; ++member) {
      if (UniformBelow(*rng, 4) == 0) cohort.DropOutMember(member, UniformBelow(*rng, 5));
    }
    const Result<Sum> sum = cohort.Run();
    if (!sum.ok()) {
      EXPECT_THAT(sum, HasCode(Code::kAborted)) << "seed " << seed;
      continue;
    }
    ++sums;
    EXPECT_THAT(cohort.Values(*sum), ElementsAreArray(cohort.Expected(All(4)))) << seed;
  }
  EXPECT_GT(sums, 30);
  EXPECT_LT(sums, 80);
}

// The coordinator finds a client's ciphertext in one of several partial sums. With more clients
// than partial sums, whoever shares one with a client that is complained of is lost with it.
TEST(OneShot, LosesOnlyThosePartialSumsThatHoldABadClient) {
  CohortShape shape = Shape(18);
  shape.dim = uint64_t{1} << 21U;
  shape.bits = 43;  // 16 MiB a partial sum, 16 of them
  Cohort cohort(3, shape);
  ASSERT_EQ(limits::kOneShotFoldsBytesMax / (EncodingOf(cohort.params).residues() * 8), 16U);
  Positions complained;
  cohort.on_answer = [&](Where where, Bytes& body) {
    if (where.step != 2) return true;
    // Every member complains of whoever came last, and so shares the second partial sum.
    const PublicKey last = crypto::Ed25519Public(cohort.identities[17].Reveal());
    uint32_t position = 0;
    for (const SecretBytes& identity : cohort.identities) {
      if (crypto::Ed25519Public(identity.Reveal()) < last) ++position;
    }
    body = EncodeComplaints({position});
    return true;
  };
  const Result<Sum> sum = cohort.Run();
  ASSERT_THAT(sum, IsOk());
  std::set<size_t> in = All(18);
  in.erase(1);
  in.erase(17);
  EXPECT_EQ(sum->contributors, 16U);
  EXPECT_EQ(cohort.Values(*sum), cohort.Expected(in));
}

// --- complaints ---------------------------------------------------------------------------------
using Left = std::vector<bool>;

TEST(Complaints, OneLyingMemberIsLeftOutInsteadOfTheCohort) {
  const std::vector<Positions> complaints = {{}, {0, 1, 2, 3}, {}, {}};
  const Resolution resolution = ResolveComplaints(complaints, 4);
  EXPECT_EQ(resolution.members, (Left{false, true, false, false}));
  EXPECT_EQ(resolution.clients, (Left{false, false, false, false}));
}

TEST(Complaints, OneBadClientIsLeftOutInsteadOfTheCommittee) {
  const std::vector<Positions> complaints = {{2}, {2}, {2}, {2}};
  const Resolution resolution = ResolveComplaints(complaints, 4);
  EXPECT_EQ(resolution.members, (Left{false, false, false, false}));
  EXPECT_EQ(resolution.clients, (Left{false, false, true, false}));
}

TEST(Complaints, TheClientIsLeftOutOnTies) {
  const Resolution resolution = ResolveComplaints(std::vector<Positions>{{}, {1}}, 3);
  EXPECT_EQ(resolution.members, (Left{false, false}));
  EXPECT_EQ(resolution.clients, (Left{false, true, false}));
}

TEST(Complaints, ABadClientAndALyingMemberAreToldApart) {
  const std::vector<Positions> complaints = {{3}, {0, 1, 2, 3, 4}, {3}, {3}};
  const Resolution resolution = ResolveComplaints(complaints, 5);
  EXPECT_EQ(resolution.members, (Left{false, true, false, false}));
  EXPECT_EQ(resolution.clients, (Left{false, false, false, true, false}));
}

TEST(Complaints, CountOnlyWhileTheyAreUnresolved) {
  // Once client 0 is left out, the first member's other complaint weighs as much as client 1's.
  const Resolution resolution = ResolveComplaints(std::vector<Positions>{{0, 1}, {0}, {0}}, 2);
  EXPECT_EQ(resolution.members, (Left{false, false, false}));
  EXPECT_EQ(resolution.clients, (Left{true, true}));
}

// Whatever is complained of, no complaint stays between two that are kept.
TEST(Complaints, LeaveNoneBetweenThoseThatAreKept) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    const std::unique_ptr<Rng> rng =
        crypto::NewSeededRng(crypto::Sha256(Writer().U64(seed).view()));
    const auto clients = static_cast<uint32_t>(1 + UniformBelow(*rng, 30));
    std::vector<Positions> complaints(1 + UniformBelow(*rng, 12));
    for (Positions& mine : complaints) {
      for (uint32_t client = 0; client < clients; ++client) {
        if (UniformBelow(*rng, 5) == 0) mine.push_back(client);
      }
    }
    const Resolution resolution = ResolveComplaints(complaints, clients);
    for (size_t member = 0; member < complaints.size(); ++member) {
      if (resolution.members[member]) continue;
      for (const uint32_t client : complaints[member]) {
        EXPECT_TRUE(resolution.clients[client]) << "seed " << seed;
      }
    }
  }
  EXPECT_THAT(ResolveComplaints({}, 0).clients, IsEmpty());
}

// --- messages -----------------------------------------------------------------------------------
// Every question and answer of a session, with how its receiver reads it.
TEST(OneShotMessages, RefuseToBeCutShortOrLengthened) {
  Cohort cohort(5, Shape(4));
  const SessionParams& params = cohort.params;
  const size_t sealed = SealedShareBytes(params.committee);
  const ContributionShape shape{.shares_bytes = 7 * sealed,
                                .packed_bytes = EncodingOf(params).ciphertext_bytes()};
  const auto reads_question = [&](size_t step, BytesView body) {
    if (step == 1) {
      const size_t offer = std::min(body.size(), OfferBytes(Protocol::kOneShot));
      return DecodeCommittee(body.subspan(offer), 7).ok();
    }
    if (step == 2) return DecodePull(body, params).ok();
    if (step == 3) return DecodeSurvivorMap(body, 4).ok();
    return step == 4 ? DecodeQuorum(body, 7).ok()
                     : ReadOffer(cohort.coordinator, Protocol::kOneShot, body).ok();
  };
  const auto reads_answer = [&](size_t step, BytesView body) {
    if (step == 1) return DecodeContribution(body, shape).ok();
    if (step == 2) return DecodeComplaints(body, 4).ok();
    if (step == 3) return body.size() == sizeof(Signature);
    return step == 4 ? DecodeSumShare(body, sealed - crypto::kAeadTagBytes).ok()
                     : DecodeCommitteeKey(body).ok();
  };
  int messages = 0;
  const auto probe = [&](const auto& reads, size_t step, const Bytes& body) {
    EXPECT_TRUE(reads(step, body)) << "step " << step;
    const size_t stride = 1 + body.size() / 50;
    for (size_t size = 0; size < body.size(); size += stride) {
      EXPECT_FALSE(reads(step, BytesView(body).first(size))) << "step " << step << " " << size;
    }
    Bytes longer = body;
    longer.push_back(0);
    EXPECT_FALSE(reads(step, longer)) << "step " << step;
    ++messages;
  };
  cohort.on_question = [&](Where where, Bytes& body) {
    if (where.client == 0) probe(reads_question, where.step, body);
    return true;
  };
  cohort.on_answer = [&](Where where, Bytes& body) {
    if (where.client == 0) probe(reads_answer, where.step, body);
    return true;
  };
  EXPECT_THAT(cohort.Run(), IsOk());
  EXPECT_EQ(messages, 10);
}

TEST(OneShotMessages, RefuseListsThatAreNotInOrder) {
  EXPECT_THAT(DecodeComplaints(EncodeComplaints({0, 2, 3}), 4), HoldsValue(ElementsAre(0, 2, 3)));
  EXPECT_THAT(DecodeComplaints(EncodeComplaints({2, 2}), 4), HasCode(Code::kInvalidArgument));
  EXPECT_THAT(DecodeComplaints(EncodeComplaints({3, 2}), 4), HasCode(Code::kInvalidArgument));
  EXPECT_THAT(DecodeComplaints(EncodeComplaints({4}), 4), HasCode(Code::kInvalidArgument));
  Quorum quorum;
  quorum.votes = {{1, {}}, {3, {}}};
  EXPECT_THAT(DecodeQuorum(Encode(quorum), 3), IsOk());
  EXPECT_THAT(DecodeQuorum(Encode(quorum), 2), HasCode(Code::kInvalidArgument));
  quorum.votes = {{0, {}}, {1, {}}};
  EXPECT_THAT(DecodeQuorum(Encode(quorum), 3), HasCode(Code::kInvalidArgument));
  quorum.votes = {{2, {}}, {2, {}}};
  EXPECT_THAT(DecodeQuorum(Encode(quorum), 3), HasCode(Code::kInvalidArgument));
}

TEST(OneShotMessages, RefuseAMapWithPadBits) {
  EXPECT_EQ(EncodeSurvivorMap({0, 8, 9}, 10), (Bytes{0x01, 0x03}));
  EXPECT_THAT(DecodeSurvivorMap(Bytes{0x01, 0x03}, 10), HoldsValue(ElementsAre(0, 8, 9)));
  EXPECT_THAT(DecodeSurvivorMap(Bytes{0x01, 0x07}, 10), HasCode(Code::kInvalidArgument));
  EXPECT_THAT(DecodeSurvivorMap(Bytes{0x01}, 10), HasCode(Code::kInvalidArgument));
  EXPECT_THAT(DecodeSurvivorMap(Bytes{}, 0), HoldsValue(IsEmpty()));
}

}  // namespace
}  // namespace chorus::aggregation
