// Graphs of ONNX as plain structs, and their bytes: opset 15, IR version 8.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "chorus/bytes.h"

namespace chorus::wire {

struct OnnxAttribute {
  std::string name;
  bool list = false;  // whether `values` are a list, or the one number
  std::vector<int64_t> values;
};

struct OnnxNode {
  std::string op;
  std::vector<std::string> inputs;
  std::vector<std::string> outputs;
  std::vector<OnnxAttribute> attributes;
};

// A constant of the graph: either binary32 or int64 numbers, as many as the product of its axes.
struct OnnxTensor {
  std::string name;
  std::vector<int64_t> axes;
  std::vector<float> floats;
  std::vector<int64_t> integers;
};

// An input or output. Its first axis is the batch, "N", of any size.
struct OnnxValue {
  std::string name;
  bool integers = false;      // int64, else binary32
  std::vector<int64_t> axes;  // without the batch
};

struct OnnxModel {
  std::string name;  // of the graph
  std::string producer_version;
  std::vector<std::pair<std::string, std::string>> metadata;
  std::vector<OnnxNode> nodes;  // in an order in which they can be computed
  std::vector<OnnxTensor> constants;
  std::vector<OnnxValue> inputs;
  std::vector<OnnxValue> outputs;
};

// A ModelProto. Nodes are named after their first output.
Bytes EncodeOnnx(const OnnxModel& model);

}  // namespace chorus::wire
