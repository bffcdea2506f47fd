// What OneShot's parties may be sent and what must happen [specification 3.15, T1 to T12].
#include "one_shot_adversary.h"

namespace chorus::aggregation {
namespace {

using testing::ElementsAreArray;
using testing::Not;

// --- against members ----------------------------------------------------------------------------
// T1.
TEST(OneShotAttack, T1MemberRefusesSurvivorsBelowTheMinimum) {
  for (const auto& [survivors, least] :
       std::vector<std::pair<Positions, uint32_t>>{{{0, 1, 2, 3}, 5}, {{0, 2, 4}, 4}, {{}, 3}}) {
    CohortShape shape = Shape(6);
    shape.minimum = least;
    Cohort cohort(1, shape);
    RunUntil(cohort, kVotesStep);
    EXPECT_THAT(cohort.committee[0]->Answer(EncodeSurvivorMap(survivors, 6)),
                HasCode(Code::kPermissionDenied));
    EXPECT_TRUE(cohort.committee[0]->done());
  }
}

TEST(OneShotAttack, T1MemberRefusesSurvivorsWithTooFewHonestOnesAmongThem) {
  CohortShape shape = Shape(12);
  shape.minimum = 10;
  shape.gamma_ppm = 200'000;
  Cohort cohort(1, shape);
  cohort.params.a_min = 8;  // of 10, 8 are honest
  cohort.committee[1] = *NewCommitteeMember(cohort.MemberOptionsFor(1));
  RunUntil(cohort, kVotesStep);
  const Positions ten = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
  EXPECT_THAT(cohort.committee[1]->Answer(EncodeSurvivorMap(ten, 12)), IsOk());
  EXPECT_EQ(HonestAmong(10, 200'000), 8U);
  EXPECT_EQ(HonestAmong(9, 200'000), 7U);
}

TEST(OneShotAttack, MemberRefusesParametersBelowItsPolicy) {
  const auto answered = [](const std::function<void(MemberOptions&)>& stricter) {
    Cohort cohort(1, Shape(6));
    MemberOptions options = cohort.MemberOptionsFor(2);
    stricter(options);
    cohort.committee[2] = *NewCommitteeMember(options);
    EXPECT_THAT(cohort.Run(), IsOk());
    return cohort.member_status[2];
  };
  EXPECT_THAT(answered([](MemberOptions&) {}), IsOk());
  for (const auto& stricter : std::vector<std::function<void(MemberOptions&)>>{
           [](MemberOptions& o) { o.expected.n_min = 4; },
           [](MemberOptions& o) { o.expected.n_max = 5; },
           [](MemberOptions& o) { o.expected.a_min = 3; },
           [](MemberOptions& o) { o.expected.gamma_ppm = 50'001; },
           [](MemberOptions& o) { o.expected.task_hash[0] ^= 1U; },
           [](MemberOptions& o) { o.expected.task_id[0] ^= 1U; },
           [](MemberOptions& o) { o.expected.committee.set = OneShotSet::kOsa8192; },
           [](MemberOptions& o) { o.expected.suite = 2; }}) {
    EXPECT_THAT(answered(stricter), HasCode(Code::kPermissionDenied));
  }
  EXPECT_THAT(answered([](MemberOptions& o) { o.coordinator[0] ^= 1U; }),
              HasCode(Code::kUnauthenticated));
}

// T2.
TEST(OneShotAttack, T2MemberRefusesAClientThatIsThereTwice) {
  Cohort cohort(1, Shape(5));
  cohort.on_question = [&](Where where, Bytes& body) {
    if (where.step == kComplaintsStep && where.client == 3) {
      Pull pull = *DecodePull(body, cohort.params);
      pull.entries[1] = pull.entries[0];
      body = EncodePull(pull.committee, pull.entries);
    }
    return true;
  };
  EXPECT_THAT(cohort.Run(), IsOk());
  EXPECT_THAT(cohort.member_status[3], HasCodeAndText(Code::kInvalidArgument, "twice"));
  EXPECT_TRUE(cohort.committee[3]->done());
}

TEST(OneShotAttack, MemberRefusesAnotherCommitteeThanItsTasks) {
  const auto told = [](const std::function<void(Cohort&, CommitteeList&)>& change) {
    Cohort cohort(1, Shape(5));
    cohort.on_question = [&](Where where, Bytes& body) {
      if (where.step == kComplaintsStep && where.client == 3) {
        Pull pull = *DecodePull(body, cohort.params);
        change(cohort, pull.committee);
        body = EncodePull(pull.committee, pull.entries);
      }
      return true;
    };
    EXPECT_THAT(cohort.Run(), IsOk());
    return cohort.member_status[3];
  };
  EXPECT_THAT(told([](Cohort&, CommitteeList&) {}), IsOk());
  // Another identity, with a key that it signed.
  EXPECT_THAT(told([](Cohort& cohort, CommitteeList& list) {
                list[0].id = crypto::Ed25519Public(cohort.identities[0].Reveal());
              }),
              HasCodeAndText(Code::kAborted, "another than the task's"));
  EXPECT_THAT(told([](Cohort&, CommitteeList& list) { std::swap(list[0], list[1]); }),
              HasCodeAndText(Code::kAborted, "another than the task's"));
  // A key of the coordinator's own making, for another member and for this one.
  for (const size_t member : {0, 3}) {
    EXPECT_THAT(told([&](Cohort& cohort, CommitteeList& list) {
                  list[member].key.key = crypto::X25519Public(cohort.signing_seed.Reveal());
                }),
                HasCode(Code::kAborted));
  }
  EXPECT_THAT(told([](Cohort&, CommitteeList& list) { list[0].key = list[1].key; }),
              HasCodeAndText(Code::kAborted, "twice"));
  EXPECT_THAT(told([](Cohort&, CommitteeList& list) { list[0].key.key = {}; }),
              HasCodeAndText(Code::kAborted, "signed no key"));
  EXPECT_THAT(told([](Cohort&, CommitteeList& list) {
                for (size_t j = 0; j < 3; ++j) list[j].key = {};
              }),
              HasCodeAndText(Code::kAborted, "too few committee members"));
}

// A header that its client did not sign so, though everything else in it opens: complained of, by
// whom it was shown to.
TEST(OneShotAttack, MemberComplainsOfAHeaderThatItsClientDidNotSign) {
  const std::vector<std::function<void(PullEntry&)>> changes = {
      [](PullEntry& entry) { entry.signature[0] ^= 1U; },
      [](PullEntry& entry) { entry.header.shares_digest[0] ^= 1U; },
      [](PullEntry& entry) { entry.header.vector_digest[0] ^= 1U; },
  };
  for (const auto& change : changes) {
    Cohort cohort(1, Shape(5));
    cohort.on_question = [&](Where where, Bytes& body) {
      if (where.step == kComplaintsStep && where.client == 3) {
        Pull pull = *DecodePull(body, cohort.params);
        change(pull.entries[2]);
        body = EncodePull(pull.committee, pull.entries);
      }
      return true;
    };
    cohort.on_heard = [](Where where, BytesView body) {
      if (where.step != kComplaintsStep) return;
      EXPECT_EQ(*DecodeComplaints(body, 5), where.client == 3 ? Positions{2} : Positions{});
    };
    const Result<Sum> sum = cohort.Run();
    ASSERT_THAT(sum, IsOk());
    EXPECT_EQ(sum->contributors, 4U);
  }
}

// T3.
TEST(OneShotAttack, T3MemberVotesOnceInASession) {
  Cohort cohort(1, Shape(6));
  RunUntil(cohort, kVotesStep);
  Contributor& member = *cohort.committee[4];
  EXPECT_THAT(member.Answer(EncodeSurvivorMap({0, 1, 2, 3, 4, 5}, 6)), IsOk());
  EXPECT_THAT(member.Answer(EncodeSurvivorMap({0, 1, 2, 3, 4}, 6)), Not(IsOk()));
  EXPECT_TRUE(member.done());
  EXPECT_THAT(member.Answer(EncodeSurvivorMap({0, 1, 2, 3, 4, 5}, 6)),
              HasCode(Code::kFailedPrecondition));
}

TEST(OneShotAttack, T3VotesForTwoSetsCertifyAtMostOne) {
  Cohort cohort(1, Shape(6));
  RunUntil(cohort, kVotesStep);
  const Positions sets[] = {{0, 1, 2, 3, 4, 5}, {0, 1, 2, 3, 4}};
  std::vector<Signature> votes;
  for (size_t j = 0; j < 7; ++j) {
    const Bytes vote = *cohort.committee[j]->Answer(EncodeSurvivorMap(sets[j < 4 ? 0 : 1], 6));
    std::copy(vote.begin(), vote.end(), votes.emplace_back().begin());
  }
  // A quorum is five. The votes of four and of three are made to look like one for either set.
  Digest roots[2];
  for (size_t set = 0; set < 2; ++set) {
    const Pull pull = *DecodePull(cohort.first_question[kComplaintsStep], cohort.params);
    std::vector<Digest> leaves;
    for (const uint32_t position : sets[set]) {
      ContributionHeader header = pull.entries[position].header;
      header.sid = OneShotSessionId(EncodeParams(cohort.params), CommitteeRoot(pull.committee));
      leaves.push_back(ContributionLeaf(header));
    }
    roots[set] = crypto::MerkleRoot(leaves);
  }
  for (size_t j = 0; j < 7; ++j) {
    const size_t set = j < 4 ? 0 : 1;
    Quorum quorum;
    quorum.root = roots[set];
    for (uint32_t i = set == 0 ? 0 : 2; quorum.votes.size() < 5; ++i) {
      quorum.votes.emplace_back(i + 1, votes[i]);
    }
    EXPECT_THAT(cohort.committee[j]->Answer(Encode(quorum)), HasCode(Code::kAborted));
  }
}

TEST(OneShotAttack, T3RestartedMemberCanNeitherVoteNorOpen) {
  Cohort cohort(1, Shape(6));
  std::map<size_t, Bytes> asked;
  cohort.on_question = [&](Where where, Bytes& body) {
    if (where.of_committee && where.client == 2) asked[where.step] = body;
    return true;
  };
  ASSERT_THAT(cohort.Run(), IsOk());
  for (const size_t first : {kComplaintsStep, kVotesStep, kOpeningStep}) {
    EXPECT_THAT((*NewCommitteeMember(cohort.MemberOptionsFor(2)))->Answer(asked[first]),
                Not(IsOk()));
  }
  // It may answer the offer again, with a new key; then nothing of the old session is for it.
  const std::unique_ptr<Contributor> restarted = *NewCommitteeMember(cohort.MemberOptionsFor(2));
  EXPECT_THAT(restarted->Answer(asked[kKeysStep]), IsOk());
  EXPECT_THAT(restarted->Answer(asked[kComplaintsStep]),
              HasCodeAndText(Code::kAborted, "its own key"));
}

// T4.
TEST(OneShotAttack, T4MemberRefusesAQuorumThatIsNone) {
  const auto told = [](const std::function<void(Cohort&, Quorum&)>& change) {
    Cohort cohort(1, Shape(5));
    cohort.on_question = [&](Where where, Bytes& body) {
      if (where.step == kOpeningStep && where.client == 5) {
        Quorum quorum = *DecodeQuorum(body, 7);
        change(cohort, quorum);
        body = Encode(quorum);
      }
      return true;
    };
    EXPECT_THAT(cohort.Run(), IsOk());
    return cohort.member_status[5];
  };
  EXPECT_THAT(told([](Cohort&, Quorum&) {}), IsOk());
  EXPECT_THAT(told([](Cohort&, Quorum& q) { q.votes.pop_back(); }),
              HasCodeAndText(Code::kAborted, "number of votes"));
  EXPECT_THAT(told([](Cohort&, Quorum& q) { q.votes.clear(); }), HasCode(Code::kAborted));
  EXPECT_THAT(told([](Cohort&, Quorum& q) { q.votes[1] = q.votes[0]; }),
              HasCode(Code::kInvalidArgument));
  // One member's vote under another's number.
  EXPECT_THAT(told([](Cohort&, Quorum& q) { q.votes[4].second = q.votes[0].second; }),
              HasCodeAndText(Code::kAborted, "not its member's"));
  // The vote of somebody who is no member.
  EXPECT_THAT(told([](Cohort& cohort, Quorum& q) {
                q.votes[4].second =
                    crypto::Ed25519Sign(cohort.identities[0].Reveal(), cohort.params.nonce);
              }),
              HasCodeAndText(Code::kAborted, "not its member's"));
  EXPECT_THAT(told([](Cohort&, Quorum& q) { q.root[0] ^= 1U; }),
              HasCodeAndText(Code::kAborted, "other survivors"));
  EXPECT_THAT(told([](Cohort&, Quorum& q) { q.votes.emplace_back(8, Signature{}); }),
              HasCode(Code::kInvalidArgument));
}

TEST(OneShotAttack, MemberAnswersNothingOutOfTurn) {
  Cohort cohort(1, Shape(5));
  std::map<size_t, Bytes> asked;
  cohort.on_question = [&](Where where, Bytes& body) {
    if (where.of_committee && where.client == 0) asked[where.step] = body;
    return true;
  };
  ASSERT_THAT(cohort.Run(), IsOk());
  const size_t steps[] = {kKeysStep, kComplaintsStep, kVotesStep, kOpeningStep};
  for (size_t reached = 0; reached < 4; ++reached) {
    for (size_t next = 0; next < 4; ++next) {
      if (next == reached) continue;
      Cohort again(1, Shape(5));
      RunUntil(again, reached == 0 ? 0 : steps[reached]);
      EXPECT_THAT(again.committee[0]->Answer(asked[steps[next]]), Not(IsOk()))
          << reached << " " << next;
      EXPECT_TRUE(again.committee[0]->done());
    }
  }
}

// --- against clients ----------------------------------------------------------------------------
TEST(OneShotAttack, ClientRefusesACommitteeOfTheCoordinatorsChoosing) {
  const auto told = [](const std::function<void(Cohort&, CommitteeList&)>& change) {
    Cohort cohort(1, Shape(5));
    cohort.on_question = [&](Where where, Bytes& body) {
      if (where.step == kInputStep && where.client == 2) {
        const size_t offer = OfferBytes(Protocol::kOneShot);
        CommitteeList list = *DecodeCommittee(BytesView(body).subspan(offer), 7);
        change(cohort, list);
        body = EncodeOsaOffer(BytesView(body).first(offer), list);
      }
      return true;
    };
    const Result<Sum> sum = cohort.Run();
    EXPECT_THAT(sum, IsOk());
    const Status status = cohort.client_status[2];
    if (!status.ok()) {
      EXPECT_THAT(cohort.Values(*sum), ElementsAreArray(cohort.Expected(AllBut(5, 2))));
      EXPECT_FALSE(cohort.contributors[2]->uploaded());
    }
    return status;
  };
  EXPECT_THAT(told([](Cohort&, CommitteeList&) {}), IsOk());
  EXPECT_THAT(told([](Cohort& cohort, CommitteeList& list) {
                list[6].id = crypto::Ed25519Public(cohort.identities[0].Reveal());
              }),
              HasCodeAndText(Code::kAborted, "another than the task's"));
  EXPECT_THAT(told([](Cohort& cohort, CommitteeList& list) {
                list[6].key.key = crypto::X25519Public(cohort.signing_seed.Reveal());
              }),
              HasCodeAndText(Code::kAborted, "did not sign"));
  EXPECT_THAT(told([](Cohort&, CommitteeList& list) {
                for (size_t j = 0; j < 3; ++j) list[j].key = {};
              }),
              HasCodeAndText(Code::kAborted, "too few committee members"));
}

TEST(OneShotAttack, ClientRefusesASessionBelowItsPolicy) {
  const auto answered = [](const std::function<void(ContributorOptions&)>& stricter) {
    Cohort cohort(1, Shape(6));
    ContributorOptions options = cohort.OptionsFor(2);
    stricter(options);
    cohort.contributors[2] = *NewContributor(std::move(options));
    EXPECT_THAT(cohort.Run(), IsOk());
    return cohort.client_status[2];
  };
  EXPECT_THAT(answered([](ContributorOptions&) {}), IsOk());
  for (const auto& stricter : std::vector<std::function<void(ContributorOptions&)>>{
           [](ContributorOptions& o) { o.honest_min = 3; },
           [](ContributorOptions& o) { o.expected.model_hash[0] ^= 1U; },
           [](ContributorOptions& o) { o.expected.round = 8; },
           [](ContributorOptions& o) { o.expected.n_min = 4; },
           [](ContributorOptions& o) { o.expected.gamma_ppm = 60'000; },
           [](ContributorOptions& o) { o.expected.committee.set = OneShotSet::kOsa8192; }}) {
    EXPECT_THAT(answered(stricter), HasCode(Code::kPermissionDenied));
  }
}

// T11.
TEST(OneShotAttack, T11ContributionAfterTheSurvivorsAreFrozenIsIgnored) {
  Cohort cohort(1, Shape(6));
  Bytes late;
  cohort.on_answer = [&](Where where, Bytes& body) {
    if (where.step != kInputStep || where.client != 5) return true;
    late = body;
    return false;
  };
  RunUntil(cohort, kComplaintsStep);
  const Status refused = cohort.aggregator->Hear(Cohort::kFirstParty + 5, late);
  EXPECT_THAT(refused, HasCode(Code::kNotFound));
  while (!cohort.aggregator->done()) {
    ASSERT_THAT(cohort.Step(), IsOk());
    EXPECT_THAT(cohort.aggregator->Hear(Cohort::kFirstParty + 5, late), HasCode(Code::kNotFound));
  }
  const Result<Sum> sum = cohort.aggregator->Finish();
  ASSERT_THAT(sum, IsOk());
  EXPECT_THAT(cohort.Values(*sum), ElementsAreArray(cohort.Expected(AllBut(6, 5))));
}

// T12.
TEST(OneShotAttack, T12CommitteeKeyOfAnotherSessionIsRefusedByAll) {
  SeenKeys at_server(1'000);
  SeenKeys at_client(1'000);
  SeenKeys at_member(1'000);
  const auto run = [&](uint64_t round, bool server_looks) {
    Cohort cohort(1, Shape(5));  // the same seed, and so the same keys
    cohort.params.round = round;
    if (server_looks) cohort.seen_keys = &at_server;
    for (size_t i = 0; i < 5; ++i) {
      ContributorOptions options = cohort.OptionsFor(i);
      if (i == 3) options.seen_keys = &at_client;
      cohort.contributors[i] = *NewContributor(std::move(options));
    }
    for (size_t j = 0; j < 7; ++j) {
      MemberOptions options = cohort.MemberOptionsFor(j);
      if (j == 2) options.seen_keys = &at_member;
      cohort.committee[j] = *NewCommitteeMember(options);
    }
    const Status status = cohort.Run().status();
    return std::tuple(status, cohort.client_status[3], cohort.member_status[2],
                      cohort.member_hear_status[0]);
  };
  EXPECT_THAT(std::get<0>(run(7, true)), IsOk());
  const auto seen_by_peers = run(8, false);
  EXPECT_THAT(std::get<0>(seen_by_peers), IsOk());
  EXPECT_THAT(std::get<1>(seen_by_peers), HasCodeAndText(Code::kAborted, "another session"));
  EXPECT_THAT(std::get<2>(seen_by_peers), HasCodeAndText(Code::kAborted, "another session"));
  const auto seen_by_server = run(9, true);
  EXPECT_THAT(std::get<0>(seen_by_server), HasCode(Code::kAborted));
  EXPECT_THAT(std::get<3>(seen_by_server),
              HasCodeAndText(Code::kInvalidArgument, "another session"));
}

}  // namespace
}  // namespace chorus::aggregation
