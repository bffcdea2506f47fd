// Parameter sets, what follows from them, and sampling. The client's side is in rlwe_encrypt.cc,
// the server's in rlwe_sum.cc.
#include "math/rlwe.h"

#include <algorithm>
#include <cmath>

#include "base/limits.h"
#include "math/math.h"
#include "math/rlwe_kernels.h"

namespace chorus::math {
namespace {

constexpr int kFieldBitsMin = 2;
constexpr int kFieldBitsMax = 62;

constexpr RlweParameters kOsa4096 = {
    .degree = 4'096,
    .limbs = 2,
    .primes = {1'125'899'906'629'633, 1'125'899'906'826'241},
    .roots = {967'006'076'000'656, 1'094'367'314'627'419},
    .plaintext_bits = 86,
};

constexpr RlweParameters kOsa8192 = {
    .degree = 8'192,
    .limbs = 4,
    .primes = {1'125'899'906'629'633, 1'125'899'906'826'241, 1'125'899'905'744'897,
               1'125'899'905'351'681},
    .roots = {1'096'684'567'043'902, 971'709'613'313'032, 340'368'873'960'073, 684'195'787'594'020},
    .plaintext_bits = 186,
};

constexpr bool IsSound(const RlweParameters& parameters) {
  bool sound = parameters.degree <= kRlweDegreeMax && parameters.limbs <= kRlweLimbsMax;
  for (uint32_t i = 0; i < parameters.limbs; ++i) {
    const uint64_t prime = parameters.primes[i];
    sound = sound && prime % (2 * uint64_t{parameters.degree}) == 1;
    sound = sound && prime < kDigitMask && kDigitMask - prime < kGapMax;
  }
  // One client's error, and what is added to it so that it is never negative, fit the last digit.
  const int shift = static_cast<int>(ErrorShift(parameters));
  return sound && shift > 0 && shift + 7 <= static_cast<int>(kDigitBits);
}
static_assert(IsSound(kOsa4096) && IsSound(kOsa8192));

}  // namespace

const RlweParameters& RlweParametersFor(RlweSet set) {
  return set == RlweSet::kOsa8192 ? kOsa8192 : kOsa4096;
}

uint64_t RlweEncoding::fields() const {
  if (bits < 1) return 0;
  return static_cast<uint64_t>(RlweParametersFor(set).plaintext_bits / bits);
}

uint64_t RlweEncoding::coefficients() const {
  const uint64_t in_one = fields();
  return in_one == 0 ? 0 : dim / in_one + static_cast<uint64_t>(dim % in_one != 0);
}

uint32_t RlweEncoding::polynomials() const {
  const uint32_t degree = RlweParametersFor(set).degree;
  return static_cast<uint32_t>((coefficients() + degree - 1) / degree);
}

uint64_t RlweEncoding::residues() const { return RlweParametersFor(set).limbs * coefficients(); }

uint64_t RlweEncoding::ciphertext_bytes() const { return (kResidueBits * residues() + 7) / 8; }

Status CheckRlweEncoding(const RlweEncoding& encoding, uint64_t n_max) {
  if (encoding.set != RlweSet::kOsa4096 && encoding.set != RlweSet::kOsa8192) {
    return InvalidArgument("set names no parameter set");
  }
  if (encoding.dim == 0 || encoding.dim > limits::kDimMax + kMetricCoordinates) {
    return InvalidArgument("dim must be at least 1 and at most that of the largest model");
  }
  if (encoding.bits < kFieldBitsMin || encoding.bits > kFieldBitsMax) {
    return InvalidArgument("bits must lie in 2 .. 62");
  }
  if (n_max == 0 || n_max > kRlweContributionsMax) {
    return InvalidArgument("n_max must be at least 1 and at most 32768: errors add up");
  }
  const uint64_t end = uint64_t{1} << static_cast<unsigned>(encoding.bits);
  if (encoding.bound == 0) return InvalidArgument("bound must be at least 1");
  if (encoding.bound > end || 2 * encoding.bound > (end - 1) / n_max) {
    return InvalidArgument("bits are too few for n_max * 2 * bound: sums would wrap");
  }
  return OkStatus();
}

int64_t RlweErrorBound(uint32_t contributors) {
  // CBD(42) has variance 21. The root of an integer below 2^53 is the same everywhere.
  const double deviations = std::sqrt(100.0 * kNoiseMax / 2.0 * contributors);
  return std::min(kRlweErrorMax, static_cast<int64_t>(deviations));
}

RlweRing::RlweRing(RlweSet set) : RlweRing(set, FastestRlwePath()) {}

RlweRing::RlweRing(RlweSet set, RlwePath path) : set_(set) {
  const RlweParameters& parameters = RlweParametersFor(set);
  ntts_.reserve(parameters.limbs);
  for (uint32_t limb = 0; limb < parameters.limbs; ++limb) {
    ntts_.emplace_back(Ntt::Spec{.degree = parameters.degree,
                                 .prime = parameters.primes[limb],
                                 .root = parameters.roots[limb]},
                       path);
  }
}

void SamplePublic(uint64_t prime, Rng& stream, std::span<uint64_t> residues) {
  for (size_t accepted = 0; accepted < residues.size();) {
    const std::span<uint64_t> drawn = residues.subspan(accepted);
    stream.Fill({reinterpret_cast<uint8_t*>(drawn.data()), drawn.size_bytes()});
    uint64_t over = 0;
    for (uint64_t& residue : drawn) {
      residue &= kDigitMask;
      over |= prime - 1 - residue;
    }
    if (over >> 63U == 0) return;
    // One draw in 2^29 or fewer is not below its prime; those after it move up.
    accepted =
        static_cast<size_t>(std::remove_if(drawn.begin(), drawn.end(),
                                           [prime](uint64_t residue) { return residue >= prime; }) -
                            residues.begin());
  }
}

SecretNumbers<int32_t> SampleSecret(const RlweRing& ring, Rng& stream) {
  const size_t degree = ring.parameters().degree;
  SecretBytes bytes(degree * kNoiseBytes);
  stream.Fill(bytes.RevealMutable());
  SecretNumbers<uint64_t> noise(degree);
  ring.ntt(0).kernel().draw_noise(bytes.Reveal().data(), noise.RevealMutable().data(), degree);
  SecretNumbers<int32_t> secret(degree);
  for (size_t i = 0; i < degree; ++i) {
    secret.RevealMutable()[i] =
        static_cast<int32_t>(noise.Reveal()[i]) - static_cast<int32_t>(kNoiseMax);
  }
  return secret;
}

}  // namespace chorus::math
