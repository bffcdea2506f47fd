// The figures of the simulator: what it costs beside the training that it simulates.
#pragma once

#include <optional>

#include "bench.h"

namespace chorus::bench {

// Per cent of a plain round that is not local training: a model of 100,180 parameters, five epochs
// over 100 examples in batches of 10, cohorts of 100.
std::optional<Measured> SimulatorOverhead();
// Bytes of resident memory for each of 100,000 virtual clients beyond their data.
std::optional<Measured> VirtualClient();
// Client-trainings for each second of one core, all told: one step on 20 examples, cohorts of 100,
// plain; of the models 784-200-10 and 32-64-10.
std::optional<Measured> TrainingsLarge();
std::optional<Measured> TrainingsSmall();
// Milliseconds of a client-training of 784-200-10, over the 0.3 ms that fused loops would take.
std::optional<Measured> TrainingsOverFloor();

}  // namespace chorus::bench
