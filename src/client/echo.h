// A client without a coordinator, for those who bind the C ABI: it plays made-up rounds.
#pragma once

#include <cstdint>
#include <vector>

#include "chorus/client.h"

namespace chorus::client {

// What echo mode answers with; thread-compatible.
class Echo {
 public:
  // The next event of the story: connected, then for each round from 1 invited, trained, uploaded
  // and contributed.
  ClientEvent Next();
  void Add(const Examples& examples);
  bool has_examples() const { return count_ > 0; }
  uint64_t round() const { return round_; }
  // The mean of each feature added.
  Weights Means() const;

 private:
  uint64_t steps_ = 0;
  uint64_t round_ = 0;
  std::vector<double> sums_;  // [inputs]
  double count_ = 0;
};

}  // namespace chorus::client
