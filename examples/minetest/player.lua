-- A player's game without its graphics: luajit player.lua BINDING LIBRARY HOST:PORT KEYS STATE SEED
-- It plays, writes down what it did, and trains on that within a millisecond a frame. It goes on
-- playing while it learns; the log never leaves this process.
local ffi = require("ffi")
ffi.cdef("int usleep(unsigned int);")
local binding, path, server, keys, state, seed = unpack(arg)
local chorus = dofile(binding)
local library = chorus.load(ffi, path)

local function read(name)
  local file = assert(io.open(keys .. "/" .. name, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

-- A generator of its own, since players of one seed are to play alike anywhere.
local draw = tonumber(seed) * 7919 + 1
local function chance()
  draw = (draw * 16807) % 2147483647
  return draw / 2147483647
end

-- Some situations, and what this player did in each: as most do, with a slip now and then.
local function play(count)
  local features, labels = {}, {}
  for _ = 1, count do
    local health, near, armed = chance(), chance(), chance() < 0.5 and 0 or 1
    local deed = health < 0.3 and 0 or armed == 1 and near < 0.6 and 1 or 2
    if chance() < 0.03 then deed = math.floor(chance() * 3) end
    features[#features + 1], features[#features + 2], features[#features + 3] = health, near, armed
    labels[#labels + 1] = deed
  end
  return features, labels
end

local client = library.client({
  server = server,
  state_dir = state,
  coordinator_key = chorus.from_hex(read("coordinator.pub")),
  issuer_key = chorus.from_hex(read("issuer.pub")),
  identity_seed = chorus.from_hex(read("identity.key")),
  certificate = read("certificate"),
  tls_roots_pem = read("tls-authority.pem"),
})
client:add_examples(3, play(150))
client:start()

local contributed = 0
local last = os.time() + 240 -- seconds; a real game ends when its player leaves
while os.time() < last do
  for _, event in ipairs(client:poll(1000)) do
    if event.kind == "contributed" then
      contributed = contributed + 1
      client:add_examples(3, play(30))
    elseif event.kind == "round_lost" or event.kind == "refused" then
      print(event.kind .. ": " .. event.message)
    elseif event.kind == "stopped" then
      client:close()
      print("contributed to " .. contributed .. " rounds")
      os.exit(contributed >= 4 and event.status == 0 and 0 or 1)
    end
  end
  ffi.C.usleep(2000)
end
print("four minutes were not enough; contributed to " .. contributed .. " rounds")
os.exit(1)
