-- Chorus for LuaJIT: the C ABI by FFI, in one file. Names and their meaning are those of
-- chorus/client_c.h and chorus/coordinator_c.h.
--   local chorus = require("chorus").load(ffi, "libchorus_client.so.1")
-- The ffi library is handed in, since games that run mods in a sandbox give it to few.
local M = {}

local declarations = [[
typedef struct { const void* data; uint64_t size; } chorus_bytes;
typedef struct chorus_model chorus_model;
typedef struct chorus_client chorus_client;
typedef struct chorus_coordinator chorus_coordinator;
typedef struct {
  uint32_t struct_size, inputs, outputs, reserved; uint64_t parameters, round;
} chorus_model_shape;
typedef struct {
  uint32_t struct_size; int32_t kind; uint64_t round; int32_t status; uint32_t reserved;
  const char* message;
} chorus_client_event;
typedef struct {
  uint32_t struct_size, echo, plaintext, training, defer_on, log_to_stderr;
  uint64_t memory_bytes_max;
  chorus_bytes server, tls_roots_pem, coordinator_key, issuer_key, identity_seed, certificate,
      policy, state_dir;
  void* on_event; void* user;
  chorus_bytes tls_certificate_pem, tls_key_pem;
} chorus_client_config;
typedef struct {
  uint32_t struct_size, inputs; uint64_t count;
  const float* features; const uint32_t* labels; const float* targets;
  uint32_t outputs, reserved;
} chorus_examples;
typedef struct {
  uint32_t struct_size; int32_t kind; uint64_t round; int32_t status;
  uint32_t committed, answered, asked; double accuracy, loss; const char* message;
} chorus_coordinator_event;
typedef struct {
  uint32_t struct_size, plaintext, own_thread, log_to_stderr;
  chorus_bytes task, listen, tls_certificate_pem, tls_key_pem, signing_seed, issuer_key, store_path;
  void* on_event; void* user; uint64_t experiment_seed;
  chorus_bytes client_ca_pem, token_keys, token_issuer, token_audience, web_listen;
} chorus_coordinator_config;
const char* chorus_version(void);
const char* chorus_last_error(void);
const char* chorus_status_message(int32_t code);
int32_t chorus_model_get_shape(chorus_model*, chorus_model_shape*);
int32_t chorus_model_predict(chorus_model*, const float*, uint64_t, float*, uint64_t);
int32_t chorus_model_copy_weights(chorus_model*, float*, uint64_t);
int32_t chorus_model_destroy(chorus_model*);
int32_t chorus_client_config_init(chorus_client_config*, uint32_t);
int32_t chorus_client_create(const chorus_client_config*, chorus_client**);
int32_t chorus_client_add_examples(chorus_client*, const chorus_examples*);
int32_t chorus_client_start(chorus_client*);
int32_t chorus_client_poll(chorus_client*, uint32_t);
int32_t chorus_client_next_event(chorus_client*, chorus_client_event*);
int32_t chorus_client_pause(chorus_client*);
int32_t chorus_client_resume(chorus_client*);
int32_t chorus_client_set_signals(chorus_client*, uint32_t);
int32_t chorus_client_set_token(chorus_client*, const void*, uint64_t);
int32_t chorus_client_stop(chorus_client*);
int32_t chorus_client_fetch_model(chorus_client*, chorus_model**);
int32_t chorus_client_destroy(chorus_client*);
int32_t chorus_coordinator_config_init(chorus_coordinator_config*, uint32_t);
int32_t chorus_coordinator_create(const chorus_coordinator_config*, chorus_coordinator**);
int32_t chorus_coordinator_get_port(chorus_coordinator*, int32_t*);
int32_t chorus_coordinator_get_web_port(chorus_coordinator*, int32_t*);
int32_t chorus_coordinator_set_token_keys(chorus_coordinator*, const void*, uint64_t);
int32_t chorus_coordinator_poll(chorus_coordinator*, uint32_t);
int32_t chorus_coordinator_next_event(chorus_coordinator*, chorus_coordinator_event*);
int32_t chorus_coordinator_fetch_model(chorus_coordinator*, chorus_model**);
int32_t chorus_coordinator_destroy(chorus_coordinator*);
]]

-- Kinds of events, by their numbers.
M.client_events = { [0] = "connected", "disconnected", "invited", "refused", "trained", "uploaded",
  "contributed", "round_lost", "stopped", "equivocation" }
M.coordinator_events = { [0] = "round_began", "step_closed", "round_ended", "task_complete",
  "trouble" }
M.signals = { in_combat = 1, on_battery = 2, hot = 4, metered_network = 8 }

local OK, NOT_FOUND, UNAVAILABLE = 0, 5, 14

-- The bytes of a file in which `chorus keys` wrote a key as hexadecimal digits.
function M.from_hex(text)
  return (text:gsub("%s", ""):gsub("..", function(pair) return string.char(tonumber(pair, 16)) end))
end

function M.load(ffi, path)
  local declared = pcall(ffi.typeof, "chorus_bytes")
  if not declared then ffi.cdef(declarations) end
  local c = ffi.load(path)
  local library = { c = c, version = ffi.string(c.chorus_version()) }

  local function check(code)
    if code == OK then return end
    error(ffi.string(c.chorus_status_message(code)) .. ": " .. ffi.string(c.chorus_last_error()), 3)
  end

  -- Strings are borrowed by the call; Lua keeps them alive, since `options` holds them.
  local function lend(config, options, names)
    for _, name in ipairs(names) do
      local text = options[name]
      if text then
        config[name].data = ffi.cast("const char*", text)
        config[name].size = #text
      end
    end
  end

  local function drain(next_event, handle, kind, names)
    local events = {}
    local raw = ffi.new(kind)
    while true do
      raw.struct_size = ffi.sizeof(kind)
      local code = next_event(handle, raw)
      if code == NOT_FOUND then return events end
      check(code)
      local event = { kind = names[raw.kind], round = tonumber(raw.round), status = raw.status,
        message = ffi.string(raw.message) }
      if kind == "chorus_coordinator_event" then
        event.accuracy, event.committed = raw.accuracy, raw.committed == 1
      end
      events[#events + 1] = event
    end
  end

  local function handle_of(type, out, destroy)
    return ffi.gc(ffi.cast(type, out[0]), destroy)
  end

  local Model = {}
  Model.__index = Model
  local function new_model(out)
    local model = setmetatable({ handle = handle_of("chorus_model*", out, c.chorus_model_destroy) },
      Model)
    local shape = ffi.new("chorus_model_shape")
    shape.struct_size = ffi.sizeof(shape)
    check(c.chorus_model_get_shape(model.handle, shape))
    model.inputs, model.outputs = shape.inputs, shape.outputs
    model.parameters, model.round = tonumber(shape.parameters), tonumber(shape.round)
    return model
  end
  local function array(from, count)
    local list = {}
    for i = 1, count do list[i] = from[i - 1] end
    return list
  end
  -- The outputs for one example, or for several laid end to end.
  function Model:predict(features)
    local given = ffi.new("float[?]", #features, features)
    local count = #features / self.inputs * self.outputs
    local outputs = ffi.new("float[?]", count)
    check(c.chorus_model_predict(self.handle, given, #features, outputs, count))
    return array(outputs, count)
  end
  function Model:weights()
    local weights = ffi.new("float[?]", self.parameters)
    check(c.chorus_model_copy_weights(self.handle, weights, self.parameters))
    return array(weights, self.parameters)
  end

  local Client = {}
  Client.__index = Client
  -- options: echo, plaintext, on_worker (booleans), memory_bytes_max, defer_on, log_to_stderr
  -- (numbers) and the texts of chorus_client_config. defer_on is a sum of M.signals; left out,
  -- all of them.
  function library.client(options)
    local config = ffi.new("chorus_client_config")
    check(c.chorus_client_config_init(config, ffi.sizeof(config)))
    config.echo = options.echo and 1 or 0
    config.plaintext = options.plaintext and 1 or 0
    config.training = options.on_worker and 0 or 1
    config.log_to_stderr = options.log_to_stderr or 0
    if options.defer_on then config.defer_on = options.defer_on end
    if options.memory_bytes_max then config.memory_bytes_max = options.memory_bytes_max end
    lend(config, options, { "server", "tls_roots_pem", "coordinator_key", "issuer_key",
      "identity_seed", "certificate", "policy", "state_dir", "tls_certificate_pem", "tls_key_pem" })
    local out = ffi.new("chorus_client*[1]")
    check(c.chorus_client_create(config, out))
    return setmetatable({ handle = handle_of("chorus_client*", out, c.chorus_client_destroy) }, Client)
  end
  -- `features`: numbers laid end to end, `inputs` for each example; `labels`: one for each, or nil;
  -- `targets`: numbers laid end to end, as many for each example as for any other, or nil.
  function Client:add_examples(inputs, features, labels, targets)
    local count = #features / inputs
    local outputs = targets and #targets / count or 0
    assert(count > 0 and count % 1 == 0, "features must be whole examples, and at least one")
    assert(not labels or #labels == count, "there must be one label for each example")
    assert(not targets or outputs > 0 and outputs % 1 == 0,
      "there must be as many targets for each example")
    local examples = ffi.new("chorus_examples")
    -- Locals keep them alive until the call is over.
    local numbers = ffi.new("float[?]", #features, features)
    local classes = labels and ffi.new("uint32_t[?]", #labels, labels)
    local aims = targets and ffi.new("float[?]", #targets, targets)
    examples.struct_size, examples.inputs, examples.count = ffi.sizeof(examples), inputs, count
    examples.features, examples.labels, examples.targets = numbers, classes, aims
    examples.outputs = outputs
    check(c.chorus_client_add_examples(self.handle, examples))
  end
  function Client:start() check(c.chorus_client_start(self.handle)) end
  -- Once a frame or tick. Trains for at most `budget_us`; gives the events since the last poll.
  function Client:poll(budget_us)
    check(c.chorus_client_poll(self.handle, budget_us))
    return drain(c.chorus_client_next_event, self.handle, "chorus_client_event", M.client_events)
  end
  function Client:pause() check(c.chorus_client_pause(self.handle)) end
  function Client:resume() check(c.chorus_client_resume(self.handle)) end
  function Client:set_signals(bits) check(c.chorus_client_set_signals(self.handle, bits)) end
  -- The session token of the game's own login.
  function Client:set_token(token) check(c.chorus_client_set_token(self.handle, token, #token)) end
  function Client:stop() check(c.chorus_client_stop(self.handle)) end
  -- The model that the latest round began with, or nil while there is none.
  function Client:fetch_model()
    local out = ffi.new("chorus_model*[1]")
    local code = c.chorus_client_fetch_model(self.handle, out)
    if code == NOT_FOUND or code == UNAVAILABLE then return nil end
    check(code)
    return new_model(out)
  end
  function Client:close()
    if not self.handle then return end
    c.chorus_client_destroy(ffi.gc(self.handle, nil))
    self.handle = nil
  end

  local Coordinator = {}
  Coordinator.__index = Coordinator
  -- options: plaintext, own_thread (booleans), experiment_seed, log_to_stderr (numbers) and the
  -- texts of chorus_coordinator_config.
  function library.coordinator(options)
    local config = ffi.new("chorus_coordinator_config")
    check(c.chorus_coordinator_config_init(config, ffi.sizeof(config)))
    config.plaintext = options.plaintext and 1 or 0
    config.own_thread = options.own_thread and 1 or 0
    config.experiment_seed = options.experiment_seed or 0
    config.log_to_stderr = options.log_to_stderr or 0
    lend(config, options, { "task", "listen", "tls_certificate_pem", "tls_key_pem", "signing_seed",
      "issuer_key", "store_path", "client_ca_pem", "token_keys", "token_issuer", "token_audience",
      "web_listen" })
    local out = ffi.new("chorus_coordinator*[1]")
    check(c.chorus_coordinator_create(config, out))
    return setmetatable({ handle = handle_of("chorus_coordinator*", out,
      c.chorus_coordinator_destroy) }, Coordinator)
  end
  function Coordinator:port()
    local port = ffi.new("int32_t[1]")
    check(c.chorus_coordinator_get_port(self.handle, port))
    return port[0]
  end
  function Coordinator:web_port()
    local port = ffi.new("int32_t[1]")
    check(c.chorus_coordinator_get_web_port(self.handle, port))
    return port[0]
  end
  -- The login's new keys, of a coordinator that was made with token_keys.
  function Coordinator:set_token_keys(jwks)
    check(c.chorus_coordinator_set_token_keys(self.handle, jwks, #jwks))
  end
  function Coordinator:poll(budget_us)
    check(c.chorus_coordinator_poll(self.handle, budget_us))
    return drain(c.chorus_coordinator_next_event, self.handle, "chorus_coordinator_event",
      M.coordinator_events)
  end
  function Coordinator:fetch_model()
    local out = ffi.new("chorus_model*[1]")
    check(c.chorus_coordinator_fetch_model(self.handle, out))
    return new_model(out)
  end
  function Coordinator:close()
    if not self.handle then return end
    c.chorus_coordinator_destroy(ffi.gc(self.handle, nil))
    self.handle = nil
  end

  return library
end

return M
