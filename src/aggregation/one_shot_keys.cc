// The key schedule of OneShot [specification 2.2.2, 2.2.4].
#include "aggregation/one_shot.h"
#include "base/codec.h"
#include "crypto/crypto.h"

namespace chorus::aggregation {
namespace {

std::unique_ptr<Rng> StreamOf(const SecretBytes& key, BytesView info) {
  const SecretBytes stream = crypto::HkdfExpand(key.Reveal(), info, crypto::kKeyBytes);
  return crypto::NewSeededRng(stream.Reveal());
}

}  // namespace

Digest OneShotSessionId(BytesView params, const Digest& committee_root) {
  return crypto::LabeledHash("CHORUS1/sid-osa", {params, committee_root});
}

Result<SecretBytes> DeriveShareKey(const Digest& sid, const crypto::X25519Key& secret,
                                   const PublicKey& peer, const ShareRoute& route) {
  CHORUS_TRY_ASSIGN(const SecretBytes shared, secret.Agree(peer));
  const SecretBytes prk = crypto::HkdfExtract(sid, shared.Reveal());
  Writer info;
  info.Raw("CHORUS1-OSA/share").U32(route.member);
  info.Raw(route.client).Raw(route.ephemeral).Raw(route.member_key);
  return crypto::HkdfExpand(prk.Reveal(), info.view(), crypto::kKeyBytes);
}

Digest OneShotShareData(const Digest& sid, const ShareRoute& route, const Digest& vector_digest) {
  return crypto::LabeledHash(
      "CHORUS1-OSA/share-aad",
      {sid, route.client, route.ephemeral, vector_digest, Writer().U32(route.member).view()});
}

LatticeStreams::LatticeStreams(const Digest& sid)
    : public_key_(crypto::HkdfExtract(sid, ViewOf("CHORUS1-OSA/public-a"))) {}

std::unique_ptr<Rng> LatticeStreams::PublicPolynomial(uint32_t polynomial, uint32_t limb) const {
  Writer info;
  info.Raw("CHORUS1-OSA/a").U32(polynomial).U8(static_cast<uint8_t>(limb));
  return StreamOf(public_key_, info.view());
}

ClientStreams::ClientStreams(const Digest& sid, BytesView seed)
    : key_(crypto::HkdfExtract(sid, seed)) {}

std::unique_ptr<Rng> ClientStreams::Secret() const {
  return StreamOf(key_, ViewOf("CHORUS1-OSA/secret"));
}

std::unique_ptr<Rng> ClientStreams::Error(uint32_t polynomial) const {
  return StreamOf(key_, Writer().Raw("CHORUS1-OSA/err").U32(polynomial).view());
}

}  // namespace chorus::aggregation
