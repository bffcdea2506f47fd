#include <algorithm>
#include <cstring>

#include "aggregation/protocols.h"

namespace chorus::aggregation {
namespace {

// Keys are uniform, so that part of one stands for it: two of a million share these bytes once in
// 3 * 10^7 days.
uint64_t PartOf(const PublicKey& key) {
  uint64_t part = 0;
  std::memcpy(&part, key.data(), sizeof(part));
  return part;
}

}  // namespace

SeenKeys::SeenKeys(size_t keys_max) : each_max_(std::max<size_t>(1, keys_max / 2)) {}

void SeenKeys::Advance(int64_t day) {
  if (day <= day_) return;
  // Yesterday's keys stay; after a longer gap nothing does.
  before_ = day == day_ + 1 ? std::move(now_) : std::unordered_set<uint64_t>();
  now_.clear();
  day_ = day;
}

bool SeenKeys::Contains(const PublicKey& key) const {
  const uint64_t part = PartOf(key);
  return now_.contains(part) || before_.contains(part);
}

void SeenKeys::Note(const PublicKey& key) {
  if (now_.size() >= each_max_) {
    before_ = std::move(now_);
    now_.clear();
  }
  now_.insert(PartOf(key));
}

}  // namespace chorus::aggregation
