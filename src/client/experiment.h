// A client whose training replays from a seed, for the tool's experiments and for simulation.
// Reachable only from inside the library, not from chorus/client.h.
#pragma once

#include <memory>

#include "chorus/client.h"
#include "client/session.h"

namespace chorus::client {

// Client::Start, with training's draws (not keys, masks or jitter) from `seed`.
Result<std::unique_ptr<Client>> StartExperiment(ClientOptions options, Examples examples,
                                                const IdentityVerifier& verifier,
                                                const Clock& clock, LogSink& log,
                                                ExperimentSeed seed);
// Likewise, Client::StartOver.
Result<std::unique_ptr<Client>> StartExperimentOver(std::unique_ptr<Transport> transport,
                                                    ClientOptions options, Examples examples,
                                                    const IdentityVerifier& verifier,
                                                    const Clock& clock, LogSink& log,
                                                    ExperimentSeed seed);

}  // namespace chorus::client
