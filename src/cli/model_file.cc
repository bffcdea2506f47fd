#include "cli/model_file.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/codec.h"
#include "base/limits.h"
#include "cli/files.h"
#include "learning/learning.h"

namespace chorus::cli {
namespace {

constexpr std::string_view kMagic = "CHM1";
constexpr size_t kHeaderBytes = 8;
constexpr std::string_view kDescription = "CHORUS1/model-spec";

// The head that all descriptions share (learning::CanonicalModel).
struct DescribedLayer {
  uint32_t units = 0;
  uint8_t activation = 0;
};
struct Described {
  uint32_t inputs = 0;
  uint8_t loss = 0;
  std::vector<DescribedLayer> layers;
};

// Empty when the bytes are no description.
std::optional<Described> ReadDescription(BytesView bytes) {
  Reader reader(bytes);
  const BytesView magic = reader.Raw(kDescription.size());
  if (reader.failed() || !std::equal(magic.begin(), magic.end(), kDescription.begin()))
    return std::nullopt;
  Described described;
  described.inputs = reader.U32();
  described.loss = reader.U8();
  const uint32_t layers = reader.Count(sizeof(uint32_t) + 1);
  for (uint32_t i = 0; i < layers; ++i) {
    DescribedLayer& layer = described.layers.emplace_back();
    layer.units = reader.U32();
    layer.activation = reader.U8();
  }
  if (reader.failed()) return std::nullopt;
  return described;
}

std::string Instead(std::string_view what, uint64_t found, uint64_t wanted) {
  return std::string(what) + " " + std::to_string(found) + ", and the task's " +
         std::to_string(wanted);
}

// The first thing in which the file's model is not the task's, in words.
std::string DifferenceOf(BytesView found_bytes, BytesView wanted_bytes) {
  const std::optional<Described> found = ReadDescription(found_bytes);
  const std::optional<Described> wanted = ReadDescription(wanted_bytes);
  if (!found.has_value() || !wanted.has_value()) return "its description cannot be read";
  if (found->inputs != wanted->inputs)
    return Instead("its inputs are", found->inputs, wanted->inputs);
  if (found->layers.size() != wanted->layers.size())
    return Instead("the number of its layers is", found->layers.size(), wanted->layers.size());
  for (size_t i = 0; i < found->layers.size(); ++i) {
    const std::string name = "of its layer " + std::to_string(i + 1) + " the ";
    const DescribedLayer& layer = found->layers[i];
    const DescribedLayer& other = wanted->layers[i];
    if (layer.units != other.units) return Instead(name + "units are", layer.units, other.units);
    if (layer.activation != other.activation)
      return Instead(name + "activation is number", layer.activation, other.activation);
  }
  if (found->loss != wanted->loss) return Instead("its loss is number", found->loss, wanted->loss);
  return "its layers have other kinds or sizes of windows than the task's";
}

// The description in a file that begins as one does; as much as there is of it.
BytesView DescriptionIn(BytesView file) {
  Reader reader(file.subspan(kMagic.size()));
  const size_t size = std::min<size_t>(reader.U32(), reader.left());
  return reader.Raw(size);
}

}  // namespace

Bytes EncodeModelFile(const ModelSpec& model, const Weights& weights) {
  const Bytes description = learning::CanonicalModel(model);
  Writer writer;
  writer.Raw(kMagic).U32(static_cast<uint32_t>(description.size())).Raw(description);
  writer.Raw({reinterpret_cast<const uint8_t*>(weights.data()), weights.size() * sizeof(float)});
  return std::move(writer).Take();
}

Result<Weights> ReadModelFile(const std::string& path, const ModelSpec& model) {
  const Bytes description = learning::CanonicalModel(model);
  const uint64_t dim = learning::ParameterCount(model);
  const size_t begin = kHeaderBytes + description.size();
  // One byte more than it may have shows that it is too long.
  CHORUS_TRY_ASSIGN(const Bytes file, ReadFile(path, begin + limits::kDimMax * sizeof(float)));
  Writer header;
  header.Raw(kMagic).U32(static_cast<uint32_t>(description.size())).Raw(description);
  const BytesView wanted = header.view();
  if (file.size() < kHeaderBytes || !std::equal(kMagic.begin(), kMagic.end(), file.begin())) {
    return InvalidArgument(path + " is no model file; name one that chorus export wrote");
  }
  if (file.size() < begin || !std::equal(wanted.begin(), wanted.end(), file.begin())) {
    return InvalidArgument(path + " holds another model than the task describes: " +
                           DifferenceOf(DescriptionIn(file), description) +
                           "; use the task that it was trained with");
  }
  if (file.size() != begin + dim * sizeof(float)) {
    return DataLoss(path + " holds " + std::to_string((file.size() - begin) / sizeof(float)) +
                    " parameters in place of " + std::to_string(dim) + "; fetch it again");
  }
  Weights weights(dim);
  std::memcpy(weights.data(), file.data() + begin, dim * sizeof(float));
  if (!std::all_of(weights.begin(), weights.end(), [](float w) { return std::isfinite(w); })) {
    return DataLoss(path + " holds a parameter that is no finite number; fetch it again");
  }
  return weights;
}

}  // namespace chorus::cli
