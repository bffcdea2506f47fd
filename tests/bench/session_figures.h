// The figures of whole sessions, for the table of secagg_bench.cc.
#pragma once

#include <optional>

#include "bench.h"

namespace chorus::bench {

// One session of 512 on the Harary ring at gamma .20 and delta .33, 1,000,000 values, 30 % dropped
// after dealing shares. Their bars are for a core on which OpenSSL's AES-256-CTR makes 8.5 GB/s and
// are scaled by what it makes here, in the same run.
std::optional<Measured> ServerUnmaskEvp();   // ns for an element of a mask
std::optional<Measured> ServerUnmaskVaes();  // likewise
std::optional<Measured> ClientSessionEvp();  // ms
std::optional<Measured> ClientSessionVaes();
std::optional<Measured> ServerMemory();  // KB a client
std::optional<Measured> ClientMemory();  // bytes a value
// The same of one self-selected session of 1,000 at gamma .05 and delta .10, nobody dropped.
std::optional<Measured> ServerMemorySelfSelected();
std::optional<Measured> OverheadUp();  // % of the packed vector

}  // namespace chorus::bench
