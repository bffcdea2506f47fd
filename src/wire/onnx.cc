#include "wire/onnx.h"

#include <bit>

#include "chorus/v1/onnx.pb.h"

namespace chorus::wire {
namespace {

namespace onnx = ::chorus::v1::onnx;

static_assert(std::endian::native == std::endian::little, "raw_data is little-endian");

constexpr int64_t kIrVersion = 8;
constexpr int64_t kOpset = 15;
constexpr int32_t kFloat = 1;     // TensorProto.DataType
constexpr int32_t kInt64 = 7;     // likewise
constexpr int32_t kIntType = 2;   // AttributeProto.AttributeType
constexpr int32_t kIntsType = 7;  // likewise
constexpr const char* kBatch = "N";

void Put(const OnnxNode& node, onnx::NodeProto& proto) {
  proto.set_op_type(node.op);
  proto.set_name(node.outputs.front());
  for (const std::string& input : node.inputs) proto.add_input(input);
  for (const std::string& output : node.outputs) proto.add_output(output);
  for (const OnnxAttribute& attribute : node.attributes) {
    onnx::AttributeProto& put = *proto.add_attribute();
    put.set_name(attribute.name);
    put.set_type(attribute.list ? kIntsType : kIntType);
    if (attribute.list) {
      for (const int64_t value : attribute.values) put.add_ints(value);
    } else {
      put.set_i(attribute.values.front());
    }
  }
}

void Put(const OnnxTensor& tensor, onnx::TensorProto& proto) {
  proto.set_name(tensor.name);
  for (const int64_t axis : tensor.axes) proto.add_dims(axis);
  const bool integers = !tensor.integers.empty();
  proto.set_data_type(integers ? kInt64 : kFloat);
  if (integers) {
    proto.set_raw_data(tensor.integers.data(), tensor.integers.size() * sizeof(int64_t));
  } else {
    proto.set_raw_data(tensor.floats.data(), tensor.floats.size() * sizeof(float));
  }
}

void Put(const OnnxValue& value, onnx::ValueInfoProto& proto) {
  proto.set_name(value.name);
  onnx::TensorTypeProto& type = *proto.mutable_type()->mutable_tensor_type();
  type.set_elem_type(value.integers ? kInt64 : kFloat);
  onnx::TensorShapeProto& shape = *type.mutable_shape();
  shape.add_dim()->set_dim_param(kBatch);
  for (const int64_t axis : value.axes) shape.add_dim()->set_dim_value(axis);
}

}  // namespace

Bytes EncodeOnnx(const OnnxModel& model) {
  onnx::ModelProto proto;
  proto.set_ir_version(kIrVersion);
  proto.set_producer_name("chorus");
  proto.set_producer_version(model.producer_version);
  onnx::OperatorSetIdProto& opset = *proto.add_opset_import();
  opset.set_domain("");
  opset.set_version(kOpset);
  for (const auto& [key, value] : model.metadata) {
    onnx::StringStringEntryProto& entry = *proto.add_metadata_props();
    entry.set_key(key);
    entry.set_value(value);
  }
  onnx::GraphProto& graph = *proto.mutable_graph();
  graph.set_name(model.name);
  for (const OnnxNode& node : model.nodes) Put(node, *graph.add_node());
  for (const OnnxTensor& tensor : model.constants) Put(tensor, *graph.add_initializer());
  for (const OnnxValue& value : model.inputs) Put(value, *graph.add_input());
  for (const OnnxValue& value : model.outputs) Put(value, *graph.add_output());
  const std::string bytes = proto.SerializeAsString();
  return {bytes.begin(), bytes.end()};
}

}  // namespace chorus::wire
