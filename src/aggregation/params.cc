#include <set>
#include <string>

#include "aggregation/graph.h"
#include "aggregation/one_shot.h"
#include "aggregation/secagg.h"
#include "base/codec.h"
#include "base/limits.h"
#include "crypto/crypto.h"
#include "math/math.h"

namespace chorus::aggregation {
namespace {

constexpr std::string_view kMagicSecAgg = "CHS1";
constexpr std::string_view kMagicPlain = "CHP1";
constexpr std::string_view kMagicOneShot = "CHO1";
constexpr uint64_t kMillion = 1'000'000;

constexpr Step kPlainSteps[] = {Step::kInput};
constexpr Step kCompleteSteps[] = {Step::kKeys, Step::kShares, Step::kInput, Step::kAcks,
                                   Step::kUnmask};
constexpr Step kSelfSelectedSteps[] = {Step::kKeys,  Step::kNeighbours, Step::kShares,
                                       Step::kInput, Step::kAcks,       Step::kUnmask};
constexpr Step kHararySteps[] = {Step::kKeys, Step::kShares, Step::kInput, Step::kUnmask};

constexpr std::string_view kPlainNames[] = {"input"};
constexpr std::string_view kCompleteNames[] = {"keys", "shares", "masked input", "acknowledgements",
                                               "unmasking"};
constexpr std::string_view kSelfSelectedNames[] = {"keys",         "neighbours",       "shares",
                                                   "masked input", "acknowledgements", "unmasking"};
constexpr std::string_view kHararyNames[] = {"keys", "shares", "masked input", "unmasking"};
constexpr Step kOneShotSteps[] = {Step::kCommitteeKeys, Step::kInput, Step::kComplaints,
                                  Step::kVotes, Step::kOpening};
constexpr std::string_view kOneShotNames[] = {"committee keys", "input", "complaints", "votes",
                                              "opening"};
static_assert(std::size(kOneShotSteps) == std::size(kOneShotNames));
static_assert(std::size(kCompleteSteps) == std::size(kCompleteNames) &&
              std::size(kSelfSelectedSteps) == std::size(kSelfSelectedNames) &&
              std::size(kHararySteps) == std::size(kHararyNames));

std::string_view MagicOf(Protocol protocol) {
  if (protocol == Protocol::kPlain) return kMagicPlain;
  return protocol == Protocol::kOneShot ? kMagicOneShot : kMagicSecAgg;
}

Result<Protocol> ProtocolOf(std::string_view magic) {
  if (magic == kMagicPlain) return Protocol::kPlain;
  if (magic == kMagicSecAgg) return Protocol::kSecAgg;
  if (magic == kMagicOneShot) return Protocol::kOneShot;
  return InvalidArgument("the session parameters are of an unknown protocol version");
}

// What follows the parameters of every protocol in those of OneShot.
void AppendCommittee(Writer& out, const CommitteeParams& committee) {
  out.U8(static_cast<uint8_t>(committee.set)).U8(committee.plaintext_bits);
  out.U16(committee.members).U16(committee.corrupt_max).U16(committee.packing);
  out.U32(committee.gamma_ppm).U32(committee.delta_ppm);
}

CommitteeParams ReadCommittee(Reader& in) {
  CommitteeParams committee;
  committee.set = static_cast<OneShotSet>(in.U8());
  committee.plaintext_bits = in.U8();
  committee.members = in.U16();
  committee.corrupt_max = in.U16();
  committee.packing = in.U16();
  committee.gamma_ppm = in.U32();
  committee.delta_ppm = in.U32();
  return committee;
}

Status Refused(const char* what) {
  return PermissionDenied(std::string("the coordinator's session parameters are refused: ") + what);
}

// What of `offered` a contributor does not accept, or ok.
Status CheckAgainst(const ContributorOptions& options, const SessionParams& offered) {
  const SessionParams& mine = options.expected;
  if (offered.protocol != mine.protocol) return Refused("another protocol than the task's");
  if (offered.suite != mine.suite || offered.mode != mine.mode) return Refused("suite or mode");
  if (offered.coordinator_id != options.coordinator) return Refused("another coordinator's name");
  if (offered.task_id != mine.task_id || offered.task_hash != mine.task_hash) {
    return Refused("another task than the one agreed to");
  }
  if (offered.round != mine.round) return Refused("another round than the one trained for");
  if (offered.attempt == 0 || offered.attempt > limits::kAttemptsPerRoundMax) {
    return Refused("too many attempts at one round");
  }
  if (offered.model_hash != mine.model_hash)
    return Refused("another model than the one trained on");
  if (offered.layout_hash != mine.layout_hash) return Refused("another layout of the model");
  if (offered.dp_hash != mine.dp_hash) return Refused("other privacy parameters than the task's");
  if (offered.vec_len != mine.vec_len || offered.bits != mine.bits ||
      offered.word_bytes != mine.word_bytes || offered.bound != mine.bound) {
    return Refused("another encoding than the task's");
  }
  if (offered.n_min < mine.n_min || offered.a_min < mine.a_min)
    return Refused("too small a cohort");
  if (offered.n_max > mine.n_max) return Refused("too large a cohort for the encoding");
  if (offered.gamma_ppm < mine.gamma_ppm || offered.delta_ppm < mine.delta_ppm ||
      offered.sigma < mine.sigma || offered.eta < mine.eta) {
    return Refused("weaker assumptions than the policy's");
  }
  if (offered.committee != mine.committee) return Refused("another committee than the task's");
  return OkStatus();
}

}  // namespace

Bytes EncodeParams(const SessionParams& p) {
  Writer out;
  out.Raw(MagicOf(p.protocol));
  out.U16(p.suite).U8(p.mode).Raw(p.task_id).Raw(p.task_hash).U64(p.round).U8(p.attempt);
  out.Raw(p.model_hash).U64(p.vec_len).U8(p.bits).U8(p.word_bytes).U64(p.bound);
  out.U32(p.n_min).U32(p.n_max).U32(p.gamma_ppm).U32(p.delta_ppm).U8(p.sigma).U8(p.eta);
  out.U32(p.a_min).Raw(p.dp_hash).Raw(p.layout_hash);
  for (const uint32_t timer : p.timers_ms) out.U32(timer);
  out.Raw(p.coordinator_id).Raw(p.nonce);
  if (p.protocol == Protocol::kOneShot) AppendCommittee(out, p.committee);
  return std::move(out).Take();
}

Result<SessionParams> DecodeParams(BytesView bytes) {
  Reader in(bytes);
  SessionParams p;
  const auto magic = in.Array<4>();
  const std::string_view word(reinterpret_cast<const char*>(magic.data()), magic.size());
  CHORUS_TRY_ASSIGN(p.protocol, ProtocolOf(word));
  p.suite = in.U16();
  p.mode = in.U8();
  p.task_id = in.Array<16>();
  p.task_hash = in.Array<32>();
  p.round = in.U64();
  p.attempt = in.U8();
  p.model_hash = in.Array<32>();
  p.vec_len = in.U64();
  p.bits = in.U8();
  p.word_bytes = in.U8();
  p.bound = in.U64();
  p.n_min = in.U32();
  p.n_max = in.U32();
  p.gamma_ppm = in.U32();
  p.delta_ppm = in.U32();
  p.sigma = in.U8();
  p.eta = in.U8();
  p.a_min = in.U32();
  p.dp_hash = in.Array<32>();
  p.layout_hash = in.Array<32>();
  for (uint32_t& timer : p.timers_ms) timer = in.U32();
  p.coordinator_id = in.Array<32>();
  p.nonce = in.Array<32>();
  if (p.protocol == Protocol::kOneShot) p.committee = ReadCommittee(in);
  CHORUS_TRY(in.Finish("the session parameters"));
  if (p.suite != 1) return InvalidArgument("the session parameters name an unknown suite");
  if (p.mode > static_cast<uint8_t>(SharingGraph::kHarary)) {
    return InvalidArgument("the session parameters name an unknown mode");
  }
  return p;
}

Status ValidateParams(const SessionParams& p) {
  if (p.vec_len == 0 || p.vec_len > limits::kDimMax + math::kMetricCoordinates) {
    return InvalidArgument("vec_len is zero or larger than this version allows");
  }
  if (p.bits < 2 || p.bits > 64) return InvalidArgument("b is not in 2..64");
  if (p.word_bytes != math::WordBytesFor(p.bits)) return InvalidArgument("w does not match b");
  if (p.n_min == 0 || p.n_min > p.n_max) return InvalidArgument("n_min is not in 1..n_max");
  const uint32_t largest =
      p.protocol == Protocol::kOneShot ? limits::kOneShotCohortMax : limits::kCohortMax;
  if (p.n_max > largest) {
    return InvalidArgument("n_max is above " + std::to_string(largest) + ", the largest cohort");
  }
  CHORUS_TRY(math::CheckNoWrap(p.n_max, p.bound, p.bits));
  if (p.protocol == Protocol::kPlain) return OkStatus();
  if (p.gamma_ppm >= kMillion || p.delta_ppm >= kMillion) {
    return InvalidArgument("gamma and delta must be below 1000000 millionths");
  }
  if (p.sigma < 40 || p.eta < 20) return InvalidArgument("sigma is below 40 or eta below 20");
  return p.protocol == Protocol::kOneShot ? CheckOneShot(p) : CheckGraph(p);
}

Digest ModelHash(BytesView canonical_model, std::span<const float> weights) {
  static_assert(sizeof(float) == 4 && std::endian::native == std::endian::little);
  const BytesView raw(reinterpret_cast<const uint8_t*>(weights.data()), weights.size_bytes());
  return crypto::LabeledHash("CHORUS1/model", {canonical_model, raw});
}

std::span<const Step> Steps(Protocol protocol, SharingGraph graph) {
  if (protocol == Protocol::kPlain) return kPlainSteps;
  if (protocol == Protocol::kOneShot) return kOneShotSteps;
  if (graph == SharingGraph::kSelfSelected) return kSelfSelectedSteps;
  if (graph == SharingGraph::kHarary) return kHararySteps;
  return kCompleteSteps;
}

std::span<const std::string_view> StepNames(Protocol protocol, SharingGraph graph) {
  if (protocol == Protocol::kPlain) return kPlainNames;
  if (protocol == Protocol::kOneShot) return kOneShotNames;
  if (graph == SharingGraph::kSelfSelected) return kSelfSelectedNames;
  if (graph == SharingGraph::kHarary) return kHararyNames;
  return kCompleteNames;
}

Bytes MakeOffer(const SessionParams& params, BytesView signing_seed) {
  const Bytes bytes = EncodeParams(params);
  const Digest message = crypto::LabeledHash("CHORUS1/params", {bytes});
  return std::move(Writer().Raw(bytes).Raw(crypto::Ed25519Sign(signing_seed, message))).Take();
}

size_t OfferBytes(Protocol protocol) {
  return (protocol == Protocol::kOneShot ? kOneShotParamsBytes : kSessionParamsBytes) +
         sizeof(Signature);
}

Result<AcceptedOffer> ReadOffer(const PublicKey& coordinator, Protocol protocol,
                                BytesView question) {
  if (question.size() != OfferBytes(protocol)) {
    return InvalidArgument("the offer has the wrong length");
  }
  const BytesView bytes = question.first(question.size() - sizeof(Signature));
  const Digest message = crypto::LabeledHash("CHORUS1/params", {bytes});
  if (!crypto::Ed25519Verify(coordinator, message, question.last(sizeof(Signature)))) {
    return Unauthenticated("the session parameters are not signed by the pinned coordinator");
  }
  AcceptedOffer accepted;
  CHORUS_TRY_ASSIGN(accepted.params, DecodeParams(bytes));
  CHORUS_TRY(ValidateParams(accepted.params));
  accepted.sid0 = crypto::LabeledHash("CHORUS1/sid0", {bytes});
  return accepted;
}

Result<AcceptedOffer> AcceptOffer(const ContributorOptions& options, BytesView question) {
  CHORUS_TRY_ASSIGN(AcceptedOffer accepted, ReadOfferOnce(options.known_offers, options.coordinator,
                                                          options.expected.protocol, question));
  CHORUS_TRY(CheckAgainst(options, accepted.params));
  const RingVector empty = math::ZeroVector(0, accepted.params.bits);
  if (math::DimOf(options.input) != accepted.params.vec_len ||
      options.input.index() != empty.index()) {
    return InvalidArgument("the contribution has another shape than the session's vectors");
  }
  return accepted;
}

Status CheckSumRange(const SessionParams& params, const Sum& sum) {
  const auto reach = static_cast<int64_t>(params.bound * sum.contributors);
  bool inside = true;
  for (uint64_t i = 0; i < params.vec_len; ++i) {
    const int64_t value = math::SignedAt(sum.values, i, params.bits);
    inside &= value <= reach && value >= -reach;
  }
  if (!inside) return Aborted("the sum lies outside its range: some contribution was garbage");
  return OkStatus();
}

Result<std::unique_ptr<Aggregator>> NewAggregator(AggregatorOptions options) {
  if (options.signing_seed.size() != crypto::kKeyBytes) {
    return InvalidArgument("the signing seed is not 32 bytes");
  }
  options.params.coordinator_id = crypto::Ed25519Public(options.signing_seed);
  CHORUS_TRY(ValidateParams(options.params));
  if (options.parties.size() < options.params.n_min ||
      options.parties.size() > options.params.n_max) {
    return InvalidArgument("the number of parties is not in n_min..n_max");
  }
  std::vector<PartyId> sorted = options.parties;
  std::sort(sorted.begin(), sorted.end());
  if (std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end()) {
    return InvalidArgument("a party is named twice");
  }
  std::set<PartyId> makers;
  for (const PreKey& prekey : options.prekeys) {
    if (!std::binary_search(sorted.begin(), sorted.end(), prekey.from) ||
        !makers.insert(prekey.from).second) {
      return InvalidArgument("pre-keys are of no party, or twice of one");
    }
  }
  if (options.params.protocol == Protocol::kPlain) return NewPlainAggregator(std::move(options));
  if (options.verifier == nullptr)
    return InvalidArgument("this protocol needs an identity verifier");
  if (options.params.protocol == Protocol::kOneShot) {
    CHORUS_TRY(CheckCommitteeOptions(options));
    return NewOneShotAggregator(std::move(options));
  }
  return NewSecAggAggregator(std::move(options));
}

Result<std::unique_ptr<Contributor>> NewContributor(ContributorOptions options) {
  if (options.identity_seed.size() != crypto::kKeyBytes) {
    return InvalidArgument("the identity seed is not 32 bytes");
  }
  if (options.coordinator == PublicKey{}) return InvalidArgument("no coordinator is pinned");
  if (options.verifier == nullptr || options.rng == nullptr) {
    return InvalidArgument("a contributor needs an identity verifier and a random source");
  }
  if (options.evidence.size() > limits::kEvidenceBytesMax) {
    return InvalidArgument("the evidence of this identity is too long");
  }
  if (options.expected.protocol == Protocol::kPlain) {
    return NewPlainContributor(std::move(options));
  }
  if (options.expected.protocol == Protocol::kOneShot) {
    CHORUS_TRY(CheckCommitteeIds(options.expected.committee, options.committee_ids));
    return NewOneShotContributor(std::move(options));
  }
  return NewSecAggContributor(std::move(options));
}

}  // namespace chorus::aggregation
