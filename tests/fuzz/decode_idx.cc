// IDX files, plain and compressed, alone and as a pair: what reads, written, reads the same, and
// examples have as many labels as rows. The first byte chooses; in a pair the next two say where
// the labels begin.
#include "client/example_store.h"
#include "fuzz.h"

namespace chorus::client {
namespace {

using fuzz::Require;

void OneFile(BytesView bytes) {
  const std::string path = fuzz::Folder() + "/one";
  fuzz::WriteFile(path, bytes);
  const Result<IdxFile> read = ReadIdx(path);
  if (!read.ok()) return;
  const std::string copy = fuzz::Folder() + "/copy";
  Require(WriteIdx(copy, read->dimensions, read->values).ok(), "what reads can be written");
  const Result<IdxFile> again = ReadIdx(copy);
  Require(again.ok() && again->dimensions == read->dimensions && again->values == read->values,
          "what is written reads the same");
}

ModelSpec Expected() {
  ModelSpec model;
  model.inputs = 4;
  model.layers = {{.units = 2, .activation = Activation::kNone}};
  model.loss = Loss::kCrossEntropy;
  return model;
}

void Pair(BytesView images, BytesView labels, uint32_t rank, bool expect) {
  const std::string folder = fuzz::Folder() + "/pair";
  std::filesystem::create_directory(folder);
  const std::string name = folder + "/images-idx" + std::to_string(rank) + "-ubyte";
  fuzz::WriteFile(name, images);
  fuzz::WriteFile(folder + "/labels-idx1-ubyte", labels);
  static const ModelSpec model = Expected();
  const Result<Examples> read = LoadExamples(folder, expect ? &model : nullptr);
  std::filesystem::remove(name);
  if (!read.ok()) return;
  Require(read->count() > 0 && read->labels.size() == read->count(), "each row has its label");
  Require(read->features.size() == read->count() * read->inputs, "each row is whole");
  for (const float value : read->features) Require(value >= 0 && value <= 1, "values in [0, 1]");
  for (const uint32_t label : read->labels) Require(!expect || label < 2, "labels fit the model");
}

}  // namespace

void Decode(BytesView input) {
  fuzz::Choices choices(input);
  const uint8_t how = choices.Byte();
  if (how % 2 == 0) return OneFile(choices.Rest());
  const size_t size = choices.Below(size_t{1} << 16U);
  const BytesView images = choices.Take(size);
  Pair(images, choices.Rest(), 1 + (how >> 2U) % 4, (how & 2U) != 0);
}

}  // namespace chorus::client

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  chorus::client::Decode({data, size});
  return 0;
}
