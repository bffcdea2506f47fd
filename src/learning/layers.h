// The layers of a network, each a forward and a backward pass over rows in flat buffers. Internal
// to learning.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <span>

#include "base/pace.h"
#include "base/random.h"
#include "chorus/bytes.h"
#include "chorus/model.h"
#include "learning/kernels.h"
#include "learning/shapes.h"

namespace chorus::learning {

// Numbers of no meaning until they are written, wiped at the end: what passes through a network is
// made of a player's data. Not touched when made, so that a large one costs nothing until used.
template <typename Scalar>
class Buffer {
 public:
  explicit Buffer(size_t count) : count_(count) {
    data_ = static_cast<Scalar*>(::operator new(count * sizeof(Scalar), kAlignment));
  }
  Buffer(Buffer&& other) noexcept : data_(other.data_), count_(other.count_) {
    other.data_ = nullptr;
    other.count_ = 0;
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  Buffer& operator=(Buffer&&) = delete;
  ~Buffer() {
    Wipe({reinterpret_cast<uint8_t*>(data_), count_ * sizeof(Scalar)});
    ::operator delete(data_, kAlignment);
  }
  Scalar* data() const { return data_; }

 private:
  static constexpr std::align_val_t kAlignment{64};
  Scalar* data_;
  size_t count_;
};

// Some of a number of rows, one after the other.
struct RowGroup {
  size_t first = 0;
  size_t count = 0;
};

// Calls each(group) for neighbouring groups of `rows` rows of `width` numbers (at least 1), with a
// breath before each. A group is as large as a piece, or one row.
template <typename Each>
void InRows(Pace* pace, size_t rows, size_t width, const Each& each) {
  constexpr size_t kPiece = 8192;
  const size_t count = std::max<size_t>(1, kPiece / width);
  for (size_t first = 0; first < rows; first += count) {
    Breathe(pace);
    each(RowGroup{.first = first, .count = std::min(count, rows - first)});
  }
}

// What a layer keeps beside its outputs and their derivatives, in scalars.
struct Scratch {
  uint64_t each_row = 0;
  uint64_t fixed = 0;
};
Scratch ScratchOf(const LayerSpec& spec, const LayerShapes& shapes);

// What one pass of a layer works on.
template <typename Scalar>
struct Pass {
  const Kernels<Scalar>* kernels = nullptr;
  Scalar* workspace = nullptr;  // of the kernels
  size_t rows = 0;
  const Scalar* weights = nullptr;  // the layer's own
  const Scalar* input = nullptr;    // [rows × input]
  Scalar* output = nullptr;  // [rows × output]; in a backward pass as the forward one left it
  Rng* dropout = nullptr;    // of a forward pass in training; else null
  // Of a backward pass: the loss's derivative by the outputs [rows × output], which becomes that by
  // what the activation was given; that by the inputs [rows × input], which the layer writes unless
  // it is null; and what the one by the weights is added to, perhaps `weights` itself.
  Scalar* delta = nullptr;
  Scalar* delta_input = nullptr;
  Scalar* sink = nullptr;
  Pace* pace = nullptr;  // null: without a pause
};

// sums [width] += the sum of all rows of values [rows × width], by way of the workspace. Each group
// of rows goes on where the one before it ended, so that cutting changes no bit.
template <typename Scalar>
void AddRows(const Pass<Scalar>& pass, const Scalar* values, size_t rows, size_t width,
             Scalar* sums) {
  constexpr size_t kColumns = 1024;  // whole vectors on every path
  static_assert(kColumns <= kWorkspaceCount);
  for (size_t begin = 0; begin < width; begin += kColumns) {
    const size_t columns = std::min(kColumns, width - begin);
    std::fill_n(pass.workspace, columns, Scalar{0});
    InRows(pass.pace, rows, columns, [&](RowGroup group) {
      pass.kernels->add_rows({.values = values + group.first * width + begin,
                              .rows = group.count,
                              .row = width,
                              .width = columns,
                              .sums = pass.workspace});
    });
    for (size_t i = 0; i < columns; ++i) sums[begin + i] += pass.workspace[i];
  }
}

// A backward pass follows the forward pass that it is of. Thread-compatible.
template <typename Scalar>
class Layer {
 public:
  virtual ~Layer() = default;
  virtual void Forward(const Pass<Scalar>& pass) = 0;
  virtual void Backward(const Pass<Scalar>& pass) = 0;
};

// The activation at the end of a layer.
template <typename Scalar>
class Activated {
 public:
  // `kept` [rows × output] where the activation needs what it was given: see KeptCount.
  Activated(Activation activation, const Shape& output, Scalar* kept)
      : activation_(activation), count_(output.count()), last_(output.last()), kept_(kept) {}
  static uint64_t KeptCount(Activation activation, const Shape& output) {
    return activation == Activation::kGelu ? output.count() : 0;
  }
  void Forward(const Pass<Scalar>& pass) const;
  void Backward(const Pass<Scalar>& pass) const;

 private:
  Activation activation_;
  size_t count_;  // of one row
  size_t last_;   // of them share a softmax
  Scalar* kept_;
};

// A layer of a valid model, for at most `rows` rows; null for flatten, which changes nothing.
template <typename Scalar>
std::unique_ptr<Layer<Scalar>> MakeLayer(const LayerSpec& spec, const LayerShapes& shapes,
                                         size_t rows);

// The kinds that have files of their own.
template <typename Scalar>
std::unique_ptr<Layer<Scalar>> MakeConv2d(const LayerSpec& spec, const LayerShapes& shapes,
                                          size_t rows);
template <typename Scalar>
std::unique_ptr<Layer<Scalar>> MakeMaxPool2d(const LayerSpec& spec, const LayerShapes& shapes,
                                             size_t rows);
template <typename Scalar>
std::unique_ptr<Layer<Scalar>> MakeGru(const LayerSpec& spec, const LayerShapes& shapes,
                                       size_t rows);
Scratch Conv2dScratch(const LayerSpec& spec, const LayerShapes& shapes);
Scratch GruScratch(const LayerSpec& spec, const LayerShapes& shapes);

}  // namespace chorus::learning
