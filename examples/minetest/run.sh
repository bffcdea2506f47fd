#!/bin/sh
# NPCs learn from players in a Minetest server without a screen, and are watched doing it.
#   run.sh COORDINATOR_LIBRARY CLIENT_LIBRARY CHORUS [OUT]
# Starts a server on this machine with the game beside this script, and five players; prints what the
# guards did after each round, and fails unless they learnt. OUT keeps curve.csv, curve.svg and the
# server's log. Exit code 77: Minetest or LuaJIT is not installed.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
if [ $# -lt 3 ]; then sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2; fi
coordinator=$1
client=$2
chorus=$3
minetest=$(command -v minetestserver || command -v luantiserver || echo /usr/games/minetestserver)
for program in "$minetest" luajit; do
  command -v "$program" >/dev/null 2>&1 || { echo "SKIPPED: $program is not installed"; exit 77; }
done
work=$(mktemp -d)
out=${4:-$work/out}
mkdir -p "$out" "$work/world" "$work/games"
started=
stop_all() {
  for pid in $started; do kill "$pid" 2>/dev/null || true; done
  for pid in $started; do wait "$pid" 2>/dev/null || true; done
  rm -rf "$work"
}
trap stop_all EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

"$chorus" keys init --dir "$work/keys" >/dev/null
"$chorus" keys client --dir "$work/keys" --count 5 >/dev/null
cp -r "$here/game" "$work/games/chorus_guards"
cat >"$work/minetest.conf" <<CONF
bind_address = 127.0.0.1
server_announce = false
dedicated_server_step = 0.05
secure.trusted_mods = chorus_npc
chorus_npc.library = $coordinator
chorus_npc.binding = $here/../bindings/chorus.lua
chorus_npc.keys = $work/keys
chorus_npc.out = $out
chorus_npc.experiment_seed = 7
CONF
printf 'gameid = chorus_guards\nbackend = dummy\nplayer_backend = dummy\nauth_backend = files\nmg_name = singlenode\n' \
  >"$work/world/world.mt"
# The server takes no port by itself: another is tried where somebody else has one. Those from 32768
# on are the kernel's to give away.
rm -f "$out/port"
for try in 1 2 3 4 5 6 7 8; do
  rm -f "$out/server.log"
  HOME=$work MINETEST_SUBGAME_PATH=$work/games MINETEST_GAME_PATH=$work/games \
    "$minetest" --config "$work/minetest.conf" --world "$work/world" \
    --port $((20000 + ($$ * 7 + try * 131) % 12000)) \
    --logfile "$out/server.log" >"$out/console.log" 2>&1 &
  server=$!
  started="$started $server"
  tries=0
  until [ -s "$out/port" ] || ! kill -0 "$server" 2>/dev/null || [ $tries -gt 600 ]; do
    tries=$((tries + 1))
    sleep 0.1
  done
  if [ -s "$out/port" ] || [ $tries -gt 600 ]; then break; fi
done
if [ ! -s "$out/port" ]; then
  echo "the server did not start:" >&2
  tail -n 20 "$out/console.log" "$out/server.log" >&2
  exit 1
fi
players=
for number in 000 001 002 003 004; do
  luajit "$here/player.lua" "$here/../bindings/chorus.lua" "$client" "127.0.0.1:$(cat "$out/port")" \
    "$work/keys/clients/client-$number" "$work/state-$number" "$((10 + ${number#00}))" \
    >"$out/player-$number.log" 2>&1 &
  players="$players $!"
  started="$started $!"
done
tries=0
while kill -0 "$server" 2>/dev/null; do
  tries=$((tries + 1))
  if [ $tries -gt 2400 ]; then
    echo "nobody learnt within four minutes" >&2
    tail -n 20 "$out/server.log" >&2
    exit 1
  fi
  sleep 0.1
done
sed -n 's/.*\(\[chorus_npc\].*\)/\1/p' "$out/server.log"
wait "$server" || { echo "the server failed:" >&2; tail -n 20 "$out/server.log" >&2; exit 1; }
for pid in $players; do
  wait "$pid" || { echo "a player's game failed:" >&2; tail -n 3 "$out"/player-*.log >&2; exit 1; }
done
# At first chance decides, here always alike; in the end ten of twelve guards do as players do, more than at first,
# and who is badly hurt runs.
awk -F, 'NR > 1 { right[$1] = $3; guards[$1] = $2; hurt[$1] = $4; if ($1 > last) last = $1 }
  END {
    for (round = 0; round <= last; ++round) if (guards[round] != 12) missing = 1
    if (missing || last < 6) { print "trials are missing"; exit 1 }
    if (right[last] < 10 || right[last] <= right[0] || hurt[last] != "flee") {
      print "the guards did not learn"; exit 1
    }
    print "guards that do as players do: " right[0] " of 12 before, " right[last] " after " last " rounds"
  }' "$out/curve.csv"
