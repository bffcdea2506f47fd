// The attacks of lying clients, numbered as in the specification [3.15]: a lie harms its sender
// only, or, where nobody can see it, ends in an abort; never in a wrong sum. Seven clients unless
// said otherwise: k = 6, t = 4. Each liar knows its own secrets and signs what it sends.
#include "adversary.h"

namespace chorus::aggregation {
namespace {

constexpr size_t kLiar = 2;
const std::set<size_t> kOthers = {0, 1, 3, 4, 5, 6};
const std::set<size_t> kAll = {0, 1, 2, 3, 4, 5, 6};

// The sum is there and is exactly that of `clients`.
void ExpectSum(const AttackedCohort& cohort, const Result<Sum>& sum,
               const std::set<size_t>& clients) {
  ASSERT_THAT(sum, IsOk());
  EXPECT_EQ(sum->contributors, clients.size());
  EXPECT_EQ(cohort.Values(*sum), cohort.Expected(clients));
  EXPECT_GT(cohort.monitor.shares_opened(), 0U);
}

bool Blamed(const AttackedCohort& cohort, size_t client, Blame::Cause cause) {
  return std::any_of(cohort.blame.begin(), cohort.blame.end(), [&](const Blame& blame) {
    return blame.party == Cohort::kFirstParty + client && blame.cause == cause;
  });
}

// One liar changes its answer in one row. The rest must come to the sum of `clients`, and the liar
// must hear `code`.
void LieIsRefused(size_t row, Code code, const std::set<size_t>& clients,
                  const std::function<void(AttackedCohort&, Bytes&)>& change) {
  AttackedCohort cohort(31);
  const Result<Sum> sum = cohort.RunWith([&](Where where, Bytes& body) {
    if (where.step == row && where.client == kLiar) change(cohort, body);
  });
  ExpectSum(cohort, sum, clients);
  EXPECT_THAT(cohort.hear_status[kLiar], HasCode(code));
}

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
  return *DecodeMasked(body, 7, packed_bytes);
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

TEST(Attack, 29_SharesOfNoPolynomial) {
  for (const bool drops : {false, true}) {
    for (size_t wrong = 1; wrong <= 6; ++wrong) {
      AttackedCohort cohort(29);
      if (drops) cohort.DropOut(kLiar, kComplete.input);
      const Result<Sum> sum = cohort.RunWith([&](Where where, Bytes& body) {
        if (where.step == kComplete.shares && where.client == kLiar) {
          DealWrong(cohort, kLiar, wrong, body);
        }
      });
      // Nobody can see the lie when it is told. Up to (k - t) / 2 = 1 share is put right.
      if (wrong == 1) {
        ExpectSum(cohort, sum, drops ? kOthers : kAll);
      } else {
        EXPECT_THAT(sum, HasCode(Code::kAborted)) << wrong;
        EXPECT_TRUE(Blamed(cohort, kLiar, Blame::Cause::kInconsistentShares)) << wrong;
      }
    }
  }
}

// Holders that give wrong shares of everybody at unmasking.
TEST(Attack, 30_HoldersGiveWrongShares) {
  for (size_t liars = 1; liars <= 5; ++liars) {
    AttackedCohort cohort(30, ShapeOf(10));
    const Result<Sum> sum = cohort.RunWith([&](Where where, Bytes& body) {
      if (where.step != kComplete.unmask || where.client >= liars) return;
      std::vector<UnmaskEntry> entries = *DecodeUnmask(body, 10, 1);
      for (UnmaskEntry& entry : entries) entry.share.y[1] ^= 1;
      body = EncodeUnmask(entries);
    });
    for (size_t client = 0; client < 10; ++client) {
      EXPECT_THAT(cohort.hear_status[client], IsOk()) << "no single share shows that it is wrong";
    }
    // One of nine is put right: (k - t) / 2. Up to three can hide among the shares that were not
    // needed to open anything.
    if (liars == 1 || sum.ok()) {
      ExpectSum(cohort, sum, cohort.AllBut({}));
    } else {
      EXPECT_THAT(sum, HasCode(Code::kAborted)) << liars;
    }
    if (liars == 1 && cohort.IndexOf(0) < cohort.graph().t) {
      EXPECT_TRUE(Blamed(cohort, 0, Blame::Cause::kWrongShare));
    }
    for (size_t client = liars; client < 10; ++client) {
      EXPECT_FALSE(Blamed(cohort, client, Blame::Cause::kWrongShare)) << client;
    }
  }
}

// --- lists -------------------------------------------------------------------------------------
TEST(Attack, 31_EmptyUnmaskAnswer) {
  LieIsRefused(kComplete.unmask, Code::kInvalidArgument, kAll,
               [](AttackedCohort&, Bytes& body) { body.clear(); });
  LieIsRefused(kComplete.unmask, Code::kInvalidArgument, kAll,
               [](AttackedCohort&, Bytes& body) { body = EncodeUnmask({}); });
}

TEST(Attack, 31_ThreeByteShare) {
  LieIsRefused(kComplete.unmask, Code::kInvalidArgument, kAll, [](AttackedCohort&, Bytes& body) {
    // The first entry's share shrinks to three bytes.
    body.erase(body.begin() + 4 + 5 + 3, body.begin() + 4 + 5 + math::kShareBytes);
  });
  LieIsRefused(kComplete.unmask, Code::kInvalidArgument, kAll, [](AttackedCohort&, Bytes& body) {
    body = std::move(Writer().U32(1).U32(0).U8(1).Raw("abc")).Take();
  });
}

TEST(Attack, 31_InvalidPublicKey) {
  for (const uint8_t first : {uint8_t{0}, uint8_t{1}}) {
    LieIsRefused(kComplete.keys, Code::kInvalidArgument, kOthers,
                 [first](AttackedCohort& cohort, Bytes& body) {
                   Advertise said = *DecodeAdvertise(body);
                   said.s = PublicKey{first};
                   said.signature = cohort.SignAs(kLiar, AdvertiseMessage(said));
                   body = Encode(said);
                 });
  }
  LieIsRefused(kComplete.keys, Code::kInvalidArgument, kOthers, [](AttackedCohort&, Bytes& body) {
    body.erase(body.begin() + 70);  // a key of 31 bytes
  });
}

TEST(Attack, 31_UnmaskListsThatAreNotWhatWasAsked) {
  using Change = std::function<void(std::vector<UnmaskEntry>&)>;
  for (const Change& change :
       std::vector<Change>{[](auto& entries) { entries.pop_back(); },
                           [](auto& entries) { entries.push_back(entries.back()); },
                           [](auto& entries) { entries.insert(entries.begin(), entries.front()); },
                           [](auto& entries) { std::swap(entries[0], entries[1]); },
                           [](auto& entries) { entries[2].owner = 7; },
                           [](auto& entries) { entries[2].owner = UINT32_MAX; },
                           [](auto& entries) { entries[2].fate = Fate::kDropped; },
                           [](auto& entries) { entries[2].share.y[0] = math::kPrime; },
                           [](auto& entries) { entries[2].share.y[4] = UINT64_MAX; }}) {
    LieIsRefused(kComplete.unmask, Code::kInvalidArgument, kAll, [&](AttackedCohort&, Bytes& body) {
      std::vector<UnmaskEntry> entries = *DecodeUnmask(body, 7, 1);
      change(entries);
      body = EncodeUnmask(entries);
    });
  }
}

TEST(Attack, 31_ShareListsOfWrongShape) {
  using Change = std::function<void(Shares&, Index)>;
  for (const Change& change :
       std::vector<Change>{[](Shares&s, Index) { s.sealed.pop_back(); },
                           [](Shares&s, Index) { s.sealed.push_back(s.sealed.back()); },
                           [](Shares&s, Index) { std::swap(s.sealed[0], s.sealed[1]); },
                           [](Shares&s, Index) { s.sealed.back().first = 7; },
                           [](Shares&s, Index) { s.sealed.clear(); },
                           [](Shares&s, Index me) {  // to itself in place of a neighbour
                             const size_t place = me == 6 ? me - 1 : me;
                             s.sealed[place].first = me;
                           }}) {
    LieIsRefused(kComplete.shares, Code::kInvalidArgument, kOthers,
                 [&](AttackedCohort& cohort, Bytes& body) {
                   Shares shares = *DecodeShares(body, 7);
                   change(shares, cohort.IndexOf(kLiar));
                   body = Signed(cohort, shares);
                 });
  }
}

TEST(Attack, 31_ListsOfTheMaskedInputOfWrongShape) {
  using Change = std::function<void(Masked&, Index)>;
  for (const Change& change : std::vector<Change>{
           [](Masked&m, Index) { m.edges.pop_back(); },
           [](Masked&m, Index) { m.edges.push_back(m.edges.back()); },
           [](Masked&m, Index) { m.edges.back().first = UINT32_MAX; },
           [](Masked&m, Index me) { m.failed = {me}; }, [](Masked&m, Index) { m.failed = {7}; },
           [](Masked&m, Index) {
             m.failed = {1, 1};
           }}) {
    LieIsRefused(kComplete.input, Code::kInvalidArgument, kOthers,
                 [&](AttackedCohort& cohort, Bytes& body) {
                   Masked masked = MaskedOf(body);
                   change(masked, cohort.IndexOf(kLiar));
                   body = Signed(cohort, masked);
                 });
  }
}

TEST(Attack, 31_AcknowledgementListsOfWrongShape) {
  using Change = std::function<void(Acks&)>;
  for (const Change& change : std::vector<Change>{
           [](Acks& a) { a.acks.pop_back(); }, [](Acks& a) { a.acks.push_back(a.acks.back()); },
           [](Acks& a) { a.refused = {a.acks[0].first}; }, [](Acks& a) { a.refused = {7}; },
           [](Acks& a) { a.acks[0].first = UINT32_MAX; }}) {
    LieIsRefused(kComplete.acks, Code::kInvalidArgument, kAll, [&](AttackedCohort&, Bytes& body) {
      Acks acks = *DecodeAcks(body, 7);
      change(acks);
      body = Encode(acks);
    });
  }
}

// Any prefix of any answer, and any answer with a byte too many.
TEST(Attack, 31_AnswersOfEveryLength) {
  for (size_t row = kComplete.keys; row <= kComplete.unmask; ++row) {
    const std::set<size_t>& counted = row > kComplete.input ? kAll : kOthers;
    for (const size_t length : {0, 1, 3, 4, 5, 31, 32, 33, 100, 151}) {
      LieIsRefused(row, Code::kInvalidArgument, counted,
                   [length](AttackedCohort&, Bytes& body) { body.resize(length); });
    }
    LieIsRefused(row, Code::kInvalidArgument, counted,
                 [](AttackedCohort&, Bytes& body) { body.push_back(0); });
  }
}

// --- ciphertexts and blame ---------------------------------------------------------------------
TEST(Attack, 32_BadCiphertexts) {
  for (size_t bad = 1; bad <= 6; ++bad) {
    AttackedCohort cohort(32);
    const Result<Sum> sum = cohort.RunWith([&](Where where, Bytes& body) {
      if (where.step != kComplete.shares || where.client != kLiar) return;
      Shares shares = *DecodeShares(body, 7);
      for (size_t i = 0; i < bad; ++i) shares.sealed[i].second[9] ^= 1;
      body = Signed(cohort, shares);
    });
    size_t named = 0;
    for (const size_t client : kOthers) {
      const Masked masked = MaskedOf(cohort.sent[{kComplete.input, client}]);
      named += masked.failed.size();
    }
    EXPECT_EQ(named, bad);
    if (bad <= 2) {  // k - t
      ExpectSum(cohort, sum, kAll);
      EXPECT_TRUE(cohort.blame.empty());
    } else {
      EXPECT_THAT(sum, HasCode(Code::kAborted));
      EXPECT_TRUE(Blamed(cohort, kLiar, Blame::Cause::kUnusableShares));
    }
  }
}

// Holders that say of client 0, falsely, that its ciphertext did not open, or refuse it as alive.
TEST(Attack, 33_FalseBlame) {
  for (const bool refused : {false, true}) {
    for (size_t holders = 1; holders <= 4; ++holders) {
      AttackedCohort cohort(33);
      const Result<Sum> sum = cohort.RunWith([&](Where where, Bytes& body) {
        if (where.client == 0 || where.client > holders) return;
        const Index blamed = cohort.IndexOf(0);
        if (where.step == kComplete.input && !refused) {
          Masked masked = MaskedOf(body);
          masked.failed = {blamed};
          masked.signature =
              cohort.SignAs(where.client, MaskedMessage(cohort.IndexOf(where.client), masked));
          body = Encode(masked);
        }
        if (where.step == kComplete.acks && refused) {
          Acks acks = *DecodeAcks(body, 7);
          std::erase_if(acks.acks, [&](const auto& ack) { return ack.first == blamed; });
          acks.refused = {blamed};
          body = Encode(acks);
        }
        if (where.step == kComplete.unmask && refused) {
          std::vector<UnmaskEntry> entries = *DecodeUnmask(body, 7, 1);
          std::erase_if(entries, [&](const UnmaskEntry& e) { return e.owner == blamed; });
          body = EncodeUnmask(entries);
        }
      });
      // A holder that blames without cause cannot answer the survivors that it is then asked about,
      // and drops out of the holders of everybody.
      if (holders <= 2) {
        ExpectSum(cohort, sum, kAll);
        EXPECT_TRUE(cohort.blame.empty()) << "nobody is expelled";
      } else {
        EXPECT_THAT(sum, HasCode(Code::kAborted));
        EXPECT_TRUE(Blamed(cohort, 0, Blame::Cause::kUnusableShares));
        EXPECT_TRUE(Blamed(cohort, 1, Blame::Cause::kDeniedShares));
      }
    }
  }
}

// --- uploads -----------------------------------------------------------------------------------
TEST(Attack, 34_UploadOfAnotherOrOfAnOldSession) {
  LieIsRefused(kComplete.input, Code::kUnauthenticated, kOthers,
               [](AttackedCohort& cohort, Bytes& body) {
                 body = cohort.sent[{kComplete.input, kLiar - 1}];  // its own copy of another's
                 const Masked theirs = MaskedOf(body);
                 Masked copy = theirs;
                 const Index me = cohort.IndexOf(kLiar);
                 copy.edges.clear();
                 for (Index v = 0; v < 7; ++v) {
                   if (v != me) copy.edges.emplace_back(v, Tag{});
                 }
                 body = Encode(copy);  // with the other's signature
               });
  LieIsRefused(kComplete.input, Code::kInvalidArgument, kOthers,
               [](AttackedCohort& cohort, Bytes& body) {
                 Masked masked = MaskedOf(body);
                 masked.sid[0] ^= 1;
                 body = Signed(cohort, masked);
               });
}

TEST(Attack, 35_TwoUploads) {
  for (const bool identical : {true, false}) {
    AttackedCohort cohort(35);
    Bytes first;
    // The second goes the cohort's way; the first was heard before it.
    cohort.arrival = [&](std::vector<size_t>&) {
      if (cohort.step != kComplete.input) return;
      EXPECT_THAT(cohort.aggregator->Hear(Cohort::kFirstParty + kLiar, first), IsOk());
    };
    Status heard;
    const Result<Sum> sum = cohort.RunWith([&](Where where, Bytes& body) {
      if (where.step == kComplete.acks && where.client == 0) heard = cohort.hear_status[kLiar];
      if (where.step != kComplete.input || where.client != kLiar) return;
      first = body;
      Masked masked = MaskedOf(first);
      Bytes other(masked.packed.begin(), masked.packed.end());
      other[0] ^= 1;
      masked.packed = other;
      if (!identical) body = Signed(cohort, masked);
    });
    ExpectSum(cohort, sum, kAll);
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

TEST(Attack, 37_UploadThatIsNotInItsOneForm) {
  CohortShape shape = ShapeOf(7);
  shape.dim = 3;  // 63 bits: one is left over
  for (int what = 0; what < 4; ++what) {
    AttackedCohort cohort(37, shape);
    const Result<Sum> sum = cohort.RunWith([&](Where where, Bytes& body) {
      if (where.step != kComplete.input || where.client != kLiar) return;
      Masked masked = MaskedOf(body, 8);
      Bytes packed(masked.packed.begin(), masked.packed.end());
      if (what == 0) packed[7] |= 0x80;  // the bit of padding
      if (what == 1) packed.push_back(0);
      if (what == 2) packed.pop_back();
      if (what == 3) packed[0] ^= 1;  // not what was signed
      masked.packed = packed;
      body = what == 3 ? Encode(masked) : Signed(cohort, masked);
    });
    ExpectSum(cohort, sum, kOthers);
    EXPECT_THAT(cohort.hear_status[kLiar],
                HasCode(what == 3 ? Code::kUnauthenticated : Code::kInvalidArgument));
  }
}

// Eight words of 21 bits all inside +-7000 happen by chance once in 10^17.
TEST(Attack, 38_GarbageForAMaskedInput) {
  AttackedCohort cohort(38);
  const Result<Sum> sum = cohort.RunWith([&](Where where, Bytes& body) {
    if (where.step != kComplete.input || where.client != kLiar) return;
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
TEST(Attack, 40_AdvertiseOfAnotherSession) {
  AttackedCohort before(40);
  ASSERT_THAT(before.RunWith([](Where, Bytes&) {}), IsOk());
  AttackedCohort cohort(40);
  cohort.params.nonce[0] ^= 1;
  for (size_t i = 0; i < 7; ++i) cohort.Restart(i);
  const Result<Sum> sum = cohort.RunWith([&](Where where, Bytes& body) {
    if (where.step == kComplete.keys && where.client == kLiar) {
      body = before.sent[{kComplete.keys, kLiar}];
    }
  });
  ExpectSum(cohort, sum, kOthers);
  EXPECT_THAT(cohort.hear_status[kLiar], HasCode(Code::kInvalidArgument));
}

TEST(Attack, 41_OneKeyForTwoUses) {
  // 0: C = S, 1: C of another client, 2: another's C as S.
  for (int what = 0; what < 3; ++what) {
    LieIsRefused(kComplete.keys, Code::kInvalidArgument, kOthers,
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
