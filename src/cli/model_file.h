// A model as one file, what `chorus export` and `chorus simulate` write:
//   magic "CHM1" | length u32 (big-endian) | canonical description of the model, of that length
//   | every parameter in layout order, IEEE-754 binary32 little-endian
#pragma once

#include <string>

#include "chorus/bytes.h"
#include "chorus/model.h"
#include "chorus/status.h"

namespace chorus::cli {

Bytes EncodeModelFile(const ModelSpec& model, const Weights& weights);

// [dim] weights of `model`, which the file must describe. Errors name the file. kInvalidArgument:
// no such file of Chorus, or of another model; kDataLoss: cut short, too long, or with a number
// that is not finite; and those of ReadFile.
Result<Weights> ReadModelFile(const std::string& path, const ModelSpec& model);

}  // namespace chorus::cli
