// Files of data for tests of what reads them, and models that the data fits.
#pragma once

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "cli/dataset.h"
#include "matchers.h"

namespace chorus {

inline ModelSpec Classifier(uint32_t inputs, uint32_t classes) {
  ModelSpec model;
  model.inputs = inputs;
  model.layers = {{.units = classes}};
  return model;
}

class DatasetTest : public testing::Test {
 protected:
  DatasetTest()
      : root_(std::filesystem::path(testing::TempDir()) /
              ("chorus_dataset_" + std::to_string(getpid()) + "_" +
               testing::UnitTest::GetInstance()->current_test_info()->name())) {
    std::filesystem::remove_all(root_);
    std::filesystem::create_directories(root_);
  }
  ~DatasetTest() override {
    std::error_code ignored;
    std::filesystem::remove_all(root_, ignored);
  }

  std::string Write(const std::string& name, const std::string& text) {
    const std::filesystem::path path = root_ / name;
    std::ofstream(path, std::ios::binary) << text;
    return path.string();
  }
  // Options for one CSV file of this text, whole, in one client.
  cli::DataOptions OfCsv(const std::string& text) {
    cli::DataOptions options;
    options.paths = {Write("rows.csv", text)};
    options.labels = {"y"};
    options.test_percent = 0;
    options.clients = 1;
    return options;
  }

  std::filesystem::path root_;
};

inline ModelSpec Speaker(uint32_t tokens, uint32_t vocabulary) {
  ModelSpec model;
  model.inputs = tokens + 1;
  model.loss = Loss::kNextToken;
  LayerSpec embedding;
  embedding.kind = LayerKind::kEmbedding;
  embedding.vocabulary = vocabulary;
  embedding.units = 2;
  model.layers = {embedding, {.units = vocabulary}};
  return model;
}

}  // namespace chorus
