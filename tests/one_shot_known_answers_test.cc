// Known answers of OneShot, bit for bit, computed by an independent implementation
// [specification 3.14]: a session of seven helper servers and five clients from end to end.
#include <algorithm>

#include "aggregation/one_shot.h"
#include "base/codec.h"
#include "base/hex.h"
#include "crypto/crypto.h"
#include "matchers.h"

namespace chorus::aggregation {
namespace {

using testing::ElementsAre;
using testing::ElementsAreArray;

constexpr uint32_t kMembers = 7;
constexpr uint32_t kClients = 5;
constexpr uint64_t kDim = 8;

Digest Det(std::string_view tag, uint32_t i) {
  return crypto::Sha256(Writer().Raw("CHORUS1-KAT/").Raw(tag).U32(i).view());
}

uint64_t Little64(const Digest& digest) { return Reader(digest).U64Little(); }

// Gives out the bytes that it was made of.
class ScriptedRng final : public Rng {
 public:
  explicit ScriptedRng(Bytes script) : script_(std::move(script)) {}
  void Fill(std::span<uint8_t> out) override {
    ASSERT_LE(next_ + out.size(), script_.size());
    std::copy_n(script_.begin() + static_cast<std::ptrdiff_t>(next_), out.size(), out.begin());
    next_ += out.size();
  }

 private:
  Bytes script_;
  size_t next_ = 0;
};

SessionParams KnownParams() {
  SessionParams p;
  p.protocol = Protocol::kOneShot;
  std::copy_n(Det("task-id", 0).begin(), p.task_id.size(), p.task_id.begin());
  p.task_hash = Det("task", 0);
  p.round = 7;
  p.model_hash = Det("model", 0);
  p.vec_len = kDim;
  p.bits = 21;
  p.word_bytes = 4;
  p.bound = 8191;
  p.n_min = 4;
  p.n_max = 128;
  p.gamma_ppm = p.delta_ppm = 50'000;
  p.a_min = 3;
  p.dp_hash = Det("dp", 0);
  p.layout_hash = Det("layout", 0);
  const uint32_t timers[] = {10'000, 15'000, 60'000, 8'000, 8'000};
  std::copy(std::begin(timers), std::end(timers), p.timers_ms);
  p.coordinator_id = Det("coord", 0);
  p.nonce = Det("nonce", 0);
  OneShotSpec task;
  for (uint32_t j = 1; j <= kMembers; ++j) task.members.push_back(Det("m-id", j));
  p.committee = *CommitteeOf(task);
  return p;
}

int64_t Value(uint32_t client, uint64_t j) {
  return static_cast<int64_t>((client * 7 + j * 3 + 1) % 1000) - 500;
}

struct KnownClient {
  ContributionHeader header;
  math::SecretNumbers<int32_t> secret;
  Bytes packed;
  std::unique_ptr<math::PackedShares> shares;
  std::vector<Bytes> sealed;  // [members]
};

class KnownSession : public testing::Test {
 protected:
  KnownSession() : params_(KnownParams()), bytes_(EncodeParams(params_)) {
    sid0_ = crypto::LabeledHash("CHORUS1/sid0", {bytes_});
    for (uint32_t j = 1; j <= kMembers; ++j) {
      CommitteeEntry& entry = committee_.emplace_back();
      entry.id = Det("m-id", j);
      entry.key.key = crypto::X25519Public(Det("kx", j));
    }
    sid_ = OneShotSessionId(bytes_, CommitteeRoot(committee_));
    streams_ = std::make_unique<LatticeStreams>(sid_);
  }

  math::PublicStreams Public() const {
    return [this](uint32_t polynomial, uint32_t limb) {
      return streams_->PublicPolynomial(polynomial, limb);
    };
  }

  ShareRoute Route(const KnownClient& client, uint32_t member) const {
    return {client.header.id, client.header.ephemeral, member, committee_[member - 1].key.key};
  }

  KnownClient Client(uint32_t i) const {
    KnownClient client;
    const math::RlweRing ring(math::RlweSet::kOsa4096);
    const ClientStreams own(sid_, Det("osa", i));
    client.secret = math::SampleSecret(ring, *own.Secret());
    RingVector values = math::ZeroVector(kDim, params_.bits);
    for (uint64_t j = 0; j < kDim; ++j) math::SetSigned(values, j, Value(i, j));
    client.packed = *math::Encrypt(ring, EncodingOf(params_), values, client.secret, Public(),
                                   [&own](uint32_t polynomial) { return own.Error(polynomial); });
    client.header.sid = sid_;
    client.header.id = Det("id", i);
    client.header.ephemeral = crypto::X25519Public(Det("eph", i));
    client.header.vector_digest = crypto::Sha256(client.packed);
    const math::PackedDealer dealer = *math::PackedDealer::For(SharingOf(params_.committee));
    const size_t blocks = ShareElements(params_.committee);
    Writer draws;
    for (uint32_t k = 0; k < blocks; ++k) {
      for (uint32_t x = 1; x <= 2; ++x) {
        const auto number = static_cast<uint32_t>((i * blocks + k) * 2 + x - 1);
        draws.U64Little(Little64(Det("osa-r", number)) % math::kPrime);
      }
    }
    ScriptedRng rng(std::move(draws).Take());
    const math::SecretNumbers<uint64_t> elements = math::PairCoefficients(client.secret.Reveal());
    client.shares = std::make_unique<math::PackedShares>(*dealer.Deal(elements.Reveal(), rng));
    crypto::Sha256Stream digest;
    for (uint32_t j = 1; j <= kMembers; ++j) {
      const ShareRoute route = Route(client, j);
      const SecretBytes key =
          *DeriveShareKey(sid_, crypto::X25519Key(Det("eph", i)), route.member_key, route);
      client.sealed.push_back(crypto::AeadSeal(
          key.Reveal(), crypto::Nonce{}, OneShotShareData(sid_, route, client.header.vector_digest),
          client.shares->BytesOf(j)));
      digest.Update(client.sealed.back());
    }
    client.header.shares_digest = digest.Finish();
    return client;
  }

  SessionParams params_;
  Bytes bytes_;
  Digest sid0_{};
  Digest sid_{};
  CommitteeList committee_;
  std::unique_ptr<LatticeStreams> streams_;
};

TEST_F(KnownSession, HasTheKnownParametersAndIdentity) {
  ASSERT_EQ(bytes_.size(), kOneShotParamsBytes);
  EXPECT_EQ(ToHex(BytesView(bytes_).subspan(284)), "01560007000200020000000000000000");
  EXPECT_EQ(ToHex(sid0_), "2bdc5b34e6f4b66d8e4d83ddf2b32198348f5b3e74489a1a7c08da14a25d25da");
  EXPECT_EQ(ToHex(CommitteeKeyMessage(sid0_, 1, committee_[0].key.key)),
            "ac3975c960f74b50c326c0d41396be050adde418c4cbd4f288ceb2cbaf5d3d07");
  EXPECT_EQ(ToHex(CommitteeRoot(committee_)),
            "b2c959dd11b5c73ae103277178b1af7bf6fde1697a2a47d5a6d6d7086086f28c");
  EXPECT_EQ(ToHex(sid_), "f9b54a97d69de1467ac642be07dc9c3b0831f00a4cb98dd944722f869aa9869e");
  const Result<SessionParams> read = DecodeParams(bytes_);
  ASSERT_THAT(read, IsOk());
  EXPECT_EQ(EncodeParams(*read), bytes_);
  EXPECT_THAT(ValidateParams(*read), IsOk());
}

TEST_F(KnownSession, DrawsTheKnownPolynomials) {
  const math::RlweRing ring(math::RlweSet::kOsa4096);
  const auto first = [&](uint32_t limb) {
    std::vector<uint64_t> a(ring.parameters().degree);
    math::SamplePublic(ring.parameters().primes[limb], *streams_->PublicPolynomial(0, limb), a);
    a.resize(3);
    return a;
  };
  EXPECT_THAT(first(0), ElementsAre(584885605612963, 213718862851461, 163816688446414));
  EXPECT_THAT(first(1), ElementsAre(290807547467837, 567295605151389, 70937086536209));
  const KnownClient client = Client(0);
  EXPECT_THAT(client.secret.Reveal().first(8), ElementsAre(2, 2, -3, 4, 4, -7, -1, -2));
}

TEST_F(KnownSession, SealsTheKnownContribution) {
  const KnownClient client = Client(0);
  EXPECT_EQ(ToHex(client.packed), "30aebcf8b3ea3a0406a8dabfd49ccb077e195da478e8763daa");
  EXPECT_EQ(ToHex(client.header.vector_digest),
            "e2c294e1eeac60e647daff0bbffb2cbe41635dc7326bce8ec4b05807285df13d");
  const uint64_t shares[] = {929894988320676378, 2163684048523781197, 1038172855774585350,
                             11151455227997012,  1540409892038924358, 1166209183721193710,
                             1346339375429713243};
  for (uint32_t j = 1; j <= kMembers; ++j) EXPECT_EQ(client.shares->Of(j)[0], shares[j - 1]);
  const ShareRoute route = Route(client, 3);
  const SecretBytes key =
      *DeriveShareKey(sid_, crypto::X25519Key(Det("eph", 0)), route.member_key, route);
  EXPECT_EQ(ToHex(key.Reveal()),
            "e1ef7b1c484de6918b99c8df1fc8742e36b7531b88c6334125dec6f1bdacfe4b");
  EXPECT_EQ(
      ToHex(DeriveShareKey(sid_, crypto::X25519Key(Det("kx", 3)), client.header.ephemeral, route)
                ->Reveal()),
      ToHex(key.Reveal()));
  EXPECT_EQ(ToHex(OneShotShareData(sid_, route, client.header.vector_digest)),
            "144dbca31f3acf1c2fb42afc2897a6c69403c37eb320f04753f2c708fb99b4f2");
}

TEST_F(KnownSession, SealsTheKnownShare) {
  const KnownClient client = Client(0);
  const BytesView share = client.shares->BytesOf(3);
  EXPECT_EQ(share.size(), 8'192U);
  EXPECT_EQ(ToHex(share.first(16)), "06a2e53bb654680e63a876ff744d3811");
  EXPECT_EQ(ToHex(crypto::Sha256(share)),
            "d3fcf634f2bef5c7e0c687cb8fcae5cdf59eabe436c829379b6c13bc782d0448");
  const BytesView sealed = client.sealed[2];
  EXPECT_EQ(sealed.size(), SealedShareBytes(params_.committee));
  EXPECT_EQ(ToHex(sealed.first(16)), "2ec7551db5a98b3adfec6dcec0bdf603");
  EXPECT_EQ(ToHex(sealed.last(16)), "7f9838e6347bdd0469d3f84371ec6031");
  EXPECT_EQ(ToHex(crypto::Sha256(sealed)),
            "60ff0172673891cd24a6b50a5e06527b79ceec859c452364c8ab2b06f0c9c263");
  EXPECT_EQ(ToHex(client.header.shares_digest),
            "ae3bbf031b2509c8e78e7d9e2969eea4d2acd7d8ab710cd202b3ee4b6fa8377b");
  EXPECT_EQ(ToHex(ContributionMessage(client.header)),
            "4d68f458d1f684b12764c52e862647175c1f8fbb9397981333241f24fec4731a");
}

TEST_F(KnownSession, VotesAndOpensTheKnownSum) {
  std::vector<KnownClient> clients;
  for (uint32_t i = 0; i < kClients; ++i) clients.push_back(Client(i));
  std::vector<uint32_t> pull = {0, 1, 2, 3, 4};
  std::sort(pull.begin(), pull.end(),
            [&](uint32_t a, uint32_t b) { return clients[a].header.id < clients[b].header.id; });
  EXPECT_THAT(pull, ElementsAre(0, 4, 3, 1, 2));
  const Positions positions = {0, 2, 3, 4};
  EXPECT_EQ(ToHex(EncodeSurvivorMap(positions, kClients)), "1d");
  const math::RlweRing ring(math::RlweSet::kOsa4096);
  math::CiphertextSum ciphertexts(ring, EncodingOf(params_));
  std::vector<Digest> leaves;
  std::vector<int64_t> expected(kDim);
  for (const uint32_t position : positions) {
    const KnownClient& client = clients[pull[position]];
    leaves.push_back(ContributionLeaf(client.header));
    ASSERT_THAT(ciphertexts.Fold(client.packed), IsOk());
    for (uint64_t j = 0; j < kDim; ++j) expected[j] += Value(pull[position], j);
  }
  const Digest root = crypto::MerkleRoot(leaves);
  EXPECT_EQ(ToHex(root), "8245b90bd8e0c766387607e9a52cbadb3962e6ee53529c4e72a551b57a23159b");
  EXPECT_EQ(ToHex(VoteMessage(sid_, {root, 4})),
            "7380f909f8fd1b95f07d02f1ef3addc4ea4dcab026e5444152f9f0df2cecf942");
  std::vector<std::vector<uint64_t>> sums;
  for (uint32_t j = 1; j <= kMembers; ++j) {
    std::vector<uint64_t>& sum = sums.emplace_back(ShareElements(params_.committee));
    for (const uint32_t position : positions) {
      ASSERT_THAT(math::AddPackedShare(sum, clients[pull[position]].shares->BytesOf(j)), IsOk());
    }
  }
  EXPECT_EQ(sums[0][0], 904985828732034272U);
  EXPECT_EQ(sums[0][1], 655252276645159813U);
  Writer elements;
  for (const uint64_t element : sums[0]) elements.U64Little(element);
  EXPECT_EQ(ToHex(SumShareMessage(sid_, root, 1, elements.view())),
            "251e2a979b479d6dc1666be8c0d8f45e3256cbd62a5833b146bcee93f884fdc3");
  std::vector<math::MemberShare> shares;
  for (const uint32_t j : {2U, 4U, 5U, 7U}) shares.push_back({j, sums[j - 1]});
  const Result<OpenedSum> opened = OpenSum(params_, sid_, shares, ciphertexts);
  ASSERT_THAT(opened, IsOk());
  std::vector<int64_t> values;
  for (uint64_t j = 0; j < kDim; ++j) {
    values.push_back(math::SignedAt(opened->values, j, params_.bits));
  }
  EXPECT_THAT(values, ElementsAre(-1954, -1942, -1930, -1918, -1906, -1894, -1882, -1870));
  EXPECT_THAT(values, ElementsAreArray(expected));
  EXPECT_THAT(opened->wrong, testing::IsEmpty());
}

}  // namespace
}  // namespace chorus::aggregation
