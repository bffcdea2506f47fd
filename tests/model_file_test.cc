#include "cli/model_file.h"

#include <unistd.h>

#include <filesystem>
#include <limits>
#include <string>

#include "cli/files.h"
#include "matchers.h"

namespace chorus {
namespace {

using cli::EncodeModelFile;
using cli::Existing;
using cli::ReadModelFile;
using testing::HasSubstr;

ModelSpec Model(uint32_t units) {
  ModelSpec model;
  model.inputs = 3;
  model.layers = {{.units = units}};
  return model;
}

class ModelFile : public testing::Test {
 protected:
  ~ModelFile() override { std::filesystem::remove(path_); }
  void Write(const Bytes& bytes) {
    ASSERT_THAT(cli::WriteFile(path_, bytes, {.existing = Existing::kReplace}), IsOk());
  }

  const std::string path_ = testing::TempDir() + "/chorus_model_" + std::to_string(getpid());
  const Weights weights_ = {1, -2, 0.5F, 4, 5, 6, 7, 8};
};

TEST_F(ModelFile, GivesBackTheWeights) {
  Write(EncodeModelFile(Model(2), weights_));
  const auto read = ReadModelFile(path_, Model(2));
  ASSERT_THAT(read.status(), IsOk());
  EXPECT_EQ(*read, weights_);
}

TEST_F(ModelFile, IsRefusedForAnotherModel) {
  Write(EncodeModelFile(Model(2), weights_));
  for (const uint32_t units : {1U, 3U}) {
    const auto read = ReadModelFile(path_, Model(units));
    EXPECT_THAT(read.status(), HasCode(Code::kInvalidArgument));
    EXPECT_THAT(read.status().message(), HasSubstr("another model"));
  }
}

TEST_F(ModelFile, IsRefusedAtEveryOtherLength) {
  Bytes bytes = EncodeModelFile(Model(2), weights_);
  const Bytes whole = bytes;
  for (size_t length = 0; length < whole.size(); ++length) {
    Write({whole.begin(), whole.begin() + static_cast<ptrdiff_t>(length)});
    EXPECT_FALSE(ReadModelFile(path_, Model(2)).ok()) << length;
  }
  bytes.push_back(0);
  Write(bytes);
  EXPECT_FALSE(ReadModelFile(path_, Model(2)).ok());
}

TEST_F(ModelFile, IsRefusedWithANumberThatIsNotFinite) {
  Weights weights = weights_;
  weights[3] = std::numeric_limits<float>::quiet_NaN();
  Write(EncodeModelFile(Model(2), weights));
  EXPECT_THAT(ReadModelFile(path_, Model(2)).status(), HasCode(Code::kDataLoss));
}

TEST_F(ModelFile, IsNoOtherFile) {
  Write({'P', 'K', 3, 4, 0, 0, 0, 0, 0, 0});
  EXPECT_THAT(ReadModelFile(path_, Model(2)).status().message(), HasSubstr("no model file"));
  std::filesystem::remove(path_);
  EXPECT_THAT(ReadModelFile(path_, Model(2)).status(), HasCode(Code::kNotFound));
}

}  // namespace
}  // namespace chorus
