// What lying clients and committee members can do to a session of OneShot [specification 3.15].
#include "one_shot_adversary.h"

namespace chorus::aggregation {
namespace {

using testing::Contains;
using testing::ElementsAreArray;
using testing::IsEmpty;

// --- members that lie ---------------------------------------------------------------------------
// T5.
TEST(OneShotAttack, T5LyingMemberIsCorrectedAndNamed) {
  for (size_t liar = 0; liar < 7; ++liar) {
    Cohort cohort(liar, Shape(5));
    LetMembersLie(cohort, {liar}, [](std::span<uint64_t> elements) {
      elements[517] = math::FieldAdd(elements[517], 1);
    });
    const Result<Sum> sum = cohort.Run();
    ASSERT_THAT(sum, IsOk());
    EXPECT_THAT(cohort.Values(*sum), ElementsAreArray(cohort.Expected(AllBut(5, 5))));
    EXPECT_EQ(cohort.blame.size(), 1U);
    EXPECT_THAT(cohort.blame,
                Contains(Blames(Cohort::kFirstMember + liar, Blame::Cause::kWrongShare)));
    EXPECT_EQ(cohort.blame[0].id, cohort.committee_ids[liar]);
  }
}

TEST(OneShotAttack, T5MoreLiarsThanCanBeCorrectedEndTheSession) {
  for (const size_t liars : {2, 3, 4, 7}) {
    Cohort cohort(liars, Shape(5));
    std::set<size_t> members;
    for (size_t j = 0; j < liars; ++j) members.insert(j);
    uint64_t next = 1;
    LetMembersLie(cohort, members, [&](std::span<uint64_t> elements) {
      for (uint64_t& element : elements) {
        next = math::FieldMultiply(next, 3);
        element = math::FieldAdd(element, next);
      }
    });
    EXPECT_THAT(cohort.Run(), HasCode(Code::kAborted)) << liars;
    EXPECT_THAT(cohort.blame, IsEmpty());
  }
}

// So many that they agree on another word of the code: what they add is a sharing of something.
TEST(OneShotAttack, T5LiarsThatSteerTheDecoderAreCaughtByTheRangeOfWhatItOpens) {
  const std::vector<std::function<void(std::span<uint64_t>)>> changes = {
      // One more in each even coefficient of the key, and far more in all.
      [](std::span<uint64_t> all) {
        for (uint64_t& element : all) element = math::FieldAdd(element, 1);
      },
      [](std::span<uint64_t> all) { all[1023] = math::FieldAdd(all[1023], 1); },
      [](std::span<uint64_t> all) { all[0] = math::FieldAdd(all[0], uint64_t{1} << 40U); },
  };
  for (size_t change = 0; change < changes.size(); ++change) {
    for (const size_t liars : {6, 7}) {
      Cohort cohort(change, Shape(5));
      std::set<size_t> members;
      for (size_t j = 0; j < liars; ++j) members.insert(j);
      LetMembersLie(cohort, members, changes[change]);
      EXPECT_THAT(cohort.Run(), HasCode(Code::kAborted)) << change << " " << liars;
      EXPECT_THAT(cohort.blame, IsEmpty()) << "the honest one would be named";
    }
  }
}

TEST(OneShotAttack, MemberThatComplainsOfEverybodyIsLeftOut) {
  Cohort cohort(1, Shape(5));
  cohort.on_answer = [](Where where, Bytes& body) {
    if (where.step == kComplaintsStep && where.client == 2) {
      body = EncodeComplaints({0, 1, 2, 3, 4});
    }
    return true;
  };
  cohort.on_question = [](Where where, Bytes&) {
    EXPECT_FALSE(where.step > kComplaintsStep && where.client == 2) << "it is asked again";
    return true;
  };
  const Result<Sum> sum = cohort.Run();
  ASSERT_THAT(sum, IsOk());
  EXPECT_THAT(cohort.Values(*sum), ElementsAreArray(cohort.Expected(AllBut(5, 5))));
  EXPECT_EQ(cohort.blame.size(), 1U);
  EXPECT_THAT(cohort.blame,
              Contains(Blames(Cohort::kFirstMember + 2, Blame::Cause::kDeniedShares)));
}

TEST(OneShotAttack, MemberThatVotesForAnotherSetIsNotHeard) {
  Cohort cohort(1, Shape(5));
  cohort.on_question = [](Where where, Bytes& body) {
    if (where.step == kVotesStep && where.client == 2) body = EncodeSurvivorMap({0, 1, 2}, 5);
    return true;
  };
  EXPECT_THAT(cohort.Run(), IsOk());
  EXPECT_THAT(cohort.member_hear_status[2], HasCode(Code::kUnauthenticated));
}

TEST(OneShotAttack, TwoDifferentSignedAnswersAreKeptAsEvidence) {
  Cohort cohort(1, Shape(5));
  cohort.on_heard = [&](Where where, BytesView) {
    if (where.step == kKeysStep && where.client == 1) {
      CommitteeKey other;
      other.key = crypto::X25519Public(cohort.Secret("other", 0).Reveal());
      const Digest sid0 = crypto::LabeledHash("CHORUS1/sid0", {EncodeParams(cohort.params)});
      other.signature = crypto::Ed25519Sign(cohort.member_identities[1].Reveal(),
                                            CommitteeKeyMessage(sid0, 2, other.key));
      EXPECT_THAT(cohort.aggregator->Hear(Cohort::kFirstMember + 1, Encode(other)),
                  HasCode(Code::kAlreadyExists));
    }
    if (where.step == kInputStep && where.client == 3) {
      const Bytes other = LyingContribution(cohort, 3, cohort.first_question[kInputStep], {});
      EXPECT_THAT(cohort.aggregator->Hear(Cohort::kFirstParty + 3, other),
                  HasCode(Code::kAlreadyExists));
    }
  };
  const Result<Sum> sum = cohort.Run();
  ASSERT_THAT(sum, IsOk());
  EXPECT_THAT(cohort.Values(*sum), ElementsAreArray(cohort.Expected(AllBut(5, 5))));
  EXPECT_THAT(cohort.blame, Contains(Blames(Cohort::kFirstMember + 1, Blame::Cause::kEquivocated)));
  EXPECT_THAT(cohort.blame, Contains(Blames(Cohort::kFirstParty + 3, Blame::Cause::kEquivocated)));
  for (const Blame& blame : cohort.blame) {
    EXPECT_TRUE(crypto::Ed25519Verify(blame.id, blame.first.message, blame.first.signature));
    EXPECT_TRUE(crypto::Ed25519Verify(blame.id, blame.second.message, blame.second.signature));
    EXPECT_NE(blame.first.message, blame.second.message);
  }
}

// --- clients that lie ---------------------------------------------------------------------------
// T6: shares that are for another member, of another session, beyond the field or garbage. Some
// members cannot use them: the client is left out, and nobody else.
TEST(OneShotAttack, T6ClientWhoseSharesDoNotOpenIsLeftOut) {
  const std::vector<Lie> lies = {
      {.on_route = [](ShareRoute& route) { route.member = route.member % 7 + 1; }},
      {.on_route =
           [](ShareRoute& route) {
             if (route.member <= 2) route.member = 3 - route.member;
           }},
      {.on_share_sid = [](Digest& sid) { sid[0] ^= 1U; }},
      {.on_share =
           [](uint32_t member, Bytes& share) {
             if (member == 6) std::fill(share.begin(), share.end(), 0xFF);
           }},
      {.on_share =
           [](uint32_t member, Bytes& share) {
             if (member == 1) share.back() = 0x20;
           }},
  };
  for (size_t lie = 0; lie < lies.size(); ++lie) {
    Cohort cohort(lie, Shape(6));
    LetLie(cohort, 4, lies[lie]);
    const Result<Sum> sum = cohort.Run();
    ASSERT_THAT(sum, IsOk()) << lie;
    EXPECT_THAT(cohort.Values(*sum), ElementsAreArray(cohort.Expected(AllBut(6, 4)))) << lie;
    EXPECT_EQ(sum->contributors, 5U);
    EXPECT_EQ(cohort.blame.size(), 1U);
    EXPECT_THAT(cohort.blame,
                Contains(Blames(Cohort::kFirstParty + 4, Blame::Cause::kUnusableShares)));
  }
}

TEST(OneShotAttack, ClientThatFollowsTheProtocolByHandIsCounted) {
  Cohort cohort(1, Shape(6));
  LetLie(cohort, 4, {});
  const Result<Sum> sum = cohort.Run();
  ASSERT_THAT(sum, IsOk());
  EXPECT_THAT(cohort.Values(*sum), ElementsAreArray(cohort.Expected(AllBut(6, 6))));
}

// A client that a member does not know to be certified is complained of by it.
TEST(OneShotAttack, MemberComplainsOfAClientThatItsVerifierRefuses) {
  Cohort cohort(1, Shape(6));
  ListVerifier stricter;
  stricter.refused.insert(crypto::Ed25519Public(cohort.identities[1].Reveal()));
  MemberOptions options = cohort.MemberOptionsFor(3);
  options.verifier = &stricter;
  cohort.committee[3] = *NewCommitteeMember(options);
  const Result<Sum> sum = cohort.Run();
  ASSERT_THAT(sum, IsOk());
  EXPECT_THAT(cohort.Values(*sum), ElementsAreArray(cohort.Expected(AllBut(6, 1))));
}

// Shares that each open and together are of no polynomial: the session ends, nobody can tell whose
// fault it was, and there is no wrong sum.
TEST(OneShotAttack, SharesOfNoPolynomialEndTheSessionWithoutASum) {
  for (const size_t bad_shares : {2, 3, 5, 7}) {
    Cohort cohort(bad_shares, Shape(6));
    LetLie(cohort, 4, {.on_share = [&](uint32_t member, Bytes& share) {
             if (member <= bad_shares) {
               share[8] = static_cast<uint8_t>(share[8] + 1 + member * member);
             }
           }});
    EXPECT_THAT(cohort.Run(), HasCode(Code::kAborted)) << bad_shares;
  }
}

// T8, for the streams of a session.
TEST(OneShotAttack, T8KeysAndErrorsAreSmall) {
  const math::RlweRing ring(math::RlweSet::kOsa4096);
  const ClientStreams own(Digest{1}, Digest{2});
  const math::SecretNumbers<int32_t> secret = math::SampleSecret(ring, *own.Secret());
  for (const int32_t s : secret.Reveal()) EXPECT_LE(std::abs(s), math::kRlweSecretMax);
}

// T10.
TEST(OneShotAttack, T10ErrorsBeyondTheBoundEndTheSession) {
  for (const uint64_t error : {uint64_t{150}, uint64_t{4'000}, uint64_t{8'191}, uint64_t{16'200}}) {
    Cohort cohort(error, Shape(6));
    const uint64_t coefficients = EncodingOf(cohort.params).coefficients();
    LetLie(cohort, 4, {.on_packed = [&](Bytes& packed) {
             AddToFirstCoefficient(packed, coefficients, error);
           }});
    EXPECT_THAT(cohort.Run(), HasCode(Code::kAborted)) << error;
  }
  // A small error goes unnoticed and changes nothing.
  Cohort cohort(1, Shape(6));
  const uint64_t coefficients = EncodingOf(cohort.params).coefficients();
  LetLie(cohort, 4,
         {.on_packed = [&](Bytes& packed) { AddToFirstCoefficient(packed, coefficients, 1); }});
  const Result<Sum> sum = cohort.Run();
  ASSERT_THAT(sum, IsOk());
  EXPECT_THAT(cohort.Values(*sum), ElementsAreArray(cohort.Expected(AllBut(6, 6))));
}

// q is 2^14 * T less a number, by which the fields of the one coefficient change: as if the liar
// had chosen another vector, which is anybody's right.
TEST(OneShotAttack, T10ErrorThatWentRoundIsAnotherVectorOfItsSender) {
  CohortShape shape = Shape(6);
  shape.dim = 47;
  shape.bound = ((uint64_t{1} << 20U) - 1) / 6;  // else the sum would be out of its range
  Cohort cohort(1, shape);
  const math::RlweEncoding encoding = EncodingOf(cohort.params);
  LetLie(cohort, 4, {.on_packed = [&](Bytes& packed) {
           AddToFirstCoefficient(packed, encoding.coefficients(), 16'383);
         }});
  const Result<Sum> sum = cohort.Run();
  ASSERT_THAT(sum, IsOk());
  const std::vector<int64_t> values = cohort.Values(*sum);
  const std::vector<int64_t> expected = cohort.Expected(AllBut(6, 6));
  const auto fields = static_cast<ptrdiff_t>(encoding.fields());
  EXPECT_NE(values.front(), expected.front());
  EXPECT_TRUE(std::equal(values.begin() + fields, values.end(), expected.begin() + fields));
}

TEST(OneShotAttack, T10GarbageUnderACertifiedSignatureEndsTheSession) {
  Cohort cohort(1, Shape(6));
  LetLie(cohort, 4, {.on_packed = [](Bytes& packed) { packed[1] ^= 1U; }});
  EXPECT_THAT(cohort.Run(), HasCode(Code::kAborted));
}

TEST(OneShotAttack, ContributionThatIsNotWhatWasSignedIsRefused) {
  const std::vector<std::function<void(OsaContribution&)>> changes = {
      [](OsaContribution& m) { m.header.sid[0] ^= 1U; },
      [](OsaContribution& m) { m.header.id[0] ^= 1U; },
      [](OsaContribution& m) { m.header.ephemeral[0] ^= 1U; },
      [](OsaContribution& m) { m.header.vector_digest[0] ^= 1U; },
      [](OsaContribution& m) { m.header.shares_digest[0] ^= 1U; },
      [](OsaContribution& m) { m.signature[0] ^= 1U; },
  };
  for (size_t change = 0; change <= changes.size() + 1; ++change) {
    Cohort cohort(change, Shape(6));
    const size_t sealed = SealedShareBytes(cohort.params.committee);
    const ContributionShape shape{.shares_bytes = 7 * sealed,
                                  .packed_bytes = EncodingOf(cohort.params).ciphertext_bytes()};
    cohort.on_answer = [&](Where where, Bytes& body) {
      if (where.step != kInputStep || where.client != 4) return true;
      if (change < changes.size()) {
        OsaContribution message = *DecodeContribution(body, shape);
        changes[change](message);
        body = Encode(message);
      } else {
        body[body.size() - shape.packed_bytes - (change - changes.size())] ^= 1U;
      }
      return true;
    };
    const Result<Sum> sum = cohort.Run();
    ASSERT_THAT(sum, IsOk());
    EXPECT_FALSE(cohort.hear_status[4].ok()) << change;
    EXPECT_THAT(cohort.Values(*sum), ElementsAreArray(cohort.Expected(AllBut(6, 4))));
  }
}

TEST(OneShotAttack, OneIdentityContributesOnce) {
  Cohort cohort(1, Shape(6));
  ContributorOptions twin = cohort.OptionsFor(3);
  twin.identity_seed = cohort.identities[2].Reveal();
  cohort.contributors[3] = *NewContributor(std::move(twin));
  const Result<Sum> sum = cohort.Run();
  ASSERT_THAT(sum, IsOk());
  EXPECT_THAT(cohort.hear_status[3], HasCodeAndText(Code::kInvalidArgument, "already"));
  EXPECT_THAT(cohort.Values(*sum), ElementsAreArray(cohort.Expected(AllBut(6, 3))));
}

}  // namespace
}  // namespace chorus::aggregation
