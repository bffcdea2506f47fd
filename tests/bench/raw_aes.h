// The yardstick of every figure about masks.
#pragma once

namespace chorus::bench {

// CPU seconds for a byte of OpenSSL's AES-256-CTR in 64 KiB buffers, measured over some
// milliseconds.
double RawAesSeconds();

}  // namespace chorus::bench
