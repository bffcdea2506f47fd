// KnownOffers is a shortcut for a process that plays many devices: it must never make an offer pass
// that would not pass by itself.
#include <gtest/gtest.h>

#include "aggregation/secagg.h"
#include "crypto/crypto.h"
#include "matchers.h"

namespace chorus::aggregation {
namespace {

SessionParams Params(const Bytes& seed) {
  SessionParams params;
  params.protocol = Protocol::kPlain;
  params.vec_len = 8;
  params.bits = 24;
  params.word_bytes = 4;
  params.bound = 1'000;
  params.n_min = 2;
  params.n_max = 10;
  params.coordinator_id = crypto::Ed25519Public(seed);
  return params;
}

class KnownOffersTest : public testing::Test {
 protected:
  const Bytes seed_ = Bytes(crypto::kKeyBytes, 1);
  const PublicKey coordinator_ = crypto::Ed25519Public(seed_);
  const Bytes offer_ = MakeOffer(Params(seed_), seed_);
  KnownOffers offers_;

  Result<AcceptedOffer> Read(BytesView offer) {
    return ReadOfferOnce(&offers_, coordinator_, Protocol::kPlain, offer);
  }
};

TEST_F(KnownOffersTest, GivesTheSameAgain) {
  const Result<AcceptedOffer> alone = ReadOffer(coordinator_, Protocol::kPlain, offer_);
  ASSERT_THAT(alone, IsOk());
  for (int i = 0; i < 2; ++i) {
    const Result<AcceptedOffer> known = Read(offer_);
    ASSERT_THAT(known, IsOk());
    EXPECT_EQ(known->sid0, alone->sid0);
    EXPECT_EQ(EncodeParams(known->params), EncodeParams(alone->params));
  }
}

TEST_F(KnownOffersTest, RefusesEveryChangeOfAnOfferThatIsKnown) {
  ASSERT_THAT(Read(offer_), IsOk());
  for (size_t i = 0; i < offer_.size(); ++i) {
    Bytes changed = offer_;
    changed[i] ^= 1;
    EXPECT_FALSE(Read(changed).ok()) << "byte " << i;
  }
  EXPECT_THAT(Read(BytesView(offer_).first(offer_.size() - 1)), HasCode(Code::kInvalidArgument));
  EXPECT_THAT(Read({}), HasCode(Code::kInvalidArgument));
}

TEST_F(KnownOffersTest, KnowsAnOfferForItsCoordinatorAlone) {
  ASSERT_THAT(Read(offer_), IsOk());
  const PublicKey another = crypto::Ed25519Public(Bytes(crypto::kKeyBytes, 2));
  EXPECT_THAT(ReadOfferOnce(&offers_, another, Protocol::kPlain, offer_),
              HasCode(Code::kUnauthenticated));
}

}  // namespace
}  // namespace chorus::aggregation
