#include "learning/layers.h"

#include <algorithm>
#include <cmath>

namespace chorus::learning {
namespace {

template <typename Scalar>
class Dense final : public Layer<Scalar> {
 public:
  Dense(const LayerSpec& spec, const LayerShapes& shapes, size_t rows)
      : features_(shapes.input.last()),
        units_(spec.units),
        places_(shapes.input.count() / features_),
        kept_(ScratchOf(spec, shapes).each_row * rows),
        activated_(spec.activation, shapes.output, kept_.data()) {}

  void Forward(const Pass<Scalar>& pass) override {
    pass.kernels->multiply({.m = pass.rows * places_,
                            .n = units_,
                            .k = features_,
                            .a = pass.input,
                            .a_row = features_,
                            .a_column = 1,
                            .b = pass.weights,
                            .b_row = 1,
                            .b_column = features_,
                            .c = pass.output,
                            .c_row = units_,
                            .bias = pass.weights + units_ * features_,
                            .pace = pass.pace},
                           pass.workspace);
    activated_.Forward(pass);
  }

  void Backward(const Pass<Scalar>& pass) override {
    activated_.Backward(pass);
    const size_t m = pass.rows * places_;
    if (pass.delta_input != nullptr) {
      pass.kernels->multiply({.m = m,
                              .n = features_,
                              .k = units_,
                              .a = pass.delta,
                              .a_row = units_,
                              .a_column = 1,
                              .b = pass.weights,
                              .b_row = features_,
                              .b_column = 1,
                              .c = pass.delta_input,
                              .c_row = features_,
                              .pace = pass.pace},
                             pass.workspace);
    }
    pass.kernels->multiply({.m = units_,
                            .n = features_,
                            .k = m,
                            .a = pass.delta,
                            .a_row = 1,
                            .a_column = units_,
                            .b = pass.input,
                            .b_row = features_,
                            .b_column = 1,
                            .c = pass.sink,
                            .c_row = features_,
                            .add = true,
                            .pace = pass.pace},
                           pass.workspace);
    AddRows(pass, pass.delta, m, units_, pass.sink + units_ * features_);
  }

 private:
  size_t features_;
  size_t units_;
  size_t places_;  // of one row, where the same weights apply
  Buffer<Scalar> kept_;
  Activated<Scalar> activated_;
};

// A gradient only where tokens are: what a vocabulary costs does not depend on its size.
template <typename Scalar>
class Embedding final : public Layer<Scalar> {
 public:
  Embedding(const LayerSpec& spec, const LayerShapes& shapes)
      : units_(spec.units), tokens_(shapes.input.count()) {}

  void Forward(const Pass<Scalar>& pass) override {
    for (size_t i = 0; i < pass.rows * tokens_; ++i) {
      Breathe(pass.pace);
      Scalar* const to = pass.output + i * units_;
      if (pass.input[i] < 0) {
        std::fill(to, to + units_, Scalar{0});  // padding
      } else {
        const Scalar* const from = pass.weights + static_cast<size_t>(pass.input[i]) * units_;
        std::copy(from, from + units_, to);
      }
    }
  }

  void Backward(const Pass<Scalar>& pass) override {
    for (size_t i = 0; i < pass.rows * tokens_; ++i) {
      if (pass.input[i] < 0) continue;
      Breathe(pass.pace);
      Scalar* const to = pass.sink + static_cast<size_t>(pass.input[i]) * units_;
      const Scalar* const from = pass.delta + i * units_;
      for (size_t unit = 0; unit < units_; ++unit) to[unit] += from[unit];
    }
  }

 private:
  size_t units_;
  size_t tokens_;
};

// The sum of term(i) over i below `count`, in several sums side by side, which a processor adds at
// once.
template <typename Scalar, typename Term>
Scalar SumOf(size_t count, const Term& term) {
  constexpr size_t kSums = 8;
  Scalar sums[kSums] = {};
  const size_t whole = count / kSums * kSums;
  for (size_t i = 0; i < whole; i += kSums) {
    for (size_t j = 0; j < kSums; ++j) sums[j] += term(i + j);
  }
  Scalar sum = 0;
  for (size_t i = whole; i < count; ++i) sum += term(i);
  for (const Scalar part : sums) sum += part;
  return sum;
}

// Over the last axis: gain * (x - mean) / sqrt(variance + epsilon) + offset [BKH16].
template <typename Scalar>
class LayerNorm final : public Layer<Scalar> {
 public:
  LayerNorm(const LayerSpec& spec, const LayerShapes& shapes, size_t rows)
      : width_(shapes.input.last()),
        places_(shapes.input.count() / width_),
        scratch_(ScratchOf(spec, shapes).each_row * rows + ScratchOf(spec, shapes).fixed),
        normal_(scratch_.data() + 2 * width_),
        shrink_(normal_ + rows * places_ * width_),
        activated_(spec.activation, shapes.output, shrink_ + rows * places_) {}

  void Forward(const Pass<Scalar>& pass) override {
    for (size_t i = 0; i < pass.rows * places_; ++i) {
      Breathe(pass.pace);
      const Scalar* const from = pass.input + i * width_;
      Scalar* const normal = normal_ + i * width_;
      Scalar* const to = pass.output + i * width_;
      const auto width = static_cast<Scalar>(width_);
      const Scalar mean = SumOf<Scalar>(width_, [&](size_t j) { return from[j]; }) / width;
      const Scalar squares =
          SumOf<Scalar>(width_, [&](size_t j) { return (from[j] - mean) * (from[j] - mean); });
      shrink_[i] = 1 / std::sqrt(squares / width + Scalar{1e-5F});
      for (size_t j = 0; j < width_; ++j) {
        normal[j] = (from[j] - mean) * shrink_[i];
        to[j] = pass.weights[j] * normal[j] + pass.weights[width_ + j];
      }
    }
    activated_.Forward(pass);
  }

  void Backward(const Pass<Scalar>& pass) override {
    activated_.Backward(pass);
    // Apart from the sink, which may be the gain that is still to be read.
    Scalar* const sums = scratch_.data();
    std::fill(sums, sums + 2 * width_, Scalar{0});
    for (size_t i = 0; i < pass.rows * places_; ++i) {
      Breathe(pass.pace);
      const Scalar* const delta = pass.delta + i * width_;
      const Scalar* const normal = normal_ + i * width_;
      for (size_t j = 0; j < width_; ++j) {
        sums[j] += delta[j] * normal[j];
        sums[width_ + j] += delta[j];
      }
      if (pass.delta_input == nullptr) continue;
      const Scalar* const gain = pass.weights;
      const auto width = static_cast<Scalar>(width_);
      const Scalar mean =
          SumOf<Scalar>(width_, [&](size_t j) { return delta[j] * gain[j]; }) / width;
      const Scalar slope =
          SumOf<Scalar>(width_, [&](size_t j) { return delta[j] * gain[j] * normal[j]; }) / width;
      Scalar* const to = pass.delta_input + i * width_;
      for (size_t j = 0; j < width_; ++j) {
        to[j] = shrink_[i] * (delta[j] * gain[j] - mean - normal[j] * slope);
      }
    }
    for (size_t j = 0; j < 2 * width_; ++j) pass.sink[j] += sums[j];
  }

 private:
  size_t width_;
  size_t places_;
  Buffer<Scalar> scratch_;
  Scalar* normal_;  // [rows × places × width]
  Scalar* shrink_;  // [rows × places] 1 / sqrt(variance + epsilon)
  Activated<Scalar> activated_;
};

template <typename Scalar>
class Dropout final : public Layer<Scalar> {
 public:
  Dropout(const LayerSpec& spec, const LayerShapes& shapes, size_t rows)
      : count_(shapes.output.count()),
        threshold_(static_cast<uint64_t>(std::ldexp(double{spec.rate}, 32))),
        factor_(Scalar{1} / (Scalar{1} - static_cast<Scalar>(spec.rate))),
        factors_(ScratchOf(spec, shapes).each_row * rows) {}

  void Forward(const Pass<Scalar>& pass) override {
    dropped_ = pass.dropout != nullptr;
    const size_t count = pass.rows * count_;
    if (dropped_) Draw(*pass.dropout, count, pass.pace);
    Scale(pass.input, count, pass.output, pass.pace);
  }

  void Backward(const Pass<Scalar>& pass) override {
    if (pass.delta_input != nullptr)
      Scale(pass.delta, pass.rows * count_, pass.delta_input, pass.pace);
  }

 private:
  void Draw(Rng& rng, size_t count, Pace* pace) {
    constexpr size_t kWords = 256;
    uint32_t words[kWords];
    for (size_t i = 0; i < count; ++i) {
      if (i % kWords == 0) {
        Breathe(pace);
        const size_t next = std::min(kWords, count - i);
        rng.Fill({reinterpret_cast<uint8_t*>(words), next * sizeof(uint32_t)});
      }
      factors_.data()[i] = words[i % kWords] < threshold_ ? Scalar{0} : factor_;
    }
  }

  void Scale(const Scalar* from, size_t count, Scalar* to, Pace* pace) const {
    const Scalar* const factors = factors_.data();
    InPieces(pace, count, [&](size_t begin, size_t end) {
      if (!dropped_) {
        std::copy(from + begin, from + end, to + begin);
        return;
      }
      for (size_t i = begin; i < end; ++i) to[i] = from[i] * factors[i];
    });
  }

  size_t count_;
  uint64_t threshold_;  // of 2^32: a word below it drops a value
  Scalar factor_;
  bool dropped_ = false;
  Buffer<Scalar> factors_;
};

// The input, to which the network has added the one further below.
template <typename Scalar>
class Residual final : public Layer<Scalar> {
 public:
  Residual(const LayerSpec& spec, const LayerShapes& shapes, size_t rows)
      : count_(shapes.output.count()),
        kept_(ScratchOf(spec, shapes).each_row * rows),
        activated_(spec.activation, shapes.output, kept_.data()) {}

  void Forward(const Pass<Scalar>& pass) override { activated_.Forward(pass); }

  void Backward(const Pass<Scalar>& pass) override {
    activated_.Backward(pass);
    if (pass.delta_input == nullptr) return;
    InPieces(pass.pace, pass.rows * count_, [&](size_t begin, size_t end) {
      std::copy(pass.delta + begin, pass.delta + end, pass.delta_input + begin);
    });
  }

 private:
  size_t count_;
  Buffer<Scalar> kept_;
  Activated<Scalar> activated_;
};

}  // namespace

template <typename Scalar>
void Activated<Scalar>::Forward(const Pass<Scalar>& pass) const {
  const size_t count = pass.rows * count_;
  if (activation_ != Activation::kSoftmax) {
    InPieces(pass.pace, count, [&](size_t begin, size_t end) {
      if (activation_ == Activation::kGelu)
        std::copy(pass.output + begin, pass.output + end, kept_ + begin);
      pass.kernels->activate(activation_, pass.output + begin, end - begin);
    });
    return;
  }
  for (size_t i = 0; i < count; i += last_) {
    Breathe(pass.pace);
    pass.kernels->softmax(pass.output + i, pass.output + i, last_);
  }
}

template <typename Scalar>
void Activated<Scalar>::Backward(const Pass<Scalar>& pass) const {
  const size_t count = pass.rows * count_;
  if (activation_ != Activation::kSoftmax) {
    const bool keeps = activation_ == Activation::kGelu;
    InPieces(pass.pace, count, [&](size_t begin, size_t end) {
      pass.kernels->derive(activation_, pass.output + begin, keeps ? kept_ + begin : nullptr,
                           pass.delta + begin, end - begin);
    });
    return;
  }
  // Of y = softmax(x), the derivative by x_i is y_i * (delta_i - sum over j of delta_j * y_j).
  for (size_t i = 0; i < count; i += last_) {
    Breathe(pass.pace);
    const Scalar* const y = pass.output + i;
    Scalar* const delta = pass.delta + i;
    Scalar sum = 0;
    for (size_t j = 0; j < last_; ++j) sum += delta[j] * y[j];
    for (size_t j = 0; j < last_; ++j) delta[j] = y[j] * (delta[j] - sum);
  }
}

Scratch ScratchOf(const LayerSpec& spec, const LayerShapes& shapes) {
  const uint64_t kept = Activated<float>::KeptCount(spec.activation, shapes.output);
  const uint64_t count = shapes.output.count();
  switch (spec.kind) {
    case LayerKind::kConv2d:
      return Conv2dScratch(spec, shapes);
    case LayerKind::kGru:
      return GruScratch(spec, shapes);
    case LayerKind::kLayerNorm: {
      const uint64_t width = shapes.output.last();
      return {.each_row = count + count / width + kept, .fixed = 2 * width};
    }
    case LayerKind::kMaxPool2d:
    case LayerKind::kDropout:
      return {.each_row = count};
    case LayerKind::kDense:
    case LayerKind::kEmbedding:
    case LayerKind::kFlatten:
    case LayerKind::kResidual:
      return {.each_row = kept};
  }
  return {};
}

template <typename Scalar>
std::unique_ptr<Layer<Scalar>> MakeLayer(const LayerSpec& spec, const LayerShapes& shapes,
                                         size_t rows) {
  switch (spec.kind) {
    case LayerKind::kDense:
      return std::make_unique<Dense<Scalar>>(spec, shapes, rows);
    case LayerKind::kConv2d:
      return MakeConv2d<Scalar>(spec, shapes, rows);
    case LayerKind::kMaxPool2d:
      return MakeMaxPool2d<Scalar>(spec, shapes, rows);
    case LayerKind::kEmbedding:
      return std::make_unique<Embedding<Scalar>>(spec, shapes);
    case LayerKind::kGru:
      return MakeGru<Scalar>(spec, shapes, rows);
    case LayerKind::kLayerNorm:
      return std::make_unique<LayerNorm<Scalar>>(spec, shapes, rows);
    case LayerKind::kDropout:
      return std::make_unique<Dropout<Scalar>>(spec, shapes, rows);
    case LayerKind::kFlatten:
      return nullptr;
    case LayerKind::kResidual:
      return std::make_unique<Residual<Scalar>>(spec, shapes, rows);
  }
  return nullptr;
}

template class Activated<float>;
template class Activated<double>;
template std::unique_ptr<Layer<float>> MakeLayer<float>(const LayerSpec& spec,
                                                        const LayerShapes& shapes, size_t rows);
template std::unique_ptr<Layer<double>> MakeLayer<double>(const LayerSpec& spec,
                                                          const LayerShapes& shapes, size_t rows);

}  // namespace chorus::learning
