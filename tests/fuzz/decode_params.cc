// Session parameters, as bytes and as an offer that the pinned coordinator signed: what decodes
// encodes to the same bytes, and what a contributor accepts is valid.
#include "aggregation/protocols.h"
#include "aggregation/secagg.h"
#include "base/codec.h"
#include "fuzz.h"

namespace chorus::aggregation {
namespace {

using fuzz::Require;

class Everybody final : public IdentityVerifier {
 public:
  Result<Identity> Verify(const PublicKey&, BytesView) const override { return Identity{}; }
};

// A contributor that expects what it is offered, but for what `choices` change.
void Offer(BytesView bytes, const SessionParams& params, fuzz::Choices& choices) {
  static const SecretBytes seed = fuzz::Key("coordinator");
  const Digest words = crypto::LabeledHash("CHORUS1/params", {bytes});
  Writer question;
  question.Raw(bytes).Raw(crypto::Ed25519Sign(seed.Reveal(), words));

  const Everybody verifier;
  ContributorOptions options;
  options.coordinator = crypto::Ed25519Public(seed.Reveal());
  options.expected = params;
  options.verifier = &verifier;
  options.input =
      math::ZeroVector(std::min<uint64_t>(params.vec_len, 16), std::clamp<int>(params.bits, 1, 64));
  if (choices.Flag()) ++options.expected.round;
  if (choices.Flag()) ++options.expected.n_min;
  const Result<AcceptedOffer> accepted = AcceptOffer(options, question.view());
  if (!accepted.ok()) return;
  Require(ValidateParams(accepted->params).ok(), "only valid parameters are accepted");
  Require(accepted->params.coordinator_id == options.coordinator, "the coordinator is named");
  Require(accepted->params.round == options.expected.round, "the round is the one expected");
  Require(accepted->params.n_min >= options.expected.n_min, "no smaller cohort than expected");
}

}  // namespace

void Decode(BytesView input) {
  fuzz::Choices choices(input);
  fuzz::Choices shape(choices.Take(3));
  const BytesView rest = choices.Rest();
  const Bytes bytes(rest.begin(), rest.end());
  const Result<SessionParams> params = DecodeParams(bytes);
  if (!params.ok()) return;
  Require(EncodeParams(*params) == bytes, "parameters have one encoding");
  if (ValidateParams(*params).ok()) {
    Require(params->n_min <= params->n_max && params->vec_len > 0, "valid parameters make sense");
  }
  if (shape.Flag()) {
    // Names this coordinator: otherwise chance never gets past that check.
    SessionParams ours = *params;
    ours.coordinator_id = crypto::Ed25519Public(fuzz::Key("coordinator").Reveal());
    return Offer(EncodeParams(ours), ours, shape);
  }
  Offer(bytes, *params, shape);
}

}  // namespace chorus::aggregation

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  chorus::aggregation::Decode({data, size});
  return 0;
}
