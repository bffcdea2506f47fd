// Polynomials over GF(2^61 - 1) through given points, and which points are off: what opens shares
// of either kind although some are wrong. Points are distinct, x[i] and y[i] elements of the field.
//
// Nothing here is constant time but in the y: for whoever may see all the shares, or for public
// points. What is derived from the y is wiped all the same.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace chorus::math {

// The sum of a[i] * b[i], for equally many elements. Constant time in them.
uint64_t DotProduct(std::span<const uint64_t> a, std::span<const uint64_t> b);

// Horner's rule; the lowest coefficient first.
uint64_t EvaluatePolynomial(std::span<const uint64_t> coefficients, uint64_t x);

// Gives, for a set of points, the weights whose dot product with a polynomial's values there is its
// value elsewhere, for every polynomial of degree below their number [Berrut and Trefethen 2004].
class LagrangeBasis {
 public:
  // O(n^2).
  explicit LagrangeBasis(std::vector<uint64_t> points);
  // [n]. O(n). `x` is none of the points.
  std::vector<uint64_t> At(uint64_t x) const;

 private:
  std::vector<uint64_t> points_;
  std::vector<uint64_t> weights_;  // 1 / product of x_i - x_j over the others
};

// Which of n points are wrong in some row of `values` [rows][n], ascending. The law: they are at
// most e = floor((n - threshold) / 2), and all others lie, row by row, on polynomials of degree <
// threshold. At most one set of points is like that; nothing when there is none. O(n^2) a row that
// shows a wrong point no row before has shown, whatever the values are. 0 < threshold <= n.
// [Gao03, Algorithm 1]
std::optional<std::vector<size_t>> FindWrongPoints(std::span<const uint64_t> points,
                                                   std::span<const uint64_t> values,
                                                   size_t threshold);

}  // namespace chorus::math
