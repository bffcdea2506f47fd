/* Chorus's client as a class of Godot 3, for GDScript: a GDNative library with one NativeScript.
 *
 *   var client = preload("res://chorus_client.gdns").new()
 *   client.create({"server": "play.example:7447", "identity_seed": bytes, ...})
 *   client.add_examples(2, PoolRealArray([1, 2, 3, 5]), PoolIntArray([0, 1]))
 *   client.start()
 *   in _process: client.poll(2000), then client.next_event() until it gives null
 *
 * Methods and the keys of the configuration are named as in chorus/client_c.h and, where nothing
 * else is said, give a status code; last_error() says in words what was wrong. A configuration
 * holds whole numbers, Strings for text and PoolByteArrays for bytes. Use an object from one
 * thread. It ends when the last reference to it does.
 *
 * What is needed of Godot's API is declared here, so that this file builds with a C compiler and
 * the headers of Chorus alone. Version 1.0 of that API is the same in every Godot 3. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "chorus/client_c.h"

#if defined(__GNUC__)
#define EXPORT __attribute__((visibility("default")))
#else
#define EXPORT __declspec(dllexport)
#endif

/* Godot's values, which only Godot looks into: what counts is their size. */
typedef struct {
  uint64_t opaque[3];
} godot_variant;
typedef struct {
  void* opaque;
} godot_string;
typedef struct {
  void* opaque;
} godot_char_string;
typedef struct {
  void* opaque;
} godot_dictionary;
typedef struct {
  void* opaque;
} godot_pool_array; /* of bytes, ints or reals */
typedef struct godot_read_access godot_read_access;
typedef struct godot_object godot_object;

enum { kGodotString = 4, kGodotPoolByteArray = 20 }; /* of godot_variant_type */

typedef struct godot_api {
  unsigned int type;
  struct {
    unsigned int major, minor;
  } version;
  const struct godot_api* next;
} godot_api;

/* The core API is one long table of functions. Each gap is named after the place at which it ends
 * and counted from the place at which the functions before it do. */
typedef void (*Unused)(void);
typedef struct {
  godot_api head;
  unsigned int extensions_count;
  const godot_api** extensions;

  Unused to_165[165];
  godot_read_access* (*pool_byte_array_read)(const godot_pool_array*);
  Unused to_169[169 - 166];
  int (*pool_byte_array_size)(const godot_pool_array*);
  void (*pool_byte_array_destroy)(godot_pool_array*);
  Unused to_181[181 - 171];
  godot_read_access* (*pool_int_array_read)(const godot_pool_array*);
  Unused to_185[185 - 182];
  int (*pool_int_array_size)(const godot_pool_array*);
  void (*pool_int_array_destroy)(godot_pool_array*);
  void (*pool_real_array_new)(godot_pool_array*);
  Unused to_190[190 - 188];
  void (*pool_real_array_append)(godot_pool_array*, float);
  Unused to_197[197 - 191];
  godot_read_access* (*pool_real_array_read)(const godot_pool_array*);
  Unused to_201[201 - 198];
  int (*pool_real_array_size)(const godot_pool_array*);
  void (*pool_real_array_destroy)(godot_pool_array*);

  Unused to_268[268 - 203];
  const uint8_t* (*pool_byte_array_read_access_ptr)(const godot_read_access*);
  Unused to_270[270 - 269];
  void (*pool_byte_array_read_access_destroy)(godot_read_access*);
  Unused to_272[272 - 271];
  const int* (*pool_int_array_read_access_ptr)(const godot_read_access*);
  Unused to_274[274 - 273];
  void (*pool_int_array_read_access_destroy)(godot_read_access*);
  Unused to_276[276 - 275];
  const float* (*pool_real_array_read_access_ptr)(const godot_read_access*);
  Unused to_278[278 - 277];
  void (*pool_real_array_read_access_destroy)(godot_read_access*);

  Unused to_362[362 - 279];
  void (*dictionary_new)(godot_dictionary*);
  Unused to_364[364 - 363];
  void (*dictionary_destroy)(godot_dictionary*);
  int (*dictionary_size)(const godot_dictionary*);
  Unused to_368[368 - 366];
  bool (*dictionary_has)(const godot_dictionary*, const godot_variant* key);
  Unused to_374[374 - 369];
  godot_variant (*dictionary_get)(const godot_dictionary*, const godot_variant* key);
  void (*dictionary_set)(godot_dictionary*, const godot_variant* key, const godot_variant* value);

  Unused to_507[507 - 376];
  int (*variant_get_type)(const godot_variant*);
  Unused to_509[509 - 508];
  void (*variant_new_nil)(godot_variant*);
  Unused to_512[512 - 510];
  void (*variant_new_int)(godot_variant*, int64_t);
  Unused to_514[514 - 513];
  void (*variant_new_string)(godot_variant*, const godot_string*);
  Unused to_528[528 - 515];
  void (*variant_new_dictionary)(godot_variant*, const godot_dictionary*);
  Unused to_532[532 - 529];
  void (*variant_new_pool_real_array)(godot_variant*, const godot_pool_array*);
  Unused to_539[539 - 533];
  int64_t (*variant_as_int)(const godot_variant*);
  Unused to_541[541 - 540];
  godot_string (*variant_as_string)(const godot_variant*);
  Unused to_555[555 - 542];
  godot_dictionary (*variant_as_dictionary)(const godot_variant*);
  Unused to_557[557 - 556];
  godot_pool_array (*variant_as_pool_byte_array)(const godot_variant*);
  godot_pool_array (*variant_as_pool_int_array)(const godot_variant*);
  godot_pool_array (*variant_as_pool_real_array)(const godot_variant*);
  Unused to_570[570 - 560];
  void (*variant_destroy)(godot_variant*);

  int (*char_string_length)(const godot_char_string*);
  const char* (*char_string_get_data)(const godot_char_string*);
  void (*char_string_destroy)(godot_char_string*);
  Unused to_678[678 - 574];
  godot_char_string (*string_utf8)(const godot_string*);
  Unused to_681[681 - 679];
  godot_string (*string_chars_to_utf8)(const char*);
  Unused to_721[721 - 682];
  void (*string_destroy)(godot_string*);
  Unused to_741[741 - 722];
  void (*print_error)(const char* description, const char* function, const char* file, int line);
} godot_core_api;

typedef struct {
  void* (*create)(godot_object*, void* method_data);
  void* method_data;
  void (*free_method_data)(void*);
} godot_instance_create;
typedef struct {
  void (*destroy)(godot_object*, void* method_data, void* user_data);
  void* method_data;
  void (*free_method_data)(void*);
} godot_instance_destroy;
typedef struct {
  godot_variant (*method)(godot_object*, void* method_data, void* user_data, int count,
                          godot_variant** arguments);
  void* method_data;
  void (*free_method_data)(void*);
} godot_instance_method;
typedef struct {
  int rpc_mode;
} godot_method_attributes;

enum { kGodotNativeScript = 1 }; /* godot_api.type of this extension */
typedef struct {
  godot_api head;
  void (*register_class)(void* handle, const char* name, const char* base, godot_instance_create,
                         godot_instance_destroy);
  Unused register_tool_class;
  void (*register_method)(void* handle, const char* class_name, const char* name,
                          godot_method_attributes, godot_instance_method);
} godot_nativescript_api;

typedef struct {
  bool in_editor;
  uint64_t api_hashes[3];
  Unused report_version_mismatch;
  Unused report_loading_error;
  godot_object* library;
  const godot_core_api* core;
} godot_init_options;

/* Set once by Godot, before any object is made. */
static const godot_core_api* godot;
static const godot_nativescript_api* nativescript;

/* One object of the class. */
typedef struct Player {
  chorus_client* client;
  chorus_model* model;
} Player;

static godot_variant Nil(void) {
  godot_variant made;
  godot->variant_new_nil(&made);
  return made;
}

static godot_variant Integer(int64_t value) {
  godot_variant made;
  godot->variant_new_int(&made, value);
  return made;
}

static godot_variant Text(const char* utf8) {
  godot_string string = godot->string_chars_to_utf8(utf8);
  godot_variant made;
  godot->variant_new_string(&made, &string);
  godot->string_destroy(&string);
  return made;
}

/* Of a mistake in the script, which chorus_last_error() does not know: Godot's console does. */
static godot_variant Refuse(const char* why, const char* method) {
  godot->print_error(why, method, "chorus_gdnative.c", __LINE__);
  return Integer(CHORUS_INVALID_ARGUMENT);
}

/* A copy that is the caller's to free, of the bytes or the text in `value`. Without memory for it
 * the size stays, which chorus_client_create() refuses. */
static chorus_bytes CopyBytes(const godot_variant* value) {
  chorus_bytes bytes = {NULL, 0};
  void* copy = NULL;
  if (godot->variant_get_type(value) == kGodotString) {
    godot_string string = godot->variant_as_string(value);
    godot_char_string utf8 = godot->string_utf8(&string);
    bytes.size = (uint64_t)godot->char_string_length(&utf8);
    copy = malloc(bytes.size + 1);
    if (copy != NULL) memcpy(copy, godot->char_string_get_data(&utf8), bytes.size);
    godot->char_string_destroy(&utf8);
    godot->string_destroy(&string);
  } else {
    godot_pool_array array = godot->variant_as_pool_byte_array(value);
    godot_read_access* access = godot->pool_byte_array_read(&array);
    bytes.size = (uint64_t)godot->pool_byte_array_size(&array);
    copy = malloc(bytes.size + 1);
    if (copy != NULL && bytes.size != 0) {
      memcpy(copy, godot->pool_byte_array_read_access_ptr(access), bytes.size);
    }
    godot->pool_byte_array_read_access_destroy(access);
    godot->pool_byte_array_destroy(&array);
  }
  bytes.data = copy;
  return bytes;
}

/* The fields of chorus_client_config that a script can set, by the keys of its dictionary. */
enum { kNumber32, kNumber64, kBytes };
static const struct Field {
  const char* name;
  int kind;
  size_t offset;
} kFields[] = {
#define FIELD(name, kind) \
  { #name, kind, offsetof(chorus_client_config, name) }
    FIELD(echo, kNumber32),     FIELD(plaintext, kNumber32),     FIELD(training, kNumber32),
    FIELD(defer_on, kNumber32), FIELD(log_to_stderr, kNumber32), FIELD(memory_bytes_max, kNumber64),
    FIELD(server, kBytes),      FIELD(tls_roots_pem, kBytes),    FIELD(coordinator_key, kBytes),
    FIELD(issuer_key, kBytes),  FIELD(identity_seed, kBytes),    FIELD(certificate, kBytes),
    FIELD(policy, kBytes),      FIELD(state_dir, kBytes),        FIELD(tls_certificate_pem, kBytes),
    FIELD(tls_key_pem, kBytes),
#undef FIELD
};
enum { kFieldsCount = sizeof kFields / sizeof kFields[0] };

/* Sets the field from `given`. False: it is not there. */
static bool SetField(chorus_client_config* config, const struct Field* field,
                     const godot_dictionary* given) {
  void* place = (char*)config + field->offset;
  godot_variant key = Text(field->name);
  bool found = godot->dictionary_has(given, &key);
  if (found) {
    godot_variant value = godot->dictionary_get(given, &key);
    if (field->kind == kNumber32) *(uint32_t*)place = (uint32_t)godot->variant_as_int(&value);
    if (field->kind == kNumber64) *(uint64_t*)place = (uint64_t)godot->variant_as_int(&value);
    if (field->kind == kBytes) *(chorus_bytes*)place = CopyBytes(&value);
    godot->variant_destroy(&value);
  }
  godot->variant_destroy(&key);
  return found;
}

static godot_variant Create(Player* player, godot_variant** arguments) {
  godot_dictionary given;
  chorus_client_config config;
  chorus_client* client = NULL;
  int32_t code = chorus_client_config_init(&config, sizeof config);
  int unknown;
  int i;
  if (player->client != NULL) return Refuse("the client was created before", "create");
  if (code != CHORUS_OK) return Integer(code);
  config.training = CHORUS_TRAIN_IN_POLL;
  given = godot->variant_as_dictionary(arguments[0]);
  /* A misspelt key would otherwise be a default that nobody asked for. */
  unknown = godot->dictionary_size(&given);
  for (i = 0; i < kFieldsCount; ++i) unknown -= SetField(&config, &kFields[i], &given);
  godot->dictionary_destroy(&given);
  if (unknown == 0) code = chorus_client_create(&config, &client);
  for (i = 0; i < kFieldsCount; ++i) {
    if (kFields[i].kind != kBytes) continue;
    free((void*)((chorus_bytes*)(void*)((char*)&config + kFields[i].offset))->data);
  }
  if (unknown != 0) return Refuse("the configuration has a key that is no field", "create");
  player->client = client;
  return Integer(code);
}

static godot_variant AddExamples(Player* player, godot_variant** arguments) {
  int64_t inputs = godot->variant_as_int(arguments[0]);
  godot_pool_array features = godot->variant_as_pool_real_array(arguments[1]);
  godot_pool_array labels = godot->variant_as_pool_int_array(arguments[2]);
  int64_t count = godot->pool_int_array_size(&labels);
  bool fits = inputs > 0 && inputs <= UINT32_MAX && count > 0 &&
              godot->pool_real_array_size(&features) % inputs == 0 &&
              godot->pool_real_array_size(&features) / inputs == count;
  int32_t code = CHORUS_INVALID_ARGUMENT;
  if (fits) {
    godot_read_access* features_access = godot->pool_real_array_read(&features);
    godot_read_access* labels_access = godot->pool_int_array_read(&labels);
    chorus_examples examples;
    memset(&examples, 0, sizeof examples);
    examples.struct_size = sizeof examples;
    examples.inputs = (uint32_t)inputs;
    examples.count = (uint64_t)count;
    examples.features = godot->pool_real_array_read_access_ptr(features_access);
    examples.labels = (const uint32_t*)godot->pool_int_array_read_access_ptr(labels_access);
    code = chorus_client_add_examples(player->client, &examples);
    godot->pool_int_array_read_access_destroy(labels_access);
    godot->pool_real_array_read_access_destroy(features_access);
  }
  godot->pool_int_array_destroy(&labels);
  godot->pool_real_array_destroy(&features);
  if (!fits) return Refuse("there must be one label and `inputs` features each", "add_examples");
  return Integer(code);
}

static godot_variant Start(Player* player, godot_variant** arguments) {
  (void)arguments;
  return Integer(chorus_client_start(player->client));
}

static godot_variant Poll(Player* player, godot_variant** arguments) {
  int64_t budget_us = godot->variant_as_int(arguments[0]);
  if (budget_us < 0 || budget_us > UINT32_MAX) return Refuse("no such budget", "poll");
  return Integer(chorus_client_poll(player->client, (uint32_t)budget_us));
}

static void Set(godot_dictionary* dictionary, const char* name, godot_variant value) {
  godot_variant key = Text(name);
  godot->dictionary_set(dictionary, &key, &value);
  godot->variant_destroy(&key);
  godot->variant_destroy(&value);
}

/* A dictionary with kind, round, status and message, or null when no event is left. */
static godot_variant NextEvent(Player* player, godot_variant** arguments) {
  chorus_client_event event;
  godot_dictionary dictionary;
  godot_variant made;
  (void)arguments;
  memset(&event, 0, sizeof event);
  event.struct_size = sizeof event;
  if (chorus_client_next_event(player->client, &event) != CHORUS_OK) return Nil();
  godot->dictionary_new(&dictionary);
  Set(&dictionary, "kind", Integer(event.kind));
  Set(&dictionary, "round", Integer((int64_t)event.round));
  Set(&dictionary, "status", Integer(event.status));
  Set(&dictionary, "message", Text(event.message));
  godot->variant_new_dictionary(&made, &dictionary);
  godot->dictionary_destroy(&dictionary);
  return made;
}

static godot_variant SetSignals(Player* player, godot_variant** arguments) {
  uint32_t signals = (uint32_t)godot->variant_as_int(arguments[0]);
  return Integer(chorus_client_set_signals(player->client, signals));
}

/* Keeps the model for predict, in place of the one before. */
static godot_variant FetchModel(Player* player, godot_variant** arguments) {
  chorus_model* model = NULL;
  int32_t code = chorus_client_fetch_model(player->client, &model);
  (void)arguments;
  if (code == CHORUS_OK) {
    if (player->model != NULL) chorus_model_destroy(player->model);
    player->model = model;
  }
  return Integer(code);
}

/* The outputs for the features of one example, or null: there is no model, or it has other inputs.
 */
static godot_variant Predict(Player* player, godot_variant** arguments) {
  godot_pool_array features = godot->variant_as_pool_real_array(arguments[0]);
  godot_read_access* access = godot->pool_real_array_read(&features);
  godot_variant made = Nil();
  chorus_model_shape shape;
  float* outputs = NULL;
  memset(&shape, 0, sizeof shape);
  shape.struct_size = sizeof shape;
  if (chorus_model_get_shape(player->model, &shape) == CHORUS_OK) {
    outputs = malloc(shape.outputs * sizeof *outputs);
  }
  if (outputs != NULL &&
      chorus_model_predict(player->model, godot->pool_real_array_read_access_ptr(access),
                           (uint64_t)godot->pool_real_array_size(&features), outputs,
                           shape.outputs) == CHORUS_OK) {
    godot_pool_array array;
    uint32_t i;
    godot->pool_real_array_new(&array);
    for (i = 0; i < shape.outputs; ++i) godot->pool_real_array_append(&array, outputs[i]);
    godot->variant_destroy(&made);
    godot->variant_new_pool_real_array(&made, &array);
    godot->pool_real_array_destroy(&array);
  }
  free(outputs);
  godot->pool_real_array_read_access_destroy(access);
  godot->pool_real_array_destroy(&features);
  return made;
}

static godot_variant Stop(Player* player, godot_variant** arguments) {
  (void)arguments;
  return Integer(chorus_client_stop(player->client));
}

static godot_variant LastError(Player* player, godot_variant** arguments) {
  (void)player;
  (void)arguments;
  return Text(chorus_last_error());
}

typedef struct Method {
  const char* name;
  int arguments_count;
  godot_variant (*function)(Player*, godot_variant** arguments);
} Method;
static const Method kMethods[] = {
    {"create", 1, Create},
    {"add_examples", 3, AddExamples},
    {"start", 0, Start},
    {"poll", 1, Poll},
    {"next_event", 0, NextEvent},
    {"set_signals", 1, SetSignals},
    {"fetch_model", 0, FetchModel},
    {"predict", 1, Predict},
    {"stop", 0, Stop},
    {"last_error", 0, LastError},
};

/* Godot calls every method here; which one, and how many arguments it takes, is in the data. */
static godot_variant CallMethod(godot_object* object, void* method_data, void* user_data, int count,
                                godot_variant** arguments) {
  const Method* method = method_data;
  (void)object;
  if (user_data == NULL) return Refuse("out of memory", method->name);
  if (count != method->arguments_count) return Refuse("wrong number of arguments", method->name);
  return method->function(user_data, arguments);
}

static void* NewPlayer(godot_object* object, void* method_data) {
  (void)object;
  (void)method_data;
  return calloc(1, sizeof(Player));
}

static void EndPlayer(godot_object* object, void* method_data, void* user_data) {
  Player* player = user_data;
  (void)object;
  (void)method_data;
  if (player == NULL) return;
  if (player->model != NULL) chorus_model_destroy(player->model);
  if (player->client != NULL) chorus_client_destroy(player->client);
  free(player);
}

EXPORT void godot_gdnative_init(const godot_init_options* options) {
  unsigned int i;
  godot = options->core;
  for (i = 0; i < godot->extensions_count; ++i) {
    if (godot->extensions[i]->type != kGodotNativeScript) continue;
    nativescript = (const godot_nativescript_api*)(const void*)godot->extensions[i];
  }
}

EXPORT void godot_gdnative_terminate(void* options) { (void)options; }

EXPORT void godot_nativescript_init(void* handle) {
  static const char kClass[] = "ChorusClient";
  godot_instance_create create = {NewPlayer, NULL, NULL};
  godot_instance_destroy destroy = {EndPlayer, NULL, NULL};
  size_t i;
  if (nativescript == NULL) return;
  nativescript->register_class(handle, kClass, "Reference", create, destroy);
  for (i = 0; i < sizeof kMethods / sizeof kMethods[0]; ++i) {
    godot_method_attributes attributes = {0};
    godot_instance_method method = {CallMethod, (void*)&kMethods[i], NULL};
    nativescript->register_method(handle, kClass, kMethods[i].name, attributes, method);
  }
}
