// One fixed-point encoding for every protocol. A client's values pass through Encode, so its loops
// run the same instructions whatever they are; Decode sees only a sum that the server knows.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <type_traits>

#include "base/limits.h"
#include "math/encode_kernels.h"
#include "math/math.h"

namespace chorus::math {
namespace {

// Contributions are read as int32_t, sums as int64_t.
constexpr uint32_t kBoundMax = (1U << 31U) - 1;
constexpr int kProductBitsMax = 62;
// A clipped update may stand above the clip by what float arithmetic rounds, and no more.
constexpr double kNormTolerance = 1e-6;
constexpr size_t kBlock = 4'096;  // values that share one draw of randomness

int BitsOf(unsigned __int128 value) {
  const auto high = static_cast<uint64_t>(value >> 64U);
  if (high != 0) return 64 + static_cast<int>(std::bit_width(high));
  return static_cast<int>(std::bit_width(static_cast<uint64_t>(value)));
}

int ProductBits(uint64_t a, uint64_t b) { return BitsOf(static_cast<unsigned __int128>(a) * b); }

Status CheckEncoding(const FixedPoint& encoding) {
  if (encoding.dim > limits::kDimMax) {
    return InvalidArgument("the model has more parameters than " + std::to_string(limits::kDimMax));
  }
  if (encoding.bound == 0 || encoding.bound > kBoundMax) {
    return InvalidArgument("encoding.bound must be between 1 and 2^31 - 1");
  }
  if (encoding.examples_max == 0 || encoding.examples_max > encoding.bound) {
    return InvalidArgument("encoding.examples_max must be between 1 and encoding.bound");
  }
  // A clip is a float, so that dividing by it gives a finite double; NaN fails both comparisons.
  if (!(encoding.clip >= std::numeric_limits<float>::denorm_min() &&
        encoding.clip <= std::numeric_limits<float>::max())) {
    return InvalidArgument("clip.update_l2_norm_max must be finite and above zero");
  }
  return CheckNoWrap(1, encoding.bound, encoding.bits);
}

Status CheckContribution(const FixedPoint& encoding, const Contribution& contribution) {
  if (contribution.update.size() != encoding.dim) {
    return InvalidArgument("the update's dimension is not the model's");
  }
  const double norm = Norm(contribution.update);
  if (!std::isfinite(norm)) {
    return InvalidArgument("the update has a value that is not finite: lower the learning rate");
  }
  if (norm > encoding.clip * (1 + kNormTolerance)) {
    return InvalidArgument("the update's norm is above the clip: clip it before encoding");
  }
  if (!(contribution.accuracy >= 0 && contribution.accuracy <= 1)) {
    return InvalidArgument("the accuracy must be between 0 and 1");
  }
  if (!std::isfinite(contribution.loss) || contribution.loss < 0) {
    return InvalidArgument("the loss must be finite and not negative");
  }
  return OkStatus();
}

// --- the portable loops ------------------------------------------------------------------------

template <typename Word>
void RoundAll(const float* values, size_t count, float scale, float bound, const uint16_t* random,
              Word* out) {
  for (size_t i = 0; i < count; ++i) {
    const float inside = std::min(std::max(values[i] * scale, -bound), bound);
    out[i] = static_cast<Word>(RoundRandomly(inside, random[i]));
  }
}

using Lanes = std::array<double, kEncodeLanes>;

void SquareAll(const float* values, size_t count, Lanes& lanes) {
  for (size_t i = 0; i < count; i += kEncodeLanes) {
    for (size_t lane = 0; lane < kEncodeLanes; ++lane) {
      const double value = values[i + lane];
      lanes[lane] += value * value;
    }
  }
}

void SubtractAll(float* values, const float* base, size_t count, Lanes& lanes) {
  for (size_t i = 0; i < count; ++i) values[i] -= base[i];
  SquareAll(values, count, lanes);
}

constexpr EncodeKernel kPortable = {.round16 = RoundAll<uint16_t>,
                                    .round32 = RoundAll<uint32_t>,
                                    .round64 = RoundAll<uint64_t>,
                                    .square = SquareAll,
                                    .subtract = SubtractAll};

const EncodeKernel& FastestKernel() {
  static const EncodeKernel& fastest = []() -> const EncodeKernel& {
    for (const EncodePath path : {EncodePath::kAvx512, EncodePath::kAvx2}) {
      if (const EncodeKernel* kernel = EncodeKernelFor(path); kernel != nullptr) return *kernel;
    }
    return kPortable;
  }();
  return fastest;
}

auto RoundingFor(const EncodeKernel& kernel, const uint16_t*) { return kernel.round16; }
auto RoundingFor(const EncodeKernel& kernel, const uint32_t*) { return kernel.round32; }
auto RoundingFor(const EncodeKernel& kernel, const uint64_t*) { return kernel.round64; }

// How values become integers: in single precision where that holds both the bound and the scale.
// The product's rounding is then of the order of what a float value itself was rounded by.
struct Scaling {
  double scale = 0;
  double bound = 0;
  bool narrow() const {
    return bound <= static_cast<double>(kNarrowBoundMax) && scale > 0x1p-100 && scale < 0x1p100;
  }
};

// Writes values * scale, cut to [-bound, bound] and rounded, to `out`.
template <typename Word>
void RoundBlock(std::span<const float> values, const Scaling& scaling, const uint16_t* random,
                Word* out) {
  if (!scaling.narrow()) {
    for (size_t i = 0; i < values.size(); ++i) {
      const double scaled = static_cast<double>(values[i]) * scaling.scale;
      const double inside = std::min(std::max(scaled, -scaling.bound), scaling.bound);
      out[i] = static_cast<Word>(RoundRandomly(inside, random[i]));
    }
    return;
  }
  const auto scale = static_cast<float>(scaling.scale);
  const auto bound = static_cast<float>(scaling.bound);
  const size_t whole = values.size() / kEncodeLanes * kEncodeLanes;
  RoundingFor(FastestKernel(), out)(values.data(), whole, scale, bound, random, out);
  RoundAll(values.data() + whole, values.size() - whole, scale, bound, random + whole, out + whole);
}

// Sum of squares of at most kBlock values, which `square` adds to lanes for whole multiples.
template <typename Square>
double BlockOfSquares(size_t count, const float* values, Square square) {
  Lanes lanes{};
  const size_t whole = count / kEncodeLanes * kEncodeLanes;
  square(whole, lanes);
  for (size_t i = whole; i < count; ++i) {
    const double value = values[i];
    lanes[0] += value * value;
  }
  return std::accumulate(lanes.begin(), lanes.end(), 0.0);
}

// The random numbers of one block, wiped when done.
class RandomBlock {
 public:
  explicit RandomBlock(Rng& rng) : rng_(rng) {}
  ~RandomBlock() { Wipe(Raw(words_.size())); }
  RandomBlock(const RandomBlock&) = delete;
  RandomBlock& operator=(const RandomBlock&) = delete;

  // `count` <= kBlock fresh numbers.
  const uint16_t* Draw(size_t count) {
    rng_.Fill(Raw(count));
    return words_.data();
  }

 private:
  std::span<uint8_t> Raw(size_t count) {
    return {reinterpret_cast<uint8_t*>(words_.data()), count * sizeof(words_[0])};
  }

  Rng& rng_;
  std::array<uint16_t, kBlock> words_{};
};

// The largest absolute value among the words of a sum, read as `bits` wide.
template <typename Word>
uint64_t PeakOf(const std::vector<Word>& words, int bits) {
  using Signed = std::make_signed_t<Word>;
  const int unused = std::numeric_limits<Word>::digits - bits;
  Word peak = 0;
  for (const Word word : words) {
    const auto value = static_cast<Signed>(static_cast<Signed>(word << unused) >> unused);
    // Negation of words wraps, so that even the smallest value has an absolute one.
    peak = std::max(peak, static_cast<Word>(value < 0 ? Word{0} - static_cast<Word>(value)
                                                      : static_cast<Word>(value)));
  }
  return peak;
}

uint64_t PeakIn(const Sum& sum, int bits) {
  return std::visit([bits](const auto& words) { return uint64_t{PeakOf(words, bits)}; },
                    sum.values);
}

template <typename Word>
void ScaleInto(const std::vector<Word>& words, int bits, double scale, std::span<float> out) {
  using Signed = std::make_signed_t<Word>;
  const int unused = std::numeric_limits<Word>::digits - bits;
  for (size_t i = 0; i < out.size(); ++i) {
    const auto value = static_cast<Signed>(static_cast<Signed>(words[i] << unused) >> unused);
    out[i] = static_cast<float>(static_cast<double>(value) * scale);
  }
}

// Adds each of `words`, read as `bits` wide, to the word of `total` in its place.
template <typename Wide, typename Word>
void AddWords(std::vector<Wide>& total, const std::vector<Word>& words, int bits) {
  using Signed = std::make_signed_t<Word>;
  const int unused = std::numeric_limits<Word>::digits - bits;
  for (size_t i = 0; i < words.size(); ++i) {
    const auto value = static_cast<Signed>(static_cast<Signed>(words[i] << unused) >> unused);
    total[i] = static_cast<Wide>(total[i] + static_cast<Wide>(value));
  }
}

bool HasShape(const Sum& sum, uint64_t vector_dim, int bits) {
  return DimOf(sum.values) == vector_dim && sum.values.index() == ZeroVector(0, bits).index();
}

// The sums of the four metric coordinates.
struct MetricSums {
  int64_t examples = 0;
  int64_t evaluated = 0;
  int64_t correct = 0;
  int64_t loss = 0;
};

// Whether honest contributions can add up to these sums.
Status CheckMetrics(const FixedPoint& encoding, const MetricSums& sums, uint32_t contributors) {
  const int64_t weight_max = int64_t{contributors} * encoding.examples_max;
  if (sums.examples <= 0 || sums.evaluated < 0) {
    return Aborted("the sum's weights are negative or add up to nothing");
  }
  if (sums.examples > weight_max || sums.evaluated > weight_max) {
    return Aborted("the sum's weights are larger than its contributors can have");
  }
  // Each contributor's correct answers are among those evaluated, and its loss is at most bound *
  // evaluated / W, rounded up at most once. The product is below contributors * W * bound < 2^94.
  const auto loss_max = static_cast<int64_t>(static_cast<__int128>(sums.evaluated) *
                                             encoding.bound / encoding.examples_max) +
                        std::min<int64_t>(contributors, sums.evaluated);
  if (sums.correct < 0 || sums.correct > sums.evaluated || sums.loss < 0 || sums.loss > loss_max) {
    return Aborted("the sum's metrics contradict each other");
  }
  return OkStatus();
}

MetricSums MetricsOf(const FixedPoint& encoding, const Sum& sum) {
  return {
      .examples = SignedAt(sum.values, encoding.dim, encoding.bits),
      .evaluated = SignedAt(sum.values, encoding.dim + 1, encoding.bits),
      .correct = SignedAt(sum.values, encoding.dim + 2, encoding.bits),
      .loss = SignedAt(sum.values, encoding.dim + 3, encoding.bits),
  };
}

}  // namespace

const EncodeKernel* EncodeKernelFor(EncodePath path) {
  return path == EncodePath::kPortable ? &kPortable : EncodeKernelOfX86(path);
}

double Norm(std::span<const float> values) { return Norm(values, nullptr); }

double Norm(std::span<const float> values, Pace* pace) {
  const EncodeKernel& kernel = FastestKernel();
  double total = 0;
  while (!values.empty()) {
    Breathe(pace);
    const std::span<const float> block = values.first(std::min(kBlock, values.size()));
    total += BlockOfSquares(block.size(), block.data(), [&](size_t whole, Lanes& lanes) {
      kernel.square(block.data(), whole, lanes);
    });
    values = values.subspan(block.size());
  }
  return std::sqrt(total);
}

double SubtractForNorm(std::span<float> values, std::span<const float> base) {
  const EncodeKernel& kernel = FastestKernel();
  double total = 0;
  for (size_t begin = 0; begin < values.size(); begin += kBlock) {
    const std::span<float> block = values.subspan(begin, std::min(kBlock, values.size() - begin));
    const float* less = base.data() + begin;
    const size_t whole = block.size() / kEncodeLanes * kEncodeLanes;
    for (size_t i = whole; i < block.size(); ++i) block[i] -= less[i];
    total += BlockOfSquares(block.size(), block.data(), [&](size_t, Lanes& lanes) {
      kernel.subtract(block.data(), less, whole, lanes);
    });
  }
  return std::sqrt(total);
}

int BitsFor(uint64_t n_max, uint64_t bound) { return 1 + ProductBits(n_max, bound); }

Status CheckNoWrap(uint64_t n_max, uint64_t bound, int bits) {
  if (bits < 1 || bits > 64) return InvalidArgument("an encoding needs between 1 and 64 bits");
  if (BitsFor(n_max, bound) > bits) {
    return InvalidArgument("sums could wrap: lower the bound or the cohort, or use more bits");
  }
  return OkStatus();
}

Result<FixedPoint> FixedPointFor(uint64_t dim, const ClipSpec& clip, const EncodingSpec& encoding,
                                 uint32_t n_max) {
  if (n_max == 0) return InvalidArgument("cohort.maximum must be above zero");
  if (ProductBits(n_max, encoding.bound) > kProductBitsMax) {
    return InvalidArgument("cohort.maximum * encoding.bound must be below 2^62");
  }
  const FixedPoint fixed_point = {
      .dim = dim,
      .bound = encoding.bound,
      .examples_max = encoding.examples_max,
      .clip = clip.update_l2_norm_max,
      .bits = BitsFor(n_max, encoding.bound),
  };
  CHORUS_TRY(CheckEncoding(fixed_point));
  return fixed_point;
}

Result<RingVector> Encode(const FixedPoint& encoding, const Contribution& contribution,
                          Rng& rounding) {
  return Encode(encoding, contribution, rounding, RingVector());
}

Result<RingVector> Encode(const FixedPoint& encoding, const Contribution& contribution,
                          Rng& rounding, RingVector memory) {
  Status sound = CheckEncoding(encoding);
  if (sound.ok()) sound = CheckContribution(encoding, contribution);
  const bool fits = sound.ok() && DimOf(memory) == encoding.vector_dim() &&
                    memory.index() == ZeroVector(0, encoding.bits).index();
  // What is not written over may hold what was encoded before.
  if (!fits) WipeVector(memory);
  CHORUS_TRY(sound);
  const uint64_t examples = std::min<uint64_t>(contribution.examples, encoding.examples_max);
  const uint64_t evaluated = std::min<uint64_t>(contribution.evaluated, encoding.examples_max);
  const double bound = encoding.bound;
  const double weight_max = encoding.examples_max;
  const Scaling scaling = {
      .scale = static_cast<double>(examples) / weight_max * (bound / encoding.clip),
      .bound = bound};

  RingVector vector = fits ? std::move(memory) : ZeroVector(encoding.vector_dim(), encoding.bits);
  RandomBlock random(rounding);
  std::visit(
      [&](auto& words) {
        for (uint64_t begin = 0; begin < encoding.dim; begin += kBlock) {
          const size_t count = std::min<uint64_t>(kBlock, encoding.dim - begin);
          RoundBlock(contribution.update.subspan(begin, count), scaling, random.Draw(count),
                     words.data() + begin);
        }
      },
      vector);
  const int64_t correct = std::llround(contribution.accuracy * static_cast<double>(evaluated));
  const double loss = std::min(contribution.loss, kLossMax) / kLossMax *
                      (static_cast<double>(evaluated) / weight_max) * bound;
  SetSigned(vector, encoding.dim, static_cast<int64_t>(examples));
  SetSigned(vector, encoding.dim + 1, static_cast<int64_t>(evaluated));
  SetSigned(vector, encoding.dim + 2, correct);
  SetSigned(vector, encoding.dim + 3, RoundRandomly(loss, *random.Draw(1)));
  return vector;
}

Status CheckSum(const FixedPoint& encoding, const Sum& sum) {
  CHORUS_TRY(CheckEncoding(encoding));
  CHORUS_TRY(CheckNoWrap(sum.contributors, encoding.bound, encoding.bits));
  if (!HasShape(sum, encoding.vector_dim(), encoding.bits)) {
    return InvalidArgument("the sum's dimension or words are not the encoding's");
  }
  if (PeakIn(sum, encoding.bits) > uint64_t{sum.contributors} * encoding.bound) {
    return Aborted("the sum has a value that its contributors' bounds do not allow");
  }
  return CheckMetrics(encoding, MetricsOf(encoding, sum), sum.contributors);
}

Status AddSum(const FixedPoint& wide, Sum& total, const Sum& sum, int bits) {
  CHORUS_TRY(CheckNoWrap(sum.contributors, wide.bound, bits));
  const uint64_t contributors = uint64_t{total.contributors} + sum.contributors;
  CHORUS_TRY(CheckNoWrap(contributors, wide.bound, wide.bits));
  if (!HasShape(sum, wide.vector_dim(), bits) || !HasShape(total, wide.vector_dim(), wide.bits)) {
    return InvalidArgument("the sum's dimension or words are not the encoding's");
  }
  std::visit([bits](auto& to, const auto& words) { AddWords(to, words, bits); }, total.values,
             sum.values);
  ReduceBits(total.values, wide.bits);
  total.contributors = static_cast<uint32_t>(contributors);
  return OkStatus();
}

Result<Mean> Decode(const FixedPoint& encoding, const Sum& sum) {
  CHORUS_TRY(CheckSum(encoding, sum));
  const uint64_t dim = encoding.dim;
  const MetricSums sums = MetricsOf(encoding, sum);
  const double weight_max = encoding.examples_max;
  const double scale =
      encoding.clip / encoding.bound * (weight_max / static_cast<double>(sums.examples));
  const auto peak = static_cast<double>(PeakIn(sum, encoding.bits));
  if (peak * scale > std::numeric_limits<float>::max()) {
    return Aborted("the sum has a value that its weights do not allow");
  }
  Mean mean;
  mean.update.resize(dim);
  std::visit([&](const auto& words) { ScaleInto(words, encoding.bits, scale, mean.update); },
             sum.values);
  mean.examples = static_cast<uint64_t>(sums.examples);
  mean.evaluated = static_cast<uint64_t>(sums.evaluated);
  if (mean.evaluated == 0) return mean;
  const auto evaluated = static_cast<double>(sums.evaluated);
  mean.accuracy = static_cast<double>(sums.correct) / evaluated;
  mean.loss = static_cast<double>(sums.loss) / encoding.bound * weight_max * kLossMax / evaluated;
  return mean;
}

}  // namespace chorus::math
