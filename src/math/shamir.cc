// Secret sharing over GF(2^61 - 1) [Shamir 1979]. Everything that touches a secret runs the same
// instructions whatever its value: the prime is a Mersenne number, so a product is reduced by one
// shift, one addition and one masked subtraction.
#include <array>
#include <bit>
#include <cstring>

#include "math/math.h"

namespace chorus::math {
namespace {

static_assert(std::endian::native == std::endian::little,
              "limbs and shares are copied as they are");

constexpr unsigned kPrimeBits = 61;
// Bytes of the secret in each limb.
constexpr std::array<size_t, kLimbs> kLimbBytes = {7, 7, 7, 7, 4};

// `value` < 2 * kPrime to canonical form, without a branch.
uint64_t Reduce(uint64_t value) {
  const uint64_t less = value - kPrime;
  const uint64_t borrowed = uint64_t{0} - (less >> 63U);  // all ones when value < kPrime
  return less + (kPrime & borrowed);
}

template <typename T>
std::span<uint8_t> RawBytes(T* values, size_t count) {
  return {reinterpret_cast<uint8_t*>(values), count * sizeof(T)};
}

// Writes the limbs to where they stay: a value given back would leave a copy on the stack.
void SplitSecret(BytesView secret, std::array<uint64_t, kLimbs>& limbs) {
  size_t offset = 0;
  for (size_t limb = 0; limb < kLimbs; ++limb) {
    std::memcpy(&limbs[limb], secret.data() + offset, kLimbBytes[limb]);
    offset += kLimbBytes[limb];
  }
}

// A uniform field element made from 61 random bits; the prime itself, the one value too many, is
// drawn again. Rejecting says nothing about the value kept.
uint64_t ElementFrom(uint64_t random, Rng& rng) {
  uint64_t element = random & kPrime;
  while (element == kPrime) {
    rng.Fill(RawBytes(&element, 1));
    element &= kPrime;
  }
  return element;
}

}  // namespace

uint64_t FieldAdd(uint64_t a, uint64_t b) { return Reduce(a + b); }

uint64_t FieldSubtract(uint64_t a, uint64_t b) { return Reduce(a + kPrime - b); }

uint64_t FieldMultiply(uint64_t a, uint64_t b) {
  const unsigned __int128 product = static_cast<unsigned __int128>(a) * b;
  // 2^61 = 1 modulo the prime, so the high part adds to the low one.
  return Reduce((static_cast<uint64_t>(product) & kPrime) +
                static_cast<uint64_t>(product >> kPrimeBits));
}

uint64_t FieldInverse(uint64_t a) {
  // a^(p - 2) [Fermat]; the exponent is public.
  constexpr uint64_t kExponent = kPrime - 2;
  uint64_t power = 1;
  for (unsigned bit = kPrimeBits; bit > 0; --bit) {
    power = FieldMultiply(power, power);
    if ((kExponent >> (bit - 1) & 1U) != 0) power = FieldMultiply(power, a);
  }
  return power;
}

Polynomial::Polynomial(BytesView secret, SharingSpec spec, Rng& rng) {
  if (secret.size() != kSharedSecretBytes || spec.threshold == 0) return;
  coefficients_.resize(spec.threshold);  // the only allocation, so that no copy is left behind
  SplitSecret(secret, coefficients_[0]);
  std::vector<uint64_t> random(spec.threshold - 1);
  for (size_t limb = 0; limb < kLimbs; ++limb) {
    rng.Fill(RawBytes(random.data(), random.size()));
    for (size_t j = 0; j < random.size(); ++j) {
      coefficients_[j + 1][limb] = ElementFrom(random[j], rng);
    }
  }
  Wipe(RawBytes(random.data(), random.size()));
}

Polynomial::Polynomial(BytesView secret, std::span<const std::vector<uint64_t>> coefficients) {
  if (secret.size() != kSharedSecretBytes || coefficients.size() != kLimbs) return;
  const size_t higher = coefficients[0].size();
  for (const std::vector<uint64_t>& of_limb : coefficients) {
    if (of_limb.size() != higher) return;
  }
  coefficients_.resize(higher + 1);
  SplitSecret(secret, coefficients_[0]);
  for (size_t limb = 0; limb < kLimbs; ++limb) {
    for (size_t j = 0; j < higher; ++j) coefficients_[j + 1][limb] = coefficients[limb][j];
  }
}

Polynomial::~Polynomial() { Wipe(RawBytes(coefficients_.data(), coefficients_.size())); }

Share Polynomial::At(uint32_t x) const {
  Share share;
  share.x = x;
  if (x == 0) return share;  // the value there is the secret
  for (size_t j = coefficients_.size(); j > 0; --j) {
    for (size_t limb = 0; limb < kLimbs; ++limb) {
      share.y[limb] = FieldAdd(FieldMultiply(share.y[limb], x), coefficients_[j - 1][limb]);
    }
  }
  return share;
}

Bytes ShareBytes(const Share& share) {
  Bytes bytes(kShareBytes);
  std::memcpy(bytes.data(), share.y.data(), kShareBytes);
  return bytes;
}

Result<Share> ReadShare(uint32_t x, BytesView bytes) {
  if (x == 0) return InvalidArgument("a share's holder must be numbered from 1");
  if (bytes.size() != kShareBytes) return InvalidArgument("a share must be 40 bytes long");
  Share share;
  share.x = x;
  std::memcpy(share.y.data(), bytes.data(), kShareBytes);
  // Nothing but whether all limbs are canonical may show in the time.
  uint64_t canonical = 1;
  for (const uint64_t limb : share.y) canonical &= static_cast<uint64_t>(limb < kPrime);
  if (canonical == 0) return InvalidArgument("a share must be made of numbers below the prime");
  return share;
}

std::vector<uint64_t> LagrangeAtZero(std::span<const uint32_t> xs) {
  // The product of all xs over x_i and over the product of x_j - x_i. The denominators are inverted
  // together, since an inversion costs a hundred products: `before[i]` is the product of those
  // before the i-th [Montgomery87].
  std::vector<uint64_t> denominators(xs.begin(), xs.end());
  std::vector<uint64_t> before(xs.size());
  uint64_t all_xs = 1;
  uint64_t product = 1;
  for (size_t i = 0; i < xs.size(); ++i) {
    for (size_t j = 0; j < xs.size(); ++j) {
      if (j == i) continue;
      denominators[i] = FieldMultiply(denominators[i], FieldSubtract(xs[j], xs[i]));
    }
    before[i] = product;
    product = FieldMultiply(product, denominators[i]);
    all_xs = FieldMultiply(all_xs, xs[i]);
  }
  uint64_t inverse = FieldInverse(product);  // of the first i + 1 denominators, below
  std::vector<uint64_t> lagrange(xs.size());
  for (size_t i = xs.size(); i > 0; --i) {
    lagrange[i - 1] = FieldMultiply(all_xs, FieldMultiply(inverse, before[i - 1]));
    inverse = FieldMultiply(inverse, denominators[i - 1]);
  }
  return lagrange;
}

Result<SecretBytes> OpenSecret(std::span<const Share> shares, std::span<const uint64_t> lagrange) {
  if (shares.empty() || shares.size() != lagrange.size()) {
    return InvalidArgument("as many shares as Lagrange coefficients are needed, and at least one");
  }
  SecretBytes secret(kSharedSecretBytes);
  uint64_t excess = 0;  // bits where a limb of a secret has none
  size_t offset = 0;
  for (size_t limb = 0; limb < kLimbs; ++limb) {
    uint64_t value = 0;
    for (size_t i = 0; i < shares.size(); ++i) {
      value = FieldAdd(value, FieldMultiply(shares[i].y[limb], lagrange[i]));
    }
    excess |= value >> (8 * kLimbBytes[limb]);
    std::memcpy(secret.RevealMutable().data() + offset, &value, kLimbBytes[limb]);
    offset += kLimbBytes[limb];
    Wipe(RawBytes(&value, 1));
  }
  if (excess != 0) return DataLoss("the shares do not open a secret: at least one is wrong");
  return secret;
}

}  // namespace chorus::math
