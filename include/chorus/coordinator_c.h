/* A coordinator for any language, to live inside a game server. The rules of the ABI are in
 * common_c.h. */
#pragma once

#include "chorus/common_c.h"
#include "chorus/model_c.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct chorus_coordinator chorus_coordinator;

/* chorus_coordinator_event.kind, as chorus::CoordinatorEvent. */
enum {
  CHORUS_COORDINATOR_ROUND_BEGAN = 0,
  CHORUS_COORDINATOR_STEP_CLOSED = 1,
  CHORUS_COORDINATOR_ROUND_ENDED = 2,
  CHORUS_COORDINATOR_TASK_COMPLETE = 3,
  CHORUS_COORDINATOR_TROUBLE = 4
};

typedef struct chorus_coordinator_event {
  uint32_t struct_size;
  int32_t kind;
  uint64_t round;
  int32_t status;      /* of a round that ended, or of the trouble; a status code */
  uint32_t committed;  /* of a round that ended: 1 when its sum is in the model */
  uint32_t answered;   /* of a step: how many */
  uint32_t asked;      /* of how many */
  double accuracy;     /* of the model that the round began with, on what clients held back */
  double loss;         /* likewise */
  const char* message; /* the step's name, or why; never null */
} chorus_coordinator_event;

/* Called inside chorus_coordinator_poll() alone. `event` is borrowed until it returns. */
typedef void (*chorus_coordinator_on_event)(void* user, const chorus_coordinator_event* event);

typedef struct chorus_coordinator_config {
  uint32_t struct_size;
  uint32_t plaintext;     /* 1: without TLS, for tests on one machine */
  uint32_t own_thread;    /* 0: requests are answered inside poll, on the host's tick; 1: beside */
  uint32_t log_to_stderr; /* 0: nothing; 1: warnings; 2: a line for each transition too */
  chorus_bytes task;      /* text of a task file */
  chorus_bytes listen;    /* host:port; port 0 takes a free one */
  chorus_bytes tls_certificate_pem;
  chorus_bytes tls_key_pem;
  chorus_bytes signing_seed;            /* 32 bytes, the coordinator's secret */
  chorus_bytes issuer_key;              /* 32 bytes: who issues the players' certificates */
  chorus_bytes store_path;              /* of the SQLite file; none: in memory, lost at the end */
  chorus_coordinator_on_event on_event; /* null: events wait for chorus_coordinator_next_event */
  void* user;                           /* handed to on_event */
  /* Not 0: the first weights and the selection of clients repeat from it, for experiments. */
  uint64_t experiment_seed;
  /* Who may come, beside whom the issuer knows: see AdmissionOptions in coordinator.h. */
  chorus_bytes client_ca_pem; /* clients must show a TLS certificate of this authority */
  chorus_bytes token_keys;    /* a JWK Set: clients must show a session token of the game's login */
  chorus_bytes token_issuer;  /* with token_keys: what a token's "iss" must be */
  chorus_bytes token_audience; /* with token_keys: what its "aud" must hold */
  chorus_bytes web_listen;     /* host:port of metrics and a page over plain HTTP; none: no such */
} chorus_coordinator_config;

/* Fills `config`, of which the caller knows `struct_size` bytes, with defaults. */
CHORUS_API int32_t chorus_coordinator_config_init(chorus_coordinator_config* config,
                                                  uint32_t struct_size);

/* Loads the task's state from the store, or creates it, and listens. */
CHORUS_API int32_t chorus_coordinator_create(const chorus_coordinator_config* config,
                                             chorus_coordinator** coordinator);

/* The port that it listens on, to `port`. */
CHORUS_API int32_t chorus_coordinator_get_port(chorus_coordinator* coordinator, int32_t* port);

/* Likewise of web_listen; 0 without. */
CHORUS_API int32_t chorus_coordinator_get_web_port(chorus_coordinator* coordinator, int32_t* port);

/* From any thread: takes the keys of this JWK Set in place of those before, when the login has new
 * ones. They stay when it is none that could verify anything. CHORUS_FAILED_PRECONDITION: of a
 * coordinator that was made without token_keys. */
CHORUS_API int32_t chorus_coordinator_set_token_keys(chorus_coordinator* coordinator,
                                                     const void* jwks, uint64_t size);

/* Once a tick: answers requests for about `budget_us` microseconds, unless it has a thread for
 * that, then calls on_event for what happened. A request that is being answered is finished, which
 * takes longer only when it closes a step of a large cohort. */
CHORUS_API int32_t chorus_coordinator_poll(chorus_coordinator* coordinator, uint32_t budget_us);

/* Of a coordinator without on_event: the oldest event that poll collected. CHORUS_NOT_FOUND: none
 * is left. */
CHORUS_API int32_t chorus_coordinator_next_event(chorus_coordinator* coordinator,
                                                 chorus_coordinator_event* event);

/* A copy of the current model, to be destroyed by the caller. */
CHORUS_API int32_t chorus_coordinator_fetch_model(chorus_coordinator* coordinator,
                                                  chorus_model** model);

/* Stops listening and aborts the round in flight; nothing committed is lost. */
CHORUS_API int32_t chorus_coordinator_destroy(chorus_coordinator* coordinator);

#ifdef __cplusplus
}
#endif
