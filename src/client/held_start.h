// How the C ABI begins a client: a host in another language made one long before, and may try again
// after a start that failed. Reachable only from inside the library, not from chorus/client.h.
#pragma once

#include <cstdint>
#include <memory>

#include "chorus/client.h"
#include "chorus/status.h"

namespace chorus::client {

// Examples that join others are copied, and vectors move as they grow: for a moment there are, at
// most, so many times as many as there will be.
inline constexpr uint64_t kCopiesOfAdded = 3;

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

// Whether examples of so many numbers could be added to a client that runs: before they are copied.
// The failures of Client::AddExamples.
Status CheckRoom(const Client& client, uint64_t numbers);

}  // namespace chorus::client
