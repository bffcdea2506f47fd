/* The C ABI from C99: the whole life of a client in echo mode, and what is refused. */
#include "chorus/client_c.h"

#include <stdio.h>
#include <string.h>

static int failures = 0;

#define EXPECT(condition)                                                     \
  do {                                                                        \
    if (!(condition)) {                                                       \
      printf("%s:%d: %s does not hold; %s\n", __FILE__, __LINE__, #condition, \
             chorus_last_error());                                            \
      ++failures;                                                             \
    }                                                                         \
  } while (0)

typedef struct Seen {
  chorus_client* client;
  int kinds[32];
  int count;
  char greeting[64];
  int32_t poll_inside;
  int32_t destroy_inside;
  int32_t pause_inside;
} Seen;

static void OnEvent(void* user, const chorus_client_event* event) {
  Seen* seen = user;
  if (seen->count < 32) seen->kinds[seen->count++] = event->kind;
  if (event->kind == CHORUS_CLIENT_CONNECTED) {
    strncpy(seen->greeting, event->message, sizeof seen->greeting - 1);
    seen->poll_inside = chorus_client_poll(seen->client, 10);
    seen->destroy_inside = chorus_client_destroy(seen->client);
    seen->pause_inside = chorus_client_pause(seen->client);
    (void)chorus_client_resume(seen->client);
  }
}

static chorus_bytes Text(const char* text) {
  chorus_bytes bytes;
  bytes.data = text;
  bytes.size = strlen(text);
  return bytes;
}

static void PlaysAWholeRoundInEchoMode(void) {
  static const float kFeatures[] = {1, 2, 3, 5};
  static const uint32_t kLabels[] = {0, 1};
  static const int kStory[] = {CHORUS_CLIENT_CONNECTED,   CHORUS_CLIENT_INVITED,
                               CHORUS_CLIENT_TRAINED,     CHORUS_CLIENT_UPLOADED,
                               CHORUS_CLIENT_CONTRIBUTED, CHORUS_CLIENT_STOPPED};
  chorus_client_config config;
  chorus_examples examples;
  chorus_model* model = NULL;
  chorus_model_shape shape;
  float values[2];
  Seen seen;
  int i;

  memset(&seen, 0, sizeof seen);
  EXPECT(chorus_client_config_init(&config, sizeof config) == CHORUS_OK);
  EXPECT(config.struct_size == sizeof config);
  config.echo = 1;
  config.server = Text("echo.example:7447");
  config.on_event = OnEvent;
  config.user = &seen;
  EXPECT(chorus_client_create(&config, &seen.client) == CHORUS_OK);
  EXPECT(chorus_client_start(seen.client) == CHORUS_FAILED_PRECONDITION);
  EXPECT(strstr(chorus_last_error(), "no examples") != NULL);
  memset(&examples, 0, sizeof examples);
  examples.struct_size = sizeof examples;
  examples.inputs = 2;
  examples.count = 2;
  examples.features = kFeatures;
  examples.labels = kLabels;
  EXPECT(chorus_client_add_examples(seen.client, &examples) == CHORUS_OK);
  EXPECT(chorus_client_poll(seen.client, 10) == CHORUS_FAILED_PRECONDITION);
  EXPECT(chorus_client_start(seen.client) == CHORUS_OK);
  EXPECT(chorus_client_fetch_model(seen.client, &model) == CHORUS_NOT_FOUND);
  for (i = 0; i < 5; ++i) {
    /* Nothing happens while it is paused or a signal defers it. */
    EXPECT(chorus_client_pause(seen.client) == CHORUS_OK);
    EXPECT(chorus_client_poll(seen.client, 10) == CHORUS_OK);
    EXPECT(chorus_client_resume(seen.client) == CHORUS_OK);
    EXPECT(chorus_client_set_signals(seen.client, CHORUS_SIGNAL_IN_COMBAT) == CHORUS_OK);
    EXPECT(chorus_client_poll(seen.client, 10) == CHORUS_OK);
    EXPECT(chorus_client_set_signals(seen.client, 0) == CHORUS_OK);
    EXPECT(seen.count == i);
    EXPECT(chorus_client_poll(seen.client, 10) == CHORUS_OK);
  }
  EXPECT(strcmp(seen.greeting, "echo.example:7447") == 0);
  EXPECT(seen.poll_inside == CHORUS_FAILED_PRECONDITION);
  EXPECT(seen.destroy_inside == CHORUS_FAILED_PRECONDITION);
  EXPECT(seen.pause_inside == CHORUS_OK);

  EXPECT(chorus_client_fetch_model(seen.client, &model) == CHORUS_OK);
  memset(&shape, 0, sizeof shape);
  shape.struct_size = sizeof shape;
  EXPECT(chorus_model_get_shape(model, &shape) == CHORUS_OK);
  EXPECT(shape.inputs == 2 && shape.outputs == 2 && shape.parameters == 2 && shape.round == 1);
  EXPECT(chorus_model_copy_weights(model, values, 2) == CHORUS_OK);
  EXPECT(values[0] == 2.0F && values[1] == 3.5F);
  EXPECT(chorus_model_predict(model, kFeatures, 2, values, 2) == CHORUS_OK);
  EXPECT(values[0] == 1.0F && values[1] == 2.0F);
  EXPECT(chorus_model_predict(model, kFeatures, 3, values, 2) == CHORUS_INVALID_ARGUMENT);
  EXPECT(chorus_model_predict(model, kFeatures, 2, values, 1) == CHORUS_INVALID_ARGUMENT);
  EXPECT(chorus_model_predict(model, NULL, 2, values, 2) == CHORUS_INVALID_ARGUMENT);

  EXPECT(chorus_client_stop(seen.client) == CHORUS_OK);
  EXPECT(chorus_client_poll(seen.client, 10) == CHORUS_OK);
  EXPECT(seen.count == 6);
  for (i = 0; i < 6 && i < seen.count; ++i) EXPECT(seen.kinds[i] == kStory[i]);
  EXPECT(chorus_client_destroy(seen.client) == CHORUS_OK);
  /* A model outlives the client that it came from, and neither ends twice. */
  EXPECT(chorus_model_predict(model, kFeatures, 2, values, 2) == CHORUS_OK);
  EXPECT(chorus_model_destroy(model) == CHORUS_OK);
  EXPECT(chorus_model_destroy(model) == CHORUS_INVALID_ARGUMENT);
  EXPECT(chorus_client_destroy(seen.client) == CHORUS_INVALID_ARGUMENT);
  EXPECT(chorus_client_poll(seen.client, 10) == CHORUS_INVALID_ARGUMENT);
  EXPECT(chorus_client_pause(seen.client) == CHORUS_INVALID_ARGUMENT);
}

static void HandsOverEventsOneByOne(void) {
  static const float kFeatures[] = {1};
  chorus_client_config config;
  chorus_client* client = NULL;
  chorus_examples examples;
  chorus_client_event event;

  EXPECT(chorus_client_config_init(&config, sizeof config) == CHORUS_OK);
  config.echo = 1;
  config.server = Text("here");
  EXPECT(chorus_client_create(&config, &client) == CHORUS_OK);
  memset(&examples, 0, sizeof examples);
  examples.struct_size = sizeof examples;
  examples.inputs = 1;
  examples.count = 1;
  examples.features = kFeatures;
  EXPECT(chorus_client_add_examples(client, &examples) == CHORUS_OK);
  EXPECT(chorus_client_start(client) == CHORUS_OK);
  memset(&event, 0, sizeof event);
  event.struct_size = sizeof event;
  EXPECT(chorus_client_next_event(client, &event) == CHORUS_NOT_FOUND);
  EXPECT(chorus_client_poll(client, 10) == CHORUS_OK);
  EXPECT(chorus_client_poll(client, 10) == CHORUS_OK);
  event.struct_size = 4;
  EXPECT(chorus_client_next_event(client, &event) == CHORUS_INVALID_ARGUMENT);
  event.struct_size = sizeof event;
  EXPECT(chorus_client_next_event(client, &event) == CHORUS_OK);
  EXPECT(event.kind == CHORUS_CLIENT_CONNECTED && strcmp(event.message, "here") == 0);
  EXPECT(chorus_client_next_event(client, &event) == CHORUS_OK);
  EXPECT(event.kind == CHORUS_CLIENT_INVITED && event.round == 1);
  EXPECT(chorus_client_next_event(client, &event) == CHORUS_NOT_FOUND);
  EXPECT(chorus_client_destroy(client) == CHORUS_OK);
}

static void RefusesNullPointers(void) {
  chorus_client_config config;
  EXPECT(chorus_client_config_init(NULL, sizeof config) == CHORUS_INVALID_ARGUMENT);
  EXPECT(chorus_client_create(NULL, NULL) == CHORUS_INVALID_ARGUMENT);
  EXPECT(chorus_client_start(NULL) == CHORUS_INVALID_ARGUMENT);
  EXPECT(chorus_client_poll(NULL, 1) == CHORUS_INVALID_ARGUMENT);
  EXPECT(chorus_client_pause(NULL) == CHORUS_INVALID_ARGUMENT);
  EXPECT(chorus_client_destroy(NULL) == CHORUS_INVALID_ARGUMENT);
  EXPECT(chorus_model_destroy(NULL) == CHORUS_INVALID_ARGUMENT);
  EXPECT(strcmp(chorus_status_message(CHORUS_OK), "no failure") == 0);
  EXPECT(strcmp(chorus_status_message(-7), "no status code") == 0);
}

int main(void) {
  PlaysAWholeRoundInEchoMode();
  HandsOverEventsOneByOne();
  RefusesNullPointers();
  printf(failures == 0 ? "passed\n" : "%d failed\n", failures);
  return failures == 0 ? 0 : 1;
}
