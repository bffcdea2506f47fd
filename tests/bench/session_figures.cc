#include "session_figures.h"

#include <cstdlib>

#include "session.h"

namespace chorus::bench {
namespace {

using crypto::MaskPath;

constexpr uint64_t kDim = 1'000'000;
constexpr double kAnchorBytesOfSecond = 8.5e9;  // of raw AES, where the bars are for

// Ends the program when the session fails: its figures would mean nothing.
SessionCosts CostsOf(const SessionShape& shape) {
  const Result<SessionCosts> costs = RunSession(shape);
  if (!costs.ok()) {
    std::fprintf(stderr, "a session failed: %s\n", costs.status().message().c_str());
    std::exit(1);
  }
  return *costs;
}

const SessionCosts& Ring(MaskPath path) {
  const auto shape = [](MaskPath of) {
    return SessionShape{.graph = SharingGraph::kHarary,
                        .clients = 512,
                        .dim = kDim,
                        .dropped = 154,
                        .gamma_ppm = 200'000,
                        .delta_ppm = 330'000,
                        .path = of};
  };
  if (path == MaskPath::kEvp) {
    static const SessionCosts evp = CostsOf(shape(MaskPath::kEvp));
    return evp;
  }
  static const SessionCosts fastest = CostsOf(shape(crypto::FastestMaskPath()));
  return fastest;
}

const SessionCosts& SelfSelected() {
  static const SessionCosts costs = CostsOf({.graph = SharingGraph::kSelfSelected,
                                             .clients = 1'000,
                                             .dim = kDim,
                                             .gamma_ppm = 50'000,
                                             .delta_ppm = 100'000,
                                             .path = crypto::FastestMaskPath()});
  return costs;
}

bool HasVaes() { return crypto::FastestMaskPath() != MaskPath::kEvp; }

Measured Scaled(double value, double bar, const SessionCosts& costs) {
  return {value, bar * kAnchorBytesOfSecond * costs.raw_aes_seconds};
}

Measured ServerUnmask(MaskPath path, double bar) {
  const SessionCosts& costs = Ring(path);
  const double elements = static_cast<double>(costs.server_masks * kDim);
  return Scaled(1e9 * costs.unmask_seconds / elements, bar, costs);
}

Measured ClientSession(MaskPath path, double bar) {
  const SessionCosts& costs = Ring(path);
  return Scaled(1e3 * costs.client_seconds, bar, costs);
}

Measured ServerMemoryOf(const SessionCosts& costs, uint32_t clients) {
  const double each = static_cast<double>(costs.server_bytes) / clients;
  return {each / 1024, 6 + 128.0 * costs.sharing.k / 1024};
}

}  // namespace

std::optional<Measured> ServerUnmaskEvp() { return ServerUnmask(MaskPath::kEvp, 0.70); }

std::optional<Measured> ServerUnmaskVaes() {
  if (!HasVaes()) return std::nullopt;
  return ServerUnmask(crypto::FastestMaskPath(), 0.35);
}

std::optional<Measured> ClientSessionEvp() { return ClientSession(MaskPath::kEvp, 110); }

std::optional<Measured> ClientSessionVaes() {
  if (!HasVaes()) return std::nullopt;
  return ClientSession(crypto::FastestMaskPath(), 65);
}

std::optional<Measured> ServerMemory() {
  return ServerMemoryOf(Ring(crypto::FastestMaskPath()), 512);
}

std::optional<Measured> ServerMemorySelfSelected() { return ServerMemoryOf(SelfSelected(), 1'000); }

std::optional<Measured> ClientMemory() {
  const SessionCosts& costs = Ring(crypto::FastestMaskPath());
  return Measured{static_cast<double>(costs.client_bytes) / kDim, 6};
}

std::optional<Measured> OverheadUp() {
  const SessionCosts& costs = SelfSelected();
  const auto packed = static_cast<double>(costs.packed_bytes);
  return Measured{100 * (costs.bytes_up - packed) / packed, 1};
}

}  // namespace chorus::bench
