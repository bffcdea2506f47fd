// What the network engine is measured against: the same work in bare Eigen, compiled for each
// instruction set with the flags of the kernels' path.
#pragma once

#include <cstddef>

#include "learning/kernels.h"

namespace chorus::bench {

// A product of row-major matrices: c [m × n] = a * b, or c += a * b. `a` is [m × k], or [k × m]
// when it is turned; `b` is [k × n], or [n × k].
struct EigenProduct {
  size_t m = 0;
  size_t n = 0;
  size_t k = 0;
  const float* a = nullptr;
  bool a_turned = false;
  const float* b = nullptr;
  bool b_turned = false;
  float* c = nullptr;
  bool add = false;
};

// One step of SGD on the mean cross-entropy of `rows` examples, of a network with one hidden layer
// of ReLU, its weights laid out as Chorus lays them out.
struct EigenStep {
  size_t rows = 0;
  size_t inputs = 0;
  size_t hidden = 0;
  size_t classes = 0;
  const float* features = nullptr;  // [rows × inputs], side by side
  const unsigned* labels = nullptr;
  float* weights = nullptr;
  float rate = 0;
  float* hidden_values = nullptr;  // [rows × hidden], like the next three room of its own
  float* hidden_deltas = nullptr;
  float* outputs = nullptr;  // [rows × classes]
};

struct EigenFunctions {
  void (*multiply)(const EigenProduct& product);
  void (*step)(const EigenStep& step);
};

extern const EigenFunctions kEigenBaseline;
extern const EigenFunctions kEigenAvx2;
extern const EigenFunctions kEigenAvx512;

// Of the widest path that this processor has.
const EigenFunctions& FastestEigen();

}  // namespace chorus::bench
