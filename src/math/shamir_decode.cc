// Opening a secret although some shares are wrong: Shamir's shares are a Reed-Solomon codeword,
// here five interleaved ones, one a limb, with errors in the same holders. Gao's algorithm finds
// which.
//
// Nothing here is constant time: the server, which alone decodes, has been given every share and
// may know all that their timing tells. What is derived from them is wiped all the same.
#include <algorithm>
#include <numeric>
#include <utility>

#include "base/limits.h"
#include "math/math.h"

namespace chorus::math {
namespace {

// Field elements that give shares away, for example the coefficients of a polynomial, lowest first.
// The size is fixed, so that no growth leaves a copy behind; wiped on destruction.
struct Elements {
  explicit Elements(size_t count) : values(count) {}
  ~Elements() {
    Wipe({reinterpret_cast<uint8_t*>(values.data()), values.size() * sizeof(uint64_t)});
  }
  Elements(Elements&&) noexcept = default;
  Elements(const Elements&) = delete;
  Elements& operator=(const Elements&) = delete;

  std::vector<uint64_t> values;
};

// Horner's rule.
uint64_t Evaluate(std::span<const uint64_t> coefficients, uint64_t x) {
  uint64_t value = 0;
  for (size_t j = coefficients.size(); j > 0; --j) {
    value = FieldAdd(FieldMultiply(value, x), coefficients[j - 1]);
  }
  return value;
}

// Of the highest coefficient that is not zero; 0 when all are.
size_t Degree(std::span<const uint64_t> coefficients) {
  size_t degree = coefficients.size();
  while (degree > 0 && coefficients[degree - 1] == 0) --degree;
  return degree == 0 ? 0 : degree - 1;
}

// target += factor * addend * X^shift. `target` has the room.
void AddMultiple(std::span<uint64_t> target, std::span<const uint64_t> addend, uint64_t factor,
                 size_t shift) {
  for (size_t j = 0; j < addend.size(); ++j) {
    target[j + shift] = FieldAdd(target[j + shift], FieldMultiply(factor, addend[j]));
  }
}

// The product of (X - x) over the shares, lowest coefficient first [shares + 1].
std::vector<uint64_t> VanishingPolynomial(std::span<const Share* const> shares) {
  std::vector<uint64_t> product(shares.size() + 1);
  product[0] = 1;
  for (size_t i = 0; i < shares.size(); ++i) {
    const uint64_t x = shares[i]->x;
    for (size_t j = i + 1; j > 0; --j) {
      product[j] = FieldSubtract(product[j - 1], FieldMultiply(product[j], x));
    }
    product[0] = FieldSubtract(0, FieldMultiply(product[0], x));
  }
  return product;
}

// The polynomials of degree < shares.size() through the limbs [first, first + count) of all shares:
// [count] of [shares] coefficients. Lagrange's formula in O(shares^2), as each basis polynomial is
// the vanishing one divided by its own factor.
std::vector<Elements> Interpolate(std::span<const Share* const> shares, size_t first,
                                  size_t count) {
  const size_t points = shares.size();
  std::vector<Elements> polynomials;
  polynomials.reserve(count);
  for (size_t limb = 0; limb < count; ++limb) polynomials.emplace_back(points);
  const std::vector<uint64_t> vanishing = VanishingPolynomial(shares);
  std::vector<uint64_t> basis(points);
  for (const Share* share : shares) {
    uint64_t coefficient = 0;
    for (size_t j = points; j > 0; --j) {
      coefficient = FieldAdd(vanishing[j], FieldMultiply(coefficient, share->x));
      basis[j - 1] = coefficient;
    }
    const uint64_t weight = FieldInverse(Evaluate(basis, share->x));
    for (size_t limb = 0; limb < count; ++limb) {
      AddMultiple(polynomials[limb].values, basis, FieldMultiply(share->y[first + limb], weight),
                  0);
    }
  }
  return polynomials;
}

// The first limb in which some share is off its polynomial; kLimbs when there is none.
size_t FirstLimbOff(std::span<const Elements> polynomials, std::span<const Share* const> shares) {
  for (const Share* share : shares) {
    for (size_t limb = 0; limb < kLimbs; ++limb) {
      if (Evaluate(polynomials[limb].values, share->x) != share->y[limb]) return limb;
    }
  }
  return kLimbs;
}

// A polynomial that is zero at the x of exactly the shares whose `limb` is wrong, if at most
// floor((m - threshold) / 2) of the m are; else any polynomial [Gao03, Algorithm 1]. With R_0 the
// vanishing polynomial and R_1 the one through all shares, Euclid's algorithm keeps R_i = V_i * R_1
// modulo R_0. The first R_i of degree < (m + threshold) / 2 is V_i times the polynomial sought, so
// that V_i is zero where R_1 is wrong, and nowhere else because its degree is least.
//
// DEVIATION: the quotient R_i / V_i is not taken. Its shares are checked instead, in all limbs.
Elements ErrorLocator(std::span<const Share* const> shares, size_t limb, size_t threshold) {
  const size_t points = shares.size();
  Elements remainder(points + 1);
  remainder.values = VanishingPolynomial(shares);
  std::vector<Elements> next_remainder = Interpolate(shares, limb, 1);
  // The degree of V_(i + 1) is m less that of R_i, so these suffice until the last step.
  Elements locator((points - threshold) / 2 + 1);
  Elements next_locator((points - threshold) / 2 + 1);
  next_locator.values[0] = 1;
  std::vector<uint64_t>& divisor = next_remainder[0].values;
  for (size_t degree = Degree(divisor); 2 * degree >= points + threshold;
       degree = Degree(divisor)) {
    const uint64_t inverse = FieldInverse(divisor[degree]);
    const std::span<const uint64_t> divisor_terms(divisor.data(), degree + 1);
    const std::span<const uint64_t> locator_terms(next_locator.values.data(),
                                                  Degree(next_locator.values) + 1);
    for (size_t shift = Degree(remainder.values) - degree + 1; shift > 0; --shift) {
      const uint64_t quotient = FieldMultiply(remainder.values[degree + shift - 1], inverse);
      const uint64_t factor = FieldSubtract(0, quotient);
      AddMultiple(remainder.values, divisor_terms, factor, shift - 1);
      AddMultiple(locator.values, locator_terms, factor, shift - 1);
    }
    std::swap(remainder.values, divisor);
    std::swap(locator.values, next_locator.values);
  }
  return next_locator;
}

Status CheckShares(std::span<const Share> shares, SharingSpec spec) {
  if (spec.threshold == 0) return InvalidArgument("a threshold must be at least 1");
  if (shares.size() < spec.threshold) return InvalidArgument("fewer shares than the threshold");
  if (shares.size() > limits::kDecodedSharesMax)
    return InvalidArgument("too many shares for one secret");
  std::vector<uint32_t> xs;
  xs.reserve(shares.size());
  for (const Share& share : shares) {
    if (share.x == 0) return InvalidArgument("a share's holder must be numbered from 1");
    for (const uint64_t limb : share.y) {
      if (limb >= kPrime) return InvalidArgument("a share must be made of numbers below the prime");
    }
    xs.push_back(share.x);
  }
  std::sort(xs.begin(), xs.end());
  if (std::adjacent_find(xs.begin(), xs.end()) != xs.end()) {
    return InvalidArgument("two shares of one holder");
  }
  return OkStatus();
}

// The secret whose limbs are the polynomials' values at zero. They are everyone's share in a
// sharing of threshold 1, whose one Lagrange coefficient is 1.
Result<SecretBytes> OpenAtZero(std::span<const Elements> polynomials) {
  Share share;
  share.x = 1;
  for (size_t limb = 0; limb < kLimbs; ++limb) share.y[limb] = polynomials[limb].values[0];
  const uint64_t lagrange = 1;
  return OpenSecret({&share, 1}, {&lagrange, 1});
}

}  // namespace

Result<DecodedSecret> DecodeSecret(std::span<const Share> shares, SharingSpec spec) {
  CHORUS_TRY(CheckShares(shares, spec));
  const size_t wrong_max = (shares.size() - spec.threshold) / 2;
  std::vector<const Share*> kept;
  kept.reserve(shares.size());
  for (const Share& share : shares) kept.push_back(&share);
  DecodedSecret decoded;
  // A limb's errors are all found at once, so that a decodable word takes at most a pass a limb and
  // one more: the bound on what others can make us work. Leaving out u shares leaves at least
  // wrong_max - u errors correctable, which is as many as there may be.
  for (size_t pass = 0; pass <= kLimbs && decoded.wrong.size() <= wrong_max; ++pass) {
    const std::span<const Share* const> all(kept);
    const std::vector<Elements> polynomials = Interpolate(all.first(spec.threshold), 0, kLimbs);
    const size_t limb = FirstLimbOff(polynomials, all.subspan(spec.threshold));
    if (limb == kLimbs) {
      CHORUS_TRY_ASSIGN(decoded.secret, OpenAtZero(polynomials));
      std::sort(decoded.wrong.begin(), decoded.wrong.end());
      return decoded;
    }
    const Elements locator = ErrorLocator(all, limb, spec.threshold);
    std::vector<const Share*> right;
    for (const Share* share : kept) {
      if (Evaluate(locator.values, share->x) != 0) {
        right.push_back(share);
      } else {
        decoded.wrong.push_back(share->x);
      }
    }
    if (right.size() == kept.size()) break;
    kept = std::move(right);
  }
  return DataLoss("the shares do not open a secret: too many are wrong");
}

}  // namespace chorus::math
