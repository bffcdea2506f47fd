// Whole sessions over the in-memory transport, every client masking for real, with what each side
// spends on them. Server and clients run on one thread; the clock and the account of memory are
// switched between them.
#pragma once

#include <cstdint>

#include "aggregation/protocols.h"
#include "chorus/status.h"
#include "crypto/mask.h"

namespace chorus::bench {

struct SessionShape {
  SharingGraph graph = SharingGraph::kComplete;
  uint32_t clients = 0;
  uint64_t dim = 0;      // with 26 bits a value in words of 32
  uint32_t dropped = 0;  // of the clients; they deal shares and then are gone
  uint32_t gamma_ppm = 0;
  uint32_t delta_ppm = 0;
  crypto::MaskPath path = crypto::MaskPath::kEvp;
};

// The fewest uploads that a session of this shape goes on with: what delta leaves of the clients,
// and what the graph asks for.
uint32_t UploadsMin(const SessionShape& shape);

struct SessionCosts {
  double raw_aes_seconds = 0;  // for a byte, over the same time
  double server_seconds = 0;   // CPU, of the whole session
  double unmask_seconds = 0;   // of it, from the last answer to the sum
  uint64_t server_masks = 0;   // expanded by the server
  double client_seconds = 0;   // CPU, the median of those that uploaded
  double client_masks = 0;     // likewise
  size_t server_bytes = 0;     // of memory, at the peak, without the sum itself and the uploads
  size_t client_bytes = 0;     // above its input, at the peak, of the client with most
  double bytes_up = 0;         // by a client that uploaded, the median
  double bytes_down = 0;
  uint64_t packed_bytes = 0;  // of bytes_up, the vector
  aggregation::GraphParams sharing;
};

// An error when the session fails or its sum is wrong.
Result<SessionCosts> RunSession(const SessionShape& shape);

}  // namespace chorus::bench
