// Bare Eigen with the flags of the kernels' AVX2 path.
#define Eigen EigenAvx2
#include "learning_eigen.inc"

namespace chorus::bench {

const EigenFunctions kEigenAvx2 = kFunctions;

}  // namespace chorus::bench
