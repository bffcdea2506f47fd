// The status as JSON for the web page. Counts, sizes and words of ours only: who signed what, and
// whose key it is, stays out.
#pragma once

#include <string>
#include <string_view>

#include "coordinator/process_figures.h"
#include "coordinator/status_board.h"

namespace chorus::coordinator {

// As a string of JSON, with its quotes. What is not UTF-8, which wire::Decode lets through nowhere,
// is written as it is.
std::string JsonString(std::string_view text);

std::string StatusJson(const BoardStatus& board, const ProcessFigures& process);

}  // namespace chorus::coordinator
