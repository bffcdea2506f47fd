// Every decoder of OneShot's messages, and its session parameters: what decodes encodes to the same
// bytes, so that each message has one encoding. The first byte chooses the decoder, the next three
// the sizes that a session fixes.
#include "aggregation/one_shot.h"
#include "base/codec.h"
#include "fuzz.h"
#include "math/math.h"

namespace chorus::aggregation {
namespace {

using fuzz::Require;

void IsCanonical(const Bytes& again, BytesView bytes) {
  Require(std::equal(again.begin(), again.end(), bytes.begin(), bytes.end()),
          "a message has one encoding");
}

// Decoders whose result has an encoder of its own.
template <typename Decoded>
void RoundTrip(const Result<Decoded>& decoded, BytesView bytes) {
  if (decoded.ok()) IsCanonical(Encode(*decoded), bytes);
}

// A session whose shares are a few elements long, so that short inputs hold many of them. The
// decoders know only sizes: no row of the committee's table is needed.
SessionParams SmallSession(fuzz::Choices& shape) {
  SessionParams params;
  params.protocol = Protocol::kOneShot;
  params.n_max = 1 + shape.Below(40);
  params.committee.members = static_cast<uint16_t>(shape.Below(5));
  params.committee.packing = static_cast<uint16_t>(256U << shape.Below(3));
  return params;
}

void OnePull(BytesView bytes, fuzz::Choices& shape) {
  const SessionParams params = SmallSession(shape);
  const Result<Pull> pull = DecodePull(bytes, params);
  if (!pull.ok()) return;
  IsCanonical(EncodePull(pull->committee, pull->entries), bytes);
  Require(pull->committee.size() == params.committee.members, "a pull shows every member");
  Require(pull->entries.size() <= params.n_max, "and no more clients than agreed");
  for (size_t i = 1; i < pull->entries.size(); ++i) {
    Require(pull->entries[i - 1].header.id < pull->entries[i].header.id, "each of them once");
  }
}

void Offered(BytesView bytes, fuzz::Choices& shape) {
  constexpr size_t kOffer = 8;  // stands for the signed parameters
  const auto members = static_cast<uint16_t>(shape.Below(9));
  const size_t cut = std::min(kOffer, bytes.size());
  const Result<CommitteeList> committee = DecodeCommittee(bytes.subspan(cut), members);
  if (!committee.ok()) return;
  IsCanonical(EncodeOsaOffer(bytes.first(cut), *committee), bytes);
}

void OneContribution(BytesView bytes, fuzz::Choices& shape) {
  const ContributionShape sizes{.shares_bytes = shape.Below(200), .packed_bytes = shape.Below(200)};
  const Result<OsaContribution> said = DecodeContribution(bytes, sizes);
  if (!said.ok()) return;
  IsCanonical(Encode(*said), bytes);
  Require(bytes.size() <= sizes.bytes_max(), "a contribution has a bound");
  Require(said->shares.size() == sizes.shares_bytes && said->packed.size() == sizes.packed_bytes,
          "its parts are of the session's sizes");
}

void OneSet(BytesView bytes, uint32_t count) {
  const Result<Positions> survivors = DecodeSurvivorMap(bytes, count);
  if (!survivors.ok()) return;
  IsCanonical(EncodeSurvivorMap(*survivors, count), bytes);
  for (const uint32_t position : *survivors) Require(position < count, "survivors are clients");
}

// The parameters, and what valid ones promise the code behind them.
void Parameters(BytesView bytes) {
  const Result<SessionParams> params = DecodeParams(bytes);
  if (!params.ok()) return;
  IsCanonical(EncodeParams(*params), bytes);
  if (params->protocol != Protocol::kOneShot || !ValidateParams(*params).ok()) return;
  const CommitteeRow* row = RowOf(params->committee);
  Require(row != nullptr, "a valid session has a committee of the table");
  Require(HonestAmong(params->n_min, params->gamma_ppm) >= 2, "and two honest clients");
  Require(math::CheckPackedSpec(SharingOf(params->committee)).ok(), "its keys can be shared");
  Require(math::CheckRlweEncoding(EncodingOf(*params), params->n_max).ok(), "its vectors fit");
  Require(SealedShareBytes(params->committee) * row->members < size_t{64} << 20U,
          "the shares of a contribution have a bound");
}

// A share, read and added up: both take and refuse the same.
void OneShare(BytesView bytes, uint32_t elements) {
  std::vector<uint64_t> sum(elements);
  const Status added = math::AddPackedShare(sum, bytes);
  const Result<std::vector<uint64_t>> read = math::ReadPackedShare(elements, bytes);
  Require(added.ok() == read.ok(), "a share is one to all");
  if (!read.ok()) return;
  Require(sum == *read, "it is read as it is added");
  Writer out(bytes.size());
  for (const uint64_t element : sum) out.U64Little(element);
  IsCanonical(std::move(out).Take(), bytes);
}

// A ciphertext of a few fields, and what opens with a key of zeros.
void OneCiphertext(BytesView bytes, fuzz::Choices& shape) {
  static const math::RlweRing ring(math::RlweSet::kOsa4096);
  math::RlweEncoding encoding;
  encoding.dim = 1 + shape.Below(12);
  encoding.bits = 21;
  encoding.bound = 1'000;
  math::CiphertextSum sum(ring, encoding);
  const Status folded = sum.Fold(bytes);
  Require(sum.contributors() == (folded.ok() ? 1U : 0U), "what is refused is not in the sum");
  Require(!folded.ok() || bytes.size() == encoding.ciphertext_bytes(), "a ciphertext has one size");
  if (!folded.ok() || !shape.Flag()) return;
  const std::vector<int32_t> key(math::RlweParametersFor(encoding.set).degree);
  const Result<RingVector> opened = sum.Open(
      key, [](uint32_t, uint32_t) { return crypto::NewSeededRng(fuzz::Key("public").Reveal()); });
  if (!opened.ok()) return;
  for (uint64_t j = 0; j < encoding.dim; ++j) {
    const int64_t value = math::SignedAt(*opened, j, encoding.bits);
    Require(std::abs(value) <= 1'000, "no value is larger than one contribution");
  }
}

}  // namespace

void Decode(BytesView input) {
  fuzz::Choices choices(input);
  const uint32_t decoder = choices.Below(11);
  fuzz::Choices shape(choices.Take(3));
  const BytesView rest = choices.Rest();
  const Bytes bytes(rest.begin(), rest.end());  // on the heap, so that reading past it is seen
  switch (decoder) {
    case 0:
      return RoundTrip(DecodeCommitteeKey(bytes), bytes);
    case 1:
      return Offered(bytes, shape);
    case 2:
      return OneContribution(bytes, shape);
    case 3:
      return OnePull(bytes, shape);
    case 4: {
      const auto complaints = DecodeComplaints(bytes, shape.Below(256));
      return complaints.ok() ? IsCanonical(EncodeComplaints(*complaints), bytes) : void();
    }
    case 5:
      return OneSet(bytes, shape.Below(256));
    case 6:
      return RoundTrip(DecodeQuorum(bytes, static_cast<uint16_t>(shape.Below(256))), bytes);
    case 7:
      return RoundTrip(DecodeSumShare(bytes, 8 * shape.Below(32)), bytes);
    case 8:
      return Parameters(bytes);
    case 9:
      return OneShare(bytes, shape.Below(32));
    default:
      return OneCiphertext(bytes, shape);
  }
}

}  // namespace chorus::aggregation

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  chorus::aggregation::Decode({data, size});
  return 0;
}
