// The parts of a task that say what is learnt and how, as its messages. Internal to wire. Writing
// leaves out what is at its default since it was added, so that tasks of before keep their bytes;
// reading takes messages that have passed CheckValues, so that their enumerations are known.
#pragma once

#include <vector>

#include "chorus/model.h"
#include "chorus/status.h"
#include "chorus/task.h"
#include "chorus/v1/types.pb.h"

namespace chorus::wire {

void Write(const ModelSpec& from, v1::Model& to);
Status Read(const v1::Model& from, ModelSpec& to);

void Write(const TrainingSpec& from, v1::Training& to);
void Read(const v1::Training& from, TrainingSpec& to);

// The server's part and the queries.
void WriteServer(const TaskSpec& from, v1::Task& to);
Status ReadServer(const v1::Task& from, TaskSpec& to);

}  // namespace chorus::wire
