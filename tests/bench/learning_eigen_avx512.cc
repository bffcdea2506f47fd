// Bare Eigen with the flags of the kernels' AVX-512 path.
#define Eigen EigenAvx512
#include "learning_eigen.inc"

namespace chorus::bench {

const EigenFunctions kEigenAvx512 = kFunctions;

}  // namespace chorus::bench
