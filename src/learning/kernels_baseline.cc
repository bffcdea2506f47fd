// The kernels for what every processor of the architecture has.
#include "learning/kernels_elements.inc"
#include "learning/kernels_paths.h"

namespace chorus::learning {

const Kernels<float> kBaselineFloat = kAll<float>;
const Kernels<double> kBaselineDouble = kAll<double>;

}  // namespace chorus::learning
