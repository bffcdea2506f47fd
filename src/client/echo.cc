#include "client/echo.h"

#include <array>
#include <cstddef>

namespace chorus::client {

ClientEvent Echo::Next() {
  using Kind = ClientEvent::Kind;
  static constexpr std::array kRound = {Kind::kInvited, Kind::kTrained, Kind::kUploaded,
                                        Kind::kContributed};
  const uint64_t step = steps_++;
  if (step == 0) return {.kind = Kind::kConnected, .round = 0, .status = OkStatus()};
  round_ = (step - 1) / kRound.size() + 1;
  return {.kind = kRound[(step - 1) % kRound.size()], .round = round_, .status = OkStatus()};
}

void Echo::Add(const Examples& examples) {
  sums_.resize(examples.inputs);
  for (size_t i = 0; i < examples.features.size(); ++i)
    sums_[i % examples.inputs] += static_cast<double>(examples.features[i]);
  count_ += static_cast<double>(examples.count());
}

Weights Echo::Means() const {
  Weights means;
  means.reserve(sums_.size());
  for (const double sum : sums_) means.push_back(static_cast<float>(sum / count_));
  return means;
}

}  // namespace chorus::client
