#include "learning_kernels.h"

#include <numeric>
#include <random>

#include "learning/learning.h"
#include "learning/network.h"
#include "learning_eigen.h"

namespace chorus::bench {

const EigenFunctions& FastestEigen() {
  using learning::KernelPath;
#if defined(__x86_64__)
  if (learning::KernelsOf<float>(KernelPath::kAvx512) != nullptr) return kEigenAvx512;
  if (learning::KernelsOf<float>(KernelPath::kAvx2) != nullptr) return kEigenAvx2;
#endif
  return kEigenBaseline;
}

namespace {

constexpr int kRuns = 21;
constexpr double kRunSeconds = 0.02;  // of one measurement, so that the clock's grain is nothing

std::vector<float> Noise(size_t count, float size) {
  std::mt19937 random(1);
  std::uniform_real_distribution<float> uniform(-size, size);
  std::vector<float> values(count);
  for (float& value : values) value = uniform(random);
  return values;
}

Examples NoiseExamples(const ModelSpec& model, size_t count) {
  Examples examples;
  examples.inputs = model.inputs;
  examples.features = Noise(count * model.inputs, 1);
  const uint32_t outputs = learning::OutputCount(model);
  if (model.loss == Loss::kSquaredError) {
    examples.targets = Noise(count * outputs, 1);
  } else {
    for (size_t i = 0; i < count; ++i) {
      examples.labels.push_back(static_cast<uint32_t>(i) % outputs);
    }
  }
  return examples;
}

std::vector<size_t> RowsTo(size_t count) {
  std::vector<size_t> rows(count);
  std::iota(rows.begin(), rows.end(), size_t{0});
  return rows;
}

// CPU seconds for one call, in a run long enough to be measured.
template <typename Work>
double SecondsOfOne(const Work& work) {
  int calls = 0;
  const double start = CpuSeconds();
  double seconds = 0;
  do {
    work();
    ++calls;
    seconds = CpuSeconds() - start;
  } while (seconds < kRunSeconds);
  return seconds / calls;
}

struct Times {
  double ours = 0;
  double ratio = 0;  // theirs over ours
};

// Medians over runs that take turns, so that a busy machine slows both.
template <typename Ours, typename Theirs>
Times Compare(const Ours& ours, const Theirs& theirs) {
  std::vector<double> times;
  std::vector<double> ratios;
  for (int run = 0; run < kRuns; ++run) {
    times.push_back(SecondsOfOne(ours));
    ratios.push_back(SecondsOfOne(theirs) / times.back());
  }
  return {.ours = Median(times), .ratio = Median(ratios)};
}

Times CompareSteps(uint32_t inputs, uint32_t hidden, uint32_t classes) {
  constexpr size_t kBatch = 20;
  constexpr float kRate = 0.01F;
  const ModelSpec model{
      .inputs = inputs,
      .layers = {{.units = hidden, .activation = Activation::kRelu}, {.units = classes}}};
  const Examples examples = NoiseExamples(model, kBatch);
  const std::vector<size_t> rows = RowsTo(kBatch);
  std::vector<float> ours = Noise(learning::ParameterCount(model), 0.05F);
  std::vector<float> theirs = ours;
  learning::Network<float> network(model, kBatch);
  std::vector<float> values(kBatch * hidden);
  std::vector<float> deltas(kBatch * hidden);
  std::vector<float> outputs(kBatch * classes);
  const EigenStep step{.rows = kBatch,
                       .inputs = inputs,
                       .hidden = hidden,
                       .classes = classes,
                       .features = examples.features.data(),
                       .labels = examples.labels.data(),
                       .weights = theirs.data(),
                       .rate = kRate,
                       .hidden_values = values.data(),
                       .hidden_deltas = deltas.data(),
                       .outputs = outputs.data()};
  return Compare(
      [&] {
        network.Forward(ours, examples, rows, nullptr);
        network.Backward(ours, -kRate / kBatch, ours);
      },
      [&] { FastestEigen().step(step); });
}

// Eigen's products of the same shapes as a layer's: forward, by the inputs, by the weights.
class LayerProducts {
 public:
  LayerProducts(size_t rows, size_t features, size_t units)
      : rows_(rows),
        features_(features),
        units_(units),
        input_(Noise(rows * features, 1)),
        weights_(Noise(features * units, 0.01F)),
        output_(rows * units),
        delta_input_(rows * features) {}

  void Run(bool by_inputs) {
    const auto& multiply = FastestEigen().multiply;
    multiply({.m = rows_,
              .n = units_,
              .k = features_,
              .a = input_.data(),
              .b = weights_.data(),
              .b_turned = true,
              .c = output_.data()});
    if (by_inputs) {
      multiply({.m = rows_,
                .n = features_,
                .k = units_,
                .a = output_.data(),
                .b = weights_.data(),
                .c = delta_input_.data()});
    }
    // What it is added to must not grow beyond the floats over the runs.
    for (float& value : output_) value *= 1e-9F;
    multiply({.m = units_,
              .n = features_,
              .k = rows_,
              .a = output_.data(),
              .a_turned = true,
              .b = input_.data(),
              .c = weights_.data(),
              .add = true});
  }

 private:
  size_t rows_;
  size_t features_;
  size_t units_;
  std::vector<float> input_;
  std::vector<float> weights_;
  std::vector<float> output_;
  std::vector<float> delta_input_;
};

template <typename Theirs>
double PassOverEigen(const ModelSpec& model, size_t batch, const Theirs& theirs) {
  const Examples examples = NoiseExamples(model, batch);
  const std::vector<size_t> rows = RowsTo(batch);
  std::vector<float> weights = Noise(learning::ParameterCount(model), 0.05F);
  learning::Network<float> network(model, batch);
  return Compare(
             [&] {
               network.Forward(weights, examples, rows, nullptr);
               network.Backward(weights, -1e-9F, weights);
             },
             theirs)
      .ratio;
}

double WideOverEigen() {
  constexpr uint32_t kWidth = 1'024;
  constexpr size_t kBatch = 128;
  const ModelSpec model{.inputs = kWidth,
                        .layers = {{.units = kWidth, .activation = Activation::kRelu},
                                   {.units = kWidth, .activation = Activation::kRelu}},
                        .loss = Loss::kSquaredError};
  LayerProducts below(kBatch, kWidth, kWidth);
  LayerProducts above(kBatch, kWidth, kWidth);
  return PassOverEigen(model, kBatch, [&] {
    below.Run(/*by_inputs=*/false);
    above.Run(/*by_inputs=*/true);
  });
}

double ConvolutionOverEigen() {
  constexpr uint32_t kSide = 14;
  constexpr uint32_t kChannels = 64;
  constexpr uint32_t kKernel = 3;
  constexpr size_t kBatch = 16;
  const LayerSpec layer{.units = kChannels,
                        .activation = Activation::kRelu,
                        .kind = LayerKind::kConv2d,
                        .kernel = kKernel,
                        .padding = Padding::kSame};
  const ModelSpec model{.inputs = kSide * kSide * kChannels,
                        .layers = {layer, layer},
                        .loss = Loss::kSquaredError,
                        .shape = {kSide, kSide, kChannels}};
  constexpr size_t kWindows = kBatch * kSide * kSide;
  LayerProducts below(kWindows, kKernel * kKernel * kChannels, kChannels);
  LayerProducts above(kWindows, kKernel * kKernel * kChannels, kChannels);
  return PassOverEigen(model, kBatch, [&] {
    below.Run(/*by_inputs=*/false);
    above.Run(/*by_inputs=*/true);
  });
}

}  // namespace

std::optional<Measured> StepOverEigen() {
  return Measured{.value = CompareSteps(784, 200, 10).ratio, .limit = 0.8};
}

std::optional<Measured> SmallStepOverEigen() {
  return Measured{.value = CompareSteps(32, 64, 10).ratio, .limit = 0.8};
}

std::optional<Measured> SmallStepMicroseconds() {
  return Measured{.value = CompareSteps(32, 64, 10).ours * 1e6, .limit = 20};
}

std::optional<Measured> LayersOverEigen() {
  return Measured{.value = std::min(WideOverEigen(), ConvolutionOverEigen()), .limit = 0.9};
}

}  // namespace chorus::bench
