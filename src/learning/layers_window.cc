// The layers whose windows move over images [H × W × C]: convolution, as a product of the windows'
// contents with the weights, and the largest of each window.
#include <algorithm>

#include "learning/layers.h"

namespace chorus::learning {
namespace {

// What a window costs at least, in numbers: a small one is all finding where it lies.
constexpr size_t kWindowNumbersMin = 64;

// Positions of a window on one image. Coordinates in the image may lie outside of it by the
// padding, so they are signed.
class Window {
 public:
  Window(const LayerSpec& spec, const LayerShapes& shapes)
      : height_(shapes.input.axes[0]),
        width_(shapes.input.axes[1]),
        channels_(shapes.input.axes[2]),
        out_width_(shapes.output.axes[1]),
        places_(uint64_t{shapes.output.axes[0]} * out_width_),
        kernel_(spec.kernel),
        stride_(spec.stride),
        above_(PaddingBefore(spec, shapes.input.axes[0], shapes.output.axes[0])),
        left_(PaddingBefore(spec, shapes.input.axes[1], shapes.output.axes[1])) {}

  size_t places() const { return places_; }
  size_t channels() const { return channels_; }
  size_t kernel() const { return kernel_; }
  size_t image_count() const { return height_ * width_ * channels_; }
  size_t cost() const { return std::max(kWindowNumbersMin, kernel_ * kernel_ * channels_); }

  // Zeros for all derivatives by the images, which windows add to.
  template <typename Scalar>
  void Clear(const Pass<Scalar>& pass) const {
    InPieces(pass.pace, pass.rows * image_count(), [&](size_t begin, size_t end) {
      std::fill(pass.delta_input + begin, pass.delta_input + end, Scalar{0});
    });
  }

  // The part of one row of a window that lies inside the image.
  struct Run {
    size_t image = 0;   // where it begins in the image
    size_t window = 0;  // and in the window [kernel × kernel × channels]
    size_t count = 0;   // numbers
  };
  // Calls visit(run) for each row of the window at `place` that is not wholly padding.
  template <typename Visit>
  void ForRuns(size_t place, const Visit& visit) const {
    const int64_t top = static_cast<int64_t>(place / out_width_ * stride_) - above_;
    const int64_t begin = static_cast<int64_t>(place % out_width_ * stride_) - left_;
    const int64_t first = std::max<int64_t>(begin, 0);
    const int64_t last =
        std::min<int64_t>(begin + static_cast<int64_t>(kernel_), static_cast<int64_t>(width_));
    if (first >= last) return;
    for (size_t y = 0; y < kernel_; ++y) {
      const int64_t line = top + static_cast<int64_t>(y);
      if (line < 0 || line >= static_cast<int64_t>(height_)) continue;
      visit(Run{
          .image = (static_cast<size_t>(line) * width_ + static_cast<size_t>(first)) * channels_,
          .window = (y * kernel_ + static_cast<size_t>(first - begin)) * channels_,
          .count = static_cast<size_t>(last - first) * channels_});
    }
  }

 private:
  size_t height_;
  size_t width_;
  size_t channels_;
  size_t out_width_;
  size_t places_;
  size_t kernel_;
  size_t stride_;
  int64_t above_;
  int64_t left_;
};

// So many numbers of windows are laid out at a time, which stay in the cache; at least one window.
constexpr uint64_t kLaidOutCount = uint64_t{1} << 16U;

template <typename Scalar>
class Conv2d final : public Layer<Scalar> {
 public:
  Conv2d(const LayerSpec& spec, const LayerShapes& shapes, size_t rows)
      : window_(spec, shapes),
        area_(window_.kernel() * window_.kernel() * window_.channels()),
        units_(spec.units),
        piece_max_(std::max<uint64_t>(1, kLaidOutCount / area_)),
        scratch_(Conv2dScratch(spec, shapes).each_row * rows + Conv2dScratch(spec, shapes).fixed),
        laid_out_(scratch_.data()),
        delta_laid_out_(laid_out_ + piece_max_ * area_),
        activated_(spec.activation, shapes.output, delta_laid_out_ + piece_max_ * area_) {}

  void Forward(const Pass<Scalar>& pass) override {
    const size_t all = pass.rows * window_.places();
    for (size_t first = 0; first < all; first += piece_max_) {
      const size_t count = std::min(piece_max_, all - first);
      LayOut(pass, first, count);
      pass.kernels->multiply({.m = count,
                              .n = units_,
                              .k = area_,
                              .a = laid_out_,
                              .a_row = area_,
                              .a_column = 1,
                              .b = pass.weights,
                              .b_row = 1,
                              .b_column = area_,
                              .c = pass.output + first * units_,
                              .c_row = units_,
                              .bias = pass.weights + units_ * area_,
                              .pace = pass.pace},
                             pass.workspace);
    }
    activated_.Forward(pass);
  }

  void Backward(const Pass<Scalar>& pass) override {
    activated_.Backward(pass);
    const size_t all = pass.rows * window_.places();
    // Derivatives by the inputs first, all of them: they read the weights that the sink may be.
    if (pass.delta_input != nullptr) {
      window_.Clear(pass);
      for (size_t first = 0; first < all; first += piece_max_) {
        BackToInputs(pass, first, std::min(piece_max_, all - first));
      }
    }
    for (size_t first = 0; first < all; first += piece_max_) {
      const size_t count = std::min(piece_max_, all - first);
      LayOut(pass, first, count);
      pass.kernels->multiply({.m = units_,
                              .n = area_,
                              .k = count,
                              .a = pass.delta + first * units_,
                              .a_row = 1,
                              .a_column = units_,
                              .b = laid_out_,
                              .b_row = area_,
                              .b_column = 1,
                              .c = pass.sink,
                              .c_row = area_,
                              .add = true,
                              .pace = pass.pace},
                             pass.workspace);
    }
    AddRows(pass, pass.delta, all, units_, pass.sink + units_ * area_);
  }

 private:
  // Windows `first` to first + count of all rows, each a row of [count × area].
  void LayOut(const Pass<Scalar>& pass, size_t first, size_t count) const {
    InRows(pass.pace, count, window_.cost(), [&](RowGroup group) {
      for (size_t i = group.first; i < group.first + group.count; ++i) {
        const size_t place = (first + i) % window_.places();
        const Scalar* const image =
            pass.input + (first + i) / window_.places() * window_.image_count();
        Scalar* const to = laid_out_ + i * area_;
        size_t written = 0;
        window_.ForRuns(place, [&](const Window::Run& run) {
          std::fill(to + written, to + run.window, Scalar{0});
          std::copy_n(image + run.image, run.count, to + run.window);
          written = run.window + run.count;
        });
        std::fill(to + written, to + area_, Scalar{0});
      }
    });
  }

  void BackToInputs(const Pass<Scalar>& pass, size_t first, size_t count) const {
    pass.kernels->multiply({.m = count,
                            .n = area_,
                            .k = units_,
                            .a = pass.delta + first * units_,
                            .a_row = units_,
                            .a_column = 1,
                            .b = pass.weights,
                            .b_row = area_,
                            .b_column = 1,
                            .c = delta_laid_out_,
                            .c_row = area_,
                            .pace = pass.pace},
                           pass.workspace);
    InRows(pass.pace, count, window_.cost(), [&](RowGroup group) {
      for (size_t i = group.first; i < group.first + group.count; ++i) {
        Scalar* const image =
            pass.delta_input + (first + i) / window_.places() * window_.image_count();
        const Scalar* const from = delta_laid_out_ + i * area_;
        window_.ForRuns((first + i) % window_.places(), [&](const Window::Run& run) {
          for (size_t j = 0; j < run.count; ++j) image[run.image + j] += from[run.window + j];
        });
      }
    });
  }

  Window window_;
  size_t area_;  // numbers of one window
  size_t units_;
  size_t piece_max_;  // windows laid out at a time
  Buffer<Scalar> scratch_;
  Scalar* laid_out_;        // [piece_max × area]
  Scalar* delta_laid_out_;  // [piece_max × area] the loss's derivative by it
  Activated<Scalar> activated_;
};

template <typename Scalar>
class MaxPool2d final : public Layer<Scalar> {
 public:
  MaxPool2d(const LayerSpec& spec, const LayerShapes& shapes, size_t rows)
      : window_(spec, shapes), from_(ScratchOf(spec, shapes).each_row * rows) {}

  void Forward(const Pass<Scalar>& pass) override {
    ForPlaces(pass, [&](size_t row, size_t place, size_t out) {
      const Scalar* const image = pass.input + row * window_.image_count();
      bool first = true;
      Scalar* const largest = pass.output + out;
      Scalar* const from = from_.data() + out;
      ForSpots(place, [&](size_t at, Scalar spot) {
        const Scalar* const values = image + at;
        for (size_t c = 0; c < window_.channels(); ++c) {
          // A NaN wins, so that the loss shows it.
          if (!first && !(values[c] > largest[c]) && values[c] == values[c]) continue;
          largest[c] = values[c];
          from[c] = spot;
        }
        first = false;
      });
    });
  }

  void Backward(const Pass<Scalar>& pass) override {
    if (pass.delta_input == nullptr) return;
    window_.Clear(pass);
    ForPlaces(pass, [&](size_t row, size_t place, size_t out) {
      Scalar* const image = pass.delta_input + row * window_.image_count();
      const Scalar* const delta = pass.delta + out;
      const Scalar* const from = from_.data() + out;
      ForSpots(place, [&](size_t at, Scalar spot) {
        for (size_t c = 0; c < window_.channels(); ++c) {
          if (from[c] == spot) image[at + c] += delta[c];
        }
      });
    });
  }

 private:
  // Calls visit(row, place, where the place's channels begin in the output).
  template <typename Visit>
  void ForPlaces(const Pass<Scalar>& pass, const Visit& visit) const {
    size_t out = 0;
    for (size_t row = 0; row < pass.rows; ++row) {
      InRows(pass.pace, window_.places(), window_.cost(), [&](RowGroup group) {
        for (size_t i = 0; i < group.count; ++i, out += window_.channels()) {
          visit(row, group.first + i, out);
        }
      });
    }
  }

  // Calls visit(where the spot's channels begin in the image, spot) for each spot of a window.
  template <typename Visit>
  void ForSpots(size_t place, const Visit& visit) const {
    const size_t channels = window_.channels();
    window_.ForRuns(place, [&](const Window::Run& run) {
      size_t spot = run.window / channels;
      for (size_t i = 0; i < run.count; i += channels, ++spot) {
        visit(run.image + i, static_cast<Scalar>(spot));
      }
    });
  }

  Window window_;
  // Of each output the spot in its window that it came from: below 2^20, which a float holds.
  Buffer<Scalar> from_;
};

}  // namespace

Scratch Conv2dScratch(const LayerSpec& spec, const LayerShapes& shapes) {
  const uint64_t area = uint64_t{spec.kernel} * spec.kernel * shapes.input.axes[2];
  const uint64_t piece = std::max<uint64_t>(1, kLaidOutCount / area);
  return {.each_row = Activated<float>::KeptCount(spec.activation, shapes.output),
          .fixed = 2 * piece * area};
}

template <typename Scalar>
std::unique_ptr<Layer<Scalar>> MakeConv2d(const LayerSpec& spec, const LayerShapes& shapes,
                                          size_t rows) {
  return std::make_unique<Conv2d<Scalar>>(spec, shapes, rows);
}

template <typename Scalar>
std::unique_ptr<Layer<Scalar>> MakeMaxPool2d(const LayerSpec& spec, const LayerShapes& shapes,
                                             size_t rows) {
  return std::make_unique<MaxPool2d<Scalar>>(spec, shapes, rows);
}

template std::unique_ptr<Layer<float>> MakeConv2d<float>(const LayerSpec& spec,
                                                         const LayerShapes& shapes, size_t rows);
template std::unique_ptr<Layer<double>> MakeConv2d<double>(const LayerSpec& spec,
                                                           const LayerShapes& shapes, size_t rows);
template std::unique_ptr<Layer<float>> MakeMaxPool2d<float>(const LayerSpec& spec,
                                                            const LayerShapes& shapes, size_t rows);
template std::unique_ptr<Layer<double>> MakeMaxPool2d<double>(const LayerSpec& spec,
                                                              const LayerShapes& shapes,
                                                              size_t rows);

}  // namespace chorus::learning
