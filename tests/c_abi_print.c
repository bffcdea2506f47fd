/* Prints what a program compiled against the C headers takes for granted: sizes, offsets, numbers.
 * c_abi.sh compares it with what the first version's programs took for granted. */
#include <stddef.h>
#include <stdio.h>

#include "chorus/client_c.h"
#include "chorus/coordinator_c.h"

#define SIZE(type) printf("size " #type " %u\n", (unsigned)sizeof(type))
#define FIELD(type, field)                                                      \
  printf("field " #type "." #field " %u %u\n", (unsigned)offsetof(type, field), \
         (unsigned)sizeof(((type*)0)->field))
#define CODE(name) printf("code " #name " %d\n", (int)(name))

static void PrintBytes(void) {
  SIZE(chorus_bytes);
  FIELD(chorus_bytes, data);
  FIELD(chorus_bytes, size);
}

static void PrintModelShape(void) {
  SIZE(chorus_model_shape);
  FIELD(chorus_model_shape, struct_size);
  FIELD(chorus_model_shape, inputs);
  FIELD(chorus_model_shape, outputs);
  FIELD(chorus_model_shape, reserved);
  FIELD(chorus_model_shape, parameters);
  FIELD(chorus_model_shape, round);
}

static void PrintClientEvent(void) {
  SIZE(chorus_client_event);
  FIELD(chorus_client_event, struct_size);
  FIELD(chorus_client_event, kind);
  FIELD(chorus_client_event, round);
  FIELD(chorus_client_event, status);
  FIELD(chorus_client_event, reserved);
  FIELD(chorus_client_event, message);
}

static void PrintClientConfig(void) {
  SIZE(chorus_client_config);
  FIELD(chorus_client_config, struct_size);
  FIELD(chorus_client_config, echo);
  FIELD(chorus_client_config, plaintext);
  FIELD(chorus_client_config, training);
  FIELD(chorus_client_config, defer_on);
  FIELD(chorus_client_config, log_to_stderr);
  FIELD(chorus_client_config, memory_bytes_max);
  FIELD(chorus_client_config, server);
  FIELD(chorus_client_config, tls_roots_pem);
  FIELD(chorus_client_config, coordinator_key);
  FIELD(chorus_client_config, issuer_key);
  FIELD(chorus_client_config, identity_seed);
  FIELD(chorus_client_config, certificate);
  FIELD(chorus_client_config, policy);
  FIELD(chorus_client_config, state_dir);
  FIELD(chorus_client_config, on_event);
  FIELD(chorus_client_config, user);
  FIELD(chorus_client_config, tls_certificate_pem);
  FIELD(chorus_client_config, tls_key_pem);
}

static void PrintExamples(void) {
  SIZE(chorus_examples);
  FIELD(chorus_examples, struct_size);
  FIELD(chorus_examples, inputs);
  FIELD(chorus_examples, count);
  FIELD(chorus_examples, features);
  FIELD(chorus_examples, labels);
  FIELD(chorus_examples, targets);
  FIELD(chorus_examples, outputs);
  FIELD(chorus_examples, reserved);
}

static void PrintCoordinatorEvent(void) {
  SIZE(chorus_coordinator_event);
  FIELD(chorus_coordinator_event, struct_size);
  FIELD(chorus_coordinator_event, kind);
  FIELD(chorus_coordinator_event, round);
  FIELD(chorus_coordinator_event, status);
  FIELD(chorus_coordinator_event, committed);
  FIELD(chorus_coordinator_event, answered);
  FIELD(chorus_coordinator_event, asked);
  FIELD(chorus_coordinator_event, accuracy);
  FIELD(chorus_coordinator_event, loss);
  FIELD(chorus_coordinator_event, message);
}

static void PrintCoordinatorConfig(void) {
  SIZE(chorus_coordinator_config);
  FIELD(chorus_coordinator_config, struct_size);
  FIELD(chorus_coordinator_config, plaintext);
  FIELD(chorus_coordinator_config, own_thread);
  FIELD(chorus_coordinator_config, log_to_stderr);
  FIELD(chorus_coordinator_config, task);
  FIELD(chorus_coordinator_config, listen);
  FIELD(chorus_coordinator_config, tls_certificate_pem);
  FIELD(chorus_coordinator_config, tls_key_pem);
  FIELD(chorus_coordinator_config, signing_seed);
  FIELD(chorus_coordinator_config, issuer_key);
  FIELD(chorus_coordinator_config, store_path);
  FIELD(chorus_coordinator_config, on_event);
  FIELD(chorus_coordinator_config, user);
  FIELD(chorus_coordinator_config, experiment_seed);
  FIELD(chorus_coordinator_config, client_ca_pem);
  FIELD(chorus_coordinator_config, token_keys);
  FIELD(chorus_coordinator_config, token_issuer);
  FIELD(chorus_coordinator_config, token_audience);
  FIELD(chorus_coordinator_config, web_listen);
}

static void PrintCodes(void) {
  CODE(CHORUS_OK);
  CODE(CHORUS_CANCELLED);
  CODE(CHORUS_UNKNOWN);
  CODE(CHORUS_INVALID_ARGUMENT);
  CODE(CHORUS_DEADLINE_EXCEEDED);
  CODE(CHORUS_NOT_FOUND);
  CODE(CHORUS_ALREADY_EXISTS);
  CODE(CHORUS_PERMISSION_DENIED);
  CODE(CHORUS_RESOURCE_EXHAUSTED);
  CODE(CHORUS_FAILED_PRECONDITION);
  CODE(CHORUS_ABORTED);
  CODE(CHORUS_OUT_OF_RANGE);
  CODE(CHORUS_UNIMPLEMENTED);
  CODE(CHORUS_INTERNAL);
  CODE(CHORUS_UNAVAILABLE);
  CODE(CHORUS_DATA_LOSS);
  CODE(CHORUS_UNAUTHENTICATED);
  CODE(CHORUS_CLIENT_CONNECTED);
  CODE(CHORUS_CLIENT_DISCONNECTED);
  CODE(CHORUS_CLIENT_INVITED);
  CODE(CHORUS_CLIENT_REFUSED);
  CODE(CHORUS_CLIENT_TRAINED);
  CODE(CHORUS_CLIENT_UPLOADED);
  CODE(CHORUS_CLIENT_CONTRIBUTED);
  CODE(CHORUS_CLIENT_ROUND_LOST);
  CODE(CHORUS_CLIENT_STOPPED);
  CODE(CHORUS_CLIENT_EQUIVOCATION);
  CODE(CHORUS_TRAIN_ON_WORKER);
  CODE(CHORUS_TRAIN_IN_POLL);
  CODE(CHORUS_SIGNAL_IN_COMBAT);
  CODE(CHORUS_SIGNAL_ON_BATTERY);
  CODE(CHORUS_SIGNAL_HOT);
  CODE(CHORUS_SIGNAL_METERED_NETWORK);
  CODE(CHORUS_COORDINATOR_ROUND_BEGAN);
  CODE(CHORUS_COORDINATOR_STEP_CLOSED);
  CODE(CHORUS_COORDINATOR_ROUND_ENDED);
  CODE(CHORUS_COORDINATOR_TASK_COMPLETE);
  CODE(CHORUS_COORDINATOR_TROUBLE);
}

int main(void) {
  PrintBytes();
  PrintModelShape();
  PrintClientEvent();
  PrintClientConfig();
  PrintExamples();
  PrintCoordinatorEvent();
  PrintCoordinatorConfig();
  PrintCodes();
  return 0;
}
