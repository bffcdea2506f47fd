// The examples of one virtual client, out of everybody's.
#pragma once

#include <cstddef>

#include "chorus/client.h"
#include "chorus/simulation.h"

namespace chorus::simulation {

// Into what was another's before, so that its memory is used again. The rows are within `all`.
inline void CopyRows(const Examples& all, const Rows& rows, Examples& one) {
  const auto copy = [&](const auto& from, auto& to) {
    if (from.empty()) return to.clear();
    const size_t each = from.size() / all.count();
    const auto begin = from.begin() + static_cast<ptrdiff_t>(rows.begin * each);
    to.assign(begin, begin + static_cast<ptrdiff_t>(rows.count * each));
  };
  one.inputs = all.inputs;
  copy(all.features, one.features);
  copy(all.labels, one.labels);
  copy(all.targets, one.targets);
}

}  // namespace chorus::simulation
