// What `chorus status` tells, as text. Pure: replies in, lines out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "chorus/store.h"
#include "wire/wire.h"

namespace chorus::cli {

// The whole status, once: the lines of `chorus status`.
std::string StatusText(const wire::StatusReply& reply);

// A curve of one character a value, over the range of the values; the last `width` of them.
std::string Sparkline(std::span<const double> values, size_t width);

struct ViewSize {
  size_t columns = 80;
  size_t rows = 24;
};
struct ViewState {
  std::string server = {};
  std::string trouble = {};  // why there is no newer status; empty: this one is new
  bool colour = false;       // with the terminal's escape sequences
  uint64_t heard_s = 0;      // how long ago the status was
};
// One screen of `chorus status --watch`: at most size.rows lines, none wider than size.columns, all
// without their ends.
std::vector<std::string> WatchScreen(const wire::StatusReply& reply, const ViewState& state,
                                     ViewSize size);

// One line for those who follow a log: changes whenever something happened, and only then.
std::string WatchLine(const wire::StatusReply& reply);

// How many columns a text takes: its characters, since ours are all one wide, without escape
// sequences.
size_t ColumnsOf(std::string_view text);

}  // namespace chorus::cli
