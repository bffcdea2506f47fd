// Lagrange's and Gao's algorithms.
#include "math/reed_solomon.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "math/math.h"
#include "math/secret_numbers.h"

namespace chorus::math {
namespace {

using Elements = SecretNumbers<uint64_t>;

// So many products of elements, and an element besides, have a sum below 2^128.
constexpr size_t kProductsMax = 32;

// Modulo the prime, for a sum of that many: 2^61 = 1, twice.
uint64_t ReduceSum(unsigned __int128 sum) {
  const uint64_t low = static_cast<uint64_t>(sum) & kPrime;
  const auto high = sum >> 61U;  // below 2^67
  const uint64_t middle = static_cast<uint64_t>(high) & kPrime;
  // At most 2 * kPrime + 2^6, which takes FieldAdd with one of them below the prime.
  const uint64_t folded = middle + static_cast<uint64_t>(high >> 61U);
  return FieldAdd(FieldAdd(low, 0), FieldAdd(folded, 0));
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

// The product of (X - x), lowest coefficient first, into `product` [points + 1] of zeros.
void SetVanishing(std::span<const uint64_t> x, std::span<uint64_t> product) {
  product[0] = 1;
  for (size_t i = 0; i < x.size(); ++i) {
    for (size_t j = i + 1; j > 0; --j) {
      product[j] = FieldSubtract(product[j - 1], FieldMultiply(product[j], x[i]));
    }
    product[0] = FieldSubtract(0, FieldMultiply(product[0], x[i]));
  }
}

// The coefficients [points] of the polynomial through all points, `vanishing` being zero at them.
// Lagrange's formula in O(points^2), as each basis polynomial is the vanishing one divided by its
// own factor.
Elements Interpolate(std::span<const uint64_t> x, std::span<const uint64_t> y,
                     std::span<const uint64_t> vanishing) {
  const size_t points = x.size();
  Elements polynomial(points);
  std::vector<uint64_t> basis(points);
  for (size_t i = 0; i < points; ++i) {
    uint64_t coefficient = 0;
    for (size_t j = points; j > 0; --j) {
      coefficient = FieldAdd(vanishing[j], FieldMultiply(coefficient, x[i]));
      basis[j - 1] = coefficient;
    }
    const uint64_t weight = FieldInverse(EvaluatePolynomial(basis, x[i]));
    AddMultiple(polynomial.RevealMutable(), basis, FieldMultiply(y[i], weight), 0);
  }
  return polynomial;
}

// Inverts all at the price of one inversion and three products each [Montgomery 1987]. None is 0.
void InvertAll(std::span<uint64_t> elements) {
  std::vector<uint64_t> products(elements.size());
  uint64_t product = 1;
  for (size_t i = 0; i < elements.size(); ++i) {
    products[i] = product;
    product = FieldMultiply(product, elements[i]);
  }
  uint64_t inverse = FieldInverse(product);
  for (size_t i = elements.size(); i > 0; --i) {
    const uint64_t inverted = FieldMultiply(inverse, products[i - 1]);
    inverse = FieldMultiply(inverse, elements[i - 1]);
    elements[i - 1] = inverted;
  }
}

// The coefficients of a polynomial that is zero at exactly the x whose y is wrong, when the others
// lie on one of degree < threshold and at most floor((n - threshold) / 2) are wrong; else any
// polynomial.
//
// With R_0 the vanishing polynomial and R_1 the one through all points, Euclid's algorithm keeps
// R_i = V_i * R_1 modulo R_0. The first R_i of degree < (n + threshold) / 2 is V_i times the
// polynomial sought, so that V_i is zero where R_1 is wrong, and nowhere else because its degree is
// least.
//
// DEVIATION: the quotient R_i / V_i is not taken. Its points are checked instead, in all rows.
Elements ErrorLocator(std::span<const uint64_t> x, std::span<const uint64_t> y, size_t threshold) {
  const size_t points = x.size();
  Elements remainder(points + 1);
  SetVanishing(x, remainder.RevealMutable());
  Elements divisor = Interpolate(x, y, remainder.Reveal());
  // The degree of V_(i + 1) is n less that of R_i, so these suffice until the last step.
  Elements locator((points - threshold) / 2 + 1);
  Elements next_locator((points - threshold) / 2 + 1);
  next_locator.RevealMutable()[0] = 1;
  for (size_t degree = Degree(divisor.Reveal()); 2 * degree >= points + threshold;
       degree = Degree(divisor.Reveal())) {
    const uint64_t inverse = FieldInverse(divisor.Reveal()[degree]);
    const std::span<const uint64_t> divisor_terms = divisor.Reveal().first(degree + 1);
    const std::span<const uint64_t> locator_terms =
        next_locator.Reveal().first(Degree(next_locator.Reveal()) + 1);
    for (size_t shift = Degree(remainder.Reveal()) - degree + 1; shift > 0; --shift) {
      const uint64_t leading = remainder.Reveal()[degree + shift - 1];
      const uint64_t factor = FieldSubtract(0, FieldMultiply(leading, inverse));
      AddMultiple(remainder.RevealMutable(), divisor_terms, factor, shift - 1);
      AddMultiple(locator.RevealMutable(), locator_terms, factor, shift - 1);
    }
    std::swap(remainder, divisor);
    std::swap(locator, next_locator);
  }
  return next_locator;
}

// The first row in which one of the points `kept`, past the first `threshold` of them, is off the
// polynomial through those; the number of rows when there is none.
size_t FirstRowOff(std::span<const uint64_t> points, std::span<const uint64_t> values,
                   std::span<const size_t> kept, size_t threshold) {
  const size_t rows = values.size() / points.size();
  std::vector<uint64_t> first(threshold);
  for (size_t i = 0; i < threshold; ++i) first[i] = points[kept[i]];
  const LagrangeBasis basis(std::move(first));
  Elements known(rows * threshold);
  for (size_t row = 0; row < rows; ++row) {
    for (size_t i = 0; i < threshold; ++i) {
      known.RevealMutable()[row * threshold + i] = values[row * points.size() + kept[i]];
    }
  }
  size_t off = rows;
  for (const size_t index : kept.subspan(threshold)) {
    const std::vector<uint64_t> weights = basis.At(points[index]);
    for (size_t row = 0; row < off; ++row) {
      const uint64_t value =
          DotProduct(weights, known.Reveal().subspan(row * threshold, threshold));
      if (value != values[row * points.size() + index]) off = row;
    }
  }
  return off;
}

}  // namespace

uint64_t DotProduct(std::span<const uint64_t> a, std::span<const uint64_t> b) {
  uint64_t dot = 0;
  for (size_t first = 0; first < a.size(); first += kProductsMax) {
    const size_t end = std::min(first + kProductsMax, a.size());
    unsigned __int128 sum = dot;
    for (size_t i = first; i < end; ++i) sum += static_cast<unsigned __int128>(a[i]) * b[i];
    dot = ReduceSum(sum);
  }
  return dot;
}

uint64_t EvaluatePolynomial(std::span<const uint64_t> coefficients, uint64_t x) {
  uint64_t value = 0;
  for (size_t j = coefficients.size(); j > 0; --j) {
    value = FieldAdd(FieldMultiply(value, x), coefficients[j - 1]);
  }
  return value;
}

LagrangeBasis::LagrangeBasis(std::vector<uint64_t> points)
    : points_(std::move(points)), weights_(points_.size(), 1) {
  for (size_t i = 0; i < points_.size(); ++i) {
    for (size_t j = 0; j < points_.size(); ++j) {
      if (j == i) continue;
      weights_[i] = FieldMultiply(weights_[i], FieldSubtract(points_[i], points_[j]));
    }
  }
  InvertAll(weights_);
}

std::vector<uint64_t> LagrangeBasis::At(uint64_t x) const {
  std::vector<uint64_t> weights(points_.size());
  uint64_t vanishing = 1;
  for (size_t i = 0; i < points_.size(); ++i) {
    weights[i] = FieldSubtract(x, points_[i]);
    vanishing = FieldMultiply(vanishing, weights[i]);
  }
  InvertAll(weights);
  for (size_t i = 0; i < points_.size(); ++i) {
    weights[i] = FieldMultiply(FieldMultiply(weights[i], weights_[i]), vanishing);
  }
  return weights;
}

std::optional<std::vector<size_t>> FindWrongPoints(std::span<const uint64_t> points,
                                                   std::span<const uint64_t> values,
                                                   size_t threshold) {
  const size_t rows = values.size() / points.size();
  const size_t wrong_max = (points.size() - threshold) / 2;
  std::vector<size_t> kept(points.size());
  std::iota(kept.begin(), kept.end(), size_t{0});
  std::vector<size_t> wrong;
  // A row's errors are all found at once, so that a decodable word takes at most a pass a row and
  // one more: the bound on what others can make us work. Leaving out u points leaves at least
  // wrong_max - u errors correctable, which is as many as there may be.
  for (size_t pass = 0; pass <= rows && wrong.size() <= wrong_max; ++pass) {
    const size_t row = FirstRowOff(points, values, kept, threshold);
    if (row == rows) {
      std::sort(wrong.begin(), wrong.end());
      return wrong;
    }
    std::vector<uint64_t> x;
    Elements y(kept.size());
    for (const size_t index : kept) {
      y.RevealMutable()[x.size()] = values[row * points.size() + index];
      x.push_back(points[index]);
    }
    const Elements locator = ErrorLocator(x, y.Reveal(), threshold);
    std::vector<size_t> right;
    for (const size_t index : kept) {
      const bool off = EvaluatePolynomial(locator.Reveal(), points[index]) == 0;
      (off ? wrong : right).push_back(index);
    }
    if (right.size() == kept.size()) break;
    kept = std::move(right);
  }
  return std::nullopt;
}

}  // namespace chorus::math
