// Small graphs in the place of the library's: a test that links this file gets these tables and
// not those of graph_table.cc, which the linker then leaves in the archive. Every size from 5 on is
// in them, with six neighbours at most, so that attacks on the graphs of large cohorts take
// milliseconds. One colluder among the neighbours of a client is borne, two under the largest
// gamma: k + X < 2t as in the real tables. What a random choice of neighbours adds to that, the
// `a` of the real tables, is beyond so small a graph, and `a` here is t - X + 1.
#include "aggregation/graph.h"

namespace chorus::aggregation {
namespace {

constexpr uint32_t kFirstSize = 5;

template <size_t kRows>
std::array<GraphRow, kRows> SmallTable() {
  std::array<GraphRow, kRows> table{};
  for (uint32_t i = 0; i < kRows; ++i) {
    table[i].n = kFirstSize + i;
    const auto k = static_cast<uint16_t>(table[i].n < 8 ? 4 : 6);
    for (size_t column = 0; column < table[i].entries.size(); ++column) {
      const uint16_t corrupt = column / kTableDeltasPpm.size() == 2 ? 2 : 1;
      const auto t = static_cast<uint16_t>((k + corrupt) / 2 + 1);
      table[i].entries[column] = {k, t, static_cast<uint16_t>(t - corrupt + 1)};
    }
  }
  return table;
}

}  // namespace

const std::array<GraphRow, kSelfSelectedTableRows> kSelfSelectedTable =
    SmallTable<kSelfSelectedTableRows>();
const std::array<GraphRow, kHararyTableRows> kHararyTable = SmallTable<kHararyTableRows>();

}  // namespace chorus::aggregation
