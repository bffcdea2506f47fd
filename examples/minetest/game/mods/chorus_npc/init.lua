-- Guards that learn from players. A guard sees its health, how near the wolf is and whether it is
-- armed, and flees, fights or trades. What to do is learnt from the players' own action logs, which
-- stay in their games; this server adds up what they learnt and cannot read any single part of it.
-- The coordinator runs inside the server's tick: two milliseconds of each step.
--
-- Settings of the world: chorus_npc.library and chorus_npc.binding (the shared object and the Lua
-- binding), chorus_npc.keys (a folder of `chorus keys init`), chorus_npc.out (where the port, the
-- curve and its picture go), and for experiments chorus_npc.experiment_seed.
local insecure = minetest.request_insecure_environment()
if not insecure then
  error("chorus_npc loads a library: list it in secure.trusted_mods")
end
local settings = {}
for _, name in ipairs({ "library", "binding", "keys", "out" }) do
  settings[name] = minetest.settings:get("chorus_npc." .. name) or error("set chorus_npc." .. name)
end

local function read(path)
  local file = assert(insecure.io.open(path, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end
local function write(name, text)
  local path = settings.out .. "/" .. name
  local file = assert(insecure.io.open(path .. ".part", "wb"))
  file:write(text)
  file:close()
  insecure.os.rename(path .. ".part", path)
end

local chorus = insecure.dofile(settings.binding)
local library = chorus.load(insecure.require("ffi"), settings.library)
local keys = settings.keys
local coordinator = library.coordinator({
  task = read(minetest.get_modpath("chorus_npc") .. "/task.textproto"),
  listen = "127.0.0.1:0",
  experiment_seed = tonumber(minetest.settings:get("chorus_npc.experiment_seed") or "0"),
  tls_certificate_pem = read(keys .. "/tls-server.pem"),
  tls_key_pem = read(keys .. "/tls-server.key"),
  signing_seed = chorus.from_hex(read(keys .. "/coordinator.key")),
  issuer_key = chorus.from_hex(read(keys .. "/issuer.pub")),
})
-- Before any player is heard: the first trial shows guards that know nothing.
local untaught = coordinator:fetch_model()

-- --- guards and wolves ---------------------------------------------------------------------------

local ACTIONS = { "flee", "fight", "trade" }
local SIGHT = 10 -- nodes: a wolf further away is not seen
local SPEED = 4
-- A second of the game's time. A stall of the machine is one long step, so seconds would not do.
local TRIAL_STEPS = 20
local TRIAL_SECONDS_MAX = 60 -- for guards that the world does not move at all

-- What players do, which the trials are judged by; no guard is ever told.
local function as_players_do(situation)
  if situation.health < 0.3 then return "flee" end
  if situation.armed == 1 and situation.near < 0.6 then return "fight" end
  return "trade"
end

local function largest(list)
  local best = 1
  for i = 2, #list do if list[i] > list[best] then best = i end end
  return best
end

minetest.register_entity("chorus_npc:wolf", {
  initial_properties = { physical = false, static_save = false, visual = "cube" },
})

minetest.register_entity("chorus_npc:guard", {
  initial_properties = { physical = false, static_save = false, visual = "cube" },
  -- Each step it looks, asks the model, and moves accordingly.
  on_step = function(self)
    if not self.model or not self.wolf then return end
    local place, wolf = self.object:get_pos(), self.wolf:get_pos()
    if not place or not wolf then return end
    self.steps = (self.steps or 0) + 1
    local near = math.min(vector.distance(place, wolf) / SIGHT, 1)
    local situation = self.situation
    -- The first look decides: a guard does not change its mind in mid-stride.
    self.action = self.action or
      ACTIONS[largest(self.model:predict({ situation.health, near, situation.armed }))]
    local towards = vector.direction(place, wolf)
    local speed = self.action == "flee" and -SPEED or self.action == "fight" and SPEED or 0
    self.object:set_velocity(vector.multiply(towards, speed))
  end,
})

-- Twelve guards, each before a wolf of its own; after some steps, where they are says what they
-- did.
local function trial(round, model, done)
  local pairs_of = {}
  for i = 0, 11 do
    local situation = { health = (i % 4) * 0.3 + 0.05, armed = math.floor(i / 4) % 2,
      near = 0.25 + 0.25 * (i % 3) }
    local place = { x = 0, y = 8 + i, z = 4 }
    local guard = minetest.add_entity(place, "chorus_npc:guard")
    local wolf = minetest.add_entity({ x = situation.near * SIGHT, y = place.y, z = place.z },
      "chorus_npc:wolf")
    if guard and wolf then
      local self = guard:get_luaentity()
      self.situation, self.model, self.wolf = situation, model, wolf
      pairs_of[#pairs_of + 1] = { guard = guard, wolf = wolf, situation = situation, from = place }
    end
  end
  local function over()
    for _, one in ipairs(pairs_of) do
      local self = one.guard:get_luaentity()
      if self and (self.steps or 0) < TRIAL_STEPS then return false end
    end
    return true
  end
  local function judge()
    local right, deeds = 0, { flee = 0, fight = 0, trade = 0 }
    local hurt = "nothing"
    for _, one in ipairs(pairs_of) do
      local place = one.guard:get_pos()
      if place then
        local moved = place.x - one.from.x
        local deed = moved < -0.5 and "flee" or moved > 0.5 and "fight" or "trade"
        deeds[deed] = deeds[deed] + 1
        if deed == as_players_do(one.situation) then right = right + 1 end
        if one.situation.health < 0.1 and one.situation.armed == 1 then hurt = deed end
        one.guard:remove()
        one.wolf:remove()
      end
    end
    done({ round = round, guards = #pairs_of, right = right, deeds = deeds, hurt = hurt })
  end
  local last = minetest.get_us_time() + TRIAL_SECONDS_MAX * 1e6
  local function look()
    if over() or minetest.get_us_time() > last then judge() else minetest.after(0, look) end
  end
  minetest.after(0, look)
end

-- --- what is seen of it --------------------------------------------------------------------------

local curve = {}

local function picture()
  local points, marks = {}, {}
  local last = math.max(curve[#curve].round, 1)
  for _, one in ipairs(curve) do
    local x, y = 60 + 480 * one.round / last, 260 - 220 * one.right / math.max(one.guards, 1)
    points[#points + 1] = ("%.1f,%.1f"):format(x, y)
    marks[#marks + 1] = ('<circle cx="%.1f" cy="%.1f" r="4"/><text x="%.1f" y="280">%d</text>')
      :format(x, y, x - 4, one.round)
  end
  return table.concat({
    '<svg xmlns="http://www.w3.org/2000/svg" width="600" height="320" font-family="sans-serif" ',
    'font-size="12"><rect width="600" height="320" fill="white"/>',
    '<path d="M60 40V260H540" fill="none" stroke="black"/>',
    '<text x="20" y="44">100%</text><text x="34" y="264">0%</text>',
    '<text x="60" y="24">Guards that do what players do, of twelve</text>',
    '<text x="270" y="304">rounds of learning</text><g fill="steelblue">', table.concat(marks),
    '</g><polyline fill="none" stroke="steelblue" stroke-width="2" points="',
    table.concat(points, " "), '"/></svg>\n' })
end

local function tell(result)
  curve[#curve + 1] = result
  minetest.log("action", ("[chorus_npc] round %d: %d of %d guards did as players do; %d fled, " ..
    "%d fought, %d traded; one badly hurt: %s"):format(result.round, result.right, result.guards,
    result.deeds.flee, result.deeds.fight, result.deeds.trade, result.hurt))
  local lines = { "round,guards,right,hurt" }
  for _, one in ipairs(curve) do
    lines[#lines + 1] = ("%d,%d,%d,%s"):format(one.round, one.guards, one.right, one.hurt)
  end
  write("curve.csv", table.concat(lines, "\n") .. "\n")
  write("curve.svg", picture())
end

-- --- the server's tick ---------------------------------------------------------------------------

-- One trial after the other, from when the world is there: rounds may be faster than both.
local trials_open = 0
local waiting = {}
local busy = true
local complete_at = nil
local function next_trial()
  local one = table.remove(waiting, 1)
  busy = one ~= nil
  if not one then return end
  trial(one.round, one.model, function(result)
    tell(result)
    trials_open = trials_open - 1
    next_trial()
  end)
end
local function try(round, model)
  trials_open = trials_open + 1
  waiting[#waiting + 1] = { round = round, model = model }
  if not busy then next_trial() end
end
try(0, untaught)

-- Guards live only where the world is loaded.
minetest.after(0, function()
  minetest.emerge_area({ x = -16, y = 0, z = -16 }, { x = 31, y = 31, z = 15 }, function(_, _, left)
    if left > 0 then return end
    for _, x in ipairs({ -8, 8, 24 }) do
      for _, y in ipairs({ 8, 24 }) do minetest.forceload_block({ x = x, y = y, z = 8 }, true) end
    end
    minetest.after(1, next_trial)
  end)
end)

-- Told once the server has gone some steps: one that does not get its own port ends within a few.
local STEPS_TO_TRUST = 20
local steps = 0

minetest.register_globalstep(function()
  steps = steps + 1
  if steps == STEPS_TO_TRUST then write("port", tostring(coordinator:port())) end
  for _, event in ipairs(coordinator:poll(2000)) do
    if event.kind == "round_ended" and event.committed then
      try(event.round, coordinator:fetch_model())
    end
    if event.kind == "round_ended" and not event.committed then
      minetest.log("warning", "[chorus_npc] a round was lost: " .. event.message)
    end
    if event.kind == "task_complete" then complete_at = minetest.get_us_time() end
  end
  -- The players hear of the end before the server goes.
  if complete_at and trials_open == 0 and minetest.get_us_time() - complete_at > 3e6 then
    complete_at = nil
    minetest.request_shutdown("learnt")
  end
end)

minetest.register_on_shutdown(function() coordinator:close() end)
