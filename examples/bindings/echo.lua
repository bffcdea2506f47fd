-- Tries the Lua binding without a server: luajit echo.lua LIBCHORUS_CLIENT
local here = arg[0]:match("^(.*)/[^/]*$") or "."
package.path = here .. "/?.lua;" .. package.path
local chorus = require("chorus")
local library = chorus.load(require("ffi"), arg[1])

local client = library.client({ echo = true, server = "echo.example:7447" })
local started, why = pcall(client.start, client)
assert(not started and why:find("no examples"), why)
client:add_examples(2, { 1, 2, 3, 5 }, { 0, 1 })
client:start()
client:set_signals(1)
assert(#client:poll(100) == 0)
client:set_signals(0)
local kinds = {}
for _ = 1, 5 do
  for _, event in ipairs(client:poll(100)) do
    kinds[#kinds + 1] = event.kind
    if event.kind == "connected" then assert(event.message == "echo.example:7447") end
  end
end
assert(table.concat(kinds, " ") == "connected invited trained uploaded contributed",
  table.concat(kinds, " "))
local model = client:fetch_model()
assert(model.inputs == 2 and model.outputs == 2 and model.round == 1)
local means = model:weights()
assert(means[1] == 2 and means[2] == 3.5)
local outputs = model:predict({ 0.5, -1, 4, 8 })
assert(#outputs == 4 and outputs[1] == 0.5 and outputs[4] == 8)
client:stop()
assert(client:poll(100)[1].kind == "stopped")
client:close()

-- Only what it is told to defers it, and nothing does when it is told so.
local signals = chorus.signals
for _, defer_on in ipairs({ signals.on_battery, 0 }) do
  client = library.client({ echo = true, defer_on = defer_on, log_to_stderr = 1 })
  client:add_examples(2, { 1, 2, 3, 5 }, nil, { 0.5, 1.5 })
  client:start()
  client:set_signals(signals.in_combat)
  assert(#client:poll(100) == 1)
  client:set_signals(signals.on_battery)
  assert(#client:poll(100) == (defer_on == 0 and 1 or 0))
  client:close()
end
local function refuses(words, call, ...)
  local done, message = pcall(call, ...)
  assert(not done and message:find(words, 1, true), message)
end
refuses("defer_on", library.client, { echo = true, defer_on = 4096 })
client = library.client({ echo = true, memory_bytes_max = 24 })
client:add_examples(2, { 1, 2, 3, 5 }, nil, { 0.5, 1.5 })
refuses("memory_bytes_max", client.add_examples, client, 2, { 1, 2 }, nil, { 1 })
client:close()
client = library.client({ echo = true })
client:add_examples(2, { 1, 2, 3, 5 }, nil, { 0.5, 1.5 })
refuses("another kind", client.add_examples, client, 2, { 1, 2 }, { 0 })
refuses("whole examples", client.add_examples, client, 2, { 1, 2, 3 }, { 0 })
refuses("one label", client.add_examples, client, 2, { 1, 2 }, { 0, 1 })
refuses("as many targets", client.add_examples, client, 1, { 1, 2 }, nil, { 0 })
client:close()
print("Lua binding works with Chorus " .. library.version)
