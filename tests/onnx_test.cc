#include <algorithm>
#include <set>
#include <string>

#include "chorus/v1/onnx.pb.h"
#include "matchers.h"
#include "onnx_models.h"
#include "wire/onnx.h"

namespace chorus {
namespace {

using cli::GruForm;
using cli::OnnxOf;
using testing::Contains;
using testing::HasSubstr;
using testing::Not;

ModelSpec Classifier() { return OfLayers(4, {}, {DenseLayer(3)}); }

TEST(Onnx, ComputesEveryValueOnceAndBeforeItIsRead) {
  for (const OnnxCase& each : OnnxCases()) {
    TestRng rng(1);
    const auto graph = OnnxOf(each.model, OnnxWeights(each.model, rng), each.options);
    ASSERT_THAT(graph.status(), IsOk()) << each.name;
    std::set<std::string> known;
    for (const wire::OnnxValue& input : graph->inputs) EXPECT_TRUE(known.insert(input.name).second);
    std::set<std::string> unread;
    for (const wire::OnnxTensor& constant : graph->constants) {
      EXPECT_TRUE(known.insert(constant.name).second) << each.name << " " << constant.name;
      unread.insert(constant.name);
      size_t count = 1;
      for (const int64_t axis : constant.axes) count *= static_cast<size_t>(axis);
      EXPECT_EQ(constant.floats.size() + constant.integers.size(), count) << constant.name;
    }
    for (const wire::OnnxNode& node : graph->nodes) {
      for (const std::string& input : node.inputs) {
        EXPECT_THAT(known, Contains(input)) << each.name << " " << node.op;
        unread.erase(input);
      }
      for (const std::string& output : node.outputs) {
        EXPECT_TRUE(known.insert(output).second) << each.name << " " << output;
      }
    }
    for (const wire::OnnxValue& output : graph->outputs) EXPECT_THAT(known, Contains(output.name));
    EXPECT_TRUE(unread.empty()) << each.name << " " << *unread.begin();
  }
}

TEST(Onnx, IsWrittenAsIrVersion8WithOpset15) {
  const auto graph = OnnxOf(Classifier(), Weights(15, 0.5F), {});
  ASSERT_THAT(graph.status(), IsOk());
  const Bytes bytes = wire::EncodeOnnx(*graph);
  v1::onnx::ModelProto proto;
  ASSERT_TRUE(proto.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())));
  EXPECT_EQ(proto.ir_version(), 8);
  ASSERT_EQ(proto.opset_import_size(), 1);
  EXPECT_EQ(proto.opset_import(0).version(), 15);
  ASSERT_EQ(proto.graph().initializer_size(), 2);
  EXPECT_EQ(proto.graph().initializer(0).raw_data().size(), 12 * sizeof(float));
  EXPECT_EQ(proto.graph().node(0).op_type(), "Gemm");
  EXPECT_EQ(proto.graph().node(0).output(0), "outputs");
}

TEST(Onnx, LeavesDropoutOutAndTakesGruAsItIsAsked) {
  const auto has = [](const wire::OnnxModel& graph, const std::string& op) {
    return std::any_of(graph.nodes.begin(), graph.nodes.end(),
                       [&op](const wire::OnnxNode& node) { return node.op == op; });
  };
  const ModelSpec model =
      OfLayers(12, {4, 3}, {GruLayer(2), DropoutLayer(0.5F), FlattenLayer(), DenseLayer(2)});
  const Weights weights(learning::ParameterCount(model), 0.1F);
  const auto unrolled = OnnxOf(model, weights, {});
  ASSERT_THAT(unrolled.status(), IsOk());
  EXPECT_FALSE(has(*unrolled, "GRU"));
  EXPECT_FALSE(has(*unrolled, "Dropout"));
  const auto op = OnnxOf(model, weights, {.gru = GruForm::kOperator});
  ASSERT_THAT(op.status(), IsOk());
  EXPECT_TRUE(has(*op, "GRU"));
}

TEST(Onnx, RefusesWhatItCannotExport) {
  ModelSpec custom;
  custom.custom_parameters = 8;
  EXPECT_THAT(OnnxOf(custom, Weights(8), {}).status().message(), HasSubstr("custom"));
  EXPECT_THAT(OnnxOf(ModelSpec(), {}, {}).status().message(), HasSubstr("no model"));
  EXPECT_THAT(OnnxOf(Classifier(), Weights(14), {}).status().message(),
              HasSubstr("15 parameters and is given 14"));
  EXPECT_THAT(OnnxOf(Classifier(), Weights(15), {.gru = GruForm::kCell}).status().message(),
              HasSubstr("no gru layer"));
  EXPECT_THAT(
      OnnxOf(WithLoss(Classifier(), Loss::kSquaredError), Weights(15), {.probabilities = true})
          .status()
          .message(),
      HasSubstr("--probabilities"));
  const ModelSpec last = OfLayers(12, {4, 3}, {GruLayer(2, true), DenseLayer(2)});
  EXPECT_THAT(OnnxOf(last, Weights(learning::ParameterCount(last)), {.gru = GruForm::kCell})
                  .status()
                  .message(),
              HasSubstr("layer 1 (gru) needs a whole sequence"));
}

}  // namespace
}  // namespace chorus
