/* A stranger's program in C against the installed shared object: an echo tells the story of a round
 * without server or keys. */
#include <chorus/client_c.h>
#include <stdio.h>
#include <string.h>

static int Failed(const char* what) {
  fprintf(stderr, "%s: %s\n", what, chorus_last_error());
  return 1;
}

int main(void) {
  static const char kGreeting[] = "echo.example:7447";
  static const float kFeatures[] = {1, 2, 3, 5};
  static const uint32_t kLabels[] = {0, 1};
  chorus_client_config config;
  chorus_client* client = NULL;
  chorus_examples examples;
  chorus_client_event event;
  int i;

  if (chorus_client_config_init(&config, sizeof config) != CHORUS_OK) return Failed("init");
  config.echo = 1;
  config.server.data = kGreeting;
  config.server.size = strlen(kGreeting);
  if (chorus_client_create(&config, &client) != CHORUS_OK) return Failed("create");
  memset(&examples, 0, sizeof examples);
  examples.struct_size = sizeof examples;
  examples.inputs = 2;
  examples.count = 2;
  examples.features = kFeatures;
  examples.labels = kLabels;
  if (chorus_client_add_examples(client, &examples) != CHORUS_OK) return Failed("add_examples");
  if (chorus_client_start(client) != CHORUS_OK) return Failed("start");
  for (i = CHORUS_CLIENT_CONNECTED; i != CHORUS_CLIENT_CONTRIBUTED; i = event.kind) {
    if (chorus_client_poll(client, 100) != CHORUS_OK) return Failed("poll");
    memset(&event, 0, sizeof event);
    event.struct_size = sizeof event;
    if (chorus_client_next_event(client, &event) != CHORUS_OK) return Failed("next_event");
    printf("event %d of round %u: %s\n", (int)event.kind, (unsigned)event.round, event.message);
  }
  return chorus_client_destroy(client) == CHORUS_OK ? 0 : Failed("destroy");
}
