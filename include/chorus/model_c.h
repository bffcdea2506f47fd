/* A model that can be run: what was learnt, in the game's hands. */
#pragma once

#include "chorus/common_c.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A copy of a model at one moment, which nothing changes any more. */
typedef struct chorus_model chorus_model;

typedef struct chorus_model_shape {
  uint32_t struct_size;
  uint32_t inputs;     /* features of one example */
  uint32_t outputs;    /* numbers that the last layer gives for it */
  uint32_t reserved;   /* zero */
  uint64_t parameters; /* weights */
  uint64_t round;      /* that began with this model; of a coordinator's, rounds committed */
} chorus_model_shape;

/* Fills `shape`, whose struct_size is set. */
CHORUS_API int32_t chorus_model_get_shape(chorus_model* model, chorus_model_shape* shape);

/* Runs the model: `features` holds whole examples of `inputs` numbers each, `outputs` takes
 * `outputs` numbers for each. Logits where the task's loss is one of logits: the largest is the
 * choice. CHORUS_INVALID_ARGUMENT: the counts do not fit the model. A small model takes some
 * microseconds, on the calling thread. CHORUS_FAILED_PRECONDITION: another thread is running this
 * copy; fetch one copy for each thread. */
CHORUS_API int32_t chorus_model_predict(chorus_model* model, const float* features,
                                        uint64_t features_count, float* outputs,
                                        uint64_t outputs_count);

/* Copies the weights, in layout order, to `weights`, which has room for `count`: as many as the
 * shape's parameters. */
CHORUS_API int32_t chorus_model_copy_weights(chorus_model* model, float* weights, uint64_t count);

CHORUS_API int32_t chorus_model_destroy(chorus_model* model);

#ifdef __cplusplus
}
#endif
