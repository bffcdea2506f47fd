// How the C ABI begins a client: a host in another language made one long before, and may try again
// after a start that failed. Reachable only from inside the library, not from chorus/client.h.
#pragma once

#include <cstdint>
#include <memory>

#include "chorus/client.h"
#include "chorus/status.h"

namespace chorus::client {

// What the host said of its game before the client's thread runs.
struct HostState {
  bool paused = false;
  uint32_t signals = 0;  // HostSignals
};

// What of the options a start would refuse before it looks at files or at examples.
Status CheckOptions(const ClientOptions& options);

// Client::Start, held from its first moment where `state` says so. A start that fails has left
// `options` and `examples` as they were; one that succeeds has taken them.
Result<std::unique_ptr<Client>> StartHeld(ClientOptions& options, Examples& examples,
                                          HostState state, const IdentityVerifier& verifier,
                                          const Clock& clock, LogSink& log);

}  // namespace chorus::client
