// The attacks of lying clients, numbered as in the specification [3.15]: a lie harms its sender
// only, or, where nobody can see it, ends in an abort; never in a wrong sum. Over every sharing
// graph, with six holders to a client and a threshold of four unless said otherwise. Each liar
// knows its own secrets and signs what it sends.
#include "adversary.h"

namespace chorus::aggregation {
namespace {

constexpr size_t kLiar = 2;

// The sum is there and is exactly that of `clients`.
void ExpectSum(const AttackedCohort& cohort, const Result<Sum>& sum,
               const std::set<size_t>& clients) {
  ASSERT_THAT(sum, IsOk());
  EXPECT_EQ(sum->contributors, clients.size());
  EXPECT_EQ(cohort.Values(*sum), cohort.Expected(clients));
  EXPECT_GT(cohort.monitor.shares_opened(), 0U);
}

// Nobody else lost anything by the lie: every answer was heard, and nobody gave up.
void ExpectNobodyHarmed(const AttackedCohort& cohort) {
  for (size_t client = 0; client < cohort.clients; ++client) {
    EXPECT_THAT(cohort.hear_status.at(client), IsOk()) << client;
    EXPECT_THAT(cohort.client_status.at(client), IsOk()) << client;
  }
}

bool Blamed(const AttackedCohort& cohort, size_t client, Blame::Cause cause) {
  return std::any_of(cohort.blame.begin(), cohort.blame.end(), [&](const Blame& blame) {
    return blame.party == Cohort::kFirstParty + client && blame.cause == cause;
  });
}

// Whose input counts after a lie.
enum class Counted { kAll, kAllButTheLiar };

class Attack : public testing::TestWithParam<SharingGraph> {
 protected:
  Rows rows() const { return RowsOf(GetParam()); }
  // One liar changes its answer in one row. The rest must come to their sum, and the liar must hear
  // `code`.
  void LieIsRefused(size_t row, Code code, Counted counted,
                    const std::function<void(AttackedCohort&, Bytes&)>& change) const {
    AttackedCohort cohort(31, GetParam());
    const Result<Sum> sum = cohort.RunWith([&](Where where, Bytes& body) {
      if (where.step == row && where.client == kLiar) change(cohort, body);
    });
    ExpectSum(cohort, sum, counted == Counted::kAll ? cohort.AllBut({}) : cohort.AllBut({kLiar}));
    EXPECT_THAT(cohort.hear_status[kLiar], HasCode(code));
    EXPECT_TRUE(cohort.blame.empty());
  }
};
INSTANTIATE_TEST_SUITE_P(Clients, Attack, testing::ValuesIn(kAllGraphs), NameOfGraph);

// Attacks on messages that the ring has not.
class AcknowledgementAttack : public Attack {};
INSTANTIATE_TEST_SUITE_P(Clients, AcknowledgementAttack, testing::ValuesIn(kMaliciousGraphs),
                         NameOfGraph);

// Signs what the liar sends, as only it can.
Bytes Signed(const AttackedCohort& cohort, Shares shares) {
  const Index me = cohort.IndexOf(kLiar);
  shares.signature = cohort.SignAs(kLiar, SharesMessage(cohort.sid(), me, shares));
  return Encode(shares);
}
Bytes Signed(const AttackedCohort& cohort, Masked masked) {
  masked.signature = cohort.SignAs(kLiar, MaskedMessage(cohort.IndexOf(kLiar), masked));
  return Encode(masked);
}
Masked MaskedOf(BytesView body, uint64_t packed_bytes = 21) {
  return *DecodeMasked(body, 12, packed_bytes);
}

// --- secrets -----------------------------------------------------------------------------------
// Deals shares of `owner` that lie on no polynomial of the threshold's degree: `wrong` of them are
// off it. The liar re-seals what its own contributor dealt.
void DealWrong(const AttackedCohort& cohort, size_t owner, size_t wrong, Bytes& body) {
  Shares shares = *DecodeShares(body, cohort.clients);
  for (size_t i = 0; i < wrong; ++i) {
    auto& [index, sealed] = shares.sealed[i];
    const ChannelKeys keys = cohort.Channel(owner, cohort.ClientAt(index));
    const Bytes data = ShareAssociatedData(cohort.sid(), cohort.IndexOf(owner), index,
                                           cohort.graph(), shares.commitment);
    SecretBytes both = *crypto::AeadOpen(keys.seal.Reveal(), crypto::Nonce{}, data, sealed);
    // Changes of one size could cancel in the secret.
    const auto change = static_cast<uint8_t>(7 * i * i + 1);
    both.RevealMutable()[1] ^= change;
    both.RevealMutable()[math::kShareBytes + 1] ^= change;
    const Bytes again = crypto::AeadSeal(keys.seal.Reveal(), crypto::Nonce{}, data, both.Reveal());
    std::copy(again.begin(), again.end(), sealed.begin());
  }
  shares.signature =
      cohort.SignAs(owner, SharesMessage(cohort.sid(), cohort.IndexOf(owner), shares));
  body = Encode(shares);
}

TEST_P(Attack, 29_SharesOfNoPolynomialAreCorrectedOrNameTheirOwner) {
  for (const bool drops : {false, true}) {
    for (size_t wrong = 1; wrong <= 6; ++wrong) {
      AttackedCohort cohort(29, GetParam());
      if (drops) cohort.DropOut(kLiar, rows().input);
      const Result<Sum> sum = cohort.RunWith([&](Where where, Bytes& body) {
        if (where.step == rows().shares && where.client == kLiar) {
          DealWrong(cohort, kLiar, wrong, body);
        }
      });
      // Nobody can see the lie when it is told. Up to (k - t) / 2 = 1 share is put right.
      if (wrong == 1) {
        ExpectSum(cohort, sum, drops ? cohort.AllBut({kLiar}) : cohort.AllBut({}));
      } else {
        EXPECT_THAT(sum, HasCode(Code::kAborted)) << wrong;
        EXPECT_TRUE(Blamed(cohort, kLiar, Blame::Cause::kInconsistentShares)) << wrong;
      }
    }
  }
}

// Holders that give wrong shares of everybody at unmasking.
TEST_P(Attack, 30_WrongSharesAreCorrectedAndNameTheirHolder) {
  for (size_t liars = 1; liars <= 5; ++liars) {
    const bool complete = GetParam() == SharingGraph::kComplete;
    AttackedCohort cohort(30, complete ? ShapeOf(10) : ShapeOf(GetParam()));
    const Result<Sum> sum = cohort.RunWith([&](Where where, Bytes& body) {
      if (where.step != rows().unmask || where.client >= liars) return;
      std::vector<UnmaskEntry> entries = *DecodeUnmask(body, cohort.clients, 1);
      for (UnmaskEntry& entry : entries) entry.share.y[1] ^= 1;
      body = EncodeUnmask(entries);
    });
    for (size_t client = 0; client < cohort.clients; ++client) {
      EXPECT_THAT(cohort.hear_status[client], IsOk()) << "no single share shows that it is wrong";
    }
    // One wrong share of each owner is put right: (k - t) / 2. More can hide among the shares that
    // were not needed to open anything.
    if (liars == 1 || sum.ok()) {
      ExpectSum(cohort, sum, cohort.AllBut({}));
    } else {
      EXPECT_THAT(sum, HasCode(Code::kAborted)) << liars;
      EXPECT_FALSE(cohort.blame.empty()) << liars;
    }
    if (liars == 1 && (!complete || cohort.IndexOf(0) < cohort.graph().t)) {
      EXPECT_TRUE(Blamed(cohort, 0, Blame::Cause::kWrongShare));
    }
    for (size_t client = liars; client < cohort.clients; ++client) {
      EXPECT_FALSE(Blamed(cohort, client, Blame::Cause::kWrongShare)) << client;
    }
  }
}

// --- lists -------------------------------------------------------------------------------------
TEST_P(Attack, 31_EmptyUnmaskAnswerHarmsOnlyItsSender) {
  LieIsRefused(rows().unmask, Code::kInvalidArgument, Counted::kAll,
               [](AttackedCohort&, Bytes& body) { body.clear(); });
  // On the ring a list of nothing is well formed: the holder refuses everybody, and is not needed.
  const bool ring = GetParam() == SharingGraph::kHarary;
  LieIsRefused(rows().unmask, ring ? Code::kOk : Code::kInvalidArgument, Counted::kAll,
               [](AttackedCohort&, Bytes& body) { body = EncodeUnmask({}); });
}

TEST_P(Attack, 31_ThreeByteShareHarmsOnlyItsSender) {
  LieIsRefused(rows().unmask, Code::kInvalidArgument, Counted::kAll,
               [](AttackedCohort&, Bytes& body) {
                 // The first entry's share shrinks to three bytes.
                 body.erase(body.begin() + 4 + 5 + 3, body.begin() + 4 + 5 + math::kShareBytes);
               });
  LieIsRefused(rows().unmask, Code::kInvalidArgument, Counted::kAll,
               [](AttackedCohort&, Bytes& body) {
                 body = std::move(Writer().U32(1).U32(0).U8(1).Raw("abc")).Take();
               });
}

TEST_P(Attack, 31_InvalidPublicKeyHarmsOnlyItsSender) {
  for (const uint8_t first : {uint8_t{0}, uint8_t{1}}) {
    LieIsRefused(rows().keys, Code::kInvalidArgument, Counted::kAllButTheLiar,
                 [first](AttackedCohort& cohort, Bytes& body) {
                   Advertise said = *DecodeAdvertise(body);
                   said.s = PublicKey{first};
                   said.signature = cohort.SignAs(kLiar, AdvertiseMessage(said));
                   body = Encode(said);
                 });
  }
  LieIsRefused(rows().keys, Code::kInvalidArgument, Counted::kAllButTheLiar,
               [](AttackedCohort&, Bytes& body) {
                 body.erase(body.begin() + 70);  // a key of 31 bytes
               });
}

TEST_P(Attack, 31_UnmaskListThatIsNotWhatWasAskedIsRefused) {
  using Change = std::function<void(std::vector<UnmaskEntry>&)>;
  for (const Change& change :
       std::vector<Change>{[](auto& entries) { entries.push_back(entries.back()); },
                           [](auto& entries) { entries.insert(entries.begin(), entries.front()); },
                           [](auto& entries) { std::swap(entries[0], entries[1]); },
                           [](auto& entries) { entries[2].owner = 12; },
                           [](auto& entries) { entries[2].owner = UINT32_MAX; },
                           [](auto& entries) { entries[2].fate = Fate::kDropped; },
                           [](auto& entries) { entries[2].share.y[0] = math::kPrime; },
                           [](auto& entries) { entries[2].share.y[4] = UINT64_MAX; }}) {
    LieIsRefused(rows().unmask, Code::kInvalidArgument, Counted::kAll,
                 [&](AttackedCohort&, Bytes& body) {
                   std::vector<UnmaskEntry> entries = *DecodeUnmask(body, 12, 1);
                   change(entries);
                   body = EncodeUnmask(entries);
                 });
  }
}

TEST_P(AcknowledgementAttack, 31_UnmaskListThatLeavesAnOwnerOutIsRefused) {
  LieIsRefused(rows().unmask, Code::kInvalidArgument, Counted::kAll,
               [](AttackedCohort&, Bytes& body) {
                 std::vector<UnmaskEntry> entries = *DecodeUnmask(body, 12, 1);
                 entries.pop_back();
                 body = EncodeUnmask(entries);
               });
}

TEST_P(Attack, 31_ShareListOfWrongShapeIsRefused) {
  using Change = std::function<void(Shares&, Index)>;
  for (const Change& change : std::vector<Change>{
           [](Shares&s, Index) { s.sealed.pop_back(); },
           [](Shares&s, Index) { s.sealed.push_back(s.sealed.back()); },
           [](Shares&s, Index) { std::swap(s.sealed[0], s.sealed[1]); },
           [](Shares&s, Index) { s.sealed.back().first = 12; },
           [](Shares&s, Index) { s.sealed.clear(); },
           [](Shares&s, Index me) {  // to itself in place of a neighbour
             const auto after = std::find_if(s.sealed.begin(), s.sealed.end() - 1,
                                             [me](const auto& e) { return e.first > me; });
             after->first = me;
           }}) {
    LieIsRefused(rows().shares, Code::kInvalidArgument, Counted::kAllButTheLiar,
                 [&](AttackedCohort& cohort, Bytes& body) {
                   Shares shares = *DecodeShares(body, 12);
                   change(shares, cohort.IndexOf(kLiar));
                   body = Signed(cohort, shares);
                 });
  }
}

// Only there does a client owe anybody a hello.
TEST(SelfSelectedAttack, 31_HelloListOfWrongShapeIsRefused) {
  for (const bool missing : {true, false}) {
    AttackedCohort cohort(31, SharingGraph::kSelfSelected);
    const Result<Sum> sum = cohort.RunWith([&](Where where, Bytes& body) {
      if (where.step != cohort.rows.shares || where.client != kLiar) return;
      Shares shares = *DecodeShares(body, 12);
      ASSERT_FALSE(shares.hellos.empty());
      if (missing) {
        shares.hellos.pop_back();
      } else {  // to a holder as well
        shares.hellos.emplace_back(shares.sealed[0].first, Hello{});
        std::sort(shares.hellos.begin(), shares.hellos.end());
      }
      body = Signed(cohort, shares);
    });
    ExpectSum(cohort, sum, cohort.AllBut({kLiar}));
    EXPECT_THAT(cohort.hear_status[kLiar], HasCode(Code::kInvalidArgument));
  }
}

TEST_P(Attack, 31_MaskedInputWithListsOfWrongShapeIsRefused) {
  using Change = std::function<void(Masked&, Index)>;
  for (const Change& change : std::vector<Change>{
           [](Masked&m, Index) { m.edges.pop_back(); },
           [](Masked&m, Index) { m.edges.push_back(m.edges.back()); },
           [](Masked&m, Index) { m.edges.back().first = UINT32_MAX; },
           [](Masked&m, Index me) { m.failed = {me}; }, [](Masked&m, Index) { m.failed = {12}; },
           [](Masked&m, Index) {
             m.failed = {1, 1};
           }}) {
    LieIsRefused(rows().input, Code::kInvalidArgument, Counted::kAllButTheLiar,
                 [&](AttackedCohort& cohort, Bytes& body) {
                   Masked masked = MaskedOf(body);
                   change(masked, cohort.IndexOf(kLiar));
                   body = Signed(cohort, masked);
                 });
  }
}

TEST_P(AcknowledgementAttack, 31_AcknowledgementListOfWrongShapeIsRefused) {
  using Change = std::function<void(Acks&)>;
  for (const Change& change : std::vector<Change>{
           [](Acks& a) { a.acks.pop_back(); }, [](Acks& a) { a.acks.push_back(a.acks.back()); },
           [](Acks& a) { a.refused = {a.acks[0].first}; }, [](Acks& a) { a.refused = {12}; },
           [](Acks& a) { a.acks[0].first = UINT32_MAX; }}) {
    LieIsRefused(rows().survivors, Code::kInvalidArgument, Counted::kAll,
                 [&](AttackedCohort&, Bytes& body) {
                   Acks acks = *DecodeAcks(body, 12);
                   change(acks);
                   body = Encode(acks);
                 });
  }
}

// Any prefix of any answer, and any answer with a byte too many.
TEST_P(Attack, 31_AnswerOfAnotherLengthIsRefused) {
  for (size_t row = rows().keys; row <= rows().unmask; ++row) {
    const Counted counted = row > rows().input ? Counted::kAll : Counted::kAllButTheLiar;
    for (const size_t length : {0, 1, 3, 4, 5, 31, 32, 33, 100, 151}) {
      if (GetParam() != SharingGraph::kComplete && length % 3 != 0) continue;
      LieIsRefused(row, Code::kInvalidArgument, counted,
                   [length](AttackedCohort&, Bytes& body) { body.resize(length); });
    }
    LieIsRefused(row, Code::kInvalidArgument, counted,
                 [](AttackedCohort&, Bytes& body) { body.push_back(0); });
  }
}

// --- ciphertexts and blame ---------------------------------------------------------------------
TEST_P(Attack, 32_BadCiphertextsLeaveTheSumExactOrNameTheirSender) {
  for (size_t bad = 1; bad <= 6; ++bad) {
    AttackedCohort cohort(32, GetParam());
    const Result<Sum> sum = cohort.RunWith([&](Where where, Bytes& body) {
      if (where.step != rows().shares || where.client != kLiar) return;
      Shares shares = *DecodeShares(body, 12);
      for (size_t i = 0; i < bad; ++i) shares.sealed[i].second[9] ^= 1;
      body = Signed(cohort, shares);
    });
    size_t named = 0;
    for (const size_t client : cohort.AllBut({kLiar})) {
      const Masked masked = MaskedOf(cohort.sent[{rows().input, client}]);
      named += masked.failed.size();
    }
    EXPECT_EQ(named, bad);
    if (bad <= 2) {  // k - t
      ExpectSum(cohort, sum, cohort.AllBut({}));
      EXPECT_TRUE(cohort.blame.empty());
      ExpectNobodyHarmed(cohort);
    } else {
      EXPECT_THAT(sum, HasCode(Code::kAborted));
      EXPECT_TRUE(Blamed(cohort, kLiar, Blame::Cause::kUnusableShares));
    }
  }
}

// Holders that say of client 0, falsely, that its ciphertext did not open, or refuse it as alive:
// what such a holder would send instead of what it should.
void BlameFalsely(const AttackedCohort& cohort, bool refuses, Where where, Bytes& body) {
  const Index blamed = cohort.IndexOf(0);
  if (where.step == cohort.rows.input && !refuses) {
    Masked masked = MaskedOf(body);
    masked.failed = {blamed};
    masked.signature =
        cohort.SignAs(where.client, MaskedMessage(cohort.IndexOf(where.client), masked));
    body = Encode(masked);
  } else if (where.step == cohort.rows.unmask && refuses) {
    std::vector<UnmaskEntry> entries = *DecodeUnmask(body, 12, 1);
    std::erase_if(entries, [&](const UnmaskEntry& e) { return e.owner == blamed; });
    body = EncodeUnmask(entries);
  } else if (where.step == cohort.rows.survivors && refuses) {
    Acks acks = *DecodeAcks(body, 12);
    std::erase_if(acks.acks, [&](const auto& ack) { return ack.first == blamed; });
    acks.refused = {blamed};
    body = Encode(acks);
  }
}

TEST_P(Attack, 33_FalseBlameExpelsNobodyOrEndsInAnAbort) {
  for (const bool refuses : {false, true}) {
    for (size_t liars = 1; liars <= 4; ++liars) {
      AttackedCohort cohort(33, GetParam());
      std::vector<size_t> holders;
      const Result<Sum> sum = cohort.RunWith([&](Where where, Bytes& body) {
        if (where.step < rows().input) return;
        if (holders.empty()) holders = cohort.HoldersOf(0);
        const auto liar = std::find(holders.begin(), holders.end(), where.client);
        if (liar - holders.begin() < static_cast<std::ptrdiff_t>(liars)) {
          BlameFalsely(cohort, refuses, where, body);
        }
      });
      // A holder that blames without cause cannot answer the survivors that it is then asked about,
      // and drops out of the holders of everybody.
      if (liars <= 2) {
        ExpectSum(cohort, sum, cohort.AllBut({}));
        EXPECT_TRUE(cohort.blame.empty()) << "nobody is expelled";
      } else {
        EXPECT_THAT(sum, HasCode(Code::kAborted));
        EXPECT_TRUE(Blamed(cohort, 0, Blame::Cause::kUnusableShares));
        EXPECT_TRUE(Blamed(cohort, holders[0], Blame::Cause::kDeniedShares));
      }
    }
  }
}

// Edge tags that do not verify: the server cannot see it, the holders that get them refuse the
// liar. Up to k - t of them are not needed.
TEST_P(Attack, 33_GarbageEdgeTagsLeaveTheSumExactOrNameTheirSender) {
  for (size_t bad = 1; bad <= 6; ++bad) {
    AttackedCohort cohort(33, GetParam());
    const Result<Sum> sum = cohort.RunWith([&](Where where, Bytes& body) {
      if (where.step != rows().input || where.client != kLiar) return;
      const std::vector<size_t> holders = cohort.HoldersOf(kLiar);
      Masked masked = MaskedOf(body);
      for (auto& [index, tag] : masked.edges) {
        const auto place = std::find(holders.begin(), holders.end(), cohort.ClientAt(index));
        if (place - holders.begin() < static_cast<std::ptrdiff_t>(bad)) tag[3] ^= 1;
      }
      body = Signed(cohort, masked);
    });
    EXPECT_THAT(cohort.hear_status[kLiar], IsOk()) << bad;
    if (bad <= 2) {
      ExpectSum(cohort, sum, cohort.AllBut({}));
      EXPECT_TRUE(cohort.blame.empty());
      ExpectNobodyHarmed(cohort);
    } else {
      EXPECT_THAT(sum, HasCode(Code::kAborted)) << bad;
      EXPECT_TRUE(Blamed(cohort, kLiar, Blame::Cause::kUnusableShares)) << bad;
    }
  }
}

// --- uploads -----------------------------------------------------------------------------------
TEST_P(Attack, 34_UploadOfAnotherOrOfAnOldSessionIsRefused) {
  // The last member of the roster gives its own copy of the first one's upload: the other's values
  // and signature, with the list that is due from itself.
  AttackedCohort cohort(34, GetParam());
  size_t thief = 0;
  const Result<Sum> sum = cohort.RunWith([&](Where where, Bytes& body) {
    if (where.step != rows().input) return;
    thief = cohort.ClientAt(cohort.clients - 1);
    if (where.client != thief) return;
    const Bytes theirs = cohort.sent.at({rows().input, cohort.ClientAt(0)});
    Masked copy = MaskedOf(theirs);
    const Bytes own = body;
    copy.edges = MaskedOf(own).edges;
    body = Encode(copy);
  });
  ExpectSum(cohort, sum, cohort.AllBut({thief}));
  EXPECT_THAT(cohort.hear_status[thief], HasCode(Code::kUnauthenticated));
  LieIsRefused(rows().input, Code::kInvalidArgument, Counted::kAllButTheLiar,
               [](AttackedCohort& old, Bytes& body) {
                 Masked masked = MaskedOf(body);
                 masked.sid[0] ^= 1;
                 body = Signed(old, masked);
               });
}

TEST_P(Attack, 35_SecondUploadIsRefusedAndADifferentOneIsEvidence) {
  for (const bool identical : {true, false}) {
    AttackedCohort cohort(35, GetParam());
    Bytes first;
    // The second goes the cohort's way; the first was heard before it.
    cohort.arrival = [&](std::vector<size_t>&) {
      if (cohort.step != rows().input) return;
      EXPECT_THAT(cohort.aggregator->Hear(Cohort::kFirstParty + kLiar, first), IsOk());
    };
    Status heard;
    const Result<Sum> sum = cohort.RunWith([&](Where where, Bytes& body) {
      if (where.step == rows().survivors && where.client == 0) heard = cohort.hear_status[kLiar];
      if (where.step != rows().input || where.client != kLiar) return;
      first = body;
      Masked masked = MaskedOf(first);
      Bytes other(masked.packed.begin(), masked.packed.end());
      other[0] ^= 1;
      masked.packed = other;
      if (!identical) body = Signed(cohort, masked);
    });
    ExpectSum(cohort, sum, cohort.AllBut({}));
    EXPECT_THAT(heard, HasCode(Code::kAlreadyExists));
    // Two uploads that differ, both signed, are evidence that anybody can check.
    ASSERT_EQ(cohort.blame.size(), identical ? 0 : 1);
    if (identical) continue;
    const Blame& blame = cohort.blame[0];
    EXPECT_TRUE(Blamed(cohort, kLiar, Blame::Cause::kEquivocated));
    EXPECT_EQ(blame.id, cohort.IdOf(kLiar));
    EXPECT_NE(blame.first.message, blame.second.message);
    for (const Blame::Statement& said : {blame.first, blame.second}) {
      EXPECT_TRUE(crypto::Ed25519Verify(blame.id, said.message, said.signature));
    }
  }
}

TEST_P(Attack, 37_UploadThatIsNotInItsOneFormIsRefused) {
  CohortShape shape = ShapeOf(GetParam());
  shape.dim = 3;  // 63 bits: one is left over
  for (int what = 0; what < 4; ++what) {
    AttackedCohort cohort(37, shape);
    const Result<Sum> sum = cohort.RunWith([&](Where where, Bytes& body) {
      if (where.step != rows().input || where.client != kLiar) return;
      Masked masked = MaskedOf(body, 8);
      Bytes packed(masked.packed.begin(), masked.packed.end());
      if (what == 0) packed[7] |= 0x80;  // the bit of padding
      if (what == 1) packed.push_back(0);
      if (what == 2) packed.pop_back();
      if (what == 3) packed[0] ^= 1;  // not what was signed
      masked.packed = packed;
      body = what == 3 ? Encode(masked) : Signed(cohort, masked);
    });
    ExpectSum(cohort, sum, cohort.AllBut({kLiar}));
    EXPECT_THAT(cohort.hear_status[kLiar],
                HasCode(what == 3 ? Code::kUnauthenticated : Code::kInvalidArgument));
  }
}

// Eight words of 21 bits all inside +-7000 happen by chance once in 10^17.
TEST_P(Attack, 38_GarbageIsSeenInTheSumAndEndsTheCohort) {
  AttackedCohort cohort(38, GetParam());
  const Result<Sum> sum = cohort.RunWith([&](Where where, Bytes& body) {
    if (where.step != rows().input || where.client != kLiar) return;
    Masked masked = MaskedOf(body);
    Bytes garbage(masked.packed.size());
    cohort.rngs[kLiar]->Fill(garbage);
    masked.packed = garbage;
    body = Signed(cohort, masked);
  });
  EXPECT_THAT(cohort.hear_status[kLiar], IsOk()) << "nobody can tell it from an honest one";
  EXPECT_THAT(sum, HasCodeAndText(Code::kAborted, "outside its range"));
}

// --- keys --------------------------------------------------------------------------------------
// An advertisement of another session does not count in this one.
TEST_P(Attack, 40_AdvertiseOfAnotherSessionIsRefused) {
  AttackedCohort before(40, GetParam());
  ASSERT_THAT(before.RunWith([](Where, Bytes&) {}), IsOk());
  AttackedCohort cohort(40, GetParam());
  cohort.params.nonce[0] ^= 1;
  for (size_t i = 0; i < cohort.clients; ++i) cohort.Restart(i);
  const Result<Sum> sum = cohort.RunWith([&](Where where, Bytes& body) {
    if (where.step == rows().keys && where.client == kLiar) {
      body = before.sent[{rows().keys, kLiar}];
    }
  });
  ExpectSum(cohort, sum, cohort.AllBut({kLiar}));
  EXPECT_THAT(cohort.hear_status[kLiar], HasCode(Code::kInvalidArgument));
}

// Two cohorts of one seed draw the same keys: those of the liar come a second time, signed for the
// second session. All others draw anew.
void DrawFreshKeysBut(AttackedCohort& cohort, const std::set<size_t>& liars) {
  cohort.params.nonce[0] ^= 1;
  for (size_t i = 0; i < cohort.clients; ++i) {
    if (!liars.contains(i)) {
      auto rng = std::make_unique<RecordingRng>(
          crypto::NewSeededRng(cohort.Secret("fresh keys", i).Reveal()));
      cohort.draws[i] = rng.get();
      cohort.rngs[i] = std::move(rng);
    }
    cohort.Restart(i);
  }
}

TEST_P(Attack, 40_RepeatedSessionKeysAreRefusedByTheCoordinator) {
  SeenKeys seen(1'000);
  AttackedCohort before(40, GetParam());
  before.seen_keys = &seen;
  ASSERT_THAT(before.RunWith([](Where, Bytes&) {}), IsOk());
  AttackedCohort cohort(40, GetParam());
  cohort.seen_keys = &seen;
  DrawFreshKeysBut(cohort, {kLiar});
  const Result<Sum> sum = cohort.RunWith([](Where, Bytes&) {});
  ExpectSum(cohort, sum, cohort.AllBut({kLiar}));
  EXPECT_THAT(cohort.hear_status[kLiar],
              HasCodeAndText(Code::kInvalidArgument, "used in another session"));
}

// The coordinator lets them pass: then a peer that remembers them aborts.
TEST_P(Attack, 40_RepeatedSessionKeysAreRefusedByPeers) {
  SeenKeys seen(1'000);
  const auto remember = [&seen](AttackedCohort& cohort) {
    ContributorOptions options = cohort.OptionsFor(0);
    options.seen_keys = &seen;
    cohort.Replace(0, *NewContributor(std::move(options)));
  };
  AttackedCohort before(40, GetParam());
  remember(before);
  ASSERT_THAT(before.RunWith([](Where, Bytes&) {}), IsOk());
  AttackedCohort cohort(40, GetParam());
  // In a sparse graph one liar may be no neighbour: half of them lie.
  DrawFreshKeysBut(cohort, {1, 2, 3, 4, 5, 6});
  remember(cohort);
  const Result<Sum> sum = cohort.RunWith([](Where, Bytes&) {});
  EXPECT_THAT(cohort.client_status[0], HasCodeAndText(Code::kAborted, "used in another session"));
  EXPECT_FALSE(cohort.sent.contains({rows().shares, 0}));
  ExpectSum(cohort, sum, cohort.AllBut({0}));
}

TEST_P(Attack, 41_OneKeyForTwoUsesIsRefused) {
  // 0: C = S, 1: C of another client, 2: another's C as S.
  for (int what = 0; what < 3; ++what) {
    LieIsRefused(rows().keys, Code::kInvalidArgument, Counted::kAllButTheLiar,
                 [what](AttackedCohort& cohort, Bytes& body) {
                   Advertise said = *DecodeAdvertise(body);
                   if (what == 0) said.c = said.s;
                   if (what == 1) said.c = cohort.Said(0).c;
                   if (what == 2) said.s = cohort.Said(0).c;
                   said.signature = cohort.SignAs(kLiar, AdvertiseMessage(said));
                   body = Encode(said);
                 });
  }
}

}  // namespace
}  // namespace chorus::aggregation
