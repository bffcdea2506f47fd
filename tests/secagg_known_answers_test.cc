// Known answers of SecAgg, bit for bit, computed by an independent implementation
// [specification 3.14].
#include <fstream>
#include <sstream>

#include "aggregation/secagg.h"
#include "base/codec.h"
#include "base/hex.h"
#include "crypto/crypto.h"
#include "matchers.h"

namespace chorus::aggregation {
namespace {

Digest Det(std::string_view tag, uint32_t i) {
  Writer text;
  text.Raw("CHORUS1-KAT/").Raw(tag).U32(i);
  return crypto::Sha256(text.view());
}

// A value of tests/vectors/secagg_v1.txt, in hexadecimal: other implementations read them too.
std::string Known(std::string_view name) {
  std::ifstream file(CHORUS_SOURCE_DIR "/tests/vectors/secagg_v1.txt");
  std::string found;
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string key;
    words >> key;
    if (key == name) words >> found;
  }
  EXPECT_FALSE(found.empty()) << name;
  return found;
}

uint64_t Little64(const Digest& digest) { return Reader(digest).U64Little(); }

// Keys of n clients in roster order.
struct Roster {
  std::vector<uint32_t> order;
  std::vector<Digest> id, c_secret, s_secret, b;
  std::vector<PublicKey> c, s;
  Digest root{};
  Digest sid{};
};

Roster MakeRoster(const Digest& sid0, uint32_t n) {
  Roster roster;
  for (uint32_t i = 0; i < n; ++i) roster.order.push_back(i);
  std::sort(roster.order.begin(), roster.order.end(), [&](uint32_t a, uint32_t b) {
    return OrderKey(sid0, Det("id", a)) < OrderKey(sid0, Det("id", b));
  });
  std::vector<Digest> leaves;
  for (const uint32_t i : roster.order) {
    roster.id.push_back(Det("id", i));
    roster.c_secret.push_back(Det("c", i));
    roster.s_secret.push_back(Det("s", i));
    roster.b.push_back(Det("b", i));
    roster.c.push_back(crypto::X25519Public(roster.c_secret.back()));
    roster.s.push_back(crypto::X25519Public(roster.s_secret.back()));
    leaves.push_back(RosterLeaf(sid0, roster.id.back(), roster.c.back(), roster.s.back()));
  }
  roster.root = crypto::MerkleRoot(leaves);
  roster.sid = SessionId(sid0, n, roster.root);
  return roster;
}

class ThreeClients : public testing::Test {
 protected:
  ThreeClients() {
    Bytes params(64);
    for (uint8_t i = 0; i < 64; ++i) params[i] = i;
    sid0_ = crypto::LabeledHash("CHORUS1/sid0", {params});
    roster_ = MakeRoster(sid0_, 3);
  }
  SecretBytes PairMask(Index u, Index v) const {
    return *DerivePairMask(roster_.sid, crypto::X25519Key(roster_.s_secret[u]), {u, roster_.s[u]},
                           {v, roster_.s[v]});
  }
  ChannelKeys Channel(Index u, Index v) const {
    return *DeriveChannel(roster_.sid, crypto::X25519Key(roster_.c_secret[u]), {u, roster_.c[u]},
                          {v, roster_.c[v]});
  }
  // y_u of input (1..8, 10..80 or -1..-8) times `factor`.
  RingVector MaskedInput(Index u, int bits, int64_t factor) const {
    RingVector vector = math::ZeroVector(8, bits);
    const int64_t step[] = {1, 10, -1};
    for (int64_t j = 0; j < 8; ++j) {
      math::SetSigned(vector, static_cast<uint64_t>(j), factor * step[u] * (j + 1));
    }
    std::vector<Mask> masks;
    masks.push_back({DeriveSelfMask(roster_.sid, roster_.b[u], u), math::Sign::kAdd});
    for (Index v = 0; v < 3; ++v) {
      if (v != u) masks.push_back({PairMask(u, v), PairSign(u, v)});
    }
    ApplyMasks(crypto::FastestMaskPath(), vector, masks);
    return vector;
  }
  Digest sid0_{};
  Roster roster_;
};

TEST_F(ThreeClients, AgreeOnTheSession) {
  EXPECT_EQ(ToHex(sid0_), Known("three.sid0"));
  EXPECT_THAT(roster_.order, testing::ElementsAre(0, 1, 2));
  EXPECT_EQ(ToHex(roster_.root), Known("three.root"));
  EXPECT_EQ(ToHex(roster_.sid), Known("three.sid"));
}

TEST_F(ThreeClients, DeriveTheKnownKeys) {
  EXPECT_EQ(ToHex(crypto::X25519Agree(roster_.s_secret[0], roster_.s[1])->Reveal()),
            Known("three.agreed_s.0.1"));
  EXPECT_EQ(ToHex(PairMask(0, 1).Reveal()), Known("three.k_pair.0.1"));
  EXPECT_EQ(ToHex(PairMask(1, 0).Reveal()), ToHex(PairMask(0, 1).Reveal()));
  const ChannelKeys from0 = Channel(0, 1);
  const ChannelKeys from1 = Channel(1, 0);
  EXPECT_EQ(ToHex(from0.seal.Reveal()), Known("three.k_enc.0.1"));
  EXPECT_EQ(ToHex(from1.seal.Reveal()), Known("three.k_enc.1.0"));
  EXPECT_EQ(ToHex(from0.ack_out.Reveal()), Known("three.k_ack.0.1"));
  EXPECT_EQ(ToHex(from0.open.Reveal()), ToHex(from1.seal.Reveal()));
  EXPECT_EQ(ToHex(from1.ack_in.Reveal()), ToHex(from0.ack_out.Reveal()));
  EXPECT_EQ(ToHex(DeriveSelfMask(roster_.sid, roster_.b[0], 0).Reveal()), Known("three.k_self.0"));
  EXPECT_EQ(ToHex(ShareCommitment(roster_.sid, 0, roster_.b[0])), Known("three.com_b.0"));
  EXPECT_EQ(ToHex(AckTag(from0.ack_out.Reveal(), roster_.sid)), Known("three.ack_tag.0.1"));
  EXPECT_EQ(ToHex(EdgeTag(from0.ack_out.Reveal(), roster_.sid)), Known("three.edge_tag.0.1"));
}

// Elements 16384.. lie past the first 64 KiB tile of four-byte words.
TEST_F(ThreeClients, ExpandTheKnownMask) {
  const auto words_at = [&](int bits, std::vector<uint64_t> at) {
    RingVector vector = math::ZeroVector(16'388, bits);
    std::vector<Mask> masks;
    masks.push_back({PairMask(0, 1), math::Sign::kAdd});
    ApplyMasks(crypto::FastestMaskPath(), vector, masks);
    std::vector<uint64_t> words;
    for (const uint64_t i : at) {
      words.push_back(std::visit([i](const auto& v) { return uint64_t{v[i]}; }, vector));
    }
    return words;
  };
  EXPECT_THAT(
      words_at(21, {0, 1, 2, 3, 16384, 16387}),
      testing::ElementsAre(0x89e6d57, 0x218bd4d4, 0x9d6b842c, 0xe2ed9bc7, 0x885c28e, 0x2b40fbb6));
  EXPECT_THAT(words_at(12, {0, 1, 2, 3, 16384, 16387}),
              testing::ElementsAre(0x6d57, 0x89e, 0xd4d4, 0x218b, 0x3666, 0x59d9));
  EXPECT_THAT(words_at(40, {0, 3, 16384, 16387}),
              testing::ElementsAre(0x218bd4d4089e6d57, 0x74031b6f099e93c4, 0xbb25e4377c35407c,
                                   0x81b4b5818ef44f5c));
}

TEST_F(ThreeClients, UploadTheKnownVectors) {
  const auto packed = [&](Index u, int bits, int64_t factor) {
    return ToHex(math::Pack(MaskedInput(u, bits, factor), bits));
  };
  EXPECT_EQ(packed(0, 21, 1), Known("three.packed.21.0"));
  EXPECT_EQ(packed(1, 21, 1), Known("three.packed.21.1"));
  EXPECT_EQ(packed(2, 21, 1), Known("three.packed.21.2"));
  EXPECT_EQ(packed(0, 12, 1), Known("three.packed.12.0"));
  EXPECT_EQ(packed(1, 12, 1), Known("three.packed.12.1"));
  EXPECT_EQ(packed(2, 12, 1), Known("three.packed.12.2"));
  EXPECT_EQ(packed(0, 40, 1'000'000'000), Known("three.packed.40.0"));
  EXPECT_EQ(packed(1, 40, 1'000'000'000), Known("three.packed.40.1"));
  EXPECT_EQ(packed(2, 40, 1'000'000'000), Known("three.packed.40.2"));
}

TEST_F(ThreeClients, OpenTheKnownSums) {
  const auto opened = [&](uint32_t alive) {
    RingVector sum = math::ZeroVector(8, 21);
    std::vector<Mask> masks;
    for (Index u = 0; u < alive; ++u) {
      EXPECT_THAT(math::AddPacked(sum, math::Pack(MaskedInput(u, 21, 1), 21), 21), IsOk());
      masks.push_back({DeriveSelfMask(roster_.sid, roster_.b[u], u), math::Sign::kSubtract});
      for (Index v = alive; v < 3; ++v) masks.push_back({PairMask(v, u), PairSign(v, u)});
    }
    ApplyMasks(crypto::FastestMaskPath(), sum, masks);
    std::vector<int64_t> values;
    for (uint64_t j = 0; j < 8; ++j) values.push_back(math::SignedAt(sum, j, 21));
    return values;
  };
  EXPECT_THAT(opened(3), testing::ElementsAre(10, 20, 30, 40, 50, 60, 70, 80));
  EXPECT_THAT(opened(2), testing::ElementsAre(11, 22, 33, 44, 55, 66, 77, 88));
}

class FiveClients : public testing::Test {
 protected:
  FiveClients() {
    const Digest task_id = Det("task-id", 0);
    std::copy_n(task_id.begin(), 16, params_.task_id.begin());
    params_.task_hash = Det("task", 0);
    params_.round = 7;
    params_.model_hash = Det("model", 0);
    params_.vec_len = 8;
    params_.bits = 21;
    params_.word_bytes = 4;
    params_.bound = 8191;
    params_.n_min = 5;
    params_.n_max = 128;
    params_.gamma_ppm = params_.delta_ppm = 50'000;
    params_.a_min = 3;
    params_.dp_hash = Det("dp", 0);
    params_.layout_hash = Det("layout", 0);
    const uint32_t timers[] = {10'000, 15'000, 60'000, 8'000, 8'000};
    std::copy_n(timers, 5, params_.timers_ms);
    params_.coordinator_id = Det("coord", 0);
    params_.nonce = Det("nonce", 0);
    bytes_ = EncodeParams(params_);
    sid0_ = crypto::LabeledHash("CHORUS1/sid0", {bytes_});
    roster_ = MakeRoster(sid0_, 5);
  }
  SessionParams params_;
  Bytes bytes_;
  Digest sid0_{};
  Roster roster_;
};

TEST_F(FiveClients, EncodeTheKnownParameters) {
  EXPECT_EQ(ToHex(bytes_), Known("five.params"));
  EXPECT_EQ(ToHex(crypto::LabeledHash("CHORUS1/params", {bytes_})), Known("five.params_message"));
  const Result<SessionParams> decoded = DecodeParams(bytes_);
  ASSERT_THAT(decoded, IsOk());
  EXPECT_EQ(EncodeParams(*decoded), bytes_);
  EXPECT_THAT(ValidateParams(*decoded), IsOk());
}

TEST_F(FiveClients, AgreeOnTheSession) {
  EXPECT_EQ(ToHex(sid0_), Known("five.sid0"));
  EXPECT_THAT(roster_.order, testing::ElementsAre(0, 2, 3, 1, 4));
  EXPECT_EQ(ToHex(roster_.root), Known("five.root"));
  EXPECT_EQ(ToHex(roster_.sid), Known("five.sid"));
}

TEST_F(FiveClients, SealTheKnownShares) {
  const Result<GraphParams> graph = CompleteGraph(5, 50'000, 50'000);
  ASSERT_THAT(graph, IsOk());
  EXPECT_EQ(graph->k, 4U);
  EXPECT_EQ(graph->t, 3U);
  const Index u = 0;
  const Index v = 3;
  const ChannelKeys channel = *DeriveChannel(roster_.sid, crypto::X25519Key(roster_.c_secret[u]),
                                             {u, roster_.c[u]}, {v, roster_.c[v]});
  EXPECT_EQ(ToHex(channel.seal.Reveal()), Known("five.k_enc.0.3"));
  const Digest commitment = ShareCommitment(roster_.sid, u, roster_.b[u]);
  EXPECT_EQ(ToHex(commitment), Known("five.com_b.0"));
  const Bytes data = ShareAssociatedData(roster_.sid, u, v, *graph, commitment);
  EXPECT_EQ(ToHex(data), Known("five.share_aad.0.3"));
  const auto share = [&](const Digest& secret, std::string_view tag) {
    std::vector<std::vector<uint64_t>> coefficients(math::kLimbs);
    for (uint32_t c = 0; c < math::kLimbs; ++c) {
      for (uint32_t j = 1; j < graph->t; ++j) {
        coefficients[c].push_back(Little64(Det(tag, 16 * c + j)) % math::kPrime);
      }
    }
    return math::ShareBytes(math::Polynomial(secret, coefficients).At(v + 1));
  };
  const Bytes share_s = share(roster_.s_secret[u], "coef-s");
  const Bytes share_b = share(roster_.b[u], "coef-b");
  EXPECT_EQ(ToHex(share_s), Known("five.share_s.0.3"));
  EXPECT_EQ(ToHex(share_b), Known("five.share_b.0.3"));
  const Bytes both = std::move(Writer().Raw(share_s).Raw(share_b)).Take();
  EXPECT_EQ(ToHex(crypto::AeadSeal(channel.seal.Reveal(), {}, data, both)),
            Known("five.sealed.0.3"));
}

// The complete-graph entries of the worked table [specification 3.6].
TEST(CompleteGraph, MatchesTheWorkedTable) {
  struct Row {
    uint32_t gamma_ppm, n, k, t;
  };
  const Row rows[] = {{50'000, 10, 9, 6},    {50'000, 30, 29, 16},   {50'000, 100, 99, 53},
                      {100'000, 30, 29, 17}, {100'000, 100, 99, 55}, {200'000, 10, 9, 6},
                      {200'000, 30, 29, 18}, {200'000, 100, 99, 60}};
  for (const Row& row : rows) {
    for (const uint32_t delta_ppm : {50'000U, 100'000U, 200'000U}) {
      const Result<GraphParams> graph = CompleteGraph(row.n, row.gamma_ppm, delta_ppm);
      ASSERT_THAT(graph, IsOk());
      EXPECT_EQ(graph->k, row.k);
      EXPECT_EQ(graph->t, row.t);
    }
  }
  EXPECT_EQ(CompleteGraph(100, 50'000, 0)->honest, 49U);
  EXPECT_EQ(CompleteGraph(10, 50'000, 0)->honest, 6U);
  EXPECT_THAT(CompleteGraph(10, 50'000, 330'000), HasCode(Code::kInvalidArgument));
  EXPECT_THAT(CompleteGraph(5, 50'000, 200'000), IsOk());
  EXPECT_THAT(CompleteGraph(3, 50'000, 0), IsOk());
  EXPECT_THAT(CompleteGraph(4, 50'000, 100'000), HasCode(Code::kInvalidArgument));
  EXPECT_THAT(CompleteGraph(1, 50'000, 0), HasCode(Code::kInvalidArgument));
}

}  // namespace
}  // namespace chorus::aggregation
