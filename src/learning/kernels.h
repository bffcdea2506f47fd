// The heavy loops of training over raw pointers, compiled for several instruction sets and chosen
// once at run time, so that one portable binary is fast on every processor. Internal to learning.
//
// What implements this (kernels_*.inc, compiled once for each path) keeps every function internal
// to its file and instantiates no template of the standard library: the linker keeps one copy of
// such a function for the whole program, and might keep the one that needs the newest processor.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/pace.h"
#include "chorus/model.h"

namespace chorus::learning {

// c [m × n] = bias + a * b, or c += a * b. Element (i, j) of an operand stands at i * row +
// j * column; one of b's two strides is 1.
template <typename Scalar>
struct Product {
  size_t m = 0;
  size_t n = 0;
  size_t k = 0;
  const Scalar* a = nullptr;  // [m × k]
  size_t a_row = 0;
  size_t a_column = 0;
  const Scalar* b = nullptr;  // [k × n]
  size_t b_row = 0;
  size_t b_column = 0;
  Scalar* c = nullptr;
  size_t c_row = 0;
  bool add = false;              // to what c holds
  const Scalar* bias = nullptr;  // [n], of a product that does not add; null: zeros
  Pace* pace = nullptr;          // a breath at least every 100,000 multiplications; null: none
};

// What a softmax is made of: sum of exp(value - largest).
template <typename Scalar>
struct SoftmaxParts {
  Scalar largest = 0;
  Scalar sum = 0;
};

// sums [width] += row by row of values, whose rows stand `row` apart.
template <typename Scalar>
struct RowSums {
  const Scalar* values = nullptr;
  size_t rows = 0;
  size_t row = 0;
  size_t width = 0;
  Scalar* sums = nullptr;
};

// One step in time of a GRU for `rows` rows of `units`; rows of different tensors stand apart by
// their own strides. Gates in the order z, r, h.
template <typename Scalar>
struct GruStep {
  size_t rows = 0;
  size_t units = 0;
  size_t row = 0;               // stride of `gates`, which are [3 units] wide
  Scalar* gates = nullptr;      // forward: from the input's share to z, r, h; backward: to deltas
  Scalar* recurrent = nullptr;  // [rows × 3 units], the state's share; backward: its deltas
  size_t recurrent_row = 0;
  Scalar* kept = nullptr;  // [units] wide: the state's share of h, which backward needs
  size_t kept_row = 0;
  const Scalar* before = nullptr;  // the state before the step, [units] wide
  Scalar* after = nullptr;         // and after it; backward: unused
  size_t state_row = 0;
  Scalar* delta = nullptr;  // [rows × units] backward: by the state after; becomes its share by
                            // the state before that does not pass through the gates
};

template <typename Scalar>
struct Kernels {
  // `workspace`: kWorkspaceCount scalars, of no meaning before or after.
  void (*multiply)(const Product<Scalar>& product, Scalar* workspace);
  // Of every activation but softmax, in place. A NaN stays one, so that the loss shows it.
  void (*activate)(Activation activation, Scalar* values, size_t count);
  // Multiplies `delta` by the activation's derivative, which its outputs determine; that of GELU
  // its inputs, which others do not read. ReLU's at zero is taken as zero.
  void (*derive)(Activation activation, const Scalar* outputs, const Scalar* inputs, Scalar* delta,
                 size_t count);
  // softmax(from) to `to`, which may be `from`; cannot overflow. width >= 1.
  SoftmaxParts<Scalar> (*softmax)(const Scalar* from, Scalar* to, size_t width);
  void (*add_rows)(const RowSums<Scalar>& rows);
  void (*gru_forward)(const GruStep<Scalar>& step);
  void (*gru_backward)(const GruStep<Scalar>& step);
};

inline constexpr size_t kProductDepth = 256;  // of one pass over the sum of a product
inline constexpr size_t kProductWidth = 480;  // columns of one pass, whole tiles on every path
inline constexpr size_t kTileRowsMax = 12;
inline constexpr size_t kWorkspaceCount = kProductDepth * (kProductWidth + kTileRowsMax);

// Instruction sets, the wider later.
enum class KernelPath : uint8_t {
  kBaseline = 0,  // what every processor of the architecture has
  kAvx2 = 1,      // with FMA
  kAvx512 = 2,    // F, BW, DQ and VL
};

// Null where this processor lacks the path.
template <typename Scalar>
const Kernels<Scalar>* KernelsOf(KernelPath path);
template <typename Scalar>
const Kernels<Scalar>& FastestKernels();

}  // namespace chorus::learning
