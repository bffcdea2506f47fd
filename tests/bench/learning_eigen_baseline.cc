// Bare Eigen with the flags of the kernels' baseline path.
#define Eigen EigenBaseline
#include "learning_eigen.inc"

namespace chorus::bench {

const EigenFunctions kEigenBaseline = kFunctions;

}  // namespace chorus::bench
