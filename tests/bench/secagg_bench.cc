// The figures of secure aggregation: how near masking, unmasking and folding come to what AES and
// memory allow, measured beside each other, and what whole sessions cost. A figure is a function
// and a line of the table below.
#include <array>
#include <memory>

#include "aggregation/secagg.h"
#include "base/parallel.h"
#include "bench.h"
#include "crypto/crypto.h"
#include "crypto/mask.h"
#include "crypto/mask_kernels.h"
#include "math/math.h"
#include "raw_aes.h"
#include "session_figures.h"

namespace chorus::bench {
namespace {

using crypto::MaskOp;
using crypto::MaskPath;

constexpr uint64_t kDim = 1'000'000;
constexpr int kBits = 26;
constexpr size_t kMasks = 64;
constexpr size_t kBufferBytes = size_t{64} << 10U;
constexpr size_t kBuffers = 1'024;  // so many buffers take some milliseconds
constexpr int kRuns = 15;

// CPU seconds for a byte of a path's AES alone, written to a 64 KiB buffer.
double AesAloneSeconds(MaskPath path) {
  const crypto::MaskKernel* const kernel = crypto::MaskKernelFor(path);
  if (kernel == nullptr) return RawAesSeconds();
  const std::array<uint8_t, 32> key{};
  crypto::AesSchedule schedule;
  kernel->expand(key.data(), schedule);
  std::vector<uint8_t> buffer(kBufferBytes);
  const double seconds = Seconds(CpuSeconds, [&] {
    for (size_t i = 0; i < kBuffers; ++i) {
      kernel->apply(schedule, i * kBufferBytes / 16, buffer.data(),
                    kBufferBytes / crypto::kMaskLineBytes, MaskOp::kReplace);
    }
  });
  return seconds / static_cast<double>(kBuffers * kBufferBytes);
}

// CPU seconds for a byte of a vector add of 32-bit words between two buffers in L2.
double AddAloneSeconds() {
  std::vector<uint8_t> words(kBufferBytes);
  const std::vector<uint8_t> stream(kBufferBytes, 1);
  const double seconds = Seconds(CpuSeconds, [&] {
    for (size_t i = 0; i < kBuffers; ++i) {
      crypto::CombineStream(words.data(), stream.data(), kBufferBytes, MaskOp::kAdd32);
    }
  });
  return seconds / static_cast<double>(kBuffers * kBufferBytes);
}

// Keys of masks, half of them subtracted.
class Keys {
 public:
  Keys() {
    const std::unique_ptr<Rng> rng = crypto::NewSeededRng(Bytes(crypto::kKeyBytes, 1));
    for (size_t i = 0; i < kMasks; ++i) {
      masks_.push_back({crypto::RandomSecret(*rng, crypto::kKeyBytes),
                        i % 2 == 0 ? math::Sign::kAdd : math::Sign::kSubtract});
      streams_.push_back({masks_.back().key.Reveal(),
                          i % 2 == 0 ? crypto::MaskSign::kAdd : crypto::MaskSign::kSubtract});
    }
  }
  std::span<const aggregation::Mask> masks() const { return masks_; }
  std::span<const crypto::MaskStream> streams() const { return streams_; }

 private:
  std::vector<aggregation::Mask> masks_;
  std::vector<crypto::MaskStream> streams_;  // views of the masks' keys
};

// CPU seconds for a byte of the key stream, masks applied to one vector of kDim 32-bit words.
double MaskSeconds(MaskPath path, const Keys& keys, std::vector<uint32_t>& vector) {
  const double seconds = Seconds(
      CpuSeconds, [&] { crypto::ApplyMaskStreams(path, std::span(vector), 0, keys.streams()); });
  return seconds / static_cast<double>(kMasks * kDim * sizeof(uint32_t));
}

std::optional<Measured> MaskOverRawAes(MaskPath path, double limit) {
  if (!crypto::HasMaskPath(path)) return std::nullopt;
  const Keys keys;
  std::vector<uint32_t> vector(kDim);
  std::vector<double> ratios;
  for (int run = 0; run < kRuns; ++run) {
    ratios.push_back(RawAesSeconds() / MaskSeconds(path, keys, vector));
  }
  return Measured{Median(ratios), limit};
}

std::optional<Measured> MaskEvp() { return MaskOverRawAes(MaskPath::kEvp, 0.80); }
std::optional<Measured> MaskVaes() { return MaskOverRawAes(MaskPath::kVaes512, 1.8); }

// Nanoseconds for an element, against 1.1 times those of AES alone and of the add alone.
std::optional<Measured> MaskFused(MaskPath path) {
  if (!crypto::HasMaskPath(path)) return std::nullopt;
  constexpr double kNanosecondsOfElement = 1e9 * sizeof(uint32_t);
  const Keys keys;
  std::vector<uint32_t> vector(kDim);
  std::vector<double> fused;
  std::vector<double> parts;
  for (int run = 0; run < kRuns; ++run) {
    fused.push_back(kNanosecondsOfElement * MaskSeconds(path, keys, vector));
    parts.push_back(kNanosecondsOfElement * (AesAloneSeconds(path) + AddAloneSeconds()));
  }
  return Measured{Median(fused), 1.1 * Median(parts)};
}

std::optional<Measured> MaskFusedEvp() { return MaskFused(MaskPath::kEvp); }
std::optional<Measured> MaskFusedVaes256() { return MaskFused(MaskPath::kVaes256); }
std::optional<Measured> MaskFusedVaes512() { return MaskFused(MaskPath::kVaes512); }

// Wall time of unmasking on two threads, as a share of half the time on one. Other programs on the
// machine only ever add to a wall time, so the smallest of many runs counts, and more are made
// while the bar is not met; few masks make a run short enough to be left alone, and a sleep before
// it gives it the right to go first.
std::optional<Measured> UnmaskParallel() {
  constexpr size_t kThreads = 2;
  constexpr size_t kFewMasks = 16;
  constexpr int kWallRunsMin = 300;
  constexpr int kWallRunsMax = 3'000;
  constexpr double kLimit = 1.15;
  if (std::thread::hardware_concurrency() < kThreads) return std::nullopt;
  const Keys keys;
  const std::span<const aggregation::Mask> masks = keys.masks().first(kFewMasks);
  ThreadPool pool(kThreads);
  RingVector vector = math::ZeroVector(kDim, kBits);
  const auto smaller = [](double least, const auto& unmask) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    return std::min(least, Seconds(WallSeconds, unmask));
  };
  double one = 1e9;
  double two = 1e9;
  for (int run = 0; run < kWallRunsMax; ++run) {
    if (run >= kWallRunsMin && two * kThreads <= kLimit * one) break;
    one = smaller(one, [&] { ApplyMasks(crypto::FastestMaskPath(), vector, masks); });
    two = smaller(two, [&] { ApplyMasks(crypto::FastestMaskPath(), vector, masks, pool); });
  }
  return Measured{two * kThreads / one, kLimit};
}

// Folding an upload into the sum, over a plain add of a vector that is not packed.
std::optional<Measured> Fold() {
  constexpr int kFolds = 20;
  RingVector sum = math::ZeroVector(kDim, kBits);
  RingVector upload = math::ZeroVector(kDim, kBits);
  for (uint64_t i = 0; i < kDim; ++i) math::SetSigned(upload, i, static_cast<int64_t>(i) * 7);
  const Bytes packed = math::Pack(upload, kBits);
  auto& sum_words = std::get<std::vector<uint32_t>>(sum);
  const auto& upload_words = std::get<std::vector<uint32_t>>(upload);
  std::vector<double> ratios;
  bool refused = false;
  for (int run = 0; run < kRuns; ++run) {
    const double add = Seconds(CpuSeconds, [&] {
      for (int i = 0; i < kFolds; ++i) {
        crypto::CombineStream(reinterpret_cast<uint8_t*>(sum_words.data()),
                              reinterpret_cast<const uint8_t*>(upload_words.data()),
                              kDim * sizeof(uint32_t), MaskOp::kAdd32);
      }
    });
    const double fold = Seconds(CpuSeconds, [&] {
      for (int i = 0; i < kFolds; ++i) {
        refused = !math::AddPacked(sum, packed, kBits).ok() || refused;
      }
    });
    ratios.push_back(add / fold);
  }
  return Measured{refused ? 0 : Median(ratios), 0.5};
}

const std::vector<Figure>& Figures() {
  static const std::vector<Figure> figures = {
      {"mask_evp", "x raw AES-256-CTR", Bar::kAtLeast, &MaskEvp},
      {"mask_vaes", "x raw AES-256-CTR", Bar::kAtLeast, &MaskVaes},
      {"mask_fused_evp", "ns an element", Bar::kAtMost, &MaskFusedEvp},
      {"mask_fused_vaes256", "ns an element", Bar::kAtMost, &MaskFusedVaes256},
      {"mask_fused_vaes512", "ns an element", Bar::kAtMost, &MaskFusedVaes512},
      {"unmask_parallel", "x ideal on 2 threads", Bar::kAtMost, &UnmaskParallel},
      {"fold", "x a plain add", Bar::kAtLeast, &Fold},
      {"server_unmask_vaes", "ns an element", Bar::kAtMost, &ServerUnmaskVaes},
      {"server_unmask_evp", "ns an element", Bar::kAtMost, &ServerUnmaskEvp},
      {"client_session_vaes", "ms", Bar::kAtMost, &ClientSessionVaes},
      {"client_session_evp", "ms", Bar::kAtMost, &ClientSessionEvp},
      {"server_memory", "KiB a client", Bar::kAtMost, &ServerMemory},
      {"server_memory_self_selected", "KiB a client", Bar::kAtMost, &ServerMemorySelfSelected},
      {"client_memory", "bytes a value", Bar::kAtMost, &ClientMemory},
      {"overhead_up", "% of the packed vector", Bar::kAtMost, &OverheadUp},
  };
  return figures;
}

}  // namespace
}  // namespace chorus::bench

int main(int count, char** words) {
  return chorus::bench::PrintAll(chorus::bench::Figures(),
                                 std::span(words, static_cast<size_t>(count)).subspan(1));
}
