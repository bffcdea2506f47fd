/* The client for any language: trains on this device's examples when a coordinator that it trusts
 * invites it, within the frame budget that the host gives. The rules of the ABI are in common_c.h.
 *
 *   chorus_client_config config;
 *   chorus_client_config_init(&config, sizeof config);
 *   config.server = ...;
 *   chorus_client_create(&config, &client);
 *   chorus_client_add_examples(client, &examples);
 *   chorus_client_start(client);
 *   each frame: chorus_client_poll(client, 2000);
 *   now and then: chorus_client_fetch_model(client, &model), chorus_model_predict(model, ...);
 *   chorus_client_destroy(client);
 */
#pragma once

#include "chorus/common_c.h"
#include "chorus/model_c.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct chorus_client chorus_client;

/* chorus_client_event.kind, as chorus::ClientEvent. */
enum {
  CHORUS_CLIENT_CONNECTED = 0,    /* checked in */
  CHORUS_CLIENT_DISCONNECTED = 1, /* will try again; status says why */
  CHORUS_CLIENT_INVITED = 2,      /* to a round */
  CHORUS_CLIENT_REFUSED = 3,      /* by policy, memory or ledger; message is for the player */
  CHORUS_CLIENT_TRAINED = 4,      /* local training done; the model it began with can be fetched */
  CHORUS_CLIENT_UPLOADED = 5,     /* the coordinator has all of this client's update */
  CHORUS_CLIENT_CONTRIBUTED = 6,  /* the update is in the round's sum */
  CHORUS_CLIENT_ROUND_LOST = 7,   /* the round ended without it */
  CHORUS_CLIENT_STOPPED = 8,      /* for good */
  CHORUS_CLIENT_EQUIVOCATION = 9  /* the coordinator signed two rosters for one session */
};

typedef struct chorus_client_event {
  uint32_t struct_size;
  int32_t kind;
  uint64_t round;      /* 0: of none */
  int32_t status;      /* a status code */
  uint32_t reserved;   /* zero */
  const char* message; /* never null; empty when there is nothing to say */
} chorus_client_event;

/* Called inside chorus_client_poll() alone. `event` is borrowed until it returns. */
typedef void (*chorus_client_on_event)(void* user, const chorus_client_event* event);

/* chorus_client_config.training: where local training runs. All else (talking to the coordinator,
 * masking, encoding) runs on one thread of the library's of low priority, in both. */
enum {
  CHORUS_TRAIN_ON_WORKER = 0, /* on that thread; poll only hands over events */
  CHORUS_TRAIN_IN_POLL = 1    /* inside chorus_client_poll(), within its budget */
};

/* Bits of chorus_client_set_signals and chorus_client_config.defer_on. */
enum {
  CHORUS_SIGNAL_IN_COMBAT = 1,
  CHORUS_SIGNAL_ON_BATTERY = 2,
  CHORUS_SIGNAL_HOT = 4,
  CHORUS_SIGNAL_METERED_NETWORK = 8
};

typedef struct chorus_client_config {
  uint32_t struct_size;
  uint32_t echo;      /* 1: no server and no keys; see chorus_client_poll */
  uint32_t plaintext; /* 1: without TLS, for tests on one machine */
  uint32_t training;
  uint32_t defer_on;         /* while the host shows any of these signals, nothing is trained */
  uint32_t log_to_stderr;    /* 0: nothing; 1: warnings; 2: a line for each transition too */
  uint64_t memory_bytes_max; /* tasks and examples that need more are refused; 0: 4 GiB */
  chorus_bytes server;       /* host:port */
  chorus_bytes tls_roots_pem;
  chorus_bytes coordinator_key;    /* 32 bytes, pinned: tasks must be signed by it */
  chorus_bytes issuer_key;         /* 32 bytes: who issued the players' certificates */
  chorus_bytes identity_seed;      /* 32 bytes, this device's secret */
  chorus_bytes certificate;        /* for the key of identity_seed */
  chorus_bytes policy;             /* text of a policy file; none: the defaults */
  chorus_bytes state_dir;          /* must survive restarts of the game; made when absent */
  chorus_client_on_event on_event; /* null: events wait for chorus_client_next_event */
  void* user;                      /* handed to on_event */
  /* This client's own certificate and key, PEM, for a coordinator that asks for one (mutual TLS).
   */
  chorus_bytes tls_certificate_pem;
  chorus_bytes tls_key_pem;
} chorus_client_config;

/* Local examples, as chorus::Examples: at most one of labels and targets is given. */
typedef struct chorus_examples {
  uint32_t struct_size;
  uint32_t inputs;        /* features of one example */
  uint64_t count;         /* examples, at least one */
  const float* features;  /* [count * inputs] */
  const uint32_t* labels; /* [count], or null */
  const float* targets;   /* [count * outputs], or null */
  uint32_t outputs;       /* targets of one example; 0 without */
  uint32_t reserved;      /* zero */
} chorus_examples;

/* Fills `config`, of which the caller knows `struct_size` bytes, with defaults. */
CHORUS_API int32_t chorus_client_config_init(chorus_client_config* config, uint32_t struct_size);

/* A client that does nothing yet. Everything in `config` is copied. CHORUS_INVALID_ARGUMENT: what
 * in the configuration is wrong. */
CHORUS_API int32_t chorus_client_create(const chorus_client_config* config, chorus_client** client);

/* Copies examples; they never leave the device. Before the start and after it: later ones count
 * from the next round on, and have as many features and the same kind of answers as the first.
 * CHORUS_INVALID_ARGUMENT: they do not fit, or one number among them is not finite;
 * CHORUS_RESOURCE_EXHAUSTED: there is no room for them in memory_bytes_max, in which what joins
 * earlier ones counts three times. A call that failed has added nothing. */
CHORUS_API int32_t chorus_client_add_examples(chorus_client* client,
                                              const chorus_examples* examples);

/* Begins to talk to the coordinator. CHORUS_FAILED_PRECONDITION: no examples yet, started before,
 * or another client uses state_dir; CHORUS_INVALID_ARGUMENT: the examples are wrong. What failed
 * can be tried again. */
CHORUS_API int32_t chorus_client_start(chorus_client* client);

/* Once a frame: calls on_event for what happened, then trains for what is left of `budget_us`
 * microseconds when training is to be here. In echo mode each poll with a budget plays the next
 * event of a made-up round, the first with the configured server as its message. */
CHORUS_API int32_t chorus_client_poll(chorus_client* client, uint32_t budget_us);

/* Of a client without on_event: the oldest event that poll collected, of which `event` has room for
 * its struct_size. CHORUS_NOT_FOUND: none is left, which is no failure to speak of. */
CHORUS_API int32_t chorus_client_next_event(chorus_client* client, chorus_client_event* event);

/* From any thread. Training stops within a millisecond, and no call is made until resume. */
CHORUS_API int32_t chorus_client_pause(chorus_client* client);
CHORUS_API int32_t chorus_client_resume(chorus_client* client);
/* From any thread: which signals are on now. */
CHORUS_API int32_t chorus_client_set_signals(chorus_client* client, uint32_t signals);
/* From any thread: the session token of the game's own login, which the next check-ins show to a
 * coordinator that asks for one; copied. Before the start, and whenever the login renews it. */
CHORUS_API int32_t chorus_client_set_token(chorus_client* client, const void* token, uint64_t size);
/* From any thread: ends for good; CHORUS_CLIENT_STOPPED is the last event. */
CHORUS_API int32_t chorus_client_stop(chorus_client* client);

/* A copy of the model that the latest round began with. CHORUS_NOT_FOUND: none yet;
 * CHORUS_UNAVAILABLE: ask again in a later frame. Destroy it; it outlives the client. In echo mode
 * its weights are the mean of each feature that was added, and it predicts its input. */
CHORUS_API int32_t chorus_client_fetch_model(chorus_client* client, chorus_model** model);

/* Stops, waits for the library's thread, and ends the handle. The wait is for the piece of a
 * minibatch that is being trained, some milliseconds in a model of a million parameters; where a
 * frame counts, call chorus_client_stop and destroy once CHORUS_CLIENT_STOPPED has come. */
CHORUS_API int32_t chorus_client_destroy(chorus_client* client);

#ifdef __cplusplus
}
#endif
