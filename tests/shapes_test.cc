// Models of more than dense layers: the shapes they have, what is refused, and their canonical
// bytes, first weights and examples.
#include "learning/shapes.h"

#include <cmath>
#include <limits>
#include <set>

#include "base/limits.h"
#include "learning/network.h"
#include "matchers.h"
#include "network_cases.h"

namespace chorus::learning {
namespace {

using testing::Each;
using testing::ElementsAre;

constexpr Padding kValid = Padding::kValid;
constexpr Padding kSame = Padding::kSame;

std::string OutputOf(const ModelSpec& model) {
  const Result<std::vector<LayerShapes>> shapes = InferShapes(model);
  return shapes.ok() ? Text(shapes->back().output) : shapes.status().message();
}

ModelSpec Image(std::vector<LayerSpec> layers) {
  return {.inputs = 28 * 20 * 3, .layers = std::move(layers), .shape = {28, 20, 3}};
}

void Refuses(const ModelSpec& model, const std::string& text) {
  EXPECT_THAT(ValidateModel(model), HasCodeAndText(Code::kInvalidArgument, text));
}

TEST(InferShapes, FollowsEveryLayer) {
  EXPECT_EQ(OutputOf(Image({Dense(7)})), "[28 × 20 × 7]");
  EXPECT_EQ(OutputOf(Image({Conv(8, 5, 1, kValid)})), "[24 × 16 × 8]");
  EXPECT_EQ(OutputOf(Image({Conv(8, 5, 2, kValid)})), "[12 × 8 × 8]");
  EXPECT_EQ(OutputOf(Image({Conv(8, 5, 3, kSame)})), "[10 × 7 × 8]");
  EXPECT_EQ(OutputOf(Image({Conv(8, 28, 1, kSame)})), "[28 × 20 × 8]");
  EXPECT_EQ(OutputOf(Image({Pool(2, 2, kValid)})), "[14 × 10 × 3]");
  EXPECT_EQ(OutputOf(Image({Pool(3, 2, kSame), Flat()})), "[420]");
  EXPECT_EQ(OutputOf(Image({Norm(), Drop(0.5F), Add(2)})), "[28 × 20 × 3]");
  EXPECT_EQ(OutputOf({.inputs = 80, .layers = {Embed(65, 8), Gru(16, false)}}), "[80 × 16]");
  EXPECT_EQ(OutputOf({.inputs = 80, .layers = {Embed(65, 8), Gru(16, true)}}), "[16]");
  EXPECT_EQ(OutputOf({.inputs = 81, .layers = {Embed(65, 8)}, .loss = Loss::kNextToken}),
            "[80 × 8]");
}

TEST(InferShapes, PlacesTheOddZeroOfTheSamePaddingLast) {
  const LayerSpec even = Conv(1, 2, 1, kSame);
  EXPECT_EQ(PaddingBefore(even, 5, 5), 0U);
  EXPECT_EQ(PaddingBefore(Conv(1, 3, 1, kSame), 5, 5), 1U);
  EXPECT_EQ(PaddingBefore(Conv(1, 3, 2, kSame), 6, 3), 0U);
  EXPECT_EQ(PaddingBefore(Conv(1, 1, 3, kSame), 5, 2), 0U);
  EXPECT_EQ(PaddingBefore(Conv(1, 3, 1, kValid), 5, 3), 0U);
}

TEST(ValidateModel, NamesTheKindAndTheShapeThatItIsGiven) {
  Refuses({.inputs = 12, .layers = {Dense(4), Conv(2, 3, 1, kValid), Flat(), Dense(2)}},
          "layer 2 (conv2d) takes an image [H × W × C] and is given [4]");
  Refuses({.inputs = 12, .layers = {Pool(2, 2, kValid)}},
          "layer 1 (max_pool2d) takes an image [H × W × C] and is given [12]; set the shape");
  Refuses({.inputs = 12, .layers = {Gru(3, true), Dense(2)}},
          "layer 1 (gru) takes a sequence [T × F] and is given [12]");
  Refuses({.inputs = 12, .layers = {Embed(9, 2), Flat(), Dense(2)}, .shape = {4, 3}},
          "layer 1 (embedding) takes token ids [T] and is given [4 × 3]");
  Refuses({.inputs = 12, .layers = {Dense(4), Embed(9, 2)}},
          "layer 2 (embedding) must be the first");
  Refuses(
      Image({Conv(1, 21, 1, kValid), Flat(), Dense(2)}),
      "layer 1 (conv2d) has a kernel of 21, which does not fit into its input of [28 × 20 × 3]");
  Refuses({.inputs = 4, .layers = {Dense(4), Dense(5), Add(1), Dense(2)}},
          "layer 3 (residual) adds [4], the input of layer 2, to [5]");
  Refuses({.inputs = 4, .layers = {Dense(4), Add(2), Dense(2)}},
          "layer 2 (residual) needs a span of 1 to the layers before it, of which there are 1");
  Refuses({.inputs = 4, .layers = {Add(0), Dense(2)}}, "layer 1 (residual) needs a span");
  LayerSpec unknown = Dense(2);
  unknown.kind = static_cast<LayerKind>(9);
  Refuses({.inputs = 4, .layers = {unknown}}, "layer 1 is of a kind that this version");
}

TEST(ValidateModel, RefusesShapesThatAreNotTheInputs) {
  const std::vector<LayerSpec> layers = {Flat(), Dense(2)};
  Refuses({.inputs = 12, .layers = layers, .shape = {3, 5}}, "shape [3 × 5] does not hold its 12");
  Refuses({.inputs = 12, .layers = layers, .shape = {0, 12}}, "shape [0 × 12]");
  Refuses({.inputs = 12, .layers = layers, .shape = {1, 2, 2, 3}}, "more than 3 axes");
  // The product wraps around to 12 in 64 bits, were it taken.
  Refuses({.inputs = 12, .layers = layers, .shape = {UINT32_MAX, UINT32_MAX, UINT32_MAX}}, "shape");
  Refuses({.inputs = 1, .layers = {Embed(3, 3)}, .loss = Loss::kNextToken}, "at least two inputs");
  Refuses({.inputs = 5, .layers = {Dense(3)}, .loss = Loss::kNextToken, .shape = {5}},
          "does not hold its 4 inputs and a next one");
}

TEST(ValidateModel, RefusesFieldsThatTheKindDoesNotTake) {
  const auto refuses = [](const LayerSpec& good, const auto& change, const std::string& text) {
    LayerSpec layer = good;
    change(layer);
    const bool image = good.kind == LayerKind::kMaxPool2d || good.kind == LayerKind::kConv2d;
    ModelSpec model{.inputs = 36, .layers = {Dense(4), layer, Flat(), Dense(2)}};
    if (image) model.shape = {3, 3, 4};
    Refuses(model, "layer 2 (" + text);
  };
  refuses(
      Flat(), [](LayerSpec& l) { l.units = 3; }, "flatten) takes no units");
  refuses(
      Drop(0.1F), [](LayerSpec& l) { l.activation = Activation::kRelu; },
      "dropout) takes no activation");
  refuses(
      Dense(3), [](LayerSpec& l) { l.kernel = 3; }, "dense) takes no kernel");
  refuses(
      Dense(3), [](LayerSpec& l) { l.stride = 2; }, "dense) takes no stride");
  refuses(
      Norm(), [](LayerSpec& l) { l.padding = kSame; }, "layer_norm) takes no padding");
  refuses(
      Dense(3), [](LayerSpec& l) { l.vocabulary = 3; }, "dense) takes no vocabulary");
  refuses(
      Dense(3), [](LayerSpec& l) { l.rate = 0.5F; }, "dense) takes no rate");
  refuses(
      Dense(3), [](LayerSpec& l) { l.span = 1; }, "dense) takes no span");
  refuses(
      Dense(3), [](LayerSpec& l) { l.last_only = true; }, "dense) takes no last_only");
  refuses(
      Flat(), [](LayerSpec& l) { l.personal = true; }, "flatten) has no parameters");
  refuses(
      Pool(2, 1, kValid), [](LayerSpec& l) { l.kernel = 0; }, "max_pool2d) needs a kernel");
  refuses(
      Pool(2, 1, kValid), [](LayerSpec& l) { l.stride = 0; }, "max_pool2d) needs a kernel");
  refuses(
      Pool(2, 1, kSame), [](LayerSpec& l) { l.kernel = limits::kKernelMax + 1; },
      "max_pool2d) has a kernel wider than 1024");
  refuses(
      Pool(2, 1, kValid), [](LayerSpec& l) { l.padding = static_cast<Padding>(2); },
      "max_pool2d) has a padding");
  for (const float rate : {-0.1F, 1.0F, std::numeric_limits<float>::quiet_NaN()}) {
    refuses(
        Drop(0.1F), [rate](LayerSpec& l) { l.rate = rate; }, "dropout) has a rate");
  }
  Refuses({.inputs = 4, .layers = {Embed(0, 2), Flat(), Dense(2)}},
          "(embedding) has no vocabulary");
  Refuses({.inputs = 4, .layers = {Embed(limits::kUnitsMax + 1, 2), Flat(), Dense(2)}},
          "(embedding) has a vocabulary of more than");
}

TEST(ValidateModel, BoundsOutputsAndParametersWithoutWrappingAround) {
  Refuses({.inputs = 1U << 20U,
           .layers = {Dense(128), Flat(), Dense(2)},
           .shape = {1U << 10U, 1U << 10U, 1}},
          "layer 1 (dense) gives [1024 × 1024 × 128] for one example, more than 67108864");
  Refuses({.inputs = 1U << 20U,
           .layers = {Conv(limits::kUnitsMax, limits::kKernelMax, 1U << 20U, kSame)},
           .shape = {1, 1, 1U << 20U}},
          "layer 1 (conv2d) takes the model beyond the limit of 268435456 parameters");
  Refuses({.inputs = 1U << 20U, .layers = {Embed(1U << 20U, 1U << 9U)}}, "(embedding)");
  Refuses({.inputs = 1, .layers = {Gru(1U << 20U, true), Dense(2)}, .shape = {1, 1}},
          "layer 1 (gru) takes the model beyond");
}

TEST(ValidateModel, BoundsTheWorkOfOneExample) {
  ModelSpec model{.inputs = 28 * 28, .layers = {}, .shape = {28, 28, 1}};
  for (int i = 0; i < 20; ++i) {
    model.layers.push_back(Conv(1, limits::kKernelMax, 1, kSame));
    model.layers.back().activation = Activation::kRelu;
  }
  // 784 places of 2^20 + 1 weights each; 2^34 is between 20 and 21 of them.
  model.layers.push_back(Flat());
  model.layers.push_back(Dense(2));
  EXPECT_THAT(ValidateModel(model), IsOk());
  model.layers.insert(model.layers.begin(), Conv(1, limits::kKernelMax, 1, kSame));
  Refuses(model, "layer 21 (conv2d) takes the model to");
  // As many steps as there are numbers.
  Refuses({.inputs = 1U << 20U, .layers = {Gru(100, true), Dense(2)}, .shape = {1U << 20U, 1}},
          "layer 1 (gru) takes the model to");
  Refuses({.inputs = 1U << 20U,
           .layers = {Pool(1'024, 1, kSame), Flat(), Dense(2)},
           .shape = {1U << 10U, 1U << 10U, 1}},
          "layer 1 (max_pool2d) takes the model to");
}

// Between pieces of a minibatch the trainer looks whether it is cancelled.
TEST(Network, TakesFewRowsAtOnceWhenEachIsMuchWork) {
  const ModelSpec model{
      .inputs = 256 * 2048, .layers = {Dense(2048), Flat(), Dense(2)}, .shape = {256, 2048}};
  ASSERT_THAT(ValidateModel(model), IsOk());
  // A little more than 2^30 multiply-adds each, in less than a tenth of the memory that there is.
  EXPECT_EQ(Network<float>(model, 100).rows_max(), 3U);
}

TEST(ValidateModel, KnowsWhatEachLossCanJudge) {
  constexpr Activation kRelu = Activation::kRelu;
  Refuses(Image({Dense(2)}), "layer 1 (dense) gives [28 × 20 × 2]; cross-entropy needs one axis");
  Refuses({.inputs = 5, .layers = {Embed(3, 2), Gru(3, true)}, .loss = Loss::kNextToken},
          "layer 2 (gru) gives [3]; the next-token loss needs [4 × vocabulary]");
  Refuses({.inputs = 4, .layers = {Dense(2, kRelu), Flat(), Drop(0.1F)}},
          "layer 1 (dense) is the last before cross-entropy");
  Refuses({.inputs = 4, .layers = {Dense(2, kRelu)}, .loss = Loss::kBinaryCrossEntropy},
          "layer 1 (dense) is the last before binary cross-entropy, which has its own sigmoid");
  Refuses({.inputs = 4, .layers = {Dense(2)}, .huber_delta = 2}, "only the Huber loss");
  for (const float delta : {0.0F, -1.0F, std::numeric_limits<float>::infinity()}) {
    Refuses({.inputs = 4, .layers = {Dense(2)}, .loss = Loss::kHuber, .huber_delta = delta},
            "huber_delta must be");
  }
  LayerSpec personal = Dense(2);
  personal.personal = true;
  Refuses({.inputs = 4, .layers = {personal}}, "no layer has parameters that are shared");
  Refuses({.inputs = 4, .layers = {Flat()}}, "no layer has parameters that are shared");
}

TEST(ValidateModel, TakesCustomParametersAlone) {
  ModelSpec model{.layers = {}, .custom_parameters = 1'000};
  EXPECT_THAT(ValidateModel(model), IsOk());
  EXPECT_EQ(ParameterCount(model), 1'000U);
  EXPECT_EQ(OutputCount(model), 0U);
  EXPECT_THAT(SharedRanges(model), ElementsAre(ParameterRange{.begin = 0, .count = 1'000}));
  TestRng rng(1);
  EXPECT_EQ(InitialWeights(model, rng), Weights(1'000));
  Examples examples;
  examples.inputs = 1;
  examples.features = {1};
  EXPECT_THAT(CheckExamples(model, examples),
              HasCodeAndText(Code::kInvalidArgument, "own trainer only"));
  model.custom_parameters = limits::kDimMax + 1;
  Refuses(model, "more than the limit of 268435456");
  Refuses({.inputs = 3, .layers = {}, .custom_parameters = 5}, "neither inputs, shape, layers");
  Refuses({.layers = {Dense(2)}, .custom_parameters = 5}, "neither inputs, shape, layers");
}

// --- parameters ----------------------------------------------------------------------------------

TEST(Model, CountsTheParametersOfEveryKind) {
  EXPECT_EQ(ParameterCount(Image({Conv(8, 5, 1, kSame)})), 8U * 5 * 5 * 3 + 8);
  EXPECT_EQ(ParameterCount(Image({Norm(), Pool(2, 1, kValid), Flat(), Drop(0.1F), Add(1)})), 6U);
  EXPECT_EQ(ParameterCount({.inputs = 80, .layers = {Embed(65, 8), Gru(16, true)}}),
            65U * 8 + 3 * 16 * 8 + 3 * 16 * 16 + 2 * 3 * 16);
}

TEST(SharedRanges, LeaveOutPersonalLayersAndMergeNeighbours) {
  ModelSpec model{.inputs = 4,
                  .layers = {Dense(3), Flat(), Dense(2), Dense(5), Dense(6), Norm(), Dense(2)}};
  EXPECT_THAT(SharedRanges(model),
              ElementsAre(ParameterRange{.begin = 0, .count = ParameterCount(model)}));
  model.layers[2].personal = true;
  model.layers[5].personal = true;
  ASSERT_THAT(ValidateModel(model), IsOk());
  EXPECT_THAT(SharedRanges(model), ElementsAre(ParameterRange{.begin = 0, .count = 15},
                                               ParameterRange{.begin = 23, .count = 15 + 36},
                                               ParameterRange{.begin = 23 + 51 + 12, .count = 14}));
  EXPECT_EQ(SharedCount(model), 15U + 51 + 14);
  model.layers[0].personal = true;
  model.layers[6].personal = true;
  EXPECT_THAT(SharedRanges(model), ElementsAre(ParameterRange{.begin = 23, .count = 51}));
}

TEST(Model, WritesWhatIsNotPlainlyDenseAfterTheFieldsOfOld) {
  ModelSpec model{.inputs = 6, .layers = {Dense(2)}, .shape = {2, 3}};
  const Bytes plain = CanonicalModel({.inputs = 6, .layers = {Dense(2)}});
  const Bytes bytes = CanonicalModel(model);
  ASSERT_EQ(bytes.size(), plain.size() + 1 + 2 * 4 + 4 + 8 + 24);
  EXPECT_TRUE(std::equal(plain.begin(), plain.end(), bytes.begin()));
  EXPECT_THAT(std::span(bytes).subspan(plain.size()),
              ElementsAre(2, 0, 0, 0, 2, 0, 0, 0, 3,     // shape
                          0x3f, 0x80, 0, 0,              // huber_delta 1
                          0, 0, 0, 0, 0, 0, 0, 0,        // no custom parameters
                          0, 0, 0, 0, 0, 0, 0, 0, 0, 1,  // dense, shared, kernel, stride
                          0, 0, 0, 0, 0, 0, 0, 0, 0,     // padding, vocabulary, rate
                          0, 0, 0, 0, 0));               // span, last_only
}

// Whatever differs in one field has other bytes: no two models share a hash.
TEST(Model, HasOtherCanonicalBytesForEveryField) {
  const LayerSpec full{.units = 2,
                       .activation = Activation::kRelu,
                       .kind = LayerKind::kConv2d,
                       .kernel = 3,
                       .stride = 2,
                       .padding = kSame,
                       .vocabulary = 4,
                       .rate = 0.5F,
                       .span = 1};
  const ModelSpec model{.inputs = 12, .layers = {full}, .shape = {2, 6}};
  std::set<std::string> seen;
  const auto add = [&](const auto& change) {
    ModelSpec changed = model;
    change(changed);
    const Bytes bytes = CanonicalModel(changed);
    EXPECT_TRUE(seen.emplace(bytes.begin(), bytes.end()).second) << seen.size();
  };
  add([](ModelSpec&) {});
  add([](ModelSpec& m) { m.inputs = 13; });
  add([](ModelSpec& m) { m.loss = Loss::kHuber; });
  add([](ModelSpec& m) { m.shape = {6, 2}; });
  add([](ModelSpec& m) { m.shape = {}; });
  add([](ModelSpec& m) { m.huber_delta = 2; });
  add([](ModelSpec& m) { m.custom_parameters = 7; });
  add([](ModelSpec& m) { m.layers.push_back(Flat()); });
  add([](ModelSpec& m) { m.layers[0].units = 3; });
  add([](ModelSpec& m) { m.layers[0].activation = Activation::kGelu; });
  add([](ModelSpec& m) { m.layers[0].kind = LayerKind::kGru; });
  add([](ModelSpec& m) { m.layers[0].personal = true; });
  add([](ModelSpec& m) { m.layers[0].kernel = 4; });
  add([](ModelSpec& m) { m.layers[0].stride = 1; });
  add([](ModelSpec& m) { m.layers[0].padding = kValid; });
  add([](ModelSpec& m) { m.layers[0].vocabulary = 5; });
  add([](ModelSpec& m) { m.layers[0].rate = 0.25F; });
  add([](ModelSpec& m) { m.layers[0].span = 2; });
  add([](ModelSpec& m) { m.layers[0].last_only = true; });
}

TEST(Model, LaysTensorsOutInTheOrderOfTheKinds) {
  const Bytes layout =
      CanonicalLayout({.inputs = 4, .layers = {Embed(7, 2), Gru(3, true), Norm()}});
  const Bytes rest(layout.begin() + 15, layout.end());
  EXPECT_THAT(rest, ElementsAre(0, 0, 0, 7,                      // tensors
                                2, 0, 0, 0, 7, 0, 0, 0, 2,       // vocabulary × units
                                2, 0, 0, 0, 9, 0, 0, 0, 2,       // input weights
                                2, 0, 0, 0, 9, 0, 0, 0, 3,       // recurrent weights
                                1, 0, 0, 0, 9, 1, 0, 0, 0, 9,    // biases
                                1, 0, 0, 0, 3, 1, 0, 0, 0, 3));  // gain, offset
  const Bytes custom = CanonicalLayout({.layers = {}, .custom_parameters = 258});
  EXPECT_THAT(std::span(custom).subspan(15), ElementsAre(0, 0, 0, 1, 1, 0, 0, 1, 2));
  const Bytes conv = CanonicalLayout(Image({Conv(8, 5, 1, kSame)}));
  EXPECT_THAT(std::span(conv).subspan(19), ElementsAre(4, 0, 0, 0, 8, 0, 0, 0, 5, 0, 0, 0, 5,  //
                                                       0, 0, 0, 3, 1, 0, 0, 0, 8));
}

TEST(InitialWeights, BoundEachTensorByItsFans) {
  const auto largest = [](std::span<const float> values) {
    float most = 0;
    for (const float value : values) most = std::max(most, std::abs(value));
    return most;
  };
  TestRng rng(2);
  const Weights conv = InitialWeights(Image({Conv(16, 5, 1, kSame)}), rng);
  const double conv_bound = std::sqrt(6.0 / (25 * (16 + 3)));
  EXPECT_LE(largest(conv), conv_bound * (1 + 1e-6));
  EXPECT_GT(largest(conv), conv_bound * 0.98);
  EXPECT_THAT(std::span(conv).last(16), Each(0.0F));
  const Weights gru =
      InitialWeights({.inputs = 9, .layers = {Embed(50, 20), Gru(30, true), Norm()}}, rng);
  const std::span<const float> all(gru);
  const auto within = [&](size_t begin, size_t count, double bound) {
    EXPECT_LE(largest(all.subspan(begin, count)), bound * (1 + 1e-6));
    EXPECT_GT(largest(all.subspan(begin, count)), bound * 0.98);
  };
  within(0, 1'000, std::sqrt(3.0));
  within(1'000, 1'800, std::sqrt(6.0 / (30 + 20)));
  within(2'800, 2'700, std::sqrt(6.0 / (30 + 30)));
  EXPECT_THAT(all.subspan(5'500, 180), Each(0.0F));
  EXPECT_THAT(all.subspan(5'680, 30), Each(1.0F));
  EXPECT_THAT(all.subspan(5'710), Each(0.0F));
}

// --- examples ------------------------------------------------------------------------------------

TEST(CheckExamples, TakesTokensThatEndInPaddingAlone) {
  const ModelSpec model{.inputs = 4, .layers = {Embed(5, 3)}, .loss = Loss::kNextToken};
  Examples examples;
  examples.inputs = 4;
  const auto check = [&](std::vector<float> features) {
    examples.features = std::move(features);
    return CheckExamples(model, examples);
  };
  EXPECT_THAT(check({4, 2, 1, 0}), IsOk());
  EXPECT_THAT(check({4, 2, -1, -1}), IsOk());
  // The last token is only predicted: the outputs bound it, not the vocabulary that is read.
  EXPECT_THAT(check({0, 1, 2, 3}), HasCodeAndText(Code::kInvalidArgument, "from 0 to 2"));
  EXPECT_THAT(check({5, 2, 1, 0}), HasCodeAndText(Code::kInvalidArgument, "from 0 to 4"));
  EXPECT_THAT(check({0.5F, 2, 1, 0}), HasCodeAndText(Code::kInvalidArgument, "token id"));
  EXPECT_THAT(check({0, -2, 1, 0}), HasCodeAndText(Code::kInvalidArgument, "token id"));
  EXPECT_THAT(check({0, 1, -1, 1}), HasCodeAndText(Code::kInvalidArgument, "follows padding"));
  EXPECT_THAT(check({0, -1, -1, -1}), HasCodeAndText(Code::kInvalidArgument, "fewer than two"));
  examples.labels = {1};
  EXPECT_THAT(check({4, 2, 1, 0}), HasCodeAndText(Code::kInvalidArgument, "leave labels"));
}

TEST(CheckExamples, TakesTokensBelowTheVocabularyUnderEveryLoss) {
  const ModelSpec model{.inputs = 2, .layers = {Embed(5, 3), Flat(), Dense(2)}};
  Examples examples;
  examples.inputs = 2;
  examples.labels = {0};
  for (const float token : {0.0F, 4.0F}) {
    examples.features = {1, token};
    EXPECT_THAT(CheckExamples(model, examples), IsOk());
  }
  for (const float token : {-1.0F, 5.0F, 1.5F, 1e30F}) {
    examples.features = {1, token};
    EXPECT_THAT(CheckExamples(model, examples), HasCode(Code::kInvalidArgument)) << token;
  }
}

TEST(CheckExamples, TakesLabelsOrProbabilitiesForBinaryCrossEntropy) {
  ModelSpec model{.inputs = 1, .layers = {Dense(1)}, .loss = Loss::kBinaryCrossEntropy};
  Examples examples;
  examples.inputs = 1;
  examples.features = {1, 2};
  const auto refused = [&](const std::string& text) {
    EXPECT_THAT(CheckExamples(model, examples), HasCodeAndText(Code::kInvalidArgument, text));
  };
  refused("exactly 1 target");
  examples.labels = {0, 1};
  EXPECT_THAT(CheckExamples(model, examples), IsOk());
  examples.labels = {0, 2};
  refused("a label is not below 2");
  examples.labels = {0, 1};
  examples.targets = {0, 1};
  refused("labels or targets, not both");
  examples.labels = {};
  EXPECT_THAT(CheckExamples(model, examples), IsOk());
  examples.targets = {0, 1.25F};
  refused("targets in [0, 1]");
  model.layers[0].units = 2;
  examples.targets = {};
  examples.labels = {0, 1};
  refused("of 2 outputs learns from targets");
}

}  // namespace
}  // namespace chorus::learning
